/*
 * process.h: worker processes: started, watched, ended as whole trees.
 *
 * Every worker is the leader of its own process group and, where cgroup v2 is writable, alone in
 * its own cgroup leaf.  A worker is gone only when its main process is reaped AND no process of its
 * tree is left: `tree_empty` says so, after `exited`.  Where there is no cgroup, the tree is the
 * process group plus every adopted orphan that bears the worker's HASUP_WORKER token in its
 * environment.
 */
#ifndef HASUP_SUPERVISOR_PROCESS_H
#define HASUP_SUPERVISOR_PROCESS_H

#include "supervisor/attributes.h"
#include "supervisor/loop.h"

#include "supervisor/oom.h"

#include <sys/resource.h>
#include <sys/types.h>

struct processes;
struct process; /* one worker and its tree */

struct process_exit {
    int code, signal; /* signal 0: it exited with `code` */
    struct rusage usage;
    uint8_t oom; /* enum oom_verdict: the kernel's OOM killer took it */
};

struct process_ops {
    /* The main process is reaped.  Its tree may still live. */
    void (*exited)(void *context, struct process *process, const struct process_exit *exit);
    /* Nothing of it is left; comes once, after `exited`.  `process` is freed after this call. */
    void (*tree_empty)(void *context, struct process *process);
};

struct process_spec {
    const char *name; /* "digits/0": names the cgroup leaf; NULL: it has none of its own */
    const char *const *argv; /* argv[0] is looked up on PATH of the environment given */
    const char *const
        *env; /* whole environment, NULL-terminated; that of the channel and HASUP_WORKER are added */
    const char *directory; /* NULL: hasupd's own */
    const struct attributes *attributes; /* NULL: as hasupd is */
    int channel;           /* passed on, with its number in a variable; -1: none */
    const char *channel_name; /* of that variable; NULL: HASUP_FD */
    const int *sockets;    /* passed from 3 on, with LISTEN_PID; the environment says the rest */
    unsigned socket_count;
    int out, err;          /* become stdout and stderr */
    void *context;         /* given back to the ops, see process_context */
    const struct process_ops *ops; /* NULL: those of processes_new; static */
    /* Without a name: in whose leaf it starts.  Its own tree is followed as where there is no
     * cgroup.  NULL: hasupd's own. */
    const struct process *beside;
};

/* `cgroup`: where leaves are made ("" : find hasupd's own cgroup v2; NULL: none).  Becomes the
 * subreaper. NULL: `error` says why. */
struct processes *processes_new(struct loop *loop, const struct process_ops *ops, void *context,
                                const char *cgroup, char error[256]);
/* Kills every tree that is left, waits for them bounded, removes the leaves. */
void processes_free(struct processes *processes);
bool processes_use_cgroups(const struct processes *processes);
/* How many descriptors hasupd may have, and what the process of a slot takes of them: its pipes, its
 * socket, its cgroup. */
uint64_t processes_descriptors(void);
unsigned processes_each(const struct processes *processes);

struct carry;
/* To and from another hasupd in the same process, whose children they stay; loading makes them.
 * NULL: the load has failed. */
struct processes *processes_carry(struct carry *carry, struct processes *processes,
                                  struct loop *loop, const struct process_ops *ops, void *context);
/* One, whose context is `context`. */
void process_carry(struct carry *carry, struct processes *processes, struct process **process,
                   void *context);
/* Children may have ended while nobody listened. */
void processes_look(struct processes *processes);

/* Starts one.  The parent's page tables are not copied; the call returns when the child has
 * exec'ed or failed.  0; HASUP_ESYS: errno is the failing step's and `error` names the step and the
 * file. After a failure no callback comes. */
int process_spawn(struct processes *processes, const struct process_spec *spec,
                  struct process **process, char error[256]) HASUP_NODISCARD;

/* One that another process forks.  Until it is adopted its pid is 0, and signals to it go nowhere.
 * `token`: a variable that must be in its environment; all tokens have one length.  NULL: no
 * memory. */
struct process *process_await(struct processes *processes, const char *name, void *context,
                              const char **token);
/* It is there: `pidfd`, which stays the caller's, names it.  0: the callbacks will come;
 * HASUP_EPROTO: it is no child of hasupd's, or not any more, and `error` says so. */
int process_adopt(struct process *process, int pidfd, char error[256]) HASUP_NODISCARD;
/* It never came; frees it. */
void process_forsake(struct process *process);
/* Kills a child that nobody waits for any more.  What is no child of hasupd's is left alone. */
void process_kill_stray(struct processes *processes, int pidfd);

/* No process of this name will be started again, and its last tree is empty. */
void processes_forget(struct processes *processes, const char *name);

void *process_context(const struct process *process);
pid_t process_pid(const struct process *process);
/* Bytes of the main process in memory, shared ones too; 0: not known. */
uint64_t process_memory(const struct process *process);
/* To the main process. A process that is reaped already is left alone. */
void process_signal(struct process *process, int signo);
/* SIGKILL to the whole tree, now and until it is empty. */
void process_kill_tree(struct process *process);
/* The same, and nobody hears of it again: no callback comes, it is not the caller's any more. */
void process_abandon(struct process *process);

#endif
