/*
 * watch.c: workers that hang, and how that is known: a request without its first word, a stream
 * that stopped, a ping or a watchdog without an answer, a state that does not come.  Owns what a
 * worker owes and until when.  The work timer is set lazily: at the latest when something may be
 * overdue; what holds is looked at when it fires.  One that is idle and was never asked to be
 * pinged has no timer, so that it costs nothing.
 */
#include "supervisor/core/internal.h"

struct due {
    hasup_ns at;
    enum hang why;
};

static void due_by(struct due *due, hasup_ns at, enum hang why)
{
    if (at < due->at)
        *due = (struct due){at, why};
}

/* Of requests that wait for their first word: a worker that says nothing for the time of an attempt
 * hangs.  One that goes on with others may still hang on one request: a worker of n that takes them
 * one after the other begins the last after n - 1, so each has n times as long; and so does each of
 * a batch, whose members may stream one after the other. */
static void first_word_due(const struct core *core, const struct slot *slot,
                           const struct item *oldest, struct due *due)
{
    const hasup_ns attempt = core->models[slot->model].policy.timeouts.attempt;
    if (!attempt)
        return;
    hasup_ns since = slot->progress > oldest->progress ? slot->progress : oldest->progress;
    due_by(due, since + attempt, HANG_ATTEMPT);
    hasup_ns turns = (hasup_ns)slot->concurrency * oldest->mates;
    if ((HASUP_NEVER - oldest->progress) / turns > attempt)
        due_by(due, oldest->progress + attempt * turns, HANG_ATTEMPT);
}

static void flight_due(const struct core *core, const struct slot *slot, struct due *due)
{
    const hasup_ns progress = core->models[slot->model].policy.timeouts.progress;
    const struct item *stream = NULL, *first = NULL; /* those longest without a word */
    for (const struct item *item = slot->flight.head; item && !(stream && first);
         item = item->next) {
        bool streams = progress && item->spoke;
        if (streams && !stream)
            stream = item;
        else if (!streams && !first)
            first = item;
    }
    if (stream)
        due_by(due, stream->progress + progress, HANG_PROGRESS);
    if (first)
        first_word_due(core, slot, first, due);
}

/* Whether its state is all that stands between a worker and the barrier.  That it goes on serving
 * meanwhile is no excuse for a state that does not come. */
static bool state_is_owed(const struct slot *slot)
{
    if (slot->checkpoint.state != CHECKPOINT_TAKING)
        return false;
    for (const struct item *item = slot->flight.head; item; item = item->next)
        if (item->position <= slot->checkpoint.position)
            return false;
    return true;
}

static bool watch_is_on(const struct slot *slot)
{
    return slot->state == SLOT_READY || slot->state == SLOT_DRAINING ||
           slot->state == SLOT_REPLAYING;
}

/* 0: it has none to feed.  A spare of a stateful model has loaded, and is not welcomed before it
 * gets a slot's state: it is ready, and feeds its watchdog, from then on. */
static hasup_ns watchdog_of(const struct core *core, const struct slot *slot)
{
    bool fed = slot->role != ROLE_SPARE || !slot->stateful || PLANT(PLANT_BITE_SPARE);
    return fed ? core->models[slot->model].policy.timeouts.watchdog : 0;
}

/* What the worker owes first; `at` HASUP_NEVER: nothing. */
static struct due work_due(const struct core *core, const struct slot *slot)
{
    const struct model_policy *policy = &core->models[slot->model].policy;
    const hasup_ns watchdog = watchdog_of(core, slot);
    struct due due = {HASUP_NEVER, HANG_ATTEMPT};
    if (slot->ping_due)
        due_by(&due, slot->ping_due, HANG_PING);
    flight_due(core, slot, &due);
    if (policy->timeouts.attempt && state_is_owed(slot))
        due_by(&due, slot->checkpoint.reached + policy->timeouts.attempt, HANG_STATE);
    if (watchdog && !PLANT(PLANT_FORGET_WATCHDOG))
        due_by(&due, slot->alive + watchdog, HANG_WATCHDOG);
    return due;
}

void watch_until(struct core *core, struct slot *slot, hasup_ns due)
{
    if (due < timer_at(&slot->work_timer))
        timer_set_at(&core->wheel, &slot->work_timer, due);
}

static void ping(struct core *core, struct slot *slot)
{
    action_slot(core, ACTION_PING, slot);
    slot->ping_due = core->now + model_of(core, slot)->policy.timeouts.ping;
    watch_until(core, slot, slot->ping_due);
}

/* One whose state is being taken may be busy with that. */
static bool may_be_pinged(const struct core *core, const struct slot *slot)
{
    return core->models[slot->model].policy.timeouts.ping && !slot->inflight && !slot->ping_due &&
           slot->checkpoint.state != CHECKPOINT_TAKING;
}

/* When an idle one is pinged next; HASUP_NEVER: not before its next request. */
static hasup_ns ping_time(const struct core *core, const struct slot *slot)
{
    const hasup_ns every = core->models[slot->model].policy.timeouts.ping_every;
    if (!every || slot->state != SLOT_READY || !may_be_pinged(core, slot))
        return HASUP_NEVER;
    return slot->last_active + every;
}

void watch_changed(struct core *core, struct slot *slot)
{
    if (!watch_is_on(slot))
        return;
    watch_until(core, slot, work_due(core, slot).at);
    watch_until(core, slot, ping_time(core, slot));
}

void watch_begin(struct core *core, struct slot *slot)
{
    const hasup_ns watchdog = watchdog_of(core, slot);
    slot->alive = core->now;
    if (watchdog)
        watch_until(core, slot, core->now + watchdog);
}

void watch_dispatched(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = &model_of(core, slot)->policy;
    if (!slot->inflight) {
        if (may_be_pinged(core, slot) &&
            core->now - slot->last_active >= policy->timeouts.ping_after)
            ping(core, slot);
        slot->progress = core->now;
    }
    if (policy->timeouts.attempt)
        watch_until(core, slot, core->now + policy->timeouts.attempt);
}

void watch_spoke(struct core *core, struct slot *slot, struct item *item)
{
    const hasup_ns progress = model_of(core, slot)->policy.timeouts.progress;
    if (item->spoke)
        return;
    item->spoke = true;
    if (progress)
        watch_until(core, slot, core->now + progress);
}

void watch_answered(struct core *core, struct slot *slot)
{
    const hasup_ns every = model_of(core, slot)->policy.timeouts.ping_every;
    slot->progress = slot->last_active = core->now;
    if (every)
        watch_until(core, slot, core->now + every);
}

void watch_ponged(struct core *core, struct slot *slot)
{
    slot->ping_due = 0;
    watch_answered(core, slot);
}

/* Says that it hangs, or hangs by what it owes. */
static void watch_ends(struct core *core, struct slot *slot, enum hang why)
{
    slot->ordered = false; /* even while it drains: it hangs */
    notice_slot(core, NOTICE_HUNG, slot)->notice.value = why;
    slot_abort(core, slot);
}

void watch_alive(struct core *core, struct slot *slot, bool hangs)
{
    slot->alive = core->now;
    if (hangs && watch_is_on(slot))
        watch_ends(core, slot, HANG_TOLD);
}

void watch_due(struct core *core, struct slot *slot)
{
    if (!watch_is_on(slot))
        return;
    struct due due = work_due(core, slot);
    if (due.at <= core->now) {
        watch_ends(core, slot, due.why);
        return;
    }
    if (ping_time(core, slot) <= core->now)
        ping(core, slot);
    watch_changed(core, slot);
}

void watch_check(const struct core *core, const struct slot *slot)
{
    if (!watch_is_on(slot))
        return;
    struct due due = work_due(core, slot);
    hasup_ns ping = ping_time(core, slot), sooner = due.at < ping ? due.at : ping;
    assert(sooner == HASUP_NEVER || timer_is_set(&slot->work_timer));
}
