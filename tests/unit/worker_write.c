/* JSON that the SDK's helpers write: numbers are read back as the same ones, and no text
 * breaks out of its string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/splitmix.h"
#include "worker/write.h"

enum { NUMBERS = 200000 };

static struct hasup_writer writer;

static const char *written(void)
{
    hasup_write(&writer, "", 1);
    assert_false(writer.failed);
    writer.bytes.len = 0;
    return (const char *)writer.bytes.at;
}

static int close_writer(void **state)
{
    (void)state;
    free(writer.bytes.at);
    return 0;
}

static const char *float_text(float number)
{
    hasup_write_float(&writer, number);
    return written();
}

static const char *double_text(double number)
{
    hasup_write_double(&writer, number);
    return written();
}

static void numbers_are_short(void **state)
{
    (void)state;
    assert_string_equal(float_text(0), "0.0");
    assert_string_equal(float_text(-0.0f), "-0.0");
    assert_string_equal(float_text(1), "1.0");
    assert_string_equal(float_text(-2.5f), "-2.5");
    assert_string_equal(float_text(0.1f), "0.1");
    assert_string_equal(float_text(0.3333333433f), "0.33333334");
    assert_string_equal(float_text(0.001f), "0.001");
    assert_string_equal(float_text(123456.78f), "123456.78");
    assert_string_equal(float_text(3.4028235e38f), "3.4028235e+38");
    assert_string_equal(double_text(0.1), "0.1");
    assert_string_equal(double_text(0.30000000000000004), "0.30000000000000004");
    assert_string_equal(double_text(1e300), "1e+300");
    assert_string_equal(double_text(999999.5), "999999.5");
}

/* Any bits, and numbers as people write them. */
static void numbers_are_read_back_as_the_same(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int i = 0; i < NUMBERS; i++) {
        uint64_t bits = splitmix(&seed);
        uint32_t half = (uint32_t)bits;
        double d, place = pow(10, (double)(bits % 12));
        float f;
        memcpy(&d, &bits, sizeof d);
        memcpy(&f, &half, sizeof f);
        if (i % 2) {
            d = (double)(int32_t)bits / place;
            f = (float)d;
        }
        if (isfinite(d) && strtod(double_text(d), NULL) != d)
            fail_msg("%.17g is written as %s", d, double_text(d));
        if (isfinite(f) && strtof(float_text(f), NULL) != f)
            fail_msg("%.9g is written as %s", (double)f, float_text(f));
        if (isfinite(f) && (float)strtod(float_text(f), NULL) != f)
            fail_msg("%.9g is written as %s", (double)f, float_text(f));
        assert_true(strlen(double_text(isfinite(d) ? d : 0)) < 32);
    }
}

static void integers_are_whole(void **state)
{
    (void)state;
    hasup_write_int64(&writer, INT64_MIN);
    assert_string_equal(written(), "-9223372036854775808");
    hasup_write_uint64(&writer, UINT64_MAX);
    assert_string_equal(written(), "18446744073709551615");
}

/* Whatever bytes: it is JSON, and UTF-8 in it comes back unchanged. */
static void texts_stay_in_their_strings(void **state)
{
    static const char *const good[] = {"", "a\"\\/\b\f\n\r\t\x01\x1f\x7f",
                                       "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                                       "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf0\x80\x80\x80",
                                      "\xff",
                                      "a\xe2\x82"};
    uint64_t seed = 3;
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(good); i++) {
        hasup_write_string(&writer, good[i]);
        json_t *text = json_loads(written(), JSON_DECODE_ANY, NULL);
        assert_string_equal(json_string_value(text), good[i]);
        json_decref(text);
    }
    for (size_t i = 0; i < HASUP_LEN(bad); i++) {
        hasup_write_string(&writer, bad[i]);
        json_t *text = json_loads(written(), JSON_DECODE_ANY, NULL);
        assert_non_null(strstr(json_string_value(text), "\xef\xbf\xbd"));
        json_decref(text);
    }
    for (int i = 0; i < NUMBERS / 10; i++) {
        char bytes[17];
        size_t len = (size_t)(splitmix(&seed) % sizeof bytes);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (char)splitmix(&seed);
        hasup_write_text(&writer, "\"");
        hasup_write_escaped(&writer, bytes, len);
        hasup_write_text(&writer, "\"");
        json_t *text = json_loads(written(), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_true(json_is_string(text));
        json_decref(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_short),
        cmocka_unit_test(numbers_are_read_back_as_the_same),
        cmocka_unit_test(integers_are_whole),
        cmocka_unit_test(texts_stay_in_their_strings),
    };
    return cmocka_run_group_tests(tests, NULL, close_writer);
}
