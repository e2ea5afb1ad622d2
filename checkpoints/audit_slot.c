/*
 * audit_slot.c: each slot's checkpoints held against its log in the journal and against what hasupd
 * noted of its changes: whether the state can be rebuilt, and whether it waits too long to be
 * stored.
 *
 * A slot that got no request since its newest checkpoint needs no newer one, however old that is.
 * Holes in the positions of a log are no gap: a request that was refused after its dispatch leaves
 * one, and with `journal: auto` only durable requests are there.
 */
#include "checkpoints/audit_internal.h"

#include <stdio.h>
#include <stdlib.h>

static int by_position(const void *a, const void *b)
{
    const struct audit_logged *x = a, *y = b;
    return x->position < y->position ? -1 : x->position > y->position;
}

static void check_gap(struct audit *audit, const struct audit_slot *slot, const char *where)
{
    static const char NOW[] = "what was in between is lost; while hasupd runs, hasupctl checkpoint "
                              "now %s makes a new start";
    char advice[256];
    snprintf(advice, sizeof advice, NOW, where);
    if (slot->restorable ? slot->good < slot->trimmed : slot->trimmed > 0) {
        if (slot->restorable)
            audit_found(audit, AUDIT_CODE_GAP, where, 0, advice,
                        "its newest good checkpoint is at position %llu, its log begins after %llu",
                        (unsigned long long)slot->good, (unsigned long long)slot->trimmed);
        else
            audit_found(audit, AUDIT_CODE_GAP, where, 0, advice,
                        "it has no good checkpoint, and its log begins after position %llu",
                        (unsigned long long)slot->trimmed);
        return;
    }
    uint64_t from = slot->restorable ? slot->good : 0;
    for (size_t i = 0; i < slot->log_count; i++)
        if (slot->log[i].gone && slot->log[i].position > from) {
            audit_found(
                audit, AUDIT_CODE_GAP, where, slot->log[i].finished_wall_ns, advice,
                "the request at position %llu of its log has no body, and no good checkpoint "
                "contains it",
                (unsigned long long)slot->log[i].position);
            return;
        }
}

static void check_twice(struct audit *audit, const struct audit_slot *slot, const char *where)
{
    for (size_t i = 1; i < slot->log_count; i++)
        if (slot->log[i].position == slot->log[i - 1].position) {
            audit_found(audit, AUDIT_CODE_ORDER, where, slot->log[i].finished_wall_ns,
                        "report it: this is an error of hasupd",
                        "position %llu stands twice in its log",
                        (unsigned long long)slot->log[i].position);
            return;
        }
}

/* Since when it has changes that no checkpoint has; 0: it has none that are known. */
static int64_t waiting_since(const struct audit_slot *slot)
{
    uint64_t newest = slot->restorable ? slot->good : 0;
    if (slot->known)
        return slot->changed_wall_ns && slot->changed > newest ? slot->changed_wall_ns : 0;
    int64_t since = 0;
    for (size_t i = 0; i < slot->log_count; i++)
        if (slot->log[i].position > newest && (!since || slot->log[i].finished_wall_ns < since))
            since = slot->log[i].finished_wall_ns;
    return since;
}

static void check_fresh(struct audit *audit, const struct audit_slot *slot, const char *where)
{
    char age[32], most[32];
    int64_t since = waiting_since(slot), now = audit->options->now_wall_ns;
    if (since && now - since > audit->options->max_age)
        audit_found(audit, AUDIT_CODE_STALE, where, since,
                    "hasupctl status says whether hasupd and the slot run, and whether its "
                    "checkpoints fail",
                    "it has changes since %s that no checkpoint has, more than %s",
                    audit_span(now - since, age), audit_span(audit->options->max_age, most));
}

void audit_slots(struct audit *audit)
{
    if (audit->options->max_age && !audit->noted && audit->count)
        audit_found(audit, AUDIT_CODE_UNKNOWN, audit->options->state_dir, 0,
                    "none is needed; hasupd notes it from its next start on",
                    "whether slots changed since their newest checkpoints is not noted");
    for (size_t i = 0; i < audit->slot_count; i++) {
        struct audit_slot *slot = &audit->slots[i];
        char where[STORE_MODEL + 16];
        snprintf(where, sizeof where, "%s/%u", slot->model, slot->ordinal);
        if (slot->log)
            qsort(slot->log, slot->log_count, sizeof *slot->log, by_position);
        check_gap(audit, slot, where);
        check_twice(audit, slot, where);
        if (audit->options->max_age)
            check_fresh(audit, slot, where);
    }
}
