/*
 * prepare.c: the command that must succeed before a slot starts (pre_start), for example until the
 * GPU's memory is free.  It is a process of the slot like a worker: with a number of its own, ended
 * with the slot, and its tree is proven empty before anything else starts there.  It is tried again
 * after a fixed interval; when no try is left the start has failed, which backoff and breaker count
 * as they count a worker that dies before it is ready.  It never counts as a crash.
 */
#include "supervisor/core/internal.h"

void prepare_begin(struct core *core, struct slot *slot)
{
    slot_renew(slot);
    slot->hook.on = true;
    slot_set_state(core, slot, SLOT_PREPARING);
    slot_timer(core, slot, slot_policy(core, slot)->pre_start.timeout);
    action_slot(core, ACTION_PREPARE, slot)->version = slot->version;
}

static void prepare_failed(struct core *core, struct slot *slot)
{
    const struct model_policy *policy = slot_policy(core, slot);
    bool more = slot->hook.tries < policy->pre_start.retries;
    struct action *notice = notice_slot(core, NOTICE_PRE_START_FAILED, slot);
    notice->notice.value = ++slot->hook.tries;
    notice->notice.delay = more ? policy->pre_start.interval : 0;
    if (more) {
        slot->next_start = core->now + policy->pre_start.interval;
        slot_set_state(core, slot, SLOT_BACKOFF);
        timer_set_at(&core->wheel, &slot->timer, slot->next_start);
    } else {
        slot->hook.tries = 0;
        slot_fail(core, slot);
    }
}

void prepare_ended(struct core *core, struct slot *slot)
{
    if (slot->ordered)
        slot_start(core, slot); /* anew, with what may have changed */
    else if (slot->hook.passed)
        slot_go_on(core, slot);
    else if (PLANT(PLANT_START_UNPREPARED))
        slot_launch(core, slot);
    else
        prepare_failed(core, slot);
}
