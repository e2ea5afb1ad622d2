/*
 * floor_minimal.c: the smallest program that does hasupd's volatile job at all: clients, frames, a
 * table of requests, one echo worker, answers to whom they belong, one write for each socket and
 * turn.  No deadlines, no queue, no limits, no restarts, no journal.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

enum { ROOM = 1 << 18, ENDS = 128, REQUESTS = 1 << 16 };

struct end {
    struct ev_io watcher;
    int fd;
    bool dirty;
    uint8_t *in, *out;
    size_t part, used;
};

struct request {
    struct end *client;
    uint64_t id;
};

struct minimal {
    struct ev_io accepts;
    struct ev_prepare flush;
    struct end worker, clients[ENDS];
    struct end *dirty[ENDS + 1];
    unsigned dirty_count;
    struct request requests[REQUESTS];
    uint32_t free[REQUESTS], free_count;
};

static struct minimal minimal;

static void on_turn_end(struct ev_loop *loop, struct ev_prepare *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
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

static void end_send(struct end *end, const uint8_t *frame, size_t len, uint64_t id)
{
    if (end->fd < 0)
        return; /* that client is gone */
    if (!end->dirty) {
        end->dirty = true;
        minimal.dirty[minimal.dirty_count++] = end;
    }
    memcpy(end->out + end->used, frame, len);
    hasup_put64(end->out + end->used + 8, id);
    end->used += len;
}

static void take_frame(void *context, const uint8_t *frame, size_t len)
{
    struct end *from = context;
    uint64_t id = hasup_get64(frame + 8);
    if (from == &minimal.worker) {
        struct request *request = &minimal.requests[id];
        end_send(request->client, frame, len, request->id);
        minimal.free[minimal.free_count++] = (uint32_t)id;
    } else {
        uint32_t index = minimal.free[--minimal.free_count];
        minimal.requests[index] = (struct request){from, id};
        end_send(&minimal.worker, frame, len, index);
    }
}

static void on_bytes(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct end *end = watcher->data;
    (void)events;
    ssize_t got = recv(end->fd, end->in + end->part, ROOM - end->part, 0);
    if (got < 0)
        return;
    if (got == 0) {
        ev_io_stop(loop, watcher);
        close(end->fd);
        end->fd = -1;
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
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC);
    for (unsigned i = 0; fd >= 0 && i < ENDS; i++)
        if (minimal.clients[i].fd < 0) {
            end_open(loop, &minimal.clients[i], fd);
            return;
        }
}

void floor_minimal(void *context)
{
    const struct floor *floor = context;
    int pair[2];
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        bench_fail("socketpair: %s", strerror(errno));
    if (fork() == 0) {
        close(pair[0]);
        floor_echo(pair[1]);
        _exit(0);
    }
    close(pair[1]);
    for (uint32_t i = 0; i < REQUESTS; i++)
        minimal.free[minimal.free_count++] = i;
    for (unsigned i = 0; i < ENDS; i++)
        minimal.clients[i].fd = -1;
    end_open(loop, &minimal.worker, pair[0]);
    ev_io_init(&minimal.accepts, on_client, unix_listen(floor->path), EV_READ);
    ev_prepare_init(&minimal.flush, on_turn_end);
    ev_io_start(loop, &minimal.accepts);
    ev_prepare_start(loop, &minimal.flush);
    ev_run(loop, 0);
}
