/*
 * audit.h: the offline check of a state directory: read-only, safe beside a running hasupd, made
 * for cron.  docs/audit.md says of each finding what it means and what to do.
 */
#ifndef HASUP_CHECKPOINTS_AUDIT_H
#define HASUP_CHECKPOINTS_AUDIT_H

#include "checkpoints/store.h"

/* An error: something is lost, or would be.  A warning: somebody should look.  A note changes no
 * verdict. */
enum audit_severity { AUDIT_ERROR, AUDIT_WARNING, AUDIT_NOTE };

/* Stable. */
#define AUDIT_CODES(X)                                                                             \
    X(DAMAGED, "damaged", AUDIT_ERROR)         /* SQLite or a row does not match its hash */       \
    X(INCOMPLETE, "incomplete", AUDIT_ERROR)   /* a part of something is not there */              \
    X(MISSING, "missing", AUDIT_ERROR)         /* what was there is gone */                        \
    X(GAP, "gap", AUDIT_ERROR)                 /* checkpoint and log of a slot do not meet */      \
    X(STALE, "stale", AUDIT_ERROR)             /* changes wait longer than max_age to be stored */ \
    X(PERMISSIONS, "permissions", AUDIT_ERROR) /* others can get in; a file of another owner */    \
    X(RESTORE, "restore", AUDIT_ERROR)         /* a worker could not restore a checkpoint */       \
    X(ORDER, "order", AUDIT_WARNING)           /* positions or times do not grow */                \
    X(SPACE, "space", AUDIT_WARNING)           /* nearly full, or read-only */                     \
    X(STUCK, "stuck", AUDIT_WARNING)           /* accepted long ago and not answered */            \
    X(EXPIRED, "expired", AUDIT_WARNING)       /* answers past their time that are still kept */   \
    X(WAL, "wal", AUDIT_WARNING)               /* a WAL that is not folded back */                 \
    X(UNTESTED, "untested", AUDIT_WARNING)     /* no good restore test for too long */             \
    X(DIFFERS, "differs", AUDIT_NOTE)          /* saved again after a restore, not the same */     \
    X(QUARANTINED, "quarantined", AUDIT_NOTE)  /* requests that killed workers */                  \
    X(UNKNOWN, "unknown", AUDIT_NOTE)          /* what could not be known */

enum audit_code {
#define AUDIT_CODE_ENUM(name, text, severity) AUDIT_CODE_##name,
    AUDIT_CODES(AUDIT_CODE_ENUM)
#undef AUDIT_CODE_ENUM
        AUDIT_CODE_COUNT
};

struct audit_finding {
    enum audit_code code;
    char where[512];       /* a file, or "model/ordinal" */
    char text[512];        /* what */
    char advice[256];      /* what to do */
    int64_t since_wall_ns; /* 0: the files do not say */
};

struct audit_options {
    const char *state_dir;
    hasup_ns max_age;        /* changes may wait this long for their checkpoint; 0: not looked at */
    hasup_ns stuck;          /* a request may wait this long for its result; 0: not looked at */
    bool deep;               /* every checkpoint, every body and SQLite's whole integrity */
    int64_t now_wall_ns;     /* since 1970 */
    int64_t running_wall_ns; /* since when a hasupd runs on it; 0: none does, or nobody knows */
    const struct keys *keys; /* of sealed checkpoints; NULL: such cannot be checked */
};

struct audit_summary {
    uint32_t slots, checkpoints, verified, findings, notes; /* findings: all but notes */
    uint64_t bytes;                                         /* of all states */
    uint64_t requests, results, logged, quarantined;        /* rows of the journal */
    uint64_t free_bytes;
    uint32_t free_percent;
};

typedef void audit_report(void *context, const struct audit_finding *finding);

enum audit_result { AUDIT_SOUND = 0, AUDIT_FINDINGS = 1, AUDIT_COULD_NOT = 2 };

/* `error` says why it could not check. */
enum audit_result audit_run(const struct audit_options *options, audit_report *report,
                            void *context, struct audit_summary *summary, char error[STORE_ERROR]);

const char *audit_code_name(enum audit_code code);
enum audit_severity audit_code_severity(enum audit_code code);
const char *audit_severity_name(enum audit_severity severity);

#endif
