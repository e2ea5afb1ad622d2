/*
 * request.c: requests as doors hand them in.  Owns their memory and the table that finds them by
 * number: each has a place from its submission until the core forgets it.  What the core is told of
 * one, a door said or is looked up here; whether it is taken is the core's to say.
 */
#include "supervisor/engine.h"
#include "supervisor/letters.h"

#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

/* Behind each request's meta: DEADLINE and POSITION of a dispatch (16 bytes each), and the
 * peer's. */
enum { REQUEST_META_ROOM = 32 + PEER_META_ROOM };

#ifdef __SANITIZE_ADDRESS__
enum { SPARES_KEPT = 0 }; /* memory that is used again would hide a use after its end */
#else
enum { SPARES_KEPT = ENGINE_SPARES };
#endif

struct request *engine_request(const struct engine *engine, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= engine->requests.high)
        return NULL;
    struct request *request = engine->requests.list[index];
    return request && request->id == id ? request : NULL;
}

static bool request_index(struct engine *engine, uint32_t *index)
{
    if (engine->requests.free_count) {
        *index = engine->requests.free[--engine->requests.free_count];
        return true;
    }
    if (engine->requests.high == engine->config->limits.requests)
        return false;
    *index = engine->requests.high++;
    return true;
}

static struct request *request_memory(struct engine *engine, size_t len)
{
    if (len <= ENGINE_SPARE_BYTES && engine->requests.spare_count)
        return engine->requests.spares[--engine->requests.spare_count];
    return malloc(len <= ENGINE_SPARE_BYTES ? ENGINE_SPARE_BYTES : len);
}

static void request_free(struct engine *engine, struct request *request)
{
    if (request->spare && engine->requests.spare_count + 1 <= SPARES_KEPT)
        engine->requests.spares[engine->requests.spare_count++] = request;
    else
        free(request);
}

struct request *request_make(struct engine *engine, size_t meta_len, size_t body_len)
{
    size_t len = sizeof(struct request) + meta_len + REQUEST_META_ROOM + body_len;
    struct request *request = request_memory(engine, len);
    if (!request)
        return NULL;
    *request = (struct request){
        .spare = len <= ENGINE_SPARE_BYTES,
        .came = loop_now(engine->loop),
        .slot = NO_SLOT,
        .meta_len = (uint32_t)meta_len,
        .body = {.bytes = request->bytes + meta_len + REQUEST_META_ROOM, .len = body_len}};
    return request;
}

static struct request *request_new(struct engine *engine, const struct submission *s)
{
    size_t body = s->body.buffer ? 0 : (size_t)s->body.len;
    struct request *request = request_make(engine, s->meta_len, body);
    if (!request)
        return NULL;
    request->door = s->door;
    request->context = s->context;
    request->model = s->model;
    request->deadline = s->deadline;
    if (s->meta_len)
        memcpy(request->bytes, s->meta, s->meta_len);
    if (s->body.buffer) {
        request->body = s->body;
        buffer_ref(s->body.buffer);
    } else if (body) {
        memcpy((uint8_t *)(uintptr_t)request->body.bytes, s->body.bytes, body);
    }
    return request;
}

static bool model_is_known(const struct engine *engine, uint32_t model)
{
    return model < engine->config->limits.models && engine->models[model].used;
}

/* Takes a place in the table. */
static int request_take(struct engine *engine, const struct submission *submission,
                        struct request **out)
{
    uint32_t index;
    if (submission->body.len > engine->config->limits.body_bytes - engine->requests.body_bytes ||
        engine->requests.count + engine->requests.retold >= engine->config->limits.requests ||
        !request_index(engine, &index))
        return HASUP_EFULL;
    struct request *request = request_new(engine, submission);
    if (!request) {
        engine->requests.free[engine->requests.free_count++] = index;
        return HASUP_ENOMEM;
    }
    request->id = (uint64_t)++engine->requests.generation[index] << 32 | index;
    request->once =
        model_is_known(engine, request->model) &&
        adapter_runs_once(engine->models[request->model].config, request->bytes, request->meta_len);
    engine->requests.list[index] = request;
    engine->requests.count++;
    engine->requests.body_bytes += request->body.len;
    *out = request;
    return 0;
}

struct request *engine_adopt(struct engine *engine, const struct submission *submission)
{
    struct request *request;
    return request_take(engine, submission, &request) ? NULL : request;
}

/* The unguessable part of a request's number: asked of the kernel for many at once. */
static int token_take(struct engine *engine, uint64_t *token)
{
    if (!engine->durable.tokens_left) {
        uint64_t *tokens = engine->durable.tokens;
        if (getrandom(tokens, sizeof engine->durable.tokens, 0) != sizeof engine->durable.tokens)
            return HASUP_ESYS;
        engine->durable.tokens_left = ENGINE_TOKENS;
    }
    *token = engine->durable.tokens[--engine->durable.tokens_left];
    engine->durable.tokens[engine->durable.tokens_left] = 0;
    return 0;
}

/* What a request needs to be durable, where it is: `event` and the record of it. */
static int request_identify(struct engine *engine, const struct submission *s,
                            struct request *request, struct event *event)
{
    event->submitted.async = request->durable.async = s->async;
    event->submitted.no_wait = s->no_wait;
    event->submitted.heard = s->heard;
    event->submitted.heard_of = s->heard_of;
    request->durable.priority = s->priority;
    if (token_take(engine, &request->durable.token))
        return HASUP_ESYS;
    event->submitted.token = request->durable.token;
    if (!s->key.len)
        return 0;
    uint8_t *key = malloc(s->key.len);
    const uint8_t *body = request->body.len ? body_bytes(&request->body) : NULL;
    if (!key || (request->body.len && !body)) {
        free(key);
        return HASUP_ENOMEM;
    }
    memcpy(key, s->key.at, s->key.len);
    request->durable.key = (struct bytes){key, s->key.len};
    request->durable.body_hash = XXH3_64bits(body, body ? request->body.len : 0);
    event->submitted.body = request->durable.body_hash;
    durable_key_hash(engine, engine->models[request->model].config->name, s->key,
                     event->submitted.key);
    return 0;
}

uint64_t engine_client(const struct engine *engine, const void *name, size_t len)
{
    return XXH3_64bits_withSeed(name, len, engine->durable.seed) | 1;
}

static uint64_t field_hash(const uint8_t *meta, size_t len, enum hasup_tag tag)
{
    const struct hasup_frame frame = {.meta = meta, .meta_len = (uint32_t)len};
    struct hasup_field field;
    return hasup_meta_find(&frame, tag, &field) && field.len
               ? XXH3_64bits(field.value, field.len) | 1
               : 0;
}

uint64_t engine_batch_key(const uint8_t *meta, size_t len)
{
    return field_hash(meta, len, HASUP_TAG_BATCH_KEY);
}

uint64_t engine_session(const uint8_t *meta, size_t len)
{
    return field_hash(meta, len, HASUP_TAG_SESSION);
}

/* Whether a request to it could be durable at all. */
static bool may_be_durable(const struct engine *engine, const struct submission *s)
{
    return model_is_known(engine, s->model) &&
           (s->key.len || s->async ||
            engine->models[s->model].config->policy.journal == JOURNALS_ALWAYS);
}

/* Takes a place in the table; of an adapted model's with the place in its server. */
static int request_place(struct engine *engine, const struct submission *submission,
                         struct request **out)
{
    struct submission placed = *submission;
    uint8_t *meta = NULL;
    int got = model_is_known(engine, submission->model)
                  ? adapter_place(engine->models[submission->model].config, submission, &meta,
                                  &placed.meta_len)
                  : 0;
    if (got < 0)
        return got;
    if (meta)
        placed.meta = meta;
    got = request_take(engine, &placed, out);
    free(meta);
    return got;
}

int engine_submit(struct engine *engine, const struct submission *submission, struct request **out)
{
    struct event event = {.type = EVENT_SUBMITTED, .model = submission->model};
    struct request *request;
    int error = request_place(engine, submission, &request);
    if (error == HASUP_EFULL)
        stats_full(engine, submission->model);
    if (error)
        return error;
    hasup_ns timeout = model_is_known(engine, submission->model) && !submission->async
                           ? engine->models[submission->model].config->request_timeout
                           : 0;
    if (!request->deadline && timeout)
        request->deadline = loop_now(engine->loop) + timeout;
    event.request = request->id;
    event.submitted.size = request->body.len;
    event.submitted.deadline = request->deadline;
    event.submitted.priority = submission->priority;
    event.submitted.client = submission->client;
    event.submitted.session = engine_session(submission->meta, submission->meta_len);
    request->session = event.submitted.session != 0;
    event.submitted.batch_key = engine_batch_key(submission->meta, submission->meta_len);
    event.submitted.once = request->once;
    if (core_wants_hash(engine->core, submission->model))
        letters_hash(engine, request, event.submitted.hash);
    if (may_be_durable(engine, submission))
        error = request_identify(engine, submission, request, &event);
    if (error) {
        engine_forget(engine, request->id);
        return error;
    }
    *out = request;
    engine_post(engine, &event);
    return 0;
}

void engine_cancel(struct engine *engine, struct request *request)
{
    request->door = NULL;
    if (!request->durable.record)
        stats_ended(engine, request, STATS_CANCELLED, REFUSED_NOT_FOUND);
    if (!request->durable.retold)
        engine_post(engine, &(struct event){.type = EVENT_CANCELLED, .request = request->id});
}

void engine_forget(struct engine *engine, uint64_t id)
{
    struct request *request = engine_request(engine, id);
    if (!request)
        return;
    uint32_t index = (uint32_t)id;
    engine->requests.list[index] = NULL;
    engine->requests.free[engine->requests.free_count++] = index;
    engine->requests.count--;
    engine->requests.body_bytes -= request->body.len;
    resume_free(engine, request);
    if (request->body.buffer)
        buffer_unref(request->body.buffer);
    stream_free(request->stream);
    request->stream = NULL;
    request->body = (struct body){0};
    if (request->durable.retold)
        return; /* until its answer is fetched */
    durable_free_request(request);
    request_free(engine, request);
}
