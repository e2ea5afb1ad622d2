/*
 * events.c: a ring of JSON lines.  Owns its memory; loop thread only.
 */
#include "supervisor/events.h"

#include "supervisor/carry.h"

#include <stdlib.h>

enum { LINE_MAX_BYTES = 8192, HEAD = 12 };

/* Lines stand one after the other as u32 length, u64 time and bytes, wrapping at `room`. */
struct ring {
    uint8_t *bytes;
    size_t room, start, used, lines;
};

struct events {
    struct ring ring;
    void (*added)(void *context, int64_t wall_ns, const char *json, size_t len);
    void *context;
};

static void ring_get(const struct ring *ring, size_t at, void *out, size_t len)
{
    at %= ring->room;
    size_t first = len < ring->room - at ? len : ring->room - at;
    memcpy(out, ring->bytes + at, first);
    memcpy((uint8_t *)out + first, ring->bytes, len - first);
}

static void ring_put(struct ring *ring, size_t at, const void *in, size_t len)
{
    at %= ring->room;
    size_t first = len < ring->room - at ? len : ring->room - at;
    memcpy(ring->bytes + at, in, first);
    memcpy(ring->bytes, (const uint8_t *)in + first, len - first);
}

static size_t ring_line(const struct ring *ring, size_t at)
{
    uint8_t len[4];
    ring_get(ring, at, len, sizeof len);
    return hasup_get32(len);
}

static void ring_add(struct ring *ring, int64_t wall_ns, const char *line, size_t len)
{
    uint8_t head[HEAD];
    if (!ring->bytes && !(ring->bytes = malloc(ring->room)))
        return;
    while (ring->room - ring->used < sizeof head + len) {
        size_t gone = sizeof head + ring_line(ring, ring->start);
        ring->start = (ring->start + gone) % ring->room;
        ring->used -= gone;
        ring->lines--;
    }
    hasup_put32(head, (uint32_t)len);
    hasup_put64(head + 4, (uint64_t)wall_ns);
    ring_put(ring, ring->start + ring->used, head, sizeof head);
    ring_put(ring, ring->start + ring->used + sizeof head, line, len);
    ring->used += sizeof head + len;
    ring->lines++;
}

struct events *events_new(size_t bytes,
                          void (*added)(void *context, int64_t wall_ns, const char *json,
                                        size_t len),
                          void *context)
{
    struct events *events = calloc(1, sizeof *events);
    if (!events)
        return NULL;
    events->added = added;
    events->context = context;
    events->ring.room = bytes < LINE_MAX_BYTES * 2 ? LINE_MAX_BYTES * 2 : bytes;
    return events;
}

void events_free(struct events *events)
{
    if (!events)
        return;
    free(events->ring.bytes);
    free(events);
}

void events_tap(void *context, const struct log_entry *entry)
{
    struct events *events = context;
    char line[LINE_MAX_BYTES];
    if (strncmp(entry->event, "worker.", 7) == 0)
        return;
    size_t len = log_entry_json(entry, line, sizeof line);
    ring_add(&events->ring, entry->wall_ns, line, len);
    events->added(events->context, entry->wall_ns, line, len);
}

/* The line at *at; then *at is the next one's place. */
static size_t ring_read(const struct ring *ring, size_t *at, char line[LINE_MAX_BYTES],
                        int64_t *wall_ns)
{
    uint8_t time[8];
    size_t len = ring_line(ring, *at);
    ring_get(ring, *at + 4, time, sizeof time);
    ring_get(ring, *at + HEAD, line, len);
    *wall_ns = (int64_t)hasup_get64(time);
    *at = (*at + HEAD + len) % ring->room;
    return len;
}

/* How many lines pass. */
static size_t ring_count(const struct ring *ring, const struct event_filter *filter)
{
    char line[LINE_MAX_BYTES];
    int64_t wall_ns;
    size_t passing = 0;
    for (size_t i = 0, at = ring->start; i < ring->lines; i++) {
        size_t len = ring_read(ring, &at, line, &wall_ns);
        passing += !filter || event_filter_passes(filter, line, len);
    }
    return passing;
}

void events_each(const struct events *events, size_t count, const struct event_filter *filter,
                 void (*each)(void *context, int64_t wall_ns, const char *json, size_t len),
                 void *context)
{
    const struct ring *ring = &events->ring;
    char line[LINE_MAX_BYTES];
    int64_t wall_ns;
    size_t passing = ring_count(ring, filter), skip = passing > count ? passing - count : 0;
    for (size_t i = 0, at = ring->start; i < ring->lines; i++) {
        size_t len = ring_read(ring, &at, line, &wall_ns);
        if (filter && !event_filter_passes(filter, line, len))
            continue;
        if (skip)
            skip--;
        else
            each(context, wall_ns, line, len);
    }
}

void events_carry(struct carry *carry, struct events *events)
{
    CARRY(carry);
    struct ring *ring = &events->ring;
    size_t room = ring->room;
    V(room);
    V(ring->start);
    V(ring->used);
    V(ring->lines);
    if (room != ring->room || ring->used > room || ring->start >= room)
        codec_fail(codec);
    /* Until it wraps, what stands behind was never written. */
    size_t end = ring->start + ring->used, most = codec->failed ? 0 : end < room ? end : room;
    size_t len = ring->bytes ? most : 0;
    if (codec->loading) {
        free(ring->bytes);
        ring->bytes = NULL;
    }
    carry_block(carry, &ring->bytes, &len, room - most);
    if (codec->loading && len != most)
        codec_fail(codec);
}
