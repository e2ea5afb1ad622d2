/*
 * JSON read in place says what another parser says: the same values, the same refusals.  Jansson is
 * that other one, over texts that a seeded generator damages; HASUP_FUZZ_SEED and HASUP_FUZZ_ROUNDS
 * choose others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ipc/json.h"
#include "tests/unit/splitmix.h"

enum { ROUNDS = 60000, TEXT_MAX = 2048 };

/* On the heap and of exactly that length, so that the sanitizers see a read beyond it. */
static char *exact(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

/* Whether the whole text is one value. */
static bool sound(const char *text, size_t len)
{
    struct hasup_json json;
    char *copy = exact(text, len);
    hasup_json_open(&json, copy, len);
    hasup_json_skip(&json);
    bool ended = hasup_json_ended(&json);
    assert_true(ended || json.wrong);
    assert_true(ended || json.wrong_at <= len);
    free(copy);
    return ended;
}

static void what_is_json_and_what_is_not(void **state)
{
    static const char *const good[] = {"{}",
                                       "[]",
                                       " [ ] ",
                                       "0",
                                       "-0",
                                       "1.5e-3",
                                       "1E+9",
                                       "true",
                                       "false",
                                       "null",
                                       "\"\"",
                                       "\"\\u00e9\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
                                       "{\"a\":{\"b\":[1,2,{}]},\"c\":null}",
                                       "[[[]],[{}]]",
                                       "\n{\t\"a\" : 1 ,\r\"a\" : 2 }"};
    static const char *const bad[] = {
        "",           " ",          "{",      "}",       "[",         "]",
        "[1",         "[1,",        "[1,]",   "[,1]",    "[1 2]",     "{\"a\"}",
        "{\"a\":}",   "{\"a\":1,}", "{a:1}",  "{1:1}",   "{\"a\" 1}", "01",
        "1.",         ".5",         "-",      "1e",      "1e+",       "+1",
        "0x10",       "tru",        "truee",  "nul",     "True",      "NaN",
        "Infinity",   "\"",         "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
        "\"\n\"",     "\"\t\"",     "{} {}",  "1 2",     "[}",        "{]",
        "{\"a\":[}]", "'a'",        "//",     "[1]]"};
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(good); i++)
        if (!sound(good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < HASUP_LEN(bad); i++)
        if (sound(bad[i], strlen(bad[i])))
            fail_msg("taken: %s", bad[i]);
    assert_false(sound("{}\0", 3));
    assert_false(sound("\"a\0b\"", 5));
}

static void depth_is_bounded(void **state)
{
    char text[2 * HASUP_JSON_DEPTH + 4];
    (void)state;
    for (int depth = HASUP_JSON_DEPTH; depth <= HASUP_JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(sound(text, 2 * (size_t)depth), depth == HASUP_JSON_DEPTH);
    }
}

static void strings_are_decoded(void **state)
{
    static const struct {
        const char *text, *says;
        int64_t len;
    } cases[] = {
        {"\"model\"", "model", 5},
        {"\"mod\\u0065l\"", "model", 5},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4},
        {"\"\\u20ac\\u00e9\"", "\xe2\x82\xac\xc3\xa9", 5},
        {"\"a\\n\\\"\\\\\\/\"", "a\n\"\\/", 5},
        {"\"\\ud83d\"", NULL, HASUP_EINVAL},
        {"\"\\ud83dx\"", NULL, HASUP_EINVAL},
        {"\"\\ude00\"", NULL, HASUP_EINVAL},
        {"\"\\ud83d\\u0041\"", NULL, HASUP_EINVAL},
        {"\"123456789\"", NULL, HASUP_ETOOBIG},
        {"\"12345678\\n\"", NULL, HASUP_ETOOBIG},
    };
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(cases); i++) {
        struct hasup_json json;
        struct hasup_json_text text;
        char out[8];
        hasup_json_open(&json, cases[i].text, strlen(cases[i].text));
        assert_true(hasup_json_string(&json, &text));
        assert_int_equal(hasup_json_decode(&text, out, sizeof out), cases[i].len);
        if (cases[i].says)
            assert_memory_equal(out, cases[i].says, (size_t)cases[i].len);
        assert_int_equal(hasup_json_is(&text, "model"), i < 2);
    }
}

static struct hasup_json_text number_of(const char *text)
{
    struct hasup_json json;
    struct hasup_json_text number;
    hasup_json_open(&json, text, strlen(text));
    assert_true(hasup_json_number(&json, &number));
    return number;
}

static int64_t i64;
static uint64_t u64;

static int int_of(const char *text)
{
    struct hasup_json_text number = number_of(text);
    return hasup_json_int64(&number, &i64);
}

static int uint_of(const char *text)
{
    struct hasup_json_text number = number_of(text);
    return hasup_json_uint64(&number, &u64);
}

static void numbers_are_exact(void **state)
{
    static const char *const texts[] = {"0",
                                        "-0",
                                        "1",
                                        "-1.5",
                                        "0.1",
                                        "123456789012345678",
                                        "9007199254740993",
                                        "1e22",
                                        "1e23",
                                        "1e-22",
                                        "1e-23",
                                        "4.9e-324",
                                        "2.2250738585072014e-308",
                                        "1.7976931348623157e308",
                                        "1e400",
                                        "-1e400",
                                        "1e-400",
                                        "0.000000000000000000000000000001",
                                        "179769313486231570000000000000000000000",
                                        "0e999999999999",
                                        "3.4028236e38",
                                        "16777217.0000000001",
                                        "1e00000000000000000000001"};
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(texts); i++) {
        struct hasup_json_text number = number_of(texts[i]);
        double want = strtod(texts[i], NULL), is = hasup_json_double(&number);
        if (memcmp(&want, &is, sizeof is) != 0)
            fail_msg("%s is %.17g", texts[i], is);
    }
    assert_int_equal(int_of("-9223372036854775808"), 0);
    assert_true(i64 == INT64_MIN);
    assert_int_equal(int_of("9223372036854775807"), 0);
    assert_true(i64 == INT64_MAX);
    assert_int_equal(int_of("9223372036854775808"), HASUP_ETOOBIG);
    assert_int_equal(int_of("-9223372036854775809"), HASUP_ETOOBIG);
    assert_int_equal(int_of("1.0"), HASUP_EINVAL);
    assert_int_equal(int_of("1e2"), HASUP_EINVAL);
    assert_int_equal(uint_of("18446744073709551615"), 0);
    assert_true(u64 == UINT64_MAX);
    assert_int_equal(uint_of("18446744073709551616"), HASUP_ETOOBIG);
    assert_int_equal(uint_of("-1"), HASUP_ETOOBIG);
    assert_int_equal(uint_of("-0"), 0);
}

/* ---- beside another parser ---- */

static uint64_t seed;

static size_t below(size_t n)
{
    return (size_t)(splitmix(&seed) % n);
}

static const char *const seeds[] = {
    "{\"model\": \"textgen\", \"messages\": [{\"role\": \"user\", \"content\": "
    "\"a\\n\\\"b\\u00e9\"}], \"n\": 1}",
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1.5,-2e-3],[0,4]"
    "]}],\"id\":null}",
    "{\"stream\":true,\"mod\\u0065l\":\"\\ud83d\\ude00\",\"x\":{\"y\":{\"z\":[[],{}]}}}",
    "[true,false,null,-1,1e5,\"\",{\"\":\"\"}]",
};

static size_t damage(char *text, size_t len)
{
    static const char marks[] = "{}[]\",:\\u0e.-+tfn \n";
    for (size_t i = below(4); i && len > 1; i--) {
        size_t at = below(len), rest = len - at;
        switch (below(5)) {
        case 0: text[at] = marks[below(sizeof marks - 1)]; break;
        case 1: text[at] = (char)splitmix(&seed); break;
        case 2: memmove(text + at, text + at + 1, rest - 1), len--; break;
        case 3: len = at + 1; break;
        case 4: /* a part twice */
            if (len + rest < TEXT_MAX)
                memmove(text + at + rest, text + at, rest), len += rest;
            break;
        }
    }
    return len;
}

/* The same value in both, read by the functions that readers use. */
static void compare(struct hasup_json *json, const json_t *value)
{
    struct hasup_json_text text;
    char out[TEXT_MAX];
    bool is;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        assert_true(hasup_json_enter(json, '{'));
        for (bool first = true; hasup_json_member(json, &first, &text);) {
            int64_t len = hasup_json_decode(&text, out, sizeof out - 1);
            assert_true(len >= 0);
            out[len] = '\0';
            assert_true(hasup_json_is(&text, out));
            assert_non_null(json_object_get(value, out));
            compare(json, json_object_get(value, out));
        }
        break;
    case JSON_ARRAY: {
        size_t count = 0;
        assert_true(hasup_json_enter(json, '['));
        for (bool first = true; hasup_json_item(json, &first); count++)
            compare(json, json_array_get(value, count));
        assert_int_equal(count, json_array_size(value));
        break;
    }
    case JSON_STRING:
        assert_true(hasup_json_string(json, &text));
        assert_int_equal(hasup_json_decode(&text, out, sizeof out), json_string_length(value));
        assert_memory_equal(out, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER: {
        int64_t number;
        assert_true(hasup_json_number(json, &text));
        assert_int_equal(hasup_json_int64(&text, &number), 0);
        assert_true(number == json_integer_value(value));
        break;
    }
    case JSON_REAL:
        assert_true(hasup_json_number(json, &text));
        assert_true(hasup_json_double(&text) == json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        assert_true(hasup_json_bool(json, &is));
        assert_int_equal(is, json_is_true(value));
        break;
    case JSON_NULL: assert_true(hasup_json_null(json)); break;
    }
}

/* What only jansson refuses: it wants UTF-8, no zero in a string, numbers that fit. */
static bool its_own_refusal(const json_error_t *why)
{
    enum json_error_code code = json_error_code(why);
    return code == json_error_invalid_utf8 || code == json_error_null_character ||
           code == json_error_null_byte_in_key || code == json_error_numeric_overflow ||
           code == json_error_duplicate_key || strstr(why->text, "Unicode") != NULL;
}

static void it_reads_what_another_parser_reads(void **state)
{
    const char *text = getenv("HASUP_FUZZ_SEED"), *count = getenv("HASUP_FUZZ_ROUNDS");
    uint64_t first = text ? strtoull(text, NULL, 0) : 0x6a736f6e;
    long rounds = count ? atol(count) : ROUNDS, taken = 0;
    (void)state;
    for (long i = 0; i < rounds; i++) {
        char bytes[TEXT_MAX];
        json_error_t why;
        seed = first + (uint64_t)i;
        const char *from = seeds[below(HASUP_LEN(seeds))];
        size_t len = strlen(from);
        memcpy(bytes, from, len);
        len = damage(bytes, len);
        json_t *value = json_loadb(bytes, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
        bool good = sound(bytes, len);
        if (value ? !good : good && !its_own_refusal(&why))
            fail_msg("HASUP_FUZZ_SEED=%llu: %.*s: %s", (unsigned long long)(first + (uint64_t)i),
                     (int)len, bytes, value ? "refused" : why.text);
        if (value) {
            struct hasup_json json;
            char *copy = exact(bytes, len);
            hasup_json_open(&json, copy, len);
            compare(&json, value);
            assert_true(hasup_json_ended(&json));
            free(copy);
            taken++;
        }
        json_decref(value);
    }
    assert_true(taken > rounds / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_json_and_what_is_not),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(it_reads_what_another_parser_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
