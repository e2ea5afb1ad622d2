/*
 * config_json.c: the configuration in effect, as JSON: the keys of supervisor.yaml.example with the
 * values that hold, written as they are written there, and each model's fingerprint.
 * Must not show anything that is not in the table.  Failure mode: NULL where there is no memory.
 */
#include "supervisor/config_probe.h"

#include <jansson.h>
#include <stdio.h>

static json_t *strings(char **list)
{
    json_t *array = json_array();
    for (char **s = list; s && *s; s++)
        json_array_append_new(array, json_string(*s));
    return array;
}

static json_t *variables(char **list)
{
    json_t *object = json_object();
    for (char **s = list; s && *s; s++) {
        size_t len = strcspn(*s, "=");
        char name[CONFIG_PATH_MAX];
        snprintf(name, sizeof(name), "%.*s", (int)len, *s);
        json_object_set_new(object, name, json_string(*s + len + 1));
    }
    return object;
}

static json_t *numbers(const uint32_t *list, size_t room)
{
    json_t *array = json_array();
    for (size_t i = 0; i < room && list[i]; i++)
        json_array_append_new(array, json_integer(list[i]));
    return array;
}

static json_t *sockets(const struct config_socket *list)
{
    json_t *object = json_object();
    for (; list && list->name; list++)
        json_object_set_new(object, list->name,
                            list->tcp ? json_pack("{s:s, s:i}", "tcp", list->tcp, "backlog",
                                                  (int)list->backlog)
                                      : json_pack("{s:s, s:s, s:i}", "unix", list->path, "mode",
                                                  list->mode_text, "backlog", (int)list->backlog));
    return object;
}

static json_t *value_of(const struct config_key *key, const void *object)
{
    const void *at = (const char *)object + key->offset;
    const char *text = NULL;
    char out[CONFIG_VALUE_MAX];
    switch (key->type) {
    case CONFIG_TEXT:
    case CONFIG_FILE_PATH:
        text = *(char *const *)at;
        if (!text && key->off)
            text = "off";
        return text ? json_string(text) : json_null();
    case CONFIG_BOOL: return json_boolean(*(const bool *)at);
    case CONFIG_COUNT: return json_integer(*(const uint32_t *)at);
    case CONFIG_COUNTS: return numbers(at, key->room);
    case CONFIG_SIZE: config_size_text(*(const uint64_t *)at, out); return json_string(out);
    case CONFIG_DURATION:
        config_duration_text(*(const hasup_ns *)at, out);
        return json_string(key->never && *(const hasup_ns *)at == 0 ? "never" : out);
    case CONFIG_CHOICE: return json_string(key->choices[*(const int *)at]);
    case CONFIG_COMMAND:
    case CONFIG_FILE_PATHS:
    case CONFIG_PATTERNS:
    case CONFIG_WORDS: return strings(*(char **const *)at);
    case CONFIG_VARIABLES: return variables(*(char **const *)at);
    case CONFIG_SOCKETS: return sockets(*(struct config_socket *const *)at);
    case CONFIG_PROBE: return config_probe_json(at);
    case CONFIG_READY: return config_ready_json(at);
    case CONFIG_MODELS:
    case CONFIG_PROGRAMS: return json_object();
    }
    return NULL;
}

static json_t *table_json(const struct config_key *keys, size_t count, const void *object)
{
    json_t *whole = json_object();
    for (size_t i = 0; i < count; i++) {
        const char *rest = keys[i].path, *dot;
        json_t *group = whole;
        for (; (dot = strchr(rest, '.')); rest = dot + 1) {
            char name[64];
            snprintf(name, sizeof(name), "%.*s", (int)(dot - rest), rest);
            if (!json_object_get(group, name))
                json_object_set_new(group, name, json_object());
            group = json_object_get(group, name);
        }
        json_object_set_new(group, rest, value_of(&keys[i], object));
    }
    return whole;
}

static json_t *model_json(const struct config_model *model)
{
    char fingerprint[24];
    snprintf(fingerprint, sizeof(fingerprint), "%016llx", (unsigned long long)model->fingerprint);
    const struct config_table table = config_table_of(model);
    json_t *object = table_json(table.keys, table.count, model);
    json_object_set_new(object, "fingerprint", json_string(fingerprint));
    return object;
}

char *config_model_json(const struct config_model *model)
{
    json_t *object = model_json(model);
    char *text = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return text;
}

char *config_json(const struct config *config)
{
    json_t *whole = table_json(config_top_keys, config_top_key_count, config);
    for (size_t i = 0; i < config->model_count; i++)
        json_object_set_new(json_object_get(whole, config_section_of(&config->models[i])),
                            config->models[i].name, model_json(&config->models[i]));
    char *text = json_dumps(whole, JSON_COMPACT);
    json_decref(whole);
    return text;
}
