/*
 * save_records.c: the fields of every record of records.h, each as one line; who adds a field to a
 * record adds it here, behind the others of its record.  Pointers are written as places in the
 * core's tables.
 */
#include "supervisor/core/save_own.h"

/* A field that no sensible caller leaves out: it is forgotten on purpose. */
#define FORGOTTEN PLANT(PLANT_FORGET_FIELD)

/* ---- pointers and indices ---- */

#define REFERENCE(name, type, table, limit_)                                                       \
    void name(struct core *core, struct codec *codec, type **at)                                   \
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

/* UINT32_MAX: none. */
static void index_value(struct codec *codec, uint32_t *index, uint32_t limit)
{
    uint32_t place = *index == UINT32_MAX ? 0 : *index + 1;
    codec_value(codec, &place, sizeof place, limit);
    if (codec->loading)
        *index = place ? place - 1 : UINT32_MAX;
}

/* ---- records ---- */

void limits_code(struct codec *codec, struct core_limits *l)
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

void model_code(struct core *core, struct codec *codec, struct model *model)
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
    V(slot->comes);
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

void slot_code(struct core *core, struct codec *codec, struct slot *slot)
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

void item_code(struct core *core, struct codec *codec, struct item *item)
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

void entry_code(struct core *core, struct codec *codec, struct entry *entry)
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

void body_code(struct core *core, struct codec *codec, struct body *body)
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

void core_code(struct core *core, struct codec *codec)
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
