/*
 * config_template.c: placeholders in commands, variables and paths.  Pure.
 *
 * Most braces that stand in a command are somebody else's: JSON, Jinja, a shell's ${slot}, find's
 * {}, an adapter's {port}.  So nothing is taken for a placeholder that does not look like one to
 * the letter, and only what nobody else would write is called a mistake.
 */
#include "supervisor/config_template.h"

#include "supervisor/config_tree.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { INNER_MAX = 24 };

static const char *const NAMES[] = {"slot", "model"};

enum kind {
    KIND_OTHER, /* it stays */
    KIND_SLOT,
    KIND_MODEL,
    KIND_WRONG, /* nearly a placeholder */
};

struct part {
    enum kind kind;
    bool escaped;   /* in two braces: it stands for itself in one */
    const char *in; /* what stands in the braces */
    size_t in_len;
    size_t len; /* of all of it, where it stays, too */
    uint32_t plus;
    const char *meant;
};

/* "slot+8000": false where no such number follows. */
static bool read_plus(const char *digits, size_t len, uint32_t *plus)
{
    uint64_t value = 0;
    if (len == 0 || len > 10)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)digits[i]))
            return false;
        value = value * 10 + (uint64_t)(digits[i] - '0');
    }
    *plus = (uint32_t)value;
    return value <= UINT32_MAX;
}

/* Whether each letter of the name stands in the word: {mode} and {lot} are words of others. */
static bool has_all_of(const char *word, const char *name)
{
    for (const char *letter = name; *letter; letter++) {
        size_t of_name = 0, of_word = 0;
        for (const char *at = name; *at; at++)
            of_name += *at == *letter;
        for (const char *at = word; *at; at++)
            of_word += *at == *letter;
        if (of_word < of_name)
            return false;
    }
    return true;
}

/* ":03d", ":>4", ":d" as Python and others write numbers.  {slot:1} and {slot: 1} are JavaScript's,
 * and JSON's nearly. */
static bool is_format(const char *text, size_t len)
{
    if (len < 2 || text[0] != ':')
        return false;
    size_t at = 1 + strspn(text + 1, "<>^=+-#");
    const size_t digits = strspn(text + at, "0123456789");
    const bool flagged = at > 1 || (digits > 1 && text[at] == '0');
    at += digits;
    const bool letter = at < len && strchr("bdnoxX", text[at]);
    return at + letter == len && (flagged || (letter && (digits || text[at] == 'd')));
}

/* The placeholder that was meant; NULL: none. */
static const char *nearly(const char *in, size_t len)
{
    char word[INNER_MAX + 1];
    size_t at = 0, letters = 0;
    while (len && in[len - 1] == ' ')
        len--;
    while (at < len && in[at] == ' ')
        at++;
    for (; at + letters < len && isalpha((unsigned char)in[at + letters]); letters++)
        word[letters] = (char)tolower((unsigned char)in[at + letters]);
    word[letters] = '\0';
    size_t rest = at + letters;
    while (rest < len && strchr(" +-*/0123456789", in[rest]))
        rest++;
    if (is_format(in + rest, len - rest))
        rest = len;
    for (size_t i = 0; i < HASUP_LEN(NAMES) && rest == len; i++) {
        unsigned distance = has_all_of(word, NAMES[i]) ? config_distance(word, NAMES[i]) : 2;
        if (distance == 0 || (distance == 1 && at + letters == len))
            return NAMES[i];
    }
    return NULL;
}

static void read_inner(struct part *part)
{
    const char *in = part->in;
    const size_t len = part->in_len;
    if (len == 4 && memcmp(in, "slot", 4) == 0)
        part->kind = KIND_SLOT;
    else if (len == 5 && memcmp(in, "model", 5) == 0)
        part->kind = KIND_MODEL;
    else if (len > 5 && memcmp(in, "slot+", 5) == 0 && read_plus(in + 5, len - 5, &part->plus))
        part->kind = KIND_SLOT;
    else if ((part->meant = nearly(in, len)))
        part->kind = KIND_WRONG;
}

/* What stands at `at`, where a brace opens, in `text`. */
static struct part part_at(const char *text, const char *at)
{
    struct part part = {.len = 1, .escaped = at[1] == '{'};
    size_t braces = part.escaped ? 2 : 1;
    if (at > text && at[-1] == '$') {
        part.len = strspn(at, "{");
        return part;
    }
    part.in = at + braces;
    part.in_len = strcspn(part.in, "{}");
    const char *end = part.in + part.in_len;
    if (end[0] != '}' || (part.escaped && end[1] != '}') || part.in_len > INNER_MAX)
        return part;
    part.len = part.in_len + 2 * braces;
    if (!part.escaped || !memchr(part.in, ' ', part.in_len)) /* {{ model }} is Jinja's */
        read_inner(&part);
    return part;
}

bool template_check(const char *text, char error[TEMPLATE_ERROR])
{
    for (const char *at = text; (at = strchr(at, '{'));) {
        struct part part = part_at(text, at);
        if (part.kind == KIND_WRONG && !part.escaped) {
            snprintf(error, TEMPLATE_ERROR,
                     "there is no {%.*s}; did you mean {%s}? {{%.*s}} stands for {%.*s} itself",
                     (int)part.in_len, part.in, part.meant, (int)part.in_len, part.in,
                     (int)part.in_len, part.in);
            return false;
        }
        at += part.len;
    }
    return true;
}

bool template_is_in(const char *text)
{
    for (const char *at = text; (at = strchr(at, '{'));) {
        struct part part = part_at(text, at);
        if (!part.escaped && (part.kind == KIND_SLOT || part.kind == KIND_MODEL))
            return true;
        at += part.len;
    }
    return false;
}

static void put_part(FILE *out, const char *at, const struct part *part,
                     const struct template_values *values)
{
    if (part->escaped && part->kind != KIND_OTHER)
        fprintf(out, "{%.*s}", (int)part->in_len, part->in);
    else if (part->kind == KIND_SLOT)
        fprintf(out, "%llu", (unsigned long long)values->slot + part->plus);
    else if (part->kind == KIND_MODEL)
        fputs(values->model, out);
    else
        fwrite(at, 1, part->len, out);
}

char *template_fill(const char *text, const struct template_values *values)
{
    char *filled = NULL;
    size_t len;
    if (!strchr(text, '{'))
        return strdup(text);
    FILE *out = open_memstream(&filled, &len);
    if (!out)
        return NULL;
    for (const char *at = text; *at;) {
        size_t plain = strcspn(at, "{");
        fwrite(at, 1, plain, out);
        at += plain;
        if (!*at)
            break;
        struct part part = part_at(text, at);
        put_part(out, at, &part, values);
        at += part.len;
    }
    if (fclose(out) == 0)
        return filled;
    free(filled);
    return NULL;
}

char **template_fill_all(char *const *list, const struct template_values *values)
{
    size_t count = 0;
    while (list[count])
        count++;
    char **filled = calloc(count + 1, sizeof *filled);
    for (size_t i = 0; filled && i < count; i++)
        if (!(filled[i] = template_fill(list[i], values))) {
            config_strings_free(filled);
            return NULL;
        }
    return filled;
}
