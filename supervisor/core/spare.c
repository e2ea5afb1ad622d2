/*
 * spare.c: a loaded worker that takes over the place of one that served and died.  The two slots
 * change their workers: the slot has a loaded one at once, which it can dispatch to, or restore its
 * state into; the dying one is reaped in the spare's slot, which then starts the next spare.
 *
 * One that has loaded only later takes over from a worker that takes its time to die, such as one
 * that the kernel cannot kill while it waits for a device.
 *
 * What happened stays where it belongs: the crash, the runs in a row and the breaker are the slot's
 * whose worker died.  The run's end counts in the spare's slot, too, for its own backoff: who dies
 * again and again costs a start each time, wherever that is.
 */
#include "supervisor/core/internal.h"

/* One of a stateful model has loaded, and waits for the state of the slot that it comes to. */
static struct slot *spare_find(const struct core *core, const struct slot *slot)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *spare = &core->slots[i];
        bool loaded = spare->state == SLOT_READY ||
                      (PLANT(PLANT_SWAP_UNLOADED) && spare->state == SLOT_LOADING);
        if (spare->used && spare->model == slot->model && spare->role == ROLE_SPARE && loaded &&
            spare->wanted && !spare->renew && !spare->inflight &&
            spare->stateful == slot->stateful && spare->version == slot->version)
            return spare;
    }
    return NULL;
}

/* Its worker crashed and is not gone yet. */
static bool lacks_worker(const struct slot *slot)
{
    return slot->role == ROLE_WORKER && slot->wanted && !slot->ordered && !slot->hook.on &&
           (!slot->forks || slot->born) &&
           (slot->state == SLOT_KILLING || slot->state == SLOT_ABORTING);
}

/* A crash loop ends at the slot's breaker, with as many spares as there may be. */
static bool may_go_on(const struct core *core, const struct slot *slot, bool healthy)
{
    uint32_t limit = core->models[slot->model].policy.restart.start_limit;
    return healthy || !limit || slot->unhealthy + 1 < limit;
}

/* The dying worker's, to the spare's slot. */
static void give_end(struct core *core, struct slot *slot, struct slot *spare)
{
    hasup_ns ends = timer_at(&slot->timer);
    spare->exited = slot->exited;
    spare->tree_empty = slot->tree_empty;
    spare->was_ready = slot->was_ready;
    spare->ready_since = slot->ready_since;
    spare->run_answered = slot->run_answered;
    spare->ordered = false;
    spare->counted = true;
    spare->ping_due = 0;
    timer_clear(&core->wheel, &spare->work_timer);
    slot_set_state(core, spare, slot->state);
    if (slot->state == SLOT_ABORTING)
        timer_set_at(&core->wheel, &spare->timer, ends);
}

/* The spare's, to the slot. */
static void take_worker(struct core *core, struct slot *slot, const struct slot *spare)
{
    const hasup_ns limit = slot_policy(core, slot)->timeouts.start;
    slot->start_by = limit ? core->now + limit : HASUP_NEVER; /* for its state */
    slot->exited = slot->tree_empty = slot->drain_sent = slot->state_offered = false;
    slot->was_ready = false;
    slot->run_answered = 0;
    slot->resumable = spare->resumable;
    slot->offers.concurrency = spare->offers.concurrency;
    slot->offers.batch = spare->offers.batch;
    slot->alive = spare->alive;
    slot->ping_due = spare->ping_due;
    slot->progress = slot->last_active = core->now;
    slot->starts++;
    slot_limit(core, slot);
}

struct slot *spare_take_over(struct core *core, struct slot *slot)
{
    struct slot *spare = lacks_worker(slot) ? spare_find(core, slot) : NULL;
    bool healthy = slot_was_healthy(core, slot);
    if (!spare || !may_go_on(core, slot, healthy))
        return slot;
    const struct slot loaded = *spare;
    slot->unhealthy = healthy ? 0 : slot->unhealthy + 1;
    slot->breakers = healthy ? 0 : slot->breakers;
    slot->crashes += !slot->exited;
    slot->worker = spare->worker =
        (slot->worker > spare->worker ? slot->worker : spare->worker) + 1;
    action_slot(core, ACTION_SWAP, slot)->other = spare->index;
    give_end(core, slot, spare);
    take_worker(core, slot, &loaded);
    if (slot->stateful) {
        slot_load(core, slot);
        load_checkpoint(core, slot);
    } else {
        slot_became_ready(core, slot);
    }
    return spare;
}

void spares_settle(struct core *core)
{
    const bool looks = core->spare_came && !PLANT(PLANT_LATE_SPARE);
    core->spare_came = false;
    for (uint32_t i = 0; looks && i < core->slots_high; i++)
        if (core->slots[i].used && lacks_worker(&core->slots[i]))
            (void)spare_take_over(core, &core->slots[i]);
}

void spare_check(const struct core *core, const struct slot *slot)
{
    assert(!lacks_worker(slot) || !spare_find(core, slot) || !may_go_on(core, slot, false));
}
