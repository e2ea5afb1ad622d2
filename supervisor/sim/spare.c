/*
 * spare.c: spares and zygotes in the fake world: workers that change their slots, workers that are
 * forked, and how many load at the same time; what each of those promises.
 */
#include "supervisor/sim/internal.h"

/* ---- spares ---- */

/* What is on its way to or from a process goes with it. */
static void things_follow(struct sim *sim, uint32_t a, uint32_t number_a, uint32_t b,
                          uint32_t number_b, uint32_t number)
{
    for (size_t i = 0; i < sim->heap_count; i++) {
        struct thing *thing = &sim->heap[i];
        bool of_a = thing->slot == a && thing->worker == number_a;
        bool of_b = thing->slot == b && thing->worker == number_b;
        if (thing->life != sim->life || (!of_a && !of_b) || outlives_hasupd(thing->what))
            continue;
        thing->slot = of_a ? b : a;
        thing->worker = number;
    }
}

#define SWAP_MEMBER(a, b, type, member)                                                            \
    do {                                                                                           \
        type swapped_ = (a)->member;                                                               \
        (a)->member = (b)->member;                                                                 \
        (b)->member = swapped_;                                                                    \
    } while (0)

static void processes_swap(struct sim_slot *a, struct sim_slot *b)
{
    static struct worker kept;
    kept = a->worker;
    a->worker = b->worker;
    b->worker = kept;
    SWAP_MEMBER(a, b, bool, tree_left);
    SWAP_MEMBER(a, b, bool, exited);
    SWAP_MEMBER(a, b, bool, ready);
    SWAP_MEMBER(a, b, bool, ordered);
    SWAP_MEMBER(a, b, hasup_ns, ready_at);
    SWAP_MEMBER(a, b, hasup_ns, gone_at);
    SWAP_MEMBER(a, b, uint32_t, run_answered);
    SWAP_MEMBER(a, b, uint32_t, concurrency);
    SWAP_MEMBER(a, b, uint32_t, max_batch);
}

void spare_swap(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot], *spare = &sim->slots[action->other];
    const struct model_policy *policy = &sim->models[slot->model].policy;
    bool healthy = slot->run_answered ||
                   (slot->ready && sim->now - slot->ready_at >= policy->restart.healthy_after);
    if (slot->role != ROLE_WORKER || spare->role != ROLE_SPARE || slot->model != spare->model)
        sim_fail(sim, "slots %u and %u change what is not alike", action->slot, action->other);
    if (!spare->ready || spare->exited || !worker_is_loaded(&spare->worker))
        sim_fail(sim, "slot %u gets a spare that is not loaded", action->slot);
    if (slot->version != spare->version)
        sim_fail(sim, "slot %u gets a spare of another version", action->slot);
    if (slot->running || spare->running)
        sim_fail(sim, "slots %u and %u change while one has requests in hand", action->slot,
                 action->other);
    if (!slot->wild && !healthy && slot->unhealthy + 1 >= policy->restart.start_limit)
        sim_fail(sim, "slot %u gets a spare where its breaker should open", action->slot);
    slot->unhealthy = healthy || slot->wild ? 0 : slot->unhealthy + 1;
    if (slot->wild)
        spare->unhealthy = 0;
    spare->wild = spare->wild || slot->wild; /* what is not known of the run */
    slot->wild = false;
    slot->failed_most = healthy ? 0 : slot->failed_most + 1;
    things_follow(sim, action->slot, slot->worker.number, action->other, spare->worker.number,
                  action->worker);
    processes_swap(slot, spare);
    slot->worker.number = spare->worker.number = action->worker;
    slot->hook = (struct sim_hook){.known = true};
    spare->hook = (struct sim_hook){.known = true};
    slot->ordered = spare->ordered = slot->ready = false;
    slot->run_answered = 0;
    sim->report->swaps++;
}

/* ---- zygotes ---- */

void fork_begins(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    const struct sim_slot *zygote = &sim->slots[action->other];
    if (zygote->version != action->version)
        sim_fail(sim, "slot %u is forked by a zygote of another version", action->slot);
    if (zygote->role != ROLE_ZYGOTE || zygote->model != slot->model || !zygote->ready ||
        zygote->worker.phase != PHASE_SERVE)
        sim_fail(sim, "slot %u is forked by slot %u, which is no loaded zygote of its model",
                 action->slot, action->other);
    slot->worker = (struct worker){.number = action->worker};
    slot->exited = slot->tree_left = false;
    slot->fork = (struct sim_fork){true, action->other, zygote->worker.number};
    sim_schedule(sim, sim->now + sim_between(sim, 0, 30 * HASUP_MS), HAPPENS_FORK, action->slot,
                 action->worker, 0);
}

static void fork_fails(struct sim *sim, struct sim_slot *slot, int error)
{
    slot->fork.pending = false;
    slot->gone_at = sim->now;
    slot->ordered = error < 0; /* it starts again at once: nothing of its own failed */
    sim_post(sim, &(struct event){.type = EVENT_SPAWNED,
                                  .slot = (uint32_t)(slot - sim->slots),
                                  .worker = slot->worker.number,
                                  .error = error});
}

/* The zygote answers; where it is dead, or hangs, nobody does before its end is noticed. */
void fork_answered(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    struct sim_slot *zygote = &sim->slots[slot->fork.zygote];
    if (slot->worker.number != number || !slot->fork.pending ||
        zygote->worker.number != slot->fork.number || !zygote->worker.alive || zygote->worker.hangs)
        return;
    if (sim_chance(sim, sim->fault_permille / 2)) {
        fork_fails(sim, slot, sim_chance(sim, 300) ? HASUP_EWORKER : 11);
        return;
    }
    slot->fork.pending = false;
    sim_post(sim, &(struct event){.type = EVENT_SPAWNED,
                                  .slot = (uint32_t)(slot - sim->slots),
                                  .worker = number});
    worker_spawned(sim, slot, number);
    slot->worker.forked = true;
    zygote->run_answered++;
    sim->report->forks++;
}

/* A zygote is gone: who waits for it hears so. */
void forks_lost(struct sim *sim, const struct sim_slot *zygote)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (sim->slots[i].used && sim->slots[i].fork.pending &&
            sim->slots[i].fork.zygote == (uint32_t)(zygote - sim->slots))
            fork_fails(sim, &sim->slots[i], HASUP_ECLOSED);
}

/* Its slot ends before it is there; true: it was. */
bool fork_ends(struct sim *sim, struct sim_slot *slot)
{
    if (!slot->fork.pending)
        return false;
    slot->fork.pending = false;
    slot->exited = true;
    slot->gone_at = sim->now;
    sim_post(sim, &(struct event){.type = EVENT_EXITED,
                                  .slot = (uint32_t)(slot - sim->slots),
                                  .worker = slot->worker.number,
                                  .exited = {.tree_empty = true}});
    return true;
}

/* ---- loading ---- */

void check_loading(struct sim *sim)
{
    uint32_t loading = 0;
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        const struct worker *worker = &sim->slots[i].worker;
        loading += sim->slots[i].used && !slot_is_program(sim, &sim->slots[i]) && worker->alive &&
                   !worker->prepares && !worker->forked && !worker->aborted_at &&
                   !sim->slots[i].ordered && !worker_is_loaded(worker);
    }
    if (sim->limits.loading && loading > sim->limits.loading)
        sim_fail(sim, "%u load at the same time, and %u may", loading, sim->limits.loading);
}
