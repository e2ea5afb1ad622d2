/* A checkpoint writes what changed, and shares the rest: states that grow, shrink and change come
 * back bit for bit; one damaged row never takes all; what nobody needs is cleared away. */
#include "tests/unit/store_world.h"

#include <sqlite3.h>

#include "tests/unit/checkpoints_oldstore.h"

enum { CHUNKS = 300, LEN = CHUNKS * STORE_CHUNK };

/* A state that a test changes; every version that was saved can be compared. */
struct changing {
    uint8_t *bytes;
    size_t len;
    uint64_t seed, position;
};

static void change_chunk(struct changing *state, size_t chunk)
{
    size_t at = chunk * STORE_CHUNK + (size_t)(next_random(&state->seed) % 100);
    if (at < state->len)
        state->bytes[at] ^= (uint8_t)(1 + next_random(&state->seed) % 255);
}

static int try_save_changing(struct store *store, struct changing *state,
                             const struct store_keep *keep, char error[STORE_ERROR])
{
    state->position++;
    return store_save(store, &SLOT, state->position, (int64_t)state->position * HASUP_S,
                      state->bytes, state->len, keep, error);
}

static void save_changing(struct store *store, struct changing *state, uint32_t keep)
{
    char error[STORE_ERROR] = "";
    if (try_save_changing(store, state, &(struct store_keep){.last = keep}, error))
        fail_msg("%s", error);
}

static bool note_first(void *context, const struct checkpoint_info *info)
{
    *(struct checkpoint_info *)context = *info;
    return false;
}

static struct checkpoint_info newest(struct store *store)
{
    char error[STORE_ERROR];
    struct checkpoint_info info = {0};
    assert_int_equal(store_list(store, &SLOT, note_first, &info, error), 0);
    return info;
}

static void assert_loads(struct store *store, const struct changing *state)
{
    char error[STORE_ERROR] = "";
    struct checkpoint_info info;
    uint8_t *bytes;
    if (store_load(store, &SLOT, &info, &bytes, NULL, NULL, error))
        fail_msg("%s", error);
    assert_true(info.position == state->position && info.len == state->len);
    assert_memory_equal(bytes, state->bytes, state->len);
    free(bytes);
}

static struct changing changing_new(size_t len)
{
    return (struct changing){.bytes = state_at(1, 2 * LEN), .len = len, .seed = 7};
}

static void what_did_not_change_is_not_written_again(void **context)
{
    const struct place *place = *context;
    struct changing state = changing_new(LEN);
    struct store *store = opened(place->db, STORE_WRITE);
    save_changing(store, &state, 9);
    assert_true(newest(store).fresh == LEN);
    change_chunk(&state, 3);
    change_chunk(&state, 77);
    change_chunk(&state, 78);
    save_changing(store, &state, 9);
    struct checkpoint_info info = newest(store);
    assert_true(info.fresh == 3 * STORE_CHUNK);
    assert_true(info.rows == 2 && info.written < 4 * STORE_CHUNK); /* the chunks, their map */
    assert_loads(store, &state);
    save_changing(store, &state, 9);
    info = newest(store);
    assert_true(info.fresh == 0 && info.written < STORE_CHUNK);
    assert_loads(store, &state);
    store_close(store);
    /* Not even after a restart, where the load has proven what is there. */
    store = opened(place->db, STORE_WRITE);
    assert_loads(store, &state);
    change_chunk(&state, 200);
    save_changing(store, &state, 9);
    assert_true(newest(store).fresh == STORE_CHUNK);
    assert_loads(store, &state);
    store_close(store);
    free(state.bytes);
}

static void a_map_costs_what_changed_and_not_what_is_there(void **context)
{
    const struct place *place = *context;
    struct changing state = changing_new(LEN);
    struct store *store = opened(place->db, STORE_WRITE);
    uint64_t maps = 0, most = 0;
    save_changing(store, &state, 9);
    for (unsigned i = 0; i < 100; i++) {
        change_chunk(&state, i * 7 % CHUNKS);
        save_changing(store, &state, 9);
        uint64_t map = newest(store).written - newest(store).fresh;
        maps += map;
        most = map > most ? map : most;
    }
    /* A base is 24 bytes a chunk; written whole each time it would be 100 of them. */
    assert_true(most <= 24 * CHUNKS && maps < 100 * 24 * CHUNKS / 5);
    assert_loads(store, &state);
    store_close(store);
    free(state.bytes);
}

static void promise_4_states_that_grow_shrink_and_change_come_back_bit_for_bit(void **context)
{
    const struct place *place = *context;
    struct changing state = changing_new(LEN);
    struct store *store = opened(place->db, STORE_WRITE);
    for (unsigned i = 0; i < 400; i++) {
        uint64_t dice = next_random(&state.seed) % 10;
        if (dice == 0)
            state.len = (size_t)(next_random(&state.seed) % (2 * LEN));
        else if (dice == 1)
            state.len = (size_t)(next_random(&state.seed) % 3) * STORE_CHUNK + (i & 1);
        else if (dice < 4)
            state.len = state.len > 5000 ? state.len - 5000 : state.len + 100000;
        for (uint64_t n = next_random(&state.seed) % 20; n; n--)
            change_chunk(&state, (size_t)(next_random(&state.seed) % (2 * CHUNKS)));
        save_changing(store, &state, 3);
        if (i % 50 == 49) {
            store_close(store);
            store = opened(place->db, STORE_WRITE);
        }
        if (i % 3 == 0)
            assert_loads(store, &state);
        while (i % 5 == 0 && store_tidy(store))
            continue;
    }
    char error[STORE_ERROR] = "";
    struct store_gaps gaps;
    assert_int_equal(store_check(store, true, error), 0);
    assert_int_equal(store_gaps(store, &gaps, error), 0);
    assert_true(gaps.orphans == 0 && gaps.newest_listed);
    store_close(store);
    free(state.bytes);
}

/* ---- generations ---- */

static bool note_generation(void *context, const struct checkpoint_info *info)
{
    int64_t *seen = context; /* the newest one's; then how many others there are */
    if (!seen[0])
        seen[0] = info->generation;
    seen[1] += info->generation != seen[0];
    return true;
}

static void promise_11_one_always_stays_that_shares_nothing_with_the_newest(void **context)
{
    const struct place *place = *context;
    char error[STORE_ERROR];
    struct changing state = changing_new(LEN);
    struct store *store = opened(place->db, STORE_WRITE);
    unsigned generations = 0;
    for (unsigned i = 0; i < 300; i++) {
        for (unsigned n = 0; n < 6; n++)
            change_chunk(&state, (size_t)(next_random(&state.seed) % CHUNKS));
        save_changing(store, &state, 3);
        int64_t seen[2] = {0};
        assert_int_equal(store_list(store, &SLOT, note_generation, seen, error), 0);
        generations += seen[0] == newest(store).id;
        assert_true(generations < 2 || seen[1] > 0);
        while (store_tidy(store))
            continue;
    }
    assert_true(generations > 3 && generations < 20);
    store_close(store);
    free(state.bytes);
}

static void promise_11_any_row_damaged_leaves_one_to_restore(void **context)
{
    const struct place *place = *context;
    struct changing state = changing_new(60 * STORE_CHUNK);
    struct store *store = opened(place->db, STORE_WRITE);
    do {
        change_chunk(&state, (size_t)(next_random(&state.seed) % 60));
        save_changing(store, &state, 3);
    } while (newest(store).generation < 10 || newest(store).generation == newest(store).id);
    store_close(store);
    size_t len;
    uint8_t *bytes = file_read(place->db, &len);
    unsigned skipped = 0;
    for (size_t at = 65536 + 30000; at < len; at += 65536) {
        bytes[at] ^= 4;
        file_write(place->db, bytes, len);
        bytes[at] ^= 4;
        char error[STORE_ERROR] = "";
        struct checkpoint_info info;
        struct loaded told = {0};
        uint8_t *got;
        store = opened(place->db, STORE_WRITE);
        int code = store_load(store, &SLOT, &info, &got, note_skipped, &told, error);
        if (code)
            fail_msg("byte %zu: nothing is left: %s", at, error);
        skipped += told.skipped > 0;
        assert_true(info.position == state.position || told.skipped);
        free(got);
        /* The next one trusts nothing of the damaged ones. */
        struct changing next = state;
        save_changing(store, &next, 3);
        assert_true(!told.skipped || newest(store).fresh == next.len);
        assert_loads(store, &next);
        store_close(store);
    }
    assert_true(skipped > 2);
    free(bytes);
    free(state.bytes);
}

/* Every version of the state, so that what is loaded can be proven. */
static void assert_is_version(uint8_t *const *versions, const struct checkpoint_info *info,
                              const uint8_t *bytes, size_t len)
{
    assert_true(info->len == len);
    assert_memory_equal(bytes, versions[info->position], len);
}

static void promise_11_a_bit_flipped_anywhere_is_never_loaded(void **context)
{
    enum { VERSIONS = 150, SMALL = 40 * STORE_CHUNK, FLIPS = 500 };
    const struct place *place = *context;
    const char *text = getenv("HASUP_SEED");
    struct changing state = changing_new(SMALL);
    uint8_t *versions[VERSIONS + 1] = {NULL};
    uint64_t random = text ? strtoull(text, NULL, 10) : 1;
    unsigned older = 0, none = 0;
    struct store *store = opened(place->db, STORE_WRITE);
    while (state.position < VERSIONS) {
        change_chunk(&state, (size_t)(next_random(&state.seed) % 40));
        save_changing(store, &state, 3);
        versions[state.position] = malloc(SMALL);
        memcpy(versions[state.position], state.bytes, SMALL);
        while (store_tidy(store))
            continue;
    }
    store_close(store);
    size_t len;
    uint8_t *file = file_read(place->db, &len);
    for (unsigned i = 0; i < FLIPS; i++) {
        size_t at = (size_t)(next_random(&random) % len);
        uint8_t bit = (uint8_t)(1 << next_random(&random) % 8), *bytes;
        char error[STORE_ERROR] = "";
        struct checkpoint_info info;
        struct loaded told = {0};
        file[at] ^= bit;
        file_write(place->db, file, len);
        int code = store_open(place->db, STORE_READ, &store, error);
        if (!code)
            code = store_load(store, &SLOT, &info, &bytes, note_skipped, &told, error);
        store_close(store);
        if (code) {
            assert_true(*error);
            none++;
        } else {
            assert_is_version(versions, &info, bytes, SMALL);
            free(bytes);
            if (info.position != VERSIONS && !told.skipped)
                fail_msg("flip %u: position %llu is loaded in silence", i,
                         (unsigned long long)info.position);
            older += info.position != VERSIONS;
        }
        file[at] ^= bit;
    }
    if (older < 20 || none > FLIPS / 20)
        fail_msg("of %d: %u older, %u none", FLIPS, older, none);
    for (unsigned i = 0; i <= VERSIONS; i++)
        free(versions[i]);
    free(file);
    free(state.bytes);
}

/* ---- the file ---- */

static void promise_8_what_nobody_needs_is_cleared_away_and_given_back(void **context)
{
    const struct place *place = *context;
    char error[STORE_ERROR];
    struct changing state = changing_new(LEN);
    struct stat st;
    struct store_gaps gaps;
    off_t most = 0;
    struct store *store = opened(place->db, STORE_WRITE);
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned n = 0; n < 10; n++)
            change_chunk(&state, (size_t)(next_random(&state.seed) % CHUNKS));
        save_changing(store, &state, 3);
        while (store_tidy(store))
            continue;
        assert_int_equal(stat(place->db, &st), 0);
        most = st.st_size > most ? st.st_size : most;
    }
    /* Two generations of at most twice the state each, one that is begun, and pages that are half
     * full of small rows. */
    assert_true(most < 8 * LEN + (128 << 16));
    state.len = 100;
    for (unsigned i = 0; i < 10; i++) {
        change_chunk(&state, 0);
        save_changing(store, &state, 2);
    }
    while (store_tidy(store))
        continue;
    assert_int_equal(store_gaps(store, &gaps, error), 0);
    assert_true(gaps.waiting == 0 && gaps.orphans == 0);
    assert_int_equal(stat(place->db, &st), 0);
    assert_true(st.st_size <= 300 << 16);
    store_close(store);
    free(state.bytes);
}

static bool note_hour(void *context, const struct checkpoint_info *info)
{
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 200 - used, "%lld ",
             (long long)(info->created_wall_ns / HASUP_S / 60)); /* minutes */
    return true;
}

static void the_newest_of_hours_and_days_stay(void **context)
{
    const struct place *place = *context;
    char error[STORE_ERROR] = "", text[200] = "";
    struct store *store = opened(place->db, STORE_WRITE);
    const struct store_keep keep = {.last = 1, .hourly = 2, .daily = 3};
    for (int64_t minute = 0; minute <= 3 * 1440 + 100; minute += 10)
        assert_int_equal(store_save(store, &SLOT, (uint64_t)minute + 1, minute * 60 * HASUP_S,
                                    (const uint8_t *)&minute, sizeof minute, &keep, error),
                         0);
    assert_int_equal(store_list(store, &SLOT, note_hour, text, error), 0);
    assert_string_equal(text, "4420 4370 4310 2870 ");
    store_close(store);
}

/* ---- schema 1 ---- */

static void a_file_of_schema_1_is_read_and_goes_on_in_the_new_shape(void **context)
{
    const struct place *place = *context;
    char error[STORE_ERROR] = "";
    struct store_gaps gaps;
    for (uint64_t position = 1; position <= 3; position++)
        old_store_save(place->db, &SLOT, position, 150000);
    struct loaded got = load_from(place->db, STORE_READ);
    assert_true(got.code == 0 && got.position == 3 && !got.skipped);
    struct store *store = opened(place->db, STORE_WRITE);
    assert_true(load(store, &SLOT).position == 3);
    save(store, &SLOT, 4, 150000, 3);
    assert_true(load(store, &SLOT).position == 4 && newest(store).id == 4);
    assert_int_equal(store_read(store, 2, &(struct checkpoint_info){0}, NULL, error), 0);
    for (uint64_t position = 5; position <= 8; position++)
        save(store, &SLOT, position, 150000, 3);
    while (store_tidy(store))
        continue;
    assert_int_equal(store_gaps(store, &gaps, error), 0);
    assert_true(gaps.waiting == 0 && gaps.orphans == 0 && gaps.newest_listed);
    assert_int_equal(store_check(store, true, error), 0);
    store_close(store);
    got = load_from(place->db, STORE_READ);
    assert_true(got.code == 0 && got.position == 8);
}

static void promise_11_a_damaged_one_of_schema_1_is_passed_over(void **context)
{
    const struct place *place = *context;
    for (uint64_t position = 1; position <= 2; position++)
        old_store_save(place->db, &SLOT, position, 150000);
    size_t len, found = 0;
    uint8_t *wanted = state_at(2, 150000), *bytes = file_read(place->db, &len);
    for (size_t at = 0; at + 512 < len && !found; at++)
        found = memcmp(bytes + at, wanted, 512) ? 0 : at;
    bytes[found + 7] ^= 1;
    file_write(place->db, bytes, len);
    struct loaded got = load_from(place->db, STORE_WRITE);
    assert_true(got.code == 0 && got.position == 1 && got.skipped == 1);
    free(bytes);
    free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_did_not_change_is_not_written_again),
        STORY(a_map_costs_what_changed_and_not_what_is_there),
        STORY(promise_4_states_that_grow_shrink_and_change_come_back_bit_for_bit),
        STORY(promise_11_one_always_stays_that_shares_nothing_with_the_newest),
        STORY(promise_11_any_row_damaged_leaves_one_to_restore),
        STORY(promise_11_a_bit_flipped_anywhere_is_never_loaded),
        STORY(promise_8_what_nobody_needs_is_cleared_away_and_given_back),
        STORY(the_newest_of_hours_and_days_stay),
        STORY(a_file_of_schema_1_is_read_and_goes_on_in_the_new_shape),
        STORY(promise_11_a_damaged_one_of_schema_1_is_passed_over),
    };
    return cmocka_run_group_tests_name("checkpoints_storechunks", tests, NULL, NULL);
}
