/*
 * channel.h: frames over one non-blocking Unix stream socket, with passed descriptors.
 *
 * A channel collects what is sent during a turn and writes it at once in hasup_channel_flush; it
 * reads into memory that the caller lends for the turn, and keeps only the bytes of a frame that is
 * not whole yet.  So a thousand idle channels hold next to no memory.  One thread uses a channel at
 * a time.
 */
#ifndef HASUP_IPC_CHANNEL_H
#define HASUP_IPC_CHANNEL_H

#include "ipc/frame.h"

enum {
    HASUP_CHANNEL_SCRATCH = 256 * 1024, /* a good size for the lent input memory */
    HASUP_CHANNEL_FDS = 16,             /* descriptors that may wait for their frames */
};

struct hasup_channel {
    int fd; /* owned; -1 after fini */
    struct {
        const uint8_t *at, *end; /* unread bytes: in the lent memory or in `kept` */
        uint8_t *kept;           /* start of an unfinished frame */
        size_t kept_len, kept_room;
        int fds[HASUP_CHANNEL_FDS]; /* received, not yet taken by a frame */
        unsigned fd_count;
    } in;
    struct {
        uint8_t *bytes;
        size_t start, end, room; /* unsent: [start, end) */
        struct {
            int fd;
            size_t at;
        } fds[HASUP_CHANNEL_FDS]; /* goes with the byte at `at` */
        unsigned fd_count;
        size_t max; /* HASUP_EFULL above this many unsent bytes */
    } out;
};

/* Takes `fd` (made non-blocking).  `out_max`: bytes that may wait unsent; 0: 64 MiB. */
void hasup_channel_init(struct hasup_channel *ch, int fd, size_t out_max);
void hasup_channel_fini(struct hasup_channel *ch);

/* Reads what is there into `scratch`, which frames of hasup_channel_next point into until the next
 * fill, and which must stay untouched until next answered 0.
 * Bytes read; HASUP_EAGAIN: nothing; HASUP_ECLOSED: end of file; HASUP_ESYS: errno. */
int64_t hasup_channel_fill(struct hasup_channel *ch, uint8_t *scratch, size_t room) HASUP_NODISCARD;

/* 1 and the next whole frame, its fields sound (hasup_meta_check); 0 when more bytes are needed;
 * HASUP_EPROTO, HASUP_ETOOBIG, HASUP_ENOMEM: the channel is of no more use.  frame->fd, where not
 * -1, belongs to the caller. */
int hasup_channel_next(struct hasup_channel *ch, struct hasup_frame *frame) HASUP_NODISCARD;

/* Appends a frame: its header fields, then `meta`, then `body` (both copied) unless
 * HASUP_FLAG_BUFFER is set.  frame->fd, where not -1, is duplicated and passed with it (set
 * HASUP_FLAG_FD). 0, HASUP_EFULL (nothing was appended), HASUP_ENOMEM. */
int hasup_channel_send(struct hasup_channel *ch, const struct hasup_frame *frame) HASUP_NODISCARD;

/* Writes all that waits: 0; HASUP_EAGAIN: the peer is slow, call again when writable;
 * HASUP_ECLOSED or HASUP_ESYS. */
int hasup_channel_flush(struct hasup_channel *ch) HASUP_NODISCARD;

/* Lets go of what waits to be written, and of the descriptors that were to go with it: the other end
 * cannot be written to.  What it sent can still be read. */
void hasup_channel_drop(struct hasup_channel *ch);

static inline size_t hasup_channel_unsent(const struct hasup_channel *ch)
{
    return ch->out.end - ch->out.start;
}

#endif
