/*
 * journal_list.c: the heads of requests, newest first, a page at a time, for people who look.  A
 * page is bounded by the rows that it looks at, so that no listing holds commits up; what is
 * damaged is passed over (the audit and the next start say so).
 */
#include "checkpoints/journal_db.h"

#include <stdlib.h>

static void listed_free(struct journal_op *op)
{
    for (struct journal_listed *row = op->listed.rows, *next; row; row = next) {
        next = row->next;
        free(row);
    }
    memset(&op->listed, 0, sizeof op->listed);
}

static struct journal_listed *listed_new(const struct journal_row *head)
{
    size_t name = strlen(head->model) + 1;
    size_t key = head->key.len < JOURNAL_LISTED_KEY ? head->key.len : JOURNAL_LISTED_KEY;
    struct journal_listed *row = malloc(sizeof *row + name + key);
    if (!row)
        return NULL;
    uint8_t *bytes = (uint8_t *)(row + 1);
    *row = (struct journal_listed){.record = head->record,
                                   .token = head->token,
                                   .model = memcpy(bytes, head->model, name),
                                   .flags = head->flags,
                                   .priority = head->priority,
                                   .created_wall_ns = head->created_wall_ns,
                                   .deadline_wall_ns = head->deadline_wall_ns,
                                   .key = {bytes + name, key}};
    if (key)
        memcpy(bytes + name, head->key.at, key);
    return row;
}

/* NULL: it is damaged, of another model, or there is no memory for it (op->error). */
static struct journal_listed *take_row(struct journal_op *op, sqlite3_stmt *statement)
{
    struct journal_row head = {0};
    struct row_result end = {0};
    const int at = REQUEST_HEAD_COLUMNS;
    if (!row_request_read(statement, 0, &head) || (op->model && strcmp(op->model, head.model)))
        return NULL;
    struct journal_listed *row = listed_new(&head);
    if (!row) {
        op->error = HASUP_ENOMEM;
        return NULL;
    }
    row->body_len = (uint64_t)sqlite3_column_int64(statement, at);
    row->answer_len = (uint64_t)sqlite3_column_int64(statement, at + 1);
    if (sqlite3_column_type(statement, at + 2) != SQLITE_NULL &&
        row_result_read(statement, at + 2, &end)) {
        row->flags |= end.flags;
        row->status = end.status;
        row->attempts = end.attempts;
        row->finished_wall_ns = end.finished_wall_ns;
        row->expires_wall_ns = end.expires_wall_ns;
    }
    return row;
}

static int list(struct journal_db *db, struct journal_op *op)
{
    sqlite3_stmt *statement = journal_db_statement(db, STATEMENT_LIST);
    struct journal_listed **tail = &op->listed.rows;
    uint32_t seen = 0;
    int got;
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    uint64_t before = op->record && op->record < INT64_MAX ? op->record : INT64_MAX;
    sqlite3_bind_int64(statement, 1, (int64_t)before);
    sqlite3_bind_int64(statement, 2, op->number);
    while (!op->error && (got = sqlite3_step(statement)) == SQLITE_ROW) {
        uint64_t record = (uint64_t)sqlite3_column_int64(statement, 0);
        seen++;
        op->listed.next = seen == op->number ? record : 0;
        if ((*tail = take_row(op, statement)))
            tail = &(*tail)->next;
    }
    return sqlite3_reset(statement);
}

void journal_db_list(struct journal_db *db, struct journal_op *op)
{
    listed_free(op); /* of a first try, whose transaction failed */
    op->error = 0;
    int got = list(db, op);
    if (got != SQLITE_OK && !op->error)
        op->error = sql_code(got);
    if (op->error)
        listed_free(op);
}
