/*
 * buffer.c: the life of body buffers: references, announcements, the pool.  Owns the descriptors
 * and mappings.  Sends frames only through peer_gone and peer_release (peer_buffers.c).  A buffer
 * that cannot be mapped is the announcer's fault and ends that peer, never hasupd: the seals forbid
 * shrinking, so no SIGBUS.
 */
#include "ipc/frame.h"
#include "ipc/shared.h"
#include "supervisor/buffer_peer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void buffer_destroy(struct buffer *buffer)
{
    while (buffer->told)
        peer_gone(buffer->told);
    if (buffer->map)
        munmap(buffer->map, buffer->size);
    close(buffer->fd);
    free(buffer);
}

void buffer_ref(struct buffer *buffer)
{
    buffer->refs++;
}

static void pool_give(struct buffer_pool *pool, struct buffer *buffer)
{
    if (pool->free_bytes + buffer->size > pool->free_max) {
        buffer_destroy(buffer);
        return;
    }
    pool->free_bytes += buffer->size;
    buffer->next = pool->free;
    pool->free = buffer;
}

void buffer_unref(struct buffer *buffer)
{
    if (--buffer->refs)
        return;
    if (buffer->pool)
        pool_give(buffer->pool, buffer);
    else if (!buffer->owner)
        buffer_destroy(buffer);
    else if (buffer->busy)
        peer_release(buffer);
}

void buffer_withdraw(struct buffer *buffer)
{
    buffer->owner = NULL;
    if (!buffer->refs)
        buffer_destroy(buffer);
}

const uint8_t *body_bytes(struct body *body)
{
    if (body->bytes || !body->buffer)
        return body->bytes;
    struct buffer *buffer = body->buffer;
    if (!buffer->map) {
        void *map = mmap(NULL, buffer->size, PROT_READ, MAP_SHARED, buffer->fd, 0);
        if (map == MAP_FAILED)
            return NULL;
        buffer->map = map;
    }
    body->bytes = buffer->map + body->offset;
    return body->bytes;
}

int buffer_open(int fd, uint64_t size, struct buffer **buffer)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW };
    struct stat st;
    struct buffer *made = NULL;
    if (!size || fstat(fd, &st) || (uint64_t)st.st_size < size ||
        (fcntl(fd, F_GET_SEALS) & SEALS) != SEALS || !(made = calloc(1, sizeof *made))) {
        close(fd);
        return HASUP_EPROTO;
    }
    *made = (struct buffer){.fd = fd, .size = size};
    *buffer = made;
    return 0;
}

static struct buffer *pool_make(struct buffer_pool *pool, uint64_t size)
{
    struct buffer *buffer = calloc(1, sizeof *buffer);
    if (!buffer)
        return NULL;
    *buffer = (struct buffer){.size = size, .pool = pool, .refs = 1};
    buffer->fd = hasup_shared_make("hasup-body", size, &buffer->map);
    if (buffer->fd < 0) {
        free(buffer);
        return NULL;
    }
    return buffer;
}

struct buffer *buffer_pool_take(struct buffer_pool *pool, uint64_t len)
{
    uint64_t size = hasup_shared_size(len);
    for (struct buffer **at = &pool->free; *at; at = &(*at)->next)
        if ((*at)->size == size) {
            struct buffer *buffer = *at;
            *at = buffer->next;
            pool->free_bytes -= size;
            buffer->refs = 1;
            return buffer;
        }
    return pool_make(pool, size);
}

void buffer_pool_fini(struct buffer_pool *pool)
{
    while (pool->free) {
        struct buffer *buffer = pool->free;
        pool->free = buffer->next;
        buffer_destroy(buffer);
    }
}
