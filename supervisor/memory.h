/* memory.h: how much memory a worker's processes hold together, and which they are.  Used by
 * process.c and init.c. */
#ifndef HASUP_SUPERVISOR_MEMORY_H
#define HASUP_SUPERVISOR_MEMORY_H

#include "supervisor/cgroup.h"

#include <sys/types.h>

/* Bytes; 0: it cannot be known.  `pid`: its main process; `leaf`: where all of it is, NULL: it is
 * followed by who is whose child.  Without a count of the cgroup: what is resident of the main
 * process, and of the others what is theirs alone. */
uint64_t memory_of_tree(const struct leaf *leaf, pid_t pid);

/* The process, its children, and theirs, as /proc has them now: how many were found, at most
 * `most`, which is 1 at least. */
size_t tree_pids(pid_t pid, pid_t *pids, size_t most);

#endif
