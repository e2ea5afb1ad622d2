/*
 * sql.c: what every database of hasup does with SQLite alike: errors as text with their place,
 * one-number queries, and the refusal of files that are not ours.  Owns nothing.
 */
#include "checkpoints/sql.h"

#include <stdio.h>

int sql_code(int sqlite)
{
    switch (sqlite & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return HASUP_ECORRUPT;
    case SQLITE_NOMEM: return HASUP_ENOMEM;
    case SQLITE_TOOBIG: return HASUP_ETOOBIG;
    case SQLITE_CONSTRAINT: return HASUP_EINVAL;
    default: return HASUP_EIO;
    }
}

int sql_failed(sqlite3 *db, const char *path, const char *step, char error[SQL_ERROR])
{
    int extended = sqlite3_extended_errcode(db);
    int system = sqlite3_system_errno(db);
    bool of_system =
        system && ((extended & 0xff) == SQLITE_IOERR || (extended & 0xff) == SQLITE_CANTOPEN ||
                   (extended & 0xff) == SQLITE_FULL);
    snprintf(error, SQL_ERROR, "%.120s: %s: %.70s (%d)%s%.30s", path, step, sqlite3_errmsg(db),
             extended, of_system ? ": " : "", of_system ? strerror(system) : "");
    return sql_code(extended);
}

int sql_run(sqlite3 *db, const char *path, const char *sql, const char *step, char error[SQL_ERROR])
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                : sql_failed(db, path, step, error);
}

int64_t sql_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t value = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

int sql_check_schema(sqlite3 *db, const char *path, const struct sql_schema *schema, bool make,
                     char error[SQL_ERROR])
{
    int64_t tables = sql_number(db, "SELECT count(*) FROM sqlite_master");
    if (tables < 0)
        return sql_failed(db, path, "read", error);
    if (tables == 0 && !make)
        return 0;
    if (tables == 0) {
        int code = sql_run(db, path, "BEGIN IMMEDIATE", "make tables", error);
        if (!code)
            code = sql_run(db, path, schema->tables, "make tables", error);
        return code ? code : sql_run(db, path, "COMMIT", "make tables", error);
    }
    if (sql_number(db, "PRAGMA application_id") != schema->application_id) {
        snprintf(error, SQL_ERROR, "%.180s: a database, but not %s", path, schema->what);
        return HASUP_EINVAL;
    }
    int64_t version = sql_number(db, "PRAGMA user_version");
    if (version > schema->version ||
        version < (schema->oldest ? schema->oldest : schema->version)) {
        snprintf(error, SQL_ERROR, "%.150s: schema version %lld; this hasup knows %d: use the %s",
                 path, (long long)version, schema->version,
                 version > schema->version ? "newer hasup" : "hasup that wrote it");
        return HASUP_EINVAL;
    }
    return 0;
}

struct sql_bytes sql_column_bytes(sqlite3_stmt *statement, int column)
{
    struct sql_bytes bytes = {sqlite3_column_blob(statement, column), 0};
    if (bytes.at)
        bytes.len = (size_t)sqlite3_column_bytes(statement, column);
    return bytes;
}

int sql_bind_bytes(sqlite3_stmt *statement, int place, const uint8_t *at, size_t len)
{
    return len ? sqlite3_bind_blob64(statement, place, at, len, SQLITE_STATIC)
               : sqlite3_bind_zeroblob(statement, place, 0);
}
