/*
 * floor_minimal.c: the smallest program that does hasupd's job at all: clients by frames or HTTP, a
 * table of requests, one echo worker, answers to whom they belong, one write for each socket and
 * turn.  No deadlines, no queue, no limits, no restarts.
 *
 * With a journal, a request goes to the worker when it is durable, and its row is deleted in the
 * commit of a later one.  Two commits: its answer is durable, too, before it is told.
 */
#include "bench/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

enum { ROOM = 1 << 18, ENDS = 128, REQUESTS = 1 << 16, FRAME_MAX = 512 };

struct end {
    struct ev_io watcher;
    int fd;
    bool dirty;
    uint8_t *in, *out;
    size_t part, used;
    struct floor_http *http; /* NULL: frames */
};

struct request {
    struct end *client;
    uint64_t id, record;
    struct floor_op op; /* one at a time is under way */
    size_t len;
    uint8_t frame[FRAME_MAX]; /* of the request, then of the answer */
};

struct minimal {
    struct ev_loop *loop;
    struct ev_io accepts;
    struct ev_prepare flush;
    struct ev_async woken;
    unsigned commits; /* a request */
    bool http;
    struct end worker, clients[ENDS];
    struct end *dirty[ENDS + 1];
    unsigned dirty_count;
    uint64_t records;
    struct request requests[REQUESTS];
    uint32_t free[REQUESTS], free_count;
};

static struct minimal minimal;

/* ---- what leaves ---- */

static uint8_t *end_room(struct end *end)
{
    if (!end->dirty) {
        end->dirty = true;
        minimal.dirty[minimal.dirty_count++] = end;
    }
    return end->out + end->used;
}

static void end_send(struct end *end, const uint8_t *frame, size_t len, uint64_t id)
{
    if (end->fd < 0)
        return; /* that client is gone */
    uint8_t *out = end_room(end);
    if (end->http) {
        end->used += floor_http_response(out, frame + FLOOR_HEADER, len - FLOOR_HEADER);
        return;
    }
    memcpy(out, frame, len);
    hasup_put64(out + 8, id);
    end->used += len;
}

static void send_dirty(void)
{
    for (unsigned i = 0; i < minimal.dirty_count; i++) {
        struct end *end = minimal.dirty[i];
        for (size_t done = 0; done < end->used;) {
            ssize_t sent = send(end->fd, end->out + done, end->used - done, MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN)
                break;
            done += sent > 0 ? (size_t)sent : 0;
        }
        end->used = 0;
        end->dirty = false;
    }
    minimal.dirty_count = 0;
}

/* ---- requests ---- */

static void request_write(uint32_t index, enum floor_write write)
{
    struct request *request = &minimal.requests[index];
    request->op = (struct floor_op){.write = write,
                                    .request = index,
                                    .record = request->record,
                                    .bytes = request->frame,
                                    .len = request->len};
    floor_journal_add(&request->op);
}

static void request_keep(struct request *request, const uint8_t *frame, size_t len)
{
    if (len > FRAME_MAX)
        bench_fail("the floor takes small bodies only");
    memcpy(request->frame, frame, len);
    request->len = len;
}

static void request_new(struct end *client, const uint8_t *frame, size_t len)
{
    uint32_t index = minimal.free[--minimal.free_count];
    struct request *request = &minimal.requests[index];
    request->client = client;
    request->id = hasup_get64(frame + 8);
    if (!minimal.commits) {
        end_send(&minimal.worker, frame, len, index);
        return;
    }
    request->record = ++minimal.records;
    request_keep(request, frame, len);
    request_write(index, FLOOR_ACCEPT);
}

static void request_replied(const uint8_t *frame, size_t len)
{
    uint32_t index = (uint32_t)hasup_get64(frame + 8);
    struct request *request = &minimal.requests[index];
    if (minimal.commits == 2) {
        request_keep(request, frame, len);
        request_write(index, FLOOR_ANSWER);
        return;
    }
    end_send(request->client, frame, len, request->id);
    if (minimal.commits)
        request_write(index, FLOOR_DELETE);
    else
        minimal.free[minimal.free_count++] = index;
}

static void request_written(uint32_t index, enum floor_write write)
{
    struct request *request = &minimal.requests[index];
    switch (write) {
    case FLOOR_ACCEPT: end_send(&minimal.worker, request->frame, request->len, index); break;
    case FLOOR_ANSWER:
        end_send(request->client, request->frame, request->len, request->id);
        request_write(index, FLOOR_DELETE);
        break;
    case FLOOR_DELETE: minimal.free[minimal.free_count++] = index; break;
    }
}

static void on_turn_end(struct ev_loop *loop, struct ev_prepare *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    if (minimal.commits) {
        floor_journal_flush();
        for (struct floor_op *op = floor_journal_take(), *next; op; op = next) {
            next = op->next;
            request_written(op->request, op->write);
        }
    }
    send_dirty();
}

/* From the journal's thread: the turn's end does the rest. */
static void wake(void *context)
{
    ev_async_send(context, &minimal.woken);
}

static void on_woken(struct ev_loop *loop, struct ev_async *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
}

/* ---- what arrives ---- */

static void take_frame(void *context, const uint8_t *frame, size_t len)
{
    if (context == &minimal.worker)
        request_replied(frame, len);
    else
        request_new(context, frame, len);
}

static void take_http(void *client, const uint8_t *body, size_t len)
{
    uint8_t frame[FRAME_MAX] = {0};
    if (FLOOR_HEADER + len > sizeof frame)
        bench_fail("the floor takes small bodies only");
    hasup_put32(frame, (uint32_t)len);
    memcpy(frame + FLOOR_HEADER, body, len);
    request_new(client, frame, FLOOR_HEADER + len);
}

static void end_close(struct ev_loop *loop, struct end *end)
{
    ev_io_stop(loop, &end->watcher);
    close(end->fd);
    floor_http_free(end->http);
    end->http = NULL;
    end->fd = -1;
}

static void on_bytes(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct end *end = watcher->data;
    (void)events;
    ssize_t got = recv(end->fd, end->in + end->part, ROOM - end->part, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        end_close(loop, end);
        return;
    }
    if (end->http) {
        floor_http_read(end->http, end->in, (size_t)got);
        return;
    }
    size_t have = end->part + (size_t)got;
    size_t taken = floor_frames(end->in, have, take_frame, end);
    end->part = have - taken;
    memmove(end->in, end->in + taken, end->part);
}

static void end_open(struct ev_loop *loop, struct end *end, int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    end->fd = fd;
    end->part = end->used = 0;
    if (!end->in) {
        end->in = malloc(ROOM);
        end->out = malloc(ROOM * 4);
    }
    ev_io_init(&end->watcher, on_bytes, fd, EV_READ);
    end->watcher.data = end;
    ev_io_start(loop, &end->watcher);
}

static void on_client(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    (void)events;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC), on = 1;
    for (unsigned i = 0; fd >= 0 && i < ENDS; i++)
        if (minimal.clients[i].fd < 0) {
            end_open(loop, &minimal.clients[i], fd);
            if (minimal.http) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                minimal.clients[i].http = floor_http_new(take_http, &minimal.clients[i]);
            }
            return;
        }
}

/* ---- the program ---- */

static void start_worker(void)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        bench_fail("socketpair: %s", strerror(errno));
    if (fork() == 0) {
        close(pair[0]);
        floor_echo(pair[1]);
        _exit(0);
    }
    close(pair[1]);
    end_open(minimal.loop, &minimal.worker, pair[0]);
}

void floor_minimal(void *context)
{
    const struct floor *floor = context;
    minimal.loop = ev_loop_new(EVFLAG_AUTO);
    minimal.commits = floor->commits;
    minimal.http = floor->http_port != 0;
    for (uint32_t i = 0; i < REQUESTS; i++)
        minimal.free[minimal.free_count++] = i;
    for (unsigned i = 0; i < ENDS; i++)
        minimal.clients[i].fd = -1;
    start_worker();
    if (floor->commits) {
        char path[BENCH_PATH + 8];
        ev_async_init(&minimal.woken, on_woken);
        ev_async_start(minimal.loop, &minimal.woken);
        snprintf(path, sizeof path, "%s.db", floor->path);
        floor_journal_open(path, wake, minimal.loop);
    }
    int fd = minimal.http ? tcp_listen(floor->http_port) : unix_listen(floor->path);
    ev_io_init(&minimal.accepts, on_client, fd, EV_READ);
    ev_prepare_init(&minimal.flush, on_turn_end);
    ev_io_start(minimal.loop, &minimal.accepts);
    ev_prepare_start(minimal.loop, &minimal.flush);
    ev_run(minimal.loop, 0);
}
