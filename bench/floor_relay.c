/*
 * floor_relay.c: the least that a relay on libev can do: client, relay, echo process and back,
 * bytes unread, all that a turn brings leaving in one write.  What hasupd does on top of it is the
 * difference.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ev.h>

enum { ROOM = 1 << 20 };

struct end {
    struct ev_io watcher;
    struct end *other;
    int fd;
    uint8_t in[ROOM], out[ROOM];
    size_t part, used;
};

struct relay {
    struct ev_io accepts;
    struct ev_prepare flush;
    struct end client, echo;
};

size_t floor_frames(const uint8_t *in, size_t len, void (*take)(void *, const uint8_t *, size_t),
                    void *context)
{
    size_t at = 0;
    while (len - at >= FLOOR_HEADER) {
        size_t whole = FLOOR_HEADER + hasup_get32(in + at);
        if (len - at < whole)
            break;
        take(context, in + at, whole);
        at += whole;
    }
    return at;
}

struct answers {
    uint8_t bytes[ROOM];
    size_t used;
};

static void answer_frame(void *context, const uint8_t *frame, size_t len)
{
    struct answers *answers = context;
    memcpy(answers->bytes + answers->used, frame, len);
    answers->used += len;
}

void floor_echo(int fd)
{
    static uint8_t in[ROOM];
    static struct answers answers;
    size_t have = 0;
    ssize_t got;
    while ((got = recv(fd, in + have, sizeof in - have, 0)) > 0) {
        have += (size_t)got;
        answers.used = 0;
        size_t taken = floor_frames(in, have, answer_frame, &answers);
        have -= taken;
        memmove(in, in + taken, have);
        for (size_t done = 0; done < answers.used;) {
            ssize_t sent = send(fd, answers.bytes + done, answers.used - done, MSG_NOSIGNAL);
            if (sent < 0)
                return;
            done += (size_t)sent;
        }
    }
}

static void end_flush(struct end *end)
{
    size_t done = 0;
    while (done < end->used) {
        ssize_t sent = send(end->fd, end->out + done, end->used - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            break;
        done += sent > 0 ? (size_t)sent : 0;
    }
    end->used = 0;
}

static void on_turn_end(struct ev_loop *loop, struct ev_prepare *watcher, int events)
{
    struct relay *relay = watcher->data;
    (void)loop;
    (void)events;
    end_flush(&relay->echo);
    end_flush(&relay->client);
}

static void relay_frame(void *context, const uint8_t *frame, size_t len)
{
    struct end *end = context;
    memcpy(end->out + end->used, frame, len);
    end->used += len;
}

static void on_bytes(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct end *end = watcher->data;
    (void)events;
    ssize_t got = recv(end->fd, end->in + end->part, ROOM - end->part, 0);
    if (got == 0) {
        ev_io_stop(loop, watcher);
        close(end->fd);
    }
    if (got <= 0)
        return;
    size_t have = end->part + (size_t)got;
    size_t taken = floor_frames(end->in, have, relay_frame, end->other);
    end->part = have - taken;
    memmove(end->in, end->in + taken, end->part);
}

static void end_open(struct ev_loop *loop, struct end *end, struct end *other, int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
    end->fd = fd;
    end->other = other;
    end->part = end->used = 0;
    ev_io_init(&end->watcher, on_bytes, fd, EV_READ);
    end->watcher.data = end;
    ev_io_start(loop, &end->watcher);
}

static void on_client(struct ev_loop *loop, struct ev_io *watcher, int events)
{
    struct relay *relay = watcher->data;
    (void)events;
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        end_open(loop, &relay->client, &relay->echo, fd);
}

void floor_relay(void *context)
{
    const struct floor *floor = context;
    static struct relay relay;
    int pair[2];
    struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        bench_fail("socketpair: %s", strerror(errno));
    if (fork() == 0) {
        close(pair[0]);
        floor_echo(pair[1]); /* ends with the relay's end of the pair */
        _exit(0);
    }
    close(pair[1]);
    end_open(loop, &relay.echo, &relay.client, pair[0]);
    relay.client.fd = -1;
    ev_io_init(&relay.accepts, on_client, unix_listen(floor->path), EV_READ);
    ev_prepare_init(&relay.flush, on_turn_end);
    relay.accepts.data = relay.flush.data = &relay;
    ev_io_start(loop, &relay.accepts);
    ev_prepare_start(loop, &relay.flush);
    ev_run(loop, 0);
}
