/*
 * store_old.c: reads what schema 1 wrote: a checkpoint whole in rows of its own.  Nothing writes it
 * any more; the last such checkpoint leaves with retention, and its table with it.
 */
#include "checkpoints/store_db.h"

#include <stdio.h>
#include <stdlib.h>

#include <xxhash.h>

enum { OLD_ROW = 60 * 1024, OLD_HASH = 16 };

static void put_hash(uint8_t out[OLD_HASH], XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, OLD_HASH);
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

static int no_memory(const struct checkpoint_info *info, char error[STORE_ERROR])
{
    snprintf(error, STORE_ERROR, "no memory for a checkpoint of %llu bytes",
             (unsigned long long)info->len);
    return HASUP_ENOMEM;
}

/* Checks one row and gives its bytes on; `sink` NULL: checks only. */
static int take_part(sqlite3_stmt *row, const struct checkpoint_info *info, uint32_t number,
                     XXH3_state_t *whole, const struct store_sink *sink, char error[STORE_ERROR])
{
    uint64_t at = (uint64_t)number * OLD_ROW;
    size_t want = info->len - at < OLD_ROW ? (size_t)(info->len - at) : OLD_ROW;
    const uint8_t *part = sqlite3_column_blob(row, 2), *stored = sqlite3_column_blob(row, 1);
    uint8_t hash[OLD_HASH];
    if (sqlite3_column_int64(row, 0) != number)
        return store_damaged(info, error, "a part is missing");
    if ((size_t)sqlite3_column_bytes(row, 2) != want || sqlite3_column_bytes(row, 1) != OLD_HASH)
        return store_damaged(info, error, "a part has another length than it should");
    put_hash(hash, XXH3_128bits(part, want));
    if (memcmp(hash, stored, sizeof hash) != 0)
        return store_damaged(info, error, "the hash of a part does not match its bytes");
    XXH3_128bits_update(whole, hash, sizeof hash);
    return sink && sink->put(sink->context, at, part, want) ? no_memory(info, error) : 0;
}

static int read_parts(struct store *store, const struct checkpoint_info *info, XXH3_state_t *whole,
                      const struct store_sink *sink, char error[STORE_ERROR])
{
    uint32_t number = 0;
    int code = 0, got;
    sqlite3_stmt *select = store_prepare(
        store, "SELECT number, hash, bytes FROM part WHERE manifest = ? ORDER BY number", error);
    if (!select)
        return sql_code(sqlite3_errcode(store->db));
    sqlite3_bind_int64(select, 1, info->id);
    while (!code && (got = sqlite3_step(select)) != SQLITE_DONE) {
        if (got != SQLITE_ROW)
            code = store_failed(store, "read", error);
        else if (number == info->rows)
            code = store_damaged(info, error, "it has more parts than it names");
        else
            code = take_part(select, info, number++, whole, sink, error);
    }
    sqlite3_finalize(select);
    if (!code && number != info->rows)
        code = store_damaged(info, error, "a part is missing");
    return code;
}

int store_read_old(struct store *store, const struct checkpoint_info *info,
                   const struct store_sink *sink, char error[STORE_ERROR])
{
    uint8_t hash[OLD_HASH];
    if ((info->len + OLD_ROW - 1) / OLD_ROW != info->rows || info->hash_len != OLD_HASH)
        return store_damaged(info, error, "its length does not fit its number of parts");
    XXH3_state_t *whole = whole_begin(info);
    if (!whole || (sink && sink->begin(sink->context, info->len))) {
        XXH3_freeState(whole);
        return no_memory(info, error);
    }
    int code = read_parts(store, info, whole, sink, error);
    put_hash(hash, XXH3_128bits_digest(whole));
    XXH3_freeState(whole);
    if (!code && memcmp(hash, info->hash, sizeof hash) != 0)
        code =
            store_damaged(info, error, "the hash of the whole does not match its fields and parts");
    return code;
}
