/*
 * worker_frames.c: what a worker says.  Each frame is checked here, against what the worker was
 * granted and what it has in hand, and becomes an event; what it may not say breaks the protocol.
 * Ends no worker and sends nothing: worker.c does.
 */
#include "checkpoints/fault.h"
#include "supervisor/engine.h"
#include "supervisor/said.h"

#include <stdio.h>

/* The abilities that hasupd makes use of, where a worker offers them. */
enum {
    GRANTS = HASUP_CAN_STATE | HASUP_CAN_SNAPSHOT | HASUP_CAN_CANCEL | HASUP_CAN_RESUME |
             HASUP_CAN_BATCH | HASUP_CAN_ZYGOTE
};

struct hello {
    uint32_t protocol, concurrency, max_batch;
    uint64_t abilities;
    const uint8_t *metadata;
    uint32_t metadata_len;
};

static int read_hello(const struct hasup_frame *frame, struct hello *hello)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    *hello = (struct hello){.concurrency = 1, .max_batch = 1};
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0) {
        int error = 0;
        switch (field.tag) {
        case HASUP_TAG_PROTOCOL: error = hasup_field_get32(&field, &hello->protocol); break;
        case HASUP_TAG_CONCURRENCY: error = hasup_field_get32(&field, &hello->concurrency); break;
        case HASUP_TAG_ABILITIES: error = hasup_field_get64(&field, &hello->abilities); break;
        case HASUP_TAG_MAX_BATCH: error = hasup_field_get32(&field, &hello->max_batch); break;
        case HASUP_TAG_METADATA:
            hello->metadata = field.value;
            hello->metadata_len = field.len;
            break;
        default: error = hasup_meta_unknown(&field);
        }
        if (error)
            return error;
    }
    return got < 0 || hello->protocol < 1 || !hello->concurrency ? HASUP_EPROTO : 0;
}

static int on_hello(struct worker *worker, const struct hasup_frame *frame)
{
    struct hello hello;
    const struct slot *slot = worker->slot;
    if (worker->greeted || read_hello(frame, &hello))
        return HASUP_EPROTO;
    worker->greeted = true;
    worker->granted = hello.abilities & GRANTS;
    worker->stateful = hello.abilities & HASUP_CAN_STATE;
    if (worker->stateful)
        worker->granted &= ~(uint64_t)HASUP_CAN_RESUME; /* its requests are all of one history */
    if (hello.max_batch < 2)
        worker->granted &= ~(uint64_t)HASUP_CAN_BATCH;
    bool zygote = worker->slot->role == ROLE_ZYGOTE;
    worker->granted &= zygote ? (uint64_t)HASUP_CAN_ZYGOTE : ~(uint64_t)HASUP_CAN_ZYGOTE;
    bool batches = worker->granted & HASUP_CAN_BATCH;
    if (hello.metadata_len)
        model_version_describe(slot->model, slot->version_number, hello.metadata,
                               hello.metadata_len);
    worker_post(worker, &(struct event){.type = EVENT_HELLO,
                                        .hello = {.concurrency = hello.concurrency,
                                                  .max_batch = batches ? hello.max_batch : 1,
                                                  .stateful = worker->stateful,
                                                  .resumable = worker->granted & HASUP_CAN_RESUME,
                                                  .zygote = worker->granted & HASUP_CAN_ZYGOTE}});
    return 0;
}

/* The ERROR field of a frame as text; false: there is none. */
static bool error_text(const struct hasup_frame *frame, char *text, size_t room)
{
    struct hasup_field error;
    if (!hasup_meta_find(frame, HASUP_TAG_ERROR, &error))
        return false;
    snprintf(text, room, "%.*s", (int)error.len, (const char *)error.value);
    return true;
}

static int on_ready(struct worker *worker, const struct hasup_frame *frame)
{
    char text[ENGINE_REASON - 32];
    bool failed = error_text(frame, text, sizeof text);
    /* A load can fail before the WELCOME is there, which waits for the checkpoint's bytes. */
    if (!worker->welcomed && !failed)
        return HASUP_EPROTO;
    if (failed) {
        worker_note_cause(worker, "could not load: %s", text);
        worker->end = STATS_END_LOAD_FAILED;
    }
    worker_post(worker,
                &(struct event){.type = EVENT_WORKER_READY, .error = failed ? HASUP_EWORKER : 0});
    return 0;
}

/* The request that a REPLY or CHUNK is about; NULL: the worker does not have it. */
static struct request *request_at(const struct worker *worker, uint64_t id)
{
    struct request *request = engine_request(worker->slot->engine, id);
    return request && request->slot == worker->slot->index && request->worker == worker->number
               ? request
               : NULL;
}

/* Before the first that it says of a request that it may go on with. */
static int on_resumed(struct worker *worker, struct request *request,
                      const struct hasup_frame *frame)
{
    uint64_t from;
    if (resume_begin(request, frame, &from))
        return HASUP_EPROTO;
    worker_post(
        worker,
        &(struct event){.type = EVENT_RESUMED, .request = request->id, .resumed = {.from = from}});
    return 0;
}

static int on_progress(struct worker *worker, const struct hasup_frame *frame)
{
    struct request *request = request_at(worker, frame->id);
    struct hasup_field blob;
    if (!(worker->granted & HASUP_CAN_RESUME) || !request || request->mated ||
        (request->resumes && on_resumed(worker, request, frame)))
        return HASUP_EPROTO;
    if (!hasup_meta_find(frame, HASUP_TAG_PROGRESS_BLOB, &blob))
        blob = (struct hasup_field){0};
    if (blob.len > HASUP_PROGRESS_MAX)
        return HASUP_EPROTO;
    resume_keep(worker->slot->engine, request, blob.value, blob.len);
    worker_post(worker, &(struct event){.type = EVENT_PROGRESSED, .request = request->id});
    return 0;
}

static int on_unbegun(struct worker *worker, const struct hasup_frame *frame)
{
    if (!request_at(worker, frame->id))
        return HASUP_EPROTO;
    worker_post(worker, &(struct event){.type = EVENT_UNBEGUN, .request = frame->id});
    return 0;
}

static void chunk_in_hand(struct worker *worker, struct request *request,
                          const struct hasup_frame *frame, const uint8_t *bytes, size_t len)
{
    struct engine *engine = worker->slot->engine;
    bool same = stream_add(request, bytes, len);
    engine->hand.reply = (struct reply){.status = 200, .frame = frame, .version = worker->version};
    engine->hand.bytes = bytes;
    engine->hand.len = len;
    worker_post(worker, &(struct event){.type = EVENT_CHUNKED,
                                        .request = request->id,
                                        .chunked = {.size = len, .same = same}});
}

static int on_chunk(struct worker *worker, const struct hasup_frame *frame, struct body *body)
{
    struct request *request = request_at(worker, frame->id);
    const uint8_t *bytes = body_bytes(body);
    if (!request || (body->len && !bytes) || stream_open(request) ||
        (request->resumes && on_resumed(worker, request, frame)) ||
        !stream_count(request, frame->seq))
        return HASUP_EPROTO;
    if (body->len)
        chunk_in_hand(worker, request, frame, bytes, body->len);
    return 0;
}

static int on_reply(struct worker *worker, const struct hasup_frame *frame, struct body *body)
{
    struct engine *engine = worker->slot->engine;
    struct request *request = request_at(worker, frame->id);
    uint32_t status = frame->seq ? frame->seq : 200;
    if (!request || status < 200 || status > 599 ||
        (request->resumes && on_resumed(worker, request, frame)))
        return HASUP_EPROTO;
    if (request->stream && body->len) {
        /* The last part of a stream may ride in its REPLY. */
        const uint8_t *bytes = body_bytes(body);
        if (!bytes)
            return HASUP_EPROTO;
        chunk_in_hand(worker, request, frame, bytes, body->len);
        request = request_at(worker, frame->id);
        if (!request)
            return 0;
        body->len = 0;
    }
    uint64_t digest = worker->stateful ? reply_digest(request, status, body) : 0;
    said_answered(worker, request->id);
    request->slot = NO_SLOT;
    stats_replied(engine, request);
    engine->hand.reply =
        (struct reply){.status = status, .frame = frame, .body = *body, .version = worker->version};
    worker_post(
        worker,
        &(struct event){.type = EVENT_REPLIED,
                        .request = request->id,
                        .replied = {.digest = digest, .size = body->len, .failed = status >= 500}});
    return 0;
}

static int on_state(struct worker *worker, const struct hasup_frame *frame, struct body *body)
{
    struct slot *slot = worker->slot;
    uint64_t position = slot->asked_position;
    char text[ENGINE_REASON];
    if (!slot->asked || hasup_meta_get64(frame, HASUP_TAG_POSITION, &position) ||
        position != slot->asked_position)
        return HASUP_EPROTO;
    slot->asked = false;
    FAULT(checkpoint_taken);
    int error = error_text(frame, text, sizeof text) ? HASUP_EWORKER : 0;
    if (!error)
        error = state_take(slot, body, position, text);
    slot->untaken_position = error ? position : 0;
    if (error)
        snprintf(slot->engine->checkpoint_error, ENGINE_REASON, "%.90s could not save: %.210s",
                 slot->name, text);
    worker_post(worker, &(struct event){.type = EVENT_STATE_TAKEN,
                                        .checkpoint = {.position = position, .error = error}});
    if (error)
        state_done(slot, position, slot->engine->checkpoint_error);
    return 0;
}

static int worker_frame(void *context, const struct hasup_frame *frame, struct body *body)
{
    struct worker *worker = context;
    if (!worker->greeted && frame->type != HASUP_HELLO)
        return HASUP_EPROTO;
    switch (frame->type) {
    case HASUP_HELLO: return on_hello(worker, frame);
    case HASUP_READY: return on_ready(worker, frame);
    case HASUP_REPLY: return on_reply(worker, frame, body);
    case HASUP_CHUNK: return on_chunk(worker, frame, body);
    case HASUP_PROGRESS: return on_progress(worker, frame);
    case HASUP_UNBEGUN: return on_unbegun(worker, frame);
    case HASUP_STATE: return on_state(worker, frame, body);
    case HASUP_SPAWNED:
        return worker->granted & HASUP_CAN_ZYGOTE ? fork_answered(worker, frame) : HASUP_EPROTO;
    case HASUP_PONG: worker_post(worker, &(struct event){.type = EVENT_PONG}); return 0;
    }
    return HASUP_EPROTO; /* what it was not granted, or never may send */
}

static void worker_lost(void *context, int error, const char *why)
{
    struct worker *worker = context;
    said_until_now(worker);
    if (error == HASUP_ECLOSED) {
        /* Its exit says more than its silence; only one that stays without its socket is ended. */
        if (!worker->leaving)
            worker_post(worker, &(struct event){.type = EVENT_BROKE});
        return;
    }
    worker_broke(worker, why);
}

const struct peer_ops worker_ops = {.frame = worker_frame, .lost = worker_lost};
