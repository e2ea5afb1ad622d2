/*
 * slot.c: the life of a slot, as ARCHITECTURE.md charts it.  A worker's requests move the moment it
 * is killed or found dead; its slot starts again only once the process is reaped and its whole tree
 * is proven empty.  A run that was healthy is followed by an immediate start; others by backoff,
 * then the breaker.
 */
#include "supervisor/core/internal.h"

struct action *notice_slot(struct core *core, enum notice what, const struct slot *slot)
{
    struct action *action = action_slot(core, ACTION_NOTICE, slot);
    action->notice.what = what;
    action->notice.from = action->notice.to = slot->state;
    return action;
}

void slot_set_state(struct core *core, struct slot *slot, enum slot_state state)
{
    struct model *model = model_of(core, slot);
    struct action *notice = notice_slot(core, NOTICE_SLOT_STATE, slot);
    notice->notice.to = state;
    notice->notice.delay = slot->next_start - core->now;
    uint32_t *ready = slot->role == ROLE_WORKER ? &model->ready : &model->spares;
    if (slot->role != ROLE_ZYGOTE) {
        *ready += state == SLOT_READY;
        *ready -= slot->state == SLOT_READY;
    }
    enum slot_state from = slot->state;
    slot->state = state;
    rate_count(core, slot);
    gate_changed(core, slot, from);
    order_changed(core, slot, from);
    slot->since = core->now;
    timer_clear(&core->wheel, &slot->timer);
    session_slot_changed(core, slot);
    dispatch_update(core, slot);
}

void slot_timer(struct core *core, struct slot *slot, hasup_ns span)
{
    timer_set_at(&core->wheel, &slot->timer, span ? core->now + span : HASUP_NEVER);
}

/* ---- start ---- */

/* Once it is started nothing of it is to be replaced, unless by another version. */
static void restart_meant(struct core *core, struct slot *slot)
{
    slot->restart &= slot->version != model_of(core, slot)->version && !slot->extra;
}

void slot_start(struct core *core, struct slot *slot)
{
    uint32_t version = rollout_version(core, slot);
    if (version != slot->version) /* another program: what is known of the last one says nothing */
        slot->unhealthy = slot->breakers = slot->hook.tries = 0;
    slot->version = version;
    restart_meant(core, slot);
    slot->renew = false;
    slot->hook.on = slot->hook.passed = false;
    if (!gate_pass(core, slot))
        return;
    if (slot_policy(core, slot)->pre_start.on)
        prepare_begin(core, slot);
    else
        slot_launch(core, slot);
}

void slot_go_on(struct core *core, struct slot *slot)
{
    if (slot->hook.passed && rollout_version(core, slot) == slot->version) {
        restart_meant(core, slot);
        slot_launch(core, slot);
    } else {
        slot_start(core, slot);
    }
}

void slot_renew(struct slot *slot)
{
    slot->worker++;
    slot->counted = slot->forks = slot->born = false;
    slot->exited = slot->tree_empty = slot->ordered = slot->was_ready = slot->drain_sent = false;
    slot->died = slot->probe.asked = false;
    slot->probe.failed = 0;
    slot->hook.on = slot->hook.passed = slot->recycle.on = slot->recycle.chosen = false;
    slot->recycle.why = RECYCLE_NO;
    slot->run_answered = 0;
}

void slot_launch(struct core *core, struct slot *slot)
{
    hasup_ns limit = slot_policy(core, slot)->timeouts.start;
    if (!gate_pass(core, slot))
        return; /* its zygote died meanwhile */
    struct slot *zygote = gate_parent(core, slot);
    slot_renew(slot);
    slot->forks = zygote != NULL;
    slot->starts++;
    slot->hook.tries = 0;
    slot->state_offered = slot->state_offered && !slot->wanted;
    slot->concurrency = slot->offers.concurrency = slot->offers.batch = 0;
    slot->ping_due = 0;
    slot->start_by = limit ? core->now + limit : HASUP_NEVER;
    slot_set_state(core, slot, SLOT_STARTING);
    timer_set_at(&core->wheel, &slot->timer,
                 slot->forks ? gate_fork_by(core, slot) : slot->start_by);
    struct action *spawn = action_slot(core, ACTION_SPAWN, slot);
    spawn->version = slot->version;
    spawn->other = zygote ? zygote->index : CORE_ALL_SLOTS;
}

void slot_limit(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = slot_policy(core, slot);
    slot->concurrency = slot->offers.concurrency;
    if (policy->concurrency_max && slot->concurrency > policy->concurrency_max)
        slot->concurrency = policy->concurrency_max;
    batch_limit(slot, policy);
    dispatch_update(core, slot);
}

void slot_load(struct core *core, struct slot *slot)
{
    slot_set_state(core, slot, SLOT_LOADING);
    timer_set_at(&core->wheel, &slot->timer, slot->start_by);
}

void slot_greeted(struct core *core, struct slot *slot, const struct event *event)
{
    if (slot->state != SLOT_STARTING)
        return;
    if (slot->role == ROLE_ZYGOTE && !event->hello.zygote) {
        gate_refused(core, slot);
        return;
    }
    if (!event->hello.stateful)
        log_release(core, slot);
    slot->stateful = event->hello.stateful && slot->role != ROLE_ZYGOTE;
    if (slot->role != ROLE_ZYGOTE)
        model_of(core, slot)->stateful = slot->stateful;
    slot->resumable = event->hello.resumable;
    slot->offers.concurrency = event->hello.concurrency ? event->hello.concurrency : 1;
    slot->offers.batch = event->hello.max_batch ? event->hello.max_batch : 1;
    slot_limit(core, slot);
    slot_load(core, slot);
    rollout_greeted(core, slot);
    if (slot->state != SLOT_LOADING)
        return; /* it is not wanted */
    if (slot->stateful && slot->role == ROLE_SPARE)
        action_slot(core, ACTION_PING, slot); /* answered once it has loaded */
    else if (slot->stateful)
        load_checkpoint(core, slot);
    else
        action_slot(core, ACTION_WELCOME, slot)->restore = false;
}

void slot_loaded(struct core *core, struct slot *slot, const struct event *event)
{
    if (slot->state != SLOT_LOADING || !slot->stateful)
        return;
    bool found = event->checkpoint.found;
    int error = found ? 0 : event->checkpoint.error;
    bool none = !error || error == HASUP_ENOTFOUND || error == HASUP_ECORRUPT;
    if (!none && !PLANT(PLANT_LOAD_ERROR)) {
        load_failed(core, slot);
        return;
    }
    if (slot->checkpoint.load_failures) {
        hasup_ns limit = model_of(core, slot)->policy.timeouts.start;
        slot->start_by = limit ? core->now + limit : HASUP_NEVER;
        timer_set_at(&core->wheel, &slot->timer, slot->start_by);
        slot->checkpoint.load_failures = 0;
    }
    slot->log.restored = found ? event->checkpoint.position : 0;
    slot->log.restored_kept = found && event->checkpoint.error;
    slot->log.restored_lost = error == HASUP_ECORRUPT;
    action_slot(core, ACTION_WELCOME, slot)->restore = found;
}

void slot_ready(struct core *core, struct slot *slot, int error)
{
    if (slot->state != SLOT_LOADING)
        return;
    if (error) {
        slot_kill(core, slot);
        return;
    }
    slot->last_active = slot->progress = core->now;
    watch_begin(core, slot);
    if (!slot->stateful || slot->role == ROLE_SPARE) {
        slot_became_ready(core, slot);
        return;
    }
    slot_set_state(core, slot, SLOT_REPLAYING);
    replay_begin(core, slot, slot->log.restored);
    replay_next(core, slot);
}

void slot_became_ready(struct core *core, struct slot *slot)
{
    slot->was_ready = true;
    slot->ready_since = slot->last_active = core->now;
    dispatch_joined(core, slot);
    slot_set_state(core, slot, SLOT_READY);
    if (!slot->wanted) { /* it came back to save its state only */
        slot_drain(core, slot);
        return;
    }
    checkpoint_arm(core, slot);
    watch_changed(core, slot);
    program_watch(core, slot);
    recycle_begin(core, slot);
    rollout_ready(core, slot);
    core->spare_came |= slot->role == ROLE_SPARE;
    dispatch_model(core, model_of(core, slot));
    model_settle(core, model_of(core, slot));
}

/* ---- end ---- */

/* Moves what the worker had in hand; afterwards it is nobody's worker any more.  Gives the slot
 * that it is in then: a spare's, where one took over. */
static struct slot *slot_abandon(struct core *core, struct slot *slot, enum slot_state state)
{
    struct model *model = model_of(core, slot);
    bool crash = !slot->ordered;
    if (crash)
        blame_crash(core, slot);
    slot->log.cursor = NULL;
    slot->ping_due = 0;
    timer_clear(&core->wheel, &slot->work_timer);
    timer_clear(&core->wheel, &slot->checkpoint_timer);
    timer_clear(&core->wheel, &slot->probe_timer);
    if (slot->held)
        model->holds = false;
    if (slot->held || slot->exclusive)
        model->suspect_runs = false;
    slot->held = false;
    slot_set_state(core, slot, state);
    if (state == SLOT_ABORTING)
        slot_timer(core, slot, model->policy.timeouts.abort);
    checkpoint_lost(slot);
    uint32_t failed = crash ? slot->inflight : 0;
    while (slot->flight.head)
        request_orphaned(core, slot, slot->flight.head, crash);
    suspects_close(&model->suspects, crash);
    slot->exclusive = false;
    for (; failed; failed--)
        rollout_outcome(core, slot, true);
    struct slot *holder = spare_take_over(core, slot);
    session_worker_lost(core, slot);
    dispatch_model(core, model);
    model_settle(core, model); /* nobody may be left to take it */
    return holder;
}

/* Whether there is a worker, and nobody has given it up yet. */
static bool slot_has_worker(const struct slot *slot)
{
    return slot->state != SLOT_ABORTING && slot->state != SLOT_KILLING &&
           slot->state != SLOT_STOPPED && slot->state != SLOT_BACKOFF &&
           slot->state != SLOT_WAITING && slot->state != SLOT_BROKEN && slot->state != SLOT_DONE;
}

void slot_kill(struct core *core, struct slot *slot)
{
    if (!slot_has_worker(slot))
        return;
    action_slot(core, ACTION_KILL, slot);
    slot_abandon(core, slot, SLOT_KILLING);
}

void slot_abort(struct core *core, struct slot *slot)
{
    if (!model_of(core, slot)->policy.timeouts.abort) {
        slot_kill(core, slot);
        return;
    }
    if (!slot_has_worker(slot))
        return;
    slot->died = !PLANT(PLANT_FORGIVE_ABORTED); /* however it ends now */
    action_slot(core, ACTION_ABORT, slot);
    slot_abandon(core, slot, PLANT(PLANT_ABORT_FOREVER) ? SLOT_KILLING : SLOT_ABORTING);
}

/* It had time enough to say why it hangs. */
static void slot_abort_ends(struct core *core, struct slot *slot)
{
    action_slot(core, ACTION_KILL, slot);
    slot_set_state(core, slot, SLOT_KILLING);
}

bool slot_was_healthy(const struct core *core, const struct slot *slot)
{
    hasup_ns enough = core->models[slot->model].policy.restart.healthy_after;
    return slot->run_answered > 0 ||
           (slot->was_ready && enough && core->now - slot->ready_since >= enough);
}

static void slot_break(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    uint32_t doublings = slot->breakers < BREAKER_DOUBLINGS ? slot->breakers : BREAKER_DOUBLINGS;
    bool for_good = program_is_tried_once(core, slot);
    hasup_ns delay = for_good ? 0 : model->policy.restart.breaker << doublings;
    slot->breakers++;
    slot->next_start = delay ? core->now + delay : HASUP_NEVER;
    slot_set_state(core, slot, SLOT_BROKEN);
    slot_timer(core, slot, delay);
    notice_slot(core, NOTICE_BREAKER_OPEN, slot)->notice.delay = delay;
    rollout_broke(core, slot);      /* what broke this one would break the others */
    if (slot->state == SLOT_BROKEN) /* else the old version comes back at once */
        log_refuse_waiting(core, slot);
    model_settle(core, model);
}

static void slot_stopped(struct core *core, struct slot *slot);

hasup_ns slot_backoff(struct core *core, const struct slot *slot, uint32_t failures)
{
    const struct model_policy *policy = &core->models[slot->model].policy;
    return random_backoff(&core->random, policy->restart.backoff_min, policy->restart.backoff_max,
                          failures ? failures - 1 : 0);
}

void slot_fail(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = &model_of(core, slot)->policy;
    slot->unhealthy++;
    if (slot->version == model_of(core, slot)->version)
        slot->restart = false; /* it starts anew anyway, but not before its time */
    bool limit = policy->restart.start_limit && slot->unhealthy >= policy->restart.start_limit;
    if (limit || program_is_tried_once(core, slot)) {
        if (slot->wanted)
            slot_break(core, slot);
        else
            slot_stopped(core, slot); /* it could not come back to save its state */
        return;
    }
    slot->next_start = core->now + slot_backoff(core, slot, slot->unhealthy);
    slot_set_state(core, slot, SLOT_BACKOFF);
    timer_set_at(&core->wheel, &slot->timer, slot->next_start);
    rollout_step(core, model_of(core, slot)); /* nobody serves worse while it is replaced now */
}

static void slot_stopped(struct core *core, struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    slot->rolling = slot->restart = false;
    slot->hook.tries = 0;
    slot_set_state(core, slot, SLOT_STOPPED);
    log_refuse_waiting(core, slot);
    slot_settle(core, slot);
    order_released(core, model);
}

/* It is to go for good, and what it did since its last checkpoint is in the log alone: it comes
 * back first and saves its state.  A stop that leaves the slot there keeps the log. */
static bool slot_owes_state(const struct core *core, const struct slot *slot)
{
    bool for_good = slot->removing || core->shutting_down;
    return for_good && !core->hastened && !slot->state_offered && slot->stateful &&
           checkpoint_changed(slot);
}

/* Reaped, and nothing of its tree is left: what comes next? */
static void slot_gone(struct core *core, struct slot *slot)
{
    if (!slot->wanted && !slot_owes_state(core, slot)) {
        slot_stopped(core, slot);
    } else if (slot->hook.on) {
        prepare_ended(core, slot);
    } else if (program_ended(core, slot)) {
        return;
    } else if (slot->ordered) {
        slot_start(core, slot);
    } else if (slot_was_healthy(core, slot)) {
        if (!PLANT(PLANT_KEEP_BACKOFF))
            slot->unhealthy = slot->breakers = 0;
        if (PLANT(PLANT_KEEP_BACKOFF))
            slot_fail(core, slot);
        else
            slot_start(core, slot);
    } else {
        slot_fail(core, slot);
    }
}

/* It never was: nothing of it is left, and it is nobody's crash. */
static void slot_start_again(struct core *core, struct slot *slot)
{
    if (slot->wanted || slot_owes_state(core, slot))
        slot_start(core, slot);
    else
        slot_stopped(core, slot);
}

void slot_spawned(struct core *core, struct slot *slot, int error)
{
    struct slot *zygote = slot->forks ? gate_zygote(core, model_of(core, slot)) : NULL;
    if (!error && slot->forks && slot->state == SLOT_STARTING) {
        slot->born = true;
        timer_set_at(&core->wheel, &slot->timer, slot->start_by);
        if (zygote)
            zygote->run_answered++;
    }
    if (!error && model_is_program(model_of(core, slot)))
        program_spawned(core, slot);
    if (!error || slot->state == SLOT_STOPPED || slot->state == SLOT_BACKOFF ||
        slot->state == SLOT_WAITING || slot->state == SLOT_BROKEN || slot->state == SLOT_DONE)
        return;
    if (slot->forks && (error == HASUP_EWORKER || error == HASUP_ECLOSED)) {
        if (error == HASUP_EWORKER)
            gate_refused(core, slot);
        slot_start_again(core, slot);
        return;
    }
    if (slot->hook.on) {
        slot_gone(core, slot);
        return;
    }
    slot->crashes++;
    if (slot->wanted || slot_owes_state(core, slot))
        slot_fail(core, slot);
    else
        slot_stopped(core, slot);
}

/* Who was asked to finish what it has, and dies of it, crashed. */
static void slot_ended(struct slot *slot)
{
    if (slot->state == SLOT_DRAINING && slot->inflight)
        slot->ordered = false;
}

void slot_broke(struct core *core, struct slot *slot)
{
    slot_ended(slot);
    slot_kill(core, slot);
}

void slot_exited(struct core *core, struct slot *slot, const struct event *event)
{
    if (slot->exited)
        return;
    slot->exited = true;
    slot->tree_empty |= event->exited.tree_empty;
    bool died = event->exited.signal || event->exited.code;
    slot->died |= died;
    if (died)
        slot_ended(slot);
    bool task = model_is_program(model_of(core, slot)) && !slot->died; /* it did what it was for */
    slot->crashes += !slot->ordered && !slot->hook.on && !slot->counted && !task;
    slot->hook.passed = slot->hook.on && !died;
    if (slot->state != SLOT_KILLING && !slot->tree_empty)
        action_slot(core, ACTION_KILL, slot); /* what it left */
    if (slot->state == SLOT_ABORTING)
        slot_set_state(core, slot, SLOT_KILLING);
    else if (slot->state != SLOT_KILLING)
        slot = slot_abandon(core, slot, SLOT_KILLING);
    if (slot->tree_empty || PLANT(PLANT_TREE_NOT_EMPTY))
        slot_gone(core, slot);
}

void slot_tree_empty(struct core *core, struct slot *slot)
{
    if (slot->tree_empty)
        return;
    slot->tree_empty = true;
    if (slot->exited && slot->state == SLOT_KILLING)
        slot_gone(core, slot);
}

/* ---- stop ---- */

static void slot_terminate(struct core *core, struct slot *slot)
{
    slot->ordered = true;
    slot->log.cursor = NULL; /* what it was to replay, its successor replays */
    slot_set_state(core, slot, SLOT_STOPPING);
    slot_timer(core, slot, model_of(core, slot)->policy.timeouts.stop);
    action_slot(core, ACTION_TERMINATE, slot);
}

void slot_drain(struct core *core, struct slot *slot)
{
    switch (slot->state) {
    case SLOT_STOPPED: slot_settle(core, slot); return;
    case SLOT_WAITING:
        if (!slot->wanted && !slot_owes_state(core, slot))
            slot_stopped(core, slot);
        return;
    case SLOT_BACKOFF:
    case SLOT_BROKEN:
    case SLOT_DONE:
        if (slot->wanted)
            slot_start(core, slot);
        else if (slot->state != SLOT_BACKOFF || !slot_owes_state(core, slot))
            slot_stopped(core, slot);
        return;
    case SLOT_PREPARING:
        if (slot->wanted || !slot_owes_state(core, slot)) {
            slot->ordered = true;
            slot_kill(core, slot);
        }
        return;
    case SLOT_STARTING:
    case SLOT_LOADING:
    case SLOT_REPLAYING:
        if (slot->wanted || !slot_owes_state(core, slot))
            slot_terminate(core, slot);
        return;
    case SLOT_READY:
        if (model_is_program(model_of(core, slot))) {
            slot_terminate(core, slot);
            return;
        }
        slot->ordered = true;
        slot_set_state(core, slot, SLOT_DRAINING);
        if (slot->recycle.on && PLANT(PLANT_RECYCLE_BUSY)) {
            slot_terminate(core, slot);
            return;
        }
        if (!slot->recycle.on || !slot->inflight)
            slot_timer(core, slot, model_of(core, slot)->policy.timeouts.drain);
        slot_drain_progress(core, slot);
        dispatch_model(core, model_of(core, slot)); /* what moved, or is left alone with others */
        return;
    case SLOT_DRAINING:
        if (!slot->wanted)
            recycle_stopped(core, slot);
        return;
    case SLOT_STOPPING:
    case SLOT_ABORTING:
    case SLOT_KILLING: return;
    }
}

/* The last checkpoint and the word to go, one right behind the other. */
void slot_drain_progress(struct core *core, struct slot *slot)
{
    if (slot->state != SLOT_DRAINING || slot->drain_sent ||
        slot->checkpoint.state != CHECKPOINT_IDLE)
        return;
    slot->drain_sent = true;
    if (checkpoint_changed(slot))
        checkpoint_take(core, slot);
    action_slot(core, ACTION_DRAIN, slot);
}

void slot_hasten(struct core *core, struct slot *slot)
{
    slot->wanted = false;
    for (struct item *item = slot->flight.head; item; item = item->next)
        if (!item->settled)
            request_refuse(core, item, REFUSED_UNAVAILABLE, HASUP_S);
    if (slot->state == SLOT_READY || slot->state == SLOT_DRAINING)
        slot_terminate(core, slot);
    else if (slot->state == SLOT_ABORTING)
        slot_abort_ends(core, slot);
    else
        slot_drain(core, slot);
}

void slot_settle(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    bool stores = slot->log.unstored && !core->hastened;
    if (slot->state != SLOT_STOPPED || slot->checkpoint.state != CHECKPOINT_IDLE || stores)
        return;
    if (slot->removing && !slot->wanted) {
        log_release(core, slot);
        timer_clear(&core->wheel, &slot->checkpoint_timer);
        action_slot(core, ACTION_SLOT_REMOVED, slot);
        slot->used = false;
        model->slots--;
        model->helpers -= slot->role != ROLE_WORKER;
        models_fill(core);
    }
    model_settle(core, model);
}

/* ---- timers ---- */

void slot_timed_out(struct core *core, struct slot *slot)
{
    switch (slot->state) {
    case SLOT_PREPARING:
        notice_slot(core, NOTICE_PRE_START_TIMEOUT, slot);
        slot_kill(core, slot);
        return;
    case SLOT_STARTING:
        if (slot->forks && !slot->born && gate_overdue(core, slot))
            return;
        notice_slot(core, NOTICE_START_TIMEOUT, slot);
        slot_abort(core, slot);
        return;
    case SLOT_LOADING:
        notice_slot(core, NOTICE_START_TIMEOUT, slot);
        slot_abort(core, slot);
        return;
    case SLOT_BACKOFF:
    case SLOT_BROKEN: slot_start(core, slot); return;
    case SLOT_DRAINING: slot_terminate(core, slot); return;
    case SLOT_STOPPING: slot_kill(core, slot); return;
    case SLOT_ABORTING: slot_abort_ends(core, slot); return;
    case SLOT_READY: recycle_due(core, slot); return;
    case SLOT_STOPPED:
    case SLOT_WAITING:
    case SLOT_DONE:
    case SLOT_REPLAYING:
    case SLOT_KILLING: return;
    }
}
