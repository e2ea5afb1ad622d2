/*
 * versions_carry.c: which models there are and what stands behind each of their versions, to
 * another hasupd.  A configuration that the next one does not find in the file goes along as the
 * JSON of its keys, because that one may know other keys: it reads them as it reads a file.  Read
 * before the core, also by who only looks whether it could take over (upgrade_check.c). Owns the
 * list of what it has read until the engine takes that.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <stdio.h>
#include <stdlib.h>

/* A configuration that some version runs. */
struct carried_version {
    struct carried_version *next;
    const struct config_model *of; /* saving: with its keys */
    char *keys;
    char name[STORE_MODEL]; /* loading: of the model */
    uint64_t fingerprint;   /* as the other hasupd reckons it */
    struct config *config;  /* NULL: the file says the same */
};

static void versions_free(struct carried_version *list)
{
    while (list) {
        struct carried_version *version = list;
        list = version->next;
        config_free(version->config);
        free(version->keys);
        free(version);
    }
}

static struct carried_version *version_add(struct carry *carry)
{
    struct carried_version *version = calloc(1, sizeof *version);
    if (!version) {
        carry->no_memory = true;
        codec_fail(&carry->codec);
        return NULL;
    }
    carry->versions_free = versions_free;
    version->next = carry->versions;
    carry->versions = version;
    return version;
}

/* ---- saved ---- */

/* Written as JSON once for all passes. */
static const char *keys_of(struct carry *carry, const struct config_model *config)
{
    struct carried_version *version = carry->versions;
    while (version && version->of != config)
        version = version->next;
    if (!version && (version = version_add(carry))) {
        version->of = config;
        version->keys = config_model_json(config);
        carry->no_memory |= !version->keys;
    }
    return version && version->keys ? version->keys : "";
}

/* What could not be done without: something of it is tried, or was taken back, or it leaves. */
static bool is_needed(const struct engine *engine, const struct model *model)
{
    struct model_view view = {0};
    core_model_view(engine->core, model->index, &view);
    return model->removing || model->rollout.tried || view.rollout.state != ROLLOUT_NONE;
}

/* ---- loaded ---- */

struct version_fields {
    const char *section; /* where the file would have it */
    uint64_t fingerprint;
    char label[CONFIG_VERSION_MAX + 1];
    const uint8_t *keys;
    size_t keys_len;
};

static const struct carried_version *version_find(const struct carry *carry, const char *name,
                                                  uint64_t fingerprint)
{
    const struct carried_version *version = carry->versions;
    while (version && (version->fingerprint != fingerprint || strcmp(version->name, name) != 0))
        version = version->next;
    return version;
}

static void refuse(struct carry *carry, const char *name, const char *label, const char *why)
{
    snprintf(carry->why, sizeof carry->why,
             "the configuration of %s, version %s, which runs or may come back: %.300s", name,
             label, why);
    carry->codec.what = carry->why;
    codec_fail(&carry->codec);
}

/* Keeps it, unless the file says the same.  True: this hasupd reckons fingerprints as the other. */
static bool version_keep(struct carry *carry, const struct config *config, const char *name,
                         bool needed, const struct version_fields *fields)
{
    const struct config_model *file = config_model_named(config, name);
    char error[CONFIG_ERROR_MAX] = "it was not handed over";
    uint64_t own = 0;
    if (file && file->fingerprint == fields->fingerprint)
        return true;
    struct config *parsed = fields->keys_len
                                ? version_config(fields->section, name, (const char *)fields->keys,
                                                 fields->keys_len, fields->label,
                                                 fields->fingerprint, &own, error)
                                : NULL;
    if (!parsed && needed)
        refuse(carry, name, fields->label, error);
    struct carried_version *version = parsed ? version_add(carry) : NULL;
    if (!version) { /* without it there is nothing to come back to, and the file's is what counts */
        config_free(parsed);
        return true;
    }
    snprintf(version->name, sizeof version->name, "%s", name);
    version->fingerprint = fields->fingerprint;
    version->config = parsed;
    parsed->limits = config->limits;
    if (file && file->fingerprint == own) {
        config_free(parsed);
        version->config = NULL;
    }
    return own == fields->fingerprint;
}

const struct config_model *versions_carried(const struct carry *carry, const struct config *config,
                                            const char *name, uint64_t fingerprint)
{
    const struct config_model *file = config_model_named(config, name);
    const struct carried_version *version = version_find(carry, name, fingerprint);
    if ((file && file->fingerprint == fingerprint) || (version && !version->config))
        return file;
    return version ? &version->config->models[0] : NULL;
}

void versions_carried_take(struct carry *carry, struct engine *engine)
{
    for (struct carried_version *version = carry->versions; version; version = version->next) {
        struct config *config = version->config;
        version->config = NULL;
        if (config) {
            config->next = engine->retired;
            engine->retired = config;
        }
    }
}

/* ---- both ways ---- */

static void version_fields_carry(struct carry *carry, struct version_fields *fields)
{
    struct codec *codec = &carry->codec;
    V(fields->fingerprint);
    carry_text(carry, fields->label, sizeof fields->label);
    codec_bytes(codec, &fields->keys, &fields->keys_len);
}

static void version_fill(struct carry *carry, const struct model_version *version,
                         struct version_fields *fields)
{
    fields->fingerprint = version->config->fingerprint;
    snprintf(fields->label, sizeof fields->label, "%s", version->label);
    fields->keys = (const uint8_t *)keys_of(carry, version->config);
    fields->keys_len = strlen((const char *)fields->keys);
}

/* What it is, which it stays; an older hasupd had models alone, and says nothing.  Where the file
 * has such. */
static const char *kind_carry(struct carry *carry, const struct config *config, const char *name,
                              const struct model *model, bool removing)
{
    struct codec *codec = &carry->codec;
    struct config_model own = {.policy = {.kind = KIND_WORKERS}};
    const struct config_model *file = config_model_named(config, name);
    if (model)
        own.policy.kind = model->config->policy.kind;
    E(own.policy.kind, KIND_ONESHOT);
    if (codec->loading && file && !removing && file->policy.kind != own.policy.kind) {
        codec->what = "a model that the configuration has as a program, a program that it has as "
                      "a model, or a oneshot that is one no more (hasupctl reload says what to do)";
        codec_fail(codec);
    }
    return config_section_of(&own);
}

/* `model`: NULL while it is loaded. */
static void model_versions_carry(struct carry *carry, const struct config *config,
                                 const struct engine *engine, const char *name,
                                 const struct model *model, bool removing)
{
    CARRY(carry);
    struct version_fields fields[MODEL_VERSIONS] = {{.fingerprint = 0}};
    bool needed = model && is_needed(engine, model), same = true;
    uint64_t tried = model ? model->rollout.tried : 0;
    V(needed);
    V(tried);
    for (size_t i = 0; i < MODEL_VERSIONS && !codec->failed; i++) {
        const struct model_version *version = model ? &model->versions[i] : NULL;
        if (version && version->number)
            version_fill(carry, version, &fields[i]);
        struct codec_outer outer = codec_enter(codec);
        version_fields_carry(carry, &fields[i]);
        codec_leave(codec, outer);
    }
    const char *section = kind_carry(carry, config, name, model, removing);
    for (size_t i = 0; codec->loading && i < MODEL_VERSIONS && !codec->failed; i++) {
        fields[i].section = section;
        if (fields[i].fingerprint)
            same &= version_keep(carry, config, name, needed, &fields[i]);
    }
    if (codec->loading && tried && !same && !codec->failed && !version_find(carry, name, tried))
        refuse(carry, name, "that was taken back",
               "this version of hasupd cannot tell it again; change what the file says of the "
               "model, and hasupctl reload");
}

/* Names of models that run, or that leave; `names`: of all so far, while they are loaded. */
static uint32_t names_carry(struct carry *carry, const struct config *config,
                            const struct engine *engine, bool removing, char (*names)[STORE_MODEL],
                            uint32_t used)
{
    CARRY(carry);
    uint32_t count = 0;
    for (uint32_t i = 0; engine && i < config->limits.models; i++)
        count += engine->models[i].used && engine->models[i].removing == removing;
    E(count, config->limits.models - used);
    for (uint32_t i = 0, at = 0; i < count && !codec->failed; i++, at++) {
        char *name = names[used + i];
        while (engine && (!engine->models[at].used || engine->models[at].removing != removing))
            at++;
        if (engine)
            snprintf(name, STORE_MODEL, "%s", engine->models[at].config->name);
        carry_text(carry, name, STORE_MODEL);
        codec->what = "a model that runs and that the configuration does not name (hasupctl "
                      "reload takes it away first)";
        if (!removing && codec->loading && !codec->failed && !config_model_named(config, name))
            codec_fail(codec);
        codec->what = "the models' names";
    }
    return count;
}

void engine_names_carry(struct carry *carry, const struct config *config, struct engine *engine)
{
    CARRY(carry);
    char(*names)[STORE_MODEL] = calloc(config->limits.models, sizeof *names);
    if (!names) {
        carry->no_memory = true;
        codec_fail(codec);
        return;
    }
    codec_begin(codec);
    const uint32_t stay = names_carry(carry, config, engine, false, names, 0);
    const uint32_t all = stay + names_carry(carry, config, engine, true, names, stay);
    for (uint32_t i = 0, at = 0; i < all && !codec->failed; i++, at++) {
        if (i == stay)
            at = 0;
        while (engine && (!engine->models[at].used || engine->models[at].removing != (i >= stay)))
            at++;
        struct codec_outer outer = codec_enter(codec);
        model_versions_carry(carry, config, engine, names[i], engine ? &engine->models[at] : NULL,
                             i >= stay);
        codec_leave(codec, outer);
    }
    codec_end(codec);
    free(names);
}
