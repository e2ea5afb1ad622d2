/*
 * http_reply.c: answers.  Writes heads and bodies into the connection's output, gives errors the
 * shape of the request's path, and is the engine's door.  Nothing that a worker sends can break the
 * framing: its fields are checked, and those that speak of the connection are dropped.
 */
#include "supervisor/http/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

/* ---- heads ---- */

static const struct {
    uint16_t status;
    const char *reason;
} REASONS[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
};

static const char *reason_of(uint32_t status)
{
    for (size_t i = 0; i < HASUP_LEN(REASONS); i++)
        if (REASONS[i].status == status)
            return REASONS[i].reason;
    return "";
}

static char *put(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

#define PUT(at, literal) put(at, literal, sizeof literal - 1)

static char *put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t i = sizeof digits;
    do
        digits[--i] = (char)('0' + number % 10);
    while (number /= 10);
    return put(at, digits + i, sizeof digits - i);
}

/* The Date field, made once a second. */
static char *put_date(struct http *http, char *at)
{
    int64_t now = time(NULL);
    if (now != http->date_s) {
        struct tm tm;
        time_t t = (time_t)now;
        gmtime_r(&t, &tm);
        strftime(http->date, sizeof http->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        http->date_s = now;
    }
    at = PUT(at, "Date: ");
    at = put(at, http->date, strlen(http->date));
    return PUT(at, "\r\n");
}

bool field_name_valid(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t b = at[i];
        bool letter = (b | 0x20) >= 'a' && (b | 0x20) <= 'z';
        if (!letter && !(b >= '0' && b <= '9') && !(b && strchr("!#$%&'*+-.^_`|~", b)))
            return false;
    }
    return len > 0;
}

static bool value_safe(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f)
            return false;
    return true;
}

/* Fields that the door writes itself, or that speak of one connection only. */
static bool name_ours(const uint8_t *name, size_t len)
{
    static const char *const ours[] = {
        "connection", "keep-alive",        "proxy-connection", "proxy-authenticate", "te",
        "trailer",    "transfer-encoding", "upgrade",          "content-length",     "content-type",
        "date",       "x-request-id",      "x-hasup-attempts", "x-hasup-version"};
    for (size_t i = 0; i < HASUP_LEN(ours); i++)
        if (strlen(ours[i]) == len && !strncasecmp(ours[i], (const char *)name, len))
            return true;
    return false;
}

/* The worker's HEADER fields; `at` has room for as many bytes as its meta. */
static char *put_fields(char *at, const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, &field) > 0) {
        if (field.tag != HASUP_TAG_HEADER || !field.len)
            continue;
        const uint8_t *zero = memchr(field.value, 0, field.len);
        size_t name = zero ? (size_t)(zero - field.value) : 0;
        const uint8_t *value = field.value + name + 1;
        size_t len = field.len - name - 1;
        if (!field_name_valid(field.value, name) || name_ours(field.value, name) ||
            !value_safe(value, len))
            continue;
        at = put(at, (const char *)field.value, name);
        at = PUT(at, ": ");
        at = put(at, (const char *)value, len);
        at = PUT(at, "\r\n");
    }
    return at;
}

static char *put_framing(struct connection *c, const struct answer *a, char *at)
{
    if (a->framing == FRAMING_CHUNKED)
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    if (a->framing == FRAMING_CLOSE || c->http->fd < 0 || c->eof)
        c->keep_alive = false;
    if (a->framing == FRAMING_LENGTH && a->status != 204 && a->status != 304) {
        at = PUT(at, "Content-Length: ");
        at = put_number(at, a->length);
        at = PUT(at, "\r\n");
    }
    if (!c->keep_alive)
        return PUT(at, "Connection: close\r\n");
    return c->old ? PUT(at, "Connection: keep-alive\r\n") : at;
}

static char *put_extras(struct connection *c, const struct answer *a, char *at)
{
    if (a->attempts) {
        at = PUT(at, "X-Hasup-Attempts: ");
        at = put_number(at, a->attempts);
        at = PUT(at, "\r\n");
    }
    if (a->version && *a->version) {
        at = PUT(at, "X-Hasup-Version: ");
        at = put(at, a->version, strlen(a->version));
        at = PUT(at, "\r\n");
    }
    if (a->retry_after) {
        at = PUT(at, "Retry-After: ");
        at = put_number(at, (uint64_t)((a->retry_after + HASUP_S - 1) / HASUP_S));
        at = PUT(at, "\r\n");
    }
    if (a->allow) {
        const char *allow = route_allow(c);
        at = PUT(at, "Allow: ");
        at = put(at, allow, strlen(allow));
        at = PUT(at, "\r\n");
    }
    if (a->applied)
        at = PUT(at, "Preference-Applied: respond-async\r\n");
    if (a->location) {
        at = PUT(at, "Location: /requests/");
        at = put(at, a->location, strlen(a->location));
        at = PUT(at, "\r\n");
    }
    return a->no_store ? PUT(at, "Cache-Control: no-store\r\n") : at;
}

bool answer_head(struct connection *c, const struct answer *a)
{
    enum { OWN_FIELDS = 640 };
    size_t room = OWN_FIELDS + HTTP_ID_MAX + a->type_len + (a->frame ? a->frame->meta_len : 0);
    const char *reason = reason_of(a->status);
    char *start = (char *)out_reserve(c, room), *at = start;
    if (!start)
        return false;
    c->http->counts->answers[a->status / 100 % 6]++;
    at = PUT(at, "HTTP/1.1 ");
    at = put_number(at, a->status);
    at = PUT(at, " ");
    at = put(at, reason, strlen(reason));
    at = PUT(at, "\r\n");
    at = put_date(c->http, at);
    if (a->type) {
        at = PUT(at, "Content-Type: ");
        at = put(at, a->type, a->type_len);
        at = PUT(at, "\r\n");
    }
    at = put_framing(c, a, at);
    at = PUT(at, "X-Request-Id: ");
    at = put(at, c->id, strlen(c->id));
    at = PUT(at, "\r\n");
    at = put_extras(c, a, at);
    if (a->frame)
        at = put_fields(at, a->frame);
    at = PUT(at, "\r\n");
    out_commit(c, (size_t)(at - start));
    connection_mark(c);
    return true;
}

/* ---- the door's own answers ---- */

static const char JSON_TYPE[] = "application/json";

static void answer_bytes(struct connection *c, struct answer *a, const char *bytes, size_t len)
{
    a->length = len;
    if (answer_head(c, a) && !c->head_only)
        out_write(c, bytes, len);
    connection_answered(c);
}

static void answer_text(struct connection *c, struct answer *a, const char *text)
{
    a->type = JSON_TYPE;
    a->type_len = sizeof JSON_TYPE - 1;
    answer_bytes(c, a, text, strlen(text));
}

void answer_plain(struct connection *c, const char *type, const char *text, size_t len)
{
    struct answer a = {.status = 200, .type = type, .type_len = strlen(type)};
    answer_bytes(c, &a, text, len);
}

void answer_json(struct connection *c, uint32_t status, const char *text)
{
    struct answer a = {.status = status};
    answer_text(c, &a, text);
}

void answer_object(struct connection *c, uint32_t status, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text)
        answer_json(c, status, text);
    else
        answer_verdict(c, 503, "unavailable", "out of memory");
    free(text);
}

void answer_text_of_record(struct connection *c, const char *text)
{
    struct answer a = {.status = 202, .location = c->record, .applied = c->async, .no_store = true};
    answer_text(c, &a, text);
}

void answer_options(struct connection *c)
{
    struct answer a = {.status = 204, .allow = true};
    answer_head(c, &a);
    connection_answered(c);
}

/* Text from anywhere as a JSON string: what is not UTF-8 becomes '?'. */
static json_t *json_any(const char *text)
{
    json_t *string = json_string(text);
    char *copy = string ? NULL : strdup(text);
    if (!copy)
        return string;
    for (char *at = copy; *at; at++)
        if ((unsigned char)*at > 0x7e)
            *at = '?';
    string = json_string(copy);
    free(copy);
    return string;
}

char *error_json(const struct connection *c, uint32_t status, const char *code, const char *message)
{
    json_t *said = json_any(message), *object;
    if (c->shape == SHAPE_V1)
        object = v1_error(status, code, said);
    else if (c->shape == SHAPE_V2)
        object = json_pack("{s:o}", "error", said);
    else
        object = json_pack("{s:{s:s, s:o, s:s}}", "error", "code", code, "message", said,
                           "request_id", c->id);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

void answer_error(struct connection *c, const struct refusal_text *text)
{
    struct answer a = {.status = text->status,
                       .retry_after = text->retry_after,
                       .attempts = text->attempts,
                       .allow = text->status == 405};
    if (!c->id[0])
        engine_make_id(c->http->engine, c->id);
    char *json = error_json(c, text->status, text->code, text->message);
    if (json)
        answer_text(c, &a, json);
    else
        connection_doom(c);
    free(json);
}

void answer_verdict(struct connection *c, uint32_t status, const char *code, const char *message)
{
    struct refusal_text text = {.status = status,
                                .code = code,
                                .message = message,
                                .retry_after = status == 429 || status == 503 ? HASUP_S : 0};
    answer_error(c, &text);
}

/* ---- the engine's door ---- */

/* Of a stream: what its client is told before its end, or nothing it may be told. */
static void read_status(const struct hasup_field *field, uint32_t *status)
{
    uint32_t value;
    if (hasup_field_get32(field, &value) == 0 && value >= 200 && value <= 599)
        *status = value;
}

static void read_length(const struct hasup_field *field, uint64_t *length)
{
    static const char name[] = "content-length";
    uint64_t value = 0;
    if (field->len <= sizeof name || field->len > sizeof name + 18 ||
        memcmp(field->value, name, sizeof name) != 0)
        return;
    for (size_t i = sizeof name; i < field->len; i++) {
        if (field->value[i] < '0' || field->value[i] > '9')
            return;
        value = value * 10 + (field->value[i] - '0');
    }
    *length = value;
}

void worker_words(const struct hasup_frame *frame, struct worker_words *words)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    *words = (struct worker_words){.status = 200};
    if (!frame)
        return;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, &field) > 0) {
        if (field.tag == HASUP_TAG_ERROR) {
            words->error = (const char *)field.value;
            words->error_len = field.len;
        } else if (field.tag == HASUP_TAG_CONTENT_TYPE && field.len &&
                   value_safe(field.value, field.len)) {
            words->type = (const char *)field.value;
            words->type_len = field.len;
        } else if (field.tag == HASUP_TAG_STATUS) {
            read_status(&field, &words->status);
        } else if (field.tag == HASUP_TAG_HEADER) {
            read_length(&field, &words->head_length);
        }
    }
}

static void answer_type(const struct connection *c, const struct worker_words *words,
                        struct answer *a)
{
    static const char bytes[] = "application/octet-stream";
    bool json = c->shape != SHAPE_OWN;
    if (c->proxied && !words->type)
        return; /* nor did the server say one */
    a->type = words->type ? words->type : json ? JSON_TYPE : bytes;
    a->type_len = words->type ? words->type_len : json ? sizeof JSON_TYPE - 1 : sizeof bytes - 1;
}

/* Queues the body: small ones are copied, those in a buffer are sent from where they are. */
static void answer_body(struct connection *c, struct body *body, const uint8_t *bytes)
{
    if (!body->buffer || body->len < HTTP_DIRECT || c->doomed) {
        out_write(c, bytes, (size_t)body->len);
        return;
    }
    buffer_ref(body->buffer);
    c->tail = body->buffer;
    c->tail_bytes = bytes;
    c->tail_len = body->len;
    connection_mark(c);
}

/* The worker said that it failed and gave no body of its own. */
static void answer_worker_error(struct connection *c, const struct reply *reply,
                                const struct worker_words *words)
{
    struct answer a = {.status = reply->status < 400 ? 500 : reply->status,
                       .attempts = reply->attempts,
                       .version = reply->version,
                       .frame = reply->frame};
    char *message = words->error ? strndup(words->error, words->error_len) : NULL;
    char *json =
        error_json(c, a.status, "worker_error", message ? message : "the worker answered an error");
    if (json)
        answer_text(c, &a, json);
    else
        connection_doom(c);
    free(json);
    free(message);
}

static void door_reply(void *context, const struct reply *reply)
{
    struct connection *c = context;
    struct answer a = {.status = reply->status,
                       .attempts = reply->attempts,
                       .version = reply->version,
                       .frame = reply->frame};
    struct worker_words words;
    struct body body = reply->body;
    const uint8_t *bytes = body.len ? body_bytes(&body) : NULL;
    if (c->doomed) {
        c->state = CONNECTION_CLOSING; /* the engine has done with it */
        return;
    }
    if (c->streaming) {
        stream_end(c, reply);
        return;
    }
    worker_words(reply->frame, &words);
    if (body.len && !bytes) {
        answer_verdict(c, 503, "unavailable", "the worker's answer could not be mapped");
    } else if (!body.len && (words.error || (reply->status >= 400 && !c->proxied))) {
        answer_worker_error(c, reply, &words);
    } else if (c->sse && reply->status < 300 && !words.error) {
        stream_whole(c, reply, bytes);
    } else {
        answer_type(c, &words, &a);
        if (words.error && a.status < 400)
            a.status = 500;
        a.length = c->head_only && !body.len ? words.head_length : body.len;
        if (answer_head(c, &a) && body.len && a.status != 204 && a.status != 304)
            answer_body(c, &body, bytes);
        connection_answered(c);
    }
}

static void door_chunk(void *context, const struct reply *head, const uint8_t *bytes, size_t len)
{
    struct connection *c = context;
    if (!c->doomed)
        stream_chunk(c, head, bytes, len);
}

static void door_refuse(void *context, const struct refusal_text *refusal)
{
    struct connection *c = context;
    if (c->doomed)
        c->state = CONNECTION_CLOSING;
    else if (c->record[0] && c->wait && refusal->why == REFUSED_DEADLINE && record_goes_on(c))
        answer_record(c); /* it waited as long as it was asked to */
    else if (c->streaming)
        stream_refused(c, refusal->status, refusal->code, refusal->message);
    else
        answer_error(c, refusal);
}

static void door_accepted(void *context, const char *id)
{
    struct connection *c = context;
    memcpy(c->record, id, sizeof c->record);
    if (c->doomed)
        c->state = CONNECTION_CLOSING;
    else
        answer_record(c);
}

const struct door HTTP_DOOR = {.name = "http",
                               .reply = door_reply,
                               .chunk = door_chunk,
                               .refuse = door_refuse,
                               .accepted = door_accepted};
