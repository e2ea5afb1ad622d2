/*
 * world.c: virtual time.  Jumps to the next thing that happens or to the core's deadline, whichever
 * is sooner, and posts what follows from it.  Owns the heap of things and the run's two phases.
 */
#include "supervisor/sim/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEPS_AT_ONE_INSTANT = 200000, COMEBACKS = 20 };

void sim_fail(struct sim *sim, const char *format, ...)
{
    char text[200];
    va_list args;
    if (sim->report->failed)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sim->report->failed = true;
    snprintf(sim->report->reason, sizeof sim->report->reason, "at %.6f s: %s",
             (double)sim->now * 1e-9, text);
}

/* ---- chance ---- */

bool sim_chance(struct sim *sim, unsigned permille)
{
    return sim->faults && random_below(&sim->random, 1000) < permille;
}

hasup_ns sim_between(struct sim *sim, hasup_ns least, hasup_ns most)
{
    return least + (hasup_ns)(random_next(&sim->random) % (uint64_t)(most - least + 1));
}

uint64_t sim_hash(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u ^ (b + 0xd1b54a32d192ed03u);
    x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 29);
}

/* ---- the heap ---- */

static bool sooner(const struct thing *a, const struct thing *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

void sim_schedule(struct sim *sim, hasup_ns at, enum happening what, uint32_t slot, uint32_t worker,
                  uint64_t request)
{
    if (sim->heap_count == sim->heap_room) {
        sim->heap_room = sim->heap_room ? sim->heap_room * 2 : 1024;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof *sim->heap);
        if (!sim->heap)
            abort();
    }
    struct thing thing = {at, ++sim->seq, what, slot, worker, request, sim->life};
    size_t i = sim->heap_count++;
    for (; i && sooner(&thing, &sim->heap[(i - 1) / 2]); i = (i - 1) / 2)
        sim->heap[i] = sim->heap[(i - 1) / 2];
    sim->heap[i] = thing;
}

static struct thing heap_take(struct sim *sim)
{
    struct thing top = sim->heap[0], last = sim->heap[--sim->heap_count];
    size_t i = 0, child;
    while ((child = i * 2 + 1) < sim->heap_count) {
        if (child + 1 < sim->heap_count && sooner(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!sooner(&sim->heap[child], &last))
            break;
        sim->heap[i] = sim->heap[child];
        i = child;
    }
    if (sim->heap_count)
        sim->heap[i] = last;
    return top;
}

/* ---- stepping ---- */

static void trace_event(const struct sim *sim, const struct event *event)
{
    printf("%14.6f  %-18s slot %d worker %u request %llx\n", (double)sim->now * 1e-9,
           event_name(event->type), event->type == EVENT_SUBMITTED ? -1 : (int)event->slot,
           event->worker, (unsigned long long)event->request);
    if (event->type == EVENT_RECOVERED)
        printf("                    what %d record %llu position %llu\n", event->recovered.what,
               (unsigned long long)event->recovered.record,
               (unsigned long long)event->recovered.position);
    if (event->type == EVENT_CHECKPOINT_LOADED || event->type == EVENT_CHECKPOINT_STORED)
        printf("                    found %d position %llu error %d\n", event->checkpoint.found,
               (unsigned long long)event->checkpoint.position, event->checkpoint.error);
    if (event->type == EVENT_IDENTIFIED)
        printf("                    hash %llx died %d alone %d first %d mark %llu\n",
               (unsigned long long)event->identified.hash[0], event->identified.how.died,
               event->identified.how.alone, event->identified.how.first,
               (unsigned long long)event->identified.how.mark);
    if (event->type == EVENT_PERSISTED)
        printf("                    what %d error %d\n", event->persisted.what,
               event->persisted.error);
}

static void trace_action(const struct action *action)
{
    if (action->type == ACTION_NOTICE)
        printf("                  notice %d: slot %d %s -> %s\n", action->notice.what,
               (int)action->slot, slot_state_name(action->notice.from),
               slot_state_name(action->notice.to));
    else
        printf("                  %-18s slot %d worker %u request %llx record %llu\n",
               action_name(action->type), (int)action->slot, action->worker,
               (unsigned long long)action->request, (unsigned long long)action->record);
    if (action->type == ACTION_PERSIST)
        printf("                    what %d why %d position %llu number %llu\n",
               action->persist.what, action->persist.why,
               (unsigned long long)action->persist.position,
               (unsigned long long)action->persist.number);
    if (action->type == ACTION_QUARANTINE)
        printf("                    hash %llx attempts %u\n",
               (unsigned long long)action->quarantine.hash[0], action->quarantine.attempts);
    if (action->type == ACTION_DISPATCH)
        printf("                    position %llu replay %d\n",
               (unsigned long long)action->dispatch.position, action->dispatch.replay);
}

/* What is kept for who comes back is bounded, but for the newest answer alone. */
static void check_results(struct sim *sim)
{
    struct durable_view view;
    core_durable_view(sim->core, &view);
    if (sim->limits.result_bytes && view.bytes > sim->limits.result_bytes && view.finished > 1)
        sim_fail(sim, "%llu bytes of answers are kept, more than %llu",
                 (unsigned long long)view.bytes, (unsigned long long)sim->limits.result_bytes);
}

static void step(struct sim *sim, struct event *event)
{
    event->now = sim->now;
    if (sim->options.trace)
        trace_event(sim, event);
    sim->current = event;
    core_step(sim->core, event, &sim->actions);
    handover_stepped(sim, event);
    sim->report->steps++;
    sim->steps_at_now++;
    if (sim->options.check_every && sim->report->steps % sim->options.check_every == 0)
        core_check(sim->core);
    check_results(sim);
    for (size_t i = 0; i < sim->actions.count && !sim->report->failed; i++) {
        if (sim->options.trace)
            trace_action(&sim->actions.list[i]);
        batch_check_whole(sim, &sim->actions.list[i]);
        shell_perform(sim, &sim->actions.list[i]);
    }
    batch_check_whole(sim, NULL);
    sim->current = NULL;
    handover_due(sim);
}

void sim_post(struct sim *sim, const struct event *event)
{
    if (sim->pending_count == HASUP_LEN(sim->pending)) {
        sim_fail(sim, "too many events at once");
        return;
    }
    sim->pending[(sim->pending_start + sim->pending_count++) % HASUP_LEN(sim->pending)] = *event;
    if (sim->current)
        return;
    while (sim->pending_count && !sim->report->failed) {
        struct event next = sim->pending[sim->pending_start];
        sim->pending_start = (sim->pending_start + 1) % HASUP_LEN(sim->pending);
        sim->pending_count--;
        step(sim, &next);
    }
}

/* Whether it belongs to the world, not to a hasupd that is dead. */
bool outlives_hasupd(enum happening what)
{
    return what == HAPPENS_ARRIVAL || what == HAPPENS_FAULT || what == HAPPENS_OPERATOR ||
           what == HAPPENS_DEATH || what == HAPPENS_DEPLOY;
}

static void happen(struct sim *sim, const struct thing *thing)
{
    struct sim_slot *slot = thing->slot < SIM_SLOTS ? &sim->slots[thing->slot] : NULL;
    if (thing->life != sim->life && !outlives_hasupd(thing->what))
        return;
    switch (thing->what) {
    case HAPPENS_ARRIVAL: client_arrivals(sim); return;
    case HAPPENS_WORKER: worker_moves(sim, slot, thing->worker); return;
    case HAPPENS_SAID: worker_heard(sim, slot, thing->worker); return;
    case HAPPENS_EXIT: worker_exit_noticed(sim, slot, thing->worker); return;
    case HAPPENS_FORK: fork_answered(sim, slot, thing->worker); return;
    case HAPPENS_TREE: worker_tree_gone(sim, slot, thing->worker); return;
    case HAPPENS_BEAT: worker_beats(sim, slot, thing->worker); return;
    case HAPPENS_PROBE:
        program_answers(sim, slot, thing->worker, (enum question)thing->request);
        return;
    case HAPPENS_SNAPSHOT: worker_snapshot_done(sim, slot, thing->worker); return;
    case HAPPENS_DISK: disk_done(sim); return;
    case HAPPENS_FAULT: worker_fault(sim); return;
    case HAPPENS_OPERATOR: operator_acts(sim); return;
    case HAPPENS_LEAVE: client_leaves(sim, thing->request); return;
    case HAPPENS_ADMIT: journal_admit(sim); return;
    case HAPPENS_COMMIT: journal_committed(sim); return;
    case HAPPENS_DEPLOY: poison_deploy(sim); return;
    case HAPPENS_DEATH:
        if (!sim->faults)
            return;
        hasupd_dies(sim);
        sim_schedule(sim, sim->now + sim_between(sim, HASUP_S, 1800 * HASUP_S), HAPPENS_DEATH, 0, 0,
                     0);
        return;
    }
}

/* Runs until `until`, or until `done` says so. */
static void run_until(struct sim *sim, hasup_ns until, bool (*done)(const struct sim *))
{
    while (!sim->report->failed && !(done && done(sim))) {
        hasup_ns deadline = core_deadline(sim->core);
        hasup_ns next = sim->heap_count ? sim->heap[0].at : HASUP_NEVER;
        bool timeout = deadline < next;
        if (timeout)
            next = deadline;
        if (next > until)
            break;
        if (next > sim->now) {
            sim->now = next;
            sim->steps_at_now = 0;
        } else if (sim->steps_at_now > STEPS_AT_ONE_INSTANT) {
            sim_fail(sim, "the core does not let time pass");
        }
        if (timeout) {
            sim_post(sim, &(struct event){.type = EVENT_TIMEOUT});
        } else {
            struct thing thing = heap_take(sim);
            happen(sim, &thing);
        }
    }
    if (sim->now < until && !done)
        sim->now = until;
}

/* ---- shapes ---- */

static void shape_model(struct sim *sim, struct model_shape *shape)
{
    struct random *r = &sim->random;
    *shape = (struct model_shape){.used = true,
                                  .stateful = random_below(r, 3) == 0,
                                  .streams = random_below(r, 3) == 0,
                                  .snapshots = random_below(r, 2) == 0,
                                  .resumable = random_below(r, 2) == 0,
                                  .keyed = random_below(r, 3) == 0,
                                  .sessions = random_below(r, 3) == 0,
                                  .max_batch = random_below(r, 2) ? 1 : 2 + random_below(r, 15),
                                  .concurrency = 1 + random_below(r, random_below(r, 2) ? 2 : 12),
                                  .service = sim_between(sim, HASUP_MS, 400 * HASUP_MS),
                                  .load = sim_between(sim, 0, 5 * HASUP_S)};
    struct model_policy *p = &shape->policy;
    *p = (struct model_policy){
        .workers = 1 + random_below(r, 5),
        .essential = random_below(r, 4) == 0,
        .spares = random_below(r, 3) ? 0 : 1 + random_below(r, 2),
        .preload = random_below(r, 3) == 0,
        .policy = (enum policy)random_below(r, 5),
        .concurrency_max = random_below(r, 2) ? 0 : 1 + random_below(r, 8),
        .max_attempts = 2 + random_below(r, 4),
        .on_lost = (enum on_lost)random_below(r, 3),
        .journal = (enum journal_policy)random_below(r, 3),
        .result_ttl = sim_between(sim, 10 * HASUP_S, 3600 * HASUP_S),
        .quarantine_ttl = sim_between(sim, 10 * HASUP_S, 3600 * HASUP_S),
        .restart = {.backoff_min = 100 * HASUP_MS,
                    .backoff_max = 30 * HASUP_S,
                    .healthy_after = 10 * HASUP_S,
                    .start_limit = 3 + random_below(r, 4),
                    .breaker = 60 * HASUP_S},
        .pre_start = {.on = random_below(r, 3) == 0,
                      .timeout = 10 * HASUP_S,
                      .retries = random_below(r, 4),
                      .interval = sim_between(sim, 0, 5 * HASUP_S)},
        .timeouts = {.start = 60 * HASUP_S,
                     .attempt = 30 * HASUP_S,
                     .progress =
                         random_below(r, 2) ? sim_between(sim, 10 * HASUP_S, 60 * HASUP_S) : 0,
                     .ping_every = random_below(r, 3) ? 0 : sim_between(sim, HASUP_S, 60 * HASUP_S),
                     .watchdog =
                         random_below(r, 3) ? 0 : sim_between(sim, 5 * HASUP_S, 60 * HASUP_S),
                     .abort = random_below(r, 3) ? sim_between(sim, HASUP_MS, 5 * HASUP_S) : 0,
                     .ping = random_below(r, 2) ? HASUP_S : 0,
                     .ping_after = HASUP_S,
                     .drain = 20 * HASUP_S,
                     .stop = 5 * HASUP_S},
        .recycle = {.requests = random_below(r, 3) ? 0 : 5 + random_below(r, 200),
                    .age = random_below(r, 3) ? 0 : sim_between(sim, 10 * HASUP_S, 900 * HASUP_S),
                    .memory = random_below(r, 3) ? 0 : 5000,
                    .memory_every = sim_between(sim, HASUP_S, 30 * HASUP_S)},
        .queue = {.requests = 8 + random_below(r, 100),
                  .bytes = 1 << 20,
                  .refuse_late = random_below(r, 2),
                  .priority_age = sim_between(sim, 0, 10 * HASUP_S)},
        .rate = {.per_second = random_below(r, 6) ? 0 : 1 + random_below(r, 20),
                 .burst = 20 + random_below(r, 100),
                 .client_per_second = random_below(r, 4) ? 0 : 1 + random_below(r, 5),
                 .client_burst = 1 + random_below(r, 40)},
        .batch = {.most = random_below(r, 2) ? 0 : 1 + random_below(r, 12),
                  .max_delay = random_below(r, 2) ? 0 : sim_between(sim, 0, 50 * HASUP_MS)},
        .checkpoint = {.log_requests = random_below(r, 8) ? 4 + random_below(r, 60) : 0,
                       .log_bytes = 1 << 20}};
    versions_shape(sim, p);
    shape->newest = shape->filed = 1;
    if (random_below(r, 4))
        p->checkpoint.interval = sim_between(sim, HASUP_S, 60 * HASUP_S);
    for (unsigned i = 0; i < CORE_WEIGHTS; i++)
        p->weights[i] = random_below(r, 4);
    for (unsigned i = random_below(r, CORE_PREFERRED); i < CORE_PREFERRED && random_below(r, 2);
         i++)
        p->batch.preferred[i] = 1 + random_below(r, 8);
}

/* ---- the two phases ---- */

/* Whether nothing more is to be expected of a slot. */
static bool has_come(const struct sim *sim, uint32_t slot)
{
    struct slot_view view;
    if (!core_slot_view(sim->core, slot, &view) || view.role == ROLE_ZYGOTE)
        return true;
    const struct model_policy *policy = &sim->models[view.model].policy;
    bool tried_once = policy->kind != KIND_WORKERS && policy->revival == REVIVE_NEVER;
    return view.state == SLOT_READY || view.state == SLOT_DONE ||
           (view.state == SLOT_BROKEN && tried_once);
}

static bool everything_ended(const struct sim *sim)
{
    if (sim->outstanding || sim->write_count)
        return false;
    for (unsigned i = 0; i < SIM_ROWS; i++)
        if (sim->rows[i].used && sim->rows[i].waits && !sim->rows[i].forgotten)
            return false;
    for (unsigned i = 0; i < SIM_ALL; i++) {
        struct model_view view;
        if (sim->models[i].used &&
            (!core_model_view(sim->core, i, &view) || view.spares != sim->models[i].policy.spares))
            return false;
    }
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (!has_come(sim, i))
            return false;
    return true;
}

static bool has_exited(const struct sim *sim)
{
    return sim->exited;
}

/* Says where what did not end stands. */
static void report_stuck(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        if (sim->clients[i].id && !sim->clients[i].ended && !sim->clients[i].gone) {
            sim_fail(sim, "request %llx never ended", (unsigned long long)sim->clients[i].id);
            return;
        }
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        struct slot_view view;
        if (!has_come(sim, i) && core_slot_view(sim->core, i, &view)) {
            sim_fail(sim, "slot %u stays %s", i, slot_state_name(view.state));
            return;
        }
    }
    for (unsigned i = 0; i < SIM_ROWS; i++)
        if (sim->rows[i].used && sim->rows[i].waits && !sim->rows[i].forgotten)
            sim_fail(sim, "record %llu of model %u waits for room for ever",
                     (unsigned long long)sim->rows[i].record, sim->rows[i].model);
    sim_fail(sim, "something never ended: %u unanswered, %u writes", sim->outstanding,
             sim->write_count);
}

static void run_safety(struct sim *sim)
{
    sim->faults = true;
    hasupd_starts(sim);
    if (random_below(&sim->random, 2))
        sim_schedule(sim, sim_between(sim, HASUP_S, 1800 * HASUP_S), HAPPENS_DEATH, 0, 0, 0);
    sim_schedule(sim, HASUP_S, HAPPENS_ARRIVAL, 0, 0, 0);
    sim_schedule(sim, sim_between(sim, HASUP_S, 60 * HASUP_S), HAPPENS_FAULT, 0, 0, 0);
    sim_schedule(sim, sim_between(sim, 60 * HASUP_S, 600 * HASUP_S), HAPPENS_OPERATOR, 0, 0, 0);
    run_until(sim, sim->options.duration, NULL);
}

/* Somebody says it again: the second time hastens, the third ends all. */
static void operator_hastens(struct sim *sim)
{
    struct slot_view view;
    unsigned more = (unsigned)(sim->options.seed % 4);
    for (unsigned i = 1; i < more && !sim->exited && !sim->report->failed; i++) {
        run_until(sim, sim->now + sim_between(sim, HASUP_MS, 100 * HASUP_MS), has_exited);
        if (sim->exited)
            return;
        sim->grace = sim->now;
        sim_post(sim, &(struct event){.type = EVENT_SHUTDOWN});
    }
    for (unsigned i = 0; i < SIM_SLOTS && more == 3 && !sim->exited; i++)
        if (core_slot_view(sim->core, i, &view) && view.state != SLOT_STOPPED &&
            view.state != SLOT_KILLING)
            sim_fail(sim, "told to stop three times, slot %u is %s", i,
                     slot_state_name(view.state));
}

/* Faults stop.  Everything that was accepted ends, every slot comes back, and a shutdown is clean.
 */
static void run_liveness(struct sim *sim)
{
    sim->faults = false;
    for (unsigned i = 0; i < SIM_ALL; i++) {
        if (!sim->models[i].used)
            continue;
        operator_suspends(sim, i);
        versions_mends(sim, i);
        sim_post(sim, &(struct event){.type = EVENT_COMMAND,
                                      .model = i,
                                      .slot = CORE_ALL_SLOTS,
                                      .command = COMMAND_START});
    }
    run_until(sim, sim->now + 1800 * HASUP_S, everything_ended);
    /* Where a worker's age is shorter than all the others' starts, somebody is always away. */
    for (unsigned i = 0; i < sim->model_count && !everything_ended(sim); i++)
        versions_stop_recycling(sim, i);
    run_until(sim, sim->now + 900 * HASUP_S, everything_ended);
    if (!sim->report->failed && !everything_ended(sim))
        report_stuck(sim);
    for (unsigned i = 0; i < COMEBACKS && !people_are_content(sim) && !sim->report->failed; i++) {
        people_return(sim);
        run_until(sim, sim->now + 60 * HASUP_S, NULL);
        run_until(sim, sim->now + 600 * HASUP_S, everything_ended);
    }
    if (!sim->report->failed && !people_are_content(sim))
        people_complain(sim);
    sim->shutting_down = true;
    sim->grace = sim->now + 240 * HASUP_S;
    sim_post(sim, &(struct event){.type = EVENT_SHUTDOWN, .shutdown = {.deadline = sim->grace}});
    operator_hastens(sim);
    run_until(sim, sim->now + 300 * HASUP_S, has_exited);
    if (!sim->report->failed && !sim->exited)
        sim_fail(sim, "shutdown never ended");
}

void sim_run(const struct sim_options *options, struct sim_report *report)
{
    struct sim *sim = calloc(1, sizeof *sim);
    *report = (struct sim_report){0};
    if (!sim)
        abort();
    sim->options = *options;
    sim->report = report;
    sim->limits = (struct core_limits){.models = SIM_ALL,
                                       .result_bytes = options->seed % 2 ? 0 : 20000,
                                       .slots = SIM_SLOTS,
                                       .loading = options->seed % 3 ? 0 : 1 + options->seed % 4,
                                       .stream_bytes = SIM_STREAMED,
                                       .durable_bytes = SIM_DURABLE,
                                       .requests = SIM_REQUESTS,
                                       .entries = SIM_ENTRIES,
                                       .bodies = SIM_BODIES};
    random_init(&sim->random, options->seed * 2 + 1);
    sim->core = core_new(&sim->limits, options->seed);
    if (!sim->core || actions_init(&sim->actions, sim->core))
        abort();
    handover_begin(sim);
    sim->fault_permille = random_below(&sim->random, random_below(&sim->random, 3) ? 40 : 200);
    sim->model_count = 1 + random_below(&sim->random, SIM_MODELS);
    for (unsigned i = 0; i < sim->model_count; i++)
        shape_model(sim, &sim->models[i]);
    for (unsigned i = random_below(&sim->random, SIM_PROGRAMS + 1); i < SIM_PROGRAMS; i++)
        program_shape(sim, &sim->models[SIM_MODELS + i]);
    for (unsigned i = 0; i < SIM_ALL; i++)
        if (sim->models[i].used)
            order_shape(sim, i);
    for (unsigned i = 0; i < SIM_ALL; i++)
        for (unsigned k = 0; k < SIM_SLOTS; k++)
            sim->vaults[i][k].oracle_known = true;
    poison_shape(sim);
    run_safety(sim);
    if (!report->failed)
        run_liveness(sim);
    report->virtual_time = sim->now;
    handover_end(sim);
    actions_fini(&sim->actions);
    core_free(sim->core);
    free(sim->heap);
    free(sim);
}
