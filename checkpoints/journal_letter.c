/*
 * journal_letter.c: dead letters in journal.db: written, lifted, read.  They are few and looked at
 * by people, so each operation is one statement; the oldest go when there are more than
 * letters_max, and those of an earlier limit in steps, one at each letter that comes.
 */
#include "checkpoints/journal_db.h"

#include <stdlib.h>

/* ---- writing ---- */

static int ask_number(struct journal_db *db, enum journal_statement which, uint64_t *number)
{
    sqlite3_stmt *statement = journal_db_statement(db, which);
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    int got = sqlite3_step(statement);
    if (got == SQLITE_ROW)
        *number = (uint64_t)sqlite3_column_int64(statement, 0);
    int reset = sqlite3_reset(statement);
    return got == SQLITE_ROW ? SQLITE_OK : reset;
}

/* They are few: counted again after each that comes or goes. */
static int count_letters(struct journal_db *db)
{
    return ask_number(db, STATEMENT_COUNT_LETTERS, &db->stats.letters);
}

static void bind_letter(sqlite3_stmt *insert, const struct journal_letter *letter)
{
    sql_bind_number(insert, 1, letter->number);
    sql_bind_number(insert, 2, letter->hash[0]);
    sql_bind_number(insert, 3, letter->hash[1]);
    sql_bind_number(insert, 4, letter->record);
    sql_bind_number(insert, 5, letter->attempts);
    sql_bind_number(insert, 6, letter->flags);
    sql_bind_number(insert, 7, letter->priority);
    sqlite3_bind_int64(insert, 8, letter->created_wall_ns);
    sqlite3_bind_int64(insert, 9, letter->expires_wall_ns);
    sqlite3_bind_text(insert, 10, letter->model, -1, SQLITE_STATIC);
    row_bind(insert, 11, letter->reports);
    sql_bind_number(insert, 12, row_letter_sum(letter));
    sql_bind_number(insert, 13, letter->body_len);
    sql_bind_number(insert, 14, row_letter_payload_sum(letter));
    row_bind(insert, 15, letter->meta);
    row_bind(insert, 16, letter->body);
}

static int prune(struct journal_db *db)
{
    sqlite3_stmt *statement = journal_db_statement(db, STATEMENT_LETTER_PRUNE);
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    sql_bind_number(statement, 1, db->letters_max);
    int got = journal_db_step(statement);
    return got == SQLITE_OK ? count_letters(db) : got;
}

int journal_db_letter(struct journal_db *db, struct journal_op *op)
{
    bool kept = op->flags & JOURNAL_KEPT;
    struct journal_letter letter = {.hash = {op->hash[0], op->hash[1]},
                                    .model = op->model,
                                    .record = op->record,
                                    .attempts = op->attempts,
                                    .flags = op->flags,
                                    .priority = op->priority,
                                    .created_wall_ns = op->created_wall_ns,
                                    .expires_wall_ns = op->expires_wall_ns,
                                    .reports = op->reports,
                                    .body_len = kept ? op->body.len : 0};
    if (kept) {
        letter.meta = op->meta;
        letter.body = op->body;
    }
    if (!op->model)
        op->error = HASUP_EINVAL;
    if (op->reports.len > JOURNAL_REPORTS_MAX)
        op->error = HASUP_ETOOBIG;
    if (op->error || !db->letters_max)
        return SQLITE_OK;
    int got = ask_number(db, STATEMENT_LETTER_NEWEST, &letter.number);
    sqlite3_stmt *insert = journal_db_statement(db, STATEMENT_LETTER);
    if (got != SQLITE_OK || !insert)
        return got != SQLITE_OK ? got : sqlite3_extended_errcode(db->db);
    letter.number++;
    bind_letter(insert, &letter);
    got = journal_db_step(insert);
    if ((got & 0xff) == SQLITE_TOOBIG) {
        op->error = HASUP_ETOOBIG;
        return SQLITE_OK;
    }
    return got == SQLITE_OK ? prune(db) : got;
}

int journal_db_lift(struct journal_db *db, struct journal_op *op)
{
    sqlite3_stmt *statement = journal_db_statement(db, STATEMENT_LIFT);
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    sql_bind_number(statement, 1, op->hash[0]);
    sql_bind_number(statement, 2, op->hash[1]);
    int got = journal_db_step(statement);
    return got == SQLITE_OK ? count_letters(db) : got;
}

/* ---- reading ---- */

static struct journal_bytes put(uint8_t **at, const void *from, size_t len)
{
    struct journal_bytes put = {*at, len};
    if (len)
        memcpy(*at, from, len);
    *at += len;
    return put;
}

/* One allocation with all that it names; NULL: no memory. */
static struct journal_letter *letter_copy(const struct journal_letter *from)
{
    size_t name = strlen(from->model) + 1;
    struct journal_letter *letter =
        malloc(sizeof *letter + name + from->reports.len + from->meta.len + from->body.len);
    if (!letter)
        return NULL;
    uint8_t *at = (uint8_t *)(letter + 1);
    *letter = *from;
    letter->model = (const char *)put(&at, from->model, name).at;
    letter->reports = put(&at, from->reports.at, from->reports.len);
    letter->meta = put(&at, from->meta.at, from->meta.len);
    letter->body = put(&at, from->body.at, from->body.len);
    return letter;
}

static void take_letter(struct journal_op *op, sqlite3_stmt *statement)
{
    struct journal_letter letter = {0};
    bool head = sqlite3_column_count(statement) == LETTER_HEAD_COLUMNS;
    if (!row_letter_read(statement, 0, &letter)) {
        op->error = HASUP_ECORRUPT;
        return;
    }
    if (head) {
        op->letter = letter_copy(&letter);
        op->error = op->letter ? 0 : HASUP_ENOMEM;
        return;
    }
    letter.meta = row_bytes(statement, LETTER_HEAD_COLUMNS + 1);
    letter.body = row_bytes(statement, LETTER_HEAD_COLUMNS + 2);
    if ((uint64_t)sqlite3_column_int64(statement, LETTER_HEAD_COLUMNS) !=
        row_letter_payload_sum(&letter))
        op->error = HASUP_ECORRUPT;
    else if (!(op->letter = letter_copy(&letter)))
        op->error = HASUP_ENOMEM;
}

/* The statement that finds it, with its values; NULL: it could not be prepared. */
static sqlite3_stmt *find_letter(struct journal_db *db, const struct journal_op *op)
{
    bool by_hash = op->hash[0] || op->hash[1];
    sqlite3_stmt *find = journal_db_statement(db, by_hash      ? STATEMENT_FETCH_LETTER
                                                  : op->record ? STATEMENT_LETTER_OF
                                                               : STATEMENT_LETTER_BELOW);
    if (!find)
        return NULL;
    if (by_hash) {
        sql_bind_number(find, 1, op->hash[0]);
        sql_bind_number(find, 2, op->hash[1]);
    } else {
        sql_bind_number(find, 1, op->record ? op->record : op->position ? op->position : INT64_MAX);
    }
    return find;
}

void journal_db_fetch_letter(struct journal_db *db, struct journal_op *op)
{
    free(op->letter); /* of a first try, whose transaction failed */
    op->letter = NULL;
    op->error = 0;
    sqlite3_stmt *find = find_letter(db, op);
    if (!find) {
        op->error = sql_code(sqlite3_extended_errcode(db->db));
        return;
    }
    int got = sqlite3_step(find);
    if (got == SQLITE_ROW)
        take_letter(op, find);
    else
        op->error = got == SQLITE_DONE ? HASUP_ENOTFOUND : sql_code(got);
    sqlite3_reset(find);
}
