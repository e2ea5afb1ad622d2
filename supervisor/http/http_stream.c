/*
 * http_stream.c: answers that come in parts: server-sent events, or raw chunks.  A stream that
 * fails never looks whole: its last event says so, or the connection is closed before the last
 * chunk.  A client that does not read is cut off at stream_bytes.
 */
#include "supervisor/http/connection.h"

#include <stdio.h>
#include <stdlib.h>

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

static void event_write(struct connection *c, const char *name, const uint8_t *bytes, size_t len)
{
    char head[96], run[24] = "";
    if (c->run)
        snprintf(run, sizeof run, "%llx-", (unsigned long long)c->run);
    int head_len =
        snprintf(head, sizeof head, "id: %s%llu\n%s%s%s", run, (unsigned long long)++c->events,
                 name ? "event: " : "", name ? name : "", name ? "\n" : "");
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
    struct answer a = {.status = 200,
                       .framing = c->old ? FRAMING_CLOSE : FRAMING_CHUNKED,
                       .attempts = head->attempts,
                       .no_store = true,
                       .frame = head->frame};
    a.type = c->sse ? events : words.type ? words.type : bytes;
    a.type_len = c->sse ? sizeof events - 1 : words.type ? words.type_len : sizeof bytes - 1;
    c->streaming = true;
    c->events = c->heard;
    c->run = head->record;
    return answer_head(c, &a);
}

void stream_chunk(struct connection *c, const struct reply *head, const uint8_t *bytes, size_t len)
{
    if (!c->streaming) {
        c->sse = c->sse || c->accepts_sse;
        if (!stream_start(c, head))
            return;
    }
    if (c->sse) {
        event_write(c, NULL, bytes, len);
    } else if (len) {
        part_open(c, len);
        out_write(c, bytes, len);
        part_close(c);
    }
    if (out_unsent(c) > c->http->options.stream_bytes)
        connection_doom(c);
}

static void stream_close(struct connection *c)
{
    if (!c->old)
        out_write(c, "0\r\n\r\n", 5);
    connection_answered(c);
}

void stream_refused(struct connection *c, const char *code, const char *message)
{
    char *json = c->sse ? error_json(c, code, message) : NULL;
    if (!json) {
        c->keep_alive = false; /* and no last chunk: the client sees that it is cut */
        connection_answered(c);
        return;
    }
    event_write(c, "error", (const uint8_t *)json, strlen(json));
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
    if (words.error || reply->status >= 400 || (body.len && !bytes)) {
        char *message = words.error ? strndup(words.error, words.error_len) : NULL;
        stream_refused(c, "worker_error", message ? message : "the worker ended with an error");
        free(message);
        return;
    }
    if (body.len)
        stream_chunk(c, reply, bytes, (size_t)body.len);
    if (c->sse) {
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
