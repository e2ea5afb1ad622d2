/* spawn.h: one child process, started without copying the parent's page tables.  Used by process.c.
 */
#ifndef HASUP_SUPERVISOR_SPAWN_H
#define HASUP_SUPERVISOR_SPAWN_H

#include "supervisor/attributes.h"

#include <sys/resource.h>
#include <sys/types.h>

/* Low descriptors of hasupd's, which stand on /dev/null; while a child is started they stand on what
 * it is given, so that it need not copy, and close, all the others that hasupd has by then. */
enum { SPAWN_PADS = 4 };
struct spawn_pads {
    int fds[SPAWN_PADS]; /* the first one stays on /dev/null; -1: none */
    bool shares;         /* the kernel lets a child begin with them alone */
};

/* The last is -1 where there are not enough: errno. */
void spawn_pads_open(struct spawn_pads *pads);
void spawn_pads_close(struct spawn_pads *pads);

enum { SPAWN_SOCKETS = 16, SPAWN_FD = 3, SPAWN_PID_ROOM = 12 };

struct spawn {
    const struct spawn_pads *pads;
    const char *path; /* what to exec: resolved already */
    const char *const *argv;
    const char *const *env;
    const char *directory;            /* NULL: stay */
    int out, err;                     /* become 1, 2; /dev/null becomes 0 */
    const int *sockets;               /* become 3 and those behind it */
    unsigned socket_count;            /* SPAWN_SOCKETS at most */
    char *listen_pid;                 /* where its pid is written, with a NUL; NULL: nowhere */
    int channel;                      /* becomes the one behind those; -1: none */
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

/* What a shell exits with where a start has failed with this errno: it is not there, or it cannot be
 * executed. */
enum { EXIT_CANNOT = 126, EXIT_NOT_FOUND = 127 };
int spawn_exit_code(int error);

#endif
