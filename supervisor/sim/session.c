/*
 * session.c: requests that belong together.  Checks that they run in one slot, as long as the model
 * has the same slots, and, where a session may move, the same ones are ready; and in the order in
 * which they came, where one has not more time than the other.
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

/* Whether the session may have another slot than it had then. */
static bool moved_since(struct sim *sim, const struct sim_slot *slot, hasup_ns then)
{
    const struct model_shape *shape = &sim->models[slot->model];
    struct model_view view = {0};
    core_model_view(sim->core, slot->model, &view);
    return view.rollout.state != ROLLOUT_NONE || shape->scaled >= then ||
           (!waits(sim, slot) && shape->changed >= then);
}

/* It waits in the queue since it came, and the journal has nothing to do with that. */
static bool waits_plainly(struct sim *sim, const struct client *client)
{
    return client->id && !client->ended && !client->gone && !client->dispatches && !client->died &&
           client->at_slot == UINT32_MAX && !client->durable && !client->person && !client->asks &&
           *suspect(sim, client->content) != client->content;
}

static hasup_ns until(const struct client *client)
{
    return client->deadline ? client->deadline : HASUP_NEVER;
}

/* Batches pass over requests of other keys. */
static void check_order(struct sim *sim, const struct sim_slot *slot, const struct client *client)
{
    uint64_t session = session_of(sim, slot->model, client->content);
    if (sim->models[slot->model].keyed || client->durable || client->person ||
        client->dispatches > 1)
        return;
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        const struct client *other = &sim->clients[i];
        if (waits_plainly(sim, other) && other->model == slot->model &&
            other->priority == client->priority && other->arrival < client->arrival &&
            session_of(sim, slot->model, other->content) == session &&
            until(other) <= until(client) && until(other) > sim->now &&
            !moved_since(sim, slot, other->submitted))
            sim_fail(sim, "request %llx runs before %llx, which came before it",
                     (unsigned long long)client->id, (unsigned long long)other->id);
    }
}

void session_dispatched(struct sim *sim, const struct sim_slot *slot, const struct client *client)
{
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
    check_order(sim, slot, client);
    if (since && ordinal != slot->ordinal && !moved_since(sim, slot, since))
        sim_fail(sim, "request %llx runs in slot %u, and its session is in another one",
                 (unsigned long long)client->id, (unsigned)(slot - sim->slots));
    sim->seats[slot->model][session].ordinal = slot->ordinal;
    sim->seats[slot->model][session].submitted = rolls ? 0 : client->submitted;
}
