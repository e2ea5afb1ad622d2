/* Pipes cut into lines: whole, escaped, split with a mark, the last one flushed; floods counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/capture.h"
#include "supervisor/carry.h"
#include "supervisor/escape.h"
#include "supervisor/sink.h"

struct world {
    struct loop *loop;
    struct capture *capture;
    int out, err;
    char got[65536]; /* "stream:text|", with + for more and - for partial */
    size_t used;
    uint64_t lines, dropped;
};

static void on_line(void *context, const struct captured *captured)
{
    struct world *w = context;
    w->lines++;
    assert_int_equal(strlen(captured->text), captured->len);
    if (w->used + captured->len + 8 < sizeof w->got)
        w->used += (size_t)sprintf(w->got + w->used, "%d:%s%s%s%s%s|", (int)captured->stream,
                                   captured->request ? captured->request : "",
                                   captured->request ? ">" : "", captured->text,
                                   captured->more ? "+" : "", captured->partial ? "-" : "");
}

static void on_dropped(void *context, struct flow_dropped dropped)
{
    struct world *w = context;
    w->dropped += dropped.lines;
}

static void begin(struct world *w, size_t line_max, struct flow_policy flow)
{
    *w = (struct world){.loop = loop_new()};
    const struct capture_options options = {.flow = flow,
                                            .line_max = line_max,
                                            .mark = "0123456789abcdef",
                                            .line = on_line,
                                            .dropped = on_dropped,
                                            .context = w};
    w->capture = capture_new(w->loop, &options, &w->out, &w->err);
    assert_non_null(w->capture);
}

static const char *end(struct world *w)
{
    close(w->out);
    close(w->err);
    capture_free(w->capture);
    loop_free(w->loop);
    return w->got;
}

static void put(struct world *w, int fd, const char *bytes, size_t len)
{
    assert_int_equal(write(fd, bytes, len), len);
    assert_true(capture_drain(w->capture));
}

static void lines_are_whole_however_they_arrive(void **state)
{
    (void)state;
    struct world w;
    const char text[] = "one\ntwo\r\n\nfour";
    begin(&w, 256, (struct flow_policy){0});
    for (size_t i = 0; i < sizeof text - 1; i++)
        put(&w, w.out, text + i, 1);
    put(&w, w.err, "err\n", 4);
    assert_string_equal(end(&w), "0:one|0:two|0:|1:err|0:four-|");
}

static void bytes_that_are_no_text_are_escaped(void **state)
{
    (void)state;
    struct world w;
    const char bytes[] = "a\x1b[0m\0\xff\xc3\xbc\xc2\x85\xe2\x82\n\xc3\n";
    begin(&w, 256, (struct flow_policy){0});
    put(&w, w.out, bytes, sizeof bytes - 1);
    assert_string_equal(end(&w),
                        "0:a\\x1b[0m\\x00\\xff\xc3\xbc\\xc2\\x85\\xe2\\x82|0:\\xc3|");
}

static void long_lines_come_in_parts_and_characters_whole(void **state)
{
    (void)state;
    struct world w;
    begin(&w, 8, (struct flow_policy){0});
    put(&w, w.out, "1234567\xc3\xbc" "9abcdefgh\n", 19);
    put(&w, w.out, "12345678\n", 9); /* exactly as long as one may be */
    assert_string_equal(end(&w), "0:1234567+|0:\xc3\xbc" "9abcde+|0:fgh|0:12345678|");
}

#define MARK(kind, name) "\x1b_0123456789abcdef" kind name "\x1b\\"

static void a_marked_line_has_its_request_however_it_arrives(void **state)
{
    (void)state;
    static const char text[] = MARK("=", "r-1") "one\nnobody's\n" MARK("+", "r-2") "begin\n" MARK(
        "=", "r-2") "end\nunfinished" MARK("=", "r-3") "three\r\n" MARK("=", "r-4") "\nlast\n";
    static const char want[] =
        "1:r-1>one|1:nobody's|1:r-2>begin+|1:r-2>end|1:unfinished-|1:r-3>three|1:r-4>|1:last|";
    for (size_t step = 1; step < sizeof text; step = step * 2 + 1) {
        struct world w;
        begin(&w, 4096, (struct flow_policy){0});
        for (size_t i = 0; i < sizeof text - 1; i += step)
            put(&w, w.err, text + i, step < sizeof text - 1 - i ? step : sizeof text - 1 - i);
        assert_string_equal(end(&w), want);
    }
}

/* A cut never falls into a mark, and every part has the request; for each place of the mark. */
static void parts_of_a_marked_line_have_its_request(void **state)
{
    (void)state;
    for (size_t before = 0; before < 300; before++) {
        struct world w;
        char text[1024], seen[2048] = "";
        int len = sprintf(text, "%0*d" MARK("=", "r-1"), (int)before + 1, 0);
        len += sprintf(text + len, "%0300d\n", 1);
        begin(&w, 256, (struct flow_policy){0});
        put(&w, w.out, text, (size_t)len);
        end(&w);
        assert_null(strstr(w.got, "0123456789abcdef"));
        size_t zeros = 0, whose = 0;
        snprintf(seen, sizeof seen, "%.2047s", w.got);
        for (char *rest = seen, *line; (line = strsep(&rest, "|")) != NULL && *line;) {
            bool its = strncmp(line, "0:r-1>", 6) == 0;
            for (const char *c = line + (its ? 6 : 2); *c == '0' || *c == '1'; c++)
                *(its ? &whose : &zeros) += 1;
        }
        assert_int_equal(zeros, before + 1);
        assert_int_equal(whose, 300);
    }
}

static void carry_both(struct carry *carry, struct world *w, const struct capture_options *options)
{
    codec_begin(&carry->codec);
    w->capture = capture_carry(carry, w->capture, w->loop, options);
    capture_carry_parts(carry, w->capture);
    codec_end(&carry->codec);
}

/* On each stream a line is cut when another hasupd comes: by its length, and by its worker. */
static void whose_a_cut_line_is_goes_along_to_another_hasupd(void **state)
{
    (void)state;
    struct world w;
    struct carry carry = {0};
    char text[300];
    uint8_t saved[4096];
    int kept[2];
    begin(&w, 256, (struct flow_policy){0});
    const struct capture_options options = {.line_max = 256,
                                            .mark = "0123456789abcdef",
                                            .line = on_line,
                                            .dropped = on_dropped,
                                            .context = &w};
    int len = sprintf(text, MARK("=", "r-1") "%0260d", 0);
    put(&w, w.out, text, (size_t)len);
    put(&w, w.err, MARK("+", "r-2") "one\n", sizeof MARK("+", "r-2") "one\n" - 1);
    codec_save(&carry.codec, saved, sizeof saved);
    carry_both(&carry, &w, &options);
    assert_int_equal(carry.fd_count, 2);
    for (int i = 0; i < 2; i++)
        kept[i] = dup(carry.fds[i]);
    size_t used = w.used;
    capture_free(w.capture); /* as exec ends it, but for what it still says */
    w.got[w.used = used] = '\0';
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dup2(kept[i], carry.fds[i]), carry.fds[i]);
        close(kept[i]);
    }
    w.capture = NULL;
    size_t bytes = carry.codec.used;
    codec_load(&carry.codec, saved, bytes);
    carry_both(&carry, &w, &options);
    assert_null(carry.codec.failed);
    put(&w, w.out, "rest\n", 5);
    put(&w, w.err, "two\n", 4);
    end(&w);
    assert_non_null(strstr(w.got, "|0:r-1>0000"));
    assert_non_null(strstr(w.got, "0rest|"));
    assert_non_null(strstr(w.got, "1:r-2>one+|"));
    assert_non_null(strstr(w.got, "|1:two|"));
    free(carry.fds);
}

static void what_is_no_mark_is_shown(void **state)
{
    (void)state;
    struct world w;
    static const char text[] = "\x1b_0123456789abcdee=r-1\x1b\\a\n" /* another word */
                               "\x1b_0123456789abcdef=\x1b\\b\n" /* no name */
                               "\x1b_0123456789abcdef=r 1\x1b\\c\n" /* no name either */
                               "\x1b_0123456789abcdef:r-1\x1b\\d\n\x1b_0123456789abcdef=r";
    begin(&w, 4096, (struct flow_policy){0});
    put(&w, w.err, text, sizeof text - 1);
    assert_string_equal(end(&w), "1:\\x1b_0123456789abcdee=r-1\\x1b\\a|"
                                 "1:\\x1b_0123456789abcdef=\\x1b\\b|"
                                 "1:\\x1b_0123456789abcdef=r 1\\x1b\\c|"
                                 "1:\\x1b_0123456789abcdef:r-1\\x1b\\d|"
                                 "1:\\x1b_0123456789abcdef=r-|");
}

static void any_bytes_are_cut_and_counted_alike(void **state)
{
    (void)state;
    unsigned random = 1;
    for (int round = 0; round < 200; round++) {
        struct world w;
        char bytes[2048];
        size_t newlines = 0;
        begin(&w, 256, (struct flow_policy){0});
        for (size_t i = 0; i < sizeof bytes; i++) {
            random = random * 1103515245 + 12345;
            bytes[i] = random >> 16 & 15 ? (char)(random >> 20) : '\n';
            newlines += bytes[i] == '\n';
        }
        put(&w, round & 1 ? w.out : w.err, bytes, sizeof bytes);
        assert_true(escape_is_clean(end(&w), w.used));
        assert_true(w.lines >= newlines);
    }
}

static void of_a_flood_every_line_is_told_or_counted(void **state)
{
    (void)state;
    struct world w;
    char block[32768];
    size_t sent = 0;
    const char *tail[CAPTURE_TAIL];
    begin(&w, 4096, (struct flow_policy){.lines = 10, .burst = 100});
    for (int i = 0; i < 50; i++) {
        size_t used = 0;
        while (used + 32 < sizeof block)
            used += (size_t)sprintf(block + used, "line %zu\n", sent++);
        put(&w, w.err, block, used - 3); /* the pieces end inside a line */
        put(&w, w.err, block + used - 3, 3);
    }
    assert_int_equal(capture_tail(w.capture, tail), CAPTURE_TAIL);
    sprintf(block, "line %zu", sent - 1);
    assert_string_equal(tail[CAPTURE_TAIL - 1], block); /* what it said last is there */
    sprintf(block, "line %zu", sent - CAPTURE_TAIL);
    assert_string_equal(tail[0], block);
    end(&w);
    assert_int_equal(w.lines + w.dropped, sent);
    assert_int_equal(w.lines, 100);
}

/* ---- hasupd's own output ---- */

static size_t count_lines(int fd)
{
    static char got[1 << 20];
    ssize_t len = read(fd, got, sizeof got);
    size_t lines = 0;
    for (ssize_t i = 0; i < len; i++)
        lines += got[i] == '\n';
    return lines;
}

static void told(void *context)
{
    struct sink *sink = context;
    sink->dropped = 0;
    loop_stop(sink->loop);
}

/* A pipe that others left blocking: what it does not take waits, then is dropped, counted, told. */
static void a_full_pipe_is_waited_for_without_waiting(void **state)
{
    (void)state;
    static struct sink sink = {.fd = -1, .own = -1, .room = told, .context = &sink};
    struct loop *loop = loop_new();
    const char line[] = "0123456789012345678901234567890123456789012345678901234567890123456789\n";
    int ends[2];
    size_t taken = 0, put_lines = 10000;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    sink_open(&sink, ends[1]);
    sink_attach(&sink, loop, 32768);
    for (size_t i = 0; i < put_lines; i++)
        taken += sink_put(&sink, line, sizeof line - 1, false);
    assert_true(taken > 80000 / sizeof line && taken < put_lines);
    assert_int_equal(sink.dropped, put_lines - taken);
    assert_false(sink_put(&sink, line, sizeof line - 1, true));
    sink.dropped--;
    size_t read_lines = count_lines(ends[0]);
    loop_run(loop); /* there is room: what waits leaves, and what was dropped is told */
    read_lines += count_lines(ends[0]);
    assert_int_equal(read_lines, taken);
    assert_true(sink_put(&sink, line, sizeof line - 1, false));
    close(ends[0]);
    /* nobody reads: no wait, no signal */
    assert_false(sink_put(&sink, line, sizeof line - 1, false));
    sink_end(&sink, 0);
    close(ends[1]);
    loop_free(loop);
}

/* What workers print fills half of the buffer; hasupd's own lines have the rest. */
static void bulk_leaves_room_for_what_matters(void **state)
{
    (void)state;
    static struct sink sink = {.fd = -1, .own = -1};
    struct loop *loop = loop_new();
    const char line[] = "0123456789012345678901234567890123456789012345678901234567890123456789\n";
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    sink_open(&sink, ends[1]);
    sink_attach(&sink, loop, 32768);
    for (int i = 0; i < 10000; i++)
        sink_put(&sink, line, sizeof line - 1, true);
    assert_true(sink_is_shut(&sink) && sink.dropped > 0);
    for (int i = 0; i < 100; i++)
        assert_true(sink_put(&sink, line, sizeof line - 1, false));
    sink_end(&sink, 0);
    close(ends[0]);
    close(ends[1]);
    loop_free(loop);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_whole_however_they_arrive),
        cmocka_unit_test(bytes_that_are_no_text_are_escaped),
        cmocka_unit_test(long_lines_come_in_parts_and_characters_whole),
        cmocka_unit_test(a_marked_line_has_its_request_however_it_arrives),
        cmocka_unit_test(parts_of_a_marked_line_have_its_request),
        cmocka_unit_test(what_is_no_mark_is_shown),
        cmocka_unit_test(any_bytes_are_cut_and_counted_alike),
        cmocka_unit_test(whose_a_cut_line_is_goes_along_to_another_hasupd),
        cmocka_unit_test(of_a_flood_every_line_is_told_or_counted),
        cmocka_unit_test(bulk_leaves_room_for_what_matters),
        cmocka_unit_test(a_full_pipe_is_waited_for_without_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
