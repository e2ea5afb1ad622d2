/* journal.db: what is reported done is stored, in order, once, and comes back bit for bit. */
#include "journal_world.h"

#include <sqlite3.h>
#include <time.h>

static struct journal_world world;

/* Asks the file beside the running journal, as any reader would. */
static int64_t ask(const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open_v2(world.path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    sqlite3_busy_timeout(db, 10000);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static void operations_end_in_the_order_in_which_they_were_added(void **state)
{
    (void)state;
    enum { TURNS = 300 };
    struct journal_op *ops = calloc(TURNS * 40, sizeof *ops);
    size_t added = 0, taken = 0;
    world_open(&world);
    for (uint64_t turn = 0; turn < TURNS || taken < added; turn++) {
        /* Small turns are committed inline, large ones by the thread; often some still wait. */
        size_t most = turn < TURNS ? 1 + mix(turn) % (mix(turn + 9) % 3 ? 4 : 40) : 0;
        for (size_t i = 0; i < most; i++, added++) {
            ops[added] = accept_of(added + 1);
            journal_add(world.journal, &ops[added]);
        }
        bool some = journal_flush(world.journal);
        struct journal_op *done =
            most ? journal_take(world.journal) : world_done(&world, added - taken);
        assert_true(!some || done);
        for (; done; done = done->next, taken++) {
            assert_ptr_equal(done, &ops[taken]);
            assert_int_equal(done->error, 0);
        }
    }
    world_close(&world, true);
    world_open(&world);
    assert_int_equal(world.summary.unfinished, added);
    free(ops);
}

static void little_is_committed_before_the_turn_ends(void **state)
{
    (void)state;
    struct journal_op ops[JOURNAL_INLINE_OPS];
    world_open(&world);
    for (size_t i = 0; i < JOURNAL_INLINE_OPS; i++) {
        ops[i] = accept_of(i + 1);
        ops[i].body.len = ops[i].body.len < 100 ? ops[i].body.len : 100;
        journal_add(world.journal, &ops[i]);
    }
    assert_null(journal_take(world.journal)); /* nothing before the flush */
    assert_true(journal_flush(world.journal));
    assert_ptr_equal(journal_take(world.journal), &ops[0]);
    assert_int_equal(ask("SELECT count(*) FROM request"), JOURNAL_INLINE_OPS);
}

static void what_is_lazy_rides_with_what_comes_next(void **state)
{
    (void)state;
    struct journal_op first = accept_of(1), next = accept_of(2);
    struct journal_op done = {.kind = JOURNAL_DONE, .record = 1, .lazy = true}, again = done;
    world_open(&world);
    assert_int_equal(world_run(&world, &first), 0);
    journal_add(world.journal, &done);
    assert_false(journal_flush(world.journal));
    assert_null(journal_take(world.journal));
    journal_add(world.journal, &next);
    assert_true(journal_flush(world.journal));
    assert_ptr_equal(journal_take(world.journal), &done);
    assert_ptr_equal(done.next, &next);
    assert_int_equal(done.error, 0);
    assert_int_equal(ask("SELECT record FROM request"), 2);
    journal_add(world.journal, &again);
    assert_false(journal_flush(world.journal));
    journal_sync(world.journal);
    assert_true(journal_flush(world.journal));
    assert_ptr_equal(journal_take(world.journal), &again);
    assert_int_equal(again.error, HASUP_ENOTFOUND);
}

static void what_is_lazy_is_committed_when_it_is_much_and_at_the_end(void **state)
{
    (void)state;
    static struct journal_op accepts[JOURNAL_GROUP + 1], done[JOURNAL_GROUP + 1];
    world_open(&world);
    for (size_t i = 0; i <= JOURNAL_GROUP; i++) {
        accepts[i] = accept_of(i + 1);
        done[i] = (struct journal_op){.kind = JOURNAL_DONE, .record = i + 1, .lazy = true};
        journal_add(world.journal, &accepts[i]);
    }
    world_done(&world, JOURNAL_GROUP + 1);
    for (size_t i = 0; i <= JOURNAL_GROUP; i++)
        journal_add(world.journal, &done[i]);
    world_done(&world, JOURNAL_GROUP + 1);
    assert_int_equal(ask("SELECT count(*) FROM request"), 0);
    accepts[0] = accept_of(JOURNAL_GROUP + 2);
    assert_int_equal(world_run(&world, &accepts[0]), 0);
    done[0].record = JOURNAL_GROUP + 2;
    journal_add(world.journal, &done[0]);
    assert_false(journal_flush(world.journal));
    world_close(&world, true);
    world_open(&world);
    assert_int_equal(world.summary.unfinished, 0);
}

static bool see_logged(void *context, const struct journal_row *row)
{
    uint64_t *last = context;
    assert_true(row->position > *last);
    assert_true(same_request(row, true) && same_result(row));
    *last = row->position;
    return true;
}

static bool see_chunk(void *context, uint32_t number, struct journal_bytes meta,
                      struct journal_bytes bytes)
{
    uint64_t *next = context;
    const struct journal_op op = chunk_of(*next >> 32, (uint32_t)*next);
    assert_int_equal(number, op.number);
    assert_true(same_bytes(meta, op.meta) && same_bytes(bytes, op.body));
    ++*next;
    return true;
}

static void fetch_is(uint64_t record, uint64_t position, uint32_t after, uint32_t chunks)
{
    const struct journal_op was = result_of(record, position);
    struct journal_op op = {.kind = JOURNAL_FETCH, .record = record, .number = after};
    assert_int_equal(world_run(&world, &op), 0);
    assert_int_equal(op.fetched.status, was.status);
    assert_int_equal(op.fetched.attempts, was.attempts);
    assert_int_equal(op.fetched.flags, was.flags);
    assert_true(same_bytes((struct journal_bytes){op.fetched.meta, op.fetched.meta_len}, was.meta));
    assert_true(same_bytes((struct journal_bytes){op.fetched.body, op.fetched.body_len}, was.body));
    for (struct journal_chunk *at = op.fetched.chunks, *next; at; at = next) {
        const struct journal_op chunk = chunk_of(record, ++after);
        next = at->next;
        assert_int_equal(at->number, chunk.number);
        assert_true(same_bytes((struct journal_bytes){at->bytes, at->meta_len}, chunk.meta));
        assert_true(
            same_bytes((struct journal_bytes){at->bytes + at->meta_len, at->len}, chunk.body));
        free(at);
        chunks--;
    }
    assert_int_equal(chunks, 0);
    free(op.fetched.meta);
    free(op.fetched.body);
}

static void every_operation_comes_back_bit_for_bit(void **state)
{
    (void)state;
    enum { COUNT = 120 };
    uint8_t seen[COUNT + 1];
    world_open(&world);
    for (uint64_t record = 1; record <= COUNT; record++)
        world_must(&world, accept_of(record));
    for (uint32_t number = 1; number <= 50; number++) {
        world_must(&world, chunk_of(7, number));
        world_must(&world, chunk_of(8, number));
    }
    for (uint64_t record = 8; record <= COUNT; record += 2)
        world_must(&world, result_of(record, record % 4 ? record : 0));
    for (int open = 0; open < 3; open++) { /* the same after an end by any way */
        assert_int_equal(world_see(&world, seen, COUNT + 1), 0);
        for (uint64_t record = 1; record <= COUNT; record++)
            assert_int_equal(seen[record],
                             record >= 8 && record % 2 == 0 ? SEEN_FINISHED : SEEN_UNFINISHED);
        uint64_t position = 20, next = UINT64_C(7) << 32 | 1;
        assert_int_equal(journal_each_logged(world.journal, model_of(22), 22 % 2, 20, see_logged,
                                             &position, world.error),
                         0);
        assert_int_equal(position, 118); /* 22, 34, … 118: its model, not divisible by four */
        assert_int_equal(journal_each_chunk(world.journal, 7, see_chunk, &next, world.error), 0);
        assert_int_equal((uint32_t)next, 51);
        fetch_is(8, 0, 0, 50);
        fetch_is(8, 0, 49, 1);
        fetch_is(118, 118, 0, 0);
        assert_int_equal(world.bad, 0);
        world_close(&world, open == 0);
        world_open(&world);
        assert_int_equal(world.summary.finished, 57);
        assert_int_equal(world.summary.unfinished, COUNT - 57);
        assert_int_equal(world.summary.logged, 28);
    }
}

static void what_cannot_be_is_the_operations_own_error(void **state)
{
    (void)state;
    struct journal_op twice = accept_of(1), fetch = {.kind = JOURNAL_FETCH, .record = 1};
    struct journal_op result = result_of(2, 0), logged = result_of(2, 9);
    world_open(&world);
    world_must(&world, accept_of(1));
    assert_int_equal(world_run(&world, &twice), HASUP_EINVAL);
    assert_int_equal(world_run(&world, &fetch), HASUP_ENOTFOUND); /* not finished */
    assert_int_equal(world_run(&world, &result), HASUP_ENOTFOUND);
    assert_int_equal(world_run(&world, &logged), HASUP_ENOTFOUND);
    assert_int_equal(ask("SELECT count(*) FROM result"), 0);
    assert_string_equal(journal_last_error(world.journal), ""); /* the commits went well */
    world_must(&world, forget_of(77));
    /* In one group with others, these are not harmed. */
    struct journal_op ops[] = {accept_of(5), accept_of(1), result_of(9, 0), result_of(5, 0)};
    static const int errors[] = {0, HASUP_EINVAL, HASUP_ENOTFOUND, 0};
    for (size_t i = 0; i < HASUP_LEN(ops); i++)
        journal_add(world.journal, &ops[i]);
    world_done(&world, HASUP_LEN(ops));
    for (size_t i = 0; i < HASUP_LEN(ops); i++)
        assert_int_equal(ops[i].error, errors[i]);
    fetch_is(5, 0, 0, 0);
}

static void a_record_is_never_given_twice(void **state)
{
    (void)state;
    uint64_t next = 0;
    for (int open = 0; open < 6; open++) {
        world_open(&world);
        assert_true(world.summary.next_record > next || open == 0);
        next = world.summary.next_record + 5;
        world_must(&world, accept_of(next));
        world_must(&world, result_of(next, 0));
        world_must(&world, forget_of(next));
        assert_int_equal(ask("SELECT count(*) FROM request"), 0);
        world_close(&world, open % 2);
    }
}

static void the_next_start_knows_how_the_last_run_ended(void **state)
{
    (void)state;
    struct timespec now;
    world_open(&world);
    assert_true(world.summary.created && world.summary.clean);
    assert_int_equal(world.summary.last_wall_ns, 0);
    assert_int_equal(world.summary.next_record, 1);
    world_must(&world, accept_of(1));
    world_close(&world, true);
    world_open(&world);
    clock_gettime(CLOCK_REALTIME, &now);
    assert_true(!world.summary.created && world.summary.clean);
    assert_true(world.summary.last_wall_ns > (now.tv_sec - 60) * HASUP_S);
    assert_int_equal(world.summary.next_record, 2);
    world_close(&world, false);
    world_open(&world);
    assert_true(!world.summary.created && !world.summary.clean);
    assert_true(world.summary.last_wall_ns > (now.tv_sec - 60) * HASUP_S);
}

/* As a hasupd does that takes the place of another: what it costs must not grow with what is there,
 * and must not be a commit. */
static void who_goes_on_marks_and_counts_nothing_anew(void **state)
{
    (void)state;
    world_open(&world);
    world_must(&world, accept_of(1));
    world_must(&world, accept_of(2));
    world_must(&world, result_of(1, 0));
    world_close(&world, false);
    int64_t began = ask("SELECT began FROM run"), last = ask("SELECT last FROM run");
    world.goes_on = true;
    world_open(&world);
    assert_int_equal(ask("SELECT began FROM run"), began);
    assert_int_equal(ask("SELECT last FROM run"), last);
    assert_true(!world.summary.created && !world.summary.clean);
    assert_int_equal(world.summary.unfinished + world.summary.finished, 0);
    uint64_t next = world.summary.next_record;
    assert_true(next > 2);
    world_must(&world, result_of(2, 0));
    world_must(&world, accept_of(next));
    world_close(&world, false);
    world.goes_on = false;
    world_open(&world);
    assert_true(!world.summary.clean && world.summary.next_record > next);
    assert_int_equal(world.summary.finished, 2);
    assert_int_equal(world.summary.unfinished, 1);
    assert_true(ask("SELECT began FROM run") > began);
}

static void who_goes_on_where_no_run_is_under_way_begins_one(void **state)
{
    (void)state;
    world_open(&world);
    world_close(&world, true);
    world.goes_on = true;
    world_open(&world);
    assert_true(world.summary.clean);
    assert_int_equal(ask("SELECT clean FROM run"), 0);
    world_close(&world, false);
    world.goes_on = false;
    world_open(&world);
    assert_false(world.summary.clean);
}

static void a_second_hasupd_is_refused_and_readers_are_not(void **state)
{
    (void)state;
    struct journal_world other = world;
    struct stat info;
    world_open(&world);
    assert_int_equal(world_try_open(&other), HASUP_EINVAL);
    assert_non_null(strstr(other.error, "another hasupd"));
    world_must(&world, accept_of(1));
    assert_int_equal(ask("SELECT count(*) FROM request"), 1);
    assert_int_equal(stat(world.path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    world_must(&world, accept_of(2)); /* the lock and the journal outlive the reader */
    assert_int_equal(world_try_open(&other), HASUP_EINVAL);
}

static void what_is_not_a_journal_of_this_version_is_refused(void **state)
{
    (void)state;
    world_open(&world);
    world_close(&world, true);
    file_sql(world.path, "PRAGMA user_version = 3");
    assert_int_equal(world_try_open(&world), HASUP_EINVAL);
    assert_non_null(strstr(world.error, "newer"));
    file_sql(world.path, "PRAGMA application_id = 5");
    assert_int_equal(world_try_open(&world), HASUP_EINVAL);
    assert_non_null(strstr(world.error, "not a journal"));
    FILE *file = fopen(world.path, "w");
    for (int i = 0; i < 1000; i++)
        fputs("This is no database. ", file);
    fclose(file);
    assert_int_equal(world_try_open(&world), HASUP_ECORRUPT);
    assert_non_null(strstr(world.error, world.path));
    struct journal_world nowhere = world;
    strcpy(nowhere.path, "/nonexistent/journal.db");
    assert_int_equal(world_try_open(&nowhere), HASUP_EIO);
    assert_non_null(strstr(nowhere.error, "No such file"));
}

/* Runs turns of one event until the answer is as wanted: chores go on while others commit. */
static void until(const char *sql, int64_t wanted)
{
    for (int turns = 0; ask(sql) != wanted; turns++) {
        assert_true(turns < 20000);
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT, .body = {(void *)"{}", 2}});
    }
}

static void a_long_stream_is_forgotten_in_steps(void **state)
{
    (void)state;
    enum { CHUNKS = 20000 };
    struct journal_op *ops = calloc(CHUNKS, sizeof *ops);
    world_open(&world);
    world_must(&world, accept_of(1));
    world_must(&world, accept_of(2));
    world_must(&world, chunk_of(2, 1));
    for (uint32_t i = 0; i < CHUNKS; i++) {
        ops[i] = chunk_of(1, i + 1);
        journal_add(world.journal, &ops[i]);
    }
    world_done(&world, CHUNKS);
    struct journal_op forget = forget_of(1);
    journal_add(world.journal, &forget);
    world_done(&world, 1);
    assert_int_equal(ask("SELECT count(*) FROM request WHERE record = 1"), 0);
    assert_true(ask("SELECT count(*) FROM chunk") > CHUNKS / 2); /* only a step of it is gone */
    world_close(&world, false); /* and the next run goes on with it */
    world_open(&world);
    until("SELECT count(*) FROM chunk", 1);
    assert_int_equal(ask("SELECT record FROM chunk"), 2);
    free(ops);
}

static void a_trim_drops_the_bodies_that_a_checkpoint_covers(void **state)
{
    (void)state;
    enum { COUNT = 600 };
    uint64_t position = 500;
    world_open(&world);
    for (uint64_t i = 1; i <= COUNT; i++) {
        world_must(&world, accept_of(i * 6)); /* one model, one ordinal */
        world_must(&world, result_of(i * 6, i));
    }
    struct journal_op trim = {.kind = JOURNAL_TRIM, .model = model_of(6), .position = 500};
    world_must(&world, trim);
    world_close(&world, true);
    world_open(&world);
    assert_int_equal(world.summary.logged, 100);
    until("SELECT count(*) FROM request WHERE body IS NOT NULL", 100);
    assert_int_equal(
        journal_each_logged(world.journal, model_of(6), 0, 500, see_logged, &position, world.error),
        0);
    assert_int_equal(position, COUNT);
    assert_int_equal(world.bad, 0);
    position = 498; /* an older checkpoint: what is gone is said, not skipped in silence */
    assert_int_equal(
        journal_each_logged(world.journal, model_of(6), 0, 498, see_logged, &position, world.error),
        HASUP_ECORRUPT);
    assert_int_equal(world.bad, 1);
    assert_int_equal(position, 498);
    fetch_is(6, 1, 0, 0); /* the result stays */
    trim.position = 3;    /* an older trim changes nothing */
    world_must(&world, trim);
    assert_int_equal(ask("SELECT position FROM trim"), 500);
}

static void a_log_with_two_requests_at_one_place_is_none(void **state)
{
    (void)state;
    uint64_t position = 0;
    world_open(&world);
    for (uint64_t i = 1; i <= 3; i++) {
        world_must(&world, accept_of(i * 6));
        world_must(&world, result_of(i * 6, i < 3 ? i : 2));
    }
    assert_int_equal(
        journal_each_logged(world.journal, model_of(6), 0, 0, see_logged, &position, world.error),
        HASUP_ECORRUPT);
    assert_int_equal(position, 2);
    assert_int_equal(world.bad, 1);
    assert_non_null(strstr(world.error, "another request has its place in the slot's log"));
}

static bool see_event(void *context, int64_t created_wall_ns, struct journal_bytes body)
{
    uint64_t *last = context, number = (uint64_t)created_wall_ns;
    assert_true(*last == 0 || number == *last + 1);
    assert_true(same_bytes(body, bytes_of(number, 100)));
    *last = number;
    return true;
}

static void only_the_newest_events_stay(void **state)
{
    (void)state;
    uint64_t last = 0;
    world.events_max = 50;
    world_open(&world);
    for (uint64_t i = 1; i <= 170; i++)
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT,
                                               .created_wall_ns = (int64_t)i,
                                               .body = bytes_of(i, 100)});
    bool incomplete;
    assert_int_equal(journal_past_events(world.path, 0, see_event, &last, &incomplete, world.error),
                     0);
    assert_false(incomplete);
    assert_int_equal(last, 170);
    assert_int_equal(ask("SELECT count(*) FROM event"), 50);
    assert_int_equal(world.bad, 0);
}

static void events_that_are_old_or_above_a_smaller_limit_go_in_steps(void **state)
{
    (void)state;
    world.events_max = 100;
    world_open(&world);
    for (int64_t i = 1; i <= 100; i++)
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT, .created_wall_ns = i});
    assert_int_equal(journal_stats(world.journal).events, 100);
    world_close(&world, true);
    world.events_max = 10;
    world_open(&world);
    for (int64_t i = 101; i <= 110; i++) {
        int64_t before = ask("SELECT count(*) FROM event");
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT, .created_wall_ns = i});
        assert_int_equal(ask("SELECT count(*) FROM event"), before - 1); /* one comes, two go */
    }
    world_close(&world, true);
    world.events_max = 1000;
    world.events_age = 50;
    world_open(&world);
    for (int64_t i = 0; i < 95; i++)
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT, .created_wall_ns = 160});
    assert_int_equal(ask("SELECT min(created) FROM event"), 110);
    assert_int_equal(journal_stats(world.journal).events, ask("SELECT count(*) FROM event"));
}

struct past_seen {
    unsigned count;
    int64_t first, last;
};

static bool see_past(void *context, int64_t created_wall_ns, struct journal_bytes body)
{
    struct past_seen *seen = context;
    assert_true(same_bytes(body, bytes_of((uint64_t)created_wall_ns, 100)));
    seen->first = seen->count++ ? seen->first : created_wall_ns;
    seen->last = created_wall_ns;
    return true;
}

static struct past_seen past_events(int64_t since)
{
    struct past_seen seen = {0};
    bool incomplete = true;
    if (journal_past_events(world.path, since, see_past, &seen, &incomplete, world.error))
        fail_msg("%s", world.error);
    assert_false(incomplete);
    return seen;
}

static void others_read_events_beside_hasupd_and_after_it(void **state)
{
    (void)state;
    bool incomplete;
    assert_int_equal(journal_past_events(world.path, 0, see_past, NULL, &incomplete, world.error),
                     HASUP_ENOTFOUND);
    world_open(&world);
    for (int64_t i = 1; i <= 20; i++)
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT,
                                               .created_wall_ns = i,
                                               .body = bytes_of((uint64_t)i, 100)});
    assert_int_equal(past_events(0).count, 20);
    assert_int_equal(past_events(16).first, 16);
    world_close(&world, true);
    file_sql(world.path, "UPDATE event SET created = 7 WHERE id = 20"); /* damaged: passed over */
    assert_int_equal(past_events(0).count, 19);
    assert_int_equal(past_events(0).last, 19);
}

static int64_t size_of(const char *suffix)
{
    struct stat info;
    char path[128];
    snprintf(path, sizeof path, "%s%s", world.path, suffix);
    return stat(path, &info) ? 0 : info.st_size;
}

static void the_files_stay_bounded_under_constant_load(void **state)
{
    (void)state;
    enum { ROUNDS = 120, EACH = 256 };
    struct journal_op *ops = calloc(2 * EACH, sizeof *ops);
    uint8_t *body = calloc(1, 4000);
    int64_t wal = 0;
    world_open(&world);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        size_t count = 0;
        for (uint64_t i = 0; i < EACH; i++) {
            ops[count] = accept_of(round * EACH + i + 1);
            ops[count++].body = (struct journal_bytes){body, 4000};
            if (round) {
                ops[count++] = forget_of((round - 1) * EACH + i + 1);
            }
        }
        for (size_t i = 0; i < count; i++)
            journal_add(world.journal, &ops[i]);
        for (struct journal_op *op = world_done(&world, count); op; op = op->next)
            assert_int_equal(op->error, 0);
        wal = size_of("-wal") > wal ? size_of("-wal") : wal;
    }
    assert_in_range(wal, 1, 12 << 20);
    assert_in_range(size_of(""), 1, 12 << 20); /* 120 MB went through it */
    free(body);
    free(ops);
}

static void free_pages_are_given_back(void **state)
{
    (void)state;
    uint8_t *body = calloc(1, 1 << 20);
    world_open(&world);
    for (uint64_t i = 1; i <= 24; i++) {
        struct journal_op op = accept_of(i);
        op.body = (struct journal_bytes){body, 1 << 20};
        world_must(&world, op);
    }
    for (uint64_t i = 1; i <= 24; i++)
        world_must(&world, forget_of(i));
    struct journal_op large = accept_of(30); /* enough for the WAL to be folded back */
    large.body = (struct journal_bytes){body, 1 << 20};
    for (int i = 0; i < 5; i++, large.record++)
        world_must(&world, large);
    int turns = 0;
    while (ask("PRAGMA page_count") > 4096 && turns++ < 20000)
        world_must(&world, (struct journal_op){.kind = JOURNAL_EVENT});
    assert_in_range(ask("PRAGMA page_count"), 1, 4096); /* of 6,500 */
    free(body);
}

static bool count_row(void *context, const struct journal_row *row)
{
    uint64_t *count = context;
    assert_int_equal(row->body.len, 256);
    ++*count;
    return true;
}

static void recovery_of_100000_requests_is_fast(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct journal_op *ops = calloc(COUNT, sizeof *ops);
    static const uint8_t body[256];
    struct timespec before, after;
    uint64_t count = 0, some = 0;
    world_open(&world);
    for (uint64_t i = 0; i < COUNT; i++) {
        ops[i] = (struct journal_op){.kind = JOURNAL_ACCEPT,
                                     .record = i + 1,
                                     .model = "digits",
                                     .body = {body, sizeof body}};
        journal_add(world.journal, &ops[i]);
    }
    world_done(&world, COUNT);
    world_close(&world, false);
    clock_gettime(CLOCK_MONOTONIC, &before);
    world_open(&world);
    assert_int_equal(
        journal_each_unfinished(world.journal, 0, UINT64_MAX, count_row, &count, world.error), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double seconds =
        (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    print_message("recovery of %d requests: %.3f s\n", COUNT, seconds);
    assert_int_equal(count, COUNT);
    assert_int_equal(journal_each_unfinished(world.journal, 10, 7, count_row, &some, world.error),
                     0);
    assert_int_equal(some, 7); /* in portions, too */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(seconds < 2.0);
#endif
    free(ops);
}

#define TEST(name) WORLD_TEST(name, &world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(operations_end_in_the_order_in_which_they_were_added),
        TEST(little_is_committed_before_the_turn_ends),
        TEST(what_is_lazy_rides_with_what_comes_next),
        TEST(what_is_lazy_is_committed_when_it_is_much_and_at_the_end),
        TEST(every_operation_comes_back_bit_for_bit),
        TEST(what_cannot_be_is_the_operations_own_error),
        TEST(a_record_is_never_given_twice),
        TEST(the_next_start_knows_how_the_last_run_ended),
        TEST(who_goes_on_marks_and_counts_nothing_anew),
        TEST(who_goes_on_where_no_run_is_under_way_begins_one),
        TEST(a_second_hasupd_is_refused_and_readers_are_not),
        TEST(what_is_not_a_journal_of_this_version_is_refused),
        TEST(a_long_stream_is_forgotten_in_steps),
        TEST(a_trim_drops_the_bodies_that_a_checkpoint_covers),
        TEST(a_log_with_two_requests_at_one_place_is_none),
        TEST(only_the_newest_events_stay),
        TEST(events_that_are_old_or_above_a_smaller_limit_go_in_steps),
        TEST(others_read_events_beside_hasupd_and_after_it),
        TEST(the_files_stay_bounded_under_constant_load),
        TEST(free_pages_are_given_back),
        TEST(recovery_of_100000_requests_is_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
