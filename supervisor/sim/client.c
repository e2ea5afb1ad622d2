/*
 * client.c: who asks and who commands.  Checks what a client must hear: one end, nothing after it,
 * a stream without a gap, an answer only from a worker that gave it.
 */
#include "supervisor/sim/internal.h"

struct client *client_find(struct sim *sim, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= SIM_REQUESTS || sim->clients[index].id != id || !id)
        return NULL;
    return &sim->clients[index];
}

/* ---- asking ---- */

/* Promise 8: the queue's limit holds, and nobody is refused below it. */
static void check_admission(struct sim *sim, const struct client *client,
                            const struct model_view *before)
{
    uint32_t limit = sim->models[client->model].policy.queue.requests;
    if (!client->ended && before->queued >= limit)
        sim_fail(sim, "model %u took a request though %u wait, its limit is %u", client->model,
                 before->queued, limit);
    if (client->overloaded && before->queued < limit)
        sim_fail(sim, "model %u is overloaded with %u of %u in its queue", client->model,
                 before->queued, limit);
}

void client_open(struct sim *sim, uint32_t index, uint32_t model)
{
    struct random *r = &sim->random;
    struct client *client = &sim->clients[index];
    uint32_t generation = client->generation + 1;
    *client = (struct client){.id = (uint64_t)generation << 32 | index,
                              .generation = generation,
                              .model = model,
                              .submitted = sim->now,
                              .at_slot = UINT32_MAX,
                              .size = random_below(r, 4096),
                              .content = random_next(r)};
    sim->outstanding++;
    client->arrival = ++sim->report->requests;
}

static void submit(struct sim *sim, uint32_t index)
{
    struct model_view before = {0};
    struct random *r = &sim->random;
    struct client *client = &sim->clients[index];
    uint32_t model = random_below(r, sim->model_count);
    client_open(sim, index, model);
    client->chunks = sim->models[model].streams ? random_below(r, 6) : 0;
    client->poison = poison_is_drawn(sim, model);
    client->once = !sim->models[model].stateful && random_below(r, 4) == 0;
    client->name = random_below(r, 4);
    if (random_below(r, 2))
        client->deadline = sim->now + sim_between(sim, HASUP_MS, 20 * HASUP_S);
    if (sim_chance(sim, 40))
        sim_schedule(sim, sim->now + sim_between(sim, 0, 5 * HASUP_S), HAPPENS_LEAVE, 0, 0,
                     client->id);
    client->priority = (uint8_t)random_below(r, 10);
    bool there = core_model_view(sim->core, model, &before);
    struct event event = {.type = EVENT_SUBMITTED,
                          .model = model,
                          .request = client->id,
                          .submitted = {.size = client->size,
                                        .deadline = client->deadline,
                                        .once = client->once,
                                        .batch_key = batch_key(sim, model, client->content),
                                        .session = session_of(sim, model, client->content),
                                        .client = client->name,
                                        .priority = client->priority}};
    if (core_wants_hash(sim->core, model))
        poison_hash(sim, client, event.submitted.hash);
    sim->submitting = client;
    sim_post(sim, &event);
    sim->submitting = NULL;
    struct client now = client->id ? *client : sim->turned_away;
    if (there && now.model == model)
        check_admission(sim, &now, &before);
}

/* Bursts, most of them small, some that overflow the queue; then a while of silence. */
void client_arrivals(struct sim *sim)
{
    struct random *r = &sim->random;
    if (!sim->faults)
        return;
    uint32_t count = random_below(r, 10) ? 1 + random_below(r, 20) : 1 + random_below(r, 150);
    journal_admit(sim);
    for (uint32_t i = 0; i < SIM_REQUESTS && count && !sim->report->failed; i++)
        if (!sim->clients[i].id) {
            uint32_t who = random_below(r, 16);
            if (who >= 5 || (who == 4 && !person_looks(sim, i)))
                submit(sim, i);
            else if (who < 4)
                person_asks(sim, i);
            count--;
        }
    hasup_ns pause = random_below(r, 4) ? sim_between(sim, HASUP_MS, 10 * HASUP_S)
                                        : sim_between(sim, HASUP_S, 400 * HASUP_S);
    sim_schedule(sim, sim->now + pause, HAPPENS_ARRIVAL, 0, 0, 0);
}

void client_leaves(struct sim *sim, uint64_t id)
{
    struct client *client = client_find(sim, id);
    if (!client || client->ended)
        return;
    client->gone = true;
    sim->outstanding--;
    sim->report->cancelled++;
    if (client->person)
        client->person->asking--;
    sim_post(sim, &(struct event){.type = EVENT_CANCELLED, .request = id});
}

/* ---- hearing ---- */

static struct client *client_ends(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (!client) {
        sim_fail(sim, "%s of an unknown request", action_name(action->type));
        return NULL;
    }
    if (client->ended || client->gone)
        sim_fail(sim, "request %llx hears a second end (%s)", (unsigned long long)client->id,
                 action_name(action->type));
    client->ended = true;
    sim->outstanding--;
    if (client->person)
        client->person->asking--;
    return client;
}

/* An answer of the journal's: of the request itself, or of the one that it joined. */
static void answered_durably(struct sim *sim, struct client *client, const struct action *action)
{
    struct client *of = client_find(sim, action->answer.of);
    if (of && !of->held)
        sim_fail(sim, "request %llx is answered with what nobody holds any more",
                 (unsigned long long)client->id);
    if (!of || !of->row || !of->row->finished || of->row->value != of->value)
        sim_fail(sim, "request %llx is answered and its result is not durable",
                 (unsigned long long)client->id);
    else if (client->heard != of->row->chunks)
        sim_fail(sim, "request %llx: its stream ends with %llu of %llu chunks",
                 (unsigned long long)client->id, (unsigned long long)client->heard,
                 (unsigned long long)of->row->chunks);
    else
        person_hears(sim, client, of->row);
}

void client_answered(struct sim *sim, const struct action *action)
{
    struct client *client = client_ends(sim, action);
    sim->report->answered++;
    if (!client)
        return;
    if (action->answer.of) {
        answered_durably(sim, client, action);
        return;
    }
    if (client->person)
        client->person->answered = true;
    if (client->durable && !journal_is_nobodys(sim, client))
        sim_fail(sim, "request %llx is answered from the hand, and somebody may come back for it",
                 (unsigned long long)client->id);
    if (sim->current->type != EVENT_REPLIED || sim->current->request != action->request)
        sim_fail(sim, "request %llx is answered without a reply in hand",
                 (unsigned long long)client->id);
    if (client->at_slot != UINT32_MAX)
        sim_fail(sim, "request %llx is answered though its worker still runs it",
                 (unsigned long long)client->id);
    if (client->received != client->produced)
        sim_fail(sim, "request %llx: the stream ends with %llu of %llu bytes",
                 (unsigned long long)client->id, (unsigned long long)client->received,
                 (unsigned long long)client->produced);
}

static void chunk_durably(struct sim *sim, struct client *client, const struct action *action)
{
    struct client *of = client_find(sim, action->chunk.of);
    if (!of || !of->row || action->chunk.number > of->row->chunks)
        sim_fail(sim, "request %llx hears a chunk that is not durable",
                 (unsigned long long)client->id);
    if (action->chunk.number != client->heard + 1)
        sim_fail(sim, "request %llx hears chunk %llu after %llu", (unsigned long long)client->id,
                 (unsigned long long)action->chunk.number, (unsigned long long)client->heard);
    if (!of || !of->row)
        return;
    bool lost = client->person && client->person->lost;
    if (client->heard && (client->heard_of != of->row->record ||
                          (client->heard_variant != of->row->variant && !lost)))
        sim_fail(sim, "request %llx: a stream goes on behind what its client has of another one",
                 (unsigned long long)client->id);
    client->heard = action->chunk.number;
    client->heard_variant = of->row->variant;
    client->heard_of = of->row->record;
    if (client->person) {
        client->person->heard_of = client->heard_of;
        client->person->heard = client->heard;
        client->person->variant = client->heard_variant;
    }
}

void client_chunk(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (client && !client->ended && !client->gone && action->chunk.of) {
        chunk_durably(sim, client, action);
        return;
    }
    if (!client || client->ended || client->gone || sim->current->type != EVENT_CHUNKED) {
        sim_fail(sim, "a chunk for nobody");
        return;
    }
    uint64_t size = sim->current->chunked.size, from = client->produced - size + action->chunk.skip;
    if (from != client->received)
        sim_fail(sim, "request %llx: its stream goes on at byte %llu, it has %llu",
                 (unsigned long long)client->id, (unsigned long long)from,
                 (unsigned long long)client->received);
    if (client->received && client->variant != client->run_variant)
        sim_fail(sim, "request %llx: two different streams were spliced",
                 (unsigned long long)client->id);
    client->variant = client->run_variant;
    client->received = client->produced;
}

/* Nobody is above a rate where there is no limit of it. */
static void check_rate(struct sim *sim, const struct client *client)
{
    const struct model_policy *policy = &sim->models[client->model].policy;
    if (!policy->rate.per_second && !(policy->rate.client_per_second && client->name))
        sim_fail(sim, "request %llx is above a rate that has no limit",
                 (unsigned long long)client->id);
}

void client_refused(struct sim *sim, const struct action *action)
{
    enum refusal why = action->refuse.why;
    struct client *client = client_ends(sim, action);
    sim->report->refused++;
    if (client && client->person &&
        (why == REFUSED_QUARANTINED || why == REFUSED_KEY_REUSED ||
         why == REFUSED_ANSWER_TOO_LARGE)) /* there is no other answer */
        client->person->answered = true;
    if ((why == REFUSED_OVERLOADED || why == REFUSED_UNAVAILABLE || why == REFUSED_LATE ||
         why == REFUSED_RATE) &&
        action->refuse.retry_after <= 0)
        sim_fail(sim, "refused without a time to try again");
    if (client && why == REFUSED_GONE) {
        if (!client->heard)
            sim_fail(sim, "request %llx is refused as gone, and asked for the whole stream",
                     (unsigned long long)client->id);
        if (client->person)
            client->person->heard = 0;
    }
    /* The honest end of a stream whose key is free again: what comes with it begins anew. */
    if (client && why == REFUSED_NOT_DURABLE && client->person)
        client->person->heard = 0;
    if (client)
        client->overloaded = why == REFUSED_OVERLOADED;
    if (client && why == REFUSED_QUARANTINED && !client->person && !client->asks &&
        !poison_is_quarantined(sim, client))
        sim_fail(sim, "request %llx is refused as quarantined, and its body is not",
                 (unsigned long long)client->id);
    if (client && why == REFUSED_TOO_LARGE && client->size <= SIM_DURABLE)
        sim_fail(sim, "request %llx is called too large and is not",
                 (unsigned long long)client->id);
    if (client && why == REFUSED_ANSWER_TOO_LARGE &&
        journal_answer_size(client->content) <= SIM_DURABLE)
        sim_fail(sim, "request %llx: its answer is called too large and is not",
                 (unsigned long long)client->id);
    if (client && why == REFUSED_INTERRUPTED && !client->asks &&
        !(client->once && (client->dispatches || (client->row && client->row->given))))
        sim_fail(sim, "request %llx is refused as interrupted, and might run",
                 (unsigned long long)client->id);
    if (client && why == REFUSED_LATE && !client->deadline &&
        sim->current->type == EVENT_SUBMITTED && sim->current->request == client->id &&
        !sim->current->submitted.record)
        sim_fail(sim, "request %llx is called late, and has no deadline",
                 (unsigned long long)client->id);
    if (client && why == REFUSED_RATE)
        check_rate(sim, client);
    if (client && why == REFUSED_DEADLINE && !client->asks &&
        (!client->deadline || client->deadline > sim->now))
        sim_fail(sim, "request %llx is refused before its deadline",
                 (unsigned long long)client->id);
}

void client_forgotten(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (!client) {
        sim_fail(sim, "an unknown request is forgotten");
        return;
    }
    if (client->at_slot != UINT32_MAX)
        sim_fail(sim, "request %llx is forgotten while a worker has it",
                 (unsigned long long)client->id);
    if (!client->ended && !client->gone)
        sim_fail(sim, "request %llx is forgotten though somebody waits",
                 (unsigned long long)client->id);
    if (sim->waiting)
        sim_schedule(sim, sim->now + HASUP_MS, HAPPENS_ADMIT, 0, 0, 0);
    uint32_t generation = client->generation;
    if (client == sim->submitting)
        sim->turned_away = *client;
    *client = (struct client){.generation = generation};
}

/* ---- the operator ---- */

void operator_suspends(struct sim *sim, uint32_t model)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (sim->slots[i].used && sim->slots[i].model == model) {
            sim->slots[i].wild = true;
            sim->slots[i].unhealthy = 0;
        }
}

void operator_acts(struct sim *sim)
{
    struct random *r = &sim->random;
    uint32_t model = random_below(r, SIM_ALL);
    static const enum command COMMANDS[] = {COMMAND_START,   COMMAND_STOP,       COMMAND_RESTART,
                                            COMMAND_RESTART, COMMAND_CHECKPOINT, COMMAND_DRAIN};
    if (!sim->faults)
        return;
    while (!sim->models[model].used)
        model = random_below(r, SIM_ALL);
    if (sim->records)
        person_drops(sim, 1 + random_next(r) % sim->records);
    operator_suspends(sim, model);
    poison_unsettled(sim);
    if (random_below(r, 8) == 0) {
        sim_post(sim, &(struct event){.type = EVENT_MODEL_REMOVED, .model = model});
    } else if (versions_mends(sim, model)) {
        ;
    } else if (random_below(r, 3) == 0) {
        versions_acts(sim, model);
    } else {
        enum command command = COMMANDS[random_below(r, HASUP_LEN(COMMANDS))];
        uint32_t slot = random_below(r, 2) ? CORE_ALL_SLOTS : random_below(r, SIM_SLOTS);
        sim_post(sim, &(struct event){
                          .type = EVENT_COMMAND, .model = model, .slot = slot, .command = command});
        operator_suspends(sim, model);
        if (random_below(r, 3))
            sim_post(sim, &(struct event){.type = EVENT_COMMAND,
                                          .model = model,
                                          .slot = CORE_ALL_SLOTS,
                                          .command = COMMAND_START});
    }
    sim_schedule(sim, sim->now + sim_between(sim, HASUP_S, 900 * HASUP_S), HAPPENS_OPERATOR, 0, 0,
                 0);
}
