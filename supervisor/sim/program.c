/*
 * program.c: programs in the fake world, and the order in which models and programs start and stop.
 * Checks of each start that what it requires is up, of each stop at the end that nobody is left who
 * came after, and of programs what they promise: none is ready that did not say so, none runs again
 * that was to run once, none that fails its probes is left alone.
 */
#include "supervisor/sim/internal.h"

/* It comes after some of those before it, so that there are no cycles. */
void order_shape(struct sim *sim, uint32_t model)
{
    struct model_policy *policy = &sim->models[model].policy;
    for (uint32_t i = 0; i < SIM_ALL && policy->after.count < CORE_AFTER; i++) {
        const struct model_shape *other = &sim->models[i];
        uint32_t rank = (model + SIM_PROGRAMS) % SIM_ALL, its = (i + SIM_PROGRAMS) % SIM_ALL;
        if (!other->used || its >= rank || random_below(&sim->random, 3))
            continue;
        policy->after.list[policy->after.count].model = i;
        policy->after.list[policy->after.count++].required =
            random_below(&sim->random, 2) && other->policy.revival != REVIVE_NEVER;
    }
}

void order_gone(struct sim *sim, uint32_t model)
{
    for (uint32_t i = 0; i < SIM_ALL; i++) {
        struct model_policy *policy = &sim->models[i].policy;
        uint32_t kept = 0;
        for (uint32_t k = 0; k < policy->after.count; k++)
            if (policy->after.list[k].model != model)
                policy->after.list[kept++] = policy->after.list[k];
        policy->after.count = kept;
    }
}

void program_shape(struct sim *sim, struct model_shape *shape)
{
    struct random *r = &sim->random;
    const bool oneshot = random_below(r, 3) == 0;
    *shape = (struct model_shape){.used = true, .load = sim_between(sim, 0, 5 * HASUP_S)};
    shape->policy = (struct model_policy){
        .workers = 1 + random_below(r, 3),
        .essential = random_below(r, 4) == 0,
        .kind = oneshot ? KIND_ONESHOT : KIND_PROGRAM,
        .revival = (enum revival)(oneshot ? 1 + random_below(r, 2) : random_below(r, 3)),
        .tells = random_below(r, 2),
        .restart = {.backoff_min = 100 * HASUP_MS,
                    .backoff_max = 30 * HASUP_S,
                    .healthy_after = 10 * HASUP_S,
                    .start_limit = 3 + random_below(r, 4),
                    .breaker = 60 * HASUP_S},
        .pre_start = {.on = random_below(r, 4) == 0,
                      .timeout = 10 * HASUP_S,
                      .retries = random_below(r, 4),
                      .interval = sim_between(sim, 0, 5 * HASUP_S)},
        .timeouts = {.start = 60 * HASUP_S,
                     .watchdog =
                         random_below(r, 3) ? 0 : sim_between(sim, 5 * HASUP_S, 60 * HASUP_S),
                     .abort = random_below(r, 3) ? sim_between(sim, HASUP_MS, 5 * HASUP_S) : 0,
                     .stop = 5 * HASUP_S},
        .recycle = {.age = random_below(r, 3) ? 0 : sim_between(sim, 60 * HASUP_S, 900 * HASUP_S)},
        .rollout = {.max_unavailable = random_below(r, 3)}};
    struct model_policy *policy = &shape->policy;
    if (oneshot)
        return;
    if (!policy->tells && random_below(r, 2))
        policy->probes[PROBE_READY].interval = sim_between(sim, HASUP_MS, 3 * HASUP_S);
    if (random_below(r, 2)) {
        policy->probes[PROBE_LIVE].interval = sim_between(sim, HASUP_S, 20 * HASUP_S);
        policy->probes[PROBE_LIVE].failures = 1 + random_below(r, 3);
    }
    policy->rollout.progress_deadline = sim_between(sim, 0, 300 * HASUP_S);
}

bool slot_is_program(const struct sim *sim, const struct sim_slot *slot)
{
    return sim->models[slot->model].policy.kind != KIND_WORKERS;
}

/* ---- its life ---- */

/* Whether it is ready by merely running. */
static bool is_ready_at_once(const struct model_policy *policy)
{
    return policy->kind == KIND_PROGRAM && !policy->tells && !policy->probes[PROBE_READY].interval;
}

void program_begins(struct sim *sim, struct sim_slot *slot)
{
    if (is_ready_at_once(&sim->models[slot->model].policy))
        slot->worker.phase = PHASE_SERVE;
}

/* It has loaded, or done its task, or ends on a whim; in how long it moves again, 0: not. */
hasup_ns program_moves(struct sim *sim, struct sim_slot *slot)
{
    const struct model_policy *policy = &sim->models[slot->model].policy;
    struct worker *worker = &slot->worker;
    if (policy->kind == KIND_ONESHOT || (worker->phase == PHASE_SERVE && sim->faults)) {
        worker->exiting = !sim_chance(sim, 300);
        worker_dies(sim, slot, false);
        return 0;
    }
    if (worker->phase != PHASE_SERVE) {
        worker->phase = PHASE_SERVE;
        if (policy->tells)
            sim_post(sim, &(struct event){.type = EVENT_WORKER_READY,
                                          .slot = (uint32_t)(slot - sim->slots),
                                          .worker = worker->number});
    }
    return sim_between(sim, HASUP_S, 600 * HASUP_S);
}

void program_exits(const struct sim *sim, struct sim_slot *slot)
{
    const struct model_policy *policy = &sim->models[slot->model].policy;
    bool well = slot->worker.exiting && !slot->worker.aborted_at; /* it hung, whatever it says */
    if (!slot_is_program(sim, slot) || slot->worker.prepares || slot->ordered)
        return;
    slot->last =
        (well && policy->revival != REVIVE_ALWAYS) || (!well && policy->revival == REVIVE_NEVER);
}

/* ---- probes ---- */

void program_asked(struct sim *sim, const struct action *action)
{
    sim_schedule(sim, sim->now + sim_between(sim, 0, HASUP_S), HAPPENS_PROBE, action->slot,
                 action->worker, action->probe);
}

static void check_probe(struct sim *sim, const struct sim_slot *slot)
{
    const struct model_policy *policy = &sim->models[slot->model].policy;
    hasup_ns each = policy->probes[PROBE_LIVE].interval + HASUP_S + SIM_TICK;
    hasup_ns since = slot->worker.hung_at > slot->ready_at ? slot->worker.hung_at : slot->ready_at;
    if (slot->state == SLOT_READY && slot->worker.hangs &&
        sim->now > since + each * (policy->probes[PROBE_LIVE].failures + 1))
        sim_fail(sim, "slot %u hangs, and its probe does not bite", (unsigned)(slot - sim->slots));
}

void program_answers(struct sim *sim, struct sim_slot *slot, uint32_t number, enum question probe)
{
    const struct worker *worker = &slot->worker;
    if (worker->number != number || slot->exited)
        return;
    if (probe == PROBE_LIVE)
        check_probe(sim, slot);
    bool well = worker->alive && !worker->hangs && worker->phase == PHASE_SERVE;
    sim_post(sim, &(struct event){.type = EVENT_PROBED,
                                  .slot = (uint32_t)(slot - sim->slots),
                                  .worker = number,
                                  .probed = {probe, well}});
}

/* ---- what must hold ---- */

static bool is_up(const struct sim *sim, uint32_t model)
{
    const struct model_policy *policy = &sim->models[model].policy;
    uint32_t up = 0;
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        up += sim->slots[i].used && sim->slots[i].model == model &&
              sim->slots[i].role == ROLE_WORKER &&
              (sim->slots[i].state == SLOT_READY || sim->slots[i].state == SLOT_DONE);
    return up >= (policy->kind == KIND_WORKERS ? 1 : policy->workers);
}

/* It will not be up, and that is because of what broke. */
static bool is_lost(const struct sim *sim, uint32_t model)
{
    struct slot_view view;
    bool broken = false, down = false, alive = false;
    const bool chain = order_is_lost(sim, model);
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        if (!core_slot_view(sim->core, i, &view) || view.model != model ||
            view.role != ROLE_WORKER)
            continue;
        const bool waits = view.state == SLOT_WAITING && chain;
        const bool dead = view.state == SLOT_BROKEN || !view.wanted || waits;
        broken |= view.state == SLOT_BROKEN || waits;
        down |= dead;
        alive |= !dead;
    }
    return broken && (sim->models[model].policy.kind == KIND_WORKERS ? !alive : down);
}

bool order_is_lost(const struct sim *sim, uint32_t model)
{
    const struct model_policy *policy = &sim->models[model].policy;
    for (unsigned i = 0; i < policy->after.count; i++)
        if (policy->after.list[i].required && !is_up(sim, policy->after.list[i].model) &&
            is_lost(sim, policy->after.list[i].model))
            return true;
    return false;
}

/* A slot of it is on its way to be ready, and waits for nothing. */
static bool is_starting(const struct sim *sim, uint32_t model)
{
    for (uint32_t i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        const enum slot_state state = slot->state;
        if (slot->used && slot->model == model && slot->role == ROLE_WORKER &&
            (state == SLOT_PREPARING || state == SLOT_STARTING || state == SLOT_LOADING ||
             (state == SLOT_KILLING && slot->worker.prepares)))
            return true;
    }
    return false;
}

void order_starts(struct sim *sim, struct sim_slot *slot, bool changed)
{
    const struct model_policy *policy = &sim->models[slot->model].policy;
    unsigned index = (unsigned)(slot - sim->slots);
    for (unsigned i = 0; i < policy->after.count; i++)
        if (policy->after.list[i].required && !is_up(sim, policy->after.list[i].model))
            sim_fail(sim, "slot %u starts before model %u, which it requires, is up", index,
                     policy->after.list[i].model);
        else if (!policy->after.list[i].required && !is_up(sim, policy->after.list[i].model) &&
                 is_starting(sim, policy->after.list[i].model))
            sim_fail(sim, "slot %u starts while model %u, which comes before it, starts", index,
                     policy->after.list[i].model);
    if (slot->last && !slot->wild && !changed)
        sim_fail(sim, "slot %u runs again, and its last run was to be the last", index);
    slot->last = false;
}

void order_stops(struct sim *sim, const struct sim_slot *slot)
{
    struct slot_view view;
    if (!sim->shutting_down || sim->now >= sim->grace || slot->role != ROLE_WORKER ||
        !core_slot_view(sim->core, (uint32_t)(slot - sim->slots), &view) || view.extra)
        return;
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *other = &sim->slots[i];
        const struct model_policy *policy = &sim->models[other->model].policy;
        for (unsigned k = 0; k < policy->after.count && other->used; k++)
            if (policy->after.list[k].model == slot->model && other->state != SLOT_STOPPED)
                sim_fail(sim, "slot %u stops before slot %u, which came after it",
                         (unsigned)(slot - sim->slots), i);
    }
}
