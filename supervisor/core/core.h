/*
 * core.h: the decisions of hasupd.  Events in, actions out; time is in the event.
 *
 * The core owns slots, queues, attempts, timers, backoff and logs of stateful slots, as ids, sizes
 * and states.  It never sees a payload byte, a descriptor or a clock; it calls nothing.  The shell
 * turns the world into events and performs the actions in the order given, before the next event.
 *
 * Names: a model is an index below limits.models, chosen by the shell.  A slot is an index below
 * limits.slots, chosen by the core.  A worker is (slot, worker): `worker` counts the processes of a
 * slot, so that what a dead one said late is recognised and dropped.  A request is a u64 chosen by
 * the shell: low 32 bits an index below limits.requests that is free, high 32 bits a generation
 * that makes it unique.  It is the shell's again after FORGET.
 */
#ifndef HASUP_CORE_H
#define HASUP_CORE_H

#include "ipc/base.h"

enum policy { POLICY_FASTEST, POLICY_LEAST_LOADED, POLICY_ROUND_ROBIN, POLICY_WEIGHTED_ROUND_ROBIN,
              POLICY_RANDOM };

enum { CORE_WEIGHTS = 16 };

/* What the configuration says of one model.  Copied by the core.  Durations of 0 mean "never". */
struct model_policy {
    uint32_t workers; /* slots */
    enum policy policy;
    uint32_t weights[CORE_WEIGHTS]; /* weighted_round_robin: of the slots by ordinal; 0: 1 */
    uint32_t concurrency_max; /* cap on what a worker's hello offers; 0: no cap */
    uint32_t max_attempts;    /* dispatches of one request before it is refused as quarantined */
    struct {
        hasup_ns backoff_min, backoff_max; /* doubling, with jitter of +-25 % */
        hasup_ns healthy_after; /* a run this long, or one that answered, resets the backoff */
        uint32_t start_limit;   /* unhealthy runs in a row before the slot's breaker opens */
        hasup_ns breaker;       /* open time before one more start is tried; doubles up to 8x */
    } restart;
    struct {
        hasup_ns start;   /* spawned to ready */
        hasup_ns attempt; /* a worker that has work and is silent this long hangs and is killed; so
                             does one that says nothing of a request for `concurrency` times this */
        hasup_ns ping;    /* answer to a ping */
        hasup_ns ping_after; /* a worker idle this long is pinged together with its next request */
        hasup_ns drain;   /* finishing what is in flight, before TERM */
        hasup_ns stop;    /* TERM to KILL */
    } timeouts;
    struct {
        uint32_t requests; /* queued at most; above: overloaded */
        uint64_t bytes;
    } queue;
    struct {
        hasup_ns interval;
        uint32_t log_requests; /* a checkpoint is taken early at this many, or bytes, since the last */
        uint64_t log_bytes;
    } checkpoint;
};

struct core_limits {
    uint32_t models, slots, requests;
};

#define CORE_SLOT_STATES(X)                                                                        \
    X(STOPPED, "stopped")     /* not wanted, or removed */                                         \
    X(BACKOFF, "backoff")     /* waits before the next start */                                    \
    X(BROKEN, "broken")       /* start limit reached: breaker open, one try when it ends */       \
    X(STARTING, "starting")   /* spawned, no hello yet */                                          \
    X(LOADING, "loading")     /* said hello; loads, restores */                                    \
    X(REPLAYING, "replaying") /* restored; runs again what its log holds */                        \
    X(READY, "ready")                                                                              \
    X(DRAINING, "draining")   /* finishes what it has, gets nothing new */                         \
    X(STOPPING, "stopping")   /* TERM sent */                                                      \
    X(KILLING, "killing")     /* KILL sent, or exited: waits for exit and the empty tree */

enum slot_state {
#define CORE_SLOT_ENUM(name, text) SLOT_##name,
    CORE_SLOT_STATES(CORE_SLOT_ENUM)
#undef CORE_SLOT_ENUM
};

/* Why a request is refused. The shell turns it into DESIGN's status and code. */
enum refusal { REFUSED_NOT_FOUND, REFUSED_OVERLOADED, REFUSED_UNAVAILABLE, REFUSED_DEADLINE,
               REFUSED_QUARANTINED, REFUSED_DIVERGED };

enum command { COMMAND_START, COMMAND_STOP, COMMAND_RESTART, COMMAND_DRAIN, COMMAND_CHECKPOINT };

#define CORE_ALL_SLOTS UINT32_MAX

#define CORE_EVENTS(X)                                                                             \
    X(TIMEOUT)           /* nothing but time passed */                                             \
    X(MODEL_SET)         /* model, policy, restart: add or change a model */                       \
    X(MODEL_REMOVED)     /* model: drain, then MODEL_GONE */                                       \
    X(COMMAND)           /* model, slot (or CORE_ALL_SLOTS), command */                            \
    X(SPAWNED)           /* slot, worker, error: 0, or errno of the failed spawn */                \
    X(HELLO)             /* slot, worker, concurrency, stateful */                                 \
    X(CHECKPOINT_LOADED) /* slot, worker, found, position, error: found in memory only;            \
                          * answer to LOAD_CHECKPOINT */                                           \
    X(WORKER_READY)      /* slot, worker, error: 0 or HASUP_EWORKER */                             \
    X(PONG)              /* slot, worker */                                                        \
    X(BROKE)             /* slot, worker: malformed frame or closed socket; it must die */         \
    X(EXITED)            /* slot, worker, exit: reaped; tree_empty where already proven */         \
    X(TREE_EMPTY)        /* slot, worker */                                                        \
    X(SUBMITTED)         /* request, model, size, deadline, priority */                            \
    X(CANCELLED)         /* request: its client is gone */                                         \
    X(REPLIED)           /* slot, worker, request, digest (stateful slots) */                      \
    X(CHUNKED)           /* slot, worker, request, size, same */                                   \
    X(STATE_TAKEN)       /* slot, worker, position, error */                                       \
    X(CHECKPOINT_STORED) /* slot, position, error: negative where it is kept in memory only */     \
    X(SHUTDOWN)          /* deadline (grace ends); a second one hastens */

enum event_type {
#define CORE_EVENT_ENUM(name) EVENT_##name,
    CORE_EVENTS(CORE_EVENT_ENUM)
#undef CORE_EVENT_ENUM
};

struct event {
    enum event_type type;
    hasup_ns now;
    uint32_t model, slot, worker;
    uint64_t request;
    union {
        struct { const struct model_policy *policy; bool restart; } model_set; /* policy borrowed */
        enum command command;
        int error; /* SPAWNED, WORKER_READY */
        struct { uint32_t concurrency; bool stateful; } hello;
        struct { bool found; uint64_t position; int error; } checkpoint; /* _LOADED, _STORED, STATE_TAKEN */
        struct { int code; int signal; bool tree_empty; } exited; /* signal 0: exit code */
        struct { uint64_t size; hasup_ns deadline; uint8_t priority; } submitted; /* deadline 0: none */
        struct { uint64_t digest; } replied;
        struct { uint64_t size; bool same; } chunked; /* same: the run's bytes up to what the client has equal it */
        struct { hasup_ns deadline; } shutdown;
    };
};

#define CORE_ACTIONS(X)                                                                            \
    X(SLOT_ADDED)       /* slot, model, ordinal */                                                 \
    X(SLOT_REMOVED)     /* slot */                                                                 \
    X(MODEL_GONE)       /* model: its index is the shell's again */                                \
    X(SPAWN)            /* slot, worker: answer SPAWNED */                                         \
    X(LOAD_CHECKPOINT)  /* slot, worker: newest good one, after every STORE before it; answer      \
                         * CHECKPOINT_LOADED after their CHECKPOINT_STORED */                      \
    X(WELCOME)          /* slot, worker, restore: send WELCOME, and RESTORE of what was loaded */  \
    X(DISPATCH)         /* slot, worker, request, attempt, replay, position */                     \
    X(CANCEL)           /* slot, worker, request: tell the worker */                               \
    X(PING)             /* slot, worker */                                                         \
    X(TAKE_STATE)       /* slot, worker, position: send CHECKPOINT; answer STATE_TAKEN */          \
    X(STORE_CHECKPOINT) /* slot, position: of the STATE_TAKEN in hand; answer CHECKPOINT_STORED */ \
    X(DRAIN)            /* slot, worker: send DRAIN; it exits by itself */                         \
    X(TERMINATE)        /* slot, worker: SIGTERM */                                                \
    X(KILL)             /* slot, worker: SIGKILL to the whole tree; answers EXITED, TREE_EMPTY */  \
    X(ANSWER)           /* request, attempt: deliver the reply in hand */                          \
    X(CHUNK)            /* request, skip: deliver the chunk in hand from byte `skip` on */         \
    X(REFUSE)           /* request, refusal, retry_after, attempt; ends a begun stream honestly */ \
    X(FORGET)           /* request: nothing refers to it any more */                               \
    X(NOTICE)           /* notice, model, slot, request: for log and events */                     \
    X(EXIT)             /* everything is stopped */

enum action_type {
#define CORE_ACTION_ENUM(name) ACTION_##name,
    CORE_ACTIONS(CORE_ACTION_ENUM)
#undef CORE_ACTION_ENUM
};

enum notice { NOTICE_SLOT_STATE, NOTICE_HUNG, NOTICE_START_TIMEOUT, NOTICE_DIVERGED,
              NOTICE_QUARANTINED, NOTICE_BREAKER_OPEN, NOTICE_CHECKPOINT_FAILED, NOTICE_STATE_LOST };

struct action {
    enum action_type type;
    uint32_t model, slot, worker;
    uint64_t request;
    union {
        uint32_t ordinal;
        bool restore;
        struct { uint32_t attempt; bool replay; uint64_t position; hasup_ns deadline; } dispatch;
        uint64_t position;
        uint32_t attempts; /* ANSWER */
        uint64_t skip;
        struct { enum refusal why; hasup_ns retry_after; uint32_t attempts; } refuse;
        struct { enum notice what; enum slot_state from, to; hasup_ns delay; uint64_t value; } notice;
    };
};

/* What a step decided; room for the most that one step can decide, so adding never fails. */
struct actions {
    struct action *list;
    size_t count, room;
};

struct core;

/* All memory that the core will ever use; NULL when there is none.  `seed` drives every random choice. */
struct core *core_new(const struct core_limits *limits, uint64_t seed);
void core_free(struct core *core);

/* An actions list with the room that any step of this core can need. */
int actions_init(struct actions *actions, const struct core *core) HASUP_NODISCARD;
void actions_fini(struct actions *actions);

/* Performs one event; clears `out` first.  event->now never goes back. */
void core_step(struct core *core, const struct event *event, struct actions *out);

/* When the core wants a TIMEOUT at the latest; HASUP_NEVER when it waits for nothing.  Timers have a
 * resolution of about 1 ms: they are due a little late, never early. */
hasup_ns core_deadline(const struct core *core);

/* Asserts every invariant; for tests and the simulator: O(everything). */
void core_check(const struct core *core);

/* What status shows. */
struct slot_view {
    enum slot_state state;
    uint32_t model, ordinal, worker, inflight, concurrency;
    bool stateful;
    hasup_ns since, next_start; /* next_start: of BACKOFF and BROKEN */
    uint64_t starts, crashes, answered, replayed, diverged, service_ns;
    uint64_t log_head, checkpoint_position;
};

struct model_view {
    bool accepting; /* not draining, not stopped */
    uint32_t ready, slots, queued, inflight;
    uint64_t queued_bytes, answered, refused, attempts, replays;
};

/* false where there is no such slot or model */
bool core_slot_view(const struct core *core, uint32_t slot, struct slot_view *view);
bool core_model_view(const struct core *core, uint32_t model, struct model_view *view);

const char *slot_state_name(enum slot_state state);
const char *event_name(enum event_type type);
const char *action_name(enum action_type type);

#endif
