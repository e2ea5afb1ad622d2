/*
 * durable_recover.c: what an earlier run of hasupd left in the journal, one event each: requests
 * that run again, stored answers, the log of each slot.
 */
#include "supervisor/core/internal.h"

/* An entry of an earlier run.  Where the journal holds two of a key, because the end of the older
 * one was not written, the key is the newer one's. */
static struct entry *recover_entry(struct core *core, const struct event *event)
{
    struct entry *entry = entry_by_record(&core->entries, event->recovered.record);
    if (entry)
        return entry;
    entry = entry_by_key(&core->entries, event->recovered.key);
    if (entry)
        entry_unkey(&core->entries, entry);
    entry = entry_make(core, event->recovered.record, event->recovered.key, event->recovered.body);
    if (entry)
        entry->token = event->recovered.token;
    return entry;
}

static void recover_request(struct core *core, const struct event *event)
{
    struct model *model = &core->models[event->model];
    assert(event->model < core->limits.models && model->used);
    struct entry *entry = recover_entry(core, event);
    assert(entry && entry->state != ENTRY_DONE && entry->state != ENTRY_REFUSED);
    entry->state = ENTRY_RUNNING;
    entry->request = event->request;
    struct item *item =
        request_open(core, &(struct event){.request = event->request,
                                           .model = event->model,
                                           .submitted = {.size = event->recovered.size,
                                                         .deadline = event->recovered.deadline,
                                                         .priority = event->recovered.priority,
                                                         .async = event->recovered.async,
                                                         .session = event->recovered.session,
                                                         .batch_key = event->recovered.batch_key,
                                                         .hash = {event->recovered.hash[0],
                                                                  event->recovered.hash[1]}}});
    item->client = false;
    item->entry = entry;
    item->sent = item->kept = event->recovered.sent;
    core->kept += item->kept;
    item->chunks = item->chunks_stored = event->recovered.chunks;
    if (event->recovered.once && !PLANT(PLANT_RUN_TWICE)) {
        request_refuse(core, item, REFUSED_INTERRUPTED, 0);
        request_forget(core, item);
        return;
    }
    request_enter(core, item);
    dispatch_model(core, model);
    model_settle(core, model);
}

static void recover_logged(struct core *core, const struct event *event)
{
    struct slot *slot = &core->slots[event->slot];
    assert(event->slot < core->slots_high && slot->used);
    struct item *item =
        request_open(core, &(struct event){.request = event->request,
                                           .model = slot->model,
                                           .submitted = {.size = event->recovered.size}});
    item->client = false;
    item->settled = item->answered = true;
    item->digest = event->recovered.digest;
    item->batch = event->recovered.batch;
    timer_clear(&core->wheel, &item->timer);
    log_recover(slot, item, event->recovered.position);
}

static void recover_trimmed(struct core *core, const struct event *event)
{
    struct slot *slot = &core->slots[event->slot];
    assert(event->slot < core->slots_high && slot->used && !slot->log.head);
    slot->log.trimmed = slot->log.position = event->recovered.position;
    slot->log.durable = true;
}

/* Half a log is none: what comes next would follow upon a state that never was. */
static void recover_cut(struct core *core, const struct event *event)
{
    struct slot *slot = &core->slots[event->slot];
    assert(event->slot < core->slots_high && slot->used && slot->state != SLOT_REPLAYING);
    assert(event->recovered.position >= slot->log.position);
    while (slot->log.head)
        log_let_go(core, slot, slot->log.head);
    slot->log.trimmed = slot->log.position = event->recovered.position;
    slot->log.durable = true;
}

void durable_recovered(struct core *core, const struct event *event)
{
    const uint64_t record = event->recovered.record;
    struct entry *entry;
    if (record && record >= core->next_record)
        core->next_record = record + 1;
    switch (event->recovered.what) {
    case RECOVERY_WAITING:
        entry = recover_entry(core, event);
        if (entry)
            entry->state = ENTRY_WAITING;
        return;
    case RECOVERY_FINISHED:
        entry = recover_entry(core, event);
        if (!entry)
            return;
        if (event->recovered.refused && event->recovered.why != REFUSED_QUARANTINED)
            entry_unkey(&core->entries, entry);
        entry->why = event->recovered.why;
        entry->attempts = event->recovered.attempts;
        entry->size = event->recovered.size;
        entry_finish(&core->entries, entry, event->recovered.refused);
        timer_set_at(&core->wheel, &entry->timer, event->recovered.expires);
        results_bound(core);
        return;
    case RECOVERY_REQUEST: recover_request(core, event); return;
    case RECOVERY_TRIMMED: recover_trimmed(core, event); return;
    case RECOVERY_LOGGED: recover_logged(core, event); return;
    case RECOVERY_CUT: recover_cut(core, event); return;
    case RECOVERY_QUARANTINED: blame_recovered(core, event); return;
    }
}
