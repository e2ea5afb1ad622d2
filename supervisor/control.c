/*
 * control.c: the verbs of hasupctl, as a table.  Owns the followers of events and the
 * commands that wait for a checkpoint.  A verb that is wrong gets an error that says what would be
 * right; nothing here decides about workers: it posts commands to the engine.
 */
#include "supervisor/control.h"

#include "supervisor/carry.h"
#include "supervisor/death.h"
#include "supervisor/events.h"
#include "supervisor/history.h"
#include "supervisor/leave.h"
#include "supervisor/readers.h"
#include "supervisor/requests.h"
#include "supervisor/said.h"
#include "supervisor/status.h"
#include "supervisor/waits.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ALL_MODELS UINT32_MAX
#define NO_MODEL   (UINT32_MAX - 1)

enum { RING_BYTES = 64 * 1024, FOLLOWERS_MAX = 64, LAST_LINES = 100 };

/* A client that wants to hear more: new events, the end of checkpoints, what the journal says. */
struct follower {
    struct unix_client *client;
    uint64_t id;
    enum {
        FOLLOWS_EVENTS,
        AWAITS_CHECKPOINTS,
        AWAITS_ROLLOUTS,
        AWAITS_JOURNAL,
        AWAITS_UPGRADE
    } what;
    char slot[ENGINE_NAME]; /* of FOLLOWS_EVENTS: model or slot; "" : all */
    uint64_t lost;          /* likewise: events that it was too slow for */
    struct follower *next;
    uint32_t waiting; /* of AWAITS_CHECKPOINTS, _ROLLOUTS: slots, models not heard of yet */
    json_t *results;
    uint64_t ticket; /* of AWAITS_JOURNAL */
};

struct control {
    struct engine *engine;
    char *config_file;
    struct service *service;
    struct events *events;
    struct history *history;
    struct readers *readers;
    struct waits *waits;
    hasup_ns started;
    struct follower *followers;
    unsigned follower_count;
    int (*upgrade)(void *context, const char *binary, char why[CONFIG_ERROR_MAX]);
    void *upgrade_context;
    uint64_t tickets;
};

/* One command being answered. */
struct call {
    struct control *control;
    struct unix_client *client;
    uint64_t id;
    json_t *in;
    uint32_t model,
        slot; /* of verbs that name a target; slot: CORE_ALL_SLOTS for the whole model */
    const struct verb *verb;
};

struct verb {
    const char *name;
    enum { NO_TARGET, MAY_TARGET, NEEDS_TARGET } target;
    bool changes; /* refused while hasupd stops */
    void (*run)(struct call *call);
    int command;                                         /* enum command of run_command */
    void (*requests)(const struct requests_call *asked); /* of run_requests */
};

/* ---- answers ---- */

static void reply_take(struct call *call, uint32_t status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    unix_client_reply(call->client, call->id, text ? status : 500, text ? text : "{}");
    free(text);
    json_decref(json);
}

HASUP_PRINTF(4, 5)
static void reply_error(struct call *call, uint32_t status, const char *code, const char *format,
                        ...)
{
    char message[CONFIG_ERROR_MAX + 256];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    reply_take(call, status,
               json_pack("{s:{s:s, s:o}}", "error", "code", code, "message", json_words(message)));
}

/* NULL: there was no memory for it. */
static void reply_text(struct call *call, const char *text)
{
    if (text)
        unix_client_reply(call->client, call->id, 200, text);
    else
        reply_error(call, 500, "internal", "out of memory");
}

static void reply_ok(struct call *call)
{
    reply_take(call, 200, json_pack("{s:b}", "ok", 1));
}

/* ---- followers ---- */

static struct follower *follower_add(struct call *call)
{
    struct control *control = call->control;
    struct follower *follower = NULL;
    if (control->follower_count < FOLLOWERS_MAX)
        follower = calloc(1, sizeof *follower);
    if (!follower) {
        reply_error(call, 429, "overloaded", "%d commands already follow or wait", FOLLOWERS_MAX);
        return NULL;
    }
    follower->client = call->client;
    follower->id = call->id;
    follower->next = control->followers;
    control->followers = follower;
    control->follower_count++;
    return follower;
}

static void follower_remove(struct control *control, struct follower **at)
{
    struct follower *follower = *at;
    *at = follower->next;
    control->follower_count--;
    json_decref(follower->results);
    free(follower);
}

void control_cancel(struct control *control, struct unix_client *client, uint64_t id,
                    bool everything)
{
    if (!control)
        return;
    readers_cancel(control->readers, client, id, everything);
    waits_cancel(control->waits, client, id, everything);
    for (struct follower **at = &control->followers; *at;) {
        bool his = (*at)->client == client && (everything || (*at)->id == id);
        if (his)
            follower_remove(control, at);
        else
            at = &(*at)->next;
    }
}

/* Whether a line is about what `wanted` names: a model or a slot. */
static bool line_matches(const char *json, size_t len, const char *wanted)
{
    char key[ENGINE_NAME + 16];
    bool slot = strchr(wanted, '/') != NULL;
    if (!wanted[0])
        return true;
    int n = snprintf(key, sizeof key, "\"slot\":\"%s%s", wanted, slot ? "\"" : "/");
    if (n > 0 && memmem(json, len, key, (size_t)n))
        return true;
    n = snprintf(key, sizeof key, "\"model\":\"%s\"", wanted);
    return !slot && n > 0 && memmem(json, len, key, (size_t)n);
}

static void follower_tell(struct follower *f, const char *json, size_t len)
{
    char lost[96];
    int n = snprintf(lost, sizeof lost, "{\"event\":\"events.lost\",\"lines\":%llu}",
                     (unsigned long long)f->lost);
    if (f->lost && unix_client_chunk(f->client, f->id, lost, (size_t)n))
        f->lost = 0;
    if (f->lost || !unix_client_chunk(f->client, f->id, json, len))
        f->lost++;
}

static void event_added(void *context, int64_t wall_ns, const char *json, size_t len)
{
    struct control *control = context;
    history_event(control->history, wall_ns, json, len);
    for (struct follower *f = control->followers; f; f = f->next)
        if (f->what == FOLLOWS_EVENTS && line_matches(json, len, f->slot))
            follower_tell(f, json, len);
}

struct listing {
    struct call *call;
    const char *slot;
};

static void list_line(void *context, int64_t wall_ns, const char *json, size_t len)
{
    const struct listing *listing = context;
    (void)wall_ns;
    if (line_matches(json, len, listing->slot))
        unix_client_chunk(listing->call->client, listing->call->id, json, len);
}

static void run_events(struct call *call)
{
    json_t *count = json_object_get(call->in, "count");
    json_t *slot = json_object_get(call->in, "target");
    struct listing listing = {call, json_is_string(slot) ? json_string_value(slot) : ""};
    events_each(call->control->events,
                json_is_integer(count) ? (size_t)json_integer_value(count) : LAST_LINES, list_line,
                &listing);
    if (!json_is_true(json_object_get(call->in, "follow"))) {
        reply_ok(call);
        return;
    }
    struct follower *follower = follower_add(call);
    if (!follower)
        return;
    follower->what = FOLLOWS_EVENTS;
    snprintf(follower->slot, sizeof follower->slot, "%s", listing.slot);
}

static void run_logs(struct call *call)
{
    char error[CONFIG_ERROR_MAX];
    struct readers *readers = call->control->readers;
    uint32_t wrong = json_is_true(json_object_get(call->in, "reopen"))
                         ? readers_reopen(readers, call->client, call->id, error)
                         : readers_add(readers, call->client, call->id, call->in, error);
    if (wrong)
        reply_error(call, wrong,
                    wrong == 404   ? "not_found"
                    : wrong == 429 ? "overloaded"
                                   : "bad_request",
                    "%s", error);
}

/* ---- checkpoints on demand ---- */

/* Whether this end of a checkpoint is what the follower waits for: it covers what the slot had been
 * given when the command came, or it failed. */
static bool checkpoint_concerns(const struct follower *f, const struct slot *slot,
                                uint64_t position, const char *error)
{
    json_t *asked = f->what == AWAITS_CHECKPOINTS ? json_object_get(f->results, slot->name) : NULL;
    return json_is_integer(asked) && (error || position >= (uint64_t)json_integer_value(asked));
}

static void checkpoint_done(void *context, const struct slot *slot, uint64_t position,
                            const char *error)
{
    struct control *control = context;
    for (struct follower **at = &control->followers; *at;) {
        struct follower *f = *at;
        bool concerned = checkpoint_concerns(f, slot, position, error);
        if (concerned) {
            json_t *result = error ? json_pack("{s:o}", "error", json_words(error))
                                   : json_pack("{s:I}", "position", (json_int_t)position);
            json_object_set_new(f->results, slot->name, result);
            f->waiting--;
        }
        if (!concerned || f->waiting) {
            at = &f->next;
            continue;
        }
        struct call call = {.control = control, .client = f->client, .id = f->id};
        json_t *answer = json_pack("{s:O}", "checkpoints", f->results);
        follower_remove(control, at);
        reply_take(&call, 200, answer);
        at = &control->followers; /* a client that was cut off took its others along */
    }
}

static bool checkpoint_wanted(const struct call *call, const struct slot *slot)
{
    struct slot_view view;
    return slot && slot->model->index == call->model &&
           (call->slot == CORE_ALL_SLOTS || call->slot == slot->index) &&
           core_slot_view(call->control->engine->core, slot->index, &view) && view.stateful &&
           view.role == ROLE_WORKER && view.state == SLOT_READY;
}

static void run_checkpoint(struct call *call)
{
    struct engine *engine = call->control->engine;
    json_t *results = json_object();
    struct slot_view view;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (checkpoint_wanted(call, engine->slots[i]) &&
            core_slot_view(engine->core, i, &view)) /* until it is there: what it must cover */
            json_object_set_new(results, engine->slots[i]->name,
                                json_integer((json_int_t)view.log_head));
    if (!json_object_size(results)) {
        json_decref(results);
        reply_error(call, 409, "unavailable",
                    "no ready slot of it keeps state; hasupctl status shows which do");
        return;
    }
    struct follower *follower = follower_add(call);
    if (!follower) {
        json_decref(results);
        return;
    }
    follower->what = AWAITS_CHECKPOINTS;
    follower->results = results;
    follower->waiting = (uint32_t)json_object_size(results);
    engine_command(engine, call->model, call->slot, COMMAND_CHECKPOINT);
}

/* ---- rollouts ---- */

static struct follower **rollout_awaited(struct control *control, const char *model)
{
    struct follower **at = &control->followers;
    while (*at && ((*at)->what != AWAITS_ROLLOUTS ||
                   !json_is_null(json_object_get((*at)->results, model))))
        at = &(*at)->next;
    return at;
}

/* Everything that it waited for has ended: refused with what did not go well. */
static void rollouts_reply(struct control *control, struct follower **at)
{
    char message[CONFIG_ERROR_MAX] = "";
    size_t used = 0;
    const char *name;
    json_t *result, *results = json_incref((*at)->results);
    struct call call = {.control = control, .client = (*at)->client, .id = (*at)->id};
    json_object_foreach(results, name, result)
    {
        if (!json_is_true(json_object_get(result, "ok")) && used < sizeof message)
            used += (size_t)snprintf(message + used, sizeof message - used, "%s%s: %s",
                                     used ? "\n" : "", name,
                                     json_string_value(json_object_get(result, "text")));
    }
    follower_remove(control, at);
    if (used)
        reply_error(&call, 409, "rolled_back", "%s", message);
    else
        reply_take(&call, 200, json_pack("{s:b, s:O}", "ok", 1, "rollouts", results));
    json_decref(results);
}

static void rollout_done(void *context, const struct model *model)
{
    struct control *control = context;
    const char *name = model->config->name;
    struct follower **at;
    while (*(at = rollout_awaited(control, name))) {
        json_object_set_new((*at)->results, name,
                            json_pack("{s:b, s:o}", "ok", !model->rollout.failed, "text",
                                      json_words(model->rollout.last)));
        if (!--(*at)->waiting)
            rollouts_reply(control, at);
    }
}

static bool is_replacing(const struct engine *engine, uint32_t model)
{
    struct model_view view;
    return core_model_view(engine->core, model, &view) &&
           (view.rollout.state == ROLLOUT_ROLLING || view.rollout.state == ROLLOUT_REVERTING);
}

/* Answers at once, or where the client asked for it, when what its command began has ended; of one
 * model, or of ALL_MODELS. */
static void reply_rollouts(struct call *call, uint32_t model)
{
    struct engine *engine = call->control->engine;
    bool waits = json_is_true(json_object_get(call->in, "wait"));
    json_t *results = json_object();
    for (uint32_t i = 0; waits && i < engine->config->limits.models; i++)
        if ((model == ALL_MODELS || model == i) && is_replacing(engine, i))
            json_object_set_new(results, engine->models[i].config->name, json_null());
    struct follower *follower = json_object_size(results) ? follower_add(call) : NULL;
    if (!json_object_size(results)) {
        reply_ok(call);
    } else if (follower) {
        follower->what = AWAITS_ROLLOUTS;
        follower->waiting = (uint32_t)json_object_size(results);
        follower->results = json_incref(results);
    }
    json_decref(results);
}

static void run_canary(struct call *call)
{
    char error[CONFIG_ERROR_MAX];
    json_t *weight = json_object_get(call->in, "weight");
    json_int_t percent = json_integer_value(weight);
    if (call->slot != CORE_ALL_SLOTS || !json_is_integer(weight) || percent < 1 || percent > 99) {
        reply_error(call, 400, "bad_request",
                    "a canary is of a whole model, and its weight a whole number from 1 to 99 "
                    "(percent of the requests); promote gives it all of them");
        return;
    }
    int failed = engine_canary(call->control->engine, call->model, call->control->config_file,
                               (uint32_t)percent, error);
    if (failed)
        reply_error(call, failed == HASUP_ECONFIG ? 400 : 409,
                    failed == HASUP_ECONFIG ? "bad_request" : "unavailable", "%s", error);
    else
        reply_ok(call);
}

/* promote, abort: of what is there. */
static void run_decision(struct call *call)
{
    struct engine *engine = call->control->engine;
    struct model_view view = {0};
    core_model_view(engine->core, call->model, &view);
    bool promotes = call->verb->command == COMMAND_PROMOTE;
    bool fits = view.rollout.state == ROLLOUT_CANARY ||
                (!promotes && view.rollout.state == ROLLOUT_ROLLING);
    if (!fits || call->slot != CORE_ALL_SLOTS) {
        reply_error(call, 409, "unavailable", "%s of %s; hasupctl status shows what is under way",
                    promotes ? "there is no canary" : "there is neither a canary nor a rollout",
                    engine->models[call->model].config->name);
        return;
    }
    engine_command(engine, call->model, CORE_ALL_SLOTS, (enum command)call->verb->command);
    reply_rollouts(call, promotes ? call->model : NO_MODEL);
}

static void run_restart(struct call *call)
{
    engine_command(call->control->engine, call->model, call->slot, COMMAND_RESTART);
    reply_rollouts(call, call->model);
}

/* ---- requests ---- */

static void requests_answered(void *context, uint64_t ticket, uint32_t status, json_t *json)
{
    struct control *control = context;
    struct follower **at = &control->followers;
    while (*at && ((*at)->what != AWAITS_JOURNAL || (*at)->ticket != ticket))
        at = &(*at)->next;
    if (!*at) { /* its client is gone */
        json_decref(json);
        return;
    }
    struct call call = {.control = control, .client = (*at)->client, .id = (*at)->id};
    follower_remove(control, at);
    reply_take(&call, status, json);
}

static void run_requests(struct call *call)
{
    struct control *control = call->control;
    struct follower *follower = follower_add(call);
    if (!follower)
        return;
    follower->what = AWAITS_JOURNAL;
    follower->ticket = ++control->tickets;
    call->verb->requests(&(struct requests_call){.engine = control->engine,
                                                 .in = call->in,
                                                 .ticket = follower->ticket,
                                                 .answer = requests_answered,
                                                 .context = control});
}

/* ---- the other verbs ---- */

static void run_command(struct call *call)
{
    engine_command(call->control->engine, call->model, call->slot,
                   (enum command)call->verb->command);
    reply_ok(call);
}

static void run_status(struct call *call)
{
    if (json_is_true(json_object_get(call->in, "measure")))
        engine_measure(call->control->engine);
    const char *only = json_string_value(json_object_get(call->in, "target"));
    char *text = status_text(call->control->engine, call->control->started, only);
    reply_text(call, text);
    free(text);
}

static void run_version(struct call *call)
{
    reply_take(call, 200,
               json_pack("{s:s, s:i}", "version", HASUP_VERSION, "protocol", HASUP_FRAME_VERSION));
}

static void run_config(struct call *call)
{
    char *text = status_config(call->control->engine);
    reply_text(call, text);
    free(text);
}

static void run_scale(struct call *call)
{
    struct engine *engine = call->control->engine;
    json_t *workers = json_object_get(call->in, "workers");
    json_int_t wanted = json_integer_value(workers);
    uint32_t used = 0;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        used += engine->slots[i] && engine->slots[i]->model->index != call->model;
    const struct model_policy *policy = &engine->models[call->model].config->policy;
    used += policy->spares + (uint32_t)policy->preload;
    json_int_t most = (json_int_t)engine->config->limits.slots - (json_int_t)used;
    if (!json_is_integer(workers) || wanted < 0 || wanted > most) {
        reply_error(call, 400, "bad_request",
                    "workers must be a whole number from 0 to %lld "
                    "(limits.slots is %u for all models together)",
                    (long long)most, engine->config->limits.slots);
        return;
    }
    engine_scale(engine, call->model, (uint32_t)wanted);
    reply_ok(call);
}

static int reload(struct control *control, char error[CONFIG_ERROR_MAX])
{
    struct config *config = config_load(control->config_file, error);
    if (!config || !engine_has_room(control->engine, config, error)) {
        LOG_EVENT(LEVEL_ERROR, "config.refused", error,
                  LOG_TEXT("effect", "the old configuration stays"));
        config_free(config);
        return HASUP_ECONFIG;
    }
    LOG_EVENT(LEVEL_INFO, "config.reloaded", NULL, LOG_TEXT("file", control->config_file));
    engine_reconfigure(control->engine, config);
    said_configure(control->engine);
    log_set(config->log.level, config->log.format);
    log_attach(control->engine->loop, (size_t)config->log.buffer);
    return 0;
}

int control_reload(struct control *control, char error[CONFIG_ERROR_MAX])
{
    service_reloading(control->service);
    int failed = reload(control, error);
    service_ready(control->service, failed ? "serving; the last reload was refused" : "serving");
    return failed;
}

void control_shutdown(struct control *control)
{
    service_stopping(control->service, control->engine->config->shutdown_grace);
    engine_shutdown(control->engine);
}

static void run_reload(struct call *call)
{
    char error[CONFIG_ERROR_MAX];
    if (control_reload(call->control, error))
        reply_error(call, 400, "bad_request", "%s\nthe old configuration stays", error);
    else
        reply_rollouts(call, ALL_MODELS);
}

/* `explain`: only what it would wait for.  `now`: what is in flight is refused, as by a second
 * one. */
static void run_shutdown(struct call *call)
{
    struct control *control = call->control;
    if (json_is_true(json_object_get(call->in, "explain"))) {
        reply_take(call, 200, leave_json(control->engine));
        return;
    }
    bool hastens =
        json_is_true(json_object_get(call->in, "now")) && !control->engine->shutting_down;
    reply_ok(call);
    control_shutdown(control);
    if (hastens)
        control_shutdown(control);
}

static void run_why(struct call *call)
{
    const struct engine *engine = call->control->engine;
    json_t *slots = json_array();
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->model->index == call->model &&
            (call->slot == CORE_ALL_SLOTS || call->slot == i))
            json_array_append_new(slots, why_json(engine, engine->slots[i]));
    reply_take(call, 200, json_pack("{s:o}", "slots", slots));
}

/* Answered when what it names is so. */
static void run_wait(struct call *call)
{
    static const char *const NAMES[] = {
        [WAIT_READY] = "ready", [WAIT_STOPPED] = "stopped", [WAIT_IDLE] = "idle"};
    const char *wanted = json_string_value(json_object_get(call->in, "for"));
    for (unsigned i = 0; i < HASUP_LEN(NAMES); i++) {
        if (!wanted || strcmp(NAMES[i], wanted))
            continue;
        if (waits_add(call->control->waits, call->client, call->id, call->model, call->slot,
                      (enum wait_for)i))
            reply_error(call, 429, "overloaded", "%d commands wait already", WAITS_MAX);
        return;
    }
    reply_error(call, 400, "bad_request", "\"for\" is ready, stopped or idle");
}

static void run_upgrade(struct call *call)
{
    struct control *control = call->control;
    json_t *binary = json_object_get(call->in, "binary");
    char why[CONFIG_ERROR_MAX];
    struct follower *follower = follower_add(call);
    if (!follower)
        return;
    follower->what = AWAITS_UPGRADE;
    if (!control->upgrade(control->upgrade_context, json_string_value(binary), why))
        return;
    follower_remove(control, &control->followers);
    reply_error(call, 409, "not_upgraded", "%s", why);
}

static const struct verb VERBS[] = {
    {"status", MAY_TARGET, false, run_status, 0, NULL},
    {"start", NEEDS_TARGET, true, run_command, COMMAND_START, NULL},
    {"stop", NEEDS_TARGET, true, run_command, COMMAND_STOP, NULL},
    {"restart", NEEDS_TARGET, true, run_restart, 0, NULL},
    {"canary", NEEDS_TARGET, true, run_canary, 0, NULL},
    {"promote", NEEDS_TARGET, true, run_decision, COMMAND_PROMOTE, NULL},
    {"abort", NEEDS_TARGET, true, run_decision, COMMAND_ABORT, NULL},
    {"drain", NEEDS_TARGET, true, run_command, COMMAND_DRAIN, NULL},
    {"scale", NEEDS_TARGET, true, run_scale, 0, NULL},
    {"reload", NO_TARGET, true, run_reload, 0, NULL},
    {"events", MAY_TARGET, false, run_events, 0, NULL},
    {"logs", NO_TARGET, false, run_logs, 0, NULL},
    {"checkpoint", NEEDS_TARGET, false, run_checkpoint, 0, NULL},
    {"requests", NO_TARGET, false, run_requests, 0, requests_list},
    {"requests show", NO_TARGET, false, run_requests, 0, requests_show},
    {"requests drop", NO_TARGET, false, run_requests, 0, requests_drop},
    {"requests letters", NO_TARGET, false, run_requests, 0, requests_letters},
    {"requests retry", NO_TARGET, true, run_requests, 0, requests_retry},
    {"upgrade", NO_TARGET, true, run_upgrade, 0, NULL},
    {"config", NO_TARGET, false, run_config, 0, NULL},
    {"why", NEEDS_TARGET, false, run_why, 0, NULL},
    {"wait", NEEDS_TARGET, false, run_wait, 0, NULL},
    {"version", NO_TARGET, false, run_version, 0, NULL},
    {"shutdown", NO_TARGET, false, run_shutdown, 0, NULL},
};

/* ---- finding what is meant ---- */

/* Names the slots that its model has. */
static void no_slot(struct call *call, const char *name)
{
    const struct engine *engine = call->control->engine;
    const char *first = NULL, *last = NULL;
    unsigned count = 0;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        const struct slot *slot = engine->slots[i];
        if (!slot || slot->model->index != call->model || slot->role != ROLE_WORKER)
            continue;
        first = first ? first : slot->name;
        last = slot->name;
        count++;
    }
    if (count)
        reply_error(call, 404, "not_found", "there is no slot \"%.200s\"; did you mean %s%s%s?",
                    name, first, count > 2 ? " to " : " or ", count > 1 ? last : "its model");
    else
        reply_error(call, 404, "not_found", "there is no slot \"%.200s\"; its model has none",
                    name);
}

/* "model" or "model/ordinal". */
static bool find_target(struct call *call)
{
    struct engine *engine = call->control->engine;
    json_t *target = json_object_get(call->in, "target");
    const char *name = json_is_string(target) ? json_string_value(target) : "";
    size_t len = strcspn(name, "/");
    int model = engine_model(engine, name, len);
    if (model < 0) {
        char text[ENGINE_REASON];
        engine_no_model(engine, name, len, text);
        reply_error(call, 404, "not_found", "%s", text);
        return false;
    }
    call->model = (uint32_t)model;
    call->slot = CORE_ALL_SLOTS;
    if (!name[len])
        return true;
    const char *digits = name + len + 1;
    bool number = *digits && strspn(digits, "0123456789") == strlen(digits) && strlen(digits) < 10;
    struct slot *slot =
        number ? engine_slot(engine, call->model, (uint32_t)strtoul(digits, NULL, 10)) : NULL;
    if (!slot)
        no_slot(call, name);
    else
        call->slot = slot->index;
    return slot != NULL;
}

/* A verb that may have a target has one where it is named. */
static bool has_target(const struct call *call)
{
    return call->verb->target == NEEDS_TARGET ||
           (call->verb->target == MAY_TARGET && json_object_get(call->in, "target"));
}

void control_handle(struct control *control, struct unix_client *client, uint64_t id,
                    const uint8_t *text, size_t len)
{
    struct call call = {.control = control, .client = client, .id = id};
    json_error_t error;
    call.in = json_loadb((const char *)text, len, 0, &error);
    json_t *name = json_object_get(call.in, "verb");
    if (!json_is_string(name)) {
        reply_error(&call, 400, "bad_request", "a command is a JSON object with a \"verb\"%s%s",
                    call.in ? "" : ": ", call.in ? "" : error.text);
    } else {
        for (size_t i = 0; i < HASUP_LEN(VERBS) && !call.verb; i++)
            if (strcmp(VERBS[i].name, json_string_value(name)) == 0)
                call.verb = &VERBS[i];
        if (!call.verb)
            reply_error(&call, 400, "bad_request", "there is no verb \"%.100s\"",
                        json_string_value(name));
        else if (control->engine->shutting_down && call.verb->changes)
            reply_error(&call, 503, "unavailable", "hasupd is stopping");
        else if (!has_target(&call) || find_target(&call))
            call.verb->run(&call);
    }
    json_decref(call.in);
}

/* ---- upgrades ---- */

void control_set_upgrade(struct control *control,
                         int (*ask)(void *context, const char *binary, char why[CONFIG_ERROR_MAX]),
                         void *context)
{
    control->upgrade = ask;
    control->upgrade_context = context;
}

/* Tells who waits for it. */
static void upgrade_ended(struct control *control, uint32_t status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    for (struct follower **at = &control->followers; *at;) {
        struct follower follower = **at;
        if (follower.what != AWAITS_UPGRADE) {
            at = &(*at)->next;
            continue;
        }
        follower_remove(control, at);
        unix_client_reply(follower.client, follower.id, text ? status : 500, text ? text : "{}");
        at = &control->followers; /* the reply may have closed a client */
    }
    free(text);
    json_decref(json);
}

void control_upgrade_failed(struct control *control, const char *why)
{
    upgrade_ended(control, 409,
                  json_pack("{s:{s:s, s:o}}", "error", "code", "not_upgraded", "message",
                            json_words(why)));
}

void control_upgraded(struct control *control, const char *version, hasup_ns pause)
{
    double ms = (double)pause / HASUP_MS;
    LOG_EVENT(LEVEL_INFO, "hasupd.upgraded", HASUP_VERSION, LOG_TEXT("from", version),
              LOG_NS("pause", pause), LOG_INT("requests", control->engine->requests.count));
    upgrade_ended(control, 200,
                  json_pack("{s:b, s:s, s:s, s:f}", "ok", 1, "from", version, "to", HASUP_VERSION,
                            "pause_ms", ms));
}

const char *control_holds(const struct control *control)
{
    for (const struct follower *f = control->followers; f; f = f->next)
        if (f->what != FOLLOWS_EVENTS && f->what != AWAITS_UPGRADE)
            return "a command of hasupctl waits for its end";
    if (waits_any(control->waits))
        return "a hasupctl wait waits";
    return readers_wait(control->readers) ? "log files are being opened anew" : NULL;
}

static struct follower *follower_loaded(struct control *control, struct unix_client *client)
{
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower)
        return NULL;
    follower->client = client;
    follower->next = control->followers;
    control->followers = follower;
    control->follower_count++;
    return follower;
}

void control_carry(struct carry *carry, struct control *control, struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    struct follower *follower = control->followers;
    for (struct follower *f = follower; f && !codec->loading; f = f->next)
        count += f->client == client;
    E(count, FOLLOWERS_MAX);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        while (!codec->loading && follower->client != client)
            follower = follower->next;
        if (codec->loading && !(follower = follower_loaded(control, client))) {
            codec_fail(codec);
            return;
        }
        V(follower->id);
        E(follower->what, AWAITS_UPGRADE);
        carry_text(carry, follower->slot, sizeof follower->slot);
        V(follower->lost);
        follower = follower->next;
    }
    readers_carry(carry, control->readers, client);
}

void control_base_carry(struct carry *carry, struct control *control)
{
    CARRY(carry);
    codec_begin(codec);
    V(control->started);
    history_carry(carry, control->history);
    events_carry(carry, control->events);
    printed_carry(carry, control->engine->printed.lines);
    codec_end(codec);
}

/* ---- life ---- */

struct control *control_new(struct engine *engine, const char *config_file,
                            struct service *service)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        return NULL;
    control->engine = engine;
    control->service = service;
    control->started = loop_now(engine->loop);
    control->config_file = strdup(config_file);
    control->waits = waits_new(engine);
    control->events = events_new(RING_BYTES, event_added, control);
    control->history = control->events ? history_new(engine, control->events) : NULL;
    control->readers = readers_new(engine);
    if (!control->config_file || !control->history || !control->readers || !control->waits) {
        control_free(control);
        return NULL;
    }
    log_tap(events_tap, control->events);
    engine->checkpoint_done = checkpoint_done;
    engine->checkpoint_context = control;
    engine->rollout_done = rollout_done;
    engine->rollout_context = control;
    return control;
}

void control_end(struct control *control)
{
    history_end(control->history);
}

void control_free(struct control *control)
{
    if (!control)
        return;
    log_tap(NULL, NULL);
    while (control->followers)
        follower_remove(control, &control->followers);
    readers_free(control->readers);
    waits_free(control->waits);
    history_free(control->history);
    events_free(control->events);
    free(control->config_file);
    free(control);
}
