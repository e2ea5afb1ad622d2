/*
 * unix_door.c: local clients.  Owns the listening socket and the clients.  A client that goes away
 * has its requests (unix_requests.c) cancelled; one that does not read is cut off at
 * limits.stream_bytes; one that breaks the protocol loses its connection and nothing else happens.
 */
#include "supervisor/unix_own.h"

#include "supervisor/carry.h"
#include "supervisor/control.h"
#include "supervisor/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ACCEPTS_A_TURN = 16, BACKLOG = 128 };

static const hasup_ns ACCEPT_PAUSE = 100 * HASUP_MS;

/* ---- clients ---- */

static void client_close(struct unix_client *client)
{
    struct unix_door *door = client->door;
    if (!client->back)
        return;
    peer_close(&client->peer);
    *client->back = client->next;
    if (client->next)
        client->next->back = client->back;
    client->back = NULL;
    engine_door_counts(door->engine, DOOR_UNIX)->open = --door->count;
    control_cancel(door->control, client, 0, true);
    while (client->requests) {
        struct request *request = client->requests->request;
        unix_record_free(client->requests);
        engine_cancel(door->engine, request);
    }
    client->next_dead = door->dead;
    door->dead = client;
}

static void client_lost(void *context, int error, const char *why)
{
    struct unix_client *client = context;
    if (error != HASUP_ECLOSED)
        LOG_EVENT(LEVEL_WARNING, "client.broke", why, LOG_TEXT("door", "unix"));
    client_close(client);
}

int unix_client_send(struct unix_client *client, struct hasup_frame *frame, struct body *body)
{
    int error = peer_send(&client->peer, frame, body);
    if (error && error != HASUP_ECLOSED) {
        LOG_EVENT(LEVEL_WARNING, "client.cut_off", "it does not read its answers",
                  LOG_TEXT("door", "unix"));
        client_close(client);
    }
    return error;
}

static int client_frame(void *context, const struct hasup_frame *frame, struct body *body)
{
    struct unix_client *client = context;
    switch (frame->type) {
    case HASUP_REQUEST: return unix_client_request(client, frame, body);
    case HASUP_CANCEL:
        if (!unix_client_cancel(client, frame->id))
            control_cancel(client->door->control, client, frame->id, false);
        return 0;
    case HASUP_PING: return peer_say(&client->peer, HASUP_PONG, frame->id);
    case HASUP_CONTROL:
        if (!client->door->control || (body->len && !body_bytes(body)))
            return HASUP_EPROTO;
        control_handle(client->door->control, client, frame->id, body->bytes, body->len);
        return 0;
    }
    return HASUP_EPROTO;
}

static void client_drained(void *context)
{
    struct unix_client *client = context;
    control_drained(client->door->control, client);
}

static const struct peer_ops CLIENT_OPS = {
    .frame = client_frame, .lost = client_lost, .drained = client_drained};

/* ---- control's answers ---- */

void unix_client_reply(struct unix_client *client, uint64_t id, uint32_t status, const char *text)
{
    uint8_t meta[64 + PEER_META_ROOM];
    static const char type[] = "application/json";
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 64);
    hasup_meta_put(&w, HASUP_TAG_CONTENT_TYPE, type, sizeof type - 1);
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .id = id, .seq = status, .meta = meta, .meta_len = (uint32_t)w.used};
    struct body body = {.bytes = (const uint8_t *)text, .len = strlen(text)};
    unix_client_send(client, &frame, &body);
}

size_t unix_client_unsent(struct unix_client *client)
{
    return hasup_channel_unsent(&client->peer.channel);
}

bool unix_client_chunk(struct unix_client *client, uint64_t id, const char *text, size_t len)
{
    struct hasup_frame frame = {.type = HASUP_CHUNK, .id = id};
    struct body body = {.bytes = (const uint8_t *)text, .len = len};
    /* A follower that is slow misses lines; it is not cut off for it. */
    if (hasup_channel_unsent(&client->peer.channel) > client->peer.channel.out.max / 2)
        return false;
    return peer_send(&client->peer, &frame, &body) == 0;
}

/* ---- life ---- */

static bool allowed(int fd)
{
    struct ucred who;
    socklen_t len = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

static void client_link(struct unix_door *door, struct unix_client *client)
{
    client->door = door;
    client->next = door->clients;
    client->back = &door->clients;
    if (client->next)
        client->next->back = &client->next;
    door->clients = client;
    engine_door_counts(door->engine, DOOR_UNIX)->open = ++door->count;
}

static void door_take(struct unix_door *door, int fd)
{
    struct engine *engine = door->engine;
    struct unix_client *client = NULL;
    struct door_counts *counts = engine_door_counts(engine, DOOR_UNIX);
    if (!allowed(fd) || door->count >= engine->config->limits.connections ||
        !(client = calloc(1, sizeof *client))) {
        LOG_EVENT(LEVEL_WARNING, "client.refused",
                  "not hasupd's own user, or limits.connections is reached",
                  LOG_TEXT("door", "unix"));
        counts->refused++;
        close(fd);
        return;
    }
    if (peer_open(&client->peer, engine->peers, fd, &CLIENT_OPS, client)) {
        free(client);
        return;
    }
    client->peer.channel.out.max = (size_t)engine->config->limits.stream_bytes;
    client_link(door, client);
}

static void accept_again(void *context)
{
    struct unix_door *door = context;
    struct loop *loop = door->engine->loop;
    if (watch_set(&door->watch, loop, door->fd, WATCH_READ))
        (void)!timer_set(&door->accept_again, loop, loop_now(loop) + ACCEPT_PAUSE);
}

/* The backlog would wake the loop again at once and for ever: it waits. */
static void accept_failed(struct unix_door *door)
{
    struct loop *loop = door->engine->loop;
    if (!door->accept_failing)
        LOG_EVENT(LEVEL_ERROR, "door.accept_failed", strerror(errno), LOG_TEXT("door", "unix"));
    door->accept_failing = true;
    if (!timer_set(&door->accept_again, loop, loop_now(loop) + ACCEPT_PAUSE))
        watch_stop(&door->watch);
}

static void door_accept(void *context, int events)
{
    struct unix_door *door = context;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                accept_failed(door);
            return;
        }
        door->accept_failing = false;
        door_take(door, fd);
    }
}

static void door_turn_end(void *context)
{
    struct unix_door *door = context;
    while (door->dead) {
        struct unix_client *client = door->dead;
        door->dead = client->next_dead;
        free(client);
    }
}

static int door_listen(struct unix_door *door, const char *path, char error[CONFIG_ERROR_MAX])
{
    char why[LISTEN_ERROR];
    snprintf(door->path, sizeof door->path, "%s", path);
    door->fd = listen_unix(path, 0600, BACKLOG, why);
    if (door->fd < 0)
        snprintf(error, CONFIG_ERROR_MAX, "listen.unix: %s", why);
    return door->fd < 0 ? door->fd : fcntl(door->fd, F_SETFL, O_NONBLOCK);
}

struct unix_door *unix_door_new(struct engine *engine, const char *path, int listener,
                                char error[CONFIG_ERROR_MAX])
{
    struct unix_door *door = calloc(1, sizeof *door);
    if (!door) {
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
        return NULL;
    }
    door->engine = engine;
    door->fd = -1;
    door->watch.ready = door_accept;
    door->watch.context = door;
    door->accept_again = (struct timer){.due = accept_again, .context = door};
    if (listener > 0) {
        struct sockaddr_un address = {0};
        socklen_t len = sizeof address;
        door->fd = listener;
        if (!getsockname(listener, (struct sockaddr *)&address, &len))
            snprintf(door->path, sizeof door->path, "%s", address.sun_path);
    } else if (door_listen(door, path, error)) {
        if (door->fd >= 0)
            close(door->fd);
        free(door);
        return NULL;
    }
    if (watch_set(&door->watch, engine->loop, door->fd, WATCH_READ) ||
        loop_at_turn_end(engine->loop, door_turn_end, door)) {
        snprintf(error, CONFIG_ERROR_MAX, "out of memory");
        unix_door_free(door);
        return NULL;
    }
    return door;
}

void unix_door_set_control(struct unix_door *door, struct control *control)
{
    door->control = control;
}

const char *unix_door_path(const struct unix_door *door)
{
    return door->path;
}

void unix_door_free(struct unix_door *door)
{
    if (!door)
        return;
    while (door->clients)
        client_close(door->clients);
    door_turn_end(door);
    while (door->free) {
        struct unix_request *record = door->free;
        door->free = record->next;
        free(record);
    }
    watch_stop(&door->watch);
    timer_stop(&door->accept_again);
    close(door->fd);
    unlink(door->path);
    free(door);
}

/* ---- to another hasupd ---- */

int unix_door_listener(const struct unix_door *door)
{
    return door->fd;
}

const char *unix_door_holds(const struct unix_door *door)
{
    const char *holds = NULL;
    for (const struct unix_client *client = door->clients; client && !holds; client = client->next)
        holds = peer_holds(&client->peer);
    return holds;
}

static void client_carry(struct carry *carry, struct unix_door *door, struct unix_client *client)
{
    CARRY(carry);
    if (codec->loading) {
        client = calloc(1, sizeof *client);
        if (!client) {
            codec_fail(codec);
            return;
        }
    }
    codec_begin(codec);
    peer_carry(carry, &client->peer, door->engine->peers, &CLIENT_OPS, client);
    if (codec->loading)
        client_link(door, client);
    unix_requests_carry(carry, client);
    control_carry(carry, door->control, client);
    codec_end(codec);
}

void unix_door_carry(struct carry *carry, struct unix_door *door)
{
    CARRY(carry);
    uint32_t count = door->count;
    codec_begin(codec);
    V(count);
    codec_end(codec);
    struct unix_client *client = door->clients;
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        client_carry(carry, door, client);
        client = codec->loading ? NULL : client->next;
    }
}
