/*
 * request.c: the life of a request: accepted or refused, queued, in flight, answered once,
 * forgotten. `settled` marks that its client has heard an end of it (or is gone): from then on
 * nothing is said about it but FORGET, which comes when no worker and no log holds it any more.
 */
#include "supervisor/core/internal.h"

struct item *item_find(struct core *core, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= core->items_high)
        return NULL;
    struct item *item = &core->items[index];
    return item->place != PLACE_NONE && item->id == id ? item : NULL;
}

/* ---- ends ---- */

void request_forget(struct core *core, struct item *item)
{
    assert(item->settled && !item->logged && item->storing == STORING_NOTHING);
    durable_forget(core, item);
    kept_release(core, item);
    timer_clear(&core->wheel, &item->timer);
    item->place = PLACE_NONE;
    core->requests--;
    action_add(core, ACTION_FORGET)->request = item->id;
}

void refuse_action(struct core *core, uint64_t id, enum refusal why, hasup_ns retry_after,
                   uint32_t attempts)
{
    struct action *action = action_add(core, ACTION_REFUSE);
    action->request = id;
    action->refuse.why = why;
    action->refuse.retry_after = retry_after;
    action->refuse.attempts = attempts;
}

/* Tells the client; where the request stands stays as it is. */
void request_refuse(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after)
{
    assert(!item->settled);
    item->settled = item->refused = true;
    item->why = why;
    timer_clear(&core->wheel, &item->timer);
    core->models[item->model].refused++;
    if (item->client)
        refuse_action(core, item->id, why, retry_after, item->attempts);
    durable_refused(core, item, retry_after);
}

void waiting_refuse(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after)
{
    struct model *model = &core->models[item->model];
    if (item->place == PLACE_QUEUE)
        queue_remove(core, item);
    else
        suspects_remove(&model->suspects, item);
    request_refuse(core, item, why, retry_after);
    request_forget(core, item);
}

void requests_refuse_queued(struct core *core, struct model *model, enum refusal why)
{
    hasup_ns retry_after = model_retry_after(core, model);
    for (struct item *item; (item = queue_any(core, model));) {
        queue_remove(core, item);
        request_refuse(core, item, why, retry_after);
        request_forget(core, item);
    }
    while (model->suspects.list.head)
        waiting_refuse(core, model->suspects.list.head, why, retry_after);
}

void request_drop(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    switch (item->place) {
    case PLACE_QUEUE: queue_remove(core, item); break;
    case PLACE_SUSPECTS: suspects_remove(&model->suspects, item); break;
    case PLACE_LOG:
        if (item->answered)
            return;
        log_remove(&core->slots[item->slot], item);
        break;
    case PLACE_FLIGHT:
        /* What changes a state runs to its end, or a replay would not bring it back. */
        if (!item->logged) {
            struct action *action = action_slot(core, ACTION_CANCEL, &core->slots[item->slot]);
            action->request = item->id;
        }
        return;
    case PLACE_JOINED: durable_left(core, item); return;
    case PLACE_STORE: /* when the journal has done with it */
    case PLACE_NONE: return;
    }
    request_forget(core, item);
}

void request_expired(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    if (durable_outlasts(core, item))
        return;
    if (item->place == PLACE_FLIGHT)
        batch_was_late(&core->slots[item->slot], item);
    request_refuse(core, item, REFUSED_DEADLINE, 0);
    request_drop(core, item);
    model_settle(core, model);
}

void request_cancelled(struct core *core, const struct event *event)
{
    struct item *item = item_find(core, event->request);
    if (!item || item->settled)
        return;
    item->client = false;
    if (item->entry)
        return; /* its client can come back */
    item->settled = true;
    timer_clear(&core->wheel, &item->timer);
    struct model *model = &core->models[item->model];
    request_drop(core, item);
    model_settle(core, model);
}

/* ---- taking in ---- */

struct item *request_open(struct core *core, const struct event *event)
{
    uint32_t index = (uint32_t)event->request;
    assert(index < core->limits.requests);
    if (index >= core->items_high)
        core->items_high = index + 1;
    struct item *item = &core->items[index];
    assert(item->place == PLACE_NONE);
    *item = (struct item){.timer = {.kind = TIMER_REQUEST},
                          .id = event->request,
                          .model = event->model,
                          .slot = UINT32_MAX,
                          .priority = priority_of(event),
                          .client = true,
                          .async = event->submitted.async,
                          .once = event->submitted.once,
                          .hash = {event->submitted.hash[0], event->submitted.hash[1]},
                          .size = event->submitted.size,
                          .session = event->submitted.session,
                          .home = UINT32_MAX,
                          .batch_key = event->submitted.batch_key,
                          .arrival = ++core->arrivals,
                          .entered = core->now,
                          .deadline = event->submitted.deadline};
    if (!item->deadline)
        item->deadline = HASUP_NEVER;
    timer_set_at(&core->wheel, &item->timer, item->deadline);
    core->requests++;
    return item;
}

void request_enter(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    if (blame_is_quarantined(core, item->hash, &(uint32_t){0})) {
        request_refuse(core, item, REFUSED_QUARANTINED, 0);
        request_forget(core, item);
    } else if (body_find(&core->bodies, item->hash) && !session_has_state(core, item)) {
        suspects_put(&model->suspects, item);
        suspects_close(&model->suspects, false);
    } else {
        session_queue(core, item);
    }
}

void request_submitted(struct core *core, const struct event *event)
{
    struct model *model = event->model < core->limits.models && core->models[event->model].used
                              ? &core->models[event->model]
                              : NULL;
    if (event->submitted.record) {
        durable_asked(core, event);
        return;
    }
    bool durable = model && model_is_durable(core, model, event);
    if (!model) {
        refuse_at_once(core, event, NULL, REFUSED_NOT_FOUND);
        return;
    }
    if (durable && durable_joined(core, model, event))
        return;
    if (event->submitted.heard && !PLANT(PLANT_BEGIN_IN_THE_MIDDLE)) {
        /* Run anew it might say something else, behind what its client has of the first run. */
        refuse_at_once(core, event, model, REFUSED_GONE);
        return;
    }
    if (durable && durable_is_too_large(core, event->submitted.size)) {
        refuse_at_once(core, event, model, REFUSED_TOO_LARGE);
        return;
    }
    if (admission_refuses(core, event, model))
        return;
    struct item *item = request_open(core, event);
    batch_arrived(core, model);
    if (!durable) {
        request_enter(core, item);
        dispatch_model(core, model);
    } else if (!durable_begin(core, item, event)) {
        request_refuse(core, item, REFUSED_OVERLOADED, model_retry_after(core, model));
        request_forget(core, item);
    }
}

/* ---- what workers say ---- */

/* Takes it out of its worker's hands; true: and with it the last of its batch. */
static bool flight_remove(struct core *core, struct slot *slot, struct item *item)
{
    struct model *model = model_of(core, slot);
    bool last = batch_leave(slot, item);
    list_remove(&slot->flight, item);
    slot->inflight--;
    model->inflight--;
    item->place = item->logged ? PLACE_LOG : PLACE_QUEUE;
    item->alone = false;
    core->spare_came |= slot->role == ROLE_SPARE && !slot->inflight;
    if (slot->exclusive && !slot->inflight) {
        slot->exclusive = false;
        model->suspect_runs = false;
    }
    if (slot->held && !slot->inflight)
        slot->held = model->holds = model->suspect_runs = false;
    return last;
}

void request_answer(struct core *core, struct slot *slot, struct item *item)
{
    struct model *model = model_of(core, slot);
    if (item->settled)
        return;
    item->settled = true;
    timer_clear(&core->wheel, &item->timer);
    model->answered++;
    if (!item->client)
        return;
    struct action *action = action_add(core, ACTION_ANSWER);
    action->request = item->id;
    action->answer.attempts = item->attempts;
    if (PLANT(PLANT_ANSWER_TWICE) && core->uses % 64 == 63)
        *action_add(core, ACTION_ANSWER) = *action;
}

static void replay_compare(struct core *core, struct slot *slot, struct item *item, uint64_t digest)
{
    slot->replayed++;
    if (digest == item->digest)
        return;
    slot->diverged++;
    item->digest = digest; /* the state's history is this one now; it is told once */
    struct action *notice = notice_slot(core, NOTICE_DIVERGED, slot);
    notice->request = item->id;
    notice->notice.value = item->position;
}

/* It ran to its end, not as a replay. */
static void request_run(struct core *core, struct slot *slot, struct item *item,
                        const struct event *event)
{
    /* The second run of a stream may end before what the client already has. */
    if (!item->settled && item->produced < item->sent)
        request_refuse(core, item, REFUSED_DIVERGED, 0);
    if (item->entry) {
        durable_replied(core, slot, item, event);
        return;
    }
    request_answer(core, slot, item);
    if (item->logged)
        log_answered(slot, item, event->replied.digest);
}

/* From its dispatch to its answer. */
static void run_learn(struct model *model, uint64_t took)
{
    model->run_ns = model->run_ns ? (model->run_ns * 7 + took) / 8 + 1 : took + 1;
}

void request_replied(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = item_find(core, event->request);
    if (!item || item->place != PLACE_FLIGHT || item->slot != slot->index)
        return;
    struct model *model = model_of(core, slot);
    watch_answered(core, slot);
    if (item->position <= slot->checkpoint.position)
        slot->checkpoint.reached = core->now;
    run_learn(model, (uint64_t)(core->now - item->dispatched));
    if (flight_remove(core, slot, item))
        batch_ended(core, slot, item);
    blame_answered(core, model, item);
    const bool replay = item->replay;
    if (replay) {
        replay_compare(core, slot, item, event->replied.digest);
    } else {
        slot->answered++;
        slot->run_answered++;
        request_run(core, slot, item, event);
    }
    if (!item->logged && item->storing == STORING_NOTHING)
        request_forget(core, item);
    dispatch_update(core, slot);
    replay_next(core, slot);
    if (!replay)
        rollout_outcome(core, slot, event->replied.failed);
    dispatch_model(core, model);
    slot_drain_progress(core, slot);
    recycle_answered(core, slot);
    if (!model->accepting)
        model_settle(core, model);
}

void request_break(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after)
{
    request_refuse(core, item, why, retry_after);
    request_drop(core, item);
}

/* The request in flight there that a worker speaks of, which shows that it lives; NULL: none. */
static struct item *flight_speaks(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = item_find(core, event->request);
    if (!item || item->place != PLACE_FLIGHT || item->slot != slot->index)
        return NULL;
    slot->progress = item->progress = core->now;
    watch_spoke(core, slot, item);
    list_remove(&slot->flight, item);
    list_append(&slot->flight, item);
    return item;
}

void request_progressed(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = flight_speaks(core, slot, event);
    if (item)
        item->progressed = true;
}

void request_unbegun(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = item_find(core, event->request);
    if (item && item->place == PLACE_FLIGHT && item->slot == slot->index && !item->spoke)
        item->unbegun = true;
}

void request_resumed(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = flight_speaks(core, slot, event);
    if (!item || PLANT(PLANT_RESUME_AT_START))
        return;
    assert(!item->produced && event->resumed.from <= item->sent);
    item->produced = event->resumed.from;
}

void request_chunked(struct core *core, struct slot *slot, const struct event *event)
{
    struct item *item = flight_speaks(core, slot, event);
    if (!item)
        return;
    uint64_t from = item->produced;
    item->produced += event->chunked.size;
    if (item->settled || item->replay)
        return;
    if (!event->chunked.same) {
        request_break(core, item, REFUSED_DIVERGED, 0);
        return;
    }
    if (item->produced <= item->sent)
        return;
    uint64_t skip = item->sent > from ? item->sent - from : 0;
    item->sent = item->produced;
    if (item->entry) {
        durable_chunked(core, item, skip, item->sent - from - skip);
        return;
    }
    struct action *action = action_add(core, ACTION_CHUNK);
    action->request = item->id;
    action->chunk.skip = skip;
}

/* ---- death of its worker ---- */

static void requeue(struct core *core, struct item *item)
{
    struct model *model = &core->models[item->model];
    item->slot = UINT32_MAX;
    if (PLANT(PLANT_FORGET_REQUEUE) && core->uses % 16 == 0)
        return;
    if (item->crashes)
        suspects_put(&model->suspects, item);
    else
        session_queue(core, item);
}

void request_orphaned(struct core *core, struct slot *slot, struct item *item, bool crash)
{
    bool over =
        item->once && !item->unbegun && !item->logged && !item->settled && !PLANT(PLANT_RUN_TWICE);
    flight_remove(core, slot, item);
    if (crash)
        blame_item(core, slot, item);
    else if (!item->replay && !over)
        item->attempts--;
    if (over) /* whether it ran, and how far, nobody knows */
        request_refuse(core, item, REFUSED_INTERRUPTED, 0);
    if (item->settled && !item->answered) {
        /* Nobody waits for it; it need not run again, and its state was never shown to anybody. */
        if (item->logged)
            log_remove(slot, item);
        request_forget(core, item);
    } else if (!item->logged) {
        requeue(core, item);
    }
}
