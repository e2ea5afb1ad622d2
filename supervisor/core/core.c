/*
 * core.c: one step: what is due, then the event.  Also models, commands and shutdown.
 * The only place that switches on the event's type.  An event about a worker that is no longer its
 * slot's is dropped here, so that nothing a dead one said late can count.
 */
#include "supervisor/core/internal.h"

#include <stdlib.h>

#ifdef HASUP_PLANT
enum plant core_plant;
#endif

/* ---- models ---- */

bool model_has_hope(const struct core *core, const struct model *model)
{
    if (model->ready)
        return true;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        if (slot->used && slot->model == model->index && slot->role == ROLE_WORKER &&
            slot->wanted && slot->state != SLOT_STOPPED && slot->state != SLOT_BROKEN)
            return true;
    }
    return false;
}

static bool model_is_idle(const struct core *core, const struct model *model)
{
    if (model->queued || model->suspects.count || model->inflight || model->storing ||
        model->unstored)
        return false;
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index &&
            core->slots[i].log.unanswered)
            return false;
    return true;
}

/* Stops the slots of a model that has finished what it had. */
static void model_stop_slots(struct core *core, struct model *model)
{
    rollout_stop(core, model);
    for (uint32_t i = 0; i < core->slots_high && model->used; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        bool again = slot->wanted || (model->removing && !slot->removing);
        slot->wanted = slot->restart = slot->rolling = false;
        slot->removing |= model->removing;
        if (again)
            slot_drain(core, slot);
    }
}

/* Nobody of an essential model is left who could serve again without luck; or its program, which
 * was to stay, is done.  One that is stopped or drained was to end. */
static void essential_settle(struct core *core, const struct model *model)
{
    struct slot *broken = NULL;
    if (!model->policy.essential || !model->accepting)
        return;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->role != ROLE_WORKER ||
            !slot->wanted)
            continue;
        bool ended = slot->state == SLOT_BROKEN ||
                     (slot->state == SLOT_DONE && model->policy.kind == KIND_PROGRAM);
        if (!ended && !PLANT(PLANT_ESSENTIAL_EARLY))
            return;
        if (ended && (!broken || slot->since >= broken->since))
            broken = slot;
    }
    if (broken)
        notice_slot(core, NOTICE_ESSENTIAL, broken);
}

/* After each step, which may have rolled back what broke. */
static void essentials_settle(struct core *core)
{
    const bool looks = core->essential_down && !core->shutting_down;
    core->essential_down = false;
    for (uint32_t i = 0; looks && i < core->limits.models; i++)
        if (core->models[i].used)
            essential_settle(core, &core->models[i]);
}

void model_settle(struct core *core, struct model *model)
{
    if (!model->used)
        return;
    core->essential_down |= model->policy.essential &&
                            (!model->ready || PLANT(PLANT_ESSENTIAL_EARLY));
    if ((model->queued || model->suspects.count) && !model_has_hope(core, model))
        requests_refuse_queued(core, model, REFUSED_UNAVAILABLE);
    if (model->draining && model_is_idle(core, model) && !order_holds(core, model))
        model_stop_slots(core, model);
    if (model->used && model->removing && !model->slots && !model->storing && !model->unstored) {
        model->used = false;
        timer_clear(&core->wheel, &model->breaker.timer);
        timer_clear(&core->wheel, &model->batch.timer);
        timer_clear(&core->wheel, &model->rollout.timer);
        bodies_forget(core, model->index);
        action_add(core, ACTION_MODEL_GONE)->model = model->index;
    }
    core_settle(core);
}

static struct slot *slot_unused(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (!core->slots[i].used)
            return &core->slots[i];
    return core->slots_high < core->limits.slots ? &core->slots[core->slots_high++] : NULL;
}

bool slots_have_room(const struct core *core)
{
    bool room = core->slots_high < core->limits.slots;
    for (uint32_t i = 0; i < core->slots_high && !room; i++)
        room = !core->slots[i].used;
    return room;
}

struct slot *slot_by_ordinal(struct core *core, const struct model *model, enum slot_role role,
                             uint32_t ordinal)
{
    for (uint32_t i = 0; i < core->slots_high; i++)
        if (core->slots[i].used && core->slots[i].model == model->index &&
            core->slots[i].role == role && core->slots[i].ordinal == ordinal)
            return &core->slots[i];
    return NULL;
}

struct slot *slot_add(struct core *core, struct model *model, enum slot_role role, uint32_t ordinal,
                      bool extra)
{
    struct slot *slot = slot_unused(core);
    if (!slot)
        return NULL; /* those that drain still fill the table: models_fill() comes back to it */
    uint32_t worker = slot->worker;
    *slot = (struct slot){.used = true,
                          .timer = {.kind = TIMER_SLOT},
                          .work_timer = {.kind = TIMER_WORK},
                          .checkpoint_timer = {.kind = TIMER_CHECKPOINT},
                          .probe_timer = {.kind = TIMER_PROBE},
                          .state = SLOT_STOPPED,
                          .index = (uint32_t)(slot - core->slots),
                          .model = model->index,
                          .role = role,
                          .ordinal = ordinal,
                          .extra = extra,
                          .worker = worker,
                          .heap_at = NO_INDEX,
                          .wanted = model->accepting,
                          .since = core->now};
    model->slots++;
    model->helpers += role != ROLE_WORKER;
    struct action *added = action_slot(core, ACTION_SLOT_ADDED, slot);
    added->ordinal = ordinal;
    added->role = role;
    if (slot->wanted)
        slot_start(core, slot);
    return slot;
}

static uint32_t model_wants(const struct model *model, enum slot_role role)
{
    switch (role) {
    case ROLE_WORKER: return model->policy.workers;
    case ROLE_SPARE: return model->policy.spares;
    case ROLE_ZYGOTE: return model->policy.preload;
    }
    return 0;
}

/* As many slots of a role as the policy says: ordinals 0 … count - 1; one that leaves gets none. */
static void role_scale(struct core *core, struct model *model, enum slot_role role)
{
    const uint32_t count = model_wants(model, role);
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index || slot->removing || slot->extra ||
            slot->role != role || slot->ordinal < count)
            continue;
        slot->removing = true;
        slot->wanted = slot->restart = slot->rolling = false;
        if (slot->stateful && slot->log.position)
            notice_slot(core, NOTICE_STATE_LEFT, slot)->notice.value = slot->log.position;
        session_slot_changed(core, slot);
        slot_drain(core, slot);
    }
    for (uint32_t ordinal = 0; ordinal < count; ordinal++) {
        struct slot *slot = slot_by_ordinal(core, model, role, ordinal);
        if (!slot) {
            slot_add(core, model, role, ordinal, false);
        } else if (slot->removing) {
            slot->removing = false;
            slot->wanted = model->accepting;
            if (slot->wanted && slot->state == SLOT_STOPPED) /* its last checkpoint is stored */
                slot_start(core, slot);
            rollout_adopt(core, slot);
        } else if (slot->extra) {
            rollout_adopt(core, slot);
        }
    }
}

static uint32_t model_regular_slots(const struct core *core, const struct model *model)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < core->slots_high; i++) {
        const struct slot *slot = &core->slots[i];
        count += slot->used && slot->model == model->index && !slot->extra;
    }
    return count;
}

/* The zygote first: the others wait for it. */
static void model_scale(struct core *core, struct model *model)
{
    if (model->removing)
        return;
    role_scale(core, model, ROLE_ZYGOTE);
    role_scale(core, model, ROLE_WORKER);
    role_scale(core, model, ROLE_SPARE);
}

void models_fill(struct core *core)
{
    for (uint32_t i = 0; i < core->limits.models && !core->shutting_down; i++) {
        struct model *model = &core->models[i];
        if (model->used && model_regular_slots(core, model) < model->policy.workers +
                                                                  model->policy.spares +
                                                                  (uint32_t)model->policy.preload)
            model_scale(core, model);
    }
}

void model_changed(struct core *core, struct model *model)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || slot->model != model->index)
            continue;
        if (slot->offers.concurrency)
            slot_limit(core, slot);
        else
            dispatch_update(core, slot);
        checkpoint_arm(core, slot);
        watch_changed(core, slot);
        program_watch(core, slot);
        recycle_changed(core, slot);
    }
}

static void model_set(struct core *core, const struct event *event)
{
    struct model *model = &core->models[event->model];
    bool added = !model->used;
    assert(event->model < core->limits.models);
    if (added)
        *model =
            (struct model){.used = true,
                           .accepting = !core->shutting_down,
                           .index = event->model,
                           .breaker.timer.kind = TIMER_BREAKER,
                           .batch.timer.kind = TIMER_BATCH,
                           .rollout.timer.kind = TIMER_ROLLOUT,
                           .version = event->model_set.version,
                           .free = core->free_slots + (size_t)event->model * core->limits.slots};
    if (event->model_set.canary && !added) {
        rollout_canary(core, model, event->model_set.policy, event->model_set.version,
                       event->model_set.canary);
        dispatch_model(core, model); /* it has a greater share, maybe */
        model_settle(core, model);
        return;
    }
    if (event->model_set.restart && !added && !model->removing) {
        breaker_reset(core, model);
        rollout_begin(core, model, event->model_set.policy, event->model_set.version);
    } else {
        model->policy = *event->model_set.policy;
    }
    model_changed(core, model);
    if (!model->removing) /* a slot more would be gone again before anybody could use it */
        model_scale(core, model);
    rollout_step(core, model);
    dispatch_model(core, model);
    model_settle(core, model);
}

static void model_removed(struct core *core, struct model *model)
{
    rollout_stop(core, model);
    model->accepting = false;
    model->draining = model->removing = true;
    model_settle(core, model);
}

/* ---- commands ---- */

static void command_start(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    model->accepting = true; /* a slot that runs is there to be used */
    model->draining = false;
    slot->unhealthy = slot->breakers = slot->hook.tries = 0;
    slot->wanted = true;
    if (slot->state == SLOT_STOPPED || slot->state == SLOT_BACKOFF || slot->state == SLOT_BROKEN ||
        slot->state == SLOT_DONE)
        slot_start(core, slot);
}

static void command_slot(struct core *core, struct slot *slot, enum command command)
{
    switch (command) {
    case COMMAND_START: command_start(core, slot); return;
    case COMMAND_STOP:
    case COMMAND_DRAIN:
        slot->wanted = slot->restart = slot->rolling = false;
        slot_drain(core, slot);
        return;
    case COMMAND_RESTART:
        if (slot->wanted && slot->role != ROLE_WORKER) {
            slot->renew = true;
            return;
        }
        slot->restart = slot->wanted;
        slot->rolling &= !slot->restart; /* its turn comes anew */
        slot->recycle.chosen = false;
        if (!slot->wanted)
            command_start(core, slot);
        return;
    case COMMAND_CHECKPOINT:
        if (slot->role == ROLE_WORKER)
            checkpoint_take(core, slot);
        return;
    case COMMAND_PROMOTE:
    case COMMAND_ABORT: return;
    }
}

/* What a command to a whole model changes besides its slots. */
static void command_model(struct core *core, struct model *model, enum command command)
{
    switch (command) {
    case COMMAND_START:
    case COMMAND_RESTART:
        model->accepting = true;
        model->draining = false;
        breaker_reset(core, model);
        return;
    case COMMAND_STOP:
        rollout_stop(core, model);
        model->accepting = false;
        requests_refuse_queued(core, model, REFUSED_UNAVAILABLE);
        return;
    case COMMAND_DRAIN:
        model->accepting = false;
        model->draining = true;
        return;
    case COMMAND_PROMOTE: rollout_promote(core, model); return;
    case COMMAND_ABORT: rollout_abort(core, model); return;
    case COMMAND_CHECKPOINT: return;
    }
}

static void command_run(struct core *core, const struct event *event)
{
    if (event->model >= core->limits.models || !core->models[event->model].used ||
        core->shutting_down)
        return;
    struct model *model = &core->models[event->model];
    bool all = event->slot == CORE_ALL_SLOTS;
    if (model->removing)
        return;
    core->spare_came = true;
    if (all)
        command_model(core, model, event->command);
    /* The zygote first: the others wait for it. */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < core->slots_high; i++) {
            struct slot *slot = &core->slots[i];
            bool meant = slot->used && slot->model == model->index && (all || event->slot == i) &&
                         (slot->role == ROLE_ZYGOTE) == !pass;
            /* A model that drains stops its slots itself, once they are idle. */
            if (meant && !slot->removing && !(all && event->command == COMMAND_DRAIN))
                command_slot(core, slot, event->command);
        }
    rollout_step(core, model);
    dispatch_model(core, model);
    model_settle(core, model);
}

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
    case EVENT_MODEL_SET: model_set(core, event); break;
    case EVENT_MODEL_REMOVED:
        if (event->model < core->limits.models && core->models[event->model].used)
            model_removed(core, &core->models[event->model]);
        break;
    case EVENT_COMMAND: command_run(core, event); break;
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
