/*
 * replay.c: the log of a stateful slot, its checkpoints, and the replay after a crash.
 *
 * A request gets the log's next position at its first dispatch and stays in the log until a stored
 * checkpoint covers it.  After a crash the state comes back at some position; what the log holds
 * after it runs again in order: answered requests to bring the state up (their replies compared,
 * not sent), unanswered ones as a further attempt.  Positions only grow; a request that was dropped
 * leaves a gap.
 */
#include "supervisor/core/internal.h"

/* A log that is too long asks again this long after a checkpoint failed. */
#define CHECKPOINT_RETRY HASUP_S
/* A timer that is this little later than it could be is not moved. */
#define TIMER_SLACK (2 * HASUP_MS)

/* ---- the log ---- */

static void log_append(struct slot *slot, struct item *item, uint64_t position)
{
    item->logged = true;
    item->position = slot->log.position = position;
    item->log_next = NULL;
    item->log_prev = slot->log.tail;
    if (slot->log.tail)
        slot->log.tail->log_next = item;
    else
        slot->log.head = item;
    slot->log.tail = item;
    slot->log.count++;
    slot->log.bytes += item->size;
}

void log_add(struct core *core, struct slot *slot, struct item *item)
{
    log_append(slot, item, slot->log.position + 1);
    slot->log.unanswered++;
    slot->log.durable |= item->entry != NULL;
    checkpoint_arm(core, slot);
}

void log_recover(struct slot *slot, struct item *item, uint64_t position)
{
    assert(position > slot->log.position && slot->state != SLOT_REPLAYING);
    item->slot = slot->index;
    item->place = PLACE_LOG;
    log_append(slot, item, position);
    slot->log.durable = true;
}

void log_remove(struct slot *slot, struct item *item)
{
    if (slot->log.cursor == item)
        slot->log.cursor = item->log_next;
    if (item->log_prev)
        item->log_prev->log_next = item->log_next;
    else
        slot->log.head = item->log_next;
    if (item->log_next)
        item->log_next->log_prev = item->log_prev;
    else
        slot->log.tail = item->log_prev;
    item->log_next = item->log_prev = NULL;
    item->logged = false;
    slot->log.count--;
    slot->log.unanswered -= !item->answered;
    slot->log.bytes -= item->size;
}

void log_answered(struct slot *slot, struct item *item, uint64_t digest)
{
    assert(item->logged && !item->answered);
    item->answered = true;
    item->digest = digest;
    slot->log.unanswered--;
}

void log_let_go(struct core *core, struct slot *slot, struct item *item)
{
    log_remove(slot, item);
    if (item->storing == STORING_NOTHING) {
        request_forget(core, item);
        return;
    }
    item->place = PLACE_STORE;
    slot->log.unstored--;
    checkpoint_awaited(core, slot, item);
}

/* Long enough for an early checkpoint: by the policy, or because the table of requests is nearly
 * full and this log has more than its part in it. */
static bool log_is_long(const struct core *core, const struct slot *slot)
{
    const struct model_policy *policy = &core->models[slot->model].policy;
    return (policy->checkpoint.log_requests &&
            slot->log.count >= policy->checkpoint.log_requests) ||
           (policy->checkpoint.log_bytes && slot->log.bytes >= policy->checkpoint.log_bytes) ||
           (core->requests >= core->limits.requests / 4 * 3 &&
            slot->log.count > core->limits.requests / (4 * core->slots_high));
}

/* At twice the early checkpoint's limit nothing new comes in until one is stored. */
bool log_is_full(const struct core *core, const struct slot *slot)
{
    const struct model_policy *policy = &core->models[slot->model].policy;
    return (policy->checkpoint.log_requests &&
            slot->log.count >= 2 * (uint64_t)policy->checkpoint.log_requests) ||
           (policy->checkpoint.log_bytes && slot->log.bytes >= 2 * policy->checkpoint.log_bytes);
}

/* The journal needs no more what a durable checkpoint covers. */
static void action_trim(struct core *core, const struct slot *slot, uint64_t position)
{
    struct action *action = action_slot(core, ACTION_PERSIST, slot);
    action->persist.what = PERSIST_TRIM;
    action->persist.position = position;
}

static void log_trim(struct core *core, struct slot *slot, uint64_t position)
{
    struct item *item;
    while ((item = slot->log.head) && item->position <= position && item->place == PLACE_LOG &&
           item->settled && item->storing == STORING_NOTHING) {
        log_remove(slot, item);
        request_forget(core, item);
    }
    if (position > slot->log.trimmed)
        slot->log.trimmed = position;
}

/* What is lost once must not come back after what follows it. */
void log_forsake(struct core *core, const struct slot *slot, uint64_t position)
{
    if (slot->log.durable)
        action_trim(core, slot, position);
}

void log_refuse_waiting(struct core *core, struct slot *slot)
{
    struct item *next;
    hasup_ns retry_after = model_retry_after(core, model_of(core, slot));
    for (struct item *item = slot->log.head; item; item = next) {
        next = item->log_next;
        if (item->place != PLACE_LOG || item->answered)
            continue;
        log_remove(slot, item);
        if (!item->settled)
            request_refuse(core, item, REFUSED_UNAVAILABLE, retry_after);
        request_forget(core, item);
    }
}

void log_release(struct core *core, struct slot *slot)
{
    log_refuse_waiting(core, slot);
    while (slot->log.head)
        log_let_go(core, slot, slot->log.head);
}

/* ---- replay ---- */

void replay_begin(struct core *core, struct slot *slot, uint64_t position)
{
    if (position < slot->log.trimmed || slot->log.restored_lost) {
        uint64_t gone = position < slot->log.trimmed ? slot->log.trimmed - position : 0;
        notice_slot(core, NOTICE_STATE_LOST, slot)->notice.value = gone;
        log_forsake(core, slot, slot->log.trimmed);
    }
    if (position > slot->log.position)
        slot->log.position = position;
    /* Where it is less than before, the newest was damaged: that is stored again, too. */
    if (!slot->log.restored_kept) {
        slot->log.stored = position;
        log_trim(core, slot, position);
    }
    struct item *item = slot->log.head;
    while (item && item->position <= position)
        item = item->log_next;
    if (PLANT(PLANT_LOSE_REPLAY_ORDER) && item)
        item = item->log_next;
    slot->log.cursor = item;
    slot->checkpoint.position = position;
    slot->checkpoint.last = core->now;
}

/* What stands in the log unanswered and has no more time; false: it may run. */
static bool replay_expires(struct core *core, struct slot *slot, struct item *item)
{
    if (item->answered || item->settled || item->deadline > core->now ||
        durable_outlasts(core, item))
        return false;
    request_refuse(core, item, REFUSED_DEADLINE, 0);
    log_remove(slot, item);
    request_forget(core, item);
    return true;
}

/* What was answered together runs again together, since a model's numbers may depend on that; but
 * alone, once it took part in as many crashes as one body may cost. */
static uint32_t replay_gather(const struct model *model, const struct slot *slot,
                              struct item *batch[CORE_BATCH])
{
    const uint32_t most = model->policy.max_attempts;
    struct item *next = slot->log.cursor;
    uint32_t count = 0;
    do {
        batch[count++] = next;
        next = next->log_next;
    } while (next && count < slot->batch_most && batch[0]->answered && next->answered &&
             batch[0]->batch && next->batch == batch[0]->batch && batch[0]->crashes < most &&
             next->crashes < most && !PLANT(PLANT_REPLAY_APART));
    return count;
}

static bool has_suspect(struct item *const *batch, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (batch[i]->crashes)
            return true;
    return false;
}

static bool flies_suspect(const struct slot *slot)
{
    for (const struct item *item = slot->flight.head; item; item = item->next)
        if (item->crashes)
            return true;
    return false;
}

/* What was in hand at a crash runs with nothing beside it; what is not answered yet waits for the
 * model's breaker. */
void replay_next(struct core *core, struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    struct item *batch[CORE_BATCH], *item;
    if (slot->state != SLOT_REPLAYING)
        return;
    while ((item = slot->log.cursor)) {
        if (flies_suspect(slot))
            return;
        if (replay_expires(core, slot, item))
            continue;
        uint32_t count = replay_gather(model, slot, batch);
        if (slot->batches >= slot->concurrency || (!item->answered && !breaker_lets(model)) ||
            (slot->inflight && has_suspect(batch, count)))
            return;
        slot->log.cursor = batch[count - 1]->log_next;
        if (PLANT(PLANT_SKIP_LAST_LOGGED) && !item->log_next && item->answered)
            continue;
        dispatch_batch(core, slot, batch, count, item->answered);
    }
    if (!flies_suspect(slot))
        slot_became_ready(core, slot);
}

void replay_resume(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index)
            replay_next(core, &core->slots[i]);
}

/* ---- checkpoints ---- */

bool checkpoint_changed(const struct slot *slot)
{
    return slot->stateful && slot->log.position > slot->log.stored;
}

void checkpoint_arm(struct core *core, struct slot *slot)
{
    hasup_ns interval = model_of(core, slot)->policy.checkpoint.interval;
    if (slot->state != SLOT_READY || slot->checkpoint.state != CHECKPOINT_IDLE ||
        !checkpoint_changed(slot))
        return;
    hasup_ns at = interval ? slot->checkpoint.last + interval : HASUP_NEVER;
    if (log_is_long(core, slot))
        at = slot->checkpoint.retry;
    if (at < core->now)
        at = core->now;
    if (at < timer_at(&slot->checkpoint_timer) - TIMER_SLACK)
        timer_set_at(&core->wheel, &slot->checkpoint_timer, at);
}

void checkpoint_take(struct core *core, struct slot *slot)
{
    bool serves = slot->state == SLOT_READY || slot->state == SLOT_DRAINING;
    if (!serves || !slot->stateful)
        return;
    if (slot->checkpoint.state != CHECKPOINT_IDLE) {
        slot->checkpoint.again = true;
        return;
    }
    timer_clear(&core->wheel, &slot->checkpoint_timer);
    slot->checkpoint.state = CHECKPOINT_TAKING;
    slot->checkpoint.again = false;
    slot->checkpoint.position = slot->log.position;
    slot->checkpoint.reached = slot->checkpoint.last = core->now;
    if (PLANT(PLANT_POSITION_OFF) && slot->inflight)
        slot->checkpoint.position++;
    action_slot(core, ACTION_TAKE_STATE, slot)->position = slot->checkpoint.position;
    watch_changed(core, slot);
}

static void checkpoint_store(struct core *core, struct slot *slot);

static void checkpoint_next(struct core *core, struct slot *slot)
{
    if (slot->checkpoint.again)
        checkpoint_take(core, slot);
    else
        checkpoint_arm(core, slot);
    dispatch_update(core, slot);
    slot_drain_progress(core, slot);
    slot_settle(core, slot);
}

/* A state that claims a position while a request before it is unanswered is a lie. */
static bool state_is_honest(const struct slot *slot, uint64_t position)
{
    for (const struct item *item = slot->flight.head; item; item = item->next)
        if (item->position && item->position <= position && !PLANT(PLANT_POSITION_OFF))
            return false;
    return true;
}

/* The results that a state contains and that are not durable yet.  A worker that went on serving
 * while its state was taken has answered others since, which the state has nothing to do with. */
static uint32_t results_awaited(const struct slot *slot)
{
    uint32_t count = 0;
    if (PLANT(PLANT_AWAIT_ALL))
        return slot->log.unstored;
    if (!slot->log.unstored)
        return 0;
    for (const struct item *item = slot->log.head;
         item && item->position <= slot->checkpoint.position; item = item->log_next)
        count += item->storing != STORING_NOTHING;
    return count;
}

static void checkpoint_failed(struct core *core, struct slot *slot)
{
    notice_slot(core, NOTICE_CHECKPOINT_FAILED, slot);
    slot->checkpoint.retry = core->now + CHECKPOINT_RETRY;
}

void checkpoint_state(struct core *core, struct slot *slot, const struct event *event)
{
    if (slot->checkpoint.state != CHECKPOINT_TAKING)
        return;
    watch_answered(core, slot);
    slot->state_offered |= slot->drain_sent;
    if (event->checkpoint.error || !state_is_honest(slot, slot->checkpoint.position)) {
        slot->checkpoint.state = CHECKPOINT_IDLE;
        slot->checkpoint.again = false;
        checkpoint_failed(core, slot);
        if (!event->checkpoint.error)
            slot_kill(core, slot);
        checkpoint_next(core, slot);
        return;
    }
    /* What the state contains must not run again after a crash of hasupd: durable before it. */
    slot->checkpoint.state = CHECKPOINT_TAKEN;
    slot->checkpoint.awaits = results_awaited(slot);
    checkpoint_store(core, slot);
}

/* ---- load ---- */

static void load_now(struct core *core, struct slot *slot)
{
    bool wanted = slot->checkpoint.load_waits && slot->state == SLOT_LOADING;
    slot->checkpoint.load_waits = false;
    if (wanted)
        action_slot(core, ACTION_LOAD_CHECKPOINT, slot);
}

void load_failed(struct core *core, struct slot *slot)
{
    hasup_ns delay = slot_backoff(core, slot, ++slot->checkpoint.load_failures);
    if (delay < CHECKPOINT_RETRY)
        delay = CHECKPOINT_RETRY;
    timer_clear(&core->wheel, &slot->timer); /* not the worker's fault: its time starts anew then */
    timer_set_at(&core->wheel, &slot->checkpoint_timer, core->now + delay);
    notice_slot(core, NOTICE_LOAD_FAILED, slot)->notice.delay = delay;
}

void checkpoint_due(struct core *core, struct slot *slot)
{
    if (slot->state == SLOT_LOADING)
        load_checkpoint(core, slot);
    else
        checkpoint_take(core, slot);
}

/* ---- store ---- */

void load_checkpoint(struct core *core, struct slot *slot)
{
    slot->checkpoint.load_waits = true;
    if (slot->checkpoint.state != CHECKPOINT_TAKEN)
        load_now(core, slot);
}

static void checkpoint_store(struct core *core, struct slot *slot)
{
    if (slot->checkpoint.awaits)
        return;
    slot->checkpoint.state = CHECKPOINT_STORING;
    action_slot(core, ACTION_STORE_CHECKPOINT, slot)->position = slot->checkpoint.position;
    load_now(core, slot);
}

void checkpoint_awaited(struct core *core, struct slot *slot, const struct item *item)
{
    if (slot->checkpoint.state != CHECKPOINT_TAKEN || item->position > slot->checkpoint.position)
        return;
    slot->checkpoint.awaits--;
    checkpoint_store(core, slot);
}

void checkpoint_give_up(struct core *core, struct slot *slot)
{
    slot->checkpoint.state = CHECKPOINT_IDLE;
    checkpoint_failed(core, slot);
    load_now(core, slot);
    checkpoint_next(core, slot);
}

void checkpoint_stored(struct core *core, struct slot *slot, const struct event *event)
{
    if (slot->checkpoint.state != CHECKPOINT_STORING)
        return;
    slot->checkpoint.state = CHECKPOINT_IDLE;
    /* What is kept in memory only may leave the log, but is stored again at the next chance. */
    if (event->checkpoint.error)
        checkpoint_failed(core, slot);
    else if (event->checkpoint.position > slot->log.stored)
        slot->log.stored = event->checkpoint.position;
    if (slot->log.durable && event->checkpoint.position &&
        (!event->checkpoint.error || PLANT(PLANT_TRIM_EARLY)))
        action_trim(core, slot, event->checkpoint.position);
    log_trim(core, slot, event->checkpoint.position);
    checkpoint_next(core, slot);
    dispatch_model(core, model_of(core, slot));
    model_settle(core, model_of(core, slot));
}

void checkpoint_lost(struct slot *slot)
{
    if (slot->checkpoint.state == CHECKPOINT_TAKING)
        slot->checkpoint.state = CHECKPOINT_IDLE;
    slot->checkpoint.again = false;
}

/* ---- invariants ---- */

void log_check(const struct core *core, const struct slot *slot)
{
    uint32_t count = 0, unanswered = 0, unstored = 0, awaits = 0;
    uint64_t bytes = 0, last = 0;
    bool cursor = slot->log.cursor == NULL;
    for (const struct item *item = slot->log.head; item; item = item->log_next) {
        assert(item->logged && item->slot == slot->index && item->position > last);
        assert(item->place == PLACE_LOG || item->place == PLACE_FLIGHT);
        assert(!item->answered || item->settled || item->storing != STORING_NOTHING);
        unstored += item->storing != STORING_NOTHING;
        awaits += item->storing != STORING_NOTHING && item->position <= slot->checkpoint.position;
        assert(item->log_next ? item->log_next->log_prev == item : slot->log.tail == item);
        cursor |= slot->log.cursor == item;
        last = item->position;
        count++;
        unanswered += !item->answered;
        bytes += item->size;
    }
    assert(unanswered == slot->log.unanswered && unstored == slot->log.unstored);
    assert(slot->checkpoint.state != CHECKPOINT_TAKEN || awaits == slot->checkpoint.awaits);
    assert(slot->checkpoint.state != CHECKPOINT_STORING || !awaits);
    assert(cursor && count == slot->log.count && bytes == slot->log.bytes);
    assert(last <= slot->log.position);
    assert(slot->log.cursor == NULL || slot->state == SLOT_REPLAYING);
    assert(core->limits.slots > slot->index);
    /* A slot that takes nothing more for its log has a checkpoint on its way. */
    assert(slot->state != SLOT_READY || !log_is_full(core, slot) ||
           slot->checkpoint.state != CHECKPOINT_IDLE || timer_is_set(&slot->checkpoint_timer));
}
