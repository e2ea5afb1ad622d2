/*
 * core.c: one step: what is due, then the event; and the shutdown, which is of all models.
 * The only place that switches on the event's type.  An event about a worker that is no longer its
 * slot's is dropped here, so that nothing a dead one said late can count.
 */
#include "supervisor/core/internal.h"

#include <stdlib.h>

#ifdef HASUP_PLANT
enum plant core_plant;
#endif

/* ---- shutdown ---- */

void core_settle(struct core *core)
{
    if (!core->shutting_down || core->exited)
        return;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (slot->used &&
            (slot->state != SLOT_STOPPED || slot->checkpoint.state != CHECKPOINT_IDLE))
            return;
    }
    for (uint32_t i = 0; i < core->limits.models && !core->hastened; i++)
        if (core->models[i].used && (core->models[i].storing || core->models[i].unstored))
            return;
    core->exited = true;
    timer_clear(&core->wheel, &core->shutdown_timer);
    action_add(core, ACTION_EXIT);
}

/* The grace is over: what is left is refused, and every worker goes now. */
static void shutdown_hasten(struct core *core)
{
    core->hastened = true;
    for (uint32_t i = 0; i < core->limits.models; i++)
        if (core->models[i].used) {
            rollout_stop(core, &core->models[i]);
            requests_refuse_queued(core, &core->models[i], REFUSED_UNAVAILABLE);
        }
    for (uint32_t i = 0; i < core->items_high; i++)
        if (core->items[i].place != PLACE_NONE && core->items[i].storing != STORING_NOTHING &&
            !core->items[i].settled)
            request_refuse(core, &core->items[i], REFUSED_UNAVAILABLE, HASUP_S);
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used)
            slot_hasten(core, &core->slots[i]);
    core_settle(core);
}

/* Told so after workers were told to go: who tells cannot wait for them. */
static void shutdown_kill(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high && !PLANT(PLANT_PATIENT_STOP); i++)
        if (core->slots[i].used)
            slot_kill(core, &core->slots[i]);
    core_settle(core);
}

static void shutdown_begin(struct core *core, hasup_ns deadline)
{
    if (core->shutting_down) {
        if (core->hastened)
            shutdown_kill(core);
        else
            shutdown_hasten(core);
        return;
    }
    core->shutting_down = true;
    durable_sync(core);
    timer_set_at(&core->wheel, &core->shutdown_timer, deadline);
    for (uint32_t i = 0; i < core->limits.models; i++)
        if (core->models[i].used) {
            core->models[i].accepting = false;
            core->models[i].draining = true;
            model_settle(core, &core->models[i]);
        }
    core_settle(core);
}

/* ---- the step ---- */

#define OWNER(type, member, timer) ((type *)(void *)((char *)(timer)-offsetof(type, member)))

static void timer_fired(struct core *core, struct timer_node *timer)
{
    switch ((enum timer_kind)timer->kind) {
    case TIMER_REQUEST: request_expired(core, OWNER(struct item, timer, timer)); return;
    case TIMER_SLOT: slot_timed_out(core, OWNER(struct slot, timer, timer)); return;
    case TIMER_WORK: watch_due(core, OWNER(struct slot, work_timer, timer)); return;
    case TIMER_CHECKPOINT:
        checkpoint_due(core, OWNER(struct slot, checkpoint_timer, timer));
        return;
    case TIMER_PROBE: program_probe(core, OWNER(struct slot, probe_timer, timer)); return;
    case TIMER_SHUTDOWN: shutdown_hasten(core); return;
    case TIMER_ENTRY: durable_expired(core, OWNER(struct entry, timer, timer)); return;
    case TIMER_STORING: durable_retry(core); return;
    case TIMER_SYNC: durable_sync(core); return;
    case TIMER_BODY: body_timed_out(core, OWNER(struct body, timer, timer)); return;
    case TIMER_ROLLOUT: rollout_timed_out(core, OWNER(struct model, rollout.timer, timer)); return;
    case TIMER_BATCH: dispatch_model(core, OWNER(struct model, batch.timer, timer)); return;
    case TIMER_BREAKER: breaker_timed_out(core, OWNER(struct model, breaker.timer, timer)); return;
    }
}

/* The slot that the event is about; NULL: it is gone. */
static struct slot *slot_at(struct core *core, const struct event *event)
{
    if (event->slot >= core->slots_high || !core->slots[event->slot].used)
        return NULL;
    return &core->slots[event->slot];
}

/* The same, where the event is of its present worker. */
static struct slot *slot_worker_at(struct core *core, const struct event *event)
{
    struct slot *slot = slot_at(core, event);
    if (!slot || (slot->worker != event->worker && !PLANT(PLANT_STALE_REPLY)))
        return NULL;
    return slot;
}

/* A spare of a stateful model answers once it has loaded, and is not welcomed before a slot is its
 * own. */
static void slot_ponged(struct core *core, struct slot *slot)
{
    watch_ponged(core, slot);
    if (slot->role == ROLE_SPARE && slot->stateful)
        slot_ready(core, slot, 0);
}

/* What a worker says; one that is being killed is not listened to. */
static void event_of_worker(struct core *core, struct slot *slot, const struct event *event)
{
    bool heard = slot->state != SLOT_KILLING && slot->state != SLOT_ABORTING;
    switch (event->type) {
    case EVENT_SPAWNED: slot_spawned(core, slot, event->error); return;
    case EVENT_HELLO: slot_greeted(core, slot, event); return;
    case EVENT_CHECKPOINT_LOADED: slot_loaded(core, slot, event); return;
    case EVENT_WORKER_READY: slot_ready(core, slot, event->error); return;
    case EVENT_PONG: slot_ponged(core, slot); return;
    case EVENT_MEASURED: recycle_measured(core, slot, event->bytes); return;
    case EVENT_PROBED: program_probed(core, slot, event->probed.probe, event->probed.well); return;
    case EVENT_ALIVE: watch_alive(core, slot, event->hangs); return;
    case EVENT_BROKE: slot_broke(core, slot); return;
    case EVENT_EXITED: slot_exited(core, slot, event); return;
    case EVENT_TREE_EMPTY: slot_tree_empty(core, slot); return;
    case EVENT_REPLIED:
        if (heard)
            request_replied(core, slot, event);
        return;
    case EVENT_CHUNKED:
        if (heard)
            request_chunked(core, slot, event);
        return;
    case EVENT_PROGRESSED:
        if (heard)
            request_progressed(core, slot, event);
        return;
    case EVENT_UNBEGUN:
        if (heard)
            request_unbegun(core, slot, event);
        return;
    case EVENT_RESUMED:
        if (heard)
            request_resumed(core, slot, event);
        return;
    case EVENT_STATE_TAKEN:
        if (heard)
            checkpoint_state(core, slot, event);
        return;
    case EVENT_TIMEOUT:
    case EVENT_MODEL_SET:
    case EVENT_MODEL_REMOVED:
    case EVENT_COMMAND:
    case EVENT_SUBMITTED:
    case EVENT_PERSISTED:
    case EVENT_CANCELLED:
    case EVENT_DROPPED:
    case EVENT_IDENTIFIED:
    case EVENT_LIFTED:
    case EVENT_CHECKPOINT_STORED:
    case EVENT_RECOVERED:
    case EVENT_SHUTDOWN: return;
    }
}

void core_step(struct core *core, const struct event *event, struct actions *out)
{
    struct timer_node *timer;
    struct slot *slot;
    assert(event->now >= core->now);
    core->now = event->now;
    core->out = out;
    out->count = 0;
    while ((timer = wheel_next(&core->wheel, core->now)))
        timer_fired(core, timer);
    switch (event->type) {
    case EVENT_TIMEOUT: break;
    case EVENT_MODEL_SET:
        core->order_moved = true;
        model_set(core, event);
        break;
    case EVENT_MODEL_REMOVED:
        core->order_moved = true;
        if (event->model < core->limits.models && core->models[event->model].used)
            model_removed(core, &core->models[event->model]);
        break;
    case EVENT_COMMAND:
        core->order_moved = true;
        command_run(core, event);
        break;
    case EVENT_SUBMITTED: request_submitted(core, event); break;
    case EVENT_PERSISTED: durable_persisted(core, event); break;
    case EVENT_CANCELLED: request_cancelled(core, event); break;
    case EVENT_DROPPED: durable_dropped(core, event->record); break;
    case EVENT_IDENTIFIED: blame_identified(core, event); break;
    case EVENT_LIFTED: blame_lifted(core, event); break;
    case EVENT_RECOVERED: durable_recovered(core, event); break;
    case EVENT_CHECKPOINT_STORED:
        if ((slot = slot_at(core, event)))
            checkpoint_stored(core, slot, event);
        break;
    case EVENT_SHUTDOWN: shutdown_begin(core, event->shutdown.deadline); break;
    case EVENT_SPAWNED:
    case EVENT_HELLO:
    case EVENT_CHECKPOINT_LOADED:
    case EVENT_WORKER_READY:
    case EVENT_PONG:
    case EVENT_ALIVE:
    case EVENT_MEASURED:
    case EVENT_PROBED:
    case EVENT_BROKE:
    case EVENT_EXITED:
    case EVENT_TREE_EMPTY:
    case EVENT_REPLIED:
    case EVENT_CHUNKED:
    case EVENT_PROGRESSED:
    case EVENT_UNBEGUN:
    case EVENT_RESUMED:
    case EVENT_STATE_TAKEN:
        if ((slot = slot_worker_at(core, event)))
            event_of_worker(core, slot, event);
        break;
    }
    spares_settle(core);
    gate_open(core);
    order_settle(core);
    essentials_settle(core);
    core->out = NULL;
}

hasup_ns core_deadline(const struct core *core)
{
    return wheel_deadline(&core->wheel);
}

/* ---- life ---- */

struct core *core_new(const struct core_limits *limits, uint64_t seed)
{
    struct core *core = calloc(1, sizeof *core);
    if (!core)
        return NULL;
    assert(limits->models <= CORE_MODELS);
    core->limits = *limits;
    random_init(&core->random, seed);
    core->shutdown_timer.kind = TIMER_SHUTDOWN;
    core->storing_timer.kind = TIMER_STORING;
    core->sync_timer.kind = TIMER_SYNC;
    core->next_record = 1;
    core->models = calloc(limits->models, sizeof *core->models);
    core->slots = calloc(limits->slots, sizeof *core->slots);
    core->items = calloc(limits->requests, sizeof *core->items);
    core->free_slots = calloc((size_t)limits->models * limits->slots, sizeof *core->free_slots);
    if (!core->models || !core->slots || !core->items || !core->free_slots ||
        entries_init(&core->entries, limits->entries) ||
        bodies_init(&core->bodies, limits->bodies) || clients_init(core)) {
        core_free(core);
        return NULL;
    }
    return core;
}

void core_first_record(struct core *core, uint64_t record)
{
    if (record > core->next_record)
        core->next_record = record;
}

void core_free(struct core *core)
{
    if (!core)
        return;
    free(core->models);
    free(core->slots);
    free(core->items);
    free(core->free_slots);
    free(core->clients);
    entries_fini(&core->entries);
    bodies_fini(&core->bodies);
    free(core);
}

/* A step can end every request (refuse, persist, notice, forget), hand each out again (ping,
 * dispatch) or ask for its hash, change every slot a few times, let every entry expire and pardon
 * every body. */
int actions_init(struct actions *actions, const struct core *core)
{
    size_t room = (size_t)core->limits.requests * 9 + core->limits.entries + core->limits.bodies +
                  (size_t)core->limits.slots * 40 + core->limits.models * 4 + 64;
    *actions = (struct actions){.list = calloc(room, sizeof *actions->list), .room = room};
    return actions->list ? 0 : HASUP_ENOMEM;
}

void actions_fini(struct actions *actions)
{
    free(actions->list);
    *actions = (struct actions){0};
}
