/*
 * escape.h: bytes that somebody else wrote, made text that can be shown, logged and put into JSON.
 */
#ifndef HASUP_SUPERVISOR_ESCAPE_H
#define HASUP_SUPERVISOR_ESCAPE_H

#include "ipc/base.h"

/* The length of the UTF-8 character at `s`, or 0 where there is none (RFC 3629: no surrogates, no
 * overlong form, nothing above U+10FFFF).  `s` ends with a NUL or another byte that continues no
 * character. */
size_t escape_utf8(const unsigned char *s);

/* Whether it is UTF-8 without control characters, but tabs.  text[len] is NUL, here and below. */
bool escape_is_clean(const char *text, size_t len);
/* With what is not so as \xHH; malloc'ed, *out its length; NULL: no memory. */
char *escape_bytes(const char *text, size_t len, size_t *out);
/* How much of a text that is cut at `len` (> 4) is whole characters, as far as one can tell. */
size_t escape_whole(const char *text, size_t len);

#endif
