/* The lines that are kept: bounded, fair between slots, and no reader misses one unawares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "supervisor/printed.h"

static void say_at(struct printed *printed, const char *slot, enum capture_stream stream,
                   const char *text, int64_t wall_ns)
{
    struct printed_line line = {.wall_ns = wall_ns,
                                .slot = slot,
                                .pid = 7,
                                .request = "r",
                                .said = {.stream = stream, .text = text, .len = strlen(text)}};
    printed_add(printed, &line);
}

static void say(struct printed *printed, const char *slot, const char *text)
{
    say_at(printed, slot, CAPTURE_STDOUT, text, 1);
}

/* What a reader has next, with spaces between. */
static const char *read_all(struct printed_reader *reader)
{
    static char text[4096];
    struct printed_line line;
    size_t used = 0;
    text[0] = '\0';
    while (printed_next(reader, &line))
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? " " : "",
                                 line.said.text);
    return text;
}

static const char *read_now(struct printed *printed, const struct printed_filter *filter,
                            size_t tail)
{
    struct printed_reader reader = {.filter = *filter};
    printed_open(printed, &reader, tail);
    const char *text = read_all(&reader);
    printed_close(&reader);
    return text;
}

static void say_about(struct printed *printed, const char *slot, const char *request)
{
    struct printed_line line = {.wall_ns = 1, .slot = slot, .said = {.text = "x", .len = 1}};
    snprintf(line.request, sizeof line.request, "%s", request);
    printed_add(printed, &line);
}

/* "": it is there; else the nearest, or "-". */
static const char *near_of(struct printed *printed, const char *target, const char *request)
{
    static char near[PRINTED_REQUEST];
    struct printed_filter filter = {0};
    snprintf(filter.targets[0], sizeof filter.targets[0], "%s", target);
    snprintf(filter.request, sizeof filter.request, "%s", request);
    if (printed_is_about(printed, &filter, near))
        return "";
    return near[0] ? near : "-";
}

static void a_request_that_no_line_is_about_has_a_near_one(void **state)
{
    (void)state;
    struct printed *printed = printed_new(1 << 20);
    assert_string_equal(near_of(printed, "", "r-1"), "-");
    say_about(printed, "m/0", "");
    assert_string_equal(near_of(printed, "", "r-1"), "-");
    say_about(printed, "m/0", "r-17");
    say_about(printed, "n/0", "r-18");
    assert_string_equal(near_of(printed, "", "r-1"), "r-18");
    assert_string_equal(near_of(printed, "m", "r-1"), "r-17");
    assert_string_equal(near_of(printed, "m", "[r-17]"), "r-17");
    assert_string_equal(near_of(printed, "m/0", "r-17"), "");
    assert_string_equal(near_of(printed, "n", "r-17"), "-");
    printed_free(printed);
}

static void lines_are_chosen(void **state)
{
    (void)state;
    struct printed *printed = printed_new(1 << 20);
    say_at(printed, "m/0", CAPTURE_STDOUT, "one", 1);
    say_at(printed, "m/1", CAPTURE_STDERR, "two", 2);
    say_at(printed, "mm/0", CAPTURE_STDOUT, "three", 3);
    say_at(printed, "m/0", CAPTURE_DROPPED, "four", 4);
    struct printed_filter all = {0}, model = {.targets = {"m"}}, slot = {.targets = {"m/1"}};
    struct printed_filter err = {.streams = 1 << CAPTURE_STDERR}, grep = {.grep = "o"};
    struct printed_filter since = {.since_wall_ns = 3}, pid = {.pid = 8};
    assert_string_equal(read_now(printed, &all, 100), "one two three four");
    assert_string_equal(read_now(printed, &all, 2), "three four");
    assert_string_equal(read_now(printed, &all, 0), "");
    assert_string_equal(read_now(printed, &model, 100), "one two four");
    assert_string_equal(read_now(printed, &model, 1), "four");
    assert_string_equal(read_now(printed, &slot, 100), "two");
    assert_string_equal(read_now(printed, &err, 100), "two");
    assert_string_equal(read_now(printed, &grep, 100), "one two four");
    assert_string_equal(read_now(printed, &since, 100), "three four");
    assert_string_equal(read_now(printed, &pid, 100), "");
    assert_true(printed_knows(printed, "mm") && printed_knows(printed, "m/1"));
    assert_false(printed_knows(printed, "m/2") || printed_knows(printed, "x"));
    printed_free(printed);
}

static void who_has_most_gives_its_oldest(void **state)
{
    (void)state;
    struct printed *printed = printed_new(4096);
    char text[32];
    struct printed_filter quiet = {.targets = {"quiet"}}, loud = {.targets = {"loud"}};
    say(printed, "quiet/0", "still");
    say(printed, "quiet/0", "here");
    for (int i = 0; i < 10000; i++) {
        snprintf(text, sizeof text, "%d", i);
        say(printed, "loud/0", text);
    }
    assert_string_equal(read_now(printed, &quiet, 100), "still here");
    assert_string_equal(read_now(printed, &loud, 2), "9998 9999");
    printed_limit(printed, 1);
    assert_string_equal(read_now(printed, &loud, 100), "");
    assert_false(printed_knows(printed, "loud"));
    printed_free(printed);
}

static void a_reader_goes_on_where_it_was(void **state)
{
    (void)state;
    struct printed *printed = printed_new(1 << 20);
    struct printed_reader reader = {.filter = {.targets = {"m"}}};
    say(printed, "m/0", "a");
    printed_open(printed, &reader, 100);
    assert_string_equal(read_all(&reader), "a");
    assert_string_equal(read_all(&reader), "");
    say(printed, "x/0", "b");
    say(printed, "m/0", "c");
    assert_string_equal(read_all(&reader), "c");
    assert_int_equal(reader.lost, 0);
    printed_close(&reader);
    say(printed, "m/0", "d");
    printed_free(printed);
}

static void a_reader_learns_how_many_it_lost(void **state)
{
    (void)state;
    struct printed *printed = printed_new(4096);
    struct printed_reader reader = {.filter = {.grep = "x"}};
    unsigned got = 0;
    struct printed_line line;
    printed_open(printed, &reader, 0);
    for (int i = 0; i < 1000; i++)
        say(printed, i % 3 ? "m/0" : "m/1", i % 2 ? "x" : "y");
    while (printed_next(&reader, &line))
        got++;
    assert_true(got > 0 && reader.lost > 0);
    assert_int_equal(got + reader.lost, 500);
    printed_close(&reader);
    printed_close(&reader); /* harmless */
    printed_free(printed);
}

/* All that happens to many readers at once: each line is had or lost, whatever goes first. */
static void every_line_is_had_or_lost(void **state)
{
    (void)state;
    struct printed *printed = printed_new(2000);
    struct printed_reader readers[5] = {0};
    unsigned got[5] = {0}, random = 1;
    char slot[8];
    struct printed_line line;
    for (int i = 0; i < 5; i++)
        printed_open(printed, &readers[i], 0);
    for (int i = 0; i < 20000; i++) {
        random = random * 1103515245 + 12345;
        snprintf(slot, sizeof slot, "m/%u", random >> 16 & 7);
        say(printed, slot, &"abcdefghijklmnopqrstuvwxyz"[random >> 20 & 15]);
        unsigned who = random >> 25 & 7;
        for (unsigned k = random >> 28; who < 5 && k && printed_next(&readers[who], &line); k--)
            got[who]++;
    }
    for (int i = 0; i < 5; i++) {
        while (printed_next(&readers[i], &line))
            got[i]++;
        assert_int_equal(got[i] + readers[i].lost, 20000);
        printed_close(&readers[i]);
    }
    printed_free(printed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_chosen),
        cmocka_unit_test(a_request_that_no_line_is_about_has_a_near_one),
        cmocka_unit_test(who_has_most_gives_its_oldest),
        cmocka_unit_test(a_reader_goes_on_where_it_was),
        cmocka_unit_test(a_reader_learns_how_many_it_lost),
        cmocka_unit_test(every_line_is_had_or_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
