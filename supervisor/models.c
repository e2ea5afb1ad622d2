/*
 * models.c: the configuration made so: models added, changed, removed.  A model keeps its index
 * while it lives; one that is removed drains first.  What changed is told to the core, which
 * restarts workers one at a time.
 */
#include "supervisor/engine.h"
#include "supervisor/letters.h"

#include <stdio.h>
#include <stdlib.h>

static void model_set(struct engine *engine, struct model *model, bool restart)
{
    struct model_policy policy = model->config->policy;
    policy.workers = model->workers;
    engine_post(engine, &(struct event){.type = EVENT_MODEL_SET,
                                        .model = model->index,
                                        .model_set = {.policy = &policy, .restart = restart}});
}

/* The configuration's check, or engine_has_room, has seen to it that an index is free. */
static void model_add(struct engine *engine, const struct config_model *config)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        struct model *model = &engine->models[i];
        if (model->used)
            continue;
        *model = (struct model){
            .index = i, .used = true, .config = config, .workers = config->policy.workers};
        model_set(engine, model, false);
        letters_model_added(engine, model);
        return;
    }
    abort(); /* a model that is configured and does not exist would be refused for ever */
}

static struct model *model_named(struct engine *engine, const char *name)
{
    int index = engine_model(engine, name, strlen(name));
    return index < 0 ? NULL : &engine->models[index];
}

static const struct config_model *config_named(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i].name, name) == 0)
            return &config->models[i];
    return NULL;
}

void engine_no_model(const struct engine *engine, const char *name, size_t len,
                     char text[ENGINE_REASON])
{
    char asked[64]; /* as long as a name can be */
    unsigned best = UINT32_MAX;
    const char *near = NULL;
    snprintf(asked, sizeof asked, "%.*s", (int)(len < sizeof asked ? len : sizeof asked - 1), name);
    for (size_t i = 0; i < engine->config->model_count; i++) {
        const char *known = engine->config->models[i].name;
        unsigned distance = config_distance(asked, known);
        if (distance * 3 <= strlen(known) + 1 && distance < best) {
            best = distance;
            near = known;
        }
    }
    if (near)
        snprintf(text, ENGINE_REASON, "there is no model \"%s\"; did you mean \"%s\"?", asked,
                 near);
    else
        snprintf(text, ENGINE_REASON, "there is no model \"%s\"; hasupctl status lists them",
                 asked);
}

void engine_start(struct engine *engine)
{
    engine->started = true;
    noted_begin(engine);
    recovery_begin(engine);
    for (size_t i = 0; i < engine->config->model_count; i++)
        model_add(engine, &engine->config->models[i]);
    recovery_run(engine);
}

/* A configuration that was replaced stays while a model that it names still drains. */
static void configs_free_retired(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (engine->models[i].removing)
            return;
    while (engine->retired) {
        struct config *config = engine->retired;
        engine->retired = config->next;
        config_free(config);
    }
}

/* A model that is removed keeps its index until it has drained. */
bool engine_has_room(struct engine *engine, const struct config *config,
                     char error[CONFIG_ERROR_MAX])
{
    uint32_t used = 0, added = 0, leaving = 0, most = engine->config->limits.models;
    for (uint32_t i = 0; i < most; i++) {
        const struct model *model = &engine->models[i];
        used += model->used;
        leaving += model->used && (model->removing || !config_named(config, model->config->name));
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

void engine_reconfigure(struct engine *engine, struct config *config)
{
    struct config *old = engine->config;
    /* Tables were made for the limits of the start; a change of those needs a restart of hasupd. */
    config->limits = old->limits;
    engine->config = config;
    for (uint32_t i = 0; i < config->limits.models; i++) {
        struct model *model = &engine->models[i];
        if (!model->used || model->removing)
            continue;
        const struct config_model *now = config_named(config, model->config->name);
        const struct config_model *before = model->config;
        if (!now) {
            model->removing = true;
            engine_post(engine, &(struct event){.type = EVENT_MODEL_REMOVED, .model = i});
            continue;
        }
        bool restart = now->fingerprint != before->fingerprint;
        if (now->policy.workers != before->policy.workers)
            model->workers = now->policy.workers;
        model->config = now;
        LOG_EVENT(LEVEL_INFO, "model.configured", restart ? "restarting its workers" : NULL,
                  LOG_TEXT("model", now->name));
        model_set(engine, model, restart);
    }
    for (size_t i = 0; i < config->model_count; i++)
        if (!model_named(engine, config->models[i].name))
            model_add(engine, &config->models[i]);
    old->next = engine->retired;
    engine->retired = old;
    configs_free_retired(engine);
    noted_configuration(engine);
}

void engine_scale(struct engine *engine, uint32_t index, uint32_t workers)
{
    engine->models[index].workers = workers;
    model_set(engine, &engine->models[index], false);
}

void model_gone(struct engine *engine, uint32_t index)
{
    struct model *model = &engine->models[index];
    LOG_EVENT(LEVEL_INFO, "model.removed", NULL, LOG_TEXT("model", model->config->name));
    free(model->metadata);
    *model = (struct model){.index = index};
    configs_free_retired(engine);
}

void models_free(struct engine *engine)
{
    if (!engine->models || !engine->slots)
        return;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i])
            slot_free(engine->slots[i]);
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        free(engine->models[i].metadata);
    while (engine->retired) {
        struct config *config = engine->retired;
        engine->retired = config->next;
        config_free(config);
    }
}
