/*
 * log.h: one line an event, text for a terminal, JSON lines otherwise.  An entry is structured: a
 * level, an event name that stays stable ("slot.ready"), and typed fields; a tap sees every entry,
 * for hasupctl events and logs.  Loop thread only.  A full pipe never blocks hasupd: lines wait in a
 * bounded buffer, and are dropped above it; when there is room again it is said how many were.
 */
#ifndef HASUP_SUPERVISOR_LOG_H
#define HASUP_SUPERVISOR_LOG_H

#include "ipc/base.h"

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARNING, LEVEL_ERROR };
enum log_format { FORMAT_AUTO, FORMAT_TEXT, FORMAT_JSON };

struct log_field {
    const char *name; /* NULL: the field is left out */
    enum { FIELD_TEXT, FIELD_INT, FIELD_NS, FIELD_TRUE } type;
    const char *text;
    int64_t number;
};

#define LOG_TEXT(key, value)                                                                       \
    ((struct log_field){.name = (key), .type = FIELD_TEXT, .text = (value)})
#define LOG_INT(key, value)                                                                        \
    ((struct log_field){.name = (key), .type = FIELD_INT, .number = (int64_t)(value)})
/* There or, where it does not hold, left out: pass NULL for the key. */
#define LOG_TRUE(key) ((struct log_field){.name = (key), .type = FIELD_TRUE})
/* "12ms" as text; in JSON a number under the key with "_ns" behind it. */
#define LOG_NS(key, value)                                                                         \
    ((struct log_field){.name = (key), .type = FIELD_NS, .number = (int64_t)(value)})

struct log_entry {
    enum log_level level;
    const char *event;   /* "slot.exited" */
    const char *message; /* for a person; may be NULL */
    int64_t wall_ns;     /* since 1970 */
    const struct log_field *fields;
    size_t count;
};

/* Writes to `fd` (borrowed).  FORMAT_AUTO: text where `fd` is a terminal.  Colour only on a
 * terminal without NO_COLOR. */
void log_init(int fd, enum log_level level, enum log_format format);
/* Another level or format from now on. */
void log_set(enum log_level level, enum log_format format);
/* There is a loop: up to `buffer` bytes wait for a slow reader. */
struct loop;
void log_attach(struct loop *loop, size_t buffer);
void log_mute(void); /* nothing is, from now on */
/* Before the loop goes: what waits has a moment to leave.  Nothing is logged any more. */
void log_end(void);
void log_tap(void (*tap)(void *context, const struct log_entry *entry), void *context);
/* Gets every entry that is logged, too, but what workers print; NULL: nobody does. */
void log_copy(void (*take)(void *context, const struct log_entry *entry), void *context);
/* Lines that did not get out, ever. */
uint64_t log_dropped(void);
/* Whether lines wait to get out. */
bool log_waits(void);
void log_entry_write(const struct log_entry *entry);

/* LOG_EVENT(LEVEL_INFO, "slot.ready", "ready after 12 ms", LOG_TEXT("slot", name), …): at least one
 * field. */
#define LOG_EVENT(level_, event_, message_, ...)                                                   \
    log_event((level_), (event_), (message_), (const struct log_field[]){__VA_ARGS__},             \
              sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
void log_event(enum log_level level, const char *event, const char *message,
               const struct log_field *fields, size_t count);

/* For the tap alone: what is in the log already, put together. */
void log_note(const char *event, const struct log_field *fields, size_t count);

/* The entry as one JSON object without a newline, NUL-terminated; the length, cut at `room` never
 * inside a field (a "truncated":true says so). */
size_t log_entry_json(const struct log_entry *entry, char *out, size_t room);

/* The entry as text with its day, UTC, as it stands in a file; without a newline, NUL-terminated. */
size_t log_entry_text(const struct log_entry *entry, char *out, size_t room);

const char *log_level_name(enum log_level level);

#endif
