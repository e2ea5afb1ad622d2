/* Dead letters in journal.db: written, read, lifted, bounded, kept over restarts, checked. */
#include "tests/unit/journal_world.h"

static struct journal_world world;

static struct journal_bytes text(const char *text)
{
    return (struct journal_bytes){(const uint8_t *)text, strlen(text)};
}

static struct journal_op letter_of(uint64_t n)
{
    return (struct journal_op){.kind = JOURNAL_LETTER,
                               .hash = {mix(n), n},
                               .model = model_of(n),
                               .record = n % 2 ? n : 0,
                               .attempts = (uint32_t)(n % 5 + 1),
                               .priority = (uint8_t)(n % 9 + 1),
                               .flags = JOURNAL_KEPT,
                               .created_wall_ns = (int64_t)n * HASUP_S,
                               .expires_wall_ns = (int64_t)n * HASUP_S + 1,
                               .reports = text("[{\"signal\":11}]"),
                               .meta = bytes_of(n << 8, 100),
                               .body = bytes_of((n << 8) + 1, 900)};
}

static bool is_letter_of(const struct journal_letter *letter, uint64_t n)
{
    const struct journal_op op = letter_of(n);
    return letter->hash[0] == op.hash[0] && letter->hash[1] == op.hash[1] &&
           !strcmp(letter->model, op.model) && letter->record == op.record &&
           letter->attempts == op.attempts && letter->priority == op.priority &&
           letter->created_wall_ns == op.created_wall_ns &&
           letter->expires_wall_ns == op.expires_wall_ns &&
           same_bytes(letter->reports, op.reports) && letter->body_len == op.body.len;
}

struct letters {
    uint64_t n[256], last;
    unsigned count;
};

static bool see(void *context, const struct journal_letter *letter)
{
    struct letters *letters = context;
    assert_true(letter->number > letters->last);
    assert_true(is_letter_of(letter, letter->hash[1]));
    letters->last = letter->number;
    letters->n[letters->count++] = letter->hash[1];
    return true;
}

static struct letters letters(void)
{
    struct letters letters = {0};
    assert_int_equal(journal_each_letter(world.journal, 0, see, &letters, world.error), 0);
    return letters;
}

static struct journal_op lift_of(uint64_t n)
{
    return (struct journal_op){.kind = JOURNAL_LIFT, .hash = {mix(n), n}};
}

/* The error of reading it; where it is there, it is what was written. */
static int fetched(uint64_t n)
{
    struct journal_op op = {.kind = JOURNAL_FETCH_LETTER, .hash = {mix(n), n}};
    int error = world_run(&world, &op);
    assert_true(!op.letter == !!error);
    if (op.letter) {
        const struct journal_op written = letter_of(n);
        assert_true(is_letter_of(op.letter, n));
        assert_true(same_bytes(op.letter->meta, written.meta));
        assert_true(same_bytes(op.letter->body, written.body));
    }
    free(op.letter);
    return error;
}

static void promise_6_a_dead_letter_survives_a_restart(void **state)
{
    (void)state;
    world_open(&world);
    world_must(&world, letter_of(1));
    world_must(&world, letter_of(2));
    assert_int_equal(fetched(1), 0);
    world_close(&world, false);
    world_open(&world);
    struct letters seen = letters();
    assert_int_equal(seen.count, 2);
    assert_true(seen.n[0] == 1 && seen.n[1] == 2);
    assert_int_equal(fetched(2), 0);
}

static void a_lifted_letter_is_gone_and_lifting_again_is_no_error(void **state)
{
    (void)state;
    world_open(&world);
    world_must(&world, letter_of(1));
    world_must(&world, lift_of(1));
    assert_int_equal(letters().count, 0);
    assert_int_equal(fetched(1), HASUP_ENOTFOUND);
    world_must(&world, lift_of(1));
}

static void one_body_has_one_letter_the_newest(void **state)
{
    (void)state;
    world_open(&world);
    struct journal_op first = letter_of(1);
    first.attempts = 77;
    world_must(&world, first);
    world_must(&world, letter_of(2));
    world_must(&world, letter_of(1));
    struct letters seen = letters();
    assert_int_equal(seen.count, 2);
    assert_true(seen.n[0] == 2 && seen.n[1] == 1);
}

static void promise_8_letters_are_bounded_and_the_oldest_go(void **state)
{
    (void)state;
    world.letters_max = 3;
    world_open(&world);
    for (uint64_t n = 1; n <= 10; n++)
        world_must(&world, letter_of(n));
    struct letters seen = letters();
    assert_int_equal(seen.count, 3);
    assert_true(seen.n[0] == 8 && seen.n[2] == 10);
    world_close(&world, true);
    world.letters_max = 1; /* a smaller limit comes true with the next letter */
    world_open(&world);
    world_must(&world, letter_of(11));
    assert_int_equal(letters().count, 1);
    struct journal_op large = letter_of(12);
    static uint8_t many[JOURNAL_REPORTS_MAX + 1];
    large.reports = (struct journal_bytes){many, sizeof many};
    assert_int_equal(world_run(&world, &large), HASUP_ETOOBIG);
    assert_int_equal(letters().count, 1);
}

static void a_body_is_kept_only_where_that_is_said(void **state)
{
    (void)state;
    world_open(&world);
    struct journal_op op = letter_of(1);
    op.flags = 0;
    world_must(&world, op);
    struct journal_op fetch = {.kind = JOURNAL_FETCH_LETTER, .hash = {mix(1), 1}};
    assert_int_equal(world_run(&world, &fetch), 0);
    assert_false(fetch.letter->flags & JOURNAL_KEPT);
    assert_int_equal(fetch.letter->body.len + fetch.letter->meta.len + fetch.letter->body_len, 0);
    free(fetch.letter);
}

static void promise_11_a_damaged_letter_is_not_believed(void **state)
{
    (void)state;
    world_open(&world);
    world_must(&world, letter_of(1));
    world_must(&world, letter_of(2));
    world_close(&world, true);
    file_sql(world.path, "UPDATE letter SET expires = expires + 1 WHERE number = 1");
    file_sql(world.path, "UPDATE letter SET body = x'00' WHERE number = 2");
    world_open(&world);
    assert_int_equal(letters().count, 1);
    assert_int_equal(world.bad, 1);
    assert_int_equal(fetched(1), HASUP_ECORRUPT);
    assert_int_equal(fetched(2), HASUP_ECORRUPT);
}

static void a_journal_of_schema_1_is_brought_up(void **state)
{
    (void)state;
    world_open(&world);
    world_must(&world, accept_of(1));
    world_close(&world, true);
    file_sql(world.path, "DROP TABLE letter; PRAGMA user_version = 1");
    world_open(&world);
    assert_int_equal(world.summary.unfinished, 1);
    world_must(&world, letter_of(1));
    assert_int_equal(letters().count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD_TEST(promise_6_a_dead_letter_survives_a_restart, &world),
        WORLD_TEST(a_lifted_letter_is_gone_and_lifting_again_is_no_error, &world),
        WORLD_TEST(one_body_has_one_letter_the_newest, &world),
        WORLD_TEST(promise_8_letters_are_bounded_and_the_oldest_go, &world),
        WORLD_TEST(a_body_is_kept_only_where_that_is_said, &world),
        WORLD_TEST(promise_11_a_damaged_letter_is_not_believed, &world),
        WORLD_TEST(a_journal_of_schema_1_is_brought_up, &world),
    };
    return cmocka_run_group_tests_name("checkpoints_journalletter", tests, NULL, NULL);
}
