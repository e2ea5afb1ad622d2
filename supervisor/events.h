/*
 * events.h: the last events as JSON lines, for hasupctl events: all log entries but what workers
 * print (printed.h).  A ring of bytes, so that its memory is bounded however long the lines are;
 * the oldest lines go first.
 */
#ifndef HASUP_SUPERVISOR_EVENTS_H
#define HASUP_SUPERVISOR_EVENTS_H

#include "supervisor/event_filter.h"
#include "supervisor/log.h"

struct events;

/* Calls `added` for each entry as it comes. */
struct events *events_new(size_t bytes,
                          void (*added)(void *context, int64_t wall_ns, const char *json,
                                        size_t len),
                          void *context);
void events_free(struct events *events);
/* A log tap: context is the struct events. */
void events_tap(void *context, const struct log_entry *entry);
/* The last `count` lines that are still there and pass (NULL: all do), oldest first. */
void events_each(const struct events *events, size_t count, const struct event_filter *filter,
                 void (*each)(void *context, int64_t wall_ns, const char *json, size_t len),
                 void *context);

struct carry;
void events_carry(struct carry *carry, struct events *events); /* to another hasupd */

#endif
