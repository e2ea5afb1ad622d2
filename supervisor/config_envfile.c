/*
 * config_envfile.c: files of variables.  A file that is not what it should be is an error with its
 * line, and none of it is taken: half of an environment is worse than a start that fails.  No
 * message shows anything of a value: such files hold passwords.
 *
 * A value in double quotes is unescaped where it stands: it only becomes shorter.
 */
#include "supervisor/config_envfile.h"

#include "supervisor/config_tree.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
    char *at, *end;
    const char *name; /* the file's */
    unsigned line;
    char *error;
};

/* ---- text ---- */

static int wrong(const struct reader *reader, unsigned line, const char *what)
{
    snprintf(reader->error, ENVFILE_ERROR, "%.150s:%u: %s", reader->name, line, what);
    return HASUP_ECONFIG;
}

static void skip_blanks(struct reader *reader)
{
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\t'))
        reader->at++;
}

static bool at_line_end(const struct reader *reader)
{
    const char *at = reader->at;
    return at == reader->end || *at == '\n' ||
           (*at == '\r' && (at + 1 == reader->end || at[1] == '\n'));
}

static void next_line(struct reader *reader)
{
    char *end = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
    reader->at = end ? end + 1 : reader->end;
    reader->line++;
}

static bool is_name(const char *name, size_t len)
{
    if (len == 0 || isdigit((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
            return false;
    return true;
}

/* 0: `*name` stands before an "=", and the reader behind it. */
static int read_name(struct reader *reader, const char **name, size_t *len)
{
    size_t left = (size_t)(reader->end - reader->at);
    char *newline = memchr(reader->at, '\n', left);
    char *equals = memchr(reader->at, '=', newline ? (size_t)(newline - reader->at) : left);
    *name = reader->at;
    *len = equals ? (size_t)(equals - reader->at) : 0;
    if (!equals)
        return wrong(reader, reader->line, "expected NAME=VALUE, and there is no \"=\"");
    if (*len > 7 && strncmp(*name, "export ", 7) == 0)
        return wrong(reader, reader->line, "no shell reads this: leave \"export\" out");
    if (!is_name(*name, *len))
        return wrong(reader, reader->line,
                     "before the \"=\" stands a name, without blanks, of letters, digits, \"_\", "
                     "\".\" and \"-\"");
    if (strncmp(*name, "HASUP_", 6) == 0)
        return wrong(reader, reader->line, "names that begin with HASUP_ are set by hasupd");
    reader->at = equals + 1;
    return 0;
}

/* What a backslash in double quotes takes the meaning of. */
static bool is_escaped(const char *at, const char *end)
{
    return *at == '\\' && at + 1 < end && strchr("\"\\$`\n", at[1]);
}

/* To the closing quote, over several lines, too. */
static int read_quoted(struct reader *reader, const char **value, size_t *len)
{
    const char quote = *reader->at++;
    const unsigned first = reader->line;
    char *out = reader->at;
    *value = out;
    for (; reader->at < reader->end && *reader->at != quote; reader->at++) {
        bool escaped = quote == '"' && is_escaped(reader->at, reader->end);
        reader->at += escaped;
        reader->line += *reader->at == '\n';
        if (!escaped || *reader->at != '\n')
            *out++ = *reader->at;
    }
    *len = (size_t)(out - *value);
    if (reader->at == reader->end)
        return wrong(reader, first, "the quote that opens here is never closed");
    reader->at++;
    skip_blanks(reader);
    return at_line_end(reader) ? 0
                               : wrong(reader, reader->line, "something stands behind the quote");
}

static void read_plain(struct reader *reader, const char **value, size_t *len)
{
    char *begin = reader->at;
    while (!at_line_end(reader))
        reader->at++;
    char *end = reader->at;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *value = begin;
    *len = (size_t)(end - begin);
}

static int add(struct envfiles *files, const char *name, size_t name_len, const char *value,
               size_t len)
{
    char *variable;
    if (!files->list)
        files->list = calloc(ENVFILE_VARIABLES + 1, sizeof *files->list);
    if (!files->list ||
        asprintf(&variable, "%.*s=%.*s", (int)name_len, name, (int)len, value) < 0)
        return HASUP_ENOMEM;
    files->list[files->count++] = variable;
    return 0;
}

static int read_variable(struct reader *reader, struct envfiles *files)
{
    const char *name, *value;
    size_t name_len, len;
    int failed = read_name(reader, &name, &name_len);
    if (failed)
        return failed;
    if (files->count == ENVFILE_VARIABLES)
        return wrong(reader, reader->line, "more than 1024 variables, with those before it");
    skip_blanks(reader);
    if (reader->at < reader->end && (*reader->at == '"' || *reader->at == '\''))
        failed = read_quoted(reader, &value, &len);
    else
        read_plain(reader, &value, &len);
    return failed ? failed : add(files, name, name_len, value, len);
}

int envfile_parse(char *text, size_t len, const char *name, struct envfiles *files,
                  char error[ENVFILE_ERROR])
{
    struct reader reader = {text, text + len, name, 1, error};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        reader.at += 3; /* some editors put it before UTF-8 */
    const char *zero = len ? memchr(text, '\0', len) : NULL;
    for (const char *at = text; zero && at < zero; at++)
        reader.line += *at == '\n';
    if (zero)
        return wrong(&reader, reader.line, "there is a NUL byte: is it a file of variables?");
    while (reader.at < reader.end) {
        skip_blanks(&reader);
        bool empty = at_line_end(&reader) || *reader.at == '#' || *reader.at == ';';
        int failed = empty ? 0 : read_variable(&reader, files);
        if (failed)
            return failed;
        next_line(&reader);
    }
    return 0;
}

/* ---- files ---- */

static int cannot(const char *path, int failed, const char *why, char error[ENVFILE_ERROR])
{
    snprintf(error, ENVFILE_ERROR, "%.150s: %s", path, why);
    return failed;
}

/* All of a file; its length, or a negative errno. */
static ssize_t read_file(const char *path, char text[ENVFILE_MAX + 1])
{
    struct stat st;
    ssize_t got = 1;
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    int failed = fstat(fd, &st) ? errno : !S_ISREG(st.st_mode) ? EINVAL : 0;
    while (!failed && got > 0 && len <= ENVFILE_MAX) {
        got = read(fd, text + len, ENVFILE_MAX + 1 - len);
        if (got < 0)
            failed = errno;
        else
            len += (size_t)got;
    }
    close(fd);
    return failed ? -failed : (ssize_t)len;
}

static int read_one(const char *path, bool optional, struct envfiles *files,
                    char error[ENVFILE_ERROR])
{
    char *text = malloc(ENVFILE_MAX + 1);
    ssize_t len = text ? read_file(path, text) : -ENOMEM;
    int failed = 0;
    if (optional && (len == -ENOENT || len == -ENOTDIR))
        failed = 0;
    else if (len == -EINVAL)
        failed = cannot(path, EINVAL, "is not a file", error);
    else if (len < 0)
        failed = cannot(path, (int)-len, strerror((int)-len), error);
    else if (len > ENVFILE_MAX)
        failed = cannot(path, EFBIG, "is larger than 64KiB", error);
    else if ((failed = envfile_parse(text, (size_t)len, path, files, error)))
        failed = failed == HASUP_ENOMEM ? ENOMEM : EINVAL;
    free(text);
    return failed;
}

int envfiles_read(char *const *paths, const struct template_values *values, struct envfiles *files,
                  char error[ENVFILE_ERROR])
{
    int failed = 0;
    *files = (struct envfiles){0};
    snprintf(error, ENVFILE_ERROR, "out of memory");
    for (; paths && *paths && !failed; paths++) {
        bool optional = **paths == '-';
        char *path = template_fill(*paths + optional, values);
        failed = path ? read_one(path, optional, files, error) : ENOMEM;
        free(path);
    }
    if (failed)
        envfiles_free(files);
    return failed;
}

void envfiles_free(struct envfiles *files)
{
    config_strings_free(files->list);
    *files = (struct envfiles){0};
}
