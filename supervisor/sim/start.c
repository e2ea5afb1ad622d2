/*
 * start.c: starts, and what they promise: none before the old tree is empty, none before the
 * model's pre_start command succeeded, and each at its time (promise 7).
 */
#include "supervisor/sim/internal.h"

/* The backoff after this many failed runs in a row; the breaker's where it is open. */
static hasup_ns backoff_after(const struct model_policy *p, uint32_t failed)
{
    hasup_ns delay = p->restart.backoff_min;
    if (failed >= p->restart.start_limit)
        return p->restart.breaker;
    for (uint32_t i = 1; i < failed && delay < p->restart.backoff_max; i++)
        delay *= 2;
    return delay < p->restart.backoff_max ? delay : p->restart.backoff_max;
}

/* The delay before a start, against what backoff and breaker promise (promise 7).  An operator's
 * hand may have reset what the core counts, or not: `failed_most` counts on. */
/* When it would have started, had nobody been in its way. */
static hasup_ns start_time(const struct sim *sim, const struct sim_slot *slot)
{
    return slot->waits ? slot->waits_since : sim->now;
}

static void check_backoff(struct sim *sim, struct sim_slot *slot)
{
    const struct model_policy *p = &sim->models[slot->model].policy;
    unsigned index = (unsigned)(slot - sim->slots);
    hasup_ns waited = start_time(sim, slot) - slot->gone_at;
    if (!slot->spawned_before)
        return;
    bool healthy = slot->run_answered ||
                   (slot->ready && slot->gone_at - slot->ready_at >= p->restart.healthy_after);
    slot->failed_most = healthy && !slot->ordered && !slot->wild ? 0 : slot->failed_most + 1;
    if (slot->wild)
        return;
    if (healthy || slot->ordered) {
        slot->unhealthy = 0;
        if (waited)
            sim_fail(sim, "slot %u waited %lld us after a healthy run", index,
                     (long long)(waited / HASUP_US));
        return;
    }
    slot->unhealthy++;
    bool open = slot->unhealthy >= p->restart.start_limit;
    hasup_ns least = backoff_after(p, slot->unhealthy);
    if (!open)
        least -= least / 4;
    hasup_ns most = slot->failed_most >= p->restart.start_limit
                        ? p->restart.breaker * 8
                        : backoff_after(p, slot->failed_most) * 5 / 4;
    if (waited < least)
        sim_fail(sim, "slot %u started %lld ms after its failed run %u, at least %lld are due",
                 index, (long long)(waited / HASUP_MS), slot->unhealthy,
                 (long long)(least / HASUP_MS));
    if (waited > most + SIM_TICK)
        sim_fail(sim, "slot %u started only %lld ms after its failed run %u, at most %lld are due",
                 index, (long long)(waited / HASUP_MS), slot->failed_most,
                 (long long)(most / HASUP_MS));
}

/* What holds for every process of a slot.  True: it was started. */
static bool starts(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    if (slot->worker.alive || slot->tree_left)
        sim_fail(sim, "slot %u starts while its old tree lives", action->slot);
    if (action->worker == slot->worker.number)
        sim_fail(sim, "slot %u: worker number %u was used before", action->slot, action->worker);
    slot->spawned_before = true;
    slot->wild = slot->ordered = slot->ready = slot->recycling = false;
    slot->run_answered = slot->running = 0;
    slot->waits = false;
    if (action->type == ACTION_SPAWN && action->other != CORE_ALL_SLOTS) {
        fork_begins(sim, action);
        return false;
    }
    bool fails = sim_chance(sim, sim->fault_permille);
    if (fails) {
        slot->worker = (struct worker){.number = action->worker};
        slot->gone_at = sim->now;
    }
    sim_post(sim, &(struct event){.type = EVENT_SPAWNED,
                                  .slot = action->slot,
                                  .worker = action->worker,
                                  .error = fails ? 2 : 0});
    return !fails;
}

/* It runs another version: what became of the last one counts for nothing. */
static void begins_anew(struct sim_slot *slot)
{
    slot->unhealthy = slot->failed_most = 0;
}

void start_spawn(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    hasup_ns waited = start_time(sim, slot) - slot->gone_at;
    bool changed;
    versions_spawned(slot, action, &changed);
    order_starts(sim, slot, changed);
    if (changed && !sim->models[slot->model].policy.pre_start.on)
        begins_anew(slot);
    else if (!sim->models[slot->model].policy.pre_start.on)
        check_backoff(sim, slot);
    else if (!slot->hook.passed)
        sim_fail(sim, "slot %u starts though its pre_start command did not succeed", action->slot);
    else if (waited)
        sim_fail(sim, "slot %u waited %lld us after its pre_start command", action->slot,
                 (long long)(waited / HASUP_US));
    slot->hook = (struct sim_hook){.known = true};
    if (starts(sim, action)) {
        worker_spawned(sim, slot, action->worker);
        check_loading(sim);
    }
}

/* The command is tried again: at once where it was ended for a restart, else after its interval. */
static void check_interval(struct sim *sim, const struct sim_slot *slot)
{
    hasup_ns interval = sim->models[slot->model].policy.pre_start.interval;
    hasup_ns waited = start_time(sim, slot) - slot->gone_at;
    if (slot->ordered)
        interval = 0;
    if (waited < interval || waited > interval + SIM_TICK)
        sim_fail(sim, "slot %u tries its pre_start command again after %lld ms, %lld are due",
                 (unsigned)(slot - sim->slots), (long long)(waited / HASUP_MS),
                 (long long)(interval / HASUP_MS));
}

/* An operator's hand may have begun the tries anew, or not: then what is known begins with the next
 * command that succeeds.  Until then each failure is at most a failed start. */
void start_prepare(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    bool again = slot->hook.on && !slot->hook.passed; /* else the row of failed tries is over */
    bool more = again && slot->hook.failed &&
                slot->hook.failed <= sim->models[slot->model].policy.pre_start.retries;
    bool changed;
    versions_spawned(slot, action, &changed);
    order_starts(sim, slot, changed);
    if (slot->wild && again)
        slot->hook.known = false;
    if (changed) {
        begins_anew(slot);
        slot->hook = (struct sim_hook){.known = true};
    } else if (again && !slot->hook.known)
        slot->failed_most++;
    else if (again && (more || slot->ordered))
        check_interval(sim, slot);
    else
        check_backoff(sim, slot);
    if (!more)
        slot->hook.failed = 0;
    slot->hook.on = true;
    slot->hook.passed = slot->hook.timed_out = false;
    if (starts(sim, action))
        worker_prepares(sim, slot, action->worker);
    else
        slot->hook.failed++;
}

/* KILL: a command whose time is not over is ended because of somebody's order. */
void start_ends(struct sim_slot *slot)
{
    if (slot->worker.prepares && !slot->exited && !slot->hook.timed_out)
        slot->ordered = true;
}
