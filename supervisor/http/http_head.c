/*
 * http_head.c: a whole head: its fields checked, and the meta for the worker written from them.
 * The first thing that is wrong becomes the verdict; reading goes on, so that the answer bears the
 * request's id whatever the order of its fields.
 */
#include "supervisor/http/connection.h"

#include <strings.h>

enum { TIMEOUT_MAX_S = 366 * 24 * 3600, VERSION_MAX = 128 };

struct reading {
    struct connection *c;
    const struct head *head; /* of a proxied request; else NULL */
    struct hasup_meta_writer meta;
    uint32_t hosts;
};

struct text {
    const char *at;
    size_t len;
};

static void wrong(struct connection *c, const char *message)
{
    if (!c->verdict.status || c->verdict.status == 404 || c->verdict.status == 405)
        c->verdict = (struct verdict){400, "bad_request", message};
}

/* So wrong that the next request cannot be trusted either: other readers of these bytes may split
 * them in other ways. */
static void broken(struct connection *c, const char *message)
{
    wrong(c, message);
    c->keep_alive = false;
}

static bool printable(struct text t, size_t max)
{
    if (!t.len || t.len > max)
        return false;
    for (size_t i = 0; i < t.len; i++)
        if (t.at[i] < 0x20 || t.at[i] > 0x7e)
            return false;
    return true;
}

bool head_is_id(const char *at, size_t len)
{
    return printable((struct text){at, len}, HTTP_ID_MAX);
}

static bool same(struct text t, const char *word)
{
    return t.len == strlen(word) && !strncasecmp(t.at, word, t.len);
}

static bool holds(struct text t, const char *word)
{
    size_t len = strlen(word);
    for (size_t i = 0; i + len <= t.len; i++)
        if (!strncasecmp(t.at + i, word, len))
            return true;
    return false;
}

/* ---- the fields, one function each ---- */

static void put_header(struct reading *r, struct text name, struct text value)
{
    uint8_t joined[1024], *at = joined;
    size_t len = name.len + 1 + value.len;
    /* A long one is joined where the meta will have it: behind its field's header. */
    if (len > sizeof joined) {
        if (r->meta.room - r->meta.used < HASUP_FIELD_HEADER + len) {
            r->meta.full = true;
            return;
        }
        at = r->meta.bytes + r->meta.used + HASUP_FIELD_HEADER;
    }
    for (size_t i = 0; i < name.len; i++)
        at[i] = (uint8_t)(name.at[i] >= 'A' && name.at[i] <= 'Z' ? name.at[i] + 32 : name.at[i]);
    at[name.len] = '\0';
    memcpy(at + name.len + 1, value.at, value.len);
    if (at == joined) {
        hasup_meta_put(&r->meta, HASUP_TAG_HEADER, joined, len);
        return;
    }
    hasup_put16(at - 8, HASUP_TAG_HEADER);
    hasup_put16(at - 6, 0);
    hasup_put32(at - 4, (uint32_t)len);
    r->meta.used += HASUP_FIELD_HEADER + len;
}

static void take_host(struct reading *r, struct text name, struct text value)
{
    (void)name;
    (void)value;
    r->hosts++;
}

static void take_accept(struct reading *r, struct text name, struct text value)
{
    r->c->accepts_sse = r->c->accepts_sse || holds(value, "text/event-stream");
    put_header(r, name, value);
}

static void take_expect(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (same(value, "100-continue"))
        r->c->expects = true;
    else
        r->c->verdict = (struct verdict){417, "bad_request", "Expect is not 100-continue"};
}

static void take_content_type(struct reading *r, struct text name, struct text value)
{
    (void)name;
    hasup_meta_put(&r->meta, HASUP_TAG_CONTENT_TYPE, value.at, value.len);
}

static void take_transfer_encoding(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (!same(value, "chunked") || r->c->old)
        broken(r->c, "the only Transfer-Encoding is chunked, in HTTP/1.1");
}

static void take_traceparent(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (value.len >= 55 && printable(value, 128))
        hasup_meta_put(&r->meta, HASUP_TAG_TRACEPARENT, value.at, value.len);
}

static void take_request_id(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (!printable(value, HTTP_ID_MAX)) {
        wrong(r->c, "X-Request-Id is not 1 to 128 printable ASCII characters");
        return;
    }
    memcpy(r->c->id, value.at, value.len);
    r->c->id[value.len] = '\0';
}

static void take_session(struct reading *r, struct text name, struct text value)
{
    (void)name;
    r->c->session = true;
    if (printable(value, HTTP_ID_MAX))
        hasup_meta_put(&r->meta, HASUP_TAG_SESSION, value.at, value.len);
    else
        wrong(r->c, "X-Session-Id is not 1 to 128 printable ASCII characters");
}

static void take_batch_key(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (printable(value, HTTP_ID_MAX))
        hasup_meta_put(&r->meta, HASUP_TAG_BATCH_KEY, value.at, value.len);
    else
        wrong(r->c, "X-Batch-Key is not 1 to 128 printable ASCII characters");
}

static void take_priority(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (value.len != 1 || value.at[0] < '1' || value.at[0] > '9') {
        wrong(r->c, "X-Priority is not a digit from 1 (first) to 9 (last)");
        return;
    }
    r->c->priority = (uint8_t)(value.at[0] - '0');
    hasup_meta_put32(&r->meta, HASUP_TAG_PRIORITY, r->c->priority);
}

/* "2", "0.25", ".5": a span of time, or 0 where it is none. */
static hasup_ns parse_seconds(struct text t)
{
    hasup_ns ns = 0, unit = HASUP_S;
    bool point = false, digit = false;
    for (size_t i = 0; i < t.len; i++) {
        if (t.at[i] == '.' && !point) {
            point = true;
            continue;
        }
        if (t.at[i] < '0' || t.at[i] > '9')
            return 0;
        digit = true;
        if (point) {
            unit /= 10;
            ns += (t.at[i] - '0') * unit;
        } else {
            ns = ns * 10 + (t.at[i] - '0') * HASUP_S;
        }
        if (ns > TIMEOUT_MAX_S * HASUP_S)
            return 0;
    }
    return digit ? ns : 0;
}

static void take_timeout(struct reading *r, struct text name, struct text value)
{
    (void)name;
    hasup_ns ns = parse_seconds(value);
    if (ns)
        r->c->at_most = loop_now(r->c->http->loop) + ns;
    else
        wrong(r->c, "X-Request-Timeout is not a positive number of seconds");
}

/* Where it is no number the worker says so. */
static void take_json_len(struct reading *r, struct text name, struct text value)
{
    r->c->json_len = 0;
    for (size_t i = 0; i < value.len && i < 18 && value.at[i] >= '0' && value.at[i] <= '9'; i++)
        r->c->json_len = r->c->json_len * 10 + (uint64_t)(value.at[i] - '0');
    put_header(r, name, value);
}

/* hasupd asks nobody who he is by it: it tells clients apart for their limits of rate. */
static void take_authorization(struct reading *r, struct text name, struct text value)
{
    (void)name;
    r->c->client = engine_client(r->c->http->engine, value.at, value.len);
}

/* A quoted string, as the draft has it; without quotes, as many clients send it. */
static void take_key(struct reading *r, struct text name, struct text value)
{
    (void)name;
    if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"') {
        value.at++;
        value.len -= 2;
    }
    if (!printable(value, HTTP_KEY_MAX)) {
        wrong(r->c, "Idempotency-Key is not 1 to 255 printable ASCII characters");
        return;
    }
    if (r->c->key_len) {
        wrong(r->c, "there are two Idempotency-Key fields");
        return;
    }
    r->c->key_at = (uint32_t)(r->meta.used + HASUP_FIELD_HEADER);
    r->c->key_len = (uint32_t)value.len;
    hasup_meta_put(&r->meta, HASUP_TAG_IDEMPOTENCY_KEY, value.at, value.len);
}

/* "respond-async, wait=10": what is not understood is passed over, as RFC 7240 says. */
static void take_prefer(struct reading *r, struct text name, struct text value)
{
    (void)name;
    while (value.len) {
        const char *comma = memchr(value.at, ',', value.len);
        struct text one = {value.at, comma ? (size_t)(comma - value.at) : value.len};
        value.at += one.len + (comma != NULL);
        value.len -= one.len + (comma != NULL);
        while (one.len && (one.at[0] == ' ' || one.at[0] == '\t')) {
            one.at++;
            one.len--;
        }
        while (one.len && (one.at[one.len - 1] == ' ' || one.at[one.len - 1] == '\t'))
            one.len--;
        if (same(one, "respond-async"))
            r->c->async = true;
        if (one.len > 5 && !strncasecmp(one.at, "wait=", 5)) {
            struct text seconds = {one.at + 5, one.len - 5};
            r->c->wait = parse_seconds(seconds);
            r->c->waits = r->c->wait || same(seconds, "0");
        }
    }
}

/* A number in that base, all of the text; false: it is none. */
static bool read_number(struct text t, unsigned base, uint64_t *number)
{
    *number = 0;
    if (!t.len || t.len > 16)
        return false;
    for (size_t i = 0; i < t.len; i++) {
        char digit = t.at[i];
        unsigned value = digit >= '0' && digit <= '9'   ? (unsigned)(digit - '0')
                         : digit >= 'a' && digit <= 'f' ? (unsigned)(digit - 'a' + 10)
                                                        : base;
        if (value >= base)
            return false;
        *number = *number * base + value;
    }
    return true;
}

/* As http_stream.c writes them: RUN-NUMBER, or NUMBER where nobody can come back. */
static void take_last_event(struct reading *r, struct text name, struct text value)
{
    const char *dash = value.len ? memchr(value.at, '-', value.len) : NULL;
    struct text run = {value.at, dash ? (size_t)(dash - value.at) : 0};
    struct text number = {dash ? dash + 1 : value.at, value.len - (dash ? run.len + 1 : 0)};
    (void)name;
    if (value.len && ((dash && !read_number(run, 16, &r->c->heard_of)) ||
                      !read_number(number, 10, &r->c->heard)))
        wrong(r->c, "Last-Event-ID is not one that this server gave");
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    size_t len;
    void (*take)(struct reading *r, struct text name, struct text value);
} FIELDS[] = {
#define FIELD(name, take)                                                                          \
    {                                                                                              \
        name, sizeof name - 1, take                                                                \
    }
    FIELD("host", take_host),
    FIELD("accept", take_accept),
    FIELD("expect", take_expect),
    FIELD("content-type", take_content_type),
    FIELD("transfer-encoding", take_transfer_encoding),
    FIELD("traceparent", take_traceparent),
    FIELD("inference-header-content-length", take_json_len),
    FIELD("x-request-id", take_request_id),
    FIELD("idempotency-key", take_key),
    FIELD("authorization", take_authorization),
    FIELD("prefer", take_prefer),
    FIELD("last-event-id", take_last_event),
    FIELD("x-request-timeout", take_timeout),
    FIELD("x-priority", take_priority),
    FIELD("x-session-id", take_session),
    FIELD("x-batch-key", take_batch_key),
#undef FIELD
};

/* ---- a proxied request ---- */

static struct text text_of(const struct connection *c, struct span span)
{
    return (struct text){c->http->base + span.at, span.len};
}

static struct text value_of(const struct connection *c, struct span span)
{
    struct text t = text_of(c, span);
    while (t.len && (t.at[t.len - 1] == ' ' || t.at[t.len - 1] == '\t'))
        t.len--;
    return t;
}

/* Whether a Connection field of the head names it: it is for this connection only. */
static bool is_of_connection(const struct reading *r, struct text name)
{
    for (uint32_t i = 0; i < r->head->count; i++) {
        struct text list = value_of(r->c, r->head->fields[i].value);
        if (!same(text_of(r->c, r->head->fields[i].name), "connection"))
            continue;
        for (size_t at = 0; at + name.len <= list.len; at++)
            if (!strncasecmp(list.at + at, name.at, name.len) &&
                (at == 0 || strchr(", \t", list.at[at - 1])) &&
                (at + name.len == list.len || strchr(", \t", list.at[at + name.len])))
                return true;
    }
    return false;
}

/* A server gets what its client sent, except what is about this connection. */
static bool passes_on(const struct reading *r, struct text name)
{
    static const char *const HOPS[] = {"connection", "keep-alive", "proxy-connection",
                                       "proxy-authorization", "te", "trailer", "upgrade",
                                       "content-length"};
    for (size_t i = 0; i < HASUP_LEN(HOPS); i++)
        if (same(name, HOPS[i]))
            return false;
    return !is_of_connection(r, name);
}

/* Fields with a meaning here that its server gets besides, or instead. */
static bool take_proxied(struct reading *r, struct text name, struct text value)
{
    if (same(name, "host") || same(name, "prefer") || same(name, "authorization"))
        put_header(r, name, value);
    if (!same(name, "last-event-id"))
        return false;
    put_header(r, name, value);
    return true;
}

static void put_place(struct reading *r, struct text target)
{
    const char *method = llhttp_method_name((llhttp_method_t)r->c->parser.method);
    size_t len;
    const char *rest = route_rest(target.at, target.len, &len);
    hasup_meta_put(&r->meta, HASUP_TAG_METHOD, method, strlen(method));
    hasup_meta_put(&r->meta, HASUP_TAG_PATH, rest, len ? len : 1);
}

/* ---- each field ---- */

static void take_field(struct reading *r, struct text name, struct text value)
{
    if (r->head && take_proxied(r, name, value))
        return;
    for (size_t i = 0; i < HASUP_LEN(FIELDS); i++)
        if (FIELDS[i].len == name.len && !strncasecmp(FIELDS[i].name, name.at, name.len)) {
            FIELDS[i].take(r, name, value);
            return;
        }
    if (!field_name_valid((const uint8_t *)name.at, name.len))
        broken(r->c, "a header field's name is malformed");
    bool passed = r->head ? passes_on(r, name)
                          : name.len > 2 && (name.at[0] | 0x20) == 'x' && name.at[1] == '-';
    if (passed && !(name.len >= 8 && !strncasecmp(name.at, "x-hasup-", 8)))
        put_header(r, name, value);
}

static void put_text(struct reading *r, enum hasup_tag tag, const char *text)
{
    hasup_meta_put(&r->meta, tag, text, strlen(text));
}

void head_take(struct connection *c, const struct head *head)
{
    struct reading r = {.c = c};
    char version[VERSION_MAX] = "";
    struct text target = text_of(c, head->target);
    c->accepts_sse = c->expects = false;
    c->at_most = c->priority = 0;
    c->key_len = 0;
    c->client = c->json_len = 0;
    c->async = c->waits = c->session = false;
    c->wait = 0;
    c->heard = c->heard_of = 0;
    c->record[0] = '\0';
    c->head_only = c->parser.method == HTTP_HEAD;
    c->body.max = 0;
    c->meta = c->http->meta;
    route_find(c, target.at, target.len, version, sizeof version);
    hasup_meta_start(&r.meta, c->meta, c->http->meta_room);
    if (c->route && c->route->worker)
        put_text(&r, HASUP_TAG_ROUTE, c->route->worker);
    if (c->proxied) {
        r.head = head;
        put_place(&r, target);
    }
    if (c->shape == SHAPE_V1 && c->route && c->route->worker) {
        char received[40];
        hasup_meta_put(&r.meta, HASUP_TAG_HEADER, received, v1_received(received, sizeof received));
    }
    if (version[0])
        hasup_meta_put(&r.meta, HASUP_TAG_HEADER, version,
                       strlen(version) + 1 + strlen(version + strlen(version) + 1));
    for (uint32_t i = 0; i < head->count; i++)
        take_field(&r, text_of(c, head->fields[i].name), value_of(c, head->fields[i].value));
    if (!c->old && r.hosts != 1)
        broken(c, "an HTTP/1.1 request has one Host field");
    if (!c->id[0])
        engine_make_id(c->http->engine, c->id);
    put_text(&r, HASUP_TAG_REQUEST_ID, c->id);
    int64_t len = hasup_meta_end(&r.meta);
    if (len < 0)
        wrong(c, "the request's fields are too long for a worker");
    c->meta_len = len < 0 ? 0 : (uint32_t)len;
}
