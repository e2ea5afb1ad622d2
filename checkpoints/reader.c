/*
 * reader.c: opens a database in WAL mode without leaving a trace.  Where a writer has it open, or
 * died with it open, the WAL and its index are there and are read as they are.  Where they are not,
 * everything stands in the file itself, which nobody has open: it is read without locks.
 */
#include "checkpoints/reader.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { BUSY_MS = 2000, TRIES = 20, TRY_MS = 5 };

static int open_uri(struct reader *reader, const char *parameters, char error[SQL_ERROR])
{
    char uri[3 * PATH_MAX + 64] = "file:";
    size_t used = strlen(uri);
    for (const char *at = reader->path; *at && used + 64 < sizeof uri; at++)
        used += (size_t)snprintf(uri + used, 4, strchr("?#% ", *at) ? "%%%02X" : "%c",
                                 (unsigned char)*at);
    snprintf(uri + used, sizeof uri - used, "%s", parameters);
    reader_close(reader);
    if (sqlite3_open_v2(uri, &reader->db,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK)
        return sql_failed(reader->db, reader->path, "open", error);
    sqlite3_extended_result_codes(reader->db, 1);
    sqlite3_busy_timeout(reader->db, BUSY_MS);
    return sql_number(reader->db, "PRAGMA schema_version") < 0
               ? sql_failed(reader->db, reader->path, "read", error)
               : 0;
}

/* The size of the file beside the database; -1: there is none. */
static int64_t beside(const struct reader *reader, const char *suffix)
{
    char path[PATH_MAX + 8];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", reader->path, suffix);
    return stat(path, &st) ? -1 : (int64_t)st.st_size;
}

/*
 * A reader that may not write the WAL's index cannot tell one that a writer is just changing from
 * one that a dead writer left half changed: it says that it would have to recover it.  The first
 * passes.
 */
static int open_used(struct reader *reader, char error[SQL_ERROR])
{
    int code = HASUP_EIO;
    for (unsigned i = 0; i < TRIES; i++) {
        code = open_uri(reader, "?readonly_shm=1", error);
        if (!code || !reader_is_transient(reader))
            return code;
        poll(NULL, 0, TRY_MS);
    }
    return code;
}

int reader_open(struct reader *reader, const char *path, char error[SQL_ERROR])
{
    *reader = (struct reader){.path = path};
    if (access(path, R_OK)) {
        int why = errno;
        snprintf(error, SQL_ERROR, "%.150s: %.80s", path, strerror(why));
        return why == ENOENT ? HASUP_ENOTFOUND : HASUP_EIO;
    }
    reader->used = beside(reader, "-wal") >= 0 && beside(reader, "-shm") >= 0;
    int code = reader->used ? open_used(reader, error) : HASUP_EIO;
    if (code && code != HASUP_ECORRUPT) {
        reader->immutable = true;
        code = open_uri(reader, "?immutable=1", error);
        reader->wal_unread = beside(reader, "-wal") > 0;
    }
    if (!code && stat(path, &reader->file)) {
        snprintf(error, SQL_ERROR, "%.150s: %.80s", path, strerror(errno));
        code = HASUP_EIO;
    }
    if (code)
        reader_close(reader);
    return code;
}

void reader_close(struct reader *reader)
{
    sqlite3_close(reader->db);
    reader->db = NULL;
}

bool reader_is_disturbed(const struct reader *reader)
{
    struct stat now;
    return reader->immutable && (stat(reader->path, &now) || now.st_ino != reader->file.st_ino ||
                                 now.st_size != reader->file.st_size ||
                                 now.st_mtim.tv_sec != reader->file.st_mtim.tv_sec ||
                                 now.st_mtim.tv_nsec != reader->file.st_mtim.tv_nsec ||
                                 (!reader->used && beside(reader, "-shm") >= 0));
}

bool reader_is_transient(const struct reader *reader)
{
    int kind = reader->db ? sqlite3_errcode(reader->db) & 0xff : SQLITE_OK;
    return !reader->immutable && (kind == SQLITE_READONLY || kind == SQLITE_BUSY);
}

int reader_check(const struct reader *reader, bool deep, char error[SQL_ERROR])
{
    sqlite3_stmt *check;
    const char *sql = deep ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)";
    if (sqlite3_prepare_v2(reader->db, sql, -1, &check, NULL) != SQLITE_OK)
        return sql_failed(reader->db, reader->path, "check", error);
    const char *text =
        sqlite3_step(check) == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    int code = 0;
    if (!text) {
        code = sql_failed(reader->db, reader->path, "check", error);
    } else if (strcmp(text, "ok")) {
        snprintf(error, SQL_ERROR, "%.100s: SQLite finds it damaged: %.100s", reader->path, text);
        code = HASUP_ECORRUPT;
    }
    sqlite3_finalize(check);
    return code;
}
