/*
 * core.c: what one decision costs.  A cycle is one request's life: SUBMITTED at the back of a queue
 * of constant length, and REPLIED by a worker, which is given the next one; two steps.  Time is
 * virtual, so nothing but the core is measured.
 */
#include "bench/bench.h"

#include "supervisor/core/core.h"
#include "supervisor/core/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REQUESTS = 1 << 17, SLOTS = 128, CYCLES = 100000 };

enum shape { PLAIN, DEADLINES, SESSIONS, FULL };

struct bench {
    struct core *core;
    struct actions out;
    struct random random;
    hasup_ns now;
    enum shape shape;
    uint32_t *free; /* stack of request indexes that the core has forgotten */
    uint32_t free_count;
    uint64_t generation;
    uint64_t *flight; /* ring of what was dispatched, oldest first */
    uint32_t *flight_slot;
    uint32_t flight_start, flight_count;
    uint64_t answered, refused;
};

static void step(struct bench *b, struct event *event)
{
    event->now = b->now += 100;
    core_step(b->core, event, &b->out);
    for (size_t i = 0; i < b->out.count; i++) {
        const struct action *action = &b->out.list[i];
        if (action->type == ACTION_FORGET) {
            b->free[b->free_count++] = (uint32_t)action->request;
        } else if (action->type == ACTION_DISPATCH) {
            uint32_t at = (b->flight_start + b->flight_count++) % REQUESTS;
            b->flight[at] = action->request;
            b->flight_slot[at] = action->slot;
        }
        b->answered += action->type == ACTION_ANSWER;
        b->refused += action->type == ACTION_REFUSE;
    }
}

static void submit(struct bench *b)
{
    hasup_ns deadline = 0;
    if (b->shape == DEADLINES)
        deadline = b->now + 600 * HASUP_S + (hasup_ns)(random_next(&b->random) >> 30);
    uint64_t id = ++b->generation << 32 | b->free[--b->free_count];
    uint64_t session = b->shape == SESSIONS ? random_next(&b->random) | 1 : 0;
    step(b, &(struct event){.type = EVENT_SUBMITTED,
                            .request = id,
                            .submitted = {.size = 100, .deadline = deadline, .session = session}});
}

static void reply(struct bench *b)
{
    uint32_t at = b->flight_start;
    b->flight_start = (at + 1) % REQUESTS;
    b->flight_count--;
    step(b, &(struct event){.type = EVENT_REPLIED,
                            .slot = b->flight_slot[at],
                            .worker = 1,
                            .request = b->flight[at]});
}

static void begin(struct bench *b, enum shape shape, uint32_t slots, uint32_t queued)
{
    const struct core_limits limits = {.models = 1, .slots = SLOTS, .requests = REQUESTS};
    const struct model_policy policy = {
        .workers = slots,
        .max_attempts = 3,
        .timeouts = {.attempt = 60 * HASUP_S, .ping = HASUP_S, .ping_after = HASUP_S},
        .queue = {.requests = shape == FULL ? queued : REQUESTS, .bytes = UINT64_MAX}};
    b->shape = shape;
    random_init(&b->random, 1);
    b->core = core_new(&limits, 1);
    b->free = calloc(REQUESTS, sizeof *b->free);
    b->flight = calloc(REQUESTS, sizeof *b->flight);
    b->flight_slot = calloc(REQUESTS, sizeof *b->flight_slot);
    if (!b->core || !b->free || !b->flight || !b->flight_slot || actions_init(&b->out, b->core))
        abort();
    for (uint32_t i = REQUESTS; i--;)
        b->free[b->free_count++] = i;
    step(b, &(struct event){.type = EVENT_MODEL_SET, .model_set = {.policy = &policy}});
    for (uint32_t slot = 0; slot < slots; slot++) {
        step(b, &(struct event){.type = EVENT_SPAWNED, .slot = slot, .worker = 1});
        step(b, &(struct event){.type = EVENT_HELLO, .slot = slot, .worker = 1, .hello = {1, 0}});
        step(b, &(struct event){.type = EVENT_WORKER_READY, .slot = slot, .worker = 1});
    }
    for (uint32_t i = 0; i < slots + queued; i++)
        submit(b);
    bool busy = shape == SESSIONS ? b->flight_count > 0 : b->flight_count == slots;
    if (!busy || b->refused)
        abort(); /* it is not the state that is to be measured */
}

static void end(struct bench *b)
{
    actions_fini(&b->out);
    core_free(b->core);
    free(b->free);
    free(b->flight);
    free(b->flight_slot);
}

/* Nanoseconds for a cycle. */
static double run(enum shape shape, uint32_t slots, uint32_t queued)
{
    struct bench b = {0};
    struct timespec from, to;
    begin(&b, shape, slots, queued);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (unsigned i = 0; i < CYCLES; i++) {
        submit(&b);
        if (shape != FULL)
            reply(&b);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    if ((shape == FULL ? b.refused : b.answered) != CYCLES)
        abort();
    end(&b);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / CYCLES;
}

/* Millions of steps a second. */
static double run_steps(enum shape shape, uint32_t slots, uint32_t queued)
{
    return (shape == FULL ? 1 : 2) * 1e3 / run(shape, slots, queued);
}

/* Each length of queue in turn with the shortest one: a cost that grew would show in the ratio. */
static void queue_rows(enum shape shape, const char *name, uint32_t slots)
{
    static const uint32_t QUEUED[] = {10, 1000, 100000};
    struct figure rate[HASUP_LEN(QUEUED)] = {0};
    char what[64];
    for (int i = 0; i < ROUNDS; i++)
        for (size_t k = 0; k < HASUP_LEN(QUEUED); k++)
            figure_add(&rate[k], run_steps(shape, slots, QUEUED[k]));
    for (size_t k = 0; k < HASUP_LEN(QUEUED); k++) {
        snprintf(what, sizeof what, "core%s, %u slots, %u queued", name, slots, QUEUED[k]);
        report_row(&(struct row){.what = what,
                                 .unit = "M/s",
                                 .hasup = &rate[k],
                                 .beside = k ? "10 queued" : NULL,
                                 .other = k ? &rate[0] : NULL,
                                 .aim = AIM_AT_LEAST,
                                 .limit = 2,
                                 .absolute = true});
    }
}

void part_core(void)
{
    queue_rows(PLAIN, "", 1);
    queue_rows(PLAIN, "", 100);
    queue_rows(DEADLINES, ", deadlines", 100);
    queue_rows(SESSIONS, ", sessions", 100);
    struct figure refused = {0};
    for (int i = 0; i < ROUNDS; i++)
        figure_add(&refused, run_steps(FULL, 100, 1000));
    report_row(&(struct row){.what = "core, refused: queue full",
                             .unit = "M/s",
                             .hasup = &refused,
                             .aim = AIM_AT_LEAST,
                             .limit = 2,
                             .absolute = true});
}
