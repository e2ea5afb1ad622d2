/*
 * program.c: slots whose process knows nothing of requests.  Owns when a program is ready: as soon
 * as it runs, when it says so, or when its probe succeeds; a oneshot never is, it has its task and
 * ends. Also whether one that ended by itself runs again, and the probes that find one that hangs.
 * All else, as backoff, breaker, rollouts, is as a model's.
 */
#include "supervisor/core/internal.h"

/* What it is to be asked as it is now; interval 0: nothing. */
static enum question due_probe(const struct slot *slot)
{
    return slot->state == SLOT_LOADING ? PROBE_READY : PROBE_LIVE;
}

static bool is_asked(const struct core *core, const struct slot *slot)
{
    bool runs = slot->state == SLOT_LOADING || slot->state == SLOT_READY;
    return runs && model_is_program(&core->models[slot->model]) &&
           slot_policy(core, slot)->probes[due_probe(slot)].interval;
}

void program_spawned(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = slot_policy(core, slot);
    if (slot->state != SLOT_STARTING || policy->kind == KIND_ONESHOT)
        return;
    slot_load(core, slot);
    if (policy->probes[PROBE_READY].interval)
        program_probe(core, slot);
    else if (!policy->tells || PLANT(PLANT_READY_UNTOLD))
        slot_ready(core, slot, 0);
}

/* ---- its end ---- */

static void program_done(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    slot->unhealthy = slot->breakers = 0;
    slot_set_state(core, slot, SLOT_DONE);
    rollout_ready(core, slot); /* it did what its version is to do */
    model_settle(core, model);
}

bool program_is_tried_once(const struct core *core, const struct slot *slot)
{
    return model_is_program(&core->models[slot->model]) &&
           slot_policy(core, slot)->revival == REVIVE_NEVER;
}

bool program_ended(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = slot_policy(core, slot);
    if (!model_is_program(model_of(core, slot)) || slot->ordered || PLANT(PLANT_REVIVE))
        return false;
    if (slot->died && policy->revival == REVIVE_NEVER) {
        slot_fail(core, slot);
        return true;
    }
    if (slot->died || policy->revival == REVIVE_ALWAYS)
        return false;
    program_done(core, slot);
    return true;
}

/* ---- probes ---- */

static void probe_after(struct core *core, struct slot *slot)
{
    hasup_ns interval = slot_policy(core, slot)->probes[due_probe(slot)].interval;
    timer_set_at(&core->wheel, &slot->probe_timer, core->now + interval);
}

void program_watch(struct core *core, struct slot *slot)
{
    if (!is_asked(core, slot))
        timer_clear(&core->wheel, &slot->probe_timer);
    else if (!slot->probe.asked)
        probe_after(core, slot);
}

void program_probe(struct core *core, struct slot *slot)
{
    if (!is_asked(core, slot) || slot->probe.asked)
        return;
    slot->probe.asked = true;
    action_slot(core, ACTION_PROBE, slot)->probe = due_probe(slot);
}

static void probe_failed(struct core *core, struct slot *slot)
{
    uint32_t most = slot_policy(core, slot)->probes[PROBE_LIVE].failures;
    if (++slot->probe.failed < most || PLANT(PLANT_DEAF_PROBE)) {
        probe_after(core, slot);
        return;
    }
    notice_slot(core, NOTICE_HUNG, slot)->notice.value = HANG_PROBE;
    slot_abort(core, slot);
}

/* An answer to a question that the slot has outgrown counts for nothing. */
void program_probed(struct core *core, struct slot *slot, enum question probe, bool well)
{
    bool asked = slot->probe.asked;
    slot->probe.asked = false;
    if (!asked || !is_asked(core, slot))
        return;
    if (probe != due_probe(slot)) {
        probe_after(core, slot);
    } else if (well && probe == PROBE_READY) {
        slot_ready(core, slot, 0);
    } else if (well || probe == PROBE_READY) {
        slot->probe.failed = 0;
        probe_after(core, slot);
    } else {
        probe_failed(core, slot);
    }
}

void program_check(const struct core *core, const struct slot *slot)
{
    bool program = model_is_program(&core->models[slot->model]);
    assert(!is_asked(core, slot) || slot->probe.asked || timer_is_set(&slot->probe_timer));
    assert(program || (slot->state != SLOT_DONE && !slot->probe.asked));
    assert(!program || (!slot->inflight && !slot->stateful && !slot->concurrency));
}
