/*
 * person.c: people with keys.  They come back until they have their answer, and remember it: nobody
 * may ever be told two different ones, nor one that the journal does not hold.
 */
#include "supervisor/sim/internal.h"

static void person_begin(struct sim *sim, struct person *person)
{
    struct random *r = &sim->random;
    uint32_t model = random_below(r, sim->model_count);
    *person = (struct person){.key = {random_next(r) | 1, random_next(r)},
                              .content = random_next(r),
                              .model = model,
                              .chunks = sim->models[model].streams ? random_below(r, 6) : 0,
                              .poison = poison_is_drawn(sim, model)};
}

/* A request that runs with this key may go on as long as this one has time. */
static void person_joins(struct sim *sim, const struct person *person, const struct client *with)
{
    for (unsigned i = 0; i < SIM_REQUESTS; i++) {
        struct client *client = &sim->clients[i];
        bool same = client->person == person ||
                    (client->row && memcmp(client->row->key, person->key, sizeof person->key) == 0);
        if (client->durable && same)
            wants_until(client, with->deadline);
    }
}

static void person_submit(struct sim *sim, struct person *person, uint32_t index)
{
    struct random *r = &sim->random;
    client_open(sim, index, person->model);
    struct client *client = &sim->clients[index];
    client->person = person;
    client->content = person->content;
    client->chunks = person->chunks;
    client->poison = person->poison;
    client->async = sim->faults && random_below(r, 5) == 0;
    if (sim->faults && random_below(r, 3) == 0)
        client->deadline = sim->now + sim_between(sim, HASUP_MS, 20 * HASUP_S);
    bool other_body = sim_chance(sim, 10);
    person->asking++;
    if (sim_chance(sim, 60))
        sim_schedule(sim, sim->now + sim_between(sim, 0, 5 * HASUP_S), HAPPENS_LEAVE, 0, 0,
                     client->id);
    struct event event = {.type = EVENT_SUBMITTED,
                          .model = person->model,
                          .request = client->id,
                          .submitted = {.size = client->size,
                                        .deadline = client->deadline,
                                        .async = client->async,
                                        .no_wait = sim_chance(sim, 50),
                                        .key = {person->key[0], person->key[1]},
                                        .batch_key = batch_key(sim, person->model, person->content),
                                        .session = session_of(sim, person->model, person->content),
                                        .body = sim_hash(person->content, 7) + other_body}};
    if (person->heard && !client->async && random_below(r, 2)) { /* Last-Event-ID */
        event.submitted.heard = client->heard = person->heard;
        client->heard_variant = person->variant;
        event.submitted.heard_of = client->heard_of = person->heard_of;
    }
    if (core_wants_hash(sim->core, person->model))
        poison_hash(sim, client, event.submitted.hash);
    person_joins(sim, person, client);
    sim_post(sim, &event);
}

bool person_looks(struct sim *sim, uint32_t index)
{
    struct random *r = &sim->random;
    const struct row *row =
        sim->records ? journal_row(sim, 1 + random_next(r) % sim->records) : NULL;
    for (unsigned i = 0; i < SIM_REQUESTS && random_below(r, 8); i++) /* mostly one that runs */
        if (sim->clients[i].row && !sim->clients[i].row->finished)
            row = sim->clients[i].row;
    if (!row)
        return false;
    client_open(sim, index, row->model);
    struct client *client = &sim->clients[index];
    client->asks = true;
    client->content = row->content;
    client->size = row->size;
    if (random_below(r, 2))
        client->deadline = sim->now + sim_between(sim, HASUP_MS, 60 * HASUP_S);
    sim_schedule(sim, sim->now + sim_between(sim, 0, 20 * HASUP_S), HAPPENS_LEAVE, 0, 0,
                 client->id);
    sim_post(sim,
             &(struct event){.type = EVENT_SUBMITTED,
                             .model = row->model,
                             .request = client->id,
                             .submitted = {.deadline = client->deadline, .record = row->record}});
    return true;
}

void person_asks(struct sim *sim, uint32_t index)
{
    struct random *r = &sim->random;
    struct person *person = &sim->people[random_below(r, SIM_PEOPLE)];
    bool done = person->answered && !person->asking && random_below(r, 3) == 0;
    if (!person->key[0] || done)
        person_begin(sim, person);
    person_submit(sim, person, index);
}

void person_hears(struct sim *sim, struct client *client, const struct row *row)
{
    struct person *person = client->person;
    if (!person)
        return;
    if (person->answered && sim->now < person->expires && person->value != row->value)
        sim_fail(sim, "request %llx: one key was answered in two ways",
                 (unsigned long long)client->id);
    person->answered = true;
    person->value = row->value;
    person->expires = row->expires;
}

void person_accepted(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (!client || client->ended) {
        sim_fail(sim, "ACCEPTED of an unknown request");
        return;
    }
    if (!journal_row(sim, action->record))
        sim_fail(sim, "request %llx is called accepted and is not durable",
                 (unsigned long long)client->id);
    if (!client->async)
        return;
    client->ended = true;
    sim->outstanding -= !client->gone;
    if (client->person)
        client->person->asking--;
}

void person_retold(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    const struct row *row = journal_row(sim, action->record);
    if (!client || client->ended || client->gone) {
        sim_fail(sim, "RETELL to nobody");
        return;
    }
    if (!row || !row->finished || row->refused)
        sim_fail(sim, "request %llx hears a stored answer that is not stored",
                 (unsigned long long)client->id);
    else if (client->heard && client->heard_of != row->record)
        sim_fail(sim, "request %llx hears the rest of another stream",
                 (unsigned long long)client->id);
    else
        person_hears(sim, client, row);
    client->ended = true;
    sim->outstanding--;
    if (client->person)
        client->person->asking--;
}

bool people_are_content(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_PEOPLE; i++)
        if (sim->people[i].key[0] && !sim->people[i].answered)
            return false;
    return true;
}

void person_drops(struct sim *sim, uint64_t record)
{
    const struct row *row = journal_row(sim, record);
    for (unsigned i = 0; i < SIM_PEOPLE && row; i++)
        if (sim->people[i].key[0] == row->key[0])
            sim->people[i].expires = 0;
    sim_post(sim, &(struct event){.type = EVENT_DROPPED, .record = record});
}

void people_complain(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_PEOPLE; i++)
        if (sim->people[i].key[0] && !sim->people[i].answered)
            sim_fail(sim, "person %u, who asks model %u, never had his answer (asking %u)", i,
                     sim->people[i].model, sim->people[i].asking);
}

void people_return(struct sim *sim)
{
    uint32_t index = 0;
    journal_admit(sim);
    for (unsigned i = 0; i < SIM_PEOPLE; i++) {
        struct person *person = &sim->people[i];
        if (!person->key[0] || person->answered || person->asking)
            continue;
        while (index < SIM_REQUESTS && sim->clients[index].id)
            index++;
        if (index == SIM_REQUESTS)
            return;
        person_submit(sim, person, index);
    }
}
