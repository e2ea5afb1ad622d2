/*
 * unix_door.h: the local front door: frames on a Unix socket, for requests and for control.  The
 * socket is 0600 and only hasupd's own user and root are let in (promise 12).
 */
#ifndef HASUP_SUPERVISOR_UNIX_DOOR_H
#define HASUP_SUPERVISOR_UNIX_DOOR_H

#include "supervisor/engine.h"

struct unix_door;
struct unix_client;
struct control;

/* Listens at `path`; a stale socket file is replaced, one that somebody listens on is an error. */
/* `listener`: a descriptor that listens there already; 0: none does. */
struct unix_door *unix_door_new(struct engine *engine, const char *path, int listener,
                                char error[CONFIG_ERROR_MAX]);
void unix_door_free(struct unix_door *door);
const char *unix_door_path(const struct unix_door *door);
/* Who answers CONTROL frames; set once. */
void unix_door_set_control(struct unix_door *door, struct control *control);

/* For control.c: an answer's end, or the next part of one that follows.  `text` is JSON. */
void unix_client_reply(struct unix_client *client, uint64_t id, uint32_t status, const char *text);
/* What a client has not read yet, in bytes. */
size_t unix_client_unsent(struct unix_client *client);
/* false: the client is too slow or gone, it does not get this. */
bool unix_client_chunk(struct unix_client *client, uint64_t id, const char *text, size_t len);

struct carry;
int unix_door_listener(const struct unix_door *door);
/* What cannot go along to another hasupd now; NULL: all can.  Its clients, after the requests. */
const char *unix_door_holds(const struct unix_door *door);
void unix_door_carry(struct carry *carry, struct unix_door *door);

#endif
