/*
 * http_world.h: a world for the tests of the HTTP door: the real loop and sockets, clients in the
 * same thread, and an engine that answers as the test says.  A test waits by running the loop until
 * what it waits for is there; after 10 s without it the test fails.
 */
#ifndef HASUP_TESTS_HTTP_WORLD_H
#define HASUP_TESTS_HTTP_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervisor/http/http.h"

#define WORLD_UNUSED __attribute__((unused))

enum { BODY_MAX = 1000, LARGE_MAX = 8 << 20, PENDING_MAX = 16 };

/* ---- the engine ---- */

struct request {
    const struct door *door;
    void *context;
    bool used;
};

static struct engine_world {
    enum { ECHO, HOLD, FULL } mode;
    struct request requests[PENDING_MAX];
    uint32_t submitted, cancelled;
    /* The last submission. */
    struct request *last;
    uint32_t model;
    uint8_t priority;
    hasup_ns deadline;
    uint8_t meta[65536];
    size_t meta_len;
    uint8_t *body;
    uint64_t body_len;
    bool in_buffer, unready;
    bool async, no_wait;
    uint64_t heard, heard_of;
    uint64_t run; /* what replies say of themselves */
    char key[256];
    enum record_state record; /* of the only one there is */
    uint32_t asked, dropped;
} engine;

static void fake_reply(struct request *request, uint32_t status, const struct hasup_frame *frame,
                       struct body body)
{
    static const struct hasup_frame bare = {.fd = -1};
    struct reply reply = {.status = status,
                          .frame = frame ? frame : &bare,
                          .body = body,
                          .attempts = 1,
                          .record = engine.run};
    request->used = false;
    request->door->reply(request->context, &reply);
}

static void fake_text(struct request *request, uint32_t status, const char *text) WORLD_UNUSED;
static void fake_text(struct request *request, uint32_t status, const char *text)
{
    fake_reply(request, status, NULL,
               (struct body){.bytes = (const uint8_t *)text, .len = strlen(text)});
}

static void fake_chunk(struct request *request, const void *bytes, size_t len) WORLD_UNUSED;
static void fake_chunk(struct request *request, const void *bytes, size_t len)
{
    static const struct hasup_frame bare = {.fd = -1};
    struct reply head = {.status = 200, .frame = &bare, .attempts = 1, .record = engine.run};
    request->door->chunk(request->context, &head, bytes, len);
}

static void fake_refuse(struct request *request, enum refusal why, hasup_ns after) WORLD_UNUSED;
static void fake_refuse(struct request *request, enum refusal why, hasup_ns after)
{
    struct refusal_text text = {.why = why,
                                .status = refusal_status(why),
                                .code = refusal_code(why),
                                .message = refusal_message(why),
                                .retry_after = after,
                                .attempts = 3};
    request->used = false;
    request->door->refuse(request->context, &text);
}

int engine_submit(struct engine *unused, const struct submission *s, struct request **out)
{
    struct request *request = engine.requests;
    (void)unused;
    while (request < engine.requests + PENDING_MAX && request->used)
        request++;
    if (engine.mode == FULL || request == engine.requests + PENDING_MAX)
        return HASUP_EFULL;
    *request = (struct request){s->door, s->context, true};
    *out = engine.last = request;
    engine.submitted++;
    engine.model = s->model;
    engine.priority = s->priority;
    engine.deadline = s->deadline;
    engine.async = s->async;
    engine.no_wait = s->no_wait;
    engine.heard = s->heard;
    engine.heard_of = s->heard_of;
    snprintf(engine.key, sizeof engine.key, "%.*s", (int)s->key.len,
             s->key.len ? (const char *)s->key.at : "");
    assert_true(s->meta_len <= sizeof engine.meta);
    if (s->meta_len)
        memcpy(engine.meta, s->meta, s->meta_len);
    engine.meta_len = s->meta_len;
    struct body body = s->body;
    const uint8_t *bytes = body_bytes(&body);
    free(engine.body);
    engine.body = malloc(body.len + 1);
    if (body.len)
        memcpy(engine.body, bytes, body.len);
    engine.body[body.len] = '\0';
    engine.body_len = body.len;
    engine.in_buffer = s->body.buffer != NULL;
    if (engine.mode == ECHO)
        fake_reply(request, 200, NULL, (struct body){.bytes = engine.body, .len = body.len});
    return 0;
}

/* One record is known: of RECORD_ID times "a", in the state that the test has set. */
int engine_record(const struct engine *unused, const char *id, size_t len, struct record_info *info)
{
    (void)unused;
    if (len != RECORD_ID || strspn(id, "a") != RECORD_ID)
        return HASUP_ENOTFOUND;
    *info = (struct record_info){.state = engine.record, .model = "m", .attempts = 2};
    return 0;
}

int engine_ask(struct engine *unused, const char *id, size_t len, const struct submission *s,
               struct request **out)
{
    struct record_info info;
    if (engine_record(unused, id, len, &info))
        return HASUP_ENOTFOUND;
    engine.asked++;
    return engine_submit(unused, s, out);
}

int engine_drop(struct engine *unused, const char *id, size_t len)
{
    struct record_info info;
    int error = engine_record(unused, id, len, &info);
    engine.dropped += !error;
    return error;
}

static inline void fake_accept(struct request *request)
{
    char id[RECORD_ID + 1];
    memset(id, 'a', RECORD_ID);
    id[RECORD_ID] = '\0';
    request->used = false;
    request->door->accepted(request->context, id);
}

void engine_cancel(struct engine *unused, struct request *request)
{
    (void)unused;
    assert_true(request->used);
    request->used = false;
    engine.cancelled++;
}

static const char *const models[] = {"m", "large", "odd name"};

uint64_t engine_client(const struct engine *unused, const void *name, size_t len)
{
    uint64_t sum = 1;
    (void)unused;
    for (size_t i = 0; i < len; i++)
        sum = sum * 31 + ((const uint8_t *)name)[i];
    return sum;
}

int engine_model(const struct engine *unused, const char *name, size_t len)
{
    (void)unused;
    for (int i = 0; i < (int)HASUP_LEN(models); i++)
        if (strlen(models[i]) == len && !memcmp(models[i], name, len))
            return i;
    return HASUP_ENOTFOUND;
}

bool engine_model_info(const struct engine *unused, uint32_t model, struct model_info *info)
{
    static const char metadata[] = "{\"name\": \"other\", \"x\": 1, \"platform\": \"fann\", "
                                   "\"outputs\": 5, \"versions\": [\"1\"], \"inputs\": "
                                   "[{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [-1]}]}";
    (void)unused;
    *info = (struct model_info){.name = models[model],
                                .body_max = model == 1 ? LARGE_MAX : BODY_MAX,
                                .ready = !engine.unready,
                                .metadata = model ? NULL : metadata,
                                .metadata_len = model ? 0 : sizeof metadata - 1};
    return true;
}

bool engine_model_body_max(const struct engine *unused, uint32_t model, uint64_t *body_max)
{
    struct model_info info;
    bool known = engine_model_info(unused, model, &info);
    *body_max = info.body_max;
    return known;
}

uint32_t engine_models(const struct engine *unused)
{
    (void)unused;
    return HASUP_LEN(models);
}

bool engine_ready(const struct engine *unused)
{
    (void)unused;
    return !engine.unready;
}

struct door_counts *engine_door_counts(struct engine *unused, enum door_kind kind)
{
    static struct door_counts counts[DOOR_KINDS];
    (void)unused;
    return &counts[kind];
}

char *engine_metrics(struct engine *unused, size_t *len)
{
    (void)unused;
    *len = strlen("hasup_ready 1\n");
    return strdup("hasup_ready 1\n");
}

void engine_make_id(struct engine *unused, char id[33])
{
    (void)unused;
    memset(id, 'a', 32);
    id[32] = '\0';
}

uint32_t refusal_status(enum refusal why)
{
    return why == REFUSED_OVERLOADED ? 429 : why == REFUSED_DEADLINE ? 504 : 404;
}

const char *refusal_code(enum refusal why)
{
    return why == REFUSED_OVERLOADED ? "overloaded"
           : why == REFUSED_DEADLINE ? "deadline"
                                     : "not_found";
}

const char *refusal_message(enum refusal why)
{
    return why == REFUSED_NOT_FOUND ? "there is no such model" : "not now";
}

/* The value of the last submission's field, where `prefix` begins it; NULL: it has none. */

static inline const char *meta_text(enum hasup_tag tag, const char *prefix)
{
    static char text[65536];
    struct hasup_frame frame = {.meta = engine.meta, .meta_len = (uint32_t)engine.meta_len};
    struct hasup_meta_reader reader;
    struct hasup_field field;
    size_t skip = prefix ? strlen(prefix) + 1 : 0;
    hasup_meta_read(&reader, &frame);
    while (hasup_meta_next(&reader, &field) > 0)
        if (field.tag == tag && field.len >= skip &&
            (!prefix || !memcmp(field.value, prefix, skip))) {
            memcpy(text, field.value + skip, field.len - skip);
            text[field.len - skip] = '\0';
            return text;
        }
    return NULL;
}

/* ---- the loop ---- */

static struct {
    struct loop *loop;
    struct http *http;
    struct buffer_pool pool;
    struct timer timer;
    bool late;
    bool (*until)(void);
    int fd;
} world;

static void world_late(void *context)
{
    (void)context;
    world.late = true;
    loop_stop(world.loop);
}

static void world_turn_end(void *context)
{
    (void)context;
    struct pollfd p = {.fd = world.fd, .events = POLLIN};
    if ((world.until && world.until()) || (world.fd >= 0 && poll(&p, 1, 0) == 1))
        loop_stop(world.loop);
    loop_again(world.loop); /* clients are not on the loop: look again */
}

/* Runs the loop until `until` holds or `fd` has something to read. */
static void run_until(bool (*until)(void), int fd)
{
    world.until = until;
    world.fd = fd;
    world.late = false;
    world.timer.due = world_late;
    assert_int_equal(timer_set(&world.timer, world.loop, loop_now(world.loop) + 10 * HASUP_S), 0);
    loop_run(world.loop);
    timer_stop(&world.timer);
    assert_false(world.late);
}

static void world_open(const struct http_options *wanted)
{
    struct http_options options = wanted ? *wanted : (struct http_options){0};
    char error[HTTP_ERROR_MAX];
    memset(&engine, 0, sizeof engine);
    memset(&world, 0, sizeof world);
    options.listen = "127.0.0.1:0";
    options.pool = &world.pool;
    world.loop = loop_new();
    assert_non_null(world.loop);
    world.http = http_new(world.loop, NULL, &options, error);
    if (!world.http)
        fail_msg("%s", error);
    assert_int_equal(loop_at_turn_end(world.loop, world_turn_end, NULL), 0);
}

static void world_close(void)
{
    http_free(world.http);
    buffer_pool_fini(&world.pool);
    loop_free(world.loop);
    free(engine.body);
    engine.body = NULL;
}

/* ---- clients ---- */

struct client {
    int fd;
    char *in;
    size_t len, room;
    bool eof, reset;
};

struct got {
    int status;
    char head[16384];
    char body[262144];
    size_t len;
    bool whole; /* the body's end was marked */
};

static struct got got; /* the last answer */

static void client_open(struct client *client)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(http_port(world.http))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int on = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&to, sizeof to), 0);
}

static void client_close(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    free(client->in);
    client->in = NULL;
}

static int world_turns;

static bool world_turned(void)
{
    return --world_turns <= 0;
}

/* Lets the door do what it can do now. */
static void settle(void)
{
    world_turns = 6;
    run_until(world_turned, -1);
}

static void client_send(struct client *client, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        ssize_t sent = send(client->fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN) {
            settle();
            continue;
        }
        if (sent < 0)
            return; /* the door closed it: the answer says why */
        at += sent;
        len -= (size_t)sent;
    }
}

static void client_say(struct client *client, const char *text)
{
    client_send(client, text, strlen(text));
}

/* Reads once, after waiting for something to read. */
static void client_read(struct client *client)
{
    run_until(NULL, client->fd);
    if (client->room - client->len < 65536) {
        client->room = client->room * 2 + 65536;
        client->in = realloc(client->in, client->room);
        assert_non_null(client->in);
    }
    ssize_t n = recv(client->fd, client->in + client->len, client->room - client->len - 1, 0);
    client->eof = n <= 0;
    client->reset = n < 0;
    client->len += n > 0 ? (size_t)n : 0;
    client->in[client->len] = '\0';
}

static void client_drop(struct client *client, size_t len)
{
    client->len -= len;
    memmove(client->in, client->in + len, client->len + 1);
}

static inline const char *got_header(const char *name)
{
    static char value[8192];
    size_t len = strlen(name);
    for (const char *at = strstr(got.head, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (!strncasecmp(at, name, len) && at[len] == ':') {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(at + len + 2, "\r"), at + len + 2);
            return value;
        }
    }
    return NULL;
}

static void got_body(const char *bytes, size_t len)
{
    assert_true(got.len + len < sizeof got.body);
    memcpy(got.body + got.len, bytes, len);
    got.len += len;
    got.body[got.len] = '\0';
}

static inline void client_chunks(struct client *client)
{
    for (;;) {
        char *line;
        while (!(line = client->len ? memmem(client->in, client->len, "\r\n", 2) : NULL)) {
            if (client->eof)
                return;
            client_read(client);
        }
        size_t len = strtoul(client->in, NULL, 16), skip = (size_t)(line - client->in) + 2;
        while (client->len < skip + len + 2) {
            if (client->eof)
                return;
            client_read(client);
        }
        got_body(client->in + skip, len);
        client_drop(client, skip + len + 2);
        if (!len) {
            got.whole = true;
            return;
        }
    }
}

/* The next answer, into `got`; status 0: the connection was closed instead. */
static void client_head(struct client *client)
{
    char *end;
    got.status = 0;
    got.len = 0;
    got.whole = false;
    got.head[0] = got.body[0] = '\0';
    while (!(end = client->len ? memmem(client->in, client->len, "\r\n\r\n", 4) : NULL)) {
        if (client->eof)
            return;
        client_read(client);
    }
    size_t len = (size_t)(end - client->in) + 4;
    assert_true(len < sizeof got.head);
    memcpy(got.head, client->in, len);
    got.head[len] = '\0';
    client_drop(client, len);
    assert_int_equal(sscanf(got.head, "HTTP/1.1 %d ", &got.status), 1);
}

static void client_answer(struct client *client)
{
    client_head(client);
    if (!got.status || got.status == 100 || got.status == 204 || got.status == 304)
        return;
    const char *length = got_header("Content-Length");
    if (length) {
        size_t len = strtoul(length, NULL, 10);
        while (client->len < len && !client->eof)
            client_read(client);
        got.whole = client->len >= len;
        if (!got.whole)
            return;
        got_body(client->in ? client->in : "", len);
        client_drop(client, len);
    } else if (got_header("Transfer-Encoding")) {
        client_chunks(client);
    } else {
        while (!client->eof)
            client_read(client);
        got_body(client->in, client->len);
        client->len = 0;
    }
}

/* Sends `text` on a connection of its own and takes the answer. */
static inline void ask(const char *text)
{
    struct client client;
    client_open(&client);
    client_say(&client, text);
    client_answer(&client);
    client_close(&client);
}

/* Whether the door closes the connection with nothing more said. */
static inline bool closes(struct client *client)
{
    while (!client->eof && !client->len)
        client_read(client);
    return client->eof && !client->len;
}

#define HOST "Host: t\r\n"

#endif
