/*
 * plant.h: bugs on purpose, to prove that the simulator's checks bite.  Compiled in only under
 * HASUP_PLANT, which no program that ships defines; otherwise PLANT(n) is the constant 0.
 */
#ifndef HASUP_CORE_PLANT_H
#define HASUP_CORE_PLANT_H

#define CORE_PLANTS(X)                                                                             \
    X(DRAIN_BEFORE_READY)      /* a worker is replaced before another one can stand in for it */   \
    X(NO_ROLLBACK)             /* a version that never gets ready stays */                         \
    X(GREEDY_CANARY)           /* a canary takes what it can */                                    \
    X(KEEP_CANARY)             /* a canary stays, however often it fails */                        \
    X(FORGET_REQUEUE)          /* one in-flight request of a dead worker is not queued again */    \
    X(ANSWER_TWICE)            /* a reply is delivered twice */                                    \
    X(NOT_READY)               /* requests go to a worker that still loads */                      \
    X(KEEP_BACKOFF)            /* a healthy run does not reset the backoff */                      \
    X(POSITION_OFF)            /* a checkpoint is taken for one position too many */               \
    X(STALE_REPLY)             /* a dead worker's late reply is taken for the new one's */         \
    X(TREE_NOT_EMPTY)          /* a slot starts again while its old tree still lives */            \
    X(LOSE_REPLAY_ORDER)       /* a replay begins one request too late */                          \
    X(ANSWER_EARLY)            /* a durable request is answered before its result is stored */     \
    X(QUEUE_EARLY)             /* a durable request runs before it is stored */                    \
    X(TRIM_EARLY)              /* the journal is trimmed for a checkpoint that is not durable */   \
    X(SKIP_LAST_LOGGED)        /* a replay leaves out the last request of the log */               \
    X(TELL_KEYED)              /* one with a key is answered at once, and its result not stored */ \
    X(TELL_STATEFUL)           /* so is one that changed a state */                                \
    X(NEVER_SYNC)              /* what is lazy waits for company for ever */                       \
    X(AWAIT_ALL)               /* a state waits for results that it does not contain */            \
    X(LOAD_ERROR)              /* a disk that does not give a checkpoint is taken for one without */\
    X(RESUME_AT_START)         /* a run that goes on in the middle is taken for one from the start */\
    X(BLAME_MATES)             /* a request is quarantined that never stood alone */               \
    X(NO_BREAKER)              /* a bad deployment puts the world into quarantine */               \
    X(RUN_QUARANTINED)         /* what is quarantined runs again */                                \
    X(BEGIN_IN_THE_MIDDLE)     /* a stream that nobody knows goes on behind another one */         \
    X(JOIN_IN_THE_MIDDLE)      /* who heard a part of another run goes on with this one */         \
    X(KEEP_STREAMS)            /* what unfinished streams keep is not bounded */                   \
    X(KEEP_RESULTS)            /* what is kept is not bounded by its bytes */                      \
    X(STORE_TOO_LARGE)         /* what the journal will never take is given to it */               \
    X(RUN_TWICE)               /* what must not run twice does, where its worker died */           \
    X(ASKING_LENGTHENS)        /* who only asks for a request by its number gives it time */       \
    X(START_UNPREPARED)        /* a slot starts though its pre_start command failed */             \
    X(MIX_BATCH)               /* a batch holds requests of several keys */                        \
    X(REPLAY_APART)            /* what ran together runs again one by one */                       \
    X(ABORT_FOREVER)           /* a worker that hangs in its abort is never killed */              \
    X(FORGET_WATCHDOG)         /* nobody looks whether a watchdog was fed */                       \
    X(BITE_SPARE)              /* a spare is to feed a watchdog before it is welcomed */           \
    X(RECYCLE_BUSY)            /* a worker is replaced while it has requests in hand */            \
    X(RECYCLE_BELOW)           /* one is replaced while another is away */                         \
    X(UNBEGUN_STAYS)           /* what did not run once is taken to run never */                   \
    X(LATE_SPARE)              /* a spare that has loaded waits while a worker dies slowly */      \
    X(ESSENTIAL_EARLY)         /* hasupd stops for an essential model that still serves */         \
    X(RECYCLE_UNCOVERED)       /* one is replaced though another could stand in for it */          \
    X(STRAY_SESSION)           /* a request runs where its session is not */                       \
    X(OVERTAKE_SESSION)        /* it runs before one of its session that came before it */         \
    X(SWAP_UNLOADED)           /* a spare takes over that still loads */                           \
    X(TWO_LOADS)               /* one more loads than may at the same time */                      \
    X(FORGET_SERVED)           /* who is let in to load does not count for those that wait */      \
    X(TRUST_ZYGOTE)            /* a zygote that does not fork is waited for */                     \
    X(PATIENT_STOP)            /* who tells it to stop for the third time waits for workers yet */ \
    X(START_UNORDERED)         /* a slot starts before those that it requires are up */            \
    X(STOP_UNORDERED)          /* a model stops before those that start after it */                \
    X(FORGIVE_ABORTED)         /* who hangs, and ends well when it is aborted, has done its task */ \
    X(AFTER_UNPREPARED)        /* who prepares to start is not waited for */                      \
    X(WAIT_IN_VAIN)            /* requests wait whose model waits for what has failed */           \
    X(READY_UNTOLD)            /* a program is called ready that has not said so */                \
    X(REVIVE)                  /* a program runs again that was to run once */                     \
    X(DEAF_PROBE)              /* a program that fails its probes is left alone */                 \
    X(FORGET_FIELD)            /* a field is not handed over to the next hasupd */                 \
    X(FORGET_TIMER)            /* nor is a timer */

enum plant {
    PLANT_NONE,
#define CORE_PLANT_ENUM(name) PLANT_##name,
    CORE_PLANTS(CORE_PLANT_ENUM)
#undef CORE_PLANT_ENUM
};

#ifdef HASUP_PLANT
extern enum plant core_plant;
#define PLANT(bug) (core_plant == (bug))
#else
#define PLANT(bug) 0
#endif

#endif
