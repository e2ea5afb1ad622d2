/*
 * mark.c: see mark.h.  ESC _ WORD = NAME ESC \, or with + for =.  A terminal passes it over (it is
 * an application program command), should it ever come to one.  Owns nothing.
 */
#include "supervisor/mark.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { ESC = 0x1b, HEAD = 2 /* ESC _ */, MARK_MAX = HEAD + MARK_WORD + 1 + MARK_NAME + 2 };
enum match { NONE, BEGUN /* what comes may complete it */, WHOLE };

void mark_word(char word[MARK_WORD + 1])
{
    uint64_t random;
    word[0] = '\0';
    if (getrandom(&random, sizeof random, 0) == sizeof random)
        snprintf(word, MARK_WORD + 1, "%016llx", (unsigned long long)random);
}

/* Whether one stands, or begins, right here. */
static enum match match(const char *word, const char *text, size_t len, struct mark *mark)
{
    const size_t word_len = strlen(word), kind = HEAD + word_len;
    if (text[0] != ESC || (len > 1 && text[1] != '_'))
        return NONE;
    if (len > HEAD && memcmp(text + HEAD, word, len < kind ? len - HEAD : word_len) != 0)
        return NONE;
    if (len <= kind)
        return BEGUN;
    size_t end = mark->name = kind + 1;
    while (end < len && text[end] > ' ' && text[end] <= '~' && end - mark->name < MARK_NAME)
        end++;
    mark->more = text[kind] == '+';
    mark->name_len = end - mark->name;
    mark->len = end + 2;
    if (!mark->more && text[kind] != '=')
        return NONE;
    if (end == len)
        return BEGUN;
    if (!mark->name_len || text[end] != ESC || (end + 1 < len && text[end + 1] != '\\'))
        return NONE;
    return end + 1 < len ? WHOLE : BEGUN;
}

bool mark_find(const char *word, const char *text, size_t len, struct mark *mark)
{
    const char *at = *word ? memchr(text, ESC, len) : NULL;
    while (at) {
        size_t before = (size_t)(at - text);
        if (match(word, at, len - before, mark) == WHOLE) {
            mark->at = before;
            mark->name += before;
            return true;
        }
        at = memchr(at + 1, ESC, len - before - 1);
    }
    return false;
}

size_t mark_whole(const char *word, const char *text, size_t len)
{
    struct mark mark;
    for (size_t i = len < MARK_MAX ? 0 : len - MARK_MAX; *word && i < len; i++)
        if (match(word, text + i, len - i, &mark) == BEGUN)
            return i;
    return len;
}
