/*
 * spares.c: what spares and zygotes are for.  kill -9 to the next answer: of a worker with a spare
 * beside it, and of one whose model is 1 GiB and loaded in a zygote, beside one that loads it
 * again. And what 8 workers of such a model hold together, their zygote included.
 */
#include "bench/bench.h"

#include "client/hasup_client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SPARE_KILLS = 50, FORK_KILLS = 9, ASK_MS = 60000, MIB = 1024, SHARERS = 8 };

static const hasup_ns SETTLE = 100 * HASUP_MS; /* the next spare is loaded, or what died is freed */

struct bench_world {
    struct daemon daemon;
    struct hasup_client *client;
};

static void world_open(struct bench_world *world, const char *options, unsigned mib)
{
    char models[512], error[256];
    snprintf(models, sizeof models,
             "  held:\n    command: [%s/held]\n    environment: {BENCH_MIB: \"%u\"}\n"
             "    restart: {start_limit: 1000, backoff_max: 100ms}\n%s",
             bench_tools(), mib, options);
    daemon_start(&world->daemon, models, "held", false);
    world->client = hasup_client_open(world->daemon.socket, error);
    if (!world->client)
        bench_fail("%s", error);
}

static void world_close(struct bench_world *world)
{
    hasup_client_close(world->client);
    daemon_stop(&world->daemon);
}

/* The pid of who answered. */
static pid_t ask(struct bench_world *world)
{
    const struct hasup_client_request request = {.model = "held", .body = "x", .len = 1};
    struct hasup_client_answer answer;
    char text[16] = "";
    uint64_t id;
    if (hasup_client_submit(world->client, &request, &id) ||
        hasup_client_wait(world->client, ASK_MS, &answer) != 1 || answer.status != 200)
        bench_fail("the killed worker's request was not answered");
    memcpy(text, answer.body, answer.len < sizeof text - 1 ? answer.len : sizeof text - 1);
    return (pid_t)atoi(text);
}

static void measure_kills(const char *options, unsigned mib, unsigned kills, struct figure *took)
{
    struct bench_world world;
    world_open(&world, options, mib);
    for (unsigned i = 0; i < kills; i++) {
        bench_pause(SETTLE);
        pid_t pid = ask(&world); /* the run is healthy then */
        hasup_ns killed = bench_now();
        kill(pid, SIGKILL);
        if (ask(&world) == pid)
            bench_fail("who was killed answered");
        figure_add(took, (double)(bench_now() - killed) / 1e6);
    }
    world_close(&world);
}

/* ---- memory ---- */

/* Of all children of hasupd; how many they are. */
static unsigned children_pss(pid_t daemon, double *gib)
{
    char path[64];
    unsigned count = 0;
    int pid;
    *gib = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)daemon, (int)daemon);
    FILE *file = fopen(path, "re");
    for (; file && fscanf(file, "%d", &pid) == 1; count++)
        *gib += bench_pss_kib(pid) / 1024 / 1024;
    if (file)
        fclose(file);
    return count;
}

static void measure_memory(struct figure *gib)
{
    struct bench_world world;
    char options[64];
    double sum;
    snprintf(options, sizeof options, "    preload: true\n    workers: %d\n", SHARERS);
    world_open(&world, options, MIB);
    for (int i = 0; i < 3; i++) {
        unsigned count, tries = 0;
        while ((count = children_pss(world.daemon.pid, &sum)) != SHARERS + 1 && tries++ < 100)
            bench_pause(SETTLE);
        if (count != SHARERS + 1)
            bench_fail("%u children, where a zygote and %d workers should be", count, SHARERS);
        for (int k = 0; k < 4 * SHARERS; k++)
            ask(&world); /* they work */
        figure_add(gib, sum);
    }
    world_close(&world);
}

void part_spares(void)
{
    struct figure spare = {0}, forked = {0}, loaded = {0}, gib = {0};
    measure_kills("    spares: 1\n", 0, SPARE_KILLS, &spare);
    measure_kills("    preload: true\n", MIB, FORK_KILLS, &forked);
    measure_kills("", MIB, FORK_KILLS, &loaded);
    measure_memory(&gib);
    report_row(&(struct row){.what = "kill -9 to answered, with a spare",
                             .unit = "ms",
                             .hasup = &spare,
                             .aim = AIM_AT_MOST,
                             .limit = 2,
                             .absolute = true});
    report_row(&(struct row){.what = "kill -9 to answered, 1 GiB, zygote",
                             .unit = "ms",
                             .hasup = &forked,
                             .beside = "loaded again",
                             .other = &loaded,
                             .aim = AIM_AT_MOST,
                             .limit = 60,
                             .absolute = true});
    report_row(&(struct row){.what = "PSS, 8 workers of 1 GiB and zygote",
                             .unit = "GiB",
                             .hasup = &gib,
                             .aim = AIM_AT_MOST,
                             .limit = 1.3,
                             .absolute = true});
}
