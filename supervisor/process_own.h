/*
 * process_own.h: what the files of processes share: process.c makes one and speaks to it,
 * processes.c follows them all from when they are listed.
 */
#ifndef HASUP_SUPERVISOR_PROCESS_OWN_H
#define HASUP_SUPERVISOR_PROCESS_OWN_H

#include "supervisor/process.h"

#include "supervisor/cgroup.h"
#include "supervisor/oom.h"
#include "supervisor/spawn.h"

#include <sys/resource.h>

enum { PID_CHAINS = 512 /* a power of two */, TOKEN = 64 };

struct process {
    struct processes *owner;
    const struct process_ops *ops;
    void *context;
    pid_t pid;
    struct leaf *leaf; /* NULL: followed by group and token */
    uint64_t oom_kills; /* of its leaf at its start */
    char token[TOKEN];
    bool reaped;
    bool guest;      /* it runs in the leaf of another one */
    bool group_gone; /* its process group's number may be another's by now */
    unsigned doubts; /* how often an unknown child kept its tree from being called empty */
    struct process *next;
    struct process *next_by_pid; /* while it is not reaped */
};

struct processes {
    struct loop *loop;
    const struct process_ops *ops;
    void *context;
    struct cgroups *cgroups; /* NULL: none */
    struct watch notify;
    struct timer retry;
    struct process *list;
    struct process *by_pid[PID_CHAINS]; /* those that are not reaped */
    uint64_t count;
    struct oom oom;
    struct rlimit descriptors; /* as hasupd found it: what workers get */
    struct spawn_pads pads;
};

/* process.c: of a process that nobody waits for */
extern const struct process_ops PROCESS_UNHEARD;

/* ---- processes.c ---- */

/* The one whose main process, not reaped yet, has this pid; NULL: none. */
struct process *process_by_pid(struct processes *processes, pid_t pid);
/* It has a pid, which is its own until it is reaped. */
void process_list(struct process *process);
/* Before it runs: what is needed to tell later whether lack of memory took it. */
void note_oom(struct process *process);
/* To the process group, as long as its number cannot be anybody else's: once it is empty and its
 * leader reaped, never again.  False: it is empty. */
bool group_kill(struct process *process);

#endif
