/* waits.h: commands that wait for slots to be ready, stopped or idle: told when they are, by the
 * turn in which they become so, without any polling. */
#ifndef HASUP_SUPERVISOR_WAITS_H
#define HASUP_SUPERVISOR_WAITS_H

#include "supervisor/engine.h"
#include "supervisor/unix_door.h"

struct waits;

enum wait_for { WAIT_READY, WAIT_STOPPED, WAIT_IDLE };
enum { WAITS_MAX = 64 };

struct waits *waits_new(struct engine *engine);
void waits_free(struct waits *waits);
/* `slot`: CORE_ALL_SLOTS: of the model.  Answers {"ok": true}, at once where it holds already.
 * HASUP_EFULL: WAITS_MAX wait; HASUP_ENOMEM. */
int waits_add(struct waits *waits, struct unix_client *client, uint64_t id, uint32_t model,
              uint32_t slot, enum wait_for what) HASUP_NODISCARD;
void waits_cancel(struct waits *waits, const struct unix_client *client, uint64_t id,
                  bool everything);
struct carry;
/* What a client waits for, to another hasupd. */
void waits_carry(struct carry *carry, struct waits *waits, struct unix_client *client);

#endif
