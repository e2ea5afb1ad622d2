/*
 * sql.h: the few SQLite words that every database of hasup shares.  Inside checkpoints/ only.
 */
#ifndef HASUP_CHECKPOINTS_SQL_H
#define HASUP_CHECKPOINTS_SQL_H

#include "ipc/base.h"

#include <sqlite3.h>

enum { SQL_ERROR = 256 };

/* What an application_id, a user_version and the tables of a new file are. */
struct sql_schema {
    int32_t application_id, version;
    int32_t oldest;     /* that can still be read; 0: only `version` */
    const char *what;   /* "a journal of hasup" */
    const char *tables; /* makes them in an empty database, application_id and user_version too */
};

/* HASUP_ECORRUPT, HASUP_ENOMEM, HASUP_ETOOBIG, HASUP_EINVAL (a constraint), else HASUP_EIO. */
int sql_code(int sqlite);
/* "PATH: STEP: what SQLite says (and what the system said)"; answers the code. */
int sql_failed(sqlite3 *db, const char *path, const char *step, char error[SQL_ERROR]);
int sql_run(sqlite3 *db, const char *path, const char *sql, const char *step,
            char error[SQL_ERROR]) HASUP_NODISCARD;
/* The first column of the first row; -1 where there is none or it failed. */
int64_t sql_number(sqlite3 *db, const char *sql);
/* Whether the file is of this program and of a version that it knows; makes the tables of an empty
 * one where `make`. */
int sql_check_schema(sqlite3 *db, const char *path, const struct sql_schema *schema, bool make,
                     char error[SQL_ERROR]) HASUP_NODISCARD;

/* Bytes of a column, borrowed until the statement moves on; a NULL is {NULL, 0}. */
struct sql_bytes {
    const uint8_t *at;
    size_t len;
};
struct sql_bytes sql_column_bytes(sqlite3_stmt *statement, int column);
static inline int sql_bind_number(sqlite3_stmt *statement, int place, uint64_t number)
{
    return sqlite3_bind_int64(statement, place, (int64_t)number);
}
/* Never NULL bytes: an empty value is an empty blob. */
int sql_bind_bytes(sqlite3_stmt *statement, int place, const uint8_t *at, size_t len);

#endif
