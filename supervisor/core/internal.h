/*
 * internal.h: the records of the core and what its files ask of each other.
 *
 *   core.c      the step, models, commands, shutdown, views
 *   slot.c      the life of a slot: started, ended, backoff, breaker, drain
 *   prepare.c   the command that runs before a slot starts
 *   program.c   programs: slots whose processes know nothing of requests
 *   order.c     which model starts after which, and stops before it
 *   watch.c     workers that hang
 *   recycle.c   workers replaced before they do harm
 *   rollout.c   workers replaced without a gap, two versions side by side, rollback
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
 *   durable.c   what waits for the journal; those who join a request; recovery
 *   entry.c     the memory of durable requests by record and key
 *   timer.c     timers
 *   save.c      the core as bytes, and back
 */
#ifndef HASUP_CORE_INTERNAL_H
#define HASUP_CORE_INTERNAL_H

#include "supervisor/core/core.h"
#include "supervisor/core/plant.h"
#include "supervisor/core/random.h"
#include "supervisor/core/timer.h"

#include <assert.h>

enum {
    PRIORITIES = 9,
    PRIORITY_DEFAULT = 5,
    BREAKER_DOUBLINGS = 3, /* the breaker's open time grows to 8 times */
    CLIENT_SET = 4, /* clients whose rate is known, in sets */
    CLIENTS = 1024 * CLIENT_SET,
    BATCH_LOOKAHEAD = 32, /* requests of other keys that a batch passes over, at most */
    NO_INDEX = -1,
};

enum timer_kind {
    TIMER_REQUEST,
    TIMER_SLOT,
    TIMER_WORK,
    TIMER_CHECKPOINT,
    TIMER_SHUTDOWN,
    TIMER_ENTRY,
    TIMER_STORING,
    TIMER_SYNC,
    TIMER_BODY,
    TIMER_BREAKER,
    TIMER_BATCH,
    TIMER_ROLLOUT,
    TIMER_PROBE,
};

/* Where a request is.  It is in exactly one place; `logged` ones stand in their slot's log besides.
 */
enum place {
    PLACE_NONE,
    PLACE_QUEUE,
    PLACE_SUSPECTS, /* of its model: waits to run alone */
    PLACE_FLIGHT,   /* with a worker */
    PLACE_LOG,      /* only in the log: answered, or waits for its slot to come back */
    PLACE_STORE,    /* waits for the journal only */
    PLACE_JOINED,   /* waits for the end of another request with its key */
};

/* What an item has with the journal, besides chunks. */
enum storing { STORING_NOTHING, STORING_ACCEPT, STORING_RESULT, STORING_FAILED /* tried again */ };

struct list {
    struct item *head, *tail;
};

/* A durable request, from SUBMITTED until its result expires. */
struct entry {
    struct timer_node timer; /* its expiry, once it is finished */
    uint64_t size; /* of its result, which is kept */
    uint64_t record, key[2], body, request, token;
    enum { ENTRY_FREE, ENTRY_WAITING, ENTRY_RUNNING, ENTRY_DONE, ENTRY_REFUSED } state;
    enum refusal why; /* of REFUSED, after so many attempts */
    uint64_t hash[2]; /* of REFUSED as quarantined: the body, where it is known */
    uint32_t attempts;
    bool keyed; /* stands in the table of keys */
    struct entry *next_by_key, *next_by_record;
    struct entry *older, *newer; /* finished ones, in the order of their end; or `newer`: free */
};

struct entries {
    struct entry *list, *free, *oldest, *newest;
    struct entry **by_key, **by_record; /* chains; mask + 1 of each */
    uint32_t mask, high, limit;
    uint32_t used, finished; /* entries; of them, those with an end */
    uint64_t bytes;          /* of the results of those */
};

/* Requests that were in hand when a worker died, in groups, which stand one behind the other. */
struct suspects {
    struct list list;
    uint32_t count, open; /* open: appended since the last close */
    uint64_t group;       /* the next one's number */
};

/* A body of a model, known by its hash: workers died with it in hand. */
struct body {
    struct timer_node timer; /* it is forgotten then, or is out of quarantine */
    uint64_t hash[2];
    uint32_t model;
    bool quarantined;
    bool proven; /* between its crashes others were answered */
    uint32_t crashes;
    uint64_t accused, row; /* its last accusation; the row of crashes in which it crashed last */
    uint64_t answers;      /* rows of the model that had ended by an answer, at its last crash */
    struct body *next;     /* of its chain; or free */
    struct body *older, *newer; /* by their last crash */
};

struct bodies {
    struct body *list, *free, *oldest, *newest;
    struct body **chains; /* mask + 1 */
    uint32_t mask, high, limit;
};

enum breaker {
    BREAKER_CLOSED,
    BREAKER_OPEN,
    BREAKER_HALF_OPEN /* one request at a time is tried */
};

struct item {
    struct timer_node timer; /* its deadline, while nobody has heard an end of it */
    uint64_t id;
    enum place place;
    uint32_t model, slot;
    uint8_t priority;
    bool settled;  /* its client has heard an end of it, or is gone */
    bool answered; /* logged: the worker replied once, `digest` is of that reply */
    bool replay;   /* in flight again only to bring its slot's state back */
    bool logged;
    bool alone;  /* in flight as a suspect, with its group only */
    bool client; /* somebody hears what is said about it */
    bool async, refused;
    bool once; /* must not run twice */
    bool unbegun; /* in flight: its worker said that it does not run */
    bool done; /* answered, and its row goes: there is no result to store */
    enum storing storing;
    enum refusal why;    /* where refused */
    struct entry *entry; /* of a durable one, until its end is written */
    struct item *leader; /* JOINED: whose end it waits for */
    struct list joined;
    uint64_t chunks, chunks_stored; /* of a durable stream */
    uint64_t heard;                 /* chunks that its client has */
    uint32_t attempts, crashes;     /* crashes: since it was answered last, with it in hand */
    uint64_t hash[2];               /* of model and body; 0, 0: not known */
    uint64_t group;                 /* of suspects */
    uint64_t accused, seen; /* its last accusation, crashes before its dispatch; see blame.c */
    uint64_t size, arrival;
    hasup_ns later;                          /* the latest deadline of those with its key */
    hasup_ns deadline, dispatched, progress; /* progress: dispatched, or its last chunk */
    uint64_t position, digest;
    bool spoke;               /* this attempt has said something: it streams */
    uint64_t sent, produced;  /* bytes of a stream: delivered, and where this attempt stands */
    uint64_t kept;            /* bytes of a durable stream, until its end is stored */
    bool progressed;          /* an attempt said from where another could go on */
    uint64_t session; /* 0: of none */
    uint32_t home;    /* QUEUE: the slot that it waits for; UINT32_MAX: any */
    uint64_t batch_key;
    uint64_t batch;  /* logged: position of the first of those that were given together */
    uint32_t mates;  /* in flight: given together, itself included */
    struct item *mate_next, *mate_prev; /* in flight: ring of its batch */
    hasup_ns entered; /* the queue, at first */
    struct item *next, *prev; /* in its queue, suspects or flight */
    struct item *child;       /* of the queue's heap */
    bool in_heap;
    struct item *log_next, *log_prev;
};

/* How long a batch takes, by its size: slope * size + base, in ns. */
struct fit {
    uint64_t count, n, t, nn, nt; /* weighted sums over the samples */
    uint64_t slope, base;
    uint32_t samples;
    bool known; /* from more than one size */
};

/* One priority class: what comes in order stands in the list, what does not in the pairing heap. */
struct queue_class {
    struct list list;
    struct item *heap;
    uint32_t count;
};

struct queue {
    struct queue_class classes[PRIORITIES];
    uint32_t used; /* bit set where a class holds something */
    uint32_t count;
};

/* When the next request of a client is due, by its limit of rate. */
struct client_rate {
    uint64_t key;
    hasup_ns due;
};

struct slot {
    struct timer_node timer;      /* of its state: start, backoff, breaker, drain, stop */
    struct timer_node work_timer; /* set lazily: at the latest when a worker is overdue */
    struct timer_node checkpoint_timer;
    struct timer_node probe_timer;
    bool used;
    enum slot_state state;
    enum slot_role role;
    uint32_t index, model, ordinal, worker;
    bool wanted;   /* should run */
    bool removing; /* leaves the table once it is stopped */
    bool ordered;  /* its end was asked for: no crash */
    bool extra;    /* beyond the model's workers, for the time of a rollout */
    uint32_t version; /* of its worker, or of its last one */
    bool restart;  /* waits for its turn to be replaced */
    bool rolling;  /* is being replaced: not ready yet */
    bool renew;    /* of a spare or a zygote: it is to be replaced */
    bool loads;    /* one of core->loading */
    bool forks;    /* its worker is its zygote's child, */
    bool born;     /* and is there */
    bool counted;  /* its worker died in another slot, which counts that */
    uint64_t waits; /* WAITING: since so many */
    bool drain_sent;
    struct {
        bool on;        /* the process is the pre_start command, not a worker */
        bool passed;    /* which exited with 0 */
        uint32_t tries; /* that failed, in a row */
    } hook;
    bool state_offered; /* it drains, and its last state came, whatever became of it */
    bool exited, tree_empty;
    bool died; /* exited: by a signal, or with another code than 0 */
    struct {
        bool asked;      /* a probe is not answered yet */
        uint32_t failed; /* LIVE, in a row */
    } probe;
    bool held;      /* gets nothing new: a suspect waits for it to be idle */
    bool exclusive; /* runs a group of suspects, and nothing else */
    bool stateful, resumable;
    struct {
        uint32_t concurrency, batch;
    } offers; /* of its worker; 0: none yet */
    uint32_t concurrency; /* batches that it takes */
    uint32_t batches;     /* in flight */
    uint32_t batch_most, batch_cap; /* requests in one: at most, and for now */
    bool late;            /* a member's time ran out while its batch ran */
    hasup_ns batch_end;   /* when the last one ended */
    struct queue queue; /* of sessions that are its own */
    struct slot *due_next, *due_prev;
    bool due; /* has room, and something in its own queue: stands in its model's list */
    struct fit fit;
    struct {
        uint64_t each, rate; /* ns for a request; requests in 2^40 ns, 0: unknown */
        uint32_t samples;
        uint64_t counted; /* in its model's rate */
        bool unmeasured;  /* likewise */
    } drain;
    struct list flight; /* longest without progress first */
    uint32_t inflight;
    int heap_at; /* in its model's free workers; NO_INDEX: it has no room */
    uint64_t key, used_seq, pass;
    hasup_ns start_by; /* a worker that is not ready then is killed */
    hasup_ns since, ready_since, last_active, progress, ping_due, next_start;
    hasup_ns alive; /* its watchdog's last word */
    bool was_ready;
    uint64_t run_answered; /* by this worker, replays not counted */
    uint32_t unhealthy, breakers;
    uint64_t service_ns; /* moving average; 0: unknown */
    struct {
        struct item *head, *tail;
        struct item *cursor;                  /* the next to replay; NULL: all are dispatched */
        uint64_t position;                    /* of the newest */
        uint64_t trimmed;                     /* no longer in the log up to here */
        uint64_t stored;                      /* newest checkpoint that is stored */
        uint64_t restored;                    /* where the worker that loads now will start from */
        bool restored_kept;                   /* from memory: no disk has that state */
        bool restored_lost;                   /* from nothing: every checkpoint is damaged */
        uint32_t count, unanswered, unstored; /* unstored: answered, and not durable yet */
        uint64_t bytes;
        bool durable; /* it ever held a durable request */
        bool failing; /* a result could not be stored: those behind it wait, for the order's sake */
    } log;
    struct {
        /* TAKEN: in hand, but results that it contains are not durable yet. */
        enum { CHECKPOINT_IDLE, CHECKPOINT_TAKING, CHECKPOINT_TAKEN, CHECKPOINT_STORING } state;
        uint32_t awaits; /* of TAKEN: so many results */
        bool load_waits; /* LOAD_CHECKPOINT comes after it */
        uint64_t position;
        hasup_ns last, retry;   /* retry: an early one not before then */
        hasup_ns reached;       /* asked for, or the last request before it was answered */
        bool again;             /* one more is wanted after this one */
        uint32_t load_failures; /* in a row: the disk did not give it */
    } checkpoint;
    struct {
        enum recycle why; /* NO: it may stay */
        bool chosen;      /* it waits for its turn, or for who stands in for it */
        bool on;          /* it drains for this */
        hasup_ns again;   /* nobody could stand in for it: it stays at least until then */
        hasup_ns policy, age_at; /* when its age is reached, by this policy */
        hasup_ns measured, measure_at;
    } recycle;
    struct identity crash; /* of the worker that is being abandoned: what is said of its requests */
    uint64_t starts, crashes, recycled, answered, replayed, diverged;
};

/* See rollout.c. */
struct rollout {
    struct timer_node timer; /* progress_deadline */
    enum rollout_state state;
    enum rollout_why why;
    uint32_t version; /* the other one: what comes back, or the canary's; 0: none */
    struct model_policy policy; /* its policy */
    bool alone;      /* no extra slot: what is new keeps state */
    uint32_t weight; /* of a canary, in percent */
    int64_t credit;  /* requests that it should have had, times 100 */
    struct {
        uint64_t ended, failed;
    } side[2]; /* of the stable version, of the canary */
};

struct model {
    bool used, accepting, draining, removing;
    uint32_t index;
    struct model_policy policy;
    uint32_t version;
    bool proven; /* a worker of it was ready: it is worth going back to */
    struct rollout rollout;
    bool stateful;      /* its workers last said so */
    struct queue queue; /* of what any slot may run */
    uint32_t queued;    /* there, and in those of the slots */
    uint64_t queued_bytes;
    struct suspects suspects;
    bool suspect_runs; /* or a slot is held for one: */
    bool holds;
    uint32_t identifying; /* IDENTIFY that are not answered yet: no suspect runs before */
    uint32_t bodies;      /* of it that are remembered */
    struct {              /* crashes one after the other, with no answer between: see blame.c */
        uint32_t crashes, groups; /* groups: of requests that have none in common */
        uint64_t answers;         /* rows that ended by an answer */
        bool beside;              /* others died at the same time as one of these */
        hasup_ns last;            /* when */
        uint64_t seen;            /* crashes that counted, ever */
        uint64_t first;           /* accusations before this one are of earlier rows */
    } row;
    struct {
        struct timer_node timer;
        enum breaker state;
        uint32_t opened; /* times in a row */
        bool resumes;    /* it closed: replays that waited for it go on */
        hasup_ns until;  /* OPEN */
    } breaker;
    uint64_t rate;       /* of its ready slots */
    uint32_t unmeasured; /* of those */
    uint64_t run_ns;     /* dispatch to answer: moving average */
    hasup_ns late_until; /* overloaded: some that were taken came too late */
    hasup_ns rate_due;   /* of its limit of rate: when the next one is */
    struct {
        struct timer_node timer; /* set while the last free worker waits for company */
        hasup_ns arrived;        /* the last request */
        uint64_t gap;            /* between two: moving average; 0: unknown */
    } batch;
    struct slot **free; /* heap of ready workers with room; limits.slots */
    uint32_t free_count;
    struct slot *due; /* with room for what waits for them alone */
    uint32_t slots, ready, inflight; /* ready: of those that serve */
    uint32_t served;                 /* gate.c: that serve, or will without waiting */
    uint32_t coming, done;           /* of those that serve: on their way to be ready; DONE */
    uint32_t unstopped;              /* slots that are not STOPPED */
    uint32_t helpers, spares;        /* slots that do not; of them, loaded spares */
    uint32_t storing;  /* wait to be accepted by the journal */
    uint32_t unstored; /* replied, and not durable yet */
    uint64_t pass;     /* of weighted round robin: where the model's time stands */
    uint64_t answered, refused, attempts, replays, batches;
};

struct core {
    struct core_limits limits;
    struct random random;
    struct wheel wheel;
    hasup_ns now;
    struct actions *out;
    struct model *models;
    struct slot *slots;
    struct item *items;
    struct entries entries;
    struct bodies bodies;
    uint64_t accusations;
    uint64_t next_record;
    uint32_t joined;
    struct timer_node storing_timer; /* results that the journal refused are tried again */
    struct timer_node sync_timer;    /* lazy writes wait no longer */
    bool lazy_waits;                 /* no write that is not lazy came after the last lazy one */
    struct client_rate *clients;
    struct slot **free_slots;        /* limits.slots for each model */
    uint32_t slots_high, items_high;
    uint64_t arrivals, uses;
    uint32_t requests; /* not forgotten */
    uint64_t kept;     /* sum of theirs */
    bool shutting_down, hastened, exited;
    uint32_t loading, waiting; /* slots that load; that are SLOT_WAITING */
    uint64_t waits;
    struct timer_node shutdown_timer;
    bool spare_came; /* in this step somebody may have become able to take over, or to be relieved */
    bool essential_down; /* likewise: an essential model has nobody who is ready */
};

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
/* Who of the free workers gets the next request while there is a canary; NULL: nobody may. */
struct slot *rollout_choose(const struct core *core, const struct model *model);
void rollout_dispatched(const struct core *core, const struct slot *slot, uint32_t count);
/* A request ended there. */
void rollout_outcome(struct core *core, const struct slot *slot, bool failed);
/* Whether an extra slot can stand in for one of the model's that is recycled. */
bool rollout_covers(const struct core *core, const struct model *model);
void rollout_check(const struct core *core, const struct model *model);
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

/* The slot's state was another one. */
void order_changed(struct core *core, const struct slot *slot, enum slot_state from);
/* The model that the slots of this one wait for before they start; NULL: they may. */
const struct model *order_blocker(const struct core *core, const struct model *model);
/* Whether hasupd stops, and those that start after this one have not stopped yet. */
bool order_holds(const struct core *core, const struct model *model);
/* While hasupd stops: a slot stopped, and those that come before its model may be next. */
void order_released(struct core *core, const struct model *model);
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
/* Where its key is known: joins, retells or refuses.  False: it is a new one. */
bool durable_joined(struct core *core, struct model *model, const struct event *event);
/* Somebody asks for a record: joins it, or hears its answer. */
void durable_asked(struct core *core, const struct event *event);
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
/* Its own client's time is over, but others wait longer: true, and it goes on for them. */
bool durable_outlasts(struct core *core, struct item *item);
void durable_left(struct core *core, struct item *item); /* a joined one's client is gone */
void durable_dropped(struct core *core, uint64_t record);
void durable_recovered(struct core *core, const struct event *event);
/* Requests that were refused because of this body may be asked anew. */
void durable_pardoned(struct core *core, const uint64_t hash[2]);
void durable_expired(struct core *core, struct entry *entry);
void durable_retry(struct core *core);
void durable_sync(struct core *core);

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

/* ---- core.c ---- */

/* Whether some slot serves, or will without anybody's help. */
bool model_has_hope(const struct core *core, const struct model *model);
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
void core_settle(struct core *core);

#endif
