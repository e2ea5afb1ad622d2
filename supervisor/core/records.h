/*
 * records.h: the records of the core.  Who adds a field adds it to save_records.c, too.
 */
#ifndef HASUP_CORE_RECORDS_H
#define HASUP_CORE_RECORDS_H

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
    bool comes; /* order.c: it is counted as on its way */
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
    uint32_t broken, waiting;        /* likewise, in these states, */
    uint32_t standing;               /* and not STOPPED */
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
    bool order_moved; /* in this step what models wait for may have failed, or be other models */
    bool spare_came; /* in this step somebody may have become able to take over, or to be relieved */
    bool essential_down; /* likewise: an essential model has nobody who is ready */
};

#endif
