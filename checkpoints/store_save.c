/*
 * store_save.c: writes a checkpoint: the chunks that changed, packed into rows; the map of all;
 * the manifest; what retention lets go.  One transaction.  Owns the cache of the newest maps, which
 * are true as long as no other connection writes (data_version).  A save that fails changes none.
 */
#include "checkpoints/fault.h"
#include "checkpoints/store_db.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the cache ---- */

static struct store_map **find_map(struct store *store, const struct checkpoint_key *key)
{
    struct store_map **at = &store->maps;
    while (*at && ((*at)->ordinal != key->ordinal || strcmp((*at)->model, key->model) != 0))
        at = &(*at)->next;
    return at;
}

static void drop_map(struct store *store, struct store_map **at)
{
    struct store_map *map = *at;
    if (!map)
        return;
    *at = map->next;
    store->maps_bytes -= map_memory(map);
    map_free(map);
}

void store_forget(struct store *store, const struct checkpoint_key *key)
{
    drop_map(store, find_map(store, key));
}

void store_forget_all(struct store *store)
{
    while (store->maps)
        drop_map(store, &store->maps);
}

void store_cache(struct store *store, struct store_map *map)
{
    const struct checkpoint_key key = {map->info.model, map->info.ordinal};
    store_forget(store, &key);
    memcpy(map->model, map->info.model, sizeof map->model);
    map->ordinal = map->info.ordinal;
    map->next = store->maps;
    store->maps = map;
    store->maps_bytes += map_memory(map);
    while (store->maps_bytes > store->options.cache) {
        struct store_map **last = &store->maps;
        while ((*last)->next)
            last = &(*last)->next;
        drop_map(store, last);
    }
}

void store_cache_refresh(struct store *store)
{
    int64_t version = sql_number(store->db, "PRAGMA data_version");
    if (version != store->data_version)
        store_forget_all(store);
    store->data_version = version;
}

/* The map of the slot's newest checkpoint; NULL: it is not known to be good, because neither a load
 * has verified it nor a save of this store written it, and the next one shares with nobody. */
static const struct store_map *newest_map(struct store *store, const struct checkpoint_key *key)
{
    store_cache_refresh(store);
    return *find_map(store, key);
}

/* ---- rows ---- */

/* A save under way. */
struct saving {
    struct store *store;
    struct store_map *map;
    const uint8_t *bytes;
    struct row_writer rows;
    uint8_t pack[STORE_ROW];
    char *error;
};

static int write_row(struct saving *saving, const uint8_t *bytes, size_t len, bool chunks)
{
    return row_write(&saving->rows, saving->map->info.generation, bytes, len, chunks,
                     saving->error);
}

/* Takes up to a row's fill of chunks without a place, from chunk i on; the next chunk to look at.
 * Neighbours go as they stand in the state, without a copy. */
static uint32_t fill_row(struct saving *saving, uint32_t i, const uint8_t **bytes, size_t *len)
{
    struct store_map *map = saving->map;
    uint32_t first = i, count = 0;
    *len = 0;
    for (; i < map->chunks && count < STORE_SLOTS; i++) {
        if (map->places[i])
            continue;
        size_t part = map_chunk_len(map, i);
        if (!count)
            first = i;
        else if (i - first != count && *bytes != saving->pack) {
            memcpy(saving->pack, *bytes, *len);
            *bytes = saving->pack;
        }
        if (!count)
            *bytes = saving->bytes + (size_t)i * STORE_CHUNK;
        else if (*bytes == saving->pack)
            memcpy(saving->pack + *len, saving->bytes + (size_t)i * STORE_CHUNK, part);
        *len += part;
        map->places[i] = PLACE(saving->rows.id + 1, count++);
    }
    return i;
}

static int write_chunks(struct saving *saving)
{
    for (uint32_t i = 0; i < saving->map->chunks;) {
        const uint8_t *bytes = NULL;
        size_t len;
        i = fill_row(saving, i, &bytes, &len);
        int code = len ? write_row(saving, bytes, len, true) : 0;
        if (code)
            return code;
    }
    return 0;
}

/* Writes the map, and the manifest's hash over it. */
static int write_map(struct saving *saving)
{
    struct store_map *map = saving->map;
    struct checkpoint_info *info = &map->info;
    size_t whole_len = map_encoded_len(map, true), len = 0;
    bool whole = !info->base || map->deltas + map_encoded_len(map, false) >= whole_len;
    uint8_t *bytes = map_encode(map, whole, &len);
    if (!bytes) {
        snprintf(saving->error, STORE_ERROR, "out of memory");
        return HASUP_ENOMEM;
    }
    int code = len || whole ? write_row(saving, bytes, len, false) : 0;
    info->delta = 0;
    if (whole) {
        info->base = saving->rows.id;
        map->base_chunks = map->chunks;
        map->deltas = 0;
        memset(map->moved, 0, map->chunks / 8 + 1);
        map_digest(map->base_digest, bytes, len);
        len = 0;
    } else if (len) {
        info->delta = saving->rows.id;
        map->deltas += len;
    }
    info->rows = saving->rows.rows;
    info->written = saving->rows.written;
    if (info->id != info->generation)
        info->since += info->written;
    manifest_hash(info->hash, info, map->base_digest, bytes, len, store_key(saving->store));
    free(bytes);
    return code;
}

static int write_manifest(struct saving *saving, int64_t first_row)
{
    struct store *store = saving->store;
    const struct checkpoint_info *info = &saving->map->info;
    sqlite3_stmt *insert = store_prepare(
        store, "INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        saving->error);
    if (!insert)
        return sql_code(sqlite3_errcode(store->db));
    const int64_t numbers[] = {info->ordinal, (int64_t)info->position, info->created_wall_ns,
                               (int64_t)info->len, info->rows};
    const int64_t more[] = {info->generation,       (int64_t)info->since, (int64_t)info->fresh,
                            (int64_t)info->written, info->base,           info->delta};
    sqlite3_bind_int64(insert, 1, info->id);
    sqlite3_bind_text(insert, 2, info->model, -1, SQLITE_STATIC);
    for (int i = 0; i < (int)HASUP_LEN(numbers); i++)
        sqlite3_bind_int64(insert, 3 + i, numbers[i]);
    sqlite3_bind_blob(insert, 8, info->hash, STORE_HASH, SQLITE_STATIC);
    for (int i = 0; i < (int)HASUP_LEN(more); i++)
        sqlite3_bind_int64(insert, 9 + i, more[i]);
    if (info->sealed)
        sqlite3_bind_blob(insert, 15, info->key, KEY_ID, SQLITE_STATIC);
    int code = store_finish(store, insert, "save", saving->error);
    if (code || saving->rows.id < first_row)
        return code;
    sqlite3_stmt *span = store_prepare(store, "INSERT INTO span VALUES (?, ?, ?)", saving->error);
    if (!span)
        return sql_code(sqlite3_errcode(store->db));
    sqlite3_bind_int64(span, 1, first_row);
    sqlite3_bind_int64(span, 2, saving->rows.id);
    sqlite3_bind_int64(span, 3, info->generation);
    return store_finish(store, span, "save", saving->error);
}

/* ---- a save ---- */

/* The last id that was ever given out in a table. */
static int64_t last_id(struct store *store, const char *sql)
{
    int64_t id = sql_number(store->db, sql);
    return id < 0 ? 0 : id;
}

static int save_all(struct saving *saving)
{
    struct store *store = saving->store;
    int64_t first = 1 + last_id(store, "SELECT seq FROM sqlite_sequence WHERE name = 'pack'");
    int code = row_writer_begin(&saving->rows, store, first - 1, saving->error);
    if (!code)
        code = write_chunks(saving);
    if (!code)
        code = write_map(saving);
    row_writer_end(&saving->rows);
    return code ? code : write_manifest(saving, first);
}

/* A new generation: all chunks are written, shared with no checkpoint before. */
static void begin_generation(struct store_map *map, uint64_t *fresh)
{
    memset(map->places, 0, (size_t)map->chunks * sizeof *map->places);
    *fresh = map->len;
    map->info.generation = map->info.id;
    map->info.since = 0;
    map->info.base = 0;
    map->base_chunks = 0;
    map->deltas = 0;
}

static bool same_key(const struct checkpoint_info *a, const struct checkpoint_info *b)
{
    return a->sealed == b->sealed && memcmp(a->key, b->key, KEY_ID) == 0;
}

/* What the new checkpoint's map and manifest begin with; NULL: no memory. */
static struct store_map *map_for(struct store *store, const struct checkpoint_info *info,
                                 const uint8_t *bytes)
{
    const struct checkpoint_key key = {info->model, info->ordinal};
    const struct store_map *old = newest_map(store, &key);
    uint64_t fresh;
    struct store_map *map = map_of(old, bytes, info->len, &fresh);
    if (map) {
        map->info = *info;
        map->info.id =
            1 + last_id(store, "SELECT seq FROM sqlite_sequence WHERE name = 'manifest'");
        if (old) {
            map->info.generation = old->info.generation;
            map->info.since = old->info.since;
            map->info.base = old->info.base;
        }
        if (!old || old->info.since + fresh >= info->len || !same_key(&old->info, info))
            begin_generation(map, &fresh);
        map->info.fresh = fresh;
    }
    return map;
}

static int save_in_transaction(struct store *store, const struct checkpoint_info *info,
                               const uint8_t *bytes, const struct store_keep *keep,
                               struct store_map **map, char error[STORE_ERROR])
{
    struct saving *saving = calloc(1, sizeof *saving);
    *map = saving ? map_for(store, info, bytes) : NULL;
    if (!*map) {
        snprintf(error, STORE_ERROR, "no memory for the map of %llu bytes of state",
                 (unsigned long long)info->len);
        free(saving);
        return HASUP_ENOMEM;
    }
    saving->store = store;
    saving->map = *map;
    saving->bytes = bytes;
    saving->error = error;
    int code = save_all(saving);
    free(saving);
    const struct checkpoint_key key = {info->model, info->ordinal};
    return code ? code : store_retain(store, &key, keep, error);
}

int store_save(struct store *store, const struct checkpoint_key *key, uint64_t position,
               int64_t created_wall_ns, const uint8_t *bytes, uint64_t len,
               const struct store_keep *keep, char error[STORE_ERROR])
{
    struct checkpoint_info info = {.ordinal = key->ordinal,
                                   .position = position,
                                   .created_wall_ns = created_wall_ns,
                                   .len = len,
                                   .hash_len = STORE_HASH};
    struct store_map *map = NULL;
    const struct key *sealed = store_key(store);
    info.sealed = sealed != NULL;
    if (sealed)
        memcpy(info.key, sealed->id, KEY_ID);
    snprintf(info.model, sizeof info.model, "%s", key->model);
    if (store_is_gone(store)) {
        snprintf(error, STORE_ERROR, "%.200s: was removed or replaced", store->path);
        return HASUP_EIO;
    }
    FAULT(checkpoint_begin);
    /* With all locks from the start: else SQLite would wait for a reader anew with each page. */
    int code = sql_run(store->db, store->path, "BEGIN EXCLUSIVE", "begin", error);
    if (code)
        return code;
    code = save_in_transaction(store, &info, bytes, keep, &map, error);
    FAULT(checkpoint_before_commit);
    if (!code)
        code = sql_run(store->db, store->path, "COMMIT", "commit", error);
    FAULT(checkpoint_after_commit);
    if (code) {
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        map_free(map);
        return code;
    }
    store_cache(store, map);
    return 0;
}
