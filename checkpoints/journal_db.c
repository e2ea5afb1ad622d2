/*
 * journal_db.c: the connection to journal.db: how it is opened, its tables, its statements, the run
 * marker.  synchronous=FULL: a commit is on the disk when it returns.  The WAL is folded back by
 * journal_fold.c and journal_chore.c at WAL_PAGES, where SQLite's own autocheckpoint would do it
 * inside a commit.
 */
#include "checkpoints/journal_db.h"
#include "checkpoints/reader.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LETTER_TABLE                                                                               \
    "CREATE TABLE letter ("                                                                        \
    " number INTEGER PRIMARY KEY, hash_low INTEGER NOT NULL, hash_high INTEGER NOT NULL,"          \
    " record INTEGER NOT NULL, attempts INTEGER NOT NULL, flags INTEGER NOT NULL,"                 \
    " priority INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,"              \
    " model TEXT NOT NULL, reports BLOB NOT NULL, sum INTEGER NOT NULL,"                           \
    " body_len INTEGER NOT NULL, payload_sum INTEGER NOT NULL, meta BLOB NOT NULL,"                \
    " body BLOB NOT NULL, UNIQUE (hash_low, hash_high));"

static const char FROM_1[] = "BEGIN IMMEDIATE;" LETTER_TABLE "PRAGMA user_version = 2; COMMIT;";

const struct sql_schema JOURNAL_SQL_SCHEMA = {
    .application_id = 0x6861736a /* "hasj" */,
    .version = JOURNAL_SCHEMA,
    .oldest = 1,
    .what = "a journal of hasup",
    .tables =
        "PRAGMA application_id = 1751217002;"
        "PRAGMA user_version = 2;"
        "CREATE TABLE run ("
        " one INTEGER PRIMARY KEY CHECK (one = 1), began INTEGER NOT NULL, last INTEGER NOT NULL,"
        " clean INTEGER NOT NULL, reserved INTEGER NOT NULL, sum INTEGER NOT NULL);"
        /* Large fields stand last: a row is read up to what is asked for. */
        "CREATE TABLE request ("
        " record INTEGER PRIMARY KEY, token INTEGER NOT NULL, flags INTEGER NOT NULL,"
        " priority INTEGER NOT NULL, body_hash INTEGER NOT NULL, created INTEGER NOT NULL,"
        " deadline INTEGER NOT NULL, model TEXT NOT NULL, key BLOB NOT NULL, sum INTEGER NOT NULL,"
        " payload_sum INTEGER, meta BLOB, body BLOB);"
        "CREATE TABLE result ("
        " record INTEGER PRIMARY KEY, status INTEGER NOT NULL, attempts INTEGER NOT NULL,"
        " flags INTEGER NOT NULL, finished INTEGER NOT NULL, expires INTEGER NOT NULL,"
        " ordinal INTEGER NOT NULL, position INTEGER NOT NULL, digest INTEGER NOT NULL, model TEXT,"
        " sum INTEGER NOT NULL, payload_sum INTEGER NOT NULL, meta BLOB NOT NULL,"
        " body BLOB NOT NULL);"
        "CREATE INDEX result_log ON result (model, ordinal, position) WHERE position > 0;"
        "CREATE TABLE chunk ("
        " record INTEGER NOT NULL, number INTEGER NOT NULL, sum INTEGER NOT NULL,"
        " meta BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY (record, number)) WITHOUT ROWID;"
        "CREATE TABLE trim ("
        " model TEXT NOT NULL, ordinal INTEGER NOT NULL, position INTEGER NOT NULL,"
        " done INTEGER NOT NULL, sum INTEGER NOT NULL, PRIMARY KEY (model, ordinal)) WITHOUT ROWID;"
        /* Requests that nobody asks for any more, but a slot's log. */
        "CREATE TABLE forgotten (record INTEGER PRIMARY KEY);"
        "CREATE TABLE event ("
        " id INTEGER PRIMARY KEY, created INTEGER NOT NULL, sum INTEGER NOT NULL,"
        " body BLOB NOT NULL);" LETTER_TABLE,
};

static const char *const SQL[] = {
#define JOURNAL_STATEMENT_SQL(name, sql) sql,
    JOURNAL_STATEMENTS(JOURNAL_STATEMENT_SQL)
#undef JOURNAL_STATEMENT_SQL
};
_Static_assert(HASUP_LEN(SQL) == STATEMENTS, "one text a statement");

static int note_wal(void *context, sqlite3 *connection, const char *name, int pages)
{
    struct journal_db *db = context;
    (void)connection;
    (void)name;
    db->wal_pages = pages;
    if (pages >= WAL_PAGES)
        db->chores |= CHORE_CHECKPOINT;
    return SQLITE_OK;
}

static int set_wal(struct journal_db *db, char error[SQL_ERROR])
{
    sqlite3_stmt *set;
    if (sqlite3_prepare_v2(db->db, "PRAGMA journal_mode = WAL", -1, &set, NULL) != SQLITE_OK)
        return sql_failed(db->db, db->path, "set up the WAL", error);
    int code = 0;
    if (sqlite3_step(set) != SQLITE_ROW) {
        code = sql_failed(db->db, db->path, "set up the WAL", error);
    } else if (strcmp((const char *)sqlite3_column_text(set, 0), "wal") != 0) {
        snprintf(error, SQL_ERROR, "%.150s: this file system cannot hold a WAL", db->path);
        code = HASUP_EIO;
    }
    sqlite3_finalize(set);
    return code;
}

static int set_up(struct journal_db *db, bool write, char error[SQL_ERROR])
{
    int code = sql_run(db->db, db->path,
                       "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;"
                       "PRAGMA cache_size = -512; PRAGMA mmap_size = 0;",
                       "set up", error);
    if (code || !write)
        return code;
    code = sql_run(db->db, db->path, "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL;",
                   "set up", error);
    if (!code)
        code = set_wal(db, error);
    if (!code)
        code = sql_run(db->db, db->path,
                       "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                       "PRAGMA journal_size_limit = 8388608; PRAGMA secure_delete = FAST;",
                       "set up", error);
    sqlite3_wal_hook(db->db, note_wal, db);
    return code;
}

static int open_file(struct journal_db *db, const char *path, bool write, char error[SQL_ERROR])
{
    enum { BUSY_MS = 2000 };
    int mode = write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    if (sqlite3_open_v2(path, &db->db, mode | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        return sql_failed(db->db, path, "open", error);
    if (write && sqlite3_db_readonly(db->db, "main") == 1) { /* SQLite opened it as it could */
        int why = access(path, W_OK) ? errno : EACCES;
        snprintf(error, SQL_ERROR, "%.150s: cannot be written: %.80s", path, strerror(why));
        return HASUP_EIO;
    }
    sqlite3_extended_result_codes(db->db, 1);
    sqlite3_busy_timeout(db->db, BUSY_MS);
    int code = set_up(db, write, error);
    return code ? code : sql_check_schema(db->db, path, &JOURNAL_SQL_SCHEMA, write, error);
}

/* On a disk that cannot be written, where SQLite cannot make what it reads a WAL with. */
static int open_unwritable(struct journal_db *db, const char *path, char error[SQL_ERROR])
{
    struct reader reader;
    int code = reader_open(&reader, path, error);
    db->db = reader.db;
    if (!code && reader.wal_unread) {
        snprintf(error, SQL_ERROR, "%.150s: its WAL cannot be read here", path);
        code = HASUP_EIO;
    }
    if (!code)
        code = set_up(db, false, error);
    return code ? code : sql_check_schema(db->db, path, &JOURNAL_SQL_SCHEMA, false, error);
}

int journal_db_open(struct journal_db *db, const char *path, bool write, char error[SQL_ERROR])
{
    db->path = path;
    int code = open_file(db, path, write, error);
    if (code == HASUP_EIO && !write) {
        journal_db_close(db);
        code = open_unwritable(db, path, error);
    }
    if (!code && write && sql_number(db->db, "PRAGMA user_version") == 1)
        code = sql_run(db->db, path, FROM_1, "bring up to schema 2", error);
    if (code)
        journal_db_close(db);
    return code;
}

void journal_db_close(struct journal_db *db)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(db->statements[i]);
        db->statements[i] = NULL;
    }
    sqlite3_close(db->db);
    db->db = NULL;
}

sqlite3_stmt *journal_db_statement(struct journal_db *db, enum journal_statement which)
{
    sqlite3_stmt **statement = &db->statements[which];
    if (!*statement)
        sqlite3_prepare_v3(db->db, SQL[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    return *statement;
}

int journal_db_step(sqlite3_stmt *statement)
{
    int got = sqlite3_step(statement);
    int reset = sqlite3_reset(statement);
    return got == SQLITE_ROW || got == SQLITE_DONE ? SQLITE_OK : reset ? reset : got;
}

int journal_db_run(struct journal_db *db, enum journal_statement which)
{
    sqlite3_stmt *statement = journal_db_statement(db, which);
    return statement ? journal_db_step(statement) : sqlite3_extended_errcode(db->db);
}

int journal_db_mark(struct journal_db *db)
{
    sqlite3_stmt *statement = journal_db_statement(db, STATEMENT_RUN);
    if (!statement)
        return sqlite3_extended_errcode(db->db);
    sqlite3_bind_int64(statement, 1, db->run.began_wall_ns);
    sqlite3_bind_int64(statement, 2, db->run.last_wall_ns);
    sqlite3_bind_int64(statement, 3, db->run.clean);
    sqlite3_bind_int64(statement, 4, (int64_t)db->run.reserved);
    sqlite3_bind_int64(statement, 5, (int64_t)row_run_sum(&db->run));
    return journal_db_step(statement);
}

int64_t journal_wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}
