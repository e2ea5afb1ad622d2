/*
 * json.c: JSON read in place.  Never goes past the end of its text, never recurses, and never takes
 * memory: what it costs is one pass over the bytes.  A number's conversion uses strtod in the C
 * locale only where a table of powers of ten is not exact.
 */
#include "ipc/json.h"

#include <locale.h>
#include <stdlib.h>

static void wrong(struct hasup_json *json, const char *what)
{
    if (!json->wrong) {
        json->wrong = what;
        json->wrong_at = (size_t)(json->at - json->start);
    }
    json->at = json->end;
}

void hasup_json_open(struct hasup_json *json, const void *bytes, size_t len)
{
    static const char nothing[] = "";
    const char *at = len ? bytes : nothing;
    *json = (struct hasup_json){.start = at, .at = at, .end = at + len};
}

static void skip_space(struct hasup_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t'))
        json->at++;
}

/* The next character that is not space; '\0' at the end. */
static char look(struct hasup_json *json)
{
    skip_space(json);
    return json->at < json->end ? *json->at : '\0';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

char hasup_json_peek(struct hasup_json *json)
{
    char c = look(json);
    if (c == '-' || is_digit(c))
        return '0';
    return c == '{' || c == '[' || c == '"' || c == 't' || c == 'f' || c == 'n' ? c : '\0';
}

bool hasup_json_enter(struct hasup_json *json, char open)
{
    if (look(json) != open)
        return false;
    json->at++;
    return true;
}

/* The comma before the next item, or the end; false: the end was passed, or something is wrong. */
static bool go_on(struct hasup_json *json, bool *first, char close)
{
    char c = look(json);
    bool begins = *first;
    *first = false;
    if (json->wrong)
        return false;
    if (c == close) {
        json->at++;
        return false;
    }
    if (begins)
        return true;
    if (c != ',') {
        wrong(json, c ? "a comma is missing" : "it ends in the middle");
        return false;
    }
    json->at++;
    if (look(json) != close)
        return true;
    wrong(json, "a comma stands before the end");
    return false;
}

bool hasup_json_item(struct hasup_json *json, bool *first)
{
    return go_on(json, first, ']');
}

bool hasup_json_member(struct hasup_json *json, bool *first, struct hasup_json_text *key)
{
    if (!go_on(json, first, '}'))
        return false;
    if (!hasup_json_string(json, key)) {
        wrong(json, json->at < json->end ? "a key is not a string" : "it ends in the middle");
        return false;
    }
    if (look(json) != ':') {
        wrong(json, "a colon is missing");
        return false;
    }
    json->at++;
    return true;
}

/* ---- strings ---- */

/* Whether eight bytes are plain text: no quote, no backslash, no control character.  May say no
 * where they are. */
static bool plain(const char *at)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t v, quote, slash;
    memcpy(&v, at, sizeof v);
    quote = v ^ 0x22 * ones;
    slash = v ^ 0x5c * ones;
    return !((((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((v - 0x20 * ones) & ~v)) &
             high);
}

static int hex(char c)
{
    if (is_digit(c))
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind a backslash: how many characters belong to it; 0: no such escape. */
static size_t escape_len(const char *at, const char *end)
{
    if (at == end)
        return 0;
    if (*at != 'u')
        return *at && strchr("\"\\/bfnrt", *at) ? 1 : 0;
    for (int i = 1; i <= 4; i++)
        if (end - at <= i || hex(at[i]) < 0)
            return 0;
    return 5;
}

bool hasup_json_string(struct hasup_json *json, struct hasup_json_text *text)
{
    if (look(json) != '"')
        return false;
    const char *at = json->at + 1, *end = json->end;
    *text = (struct hasup_json_text){.at = at};
    for (;;) {
        while (end - at >= 8 && plain(at))
            at += 8;
        if (at == end) {
            wrong(json, "a string does not end");
            return false;
        }
        if (*at == '"')
            break;
        if ((unsigned char)*at < 0x20) {
            wrong(json, "a control character stands in a string");
            return false;
        }
        if (*at++ == '\\') {
            size_t len = escape_len(at, end);
            text->escaped = true;
            at += len;
            if (!len) {
                wrong(json, "a backslash in a string begins nothing");
                return false;
            }
        }
    }
    text->len = (size_t)(at - text->at);
    json->at = at + 1;
    return true;
}

static uint32_t unit_of(const char *at)
{
    return (uint32_t)(hex(at[0]) << 12 | hex(at[1]) << 8 | hex(at[2]) << 4 | hex(at[3]));
}

/* The character that stands behind \u at `*at`; UINT32_MAX: half of a pair. */
static uint32_t character_of(const char **at, const char *end)
{
    uint32_t unit = unit_of(*at);
    *at += 4;
    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    if (unit > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return UINT32_MAX;
    uint32_t low = unit_of(*at + 2);
    if (low < 0xDC00 || low > 0xDFFF)
        return UINT32_MAX;
    *at += 6;
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
}

static size_t put_utf8(uint32_t c, char out[4])
{
    size_t more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[more] | c >> 6 * more);
    for (size_t i = 1; i <= more; i++)
        out[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3F));
    return more + 1;
}

/* The next character of a string, as UTF-8 (or the byte as it stands); its length, or 0: half of a
 * pair. */
static size_t next_character(const char **at, const char *end, char out[4])
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    out[0] = *(*at)++;
    if (out[0] != '\\')
        return 1;
    out[0] = *(*at)++;
    if (out[0] == 'u') {
        uint32_t c = character_of(at, end);
        return c == UINT32_MAX ? 0 : put_utf8(c, out);
    }
    const char *found = strchr(from, out[0]);
    if (found)
        out[0] = to[found - from];
    return 1;
}

int64_t hasup_json_decode(const struct hasup_json_text *text, char *out, size_t room)
{
    const char *at = text->at, *end = at + text->len;
    size_t used = 0;
    char piece[4];
    if (!text->escaped) {
        if (text->len > room)
            return HASUP_ETOOBIG;
        if (text->len)
            memcpy(out, at, text->len);
        return (int64_t)text->len;
    }
    while (at < end) {
        size_t len = next_character(&at, end, piece);
        if (!len)
            return HASUP_EINVAL;
        if (used + len > room)
            return HASUP_ETOOBIG;
        memcpy(out + used, piece, len);
        used += len;
    }
    return (int64_t)used;
}

bool hasup_json_is(const struct hasup_json_text *text, const char *name)
{
    const char *at = text->at, *end = at + text->len;
    char piece[4];
    size_t left = strlen(name);
    if (!text->escaped)
        return text->len == left && !memcmp(at, name, left);
    while (at < end) {
        size_t len = next_character(&at, end, piece);
        if (!len || len > left || memcmp(piece, name, len) != 0)
            return false;
        name += len;
        left -= len;
    }
    return !left;
}

/* ---- numbers and words ---- */

static const char *digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at))
        at++;
    return at;
}

bool hasup_json_number(struct hasup_json *json, struct hasup_json_text *text)
{
    if (hasup_json_peek(json) != '0')
        return false;
    const char *start = json->at, *end = json->end, *at = start + (*start == '-'), *part = at;
    at = digits(at, end);
    bool sound = at > part && (*part != '0' || at == part + 1);
    if (sound && at < end && *at == '.') {
        part = at + 1;
        at = digits(part, end);
        sound = at > part;
    }
    if (sound && at < end && (*at == 'e' || *at == 'E')) {
        part = at + 1;
        part += part < end && (*part == '+' || *part == '-');
        at = digits(part, end);
        sound = at > part;
    }
    if (!sound) {
        wrong(json, "a number is malformed");
        return false;
    }
    *text = (struct hasup_json_text){.at = start, .len = (size_t)(at - start)};
    json->at = at;
    return true;
}

static bool word(struct hasup_json *json, const char *word)
{
    size_t len = strlen(word);
    if (look(json) != *word)
        return false;
    if ((size_t)(json->end - json->at) < len || memcmp(json->at, word, len) != 0) {
        wrong(json, "a word is none of true, false and null");
        return false;
    }
    json->at += len;
    return true;
}

bool hasup_json_bool(struct hasup_json *json, bool *value)
{
    *value = word(json, "true");
    return *value || word(json, "false");
}

bool hasup_json_null(struct hasup_json *json)
{
    return word(json, "null");
}

/* 10^22 is the last power of ten that a double holds exactly, and 2^53 the last integer before it
 * holds not every one: with both inside, one multiplication or division rounds once, and is right.
 */
static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

static double slow_double(const char *at)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* the static one: no memory */
    locale_t before = c ? uselocale(c) : (locale_t)0;
    double value = strtod(at, NULL);
    if (before)
        uselocale(before);
    return value;
}

double hasup_json_double(const struct hasup_json_text *text)
{
    const char *at = text->at, *end = at + text->len;
    bool negative = *at == '-', point = false;
    uint64_t whole = 0;
    int scale = 0, count = 0, exponent = 0;
    for (at += negative; at < end && (is_digit(*at) || *at == '.'); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        whole = whole * 10 + (uint64_t)(*at - '0');
        scale -= point;
        if (whole && ++count > 18)
            return slow_double(text->at);
    }
    if (at < end) {
        bool down = at[1] == '-';
        for (at += 1 + (at[1] == '-' || at[1] == '+'); at < end && exponent < 1000; at++)
            exponent = exponent * 10 + (*at - '0');
        exponent = down ? -exponent : exponent;
    }
    exponent += scale;
    if (whole > (uint64_t)1 << 53 || exponent < -22 || exponent > 22)
        return whole ? slow_double(text->at) : negative ? -0.0 : 0.0;
    double value = (double)whole;
    value = exponent < 0 ? value / POWERS[-exponent] : value * POWERS[exponent];
    return negative ? -value : value;
}

/* The digits of an integer, without its sign. */
static int magnitude(const char *at, const char *end, uint64_t *value)
{
    *value = 0;
    for (; at < end; at++) {
        if (!is_digit(*at))
            return HASUP_EINVAL;
        uint64_t digit = (uint64_t)(*at - '0');
        if (*value > (UINT64_MAX - digit) / 10)
            return HASUP_ETOOBIG;
        *value = *value * 10 + digit;
    }
    return 0;
}

int hasup_json_uint64(const struct hasup_json_text *text, uint64_t *value)
{
    bool negative = text->at[0] == '-';
    int error = magnitude(text->at + negative, text->at + text->len, value);
    if (!error && negative && *value)
        error = HASUP_ETOOBIG;
    return error;
}

int hasup_json_int64(const struct hasup_json_text *text, int64_t *value)
{
    bool negative = text->at[0] == '-';
    uint64_t size;
    int error = magnitude(text->at + negative, text->at + text->len, &size);
    if (error)
        return error;
    if (size > (uint64_t)INT64_MAX + negative)
        return HASUP_ETOOBIG;
    *value = (int64_t)(negative ? 0 - size : size);
    return 0;
}

/* ---- skipping ---- */

/* A value that holds no others. */
static bool skip_leaf(struct hasup_json *json)
{
    struct hasup_json_text text;
    bool value;
    return hasup_json_string(json, &text) || hasup_json_number(json, &text) ||
           hasup_json_bool(json, &value) || hasup_json_null(json);
}

/* What stands open while something is skipped: a bit each, 1 for an object. */
struct nest {
    uint8_t kinds[HASUP_JSON_DEPTH / 8];
    unsigned depth;
};

static bool nest_open(struct nest *nest, bool object)
{
    if (nest->depth == HASUP_JSON_DEPTH)
        return false;
    uint8_t bit = (uint8_t)(1 << nest->depth % 8), *byte = &nest->kinds[nest->depth / 8];
    *byte = (uint8_t)(object ? *byte | bit : *byte & ~bit);
    nest->depth++;
    return true;
}

static bool nest_is_object(const struct nest *nest)
{
    unsigned top = nest->depth - 1;
    return nest->kinds[top / 8] >> top % 8 & 1;
}

void hasup_json_skip(struct hasup_json *json)
{
    struct nest nest = {.depth = 0};
    struct hasup_json_text key;
    do {
        char c = look(json);
        bool first = c == '{' || c == '[';
        if (first) {
            json->at++;
            if (!nest_open(&nest, c == '{')) {
                wrong(json, "it is nested too deep");
                return;
            }
        } else if (!skip_leaf(json)) {
            wrong(json, json->at < json->end ? "a value is missing" : "it ends in the middle");
            return;
        }
        while (nest.depth && !(nest_is_object(&nest) ? hasup_json_member(json, &first, &key)
                                                     : hasup_json_item(json, &first))) {
            if (json->wrong)
                return;
            nest.depth--;
            first = false;
        }
    } while (nest.depth);
}

bool hasup_json_ended(struct hasup_json *json)
{
    if (!json->wrong && look(json))
        wrong(json, "something stands behind its end");
    if (!json->wrong && json->at != json->end)
        wrong(json, "something stands behind its end"); /* a zero byte */
    return !json->wrong;
}
