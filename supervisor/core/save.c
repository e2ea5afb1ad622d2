/*
 * save.c: the core as bytes, field by field, and back: for a hasupd that hands over to another one.
 * What stands here is every record of records.h; who adds a field to one adds it here, behind the
 * others of its record.  Pointers are written as places in the core's tables.
 *
 * Parts: head, core, models, slots, items, entries, bodies, clients, timers; then a sum over all.
 * The bytes are believed only so far that nothing outside of the tables is ever touched: whether
 * what they say makes sense is core_check()'s question.
 */
#include "supervisor/core/codec.h"
#include "supervisor/core/internal.h"

#include <stdlib.h>

enum { FORMAT = 1, MAGIC = 0x68735550, SUM_BYTES = 8 };

enum part {
    PART_HEAD = 1,
    PART_CORE,
    PART_MODELS,
    PART_SLOTS,
    PART_ITEMS,
    PART_ENTRIES,
    PART_BODIES,
    PART_CLIENTS,
    PART_TIMERS
};

/* A field that no sensible caller leaves out: it is forgotten on purpose. */
#define FORGOTTEN PLANT(PLANT_FORGET_FIELD)

/* ---- pointers: 0 is none, n the table's entry n - 1 ---- */

#define REFERENCE(name, type, table, limit_)                                                       \
    static void name(struct core *core, struct codec *codec, type **at)                            \
    {                                                                                              \
        uint32_t place = *at ? (uint32_t)(*at - core->table) + 1 : 0;                              \
        codec_value(codec, &place, sizeof place, core->limit_);                                    \
        if (codec->loading)                                                                        \
            *at = place ? &core->table[place - 1] : NULL;                                          \
    }

REFERENCE(slot_ref, struct slot, slots, limits.slots)
REFERENCE(item_ref, struct item, items, limits.requests)
REFERENCE(entry_ref, struct entry, entries.list, entries.limit)
REFERENCE(body_ref, struct body, bodies.list, bodies.limit)

#define SLOT(field)  slot_ref(core, codec, &(field))
#define ITEM(field)  item_ref(core, codec, &(field))
#define ENTRY(field) entry_ref(core, codec, &(field))
#define BODY(field)  body_ref(core, codec, &(field))
#define SUB(code)                                                                                  \
    do {                                                                                           \
        struct codec_outer outer_ = codec_enter(codec);                                            \
        code;                                                                                      \
        codec_leave(codec, outer_);                                                                \
    } while (0)

/* UINT32_MAX: none. */
static void index_value(struct codec *codec, uint32_t *index, uint32_t limit)
{
    uint32_t place = *index == UINT32_MAX ? 0 : *index + 1;
    codec_value(codec, &place, sizeof place, limit);
    if (codec->loading)
        *index = place ? place - 1 : UINT32_MAX;
}

/* ---- records ---- */

static void limits_code(struct codec *codec, struct core_limits *l)
{
    V(l->models);
    V(l->slots);
    V(l->requests);
    V(l->loading);
    V(l->entries);
    V(l->result_bytes);
    V(l->stream_bytes);
    V(l->durable_bytes);
    V(l->bodies);
}

static bool limits_equal(const struct core_limits *a, const struct core_limits *b)
{
    return a->models == b->models && a->slots == b->slots && a->requests == b->requests &&
           a->loading == b->loading && a->entries == b->entries &&
           a->result_bytes == b->result_bytes && a->stream_bytes == b->stream_bytes &&
           a->durable_bytes == b->durable_bytes && a->bodies == b->bodies;
}

static void policy_limits_code(struct codec *codec, struct model_policy *p)
{
    V(p->timeouts.start);
    V(p->timeouts.attempt);
    V(p->timeouts.progress);
    V(p->timeouts.ping);
    V(p->timeouts.ping_after);
    V(p->timeouts.ping_every);
    V(p->timeouts.watchdog);
    V(p->timeouts.abort);
    V(p->timeouts.drain);
    V(p->timeouts.stop);
    V(p->recycle.requests);
    V(p->recycle.age);
    V(p->recycle.memory);
    V(p->recycle.memory_every);
    V(p->queue.requests);
    V(p->queue.bytes);
    V(p->queue.refuse_late);
    V(p->queue.priority_age);
    V(p->rate.per_second);
    V(p->rate.burst);
    V(p->rate.client_per_second);
    V(p->rate.client_burst);
    V(p->batch.most);
    V(p->batch.max_delay);
    for (int i = 0; i < CORE_PREFERRED; i++)
        V(p->batch.preferred[i]);
    V(p->checkpoint.interval);
    V(p->checkpoint.log_requests);
    V(p->checkpoint.log_bytes);
    V(p->rollout.max_surge);
    V(p->rollout.max_unavailable);
    V(p->rollout.progress_deadline);
    V(p->rollout.abort_error_rate);
    V(p->rollout.abort_min_requests);
}

static void program_code(struct core *core, struct codec *codec, struct model_policy *p)
{
    E(p->kind, KIND_ONESHOT);
    E(p->revival, REVIVE_NEVER);
    V(p->tells);
    for (int i = 0; i < CORE_PROBES; i++) {
        V(p->probes[i].interval);
        V(p->probes[i].failures);
    }
    E(p->after.count, CORE_AFTER);
    for (int i = 0; i < CORE_AFTER; i++) {
        E(p->after.list[i].model, core->limits.models - 1);
        V(p->after.list[i].required);
    }
}

static void policy_code(struct core *core, struct codec *codec, struct model_policy *p)
{
    V(p->workers);
    V(p->spares);
    V(p->preload);
    V(p->essential);
    E(p->policy, POLICY_RANDOM);
    for (int i = 0; i < CORE_WEIGHTS; i++)
        V(p->weights[i]);
    V(p->concurrency_max);
    V(p->max_attempts);
    V(p->quarantine_ttl);
    E(p->on_lost, ON_LOST_MOVE);
    E(p->journal, JOURNALS_NEVER);
    V(p->result_ttl);
    V(p->restart.backoff_min);
    V(p->restart.backoff_max);
    V(p->restart.healthy_after);
    V(p->restart.start_limit);
    V(p->restart.breaker);
    V(p->pre_start.on);
    V(p->pre_start.timeout);
    V(p->pre_start.retries);
    V(p->pre_start.interval);
    SUB(policy_limits_code(codec, p));
    SUB(program_code(core, codec, p));
}

static void list_code(struct core *core, struct codec *codec, struct list *list)
{
    ITEM(list->head);
    ITEM(list->tail);
}

static void queue_code(struct core *core, struct codec *codec, struct queue *queue)
{
    V(queue->used);
    V(queue->count);
    for (int i = 0; i < PRIORITIES; i++) {
        list_code(core, codec, &queue->classes[i].list);
        ITEM(queue->classes[i].heap);
        V(queue->classes[i].count);
    }
}

static void fit_code(struct codec *codec, struct fit *fit)
{
    V(fit->count);
    V(fit->n);
    V(fit->t);
    V(fit->nn);
    V(fit->nt);
    V(fit->slope);
    V(fit->base);
    V(fit->samples);
    V(fit->known);
}

static void rollout_code(struct core *core, struct codec *codec, struct rollout *rollout)
{
    V(rollout->timer.kind);
    E(rollout->state, ROLLOUT_REVERTING);
    E(rollout->why, ROLLOUT_RECYCLES);
    V(rollout->version);
    V(rollout->alone);
    V(rollout->weight);
    V(rollout->credit);
    for (int i = 0; i < 2; i++) {
        V(rollout->side[i].ended);
        V(rollout->side[i].failed);
    }
    SUB(policy_code(core, codec, &rollout->policy));
}

static void blame_code(struct core *core, struct codec *codec, struct model *model)
{
    list_code(core, codec, &model->suspects.list);
    V(model->suspects.count);
    V(model->suspects.open);
    V(model->suspects.group);
    V(model->suspect_runs);
    V(model->holds);
    V(model->identifying);
    V(model->bodies);
    V(model->row.crashes);
    V(model->row.groups);
    V(model->row.answers);
    V(model->row.beside);
    V(model->row.last);
    V(model->row.seen);
    V(model->row.first);
    V(model->breaker.timer.kind);
    E(model->breaker.state, BREAKER_HALF_OPEN);
    V(model->breaker.opened);
    V(model->breaker.resumes);
    V(model->breaker.until);
}

static void model_code(struct core *core, struct codec *codec, struct model *model)
{
    V(model->used);
    V(model->accepting);
    V(model->draining);
    V(model->removing);
    E(model->index, core->limits.models - 1);
    SUB(policy_code(core, codec, &model->policy));
    V(model->version);
    V(model->proven);
    SUB(rollout_code(core, codec, &model->rollout));
    V(model->stateful);
    SUB(queue_code(core, codec, &model->queue));
    V(model->queued);
    V(model->queued_bytes);
    SUB(blame_code(core, codec, model));
    V(model->rate);
    V(model->unmeasured);
    V(model->run_ns);
    V(model->late_until);
    V(model->rate_due);
    V(model->batch.timer.kind);
    V(model->batch.arrived);
    V(model->batch.gap);
    E(model->free_count, core->limits.slots);
    SLOT(model->due);
    V(model->slots);
    V(model->ready);
    V(model->inflight);
    V(model->helpers);
    V(model->spares);
    V(model->storing);
    V(model->unstored);
    V(model->pass);
    V(model->answered);
    V(model->refused);
    V(model->attempts);
    V(model->replays);
    V(model->batches);
}

static void identity_code(struct codec *codec, struct identity *how)
{
    V(how->died);
    V(how->alone);
    V(how->first);
    V(how->mark);
}

static void slot_life_code(struct core *core, struct codec *codec, struct slot *slot)
{
    V(slot->timer.kind);
    V(slot->work_timer.kind);
    V(slot->checkpoint_timer.kind);
    V(slot->used);
    E(slot->state, SLOT_DONE);
    E(slot->role, ROLE_ZYGOTE);
    E(slot->index, core->limits.slots - 1);
    E(slot->model, core->limits.models - 1);
    V(slot->ordinal);
    V(slot->worker);
    V(slot->wanted);
    V(slot->removing);
    V(slot->ordered);
    V(slot->extra);
    V(slot->version);
    V(slot->restart);
    V(slot->rolling);
    V(slot->renew);
    V(slot->loads);
    V(slot->forks);
    V(slot->born);
    V(slot->counted);
    V(slot->waits);
    V(slot->drain_sent);
    V(slot->hook.on);
    V(slot->hook.passed);
    V(slot->hook.tries);
    V(slot->state_offered);
    V(slot->exited);
    V(slot->tree_empty);
    V(slot->start_by);
    V(slot->since);
    V(slot->ready_since);
    V(slot->last_active);
    V(slot->progress);
    V(slot->ping_due);
    V(slot->next_start);
    V(slot->alive);
    V(slot->was_ready);
    V(slot->run_answered);
    if (!FORGOTTEN)
        V(slot->unhealthy);
    V(slot->breakers);
    V(slot->died);
    V(slot->probe_timer.kind);
    V(slot->probe.asked);
    V(slot->probe.failed);
}

static void slot_work_code(struct core *core, struct codec *codec, struct slot *slot)
{
    V(slot->held);
    V(slot->exclusive);
    V(slot->stateful);
    V(slot->resumable);
    V(slot->offers.concurrency);
    V(slot->offers.batch);
    V(slot->concurrency);
    V(slot->batches);
    E(slot->batch_most, CORE_BATCH);
    E(slot->batch_cap, CORE_BATCH);
    V(slot->late);
    V(slot->batch_end);
    SUB(queue_code(core, codec, &slot->queue));
    SLOT(slot->due_next);
    SLOT(slot->due_prev);
    V(slot->due);
    SUB(fit_code(codec, &slot->fit));
    V(slot->drain.each);
    V(slot->drain.rate);
    V(slot->drain.samples);
    V(slot->drain.counted);
    V(slot->drain.unmeasured);
    list_code(core, codec, &slot->flight);
    V(slot->inflight);
    uint32_t heap_at = (uint32_t)slot->heap_at;
    index_value(codec, &heap_at, core->limits.slots);
    if (codec->loading)
        slot->heap_at = (int)heap_at;
    V(slot->key);
    V(slot->used_seq);
    V(slot->pass);
    V(slot->service_ns);
}

static void slot_log_code(struct core *core, struct codec *codec, struct slot *slot)
{
    ITEM(slot->log.head);
    ITEM(slot->log.tail);
    ITEM(slot->log.cursor);
    V(slot->log.position);
    V(slot->log.trimmed);
    V(slot->log.stored);
    V(slot->log.restored);
    V(slot->log.restored_kept);
    V(slot->log.restored_lost);
    V(slot->log.count);
    V(slot->log.unanswered);
    V(slot->log.unstored);
    V(slot->log.bytes);
    V(slot->log.durable);
    V(slot->log.failing);
    E(slot->checkpoint.state, CHECKPOINT_STORING);
    V(slot->checkpoint.awaits);
    V(slot->checkpoint.load_waits);
    V(slot->checkpoint.position);
    V(slot->checkpoint.last);
    V(slot->checkpoint.retry);
    V(slot->checkpoint.reached);
    V(slot->checkpoint.again);
    V(slot->checkpoint.load_failures);
}

static void slot_code(struct core *core, struct codec *codec, struct slot *slot)
{
    SUB(slot_life_code(core, codec, slot));
    SUB(slot_work_code(core, codec, slot));
    SUB(slot_log_code(core, codec, slot));
    E(slot->recycle.why, RECYCLE_MEMORY);
    V(slot->recycle.chosen);
    V(slot->recycle.on);
    V(slot->recycle.again);
    V(slot->recycle.policy);
    V(slot->recycle.age_at);
    V(slot->recycle.measured);
    V(slot->recycle.measure_at);
    SUB(identity_code(codec, &slot->crash));
    V(slot->starts);
    V(slot->crashes);
    V(slot->recycled);
    V(slot->answered);
    V(slot->replayed);
    V(slot->diverged);
}

static void item_stream_code(struct core *core, struct codec *codec, struct item *item)
{
    V(item->spoke);
    V(item->sent);
    V(item->produced);
    V(item->kept);
    V(item->progressed);
    V(item->chunks);
    V(item->chunks_stored);
    V(item->heard);
    ENTRY(item->entry);
    ITEM(item->leader);
    list_code(core, codec, &item->joined);
}

static void item_links_code(struct core *core, struct codec *codec, struct item *item)
{
    ITEM(item->mate_next);
    ITEM(item->mate_prev);
    ITEM(item->next);
    ITEM(item->prev);
    ITEM(item->child);
    V(item->in_heap);
    ITEM(item->log_next);
    ITEM(item->log_prev);
}

static void item_code(struct core *core, struct codec *codec, struct item *item)
{
    V(item->timer.kind);
    V(item->id);
    E(item->place, PLACE_JOINED);
    E(item->model, core->limits.models - 1);
    index_value(codec, &item->slot, core->limits.slots);
    E(item->priority, PRIORITIES);
    V(item->settled);
    V(item->answered);
    V(item->replay);
    V(item->logged);
    V(item->alone);
    V(item->client);
    V(item->async);
    V(item->refused);
    V(item->once);
    V(item->unbegun);
    V(item->done);
    E(item->storing, STORING_FAILED);
    E(item->why, REFUSED_INTERRUPTED);
    V(item->attempts);
    V(item->crashes);
    V(item->hash[0]);
    V(item->hash[1]);
    V(item->group);
    V(item->accused);
    V(item->seen);
    V(item->size);
    V(item->arrival);
    V(item->later);
    V(item->deadline);
    V(item->dispatched);
    V(item->progress);
    V(item->position);
    V(item->digest);
    V(item->session);
    index_value(codec, &item->home, core->limits.slots);
    V(item->batch_key);
    V(item->batch);
    V(item->mates);
    V(item->entered);
    SUB(item_stream_code(core, codec, item));
    SUB(item_links_code(core, codec, item));
}

static void entry_code(struct core *core, struct codec *codec, struct entry *entry)
{
    V(entry->timer.kind);
    V(entry->size);
    V(entry->record);
    V(entry->key[0]);
    V(entry->key[1]);
    V(entry->body);
    V(entry->request);
    V(entry->token);
    E(entry->state, ENTRY_REFUSED);
    E(entry->why, REFUSED_INTERRUPTED);
    V(entry->hash[0]);
    V(entry->hash[1]);
    V(entry->attempts);
    V(entry->keyed);
    ENTRY(entry->next_by_key);
    ENTRY(entry->next_by_record);
    ENTRY(entry->older);
    ENTRY(entry->newer);
}

static void body_code(struct core *core, struct codec *codec, struct body *body)
{
    V(body->timer.kind);
    V(body->hash[0]);
    V(body->hash[1]);
    E(body->model, core->limits.models - 1);
    V(body->quarantined);
    V(body->proven);
    V(body->crashes);
    V(body->accused);
    V(body->row);
    V(body->answers);
    BODY(body->next);
    BODY(body->older);
    BODY(body->newer);
}

static void core_code(struct core *core, struct codec *codec)
{
    V(core->random.state);
    V(core->wheel.tick);
    V(core->now);
    V(core->accusations);
    V(core->next_record);
    V(core->joined);
    V(core->storing_timer.kind);
    V(core->sync_timer.kind);
    V(core->shutdown_timer.kind);
    V(core->lazy_waits);
    E(core->slots_high, core->limits.slots);
    E(core->items_high, core->limits.requests);
    V(core->arrivals);
    V(core->uses);
    V(core->requests);
    V(core->kept);
    V(core->shutting_down);
    V(core->hastened);
    V(core->exited);
    V(core->loading);
    V(core->waiting);
    V(core->waits);
    V(core->spare_came);
    ENTRY(core->entries.free);
    ENTRY(core->entries.oldest);
    ENTRY(core->entries.newest);
    E(core->entries.high, core->entries.limit);
    V(core->entries.used);
    V(core->entries.finished);
    V(core->entries.bytes);
    BODY(core->bodies.free);
    BODY(core->bodies.oldest);
    BODY(core->bodies.newest);
    E(core->bodies.high, core->bodies.limit);
}

/* ---- tables: one record for each place, an empty one for what is not in use ---- */

static void models_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->limits.models; i++) {
        struct model *model = &core->models[i];
        codec_begin(codec);
        if (model->used || codec->loading)
            model_code(core, codec, model);
        codec_end(codec);
        if (codec->loading)
            model->free = core->free_slots + (size_t)i * core->limits.slots;
        for (uint32_t at = 0; model->used && at < model->free_count; at++) {
            codec_begin(codec);
            SLOT(model->free[at]);
            codec_end(codec);
            if (!model->free[at])
                codec_fail(codec);
        }
    }
}

/* An unused one, too: its worker's number goes on. */
static void slots_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->slots_high; i++) {
        codec_begin(codec);
        slot_code(core, codec, &core->slots[i]);
        codec_end(codec);
    }
}

static void items_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < core->items_high; i++) {
        codec_begin(codec);
        if (core->items[i].place != PLACE_NONE || codec->loading)
            item_code(core, codec, &core->items[i]);
        codec_end(codec);
    }
}

/* The first of each chain is the one that no other has behind it. */
static void chains_join(struct entries *entries, struct codec *codec)
{
    enum { BEHIND_KEY = 1, BEHIND_RECORD = 2 };
    uint8_t *behind = calloc((size_t)entries->limit + 1, 1);
    if (!behind) {
        codec_fail(codec);
        return;
    }
    for (uint32_t i = 0; i < entries->high; i++) {
        const struct entry *entry = &entries->list[i];
        if (entry->next_by_key)
            behind[entry->next_by_key - entries->list] |= BEHIND_KEY;
        if (entry->next_by_record)
            behind[entry->next_by_record - entries->list] |= BEHIND_RECORD;
    }
    for (uint32_t i = 0; i < entries->high; i++) {
        struct entry *entry = &entries->list[i];
        if (entry->state == ENTRY_FREE)
            continue;
        if (entry->keyed && !(behind[i] & BEHIND_KEY))
            entries->by_key[entry->key[1] & entries->mask] = entry;
        if (!(behind[i] & BEHIND_RECORD))
            entries->by_record[entry->record & entries->mask] = entry;
    }
    free(behind);
}

static void entries_code(struct core *core, struct codec *codec)
{
    struct entries *entries = &core->entries;
    for (uint32_t i = 0; i < entries->high; i++) {
        codec_begin(codec);
        entry_code(core, codec, &entries->list[i]);
        codec_end(codec);
    }
    if (codec->loading && !codec->failed)
        chains_join(entries, codec);
}

static void bodies_code(struct core *core, struct codec *codec)
{
    struct bodies *bodies = &core->bodies;
    for (uint32_t i = 0; i < bodies->high; i++) {
        codec_begin(codec);
        body_code(core, codec, &bodies->list[i]);
        codec_end(codec);
    }
    for (uint32_t i = 0; i <= bodies->mask; i++) {
        codec_begin(codec);
        BODY(bodies->chains[i]);
        codec_end(codec);
    }
}

static void clients_code(struct core *core, struct codec *codec)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        codec_begin(codec);
        V(core->clients[i].key);
        V(core->clients[i].due);
        codec_end(codec);
    }
}

/* ---- timers: in the order of their lists, which is that in which they are due ---- */

static struct timer_node *timer_of_slot(struct slot *slot, enum timer_kind kind)
{
    return kind == TIMER_SLOT         ? &slot->timer
           : kind == TIMER_WORK       ? &slot->work_timer
           : kind == TIMER_CHECKPOINT ? &slot->checkpoint_timer
                                      : &slot->probe_timer;
}

static struct timer_node *timer_of_model(struct model *model, enum timer_kind kind)
{
    return kind == TIMER_BREAKER ? &model->breaker.timer
           : kind == TIMER_BATCH ? &model->batch.timer
                                 : &model->rollout.timer;
}

/* The timer of this kind of the owner at `place` of its table; NULL: there is no such. */
static struct timer_node *timer_find(struct core *core, enum timer_kind kind, uint64_t place)
{
    switch (kind) {
    case TIMER_REQUEST: return place < core->items_high ? &core->items[place].timer : NULL;
    case TIMER_SLOT:
    case TIMER_WORK:
    case TIMER_CHECKPOINT:
    case TIMER_PROBE:
        return place < core->slots_high ? timer_of_slot(&core->slots[place], kind) : NULL;
    case TIMER_ENTRY: return place < core->entries.high ? &core->entries.list[place].timer : NULL;
    case TIMER_BODY: return place < core->bodies.high ? &core->bodies.list[place].timer : NULL;
    case TIMER_BREAKER:
    case TIMER_BATCH:
    case TIMER_ROLLOUT:
        return place < core->limits.models ? timer_of_model(&core->models[place], kind) : NULL;
    case TIMER_SHUTDOWN: return &core->shutdown_timer;
    case TIMER_STORING: return &core->storing_timer;
    case TIMER_SYNC: return &core->sync_timer;
    }
    return NULL;
}

/* The place of a timer's owner in its table. */
static uint64_t timer_place(const struct core *core, const struct timer_node *timer)
{
    const char *at = (const char *)timer;
    switch ((enum timer_kind)timer->kind) {
    case TIMER_REQUEST: return (size_t)(at - (const char *)core->items) / sizeof *core->items;
    case TIMER_SLOT:
    case TIMER_WORK:
    case TIMER_CHECKPOINT:
    case TIMER_PROBE: return (size_t)(at - (const char *)core->slots) / sizeof *core->slots;
    case TIMER_ENTRY:
        return (size_t)(at - (const char *)core->entries.list) / sizeof *core->entries.list;
    case TIMER_BODY:
        return (size_t)(at - (const char *)core->bodies.list) / sizeof *core->bodies.list;
    case TIMER_BREAKER:
    case TIMER_BATCH:
    case TIMER_ROLLOUT: return (size_t)(at - (const char *)core->models) / sizeof *core->models;
    case TIMER_SHUTDOWN:
    case TIMER_STORING:
    case TIMER_SYNC: break;
    }
    return 0;
}

static void timers_save(const struct core *core, struct codec *codec, const struct timer_node *list)
{
    for (const struct timer_node *timer = list; timer; timer = timer->next) {
        if (PLANT(PLANT_FORGET_TIMER) && timer->kind == TIMER_BREAKER)
            continue;
        codec_put(codec, timer->kind + 1u);
        codec_put(codec, timer_place(core, timer));
        codec_put(codec, timer->tick);
    }
    codec_put(codec, 0);
}

static void timers_load(struct core *core, struct codec *codec, struct timer_node **list,
                        unsigned level, unsigned slot)
{
    uint64_t kind;
    while ((kind = codec_get(codec))) {
        uint64_t place = codec_get(codec), tick = codec_get(codec);
        struct timer_node *timer =
            kind <= TIMER_PROBE + 1 ? timer_find(core, (enum timer_kind)(kind - 1), place) : NULL;
        if (!timer || timer_is_set(timer) || timer->kind != kind - 1) {
            codec_fail(codec);
            return;
        }
        timer->tick = tick;
        timer->level = (uint8_t)level;
        timer->slot = (uint8_t)slot;
        timer->next = NULL;
        timer->back = list;
        *list = timer;
        list = &timer->next;
    }
}

static void timers_code(struct core *core, struct codec *codec)
{
    struct wheel *wheel = &core->wheel;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            struct timer_node **list = &wheel->lists[level][slot];
            if (codec->loading)
                timers_load(core, codec, list, level, slot);
            else
                timers_save(core, codec, *list);
            if (codec->loading && *list)
                wheel->pending[level] |= (uint64_t)1 << slot;
        }
    if (codec->loading)
        timers_load(core, codec, &wheel->due, WHEEL_LEVELS, 0);
    else
        timers_save(core, codec, wheel->due);
}

/* ---- all of it ---- */

static void head_code(struct codec *codec, struct core_limits *limits)
{
    uint32_t magic = MAGIC, format = FORMAT;
    size_t part = codec_open(codec, PART_HEAD, "its version");
    codec_begin(codec);
    V(magic);
    V(format);
    if (magic != MAGIC || format != FORMAT)
        codec_fail(codec);
    codec->what = "its limits";
    SUB(limits_code(codec, limits));
    codec_end(codec);
    codec_close(codec, part);
}

static void parts_code(struct core *core, struct codec *codec)
{
    static const struct {
        const char *what;
        void (*code)(struct core *core, struct codec *codec);
    } PARTS[] = {
        {"its models", models_code},   {"its slots", slots_code},   {"its requests", items_code},
        {"its records", entries_code}, {"its bodies", bodies_code}, {"its clients", clients_code},
        {"its timers", timers_code},
    };
    size_t part = codec_open(codec, PART_CORE, "its counters");
    codec_begin(codec);
    core_code(core, codec);
    codec_end(codec);
    codec_close(codec, part);
    for (unsigned i = 0; i < HASUP_LEN(PARTS) && !codec->failed; i++) {
        part = codec_open(codec, PART_MODELS + i, PARTS[i].what);
        PARTS[i].code(core, codec);
        codec_close(codec, part);
    }
}

size_t core_save(const struct core *core, uint8_t *bytes, size_t room)
{
    struct core_limits limits = core->limits;
    struct codec codec;
    codec_save(&codec, bytes, room);
    head_code(&codec, &limits);
    parts_code((struct core *)(uintptr_t)core, &codec); /* which only reads it */
    if (codec.used + SUM_BYTES <= room) {
        uint64_t sum = codec_sum(bytes, codec.used);
        memcpy(bytes + codec.used, &sum, SUM_BYTES);
    }
    return codec.used + SUM_BYTES;
}

struct core *core_load(const struct core_limits *limits, const uint8_t *bytes, size_t len,
                       const char **why)
{
    struct core_limits theirs = {0};
    struct codec codec;
    uint64_t sum;
    *why = "it is cut off or damaged";
    if (len < SUM_BYTES)
        return NULL;
    memcpy(&sum, bytes + len - SUM_BYTES, SUM_BYTES);
    if (sum != codec_sum(bytes, len - SUM_BYTES))
        return NULL;
    codec_load(&codec, bytes, len - SUM_BYTES);
    head_code(&codec, &theirs);
    *why = codec.failed;
    if (!codec.failed && !limits_equal(&theirs, limits))
        *why = "limits that are not those of this configuration";
    if (*why)
        return NULL;
    struct core *core = core_new(limits, 0);
    *why = "out of memory";
    if (!core)
        return NULL;
    parts_code(core, &codec);
    if (codec.at != codec.len)
        codec_fail(&codec);
    *why = codec.failed;
    if (!codec.failed) {
        gate_loaded(core);
        order_loaded(core);
        return core;
    }
    core_free(core);
    return NULL;
}
