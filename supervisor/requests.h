/*
 * requests.h: hasupctl requests: durable requests as people see them, listed in pages from the
 * journal with what the core knows of each, shown, dropped.  Asks the journal and decides nothing.
 */
#ifndef HASUP_SUPERVISOR_REQUESTS_H
#define HASUP_SUPERVISOR_REQUESTS_H

#include "supervisor/engine.h"

#include <jansson.h>

struct requests_call {
    struct engine *engine;
    const json_t *in; /* borrowed for the length of the call */
    uint64_t ticket;
    /* Once, inside the call or later, unless hasupd ends before; takes `json`. */
    void (*answer)(void *context, uint64_t ticket, uint32_t status, json_t *json);
    void *context;
};

/* `in`: model, state, before.  {"requests": […], "next": null, or `before` of the next page} */
void requests_list(const struct requests_call *call);
/* `in`: id.  One of these. */
void requests_show(const struct requests_call *call);
void requests_drop(const struct requests_call *call);

#endif
