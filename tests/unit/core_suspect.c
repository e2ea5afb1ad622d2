/* Batches that killed their worker come back by halves until the culprit stands alone. */
#include "tests/unit/core_world.h"

#include "supervisor/core/internal.h"

enum { MOST = 64 };

struct batch {
    struct suspects suspects;
    struct item items[MOST];
    bool poison[MOST], answered[MOST];
    unsigned crashes, kills[MOST];
    unsigned found; /* culprits that killed alone */
};

static void put(struct batch *batch, unsigned first, unsigned count, bool halve)
{
    for (unsigned i = first; i < first + count; i++)
        suspects_put(&batch->suspects, &batch->items[i]);
    suspects_close(&batch->suspects, halve);
    suspects_check(&batch->suspects);
}

/* Runs the next group; what kills takes the others of it along. */
static void run(struct batch *batch)
{
    struct item *group[MOST];
    uint32_t count = suspects_next(&batch->suspects);
    bool kills = false;
    assert_in_range(count, 1, MOST);
    for (uint32_t i = 0; i < count; i++) {
        group[i] = batch->suspects.list.head;
        suspects_remove(&batch->suspects, group[i]);
        kills |= batch->poison[group[i] - batch->items];
    }
    batch->crashes += kills;
    for (uint32_t i = 0; i < count; i++) {
        unsigned at = (unsigned)(group[i] - batch->items);
        if (!kills) {
            batch->answered[at] = true;
        } else if (count == 1) {
            batch->found++;
        } else {
            suspects_put(&batch->suspects, group[i]);
        }
        batch->kills[at] += kills;
    }
    if (kills && count > 1)
        suspects_close(&batch->suspects, true);
    suspects_check(&batch->suspects);
}

static unsigned log2_up(unsigned n)
{
    unsigned log = 0;
    while (1u << log < n)
        log++;
    return log;
}

/* A batch of `n` that has just killed its worker, run until nobody is suspect. */
static struct batch run_all(unsigned n, uint64_t poison)
{
    struct batch batch = {.crashes = 1};
    for (unsigned i = 0; i < n; i++)
        batch.poison[i] = poison >> i & 1;
    put(&batch, 0, n, true);
    while (batch.suspects.count)
        run(&batch);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(batch.answered[i], !batch.poison[i]);
    return batch;
}

static void promise_6_one_culprit_stands_alone_after_the_logarithm_of_its_batch(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= MOST; n++)
        for (unsigned culprit = 0; culprit < n; culprit++) {
            struct batch batch = run_all(n, UINT64_C(1) << culprit);
            assert_int_equal(batch.found, 1);
            assert_in_range(batch.crashes, 2, 1 + log2_up(n) + (n == 1));
        }
}

static void promise_6_two_culprits_are_found_as_well(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 32; a++)
        for (unsigned b = 0; b < a; b++) {
            struct batch batch = run_all(32, UINT64_C(1) << a | UINT64_C(1) << b);
            assert_int_equal(batch.found, 2);
            assert_true(batch.crashes <= 1 + 2 * 5);
        }
}

static void where_nobody_is_guilty_both_halves_are_answered_at_once(void **state)
{
    (void)state;
    struct batch batch = {0};
    put(&batch, 0, 9, true);
    assert_int_equal(suspects_next(&batch.suspects), 5);
    run(&batch);
    assert_int_equal(suspects_next(&batch.suspects), 4);
    run(&batch);
    assert_int_equal(batch.suspects.count + batch.crashes, 0);
}

static void the_other_half_is_tried_before_the_quarters(void **state)
{
    (void)state;
    struct batch batch = {.poison = {true}};
    put(&batch, 0, 8, true);
    run(&batch); /* the half with the culprit */
    assert_int_equal(suspects_next(&batch.suspects), 4);
    run(&batch);
    assert_true(batch.answered[4] && batch.answered[7]);
    assert_int_equal(suspects_next(&batch.suspects), 2);
}

static void groups_stay_apart_and_shrink_when_one_of_them_leaves(void **state)
{
    (void)state;
    struct batch batch = {0};
    put(&batch, 0, 3, false); /* was not in hand at a crash together: stays one */
    put(&batch, 3, 1, true);
    assert_int_equal(suspects_next(&batch.suspects), 3);
    suspects_remove(&batch.suspects, &batch.items[1]); /* expired */
    assert_int_equal(suspects_next(&batch.suspects), 2);
    run(&batch);
    assert_int_equal(suspects_next(&batch.suspects), 1);
    run(&batch);
    assert_int_equal(suspects_next(&batch.suspects), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(promise_6_one_culprit_stands_alone_after_the_logarithm_of_its_batch),
        cmocka_unit_test(promise_6_two_culprits_are_found_as_well),
        cmocka_unit_test(where_nobody_is_guilty_both_halves_are_answered_at_once),
        cmocka_unit_test(the_other_half_is_tried_before_the_quarters),
        cmocka_unit_test(groups_stay_apart_and_shrink_when_one_of_them_leaves),
    };
    return cmocka_run_group_tests_name("core_suspect", tests, NULL, NULL);
}
