/* stats.c: the buckets of times, and what is told from them. */
#include "supervisor/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_each_time_is_in_the_bucket_that_bounds_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        struct histogram histogram = {0};
        hasup_ns bound = histogram_bound(i);
        assert_true(i == 0 || bound > histogram_bound(i - 1));
        histogram_add(&histogram, i < HISTOGRAM_BUCKETS - 1 ? bound : histogram_bound(i - 1) + 1);
        assert_int_equal(histogram.buckets[i], 1);
        if (i && i < HISTOGRAM_BUCKETS - 1) {
            histogram_add(&histogram, histogram_bound(i - 1) + 1);
            assert_int_equal(histogram.buckets[i], 2);
        }
    }
    assert_int_equal(histogram_bound(0), 10 * HASUP_US);
    assert_int_equal(histogram_bound(16), HASUP_MS);
    assert_int_equal(histogram_bound(HISTOGRAM_BUCKETS - 2), 800 * HASUP_S);
    assert_int_equal(histogram_bound(HISTOGRAM_BUCKETS - 1), HASUP_NEVER);
}

static void test_what_no_clock_should_say_is_counted_all_the_same(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_add(&histogram, -1);
    histogram_add(&histogram, HASUP_NEVER);
    assert_int_equal(histogram.count, 2);
    assert_int_equal(histogram.buckets[0], 1);
    assert_int_equal(histogram.buckets[HISTOGRAM_BUCKETS - 1], 1);
    assert_int_equal(histogram_quantile(&histogram, 999), 800 * HASUP_S);
}

static void test_a_quantile_is_near_the_truth(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    assert_int_equal(histogram_quantile(&histogram, 500), 0);
    for (hasup_ns i = 1; i <= 1000; i++)
        histogram_add(&histogram, i * HASUP_MS);
    assert_in_range(histogram_quantile(&histogram, 500), 490 * HASUP_MS, 510 * HASUP_MS);
    assert_in_range(histogram_quantile(&histogram, 990), 970 * HASUP_MS, 1000 * HASUP_MS);
    assert_in_range(histogram_quantile(&histogram, 1), 0, 2 * HASUP_MS);
    assert_in_range(histogram_quantile(&histogram, 1000), 1000 * HASUP_MS, 1000 * HASUP_MS);
}

static void test_the_last_seconds_forget_what_is_older(void **state)
{
    (void)state;
    struct recent recent = {0};
    struct recent_view view;
    hasup_ns at = 5 * HASUP_S;
    recent_look(&recent, at, &view);
    assert_int_equal(view.per_second_milli + (uint64_t)view.p50, 0);
    for (int i = 0; i < 100; i++)
        recent_add(&recent, at + i * 100 * HASUP_MS, 2 * HASUP_MS);
    recent_look(&recent, at + 10 * HASUP_S, &view);
    assert_in_range(view.per_second_milli, 9900, 10100);
    assert_in_range(view.p99, HASUP_MS, 2 * HASUP_MS);
    recent_look(&recent, at + 30 * HASUP_S, &view);
    assert_int_equal(view.per_second_milli, 0);
    assert_int_equal(view.p99, 0);
}

static void test_every_outcome_and_reason_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (unsigned i = 0; i < STATS_REFUSALS; i++) {
        assert_non_null(stats_refusal_name(i));
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(stats_refusal_name(i), stats_refusal_name(k));
    }
    for (unsigned i = 0; i < STATS_END_COUNT; i++)
        assert_non_null(stats_end_name(i));
    for (unsigned i = 0; i < STATS_OUTCOME_COUNT; i++)
        assert_non_null(stats_outcome_name(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_time_is_in_the_bucket_that_bounds_it),
        cmocka_unit_test(test_what_no_clock_should_say_is_counted_all_the_same),
        cmocka_unit_test(test_a_quantile_is_near_the_truth),
        cmocka_unit_test(test_the_last_seconds_forget_what_is_older),
        cmocka_unit_test(test_every_outcome_and_reason_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
