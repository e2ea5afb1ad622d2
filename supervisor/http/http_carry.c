/*
 * http_carry.c: clients' connections, to another hasupd.  What of a head has come is parsed again
 * there, so no parser's state goes along.  So is the head of a body that comes, and then what there
 * is of the body, where it stands; a chunked one has to wait.  What a connection was to send goes
 * along as bytes.
 */
#include "supervisor/http/connection.h"

#include "supervisor/carry.h"

#include <stdio.h>
#include <stdlib.h>

static const char *body_holds(struct http *http, const struct connection *c)
{
    const bool chunked = c->body.whole == UINT64_MAX;
    int used = snprintf(http->holds, sizeof http->holds,
                        "a client is in the middle of a request's %sbody: %llu bytes have come",
                        chunked ? "chunked " : "", (unsigned long long)c->body.len);
    if (!chunked)
        used += snprintf(http->holds + used, sizeof http->holds - (size_t)used, " of %llu",
                         (unsigned long long)c->body.whole);
    if (c->id[0])
        snprintf(http->holds + used, sizeof http->holds - (size_t)used, " (%.64s)", c->id);
    return http->holds;
}

const char *http_holds(struct http *http)
{
    if (http->fd < 0)
        return "the HTTP door is closed";
    for (int i = 0; i < DEADLINES; i++)
        for (const struct connection *c = http->deadlines[i].first; c; c = c->next)
            if (c->state == CONNECTION_BODY && (!c->head_bytes || c->verdict.status))
                return body_holds(http, c);
    return NULL;
}

static void answer_carry(struct carry *carry, struct connection *c)
{
    CARRY(carry);
    V(c->model);
    V(c->keep_alive);
    V(c->old);
    V(c->accepts_sse);
    E(c->shape, SHAPE_V2);
    V(c->proxied);
    V(c->head_only);
    carry_text(carry, c->id, sizeof c->id);
    V(c->async);
    V(c->waits);
    V(c->wait);
    V(c->heard);
    V(c->heard_of);
    carry_text(carry, c->record, sizeof c->record);
    V(c->events);
    V(c->run);
    V(c->status);
    V(c->streaming);
    V(c->sse);
    V(c->passes);
    V(c->between);
}

/* What is queued, and what stands in a worker's buffer behind it, as one. */
static void output_carry(struct carry *carry, struct connection *c)
{
    CARRY(carry);
    const uint8_t *first = c->out ? c->out + c->out_at : NULL, *second = c->tail_bytes;
    size_t queued = c->out_len - c->out_at, behind = (size_t)c->tail_len;
    codec_bytes(codec, &first, &queued);
    codec_bytes(codec, &second, &behind);
    if (!codec->loading || !(queued + behind))
        return;
    uint8_t *at = out_reserve(c, queued + behind);
    if (!at)
        return;
    if (queued)
        memcpy(at, first, queued);
    if (behind)
        memcpy(at + queued, second, behind);
    out_commit(c, queued + behind);
}

static void input_carry(struct carry *carry, struct connection *c)
{
    size_t len = c->in_len;
    carry_block(carry, &c->in, &len, 0);
    if (!carry->codec.loading)
        return;
    if (len > UINT32_MAX)
        codec_fail(&carry->codec);
    c->in_len = c->in_room = (uint32_t)len;
}

/* Parsed as if it came now, without a copy of the body. */
static void body_resume(struct connection *c, const uint8_t *head, size_t head_len,
                        const struct body *body)
{
    struct http *http = c->http;
    http->resuming = true;
    connection_feed(c, head, head_len, 0);
    if (c->state == CONNECTION_BODY && !c->verdict.status && body->len) {
        c->body.buffer = body->buffer;
        c->body.bytes = body->buffer ? body->buffer->map : (uint8_t *)(uintptr_t)body->bytes;
        c->body.room = body->buffer ? body->buffer->size : body->len;
        connection_feed(c, c->body.bytes, body->len, 0);
    } else if (body->buffer) { /* it is refused here */
        buffer_unref(body->buffer);
    } else {
        free((uint8_t *)(uintptr_t)body->bytes);
    }
    http->resuming = false;
}

/* Of a request whose body comes: its head, and the body so far. */
static void body_carry(struct carry *carry, struct connection *c, bool comes)
{
    CARRY(carry);
    const uint8_t *head = comes ? c->head_bytes : NULL;
    size_t head_len = comes ? c->head_len : 0;
    struct body body = {0};
    if (comes)
        body = (struct body){.bytes = c->body.bytes, .buffer = c->body.buffer, .len = c->body.len};
    codec_bytes(codec, &head, &head_len);
    carry_body(carry, &body);
    if (!codec->loading || codec->failed || !head_len)
        return;
    if (body.buffer && body.len > body.buffer->size)
        codec_fail(codec);
    else if (!carry->dry)
        body_resume(c, head, head_len, &body);
}

static void connection_carry(struct carry *carry, struct http *http, struct connection *c)
{
    CARRY(carry);
    int fd = c ? c->watch.fd : -1;
    carry_fd(carry, &fd);
    if (codec->loading && (fd < 0 || !(c = connection_new(http, fd)))) {
        codec_fail(codec);
        return;
    }
    bool pending = c->state == CONNECTION_PENDING;
    uint64_t id = pending && !codec->loading ? engine_request_id(c->request) : 0;
    bool comes = c->state == CONNECTION_BODY;
    uint8_t state = comes ? CONNECTION_HEAD : c->state;
    E(state, CONNECTION_LINGER);
    if (codec->loading)
        c->state = state;
    V(c->eof);
    V(c->doomed);
    V(id);
    answer_carry(carry, c);
    input_carry(carry, c);
    output_carry(carry, c);
    if (!codec->loading) {
        body_carry(carry, c, comes);
        return;
    }
    c->request = id ? engine_rejoin(http->engine, id, &HTTP_DOOR, c) : NULL;
    if (c->state == CONNECTION_PENDING && !c->request)
        codec_fail(codec);
    body_carry(carry, c, false);
    connection_mark(c);
}

void http_carry(struct carry *carry, struct http *http)
{
    CARRY(carry);
    uint32_t count = http->count, done = 0;
    codec_begin(codec);
    V(count);
    V(http->begun_s);
    codec_end(codec);
    for (int i = 0; i < DEADLINES && !codec->loading; i++)
        for (struct connection *c = http->deadlines[i].first; c; c = c->next, done++) {
            codec_begin(codec);
            connection_carry(carry, http, c);
            codec_end(codec);
        }
    for (; codec->loading && done < count && !codec->failed; done++) {
        codec_begin(codec);
        connection_carry(carry, http, NULL);
        codec_end(codec);
    }
    loop_again(http->loop);
}
