/*
 * connection.c: the life of connections: their deadlines, what comes in, the write of a turn, their
 * end.  It knows nothing of HTTP's syntax (http_request.c) or of answers (http_reply.c).
 *
 * A connection is closed at the turn's end only where a callback of the engine is on the stack; its
 * memory goes at the turn's end always.  A client that leaves while its answer is pending has its
 * request cancelled: reading never stops, except where it sent HTTP_READ bytes of further requests
 * ahead, which are not looked at before the answer.
 *
 * Failure modes: a client that drips or does not read → closed at its deadline.
 */
#include "checkpoints/fault.h"
#include "supervisor/http/connection.h"
#include "supervisor/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- deadlines ---- */

static void deadlines_arm(struct http *http, hasup_ns due)
{
    if (due >= http->armed)
        return;
    if (!timer_set(&http->timer, http->loop, due))
        http->armed = due;
}

static void deadline_leave(struct connection *c)
{
    if (c->next)
        c->next->back = c->back;
    else
        c->http->deadlines[c->deadline].last = c->back;
    *c->back = c->next;
}

static void deadline_enter(struct connection *c, enum deadline deadline)
{
    struct http *http = c->http;
    c->deadline = (uint8_t)deadline;
    c->next = NULL;
    c->back = http->deadlines[deadline].last;
    *c->back = c;
    http->deadlines[deadline].last = &c->next;
    if (deadline == DEADLINE_NONE)
        return;
    c->due = loop_now(http->loop) + http->deadlines[deadline].length;
    deadlines_arm(http, c->due);
}

static enum deadline deadline_of(const struct connection *c)
{
    if (c->state == CONNECTION_LINGER)
        return DEADLINE_LINGER;
    if (out_unsent(c))
        return DEADLINE_STALL;
    if (c->state == CONNECTION_BODY)
        return DEADLINE_BODY;
    if (c->state == CONNECTION_HEAD)
        return c->begun ? DEADLINE_HEAD : DEADLINE_IDLE;
    return DEADLINE_NONE;
}

/* Puts it on the list that its state asks for; `again`: the time starts anew. */
static void connection_wait(struct connection *c, bool again)
{
    enum deadline deadline = deadline_of(c);
    if (deadline == c->deadline && !again)
        return;
    deadline_leave(c);
    deadline_enter(c, deadline);
}

/* ---- life ---- */

static void out_free(struct connection *c)
{
    struct http *http = c->http;
    if (c->out_room == HTTP_BLOCK && http->block_count < HTTP_BLOCKS_FREE) {
        memcpy(c->out, &http->blocks, sizeof http->blocks);
        http->blocks = c->out;
        http->block_count++;
    } else {
        free(c->out);
    }
    c->out = NULL;
    c->out_at = c->out_len = c->out_room = 0;
}

void connection_drop_request(struct connection *c)
{
    c->http->arriving -= c->body.view ? 0 : c->body.len;
    if (c->body.buffer)
        buffer_unref(c->body.buffer);
    else
        free(c->body.bytes);
    memset(&c->body, 0, sizeof c->body);
    if (c->meta != c->http->meta)
        free(c->meta);
    c->meta = NULL;
    free(c->head);
    c->head = NULL;
    free(c->head_bytes);
    c->head_bytes = NULL;
}

static void connection_close(struct connection *c)
{
    struct http *http = c->http;
    if (c->state == CONNECTION_DEAD)
        return;
    struct request *request = c->state == CONNECTION_PENDING ? c->request : NULL;
    c->state = CONNECTION_DEAD;
    deadline_leave(c);
    watch_stop(&c->watch);
    close(c->watch.fd);
    connection_drop_request(c);
    free(c->in);
    out_free(c);
    if (c->tail)
        buffer_unref(c->tail);
    http->counts->open = --http->count;
    c->next_dead = http->dead;
    http->dead = c;
    if (http->full && http->fd >= 0)
        http->full = false;
    if (request) {
        engine_cancel(http->engine, request);
        http->acted = true;
    }
}

void connection_mark(struct connection *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = c->http->dirty;
    c->http->dirty = c;
}

void connection_doom(struct connection *c)
{
    c->doomed = true;
    connection_mark(c);
}

void connection_cut_off(struct connection *c, const char *why)
{
    LOG_EVENT(LEVEL_WARNING, "client.cut_off", why, LOG_TEXT("door", "http"),
              LOG_TEXT("request", c->id), LOG_INT("unread", out_unsent(c)));
    connection_doom(c);
}

void connection_answered(struct connection *c)
{
    c->request = NULL;
    c->streaming = c->sse = false;
    c->events = 0;
    connection_drop_request(c);
    connection_mark(c);
    if (!c->keep_alive || c->eof || c->http->fd < 0) {
        c->state = CONNECTION_CLOSING;
        return;
    }
    c->state = CONNECTION_HEAD;
    c->begun = false;
    c->anew = true;
    llhttp_init(&c->parser, HTTP_REQUEST, &HTTP_PARSER);
    c->parser.data = c;
}

/* ---- output ---- */

static uint8_t *block_take(struct http *http)
{
    uint8_t *block = http->blocks;
    if (!block)
        return malloc(HTTP_BLOCK);
    memcpy(&http->blocks, block, sizeof http->blocks);
    http->block_count--;
    return block;
}

uint8_t *out_reserve(struct connection *c, size_t len)
{
    if (c->out_room - c->out_len >= len)
        return c->out + c->out_len;
    if (c->out_at) {
        memmove(c->out, c->out + c->out_at, c->out_len - c->out_at);
        c->out_len -= c->out_at;
        c->out_at = 0;
    }
    size_t need = c->out_len + len, room = HTTP_BLOCK;
    while (room < need)
        room *= 2;
    if (room > c->out_room) {
        uint8_t *bytes = c->out               ? realloc(c->out, room)
                         : room == HTTP_BLOCK ? block_take(c->http)
                                              : malloc(room);
        if (!bytes) {
            connection_doom(c);
            return NULL;
        }
        c->out = bytes;
        c->out_room = room;
    }
    return c->out + c->out_len;
}

/* One write of what is queued and `more` behind it: the bytes of `more` that went, or -1. */
static ssize_t out_push(struct connection *c, const uint8_t *more, uint64_t len)
{
    struct iovec parts[2];
    struct msghdr message = {.msg_iov = parts};
    size_t queued = c->out_len - c->out_at;
    if (queued)
        parts[message.msg_iovlen++] = (struct iovec){c->out + c->out_at, queued};
    if (len)
        parts[message.msg_iovlen++] = (struct iovec){(void *)(uintptr_t)more, len};
    FAULT(sent_before);
    ssize_t sent = sendmsg(c->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    FAULT(sent_after);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    size_t mine = (size_t)sent < queued ? (size_t)sent : queued;
    c->out_at += mine;
    if (c->out_at == c->out_len)
        c->out_at = c->out_len = 0;
    if (sent)
        c->moved = true;
    return sent - (ssize_t)mine;
}

void out_write(struct connection *c, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    if (c->doomed)
        return;
    if (!c->tail_len && c->out_len - c->out_at + len >= HTTP_DIRECT) {
        ssize_t sent = out_push(c, at, len);
        if (sent < 0) {
            connection_doom(c);
            return;
        }
        at += sent;
        len -= (size_t)sent;
    }
    uint8_t *place = len ? out_reserve(c, len) : NULL;
    if (place) {
        memcpy(place, at, len);
        out_commit(c, len);
    }
    connection_mark(c);
}

/* 0, or -1: the client is gone. */
static int connection_flush(struct connection *c)
{
    while (out_unsent(c)) {
        uint64_t before = out_unsent(c);
        ssize_t sent = out_push(c, c->tail_bytes, c->tail_len);
        if (sent < 0)
            return -1;
        c->tail_bytes += sent;
        c->tail_len -= (uint64_t)sent;
        if (out_unsent(c) == before)
            break;
    }
    if (c->tail && !c->tail_len) {
        buffer_unref(c->tail);
        c->tail = NULL;
    }
    if (c->out && !c->out_len)
        out_free(c);
    return 0;
}

/* ---- input ---- */

static int watch_update(struct connection *c)
{
    bool read = !c->eof && c->state != CONNECTION_CLOSING;
    if (c->state != CONNECTION_BODY && c->in_len - c->in_parsed >= HTTP_READ)
        read = false;
    if (c->state == CONNECTION_HEAD && out_unsent(c))
        read = false;
    int events = (read ? WATCH_READ : 0) | (out_unsent(c) ? WATCH_WRITE : 0);
    if (events == c->watch.events && c->watch.impl)
        return 0;
    return watch_set(&c->watch, c->http->loop, c->watch.fd, events);
}

static int in_append(struct connection *c, const uint8_t *bytes, size_t len)
{
    if (c->in_len + len > c->in_room) {
        size_t room = c->in_room ? c->in_room : 1024;
        while (room < c->in_len + len)
            room *= 2;
        uint8_t *in = realloc(c->in, room);
        if (!in)
            return HASUP_ENOMEM;
        c->in = in;
        c->in_room = (uint32_t)room;
    }
    memcpy(c->in + c->in_len, bytes, len);
    c->in_len += (uint32_t)len;
    return 0;
}

/* Parses what is kept, where it is the turn of a next request. */
static void connection_feed_kept(struct connection *c)
{
    uint8_t *in = c->in;
    uint32_t len = c->in_len, parsed = c->in_parsed;
    c->in = NULL;
    c->in_len = c->in_room = c->in_parsed = 0;
    connection_feed(c, in, len, parsed);
    free(in);
}

static void connection_end_of_file(struct connection *c)
{
    c->eof = true;
    if (c->state == CONNECTION_HEAD && out_unsent(c))
        c->state = CONNECTION_CLOSING;
    else if (c->state != CONNECTION_CLOSING)
        connection_close(c);
}

static void connection_read(struct connection *c)
{
    size_t room = HTTP_READ;
    uint8_t *scratch = loop_scratch(c->http->loop), *place = NULL;
    if (c->state == CONNECTION_HEAD && out_unsent(c))
        return; /* answered in this turn: what is queued leaves before the next is looked at */
    if (c->state == CONNECTION_BODY)
        place = body_place(c, &room);
    else if (c->state != CONNECTION_LINGER)
        room = HTTP_READ - (c->in_len - c->in_parsed < HTTP_READ ? c->in_len - c->in_parsed : 0);
    ssize_t got = recv(c->watch.fd, place ? place : scratch, room, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR)
            connection_close(c);
        return;
    }
    if (!got) {
        connection_end_of_file(c);
        return;
    }
    if (c->state == CONNECTION_LINGER)
        return;
    if (place) {
        connection_feed(c, place, (size_t)got, 0);
    } else if (c->state == CONNECTION_PENDING || c->in_len) {
        if (in_append(c, scratch, (size_t)got))
            connection_close(c);
        else if (c->state != CONNECTION_PENDING)
            connection_feed_kept(c);
    } else {
        connection_feed(c, scratch, (size_t)got, 0);
    }
}

/* A request that is in the socket already is still read: its client cannot know. */
void connection_close_idle(struct connection *c)
{
    connection_read(c);
    if (c->state == CONNECTION_HEAD && !c->begun && !out_unsent(c))
        connection_close(c);
    else
        connection_mark(c);
}

/* ---- the turn's end ---- */

/* All is sent. */
static void connection_sent(struct connection *c)
{
    if (c->state == CONNECTION_CLOSING) {
        if (c->eof || shutdown(c->watch.fd, SHUT_WR)) {
            connection_close(c);
            return;
        }
        c->state = CONNECTION_LINGER;
    } else if (c->state == CONNECTION_HEAD && c->in_len && !c->in_parsed) {
        connection_feed_kept(c);
    }
}

/* After anything happened: send, go on, wait for the right thing. */
static void connection_settle(struct connection *c)
{
    if (c->state == CONNECTION_DEAD)
        return;
    if (c->doomed || connection_flush(c)) {
        connection_close(c);
        return;
    }
    if (!out_unsent(c))
        connection_sent(c);
    if (c->state == CONNECTION_DEAD || c->dirty)
        return; /* dirty: a kept request was answered at once; settled again in the next turn */
    if (watch_update(c))
        connection_close(c);
    else
        connection_wait(c, c->anew || (c->moved && c->deadline == DEADLINE_STALL));
    c->moved = c->anew = false;
}

static void connection_ready(void *context, int events)
{
    struct connection *c = context;
    if (c->state == CONNECTION_DEAD)
        return;
    /* A deadline that passed in this turn may have ended it already. */
    if ((events & WATCH_READ) && !c->doomed && c->state != CONNECTION_CLOSING)
        connection_read(c);
    connection_mark(c);
}

void connections_turn_end(void *context)
{
    struct http *http = context;
    struct connection *list = http->dirty;
    http->dirty = NULL;
    http->acted = false;
    while (list) {
        struct connection *c = list;
        list = c->next_dirty;
        c->dirty = false;
        connection_settle(c);
    }
    if (http->dirty || http->acted)
        loop_again(http->loop);
    struct connection **at = &http->dead;
    while (*at) {
        struct connection *c = *at;
        if (c->dirty) {
            at = &c->next_dead;
            continue;
        }
        *at = c->next_dead;
        free(c);
    }
}

/* ---- deadlines that passed ---- */

static void connection_overdue(struct connection *c)
{
    switch ((enum deadline)c->deadline) {
    case DEADLINE_HEAD:
    case DEADLINE_BODY:
        c->keep_alive = false;
        answer_verdict(c, 408, "bad_request",
                       c->deadline == DEADLINE_HEAD ? "the request's head took too long to arrive"
                                                    : "the request's body took too long to arrive");
        return;
    case DEADLINE_IDLE: connection_close_idle(c); return;
    case DEADLINE_LINGER: connection_doom(c); return;
    case DEADLINE_STALL:
        connection_cut_off(c, "it read nothing of its answer for too long");
        return;
    case DEADLINE_NONE:
    case DEADLINES: return;
    }
}

void deadlines_due(void *context)
{
    struct http *http = context;
    hasup_ns now = loop_now(http->loop);
    http->armed = HASUP_NEVER;
    for (int i = DEADLINE_IDLE; i < DEADLINES; i++) {
        struct connection *c = http->deadlines[i].first;
        for (; c && c->due <= now; c = c->next)
            if (deadline_of(c) == c->deadline && !c->doomed && !c->moved)
                connection_overdue(c);
        if (c)
            deadlines_arm(http, c->due > now ? c->due : now);
    }
}

/* ---- the first and the last ---- */

struct connection *connection_new(struct http *http, int fd)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        http_refuse(http, fd);
        return NULL;
    }
    c->http = http;
    c->watch = (struct watch){.ready = connection_ready, .context = c, .fd = fd};
    llhttp_init(&c->parser, HTTP_REQUEST, &HTTP_PARSER);
    c->parser.data = c;
    http->counts->open = ++http->count;
    deadline_enter(c, DEADLINE_IDLE);
    if (!watch_set(&c->watch, http->loop, fd, WATCH_READ))
        return c;
    connection_close(c);
    return NULL;
}

void connections_free(struct http *http)
{
    for (int i = 0; i < DEADLINES; i++)
        while (http->deadlines[i].first) {
            (void)!connection_flush(http->deadlines[i].first);
            connection_close(http->deadlines[i].first);
        }
    while (http->dead) {
        struct connection *c = http->dead;
        http->dead = c->next_dead;
        free(c);
    }
    while (http->blocks)
        free(block_take(http));
}
