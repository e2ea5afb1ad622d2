/*
 * serving.c: what the ways of serving cost or gain, beside the same without them: sessions that
 * stick to a slot, requests that share a batch, /v1 routed by the model in its body, and an HTTP
 * server behind the adapter beside the same server alone.
 */
#include "bench/bench.h"

#include "ipc/frame.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BODY = 256, PIXELS = 64, MESSAGE_ROOM = 1024, CONNECTIONS = 64, HTTP_ROUNDS = 5 };

static const hasup_ns SPAN = 300 * HASUP_MS;

/* Two kinds of the same request, one after the other in every round. */
struct pair {
    struct daemon daemon;
    uint8_t messages[2][MESSAGE_ROOM];
    struct load loads[2];
    struct figure rates[2];
};

static void pair_load(struct pair *pair, unsigned i, const char *model, size_t body_len,
                      enum hasup_tag number)
{
    struct load *load = &pair->loads[i];
    *load = (struct load){.path = pair->daemon.socket,
                          .connections = CONNECTIONS,
                          .depth = 1,
                          .span = SPAN,
                          .message = pair->messages[i],
                          .id_at = 8,
                          .good = load_frame_good};
    load->message_len =
        load_frame(pair->messages[i], model, body_len, number, number ? &load->key_at : NULL);
}

static void pair_run(struct pair *pair, const char *what, const char *beside, double limit)
{
    for (unsigned i = 0; i < 2; i++)
        pair->loads[i].reply_len = load_reply_len(&pair->loads[i]);
    for (int round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < 2; i++)
            figure_add(&pair->rates[i], load_run(&pair->loads[i]) / 1e3);
    report_row(&(struct row){.what = what,
                             .unit = "k/s",
                             .hasup = &pair->rates[0],
                             .beside = beside,
                             .other = &pair->rates[1],
                             .aim = AIM_AT_LEAST,
                             .limit = limit});
    daemon_stop(&pair->daemon);
}

/* A session of its own for every request, which is more than any client does. */
static void measure_sessions(void)
{
    struct pair pair = {0};
    char models[512];
    snprintf(models, sizeof models, "  echo:\n    command: [%s/examples/echo]\n    workers: 2\n",
             bench_build());
    daemon_start(&pair.daemon, models, "echo", false);
    pair_load(&pair, 0, "echo", BODY, HASUP_TAG_SESSION);
    pair_load(&pair, 1, "echo", BODY, 0);
    pair_run(&pair, "sessions 256 B, 64 connections", "no session", 0.8);
}

static void measure_batches(void)
{
    struct pair pair = {0};
    char models[512];
    snprintf(models, sizeof models,
             "  batched:\n    command: [%s/examples/digits]\n    batch: {max_batch: 32}\n"
             "  single:\n    command: [%s/examples/digits]\n    batch: {max_batch: 1}\n",
             bench_build(), bench_build());
    daemon_start(&pair.daemon, models, NULL, false);
    pair_load(&pair, 0, "batched", PIXELS, 0);
    pair_load(&pair, 1, "single", PIXELS, 0);
    for (unsigned i = 0; i < 2; i++)
        memset(pair.messages[i] + pair.loads[i].message_len - PIXELS, 3, PIXELS);
    pair_run(&pair, "digits in batches, 64 connections", "one by one", 1);
}

/* ---- HTTP ---- */

static void measure_v1(void)
{
    struct daemon daemon;
    struct figure routed = {0}, direct = {0};
    char models[512];
    snprintf(models, sizeof models, "  echo:\n    command: [%s/examples/echo]\n    workers: 2\n",
             bench_build());
    daemon_start(&daemon, models, "echo", true);
    for (int i = 0; i < HTTP_ROUNDS; i++) {
        figure_add(&routed, wrk_run("hasup", daemon.http_port, "/v1/completions", "completion.lua",
                                    CONNECTIONS));
        figure_add(&direct, wrk_run("hasup", daemon.http_port, "/models/echo/invoke",
                                    "completion.lua", CONNECTIONS));
    }
    report_row(&(struct row){.what = "/v1/completions, 64 connections",
                             .unit = "k/s",
                             .hasup = &routed,
                             .beside = "invoke, same body",
                             .other = &direct,
                             .aim = AIM_AT_LEAST,
                             .limit = 0.7});
    daemon_stop(&daemon);
}

/* One node process, behind hasup and alone. */
static void measure_adapter(void)
{
    struct daemon daemon;
    struct figure adapted = {0}, alone = {0};
    char models[512], port[16], root[256];
    int alone_port = bench_free_port();
    if (!bench_installed("node", "no figure of the adapter") || !getcwd(root, sizeof root))
        return;
    snprintf(port, sizeof port, "%d", alone_port);
    const char *server[] = {"node", "bench/peers/echo.js", port, NULL};
    pid_t pid = child_start(server);
    snprintf(models, sizeof models,
             "  node:\n    command: [node, %s/bench/peers/echo.js, \"{socket}\"]\n"
             "    adapter: {kind: http, concurrency: 64, invoke: /, idempotent: [POST /]}\n",
             root);
    daemon_start(&daemon, models, "node", true);
    for (int i = 0; i < HTTP_ROUNDS; i++) {
        figure_add(&adapted, wrk_run("hasup", daemon.http_port, "/models/node/invoke", "post.lua",
                                     CONNECTIONS));
        figure_add(&alone, wrk_run("node", alone_port, "/", "post.lua", CONNECTIONS));
    }
    report_row(&(struct row){.what = "HTTP adapter, 64 connections",
                             .unit = "k/s",
                             .hasup = &adapted,
                             .beside = "the same server alone",
                             .other = &alone});
    daemon_stop(&daemon);
    child_stop(pid);
}

void part_serving(void)
{
    measure_sessions();
    measure_batches();
    if (!bench_installed("wrk", "no figures of /v1 and the adapter"))
        return;
    measure_v1();
    measure_adapter();
}
