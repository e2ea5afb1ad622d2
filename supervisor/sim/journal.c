/*
 * journal.c: the fake journal.  Writes are committed in order, in groups, after a while; a group
 * may fail, and when hasupd dies (death.c), what was not committed is gone.
 */
#include "supervisor/sim/internal.h"

/* ---- rows ---- */

static struct row *row_find(struct sim *sim, uint64_t record)
{
    for (unsigned i = 0; i < SIM_ROWS; i++)
        if (sim->rows[i].used && sim->rows[i].record == record)
            return &sim->rows[i];
    return NULL;
}

struct row *journal_row(struct sim *sim, uint64_t record)
{
    struct row *row = row_find(sim, record);
    return row && !row->forgotten ? row : NULL;
}

static void row_add(struct sim *sim, const struct row *from)
{
    for (unsigned i = 0; i < SIM_ROWS; i++)
        if (!sim->rows[i].used) {
            sim->rows[i] = *from;
            sim->rows[i].used = true;
            sim->rows[i].waits = false;
            return;
        }
    sim_fail(sim, "the journal grows without bound");
}

/* ---- writing ---- */

static void write_add(struct sim *sim, const struct journal_write *write)
{
    if (sim->write_count == HASUP_LEN(sim->writes)) {
        sim_fail(sim, "the journal's queue grows without bound");
        return;
    }
    sim->writes[(sim->write_start + sim->write_count++) % HASUP_LEN(sim->writes)] = *write;
    if (!write->lazy)
        journal_sync(sim);
}

void journal_sync(struct sim *sim)
{
    if (sim->writing || !sim->write_count)
        return;
    sim->writing = true;
    sim->write_group = 0;
    bool slow = sim_chance(sim, 20);
    sim_schedule(sim,
                 sim->now + sim_between(sim, 50 * HASUP_US, slow ? 500 * HASUP_MS : 2 * HASUP_MS),
                 HAPPENS_COMMIT, 0, 0, 0);
}

/* What the shell keeps of streams whose end is not stored. */
static void check_streamed(struct sim *sim)
{
    uint64_t kept = 0;
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        kept += sim->clients[i].id ? sim->clients[i].kept : 0;
    if (kept > SIM_STREAMED)
        sim_fail(sim, "%llu bytes of streams are kept, more than %d", (unsigned long long)kept,
                 SIM_STREAMED);
}

static void persist_chunk(struct sim *sim, const struct action *action, struct client *client,
                          struct journal_write *write)
{
    uint64_t size = sim->current->chunked.size;
    if (sim->current->type != EVENT_CHUNKED || sim->current->request != action->request) {
        sim_fail(sim, "a chunk is stored that is not in hand");
        return;
    }
    if (client->produced - size + action->persist.skip != client->received)
        sim_fail(sim, "request %llx: its stream is stored from byte %llu, %llu are stored",
                 (unsigned long long)client->id,
                 (unsigned long long)(client->produced - size + action->persist.skip),
                 (unsigned long long)client->received);
    if (client->received && client->variant != client->run_variant)
        sim_fail(sim, "request %llx: two different streams were spliced",
                 (unsigned long long)client->id);
    client->variant = client->run_variant;
    write->size = client->produced - client->received;
    write->row.variant = client->variant;
    client->kept += write->size;
    client->received = client->produced;
    check_streamed(sim);
}

void journal_hold(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (!client || sim->current->type != EVENT_REPLIED || sim->current->request != action->request)
        sim_fail(sim, "HOLD without a reply in hand");
    else
        client->held = true;
}

void journal_release(struct sim *sim, const struct action *action)
{
    struct client *client = client_find(sim, action->request);
    if (!client || !client->held)
        sim_fail(sim, "RELEASE of what nobody holds");
    else
        client->held = false;
    if (client)
        client->kept = 0;
}

uint64_t journal_answer_size(uint64_t content)
{
    uint64_t lot = sim_hash(content, 13);
    return lot % 251 ? lot % SIM_DURABLE : SIM_DURABLE + 1;
}

static void check_size(struct sim *sim, uint64_t size)
{
    if (size > SIM_DURABLE)
        sim_fail(sim, "%llu bytes are given to the journal, which takes %d",
                 (unsigned long long)size, SIM_DURABLE);
}

static void persist_result(struct sim *sim, const struct action *action, struct client *client,
                           struct journal_write *write)
{
    if (!client->held)
        sim_fail(sim, "a result is stored of a reply that nobody holds");
    if (!action->persist.refused)
        check_size(sim, journal_answer_size(client->content));
    write->row.value = client->value;
    write->row.digest = action->persist.digest;
    write->row.position = action->persist.position;
    write->row.batch = action->persist.batch;
    write->row.refused = action->persist.refused;
    write->row.why = action->persist.why;
    write->row.attempts = action->persist.attempts;
    write->row.expires = action->persist.expires;
    if (!action->persist.position)
        return;
    write->ordinal = sim->slots[action->slot].ordinal;
}

bool row_has_key(const struct row *row)
{
    return !row->outlived && (row->key[0] || row->key[1]);
}

/* The core lets go of an answer whose time is not over, because there are too many bytes of them:
 * who comes with its key may hear another one, as after its time, and has to begin its stream anew.
 */
static void forgotten_early(struct sim *sim, const struct row *row)
{
    for (unsigned i = 0; i < SIM_PEOPLE && row && row->finished && sim->limits.result_bytes; i++)
        if (sim->people[i].key[0] == row->key[0]) {
            sim->people[i].expires = 0;
            sim->people[i].lost = true;
        }
}

bool journal_is_nobodys(const struct sim *sim, const struct client *client)
{
    return client->row && !client->async && !client->person && !client->row->chunks &&
           !sim->models[client->model].stateful && !row_has_key(client->row);
}

static void persist_done(struct sim *sim, const struct client *client)
{
    if (!client || !journal_is_nobodys(sim, client))
        sim_fail(sim, "a row goes and its answer, for which somebody may come back");
    else if (!client->ended && !client->gone)
        sim_fail(sim, "request %llx: its row goes before it is answered",
                 (unsigned long long)client->id);
}

void wants_until(struct client *client, hasup_ns deadline)
{
    if (!deadline)
        deadline = HASUP_NEVER / 2;
    if (deadline > client->latest)
        client->latest = deadline;
}

void journal_persist(struct sim *sim, const struct action *action)
{
    struct client *client = action->request ? client_find(sim, action->request) : NULL;
    struct journal_write write = {.what = action->persist.what,
                                  .lazy = action->persist.lazy,
                                  .request = action->request,
                                  .record = action->record,
                                  .position = action->persist.position};
    switch (action->persist.what) {
    case PERSIST_ACCEPT:
        check_size(sim, client->size);
        client->durable = true;
        wants_until(client, client->deadline);
        sim->records = action->record > sim->records ? action->record : sim->records;
        write.row = (struct row){.record = action->record,
                                 .content = client->content,
                                 .body = sim_hash(client->content, 7),
                                 .size = client->size,
                                 .model = client->model,
                                 .chunks_asked = client->chunks,
                                 .deadline = client->deadline,
                                 .async = client->async,
                                 .once = client->once,
                                 .batch_key = batch_key(sim, client->model, client->content),
                                 .session = session_of(sim, client->model, client->content),
                                 .poison = client->poison};
        if (client->person)
            memcpy(write.row.key, client->person->key, sizeof write.row.key);
        break;
    case PERSIST_CHUNK: persist_chunk(sim, action, client, &write); break;
    case PERSIST_RESULT: persist_result(sim, action, client, &write); break;
    case PERSIST_REFUSAL:
        write.row.expires = action->persist.expires;
        write.row.why = action->persist.why;
        write.row.attempts = action->persist.attempts;
        break;
    case PERSIST_DONE: persist_done(sim, client); break;
    case PERSIST_FORGET: forgotten_early(sim, row_find(sim, action->record)); break;
    case PERSIST_TRIM:
        write.model = action->model;
        write.ordinal = sim->slots[action->slot].ordinal;
        break;
    }
    write_add(sim, &write);
}

/* ---- a commit ---- */

static void commit_result(struct sim *sim, struct row *row, const struct journal_write *write)
{
    row->finished = true;
    row->value = write->row.value;
    row->digest = write->row.digest;
    row->position = write->row.position;
    row->batch = write->row.batch;
    row->expires = write->row.expires;
    row->refused = write->row.refused;
    row->why = write->row.why;
    row->attempts = write->row.attempts;
    row->ordinal = write->ordinal;
    struct vault *vault = &sim->vaults[row->model][row->ordinal];
    if (!row->position)
        return;
    vault->oracle = row->digest;
    vault->oracle_position = row->position;
    vault->oracle_known = true;
}

static void commit_trim(struct sim *sim, const struct journal_write *write)
{
    struct vault *vault = &sim->vaults[write->model][write->ordinal];
    if (write->position > vault->trimmed)
        vault->trimmed = write->position;
    for (unsigned i = 0; i < SIM_ROWS; i++) {
        struct row *row = &sim->rows[i];
        if (row->used && row->forgotten && row->model == write->model &&
            row->ordinal == write->ordinal && row->position <= write->position)
            row->used = false;
    }
}

void commit_one(struct sim *sim, const struct journal_write *write)
{
    struct row *row = row_find(sim, write->record);
    switch (write->what) {
    case PERSIST_ACCEPT: row_add(sim, &write->row); return;
    case PERSIST_CHUNK:
        if (row) {
            row->chunks++;
            row->bytes += write->size;
            row->variant = write->row.variant;
        }
        return;
    case PERSIST_RESULT:
        if (row)
            commit_result(sim, row, write);
        return;
    case PERSIST_DONE:
        if (row)
            row->used = false;
        return;
    case PERSIST_REFUSAL:
        if (row) {
            row->finished = row->refused = true;
            row->expires = write->row.expires;
            row->why = write->row.why;
            row->attempts = write->row.attempts;
        }
        return;
    case PERSIST_FORGET:
        if (row) {
            row->forgotten = true;
            row->used = row->position > sim->vaults[row->model][row->ordinal].trimmed;
        }
        return;
    case PERSIST_TRIM: commit_trim(sim, write); return;
    }
}

struct journal_write write_take(struct sim *sim)
{
    struct journal_write write = sim->writes[sim->write_start];
    sim->write_start = (sim->write_start + 1) % HASUP_LEN(sim->writes);
    sim->write_count--;
    return write;
}

/* A group that fails takes everything with it that waits behind it: nothing may be stored before
 * what came first. */
void journal_committed(struct sim *sim)
{
    bool fails = sim_chance(sim, sim->fault_permille / 4);
    unsigned group = sim->write_count < 64 || fails ? sim->write_count : 64;
    struct journal_write done[HASUP_LEN(sim->writes)];
    for (unsigned i = 0; i < group; i++) {
        done[i] = write_take(sim);
        if (!fails)
            commit_one(sim, &done[i]);
        else if (done[i].what == PERSIST_TRIM) /* nobody offers it again before the next one */
            sim->vaults[done[i].model][done[i].ordinal].lost = UINT64_MAX;
    }
    sim->writing = false;
    if (sim->write_count) {
        struct journal_write first = write_take(sim);
        /* Begins the next group: puts it back in front of those behind it. */
        sim->write_start = (sim->write_start + HASUP_LEN(sim->writes) - 1) % HASUP_LEN(sim->writes);
        sim->write_count++;
        sim->writes[sim->write_start] = first;
        sim->writing = true;
        sim_schedule(sim, sim->now + sim_between(sim, 50 * HASUP_US, 2 * HASUP_MS), HAPPENS_COMMIT,
                     0, 0, 0);
    }
    for (unsigned i = 0; i < group && !sim->report->failed; i++) {
        struct client *client = done[i].request ? client_find(sim, done[i].request) : NULL;
        if (done[i].what > PERSIST_DONE)
            continue;
        if (client && done[i].what == PERSIST_ACCEPT && !fails)
            client->row = row_find(sim, done[i].record);
        sim_post(sim, &(struct event){.type = EVENT_PERSISTED,
                                      .request = done[i].request,
                                      .persisted = {.what = done[i].what,
                                                    .error = fails ? HASUP_EIO : 0,
                                                    .size = done[i].record % 1000}});
    }
}
