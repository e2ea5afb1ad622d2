/*
 * memory.c: bodies above the inline limit: memfds received from hasupd, mapped once and kept, and
 * the worker's own, which are used again once released, because a fresh memfd costs more than the
 * copy.
 */
#include "ipc/shared.h"
#include "worker/runtime.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

uint8_t *hasup_bytes_room(struct hasup_bytes *bytes, size_t len)
{
    if (bytes->room - bytes->len < len) {
        size_t room = bytes->room ? bytes->room : 256;
        while (room - bytes->len < len)
            room *= 2;
        uint8_t *more = realloc(bytes->at, room);
        if (!more)
            return NULL;
        bytes->at = more;
        bytes->room = room;
    }
    uint8_t *at = bytes->at + bytes->len;
    bytes->len += len;
    return at;
}

static void memory_free(struct hasup_memory *memory)
{
    munmap(memory->map, memory->size);
    close(memory->fd);
    free(memory);
}

static void free_gone(struct hasup_runtime *runtime)
{
    if (runtime->gone)
        memory_free(runtime->gone);
    runtime->gone = NULL;
}

void hasup_memory_free_all(struct hasup_runtime *runtime)
{
    struct hasup_memory *lists[] = {runtime->theirs, runtime->ours};
    for (size_t i = 0; i < HASUP_LEN(lists); i++)
        for (struct hasup_memory *m = lists[i], *next; m; m = next) {
            next = m->next;
            memory_free(m);
        }
    free_gone(runtime);
}

struct hasup_memory *hasup_memory_theirs(struct hasup_runtime *runtime, uint32_t id)
{
    struct hasup_memory *memory = runtime->theirs;
    while (memory && memory->id != id)
        memory = memory->next;
    return memory;
}

static int take_announcement(struct hasup_runtime *runtime, struct hasup_frame *frame, uint32_t id,
                             uint64_t size)
{
    struct hasup_memory *memory = malloc(sizeof *memory);
    if (!memory)
        return HASUP_ENOMEM;
    *memory =
        (struct hasup_memory){.id = id, .fd = frame->fd, .size = size, .next = runtime->theirs};
    int error = hasup_shared_map(frame->fd, size, &memory->map);
    if (error) {
        free(memory);
        return error;
    }
    frame->fd = -1;
    runtime->theirs = memory;
    return 0;
}

static void memory_withdraw(struct hasup_runtime *runtime, uint32_t id)
{
    struct hasup_memory **at = &runtime->theirs, *gone;
    while ((gone = *at) && gone->id != id)
        at = &gone->next;
    if (!gone)
        return;
    *at = gone->next;
    gone->withdrawn = true;
    if (gone->refs)
        return;
    free_gone(runtime);
    runtime->gone = gone;
}

void hasup_memory_unref(struct hasup_memory *memory)
{
    if (--memory->refs == 0 && memory->withdrawn)
        memory_free(memory);
}

int hasup_memory_frame(struct hasup_runtime *runtime, struct hasup_frame *frame)
{
    struct hasup_buffer_place place;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    if (frame->type == HASUP_BUFFER)
        return take_announcement(runtime, frame, place.id, place.size);
    if (frame->type == HASUP_RELEASE) {
        for (struct hasup_memory *m = runtime->ours; m; m = m->next)
            if (m->id == place.id)
                m->busy = false;
        return 0;
    }
    memory_withdraw(runtime, place.id);
    return 0;
}

int hasup_memory_body(struct hasup_runtime *runtime, const struct hasup_frame *frame,
                      struct hasup_memory **memory, const uint8_t **body)
{
    struct hasup_buffer_place place;
    int error = hasup_buffer_read(frame, &place);
    if (error)
        return error;
    *memory = hasup_memory_theirs(runtime, place.id);
    if (!*memory || !hasup_buffer_holds(&place, (*memory)->size, frame))
        return HASUP_EPROTO;
    *body = (*memory)->map + place.offset;
    return 0;
}

static struct hasup_memory *memory_make(struct hasup_runtime *runtime, size_t len)
{
    struct hasup_memory *memory = malloc(sizeof *memory);
    if (!memory)
        return NULL;
    *memory = (struct hasup_memory){.size = hasup_shared_size(len)};
    memory->fd = hasup_shared_make("hasup-answer", memory->size, &memory->map);
    if (memory->fd < 0) {
        free(memory);
        return NULL;
    }
    memory->id = ++runtime->next_memory;
    return memory;
}

static int announce(struct hasup_runtime *runtime, const struct hasup_memory *memory)
{
    uint8_t meta[HASUP_BUFFER_META];
    struct hasup_frame frame = hasup_buffer_frame(meta, memory->id, memory->fd, memory->size);
    return hasup_send_frame(runtime, &frame);
}

static int withdraw(struct hasup_runtime *runtime, struct hasup_memory **at)
{
    struct hasup_memory *memory = *at;
    uint8_t meta[12];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, memory->id);
    *at = memory->next;
    memory_free(memory);
    return hasup_send_frame(runtime, &(struct hasup_frame){.type = HASUP_BUFFER_GONE,
                                                           .meta = meta,
                                                           .meta_len = (uint32_t)w.used,
                                                           .fd = -1});
}

static int memory_new(struct hasup_runtime *runtime, size_t len, struct hasup_memory **made)
{
    struct hasup_memory *memory = memory_make(runtime, len);
    int error = memory ? announce(runtime, memory) : HASUP_ENOMEM;
    if (error && memory)
        memory_free(memory);
    if (error)
        return error;
    memory->next = runtime->ours;
    runtime->ours = *made = memory;
    return 0;
}

/* Memory of the worker's own that hasupd knows of and does not read now.  Where as many are
 * announced as may be, one that is too short goes, or one is waited for. */
static int memory_take(struct hasup_runtime *runtime, size_t len, struct hasup_memory **taken)
{
    for (;;) {
        struct hasup_memory **idle = NULL;
        unsigned count = 1; /* for a state, which goes as soon as it came */
        for (struct hasup_memory **at = &runtime->ours; *at; at = &(*at)->next) {
            if (!(*at)->busy && (*at)->size >= len) {
                *taken = *at;
                return 0;
            }
            idle = (*at)->busy ? idle : at;
            count++;
        }
        if (count < HASUP_BUFFERS_MAX)
            return memory_new(runtime, len, taken);
        if (!idle && !runtime->worker)
            return HASUP_EFULL; /* an adapter, which reads by itself and tries again */
        int error = idle ? withdraw(runtime, idle) : hasup_await_release(runtime);
        if (error)
            return error;
    }
}

bool hasup_memory_is_spare(const struct hasup_runtime *runtime)
{
    unsigned idle = 0;
    for (const struct hasup_memory *m = runtime->ours; m; m = m->next)
        idle += !m->busy;
    return runtime->gone || idle > 1;
}

int hasup_memory_rest(struct hasup_runtime *runtime)
{
    int error = 0;
    bool kept = false; /* one: a fresh one costs more than a copy */
    free_gone(runtime);
    for (struct hasup_memory **at = &runtime->ours; *at && !error;) {
        if ((*at)->busy || !kept) {
            kept |= !(*at)->busy;
            at = &(*at)->next;
        } else {
            error = withdraw(runtime, at);
        }
    }
    return error ? error : hasup_flush(runtime);
}

int hasup_memory_release(struct hasup_runtime *runtime, uint32_t id)
{
    uint8_t meta[12];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    const struct hasup_frame frame = {
        .type = HASUP_RELEASE, .meta = meta, .meta_len = (uint32_t)w.used, .fd = -1};
    return hasup_channel_send(&runtime->channel, &frame);
}

int hasup_send_frame(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    int error = hasup_channel_send(&runtime->channel, frame);
    if (error != HASUP_EFULL)
        return error;
    error = hasup_flush(runtime);
    return error ? error : hasup_channel_send(&runtime->channel, frame);
}

int hasup_send(struct hasup_runtime *runtime, struct hasup_frame *frame, struct hasup_bytes *meta,
               const uint8_t *body, size_t len)
{
    frame->fd = -1;
    frame->body = body;
    frame->body_len = len;
    if (len > runtime->inline_max) {
        struct hasup_memory *memory = NULL;
        int error = memory_take(runtime, len, &memory);
        uint8_t *room = error ? NULL : hasup_bytes_room(meta, 12);
        if (!room)
            return error ? error : HASUP_ENOMEM;
        struct hasup_meta_writer w;
        hasup_meta_start(&w, room, 12);
        hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, memory->id);
        memcpy(memory->map, body, len);
        memory->busy = true;
        frame->flags |= HASUP_FLAG_BUFFER;
        frame->body = NULL;
    }
    frame->meta = meta ? meta->at : NULL;
    frame->meta_len = meta ? (uint32_t)meta->len : 0;
    return hasup_send_frame(runtime, frame);
}
