/*
 * unix_requests.c: what local clients ask for and what they hear.  A REQUEST frame becomes a
 * submission, the engine's answers become frames.  Owns each client's requests that are not
 * answered yet; what cannot be submitted is refused here, at the door.
 */
#include "supervisor/unix_own.h"

#include "supervisor/carry.h"

#include <stdlib.h>

enum { FREE_REQUESTS = 1024, SMALL_META = 4096, KEY_MAX = 255 };

static const struct door UNIX_DOOR;

/* ---- records ---- */

static struct unix_request *record_new(struct unix_client *client, uint64_t id)
{
    struct unix_door *door = client->door;
    struct unix_request *record = door->free;
    if (record) {
        door->free = record->next;
        door->free_count--;
    } else if (!(record = malloc(sizeof *record))) {
        return NULL;
    }
    *record = (struct unix_request){
        .client = client, .id = id, .next = client->requests, .back = &client->requests};
    if (record->next)
        record->next->back = &record->next;
    client->requests = record;
    return record;
}

void unix_record_free(struct unix_request *record)
{
    struct unix_door *door = record->client->door;
    *record->back = record->next;
    if (record->next)
        record->next->back = record->back;
    if (door->free_count == FREE_REQUESTS) {
        free(record);
        return;
    }
    record->next = door->free;
    door->free = record;
    door->free_count++;
}

/* ---- answers ---- */

/* Fields of a worker's answer that are not passed on: its buffer's, and those that only hasupd
 * says. */
static bool field_stays(unsigned tag)
{
    return tag == HASUP_TAG_BUFFER_ID || tag == HASUP_TAG_BUFFER_OFFSET || tag == HASUP_TAG_CODE ||
           tag == HASUP_TAG_RETRY_AFTER || tag == HASUP_TAG_ATTEMPTS;
}

/* Sends `frame` with the worker's meta and ATTEMPTS behind it. */
static int send_answer(struct unix_client *client, struct hasup_frame *frame,
                       const struct hasup_frame *from, struct body *body, uint32_t attempts)
{
    uint8_t small[SMALL_META], *meta = small;
    size_t need = from->meta_len + 16 + PEER_META_ROOM;
    if (attempts <= 1 && !from->meta_len && body->len <= HASUP_INLINE_MAX)
        return unix_client_send(client, frame, body);
    if (need > sizeof small && !(meta = malloc(need)))
        return HASUP_ENOMEM;
    struct hasup_meta_reader reader;
    struct hasup_meta_writer w;
    struct hasup_field field;
    hasup_meta_read(&reader, from);
    hasup_meta_start(&w, meta, need - PEER_META_ROOM);
    while (hasup_meta_next(&reader, &field) > 0)
        if (!field_stays(field.tag))
            hasup_meta_put(&w, (enum hasup_tag)field.tag, field.value, field.len);
    if (attempts > 1)
        hasup_meta_put32(&w, HASUP_TAG_ATTEMPTS, attempts);
    frame->meta = meta;
    frame->meta_len = (uint32_t)w.used;
    int error = unix_client_send(client, frame, body);
    if (meta != small)
        free(meta);
    return error;
}

static void door_reply(void *context, const struct reply *reply)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .id = record->id, .seq = reply->status, .fd = -1};
    struct body body = reply->body;
    unix_record_free(record);
    send_answer(client, &frame, reply->frame, &body, reply->attempts);
}

static void door_chunk(void *context, const struct reply *head, const uint8_t *bytes, size_t len)
{
    struct unix_request *record = context;
    struct hasup_frame frame = {
        .type = HASUP_CHUNK, .id = record->id, .seq = record->chunks++, .fd = -1};
    struct body body = {.bytes = bytes, .len = len};
    send_answer(record->client, &frame, head->frame, &body, 1);
}

static void send_refusal(struct unix_client *client, uint64_t id, const struct refusal_text *text)
{
    uint8_t meta[1024 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 1024);
    hasup_meta_put(&w, HASUP_TAG_CODE, text->code, strlen(text->code));
    hasup_meta_put(&w, HASUP_TAG_ERROR, text->message, strlen(text->message));
    if (text->retry_after)
        hasup_meta_put32(&w, HASUP_TAG_RETRY_AFTER, (uint32_t)(text->retry_after / HASUP_MS));
    if (text->attempts > 1)
        hasup_meta_put32(&w, HASUP_TAG_ATTEMPTS, text->attempts);
    struct hasup_frame frame = {.type = HASUP_REPLY,
                                .id = id,
                                .seq = text->status,
                                .meta = meta,
                                .meta_len = (uint32_t)w.used};
    unix_client_send(client, &frame, NULL);
}

static void door_refuse(void *context, const struct refusal_text *refusal)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    uint64_t id = record->id;
    unix_record_free(record);
    send_refusal(client, id, refusal);
}

/* It is durable, or (asked for without waiting) has no end yet: what to ask by later. */
static void send_accepted(struct unix_client *client, uint64_t id, const char *record)
{
    uint8_t meta[64 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 64);
    hasup_meta_put(&w, HASUP_TAG_RECORD, record, RECORD_ID);
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .id = id, .seq = 202, .meta = meta, .meta_len = (uint32_t)w.used};
    unix_client_send(client, &frame, NULL);
}

static void door_accepted(void *context, const char *id)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    uint64_t number = record->id;
    unix_record_free(record);
    send_accepted(client, number, id);
}

static const struct door UNIX_DOOR = {.name = "unix",
                                      .reply = door_reply,
                                      .chunk = door_chunk,
                                      .refuse = door_refuse,
                                      .accepted = door_accepted};

/* ---- requests ---- */

struct client_request {
    char no_model[ENGINE_REASON]; /* why `model` is none */
    struct submission submission;
    struct hasup_meta_writer meta;
    int model;
    uint64_t timeout;
    struct bytes record; /* of a durable request that is asked for; len 0: none is */
};

static int take_field(struct unix_client *client, struct client_request *r,
                      const struct hasup_field *field)
{
    uint32_t priority, prefer;
    switch (field->tag) {
    case HASUP_TAG_MODEL:
        r->model = engine_model(client->door->engine, (const char *)field->value, field->len);
        if (r->model < 0)
            engine_no_model(client->door->engine, (const char *)field->value, field->len,
                            r->no_model);
        return 0;
    case HASUP_TAG_DEADLINE: return hasup_field_get64(field, &r->timeout);
    case HASUP_TAG_PRIORITY:
        if (hasup_field_get32(field, &priority) || priority < 1 || priority > 9)
            return HASUP_EPROTO;
        r->submission.priority = (uint8_t)priority;
        hasup_meta_put32(&r->meta, HASUP_TAG_PRIORITY, priority);
        return 0;
    case HASUP_TAG_BUFFER_ID:
    case HASUP_TAG_BUFFER_OFFSET: return 0;
    case HASUP_TAG_RECORD:
        r->record = (struct bytes){field->value, field->len};
        return field->len ? 0 : HASUP_EPROTO;
    case HASUP_TAG_PREFER:
        if (hasup_field_get32(field, &prefer))
            return HASUP_EPROTO;
        r->submission.async = prefer & HASUP_PREFER_ASYNC;
        r->submission.no_wait = prefer & HASUP_PREFER_NO_WAIT;
        return 0;
    case HASUP_TAG_IDEMPOTENCY_KEY:
        r->submission.key = (struct bytes){field->value, field->len};
        hasup_meta_put(&r->meta, HASUP_TAG_IDEMPOTENCY_KEY, field->value, field->len);
        return 0;
    case HASUP_TAG_CONTENT_TYPE:
    case HASUP_TAG_ROUTE:
    case HASUP_TAG_HEADER:
    case HASUP_TAG_REQUEST_ID:
    case HASUP_TAG_SESSION:
    case HASUP_TAG_BATCH_KEY:
    case HASUP_TAG_TRACEPARENT:
        hasup_meta_put(&r->meta, (enum hasup_tag)field->tag, field->value, field->len);
        return 0;
    default: return hasup_meta_unknown(field);
    }
}

static void refuse_at_the_door(struct unix_client *client, uint64_t id, uint32_t status,
                               const char *code, const char *message, hasup_ns retry_after)
{
    send_refusal(
        client, id,
        &(struct refusal_text){
            .status = status, .code = code, .message = message, .retry_after = retry_after});
}

static void ask(struct unix_client *client, uint64_t id, struct client_request *r)
{
    struct engine *engine = client->door->engine;
    const char *name = (const char *)r->record.at;
    struct record_info info = {0};
    int error = engine_record(engine, name, r->record.len, &info);
    bool ended = info.state == RECORD_DONE || info.state == RECORD_REFUSED;
    if (!error && r->submission.no_wait && !ended) {
        send_accepted(client, id, name);
        return;
    }
    struct unix_request *record = error ? NULL : record_new(client, id);
    if (record) {
        r->submission.door = &UNIX_DOOR;
        r->submission.context = record;
        r->submission.body = (struct body){0};
        error = engine_ask(engine, name, r->record.len, &r->submission, &record->request);
        if (error)
            unix_record_free(record);
    }
    if (error == HASUP_ENOTFOUND)
        refuse_at_the_door(client, id, 404, "not_found", "there is no such request", 0);
    else if (error || !record)
        refuse_at_the_door(client, id, 429, "overloaded", refusal_message(REFUSED_OVERLOADED),
                           HASUP_S);
}

static void submit(struct unix_client *client, uint64_t id, struct client_request *r)
{
    struct engine *engine = client->door->engine;
    uint64_t body_max;
    if (r->model < 0 || !engine_model_body_max(engine, (uint32_t)r->model, &body_max)) {
        refuse_at_the_door(client, id, 404, "not_found",
                           r->no_model[0] ? r->no_model : refusal_message(REFUSED_NOT_FOUND), 0);
        return;
    }
    if (r->submission.key.len > KEY_MAX) {
        refuse_at_the_door(client, id, 400, "bad_request",
                           "an idempotency key has 255 bytes at most", 0);
        return;
    }
    if (r->submission.body.len > body_max) {
        refuse_at_the_door(client, id, 413, "too_large", "the body is over the model's body_max",
                           0);
        return;
    }
    struct unix_request *record = record_new(client, id);
    int error = HASUP_ENOMEM;
    if (record) {
        r->submission.door = &UNIX_DOOR;
        r->submission.context = record;
        r->submission.model = (uint32_t)r->model;
        error = engine_submit(engine, &r->submission, &record->request);
        if (error)
            unix_record_free(record);
    }
    if (error)
        refuse_at_the_door(client, id, 429, "overloaded", refusal_message(REFUSED_OVERLOADED),
                           HASUP_S);
}

static hasup_ns deadline_after(hasup_ns now, uint64_t timeout)
{
    return timeout < (uint64_t)(HASUP_NEVER - now) ? now + (hasup_ns)timeout : HASUP_NEVER;
}

int unix_client_request(struct unix_client *client, const struct hasup_frame *frame,
                        struct body *body)
{
    uint8_t small[SMALL_META], *meta = small;
    struct client_request r = {.submission = {.body = *body}, .model = HASUP_ENOTFOUND};
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    if (frame->meta_len > sizeof small && !(meta = malloc(frame->meta_len)))
        return HASUP_ENOMEM;
    hasup_meta_start(&r.meta, meta, meta == small ? sizeof small : frame->meta_len);
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0)
        if ((got = take_field(client, &r, &field)) < 0)
            break;
    if (!got) {
        r.submission.meta = meta;
        r.submission.meta_len = r.meta.used;
        if (r.timeout)
            r.submission.deadline = deadline_after(loop_now(client->door->engine->loop), r.timeout);
        if (r.record.len)
            ask(client, frame->id, &r);
        else
            submit(client, frame->id, &r);
    }
    if (meta != small)
        free(meta);
    return got;
}

bool unix_client_cancel(struct unix_client *client, uint64_t id)
{
    for (struct unix_request *record = client->requests; record; record = record->next)
        if (record->id == id) {
            struct request *request = record->request;
            unix_record_free(record);
            engine_cancel(client->door->engine, request);
            return true;
        }
    return false;
}

/* ---- to another hasupd ---- */

void unix_requests_carry(struct carry *carry, struct unix_client *client)
{
    CARRY(carry);
    struct unix_request *record = client->requests;
    uint64_t count = 0;
    for (; record && !codec->loading; record = record->next)
        count++;
    V(count);
    record = client->requests;
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        if (codec->loading && !(record = record_new(client, 0))) {
            codec_fail(codec);
            return;
        }
        uint64_t id = codec->loading ? 0 : engine_request_id(record->request);
        V(record->id);
        V(record->chunks);
        V(id);
        if (!codec->loading) {
            record = record->next;
            continue;
        }
        record->request = engine_rejoin(client->door->engine, id, &UNIX_DOOR, record);
        if (!record->request) {
            unix_record_free(record);
            codec_fail(codec);
        }
    }
}
