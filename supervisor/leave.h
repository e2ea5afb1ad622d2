/* leave.h: what a shutdown that began now would wait for, or one that is under way does. */
#ifndef HASUP_SUPERVISOR_LEAVE_H
#define HASUP_SUPERVISOR_LEAVE_H

#include "supervisor/engine.h"

#include <jansson.h>

enum { LEAVE_REQUESTS = 100 /* named; the others are counted */ };

json_t *leave_json(const struct engine *engine);

#endif
