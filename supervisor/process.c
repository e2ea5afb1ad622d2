/*
 * process.c: one process: started here, with its environment and what it is passed, or forked by a
 * zygote and adopted; signalled, killed, given up.  What cannot be started is said with the step
 * that failed.
 */
#include "supervisor/process_own.h"

#include "supervisor/carry.h"
#include "supervisor/interpreter.h"
#include "supervisor/memory.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- started ---- */

#define LISTEN_PID "LISTEN_PID="

/* Variables that are made for one start; the pid is written by the child. */
struct numbers {
    char channel[32], listen_pid[sizeof LISTEN_PID + SPAWN_PID_ROOM];
};

/* What a process has of hasupd, and not of who started hasupd. */
static const char *const OWN[] = {"HASUP_FD", "HASUP_READY_FD", "HASUP_WORKER"};

static bool is_own(const char *variable)
{
    for (size_t i = 0; i < HASUP_LEN(OWN); i++)
        if (strncmp(variable, OWN[i], strlen(OWN[i])) == 0 && variable[strlen(OWN[i])] == '=')
            return true;
    return false;
}

/* The environment with the channel's variable, HASUP_WORKER and LISTEN_PID; NULL: no memory. */
static const char **extend_environment(const struct process_spec *spec, const char *token,
                                       struct numbers *numbers)
{
    size_t count = 0, used = 0;
    while (spec->env[count])
        count++;
    const char **env = calloc(count + 4, sizeof *env);
    if (!env)
        return NULL;
    snprintf(numbers->channel, sizeof numbers->channel, "%s=%u",
             spec->channel_name ? spec->channel_name : OWN[0], SPAWN_FD + spec->socket_count);
    snprintf(numbers->listen_pid, sizeof numbers->listen_pid, LISTEN_PID);
    if (spec->channel >= 0)
        env[used++] = numbers->channel;
    if (spec->socket_count)
        env[used++] = numbers->listen_pid;
    env[used++] = token;
    for (size_t i = 0; i < count; i++)
        if (!is_own(spec->env[i]))
            env[used++] = spec->env[i];
    return env;
}

/* What could not be done with a path, and whether only the process itself does not see it. */
static void say_step(const struct process_spec *spec, const char *step, const char *path,
                     int failed, char error[256])
{
    const bool hidden = failed == ENOENT && spec->attributes && spec->attributes->tmp[0] &&
                        attributes_tmp_hides(path);
    char name[INTERPRETER_NAME];
    if (failed == ENOENT && strcmp(step, "exec") == 0 && interpreter_missing(path, name))
        snprintf(error, 256, "%s %.80s: its interpreter %.80s: %s", step, path, name,
                 strerror(failed));
    else
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

/* ---- spoken to ---- */

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

const struct process_ops PROCESS_UNHEARD = {.exited = unheard_exit, .tree_empty = unheard_end};

void process_abandon(struct process *process)
{
    process->ops = &PROCESS_UNHEARD;
    process_kill_tree(process);
}

/* ---- to another hasupd ---- */

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
    leaf_carry(carry, &process->leaf);
    V(process->oom_kills);
    carry_text(carry, process->token, sizeof process->token);
    V(process->reaped);
    V(process->group_gone);
    V(process->doubts);
    if (codec->loading)
        process_list(process);
}
