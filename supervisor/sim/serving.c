/*
 * serving.c: one model under Poisson arrivals, in virtual time.  Its workers take a * n + b for a
 * batch of n, give or take a tenth.  The core dispatches; beside it stand two dispatchers of this
 * file's own: one request at a time, and a fixed delay, which waits for a full batch or until the
 * oldest has waited so long, as most model servers do.
 *
 * Owns its little world: arrivals, workers, latencies.  No faults: the rest of the simulator looks
 * for those.
 */
#include "supervisor/sim/serving.h"

#include "supervisor/core/core.h"
#include "supervisor/core/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORKERS = 2,
    MAX_BATCH = 32,
    REQUESTS = 8192,
    QUEUE = 4000,
    TICK = 10 * HASUP_US, /* arrivals are drawn for each */
    LATENCIES = 1 << 18,
    NONE = -1
};

static const hasup_ns EACH = HASUP_MS, BASE = 8 * HASUP_MS; /* of a batch: EACH * n + BASE */

struct worker {
    hasup_ns done; /* HASUP_NEVER: it is idle */
    uint32_t count;
    uint64_t batch[MAX_BATCH];
};

struct scene {
    struct core *core; /* NULL: one of this file's own dispatchers */
    struct actions actions;
    struct random random;
    hasup_ns now, end, fixed_delay;
    double load;                            /* of what full batches could do */
    hasup_ns deadline_least, deadline_most; /* 0: none */
    uint32_t most;
    struct worker workers[WORKERS];
    uint32_t numbers[WORKERS]; /* of the core's */
    hasup_ns arrived[REQUESTS], deadline[REQUESTS];
    uint32_t generation[REQUESTS];
    uint32_t free[REQUESTS], free_count;
    uint64_t queue[REQUESTS]; /* of the own dispatchers: a ring */
    uint32_t queue_start, queue_count;
    hasup_ns *latencies;
    uint64_t arrivals, answered, in_time, refused, longest;
    uint64_t submitting, broken; /* broken: taken first, and refused then */
};

/* ---- requests ---- */

static uint64_t take(struct scene *s)
{
    if (!s->free_count)
        return 0;
    uint32_t index = s->free[--s->free_count];
    s->arrived[index] = s->now;
    hasup_ns span = s->deadline_most - s->deadline_least;
    s->deadline[index] = 0;
    if (s->deadline_most)
        s->deadline[index] =
            s->now + s->deadline_least + (hasup_ns)(random_next(&s->random) % (uint64_t)(span + 1));
    return (uint64_t)++s->generation[index] << 32 | index;
}

static void answered(struct scene *s, uint64_t request)
{
    uint32_t index = (uint32_t)request;
    if (s->answered < LATENCIES)
        s->latencies[s->answered] = s->now - s->arrived[index];
    s->answered++;
    s->in_time += !s->deadline[index] || s->now <= s->deadline[index];
}

/* ---- workers ---- */

static hasup_ns batch_time(struct scene *s, uint32_t count)
{
    hasup_ns whole = EACH * count + BASE;
    return whole - whole / 10 + (hasup_ns)(random_next(&s->random) % (uint64_t)(whole / 5));
}

static void run(struct scene *s, struct worker *worker)
{
    worker->done = s->now + batch_time(s, worker->count);
}

/* ---- the core's dispatcher ---- */

static void core_do(struct scene *s, struct event event);

static void perform(struct scene *s, const struct action *action)
{
    struct worker *worker = action->slot < WORKERS ? &s->workers[action->slot] : NULL;
    struct event event = {.slot = action->slot, .worker = action->worker};
    switch ((int)action->type) {
    case ACTION_SPAWN: s->numbers[action->slot] = action->worker; return;
    case ACTION_DISPATCH:
        worker->batch[worker->count++] = action->request;
        if (!action->dispatch.more)
            run(s, worker);
        return;
    case ACTION_ANSWER: answered(s, action->request); return;
    case ACTION_REFUSE:
        s->refused++;
        s->broken += s->submitting != action->request;
        return;
    case ACTION_FORGET: s->free[s->free_count++] = (uint32_t)action->request; return;
    default: (void)event;
    }
}

static void core_do(struct scene *s, struct event event)
{
    event.now = s->now;
    core_step(s->core, &event, &s->actions);
    for (size_t i = 0; i < s->actions.count; i++)
        perform(s, &s->actions.list[i]);
}

static void core_begin(struct scene *s, hasup_ns max_delay)
{
    const struct core_limits limits = {.models = 1, .slots = WORKERS, .requests = REQUESTS};
    const struct model_policy policy = {
        .workers = WORKERS,
        .max_attempts = 3,
        .journal = JOURNALS_NEVER,
        .restart = {.start_limit = 5},
        .queue = {.requests = QUEUE, .bytes = UINT64_MAX, .refuse_late = true},
        .batch = {.max_delay = max_delay}};
    s->core = core_new(&limits, 1);
    if (!s->core || actions_init(&s->actions, s->core))
        abort();
    core_do(s, (struct event){.type = EVENT_MODEL_SET, .model_set = {.policy = &policy}});
    for (uint32_t i = 0; i < WORKERS; i++) {
        struct event event = {.type = EVENT_SPAWNED, .slot = i, .worker = s->numbers[i]};
        core_do(s, event);
        event.type = EVENT_HELLO;
        event.hello.concurrency = 1;
        event.hello.max_batch = s->most;
        core_do(s, event);
        memset(&event.hello, 0, sizeof event.hello);
        event.type = EVENT_WORKER_READY;
        core_do(s, event);
    }
}

/* ---- this file's own dispatchers ---- */

static void own_dispatch(struct scene *s)
{
    for (unsigned i = 0; i < WORKERS && s->queue_count; i++) {
        struct worker *worker = &s->workers[i];
        hasup_ns waited = s->now - s->arrived[(uint32_t)s->queue[s->queue_start]];
        if (worker->done != HASUP_NEVER || (s->queue_count < s->most && waited < s->fixed_delay))
            continue;
        while (s->queue_count && worker->count < s->most) {
            worker->batch[worker->count++] = s->queue[s->queue_start];
            s->queue_start = (s->queue_start + 1) % REQUESTS;
            s->queue_count--;
        }
        run(s, worker);
    }
}

static hasup_ns own_deadline(const struct scene *s)
{
    if (!s->queue_count || !s->fixed_delay)
        return HASUP_NEVER;
    hasup_ns due = s->arrived[(uint32_t)s->queue[s->queue_start]] + s->fixed_delay;
    return due > s->now ? due : HASUP_NEVER; /* else it waits for a worker */
}

/* ---- what happens ---- */

static void arrive(struct scene *s)
{
    uint64_t request = take(s);
    s->arrivals++;
    if (!request) {
        s->refused++;
    } else if (s->core) {
        struct model_view view;
        s->submitting = request;
        core_do(s, (struct event){.type = EVENT_SUBMITTED,
                                  .request = request,
                                  .submitted = {.deadline = s->deadline[(uint32_t)request]}});
        s->submitting = 0;
        core_model_view(s->core, 0, &view);
        s->longest = view.queued > s->longest ? view.queued : s->longest;
    } else {
        s->queue[(s->queue_start + s->queue_count++) % REQUESTS] = request;
        own_dispatch(s);
    }
}

static void finish(struct scene *s, uint32_t index)
{
    struct worker *worker = &s->workers[index];
    uint64_t batch[MAX_BATCH];
    uint32_t count = worker->count;
    memcpy(batch, worker->batch, sizeof batch);
    worker->done = HASUP_NEVER;
    worker->count = 0;
    for (uint32_t i = 0; i < count; i++)
        if (s->core) {
            core_do(s, (struct event){.type = EVENT_REPLIED,
                                      .slot = index,
                                      .worker = s->numbers[index],
                                      .request = batch[i]});
        } else {
            answered(s, batch[i]);
            s->free[s->free_count++] = (uint32_t)batch[i];
        }
    if (!s->core)
        own_dispatch(s);
}

/* When the next one comes: in each tick with the same chance, or none. */
static hasup_ns next_arrival(struct scene *s)
{
    double capacity = (double)WORKERS * MAX_BATCH / (double)(EACH * MAX_BATCH + BASE);
    uint32_t chance = (uint32_t)(s->load * capacity * TICK * (double)(1u << 30));
    hasup_ns at = s->now;
    do
        at += TICK;
    while (random_below(&s->random, 1u << 30) >= chance);
    return at;
}

static void play(struct scene *s)
{
    hasup_ns arrival = next_arrival(s);
    while (s->now < s->end) {
        hasup_ns next = arrival, due = s->core ? core_deadline(s->core) : own_deadline(s);
        int worker = NONE;
        for (int i = 0; i < WORKERS; i++)
            if (s->workers[i].done < next) {
                next = s->workers[i].done;
                worker = i;
            }
        if (due < next) {
            s->now = due > s->now ? due : s->now;
            if (s->core)
                core_do(s, (struct event){.type = EVENT_TIMEOUT});
            else
                own_dispatch(s);
            continue;
        }
        s->now = next;
        if (worker != NONE) {
            finish(s, (uint32_t)worker);
        } else {
            arrive(s);
            arrival = next_arrival(s);
        }
    }
}

/* ---- scenes ---- */

struct figures {
    double p50, p99;        /* ms */
    double rate, offered;   /* answered and arrived, each second */
    double goodput;         /* answered in time, of what could be */
    uint64_t late, longest; /* answered after its deadline; queued at most */
    double broken;          /* refused after they were taken, of those answered */
};

static int by_time(const void *a, const void *b)
{
    hasup_ns x = *(const hasup_ns *)a, y = *(const hasup_ns *)b;
    return x < y ? -1 : x > y;
}

static struct figures figures_of(struct scene *s)
{
    uint64_t count = s->answered < LATENCIES ? s->answered : LATENCIES;
    double seconds = (double)s->end / HASUP_S;
    double capacity = (double)WORKERS * s->most / (double)(EACH * s->most + BASE) * HASUP_S;
    qsort(s->latencies, count, sizeof *s->latencies, by_time);
    return (struct figures){.p50 = (double)s->latencies[count / 2] / HASUP_MS,
                            .p99 = (double)s->latencies[count * 99 / 100] / HASUP_MS,
                            .rate = (double)s->answered / seconds,
                            .offered = (double)s->arrivals / seconds,
                            .goodput = (double)s->in_time / seconds / capacity,
                            .late = s->answered - s->in_time,
                            .broken = (double)s->broken / (double)(s->answered + 1),
                            .longest = s->longest};
}

static struct figures stage(struct scene *s, bool with_core, hasup_ns delay, uint32_t most,
                            hasup_ns seconds)
{
    s->most = most;
    s->end = seconds * HASUP_S;
    s->latencies = calloc(LATENCIES, sizeof *s->latencies);
    if (!s->latencies)
        abort();
    random_init(&s->random, 7);
    for (uint32_t i = 0; i < REQUESTS; i++)
        s->free[s->free_count++] = REQUESTS - 1 - i;
    for (unsigned i = 0; i < WORKERS; i++)
        s->workers[i].done = HASUP_NEVER;
    s->fixed_delay = delay;
    if (with_core)
        core_begin(s, delay);
    play(s);
    struct figures figures = figures_of(s);
    if (with_core) {
        actions_fini(&s->actions);
        core_free(s->core);
    }
    free(s->latencies);
    return figures;
}

static struct figures batching(bool with_core, hasup_ns delay, uint32_t most, double load)
{
    struct scene *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->load = load;
    struct figures figures = stage(s, with_core, delay, most, 120);
    free(s);
    return figures;
}

static void row(const char *name, const struct figures *f)
{
    bool lost = f->rate < 0.97 * f->offered;
    if (lost)
        printf("  %-22s %9s %9s %8.0f\n", name, "-", "-", f->rate);
    else
        printf("  %-22s %6.1f ms %6.1f ms %8.0f\n", name, f->p50, f->p99, f->rate);
}

static bool report_batching(void)
{
    static const double LOADS[] = {0.3, 0.7, 0.95};
    static const hasup_ns DELAYS[] = {5 * HASUP_MS, 20 * HASUP_MS};
    bool holds = true;
    printf("%d workers, a batch of n (at most %d) takes n + %d ms, Poisson arrivals\n", WORKERS,
           MAX_BATCH, (int)(BASE / HASUP_MS));
    for (unsigned i = 0; i < HASUP_LEN(LOADS); i++) {
        struct figures none = batching(true, 0, 1, LOADS[i]);
        struct figures own = batching(true, 0, MAX_BATCH, LOADS[i]);
        struct figures waits = batching(true, 5 * HASUP_MS, MAX_BATCH, LOADS[i]);
        printf("\n%.0f %% load: %.0f requests/s          p50       p99   answered/s\n",
               LOADS[i] * 100, own.offered);
        row("one at a time", &none);
        for (unsigned k = 0; k < HASUP_LEN(DELAYS); k++) {
            char name[32];
            struct figures fixed = batching(false, DELAYS[k], MAX_BATCH, LOADS[i]);
            snprintf(name, sizeof name, "fixed delay of %d ms", (int)(DELAYS[k] / HASUP_MS));
            row(name, &fixed);
            holds = holds && own.p50 <= fixed.p50 * 1.02 && own.p99 <= fixed.p99 * 1.12;
        }
        row("hasup", &own);
        row("hasup, max_delay 5 ms", &waits);
        holds = holds && own.rate >= 0.99 * own.offered && waits.rate >= 0.99 * waits.offered;
    }
    return holds;
}

static bool report_overload(void)
{
    static const struct {
        const char *name;
        uint32_t most;
        hasup_ns least, longest;
    } SCENES[] = {
        {"one at a time, 1 s", 1, HASUP_S, HASUP_S},
        {"one at a time, 0.2 to 5 s", 1, 200 * HASUP_MS, 5 * HASUP_S},
        {"batches, 1 s", MAX_BATCH, HASUP_S, HASUP_S},
        {"batches, 0.2 to 5 s", MAX_BATCH, 200 * HASUP_MS, 5 * HASUP_S},
    };
    bool holds = true;
    printf(
        "\nlate: answered after its deadline; broken: refused after it was taken, before it ran\n");
    printf("five times what the workers can do, for a minute   "
           "goodput  late  p99      queued  broken\n");
    for (unsigned i = 0; i < HASUP_LEN(SCENES); i++) {
        struct scene *s = calloc(1, sizeof *s);
        if (!s)
            abort();
        double full = MAX_BATCH / (double)(EACH * MAX_BATCH + BASE);
        double own = SCENES[i].most / (double)(EACH * SCENES[i].most + BASE);
        s->load = 5 * own / full;
        s->deadline_least = SCENES[i].least;
        s->deadline_most = SCENES[i].longest;
        struct figures f = stage(s, true, 0, SCENES[i].most, 60);
        free(s);
        printf("  %-46s %7.1f %% %5llu %6.0f ms %5llu %5.1f %%\n", SCENES[i].name, f.goodput * 100,
               (unsigned long long)f.late, f.p99, (unsigned long long)f.longest, f.broken * 100);
        holds = holds && f.goodput >= 0.95 && (double)f.late <= f.rate * 60 / 1000 &&
                f.broken <= 0.2 && f.longest <= QUEUE;
    }
    return holds;
}

bool serving_report(void)
{
    bool batching_holds = report_batching(), overload_holds = report_overload();
    return batching_holds && overload_holds;
}
