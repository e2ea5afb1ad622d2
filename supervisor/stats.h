/*
 * stats.h: what happened to the requests and workers of each model, counted: for /metrics and
 * hasupctl status.  Counters only grow; they begin anew with hasupd, and with a model that was
 * removed and comes again.  Loop thread.
 */
#ifndef HASUP_SUPERVISOR_STATS_H
#define HASUP_SUPERVISOR_STATS_H

#include "supervisor/core/core.h"

struct engine;
struct model;
struct request;
struct worker;

/* Times, in buckets of eight a decade from 10 us to 1000 s: a quantile is known to about 15 %. */
enum { HISTOGRAM_DECADES = 8, HISTOGRAM_STEPS = 8, HISTOGRAM_BUCKETS = 65 };

struct histogram {
    uint64_t count, sum_ns;
    uint64_t buckets[HISTOGRAM_BUCKETS]; /* the last: longer than every bound */
};

void histogram_add(struct histogram *histogram, hasup_ns value);
/* The upper bound of a bucket, which belongs to it; HASUP_NEVER of the last. */
hasup_ns histogram_bound(unsigned bucket);
/* At most this long took so many per mille, interpolated; 0: there is none. */
hasup_ns histogram_quantile(const struct histogram *histogram, unsigned per_mille);

/* How a request ended for its client; with none, for the journal. */
#define STATS_OUTCOMES(X)                                                                          \
    X(ANSWERED, "answered") /* by a worker, with a status below 500 */                             \
    X(FAILED, "failed")     /* by a worker, with 500 or more */                                    \
    X(REFUSED, "refused")   /* by hasupd; with its reason besides */                               \
    X(CANCELLED, "cancelled") /* its client left, and could not come back */

/* Why a worker ended. */
#define STATS_ENDS(X)                                                                              \
    X(EXIT, "exit")               /* by itself, unasked */                                         \
    X(CRASH, "crash")             /* a signal that hasupd did not send */                          \
    X(OOM, "oom")                                                                                  \
    X(HANG, "hang")                                                                                \
    X(START_TIMEOUT, "start_timeout")                                                              \
    X(LOAD_FAILED, "load_failed") /* it said so */                                                 \
    X(PROTOCOL, "protocol")       /* it broke it, or does not read */                              \
    X(START_FAILED, "start_failed") /* there was no process */                                     \
    X(PRE_START, "pre_start")     /* the command before it failed, or took too long */             \
    X(RECYCLE, "recycle")                                                                          \
    X(ROLLOUT, "rollout")         /* replaced by, or rolled back from, another version */          \
    X(ORDERED, "ordered")         /* stop, restart, scale, drain, a reload, the shutdown */

enum stats_outcome {
#define STATS_OUTCOME_ENUM(name, text) STATS_##name,
    STATS_OUTCOMES(STATS_OUTCOME_ENUM)
#undef STATS_OUTCOME_ENUM
    STATS_OUTCOME_COUNT
};

enum stats_end {
#define STATS_END_ENUM(name, text) STATS_END_##name,
    STATS_ENDS(STATS_END_ENUM)
#undef STATS_END_ENUM
    STATS_END_COUNT
};

enum { STATS_REFUSALS = REFUSED_INTERRUPTED + 1, STATS_SIZES = 11 /* 1, 2, 4 … 1024 */ };

/* The last 10 to 20 seconds: two halves, the older of which goes when the newer is full.  Looked at
 * where it is needed, so that nothing wakes up for it. */
enum { RECENT_SECONDS = 10 };

struct recent {
    hasup_ns began; /* of `now`; 0: nothing yet */
    struct histogram now, before;
};

struct recent_view {
    uint64_t per_second_milli; /* so many thousandths a second */
    hasup_ns p50, p99;         /* 0: there was none */
};

void recent_add(struct recent *recent, hasup_ns at, hasup_ns value);
void recent_look(struct recent *recent, hasup_ns at, struct recent_view *view);

struct model_stats {
    uint64_t outcomes[STATS_OUTCOME_COUNT];
    uint64_t refused[STATS_REFUSALS];
    uint64_t full; /* refused: limits.requests or limits.body_bytes */
    uint64_t ends[STATS_END_COUNT];
    uint64_t sessions; /* requests that belong to one */
    uint64_t stored, not_stored; /* checkpoints */
    struct histogram queue; /* from its coming until a worker has it, once a request */
    struct histogram run;   /* an attempt's, from then until its answer is whole */
    struct histogram total; /* from its coming to its end */
    struct recent recent;   /* the same of those that ended lately */
    struct histogram checkpoint; /* from the worker's state in hand until it is stored */
    struct {
        uint64_t count, sum, sizes[STATS_SIZES];
    } batches; /* of models that batch: how many ran together */
};

const char *stats_outcome_name(enum stats_outcome outcome);
const char *stats_end_name(enum stats_end end);
const char *stats_refusal_name(enum refusal why);

/* Of the model; NULL: nothing happened to it yet. */
const struct model_stats *stats_of(const struct model *model);
/* Its last seconds; zeros where nothing happened. */
void stats_recent(const struct engine *engine, const struct model *model, struct recent_view *view);
void stats_free(struct model *model);

/* ---- what the engine's files tell ---- */

/* A worker has it.  `mates`: of the last of a batch, how many it was handed together; else 0. */
void stats_dispatched(struct engine *engine, struct request *request, uint32_t mates);
/* The worker's answer is whole. */
void stats_replied(struct engine *engine, struct request *request);
/* Counted once for each request, whichever end comes first.  `why`: of REFUSED. */
void stats_ended(struct engine *engine, struct request *request, enum stats_outcome outcome,
                 enum refusal why);
void stats_answered(struct engine *engine, struct request *request, uint32_t status);
/* It was not taken: the table is full. */
void stats_full(struct engine *engine, uint32_t model);
void stats_worker_ended(struct model *model, enum stats_end end);
void stats_checkpoint(struct model *model, hasup_ns took, bool stored);

#endif
