/*
 * journal_events.c: the lifecycle events of journal.db, and how far a slot's log goes, for who is
 * not hasupd: read beside a running one, after one that was killed, on a read-only disk.  Changes
 * no file.
 */
#include "checkpoints/journal_db.h"
#include "checkpoints/reader.h"

#include <stdio.h>

enum { ATTEMPTS = 5 };

struct past {
    journal_past_event *each;
    void *context;
    int64_t since_wall_ns;
    uint64_t last; /* that was told: a second attempt goes on behind it */
    bool stopped;
};

static void tell(struct past *past, sqlite3_stmt *row)
{
    uint64_t number = (uint64_t)sqlite3_column_int64(row, 0);
    int64_t created = sqlite3_column_int64(row, 1);
    struct journal_bytes none = {0}, body = row_bytes(row, 3);
    bool sound = (uint64_t)sqlite3_column_int64(row, 2) ==
                 row_payload_sum(ROW_EVENT, number, (uint64_t)created, none, body);
    past->last = number;
    if (sound && created >= past->since_wall_ns)
        past->stopped = !past->each(past->context, created, body);
}

static int read_all(void *context, const struct reader *reader, char error[JOURNAL_ERROR])
{
    struct past *past = context;
    sqlite3_stmt *rows;
    int code = sql_check_schema(reader->db, reader->path, &JOURNAL_SQL_SCHEMA, false, error);
    if (code)
        return code;
    if (sqlite3_prepare_v2(reader->db,
                           "SELECT id, created, sum, body FROM event WHERE id > ?1 ORDER BY id", -1,
                           &rows, NULL) != SQLITE_OK)
        return sql_failed(reader->db, reader->path, "read", error);
    sqlite3_bind_int64(rows, 1, (int64_t)past->last);
    int got = SQLITE_DONE;
    while (!past->stopped && (got = sqlite3_step(rows)) == SQLITE_ROW)
        tell(past, rows);
    if (got != SQLITE_DONE && got != SQLITE_ROW)
        code = sql_failed(reader->db, reader->path, "read", error);
    sqlite3_finalize(rows);
    return code;
}

/* The highest position that a result of the slot bears. */
struct log_end {
    const char *model;
    uint32_t ordinal;
    uint64_t position;
};

static int read_log_end(void *context, const struct reader *reader, char error[JOURNAL_ERROR])
{
    struct log_end *end = context;
    sqlite3_stmt *row;
    int code = sql_check_schema(reader->db, reader->path, &JOURNAL_SQL_SCHEMA, false, error);
    if (code)
        return code;
    if (sqlite3_prepare_v2(reader->db,
                           "SELECT coalesce(max(position), 0) FROM result"
                           " WHERE model = ?1 AND ordinal = ?2 AND position > 0",
                           -1, &row, NULL) != SQLITE_OK)
        return sql_failed(reader->db, reader->path, "read", error);
    sqlite3_bind_text(row, 1, end->model, -1, SQLITE_STATIC);
    sqlite3_bind_int64(row, 2, end->ordinal);
    if (sqlite3_step(row) == SQLITE_ROW)
        end->position = (uint64_t)sqlite3_column_int64(row, 0);
    else
        code = sql_failed(reader->db, reader->path, "read", error);
    sqlite3_finalize(row);
    return code;
}

typedef int read_some(void *context, const struct reader *reader, char error[JOURNAL_ERROR]);

/* Until nobody wrote meanwhile. */
static int read_past(const char *path, read_some *some, void *context, bool *incomplete,
                     char error[JOURNAL_ERROR])
{
    struct reader reader;
    int code = 0;
    bool again = true;
    *incomplete = false;
    for (int i = 0; again && i < ATTEMPTS; i++) {
        code = reader_open(&reader, path, error);
        if (code == HASUP_ENOTFOUND)
            return code;
        if (!code)
            code = some(context, &reader, error);
        again = reader_is_disturbed(&reader) || (code && reader_is_transient(&reader));
        *incomplete = reader.wal_unread;
        reader_close(&reader);
    }
    return code;
}

int journal_past_events(const char *path, int64_t since_wall_ns, journal_past_event *each,
                        void *context, bool *incomplete, char error[JOURNAL_ERROR])
{
    struct past past = {.each = each, .context = context, .since_wall_ns = since_wall_ns};
    return read_past(path, read_all, &past, incomplete, error);
}

int journal_past_log_end(const char *path, const char *model, uint32_t ordinal, uint64_t *position,
                         char error[JOURNAL_ERROR])
{
    struct log_end end = {.model = model, .ordinal = ordinal};
    bool incomplete;
    int code = read_past(path, read_log_end, &end, &incomplete, error);
    *position = end.position;
    if (!code && incomplete) {
        snprintf(error, JOURNAL_ERROR, "%s: its WAL cannot be read, which may hold more", path);
        code = HASUP_EIO;
    }
    return code;
}
