/*
 * buffer.h: memfds that carry bodies above HASUP_INLINE_MAX, shared by reference and never copied.
 *
 * A buffer is announced to hasupd by a peer (a client's request body, a worker's answer) or made by
 * hasupd itself (pool).  hasupd passes it on under a number of its own for each peer that it tells.
 * At zero references the announcer may use the bytes again; the buffer itself dies when its
 * announcer withdrew it too, and every peer that was told of it is told so (BUFFER_GONE).
 */
#ifndef HASUP_SUPERVISOR_BUFFER_H
#define HASUP_SUPERVISOR_BUFFER_H

#include "ipc/base.h"

struct peer;
struct announcement;

struct buffer {
    int fd;
    uint64_t size;
    uint8_t *map;       /* made on first need; NULL before */
    uint32_t refs;      /* bodies in use */
    uint32_t id;        /* the announcer's number */
    struct peer *owner; /* who announced it; NULL: withdrawn, or the pool's */
    struct buffer_pool *pool;
    struct buffer *next;       /* of the owner, or the pool's free ones */
    struct announcement *told; /* the peers that know it */
    bool busy;                 /* the owner waits for its RELEASE */
    uint32_t place;            /* in what is carried to another hasupd; see carry.c */
};

/* A body: bytes, or a part of a buffer. */
struct body {
    const uint8_t *bytes; /* NULL where it stands in `buffer` only */
    uint64_t len;
    struct buffer *buffer; /* NULL: bytes alone */
    uint64_t offset;
};

void buffer_ref(struct buffer *buffer);
void buffer_unref(struct buffer *buffer);
/* The readable bytes of a body, mapping its buffer where needed; NULL: it could not be mapped. */
const uint8_t *body_bytes(struct body *body);

/* Takes `fd`: a sealed memfd of at least `size` bytes, or HASUP_EPROTO (fd is closed). */
int buffer_open(int fd, uint64_t size, struct buffer **buffer) HASUP_NODISCARD;
/* The owner withdraws it: it dies now or at its last unref. */
void buffer_withdraw(struct buffer *buffer);

/* hasupd's own buffers, for bodies that came as bytes.  Free ones keep their memory: a fresh memfd
 * costs more than the copy. */
struct buffer_pool {
    struct buffer *free;
    uint64_t free_bytes, free_max;
};
/* A buffer of at least `len` bytes, mapped for writing, with one reference; NULL: no memory. */
struct buffer *buffer_pool_take(struct buffer_pool *pool, uint64_t len);
void buffer_pool_fini(struct buffer_pool *pool);

/* A peer's number for a buffer that it was told of. */
struct announcement {
    struct buffer *buffer;
    struct peer *peer;
    uint32_t id;
    uint32_t lent; /* bodies in it that the peer has not released */
    struct announcement *next_of_buffer, *next_of_peer;
};

#endif
