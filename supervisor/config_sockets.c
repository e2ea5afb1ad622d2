/*
 * config_sockets.c: `sockets:` of a model, which hasupd opens and its processes inherit.  Looks at
 * no address (sockets.c opens them).
 * Failure mode: a socket that means nothing is an error with its place.
 */
#include "supervisor/address.h"
#include "supervisor/config_tree.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

enum { PATH_ROOM = sizeof(((struct sockaddr_un *)0)->sun_path) - 1 };

#define SOCKET(path_, type_, member_, ...)                                                         \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct config_socket, member_),           \
        __VA_ARGS__                                                                                \
    }

static const struct config_key KEYS[] = {
    SOCKET("tcp", CONFIG_TEXT, tcp, .fallback = NULL),
    SOCKET("unix", CONFIG_FILE_PATH, path, .fallback = NULL),
    SOCKET("mode", CONFIG_TEXT, mode_text, .fallback = "0600"),
    SOCKET("backlog", CONFIG_COUNT, backlog, .fallback = "4096", .min = 1, .max = 65535),
};

/* Where the errors are told. */
struct where {
    struct config_errors *errors;
    const struct node *node;
    const char *path;
};

#define COMPLAIN(where_, ...)                                                                      \
    config_error((where_)->errors, (where_)->node->line, (where_)->node->column, (where_)->path,   \
                 __VA_ARGS__)

/* It stands in LISTEN_FDNAMES, between colons. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);
    for (const char *s = name; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            return false;
    return len > 0 && len < 64;
}

static void check_one(const struct where *where, struct config_socket *socket)
{
    struct address address;
    enum address_fault fault;
    char *end;
    long mode = strtol(socket->mode_text, &end, 8);
    socket->mode = (uint32_t)mode;
    if (!is_name(socket->name))
        COMPLAIN(where, "a socket's name has 1 to 63 letters, digits, '.', '_', '-'");
    if (!socket->tcp == !socket->path)
        COMPLAIN(where, "expected where it listens: tcp: ADDRESS:PORT, or unix: PATH");
    if (*end || end == socket->mode_text || mode < 0 || mode > 0777)
        COMPLAIN(where, "mode: expected octal digits such as \"0660\"; found \"%.40s\"",
                 socket->mode_text);
    if (socket->tcp && config_tree_find(where->node, "mode"))
        COMPLAIN(where, "mode is a Unix socket's");
    fault = socket->tcp ? address_read_listen(socket->tcp, &address) : ADDRESS_FINE;
    if (fault)
        COMPLAIN(where, "tcp: expected ADDRESS:PORT such as 127.0.0.1:8080; found \"%.64s\": %s",
                 socket->tcp, address_listen_fault_text(fault));
    if (socket->path && strlen(socket->path) > PATH_ROOM)
        COMPLAIN(where, "unix: longer than the %d bytes that a socket's path may have", PATH_ROOM);
}

/* One address has one name.  False: no memory. */
static bool settle_localhost(struct config_socket *socket)
{
    static const char NAME[] = "localhost:";
    char *numeric;
    if (!socket->tcp || strncmp(socket->tcp, NAME, sizeof NAME - 1) != 0)
        return true;
    if (asprintf(&numeric, "127.0.0.1:%s", socket->tcp + sizeof NAME - 1) < 0)
        return false;
    free(socket->tcp);
    socket->tcp = numeric;
    return true;
}

void config_sockets_read(struct config_reader *reader, const struct node *node, const char *path,
                         struct config_socket **target)
{
    struct where where = {reader->errors, node, path};
    if (node->kind != NODE_MAP || node->count == 0 || node->count > CONFIG_SOCKETS_MAX) {
        COMPLAIN(&where, "expected up to %d names such as {http: {tcp: '127.0.0.1:8000'}}",
                 CONFIG_SOCKETS_MAX);
        return;
    }
    struct config_socket *list = calloc(node->count + 1, sizeof *list), *at = list;
    char inner[CONFIG_PATH_MAX];
    bool fine = list != NULL;
    for (const struct node *child = node->first; child && fine; child = child->next, at++) {
        snprintf(inner, sizeof inner, "%.150s.%.63s", path, child->key);
        where = (struct where){reader->errors, child, inner};
        fine = (at->name = strdup(child->key)) && config_defaults(KEYS, HASUP_LEN(KEYS), at);
        if (fine && child->kind == NODE_MAP)
            config_read(reader, KEYS, HASUP_LEN(KEYS), child, inner, at);
        fine = fine && settle_localhost(at);
        if (fine)
            check_one(&where, at);
    }
    if (!fine)
        COMPLAIN(&where, "out of memory");
    config_sockets_free(*target);
    *target = list;
}

void config_sockets_free(struct config_socket *sockets)
{
    for (struct config_socket *at = sockets; at && at->name; at++) {
        config_keys_free(KEYS, HASUP_LEN(KEYS), at);
        free(at->name);
    }
    free(sockets);
}

static bool is_same(const struct config_socket *a, const struct config_socket *b)
{
    if (a->tcp && b->tcp)
        return strcmp(a->tcp, b->tcp) == 0 && strcmp(strrchr(a->tcp, ':'), ":0") != 0;
    return a->path && b->path && strcmp(a->path, b->path) == 0;
}

/* The model before `model`, or itself, that has this address, too; NULL: none. */
static const struct config_model *also(const struct config *config,
                                       const struct config_model *model,
                                       const struct config_socket *socket)
{
    for (const struct config_model *other = config->models; other <= model; other++)
        for (const struct config_socket *at = other->sockets; at && at->name && at != socket; at++)
            if (is_same(at, socket))
                return other;
    return NULL;
}

void config_sockets_check(const struct config *config, const struct config_model *model,
                          const struct config_section *section)
{
    char path[CONFIG_PATH_MAX];
    const struct node *sockets = config_place(section->node, "sockets");
    for (const struct config_socket *at = model->sockets; at && at->name && !section->errors->count;
         at++) {
        const struct config_model *other = also(config, model, at);
        const struct config_section its = {section->errors, config_tree_find(sockets, at->name),
                                           path};
        snprintf(path, sizeof path, "%.120s.sockets.%.63s", section->prefix, at->name);
        if (other)
            config_complain(&its, "", "%s has a socket at this address, too", other->name);
        if (model->adapter.kind != ADAPTER_NONE)
            config_complain(
                &its, "", "an adapter's server listens where adapter.port or adapter.socket says");
    }
}
