/*
 * processes.c: the processes that there are, as trees: followed, reaped, killed, proven empty. Owns
 * their list, their cgroup leaves and the reaper; as subreaper it inherits what dead workers leave
 * behind.  `tree_empty` is said only when the cgroup is unpopulated, or, without cgroups, when the
 * process group is gone and no descendant bears the worker's token.
 */
#include "supervisor/process_own.h"

#include "supervisor/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ENV_MAX = 64 * 1024, CHILDREN_MAX = 4096, DOUBTS_MAX = 100 };

/* How soon a dead tree that is not empty is looked at again, and how long the end waits for one. */
static const hasup_ns RETRY = 5 * HASUP_MS, END_PATIENCE = 5 * HASUP_S;

static void check_trees(struct processes *processes);

/* ---- which there are ---- */

static struct process **chain_of(struct processes *processes, pid_t pid)
{
    return &processes->by_pid[(unsigned)pid % PID_CHAINS];
}

struct process *process_by_pid(struct processes *processes, pid_t pid)
{
    struct process *process = *chain_of(processes, pid);
    while (process && process->pid != pid)
        process = process->next_by_pid;
    return process;
}

void process_list(struct process *process)
{
    struct processes *processes = process->owner;
    process->next = processes->list;
    processes->list = process;
    if (process->reaped)
        return;
    struct process **chain = chain_of(processes, process->pid);
    process->next_by_pid = *chain;
    *chain = process;
}

static void process_unchain(struct process *process)
{
    struct process **at = chain_of(process->owner, process->pid);
    while (*at != process)
        at = &(*at)->next_by_pid;
    *at = process->next_by_pid;
}

/* ---- trees without cgroups ---- */

/* The direct children of hasupd, among them what it inherited; their number. */
static size_t own_children(pid_t *pids, size_t room)
{
    char path[64];
    size_t count = 0;
    int pid;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    while (file && count < room && fscanf(file, "%d", &pid) == 1)
        pids[count++] = pid;
    if (file)
        fclose(file);
    return count;
}

enum bearing { BEARS_OTHER, BEARS_TOKEN, BEARS_NOTHING };

/* Whether a process was started by the worker with this token, or by its descendants.  Who is
 * about to exit or to exec shows no environment. */
static enum bearing bearing_of(pid_t pid, const char *token)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *env = fd >= 0 ? malloc(ENV_MAX) : NULL;
    ssize_t got = env ? read(fd, env, ENV_MAX) : -1;
    bool found = got > 0 && memmem(env, (size_t)got, token, strlen(token) + 1) != NULL;
    free(env);
    if (fd >= 0)
        close(fd);
    return found ? BEARS_TOKEN : got > 0 ? BEARS_OTHER : BEARS_NOTHING;
}

bool group_kill(struct process *process)
{
    if (!process->group_gone && kill(-process->pid, SIGKILL) < 0 && errno == ESRCH)
        process->group_gone = process->reaped;
    return !process->group_gone;
}

/* Kills what is left of a tree; true where nothing was.  A child without an environment may be of
 * this tree and leave children of its own behind, so it is looked at again; one that stays so has
 * thrown its environment away and cannot be told from a stranger's. */
static bool kill_adopted(struct process *process)
{
    static pid_t pids[CHILDREN_MAX];
    bool empty = !group_kill(process), doubt = false;
    size_t count = own_children(pids, CHILDREN_MAX);
    for (size_t i = 0; i < count; i++) {
        enum bearing bearing = process_by_pid(process->owner, pids[i])
                                   ? BEARS_OTHER
                                   : bearing_of(pids[i], process->token);
        if (bearing == BEARS_TOKEN) {
            kill(pids[i], SIGKILL);
            empty = false;
        }
        doubt = doubt || bearing == BEARS_NOTHING;
    }
    if (empty && doubt && process->doubts < DOUBTS_MAX) {
        process->doubts++;
        return false;
    }
    return empty;
}

/* ---- trees ---- */

static bool tree_is_empty(struct process *process)
{
    if (!process->leaf)
        return kill_adopted(process);
    if (leaf_is_empty(process->leaf))
        return true;
    leaf_kill(process->leaf);
    return false;
}

static void tree_gone(struct process *process)
{
    struct processes *processes = process->owner;
    struct process **at = &processes->list;
    while (*at != process)
        at = &(*at)->next;
    *at = process->next;
    process->ops->tree_empty(processes->context, process);
    free(process);
}

static void retry_due(void *context)
{
    check_trees(context);
}

/* Every reaped process whose tree has become empty is done; while one has not, this comes again. */
static void check_trees(struct processes *processes)
{
    bool waits = false;
    for (struct process *process = processes->list, *next; process; process = next) {
        next = process->next;
        if (!process->reaped)
            continue;
        if (tree_is_empty(process))
            tree_gone(process); /* who is started then stands before all others */
        else
            waits = true;
    }
    if (waits)
        (void)!timer_set(&processes->retry, processes->loop, loop_now(processes->loop) + RETRY);
}

/* ---- the reaper ---- */

/* Whether the kernel killed it for lack of memory.  hasupd kills what closed its socket, so that it
 * may have killed a dead one. */
static enum oom_verdict was_oom(struct process *process)
{
    struct processes *processes = process->owner;
    uint64_t kills;
    if (process->leaf && leaf_oom_kills(process->leaf, &kills))
        return kills > process->oom_kills ? OOM_COUNTED : OOM_NO;
    if (process->guest)
        return OOM_NO; /* the count of the leaf that it ran in is its owner's */
    return oom_judge(&processes->oom, loop_now(processes->loop));
}

void note_oom(struct process *process)
{
    struct processes *processes = process->owner;
    process->oom_kills = 0;
    if (!process->leaf || !leaf_oom_kills(process->leaf, &process->oom_kills))
        oom_begin(&processes->oom, !processes->list, loop_now(processes->loop));
}

static void process_reaped(struct process *process, int status, const struct rusage *usage)
{
    struct process_exit exit = {.usage = *usage};
    if (WIFSIGNALED(status))
        exit.signal = WTERMSIG(status);
    else
        exit.code = WEXITSTATUS(status);
    /* Of whom nobody hears is killed by hasupd: the count is left to the others. */
    bool doubtful = exit.signal == SIGKILL && process->ops != &PROCESS_UNHEARD;
    exit.oom = doubtful ? (uint8_t)was_oom(process) : OOM_NO;
    process->reaped = true;
    process_unchain(process);
    process->ops->exited(process->owner->context, process, &exit);
}

static void reap(struct processes *processes)
{
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        struct process *process = process_by_pid(processes, pid);
        if (process) /* else an orphan that was inherited */
            process_reaped(process, status, &usage);
    }
    check_trees(processes);
}

static void on_child(void *context, int signo)
{
    (void)signo;
    reap(context);
}

static void on_notify(void *context, int events)
{
    struct processes *processes = context;
    (void)events;
    cgroups_notify_read(processes->cgroups);
    check_trees(processes);
}

/* ---- life ---- */

/* Each connection and worker needs some.  The usual soft limit is there for programs that use
 * select(), which workers may do; hasupd takes what the hard one allows. */
static void take_descriptors(struct processes *processes)
{
    getrlimit(RLIMIT_NOFILE, &processes->descriptors);
    struct rlimit most = processes->descriptors;
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
}

static struct processes *processes_make(struct loop *loop, const struct process_ops *ops,
                                        void *context)
{
    struct processes *processes = calloc(1, sizeof *processes);
    if (!processes)
        return NULL;
    *processes = (struct processes){.loop = loop,
                                    .ops = ops,
                                    .context = context,
                                    .retry = {.due = retry_due, .context = processes},
                                    .notify = {.ready = on_notify, .context = processes}};
    oom_open(&processes->oom, loop_now(loop));
    spawn_pads_open(&processes->pads);
    return processes;
}

/* 0, or -1: errno. */
static int processes_listen(struct processes *processes)
{
    struct loop *loop = processes->loop;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (processes->pads.fds[SPAWN_PADS - 1] < 0 ||
        loop_signal(loop, SIGCHLD, on_child, processes) ||
        (processes->cgroups &&
         watch_set(&processes->notify, loop, cgroups_notify_fd(processes->cgroups), WATCH_READ)))
        return -1;
    return 0;
}

static void processes_close(struct processes *processes)
{
    watch_stop(&processes->notify);
    timer_stop(&processes->retry);
    if (processes->cgroups)
        cgroups_close(processes->cgroups);
    spawn_pads_close(&processes->pads);
    oom_close(&processes->oom);
    free(processes);
}

struct processes *processes_new(struct loop *loop, const struct process_ops *ops, void *context,
                                const char *cgroup, char error[256])
{
    struct processes *processes = processes_make(loop, ops, context);
    if (!processes) {
        snprintf(error, 256, "out of memory");
        return NULL;
    }
    take_descriptors(processes);
    processes->cgroups = cgroup ? cgroups_open(cgroup) : NULL;
    if (processes_listen(processes)) {
        snprintf(error, 256, "cannot watch child processes: %s", strerror(errno));
        processes_close(processes);
        return NULL;
    }
    return processes;
}

void processes_free(struct processes *processes)
{
    const hasup_ns until = loop_clock() + END_PATIENCE;
    for (struct process *process = processes->list; process; process = process->next)
        process_kill_tree(process);
    while (processes->list && loop_clock() < until) {
        reap(processes);
        if (processes->list)
            poll(NULL, 0, 1);
    }
    while (processes->list) {
        struct process *process = processes->list;
        processes->list = process->next;
        free(process);
    }
    processes_close(processes);
}

bool processes_use_cgroups(const struct processes *processes)
{
    return processes->cgroups != NULL;
}

uint64_t processes_descriptors(void)
{
    struct rlimit own;
    return getrlimit(RLIMIT_NOFILE, &own) ? RLIM_INFINITY : own.rlim_cur;
}

unsigned processes_each(const struct processes *processes)
{
    enum { SOCKET_AND_PIPES = 3, LEAF = 2 };
    return SOCKET_AND_PIPES + (processes->cgroups ? LEAF : 0);
}

void processes_forget(struct processes *processes, const char *name)
{
    if (processes->cgroups)
        leaf_remove(processes->cgroups, name);
}

/* ---- to another hasupd ---- */

struct processes *processes_carry(struct carry *carry, struct processes *processes,
                                  struct loop *loop, const struct process_ops *ops, void *context)
{
    CARRY(carry);
    if (codec->loading && !(processes = processes_make(loop, ops, context))) {
        carry->no_memory = true;
        codec_fail(codec);
        return NULL;
    }
    V(processes->count);
    V(processes->oom.told);
    V(processes->descriptors.rlim_cur);
    V(processes->descriptors.rlim_max);
    processes->cgroups = cgroups_carry(carry, processes->cgroups);
    if (codec->loading && processes_listen(processes))
        codec_fail(codec);
    return processes;
}

void processes_look(struct processes *processes)
{
    reap(processes);
}
