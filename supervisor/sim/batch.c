/*
 * batch.c: requests that run together.  Checks that a batch is handed over in one piece, is no
 * longer than the worker takes, and holds like requests only; and lets the fake worker take it as
 * one.  A stateful model's state depends on what ran together, so that a replay must repeat it.
 */
#include "supervisor/sim/internal.h"

uint64_t batch_key(const struct sim *sim, uint32_t model, uint64_t content)
{
    return sim->models[model].keyed ? content % 3 : 0;
}

/* Another action comes; between the members of a batch none may. */
void batch_check_whole(struct sim *sim, const struct action *action)
{
    bool goes_on = action && action->type == ACTION_DISPATCH && action->slot == sim->batch.slot;
    if (sim->batch.open && !goes_on)
        sim_fail(sim, "slot %u was given a batch without its end", sim->batch.slot);
}

void batch_dispatched(struct sim *sim, struct sim_slot *slot, struct client *client,
                      const struct action *action)
{
    uint64_t key = batch_key(sim, client->model, client->content);
    if (!sim->batch.open) {
        sim->batch.number++;
        sim->batch.slot = action->slot;
        sim->batch.count = 0;
        sim->batch.key = key;
        sim->batch.replay = action->dispatch.replay;
        if (slot->running >= slot->concurrency)
            sim_fail(sim, "slot %u has %u in hand and takes %u", action->slot, slot->running,
                     slot->concurrency);
        slot->running++;
    }
    client->batch = sim->batch.number;
    sim->batch.open = action->dispatch.more;
    sim->batch.count++;
    if (sim->batch.count > slot->max_batch)
        sim_fail(sim, "slot %u was given %u together and takes %u", action->slot, sim->batch.count,
                 slot->max_batch);
    if (key != sim->batch.key)
        sim_fail(sim, "request %llx shares a batch with requests of another key",
                 (unsigned long long)client->id);
    if (action->dispatch.replay != sim->batch.replay)
        sim_fail(sim, "request %llx: a replay shares a batch with what is none",
                 (unsigned long long)client->id);
    if (action->dispatch.resume && (sim->batch.count > 1 || sim->batch.open))
        sim_fail(sim, "request %llx goes on within a batch", (unsigned long long)client->id);
}

void batch_replied(struct sim *sim, struct sim_slot *slot, const struct client *client)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        if (sim->clients[i].id && sim->clients[i].batch == client->batch &&
            &sim->clients[i] != client && sim->clients[i].at_slot != UINT32_MAX)
            return;
    slot->running--;
}

struct client *batch_taken(struct sim *sim, struct worker *worker)
{
    const struct ring *inbox = &worker->inbox;
    struct client *killer = NULL;
    bool more = true;
    worker->batch_first = inbox->list[inbox->start].position;
    for (worker->batch_left = 0; more && worker->batch_left < inbox->count; worker->batch_left++) {
        unsigned at = (inbox->start + worker->batch_left) % SIM_QUEUE;
        struct client *client = client_find(sim, inbox->list[at].request);
        if (client && !killer && poison_kills(sim, client))
            killer = client;
        more = inbox->list[at].more;
    }
    return killer;
}
