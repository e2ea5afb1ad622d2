/*
 * store.c: checkpoints.db.  Owns the SQLite connection and its statements.  A save is one
 * transaction: the manifest, its rows, and the deletion of what retention lets go; so a reader and
 * a crash see all of it or nothing.  Every read verifies every hash.  Freed pages are used again.
 *
 * The WAL is folded back and emptied after each save.  A WAL that stays would hide damage: SQLite
 * takes a broken frame for the end of what was committed and drops the newest saves in silence.
 */
#include "checkpoints/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>
#include <xxhash.h>

enum { APPLICATION_ID = 0x68617375 /* "hasu" */, BUSY_MS = 2 * 1000 };

static const char SCHEMA[] =
    "BEGIN IMMEDIATE;"
    "PRAGMA application_id = 1751217013;" /* APPLICATION_ID */
    "PRAGMA user_version = 1;"
    "CREATE TABLE IF NOT EXISTS manifest ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, ordinal INTEGER NOT NULL,"
    " position INTEGER NOT NULL, created INTEGER NOT NULL, length INTEGER NOT NULL,"
    " rows INTEGER NOT NULL, hash BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS part ("
    " manifest INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, bytes BLOB NOT NULL,"
    " PRIMARY KEY (manifest, number)) WITHOUT ROWID;"
    "COMMIT;";

#define MANIFEST_COLUMNS "id, model, ordinal, position, created, length, rows, hash"

struct store {
    sqlite3 *db;
    enum store_mode mode;
    bool immutable;   /* nobody had it open: read without locks and without making files */
    bool wal_unread;  /* a WAL with content that this reader could not take into account */
    struct stat file; /* as it was opened */
    char path[512];
};

/* ---- errors ---- */

static int code_of(int sqlite)
{
    switch (sqlite & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT: return HASUP_ECORRUPT;
    case SQLITE_NOMEM: return HASUP_ENOMEM;
    default: return HASUP_EIO;
    }
}

static int failed(struct store *store, const char *step, char error[STORE_ERROR])
{
    int extended = sqlite3_extended_errcode(store->db), why = sqlite3_system_errno(store->db);
    int kind = extended & 0xff;
    bool system = why && (kind == SQLITE_IOERR || kind == SQLITE_CANTOPEN || kind == SQLITE_FULL);
    snprintf(error, STORE_ERROR, "%.120s: %s: %.70s%s%.40s", store->path, step,
             sqlite3_errmsg(store->db), system ? ": " : "", system ? strerror(why) : "");
    return code_of(extended);
}

static int run(struct store *store, const char *sql, const char *step, char error[STORE_ERROR])
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
                                                                       : failed(store, step, error);
}

static int64_t pragma(struct store *store, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t value = -1;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return value;
}

/* ---- open ---- */

/* Whether the file is of hasup, and of a version that this program knows; `empty`: it is new. */
static int check_schema(struct store *store, bool *empty, char error[STORE_ERROR])
{
    int64_t tables = pragma(store, "SELECT count(*) FROM sqlite_master");
    *empty = tables == 0;
    if (tables < 0)
        return failed(store, "read", error);
    if (tables == 0)
        return 0;
    if (pragma(store, "PRAGMA application_id") != APPLICATION_ID) {
        snprintf(error, STORE_ERROR, "%.200s: a database, but not one of hasup", store->path);
        return HASUP_EINVAL;
    }
    int64_t version = pragma(store, "PRAGMA user_version");
    if (version != STORE_SCHEMA) {
        snprintf(error, STORE_ERROR, "%.150s: schema version %lld; this hasup knows %d: use the %s",
                 store->path, (long long)version, STORE_SCHEMA,
                 version > STORE_SCHEMA ? "newer hasup" : "hasup that wrote it");
        return HASUP_EINVAL;
    }
    return 0;
}

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
    bool empty;
    int code = make_file(store, error);
    if (code)
        return code;
    if (sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return failed(store, "open", error);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    code = check_schema(store, &empty, error);
    if (!code)
        code = run(store, "PRAGMA page_size = 65536; PRAGMA journal_mode = WAL;", "set up", error);
    if (!code)
        code = run(store,
                   "PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;"
                   "PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 0;",
                   "set up", error);
    if (!code && empty)
        code = run(store, SCHEMA, "make tables", error);
    return code;
}

/* Opens for reading by a URI, which knows what the plain call does not. */
static int open_uri(struct store *store, const char *parameters, char error[STORE_ERROR])
{
    char uri[sizeof store->path * 3 + 64] = "file:";
    size_t used = strlen(uri);
    for (const char *at = store->path; *at; at++)
        used +=
            (size_t)sprintf(uri + used, strchr("?#% ", *at) ? "%%%02X" : "%c", (unsigned char)*at);
    strcpy(uri + used, parameters);
    sqlite3_close(store->db);
    store->db = NULL;
    if (sqlite3_open_v2(uri, &store->db,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK)
        return failed(store, "open", error);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    return pragma(store, "PRAGMA schema_version") < 0 ? failed(store, "read", error) : 0;
}

/* The size of the file beside the database; -1: there is none. */
static int64_t beside(const struct store *store, const char *suffix)
{
    char path[sizeof store->path + 8];
    struct stat st;
    snprintf(path, sizeof path, "%s%s", store->path, suffix);
    return stat(path, &st) ? -1 : (int64_t)st.st_size;
}

/*
 * A reader makes and changes no file.  Where a writer has the database open, or died with it open,
 * the WAL and its index are there and are read as they are.  Where they are not, everything stands
 * in the file itself, which nobody has open: it is read without locks.
 */
static int open_reader(struct store *store, char error[STORE_ERROR])
{
    if (access(store->path, R_OK)) {
        int why = errno;
        snprintf(error, STORE_ERROR, "%.150s: %.80s", store->path, strerror(why));
        return why == ENOENT ? HASUP_ENOTFOUND : HASUP_EIO;
    }
    bool empty, used = beside(store, "-wal") >= 0 && beside(store, "-shm") >= 0;
    int code = used ? open_uri(store, "?readonly_shm=1", error) : HASUP_EIO;
    if (code && code != HASUP_ECORRUPT) {
        store->immutable = true;
        code = open_uri(store, "?immutable=1", error);
        store->wal_unread = beside(store, "-wal") > 0;
    }
    return code ? code : check_schema(store, &empty, error);
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
    int code = mode == STORE_WRITE ? open_writer(store, error) : open_reader(store, error);
    if (!code && stat(path, &store->file)) {
        snprintf(error, STORE_ERROR, "%.150s: %.80s", path, strerror(errno));
        code = HASUP_EIO;
    }
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
    sqlite3_close(store->db);
    free(store);
}

bool store_is_read_only(const struct store *store)
{
    return store && store->mode == STORE_READ;
}

bool store_wal_unread(const struct store *store)
{
    return store->wal_unread;
}

bool store_is_gone(const struct store *store)
{
    struct stat now;
    return stat(store->path, &now) || now.st_ino != store->file.st_ino ||
           now.st_dev != store->file.st_dev;
}

bool store_is_disturbed(const struct store *store)
{
    struct stat now;
    return store->immutable &&
           (stat(store->path, &now) || now.st_ino != store->file.st_ino ||
            now.st_size != store->file.st_size ||
            now.st_mtim.tv_sec != store->file.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != store->file.st_mtim.tv_nsec || beside(store, "-shm") >= 0);
}

/* ---- hashes ---- */

static void put_hash(uint8_t out[16], XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, 16);
}

static void part_hash(uint8_t out[16], const uint8_t *bytes, size_t len)
{
    put_hash(out, XXH3_128bits(bytes, len));
}

/* Of the whole checkpoint: its own fields, then the hashes of its rows in order. */
static XXH3_state_t *whole_begin(const struct checkpoint_info *info)
{
    uint8_t fields[4 + 8 * 5];
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return NULL;
    XXH3_128bits_reset(state);
    hasup_put32(fields, info->ordinal);
    hasup_put64(fields + 4, info->position);
    hasup_put64(fields + 12, (uint64_t)info->created_wall_ns);
    hasup_put64(fields + 20, info->len);
    hasup_put64(fields + 28, info->rows);
    hasup_put64(fields + 36, (uint64_t)info->id);
    XXH3_128bits_update(state, fields, sizeof fields);
    XXH3_128bits_update(state, info->model, strlen(info->model) + 1);
    return state;
}

static void whole_end(XXH3_state_t *state, uint8_t out[16])
{
    put_hash(out, XXH3_128bits_digest(state));
    XXH3_freeState(state);
}

/* ---- save ---- */

static int save_parts(struct store *store, const struct checkpoint_info *info, const uint8_t *bytes,
                      XXH3_state_t *whole, char error[STORE_ERROR])
{
    sqlite3_stmt *insert;
    int code = 0;
    if (sqlite3_prepare_v2(store->db, "INSERT INTO part VALUES (?, ?, ?, ?)", -1, &insert, NULL) !=
        SQLITE_OK)
        return failed(store, "save", error);
    for (uint32_t row = 0; row < info->rows && !code; row++) {
        uint64_t at = (uint64_t)row * STORE_ROW;
        size_t len = info->len - at < STORE_ROW ? (size_t)(info->len - at) : STORE_ROW;
        uint8_t hash[16];
        part_hash(hash, bytes + at, len);
        XXH3_128bits_update(whole, hash, sizeof hash);
        sqlite3_bind_int64(insert, 1, info->id);
        sqlite3_bind_int64(insert, 2, row);
        sqlite3_bind_blob(insert, 3, hash, sizeof hash, SQLITE_STATIC);
        sqlite3_bind_blob64(insert, 4, bytes + at, len, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
            code = failed(store, "save", error);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    return code;
}

static int save_manifest(struct store *store, struct checkpoint_info *info, char error[STORE_ERROR])
{
    sqlite3_stmt *insert;
    static const char sql[] = "INSERT INTO manifest (model, ordinal, position, created, length,"
                              " rows, hash) VALUES (?, ?, ?, ?, ?, ?, zeroblob(16))";
    if (sqlite3_prepare_v2(store->db, sql, -1, &insert, NULL) != SQLITE_OK)
        return failed(store, "save", error);
    sqlite3_bind_text(insert, 1, info->model, -1, SQLITE_STATIC);
    sqlite3_bind_int64(insert, 2, info->ordinal);
    sqlite3_bind_int64(insert, 3, (int64_t)info->position);
    sqlite3_bind_int64(insert, 4, info->created_wall_ns);
    sqlite3_bind_int64(insert, 5, (int64_t)info->len);
    sqlite3_bind_int64(insert, 6, info->rows);
    int code = sqlite3_step(insert) == SQLITE_DONE ? 0 : failed(store, "save", error);
    info->id = sqlite3_last_insert_rowid(store->db);
    sqlite3_finalize(insert);
    return code;
}

static int step_with(struct store *store, const char *sql, const uint8_t *hash,
                     const struct checkpoint_info *info, uint32_t keep, char error[STORE_ERROR])
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return failed(store, "save", error);
    if (hash) {
        sqlite3_bind_blob(statement, 1, hash, 16, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, info->id);
    } else {
        sqlite3_bind_text(statement, 1, info->model, -1, SQLITE_STATIC);
        sqlite3_bind_int64(statement, 2, info->ordinal);
        sqlite3_bind_int64(statement, 3, keep);
        sqlite3_bind_int64(statement, 4, (int64_t)info->position);
    }
    int code = sqlite3_step(statement) == SQLITE_DONE ? 0 : failed(store, "save", error);
    sqlite3_finalize(statement);
    return code;
}

/* All but the newest `keep` of the slot.  Those further on than this one stay, too (the newest
 * `keep` of them): the slot began again behind them, because they could not be read, and they may
 * be good all the same. */
static int retain(struct store *store, const struct checkpoint_info *info, uint32_t keep,
                  char error[STORE_ERROR])
{
#define OLD                                                                                        \
    "(SELECT id FROM manifest WHERE model = ?1 AND ordinal = ?2 AND id NOT IN (SELECT id FROM"     \
    " manifest WHERE model = ?1 AND ordinal = ?2 ORDER BY id DESC LIMIT ?3) AND id NOT IN (SELECT" \
    " id FROM manifest WHERE model = ?1 AND ordinal = ?2 AND position > ?4 ORDER BY id DESC LIMIT" \
    " ?3))"
    int code = step_with(store, "DELETE FROM part WHERE manifest IN " OLD, NULL, info, keep, error);
    return code
               ? code
               : step_with(store, "DELETE FROM manifest WHERE id IN " OLD, NULL, info, keep, error);
#undef OLD
}

static int save_all(struct store *store, struct checkpoint_info *info, const uint8_t *bytes,
                    uint32_t keep, char error[STORE_ERROR])
{
    int code = save_manifest(store, info, error);
    if (code)
        return code;
    XXH3_state_t *whole = whole_begin(info);
    if (!whole) {
        snprintf(error, STORE_ERROR, "out of memory");
        return HASUP_ENOMEM;
    }
    code = save_parts(store, info, bytes, whole, error);
    whole_end(whole, info->hash);
    if (!code)
        code = step_with(store, "UPDATE manifest SET hash = ? WHERE id = ?", info->hash, info, 0,
                         error);
    return code ? code : retain(store, info, keep ? keep : 1, error);
}

/* Best effort: while somebody reads, what is committed stays in the WAL until the next save. */
static void empty_wal(struct store *store)
{
    sqlite3_busy_timeout(store->db, 0);
    sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    sqlite3_busy_timeout(store->db, BUSY_MS);
}

int store_save(struct store *store, const struct checkpoint_key *key, uint64_t position,
               int64_t created_wall_ns, const uint8_t *bytes, uint64_t len, uint32_t keep,
               char error[STORE_ERROR])
{
    struct checkpoint_info info = {.ordinal = key->ordinal,
                                   .position = position,
                                   .created_wall_ns = created_wall_ns,
                                   .len = len,
                                   .rows = (uint32_t)((len + STORE_ROW - 1) / STORE_ROW)};
    snprintf(info.model, sizeof info.model, "%s", key->model);
    if (store_is_gone(store)) {
        snprintf(error, STORE_ERROR, "%.200s: was removed or replaced", store->path);
        return HASUP_EIO;
    }
    int code = run(store, "BEGIN IMMEDIATE", "begin", error);
    if (code)
        return code;
    code = save_all(store, &info, bytes, keep, error);
    if (!code)
        code = run(store, "COMMIT", "commit", error);
    if (code)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    empty_wal(store);
    return code;
}

/* ---- read ---- */

static void read_info(sqlite3_stmt *row, struct checkpoint_info *info)
{
    const char *model = (const char *)sqlite3_column_text(row, 1);
    const void *hash = sqlite3_column_blob(row, 7);
    *info = (struct checkpoint_info){.id = sqlite3_column_int64(row, 0),
                                     .ordinal = (uint32_t)sqlite3_column_int64(row, 2),
                                     .position = (uint64_t)sqlite3_column_int64(row, 3),
                                     .created_wall_ns = sqlite3_column_int64(row, 4),
                                     .len = (uint64_t)sqlite3_column_int64(row, 5),
                                     .rows = (uint32_t)sqlite3_column_int64(row, 6)};
    snprintf(info->model, sizeof info->model, "%s", model ? model : "");
    if (hash && sqlite3_column_bytes(row, 7) == 16)
        memcpy(info->hash, hash, 16);
}

static int damaged(const struct checkpoint_info *info, char error[STORE_ERROR], const char *what)
{
    snprintf(error, STORE_ERROR, "checkpoint %lld of %s/%u at position %llu: %s",
             (long long)info->id, info->model, info->ordinal, (unsigned long long)info->position,
             what);
    return HASUP_ECORRUPT;
}

/* Checks one row and copies its bytes to their place; `bytes` NULL: checks only. */
static int take_part(sqlite3_stmt *row, const struct checkpoint_info *info, uint32_t number,
                     XXH3_state_t *whole, uint8_t *bytes, char error[STORE_ERROR])
{
    uint64_t at = (uint64_t)number * STORE_ROW;
    size_t want = info->len - at < STORE_ROW ? (size_t)(info->len - at) : STORE_ROW;
    const uint8_t *part = sqlite3_column_blob(row, 2), *stored = sqlite3_column_blob(row, 1);
    uint8_t hash[16];
    if (sqlite3_column_int64(row, 0) != number)
        return damaged(info, error, "a part is missing");
    if ((size_t)sqlite3_column_bytes(row, 2) != want || sqlite3_column_bytes(row, 1) != 16)
        return damaged(info, error, "a part has another length than it should");
    part_hash(hash, part, want);
    if (memcmp(hash, stored, sizeof hash))
        return damaged(info, error, "the hash of a part does not match its bytes");
    XXH3_128bits_update(whole, hash, sizeof hash);
    if (bytes)
        memcpy(bytes + at, part, want);
    return 0;
}

static int read_parts(struct store *store, const struct checkpoint_info *info, XXH3_state_t *whole,
                      uint8_t *bytes, char error[STORE_ERROR])
{
    sqlite3_stmt *select;
    static const char sql[] = "SELECT number, hash, bytes FROM part WHERE manifest = ?"
                              " ORDER BY number";
    uint32_t number = 0;
    int code = 0, got;
    if (sqlite3_prepare_v2(store->db, sql, -1, &select, NULL) != SQLITE_OK)
        return failed(store, "read", error);
    sqlite3_bind_int64(select, 1, info->id);
    while (!code && (got = sqlite3_step(select)) != SQLITE_DONE) {
        if (got != SQLITE_ROW)
            code = failed(store, "read", error);
        else if (number == info->rows)
            code = damaged(info, error, "it has more parts than it names");
        else
            code = take_part(select, info, number++, whole, bytes, error);
    }
    sqlite3_finalize(select);
    if (!code && number != info->rows)
        code = damaged(info, error, "a part is missing");
    return code;
}

/* Reads and verifies what the manifest names. */
static int read_whole(struct store *store, const struct checkpoint_info *info, uint8_t **out,
                      char error[STORE_ERROR])
{
    uint8_t hash[16], *bytes = NULL;
    if ((info->len + STORE_ROW - 1) / STORE_ROW != info->rows)
        return damaged(info, error, "its length does not fit its number of parts");
    XXH3_state_t *whole = whole_begin(info);
    if (!whole || (out && !(bytes = malloc((size_t)info->len + 1)))) {
        snprintf(error, STORE_ERROR, "no memory for a checkpoint of %llu bytes",
                 (unsigned long long)info->len);
        XXH3_freeState(whole);
        return HASUP_ENOMEM;
    }
    int code = read_parts(store, info, whole, bytes, error);
    whole_end(whole, hash);
    if (!code && memcmp(hash, info->hash, sizeof hash))
        code = damaged(info, error, "the hash of the whole does not match its fields and parts");
    if (code)
        free(bytes);
    else if (out)
        *out = bytes;
    return code;
}

static int read_by_id(struct store *store, int64_t id, struct checkpoint_info *info,
                      uint8_t **bytes, char error[STORE_ERROR])
{
    sqlite3_stmt *select;
    if (sqlite3_prepare_v2(store->db, "SELECT " MANIFEST_COLUMNS " FROM manifest WHERE id = ?", -1,
                           &select, NULL) != SQLITE_OK)
        return failed(store, "read", error);
    sqlite3_bind_int64(select, 1, id);
    int got = sqlite3_step(select);
    if (got == SQLITE_ROW)
        read_info(select, info);
    int code = got == SQLITE_ROW    ? 0
               : got == SQLITE_DONE ? HASUP_ENOTFOUND
                                    : failed(store, "read", error);
    sqlite3_finalize(select);
    if (code == HASUP_ENOTFOUND)
        snprintf(error, STORE_ERROR, "there is no checkpoint %lld", (long long)id);
    return code ? code : read_whole(store, info, bytes, error);
}

/* In one view of the file, so that a writer cannot let go of the parts of what it lists. */
int store_read(struct store *store, int64_t id, struct checkpoint_info *info, uint8_t **bytes,
               char error[STORE_ERROR])
{
    bool alone = sqlite3_get_autocommit(store->db);
    if (alone)
        sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL);
    int code = read_by_id(store, id, info, bytes, error);
    if (alone)
        sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    return code;
}

int store_list(struct store *store, const struct checkpoint_key *key,
               bool (*each)(void *context, const struct checkpoint_info *info), void *context,
               char error[STORE_ERROR])
{
    sqlite3_stmt *select;
    static const char sql[] = "SELECT " MANIFEST_COLUMNS " FROM manifest"
                              " WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR ordinal = ?2)"
                              " ORDER BY model, ordinal, id DESC"; /* no index: few rows */
    if (pragma(store, "SELECT count(*) FROM sqlite_master") == 0)
        return 0; /* made, but nothing was ever saved */
    if (sqlite3_prepare_v2(store->db, sql, -1, &select, NULL) != SQLITE_OK)
        return failed(store, "list", error);
    if (key)
        sqlite3_bind_text(select, 1, key->model, -1, SQLITE_STATIC);
    if (key && key->ordinal != UINT32_MAX)
        sqlite3_bind_int64(select, 2, key->ordinal);
    int got;
    while ((got = sqlite3_step(select)) == SQLITE_ROW) {
        struct checkpoint_info info;
        read_info(select, &info);
        if (!each(context, &info)) {
            got = SQLITE_DONE;
            break;
        }
    }
    int code = got == SQLITE_DONE ? 0 : failed(store, "list", error);
    sqlite3_finalize(select);
    return code;
}

/* ---- load: the newest good one ---- */

struct newest {
    int64_t *ids;
    size_t count, room;
};

static bool note_id(void *context, const struct checkpoint_info *info)
{
    struct newest *newest = context;
    if (newest->count == newest->room) {
        size_t room = newest->room ? newest->room * 2 : 16;
        int64_t *ids = realloc(newest->ids, room * sizeof *ids);
        if (!ids)
            return false; /* the older ones are not needed as long as a newer one is good */
        newest->ids = ids;
        newest->room = room;
    }
    newest->ids[newest->count++] = info->id;
    return true;
}

/* SQLite's own check of the list of checkpoints alone, so that one that fell out of it does not go
 * unnoticed.  0, or `error` says what. */
static int check_list(struct store *store, char error[STORE_ERROR])
{
    sqlite3_stmt *check;
    if (pragma(store, "SELECT count(*) FROM sqlite_master") == 0)
        return 0;
    if (sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(manifest)", -1, &check, NULL) !=
        SQLITE_OK)
        return failed(store, "check", error);
    const char *text =
        sqlite3_step(check) == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    int code = text && strcmp(text, "ok") == 0 ? 0 : HASUP_ECORRUPT;
    if (!text)
        code = failed(store, "check", error);
    else if (code)
        snprintf(error, STORE_ERROR, "%.100s: the list of checkpoints is damaged: %.80s",
                 store->path, text);
    sqlite3_finalize(check);
    return code;
}

/* Reads the first good one of these; tells of each that is not. */
static int load_first_good(struct store *store, const struct checkpoint_key *key,
                           const struct newest *newest, struct checkpoint_info *info,
                           uint8_t **bytes, store_bad *bad, void *context, char error[STORE_ERROR])
{
    for (size_t i = 0; i < newest->count; i++) {
        *info = (struct checkpoint_info){.id = newest->ids[i], .ordinal = key->ordinal};
        snprintf(info->model, sizeof info->model, "%s", key->model);
        int code = store_read(store, newest->ids[i], info, bytes, error);
        if (!code && (strcmp(info->model, key->model) || info->ordinal != key->ordinal)) {
            free(*bytes);
            code = damaged(info, error, "it was listed for another slot");
        }
        if (!code || code == HASUP_ENOMEM)
            return code;
        if (bad)
            bad(context, info, error);
    }
    return HASUP_ENOTFOUND;
}

int store_load(struct store *store, const struct checkpoint_key *key, struct checkpoint_info *info,
               uint8_t **bytes, store_bad *bad, void *context, char error[STORE_ERROR])
{
    struct newest newest = {0};
    /* One view of all of it: what is listed cannot be let go by a writer before it is read. */
    sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL);
    int wrong = check_list(store, error);
    /* Even of a damaged list, what can be read and proves good is good. */
    if (wrong && bad) {
        *info = (struct checkpoint_info){.ordinal = key->ordinal};
        snprintf(info->model, sizeof info->model, "%s", key->model);
        bad(context, info, error);
    }
    char own[STORE_ERROR];
    int listed = store_list(store, key, note_id, &newest, own);
    if (listed && !wrong) {
        wrong = listed;
        memcpy(error, own, sizeof own);
    }
    int code = load_first_good(store, key, &newest, info, bytes, bad, context, own);
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    free(newest.ids);
    if (code == HASUP_ENOTFOUND && wrong)
        return wrong;
    if (code)
        snprintf(error, STORE_ERROR, "%s",
                 newest.count || code != HASUP_ENOTFOUND ? own : "there is no checkpoint");
    return code;
}

/* ---- check ---- */

int store_check(struct store *store, bool deep, char error[STORE_ERROR])
{
    sqlite3_stmt *check;
    const char *sql = deep ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)";
    if (sqlite3_prepare_v2(store->db, sql, -1, &check, NULL) != SQLITE_OK)
        return failed(store, "check", error);
    int got = sqlite3_step(check);
    const char *text = got == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    int code = 0;
    if (!text) {
        code = failed(store, "check", error);
    } else if (strcmp(text, "ok")) {
        snprintf(error, STORE_ERROR, "%.100s: SQLite finds it damaged: %.100s", store->path, text);
        code = HASUP_ECORRUPT;
    }
    sqlite3_finalize(check);
    return code;
}

int store_gaps(struct store *store, struct store_gaps *gaps, char error[STORE_ERROR])
{
    *gaps = (struct store_gaps){.newest_listed = true};
    if (pragma(store, "SELECT count(*) FROM sqlite_master") == 0)
        return 0;
    sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL); /* one moment for all three */
    int64_t orphans =
        pragma(store, "SELECT count(*) FROM part WHERE manifest NOT IN (SELECT id FROM manifest)");
    int64_t newest = pragma(
        store, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'manifest'), 0)");
    int64_t listed = pragma(store, "SELECT coalesce(max(id), 0) FROM manifest");
    int code = orphans < 0 || newest < 0 || listed < 0 ? failed(store, "check", error) : 0;
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    if (code)
        return code;
    *gaps = (struct store_gaps){(uint64_t)orphans, newest, listed == newest};
    return 0;
}
