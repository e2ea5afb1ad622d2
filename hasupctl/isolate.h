/*
 * isolate.h: a worker started apart from everything: in a process group, a session's worth of
 * nothing inherited, a cgroup leaf where one can be had, a temporary directory of its own, without
 * network where that can be done, as the user who owns the state directory, and ended with all its
 * children.
 */
#ifndef HASUP_HASUPCTL_ISOLATE_H
#define HASUP_HASUPCTL_ISOLATE_H

#include "ipc/base.h"

#include <poll.h>
#include <sys/types.h>

enum { ISOLATE_ERROR = 256, ISOLATE_TAIL = 512 };

struct isolate_order {
    char *const *command;
    char *const *environment; /* whole; TMPDIR, TMP, TEMP and HASUP_FD are added */
    const char *directory;
    uid_t user; /* who it becomes, where the caller is root */
    bool network;
};

struct isolated {
    pid_t pid;
    int channel, output; /* the caller reads both; -1: closed */
    char temporary[64];
    char tail[ISOLATE_TAIL]; /* the last of what it printed */
    size_t tail_len;
    bool left; /* it closed its channel: its exit is waited for, a little */
    struct cgroups *cgroups;
    struct leaf *leaf;
};

/* 0, or HASUP_E* and `error`; then nothing is left of it. */
int isolate_start(const struct isolate_order *order, struct isolated *worker,
                  char error[ISOLATE_ERROR]) HASUP_NODISCARD;
/* poll(2) in which alone SIGTERM, SIGINT and SIGHUP arrive while a worker is there; one that came
 * makes it fail with EINTR from then on. */
int isolate_poll(struct pollfd *polls, nfds_t count, int timeout_ms);
/* Takes what it printed; false: no more comes. */
bool isolate_listen(struct isolated *worker);
/* Kills it with all its children and removes its directory; then a signal that came meanwhile has
 * its way.  `*how`: how it had ended by itself, as waitpid says, or -1.  False: something of it is
 * left, which no signal ends. */
bool isolate_end(struct isolated *worker, int *how);

#endif
