/*
 * letters.h: bodies that kill workers, as the shell keeps them: what is known of each death, and
 * the dead letters.  The core decides who is suspect and who is quarantined; here is what people
 * want to know about it.
 */
#ifndef HASUP_SUPERVISOR_LETTERS_H
#define HASUP_SUPERVISOR_LETTERS_H

#include "supervisor/engine.h"

/* A body's hash, by which people name a dead letter, reads as the number of a request does. */
enum { LETTER_ID = RECORD_ID };

/* What a client may be told of a quarantined body: what happened, how long it is refused. */
const char *letters_message(const struct engine *engine, const uint64_t hash[2],
                            char text[ENGINE_REASON]);
/* The hash of a request's model and body, computed at its first need; never 0, 0. */
void letters_hash(const struct engine *engine, struct request *request, uint64_t hash[2]);

/* Actions of the core. */
void letters_identify(struct engine *engine, const struct action *action);
void letters_quarantine(struct engine *engine, const struct action *action);
void letters_pardon(struct engine *engine, const struct action *action);

/* A worker is reaped: its slot's `death` says why.  Later its whole tree is gone, and its last
 * lines are there. */
void letters_worker_exited(const struct worker *worker, const struct process_exit *exit);
void letters_worker_gone(struct engine *engine, const struct worker *worker);

/* What the journal holds; and a model that is known from now on is told of its own. */
void letters_recover(struct engine *engine);
void letters_model_added(struct engine *engine, const struct model *model);
void letters_free(struct engine *engine);

/* ---- for who looks at dead letters (JOURNAL_FETCH_LETTER reads one, journal_each_letter all) ----
 */

bool letters_read_id(const char *id, size_t len, uint64_t hash[2]);
void letters_write_id(const uint64_t hash[2], char id[LETTER_ID + 1]);

/* The body is refused no more, and its dead letter goes. */
void letters_lift(struct engine *engine, const uint64_t hash[2]);

/* Hears once how a second chance began.  `id`: the new request's number, to ask for its answer by;
 * "" where its model keeps no answers.  Or `refusal`, and `id` is NULL. */
typedef void letters_retried(void *context, const char *id, const struct refusal_text *refusal);

/* Lifts the quarantine and submits the request again, as one with respond-async.  HASUP_ENOTFOUND:
 * there is no such model; HASUP_EINVAL: its body was not kept (quarantine_keep_body); HASUP_EFULL,
 * HASUP_ENOMEM: nothing was changed but the quarantine. `done` is called only where this is 0. */
int letters_retry(struct engine *engine, const struct journal_letter *letter, letters_retried *done,
                  void *context) HASUP_NODISCARD;

struct carry;
void letters_carry(struct carry *carry, struct engine *engine); /* to another hasupd */

#endif
