/*
 * state.c: workers of 256 MiB under a whole hasupd: how long one stops serving while its state is
 * taken, how long it takes from its kill -9 to an answer of the next one with the state back, and
 * how soon the request of one that hasupd itself kills is with another.
 */
#include "bench/bench.h"

#include "client/hasup_client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { ANSWER_MS = 30000, SLOTS = 2 };

static const double GIB_EACH = 0.25;

static struct hasup_client *client_of(const struct daemon *daemon)
{
    char error[256];
    struct hasup_client *client = hasup_client_open(daemon->socket, error);
    if (!client)
        bench_fail("%s", error);
    return client;
}

static uint64_t submit(struct hasup_client *client, const char *model, const char *body)
{
    uint64_t id;
    const struct hasup_client_request request = {.model = model, .body = body, .len = strlen(body)};
    if (hasup_client_submit(client, &request, &id))
        bench_fail("a request of %s cannot be sent", model);
    return id;
}

static uint64_t command(struct hasup_client *client, const char *json)
{
    uint64_t id;
    if (hasup_client_control(client, json, &id))
        bench_fail("%s cannot be sent", json);
    return id;
}

static struct hasup_client_answer answer_of(struct hasup_client *client)
{
    struct hasup_client_answer answer;
    if (hasup_client_wait(client, ANSWER_MS, &answer) != 1 || answer.status != 200)
        bench_fail("a worker with 256 MiB does not answer: %s", answer.error);
    return answer;
}

/* ---- how long it stops ---- */

/* The longest that a request waits, in a closed loop, from the order to the stored checkpoint. */
static double stop_ms(struct hasup_client *client, const char *model)
{
    char json[64];
    hasup_ns longest = 0;
    bool stored = false;
    snprintf(json, sizeof json, "{\"verb\": \"checkpoint\", \"target\": \"%s\"}", model);
    submit(client, model, "x"); /* something has changed */
    answer_of(client);
    uint64_t order = command(client, json);
    while (!stored) {
        hasup_ns from = bench_now();
        uint64_t id = submit(client, model, "x");
        for (struct hasup_client_answer answer = {0}; answer.id != id;) {
            answer = answer_of(client);
            stored |= answer.id == order;
        }
        hasup_ns took = bench_now() - from;
        longest = took > longest ? took : longest;
    }
    return (double)longest / (double)HASUP_MS;
}

static void stops(struct hasup_client *client)
{
    struct figure forked = {0}, in_turn = {0};
    for (int i = -1; i < ROUNDS; i++) { /* one round makes the file */
        double ms = stop_ms(client, "forked"), beside = stop_ms(client, "inline");
        if (i < 0)
            continue;
        figure_add(&forked, ms);
        figure_add(&in_turn, beside);
    }
    report_row(&(struct row){.what = "no answer while 256 MiB are taken",
                             .unit = "ms",
                             .hasup = &forked,
                             .beside = "no snapshot",
                             .other = &in_turn,
                             .aim = AIM_AT_MOST,
                             .limit = 20,
                             .absolute = true});
}

/* ---- failover ---- */

static void failover(struct hasup_client *client)
{
    struct figure speed = {0};
    /* What was answered behind the last one's barrier would be run again, each time. */
    command(client, "{\"verb\": \"checkpoint\", \"target\": \"forked\"}");
    answer_of(client);
    for (int i = 0; i < ROUNDS; i++) {
        bench_pause(HASUP_S / 2); /* the memory of the one before is given back meanwhile */
        submit(client, "forked", "pid");
        struct hasup_client_answer answer = answer_of(client);
        char text[16];
        snprintf(text, sizeof text, "%.*s", (int)answer.len, (const char *)answer.body);
        hasup_ns from = bench_now();
        kill((pid_t)atoi(text), SIGKILL);
        submit(client, "forked", "x");
        answer_of(client);
        figure_add(&speed, GIB_EACH / ((double)(bench_now() - from) / (double)HASUP_S));
    }
    report_row(&(struct row){.what = "kill -9 to answered, 256 MiB state back",
                             .unit = "GiB/s",
                             .hasup = &speed,
                             .aim = AIM_AT_LEAST,
                             .limit = 1,
                             .absolute = true});
}

/* ---- a request moves ---- */

/* Polled: which slot is ready again no answer tells. */
static void wait_until_ready(struct hasup_client *client)
{
    for (unsigned ready = 0; ready < SLOTS;) {
        command(client, "{\"verb\": \"status\"}");
        struct hasup_client_answer answer = answer_of(client);
        char *text = strndup((const char *)answer.body, answer.len);
        ready = 0;
        for (char *at = text; at && (at = strstr(at, "\"ready\"")); at++)
            ready += strncmp(at + 7, ":", 1) != 0; /* a state, not the count of them */
        free(text);
        bench_pause(10 * HASUP_MS);
    }
}

static double move_ms(const struct notes *notes, struct hasup_client *client, const char *how)
{
    wait_until_ready(client);
    submit(client, "large", how);
    answer_of(client);
    struct note first = notes_read(notes), second = notes_read(notes);
    return (double)(second.at_ns - first.at_ns) / (double)HASUP_MS;
}

static void moves(void)
{
    struct notes notes;
    struct daemon daemon;
    struct figure broken = {0}, dead = {0};
    char models[512];
    notes_open(&notes, "moves.notes");
    setenv("BENCH_NOTES", notes.path, 1);
    snprintf(models, sizeof models,
             "  large: {command: [%s/large], workers: %d, "
             "restart: {start_limit: 1000, backoff_max: 100ms}}\n",
             bench_tools(), SLOTS);
    daemon_start(&daemon, models, "large", false);
    struct hasup_client *client = client_of(&daemon);
    for (int i = 0; i < ROUNDS; i++) {
        figure_add(&broken, move_ms(&notes, client, "break"));
        figure_add(&dead, move_ms(&notes, client, "die"));
    }
    hasup_client_close(client);
    daemon_stop(&daemon);
    report_row(&(struct row){.what = "hasupd kills 256 MiB: its request moves",
                             .unit = "ms",
                             .hasup = &broken,
                             .beside = "it dies itself",
                             .other = &dead,
                             .aim = AIM_AT_MOST,
                             .limit = 1,
                             .absolute = true});
}

void part_state(void)
{
    struct daemon daemon;
    char models[1024];
    const char *tools = bench_tools();
    snprintf(models, sizeof models,
             "  forked: {command: [%s/large], environment: {BENCH_STATE: forked}}\n"
             "  inline: {command: [%s/large], environment: {BENCH_STATE: inline}}\n",
             tools, tools);
    daemon_start(&daemon, models, "inline", false);
    struct hasup_client *client = client_of(&daemon);
    stops(client);
    failover(client);
    hasup_client_close(client);
    daemon_stop(&daemon);
    moves();
}
