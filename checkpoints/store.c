/*
 * store.c: opens and closes checkpoints.db: its schema, the ways in for a writer and for a reader
 * that must change nothing.
 *
 * The journal mode is PERSIST, SQLite's rollback journal, not a WAL.  Rows are only ever added at
 * the end or on free pages, of which a rollback journal keeps nothing, so a state is written once;
 * a WAL writes it twice.  And after a commit the file itself is all there is: a WAL that stays
 * would hide damage, because SQLite takes a broken frame for the end of what was committed.  The
 * price: a reader waits while a save is written, and a save while a reader reads.
 */
#include "checkpoints/store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BUSY_MS = 5 * 1000 };

#define TABLES                                                                                     \
    /* Rows are known by ids that grow and are never used twice. */                                \
    "CREATE TABLE pack ("                                                                          \
    " id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL, codec INTEGER NOT NULL,"  \
    " seal BLOB, bytes BLOB NOT NULL);" /* Which rows a generation has. */                         \
    "CREATE TABLE span ("                                                                          \
    " first INTEGER PRIMARY KEY, last INTEGER NOT NULL, generation INTEGER NOT NULL);"

static const struct sql_schema SCHEMA = {
    .application_id = 0x68617375 /* "hasu" */,
    .version = STORE_SCHEMA,
    .oldest = 1,
    .what = "one of hasup",
    .tables = "PRAGMA application_id = 1751217013;"
              "PRAGMA user_version = 2;"
              "CREATE TABLE manifest ("
              " id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL,"
              " ordinal INTEGER NOT NULL,"
              " position INTEGER NOT NULL, created INTEGER NOT NULL, length INTEGER NOT NULL,"
              " rows INTEGER NOT NULL, hash BLOB NOT NULL, generation INTEGER NOT NULL DEFAULT 0,"
              " since INTEGER NOT NULL DEFAULT 0, fresh INTEGER NOT NULL DEFAULT 0,"
              " written INTEGER NOT NULL DEFAULT 0, base INTEGER NOT NULL DEFAULT 0,"
              " delta INTEGER NOT NULL DEFAULT 0, key BLOB);" TABLES,
};

/* What schema 1 lacks; its checkpoints stay as they are (generation 0). */
#define COLUMN(name) "ALTER TABLE manifest ADD COLUMN " name " INTEGER NOT NULL DEFAULT 0;"
static const char FROM_1[] =
    "BEGIN IMMEDIATE;" COLUMN("generation") COLUMN("since") COLUMN("fresh") COLUMN("written")
        COLUMN("base") COLUMN("delta") "ALTER TABLE manifest ADD COLUMN key BLOB;" TABLES
                                       "PRAGMA user_version = 2;"
                                       "COMMIT;";

/* ---- statements ---- */

int store_failed(struct store *store, const char *step, char error[STORE_ERROR])
{
    return sql_failed(store->db, store->path, step, error);
}

sqlite3_stmt *store_prepare(struct store *store, const char *sql, char error[STORE_ERROR])
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK)
        return statement;
    store_failed(store, "prepare", error);
    return NULL;
}

int store_finish(struct store *store, sqlite3_stmt *statement, const char *step,
                 char error[STORE_ERROR])
{
    int got;
    while ((got = sqlite3_step(statement)) == SQLITE_ROW)
        continue;
    int code = got == SQLITE_DONE ? 0 : store_failed(store, step, error);
    sqlite3_finalize(statement);
    return code;
}

void store_wait(struct store *store, bool wait)
{
    sqlite3_busy_timeout(store->db, wait ? BUSY_MS : 0);
}

/* ---- the writer's way in ---- */

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd);
    if (fd >= 0)
        close(fd);
    return failed;
}

/* Makes the file where it is missing: 0600 whatever the umask is, which belongs to all threads and
 * to the workers that are started meanwhile.  Its name, and that of its new directory, are synced,
 * so that a power cut cannot lose the file with all that was saved to it. */
static int make_file(struct store *store, char error[STORE_ERROR])
{
    char directory[sizeof store->path + 4];
    int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    char *slash = strrchr(strcpy(directory, store->path), '/');
    strcpy(slash ? slash + 1 : directory, ".");
    /* SQLite writes beside it, too, and would say of a read-only disk that there is no such file.
     */
    if (fd < 0 && errno == EEXIST && access(store->path, W_OK) == 0 && access(directory, W_OK) == 0)
        return 0;
    if (fd < 0) {
        snprintf(error, STORE_ERROR, "%.150s: cannot write it: %.80s", store->path,
                 strerror(errno));
        return HASUP_EIO;
    }
    int wrong = fchmod(fd, 0600);
    close(fd);
    wrong |= sync_directory(directory);
    strcpy(slash ? slash + 1 : directory, "..");
    (void)sync_directory(directory); /* may be another's, and unreadable */
    if (!wrong)
        return 0;
    snprintf(error, STORE_ERROR, "%.150s: cannot sync its directory: %.60s", store->path,
             strerror(errno));
    unlink(store->path);
    return HASUP_EIO;
}

/* A file that is not hasup's is left exactly as it is. */
static int open_writer(struct store *store, char error[STORE_ERROR])
{
    int code = make_file(store, error);
    if (code)
        return code;
    if (sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return store_failed(store, "open", error);
    store_wait(store, true);
    code = sql_check_schema(store->db, store->path, &SCHEMA, false, error);
    if (code)
        return code;
    code = sql_run(store->db, store->path,
                   "PRAGMA page_size = 65536; PRAGMA auto_vacuum = INCREMENTAL;"
                   "PRAGMA cache_size = -1024; PRAGMA cell_size_check = ON;"
                   "PRAGMA journal_mode = PERSIST; PRAGMA journal_size_limit = 4194304;"
                   "PRAGMA synchronous = FULL;",
                   "set up", error);
    if (!code)
        code = sql_check_schema(store->db, store->path, &SCHEMA, true, error);
    if (!code && sql_number(store->db, "PRAGMA user_version") == 1)
        code = sql_run(store->db, store->path, FROM_1, "bring up to schema 2", error);
    if (code)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

static int open_reader(struct store *store, char error[STORE_ERROR])
{
    int code = reader_open(&store->reader, store->path, error);
    store->db = store->reader.db;
    return code ? code : sql_check_schema(store->db, store->path, &SCHEMA, false, error);
}

/* ---- open, close ---- */

static int set_up(struct store *store, char error[STORE_ERROR])
{
    int code = crypto_load(error);
    if (!code)
        code = store->mode == STORE_WRITE ? open_writer(store, error) : open_reader(store, error);
    if (code)
        return code;
    if (stat(store->path, &store->file)) {
        snprintf(error, STORE_ERROR, "%.150s: %.80s", store->path, strerror(errno));
        return HASUP_EIO;
    }
    bool any = sql_number(store->db, "SELECT count(*) FROM sqlite_master") > 0;
    store->schema = any ? (int)sql_number(store->db, "PRAGMA user_version") : 0;
    store->old_parts =
        sql_number(store->db, "SELECT count(*) FROM sqlite_master WHERE name = 'part'") > 0;
    return 0;
}

int store_open(const char *path, enum store_mode mode, struct store **out, char error[STORE_ERROR])
{
    struct store *store = calloc(1, sizeof *store);
    *out = NULL;
    if (!store || strlen(path) >= sizeof store->path) {
        snprintf(error, STORE_ERROR, "%s", store ? "the path is too long" : "out of memory");
        free(store);
        return store ? HASUP_EINVAL : HASUP_ENOMEM;
    }
    strcpy(store->path, path);
    store->mode = mode;
    store->options.cache = STORE_CACHE;
    int code = set_up(store, error);
    if (code) {
        store_close(store);
        return code;
    }
    *out = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store_forget_all(store);
    sqlite3_close(store->db);
    free(store);
}

void store_set(struct store *store, const struct store_options *options)
{
    store->options = *options;
}

/* ---- what became of the file ---- */

bool store_is_read_only(const struct store *store)
{
    return store && store->mode == STORE_READ;
}

bool store_wal_unread(const struct store *store)
{
    return store->reader.wal_unread;
}

bool store_is_gone(const struct store *store)
{
    struct stat now;
    return stat(store->path, &now) || now.st_ino != store->file.st_ino ||
           now.st_dev != store->file.st_dev;
}

bool store_is_disturbed(const struct store *store)
{
    return reader_is_disturbed(&store->reader);
}
