/*
 * upgrade.c: how long hasupd answers nothing while another takes its place, as it says itself, and
 * as a client sees it: the longest that a request takes meanwhile.  Under HTTP load, where a single
 * request that fails ends the bench; and with a thousand slots of a program.
 */
#include "bench/bench.h"

#include "client/hasup_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { UPGRADE_ROUNDS = 8, UPGRADES = 2, CONNECTIONS = 32, SLOTS = 1000, WAIT_MS = 60000 };

static const hasup_ns APART = 250 * HASUP_MS, SETTLE = 500 * HASUP_MS;

struct pauses {
    struct figure own, seen; /* ms */
};

/* ---- one upgrade ---- */

/* One request over a connection that stays. */
static void http_ask(int fd)
{
    static const char REQUEST[] = "POST /models/echo/invoke HTTP/1.1\r\nHost: bench\r\n"
                                  "Content-Length: 6\r\n\r\nupward";
    char answer[1024];
    size_t len = 0;
    socket_send(fd, REQUEST, sizeof REQUEST - 1);
    for (;;) {
        ssize_t got = recv(fd, answer + len, sizeof answer - 1 - len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            bench_fail("a client lost its connection in an upgrade");
        answer[len += (size_t)got] = '\0';
        const char *body = strstr(answer, "\r\n\r\n");
        if (body && strcmp(body + 4, "upward") == 0)
            break;
    }
    if (strncmp(answer, "HTTP/1.1 200 ", 13) != 0)
        bench_fail("a request failed in an upgrade: %s", answer);
}

/* What hasupd says that it took, in ms. */
static double pause_of(const struct hasup_client_answer *answer)
{
    static const char KEY[] = "\"pause_ms\":";
    char text[512];
    snprintf(text, sizeof text, "%.*s", (int)answer->len, (const char *)answer->body);
    const char *at = strstr(text, KEY);
    if (answer->status != 200 || !at)
        bench_fail("an upgrade failed: %s", text);
    return strtod(at + strlen(KEY), NULL);
}

/* `asking`: a connection that asks one thing after the other meanwhile; -1: none. */
static void upgrade(const struct daemon *daemon, int asking, struct pauses *pauses)
{
    char error[256];
    struct hasup_client_answer answer;
    uint64_t id;
    hasup_ns longest = 0;
    int got;
    struct hasup_client *client = hasup_client_open(daemon->socket, error);
    if (!client)
        bench_fail("%s", error);
    if (hasup_client_control(client, "{\"verb\":\"upgrade\"}", &id) || hasup_client_flush(client))
        bench_fail("hasupd does not take an upgrade");
    do {
        hasup_ns asked = bench_now();
        if (asking >= 0)
            http_ask(asking);
        hasup_ns took = bench_now() - asked;
        longest = took > longest ? took : longest;
        got = hasup_client_wait(client, asking >= 0 ? 0 : WAIT_MS, &answer);
    } while (got == 0 && asking >= 0);
    if (got != 1)
        bench_fail("hasupd does not answer an upgrade");
    figure_add(&pauses->own, pause_of(&answer));
    figure_add(&pauses->seen, (double)longest / HASUP_MS);
    hasup_client_close(client);
}

/* ---- under load ---- */

static void load(void *context)
{
    const struct daemon *daemon = context;
    wrk_run("hasup", daemon->http_port, "/models/echo/invoke", "post.lua", CONNECTIONS);
}

static void round_under_load(struct daemon *daemon, struct pauses *pauses)
{
    int how, asking = tcp_connect(daemon->http_port);
    pid_t wrk = child_fork(load, daemon);
    for (unsigned i = 0; i < UPGRADES; i++) {
        bench_pause(APART);
        upgrade(daemon, asking, pauses);
    }
    if (waitpid(wrk, &how, 0) != wrk || how)
        bench_fail("a request failed while hasupd was replaced");
    close(asking);
}

static void under_load(struct pauses *pauses)
{
    struct daemon daemon;
    char models[512];
    if (!bench_installed("wrk", "no upgrade under load"))
        return;
    snprintf(models, sizeof models, "  echo:\n    command: [%s/examples/echo]\n    workers: 2\n",
             bench_build());
    daemon_start(&daemon, models, "echo", true);
    for (unsigned i = 0; i < UPGRADE_ROUNDS; i++)
        round_under_load(&daemon, pauses);
    daemon_stop(&daemon);
}

/* ---- a thousand slots ---- */

static void with_slots(struct pauses *pauses)
{
    struct daemon daemon;
    struct notes notes;
    char programs[512];
    notes_open(&notes, "upgrade.notes");
    setenv("BENCH_NOTES", notes.path, 1);
    snprintf(programs, sizeof programs,
             "programs: {first: {command: [%s/first], slots: %d}}\nlimits: {slots: %d}\n",
             bench_tools(), SLOTS, SLOTS + 100);
    daemon_start(&daemon, programs, NULL, false);
    unsetenv("BENCH_NOTES");
    for (unsigned i = 0; i < SLOTS; i++)
        (void)notes_read(&notes);
    for (unsigned i = 0; i < UPGRADE_ROUNDS * UPGRADES; i++) {
        bench_pause(SETTLE);
        upgrade(&daemon, -1, pauses);
    }
    daemon_stop(&daemon);
}

/* ---- the part ---- */

static void row(const char *what, const struct figure *ms)
{
    if (ms->count)
        report_row(&(struct row){.what = what,
                                 .unit = "ms",
                                 .hasup = ms,
                                 .aim = AIM_AT_MOST,
                                 .limit = 50,
                                 .absolute = true});
}

void part_upgrade(void)
{
    static struct pauses loaded, slots;
    under_load(&loaded);
    with_slots(&slots);
    row("upgrade under load: pause", &loaded.own);
    row("upgrade under load: longest request", &loaded.seen);
    row("upgrade with 1,000 slots: pause", &slots.own);
}
