/*
 * event_readers.c: readers of events.  Owns them.
 *
 * What a reader has not read yet waits in its connection, limits.stream_bytes / 2 at most.  Above
 * that events pass it by, are counted, and it is told how many by an event in their place, as soon
 * as there is room: before the next one, or when what waited has left.  Nobody waits for a reader.
 */
#include "supervisor/event_readers.h"

#include "supervisor/carry.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { READERS_MAX = 64, LAST_LINES = 100, LOST_LINE = 256 };

struct event_reader {
    struct unix_client *client;
    uint64_t id;
    struct event_filter filter;
    uint64_t lost; /* not told of yet */
    bool follows;
    struct event_reader *next;
};

struct event_readers {
    const struct events *events;
    struct event_reader *list;
    unsigned count;
};

/* ---- lines ---- */

static bool tell_lost(struct event_reader *reader)
{
    struct timespec now;
    char json[LOST_LINE];
    clock_gettime(CLOCK_REALTIME, &now);
    const struct log_field lines = LOG_INT("lines", reader->lost);
    const struct log_entry entry = {.level = LEVEL_WARNING,
                                    .event = "events.lost",
                                    .message = "events lost: this reader was too slow for them",
                                    .wall_ns = (int64_t)now.tv_sec * HASUP_S + now.tv_nsec,
                                    .fields = &lines,
                                    .count = 1};
    if (reader->lost && unix_client_chunk(reader->client, reader->id, json,
                                          log_entry_json(&entry, json, sizeof json)))
        reader->lost = 0;
    return !reader->lost;
}

static void tell(struct event_reader *reader, const char *json, size_t len)
{
    if (!tell_lost(reader) || !unix_client_chunk(reader->client, reader->id, json, len))
        reader->lost++;
}

static void tell_kept(void *context, int64_t wall_ns, const char *json, size_t len)
{
    (void)wall_ns;
    tell(context, json, len);
}

void event_readers_tell(struct event_readers *readers, const char *json, size_t len)
{
    for (struct event_reader *reader = readers->list; reader; reader = reader->next)
        if (reader->follows && event_filter_passes(&reader->filter, json, len))
            tell(reader, json, len);
}

/* ---- who reads ---- */

static void reader_free(struct event_readers *readers, struct event_reader **at)
{
    struct event_reader *reader = *at;
    *at = reader->next;
    readers->count--;
    free(reader);
}

static struct event_reader *reader_new(struct event_readers *readers, struct unix_client *client)
{
    struct event_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    reader->client = client;
    reader->next = readers->list;
    readers->list = reader;
    readers->count++;
    return reader;
}

/* It wanted what was in memory, and has it, or was told what it has not. */
static void answer(struct event_readers *readers, struct event_reader *reader)
{
    struct event_reader **at = &readers->list;
    struct unix_client *client = reader->client;
    uint64_t id = reader->id;
    while (*at != reader)
        at = &(*at)->next;
    reader_free(readers, at);
    unix_client_reply(client, id, 200, "{\"ok\":true}");
}

static uint32_t read_filter(const json_t *in, struct event_filter *filter,
                            char error[CONFIG_ERROR_MAX])
{
    const char *target = json_string_value(json_object_get(in, "target"));
    const char *level = json_string_value(json_object_get(in, "level"));
    const json_t *name;
    size_t i;
    snprintf(filter->target, sizeof filter->target, "%s", target ? target : "");
    json_array_foreach(json_object_get(in, "events"), i, name)
    {
        if (json_is_string(name) && event_filter_add(filter, json_string_value(name)))
            continue;
        snprintf(error, CONFIG_ERROR_MAX,
                 "\"events\" are %d names at most, of %d bytes at most: slot.exited, or slot",
                 EVENT_NAMES, EVENT_NAME - 1);
        return 400;
    }
    int least = level ? event_filter_level(level) : 0;
    if (least < 0)
        snprintf(error, CONFIG_ERROR_MAX, "\"level\" is debug, info, warning or error");
    else
        filter->level = (uint32_t)least;
    return least < 0 ? 400 : 0;
}

uint32_t event_readers_add(struct event_readers *readers, struct unix_client *client, uint64_t id,
                           const json_t *in, char error[CONFIG_ERROR_MAX])
{
    const json_t *count = json_object_get(in, "count");
    struct event_filter filter = {0};
    uint32_t wrong = read_filter(in, &filter, error);
    if (wrong)
        return wrong;
    struct event_reader *reader = readers->count < READERS_MAX ? reader_new(readers, client) : NULL;
    if (!reader) {
        snprintf(error, CONFIG_ERROR_MAX, "%d commands already read events", READERS_MAX);
        return 429;
    }
    reader->id = id;
    reader->filter = filter;
    reader->follows = json_is_true(json_object_get(in, "follow"));
    events_each(readers->events,
                json_is_integer(count) ? (size_t)json_integer_value(count) : LAST_LINES, &filter,
                tell_kept, reader);
    if (!reader->follows && !reader->lost)
        answer(readers, reader);
    return 0;
}

void event_readers_drained(struct event_readers *readers, const struct unix_client *client)
{
    for (struct event_reader *reader = readers->list; reader;) {
        bool done = reader->client == client && tell_lost(reader) && !reader->follows;
        if (done)
            answer(readers, reader);
        /* a client that was cut off took its others along */
        reader = done ? readers->list : reader->next;
    }
}

void event_readers_cancel(struct event_readers *readers, const struct unix_client *client,
                          uint64_t id, bool everything)
{
    for (struct event_reader **at = &readers->list; *at;)
        if ((*at)->client == client && (everything || (*at)->id == id))
            reader_free(readers, at);
        else
            at = &(*at)->next;
}

/* ---- life ---- */

struct event_readers *event_readers_new(const struct events *events)
{
    struct event_readers *readers = calloc(1, sizeof *readers);
    if (readers)
        readers->events = events;
    return readers;
}

void event_readers_free(struct event_readers *readers)
{
    while (readers && readers->list)
        reader_free(readers, &readers->list);
    free(readers);
}

/* ---- to another hasupd ---- */

static void reader_carry(struct carry *carry, struct event_reader *reader)
{
    CARRY(carry);
    struct event_filter *filter = &reader->filter;
    V(reader->id);
    V(reader->follows);
    V(reader->lost);
    carry_text(carry, filter->target, sizeof filter->target);
    V(filter->level);
    E(filter->name_count, EVENT_NAMES);
    for (uint32_t i = 0; i < filter->name_count && !codec->failed; i++)
        carry_text(carry, filter->names[i], sizeof filter->names[i]);
}

int event_readers_resume(struct event_readers *readers, struct unix_client *client, uint64_t id,
                         const char *target)
{
    struct event_reader *reader = reader_new(readers, client);
    if (!reader)
        return HASUP_ENOMEM;
    reader->id = id;
    reader->follows = true;
    snprintf(reader->filter.target, sizeof reader->filter.target, "%s", target);
    return 0;
}

void event_readers_carry(struct carry *carry, struct event_readers *readers,
                         struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    struct event_reader *reader = readers->list;
    for (struct event_reader *r = reader; r && !codec->loading; r = r->next)
        count += r->client == client;
    E(count, READERS_MAX);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        while (!codec->loading && reader->client != client)
            reader = reader->next;
        if (codec->loading && !(reader = reader_new(readers, client))) {
            codec_fail(codec);
            return;
        }
        reader_carry(carry, reader);
        reader = reader->next;
    }
}
