/* Whose a kill for lack of memory was, told from one count: stories of counts and deaths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <unistd.h>

#include "supervisor/oom.h"

struct world {
    struct oom oom;
    hasup_ns now;
};

static void count(struct world *w, unsigned kills)
{
    char text[64];
    int len = snprintf(text, sizeof text, "pgfault 7\noom_kill %u\nlast 0\n", kills);
    assert_int_equal(ftruncate(w->oom.counter, 0), 0);
    assert_int_equal(pwrite(w->oom.counter, text, (size_t)len, 0), len);
}

static void open_world(struct world *w, bool machine, unsigned kills)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    *w = (struct world){.oom = {.counter = dup(fileno(file)), .machine = machine},
                        .now = 5 * HASUP_S};
    fclose(file);
    count(w, kills);
    oom_begin(&w->oom, true, w->now);
}

static void each_death_takes_one_of_the_count(void **state)
{
    struct world w;
    (void)state;
    for (int machine = 0; machine < 2; machine++) {
        const enum oom_verdict oom = machine ? OOM_EVIDENT : OOM_COUNTED;
        open_world(&w, machine, 41);
        assert_int_equal(oom_judge(&w.oom, w.now), OOM_NO);
        count(&w, 43);
        assert_int_equal(oom_judge(&w.oom, w.now), oom);
        assert_int_equal(oom_judge(&w.oom, w.now + 9 * HASUP_S), oom);
        assert_int_equal(oom_judge(&w.oom, w.now + 9 * HASUP_S), OOM_NO);
        oom_close(&w.oom);
    }
}

static void what_was_counted_while_no_worker_lived_is_nobodys(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, true, 1);
    count(&w, 5);
    oom_begin(&w.oom, false, w.now);
    assert_int_equal(oom_judge(&w.oom, w.now), OOM_EVIDENT);
    oom_begin(&w.oom, true, w.now);
    assert_int_equal(oom_judge(&w.oom, w.now), OOM_NO);
    oom_close(&w.oom);
}

static void the_machines_kills_that_no_death_claims_are_somebody_elses(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, true, 1);
    count(&w, 4);
    oom_look(&w.oom, w.now += 2 * HASUP_S);
    assert_int_equal(oom_judge(&w.oom, w.now + 3 * HASUP_S), OOM_EVIDENT);
    assert_int_equal(oom_judge(&w.oom, w.now + 20 * HASUP_S), OOM_NO);
    count(&w, 5);
    assert_int_equal(oom_judge(&w.oom, w.now + 21 * HASUP_S), OOM_EVIDENT);
    assert_int_equal(oom_judge(&w.oom, w.now + 21 * HASUP_S), OOM_NO);
    oom_close(&w.oom);
}

static void a_cgroups_kills_are_a_workers_whenever_it_is_reaped(void **state)
{
    struct world w;
    (void)state;
    open_world(&w, false, 1);
    count(&w, 2);
    oom_look(&w.oom, w.now += 2 * HASUP_S);
    assert_int_equal(oom_judge(&w.oom, w.now + 20 * HASUP_S), OOM_COUNTED);
    oom_close(&w.oom);
}

static void what_cannot_be_read_tells_nothing(void **state)
{
    struct oom oom = {.counter = -1, .machine = true};
    (void)state;
    oom_begin(&oom, true, HASUP_S);
    oom_look(&oom, 2 * HASUP_S);
    assert_int_equal(oom_judge(&oom, 3 * HASUP_S), OOM_NO);
    oom_close(&oom);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_death_takes_one_of_the_count),
        cmocka_unit_test(what_was_counted_while_no_worker_lived_is_nobodys),
        cmocka_unit_test(the_machines_kills_that_no_death_claims_are_somebody_elses),
        cmocka_unit_test(a_cgroups_kills_are_a_workers_whenever_it_is_reaped),
        cmocka_unit_test(what_cannot_be_read_tells_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
