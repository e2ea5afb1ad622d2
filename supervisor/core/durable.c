/*
 * durable.c: requests that their clients can come back for.  Each step waits for the journal: it is
 * queued once it is accepted there, and answered once its result is there; so a crash of hasupd
 * between any two steps loses nothing that anybody was told, and no answer is given that a second
 * run could change.  Who comes with its key is in durable_join.c, the next run in
 * durable_recover.c.
 *
 * Of some requests nobody can come back for the answer: they have no key and no number that was
 * told, nobody joined them, no chunk of theirs was stored.  Where they change no state either, they
 * are answered at once, and their row goes later, in the commit of something else.
 *
 * A result that the journal refuses is offered again every second; its client waits for it, at most
 * to its deadline.  The end of a shutdown's grace leaves what is unfinished in the journal, for the
 * next run.
 */
#include "supervisor/core/internal.h"

#define STORING_RETRY HASUP_S
#define LAZY_WAITS    (10 * HASUP_MS)

bool model_is_durable(const struct core *core, const struct model *model, const struct event *event)
{
    bool returns = event->submitted.async || event->submitted.key[0] || event->submitted.key[1];
    if (!core->entries.limit)
        return false;
    switch (model->policy.journal) {
    case JOURNALS_AUTO: return returns;
    case JOURNALS_ALWAYS: return true;
    case JOURNALS_NEVER: return false;
    }
    return false;
}

/* ---- words to the journal and to clients ---- */

static struct action *persist(struct core *core, uint64_t request, uint64_t record,
                              enum persist what)
{
    struct action *action = action_add(core, ACTION_PERSIST);
    action->request = request;
    action->record = record;
    action->persist.what = what;
    action->persist.lazy = (what == PERSIST_DONE || what == PERSIST_FORGET) && !core->shutting_down;
    core->lazy_waits = action->persist.lazy;
    if (core->lazy_waits && !timer_is_set(&core->sync_timer) && !PLANT(PLANT_NEVER_SYNC))
        timer_set_at(&core->wheel, &core->sync_timer, core->now + LAZY_WAITS);
    return action;
}

/* What was lazy and found no company. */
void durable_sync(struct core *core)
{
    if (core->lazy_waits)
        action_add(core, ACTION_SYNC);
    core->lazy_waits = false;
}

static hasup_ns expiry(const struct core *core, const struct item *item)
{
    return core->now + core->models[item->model].policy.result_ttl;
}

static void tell_accepted(struct core *core, struct item *item, uint64_t record)
{
    struct action *action = action_add(core, ACTION_ACCEPTED);
    action->request = item->id;
    action->record = record;
    if (item->async)
        item->client = false; /* that was all that its client waits for */
}

void tell_answer(struct core *core, struct item *item, const struct item *of)
{
    struct action *action = action_add(core, ACTION_ANSWER);
    action->request = item->id;
    action->answer.attempts = of->attempts;
    action->answer.of = of->id;
}

void tell_chunk(struct core *core, struct item *item, const struct item *of, uint64_t number)
{
    if (number <= item->heard)
        return;
    struct action *action = action_add(core, ACTION_CHUNK);
    action->request = item->id;
    action->chunk.of = of->id;
    action->chunk.number = number;
    item->heard = number;
}

/* ---- accepting ---- */

static void entry_drop(struct core *core, struct entry *entry)
{
    timer_clear(&core->wheel, &entry->timer);
    persist(core, 0, entry->record, PERSIST_FORGET);
    entry_free(&core->entries, entry);
}

/* The oldest finished one makes room where there is none. */
struct entry *entry_make(struct core *core, uint64_t record, const uint64_t key[2], uint64_t body)
{
    struct entry *entry = entry_new(&core->entries, record, key, body);
    if (entry || !core->entries.oldest)
        return entry;
    entry_drop(core, core->entries.oldest);
    return entry_new(&core->entries, record, key, body);
}

bool durable_is_too_large(const struct core *core, uint64_t size)
{
    return core->limits.durable_bytes && size > core->limits.durable_bytes &&
           !PLANT(PLANT_STORE_TOO_LARGE);
}

bool durable_begin(struct core *core, struct item *item, const struct event *event)
{
    item->entry = entry_make(core, core->next_record, event->submitted.key, event->submitted.body);
    if (!item->entry)
        return false;
    core->next_record++;
    item->entry->request = item->id;
    item->entry->token = event->submitted.token;
    item->place = PLACE_STORE;
    item->storing = STORING_ACCEPT;
    item->heard = event->submitted.heard;
    core->models[item->model].storing++;
    persist(core, item->id, item->entry->record, PERSIST_ACCEPT);
    if (PLANT(PLANT_QUEUE_EARLY) && core->uses % 8 == 0)
        durable_persisted(core, &(struct event){.request = item->id});
    return true;
}

static void accept_failed(struct core *core, struct item *item)
{
    if (item->entry)
        entry_free(&core->entries, item->entry);
    item->entry = NULL;
    if (!item->settled)
        request_refuse(core, item, REFUSED_NOT_DURABLE, HASUP_S);
    request_forget(core, item);
}

static void accepted(struct core *core, struct item *item, int error)
{
    struct model *model = &core->models[item->model];
    item->storing = STORING_NOTHING;
    model->storing--;
    if (error) {
        accept_failed(core, item);
    } else if (item->settled) {
        request_forget(core, item);
    } else {
        if (item->client)
            tell_accepted(core, item, item->entry->record);
        for (struct item *at = item->joined.head, *next; at; at = next) {
            next = at->next;
            if (!at->async)
                continue;
            tell_accepted(core, at, item->entry->record);
            item->async = true;
            joined_forget(core, at);
        }
        request_enter(core, item);
        dispatch_model(core, model);
    }
    model_settle(core, model);
}

/* ---- streams ---- */

void kept_release(struct core *core, struct item *item)
{
    core->kept -= item->kept;
    item->kept = 0;
}

void durable_chunked(struct core *core, struct item *item, uint64_t skip, uint64_t size)
{
    uint64_t most = PLANT(PLANT_KEEP_STREAMS) ? 0 : core->limits.stream_bytes;
    if (durable_is_too_large(core, size)) {
        request_break(core, item, REFUSED_ANSWER_TOO_LARGE, 0);
        return;
    }
    if (most && core->kept + size > most) {
        request_break(core, item, REFUSED_OVERLOADED, HASUP_S);
        return;
    }
    item->kept += size;
    core->kept += size;
    struct action *action = persist(core, item->id, item->entry->record, PERSIST_CHUNK);
    action->persist.skip = skip;
    action->persist.number = ++item->chunks;
}

static void chunk_stored(struct core *core, struct item *item, int error)
{
    if (item->settled)
        return;
    if (error) {
        request_break(core, item, REFUSED_NOT_DURABLE, HASUP_S);
        return;
    }
    uint64_t number = ++item->chunks_stored;
    if (item->client)
        tell_chunk(core, item, item, number);
    for (struct item *at = item->joined.head; at; at = at->next)
        if (!at->async)
            tell_chunk(core, at, item, number);
}

/* ---- results ---- */

/* Whether its answer is its own client's alone, and no state depends on the order of its end. */
static bool is_told_at_once(const struct item *item)
{
    bool returns = (item->entry->keyed && !PLANT(PLANT_TELL_KEYED)) || item->async;
    bool stateful = item->logged && !PLANT(PLANT_TELL_STATEFUL);
    return !item->settled && !returns && !stateful && !item->joined.head && !item->chunks;
}

static void tell_at_once(struct core *core, struct slot *slot, struct item *item)
{
    request_answer(core, slot, item);
    item->done = true;
}

static void store_result(struct core *core, struct item *item)
{
    item->storing = STORING_RESULT;
    if (item->done) {
        persist(core, item->id, item->entry->record, PERSIST_DONE);
        return;
    }
    struct action *action = persist(core, item->id, item->entry->record, PERSIST_RESULT);
    action->model = item->model;
    action->slot = item->logged ? item->slot : UINT32_MAX;
    action->persist.refused = item->refused;
    action->persist.why = item->why;
    action->persist.attempts = item->attempts;
    action->persist.position = item->logged ? item->position : 0;
    action->persist.digest = item->digest;
    action->persist.batch = item->logged ? item->batch : 0;
    action->persist.expires = expiry(core, item);
}

void durable_replied(struct core *core, struct slot *slot, struct item *item,
                     const struct event *event)
{
    if (item->logged) {
        log_answered(slot, item, event->replied.digest);
        slot->log.unstored++;
    } else if (item->settled) {
        return; /* its refusal is written already */
    } else {
        item->place = PLACE_STORE;
    }
    core->models[item->model].unstored++;
    if (PLANT(PLANT_ANSWER_EARLY) && !item->settled && core->uses % 16 == 0) {
        item->settled = true;
        timer_clear(&core->wheel, &item->timer);
        tell_answer(core, item, item);
    }
    bool at_once = is_told_at_once(item);
    if (!at_once && !item->settled && durable_is_too_large(core, event->replied.size)) {
        item->storing = STORING_RESULT; /* the journal hears of the refusal in the answer's place */
        request_refuse(core, item, REFUSED_ANSWER_TOO_LARGE, 0);
    }
    if (at_once)
        tell_at_once(core, slot, item);
    else
        action_add(core, ACTION_HOLD)->request = item->id;
    if (item->logged && slot->log.failing)
        item->storing = STORING_FAILED;
    else
        store_result(core, item);
}

/* What is kept has grown by one: the oldest go where it is too much, but never that one, which its
 * client has hardly heard of.  In steps: a large result may come after very many small ones. */
void results_bound(struct core *core)
{
    enum { STEP = 64 };
    struct entries *entries = &core->entries;
    uint64_t most = PLANT(PLANT_KEEP_RESULTS) ? 0 : core->limits.result_bytes;
    for (int i = 0; most && i < STEP && entries->bytes > most && entries->oldest != entries->newest;
         i++)
        entry_drop(core, entries->oldest);
}

/* Its end is durable: what of it is remembered, and how long. */
static void entry_end(struct core *core, struct item *item, uint64_t size)
{
    struct entry *entry = item->entry;
    bool returns = entry->keyed || item->async;
    item->entry = NULL;
    if (!returns || (item->refused && item->why == REFUSED_DROPPED)) {
        entry_drop(core, entry);
        return;
    }
    if (item->refused && item->why != REFUSED_QUARANTINED)
        entry_unkey(&core->entries, entry);
    entry->why = item->why;
    entry->attempts = item->attempts;
    memcpy(entry->hash, item->hash, sizeof entry->hash);
    entry->size = size;
    entry_finish(&core->entries, entry, item->refused);
    timer_set_at(&core->wheel, &entry->timer, expiry(core, item));
    results_bound(core);
}

static void result_stored(struct core *core, struct item *item, int error, uint64_t size)
{
    struct model *model = &core->models[item->model];
    struct slot *slot = item->logged ? &core->slots[item->slot] : NULL;
    if (error) {
        item->storing = STORING_FAILED;
        action_add(core, ACTION_NOTICE)->notice.what = NOTICE_NOT_STORED;
        timer_set_at(&core->wheel, &core->storing_timer, core->now + STORING_RETRY);
        if (slot)
            slot->log.failing = true;
        if (slot && slot->checkpoint.state == CHECKPOINT_TAKEN)
            checkpoint_give_up(core, slot);
        return;
    }
    item->storing = STORING_NOTHING;
    model->unstored--;
    kept_release(core, item);
    if (item->done) {
        entry_free(&core->entries, item->entry);
        item->entry = NULL;
    } else {
        entry_end(core, item, size);
    }
    if (!item->settled) {
        item->settled = true;
        timer_clear(&core->wheel, &item->timer);
        model->answered++;
        if (item->client)
            tell_answer(core, item, item);
        joined_answer(core, item);
    }
    if (slot) {
        slot->log.unstored--;
        action_add(core, ACTION_RELEASE)->request = item->id;
        checkpoint_awaited(core, slot, item);
        slot_settle(core, slot);
    } else {
        request_forget(core, item);
    }
    model_settle(core, model);
}

void durable_persisted(struct core *core, const struct event *event)
{
    struct item *item = item_find(core, event->request);
    if (!item)
        return;
    switch (event->persisted.what) {
    case PERSIST_ACCEPT:
        if (item->storing == STORING_ACCEPT)
            accepted(core, item, event->persisted.error);
        return;
    case PERSIST_CHUNK: chunk_stored(core, item, event->persisted.error); return;
    case PERSIST_RESULT:
    case PERSIST_DONE:
        if (item->storing == STORING_RESULT)
            result_stored(core, item, event->persisted.error, event->persisted.size);
        return;
    case PERSIST_REFUSAL:
    case PERSIST_FORGET:
    case PERSIST_TRIM: return;
    }
}

/* A slot's results in the order of its log: a later one must never be stored without the earlier.
 */
void durable_retry(struct core *core)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        struct slot *slot = &core->slots[i];
        if (!slot->used || !slot->log.failing)
            continue;
        slot->log.failing = false;
        for (struct item *item = slot->log.head; item; item = item->log_next)
            if (item->storing == STORING_FAILED)
                store_result(core, item);
    }
    for (uint32_t i = 0; i < core->items_high; i++)
        if (core->items[i].place != PLACE_NONE && core->items[i].storing == STORING_FAILED)
            store_result(core, &core->items[i]);
}

/* ---- refusals ---- */

/* The journal learns of a refusal that no worker's reply will carry there. */
static void refusal_write(struct core *core, struct item *item)
{
    struct entry *entry = item->entry;
    bool kept = (item->async || item->why == REFUSED_QUARANTINED) && item->why != REFUSED_DROPPED;
    item->entry = NULL;
    if (!kept) {
        entry_drop(core, entry);
        return;
    }
    struct action *action = persist(core, item->id, entry->record, PERSIST_REFUSAL);
    action->persist.why = item->why;
    action->persist.attempts = item->attempts;
    action->persist.expires = expiry(core, item);
    if (item->why != REFUSED_QUARANTINED)
        entry_unkey(&core->entries, entry); /* who comes again with the key runs it anew */
    entry->why = item->why;
    entry->attempts = item->attempts;
    memcpy(entry->hash, item->hash, sizeof entry->hash);
    entry_finish(&core->entries, entry, true);
    timer_set_at(&core->wheel, &entry->timer, expiry(core, item));
}

void durable_refused(struct core *core, struct item *item, hasup_ns retry_after)
{
    while (item->joined.head) {
        struct item *joined = item->joined.head;
        joined->attempts = item->attempts;
        request_refuse(core, joined, item->why, retry_after);
        joined_forget(core, joined);
    }
    /* A log's row is written with the reply, or when it leaves the log. */
    if (item->entry && !core->hastened && !item->logged && item->storing != STORING_RESULT &&
        item->storing != STORING_FAILED)
        refusal_write(core, item);
}

void durable_forget(struct core *core, struct item *item)
{
    assert(!item->joined.head);
    if (!item->entry)
        return;
    if (item->refused && !core->hastened) {
        refusal_write(core, item);
    } else { /* the journal keeps it for the next run */
        entry_free(&core->entries, item->entry);
        item->entry = NULL;
    }
}

void durable_dropped(struct core *core, uint64_t record)
{
    struct entry *entry = entry_by_record(&core->entries, record);
    if (!entry) { /* of a model that is not configured: only the journal has it */
        persist(core, 0, record, PERSIST_FORGET);
        return;
    }
    if (entry->state != ENTRY_RUNNING) {
        entry_drop(core, entry);
        return;
    }
    struct item *item = item_find(core, entry->request);
    assert(item && item->entry == entry);
    struct model *model = &core->models[item->model];
    if (!item->settled)
        request_refuse(core, item, REFUSED_DROPPED, 0);
    item->refused = true;
    item->why = REFUSED_DROPPED;
    request_drop(core, item);
    model_settle(core, model);
}

void durable_pardoned(struct core *core, const uint64_t hash[2])
{
    struct entry *entry;
    while ((entry = entry_condemned(&core->entries, hash)))
        entry_drop(core, entry);
}

void durable_expired(struct core *core, struct entry *entry)
{
    entry_drop(core, entry);
}
