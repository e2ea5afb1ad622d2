/*
 * durable.c: requests that outlive hasupd, beside the minimal loop with a journal and beside
 * servers of durable jobs, all on the same file system.
 *
 * Two kinds.  Nobody can come back for a request without a key (`journal: always`): the loop that
 * makes one commit for it does the same.  The answer of one with an idempotency key is stored
 * before it is told: beside it stands the loop that commits twice, and the first one, too, for what
 * the promise costs.  hasup keeps those answers for their time to live, the loop deletes them.
 */
#include "bench/bench.h"

#include "ipc/frame.h"

#include <stdio.h>

enum { BODY = 256, MESSAGE_ROOM = 1024, DURABLE_ROUNDS = 7, HTTP_ROUNDS = 5, SIDES = 6 };

static const hasup_ns SPAN = 300 * HASUP_MS;

enum side_kind { HASUP_ALWAYS, HASUP_KEYS, LOOP_ONE, LOOP_TWO, BEANSTALKD, REDIS };

struct side {
    struct load load;          /* of the first four */
    struct queue_server queue; /* of the others */
    bool here;
    struct figure rate, p50, p99; /* thousands a second, milliseconds */
};

struct bench {
    struct daemon daemon;
    struct floor floors[2];
    pid_t loops[2];
    uint8_t always[MESSAGE_ROOM], keys[MESSAGE_ROOM], small[FLOOR_HEADER + BODY];
    struct side sides[SIDES];
    struct latency latency;
};

static void start_daemon(struct daemon *daemon, bool http)
{
    char models[1024];
    snprintf(models, sizeof models,
             "  always:\n    command: [%s/examples/echo]\n    journal: always\n"
             "  keys:\n    command: [%s/examples/echo]\n",
             bench_build(), bench_build());
    daemon_start(daemon, models, "always", http);
}

static void start_loops(struct bench *bench)
{
    for (unsigned i = 0; i < HASUP_LEN(bench->floors); i++) {
        struct floor *floor = &bench->floors[i];
        floor->commits = i + 1;
        snprintf(floor->path, sizeof floor->path, "%s/loop%u", bench_directory(), i + 1);
        bench->loops[i] = child_fork(floor_minimal, floor);
        bench->sides[LOOP_ONE + i] = (struct side){.here = true,
                                                   .load = {.path = floor->path,
                                                            .message = bench->small,
                                                            .message_len = sizeof bench->small,
                                                            .id_at = 8,
                                                            .reply_len = sizeof bench->small}};
    }
    hasup_put32(bench->small, BODY);
}

static struct side hasup_side(const struct daemon *daemon, const char *model, uint8_t *frame,
                              bool keys)
{
    struct side side = {.here = true,
                        .load = {.path = daemon->socket,
                                 .message = frame,
                                 .id_at = 8,
                                 .reply_len = HASUP_FRAME_HEADER + BODY,
                                 .good = load_frame_good}};
    side.load.message_len =
        load_frame(frame, model, BODY, HASUP_TAG_IDEMPOTENCY_KEY, keys ? &side.load.key_at : NULL);
    return side;
}

static void start(struct bench *bench)
{
    start_loops(bench);
    start_daemon(&bench->daemon, false);
    bench->sides[HASUP_ALWAYS] = hasup_side(&bench->daemon, "always", bench->always, false);
    bench->sides[HASUP_KEYS] = hasup_side(&bench->daemon, "keys", bench->keys, true);
    bench->sides[BEANSTALKD].here = queue_start_beanstalkd(&bench->sides[BEANSTALKD].queue);
    bench->sides[REDIS].here = queue_start_redis(&bench->sides[REDIS].queue);
}

static void stop(struct bench *bench)
{
    daemon_stop(&bench->daemon);
    for (unsigned i = 0; i < HASUP_LEN(bench->loops); i++)
        child_stop(bench->loops[i]);
    for (unsigned i = BEANSTALKD; i < SIDES; i++)
        if (bench->sides[i].here)
            queue_stop(&bench->sides[i].queue);
    latency_free(&bench->latency);
}

static void run_side(struct bench *bench, struct side *side, unsigned connections)
{
    struct latency *latency = &bench->latency;
    double rate;
    if (side->queue.script) {
        rate = queue_run(&side->queue, connections, SPAN, latency);
    } else {
        side->load.connections = connections;
        side->load.depth = 1;
        side->load.span = SPAN;
        side->load.latency = latency;
        rate = load_run(&side->load);
    }
    figure_add(&side->rate, rate / 1e3);
    figure_add(&side->p50, latency_at_us(latency, 0.5) / 1e3);
    figure_add(&side->p99, latency_at_us(latency, 0.99) / 1e3);
}

/* ---- rows ---- */

static void rate_row(const struct bench *bench, unsigned connections, enum side_kind own,
                     enum side_kind other, const char *beside, double limit)
{
    char what[64];
    snprintf(what, sizeof what, "%s 256 B, %u connections", own == HASUP_KEYS ? "keys" : "durable",
             connections);
    if (bench->sides[other].here)
        report_row(&(struct row){.what = what,
                                 .unit = "k/s",
                                 .hasup = &bench->sides[own].rate,
                                 .beside = beside,
                                 .other = &bench->sides[other].rate,
                                 .aim = limit > 0 ? AIM_AT_LEAST : AIM_NONE,
                                 .limit = limit});
}

static void latency_rows(const struct bench *bench, unsigned connections, double p99_limit)
{
    static const struct {
        enum side_kind own, other;
        const char *what, *beside;
    } ROWS[] = {{HASUP_ALWAYS, LOOP_ONE, "durable", "one-commit loop"},
                {HASUP_KEYS, LOOP_TWO, "keys", "two-commit loop"}};
    for (size_t i = 0; i < HASUP_LEN(ROWS); i++) {
        const struct side *own = &bench->sides[ROWS[i].own], *other = &bench->sides[ROWS[i].other];
        char what[64];
        snprintf(what, sizeof what, "  p50, %s, %u connections", ROWS[i].what, connections);
        report_row(&(struct row){.what = what,
                                 .unit = "ms",
                                 .hasup = &own->p50,
                                 .beside = ROWS[i].beside,
                                 .other = &other->p50});
        snprintf(what, sizeof what, "  p99, %s, %u connections", ROWS[i].what, connections);
        report_row(&(struct row){.what = what,
                                 .unit = "ms",
                                 .hasup = &own->p99,
                                 .beside = ROWS[i].beside,
                                 .other = &other->p99,
                                 .aim = p99_limit > 0 ? AIM_AT_MOST : AIM_NONE,
                                 .limit = p99_limit,
                                 .absolute = true});
    }
}

static void run_frames(struct bench *bench)
{
    static const struct {
        unsigned connections;
        double beanstalkd, redis, p99_ms; /* aims */
    } RUNS[] = {{1, 1.2, 2, 0}, {16, 7, 2.5, 0}, {64, 20, 3.5, 2}};
    for (size_t r = 0; r < HASUP_LEN(RUNS); r++) {
        unsigned connections = RUNS[r].connections;
        for (unsigned s = 0; s < SIDES; s++)
            bench->sides[s].rate.count = bench->sides[s].p50.count = bench->sides[s].p99.count = 0;
        for (unsigned i = 0; i < DURABLE_ROUNDS; i++)
            for (unsigned s = 0; s < SIDES; s++)
                if (bench->sides[s].here)
                    run_side(bench, &bench->sides[s], connections);
        rate_row(bench, connections, HASUP_ALWAYS, LOOP_ONE, "one-commit loop", 0.7);
        rate_row(bench, connections, HASUP_ALWAYS, BEANSTALKD, "beanstalkd -f0",
                 RUNS[r].beanstalkd);
        rate_row(bench, connections, HASUP_ALWAYS, REDIS, "Redis Streams", RUNS[r].redis);
        rate_row(bench, connections, HASUP_KEYS, LOOP_TWO, "two-commit loop", 0.7);
        rate_row(bench, connections, HASUP_KEYS, LOOP_ONE, "one-commit loop", 0);
        latency_rows(bench, connections, RUNS[r].p99_ms);
    }
}

static void run_http(void)
{
    static const unsigned CONNECTIONS[] = {16, 64};
    struct floor floor = {.commits = 1, .http_port = bench_free_port()};
    struct daemon daemon;
    if (!bench_installed("wrk", "no HTTP figures"))
        return;
    snprintf(floor.path, sizeof floor.path, "%s/loop-http", bench_directory());
    pid_t loop = child_fork(floor_minimal, &floor);
    start_daemon(&daemon, true);
    for (size_t c = 0; c < HASUP_LEN(CONNECTIONS); c++) {
        struct figure own = {0}, other = {0};
        char what[64];
        for (unsigned i = 0; i < HTTP_ROUNDS; i++) {
            figure_add(&own, wrk_run("hasup", daemon.http_port, "/models/always/invoke", "post.lua",
                                     CONNECTIONS[c]));
            figure_add(&other,
                       wrk_run("the loop", floor.http_port, "/", "post.lua", CONNECTIONS[c]));
        }
        snprintf(what, sizeof what, "durable HTTP, %u connections", CONNECTIONS[c]);
        report_row(&(struct row){.what = what,
                                 .unit = "k/s",
                                 .hasup = &own,
                                 .beside = "one-commit HTTP loop",
                                 .other = &other,
                                 .aim = AIM_AT_LEAST,
                                 .limit = 0.75});
    }
    daemon_stop(&daemon);
    child_stop(loop);
}

void part_durable(void)
{
    static struct bench bench;
    start(&bench);
    run_frames(&bench);
    stop(&bench);
    run_http();
}
