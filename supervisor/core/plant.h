/*
 * plant.h: bugs on purpose, to prove that the simulator's checks bite.  Compiled in only under
 * HASUP_PLANT, which no program that ships defines; otherwise PLANT(n) is the constant 0.
 */
#ifndef HASUP_CORE_PLANT_H
#define HASUP_CORE_PLANT_H

enum plant {
    PLANT_NONE,
    PLANT_FORGET_REQUEUE,    /* one in-flight request of a dead worker is not queued again */
    PLANT_ANSWER_TWICE,      /* a reply is delivered twice */
    PLANT_NOT_READY,         /* requests go to a worker that still loads */
    PLANT_KEEP_BACKOFF,      /* a healthy run does not reset the backoff */
    PLANT_POSITION_OFF,      /* a checkpoint is taken for one position too many */
    PLANT_STALE_REPLY,       /* a dead worker's late reply is taken for the new one's */
    PLANT_TREE_NOT_EMPTY,    /* a slot starts again while its old tree still lives */
    PLANT_LOSE_REPLAY_ORDER, /* a replay begins one request too late */
    PLANT_ANSWER_EARLY,      /* a durable request is answered before its result is stored */
    PLANT_QUEUE_EARLY,       /* a durable request runs before it is stored */
    PLANT_TRIM_EARLY,        /* the journal is trimmed for a checkpoint that is not durable */
    PLANT_SKIP_LAST_LOGGED,  /* a replay leaves out the last request of the log */
    PLANT_TELL_KEYED,        /* one with a key is answered at once, and its result not stored */
    PLANT_TELL_STATEFUL,     /* so is one that changed a state */
    PLANT_NEVER_SYNC,        /* what is lazy waits for company for ever */
    PLANT_AWAIT_ALL,         /* a state waits for results that it does not contain */
    PLANT_LOAD_ERROR,        /* a disk that does not give a checkpoint is taken for one without */
    PLANT_RESUME_AT_START,   /* a run that goes on in the middle is taken for one from the start */
    PLANT_BLAME_MATES,       /* a request is quarantined that never stood alone */
    PLANT_NO_BREAKER,        /* a bad deployment puts the world into quarantine */
    PLANT_RUN_QUARANTINED,   /* what is quarantined runs again */
    PLANT_BEGIN_IN_THE_MIDDLE, /* a stream that nobody knows goes on behind another one */
    PLANT_JOIN_IN_THE_MIDDLE,  /* who heard a part of another run goes on with this one */
    PLANT_KEEP_STREAMS,      /* what unfinished streams keep is not bounded */
    PLANT_KEEP_RESULTS,        /* what is kept is not bounded by its bytes */
    PLANT_STORE_TOO_LARGE,     /* what the journal will never take is given to it */
    PLANT_RUN_TWICE,           /* what must not run twice does, where its worker died */
    PLANT_ASKING_LENGTHENS,    /* who only asks for a request by its number gives it time */
    PLANT_START_UNPREPARED,    /* a slot starts though its pre_start command failed */
    PLANT_MIX_BATCH,           /* a batch holds requests of several keys */
    PLANT_REPLAY_APART,        /* what ran together runs again one by one */
    PLANT_COUNT
};

#ifdef HASUP_PLANT
extern enum plant core_plant;
#define PLANT(bug) (core_plant == (bug))
#else
#define PLANT(bug) 0
#endif

#endif
