/*
 * journal_chore.c: what may wait, in steps that are bounded: folding the WAL back, deleting the
 * chunks of forgotten requests, dropping the bodies of what a checkpoint covers, giving free pages
 * back.  A chore that fails is left until something asks for it again; none of them changes what a
 * reader of the journal is told.
 */
#include "checkpoints/fault.h"
#include "checkpoints/journal_db.h"

enum {
    FREE_PAGES = 1024, /* so many may lie free */
    VACUUM_STEP = 128, /* pages */
};

/* One record whose chunks may be left over; SQLITE_DONE: no more. */
static int sweep_one(struct journal_db *db)
{
    sqlite3_stmt *next = journal_db_statement(db, STATEMENT_SWEEP_NEXT);
    if (!next)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_int64(next, 1, (int64_t)db->sweep_after);
    int got = sqlite3_step(next);
    uint64_t record = (uint64_t)sqlite3_column_int64(next, 0);
    bool owned = sqlite3_column_int(next, 1), all = true;
    int reset = sqlite3_reset(next);
    if (got != SQLITE_ROW)
        return got == SQLITE_DONE ? got : reset;
    got = owned ? SQLITE_OK : journal_db_forget_chunks(db, record, &all);
    if (got == SQLITE_OK && all)
        db->sweep_after = record;
    return got;
}

static int sweep(struct journal_db *db)
{
    int got = SQLITE_OK;
    db->clear_left = JOURNAL_STEP;
    for (unsigned i = 0; i < JOURNAL_STEP && db->clear_left && got == SQLITE_OK; i++)
        got = sweep_one(db);
    if (got == SQLITE_DONE)
        db->chores &= ~(unsigned)CHORE_SWEEP;
    return got == SQLITE_DONE ? SQLITE_OK : got;
}

/* A row of a log that a checkpoint covers: all of it goes, or its body. */
static int trim_one(struct journal_db *db, uint64_t record)
{
    bool forgotten;
    sqlite3_stmt *drop = journal_db_statement(db, STATEMENT_DROP_PAYLOAD);
    sqlite3_stmt *gone = journal_db_statement(db, STATEMENT_FORGOTTEN_DONE);
    if (!drop || !gone)
        return sqlite3_extended_errcode(db->db);
    int got = journal_db_ask(db, STATEMENT_IS_FORGOTTEN, record, &forgotten);
    if (got == SQLITE_OK && !forgotten) {
        sqlite3_bind_int64(drop, 1, (int64_t)record);
        return journal_db_step(drop);
    }
    if (got == SQLITE_OK)
        got = journal_db_forget(db, record);
    sqlite3_bind_int64(gone, 1, (int64_t)record);
    return got == SQLITE_OK ? journal_db_step(gone) : got;
}

/* Drops the bodies of one slot's next rows up to `position`; *done moves along. */
static int trim_slot(struct journal_db *db, const char *model, uint32_t ordinal, uint64_t position,
                     uint64_t *done)
{
    sqlite3_stmt *log = journal_db_statement(db, STATEMENT_TRIM_LOG);
    if (!log)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_text(log, 1, model, -1, SQLITE_STATIC);
    sqlite3_bind_int64(log, 2, ordinal);
    sqlite3_bind_int64(log, 3, (int64_t)*done);
    sqlite3_bind_int64(log, 4, (int64_t)position);
    sqlite3_bind_int64(log, 5, JOURNAL_STEP);
    int rows = 0, got;
    while ((got = sqlite3_step(log)) == SQLITE_ROW) {
        *done = (uint64_t)sqlite3_column_int64(log, 1);
        rows++;
        if ((got = trim_one(db, (uint64_t)sqlite3_column_int64(log, 0))) != SQLITE_OK)
            break;
    }
    int reset = sqlite3_reset(log);
    if (got == SQLITE_DONE && rows < JOURNAL_STEP)
        *done = position;
    return got == SQLITE_DONE ? reset : got;
}

static int trim(struct journal_db *db)
{
    sqlite3_stmt *next = journal_db_statement(db, STATEMENT_TRIM_NEXT);
    if (!next)
        return sqlite3_extended_errcode(db->db);
    uint64_t position = 0, done = 0;
    int got = sqlite3_step(next);
    if (got == SQLITE_ROW) {
        char *model = sqlite3_mprintf("%s", sqlite3_column_text(next, 0));
        uint32_t ordinal = (uint32_t)sqlite3_column_int64(next, 1);
        if (journal_db_trim_read(next, &position, &done)) /* damaged: a row of zeros instead */
            db->chores &= ~(unsigned)CHORE_TRIM;
        sqlite3_reset(next);
        got = model ? trim_slot(db, model, ordinal, position, &done) : SQLITE_NOMEM;
        if (got == SQLITE_OK)
            got = journal_db_trim_set(db, model, ordinal, position, done);
        sqlite3_free(model);
        return got;
    }
    if (got == SQLITE_DONE)
        db->chores &= ~(unsigned)CHORE_TRIM;
    int reset = sqlite3_reset(next);
    return got == SQLITE_DONE ? SQLITE_OK : reset;
}

static bool in_transaction(struct journal_db *db, int (*step)(struct journal_db *db))
{
    if (journal_db_run(db, STATEMENT_BEGIN_WRITE) != SQLITE_OK)
        return false;
    if (step(db) == SQLITE_OK && journal_db_run(db, STATEMENT_COMMIT) == SQLITE_OK)
        return true;
    if (!sqlite3_get_autocommit(db->db))
        journal_db_run(db, STATEMENT_ROLLBACK);
    return false;
}

static bool much_is_free(struct journal_db *db)
{
    int64_t unused = sql_number(db->db, "PRAGMA freelist_count");
    return unused > FREE_PAGES && unused * 2 > sql_number(db->db, "PRAGMA page_count");
}

static bool vacuum(struct journal_db *db)
{
    char sql[64];
    sqlite3_snprintf(sizeof sql, sql, "PRAGMA incremental_vacuum(%d)", VACUUM_STEP);
    bool done = sqlite3_exec(db->db, sql, NULL, NULL, NULL) == SQLITE_OK;
    if (done && !much_is_free(db))
        db->chores &= ~(unsigned)CHORE_VACUUM;
    return done;
}

static bool checkpoint(struct journal_db *db)
{
    db->chores &= ~(unsigned)CHORE_CHECKPOINT;
    int got = sqlite3_wal_checkpoint_v2(db->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (got == SQLITE_OK && much_is_free(db))
        db->chores |= CHORE_VACUUM;
    return got == SQLITE_OK || got == SQLITE_BUSY;
}

void journal_db_chore(struct journal_db *db, unsigned chores)
{
    bool done = db->db != NULL;
    FAULT(chore_before);
    if (!done)
        db->chores = 0;
    else if (chores & CHORE_CHECKPOINT)
        done = checkpoint(db);
    else if (chores & CHORE_SWEEP)
        done = in_transaction(db, sweep);
    else if (chores & CHORE_TRIM)
        done = in_transaction(db, trim);
    else if (chores & CHORE_VACUUM)
        done = vacuum(db);
    FAULT(chore_after);
    if (!done)
        db->chores = 0;
}
