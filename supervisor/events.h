/*
 * events.h: the last log entries as JSON lines, for hasupctl events and logs.  A ring of bytes, so
 * that its memory is bounded however long the lines are; the oldest lines go first.
 */
#ifndef HASUP_SUPERVISOR_EVENTS_H
#define HASUP_SUPERVISOR_EVENTS_H

#include "supervisor/log.h"

struct events;

enum event_class { EVENTS_LIFECYCLE, EVENTS_LINES /* what workers print */ };

/* Calls `added` for each entry as it comes. */
struct events *events_new(size_t bytes,
                          void (*added)(void *context, enum event_class class, int64_t wall_ns,
                                        const char *json, size_t len),
                          void *context);
void events_free(struct events *events);
/* A log tap: context is the struct events. */
void events_tap(void *context, const struct log_entry *entry);
/* The last `count` lines of a class that are still there, oldest first. */
void events_each(const struct events *events, enum event_class class, size_t count,
                 void (*each)(void *context, int64_t wall_ns, const char *json, size_t len),
                 void *context);

#endif
