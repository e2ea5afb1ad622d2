/*
 * history.h: lifecycle events that outlive hasupd, in the journal.
 */
#ifndef HASUP_SUPERVISOR_HISTORY_H
#define HASUP_SUPERVISOR_HISTORY_H

#include "supervisor/engine.h"
#include "supervisor/events.h"

struct history;

/* Keeps what `events` has and what it tells from now on. */
struct history *history_new(struct engine *engine, const struct events *events);
/* hasupd stops: what the journal does not have yet is given to it, before it is closed. */
void history_end(struct history *history);
void history_free(struct history *history);

/* One lifecycle event, as it comes: a JSON object. */
void history_event(struct history *history, int64_t wall_ns, const char *json, size_t len);

struct carry;
void history_carry(struct carry *carry, struct history *history); /* to another hasupd */

#endif
