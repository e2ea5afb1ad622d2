/* owner.h: how the hasupd that a state directory belongs to is known, and kept the only one. */
#ifndef HASUP_CHECKPOINTS_OWNER_H
#define HASUP_CHECKPOINTS_OWNER_H

#include "ipc/base.h"

/* When a process began, in ticks since the boot: with it a pid is not mistaken for another's; 0:
 * there is none. */
uint64_t owner_start_ticks(int64_t pid);

/* Makes this process the owner of an open file, until it closes any descriptor of that file or
 * ends, however it ends.  HASUP_EDENIED: another process is, `owner` (0: one that cannot be seen
 * from here); HASUP_ESYS: errno.  Does not wait. */
int owner_take(int fd, int64_t *owner) HASUP_NODISCARD;
/* Whether another process is. */
bool owner_find(int fd, int64_t *owner);

#endif
