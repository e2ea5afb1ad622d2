/*
 * capture.h: what a worker prints, line by line.  A worker never blocks because somebody reads what
 * it says slowly: its pipes are read whenever there is something, a flood is dropped and counted.
 * A line is text that harms nobody: control characters and what is no UTF-8 are escaped as \xHH.
 */
#ifndef HASUP_SUPERVISOR_CAPTURE_H
#define HASUP_SUPERVISOR_CAPTURE_H

#include "supervisor/core/flow.h"
#include "supervisor/loop.h"

enum { CAPTURE_TAIL = 24 /* last lines kept for crash reports: a Python stack and more */ };

enum capture_stream {
    CAPTURE_STDOUT,
    CAPTURE_STDERR,
    CAPTURE_STATUS, /* sd_notify's STATUS= */
    CAPTURE_DROPPED /* not said by the worker, but of it: how much of a flood was dropped */
};

struct carry;
struct capture; /* the two pipes of one worker */

struct captured {
    enum capture_stream stream;
    const char *text; /* without its newline, NUL-terminated */
    size_t len;
    bool more;    /* the line is longer, it goes on in the next */
    bool partial; /* the worker never ended it */
    const char *request; /* what the worker says that it is about; NULL: it says nothing */
};

struct capture_options {
    struct flow_policy flow;
    size_t line_max; /* bytes; a longer line comes in parts */
    const char *mark; /* the word of its marks (mark.h); NULL, or "": it has none.  Borrowed. */
    void (*line)(void *context, const struct captured *captured);
    /* A flood is over, or its first FLOW_PAUSE. */
    void (*dropped)(void *context, struct flow_dropped dropped);
    void *context;
};

/* Makes the pipes: *out and *err are the worker's ends, to be closed by the caller after the spawn.
 */
struct capture *capture_new(struct loop *loop, const struct capture_options *options, int *out,
                            int *err);
/* Reads what is there now (bounded, never blocks); true: nothing is left in the pipes. */
bool capture_drain(struct capture *capture);
/* A line that came another way; the flow counts it. */
void capture_say(struct capture *capture, enum capture_stream stream, const char *text);
/* Reads what is still in the pipes (bounded, never blocks), gives the last unfinished line, closes.
 */
void capture_finish(struct capture *capture);
void capture_free(struct capture *capture); /* finishes first */
/* To and from another hasupd; loading makes one.  NULL: the load has failed. */
struct capture *capture_carry(struct carry *carry, struct capture *capture, struct loop *loop,
                              const struct capture_options *options);
/* Whose line it is that is cut, behind all else of the record. */
void capture_carry_parts(struct carry *carry, struct capture *capture);
/* The last lines of stderr, those of a flood too, oldest first; at most CAPTURE_TAIL. */
size_t capture_tail(const struct capture *capture, const char *lines[CAPTURE_TAIL]);

#endif
