/*
 * durable_kept.c: what is kept of a durable request until it is written: the reply and the chunks
 * of its stream.  A chunk is its request's and its operation's; the reply is the request's, until
 * the core says RELEASE.
 */
#include "supervisor/durable_own.h"

#include "supervisor/carry.h"

#include <stdlib.h>

static void held_free(struct held *held)
{
    if (held && held->body.buffer)
        buffer_unref(held->body.buffer);
    free(held);
}

void durable_hold(struct engine *engine, uint64_t id)
{
    struct request *request = engine_request(engine, id);
    const struct reply *reply = &engine->hand.reply;
    size_t copied = reply->body.buffer ? 0 : (size_t)reply->body.len;
    struct held *held = malloc(sizeof *held + reply->frame->meta_len + copied);
    if (!held)
        abort(); /* an answer would be lost */
    *held = (struct held){
        .status = reply->status, .meta_len = reply->frame->meta_len, .body = reply->body};
    if (held->meta_len)
        memcpy(held->bytes, reply->frame->meta, held->meta_len);
    if (held->body.buffer)
        buffer_ref(held->body.buffer);
    else if (copied)
        memcpy(held->bytes + held->meta_len, reply->body.bytes, copied);
    if (!held->body.buffer)
        held->body.bytes = held->bytes + held->meta_len;
    held_free(request->durable.held);
    request->durable.held = held;
}

void durable_chunk_unref(struct kept_chunk *chunk)
{
    if (chunk && --chunk->refs == 0)
        free(chunk);
}

struct kept_chunk *durable_keep_chunk(struct request *request, uint64_t number,
                                      struct journal_bytes meta, struct journal_bytes bytes,
                                      size_t behind)
{
    struct kept_chunk *chunk = malloc(sizeof *chunk + meta.len + bytes.len + behind);
    if (!chunk)
        return NULL;
    *chunk =
        (struct kept_chunk){.refs = 1, .number = number, .meta_len = meta.len, .len = bytes.len};
    if (meta.len)
        memcpy(chunk->bytes, meta.at, meta.len);
    if (bytes.len)
        memcpy(chunk->bytes + meta.len, bytes.at, bytes.len);
    *(request->durable.last ? &request->durable.last->next : &request->durable.first) = chunk;
    request->durable.last = chunk;
    return chunk;
}

bool durable_put_chunk(struct request *request, uint64_t number, struct journal_bytes meta,
                       struct journal_bytes bytes)
{
    return durable_keep_chunk(request, number, meta, bytes, 0) != NULL;
}

size_t durable_sent(const struct request *request, uint8_t *bytes)
{
    size_t len = 0;
    for (const struct kept_chunk *chunk = request->durable.first; chunk; chunk = chunk->next) {
        if (bytes && chunk->len)
            memcpy(bytes + len, chunk->bytes + chunk->meta_len, chunk->len);
        len += chunk->len;
    }
    return len;
}

uint64_t durable_chunks(const struct request *request)
{
    return request->durable.last ? request->durable.last->number : 0;
}

void durable_release(struct request *request)
{
    while (request->durable.first) {
        struct kept_chunk *chunk = request->durable.first;
        request->durable.first = chunk->next;
        durable_chunk_unref(chunk);
    }
    held_free(request->durable.held);
    request->durable.last = NULL;
    request->durable.held = NULL;
}

void durable_free_request(struct request *request)
{
    durable_release(request);
    free((void *)(uintptr_t)request->durable.key.at);
    request->durable.key = (struct bytes){0};
}

/* ---- to another hasupd ---- */

static void held_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    struct held *held = request->durable.held;
    bool there = held;
    V(there);
    if (!there)
        return;
    const uint8_t *meta = codec->loading ? NULL : held->bytes;
    size_t meta_len = codec->loading ? 0 : held->meta_len;
    struct body body = codec->loading ? (struct body){0} : held->body;
    codec_bytes(codec, &meta, &meta_len);
    size_t len = body.buffer ? 0 : (size_t)body.len;
    const uint8_t *bytes = body.bytes;
    codec_bytes(codec, &bytes, &len);
    carry_buffer(carry, &body.buffer);
    V(body.offset);
    V(body.len);
    if (codec->loading && !(held = malloc(sizeof *held + meta_len + len)))
        codec_fail(codec);
    if (!codec->loading || !held)
        return;
    *held = (struct held){.meta_len = (uint32_t)meta_len, .body = body};
    if (meta_len)
        memcpy(held->bytes, meta, meta_len);
    if (len)
        memcpy(held->bytes + meta_len, bytes, len);
    if (body.buffer)
        buffer_ref(body.buffer);
    else
        held->body = (struct body){.bytes = held->bytes + meta_len, .len = len};
    request->durable.held = held;
}

static void chunks_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    uint64_t count = 0;
    struct kept_chunk *chunk = request->durable.first;
    for (struct kept_chunk *at = chunk; at && !codec->loading; at = at->next)
        count++;
    V(count);
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        struct journal_bytes meta = {0}, bytes = {0};
        uint64_t number = 0;
        if (!codec->loading) {
            number = chunk->number;
            meta = (struct journal_bytes){chunk->bytes, chunk->meta_len};
            bytes = (struct journal_bytes){chunk->bytes + chunk->meta_len, chunk->len};
            chunk = chunk->next;
        }
        V(number);
        codec_bytes(codec, &meta.at, &meta.len);
        codec_bytes(codec, &bytes.at, &bytes.len);
        if (codec->loading && !durable_put_chunk(request, number, meta, bytes))
            codec_fail(codec);
    }
}

void durable_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    uint8_t *key = (uint8_t *)(uintptr_t)request->durable.key.at;
    size_t key_len = request->durable.key.len;
    V(request->durable.async);
    V(request->durable.record);
    V(request->durable.token);
    V(request->durable.body_hash);
    V(request->durable.priority);
    carry_block(carry, &key, &key_len, 0);
    if (codec->loading)
        request->durable.key = (struct bytes){key, key_len};
    uint32_t status = request->durable.held ? request->durable.held->status : 0;
    V(status);
    held_carry(carry, request);
    if (codec->loading && request->durable.held)
        request->durable.held->status = status;
    chunks_carry(carry, request);
}
