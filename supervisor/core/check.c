/*
 * check.c: what holds between any two steps, all of it looked at: O(everything).  What is of one
 * file's own that file checks (watch_check, gate_check, ...); here is what holds between them.
 */
#include "supervisor/core/internal.h"

static void slot_check(const struct core *core, const struct slot *slot)
{
    const struct model *model = &core->models[slot->model];
    uint32_t inflight = 0;
    assert(model->used);
    for (const struct item *item = slot->flight.head; item; item = item->next) {
        assert(item->place == PLACE_FLIGHT && item->slot == slot->index);
        assert(item->next || slot->flight.tail == item);
        assert(!item->next || item->next->progress >= item->progress);
        assert(item->logged == slot->stateful);
        inflight++;
    }
    assert(inflight == slot->inflight && slot->batches <= inflight);
    assert(!inflight == !slot->batches && slot->batches <= slot->offers.concurrency);
    assert(slot->concurrency <= slot->offers.concurrency);
    assert(!inflight || slot->state == SLOT_READY || slot->state == SLOT_REPLAYING ||
           slot->state == SLOT_DRAINING || slot->state == SLOT_STOPPING || PLANT(PLANT_NOT_READY));
    assert((slot->heap_at != NO_INDEX) == slot_has_room(core, slot));
    assert(slot->heap_at == NO_INDEX || model->free[slot->heap_at] == slot);
    bool waits = slot->state == SLOT_BACKOFF;
    assert(!waits || timer_is_set(&slot->timer));
    assert(slot->role == ROLE_WORKER || !slot->log.head);
    assert(slot->role != ROLE_ZYGOTE || !inflight);
    assert(slot->state != SLOT_ABORTING || timer_is_set(&slot->timer));
    watch_check(core, slot);
    program_check(core, slot);
    spare_check(core, slot);
    assert(!slot->exclusive || (model->suspect_runs && inflight));
    assert(!slot->held || (model->suspect_runs && inflight));
    log_check(core, slot);
}

static void model_check(const struct core *core, const struct model *model)
{
    uint32_t slots = 0, ready = 0, spares = 0, inflight = 0, free = 0, holds = 0;
    queue_check(core, model);
    suspects_check(&model->suspects);
    dispatch_check(core, model);
    recycle_check(core, model);
    order_check(core, model);
    model_check_hope(core, model);
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        slots++;
        ready += slot->state == SLOT_READY && slot->role == ROLE_WORKER;
        spares += slot->state == SLOT_READY && slot->role == ROLE_SPARE;
        inflight += slot->inflight;
        free += slot->heap_at != NO_INDEX;
        holds += slot->held;
    }
    assert(slots == model->slots && ready == model->ready && inflight == model->inflight);
    assert(spares == model->spares);
    assert(free == model->free_count && holds == model->holds);
    /* Work conserving: while a worker is free, what waits waits for the breaker only. */
    rollout_check(core, model);
    bool may = dispatch_has_taker(core, model) && breaker_lets(model) && !model->identifying;
    assert(!model->queue.count || !may || timer_is_set(&model->batch.timer));
    may = model->free_count && breaker_lets(model) && !model->identifying;
    for (uint32_t i = 0; i < model->free_count; i++)
        assert(!model->free[i]->queue.count || !may);
    assert(!model->suspects.count || model->suspect_runs || !may ||
           (blame_wants_witness(model) && model->inflight));
    assert((model->breaker.state == BREAKER_OPEN) == timer_is_set(&model->breaker.timer));
}

void core_check(const struct core *core)
{
    uint32_t live = 0, queued = 0, suspects = 0, inflight = 0, logged = 0, in_log = 0, in_store = 0,
             joined = 0, storing = 0, unstored = 0;
    uint64_t kept = 0;
    entries_check(&core->entries);
    gate_check(core);
    bodies_check(core);
    for (uint32_t i = 0; i < core->limits.models; i++)
        if (core->models[i].used) {
            model_check(core, &core->models[i]);
            queued += core->models[i].queued;
            suspects += core->models[i].suspects.count;
            inflight += core->models[i].inflight;
            storing += core->models[i].storing;
            unstored += core->models[i].unstored;
        }
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used) {
            slot_check(core, &core->slots[i]);
            logged += core->slots[i].log.count;
        }
    for (uint32_t i = 0; i < core->items_high; i++) {
        const struct item *item = &core->items[i];
        live += item->place != PLACE_NONE;
        in_log += item->place == PLACE_LOG;
        if (item->place == PLACE_NONE)
            continue;
        kept += item->kept;
        in_store += item->place == PLACE_STORE;
        joined += item->place == PLACE_JOINED;
        storing -= item->storing == STORING_ACCEPT;
        unstored -= item->storing == STORING_RESULT || item->storing == STORING_FAILED;
        assert(item->place != PLACE_STORE || item->storing != STORING_NOTHING);
        assert(item->storing == STORING_NOTHING || item->settled || item->entry);
        assert(!item->entry ||
               (item->entry->request == item->id && item->entry->state == ENTRY_RUNNING));
        assert(item->storing != STORING_FAILED || timer_is_set(&core->storing_timer));
        bool timed = !item->settled && item->deadline != HASUP_NEVER;
        assert(timed == timer_is_set(&item->timer));
        assert(item->logged || item->place != PLACE_LOG);
    }
    assert(!core->lazy_waits || timer_is_set(&core->sync_timer));
    assert(live == core->requests && kept == core->kept);
    assert(live == queued + suspects + inflight + in_log + in_store + joined && logged >= in_log);
    assert(!storing && !unstored && joined == core->joined);
}
