/*
 * readers.c: readers of what workers print.  Owns them and one timer.
 *
 * A reader has a place in the lines that are kept (printed.c) and, in its socket, log.reader bytes
 * at most that it has not read yet.  One that is slow stays behind, at the cost of nobody; lines
 * that go before it came to them it has lost, and it is told how many.  Lines are sent when a turn
 * ends, never while a worker's answer is in hand; the timer runs only while somebody is behind.
 */
#include "supervisor/readers.h"

#include "supervisor/carry.h"
#include "supervisor/logfiles.h"
#include "supervisor/printed.h"

#include <stdio.h>
#include <stdlib.h>

enum { READERS_MAX = 64, LAST_LINES = 100, JSON_MORE = 1024 };

static const hasup_ns BEHIND_WAIT = 20 * HASUP_MS;

struct log_reader {
    struct printed_reader place;
    struct unix_client *client;
    uint64_t id;
    bool follows, done;
    uint64_t reopen; /* it is none: it waits for this order to reopen the files; else 0 */
    struct log_reader *next;
};

struct readers {
    struct engine *engine;
    struct log_reader *list;
    unsigned count;
    bool news, behind;
    struct timer again;
};

/* ---- lines to clients ---- */

static bool send_entry(struct readers *readers, struct log_reader *reader,
                       const struct log_entry *entry)
{
    const size_t room = (size_t)readers->engine->config->log.line_max * 8 + JSON_MORE;
    char *json = malloc(room);
    bool sent = json && unix_client_chunk(reader->client, reader->id, json,
                                          log_entry_json(entry, json, room));
    free(json);
    return sent;
}

static void send_lost(struct readers *readers, struct log_reader *reader, int64_t wall_ns)
{
    const struct log_field field = LOG_INT("lines", reader->place.lost);
    const struct log_entry entry = {.level = LEVEL_WARNING,
                                    .event = "logs.lost",
                                    .message = "lines lost: they went before this reader took them",
                                    .wall_ns = wall_ns,
                                    .fields = &field,
                                    .count = 1};
    if (send_entry(readers, reader, &entry))
        reader->place.lost = 0;
}

/* As much as it takes; true: there is more. */
static bool pump(struct readers *readers, struct log_reader *reader)
{
    struct log_field fields[PRINTED_FIELDS];
    struct printed_line line;
    while (unix_client_unsent(reader->client) < readers->engine->config->log.reader) {
        bool there = printed_next(&reader->place, &line);
        if (reader->place.lost)
            send_lost(readers, reader, there ? line.wall_ns : 0);
        if (!there) {
            reader->done = !reader->follows;
            return false;
        }
        const struct log_entry entry = printed_entry(&line, fields);
        if (!send_entry(readers, reader, &entry))
            reader->place.lost++;
    }
    return true;
}

static void reader_free(struct readers *readers, struct log_reader **at)
{
    struct log_reader *reader = *at;
    *at = reader->next;
    readers->count--;
    printed_close(&reader->place);
    free(reader);
}

static void turn_end(void *context)
{
    struct readers *readers = context;
    struct loop *loop = readers->engine->loop;
    if (!readers->news)
        return;
    readers->news = false;
    bool behind = false;
    const uint64_t reopened = logfiles_reopened(readers->engine->printed.files);
    for (struct log_reader *reader = readers->list; reader; reader = reader->next)
        if (reader->reopen)
            reader->done = reopened >= reader->reopen;
        else
            behind |= pump(readers, reader);
    for (struct log_reader **at = &readers->list; *at;) {
        struct unix_client *client = (*at)->client;
        uint64_t id = (*at)->id;
        if (!(*at)->done) {
            at = &(*at)->next;
            continue;
        }
        reader_free(readers, at);
        unix_client_reply(client, id, 200, "{\"ok\":true}");
        at = &readers->list; /* a client that was cut off took its others along */
    }
    if (behind)
        (void)!timer_set(&readers->again, loop, loop_now(loop) + BEHIND_WAIT);
    loop_again(loop); /* what was said leaves at the end of the next turn */
}

static void news(void *context)
{
    struct readers *readers = context;
    readers->news = readers->list != NULL;
}

static void again(void *context)
{
    struct readers *readers = context;
    timer_stop(&readers->again);
    news(readers);
}

/* ---- who reads ---- */

static bool is_slot(const struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && strcmp(engine->slots[i]->name, name) == 0)
            return true;
    return false;
}

static bool known_target(const struct readers *readers, const char *target,
                         char error[CONFIG_ERROR_MAX])
{
    const struct engine *engine = readers->engine;
    size_t len = strcspn(target, "/");
    char text[ENGINE_REASON];
    const int model = engine_named(engine, target, len);
    if (!target[0] || (model >= 0 && !target[len]) || is_slot(engine, target) ||
        printed_knows(engine->printed.lines, target))
        return true;
    if (model >= 0)
        engine_no_slot(engine, (uint32_t)model, target, text);
    else
        engine_no_model(engine, target, len, text);
    snprintf(error, CONFIG_ERROR_MAX, "%s", text);
    return false;
}

static uint32_t read_target(const struct readers *readers, const json_t *target,
                            char out[PRINTED_SLOT], char error[CONFIG_ERROR_MAX])
{
    const char *text = json_string_value(target);
    if (!text || strlen(text) >= PRINTED_SLOT) {
        snprintf(error, CONFIG_ERROR_MAX, "a target is a text of %d bytes at most",
                 PRINTED_SLOT - 1);
        return 400;
    }
    snprintf(out, PRINTED_SLOT, "%s", text);
    return known_target(readers, out, error) ? 0 : 404;
}

/* One in `target`, or a list of them. */
static uint32_t read_targets(const struct readers *readers, const json_t *in,
                             struct printed_filter *filter, char error[CONFIG_ERROR_MAX])
{
    const json_t *targets = json_object_get(in, "target"), *target;
    size_t i;
    uint32_t wrong = 0;
    if (json_is_string(targets))
        return read_target(readers, targets, filter->targets[0], error);
    if (json_array_size(targets) > PRINTED_TARGETS) {
        snprintf(error, CONFIG_ERROR_MAX, "%d models and slots at most", PRINTED_TARGETS);
        return 400;
    }
    json_array_foreach(targets, i, target)
        if (!wrong)
            wrong = read_target(readers, target, filter->targets[i], error);
    return wrong;
}

static uint32_t read_filter(const struct readers *readers, const json_t *in,
                            struct printed_filter *filter, char error[CONFIG_ERROR_MAX])
{
    const char *grep = json_string_value(json_object_get(in, "grep"));
    const char *request = json_string_value(json_object_get(in, "request"));
    if ((grep && strlen(grep) >= sizeof filter->grep) ||
        (request && strlen(request) >= sizeof filter->request)) {
        snprintf(error, CONFIG_ERROR_MAX, "grep has %d bytes at most, request %d",
                 PRINTED_GREP - 1, PRINTED_REQUEST - 1);
        return 400;
    }
    snprintf(filter->grep, sizeof filter->grep, "%s", grep ? grep : "");
    snprintf(filter->request, sizeof filter->request, "%s", request ? request : "");
    filter->since_wall_ns =
        json_integer_value(json_object_get(in, "since_wall_ms")) * (int64_t)HASUP_MS;
    int64_t until = json_integer_value(json_object_get(in, "until_wall_ms"));
    filter->until_wall_ns = until ? (until + 1) * (int64_t)HASUP_MS - 1 : 0; /* as it is shown */
    size_t i;
    const json_t *stream;
    json_array_foreach(json_object_get(in, "streams"), i, stream)
        for (unsigned s = CAPTURE_STDOUT; json_is_string(stream) && s <= CAPTURE_DROPPED; s++)
            if (strcmp(json_string_value(stream), printed_stream(s)) == 0)
                filter->streams |= 1u << s;
    if (json_array_size(json_object_get(in, "streams")) && !filter->streams) {
        snprintf(error, CONFIG_ERROR_MAX, "streams are stdout, stderr, status and dropped");
        return 400;
    }
    return read_targets(readers, in, filter, error);
}

static struct log_reader *reader_new(struct readers *readers, struct unix_client *client,
                                     uint64_t id, char error[CONFIG_ERROR_MAX])
{
    struct log_reader *reader = readers->count < READERS_MAX ? calloc(1, sizeof *reader) : NULL;
    if (!reader) {
        snprintf(error, CONFIG_ERROR_MAX, "%d commands already read logs", READERS_MAX);
        return NULL;
    }
    reader->client = client;
    reader->id = id;
    reader->next = readers->list;
    readers->list = reader;
    readers->count++;
    readers->news = true;
    return reader;
}

/* Who follows may wait for its first line. */
static uint32_t check_request(const struct readers *readers, const struct printed_filter *filter,
                              bool follows, char error[CONFIG_ERROR_MAX])
{
    char near[PRINTED_REQUEST];
    if (follows || !filter->request[0] ||
        printed_is_about(readers->engine->printed.lines, filter, near))
        return 0;
    if (near[0])
        snprintf(error, CONFIG_ERROR_MAX, "no line is about a request \"%s\"; did you mean \"%s\"?",
                 filter->request, near);
    else
        snprintf(error, CONFIG_ERROR_MAX,
                 "no line that is kept is about a request \"%s\"; hasupctl logs shows whose a line "
                 "is in [brackets]",
                 filter->request);
    return 404;
}

uint32_t readers_add(struct readers *readers, struct unix_client *client, uint64_t id,
                     const json_t *in, char error[CONFIG_ERROR_MAX])
{
    const json_t *count = json_object_get(in, "count");
    const bool follows = json_is_true(json_object_get(in, "follow"));
    struct printed_filter filter = {0};
    uint32_t wrong = read_filter(readers, in, &filter, error);
    if (!wrong)
        wrong = check_request(readers, &filter, follows, error);
    if (wrong)
        return wrong;
    struct log_reader *reader = reader_new(readers, client, id, error);
    if (!reader)
        return 429;
    reader->follows = follows;
    reader->place.filter = filter;
    printed_open(readers->engine->printed.lines, &reader->place,
                 json_is_integer(count) ? (size_t)json_integer_value(count) : LAST_LINES);
    return 0;
}

uint32_t readers_reopen(struct readers *readers, struct unix_client *client, uint64_t id,
                        char error[CONFIG_ERROR_MAX])
{
    struct log_reader *reader = reader_new(readers, client, id, error);
    if (!reader)
        return 429;
    reader->reopen = logfiles_reopen(readers->engine->printed.files);
    return 0;
}

void readers_cancel(struct readers *readers, const struct unix_client *client, uint64_t id,
                    bool everything)
{
    for (struct log_reader **at = &readers->list; *at;)
        if ((*at)->client == client && (everything || (*at)->id == id))
            reader_free(readers, at);
        else
            at = &(*at)->next;
}

/* ---- life ---- */

struct readers *readers_new(struct engine *engine)
{
    struct readers *readers = calloc(1, sizeof *readers);
    if (!readers)
        return NULL;
    readers->engine = engine;
    readers->again = (struct timer){.due = again, .context = readers};
    if (loop_at_turn_end(engine->loop, turn_end, readers)) {
        free(readers);
        return NULL;
    }
    engine->printed.added = engine->printed.reopened = news;
    engine->printed.context = readers;
    return readers;
}

void readers_free(struct readers *readers)
{
    if (!readers)
        return;
    while (readers->list)
        reader_free(readers, &readers->list);
    timer_stop(&readers->again);
    readers->engine->printed.added = readers->engine->printed.reopened = NULL;
    free(readers);
}

/* ---- to another hasupd ---- */

bool readers_wait(const struct readers *readers)
{
    const struct log_reader *reader = readers->list;
    while (reader && !reader->reopen)
        reader = reader->next;
    return reader;
}

static void reader_carry(struct carry *carry, struct log_reader *reader, size_t *left)
{
    CARRY(carry);
    struct printed_filter *filter = &reader->place.filter;
    V(reader->id);
    V(reader->follows);
    V(reader->done);
    carry_text(carry, filter->targets[0], sizeof filter->targets[0]);
    carry_text(carry, filter->grep, sizeof filter->grep);
    V(filter->streams);
    V(filter->since_wall_ns);
    V(filter->pid);
    V(reader->place.lost);
    V(*left);
    carry_text(carry, filter->request, sizeof filter->request);
    V(filter->until_wall_ns);
    for (int i = 1; i < PRINTED_TARGETS; i++)
        carry_text(carry, filter->targets[i], sizeof filter->targets[i]);
}

static void reader_load(struct carry *carry, struct readers *readers, struct unix_client *client)
{
    struct log_reader *reader = calloc(1, sizeof *reader);
    size_t left = 0;
    if (!reader) {
        codec_fail(&carry->codec);
        return;
    }
    reader_carry(carry, reader, &left);
    uint64_t lost = reader->place.lost;
    reader->client = client;
    reader->next = readers->list;
    readers->list = reader;
    readers->count++;
    readers->news = true;
    printed_open(readers->engine->printed.lines, &reader->place, left);
    reader->place.lost = lost;
}

void readers_carry(struct carry *carry, struct readers *readers, struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    for (struct log_reader *r = readers->list; r && !codec->loading; r = r->next)
        count += r->client == client;
    E(count, READERS_MAX);
    for (uint32_t i = 0; codec->loading && i < count && !codec->failed; i++)
        reader_load(carry, readers, client);
    for (struct log_reader *r = readers->list; r && !codec->loading; r = r->next) {
        size_t left = printed_left(&r->place);
        if (r->client == client)
            reader_carry(carry, r, &left);
    }
}
