/* Chance is repeatable, stays in its bounds, and the jitter is what the configuration promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "supervisor/core/random.h"

static void the_same_seed_gives_the_same_run(void **state)
{
    (void)state;
    struct random a, b, other;
    random_init(&a, 7);
    random_init(&b, 7);
    random_init(&other, 8);
    bool differs = false;
    for (int i = 0; i < 1000; i++) {
        uint64_t x = random_next(&a);
        assert_true(x == random_next(&b));
        differs |= x != random_next(&other);
    }
    assert_true(differs);
}

static void seed_zero_is_a_seed(void **state)
{
    (void)state;
    struct random r;
    random_init(&r, 0);
    assert_true(random_next(&r) != random_next(&r));
}

static void below_reaches_every_number_and_no_other(void **state)
{
    (void)state;
    struct random r;
    unsigned seen[5] = {0};
    random_init(&r, 1);
    for (int i = 0; i < 10000; i++) {
        uint32_t x = random_below(&r, 5);
        assert_true(x < 5);
        seen[x]++;
    }
    for (int i = 0; i < 5; i++)
        assert_in_range(seen[i], 1800, 2200);
}

static void jitter_stays_within_a_quarter_and_uses_it(void **state)
{
    (void)state;
    struct random r;
    hasup_ns least = HASUP_NEVER, most = 0;
    random_init(&r, 3);
    for (int i = 0; i < 10000; i++) {
        hasup_ns x = random_jitter(&r, HASUP_S);
        least = x < least ? x : least;
        most = x > most ? x : most;
    }
    assert_in_range(least, 750 * HASUP_MS, 760 * HASUP_MS);
    assert_in_range(most, 1240 * HASUP_MS, 1250 * HASUP_MS);
    assert_true(random_jitter(&r, 0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(seed_zero_is_a_seed),
        cmocka_unit_test(below_reaches_every_number_and_no_other),
        cmocka_unit_test(jitter_stays_within_a_quarter_and_uses_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
