/*
 * unix_door.c: local clients.  Owns the listening socket, the clients, and each client's requests
 * that are not answered yet.  A client that goes away has its requests cancelled; one that does not
 * read is cut off at limits.stream_bytes; one that breaks the protocol loses its connection and
 * nothing else happens.
 */
#include "supervisor/unix_door.h"

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

struct unix_request {
    struct unix_client *client;
    uint64_t id; /* the client's number */
    uint32_t chunks;
    struct request *request;
    struct unix_request *next, **back;
};

struct unix_client {
    struct unix_door *door;
    struct peer peer;
    struct unix_request *requests;
    struct unix_client *next, **back;
    struct unix_client *next_dead;
};

struct unix_door {
    struct engine *engine;
    struct control *control;
    struct watch watch;
    struct timer accept_again;
    bool accept_failing;
    int fd;
    char path[108];
    uint32_t count;
    struct unix_client *clients;
    struct unix_client *dead;  /* freed at the turn's end: they may still be on the stack */
    struct unix_request *free; /* a few records for the next requests */
    uint32_t free_count;
};

enum { FREE_REQUESTS = 1024, SMALL_META = 4096, KEY_MAX = 255, ACCEPTS_A_TURN = 16, BACKLOG = 128 };

static const hasup_ns ACCEPT_PAUSE = 100 * HASUP_MS;

static const struct door UNIX_DOOR;

/* ---- records ---- */

static struct unix_request *record_new(struct unix_client *client, uint64_t id)
{
    struct unix_door *door = client->door;
    struct unix_request *record = door->free;
    if (record) {
        door->free = record->next;
        door->free_count--;
    } else if (!(record = malloc(sizeof *record))) {
        return NULL;
    }
    *record = (struct unix_request){
        .client = client, .id = id, .next = client->requests, .back = &client->requests};
    if (record->next)
        record->next->back = &record->next;
    client->requests = record;
    return record;
}

static void record_free(struct unix_request *record)
{
    struct unix_door *door = record->client->door;
    *record->back = record->next;
    if (record->next)
        record->next->back = record->back;
    if (door->free_count == FREE_REQUESTS) {
        free(record);
        return;
    }
    record->next = door->free;
    door->free = record;
    door->free_count++;
}

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
        record_free(client->requests);
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

static int client_send(struct unix_client *client, struct hasup_frame *frame, struct body *body)
{
    int error = peer_send(&client->peer, frame, body);
    if (error && error != HASUP_ECLOSED) {
        LOG_EVENT(LEVEL_WARNING, "client.cut_off", "it does not read its answers",
                  LOG_TEXT("door", "unix"));
        client_close(client);
    }
    return error;
}

/* ---- answers ---- */

/* Fields of a worker's answer that are not passed on: its buffer's, and those that only hasupd
 * says. */
static bool field_stays(unsigned tag)
{
    return tag == HASUP_TAG_BUFFER_ID || tag == HASUP_TAG_BUFFER_OFFSET || tag == HASUP_TAG_CODE ||
           tag == HASUP_TAG_RETRY_AFTER || tag == HASUP_TAG_ATTEMPTS;
}

/* Sends `frame` with the worker's meta and ATTEMPTS behind it. */
static int send_answer(struct unix_client *client, struct hasup_frame *frame,
                       const struct hasup_frame *from, struct body *body, uint32_t attempts)
{
    uint8_t small[SMALL_META], *meta = small;
    size_t need = from->meta_len + 16 + PEER_META_ROOM;
    if (attempts <= 1 && !from->meta_len && body->len <= HASUP_INLINE_MAX)
        return client_send(client, frame, body);
    if (need > sizeof small && !(meta = malloc(need)))
        return HASUP_ENOMEM;
    struct hasup_meta_reader reader;
    struct hasup_meta_writer w;
    struct hasup_field field;
    hasup_meta_read(&reader, from);
    hasup_meta_start(&w, meta, need - PEER_META_ROOM);
    while (hasup_meta_next(&reader, &field) > 0)
        if (!field_stays(field.tag))
            hasup_meta_put(&w, (enum hasup_tag)field.tag, field.value, field.len);
    if (attempts > 1)
        hasup_meta_put32(&w, HASUP_TAG_ATTEMPTS, attempts);
    frame->meta = meta;
    frame->meta_len = (uint32_t)w.used;
    int error = client_send(client, frame, body);
    if (meta != small)
        free(meta);
    return error;
}

static void door_reply(void *context, const struct reply *reply)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .id = record->id, .seq = reply->status, .fd = -1};
    struct body body = reply->body;
    record_free(record);
    send_answer(client, &frame, reply->frame, &body, reply->attempts);
}

static void door_chunk(void *context, const struct reply *head, const uint8_t *bytes, size_t len)
{
    struct unix_request *record = context;
    struct hasup_frame frame = {
        .type = HASUP_CHUNK, .id = record->id, .seq = record->chunks++, .fd = -1};
    struct body body = {.bytes = bytes, .len = len};
    send_answer(record->client, &frame, head->frame, &body, 1);
}

static void send_refusal(struct unix_client *client, uint64_t id, const struct refusal_text *text)
{
    uint8_t meta[1024 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 1024);
    hasup_meta_put(&w, HASUP_TAG_CODE, text->code, strlen(text->code));
    hasup_meta_put(&w, HASUP_TAG_ERROR, text->message, strlen(text->message));
    if (text->retry_after)
        hasup_meta_put32(&w, HASUP_TAG_RETRY_AFTER, (uint32_t)(text->retry_after / HASUP_MS));
    if (text->attempts > 1)
        hasup_meta_put32(&w, HASUP_TAG_ATTEMPTS, text->attempts);
    struct hasup_frame frame = {.type = HASUP_REPLY,
                                .id = id,
                                .seq = text->status,
                                .meta = meta,
                                .meta_len = (uint32_t)w.used};
    client_send(client, &frame, NULL);
}

static void door_refuse(void *context, const struct refusal_text *refusal)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    uint64_t id = record->id;
    record_free(record);
    send_refusal(client, id, refusal);
}

/* It is durable, or (asked for without waiting) has no end yet: what to ask by later. */
static void send_accepted(struct unix_client *client, uint64_t id, const char *record)
{
    uint8_t meta[64 + PEER_META_ROOM];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, 64);
    hasup_meta_put(&w, HASUP_TAG_RECORD, record, RECORD_ID);
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .id = id, .seq = 202, .meta = meta, .meta_len = (uint32_t)w.used};
    client_send(client, &frame, NULL);
}

static void door_accepted(void *context, const char *id)
{
    struct unix_request *record = context;
    struct unix_client *client = record->client;
    uint64_t number = record->id;
    record_free(record);
    send_accepted(client, number, id);
}

static const struct door UNIX_DOOR = {.name = "unix",
                                      .reply = door_reply,
                                      .chunk = door_chunk,
                                      .refuse = door_refuse,
                                      .accepted = door_accepted};

/* ---- requests ---- */

struct client_request {
    char no_model[ENGINE_REASON]; /* why `model` is none */
    struct submission submission;
    struct hasup_meta_writer meta;
    int model;
    uint64_t timeout;
    struct bytes record; /* of a durable request that is asked for; len 0: none is */
};

static int take_field(struct unix_client *client, struct client_request *r,
                      const struct hasup_field *field)
{
    uint32_t priority, prefer;
    switch (field->tag) {
    case HASUP_TAG_MODEL:
        r->model = engine_model(client->door->engine, (const char *)field->value, field->len);
        if (r->model < 0)
            engine_no_model(client->door->engine, (const char *)field->value, field->len,
                            r->no_model);
        return 0;
    case HASUP_TAG_DEADLINE: return hasup_field_get64(field, &r->timeout);
    case HASUP_TAG_PRIORITY:
        if (hasup_field_get32(field, &priority) || priority < 1 || priority > 9)
            return HASUP_EPROTO;
        r->submission.priority = (uint8_t)priority;
        hasup_meta_put32(&r->meta, HASUP_TAG_PRIORITY, priority);
        return 0;
    case HASUP_TAG_BUFFER_ID:
    case HASUP_TAG_BUFFER_OFFSET: return 0;
    case HASUP_TAG_RECORD:
        r->record = (struct bytes){field->value, field->len};
        return field->len ? 0 : HASUP_EPROTO;
    case HASUP_TAG_PREFER:
        if (hasup_field_get32(field, &prefer))
            return HASUP_EPROTO;
        r->submission.async = prefer & HASUP_PREFER_ASYNC;
        r->submission.no_wait = prefer & HASUP_PREFER_NO_WAIT;
        return 0;
    case HASUP_TAG_IDEMPOTENCY_KEY:
        r->submission.key = (struct bytes){field->value, field->len};
        hasup_meta_put(&r->meta, HASUP_TAG_IDEMPOTENCY_KEY, field->value, field->len);
        return 0;
    case HASUP_TAG_CONTENT_TYPE:
    case HASUP_TAG_ROUTE:
    case HASUP_TAG_HEADER:
    case HASUP_TAG_REQUEST_ID:
    case HASUP_TAG_SESSION:
    case HASUP_TAG_BATCH_KEY:
    case HASUP_TAG_TRACEPARENT:
        hasup_meta_put(&r->meta, (enum hasup_tag)field->tag, field->value, field->len);
        return 0;
    default: return hasup_meta_unknown(field);
    }
}

static void refuse_at_the_door(struct unix_client *client, uint64_t id, uint32_t status,
                               const char *code, const char *message, hasup_ns retry_after)
{
    send_refusal(
        client, id,
        &(struct refusal_text){
            .status = status, .code = code, .message = message, .retry_after = retry_after});
}

static void ask(struct unix_client *client, uint64_t id, struct client_request *r)
{
    struct engine *engine = client->door->engine;
    const char *name = (const char *)r->record.at;
    struct record_info info = {0};
    int error = engine_record(engine, name, r->record.len, &info);
    bool ended = info.state == RECORD_DONE || info.state == RECORD_REFUSED;
    if (!error && r->submission.no_wait && !ended) {
        send_accepted(client, id, name);
        return;
    }
    struct unix_request *record = error ? NULL : record_new(client, id);
    if (record) {
        r->submission.door = &UNIX_DOOR;
        r->submission.context = record;
        r->submission.body = (struct body){0};
        error = engine_ask(engine, name, r->record.len, &r->submission, &record->request);
        if (error)
            record_free(record);
    }
    if (error == HASUP_ENOTFOUND)
        refuse_at_the_door(client, id, 404, "not_found", "there is no such request", 0);
    else if (error || !record)
        refuse_at_the_door(client, id, 429, "overloaded", refusal_message(REFUSED_OVERLOADED),
                           HASUP_S);
}

static void submit(struct unix_client *client, uint64_t id, struct client_request *r)
{
    struct engine *engine = client->door->engine;
    uint64_t body_max;
    if (r->model < 0 || !engine_model_body_max(engine, (uint32_t)r->model, &body_max)) {
        refuse_at_the_door(client, id, 404, "not_found",
                           r->no_model[0] ? r->no_model : refusal_message(REFUSED_NOT_FOUND), 0);
        return;
    }
    if (r->submission.key.len > KEY_MAX) {
        refuse_at_the_door(client, id, 400, "bad_request",
                           "an idempotency key has 255 bytes at most", 0);
        return;
    }
    if (r->submission.body.len > body_max) {
        refuse_at_the_door(client, id, 413, "too_large", "the body is over the model's body_max",
                           0);
        return;
    }
    struct unix_request *record = record_new(client, id);
    int error = HASUP_ENOMEM;
    if (record) {
        r->submission.door = &UNIX_DOOR;
        r->submission.context = record;
        r->submission.model = (uint32_t)r->model;
        error = engine_submit(engine, &r->submission, &record->request);
        if (error)
            record_free(record);
    }
    if (error)
        refuse_at_the_door(client, id, 429, "overloaded", refusal_message(REFUSED_OVERLOADED),
                           HASUP_S);
}

static hasup_ns deadline_after(hasup_ns now, uint64_t timeout)
{
    return timeout < (uint64_t)(HASUP_NEVER - now) ? now + (hasup_ns)timeout : HASUP_NEVER;
}

static int client_request(struct unix_client *client, const struct hasup_frame *frame,
                          struct body *body)
{
    uint8_t small[SMALL_META], *meta = small;
    struct client_request r = {.submission = {.body = *body}, .model = HASUP_ENOTFOUND};
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    if (frame->meta_len > sizeof small && !(meta = malloc(frame->meta_len)))
        return HASUP_ENOMEM;
    hasup_meta_start(&r.meta, meta, meta == small ? sizeof small : frame->meta_len);
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0)
        if ((got = take_field(client, &r, &field)) < 0)
            break;
    if (!got) {
        r.submission.meta = meta;
        r.submission.meta_len = r.meta.used;
        if (r.timeout)
            r.submission.deadline = deadline_after(loop_now(client->door->engine->loop), r.timeout);
        if (r.record.len)
            ask(client, frame->id, &r);
        else
            submit(client, frame->id, &r);
    }
    if (meta != small)
        free(meta);
    return got;
}

static void client_cancel(struct unix_client *client, uint64_t id)
{
    for (struct unix_request *record = client->requests; record; record = record->next)
        if (record->id == id) {
            struct request *request = record->request;
            record_free(record);
            engine_cancel(client->door->engine, request);
            return;
        }
    control_cancel(client->door->control, client, id, false);
}

static int client_frame(void *context, const struct hasup_frame *frame, struct body *body)
{
    struct unix_client *client = context;
    switch (frame->type) {
    case HASUP_REQUEST: return client_request(client, frame, body);
    case HASUP_CANCEL: client_cancel(client, frame->id); return 0;
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
    client_send(client, &frame, &body);
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

static void client_requests_carry(struct carry *carry, struct unix_client *client)
{
    CARRY(carry);
    struct unix_request *record = client->requests;
    uint64_t count = 0;
    for (; record && !codec->loading; record = record->next)
        count++;
    V(count);
    record = client->requests;
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        if (codec->loading && !(record = record_new(client, 0))) {
            codec_fail(codec);
            return;
        }
        uint64_t id = codec->loading ? 0 : engine_request_id(record->request);
        V(record->id);
        V(record->chunks);
        V(id);
        if (!codec->loading) {
            record = record->next;
            continue;
        }
        record->request = engine_rejoin(client->door->engine, id, &UNIX_DOOR, record);
        if (!record->request) {
            record_free(record);
            codec_fail(codec);
        }
    }
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
    client_requests_carry(carry, client);
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
