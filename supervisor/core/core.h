/*
 * core.h: the decisions of hasupd.  Events in, actions out; time is in the event.
 *
 * The core owns slots, queues, attempts, timers, backoff and logs of stateful slots, as ids, sizes
 * and states.  It never sees a payload byte, a descriptor or a clock; it calls nothing.  The shell
 * turns the world into events and performs the actions in the order given, before the next event.
 *
 * Names: a model is an index below limits.models, chosen by the shell; a program, which knows nothing
 * of requests, is one of its own kind.  A slot is an index below
 * limits.slots, chosen by the core.  A worker is (slot, worker): `worker` counts the processes of a
 * slot, so that what a dead one said late is recognised and dropped.  A request is a u64 chosen by
 * the shell: low 32 bits an index below limits.requests that is free, high 32 bits a generation
 * that makes it unique.  It is the shell's again after FORGET.
 *
 * A durable request is one whose client can come back for it.  It has a record besides, a number of
 * the journal's that is never used twice, and goes through these steps, each only after the PERSISTED
 * event of the one before it:
 *
 *   SUBMITTED - PERSIST accept - ACCEPTED, queued - DISPATCH - REPLIED - PERSIST result - ANSWER
 *
 * so that nothing runs before it is kept, and nobody hears an answer that a second run could change.
 * Where nobody can come back for the answer and no state depends on it, it is told at once, and that
 * it ended is written later (PERSIST done); a second run after a crash is heard by nobody.
 * An entry of the core's remembers the record and its key, from SUBMITTED until its result expires:
 * who comes with the same key meanwhile joins it, or hears the stored answer.
 */
#ifndef HASUP_CORE_H
#define HASUP_CORE_H

#include "ipc/base.h"

enum policy { POLICY_FASTEST, POLICY_LEAST_LOADED, POLICY_ROUND_ROBIN, POLICY_WEIGHTED_ROUND_ROBIN,
              POLICY_RANDOM };

/* Which of a model's requests are durable: those whose client can come back for them (an idempotency
 * key, respond-async); all; none. */
enum journal_policy { JOURNALS_AUTO, JOURNALS_ALWAYS, JOURNALS_NEVER };

/* What becomes of a session whose slot is down: it waits where the slot has a state, else it moves to
 * another one; or one of the two in any case. */
enum on_lost { ON_LOST_AUTO, ON_LOST_WAIT, ON_LOST_MOVE };

/* What runs in a model's slots: workers; or a program, which knows nothing of requests: one that stays,
 * or one that does its task and ends. */
enum model_kind { KIND_WORKERS, KIND_PROGRAM, KIND_ONESHOT };

/* When a program that ended by itself runs again. */
enum revival { REVIVE_ALWAYS, REVIVE_ON_FAILURE, REVIVE_NEVER };

/* What a program is asked: whether it is ready yet, whether it is well. */
enum question { PROBE_READY, PROBE_LIVE };

enum { CORE_WEIGHTS = 16,
       CORE_MODELS = 1024,  /* limits.models at most */
       CORE_AFTER = 16,     /* models that one waits for, at most */
       CORE_PROBES = 2,
       CORE_BATCH = 1024,   /* requests in one batch, at most */
       CORE_PREFERRED = 8 };

/* What a slot is for.  A spare has a loaded worker that takes over the place of one that died; a
 * zygote's worker has loaded, and forks those of the others. */
enum slot_role { ROLE_WORKER, ROLE_SPARE, ROLE_ZYGOTE };

/* What the configuration says of one model.  Copied by the core.  Durations of 0 mean "never". */
struct model_policy {
    uint32_t workers; /* slots */
    uint32_t spares;  /* slots besides, whose workers are loaded and idle */
    bool preload;     /* one slot more, for the zygote */
    bool essential;   /* without it hasupd is of no use: NOTICE_ESSENTIAL when all of it is broken,
                         or ended, where it was to stay */
    enum model_kind kind;
    enum revival revival;
    bool tells;       /* a program is ready when WORKER_READY says so, not as soon as it runs */
    struct {          /* a question of a program; interval 0: it is not asked */
        hasup_ns interval; /* from an answer to the next question */
        uint32_t failures; /* LIVE: so many in a row, and it hangs */
    } probes[CORE_PROBES];
    struct {          /* its slots start after those of other models, and stop before them */
        uint32_t count;
        struct {
            uint32_t model;
            bool required; /* that one must be up; else it is enough that it tried */
        } list[CORE_AFTER];
    } after;
    enum policy policy;
    uint32_t weights[CORE_WEIGHTS]; /* weighted_round_robin: of the slots by ordinal; 0: 1 */
    uint32_t concurrency_max; /* cap on what a worker's hello offers; 0: no cap */
    uint32_t max_attempts;    /* workers that one body may cost before it is quarantined; see blame.c */
    hasup_ns quarantine_ttl;  /* its body is refused this long; 0: only the request itself is */
    enum on_lost on_lost;
    enum journal_policy journal;
    hasup_ns result_ttl;     /* a stored result is kept this long */
    struct {
        hasup_ns backoff_min, backoff_max; /* doubling, with jitter of +-25 % */
        hasup_ns healthy_after; /* a run this long, or one that answered, resets the backoff */
        uint32_t start_limit;   /* unhealthy runs in a row before the slot's breaker opens */
        hasup_ns breaker;       /* open time before one more start is tried; doubles up to 8x */
    } restart;
    struct {               /* a command that must succeed before each start */
        bool on;
        hasup_ns timeout;  /* of one try */
        uint32_t retries;  /* tries after the first, before the start has failed, */
        hasup_ns interval; /* with so long between two */
    } pre_start;
    struct {
        hasup_ns start;   /* spawned to ready */
        hasup_ns attempt; /* a worker that has work and is silent this long hangs and is killed; so
                             does one that says nothing of a request for `concurrency` times this */
        hasup_ns progress; /* a stream that has begun and says nothing for this long hangs; 0: the
                              limits of `attempt` hold for it, too */
        hasup_ns ping;    /* answer to a ping */
        hasup_ns ping_after; /* a worker idle this long is pinged together with its next request */
        hasup_ns ping_every; /* an idle one is pinged this often */
        hasup_ns watchdog; /* it says so often by itself that it lives; see ALIVE */
        hasup_ns abort;   /* ABORT to KILL, of one that hangs; 0: KILL at once */
        hasup_ns drain;   /* finishing what is in flight, before TERM */
        hasup_ns stop;    /* TERM to KILL */
    } timeouts;
    struct { /* when a worker that serves is replaced by a new one; 0: not for this */
        uint32_t requests; /* answered by it */
        hasup_ns age;      /* since ready, with jitter of +-25 % */
        uint64_t memory;   /* bytes, as MEASURED */
        hasup_ns memory_every; /* measured after an answer, no more often than this */
    } recycle;
    struct {
        uint32_t requests; /* queued at most; above: overloaded */
        uint64_t bytes;
        bool refuse_late;      /* refuse at once what is predicted to miss its deadline */
        hasup_ns priority_age; /* who waited this long counts as one priority higher */
    } queue;
    struct {
        uint32_t per_second, burst; /* of the model; 0: no limit; burst 0: a second's */
        uint32_t client_per_second, client_burst; /* of each client that names itself */
    } rate;
    struct {
        uint32_t most;      /* requests in one batch; 0: as many as the worker offers */
        hasup_ns max_delay; /* a free worker may wait this long for a longer batch, where it pays */
        uint32_t preferred[CORE_PREFERRED]; /* sizes to stop at, where as many wait; 0: none */
    } batch;
    struct {
        hasup_ns interval;
        uint32_t log_requests; /* a checkpoint is taken early at this many, or bytes, since the last */
        uint64_t log_bytes;
    } checkpoint;
    struct {
        uint32_t max_surge;       /* extra slots while workers are replaced */
        uint32_t max_unavailable; /* slots that may be down for it; at least 1 where nobody can
                                     stand in: a stateful slot, max_surge 0, a full table */
        hasup_ns progress_deadline; /* so long without one more that is ready: rolled back */
        uint32_t abort_error_rate;  /* a canary goes that fails in so many percent points more than
                                       the stable version, */
        uint32_t abort_min_requests; /* of so many requests at least */
    } rollout;
};

struct core_limits {
    uint32_t models, slots, requests;
    uint32_t loading;      /* workers that load at the same time; 0: no limit */
    uint32_t entries;      /* durable requests that are remembered, finished ones too; the oldest
                              finished one goes to make room.  0: no request is durable */
    uint64_t result_bytes; /* of the answers that are kept, all together; above it the oldest go, a
                              few at each that comes.  0: no limit */
    uint64_t stream_bytes; /* of durable streams that have no stored end yet, all together: one that
                              would go above it is refused.  0: no limit */
    uint64_t durable_bytes; /* of a durable request's body, of its answer, and of a chunk: the journal
                              takes no more; 0: no limit */
    uint32_t bodies;       /* bodies under suspicion and quarantined that are remembered; the oldest
                              suspect goes to make room, then the oldest quarantined one */
};

#define CORE_SLOT_STATES(X)                                                                        \
    X(STOPPED, "stopped")     /* not wanted, or removed */                                         \
    X(BACKOFF, "backoff")     /* waits before the next start */                                    \
    X(WAITING, "waiting")     /* for its zygote, others that load, or models that come before */   \
    X(BROKEN, "broken")       /* start limit reached: breaker open, one try when it ends */       \
    X(PREPARING, "preparing") /* runs the command that comes before a start */                     \
    X(STARTING, "starting")   /* spawned, no hello yet */                                          \
    X(LOADING, "loading")     /* said hello; loads, restores */                                    \
    X(REPLAYING, "replaying") /* restored; runs again what its log holds */                        \
    X(READY, "ready")                                                                              \
    X(DRAINING, "draining")   /* finishes what it has, gets nothing new */                         \
    X(STOPPING, "stopping")   /* TERM sent */                                                      \
    X(ABORTING, "aborting")   /* it hangs, ABRT sent: may say why.  Its requests are elsewhere */  \
    X(KILLING, "killing")     /* KILL sent, or exited: waits for exit and the empty tree */        \
    X(DONE, "done")           /* a program that ended, and is not to run again */

enum slot_state {
#define CORE_SLOT_ENUM(name, text) SLOT_##name,
    CORE_SLOT_STATES(CORE_SLOT_ENUM)
#undef CORE_SLOT_ENUM
};

/* Why a request is refused. The shell turns it into DESIGN's status and code. */
enum refusal { REFUSED_NOT_FOUND, REFUSED_OVERLOADED, REFUSED_UNAVAILABLE, REFUSED_DEADLINE,
               REFUSED_QUARANTINED, REFUSED_DIVERGED,
               REFUSED_NOT_DURABLE, /* the journal cannot be written */
               REFUSED_KEY_REUSED,  /* the key's request had another body */
               REFUSED_IN_PROGRESS, /* the key's request still runs, and its client will not wait */
               REFUSED_DROPPED,     /* somebody dropped it */
               REFUSED_GONE,        /* a part of its stream was heard, and nobody knows it now */
               REFUSED_TOO_LARGE,   /* its body is larger than a durable one's may be, */
               REFUSED_ANSWER_TOO_LARGE, /* or its answer */
               REFUSED_LATE, /* overloaded: it would miss its deadline */
               REFUSED_RATE, /* above the model's limit of rate, or the client's */
               REFUSED_INTERRUPTED }; /* it may not run twice, and may have run: its worker died */

/* What is written to the journal. */
enum persist {
    PERSIST_ACCEPT,  /* the request; answered by PERSISTED */
    PERSIST_CHUNK,   /* the chunk in hand from byte `skip` on, as number `number`; by PERSISTED */
    PERSIST_RESULT,  /* the reply that HOLD kept; by PERSISTED */
    PERSIST_DONE,    /* it was answered, and nothing of the record is needed any more; by PERSISTED */
    PERSIST_REFUSAL, /* it ended by `why`; nobody waits for the write */
    PERSIST_FORGET,  /* nothing of the record is needed any more, except by a slot's log */
    PERSIST_TRIM,    /* a durable checkpoint of the slot covers its log up to `position` */
};

/* PROMOTE, ABORT: of a model.  The canary's version becomes the model's; what is under way ends, a
 * canary goes, a rollout is rolled back. */
enum command { COMMAND_START, COMMAND_STOP, COMMAND_RESTART, COMMAND_DRAIN, COMMAND_CHECKPOINT,
               COMMAND_PROMOTE, COMMAND_ABORT };

#define CORE_ALL_SLOTS UINT32_MAX

#define CORE_EVENTS(X)                                                                             \
    X(TIMEOUT)           /* nothing but time passed */                                             \
    X(MODEL_SET)         /* model, policy, restart, version, canary: add or change a model */      \
    X(MODEL_REMOVED)     /* model: drain, then MODEL_GONE */                                       \
    X(COMMAND)           /* model, slot (or CORE_ALL_SLOTS), command */                            \
    X(SPAWNED)           /* slot, worker, error: 0, or errno of the failed spawn.  Of a zygote:    \
                          * HASUP_ECLOSED: it died, HASUP_EWORKER: it can never fork */            \
    X(HELLO)             /* slot, worker, concurrency, max_batch, stateful, resumable, zygote */   \
    X(CHECKPOINT_LOADED) /* slot, worker, found, position, error; answer to LOAD_CHECKPOINT.       \
                          * Found and an error: in memory only.  Not found: HASUP_ENOTFOUND or 0   \
                          * where there is none, HASUP_ECORRUPT where all are damaged; another     \
                          * error where the disk does not say */                                   \
    X(WORKER_READY)      /* slot, worker, error: 0 or HASUP_EWORKER */                             \
    X(PONG)              /* slot, worker */                                                        \
    X(ALIVE)             /* slot, worker, hangs: its watchdog says that it lives, or that it hangs \
                          * */                                                                     \
    X(MEASURED)          /* slot, worker, bytes: answer to MEASURE, where its memory can be read */ \
    X(PROBED)            /* slot, worker, probed: answer to PROBE */                               \
    X(BROKE)             /* slot, worker: malformed frame or closed socket; it must die */         \
    X(EXITED)            /* slot, worker, exit: reaped; tree_empty where already proven */         \
    X(TREE_EMPTY)        /* slot, worker */                                                        \
    X(SUBMITTED)         /* request, model, size, deadline, priority, durability: see there */     \
    X(PERSISTED)         /* request, what: ACCEPT, CHUNK, RESULT or DONE, error */                 \
    X(CANCELLED)         /* request: its client is gone */                                         \
    X(DROPPED)           /* record: nobody wants it any more, finished or not */                   \
    X(IDENTIFIED)        /* request, model, identified: answer to IDENTIFY, before anything else */\
    X(LIFTED)            /* lifted: a body is quarantined no more, because somebody says so */     \
    X(REPLIED)           /* slot, worker, request, digest (stateful slots), size */                \
    X(CHUNKED)           /* slot, worker, request, size, same */                                   \
    X(PROGRESSED)        /* slot, worker, request: another could go on from here */                \
    X(UNBEGUN)           /* slot, worker, request: it did not run, and may elsewhere though it must  \
                          * not run twice */                                                       \
    X(RESUMED)           /* slot, worker, request, from: this run's bytes begin there; before      \
                          * its first CHUNKED or REPLIED */                                        \
    X(STATE_TAKEN)       /* slot, worker, position, error */                                       \
    X(CHECKPOINT_STORED) /* slot, position, error: negative where it is kept in memory only */     \
    X(RECOVERED)         /* from the journal: see below */                                         \
    X(SHUTDOWN)          /* deadline (grace ends); a second one hastens, a third kills */

enum event_type {
#define CORE_EVENT_ENUM(name) EVENT_##name,
    CORE_EVENTS(CORE_EVENT_ENUM)
#undef CORE_EVENT_ENUM
};

/* What the journal holds of an earlier run, or of a slot that was removed. */
enum recovery {
    RECOVERY_WAITING,  /* record, key: accepted, and will come by RECOVERY_REQUEST when there is room */
    RECOVERY_REQUEST,  /* request, record, …: accepted and not finished: is queued */
    RECOVERY_FINISHED, /* record, key, expires: its result is stored */
    RECOVERY_TRIMMED,  /* slot, position: up to where the journal has let go of a slot's log */
    RECOVERY_LOGGED,   /* request, record, slot, position, digest: finished, and in the log of a slot
                          whose checkpoint does not cover it; in the order of positions, right after
                          the slot's SLOT_ADDED */
    RECOVERY_QUARANTINED, /* model, hash, attempts, expires: a body that is quarantined */
    RECOVERY_CUT,     /* slot, position: its log up to there could not be given back whole; the slot
                         starts from its checkpoint, and that its state is lost is said */
};

/* How a request came to be identified. */
struct identity {
    bool died;      /* a worker died with it in hand, */
    bool alone;     /* and it was all that the worker had in hand */
    bool first;     /* the core's own words about that crash, given back as they are */
    uint64_t mark;
};

struct event {
    enum event_type type;
    hasup_ns now;
    uint32_t model, slot, worker;
    uint64_t request;
    union {
        struct {
            const struct model_policy *policy; /* borrowed */
            bool restart;     /* every worker is replaced, rolling */
            uint32_t version; /* the shell's number of what the workers run; greater than any before */
            uint32_t canary;  /* 1 … 100: nothing changes, but this version is tried beside with so
                                 many percent of the requests, or goes on with so many */
        } model_set;
        enum command command;
        int error; /* SPAWNED, WORKER_READY */
        bool hangs; /* ALIVE */
        uint64_t bytes; /* MEASURED */
        struct { enum question probe; bool well; } probed;
        struct {
            uint32_t concurrency, max_batch; /* max_batch: 0 or 1: it takes one at a time */
            bool stateful, resumable, zygote; /* zygote: it can fork workers */
        } hello;
        struct { bool found; uint64_t position; int error; } checkpoint; /* _LOADED, _STORED, STATE_TAKEN */
        struct { int code; int signal; bool tree_empty; } exited; /* signal 0: exit code */
        struct {
            uint64_t size;
            hasup_ns deadline; /* 0: none */
            uint8_t priority;
            bool async;        /* its client waits for ACCEPTED only */
            bool no_wait;      /* refused where its key's request still runs */
            bool once;         /* must not run twice: refused where its worker dies with it.  Means
                                  nothing to a stateful slot, which runs its log again */
            uint64_t key[2];   /* a hash of model and idempotency key; both 0: none */
            uint64_t body;     /* a hash of the body, where there is a key */
            uint64_t hash[2];  /* of model and body; needed where core_wants_hash, else 0, 0 will do */
            uint64_t heard;    /* chunks of the stream that its client has already, */
            uint64_t heard_of; /* of this record */
            uint64_t client;   /* a hash of who asks; 0: nobody in particular */
            uint64_t session;  /* a hash: those with the same one run in one slot; 0: in any */
            uint64_t batch_key; /* only requests with the same one share a batch */
            uint64_t token;    /* the shell's own word about a durable one; see core_record_view */
            uint64_t record;   /* 0; or no new request: it joins this one, or hears its answer */
        } submitted;
        struct { enum persist what; int error; uint64_t size; } persisted; /* size: of a RESULT */
        uint64_t record; /* DROPPED */
        struct { uint64_t hash[2]; struct identity how; } identified; /* hash never 0, 0 */
        struct { uint64_t hash[2]; } lifted;
        struct {
            enum recovery what;
            uint64_t record, token, key[2], body, hash[2];
            uint64_t size; /* of its body; FINISHED: of its result */
            hasup_ns deadline, expires;
            uint8_t priority;
            bool async, refused;
            bool once; /* REQUEST: it may have run, so it is refused */
            enum refusal why; /* FINISHED and refused, after so many attempts */
            uint32_t attempts;
            uint64_t sent;   /* REQUEST: bytes of its stream that are stored, */
            uint64_t chunks; /* in so many chunks */
            uint64_t position, digest;
            uint64_t session;
            uint64_t batch, batch_key; /* batch: LOGGED, see persist */
        } recovered;
        struct { uint64_t digest, size; bool failed; } replied; /* failed: it is the worker's fault */
        struct { uint64_t size; bool same; } chunked; /* same: the run's bytes up to what the client has equal it */
        struct { uint64_t from; } resumed; /* at most what DISPATCH said was sent */
        struct { hasup_ns deadline; } shutdown;
    };
};

#define CORE_ACTIONS(X)                                                                            \
    X(SLOT_ADDED)       /* slot, model, role, ordinal among those of its role */                   \
    X(SLOT_REMOVED)     /* slot */                                                                 \
    X(MODEL_GONE)       /* model: its index is the shell's again */                                \
    X(ROLLOUT)          /* model, rollout; slot: who is to blame.  The model's configuration is    \
                         * that of `version`; of others only `other` is needed */                  \
    X(PREPARE)          /* slot, worker, version: run the pre_start command, which has the number  \
                         * of a worker; answer SPAWNED, EXITED (code 0: the slot may start) … */   \
    X(SPAWN)            /* slot, worker, version, other: answer SPAWNED.  Other: the zygote's slot \
                         * that forks it, of the same version, or CORE_ALL_SLOTS */                \
    X(SWAP)             /* slot, worker, other: the two slots change their processes, which are    \
                         * number `worker` of both now.  What is told of the slot stays its own */ \
    X(LOAD_CHECKPOINT)  /* slot, worker: newest good one, after every STORE before it; answer      \
                         * CHECKPOINT_LOADED after their CHECKPOINT_STORED */                      \
    X(WELCOME)          /* slot, worker, restore: send WELCOME, and RESTORE of what was loaded */  \
    X(DISPATCH)         /* slot, worker, request, attempt, replay, resume, position */             \
    X(CANCEL)           /* slot, worker, request: tell the worker */                               \
    X(PING)             /* slot, worker */                                                         \
    X(MEASURE)          /* slot, worker: how much memory it has; answer MEASURED */                \
    X(PROBE)            /* slot, worker, probe; answer PROBED, unless the worker dies first */     \
    X(TAKE_STATE)       /* slot, worker, position: send CHECKPOINT; answer STATE_TAKEN */          \
    X(STORE_CHECKPOINT) /* slot, position: of the STATE_TAKEN in hand; answer CHECKPOINT_STORED */ \
    X(DRAIN)            /* slot, worker: send DRAIN; it exits by itself */                         \
    X(TERMINATE)        /* slot, worker: SIGTERM */                                                \
    X(ABORT)            /* slot, worker: SIGABRT; nothing that it says counts any more.  KILL      \
                         * follows unless it EXITED */                                             \
    X(KILL)             /* slot, worker: SIGKILL to the whole tree; answers EXITED, TREE_EMPTY */  \
    X(PERSIST)          /* request, record, persist: see enum persist */                           \
    X(SYNC)             /* what waits in the journal's queue for company is written now */         \
    X(HOLD)             /* request: keep the reply in hand, it is stored and delivered later */    \
    X(ACCEPTED)         /* request, record: it is durable; the end of one that is async */         \
    X(ANSWER)           /* request, attempt: deliver the reply in hand, or that of `of` */         \
    X(CHUNK)            /* request, skip: deliver the chunk in hand from byte `skip` on, or chunk  \
                         * `number` of `of` */                                                     \
    X(RETELL)           /* request, record, number: deliver the stored answer, of a stream what    \
                         * comes after chunk `number` */                                           \
    X(REFUSE)           /* request, refusal, retry_after, attempt; ends a begun stream honestly */ \
    X(RELEASE)          /* request: what HOLD and its chunks kept is stored and delivered; it may be   \
                         * run again yet, and nobody will hear of that */                          \
    X(FORGET)           /* request: nothing refers to it any more */                               \
    X(IDENTIFY)         /* request, model, identify; slot, worker that died: hash the body, keep what\
                         * is known of the death, answer IDENTIFIED right after this step */      \
    X(QUARANTINE)       /* request or 0, model, quarantine: write the dead letter */              \
    X(PARDON)           /* pardon: the body is quarantined no more; its dead letter goes */        \
    X(NOTICE)           /* notice, model, slot, request: for log and events */                     \
    X(EXIT)             /* everything is stopped */

enum action_type {
#define CORE_ACTION_ENUM(name) ACTION_##name,
    CORE_ACTIONS(CORE_ACTION_ENUM)
#undef CORE_ACTION_ENUM
};

/* What a worker that hangs did not do in time. */
enum hang { HANG_ATTEMPT, HANG_PROGRESS, HANG_PING, HANG_STATE, HANG_WATCHDOG, HANG_TOLD,
            HANG_FORK, HANG_PROBE };

/* Why a worker is replaced. */
enum recycle { RECYCLE_NO, RECYCLE_REQUESTS, RECYCLE_AGE, RECYCLE_MEMORY };

enum notice { NOTICE_SLOT_STATE, NOTICE_HUNG /* value: enum hang */, NOTICE_START_TIMEOUT, NOTICE_DIVERGED,
              NOTICE_QUARANTINED, NOTICE_BREAKER_OPEN, NOTICE_CHECKPOINT_FAILED, NOTICE_STATE_LOST,
              NOTICE_NOT_STORED, NOTICE_LOAD_FAILED, NOTICE_MODEL_BROKEN, NOTICE_MODEL_MENDED,
              NOTICE_RECYCLED, /* value: enum recycle; it drains, and a new worker comes */
              NOTICE_STATE_LEFT, /* fewer workers are wanted; value: the position of its state */
              NOTICE_PRE_START_TIMEOUT,
              NOTICE_UNFORKABLE, /* slot: the zygote; its model goes on without */
              NOTICE_ESSENTIAL, /* slot: the last one of an essential model that broke or ended;
                                   hasupd is to stop, with its code */
              NOTICE_PRE_START_FAILED }; /* value: tries so far; delay: to the next; 0: no more */

enum rollout_state { ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_CANARY, ROLLOUT_REVERTING };

/* Why a rollout did not go on. */
enum rollout_why {
    ROLLOUT_FINE,
    ROLLOUT_LATE,     /* progress_deadline */
    ROLLOUT_BROKEN,   /* a slot's breaker opened on the new version */
    ROLLOUT_CRASHES,  /* the model's breaker opened */
    ROLLOUT_ERRORS,   /* abort_error_rate */
    ROLLOUT_STATEFUL, /* a canary whose slots own their state */
    ROLLOUT_NO_ROOM,  /* a canary for which there is no slot */
    ROLLOUT_ORDERED,  /* COMMAND_ABORT */
    ROLLOUT_STOPPED,  /* the model was stopped */
    ROLLOUT_REPLACED, /* a canary: something newer is rolled out */
    ROLLOUT_RECYCLES, /* no fault, but a beginning and its end: a worker is recycled behind another one */
};

struct action {
    enum action_type type;
    uint32_t model, slot, worker;
    enum slot_role role; /* SLOT_ADDED */
    uint32_t other;      /* SPAWN, SWAP */
    uint64_t request;
    uint64_t record; /* of what is durable */
    union {
        uint32_t ordinal;
        uint32_t version; /* SPAWN, PREPARE */
        enum question probe;
        struct {
            enum rollout_state from, to;
            enum rollout_why why; /* REVERTING, and NONE after it: why it was rolled back */
            uint32_t version, other;
        } rollout;
        bool restore;
        struct {
            uint32_t attempt;
            bool more;     /* the next action hands the same worker another one of this batch */
            bool replay;
            bool resume;   /* it may go on where an earlier attempt stopped: at byte `sent`, */
            uint64_t sent; /* or where that one PROGRESSED, or from the start */
            uint64_t position;
            hasup_ns deadline;
        } dispatch;
        uint64_t position;
        struct { uint32_t attempts; uint64_t of; } answer; /* of 0: the reply in hand */
        struct { uint64_t skip, of, number; } chunk;       /* of 0: the chunk in hand */
        struct {
            enum persist what;
            bool lazy;    /* nobody waits: written together with what comes after it, or at SYNC */
            bool refused; /* RESULT: its client was told `why`; only its place in the slot's log
                           * and the digest are needed */
            enum refusal why;
            uint32_t attempts;
            uint64_t skip, number, position, digest;
            uint64_t batch; /* RESULT with a position: that of the first of its batch */
            hasup_ns expires; /* of a RESULT or REFUSAL */
        } persist;
        struct { enum refusal why; hasup_ns retry_after; uint32_t attempts; } refuse;
        struct identity identify;
        struct { uint64_t hash[2]; uint32_t attempts; hasup_ns expires; } quarantine;
        struct { uint64_t hash[2]; } pardon;
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
/* The next durable request's record is this one, or greater; before the first is submitted. */
void core_first_record(struct core *core, uint64_t record);

/* An actions list with the room that any step of this core can need. */
int actions_init(struct actions *actions, const struct core *core) HASUP_NODISCARD;
void actions_fini(struct actions *actions);

/* Performs one event; clears `out` first.  event->now never goes back. */
void core_step(struct core *core, const struct event *event, struct actions *out);

/* When the core wants a TIMEOUT at the latest; HASUP_NEVER when it waits for nothing.  Timers have a
 * resolution of about 1 ms: they are due a little late, never early. */
hasup_ns core_deadline(const struct core *core);

/* The whole core as bytes, for a hasupd that takes over: between two steps, with all
 * actions performed.  Writes at most `room` bytes; how many there are.  The same core gives the same
 * bytes. */
size_t core_save(const struct core *core, uint8_t *bytes, size_t room);
/* One that goes on exactly where the saved one stood.  NULL: `why` names what of the bytes is damaged,
 * or not known to this version; nothing of them is believed that could harm.  `limits` must be the
 * saved ones.  Whether it makes sense as a whole is for core_check() to say. */
struct core *core_load(const struct core_limits *limits, const uint8_t *bytes, size_t len,
                       const char **why);
/* Asserts that a core was loaded whole: word by word the memory of both is the same, but for where it
 * stands; for tests and the simulator. */
void core_check_loaded(const struct core *saved, const struct core *loaded);

/* Asserts every invariant; for tests and the simulator: O(everything). */
void core_check(const struct core *core);

/* What status shows. */
struct slot_view {
    enum slot_state state;
    enum slot_role role;
    uint32_t model, ordinal, worker, inflight, concurrency;
    uint32_t queued; /* for this slot alone */
    bool stateful, wanted; /* wanted: should run */
    uint32_t version;
    bool extra, waits; /* beyond the model's workers; waits for its turn to be replaced */
    uint32_t waits_for; /* WAITING: the model that comes before; UINT32_MAX: something else */
    hasup_ns since, next_start; /* next_start: of BACKOFF and BROKEN */
    uint64_t starts, crashes, recycled, answered, replayed, diverged, service_ns;
    uint64_t log_head, checkpoint_position;
};

struct model_view {
    enum model_kind kind;
    bool accepting; /* not draining, not stopped */
    uint32_t ready, slots, queued, inflight; /* ready, slots: those that serve */
    bool up;         /* who comes after it may start: a worker serves, or all of a program is ready
                        or done */
    uint32_t done;   /* of a program: slots that ended, and are not to run again */
    uint32_t spares; /* loaded */
    uint64_t queued_bytes, answered, refused, attempts, replays;
    uint32_t unstored; /* replied, and not durable yet */
    bool broken;    /* its breaker is open: too many died in a row, nothing is dispatched */
    hasup_ns mends; /* where it is: when one request is tried */
    uint32_t suspects, bodies; /* waiting to run alone; remembered */
    struct {
        enum rollout_state state;
        uint32_t version, other; /* other: what comes back, or the canary's; 0: none */
        uint32_t weight;         /* of a canary, in percent */
        uint32_t waiting;        /* slots that wait for their turn */
        struct {
            uint64_t ended, failed; /* what is judged: of the stable version, of the canary */
        } side[2];
    } rollout;
};

enum record_state { RECORD_UNKNOWN, RECORD_WAITING, RECORD_QUEUED, RECORD_RUNNING, RECORD_DONE,
                    RECORD_REFUSED };

struct record_view {
    enum record_state state;
    uint64_t request; /* of QUEUED and RUNNING */
    uint64_t token;
    uint32_t model, attempts; /* model: of QUEUED and RUNNING */
    enum refusal why;         /* of REFUSED */
};

/* Whether SUBMITTED needs the hash of model and body: something of the model is under suspicion or
 * quarantined. */
bool core_wants_hash(const struct core *core, uint32_t model);

struct durable_view { /* durable requests */
    uint32_t unfinished; /* accepted, or about to be, without an end */
    uint32_t finished;   /* whose end is kept for who comes back */
    uint64_t bytes;      /* of the answers of those */
};

/* Whether a stop was hastened, by a second SHUTDOWN or the end of the grace; the next one kills. */
bool core_hastened(const struct core *core);
/* false where there is no such slot or model */
bool core_slot_view(const struct core *core, uint32_t slot, struct slot_view *view);
bool core_model_view(const struct core *core, uint32_t model, struct model_view *view);
/* What it was told of its model's version; NULL: there is no such model. */
const struct model_policy *core_model_policy(const struct core *core, uint32_t model);
void core_record_view(const struct core *core, uint64_t record, struct record_view *view);
void core_durable_view(const struct core *core, struct durable_view *view);

const char *slot_state_name(enum slot_state state);
const char *event_name(enum event_type type);
const char *action_name(enum action_type type);

#endif
