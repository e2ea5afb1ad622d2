/*
 * journal_db.h: one SQLite connection to journal.db, and what is done on it.  Inside checkpoints/
 * only.  Knows nothing of threads: who calls holds the connection alone.
 */
#ifndef HASUP_CHECKPOINTS_JOURNAL_DB_H
#define HASUP_CHECKPOINTS_JOURNAL_DB_H

#include "checkpoints/journal.h"
#include "checkpoints/sql.h"

/* ---- rows: what stands in them, and their checksums ---- */

/* Each row carries the checksum of its small fields (with its table and record); meta and body have
 * one of their own, so that they can be dropped, and a row be read without them. */
enum row_kind { ROW_RUN = 1, ROW_REQUEST, ROW_RESULT, ROW_CHUNK, ROW_TRIM, ROW_EVENT, ROW_LETTER };

struct row_run { /* the run marker */
    int64_t began_wall_ns, last_wall_ns;
    bool clean;
    uint64_t reserved; /* no record >= this was ever given */
};

#define REQUEST_HEAD                                                                               \
    "r.record, r.token, r.flags, r.priority, r.body_hash, r.created, r.deadline, r.model, r.key,"  \
    " r.sum"
#define RESULT_HEAD                                                                                \
    "s.record, s.status, s.attempts, s.flags, s.finished, s.expires, s.ordinal, s.position,"       \
    " s.digest, s.model, s.sum"
#define LETTER_HEAD                                                                                \
    "number, hash_low, hash_high, record, attempts, flags, priority, created, expires, model,"     \
    " reports, sum, body_len"
enum { REQUEST_HEAD_COLUMNS = 10, RESULT_HEAD_COLUMNS = 11, LETTER_HEAD_COLUMNS = 13 };

/* A result's column of flags holds how many chunks its stream has, too: only so is it seen that the
 * last ones are missing.  Older rows have none there. */
enum { FLAG_BITS = 8, CHUNKS_UNKNOWN = (1 << (32 - FLAG_BITS)) - 1 };

struct row_result {
    uint64_t record, position, digest;
    const char *model; /* NULL where it is in no slot's log */
    uint32_t status, attempts, flags, ordinal;
    uint32_t batch_place; /* in its batch, from 0; stored above the flags, too */
    uint32_t chunks; /* of its stream; CHUNKS_UNKNOWN: that many or more */
    int64_t finished_wall_ns, expires_wall_ns;
};

uint64_t row_run_sum(const struct row_run *run);
uint64_t row_request_sum(const struct journal_row *row);
uint64_t row_result_flags(const struct row_result *result); /* as they are stored */
uint64_t row_result_sum(const struct row_result *result);
uint64_t row_letter_sum(const struct journal_letter *letter);
uint64_t row_letter_payload_sum(const struct journal_letter *letter);
uint64_t row_trim_sum(const char *model, uint32_t ordinal, uint64_t position, uint64_t done);
/* Of meta and body; `number`: the chunk's, else 0. */
uint64_t row_payload_sum(enum row_kind kind, uint64_t record, uint64_t number,
                         struct journal_bytes meta, struct journal_bytes body);

/* Read the columns from `at` on; false: the checksum does not fit. */
bool row_request_read(sqlite3_stmt *statement, int at, struct journal_row *row);
bool row_result_read(sqlite3_stmt *statement, int at, struct row_result *result);
bool row_letter_read(sqlite3_stmt *statement, int at, struct journal_letter *letter);
struct journal_bytes row_bytes(sqlite3_stmt *statement, int column);
static inline void row_bind(sqlite3_stmt *statement, int place, struct journal_bytes bytes)
{
    sql_bind_bytes(statement, place, bytes.at, bytes.len);
}

/* ---- statements, prepared at their first use and kept ---- */

#define JOURNAL_STATEMENTS(X)                                                                      \
    X(BEGIN, "BEGIN")                                                                              \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                              \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    X(RUN, "REPLACE INTO run VALUES (1, ?1, ?2, ?3, ?4, ?5)")                                      \
    X(ACCEPT, "INSERT INTO request (record, token, flags, priority, body_hash, created, deadline," \
              " model, key, sum, payload_sum, meta, body)"                                         \
              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")                  \
    X(CHUNK, "INSERT INTO chunk (record, number, sum, meta, body) VALUES (?1, ?2, ?3, ?4, ?5)")    \
    X(RESULT, "INSERT INTO result (record, status, attempts, flags, finished, expires, ordinal,"   \
              " position, digest, model, sum, payload_sum, meta, body)"                            \
              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")             \
    X(MODEL, "SELECT model FROM request WHERE record = ?1")                                        \
    X(DROP_PAYLOAD, "UPDATE request SET payload_sum = NULL, meta = NULL, body = NULL"              \
                    " WHERE record = ?1")                                                          \
    X(LOGGED_AT, "SELECT s.position > coalesce((SELECT t.done FROM trim t WHERE t.model = s.model" \
                 " AND t.ordinal = s.ordinal), 0) FROM result s"                                   \
                 " WHERE s.record = ?1 AND s.position > 0")                                        \
    X(FORGET_LATER, "INSERT OR IGNORE INTO forgotten (record) VALUES (?1)")                        \
    X(IS_FORGOTTEN, "SELECT 1 FROM forgotten WHERE record = ?1")                                   \
    X(FORGOTTEN_DONE, "DELETE FROM forgotten WHERE record = ?1")                                   \
    X(FORGET_REQUEST, "DELETE FROM request WHERE record = ?1")                                     \
    X(FORGET_RESULT, "DELETE FROM result WHERE record = ?1")                                       \
    X(CHUNK_SIZES, "SELECT number, length(meta) + length(body) FROM chunk WHERE record = ?1"       \
                   " ORDER BY number")                                                             \
    X(FORGET_CHUNKS, "DELETE FROM chunk WHERE record = ?1 AND number <= ?2")                       \
    X(SWEEP_NEXT, "SELECT record, EXISTS (SELECT 1 FROM request r WHERE r.record = chunk.record)"  \
                  " FROM chunk WHERE record > ?1 ORDER BY record LIMIT 1")                         \
    X(TRIM_ROW, "SELECT model, ordinal, position, done, sum FROM trim"                             \
                " WHERE model = ?1 AND ordinal = ?2")                                              \
    X(TRIM_NEXT, "SELECT model, ordinal, position, done, sum FROM trim WHERE done <> position"     \
                 " LIMIT 1")                                                                       \
    X(TRIM_SET, "REPLACE INTO trim (model, ordinal, position, done, sum)"                          \
                " VALUES (?1, ?2, ?3, ?4, ?5)")                                                    \
    X(TRIM_LOG, "SELECT record, position FROM result WHERE model = ?1 AND ordinal = ?2"            \
                " AND position > ?3 AND position <= ?4 AND position > 0"                           \
                " ORDER BY position LIMIT ?5")                                                     \
    X(EVENT, "INSERT INTO event (id, created, sum, body) VALUES (?1, ?2, ?3, ?4)")                 \
    X(EVENT_PRUNE, "DELETE FROM event WHERE id IN (SELECT id FROM event ORDER BY id LIMIT 2)"      \
                   " AND (id <= ?1 OR created < ?2)")                                              \
    X(LETTER,                                                                                      \
      "REPLACE INTO letter (number, hash_low, hash_high, record, attempts, flags, priority,"       \
      " created, expires, model, reports, sum, body_len, payload_sum, meta, body)"                 \
      " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)")           \
    X(LETTER_NEWEST, "SELECT coalesce(max(number), 0) FROM letter")                                \
    X(LETTER_PRUNE, "DELETE FROM letter WHERE number IN (SELECT number FROM letter"                \
                    " ORDER BY number DESC LIMIT 16 OFFSET ?1)")                                   \
    X(LIFT, "DELETE FROM letter WHERE hash_low = ?1 AND hash_high = ?2")                           \
    X(FETCH_LETTER, "SELECT " LETTER_HEAD ", payload_sum, meta, body FROM letter"                  \
                    " WHERE hash_low = ?1 AND hash_high = ?2")                                     \
    X(LETTER_OF, "SELECT " LETTER_HEAD ", payload_sum, meta, body FROM letter"                     \
                 " WHERE record = ?1 ORDER BY number DESC LIMIT 1")                                \
    X(LETTER_BELOW, "SELECT " LETTER_HEAD " FROM letter WHERE number < ?1"                         \
                    " ORDER BY number DESC LIMIT 1")                                               \
    X(LETTERS, "SELECT " LETTER_HEAD " FROM letter WHERE number > ?1 ORDER BY number")             \
    X(FETCH, "SELECT " RESULT_HEAD ", s.payload_sum, s.meta, s.body FROM result s"                 \
             " WHERE s.record = ?1")                                                               \
    X(CHUNKS, "SELECT number, sum, meta, body FROM chunk WHERE record = ?1 AND number > ?2"        \
              " ORDER BY number")                                                                  \
    X(UNFINISHED, "SELECT " REQUEST_HEAD ", r.payload_sum, r.meta, r.body FROM request r"          \
                  " WHERE r.record > ?1 AND NOT EXISTS"                                            \
                  " (SELECT 1 FROM result s WHERE s.record = r.record) ORDER BY r.record")         \
    X(FINISHED, "SELECT " RESULT_HEAD ", " REQUEST_HEAD ", length(s.meta) + length(s.body) +"      \
                " (SELECT coalesce(sum(length(c.meta) + length(c.body)), 0) FROM chunk c"          \
                " WHERE c.record = s.record)"                                                      \
                " FROM result s LEFT JOIN request r ON r.record = s.record"                        \
                " WHERE NOT EXISTS (SELECT 1 FROM forgotten f WHERE f.record = s.record)"          \
                " ORDER BY s.record")                                                              \
    X(LOGGED, "SELECT " RESULT_HEAD ", " REQUEST_HEAD ", r.payload_sum, r.meta, r.body"            \
              " FROM result s LEFT JOIN request r ON r.record = s.record"                          \
              " WHERE s.model = ?1 AND s.ordinal = ?2 AND s.position > ?3 AND s.position > 0"      \
              " ORDER BY s.position")                                                              \
    X(LIST, "SELECT " REQUEST_HEAD ", coalesce(length(r.body), 0), coalesce(length(s.body), 0),"   \
            " " RESULT_HEAD " FROM request r LEFT JOIN result s ON s.record = r.record"            \
            " WHERE r.record < ?1 ORDER BY r.record DESC LIMIT ?2")                                \
    X(COUNT_LETTERS, "SELECT count(*) FROM letter")

enum journal_statement {
#define JOURNAL_STATEMENT_ENUM(name, sql) STATEMENT_##name,
    JOURNAL_STATEMENTS(JOURNAL_STATEMENT_ENUM)
#undef JOURNAL_STATEMENT_ENUM
        STATEMENTS
};

/* ---- the connection ---- */

extern const struct sql_schema JOURNAL_SQL_SCHEMA;

enum { /* chores: work that waits until the thread has time for a step of it */
       CHORE_CHECKPOINT = 1 << 0,
       CHORE_SWEEP = 1 << 1, /* chunks of forgotten requests */
       CHORE_TRIM = 1 << 2,
       CHORE_VACUUM = 1 << 3,
};

/* The WAL is folded back from so many pages on; at the second number the writer waits for that. */
enum { WAL_PAGES = 1000, WAL_PAGES_MOST = 2000 };

struct journal_db {
    sqlite3 *db; /* NULL: not open; a commit tries to open it */
    const char *path;
    sqlite3_stmt *statements[STATEMENTS];
    unsigned chores;
    int wal_pages;        /* after the last commit */
    uint64_t sweep_after; /* chunks of records up to this one have an owner */
    uint32_t clear_left;  /* chunks that the transaction may still delete */
    uint64_t events_max, last_event, letters_max;
    hasup_ns events_age;
    struct journal_stats stats, stats_stored;
    uint64_t highest; /* record that was accepted */
    struct row_run run, run_stored;
    unsigned failures; /* commits in a row */
    bool unsettled;    /* a commit failed in its last step, and nothing was written over it yet */
    char error[SQL_ERROR]; /* of the last commit; "" */
};

/* `write`: with all that the writer needs; makes the tables of an empty file. */
int journal_db_open(struct journal_db *db, const char *path, bool write,
                    char error[SQL_ERROR]) HASUP_NODISCARD;
void journal_db_close(struct journal_db *db);
/* NULL: it could not be prepared; sqlite3_extended_errcode says why. */
sqlite3_stmt *journal_db_statement(struct journal_db *db, enum journal_statement which);
/* Runs a statement that yields no row; an (extended) SQLite code. */
int journal_db_step(sqlite3_stmt *statement);
int journal_db_run(struct journal_db *db, enum journal_statement which);
/* Inside a transaction: writes the run marker. */
int journal_db_mark(struct journal_db *db);
int64_t journal_wall_ns(void);

/* Fails a group without a commit; gives `code`. */
int journal_db_refuse(struct journal_db *db, struct journal_op *ops, int code);

/* ---- operations; inside a transaction ---- */

static inline bool journal_op_reads(const struct journal_op *op)
{
    return op->kind == JOURNAL_FETCH || op->kind == JOURNAL_FETCH_LETTER ||
           op->kind == JOURNAL_LIST;
}

/* SQLITE_OK: done, or op->error; anything else: the transaction is lost. */
int journal_db_write(struct journal_db *db, struct journal_op *op);
void journal_db_fetch(struct journal_db *db, struct journal_op *op); /* errors are its own */
/* journal_letter.c: the operations on dead letters; FETCH_LETTER's errors are its own. */
int journal_db_letter(struct journal_db *db, struct journal_op *op);
int journal_db_lift(struct journal_db *db, struct journal_op *op);
void journal_db_fetch_letter(struct journal_db *db, struct journal_op *op);
/* journal_list.c; errors are its own. */
void journal_db_list(struct journal_db *db, struct journal_op *op);
/* Deletes chunks of a forgotten record, as many as the transaction may; *all: none is left. */
int journal_db_forget_chunks(struct journal_db *db, uint64_t record, bool *all);
/* All of a request that nothing needs; chunks as journal_db_forget_chunks. */
int journal_db_forget(struct journal_db *db, uint64_t record);
/* Runs a statement of one record; SQLITE_ROW in *found where it yields one that is not 0. */
int journal_db_ask(struct journal_db *db, enum journal_statement which, uint64_t record,
                   bool *found);
/* Reads a slot's row of `trim`; zeros where there is none or it is damaged. */
int journal_db_trim_read(sqlite3_stmt *statement, uint64_t *position, uint64_t *done);
int journal_db_trim_set(struct journal_db *db, const char *model, uint32_t ordinal,
                        uint64_t position, uint64_t done);

/* ---- the connection of journal_each_*, open while it is needed ---- */

struct journal_reader {
    struct journal_db db; /* db.path is set from the start */
    unsigned in_use;      /* calls that are under way */
    journal_bad *bad;     /* never NULL */
    void *context;
};

struct journal_reader *journal_reader(struct journal *journal);

/* Commits operations linked by `next` in one transaction and sets their errors.  HASUP_EAGAIN:
 * !may_wait, and another process holds the file: nothing was done.  Else 0 or why it failed. */
int journal_db_commit(struct journal_db *db, struct journal_op *ops, bool may_wait);
/* One step of those chores, in a transaction of its own. */
void journal_db_chore(struct journal_db *db, unsigned chores);

/* ---- journal_fold.c: the long part of CHORE_CHECKPOINT, beside the commits ---- */

struct journal_fold;

/* NULL: there can be no thread.  `path` is borrowed. */
struct journal_fold *journal_fold_new(const char *path);
void journal_fold_begin(struct journal_fold *fold);
bool journal_fold_runs(struct journal_fold *fold);
void journal_fold_wait(struct journal_fold *fold); /* until it does not */
void journal_fold_free(struct journal_fold *fold); /* waits for its end; NULL is none */

#endif
