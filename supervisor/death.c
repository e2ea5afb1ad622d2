/*
 * death.c: how a slot's last worker ended, and what comes next, in full.  What it had in hand is
 * read from the table of requests while that still says so, with a bound.  Decides nothing: the
 * next step is told from the core's view.
 */
#include "supervisor/death.h"

#include "ipc/message.h"
#include "supervisor/status.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what it had in hand ---- */

void death_request_name(const struct request *request, char name[DEATH_ID])
{
    hasup_request_name(
        &(struct hasup_frame){
            .id = request->id, .meta = request->bytes, .meta_len = request->meta_len},
        name);
}

void death_note_hand(struct worker *worker)
{
    const struct engine *engine = worker->slot->engine;
    if (worker->held || worker->hook)
        return;
    struct death_hand *hand = calloc(1, sizeof *hand);
    worker->held = hand;
    for (uint32_t i = 0; hand && i < engine->requests.high; i++) {
        const struct request *request = engine->requests.list[i];
        if (!request || request->slot != worker->slot->index || request->worker != worker->number)
            continue;
        if (hand->total < DEATH_IDS)
            death_request_name(request, hand->ids[hand->total]);
        hand->total++;
    }
}

void death_note_exit(struct slot *slot, struct worker *worker, const struct process_exit *exit)
{
    struct slot_death *death = &slot->death;
    death_note_hand(worker);
    free(death->hand);
    death->hand = worker->held;
    worker->held = NULL;
    death->exited = true;
    death->pid = process_pid(worker->process);
    death->lived = loop_now(slot->engine->loop) - worker->spawned;
    death->exit = *exit;
}

void death_free(struct slot_death *death)
{
    for (size_t i = 0; i < death->tail_count; i++)
        free(death->tail[i]);
    free(death->hand);
    free(death->lines);
}

/* ---- told ---- */

static json_int_t ms_of(struct timeval time)
{
    return (json_int_t)time.tv_sec * 1000 + time.tv_usec / 1000;
}

static json_t *hand_json(const struct death_hand *hand)
{
    json_t *ids = json_array();
    for (uint32_t i = 0; hand && i < hand->total && i < DEATH_IDS; i++)
        json_array_append_new(ids, json_words(hand->ids[i]));
    return ids;
}

/* Whether the model has a zygote that is on its way. */
static bool zygote_comes(const struct engine *engine, uint32_t model)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct slot_view view;
        if (engine->slots[i] && core_slot_view(engine->core, i, &view) && view.model == model &&
            view.role == ROLE_ZYGOTE && view.wanted && view.state != SLOT_READY &&
            view.state != SLOT_BROKEN)
            return true;
    }
    return false;
}

static json_t *death_json(const struct slot_death *death)
{
    const struct rusage *used = &death->exit.usage;
    json_t *lines = json_array();
    if (!death->reason[0]) {
        json_decref(lines);
        return json_null();
    }
    for (size_t i = 0; i < death->tail_count; i++)
        json_array_append_new(lines, json_words(death->tail[i]));
    json_t *json = json_pack("{s:o, s:s?, s:I, s:o, s:o, s:i}", "reason",
                             json_words(death->reason), "cause", death->cause, "wall_ms",
                             (json_int_t)(death->wall_ns / HASUP_MS), "stderr", lines, "requests",
                             hand_json(death->hand), "request_count",
                             death->hand ? (int)death->hand->total : 0);
    json_t *exit = json_null();
    if (death->exited)
        exit = json_pack(
            "{s:i, s:i, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "signal", death->exit.signal,
            "code", death->exit.code, "oom", death->exit.oom, "pid", (int)death->pid, "lived_ms",
            (json_int_t)(death->lived / HASUP_MS), "user_ms", ms_of(used->ru_utime), "system_ms",
            ms_of(used->ru_stime), "max_rss_kib", (json_int_t)used->ru_maxrss, "major_faults",
            (json_int_t)used->ru_majflt, "context_switches",
            (json_int_t)(used->ru_nvcsw + used->ru_nivcsw));
    json_object_set_new(json, "exit", exit);
    return json;
}

/* Of a program, where it is not as with a worker; else NULL. */
static const char *program_next_text(const struct slot *slot, const struct slot_view *view,
                                     char text[ENGINE_REASON])
{
    const struct config_model *config = slot->model->config;
    const char *why = program_why(slot->worker);
    if (!config_is_program(config))
        return NULL;
    if (view->state == SLOT_LOADING && why) {
        snprintf(text, ENGINE_REASON, "it runs, and its probe has yet to succeed: %.250s", why);
        return text;
    }
    switch ((int)view->state) {
    case SLOT_STARTING: return "it does its task";
    case SLOT_LOADING:
        return config->ready.how == READY_PROBE ? "it runs, and its probe has yet to succeed"
                                                : "it runs, and has yet to say that it is ready";
    case SLOT_READY: return "it runs";
    case SLOT_STOPPING: return "it was told to end";
    case SLOT_BROKEN:
        if (config->policy.revival == REVIVE_NEVER)
            return "nothing: it failed, and is not to run again (restart.when)";
    }
    return NULL;
}

/* What the slot does or waits for now, in words. */
static const char *next_text(const struct slot *slot, const struct slot_view *view,
                             char text[ENGINE_REASON])
{
    const struct engine *engine = slot->engine;
    bool stays = !view->wanted || engine->shutting_down;
    const char *other = program_next_text(slot, view, text);
    if (view->waits_for != UINT32_MAX && engine->models[view->waits_for].used) {
        snprintf(text, ENGINE_REASON, "it waits for %s, which comes before it",
                 engine->models[view->waits_for].config->name);
        return text;
    }
    if (other)
        return other;
    switch (view->state) {
    case SLOT_READY: return "it serves";
    case SLOT_BACKOFF: return "it is started again";
    case SLOT_DONE: return "nothing: it did what it was to do";
    case SLOT_BROKEN: return "it failed too often in a row: one more try";
    case SLOT_WAITING:
        return zygote_comes(engine, view->model)
                   ? "it waits for its model's zygote, which loads and then forks it"
                   : "it waits for its turn to load (limits.loading)";
    case SLOT_PREPARING: return "its pre_start command runs; then it is started";
    case SLOT_STARTING: return "it was started, and has yet to say hello";
    case SLOT_LOADING: return "it loads; then it serves";
    case SLOT_REPLAYING: return "it runs again what its state lacks; then it serves";
    case SLOT_DRAINING: return "it finishes what it has, then it is stopped";
    case SLOT_STOPPING: return "it was told to end (SIGTERM)";
    case SLOT_ABORTING: return "it hangs, and has a moment to say why (SIGABRT)";
    case SLOT_KILLING:
        return stays ? "its processes are being ended; then it is stopped"
                     : "its processes are being ended; then it is started again";
    case SLOT_STOPPED: return stays ? "nothing: it is stopped" : "it is started";
    default: return "";
    }
}

json_t *why_json(const struct engine *engine, const struct slot *slot)
{
    struct slot_view view;
    char text[ENGINE_REASON];
    if (!core_slot_view(engine->core, slot->index, &view))
        return NULL;
    hasup_ns now = loop_now(engine->loop);
    bool waits = (view.state == SLOT_BACKOFF || view.state == SLOT_BROKEN) &&
                 view.next_start != HASUP_NEVER;
    const pid_t pid = slot->worker ? process_pid(slot->worker->process) : 0;
    hasup_ns left = waits && view.next_start > now ? view.next_start - now : 0;
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:{s:s, s:o}}", "slot", slot->name,
                     "state", slot_state_name(view.state), "since_ms",
                     (json_int_t)((now - view.since) / HASUP_MS), "starts",
                     (json_int_t)view.starts, "crashes", (json_int_t)view.crashes, "pid",
                     pid > 0 ? json_integer(pid) : json_null(), "death",
                     death_json(&slot->death), "next", "text", next_text(slot, &view, text),
                     "in_ms", waits ? json_integer(left / HASUP_MS) : json_null());
}
