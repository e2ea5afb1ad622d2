/*
 * config_value.c: durations, sizes and counts as the configuration writes them, the distance
 * between two words, the list of errors, and where one is.  Pure; no key is known here.
 * Failure modes: a text that is no such value is HASUP_EINVAL, and so is one beyond 64 bits.
 */
#include "supervisor/config_tree.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* From the largest: the first that divides a value writes it. */
static const struct unit duration_units[] = {
    {"h", 3600u * 1000000000ull},
    {"m", 60u * 1000000000ull},
    {"s", 1000000000ull},
    {"ms", 1000000u},
    {"us", 1000u},
};
static const struct unit size_units[] = {
    {"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}, {"", 1},
};

/* Digits, then what is left. */
static const char *read_digits(const char *text, uint64_t *value)
{
    const char *s = text;
    uint64_t total = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');
        if (total > (UINT64_MAX - digit) / 10)
            return NULL;
        total = total * 10 + digit;
    }
    *value = total;
    return s == text ? NULL : s;
}

static int read_unit(const char *text, const struct unit *units, size_t count, uint64_t *value)
{
    uint64_t number;
    const char *rest = read_digits(text, &number);
    if (!rest)
        return HASUP_EINVAL;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rest, units[i].name) != 0)
            continue;
        if (number > (uint64_t)INT64_MAX / units[i].factor)
            return HASUP_EINVAL;
        *value = number * units[i].factor;
        return 0;
    }
    return HASUP_EINVAL;
}

int config_duration(const char *text, hasup_ns *value)
{
    uint64_t ns = 0;
    if (strcmp(text, "0") != 0 &&
        read_unit(text, duration_units, HASUP_LEN(duration_units), &ns) != 0)
        return HASUP_EINVAL;
    *value = (hasup_ns)ns;
    return 0;
}

int config_size(const char *text, uint64_t *value)
{
    return read_unit(text, size_units, HASUP_LEN(size_units), value);
}

int config_count(const char *text, uint64_t *value)
{
    const char *rest = read_digits(text, value);
    return rest && *rest == '\0' ? 0 : HASUP_EINVAL;
}

static void write_unit(uint64_t value, const struct unit *units, size_t count,
                       char out[CONFIG_VALUE_MAX])
{
    size_t i = 0;
    while (i + 1 < count && (value == 0 || value % units[i].factor != 0))
        i++;
    snprintf(out, CONFIG_VALUE_MAX, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
}

void config_duration_text(hasup_ns value, char out[CONFIG_VALUE_MAX])
{
    if (value == 0)
        snprintf(out, CONFIG_VALUE_MAX, "0");
    else
        write_unit((uint64_t)value, duration_units, HASUP_LEN(duration_units), out);
}

void config_size_text(uint64_t value, char out[CONFIG_VALUE_MAX])
{
    write_unit(value, size_units, HASUP_LEN(size_units), out);
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned config_distance(const char *a, const char *b)
{
    enum { WORD = 40 };
    unsigned rows[3][WORD + 1];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD || b_len > WORD)
        return WORD;
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];
    for (unsigned j = 0; j <= b_len; j++)
        last[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        unsigned *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[b_len];
}

void config_errors_init(struct config_errors *errors, const char *file, char *out)
{
    *errors = (struct config_errors){.file = file, .out = out};
    out[0] = '\0';
}

/* A line that does not fit is cut: the first errors matter most. */
static void put(struct config_errors *errors, const char *format, va_list args)
{
    size_t room = CONFIG_ERROR_MAX - errors->len;
    int written = vsnprintf(errors->out + errors->len, room, format, args);
    if (written > 0)
        errors->len += (size_t)written < room ? (size_t)written : room - 1;
}

HASUP_PRINTF(2, 3) static void put_format(struct config_errors *errors, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    put(errors, format, args);
    va_end(args);
}

void config_error(struct config_errors *errors, unsigned line, unsigned column, const char *path,
                  const char *format, ...)
{
    if (errors->count++ >= CONFIG_ERRORS_SHOWN)
        return;
    put_format(errors, "%s%.200s:", errors->len ? "\n" : "", errors->file);
    if (line > 0)
        put_format(errors, "%u:%u:", line, column);
    if (path && *path)
        put_format(errors, " %s:", path);
    put_format(errors, " ");
    va_list args;
    va_start(args, format);
    put(errors, format, args);
    va_end(args);
}

void config_no_memory(struct config_errors *errors)
{
    config_error(errors, 0, 0, NULL, "out of memory");
}

const struct node *config_place(const struct node *node, const char *path)
{
    while (*path && node->kind == NODE_MAP) {
        char key[64];
        size_t len = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)len, path);
        const struct node *child = config_tree_find(node, key);
        if (!child)
            break;
        node = child;
        path += len + (path[len] == '.');
    }
    return node;
}

void config_complain(const struct config_section *section, const char *key, const char *format, ...)
{
    char path[CONFIG_PATH_MAX], text[CONFIG_ERROR_MAX];
    const struct node *at = config_place(section->node, key);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%.120s%s%.100s", section->prefix, *key ? "." : "", key);
    config_error(section->errors, at->line, at->column, path, "%s", text);
}

void config_errors_end(struct config_errors *errors)
{
    if (errors->count > CONFIG_ERRORS_SHOWN)
        put_format(errors, "\n%.200s: and %u more", errors->file,
                   errors->count - CONFIG_ERRORS_SHOWN);
}
