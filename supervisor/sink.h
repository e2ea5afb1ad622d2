/*
 * sink.h: a descriptor that somebody else opened, and that may be a full pipe, a slow terminal, a
 * socket, or closed: lines go to it without ever waiting.  What it does not take waits in a bounded
 * buffer, which is there only as long as something waits; what does not fit there is dropped and
 * counted.  Loop thread only.
 */
#ifndef HASUP_SUPERVISOR_SINK_H
#define HASUP_SUPERVISOR_SINK_H

#include "supervisor/loop.h"

struct sink {
    int fd;  /* borrowed; -1: none */
    int own; /* the same pipe or terminal without O_NONBLOCK of others; -1: it could not be had */
    bool socket;
    bool torn;        /* part of a line went out: the next one starts on a line of its own */
    bool shut;        /* bulk has its half of the buffer: none is taken until half of that is free */
    uint64_t dropped; /* lines, not told of yet */
    char *buffer;
    size_t start, used, limit;
    struct loop *loop; /* NULL: without one there is no buffer */
    struct watch watch;
    void (*room)(void *context); /* dropped > 0, and there is room to say so; may be NULL */
    void *context;
};

void sink_open(struct sink *sink, int fd);
void sink_attach(struct sink *sink, struct loop *loop, size_t limit);
/* Whole or not at all; `line` ends with a newline and has PIPE_BUF bytes at most.  False: it is
 * dropped, and counted.  `bulk` may fill half of the buffer; the rest is for what matters more. */
bool sink_put(struct sink *sink, const char *line, size_t len, bool bulk);
/* No bulk would be taken now. */
static inline bool sink_is_shut(const struct sink *sink)
{
    return sink->shut && sink->used > sink->limit / 4;
}
/* Gives what waits at most `limit` to leave; the loop is not used any more. */
void sink_end(struct sink *sink, hasup_ns limit);

#endif
