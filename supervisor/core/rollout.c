/*
 * rollout.c: workers replaced without a gap, and two versions of a model side by side.  Owns which
 * slot is replaced next, the extra slots that stand in meanwhile, and which version's policy holds.
 * What a canary gets and how it is judged is in canary.c.
 *
 *   NONE       every slot runs the model's version
 *   ROLLING    the model's version is the new one; slots that bear `restart` still run the old one,
 *              which comes back if the new one is not ready in time, or breaks
 *   CANARY     the model's version is the stable one; the extra slots run the one that is tried
 *   REVERTING  a ROLLING that failed: the old one is the model's again
 *
 * `restart` marks a slot that waits for its turn; `rolling` one that had it and is not ready yet.
 * The turn of one that serves comes while enough others are ready; of one that does not, first.  A
 * stateful slot owns its state, so that no extra one can stand in for it.
 */
#include "supervisor/core/internal.h"

enum { CREDIT_START = 50 /* of a canary; it is due at 100 */ };

/* ---- what is there ---- */

/* One pass over a model's slots.  Those that leave count for nothing. */
struct tally {
    struct slot *lame, *serving; /* that wait for their turn: the first of each */
    struct slot *extra;          /* the last */
    uint32_t extras, untried;    /* untried: extra ones that were not ready yet */
    uint32_t waiting, busy, ready;
    uint32_t chosen;  /* of those that wait: because they are to be recycled */
    uint32_t regular; /* that should serve and are no extra ones */
    bool stateful;
};

static struct slot *sooner(struct slot *slot, struct slot *than)
{
    return !than || slot->ordinal < than->ordinal ? slot : than;
}

static struct tally tally(struct core *core, const struct model *model)
{
    struct tally t = {0};
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing ||
            slot->role != ROLE_WORKER)
            continue;
        bool ready = slot->state == SLOT_READY;
        t.ready += ready || slot->state == SLOT_DONE;
        t.regular += slot->wanted && !slot->extra;
        t.busy += slot->rolling;
        t.stateful |= slot->stateful;
        t.waiting += slot->restart;
        t.chosen += slot->restart && slot->recycle.chosen;
        if (slot->extra) {
            t.extras++;
            t.untried += slot->rolling;
            t.extra = slot;
        }
        if (slot->restart && ready)
            t.serving = sooner(slot, t.serving);
        else if (slot->restart)
            t.lame = sooner(slot, t.lame);
    }
    return t;
}

const struct model_policy *slot_policy(const struct core *core, const struct slot *slot)
{
    const struct model *model = &core->models[slot->model];
    bool other = slot->version != model->version && slot->version == model->rollout.version;
    return other ? &model->rollout.policy : &model->policy;
}

uint32_t rollout_version(const struct core *core, const struct slot *slot)
{
    const struct model *model = &core->models[slot->model];
    const struct rollout *r = &model->rollout;
    if (r->state == ROLLOUT_CANARY && slot->extra)
        return r->version;
    /* One that crashes before its turn comes back as what it was, which is known to work. */
    if (r->state == ROLLOUT_ROLLING && slot->restart && r->version && slot->version == r->version)
        return slot->version;
    return model->version;
}

/* ---- from state to state ---- */

/* The deadline begins anew: something went forward.  Where workers are recycled only who stands in
 * has one: they themselves take as long as what they have in hand. */
static void progress(struct core *core, struct model *model)
{
    struct rollout *r = &model->rollout;
    const struct model_policy *judged = r->state == ROLLOUT_CANARY ? &r->policy : &model->policy;
    hasup_ns limit = judged->rollout.progress_deadline;
    bool recycled = r->why == ROLLOUT_RECYCLES && !tally(core, model).untried;
    bool runs = (r->state == ROLLOUT_ROLLING && !recycled) || r->state == ROLLOUT_CANARY;
    timer_set_at(&core->wheel, &r->timer, runs && limit ? core->now + limit : HASUP_NEVER);
}

static void enter(struct core *core, struct model *model, enum rollout_state state,
                  enum rollout_why why, const struct slot *culprit)
{
    struct rollout *r = &model->rollout;
    struct action *action = action_add(core, ACTION_ROLLOUT);
    action->model = model->index;
    action->slot = culprit ? culprit->index : UINT32_MAX;
    action->rollout.from = r->state;
    if (r->state == ROLLOUT_NONE)
        r->alone = false;
    action->rollout.to = state;
    action->rollout.why = why;
    if (state == ROLLOUT_NONE || state == ROLLOUT_REVERTING)
        r->version = 0;
    action->rollout.version = model->version;
    action->rollout.other = r->version;
    r->state = state;
    r->why = why;
    progress(core, model);
}

/* Its worker goes, and the slot with it. */
static void leave(struct core *core, struct slot *slot)
{
    slot->removing = true;
    slot->wanted = slot->restart = slot->rolling = false;
    slot_drain(core, slot);
}

static void extras_leave(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->extra && !slot->removing)
            leave(core, slot);
    }
}

/* Each slot that does not run the model's version waits for its turn, and no other. */
static void mark_stale(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing ||
            slot->role != ROLE_WORKER)
            continue;
        slot->restart = slot->wanted && slot->version != model->version;
        slot->rolling &= !slot->restart;
        slot->recycle.chosen = false;
    }
}

/* The other version becomes the model's, and the model's the other.  How many workers there are,
 * and what comes before them, is no version's. */
static void swap_versions(struct core *core, struct model *model)
{
    struct rollout *r = &model->rollout;
    struct model_policy policy = r->policy;
    uint32_t version = r->version;
    policy.workers = model->policy.workers;
    policy.after = model->policy.after;
    r->policy = model->policy;
    r->version = model->version;
    model->policy = policy;
    model->version = version;
    model_changed(core, model);
}

static void revert(struct core *core, struct model *model, enum rollout_why why,
                   const struct slot *culprit)
{
    swap_versions(core, model);
    model->proven = true;
    enter(core, model, ROLLOUT_REVERTING, why, culprit);
    extras_leave(core, model);
    mark_stale(core, model);
}

/* What is left of it is not replaced: there is no version to go back to. */
static void give_up(struct core *core, struct model *model, enum rollout_why why,
                    const struct slot *culprit)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        slot->restart = slot->rolling = false;
        recycle_put_off(core, slot);
    }
    enter(core, model, ROLLOUT_NONE, why, culprit);
    extras_leave(core, model);
}

void rollout_fail(struct core *core, struct model *model, enum rollout_why why,
                  const struct slot *culprit)
{
    bool rolls = model->rollout.state == ROLLOUT_ROLLING;
    if ((rolls && PLANT(PLANT_NO_ROLLBACK)) || model->rollout.state == ROLLOUT_REVERTING)
        return;
    if (rolls && model->rollout.version)
        revert(core, model, why, culprit);
    else if (rolls || model->rollout.state == ROLLOUT_CANARY)
        give_up(core, model, why, culprit);
    rollout_step(core, model);
    dispatch_model(core, model); /* what only the stable version might have had */
}

/* ---- replacing ---- */

/* An extra slot, with the lowest ordinal that is free; false: the table is full. */
static bool extra_add(struct core *core, struct model *model)
{
    uint32_t ordinal = model->policy.workers;
    while (slot_by_ordinal(core, model, ROLE_WORKER, ordinal))
        ordinal++;
    struct slot *slot = slot_add(core, model, ROLE_WORKER, ordinal, true);
    if (slot)
        slot->rolling = true;
    return slot != NULL;
}

static void take_turn(struct core *core, struct model *model, struct slot *slot)
{
    slot->restart = false;
    slot->rolling = true;
    progress(core, model);
    recycle_turn(core, slot);
}

/* How many slots may be down at once because of this. */
static uint32_t most_down(const struct core *core, const struct model *model, const struct tally *t)
{
    uint32_t most = model->policy.rollout.max_unavailable;
    bool covered = t->extras || (!t->stateful && !model->rollout.alone && model->accepting &&
                                 model->policy.rollout.max_surge && slots_have_room(core));
    if (covered && model->rollout.why == ROLLOUT_RECYCLES)
        return 0; /* what must not be seen is no reason for fewer */
    return most || covered ? most : 1;
}

/* Whether one that is ready may go. */
static bool may_spare_one(const struct tally *t, uint32_t down)
{
    return t->ready + down > t->regular || PLANT(PLANT_DRAIN_BEFORE_READY);
}

/* One that waits for its turn has it, or somebody to stand in for it; false: nothing can be done
 * now. */
static bool replace_one(struct core *core, struct model *model, const struct tally *t)
{
    const bool canary = model->rollout.state == ROLLOUT_CANARY;
    uint32_t down = most_down(core, model, t), most = down;
    uint32_t surge = t->stateful || canary || model->rollout.alone || !model->accepting
                         ? 0
                         : model->policy.rollout.max_surge;
    if (surge > t->waiting)
        surge = t->waiting;
    most += surge > t->extras ? surge : t->extras;
    if (t->lame && (t->busy < most || model->rollout.state == ROLLOUT_REVERTING)) {
        take_turn(core, model, t->lame);
        return true;
    }
    if (!t->serving || t->busy >= most)
        return false;
    if (t->extras < surge && extra_add(core, model)) {
        if (model->rollout.why == ROLLOUT_RECYCLES)
            progress(core, model);
        return true;
    }
    if (!may_spare_one(t, down))
        return false;
    take_turn(core, model, t->serving);
    return true;
}

/* Every slot had its turn and is ready: who stood in for them goes. */
static bool finish_one(struct core *core, struct model *model, const struct tally *t)
{
    if (t->busy)
        return false;
    if (!t->extras) {
        model->proven |= t->ready > 0;
        enter(core, model, ROLLOUT_NONE, model->rollout.why, NULL);
        return false;
    }
    if (t->extra->state == SLOT_READY && !may_spare_one(t, most_down(core, model, t)))
        return false;
    leave(core, t->extra);
    return true;
}

/* How many slots a canary's share is worth. */
static uint32_t canary_slots(const struct model *model)
{
    uint32_t slots = (model->policy.workers * model->rollout.weight + PERCENT - 1) / PERCENT;
    return slots ? slots : 1;
}

/* A canary has its slots, whatever became of the others. */
static bool canary_one(struct core *core, struct model *model, const struct tally *t)
{
    if (t->extras > canary_slots(model)) {
        leave(core, t->extra);
        return true;
    }
    return t->extras < canary_slots(model) && model->accepting && extra_add(core, model);
}

/* Those that serve nobody: the zygote at once, whose children all others are to be, then the
 * spares.  False: the zygote is not there yet. */
static bool helpers_step(struct core *core, struct model *model)
{
    struct slot *zygote = gate_zygote(core, model);
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        bool stale = slot->renew || slot->version != model->version;
        if (!slot->used || slot->model != model->index || slot->role == ROLE_WORKER ||
            slot->removing || !slot->wanted || slot->state != SLOT_READY || !stale)
            continue;
        if (slot != zygote && zygote && !gate_is_loaded(core, zygote))
            continue;
        slot->renew = false;
        slot_drain(core, slot);
    }
    return !zygote || gate_is_loaded(core, zygote);
}

static bool step_one(struct core *core, struct model *model)
{
    struct tally t = tally(core, model);
    bool recycles = t.waiting && t.waiting == t.chosen;
    if (model->rollout.state == ROLLOUT_NONE && t.waiting) { /* a restart of what runs */
        model->rollout.version = 0;
        enter(core, model, ROLLOUT_ROLLING, recycles ? ROLLOUT_RECYCLES : ROLLOUT_FINE, NULL);
    } else if (model->rollout.why == ROLLOUT_RECYCLES && t.waiting && !recycles) {
        recycle_forget(core, model); /* a restart was asked for meanwhile */
        enter(core, model, ROLLOUT_ROLLING, ROLLOUT_FINE, NULL);
    }
    if (model->rollout.state == ROLLOUT_NONE)
        return false;
    if (model->rollout.state == ROLLOUT_CANARY && canary_one(core, model, &t))
        return true;
    if (t.waiting && model->helpers && !helpers_step(core, model))
        return false; /* it would only wait */
    if (t.waiting)
        return replace_one(core, model, &t);
    return model->rollout.state != ROLLOUT_CANARY && finish_one(core, model, &t);
}

void rollout_step(struct core *core, struct model *model)
{
    bool done = false;
    while (model->used && !model->removing && step_one(core, model))
        done = true;
    if (model->used && model->helpers && !model->removing)
        (void)helpers_step(core, model);
    recycle_next(core, model);
    if (done)
        dispatch_model(core, model);
}

/* ---- what is asked for ---- */

/* A zygote that could not fork may be another program now. */
static void helper_renew(struct core *core, const struct model *model, struct slot *slot)
{
    bool gave_up = slot->role == ROLE_ZYGOTE && !slot->wanted && model->accepting;
    slot->renew = slot->wanted;
    if (!gave_up)
        return;
    slot->wanted = true;
    if (slot->state == SLOT_STOPPED)
        slot_start(core, slot);
}

void rollout_begin(struct core *core, struct model *model, const struct model_policy *policy,
                   uint32_t version)
{
    struct rollout *r = &model->rollout;
    if (r->state == ROLLOUT_CANARY)
        give_up(core, model, ROLLOUT_REPLACED, NULL);
    /* What never was ready is nothing to go back to; nor is what is only half there. */
    if (r->state != ROLLOUT_ROLLING || !r->version) {
        r->version = model->proven && version != model->version ? model->version : 0;
        r->policy = model->policy;
    }
    if (version != model->version)
        model->proven = false;
    model->policy = *policy;
    model->version = version;
    r->alone = false;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing)
            continue;
        if (slot->role != ROLE_WORKER) {
            helper_renew(core, model, slot);
            continue;
        }
        slot->restart |= slot->wanted;
        slot->rolling &= !slot->restart;
        slot->recycle.chosen = false;
    }
    enter(core, model, ROLLOUT_ROLLING, ROLLOUT_FINE, NULL);
}

void rollout_canary(struct core *core, struct model *model, const struct model_policy *policy,
                    uint32_t version, uint32_t weight)
{
    struct rollout *r = &model->rollout;
    if (r->state == ROLLOUT_ROLLING && r->why == ROLLOUT_RECYCLES)
        give_up(core, model, ROLLOUT_REPLACED, NULL); /* that can wait */
    if (r->state != ROLLOUT_NONE && r->state != ROLLOUT_CANARY)
        return;
    r->weight = weight < PERCENT ? weight : PERCENT;
    if (r->state == ROLLOUT_NONE) {
        r->version = version;
        r->policy = *policy;
        r->credit = CREDIT_START;
        memset(r->side, 0, sizeof r->side);
        enter(core, model, ROLLOUT_CANARY, ROLLOUT_FINE, NULL);
    }
    rollout_step(core, model);
    if (!tally(core, model).extras)
        rollout_fail(core, model, ROLLOUT_NO_ROOM, NULL);
}

void rollout_promote(struct core *core, struct model *model)
{
    if (model->rollout.state != ROLLOUT_CANARY)
        return;
    swap_versions(core, model);
    model->proven = false;
    mark_stale(core, model);
    enter(core, model, ROLLOUT_ROLLING, ROLLOUT_FINE, NULL);
}

void rollout_abort(struct core *core, struct model *model)
{
    rollout_fail(core, model, ROLLOUT_ORDERED, NULL);
}

void rollout_stop(struct core *core, struct model *model)
{
    if (model->rollout.state != ROLLOUT_NONE)
        give_up(core, model, ROLLOUT_STOPPED, NULL);
}

void rollout_adopt(struct core *core, struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    slot->extra = slot->recycle.chosen = false;
    slot->restart = slot->wanted && slot->version != model->version;
    slot->rolling &= !slot->restart;
}

/* ---- what happens ---- */

void rollout_greeted(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    if (!slot->extra || !slot->stateful || slot->removing)
        return;
    if (model->rollout.state == ROLLOUT_CANARY) {
        rollout_fail(core, model, ROLLOUT_STATEFUL, slot);
        return;
    }
    model->rollout.alone = true;
    leave(core, slot);
    rollout_step(core, model);
}

void rollout_ready(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    struct rollout *r = &model->rollout;
    bool was_rolling = slot->rolling;
    if (slot->role != ROLE_WORKER) {
        rollout_step(core, model);
        return;
    }
    slot->rolling = false;
    if (slot->version == model->version && r->state != ROLLOUT_ROLLING)
        model->proven = true;
    if (r->state == ROLLOUT_CANARY && !tally(core, model).untried)
        timer_clear(&core->wheel, &r->timer);
    else if (was_rolling)
        progress(core, model);
    rollout_step(core, model);
}

void rollout_timed_out(struct core *core, struct model *model)
{
    struct slot *culprit = NULL;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->rolling)
            culprit = sooner(slot, culprit);
    }
    rollout_fail(core, model, ROLLOUT_LATE, culprit);
}

void rollout_broke(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    const struct rollout *r = &model->rollout;
    uint32_t tried = r->state == ROLLOUT_CANARY ? r->version : model->version;
    if (r->state == ROLLOUT_NONE)
        slot->rolling = false; /* it was recycled */
    else if (r->why == ROLLOUT_RECYCLES && !slot->extra)
        return; /* who stands in for it goes on */
    else if (slot->version == tried)
        rollout_fail(core, model, ROLLOUT_BROKEN, slot);
}

void rollout_model_broke(struct core *core, struct model *model)
{
    if (model->rollout.state == ROLLOUT_ROLLING || model->rollout.state == ROLLOUT_CANARY)
        rollout_fail(core, model, ROLLOUT_CRASHES, NULL);
}

bool rollout_covers(const struct core *core, const struct model *model)
{
    return model->rollout.state == ROLLOUT_NONE && !model->stateful && model->accepting &&
           model->policy.rollout.max_surge && slots_have_room(core);
}

/* ---- invariants ---- */

void rollout_check(const struct core *core, const struct model *model)
{
    const struct rollout *r = &model->rollout;
    bool rolls = r->state == ROLLOUT_ROLLING || r->state == ROLLOUT_REVERTING;
    assert(rolls || r->state == ROLLOUT_CANARY || !timer_is_set(&r->timer));
    assert((r->state != ROLLOUT_CANARY) || r->version);
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing)
            continue;
        assert(!slot->extra || r->state != ROLLOUT_NONE);
        assert(!slot->restart || (slot->wanted && r->state != ROLLOUT_NONE));
    }
}
