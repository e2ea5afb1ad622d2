/*
 * slots.c: a program with a thousand slots in one hasupd: from its start until the last of them
 * runs, beside a bare loop of posix_spawn and the supervisors of Debian with the same program; how
 * long hasupctl status takes then, what hasupd holds (s6 and runit with the processes that watch
 * one service each), and how often it wakes while nothing happens.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOTS = 1000, SIDES_ROUNDS = 3, ASKED = 21 };

static const hasup_ns SETTLE = 500 * HASUP_MS, IDLE = 2 * HASUP_S;

extern char **environ;

static char program[BENCH_PATH * 2]; /* notes its first instruction and waits */
static pid_t pids[SLOTS];            /* of those that run */

/* Milliseconds from `begun` until the last one's first instruction. */
static double all_started(const struct notes *notes, hasup_ns begun)
{
    int64_t last = begun;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct note note = notes_read(notes);
        pids[i] = (pid_t)note.pid;
        last = note.at_ns > last ? note.at_ns : last;
    }
    return (double)(last - begun) / 1e6;
}

/* ---- the floor ---- */

static void spawn_all(void *context)
{
    char *argv[] = {context, NULL};
    for (unsigned i = 0; i < SLOTS; i++) {
        pid_t pid;
        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ))
            _exit(1);
    }
    for (;;)
        pause();
}

static double floor_start(const struct notes *notes)
{
    hasup_ns begun = bench_now();
    pid_t pid = child_fork(spawn_all, program);
    double took = all_started(notes, begun);
    child_kill(pid);
    return took;
}

/* ---- the peers ---- */

struct peer {
    const char *name, *server;
    bool watchers; /* each service has a process that watches it */
    int stop;      /* the signal that ends it with all of them */
    bool there;
    struct figure ms, mib;
};

enum { S6, RUNIT, SUPERVISORD };

static struct peer peers[] = {
    [S6] = {.name = "s6", .server = "s6-svscan", .watchers = true, .stop = SIGTERM},
    [RUNIT] = {.name = "runit", .server = "runsvdir", .watchers = true, .stop = SIGHUP},
    [SUPERVISORD] = {.name = "supervisord", .server = "supervisord", .stop = SIGTERM},
};

static void place_of(char path[BENCH_PATH * 2])
{
    snprintf(path, BENCH_PATH * 2, "%s/peer", bench_directory());
}

/* What s6 and runit want: a directory for each service, with the program as `run`. */
static void services_make(const char *place)
{
    char path[BENCH_PATH * 3];
    for (unsigned i = 0; i < SLOTS; i++) {
        snprintf(path, sizeof path, "%s/%04u", place, i);
        int failed = mkdir(path, 0700);
        snprintf(path, sizeof path, "%s/%04u/run", place, i);
        if (failed || symlink(program, path))
            bench_fail("%s: %s", path, strerror(errno));
    }
}

static void supervisord_configure(const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        bench_fail("%s: %s", path, strerror(errno));
    fprintf(file,
            "[supervisord]\nnodaemon=true\nminfds=8000\nlogfile=/dev/null\nlogfile_maxbytes=0\n"
            "pidfile=%s.pid\nchildlogdir=%s\n[program:one]\ncommand=%s\nnumprocs=%d\n"
            "process_name=%%(process_num)04d\nstdout_logfile=NONE\nstderr_logfile=NONE\n",
            path, bench_directory(), program, SLOTS);
    fclose(file);
}

static pid_t peer_begin(const struct peer *peer, const char *place)
{
    char config[BENCH_PATH * 3], most[16];
    snprintf(config, sizeof config, "%s/supervisord.conf", place);
    snprintf(most, sizeof most, "%d", SLOTS);
    const char *s6[] = {peer->server, "-c", most, place, NULL};
    const char *runit[] = {peer->server, place, NULL};
    const char *supervisord[] = {peer->server, "-c", config, NULL};
    if (peer == &peers[SUPERVISORD])
        supervisord_configure(config);
    return child_start(peer == &peers[S6] ? s6 : peer == &peers[RUNIT] ? runit : supervisord);
}

static double children_kib(pid_t pid)
{
    char path[64];
    double sum = 0;
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%d", &child) == 1)
        sum += bench_pss_kib(child);
    if (file)
        fclose(file);
    return sum;
}

/* Whoever watches it is gone: so is it, at the latest now. */
static void services_end(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        kill(pids[i], SIGKILL);
}

static void peer_measure(struct peer *peer, const struct notes *notes)
{
    char place[BENCH_PATH * 2];
    place_of(place);
    mkdir(place, 0700);
    if (peer->watchers)
        services_make(place);
    hasup_ns begun = bench_now();
    pid_t pid = peer_begin(peer, place);
    figure_add(&peer->ms, all_started(notes, begun));
    bench_pause(SETTLE);
    double kib = bench_pss_kib(pid) + (peer->watchers ? children_kib(pid) : 0);
    figure_add(&peer->mib, kib / 1024);
    kill(pid, peer->stop);
    child_stop(pid);
    services_end();
    bench_remove(place);
}

/* ---- hasupd ---- */

static double ask_status(const char *socket)
{
    char path[BENCH_PATH * 2];
    snprintf(path, sizeof path, "%s/hasupctl", bench_build());
    char *argv[] = {path, (char *)"-s", (char *)(uintptr_t)socket, (char *)"status", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int how;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    hasup_ns begun = bench_now();
    if (posix_spawn(&pid, path, &actions, NULL, argv, environ) ||
        waitpid(pid, &how, 0) != pid || how)
        bench_fail("hasupctl status failed");
    posix_spawn_file_actions_destroy(&actions);
    return (double)(bench_now() - begun) / 1e6;
}

struct own {
    struct figure ms, status_ms, mib, wakes;
};

static void own_measure(struct own *own, const struct notes *notes)
{
    struct daemon daemon;
    char programs[512];
    snprintf(programs, sizeof programs,
             "programs: {first: {command: [%s], slots: %d}}\nlimits: {slots: %d}\n", program, SLOTS,
             SLOTS + 100);
    hasup_ns begun = bench_now();
    daemon_start(&daemon, programs, NULL, false);
    figure_add(&own->ms, all_started(notes, begun));
    bench_pause(SETTLE);
    struct figure status = {0};
    for (unsigned i = 0; i < ASKED; i++)
        figure_add(&status, ask_status(daemon.socket));
    figure_add(&own->status_ms, figure_at(&status, 0.5));
    bench_pause(SETTLE);
    long before = bench_wakes(daemon.pid);
    bench_pause(IDLE);
    figure_add(&own->wakes, (double)(bench_wakes(daemon.pid) - before) * 1e9 / (double)IDLE);
    figure_add(&own->mib, bench_pss_kib(daemon.pid) / 1024);
    daemon_stop(&daemon);
}

/* ---- the part ---- */

static void absolute_row(const char *what, const char *unit, const struct figure *own, double limit,
                         const char *beside, const struct figure *other)
{
    report_row(&(struct row){.what = what,
                             .unit = unit,
                             .hasup = own,
                             .beside = beside,
                             .other = other,
                             .aim = AIM_AT_MOST,
                             .limit = limit,
                             .absolute = true});
}

void part_slots(void)
{
    static struct own own;
    static struct figure floor;
    struct notes notes;
    for (size_t i = 0; i < HASUP_LEN(peers); i++)
        peers[i].there = bench_installed(peers[i].server, "nothing of it beside a thousand slots");
    snprintf(program, sizeof program, "%s/first", bench_tools());
    notes_open(&notes, "slots.notes");
    setenv("BENCH_NOTES", notes.path, 1);
    for (int round = 0; round < SIDES_ROUNDS; round++) {
        own_measure(&own, &notes);
        figure_add(&floor, floor_start(&notes));
        for (size_t i = 0; i < HASUP_LEN(peers); i++)
            if (peers[i].there)
                peer_measure(&peers[i], &notes);
    }
    unsetenv("BENCH_NOTES");
    absolute_row("1,000 slots: all started", "ms", &own.ms, 3000, "posix_spawn loop", &floor);
    for (size_t i = 0; i < HASUP_LEN(peers); i++)
        if (peers[i].there)
            absolute_row("1,000 slots: all started", "ms", &own.ms, 3000, peers[i].name,
                         &peers[i].ms);
    absolute_row("1,000 slots: hasupctl status", "ms", &own.status_ms, 50, NULL, NULL);
    absolute_row("1,000 slots: wake-ups idle", "/s", &own.wakes, 0, NULL, NULL);
    absolute_row("1,000 slots: PSS idle", "MiB", &own.mib, 12, NULL, NULL);
    for (size_t i = 0; i < HASUP_LEN(peers); i++)
        if (peers[i].there)
            absolute_row("1,000 slots: PSS idle", "MiB", &own.mib, 12, peers[i].name,
                         &peers[i].mib);
}
