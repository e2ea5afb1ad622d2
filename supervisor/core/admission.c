/*
 * admission.c: whether a request that comes is taken.  Refused at once, and told when to come
 * again, is what finds no room in the queue, what is above a limit of rate, and what would be late
 * by all that is known: one that fails late has taken a worker's time from one that would not.
 *
 * How fast a model drains is measured while its workers have all that they take, since a worker
 * with room to spare does not show what it can do: the time for each request of a batch, by the fit
 * of batch.c where one runs at a time, else from one end to the next.  Where a ready worker has not
 * ended enough of them, nobody is called late; nor where nothing waits.
 *
 * Rates are limited by the generic cell rate algorithm: one time for each model, and one for each
 * client that names itself, in a table of sets of four, where the one that has been good for the
 * longest time makes room.
 */
#include "supervisor/core/internal.h"

#include <stdlib.h>

/* So long after the last one that came too late the model is taken for overloaded, or until what
 * waited then has run twice over. */
#define LATE_SPAN HASUP_S

enum {
    RATE_SHIFT = 40,  /* rates are requests in 2^40 ns, about 18 minutes */
    RATE_KNOWN = 8,   /* ends of batches from which on a slot's is believed */
    RATE_OUTLIER = 4, /* one counts as so many times what was measured, at most */
    CLIENT_SETS = CLIENTS / CLIENT_SET
};

/* ---- how fast it drains ---- */

/* What a slot adds to its model's rate now. */
void rate_count(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    bool counts = slot->state == SLOT_READY && slot->role == ROLE_WORKER;
    model->rate -= slot->drain.counted;
    model->unmeasured -= slot->drain.unmeasured;
    slot->drain.counted = counts ? slot->drain.rate : 0;
    slot->drain.unmeasured = counts && slot->drain.samples < RATE_KNOWN;
    model->rate += slot->drain.counted;
    model->unmeasured += slot->drain.unmeasured;
}

void rate_learn(struct core *core, struct slot *slot, uint32_t size, uint64_t took)
{
    uint64_t each = took / size + 1;
    if (slot->batches + 1 < slot->concurrency)
        return; /* it could have done more */
    if (slot->drain.each && each > RATE_OUTLIER * slot->drain.each)
        each = RATE_OUTLIER * slot->drain.each;
    slot->drain.each = slot->drain.each ? (slot->drain.each * 7 + each) / 8 + 1 : each;
    slot->drain.samples += slot->drain.samples < RATE_KNOWN;
    each = slot->drain.each;
    if (slot->fit.known && slot->concurrency == 1 && slot->batch_cap > 1)
        each = fit_predict(&slot->fit, slot->batch_cap) / slot->batch_cap + 1;
    slot->drain.rate = (UINT64_C(1) << RATE_SHIFT) / each + 1;
    rate_count(core, slot);
}

/* The time to run so many; HASUP_NEVER: nobody knows. */
static hasup_ns drain_time(const struct model *model, uint64_t requests)
{
    return model->rate ? (hasup_ns)((requests << RATE_SHIFT) / model->rate) : HASUP_NEVER;
}

hasup_ns model_retry_after(const struct core *core, const struct model *model)
{
    hasup_ns soonest = HASUP_NEVER, wait = drain_time(model, model->queued + 1);
    if (model->breaker.state == BREAKER_OPEN) {
        wait = model->breaker.until - core->now;
    } else if (!model->ready) {
        for (uint32_t i = 0; i < core->slots_high; i++) {
            const struct slot *slot = &core->slots[i];
            if (slot->used && slot->model == model->index && slot->role == ROLE_WORKER &&
                slot->state == SLOT_BROKEN && slot->next_start < soonest)
                soonest = slot->next_start;
        }
        wait = soonest == HASUP_NEVER ? HASUP_S : soonest - core->now;
    }
    return wait < HASUP_S || wait == HASUP_NEVER ? HASUP_S : wait;
}

/* ---- what would be late ---- */

/* Of a class, those that would run before a new one with this deadline: by where that stands
 * between the first and the last of those that wait. */
static uint64_t ahead_in_class(const struct queue_class *class, hasup_ns deadline)
{
    const struct item *first = class->list.head, *last = class->list.tail;
    if (!first || last->deadline <= deadline)
        return class->count;
    if (deadline <= first->deadline)
        return 0;
    if (last->deadline == HASUP_NEVER)
        return class->count / 2;
    uint64_t part = (uint64_t)(deadline - first->deadline) / HASUP_MS;
    return class->count * part / ((uint64_t)(last->deadline - first->deadline) / HASUP_MS + 1);
}

/* By how much it would be late; 0: it would not, or nobody knows. */
static hasup_ns lateness(const struct core *core, const struct model *model,
                         const struct event *event)
{
    const hasup_ns deadline = event->submitted.deadline;
    unsigned priority = priority_of(event);
    if (!deadline || !model->policy.queue.refuse_late || !model->queued || model->unmeasured ||
        event->submitted.session)
        return 0; /* of one slot alone less is known */
    const struct queue *queue = &model->queue;
    uint64_t ahead = model->storing;
    for (unsigned i = 0; i + 1 < priority; i++)
        ahead += queue->classes[i].count;
    /* Where some come too late already, who comes with less time makes others late. */
    ahead += core->now < model->late_until
                 ? queue->classes[priority - 1].count
                 : ahead_in_class(&queue->classes[priority - 1], deadline);
    hasup_ns wait = drain_time(model, ahead);
    if (wait == HASUP_NEVER)
        return 0;
    /* What runs now, its own run, and an eighth for what goes slower than before. */
    hasup_ns end = core->now + wait + wait / 8 + 2 * (hasup_ns)model->run_ns;
    return end > deadline ? end - deadline : 0;
}

/* Those that come with less time go before it.  At the edge of its deadline a request that runs is
 * late by a little, and so is the next one: the workers would do nothing else.  And where some have
 * come too late, whoever has no time for a full batch makes it shorter for all that wait: then the
 * workers would do less for everybody. */
bool late_by_now(const struct core *core, const struct slot *slot, const struct item *item)
{
    const struct model *model = &core->models[slot->model];
    bool known = slot->drain.samples >= RATE_KNOWN;
    bool others = item->later > item->deadline; /* who joined it have more time */
    if (!model->policy.queue.refuse_late || !model->queued || item->deadline == HASUP_NEVER ||
        others || !known)
        return false;
    bool full = core->now < model->late_until && model->queued >= slot->batch_cap;
    uint64_t run = slot->concurrency == 1 ? fit_predict(&slot->fit, full ? slot->batch_cap : 1)
                                          : model->run_ns;
    return core->now + (hasup_ns)(run + run / 8) > item->deadline;
}

void late_noted(struct core *core, struct model *model)
{
    hasup_ns drain = drain_time(model, 2 * (uint64_t)model->queued);
    model->late_until = core->now + (drain == HASUP_NEVER || drain < LATE_SPAN ? LATE_SPAN : drain);
}

/* ---- rates ---- */

/* Takes one from a bucket whose next is due at `*due`; else how long until there is one. */
static hasup_ns rate_take(hasup_ns now, hasup_ns *due, uint32_t per_second, uint32_t burst)
{
    hasup_ns each = HASUP_S / per_second, ahead = each * (burst ? burst - 1 : per_second - 1);
    hasup_ns at = *due > now ? *due : now;
    if (at - now > ahead)
        return at - now - ahead;
    *due = at + each;
    return 0;
}

static hasup_ns *client_due(struct core *core, uint32_t model, uint64_t client)
{
    uint64_t key = (client ^ model * UINT64_C(0x9e3779b97f4a7c15)) | 1;
    struct client_rate *set = &core->clients[(key >> 32) % CLIENT_SETS * CLIENT_SET], *free = set;
    for (unsigned i = 0; i < CLIENT_SET; i++) {
        if (set[i].key == key)
            return &set[i].due;
        if (set[i].due < free->due)
            free = &set[i];
    }
    *free = (struct client_rate){.key = key};
    return &free->due;
}

/* How long it is above a limit; 0: it was counted.  Who is above his own takes nothing from others.
 */
static hasup_ns above_rate(struct core *core, struct model *model, const struct event *event)
{
    const struct model_policy *policy = &model->policy;
    hasup_ns *due = policy->rate.client_per_second && event->submitted.client
                        ? client_due(core, model->index, event->submitted.client)
                        : NULL;
    hasup_ns before = due ? *due : 0;
    hasup_ns wait =
        due ? rate_take(core->now, due, policy->rate.client_per_second, policy->rate.client_burst)
            : 0;
    if (wait || !policy->rate.per_second)
        return wait;
    wait = rate_take(core->now, &model->rate_due, policy->rate.per_second, policy->rate.burst);
    if (wait && due)
        *due = before;
    return wait;
}

int clients_init(struct core *core)
{
    core->clients = calloc(CLIENTS, sizeof *core->clients);
    return core->clients ? 0 : HASUP_ENOMEM;
}

/* ---- all of it ---- */

static bool queue_is_full(const struct model *model, uint64_t size)
{
    return model->queued + model->suspects.count + model->storing >= model->policy.queue.requests ||
           model->queued_bytes + size > model->policy.queue.bytes;
}

/* Its time would be over before the breaker lets anything through. */
static bool breaker_outlasts(const struct model *model, hasup_ns deadline)
{
    return model->breaker.state == BREAKER_OPEN && deadline && deadline <= model->breaker.until;
}

/* What can be told without looking at how fast things go. */
static bool refused_plainly(struct core *core, const struct event *event, const struct model *model,
                            enum refusal *why)
{
    const hasup_ns deadline = event->submitted.deadline;
    bool broken = model->breaker.state != BREAKER_CLOSED;
    if (model_is_program(model))
        *why = REFUSED_NOT_FOUND;
    else if (blame_is_quarantined(core, event->submitted.hash, &(uint32_t){0}))
        *why = REFUSED_QUARANTINED;
    else if (!model->accepting || core->shutting_down || !model_has_hope(core, model))
        *why = REFUSED_UNAVAILABLE;
    else if (session_is_lost(core, model, event->submitted.session))
        *why = REFUSED_UNAVAILABLE;
    else if (deadline && deadline <= core->now)
        *why = REFUSED_DEADLINE;
    else if (breaker_outlasts(model, deadline))
        *why = REFUSED_UNAVAILABLE;
    else if (queue_is_full(model, event->submitted.size))
        *why = broken ? REFUSED_UNAVAILABLE : REFUSED_OVERLOADED;
    else
        return false;
    return true;
}

static void turn_away(struct core *core, const struct event *event, struct model *model,
                      enum refusal why, hasup_ns retry_after)
{
    uint32_t crashes = 0;
    if (model)
        model->refused++;
    if (why == REFUSED_QUARANTINED)
        blame_is_quarantined(core, event->submitted.hash, &crashes);
    if (why == REFUSED_UNAVAILABLE || why == REFUSED_OVERLOADED)
        retry_after = session_retry_after(core, model, event->submitted.session);
    refuse_action(core, event->request, why, retry_after, crashes);
    action_add(core, ACTION_FORGET)->request = event->request;
}

void refuse_at_once(struct core *core, const struct event *event, struct model *model,
                    enum refusal why)
{
    turn_away(core, event, model, why, 0);
}

bool admission_refuses(struct core *core, const struct event *event, struct model *model)
{
    enum refusal why = REFUSED_LATE;
    hasup_ns wait = 0;
    if (refused_plainly(core, event, model, &why)) {
        turn_away(core, event, model, why, 0);
        return true;
    }
    if (!(wait = lateness(core, model, event))) {
        why = REFUSED_RATE;
        wait = above_rate(core, model, event);
    }
    if (!wait)
        return false;
    turn_away(core, event, model, why, wait < HASUP_S ? HASUP_S : wait);
    return true;
}
