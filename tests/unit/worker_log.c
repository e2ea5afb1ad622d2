/* What hasup_log writes: each line marked with its request, whole or in parts that one write takes,
 * and nothing but the text where there is no hasupd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/runtime.h"

struct world {
    struct hasup_runtime runtime;
    struct hasup_running running;
    struct hasup_frame frame;
    uint8_t meta[256];
    int pipe[2], err;
    char got[64 * 1024];
};

static void begin(struct world *w, const char *mark, const char *id)
{
    struct hasup_meta_writer writer;
    memset(w, 0, sizeof *w);
    snprintf(w->runtime.mark, sizeof w->runtime.mark, "%s", mark);
    hasup_meta_start(&writer, w->meta, sizeof w->meta);
    hasup_meta_put(&writer, HASUP_TAG_REQUEST_ID, id, strlen(id));
    w->frame = (struct hasup_frame){.id = 42, .meta = w->meta, .meta_len = (uint32_t)writer.used};
    assert_int_equal(hasup_running_open(&w->runtime, &w->running, &w->frame), 0);
    assert_int_equal(pipe2(w->pipe, O_CLOEXEC), 0);
    assert_true(fcntl(w->pipe[0], F_SETPIPE_SZ, (int)sizeof w->got) > 0);
    w->err = dup(STDERR_FILENO);
    assert_int_equal(dup2(w->pipe[1], STDERR_FILENO), STDERR_FILENO);
}

static const char *end(struct world *w)
{
    size_t len = 0;
    ssize_t more;
    dup2(w->err, STDERR_FILENO);
    close(w->err);
    close(w->pipe[1]);
    while ((more = read(w->pipe[0], w->got + len, sizeof w->got - 1 - len)) > 0)
        len += (size_t)more;
    close(w->pipe[0]);
    hasup_running_close(&w->running);
    return w->got;
}

#define MARKED(name, text) "\033_word=" name "\033\\" text "\n"

static void each_line_bears_its_request(void **state)
{
    (void)state;
    struct world w;
    begin(&w, "word", "r-1");
    hasup_log(&w.running.request, "one %d", 1);
    hasup_log(&w.running.request, "two\nthree\n");
    hasup_log(&w.running.request, "%s", "");
    hasup_log(NULL, "nobody's");
    assert_string_equal(end(&w), MARKED("r-1", "one 1") MARKED("r-1", "two") MARKED("r-1", "three")
                                     MARKED("r-1", "") "nobody's\n");
}

static void one_without_a_name_that_can_be_shown_has_its_number(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"", "two words", "\xc3\xa4", "\033\\"};
    for (size_t i = 0; i < HASUP_LEN(NAMES); i++) {
        struct world w;
        begin(&w, "word", NAMES[i]);
        hasup_log(&w.running.request, "x");
        assert_string_equal(end(&w), MARKED("42", "x"));
    }
}

static void without_hasupd_the_text_is_written_as_it_is(void **state)
{
    (void)state;
    struct world w;
    begin(&w, "", "r-1");
    hasup_log(&w.running.request, "one\n");
    hasup_log(&w.running.request, "two");
    assert_string_equal(end(&w), "one\ntwo\n");
}

/* Each part fits one write, none is cut within a character, and together they are the line. */
static void a_long_line_comes_in_parts(void **state)
{
    (void)state;
    static const char part[] = "\033_word+r-1\033\\", last[] = "\033_word=r-1\033\\";
    struct world w;
    static char text[3 * 7000 + 1], joined[sizeof text];
    unsigned parts = 0;
    for (size_t i = 0; i < sizeof text - 1; i += 3)
        memcpy(text + i, "\xe2\x82\xac", 3);
    begin(&w, "word", "r-1");
    hasup_log(&w.running.request, "%s", text);
    end(&w);
    joined[0] = '\0';
    char *newline;
    for (char *line = w.got; (newline = strchr(line, '\n')); line = newline + 1, parts++) {
        const char *mark = newline[1] ? part : last;
        assert_true(newline + 1 - line <= PIPE_BUF);
        assert_int_equal(strncmp(line, mark, strlen(mark)), 0);
        line += strlen(mark);
        assert_int_equal((newline - line) % 3, 0);
        strncat(joined, line, (size_t)(newline - line));
    }
    assert_true(parts > 5);
    assert_string_equal(joined, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_bears_its_request),
        cmocka_unit_test(one_without_a_name_that_can_be_shown_has_its_number),
        cmocka_unit_test(without_hasupd_the_text_is_written_as_it_is),
        cmocka_unit_test(a_long_line_comes_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
