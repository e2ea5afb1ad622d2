/*
 * slots_carry.c: slots, their workers and how the last ones died, to another hasupd.  Fields are
 * only ever added behind all others of a slot (behind_carry).  Owns nothing.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/said.h"

#include <stdlib.h>

/* ---- the last death ---- */

static void usage_carry(struct carry *carry, struct rusage *usage)
{
    CARRY(carry);
    V(usage->ru_maxrss);
    V(usage->ru_utime.tv_sec);
    V(usage->ru_utime.tv_usec);
    V(usage->ru_stime.tv_sec);
    V(usage->ru_stime.tv_usec);
}

static void usage_carry_more(struct carry *carry, struct rusage *usage)
{
    CARRY(carry);
    V(usage->ru_majflt);
    V(usage->ru_nvcsw);
    V(usage->ru_nivcsw);
}

static void death_carry(struct carry *carry, struct slot_death *death)
{
    CARRY(carry);
    carry_text(carry, death->reason, sizeof death->reason);
    V(death->wall_ns);
    V(death->code);
    E(death->tail_count, CAPTURE_TAIL);
    for (size_t i = 0; i < death->tail_count; i++)
        carry_string(carry, &death->tail[i]);
    for (size_t i = 0; codec->loading && i < death->tail_count; i++)
        if (!death->tail[i])
            death->tail[i] = calloc(1, 1);
    carry_string(carry, &death->lines);
}

static void hand_carry(struct carry *carry, struct death_hand **hand)
{
    CARRY(carry);
    bool there = *hand;
    V(there);
    if (!there)
        return;
    if (codec->loading && !(*hand = calloc(1, sizeof **hand))) {
        carry->no_memory = true;
        codec_fail(codec);
        return;
    }
    V((*hand)->total);
    for (uint32_t i = 0; i < DEATH_IDS && i < (*hand)->total; i++)
        carry_text(carry, (*hand)->ids[i], sizeof(*hand)->ids[i]);
}

static const char *cause_named(const char *name)
{
    for (int end = 0; end < STATS_END_COUNT; end++)
        if (strcmp(stats_end_name((enum stats_end)end), name) == 0)
            return stats_end_name((enum stats_end)end);
    return NULL;
}

/* What death_carry has not. */
static void death_carry_more(struct carry *carry, struct slot_death *death)
{
    enum { CAUSE = 32 };
    CARRY(carry);
    char cause[CAUSE] = "";
    if (!codec->loading && death->cause)
        strncpy(cause, death->cause, sizeof cause - 1);
    carry_text(carry, cause, sizeof cause);
    if (codec->loading && cause[0] && !(death->cause = cause_named(cause)))
        codec_fail(codec);
    V(death->exited);
    V(death->pid);
    V(death->lived);
    V(death->exit.code);
    V(death->exit.signal);
    V(death->exit.oom);
    usage_carry(carry, &death->exit.usage);
    usage_carry_more(carry, &death->exit.usage);
    hand_carry(carry, &death->hand);
}

/* ---- workers ---- */

static void exit_carry(struct carry *carry, struct worker *worker)
{
    CARRY(carry);
    V(worker->exit.reaped);
    V(worker->exit.how.code);
    V(worker->exit.how.signal);
    V(worker->exit.how.oom);
    usage_carry(carry, &worker->exit.how.usage);
}

static void worker_flags_carry(struct carry *carry, struct worker *worker)
{
    CARRY(carry);
    V(worker->number);
    carry_string(carry, &worker->cause);
    V(worker->spawned);
    V(worker->memory);
    label_carry(carry, &worker->version);
    V(worker->hook);
    V(worker->greeted);
    V(worker->welcomed);
    V(worker->stateful);
    V(worker->granted);
    V(worker->leaving);
    V(worker->more);
    V(worker->batch);
    E(worker->end, STATS_END_COUNT - 1);
    V(worker->hand.ids);
    V(worker->hand.unsure);
    V(worker->hand.talks);
    exit_carry(carry, worker);
}

/* `home` is a slot of the table that may come later: joined afterwards. */
static void worker_carry(struct carry *carry, struct slot *slot)
{
    CARRY(carry);
    struct engine *engine = carry->engine;
    bool there = slot->worker;
    V(there);
    if (!there)
        return;
    struct worker *worker = codec->loading ? calloc(1, sizeof *worker) : slot->worker;
    if (!worker) {
        codec_fail(codec);
        return;
    }
    uint32_t home = codec->loading ? 0 : worker->home->index;
    bool open = worker->peer.open, captured = worker->capture;
    slot->worker = worker;
    worker->slot = slot;
    E(home, engine->config->limits.slots - 1);
    if (codec->loading)
        worker->home_index = home;
    worker_flags_carry(carry, worker);
    process_carry(carry, engine->processes, &worker->process, worker);
    V(captured);
    const struct capture_options options = said_options(worker);
    if (captured)
        worker->capture = capture_carry(carry, worker->capture, engine->loop, &options);
    V(open);
    if (open)
        peer_carry(carry, &worker->peer, engine->peers, &worker_ops, worker);
    notify_carry(carry, worker);
    carry_text(carry, worker->mark, sizeof worker->mark);
    if (captured && worker->capture)
        capture_carry_parts(carry, worker->capture);
}

/* ---- slots ---- */

static void slot_fields_carry(struct carry *carry, struct slot *slot)
{
    CARRY(carry);
    V(slot->ordinal);
    E(slot->role, ROLE_ZYGOTE);
    carry_text(carry, slot->name, sizeof slot->name);
    carry_text(carry, slot->place.name, sizeof slot->place.name);
    V(slot->place.ordinal);
    label_carry(carry, &slot->version);
    V(slot->version_number);
    death_carry(carry, &slot->death);
    V(slot->asked_position);
    V(slot->asked);
    V(slot->stored_position);
    V(slot->stored_wall_ns);
    V(slot->stored_bytes);
    V(slot->untaken_position);
    V(slot->changed.position);
    V(slot->changed.newest);
    V(slot->changed.wall_ns);
    V(slot->checkpoints_failing);
}

/* The newest state, where the disk does not take it: it may be the only one. */
static void kept_carry(struct carry *carry, struct slot_state_bytes *kept)
{
    CARRY(carry);
    struct body body = {
        .bytes = kept->bytes, .buffer = kept->buffer, .offset = kept->offset, .len = kept->len};
    V(kept->there);
    V(kept->position);
    carry_body(carry, &body);
    kept->bytes = (uint8_t *)(uintptr_t)body.bytes;
    kept->buffer = body.buffer;
    kept->offset = body.offset;
    kept->len = body.len;
}

/* Behind all others of a slot, in the order in which they were added. */
static void behind_carry(struct carry *carry, struct slot *slot)
{
    death_carry_more(carry, &slot->death);
    if (slot->worker) {
        usage_carry_more(carry, &slot->worker->exit.how.usage);
        hand_carry(carry, &slot->worker->held);
    }
    kept_carry(carry, &slot->kept);
    if (slot->worker)
        program_carry(carry, slot->worker);
    if (slot->worker && slot->worker->notify)
        notify_carry_more(carry, slot->worker->notify);
}

static void slot_carry(struct carry *carry, uint32_t index)
{
    CARRY(carry);
    struct engine *engine = carry->engine;
    struct slot *slot = engine->slots[index];
    bool there = slot;
    uint32_t model = slot ? slot->model->index : 0;
    V(there);
    if (!there)
        return;
    E(model, engine->config->limits.models - 1);
    if (codec->loading) {
        slot = calloc(1, sizeof *slot);
        if (!slot || !engine->models[model].used) {
            free(slot);
            codec_fail(codec);
            return;
        }
        slot->engine = engine;
        slot->index = index;
        slot->model = &engine->models[model];
        engine->slots[index] = slot;
    }
    slot_fields_carry(carry, slot);
    worker_carry(carry, slot);
    if (!codec->failed)
        behind_carry(carry, slot);
}

static void homes_join(struct carry *carry)
{
    struct engine *engine = carry->engine;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct worker *worker = engine->slots[i] ? engine->slots[i]->worker : NULL;
        if (!worker)
            continue;
        worker->home = engine->slots[worker->home_index];
        if (!worker->home)
            worker->home = worker->slot;
    }
}

void slots_carry(struct carry *carry, struct engine *engine)
{
    CARRY(carry);
    for (uint32_t i = 0; i < engine->config->limits.slots && !codec->failed; i++) {
        codec_begin(codec);
        slot_carry(carry, i);
        codec_end(codec);
    }
    if (codec->loading && !codec->failed)
        homes_join(carry);
}
