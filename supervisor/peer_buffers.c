/*
 * peer_buffers.c: bodies in memfds, between hasupd and one peer: which buffers the other end
 * announced, which of hasupd's were announced to it, who has one in hand.  A peer that names a
 * buffer that there is not breaks the protocol.
 */
#include "supervisor/peer_own.h"

#include "supervisor/buffer_peer.h"
#include "supervisor/carry.h"

#include <stdlib.h>

/* ---- what the other end says ---- */

static struct buffer *find_buffer(const struct peer *peer, uint32_t id)
{
    for (struct buffer *b = peer->buffers; b; b = b->next)
        if (b->id == id)
            return b;
    return NULL;
}

static int take_announcement(struct peer *peer, struct hasup_frame *frame)
{
    struct hasup_buffer_place place;
    struct buffer *buffer;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    if (!place.named || frame->fd < 0 || find_buffer(peer, place.id) ||
        peer->buffer_count == HASUP_BUFFERS_MAX)
        return HASUP_EPROTO;
    error = buffer_open(frame->fd, place.size, &buffer);
    frame->fd = -1;
    if (error)
        return error;
    buffer->id = place.id;
    buffer->owner = peer;
    buffer->next = peer->buffers;
    peer->buffers = buffer;
    peer->buffer_count++;
    return 0;
}

static int take_withdrawal(struct peer *peer, const struct hasup_frame *frame)
{
    struct hasup_buffer_place place;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    for (struct buffer **at = &peer->buffers; *at; at = &(*at)->next)
        if ((*at)->id == place.id) {
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
    struct hasup_buffer_place place;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    for (struct announcement *a = peer->told; a; a = a->next_of_peer)
        if (a->id == place.id) {
            if (!a->lent)
                return HASUP_EPROTO;
            a->lent--;
            buffer_unref(a->buffer);
            return 0;
        }
    return HASUP_EPROTO;
}

int peer_take_buffer(struct peer *peer, struct hasup_frame *frame)
{
    switch (frame->type) {
    case HASUP_BUFFER: return take_announcement(peer, frame);
    case HASUP_BUFFER_GONE: return take_withdrawal(peer, frame);
    default: return take_release(peer, frame);
    }
}

int peer_body(struct peer *peer, const struct hasup_frame *frame, struct body *body)
{
    *body = (struct body){.bytes = frame->body, .len = frame->body_len};
    if (!(frame->flags & HASUP_FLAG_BUFFER))
        return 0;
    struct hasup_buffer_place place;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    struct buffer *buffer = place.named ? find_buffer(peer, place.id) : NULL;
    if (!buffer || !hasup_buffer_holds(&place, buffer->size, frame))
        return HASUP_EPROTO;
    body->bytes = NULL;
    body->buffer = buffer;
    body->offset = place.offset;
    return 0;
}

/* ---- what it is told ---- */

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

/* About a buffer, no more. */
static int send_number(struct peer *peer, enum hasup_frame_type type, uint32_t id)
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    struct hasup_frame frame = {
        .type = (uint8_t)type, .meta = meta, .meta_len = (uint32_t)w.used, .fd = -1};
    return peer_put(peer, &frame);
}

void peer_gone(struct announcement *a)
{
    unlink_announcement(a);
    if (a->peer->open)
        (void)!send_number(a->peer, HASUP_BUFFER_GONE, a->id);
    free(a);
}

void peer_release(struct buffer *buffer)
{
    buffer->busy = false;
    /* A peer that does not read its releases runs out of its own buffers; nothing of hasupd's. */
    if (buffer->owner->open)
        (void)!send_number(buffer->owner, HASUP_RELEASE, buffer->id);
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
    uint8_t meta[HASUP_BUFFER_META];
    struct hasup_frame frame = hasup_buffer_frame(meta, a->id, buffer->fd, buffer->size);
    if (peer_put(peer, &frame)) {
        free(a);
        return NULL;
    }
    buffer->told = peer->told = a;
    return a;
}

int peer_send_in_buffer(struct peer *peer, struct hasup_frame *frame, struct body *body)
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
    int error = peer_put(peer, frame);
    if (!error && frame->type != HASUP_REQUEST) {
        /* Lent until the RELEASE; a REQUEST's buffer is the request's until its REPLY. */
        a->lent++;
        buffer_ref(body->buffer);
    }
    return error;
}

void peer_buffers_drop(struct peer *peer)
{
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
}

/* ---- to another hasupd ---- */

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

void peer_buffers_carry(struct carry *carry, struct peer *peer)
{
    buffers_carry(carry, peer);
    announcements_carry(carry, peer);
}
