/*
 * batch.c: which requests run together, how many, and whether it pays to wait for more.
 *
 * A worker that is free takes what waits, at once: batches grow because requests arrive while all
 * workers are busy, and not because somebody waits for company.  A batch is as long as
 *
 *   - the worker and the policy allow, and a cap of the slot's own: halved where a member's time
 *     ran out while its batch ran, one longer after each full batch that was in time;
 *   - the deadlines of its members allow, by the slot's own fit of the time that a batch takes,
 *     a * n + b: each member waits for all of them;
 *   - there are requests of one batch key among those that are next.
 *
 * Where max_delay allows it and the last free worker would take less than a full batch, it may pay
 * to wait for the next arrival.  With n in hand and one request every `gap`, running now costs the
 * next one a whole second run; waiting costs n + 1 of them the gap and n of them a's share of it.
 * So it pays while (n + 1) * gap + n * a < b; after that time without an arrival the batch goes.
 *
 * All figures are integers, so that a replay decides the same.  Owns the ring of a batch's members
 * in flight, the fit and the cap of each slot.
 */
#include "supervisor/core/internal.h"

enum {
    FIT_SAMPLES = 64, /* weight of the past: halved at this many */
    FIT_KNOWN = 8,    /* samples from which on a fit is believed */
    FIT_OUTLIER = 4,  /* a sample counts as so many times what was predicted, at most */
    FIT_SHIFT = 6,    /* times are kept in units of 64 ns, */
    FIT_BITS = 38     /* and up to 2^38 of them (5 h), so that no product overflows */
};

/* ---- how long a batch takes ---- */

static void fit_solve(struct fit *fit)
{
    const int64_t count = (int64_t)fit->count, n = (int64_t)fit->n, t = (int64_t)fit->t;
    int64_t spread = count * (int64_t)fit->nn - n * n;
    int64_t slope = spread > 0 ? (count * (int64_t)fit->nt - n * t) / spread : 0;
    if (slope < 0)
        slope = 0;
    int64_t base = (t - slope * n) / count;
    if (base < 0) { /* through the origin */
        base = 0;
        slope = t / n;
    }
    fit->known = spread > 0;
    fit->slope = (uint64_t)slope << FIT_SHIFT;
    fit->base = (uint64_t)base << FIT_SHIFT;
}

uint64_t fit_predict(const struct fit *fit, uint32_t size)
{
    return fit->base + fit->slope * size;
}

void fit_learn(struct fit *fit, uint32_t size, uint64_t took)
{
    uint64_t most = UINT64_C(1) << FIT_BITS;
    if (fit->samples >= FIT_KNOWN && took > FIT_OUTLIER * fit_predict(fit, size))
        took = FIT_OUTLIER * fit_predict(fit, size);
    took = (took >> FIT_SHIFT) + 1;
    took = took < most ? took : most;
    if (fit->count == FIT_SAMPLES) {
        fit->count /= 2;
        fit->n /= 2;
        fit->t /= 2;
        fit->nn /= 2;
        fit->nt /= 2;
    }
    fit->samples += fit->samples < FIT_KNOWN;
    fit->count++;
    fit->n += size;
    fit->t += took;
    fit->nn += (uint64_t)size * size;
    fit->nt += size * took;
    fit_solve(fit);
}

bool fit_is_known(const struct fit *fit)
{
    return fit->samples >= FIT_KNOWN;
}

/* ---- the members in flight ---- */

void batch_join(struct slot *slot, struct item *first, struct item *item)
{
    if (!first) {
        item->mate_next = item->mate_prev = item;
        item->mates = 1;
        slot->batches++;
        return;
    }
    item->mate_next = first;
    item->mate_prev = first->mate_prev;
    first->mate_prev->mate_next = item;
    first->mate_prev = item;
    first->mates++;
}

/* `mates`, of every member, is how many were given together. */
void batch_close(struct item *first)
{
    for (struct item *item = first->mate_next; item != first; item = item->mate_next)
        item->mates = first->mates;
}

bool batch_leave(struct slot *slot, struct item *item)
{
    bool last = item->mate_next == item;
    item->mate_prev->mate_next = item->mate_next;
    item->mate_next->mate_prev = item->mate_prev;
    item->mate_next = item->mate_prev = NULL;
    slot->batches -= last;
    return last;
}

void batch_was_late(struct slot *slot, const struct item *item)
{
    slot->late |= item->mates > 1;
}

static void cap_learn(struct slot *slot, uint32_t size)
{
    if (slot->late && size > 1)
        slot->batch_cap = size / 2;
    else if (size >= slot->batch_cap && slot->batch_cap < slot->batch_most)
        slot->batch_cap++;
    slot->late = false;
}

void batch_ended(struct core *core, struct slot *slot, const struct item *item)
{
    /* A worker that has several runs them one after the other. */
    hasup_ns start = item->dispatched > slot->batch_end ? item->dispatched : slot->batch_end;
    uint64_t took = (uint64_t)(core->now - start);
    slot->service_ns = slot->service_ns ? (slot->service_ns * 7 + took) / 8 : took + 1;
    slot->batch_end = core->now;
    fit_learn(&slot->fit, item->mates, took);
    rate_learn(core, slot, item->mates, took);
    cap_learn(slot, item->mates);
}

void batch_limit(struct slot *slot, const struct model_policy *policy)
{
    uint32_t most = slot->offers.batch < CORE_BATCH ? slot->offers.batch : CORE_BATCH;
    if (policy->batch.most && policy->batch.most < most)
        most = policy->batch.most;
    slot->batch_most = slot->batch_cap = most;
    slot->late = false;
}

/* ---- how many run together ---- */

bool batch_may_hold(const struct slot *slot, const struct item *first, const struct item *item)
{
    bool goes_on = slot->resumable && !slot->stateful && (item->sent || item->progressed);
    return (item->batch_key == first->batch_key || PLANT(PLANT_MIX_BATCH)) && !goes_on;
}

/* A deadline that even a run alone would miss binds nobody else. */
static hasup_ns binding(const struct core *core, const struct slot *slot, const struct item *item)
{
    hasup_ns alone = core->now + (hasup_ns)fit_predict(&slot->fit, 1);
    return item->deadline > alone ? item->deadline : HASUP_NEVER;
}

static uint32_t preferred(const struct model *model, uint32_t size)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < CORE_PREFERRED; i++) {
        uint32_t wanted = model->policy.batch.preferred[i];
        if (wanted <= size && wanted > best)
            best = wanted;
    }
    return best ? best : size;
}

static void give_back(struct core *core, struct item *const *items, uint32_t count)
{
    while (count)
        queue_push(core, items[--count]);
}

uint32_t batch_gather(struct core *core, struct slot *slot, struct item *batch[CORE_BATCH])
{
    struct model *model = model_of(core, slot);
    struct item *aside[BATCH_LOOKAHEAD];
    uint32_t count = 1, passed = 0;
    hasup_ns by = binding(core, slot, batch[0]);
    bool alone =
        !batch_may_hold(slot, batch[0], batch[0]) || model->breaker.state == BREAKER_HALF_OPEN;
    while (!alone && count < slot->batch_cap && model->queue.count + slot->queue.count &&
           passed < BATCH_LOOKAHEAD) {
        struct item *item = dispatch_pop(core, slot);
        if (!item)
            continue;
        hasup_ns own = binding(core, slot, item), end;
        end = core->now + (hasup_ns)fit_predict(&slot->fit, count + 1);
        bool like = batch_may_hold(slot, batch[0], item);
        if (like && end <= (own < by ? own : by)) {
            by = own < by ? own : by;
            batch[count++] = item;
            continue;
        }
        aside[passed++] = item;
        if (like)
            break; /* too long for somebody: so is every longer one */
    }
    uint32_t size = preferred(model, count);
    give_back(core, aside, passed);
    give_back(core, batch + size, count - size);
    return size;
}

/* ---- whether to wait for company ---- */

void batch_arrived(struct core *core, struct model *model)
{
    uint64_t gap = (uint64_t)(core->now - model->batch.arrived);
    if (model->batch.arrived)
        model->batch.gap = model->batch.gap ? (model->batch.gap * 7 + gap) / 8 : gap + 1;
    model->batch.arrived = core->now;
}

bool batch_waits(struct core *core, struct model *model, const struct slot *slot)
{
    const struct fit *fit = &slot->fit;
    hasup_ns most = model->policy.batch.max_delay;
    uint64_t size = model->queue.count, gap = model->batch.gap;
    bool last = model->free_count == 1 && slot->batches + 1 >= slot->concurrency;
    if (!most || !last || !gap || !fit->known || !fit_is_known(fit) || size >= slot->batch_cap ||
        (size + 1) * gap + size * fit->slope >= fit->base)
        return false;
    struct item *first = queue_first(core, model, NULL);
    hasup_ns pays = (hasup_ns)((fit->base - size * fit->slope) / (size + 1));
    hasup_ns until = model->batch.arrived + pays;
    hasup_ns end = (hasup_ns)fit_predict(fit, (uint32_t)size + 1);
    if (until > first->entered + most)
        until = first->entered + most;
    if (first->deadline != HASUP_NEVER && until > first->deadline - end)
        until = first->deadline - end;
    if (until <= core->now)
        return false;
    timer_set_at(&core->wheel, &model->batch.timer, until);
    return true;
}
