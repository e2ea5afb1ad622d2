/*
 * audit_journal.c: journal.db as the audit sees it: SQLite's own check, every row's checksum, what
 * is stuck or outlived, and each slot's log, for its checkpoints to be held against.  All rows are
 * read in one transaction, so that what hasupd writes meanwhile makes no finding.
 */
#include "checkpoints/activity.h"
#include "checkpoints/audit_internal.h"
#include "checkpoints/journal_db.h"
#include "checkpoints/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A request with a deadline is answered by then, a result goes when its time is over; a little
 * later is no finding. */
#define DEADLINE_SLACK (60 * HASUP_S)
#define EXPIRED_SLACK  (600 * HASUP_S)

enum { LETTER_SCHEMA = 2 /* the first with dead letters */ };

/* Many rows with one trouble are one finding, which names the first of them. */
struct tally {
    uint64_t count;
    char first[128];
    int64_t since;
};

struct stuck {
    char model[STORE_MODEL];
    struct tally tally;
};

struct journal_audit {
    struct audit *audit;
    const char *path;
    struct reader reader;
    bool damaged; /* SQLite itself says so */
    struct tally rows, parts, expired, quarantined;
    struct stuck *stuck; /* one for each model that has any */
    size_t stuck_count, stuck_room;
};

HASUP_PRINTF(3, 4)
static void tally(struct tally *of, int64_t since, const char *format, ...)
{
    bool earlier = since && (!of->since || since < of->since);
    if (!of->count++ || earlier) {
        va_list args;
        va_start(args, format);
        vsnprintf(of->first, sizeof of->first, format, args);
        va_end(args);
    }
    if (earlier)
        of->since = since;
}

static void damaged(struct journal_audit *journal, uint64_t record, const char *why)
{
    tally(&journal->rows, 0, "record %llu: %s", (unsigned long long)record, why);
}

/* ---- rows ---- */

typedef void each_row(struct journal_audit *journal, sqlite3_stmt *row);

/* Runs a statement; what SQLite cannot read is a finding. */
static int each(struct journal_audit *journal, const char *sql, each_row *one,
                char error[STORE_ERROR])
{
    sqlite3_stmt *statement;
    sqlite3 *db = journal->reader.db;
    int got = sqlite3_prepare_v2(db, sql, -1, &statement, NULL), code = 0;
    if (got == SQLITE_OK)
        while ((got = sqlite3_step(statement)) == SQLITE_ROW)
            one(journal, statement);
    if (got != SQLITE_DONE)
        code = sql_failed(db, journal->path, "read", error);
    sqlite3_finalize(statement);
    if (code != HASUP_ECORRUPT)
        return code;
    if (!journal->damaged)
        tally(&journal->rows, 0, "%.120s", error);
    return 0;
}

static struct tally *stuck_of(struct journal_audit *journal, const char *model)
{
    for (size_t i = 0; i < journal->stuck_count; i++)
        if (strcmp(journal->stuck[i].model, model) == 0)
            return &journal->stuck[i].tally;
    struct stuck *list = audit_grown(journal->audit, journal->stuck, journal->stuck_count,
                                     &journal->stuck_room, sizeof *list);
    if (!list)
        return NULL;
    journal->stuck = list;
    struct stuck *one = &list[journal->stuck_count++];
    *one = (struct stuck){0};
    snprintf(one->model, sizeof one->model, "%s", model);
    return &one->tally;
}

static void check_stuck(struct journal_audit *journal, const struct journal_row *row)
{
    const struct audit_options *options = journal->audit->options;
    int64_t now = options->now_wall_ns;
    if (!options->stuck || now - row->created_wall_ns <= options->stuck ||
        (row->deadline_wall_ns && now <= row->deadline_wall_ns + DEADLINE_SLACK))
        return;
    struct tally *stuck = stuck_of(journal, row->model);
    if (stuck)
        tally(stuck, row->created_wall_ns, "record %llu", (unsigned long long)row->record);
}

/* Columns: REQUEST_HEAD, payload_sum, meta, body, whether it is finished, whether it is in a log.
 */
static void check_request(struct journal_audit *journal, sqlite3_stmt *statement)
{
    enum { SUM = REQUEST_HEAD_COLUMNS, META, BODY, FINISHED, LOGGED };
    struct journal_row row = {0};
    bool sound = row_request_read(statement, 0, &row);
    bool there = sqlite3_column_type(statement, SUM) != SQLITE_NULL;
    bool finished = sqlite3_column_int(statement, FINISHED);
    bool needed = !finished || sqlite3_column_int(statement, LOGGED);
    journal->audit->summary->requests += !finished;
    if (!sound) {
        damaged(journal, row.record, "the request does not fit its checksum");
        return;
    }
    if (!finished && !there)
        tally(&journal->parts, row.created_wall_ns, "record %llu: a request without its body",
              (unsigned long long)row.record);
    if (there && (needed || journal->audit->options->deep) &&
        (uint64_t)sqlite3_column_int64(statement, SUM) !=
            row_payload_sum(ROW_REQUEST, row.record, 0, row_bytes(statement, META),
                            row_bytes(statement, BODY)))
        damaged(journal, row.record, "the request's body does not fit its checksum");
    if (!finished)
        check_stuck(journal, &row);
}

static void add_logged(struct audit *audit, const struct row_result *result, bool gone)
{
    struct audit_slot *slot = audit_slot(audit, result->model, result->ordinal);
    if (!slot)
        return;
    struct audit_logged *log =
        audit_grown(audit, slot->log, slot->log_count, &slot->log_room, sizeof *log);
    if (!log)
        return;
    slot->log = log;
    slot->log[slot->log_count++] =
        (struct audit_logged){result->position, result->finished_wall_ns, gone};
}

/* Columns: RESULT_HEAD, payload_sum, meta, body, the request's model, whether its body is there,
 * whether the result was forgotten. */
static void check_result(struct journal_audit *journal, sqlite3_stmt *statement)
{
    enum { SUM = RESULT_HEAD_COLUMNS, META, BODY, MODEL, KEPT, FORGOTTEN };
    const struct audit_options *options = journal->audit->options;
    struct audit_summary *summary = journal->audit->summary;
    struct row_result result = {0};
    bool sound = row_result_read(statement, 0, &result);
    const char *model = (const char *)sqlite3_column_text(statement, MODEL);
    bool forgotten = sqlite3_column_int(statement, FORGOTTEN);
    summary->results += !forgotten;
    if (!sound) {
        damaged(journal, result.record, "the result does not fit its checksum");
        return;
    }
    if (!model)
        tally(&journal->parts, result.finished_wall_ns, "record %llu: a result without its request",
              (unsigned long long)result.record);
    else if (result.model && strcmp(result.model, model))
        damaged(journal, result.record, "the result is of another model than its request");
    if (options->deep &&
        (uint64_t)sqlite3_column_int64(statement, SUM) !=
            row_payload_sum(ROW_RESULT, result.record, 0, row_bytes(statement, META),
                            row_bytes(statement, BODY)))
        damaged(journal, result.record, "the result's body does not fit its checksum");
    if (result.position && result.model) {
        bool kept = sqlite3_column_int(statement, KEPT);
        summary->logged += kept;
        add_logged(journal->audit, &result, !kept);
    }
    if (forgotten)
        return;
    int64_t late = options->now_wall_ns - EXPIRED_SLACK;
    if (options->running_wall_ns && options->running_wall_ns < late && result.expires_wall_ns &&
        result.expires_wall_ns < late)
        tally(&journal->expired, result.expires_wall_ns, "record %llu",
              (unsigned long long)result.record);
}

/* Columns: record, number, sum, meta, body; of records that are not being cleared away. */
static void check_chunk(struct journal_audit *journal, sqlite3_stmt *statement)
{
    uint64_t record = (uint64_t)sqlite3_column_int64(statement, 0);
    uint64_t number = (uint64_t)sqlite3_column_int64(statement, 1);
    if ((uint64_t)sqlite3_column_int64(statement, 2) != row_payload_sum(ROW_CHUNK, record, number,
                                                                        row_bytes(statement, 3),
                                                                        row_bytes(statement, 4)))
        damaged(journal, record, "a part of its stream does not fit its checksum");
}

/* Columns: record. */
static void check_holes(struct journal_audit *journal, sqlite3_stmt *statement)
{
    tally(&journal->parts, 0, "record %llu: a part of its stream is missing",
          (unsigned long long)sqlite3_column_int64(statement, 0));
}

static void check_trim(struct journal_audit *journal, sqlite3_stmt *statement)
{
    uint64_t position, done;
    const char *model = (const char *)sqlite3_column_text(statement, 0);
    if (journal_db_trim_read(statement, &position, &done) || !model || done > position) {
        tally(&journal->rows, 0, "the trim mark of %.64s/%lld does not fit its checksum",
              model ? model : "?", (long long)sqlite3_column_int64(statement, 1));
        return;
    }
    struct audit_slot *slot =
        audit_slot(journal->audit, model, (uint32_t)sqlite3_column_int64(statement, 1));
    if (slot)
        slot->trimmed = position;
}

static void check_run(struct journal_audit *journal, sqlite3_stmt *statement)
{
    const struct row_run run = {.began_wall_ns = sqlite3_column_int64(statement, 0),
                                .last_wall_ns = sqlite3_column_int64(statement, 1),
                                .clean = sqlite3_column_int(statement, 2),
                                .reserved = (uint64_t)sqlite3_column_int64(statement, 3)};
    if ((uint64_t)sqlite3_column_int64(statement, 4) != row_run_sum(&run))
        tally(&journal->rows, 0, "the run marker does not fit its checksum");
}

static void check_event(struct journal_audit *journal, sqlite3_stmt *statement)
{
    uint64_t number = (uint64_t)sqlite3_column_int64(statement, 0);
    uint64_t created = (uint64_t)sqlite3_column_int64(statement, 1);
    if ((uint64_t)sqlite3_column_int64(statement, 2) != row_payload_sum(ROW_EVENT, number, created,
                                                                        (struct journal_bytes){0},
                                                                        row_bytes(statement, 3)))
        tally(&journal->rows, 0, "event %llu does not fit its checksum",
              (unsigned long long)number);
}

/* Columns: LETTER_HEAD, payload_sum, meta, body. */
static void check_letter(struct journal_audit *journal, sqlite3_stmt *statement)
{
    struct journal_letter letter = {0};
    if (!row_letter_read(statement, 0, &letter)) {
        tally(&journal->rows, 0, "dead letter %llu does not fit its checksum",
              (unsigned long long)letter.number);
        return;
    }
    journal->audit->summary->quarantined++;
    tally(&journal->quarantined, letter.created_wall_ns, "%016llx%016llx of %.64s",
          (unsigned long long)letter.hash[0], (unsigned long long)letter.hash[1], letter.model);
    if (!journal->audit->options->deep)
        return;
    letter.meta = row_bytes(statement, LETTER_HEAD_COLUMNS + 1);
    letter.body = row_bytes(statement, LETTER_HEAD_COLUMNS + 2);
    if ((uint64_t)sqlite3_column_int64(statement, LETTER_HEAD_COLUMNS) !=
        row_letter_payload_sum(&letter))
        tally(&journal->rows, 0, "the body of dead letter %llu does not fit its checksum",
              (unsigned long long)letter.number);
}

static int check_rows(struct journal_audit *journal, char error[STORE_ERROR])
{
    static const struct {
        const char *sql;
        each_row *one;
        bool deep;
    } SCANS[] = {
        {"SELECT began, last, clean, reserved, sum FROM run", check_run, false},
        {"SELECT " REQUEST_HEAD ", r.payload_sum, r.meta, r.body, s.record IS NOT NULL,"
         " coalesce(s.position, 0) > 0 FROM request r LEFT JOIN result s ON s.record = r.record",
         check_request, false},
        {"SELECT " RESULT_HEAD
         ", s.payload_sum, s.meta, s.body, r.model, r.payload_sum IS NOT NULL,"
         " f.record IS NOT NULL FROM result s LEFT JOIN request r ON r.record = s.record"
         " LEFT JOIN forgotten f ON f.record = s.record",
         check_result, false},
        {"SELECT model, ordinal, position, done, sum FROM trim", check_trim, false},
        {"SELECT c.record FROM chunk c JOIN request r ON r.record = c.record GROUP BY c.record"
         " HAVING count(*) <> max(c.number) OR min(c.number) <> 1",
         check_holes, false},
        {"SELECT c.record, c.number, c.sum, c.meta, c.body FROM chunk c"
         " JOIN request r ON r.record = c.record",
         check_chunk, true},
        {"SELECT id, created, sum, body FROM event", check_event, true},
    };
    int code = sql_run(journal->reader.db, journal->path, "BEGIN", "read", error);
    for (size_t i = 0; i < HASUP_LEN(SCANS) && !code; i++)
        if (!SCANS[i].deep || journal->audit->options->deep)
            code = each(journal, SCANS[i].sql, SCANS[i].one, error);
    if (!code && sql_number(journal->reader.db, "PRAGMA user_version") >= LETTER_SCHEMA)
        code = each(journal, "SELECT " LETTER_HEAD ", payload_sum, meta, body FROM letter",
                    check_letter, error);
    return code; /* closing ends it: a COMMIT would hide from `look` why it failed */
}

/* ---- what it comes to ---- */

static const char RESTART[] =
    "stop hasupd, keep a copy of it, and look at the disk; hasupd passes over "
    "what is damaged";

static void report_stuck(const struct journal_audit *journal)
{
    char age[32], most[32];
    const struct audit_options *options = journal->audit->options;
    for (size_t i = 0; i < journal->stuck_count; i++) {
        const struct tally *stuck = &journal->stuck[i].tally;
        audit_found(
            journal->audit, AUDIT_CODE_STUCK, journal->stuck[i].model, stuck->since,
            "hasupctl status says whether hasupd runs and has this model, and what hinders "
            "its workers",
            "%llu accepted request%s without a result for more than %s, the oldest (%s) for "
            "%s",
            (unsigned long long)stuck->count, stuck->count == 1 ? "" : "s",
            audit_span(options->stuck, most), stuck->first,
            audit_span(options->now_wall_ns - stuck->since, age));
    }
}

static void report_tally(const struct journal_audit *journal, enum audit_code code,
                         const struct tally *t, const char *advice, const char *one,
                         const char *many)
{
    if (t->count)
        audit_found(journal->audit, code, journal->path, t->since, advice, "%llu %s %s",
                    (unsigned long long)t->count, t->count == 1 ? one : many, t->first);
}

static void report(const struct journal_audit *journal)
{
    report_tally(journal, AUDIT_CODE_DAMAGED, &journal->rows, RESTART, "row is damaged;",
                 "rows are damaged;");
    report_tally(journal, AUDIT_CODE_INCOMPLETE, &journal->parts, RESTART, "row is incomplete;",
                 "rows are incomplete;");
    report_tally(journal, AUDIT_CODE_EXPIRED, &journal->expired,
                 "look for journal.failing in hasupd's log; a restart of hasupd removes them",
                 "answer is kept past the end of its time, the first is",
                 "answers are kept past the end of their time, the first is");
    report_tally(journal, AUDIT_CODE_QUARANTINED, &journal->quarantined,
                 "hasupctl requests letters lists them, show says how workers died",
                 "request was quarantined because workers died of it; the first is",
                 "requests were quarantined because workers died of them; the first is");
    if (journal->reader.wal_unread)
        audit_found(journal->audit, AUDIT_CODE_INCOMPLETE, journal->path, 0,
                    "start hasupd, which merges it",
                    "its -wal holds requests that are not merged and cannot be checked");
    report_stuck(journal);
}

static int check_opened(struct journal_audit *journal, char error[STORE_ERROR])
{
    struct audit *audit = journal->audit;
    sqlite3 *db = journal->reader.db;
    if (sql_number(db, "SELECT count(*) FROM sqlite_master") == 0) {
        if (audit_is_settled(&journal->reader.file) && !journal->reader.wal_unread)
            audit_found(audit, AUDIT_CODE_MISSING, journal->path, 0,
                        "find out what emptied it; hasupd begins a new one by itself",
                        "the file is empty");
        return 0;
    }
    int code = sql_check_schema(db, journal->path, &JOURNAL_SQL_SCHEMA, false, error);
    if (!code)
        code = reader_check(&journal->reader, audit->options->deep, error);
    if (code == HASUP_ECORRUPT) {
        journal->damaged = true;
        audit_found(audit, AUDIT_CODE_DAMAGED, journal->path, 0, RESTART, "%s", error);
        code = 0;
    }
    if (!code)
        code = check_rows(journal, error);
    if (!code)
        report(journal);
    return code;
}

static void start_over(struct audit *audit, size_t held)
{
    audit->held_count = held;
    *audit->summary = (struct audit_summary){0};
    for (size_t i = 0; i < audit->slot_count; i++) {
        audit->slots[i].log_count = 0;
        audit->slots[i].trimmed = 0;
    }
}

static void check_absent(struct audit *audit, const char *path)
{
    char wal[4096 + 8];
    struct stat st;
    snprintf(wal, sizeof wal, "%s-wal", path);
    if (stat(wal, &st) == 0 && stat(path, &st))
        audit_found(audit, AUDIT_CODE_MISSING, path, 0,
                    "bring it back before hasupd starts: without it what its -wal holds is lost",
                    "it was removed: only its -wal is there");
}

/* Once: *again says that hasupd came in between and what was found is not to be trusted. */
static int look(struct audit *audit, const char *path, bool *again, char error[STORE_ERROR])
{
    size_t before = audit->held_count;
    struct journal_audit journal = {.audit = audit, .path = path};
    int code = reader_open(&journal.reader, path, error);
    *again = false;
    if (code == HASUP_ENOTFOUND) {
        check_absent(audit, path);
        return 0;
    }
    if (code == HASUP_ECORRUPT) {
        audit_found(audit, AUDIT_CODE_DAMAGED, path, 0, RESTART, "%s", error);
        return 0;
    }
    if (!code) {
        code = check_opened(&journal, error);
        bool disturbed =
            reader_is_disturbed(&journal.reader) || reader_is_transient(&journal.reader);
        *again = disturbed && (code || audit->held_count > before);
    }
    reader_close(&journal.reader);
    free(journal.stuck);
    return code;
}

enum audit_result audit_journal(struct audit *audit, char error[STORE_ERROR])
{
    char path[4096];
    size_t before = audit->held_count;
    bool again = true;
    int code = 0;
    snprintf(path, sizeof path, "%s/journal.db", audit->options->state_dir);
    for (int attempt = 0; again && attempt < AUDIT_ATTEMPTS; attempt++) {
        audit_pause(attempt);
        start_over(audit, before);
        code = look(audit, path, &again, error);
    }
    if (again && !code)
        snprintf(error, STORE_ERROR, "%.180s: it is opened and closed all the time", path);
    return code || again ? AUDIT_COULD_NOT : AUDIT_SOUND;
}

/* ---- what hasupd noted of its slots ---- */

static bool note_activity(void *context, const struct activity *activity)
{
    struct audit_slot *slot = audit_slot(context, activity->model, activity->ordinal);
    if (slot) {
        slot->known = true;
        slot->changed = activity->position;
        slot->changed_wall_ns = activity->changed_wall_ns;
    }
    return slot != NULL;
}

void audit_activity(struct audit *audit)
{
    audit->noted = activity_each(audit->options->state_dir, note_activity, audit) == 0;
}
