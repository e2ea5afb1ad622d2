/*
 * carry.c: fields of what is carried that the core does not have: text, blocks, descriptors, shared
 * buffers.  Owns the lists of descriptors and buffers.  Decides nothing, and touches no descriptor
 * before the load has come to it.
 */
#include "supervisor/carry.h"

#include "supervisor/engine.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

void carry_text(struct carry *carry, char *text, size_t room)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t len = carry->codec.loading ? 0 : strnlen(text, room - 1);
    codec_bytes(&carry->codec, &at, &len);
    if (!carry->codec.loading)
        return;
    if (len >= room)
        codec_fail(&carry->codec);
    len = len < room ? len : 0;
    if (len)
        memcpy(text, at, len);
    text[len] = '\0';
}

void carry_block(struct carry *carry, uint8_t **bytes, size_t *len, size_t behind)
{
    const uint8_t *at = *bytes;
    codec_bytes(&carry->codec, &at, len);
    if (!carry->codec.loading)
        return;
    *bytes = *len ? malloc(*len + behind) : NULL;
    if (*bytes)
        memcpy(*bytes, at, *len);
    else if (*len)
        carry->no_memory = true;
}

void carry_string(struct carry *carry, char **text)
{
    uint8_t *bytes = (uint8_t *)*text;
    size_t len = !carry->codec.loading && *text ? strlen(*text) : 0;
    carry_block(carry, &bytes, &len, 1);
    if (!carry->codec.loading)
        return;
    *text = (char *)bytes;
    if (bytes)
        bytes[len] = '\0';
}

void *carry_grown(struct carry *carry, void *list, size_t count, size_t *room, size_t each)
{
    if (count < *room)
        return list;
    size_t more = *room ? *room * 2 : 64;
    void *larger = realloc(list, more * each);
    if (!larger)
        carry->no_memory = true;
    else
        *room = more;
    return larger ? larger : list;
}

/* Something that can be watched and asked what descriptors are asked, and does nothing.  One is
 * made, and duplicated: a rehearsal with thousands runs beside the hasupd that serves. */
static int stand_in(struct carry *carry)
{
    if (carry->stand_in <= 0)
        carry->stand_in = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return carry->stand_in < 0 ? -1 : fcntl(carry->stand_in, F_DUPFD_CLOEXEC, 0);
}

void carry_fd(struct carry *carry, int *fd)
{
    struct codec *codec = &carry->codec;
    uint32_t number = *fd >= 0 ? (uint32_t)*fd + 1 : 0;
    V(number);
    if (codec->loading) {
        bool closed_by_exec = carry->dry || carry->closed_by_exec;
        *fd = number && carry->dry ? stand_in(carry) : (int)number - 1;
        if (number && (*fd < 0 || (!closed_by_exec && fcntl(*fd, F_SETFD, FD_CLOEXEC) < 0)))
            codec_fail(codec);
        return;
    }
    if (!number)
        return;
    carry->fds =
        carry_grown(carry, carry->fds, carry->fd_count, &carry->fd_room, sizeof *carry->fds);
    if (carry->fd_count < carry->fd_room)
        carry->fds[carry->fd_count++] = *fd;
}

/* ---- buffers ---- */

static uint32_t buffer_place(struct carry *carry, struct buffer *buffer)
{
    const uint32_t place = buffer->place; /* of this carry, or of one before */
    if (place && place <= carry->buffer_count && carry->buffers[place - 1] == buffer)
        return place;
    carry->buffers = carry_grown(carry, carry->buffers, carry->buffer_count, &carry->buffer_room,
                                 sizeof *carry->buffers);
    if (carry->buffer_count == carry->buffer_room)
        return 0;
    carry->buffers[carry->buffer_count++] = buffer;
    return buffer->place = (uint32_t)carry->buffer_count;
}

void carry_buffer(struct carry *carry, struct buffer **buffer)
{
    struct codec *codec = &carry->codec;
    uint32_t place = *buffer && !codec->loading ? buffer_place(carry, *buffer) : 0;
    V(place);
    if (!codec->loading)
        return;
    *buffer = NULL;
    if (place > carry->buffer_count)
        codec_fail(codec);
    else if (place)
        *buffer = carry->buffers[place - 1];
}

void carry_body(struct carry *carry, struct body *body)
{
    struct codec *codec = &carry->codec;
    uint8_t *bytes = (uint8_t *)(uintptr_t)body->bytes;
    size_t len = body->buffer ? 0 : (size_t)body->len;
    carry_block(carry, &bytes, &len, 0);
    carry_buffer(carry, &body->buffer);
    V(body->offset);
    V(body->len);
    if (!codec->loading)
        return;
    body->bytes = bytes;
    if (body->buffer)
        buffer_ref(body->buffer);
    else if (body->len != len)
        codec_fail(codec);
}

static void buffer_code(struct carry *carry, struct buffer *buffer, bool *pooled)
{
    CARRY(carry);
    carry_fd(carry, &buffer->fd);
    V(buffer->size);
    V(buffer->id);
    V(buffer->busy);
    V(*pooled);
}

static void buffers_load(struct carry *carry, uint64_t count)
{
    struct buffer_pool *pool = peers_pool(carry->engine->peers);
    for (uint64_t i = 0; i < count && !carry->codec.failed; i++) {
        bool pooled = false;
        struct buffer *buffer = calloc(1, sizeof *buffer);
        if (!buffer || !buffer_place(carry, buffer)) {
            free(buffer);
            carry->no_memory = true;
            return;
        }
        buffer->fd = -1;
        codec_begin(&carry->codec);
        buffer_code(carry, buffer, &pooled);
        codec_end(&carry->codec);
        buffer->pool = pooled ? pool : NULL;
        void *map = NULL;
        if (pooled && !carry->dry)
            map = mmap(NULL, buffer->size, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, 0);
        if (map == MAP_FAILED)
            carry->no_memory = true;
        else
            buffer->map = map;
    }
}

void carry_buffers(struct carry *carry)
{
    struct codec *codec = &carry->codec;
    if (codec->loading) {
        buffers_load(carry, codec_get(codec));
        return;
    }
    codec_put(codec, carry->buffer_count);
    for (size_t i = 0; i < carry->buffer_count; i++) {
        bool pooled = carry->buffers[i]->pool;
        codec_begin(codec);
        buffer_code(carry, carry->buffers[i], &pooled);
        codec_end(codec);
    }
}

void carry_free(struct carry *carry)
{
    if (carry->stand_in > 0)
        close(carry->stand_in);
    free(carry->fds);
    free(carry->buffers);
    free(carry->leaves);
    free(carry->core);
    if (carry->versions)
        carry->versions_free(carry->versions);
}
