/*
 * journal.c: the fake journal, and the death of hasupd.  Writes are committed in order, in groups,
 * after a while; a group may fail, and when hasupd dies, what was not committed is gone.  Then a
 * new core is given what the journal and the disk hold, and nothing else.
 *
 * People with keys come back until they have their answer, and remember it: nobody may ever be told
 * two different ones, nor one that the journal does not hold.
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

static bool row_has_key(const struct row *row)
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

static void wants_until(struct client *client, hasup_ns deadline)
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

static void commit_one(struct sim *sim, const struct journal_write *write)
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

static struct journal_write write_take(struct sim *sim)
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

/* ---- people ---- */

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
    sim_post(sim, &(struct event){.type = EVENT_SUBMITTED,
                                  .model = row->model,
                                  .request = client->id,
                                  .submitted = {.deadline = client->deadline,
                                                .record = row->record}});
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

/* ---- the death of hasupd ---- */

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
    struct event trimmed = {.type = EVENT_RECOVERED,
                            .slot = index,
                            .recovered = {.what = RECOVERY_TRIMMED,
                                          .position = trimmed_at(sim, slot)}};
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
