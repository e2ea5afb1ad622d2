/*
 * versions.c: what a model runs, where that is not what the file says, outlives hasupd: while a
 * canary is tried the file names the canary, and after a rollback what failed.  A hasupd that came
 * back with the file alone would give everything to what nobody has proven, at the worst moment.
 * Kept in `versions.json` (0600, in the state directory, there only while it is needed): the
 * configuration that serves, and the fingerprint of the one that it serves instead of.  Counts only
 * as long as the file still says that one: a file that was changed is somebody's will.
 * Decides nothing about rollouts: what is tried, and what becomes of it, is the core's.
 */
#include "supervisor/engine.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char FILE_NAME[] = "versions.json";

struct versions {
    json_t *list; /* NULL: nothing is kept */
};

struct kept {
    const char *section, *name, *label, *why;
    uint64_t tried, fingerprint;
    int weight;
    json_t *keys;
};

/* ---- kept ---- */

/* Of what is empty the default is meant; some keys refuse to be there and empty. */
static void drop_empty(json_t *object)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(object, next, key, value)
    {
        if (json_is_object(value))
            drop_empty(value);
        bool empty = json_is_null(value) || (json_is_object(value) && !json_object_size(value)) ||
                     (json_is_array(value) && !json_array_size(value));
        if (empty)
            json_object_del(object, key);
    }
}

static json_t *number_json(uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)number);
    return json_string(text);
}

static json_t *kept_json(const struct engine *engine, const struct model *model)
{
    struct model_view view = {0};
    char *text = config_model_json(model->config);
    json_t *keys = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!keys)
        return NULL;
    json_object_del(keys, "fingerprint");
    drop_empty(keys); /* for who reads the file */
    core_model_view(engine->core, model->index, &view);
    bool canary = view.rollout.state == ROLLOUT_CANARY;
    return json_pack("{s:s, s:s, s:o, s:i, s:s, s:s, s:o, s:o}", "section",
                     config_section_of(model->config), "model", model->config->name, "tried",
                     number_json(model->rollout.tried), "weight",
                     canary ? (int)view.rollout.weight : 0, "why",
                     canary || !model->rollout.last ? "" : model->rollout.last, "label",
                     model->config->version,
                     "fingerprint", number_json(model->config->fingerprint), "config", keys);
}

void versions_note(struct engine *engine)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        json_t *kept = model->used && !model->removing && model->rollout.tried
                           ? kept_json(engine, model)
                           : NULL;
        if (kept)
            json_array_append_new(list, kept);
    }
    char *text = json_array_size(list) ? json_dumps(list, JSON_INDENT(1)) : NULL;
    if (text || engine->noted.versions) {
        noted_write(engine, FILE_NAME, text);
        noted_configuration(engine);
    }
    engine->noted.versions = text != NULL;
    free(text);
    json_decref(list);
}

/* ---- come back to ---- */

static uint64_t number_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? strtoull(text, NULL, 16) : 0;
}

/* Where the file has it; one that an older hasupd has written is a model. */
static bool section_read(const json_t *object, struct kept *kept)
{
    json_t *section = json_object_get(object, "section");
    kept->section = section ? json_string_value(section) : "models";
    return kept->section &&
           (strcmp(kept->section, "models") == 0 || strcmp(kept->section, "programs") == 0);
}

static bool kept_read(const json_t *object, struct kept *kept)
{
    *kept = (struct kept){.tried = number_at(object, "tried"),
                          .fingerprint = number_at(object, "fingerprint")};
    return json_unpack((json_t *)(uintptr_t)object, "{s:s, s:s, s:s, s:i, s:o}", "model",
                       &kept->name, "label", &kept->label, "why", &kept->why, "weight",
                       &kept->weight, "config", &kept->keys) == 0 &&
           kept->tried && kept->fingerprint && section_read(object, kept);
}

struct config *version_config(const char *section, const char *name, const char *keys, size_t len,
                              const char *label, uint64_t fingerprint, uint64_t *own,
                              char error[CONFIG_ERROR_MAX])
{
    char made[CONFIG_VERSION_MAX];
    snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    json_t *object = json_loadb(keys, len, 0, NULL);
    drop_empty(object);
    json_object_del(object, "fingerprint");
    config_version_default(fingerprint, made);
    if (strcmp(label, made) == 0)
        json_object_del(object, "version"); /* it names none */
    json_t *whole = object ? json_pack("{s:{s:o}}", section, name, object) : NULL;
    char *text = whole ? json_dumps(whole, JSON_COMPACT) : NULL;
    struct config *config =
        text ? config_parse_part(text, strlen(text), FILE_NAME, "/", error) : NULL;
    json_decref(whole);
    free(text);
    char *copy = config ? strdup(label) : NULL;
    if (!copy) {
        config_free(config);
        return NULL;
    }
    *own = config->models[0].fingerprint;
    free(config->models[0].version);
    config->models[0].version = copy;
    config->models[0].fingerprint = fingerprint;
    return config;
}

/* NULL: this hasupd does not understand it, which is said. */
static struct config *kept_config(const struct engine *engine, const struct kept *kept)
{
    char error[CONFIG_ERROR_MAX] = "out of memory";
    char *keys = json_dumps(kept->keys, JSON_COMPACT);
    uint64_t own;
    struct config *config = keys
                                ? version_config(kept->section, kept->name, keys, strlen(keys),
                                                 kept->label, kept->fingerprint, &own, error)
                                : NULL;
    free(keys);
    if (!config) {
        LOG_EVENT(LEVEL_ERROR, "versions.lost", error, LOG_TEXT("model", kept->name),
                  LOG_TEXT("effect", "the configuration file counts"));
        return NULL;
    }
    config->limits = engine->config->limits;
    return config;
}

static void tell(const struct model *model, const struct kept *kept, const char *tried)
{
    char text[ENGINE_REASON];
    if (kept->weight)
        snprintf(text, sizeof text,
                 "the canary, version %s, goes on beside %s with %d %% of the requests", tried,
                 kept->label, kept->weight);
    else
        snprintf(text, sizeof text,
                 "%s serves on: version %s, which the file says, was taken back; a reload tries "
                 "it again",
                 kept->label, tried);
    LOG_EVENT(kept->weight ? LEVEL_INFO : LEVEL_WARNING, "rollout.resumed", text,
              LOG_TEXT("model", model->config->name), LOG_TEXT("version", kept->label));
}

/* What is kept of a model whose file says the same as then; false: nothing. */
static bool kept_of(const struct versions *versions, const struct config_model *file,
                    struct kept *kept)
{
    size_t i;
    json_t *object;
    json_array_foreach(versions->list, i, object)
    {
        if (kept_read(object, kept) && strcmp(kept->name, file->name) == 0)
            return kept->tried == file->fingerprint;
    }
    return false;
}

static bool all_read(const json_t *list)
{
    struct kept kept;
    size_t i;
    json_t *object;
    json_array_foreach(list, i, object)
    {
        if (!kept_read(object, &kept))
            return false;
    }
    return json_is_array(list);
}

struct versions *versions_read(struct engine *engine)
{
    char path[4096];
    json_error_t error;
    struct versions *versions = calloc(1, sizeof *versions);
    if (!versions || !engine->config->state_dir)
        return versions;
    snprintf(path, sizeof path, "%s/%s", engine->config->state_dir, FILE_NAME);
    if (access(path, F_OK) && errno == ENOENT)
        return versions;
    engine->noted.versions = true;
    versions->list = json_load_file(path, 0, &error);
    const char *wrong = !versions->list             ? error.text
                        : !all_read(versions->list) ? "it is not what hasupd writes"
                                                    : NULL;
    if (wrong)
        LOG_EVENT(LEVEL_ERROR, "versions.lost", wrong, LOG_TEXT("file", path),
                  LOG_TEXT("effect", "the configuration file counts"));
    return versions;
}

const struct config_model *versions_instead(struct engine *engine, const struct versions *versions,
                                            const struct config_model *file)
{
    struct kept kept;
    bool other = versions && kept_of(versions, file, &kept);
    struct config *config = other ? kept_config(engine, &kept) : NULL;
    if (!config)
        return file;
    config->next = engine->retired;
    engine->retired = config;
    config->models[0].policy.workers = file->policy.workers;
    return &config->models[0];
}

static void resume(struct engine *engine, struct model *model, const struct config_model *file,
                   const struct kept *kept)
{
    model->rollout.tried = kept->tried;
    model->rollout.failed = !kept->weight;
    rollout_note(&model->rollout.last, kept->why);
    tell(model, kept, file->version);
    if (kept->weight)
        model_tell(engine, model, file,
                   &(struct event){.model_set = {.version = ++model->newest,
                                                 .canary = (uint32_t)kept->weight}});
}

void versions_resume(struct engine *engine, struct versions *versions)
{
    for (size_t i = 0; versions && i < engine->config->model_count; i++) {
        const struct config_model *file = &engine->config->models[i];
        struct model *model = &engine->models[engine_named(engine, file->name, strlen(file->name))];
        struct kept kept;
        if (model->config != file && kept_of(versions, file, &kept))
            resume(engine, model, file, &kept);
    }
    if (versions)
        json_decref(versions->list);
    free(versions);
    versions_note(engine);
}
