/*
 * said.h: what workers say, between the engine's files: captured, told whose request it is about,
 * logged, kept, and written to files.
 */
#ifndef HASUP_SUPERVISOR_SAID_H
#define HASUP_SUPERVISOR_SAID_H

#include "supervisor/engine.h"
#include "supervisor/printed.h"

/* Its memory and its files; HASUP_ENOMEM. */
int said_open(struct engine *engine) HASUP_NODISCARD;
void said_end(struct engine *engine); /* writes what waits */
void said_configure(struct engine *engine); /* there is another configuration */
/* The files' thread has something to say. */
void said_files_woken(struct engine *engine);

/* The pipes of a process that is to be started; NULL: errno says why not. */
struct capture *said_capture(struct worker *worker, int *out, int *err);

/* What is done with what they print. */
struct capture_options said_options(struct worker *worker);

/* A request comes into the worker's hand, and leaves it by an answer. */
void said_dispatched(struct worker *worker, uint64_t request);
void said_answered(struct worker *worker, uint64_t request);
/* The worker is gone, or given up: what it has said so far is read while its requests are still
 * known to be its own. */
void said_until_now(struct worker *worker);
/* Nothing comes any more: its last lines, for status and, where it crashed, for the history. */
void said_last(const struct worker *worker, bool crashed);

#endif
