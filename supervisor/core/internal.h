/*
 * internal.h: what the files of the core ask of each other; its records are in records.h.
 *
 *   core.c      the step, shutdown
 *   model.c     models: set, scaled, drained, removed
 *   command.c   what an operator tells a model or a slot
 *   views.c     what the shell may see
 *   check.c     what holds between any two steps
 *   slot.c      the life of a slot: started, ended, backoff, breaker, drain
 *   prepare.c   the command that runs before a slot starts
 *   program.c   programs: slots whose processes know nothing of requests
 *   order.c     which model starts after which, and stops before it
 *   watch.c     workers that hang
 *   recycle.c   workers replaced before they do harm
 *   rollout.c   workers replaced without a gap, rollback
 *   canary.c    two versions side by side: whose the next request is, which does worse
 *   gate.c      when a slot may start: zygotes, and how many load at the same time
 *   spare.c     loaded workers that take over
 *   request.c   the life of a request: queued, in flight, answered, refused
 *   admission.c whether a request that comes is taken: room, rate, time
 *   dispatch.c  which worker gets the next request: the free workers of a model, by policy
 *   session.c   which slot a session's requests run in
 *   batch.c     which requests run together in one worker
 *   queue.c     which request is next: priority, deadline, arrival
 *   suspect.c   requests that were in hand at a crash: tried again by halves
 *   body.c      bodies under suspicion and in quarantine
 *   blame.c     who is to blame for a crash: a request, or the model; quarantine, its breaker
 *   replay.c    the log of a stateful slot, checkpoints, replay
 *   durable.c   what waits for the journal
 *   durable_join.c, durable_recover.c: those who join a request; what an earlier run left
 *   entry.c     the memory of durable requests by record and key
 *   timer.c     timers
 *   save.c      the core as bytes, and back; save_records.c, save_timers.c: field by field;
 *               save_check.c: whether it was all
 */
#ifndef HASUP_CORE_INTERNAL_H
#define HASUP_CORE_INTERNAL_H

#include "supervisor/core/records.h"

static inline struct model *model_of(struct core *core, const struct slot *slot)
{
    return &core->models[slot->model];
}

/* ---- actions ---- */

static inline struct action *action_add(struct core *core, enum action_type type)
{
    struct actions *out = core->out;
    assert(out->count < out->room);
    struct action *action = &out->list[out->count++];
    *action = (struct action){.type = type, .model = UINT32_MAX, .slot = UINT32_MAX};
    return action;
}

static inline struct action *action_slot(struct core *core, enum action_type type,
                                         const struct slot *slot)
{
    struct action *action = action_add(core, type);
    action->model = slot->model;
    action->slot = slot->index;
    action->worker = slot->worker;
    return action;
}

struct action *notice_slot(struct core *core, enum notice what, const struct slot *slot);

/* ---- queue.c ---- */

void list_append(struct list *list, struct item *item);
void list_remove(struct list *list, struct item *item);
/* Into the queue of its home, or the model's. */
void queue_push(struct core *core, struct item *item);
/* The next one, taken out; NULL: none. */
struct item *queue_pop(struct core *core, const struct model *model, const struct slot *slot);
/* The same, left in: of the model's queue, and of that of a slot where there is one. */
struct item *queue_first(const struct core *core, const struct model *model,
                         const struct slot *slot);
/* Any one that waits; NULL: none does. */
struct item *queue_any(const struct core *core, const struct model *model);
/* The first of those that wait for this slot only; NULL: none does. */
struct item *queue_own(const struct core *core, const struct slot *slot);
void queue_remove(struct core *core, struct item *item);
void queue_check(const struct core *core, const struct model *model);

/* ---- session.c ---- */

/* Where a session's requests run now; NULL: the model has no slot that stays. */
struct slot *session_slot(struct core *core, const struct model *model, uint64_t session);
/* Queues one, where it may run. */
void session_queue(struct core *core, struct item *item);
/* Whether nobody can say when its slot will serve again. */
/* When to come again with a request that was refused: its slot may be tried later than others. */
hasup_ns session_retry_after(struct core *core, const struct model *model, uint64_t session);
bool session_is_lost(struct core *core, const struct model *model, uint64_t session);
/* Whether it changes a state that no other slot has. */
bool session_has_state(const struct core *core, const struct item *item);
/* The slot's state is another, or it is to go. */
void session_slot_changed(struct core *core, struct slot *slot);
/* Its worker is gone, and no spare has taken over, unless it is ready. */
void session_worker_lost(struct core *core, struct slot *slot);

/* ---- dispatch.c ---- */

/* After anything changed that decides whether, and how well, a slot can take more. */
void dispatch_update(struct core *core, struct slot *slot);
/* The same of a slot's own queue. */
void dispatch_due(struct core *core, struct slot *slot);
/* Gives out what waits while there is room. */
void dispatch_model(struct core *core, struct model *model);
/* Hands so many to a slot, to run together. */
void dispatch_batch(struct core *core, struct slot *slot, struct item *const *batch, uint32_t count,
                    bool replay);
/* The next of the queue, to run there; NULL: it would be late, and was refused. */
struct item *dispatch_pop(struct core *core, const struct slot *slot);
/* False: its time is over, and it was refused. */
bool dispatch_is_in_time(struct core *core, struct item *item);
void dispatch_joined(struct core *core,
                     struct slot *slot); /* ready: its pass starts at the model's */
bool slot_has_room(const struct core *core, const struct slot *slot);
/* Whether somebody may take what waits. */
bool dispatch_has_taker(const struct core *core, const struct model *model);
void dispatch_check(const struct core *core, const struct model *model);

/* ---- batch.c ---- */

/* How many run together there at most. */
void batch_limit(struct slot *slot, const struct model_policy *policy);
/* A request of the model came. */
void batch_arrived(struct core *core, struct model *model);
/* Whether the one free worker had better wait for company; sets the model's batch timer then. */
bool batch_waits(struct core *core, struct model *model, const struct slot *slot);
/* Takes out of the queue what runs together with batch[0]; how many there are then. */
uint32_t batch_gather(struct core *core, struct slot *slot, struct item *batch[CORE_BATCH]);
/* Whether both may run together there; one that may not with itself runs alone. */
bool batch_may_hold(const struct slot *slot, const struct item *first, const struct item *item);
/* Puts it in the ring of those in flight together with `first`; NULL: it is the first. */
void batch_join(struct slot *slot, struct item *first, struct item *item);
/* That were all. */
void batch_close(struct item *first);
/* It is in flight no more; true: nor is any of its mates. */
bool batch_leave(struct slot *slot, struct item *item);
/* The last of its batch was answered, out of the flight already. */
void batch_ended(struct core *core, struct slot *slot, const struct item *item);
/* A member's time ran out in flight. */
void batch_was_late(struct slot *slot, const struct item *item);
uint64_t fit_predict(const struct fit *fit, uint32_t size);
void fit_learn(struct fit *fit, uint32_t size, uint64_t took);
bool fit_is_known(const struct fit *fit);

/* ---- suspect.c ---- */

/* Appends to the group that is open. */
void suspects_put(struct suspects *suspects, struct item *item);
/* The open group is complete.  `halve`: its requests were in one worker's hands when that died;
 * they are tried again as two groups. */
void suspects_close(struct suspects *suspects, bool halve);
/* How many at the head of the list are the next group. */
uint32_t suspects_next(const struct suspects *suspects);
void suspects_remove(struct suspects *suspects, struct item *item);
void suspects_check(const struct suspects *suspects);

/* ---- body.c ---- */

int bodies_init(struct bodies *bodies, uint32_t limit);
void bodies_fini(struct bodies *bodies);
struct body *body_find(const struct bodies *bodies, const uint64_t hash[2]);
/* The body of this hash, made where it is not known; the newest now. */
struct body *body_touch(struct core *core, uint32_t model, const uint64_t hash[2]);
void body_free(struct core *core, struct body *body);
/* All of a model that is gone. */
void bodies_forget(struct core *core, uint32_t model);
void bodies_check(const struct core *core);

/* ---- blame.c ---- */

/* A worker dies with requests in hand, which are still in its flight. */
void blame_crash(struct core *core, struct slot *slot);
/* One of them, out of the flight now. */
void blame_item(struct core *core, struct slot *slot, struct item *item);
/* Before a suspect may die once more somebody else should be tried. */
bool blame_wants_witness(const struct model *model);
/* It was answered. */
void blame_answered(struct core *core, struct model *model, struct item *item);
void blame_identified(struct core *core, const struct event *event);
void body_timed_out(struct core *core, struct body *body);
void blame_lifted(struct core *core, const struct event *event);
void blame_recovered(struct core *core, const struct event *event);
/* Its body is in quarantine; `crashes`: workers that it killed. */
bool blame_is_quarantined(const struct core *core, const uint64_t hash[2], uint32_t *crashes);
/* It is new, or accepted by the journal now: into the queue, the suspects, or refused. */
void request_enter(struct core *core, struct item *item);
/* Whether the model may be given a request now. */
static inline bool breaker_lets(const struct model *model)
{
    return model->breaker.state == BREAKER_CLOSED ||
           (model->breaker.state == BREAKER_HALF_OPEN && !model->inflight);
}
void breaker_timed_out(struct core *core, struct model *model);
/* Somebody knows better: as if nothing had crashed. */
void breaker_reset(struct core *core, struct model *model);

/* ---- admission.c ---- */

int clients_init(struct core *core);
/* Refuses a new request where it should; false: it is to be taken in. */
bool admission_refuses(struct core *core, const struct event *event, struct model *model);
/* Refuses what was never taken in. */
void refuse_at_once(struct core *core, const struct event *event, struct model *model,
                    enum refusal why);
/* Whether one that was taken would be late even if it ran there now, and others wait for its place.
 */
bool late_by_now(const struct core *core, const struct slot *slot, const struct item *item);
/* One that was taken came too late. */
void late_noted(struct core *core, struct model *model);
/* The slot's state, or what is known of its speed, is another. */
void rate_count(struct core *core, struct slot *slot);
/* A batch of that size ended after so long, out of the flight already. */
void rate_learn(struct core *core, struct slot *slot, uint32_t size, uint64_t took);
/* How long a client should wait before it tries again. */
hasup_ns model_retry_after(const struct core *core, const struct model *model);
static inline uint8_t priority_of(const struct event *event)
{
    uint8_t priority = event->submitted.priority;
    return priority >= 1 && priority <= PRIORITIES ? priority : PRIORITY_DEFAULT;
}

/* ---- request.c ---- */

struct item *item_find(struct core *core, uint64_t id);
/* Opens the item of a SUBMITTED event; it is in no place yet. */
struct item *request_open(struct core *core, const struct event *event);
void request_submitted(struct core *core, const struct event *event);
void request_cancelled(struct core *core, const struct event *event);
void request_expired(struct core *core, struct item *item);
void request_replied(struct core *core, struct slot *slot, const struct event *event);
void request_chunked(struct core *core, struct slot *slot, const struct event *event);
void request_unbegun(struct core *core, struct slot *slot, const struct event *event);
void request_progressed(struct core *core, struct slot *slot, const struct event *event);
void request_resumed(struct core *core, struct slot *slot, const struct event *event);
/* Its worker died: queued again, kept for its slot, or refused.  Out of the flight already. */
void request_orphaned(struct core *core, struct slot *slot, struct item *item, bool crash);
/* Tells a client. */
void refuse_action(struct core *core, uint64_t id, enum refusal why, hasup_ns retry_after,
                   uint32_t attempts);
void request_refuse(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after);
/* The reply in hand goes to its client, where that has not heard an end yet. */
void request_answer(struct core *core, struct slot *slot, struct item *item);
void request_forget(struct core *core, struct item *item);
/* Takes what waits out of the queue or the suspects, refuses and forgets it. */
void waiting_refuse(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after);
/* Nobody waits for it any more: what only waits is forgotten, what runs is told. */
void request_drop(struct core *core, struct item *item);
/* Both: a stream that cannot go on. */
void request_break(struct core *core, struct item *item, enum refusal why, hasup_ns retry_after);
/* Refuses all that the model has queued. */
void requests_refuse_queued(struct core *core, struct model *model, enum refusal why);

/* ---- slot.c ---- */

void slot_set_state(struct core *core, struct slot *slot, enum slot_state state);
void slot_start(struct core *core, struct slot *slot);
/* Starts the worker: what comes before is done. */
void slot_launch(struct core *core, struct slot *slot);
/* It waited, and may go on. */
void slot_go_on(struct core *core, struct slot *slot);
/* Its worker has said hello: LOADING, with a limit. */
void slot_load(struct core *core, struct slot *slot);
bool slot_was_healthy(const struct core *core, const struct slot *slot);
/* A process of the slot's is to be started: nothing is known of it yet. */
void slot_renew(struct slot *slot);
void slot_timer(struct core *core, struct slot *slot, hasup_ns span);
/* A start that failed, or a run that ended before it was healthy: backoff, or the breaker. */
void slot_fail(struct core *core, struct slot *slot);
/* What its worker takes at once, by its offer and the policy. */
void slot_limit(struct core *core, struct slot *slot);
/* How long to wait after so many failures in a row: doubling, with jitter. */
hasup_ns slot_backoff(struct core *core, const struct slot *slot, uint32_t failures);
/* Kills it now; its requests move at once. */
void slot_kill(struct core *core, struct slot *slot);
/* It hangs: as slot_kill(), but first it may say why. */
void slot_abort(struct core *core, struct slot *slot);
/* Stops it for good (wanted false) or for a restart: finishes what it has. */
void slot_drain(struct core *core, struct slot *slot);
void slot_drain_progress(struct core *core, struct slot *slot);
void slot_became_ready(struct core *core, struct slot *slot);
void slot_spawned(struct core *core, struct slot *slot, int error);
void slot_greeted(struct core *core, struct slot *slot, const struct event *event);
void slot_loaded(struct core *core, struct slot *slot, const struct event *event);
void slot_ready(struct core *core, struct slot *slot, int error);
void slot_broke(struct core *core, struct slot *slot);
void slot_exited(struct core *core, struct slot *slot, const struct event *event);
void slot_tree_empty(struct core *core, struct slot *slot);
void slot_timed_out(struct core *core, struct slot *slot);
/* Gone and not wanted: leaves the table where it should. */
void slot_settle(struct core *core, struct slot *slot);
void slot_hasten(struct core *core, struct slot *slot);

/* ---- watch.c ---- */

/* It is to do something by then: looked at again at that time, at the latest. */
void watch_until(struct core *core, struct slot *slot, hasup_ns due);
/* What it owes may have changed by something else than is said below. */
void watch_changed(struct core *core, struct slot *slot);
/* It is loaded. */
void watch_begin(struct core *core, struct slot *slot);
/* A request was given to it, which may have been idle before: then it is pinged first. */
void watch_dispatched(struct core *core, struct slot *slot);
/* It said something of a request before its end. */
void watch_spoke(struct core *core, struct slot *slot, struct item *item);
/* It answered one, and may be idle now. */
void watch_answered(struct core *core, struct slot *slot);
void watch_ponged(struct core *core, struct slot *slot);
void watch_alive(struct core *core, struct slot *slot, bool hangs);
/* The work timer. */
void watch_due(struct core *core, struct slot *slot);
void watch_check(const struct core *core, const struct slot *slot);

/* ---- recycle.c ---- */

/* It is ready: nothing is held against it. */
void recycle_begin(struct core *core, struct slot *slot);
/* The model's policy is another one. */
void recycle_changed(struct core *core, struct slot *slot);
/* It answered one. */
void recycle_answered(struct core *core, struct slot *slot);
void recycle_measured(struct core *core, struct slot *slot, uint64_t bytes);
/* The slot's timer, while it is ready. */
void recycle_due(struct core *core, struct slot *slot);
/* Nobody is away: the next one that is to go goes. */
void recycle_next(struct core *core, struct model *model);
/* One whose turn has come drains: for this, where it was chosen. */
void recycle_turn(struct core *core, struct slot *slot);
/* Who was chosen is replaced by the rules of a rollout. */
void recycle_forget(struct core *core, const struct model *model);
/* Nobody could stand in for it: it stays for a while, where it was chosen. */
void recycle_put_off(struct core *core, struct slot *slot);
/* It drains for good now, and has no more time than others. */
void recycle_stopped(struct core *core, struct slot *slot);
void recycle_check(const struct core *core, const struct model *model);

/* ---- rollout.c ---- */

/* Does what can be done now: turns, extra slots, the end. */
void rollout_step(struct core *core, struct model *model);
/* This version replaces the model's. */
void rollout_begin(struct core *core, struct model *model, const struct model_policy *policy,
                   uint32_t version);
/* It is tried beside the model's, or has another weight now. */
void rollout_canary(struct core *core, struct model *model, const struct model_policy *policy,
                    uint32_t version, uint32_t weight);
void rollout_promote(struct core *core, struct model *model);
void rollout_abort(struct core *core, struct model *model);
/* The model stops: whatever is under way ends. */
void rollout_stop(struct core *core, struct model *model);
/* An extra slot becomes one of the model's own. */
void rollout_adopt(struct core *core, struct slot *slot);
/* What the slot's next worker runs. */
uint32_t rollout_version(const struct core *core, const struct slot *slot);
/* What holds for the slot's process: of its version. */
const struct model_policy *slot_policy(const struct core *core, const struct slot *slot);
void rollout_greeted(struct core *core, struct slot *slot);
void rollout_ready(struct core *core, struct slot *slot);
void rollout_broke(struct core *core, struct slot *slot); /* its breaker opened */
void rollout_model_broke(struct core *core, struct model *model);
void rollout_timed_out(struct core *core, struct model *model);
/* What is under way has failed because of this slot: what was before comes back. */
void rollout_fail(struct core *core, struct model *model, enum rollout_why why,
                  const struct slot *slot);
/* Whether an extra slot can stand in for one of the model's that is recycled. */
bool rollout_covers(const struct core *core, const struct model *model);
void rollout_check(const struct core *core, const struct model *model);

/* ---- canary.c ---- */

enum { PERCENT = 100 };

/* Who of the free workers gets the next request while there is a canary; NULL: nobody may. */
struct slot *rollout_choose(const struct core *core, const struct model *model);
void rollout_dispatched(const struct core *core, const struct slot *slot, uint32_t count);
/* A request ended there. */
void rollout_outcome(struct core *core, const struct slot *slot, bool failed);

/* ---- gate.c ---- */

/* The one that is there, or will be; NULL: the model goes on without. */
struct slot *gate_zygote(struct core *core, const struct model *model);
/* Whether it has loaded, and what the model is now. */
bool gate_is_loaded(const struct core *core, const struct slot *zygote);
/* Who forks this slot's worker; NULL: it starts by itself. */
struct slot *gate_parent(struct core *core, const struct slot *slot);
/* Whether it may start; false: it is WAITING now, and goes on by itself. */
bool gate_pass(struct core *core, struct slot *slot);
/* Its state was another one. */
void gate_changed(struct core *core, struct slot *slot, enum slot_state from);
/* Lets in whom there is room for. */
void gate_open(struct core *core);
/* When a zygote hangs that has not forked this one. */
hasup_ns gate_fork_by(const struct core *core, const struct slot *slot);
/* It has not: whether there is one to be ended for it. */
bool gate_overdue(struct core *core, struct slot *slot);
/* The zygote can never fork: its model goes on without. */
void gate_refused(struct core *core, struct slot *slot);
/* Counts what is not saved. */
void gate_loaded(struct core *core);
void gate_check(const struct core *core);

/* ---- spare.c ---- */

/* Its worker is dying and has nothing in hand: a spare takes its place, where there is one.  Gives
 * the slot that the dying worker is in now. */
struct slot *spare_take_over(struct core *core, struct slot *slot);
/* After each step: whoever still dies somewhere gets one that is loaded or idle now. */
void spares_settle(struct core *core);
void spare_check(const struct core *core, const struct slot *slot);

/* ---- program.c ---- */

static inline bool model_is_program(const struct model *model)
{
    return model->policy.kind != KIND_WORKERS;
}
/* It runs: it is ready, or must say so, or do its task. */
void program_spawned(struct core *core, struct slot *slot);
/* Nothing is left of it, and nobody asked for its end: whether that was its last run; DONE or BROKEN
 * then. */
bool program_ended(struct core *core, struct slot *slot);
/* Whether a start that failed is not tried again. */
bool program_is_tried_once(const struct core *core, const struct slot *slot);
/* It became ready, or its policy is another one: asked whether it is well. */
void program_watch(struct core *core, struct slot *slot);
void program_probed(struct core *core, struct slot *slot, enum question probe, bool well);
/* The probe timer. */
void program_probe(struct core *core, struct slot *slot);
void program_check(const struct core *core, const struct slot *slot);

/* ---- order.c ---- */

bool order_is_up(const struct model *model);
/* The slot's state was another one. */
void order_changed(struct core *core, struct slot *slot, enum slot_state from);
/* The model that the slots of this one wait for before they start; NULL: they may. */
const struct model *order_blocker(const struct core *core, const struct model *model);
/* Whether hasupd stops, or it is removed, and those that start after this one, and go too, have not
 * stopped yet. */
bool order_holds(const struct core *core, const struct model *model);
/* While hasupd stops, or it is removed: a slot stopped, and those that come before its model may be next. */
void order_released(struct core *core, const struct model *model);
/* Whether something that its slots wait for has failed, or is stopped, as things stand. */
bool order_waits_in_vain(const struct core *core, const struct model *model);
/* Likewise, where that is no person's will, who may start again what he has stopped. */
bool order_waits_for_broken(const struct core *core, const struct model *model);
/* At the end of a step: requests whose model waits for what broke or was stopped are refused. */
void order_settle(struct core *core);
/* It is removed: nobody comes after it any more. */
void order_forget(struct core *core, const struct model *gone);
/* Counts what is not saved. */
void order_loaded(struct core *core);
void order_check(const struct core *core, const struct model *model);

/* ---- prepare.c ---- */

void prepare_begin(struct core *core, struct slot *slot);
/* Nothing is left of the command. */
void prepare_ended(struct core *core, struct slot *slot);

/* ---- replay.c ---- */

void log_add(struct core *core, struct slot *slot, struct item *item);
void log_remove(struct slot *slot, struct item *item);
bool log_is_full(const struct core *core, const struct slot *slot);
/* The state is back up to `position`: what follows is run again. */
void replay_begin(struct core *core, struct slot *slot, uint64_t position);
void replay_next(struct core *core, struct slot *slot);
/* The breaker lets requests through again. */
void replay_resume(struct core *core, struct model *model);
/* No worker will come for what waits in the log unanswered: refused, or queued again. */
void log_refuse_waiting(struct core *core, struct slot *slot);
void log_release(struct core *core, struct slot *slot);
void log_answered(struct slot *slot, struct item *item, uint64_t digest);
bool checkpoint_changed(const struct slot *slot);
void checkpoint_arm(struct core *core, struct slot *slot);
/* Asks for the state, unless one is on its way. */
void checkpoint_take(struct core *core, struct slot *slot);
void checkpoint_state(struct core *core, struct slot *slot, const struct event *event);
void checkpoint_stored(struct core *core, struct slot *slot, const struct event *event);
/* Its results cannot be made durable now, so it is not stored. */
void checkpoint_give_up(struct core *core, struct slot *slot);
void checkpoint_lost(struct slot *slot); /* its worker died while its state was being taken */
void log_check(const struct core *core, const struct slot *slot);

/* A result of the slot's log is durable, or left the log. */
void checkpoint_awaited(struct core *core, struct slot *slot, const struct item *item);
/* What stands at this position will be missing: the next run of hasupd must not find it either. */
void log_forsake(struct core *core, const struct slot *slot, uint64_t position);
/* Takes it out of the log; forgets it, unless it still waits for the journal. */
void log_let_go(struct core *core, struct slot *slot, struct item *item);
/* Puts what an earlier run had answered back into the log. */
void log_recover(struct slot *slot, struct item *item, uint64_t position);
void load_checkpoint(struct core *core, struct slot *slot);
/* The disk has an error: it is asked again later, and nobody serves from less than there was. */
void load_failed(struct core *core, struct slot *slot);
/* The checkpoint timer: a state is to be taken, or the load tried again. */
void checkpoint_due(struct core *core, struct slot *slot);

/* ---- durable.c ---- */

bool model_is_durable(const struct core *core, const struct model *model,
                      const struct event *event);
/* More than the journal takes of one request, one chunk, one answer. */
bool durable_is_too_large(const struct core *core, uint64_t size);
/* A new one, to be accepted by the journal; false: nothing more can be remembered. */
bool durable_begin(struct core *core, struct item *item, const struct event *event);
void durable_persisted(struct core *core, const struct event *event);
void durable_chunked(struct core *core, struct item *item, uint64_t skip, uint64_t size);
void kept_release(struct core *core, struct item *item);
/* Its worker replied; `digest` of a stateful one. */
void durable_replied(struct core *core, struct slot *slot, struct item *item,
                     const struct event *event);
/* Its client was told that it is refused: so are those who joined, and the journal. */
void durable_refused(struct core *core, struct item *item, hasup_ns retry_after);
/* Before it is forgotten. */
void durable_forget(struct core *core, struct item *item);
void durable_dropped(struct core *core, uint64_t record);
/* Requests that were refused because of this body may be asked anew. */
void durable_pardoned(struct core *core, const uint64_t hash[2]);
void durable_expired(struct core *core, struct entry *entry);
void durable_retry(struct core *core);
void durable_sync(struct core *core);
/* The answer, the chunk of `of` to `item`'s client; a chunk that it has is not told again. */
void tell_answer(struct core *core, struct item *item, const struct item *of);
void tell_chunk(struct core *core, struct item *item, const struct item *of, uint64_t number);
/* The oldest finished one makes room where there is none; NULL: every one is in use. */
struct entry *entry_make(struct core *core, uint64_t record, const uint64_t key[2], uint64_t body);
/* Stored answers within limits.result_bytes: the oldest go. */
void results_bound(struct core *core);

/* ---- durable_join.c ---- */

/* Where its key is known: joins, retells or refuses.  False: it is a new one. */
bool durable_joined(struct core *core, struct model *model, const struct event *event);
/* Somebody asks for a record: joins it, or hears its answer. */
void durable_asked(struct core *core, const struct event *event);
/* Its own client's time is over, but others wait longer: true, and it goes on for them. */
bool durable_outlasts(struct core *core, struct item *item);
void durable_left(struct core *core, struct item *item); /* a joined one's client is gone */
/* All who joined hear the answer, and are forgotten. */
void joined_answer(struct core *core, struct item *leader);
/* One that joined ends; what it had to hear was said. */
void joined_forget(struct core *core, struct item *item);

/* ---- durable_recover.c ---- */

void durable_recovered(struct core *core, const struct event *event);

/* ---- entry.c ---- */

int entries_init(struct entries *entries, uint32_t limit);
void entries_fini(struct entries *entries);
struct entry *entry_by_key(const struct entries *entries, const uint64_t key[2]);
struct entry *entry_by_record(const struct entries *entries, uint64_t record);
/* NULL: every one is in use; the oldest finished one is the one to free. */
struct entry *entry_new(struct entries *entries, uint64_t record, const uint64_t key[2],
                        uint64_t body);
/* The oldest finished one that was refused because of this body; NULL: there is none. */
struct entry *entry_condemned(const struct entries *entries, const uint64_t hash[2]);
/* Nobody finds it by its key any more. */
void entry_unkey(struct entries *entries, struct entry *entry);
/* It is finished: the newest of those. */
void entry_finish(struct entries *entries, struct entry *entry, bool refused);
void entry_free(struct entries *entries, struct entry *entry);
void entries_check(const struct entries *entries);

/* ---- model.c ---- */

/* Whether some slot serves, or will without anybody's help. */
bool model_has_hope(const struct core *core, const struct model *model);
void model_check_hope(const struct core *core, const struct model *model);
/* After a slot stopped, broke or a request ended: refuses, removes, finishes what can be. */
void model_settle(struct core *core, struct model *model);
/* Its policy is another one. */
void model_changed(struct core *core, struct model *model);
struct slot *slot_by_ordinal(struct core *core, const struct model *model, enum slot_role role,
                             uint32_t ordinal);
/* NULL: the table is full. */
struct slot *slot_add(struct core *core, struct model *model, enum slot_role role,
                      uint32_t ordinal, bool extra);
bool slots_have_room(const struct core *core);
/* A slot is free: to a model that found none. */
void models_fill(struct core *core);
void model_set(struct core *core, const struct event *event);
void model_removed(struct core *core, struct model *model);
/* Once a step: whether an essential model is at its end. */
void essentials_settle(struct core *core);

/* ---- command.c ---- */

void command_run(struct core *core, const struct event *event);

/* ---- core.c ---- */

/* While it shuts down: whether that is all. */
void core_settle(struct core *core);

#endif
