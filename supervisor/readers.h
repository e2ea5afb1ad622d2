/*
 * readers.h: who reads what workers print: the verb `logs` of hasupctl.
 */
#ifndef HASUP_SUPERVISOR_READERS_H
#define HASUP_SUPERVISOR_READERS_H

#include "supervisor/engine.h"
#include "supervisor/unix_door.h"

#include <jansson.h>

struct readers;

struct readers *readers_new(struct engine *engine); /* NULL: no memory */
void readers_free(struct readers *readers);

/* `in`: target (one, or a list), count, since_wall_ms, until_wall_ms, streams, grep, request, follow.  Lines follow as chunks, then, unless
 * it follows, a reply.  0, or the HTTP status of a refusal, `error` says why. */
uint32_t readers_add(struct readers *readers, struct unix_client *client, uint64_t id,
                     const json_t *in, char error[CONFIG_ERROR_MAX]);
/* Log files are opened anew; answered when that is done.  0, or as above. */
uint32_t readers_reopen(struct readers *readers, struct unix_client *client, uint64_t id,
                        char error[CONFIG_ERROR_MAX]);
/* The client took back `id`, or is gone (`everything`). */
void readers_cancel(struct readers *readers, const struct unix_client *client, uint64_t id,
                    bool everything);

/* Whether one waits for log files to be opened anew. */
bool readers_wait(const struct readers *readers);
struct carry;
/* What a client reads, to another hasupd. */
void readers_carry(struct carry *carry, struct readers *readers, struct unix_client *client);

#endif
