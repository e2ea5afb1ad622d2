/*
 * rollouts.c: the versions of a model: which configuration stands behind each number that the core
 * knows, and what is told of a rollout, while it goes on and afterwards.  Owns the labels of
 * versions, which live as long as the engine, and the text about each model's last rollout.
 * Decides nothing: which version a slot runs, and when one goes, is the core's.
 */
#include "supervisor/engine.h"
#include "supervisor/sockets.h"

#include <stdio.h>
#include <stdlib.h>

enum { LAST_LINES = 3 };

struct label {
    struct label *next;
    char text[];
};

/* ---- versions ---- */

/* A version has one for as long as somebody could have been answered by it. */
const char *engine_label(struct engine *engine, const char *text)
{
    struct label *label = engine->labels;
    while (label && strcmp(label->text, text) != 0)
        label = label->next;
    if (!label && (label = malloc(sizeof *label + strlen(text) + 1))) {
        strcpy(label->text, text);
        label->next = engine->labels;
        engine->labels = label;
    }
    return label ? label->text : "";
}

void labels_free(struct engine *engine)
{
    while (engine->labels) {
        struct label *label = engine->labels;
        engine->labels = label->next;
        free(label);
    }
}

static void version_put(struct engine *engine, struct model *model, uint32_t number,
                        const struct config_model *config)
{
    struct model_version *place = NULL;
    for (size_t i = 0; i < HASUP_LEN(model->versions); i++) {
        struct model_version *version = &model->versions[i];
        if (version->number == number || (!version->number && !place))
            place = version;
    }
    place->number = number; /* what its workers said stays, where it is known already */
    place->config = config;
    place->label = engine_label(engine, config->version);
    if (number == model->version)
        model->config = config;
}

const struct model_version *model_version(const struct model *model, uint32_t number)
{
    for (size_t i = 0; i < HASUP_LEN(model->versions); i++)
        if (number && model->versions[i].number == number)
            return &model->versions[i];
    return NULL;
}

void model_version_describe(struct model *model, uint32_t number, const uint8_t *metadata,
                            size_t len)
{
    char *copy = malloc(len);
    for (size_t i = 0; i < HASUP_LEN(model->versions) && copy; i++) {
        struct model_version *version = &model->versions[i];
        if (version->number != number)
            continue;
        memcpy(copy, metadata, len);
        free(version->metadata);
        version->metadata = copy;
        version->metadata_len = len;
        return;
    }
    free(copy);
}

const struct model_version *model_speaker(const struct model *model)
{
    const struct model_version *version = model_version(model, model->version);
    return version && version->metadata ? version : model_version(model, model->other);
}

static void version_free(struct model_version *version)
{
    free(version->metadata);
    *version = (struct model_version){0};
}

void model_versions_free(struct model *model)
{
    for (size_t i = 0; i < HASUP_LEN(model->versions); i++)
        version_free(&model->versions[i]);
    free(model->rollout.because);
    free(model->rollout.last);
    model->rollout.because = model->rollout.last = NULL;
}

void rollout_note(char **noted, const char *text)
{
    free(*noted);
    *noted = *text ? strdup(text) : NULL;
}

/* The model's is the core's now; what is neither that nor the other is needed no more. */
static void versions_settle(struct model *model, uint32_t number, uint32_t other)
{
    const struct model_version *version = model_version(model, number);
    model->version = number;
    model->other = other;
    if (version)
        model->config = version->config;
    for (size_t i = 0; i < HASUP_LEN(model->versions); i++)
        if (model->versions[i].number != number && model->versions[i].number != other &&
            model->versions[i].number != model->coming)
            version_free(&model->versions[i]);
}

static void after_add(const struct engine *engine, struct model_policy *policy, char *const *names,
                      bool required)
{
    for (; names && *names; names++) {
        int index = engine_named(engine, *names, strlen(*names));
        bool known = index < 0 || policy->after.count == CORE_AFTER;
        for (uint32_t i = 0; i < policy->after.count && !known; i++)
            known = policy->after.list[i].model == (uint32_t)index;
        if (known) /* a configuration that was replaced may name who is there no more */
            continue;
        policy->after.list[policy->after.count].model = (uint32_t)index;
        policy->after.list[policy->after.count++].required = required;
    }
}

/* What comes before it is no version's, but the file's, in which nothing goes round in a circle; of
 * several files together nobody knows that.  What the file has no more keeps its own. */
static void after_fill(const struct engine *engine, const struct config_model *config,
                       struct model_policy *policy)
{
    const struct config_model *file = config_model_named(engine->config, config->name);
    config = file ? file : config;
    after_add(engine, policy, config->requires, true);
    after_add(engine, policy, config->after, false);
}

void model_policy_meant(const struct engine *engine, const struct model *model,
                        const struct config_model *config, struct model_policy *policy)
{
    *policy = config->policy;
    policy->workers = model->workers;
    if (policy->kind == KIND_ONESHOT && policy->rollout.progress_deadline) /* its task's own time */
        policy->rollout.progress_deadline += policy->timeouts.start;
    after_fill(engine, config, policy);
}

void model_tell(struct engine *engine, struct model *model, const struct config_model *config,
                struct event *event)
{
    struct model_policy policy;
    model_policy_meant(engine, model, config, &policy);
    event->type = EVENT_MODEL_SET;
    event->model = model->index;
    event->model_set.policy = &policy;
    model->coming = event->model_set.version;
    version_put(engine, model, model->coming, config);
    sockets_prepare(engine, config);
    engine_post(engine, event);
    model->coming = 0;
    versions_settle(model, model->version, model->other); /* it may have been turned down */
}

/* ---- what is told ---- */

static const char *why_text(const struct model_policy *policy, enum rollout_why why,
                            char text[ENGINE_REASON])
{
    switch (why) {
    case ROLLOUT_FINE:
    case ROLLOUT_RECYCLES: return "";
    case ROLLOUT_LATE:
        snprintf(text, ENGINE_REASON,
                 "no further worker was ready within rollout.progress_deadline (%lld ms)",
                 (long long)(policy->rollout.progress_deadline / HASUP_MS));
        return text;
    case ROLLOUT_BROKEN:
        if (policy->revival == REVIVE_NEVER)
            return "its start failed, and it is not to be tried again (restart.when)";
        snprintf(text, ENGINE_REASON, "%u starts failed in a row (restart.start_limit)",
                 policy->restart.start_limit);
        return text;
    case ROLLOUT_CRASHES:
        return "workers died one after the other, of different requests and with none answered "
               "between";
    case ROLLOUT_ERRORS:
        snprintf(text, ENGINE_REASON,
                 "its requests fail more often than the others, by more than "
                 "rollout.abort_error_rate (%u percent points)",
                 policy->rollout.abort_error_rate);
        return text;
    case ROLLOUT_STATEFUL:
        return "its workers keep state, which belongs to a slot; there is no canary of that";
    case ROLLOUT_NO_ROOM: return "there is no slot left for it (limits.slots)";
    case ROLLOUT_ORDERED: return "ordered by hasupctl abort";
    case ROLLOUT_STOPPED: return "the model was stopped";
    case ROLLOUT_REPLACED: return "another version is rolled out";
    }
    return "";
}

/* Appends what the slot's last worker left behind, or the present one has said so far. */
static void tell_culprit(const struct slot *slot, char *text, size_t room)
{
    const char *said[CAPTURE_TAIL];
    size_t count = 0, used = strlen(text);
    const struct worker *worker = slot->worker;
    const bool runs = worker && worker->capture && !worker->exit.reaped;
    if (runs)
        count = capture_tail(worker->capture, said);
    else
        for (; count < slot->death.tail_count; count++)
            said[count] = slot->death.tail[count];
    if (runs || slot->death.reason[0])
        used += (size_t)snprintf(text + used, room - used, "; %s: %.250s", slot->name,
                                 runs ? "not ready yet" : slot->death.reason);
    const size_t first = count > LAST_LINES ? count - LAST_LINES : 0;
    for (size_t i = first; i < count && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%.200s",
                                 i == first ? "; it said: " : " | ", said[i]);
}

enum outcome { GOES_ON, WENT_WELL, WENT_WRONG };

/* The event's name, and what it means; the sentence begins in `text`. */
static const char *tell_begin(const struct action *action, const char *now, const char *before,
                              enum outcome *outcome, char *text, size_t room)
{
    const enum rollout_state from = action->rollout.from, to = action->rollout.to;
    const enum rollout_why why = action->rollout.why;
    *outcome = GOES_ON;
    if (to == ROLLOUT_CANARY) {
        snprintf(text, room, "version %s is tried beside %s", before, now);
        return "rollout.canary";
    }
    if (to == ROLLOUT_ROLLING) {
        snprintf(text, room, "%s %s, one worker after the other",
                 from == ROLLOUT_CANARY ? "promoted: to version"
                 : *before              ? "to version"
                                        : "restart of version",
                 now);
        return from == ROLLOUT_CANARY ? "rollout.promoted" : "rollout.started";
    }
    if (to == ROLLOUT_REVERTING) {
        snprintf(text, room, "version %s goes, %s comes back: ", before, now);
        return "rollout.rolling_back";
    }
    *outcome = why == ROLLOUT_FINE ? WENT_WELL : WENT_WRONG;
    if (why == ROLLOUT_FINE) {
        snprintf(text, room, "every worker runs version %s", now);
        return "rollout.done";
    }
    if (from == ROLLOUT_CANARY)
        snprintf(text, room, "the canary, version %s, is gone, %s goes on: ", before, now);
    else if (from == ROLLOUT_REVERTING)
        snprintf(text, room, "back at version %s: ", now);
    else
        snprintf(text, room, "version %s is left where it is: ", now);
    return from == ROLLOUT_CANARY      ? "rollout.aborted"
           : from == ROLLOUT_REVERTING ? "rollout.rolled_back"
                                       : "rollout.given_up";
}

/* The same of a worker that is recycled while another stands in for it, which is worth a word only
 * where nobody could. */
static const char *tell_recycling(const struct action *action, enum outcome *outcome, char *text,
                                  size_t room)
{
    const bool begins = action->rollout.to == ROLLOUT_ROLLING;
    *outcome = GOES_ON;
    if (action->rollout.why != ROLLOUT_RECYCLES) {
        snprintf(text, room, "who is to be recycled stays for now: ");
        return "recycle.put_off";
    }
    snprintf(text, room,
             begins ? "one more starts, to stand in for who is recycled"
                    : "who was recycled is back, and who stood in leaves");
    return begins ? "recycle.started" : "recycle.done";
}

/* A version that nobody knows has no label. */
static struct model_version version_or_none(const struct model *model, uint32_t number)
{
    const struct model_version *version = model_version(model, number);
    return version ? *version : (struct model_version){.config = model->config, .label = ""};
}

/* What is said; true: with it the rollout has ended. */
static bool tell(struct engine *engine, struct model *model, const struct action *action,
                 const struct model_version *other)
{
    const enum rollout_state from = action->rollout.from, to = action->rollout.to;
    const enum rollout_why why = action->rollout.why;
    const struct model_version now = version_or_none(model, action->rollout.version);
    const struct slot *culprit =
        action->slot < engine->config->limits.slots ? engine->slots[action->slot] : NULL;
    const bool other_failed = to == ROLLOUT_REVERTING || from == ROLLOUT_CANARY;
    char text[ROLLOUT_TEXT], reason[ENGINE_REASON];
    enum outcome outcome;
    const bool recycles =
        why == ROLLOUT_RECYCLES || (model->rollout.recycles && to == ROLLOUT_NONE);
    const char *event =
        recycles ? tell_recycling(action, &outcome, text, sizeof text)
                 : tell_begin(action, now.label, other->label, &outcome, text, sizeof text);
    model->rollout.recycles = why == ROLLOUT_RECYCLES && to == ROLLOUT_ROLLING;
    size_t used = strlen(text);
    if (from == ROLLOUT_REVERTING) { /* why is known since it began */
        snprintf(text + used, sizeof text - used, "%s",
                 model->rollout.because ? model->rollout.because : "");
    } else {
        const struct config_model *judged = other_failed ? other->config : now.config;
        snprintf(text + used, sizeof text - used, "%s", why_text(&judged->policy, why, reason));
        if (culprit)
            tell_culprit(culprit, text, sizeof text);
        rollout_note(&model->rollout.because, text + used);
    }
    bool meant = why == ROLLOUT_FINE || why == ROLLOUT_STOPPED || why == ROLLOUT_REPLACED;
    LOG_EVENT(why == ROLLOUT_RECYCLES ? LEVEL_DEBUG
              : meant                 ? LEVEL_INFO
              : recycles              ? LEVEL_WARNING
                                      : LEVEL_ERROR,
              event, text, LOG_TEXT("model", model->config->name), LOG_TEXT("version", now.label));
    if (outcome == GOES_ON)
        return false;
    rollout_note(&model->rollout.last, text);
    model->rollout.failed = outcome == WENT_WRONG;
    model->rollout.wall_ns = loop_wall_now();
    return true;
}

/* Which configuration the file has and the model has not: a canary's, and one that was taken back.
 */
static void note_tried(struct model *model, const struct action *action,
                       const struct model_version *other)
{
    const enum rollout_state from = action->rollout.from, to = action->rollout.to;
    if (to == ROLLOUT_CANARY || to == ROLLOUT_REVERTING ||
        (from == ROLLOUT_CANARY && to == ROLLOUT_NONE))
        model->rollout.tried = other->config->fingerprint;
    else if (to == ROLLOUT_ROLLING && action->rollout.why != ROLLOUT_RECYCLES)
        model->rollout.tried = 0;
}

void rollout_perform(struct engine *engine, const struct action *action)
{
    struct model *model = &engine->models[action->model];
    uint32_t number = action->rollout.other;
    if (!number) /* the other one is gone: it was the model's, or its other one */
        number = model->version != action->rollout.version ? model->version : model->other;
    const struct model_version other = version_or_none(model, number);
    bool ended = tell(engine, model, action, &other);
    note_tried(model, action, &other);
    versions_settle(model, action->rollout.version, action->rollout.other);
    versions_note(engine);
    engine_drop_configs(engine);
    if (action->rollout.to == ROLLOUT_REVERTING || action->rollout.to == ROLLOUT_NONE)
        sockets_prepare(engine, model->config); /* what was tried may have set them otherwise */
    if (ended && engine->rollout_done)
        engine->rollout_done(engine->rollout_context, model);
}

const char *rollout_state_name(enum rollout_state state)
{
    switch (state) {
    case ROLLOUT_NONE: return "none";
    case ROLLOUT_ROLLING: return "rolling";
    case ROLLOUT_CANARY: return "canary";
    case ROLLOUT_REVERTING: return "rolling_back";
    }
    return "none";
}
