/*
 * dispatch.c: which worker gets the next request.  A model's ready workers with room stand in a
 * heap whose key is the policy's; a worker gets a request only when it can take one more (late
 * binding).  Suspects, requests that were in hand at a crash, run one group at a time on a worker
 * that was idle, before those that wait in the queue; but behind them while blame.c wants a
 * witness.
 */
#include "supervisor/core/internal.h"

enum { PASS_UNIT = 1 << 20 /* of weighted round robin: what one dispatch at weight 1 costs */ };

/* ---- the heap of free workers ---- */

static bool better(const struct slot *a, const struct slot *b)
{
    return a->key != b->key ? a->key < b->key : a->used_seq < b->used_seq;
}

static void heap_put(struct model *model, struct slot *slot, uint32_t at)
{
    model->free[at] = slot;
    slot->heap_at = (int)at;
}

static void heap_up(struct model *model, struct slot *slot, uint32_t at)
{
    for (uint32_t parent; at && better(slot, model->free[parent = (at - 1) / 2]); at = parent)
        heap_put(model, model->free[parent], at);
    heap_put(model, slot, at);
}

static void heap_down(struct model *model, struct slot *slot, uint32_t at)
{
    for (uint32_t child; (child = at * 2 + 1) < model->free_count; at = child) {
        if (child + 1 < model->free_count && better(model->free[child + 1], model->free[child]))
            child++;
        if (!better(model->free[child], slot))
            break;
        heap_put(model, model->free[child], at);
    }
    heap_put(model, slot, at);
}

static void heap_remove(struct model *model, struct slot *slot)
{
    uint32_t at = (uint32_t)slot->heap_at;
    struct slot *last = model->free[--model->free_count];
    slot->heap_at = NO_INDEX;
    if (last == slot)
        return;
    heap_up(model, last, at);
    heap_down(model, last, (uint32_t)last->heap_at);
}

static uint64_t weight_of(const struct model *model, const struct slot *slot)
{
    uint32_t weight = slot->ordinal < CORE_WEIGHTS ? model->policy.weights[slot->ordinal] : 1;
    return weight ? weight : 1;
}

static uint64_t key_of(const struct model *model, const struct slot *slot)
{
    switch (model->policy.policy) {
    case POLICY_FASTEST: return slot->service_ns * (slot->batches + 1);
    case POLICY_LEAST_LOADED: return slot->inflight;
    case POLICY_ROUND_ROBIN: return slot->used_seq;
    case POLICY_WEIGHTED_ROUND_ROBIN: return slot->pass;
    case POLICY_RANDOM: return 0;
    }
    return 0;
}

bool slot_has_room(const struct core *core, const struct slot *slot)
{
    bool ready =
        slot->state == SLOT_READY || (PLANT(PLANT_NOT_READY) && slot->state == SLOT_LOADING);
    return ready && slot->role == ROLE_WORKER && slot->batches < slot->concurrency && !slot->held &&
           !slot->exclusive && !log_is_full(core, slot);
}

static void heap_update(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    if (!slot_has_room(core, slot)) {
        if (slot->heap_at != NO_INDEX)
            heap_remove(model, slot);
        return;
    }
    slot->key = key_of(model, slot);
    if (slot->heap_at == NO_INDEX) {
        heap_up(model, slot, model->free_count++);
        return;
    }
    heap_up(model, slot, (uint32_t)slot->heap_at);
    heap_down(model, slot, (uint32_t)slot->heap_at);
}

/* ---- slots with room for what waits for them alone ---- */

static bool slot_is_due(const struct slot *slot)
{
    return slot->heap_at != NO_INDEX && slot->queue.count;
}

void dispatch_due(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    bool due = slot_is_due(slot);
    if (due == slot->due)
        return;
    slot->due = due;
    if (due) {
        slot->due_prev = NULL;
        slot->due_next = model->due;
        if (model->due)
            model->due->due_prev = slot;
        model->due = slot;
        return;
    }
    if (slot->due_prev)
        slot->due_prev->due_next = slot->due_next;
    else
        model->due = slot->due_next;
    if (slot->due_next)
        slot->due_next->due_prev = slot->due_prev;
}

void dispatch_update(struct core *core, struct slot *slot)
{
    heap_update(core, slot);
    dispatch_due(core, slot);
}

void dispatch_joined(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    if (slot->pass < model->pass)
        slot->pass = model->pass;
}

static struct slot *choose(struct core *core, const struct model *model)
{
    if (!model->free_count)
        return NULL;
    if (model->rollout.state == ROLLOUT_CANARY)
        return rollout_choose(core, model);
    if (model->policy.policy == POLICY_RANDOM)
        return model->free[random_below(&core->random, model->free_count)];
    return model->free[0];
}

/* ---- handing out ---- */

static void hand_over(struct core *core, struct slot *slot, struct item *item, bool replay,
                      bool more)
{
    struct model *model = model_of(core, slot);
    item->place = PLACE_FLIGHT;
    item->slot = slot->index;
    item->replay = replay;
    item->dispatched = item->progress = core->now;
    item->seen = model->row.seen;
    item->produced = 0;
    item->spoke = false;
    item->unbegun = item->unbegun && PLANT(PLANT_UNBEGUN_STAYS);
    list_append(&slot->flight, item);
    slot->inflight++;
    model->inflight++;
    if (replay) {
        model->replays++;
    } else {
        item->attempts++;
        model->attempts++;
    }
    if (slot->stateful && !item->logged)
        log_add(core, slot, item);
    struct action *action = action_slot(core, ACTION_DISPATCH, slot);
    action->request = item->id;
    action->dispatch.more = more;
    action->dispatch.attempt = item->attempts;
    action->dispatch.replay = replay;
    action->dispatch.resume =
        slot->resumable && !slot->stateful && (item->sent || item->progressed);
    action->dispatch.sent = item->sent;
    action->dispatch.position = item->position;
    action->dispatch.deadline = item->deadline;
}

void dispatch_batch(struct core *core, struct slot *slot, struct item *const *batch, uint32_t count,
                    bool replay)
{
    struct model *model = model_of(core, slot);
    watch_dispatched(core, slot);
    for (uint32_t i = 0; i < count; i++) {
        batch_join(slot, i ? batch[0] : NULL, batch[i]);
        hand_over(core, slot, batch[i], replay, i + 1 < count);
        if (!replay)
            batch[i]->batch = batch[0]->position;
    }
    batch_close(batch[0]);
    model->batches++;
    slot->used_seq = ++core->uses;
    model->pass = slot->pass;
    slot->pass += PASS_UNIT / weight_of(model, slot) * count;
    if (!replay)
        rollout_dispatched(core, slot, count);
    dispatch_update(core, slot);
}

/* Nobody else waits for it, and nobody loses a worker when it dies; one of a stateful model has no
 * state. */
static bool is_idle_spare(const struct slot *slot)
{
    return slot->role == ROLE_SPARE && !slot->stateful && !slot->inflight;
}

/* A spare, else an idle worker, else the one that is idle soonest. */
static struct slot *choose_for_suspects(struct core *core, const struct model *model)
{
    struct slot *best = NULL;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->state != SLOT_READY)
            continue;
        if (is_idle_spare(slot))
            return slot;
        if (slot->role == ROLE_WORKER && !log_is_full(core, slot) &&
            (!best || slot->inflight < best->inflight))
            best = slot;
    }
    return best;
}

bool dispatch_is_in_time(struct core *core, struct item *item)
{
    if (item->deadline > core->now || durable_outlasts(core, item))
        return true;
    request_refuse(core, item, REFUSED_DEADLINE, 0);
    request_forget(core, item);
    return false;
}

struct item *dispatch_pop(struct core *core, const struct slot *slot)
{
    struct model *model = model_of(core, slot);
    struct item *item = queue_pop(core, model, slot);
    if (!dispatch_is_in_time(core, item)) /* its timer is due within a tick */
        return NULL;
    if (!late_by_now(core, slot, item))
        return item;
    late_noted(core, model);
    request_refuse(core, item, REFUSED_LATE, model_retry_after(core, model));
    request_forget(core, item);
    return NULL;
}

/* The next suspects of the group that run together, of `left` at most; those whose time is over go.
 */
static uint32_t suspects_gather(struct core *core, const struct slot *slot, uint32_t *left,
                                struct item *batch[CORE_BATCH])
{
    struct suspects *suspects = &core->models[slot->model].suspects;
    uint32_t count = 0;
    while (*left && count < slot->batch_most) {
        struct item *item = suspects->list.head;
        if (count &&
            (!batch_may_hold(slot, batch[0], batch[0]) || !batch_may_hold(slot, batch[0], item)))
            break;
        suspects_remove(suspects, item);
        --*left;
        if (dispatch_is_in_time(core, item))
            batch[count++] = item;
    }
    return count;
}

static void dispatch_group(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    struct item *batch[CORE_BATCH];
    uint32_t left = suspects_next(&model->suspects);
    while (left && slot->batches < slot->concurrency) {
        uint32_t count = suspects_gather(core, slot, &left, batch);
        for (uint32_t i = 0; i < count; i++)
            batch[i]->alone = true;
        if (!count)
            continue;
        slot->exclusive = model->suspect_runs = true;
        dispatch_batch(core, slot, batch, count, false);
    }
}

/* Another one is idle before the worker that was held for the suspects. */
static void release_held(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || !slot->held)
            continue;
        slot->held = model->holds = model->suspect_runs = false;
        dispatch_update(core, slot);
    }
}

/* A group of suspects has a worker for itself, which is held for it while it is not idle. */
static void dispatch_suspects(struct core *core, struct model *model)
{
    while (model->suspects.count && (!model->suspect_runs || model->holds) && !model->identifying &&
           breaker_lets(model)) {
        struct slot *slot = choose_for_suspects(core, model);
        if (!slot || (model->holds && slot->inflight))
            return;
        if (model->holds)
            release_held(core, model);
        if (slot->inflight) {
            slot->held = model->holds = model->suspect_runs = true;
            dispatch_update(core, slot);
            return;
        }
        dispatch_group(core, slot);
    }
}

static void dispatch_next(struct core *core, struct slot *slot)
{
    struct item *batch[CORE_BATCH];
    batch[0] = dispatch_pop(core, slot);
    if (batch[0])
        dispatch_batch(core, slot, batch, batch_gather(core, slot, batch), false);
}

static void dispatch_queue(struct core *core, struct model *model)
{
    struct slot *slot;
    while (model->due && breaker_lets(model))
        dispatch_next(core, model->due);
    while (model->queue.count && breaker_lets(model) && (slot = choose(core, model))) {
        if (batch_waits(core, model, slot))
            return;
        dispatch_next(core, slot);
    }
    timer_clear(&core->wheel, &model->batch.timer);
}

void dispatch_model(struct core *core, struct model *model)
{
    if (model->identifying)
        return; /* who may run is not known before */
    if (model->breaker.state == BREAKER_HALF_OPEN || model->breaker.resumes) {
        model->breaker.resumes = false;
        replay_resume(core, model);
    }
    if (!blame_wants_witness(model))
        dispatch_suspects(core, model);
    dispatch_queue(core, model);
    if (!model->queue.count && !(blame_wants_witness(model) && model->inflight))
        dispatch_suspects(core, model);
}

bool dispatch_has_taker(const struct core *core, const struct model *model)
{
    return model->rollout.state == ROLLOUT_CANARY ? rollout_choose(core, model) != NULL
                                                  : model->free_count > 0;
}

void dispatch_check(const struct core *core, const struct model *model)
{
    for (uint32_t i = 0; i < model->free_count; i++) {
        const struct slot *slot = model->free[i];
        assert(slot->used && slot->heap_at == (int)i && slot->model == model->index);
        assert(slot_has_room(core, slot) && slot->key == key_of(model, slot));
        assert(!i || !better(slot, model->free[(i - 1) / 2]));
        assert(slot->due == slot_is_due(slot));
    }
    for (const struct slot *slot = model->due; slot; slot = slot->due_next)
        assert(slot->used && slot->due && slot_is_due(slot) && slot->model == model->index);
}
