/*
 * journal_write.c: what each writing operation does to the tables, inside a transaction that the
 * caller holds.  An operation that SQLite refuses for its own sake (a record that is there already)
 * fails alone; any other error is the transaction's.
 */
#include "checkpoints/journal_db.h"

enum { RESERVE = 1 << 16, CLEAR_BYTES = 4 * 1024 * 1024 };

/* Steps for `op`: its own mistakes are noted in it. */
static int step_for(struct journal_op *op, sqlite3_stmt *statement)
{
    int got = journal_db_step(statement);
    if ((got & 0xff) == SQLITE_CONSTRAINT || (got & 0xff) == SQLITE_TOOBIG) {
        op->error = sql_code(got);
        return SQLITE_OK;
    }
    return got;
}

static int run_on(struct journal_db *db, enum journal_statement which, uint64_t record)
{
    sqlite3_stmt *statement = journal_db_statement(db, which);
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    sql_bind_number(statement, 1, record);
    return journal_db_step(statement);
}

/* ---- one function for each kind ---- */

static int write_accept(struct journal_db *db, struct journal_op *op, sqlite3_stmt *insert)
{
    const struct journal_row row = {.record = op->record,
                                    .token = op->token,
                                    .body_hash = op->body_hash,
                                    .model = op->model,
                                    .flags = op->flags,
                                    .priority = op->priority,
                                    .created_wall_ns = op->created_wall_ns,
                                    .deadline_wall_ns = op->deadline_wall_ns,
                                    .key = op->key};
    if (op->record == 0 || op->record > INT64_MAX) {
        op->error = HASUP_EINVAL;
        return SQLITE_OK;
    }
    sql_bind_number(insert, 1, op->record);
    sql_bind_number(insert, 2, op->token);
    sql_bind_number(insert, 3, op->flags);
    sql_bind_number(insert, 4, op->priority);
    sql_bind_number(insert, 5, op->body_hash);
    sqlite3_bind_int64(insert, 6, op->created_wall_ns);
    sqlite3_bind_int64(insert, 7, op->deadline_wall_ns);
    sqlite3_bind_text(insert, 8, op->model, -1, SQLITE_STATIC);
    row_bind(insert, 9, op->key);
    sql_bind_number(insert, 10, row_request_sum(&row));
    sql_bind_number(insert, 11, row_payload_sum(ROW_REQUEST, op->record, 0, op->meta, op->body));
    row_bind(insert, 12, op->meta);
    row_bind(insert, 13, op->body);
    if (op->record > db->highest)
        db->highest = op->record;
    int got = step_for(op, insert);
    if (got != SQLITE_OK || op->record < db->run.reserved)
        return got;
    /* Records are never given twice, not even after they are forgotten: the mark moves in steps. */
    db->run.reserved = op->record + RESERVE;
    return journal_db_mark(db);
}

static int write_chunk(struct journal_op *op, sqlite3_stmt *insert)
{
    sql_bind_number(insert, 1, op->record);
    sql_bind_number(insert, 2, op->number);
    sql_bind_number(insert, 3,
                    row_payload_sum(ROW_CHUNK, op->record, op->number, op->meta, op->body));
    row_bind(insert, 4, op->meta);
    row_bind(insert, 5, op->body);
    return step_for(op, insert);
}

static int insert_result(struct journal_op *op, const char *model, sqlite3_stmt *insert)
{
    const struct row_result result = {.record = op->record,
                                      .position = op->position,
                                      .digest = op->digest,
                                      .model = model,
                                      .status = op->status,
                                      .attempts = op->attempts,
                                      .flags = op->flags,
                                      .chunks = op->number,
                                      .ordinal = op->ordinal,
                                      .batch_place = op->batch_place,
                                      .finished_wall_ns = op->finished_wall_ns,
                                      .expires_wall_ns = op->expires_wall_ns};
    sql_bind_number(insert, 1, op->record);
    sql_bind_number(insert, 2, op->status);
    sql_bind_number(insert, 3, op->attempts);
    sql_bind_number(insert, 4, row_result_flags(&result));
    sqlite3_bind_int64(insert, 5, op->finished_wall_ns);
    sqlite3_bind_int64(insert, 6, op->expires_wall_ns);
    sql_bind_number(insert, 7, op->ordinal);
    sql_bind_number(insert, 8, op->position);
    sql_bind_number(insert, 9, op->digest);
    sqlite3_bind_text(insert, 10, model, -1, SQLITE_STATIC);
    sql_bind_number(insert, 11, row_result_sum(&result));
    sql_bind_number(insert, 12, row_payload_sum(ROW_RESULT, op->record, 0, op->meta, op->body));
    row_bind(insert, 13, op->meta);
    row_bind(insert, 14, op->body);
    return step_for(op, insert);
}

/* In a slot's log: the row says whose, so that the log is found by its index. */
static int write_logged(struct journal_db *db, struct journal_op *op, sqlite3_stmt *insert)
{
    sqlite3_stmt *find = journal_db_statement(db, STATEMENT_MODEL);
    if (!find)
        return sqlite3_extended_errcode(db->db);
    sql_bind_number(find, 1, op->record);
    int got = sqlite3_step(find);
    const char *model = got == SQLITE_ROW ? (const char *)sqlite3_column_text(find, 0) : NULL;
    if (model)
        got = insert_result(op, model, insert);
    else if (got == SQLITE_ROW || got == SQLITE_DONE)
        op->error = got == SQLITE_ROW ? HASUP_ECORRUPT : HASUP_ENOTFOUND;
    int reset = sqlite3_reset(find);
    return got == SQLITE_ROW || got == SQLITE_DONE ? reset : got;
}

static int write_result(struct journal_db *db, struct journal_op *op, sqlite3_stmt *insert)
{
    if (op->position)
        return write_logged(db, op, insert);
    int got = insert_result(op, NULL, insert);
    if (got != SQLITE_OK || op->error)
        return got;
    got = run_on(db, STATEMENT_DROP_PAYLOAD, op->record);
    if (got != SQLITE_OK || sqlite3_changes(db->db) == 1)
        return got;
    op->error = HASUP_ENOTFOUND;
    return run_on(db, STATEMENT_FORGET_RESULT, op->record);
}

static int write_done(struct journal_db *db, struct journal_op *op, sqlite3_stmt *forget)
{
    sql_bind_number(forget, 1, op->record);
    int got = journal_db_step(forget);
    if (got == SQLITE_OK && sqlite3_changes(db->db) == 0)
        op->error = HASUP_ENOTFOUND;
    return got;
}

int journal_db_forget_chunks(struct journal_db *db, uint64_t record, bool *all)
{
    sqlite3_stmt *sizes = journal_db_statement(db, STATEMENT_CHUNK_SIZES);
    sqlite3_stmt *forget = journal_db_statement(db, STATEMENT_FORGET_CHUNKS);
    if (!sizes || !forget)
        return sqlite3_extended_errcode(db->db);
    int64_t up_to = -1, bytes = 0;
    int got;
    sql_bind_number(sizes, 1, record);
    *all = false;
    while ((got = sqlite3_step(sizes)) == SQLITE_ROW && db->clear_left && bytes < CLEAR_BYTES) {
        up_to = sqlite3_column_int64(sizes, 0);
        bytes += sqlite3_column_int64(sizes, 1);
        db->clear_left--;
    }
    if (bytes >= CLEAR_BYTES)
        db->clear_left = 0;
    *all = got == SQLITE_DONE;
    int reset = sqlite3_reset(sizes);
    if (got != SQLITE_ROW && got != SQLITE_DONE)
        return reset;
    if (up_to < 0)
        return SQLITE_OK;
    sql_bind_number(forget, 1, record);
    sqlite3_bind_int64(forget, 2, up_to);
    return journal_db_step(forget);
}

int journal_db_ask(struct journal_db *db, enum journal_statement which, uint64_t record,
                   bool *found)
{
    sqlite3_stmt *statement = journal_db_statement(db, which);
    *found = false;
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    sql_bind_number(statement, 1, record);
    int got = sqlite3_step(statement);
    *found = got == SQLITE_ROW && sqlite3_column_int(statement, 0);
    int reset = sqlite3_reset(statement);
    return got == SQLITE_ROW || got == SQLITE_DONE ? SQLITE_OK : reset;
}

int journal_db_forget(struct journal_db *db, uint64_t record)
{
    bool all = true;
    int got = run_on(db, STATEMENT_FORGET_REQUEST, record);
    if (got == SQLITE_OK)
        got = run_on(db, STATEMENT_FORGET_RESULT, record);
    if (got == SQLITE_OK)
        got = journal_db_forget_chunks(db, record, &all);
    if (all)
        return got;
    if (!(db->chores & CHORE_SWEEP) || record <= db->sweep_after)
        db->sweep_after = record - 1;
    db->chores |= CHORE_SWEEP;
    return got;
}

static int write_forget(struct journal_db *db, struct journal_op *op)
{
    bool logged;
    int got = journal_db_ask(db, STATEMENT_LOGGED_AT, op->record, &logged);
    if (got != SQLITE_OK)
        return got;
    return logged ? run_on(db, STATEMENT_FORGET_LATER, op->record)
                  : journal_db_forget(db, op->record);
}

int journal_db_trim_read(sqlite3_stmt *statement, uint64_t *position, uint64_t *done)
{
    const char *model = (const char *)sqlite3_column_text(statement, 0);
    uint32_t ordinal = (uint32_t)sqlite3_column_int64(statement, 1);
    *position = (uint64_t)sqlite3_column_int64(statement, 2);
    *done = (uint64_t)sqlite3_column_int64(statement, 3);
    if (model && (uint64_t)sqlite3_column_int64(statement, 4) ==
                     row_trim_sum(model, ordinal, *position, *done))
        return 0;
    *position = *done = 0; /* nothing is trimmed on the word of a damaged row */
    return HASUP_ECORRUPT;
}

int journal_db_trim_set(struct journal_db *db, const char *model, uint32_t ordinal,
                        uint64_t position, uint64_t done)
{
    sqlite3_stmt *set = journal_db_statement(db, STATEMENT_TRIM_SET);
    if (!set)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_text(set, 1, model, -1, SQLITE_STATIC);
    sql_bind_number(set, 2, ordinal);
    sql_bind_number(set, 3, position);
    sql_bind_number(set, 4, done);
    sql_bind_number(set, 5, row_trim_sum(model, ordinal, position, done));
    return journal_db_step(set);
}

static int write_trim(struct journal_db *db, struct journal_op *op)
{
    uint64_t position = 0, done = 0;
    sqlite3_stmt *find = journal_db_statement(db, STATEMENT_TRIM_ROW);
    if (!op->model)
        op->error = HASUP_EINVAL;
    if (op->error)
        return SQLITE_OK;
    if (!find)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_text(find, 1, op->model, -1, SQLITE_STATIC);
    sql_bind_number(find, 2, op->ordinal);
    int got = sqlite3_step(find);
    if (got == SQLITE_ROW && journal_db_trim_read(find, &position, &done))
        got = SQLITE_DONE;
    int reset = sqlite3_reset(find);
    if (got != SQLITE_ROW && got != SQLITE_DONE)
        return reset;
    if (op->position <= position)
        return SQLITE_OK;
    db->chores |= CHORE_TRIM;
    return journal_db_trim_set(db, op->model, op->ordinal, op->position, done);
}

/* Two go for each that comes, so that a smaller limit is reached in steps, too. */
static int prune_events(struct journal_db *db, int64_t now)
{
    sqlite3_stmt *prune = journal_db_statement(db, STATEMENT_EVENT_PRUNE);
    if (!prune)
        return sqlite3_extended_errcode(db->db);
    bool many = db->last_event > db->events_max;
    sql_bind_number(prune, 1, many ? db->last_event - db->events_max : 0);
    sqlite3_bind_int64(prune, 2, db->events_age ? now - db->events_age : 0);
    int got = journal_db_step(prune);
    if (got == SQLITE_OK)
        db->stats.events -= (uint64_t)sqlite3_changes(db->db);
    return got;
}

static int write_event(struct journal_db *db, struct journal_op *op, sqlite3_stmt *insert)
{
    uint64_t id = ++db->last_event;
    const struct journal_bytes none = {0};
    if (!db->events_max)
        return SQLITE_OK;
    sql_bind_number(insert, 1, id);
    sqlite3_bind_int64(insert, 2, op->created_wall_ns);
    sql_bind_number(insert, 3,
                    row_payload_sum(ROW_EVENT, id, (uint64_t)op->created_wall_ns, none, op->body));
    row_bind(insert, 4, op->body);
    int got = step_for(op, insert);
    db->stats.events += got == SQLITE_OK && !op->error;
    return got == SQLITE_OK ? prune_events(db, op->created_wall_ns) : got;
}

int journal_db_write(struct journal_db *db, struct journal_op *op)
{
    static const enum journal_statement inserts[] = {[JOURNAL_ACCEPT] = STATEMENT_ACCEPT,
                                                     [JOURNAL_CHUNK] = STATEMENT_CHUNK,
                                                     [JOURNAL_RESULT] = STATEMENT_RESULT,
                                                     [JOURNAL_DONE] = STATEMENT_FORGET_REQUEST,
                                                     [JOURNAL_FORGET] = STATEMENT_FORGET_REQUEST,
                                                     [JOURNAL_TRIM] = STATEMENT_TRIM_SET,
                                                     [JOURNAL_EVENT] = STATEMENT_EVENT,
                                                     [JOURNAL_LETTER] = STATEMENT_LETTER,
                                                     [JOURNAL_LIFT] = STATEMENT_LIFT,
                                                     [JOURNAL_FETCH_LETTER] =
                                                         STATEMENT_FETCH_LETTER,
                                                     [JOURNAL_LIST] = STATEMENT_LIST,
                                                     [JOURNAL_FETCH] = STATEMENT_FETCH};
    sqlite3_stmt *insert = journal_db_statement(db, inserts[op->kind]);
    if (!insert)
        return sqlite3_extended_errcode(db->db);
    op->error = 0;
    switch (op->kind) {
    case JOURNAL_ACCEPT: return write_accept(db, op, insert);
    case JOURNAL_CHUNK: return write_chunk(op, insert);
    case JOURNAL_RESULT: return write_result(db, op, insert);
    case JOURNAL_DONE: return write_done(db, op, insert);
    case JOURNAL_FORGET: return write_forget(db, op);
    case JOURNAL_TRIM: return write_trim(db, op);
    case JOURNAL_EVENT: return write_event(db, op, insert);
    case JOURNAL_LETTER: return journal_db_letter(db, op);
    case JOURNAL_LIFT: return journal_db_lift(db, op);
    case JOURNAL_FETCH_LETTER: journal_db_fetch_letter(db, op); break;
    case JOURNAL_LIST: journal_db_list(db, op); break;
    case JOURNAL_FETCH: journal_db_fetch(db, op);
    }
    return SQLITE_OK;
}
