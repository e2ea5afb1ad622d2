/*
 * sink.c: see sink.h.  Owns the buffer, the watch and a second description of the descriptor.
 *
 * O_NONBLOCK belongs to whoever opened the descriptor, and others may write there, too.  So a pipe
 * or a terminal is opened once more, by its name in /proc, with O_NONBLOCK of our own; where that
 * cannot be, room is asked for first, and no more than PIPE_BUF bytes are written, which a pipe
 * that has room takes whole.  Failure mode: a reader that is gone: what waits is dropped.
 */
#include "supervisor/sink.h"

#include "supervisor/core/flow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void sink_open(struct sink *sink, int fd)
{
    char path[64];
    struct stat status;
    sink_end(sink, 0);
    *sink = (struct sink){.fd = fd, .own = -1, .room = sink->room, .context = sink->context};
    if (fd < 0 || fstat(fd, &status))
        return;
    sink->socket = S_ISSOCK(status.st_mode);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (S_ISFIFO(status.st_mode) || isatty(fd) == 1)
        sink->own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* What was taken; -1: nothing, errno EAGAIN: for now. */
static ssize_t write_some(const struct sink *sink, const char *bytes, size_t len)
{
    struct pollfd room = {.fd = sink->fd, .events = POLLOUT};
    if (sink->socket)
        return send(sink->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sink->own >= 0)
        return write(sink->own, bytes, len);
    if (poll(&room, 1, 0) == 1 && room.revents & (POLLOUT | POLLERR | POLLNVAL))
        return write(sink->fd, bytes, len);
    errno = EAGAIN;
    return -1;
}

/* ---- the buffer ---- */

static void buffer_free(struct sink *sink)
{
    watch_stop(&sink->watch);
    free(sink->buffer);
    sink->buffer = NULL;
    sink->start = sink->used = 0;
}

static bool buffer_add(struct sink *sink, const char *bytes, size_t len)
{
    if (!sink->loop || !queue_takes(sink->used, sink->limit, len))
        return false;
    if (!sink->buffer && !(sink->buffer = malloc(sink->limit)))
        return false;
    if (sink->start + sink->used + len > sink->limit) {
        memmove(sink->buffer, sink->buffer + sink->start, sink->used);
        sink->start = 0;
    }
    memcpy(sink->buffer + sink->start + sink->used, bytes, len);
    sink->used += len;
    return true;
}

/* How much is written at once: whole lines, so that nobody else's stand in between. */
static size_t piece(const char *bytes, size_t len)
{
    if (len <= PIPE_BUF)
        return len;
    const char *end = memrchr(bytes, '\n', PIPE_BUF);
    return end ? (size_t)(end - bytes) + 1 : PIPE_BUF;
}

/* 0, or what came between: EAGAIN, or an error. */
static int flush(struct sink *sink)
{
    while (sink->used) {
        const char *at = sink->buffer + sink->start;
        ssize_t got = write_some(sink, at, piece(at, sink->used));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return errno;
        sink->start += (size_t)got;
        sink->used -= (size_t)got;
    }
    return 0;
}

static void drop_waiting(struct sink *sink)
{
    for (size_t i = 0; i < sink->used; i++)
        sink->dropped += sink->buffer[sink->start + i] == '\n';
    buffer_free(sink);
}

static void writable(void *context, int events)
{
    struct sink *sink = context;
    (void)events;
    int failed = flush(sink);
    if (failed && failed != EAGAIN)
        drop_waiting(sink); /* who reads is gone: to wait would be for ever */
    else if (!failed)
        buffer_free(sink);
    if (!failed && sink->dropped && sink->room)
        sink->room(sink->context);
}

static void watch_room(struct sink *sink)
{
    int fd = sink->own >= 0 ? sink->own : sink->fd;
    sink->watch.ready = writable;
    sink->watch.context = sink;
    if (!sink->watch.impl && watch_set(&sink->watch, sink->loop, fd, WATCH_WRITE))
        drop_waiting(sink);
}

/* ---- lines ---- */

static bool put(struct sink *sink, const char *line, size_t len)
{
    ssize_t written = sink->used ? 0 : write_some(sink, line, len);
    bool gone = written < 0 && errno != EAGAIN && errno != EINTR;
    size_t done = written > 0 ? (size_t)written : 0;
    if (done == len)
        return true;
    if (!gone && buffer_add(sink, line + done, len - done)) {
        watch_room(sink);
        return true;
    }
    sink->torn = done > 0;
    return false;
}

bool sink_put(struct sink *sink, const char *line, size_t len, bool bulk)
{
    int saved = errno; /* an entry about an error must not change it */
    bool torn = sink->torn, went = false;
    bool full = bulk && (sink_is_shut(sink) || sink->used > sink->limit / 2);
    sink->shut = sink->shut ? sink_is_shut(sink) : full;
    if (sink->fd >= 0 && !full) {
        if (torn)
            torn = !put(sink, "\n", 1);
        sink->torn = torn;
        went = !torn && put(sink, line, len);
    }
    sink->dropped += !went;
    errno = saved;
    return went;
}

/* ---- life ---- */

void sink_attach(struct sink *sink, struct loop *loop, size_t limit)
{
    if (sink->used > limit)
        return; /* it is smaller from now on, but not while something waits */
    if (sink->buffer)
        return;
    sink->loop = loop;
    sink->limit = limit;
}

void sink_end(struct sink *sink, hasup_ns limit)
{
    struct pollfd room = {.fd = sink->own >= 0 ? sink->own : sink->fd, .events = POLLOUT};
    while (sink->used && flush(sink) == EAGAIN && poll(&room, 1, (int)(limit / HASUP_MS)) == 1)
        continue;
    buffer_free(sink);
    sink->loop = NULL;
    if (sink->own >= 0)
        close(sink->own);
    sink->own = -1;
}
