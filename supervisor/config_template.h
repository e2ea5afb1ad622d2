/*
 * config_template.h: {slot}, {slot+N} and {model} in what a slot's process is started with.  Only these
 * are replaced; what is nearly one of them is an error of the configuration, {{slot}} stands for
 * {slot} itself, and all other braces stay: a command may hold JSON.
 */
#ifndef HASUP_SUPERVISOR_CONFIG_TEMPLATE_H
#define HASUP_SUPERVISOR_CONFIG_TEMPLATE_H

#include "ipc/base.h"

struct template_values {
    const char *model;
    uint32_t slot; /* its ordinal */
};

enum { TEMPLATE_ERROR = 160 };

/* Whether nothing in it is nearly a placeholder; else `error` says what is. */
bool template_check(const char *text, char error[TEMPLATE_ERROR]);
/* Whether a placeholder stands in it. */
bool template_is_in(const char *text);
/* The text with its placeholders replaced, malloc'ed; NULL: no memory. */
char *template_fill(const char *text, const struct template_values *values);
/* The same of each of a list, malloc'ed, for config_strings_free(). */
char **template_fill_all(char *const *list, const struct template_values *values);

#endif
