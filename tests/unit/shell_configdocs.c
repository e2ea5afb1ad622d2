/* The table in docs/configuration.md, the comments of supervisor.yaml.example and the other pages
 * name the keys that there are, with their defaults, and no others.  That the example has every key
 * with its default, and that what is no comment there is one, shell_config.c proves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config_tree.h"

#define MODEL   "models.M."
#define PROGRAM "programs.P."

enum { WORD = 128, DOCUMENTED = 256 };

struct documented {
    char path[WORD], value[WORD]; /* value: its default */
    bool of_both;                 /* said to be of a program as of a model */
};

struct page {
    struct documented list[DOCUMENTED];
    size_t count;
};

static char *read_file(const char *path)
{
    enum { ROOM = 1 << 20 };
    char *text = calloc(1, ROOM);
    FILE *file = fopen(path, "re");
    assert_non_null(text);
    assert_non_null(file);
    size_t len = fread(text, 1, ROOM - 1, file);
    assert_true(len < ROOM - 1);
    fclose(file);
    return text;
}

static const struct config_key *find_key(const struct config_key *keys, size_t count,
                                         const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].path, path) == 0)
            return &keys[i];
    return NULL;
}

static const struct config_key *key_of(const char *path)
{
    if (strncmp(path, MODEL, strlen(MODEL)) == 0)
        return find_key(config_model_keys, config_model_key_count, path + strlen(MODEL));
    if (strncmp(path, PROGRAM, strlen(PROGRAM)) == 0)
        return find_key(config_program_keys, config_program_key_count, path + strlen(PROGRAM));
    return find_key(config_top_keys, config_top_key_count, path);
}

/* The next word between `...` of a cell; where it ends, or NULL. */
static const char *quoted(const char *at, const char *end, char word[WORD])
{
    const char *begin = memchr(at, '`', (size_t)(end - at));
    const char *stop = begin ? memchr(begin + 1, '`', (size_t)(end - begin - 1)) : NULL;
    if (!stop)
        return NULL;
    assert_true(stop - begin - 1 < WORD);
    snprintf(word, WORD, "%.*s", (int)(stop - begin - 1), begin + 1);
    return stop + 1;
}

/* The next item of a list with commas, without what quotes it; where the one behind it begins. */
static const char *item(const char *at, const char *end, char word[WORD])
{
    const char *comma = memchr(at, ',', (size_t)(end - at));
    const char *stop = comma ? comma : end;
    size_t len = 0;
    for (; at < stop; at++)
        if (*at != '`' && *at != ' ' && len + 1 < WORD)
            word[len++] = *at;
    word[len] = '\0';
    return comma ? comma + 1 : end;
}

static struct documented *add(struct page *page, const char *prefix, const char *name)
{
    assert_true(page->count < DOCUMENTED);
    struct documented *one = &page->list[page->count++];
    assert_true(snprintf(one->path, WORD, "%s%s", prefix, name) < WORD);
    return one;
}

/* "| `a.b`, `.c` | 1, 2 | ... |", or "| `a.*` | `b` 1, `c` 2 | ... |" */
static void read_row(struct page *page, const char *line)
{
    const char *bar = strchr(line + 1, '|'), *last = bar ? strchr(bar + 1, '|') : NULL;
    char word[WORD], prefix[WORD] = "";
    assert_non_null(last);
    const char *value = bar + 1;
    for (const char *at = line; (at = quoted(at, bar, word));) {
        size_t len = strlen(word);
        if (len > 2 && strcmp(word + len - 2, ".*") == 0) {
            word[len - 1] = '\0';
            for (char name[WORD]; (value = quoted(value, last, name));) {
                struct documented *one = add(page, word, name);
                value = item(value, last, one->value);
                one->of_both = strcmp(word, PROGRAM) == 0;
            }
            return;
        }
        struct documented *one = add(page, word[0] == '.' ? prefix : "", word);
        value = item(value, last, one->value);
        const char *dot = strrchr(word, '.');
        if (word[0] != '.')
            snprintf(prefix, WORD, "%.*s", dot ? (int)(dot - word) : 0, word);
    }
}

static void read_page(struct page *page, const char *text)
{
    const char *table = strstr(text, "| key | default |");
    assert_non_null(table);
    for (const char *line = table; line && line[0] == '|'; line = strchr(line, '\n') + 1)
        if (strncmp(line, "| `", 3) == 0)
            read_row(page, line);
}

static void are_documented(const struct page *page, const struct config_key *keys, size_t count,
                           const char *prefix)
{
    for (size_t i = 0; i < count; i++) {
        char path[WORD];
        size_t found = 0;
        snprintf(path, WORD, "%s%s", prefix, keys[i].path);
        for (size_t k = 0; k < page->count; k++)
            found += strcmp(page->list[k].path, path) == 0;
        if (found != 1 && keys[i].type != CONFIG_MODELS && keys[i].type != CONFIG_PROGRAMS)
            fail_msg("docs/configuration.md names %s %zu times", path, found);
    }
}

/* A program's key that a model has, too, in the same place and with the same default. */
static bool is_of_both(const struct config_key *key)
{
    const struct config_key *other = find_key(config_model_keys, config_model_key_count, key->path);
    return other && other->offset == key->offset && other->type == key->type &&
           other->restarts == key->restarts &&
           strcmp(other->fallback ? other->fallback : "", key->fallback ? key->fallback : "") == 0;
}

static void the_page_names_every_key_with_its_default_and_no_other(void **state)
{
    (void)state;
    struct page page = {.count = 0};
    char *text = read_file("docs/configuration.md");
    read_page(&page, text);
    free(text);
    for (size_t i = 0; i < page.count; i++) {
        const struct config_key *key = key_of(page.list[i].path);
        if (!key)
            fail_msg("docs/configuration.md: there is no key %s", page.list[i].path);
        else if (key->fallback && key->type != CONFIG_PATTERNS &&
                 strcmp(key->fallback, page.list[i].value) != 0)
            fail_msg("docs/configuration.md: the default of %s is %s, not %s", page.list[i].path,
                     key->fallback, page.list[i].value);
        if (key && page.list[i].of_both && !is_of_both(key))
            fail_msg("docs/configuration.md: %s is not as a model's", page.list[i].path);
    }
    are_documented(&page, config_top_keys, config_top_key_count, "");
    are_documented(&page, config_model_keys, config_model_key_count, MODEL);
    are_documented(&page, config_program_keys, config_program_key_count, PROGRAM);
}

static void are_told_to_restart(const struct config_key *keys, size_t count, const char *line)
{
    char quote[WORD];
    for (size_t i = 0; i < count; i++) {
        snprintf(quote, WORD, "`%s`", keys[i].path);
        if ((strstr(line, quote) != NULL) != keys[i].restarts)
            fail_msg("docs/configuration.md on %s and reloads", keys[i].path);
    }
}

static void the_page_says_which_keys_restart_a_model_or_program(void **state)
{
    (void)state;
    char *text = read_file("docs/configuration.md");
    char *line = strstr(text, "A reload restarts only");
    assert_non_null(line);
    *strchr(line, ';') = '\0';
    are_told_to_restart(config_model_keys, config_model_key_count, line);
    are_told_to_restart(config_program_keys, config_program_key_count, line);
    free(text);
}

static bool is_last_name(const char *path, const char *name, size_t len)
{
    const char *dot = strrchr(path, '.');
    const char *last = dot ? dot + 1 : path;
    return strlen(last) == len && strncmp(last, name, len) == 0;
}

/* "# name: value": a key that has no default, ready to be used. */
static void the_examples_comments_name_keys(void **state)
{
    (void)state;
    char *text = read_file("supervisor.yaml.example");
    size_t names = 0;
    for (const char *line = text; *line; line = strchr(line, '\n') + 1) {
        const char *at = line + strspn(line, " ");
        size_t len = 0;
        bool known = false;
        if (strncmp(at, "# ", 2) == 0)
            while (islower((unsigned char)at[2 + len]) || at[2 + len] == '_')
                len++;
        if (len == 0 || at[2 + len] != ':')
            continue;
        for (size_t i = 0; i < config_top_key_count; i++)
            known |= is_last_name(config_top_keys[i].path, at + 2, len);
        for (size_t i = 0; i < config_model_key_count; i++)
            known |= is_last_name(config_model_keys[i].path, at + 2, len);
        for (size_t i = 0; i < config_program_key_count; i++)
            known |= is_last_name(config_program_keys[i].path, at + 2, len);
        if (!known)
            fail_msg("supervisor.yaml.example: there is no key %.*s", (int)len, at + 2);
        names++;
    }
    assert_true(names >= 5);
    free(text);
}

/* Groups whose names no event shares. */
static bool is_key_like(const char *word)
{
    static const char *const groups[] = {"limits.", "listen.", "security.", "queue.", "restart.",
                                         "timeouts."};
    const char *rest = NULL;
    for (size_t i = 0; i < HASUP_LEN(groups) && !rest; i++)
        if (strncmp(word, groups[i], strlen(groups[i])) == 0)
            rest = word + strlen(groups[i]);
    return rest && *rest && rest[strspn(rest, "abcdefghijklmnopqrstuvwxyz_")] == '\0';
}

static void check_words(const char *path)
{
    char *text = read_file(path), word[WORD], model[WORD + sizeof MODEL],
         program[WORD + sizeof PROGRAM];
    for (const char *at = text; (at = strchr(at, '`'));) {
        size_t len = strcspn(at + 1, "`: \n");
        snprintf(word, WORD, "%.*s", (int)(len < WORD ? len : 0), at + 1);
        snprintf(model, sizeof model, MODEL "%s", word);
        snprintf(program, sizeof program, PROGRAM "%s", word);
        if (is_key_like(word) && !key_of(word) && !key_of(model) && !key_of(program))
            fail_msg("%s: there is no key %s", path, word);
        at += len + 1;
    }
    free(text);
}

static void other_pages_name_keys_that_there_are(void **state)
{
    (void)state;
    glob_t pages;
    assert_int_equal(glob("docs/*.md", 0, NULL, &pages), 0);
    assert_int_equal(glob("*.md", GLOB_APPEND, NULL, &pages), 0);
    for (size_t i = 0; i < pages.gl_pathc; i++)
        check_words(pages.gl_pathv[i]);
    globfree(&pages);
}

/* The next configuration that a page shows, indented by four, as a file; NULL: there is none. */
static const char *shown(const char *at, char *file, size_t room)
{
    static const char INDENT[] = "    ";
    size_t len = 0;
    for (bool inside = false; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        const bool indented = strncmp(at, INDENT, strlen(INDENT)) == 0;
        const char *line = at + (indented ? strlen(INDENT) : 0);
        if (!inside && indented &&
            (strncmp(line, "programs:", 9) == 0 || strncmp(line, "models:", 7) == 0))
            inside = true;
        if (inside && !indented && *at != '\n')
            break;
        if (inside)
            len +=
                (size_t)snprintf(file + len, room - len, "%.*s\n", (int)strcspn(line, "\n"), line);
    }
    return len ? at : NULL;
}

static void what_the_page_on_programs_shows_is_read(void **state)
{
    (void)state;
    enum { ROOM = 8192 };
    char file[ROOM], error[CONFIG_ERROR_MAX];
    char *text = read_file("docs/programs.md");
    size_t count = 0;
    for (const char *at = text; (at = shown(at, file, ROOM)); count++) {
        struct config *config = config_parse(file, strlen(file), "f.yaml", "/etc/hasup", error);
        if (!config)
            fail_msg("docs/programs.md shows\n%s\n%s", file, error);
        config_free(config);
    }
    assert_true(count >= 5);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_names_every_key_with_its_default_and_no_other),
        cmocka_unit_test(the_page_says_which_keys_restart_a_model_or_program),
        cmocka_unit_test(the_examples_comments_name_keys),
        cmocka_unit_test(other_pages_name_keys_that_there_are),
        cmocka_unit_test(what_the_page_on_programs_shows_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
