/* spawn.h: one child process, started without copying the parent's page tables.  Used by process.c.
 */
#ifndef HASUP_SUPERVISOR_SPAWN_H
#define HASUP_SUPERVISOR_SPAWN_H

#include "supervisor/attributes.h"

#include <sys/resource.h>
#include <sys/types.h>

struct spawn {
    const char *path; /* what to exec: resolved already */
    const char *const *argv;
    const char *const *env;
    const char *directory;            /* NULL: stay */
    int in, out, err;                 /* become 0, 1, 2 */
    int channel;                      /* becomes 3; -1: none */
    const struct rlimit *descriptors; /* its RLIMIT_NOFILE */
    const struct attributes *attributes; /* NULL: as hasupd is */
    int cgroup;                       /* directory of the leaf it starts in; -1: none */
};

/* 0; else errno, and *step says what failed ("exec", "chdir", …).  *outside: it could not be put
 * into its cgroup and runs in hasupd's. */
int spawn_child(const struct spawn *spawn, pid_t *pid, const char **step, bool *outside);

/* Looks a command up on the PATH of `env`; false: it is not there.  A name with a slash is itself.
 */
int spawn_find(const char *name, const char *const *env, char *path, size_t room);
/* A program of hasup's own, which stands beside hasupd; false: it does not, and `path` is its name, to
 * be looked up. */
int spawn_find_own(const char *name, char *path, size_t room);

#endif
