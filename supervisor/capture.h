/*
 * capture.h: what a worker prints, line by line.  A worker never blocks because hasupd reads slowly
 * for long: the pipe is read whenever there is something, long lines are cut in parts of
 * CAPTURE_LINE.
 */
#ifndef HASUP_SUPERVISOR_CAPTURE_H
#define HASUP_SUPERVISOR_CAPTURE_H

#include "supervisor/loop.h"

enum { CAPTURE_LINE = 4096, CAPTURE_TAIL = 24 /* last lines kept for crash reports: a Python stack and more */ };

enum capture_stream { CAPTURE_STDOUT, CAPTURE_STDERR };

struct capture; /* the two pipes of one worker */

/* `line` is without its newline, NUL-terminated, with control characters replaced; len <
 * CAPTURE_LINE. */
typedef void capture_line(void *context, enum capture_stream stream, const char *line, size_t len);

/* Makes the pipes: *out and *err are the worker's ends, to be closed by the caller after the spawn.
 */
struct capture *capture_new(struct loop *loop, capture_line *line, void *context, int *out,
                            int *err);
/* Reads what is still in the pipes (bounded, never blocks), gives the last unfinished line, closes.
 */
void capture_finish(struct capture *capture);
void capture_free(struct capture *capture); /* finishes first */
/* The last lines of stderr, oldest first; at most CAPTURE_TAIL. */
size_t capture_tail(const struct capture *capture, const char *lines[CAPTURE_TAIL]);

#endif
