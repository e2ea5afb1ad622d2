/* A checkpoint as a file comes back bit for bit, or is refused: whatever bit is flipped, wherever
 * it is cut, with whatever key. */
#include "tests/unit/store_world.h"

#include "checkpoints/portable.h"

static const char KEY[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
static const char OTHER[] = "10112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

static struct keys *keys_of(const struct place *place, const char *text)
{
    char path[96], error[KEYS_ERROR];
    struct keys *keys;
    snprintf(path, sizeof path, "%s/key", place->directory);
    file_write(path, text, strlen(text));
    if (keys_load(path, &keys, error))
        fail_msg("%s", error);
    return keys;
}

static const struct checkpoint_info INFO = {
    .model = "m", .ordinal = 3, .position = 77, .created_wall_ns = 5 * HASUP_S};

static void write_to(const char *path, const uint8_t *bytes, size_t len, const struct keys *keys)
{
    char error[STORE_ERROR];
    struct checkpoint_info info = INFO;
    info.len = len;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(portable_write(fd, &info, bytes, keys, error), 0);
    close(fd);
}

/* The code; what is taken for good is what was written. */
static int read_from(const char *path, const uint8_t *bytes, size_t len, const struct keys *keys,
                     char error[STORE_ERROR])
{
    struct checkpoint_info info;
    uint8_t *got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    int code = portable_read(fd, keys, &info, &got, error);
    close(fd);
    if (code)
        return code;
    assert_true(info.len == len && info.position == 77 && info.ordinal == 3);
    assert_true(info.created_wall_ns == 5 * HASUP_S);
    assert_string_equal(info.model, "m");
    assert_memory_equal(got, bytes, len);
    free(got);
    return 0;
}

static void states_of_all_sizes_come_back(void **state)
{
    const struct place *place = *state;
    static const size_t SIZES[] = {0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5000000};
    char path[96], error[STORE_ERROR] = "";
    struct keys *keys = keys_of(place, KEY);
    snprintf(path, sizeof path, "%s/file", place->directory);
    for (size_t i = 0; i < 4 * HASUP_LEN(SIZES); i++) {
        size_t len = SIZES[i / 4];
        const struct keys *with = i % 2 ? keys : NULL;
        uint8_t *bytes = i % 4 < 2 ? state_at(i, len) : calloc(1, len + 1);
        write_to(path, bytes, len, with);
        if (read_from(path, bytes, len, keys, error))
            fail_msg("%zu: %s", len, error);
        free(bytes);
    }
    keys_free(keys);
}

static void promise_11_a_file_that_was_changed_or_cut_is_refused(void **state)
{
    const struct place *place = *state;
    char path[96], error[STORE_ERROR] = "";
    struct keys *keys = keys_of(place, KEY);
    uint8_t *bytes = state_at(1, 20000);
    uint64_t random = 1;
    snprintf(path, sizeof path, "%s/file", place->directory);
    for (int sealed = 0; sealed < 2; sealed++) {
        write_to(path, bytes, 20000, sealed ? keys : NULL);
        size_t len;
        uint8_t *file = file_read(path, &len);
        for (unsigned i = 0; i < 600; i++) {
            size_t at = i < 200 ? i : (size_t)(next_random(&random) % len);
            uint8_t bit = (uint8_t)(1 << next_random(&random) % 8);
            file[at] ^= bit;
            file_write(path, file, len);
            assert_true(read_from(path, bytes, 20000, keys, error) < 0 && *error);
            file[at] ^= bit;
        }
        for (size_t cut = 0; cut < len; cut += cut < 300 ? 1 : 97) {
            file_write(path, file, cut);
            assert_int_equal(read_from(path, bytes, 20000, keys, error), HASUP_ECORRUPT);
        }
        free(file);
    }
    free(bytes);
    keys_free(keys);
}

static void promise_12_an_encrypted_file_needs_its_key(void **state)
{
    const struct place *place = *state;
    char path[96], error[STORE_ERROR] = "", id[KEY_ID_TEXT];
    struct keys *keys = keys_of(place, KEY), *others = keys_of(place, OTHER);
    uint8_t *bytes = state_at(1, 20000);
    snprintf(path, sizeof path, "%s/file", place->directory);
    write_to(path, bytes, 20000, keys);
    assert_int_equal(read_from(path, bytes, 20000, NULL, error), HASUP_EDENIED);
    assert_non_null(strstr(error, key_id_text(keys->keys[0].id, id)));
    assert_int_equal(read_from(path, bytes, 20000, others, error), HASUP_EDENIED);
    assert_non_null(strstr(error, others->path));
    free(bytes);
    keys_free(keys);
    keys_free(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(states_of_all_sizes_come_back),
        STORY(promise_11_a_file_that_was_changed_or_cut_is_refused),
        STORY(promise_12_an_encrypted_file_needs_its_key),
    };
    return cmocka_run_group_tests_name("checkpoints_portable", tests, NULL, NULL);
}
