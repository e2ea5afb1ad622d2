/*
 * http_stream.c: answers that come in parts: server-sent events, or raw chunks.  A stream that
 * fails never looks whole: its last event says so, or the connection is closed before the last
 * chunk.  A client that does not read is cut off at stream_bytes.
 */
#include "supervisor/http/connection.h"
#include "supervisor/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* ---- server-sent events ---- */

static size_t line_end(const uint8_t *at, size_t len)
{
    size_t i = 0;
    while (i < len && at[i] != '\n' && at[i] != '\r')
        i++;
    return i;
}

/* One part of the body, in its own chunk where the framing is chunked. */
static void part_open(struct connection *c, size_t len)
{
    char size[20];
    if (!c->old)
        out_write(c, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", len));
}

static void part_close(struct connection *c)
{
    if (!c->old)
        out_write(c, "\r\n", 2);
}

/* The next event's number, as its id line. */
static int event_id(struct connection *c, char *line, size_t room)
{
    char run[24] = "";
    if (c->run)
        snprintf(run, sizeof run, "%llx-", (unsigned long long)c->run);
    return snprintf(line, room, "id: %s%llu\n", run, (unsigned long long)++c->events);
}

/* The bytes of an event's data lines; written to `out` where it is not NULL. */
static size_t event_lines(const uint8_t *bytes, size_t len, uint8_t *out)
{
    static const char field[] = "data: ";
    size_t used = 0;
    for (;;) {
        size_t line = line_end(bytes, len);
        if (out) {
            memcpy(out + used, field, sizeof field - 1);
            if (line)
                memcpy(out + used + sizeof field - 1, bytes, line);
            out[used + sizeof field - 1 + line] = '\n';
        }
        used += sizeof field + line;
        if (line == len)
            return used;
        size_t ends = bytes[line] == '\r' && line + 1 < len && bytes[line + 1] == '\n' ? 2 : 1;
        bytes += line + ends;
        len -= line + ends;
    }
}

/* ---- events that the worker wrote itself ---- */

/* The length of the blank line that ends an event, where one begins at `at`: "\n\n", "\r\n\r\n" or
 * "\r\r"; else 0. */
static size_t blank_len(const uint8_t *at, size_t len)
{
    if (len >= 4 && !memcmp(at, "\r\n\r\n", 4))
        return 4;
    return len >= 2 && at[0] == at[1] && (at[0] == '\n' || at[0] == '\r') ? 2 : 0;
}

/* How many bytes stand before the first end of an event, and with it; len + 1: there is none. */
static size_t first_event(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t blank = bytes[i] == '\n' || bytes[i] == '\r' ? blank_len(bytes + i, len - i) : 0;
        if (blank)
            return i + blank;
    }
    return len + 1;
}

static bool ends_event(const uint8_t *bytes, size_t len)
{
    return (len >= 2 && blank_len(bytes + len - 2, 2)) ||
           (len >= 4 && blank_len(bytes + len - 4, 4));
}

/* A chunk that is one event, no more, can be come back for: it bears its number.  Others pass bare.
 */
static void event_pass(struct connection *c, const uint8_t *bytes, size_t len)
{
    char id[48];
    int id_len = event_id(c, id, sizeof id);
    bool one = c->between && first_event(bytes, len) == len;
    if (len)
        c->between = ends_event(bytes, len);
    if (!len)
        return;
    part_open(c, len + (one ? (size_t)id_len : 0));
    if (one)
        out_write(c, id, (size_t)id_len);
    out_write(c, bytes, len);
    part_close(c);
}

/* ---- events that the door writes ---- */

static void event_write(struct connection *c, const char *name, const uint8_t *bytes, size_t len)
{
    char head[96];
    int head_len = event_id(c, head, sizeof head);
    if (name)
        head_len += snprintf(head + head_len, sizeof head - (size_t)head_len, "event: %s\n", name);
    size_t lines = event_lines(bytes, len, NULL), whole = (size_t)head_len + lines + 1;
    part_open(c, whole);
    uint8_t *at = c->doomed ? NULL : out_reserve(c, whole);
    if (!at)
        return;
    memcpy(at, head, (size_t)head_len);
    event_lines(bytes, len, at + head_len);
    at[whole - 1] = '\n';
    out_commit(c, whole);
    part_close(c);
}

/* ---- the stream ---- */

static bool stream_start(struct connection *c, const struct reply *head)
{
    static const char events[] = "text/event-stream", bytes[] = "application/octet-stream";
    struct worker_words words;
    worker_words(head->frame, &words);
    struct answer a = {.status = words.status,
                       .framing = c->old ? FRAMING_CLOSE : FRAMING_CHUNKED,
                       .attempts = head->attempts,
                       .version = head->version,
                       .no_store = !c->proxied,
                       .frame = head->frame};
    a.type = c->sse ? events : words.type ? words.type : bytes;
    a.type_len = c->sse ? sizeof events - 1 : words.type ? words.type_len : sizeof bytes - 1;
    c->streaming = c->between = true;
    c->passes =
        !c->proxied && words.type_len >= sizeof events - 1 &&
        !strncasecmp(words.type, events, sizeof events - 1);
    c->sse = c->sse || c->passes;
    c->status = (uint16_t)words.status;
    c->events = c->heard;
    c->run = head->record;
    return answer_head(c, &a);
}

void stream_chunk(struct connection *c, const struct reply *head, const uint8_t *bytes, size_t len)
{
    if (!c->streaming) {
        c->sse = !c->proxied && (c->sse || c->accepts_sse || c->shape == SHAPE_V1);
        if (!stream_start(c, head))
            return;
    }
    if (c->passes) {
        event_pass(c, bytes, len);
    } else if (c->sse) {
        event_write(c, NULL, bytes, len);
    } else if (len) {
        part_open(c, len);
        out_write(c, bytes, len);
        part_close(c);
    }
    if (out_unsent(c) > c->http->options.stream_bytes && !c->doomed)
        connection_cut_off(c, "it left more of its stream unread than limits.stream_bytes");
}

static void stream_close(struct connection *c)
{
    if (!c->old)
        out_write(c, "0\r\n\r\n", 5);
    connection_answered(c);
}

void stream_refused(struct connection *c, uint32_t status, const char *code, const char *message)
{
    char *json = c->sse && c->between ? error_json(c, status, code, message) : NULL;
    if (!json) {
        c->keep_alive = false; /* and no last chunk: the client sees that it is cut */
        connection_answered(c);
        return;
    }
    event_write(c, c->shape == SHAPE_V1 ? NULL : "error", (const uint8_t *)json, strlen(json));
    free(json);
    stream_close(c);
}

void stream_end(struct connection *c, const struct reply *reply)
{
    struct worker_words words;
    struct body body = reply->body;
    const uint8_t *bytes = body.len ? body_bytes(&body) : NULL;
    char text[64];
    worker_words(reply->frame, &words);
    bool failed = reply->status >= 400 && reply->status != c->status;
    if (words.error || failed || (body.len && !bytes)) {
        char *message = words.error ? strndup(words.error, words.error_len) : NULL;
        stream_refused(c, reply->status < 400 ? 500 : reply->status, "worker_error",
                       message ? message : "the worker ended with an error");
        free(message);
        return;
    }
    if (body.len)
        stream_chunk(c, reply, bytes, (size_t)body.len);
    if (c->sse && !c->passes &&
        c->shape != SHAPE_V1) { /* those end by a word of the worker's own */
        int len = snprintf(text, sizeof text, "{\"status\":%u,\"attempts\":%u}", reply->status,
                           reply->attempts);
        event_write(c, "end", (const uint8_t *)text, (size_t)len);
    }
    stream_close(c);
}

void stream_whole(struct connection *c, const struct reply *reply, const uint8_t *bytes)
{
    struct reply rest = *reply;
    if (!stream_start(c, reply))
        return;
    if (reply->body.len && !c->heard) /* it is the first event */
        stream_chunk(c, reply, bytes, (size_t)reply->body.len);
    rest.body.len = 0;
    stream_end(c, &rest);
}
