/*
 * reader.c: opens a database without leaving a trace.  In WAL mode, where a writer has it open, or
 * died with it open, the WAL and its index are there and are read as they are; where they are not,
 * everything stands in the file itself, which nobody has open: it is read without locks.  In the
 * other mode SQLite's locks keep readers and a writer apart; where a writer died amid a save, its
 * rollback journal is there, which only a writer may play back: the reader sees the file as it was
 * before that save (reader_undo.c).
 */
#include "checkpoints/reader.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { TRIES = 20, TRY_MS = 5, BUSY_MS = 30 * 1000 }; /* for a large save to end */

static int open_uri(struct reader *reader, const char *parameters, const char *vfs,
                    char error[SQL_ERROR])
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
                        vfs) != SQLITE_OK)
        return sql_failed(reader->db, reader->path, "open", error);
    sqlite3_extended_result_codes(reader->db, 1);
    sqlite3_busy_timeout(reader->db, BUSY_MS);
    return 0;
}

static int first_read(const struct reader *reader, char error[SQL_ERROR])
{
    return sql_number(reader->db, "PRAGMA schema_version") < 0
               ? sql_failed(reader->db, reader->path, "read", error)
               : 0;
}

/* What the file's header says, read before SQLite makes a WAL that is not there. */
static bool is_wal(const struct reader *reader)
{
    enum { AT = 18, WAL = 2 };
    uint8_t versions[2] = {0};
    sqlite3_file *file = NULL;
    sqlite3_file_control(reader->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    return file && file->pMethods &&
           file->pMethods->xRead(file, versions, sizeof versions, AT) == SQLITE_OK &&
           versions[1] == WAL;
}

static int open_immutable(struct reader *reader, const char *vfs, char error[SQL_ERROR])
{
    reader->immutable = true;
    int code = open_uri(reader, "?immutable=1", vfs, error);
    return code ? code : first_read(reader, error);
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
static int open_plain(struct reader *reader, char error[SQL_ERROR])
{
    int code = HASUP_EIO;
    for (unsigned i = 0; i < TRIES; i++) {
        code = open_uri(reader, "?readonly_shm=1", NULL, error);
        if (code)
            return code;
        bool wal = is_wal(reader);
        if (wal && !reader->used)
            return HASUP_EIO;
        code = first_read(reader, error);
        if (!code || !wal || !reader_is_transient(reader))
            return code;
        poll(NULL, 0, TRY_MS);
    }
    return code;
}

static int open_once(struct reader *reader, const char *path, char error[SQL_ERROR])
{
    *reader = (struct reader){.path = path};
    if (access(path, R_OK)) {
        int why = errno;
        snprintf(error, SQL_ERROR, "%.150s: %.80s", path, strerror(why));
        return why == ENOENT ? HASUP_ENOTFOUND : HASUP_EIO;
    }
    reader->used = beside(reader, "-wal") >= 0 && beside(reader, "-shm") >= 0;
    int code = open_plain(reader, error);
    if (code && sqlite3_extended_errcode(reader->db) == SQLITE_READONLY_ROLLBACK) {
        code = open_immutable(reader, reader_undo_vfs(), error);
    } else if (code && code != HASUP_ECORRUPT) {
        code = open_immutable(reader, NULL, error);
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

/* A writer that came after it was looked for, and whose WAL is not taken into account. */
static bool writer_came(const struct reader *reader)
{
    return reader->wal_unread && !reader->used && beside(reader, "-shm") >= 0;
}

int reader_open(struct reader *reader, const char *path, char error[SQL_ERROR])
{
    int code = open_once(reader, path, error);
    for (unsigned i = 1; !code && writer_came(reader) && i < TRIES; i++) {
        reader_close(reader);
        code = open_once(reader, path, error);
    }
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
