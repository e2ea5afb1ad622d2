/*
 * order.c: which model starts after which, and stops before it.  Owns the counts of a model's slots
 * that say whether it is up, and no timer: who waits is let in by gate.c at the end of the step
 * that changed something, and who is held while hasupd stops is looked at when a slot has stopped.
 *
 * A model is up while one of its workers is ready; a program, while each of its slots is ready or
 * done.  One that comes after another waits while that is on its way, and does not itself wait for
 * what has failed; where it is required, until it is up.  Only starts wait: what runs goes on while
 * what it requires is down, and its next start waits.  One that is not there yet is on its way; one
 * that was removed is waited for no more.  The configuration has no cycles; how one would end is
 * that everybody in it waits, and stops when the grace is over.
 */
#include "supervisor/core/internal.h"

/* On its way to be ready.  A oneshot's end is known when nothing of it is left; so is that of a
 * pre_start command, which is tried again after a while.  One that is restarted comes back. */
static bool is_coming(const struct model *model, const struct slot *slot)
{
    const bool again = slot->ordered && slot->wanted;
    switch ((int)slot->state) {
    case SLOT_WAITING:
    case SLOT_PREPARING:
    case SLOT_STARTING:
    case SLOT_LOADING:
    case SLOT_REPLAYING: return true;
    case SLOT_DRAINING:
    case SLOT_STOPPING: return again;
    case SLOT_KILLING:
        return again || (slot->hook.on && !PLANT(PLANT_AFTER_UNPREPARED)) ||
               model->policy.kind == KIND_ONESHOT;
    case SLOT_BACKOFF: return slot->hook.tries > 0;
    }
    return false;
}

void order_changed(struct core *core, struct slot *slot, enum slot_state from)
{
    struct model *model = model_of(core, slot);
    const bool worker = slot->role == ROLE_WORKER;
    const bool comes = worker && is_coming(model, slot);
    model->coming += comes;
    model->coming -= slot->comes;
    slot->comes = comes;
    core->order_moved |= slot->state == SLOT_STOPPED || slot->state == SLOT_BROKEN ||
                         slot->state == SLOT_WAITING;
    model->unstopped += slot->state != SLOT_STOPPED;
    model->unstopped -= from != SLOT_STOPPED;
    if (!worker)
        return;
    model->done += slot->state == SLOT_DONE;
    model->done -= from == SLOT_DONE;
    model->broken += slot->state == SLOT_BROKEN;
    model->broken -= from == SLOT_BROKEN;
    model->waiting += slot->state == SLOT_WAITING;
    model->waiting -= from == SLOT_WAITING;
    model->standing += slot->state != SLOT_STOPPED;
    model->standing -= from != SLOT_STOPPED;
}

bool order_is_up(const struct model *model)
{
    if (!model->used || !model->policy.workers)
        return false;
    uint32_t enough = model_is_program(model) ? model->policy.workers : 1;
    return model->ready + model->done >= enough;
}

/* ---- what is waited for in vain ---- */

/* What is known of each model, so that one is looked at once however many ways lead to it. */
struct outlook {
    enum { UNKNOWN, HOPES, IN_VAIN } list[CORE_MODELS];
    bool broken[CORE_MODELS]; /* it is because of what broke, which is no person's will */
};

static bool waits_in_vain(const struct core *core, const struct model *model,
                          struct outlook *outlook);

/* Of a model one worker is enough, of a program all are needed. */
static bool will_be_up(const struct model *model, bool in_vain)
{
    const uint32_t lost = model->broken + (in_vain ? model->waiting : 0);
    const uint32_t left = model->standing - lost, all = model->slots - model->helpers;
    return left && (left == all || !model_is_program(model));
}

static bool waits_in_vain(const struct core *core, const struct model *model,
                          struct outlook *outlook)
{
    const uint32_t index = model->index;
    if (outlook->list[index] != UNKNOWN)
        return outlook->list[index] == IN_VAIN;
    outlook->list[index] = HOPES; /* who stands in a circle has no answer from himself */
    for (uint32_t i = 0; i < model->policy.after.count; i++) {
        const struct model *before = &core->models[model->policy.after.list[i].model];
        if (!model->policy.after.list[i].required || !before->used || order_is_up(before))
            continue;
        const bool vain = waits_in_vain(core, before, outlook);
        if (will_be_up(before, vain))
            continue;
        outlook->list[index] = IN_VAIN;
        outlook->broken[index] |=
            before->broken || (before->waiting && outlook->broken[before->index]);
    }
    return outlook->list[index] == IN_VAIN;
}

/* Not all that is left on its way waits in vain. */
static bool still_comes(const struct core *core, const struct model *model)
{
    struct outlook outlook;
    if (!model->coming || !model->policy.after.count || model->coming > model->waiting)
        return model->coming;
    memset(&outlook, 0, sizeof outlook);
    return !waits_in_vain(core, model, &outlook);
}

bool order_waits_for_broken(const struct core *core, const struct model *model)
{
    struct outlook outlook;
    memset(&outlook, 0, sizeof outlook);
    return waits_in_vain(core, model, &outlook) && outlook.broken[model->index];
}

bool order_waits_in_vain(const struct core *core, const struct model *model)
{
    struct outlook outlook;
    if (!model->policy.after.count)
        return false;
    memset(&outlook, 0, sizeof outlook);
    return waits_in_vain(core, model, &outlook);
}

/* ---- who waits ---- */

const struct model *order_blocker(const struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < model->policy.after.count && !PLANT(PLANT_START_UNORDERED); i++) {
        const struct model *before = &core->models[model->policy.after.list[i].model];
        const bool comes = !before->used || still_comes(core, before);
        const bool required = model->policy.after.list[i].required && !core->shutting_down;
        if (!order_is_up(before) && (comes || required))
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

/* What waits for these slots alone, and what waits for any of them. */
static void refuse_in_vain(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->state == SLOT_WAITING)
            log_refuse_waiting(core, slot);
    }
    model_settle(core, model);
}

void order_settle(struct core *core)
{
    struct outlook outlook;
    const bool moved = core->order_moved;
    core->order_moved = false;
    core->essential_down |= moved;
    if (moved)
        memset(&outlook, 0, sizeof outlook);
    for (uint32_t i = 0; i < core->limits.models && moved; i++) {
        struct model *model = &core->models[i];
        if (model->used && model->policy.after.count && waits_in_vain(core, model, &outlook))
            refuse_in_vain(core, model);
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

/* All stop, or it is removed: then those that are removed with it go before it. */
bool order_holds(const struct core *core, const struct model *model)
{
    const bool all = core->shutting_down;
    if ((!all && !model->removing) || core->hastened || PLANT(PLANT_STOP_UNORDERED))
        return false;
    for (uint32_t i = 0; i < core->limits.models; i++) {
        const struct model *other = &core->models[i];
        if (other->used && other->unstopped && (all || other->removing) &&
            comes_after(other, model))
            return true;
    }
    return false;
}

void order_released(struct core *core, const struct model *model)
{
    if ((!core->shutting_down && !model->removing) || core->hastened || model->unstopped)
        return;
    for (uint32_t i = 0; i < model->policy.after.count; i++)
        model_settle(core, &core->models[model->policy.after.list[i].model]);
}

void order_loaded(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        struct model *model = model_of(core, slot);
        if (!slot->used)
            continue;
        model->unstopped += slot->state != SLOT_STOPPED;
        model->coming += slot->comes;
        if (slot->role != ROLE_WORKER)
            continue;
        model->done += slot->state == SLOT_DONE;
        model->broken += slot->state == SLOT_BROKEN;
        model->waiting += slot->state == SLOT_WAITING;
        model->standing += slot->state != SLOT_STOPPED;
    }
}

void order_check(const struct core *core, const struct model *model)
{
    uint32_t coming = 0, done = 0, unstopped = 0, broken = 0, waiting = 0, standing = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        unstopped += slot->state != SLOT_STOPPED;
        coming += slot->comes;
        if (slot->role != ROLE_WORKER)
            continue;
        done += slot->state == SLOT_DONE;
        broken += slot->state == SLOT_BROKEN;
        waiting += slot->state == SLOT_WAITING;
        standing += slot->state != SLOT_STOPPED;
    }
    assert(broken == model->broken && waiting == model->waiting && standing == model->standing);
    assert(coming == model->coming && done == model->done && unstopped == model->unstopped);
}
