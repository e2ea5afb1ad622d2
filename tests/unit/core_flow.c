/* What is dropped of a flood, when files are rotated and tried again: at times of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "supervisor/core/flow.h"

static const struct flow_policy POLICY = {.lines = 100, .burst = 200, .bytes = 10000};
static const hasup_ns T0 = 1000 * HASUP_S;

/* So many lines of `len` bytes at once; how many are taken. */
static unsigned taken_of(struct flow *flow, const struct flow_policy *policy, hasup_ns now,
                         unsigned lines, size_t len)
{
    unsigned taken = 0;
    for (unsigned i = 0; i < lines; i++)
        taken += flow_takes(flow, policy, now, len);
    return taken;
}

static void a_burst_is_taken_and_a_flood_is_not(void **state)
{
    (void)state;
    struct flow flow = {0};
    assert_int_equal(taken_of(&flow, &POLICY, T0, 1000, 10), 200);
    assert_true(flow_is_shut(&flow, T0));
    assert_int_equal(flow_due(&flow), T0 + FLOW_PAUSE);
    struct flow_dropped dropped = flow_open(&flow);
    assert_int_equal(dropped.lines, 800);
    assert_int_equal(dropped.bytes, 8000);
    assert_int_equal(flow_due(&flow), HASUP_NEVER);
}

static void a_flow_that_is_shut_stays_so_for_its_pause(void **state)
{
    (void)state;
    struct flow flow = {0};
    taken_of(&flow, &POLICY, T0, 201, 10);
    assert_int_equal(taken_of(&flow, &POLICY, T0 + FLOW_PAUSE - 1, 10, 10), 0);
    assert_false(flow_is_shut(&flow, T0 + FLOW_PAUSE));
    assert_int_equal(flow_open(&flow).lines, 11);
    assert_int_equal(taken_of(&flow, &POLICY, T0 + FLOW_PAUSE, 1000, 10), 100); /* a second's */
}

static void what_stays_within_the_rate_is_taken_for_ever(void **state)
{
    (void)state;
    struct flow flow = {0};
    for (hasup_ns t = T0; t < T0 + 100 * HASUP_S; t += 10 * HASUP_MS)
        assert_true(flow_takes(&flow, &POLICY, t, 100));
}

static void bytes_count_too_and_a_long_line_is_whole(void **state)
{
    (void)state;
    struct flow flow = {0};
    assert_true(flow_takes(&flow, &POLICY, T0, 100000));
    assert_false(flow_takes(&flow, &POLICY, T0, 1));
    assert_int_equal(flow_open(&flow).bytes, 1);
    assert_false(flow_takes(&flow, &POLICY, T0 + 2 * HASUP_S, 1));
    flow_open(&flow);
    assert_true(flow_takes(&flow, &POLICY, T0 + 8 * HASUP_S, 1)); /* 100,000 bytes are 10 s */
}

static void without_limits_all_is_taken(void **state)
{
    (void)state;
    struct flow flow = {0};
    const struct flow_policy none = {0};
    assert_int_equal(taken_of(&flow, &none, T0, 100000, 4096), 100000);
}

static void a_file_is_rotated_by_size_and_age_but_never_empty(void **state)
{
    (void)state;
    const struct rotation_policy policy = {.bytes = 1000, .age = 60 * HASUP_S, .keep = 3};
    const struct rotation_policy ageless = {.bytes = 1000};
    assert_false(rotation_is_due(&policy, 0, T0, T0 + 100 * HASUP_S, 5000));
    assert_false(rotation_is_due(&policy, 900, T0, T0, 100));
    assert_true(rotation_is_due(&policy, 900, T0, T0, 101));
    assert_false(rotation_is_due(&policy, 1, T0, T0 + 60 * HASUP_S - 1, 1));
    assert_true(rotation_is_due(&policy, 1, T0, T0 + 60 * HASUP_S, 1));
    assert_false(rotation_is_due(&ageless, 1, T0, INT64_MAX, 1));
    assert_int_equal(rotation_excess(&policy, 3), 0);
    assert_int_equal(rotation_excess(&policy, 5), 2);
    assert_int_equal(rotation_excess(&ageless, 5), 5);
}

static void trouble_is_news_once_and_tried_again_after_a_while(void **state)
{
    (void)state;
    struct trouble trouble = {0};
    uint64_t lost;
    assert_true(trouble_may_try(&trouble, T0));
    assert_true(trouble_begin(&trouble, T0, 3));
    assert_false(trouble_may_try(&trouble, T0 + HASUP_S - 1));
    assert_true(trouble_may_try(&trouble, T0 + HASUP_S));
    assert_false(trouble_begin(&trouble, T0 + HASUP_S, 4));
    assert_true(trouble_end(&trouble, &lost));
    assert_int_equal(lost, 7);
    assert_false(trouble_end(&trouble, &lost));
    assert_int_equal(lost, 0);
}

static void a_queue_takes_what_fits(void **state)
{
    (void)state;
    assert_true(queue_takes(0, 10, 10));
    assert_true(queue_takes(4, 10, 6));
    assert_false(queue_takes(5, 10, 6));
    assert_false(queue_takes(0, 10, 11));
    assert_false(queue_takes(20, 10, 0)); /* the limit became smaller */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_taken_and_a_flood_is_not),
        cmocka_unit_test(a_flow_that_is_shut_stays_so_for_its_pause),
        cmocka_unit_test(what_stays_within_the_rate_is_taken_for_ever),
        cmocka_unit_test(bytes_count_too_and_a_long_line_is_whole),
        cmocka_unit_test(without_limits_all_is_taken),
        cmocka_unit_test(a_file_is_rotated_by_size_and_age_but_never_empty),
        cmocka_unit_test(trouble_is_news_once_and_tried_again_after_a_while),
        cmocka_unit_test(a_queue_takes_what_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
