/*
 * store_world.h: a state directory of a test's own, and the few moves that the tests of
 * checkpoints/ share.  States are made from a seed, so that what was loaded can be proven.
 */
#ifndef STORE_WORLD_H
#define STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/store.h"
#include "tests/unit/checkpoints_files.h"

struct place {
    char directory[64], db[96];
};

static const struct checkpoint_key SLOT = {"m", 0};

static inline int place_setup(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!place)
        abort();
    /* A kill -9 is the same to a file in memory, and the tests are ten times as fast there. */
    snprintf(place->directory, sizeof place->directory, "%s/hasup-store.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(place->directory))
        abort();
    snprintf(place->db, sizeof place->db, "%s/checkpoints.db", place->directory);
    *state = place;
    return 0;
}

static inline void place_empty(const char *directory)
{
    char path[512];
    struct dirent *entry;
    DIR *list = opendir(directory);
    while (list && (entry = readdir(list)))
        if (entry->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
            if (unlink(path))
                rmdir(path);
        }
    if (list)
        closedir(list);
}

static inline int place_teardown(void **state)
{
    struct place *place = *state;
    place_empty(place->directory);
    rmdir(place->directory);
    free(place);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, place_setup, place_teardown)

static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* The state at a position: nothing in it can be taken for that of another. */
static inline uint8_t *state_at(uint64_t position, size_t len)
{
    uint8_t *bytes = malloc(len + 8);
    uint64_t seed = position * 1000003 + len;
    if (!bytes)
        abort();
    for (size_t i = 0; i < len; i += 8)
        hasup_put64(bytes + i, next_random(&seed));
    return bytes;
}

static inline int try_save(struct store *store, const struct checkpoint_key *key, uint64_t position,
                           size_t len, uint32_t keep, char error[STORE_ERROR])
{
    uint8_t *bytes = state_at(position, len);
    int code = store_save(store, key, position, (int64_t)position * HASUP_S, bytes, len,
                          &(struct store_keep){.last = keep}, error);
    free(bytes);
    return code;
}

static inline void save(struct store *store, const struct checkpoint_key *key, uint64_t position,
                        size_t len, uint32_t keep)
{
    char error[STORE_ERROR] = "";
    if (try_save(store, key, position, len, keep, error))
        fail_msg("%s", error);
}

static inline struct store *opened(const char *path, enum store_mode mode)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    if (store_open(path, mode, &store, error))
        fail_msg("%s", error);
    return store;
}

/* What a load brings: the position; how many were passed over, and the reason of the first. */
struct loaded {
    int code;
    uint64_t position;
    size_t len;
    unsigned skipped;
    char reason[STORE_ERROR], error[STORE_ERROR];
};

static inline void note_skipped(void *context, const struct checkpoint_info *info,
                                const char *reason)
{
    struct loaded *loaded = context;
    (void)info;
    if (!loaded->skipped++)
        snprintf(loaded->reason, sizeof loaded->reason, "%s", reason);
}

/* Loads; whatever is taken for good must be the state of its position, to the bit. */
static inline struct loaded load(struct store *store, const struct checkpoint_key *key)
{
    struct loaded got = {0};
    struct checkpoint_info info = {0};
    uint8_t *bytes = NULL;
    got.code = store_load(store, key, &info, &bytes, note_skipped, &got, got.error);
    if (got.code)
        return got;
    got.position = info.position;
    got.len = (size_t)info.len;
    uint8_t *wanted = state_at(info.position, got.len);
    assert_memory_equal(bytes, wanted, got.len);
    assert_string_equal(info.model, key->model);
    assert_int_equal(info.ordinal, key->ordinal);
    assert_true(info.created_wall_ns == (int64_t)info.position * HASUP_S);
    free(wanted);
    free(bytes);
    return got;
}

static inline struct loaded load_from(const char *path, enum store_mode mode)
{
    struct loaded got = {0};
    struct store *store;
    got.code = store_open(path, mode, &store, got.error);
    if (got.code)
        return got;
    got = load(store, &SLOT);
    store_close(store);
    return got;
}

/* Runs `story` in a child with its own mounts, where the directory is a small tmpfs.  False: that
 * is not allowed here; the caller skips. */
static inline bool on_small_disk(const struct place *place, const char *options,
                                 int (*story)(const struct place *place))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
            mount("none", place->directory, "tmpfs", 0, options))
            _exit(77);
        _exit(story(place));
    }
    assert_true(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("skipped: no mount of its own here (needs root)\n");
        return false;
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

/* In such a child, where cmocka's own asserts do not work. */
#define CHECK(true)                                                                                \
    do {                                                                                           \
        if (!(true)) {                                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #true);                     \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

#endif
