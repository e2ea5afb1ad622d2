/*
 * peer.h: one end of a socket that speaks frames, on the loop: a worker or a local client.
 *
 * A peer reads, checks and hands out frames with their bodies, keeps the buffers that the other end
 * announced and those it was told of, and gathers what is sent until the turn ends.  A peer that
 * breaks the protocol or goes away is reported once by `lost`; after that nothing comes.  A peer's
 * memory must outlive the callback that it is in: it is freed at the end of the turn, not inside.
 */
#ifndef HASUP_SUPERVISOR_PEER_H
#define HASUP_SUPERVISOR_PEER_H

#include "ipc/channel.h"
#include "ipc/message.h"
#include "supervisor/buffer.h"
#include "supervisor/loop.h"

struct peers; /* what all peers of a loop share: the list of those that have something to send */

struct peer {
    struct peers *peers;
    struct hasup_channel channel;
    struct watch watch;
    const struct peer_ops *ops;
    void *context;
    struct buffer *buffers;    /* announced by the other end */
    uint32_t buffer_count;     /* of these; HASUP_BUFFERS_MAX at most */
    struct announcement *told; /* announced to the other end */
    uint32_t next_id;          /* of the next announcement */
    struct peer *dirty_next, *dirty_prev;
    bool dirty, open, blocked; /* blocked: the socket is full, waits to be writable */
    uint32_t paused;           /* reading is stopped while > 0 */
};

struct peer_ops {
    /* 0, or a negative code: the peer broke the protocol.  frame->fd is closed by the peer. */
    int (*frame)(void *context, const struct hasup_frame *frame, struct body *body);
    /* HASUP_ECLOSED, HASUP_EPROTO, … : the peer is closed already; free or forget it. */
    void (*lost)(void *context, int error, const char *why);
    /* All that was sent has left; may be NULL. */
    void (*drained)(void *context);
};

struct peers *peers_new(struct loop *loop);
void peers_free(struct peers *peers);
struct buffer_pool *peers_pool(struct peers *peers);

/* Takes `fd`. */
int peer_open(struct peer *peer, struct peers *peers, int fd, const struct peer_ops *ops,
              void *context) HASUP_NODISCARD;
/* Closes without a word; withdraws its buffers.  Harmless where it is closed. */
void peer_close(struct peer *peer);

struct carry;
/* What of it can go along to another hasupd; NULL: all, else what cannot now. */
const char *peer_holds(const struct peer *peer);
/* An open one; loading, `peer` is opened, and `ops` and `context` are its own. */
void peer_carry(struct carry *carry, struct peer *peer, struct peers *peers,
                const struct peer_ops *ops, void *context);
/* The pool's free buffers. */
void peers_carry(struct carry *carry, struct peers *peers);

/* Reads what is there and hands it out; for a worker that exited: until nothing is left. */
void peer_drain(struct peer *peer);

/* Sends a frame with `body`: inline up to HASUP_INLINE_MAX, above in a buffer.  frame->meta is
 * copied; the 24 bytes behind it may be written to (room for BUFFER_ID and BUFFER_OFFSET:
 * PEER_META_ROOM). 0; HASUP_EFULL: the peer does not read; HASUP_ENOMEM. */
enum { PEER_META_ROOM = 32 };
int peer_send(struct peer *peer, struct hasup_frame *frame, struct body *body) HASUP_NODISCARD;
/* Passes a descriptor, which stays the caller's, with a frame whose body, if any, is inline. */
int peer_pass(struct peer *peer, struct hasup_frame *frame, int fd) HASUP_NODISCARD;
/* A frame with neither meta nor body. */
int peer_say(struct peer *peer, enum hasup_frame_type type, uint64_t id) HASUP_NODISCARD;

#endif
