/*
 * config_order.c: what starts after what.  Owns the check that each name is somebody's, and that
 * nobody waits for himself, however many stand between.
 * Failure mode: a name that is nobody's is an error with the nearest one that is; a cycle is one
 * error, which names everybody in it, at the key that closes it.
 */
#include "supervisor/config_order.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const KEYS[] = {"requires", "after"};

/* What is looked at, and where it stands. */
struct order {
    const struct config *config;
    const struct node *root;
    struct config_errors *errors;
};

static char *const *names_of(const struct config_model *model, size_t key)
{
    return key == 0 ? model->requires : model->after;
}

/* Its place in config->models; model_count: nobody has this name. */
static size_t find(const struct config *config, const char *name)
{
    const struct config_model *model = config_model_named(config, name);
    return model ? (size_t)(model - config->models) : config->model_count;
}

HASUP_PRINTF(4, 5)
static void complain(const struct order *order, const struct config_model *model, size_t key,
                     const char *format, ...)
{
    char path[CONFIG_PATH_MAX], text[CONFIG_ERROR_MAX];
    const char *section = config_section_of(model);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s.%s", section, model->name);
    const struct node *map = config_tree_find(order->root, section);
    const struct config_section at = {order->errors, config_tree_find(map, model->name), path};
    config_complain(&at, KEYS[key], "%s", text);
}

static const char *nearest(const struct config *config, const char *name)
{
    const char *best = NULL;
    unsigned least = (unsigned)strlen(name) / 3 + 2;
    for (size_t i = 0; i < config->model_count; i++) {
        unsigned distance = config_distance(name, config->models[i].name);
        if (distance < least) {
            least = distance;
            best = config->models[i].name;
        }
    }
    return best;
}

static void check_names(const struct order *order, const struct config_model *model)
{
    size_t count = 0;
    for (size_t key = 0; key < HASUP_LEN(KEYS); key++) {
        for (char *const *name = names_of(model, key); name && *name; name++, count++) {
            if (find(order->config, *name) < order->config->model_count)
                continue;
            const char *guess = nearest(order->config, *name);
            complain(order, model, key, "there is no \"%.70s\"%s%s%s", *name,
                     guess ? "; did you mean \"" : "", guess ? guess : "", guess ? "\"?" : "");
        }
        if (count > CORE_AFTER)
            complain(order, model, key, "%zu names in after and requires, at most %d", count,
                     CORE_AFTER);
    }
}

/* ---- cycles ---- */

enum visit { NEW, OPEN, CLOSED };

struct walk {
    const struct order *order;
    enum visit *visits;   /* of each model */
    size_t *trail, depth; /* from where the walk began to where it is */
};

static void tell_cycle(const struct walk *w, size_t from, size_t key)
{
    const struct config_model *models = w->order->config->models;
    char list[512] = "";
    size_t start = 0, len = 0;
    while (w->trail[start] != from)
        start++;
    for (size_t i = start; i < w->depth && len < sizeof list; i++)
        len +=
            (size_t)snprintf(list + len, sizeof list - len, "%s after ", models[w->trail[i]].name);
    complain(w->order, &models[w->trail[w->depth - 1]], key, "goes round in a circle: %s%s", list,
             models[from].name);
}

/* False: it goes round somewhere, which is told. */
static bool walk_on(struct walk *w, size_t index)
{
    const struct config *config = w->order->config;
    bool fine = true;
    w->visits[index] = OPEN;
    w->trail[w->depth++] = index;
    for (size_t key = 0; key < HASUP_LEN(KEYS) && fine; key++) {
        char *const *name = names_of(&config->models[index], key);
        for (; fine && name && *name; name++) {
            size_t next = find(config, *name);
            if (next == config->model_count || w->visits[next] == CLOSED)
                continue;
            if (w->visits[next] == OPEN) {
                tell_cycle(w, next, key);
                fine = false;
            } else {
                fine = walk_on(w, next);
            }
        }
    }
    w->depth--;
    w->visits[index] = CLOSED;
    return fine;
}

void config_order_check(const struct config *config, const struct node *root,
                        struct config_errors *errors)
{
    const struct order order = {config, root, errors};
    struct walk w = {.order = &order};
    for (size_t i = 0; i < config->model_count; i++)
        check_names(&order, &config->models[i]);
    w.visits = calloc(config->model_count + 1, sizeof *w.visits);
    w.trail = calloc(config->model_count + 1, sizeof *w.trail);
    if (!w.visits || !w.trail)
        config_no_memory(errors);
    for (size_t i = 0; w.visits && w.trail && i < config->model_count; i++)
        if (w.visits[i] == NEW && !walk_on(&w, i))
            break;
    free(w.visits);
    free(w.trail);
}
