/*
 * config_models.c: `models` and `programs` become config->models.  Owns what the keys of one mean
 * together, and the fingerprint of what its processes were started with.  It must not look whether
 * what they name is there (check.c does).
 * Failure mode: what is wrong is an error with its place, and reading goes on.
 */
#include "supervisor/address.h"
#include "supervisor/config_order.h"
#include "supervisor/config_probe.h"
#include "supervisor/signals.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

static void hash_text(XXH3_state_t *state, const char *text)
{
    XXH3_64bits_update(state, text ? text : "", (text ? strlen(text) : 0) + 1);
}

static void hash_sockets(XXH3_state_t *state, const struct config_socket *at)
{
    for (; at && at->name; at++) {
        hash_text(state, at->name);
        hash_text(state, at->tcp);
        hash_text(state, at->path);
    }
}

static size_t number_size(enum config_type type)
{
    if (type == CONFIG_BOOL)
        return sizeof(bool);
    return type == CONFIG_SIZE || type == CONFIG_DURATION ? sizeof(uint64_t) : sizeof(uint32_t);
}

static void hash_key(XXH3_state_t *state, const struct config_key *key,
                     const struct config_model *model)
{
    const void *value = (const char *)model + key->offset;
    hash_text(state, key->path);
    if (config_is_strings(key->type))
        for (char **s = *(char **const *)value; s && *s; s++)
            hash_text(state, *s);
    else if (key->type == CONFIG_TEXT || key->type == CONFIG_FILE_PATH)
        hash_text(state, *(char *const *)value);
    else if (key->type == CONFIG_SOCKETS)
        hash_sockets(state, *(struct config_socket *const *)value);
    else if (key->type == CONFIG_READY)
        XXH3_64bits_update(state, &model->ready.how, sizeof model->ready.how);
    else
        XXH3_64bits_update(state, value, number_size(key->type));
}

void config_version_default(uint64_t fingerprint, char text[CONFIG_VERSION_MAX])
{
    snprintf(text, CONFIG_VERSION_MAX, "%08x", (unsigned)(fingerprint >> 32));
}

static bool fill_fingerprint(struct config_model *model)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        return false;
    XXH3_64bits_reset(state);
    const struct config_table table = config_table_of(model);
    for (size_t i = 0; i < table.count; i++)
        if (table.keys[i].restarts)
            hash_key(state, &table.keys[i], model);
    model->fingerprint = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    char made[CONFIG_VERSION_MAX];
    config_version_default(model->fingerprint, made);
    return model->version || (model->version = strdup(made));
}

static bool is_model_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > 63 || !isalnum((unsigned char)name[0]))
        return false;
    for (const char *s = name; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return true;
}

/* Devices go round by whole groups: a slot would otherwise share one with a part of another. */
static void check_devices(const struct config_model *model, const struct config_section *section)
{
    static const char *const OWN[] = {
        "CUDA_VISIBLE_DEVICES=", "ROCR_VISIBLE_DEVICES=", "HIP_VISIBLE_DEVICES="};
    size_t count = 0;
    for (char **device = model->devices; device && *device; device++, count++)
        if (strpbrk(*device, ", \t\n") || strlen(*device) > 64)
            config_complain(
                section, "devices",
                "\"%.64s\" is no device: one word of at most 64 letters each, such as 0 or "
                "GPU-8f3b; several for a worker: devices_per_worker",
                *device);
    if (count % model->devices_per_worker)
        config_complain(section, "devices",
                        "%zu devices cannot be dealt out %u at a time (devices_per_worker)", count,
                        model->devices_per_worker);
    for (char **own = model->environment; count && own && *own; own++)
        for (size_t i = 0; i < HASUP_LEN(OWN); i++)
            if (strncmp(*own, OWN[i], strlen(OWN[i])) == 0)
                config_complain(section, "devices",
                                "environment sets %.*s, too: leave one of them out",
                                (int)strlen(OWN[i]) - 1, OWN[i]);
}

static void check_version(const struct config_model *model, const struct config_section *section)
{
    size_t len = model->version ? strlen(model->version) : 1;
    for (const char *s = model->version; s && *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-+", *s))
            len = 0;
    if (len == 0 || len > CONFIG_VERSION_MAX)
        config_complain(section, "version",
                        "a version has 1 to %d letters, digits, '.', '_', '-', '+'; it stands in "
                        "answers",
                        CONFIG_VERSION_MAX);
}

static bool is_below(const char *path, const char *directory)
{
    size_t len = strlen(directory);
    return strncmp(path, directory, len) == 0 && (path[len] == '/' || !path[len]);
}

/* A /tmp of its own hides what hasupd has there. */
static void check_tmp(const struct config *config, const struct config_model *model,
                      const struct config_section *section)
{
    const char *dir = config->runtime_dir;
    const bool hidden = dir && (is_below(dir, "/tmp") || is_below(dir, "/var/tmp"));
    const bool needed = model->adapter.kind != ADAPTER_NONE && !model->adapter.port;
    if (model->process.private_tmp && hidden && needed)
        config_complain(
            section, "process.private_tmp",
            "hides runtime_dir, %.100s, where the socket of its adapter is: put that elsewhere",
            dir);
}

/* ---- what is off ---- */

static void check_no_state(const struct config_model *model, const struct config_section *section)
{
    if (model->policy.journal == JOURNALS_ALWAYS)
        config_complain(section, "journal",
                        "there is no journal with state_dir: off: auto or never, or name a "
                        "state_dir");
    if (model->quarantine_keep_body)
        config_complain(section, "quarantine_keep_body",
                        "dead letters are kept in the journal, and there is none with "
                        "state_dir: off");
}

static bool asks_for_socket(const struct config_model *model)
{
    for (char **word = model->command; word && *word; word++)
        if (strstr(*word, "{socket}"))
            return true;
    return false;
}

/* The watchdog's and notify's are no matter: notify.c has sockets without a file. */
static void check_no_runtime(const struct config_model *model, const struct config_section *section)
{
    if (model->adapter.kind != ADAPTER_NONE && !model->adapter.port && !model->adapter.socket &&
        asks_for_socket(model))
        config_complain(section, "adapter.socket",
                        "{socket} would be in runtime_dir, which is off: name a place, or let it "
                        "listen at {port}");
}

/* What would be kept, or stand, where nothing may be written. */
static void check_off(const struct config *config, const struct config_model *model,
                      const struct config_section *section)
{
    if (!config->state_dir)
        check_no_state(model, section);
    if (!config->runtime_dir)
        check_no_runtime(model, section);
    if (!config->listen_http && !config->listen_unix && !config_is_program(model))
        config_complain(section, "",
                        "nobody could ask it: listen.http and listen.unix are both off");
}

/* What the keys of one model mean together. */
static void check_model(const struct config *config, const struct config_model *model,
                        const struct config_section *section)
{
    char path[CONFIG_PATH_MAX], a[CONFIG_VALUE_MAX], b[CONFIG_VALUE_MAX];
    const struct node *node = section->node;
    if (!model->command && !config_tree_find(node, "command")) {
        snprintf(path, sizeof(path), "%.80s.command", section->prefix);
        config_error(section->errors, node->key_line, node->key_column, path,
                     "required: what to run, such as [python3, worker.py]");
    }
    if (model->policy.restart.backoff_min > model->policy.restart.backoff_max) {
        config_duration_text(model->policy.restart.backoff_min, a);
        config_duration_text(model->policy.restart.backoff_max, b);
        config_complain(section, "restart.backoff_min", "%s is more than backoff_max, %s", a, b);
    }
    check_devices(model, section);
    check_version(model, section);
    if (model->body_max > config->limits.body_bytes) {
        config_size_text(model->body_max, a);
        config_size_text(config->limits.body_bytes, b);
        config_complain(section, "body_max", "%s is more than limits.body_bytes, %s", a, b);
    }
}

/* ---- programs ---- */

/* A oneshot does its task and ends: that is all that there is to know of it. */
static void check_oneshot(struct config_model *model, const struct config_section *section)
{
    static const char *const NOT[] = {"ready", "live", "timeouts.watchdog", "recycle.age"};
    const struct node *restart = config_tree_find(section->node, "restart");
    const bool said = restart && restart->kind == NODE_MAP && config_tree_find(restart, "when");
    const bool set[] = {model->ready.how != READY_AT_ONCE, model->live.spec.kind != PROBE_NONE,
                        model->policy.timeouts.watchdog != 0, model->policy.recycle.age != 0};
    for (size_t i = 0; i < HASUP_LEN(NOT); i++)
        if (set[i])
            config_complain(section, NOT[i],
                            "a oneshot does its task and ends, within timeouts.start");
    if (!said)
        model->policy.revival = REVIVE_ON_FAILURE;
    else if (model->policy.revival == REVIVE_ALWAYS)
        config_complain(section, "restart.when",
                        "a oneshot that is done is not run again: on-failure, or never");
}

/* What the core hears of a program besides what it hears of a model. */
static void fill_program(struct config_model *model)
{
    struct model_policy *policy = &model->policy;
    policy->kind = model->oneshot ? KIND_ONESHOT : KIND_PROGRAM;
    policy->max_attempts = 1;
    policy->tells = model->ready.how == READY_NOTIFY || model->ready.how == READY_FD;
    if (model->ready.how == READY_PROBE)
        policy->probes[PROBE_READY].interval = model->ready.probe.interval;
    if (model->live.spec.kind != PROBE_NONE) {
        policy->probes[PROBE_LIVE].interval = model->live.interval;
        policy->probes[PROBE_LIVE].failures = model->live.failures;
    }
}

static void check_stop_signal(struct config_model *model, const struct config_section *section)
{
    static const int NOT[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU,
                              SIGCONT, SIGCHLD, SIGURG,  SIGWINCH};
    model->stop_signal = signal_number(model->stop_name, strlen(model->stop_name));
    for (size_t i = 0; i < HASUP_LEN(NOT); i++)
        if (model->stop_signal == NOT[i])
            config_complain(section, "stop_signal",
                            "%.40s ends nothing: a signal such as TERM, INT or QUIT",
                            model->stop_name);
    if (model->stop_signal < 1)
        config_complain(section, "stop_signal",
                        "expected a signal such as TERM, INT or QUIT; found \"%.40s\"",
                        model->stop_name);
}

static uint16_t port_of(const struct address *address)
{
    const struct sockaddr *at = &address->places[0].at.any;
    return at->sa_family == AF_INET    ? ntohs(address->places[0].at.v4.sin_port)
           : at->sa_family == AF_INET6 ? ntohs(address->places[0].at.v6.sin6_port)
                                       : 0;
}

/* Where hasupd listens somebody answers, whatever the program does. */
static void check_probe(const struct config *config, const struct config_model *model,
                        const char *key, const struct config_probe *probe,
                        const struct config_section *section)
{
    const struct template_values values = {.model = model->name};
    struct address asked, own;
    if (probe->spec.kind != PROBE_TCP || !probe->spec.address || !config->listen_http)
        return;
    char *filled = template_fill(probe->spec.address, &values);
    if (filled && !address_read(filled, &asked) &&
        !address_read_listen(config->listen_http, &own) && port_of(&own) &&
        port_of(&asked) == port_of(&own) && address_is_loopback(&asked))
        config_complain(section, key,
                        "%s is where hasupd itself listens (listen.http): it would answer", filled);
    free(filled);
}

static void check_program(const struct config *config, struct config_model *model,
                          const struct config_section *section)
{
    check_probe(config, model, "ready", &model->ready.probe, section);
    check_probe(config, model, "live", &model->live, section);
    check_stop_signal(model, section);
    if (model->oneshot)
        check_oneshot(model, section);
    fill_program(model);
}

/* ---- each of them ---- */

static bool is_model(struct config_reader *reader, const struct node *node, const char *prefix,
                     const char *what)
{
    if (!is_model_name(node->key)) {
        config_error(reader->errors, node->key_line, node->key_column, prefix,
                     "a %s's name has 1 to 63 letters, digits, '.', '_', '-', and begins with "
                     "a letter or digit",
                     what);
        return false;
    }
    if (node->kind != NODE_MAP && !config_tree_is_nothing(node)) {
        config_error(reader->errors, node->line, node->column, prefix,
                     "expected keys such as command:; found %s",
                     node->kind == NODE_LIST ? "a list" : "text");
        return false;
    }
    return true;
}

/* What its keys mean together. */
static void check_all(const struct config *config, struct config_model *model,
                      const struct config_section *section)
{
    check_model(config, model, section);
    if (config_is_program(model))
        check_program(config, model, section);
    else
        config_adapter_check(model, section);
    config_start_check(model, section);
    config_sockets_check(config, model, section);
    config_process_read(&model->process, section);
    check_tmp(config, model, section);
    check_off(config, model, section);
}

static void read_model(struct config_reader *reader, struct config *config, const struct node *node,
                       enum model_kind kind)
{
    struct config_model *model = &config->models[config->model_count];
    char prefix[CONFIG_PATH_MAX];
    model->policy.kind = kind;
    model->stop_signal = SIGTERM;
    const struct config_table table = config_table_of(model);
    snprintf(prefix, sizeof(prefix), "%s.%.70s", config_section_of(model), node->key);
    if (!is_model(reader, node, prefix, kind == KIND_WORKERS ? "model" : "program"))
        return;
    const struct config_model *same = config_model_named(config, node->key);
    if (same)
        config_error(reader->errors, node->key_line, node->key_column, prefix,
                     "line %u has this name, too: models and programs share their names",
                     same->line);
    config->model_count++;
    model->line = node->key_line;
    model->column = node->key_column;
    model->name = strdup(node->key);
    model->directory = strdup(reader->directory);
    if (!config_defaults(table.keys, table.count, model) || !model->name || !model->directory) {
        config_no_memory(reader->errors);
        return;
    }
    config_read(reader, table.keys, table.count, node, prefix, model);
    model->policy.pre_start.on = model->pre_start != NULL;
    const struct config_section section = {reader->errors, node, prefix};
    check_all(config, model, &section);
    if (!fill_fingerprint(model))
        config_no_memory(reader->errors);
}

/* ---- all of them ---- */

/* The map at `key`; NULL: there is none, or it has an error. */
static const struct node *map_of(struct config_reader *reader, const struct node *root,
                                 const char *key)
{
    const struct node *map = config_tree_find(root, key);
    if (!map || config_tree_is_nothing(map) || (map->kind == NODE_MAP && map->count == 0))
        return NULL;
    if (map->kind == NODE_MAP)
        return map;
    config_error(reader->errors, map->line, map->column, key,
                 "expected a map from names to %s; found %s", key,
                 map->kind == NODE_LIST ? "a list" : "text");
    return NULL;
}

static void check_slots(struct config_reader *reader, const struct config *config,
                        const struct node *at)
{
    uint64_t slots = 0;
    for (size_t i = 0; i < config->model_count; i++)
        slots += config->models[i].policy.workers + (uint64_t)config->models[i].policy.spares +
                 (uint64_t)config->models[i].policy.preload;
    if (slots > config->limits.slots)
        config_error(reader->errors, at->key_line, at->key_column, at->key,
                     "%llu slots in all, but limits.slots is %u", (unsigned long long)slots,
                     config->limits.slots);
}

static void none_at_all(struct config_reader *reader, const struct node *root)
{
    const struct node *at = config_tree_find(root, "models");
    config_error(reader->errors, at ? at->key_line : 1, at ? at->key_column : 1, "models",
                 "required: at least one model, such as digits: {command: [./digits]}; or one of "
                 "programs");
}

void config_models_read(struct config_reader *reader, struct config *config,
                        const struct node *root)
{
    const unsigned before = reader->errors->count;
    const struct node *const maps[] = {map_of(reader, root, "models"),
                                       map_of(reader, root, "programs")};
    const size_t count = (maps[0] ? maps[0]->count : 0) + (maps[1] ? maps[1]->count : 0);
    const struct node *at = maps[0] ? maps[0] : maps[1];
    if (!at) {
        if (reader->errors->count == before)
            none_at_all(reader, root);
        return;
    }
    if (count > config->limits.models) {
        config_error(reader->errors, at->key_line, at->key_column, at->key,
                     "%zu models and programs, but limits.models is %u", count,
                     config->limits.models);
        return;
    }
    config->models = calloc(count, sizeof(*config->models));
    if (!config->models) {
        config_no_memory(reader->errors);
        return;
    }
    for (size_t i = 0; i < HASUP_LEN(maps); i++)
        for (const struct node *node = maps[i] ? maps[i]->first : NULL; node; node = node->next)
            read_model(reader, config, node, i == 0 ? KIND_WORKERS : KIND_PROGRAM);
    if (!reader->part)
        config_order_check(config, root, reader->errors);
    check_slots(reader, config, at);
}
