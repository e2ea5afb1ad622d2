/*
 * model.c: a model as a whole: set, scaled, drained, removed; which slots it has.  What comes of
 * the end of a slot or a request for its model is seen here, once for each: model_settle().
 */
#include "supervisor/core/internal.h"

/* `in_vain`: what its slots wait for will not come. */
static bool may_serve(const struct core *core, const struct model *model, bool in_vain)
{
    if (model->ready)
        return true;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->role == ROLE_WORKER &&
            slot->wanted && slot->state != SLOT_STOPPED && slot->state != SLOT_BROKEN &&
            !(slot->state == SLOT_WAITING && in_vain))
            return true;
    }
    return false;
}

bool model_has_hope(const struct core *core, const struct model *model)
{
    return may_serve(core, model,
                     !PLANT(PLANT_WAIT_IN_VAIN) && order_waits_in_vain(core, model));
}

/* Nothing is queued where all hope is in what is waited for in vain. */
void model_check_hope(const struct core *core, const struct model *model)
{
    assert((!model->queued && !model->suspects.count) || !may_serve(core, model, false) ||
           may_serve(core, model, order_waits_in_vain(core, model)));
}

static bool model_is_idle(const struct core *core, const struct model *model)
{
    if (model->queued || model->suspects.count || model->inflight || model->storing ||
        model->unstored)
        return false;
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index &&
            core->slots[i].log.unanswered)
            return false;
    return true;
}

/* Stops the slots of a model that has finished what it had. */
static void model_stop_slots(struct core *core, struct model *model)
{
    rollout_stop(core, model);
    for (uint32_t i = 0; i < core->slots_high && model->used; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        bool again = slot->wanted || (model->removing && !slot->removing);
        slot->wanted = slot->restart = slot->rolling = false;
        slot->removing |= model->removing;
        if (again)
            slot_drain(core, slot);
    }
}

/* Nobody of an essential model is left who could serve again without luck; or its program, which
 * was to stay, is done.  One that is stopped or drained was to end. */
static void essential_settle(struct core *core, const struct model *model)
{
    struct slot *broken = NULL;
    if (!model->policy.essential || !model->accepting)
        return;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->role != ROLE_WORKER ||
            !slot->wanted)
            continue;
        bool ended = slot->state == SLOT_BROKEN ||
                     (slot->state == SLOT_DONE && model->policy.kind == KIND_PROGRAM) ||
                     (slot->state == SLOT_WAITING && order_waits_for_broken(core, model));
        if (!ended && !PLANT(PLANT_ESSENTIAL_EARLY))
            return;
        if (ended && (!broken || slot->since >= broken->since))
            broken = slot;
    }
    if (broken)
        notice_slot(core, NOTICE_ESSENTIAL, broken);
}

/* After each step, which may have rolled back what broke. */
void essentials_settle(struct core *core)
{
    const bool looks = core->essential_down && !core->shutting_down;
    core->essential_down = false;
    for (uint32_t i = 0; looks && i < core->limits.models; i++)
        if (core->models[i].used)
            essential_settle(core, &core->models[i]);
}

void model_settle(struct core *core, struct model *model)
{
    if (!model->used)
        return;
    core->essential_down |=
        model->policy.essential && (!model->ready || PLANT(PLANT_ESSENTIAL_EARLY));
    if ((model->queued || model->suspects.count) && !model_has_hope(core, model))
        requests_refuse_queued(core, model, REFUSED_UNAVAILABLE);
    if (model->draining && model_is_idle(core, model) && !order_holds(core, model))
        model_stop_slots(core, model);
    if (model->used && model->removing && !model->slots && !model->storing && !model->unstored) {
        model->used = false;
        timer_clear(&core->wheel, &model->breaker.timer);
        timer_clear(&core->wheel, &model->batch.timer);
        timer_clear(&core->wheel, &model->rollout.timer);
        bodies_forget(core, model->index);
        order_forget(core, model);
        action_add(core, ACTION_MODEL_GONE)->model = model->index;
    }
    core_settle(core);
}

static struct slot *slot_unused(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (!core->slots[i].used)
            return &core->slots[i];
    return core->slots_high < core->limits.slots ? &core->slots[core->slots_high++] : NULL;
}

bool slots_have_room(const struct core *core)
{
    bool room = core->slots_high < core->limits.slots;
    for (uint32_t i = 0; i < core->slots_high && !room; i++)
        room = !core->slots[i].used;
    return room;
}

struct slot *slot_by_ordinal(struct core *core, const struct model *model, enum slot_role role,
                             uint32_t ordinal)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index &&
            core->slots[i].role == role && core->slots[i].ordinal == ordinal)
            return &core->slots[i];
    return NULL;
}

struct slot *slot_add(struct core *core, struct model *model, enum slot_role role, uint32_t ordinal,
                      bool extra)
{
    struct slot *slot = slot_unused(core);
    if (!slot)
        return NULL; /* those that drain still fill the table: models_fill() comes back to it */
    uint32_t worker = slot->worker;
    *slot = (struct slot){.used = true,
                          .timer = {.kind = TIMER_SLOT},
                          .work_timer = {.kind = TIMER_WORK},
                          .checkpoint_timer = {.kind = TIMER_CHECKPOINT},
                          .probe_timer = {.kind = TIMER_PROBE},
                          .state = SLOT_STOPPED,
                          .index = (uint32_t)(slot - core->slots),
                          .model = model->index,
                          .role = role,
                          .ordinal = ordinal,
                          .extra = extra,
                          .worker = worker,
                          .heap_at = NO_INDEX,
                          .wanted = model->accepting,
                          .since = core->now};
    model->slots++;
    model->helpers += role != ROLE_WORKER;
    struct action *added = action_slot(core, ACTION_SLOT_ADDED, slot);
    added->ordinal = ordinal;
    added->role = role;
    if (slot->wanted)
        slot_start(core, slot);
    return slot;
}

static uint32_t model_wants(const struct model *model, enum slot_role role)
{
    switch (role) {
    case ROLE_WORKER: return model->policy.workers;
    case ROLE_SPARE: return model->policy.spares;
    case ROLE_ZYGOTE: return model->policy.preload;
    }
    return 0;
}

/* As many slots of a role as the policy says: ordinals 0 … count - 1; one that leaves gets none. */
static void role_scale(struct core *core, struct model *model, enum slot_role role)
{
    const uint32_t count = model_wants(model, role);
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing || slot->extra ||
            slot->role != role || slot->ordinal < count)
            continue;
        slot->removing = true;
        slot->wanted = slot->restart = slot->rolling = false;
        if (slot->stateful && slot->log.position)
            notice_slot(core, NOTICE_STATE_LEFT, slot)->notice.value = slot->log.position;
        session_slot_changed(core, slot);
        slot_drain(core, slot);
    }
    for (uint32_t ordinal = 0; ordinal < count; ordinal++) {
        struct slot *slot = slot_by_ordinal(core, model, role, ordinal);
        if (!slot) {
            slot_add(core, model, role, ordinal, false);
        } else if (slot->removing) {
            slot->removing = false;
            slot->wanted = model->accepting;
            if (slot->wanted && slot->state == SLOT_STOPPED) /* its last checkpoint is stored */
                slot_start(core, slot);
            rollout_adopt(core, slot);
        } else if (slot->extra) {
            rollout_adopt(core, slot);
        }
    }
}

static uint32_t model_regular_slots(const struct core *core, const struct model *model)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        count += slot->used && slot->model == model->index && !slot->extra;
    }
    return count;
}

/* The zygote first: the others wait for it. */
static void model_scale(struct core *core, struct model *model)
{
    if (model->removing)
        return;
    role_scale(core, model, ROLE_ZYGOTE);
    role_scale(core, model, ROLE_WORKER);
    role_scale(core, model, ROLE_SPARE);
}

void models_fill(struct core *core)
{
    for (uint32_t i = 0; i < core->limits.models && !core->shutting_down; i++) {
        struct model *model = &core->models[i];
        if (model->used && model_regular_slots(core, model) < model->policy.workers +
                                                                  model->policy.spares +
                                                                  (uint32_t)model->policy.preload)
            model_scale(core, model);
    }
}

void model_changed(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        if (slot->offers.concurrency)
            slot_limit(core, slot);
        else
            dispatch_update(core, slot);
        checkpoint_arm(core, slot);
        watch_changed(core, slot);
        program_watch(core, slot);
        recycle_changed(core, slot);
    }
}

void model_set(struct core *core, const struct event *event)
{
    struct model *model = &core->models[event->model];
    bool added = !model->used;
    assert(event->model < core->limits.models);
    if (added)
        *model =
            (struct model){.used = true,
                           .accepting = !core->shutting_down,
                           .index = event->model,
                           .breaker.timer.kind = TIMER_BREAKER,
                           .batch.timer.kind = TIMER_BATCH,
                           .rollout.timer.kind = TIMER_ROLLOUT,
                           .version = event->model_set.version,
                           .free = core->free_slots + (size_t)event->model * core->limits.slots};
    if (event->model_set.canary && !added) {
        rollout_canary(core, model, event->model_set.policy, event->model_set.version,
                       event->model_set.canary);
        dispatch_model(core, model); /* it has a greater share, maybe */
        model_settle(core, model);
        return;
    }
    if (event->model_set.restart && !added && !model->removing) {
        breaker_reset(core, model);
        rollout_begin(core, model, event->model_set.policy, event->model_set.version);
    } else {
        model->policy = *event->model_set.policy;
    }
    model_changed(core, model);
    if (!model->removing) /* a slot more would be gone again before anybody could use it */
        model_scale(core, model);
    rollout_step(core, model);
    dispatch_model(core, model);
    model_settle(core, model);
}

void model_removed(struct core *core, struct model *model)
{
    rollout_stop(core, model);
    model->accepting = false;
    model->draining = model->removing = true;
    model_settle(core, model);
}
