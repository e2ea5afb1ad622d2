/*
 * flow.c: floods, rotation, files in trouble; decisions only.  Owns nothing; what it decides about
 * is the caller's.
 *
 * A flow is a pair of leaky buckets, for lines and for bytes, kept as the time at which what was
 * taken is paid for.  When one runs over the flow is shut for FLOW_PAUSE, in which both drain.
 */
#include "supervisor/core/flow.h"

static const hasup_ns RETRY = 1 * HASUP_S;

static hasup_ns later(hasup_ns a, hasup_ns b)
{
    return a > b ? a : b;
}

/* How far ahead of what is paid for a flow may be. */
static hasup_ns burst_span(const struct flow_policy *policy)
{
    return policy->lines ? (hasup_ns)policy->burst * HASUP_S / policy->lines : FLOW_PAUSE;
}

bool flow_is_shut(const struct flow *flow, hasup_ns now)
{
    return flow->open_at && now < flow->open_at;
}

bool flow_takes(struct flow *flow, const struct flow_policy *policy, hasup_ns now, size_t len)
{
    const hasup_ns span = burst_span(policy);
    hasup_ns lines = later(flow->lines_at, now), bytes = later(flow->bytes_at, now);
    bool fits = !flow->open_at;
    if (policy->lines) {
        lines += HASUP_S / policy->lines;
        fits = fits && lines - now <= span;
    }
    if (policy->bytes) {
        fits = fits && bytes - now <= span; /* what runs over is still taken: a line is whole */
        bytes += (hasup_ns)(len * (uint64_t)HASUP_S / policy->bytes);
    }
    if (!fits) {
        flow_drop(flow, 1, len);
        if (!flow->open_at)
            flow->open_at = now + FLOW_PAUSE;
        return false;
    }
    flow->lines_at = lines;
    flow->bytes_at = bytes;
    return true;
}

void flow_drop(struct flow *flow, uint64_t lines, uint64_t bytes)
{
    flow->dropped.lines += lines;
    flow->dropped.bytes += bytes;
}

hasup_ns flow_due(const struct flow *flow)
{
    return flow->open_at ? flow->open_at : HASUP_NEVER;
}

struct flow_dropped flow_open(struct flow *flow)
{
    struct flow_dropped dropped = flow->dropped;
    flow->open_at = 0;
    flow->dropped = (struct flow_dropped){0};
    return dropped;
}

bool rotation_is_due(const struct rotation_policy *policy, uint64_t size, int64_t began,
                     int64_t now, uint64_t adding)
{
    if (!size)
        return false;
    return size + adding > policy->bytes || (policy->age && now - began >= policy->age);
}

uint32_t rotation_excess(const struct rotation_policy *policy, uint32_t count)
{
    return count > policy->keep ? count - policy->keep : 0;
}

bool trouble_may_try(const struct trouble *trouble, hasup_ns now)
{
    return !trouble->failing || now >= trouble->retry_at;
}

bool trouble_begin(struct trouble *trouble, hasup_ns now, uint64_t lines)
{
    const bool news = !trouble->failing;
    trouble->failing = true;
    trouble->retry_at = now + RETRY;
    trouble->lost += lines;
    return news;
}

bool trouble_end(struct trouble *trouble, uint64_t *lost)
{
    const bool news = trouble->failing;
    *lost = trouble->lost;
    *trouble = (struct trouble){0};
    return news;
}
