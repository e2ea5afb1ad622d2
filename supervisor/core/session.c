/*
 * session.c: requests of one session run in one slot, where its state or its cache is.  The slot is
 * found by rendezvous hashing: of all that the model has, the one whose number gives the greatest
 * hash together with the session.  So nothing has to be remembered, and where a slot comes or goes
 * only those sessions move that are its own.
 *
 * A session whose slot is down waits for it, where the slot has a state, or moves to the next best
 * slot that is ready; the policy may say otherwise.  One that waits is refused where its slot is
 * stopped or broken.  Those under suspicion run alone, in any slot, but where a state is theirs.
 *
 * Owns where what waits for a slot of its own stands.
 */
#include "supervisor/core/internal.h"

static uint64_t affinity(uint64_t session, uint32_t ordinal)
{
    uint64_t x = session ^ (ordinal + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static bool waits(const struct model *model)
{
    return model->policy.on_lost == ON_LOST_WAIT ||
           (model->policy.on_lost == ON_LOST_AUTO && model->stateful);
}

/* Of the slots that stay, or of those that are ready: also of a rollout's own, but of a canary's,
 * which has its share. */
static struct slot *best(struct core *core, const struct model *model, uint64_t session, bool ready)
{
    const bool canary = model->rollout.state == ROLLOUT_CANARY;
    struct slot *best = NULL;
    uint64_t most = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->role != ROLE_WORKER ||
            slot->removing || (ready && slot->state != SLOT_READY) ||
            (slot->extra && (!ready || canary)))
            continue;
        uint64_t own = affinity(session, slot->ordinal);
        if (best && own <= most)
            continue;
        best = slot;
        most = own;
    }
    return best;
}

struct slot *session_slot(struct core *core, const struct model *model, uint64_t session)
{
    struct slot *own = best(core, model, session, false);
    if (!own || own->state == SLOT_READY || waits(model))
        return own;
    struct slot *other = best(core, model, session, true);
    return other ? other : own;
}

void session_queue(struct core *core, struct item *item)
{
    const struct model *model = &core->models[item->model];
    struct slot *slot = item->session ? session_slot(core, model, item->session) : NULL;
    item->home = slot ? slot->index : UINT32_MAX;
    if (PLANT(PLANT_STRAY_SESSION) && core->uses % 8 == 0)
        item->home = UINT32_MAX;
    queue_push(core, item);
}

/* Where it waits in vain; NULL: it does not. */
static const struct slot *lost_slot(struct core *core, const struct model *model, uint64_t session)
{
    bool may = session && model->ready < model->slots - model->helpers; /* else none is */
    const struct slot *slot = may ? session_slot(core, model, session) : NULL;
    bool down = slot && (slot->state == SLOT_BROKEN || slot->state == SLOT_STOPPED);
    return down && waits(model) ? slot : NULL;
}

bool session_is_lost(struct core *core, const struct model *model, uint64_t session)
{
    return lost_slot(core, model, session) != NULL;
}

hasup_ns session_retry_after(struct core *core, const struct model *model, uint64_t session)
{
    const struct slot *slot = lost_slot(core, model, session);
    hasup_ns wait = model_retry_after(core, model), tried;
    if (!slot || slot->state != SLOT_BROKEN || slot->next_start == HASUP_NEVER)
        return wait;
    tried = slot->next_start - core->now;
    return tried > wait ? tried : wait;
}

bool session_has_state(const struct core *core, const struct item *item)
{
    return item->session && core->models[item->model].stateful;
}

/* What waits for it finds its place anew. */
static void leave(struct core *core, struct slot *slot)
{
    struct list moved = {0};
    struct item *item;
    while ((item = queue_own(core, slot))) {
        queue_remove(core, item);
        list_append(&moved, item);
    }
    while ((item = moved.head)) {
        list_remove(&moved, item);
        session_queue(core, item);
    }
}

static void refuse(struct core *core, struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    struct item *item;
    while ((item = queue_own(core, slot))) {
        queue_remove(core, item);
        request_refuse(core, item, REFUSED_UNAVAILABLE,
                       session_retry_after(core, model, item->session));
        request_forget(core, item);
    }
}

void session_worker_lost(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    bool down = slot->state == SLOT_BROKEN || slot->state == SLOT_STOPPED;
    if (slot->state == SLOT_READY || !slot->queue.count)
        return;
    leave(core, slot);
    if (down && slot->queue.count && waits(model))
        refuse(core, slot);
}

void session_slot_changed(struct core *core, struct slot *slot)
{
    if (slot->state == SLOT_ABORTING || slot->state == SLOT_KILLING)
        return; /* a spare may take over: session_worker_lost() */
    if (slot->state != SLOT_READY) {
        session_worker_lost(core, slot);
        return;
    }
    /* Those that waited for any slot: this one may be theirs, or the first that is there. */
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *other = &core->slots[i];
        if (other->used && other->model == slot->model && other->queue.count &&
            other->state != SLOT_READY)
            leave(core, other);
    }
}
