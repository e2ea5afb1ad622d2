/*
 * peer.c: frames on the loop.  Owns the channel, the watch and the tables of buffers of each peer.
 * Reads at most one scratch of bytes for each readiness, so that one busy peer does not starve the
 * others.  Everything sent in a turn leaves in one write at its end.  A peer that fails while it is
 * being written to is reported at the next turn through its watch, never from inside peer_send.
 */
#include "checkpoints/fault.h"
#include "supervisor/peer.h"

#include "supervisor/buffer_peer.h"
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

static int channel_send(struct peer *peer, const struct hasup_frame *frame)
{
    struct hasup_channel *ch = &peer->channel;
    struct peers *peers = peer->peers;
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

/* ---- buffers ---- */

static struct buffer *find_buffer(const struct peer *peer, uint32_t id)
{
    for (struct buffer *b = peer->buffers; b; b = b->next)
        if (b->id == id)
            return b;
    return NULL;
}

struct buffer_fields {
    uint32_t id;
    uint64_t size, offset;
    bool has_id;
};

static int read_buffer_fields(const struct hasup_frame *frame, struct buffer_fields *out)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    *out = (struct buffer_fields){0};
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0) {
        int error = 0;
        if (field.tag == HASUP_TAG_BUFFER_ID) {
            error = hasup_field_get32(&field, &out->id);
            out->has_id = true;
        } else if (field.tag == HASUP_TAG_BUFFER_SIZE) {
            error = hasup_field_get64(&field, &out->size);
        } else if (field.tag == HASUP_TAG_BUFFER_OFFSET) {
            error = hasup_field_get64(&field, &out->offset);
        }
        if (error)
            return error;
    }
    return got;
}

static int take_announcement(struct peer *peer, struct hasup_frame *frame)
{
    struct buffer_fields fields;
    struct buffer *buffer;
    int error = read_buffer_fields(frame, &fields);
    if (error)
        return error;
    if (!fields.has_id || frame->fd < 0 || find_buffer(peer, fields.id) ||
        peer->buffer_count == HASUP_BUFFERS_MAX)
        return HASUP_EPROTO;
    error = buffer_open(frame->fd, fields.size, &buffer);
    frame->fd = -1;
    if (error)
        return error;
    buffer->id = fields.id;
    buffer->owner = peer;
    buffer->next = peer->buffers;
    peer->buffers = buffer;
    peer->buffer_count++;
    return 0;
}

static int take_withdrawal(struct peer *peer, const struct hasup_frame *frame)
{
    struct buffer_fields fields;
    int error = read_buffer_fields(frame, &fields);
    if (error)
        return error;
    for (struct buffer **at = &peer->buffers; *at; at = &(*at)->next)
        if ((*at)->id == fields.id) {
            struct buffer *buffer = *at;
            *at = buffer->next;
            peer->buffer_count--;
            buffer_withdraw(buffer);
            return 0;
        }
    return HASUP_EPROTO;
}

/* The other end has done with a buffer that hasupd passed on to it (an answer's body). */
static int take_release(struct peer *peer, const struct hasup_frame *frame)
{
    struct buffer_fields fields;
    int error = read_buffer_fields(frame, &fields);
    if (error)
        return error;
    for (struct announcement *a = peer->told; a; a = a->next_of_peer)
        if (a->id == fields.id) {
            if (!a->lent)
                return HASUP_EPROTO;
            a->lent--;
            buffer_unref(a->buffer);
            return 0;
        }
    return HASUP_EPROTO;
}

static int body_of(struct peer *peer, const struct hasup_frame *frame, struct body *body)
{
    *body = (struct body){.bytes = frame->body, .len = frame->body_len};
    if (!(frame->flags & HASUP_FLAG_BUFFER))
        return 0;
    struct buffer_fields fields;
    int error = read_buffer_fields(frame, &fields);
    if (error)
        return error;
    struct buffer *buffer = fields.has_id ? find_buffer(peer, fields.id) : NULL;
    if (!buffer || fields.offset > buffer->size || frame->body_len > buffer->size - fields.offset)
        return HASUP_EPROTO;
    body->bytes = NULL;
    body->buffer = buffer;
    body->offset = fields.offset;
    return 0;
}

static void unlink_announcement(struct announcement *a)
{
    struct announcement **at = &a->buffer->told;
    while (*at != a)
        at = &(*at)->next_of_buffer;
    *at = a->next_of_buffer;
    at = &a->peer->told;
    while (*at != a)
        at = &(*at)->next_of_peer;
    *at = a->next_of_peer;
}

static int send_buffer_frame(struct peer *peer, enum hasup_frame_type type, uint32_t id,
                             const struct buffer *passed)
{
    uint8_t meta[64];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    if (passed)
        hasup_meta_put64(&w, HASUP_TAG_BUFFER_SIZE, passed->size);
    struct hasup_frame frame = {.type = (uint8_t)type,
                                .flags = passed ? HASUP_FLAG_FD : 0,
                                .meta = meta,
                                .meta_len = (uint32_t)w.used,
                                .fd = passed ? passed->fd : -1};
    dirty_add(peer);
    return channel_send(peer, &frame);
}

void peer_gone(struct announcement *a)
{
    unlink_announcement(a);
    if (a->peer->open)
        (void)!send_buffer_frame(a->peer, HASUP_BUFFER_GONE, a->id, NULL);
    free(a);
}

void peer_release(struct buffer *buffer)
{
    buffer->busy = false;
    /* A peer that does not read its releases runs out of its own buffers; nothing of hasupd's. */
    if (buffer->owner->open)
        (void)!send_buffer_frame(buffer->owner, HASUP_RELEASE, buffer->id, NULL);
}

/* The announcement of `buffer` to `peer`, made where there is none. */
static struct announcement *announce(struct peer *peer, struct buffer *buffer)
{
    for (struct announcement *a = peer->told; a; a = a->next_of_peer)
        if (a->buffer == buffer)
            return a;
    struct announcement *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    *a = (struct announcement){.buffer = buffer,
                               .peer = peer,
                               .id = ++peer->next_id,
                               .next_of_buffer = buffer->told,
                               .next_of_peer = peer->told};
    if (send_buffer_frame(peer, HASUP_BUFFER, a->id, buffer)) {
        free(a);
        return NULL;
    }
    buffer->told = peer->told = a;
    return a;
}

/* ---- reading ---- */

static int peer_take(struct peer *peer, struct hasup_frame *frame)
{
    struct body body;
    int error;
    switch (frame->type) {
    case HASUP_BUFFER: return take_announcement(peer, frame);
    case HASUP_BUFFER_GONE: return take_withdrawal(peer, frame);
    case HASUP_RELEASE: return take_release(peer, frame);
    }
    error = body_of(peer, frame, &body);
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
    while (peer->told) {
        struct announcement *a = peer->told;
        unlink_announcement(a);
        for (; a->lent; a->lent--)
            buffer_unref(a->buffer);
        free(a);
    }
    while (peer->buffers) {
        struct buffer *buffer = peer->buffers;
        peer->buffers = buffer->next;
        buffer_withdraw(buffer);
    }
    hasup_channel_fini(&peer->channel);
}

/* ---- sending ---- */

static int send_in_buffer(struct peer *peer, struct hasup_frame *frame, struct body *body)
{
    struct announcement *a = announce(peer, body->buffer);
    if (!a)
        return HASUP_ENOMEM;
    /* The meta is the caller's memory with PEER_META_ROOM bytes behind it. */
    struct hasup_meta_writer w;
    hasup_meta_start(&w, (uint8_t *)(uintptr_t)frame->meta + frame->meta_len, PEER_META_ROOM);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, a->id);
    hasup_meta_put64(&w, HASUP_TAG_BUFFER_OFFSET, body->offset);
    frame->meta_len += (uint32_t)w.used;
    frame->flags |= HASUP_FLAG_BUFFER;
    frame->body = NULL;
    frame->body_len = body->len;
    int error = channel_send(peer, frame);
    if (!error && frame->type != HASUP_REQUEST) {
        /* Lent until the RELEASE; a REQUEST's buffer is the request's until its REPLY. */
        a->lent++;
        buffer_ref(body->buffer);
    }
    return error;
}

int peer_send(struct peer *peer, struct hasup_frame *frame, struct body *body)
{
    if (!peer->open)
        return HASUP_ECLOSED;
    dirty_add(peer);
    frame->fd = -1;
    if (body && body->len > HASUP_INLINE_MAX) {
        if (body->buffer)
            return send_in_buffer(peer, frame, body);
        struct body moved = {.len = body->len};
        moved.buffer = buffer_pool_take(&peer->peers->pool, body->len);
        if (!moved.buffer)
            return HASUP_ENOMEM;
        memcpy(moved.buffer->map, body->bytes, body->len);
        int error = send_in_buffer(peer, frame, &moved);
        buffer_unref(moved.buffer);
        return error;
    }
    if (body && body->len) {
        frame->body = body_bytes(body);
        if (!frame->body)
            return HASUP_ENOMEM;
        frame->body_len = body->len;
    }
    return channel_send(peer, frame);
}

int peer_pass(struct peer *peer, struct hasup_frame *frame, int fd)
{
    if (!peer->open)
        return HASUP_ECLOSED;
    dirty_add(peer);
    frame->flags |= HASUP_FLAG_FD;
    frame->fd = fd;
    return channel_send(peer, frame);
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

static void buffers_carry(struct carry *carry, struct peer *peer)
{
    CARRY(carry);
    struct buffer *next = peer->buffers, **last = &peer->buffers;
    V(peer->buffer_count);
    for (uint32_t i = 0; i < peer->buffer_count && !codec->failed; i++) {
        struct buffer *buffer = next;
        next = buffer ? buffer->next : NULL;
        carry_buffer(carry, &buffer);
        if (!codec->loading)
            continue;
        if (!buffer || buffer->owner || buffer->pool) {
            codec_fail(codec);
            return;
        }
        buffer->owner = peer;
        *last = buffer;
        last = &buffer->next;
    }
}

static struct announcement *announcement_loaded(struct carry *carry, struct peer *peer)
{
    struct announcement *a = calloc(1, sizeof *a);
    if (!a) {
        carry->no_memory = true;
        codec_fail(&carry->codec);
        return NULL;
    }
    a->peer = peer;
    return a;
}

static void announcements_carry(struct carry *carry, struct peer *peer)
{
    CARRY(carry);
    struct announcement *at = peer->told, **last = &peer->told;
    uint32_t count = 0;
    for (struct announcement *a = at; a && !codec->loading; a = a->next_of_peer)
        count++;
    V(peer->next_id);
    V(count);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        struct announcement *a = codec->loading ? announcement_loaded(carry, peer) : at;
        if (!a)
            return;
        carry_buffer(carry, &a->buffer);
        V(a->id);
        V(a->lent);
        at = a->next_of_peer;
        if (!codec->loading)
            continue;
        if (!a->buffer) {
            free(a);
            codec_fail(codec);
            return;
        }
        a->buffer->refs += a->lent;
        a->next_of_buffer = a->buffer->told;
        a->buffer->told = a;
        *last = a;
        last = &a->next_of_peer;
    }
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
    buffers_carry(carry, peer);
    announcements_carry(carry, peer);
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
