/* The lines of hasupctl top: they fit, columns leave by importance, rows are ordered and scroll. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hasupctl/top.h"
#include "ipc/base.h"

struct screen {
    int lines;
    struct top_line line[64];
};

static void put(void *to, int y, const struct top_line *line)
{
    struct screen *screen = to;
    assert_in_range(y, 0, 63);
    screen->line[y] = *line;
    if (y >= screen->lines)
        screen->lines = y + 1;
}

static json_t *slot(const char *name, const char *state, int crashes, long long memory)
{
    return json_pack("{s:s, s:s, s:i, s:i, s:I, s:i, s:i, s:i}", "slot", name, "state", state,
                     "crashes", crashes, "starts", crashes + 1, "memory_bytes",
                     (json_int_t)memory, "since_ms", 61000, "inflight", 1, "queued", 0);
}

static json_t *model(const char *name, double rate, int queued, json_t *slots)
{
    return json_pack("{s:s, s:b, s:i, s:i, s:i, s:i, s:{s:f, s:i, s:i}, s:o}", "name", name,
                     "broken", 0, "ready", 1, "workers", 2, "queued", queued, "inflight", 2,
                     "recent", "per_second", rate, "p50_us", 830, "p99_us", 12300, "slots", slots);
}

/* b has more requests, a more memory and queue; b/10 crashed most. */
static json_t *two_models(void)
{
    json_t *a = json_pack("[o, o]", slot("a/0", "ready", 1, 1 << 20),
                          slot("a/1", "backoff", 2, 600LL << 20));
    json_t *b = json_pack("[o, o, o]", slot("b/10", "broken", 9, 3 << 20),
                          slot("b/2", "ready", 0, 2 << 20), slot("b/1", "ready", 0, 0));
    json_object_set_new(json_array_get(a, 1), "next_start_ms", json_integer(4200));
    json_object_set_new(json_array_get(a, 0), "checkpoint", json_pack("{s:i}", "age_ms", 800));
    return json_pack("{s:s, s:i, s:i, s:b, s:[o, o]}", "version", "0.1.0", "pid", 7, "uptime_ms",
                     200000, "ready", 1, "models", model("a", 2.5, 3, a), model("b", 1500, 0, b));
}

static const char *names(enum top_sort sort)
{
    static char all[256];
    json_t *status = two_models();
    struct top_rows rows = top_rows(status, sort);
    size_t used = 0;
    all[0] = '\0';
    for (size_t i = 0; i < rows.count; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? " " : "",
                                 rows.rows[i].name);
    free(rows.rows);
    json_decref(status);
    return all;
}

static void models_are_ordered_and_slots_within_them(void **state)
{
    (void)state;
    assert_string_equal(names(TOP_NAME), "a a/0 a/1 b b/1 b/2 b/10");
    assert_string_equal(names(TOP_MEMORY), "a a/1 a/0 b b/10 b/2 b/1");
    assert_string_equal(names(TOP_RATE), "b b/1 b/2 b/10 a a/0 a/1");
    assert_string_equal(names(TOP_CRASHES), "b b/10 b/1 b/2 a a/1 a/0");
    assert_string_equal(names(TOP_QUEUE), "a a/0 a/1 b b/1 b/2 b/10");
}

static void keys_choose_an_order(void **state)
{
    (void)state;
    enum top_sort sort = TOP_NAME;
    assert_true(top_sort_key('m', &sort));
    assert_int_equal(sort, TOP_MEMORY);
    assert_false(top_sort_key('x', &sort));
    assert_int_equal(sort, TOP_MEMORY);
}

static void draw(struct screen *screen, struct top_view *view)
{
    memset(screen, 0, sizeof *screen);
    top_draw(view, put, screen);
}

static void at_80_columns_it_says_all_but_starts(void **state)
{
    (void)state;
    static struct screen s;
    struct top_view view = {.status = two_models(), .width = 80, .height = 24};
    draw(&s, &view);
    assert_string_equal(s.line[0].text, "hasupd 0.1.0  ready  up 3m  pid 7");
    assert_string_equal(s.line[1].text, "2 models, 5 slots, 2 ready, 1502.5 req/s");
    assert_memory_equal(
        s.line[2].text,
        "NAME*    STATE       FOR CRASH  RUN QUEUE   MEM REQ/S   P50   P99  CKPT  NEXT", 77);
    assert_int_equal(strlen(s.line[2].text), 80);
    assert_string_equal(
        s.line[3].text,
        "a        1/2                 3    2     3  601M   2.5 830us  12ms            ");
    assert_string_equal(
        s.line[4].text,
        " a/0     ready       61s     1    1     0  1.0M                   800ms      ");
    assert_string_equal(
        s.line[5].text,
        " a/1     backoff     61s     2    1     0  600M                            4s");
    assert_int_equal(s.line[5].state, TOP_BAD);
    assert_int_equal(s.line[5].state_at, 9);
    assert_non_null(strstr(s.line[23].text, "q quit  h help  sort by:  n name  m memory"));
    json_decref(view.status);
}

static void starts_are_starts_as_why_says_them(void **state)
{
    (void)state;
    static struct screen s;
    struct top_view view = {.status = two_models(), .width = 90, .height = 24};
    draw(&s, &view);
    assert_memory_equal(s.line[2].text, "NAME*    STATE       FOR STARTS CRASH", 37);
    assert_memory_equal(s.line[3].text, "a        1/2                  5     3", 37);
    assert_memory_equal(s.line[4].text, " a/0     ready       61s      2     1", 37);
    json_decref(view.status);
}

static void at_40_columns_the_important_stays_and_what_it_is_ordered_by(void **state)
{
    (void)state;
    static struct screen s;
    struct top_view view = {.status = two_models(), .width = 40, .height = 24};
    draw(&s, &view);
    assert_string_equal(s.line[2].text, "NAME*    STATE     CRASH QUEUE REQ/S    ");
    view.sort = TOP_MEMORY;
    draw(&s, &view);
    assert_string_equal(s.line[2].text, "NAME     STATE     CRASH  *MEM REQ/S    ");
    json_decref(view.status);
}

/* The last line of 45 rows on such a screen. */
static const char *last_line(int width, int height, int scroll)
{
    static struct screen s;
    json_t *status = two_models();
    json_t *slots = json_object_get(json_array_get(json_object_get(status, "models"), 0), "slots");
    for (int i = 2; i < 40; i++)
        json_array_append_new(slots, slot("a/x", "ready", 0, 0));
    struct top_view view = {.status = status, .width = width, .height = height, .scroll = scroll};
    draw(&s, &view);
    json_decref(status);
    return s.line[height - 1].text;
}

static void which_rows_are_shown_is_said_before_the_keys_where_both_have_no_room(void **state)
{
    (void)state;
    assert_string_equal(last_line(100, 24, 0),
                        "q quit  h help  sort by:  n name  m memory  r rate  c crashes  u queue  "
                        "1-20 of 45");
    assert_string_equal(last_line(80, 24, 0), "q quit h help n m r c u  1-20 of 45");
    assert_string_equal(last_line(80, 24, 99), "q quit h help n m r c u  26-45 of 45");
    assert_string_equal(last_line(30, 10, 0), "q h n m r c u  1-6 of 45");
    assert_string_equal(last_line(14, 10, 0), "1-6 of 45");
    assert_string_equal(last_line(8, 10, 0), "q h n m ");
    assert_string_equal(last_line(30, 4, 0), "q quit h help n m r c u"); /* no row at all */
    assert_string_equal(last_line(80, 60, 0),
                        "q quit  h help  sort by:  n name  m memory  r rate  c crashes  u queue");
    assert_string_equal(last_line(65, 60, 0), "q quit h help n m r c u");
}

static void nothing_is_longer_than_the_screen_is_wide(void **state)
{
    (void)state;
    static struct screen s;
    json_t *status = two_models();
    json_t *models = json_object_get(status, "models");
    const char *name = "a-model-with-a-name-of-more-than-thirty-letters/17";
    json_array_append_new(
        models, model("a-model-with-a-name-of-more-than-thirty-letters", 1e12, 2000000000,
                      json_pack("[o]", slot(name, "replaying", 2000000000, INT64_MAX / 2))));
    for (int width = 1; width < 600; width++)
        for (int height = 1; height < 40; height += 6)
            for (int help = 0; help < 2; help++) {
                struct top_view view = {.status = status, .width = width, .height = height,
                                        .help = help, .sort = (enum top_sort)(width % 5)};
                draw(&s, &view);
                for (int i = 0; i < s.lines; i++)
                    assert_in_range(strlen(s.line[i].text), 0, width);
            }
    struct top_view view = {.status = status, .width = 50, .height = 24};
    draw(&s, &view);
    assert_memory_equal(s.line[7].text, " ~letters/17 replaying", 22);
    json_decref(status);
}

static void it_scrolls_as_far_as_there_are_rows(void **state)
{
    (void)state;
    static struct screen s;
    struct top_view view = {.status = two_models(), .width = 80, .height = 7, .scroll = 2};
    draw(&s, &view);
    assert_memory_equal(s.line[3].text, " a/1 ", 5);
    assert_memory_equal(s.line[5].text, " b/1 ", 5);
    assert_non_null(strstr(s.line[6].text, "3-5 of 7"));
    view.scroll = 1000;
    draw(&s, &view);
    assert_int_equal(view.scroll, 4);
    assert_memory_equal(s.line[5].text, " b/10 ", 6);
    view.scroll = -3;
    draw(&s, &view);
    assert_int_equal(view.scroll, 0);
    json_decref(view.status);
}

static void trouble_is_said_without_a_status_and_with_one(void **state)
{
    (void)state;
    static struct screen s;
    struct top_view view = {.width = 80, .height = 24, .trouble = "hasupd is away\033[31m\xc3\xa4"};
    draw(&s, &view);
    assert_string_equal(s.line[0].text, "hasupd");
    assert_string_equal(s.line[1].text, "hasupd is away?[31m??");
    assert_int_equal(s.line[1].style, TOP_BAD);
    view.status = two_models();
    view.trouble = NULL;
    json_object_set_new(view.status, "journal",
                        json_pack("{s:b, s:s}", "failing", 1, "error", "the disk is full"));
    draw(&s, &view);
    assert_string_equal(s.line[1].text, "the journal FAILS: the disk is full");
    json_decref(view.status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_ordered_and_slots_within_them),
        cmocka_unit_test(keys_choose_an_order),
        cmocka_unit_test(at_80_columns_it_says_all_but_starts),
        cmocka_unit_test(starts_are_starts_as_why_says_them),
        cmocka_unit_test(at_40_columns_the_important_stays_and_what_it_is_ordered_by),
        cmocka_unit_test(which_rows_are_shown_is_said_before_the_keys_where_both_have_no_room),
        cmocka_unit_test(nothing_is_longer_than_the_screen_is_wide),
        cmocka_unit_test(it_scrolls_as_far_as_there_are_rows),
        cmocka_unit_test(trouble_is_said_without_a_status_and_with_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
