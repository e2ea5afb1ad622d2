/*
 * head.c: heads of requests and answers, between fields of frames and lines of HTTP.  Nothing that
 * a client sends can break the framing of the request: names and values are checked, and what
 * speaks of one connection only is dropped.
 */
#include "worker/adapters/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

enum { FIELD_MOST = 32 * 1024 };

/* ---- requests ---- */

struct reading {
    struct request_head *head;
    char *error;
    bool accepts, typed;
};

static bool is_token(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(at[i] > 0x20 && at[i] < 0x7f) || strchr("\"(),/:;<=>?@[\\]{}", at[i]))
            return false;
    return len > 0;
}

static bool is_value(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((at[i] < 0x20 && at[i] != '\t') || at[i] == 0x7f)
            return false;
    return true;
}

static bool is_word(const char *name, size_t len, const char *const *words)
{
    for (; *words; words++)
        if (strlen(*words) == len && !strncasecmp(*words, name, len))
            return true;
    return false;
}

/* Of one connection, written here, or words between hasupd and its own workers. */
static const char *const NOT_SENT[] = {
    "connection", "keep-alive",     "proxy-connection", "proxy-authorization", "te",     "trailer",
    "upgrade",    "content-length", "content-type",     "transfer-encoding",   "expect",
    "model-version", "received", NULL};

static int add_field(struct reading *r, const char *name, size_t name_len, const uint8_t *value,
                     size_t len)
{
    char line[1024], *at = line;
    size_t need = name_len + 3 + len;
    if (!is_token((const uint8_t *)name, name_len) || !is_value(value, len) || len > FIELD_MOST) {
        snprintf(r->error, ADAPTER_REASON, "a header field cannot be sent: %.*s",
                 (int)(name_len < 64 ? name_len : 64), name);
        return HASUP_EINVAL;
    }
    if (need > sizeof line && !(at = malloc(need)))
        return HASUP_ENOMEM;
    /* curl sends a field without a value only where a semicolon ends its name. */
    int used = snprintf(at, need, len ? "%.*s: " : "%.*s;", (int)name_len, name);
    memcpy(at + used, value, len);
    at[(size_t)used + len] = '\0';
    struct curl_slist *fields = curl_slist_append(r->head->fields, at);
    if (at != line)
        free(at);
    if (!fields)
        return HASUP_ENOMEM;
    r->head->fields = fields;
    return 0;
}

static int add_text(struct reading *r, const char *name, const struct hasup_field *field)
{
    return add_field(r, name, strlen(name), field->value, field->len);
}

static int add_line(struct reading *r, const char *line)
{
    struct curl_slist *fields = curl_slist_append(r->head->fields, line);
    if (!fields)
        return HASUP_ENOMEM;
    r->head->fields = fields;
    return 0;
}

/* What is left of its time, for a server that looks at it. */
static int add_deadline(struct reading *r, const struct hasup_field *field)
{
    struct timespec now;
    uint64_t deadline;
    char line[64];
    if (hasup_field_get64(field, &deadline))
        return HASUP_EPROTO;
    clock_gettime(CLOCK_MONOTONIC, &now);
    hasup_ns left = (hasup_ns)deadline - ((hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec);
    left = left > 0 ? left : 0;
    snprintf(line, sizeof line, "X-Request-Timeout: %lld.%03lld", (long long)(left / HASUP_S),
             (long long)(left % HASUP_S / HASUP_MS));
    return add_line(r, line);
}

static int add_header(struct reading *r, const struct hasup_field *field)
{
    const char *name = (const char *)field->value;
    const uint8_t *zero = field->len ? memchr(field->value, 0, field->len) : NULL;
    if (!zero)
        return HASUP_EPROTO;
    size_t name_len = (size_t)(zero - field->value), len = field->len - name_len - 1;
    if (is_word(name, name_len, NOT_SENT))
        return 0;
    r->accepts = r->accepts || (name_len == 6 && !strncasecmp(name, "accept", 6));
    return add_field(r, name, name_len, zero + 1, len);
}

static int take_text(struct reading *r, const char *what, const struct hasup_field *field,
                     char *out, size_t room)
{
    if (field->len >= room) {
        snprintf(r->error, ADAPTER_REASON, "the request's %s is longer than %zu bytes", what,
                 room - 1);
        return HASUP_EINVAL;
    }
    memcpy(out, field->value, field->len);
    out[field->len] = '\0';
    return 0;
}

static int take_field(struct reading *r, const struct hasup_field *field)
{
    switch (field->tag) {
    case HASUP_TAG_METHOD:
        return take_text(r, "method", field, r->head->method, sizeof r->head->method);
    case HASUP_TAG_PATH: return take_text(r, "path", field, r->head->path, PATH_MOST);
    case HASUP_TAG_HEADER: return add_header(r, field);
    case HASUP_TAG_CONTENT_TYPE: r->typed = true; return add_text(r, "Content-Type", field);
    case HASUP_TAG_REQUEST_ID: return add_text(r, "X-Request-Id", field);
    case HASUP_TAG_SESSION: return add_text(r, "X-Session-Id", field);
    case HASUP_TAG_TRACEPARENT: return add_text(r, "traceparent", field);
    case HASUP_TAG_IDEMPOTENCY_KEY: return add_text(r, "Idempotency-Key", field);
    case HASUP_TAG_DEADLINE: return add_deadline(r, field);
    }
    return 0;
}

static bool is_hex(const char *at, const char *pair)
{
    return at[0] == '%' && at[1] == pair[0] && (at[2] | 0x20) == pair[1];
}

/* A segment of dots leads out of what a pattern of adapter.idempotent speaks of. */
static bool has_dot_segment(const char *path)
{
    while (*path && *path != '?') {
        unsigned dots = 0, others = 0;
        for (; *path && !strchr("?/\\;", *path); path++) { /* some readers end it at these */
            if (is_hex(path, "2e")) {
                dots++;
                path += 2;
            } else if (is_hex(path, "2f") || is_hex(path, "5c")) {
                path += 2; /* some servers take it for a slash */
                break;
            } else {
                dots += *path == '.';
                others += *path != '.';
            }
        }
        if (!others && dots && dots <= 2)
            return true;
        path += *path && *path != '?';
    }
    return false;
}

static int wrong_path(struct reading *r, const char *what)
{
    snprintf(r->error, ADAPTER_REASON, "the request's path %s", what);
    return HASUP_EINVAL;
}

static int check_target(struct reading *r)
{
    char *path = r->head->path;
    path[strcspn(path, "#")] = '\0';
    if (path[0] == '?') { /* behind /proxy came only a query */
        memmove(path + 1, path, strlen(path) + 1);
        path[0] = '/';
    }
    if (path[0] != '/')
        return wrong_path(r, "does not begin with a slash");
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at <= 0x20 || *at == 0x7f)
            return wrong_path(r, "holds a blank or a control character");
    if (has_dot_segment(path))
        return wrong_path(r, "has a segment of dots, which is not passed on");
    if (!is_token((const uint8_t *)r->head->method, strlen(r->head->method))) {
        snprintf(r->error, ADAPTER_REASON, "the request's method is malformed");
        return HASUP_EINVAL;
    }
    return 0;
}

int head_of_request(const struct hasup_frame *frame, struct request_head *head,
                    char error[ADAPTER_REASON])
{
    struct reading r = {.head = head, .error = error};
    struct hasup_meta_reader reader;
    struct hasup_field field;
    char attempt[48];
    int got;
    *head = (struct request_head){.method = "POST"};
    snprintf(error, ADAPTER_REASON, "out of memory");
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0)
        if ((got = take_field(&r, &field)))
            return got;
    if (got < 0)
        return got;
    if ((got = check_target(&r)))
        return got;
    snprintf(attempt, sizeof attempt, "X-Hasup-Attempt: %u", frame->seq);
    if ((got = add_line(&r, attempt)) || (got = add_line(&r, "Expect:")))
        return got;
    if (!r.accepts && (got = add_line(&r, "Accept:"))) /* curl would add one */
        return got;
    return r.typed ? 0 : add_line(&r, "Content-Type:");
}

/* ---- answers ---- */

static const char *const NOT_PASSED[] = {
    "connection", "keep-alive",     "proxy-connection", "proxy-authenticate", "te",  "trailer",
    "upgrade",    "content-length", "transfer-encoding", "date",              NULL};

static bool put_field(struct hasup_bytes *meta, enum hasup_tag tag, const char *name,
                      size_t name_len, const char *value, size_t len)
{
    size_t need = name_len + (name_len > 0) + len;
    if (meta->len + HASUP_FIELD_HEADER + need > HEAD_MOST)
        return false;
    uint8_t *at = hasup_bytes_room(meta, HASUP_FIELD_HEADER + need);
    if (!at)
        return false;
    hasup_put16(at, (uint16_t)tag);
    hasup_put16(at + 2, 0);
    hasup_put32(at + 4, (uint32_t)need);
    at += HASUP_FIELD_HEADER;
    for (size_t i = 0; i < name_len; i++)
        *at++ = (uint8_t)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    if (name_len)
        *at++ = '\0';
    memcpy(at, value, len);
    return true;
}

static bool is_json(const char *type, size_t len)
{
    const char *end = memchr(type, ';', len);
    len = end ? (size_t)(end - type) : len;
    return (len == 16 && !strncasecmp(type, "application/json", 16)) ||
           (len > 5 && !strncasecmp(type + len - 5, "+json", 5));
}

static bool answer_field(struct answer_head *head, const char *name, size_t name_len,
                         const char *value, size_t len, bool keeps_length)
{
    if (name_len == 12 && !strncasecmp(name, "content-type", 12)) {
        head->json = is_json(value, len);
        return put_field(head->meta, HASUP_TAG_CONTENT_TYPE, NULL, 0, value, len);
    }
    if (name_len == 17 && !strncasecmp(name, "transfer-encoding", 17))
        head->chunked = true;
    if (name_len == 14 && !strncasecmp(name, "content-length", 14)) {
        head->length = strtoull(value, NULL, 10);
        if (keeps_length)
            return put_field(head->meta, HASUP_TAG_HEADER, name, name_len, value, len);
    }
    if (is_word(name, name_len, NOT_PASSED) || !is_value((const uint8_t *)value, len))
        return true;
    return put_field(head->meta, HASUP_TAG_HEADER, name, name_len, value, len);
}

bool head_line(struct answer_head *head, const char *line, size_t len, bool keeps_length)
{
    while (len && (line[len - 1] == '\r' || line[len - 1] == '\n'))
        len--;
    if (head->ended)
        return true;
    if (!len) {
        head->ended = head->status >= 200;
        return true;
    }
    if (len > 9 && !strncmp(line, "HTTP/", 5)) { /* of an interim answer, or of the answer */
        const char *blank = memchr(line, ' ', len);
        head->status = blank ? (unsigned)strtoul(blank, NULL, 10) : 0;
        head->length = UINT64_MAX;
        head->chunked = head->json = false;
        head->meta->len = 0;
        return true;
    }
    const char *colon = memchr(line, ':', len);
    if (!colon || colon == line)
        return true;
    const char *value = colon + 1, *end = line + len;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return answer_field(head, line, (size_t)(colon - line), value, (size_t)(end - value),
                        keeps_length);
}
