/*
 * control_awaited.c: the verbs that are answered when what they began has ended: checkpoints,
 * rollouts, what the journal says of requests, an upgrade.  Decides nothing: it posts commands to
 * the engine and hears of their ends.
 */
#include "supervisor/control_own.h"

#include <stdio.h>
#include <stdlib.h>

#define NO_MODEL (UINT32_MAX - 1)

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

void run_checkpoint(struct call *call)
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
                                      json_words(model->rollout.last ? model->rollout.last : "")));
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

void reply_rollouts(struct call *call, uint32_t model)
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

void run_canary(struct call *call)
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
void run_decision(struct call *call)
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

void run_restart(struct call *call)
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

void run_requests(struct call *call)
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

/* ---- upgrades ---- */

void run_upgrade(struct call *call)
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
    upgrade_ended(
        control, 409,
        json_pack("{s:{s:s, s:o}}", "error", "code", "not_upgraded", "message", json_words(why)));
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

/* ---- who tells ---- */

void awaited_init(struct control *control)
{
    control->engine->checkpoint_done = checkpoint_done;
    control->engine->checkpoint_context = control;
    control->engine->rollout_done = rollout_done;
    control->engine->rollout_context = control;
}
