/*
 * control.h: the verbs of hasupctl: a JSON object in, a JSON object out (docs/hasupctl.md).
 */
#ifndef HASUP_SUPERVISOR_CONTROL_H
#define HASUP_SUPERVISOR_CONTROL_H

#include "supervisor/engine.h"
#include "supervisor/service.h"
#include "supervisor/unix_door.h"

struct control;

/* `config_file`: what reload reads again.  `service` (borrowed) hears of reloads and of the stop. */
struct control *control_new(struct engine *engine, const char *config_file,
                            struct service *service);
/* hasupd stops: what is to be kept is given to the journal. */
void control_end(struct control *control);
void control_free(struct control *control);

/* Who is asked for an upgrade; 0, or HASUP_* and `why`. */
void control_set_upgrade(struct control *control,
                         int (*ask)(void *context, const char *binary, char why[CONFIG_ERROR_MAX]),
                         void *context);
/* It did not happen. */
void control_upgrade_failed(struct control *control, const char *why);
/* It did, in the process before this one, which had `version` and stopped so long. */
void control_upgraded(struct control *control, const char *version, hasup_ns pause);
struct carry;
const char *control_holds(const struct control *control);
/* What a client follows; and what is no client's. */
void control_carry(struct carry *carry, struct control *control, struct unix_client *client);
void control_base_carry(struct carry *carry, struct control *control);

/* Answers by unix_client_reply and unix_client_chunk, now or later. */
void control_handle(struct control *control, struct unix_client *client, uint64_t id,
                    const uint8_t *text, size_t len);
/* The client took back what it followed (`id`), or is gone altogether (`everything`). */
void control_cancel(struct control *control, struct unix_client *client, uint64_t id,
                    bool everything);
/* All that was sent to the client has left. */
void control_drained(struct control *control, const struct unix_client *client);
/* Reads the configuration again; `error` says why the old one stays. */
int control_reload(struct control *control, char error[CONFIG_ERROR_MAX]);
/* Drains and stops; a second call hastens. */
void control_shutdown(struct control *control);

#endif
