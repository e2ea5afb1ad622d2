/* Promise 11 on a disk that fails: whatever call fails, and wherever the power is cut, the newest
 * checkpoint that was told to be saved is loaded, or a newer one; never a wrong one. */
#include "tests/unit/store_world.h"

#include "tests/unit/fault_vfs.h"

enum { LEN = 20 * STORE_CHUNK, SAVES = 8 };

/* The state at a position: a few chunks of it change with each, so that rows are shared. */
static uint8_t *shared_state(uint64_t position)
{
    uint8_t *bytes = state_at(1, LEN);
    for (uint64_t i = 1; i <= position; i++)
        hasup_put64(bytes + i % 20 * STORE_CHUNK + 8, i * 7919);
    return bytes;
}

static int save_shared(struct store *store, uint64_t position)
{
    char error[STORE_ERROR];
    uint8_t *bytes = shared_state(position);
    int code = store_save(store, &SLOT, position, (int64_t)position, bytes, LEN,
                          &(struct store_keep){.last = 2}, error);
    free(bytes);
    return code;
}

static int open_store(const struct place *place, struct store **store)
{
    char error[STORE_ERROR];
    return store_open(place->db, STORE_WRITE, store, error);
}

/* What is loaded, proven; 0: nothing. */
static uint64_t loaded_position(const struct place *place)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    struct checkpoint_info info;
    struct loaded told = {0};
    uint8_t *bytes;
    if (store_open(place->db, STORE_WRITE, &store, error))
        fail_msg("%s", error);
    int code = store_load(store, &SLOT, &info, &bytes, note_skipped, &told, error);
    if (told.skipped)
        fail_msg("%s", told.reason);
    uint64_t position = code ? 0 : info.position;
    if (!code) {
        uint8_t *wanted = shared_state(position);
        assert_true(info.len == LEN);
        assert_memory_equal(bytes, wanted, LEN);
        free(wanted);
        free(bytes);
    } else {
        assert_int_equal(code, HASUP_ENOTFOUND);
    }
    store_close(store);
    return position;
}

/* Saves a few, opening anew after a failure as the writer does; the last that was told to be saved.
 */
static uint64_t run_saves(const struct place *place)
{
    struct store *store = NULL;
    uint64_t told = 0;
    for (uint64_t position = 1; position <= SAVES; position++) {
        if (!store && open_store(place, &store))
            continue;
        if (save_shared(store, position) == 0) {
            told = position;
        } else {
            store_close(store);
            store = NULL;
        }
        while (store && store_tidy(store))
            continue;
    }
    store_close(store);
    return told;
}

static void place_clear(const struct place *place)
{
    place_empty(place->directory);
    fault_forget();
}

static void each_call(const struct place *place, unsigned kinds, enum fault_how how)
{
    static const uint64_t TIMES[] = {1, 7, 1000000};
    for (size_t i = 0; i < HASUP_LEN(TIMES); i++)
        for (uint64_t at = 1;; at += at / 16 + 1) {
            fault_begin(
                (struct fault_plan){.kinds = kinds, .at = at, .times = TIMES[i], .how = how});
            uint64_t told = run_saves(place);
            bool failed = fault_end() > 0;
            uint64_t got = loaded_position(place);
            if (got < told)
                fail_msg("call %llu: %llu was told to be saved, %llu is loaded",
                         (unsigned long long)at, (unsigned long long)told, (unsigned long long)got);
            assert_true(failed || told == SAVES);
            place_clear(place);
            if (!failed)
                break;
        }
}

static void promise_11_writes_that_fail_lose_nothing_that_was_told(void **state)
{
    fault_vfs_install(false);
    each_call(*state, FAULT_WRITE, FAULT_EIO);
}

static void promise_11_a_disk_that_gets_full_loses_nothing_that_was_told(void **state)
{
    fault_vfs_install(false);
    each_call(*state, FAULT_WRITE, FAULT_ENOSPC);
}

static void promise_11_short_writes_lose_nothing_that_was_told(void **state)
{
    fault_vfs_install(false);
    each_call(*state, FAULT_WRITE, FAULT_SHORT);
}

static void promise_11_syncs_reads_and_truncations_that_fail_lose_nothing(void **state)
{
    fault_vfs_install(false);
    each_call(*state, FAULT_SYNC, FAULT_EIO);
    each_call(*state, FAULT_READ, FAULT_EIO);
    each_call(*state, FAULT_TRUNCATE | FAULT_LOCK | FAULT_OPEN, FAULT_EIO);
}

static void promise_11_after_a_power_cut_the_newest_durable_one_is_loaded(void **state)
{
    const struct place *place = *state;
    uint64_t end = 0;
    fault_vfs_install(true);
    fault_begin(
        (struct fault_plan){.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE, .at = UINT64_MAX});
    run_saves(place);
    end = fault_state.calls;
    fault_end();
    place_clear(place);
    for (uint64_t at = 1; at <= end; at++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct fault_plan plan = {.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE,
                                      .at = at,
                                      .how = FAULT_POWER,
                                      .keep_some = seed,
                                      .seed = at * 3 + seed};
            fault_begin(plan);
            uint64_t told = run_saves(place);
            fault_end();
            fault_power_back(&plan);
            uint64_t got = loaded_position(place);
            if (got < told || got > told + 1)
                fail_msg("power cut at call %llu, seed %llu: %llu was told, %llu is loaded",
                         (unsigned long long)at, (unsigned long long)seed, (unsigned long long)told,
                         (unsigned long long)got);
            place_clear(place);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_11_writes_that_fail_lose_nothing_that_was_told),
        STORY(promise_11_a_disk_that_gets_full_loses_nothing_that_was_told),
        STORY(promise_11_short_writes_lose_nothing_that_was_told),
        STORY(promise_11_syncs_reads_and_truncations_that_fail_lose_nothing),
        STORY(promise_11_after_a_power_cut_the_newest_durable_one_is_loaded),
    };
    return cmocka_run_group_tests_name("checkpoints_storefault", tests, NULL, NULL);
}
