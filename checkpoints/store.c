/*
 * store.c: checkpoints.db.  Owns the SQLite connection and its statements.  A save is one
 * transaction: the manifest, its rows, and the deletion of what retention lets go; so a reader and
 * a crash see all of it or nothing.  Every read verifies every hash.  Freed pages are used again;
 * the WAL is folded back at 16 MiB, so neither file grows for ever.
 */
#include "checkpoints/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>
#include <xxhash.h>

enum { APPLICATION_ID = 0x68617375 /* "hasu" */, BUSY_MS = 10 * 1000 };

static const char SCHEMA[] =
    "PRAGMA application_id = 1751217013;" /* APPLICATION_ID */
    "PRAGMA user_version = 1;"
    "CREATE TABLE IF NOT EXISTS manifest ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, ordinal INTEGER NOT NULL,"
    " position INTEGER NOT NULL, created INTEGER NOT NULL, length INTEGER NOT NULL,"
    " rows INTEGER NOT NULL, hash BLOB NOT NULL);"
    "CREATE INDEX IF NOT EXISTS manifest_slot ON manifest (model, ordinal, id);"
    "CREATE TABLE IF NOT EXISTS part ("
    " manifest INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, bytes BLOB NOT NULL,"
    " PRIMARY KEY (manifest, number)) WITHOUT ROWID;";

#define MANIFEST_COLUMNS "id, model, ordinal, position, created, length, rows, hash"

struct store {
    sqlite3 *db;
    enum store_mode mode;
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
    int extended = sqlite3_extended_errcode(store->db);
    snprintf(error, STORE_ERROR, "%.120s: %s: %.80s", store->path, step, sqlite3_errmsg(store->db));
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

static int open_writer(struct store *store, char error[STORE_ERROR])
{
    int fd_mode = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    mode_t before = umask(0177);
    int got = sqlite3_open_v2(store->path, &store->db, fd_mode, NULL);
    umask(before);
    if (got != SQLITE_OK)
        return failed(store, "open", error);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    int code = run(store, "PRAGMA page_size = 65536; PRAGMA journal_mode = WAL;", "set up", error);
    if (!code)
        code = run(store,
                   "PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;"
                   "PRAGMA wal_autocheckpoint = 256; PRAGMA journal_size_limit = 16777216;",
                   "set up", error);
    return code;
}

static int open_reader(struct store *store, char error[STORE_ERROR])
{
    if (access(store->path, F_OK)) {
        int why = errno;
        snprintf(error, STORE_ERROR, "%.200s: %s", store->path, strerror(why));
        return why == ENOENT ? HASUP_ENOTFOUND : HASUP_EIO;
    }
    if (sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return failed(store, "open", error);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    if (pragma(store, "PRAGMA schema_version") >= 0)
        return 0;
    /* On a read-only disk the WAL's index cannot be made; nobody writes there either. */
    if ((sqlite3_errcode(store->db) & 0xff) != SQLITE_CANTOPEN)
        return failed(store, "read", error);
    char uri[1600] = "file:";
    size_t used = 5;
    for (const char *at = store->path; *at && used < sizeof uri - 20; at++)
        used +=
            (size_t)sprintf(uri + used, strchr("?#% ", *at) ? "%%%02X" : "%c", (unsigned char)*at);
    strcpy(uri + used, "?immutable=1");
    sqlite3_close(store->db);
    if (sqlite3_open_v2(uri, &store->db,
                        SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                        NULL) != SQLITE_OK)
        return failed(store, "open", error);
    return pragma(store, "PRAGMA schema_version") < 0 ? failed(store, "read", error) : 0;
}

/* Whether the file is of hasup, and of a version that this program knows. */
static int check_schema(struct store *store, enum store_mode mode, char error[STORE_ERROR])
{
    int64_t tables = pragma(store, "SELECT count(*) FROM sqlite_master");
    if (tables < 0)
        return failed(store, "read", error);
    if (tables == 0)
        return mode == STORE_WRITE ? run(store, SCHEMA, "make tables", error) : 0;
    if (pragma(store, "PRAGMA application_id") != APPLICATION_ID) {
        snprintf(error, STORE_ERROR, "%.200s: a database, but not one of hasup", store->path);
        return HASUP_EINVAL;
    }
    int64_t version = pragma(store, "PRAGMA user_version");
    if (version != STORE_SCHEMA) {
        snprintf(error, STORE_ERROR,
                 "%.150s: schema version %lld; this hasup knows %d: use the newer hasup",
                 store->path, (long long)version, STORE_SCHEMA);
        return HASUP_EINVAL;
    }
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
    int code = mode == STORE_WRITE ? open_writer(store, error) : open_reader(store, error);
    if (!code)
        code = check_schema(store, mode, error);
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
    uint8_t fields[4 + 8 * 4];
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return NULL;
    XXH3_128bits_reset(state);
    hasup_put32(fields, info->ordinal);
    hasup_put64(fields + 4, info->position);
    hasup_put64(fields + 12, (uint64_t)info->created_wall_ns);
    hasup_put64(fields + 20, info->len);
    hasup_put64(fields + 28, info->rows);
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
    }
    int code = sqlite3_step(statement) == SQLITE_DONE ? 0 : failed(store, "save", error);
    sqlite3_finalize(statement);
    return code;
}

/* All but the newest `keep` of the slot. */
static int retain(struct store *store, const struct checkpoint_info *info, uint32_t keep,
                  char error[STORE_ERROR])
{
#define OLD                                                                                        \
    "(SELECT id FROM manifest WHERE model = ?1 AND ordinal = ?2"                                   \
    " ORDER BY id DESC LIMIT -1 OFFSET ?3)"
    int code = step_with(store, "DELETE FROM part WHERE manifest IN " OLD, NULL, info, keep, error);
    return code
               ? code
               : step_with(store, "DELETE FROM manifest WHERE id IN " OLD, NULL, info, keep, error);
#undef OLD
}

static int save_all(struct store *store, struct checkpoint_info *info, const uint8_t *bytes,
                    uint32_t keep, char error[STORE_ERROR])
{
    XXH3_state_t *whole = whole_begin(info);
    if (!whole) {
        snprintf(error, STORE_ERROR, "out of memory");
        return HASUP_ENOMEM;
    }
    int code = save_manifest(store, info, error);
    if (!code)
        code = save_parts(store, info, bytes, whole, error);
    whole_end(whole, info->hash);
    if (!code)
        code = step_with(store, "UPDATE manifest SET hash = ? WHERE id = ?", info->hash, info, 0,
                         error);
    return code ? code : retain(store, info, keep ? keep : 1, error);
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
    int code = run(store, "BEGIN IMMEDIATE", "begin", error);
    if (code)
        return code;
    code = save_all(store, &info, bytes, keep, error);
    if (!code)
        code = run(store, "COMMIT", "commit", error);
    if (code)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
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

int store_read(struct store *store, int64_t id, struct checkpoint_info *info, uint8_t **bytes,
               char error[STORE_ERROR])
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

int store_list(struct store *store, const struct checkpoint_key *key,
               bool (*each)(void *context, const struct checkpoint_info *info), void *context,
               char error[STORE_ERROR])
{
    sqlite3_stmt *select;
    static const char sql[] = "SELECT " MANIFEST_COLUMNS " FROM manifest"
                              " WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR ordinal = ?2)"
                              " ORDER BY model, ordinal, id DESC";
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

int store_load(struct store *store, const struct checkpoint_key *key, struct checkpoint_info *info,
               uint8_t **bytes, store_bad *bad, void *context, char error[STORE_ERROR])
{
    struct newest newest = {0};
    int code = store_list(store, key, note_id, &newest, error);
    int result = code ? code : HASUP_ENOTFOUND;
    for (size_t i = 0; !code && i < newest.count && result != 0; i++) {
        result = store_read(store, newest.ids[i], info, bytes, error);
        if (result == HASUP_ENOMEM)
            break;
        if (result) {
            if (bad)
                bad(context, info, error);
            result = HASUP_ENOTFOUND;
        }
    }
    free(newest.ids);
    return result;
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
    if (code || pragma(store, "SELECT count(*) FROM sqlite_master") == 0)
        return code;
    int64_t orphans =
        pragma(store, "SELECT count(*) FROM part WHERE manifest NOT IN (SELECT id FROM manifest)");
    if (orphans > 0) {
        snprintf(error, STORE_ERROR, "%.150s: %lld parts belong to no checkpoint", store->path,
                 (long long)orphans);
        return HASUP_ECORRUPT;
    }
    return 0;
}
