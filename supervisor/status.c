/* status.c: the state of everything as one JSON object, from the core's views and the engine's
 * records. */
#include "supervisor/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
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
    struct timespec now;
    if (!view->stateful)
        return json_null();
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age = (int64_t)now.tv_sec * HASUP_S + now.tv_nsec - slot->stored_wall_ns;
    json_t *json = json_pack("{s:I, s:I, s:I, s:b}", "log_head", (json_int_t)view->log_head,
                             "position", (json_int_t)view->checkpoint_position, "bytes",
                             (json_int_t)slot->stored_bytes, "in_memory_only", slot->kept.there);
    json_object_set_new(json, "age_ms",
                        slot->stored_wall_ns ? json_integer(age / HASUP_MS) : json_null());
    return json;
}

static json_t *slot_json(const struct engine *engine, const struct slot *slot)
{
    struct slot_view v;
    if (!core_slot_view(engine->core, slot->index, &v))
        return NULL;
    hasup_ns now = loop_now(engine->loop);
    json_t *json =
        json_pack("{s:s, s:s, s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "slot",
                  slot->name, "state", slot_state_name(v.state), "pid",
                  (json_int_t)(slot->worker ? process_pid(slot->worker->process) : 0), "since_ms",
                  (json_int_t)((now - v.since) / HASUP_MS), "inflight", (int)v.inflight,
                  "concurrency", (int)v.concurrency, "starts", (json_int_t)v.starts, "crashes",
                  (json_int_t)v.crashes, "answered", (json_int_t)v.answered, "replayed",
                  (json_int_t)v.replayed, "diverged", (json_int_t)v.diverged, "service_us",
                  (json_int_t)(v.service_ns / 1000), "recycled", (json_int_t)v.recycled,
                  "memory_bytes", (json_int_t)(slot->worker ? slot->worker->memory : 0));
    bool waits = (v.state == SLOT_BACKOFF || v.state == SLOT_BROKEN) && v.next_start != HASUP_NEVER;
    json_object_set_new(json, "next_start_ms",
                        waits ? json_integer((v.next_start - now) / HASUP_MS) : json_null());
    json_object_set_new(json, "queued", json_integer(v.queued));
    json_object_set_new(json, "version", json_string(slot->version));
    json_object_set_new(json, "extra", json_boolean(v.extra));
    json_object_set_new(json, "checkpoint", checkpoint_json(slot, &v));
    json_object_set_new(json, "last_death", death_json(&slot->death));
    return json;
}

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
        json_pack("{s:s, s:s, s:i, s:i}", "state", rollout_state_name(view->rollout.state), "other",
                  label_of(model, view->rollout.other), "waiting", (int)view->rollout.waiting,
                  "weight", canary ? (int)view->rollout.weight : 0);
    json_object_set_new(json, "stable", canary ? side_json(view, 0) : json_null());
    json_object_set_new(json, "canary", canary ? side_json(view, 1) : json_null());
    json_object_set_new(json, "why",
                        view->rollout.state == ROLLOUT_REVERTING
                            ? json_words(model->rollout.because)
                            : json_null());
    json_object_set_new(json, "last",
                        model->rollout.last[0]
                            ? json_pack("{s:b, s:o, s:I}", "ok", !model->rollout.failed, "text",
                                        json_words(model->rollout.last), "wall_ms",
                                        (json_int_t)(model->rollout.wall_ns / HASUP_MS))
                            : json_null());
    return json;
}

/* The slots of a role: spares, or the zygote. */
static json_t *helpers_json(const struct engine *engine, const struct model *model,
                            enum slot_role role)
{
    json_t *slots = json_array();
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->model == model && engine->slots[i]->role == role)
            json_array_append_new(slots, slot_json(engine, engine->slots[i]));
    return slots;
}

/* Requests that ended in the last 10 to 20 s. */
static json_t *recent_json(const struct engine *engine, const struct model *model)
{
    struct recent_view view;
    stats_recent(engine, model, &view);
    return json_pack("{s:f, s:I, s:I}", "per_second", (double)view.per_second_milli / 1000.0,
                     "p50_us", (json_int_t)(view.p50 / 1000), "p99_us",
                     (json_int_t)(view.p99 / 1000));
}

static json_t *model_json(const struct engine *engine, const struct model *model)
{
    struct model_view v;
    if (!core_model_view(engine->core, model->index, &v))
        return NULL;
    json_t *slots = json_array();
    for (uint32_t ordinal = 0, left = v.slots; left && ordinal < engine->config->limits.slots;
         ordinal++) {
        const struct slot *slot = engine_slot(engine, model->index, ordinal);
        if (!slot)
            continue;
        left--;
        json_array_append_new(slots, slot_json(engine, slot));
    }
    json_int_t mends = v.broken ? (v.mends - loop_now(engine->loop)) / HASUP_MS : 0;
    json_t *json = json_pack(
        "{s:s, s:b, s:b, s:I, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:i, s:o}", "name",
        model->config->name, "accepting", v.accepting, "broken", v.broken, "mends_ms", mends,
        "suspects", (int)v.suspects, "ready", (int)v.ready, "workers", (int)model->workers,
        "queued", (int)v.queued, "inflight", (int)v.inflight, "queued_bytes",
        (json_int_t)v.queued_bytes, "answered", (json_int_t)v.answered, "refused",
        (json_int_t)v.refused, "attempts", (json_int_t)v.attempts, "replays", (json_int_t)v.replays,
        "unstored", (int)v.unstored, "slots", slots);
    json_object_set_new(json, "recent", recent_json(engine, model));
    json_object_set_new(json, "version", json_string(label_of(model, v.rollout.version)));
    json_object_set_new(json, "rollout", rollout_json(model, &v));
    json_object_set_new(json, "spares", helpers_json(engine, model, ROLE_SPARE));
    json_object_set_new(json, "zygotes", helpers_json(engine, model, ROLE_ZYGOTE));
    return json;
}

static json_int_t size_of(const char *directory, const char *name)
{
    char path[4096];
    struct stat info;
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
        failing ? json_integer(engine->durable.failing_wall_ns / HASUP_MS) : json_null(), "error",
        json_words(failing ? engine->durable.error : ""), "unfinished", (int)view.unfinished,
        "results", (int)view.finished, "letters", (json_int_t)stats.letters, "events",
        (json_int_t)stats.events, "bytes", size_of(directory, "journal.db"), "wal_bytes",
        size_of(directory, "journal.db-wal"));
}

json_t *status_json(const struct engine *engine, hasup_ns started)
{
    json_t *models = json_array();
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (engine->models[i].used)
            json_array_append_new(models, model_json(engine, &engine->models[i]));
    return json_pack(
        "{s:s, s:I, s:I, s:b, s:b, s:b, s:i, s:s, s:o, s:{s:b, s:o}, s:o, s:{s:I, s:I}, s:o}",
        "version", HASUP_VERSION, "pid", (json_int_t)getpid(), "uptime_ms",
        (json_int_t)((loop_now(engine->loop) - started) / HASUP_MS), "ready", engine_ready(engine),
        "shutting_down", engine->shutting_down, "cgroups", processes_use_cgroups(engine->processes),
        "http_port", engine->http_port, "state_dir", engine->config->state_dir, "last_run",
        json_words(engine->noted.last_run), "checkpoints", "failing", engine->checkpoints_failing,
        "error", json_words(engine->checkpoints_failing ? engine->checkpoint_error : ""), "journal",
        journal_json(engine), "requests", "count", (json_int_t)engine->requests.count, "body_bytes",
        (json_int_t)engine->requests.body_bytes, "models", models);
}

char *status_config(const struct engine *engine)
{
    char *text = config_json(engine->config);
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    json_t *models = json_object_get(json, "models");
    free(text);
    for (uint32_t i = 0; json && i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        if (!model->used || model->removing || config_holds(engine->config, model->config))
            continue;
        text = config_model_json(model->config);
        json_object_set_new(models, model->config->name, text ? json_loads(text, 0, NULL) : NULL);
        free(text);
    }
    text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    return text;
}
