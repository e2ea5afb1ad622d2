/* checkpoints_oldstore.h: writes checkpoints as schema 1 did, so that reading them back stays
 * proven. */
#ifndef CHECKPOINTS_OLDSTORE_H
#define CHECKPOINTS_OLDSTORE_H

#include "tests/unit/store_world.h"

#include <sqlite3.h>
#include <xxhash.h>

static const char OLD_SCHEMA[] =
    "PRAGMA page_size = 65536; PRAGMA journal_mode = WAL;"
    "PRAGMA application_id = 1751217013; PRAGMA user_version = 1;"
    "CREATE TABLE IF NOT EXISTS manifest ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, ordinal INTEGER NOT NULL,"
    " position INTEGER NOT NULL, created INTEGER NOT NULL, length INTEGER NOT NULL,"
    " rows INTEGER NOT NULL, hash BLOB NOT NULL);"
    "CREATE TABLE IF NOT EXISTS part ("
    " manifest INTEGER NOT NULL, number INTEGER NOT NULL, hash BLOB NOT NULL, bytes BLOB NOT NULL,"
    " PRIMARY KEY (manifest, number)) WITHOUT ROWID;";

static inline void old_hash(uint8_t out[16], XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, 16);
}

/* A statement with numbers and blobs bound by the caller is too much for a test: this formats. */
static inline void old_run(sqlite3 *db, const char *sql, const uint8_t *hash, const uint8_t *bytes,
                           size_t len)
{
    sqlite3_stmt *insert;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &insert, NULL), SQLITE_OK);
    sqlite3_bind_blob(insert, 1, hash, 16, SQLITE_STATIC);
    if (bytes)
        sqlite3_bind_blob64(insert, 2, bytes, len, SQLITE_STATIC);
    assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
    sqlite3_finalize(insert);
}

static inline void old_store_save(const char *path, const struct checkpoint_key *key,
                                  uint64_t position, size_t len)
{
    enum { ROW = 60 * 1024 };
    sqlite3 *db;
    sqlite3_stmt *next;
    char sql[256];
    uint8_t *bytes = state_at(position, len), hash[16], fields[4 + 8 * 5];
    uint64_t rows = (len + ROW - 1) / ROW, created = position * (uint64_t)HASUP_S;
    XXH3_state_t *whole = XXH3_createState();
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, OLD_SCHEMA, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT coalesce(max(id), 0) + 1 FROM manifest", -1, &next, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(next), SQLITE_ROW);
    uint64_t id = (uint64_t)sqlite3_column_int64(next, 0);
    sqlite3_finalize(next);
    XXH3_128bits_reset(whole);
    hasup_put32(fields, key->ordinal);
    hasup_put64(fields + 4, position);
    hasup_put64(fields + 12, created);
    hasup_put64(fields + 20, len);
    hasup_put64(fields + 28, rows);
    hasup_put64(fields + 36, id);
    XXH3_128bits_update(whole, fields, sizeof fields);
    XXH3_128bits_update(whole, key->model, strlen(key->model) + 1);
    for (uint64_t row = 0; row < rows; row++) {
        size_t part = len - row * ROW < ROW ? (size_t)(len - row * ROW) : ROW;
        old_hash(hash, XXH3_128bits(bytes + row * ROW, part));
        XXH3_128bits_update(whole, hash, sizeof hash);
        snprintf(sql, sizeof sql, "INSERT INTO part VALUES (%llu, %llu, ?1, ?2)",
                 (unsigned long long)id, (unsigned long long)row);
        old_run(db, sql, hash, bytes + row * ROW, part);
    }
    old_hash(hash, XXH3_128bits_digest(whole));
    XXH3_freeState(whole);
    snprintf(sql, sizeof sql,
             "INSERT INTO manifest VALUES (%llu, '%s', %u, %llu, %llu, %zu, %llu, ?)",
             (unsigned long long)id, key->model, key->ordinal, (unsigned long long)position,
             (unsigned long long)created, len, (unsigned long long)rows);
    old_run(db, sql, hash, NULL, 0);
    sqlite3_close(db);
    free(bytes);
}

#endif
