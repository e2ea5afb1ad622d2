/*
 * worker.c: fake workers.  A worker takes what it is told in order, takes time, and says things
 * that arrive a little later, in order.  A stateful one's model is a running hash, so that its
 * state after any history is known exactly.  Faults strike between any two moves.
 */
#include "supervisor/sim/internal.h"

static void ring_put(struct sim *sim, struct ring *ring, const struct message *message)
{
    if (ring->count == SIM_QUEUE) {
        sim_fail(sim, "a worker was told more than it could ever hold");
        return;
    }
    ring->list[(ring->start + ring->count++) % SIM_QUEUE] = *message;
}

static struct message ring_take(struct ring *ring)
{
    struct message message = ring->list[ring->start];
    ring->start = (ring->start + 1) % SIM_QUEUE;
    ring->count--;
    return message;
}

static uint32_t index_of(const struct sim *sim, const struct sim_slot *slot)
{
    return (uint32_t)(slot - sim->slots);
}

/* The worker moves after `delay`, unless it is on its way already. */
static void move_after(struct sim *sim, struct sim_slot *slot, hasup_ns delay)
{
    struct worker *worker = &slot->worker;
    if (worker->moves || !worker->alive || worker->hangs)
        return;
    worker->moves = true;
    sim_schedule(sim, sim->now + delay, HAPPENS_WORKER, index_of(sim, slot), worker->number, 0);
}

static void say(struct sim *sim, struct sim_slot *slot, struct message message)
{
    struct worker *worker = &slot->worker;
    hasup_ns at = sim->now + sim_between(sim, 0, HASUP_MS);
    if (at < worker->said_until)
        at = worker->said_until;
    worker->said_until = at;
    message.at = at;
    ring_put(sim, &worker->said, &message);
    sim_schedule(sim, at, HAPPENS_SAID, index_of(sim, slot), worker->number, 0);
}

/* ---- start ---- */

void worker_spawned(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    const struct model_shape *shape = &sim->models[slot->model];
    uint64_t restoring = slot->worker.restoring;
    slot->worker = (struct worker){.alive = true,
                                   .number = number,
                                   .ignores_term = sim_chance(sim, sim->fault_permille),
                                   .hangs = sim_chance(sim, sim->fault_permille / 4),
                                   .restoring = restoring};
    slot->worker.ignores_abort = sim_chance(sim, 200);
    if (slot->worker.hangs)
        slot->worker.hung_at = sim->now;
    if (shape->policy.timeouts.watchdog)
        worker_beats(sim, slot, number);
    slot->exited = false;
    slot->tree_left = true;
    slot->concurrency = shape->concurrency;
    slot->max_batch = shape->max_batch;
    if (shape->policy.batch.most && shape->policy.batch.most < slot->max_batch)
        slot->max_batch = shape->policy.batch.most;
    if (shape->policy.concurrency_max && shape->policy.concurrency_max < slot->concurrency)
        slot->concurrency = shape->policy.concurrency_max;
    slot->fork.pending = false;
    if (slot_is_program(sim, slot))
        program_begins(sim, slot);
    bool slow = sim_chance(sim, sim->fault_permille / 4);
    move_after(sim, slot, slow ? 90 * HASUP_S : sim_between(sim, 0, 20 * HASUP_MS));
    if (sim_chance(sim, sim->fault_permille))
        worker_dies(sim, slot, false);
}

void worker_prepares(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    slot->worker = (struct worker){.alive = true,
                                   .number = number,
                                   .prepares = true,
                                   .hangs = sim_chance(sim, sim->fault_permille / 4)};
    slot->exited = false;
    slot->tree_left = true;
    move_after(sim, slot, sim_between(sim, 0, 2 * HASUP_S));
}

/* ---- work ---- */

static void say_state(struct sim *sim, struct sim_slot *slot)
{
    struct worker *worker = &slot->worker;
    worker->snapshot.on = false;
    say(sim, slot,
        (struct message){.type = EVENT_STATE_TAKEN,
                         .position = worker->snapshot.position,
                         .state = worker->snapshot.state});
}

static uint64_t chunk_size(const struct client *client, uint32_t left)
{
    return 1 + sim_hash(client->content, left) % 100;
}

static void run_chunk(struct sim *sim, struct sim_slot *slot, struct client *client)
{
    uint64_t size = chunk_size(client, slot->worker.chunks_left);
    slot->worker.chunks_left--;
    say(sim, slot, (struct message){.type = EVENT_CHUNKED, .request = client->id, .size = size});
    if (sim->models[slot->model].resumable && random_below(&sim->random, 3) == 0)
        say(sim, slot, (struct message){.type = EVENT_PROGRESSED, .request = client->id});
}

/* A stream begins; or goes on, as the worker likes: behind what the client has, where its last
 * progress stands, or from the start. */
static void stream_begins(struct sim *sim, struct sim_slot *slot, const struct client *client,
                          const struct message *told)
{
    uint64_t starts[] = {0, client->progress, told->size}, at = 0;
    uint64_t from = told->resume ? starts[random_below(&sim->random, 3)] : 0;
    uint32_t left = client->chunks;
    for (; left && at < from; left--)
        at += chunk_size(client, left);
    if (at != from)
        sim_fail(sim, "request %llx: no chunk ends at byte %llu, where it is to go on",
                 (unsigned long long)client->id, (unsigned long long)from);
    slot->worker.chunks_left = left;
    if (told->resume)
        say(sim, slot,
            (struct message){.type = EVENT_RESUMED, .request = client->id, .position = from});
}

static void run_request(struct sim *sim, struct sim_slot *slot, const struct message *message)
{
    struct worker *worker = &slot->worker;
    struct client *client = client_find(sim, message->request);
    if (!client) {
        sim_fail(sim, "a request was forgotten while a worker had it");
        return;
    }
    if (poison_kills(sim, client)) {
        poison_killed(sim, client);
        worker_dies(sim, slot, false);
        return;
    }
    if (client->once && !client->chunks && sim_chance(sim, 2 * sim->fault_permille)) {
        say(sim, slot, (struct message){.type = EVENT_UNBEGUN, .request = client->id});
        worker_dies(sim, slot, false);
        return;
    }
    if (worker->chunks_left) { /* in the middle of a stream: one more chunk, then it comes here
                                  again */
        run_chunk(sim, slot, client);
        return;
    }
    uint64_t mixed = sim_hash(client->content, message->position - worker->batch_first);
    worker->memory += random_below(&sim->random, 100);
    if (slot->stateful)
        worker->state = sim_hash(worker->state, mixed);
    worker->batch_left--;
    say(sim, slot,
        (struct message){.type = EVENT_REPLIED,
                         .request = message->request,
                         .value = slot->stateful ? worker->state : random_next(&sim->random),
                         .digest = slot->stateful ? worker->state : 0,
                         .mixed = mixed,
                         .replay = message->replay});
}

/* The state as it is now.  Where a forked child takes it, it is said later, or never. */
static void take_state(struct sim *sim, struct sim_slot *slot, uint64_t position)
{
    struct worker *worker = &slot->worker;
    worker->snapshot.position = position;
    worker->snapshot.state = worker->state;
    if (!sim->models[slot->model].snapshots) {
        say_state(sim, slot);
        return;
    }
    worker->snapshot.on = true;
    worker->snapshot.hangs = sim_chance(sim, sim->fault_permille / 4);
    sim_schedule(sim, sim->now + sim_between(sim, 0, 5 * HASUP_S), HAPPENS_SNAPSHOT,
                 index_of(sim, slot), worker->number, 0);
}

void worker_snapshot_done(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    struct worker *worker = &slot->worker;
    if (worker->number != number || !worker->alive || worker->hangs || !worker->snapshot.on ||
        worker->snapshot.hangs)
        return;
    say_state(sim, slot);
    if (worker->exiting)
        worker_dies(sim, slot, false);
}

static void run_message(struct sim *sim, struct sim_slot *slot)
{
    struct worker *worker = &slot->worker;
    struct message *head = &worker->inbox.list[worker->inbox.start];
    if (head->action == ACTION_DISPATCH) {
        struct client *killer = worker->batch_left ? NULL : batch_taken(sim, worker);
        if (killer) {
            poison_killed(sim, killer);
            worker_dies(sim, slot, false);
            return;
        }
        struct client *client = client_find(sim, head->request);
        if (client && client->chunks && !head->same) {
            stream_begins(sim, slot, client, head);
            head->same = true; /* its stream has begun */
        }
        if (worker->chunks_left) {
            run_request(sim, slot, head);
            return;
        }
    }
    struct message message = ring_take(&worker->inbox);
    if (message.action == ACTION_DISPATCH) {
        run_request(sim, slot, &message);
    } else if (message.action == ACTION_PING) {
        if (!sim_chance(sim, sim->fault_permille / 8)) /* else the heartbeat is lost */
            say(sim, slot, (struct message){.type = EVENT_PONG});
    } else if (message.action == ACTION_TAKE_STATE) {
        take_state(sim, slot, message.position);
    } else if (message.action == ACTION_DRAIN) {
        worker->exiting = true;
        if (!worker->snapshot.on) /* else it stays for its child */
            worker_dies(sim, slot, false);
    }
}

/* Of one that waits for a slot: asked whether it has loaded, or told to go. */
static void run_early(struct sim *sim, struct sim_slot *slot)
{
    slot->worker.loaded = true;
    run_message(sim, slot);
}

void worker_moves(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    const struct model_shape *shape = &sim->models[slot->model];
    struct worker *worker = &slot->worker;
    if (worker->number != number || !worker->alive)
        return;
    worker->moves = false;
    if (worker->hangs)
        return;
    if (worker->prepares) {
        worker->exiting = !sim_chance(sim, 300);
        worker_dies(sim, slot, false);
        return;
    }
    if (slot_is_program(sim, slot)) {
        hasup_ns again = program_moves(sim, slot);
        if (again)
            move_after(sim, slot, again);
        return;
    }
    switch (worker->phase) {
    case PHASE_START:
        worker->phase = PHASE_LOAD;
        say(sim, slot, (struct message){.type = EVENT_HELLO});
        return; /* WELCOME wakes it */
    case PHASE_LOAD:
        if (worker->inbox.count &&
            worker->inbox.list[worker->inbox.start].action != ACTION_WELCOME) {
            run_early(sim, slot);
            break;
        }
        worker->phase = PHASE_SERVE;
        worker->state = worker->inbox.count ? ring_take(&worker->inbox).state : 0;
        say(sim, slot,
            (struct message){.type = EVENT_WORKER_READY,
                             .size = versions_is_dead(sim, slot) ||
                                     sim_chance(sim, sim->fault_permille)});
        break;
    case PHASE_SERVE:
        if (worker->inbox.count)
            run_message(sim, slot);
        break;
    }
    if (worker->alive && worker->inbox.count)
        move_after(sim, slot, sim_between(sim, 0, shape->service * 2));
}

void worker_told(struct sim *sim, struct sim_slot *slot, const struct message *message)
{
    const struct model_shape *shape = &sim->models[slot->model];
    struct worker *worker = &slot->worker;
    if (!worker->alive)
        return; /* dead, but the core does not know yet */
    if (message->action == ACTION_CANCEL)
        return; /* it runs to its end, and answers pings no later for it */
    ring_put(sim, &worker->inbox, message);
    bool loads = worker->phase == PHASE_LOAD && !worker->loaded && !worker->forked;
    move_after(sim, slot,
               loads ? sim_between(sim, 0, shape->load) : sim_between(sim, 0, shape->service));
}

/* ---- what it said is heard ---- */

static void hear_chunk(struct sim *sim, struct client *client, struct event *event,
                       const struct message *message)
{
    /* As the shell does by hash: the bytes up to what the client has are the same, or not. */
    if (!client->began)
        client->run_variant =
            sim_chance(sim, sim->fault_permille) ? sim_hash(client->id, sim->seq) : 1;
    client->produced += message->size;
    client->began = true;
    event->chunked.size = message->size;
    event->chunked.same = !client->received || client->produced < client->received ||
                          client->run_variant == client->variant;
}

/* What goes on in the middle goes on from the bytes that are there. */
static void hear_resumed(struct sim *sim, struct client *client, struct event *event,
                         const struct message *message)
{
    event->resumed.from = client->produced = message->position;
    if (!message->position)
        return;
    client->began = true;
    client->run_variant = client->variant;
    if (client->produced > client->received)
        sim_fail(sim, "request %llx goes on behind what was sent", (unsigned long long)client->id);
}

static void hear_reply(struct sim *sim, struct sim_slot *slot, struct client *client,
                       const struct message *message)
{
    client->at_slot = UINT32_MAX;
    batch_replied(sim, slot, client);
    slot->run_answered += !message->replay;
    if (!message->replay)
        client->value = message->value;
    if (!slot->stateful || message->replay)
        return;
    uint64_t expected = sim_hash(slot->oracle, message->mixed);
    if (slot->oracle_known && message->digest != expected)
        sim_fail(sim, "slot %u: its state is not what an undisturbed worker would have",
                 index_of(sim, slot));
    slot->oracle = message->digest;
    slot->oracle_known = true;
}

void worker_heard(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    struct worker *worker = &slot->worker;
    if (worker->number != number || !worker->said.count ||
        worker->said.list[worker->said.start].at > sim->now)
        return;
    struct message message = ring_take(&worker->said);
    struct event event = {.type = message.type,
                          .slot = index_of(sim, slot),
                          .worker = number,
                          .request = message.request};
    struct client *client = message.request ? client_find(sim, message.request) : NULL;
    if (message.type == EVENT_HELLO) {
        event.hello.concurrency = sim->models[slot->model].concurrency;
        event.hello.max_batch = sim->models[slot->model].max_batch;
        event.hello.stateful = slot->stateful;
        event.hello.zygote = slot->role == ROLE_ZYGOTE && !sim_chance(sim, sim->fault_permille / 4);
        event.hello.resumable = sim->models[slot->model].resumable;
    } else if (message.type == EVENT_WORKER_READY) {
        event.error = message.size ? HASUP_EWORKER : 0;
    } else if (message.type == EVENT_STATE_TAKEN) {
        slot->taken_position = event.checkpoint.position = message.position;
        event.checkpoint.error = sim_chance(sim, sim->fault_permille) ? HASUP_EWORKER : 0;
        slot->taken_state = message.state;
        slot->taken = true;
    } else if (message.type == EVENT_CHUNKED && client) {
        hear_chunk(sim, client, &event, &message);
    } else if (message.type == EVENT_RESUMED && client) {
        hear_resumed(sim, client, &event, &message);
    } else if (message.type == EVENT_PROGRESSED && client) {
        if (client->run_variant == client->variant && client->produced > client->progress)
            client->progress = client->produced;
    } else if (message.type == EVENT_UNBEGUN && client) {
        client->dispatches = 0;
        if (client->row)
            client->row->ran = false;
    } else if (message.type == EVENT_REPLIED && client) {
        event.replied.digest = message.digest;
        event.replied.size = journal_answer_size(client->content);
        event.replied.failed = versions_fails(sim, slot);
        hear_reply(sim, slot, client, &message);
    }
    sim_post(sim, &event);
    if (message.type == EVENT_REPLIED && client)
        versions_replied(sim, slot);
}

/* ---- its end ---- */

void worker_hangs(struct sim *sim, struct sim_slot *slot)
{
    if (slot->worker.hangs)
        return;
    slot->worker.hangs = true;
    slot->worker.hung_at = sim->now;
}

/* Several times in the time that it has; one that hangs must be found by then. */
void worker_beats(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    const hasup_ns watchdog = sim->models[slot->model].policy.timeouts.watchdog;
    struct worker *worker = &slot->worker;
    struct slot_view view;
    if (worker->number != number || !worker->alive)
        return;
    sim_schedule(sim, sim->now + watchdog / 3, HAPPENS_BEAT, index_of(sim, slot), number, 0);
    if (!worker->hangs) {
        if (worker->phase == PHASE_SERVE)
            sim_post(sim, &(struct event){
                              .type = EVENT_ALIVE, .slot = index_of(sim, slot), .worker = number});
        return;
    }
    if (sim->now > worker->hung_at + watchdog + SIM_TICK &&
        core_slot_view(sim->core, index_of(sim, slot), &view) && view.state == SLOT_READY &&
        (view.role != ROLE_SPARE || !view.stateful) && /* which waits to be welcomed */
        sim->now > view.since + watchdog + SIM_TICK)
        sim_fail(sim, "slot %u hangs, and its watchdog does not bite", index_of(sim, slot));
}

/* Nothing that it had in hand is with it any more. */
static void release_requests(struct sim *sim, const struct sim_slot *slot)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        if (sim->clients[i].id && sim->clients[i].at_slot == index_of(sim, slot)) {
            sim->clients[i].at_slot = UINT32_MAX;
            sim->clients[i].died++;
        }
}

void worker_dies(struct sim *sim, struct sim_slot *slot, bool by_core)
{
    struct worker *worker = &slot->worker;
    if (by_core) {
        /* The shell closes its socket: what it said and nobody heard is lost. */
        worker->said.count = 0;
        release_requests(sim, slot);
        slot->running = 0;
    }
    if (!worker->alive) {
        /* Reaped already: the rest of its tree is killed. */
        if (by_core && slot->exited && slot->tree_left)
            sim_schedule(sim, sim->now + sim_between(sim, 0, 20 * HASUP_MS), HAPPENS_TREE,
                         index_of(sim, slot), worker->number, 0);
        return;
    }
    worker->alive = false;
    sim->report->crashes++;
    hasup_ns noticed =
        sim->now + sim_between(sim, 0, sim_chance(sim, 50) ? 500 * HASUP_MS : HASUP_MS);
    if (noticed < worker->said_until && !by_core)
        noticed = worker->said_until; /* the shell drains its socket first */
    sim_schedule(sim, noticed, HAPPENS_EXIT, index_of(sim, slot), worker->number, 0);
}

/* It may say why it hangs; what it had in hand is elsewhere already. */
void worker_aborted(struct sim *sim, struct sim_slot *slot)
{
    struct worker *worker = &slot->worker;
    struct slot_view view;
    if (core_slot_view(sim->core, index_of(sim, slot), &view) && view.state == SLOT_ABORTING &&
        view.inflight) /* else a spare has its place */
        sim_fail(sim, "slot %u has requests in hand while it aborts", index_of(sim, slot));
    worker->said.count = 0;
    worker_hangs(sim, slot); /* or nobody hears what it does */
    worker->aborted_at = sim->now;
    release_requests(sim, slot);
    slot->running = 0;
    if (worker->alive && !worker->ignores_abort) {
        worker->exiting = slot_is_program(sim, slot) && random_below(&sim->random, 3) == 0;
        worker_dies(sim, slot, false);
    }
}

void worker_exit_noticed(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    if (slot->worker.number != number || slot->exited)
        return;
    struct slot_view view;
    slot->exited = true;
    /* Who was asked to finish what it has, and dies of it, crashed. */
    if (!slot->worker.exiting && slot->running &&
        core_slot_view(sim->core, index_of(sim, slot), &view) && view.state == SLOT_DRAINING)
        slot->ordered = false;
    bool empty = random_below(&sim->random, 3) == 0;
    release_requests(sim, slot);
    slot->running = 0;
    if (empty)
        slot->tree_left = false;
    else
        sim_schedule(sim, sim->now + sim_between(sim, 0, 30 * HASUP_MS), HAPPENS_TREE,
                     index_of(sim, slot), number, 0);
    slot->gone_at = sim->now;
    program_exits(sim, slot);
    if (slot->worker.prepares && !slot->ordered) {
        slot->hook.passed = slot->worker.exiting;
        slot->hook.failed += !slot->worker.exiting;
    }
    bool zygote = slot->role == ROLE_ZYGOTE;
    sim_post(sim, &(struct event){
                      .type = EVENT_EXITED,
                      .slot = index_of(sim, slot),
                      .worker = number,
                      .exited = {.signal = slot->worker.exiting ? 0 : 9, .tree_empty = empty}});
    if (zygote)
        forks_lost(sim, slot);
}

void worker_tree_gone(struct sim *sim, struct sim_slot *slot, uint32_t number)
{
    if (slot->worker.number != number || !slot->tree_left || !slot->exited)
        return;
    slot->tree_left = false;
    slot->gone_at = sim->now;
    sim_post(sim, &(struct event){
                      .type = EVENT_TREE_EMPTY, .slot = index_of(sim, slot), .worker = number});
}

/* A reply of the slot's last worker but one, come late, for a request that its successor has. */
static void speak_from_the_grave(struct sim *sim, const struct sim_slot *slot)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        const struct client *client = &sim->clients[i];
        if (!client->id || client->at_slot != index_of(sim, slot) || client->at_worker < 2)
            continue;
        sim_post(sim, &(struct event){.type = EVENT_REPLIED,
                                      .slot = client->at_slot,
                                      .worker = client->at_worker - 1,
                                      .request = client->id});
        return;
    }
}

/* Strikes somebody who lives; then the next fault is drawn. */
void worker_fault(struct sim *sim)
{
    struct sim_slot *slot = &sim->slots[random_below(&sim->random, SIM_SLOTS)];
    struct worker *worker = &slot->worker;
    if (!sim->faults || sim->regime != REGIME_ROUGH)
        return;
    if (slot->used && worker->alive) {
        switch (random_below(&sim->random, 8)) {
        case 0: worker_hangs(sim, slot); break;
        case 1:
            if (slot->state == SLOT_DRAINING && slot->running)
                slot->ordered = false;        /* as in worker_exit_noticed() */
            if (worker->phase != PHASE_START) /* nor is a pre_start command heard */
                sim_post(sim, &(struct event){.type = EVENT_BROKE,
                                              .slot = index_of(sim, slot),
                                              .worker = worker->number});
            break;
        case 2:
        case 3: speak_from_the_grave(sim, slot); break;
        default: worker_dies(sim, slot, false);
        }
    }
    sim_schedule(sim,
                 sim->now + sim_between(sim, HASUP_MS,
                                        random_below(&sim->random, 2) ? HASUP_S : 40 * HASUP_S),
                 HAPPENS_FAULT, 0, 0, 0);
}
