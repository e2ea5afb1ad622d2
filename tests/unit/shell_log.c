/* A log line is readable, exact, never forged by what it quotes, and never blocks hasupd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/log.h"

static const int64_t noon_ns = 1764000896789 * HASUP_MS; /* 2025-11-24T16:14:56.789Z */

static size_t read_some(int fd, char *out, size_t room)
{
    ssize_t got = read(fd, out, room - 1);
    size_t len = got > 0 ? (size_t)got : 0;
    out[len] = '\0';
    return len;
}

static void entry_gives(enum log_format format, const struct log_entry *entry, const char *line)
{
    int ends[2];
    char got[8192];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    log_init(ends[1], LEVEL_DEBUG, format);
    log_entry_write(entry);
    read_some(ends[0], got, sizeof(got));
    assert_string_equal(got, line);
    log_init(-1, LEVEL_INFO, FORMAT_TEXT);
    close(ends[0]);
    close(ends[1]);
}

static void a_text_line_reads_well(void **state)
{
    (void)state;
    struct log_field fields[] = {LOG_TEXT("slot", "digits/0"),    LOG_INT("pid", 123),
                                 LOG_NS("delay", 250 * HASUP_MS), LOG_TEXT("why", "two words"),
                                 LOG_TEXT(NULL, "left out"),      LOG_NS("run", 90 * HASUP_S),
                                 LOG_TEXT("none", NULL),          LOG_NS("zero", 0),
                                 LOG_TRUE("cut")};
    struct log_entry entry = {LEVEL_INFO, "slot.ready", "ready after 12ms",
                              noon_ns,    fields,       HASUP_LEN(fields)};
    entry_gives(FORMAT_TEXT, &entry,
                "16:14:56.789 INFO  slot.ready digits/0 ready after 12ms pid=123 delay=250ms "
                "why=\"two words\" run=1.5m none=- zero=0ns cut=true\n");
}

static void a_json_line_is_one_object(void **state)
{
    (void)state;
    struct log_field fields[] = {LOG_TEXT("slot", "digits/0"), LOG_INT("pid", -5),
                                 LOG_NS("delay", 250 * HASUP_MS), LOG_TEXT("none", NULL),
                                 LOG_TRUE("more"), LOG_TRUE(NULL)};
    struct log_entry entry = {LEVEL_WARNING, "slot.exited", "killed by \"9\"",
                              noon_ns,       fields,        HASUP_LEN(fields)};
    entry_gives(FORMAT_AUTO, &entry,
                "{\"time\":\"2025-11-24T16:14:56.789Z\",\"level\":\"warning\","
                "\"event\":\"slot.exited\",\"message\":\"killed by \\\"9\\\"\","
                "\"slot\":\"digits/0\",\"pid\":-5,\"delay_ns\":250000000,\"none\":null,"
                "\"more\":true}\n");
}

/* Every byte, alone and after a lead byte, gives JSON that a strict parser takes. */
static void any_bytes_give_valid_json(void **state)
{
    (void)state;
    char out[512], text[4] = {0};
    struct log_field field = LOG_TEXT("t", text);
    struct log_entry entry = {LEVEL_ERROR, "e", NULL, noon_ns, &field, 1};
    for (unsigned first = 1; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            text[0] = (char)first;
            text[1] = (char)second;
            text[2] = second ? 'x' : '\0';
            size_t len = log_entry_json(&entry, out, sizeof(out));
            json_t *json = json_loadb(out, len, JSON_REJECT_DUPLICATES, NULL);
            assert_non_null(json);
            assert_non_null(json_string_value(json_object_get(json, "t")));
            json_decref(json);
        }
    }
}

static void escaping_is_exact(void **state)
{
    (void)state;
    static const struct {
        const char *text, *escaped;
    } cases[] = {
        {"\"\\/\b\f\n\r\t", "\\\"\\\\/\\b\\f\\n\\r\\t"},
        {"\x01\x1f\x7f", "\\u0001\\u001f\\u007f"},
        {"\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xbc \xe2\x82\xac \xf0\x9f\x98\x80"},
        {"\xc2\x9b", "\\u009b"},                                  /* a terminal's CSI */
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* overlong */
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* surrogate */
        {"a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd"},               /* cut short */
        {"\xff", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < HASUP_LEN(cases); i++) {
        char out[512], wanted[512];
        struct log_field field = LOG_TEXT("t", cases[i].text);
        struct log_entry entry = {LEVEL_INFO, "e", NULL, 0, &field, 1};
        log_entry_json(&entry, out, sizeof(out));
        snprintf(wanted, sizeof(wanted),
                 "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"event\":\"e\","
                 "\"t\":\"%s\"}",
                 cases[i].escaped);
        assert_string_equal(out, wanted);
    }
}

static void text_cannot_forge_a_line(void **state)
{
    (void)state;
    struct log_field field = LOG_TEXT("line", "x\n12:00:00 ERROR \033[2J");
    struct log_entry entry = {LEVEL_INFO, "worker.stderr", "a\nb", noon_ns, &field, 1};
    entry_gives(FORMAT_TEXT, &entry,
                "16:14:56.789 INFO  worker.stderr a\\nb "
                "line=\"x\\n12:00:00 ERROR \\u001b[2J\"\n");
}

/* At every size of the buffer: valid JSON that fits, or nothing at all. */
static void a_cut_entry_is_still_an_object(void **state)
{
    (void)state;
    struct log_field fields[] = {LOG_TEXT("a", "\xe2\x82\xac\xe2\x82\xac"), LOG_INT("b", 12345),
                                 LOG_TEXT("c", "\n\n\n\n")};
    struct log_entry entry = {LEVEL_INFO, "e",    "a message \xe2\x82\xac that is cut",
                              noon_ns,    fields, HASUP_LEN(fields)};
    char whole[512];
    size_t full = log_entry_json(&entry, whole, sizeof(whole));
    assert_null(strstr(whole, "truncated"));
    for (size_t room = 0; room < full + 40; room++) {
        char *out = malloc(room + 1);
        assert_non_null(out);
        out[room] = '!';
        size_t len = log_entry_json(&entry, out, room);
        assert_int_equal(out[room], '!');
        assert_true(room == 0 || len < room);
        if (len > 0) {
            json_t *json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
            assert_non_null(json);
            assert_int_equal(strcmp(out, whole) != 0,
                             json_is_true(json_object_get(json, "truncated")));
            json_decref(json);
        }
        free(out);
    }
}

static void a_full_pipe_drops_lines_and_says_how_many(void **state)
{
    (void)state;
    int ends[2];
    static char got[1 << 20];
    struct log_field field = LOG_INT("n", 1);
    struct log_entry entry = {LEVEL_INFO, "e", NULL, noon_ns, &field, 1};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0); /* blocking: a write to a full one would hang */
    assert_true(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    log_init(ends[1], LEVEL_INFO, FORMAT_JSON);
    for (int i = 0; i < 2000; i++)
        log_entry_write(&entry);
    size_t len = read_some(ends[0], got, sizeof(got)), lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += got[i] == '\n';
    assert_true(lines > 0 && lines < 2000);

    char wanted[64];
    log_entry_write(&entry);
    read_some(ends[0], got, sizeof(got));
    assert_non_null(strstr(got, "\"event\":\"log.dropped\""));
    snprintf(wanted, sizeof(wanted), "\"lines\":%zu}", 2000 - lines);
    assert_non_null(strstr(got, wanted));
    assert_non_null(strstr(got, "\"event\":\"e\""));
    log_entry_write(&entry);
    read_some(ends[0], got, sizeof(got));
    assert_null(strstr(got, "log.dropped"));
    close(ends[0]);
    close(ends[1]);
    log_init(-1, LEVEL_INFO, FORMAT_TEXT);
}

static void a_full_socket_does_not_block(void **state)
{
    (void)state;
    int ends[2];
    struct log_field field = LOG_INT("n", 1);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    log_init(ends[1], LEVEL_INFO, FORMAT_JSON);
    for (int i = 0; i < 5000; i++)
        log_event(LEVEL_INFO, "e", NULL, &field, 1);
    close(ends[0]);
    log_event(LEVEL_INFO, "e", NULL, &field, 1); /* no SIGPIPE either */
    close(ends[1]);
    log_init(-1, LEVEL_INFO, FORMAT_TEXT);
}

static void count_entry(void *context, const struct log_entry *entry)
{
    (void)entry;
    ++*(int *)context;
}

static void a_tap_sees_what_the_level_hides(void **state)
{
    (void)state;
    int seen = 0, ends[2];
    char got[256];
    assert_int_equal(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    log_init(ends[1], LEVEL_ERROR, FORMAT_TEXT);
    log_tap(count_entry, &seen);
    LOG_EVENT(LEVEL_DEBUG, "e", NULL, LOG_INT("n", 1));
    log_tap(NULL, NULL);
    LOG_EVENT(LEVEL_DEBUG, "e", NULL, LOG_INT("n", 1));
    assert_int_equal(seen, 1);
    assert_int_equal(read_some(ends[0], got, sizeof(got)), 0);
    assert_string_equal(log_level_name(LEVEL_WARNING), "warning");
    close(ends[0]);
    close(ends[1]);
    log_init(-1, LEVEL_INFO, FORMAT_TEXT);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    tzset();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_line_reads_well),
        cmocka_unit_test(a_json_line_is_one_object),
        cmocka_unit_test(any_bytes_give_valid_json),
        cmocka_unit_test(escaping_is_exact),
        cmocka_unit_test(text_cannot_forge_a_line),
        cmocka_unit_test(a_cut_entry_is_still_an_object),
        cmocka_unit_test(a_full_pipe_drops_lines_and_says_how_many),
        cmocka_unit_test(a_full_socket_does_not_block),
        cmocka_unit_test(a_tap_sees_what_the_level_hides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
