/* status.h: what hasupctl status shows, as JSON (docs/control.md names every key). */
#ifndef HASUP_SUPERVISOR_STATUS_H
#define HASUP_SUPERVISOR_STATUS_H

#include "supervisor/engine.h"

#include <jansson.h>

/* Text from anywhere as a JSON string: where it is not UTF-8, what is not ASCII becomes '?'. */
json_t *json_words(const char *text);

/* Malloc'ed; NULL: out of memory.  `started`: loop time of the start; `target`: the one model, or its
 * slot, that is asked for; NULL: all. */
char *status_text(const struct engine *engine, hasup_ns started, const char *target);

/* The configuration in force as JSON, malloc'ed: that of the file that was read last, and of models
 * that run another version than it says (a promoted canary, a rollback) what they run. */
char *status_config(const struct engine *engine);

#endif
