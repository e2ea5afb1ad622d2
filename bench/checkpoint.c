/*
 * checkpoint.c: saving and restoring a state of 256 MiB.  Beside it: a file that is overwritten in
 * turns (A, B) and synced, the state as one blob in SQLite, and the journal's latency with and
 * without a checkpoint under way.  All files are in one directory of the disk that the build is on.
 */
#include "bench/bench.h"

#include "checkpoints/journal.h"
#include "checkpoints/store.h"
#include "checkpoints/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>

static const size_t LEN = (size_t)256 << 20;
enum { CHUNKS = (256 << 20) / STORE_CHUNK, ENTRIES = 2000 };

static char directory[BENCH_PATH + 32];

static const char *in_directory(const char *name, char path[BENCH_PATH + 64])
{
    snprintf(path, BENCH_PATH + 64, "%s/%s", directory, name);
    return path;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    return x ^ x >> 31;
}

/* Changes so many chunks at random, or all. */
static void change(uint8_t *state, unsigned chunks, uint64_t *seed)
{
    for (unsigned i = 0; i < chunks; i++) {
        size_t chunk = chunks < CHUNKS ? (size_t)(next_random(seed) % CHUNKS) : i;
        hasup_put64(state + chunk * STORE_CHUNK, next_random(seed));
    }
}

static double speed(hasup_ns from)
{
    return (double)LEN / (double)(bench_now() - from); /* bytes a nanosecond: GB/s */
}

/* ---- what stands beside it ---- */

static double file_save(const uint8_t *state, unsigned round)
{
    char path[BENCH_PATH + 64];
    hasup_ns from = bench_now();
    int fd = open(in_directory(round % 2 ? "a" : "b", path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (size_t done = 0; done < LEN;) {
        ssize_t wrote = fd < 0 ? -1 : write(fd, state + done, LEN - done);
        if (wrote <= 0)
            bench_fail("%s: %s", path, strerror(errno));
        done += (size_t)wrote;
    }
    if (fdatasync(fd) || close(fd))
        bench_fail("%s: %s", path, strerror(errno));
    return speed(from);
}

static sqlite3 *blob_open(void)
{
    char path[BENCH_PATH + 64];
    sqlite3 *db;
    if (sqlite3_open(in_directory("blob.db", path), &db) ||
        sqlite3_exec(db,
                     "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                     "CREATE TABLE state (id INTEGER PRIMARY KEY, bytes BLOB)",
                     NULL, NULL, NULL))
        bench_fail("%s: %s", path, sqlite3_errmsg(db));
    return db;
}

static double blob_save(sqlite3 *db, const uint8_t *state, unsigned round)
{
    sqlite3_stmt *save;
    hasup_ns from = bench_now();
    if (sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO state VALUES (?, ?)", -1, &save, NULL))
        bench_fail("%s", sqlite3_errmsg(db));
    sqlite3_bind_int64(save, 1, round % 2);
    sqlite3_bind_blob64(save, 2, state, LEN, SQLITE_STATIC);
    if (sqlite3_step(save) != SQLITE_DONE)
        bench_fail("%s", sqlite3_errmsg(db));
    sqlite3_finalize(save);
    return speed(from);
}

/* ---- hasup ---- */

static const struct checkpoint_key SLOT = {"bench", 0};

static struct store *store_of(void)
{
    char path[BENCH_PATH + 64], error[STORE_ERROR];
    struct store *store;
    if (store_open(in_directory("checkpoints.db", path), STORE_WRITE, &store, error))
        bench_fail("%s", error);
    return store;
}

/* The save alone; what it leaves behind is cleared away by the same thread when nobody waits. */
static hasup_ns save(struct store *store, const uint8_t *state, uint64_t position)
{
    char error[STORE_ERROR];
    const struct store_keep keep = {.last = 2};
    hasup_ns from = bench_now();
    if (store_save(store, &SLOT, position, (int64_t)position, state, LEN, &keep, error))
        bench_fail("%s", error);
    hasup_ns span = bench_now() - from;
    while (store_tidy(store))
        continue;
    return span;
}

static double restore(struct store *store, const uint8_t *state)
{
    char error[STORE_ERROR];
    struct checkpoint_info info;
    uint8_t *bytes;
    hasup_ns from = bench_now();
    if (store_load(store, &SLOT, &info, &bytes, NULL, NULL, error))
        bench_fail("%s", error);
    double got = speed(from) * 1e9 / (1 << 30);
    if (info.len != LEN || memcmp(bytes, state, LEN) != 0)
        bench_fail("a state came back damaged");
    free(bytes);
    return got;
}

/* ---- the journal beside a checkpoint ---- */

struct saver {
    struct store *store; /* or, beside the journal, hasupd's own thread: */
    struct writer *writer;
    int woken;
    uint8_t *state;
    uint64_t position, seed;
    atomic_bool end;
};

static void wake(void *context)
{
    const uint64_t one = 1;
    (void)!write(*(const int *)context, &one, sizeof one);
}

static void save_by_writer(struct saver *saver)
{
    uint64_t count;
    struct checkpoint_job job = {.kind = CHECKPOINT_SAVE,
                                 .key = SLOT,
                                 .position = ++saver->position,
                                 .bytes = saver->state,
                                 .len = LEN,
                                 .keep = {.last = 2}};
    if (writer_submit(saver->writer, &job))
        bench_fail("no checkpoint thread");
    while (!writer_take(saver->writer))
        (void)!read(saver->woken, &count, sizeof count);
    if (job.error)
        bench_fail("%s", job.message);
}

static void *save_for_ever(void *context)
{
    struct saver *saver = context;
    while (!atomic_load(&saver->end)) {
        change(saver->state, CHUNKS / 100, &saver->seed);
        save_by_writer(saver);
    }
    return NULL;
}

/* One entry, until it is durable. */
static hasup_ns commit(struct journal *journal, uint64_t record, int woken)
{
    static const uint8_t body[256];
    struct journal_op op = {
        .kind = JOURNAL_ACCEPT, .record = record, .model = "bench", .body = {body, sizeof body}};
    hasup_ns from = bench_now();
    journal_add(journal, &op);
    journal_flush(journal);
    for (uint64_t count; !journal_take(journal);)
        (void)!read(woken, &count, sizeof count);
    if (op.error)
        bench_fail("the journal: %s", journal_last_error(journal));
    return bench_now() - from;
}

/* The p99 of a durable request's first commit, in microseconds. */
static double journal_p99(struct journal *journal, uint64_t *record, int woken)
{
    static struct latency latency;
    latency_start(&latency);
    for (unsigned i = 0; i < ENTRIES; i++)
        latency_add(&latency, commit(journal, (*record)++, woken));
    return latency_at_us(&latency, 0.99);
}

static void beside_journal(struct saver *saver)
{
    char path[BENCH_PATH + 64], store[BENCH_PATH + 64], error[JOURNAL_ERROR];
    struct journal *journal;
    struct journal_summary summary;
    int woken = eventfd(0, EFD_CLOEXEC);
    struct figure alone = {0}, beside = {0};
    pthread_t thread;
    const struct journal_options options = {
        .path = in_directory("journal.db", path), .wake = wake, .context = &woken};
    if (journal_open(&options, &journal, &summary, error))
        bench_fail("%s", error);
    saver->woken = eventfd(0, EFD_CLOEXEC);
    saver->writer = writer_new(in_directory("checkpoints.db", store), wake, &saver->woken);
    save_by_writer(saver);
    uint64_t record = summary.next_record;
    journal_p99(journal, &record, woken);
    for (int i = 0; i < ROUNDS; i++) {
        figure_add(&alone, journal_p99(journal, &record, woken));
        atomic_store(&saver->end, false);
        if (pthread_create(&thread, NULL, save_for_ever, saver))
            bench_fail("no thread");
        figure_add(&beside, journal_p99(journal, &record, woken));
        atomic_store(&saver->end, true);
        pthread_join(thread, NULL);
    }
    journal_close(journal, true);
    writer_free(saver->writer);
    close(saver->woken);
    close(woken);
    report_row(&(struct row){.what = "journal p99 beside checkpoints of 1 %",
                             .unit = "us",
                             .hasup = &beside,
                             .beside = "none",
                             .other = &alone,
                             .aim = AIM_AT_MOST,
                             .limit = 2});
}

/* ---- the part ---- */

static void whole_and_part(struct saver *saver)
{
    struct figure whole = {0}, file = {0}, blob = {0}, part = {0}, back = {0};
    sqlite3 *db = blob_open();
    for (int i = -2; i < ROUNDS; i++) { /* two rounds make the files */
        change(saver->state, CHUNKS, &saver->seed);
        double hasup = (double)LEN / (double)save(saver->store, saver->state, ++saver->position);
        double beside = file_save(saver->state, (unsigned)i & 1);
        double as_blob = blob_save(db, saver->state, (unsigned)i & 1);
        change(saver->state, CHUNKS / 100, &saver->seed);
        double ms = (double)save(saver->store, saver->state, ++saver->position) / (double)HASUP_MS;
        double restored = restore(saver->store, saver->state);
        if (i < 0)
            continue;
        figure_add(&whole, hasup);
        figure_add(&file, beside);
        figure_add(&blob, as_blob);
        figure_add(&part, ms);
        figure_add(&back, restored);
    }
    sqlite3_close(db);
    struct row row = {.what = "checkpoint, 256 MiB, all changed",
                      .unit = "GB/s",
                      .hasup = &whole,
                      .beside = "A/B file",
                      .other = &file,
                      .aim = AIM_AT_LEAST,
                      .limit = 0.33};
    report_row(&row);
    row.beside = "SQLite blob";
    row.other = &blob;
    row.limit = 5;
    report_row(&row);
    report_row(&(struct row){.what = "checkpoint, 256 MiB, 1 % changed",
                             .unit = "ms",
                             .hasup = &part,
                             .aim = AIM_AT_MOST,
                             .limit = 20,
                             .absolute = true});
    report_row(&(struct row){.what = "restore, 256 MiB",
                             .unit = "GiB/s",
                             .hasup = &back,
                             .aim = AIM_AT_LEAST,
                             .limit = 1,
                             .absolute = true});
}

void part_checkpoint(void)
{
    struct saver saver = {.seed = 1};
    snprintf(directory, sizeof directory, "%s/checkpoint.XXXXXX", bench_build());
    if (!mkdtemp(directory))
        bench_fail("%s: %s", directory, strerror(errno));
    saver.state = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (saver.state == MAP_FAILED)
        bench_fail("no memory");
    for (size_t at = 0; at < LEN; at += 8)
        hasup_put64(saver.state + at, next_random(&saver.seed));
    saver.store = store_of();
    whole_and_part(&saver);
    store_close(saver.store);
    beside_journal(&saver);
    munmap(saver.state, LEN);
    bench_remove(directory);
}
