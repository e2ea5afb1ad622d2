/*
 * audit.h: the offline check of a state directory: read-only, safe beside a running hasupd, made
 * for cron.
 *
 * Finding codes are stable (docs/hasupctl.md):
 *   permissions   a file or the directory can be read or written by others
 *   damaged       SQLite's structure, a manifest or a part does not match its hash
 *   incomplete    a checkpoint lacks parts, or parts lack their checkpoint
 *   order         a slot's positions or times do not grow with its checkpoints
 *   stale         a slot's newest checkpoint is older than max_age
 *   missing       checkpoints that were there are gone, or there are none though max_age asks
 *   space         the file system is nearly full, or takes no writes
 */
#ifndef HASUP_CHECKPOINTS_AUDIT_H
#define HASUP_CHECKPOINTS_AUDIT_H

#include "checkpoints/store.h"

struct audit_options {
    const char *state_dir;
    hasup_ns max_age; /* 0: freshness is not looked at */
    bool deep;        /* every checkpoint and SQLite's whole integrity; else each slot's newest */
    int64_t now_wall_ns; /* since 1970 */
};

struct audit_summary {
    uint32_t slots, checkpoints, verified, findings;
    uint64_t bytes;
};

/* `where`: a file, or "model/ordinal"; `advice`: what to do about it. */
typedef void audit_finding(void *context, const char *code, const char *where, const char *text,
                           const char *advice);

enum audit_result { AUDIT_SOUND = 0, AUDIT_FINDINGS = 1, AUDIT_COULD_NOT = 2 };

/* `error` says why it could not check. */
enum audit_result audit_run(const struct audit_options *options, audit_finding *finding,
                            void *context, struct audit_summary *summary, char error[STORE_ERROR]);

#endif
