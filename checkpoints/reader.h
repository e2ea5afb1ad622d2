/*
 * reader.h: a database of hasup opened for the eyes of an audit: makes and changes no file, works
 * beside a writer, after one that was killed, and on a read-only disk.  Inside checkpoints/ only.
 */
#ifndef HASUP_CHECKPOINTS_READER_H
#define HASUP_CHECKPOINTS_READER_H

#include "checkpoints/sql.h"

#include <sys/stat.h>

struct reader {
    sqlite3 *db;
    const char *path;
    bool immutable;   /* nobody had it open: it is read without locks */
    bool used;        /* there were a WAL and its index when it was opened */
    bool wal_unread;  /* a WAL with content that could not be taken into account */
    struct stat file; /* as it was opened */
};

/* `path` is borrowed until the close.  HASUP_ENOTFOUND, else as sql_failed. */
int reader_open(struct reader *reader, const char *path, char error[SQL_ERROR]) HASUP_NODISCARD;
void reader_close(struct reader *reader);
/* A writer came while this reader read without locks: what it found may be wrong, open it again. */
bool reader_is_disturbed(const struct reader *reader);
/* The last failure may be gone at the next try: a writer was at work. */
bool reader_is_transient(const struct reader *reader);
/* SQLite's own check (`deep`: integrity_check).  0; HASUP_ECORRUPT and what it says. */
int reader_check(const struct reader *reader, bool deep, char error[SQL_ERROR]) HASUP_NODISCARD;

/* reader_undo.c: the name of a VFS that shows a database as it was before the save that its
 * rollback journal would undo; for immutable connections. */
const char *reader_undo_vfs(void);

#endif
