/* oom.h: whether a worker that died by SIGKILL was taken by the kernel for lack of memory, where its
 * own cgroup does not tell.  One count for all workers: each such death takes one of it. */
#ifndef HASUP_SUPERVISOR_OOM_H
#define HASUP_SUPERVISOR_OOM_H

#include "ipc/base.h"

enum oom_verdict {
    OOM_NO,
    OOM_COUNTED, /* by its cgroup, or hasupd's */
    OOM_EVIDENT  /* the machine's count of such kills grew, and that of no cgroup can be read */
};

struct oom {
    int counter;        /* -1: none can be read */
    bool machine;       /* it counts for the whole machine */
    uint64_t told;      /* as far as it is told of some worker, or nobody's */
    uint64_t seen;      /* machine: what it was, */
    hasup_ns grown;     /* since when, */
    hasup_ns looked;    /* and when it was read last */
};

void oom_open(struct oom *oom, hasup_ns now);
void oom_close(struct oom *oom);
/* A worker begins.  `only`: no other one is there, and what was counted until now is nobody's. */
void oom_begin(struct oom *oom, bool only, hasup_ns now);
/* One died by SIGKILL. */
enum oom_verdict oom_judge(struct oom *oom, hasup_ns now);
/* Now and then: of the machine's kills those are a worker's that came with its death, so the more
 * often this is called, the less is taken for one. */
void oom_look(struct oom *oom, hasup_ns now);

#endif
