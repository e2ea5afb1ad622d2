/*
 * peer.c: frames on the loop.  Owns the channel and the watch of each peer; its buffers are
 * peer_buffers.c's.  Reads at most one scratch of bytes for each readiness, so that one busy peer
 * does not starve the others.  Everything sent in a turn leaves in one write at its end.  A peer
 * that fails while it is being written to is reported at the next turn through its watch, never
 * from inside peer_send.
 */
#include "checkpoints/fault.h"
#include "supervisor/peer_own.h"

#include "supervisor/carry.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bodies that hasupd itself puts into memfds; what is free stays for the next up to this. */
enum { POOL_FREE_MAX = 64 << 20, DRAIN_READS = 64, ROOMS_KEPT = 32 };

/* Memory for what is sent is lent to a peer from its first frame of a turn until all has left, so
 * that a thousand idle ones hold none. */
struct room {
    uint8_t *bytes;
    size_t size;
};

struct peers {
    struct loop *loop;
    struct peer dirty; /* head of the ring of those with something to send */
    struct buffer_pool pool;
    struct room rooms[ROOMS_KEPT]; /* a stack */
    unsigned room_count;
};

static void peers_flush(void *context);

struct peers *peers_new(struct loop *loop)
{
    struct peers *peers = calloc(1, sizeof *peers);
    if (!peers)
        return NULL;
    peers->loop = loop;
    peers->pool.free_max = POOL_FREE_MAX;
    peers->dirty.dirty_next = peers->dirty.dirty_prev = &peers->dirty;
    if (loop_at_turn_end(loop, peers_flush, peers)) {
        free(peers);
        return NULL;
    }
    return peers;
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    buffer_pool_fini(&peers->pool);
    while (peers->room_count)
        free(peers->rooms[--peers->room_count].bytes);
    free(peers);
}

struct buffer_pool *peers_pool(struct peers *peers)
{
    return &peers->pool;
}

static void dirty_add(struct peer *peer)
{
    if (peer->dirty || peer->blocked)
        return;
    struct peer *head = &peer->peers->dirty;
    peer->dirty = true;
    peer->dirty_prev = head->dirty_prev;
    peer->dirty_next = head;
    head->dirty_prev->dirty_next = peer;
    head->dirty_prev = peer;
}

static void dirty_remove(struct peer *peer)
{
    if (!peer->dirty)
        return;
    peer->dirty = false;
    peer->dirty_prev->dirty_next = peer->dirty_next;
    peer->dirty_next->dirty_prev = peer->dirty_prev;
}

int peer_put(struct peer *peer, const struct hasup_frame *frame)
{
    struct hasup_channel *ch = &peer->channel;
    struct peers *peers = peer->peers;
    dirty_add(peer);
    if (!ch->out.room && peers->room_count) {
        struct room room = peers->rooms[--peers->room_count];
        ch->out.bytes = room.bytes;
        ch->out.room = room.size;
    }
    return hasup_channel_send(ch, frame);
}

/* All has left. */
static void room_give_back(struct peer *peer)
{
    struct hasup_channel *ch = &peer->channel;
    struct peers *peers = peer->peers;
    if (!ch->out.room || peers->room_count == ROOMS_KEPT)
        free(ch->out.bytes);
    else
        peers->rooms[peers->room_count++] = (struct room){ch->out.bytes, ch->out.room};
    ch->out.bytes = NULL;
    ch->out.room = 0;
}

static int peer_watch(struct peer *peer)
{
    int events = (peer->paused ? 0 : WATCH_READ) | (peer->blocked ? WATCH_WRITE : 0);
    return watch_set(&peer->watch, peer->peers->loop, peer->channel.fd, events);
}

static void peer_lose(struct peer *peer, int error, const char *why)
{
    if (!peer->open)
        return;
    peer_close(peer);
    peer->ops->lost(peer->context, error, why);
}

static void peer_flush(struct peer *peer)
{
    FAULT(written_before);
    int got = hasup_channel_flush(&peer->channel);
    FAULT(written_after);
    bool blocked = got == HASUP_EAGAIN;
    if (got && !blocked) {
        /* The other end is gone, or has missed something and must go.  What it sent before is still
         * read: the end of file follows. */
        hasup_channel_drop(&peer->channel);
        if (got != HASUP_ECLOSED)
            shutdown(peer->channel.fd, SHUT_RDWR);
    }
    if (!blocked)
        room_give_back(peer);
    if (blocked != peer->blocked) {
        peer->blocked = blocked;
        if (peer_watch(peer)) {
            peer_lose(peer, HASUP_ENOMEM, "out of memory");
            return;
        }
    }
    if (!got && peer->open && peer->ops->drained)
        peer->ops->drained(peer->context);
}

static void peers_flush(void *context)
{
    struct peers *peers = context;
    while (peers->dirty.dirty_next != &peers->dirty) {
        struct peer *peer = peers->dirty.dirty_next;
        dirty_remove(peer);
        peer_flush(peer);
    }
}

/* ---- reading ---- */

static int peer_take(struct peer *peer, struct hasup_frame *frame)
{
    struct body body;
    int error;
    switch (frame->type) {
    case HASUP_BUFFER:
    case HASUP_BUFFER_GONE:
    case HASUP_RELEASE: return peer_take_buffer(peer, frame);
    }
    error = peer_body(peer, frame, &body);
    if (error)
        return error;
    if (!body.buffer)
        return peer->ops->frame(peer->context, frame, &body);
    /* Whoever keeps the bytes takes a reference; at none the owner hears RELEASE, except for a
     * REQUEST, whose REPLY says the same. */
    body.buffer->busy = frame->type != HASUP_REQUEST;
    buffer_ref(body.buffer);
    struct buffer *buffer = body.buffer;
    error = peer->ops->frame(peer->context, frame, &body);
    buffer_unref(buffer);
    return error;
}

/* Hands out every whole frame; a negative code when the peer is lost. */
static int peer_hand_out(struct peer *peer)
{
    struct hasup_frame frame;
    int got = 0;
    while (peer->open && (got = hasup_channel_next(&peer->channel, &frame)) > 0) {
        got = peer_take(peer, &frame);
        if (frame.fd >= 0)
            close(frame.fd);
        if (got < 0)
            break;
    }
    if (got < 0 && peer->open)
        peer_lose(peer, got, hasup_strerror(got));
    return got;
}

/* One read and its frames: > 0 when there may be more. */
static int64_t peer_read(struct peer *peer)
{
    int64_t got =
        hasup_channel_fill(&peer->channel, loop_scratch(peer->peers->loop), HASUP_CHANNEL_SCRATCH);
    if (got == HASUP_EAGAIN)
        return 0;
    if (got < 0) {
        peer_lose(peer, (int)got, hasup_strerror((int)got));
        return got;
    }
    int error = peer_hand_out(peer);
    return error < 0 ? error : got;
}

static void peer_event(void *context, int events)
{
    struct peer *peer = context;
    if (events & WATCH_WRITE)
        peer_flush(peer);
    if (peer->open && (events & WATCH_READ))
        peer_read(peer);
}

void peer_drain(struct peer *peer)
{
    /* Bounded: a child that inherited the socket might go on writing for ever. */
    for (int i = 0; i < DRAIN_READS && peer->open && peer_read(peer) > 0; i++)
        continue;
}

/* ---- life ---- */

int peer_open(struct peer *peer, struct peers *peers, int fd, const struct peer_ops *ops,
              void *context)
{
    *peer = (struct peer){.peers = peers, .ops = ops, .context = context, .open = true};
    peer->watch.ready = peer_event;
    peer->watch.context = peer;
    hasup_channel_init(&peer->channel, fd, 0);
    if (peer_watch(peer)) {
        peer_close(peer);
        return HASUP_ENOMEM;
    }
    return 0;
}

void peer_close(struct peer *peer)
{
    if (!peer->open)
        return;
    peer->open = false;
    watch_stop(&peer->watch);
    dirty_remove(peer);
    peer_buffers_drop(peer);
    hasup_channel_fini(&peer->channel);
}

/* ---- sending ---- */

int peer_send(struct peer *peer, struct hasup_frame *frame, struct body *body)
{
    if (!peer->open)
        return HASUP_ECLOSED;
    frame->fd = -1;
    if (body && body->len > HASUP_INLINE_MAX) {
        if (body->buffer)
            return peer_send_in_buffer(peer, frame, body);
        struct body moved = {.len = body->len};
        moved.buffer = buffer_pool_take(&peer->peers->pool, body->len);
        if (!moved.buffer)
            return HASUP_ENOMEM;
        memcpy(moved.buffer->map, body->bytes, body->len);
        int error = peer_send_in_buffer(peer, frame, &moved);
        buffer_unref(moved.buffer);
        return error;
    }
    if (body && body->len) {
        frame->body = body_bytes(body);
        if (!frame->body)
            return HASUP_ENOMEM;
        frame->body_len = body->len;
    }
    return peer_put(peer, frame);
}

int peer_pass(struct peer *peer, struct hasup_frame *frame, int fd)
{
    if (!peer->open)
        return HASUP_ECLOSED;
    frame->flags |= HASUP_FLAG_FD;
    frame->fd = fd;
    return peer_put(peer, frame);
}

int peer_say(struct peer *peer, enum hasup_frame_type type, uint64_t id)
{
    struct hasup_frame frame = {.type = (uint8_t)type, .id = id, .fd = -1};
    return peer_send(peer, &frame, NULL);
}

/* ---- to another hasupd ---- */

const char *peer_holds(const struct peer *peer)
{
    const struct hasup_channel *ch = &peer->channel;
    return peer->open && (ch->in.fd_count || ch->out.fd_count) ? "a descriptor is being passed"
                                                               : NULL;
}

void peer_carry(struct carry *carry, struct peer *peer, struct peers *peers,
                const struct peer_ops *ops, void *context)
{
    CARRY(carry);
    struct hasup_channel *ch = &peer->channel;
    struct codec_outer outer = codec_enter(codec);
    int fd = ch->fd;
    size_t unsent = codec->loading ? 0 : hasup_channel_unsent(ch);
    uint8_t *out = codec->loading ? NULL : ch->out.bytes + ch->out.start;
    carry_fd(carry, &fd);
    if (codec->loading && (fd < 0 || peer_open(peer, peers, fd, ops, context)))
        codec_fail(codec);
    carry_block(carry, &ch->in.kept, &ch->in.kept_len, 0);
    carry_block(carry, &out, &unsent, 0);
    V(ch->out.max);
    V(peer->paused);
    if (codec->loading) {
        ch->in.kept_room = ch->in.kept_len;
        ch->out.bytes = out;
        ch->out.end = ch->out.room = unsent;
        if (unsent)
            dirty_add(peer);
    }
    peer_buffers_carry(carry, peer);
    codec_leave(codec, outer);
}

void peers_carry(struct carry *carry, struct peers *peers)
{
    CARRY(carry);
    uint32_t count = 0;
    struct buffer *at = peers->pool.free, **last = &peers->pool.free;
    for (struct buffer *buffer = at; buffer && !codec->loading; buffer = buffer->next)
        count++;
    V(count);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        struct buffer *buffer = at;
        at = at ? at->next : NULL;
        carry_buffer(carry, &buffer);
        if (!codec->loading)
            continue;
        if (!buffer || !buffer->pool) {
            codec_fail(codec);
            return;
        }
        peers->pool.free_bytes += buffer->size;
        *last = buffer;
        last = &buffer->next;
    }
}
