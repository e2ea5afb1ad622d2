/*
 * escape.c: UTF-8 told from other bytes, and those made visible.  Owns nothing, and decides nothing
 * about where a text goes.
 */
#include "supervisor/escape.h"

#include <stdlib.h>

size_t escape_utf8(const unsigned char *s)
{
    static const struct {
        unsigned char from, to, second_from, second_to, length;
    } rows[] = {
        {0x01, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < HASUP_LEN(rows); i++) {
        if (s[0] < rows[i].from || s[0] > rows[i].to)
            continue;
        if (rows[i].length > 1 && (s[1] < rows[i].second_from || s[1] > rows[i].second_to))
            return 0;
        for (size_t k = 2; k < rows[i].length; k++)
            if (s[k] < 0x80 || s[k] > 0xbf)
                return 0;
        return rows[i].length;
    }
    return 0;
}

/* The length of a character that may be shown; 0: it may not. */
static size_t shown(const unsigned char *s)
{
    size_t length = escape_utf8(s);
    bool control = (*s < ' ' && *s != '\t') || *s == 0x7f ||
                   (length == 2 && s[0] == 0xc2 && s[1] < 0xa0); /* U+0080 to U+009F */
    return control ? 0 : length;
}

bool escape_is_clean(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < len;) {
        if (s[i] >= ' ' && s[i] < 0x7f) {
            i++;
            continue;
        }
        size_t length = shown(s + i);
        if (!length)
            return false;
        i += length;
    }
    return true;
}

char *escape_bytes(const char *text, size_t len, size_t *out)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)text;
    char *escaped = malloc(len * 4 + 1);
    *out = 0;
    for (size_t i = 0; escaped && i < len;) {
        size_t length = shown(s + i);
        if (length) {
            memcpy(escaped + *out, s + i, length);
            *out += length;
            i += length;
            continue;
        }
        const char hex[] = {'\\', 'x', digits[s[i] >> 4], digits[s[i] & 15]};
        memcpy(escaped + *out, hex, sizeof hex);
        *out += sizeof hex;
        i++;
    }
    if (escaped)
        escaped[*out] = '\0';
    return escaped;
}

size_t escape_whole(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back < len; back++) {
        unsigned char c = s[len - back];
        if ((c & 0xc0) == 0x80)
            continue;
        size_t wants = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return wants > back ? len - back : len;
    }
    return len;
}
