/*
 * config_start.c: what the keys mean that a process is started with: placeholders, files of
 * variables.  Looks at no file (check.c does).
 * Failure mode: what is nearly a placeholder is an error with its place.
 */
#include "supervisor/config_envfile.h"
#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"

#include <stdio.h>

/* The node of a key with dots; NULL: it is not there. */
static const struct node *find(const struct node *node, const char *key)
{
    const char *dot = strchr(key, '.');
    char group[64];
    if (!dot)
        return config_tree_find(node, key);
    snprintf(group, sizeof group, "%.*s", (int)(dot - key), key);
    node = config_tree_find(node, group);
    return node && node->kind == NODE_MAP ? config_tree_find(node, dot + 1) : NULL;
}

/* A text, or each of a list or map. */
static void check_texts(const struct node *node, const char *path, struct config_errors *errors)
{
    char error[TEMPLATE_ERROR], inner[CONFIG_PATH_MAX];
    if (node->kind == NODE_SCALAR && !template_check(node->text, error))
        config_error(errors, node->line, node->column, path, "%s", error);
    for (const struct node *child = node->first; child; child = child->next) {
        bool named = node->kind == NODE_MAP;
        snprintf(inner, sizeof inner, "%.150s%s%.80s", path, named ? "." : "",
                 named ? child->key : "");
        if (child->kind == NODE_SCALAR)
            check_texts(child, inner, errors);
    }
}

/* What is one and the same for all slots. */
static void check_literal(const char *text, const char *key, const struct config_section *section)
{
    if (text && template_is_in(text))
        config_complain(section, key,
                        "\"%.80s\" is the same for all slots: no placeholder is replaced here",
                        text);
}

void config_start_check(const struct config_model *model, const struct config_section *section)
{
    static const char *const KEYS[] = {"command", "pre_start.command", "environment",
                                       "environment_files", "directory", "adapter.socket"};
    char path[CONFIG_PATH_MAX];
    size_t files = 0;
    for (size_t i = 0; i < HASUP_LEN(KEYS); i++) {
        const struct node *at = find(section->node, KEYS[i]);
        snprintf(path, sizeof path, "%.80s.%.60s", section->prefix, KEYS[i]);
        if (at)
            check_texts(at, path, section->errors);
    }
    for (char **at = model->process.read_only_paths; at && *at; at++)
        check_literal(*at, "process.read_only_paths", section);
    for (const struct config_socket *at = model->sockets; at && at->name; at++)
        check_literal(at->path, "sockets", section);
    while (model->environment_files && model->environment_files[files])
        files++;
    if (files > ENVFILES_MAX)
        config_complain(section, "environment_files", "at most %d files; found %zu", ENVFILES_MAX,
                        files);
}
