/*
 * recycle.c: workers replaced before they do harm: after so many requests, at an age, above so much
 * memory.  A worker that is to go goes on serving until its turn comes: one at a time of a model,
 * and only while every wanted slot of the model is ready.  Where one may be started beyond those
 * (max_surge), that one is ready first (rollout.c).  It drains then, however long what it has takes
 * (one that hangs meanwhile is found by watch.c), and its slot starts again at once.  That is no
 * crash.  Memory is measured after answers, so a worker that is idle costs no wake-ups but one.
 */
#include "supervisor/core/internal.h"

static bool recycles(const struct slot *slot)
{
    return slot->state == SLOT_READY && slot->wanted && slot->role == ROLE_WORKER;
}

static void recycle_arm(struct core *core, struct slot *slot)
{
    hasup_ns at = slot->recycle.age_at;
    if (slot->recycle.measure_at < at)
        at = slot->recycle.measure_at;
    timer_set_at(&core->wheel, &slot->timer, at);
}

void recycle_begin(struct core *core, struct slot *slot)
{
    const hasup_ns age = model_of(core, slot)->policy.recycle.age;
    slot->restart &= !slot->recycle.chosen; /* this worker is as new as one can be */
    slot->recycle.why = RECYCLE_NO;
    slot->recycle.on = slot->recycle.chosen = false;
    slot->recycle.again = 0;
    slot->recycle.policy = age;
    slot->recycle.age_at =
        age ? slot->ready_since + random_jitter(&core->random, age) : HASUP_NEVER;
    slot->recycle.measured = core->now;
    slot->recycle.measure_at = HASUP_NEVER;
    if (slot->role == ROLE_WORKER)
        recycle_arm(core, slot);
}

void recycle_changed(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = &model_of(core, slot)->policy;
    if (!recycles(slot))
        return;
    if (policy->recycle.age != slot->recycle.policy) {
        recycle_begin(core, slot);
    } else if (!policy->recycle.memory) {
        slot->recycle.measure_at = HASUP_NEVER;
        recycle_arm(core, slot);
    }
}

static void recycle_want(struct core *core, struct slot *slot, enum recycle why)
{
    if (core->now < slot->recycle.again)
        return;
    if (slot->recycle.why == RECYCLE_NO)
        slot->recycle.why = why;
    recycle_next(core, model_of(core, slot));
}

static void measure(struct core *core, struct slot *slot)
{
    slot->recycle.measured = core->now;
    slot->recycle.measure_at = HASUP_NEVER;
    action_slot(core, ACTION_MEASURE, slot);
}

void recycle_answered(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = &model_of(core, slot)->policy;
    if (slot->state == SLOT_DRAINING && slot->recycle.on && !slot->inflight)
        slot_timer(core, slot, policy->timeouts.drain); /* from now on it only has to leave */
    if (!recycles(slot))
        return;
    if (policy->recycle.memory && slot->recycle.measure_at == HASUP_NEVER) {
        hasup_ns at = slot->recycle.measured + policy->recycle.memory_every;
        if (at <= core->now)
            measure(core, slot);
        else
            slot->recycle.measure_at = at;
        recycle_arm(core, slot);
    }
    if (policy->recycle.requests && slot->run_answered >= policy->recycle.requests)
        recycle_want(core, slot, RECYCLE_REQUESTS);
}

void recycle_measured(struct core *core, struct slot *slot, uint64_t bytes)
{
    const uint64_t most = model_of(core, slot)->policy.recycle.memory;
    if (recycles(slot) && most && bytes > most)
        recycle_want(core, slot, RECYCLE_MEMORY);
}

void recycle_due(struct core *core, struct slot *slot)
{
    bool aged = slot->recycle.age_at <= core->now;
    if (aged)
        slot->recycle.age_at = HASUP_NEVER;
    if (slot->recycle.measure_at <= core->now)
        measure(core, slot);
    recycle_arm(core, slot);
    if (aged && recycles(slot))
        recycle_want(core, slot, RECYCLE_AGE);
}

/* The next one to go; NULL: none is to go, or somebody is away.  One with less in hand goes first.
 */
static struct slot *recycle_candidate(const struct core *core, const struct model *model)
{
    struct slot *best = NULL;
    const enum rollout_state state = model->rollout.state;
    const bool rolls = state != ROLLOUT_NONE && state != ROLLOUT_CANARY;
    if (!model->accepting || core->shutting_down || rolls)
        return NULL;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || !slot->wanted ||
            slot->role != ROLE_WORKER)
            continue;
        if ((slot->state != SLOT_READY || slot->rolling || slot->restart) &&
            !PLANT(PLANT_RECYCLE_BELOW))
            return NULL;
        if (slot->recycle.why != RECYCLE_NO && slot->state == SLOT_READY && !slot->rolling &&
            (!best || slot->inflight < best->inflight))
            best = slot;
    }
    return best;
}

void recycle_turn(struct core *core, struct slot *slot)
{
    if (slot->recycle.chosen && slot->state == SLOT_READY) {
        slot->recycle.on = true;
        slot->recycled++;
        notice_slot(core, NOTICE_RECYCLED, slot)->notice.value = slot->recycle.why;
    }
    slot->recycle.chosen = false;
    slot_drain(core, slot);
}

void recycle_next(struct core *core, struct model *model)
{
    struct slot *slot = recycle_candidate(core, model);
    if (!slot)
        return;
    slot->recycle.chosen = true;
    if (rollout_covers(core, model) && !PLANT(PLANT_RECYCLE_UNCOVERED)) {
        slot->restart = true;
        rollout_step(core, model);
        return;
    }
    slot->rolling = true;
    recycle_turn(core, slot);
}

void recycle_forget(struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index)
            core->slots[i].recycle.chosen = false;
}

void recycle_put_off(struct core *core, struct slot *slot)
{
    const hasup_ns pause = model_of(core, slot)->policy.restart.breaker;
    if (!slot->recycle.chosen)
        return;
    slot->recycle.chosen = false;
    slot->recycle.again = pause ? core->now + pause : HASUP_NEVER;
    if (slot->recycle.why == RECYCLE_AGE)
        slot->recycle.age_at = slot->recycle.again;
    slot->recycle.why = RECYCLE_NO;
    if (recycles(slot))
        recycle_arm(core, slot);
}

void recycle_stopped(struct core *core, struct slot *slot)
{
    if (!slot->recycle.on)
        return;
    slot->recycle.on = false;
    slot_timer(core, slot, model_of(core, slot)->policy.timeouts.drain);
}

void recycle_check(const struct core *core, const struct model *model)
{
    assert(!recycle_candidate(core, model) || PLANT(PLANT_RECYCLE_BELOW));
}
