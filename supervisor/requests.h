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
/* `in`: id, of a request or a dead letter.  One of these; of what is quarantined with "letter". */
void requests_show(const struct requests_call *call);
void requests_drop(const struct requests_call *call);

/* requests_letters.c */
/* `in`: before.  {"letter": null or the newest one below `before`, "next": null, or its number} */
void requests_letters(const struct requests_call *call);
/* `in`: id, of a quarantined request or a dead letter.  {"id": of the new request} */
void requests_retry(const struct requests_call *call);
/* The letter of that id, shown (`lift`: dropped), or 404. */
void requests_letter(const struct requests_call *call, const char *id, bool lift);
/* Answers with the request and its letter; takes `request`. */
void requests_with_letter(const struct requests_call *call, uint64_t record, json_t *request);

/* ---- between the two ---- */

HASUP_PRINTF(4, 5)
void requests_refuse(const struct requests_call *call, uint32_t status, const char *code,
                     const char *format, ...);
const char *requests_text(const struct requests_call *call, const char *key); /* "" : none */
/* Where there is no journal there is nothing; one that cannot be opened is told. */
bool requests_open(const struct requests_call *call);
void requests_unknown(const struct requests_call *call);
void requests_unreadable(const struct requests_call *call, int error);
json_t *requests_wall(int64_t wall_ns);

#endif
