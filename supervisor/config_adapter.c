/*
 * config_adapter.c: what the keys of a model's adapter mean together.  Must not look at anything
 * but the configuration.
 */
#include "supervisor/config_tree.h"

#include <ctype.h>
#include <stdio.h>

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

static void look_at_place(const struct config_model *model, const struct config_section *section)
{
    uint32_t workers = model->policy.workers;
    if (model->adapter.socket && model->adapter.port)
        config_complain(section, "adapter.port",
                        "it listens at a port or at a socket, not at both");
    if (model->adapter.port && model->adapter.port + workers - 1 > UINT16_MAX)
        config_complain(section, "adapter.port", "the last slot's port would be above 65535");
    if (model->adapter.socket && workers > 1 && !strstr(model->adapter.socket, "{slot"))
        config_complain(section, "adapter.socket",
                        "each of several workers needs its own: put {slot} into the path");
}

void config_adapter_check(const struct config_model *model, const struct config_section *section)
{
    const struct node *group = config_tree_find(section->node, "adapter");
    if (model->adapter.kind == ADAPTER_NONE) {
        if (group && group->count && !config_tree_find(group, "kind"))
            config_complain(section, "adapter.kind", "required beside other keys of adapter: http");
        return;
    }
    look_at_place(model, section);
    if (model->adapter.ready.path && model->adapter.ready.path[0] != '/')
        config_complain(section, "adapter.ready.path", "expected a path such as /health");
    if (model->adapter.invoke[0] != '/')
        config_complain(section, "adapter.invoke", "expected a path such as /predict");
    for (char **s = model->adapter.idempotent; *s; s++)
        if (!is_pattern(*s))
            config_complain(section, "adapter.idempotent",
                            "expected paths such as /predict, POST /score, /v1/*");
}
