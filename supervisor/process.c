/*
 * process.c: worker processes as trees: started, reaped, killed, proven empty.  Owns the processes,
 * their cgroup leaves and the reaper; as subreaper it inherits what dead workers leave behind.
 * `tree_empty` is said only when the cgroup is unpopulated, or, without cgroups, when the process
 * group is gone and no descendant bears the worker's token.
 */
#include "supervisor/process.h"

#include "supervisor/carry.h"
#include "supervisor/cgroup.h"
#include "supervisor/memory.h"
#include "supervisor/spawn.h"

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

enum { PID_CHAINS = 512 /* a power of two */ };
enum { TOKEN = 64, ENV_MAX = 64 * 1024, CHILDREN_MAX = 4096, DOUBTS_MAX = 100 };

/* How soon a dead tree that is not empty is looked at again, and how long the end waits for one. */
static const hasup_ns RETRY = 5 * HASUP_MS, END_PATIENCE = 5 * HASUP_S;

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

static void check_trees(struct processes *processes);

/* ---- whom nobody waits for ---- */

static void unheard_exit(void *context, struct process *process, const struct process_exit *exit)
{
    (void)context;
    (void)process;
    (void)exit;
}

static void unheard_end(void *context, struct process *process)
{
    (void)context;
    (void)process;
}

static const struct process_ops UNHEARD = {.exited = unheard_exit, .tree_empty = unheard_end};

/* ---- which there are ---- */

static struct process **chain_of(struct processes *processes, pid_t pid)
{
    return &processes->by_pid[(unsigned)pid % PID_CHAINS];
}

/* The worker whose main process, not reaped yet, has this pid. */
static struct process *process_by_pid(struct processes *processes, pid_t pid)
{
    struct process *process = *chain_of(processes, pid);
    while (process && process->pid != pid)
        process = process->next_by_pid;
    return process;
}

/* It has a pid, which is its own until it is reaped. */
static void process_list(struct process *process)
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

/* To the process group, as long as its number cannot be anybody else's: once it is empty and its
 * leader reaped, never again.  False: it is empty. */
static bool group_kill(struct process *process)
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

static void note_oom(struct process *process)
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
    bool doubtful = exit.signal == SIGKILL && process->ops != &UNHEARD;
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

#define LISTEN_PID "LISTEN_PID="

/* Variables that are made for one start; the pid is written by the child. */
struct numbers {
    char channel[32], listen_pid[sizeof LISTEN_PID + SPAWN_PID_ROOM];
};

/* The environment with HASUP_FD, HASUP_WORKER and LISTEN_PID; NULL: no memory. */
static const char **extend_environment(const struct process_spec *spec, const char *token,
                                       struct numbers *numbers)
{
    size_t count = 0, used = 0;
    while (spec->env[count])
        count++;
    const char **env = calloc(count + 4, sizeof *env);
    if (!env)
        return NULL;
    snprintf(numbers->channel, sizeof numbers->channel, "HASUP_FD=%u",
             SPAWN_FD + spec->socket_count);
    snprintf(numbers->listen_pid, sizeof numbers->listen_pid, LISTEN_PID);
    if (spec->channel >= 0)
        env[used++] = numbers->channel;
    if (spec->socket_count)
        env[used++] = numbers->listen_pid;
    env[used++] = token;
    for (size_t i = 0; i < count; i++)
        if (strncmp(spec->env[i], "HASUP_FD=", 9) && strncmp(spec->env[i], "HASUP_WORKER=", 13))
            env[used++] = spec->env[i];
    return env;
}

/* What could not be done with a path, and whether only the process itself does not see it. */
static void say_step(const struct process_spec *spec, const char *step, const char *path,
                     int failed, char error[256])
{
    const bool hidden = failed == ENOENT && spec->attributes && spec->attributes->tmp[0] &&
                        attributes_tmp_hides(path);
    snprintf(error, 256, "%s %.140s: %s%s", step, path, strerror(failed),
             hidden ? ": " ATTRIBUTES_TMP_HIDES : "");
}

/* 0, or errno with `error` written. */
static int process_start(struct process *process, const struct process_spec *spec, char error[256])
{
    char path[4096];
    const char *step = "fork";
    const struct leaf *leaf = spec->beside ? spec->beside->leaf : process->leaf;
    if (!spawn_find(spec->argv[0], spec->env, path, sizeof path)) {
        snprintf(error, 256, "%.150s: not found on PATH", spec->argv[0]);
        return ENOENT;
    }
    struct numbers numbers;
    const char **env = extend_environment(spec, process->token, &numbers);
    if (!env) {
        snprintf(error, 256, "out of memory");
        return ENOMEM;
    }
    const struct spawn spawn = {.pads = &process->owner->pads,
                                .path = path,
                                .argv = spec->argv,
                                .env = env,
                                .directory = spec->directory,
                                .attributes = spec->attributes,
                                .out = spec->out,
                                .err = spec->err,
                                .sockets = spec->sockets,
                                .socket_count = spec->socket_count,
                                .listen_pid = spec->socket_count
                                                  ? numbers.listen_pid + sizeof LISTEN_PID - 1
                                                  : NULL,
                                .channel = spec->channel,
                                .descriptors = &process->owner->descriptors,
                                .cgroup = leaf ? leaf_directory(leaf) : -1};
    bool outside = false;
    int failed = spawn_child(&spawn, &process->pid, &step, &outside);
    free(env);
    if (outside)
        process->leaf = NULL;
    if (!failed)
        return 0;
    if (process->pid > 0)
        waitpid(process->pid, NULL, 0);
    if (strncmp(step, "process.", 8) == 0)
        snprintf(error, 256, "%s: %s", step, strerror(failed));
    else
        say_step(spec, step, strcmp(step, "chdir") == 0 ? spec->directory : path, failed, error);
    return failed;
}

/* Its token is of a length that all have, so that one can be written over another.  Without a name
 * it has no leaf. */
static struct process *process_make(struct processes *processes, const char *name, void *context)
{
    struct process *process = calloc(1, sizeof *process);
    if (!process)
        return NULL;
    process->owner = processes;
    process->ops = processes->ops;
    process->context = context;
    snprintf(process->token, sizeof process->token, "HASUP_WORKER=%d.%010llu", (int)getpid(),
             (unsigned long long)++processes->count);
    if (processes->cgroups && name)
        process->leaf = leaf_get(processes->cgroups, name);
    return process;
}

int process_spawn(struct processes *processes, const struct process_spec *spec,
                  struct process **out, char error[256])
{
    struct process *process = process_make(processes, spec->name, spec->context);
    if (!process) {
        snprintf(error, 256, "out of memory");
        errno = ENOMEM;
        return HASUP_ESYS;
    }
    if (spec->ops)
        process->ops = spec->ops;
    process->guest = spec->beside && spec->beside->leaf;
    note_oom(process);
    int failed = process_start(process, spec, error);
    if (failed) {
        free(process);
        errno = failed;
        return HASUP_ESYS;
    }
    process_list(process);
    *out = process;
    return 0;
}

/* ---- forked by others ---- */

struct process *process_await(struct processes *processes, const char *name, void *context,
                              const char **token)
{
    struct process *process = process_make(processes, name, context);
    if (process)
        *token = process->token;
    return process;
}

/* The pid that a pidfd stands for, where that is a child of hasupd's that is not reaped; else 0. */
static pid_t child_of(int pidfd)
{
    char path[64], line[128];
    siginfo_t info;
    int pid = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", pidfd);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "Pid: %d", &pid) == 1)
            break;
    if (file)
        fclose(file);
    if (pid <= 0 || waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG | WNOWAIT))
        return 0;
    return pid;
}

int process_adopt(struct process *process, int pidfd, char error[256])
{
    struct processes *processes = process->owner;
    pid_t pid = child_of(pidfd);
    if (!pid || process_by_pid(processes, pid)) {
        snprintf(error, 256, "what was forked is no child of hasupd, or is gone already");
        return HASUP_EPROTO;
    }
    note_oom(process);
    process->pid = pid;
    if (process->leaf && !leaf_enter(process->leaf, pid))
        process->leaf = NULL;
    process_list(process);
    return 0;
}

void process_forsake(struct process *process)
{
    free(process);
}

void process_kill_stray(struct processes *processes, int pidfd)
{
    pid_t pid = child_of(pidfd);
    if (pid && !process_by_pid(processes, pid))
        kill(pid, SIGKILL); /* not reaped: the number is its own */
}

void processes_forget(struct processes *processes, const char *name)
{
    if (processes->cgroups)
        leaf_remove(processes->cgroups, name);
}

void *process_context(const struct process *process)
{
    return process->context;
}

pid_t process_pid(const struct process *process)
{
    return process->pid;
}

uint64_t process_memory(const struct process *process)
{
    oom_look(&process->owner->oom, loop_now(process->owner->loop));
    return process->reaped ? 0 : memory_of_tree(process->leaf, process->pid);
}

void process_signal(struct process *process, int signo)
{
    if (!process->reaped && process->pid)
        kill(process->pid, signo);
}

void process_kill_tree(struct process *process)
{
    if (process->leaf) {
        leaf_kill(process->leaf);
    } else {
        if (!process->reaped)
            kill(process->pid, SIGKILL);
        group_kill(process);
    }
}

void process_abandon(struct process *process)
{
    process->ops = &UNHEARD;
    process_kill_tree(process);
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

void process_carry(struct carry *carry, struct processes *processes, struct process **out,
                   void *context)
{
    CARRY(carry);
    struct process *process = *out;
    bool there = process;
    V(there);
    if (!there)
        return;
    if (codec->loading) {
        process = *out = calloc(1, sizeof *process);
        if (!process) {
            codec_fail(codec);
            return;
        }
        process->owner = processes;
        process->ops = processes->ops;
        process->context = context;
    }
    V(process->pid);
    leaf_carry(carry, processes->cgroups, &process->leaf);
    V(process->oom_kills);
    carry_text(carry, process->token, sizeof process->token);
    V(process->reaped);
    V(process->group_gone);
    V(process->doubts);
    if (codec->loading)
        process_list(process);
}

void processes_look(struct processes *processes)
{
    reap(processes);
}
