/*
 * write.c: JSON written.  Must be exact: a number is read back as the same one, whatever the locale
 * of the model's process is, and no text can break out of its string.
 */
#include "worker/write.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

void hasup_write(struct hasup_writer *w, const void *bytes, size_t len)
{
    uint8_t *room = len && !w->failed ? hasup_bytes_room(&w->bytes, len) : NULL;
    if (room)
        memcpy(room, bytes, len);
    else if (len)
        w->failed = true;
}

void hasup_write_text(struct hasup_writer *w, const char *text)
{
    hasup_write(w, text, strlen(text));
}

size_t hasup_utf8_len(const uint8_t *at, size_t len)
{
    size_t more = *at < 0x80 ? 0 : *at >= 0xC2 && *at < 0xE0 ? 1 : *at < 0xF0 ? 2 : 3;
    uint8_t low = *at == 0xE0 ? 0xA0 : *at == 0xF0 ? 0x90 : 0x80;
    uint8_t high = *at == 0xED ? 0x9F : *at == 0xF4 ? 0x8F : 0xBF;
    if ((*at >= 0x80 && *at < 0xC2) || *at > 0xF4 || len <= more)
        return 0;
    if (more && (at[1] < low || at[1] > high))
        return 0;
    for (size_t i = 2; i <= more; i++)
        if (at[i] < 0x80 || at[i] > 0xBF)
            return 0;
    return more + 1;
}

static void write_control(struct hasup_writer *w, uint8_t c)
{
    static const char names[] = "btn\vfr"; /* from 8 on */
    char text[8];
    bool named = c >= 8 && c <= 13 && c != 11;
    int len = named ? snprintf(text, sizeof text, "\\%c", names[c - 8])
                    : snprintf(text, sizeof text, "\\u%04x", c);
    hasup_write(w, text, (size_t)len);
}

void hasup_write_escaped(struct hasup_writer *w, const char *text, size_t len)
{
    const uint8_t *at = (const uint8_t *)text, *from = at;
    const uint8_t *end = len ? at + len : at;
    while (at < end) {
        size_t step = hasup_utf8_len(at, (size_t)(end - at));
        if (step && *at >= 0x20 && *at != '"' && *at != '\\') {
            at += step;
            continue;
        }
        hasup_write(w, from, (size_t)(at - from));
        if (!step)
            hasup_write_text(w, "\xef\xbf\xbd");
        else if (*at < 0x20)
            write_control(w, *at);
        else
            hasup_write(w, (const char[]){'\\', (char)*at}, 2);
        from = ++at;
    }
    hasup_write(w, from, (size_t)(at - from));
}

void hasup_write_string(struct hasup_writer *w, const char *text)
{
    hasup_write(w, "\"", 1);
    hasup_write_escaped(w, text, strlen(text));
    hasup_write(w, "\"", 1);
}

void hasup_write_uint64(struct hasup_writer *w, uint64_t number)
{
    char digits[20];
    size_t i = sizeof digits;
    do
        digits[--i] = (char)('0' + number % 10);
    while (number /= 10);
    hasup_write(w, digits + i, sizeof digits - i);
}

void hasup_write_int64(struct hasup_writer *w, int64_t number)
{
    if (number < 0)
        hasup_write(w, "-", 1);
    hasup_write_uint64(w, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

/* Whether a number that was rounded to double would be another float if it were rounded at once: it
 * stands exactly between two. */
static bool is_between_floats(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x1FFFFFFF) == 0x10000000;
}

static void put_decimal(struct hasup_writer *w, uint64_t number, int behind_point)
{
    char text[24], *end = text + sizeof text, *at = end;
    for (int i = 0; number || i <= behind_point; i++) {
        if (i && i == behind_point)
            *--at = '.';
        *--at = (char)('0' + number % 10);
        number /= 10;
    }
    hasup_write(w, at, (size_t)(end - at));
}

/* The common case, without printf: a number of not too many places behind the point.  An integer
 * and a power of ten that a double holds exactly are divided with one rounding, as a reader rounds.
 */
static bool write_decimal(struct hasup_writer *w, double number, bool single)
{
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10};
    double size = number < 0 ? -number : number;
    if (size < 1e-3 || size > 1e6)
        return false;
    for (int places = 1; places < (int)HASUP_LEN(powers); places++) {
        double scaled = size * powers[places];
        uint64_t whole = (uint64_t)(scaled + 0.5);
        double back = (double)whole / powers[places];
        if (whole > (single ? (uint64_t)1e9 : (uint64_t)1 << 53))
            return false;
        if (single ? (float)back != (float)size || is_between_floats(back) : back != size)
            continue;
        if (number < 0)
            hasup_write(w, "-", 1);
        put_decimal(w, whole, places);
        return true;
    }
    return false;
}

/* Tries more and more digits; the last always suffice. */
static void write_shortest(struct hasup_writer *w, double number, bool single)
{
    char text[40];
    int len = 0;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0); /* the static one: no memory */
    locale_t before = c ? uselocale(c) : (locale_t)0;
    for (int digits = single ? 6 : 15, most = single ? 9 : 17; digits <= most; digits++) {
        len = snprintf(text, sizeof text, "%.*g", digits, number);
        if (single ? strtof(text, NULL) == (float)number : strtod(text, NULL) == number)
            break;
    }
    if (before)
        uselocale(before);
    hasup_write(w, text, (size_t)len);
}

static void write_number(struct hasup_writer *w, double number, bool single)
{
    /* Small integers are many, and exact: without printf. */
    if (number > -1e6 && number < 1e6 && number == (double)(int64_t)number) {
        if (number == 0 && 1 / number < 0)
            hasup_write_text(w, "-");
        hasup_write_int64(w, (int64_t)number);
        hasup_write_text(w, ".0");
    } else if (!write_decimal(w, number, single)) {
        write_shortest(w, number, single);
    }
}

void hasup_write_float(struct hasup_writer *w, float number)
{
    write_number(w, (double)number, true);
}

void hasup_write_double(struct hasup_writer *w, double number)
{
    write_number(w, number, false);
}
