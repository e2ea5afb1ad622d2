/*
 * printed.h: the last lines of all slots, in memory, for hasupctl logs and for what a dead worker
 * said last.  Bounded in bytes, all slots together; when it is full the slot that has most gives its
 * oldest line, so that one that talks much pushes nobody else's lines out.  Nothing is taken before
 * a line comes.  Loop thread only.
 */
#ifndef HASUP_SUPERVISOR_PRINTED_H
#define HASUP_SUPERVISOR_PRINTED_H

#include "supervisor/capture.h"
#include "supervisor/log.h"
#include "supervisor/mark.h"

struct printed;

enum { PRINTED_REQUEST = MARK_NAME + 1, PRINTED_GREP = 128, PRINTED_SLOT = 96 };
enum { PRINTED_TARGETS = 16 };

struct printed_line {
    int64_t wall_ns;
    const char *slot;
    int pid;
    char request[PRINTED_REQUEST]; /* "": not known, or none */
    struct captured said;
};

/* What a reader wants. */
struct printed_filter {
    char targets[PRINTED_TARGETS][PRINTED_SLOT]; /* slots, or models; the first "": all */
    char grep[PRINTED_GREP];    /* a part of the text; "": any */
    char request[PRINTED_REQUEST]; /* whose they are; "": any, and nobody's */
    unsigned streams;           /* 1 << enum capture_stream; 0: all */
    int64_t since_wall_ns, until_wall_ns; /* until 0: for ever */
    int pid;                    /* 0: any */
};

/* Where a reader is.  Its own memory; the lines that it has not had yet are the store's, so that a
 * slow one costs nothing but its lines, when they go. */
struct printed_reader {
    struct printed_filter filter;
    struct kept *at;  /* the next line to look at; NULL: it has seen all */
    uint64_t lost;    /* lines that it wanted and that went before it came to them */
    struct printed_reader *next, **back;
};

struct printed *printed_new(size_t bytes); /* NULL: no memory */
void printed_free(struct printed *printed);
void printed_limit(struct printed *printed, size_t bytes);

void printed_add(struct printed *printed, const struct printed_line *line);
/* Whether there are lines of it; `target`: a slot, or a model. */
bool printed_knows(const struct printed *printed, const char *target);

/* Whether a line of the filter's targets is about its request.  If none is: whose id looks most like
 * it, "" for nobody's. */
bool printed_is_about(const struct printed *printed, const struct printed_filter *filter,
                      char near[PRINTED_REQUEST]);

/* reader->filter is set.  It begins with the last `tail` of the lines that it wants. */
void printed_open(struct printed *printed, struct printed_reader *reader, size_t tail);
/* The next line that it wants, as far as there is one; false: none now. */
bool printed_next(struct printed_reader *reader, struct printed_line *line);
void printed_close(struct printed_reader *reader);

struct carry;
void printed_carry(struct carry *carry, struct printed *printed); /* to another hasupd */
/* How many lines a reader has yet to get. */
size_t printed_left(const struct printed_reader *reader);

/* "stdout" */
const char *printed_stream(enum capture_stream stream);
/* The line as a log entry; its fields stand in `fields`. */
enum { PRINTED_FIELDS = 5 };
struct log_entry printed_entry(const struct printed_line *line,
                               struct log_field fields[PRINTED_FIELDS]);

#endif
