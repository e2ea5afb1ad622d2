/*
 * journal_commit.c: one transaction for a group of operations, and what follows when it fails.
 *
 * A commit whose last step failed may have left a whole transaction in the WAL, which a later
 * recovery would believe.  As long as this connection lives, its next commit writes over it; so one
 * is made at once, of the run marker alone.  Where that fails too, the state is `unsettled` until a
 * commit succeeds (journal.h says what that means).  After FAILURES_REOPEN commits in a row that
 * failed, the file is opened anew, but not while unsettled: opening is a recovery, too.
 */
#include "checkpoints/fault.h"
#include "checkpoints/journal_db.h"

#include <time.h>

enum { FAILURES_REOPEN = 3, BUSY_MS = 2000 };

/* Makes the operations ready; whether one of them writes. */
static bool prepare(struct journal_op *op)
{
    bool writes = false;
    for (; op; op = op->next) {
        memset(&op->fetched, 0, sizeof op->fetched);
        op->letter = NULL;
        memset(&op->listed, 0, sizeof op->listed);
        writes |= !journal_op_reads(op);
    }
    return writes;
}

/* SQLITE_OK, or why the transaction is lost. */
static int run_ops(struct journal_db *db, struct journal_op *op)
{
    int got = SQLITE_OK;
    db->clear_left = JOURNAL_STEP;
    for (; op && got == SQLITE_OK; op = op->next) {
        got = journal_db_write(db, op);
        if (got == SQLITE_OK && sqlite3_get_autocommit(db->db))
            got = SQLITE_ABORT; /* an error that SQLite answered by a rollback of all */
    }
    int64_t now = journal_wall_ns();
    if (got == SQLITE_OK && now - db->run.last_wall_ns >= HASUP_S) {
        db->run.last_wall_ns = now;
        got = journal_db_mark(db);
    }
    return got;
}

static void roll_back(struct journal_db *db)
{
    if (!sqlite3_get_autocommit(db->db))
        journal_db_run(db, STATEMENT_ROLLBACK);
    db->run = db->run_stored;
    db->stats = db->stats_stored;
    if (!sqlite3_get_autocommit(db->db))
        journal_db_close(db); /* which ends the transaction */
}

/* Writes over what a failed commit may have left. */
static void settle(struct journal_db *db)
{
    db->unsettled = true;
    if (!db->db || journal_db_run(db, STATEMENT_BEGIN_WRITE) != SQLITE_OK)
        return;
    if (journal_db_mark(db) == SQLITE_OK && journal_db_run(db, STATEMENT_COMMIT) == SQLITE_OK)
        db->unsettled = false;
    else
        roll_back(db);
}

/* The reads of a failed group are answered from what is stored: nothing of the group is. */
static void answer_failed(struct journal_db *db, struct journal_op *op, int code)
{
    for (; op; op = op->next) {
        if (op->kind == JOURNAL_FETCH && db->db) {
            journal_db_fetch(db, op);
        } else if (op->kind == JOURNAL_FETCH_LETTER && db->db) {
            journal_db_fetch_letter(db, op);
        } else if (op->kind == JOURNAL_LIST && db->db) {
            journal_db_list(db, op);
        } else {
            op->error = code;
        }
    }
}

static int fail(struct journal_db *db, struct journal_op *ops, bool in_commit)
{
    int code = db->db ? sql_failed(db->db, db->path, "commit", db->error) : HASUP_EIO;
    if (code == HASUP_EINVAL || code == HASUP_ETOOBIG)
        code = HASUP_EIO; /* those are an operation's own; this is not */
    if (db->db)
        roll_back(db);
    if (in_commit)
        settle(db);
    answer_failed(db, ops, code);
    if (++db->failures >= FAILURES_REOPEN && !db->unsettled) {
        db->failures = 0;
        journal_db_close(db);
    }
    return code;
}

int journal_db_refuse(struct journal_db *db, struct journal_op *ops, int code)
{
    prepare(ops);
    answer_failed(db, ops, code);
    return code;
}

/* A disk that cannot be written is read all the same. */
static int only_read(struct journal_db *db, struct journal_op *ops)
{
    char ignored[SQL_ERROR];
    int code = journal_db_open(db, db->path, false, ignored);
    answer_failed(db, ops, code);
    journal_db_close(db);
    return code;
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}

int journal_db_commit(struct journal_db *db, struct journal_op *ops, bool may_wait)
{
    bool write = prepare(ops);
    int64_t began = monotonic_ns();
    if (!db->db) {
        int code = journal_db_open(db, db->path, true, db->error);
        if (code && !write)
            return only_read(db, ops);
        if (code) {
            answer_failed(db, ops, code);
            return code;
        }
    }
    sqlite3_busy_timeout(db->db, may_wait ? BUSY_MS : 0);
    int got = journal_db_run(db, write ? STATEMENT_BEGIN_WRITE : STATEMENT_BEGIN);
    if ((got & 0xff) == SQLITE_BUSY && !may_wait)
        return HASUP_EAGAIN;
    if (got == SQLITE_OK)
        got = run_ops(db, ops);
    if (got != SQLITE_OK)
        return fail(db, ops, false);
    FAULT_COMMIT(ops, 0);
    if (journal_db_run(db, STATEMENT_COMMIT) != SQLITE_OK)
        return fail(db, ops, true);
    FAULT_COMMIT(ops, 1);
    db->run_stored = db->run;
    db->stats_stored = db->stats;
    db->failures = 0;
    db->unsettled = db->unsettled && !write;
    db->error[0] = '\0';
    if (write)
        ops->commit_ns = monotonic_ns() - began;
    return 0;
}
