/*
 * child.c: processes that the bench starts.  Each leads a group of its own, so that what it forks
 * ends with it, and dies when the bench does.  Time and failure stand here too.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STOP_TRIES = 3000 };

hasup_ns bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

void bench_pause(hasup_ns span)
{
    poll(NULL, 0, (int)(span / HASUP_MS));
}

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1); /* its children die with it */
}

static void begin(pid_t bench)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != bench)
        _exit(1);
}

pid_t child_fork(void (*run)(void *context), void *context)
{
    pid_t bench = getpid(), pid = fork();
    if (pid < 0)
        bench_fail("fork: %s", strerror(errno));
    if (pid == 0) {
        begin(bench);
        run(context);
        _exit(0);
    }
    setpgid(pid, pid);
    return pid;
}

static void run_program(void *context)
{
    const char *const *argv = context;
    char path[BENCH_PATH + 16];
    snprintf(path, sizeof path, "%s/log", bench_directory());
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

pid_t child_start(const char *const *argv)
{
    return child_fork(run_program, (void *)(uintptr_t)argv);
}

void child_stop(pid_t pid)
{
    kill(pid, SIGTERM);
    for (int i = 0; i < STOP_TRIES && waitpid(pid, NULL, WNOHANG) == 0; i++)
        bench_pause(HASUP_MS);
    child_kill(pid);
}

void child_kill(pid_t pid)
{
    kill(-pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}
