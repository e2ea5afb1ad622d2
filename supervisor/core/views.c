/*
 * views.c: what the shell may see of the core, copied out.  Changes nothing.
 */
#include "supervisor/core/internal.h"

bool core_hastened(const struct core *core)
{
    return core->hastened;
}

bool core_slot_view(const struct core *core, uint32_t index, struct slot_view *view)
{
    if (index >= core->slots_high || !core->slots[index].used)
        return false;
    const struct slot *slot = &core->slots[index];
    const struct model *blocker =
        slot->state == SLOT_WAITING ? order_blocker(core, &core->models[slot->model]) : NULL;
    *view = (struct slot_view){.state = slot->state,
                               .role = slot->role,
                               .model = slot->model,
                               .ordinal = slot->ordinal,
                               .worker = slot->worker,
                               .inflight = slot->inflight,
                               .queued = slot->queue.count,
                               .concurrency = slot->concurrency,
                               .stateful = slot->stateful,
                               .wanted = slot->wanted,
                               .version = slot->version,
                               .extra = slot->extra,
                               .waits = slot->restart,
                               .waits_for = blocker ? blocker->index : UINT32_MAX,
                               .since = slot->since,
                               .next_start = slot->next_start,
                               .starts = slot->starts,
                               .crashes = slot->crashes,
                               .recycled = slot->recycled,
                               .answered = slot->answered,
                               .replayed = slot->replayed,
                               .diverged = slot->diverged,
                               .service_ns = slot->service_ns,
                               .log_head = slot->log.position,
                               .checkpoint_position = slot->log.stored};
    return true;
}

bool core_model_view(const struct core *core, uint32_t index, struct model_view *view)
{
    if (index >= core->limits.models || !core->models[index].used)
        return false;
    const struct model *model = &core->models[index];
    *view = (struct model_view){.kind = model->policy.kind,
                                .accepting = model->accepting,
                                .ready = model->ready,
                                .slots = model->slots - model->helpers,
                                .up = order_is_up(model),
                                .done = model->done,
                                .spares = model->spares,
                                .queued = model->queued + model->suspects.count + model->storing,
                                .inflight = model->inflight,
                                .queued_bytes = model->queued_bytes,
                                .answered = model->answered,
                                .refused = model->refused,
                                .attempts = model->attempts,
                                .replays = model->replays,
                                .unstored = model->unstored,
                                .broken = model->breaker.state == BREAKER_OPEN,
                                .mends = model->breaker.until,
                                .suspects = model->suspects.count,
                                .bodies = model->bodies,
                                .rollout = {.state = model->rollout.state,
                                            .version = model->version,
                                            .other = model->rollout.version,
                                            .weight = model->rollout.weight}};
    for (unsigned i = 0; i < 2; i++) {
        view->rollout.side[i].ended = model->rollout.side[i].ended;
        view->rollout.side[i].failed = model->rollout.side[i].failed;
    }
    for (uint32_t i = 0; i < core->slots_high && model->rollout.state != ROLLOUT_NONE; i++)
        view->rollout.waiting +=
            core->slots[i].used && core->slots[i].model == index && core->slots[i].restart;
    return true;
}

const struct model_policy *core_model_policy(const struct core *core, uint32_t index)
{
    return index < core->limits.models && core->models[index].used ? &core->models[index].policy
                                                                   : NULL;
}

bool core_wants_hash(const struct core *core, uint32_t model)
{
    return model < core->limits.models && core->models[model].used && core->models[model].bodies;
}

void core_record_view(const struct core *core, uint64_t record, struct record_view *view)
{
    const struct entry *entry = entry_by_record(&core->entries, record);
    *view = (struct record_view){.state = RECORD_UNKNOWN};
    if (!entry)
        return;
    view->token = entry->token;
    view->why = entry->why;
    view->attempts = entry->attempts;
    switch (entry->state) {
    case ENTRY_FREE: return;
    case ENTRY_WAITING: view->state = RECORD_WAITING; return;
    case ENTRY_DONE: view->state = RECORD_DONE; return;
    case ENTRY_REFUSED: view->state = RECORD_REFUSED; return;
    case ENTRY_RUNNING: break;
    }
    const struct item *item = &core->items[(uint32_t)entry->request];
    bool waits = item->place == PLACE_QUEUE || item->place == PLACE_SUSPECTS ||
                 item->storing == STORING_ACCEPT;
    view->state = waits ? RECORD_QUEUED : RECORD_RUNNING;
    view->request = item->id;
    view->model = item->model;
    view->attempts = item->attempts;
}

void core_durable_view(const struct core *core, struct durable_view *view)
{
    *view = (struct durable_view){.unfinished = core->entries.used - core->entries.finished,
                                  .finished = core->entries.finished,
                                  .bytes = core->entries.bytes};
}
