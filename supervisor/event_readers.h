/*
 * event_readers.h: who reads events (`hasupctl events`), the ones in memory and those that come.
 */
#ifndef HASUP_SUPERVISOR_EVENT_READERS_H
#define HASUP_SUPERVISOR_EVENT_READERS_H

#include "supervisor/events.h"
#include "supervisor/unix_door.h"

#include <jansson.h>

struct event_readers;

struct event_readers *event_readers_new(const struct events *events);
void event_readers_free(struct event_readers *readers);
/* Begins to answer the command `in`, whose target is known.  0, or the status of a refusal that
 * `error` explains. */
uint32_t event_readers_add(struct event_readers *readers, struct unix_client *client, uint64_t id,
                           const json_t *in, char error[CONFIG_ERROR_MAX]);
/* An event happened. */
void event_readers_tell(struct event_readers *readers, const char *json, size_t len);
/* All that was sent to the client has left. */
void event_readers_drained(struct event_readers *readers, const struct unix_client *client);
void event_readers_cancel(struct event_readers *readers, const struct unix_client *client,
                          uint64_t id, bool everything);

struct carry;
/* One who followed events of `target` in an older hasupd; HASUP_ENOMEM. */
int event_readers_resume(struct event_readers *readers, struct unix_client *client, uint64_t id,
                         const char *target) HASUP_NODISCARD;
void event_readers_carry(struct carry *carry, struct event_readers *readers,
                         struct unix_client *client);

#endif
