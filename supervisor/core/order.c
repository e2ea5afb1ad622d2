/*
 * order.c: which model starts after which, and stops before it.  Owns the counts of a model's slots
 * that say whether it is up, and no timer: who waits is let in by gate.c at the end of the step
 * that changed something, and who is held while hasupd stops is looked at when a slot has stopped.
 *
 * A model is up while one of its workers is ready; a program, while each of its slots is ready or
 * done.  One that comes after another waits while that is on its way; where it is required, until
 * it is up.  Only starts wait: what runs goes on while what it requires is down, and its next start
 * waits.  One that is not there yet is on its way; one that was removed is waited for no more.  The
 * configuration has no cycles; how one would end is that everybody in it waits, and
 * stops when the grace is over.
 */
#include "supervisor/core/internal.h"

/* A oneshot's end is known when nothing of it is left. */
static bool is_coming(const struct model *model, enum slot_state state)
{
    return state == SLOT_WAITING || state == SLOT_PREPARING || state == SLOT_STARTING ||
           state == SLOT_LOADING || state == SLOT_REPLAYING ||
           (state == SLOT_KILLING && model->policy.kind == KIND_ONESHOT);
}

void order_changed(struct core *core, const struct slot *slot, enum slot_state from)
{
    struct model *model = model_of(core, slot);
    core->order_moved |= slot->state == SLOT_STOPPED || slot->state == SLOT_BROKEN ||
                         slot->state == SLOT_WAITING;
    model->unstopped += slot->state != SLOT_STOPPED;
    model->unstopped -= from != SLOT_STOPPED;
    if (slot->role != ROLE_WORKER)
        return;
    model->coming += is_coming(model, slot->state);
    model->coming -= is_coming(model, from);
    model->done += slot->state == SLOT_DONE;
    model->done -= from == SLOT_DONE;
}

static bool model_is_up(const struct model *model)
{
    if (!model->used || !model->policy.workers)
        return false;
    uint32_t enough = model_is_program(model) ? model->policy.workers : 1;
    return model->ready + model->done >= enough;
}

const struct model *order_blocker(const struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < model->policy.after.count && !PLANT(PLANT_START_UNORDERED); i++) {
        const struct model *before = &core->models[model->policy.after.list[i].model];
        bool comes = !before->used || before->coming;
        if (!model_is_up(before) && (comes || model->policy.after.list[i].required))
            return before;
    }
    return NULL;
}

void order_forget(struct core *core, const struct model *gone)
{
    for (uint32_t i = 0; i < core->limits.models; i++) {
        struct model_policy *policy = &core->models[i].policy;
        uint32_t kept = 0;
        for (uint32_t k = 0; k < policy->after.count; k++)
            if (policy->after.list[k].model != gone->index)
                policy->after.list[kept++] = policy->after.list[k];
        policy->after.count = kept;
    }
}

/* ---- what is waited for in vain ---- */

enum { CHAIN = 64 /* of models that wait for each other, as far as it is looked at */ };

static bool waits_in_vain(const struct core *core, const struct model *model, unsigned depth);

/* Of a model one worker is enough, of a program all are needed. */
static bool will_be_up(const struct core *core, const struct model *model, unsigned depth)
{
    const bool all = model_is_program(model), in_vain = waits_in_vain(core, model, depth);
    bool any = false;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->role != ROLE_WORKER)
            continue;
        const bool comes = slot->wanted && slot->state != SLOT_BROKEN &&
                           !(slot->state == SLOT_WAITING && in_vain);
        if (all && !comes)
            return false;
        any |= comes;
    }
    return any;
}

static bool waits_in_vain(const struct core *core, const struct model *model, unsigned depth)
{
    for (uint32_t i = 0; i < model->policy.after.count && depth < CHAIN; i++) {
        const struct model *before = &core->models[model->policy.after.list[i].model];
        if (model->policy.after.list[i].required && before->used && !model_is_up(before) &&
            !will_be_up(core, before, depth + 1))
            return true;
    }
    return false;
}

bool order_waits_in_vain(const struct core *core, const struct model *model)
{
    return waits_in_vain(core, model, 0);
}

void order_settle(struct core *core)
{
    const bool moved = core->order_moved;
    core->order_moved = false;
    for (uint32_t i = 0; i < core->limits.models && moved; i++) {
        struct model *model = &core->models[i];
        if (model->used && model->policy.after.count && (model->queued || model->suspects.count))
            model_settle(core, model);
    }
}

/* ---- stops ---- */

static bool comes_after(const struct model *model, const struct model *before)
{
    for (uint32_t i = 0; i < model->policy.after.count; i++)
        if (model->policy.after.list[i].model == before->index)
            return true;
    return false;
}

bool order_holds(const struct core *core, const struct model *model)
{
    if (!core->shutting_down || core->hastened || PLANT(PLANT_STOP_UNORDERED))
        return false;
    for (uint32_t i = 0; i < core->limits.models; i++)
        if (core->models[i].used && core->models[i].unstopped &&
            comes_after(&core->models[i], model))
            return true;
    return false;
}

void order_released(struct core *core, const struct model *model)
{
    if (!core->shutting_down || core->hastened || model->unstopped)
        return;
    for (uint32_t i = 0; i < model->policy.after.count; i++)
        model_settle(core, &core->models[model->policy.after.list[i].model]);
}

void order_loaded(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used)
            order_changed(core, &core->slots[i], SLOT_STOPPED);
    core->order_moved = false;
}

void order_check(const struct core *core, const struct model *model)
{
    uint32_t coming = 0, done = 0, unstopped = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        unstopped += slot->state != SLOT_STOPPED;
        coming += slot->role == ROLE_WORKER && is_coming(model, slot->state);
        done += slot->role == ROLE_WORKER && slot->state == SLOT_DONE;
    }
    assert(coming == model->coming && done == model->done && unstopped == model->unstopped);
}
