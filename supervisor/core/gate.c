/*
 * gate.c: when a slot may start.  It waits while models that come before its own are not up
 * (order.c); a program waits for nothing else.  One whose model has a zygote waits while that is on
 * its way, and is forked by it then, which loads nothing; where the zygote cannot be had, it loads
 * by itself. Who loads needs one of limits.loading: so many may load at the same time, over all
 * models.  Those that wait come in this order: models that have nobody before others, workers
 * before spares, the model of which fewest serve, first come first served.  So the only worker of a
 * model never waits for the fifth of another one.
 *
 * Owns who waits and who loads.  A slot that waits is SLOT_WAITING; the end of each step lets in
 * whom it made room for.
 */
#include "supervisor/core/internal.h"

struct slot *gate_zygote(struct core *core, const struct model *model)
{
    for (uint32_t i = 0; model->policy.preload && i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->role == ROLE_ZYGOTE &&
            slot->wanted && slot->state != SLOT_BROKEN)
            return slot;
    }
    return NULL;
}

/* Who forks this slot's worker, or will; NULL: it starts by itself.  A zygote is of the model's
 * version: another one's workers load by themselves. */
static struct slot *gate_expected(struct core *core, const struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    if (slot->role == ROLE_ZYGOTE || slot->version != model->version)
        return NULL;
    return gate_zygote(core, model);
}

bool gate_is_loaded(const struct core *core, const struct slot *zygote)
{
    return zygote->state == SLOT_READY && !zygote->renew &&
           zygote->version == core->models[zygote->model].version;
}

struct slot *gate_parent(struct core *core, const struct slot *slot)
{
    struct slot *zygote = gate_expected(core, slot);
    return zygote && gate_is_loaded(core, zygote) ? zygote : NULL;
}

static bool gate_lets(struct core *core, const struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    if (order_blocker(core, model))
        return false;
    if (model_is_program(model))
        return true;
    const struct slot *zygote = gate_expected(core, slot);
    uint32_t most = core->limits.loading + PLANT(PLANT_TWO_LOADS);
    if (zygote)
        return gate_is_loaded(core, zygote);
    return (!core->limits.loading || core->loading < most);
}

/* It serves, or will without waiting; in this state. */
static bool serves(const struct slot *slot, enum slot_state state)
{
    return slot->role != ROLE_SPARE &&
           (state == SLOT_READY || state == SLOT_REPLAYING || slot->loads);
}

bool gate_pass(struct core *core, struct slot *slot)
{
    if (slot->loads && !order_blocker(core, model_of(core, slot)))
        return true;
    if (!gate_lets(core, slot)) {
        slot->waits = ++core->waits;
        slot_set_state(core, slot, SLOT_WAITING);
        return false;
    }
    if (!model_is_program(model_of(core, slot)) && !gate_parent(core, slot)) {
        const bool served = serves(slot, slot->state);
        slot->loads = true;
        if (!PLANT(PLANT_FORGET_SERVED))
            model_of(core, slot)->served += (uint32_t)serves(slot, slot->state) - served;
        core->loading++;
    }
    return true;
}

void gate_changed(struct core *core, struct slot *slot, enum slot_state from)
{
    const bool served = serves(slot, from);
    core->waiting += slot->state == SLOT_WAITING;
    core->waiting -= from == SLOT_WAITING;
    bool on_its_way = slot->state == SLOT_PREPARING || slot->state == SLOT_STARTING ||
                      slot->state == SLOT_LOADING ||
                      (slot->state == SLOT_KILLING && slot->hook.on && slot->hook.passed);
    if (slot->loads && !on_its_way) {
        slot->loads = false;
        core->loading--;
    }
    model_of(core, slot)->served += (uint32_t)serves(slot, slot->state) - served;
}

static bool goes_before(const struct core *core, const struct slot *a, const struct slot *b)
{
    uint32_t of_a = core->models[a->model].served, of_b = core->models[b->model].served;
    bool spare_a = a->role == ROLE_SPARE, spare_b = b->role == ROLE_SPARE;
    if (!of_a != !of_b)
        return !of_a;
    if (spare_a != spare_b)
        return spare_b;
    return of_a != of_b ? of_a < of_b : a->waits < b->waits;
}

static struct slot *gate_next(struct core *core)
{
    struct slot *next = NULL;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->state != SLOT_WAITING || !gate_lets(core, slot))
            continue;
        if (model_is_program(model_of(core, slot)))
            return slot;
        if (!next || goes_before(core, slot, next))
            next = slot;
    }
    return next;
}

void gate_open(struct core *core)
{
    struct slot *slot;
    while (core->waiting && (slot = gate_next(core)))
        slot_go_on(core, slot);
}

hasup_ns gate_fork_by(const struct core *core, const struct slot *slot)
{
    hasup_ns attempt = core->models[slot->model].policy.timeouts.attempt;
    return attempt && core->now + attempt < slot->start_by ? core->now + attempt : slot->start_by;
}

/* Those that wait for it start again, once its end is told. */
bool gate_overdue(struct core *core, struct slot *slot)
{
    struct slot *zygote = gate_zygote(core, model_of(core, slot));
    if (!zygote || zygote->state != SLOT_READY || PLANT(PLANT_TRUST_ZYGOTE))
        return false;
    timer_set_at(&core->wheel, &slot->timer, slot->start_by);
    zygote->ordered = false;
    notice_slot(core, NOTICE_HUNG, zygote)->notice.value = HANG_FORK;
    slot_abort(core, zygote);
    return true;
}

void gate_refused(struct core *core, struct slot *slot)
{
    struct slot *zygote = gate_zygote(core, model_of(core, slot));
    if (!zygote)
        return;
    notice_slot(core, NOTICE_UNFORKABLE, zygote);
    zygote->wanted = zygote->renew = false;
    slot_drain(core, zygote);
    rollout_step(core, model_of(core, slot)); /* replacements waited for it */
}

static uint32_t served_of(const struct core *core, const struct model *model)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        count += slot->used && slot->model == model->index && serves(slot, slot->state);
    }
    return count;
}

void gate_loaded(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        model_of(core, slot)->served += slot->used && serves(slot, slot->state);
    }
}

void gate_check(const struct core *core)
{
    for (uint32_t i = 0; i < core->limits.models; i++)
        assert(!core->models[i].used ||
               core->models[i].served == served_of(core, &core->models[i]));
    uint32_t loading = 0, waiting = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        loading += slot->used && slot->loads;
        waiting += slot->used && slot->state == SLOT_WAITING;
        assert(!slot->used || slot->state != SLOT_WAITING ||
               !gate_lets((struct core *)(uintptr_t)core, slot));
    }
    assert(loading == core->loading && waiting == core->waiting);
}
