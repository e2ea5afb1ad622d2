/* The checkpoint thread: jobs come back in order, none is lost, none waits for ever. */
#include "tests/unit/store_world.h"

#include <poll.h>
#include <sys/mman.h>

#include "checkpoints/writer.h"

enum { JOBS = 200, WAIT_MS = 60 * 1000 };

struct desk {
    struct writer *writer;
    int wakes[2]; /* a pipe: one byte for each wake */
};

static void wake(void *context)
{
    const struct desk *desk = context;
    if (write(desk->wakes[1], "w", 1) != 1)
        abort();
}

static void desk_open(struct desk *desk, const char *path)
{
    assert_int_equal(pipe2(desk->wakes, O_NONBLOCK | O_CLOEXEC), 0);
    desk->writer = writer_new(path, wake, desk);
    assert_non_null(desk->writer);
}

static void desk_close(struct desk *desk)
{
    writer_free(desk->writer);
    close(desk->wakes[0]);
    close(desk->wakes[1]);
}

/* The next jobs that are done; blocks until the thread says that there are some. */
static struct checkpoint_job *next_done(struct desk *desk)
{
    struct checkpoint_job *done;
    char bytes[64];
    while (!(done = writer_take(desk->writer))) {
        struct pollfd ready = {.fd = desk->wakes[0], .events = POLLIN};
        assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
        assert_true(read(desk->wakes[0], bytes, sizeof bytes) > 0);
    }
    return done;
}

static struct checkpoint_job save_job(uint64_t position, size_t len)
{
    return (struct checkpoint_job){.kind = CHECKPOINT_SAVE,
                                   .key = SLOT,
                                   .position = position,
                                   .created_wall_ns = (int64_t)position * HASUP_S,
                                   .bytes = state_at(position, len),
                                   .len = len,
                                   .keep = {.last = 3}};
}

static struct checkpoint_job *run(struct desk *desk, struct checkpoint_job *job)
{
    assert_int_equal(writer_submit(desk->writer, job), 0);
    struct checkpoint_job *done = next_done(desk);
    assert_ptr_equal(done, job);
    assert_null(done->next);
    return done;
}

static int run_save(struct desk *desk, uint64_t position, char message[256])
{
    struct checkpoint_job job = save_job(position, 5000);
    run(desk, &job);
    memcpy(message, job.message, 256);
    free(job.bytes);
    return job.error;
}

static struct checkpoint_job run_load(struct desk *desk)
{
    struct checkpoint_job job = {.kind = CHECKPOINT_LOAD, .key = SLOT};
    run(desk, &job);
    if (!job.error) {
        uint8_t *wanted = state_at(job.position, job.len);
        assert_memory_equal(job.bytes, wanted, job.len);
        free(wanted);
        free(job.bytes);
    }
    return job;
}

static void jobs_come_back_in_the_order_they_went(void **state)
{
    const struct place *place = *state;
    struct checkpoint_job jobs[JOBS];
    struct desk desk;
    unsigned back = 0;
    desk_open(&desk, place->db);
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i] = i % 2 ? (struct checkpoint_job){.kind = CHECKPOINT_LOAD, .key = SLOT}
                        : save_job(i + 1, 3000);
        assert_int_equal(writer_submit(desk.writer, &jobs[i]), 0);
    }
    while (back < JOBS)
        for (struct checkpoint_job *done = next_done(&desk); done; done = done->next) {
            assert_ptr_equal(done, &jobs[back]);
            assert_int_equal(done->error, 0);
            /* A load sees the save before it, and none after. */
            assert_true(done->position == back / 2 * 2 + 1);
            free(done->bytes);
            back++;
        }
    desk_close(&desk);
}

static void promise_8_its_queue_is_bounded_and_says_so(void **state)
{
    const struct place *place = *state;
    struct checkpoint_job *jobs = calloc(WRITER_QUEUE_MAX + 8, sizeof *jobs);
    struct store *store = opened(place->db, STORE_WRITE);
    struct desk desk;
    unsigned taken = 0, refused = 0, back = 0;
    assert_non_null(jobs);
    desk_open(&desk, place->db);
    uint8_t *big = state_at(1, 32 << 20);
    for (unsigned i = 0; i < WRITER_QUEUE_MAX + 8; i++) {
        jobs[i] = (struct checkpoint_job){.kind = CHECKPOINT_LOAD, .key = SLOT};
        if (i == 0) {
            jobs[i] = save_job(1, 0); /* takes longer than it takes to fill the queue */
            free(jobs[i].bytes);
            jobs[i].bytes = big;
            jobs[i].len = 32 << 20;
            jobs[i].key.ordinal = 9;
        }
        int code = writer_submit(desk.writer, &jobs[i]);
        assert_true(code == 0 || code == HASUP_EFULL);
        taken += code == 0;
        refused += code != 0;
    }
    assert_true(refused > 0 && taken >= WRITER_QUEUE_MAX);
    while (back < taken)
        for (struct checkpoint_job *done = next_done(&desk); done; done = done->next)
            back++;
    desk_close(&desk);
    store_close(store);
    free(big);
    free(jobs);
}

static void what_waits_at_the_end_is_done_and_can_be_taken(void **state)
{
    const struct place *place = *state;
    struct checkpoint_job jobs[20], late = {.kind = CHECKPOINT_LOAD, .key = SLOT};
    struct desk desk;
    unsigned back = 0;
    desk_open(&desk, place->db);
    for (unsigned i = 0; i < HASUP_LEN(jobs); i++) {
        jobs[i] = save_job(i + 1, 100000);
        assert_int_equal(writer_submit(desk.writer, &jobs[i]), 0);
    }
    writer_finish(desk.writer);
    assert_int_equal(writer_submit(desk.writer, &late), HASUP_ENOMEM);
    for (struct checkpoint_job *done = writer_take(desk.writer); done; done = done->next)
        assert_ptr_equal(done, &jobs[back++]);
    assert_int_equal(back, HASUP_LEN(jobs));
    for (unsigned i = 0; i < HASUP_LEN(jobs); i++)
        free(jobs[i].bytes);
    desk_close(&desk);
    assert_true(load_from(place->db, STORE_READ).position == HASUP_LEN(jobs));
}

static void an_unused_thread_is_never_made_and_opens_nothing(void **state)
{
    const struct place *place = *state;
    struct desk desk;
    desk_open(&desk, place->db);
    desk_close(&desk);
    assert_int_equal(access(place->db, F_OK), -1);
}

static void promise_11_a_job_that_fails_says_why_and_the_next_tries_again(void **state)
{
    const struct place *place = *state;
    char message[256];
    struct desk desk;
    assert_int_equal(mkdir(place->db, 0700), 0);
    desk_open(&desk, place->db);
    assert_int_equal(run_save(&desk, 1, message), HASUP_EIO);
    assert_non_null(strstr(message, place->db));
    struct checkpoint_job loaded = run_load(&desk);
    assert_int_equal(loaded.error, HASUP_EIO);
    assert_non_null(strstr(loaded.message, place->db));
    assert_int_equal(rmdir(place->db), 0);
    assert_int_equal(run_save(&desk, 2, message), 0);
    assert_true(run_load(&desk).position == 2);
    desk_close(&desk);
}

static void promise_11_a_damaged_newest_is_counted_and_its_reason_told(void **state)
{
    const struct place *place = *state;
    char message[256];
    struct desk desk;
    size_t len, found = 0;
    desk_open(&desk, place->db);
    for (uint64_t position = 1; position <= 3; position++)
        assert_int_equal(run_save(&desk, position, message), 0);
    desk_close(&desk);
    uint8_t *bytes = file_read(place->db, &len), *newest = state_at(3, 5000);
    for (size_t at = 0; at + 5000 < len && !found; at++)
        found = memcmp(bytes + at, newest, 5000) ? 0 : at;
    assert_true(found);
    bytes[found + 99] ^= 16;
    file_write(place->db, bytes, len);
    desk_open(&desk, place->db);
    struct checkpoint_job loaded = run_load(&desk);
    assert_int_equal(loaded.error, 0);
    assert_true(loaded.position == 2);
    assert_int_equal(loaded.skipped, 1);
    assert_non_null(strstr(loaded.message, "position 3"));
    desk_close(&desk);
    free(bytes);
    free(newest);
}

/* The directory goes, and comes back: no slot's state is lost, not even of one that has not saved
 * since. */
static void promise_11_what_a_removed_directory_held_moves_to_the_new_one(void **state)
{
    const struct place *place = *state;
    char message[256];
    struct desk desk;
    struct checkpoint_job other = save_job(70, 100000);
    other.key.ordinal = 7;
    desk_open(&desk, place->db);
    assert_int_equal(run_save(&desk, 1, message), 0);
    assert_int_equal(run(&desk, &other)->error, 0);
    free(other.bytes);
    place_empty(place->directory);
    assert_int_equal(rmdir(place->directory), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run_save(&desk, 2, message), HASUP_EIO);
        assert_non_null(strstr(message, "No such file or directory"));
        assert_true(run_load(&desk).position == 1);
    }
    assert_int_equal(mkdir(place->directory, 0700), 0);
    assert_int_equal(run_save(&desk, 2, message), 0);
    desk_close(&desk);
    assert_true(load_from(place->db, STORE_READ).position == 2);
    struct store *store = opened(place->db, STORE_READ);
    struct loaded moved = load(store, &(struct checkpoint_key){"m", 7});
    assert_true(moved.code == 0 && moved.position == 70);
    store_close(store);
}

static int load_on_read_only(const struct place *place)
{
    char error[STORE_ERROR] = "";
    struct store *store;
    struct desk desk;
    struct checkpoint_job load_of = {.kind = CHECKPOINT_LOAD, .key = SLOT};
    CHECK(store_open(place->db, STORE_WRITE, &store, error) == 0);
    CHECK(try_save(store, &SLOT, 1, 5000, 3, error) == 0);
    store_close(store);
    CHECK(mount("none", place->directory, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK(pipe2(desk.wakes, O_NONBLOCK | O_CLOEXEC) == 0);
    CHECK((desk.writer = writer_new(place->db, wake, &desk)) != NULL);
    CHECK(writer_submit(desk.writer, &load_of) == 0);
    writer_finish(desk.writer);
    CHECK(load_of.error == 0 && load_of.position == 1 && load_of.unwritable);
    CHECK(strstr(load_of.message, "Read-only file system"));
    free(load_of.bytes);
    writer_free(desk.writer);
    return 0;
}

static void promise_11_a_load_from_a_read_only_disk_says_that_it_is_one(void **state)
{
    if (!on_small_disk(*state, "size=4m", load_on_read_only))
        skip();
}

/* ---- states in memfds ---- */

enum { LARGE = 3 << 20, ABOVE = 1 << 20 };

/* A job whose state stands at `offset` in a sealed memfd. */
static struct checkpoint_job memfd_job(uint64_t position, size_t offset)
{
    struct checkpoint_job job = save_job(position, LARGE);
    job.fd = memfd_create("state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    job.offset = offset;
    assert_int_equal(pwrite(job.fd, job.bytes, LARGE, (off_t)offset), LARGE);
    assert_int_equal(fcntl(job.fd, F_ADD_SEALS, WRITER_SEALS), 0);
    free(job.bytes);
    job.bytes = NULL;
    return job;
}

/* Whether the number is still that of a job's memfd: the thread may use it for another file. */
static bool is_state(int fd)
{
    char link[64], target[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof target - 1) > 0 && strstr(target, "memfd:state ");
}

static void load_into_memfd(struct desk *desk, uint64_t position, uint32_t skipped)
{
    struct checkpoint_job job = {.kind = CHECKPOINT_LOAD, .key = SLOT, .memfd_above = ABOVE};
    run(desk, &job);
    assert_int_equal(job.error, 0);
    assert_true(job.position == position && job.len == LARGE && job.skipped == skipped);
    assert_null(job.bytes);
    assert_int_equal(fcntl(job.fd, F_GET_SEALS) & WRITER_SEALS, WRITER_SEALS);
    uint8_t *wanted = state_at(position, LARGE), *got = malloc(LARGE);
    assert_int_equal(pread(job.fd, got, LARGE, 0), LARGE);
    assert_int_equal(lseek(job.fd, 0, SEEK_END), LARGE);
    assert_memory_equal(got, wanted, LARGE);
    free(got);
    free(wanted);
    close(job.fd);
}

static void promise_4_a_large_state_goes_from_a_memfd_to_a_memfd(void **state)
{
    const struct place *place = *state;
    struct desk desk;
    desk_open(&desk, place->db);
    struct checkpoint_job first = memfd_job(1, 0), second = memfd_job(2, 12345);
    int fds[] = {first.fd, second.fd};
    assert_true(is_state(fds[0]) && is_state(fds[1]));
    assert_int_equal(run(&desk, &first)->error, 0);
    load_into_memfd(&desk, 1, 0);
    assert_int_equal(run(&desk, &second)->error, 0);
    for (unsigned i = 0; i < 2; i++) /* closed by the thread, where that takes its time */
        assert_false(is_state(fds[i]));
    assert_true(first.fd == -1 && second.fd == -1);
    load_into_memfd(&desk, 2, 0);
    desk_close(&desk);
}

static void promise_11_a_damaged_one_leaves_nothing_in_the_memfd_of_the_one_before(void **state)
{
    const struct place *place = *state;
    struct desk desk;
    desk_open(&desk, place->db);
    for (uint64_t position = 1; position <= 2; position++) {
        struct checkpoint_job job = memfd_job(position, 0);
        assert_int_equal(run(&desk, &job)->error, 0);
    }
    desk_close(&desk);
    /* Near the end of the newest: most of it is in the memfd by then. */
    size_t len, found = 0;
    uint8_t *bytes = file_read(place->db, &len), *newest = state_at(2, LARGE);
    for (size_t at = 0; at + 500 < len && !found; at++)
        found = memcmp(bytes + at, newest + LARGE - 1000, 500) ? 0 : at;
    assert_true(found);
    bytes[found] ^= 16;
    file_write(place->db, bytes, len);
    free(bytes);
    free(newest);
    desk_open(&desk, place->db);
    load_into_memfd(&desk, 1, 1);
    desk_close(&desk);
}

static void a_memfd_that_is_not_stored_stays_the_submitters(void **state)
{
    const struct place *place = *state;
    struct desk desk;
    char path[sizeof place->db + 8];
    snprintf(path, sizeof path, "%s/no/db", place->db);
    desk_open(&desk, path);
    struct checkpoint_job job = memfd_job(1, 0);
    assert_int_not_equal(run(&desk, &job)->error, 0);
    assert_int_equal(close(job.fd), 0);
    desk_close(&desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(jobs_come_back_in_the_order_they_went),
        STORY(promise_8_its_queue_is_bounded_and_says_so),
        STORY(what_waits_at_the_end_is_done_and_can_be_taken),
        STORY(an_unused_thread_is_never_made_and_opens_nothing),
        STORY(promise_11_a_job_that_fails_says_why_and_the_next_tries_again),
        STORY(promise_11_a_damaged_newest_is_counted_and_its_reason_told),
        STORY(promise_11_what_a_removed_directory_held_moves_to_the_new_one),
        STORY(promise_11_a_load_from_a_read_only_disk_says_that_it_is_one),
        STORY(promise_4_a_large_state_goes_from_a_memfd_to_a_memfd),
        STORY(promise_11_a_damaged_one_leaves_nothing_in_the_memfd_of_the_one_before),
        STORY(a_memfd_that_is_not_stored_stays_the_submitters),
    };
    return cmocka_run_group_tests_name("checkpoints_writer", tests, NULL, NULL);
}
