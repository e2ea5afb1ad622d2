/*
 * log.c: entries to one descriptor, a line each, as text or as JSON.
 *
 * Owns: the descriptor's format; sink.c has the descriptor.  It must not block, allocate for each
 * line, or fail its caller.  A line is at most PIPE_BUF bytes, so that no other writer's stands
 * inside it.  What a worker or a client wrote may stand in any text: control bytes and broken UTF-8
 * are escaped, so that nobody can forge a line or move a terminal's cursor.
 * Failure modes: no room, or a reader that is gone: the line is dropped, counted, told of later.
 */
#include "supervisor/log.h"

#include "supervisor/escape.h"
#include "supervisor/loop.h"
#include "supervisor/sink.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = PIPE_BUF, NUMBER_ROOM = 48 };

static struct {
    struct sink out;
    enum log_level level;
    bool json, colour, mute;
    uint64_t told; /* lines that were dropped, and it was said */
    void (*tap)(void *context, const struct log_entry *entry);
    void *tap_context;
    void (*copy)(void *context, const struct log_entry *entry);
    void *copy_context;
} sink = {.out = {.fd = -1, .own = -1}, .level = LEVEL_INFO};

/* At the end what waits has so long to leave. */
static const hasup_ns LAST_WAIT = 200 * HASUP_MS;

static const struct {
    const char *name, *label, *colour;
} levels[] = {
    [LEVEL_DEBUG] = {"debug", "DEBUG", "\033[2m"},
    [LEVEL_INFO] = {"info", "INFO ", "\033[32m"},
    [LEVEL_WARNING] = {"warning", "WARN ", "\033[33m"},
    [LEVEL_ERROR] = {"error", "ERROR", "\033[31m"},
};

const char *log_level_name(enum log_level level)
{
    return levels[level].name;
}

/* A bounded text.  `cut` says that something did not fit; what is there stays whole. */
struct text {
    char *at;
    size_t len, room;
    bool cut;
};

static bool add_bytes(struct text *t, const char *bytes, size_t count)
{
    if (count > t->room - t->len) {
        t->cut = true;
        return false;
    }
    memcpy(t->at + t->len, bytes, count);
    t->len += count;
    return true;
}

static bool add(struct text *t, const char *string)
{
    return add_bytes(t, string, strlen(string));
}

HASUP_PRINTF(2, 3) static bool add_format(struct text *t, const char *format, ...)
{
    char piece[128];
    va_list args;
    va_start(args, format);
    vsnprintf(piece, sizeof(piece), format, args);
    va_end(args);
    return add(t, piece);
}

/* Adds one character of `s` escaped as JSON wants it; returns the bytes it read, 0 where full. */
static size_t add_escaped(struct text *t, const unsigned char *s, bool quotes)
{
    static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = strchr(named, *s);
    size_t length = escape_utf8(s);
    if (found && (quotes || *s < 0x20))
        return add_bytes(t, (char[]){'\\', letters[found - named]}, 2) ? 1 : 0;
    if (length == 0)
        return add(t, "\xef\xbf\xbd") ? 1 : 0;
    if (*s < 0x20 || *s == 0x7f)
        return add_format(t, "\\u%04x", *s) ? 1 : 0;
    /* U+0080 to U+009F are control characters, too: a terminal may obey them */
    if (length == 2 && s[0] == 0xc2 && s[1] < 0xa0)
        return add_format(t, "\\u%04x", s[1]) ? 2 : 0;
    return add_bytes(t, (const char *)s, length) ? length : 0;
}

/* As much of the string as fits, cut between characters. */
static bool add_text(struct text *t, const char *string, bool quotes)
{
    const unsigned char *s = (const unsigned char *)string;
    while (*s) {
        size_t taken = add_escaped(t, s, quotes);
        if (taken == 0)
            return false;
        s += taken;
    }
    return true;
}

static bool add_quoted(struct text *t, const char *string)
{
    return add(t, "\"") && add_text(t, string, true) && add(t, "\"");
}

/* A span as a person writes it: three digits and the unit that suits. */
static void span_text(int64_t ns, char out[NUMBER_ROOM])
{
    static const struct {
        double above, unit;
        const char *name;
    } units[] = {{3.6e12, 3.6e12, "h"},
                 {6e10, 6e10, "m"},
                 {1e9, 1e9, "s"},
                 {1e6, 1e6, "ms"},
                 {1e3, 1e3, "us"}};
    double value = (double)ns;
    for (size_t i = 0; i < HASUP_LEN(units); i++) {
        if (value >= units[i].above || value <= -units[i].above) {
            snprintf(out, NUMBER_ROOM, "%.4g%s", value / units[i].unit, units[i].name);
            return;
        }
    }
    snprintf(out, NUMBER_ROOM, "%lldns", (long long)ns);
}

static bool add_json_field(struct text *t, const struct log_field *field)
{
    if (!add(t, ",\"") || !add_text(t, field->name, true) ||
        !add(t, field->type == FIELD_NS ? "_ns\":" : "\":"))
        return false;
    switch (field->type) {
    case FIELD_TEXT: return field->text ? add_quoted(t, field->text) : add(t, "null");
    case FIELD_INT:
    case FIELD_NS: return add_format(t, "%lld", (long long)field->number);
    case FIELD_TRUE: return add(t, "true");
    }
    return true;
}

static void split_time(int64_t wall_ns, time_t *seconds, int *ms)
{
    *seconds = (time_t)(wall_ns / HASUP_S);
    *ms = (int)(wall_ns % HASUP_S / HASUP_MS);
}

/* The beginning of a long message is worth more than none: room is kept for its closing quote. */
static bool add_json_message(struct text *t, const char *message)
{
    if (t->len == t->room)
        return add(t, ",");
    t->room--;
    bool begun = add(t, ",\"message\":\"");
    if (begun)
        add_text(t, message, true);
    t->room++;
    return begun && add(t, "\"");
}

size_t log_entry_json(const struct log_entry *entry, char *out, size_t room)
{
    static const char ending[] = ",\"truncated\":true}";
    struct tm tm;
    time_t seconds;
    int ms;
    char stamp[32];

    if (room == 0)
        return 0;
    out[0] = '\0';
    if (room < sizeof(ending) + 1)
        return 0;
    struct text t = {.at = out, .room = room - sizeof(ending)};
    split_time(entry->wall_ns, &seconds, &ms);
    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
    if (!add_format(&t, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"event\":", stamp, ms,
                    levels[entry->level].name) ||
        !add_quoted(&t, entry->event)) {
        out[0] = '\0';
        return 0;
    }
    size_t mark = t.len;
    if (entry->message && !add_json_message(&t, entry->message))
        t.len = mark;
    for (size_t i = 0; i < entry->count && !t.cut; i++) {
        mark = t.len;
        if (entry->fields[i].name && !add_json_field(&t, &entry->fields[i]))
            t.len = mark;
    }
    const char *end = t.cut ? ending : "}";
    memcpy(out + t.len, end, strlen(end) + 1);
    return t.len + strlen(end);
}

/* The fields that say what an entry is about stand bare, before the message. */
static bool is_subject(const struct log_field *field)
{
    return field->name && field->type == FIELD_TEXT && field->text &&
           (strcmp(field->name, "slot") == 0 || strcmp(field->name, "model") == 0);
}

static bool needs_quotes(const char *text)
{
    if (*text == '\0')
        return true;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
            return true;
    return false;
}

static bool add_text_field(struct text *t, const struct log_field *field)
{
    char number[NUMBER_ROOM];
    if (!add(t, " ") || !add_text(t, field->name, false) || !add(t, "="))
        return false;
    switch (field->type) {
    case FIELD_TEXT:
        if (!field->text)
            return add(t, "-");
        return needs_quotes(field->text) ? add_quoted(t, field->text)
                                         : add_text(t, field->text, false);
    case FIELD_INT: return add_format(t, "%lld", (long long)field->number);
    case FIELD_NS: span_text(field->number, number); return add(t, number);
    case FIELD_TRUE: return add(t, "true");
    }
    return true;
}

/* What stands before the event. */
static void add_head(struct text *t, const struct log_entry *entry, bool dated, bool colour)
{
    struct tm tm;
    time_t seconds;
    int ms;
    char stamp[32];
    split_time(entry->wall_ns, &seconds, &ms);
    if (dated)
        gmtime_r(&seconds, &tm);
    else
        localtime_r(&seconds, &tm);
    strftime(stamp, sizeof stamp, dated ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
    add_format(t, "%s.%03d%s %s%s%s ", stamp, ms, dated ? "Z" : "",
               colour ? levels[entry->level].colour : "", levels[entry->level].label,
               colour ? "\033[0m" : "");
}

static size_t entry_text(const struct log_entry *entry, char *out, size_t room, bool dated,
                         bool colour)
{
    static const char ending[] = " ...";
    struct text t = {.at = out, .room = room - sizeof(ending)};
    const struct log_field *subject = NULL;

    add_head(&t, entry, dated, colour);
    add_text(&t, entry->event, false);
    for (size_t i = 0; i < entry->count && !subject; i++)
        if (is_subject(&entry->fields[i]))
            subject = &entry->fields[i];
    if (subject && add(&t, " "))
        add_text(&t, subject->text, false);
    if (entry->message && add(&t, " "))
        add_text(&t, entry->message, false);
    for (size_t i = 0; i < entry->count && !t.cut; i++) {
        size_t mark = t.len;
        const struct log_field *field = &entry->fields[i];
        if (field->name && field != subject && !add_text_field(&t, field))
            t.len = mark;
    }
    const char *end = t.cut ? ending : "";
    memcpy(out + t.len, end, strlen(end) + 1);
    return t.len + strlen(end);
}

size_t log_entry_text(const struct log_entry *entry, char *out, size_t room)
{
    return entry_text(entry, out, room, true, false);
}

static bool write_line(const struct log_entry *entry, bool bulk)
{
    char line[LINE_MAX_BYTES];
    size_t len = sink.json ? log_entry_json(entry, line, sizeof(line) - 1)
                           : entry_text(entry, line, sizeof(line) - 1, false, sink.colour);
    line[len] = '\n';
    return sink_put(&sink.out, line, len + 1, bulk);
}

/* Whether it could be told; there is something to tell. */
static bool tell_dropped(int64_t wall_ns)
{
    const uint64_t dropped = sink.out.dropped;
    const struct log_field lines = LOG_INT("lines", dropped);
    const struct log_entry notice = {.level = LEVEL_WARNING,
                                     .event = "log.dropped",
                                     .message = "the log's reader was too slow",
                                     .wall_ns = wall_ns,
                                     .fields = &lines,
                                     .count = 1};
    const bool told = write_line(&notice, false);
    sink.out.dropped = told ? 0 : dropped;
    sink.told += told ? dropped : 0;
    return told;
}

static void has_room(void *context)
{
    (void)context;
    (void)tell_dropped(loop_wall_now());
}

void log_init(int fd, enum log_level level, enum log_format format)
{
    sink_open(&sink.out, fd);
    sink.out.room = has_room;
    log_set(level, format);
}

void log_set(enum log_level level, enum log_format format)
{
    const char *no_colour = getenv("NO_COLOR");
    const bool terminal = isatty(sink.out.fd) == 1;
    sink.level = level;
    sink.json = format == FORMAT_JSON || (format == FORMAT_AUTO && !terminal);
    sink.colour = terminal && !(no_colour && *no_colour);
}

bool log_waits(void)
{
    return sink.out.used;
}

void log_attach(struct loop *loop, size_t buffer)
{
    sink_attach(&sink.out, loop, buffer);
}

void log_mute(void)
{
    sink.mute = true;
}

void log_end(void)
{
    if (sink.out.dropped)
        (void)tell_dropped(loop_wall_now());
    sink_end(&sink.out, LAST_WAIT);
}

void log_tap(void (*tap)(void *context, const struct log_entry *entry), void *context)
{
    sink.tap = tap;
    sink.tap_context = context;
}

void log_copy(void (*take)(void *context, const struct log_entry *entry), void *context)
{
    sink.copy = take;
    sink.copy_context = context;
}

uint64_t log_dropped(void)
{
    return sink.told + sink.out.dropped;
}

void log_entry_write(const struct log_entry *entry)
{
    if (sink.tap)
        sink.tap(sink.tap_context, entry);
    /* what workers print must not push out what hasupd has to say */
    const bool bulk = strncmp(entry->event, "worker.", 7) == 0;
    if (sink.copy && !bulk && entry->level >= sink.level)
        sink.copy(sink.copy_context, entry);
    if (sink.out.fd < 0 || entry->level < sink.level)
        return;
    if ((bulk && sink_is_shut(&sink.out)) || (sink.out.dropped && !tell_dropped(entry->wall_ns)))
        sink.out.dropped++;
    else
        (void)write_line(entry, bulk); /* what was not taken is counted */
}

void log_note(const char *event, const struct log_field *fields, size_t count)
{
    struct log_entry entry = {.level = LEVEL_INFO,
                              .event = event,
                              .wall_ns = loop_wall_now(),
                              .fields = fields,
                              .count = count};
    if (sink.tap)
        sink.tap(sink.tap_context, &entry);
}

void log_event(enum log_level level, const char *event, const char *message,
               const struct log_field *fields, size_t count)
{
    bool heard = sink.tap || ((sink.out.fd >= 0 || sink.copy) && level >= sink.level);
    if (!heard || sink.mute)
        return;
    struct log_entry entry = {.level = level,
                              .event = event,
                              .message = message,
                              .wall_ns = loop_wall_now(),
                              .fields = fields,
                              .count = count};
    log_entry_write(&entry);
}
