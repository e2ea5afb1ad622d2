/*
 * config.c: a configuration file becomes a struct config, or a message that says what is wrong.
 *
 * Owns: reading the file, what several of the top level's keys mean together, and the defaults that
 * depend on who runs hasupd; models and programs are config_models.c's.  It must not start, create
 * or connect anything, nor look whether what the file names is there (check.c does).
 * Failure modes: the file cannot be read, or earns errors; there is no half-read configuration.
 */
#include "supervisor/address.h"
#include "supervisor/config_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

enum { SOCKET_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

static const char socket_name[] = "hasup.sock";

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->model_count; i++) {
        const struct config_table table = config_table_of(&config->models[i]);
        config_keys_free(table.keys, table.count, &config->models[i]);
        config_strings_free(config->models[i].process.read_only);
        free(config->models[i].process.attributes);
        free(config->models[i].name);
    }
    free(config->models);
    config_keys_free(config_top_keys, config_top_key_count, config);
    free(config->file);
    free(config);
}

const struct config_model *config_model_named(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->model_count; i++)
        if (strcmp(config->models[i].name, name) == 0)
            return &config->models[i];
    return NULL;
}

static void check_listen(struct config *config, const struct node *root,
                         struct config_errors *errors)
{
    struct address address;
    enum address_fault fault;
    const struct node *at = config_place(root, "listen.http");
    if (!config->listen_http)
        return;
    if ((fault = address_read_listen(config->listen_http, &address))) {
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
    static const char *const NEED[] = {"checkpoints.encrypt", "checkpoints.sealed_only",
                                       "checkpoints.key_file"};
    const bool set[] = {config->checkpoints.encrypt, config->checkpoints.sealed_only,
                        config->checkpoints.key_file != NULL};
    const char *wrong =
        !config->state_dir ? "no checkpoint is stored with state_dir: off: leave one of them out"
        : !config->checkpoints.key_file ? "needs a key: name its file in checkpoints.key_file"
                                        : NULL;
    for (size_t i = 0; i < HASUP_LEN(NEED) && wrong; i++)
        if (set[i]) {
            const struct node *at = config_place(root, NEED[i]);
            config_error(errors, at->line, at->column, NEED[i], "%s", wrong);
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

/* Where nothing else is said the local door's socket is in runtime_dir; false: no memory. */
static bool fill_unix(struct config *config, const struct node *root, struct config_errors *errors)
{
    const struct node *listen = config_tree_find(root, "listen");
    if (listen && listen->kind == NODE_MAP && config_tree_find(listen, "unix"))
        return true;
    if (config->runtime_dir) {
        if (asprintf(&config->listen_unix, "%s/%s", config->runtime_dir, socket_name) < 0)
            config->listen_unix = NULL;
        return config->listen_unix != NULL;
    }
    const struct node *at = config_place(root, "runtime_dir");
    config_error(errors, at->line, at->column, "runtime_dir",
                 "off, but the local door's socket would be there: say listen.unix: off, too "
                 "(hasupctl then cannot reach hasupd), or name its path");
    return true;
}

static void check_socket_paths(const struct config *config, const struct node *root,
                               struct config_errors *errors)
{
    const struct node *at = config_place(root, "runtime_dir");
    size_t room = SOCKET_PATH_MAX;
    const bool fits =
        !config->runtime_dir || strlen(config->runtime_dir) <= room - sizeof(socket_name);
    if (fits && config->listen_unix && strlen(config->listen_unix) > room) {
        at = config_place(root, "listen.unix");
        config_error(errors, at->line, at->column, "listen.unix",
                     "longer than the %zu bytes that a socket's path may have", room);
    }
    room -= sizeof(socket_name);
    if (!fits)
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
    config->state_dir = root ? strdup("/var/lib/hasup")
                             : user_dir("XDG_STATE_HOME", ".local/state", "/var/tmp/hasup");
    config->runtime_dir =
        root ? strdup("/run/hasup") : user_dir("XDG_RUNTIME_DIR", NULL, "/tmp/hasup");
    return config->state_dir && config->runtime_dir;
}

static void read_all(struct config_reader *reader, struct config *config, const struct node *root)
{
    if (!config_defaults(config_top_keys, config_top_key_count, config) ||
        !fill_directories(config)) {
        config_no_memory(reader->errors);
        return;
    }
    config_read(reader, config_top_keys, config_top_key_count, root, "", config);
    if (!fill_unix(config, root, reader->errors)) {
        config_no_memory(reader->errors);
        return;
    }
    check_listen(config, root, reader->errors);
    check_socket_paths(config, root, reader->errors);
    check_keys(config, root, reader->errors);
    check_log(config, root, reader->errors);
    config_models_read(reader, config, root);
}

/* ---- what is off ---- */

static const char *const may_be_off[] = {"state_dir", "runtime_dir", "listen.unix"};

uint32_t config_off(const struct config *config)
{
    const char *const values[] = {config->state_dir, config->runtime_dir, config->listen_unix};
    uint32_t off = 0;
    for (unsigned i = 0; i < HASUP_LEN(values); i++)
        off |= values[i] ? 0 : UINT32_C(1) << i;
    return off;
}

const char *config_off_differs(uint32_t one, uint32_t other)
{
    for (unsigned i = 0; i < HASUP_LEN(may_be_off); i++)
        if ((one ^ other) & UINT32_C(1) << i)
            return may_be_off[i];
    return NULL;
}

/* ---- all of it ---- */

static struct config *parse(const char *text, size_t len, const char *name, const char *directory,
                            bool part, char error[CONFIG_ERROR_MAX])
{
    struct config_errors errors;
    struct config_reader reader = {.errors = &errors, .directory = directory, .part = part};
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
        config_no_memory(&errors);
    else
        read_all(&reader, config, root);
    config_tree_free(root);
    config_errors_end(&errors);
    if (errors.count == 0)
        return config;
    config_free(config);
    return NULL;
}

struct config *config_parse(const char *text, size_t len, const char *name, const char *directory,
                            char error[CONFIG_ERROR_MAX])
{
    return parse(text, len, name, directory, false, error);
}

struct config *config_parse_part(const char *text, size_t len, const char *name,
                                 const char *directory, char error[CONFIG_ERROR_MAX])
{
    return parse(text, len, name, directory, true, error);
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
