/* owner.h: how the hasupd that noted itself in a state directory is known again. */
#ifndef HASUP_CHECKPOINTS_OWNER_H
#define HASUP_CHECKPOINTS_OWNER_H

#include "ipc/base.h"

/* When a process began, in ticks since the boot: with it a pid is not mistaken for another's; 0:
 * there is none. */
uint64_t owner_start_ticks(int64_t pid);

#endif
