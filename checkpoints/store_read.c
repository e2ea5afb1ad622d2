/*
 * store_read.c: lists checkpoints, reads them back and verifies: the manifest's hash over its
 * fields and its map, and each chunk's hash.  A checkpoint that is not good is passed over, and
 * that is told.
 */
#include "checkpoints/store_db.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define COLUMNS_1    "id, model, ordinal, position, created, length, rows, hash"
#define COLUMNS      COLUMNS_1 ", generation, since, fresh, written, base, delta, key"
#define COLUMNS_AS_1 COLUMNS_1 ", 0, 0, 0, 0, 0, 0, NULL"

static void read_info(sqlite3_stmt *row, struct checkpoint_info *info)
{
    const char *model = (const char *)sqlite3_column_text(row, 1);
    struct sql_bytes hash = sql_column_bytes(row, 7), key = sql_column_bytes(row, 14);
    *info = (struct checkpoint_info){.id = sqlite3_column_int64(row, 0),
                                     .ordinal = (uint32_t)sqlite3_column_int64(row, 2),
                                     .position = (uint64_t)sqlite3_column_int64(row, 3),
                                     .created_wall_ns = sqlite3_column_int64(row, 4),
                                     .len = (uint64_t)sqlite3_column_int64(row, 5),
                                     .rows = (uint32_t)sqlite3_column_int64(row, 6),
                                     .generation = sqlite3_column_int64(row, 8),
                                     .since = (uint64_t)sqlite3_column_int64(row, 9),
                                     .fresh = (uint64_t)sqlite3_column_int64(row, 10),
                                     .written = (uint64_t)sqlite3_column_int64(row, 11),
                                     .base = sqlite3_column_int64(row, 12),
                                     .delta = sqlite3_column_int64(row, 13)};
    snprintf(info->model, sizeof info->model, "%s", model ? model : "");
    if (!info->generation)
        info->fresh = info->written = info->len;
    info->sealed = key.len > 0;
    if (key.len == KEY_ID)
        memcpy(info->key, key.at, KEY_ID);
    if (hash.len == (info->generation ? STORE_HASH : 16)) {
        memcpy(info->hash, hash.at, hash.len);
        info->hash_len = (uint32_t)hash.len;
    }
}

int store_damaged(const struct checkpoint_info *info, char error[STORE_ERROR], const char *what)
{
    snprintf(error, STORE_ERROR, "checkpoint %lld of %s/%u at position %llu: %s",
             (long long)info->id, info->model, info->ordinal, (unsigned long long)info->position,
             what);
    return HASUP_ECORRUPT;
}

static int no_memory(const struct checkpoint_info *info, char error[STORE_ERROR])
{
    snprintf(error, STORE_ERROR, "no memory for a checkpoint of %llu bytes",
             (unsigned long long)info->len);
    return HASUP_ENOMEM;
}

/* ---- keys ---- */

static bool needs_seal(const struct store *store)
{
    return store->options.keys && store->options.sealed_only;
}

/* Whether it may be read: HASUP_EDENIED, and which key is wanted. */
static int check_key(const struct store *store, const struct checkpoint_info *info,
                     char error[STORE_ERROR])
{
    char what[160], id[KEY_ID_TEXT];
    const struct keys *keys = store->options.keys;
    if (info->sealed ? keys_find(keys, info->key) != NULL : !needs_seal(store))
        return 0;
    if (!info->sealed)
        snprintf(what, sizeof what, "it bears no seal, and sealed_only is set");
    else if (keys)
        snprintf(what, sizeof what, "it is sealed with key %s, which %.80s does not hold",
                 key_id_text(info->key, id), keys->path);
    else
        snprintf(what, sizeof what, "it is sealed with key %s, and no key file is named",
                 key_id_text(info->key, id));
    (void)!store_damaged(info, error, what);
    return HASUP_EDENIED;
}

/* ---- the map ---- */

static int read_delta(struct store *store, struct row_reader *rows, struct store_map *map,
                      char error[STORE_ERROR])
{
    const struct checkpoint_info *info = &map->info;
    struct sql_bytes bytes = {0};
    uint8_t hash[STORE_HASH];
    int code = info->delta ? row_read(rows, info, info->delta, &bytes, error) : 0;
    if (code)
        return code;
    manifest_hash(hash, info, map->base_digest, bytes.at, bytes.len,
                  info->sealed ? keys_find(store->options.keys, info->key) : NULL);
    if (info->hash_len != STORE_HASH || !crypto_same(hash, info->hash, STORE_HASH))
        return store_damaged(info, error,
                             "the hash of the manifest does not match its fields and chunks");
    map->deltas = bytes.len;
    return map_decode_delta(map, bytes.at, bytes.len)
               ? 0
               : store_damaged(info, error, "its list of chunks is not complete");
}

static int read_base(struct row_reader *rows, struct store_map *map, char error[STORE_ERROR])
{
    struct sql_bytes bytes;
    int code = row_read(rows, &map->info, map->info.base, &bytes, error);
    if (code)
        return code;
    map_digest(map->base_digest, bytes.at, bytes.len);
    return map_decode_base(map, bytes.at, bytes.len)
               ? 0
               : store_damaged(&map->info, error, "its list of chunks has a wrong length");
}

/* A manifest's map, checked. */
static int read_map(struct store *store, const struct checkpoint_info *info, struct store_map **out,
                    char error[STORE_ERROR])
{
    int code = check_key(store, info, error);
    if (code)
        return code;
    /* Before the hash is checked the length may be anything: no more than the file can hold. */
    int64_t pages = sql_number(store->db, "PRAGMA page_count");
    if (info->len > UINT64_C(1024) * 65536 * (uint64_t)(pages > 0 ? pages : 0))
        return store_damaged(info, error, "its length is not possible");
    struct store_map *map = map_new(info->len);
    struct row_reader rows;
    if (!map)
        return no_memory(info, error);
    map->info = *info;
    code = row_reader_begin(&rows, store, error);
    if (!code)
        code = read_base(&rows, map, error);
    if (!code)
        code = read_delta(store, &rows, map, error);
    row_reader_end(&rows);
    if (code) {
        map_free(map);
        return code;
    }
    *out = map;
    return 0;
}

/* ---- the chunks ---- */

/* Chunks in the order of the file, so that each row is read once. */
static int by_place(const void *a, const void *b, void *context)
{
    const uint64_t *places = context;
    uint64_t x = places[*(const uint32_t *)a], y = places[*(const uint32_t *)b];
    return (x > y) - (x < y);
}

static uint32_t *in_order(const struct store_map *map)
{
    uint32_t *order = malloc((size_t)map->chunks * sizeof *order + 1);
    bool sorted = true;
    for (uint32_t i = 0; order && i < map->chunks; i++) {
        order[i] = i;
        sorted &= !i || map->places[i - 1] < map->places[i];
    }
    if (order && !sorted)
        qsort_r(order, map->chunks, sizeof *order, by_place, map->places);
    return order;
}

/* Chunks that follow each other in the state and in a row, and go on together. */
struct run {
    uint64_t at;
    const uint8_t *bytes;
    size_t len;
};

static int put_run(const struct store_map *map, struct run *run, const struct store_sink *sink,
                   char error[STORE_ERROR])
{
    int code = sink && run->len ? sink->put(sink->context, run->at, run->bytes, run->len) : 0;
    run->len = 0;
    return code ? no_memory(&map->info, error) : 0;
}

/* Checks a chunk of a row and adds it to the run. */
static int take_chunk(const struct store_map *map, uint32_t i, struct sql_bytes row,
                      struct run *run, const struct store_sink *sink, char error[STORE_ERROR])
{
    size_t at = (size_t)PLACE_NUMBER(map->places[i]) * STORE_CHUNK, len = map_chunk_len(map, i);
    uint64_t place = (uint64_t)i * STORE_CHUNK;
    uint8_t hash[16];
    if (at + len > row.len)
        return store_damaged(&map->info, error, "a part is shorter than it should be");
    map_hash(hash, row.at + at, len);
    if (memcmp(hash, map->hashes[i], sizeof hash) != 0)
        return store_damaged(&map->info, error, "the hash of a chunk does not match its bytes");
    bool follows = run->len && run->at + run->len == place && run->bytes + run->len == row.at + at;
    if (follows) {
        run->len += len;
        return 0;
    }
    int code = put_run(map, run, sink, error);
    *run = (struct run){place, row.at + at, len};
    return code;
}

/* `sink` NULL: checks only. */
static int read_chunks(struct store *store, const struct store_map *map,
                       const struct store_sink *sink, char error[STORE_ERROR])
{
    uint32_t *order = in_order(map);
    struct row_reader rows;
    int code = row_reader_begin(&rows, store, error);
    if (!code && !order)
        code = no_memory(&map->info, error);
    struct sql_bytes row = {0};
    struct run run = {0};
    int64_t id = 0;
    for (uint32_t i = 0; i < map->chunks && !code; i++) {
        uint64_t place = map->places[order[i]];
        if (PLACE_ROW(place) != id) { /* the bytes of the row before go with the next one */
            code = put_run(map, &run, sink, error);
            if (!code)
                code = row_read(&rows, &map->info, id = PLACE_ROW(place), &row, error);
        }
        if (!code)
            code = take_chunk(map, order[i], row, &run, sink, error);
    }
    if (!code)
        code = put_run(map, &run, sink, error);
    row_reader_end(&rows);
    free(order);
    return code;
}

/* ---- one checkpoint ---- */

/* Room for a state.  A large one is touched for the first time here, page by page, which costs as
 * much as reading it; huge pages make that little. */
static uint8_t *state_new(uint64_t len)
{
    enum { HUGE = 2 << 20 };
    uint8_t *bytes = malloc((size_t)len + 1);
    uintptr_t first = ((uintptr_t)bytes + HUGE - 1) / HUGE * HUGE;
    if (bytes && first + HUGE <= (uintptr_t)bytes + len)
        (void)madvise(bytes + (first - (uintptr_t)bytes),
                      ((uintptr_t)bytes + len - first) / HUGE * HUGE, MADV_HUGEPAGE);
    return bytes;
}

/* A sink into the heap; its context is a pointer to the bytes, NULL at first. */
static int heap_begin(void *context, uint64_t len)
{
    uint8_t **bytes = context;
    free(*bytes);
    *bytes = state_new(len);
    return *bytes ? 0 : HASUP_ENOMEM;
}

static int heap_put(void *context, uint64_t at, const uint8_t *bytes, size_t len)
{
    uint8_t **whole = context;
    memcpy(*whole + at, bytes, len);
    return 0;
}

static struct store_sink heap_sink(uint8_t **bytes)
{
    *bytes = NULL;
    return (struct store_sink){.begin = heap_begin, .put = heap_put, .context = bytes};
}

/* Reads and verifies what the manifest names; *map (may be NULL) is the caller's. */
static int read_whole(struct store *store, const struct checkpoint_info *info,
                      const struct store_sink *sink, struct store_map **map_out,
                      char error[STORE_ERROR])
{
    struct store_map *map;
    if (!info->generation && needs_seal(store))
        return check_key(store, info, error);
    if (!info->generation)
        return store_read_old(store, info, sink, error);
    int code = read_map(store, info, &map, error);
    if (code)
        return code;
    if (sink && sink->begin(sink->context, info->len))
        code = no_memory(info, error);
    if (!code)
        code = read_chunks(store, map, sink, error);
    if (code || !map_out)
        map_free(map);
    else
        *map_out = map;
    return code;
}

/* Whether there is a table of manifests at all; else nothing was ever saved. */
static bool has_tables(const struct store *store)
{
    return store->schema != 0;
}

static int find_info(struct store *store, int64_t id, struct checkpoint_info *info,
                     char error[STORE_ERROR])
{
    *info = (struct checkpoint_info){0};
    if (!has_tables(store)) {
        snprintf(error, STORE_ERROR, "there is no checkpoint %lld", (long long)id);
        return HASUP_ENOTFOUND;
    }
    sqlite3_stmt *select =
        store_prepare(store,
                      store->schema == 1 ? "SELECT " COLUMNS_AS_1 " FROM manifest WHERE id = ?"
                                         : "SELECT " COLUMNS " FROM manifest WHERE id = ?",
                      error);
    if (!select)
        return sql_code(sqlite3_errcode(store->db));
    sqlite3_bind_int64(select, 1, id);
    int code = 0, got = sqlite3_step(select);
    if (got == SQLITE_ROW) {
        read_info(select, info);
    } else if (got == SQLITE_DONE) {
        snprintf(error, STORE_ERROR, "there is no checkpoint %lld", (long long)id);
        code = HASUP_ENOTFOUND;
    } else {
        code = store_failed(store, "read", error);
    }
    sqlite3_finalize(select);
    return code;
}

static void view_begin(struct store *store)
{
    sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL);
}

static void view_end(struct store *store)
{
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
}

int store_read(struct store *store, int64_t id, struct checkpoint_info *info, uint8_t **bytes,
               char error[STORE_ERROR])
{
    struct store_sink sink = {0};
    if (bytes)
        sink = heap_sink(bytes);
    view_begin(store);
    int code = find_info(store, id, info, error);
    if (!code)
        code = read_whole(store, info, bytes ? &sink : NULL, NULL, error);
    view_end(store);
    if (code && bytes) {
        free(*bytes);
        *bytes = NULL;
    }
    return code;
}

int store_read_manifest(struct store *store, int64_t id, struct checkpoint_info *info,
                        char error[STORE_ERROR])
{
    struct store_map *map = NULL;
    view_begin(store);
    int code = find_info(store, id, info, error);
    if (!code && info->generation)
        code = read_map(store, info, &map, error);
    view_end(store);
    map_free(map);
    return code;
}

int store_list(struct store *store, const struct checkpoint_key *key,
               bool (*each)(void *context, const struct checkpoint_info *info), void *context,
               char error[STORE_ERROR])
{
#define LISTED                                                                                     \
    " FROM manifest WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR ordinal = ?2)"             \
    " ORDER BY model, ordinal, id DESC" /* no index: few rows */
    if (!has_tables(store))
        return 0;
    sqlite3_stmt *select = store_prepare(
        store, store->schema == 1 ? "SELECT " COLUMNS_AS_1 LISTED : "SELECT " COLUMNS LISTED,
        error);
#undef LISTED
    if (!select)
        return sql_code(sqlite3_errcode(store->db));
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
    int code = got == SQLITE_DONE ? 0 : store_failed(store, "list", error);
    sqlite3_finalize(select);
    return code;
}

/* ---- whether the keys are the right ones ---- */

struct key_check {
    struct store *store;
    char model[STORE_MODEL];
    uint32_t ordinal;
    char *error;
    int code;
};

static bool check_newest(void *context, const struct checkpoint_info *info)
{
    struct key_check *check = context;
    if (info->ordinal == check->ordinal && strcmp(info->model, check->model) == 0)
        return true;
    memcpy(check->model, info->model, sizeof check->model);
    check->ordinal = info->ordinal;
    check->code = check_key(check->store, info, check->error);
    return check->code == 0;
}

int store_check_keys(struct store *store, char error[STORE_ERROR])
{
    struct key_check check = {.store = store, .ordinal = UINT32_MAX, .error = error};
    int code = store_list(store, NULL, check_newest, &check, error);
    return code ? code : check.code;
}

/* ---- load: the newest good one ---- */

struct newest {
    int64_t *ids;
    size_t count, room;
};

static bool note_id(void *context, const struct checkpoint_info *info)
{
    struct newest *newest = context;
    int64_t *ids = hasup_grow(newest->ids, newest->count, &newest->room, sizeof *ids);
    if (!ids)
        return false; /* the older ones are not needed as long as a newer one is good */
    newest->ids = ids;
    newest->ids[newest->count++] = info->id;
    return true;
}

/* SQLite's own check of the list of checkpoints alone, so that one that fell out of it does not go
 * unnoticed.  0, or `error` says what. */
static int check_list(struct store *store, char error[STORE_ERROR])
{
    if (!has_tables(store))
        return 0;
    sqlite3_stmt *check = store_prepare(store, "PRAGMA integrity_check(manifest)", error);
    if (!check)
        return sql_code(sqlite3_errcode(store->db));
    const char *text =
        sqlite3_step(check) == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    int code = text && strcmp(text, "ok") == 0 ? 0 : HASUP_ECORRUPT;
    if (!text)
        code = store_failed(store, "check", error);
    else if (code)
        snprintf(error, STORE_ERROR, "%.100s: the list of checkpoints is damaged: %.80s",
                 store->path, text);
    sqlite3_finalize(check);
    return code;
}

/* Reads the first good one of these; tells of each that is not. */
static int load_first_good(struct store *store, const struct checkpoint_key *key,
                           const struct newest *newest, struct checkpoint_info *info,
                           const struct store_sink *sink, store_bad *bad, void *context,
                           char error[STORE_ERROR])
{
    int none = HASUP_ENOTFOUND;
    for (size_t i = 0; i < newest->count; i++) {
        struct store_map *map = NULL;
        int code = find_info(store, newest->ids[i], info, error);
        if (code) { /* it cannot be read: what is known of it stands for it */
            *info = (struct checkpoint_info){.id = newest->ids[i], .ordinal = key->ordinal};
            snprintf(info->model, sizeof info->model, "%s", key->model);
        } else {
            code = read_whole(store, info, sink, &map, error);
        }
        if (!code && (strcmp(info->model, key->model) || info->ordinal != key->ordinal)) {
            map_free(map);
            map = NULL;
            code = store_damaged(info, error, "it was listed for another slot");
        }
        if (map && i == 0 && store->mode == STORE_WRITE)
            store_cache(store, map);
        else
            map_free(map);
        if (!code || code == HASUP_ENOMEM)
            return code;
        if (bad)
            bad(context, info, error);
        none = code == HASUP_EDENIED ? code : none;
    }
    return none;
}

int store_load_into(struct store *store, const struct checkpoint_key *key,
                    struct checkpoint_info *info, const struct store_sink *sink, store_bad *bad,
                    void *context, char error[STORE_ERROR])
{
    struct newest newest = {0};
    /* One view of all of it: what is listed cannot be let go by a writer before it is read. */
    view_begin(store);
    store_cache_refresh(store);
    store_forget(store, key); /* the next save shares with what is verified now, or with nothing */
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
    int code = load_first_good(store, key, &newest, info, sink, bad, context, own);
    view_end(store);
    free(newest.ids);
    if (code == HASUP_ENOTFOUND && wrong)
        return wrong;
    if (code == HASUP_ENOTFOUND && !newest.count)
        snprintf(error, STORE_ERROR, "there is no checkpoint of %s/%u", key->model, key->ordinal);
    else if (code)
        snprintf(error, STORE_ERROR, "%s", own);
    return code;
}

int store_load(struct store *store, const struct checkpoint_key *key, struct checkpoint_info *info,
               uint8_t **bytes, store_bad *bad, void *context, char error[STORE_ERROR])
{
    struct store_sink sink = heap_sink(bytes);
    int code = store_load_into(store, key, info, &sink, bad, context, error);
    if (code) {
        free(*bytes);
        *bytes = NULL;
    }
    return code;
}
