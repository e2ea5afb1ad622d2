/*
 * store_check.c: what an audit asks of the file itself: SQLite's own check, and what is there that
 * should not be, or is not there that should.  Reads only.
 */
#include "checkpoints/store_db.h"

int store_check(struct store *store, bool deep, char error[STORE_ERROR])
{
    const struct reader reader = {.db = store->db, .path = store->path};
    return reader_check(&reader, deep, error);
}

/* Counts rows; a query that fails makes `failed` true. */
static uint64_t count(struct store *store, const char *sql, bool *failed)
{
    int64_t number = sql_number(store->db, sql);
    *failed |= number < 0;
    return number < 0 ? 0 : (uint64_t)number;
}

int store_gaps(struct store *store, struct store_gaps *gaps, char error[STORE_ERROR])
{
    bool failed = false;
    *gaps = (struct store_gaps){.newest_listed = true};
    if (!store->schema)
        return 0;
    sqlite3_exec(store->db, "BEGIN", NULL, NULL, NULL); /* one moment for all */
    if (store->schema > 1) {
        gaps->orphans = count(store,
                              "SELECT count(*) FROM pack WHERE id > coalesce((SELECT last FROM span"
                              " WHERE first <= pack.id ORDER BY first DESC LIMIT 1), 0)",
                              &failed);
        gaps->waiting = count(store,
                              "SELECT coalesce(sum(last - first + 1), 0) FROM span WHERE generation"
                              " NOT IN (SELECT generation FROM manifest)",
                              &failed);
    }
    if (store->old_parts)
        *(store->schema > 1 ? &gaps->waiting : &gaps->orphans) += count(
            store, "SELECT count(*) FROM part WHERE manifest NOT IN (SELECT id FROM manifest)",
            &failed);
    gaps->newest_id = (int64_t)count(
        store, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'manifest'), 0)",
        &failed);
    gaps->newest_listed = (int64_t)count(store, "SELECT coalesce(max(id), 0) FROM manifest",
                                         &failed) == gaps->newest_id;
    int code = failed ? store_failed(store, "check", error) : 0;
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    return code;
}
