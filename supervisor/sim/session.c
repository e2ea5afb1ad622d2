/*
 * session.c: requests that belong together.  Checks that they run in one slot, as long as the model
 * has the same slots, and, where a session may move, the same ones are ready.
 */
#include "supervisor/sim/internal.h"

uint64_t session_of(const struct sim *sim, uint32_t model, uint64_t content)
{
    uint64_t session = 1 + sim_hash(content, 3) % (SIM_SESSIONS - 1);
    return sim->models[model].sessions && content % 4 ? session : 0;
}

static bool waits(const struct sim *sim, const struct sim_slot *slot)
{
    enum on_lost on_lost = sim->models[slot->model].policy.on_lost;
    return on_lost == ON_LOST_WAIT || (on_lost == ON_LOST_AUTO && slot->stateful);
}

static uint64_t *suspect(struct sim *sim, uint64_t content)
{
    return &sim->suspected[content % HASUP_LEN(sim->suspected)];
}

void session_suspected(struct sim *sim, uint64_t content)
{
    *suspect(sim, content) = content;
}

void session_dispatched(struct sim *sim, const struct sim_slot *slot, const struct client *client)
{
    const struct model_shape *shape = &sim->models[slot->model];
    uint64_t session = session_of(sim, slot->model, client->content);
    if (!session || client->replaying || client->died ||
        *suspect(sim, client->content) == client->content)
        return; /* it runs where somebody is idle */
    hasup_ns since = sim->seats[slot->model][session].submitted;
    uint32_t ordinal = sim->seats[slot->model][session].ordinal;
    since = client->submitted < since ? client->submitted : since; /* what waits stays there */
    struct model_view view = {0};
    core_model_view(sim->core, slot->model, &view);
    bool rolls = view.rollout.state != ROLLOUT_NONE;
    bool may_move =
        rolls || shape->scaled >= since || (!waits(sim, slot) && shape->changed >= since);
    if (since && ordinal != slot->ordinal && !may_move)
        sim_fail(sim, "request %llx runs in slot %u, and its session is in another one",
                 (unsigned long long)client->id, (unsigned)(slot - sim->slots));
    sim->seats[slot->model][session].ordinal = slot->ordinal;
    sim->seats[slot->model][session].submitted = rolls ? 0 : client->submitted;
}
