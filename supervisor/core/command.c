/*
 * command.c: what an operator tells a model or a slot: what is wanted changes here; the slots then
 * go where they are wanted by themselves.
 */
#include "supervisor/core/internal.h"

static void command_start(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    model->accepting = true; /* a slot that runs is there to be used */
    model->draining = false;
    slot->unhealthy = slot->breakers = slot->hook.tries = 0;
    slot->wanted = true;
    if (slot->state == SLOT_STOPPED || slot->state == SLOT_BACKOFF || slot->state == SLOT_BROKEN ||
        slot->state == SLOT_DONE)
        slot_start(core, slot);
}

static void command_slot(struct core *core, struct slot *slot, enum command command)
{
    switch (command) {
    case COMMAND_START: command_start(core, slot); return;
    case COMMAND_STOP:
    case COMMAND_DRAIN:
        slot->wanted = slot->restart = slot->rolling = false;
        slot_drain(core, slot);
        return;
    case COMMAND_RESTART:
        if (slot->wanted && slot->role != ROLE_WORKER) {
            slot->renew = true;
            return;
        }
        slot->restart = slot->wanted;
        slot->rolling &= !slot->restart; /* its turn comes anew */
        slot->recycle.chosen = false;
        if (!slot->wanted)
            command_start(core, slot);
        return;
    case COMMAND_CHECKPOINT:
        if (slot->role == ROLE_WORKER)
            checkpoint_take(core, slot);
        return;
    case COMMAND_PROMOTE:
    case COMMAND_ABORT: return;
    }
}

/* What a command to a whole model changes besides its slots. */
static void command_model(struct core *core, struct model *model, enum command command)
{
    switch (command) {
    case COMMAND_START:
    case COMMAND_RESTART:
        model->accepting = true;
        model->draining = false;
        breaker_reset(core, model);
        return;
    case COMMAND_STOP:
        rollout_stop(core, model);
        model->accepting = false;
        requests_refuse_queued(core, model, REFUSED_UNAVAILABLE);
        return;
    case COMMAND_DRAIN:
        model->accepting = false;
        model->draining = true;
        return;
    case COMMAND_PROMOTE: rollout_promote(core, model); return;
    case COMMAND_ABORT: rollout_abort(core, model); return;
    case COMMAND_CHECKPOINT: return;
    }
}

void command_run(struct core *core, const struct event *event)
{
    if (event->model >= core->limits.models || !core->models[event->model].used ||
        core->shutting_down)
        return;
    struct model *model = &core->models[event->model];
    bool all = event->slot == CORE_ALL_SLOTS;
    if (model->removing)
        return;
    core->spare_came = true;
    if (all)
        command_model(core, model, event->command);
    /* The zygote first: the others wait for it. */
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < core->slots_high; i++) {
            struct slot *slot = &core->slots[i];
            bool meant = slot->used && slot->model == model->index && (all || event->slot == i) &&
                         (slot->role == ROLE_ZYGOTE) == !pass;
            /* A model that drains stops its slots itself, once they are idle. */
            if (meant && !slot->removing && !(all && event->command == COMMAND_DRAIN))
                command_slot(core, slot, event->command);
        }
    rollout_step(core, model);
    dispatch_model(core, model);
    model_settle(core, model);
}
