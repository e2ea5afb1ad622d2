/*
 * config_adapter.c: what the keys of a model's adapter mean together.  Must not look at anything
 * but the configuration.
 */
#include "supervisor/config_tree.h"

#include <ctype.h>
#include <stdio.h>

/* One model's adapter, while it is looked at. */
struct looking {
    const struct config_model *model;
    const struct node *node;
    const char *prefix;
    struct config_errors *errors;
};

static void complain(const struct looking *l, const char *key, const char *what)
{
    char path[CONFIG_PATH_MAX];
    const struct node *at = config_place(l->node, key);
    snprintf(path, sizeof(path), "%.80s.%.100s", l->prefix, key);
    config_error(l->errors, at->line, at->column, path, "%s", what);
}

/* A path, a method and a path, or either with a star at its end. */
static bool is_pattern(const char *text)
{
    size_t method = 0;
    while (isupper((unsigned char)text[method]))
        method++;
    if (method && text[method] != ' ')
        return false;
    const char *path = text + method + (method > 0);
    const char *star = strchr(path, '*');
    return (*path == '/' || *path == '*') && !strchr(path, ' ') && (!star || !star[1]);
}

static void look_at_place(const struct looking *l)
{
    const struct config_model *model = l->model;
    uint32_t workers = model->policy.workers;
    if (model->adapter.socket && model->adapter.port)
        complain(l, "adapter.port", "it listens at a port or at a socket, not at both");
    if (model->adapter.port && model->adapter.port + workers - 1 > UINT16_MAX)
        complain(l, "adapter.port", "the last slot's port would be above 65535");
    if (model->adapter.socket && workers > 1 && !strstr(model->adapter.socket, "{slot"))
        complain(l, "adapter.socket",
                 "each of several workers needs its own: put {slot} into the path");
}

void config_adapter_check(const struct config_model *model, const struct node *node,
                          const char *prefix, struct config_errors *errors)
{
    const struct looking l = {model, node, prefix, errors};
    const struct node *group = config_tree_find(node, "adapter");
    if (model->adapter.kind == ADAPTER_NONE) {
        if (group && group->count && !config_tree_find(group, "kind"))
            complain(&l, "adapter.kind", "required beside other keys of adapter: http");
        return;
    }
    look_at_place(&l);
    if (model->adapter.ready.path && model->adapter.ready.path[0] != '/')
        complain(&l, "adapter.ready.path", "expected a path such as /health");
    if (model->adapter.invoke[0] != '/')
        complain(&l, "adapter.invoke", "expected a path such as /predict");
    for (char **s = model->adapter.idempotent; *s; s++)
        if (!is_pattern(*s))
            complain(&l, "adapter.idempotent",
                     "expected paths such as /predict, POST /score, /v1/*");
}
