/*
 * config.c: a configuration file becomes a struct config, or a message that says what is wrong.
 *
 * Owns: reading the file, the models, what several keys mean together, and the defaults that
 * depend on who runs hasupd.  It must not start, create or connect anything, nor look whether what
 * the file names is there (check.c does).
 * Failure modes: the file cannot be read, or earns errors; there is no half-read configuration.
 */
#include "supervisor/address.h"
#include "supervisor/config_tree.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

enum { SOCKET_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

static const char socket_name[] = "hasup.sock";

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->model_count; i++) {
        config_keys_free(config_model_keys, config_model_key_count, &config->models[i]);
        config_strings_free(config->models[i].process.read_only);
        free(config->models[i].name);
    }
    free(config->models);
    config_keys_free(config_top_keys, config_top_key_count, config);
    free(config->file);
    free(config);
}

static void no_memory(struct config_errors *errors)
{
    config_error(errors, 0, 0, NULL, "out of memory");
}

static void check_listen(struct config *config, const struct node *root,
                         struct config_errors *errors)
{
    struct address address;
    enum address_fault fault;
    const struct node *at = config_place(root, "listen.http");
    if (strcmp(config->listen_http, "off") == 0) {
        free(config->listen_http);
        config->listen_http = NULL;
    } else if ((fault = address_read_listen(config->listen_http, &address))) {
        config_error(errors, at->line, at->column, "listen.http",
                     "expected ADDRESS:PORT such as 127.0.0.1:8080, or off; found \"%.64s\": %s",
                     config->listen_http, address_listen_fault_text(fault));
    } else if (!address_is_loopback(&address) && !config->insecure) {
        config_error(errors, at->line, at->column, "listen.http",
                     "%.*s is not loopback, so whoever reaches this port may use the models; where "
                     "something else guards it, say so with security.insecure: true",
                     (int)(strrchr(config->listen_http, ':') - config->listen_http),
                     config->listen_http);
    }
}

static void check_keys(const struct config *config, const struct node *root,
                       struct config_errors *errors)
{
    static const char *const NEED[] = {"checkpoints.encrypt", "checkpoints.sealed_only"};
    const bool set[] = {config->checkpoints.encrypt, config->checkpoints.sealed_only};
    for (size_t i = 0; i < HASUP_LEN(NEED) && !config->checkpoints.key_file; i++)
        if (set[i]) {
            const struct node *at = config_place(root, NEED[i]);
            config_error(errors, at->line, at->column, NEED[i],
                         "needs a key: name its file in checkpoints.key_file");
        }
}

static void check_log(const struct config *config, const struct node *root,
                      struct config_errors *errors)
{
    const struct node *at = config_place(root, "log.files.hasupd");
    if (config->log.files.hasupd && !config->log.files.directory)
        config_error(errors, at->line, at->column, "log.files.hasupd",
                     "needs a place: name one in log.files.directory");
}

static void check_socket_paths(const struct config *config, const struct node *root,
                               struct config_errors *errors)
{
    const struct node *at = config_place(root, config->listen_unix ? "listen.unix" : "runtime_dir");
    size_t room = SOCKET_PATH_MAX;
    if (config->listen_unix && strlen(config->listen_unix) > room)
        config_error(errors, at->line, at->column, "listen.unix",
                     "longer than the %zu bytes that a socket's path may have", room);
    room -= sizeof(socket_name);
    at = config_place(root, "runtime_dir");
    if (strlen(config->runtime_dir) > room)
        config_error(errors, at->line, at->column, "runtime_dir",
                     "longer than the %zu bytes that leave room for its socket", room);
}

/* "$NAME/hasup", or "$HOME/rest/hasup", or what is left. */
static char *user_dir(const char *variable, const char *below_home, const char *otherwise)
{
    char *out = NULL;
    const char *base = getenv(variable), *home = getenv("HOME");
    int made;
    if (base && base[0] == '/')
        made = asprintf(&out, "%s/hasup", base);
    else if (below_home && home && home[0] == '/')
        made = asprintf(&out, "%s/%s/hasup", home, below_home);
    else
        made = asprintf(&out, "%s-%u", otherwise, (unsigned)getuid());
    return made < 0 ? NULL : out;
}

static bool fill_directories(struct config *config)
{
    bool root = geteuid() == 0;
    if (!config->state_dir)
        config->state_dir = root ? strdup("/var/lib/hasup")
                                 : user_dir("XDG_STATE_HOME", ".local/state", "/var/tmp/hasup");
    if (!config->runtime_dir)
        config->runtime_dir =
            root ? strdup("/run/hasup") : user_dir("XDG_RUNTIME_DIR", NULL, "/tmp/hasup");
    return config->state_dir && config->runtime_dir;
}

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
    for (size_t i = 0; i < config_model_key_count; i++)
        if (config_model_keys[i].restarts)
            hash_key(state, &config_model_keys[i], model);
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

/* Its socket is in runtime_dir, which nobody but hasupd's user may enter. */
static void check_watchdog(const struct config_model *model, const struct config_section *section)
{
    if (model->policy.timeouts.watchdog && model->process.user)
        config_complain(section, "timeouts.watchdog",
                        "another user (process.user) does not reach the watchdog's socket in "
                        "runtime_dir: leave one of them out");
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
    const bool hidden = is_below(dir, "/tmp") || is_below(dir, "/var/tmp");
    const bool needed = model->policy.timeouts.watchdog ||
                        (model->adapter.kind != ADAPTER_NONE && !model->adapter.port);
    if (model->process.private_tmp && hidden && needed)
        config_complain(
            section, "process.private_tmp",
            "hides runtime_dir, %.100s, where the socket of its %s is: put that elsewhere", dir,
            model->policy.timeouts.watchdog ? "watchdog" : "adapter");
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

static void read_model(struct config_reader *reader, struct config *config, const struct node *node)
{
    struct config_model *model = &config->models[config->model_count];
    char prefix[CONFIG_PATH_MAX];
    snprintf(prefix, sizeof(prefix), "models.%.70s", node->key);
    if (!is_model_name(node->key)) {
        config_error(reader->errors, node->key_line, node->key_column, prefix,
                     "a model's name has 1 to 63 letters, digits, '.', '_', '-', and begins with "
                     "a letter or digit");
        return;
    }
    if (node->kind != NODE_MAP && !config_tree_is_nothing(node)) {
        config_error(reader->errors, node->line, node->column, prefix,
                     "expected keys such as command:; found %s",
                     node->kind == NODE_LIST ? "a list" : "text");
        return;
    }
    config->model_count++;
    model->line = node->key_line;
    model->column = node->key_column;
    model->name = strdup(node->key);
    model->directory = strdup(reader->directory);
    if (!config_defaults(config_model_keys, config_model_key_count, model) || !model->name ||
        !model->directory) {
        no_memory(reader->errors);
        return;
    }
    config_read(reader, config_model_keys, config_model_key_count, node, prefix, model);
    model->policy.pre_start.on = model->pre_start != NULL;
    const struct config_section section = {reader->errors, node, prefix};
    check_model(config, model, &section);
    config_adapter_check(model, &section);
    config_start_check(model, &section);
    config_sockets_check(config, model, &section);
    config_process_read(&model->process, &section);
    check_watchdog(model, &section);
    check_tmp(config, model, &section);
    if (!fill_fingerprint(model))
        no_memory(reader->errors);
}

static void read_models(struct config_reader *reader, struct config *config,
                        const struct node *root)
{
    const struct node *map = config_tree_find(root, "models");
    uint64_t workers = 0;
    if (!map || config_tree_is_nothing(map) || (map->kind == NODE_MAP && map->count == 0)) {
        config_error(reader->errors, map ? map->key_line : 1, map ? map->key_column : 1, "models",
                     "required: at least one model, such as digits: {command: [./digits]}");
        return;
    }
    if (map->kind != NODE_MAP) {
        config_error(reader->errors, map->line, map->column, "models",
                     "expected a map from names to models; found %s",
                     map->kind == NODE_LIST ? "a list" : "text");
        return;
    }
    if (map->count > config->limits.models) {
        config_error(reader->errors, map->key_line, map->key_column, "models",
                     "%zu models, but limits.models is %u", map->count, config->limits.models);
        return;
    }
    config->models = calloc(map->count, sizeof(*config->models));
    if (!config->models) {
        no_memory(reader->errors);
        return;
    }
    for (const struct node *node = map->first; node; node = node->next)
        read_model(reader, config, node);
    for (size_t i = 0; i < config->model_count; i++)
        workers += config->models[i].policy.workers + (uint64_t)config->models[i].policy.spares +
                   (uint64_t)config->models[i].policy.preload;
    if (workers > config->limits.slots)
        config_error(reader->errors, map->key_line, map->key_column, "models",
                     "%llu workers in all, but limits.slots is %u", (unsigned long long)workers,
                     config->limits.slots);
}

static void read_all(struct config_reader *reader, struct config *config, const struct node *root)
{
    if (!config_defaults(config_top_keys, config_top_key_count, config)) {
        no_memory(reader->errors);
        return;
    }
    config_read(reader, config_top_keys, config_top_key_count, root, "", config);
    if (!fill_directories(config)) {
        no_memory(reader->errors);
        return;
    }
    check_listen(config, root, reader->errors);
    check_socket_paths(config, root, reader->errors);
    check_keys(config, root, reader->errors);
    check_log(config, root, reader->errors);
    read_models(reader, config, root);
}

struct config *config_parse(const char *text, size_t len, const char *name, const char *directory,
                            char error[CONFIG_ERROR_MAX])
{
    struct config_errors errors;
    struct config_reader reader = {.errors = &errors, .directory = directory};
    config_errors_init(&errors, name, error);
    if (len > CONFIG_FILE_MAX) {
        config_error(&errors, 0, 0, NULL, "larger than 1MiB");
        return NULL;
    }
    struct node *root = config_tree_parse(text, len, &errors);
    if (!root)
        return NULL;
    struct config *config = calloc(1, sizeof(*config));
    if (config)
        config->file = strdup(name);
    if (!config || !config->file)
        no_memory(&errors);
    else
        read_all(&reader, config, root);
    config_tree_free(root);
    config_errors_end(&errors);
    if (errors.count == 0)
        return config;
    config_free(config);
    return NULL;
}

/* Room for at least one byte more of the text; false: none.  It grows from a little, because the
 * free() of one large buffer would make malloc serve hasupd's tables, which are large and mostly
 * unused, from the heap, and clear them: a third of what an idle hasupd needs. */
static bool text_grow(char **text, size_t *room)
{
    size_t more = *room ? *room * 2 : 16 * 1024;
    if (more > CONFIG_FILE_MAX + 1)
        more = CONFIG_FILE_MAX + 1;
    char *grown = realloc(*text, more);
    if (!grown)
        return false;
    *text = grown;
    *room = more;
    return true;
}

/* All of a file, at most one byte more than is allowed, malloc'ed; -1: errno says why. */
static ssize_t read_file(const char *path, char **text)
{
    size_t len = 0, room = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -1;
    while (got > 0 && len <= CONFIG_FILE_MAX) {
        if (len == room && !text_grow(text, &room)) {
            got = -1;
            break;
        }
        got = read(fd, *text + len, room - len);
        if (got > 0)
            len += (size_t)got;
        else if (got < 0 && errno == EINTR)
            got = 1;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return got < 0 ? -1 : (ssize_t)len;
}

/* The directory that holds `path`, absolute: the link's where the file is a symbolic link. */
static char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return realpath(".", NULL);
    char *parent = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    char *out = parent ? realpath(parent, NULL) : NULL;
    free(parent);
    return out;
}

struct config *config_load(const char *path, char error[CONFIG_ERROR_MAX])
{
    struct config_errors errors;
    struct config *config = NULL;
    config_errors_init(&errors, path, error);
    char *text = NULL, *directory = NULL;
    ssize_t len = read_file(path, &text);
    if (len >= 0)
        directory = directory_of(path);
    if (directory)
        config = config_parse(text, (size_t)len, path, directory, error);
    else
        config_error(&errors, 0, 0, NULL, "cannot be read: %s", strerror(errno));
    free(directory);
    free(text);
    return config;
}
