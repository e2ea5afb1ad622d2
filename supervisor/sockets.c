/*
 * sockets.c: what models' processes listen at.  Opened once, by hasupd, and kept while any
 * configuration that a model runs names the address: over restarts of the processes, reloads and
 * upgrades of hasupd.  So a client that comes while no process runs waits in the backlog and is not
 * refused.  Accepts nothing, and reads nothing.
 *
 * A socket belongs to its address, not to a model's name or version: one that moves to another
 * model stays open.  One at port 0 has no address of its own and belongs to its name.
 * Failure mode: one that cannot be opened is a start that fails, and is tried again with the next.
 */
#include "supervisor/sockets.h"

#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_MAX = 256, SOCKETS_ALL = 65536 };

struct listener {
    char *key;
    char *path; /* of a Unix socket; NULL: none */
    int fd;
    uint32_t mode, backlog;
    bool needed; /* while those that are not are looked for */
    struct listener *next;
};

static void key_of(const struct config_model *model, const struct config_socket *socket,
                   char key[KEY_MAX])
{
    const char *port = socket->tcp ? strrchr(socket->tcp, ':') : NULL;
    if (port && strcmp(port, ":0") == 0)
        snprintf(key, KEY_MAX, "%s %s/%s", socket->tcp, model->name, socket->name);
    else
        snprintf(key, KEY_MAX, "%s", socket->tcp ? socket->tcp : socket->path);
}

static struct listener *find(const struct engine *engine, const struct config_model *model,
                             const struct config_socket *socket)
{
    char key[KEY_MAX];
    struct listener *at = engine->listeners;
    key_of(model, socket, key);
    while (at && strcmp(at->key, key) != 0)
        at = at->next;
    return at;
}

static void listener_free(struct listener *listener)
{
    if (listener->fd >= 0)
        close(listener->fd);
    free(listener->key);
    free(listener->path);
    free(listener);
}

static struct listener *listener_new(const char *key, const struct config_socket *socket)
{
    struct listener *listener = calloc(1, sizeof *listener);
    if (!listener)
        return NULL;
    *listener = (struct listener){.key = strdup(key),
                                  .path = socket->path ? strdup(socket->path) : NULL,
                                  .fd = -1,
                                  .mode = socket->mode,
                                  .backlog = socket->backlog};
    if (listener->key && (listener->path || !socket->path))
        return listener;
    listener_free(listener);
    return NULL;
}

/* Another address with this port is ours: one that what runs yet needs is in the next one's way. */
static void name_ours(const struct engine *engine, const char *tcp, char error[LISTEN_ERROR])
{
    const char *wanted = strrchr(tcp, ':') + 1;
    for (const struct listener *at = engine->listeners; at; at = at->next) {
        uint16_t port;
        if (at->path || listen_port(at->fd, &port) || atoi(wanted) != port)
            continue;
        size_t len = strlen(error);
        snprintf(error + len, LISTEN_ERROR - len, "; hasupd listens at %.60s already", at->key);
        return;
    }
}

static int listener_open(struct engine *engine, const struct config_model *model,
                         const struct config_socket *socket, char error[LISTEN_ERROR])
{
    char key[KEY_MAX];
    uint16_t port = 0;
    key_of(model, socket, key);
    struct listener *listener = listener_new(key, socket);
    snprintf(error, LISTEN_ERROR, "out of memory");
    if (!listener)
        return ENOMEM;
    listener->fd = socket->tcp
                       ? listen_tcp(socket->tcp, (int)socket->backlog, error)
                       : listen_unix(socket->path, socket->mode, (int)socket->backlog, error);
    if (listener->fd < 0 || (socket->tcp && listen_port(listener->fd, &port))) {
        if (socket->tcp)
            name_ours(engine, socket->tcp, error);
        listener_free(listener);
        return EADDRNOTAVAIL;
    }
    listener->next = engine->listeners;
    engine->listeners = listener;
    LOG_EVENT(LEVEL_INFO, "socket.listens", socket->tcp ? socket->tcp : socket->path,
              LOG_TEXT("model", model->name), LOG_TEXT("socket", socket->name),
              LOG_INT(socket->tcp ? "port" : NULL, port));
    return 0;
}

/* What can change while it listens. */
static int listener_set(struct listener *listener, const struct config_socket *socket,
                        char error[LISTEN_ERROR])
{
    if ((listener->path && listener->mode != socket->mode && chmod(listener->path, socket->mode)) ||
        (listener->backlog != socket->backlog && listen(listener->fd, (int)socket->backlog))) {
        int failed = errno;
        snprintf(error, LISTEN_ERROR, "%.120s: %s", listener->key, strerror(failed));
        return failed;
    }
    listener->mode = socket->mode;
    listener->backlog = socket->backlog;
    return 0;
}

int sockets_open(struct engine *engine, const struct config_model *model, char error[ENGINE_REASON])
{
    int failed = 0;
    for (const struct config_socket *at = model->sockets; at && at->name && !failed; at++) {
        char why[LISTEN_ERROR];
        struct listener *listener = find(engine, model, at);
        failed = listener ? listener_set(listener, at, why) : listener_open(engine, model, at, why);
        if (failed)
            snprintf(error, ENGINE_REASON, "sockets.%.63s: %s", at->name, why);
    }
    return failed;
}

void sockets_prepare(struct engine *engine, const struct config_model *model)
{
    char error[ENGINE_REASON];
    if (sockets_open(engine, model, error))
        LOG_EVENT(LEVEL_ERROR, "socket.failed", error, LOG_TEXT("model", model->name));
}

size_t sockets_of(const struct engine *engine, const struct config_model *model,
                  int fds[CONFIG_SOCKETS_MAX])
{
    size_t count = 0;
    for (const struct config_socket *at = model->sockets; at && at->name; at++) {
        const struct listener *listener = find(engine, model, at);
        if (listener)
            fds[count++] = listener->fd;
    }
    return count;
}

/* With the port that it has, where any was to do. */
static void address_of(const struct listener *listener, const struct config_socket *socket,
                       char address[KEY_MAX])
{
    uint16_t port;
    snprintf(address, KEY_MAX, "%s", socket->tcp ? socket->tcp : socket->path);
    char *colon = socket->tcp && listener ? strrchr(address, ':') : NULL;
    if (colon && !listen_port(listener->fd, &port))
        snprintf(colon, KEY_MAX - (size_t)(colon - address), ":%u", port);
}

json_t *sockets_json(const struct engine *engine, const struct config_model *model)
{
    json_t *list = json_array();
    for (const struct config_socket *at = model->sockets; at && at->name; at++) {
        const struct listener *listener = find(engine, model, at);
        char address[KEY_MAX];
        address_of(listener, at, address);
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:b}", "name", at->name, "address",
                                              address, "backlog",
                                              (int)(listener ? listener->backlog : at->backlog),
                                              "open", listener != NULL));
    }
    return list;
}

/* ---- which are needed no more ---- */

static void note_named(const struct engine *engine, const struct config_model *model)
{
    for (const struct config_socket *at = model ? model->sockets : NULL; at && at->name; at++) {
        struct listener *listener = find(engine, model, at);
        if (listener)
            listener->needed = true;
    }
}

static void note_needed(const struct engine *engine)
{
    for (struct listener *at = engine->listeners; at; at = at->next)
        at->needed = false;
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        const struct model *model = &engine->models[i];
        if (!model->used)
            continue;
        note_named(engine, model->config);
        for (size_t k = 0; k < HASUP_LEN(model->versions); k++)
            if (model->versions[k].number && model->versions[k].config != model->config)
                note_named(engine, model->versions[k].config);
    }
}

static void listener_end(struct listener *listener)
{
    if (listener->path) /* first: while it listens the file is its own */
        unlink(listener->path);
    close(listener->fd);
    listener->fd = -1;
}

void sockets_sweep(struct engine *engine)
{
    if (engine->listeners)
        note_needed(engine);
    for (struct listener **at = &engine->listeners; *at;) {
        struct listener *listener = *at;
        if (listener->needed) {
            at = &listener->next;
            continue;
        }
        *at = listener->next;
        listener_end(listener);
        LOG_EVENT(LEVEL_INFO, "socket.closed", NULL, LOG_TEXT("address", listener->key));
        listener_free(listener);
    }
}

void sockets_close(struct engine *engine)
{
    while (engine->listeners) {
        struct listener *listener = engine->listeners;
        engine->listeners = listener->next;
        listener_end(listener);
        listener_free(listener);
    }
}

/* ---- to another hasupd ---- */

static void listener_carry(struct carry *carry, struct listener *listener)
{
    CARRY(carry);
    carry_string(carry, &listener->key);
    carry_string(carry, &listener->path);
    carry_fd(carry, &listener->fd);
    V(listener->mode);
    V(listener->backlog);
}

void sockets_carry(struct carry *carry, struct engine *engine)
{
    CARRY(carry);
    uint32_t count = 0;
    struct listener **last = &engine->listeners;
    for (struct listener *at = codec->loading ? NULL : engine->listeners; at; at = at->next)
        count++;
    E(count, SOCKETS_ALL);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        if (codec->loading && !(*last = calloc(1, sizeof **last))) {
            carry->no_memory = true;
            codec_fail(codec);
            return;
        }
        if (codec->loading)
            (*last)->fd = -1;
        listener_carry(carry, *last);
        last = &(*last)->next;
    }
}
