/*
 * versions.c: versions of models, good ones and bad ones, as an operator rolls them out or tries
 * them beside what runs.  Checks that no worker goes for the sake of a newer one before enough
 * others are ready, that a canary gets no more than its share, and that one that fails does not
 * stay.  That a version which never gets ready is rolled back shows in the end: nobody else would
 * make the model serve.
 */
#include "supervisor/sim/internal.h"

enum { PERCENT = 100, CREDIT = 400 /* what a canary may be ahead, besides a batch */ };

void versions_shape(struct sim *sim, struct model_policy *policy)
{
    struct random *r = &sim->random;
    policy->rollout.max_surge = random_below(r, 3);
    policy->rollout.max_unavailable = random_below(r, 4) ? 0 : 1 + random_below(r, 2);
    if (random_below(r, 4))
        policy->rollout.progress_deadline = sim_between(sim, 20 * HASUP_S, 300 * HASUP_S);
    policy->rollout.abort_error_rate = random_below(r, 50);
    policy->rollout.abort_min_requests = 1 + random_below(r, 30);
}

static struct sim_version *version_of(struct sim *sim, uint32_t model, uint32_t number)
{
    return &sim->models[model].versions[number % SIM_VERSIONS];
}

bool versions_is_dead(const struct sim *sim, const struct sim_slot *slot)
{
    return sim->models[slot->model].versions[slot->version % SIM_VERSIONS].dead;
}

bool versions_fails(struct sim *sim, const struct sim_slot *slot)
{
    unsigned permille = version_of(sim, slot->model, slot->version)->fails ? 900 : 20;
    return random_below(&sim->random, 1000) < permille;
}

/* ---- the operator ---- */

static void set(struct sim *sim, uint32_t model, bool restart, uint32_t version, uint32_t canary)
{
    sim_post(sim, &(struct event){.type = EVENT_MODEL_SET,
                                  .model = model,
                                  .model_set = {.policy = &sim->models[model].policy,
                                                .restart = restart,
                                                .version = version,
                                                .canary = canary}});
}

/* A bad one comes only where other faults do. */
static uint32_t make_version(struct sim *sim, uint32_t model, bool good)
{
    struct model_shape *shape = &sim->models[model];
    uint32_t number = ++shape->newest;
    bool program = shape->policy.kind != KIND_WORKERS;
    bool bad =
        !good && !program && sim->regime == REGIME_ROUGH && random_below(&sim->random, 3) == 0;
    *version_of(sim, model, number) =
        (struct sim_version){.dead = bad && random_below(&sim->random, 2), .fails = bad};
    return number;
}

void versions_configured(struct sim *sim, uint32_t model)
{
    set(sim, model, false, sim->models[model].filed, 0);
}

/* Whether nothing but another version would make it serve. */
static bool is_lost(struct sim *sim, uint32_t model)
{
    struct model_view view;
    if (!core_model_view(sim->core, model, &view) ||
        !version_of(sim, model, view.rollout.version)->dead)
        return false;
    return view.rollout.state == ROLLOUT_NONE ||
           (view.rollout.state == ROLLOUT_ROLLING && !view.rollout.other);
}

bool versions_mends(struct sim *sim, uint32_t model)
{
    if (!is_lost(sim, model))
        return false;
    operator_suspends(sim, model);
    sim->models[model].filed = make_version(sim, model, true);
    set(sim, model, true, sim->models[model].filed, 0);
    return true;
}

void versions_stop_recycling(struct sim *sim, uint32_t model)
{
    struct model_policy *policy = &sim->models[model].policy;
    struct model_view view;
    memset(&policy->recycle, 0, sizeof policy->recycle);
    if (core_model_view(sim->core, model, &view))
        set(sim, model, false, view.rollout.version, 0);
}

void versions_acts(struct sim *sim, uint32_t model)
{
    struct random *r = &sim->random;
    struct model_shape *shape = &sim->models[model];
    struct model_view view = {0};
    core_model_view(sim->core, model, &view);
    bool canary = view.rollout.state == ROLLOUT_CANARY;
    bool program = shape->policy.kind != KIND_WORKERS;
    switch (random_below(r, 4)) {
    case 0:
        shape->policy.workers = 1 + random_below(r, program ? 3 : 5);
        shape->scaled = sim->now;
        set(sim, model, false, view.rollout.version, 0);
        return;
    case 1:
        shape->filed = make_version(sim, model, false);
        set(sim, model, true, shape->filed, 0);
        return;
    case 2:
        if (shape->stateful || program)
            return;
        shape->share.given = shape->share.of = 0;
        set(sim, model, false, canary ? view.rollout.other : make_version(sim, model, false),
            1 + random_below(r, PERCENT));
        return;
    case 3:
        if (canary && random_below(r, 2))
            shape->filed = view.rollout.other;
        sim_post(sim, &(struct event){.type = EVENT_COMMAND,
                                      .model = model,
                                      .slot = CORE_ALL_SLOTS,
                                      .command = canary && shape->filed == view.rollout.other
                                                     ? COMMAND_PROMOTE
                                                     : COMMAND_ABORT});
        return;
    }
}

/* ---- what must hold ---- */

void versions_spawned(struct sim_slot *slot, const struct action *action, bool *changed)
{
    *changed = slot->version != action->version;
    slot->version = action->version;
}

struct count {
    uint32_t used, regular; /* slots; of the model, those that should serve */
    uint32_t ready;         /* now, amid the step: its end may be another one */
};

static struct count count_slots(const struct sim *sim, uint32_t model)
{
    struct count count = {0};
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        const struct sim_slot *slot = &sim->slots[i];
        struct slot_view view;
        count.ready += slot->used && slot->model == model && slot->role == ROLE_WORKER &&
                       slot->state == SLOT_READY;
        if (!core_slot_view(sim->core, i, &view))
            continue;
        count.used++;
        count.regular +=
            view.model == model && view.role == ROLE_WORKER && view.wanted && !view.extra;
    }
    return count;
}

void versions_drained(struct sim *sim, const struct sim_slot *slot)
{
    const uint32_t index = (uint32_t)(slot - sim->slots);
    const struct count count = count_slots(sim, slot->model);
    const struct model_policy *policy = &sim->models[slot->model].policy;
    struct model_view view;
    struct slot_view its;
    if (slot->recycling || slot->role != ROLE_WORKER ||
        !core_model_view(sim->core, slot->model, &view) ||
        !core_slot_view(sim->core, index, &its) || !its.wanted || !view.accepting ||
        view.rollout.state == ROLLOUT_NONE)
        return;
    uint32_t down = policy->rollout.max_unavailable;
    bool alone = slot->stateful || !policy->rollout.max_surge || count.used + 1 >= SIM_SLOTS;
    if (!down && alone)
        down = 1;
    if (count.ready + down < count.regular)
        sim_fail(sim, "slot %u drains for a newer one, and %u of %u are ready", index, count.ready,
                 count.regular);
}

void versions_recycled(struct sim *sim, const struct sim_slot *slot)
{
    const struct count count = count_slots(sim, slot->model);
    const struct model_policy *policy = &sim->models[slot->model].policy;
    struct model_view view;
    if (!core_model_view(sim->core, slot->model, &view))
        return;
    bool alone = slot->stateful || !policy->rollout.max_surge || count.used + 1 >= SIM_SLOTS ||
                 view.rollout.state == ROLLOUT_CANARY;
    if (!alone && count.ready <= count.regular) /* it is still ready, itself */
        sim_fail(sim, "slot %u is recycled with nobody in its place: %u of %u are ready",
                 (unsigned)(slot - sim->slots), count.ready, count.regular);
}

static bool stable_serves(const struct sim *sim, uint32_t model, uint32_t version)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++) {
        struct slot_view view;
        if (core_slot_view(sim->core, i, &view) && view.model == model &&
            view.role == ROLE_WORKER && view.state == SLOT_READY && view.version == version)
            return true;
    }
    return false;
}

void versions_dispatched(struct sim *sim, const struct sim_slot *slot, const struct client *client)
{
    struct model_shape *shape = &sim->models[slot->model];
    struct model_view view;
    if (!core_model_view(sim->core, slot->model, &view) || view.rollout.state != ROLLOUT_CANARY)
        return;
    bool canary = slot->version != view.rollout.version;
    if (canary && (client->died || !stable_serves(sim, slot->model, view.rollout.version)))
        return;
    shape->share.given += canary;
    shape->share.of++;
    uint64_t most = (uint64_t)view.rollout.weight * shape->share.of;
    uint64_t ahead = CREDIT + (uint64_t)PERCENT * slot->max_batch;
    if (shape->share.given * PERCENT > most + ahead)
        sim_fail(sim, "model %u: its canary had %u of %u requests, and its weight is %u %%",
                 slot->model, shape->share.given, shape->share.of, view.rollout.weight);
}

void versions_told(struct sim *sim, const struct action *action)
{
    sim->models[action->model].scaled = sim->now;
    if (action->rollout.to == ROLLOUT_CANARY)
        sim->models[action->model].share.given = sim->models[action->model].share.of = 0;
    if (action->rollout.to == ROLLOUT_REVERTING)
        sim->report->rollbacks++;
}

void versions_replied(struct sim *sim, const struct sim_slot *slot)
{
    const struct model_policy *policy = &sim->models[slot->model].policy;
    struct model_view view;
    if (!core_model_view(sim->core, slot->model, &view) || view.rollout.state != ROLLOUT_CANARY ||
        slot->version == view.rollout.version ||
        view.rollout.side[1].ended < policy->rollout.abort_min_requests)
        return;
    double stable = view.rollout.side[0].ended
                        ? (double)view.rollout.side[0].failed / (double)view.rollout.side[0].ended
                        : 0;
    double canary = (double)view.rollout.side[1].failed / (double)view.rollout.side[1].ended;
    if (canary > stable + (policy->rollout.abort_error_rate + 5) / 100.0)
        sim_fail(sim, "model %u: %.0f %% of its canary's requests fail, %.0f %% of the others",
                 slot->model, canary * PERCENT, stable * PERCENT);
}
