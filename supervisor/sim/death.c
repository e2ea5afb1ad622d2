/*
 * death.c: the death of hasupd, and the next one.  What was not committed is gone, all or a part of
 * it; then a new core is given what the journal and the disk hold, and nothing else.
 */
#include "supervisor/sim/internal.h"

void hasupd_dies(struct sim *sim)
{
    /* What was being written may be there or not, but always the first of it before the others. */
    unsigned written = random_below(&sim->random, sim->write_count + 1);
    for (unsigned i = 0; i < written; i++) {
        struct journal_write write = write_take(sim);
        commit_one(sim, &write);
    }
    sim->write_count = sim->disk_count = sim->pending_count = 0;
    sim->writing = false;
    sim->disk_free_at = sim->now;
    sim->life++;
    sim->report->deaths++;
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        sim->clients[i] = (struct client){.generation = sim->clients[i].generation};
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        sim->slots[i] = (struct sim_slot){.worker = {.number = 0}};
    for (unsigned i = 0; i < SIM_PEOPLE; i++)
        sim->people[i].asking = 0;
    sim->outstanding = 0;
    for (unsigned i = 0; i < SIM_ALL; i++)
        for (unsigned k = 0; k < SIM_SLOTS; k++)
            vault_forget_memory(&sim->vaults[i][k]);
    handover_forget(sim);
    core_free(sim->core);
    sim->core = core_new(&sim->limits, random_next(&sim->random));
    core_first_record(sim->core, sim->records + 1);
    poison_unsettled(sim);
    hasupd_starts(sim);
}

static struct client *recover_client(struct sim *sim, struct row *row)
{
    for (uint32_t i = 0; i < SIM_REQUESTS; i++) {
        if (sim->clients[i].id)
            continue;
        client_open(sim, i, row->model);
        struct client *client = &sim->clients[i];
        sim->outstanding--; /* nobody waits for it */
        client->gone = client->durable = true;
        client->row = row;
        client->content = row->content;
        client->chunks = row->chunks_asked;
        client->received = row->bytes;
        client->variant = row->variant;
        client->deadline = row->deadline;
        wants_until(client, row->deadline);
        client->poison = row->poison;
        client->async = row->async;
        client->once = row->once;
        client->size = row->size;
        return client;
    }
    return NULL;
}

static struct event recovered(const struct row *row, enum recovery what, uint64_t request)
{
    return (struct event){.type = EVENT_RECOVERED,
                          .model = row->model,
                          .request = request,
                          .recovered = {.what = what,
                                        .record = row->record,
                                        .key = {row->key[0], row->key[1]},
                                        .body = row->body,
                                        .hash = {row->content, row->model + 1},
                                        .size = row->size,
                                        .deadline = row->deadline,
                                        .expires = row->expires,
                                        .async = row->async,
                                        .once = row->once,
                                        .batch = row->batch,
                                        .batch_key = row->batch_key,
                                        .session = row->session,
                                        .refused = row->refused,
                                        .why = row->why,
                                        .attempts = row->attempts,
                                        .sent = row->bytes,
                                        .chunks = row->chunks,
                                        .position = row->position,
                                        .digest = row->digest}};
}

/* The row of a slot's log with the least position above `position`. */
static struct row *log_after(struct sim *sim, const struct sim_slot *slot, uint64_t position)
{
    struct row *next = NULL;
    for (unsigned i = 0; i < SIM_ROWS; i++) {
        struct row *row = &sim->rows[i];
        if (row->used && row->finished && row->position > position && row->model == slot->model &&
            row->ordinal == slot->ordinal && (!next || row->position < next->position))
            next = row;
    }
    return next;
}

/* There was no room for the log: none of it counts any more. */
static void recover_cut(struct sim *sim, uint32_t index, uint64_t position)
{
    struct sim_slot *slot = &sim->slots[index];
    for (struct row *row; (row = log_after(sim, slot, position)); position = row->position)
        continue;
    slot->oracle_known = slot->vault->oracle_known = false;
    slot->vault->lost = slot->vault->cut = position;
    sim_post(sim, &(struct event){.type = EVENT_RECOVERED,
                                  .slot = index,
                                  .recovered = {.what = RECOVERY_CUT, .position = position}});
}

/* The journal is read after what was written to it before: of a model that comes back at once, the
 * last of it is still on its way. */
static uint64_t trimmed_at(const struct sim *sim, const struct sim_slot *slot)
{
    uint64_t trimmed = slot->vault->trimmed;
    for (unsigned i = 0; i < sim->write_count; i++) {
        const struct journal_write *write =
            &sim->writes[(sim->write_start + i) % HASUP_LEN(sim->writes)];
        if (write->what == PERSIST_TRIM && write->model == slot->model &&
            write->ordinal == slot->ordinal && write->position > trimmed)
            trimmed = write->position;
    }
    return trimmed;
}

void journal_recover_slot(struct sim *sim, uint32_t index)
{
    struct sim_slot *slot = &sim->slots[index];
    struct vault *vault = slot->vault;
    struct event trimmed = {
        .type = EVENT_RECOVERED,
        .slot = index,
        .recovered = {.what = RECOVERY_TRIMMED, .position = trimmed_at(sim, slot)}};
    uint64_t position = trimmed.recovered.position;
    struct row *row;
    bool exact = sim->models[slot->model].policy.journal == JOURNALS_ALWAYS;
    slot->oracle_known = vault->oracle_known && !vault->apart && (exact || !vault->used);
    vault->used = true;
    slot->oracle = vault->oracle;
    if (position)
        sim_post(sim, &trimmed);
    for (; (row = log_after(sim, slot, position)); position = row->position) {
        struct client *client = recover_client(sim, row);
        if (!client) {
            recover_cut(sim, index, position);
            return;
        }
        struct event event = recovered(row, RECOVERY_LOGGED, client->id);
        event.slot = index;
        sim_post(sim, &event);
    }
    if (!slot->oracle_known)
        vault->lost = position;
}

/* Where the end of a key's request was not written before hasupd died, and the key's owner came
 * again: the key is the later one's. */
static void outlive(struct sim *sim, const struct row *later)
{
    for (unsigned i = 0; i < SIM_ROWS; i++) {
        struct row *row = &sim->rows[i];
        if (row->used && row->record < later->record && row_has_key(row) &&
            memcmp(row->key, later->key, sizeof row->key) == 0)
            row->outlived = true;
    }
}

void hasupd_starts(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_ALL; i++)
        if (sim->models[i].used)
            versions_configured(sim, i);
    for (unsigned i = 0; i < sim->model_count; i++)
        poison_recover(sim, i);
    for (uint64_t record = 1; record <= sim->records; record++) {
        struct row *row = journal_row(sim, record);
        struct event event;
        if (!row)
            continue;
        outlive(sim, row);
        if (row->finished) {
            event = recovered(row, RECOVERY_FINISHED, 0);
            event.recovered.size = row->record % 1000;
        } else {
            event = recovered(row, RECOVERY_WAITING, 0);
            row->waits = sim->waiting = true;
        }
        sim_post(sim, &event);
    }
    journal_admit(sim);
}

void journal_admit(struct sim *sim)
{
    bool before = sim->waiting;
    sim->waiting = false;
    for (unsigned i = 0; i < SIM_ROWS && before; i++) {
        struct row *row = &sim->rows[i];
        struct model_view view;
        if (!row->used || !row->waits || row->forgotten)
            continue;
        bool there = core_model_view(sim->core, row->model, &view);
        struct client *client = there ? recover_client(sim, row) : NULL;
        sim->waiting |= !client;
        if (!client)
            continue;
        row->waits = false;
        client->kept = row->bytes;
        struct event event = recovered(row, RECOVERY_REQUEST, client->id);
        sim_post(sim, &event);
    }
}
