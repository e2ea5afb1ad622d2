/*
 * control.c: the verbs of hasupctl, as a table, and what is meant by a command.  A verb that is
 * wrong gets an error that says what would be right; nothing here decides about workers: it posts
 * commands to the engine.
 */
#include "supervisor/control_own.h"

#include "supervisor/carry.h"
#include "supervisor/death.h"
#include "supervisor/event_readers.h"
#include "supervisor/history.h"
#include "supervisor/leave.h"
#include "supervisor/said.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { RING_BYTES = 64 * 1024 };

/* ---- answers ---- */

void reply_take(struct call *call, uint32_t status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    unix_client_reply(call->client, call->id, text ? status : 500, text ? text : "{}");
    free(text);
    json_decref(json);
}

HASUP_PRINTF(4, 5)
void reply_error(struct call *call, uint32_t status, const char *code, const char *format, ...)
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

void reply_ok(struct call *call)
{
    reply_take(call, 200, json_pack("{s:b}", "ok", 1));
}

/* ---- the short verbs ---- */

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
    if (!config || !engine_can_take(control->engine, config, error)) {
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

static void reply_wrong(struct call *call, uint32_t wrong, const char *error)
{
    if (wrong)
        reply_error(call, wrong,
                    wrong == 404   ? "not_found"
                    : wrong == 429 ? "overloaded"
                                   : "bad_request",
                    "%s", error);
}

static void run_events(struct call *call)
{
    char error[CONFIG_ERROR_MAX];
    uint32_t wrong = event_readers_add(call->control->event_readers, call->client, call->id,
                                       call->in, error);
    reply_wrong(call, wrong, error);
}

static void run_logs(struct call *call)
{
    char error[CONFIG_ERROR_MAX];
    struct readers *readers = call->control->readers;
    uint32_t wrong = json_is_true(json_object_get(call->in, "reopen"))
                         ? readers_reopen(readers, call->client, call->id, error)
                         : readers_add(readers, call->client, call->id, call->in, error);
    reply_wrong(call, wrong, error);
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

/* "model" or "model/ordinal". */
static bool find_target(struct call *call)
{
    struct engine *engine = call->control->engine;
    json_t *target = json_object_get(call->in, "target");
    const char *name = json_is_string(target) ? json_string_value(target) : "";
    size_t len = strcspn(name, "/");
    int model = engine_named(engine, name, len);
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
    if (slot) {
        call->slot = slot->index;
        return true;
    }
    char text[ENGINE_REASON];
    engine_no_slot(engine, call->model, name, text);
    reply_error(call, 404, "not_found", "%s", text);
    return false;
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

/* ---- life ---- */

struct control *control_new(struct engine *engine, const char *config_file, struct service *service)
{
    struct control *control = calloc(1, sizeof *control);
    if (!control)
        return NULL;
    control->engine = engine;
    control->service = service;
    control->started = loop_now(engine->loop);
    control->config_file = strdup(config_file);
    control->waits = waits_new(engine);
    control->events = events_new(RING_BYTES, followers_event, control);
    control->history = control->events ? history_new(engine, control->events) : NULL;
    control->event_readers = control->events ? event_readers_new(control->events) : NULL;
    control->readers = readers_new(engine);
    if (!control->config_file || !control->history || !control->event_readers ||
        !control->readers || !control->waits) {
        control_free(control);
        return NULL;
    }
    log_tap(events_tap, control->events);
    awaited_init(control);
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
    event_readers_free(control->event_readers);
    readers_free(control->readers);
    waits_free(control->waits);
    history_free(control->history);
    events_free(control->events);
    free(control->config_file);
    free(control);
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
