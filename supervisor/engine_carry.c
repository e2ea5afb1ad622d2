/*
 * engine_carry.c: models and requests, to another hasupd, and what of them cannot go along now,
 * which is asked for again after the next turn.  Slots are slots_carry.c's.  Owns nothing.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"
#include "supervisor/logfiles.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what has to wait ---- */

static const char *slot_holds(const struct slot *slot)
{
    const struct worker *worker = slot->worker;
    if (slot->jobs || slot->taken || slot->restoring.there)
        return "a checkpoint is on its way";
    if (worker && worker->fork.zygote)
        return "a worker is being forked";
    return worker ? peer_holds(&worker->peer) : NULL;
}

static const char *slot_named(struct engine *engine, const struct slot *slot, const char *holds)
{
    if (holds)
        snprintf(engine->holds, sizeof engine->holds, "%s: %s", slot->name, holds);
    return holds ? engine->holds : NULL;
}

const char *engine_holds(struct engine *engine)
{
    const char *holds = engine->shutting_down ? "hasupd is stopping" : durable_holds(engine);
    if (!holds && engine->requests.retold)
        holds = "a stored answer is being fetched";
    if (!holds && log_waits())
        holds = "lines of the log wait for who reads it";
    if (!holds && logfiles_busy(engine->printed.files))
        holds = "lines wait to be written to log files";
    for (uint32_t i = 0; i < engine->config->limits.slots && !holds; i++)
        if (engine->slots[i])
            holds = slot_named(engine, engine->slots[i], slot_holds(engine->slots[i]));
    return holds;
}

/* ---- models ---- */

void label_carry(struct carry *carry, const char **label)
{
    char text[256] = "";
    if (!carry->codec.loading && *label)
        strncpy(text, *label, sizeof text - 1);
    carry_text(carry, text, sizeof text);
    if (carry->codec.loading)
        *label = engine_label(carry->engine, text);
}

static struct model_version *version_of(struct model *model, uint32_t number, unsigned place)
{
    for (size_t i = 0; number && i < MODEL_VERSIONS; i++)
        if (model->versions[i].number == number)
            return &model->versions[i];
    return &model->versions[place];
}

static void version_carry(struct carry *carry, struct model_version *version)
{
    CARRY(carry);
    V(version->number);
    label_carry(carry, &version->label);
    uint8_t *metadata = (uint8_t *)version->metadata;
    carry_block(carry, &metadata, &version->metadata_len, 0);
    version->metadata = (char *)metadata;
}

/* Its other version: a canary's, or what comes back where a rollout fails. */
static void other_carry(struct carry *carry, struct model *model, const char *name)
{
    CARRY(carry);
    struct model_version none = {0}, *other = &none;
    V(model->other);
    if (!codec->loading && model->other)
        other = version_of(model, model->other, 1);
    else if (codec->loading)
        other = &model->versions[1];
    uint64_t fingerprint = other->config ? other->config->fingerprint : 0;
    V(fingerprint);
    version_carry(carry, other);
    if (!codec->loading || !other->number)
        return;
    other->config = versions_carried(carry, carry->engine->config, name, fingerprint);
    if (!other->config || other->number != model->other) {
        codec->what = "a version that is tried or may come back";
        codec_fail(codec);
    }
}

/* Behind all others of a model. */
static void model_carry_more(struct carry *carry, struct model *model, const char *name)
{
    CARRY(carry);
    const struct config_model *file = config_model_named(carry->engine->config, name);
    V(model->removing);
    other_carry(carry, model, name);
    V(model->rollout.tried);
    V(model->rollout.recycles);
    uint32_t workers = model->config->policy.workers;
    V(workers);
    if (codec->loading && file == model->config && workers && workers != file->policy.workers)
        model->workers = file->policy.workers; /* else it is what scale said */
    if (!codec->loading || codec->failed)
        return;
    carry->engine->noted.versions |= model->rollout.tried != 0;
    if (file && model->rollout.tried && /* as this hasupd reckons it */
        versions_carried(carry, carry->engine->config, name, model->rollout.tried) == file)
        model->rollout.tried = file->fingerprint;
    if (model->rollout.tried)
        model->changed = file && file->fingerprint != model->rollout.tried;
    if (model->removing)
        model->changed = false;
}

static void model_carry(struct carry *carry, struct model *model)
{
    CARRY(carry);
    char name[STORE_MODEL] = "";
    uint64_t fingerprint = model->config ? model->config->fingerprint : 0;
    V(model->used);
    if (!model->used)
        return;
    if (!codec->loading)
        strncpy(name, model->config->name, sizeof name - 1);
    carry_text(carry, name, sizeof name);
    V(fingerprint);
    if (codec->loading) {
        const struct config_model *file = config_model_named(carry->engine->config, name);
        model->config = versions_carried(carry, carry->engine->config, name, fingerprint);
        model->changed = model->config != file || !file;
        if (!model->config) /* an older hasupd did not say what it runs */
            model->config = file;
        if (!model->config) {
            codec->what = "a model that the configuration does not name";
            codec_fail(codec);
            return;
        }
    }
    V(model->version);
    V(model->newest);
    V(model->workers);
    carry_string(carry, &model->rollout.because);
    carry_string(carry, &model->rollout.last);
    V(model->rollout.failed);
    V(model->rollout.wall_ns);
    struct model_version *own = version_of(model, model->version, 0);
    version_carry(carry, own);
    own->config = model->config;
    stats_carry(carry, model);
    model_carry_more(carry, model, name);
}

/* ---- requests ---- */

static void request_fields_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    E(request->model, carry->engine->config->limits.models - 1);
    uint32_t slot = request->slot == NO_SLOT ? 0 : request->slot + 1;
    E(slot, carry->engine->config->limits.slots);
    request->slot = slot ? slot - 1 : NO_SLOT;
    V(request->worker);
    label_carry(carry, &request->version);
    if (codec->loading && !request->version[0])
        request->version = NULL;
    V(request->hash[0]);
    V(request->hash[1]);
    V(request->once);
    V(request->stateful);
    V(request->counted);
    V(request->session);
    V(request->came);
    V(request->dispatched);
    V(request->deadline);
    V(request->mated);
    V(request->resumes);
    stream_carry(carry, request);
    resume_carry(carry, request);
    durable_carry(carry, request);
}

static void request_carry(struct carry *carry, uint32_t index)
{
    CARRY(carry);
    struct engine *engine = carry->engine;
    struct request *request = engine->requests.list[index];
    uint64_t id = request ? request->id : 0;
    struct body body = request ? request->body : (struct body){0};
    const uint8_t *meta = request ? request->bytes : NULL, *bytes = body.bytes;
    size_t meta_len = request ? request->meta_len : 0, len = body.buffer ? 0 : (size_t)body.len;
    V(id);
    if (!id)
        return;
    codec_bytes(codec, &meta, &meta_len);
    codec_bytes(codec, &bytes, &len);
    carry_buffer(carry, &body.buffer);
    V(body.offset);
    V(body.len);
    if (codec->loading) {
        request = request_make(engine, meta_len, len);
        if (!request) {
            carry->no_memory = true;
            codec_fail(codec);
            return;
        }
        request->id = id;
        if (meta_len)
            memcpy(request->bytes, meta, meta_len);
        if (len)
            memcpy((uint8_t *)(uintptr_t)request->body.bytes, bytes, len);
        if (body.buffer) {
            body.bytes = NULL;
            request->body = body;
            buffer_ref(body.buffer);
        }
        engine->requests.list[index] = request;
        engine->requests.count++;
        engine->requests.body_bytes += request->body.len;
    }
    request_fields_carry(carry, request);
}

static void requests_free_indices(struct engine *engine)
{
    for (uint32_t i = engine->requests.high; i-- > 0;)
        if (!engine->requests.list[i])
            engine->requests.free[engine->requests.free_count++] = i;
}

uint64_t engine_request_id(const struct request *request)
{
    return request->id;
}

struct request *engine_rejoin(struct engine *engine, uint64_t id, const struct door *door,
                              void *context)
{
    struct request *request = engine_request(engine, id);
    if (!request)
        return NULL;
    request->door = door;
    request->context = context;
    return request;
}

/* ---- all ---- */

void engine_core_carry(struct carry *carry, struct engine *engine)
{
    struct codec *codec = &carry->codec;
    if (!carry->core) {
        carry->core_len = core_save(engine->core, NULL, 0);
        carry->core = malloc(carry->core_len);
        if (!carry->core)
            carry->no_memory = true;
        else if (core_save(engine->core, carry->core, carry->core_len) != carry->core_len)
            abort();
    }
    const uint8_t *bytes = carry->core;
    codec_begin(codec);
    codec_bytes(codec, &bytes, &carry->core_len);
    codec_end(codec);
}

void engine_carry(struct carry *carry, struct engine *engine)
{
    CARRY(carry);
    carry->engine = engine;
    codec->what = "its models";
    for (uint32_t i = 0; i < engine->config->limits.models && !codec->failed; i++) {
        engine->models[i].index = i;
        codec_begin(codec);
        model_carry(carry, &engine->models[i]);
        codec_end(codec);
    }
    codec->what = "its slots";
    slots_carry(carry, engine);
    codec->what = "its requests";
    for (uint32_t i = 0; i < engine->requests.high && !codec->failed; i++) {
        codec_begin(codec);
        request_carry(carry, i);
        codec_end(codec);
    }
    codec->what = "its dead letters";
    letters_carry(carry, engine);
    if (!codec->loading || codec->failed)
        return;
    requests_free_indices(engine);
    versions_carried_take(carry, engine);
}

void engine_resumed(struct engine *engine)
{
    engine->started = true;
    if (engine->durable.was_open)
        durable_go_on(engine);
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (engine->models[i].used && !engine->models[i].removing)
            model_resumed(engine, &engine->models[i]);
    models_add_missing(engine);
    programs_go_on(engine);
    engine_drop_configs(engine);
    noted_configuration(engine);
    if (engine->noted.versions)
        versions_note(engine);
    processes_look(engine->processes);
}
