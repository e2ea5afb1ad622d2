/*
 * models.c: the configuration made so: models and programs added, changed, removed.  One keeps its
 * index while it lives; one that is removed drains first.  What changed is told to the core, which
 * restarts workers one at a time.  All that come at once have their indices before the core hears
 * of the first: who starts after another names it.
 */
#include "supervisor/engine.h"
#include "supervisor/letters.h"
#include "supervisor/sockets.h"

#include <stdio.h>
#include <stdlib.h>

/* One that changes nothing about the workers that run has the number that they have. */
static void model_set(struct engine *engine, struct model *model, const struct config_model *config,
                      bool restart)
{
    uint32_t number = restart ? ++model->newest : model->version;
    model_tell(engine, model, config,
               &(struct event){.model_set = {.restart = restart, .version = number}});
}

/* The configuration's check, or engine_can_take, has seen to it that an index is free. */
static void model_place(struct engine *engine, const struct config_model *config)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        struct model *model = &engine->models[i];
        if (model->used)
            continue;
        *model = (struct model){.index = i,
                                .used = true,
                                .config = config,
                                .workers = config->policy.workers};
        return;
    }
    abort(); /* a model that is configured and does not exist would be refused for ever */
}

/* The core has not heard of it. */
static bool model_is_new(const struct model *model)
{
    return model->used && !model->newest;
}

static void models_begin(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        struct model *model = &engine->models[i];
        if (!model_is_new(model))
            continue;
        model->version = model->newest = 1;
        model_set(engine, model, model->config, false);
        letters_model_added(engine, model);
    }
}

static struct model *model_named(struct engine *engine, const char *name)
{
    int index = engine_named(engine, name, strlen(name));
    return index < 0 ? NULL : &engine->models[index];
}

void models_add_missing(struct engine *engine)
{
    char error[CONFIG_ERROR_MAX];
    if (!engine_can_take(engine, engine->config, error)) {
        LOG_EVENT(LEVEL_ERROR, "config.refused", error, LOG_TEXT("file", engine->config->file));
        return;
    }
    for (size_t i = 0; i < engine->config->model_count; i++)
        if (!model_named(engine, engine->config->models[i].name))
            model_place(engine, &engine->config->models[i]);
    models_begin(engine);
}

void engine_no_model(const struct engine *engine, const char *name, size_t len,
                     char text[ENGINE_REASON])
{
    char asked[64]; /* as long as a name can be */
    unsigned best = UINT32_MAX;
    const char *near = NULL;
    bool programs = false;
    snprintf(asked, sizeof asked, "%.*s", (int)(len < sizeof asked ? len : sizeof asked - 1), name);
    for (size_t i = 0; i < engine->config->model_count; i++) {
        const char *known = engine->config->models[i].name;
        unsigned distance = config_distance(asked, known);
        programs |= config_is_program(&engine->config->models[i]);
        if (distance * 3 <= strlen(known) + 1 && distance < best) {
            best = distance;
            near = known;
        }
    }
    if (engine_named(engine, asked, strlen(asked)) >= 0) { /* only a door does not find it */
        snprintf(text, ENGINE_REASON, "\"%s\" is a program, which takes no requests", asked);
        return;
    }
    const char *kind = programs ? "model or program" : "model";
    if (near)
        snprintf(text, ENGINE_REASON, "there is no %s \"%s\"; did you mean \"%s\"?", kind, asked,
                 near);
    else
        snprintf(text, ENGINE_REASON, "there is no %s \"%s\"; hasupctl status lists them", kind,
                 asked);
}

/* Names the slots that its model has. */
void engine_no_slot(const struct engine *engine, uint32_t model, const char *name,
                    char text[ENGINE_REASON])
{
    const char *first = NULL, *last = NULL;
    unsigned count = 0;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        const struct slot *slot = engine->slots[i];
        if (!slot || slot->model->index != model || slot->role != ROLE_WORKER)
            continue;
        first = first ? first : slot->name;
        last = slot->name;
        count++;
    }
    if (count)
        snprintf(text, ENGINE_REASON, "there is no slot \"%.80s\"; did you mean %s%s%s?", name,
                 first, count > 2 ? " to " : " or ", count > 1 ? last : "its model");
    else
        snprintf(text, ENGINE_REASON, "there is no slot \"%.96s\"; its model has none", name);
}

/* Slots that find no descriptor are starts that fail, which would not say what to do. */
static void descriptors_check(const struct engine *engine)
{
    enum { OTHERS = 64 /* hasupd's own, a few clients, and slots that stand in for others */ };
    const uint64_t have = processes_descriptors();
    uint64_t need = OTHERS;
    char text[ENGINE_REASON];
    for (size_t i = 0; i < engine->config->model_count; i++) {
        const struct model_policy *policy = &engine->config->models[i].policy;
        const uint64_t slots = (uint64_t)policy->workers + policy->spares + policy->preload;
        need += slots * (processes_each(engine->processes) + (policy->timeouts.watchdog != 0));
    }
    if (need <= have)
        return;
    snprintf(text, sizeof text,
             "the slots need %llu descriptors and hasupd may have %llu: some cannot start; raise "
             "its hard limit (LimitNOFILE= of its unit, --ulimit nofile= of its container, "
             "ulimit -Hn)",
             (unsigned long long)need, (unsigned long long)have);
    LOG_EVENT(LEVEL_ERROR, "descriptors.few", text, LOG_INT("needed", (int64_t)need),
              LOG_INT("limit", (int64_t)have));
}

void engine_start(struct engine *engine)
{
    descriptors_check(engine);
    engine->started = true;
    noted_begin(engine);
    recovery_begin(engine);
    struct versions *versions = versions_read(engine);
    for (size_t i = 0; i < engine->config->model_count; i++)
        model_place(engine, versions_instead(engine, versions, &engine->config->models[i]));
    models_begin(engine);
    versions_resume(engine, versions);
    recovery_run(engine);
}

bool config_holds(const struct config *config, const struct config_model *model)
{
    return model >= config->models && model < config->models + config->model_count;
}

static bool config_is_needed(const struct engine *engine, const struct config *config)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        if (!model->used)
            continue;
        if (config_holds(config, model->config))
            return true;
        for (size_t k = 0; k < HASUP_LEN(model->versions); k++)
            if (model->versions[k].number && config_holds(config, model->versions[k].config))
                return true;
    }
    return false;
}

void engine_drop_configs(struct engine *engine)
{
    sockets_sweep(engine);
    for (struct config **at = &engine->retired; *at;) {
        struct config *config = *at;
        if (config_is_needed(engine, config)) {
            at = &config->next;
            continue;
        }
        *at = config->next;
        config_free(config);
    }
}

static void config_retire(struct engine *engine, struct config *config)
{
    config->next = engine->retired;
    engine->retired = config;
    engine_drop_configs(engine);
}

/* A model that runs cannot become a program: what it has in hand is of another kind. */
static bool kinds_stay(struct engine *engine, const struct config *config,
                       char error[CONFIG_ERROR_MAX])
{
    static const char *const KINDS[] = {"a model", "a program", "a oneshot"};
    for (size_t i = 0; i < config->model_count; i++) {
        const struct config_model *now = &config->models[i];
        const struct model *model = model_named(engine, now->name);
        if (!model || model->config->policy.kind == now->policy.kind)
            continue;
        snprintf(error, CONFIG_ERROR_MAX,
                 "%s:%u:%u: %s.%s: it runs as %s, which cannot become %s: give it another name, or "
                 "reload without it first",
                 config->file, now->line, now->column, config_section_of(now), now->name,
                 KINDS[model->config->policy.kind], KINDS[now->policy.kind]);
        return false;
    }
    return true;
}

/* A model that is removed keeps its index until it has drained. */
static bool has_room(struct engine *engine, const struct config *config,
                     char error[CONFIG_ERROR_MAX])
{
    uint32_t used = 0, added = 0, leaving = 0, most = engine->config->limits.models;
    for (uint32_t i = 0; i < most; i++) {
        const struct model *model = &engine->models[i];
        used += model->used;
        leaving += model->used &&
                   (model->removing || !config_model_named(config, model->config->name));
    }
    for (size_t i = 0; i < config->model_count; i++)
        added += !model_named(engine, config->models[i].name);
    if (used + added <= most)
        return true;
    snprintf(error, CONFIG_ERROR_MAX,
             "limits.models: %u new models find no room: hasupd was started for %u models and has "
             "%u, of which %u leave and still finish what they have; reload without the new ones "
             "first, and with them when hasupctl status shows that the old ones are gone",
             added, most, used, leaving);
    return false;
}

/* What is open, or was never made, stays so until hasupd ends. */
static bool places_stay(const struct engine *engine, const struct config *config,
                        char error[CONFIG_ERROR_MAX])
{
    const char *key = config_off_differs(config_off(engine->config), config_off(config));
    if (key)
        snprintf(error, CONFIG_ERROR_MAX,
                 "%.300s: %s is off in only one of this file and the one that hasupd began with, "
                 "which needs a restart of hasupd",
                 config->file, key);
    return !key;
}

bool engine_can_take(struct engine *engine, const struct config *config,
                     char error[CONFIG_ERROR_MAX])
{
    return places_stay(engine, config, error) && kinds_stay(engine, config, error) &&
           has_room(engine, config, error);
}

/* What is tried as a canary is in the file already: that goes on. */
static bool is_tried(const struct engine *engine, const struct model *model,
                     const struct config_model *config)
{
    const struct model_version *other = model_version(model, model->other);
    struct model_view view;
    return other && core_model_view(engine->core, model->index, &view) &&
           view.rollout.state == ROLLOUT_CANARY &&
           other->config->fingerprint == config->fingerprint;
}

static void model_reconfigure(struct engine *engine, struct model *model,
                              const struct config_model *now)
{
    if (now->policy.workers != model->config->policy.workers)
        model->workers = now->policy.workers;
    if (is_tried(engine, model, now)) { /* its workers and its order hold for the other one, too */
        model_set(engine, model, model->config, false);
        LOG_EVENT(LEVEL_INFO, "model.configured", "it is tried as a canary, which goes on",
                  LOG_TEXT("model", now->name));
        return;
    }
    bool restart = now->fingerprint != model->config->fingerprint;
    model->rollout.tried = 0; /* what the file says now is meant */
    LOG_EVENT(LEVEL_INFO, "model.configured", restart ? "restarting its workers" : NULL,
              LOG_TEXT("model", now->name));
    model_set(engine, model, now, restart);
}

/* Why there can be no canary of this configuration now; false: there can. */
static bool canary_is_refused(const struct engine *engine, const struct model *model,
                              const struct config_model *tried, char error[CONFIG_ERROR_MAX])
{
    struct model_view view = {0};
    const char *name = model->config->name, *why = NULL;
    core_model_view(engine->core, model->index, &view);
    bool goes_on = tried && is_tried(engine, model, tried);
    if (config_is_program(model->config))
        why = "a program gets no requests that a canary could have a part of; reload replaces it";
    else if (!tried)
        why = "the file does not name it";
    else if (view.rollout.state == ROLLOUT_CANARY && !goes_on)
        why = "another canary of it is tried: promote or abort that one first";
    else if (view.rollout.state != ROLLOUT_NONE && !goes_on && !model->rollout.recycles)
        why = "a rollout is under way; hasupctl status shows how far it is";
    else if (!goes_on && tried->fingerprint == model->config->fingerprint)
        why = "it runs what the file says: change that first, what is there then is tried";
    for (uint32_t i = 0; i < engine->config->limits.slots && !why; i++) {
        struct slot_view slot;
        if (core_slot_view(engine->core, i, &slot) && slot.model == model->index && slot.stateful)
            why = "its workers keep state, which belongs to a slot; there is no canary of that";
    }
    if (why)
        snprintf(error, CONFIG_ERROR_MAX, "%s: %s", name, why);
    return why != NULL;
}

/* The core's has fields that an older hasupd did not know, or the file other values. */
static bool policy_differs(const struct engine *engine, const struct model *model)
{
    const struct model_policy *told = core_model_policy(engine->core, model->index);
    struct model_policy meant;
    model_policy_meant(engine, model, model->config, &meant);
    return told && memcmp(told, &meant, sizeof meant) != 0;
}

void model_resumed(struct engine *engine, struct model *model)
{
    const struct config_model *now = config_model_named(engine->config, model->config->name);
    bool changed = model->changed;
    model->changed = false;
    if (changed && (now != model->config || model->rollout.tried)) {
        model_reconfigure(engine, model, now);
    } else if (changed) { /* what it ran is not known, but that it is not this */
        model->workers = now->policy.workers;
        LOG_EVENT(LEVEL_INFO, "model.configured", "restarting its workers",
                  LOG_TEXT("model", now->name));
        model_set(engine, model, now, true);
    } else if (policy_differs(engine, model)) {
        model_set(engine, model, model->config, false);
    }
}

int engine_canary(struct engine *engine, uint32_t index, const char *file, uint32_t weight,
                  char error[CONFIG_ERROR_MAX])
{
    struct model *model = &engine->models[index];
    struct config *config = config_load(file, error);
    if (!config)
        return HASUP_ECONFIG;
    const struct config_model *tried = config_model_named(config, model->config->name);
    if (!places_stay(engine, config, error) || canary_is_refused(engine, model, tried, error)) {
        config_free(config);
        return HASUP_EINVAL;
    }
    uint32_t number = is_tried(engine, model, tried) ? model->other : ++model->newest;
    config->limits = engine->config->limits;
    model_tell(engine, model, tried,
               &(struct event){.model_set = {.version = number, .canary = weight}});
    config_retire(engine, config);
    struct model_view view = {0};
    core_model_view(engine->core, index, &view);
    versions_note(engine); /* its weight, too */
    if (view.rollout.state == ROLLOUT_CANARY)
        return 0;
    snprintf(error, CONFIG_ERROR_MAX, "%s: %.900s", model->config->name,
             model->rollout.last ? model->rollout.last : "no memory to say why");
    return HASUP_EFULL;
}

void engine_reconfigure(struct engine *engine, struct config *config)
{
    struct config *old = engine->config;
    /* Tables were made for the limits of the start; a change of those needs a restart of hasupd. */
    config->limits = old->limits;
    engine->config = config;
    descriptors_check(engine);
    for (size_t i = 0; i < config->model_count; i++)
        if (!model_named(engine, config->models[i].name))
            model_place(engine, &config->models[i]);
    for (uint32_t i = 0; i < config->limits.models; i++) {
        struct model *model = &engine->models[i];
        if (!model->used || model->removing || model_is_new(model))
            continue;
        const struct config_model *now = config_model_named(config, model->config->name);
        if (!now) {
            model->removing = true;
            engine_post(engine, &(struct event){.type = EVENT_MODEL_REMOVED, .model = i});
            continue;
        }
        model_reconfigure(engine, model, now);
    }
    models_begin(engine);
    config_retire(engine, old);
    noted_configuration(engine);
    versions_note(engine);
}

void engine_scale(struct engine *engine, uint32_t index, uint32_t workers)
{
    struct model *model = &engine->models[index];
    model->workers = workers;
    model_set(engine, model, model->config, false);
}

void model_gone(struct engine *engine, uint32_t index)
{
    struct model *model = &engine->models[index];
    LOG_EVENT(LEVEL_INFO, "model.removed", NULL, LOG_TEXT("model", model->config->name));
    model_versions_free(model);
    stats_free(model);
    *model = (struct model){.index = index};
    engine_drop_configs(engine);
}

void models_free(struct engine *engine)
{
    if (!engine->models || !engine->slots)
        return;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i])
            slot_free(engine->slots[i]);
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        model_versions_free(&engine->models[i]);
        stats_free(&engine->models[i]);
    }
    while (engine->retired) {
        struct config *config = engine->retired;
        engine->retired = config->next;
        config_free(config);
    }
}
