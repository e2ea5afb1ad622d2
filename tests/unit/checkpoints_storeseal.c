/* Keys: what is sealed cannot be changed, what is encrypted cannot be read, and a wrong key is said
 * and destroys nothing.  Packing: where it pays, and only there. */
#include "tests/unit/store_world.h"


enum { LEN = 300000 };

static const char KEY_A[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char KEY_B[] = "f0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

struct keyed {
    char path[96];
    struct keys *keys;
};

static struct keyed keys_of(const struct place *place, const char *first, const char *second)
{
    struct keyed keyed;
    char text[300], error[KEYS_ERROR] = "";
    snprintf(keyed.path, sizeof keyed.path, "%s/key", place->directory);
    int len = snprintf(text, sizeof text, "# rotated\n%s\n\n%s\n", first, second);
    file_write(keyed.path, text, (size_t)len);
    if (keys_load(keyed.path, &keyed.keys, error))
        fail_msg("%s", error);
    return keyed;
}

static struct store *opened_with(const struct place *place, const struct keys *keys, bool encrypt)
{
    struct store *store = opened(place->db, STORE_WRITE);
    store_set(store,
              &(struct store_options){.keys = keys, .encrypt = encrypt, .cache = STORE_CACHE});
    return store;
}

static struct loaded load_with(const struct place *place, const struct store_options *options)
{
    struct store *store = opened(place->db, STORE_READ);
    store_set(store, options);
    struct loaded got = load(store, &SLOT);
    store_close(store);
    return got;
}

static bool file_holds(const char *path, const uint8_t *bytes, size_t len)
{
    size_t all, found = 0;
    uint8_t *file = file_read(path, &all);
    for (size_t at = 0; at + len <= all && !found; at++)
        found = memcmp(file + at, bytes, len) == 0;
    free(file);
    return found;
}

static void what_is_encrypted_comes_back_and_is_not_in_the_file(void **context)
{
    const struct place *place = *context;
    struct keyed key = keys_of(place, KEY_A, "");
    struct store *store = opened_with(place, key.keys, true);
    uint8_t *secret = state_at(2, LEN);
    save(store, &SLOT, 1, LEN, 3);
    save(store, &SLOT, 2, LEN, 3);
    assert_true(load(store, &SLOT).position == 2);
    store_close(store);
    for (size_t at = 0; at < LEN; at += 50000)
        assert_false(file_holds(place->db, secret + at, 32));
    free(secret);
    keys_free(key.keys);
}

static void promise_12_a_wrong_key_is_said_and_destroys_nothing(void **context)
{
    const struct place *place = *context;
    char error[STORE_ERROR] = "", id[KEY_ID_TEXT];
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        struct keyed right = keys_of(place, KEY_A, ""), wrong = keys_of(place, KEY_B, "");
        struct store *store = opened_with(place, right.keys, encrypt);
        save(store, &SLOT, 100, LEN, 3);
        store_close(store);
        store = opened_with(place, wrong.keys, encrypt);
        struct loaded got = load(store, &SLOT);
        assert_int_equal(got.code, HASUP_EDENIED);
        assert_non_null(strstr(got.error, key_id_text(right.keys->keys[0].id, id)));
        assert_non_null(strstr(got.error, wrong.path));
        /* Whoever goes on all the same does not drive out what he cannot read. */
        for (uint64_t position = 101; position < 120; position++)
            save(store, &SLOT, position, 1000, 2);
        while (store_tidy(store))
            continue;
        store_close(store);
        got = load_with(place, &(struct store_options){0});
        assert_int_equal(got.code, HASUP_EDENIED);
        assert_non_null(strstr(got.error, "no key file"));
        store = opened_with(place, right.keys, encrypt);
        got = load(store, &SLOT);
        assert_true(got.code == 0 && got.position == 100);
        store_close(store);
        keys_free(right.keys);
        keys_free(wrong.keys);
        assert_int_equal(store_open(place->db, STORE_READ, &store, error), 0);
        store_close(store);
        assert_int_equal(unlink(place->db), 0);
    }
}

static void a_key_is_changed_and_the_old_one_still_opens(void **context)
{
    const struct place *place = *context;
    struct keyed old = keys_of(place, KEY_A, "");
    struct store *store = opened_with(place, old.keys, true);
    save(store, &SLOT, 1, LEN, 3);
    store_close(store);
    keys_free(old.keys);
    struct keyed both = keys_of(place, KEY_B, KEY_A);
    store = opened_with(place, both.keys, true);
    assert_true(load(store, &SLOT).position == 1);
    save(store, &SLOT, 2, LEN, 1); /* shares nothing with what the old key closes */
    store_close(store);
    keys_free(both.keys);
    struct keyed after = keys_of(place, KEY_B, "");
    assert_true(load_with(place, &(struct store_options){.keys = after.keys}).position == 2);
    keys_free(after.keys);
}

static void promise_12_what_somebody_forged_is_not_taken_for_good(void **context)
{
    const struct place *place = *context;
    static const char *const FORGED[] = {
        "UPDATE manifest SET position = 9",
        "UPDATE pack SET bytes = (SELECT bytes FROM pack p WHERE p.id = pack.id + 1) WHERE id = 1",
        "UPDATE pack SET seal = NULL, codec = 0",
        "UPDATE manifest SET key = NULL",
        "UPDATE manifest SET key = NULL; UPDATE pack SET seal = NULL, codec = 0",
    };
    struct keyed key = keys_of(place, KEY_A, "");
    for (size_t i = 0; i < HASUP_LEN(FORGED); i++) {
        struct store *store = opened_with(place, key.keys, false);
        save(store, &SLOT, 1, LEN, 1);
        store_close(store);
        assert_int_equal(load_with(place, &(struct store_options){.keys = key.keys}).code, 0);
        file_sql(place->db, FORGED[i]);
        assert_true(load_with(place, &(struct store_options){.keys = key.keys}).code != 0);
        assert_int_equal(unlink(place->db), 0);
    }
    /* Somebody may write one with no seal at all; who says so takes none such. */
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 1, LEN, 1);
    store_close(store);
    assert_int_equal(load_with(place, &(struct store_options){.keys = key.keys}).code, 0);
    struct loaded got =
        load_with(place, &(struct store_options){.keys = key.keys, .sealed_only = true});
    assert_int_equal(got.code, HASUP_EDENIED);
    assert_non_null(strstr(got.error, "bears no seal"));
    keys_free(key.keys);
}

static void promise_12_a_key_that_others_can_read_is_refused(void **context)
{
    const struct place *place = *context;
    char error[KEYS_ERROR] = "";
    struct keyed key = keys_of(place, KEY_A, KEY_B);
    assert_int_equal(key.keys->count, 2);
    keys_free(key.keys);
    static const struct {
        const char *text, *says;
        mode_t mode;
        int code;
    } CASES[] = {
        {KEY_A, "chmod 0600", 0640, HASUP_EDENIED},
        {"", "holds no key", 0600, HASUP_EINVAL},
        {"0011", "64 hexadecimal digits", 0600, HASUP_EINVAL},
        {"#\n\nzz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", ":3: ", 0600,
         HASUP_EINVAL},
    };
    for (size_t i = 0; i < HASUP_LEN(CASES); i++) {
        struct keys *keys;
        file_write(key.path, CASES[i].text, strlen(CASES[i].text));
        assert_int_equal(chmod(key.path, CASES[i].mode), 0);
        assert_int_equal(keys_load(key.path, &keys, error), CASES[i].code);
        assert_null(keys);
        if (!strstr(error, CASES[i].says) || !strstr(error, key.path) || strstr(error, "2233"))
            fail_msg("%s", error);
    }
    assert_int_equal(unlink(key.path), 0);
    struct keys *keys;
    assert_int_equal(keys_load(key.path, &keys, error), HASUP_EINVAL);
    assert_non_null(strstr(error, "No such file"));
}

/* ---- packing ---- */

static bool note_written(void *context, const struct checkpoint_info *info)
{
    *(uint64_t *)context = info->written;
    return false;
}

static uint64_t written_of(const struct place *place, const uint8_t *bytes, const struct keys *keys)
{
    char error[STORE_ERROR] = "";
    struct checkpoint_info info;
    uint8_t *got;
    uint64_t written = 0;
    struct store *store = opened(place->db, STORE_WRITE);
    store_set(store, &(struct store_options){.keys = keys, .encrypt = true, .compress = true});
    assert_int_equal(
        store_save(store, &SLOT, 1, 1, bytes, 1 << 20, &(struct store_keep){.last = 1}, error), 0);
    assert_int_equal(store_load(store, &SLOT, &info, &got, NULL, NULL, error), 0);
    assert_memory_equal(got, bytes, 1 << 20);
    assert_int_equal(store_list(store, &SLOT, note_written, &written, error), 0);
    free(got);
    store_close(store);
    assert_int_equal(unlink(place->db), 0);
    return written;
}

static void what_gets_smaller_is_packed_and_what_does_not_is_not(void **context)
{
    const struct place *place = *context;
    struct keyed key = keys_of(place, KEY_A, "");
    uint8_t *random = state_at(1, 1 << 20), *plain = calloc(1, 1 << 20);
    for (size_t i = 0; i < 1 << 20; i += 16)
        hasup_put32(plain + i, (uint32_t)i);
    for (int sealed = 0; sealed < 2; sealed++) {
        assert_true(written_of(place, random, sealed ? key.keys : NULL) >= 1 << 20);
        assert_true(written_of(place, plain, sealed ? key.keys : NULL) < 1 << 19);
    }
    free(random);
    free(plain);
    keys_free(key.keys);
}

static void promise_11_a_bit_flipped_in_what_is_sealed_is_never_loaded(void **context)
{
    const struct place *place = *context;
    uint64_t random = 3;
    unsigned denied = 0;
    struct keyed key = keys_of(place, KEY_A, "");
    struct store *store = opened_with(place, key.keys, true);
    for (uint64_t position = 1; position <= 3; position++)
        save(store, &SLOT, position, 70000, 3);
    store_close(store);
    size_t len;
    uint8_t *bytes = file_read(place->db, &len);
    for (unsigned i = 0; i < 300; i++) {
        size_t at = (size_t)(next_random(&random) % len);
        uint8_t bit = (uint8_t)(1 << next_random(&random) % 8);
        bytes[at] ^= bit;
        file_write(place->db, bytes, len);
        struct loaded got = {0};
        if (store_open(place->db, STORE_READ, &store, got.error) == 0) {
            store_set(store, &(struct store_options){.keys = key.keys});
            got = load(store, &SLOT); /* asserts the bytes */
            assert_true(got.code || got.position == 3 || got.skipped);
            denied += got.code || got.skipped;
            store_close(store);
        }
        bytes[at] ^= bit;
    }
    assert_true(denied > 20);
    free(bytes);
    keys_free(key.keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_is_encrypted_comes_back_and_is_not_in_the_file),
        STORY(promise_12_a_wrong_key_is_said_and_destroys_nothing),
        STORY(a_key_is_changed_and_the_old_one_still_opens),
        STORY(promise_12_what_somebody_forged_is_not_taken_for_good),
        STORY(promise_12_a_key_that_others_can_read_is_refused),
        STORY(what_gets_smaller_is_packed_and_what_does_not_is_not),
        STORY(promise_11_a_bit_flipped_in_what_is_sealed_is_never_loaded),
    };
    return cmocka_run_group_tests_name("checkpoints_storeseal", tests, NULL, NULL);
}
