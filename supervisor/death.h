/*
 * death.h: what is known of how a slot's last worker ended, for hasupctl why.  Its reason and last
 * lines are the slot's `death` (engine.h); here is what it had in hand, and what it used.
 */
#ifndef HASUP_SUPERVISOR_DEATH_H
#define HASUP_SUPERVISOR_DEATH_H

#include "supervisor/engine.h"

#include <jansson.h>

/* Before it is blamed, ended or told to be gone, whichever comes first: notes what it has. */
void death_note_hand(struct worker *worker);
/* It is reaped; after worker_note_death. */
void death_note_exit(struct slot *slot, struct worker *worker, const struct process_exit *exit);
/* How a person finds it in logs: its X-Request-Id, else hasupd's own number of it. */
void death_request_name(const struct request *request, char name[DEATH_ID]);
void death_free(struct slot_death *death);

/* "slot", "state", "death" (null: none yet) and "next": what comes, and when. */
json_t *why_json(const struct engine *engine, const struct slot *slot);

#endif
