/*
 * stats.c: counters and histograms of each model.  Their memory is taken when something happens
 * first, so that an idle hasupd does not pay for it; where there is none, nothing is counted and
 * serving goes on.  It decides nothing and is read by status.c and metrics.c.
 */
#include "supervisor/stats.h"
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <stdlib.h>

/* ---- times ---- */

/* Of one decade, in units of its start. */
static const hasup_ns STEPS_10[HISTOGRAM_STEPS] = {10, 15, 20, 30, 40, 50, 60, 80};
static const hasup_ns SHORTEST = 10 * HASUP_US;

hasup_ns histogram_bound(unsigned bucket)
{
    hasup_ns decade = SHORTEST / 10;
    if (bucket >= HISTOGRAM_BUCKETS - 1)
        return HASUP_NEVER;
    for (unsigned i = 0; i < bucket / HISTOGRAM_STEPS; i++)
        decade *= 10;
    return STEPS_10[bucket % HISTOGRAM_STEPS] * decade;
}

static unsigned bucket_of(hasup_ns value)
{
    unsigned at = 0;
    hasup_ns decade = SHORTEST / 10;
    while (at < HISTOGRAM_BUCKETS - 1 && value > STEPS_10[HISTOGRAM_STEPS - 1] * decade) {
        at += HISTOGRAM_STEPS;
        decade *= 10;
    }
    for (unsigned i = 0; at < HISTOGRAM_BUCKETS - 1 && value > STEPS_10[i] * decade; i++)
        at++;
    return at;
}

void histogram_add(struct histogram *histogram, hasup_ns value)
{
    if (value < 0)
        value = 0;
    histogram->count++;
    histogram->sum_ns += (uint64_t)value;
    histogram->buckets[bucket_of(value)]++;
}

hasup_ns histogram_quantile(const struct histogram *histogram, unsigned per_mille)
{
    uint64_t before = 0, wanted = (histogram->count * per_mille + 999) / 1000;
    if (!histogram->count)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t here = histogram->buckets[i];
        if (!here || before + here < wanted) {
            before += here;
            continue;
        }
        hasup_ns low = i ? histogram_bound(i - 1) : 0;
        if (i == HISTOGRAM_BUCKETS - 1)
            return low;
        hasup_ns width = histogram_bound(i) - low;
        return low + (hasup_ns)((double)width * (double)(wanted - before) / (double)here);
    }
    return 0;
}

/* ---- names ---- */

const char *stats_outcome_name(enum stats_outcome outcome)
{
    static const char *const names[] = {
#define STATS_OUTCOME_TEXT(name, text) [STATS_##name] = text,
        STATS_OUTCOMES(STATS_OUTCOME_TEXT)
#undef STATS_OUTCOME_TEXT
    };
    return names[outcome];
}

const char *stats_end_name(enum stats_end end)
{
    static const char *const names[] = {
#define STATS_END_TEXT(name, text) [STATS_END_##name] = text,
        STATS_ENDS(STATS_END_TEXT)
#undef STATS_END_TEXT
    };
    return names[end];
}

/* Finer than the code that a client is told: these have different remedies. */
const char *stats_refusal_name(enum refusal why)
{
    switch (why) {
    case REFUSED_NOT_FOUND: return "not_found";
    case REFUSED_OVERLOADED: return "queue_full";
    case REFUSED_UNAVAILABLE: return "unavailable";
    case REFUSED_DEADLINE: return "deadline";
    case REFUSED_QUARANTINED: return "quarantined";
    case REFUSED_DIVERGED: return "diverged";
    case REFUSED_NOT_DURABLE: return "not_durable";
    case REFUSED_KEY_REUSED: return "key_reused";
    case REFUSED_IN_PROGRESS: return "in_progress";
    case REFUSED_DROPPED: return "dropped";
    case REFUSED_GONE: return "gone";
    case REFUSED_TOO_LARGE: return "too_large";
    case REFUSED_ANSWER_TOO_LARGE: return "answer_too_large";
    case REFUSED_LATE: return "late";
    case REFUSED_RATE: return "rate";
    case REFUSED_INTERRUPTED: return "interrupted";
    }
    return "refused";
}

/* ---- counting ---- */

const struct model_stats *stats_of(const struct model *model)
{
    return model->stats;
}

/* ---- the last seconds ---- */

static void recent_turn(struct recent *recent, hasup_ns at)
{
    const hasup_ns half = RECENT_SECONDS * HASUP_S;
    if (recent->began && at - recent->began < half)
        return;
    bool follows = recent->began && at - recent->began < 2 * half;
    if (follows)
        recent->before = recent->now;
    else
        memset(&recent->before, 0, sizeof recent->before);
    memset(&recent->now, 0, sizeof recent->now);
    recent->began = follows ? recent->began + half : at;
}

void recent_add(struct recent *recent, hasup_ns at, hasup_ns value)
{
    recent_turn(recent, at);
    histogram_add(&recent->now, value);
}

void recent_look(struct recent *recent, hasup_ns at, struct recent_view *view)
{
    *view = (struct recent_view){0};
    if (!recent->began)
        return;
    recent_turn(recent, at);
    struct histogram both = recent->now;
    both.count += recent->before.count;
    both.sum_ns += recent->before.sum_ns;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        both.buckets[i] += recent->before.buckets[i];
    hasup_ns length = at - recent->began;
    if (recent->before.count)
        length += RECENT_SECONDS * HASUP_S;
    if (length < HASUP_S) /* a first request is no rate of thousands */
        length = HASUP_S;
    view->per_second_milli = both.count * 1000 * 1000 / (uint64_t)(length / HASUP_MS);
    view->p50 = histogram_quantile(&both, 500);
    view->p99 = histogram_quantile(&both, 990);
}

void stats_recent(const struct engine *engine, const struct model *model, struct recent_view *view)
{
    *view = (struct recent_view){0};
    if (model->stats)
        recent_look(&model->stats->recent, loop_now(engine->loop), view);
}

void stats_free(struct model *model)
{
    free(model->stats);
    model->stats = NULL;
}

/* NULL: no such model, or no memory. */
static struct model_stats *stats_take(struct model *model)
{
    if (!model->used)
        return NULL;
    if (!model->stats)
        model->stats = calloc(1, sizeof *model->stats);
    return model->stats;
}

static struct model_stats *stats_at(const struct engine *engine, uint32_t model)
{
    return model < engine->config->limits.models ? stats_take(&engine->models[model]) : NULL;
}

void stats_dispatched(struct engine *engine, struct request *request, uint32_t mates)
{
    struct model_stats *stats = request->counted ? NULL : stats_at(engine, request->model);
    hasup_ns now = loop_now(engine->loop);
    bool again = request->dispatched;
    request->dispatched = now;
    if (!stats)
        return;
    if (!again)
        histogram_add(&stats->queue, now - request->came);
    if (!mates)
        return;
    stats->batches.count++;
    stats->batches.sum += mates;
    unsigned size = 0;
    while (size < STATS_SIZES - 1 && mates > 1U << size)
        size++;
    stats->batches.sizes[size]++;
}

void stats_replied(struct engine *engine, struct request *request)
{
    struct model_stats *stats = request->counted ? NULL : stats_at(engine, request->model);
    if (stats)
        histogram_add(&stats->run, loop_now(engine->loop) - request->dispatched);
}

void stats_ended(struct engine *engine, struct request *request, enum stats_outcome outcome,
                 enum refusal why)
{
    struct model_stats *stats = request->counted ? NULL : stats_at(engine, request->model);
    request->counted = true;
    if (!stats)
        return;
    stats->outcomes[outcome]++;
    stats->sessions += request->session;
    if (outcome == STATS_REFUSED)
        stats->refused[why]++;
    hasup_ns now = loop_now(engine->loop);
    histogram_add(&stats->total, now - request->came);
    recent_add(&stats->recent, now, now - request->came);
}

void stats_answered(struct engine *engine, struct request *request, uint32_t status)
{
    stats_ended(engine, request, status < 500 ? STATS_ANSWERED : STATS_FAILED, REFUSED_NOT_FOUND);
}

void stats_full(struct engine *engine, uint32_t model)
{
    struct model_stats *stats = stats_at(engine, model);
    if (!stats)
        return;
    stats->outcomes[STATS_REFUSED]++;
    stats->full++;
}

void stats_worker_ended(struct model *model, enum stats_end end)
{
    struct model_stats *stats = stats_take(model);
    if (stats)
        stats->ends[end]++;
}

void stats_checkpoint(struct model *model, hasup_ns took, bool stored)
{
    struct model_stats *stats = stats_take(model);
    if (!stats)
        return;
    stats->stored += stored;
    stats->not_stored += !stored;
    if (stored)
        histogram_add(&stats->checkpoint, took);
}

/* ---- to another hasupd ---- */

/* Counters only.  Of a version that counts something else they begin anew, as counters may. */
void counts_carry(struct carry *carry, void *counts, size_t bytes)
{
    CARRY(carry);
    uint64_t *words = counts, count = bytes / sizeof *words;
    const uint64_t mine = count;
    V(count);
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        uint64_t other = 0;
        uint64_t *word = i < mine ? &words[i] : &other;
        V(*word);
        if (count != mine)
            *word = 0;
    }
}

void stats_carry(struct carry *carry, struct model *model)
{
    CARRY(carry);
    bool there = model->stats;
    V(there);
    if (!there)
        return;
    if (codec->loading && !(model->stats = calloc(1, sizeof *model->stats))) {
        codec_fail(codec);
        return;
    }
    counts_carry(carry, model->stats, sizeof *model->stats);
}
