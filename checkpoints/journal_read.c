/*
 * journal_read.c: what is read back from journal.db: by journal_each_* on a connection of its own,
 * and by FETCH on the writer's.  Every row is checked against its checksums before anybody sees it.
 * A statement is finished when its function returns, so that no reader holds the WAL back.
 */
#include "checkpoints/journal_db.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- scans ---- */

/* What a scan makes of one row.  NULL: `*go_on` says whether it goes on; else why the row is bad,
 * with its record in *record. */
typedef const char *scan_row(void *scan, sqlite3_stmt *statement, uint64_t *record, bool *go_on);

static sqlite3_stmt *begin(struct journal_reader *reader, enum journal_statement which, int *code,
                           char error[JOURNAL_ERROR])
{
    sqlite3_stmt *statement = NULL;
    *code = 0;
    if (!reader->db.db)
        *code = journal_db_open(&reader->db, reader->db.path, false, error);
    if (!*code && !(statement = journal_db_statement(&reader->db, which)))
        *code = sql_failed(reader->db.db, reader->db.path, "read", error);
    return statement;
}

/* `strict`: a bad row ends the scan with HASUP_ECORRUPT. */
static int scan(struct journal_reader *reader, sqlite3_stmt *statement, bool strict, scan_row *row,
                void *context, char error[JOURNAL_ERROR])
{
    int got, code = 0;
    bool go_on = true;
    reader->in_use++;
    while (!code && go_on && (got = sqlite3_step(statement)) != SQLITE_DONE) {
        uint64_t record = 0;
        if (got != SQLITE_ROW) {
            code = sql_failed(reader->db.db, reader->db.path, "read", error);
            break;
        }
        const char *why = row(context, statement, &record, &go_on);
        if (why)
            reader->bad(reader->context, record, why);
        if (why && strict) {
            snprintf(error, JOURNAL_ERROR, "%.150s: record %llu: %s", reader->db.path,
                     (unsigned long long)record, why);
            code = HASUP_ECORRUPT;
        }
    }
    sqlite3_reset(statement);
    reader->in_use--;
    return code;
}

/* Of the rows behind `after`; bad ones are passed over. */
static int scan_after(struct journal *journal, enum journal_statement which, uint64_t after,
                      scan_row *row, void *context, char error[JOURNAL_ERROR])
{
    int code;
    struct journal_reader *reader = journal_reader(journal);
    sqlite3_stmt *statement = begin(reader, which, &code, error);
    if (!statement)
        return code;
    sql_bind_number(statement, 1, after);
    return scan(reader, statement, false, row, context, error);
}

struct rows {
    journal_each *each;
    void *context;
    uint64_t most, position; /* position: of the last one of a log */
};

/* The request's meta and body, from column `at`: payload_sum, meta, body. */
static const char *read_payload(sqlite3_stmt *statement, int at, struct journal_row *row)
{
    if (sqlite3_column_type(statement, at) == SQLITE_NULL)
        return "the request's body is gone";
    row->meta = row_bytes(statement, at + 1);
    row->body = row_bytes(statement, at + 2);
    if ((uint64_t)sqlite3_column_int64(statement, at) !=
        row_payload_sum(ROW_REQUEST, row->record, 0, row->meta, row->body))
        return "the request's body does not fit its checksum";
    return NULL;
}

static const char *row_unfinished(void *context, sqlite3_stmt *statement, uint64_t *record,
                                  bool *go_on)
{
    struct rows *rows = context;
    struct journal_row row = {0};
    bool sound = row_request_read(statement, 0, &row);
    *record = row.record;
    const char *why = sound ? read_payload(statement, REQUEST_HEAD_COLUMNS, &row)
                            : "the request does not fit its checksum";
    if (!why)
        *go_on = rows->each(rows->context, &row) && --rows->most;
    return why;
}

int journal_each_unfinished(struct journal *journal, uint64_t after, uint64_t most,
                            journal_each *each, void *context, char error[JOURNAL_ERROR])
{
    struct rows rows = {.each = each, .context = context, .most = most};
    if (!most || after > INT64_MAX)
        return 0;
    return scan_after(journal, STATEMENT_UNFINISHED, after, row_unfinished, &rows, error);
}

/* A result and its request; the row tells of both. */
static const char *read_both(sqlite3_stmt *statement, struct journal_row *row)
{
    struct row_result result = {0};
    bool sound = row_result_read(statement, 0, &result);
    bool there = sqlite3_column_type(statement, RESULT_HEAD_COLUMNS) != SQLITE_NULL;
    bool request = row_request_read(statement, RESULT_HEAD_COLUMNS, row);
    row->record = result.record;
    if (!sound)
        return "the result does not fit its checksum";
    if (!there)
        return "a result without its request";
    if (!request)
        return "the request does not fit its checksum";
    if (result.model && strcmp(result.model, row->model))
        return "the result is of another model than its request";
    row->flags |= result.flags;
    row->position = result.position;
    row->digest = result.digest;
    row->ordinal = result.ordinal;
    row->batch_place = result.batch_place;
    row->status = result.status;
    row->attempts = result.attempts;
    row->finished_wall_ns = result.finished_wall_ns;
    row->expires_wall_ns = result.expires_wall_ns;
    return NULL;
}

static const char *row_finished(void *context, sqlite3_stmt *statement, uint64_t *record,
                                bool *go_on)
{
    struct rows *rows = context;
    struct journal_row row = {0};
    const char *why = read_both(statement, &row);
    *record = row.record;
    row.stored_bytes =
        (uint64_t)sqlite3_column_int64(statement, RESULT_HEAD_COLUMNS + REQUEST_HEAD_COLUMNS);
    if (!why)
        *go_on = rows->each(rows->context, &row);
    return why;
}

int journal_each_finished(struct journal *journal, journal_each *each, void *context,
                          char error[JOURNAL_ERROR])
{
    int code;
    struct journal_reader *reader = journal_reader(journal);
    struct rows rows = {.each = each, .context = context};
    sqlite3_stmt *statement = begin(reader, STATEMENT_FINISHED, &code, error);
    return statement ? scan(reader, statement, false, row_finished, &rows, error) : code;
}

static const char *row_logged(void *context, sqlite3_stmt *statement, uint64_t *record, bool *go_on)
{
    struct rows *rows = context;
    struct journal_row row = {0};
    const char *why = read_both(statement, &row);
    *record = row.record;
    if (!why)
        why = read_payload(statement, RESULT_HEAD_COLUMNS + REQUEST_HEAD_COLUMNS, &row);
    if (!why && row.position <= rows->position)
        why = "another request has its place in the slot's log";
    rows->position = row.position;
    if (!why)
        *go_on = rows->each(rows->context, &row);
    return why;
}

int journal_each_logged(struct journal *journal, const char *model, uint32_t ordinal,
                        uint64_t position, journal_each *each, void *context,
                        char error[JOURNAL_ERROR])
{
    int code;
    struct journal_reader *reader = journal_reader(journal);
    struct rows rows = {.each = each, .context = context, .position = position};
    sqlite3_stmt *statement = begin(reader, STATEMENT_LOGGED, &code, error);
    if (!statement)
        return code;
    sqlite3_bind_text(statement, 1, model, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(statement, 2, ordinal);
    sqlite3_bind_int64(statement, 3, (int64_t)position);
    return scan(reader, statement, true, row_logged, &rows, error);
}

int journal_trimmed(struct journal *journal, const char *model, uint32_t ordinal,
                    uint64_t *position, char error[JOURNAL_ERROR])
{
    int code;
    uint64_t done;
    struct journal_reader *reader = journal_reader(journal);
    sqlite3_stmt *statement = begin(reader, STATEMENT_TRIM_ROW, &code, error);
    *position = 0;
    if (!statement)
        return code;
    sqlite3_bind_text(statement, 1, model, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(statement, 2, ordinal);
    int got = sqlite3_step(statement);
    if (got == SQLITE_ROW && journal_db_trim_read(statement, position, &done))
        reader->bad(reader->context, 0, "a slot's trim mark does not fit its checksum");
    if (got != SQLITE_ROW && got != SQLITE_DONE)
        code = sql_failed(reader->db.db, reader->db.path, "read", error);
    sqlite3_reset(statement);
    return code;
}

/* ---- chunks and events ---- */

struct chunks {
    bool (*each)(void *context, uint32_t number, struct journal_bytes meta,
                 struct journal_bytes bytes);
    void *context;
    uint64_t record;
};

/* Columns: number, sum, meta, body. */
static bool read_chunk(sqlite3_stmt *statement, uint64_t record, uint32_t *number,
                       struct journal_bytes *meta, struct journal_bytes *body)
{
    int64_t found = sqlite3_column_int64(statement, 0);
    *number = (uint32_t)found;
    *meta = row_bytes(statement, 2);
    *body = row_bytes(statement, 3);
    return (uint64_t)sqlite3_column_int64(statement, 1) ==
           row_payload_sum(ROW_CHUNK, record, (uint64_t)found, *meta, *body);
}

static const char *row_chunk(void *context, sqlite3_stmt *statement, uint64_t *record, bool *go_on)
{
    struct chunks *chunks = context;
    uint32_t number;
    struct journal_bytes meta, body;
    *record = chunks->record;
    if (!read_chunk(statement, chunks->record, &number, &meta, &body))
        return "a chunk does not fit its checksum";
    *go_on = chunks->each(chunks->context, number, meta, body);
    return NULL;
}

int journal_each_chunk(struct journal *journal, uint64_t record,
                       bool (*each)(void *context, uint32_t number, struct journal_bytes meta,
                                    struct journal_bytes bytes),
                       void *context, char error[JOURNAL_ERROR])
{
    int code;
    struct journal_reader *reader = journal_reader(journal);
    struct chunks chunks = {each, context, record};
    sqlite3_stmt *statement = begin(reader, STATEMENT_CHUNKS, &code, error);
    if (!statement)
        return code;
    sqlite3_bind_int64(statement, 1, (int64_t)record);
    sqlite3_bind_int64(statement, 2, -1);
    return scan(reader, statement, true, row_chunk, &chunks, error);
}

/* ---- dead letters ---- */

struct letters {
    bool (*each)(void *context, const struct journal_letter *letter);
    void *context;
};

static const char *row_letter(void *context, sqlite3_stmt *statement, uint64_t *record, bool *go_on)
{
    struct letters *letters = context;
    struct journal_letter letter = {0};
    bool sound = row_letter_read(statement, 0, &letter);
    *record = letter.record;
    if (!sound)
        return "a dead letter does not fit its checksum";
    *go_on = letters->each(letters->context, &letter);
    return NULL;
}

int journal_each_letter(struct journal *journal, uint64_t after,
                        bool (*each)(void *context, const struct journal_letter *letter),
                        void *context, char error[JOURNAL_ERROR])
{
    struct letters letters = {each, context};
    return scan_after(journal, STATEMENT_LETTERS, after, row_letter, &letters, error);
}

/* ---- FETCH ---- */

static uint8_t *copy(struct journal_bytes bytes, bool *failed)
{
    uint8_t *at = bytes.len ? malloc(bytes.len) : NULL;
    *failed = *failed || (bytes.len && !at);
    return at ? memcpy(at, bytes.at, bytes.len) : NULL;
}

static void fetched_free(struct journal_op *op)
{
    for (struct journal_chunk *chunk = op->fetched.chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(op->fetched.meta);
    free(op->fetched.body);
    memset(&op->fetched, 0, sizeof op->fetched);
}

static void take_result(struct journal_op *op, sqlite3_stmt *statement, uint32_t *chunks)
{
    struct row_result result;
    struct journal_bytes meta = row_bytes(statement, RESULT_HEAD_COLUMNS + 1);
    struct journal_bytes body = row_bytes(statement, RESULT_HEAD_COLUMNS + 2);
    bool failed = false;
    if (!row_result_read(statement, 0, &result) ||
        (uint64_t)sqlite3_column_int64(statement, RESULT_HEAD_COLUMNS) !=
            row_payload_sum(ROW_RESULT, op->record, 0, meta, body)) {
        op->error = HASUP_ECORRUPT;
        return;
    }
    op->fetched.meta = copy(meta, &failed);
    op->fetched.body = copy(body, &failed);
    op->fetched.meta_len = meta.len;
    op->fetched.body_len = body.len;
    op->fetched.status = result.status;
    op->fetched.attempts = result.attempts;
    op->fetched.flags = result.flags;
    *chunks = result.chunks;
    if (failed)
        op->error = HASUP_ENOMEM;
}

static struct journal_chunk **take_chunk(struct journal_op *op, sqlite3_stmt *statement,
                                         struct journal_chunk **tail)
{
    uint32_t number;
    struct journal_bytes meta, body;
    if (!read_chunk(statement, op->record, &number, &meta, &body)) {
        op->error = HASUP_ECORRUPT;
        return tail;
    }
    struct journal_chunk *chunk = malloc(sizeof *chunk + meta.len + body.len);
    if (!chunk) {
        op->error = HASUP_ENOMEM;
        return tail;
    }
    *chunk = (struct journal_chunk){.number = number, .meta_len = meta.len, .len = body.len};
    if (meta.len)
        memcpy(chunk->bytes, meta.at, meta.len);
    if (body.len)
        memcpy(chunk->bytes + meta.len, body.at, body.len);
    *tail = chunk;
    return &chunk->next;
}

static int fetch(struct journal_db *db, struct journal_op *op)
{
    struct journal_chunk **tail = &op->fetched.chunks;
    uint32_t wanted = 0, got_chunks = op->number;
    sqlite3_stmt *find = journal_db_statement(db, STATEMENT_FETCH);
    sqlite3_stmt *chunks = journal_db_statement(db, STATEMENT_CHUNKS);
    if (!find || !chunks)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_int64(find, 1, (int64_t)op->record);
    int got = sqlite3_step(find);
    if (got == SQLITE_ROW)
        take_result(op, find, &wanted);
    else if (got == SQLITE_DONE)
        op->error = HASUP_ENOTFOUND;
    int reset = sqlite3_reset(find);
    if (op->error || got != SQLITE_ROW)
        return reset;
    sqlite3_bind_int64(chunks, 1, (int64_t)op->record);
    sqlite3_bind_int64(chunks, 2, op->number ? (int64_t)op->number : -1);
    while (!op->error && (got = sqlite3_step(chunks)) == SQLITE_ROW) {
        tail = take_chunk(op, chunks, tail);
        got_chunks++;
    }
    /* Who heard the event of the end, too, has more than there are. */
    uint32_t least = op->number > wanted ? op->number : wanted;
    if (!op->error && got == SQLITE_DONE && wanted && wanted < CHUNKS_UNKNOWN &&
        got_chunks != least)
        op->error = HASUP_ECORRUPT; /* some are missing */
    return sqlite3_reset(chunks);
}

void journal_db_fetch(struct journal_db *db, struct journal_op *op)
{
    fetched_free(op); /* of a first try, whose transaction failed */
    op->error = 0;
    int got = fetch(db, op);
    if (got != SQLITE_OK && !op->error)
        op->error = sql_code(got);
    if (op->error)
        fetched_free(op);
}
