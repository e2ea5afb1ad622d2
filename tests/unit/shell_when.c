/* Points in time as a person writes them, in any zone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <time.h>

#include "hasupctl/hasupctl.h"

static const int64_t MINUTE = 60 * (int64_t)HASUP_S, A_DAY = 24 * 60 * 60 * (int64_t)HASUP_S;

/* However the day is called there, it is the last such time of the clock. */
static void a_clock_time_is_the_last_one_in_every_zone(void **state)
{
    (void)state;
    for (int zone = -12 * 60; zone <= 14 * 60; zone += 30)
        for (int ago = 2; ago < 24 * 60 - 2; ago += 97) {
            int64_t now = ctl_wall_now(), got = 0;
            int64_t want = (now - ago * MINUTE) / MINUTE * MINUTE;
            time_t there = (time_t)(want / HASUP_S) + zone * 60;
            struct tm tm;
            char text[64];
            gmtime_r(&there, &tm);
            int offset = zone < 0 ? -zone : zone;
            snprintf(text, sizeof text, "%02d:%02d%c%02d:%02d", tm.tm_hour, tm.tm_min,
                     zone < 0 ? '-' : '+', offset / 60, offset % 60);
            assert_null(ctl_when(text, &got));
            assert_true(got <= ctl_wall_now() && got > now - A_DAY);
            assert_int_equal(got, want);
        }
}

static void a_date_is_the_time_that_it_says(void **state)
{
    (void)state;
    int64_t got;
    assert_null(ctl_when("2026-02-28T23:30:00+01:00", &got));
    assert_int_equal(got / (int64_t)HASUP_S, 1772317800);
    assert_null(ctl_when("2026-02-28 22:30", &got));
    assert_int_equal(got / (int64_t)HASUP_S, 1772317800);
    assert_null(ctl_when("2026-02-28T22:30:00.5Z", &got));
    assert_int_equal(got, 1772317800 * (int64_t)HASUP_S + (int64_t)HASUP_S / 2);
}

static void a_span_is_so_long_ago(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t ns;
    } SPANS[] = {{"90s", 90 * (int64_t)HASUP_S},
                 {"5m", 5 * MINUTE},
                 {"24h", A_DAY},
                 {"1d", A_DAY},
                 {"365d", 365 * A_DAY}};
    for (size_t i = 0; i < HASUP_LEN(SPANS); i++) {
        int64_t before = ctl_wall_now(), got = 0;
        assert_null(ctl_when(SPANS[i].text, &got));
        assert_true(got >= before - SPANS[i].ns && got <= ctl_wall_now() - SPANS[i].ns);
    }
}

static void what_is_no_time_is_refused(void **state)
{
    (void)state;
    static const char *const WRONG[] = {
        "2026-02-31", "12:00+9999", "12:00+15:00", "12:00+01:75", "25:00",
        "tomorrow",   "",           "-5s",         "d",           "0d",
        "1.5d",       "1dd",        "-1d",         " 1d",         "99999999999999999999d"};
    int64_t got;
    for (size_t i = 0; i < HASUP_LEN(WRONG); i++)
        if (!ctl_when(WRONG[i], &got))
            fail_msg("%s was taken for a time", WRONG[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clock_time_is_the_last_one_in_every_zone),
        cmocka_unit_test(a_date_is_the_time_that_it_says),
        cmocka_unit_test(a_span_is_so_long_ago),
        cmocka_unit_test(what_is_no_time_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
