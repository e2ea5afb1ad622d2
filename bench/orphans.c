/*
 * orphans.c: how long requests take while hasupd reaps 10,000 orphans a second, beside how long
 * they take without.
 */
#include "bench/bench.h"

#include "client/hasup_client.h"
#include "ipc/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BODY = 256,
    MESSAGE_ROOM = 1024,
    RATE = 10000,
    SECONDS = 10,
    QUIET_RUNS = 5,
    WAIT_MS = 60000
};

static double run(struct load *load, hasup_ns span)
{
    load->span = span;
    (void)load_run(load);
    return latency_at_us(load->latency, 0.99);
}

void part_orphans(void)
{
    static uint8_t message[MESSAGE_ROOM];
    struct daemon daemon;
    struct latency latency = {0};
    struct figure quiet = {0}, storm = {0}, reaped = {0};
    char models[512], error[256], order[32], text[32] = "";
    struct hasup_client_answer answer;
    uint64_t id;
    snprintf(models, sizeof models,
             "  echo:\n    command: [%s/examples/echo]\n"
             "  storm:\n    command: [%s/storm]\n    timeouts: {attempt: 1m}\n",
             bench_build(), bench_tools());
    daemon_start(&daemon, models, "echo", false);
    struct load load = {.path = daemon.socket,
                        .connections = 1,
                        .depth = 1,
                        .message = message,
                        .message_len = load_frame(message, "echo", BODY, 0, NULL),
                        .id_at = 8,
                        .reply_len = HASUP_FRAME_HEADER + BODY,
                        .good = load_frame_good,
                        .latency = &latency};
    struct hasup_client *client = hasup_client_open(daemon.socket, error);
    if (!client)
        bench_fail("%s", error);
    for (int i = 0; i < QUIET_RUNS; i++)
        figure_add(&quiet, run(&load, HASUP_S));
    snprintf(order, sizeof order, "%d %d", RATE, SECONDS);
    if (hasup_client_submit(
            client,
            &(struct hasup_client_request){.model = "storm", .body = order, .len = strlen(order)},
            &id))
        bench_fail("the storm's request was not taken");
    for (int i = 0; i < SECONDS - 2; i++)
        figure_add(&storm, run(&load, HASUP_S));
    if (hasup_client_wait(client, WAIT_MS, &answer) != 1 || answer.status != 200)
        bench_fail("the storm's request was not answered");
    memcpy(text, answer.body, answer.len < sizeof text - 1 ? answer.len : sizeof text - 1);
    figure_add(&reaped, strtod(text, NULL) / SECONDS / 1e3);
    hasup_client_close(client);
    report_row(&(struct row){.what = "p99 while orphans are reaped",
                             .unit = "us",
                             .hasup = &storm,
                             .beside = "none",
                             .other = &quiet,
                             .aim = AIM_AT_MOST,
                             .limit = 2});
    report_row(&(struct row){.what = "orphans reaped",
                             .unit = "k/s",
                             .hasup = &reaped,
                             .aim = AIM_AT_LEAST,
                             .limit = 9.9,
                             .absolute = true});
    latency_free(&latency);
    daemon_stop(&daemon);
}
