/*
 * store_keep.c: which checkpoints of a slot stay, and the clearing away of what nobody needs.
 *
 * Rows go with their generation, when the last checkpoint of it has gone.  Nothing is rewritten to
 * compact it: a generation writes at most as much again as the state is long before the next one
 * begins, so no more than half of its rows are ever dead.
 */
#include "checkpoints/store_db.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    STEP_ROWS = 64,   /* cleared away in one transaction: about 4 MiB */
    STEP_PAGES = 64,  /* given back in one */
    FREE_PAGES = 128, /* that always stay for the next saves */
};

/* ---- retention ---- */

struct kept {
    int64_t id, created_wall_ns, generation;
    uint64_t position;
    bool closed; /* with a key that is not there; it may come back, so this one stays */
    bool stays;
};

struct kept_list {
    const struct keys *keys;
    struct kept *at;
    size_t count, room;
    bool no_memory;
};

static bool note_kept(void *context, const struct checkpoint_info *info)
{
    struct kept_list *list = context;
    struct kept *at = hasup_grow(list->at, list->count, &list->room, sizeof *at);
    list->no_memory = !at;
    if (!at)
        return false;
    list->at = at;
    bool closed = info->sealed && !keys_find(list->keys, info->key);
    list->at[list->count++] = (struct kept){.id = info->id,
                                            .created_wall_ns = info->created_wall_ns,
                                            .generation = info->generation,
                                            .position = info->position,
                                            .closed = closed,
                                            .stays = closed};
    return true;
}

/* The newest of each of the last `most` spans of time that have one. */
static void keep_by_span(struct kept_list *list, hasup_ns span, uint32_t most)
{
    int64_t last = INT64_MIN;
    for (size_t i = 0; i < list->count && most; i++) {
        int64_t now = list->at[i].created_wall_ns / span;
        if (now == last)
            continue;
        list->at[i].stays = true;
        last = now;
        most--;
    }
}

/* Those further on than the newest: the slot began again behind them, because they could not be
 * read, and they may be good all the same. */
static void keep_further(struct kept_list *list, uint32_t most)
{
    for (size_t i = 1; i < list->count && most; i++)
        if (list->at[i].position > list->at[0].position) {
            list->at[i].stays = true;
            most--;
        }
}

/* Damage to a row that all the others share must not take all. */
static void keep_another_generation(struct kept_list *list)
{
    size_t first = 0;
    for (size_t i = list->count; i-- > 1;)
        if (!list->at[i].closed &&
            (!list->at[i].generation || list->at[i].generation != list->at[0].generation)) {
            if (list->at[i].stays)
                return;
            first = i;
        }
    if (first)
        list->at[first].stays = true;
}

static int let_go(struct store *store, const struct kept_list *list, char error[STORE_ERROR])
{
    sqlite3_stmt *delete = store_prepare(store, "DELETE FROM manifest WHERE id = ?", error);
    int code = delete ? 0 : sql_code(sqlite3_errcode(store->db));
    for (size_t i = 0; i < list->count && !code; i++) {
        if (list->at[i].stays)
            continue;
        sqlite3_bind_int64(delete, 1, list->at[i].id);
        if (sqlite3_step(delete) != SQLITE_DONE)
            code = store_failed(store, "let an old one go", error);
        sqlite3_reset(delete);
    }
    sqlite3_finalize(delete);
    return code;
}

int store_retain(struct store *store, const struct checkpoint_key *key,
                 const struct store_keep *keep, char error[STORE_ERROR])
{
    struct kept_list list = {.keys = store->options.keys};
    uint32_t last = keep->last ? keep->last : 1;
    int code = store_list(store, key, note_kept, &list, error);
    if (!code && list.no_memory) {
        snprintf(error, STORE_ERROR, "out of memory");
        code = HASUP_ENOMEM;
    }
    for (size_t i = 0; i < list.count && i < last; i++)
        list.at[i].stays = true;
    keep_by_span(&list, 3600 * HASUP_S, keep->hourly);
    keep_by_span(&list, 24 * 3600 * HASUP_S, keep->daily);
    if (list.count)
        keep_further(&list, last);
    if (last > 1)
        keep_another_generation(&list);
    if (!code)
        code = let_go(store, &list, error);
    free(list.at);
    return code;
}

/* A model's slots, each once; the list is by slot. */
struct slots {
    uint32_t *at;
    size_t count, room;
};

static bool note_slot(void *context, const struct checkpoint_info *info)
{
    struct slots *slots = context;
    if (slots->count && slots->at[slots->count - 1] == info->ordinal)
        return true;
    uint32_t *at = hasup_grow(slots->at, slots->count, &slots->room, sizeof *at);
    if (!at)
        return false;
    slots->at = at;
    slots->at[slots->count++] = info->ordinal;
    return true;
}

static int let_all_go(struct store *store, const struct checkpoint_key *key,
                      char error[STORE_ERROR])
{
    sqlite3_stmt *delete = store_prepare(
        store, "DELETE FROM manifest WHERE model = ? AND (?2 IS NULL OR ordinal = ?2)", error);
    if (!delete)
        return sql_code(sqlite3_errcode(store->db));
    sqlite3_bind_text(delete, 1, key->model, -1, SQLITE_STATIC);
    if (key->ordinal != UINT32_MAX)
        sqlite3_bind_int64(delete, 2, key->ordinal);
    return store_finish(store, delete, "prune", error);
}

static int prune(struct store *store, const struct checkpoint_key *key,
                 const struct store_keep *keep, char error[STORE_ERROR])
{
    struct slots slots = {0};
    if (!keep)
        return let_all_go(store, key, error);
    int code = store_list(store, key, note_slot, &slots, error);
    for (size_t i = 0; i < slots.count && !code; i++)
        code = store_retain(store, &(struct checkpoint_key){key->model, slots.at[i]}, keep, error);
    free(slots.at);
    return code;
}

int store_prune(struct store *store, const struct checkpoint_key *key,
                const struct store_keep *keep, uint32_t *gone, char error[STORE_ERROR])
{
    static const char COUNT[] = "SELECT count(*) FROM manifest";
    int code = sql_run(store->db, store->path, "BEGIN IMMEDIATE", "begin", error);
    if (code)
        return code;
    int64_t before = sql_number(store->db, COUNT);
    code = prune(store, key, keep, error);
    *gone = (uint32_t)(before - sql_number(store->db, COUNT));
    if (!code)
        code = sql_run(store->db, store->path, "COMMIT", "commit", error);
    if (code)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store_forget_all(store);
    return code;
}

/* ---- clearing away ---- */

/* Runs one statement of at most three numbers; how many rows it changed, or -1. */
static int change(struct store *store, const char *sql, const int64_t numbers[3])
{
    char error[STORE_ERROR];
    sqlite3_stmt *statement = store_prepare(store, sql, error);
    if (!statement)
        return -1;
    for (int i = 0; i < sqlite3_bind_parameter_count(statement); i++)
        sqlite3_bind_int64(statement, i + 1, numbers[i]);
    return store_finish(store, statement, "tidy", error) ? -1 : sqlite3_changes(store->db);
}

/* The first rows of a span that is nobody's any more; 0: there is none, -1: it failed. */
static int clear_span(struct store *store)
{
    char error[STORE_ERROR];
    int64_t span[3];
    sqlite3_stmt *select =
        store_prepare(store,
                      "SELECT first, last, generation FROM span"
                      " WHERE generation NOT IN (SELECT generation FROM manifest) LIMIT 1",
                      error);
    int got = select ? sqlite3_step(select) : SQLITE_ERROR;
    for (int i = 0; got == SQLITE_ROW && i < 3; i++)
        span[i] = sqlite3_column_int64(select, i);
    sqlite3_finalize(select);
    if (got != SQLITE_ROW)
        return got == SQLITE_DONE ? 0 : -1;
    int64_t next = span[0] + STEP_ROWS;
    if (change(store, "DELETE FROM pack WHERE id BETWEEN ?1 AND ?2 AND generation = ?3",
               (int64_t[3]){span[0], next <= span[1] ? next - 1 : span[1], span[2]}) < 0)
        return -1;
    return next <= span[1] ? change(store, "UPDATE span SET first = ?2 WHERE first = ?1",
                                    (int64_t[3]){span[0], next, 0})
                           : change(store, "DELETE FROM span WHERE first = ?1", span);
}

/* Rows of schema 1 whose checkpoint is gone; in the end their table. */
static int clear_old(struct store *store)
{
    static const int64_t NONE[3] = {STEP_ROWS, 0, 0};
    if (!store->old_parts)
        return 0;
    int gone = change(store,
                      "DELETE FROM part WHERE (manifest, number) IN (SELECT manifest, number FROM"
                      " part WHERE manifest NOT IN (SELECT id FROM manifest WHERE generation = 0)"
                      " LIMIT ?1)",
                      NONE);
    if (gone || sql_number(store->db, "SELECT count(*) FROM (SELECT 1 FROM part LIMIT 1)"))
        return gone;
    store->old_parts = false;
    return change(store, "DROP TABLE part", NONE);
}

/* Where most of the file is free, its end is given back. */
static int give_back(struct store *store)
{
    char sql[64], error[STORE_ERROR];
    int64_t unused = sql_number(store->db, "PRAGMA freelist_count");
    int64_t pages = sql_number(store->db, "PRAGMA page_count");
    if (unused <= pages / 2 + FREE_PAGES || sql_number(store->db, "PRAGMA auto_vacuum") != 2)
        return 0;
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", STEP_PAGES);
    return sql_run(store->db, store->path, sql, "give back", error) ? -1 : STEP_PAGES;
}

bool store_tidy(struct store *store)
{
    if (store->mode != STORE_WRITE || store_is_gone(store))
        return false;
    store_wait(store, false); /* somebody reads: another time */
    bool begun = sqlite3_exec(store->db, "BEGIN EXCLUSIVE", NULL, NULL, NULL) == SQLITE_OK;
    store_wait(store, true);
    if (!begun)
        return false;
    int done = clear_span(store);
    if (done == 0)
        done = clear_old(store);
    if (done == 0)
        done = give_back(store);
    const char *end = done > 0 ? "COMMIT" : "ROLLBACK";
    bool kept = sqlite3_exec(store->db, end, NULL, NULL, NULL) == SQLITE_OK;
    if (!kept)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return done > 0 && kept;
}
