/*
 * printed.c: lines in a list by age, and each in its slot's list.  Owns their memory; knows no
 * clock, and nobody who reads but by his reader.
 */
#include "supervisor/printed.h"

#include "supervisor/carry.h"

#include <stdio.h>
#include <stdlib.h>

struct kept {
    struct kept *newer, *older; /* of all */
    struct kept *slot_newer; /* of its slot */
    struct talker *slot;
    uint64_t number; /* they count up */
    int64_t wall_ns;
    int pid;
    enum capture_stream stream;
    bool more, partial;
    uint32_t len, request_len;
    char text[]; /* the line and the request, each with its NUL */
};

struct talker {
    char name[PRINTED_SLOT];
    size_t bytes;
    struct kept *oldest, *newest;
    struct talker *next;
};

struct printed {
    size_t limit, bytes;
    uint64_t count;
    struct kept *oldest, *newest;
    struct talker *slots;
    struct printed_reader *readers;
};

static size_t cost(const struct kept *line)
{
    return sizeof *line + line->len + line->request_len + 2;
}

/* ---- what is wanted ---- */

static const char *request_of(const struct kept *line)
{
    return line->text + line->len + 1;
}

static bool is_of(const char *slot, const char *target)
{
    size_t len = strlen(target);
    return strncmp(slot, target, len) == 0 &&
           (!slot[len] || (slot[len] == '/' && !memchr(target, '/', len)));
}

static bool is_of_any(const char *slot, const char (*targets)[PRINTED_SLOT])
{
    for (int i = 0; i < PRINTED_TARGETS && targets[i][0]; i++)
        if (is_of(slot, targets[i]))
            return true;
    return !targets[0][0];
}

static bool is_wanted(const struct printed_filter *filter, const struct kept *line)
{
    return is_of_any(line->slot->name, filter->targets) &&
           (!filter->streams || filter->streams & 1u << line->stream) &&
           line->wall_ns >= filter->since_wall_ns &&
           (!filter->until_wall_ns || line->wall_ns <= filter->until_wall_ns) &&
           (!filter->pid || filter->pid == line->pid) &&
           (!filter->request[0] || strcmp(filter->request, request_of(line)) == 0) &&
           (!filter->grep[0] || memmem(line->text, line->len, filter->grep, strlen(filter->grep)));
}

bool printed_knows(const struct printed *printed, const char *target)
{
    for (const struct talker *slot = printed->slots; slot; slot = slot->next)
        if (is_of(slot->name, target))
            return true;
    return false;
}

bool printed_is_about(const struct printed *printed, const struct printed_filter *filter,
                      char near[PRINTED_REQUEST])
{
    near[0] = '\0';
    for (const struct kept *line = printed->oldest; line; line = line->newer) {
        const char *request = request_of(line);
        if (!is_of_any(line->slot->name, filter->targets) || !*request)
            continue;
        if (strcmp(request, filter->request) == 0)
            return true;
        if (strstr(request, filter->request) || strstr(filter->request, request))
            snprintf(near, PRINTED_REQUEST, "%s", request);
    }
    return false;
}

/* ---- the lines ---- */

static struct talker *talker_of(struct printed *printed, const char *name)
{
    struct talker *slot = printed->slots;
    while (slot && strcmp(slot->name, name) != 0)
        slot = slot->next;
    if (slot || !(slot = calloc(1, sizeof *slot)))
        return slot;
    snprintf(slot->name, sizeof slot->name, "%s", name);
    slot->next = printed->slots;
    printed->slots = slot;
    return slot;
}

static void talker_free(struct printed *printed, struct talker *slot)
{
    struct talker **at = &printed->slots;
    while (*at != slot)
        at = &(*at)->next;
    *at = slot->next;
    free(slot);
}

static void unlink_line(struct printed *printed, struct kept *line)
{
    *(line->older ? &line->older->newer : &printed->oldest) = line->newer;
    *(line->newer ? &line->newer->older : &printed->newest) = line->older;
}

/* The oldest line of a slot goes. */
static void forget(struct printed *printed, struct talker *slot)
{
    struct kept *line = slot->oldest;
    for (struct printed_reader *reader = printed->readers; reader; reader = reader->next) {
        if (!reader->at || reader->at->number > line->number)
            continue; /* it has had it */
        reader->lost += is_wanted(&reader->filter, line);
        if (reader->at == line)
            reader->at = line->newer;
    }
    unlink_line(printed, line);
    slot->oldest = line->slot_newer;
    slot->bytes -= cost(line);
    printed->bytes -= cost(line);
    free(line);
    if (!slot->oldest)
        talker_free(printed, slot);
}

static void shrink(struct printed *printed, size_t limit)
{
    while (printed->bytes > limit) {
        struct talker *most = printed->slots;
        for (struct talker *slot = printed->slots; slot; slot = slot->next)
            if (slot->bytes > most->bytes)
                most = slot;
        forget(printed, most);
    }
}

void printed_limit(struct printed *printed, size_t bytes)
{
    printed->limit = bytes;
    shrink(printed, bytes);
}

void printed_add(struct printed *printed, const struct printed_line *from)
{
    size_t request_len = strlen(from->request);
    struct kept *line = malloc(sizeof *line + from->said.len + request_len + 2);
    struct talker *slot = line ? talker_of(printed, from->slot) : NULL;
    if (!slot) {
        free(line);
        return;
    }
    *line = (struct kept){.slot = slot,
                          .number = printed->count++,
                          .older = printed->newest,
                          .wall_ns = from->wall_ns,
                          .pid = from->pid,
                          .stream = from->said.stream,
                          .more = from->said.more,
                          .partial = from->said.partial,
                          .len = (uint32_t)from->said.len,
                          .request_len = (uint32_t)request_len};
    memcpy(line->text, from->said.text, from->said.len);
    line->text[from->said.len] = '\0';
    memcpy(line->text + from->said.len + 1, from->request, request_len + 1);
    *(printed->newest ? &printed->newest->newer : &printed->oldest) = line;
    *(slot->oldest ? &slot->newest->slot_newer : &slot->oldest) = line;
    printed->newest = slot->newest = line;
    slot->bytes += cost(line);
    printed->bytes += cost(line);
    for (struct printed_reader *reader = printed->readers; reader; reader = reader->next)
        if (!reader->at)
            reader->at = line;
    shrink(printed, printed->limit);
}

/* ---- readers ---- */

void printed_open(struct printed *printed, struct printed_reader *reader, size_t tail)
{
    size_t wanted = 0;
    for (struct kept *line = printed->oldest; line; line = line->newer)
        wanted += is_wanted(&reader->filter, line);
    reader->at = printed->oldest;
    while (reader->at && wanted > tail) {
        wanted -= is_wanted(&reader->filter, reader->at);
        reader->at = reader->at->newer;
    }
    reader->lost = 0;
    reader->next = printed->readers;
    reader->back = &printed->readers;
    if (reader->next)
        reader->next->back = &reader->next;
    printed->readers = reader;
}

bool printed_next(struct printed_reader *reader, struct printed_line *out)
{
    const struct kept *line = reader->at;
    while (line && !is_wanted(&reader->filter, line))
        line = line->newer;
    reader->at = line ? line->newer : NULL;
    if (!line)
        return false;
    *out = (struct printed_line){.wall_ns = line->wall_ns,
                                 .slot = line->slot->name,
                                 .pid = line->pid,
                                 .said = {.stream = line->stream,
                                          .text = line->text,
                                          .len = line->len,
                                          .more = line->more,
                                          .partial = line->partial}};
    memcpy(out->request, request_of(line), line->request_len + 1);
    return true;
}

void printed_close(struct printed_reader *reader)
{
    if (!reader->back)
        return;
    *reader->back = reader->next;
    if (reader->next)
        reader->next->back = reader->back;
    reader->back = NULL;
}

/* ---- as a log entry ---- */

static const struct {
    const char *event, *stream;
} PRINTED_NAMES[] = {[CAPTURE_STDOUT] = {"worker.stdout", "stdout"},
             [CAPTURE_STDERR] = {"worker.stderr", "stderr"},
             [CAPTURE_STATUS] = {"worker.status", "status"},
             [CAPTURE_DROPPED] = {"worker.dropped", "dropped"}};

const char *printed_stream(enum capture_stream stream)
{
    return PRINTED_NAMES[stream].stream;
}

struct log_entry printed_entry(const struct printed_line *line,
                               struct log_field fields[PRINTED_FIELDS])
{
    const struct log_field all[PRINTED_FIELDS] = {
        LOG_TEXT("slot", line->slot),
        LOG_INT("pid", line->pid),
        LOG_TEXT(line->request[0] ? "request" : NULL, line->request),
        LOG_TRUE(line->said.more ? "more" : NULL),
        LOG_TRUE(line->said.partial ? "partial" : NULL)};
    memcpy(fields, all, sizeof all);
    return (struct log_entry){.level =
                                  line->said.stream == CAPTURE_DROPPED ? LEVEL_WARNING : LEVEL_INFO,
                              .event = PRINTED_NAMES[line->said.stream].event,
                              .message = line->said.text,
                              .wall_ns = line->wall_ns,
                              .fields = fields,
                              .count = PRINTED_FIELDS};
}

/* ---- life ---- */

struct printed *printed_new(size_t bytes)
{
    struct printed *printed = calloc(1, sizeof *printed);
    if (printed)
        printed->limit = bytes;
    return printed;
}

void printed_free(struct printed *printed)
{
    if (!printed)
        return;
    shrink(printed, 0);
    free(printed);
}

/* ---- to another hasupd ---- */

size_t printed_left(const struct printed_reader *reader)
{
    size_t left = 0;
    for (const struct kept *line = reader->at; line; line = line->newer)
        left += is_wanted(&reader->filter, line);
    return left;
}

static void line_carry(struct carry *carry, struct printed *printed, const struct kept *line)
{
    CARRY(carry);
    struct printed_line out = {0};
    char slot[PRINTED_SLOT] = "";
    const uint8_t *text = NULL;
    size_t len = 0;
    if (line) {
        out = (struct printed_line){.wall_ns = line->wall_ns,
                                    .pid = line->pid,
                                    .said = {.stream = line->stream,
                                             .more = line->more,
                                             .partial = line->partial}};
        snprintf(slot, sizeof slot, "%s", line->slot->name);
        snprintf(out.request, sizeof out.request, "%s", line->text + line->len + 1);
        text = (const uint8_t *)line->text;
        len = line->len;
    }
    carry_text(carry, slot, sizeof slot);
    V(out.wall_ns);
    V(out.pid);
    carry_text(carry, out.request, sizeof out.request);
    E(out.said.stream, CAPTURE_DROPPED);
    V(out.said.more);
    V(out.said.partial);
    codec_bytes(codec, &text, &len);
    if (!codec->loading || codec->failed)
        return;
    out.slot = slot;
    out.said.text = len ? (const char *)text : "";
    out.said.len = len;
    printed_add(printed, &out);
}

void printed_carry(struct carry *carry, struct printed *printed)
{
    CARRY(carry);
    uint64_t count = 0;
    const struct kept *line = printed->oldest;
    for (const struct kept *at = line; at && !codec->loading; at = at->newer)
        count++;
    V(count);
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        const struct kept *each = codec->loading ? NULL : line;
        line_carry(carry, printed, each);
        line = each ? each->newer : NULL;
    }
}
