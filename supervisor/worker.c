/*
 * worker.c: one worker process: spawned, greeted, given requests, ended.  What it says is
 * worker_frames.c's.  One that breaks the protocol becomes a BROKE event and is never talked to
 * again.  The struct lives until the process's tree is empty.
 */
#include "checkpoints/fault.h"
#include "supervisor/death.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"
#include "supervisor/said.h"
#include "supervisor/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The worker that an action names; NULL where it is gone, which the core hears of by itself. */
static struct worker *worker_of(const struct slot *slot, uint32_t number)
{
    return slot && slot->worker && slot->worker->number == number ? slot->worker : NULL;
}

void worker_post(struct worker *worker, struct event *event)
{
    event->slot = worker->slot->index;
    event->worker = worker->number;
    engine_post(worker->slot->engine, event);
}

void worker_note_cause(struct worker *worker, const char *format, ...)
{
    char cause[ENGINE_REASON];
    va_list args;
    if (worker->cause)
        return;
    va_start(args, format);
    vsnprintf(cause, sizeof cause, format, args);
    va_end(args);
    worker->cause = strdup(cause);
}

void worker_broke(struct worker *worker, const char *why)
{
    worker_note_cause(worker, "broke the protocol: %s", why);
    if (worker->end == STATS_END_EXIT)
        worker->end = STATS_END_PROTOCOL;
    LOG_EVENT(LEVEL_WARNING, "slot.broke", worker->cause, LOG_TEXT("slot", worker->home->name),
              LOG_INT("pid", process_pid(worker->process)));
    worker_post(worker, &(struct event){.type = EVENT_BROKE});
}

/* Sends, or gives the worker up: one that does not read hangs. */
static void worker_send(struct worker *worker, struct hasup_frame *frame, struct body *body)
{
    int error = peer_send(&worker->peer, frame, body);
    if (error && error != HASUP_ECLOSED) {
        peer_close(&worker->peer);
        worker_broke(worker,
                     error == HASUP_EFULL ? "does not read its socket" : hasup_strerror(error));
    }
}

void worker_say(struct slot *slot, uint32_t number, enum hasup_frame_type type, uint64_t id)
{
    struct worker *worker = worker_of(slot, number);
    struct hasup_frame frame = {.type = (uint8_t)type, .id = id};
    if (worker)
        worker_send(worker, &frame, NULL);
}

/* ---- start ---- */

void worker_free(struct worker *worker)
{
    peer_close(&worker->peer);
    notify_free(worker->notify);
    program_free(worker);
    free(worker->cause);
    if (worker->capture)
        capture_free(worker->capture);
    free(worker->held);
    free(worker);
}

void worker_note_death(struct slot *slot, const char *reason)
{
    snprintf(slot->death.reason, sizeof slot->death.reason, "%s", reason);
    slot->death.exited = false;
    slot->death.cause = NULL;
    slot->death.wall_ns = loop_wall_now();
}

static void worker_begin(struct slot *slot, uint32_t number, bool hook)
{
    char error[ENGINE_REASON] = "out of memory";
    struct worker *worker = calloc(1, sizeof *worker);
    int failed = ENOMEM;
    if (worker) {
        worker->slot = worker->home = slot;
        worker->number = number;
        worker->hook = hook;
        worker->version = slot->version;
        worker->spawned = loop_now(slot->engine->loop);
        failed = worker_start(worker, error);
    }
    if (failed) {
        char reason[ENGINE_REASON];
        snprintf(reason, sizeof reason, "%s%.280s",
                 hook ? "pre_start: could not start: " : "could not start: ", error);
        worker_note_death(slot, reason);
        slot->death.code = spawn_exit_code(failed);
        stats_worker_ended(slot->model, hook ? STATS_END_PRE_START : STATS_END_START_FAILED);
        LOG_EVENT(LEVEL_ERROR, "slot.start_failed", reason, LOG_TEXT("slot", slot->name));
        if (worker)
            worker_free(worker);
    } else {
        slot->worker = worker;
    }
    engine_post(slot->engine,
                &(struct event){
                    .type = EVENT_SPAWNED, .slot = slot->index, .worker = number, .error = failed});
}

void worker_spawn(struct slot *slot, uint32_t number)
{
    worker_begin(slot, number, false);
}

/* What is told of each stays with the slot that it was the worker of. */
void worker_swap(struct slot *slot, struct slot *spare, uint32_t number)
{
    struct worker *dying = slot->worker, *loaded = spare->worker;
    state_done(slot, 0, "its worker died, and a spare took over");
    slot->worker = loaded;
    spare->worker = dying;
    if (loaded) {
        loaded->slot = loaded->home = slot;
        loaded->number = number;
    }
    if (dying) {
        dying->slot = spare;
        dying->number = number;
    }
    const __typeof__(slot->place) place = slot->place;
    slot->place = spare->place;
    spare->place = place;
    LOG_EVENT(LEVEL_INFO, "slot.swapped", "a spare took over", LOG_TEXT("slot", slot->name),
              LOG_TEXT("spare", spare->name),
              LOG_INT("pid", loaded ? process_pid(loaded->process) : 0));
}

void worker_prepare(struct slot *slot, uint32_t number)
{
    worker_begin(slot, number, true);
}

/* ---- what is said to it ---- */

void worker_welcome(struct slot *slot, const struct action *action)
{
    struct worker *worker = worker_of(slot, action->worker);
    if (!worker)
        return;
    uint8_t meta[256 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    const char *name = slot->model->config->name;
    hasup_meta_start(&w, meta, 256);
    hasup_meta_put(&w, HASUP_TAG_MODEL, name, strlen(name));
    hasup_meta_put32(&w, HASUP_TAG_SLOT,
                     slot->role == ROLE_WORKER ? slot->ordinal : slot->place.ordinal);
    hasup_meta_put64(&w, HASUP_TAG_GRANTED, worker->granted);
    hasup_meta_put32(&w, HASUP_TAG_INLINE_MAX, HASUP_INLINE_MAX);
    if (worker->mark[0])
        hasup_meta_put(&w, HASUP_TAG_LOG_MARK, worker->mark, strlen(worker->mark));
    struct hasup_frame frame = {.type = HASUP_WELCOME,
                                .flags = action->restore ? HASUP_FLAG_RESTORING : 0,
                                .meta = meta,
                                .meta_len = (uint32_t)w.used};
    worker->welcomed = true;
    worker_send(worker, &frame, NULL);
    if (!action->restore)
        return;
    hasup_meta_start(&w, meta, 256);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, slot->restoring.position);
    frame = (struct hasup_frame){.type = HASUP_RESTORE, .meta = meta, .meta_len = (uint32_t)w.used};
    struct body body = {.bytes = slot->restoring.bytes,
                        .len = slot->restoring.len,
                        .buffer = slot->restoring.buffer,
                        .offset = slot->restoring.offset};
    worker_send(worker, &frame, &body);
    FAULT(restore_sent);
    state_bytes_free(&slot->restoring);
}

void worker_dispatch(struct slot *slot, const struct action *action)
{
    struct worker *worker = worker_of(slot, action->worker);
    struct request *request = engine_request(slot->engine, action->request);
    if (!worker || !request)
        return;
    FAULT(dispatch_before);
    request->slot = slot->index;
    request->worker = action->worker;
    request->version = worker->version;
    request->stateful |= worker->stateful;
    request->mated = worker->more || action->dispatch.more;
    worker->more = action->dispatch.more;
    worker->batch++;
    bool counts = (worker->granted & HASUP_CAN_BATCH) && !worker->more && !action->dispatch.replay;
    stats_dispatched(slot->engine, request, counts ? worker->batch : 0);
    worker->batch = worker->more ? worker->batch : 0;
    stream_restart(request);
    struct hasup_meta_writer w;
    hasup_meta_start(&w, request->bytes + request->meta_len, 32);
    if (request->deadline && !action->dispatch.replay)
        hasup_meta_put64(&w, HASUP_TAG_DEADLINE, (uint64_t)request->deadline);
    if (action->dispatch.position) {
        hasup_meta_put64(&w, HASUP_TAG_POSITION, action->dispatch.position);
        noted_dispatched(slot, action->dispatch.position);
    }
    struct hasup_frame frame = {.type = HASUP_REQUEST,
                                .flags = (action->dispatch.replay ? HASUP_FLAG_REPLAY : 0) |
                                         (action->dispatch.more ? HASUP_FLAG_MORE : 0) |
                                         (request->once ? HASUP_FLAG_ONCE : 0),
                                .id = request->id,
                                .seq = action->dispatch.attempt,
                                .meta = request->bytes,
                                .meta_len = request->meta_len + (uint32_t)w.used};
    size_t len;
    uint8_t *resumed =
        action->dispatch.resume ? resume_meta(request, request->bytes, frame.meta_len, &len) : NULL;
    request->resumes = resumed;
    if (resumed) {
        frame.flags |= HASUP_FLAG_RESUME;
        frame.meta = resumed;
        frame.meta_len = (uint32_t)len;
    }
    said_dispatched(worker, request->id);
    worker_send(worker, &frame, &request->body);
    free(resumed);
    FAULT(dispatch_after);
    if (action->dispatch.replay)
        FAULT(replay_dispatched);
}

void worker_take_state(struct slot *slot, const struct action *action)
{
    struct worker *worker = worker_of(slot, action->worker);
    if (!worker)
        return;
    uint8_t meta[32 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 32);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, action->position);
    slot->asked = true;
    slot->asked_position = action->position;
    struct hasup_frame frame = {
        .type = HASUP_CHECKPOINT, .meta = meta, .meta_len = (uint32_t)w.used};
    worker_send(worker, &frame, NULL);
    FAULT(checkpoint_asked);
}

void worker_measure(struct slot *slot, uint32_t number)
{
    struct worker *worker = worker_of(slot, number);
    if (!worker || !(worker->memory = process_memory(worker->process)))
        return;
    worker_post(worker, &(struct event){.type = EVENT_MEASURED, .bytes = worker->memory});
}

void worker_drain(struct slot *slot, uint32_t number)
{
    struct worker *worker = worker_of(slot, number);
    if (!worker)
        return;
    worker->leaving = true;
    worker_say(slot, number, HASUP_DRAIN, 0);
}

void worker_terminate(struct slot *slot, uint32_t number)
{
    struct worker *worker = worker_of(slot, number);
    if (!worker)
        return;
    worker->leaving = true;
    if (!fork_give_up(worker))
        process_signal(worker->process, worker->program ? program_stop_signal(worker) : SIGTERM);
}

/* Nobody listens to it any more. */
static void worker_leave(struct worker *worker)
{
    peer_close(&worker->peer);
    notify_close(worker->notify);
    program_close(worker);
    worker->slot->asked = false;
    forks_lost(worker);
}

void worker_abort(struct slot *slot, uint32_t number)
{
    struct worker *worker = worker_of(slot, number);
    if (!worker || fork_give_up(worker))
        return;
    death_note_hand(worker);
    worker_leave(worker);
    process_signal(worker->process, SIGABRT);
}

void worker_kill(struct slot *slot, uint32_t number)
{
    struct worker *worker = worker_of(slot, number);
    if (!worker || fork_give_up(worker))
        return;
    death_note_hand(worker);
    worker_leave(worker);
    process_kill_tree(worker->process);
}

void worker_blame(struct slot *slot, const char *cause)
{
    if (slot->worker)
        death_note_hand(slot->worker);
    if (slot->worker)
        worker_note_cause(slot->worker, "%s", cause);
}

/* ---- its end ---- */

/* As a shell has it. */
static int exit_code(const struct process_exit *exit)
{
    return exit->signal ? 128 + exit->signal : exit->code;
}

static void exit_reason(const struct worker *worker, const struct process_exit *exit,
                        char reason[ENGINE_REASON])
{
    if (worker->cause)
        snprintf(reason, ENGINE_REASON, "%s", worker->cause);
    else if (exit->oom)
        snprintf(reason, ENGINE_REASON, "oom: killed for lack of memory%s",
                 exit->oom == OOM_EVIDENT ? ", as it seems: the machine counts such a kill" : "");
    else if (exit->signal)
        snprintf(reason, ENGINE_REASON, "killed by signal %d (%s)", exit->signal,
                 strsignal(exit->signal));
    else
        snprintf(reason, ENGINE_REASON, "exited with code %d%s", exit->code,
                 worker->greeted || worker->hook || worker->program ? ""
                                                 : " before its hello (is it a hasup worker?)");
}

static enum stats_end end_of(const struct worker *worker, const struct process_exit *exit)
{
    const struct model *model = worker->slot->model;
    struct model_view view;
    if (exit->oom == OOM_COUNTED || (exit->oom && worker->end == STATS_END_EXIT))
        return STATS_END_OOM;
    if (worker->end != STATS_END_EXIT)
        return worker->end;
    if (!worker->leaving && !worker->slot->engine->shutting_down)
        return exit->signal ? STATS_END_CRASH : STATS_END_EXIT;
    bool rolls = core_model_view(worker->slot->engine->core, model->index, &view) &&
                 view.rollout.state != ROLLOUT_NONE;
    if (rolls && model->rollout.recycles)
        return STATS_END_RECYCLE;
    return rolls ? STATS_END_ROLLOUT : STATS_END_ORDERED;
}

/* The command that comes before a start: what is told of it is why it failed. */
static void hook_exited(struct worker *worker, const struct process_exit *exit)
{
    struct slot *slot = worker->slot;
    char how[ENGINE_REASON], reason[ENGINE_REASON];
    bool failed = exit->signal || exit->code;
    if (failed && !worker->leaving)
        stats_worker_ended(slot->model, STATS_END_PRE_START);
    exit_reason(worker, exit, how);
    if (failed)
        slot->death.code = exit_code(exit);
    snprintf(reason, sizeof reason, "pre_start: %.300s", how);
    if (failed)
        worker_note_death(slot, reason);
    LOG_EVENT(failed ? LEVEL_DEBUG : LEVEL_INFO, "slot.pre_start", reason, /* failures: a notice */
              LOG_TEXT("slot", slot->name), LOG_INT("pid", process_pid(worker->process)),
              LOG_NS("lived", loop_now(slot->engine->loop) - worker->spawned));
}

static void keep_tail(struct slot *slot, const struct capture *capture)
{
    const char *lines[CAPTURE_TAIL];
    size_t count = capture ? capture_tail(capture, lines) : 0;
    for (size_t i = 0; i < slot->death.tail_count; i++)
        free(slot->death.tail[i]);
    slot->death.tail_count = 0;
    for (size_t i = 0; i < count; i++) {
        char *copy = strdup(lines[i]);
        if (copy)
            slot->death.tail[slot->death.tail_count++] = copy;
    }
}

/* A program that ends well did what it was for. */
static bool is_meant(const struct worker *worker, const struct process_exit *exit)
{
    return worker->leaving || (worker->program && !exit->signal && !exit->code);
}

void worker_exited(void *context, struct process *process, const struct process_exit *exit)
{
    struct engine *engine = context;
    struct worker *worker = process_context(process);
    struct slot *slot = worker->home;
    char reason[ENGINE_REASON];
    if (engine->closing)
        return;
    peer_drain(&worker->peer);
    said_until_now(worker);
    peer_close(&worker->peer);
    program_close(worker);
    worker->slot->asked = false;
    worker->exit.reaped = true;
    worker->exit.how = *exit;
    if (worker->hook) {
        hook_exited(worker, exit);
    } else {
        exit_reason(worker, exit, reason);
        slot->death.code = exit_code(exit);
        worker_note_death(slot, reason);
        slot->death.cause = stats_end_name(end_of(worker, exit));
        death_note_exit(slot, worker, exit);
        stats_worker_ended(slot->model, end_of(worker, exit));
        letters_worker_exited(worker, exit);
        if (slot == worker->slot)
            state_done(slot, 0, reason);
        LOG_EVENT(is_meant(worker, exit) ? LEVEL_INFO : LEVEL_WARNING, "slot.exited", reason,
                  LOG_TEXT("slot", slot->name), LOG_INT("pid", process_pid(process)),
                  LOG_NS("lived", loop_now(engine->loop) - worker->spawned),
                  LOG_INT("max_rss_kib", exit->usage.ru_maxrss));
    }
    worker_post(worker, &(struct event){.type = EVENT_EXITED,
                                        .exited = {.code = exit->code, .signal = exit->signal}});
    forks_lost(worker);
}

void worker_tree_empty(void *context, struct process *process)
{
    struct engine *engine = context;
    struct worker *worker = process_context(process);
    struct slot *slot = worker->slot;
    uint32_t number = worker->number;
    /* Everything that could write into its pipes is gone: the last lines are there. */
    if (worker->capture)
        capture_finish(worker->capture);
    bool passed = worker->hook && !worker->exit.how.signal && !worker->exit.how.code;
    if (!passed) { /* else why the last worker died stays known */
        keep_tail(worker->home, worker->capture);
        said_last(worker, !is_meant(worker, &worker->exit.how));
    }
    if (!worker->hook)
        letters_worker_gone(engine, worker);
    slot->worker = NULL;
    worker_free(worker);
    if (!engine->closing)
        engine_post(engine, &(struct event){
                                .type = EVENT_TREE_EMPTY, .slot = slot->index, .worker = number});
}
