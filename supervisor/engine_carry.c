/*
 * engine_carry.c: models and requests, to another hasupd, and what of them cannot go along now,
 * which is asked for again after the next turn.  Slots are slots_carry.c's.  Owns nothing.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"
#include "supervisor/logfiles.h"
#include "supervisor/sockets.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what has to wait ---- */

static const char *slot_holds(const struct slot *slot)
{
    const struct worker *worker = slot->worker;
    if (slot->jobs || slot->taken || slot->restoring.there)
        return "a checkpoint is on its way";
    if (slot->kept.there)
        return "a state is in memory only, because the disk does not take it";
    if (worker && worker->fork.zygote)
        return "a worker is being forked";
    return worker ? peer_holds(&worker->peer) : NULL;
}

static const char *model_holds(const struct engine *engine, const struct model *model)
{
    struct model_view view;
    if (!model->used)
        return NULL;
    if (model->removing)
        return "a model that was removed still finishes what it has";
    if (model->rollout.tried)
        return "a model does not run what the configuration says, because that was rolled back: "
               "change it, and hasupctl reload";
    if (!core_model_view(engine->core, model->index, &view) || view.rollout.state != ROLLOUT_NONE ||
        model->other)
        return "a rollout is under way";
    return NULL;
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
    for (uint32_t i = 0; i < engine->config->limits.models && !holds; i++)
        holds = model_holds(engine, &engine->models[i]);
    for (uint32_t i = 0; i < engine->config->limits.slots && !holds; i++)
        if (engine->slots[i])
            holds = slot_holds(engine->slots[i]);
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

static void version_carry(struct carry *carry, struct model *model)
{
    CARRY(carry);
    struct model_version *version = &model->versions[0];
    for (size_t i = 0; i < HASUP_LEN(model->versions) && !codec->loading; i++)
        if (model->versions[i].number == model->version)
            version = &model->versions[i];
    V(version->number);
    label_carry(carry, &version->label);
    uint8_t *metadata = (uint8_t *)version->metadata;
    carry_block(carry, &metadata, &version->metadata_len, 0);
    version->metadata = (char *)metadata;
    if (codec->loading)
        version->config = model->config;
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
        model->config = config_model_named(carry->engine->config, name);
        if (!model->config) {
            codec->what = "a model that the configuration does not name";
            codec_fail(codec);
            return;
        }
        model->changed = model->config->fingerprint != fingerprint;
    }
    V(model->version);
    V(model->newest);
    V(model->workers);
    carry_text(carry, model->rollout.because, sizeof model->rollout.because);
    carry_text(carry, model->rollout.last, sizeof model->rollout.last);
    V(model->rollout.failed);
    V(model->rollout.wall_ns);
    version_carry(carry, model);
    stats_carry(carry, model);
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

void engine_names_carry(struct carry *carry, const struct config *config, struct engine *engine)
{
    CARRY(carry);
    uint32_t count = 0;
    for (uint32_t i = 0; engine && i < config->limits.models; i++)
        count += engine->models[i].used;
    codec_begin(codec);
    V(count);
    for (uint32_t i = 0, at = 0; i < count && !codec->failed; i++, at++) {
        char name[STORE_MODEL] = "";
        while (engine && !engine->models[at].used)
            at++;
        if (engine)
            snprintf(name, sizeof name, "%s", engine->models[at].config->name);
        carry_text(carry, name, sizeof name);
        codec->what = "a model that runs and that the configuration does not name (hasupctl "
                      "reload takes it away first)";
        if (codec->loading && !codec->failed && !config_model_named(config, name))
            codec_fail(codec);
        codec->what = "the models' names";
    }
    codec_end(codec);
}

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
    for (uint32_t i = 0; i < engine->config->limits.models && !codec->failed; i++) {
        engine->models[i].index = i;
        codec_begin(codec);
        model_carry(carry, &engine->models[i]);
        codec_end(codec);
    }
    slots_carry(carry, engine);
    for (uint32_t i = 0; i < engine->requests.high && !codec->failed; i++) {
        codec_begin(codec);
        request_carry(carry, i);
        codec_end(codec);
    }
    letters_carry(carry, engine);
    if (codec->loading && !codec->failed)
        requests_free_indices(engine);
}

void engine_resumed(struct engine *engine)
{
    struct journal_summary summary; /* what is there is in the core already */
    engine->started = true;
    if (engine->durable.was_open)
        (void)durable_open(engine, false, &summary);
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (engine->models[i].used && engine->models[i].changed)
            model_changed_meanwhile(engine, &engine->models[i]);
    models_add_missing(engine);
    sockets_sweep(engine);
    noted_configuration(engine);
    processes_look(engine->processes);
}
