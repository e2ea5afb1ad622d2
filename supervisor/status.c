/*
 * status.c: the state of everything as one JSON object, from the core's views and the engine's
 * records.  What there is a thousand of, slots, is printed as it goes: as a tree it would take most
 * of a status' time and leave hasupd's memory in pieces.  Failure mode: no memory, no text.
 */
#include "supervisor/status.h"

#include "supervisor/sockets.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

json_t *json_words(const char *text)
{
    json_t *string = json_string(text);
    char *copy = string ? NULL : strdup(text);
    if (!copy)
        return string;
    for (char *at = copy; *at; at++)
        if ((unsigned char)*at > 0x7e)
            *at = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

/* What does not apply, or is not known, is null. */
static json_t *words_or_null(const char *text)
{
    return text[0] ? json_words(text) : json_null();
}

static json_t *number_or_null(bool there, int64_t number)
{
    return there ? json_integer((json_int_t)number) : json_null();
}

static json_t *death_json(const struct slot_death *death)
{
    if (!death->reason[0])
        return json_null();
    json_t *lines = json_array();
    for (size_t i = 0; i < death->tail_count; i++)
        json_array_append_new(lines, json_words(death->tail[i]));
    json_t *all = death->lines ? json_loads(death->lines, 0, NULL) : NULL;
    return json_pack("{s:o, s:I, s:o, s:o}", "reason", json_words(death->reason), "wall_ms",
                     (json_int_t)(death->wall_ns / HASUP_MS), "stderr", lines, "lines",
                     all ? all : json_array());
}

static json_t *checkpoint_json(const struct slot *slot, const struct slot_view *view)
{
    if (!view->stateful)
        return json_null();
    int64_t age = loop_wall_now() - slot->stored_wall_ns;
    json_t *json =
        json_pack("{s:I, s:I, s:I, s:b}", "log_head", (json_int_t)view->log_head, "position",
                  (json_int_t)view->checkpoint_position, "bytes", (json_int_t)slot->stored_bytes,
                  "in_memory_only", slot->kept.there && slot->engine->config->state_dir);
    json_object_set_new(json, "age_ms",
                        slot->stored_wall_ns ? json_integer(age / HASUP_MS) : json_null());
    return json;
}

/* ---- printed ---- */

struct sheet {
    FILE *file;
    bool failed; /* something is not on it that should be */
};

static void print_json(struct sheet *out, json_t *json)
{
    out->failed |= !json || json_dumpf(json, out->file, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(json);
}

static void print_text(struct sheet *out, const char *text)
{
    bool plain = true;
    for (const char *at = text; *at && plain; at++)
        plain = *at >= ' ' && *at <= '~' && *at != '"' && *at != '\\';
    if (plain)
        fprintf(out->file, "\"%s\"", text);
    else
        print_json(out, json_words(text));
}

static void print_number(struct sheet *out, const char *key, bool there, int64_t number)
{
    fprintf(out->file, ",\"%s\":", key);
    if (there)
        fprintf(out->file, "%lld", (long long)number);
    else
        fputs("null", out->file);
}

/* An object that goes on: all but its end. */
static void print_open(struct sheet *out, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    out->failed |= !text;
    if (text)
        fwrite(text, 1, strlen(text) - 1, out->file);
    free(text);
    json_decref(json);
}

/* The name of the model or program that comes before it. */
static void print_awaited(struct sheet *out, const struct engine *engine,
                          const struct slot_view *view)
{
    if (view->waits_for == UINT32_MAX || !engine->models[view->waits_for].used)
        fputs("null", out->file);
    else
        print_text(out, engine->models[view->waits_for].config->name);
}

static void print_slot(struct sheet *out, const struct engine *engine, const struct slot *slot,
                       const struct slot_view *v)
{
    const hasup_ns now = loop_now(engine->loop);
    bool waits =
        (v->state == SLOT_BACKOFF || v->state == SLOT_BROKEN) && v->next_start != HASUP_NEVER;
    const pid_t pid = slot->worker ? process_pid(slot->worker->process) : 0;
    const uint64_t memory = slot->worker ? slot->worker->memory : 0;
    fputs("{\"slot\":", out->file);
    print_text(out, slot->name);
    fprintf(out->file,
            ",\"state\":\"%s\",\"since_ms\":%lld,\"inflight\":%u,"
            "\"concurrency\":%u,\"starts\":%llu,\"crashes\":%llu,\"answered\":%llu,"
            "\"replayed\":%llu,\"diverged\":%llu,\"recycled\":%llu,\"queued\":%u,\"extra\":%s",
            slot_state_name(v->state), (long long)((now - v->since) / HASUP_MS), v->inflight,
            v->concurrency, (unsigned long long)v->starts, (unsigned long long)v->crashes,
            (unsigned long long)v->answered, (unsigned long long)v->replayed,
            (unsigned long long)v->diverged, (unsigned long long)v->recycled, v->queued,
            v->extra ? "true" : "false");
    print_number(out, "pid", pid > 0, pid);
    print_number(out, "service_us", v->service_ns > 0, (int64_t)(v->service_ns / 1000));
    print_number(out, "memory_bytes", memory > 0, (int64_t)memory);
    print_number(out, "next_start_ms", waits, (v->next_start - now) / HASUP_MS);
    fputs(",\"version\":", out->file);
    print_json(out, words_or_null(slot->version));
    fputs(",\"waits_for\":", out->file);
    print_awaited(out, engine, v);
    fputs(",\"probe_failed\":", out->file);
    const char *why = program_why(slot->worker);
    print_json(out, why ? json_words(why) : json_null());
    fputs(",\"checkpoint\":", out->file);
    print_json(out, checkpoint_json(slot, v));
    fputs(",\"last_death\":", out->file);
    print_json(out, death_json(&slot->death));
    putc('}', out->file);
}

/* ---- slots, in the order in which they are shown ---- */

struct slots {
    const struct slot **list;
    size_t count, at; /* at: the first that is not shown yet */
};

static int slot_order(const void *first, const void *second)
{
    const struct slot *a = *(const struct slot *const *)first;
    const struct slot *b = *(const struct slot *const *)second;
    const int64_t by[] = {(int64_t)a->model->index - b->model->index, (int64_t)a->role - b->role,
                          (int64_t)a->ordinal - b->ordinal};
    const int64_t order = by[0] ? by[0] : by[1] ? by[1] : by[2];
    return (order > 0) - (order < 0);
}

/* False: no memory. */
static bool slots_sort(const struct engine *engine, struct slots *slots)
{
    *slots = (struct slots){.list = calloc(engine->config->limits.slots, sizeof *slots->list)};
    for (uint32_t i = 0; slots->list && i < engine->config->limits.slots; i++)
        if (engine->slots[i])
            slots->list[slots->count++] = engine->slots[i];
    if (slots->count)
        qsort(slots->list, slots->count, sizeof *slots->list, slot_order);
    return slots->list;
}

/* Those of a model and role, which are next. */
static void print_slots(struct sheet *out, const struct engine *engine, struct slots *slots,
                        const struct model *model, enum slot_role role)
{
    struct slot_view view;
    const char *between = "";
    for (; slots->at < slots->count; slots->at++) {
        const struct slot *slot = slots->list[slots->at];
        if (slot->model != model || slot->role != role)
            return;
        if (!core_slot_view(engine->core, slot->index, &view))
            continue;
        fputs(between, out->file);
        between = ",";
        print_slot(out, engine, slot, &view);
    }
}

/* ---- models ---- */

static const char *label_of(const struct model *model, uint32_t number)
{
    const struct model_version *version = model_version(model, number);
    return version ? version->label : "";
}

/* How the requests of one side ended that a canary is judged by. */
static json_t *side_json(const struct model_view *view, unsigned side)
{
    return json_pack("{s:I, s:I}", "ended", (json_int_t)view->rollout.side[side].ended, "failed",
                     (json_int_t)view->rollout.side[side].failed);
}

static json_t *rollout_json(const struct model *model, const struct model_view *view)
{
    bool canary = view->rollout.state == ROLLOUT_CANARY;
    json_t *json =
        json_pack("{s:s, s:o, s:i, s:o}", "state", rollout_state_name(view->rollout.state), "other",
                  words_or_null(label_of(model, view->rollout.other)), "waiting",
                  (int)view->rollout.waiting, "weight",
                  number_or_null(canary, view->rollout.weight));
    json_object_set_new(json, "stable", canary ? side_json(view, 0) : json_null());
    json_object_set_new(json, "canary", canary ? side_json(view, 1) : json_null());
    json_object_set_new(json, "why",
                        view->rollout.state == ROLLOUT_REVERTING
                            ? json_words(model->rollout.because ? model->rollout.because : "")
                            : json_null());
    json_object_set_new(json, "last",
                        model->rollout.last
                            ? json_pack("{s:b, s:o, s:I}", "ok", !model->rollout.failed, "text",
                                        json_words(model->rollout.last), "wall_ms",
                                        (json_int_t)(model->rollout.wall_ns / HASUP_MS))
                            : json_null());
    return json;
}

/* Requests that ended in the last 10 to 20 s. */
static json_t *recent_json(const struct engine *engine, const struct model *model)
{
    struct recent_view view;
    stats_recent(engine, model, &view);
    const bool any = view.p99 > 0; /* somebody was answered */
    return json_pack("{s:f, s:o, s:o}", "per_second", (double)view.per_second_milli / 1000.0,
                     "p50_us", number_or_null(any, view.p50 / 1000), "p99_us",
                     number_or_null(any, view.p99 / 1000));
}

static json_t *model_json(const struct engine *engine, const struct model *model)
{
    struct model_view v;
    if (!core_model_view(engine->core, model->index, &v))
        return NULL;
    json_t *mends = number_or_null(v.broken, (v.mends - loop_now(engine->loop)) / HASUP_MS);
    json_t *json = json_pack(
        "{s:s, s:b, s:b, s:o, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:i}", "name",
        model->config->name, "accepting", v.accepting, "broken", v.broken, "mends_ms", mends,
        "suspects", (int)v.suspects, "ready", (int)v.ready, "workers", (int)model->workers,
        "queued", (int)v.queued, "inflight", (int)v.inflight, "queued_bytes",
        (json_int_t)v.queued_bytes, "answered", (json_int_t)v.answered, "refused",
        (json_int_t)v.refused, "attempts", (json_int_t)v.attempts, "replays", (json_int_t)v.replays,
        "unstored", (int)v.unstored);
    json_object_set_new(json, "recent", recent_json(engine, model));
    json_object_set_new(json, "version", json_string(label_of(model, v.rollout.version)));
    json_object_set_new(json, "rollout", rollout_json(model, &v));
    json_object_set_new(json, "sockets", sockets_json(engine, model->config));
    return json;
}

/* ---- programs ---- */

static const char *program_kind_name(enum model_kind kind)
{
    return kind == KIND_ONESHOT ? "oneshot" : "program";
}

static json_t *program_json(const struct engine *engine, const struct model *model)
{
    struct model_view v;
    if (!core_model_view(engine->core, model->index, &v))
        return NULL;
    json_t *json =
        json_pack("{s:s, s:s, s:b, s:b, s:i, s:i, s:i}", "name", model->config->name, "kind",
                  program_kind_name(v.kind), "accepting", v.accepting, "up",
                  program_is_up(engine, model->index), "ready", (int)v.ready, "done", (int)v.done,
                  "wanted", (int)model->workers);
    json_object_set_new(json, "version", json_string(label_of(model, v.rollout.version)));
    json_object_set_new(json, "rollout", rollout_json(model, &v));
    json_object_set_new(json, "sockets", sockets_json(engine, model->config));
    return json;
}

static void print_program(struct sheet *out, const struct engine *engine, struct slots *slots,
                          const struct model *model)
{
    print_open(out, program_json(engine, model));
    fputs(",\"slots\":[", out->file);
    print_slots(out, engine, slots, model, ROLE_WORKER);
    fputs("]}", out->file);
}

/* ---- all of them ---- */

static void print_model(struct sheet *out, const struct engine *engine, struct slots *slots,
                        const struct model *model)
{
    static const struct {
        enum slot_role role;
        const char *key;
    } KINDS[] = {{ROLE_WORKER, "slots"}, {ROLE_SPARE, "spares"}, {ROLE_ZYGOTE, "zygotes"}};
    print_open(out, model_json(engine, model));
    for (size_t i = 0; i < HASUP_LEN(KINDS); i++) {
        fprintf(out->file, ",\"%s\":[", KINDS[i].key);
        print_slots(out, engine, slots, model, KINDS[i].role);
        putc(']', out->file);
    }
    putc('}', out->file);
}

/* Whether "model", or "model/0", names it. */
static bool is_named(const struct model *model, const char *target)
{
    size_t len = strlen(model->config->name);
    return !target ||
           (strncmp(model->config->name, target, len) == 0 && strcspn(target, "/") == len);
}

/* Of what is named, the models or the programs. */
static void print_models(struct sheet *out, const struct engine *engine, struct slots *slots,
                         const char *target, bool programs)
{
    const char *between = "";
    slots->at = 0;
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        struct model_view view;
        while (slots->at < slots->count && slots->list[slots->at]->model->index < i)
            slots->at++;
        if (!model->used || !is_named(model, target) ||
            config_is_program(model->config) != programs ||
            !core_model_view(engine->core, i, &view))
            continue;
        fputs(between, out->file);
        between = ",";
        (programs ? print_program : print_model)(out, engine, slots, model);
    }
}

static json_int_t size_of(const char *directory, const char *name)
{
    char path[4096];
    struct stat info;
    if (!directory)
        return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return stat(path, &info) ? 0 : (json_int_t)info.st_size;
}

static json_t *journal_json(const struct engine *engine)
{
    struct durable_view view;
    struct journal_stats stats = {0};
    const char *directory = engine->config->state_dir;
    bool failing = engine->durable.failing;
    core_durable_view(engine->core, &view);
    if (engine->durable.journal)
        stats = journal_stats(engine->durable.journal);
    return json_pack(
        "{s:b, s:b, s:o, s:o, s:i, s:i, s:I, s:I, s:I, s:I}", "open",
        engine->durable.journal != NULL, "failing", failing, "failing_since_wall_ms",
        number_or_null(failing, engine->durable.failing_wall_ns / HASUP_MS), "error",
        words_or_null(failing ? engine->durable.error : ""), "unfinished", (int)view.unfinished,
        "results", (int)view.finished, "letters", (json_int_t)stats.letters, "events",
        (json_int_t)stats.events, "bytes", size_of(directory, "journal.db"), "wal_bytes",
        size_of(directory, "journal.db-wal"));
}

/* All but the models and programs. */
static json_t *head_json(const struct engine *engine, hasup_ns started)
{
    const char *directory = engine->config->state_dir;
    return json_pack(
        "{s:s, s:I, s:I, s:b, s:b, s:b, s:o, s:o, s:o, s:{s:b, s:o}, s:o, s:{s:I, s:I}}", "version",
        HASUP_VERSION, "pid", (json_int_t)getpid(), "uptime_ms",
        (json_int_t)((loop_now(engine->loop) - started) / HASUP_MS), "ready", engine_ready(engine),
        "shutting_down", engine->shutting_down, "cgroups", processes_use_cgroups(engine->processes),
        "http_port", number_or_null(engine->http_port > 0, engine->http_port), "state_dir",
        words_or_null(directory ? directory : ""), "last_run",
        words_or_null(engine->noted.last_run), "checkpoints", "failing",
        engine->checkpoints_failing, "error",
        words_or_null(engine->checkpoints_failing ? engine->checkpoint_error : ""), "journal",
        journal_json(engine), "requests", "count", (json_int_t)engine->requests.count, "body_bytes",
        (json_int_t)engine->requests.body_bytes);
}

char *status_text(const struct engine *engine, hasup_ns started, const char *target)
{
    struct slots slots;
    char *text = NULL;
    size_t len;
    json_t *head = head_json(engine, started);
    struct sheet out = {.file = open_memstream(&text, &len)};
    out.failed = !slots_sort(engine, &slots) || !out.file || !head;
    if (!out.failed) {
        print_open(&out, head);
        fputs(",\"models\":[", out.file);
        print_models(&out, engine, &slots, target, false);
        fputs("],\"programs\":[", out.file);
        print_models(&out, engine, &slots, target, true);
        fputs("]}", out.file);
        out.failed |= ferror(out.file) != 0;
    } else {
        json_decref(head);
    }
    free(slots.list);
    if ((out.file && fclose(out.file)) || out.failed) {
        free(text);
        return NULL;
    }
    return text;
}

char *status_config(const struct engine *engine)
{
    char *text = config_json(engine->config);
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    for (uint32_t i = 0; json && i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        if (!model->used || model->removing || config_holds(engine->config, model->config))
            continue;
        text = config_model_json(model->config);
        json_object_set_new(json_object_get(json, config_section_of(model->config)),
                            model->config->name, text ? json_loads(text, 0, NULL) : NULL);
        free(text);
    }
    text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
