/* journal.db: requests are listed newest first, in pages that are bounded, each once, whatever is
 * damaged. */
#include "journal_world.h"

#include <time.h>

static struct journal_world world;

static void rows_free(struct journal_op *op)
{
    for (struct journal_listed *row = op->listed.rows, *next; row; row = next) {
        next = row->next;
        free(row);
    }
}

static void row_is(const struct journal_listed *row, uint64_t record, bool finished)
{
    struct journal_op accept = accept_of(record), result = result_of(record, 0);
    assert_int_equal(row->record, record);
    assert_int_equal(row->token, accept.token);
    assert_string_equal(row->model, accept.model);
    assert_true(same_bytes(row->key, accept.key));
    assert_int_equal(row->created_wall_ns, accept.created_wall_ns);
    assert_int_equal(row->deadline_wall_ns, accept.deadline_wall_ns);
    assert_int_equal(row->status, finished ? result.status : 0);
    assert_int_equal(row->attempts, finished ? result.attempts : 0);
    assert_int_equal(row->flags, accept.flags | (finished ? result.flags : 0));
    assert_int_equal(row->finished_wall_ns, finished ? result.finished_wall_ns : 0);
    assert_int_equal(row->expires_wall_ns, finished ? result.expires_wall_ns : 0);
    assert_int_equal(row->body_len, finished ? 0 : accept.body.len);
    assert_int_equal(row->answer_len, finished ? result.body.len : 0);
}

static bool is_finished(uint64_t record)
{
    return record % 4 == 0;
}

static void fill(uint64_t count)
{
    world_open(&world);
    for (uint64_t record = 1; record <= count; record++) {
        world_must(&world, accept_of(record));
        if (is_finished(record))
            world_must(&world, result_of(record, 0));
    }
}

/* Walks all pages; every row is held against what was written.  How many there were. */
static uint64_t walk(const char *model, uint32_t page, uint64_t last, uint64_t without)
{
    uint64_t seen = 0, before = 0, expected = last;
    do {
        struct journal_op op = {
            .kind = JOURNAL_LIST, .record = before, .number = page, .model = model};
        uint32_t rows = 0;
        assert_int_equal(world_run(&world, &op), 0);
        for (struct journal_listed *row = op.listed.rows; row; row = row->next) {
            while (expected == without || (model && strcmp(model_of(expected), model) != 0))
                expected--;
            row_is(row, expected--, is_finished(row->record));
            rows++;
        }
        assert_in_range(rows, 0, page);
        seen += rows;
        before = op.listed.next;
        rows_free(&op);
    } while (before);
    return seen;
}

static void every_request_is_listed_once_newest_first_in_pages(void **state)
{
    (void)state;
    fill(50);
    assert_int_equal(walk(NULL, 7, 50, 0), 50);
    assert_int_equal(walk(NULL, 50, 50, 0), 50);
    assert_int_equal(walk(NULL, 1000, 50, 0), 50);
    assert_int_equal(walk("digits", 7, 50, 0), 16);
    assert_int_equal(walk("nothing", 7, 50, 0), 0);
}

static void a_damaged_row_is_passed_over(void **state)
{
    (void)state;
    fill(20);
    world_close(&world, true);
    file_sql(world.path, "UPDATE request SET created = created + 1 WHERE record = 9");
    world_open(&world);
    assert_int_equal(walk(NULL, 6, 20, 9), 19);
}

/* A page of an unlucky filter, too: it is bounded by what it looks at, not by what it finds. */
static void a_page_of_a_hundred_thousand_is_short(void **state)
{
    (void)state;
    enum { COUNT = 100000, PAGE = 256 };
    struct journal_op *ops = calloc(COUNT, sizeof *ops);
    struct timespec before, after;
    double worst = 0;
    uint64_t from = 0;
    unsigned pages = 0;
    static const uint8_t body[4000];
    assert_non_null(ops);
    world_open(&world);
    for (uint64_t i = 0; i < COUNT; i++) {
        ops[i] = (struct journal_op){.kind = JOURNAL_ACCEPT,
                                     .record = i + 1,
                                     .model = "digits",
                                     .body = {body, i % 16 ? 200 : sizeof body}};
        journal_add(world.journal, &ops[i]);
    }
    world_done(&world, COUNT);
    do {
        struct journal_op op = {
            .kind = JOURNAL_LIST, .record = from, .number = PAGE, .model = "textgen"};
        clock_gettime(CLOCK_MONOTONIC, &before);
        assert_int_equal(world_run(&world, &op), 0);
        clock_gettime(CLOCK_MONOTONIC, &after);
        double ms = (double)(after.tv_sec - before.tv_sec) * 1e3 +
                    (double)(after.tv_nsec - before.tv_nsec) / 1e6;
        worst = ms > worst ? ms : worst;
        assert_null(op.listed.rows);
        from = op.listed.next;
        pages++;
    } while (from);
    print_message("%u pages of %d rows, the slowest %.2f ms\n", pages, PAGE, worst);
    assert_int_equal(pages, COUNT / PAGE + 1);
    free(ops);
}

#define TEST(name) WORLD_TEST(name, &world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_request_is_listed_once_newest_first_in_pages),
        TEST(a_damaged_row_is_passed_over),
        TEST(a_page_of_a_hundred_thousand_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
