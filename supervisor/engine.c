/*
 * engine.c: events into the core, actions out of it.  Owns the core and the queue of events that
 * arise while actions are performed: a step is never re-entered, what happens inside one is stepped
 * right after it.  Decides nothing.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"
#include "supervisor/said.h"
#include "supervisor/sockets.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

/* ---- stepping ---- */

static void engine_step(struct engine *engine, const struct event *event)
{
    core_step(engine->core, event, &engine->actions);
    for (size_t i = 0; i < engine->actions.count; i++)
        engine_perform(engine, &engine->actions.list[i]);
}

static void events_push(struct engine *engine, const struct event *event)
{
    if (engine->events.count == engine->events.room) {
        size_t room = engine->events.room ? engine->events.room * 2 : 64;
        struct event *list = malloc(room * sizeof *list);
        if (!list)
            abort(); /* an event that is lost would lose a request; nothing sane is left to do */
        for (size_t i = 0; i < engine->events.count; i++)
            list[i] = engine->events.list[(engine->events.start + i) % engine->events.room];
        free(engine->events.list);
        engine->events.list = list;
        engine->events.start = 0;
        engine->events.room = room;
    }
    size_t at = (engine->events.start + engine->events.count++) % engine->events.room;
    engine->events.list[at] = *event;
}

void engine_post(struct engine *engine, struct event *event)
{
    event->now = loop_now(engine->loop);
    if (engine->events.stepping) {
        events_push(engine, event);
        return;
    }
    engine->events.stepping = true;
    engine_step(engine, event);
    while (engine->events.count) {
        struct event next = engine->events.list[engine->events.start];
        engine->events.start = (engine->events.start + 1) % engine->events.room;
        engine->events.count--;
        next.now = loop_now(engine->loop);
        engine_step(engine, &next);
    }
    engine->events.stepping = false;
}

static void engine_due(void *context)
{
    struct engine *engine = context;
    engine->armed = HASUP_NEVER;
    engine_post(engine, &(struct event){.type = EVENT_TIMEOUT});
}

/* Once a turn: the loop's timer follows the core's deadline. */
static void engine_turn_end(void *context)
{
    struct engine *engine = context;
    if (engine->durable.more)
        recovery_go_on(engine);
    while (durable_flush(engine))
        durable_completed(engine);
    if (engine->turned)
        engine->turned(engine->turned_context);
    hasup_ns deadline = core_deadline(engine->core);
    if (deadline == engine->armed)
        return;
    engine->armed = deadline;
    loop_timer(engine->loop, deadline, engine_due, engine);
}

/* ---- commands ---- */

void engine_command(struct engine *engine, uint32_t model, uint32_t slot, enum command command)
{
    engine_post(
        engine,
        &(struct event){.type = EVENT_COMMAND, .model = model, .slot = slot, .command = command});
}

struct slot *engine_slot(const struct engine *engine, uint32_t model, uint32_t ordinal)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct slot *slot = engine->slots[i];
        if (slot && slot->model->index == model && slot->role == ROLE_WORKER &&
            slot->ordinal == ordinal)
            return slot;
    }
    return NULL;
}

void engine_shutdown(struct engine *engine)
{
    bool kills = engine->shutting_down && core_hastened(engine->core);
    LOG_EVENT(LEVEL_INFO,
              kills                   ? "shutdown.killed"
              : engine->shutting_down ? "shutdown.hastened"
                                      : "shutdown.started",
              kills                   ? "killing what is left"
              : engine->shutting_down ? "stopping now; once more kills what is left"
                                      : "finishing what was accepted",
              LOG_INT("requests", engine->requests.count));
    if (!engine->shutting_down) {
        stopping_begin(engine);
        engine->stops_until = loop_now(engine->loop) + engine->config->shutdown_grace;
    }
    engine->shutting_down = true;
    engine_post(engine, &(struct event){.type = EVENT_SHUTDOWN,
                                        .shutdown = {.deadline = engine->stops_until}});
}

/* ---- what doors ask ---- */

int engine_named(const struct engine *engine, const char *name, size_t len)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        if (model->used && !model->removing && strlen(model->config->name) == len &&
            memcmp(model->config->name, name, len) == 0)
            return (int)i;
    }
    return HASUP_ENOTFOUND;
}

int engine_model(const struct engine *engine, const char *name, size_t len)
{
    int index = engine_named(engine, name, len);
    bool serves = index >= 0 && !config_is_program(engine->models[index].config);
    return serves || index < 0 ? index : HASUP_ENOTFOUND;
}

static bool model_ready(const struct engine *engine, uint32_t model)
{
    struct model_view view;
    return !engine->shutting_down && core_model_view(engine->core, model, &view) &&
           view.accepting && view.ready > 0 && !view.broken;
}

/* A program that is not essential may be down, as far as serving goes. */
static bool is_needed_and_down(const struct engine *engine, const struct model *model)
{
    if (!model->used)
        return false;
    if (!config_is_program(model->config))
        return !model_ready(engine, model->index);
    return model->config->policy.essential && !program_is_up(engine, model->index);
}

bool engine_model_info(const struct engine *engine, uint32_t index, struct model_info *info)
{
    if (index >= engine->config->limits.models || !engine->models[index].used ||
        config_is_program(engine->models[index].config))
        return false;
    const struct model *model = &engine->models[index];
    const struct model_version *speaker = model_speaker(model);
    *info = (struct model_info){.name = model->config->name,
                                .body_max = model->config->body_max,
                                .adapted = model->config->adapter.kind != ADAPTER_NONE,
                                .ready = model_ready(engine, index),
                                .metadata = speaker ? speaker->metadata : NULL,
                                .metadata_len = speaker ? speaker->metadata_len : 0};
    return true;
}

bool engine_model_body_max(const struct engine *engine, uint32_t index, uint64_t *body_max)
{
    if (index >= engine->config->limits.models || !engine->models[index].used)
        return false;
    *body_max = engine->models[index].config->body_max;
    return true;
}

uint32_t engine_models(const struct engine *engine)
{
    return engine->config->limits.models;
}

bool engine_ready(const struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (is_needed_and_down(engine, &engine->models[i]))
            return false;
    return !engine->shutting_down;
}

struct door_counts *engine_door_counts(struct engine *engine, enum door_kind kind)
{
    return &engine->doors[kind];
}

void engine_make_id(struct engine *engine, char id[33])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t words[2] = {engine->id_high, engine->id_low++};
    for (int i = 0; i < 32; i++)
        id[i] = digits[words[i / 16] >> (60 - i % 16 * 4) & 15];
    id[32] = '\0';
}

/* ---- life ---- */

static void engine_woken(void *context)
{
    state_completed(context);
    durable_completed(context);
    said_files_woken(context);
}

static void writer_wake(void *context)
{
    loop_wake(context);
}

static const struct process_ops PROCESS_OPS = {.exited = worker_exited,
                                               .tree_empty = worker_tree_empty};

struct core_limits engine_limits(const struct config *config)
{
    return (struct core_limits){.models = config->limits.models,
                                       .slots = config->limits.slots,
                                       .loading = config->limits.loading,
                                       .requests = config->limits.requests,
                                       .result_bytes = config->result_bytes,
                                       .stream_bytes = config->limits.body_bytes,
                                       .durable_bytes = config->journal_body_max,
                                       .entries = config->limits.requests +
                                                  config->results_max,
                                       .bodies = config->limits.quarantine};
}

static struct core *core_carried(struct carry *carry, const struct core_limits *limits,
                                 char error[CONFIG_ERROR_MAX])
{
    const uint8_t *bytes = NULL;
    const char *why = NULL;
    size_t len = 0;
    carry->codec.what = "its core";
    codec_begin(&carry->codec);
    codec_bytes(&carry->codec, &bytes, &len);
    codec_end(&carry->codec);
    struct core *core = core_load(limits, bytes, len, &why);
    if (!core)
        snprintf(error, CONFIG_ERROR_MAX, "what is handed over cannot be taken: %s", why);
    return core;
}

/* `carry`: what another hasupd left; NULL: it begins. */
static int engine_tables(struct engine *engine, struct carry *carry, char error[CONFIG_ERROR_MAX])
{
    const struct core_limits limits = engine_limits(engine->config);
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed ||
        getrandom(&engine->durable.seed, sizeof engine->durable.seed, 0) !=
            sizeof engine->durable.seed ||
        getrandom(&engine->id_high, sizeof engine->id_high, 0) != sizeof engine->id_high)
        return HASUP_ESYS;
    engine->core = carry ? core_carried(carry, &limits, error) : core_new(&limits, seed);
    if (carry && !engine->core)
        return HASUP_ECONFIG;
    engine->models = calloc(limits.models, sizeof *engine->models);
    engine->slots = calloc(limits.slots, sizeof *engine->slots);
    engine->requests.list = calloc(limits.requests, sizeof *engine->requests.list);
    engine->requests.generation = calloc(limits.requests, sizeof *engine->requests.generation);
    engine->requests.free = calloc(limits.requests, sizeof *engine->requests.free);
    if (!engine->core || !engine->models || !engine->slots || !engine->requests.list ||
        !engine->requests.generation || !engine->requests.free)
        return HASUP_ENOMEM;
    return actions_init(&engine->actions, engine->core);
}

static int engine_own(struct engine *engine, const char *cgroup, char error[CONFIG_ERROR_MAX])
{
    int got = noted_open(engine, error);
    if (got)
        return got;
    engine->processes = processes_new(engine->loop, &PROCESS_OPS, engine, cgroup, error);
    return engine->processes ? 0 : HASUP_ESYS;
}

void engine_base_carry(struct carry *carry, struct engine *engine)
{
    CARRY(carry);
    codec->what = "its processes and sockets";
    codec_begin(codec);
    V(engine->id_high);
    V(engine->id_low);
    V(engine->durable.seed);
    bool open = engine->durable.journal;
    V(engine->durable.own);
    V(open);
    engine->durable.was_open = open;
    V(engine->durable.after);
    carry_fd(carry, &engine->noted.activity);
    V(engine->noted.failing);
    V(engine->noted.shared);
    V(engine->noted.began);
    carry_text(carry, engine->noted.last_run, sizeof engine->noted.last_run);
    V(engine->checkpoints_failing);
    counts_carry(carry, &engine->durable.commits, sizeof engine->durable.commits);
    counts_carry(carry, engine->doors, sizeof engine->doors);
    carry_text(carry, engine->checkpoint_error, sizeof engine->checkpoint_error);
    V(engine->requests.high);
    if (engine->requests.high > engine->config->limits.requests)
        codec_fail(codec);
    for (uint32_t i = 0; i < engine->requests.high && !codec->failed; i++)
        V(engine->requests.generation[i]);
    engine->processes =
        processes_carry(carry, engine->processes, engine->loop, &PROCESS_OPS, engine);
    sockets_carry(carry, engine);
    if (engine->durable.journal)
        journal_file(engine->durable.journal, &engine->durable.device, &engine->durable.inode);
    V(engine->durable.device);
    V(engine->durable.inode);
    codec_end(codec);
}

static int engine_parts(struct engine *engine, const char *cgroup, struct carry *carry,
                        char error[CONFIG_ERROR_MAX])
{
    char path[4096];
    const char *directory = engine->config->state_dir;
    int got = snprintf(path, sizeof path, "%s/checkpoints.db", directory ? directory : "");
    if (got < 0 || (size_t)got >= sizeof path)
        return HASUP_EINVAL;
    got = said_open(engine); /* before what may have something to say */
    if (got)
        return got;
    if (carry)
        engine_base_carry(carry, engine);
    else
        got = engine_own(engine, cgroup, error);
    if (got || (carry && carry->codec.failed))
        return got ? got : HASUP_EPROTO;
    engine->writer = writer_new(path, writer_wake, engine->loop);
    loop_on_wake(engine->loop, engine_woken, engine);
    if (engine->writer && directory && (got = state_open(engine, path, error)))
        return got;
    if (!engine->writer || loop_at_turn_end(engine->loop, engine_turn_end, engine))
        return HASUP_ENOMEM;
    engine->peers = peers_new(engine->loop);
    return engine->peers ? 0 : HASUP_ENOMEM;
}

static struct engine *engine_make(struct loop *loop, struct config *config, const char *cgroup,
                                  struct carry *carry, char error[CONFIG_ERROR_MAX])
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        config_free(config);
        return NULL;
    }
    engine->loop = loop;
    engine->config = config;
    engine->armed = HASUP_NEVER;
    engine->exit_code = ENGINE_FAILED; /* until the core says that all is stopped */
    error[0] = '\0';
    int failed = engine_tables(engine, carry, error);
    if (!failed)
        failed = engine_parts(engine, cgroup, carry, error);
    if (!failed)
        return engine;
    if (!error[0])
        snprintf(error, CONFIG_ERROR_MAX, "%s", hasup_strerror(failed));
    if (!carry || !carry->dry) /* what a rehearsal has is not its own to end */
        engine_free(engine);
    return NULL;
}

struct engine *engine_new(struct loop *loop, struct config *config, const char *cgroup,
                          char error[CONFIG_ERROR_MAX])
{
    return engine_make(loop, config, cgroup, NULL, error);
}

struct engine *engine_resume(struct loop *loop, struct config *config, struct carry *carry,
                             char error[CONFIG_ERROR_MAX])
{
    return engine_make(loop, config, "", carry, error);
}

static void engine_free_requests(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->requests.high; i++)
        if (engine->requests.list[i])
            engine_forget(engine, engine->requests.list[i]->id);
    while (engine->requests.spare_count)
        free(engine->requests.spares[--engine->requests.spare_count]);
    free(engine->requests.list);
    free(engine->requests.generation);
    free(engine->requests.free);
}

int engine_end(struct engine *engine)
{
    engine->closing = engine->ended = true;
    timer_stop(&engine->stopping);
    if (engine->processes)
        processes_free(engine->processes);
    sockets_close(engine);
    if (engine->writer)
        state_end(engine);
    if (engine->started)
        LOG_EVENT(LEVEL_INFO, "hasupd.stopped", NULL, LOG_INT("pid", getpid()),
                  LOG_INT("exit_code", engine->exit_code));
    durable_close(engine);
    noted_end(engine); /* now another hasupd may have the directory */
    return engine->exit_code;
}

void engine_free(struct engine *engine)
{
    if (!engine)
        return;
    if (!engine->ended)
        (void)engine_end(engine);
    letters_free(engine);
    if (engine->requests.list)
        engine_free_requests(engine);
    models_free(engine);
    labels_free(engine);
    peers_free(engine->peers);
    said_end(engine);
    if (engine->core) {
        actions_fini(&engine->actions);
        core_free(engine->core);
    }
    free(engine->slots);
    free(engine->models);
    free(engine->events.list);
    config_free(engine->config);
    free(engine);
}
