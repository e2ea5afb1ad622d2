/* What was saved comes back bit for bit; what was damaged is never taken for good, and said. */
#include "tests/unit/store_world.h"

#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <time.h>

/* ---- save and load ---- */

static void promise_4_states_of_all_sizes_come_back_bit_for_bit(void **state)
{
    const struct place *place = *state;
    static const size_t SIZES[] = {
        0, 1, STORE_ROW - 1, STORE_ROW, STORE_ROW + 1, 2 * STORE_ROW, 5 << 20, 64 << 20};
    for (size_t i = 0; i < HASUP_LEN(SIZES); i++) {
        struct store *store = opened(place->db, STORE_WRITE);
        save(store, &SLOT, i + 1, SIZES[i], 2);
        store_close(store);
        struct loaded got = load_from(place->db, STORE_READ);
        assert_int_equal(got.code, 0);
        assert_true(got.position == i + 1 && got.len == SIZES[i] && !got.skipped);
    }
}

struct listed {
    unsigned count;
    uint64_t positions[16];
};

static bool note_listed(void *context, const struct checkpoint_info *info)
{
    struct listed *listed = context;
    assert_true(listed->count < HASUP_LEN(listed->positions));
    listed->positions[listed->count++] = info->position;
    return true;
}

static struct listed list(struct store *store, const struct checkpoint_key *key)
{
    char error[STORE_ERROR];
    struct listed listed = {0};
    assert_int_equal(store_list(store, key, note_listed, &listed, error), 0);
    return listed;
}

static void keep_n_of_each_slot_stay_newest_first(void **state)
{
    const struct place *place = *state;
    struct store *store = opened(place->db, STORE_WRITE);
    const struct checkpoint_key other = {"m", 1}, all = {"m", UINT32_MAX}, none = {"n", 0};
    for (uint64_t position = 1; position <= 7; position++) {
        save(store, &SLOT, position, 1000, 3);
        save(store, &other, position * 10, 100, 1);
    }
    struct listed listed = list(store, &SLOT);
    assert_int_equal(listed.count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_true(listed.positions[i] == 7 - i);
    assert_int_equal(list(store, &other).count, 1);
    assert_int_equal(list(store, &all).count, 4);
    assert_int_equal(list(store, NULL).count, 4);
    assert_int_equal(load(store, &none).code, HASUP_ENOTFOUND);
    assert_true(load(store, &SLOT).position == 7 && load(store, &other).position == 70);
    store_close(store);
}

static void a_slot_that_began_again_loads_its_newest_and_loses_no_older_one(void **state)
{
    const struct place *place = *state;
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1000, 100, 2);
    save(store, &SLOT, 1001, 100, 2);
    for (uint64_t position = 1; position <= 5; position++)
        save(store, &SLOT, position, 100, 2); /* those above could not be read */
    assert_true(load(store, &SLOT).position == 5);
    struct listed listed = list(store, &SLOT);
    static const uint64_t STAY[] = {5, 4, 1001, 1000};
    assert_int_equal(listed.count, 4);
    assert_memory_equal(listed.positions, STAY, sizeof STAY);
    save(store, &SLOT, 1001, 100, 2);
    save(store, &SLOT, 1002, 100, 2);
    assert_int_equal(list(store, &SLOT).count, 2);
    store_close(store);
}

/* ---- the files ---- */

static void promise_8_neither_the_file_nor_its_journal_grows_for_ever(void **state)
{
    const struct place *place = *state;
    char journal[112];
    struct stat st;
    off_t settled = 0;
    snprintf(journal, sizeof journal, "%s-journal", place->db);
    struct store *store = opened(place->db, STORE_WRITE);
    for (uint64_t position = 1; position <= 40; position++) {
        save(store, &SLOT, position, 1 << 20, 3);
        while (store_tidy(store))
            continue;
        assert_int_equal(stat(journal, &st), 0);
        assert_true(st.st_size <= 4 << 20);
        assert_int_equal(stat(place->db, &st), 0);
        if (position == 10)
            settled = st.st_size;
    }
    assert_true(st.st_size == settled);
    store_close(store);
}

static void promise_12_its_files_are_nobody_elses_and_the_umask_is_left_alone(void **state)
{
    const struct place *place = *state;
    static const char *const SUFFIX[] = {"", "-journal"};
    mode_t before = umask(0);
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 100, 1);
    for (size_t i = 0; i < HASUP_LEN(SUFFIX); i++) {
        char path[112];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", place->db, SUFFIX[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    assert_int_equal(umask(before), 0);
    store_close(store);
}

static void assert_open_says(const char *path, enum store_mode mode, int code, const char *what)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    assert_int_equal(store_open(path, mode, &store, error), code);
    assert_null(store);
    if (!strstr(error, what) || !strstr(error, path))
        fail_msg("\"%s\" does not name %s and say \"%s\"", error, path, what);
}

static void what_is_not_a_store_is_said_and_left_byte_for_byte(void **state)
{
    const struct place *place = *state;
    size_t len, after;
    char text[9000];
    memset(text, 'x', sizeof text);
    file_write(place->db, text, sizeof text);
    assert_open_says(place->db, STORE_WRITE, HASUP_ECORRUPT, "not a database");
    assert_open_says(place->db, STORE_READ, HASUP_ECORRUPT, "not a database");
    assert_int_equal(unlink(place->db), 0);
    assert_open_says(place->db, STORE_READ, HASUP_ENOTFOUND, "No such file");

    file_sql(place->db, "CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)");
    uint8_t *before = file_read(place->db, &len);
    assert_open_says(place->db, STORE_WRITE, HASUP_EINVAL, "not one of hasup");
    assert_open_says(place->db, STORE_READ, HASUP_EINVAL, "not one of hasup");
    uint8_t *now = file_read(place->db, &after);
    assert_true(len == after);
    assert_memory_equal(before, now, len);
    free(before);
    free(now);
}

static void another_schema_version_is_refused_and_says_which(void **state)
{
    const struct place *place = *state;
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 100, 1);
    store_close(store);
    file_sql(place->db, "PRAGMA user_version = 99");
    assert_open_says(place->db, STORE_WRITE, HASUP_EINVAL, "schema version 99");
    assert_open_says(place->db, STORE_READ, HASUP_EINVAL, "schema version 99");
}

static void a_directory_in_its_place_or_none_at_all_is_said(void **state)
{
    const struct place *place = *state;
    char none[128];
    assert_int_equal(mkdir(place->db, 0700), 0);
    assert_open_says(place->db, STORE_WRITE, HASUP_EIO, "");
    assert_open_says(place->db, STORE_READ, HASUP_EIO, "");
    snprintf(none, sizeof none, "%s/none/checkpoints.db", place->directory);
    assert_open_says(none, STORE_WRITE, HASUP_EIO, "No such file or directory");
}

static void promise_11_a_file_cut_short_anywhere_loads_nothing_wrong(void **state)
{
    const struct place *place = *state;
    struct store *store = opened(place->db, STORE_WRITE);
    for (uint64_t position = 1; position <= 3; position++)
        save(store, &SLOT, position, 200000, 3);
    store_close(store);
    size_t len;
    uint8_t *whole = file_read(place->db, &len);
    for (size_t cut = 0; cut < len; cut += cut < 4096 ? 100 : 32749) {
        file_write(place->db, whole, cut);
        struct loaded got = load_from(place->db, STORE_READ);
        assert_true(got.code || got.position == 3 || got.skipped);
        if (got.code)
            assert_true(got.error[0] != '\0');
    }
    free(whole);
}

/* ---- damage ---- */

enum { FLIPS = 600 };

/* A run with another seed: HASUP_SEED=n. */
static uint64_t seed(void)
{
    const char *text = getenv("HASUP_SEED");
    return text ? strtoull(text, NULL, 10) : 1;
}

static void promise_11_a_bit_flipped_anywhere_is_never_loaded_and_never_silent(void **state)
{
    const struct place *place = *state;
    const struct checkpoint_key other = {"other", 0};
    uint64_t random = seed();
    unsigned passed_over = 0, lost = 0;
    struct store *store = opened(place->db, STORE_WRITE);
    for (uint64_t position = 1; position <= 3; position++) {
        save(store, &SLOT, position, 70000, 3);
        save(store, &other, position, 70000, 3);
    }
    store_close(store);
    size_t len;
    uint8_t *bytes = file_read(place->db, &len);
    for (unsigned i = 0; i < FLIPS; i++) {
        /* Half of them where SQLite keeps its own: headers and the list. */
        size_t at = (size_t)(next_random(&random) % len);
        if (i % 2)
            at = at / 65536 * 65536 + (at & 1 ? at % 256 : 65536 - 1 - at % 1024);
        uint8_t bit = (uint8_t)(1 << next_random(&random) % 8);
        bytes[at] ^= bit;
        file_write(place->db, bytes, len);
        struct loaded got = load_from(place->db, STORE_READ); /* asserts the bytes */
        if (!got.code && got.position != 3 && !got.skipped)
            fail_msg("seed %llu: bit %u of byte %zu: position %llu is loaded in silence",
                     (unsigned long long)seed(), bit, at, (unsigned long long)got.position);
        passed_over += !got.code && got.position != 3;
        lost += got.code != 0;
        bytes[at] ^= bit;
    }
    free(bytes);
    assert_true(passed_over > 0); /* the older one serves */
    assert_true(lost < FLIPS / 2);
}

static void promise_11_a_bad_newest_one_is_passed_over_for_the_one_before(void **state)
{
    const struct place *place = *state;
    struct store *store = opened(place->db, STORE_WRITE);
    for (uint64_t position = 1; position <= 3; position++)
        save(store, &SLOT, position, 70000, 3);
    store_close(store);
    for (unsigned bad = 1; bad <= 3; bad++) {
        size_t len, found = 0;
        uint8_t *wanted = state_at(4 - bad, 70000), *bytes = file_read(place->db, &len);
        for (size_t at = 0; at + 512 < len && !found; at++)
            found = memcmp(bytes + at, wanted, 512) ? 0 : at;
        assert_true(found);
        bytes[found + 7] ^= 1;
        file_write(place->db, bytes, len);
        free(bytes);
        free(wanted);
        struct loaded got = load_from(place->db, STORE_READ);
        assert_int_equal(got.skipped, bad);
        assert_non_null(strstr(got.reason, "of m/0 at position 3"));
        assert_int_equal(got.code, bad < 3 ? 0 : HASUP_ENOTFOUND);
        if (bad < 3)
            assert_true(got.position == 3 - bad);
    }
}

/* ---- others at the same file ---- */

static void two_stores_on_one_file_see_each_others_saves(void **state)
{
    const struct place *place = *state;
    struct store *first = opened(place->db, STORE_WRITE), *second = opened(place->db, STORE_WRITE);
    struct store *reader = opened(place->db, STORE_READ);
    for (uint64_t position = 1; position <= 20; position++) {
        save(position % 2 ? first : second, &SLOT, position, 100000, 3);
        assert_true(load(position % 2 ? second : first, &SLOT).position == position);
        assert_true(load(reader, &SLOT).position == position);
    }
    store_close(second);
    store_close(reader);
    store_close(first);
}

static void a_store_that_another_process_locks_fails_in_time_and_recovers(void **state)
{
    const struct place *place = *state;
    char error[STORE_ERROR] = "";
    sqlite3 *other;
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 100, 3);
    assert_int_equal(sqlite3_open(place->db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(try_save(store, &SLOT, 2, 100, 3, error), HASUP_EIO);
    assert_non_null(strstr(error, "locked"));
    assert_true(load(store, &SLOT).position == 1);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    save(store, &SLOT, 2, 100, 3);
    assert_true(load(store, &SLOT).position == 2);
    store_close(store);
}

static void a_reader_that_does_not_end_delays_a_save_and_no_more(void **state)
{
    const struct place *place = *state;
    char error[STORE_ERROR] = "";
    sqlite3 *reader;
    struct timespec from, to;
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 100, 3);
    assert_int_equal(sqlite3_open(place->db, &reader), SQLITE_OK);
    assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT count(*) FROM manifest", NULL, NULL, NULL),
                     SQLITE_OK);
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_int_equal(try_save(store, &SLOT, 2, 20 << 20, 3, error), HASUP_EIO);
    clock_gettime(CLOCK_MONOTONIC, &to);
    assert_non_null(strstr(error, "locked"));
    assert_true(to.tv_sec - from.tv_sec < 30); /* once, and not once a page */
    assert_false(store_tidy(store));
    sqlite3_close(reader);
    save(store, &SLOT, 2, 20 << 20, 3);
    assert_true(load(store, &SLOT).position == 2);
    store_close(store);
}

static void promise_11_a_file_removed_or_replaced_takes_no_saves_but_still_gives(void **state)
{
    const struct place *place = *state;
    char error[STORE_ERROR] = "";
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 100000, 3);
    assert_false(store_is_gone(store));
    place_empty(place->directory);
    assert_true(store_is_gone(store));
    assert_int_equal(try_save(store, &SLOT, 2, 100, 3, error), HASUP_EIO);
    assert_non_null(strstr(error, "removed"));
    assert_true(load(store, &SLOT).position == 1);
    struct store *other = opened(place->db, STORE_WRITE);
    assert_int_equal(try_save(store, &SLOT, 2, 100, 3, error), HASUP_EIO);
    store_close(other);
    store_close(store);
}

/* ---- kills ---- */

/* Saves for ever; says through the pipe what is stored. */
static void save_for_ever(const struct place *place, int out, uint64_t position)
{
    char error[STORE_ERROR];
    struct store *store;
    if (store_open(place->db, STORE_WRITE, &store, error))
        _exit(1);
    for (;; position++) {
        size_t len = position % 3 ? 300000 : 5000;
        if (try_save(store, &SLOT, position, len, 3, error) ||
            write(out, &position, sizeof position) < 0)
            _exit(1);
    }
}

static void promise_11_kill_9_amid_saves_leaves_the_newest_complete(void **state)
{
    const struct place *place = *state;
    uint64_t random = seed(), position = 0;
    for (unsigned round = 0; round < 40; round++) {
        int ends[2], status;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(ends[0]);
            save_for_ever(place, ends[1], position + 1);
        }
        close(ends[1]);
        uint64_t told = position, before = position, spins = next_random(&random) % 2000;
        for (unsigned saves = 1 + (unsigned)(next_random(&random) % 3); saves; saves--)
            assert_true(read(ends[0], &told, sizeof told) == sizeof told);
        while (spins--) /* some way into the next one */
            sched_yield();
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        for (uint64_t more; read(ends[0], &more, sizeof more) == sizeof more;)
            told = more;
        close(ends[0]);
        struct loaded read_only = load_from(place->db, STORE_READ);
        struct loaded got = load_from(place->db, STORE_WRITE);
        assert_int_equal(got.code, 0);
        assert_int_equal(got.skipped, 0);
        assert_true(told > before && (got.position == told || got.position == told + 1));
        assert_true(read_only.code == 0 && read_only.position == got.position);
        position = got.position;
    }
}

static void a_checkpoint_is_seen_only_when_all_of_it_is_there(void **state)
{
    const struct place *place = *state;
    int ends[2], status;
    uint64_t last = 0, told;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        save_for_ever(place, ends[1], 1);
    close(ends[1]);
    assert_true(read(ends[0], &told, sizeof told) == sizeof told);
    struct store *reader = opened(place->db, STORE_READ);
    while (last < 60) {
        char error[STORE_ERROR];
        struct listed listed = list(reader, &SLOT);
        struct loaded got = load(reader, &SLOT);
        assert_int_equal(got.code, 0);
        assert_int_equal(got.skipped, 0);
        assert_true(listed.count && listed.count <= 3 && got.position >= listed.positions[0]);
        assert_true(got.position >= last);
        assert_int_equal(store_check(reader, false, error), 0);
        last = got.position;
        assert_true(read(ends[0], &told, sizeof told) == sizeof told);
    }
    store_close(reader);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    close(ends[0]);
}

/* ---- full and read-only disks ---- */

static int save_until_full(const struct place *place)
{
    char error[STORE_ERROR] = "", filler[112];
    struct store *store;
    uint8_t *bytes;
    struct checkpoint_info info;
    CHECK(store_open(place->db, STORE_WRITE, &store, error) == 0);
    CHECK(try_save(store, &SLOT, 1, 300000, 3, error) == 0);
    snprintf(filler, sizeof filler, "%s/filler", place->directory);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static const char zeros[4096];
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    close(fd);
    CHECK(try_save(store, &SLOT, 2, 300000, 3, error) == HASUP_EIO);
    CHECK(strstr(error, place->db) && strstr(error, "full"));
    CHECK(store_load(store, &SLOT, &info, &bytes, NULL, NULL, error) == 0 && info.position == 1);
    free(bytes);
    store_close(store);
    /* A hasupd that starts on the full disk can still restore. */
    CHECK(store_open(place->db, STORE_READ, &store, error) == 0);
    CHECK(store_load(store, &SLOT, &info, &bytes, NULL, NULL, error) == 0 && info.position == 1);
    free(bytes);
    store_close(store);
    CHECK(unlink(filler) == 0);
    CHECK(store_open(place->db, STORE_WRITE, &store, error) == 0);
    CHECK(try_save(store, &SLOT, 2, 300000, 3, error) == 0);
    CHECK(store_load(store, &SLOT, &info, &bytes, NULL, NULL, error) == 0 && info.position == 2);
    free(bytes);
    store_close(store);
    return 0;
}

static void promise_11_a_full_disk_refuses_keeps_what_is_there_and_recovers(void **state)
{
    if (!on_small_disk(*state, "size=2m", save_until_full))
        skip();
}

static int read_on_read_only(const struct place *place)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    uint8_t *bytes;
    struct checkpoint_info info;
    CHECK(store_open(place->db, STORE_WRITE, &store, error) == 0);
    CHECK(try_save(store, &SLOT, 1, 300000, 3, error) == 0);
    store_close(store);
    CHECK(mount("none", place->directory, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(store_open(place->db, STORE_WRITE, &store, error) == HASUP_EIO);
    CHECK(strstr(error, place->db) && strstr(error, "Read-only file system"));
    CHECK(store_open(place->db, STORE_READ, &store, error) == 0);
    CHECK(store_load(store, &SLOT, &info, &bytes, NULL, NULL, error) == 0 && info.position == 1);
    free(bytes);
    store_close(store);
    return 0;
}

static void promise_11_a_read_only_disk_still_gives(void **state)
{
    if (!on_small_disk(*state, "size=4m", read_on_read_only))
        skip();
}

/* Without root: no file may grow over the limit. */
static void promise_11_a_write_that_fails_midway_leaves_the_one_before(void **state)
{
    const struct place *place = *state;
    char error[STORE_ERROR] = "";
    struct rlimit before, small;
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, 300000, 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 40000; limit < 1500000; limit += 262144) {
        small.rlim_cur = limit;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        int code = try_save(store, &SLOT, 2, 3000000, 3, error);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(code, HASUP_EIO);
        assert_non_null(strstr(error, place->db));
        struct loaded got = load(store, &SLOT);
        assert_true(got.code == 0 && got.position == 1 && !got.skipped);
    }
    signal(SIGXFSZ, SIG_DFL);
    save(store, &SLOT, 2, 3000000, 3);
    assert_true(load(store, &SLOT).position == 2);
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_4_states_of_all_sizes_come_back_bit_for_bit),
        STORY(keep_n_of_each_slot_stay_newest_first),
        STORY(a_slot_that_began_again_loads_its_newest_and_loses_no_older_one),
        STORY(promise_8_neither_the_file_nor_its_journal_grows_for_ever),
        STORY(promise_12_its_files_are_nobody_elses_and_the_umask_is_left_alone),
        STORY(what_is_not_a_store_is_said_and_left_byte_for_byte),
        STORY(another_schema_version_is_refused_and_says_which),
        STORY(a_directory_in_its_place_or_none_at_all_is_said),
        STORY(promise_11_a_file_cut_short_anywhere_loads_nothing_wrong),
        STORY(promise_11_a_bit_flipped_anywhere_is_never_loaded_and_never_silent),
        STORY(promise_11_a_bad_newest_one_is_passed_over_for_the_one_before),
        STORY(two_stores_on_one_file_see_each_others_saves),
        STORY(a_store_that_another_process_locks_fails_in_time_and_recovers),
        STORY(a_reader_that_does_not_end_delays_a_save_and_no_more),
        STORY(promise_11_a_file_removed_or_replaced_takes_no_saves_but_still_gives),
        STORY(promise_11_kill_9_amid_saves_leaves_the_newest_complete),
        STORY(a_checkpoint_is_seen_only_when_all_of_it_is_there),
        STORY(promise_11_a_full_disk_refuses_keeps_what_is_there_and_recovers),
        STORY(promise_11_a_read_only_disk_still_gives),
        STORY(promise_11_a_write_that_fails_midway_leaves_the_one_before),
    };
    return cmocka_run_group_tests_name("checkpoints_store", tests, NULL, NULL);
}
