/*
 * flow.h: the decisions about what is printed: when a flood begins and what of it is dropped, when
 * a log file is rotated and which old ones go, when a file that failed is tried again.  Pure, as
 * all of the core: time is an argument.
 */
#ifndef HASUP_SUPERVISOR_CORE_FLOW_H
#define HASUP_SUPERVISOR_CORE_FLOW_H

#include "ipc/base.h"

/* ---- floods ---- */

/* How long a flood is shut out before what comes next is heard again. */
#define FLOW_PAUSE (1 * HASUP_S)

struct flow_policy {
    uint32_t lines; /* a second, in the long run; 0: no limit */
    uint32_t burst; /* lines at once, above it */
    uint64_t bytes; /* a second; 0: no limit; the burst gives as long as it gives lines */
};

struct flow_dropped {
    uint64_t lines, bytes;
};

/* Zeroed: nothing came yet. */
struct flow {
    hasup_ns lines_at, bytes_at; /* when what was taken is paid for */
    hasup_ns open_at;            /* shut until then; 0: it is open */
    struct flow_dropped dropped; /* since it was shut */
};

/* Whether a line is taken.  One that is not shuts the flow for FLOW_PAUSE, so that of a flood whole
 * pieces are seen, and not every hundredth line; it is counted. */
bool flow_takes(struct flow *flow, const struct flow_policy *policy, hasup_ns now, size_t len);
/* Whether it is shut at `now`: what comes need not even be cut into lines. */
bool flow_is_shut(const struct flow *flow, hasup_ns now);
void flow_drop(struct flow *flow, uint64_t lines, uint64_t bytes);
/* When it opens, and what was dropped is to be told; HASUP_NEVER: it is open. */
hasup_ns flow_due(const struct flow *flow);
/* Opens it (at flow_due, or at its end); what was dropped. */
struct flow_dropped flow_open(struct flow *flow);

/* ---- files ---- */

struct rotation_policy {
    uint64_t bytes;
    hasup_ns age;  /* 0: however old */
    uint32_t keep; /* old files */
};

/* Whether a file of `size` bytes, begun at `began`, is put aside before `adding` come to it. */
bool rotation_is_due(const struct rotation_policy *policy, uint64_t size, int64_t began,
                     int64_t now, uint64_t adding);
/* How many of `count` old files, the oldest first, go. */
uint32_t rotation_excess(const struct rotation_policy *policy, uint32_t count);

/* A file that cannot be written: tried again after a while, told of once. */
struct trouble {
    bool failing;
    hasup_ns retry_at;
    uint64_t lost; /* lines, since it fails */
};

bool trouble_may_try(const struct trouble *trouble, hasup_ns now);
/* It failed with `lines`; true: that is news. */
bool trouble_begin(struct trouble *trouble, hasup_ns now, uint64_t lines);
/* It worked; true: it did not before, and `lost` were lost. */
bool trouble_end(struct trouble *trouble, uint64_t *lost);

/* Whether something of `len` bytes still goes into a bounded queue.  What does not is dropped, not
 * what waits already: the order stays, and the reader sees where the gap is. */
static inline bool queue_takes(uint64_t used, uint64_t limit, uint64_t len)
{
    return len <= limit && used <= limit - len;
}

#endif
