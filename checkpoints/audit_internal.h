/*
 * audit_internal.h: what the parts of the audit share: the findings, held back until it is sure
 * that no writer came between, and what the journal said of each slot for the checkpoints to be
 * held against.
 */
#ifndef HASUP_CHECKPOINTS_AUDIT_INTERNAL_H
#define HASUP_CHECKPOINTS_AUDIT_INTERNAL_H

#include "checkpoints/audit.h"

#include <sys/stat.h>

enum { AUDIT_ATTEMPTS = 8, AUDIT_PAUSE_MS = 10 };

/* One row of a slot's log. */
struct audit_logged {
    uint64_t position;
    int64_t finished_wall_ns;
    bool gone; /* its body was dropped */
};

/* What stands beside the checkpoints of a slot. */
struct audit_slot {
    char model[STORE_MODEL];
    uint32_t ordinal;
    bool known;               /* hasupd noted its changes: */
    int64_t changed_wall_ns;  /* since then; 0: everything is stored */
    uint64_t changed;         /* the first position that was not stored */
    uint64_t trimmed;         /* the journal let go of its log up to here; 0: it has none */
    struct audit_logged *log; /* by position */
    size_t log_count, log_room;
    bool seen;       /* it has checkpoints */
    bool restorable; /* and one of them is good: */
    uint64_t good;   /* the newest of those is at this position */
};

struct audit {
    const struct audit_options *options;
    struct audit_summary *summary;
    struct audit_finding *held;
    size_t held_count, held_room;
    struct checkpoint_info *list;
    size_t count, room;
    struct audit_slot *slots;
    size_t slot_count, slot_room;
    bool noted;       /* hasupd notes the changes of its slots */
    uint64_t largest; /* bytes of the largest state */
    bool no_memory;
};

/* Advice, then the format of the text. */
void audit_found(struct audit *audit, enum audit_code code, const char *where, int64_t since,
                 const char *advice, const char *format, ...) HASUP_PRINTF(6, 7);
/* The slot's, made where there is none; NULL: no memory, which is noted. */
struct audit_slot *audit_slot(struct audit *audit, const char *model, uint32_t ordinal);
/* The list with room for one more of `size`; NULL: no memory, which is noted. */
void *audit_grown(struct audit *audit, void *list, size_t count, size_t *room, size_t size);
/* It was last changed a while ago: hasupd makes a database empty, then its tables; what stays empty
 * was cut off. */
bool audit_is_settled(const struct stat *st);
/* Before another attempt: whoever disturbed the one before goes on meanwhile. */
void audit_pause(int attempt);
/* "90 s", "12 min", "3 h", "5 d" */
const char *audit_span(hasup_ns ns, char out[32]);

/* ---- audit_files.c ---- */
void audit_files(struct audit *audit);
void audit_sizes(struct audit *audit); /* after the checkpoints are known */
/* ---- audit_journal.c ---- */
void audit_activity(struct audit *audit);
enum audit_result audit_journal(struct audit *audit, char error[STORE_ERROR]);
/* ---- audit_slot.c: a slot's checkpoints against its log ---- */
void audit_slots(struct audit *audit);

#endif
