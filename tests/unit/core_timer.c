/* The timing wheel: never early, a tick late at most, whatever is set, moved and cleared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "supervisor/core/random.h"
#include "supervisor/core/timer.h"

enum { TIMERS = 300, TICK = 1 << WHEEL_TICK_SHIFT };

static void timers_are_due_in_time_and_never_early(void **state)
{
    (void)state;
    static struct wheel wheel;
    static struct timer_node timers[TIMERS];
    static hasup_ns at[TIMERS];
    struct random r;
    hasup_ns now = 0;
    random_init(&r, 5);
    for (unsigned i = 0; i < TIMERS; i++)
        at[i] = HASUP_NEVER;
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = random_below(&r, TIMERS);
        /* Spans of every size, from a tick to years. */
        hasup_ns span = (hasup_ns)(random_next(&r) >> (8 + random_below(&r, 50)));
        at[i] = random_below(&r, 4) ? now + span : HASUP_NEVER;
        timer_set_at(&wheel, &timers[i], at[i]);
        if (random_below(&r, 3))
            continue;
        hasup_ns deadline = wheel_deadline(&wheel);
        now += (hasup_ns)(random_next(&r) >> (20 + random_below(&r, 40)));
        if (random_below(&r, 2) && deadline < HASUP_NEVER && deadline > now)
            now = deadline;
        for (struct timer_node *due; (due = wheel_next(&wheel, now));) {
            size_t index = (size_t)(due - timers);
            assert_true(at[index] <= now);
            at[index] = HASUP_NEVER;
        }
        hasup_ns first = HASUP_NEVER;
        for (unsigned k = 0; k < TIMERS; k++) {
            assert_int_equal(timer_is_set(&timers[k]), at[k] != HASUP_NEVER);
            first = at[k] < first ? at[k] : first;
        }
        assert_true(first > now - TICK);
        assert_true(wheel_deadline(&wheel) <= (first < HASUP_NEVER - TICK ? first + TICK : first));
    }
}

static void an_empty_wheel_waits_for_nothing(void **state)
{
    (void)state;
    static struct wheel wheel;
    static struct timer_node timer;
    assert_true(wheel_deadline(&wheel) == HASUP_NEVER);
    timer_set_at(&wheel, &timer, 5 * HASUP_S);
    assert_true(wheel_deadline(&wheel) <= 5 * HASUP_S + TICK);
    timer_clear(&wheel, &timer);
    assert_true(wheel_deadline(&wheel) == HASUP_NEVER);
    assert_null(wheel_next(&wheel, HASUP_NEVER - 1));
}

static void what_has_passed_already_is_due(void **state)
{
    (void)state;
    static struct wheel wheel;
    static struct timer_node timer;
    assert_null(wheel_next(&wheel, 100 * HASUP_S));
    timer_set_at(&wheel, &timer, HASUP_S);
    assert_true(wheel_deadline(&wheel) <= 100 * HASUP_S);
    assert_ptr_equal(wheel_next(&wheel, 100 * HASUP_S), &timer);
    assert_false(timer_is_set(&timer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_are_due_in_time_and_never_early),
        cmocka_unit_test(an_empty_wheel_waits_for_nothing),
        cmocka_unit_test(what_has_passed_already_is_due),
    };
    return cmocka_run_group_tests_name("core_timer", tests, NULL, NULL);
}
