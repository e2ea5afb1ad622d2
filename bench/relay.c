/*
 * relay.c: 128 bytes through hasupd to an echo worker and back, against the bare libev relay; and
 * volatile requests of many clients, against the minimal loop that does the same job.
 */
#include "bench/bench.h"

#include "ipc/frame.h"

#include <stdio.h>

enum { RELAY_BODY = 128, REQUEST_BODY = 256, MESSAGE_ROOM = 1024 };

static const hasup_ns SPAN = 300 * HASUP_MS;

static void start_echo(struct daemon *daemon)
{
    char models[512];
    snprintf(models, sizeof models, "  echo:\n    command: [%s/examples/echo]\n", bench_build());
    daemon_start(daemon, models, "echo", false);
}

/* Both in turn; `inverse`: microseconds a message instead of messages a second. */
static void run_both(const struct load *hasup, const struct load *floor, bool inverse,
                     struct figure *own, struct figure *other)
{
    for (int i = 0; i < ROUNDS; i++) {
        double a = load_run(hasup), b = load_run(floor);
        figure_add(own, inverse ? 1e6 / a : a / 1e3);
        figure_add(other, inverse ? 1e6 / b : b / 1e3);
    }
}

void part_relay(void)
{
    static const struct {
        unsigned depth;
        const char *what;
        enum aim aim;
        double limit;
    } RUNS[] = {{1, "relay 128 B, depth 1, latency", AIM_AT_MOST, 1.5},
                {16, "relay 128 B, depth 16", AIM_AT_LEAST, 0.7},
                {128, "relay 128 B, depth 128", AIM_AT_LEAST, 0.6}};
    uint8_t frame[MESSAGE_ROOM], small[FLOOR_HEADER + RELAY_BODY] = {0};
    struct daemon daemon;
    struct floor floor = {0};
    snprintf(floor.path, sizeof floor.path, "%s/relay.sock", bench_directory());
    pid_t relay = child_fork(floor_relay, &floor);
    start_echo(&daemon);
    struct load own = {.path = daemon.socket,
                       .connections = 1,
                       .span = SPAN,
                       .message = frame,
                       .message_len = load_frame(frame, "echo", RELAY_BODY, 0, NULL),
                       .id_at = 8,
                       .reply_len = HASUP_FRAME_HEADER + RELAY_BODY,
                       .good = load_frame_good};
    struct load bare = {.path = floor.path,
                        .connections = 1,
                        .span = SPAN,
                        .message = small,
                        .message_len = sizeof small,
                        .id_at = 8,
                        .reply_len = sizeof small};
    hasup_put32(small, RELAY_BODY);
    for (size_t i = 0; i < HASUP_LEN(RUNS); i++) {
        struct figure a = {0}, b = {0};
        own.depth = bare.depth = RUNS[i].depth;
        run_both(&own, &bare, RUNS[i].depth == 1, &a, &b);
        report_row(&(struct row){.what = RUNS[i].what,
                                 .unit = RUNS[i].depth == 1 ? "us" : "k/s",
                                 .hasup = &a,
                                 .beside = "bare libev relay",
                                 .other = &b,
                                 .aim = RUNS[i].aim,
                                 .limit = RUNS[i].limit});
    }
    daemon_stop(&daemon);
    child_stop(relay);
}

void part_requests(void)
{
    static const unsigned CONNECTIONS[] = {1, 16, 64};
    uint8_t frame[MESSAGE_ROOM], small[FLOOR_HEADER + REQUEST_BODY] = {0};
    struct daemon daemon;
    struct floor floor = {0};
    snprintf(floor.path, sizeof floor.path, "%s/minimal.sock", bench_directory());
    pid_t minimal = child_fork(floor_minimal, &floor);
    start_echo(&daemon);
    hasup_put32(small, REQUEST_BODY);
    struct load own = {.path = daemon.socket,
                       .depth = 1,
                       .span = SPAN,
                       .message = frame,
                       .message_len = load_frame(frame, "echo", REQUEST_BODY, 0, NULL),
                       .id_at = 8,
                       .reply_len = HASUP_FRAME_HEADER + REQUEST_BODY,
                       .good = load_frame_good};
    struct load bare = {.path = floor.path,
                        .depth = 1,
                        .span = SPAN,
                        .message = small,
                        .message_len = sizeof small,
                        .id_at = 8,
                        .reply_len = sizeof small};
    for (size_t i = 0; i < HASUP_LEN(CONNECTIONS); i++) {
        struct figure a = {0}, b = {0};
        char what[64];
        own.connections = bare.connections = CONNECTIONS[i];
        run_both(&own, &bare, false, &a, &b);
        snprintf(what, sizeof what, "volatile 256 B, %u connections", CONNECTIONS[i]);
        report_row(&(struct row){.what = what,
                                 .unit = "k/s",
                                 .hasup = &a,
                                 .beside = "minimal loop",
                                 .other = &b,
                                 .aim = AIM_AT_LEAST,
                                 .limit = 0.6});
    }
    daemon_stop(&daemon);
    child_stop(minimal);
}
