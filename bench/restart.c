/*
 * restart.c: kill -9 to the first instruction of the replacement, hasupd against a bare loop of
 * pidfd, waitpid and posix_spawn, with the same program; and kill -9 to the answer of a request
 * that was sent right after it, which is at least the time to ready.
 */
#include "bench/bench.h"

#include "client/hasup_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 100, ANSWER_MS = 10000 };

/* ---- the floor ---- */

static void respawn_loop(void *context)
{
    char *argv[] = {context, NULL};
    extern char **environ;
    for (;;) {
        pid_t pid;
        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
            _exit(1);
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        struct pollfd poller = {.fd = pidfd, .events = POLLIN};
        poll(&poller, 1, -1);
        close(pidfd);
        waitpid(pid, NULL, 0);
    }
}

/* ---- one kill ---- */

/* Milliseconds from the kill to the first instruction; `pid` becomes the replacement's. */
static double kill_one(const struct notes *notes, pid_t *pid, hasup_ns *killed)
{
    *killed = bench_now();
    kill(*pid, SIGKILL);
    struct note note = notes_read(notes);
    *pid = (pid_t)note.pid;
    return (double)(note.at_ns - *killed) / 1e6;
}

/* A run that answered is healthy: its end is followed by an immediate restart.  The request before
 * makes it so; the one after the kill waits for the replacement. */
static void ask(struct hasup_client *client)
{
    const struct hasup_client_request request = {.model = "first", .body = "x", .len = 1};
    struct hasup_client_answer answer;
    uint64_t id;
    if (hasup_client_submit(client, &request, &id) ||
        hasup_client_wait(client, ANSWER_MS, &answer) != 1 || answer.status != 200)
        bench_fail("the killed worker's request was not answered");
}

static double kill_hasup(const struct notes *notes, struct hasup_client *client, pid_t *pid,
                         double *answered_ms)
{
    hasup_ns killed;
    ask(client);
    double first = kill_one(notes, pid, &killed);
    ask(client);
    *answered_ms = (double)(bench_now() - killed) / 1e6;
    return first;
}

void part_restart(void)
{
    struct notes own, bare;
    struct daemon daemon;
    struct figure first = {0}, floor = {0}, ready = {0};
    char program[BENCH_PATH * 2], models[512], error[256];
    hasup_ns killed;
    snprintf(program, sizeof program, "%s/first", bench_tools());
    notes_open(&own, "own.notes");
    notes_open(&bare, "bare.notes");
    setenv("BENCH_NOTES", bare.path, 1);
    pid_t loop = child_fork(respawn_loop, program);
    pid_t bare_pid = (pid_t)notes_read(&bare).pid;
    setenv("BENCH_NOTES", own.path, 1);
    snprintf(models, sizeof models, "  first:\n    command: [%s]\n", program);
    daemon_start(&daemon, models, "first", false);
    pid_t own_pid = (pid_t)notes_read(&own).pid;
    struct hasup_client *client = hasup_client_open(daemon.socket, error);
    if (!client)
        bench_fail("%s", error);
    for (int i = 0; i < KILLS; i++) {
        double answered;
        figure_add(&first, kill_hasup(&own, client, &own_pid, &answered));
        figure_add(&ready, answered);
        figure_add(&floor, kill_one(&bare, &bare_pid, &killed));
    }
    report_row(&(struct row){.what = "kill -9 to first instruction",
                             .unit = "ms",
                             .hasup = &first,
                             .beside = "posix_spawn loop",
                             .other = &floor,
                             .aim = AIM_AT_MOST,
                             .limit = 1.33});
    report_row(&(struct row){.what = "kill -9 to ready and answered",
                             .unit = "ms",
                             .hasup = &ready,
                             .aim = AIM_AT_MOST,
                             .limit = 3,
                             .absolute = true});
    hasup_client_close(client);
    daemon_stop(&daemon);
    child_stop(loop);
}
