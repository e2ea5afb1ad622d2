/*
 * http_request.c: bytes to requests.  llhttp splits them; this file keeps the places of the head's
 * parts (as offsets, since its bytes may move), collects the body, and refuses what is malformed,
 * too large or ambiguous.  Every error ends the connection: after it nobody knows where the next
 * request starts.
 *
 * A body of known length is read straight to where it stays: a pooled memfd above
 * HASUP_INLINE_MAX, which workers get without a copy, else heap memory that grows as bytes come, so
 * that a length that was only promised costs nothing.
 */
#include "supervisor/http/connection.h"

#include <stdlib.h>

/* ---- the head ---- */

static struct head *head_of(struct connection *c)
{
    return c->head ? c->head : &c->http->head;
}

static int refuse(struct connection *c, uint16_t status, const char *code, const char *message)
{
    c->verdict = (struct verdict){status, code, message};
    return HPE_USER;
}

static int head_too_large(struct connection *c)
{
    return refuse(c, 431, "bad_request", "the request's head is larger than the limit");
}

/* Lengthens `span` by the piece at `at`.  A gap is a folded header line, which is forbidden. */
static int span_add(struct connection *c, struct span *span, const char *at, size_t len)
{
    size_t offset = (size_t)(at - c->http->base);
    if (offset + len > c->http->options.head_max)
        return head_too_large(c);
    if (!span->len)
        span->at = (uint32_t)offset;
    else if (len && span->at + span->len != offset)
        return refuse(c, 400, "bad_request", "a header line is folded");
    span->len += (uint32_t)len;
    return 0;
}

static int on_message_begin(llhttp_t *parser)
{
    struct connection *c = parser->data;
    struct head *head = head_of(c);
    c->begun = true;
    head->target.len = head->count = 0;
    c->verdict = (struct verdict){0};
    c->raw = 0;
    c->id[0] = '\0';
    c->shape = SHAPE_OWN;
    c->head_only = false;
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    return span_add(c, &head_of(c)->target, at, len);
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    struct head *head = head_of(c);
    if (c->state == CONNECTION_BODY)
        return 0; /* a trailer; counted with the framing of the body, and ignored */
    struct head_field *field = head->count ? &head->fields[head->count - 1] : NULL;
    if (!field || field->named) {
        if (head->count >= c->http->options.fields_max)
            return refuse(c, 431, "bad_request", "the request has too many header fields");
        field = &head->fields[head->count++];
        memset(field, 0, sizeof *field);
    }
    return span_add(c, &field->name, at, len);
}

static int on_header_field_complete(llhttp_t *parser)
{
    struct connection *c = parser->data;
    struct head *head = head_of(c);
    if (c->state != CONNECTION_BODY && head->count)
        head->fields[head->count - 1].named = true;
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    struct head *head = head_of(c);
    if (c->state == CONNECTION_BODY || !head->count)
        return 0;
    return span_add(c, &head->fields[head->count - 1].value, at, len);
}

/* Whether the rest of a refused request is not worth reading. */
static bool ends_here(const struct connection *c, bool chunked)
{
    return c->verdict.status == 413 || c->verdict.status == 429 || c->expects || chunked ||
           c->body.whole > HTTP_DISCARD_MAX;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct connection *c = parser->data;
    bool chunked = (parser->flags & F_CHUNKED) != 0;
    uint64_t whole = chunked ? UINT64_MAX : parser->content_length;
    parser->upgrade = 0; /* an offer that a server may pass over */
    c->old = parser->http_minor == 0;
    c->keep_alive = llhttp_should_keep_alive(parser) != 0;
    c->body.whole = whole;
    head_take(c, head_of(c));
    if (parser->http_major != 1)
        return refuse(c, 400, "bad_request", "this server speaks HTTP/1.0 and HTTP/1.1");
    if (!c->verdict.status && !chunked && whole > c->body.max)
        refuse(c, 413, "too_large", "the body is over the model's body_max");
    if (!c->verdict.status && !chunked && whole > c->http->options.body_bytes - c->http->arriving)
        refuse(c, 429, "overloaded", "too many bytes of bodies are arriving; try again later");
    if (c->verdict.status && whole && ends_here(c, chunked))
        return HPE_USER;
    if (whole) {
        c->state = CONNECTION_BODY;
        c->expects = c->expects && !c->old;
    }
    return 0;
}

/* ---- the body ---- */

/* Makes room for `more` bytes.  0, or the connection has its verdict. */
static int body_grow(struct connection *c, uint64_t more)
{
    uint64_t need = c->body.len + more, room = c->body.room ? c->body.room : 4096;
    if (need <= c->body.room)
        return 0;
    while (room < need)
        room *= 2;
    if (c->body.whole != UINT64_MAX && room > c->body.whole)
        room = c->body.whole;
    uint8_t *bytes = realloc(c->body.bytes, room);
    if (!bytes)
        return refuse(c, 503, "unavailable", "out of memory");
    c->body.bytes = bytes;
    c->body.room = room;
    return 0;
}

/* The first bytes of a body that is not whole: where will it stand? */
static int body_open(struct connection *c, uint64_t len)
{
    uint64_t whole = c->body.whole;
    if (c->body.bytes)
        return 0;
    if (whole == UINT64_MAX || whole <= HASUP_INLINE_MAX || !c->http->options.pool)
        return body_grow(c, len ? len : 1);
    c->body.buffer = buffer_pool_take(c->http->options.pool, whole);
    if (!c->body.buffer)
        return refuse(c, 503, "unavailable", "out of memory");
    c->body.bytes = c->body.buffer->map;
    c->body.room = c->body.buffer->size;
    return 0;
}

uint8_t *body_place(struct connection *c, size_t *room)
{
    uint64_t left = c->body.whole - c->body.len;
    if (c->body.whole == UINT64_MAX || c->verdict.status || left < HTTP_READ / 8)
        return NULL;
    if (body_open(c, HTTP_READ) || (c->body.len == c->body.room && body_grow(c, HTTP_READ))) {
        c->verdict.status = 0; /* the scratch memory serves too, or says the same later */
        return NULL;
    }
    uint64_t free_bytes = c->body.room - c->body.len;
    *room = (size_t)(left < free_bytes ? left : free_bytes);
    return c->body.bytes + c->body.len;
}

static int body_add(struct connection *c, const uint8_t *at, uint64_t len)
{
    int error = body_open(c, len);
    if (!error && !c->body.buffer && c->body.bytes + c->body.len != at)
        error = body_grow(c, len);
    if (error)
        return error;
    if (c->body.bytes + c->body.len != at)
        memcpy(c->body.bytes + c->body.len, at, len);
    c->body.len += len;
    c->http->arriving += len;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct connection *c = parser->data;
    if (c->verdict.status)
        return 0; /* refused already; its bytes are only skipped */
    if (len == c->body.whole) {
        c->body.view = (const uint8_t *)at;
        c->body.len = len;
        return 0;
    }
    if (len > c->body.max - c->body.len)
        return refuse(c, 413, "too_large", "the body is over the model's body_max");
    if (len > c->http->options.body_bytes - c->http->arriving)
        return refuse(c, 429, "overloaded", "too many bytes of bodies are arriving");
    return body_add(c, (const uint8_t *)at, len);
}

static int on_message_complete(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

const llhttp_settings_t HTTP_PARSER = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- between reads ---- */

/* Keeps bytes for the next read; the parser has seen `parsed` of them. */
static int keep(struct connection *c, const uint8_t *bytes, size_t len, size_t parsed)
{
    if (!len)
        return 0;
    c->in = malloc(len);
    if (!c->in)
        return HASUP_ENOMEM;
    memcpy(c->in, bytes, len);
    c->in_len = c->in_room = (uint32_t)len;
    c->in_parsed = (uint32_t)parsed;
    return 0;
}

/* The head goes on in the next read: its places must outlive this one. */
static int keep_head(struct connection *c, const uint8_t *bytes, size_t len)
{
    if (len > c->http->options.head_max)
        return head_too_large(c);
    if (!c->head) {
        c->head = malloc(sizeof *c->head);
        if (!c->head)
            return HASUP_ENOMEM;
        *c->head = c->http->head;
    }
    return keep(c, bytes, len, len);
}

/* The body goes on in the next read: the meta must outlive this one. */
static int keep_meta(struct connection *c)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    free(c->head);
    c->head = NULL;
    if (c->expects && !c->body.len && !c->http->resuming)
        out_write(c, go_on, sizeof go_on - 1);
    c->expects = false;
    if (c->meta != c->http->meta || !c->meta)
        return 0;
    c->meta = malloc((size_t)c->meta_len + HTTP_SESSION_ROOM);
    if (!c->meta)
        return HASUP_ENOMEM;
    memcpy(c->meta, c->http->meta, c->meta_len);
    return 0;
}

/* Another hasupd parses it again (http_carry.c).  Without it that waits for the body's end. */
static void keep_head_bytes(struct connection *c, const uint8_t *bytes, size_t len)
{
    c->head_bytes = malloc(len);
    if (!c->head_bytes)
        return;
    memcpy(c->head_bytes, bytes, len);
    c->head_len = (uint32_t)len;
}

/* All bytes in hand are used and the request is not whole; `head`: they begin with its head. */
static int feed_pause(struct connection *c, const uint8_t *bytes, size_t len, size_t fresh,
                      bool head)
{
    if (c->state == CONNECTION_HEAD)
        return c->begun ? keep_head(c, bytes, len) : 0;
    if (head && c->body.whole != UINT64_MAX && !c->verdict.status)
        keep_head_bytes(c, bytes, len - c->body.len);
    if (c->body.whole == UINT64_MAX) {
        /* Chunk sizes, extensions and trailers must stay in proportion to what they frame. */
        c->raw += fresh;
        if (c->raw > 16 * c->body.len + 2 * c->http->options.head_max + HTTP_READ)
            return refuse(c, 400, "bad_request", "the chunked body is mostly framing");
    }
    return keep_meta(c);
}

/* Of a head that is not whole: the route was not looked for. */
static uint8_t shape_of(const char *target, size_t len)
{
    if (len < 3 || memcmp(target, "/v", 2) != 0 || (len > 3 && target[3] != '/'))
        return SHAPE_OWN;
    return target[2] == '1' ? SHAPE_V1 : target[2] == '2' ? SHAPE_V2 : SHAPE_OWN;
}

static void feed_failed(struct connection *c, enum llhttp_errno why)
{
    const struct head *head = head_of(c);
    const char *target = c->http->base + head->target.at;
    c->keep_alive = false;
    if (c->state == CONNECTION_HEAD && c->begun)
        c->shape = shape_of(target, head->target.len);
    if (c->verdict.status) {
        answer_verdict(c, c->verdict.status, c->verdict.code, c->verdict.message);
        return;
    }
    const char *reason = llhttp_get_error_reason(&c->parser);
    if (why == HPE_UNEXPECTED_CONTENT_LENGTH || why == HPE_INVALID_TRANSFER_ENCODING)
        reason = "the length of the request's body is ambiguous";
    answer_verdict(c, 400, "bad_request", reason && *reason ? reason : "malformed request");
}

void connection_feed(struct connection *c, const uint8_t *bytes, size_t len, size_t parsed)
{
    struct http *http = c->http;
    while (len > parsed) {
        http->base = (const char *)bytes;
        http->end = (const char *)bytes + len;
        const bool head = c->state == CONNECTION_HEAD;
        enum llhttp_errno why =
            llhttp_execute(&c->parser, (const char *)bytes + parsed, len - parsed);
        if (why == HPE_OK) {
            int error = feed_pause(c, bytes, len, len - parsed, head);
            if (error == HPE_USER)
                feed_failed(c, why);
            else if (error)
                connection_doom(c);
            return;
        }
        if (why != HPE_PAUSED) {
            feed_failed(c, why);
            return;
        }
        size_t used = (size_t)(llhttp_get_error_pos(&c->parser) - (const char *)bytes);
        bytes += used;
        len -= used;
        parsed = 0;
        route_run(c);
        if (c->state != CONNECTION_HEAD || out_unsent(c) >= HTTP_DIRECT)
            break;
    }
    if ((c->state == CONNECTION_PENDING || c->state == CONNECTION_HEAD) && keep(c, bytes, len, 0))
        connection_doom(c);
}
