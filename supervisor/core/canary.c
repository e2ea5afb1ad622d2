/*
 * canary.c: two versions of a model side by side: which of them the next request is for, and
 * whether the one that is tried does worse.  Its share is kept by a credit that each request adds
 * to.
 */
#include "supervisor/core/internal.h"

enum {
    CREDIT_MOST = 200, /* one that was busy does not get all that it missed */
    JUDGED_FOR = 16,   /* times abort_min_requests: then what was counts half */
};

/* The best free worker of one side. */
static struct slot *best_of(const struct model *model, bool canary)
{
    struct slot *best = NULL;
    for (uint32_t i = 0; i < model->free_count; i++) {
        struct slot *slot = model->free[i];
        bool better = !best || slot->key < best->key ||
                      (slot->key == best->key && slot->used_seq < best->used_seq);
        if ((slot->version != model->version) == canary && better)
            best = slot;
    }
    return best;
}

static bool stable_serves(const struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->role == ROLE_WORKER &&
            slot->state == SLOT_READY && slot->version == model->version)
            return true;
    }
    return false;
}

struct slot *rollout_choose(const struct core *core, const struct model *model)
{
    const struct rollout *r = &model->rollout;
    struct slot *canary = best_of(model, true), *stable = best_of(model, false);
    bool due = r->credit + (int64_t)r->weight >= PERCENT || PLANT(PLANT_GREEDY_CANARY);
    if (canary && due)
        return canary;
    /* Its share is a limit, too, but not where nobody else is there to answer. */
    return stable || stable_serves(core, model) ? stable : canary;
}

void rollout_dispatched(const struct core *core, const struct slot *slot, uint32_t count)
{
    struct model *model = &core->models[slot->model];
    struct rollout *r = &model->rollout;
    if (r->state != ROLLOUT_CANARY)
        return;
    bool canary = slot->version != model->version;
    if (canary && !stable_serves(core, model))
        return;
    r->credit += (int64_t)r->weight * count;
    if (canary)
        r->credit -= (int64_t)PERCENT * count;
    if (r->credit > CREDIT_MOST)
        r->credit = CREDIT_MOST;
}

/* Whether the canary fails more often than the stable version does, by more than is allowed. */
static bool canary_is_worse(const struct model *model)
{
    const struct rollout *r = &model->rollout;
    const uint64_t rate = r->policy.rollout.abort_error_rate;
    uint64_t stable = r->side[0].ended ? r->side[0].ended : 1;
    return r->side[1].ended >= r->policy.rollout.abort_min_requests &&
           r->side[1].failed * PERCENT * stable >
               r->side[1].ended * (r->side[0].failed * PERCENT + rate * stable);
}

void rollout_outcome(struct core *core, const struct slot *slot, bool failed)
{
    struct model *model = &core->models[slot->model];
    struct rollout *r = &model->rollout;
    if (r->state != ROLLOUT_CANARY)
        return;
    const uint64_t enough = (uint64_t)r->policy.rollout.abort_min_requests * JUDGED_FOR;
    bool canary = slot->version != model->version;
    r->side[canary].ended++;
    r->side[canary].failed += failed;
    if (canary && canary_is_worse(model) && !PLANT(PLANT_KEEP_CANARY)) {
        rollout_fail(core, model, ROLLOUT_ERRORS, slot);
    } else if (r->side[canary].ended >= enough) { /* the other side may have few, and keeps them */
        r->side[canary].ended /= 2;
        r->side[canary].failed = (r->side[canary].failed + !canary) / 2; /* in doubt it stays */
    }
}
