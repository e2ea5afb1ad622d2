/*
 * durable_own.h: what the files of durable requests share: an operation of the journal's on its way
 * (durable.c), and what is kept of a request until it is written (durable_kept.c).
 */
#ifndef HASUP_SUPERVISOR_DURABLE_OWN_H
#define HASUP_SUPERVISOR_DURABLE_OWN_H

#include "supervisor/engine.h"

/* A reply that waits to be stored. */
struct held {
    uint32_t status;
    uint32_t meta_len;
    struct body body; /* its bytes stand behind the meta, or in a buffer */
    uint8_t bytes[];
};

/* A part of a durable stream. */
struct kept_chunk {
    struct kept_chunk *next; /* of the request */
    uint32_t refs;           /* the request's list and the operation */
    uint64_t number;
    size_t meta_len, len;
    uint8_t bytes[]; /* meta, then the chunk */
};

/* An operation on its way; on the engine's list, so that none is lost at the end. */
struct durable_op {
    struct journal_op op; /* first: the journal's list is of these */
    struct durable_op *next, **back;
    enum persist what;
    uint64_t request;
    char model[STORE_MODEL];
    struct kept_chunk *chunk;
    uint64_t size;                                      /* RESULT: of all that is stored of it */
    void (*done)(void *context, struct journal_op *op); /* of one that is not the core's */
    void *context;                                      /* malloc'ed, or NULL */
    struct request *retold; /* FETCH: who waits for it; its door may be gone meanwhile */
    uint8_t meta[1024];     /* REFUSAL: its words */
    void *owned;            /* LETTER: what it names */
};

/* durable.c */
/* Freed when it is done, or at the engine's end.  Never NULL: what the core counts on would never
 * end. */
struct durable_op *durable_op_new(struct engine *engine, enum journal_op_kind kind,
                                  uint64_t record);
/* Gives it to the journal, or fails it where there is none. */
void durable_op_add(struct engine *engine, struct durable_op *op);

/* durable_kept.c */
/* The next of a request's stream, with room for `behind` bytes more; NULL: no memory. */
struct kept_chunk *durable_keep_chunk(struct request *request, uint64_t number,
                                      struct journal_bytes meta, struct journal_bytes bytes,
                                      size_t behind);
void durable_chunk_unref(struct kept_chunk *chunk); /* NULL: nothing */

/* durable_tell.c */
void durable_fetched(const struct durable_op *op); /* a FETCH has ended */

#endif
