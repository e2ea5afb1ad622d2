/*
 * journal_world.h: what the tests of journal.db share: a directory, a journal in it, a wake that
 * can be waited for, and operations made from a number, so that what comes back is known bit for
 * bit.
 */
#ifndef HASUP_TESTS_JOURNAL_WORLD_H
#define HASUP_TESTS_JOURNAL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/journal.h"
#include "tests/unit/checkpoints_files.h"

struct journal_world {
    char dir[64], path[96], error[JOURNAL_ERROR];
    int wake_fd;
    uint32_t events_max, letters_max;
    hasup_ns events_age;
    bool goes_on; /* the next that is opened */
    struct journal *journal;
    struct journal_summary summary;
    unsigned bad; /* rows that were passed over */
    uint64_t bad_records[256];
};

static inline void world_wake(void *context)
{
    struct journal_world *world = context;
    uint64_t one = 1;
    if (write(world->wake_fd, &one, sizeof one) != sizeof one)
        abort();
}

static inline void world_bad(void *context, uint64_t record, const char *reason)
{
    struct journal_world *world = context;
    assert_true(*reason);
    if (world->bad < HASUP_LEN(world->bad_records))
        world->bad_records[world->bad] = record;
    world->bad++;
}

static inline void world_init(struct journal_world *world)
{
    *world = (struct journal_world){
        .dir = "/tmp/hasup-journal-XXXXXX", .events_max = 1000, .letters_max = 100};
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->path, sizeof world->path, "%s/journal.db", world->dir);
    world->wake_fd = eventfd(0, EFD_CLOEXEC);
    assert_true(world->wake_fd >= 0);
}

static inline int world_try_open(struct journal_world *world)
{
    const struct journal_options options = {.path = world->path,
                                            .events_max = world->events_max,
                                            .events_age = world->events_age,
                                            .letters_max = world->letters_max,
                                            .goes_on = world->goes_on,
                                            .wake = world_wake,
                                            .bad = world_bad,
                                            .context = world};
    world->bad = 0;
    world->error[0] = '\0';
    return journal_open(&options, &world->journal, &world->summary, world->error);
}

static inline void world_open(struct journal_world *world)
{
    if (world_try_open(world))
        fail_msg("%s", world->error);
}

static inline void world_close(struct journal_world *world, bool clean)
{
    journal_close(world->journal, clean);
    world->journal = NULL;
}

static inline void world_fini(struct journal_world *world)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char path[128];
    if (world->journal)
        world_close(world, false);
    for (size_t i = 0; i < HASUP_LEN(suffixes); i++) {
        snprintf(path, sizeof path, "%s%s", world->path, suffixes[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(world->dir), 0);
    close(world->wake_fd);
}

static inline int world_set_up(void **state)
{
    world_init(*state);
    return 0;
}

static inline int world_tear_down(void **state)
{
    world_fini(*state);
    return 0;
}

/* A test with a new journal in `world`. */
#define WORLD_TEST(name, world)                                                                    \
    cmocka_unit_test_prestate_setup_teardown(name, world_set_up, world_tear_down, world)

/* Flushes and waits until `count` operations are done; they are linked by `next`. */
static inline struct journal_op *world_done(struct journal_world *world, size_t count)
{
    struct journal_op *first = NULL, **tail = &first;
    journal_flush(world->journal);
    for (;;) {
        for (*tail = journal_take(world->journal); *tail; tail = &(*tail)->next)
            count--;
        if (count == 0)
            return first;
        struct pollfd wait = {.fd = world->wake_fd, .events = POLLIN};
        uint64_t times;
        if (poll(&wait, 1, 30000) != 1 || read(world->wake_fd, &times, sizeof times) <= 0)
            fail_msg("the journal has %zu operations that do not end", count);
    }
}

/* One operation, by itself; its error. */
static inline int world_run(struct journal_world *world, struct journal_op *op)
{
    journal_add(world->journal, op);
    assert_ptr_equal(world_done(world, 1), op);
    return op->error;
}

static inline void world_must(struct journal_world *world, struct journal_op op)
{
    if (world_run(world, &op))
        fail_msg("%s: %s", hasup_strerror(op.error), journal_last_error(world->journal));
}

/* ---- operations from a number ---- */

static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Bytes that a number names, from one area that holds them all. */
static inline struct journal_bytes bytes_of(uint64_t number, size_t most)
{
    static uint8_t area[1 << 17];
    if (!area[1])
        for (size_t i = 0; i < sizeof area; i++)
            area[i] = (uint8_t)(mix(i + 1) | 1);
    size_t len = most ? mix(number) % (most + 1) : 0;
    return (struct journal_bytes){len ? area + mix(number + 1) % 4096 : NULL, len};
}

static inline const char *model_of(uint64_t record)
{
    static const char *const models[] = {"digits", "textgen", "counter"};
    return models[record % HASUP_LEN(models)];
}

static inline struct journal_op accept_of(uint64_t record)
{
    uint64_t seed = mix(record) & ~UINT64_C(0xff);
    return (struct journal_op){.kind = JOURNAL_ACCEPT,
                               .record = record,
                               .token = seed + 1,
                               .model = model_of(record),
                               .key = bytes_of(seed + 2, 40),
                               .body_hash = mix(seed + 3),
                               .flags = record % 2 ? JOURNAL_KEYED : JOURNAL_ASYNC,
                               .priority = (uint8_t)seed,
                               .created_wall_ns = (int64_t)(mix(seed + 4) >> 1),
                               .deadline_wall_ns = record % 3 ? (int64_t)(seed >> 2) : 0,
                               .meta = bytes_of(seed + 5, 200),
                               .body = bytes_of(seed + 6, record % 7 ? 600 : 20000)};
}

/* `position` 0: of no slot's log. */
static inline struct journal_op result_of(uint64_t record, uint64_t position)
{
    uint64_t seed = mix(~record) & ~UINT64_C(0xff);
    return (struct journal_op){.kind = JOURNAL_RESULT,
                               .record = record,
                               .status = (uint32_t)(200 + record % 300),
                               .attempts = (uint32_t)(1 + record % 3),
                               .flags = record % 5 ? 0 : JOURNAL_REFUSED,
                               .finished_wall_ns = (int64_t)(mix(seed + 1) >> 1),
                               .expires_wall_ns = (int64_t)(mix(seed + 2) >> 1),
                               .ordinal = position ? record % 2 : 0,
                               .position = position,
                               .batch_place = position ? record % 1024 : 0,
                               .digest = position ? mix(seed + 3) : 0,
                               .meta = bytes_of(seed + 4, 100),
                               .body = bytes_of(seed + 5, record % 11 ? 300 : 9000)};
}

static inline struct journal_op chunk_of(uint64_t record, uint32_t number)
{
    uint64_t seed = mix(record * 1000003 + number) & ~UINT64_C(0xff);
    return (struct journal_op){.kind = JOURNAL_CHUNK,
                               .record = record,
                               .number = number,
                               .meta = bytes_of(seed, number == 1 ? 50 : 0),
                               .body = bytes_of(seed + 1, 120)};
}

static inline struct journal_op forget_of(uint64_t record)
{
    return (struct journal_op){.kind = JOURNAL_FORGET, .record = record};
}

static inline bool same_bytes(struct journal_bytes a, struct journal_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool same_request(const struct journal_row *row, bool payload)
{
    const struct journal_op op = accept_of(row->record);
    return row->token == op.token && !strcmp(row->model, op.model) &&
           row->body_hash == op.body_hash && (row->flags & op.flags) == op.flags &&
           row->priority == op.priority && row->created_wall_ns == op.created_wall_ns &&
           row->deadline_wall_ns == op.deadline_wall_ns && same_bytes(row->key, op.key) &&
           (!payload || (same_bytes(row->meta, op.meta) && same_bytes(row->body, op.body)));
}

static inline bool same_result(const struct journal_row *row)
{
    const struct journal_op op = result_of(row->record, row->position);
    return row->status == op.status && row->attempts == op.attempts &&
           (row->flags & op.flags) == op.flags && row->finished_wall_ns == op.finished_wall_ns &&
           row->expires_wall_ns == op.expires_wall_ns && row->ordinal == op.ordinal &&
           row->batch_place == op.batch_place && row->digest == op.digest;
}

/* ---- what is stored, seen through recovery ---- */

struct seen {
    uint8_t *state; /* by record: what it is */
    uint64_t room, last, count;
};

enum { SEEN_NOT, SEEN_UNFINISHED, SEEN_FINISHED };

static inline bool see_unfinished(void *context, const struct journal_row *row)
{
    struct seen *seen = context;
    assert_true(row->record > seen->last);
    assert_true(row->record < seen->room);
    assert_true(same_request(row, true));
    seen->state[row->record] = SEEN_UNFINISHED;
    seen->last = row->record;
    seen->count++;
    return true;
}

static inline bool see_finished(void *context, const struct journal_row *row)
{
    struct seen *seen = context;
    assert_true(row->record > seen->last);
    assert_true(row->record < seen->room);
    assert_true(same_request(row, false) && same_result(row));
    seen->state[row->record] = SEEN_FINISHED;
    seen->last = row->record;
    seen->count++;
    return true;
}

/* Fills state[room]; 0 or the first error. */
static inline int world_see(struct journal_world *world, uint8_t *state, uint64_t room)
{
    struct seen seen = {.state = state, .room = room};
    memset(state, SEEN_NOT, room);
    int code =
        journal_each_unfinished(world->journal, 0, UINT64_MAX, see_unfinished, &seen, world->error);
    seen.last = 0;
    int other = journal_each_finished(world->journal, see_finished, &seen, world->error);
    return code ? code : other;
}

#endif
