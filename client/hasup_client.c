/*
 * hasup_client.c: the client's side of the local door.  Owns the socket and the buffers that hasupd
 * announces for large answers; large requests go into memfds that are used again once answered.
 */
#include "client/hasup_client.h"

#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/shared.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A memfd with a large body: one that hasupd announced, or one of the client's own. */
struct memory {
    uint32_t id;
    int fd;
    uint8_t *map;
    uint64_t size;
    uint64_t request; /* own: who uses it now; 0: free */
    struct memory *next;
};

struct hasup_client {
    struct hasup_channel channel;
    uint64_t next_id;
    uint32_t next_buffer;
    struct memory *theirs, *ours;
    uint32_t release; /* of the answer that was handed out last; 0: none */
    uint8_t *scratch;
    bool ended;
};

/* Where anybody may make a directory first. */
#define SHARED "/tmp/hasup-"

const char *hasup_client_default_path(char path[108])
{
    const char *named = getenv("HASUP_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");
    if (named && *named)
        snprintf(path, 108, "%s", named);
    else if (geteuid() == 0)
        snprintf(path, 108, "/run/hasup/hasup.sock");
    else if (!run || *run != '/')
        snprintf(path, 108, SHARED "%u/hasup.sock", (unsigned)getuid());
    else
        snprintf(path, 108, "%.80s/hasup/hasup.sock", run);
    return path;
}

static const char *advice(int error)
{
    if (error == ENOENT || error == ECONNREFUSED)
        return "; is hasupd running? -s or HASUP_SOCKET names another socket; one with "
               "listen.unix: off hears HTTP and signals only";
    if (error == EACCES)
        return "; it lets in only its own user and root";
    return "";
}

/* The default directory below /tmp: somebody else could have made it, to get our requests. */
static bool is_trusted(const char *path, char error[256])
{
    char mine[64], directory[48];
    struct stat st;
    snprintf(directory, sizeof directory, SHARED "%u", (unsigned)getuid());
    snprintf(mine, sizeof mine, "%s/hasup.sock", directory);
    if (geteuid() == 0 || strcmp(path, mine) != 0 || lstat(directory, &st))
        return true;
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077))
        return true;
    snprintf(error, 256,
             "%s is not a directory of this user's own with mode 0700, so what listens there is "
             "not trusted; -s or HASUP_SOCKET names another socket",
             directory);
    return false;
}

struct hasup_client *hasup_client_open(const char *path, char error[256])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(error, 256, "%.100s…: the path is too long for a socket", path);
        return NULL;
    }
    if (!is_trusted(path, error))
        return NULL;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct hasup_client *client = calloc(1, sizeof *client);
    uint8_t *scratch = malloc(HASUP_CHANNEL_SCRATCH);
    if (fd < 0 || !client || !scratch ||
        connect(fd, (const struct sockaddr *)&address, sizeof address)) {
        int why = fd >= 0 && client && scratch ? errno : ENOMEM;
        snprintf(error, 256, "%s: %s%s", path, strerror(why), advice(why));
        if (fd >= 0)
            close(fd);
        free(client);
        free(scratch);
        return NULL;
    }
    client->scratch = scratch;
    hasup_channel_init(&client->channel, fd, 0);
    return client;
}

static void memory_free(struct memory *memory)
{
    munmap(memory->map, memory->size);
    close(memory->fd);
    free(memory);
}

void hasup_client_close(struct hasup_client *client)
{
    if (!client)
        return;
    struct memory *lists[] = {client->theirs, client->ours};
    for (size_t i = 0; i < HASUP_LEN(lists); i++)
        for (struct memory *m = lists[i], *next; m; m = next) {
            next = m->next;
            memory_free(m);
        }
    hasup_channel_fini(&client->channel);
    free(client->scratch);
    free(client);
}

int hasup_client_fd(const struct hasup_client *client)
{
    return client->channel.fd;
}

/* ---- sending ---- */

static struct memory *memory_make(struct hasup_client *client, uint64_t len)
{
    struct memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return NULL;
    memory->size = hasup_shared_size(len);
    memory->fd = hasup_shared_make("hasup-request", memory->size, &memory->map);
    if (memory->fd < 0) {
        free(memory);
        return NULL;
    }
    memory->id = ++client->next_buffer;
    return memory;
}

static int send_announcement(struct hasup_client *client, const struct memory *memory)
{
    uint8_t meta[HASUP_BUFFER_META];
    struct hasup_frame frame = hasup_buffer_frame(meta, memory->id, memory->fd, memory->size);
    return hasup_channel_send(&client->channel, &frame);
}

/* A frame that says which buffer it is about, no more. */
static int send_number(struct hasup_client *client, enum hasup_frame_type type, uint32_t id)
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    struct hasup_frame frame = {
        .type = (uint8_t)type, .meta = meta, .meta_len = (uint32_t)w.used, .fd = -1};
    return hasup_channel_send(&client->channel, &frame);
}

/* Memory for a body of `len` bytes that hasupd knows of; NULL: none to be had. */
static struct memory *memory_take(struct hasup_client *client, uint64_t len)
{
    for (struct memory *m = client->ours; m; m = m->next)
        if (!m->request && m->size >= len)
            return m;
    struct memory *memory = memory_make(client, len);
    if (!memory)
        return NULL;
    if (send_announcement(client, memory)) {
        memory_free(memory);
        return NULL;
    }
    memory->next = client->ours;
    client->ours = memory;
    return memory;
}

static void put_text(struct hasup_meta_writer *w, unsigned tag, const char *text)
{
    if (text)
        hasup_meta_put(w, (enum hasup_tag)tag, text, strlen(text));
}

/* Critical: who does not know it would do something else. */
static void put_prefer(struct hasup_meta_writer *w, int async, int no_wait)
{
    uint32_t bits =
        (async ? (uint32_t)HASUP_PREFER_ASYNC : 0) | (no_wait ? (uint32_t)HASUP_PREFER_NO_WAIT : 0);
    if (bits)
        hasup_meta_put32(w, (enum hasup_tag)(HASUP_TAG_PREFER | HASUP_TAG_CRITICAL), bits);
}

int hasup_client_submit(struct hasup_client *client, const struct hasup_client_request *request,
                        uint64_t *id)
{
    uint8_t meta[4096];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    put_text(&w, HASUP_TAG_MODEL, request->model);
    put_text(&w, HASUP_TAG_ROUTE, request->route ? request->route : "invoke");
    put_text(&w, HASUP_TAG_CONTENT_TYPE, request->content_type);
    put_text(&w, HASUP_TAG_REQUEST_ID, request->request_id);
    if (request->timeout_ms)
        hasup_meta_put64(&w, HASUP_TAG_DEADLINE, (uint64_t)(request->timeout_ms * HASUP_MS));
    if (request->priority)
        hasup_meta_put32(&w, HASUP_TAG_PRIORITY, request->priority);
    put_text(&w, HASUP_TAG_IDEMPOTENCY_KEY | HASUP_TAG_CRITICAL, request->key);
    put_prefer(&w, request->async, request->no_wait);
    struct hasup_frame frame = {.type = HASUP_REQUEST,
                                .id = ++client->next_id,
                                .body = request->body,
                                .body_len = request->len,
                                .fd = -1};
    struct memory *memory = NULL;
    if (request->len > HASUP_INLINE_MAX) {
        memory = memory_take(client, request->len);
        if (!memory)
            return HASUP_ENOMEM;
        memcpy(memory->map, request->body, request->len);
        memory->request = frame.id;
        frame.flags = HASUP_FLAG_BUFFER;
        frame.body = NULL;
        hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, memory->id);
    }
    int64_t used = hasup_meta_end(&w);
    frame.meta = meta;
    frame.meta_len = (uint32_t)w.used;
    *id = frame.id;
    int error = used < 0 ? (int)used : hasup_channel_send(&client->channel, &frame);
    if (error && memory)
        memory->request = 0;
    return error;
}

int hasup_client_ask(struct hasup_client *client, const char *record, int64_t wait_ms, uint64_t *id)
{
    uint8_t meta[128];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    put_text(&w, HASUP_TAG_RECORD | HASUP_TAG_CRITICAL, record);
    put_prefer(&w, 0, wait_ms == 0);
    if (wait_ms > 0)
        hasup_meta_put64(&w, HASUP_TAG_DEADLINE, (uint64_t)(wait_ms * HASUP_MS));
    struct hasup_frame frame = {.type = HASUP_REQUEST, .id = ++client->next_id, .fd = -1};
    int64_t used = hasup_meta_end(&w);
    frame.meta = meta;
    frame.meta_len = (uint32_t)w.used;
    *id = frame.id;
    return used < 0 ? (int)used : hasup_channel_send(&client->channel, &frame);
}

int hasup_client_control(struct hasup_client *client, const char *json, uint64_t *id)
{
    struct hasup_frame frame = {.type = HASUP_CONTROL,
                                .id = ++client->next_id,
                                .body = (const uint8_t *)json,
                                .body_len = strlen(json),
                                .fd = -1};
    *id = frame.id;
    return hasup_channel_send(&client->channel, &frame);
}

int hasup_client_cancel(struct hasup_client *client, uint64_t id)
{
    struct hasup_frame frame = {.type = HASUP_CANCEL, .id = id, .fd = -1};
    int error = hasup_channel_send(&client->channel, &frame);
    struct memory **at = &client->ours;
    while (!error && *at && (*at)->request != id)
        at = &(*at)->next;
    if (error || !*at)
        return error;
    /* A worker may read its memory still: it is given up, not used again. */
    struct memory *memory = *at;
    *at = memory->next;
    error = send_number(client, HASUP_BUFFER_GONE, memory->id);
    memory_free(memory);
    return error;
}

static hasup_ns clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

/* Waits until the socket is ready; 1, 0 at the limit, or a code. */
static int wait_ready(struct hasup_client *client, short events, hasup_ns until)
{
    for (;;) {
        int ms = -1;
        if (until != HASUP_NEVER) {
            hasup_ns left = until - clock_ns();
            ms = left <= 0 ? 0 : (int)((left + HASUP_MS - 1) / HASUP_MS);
        }
        struct pollfd poller = {.fd = client->channel.fd, .events = events};
        int got = poll(&poller, 1, ms);
        if (got >= 0 || errno != EINTR)
            return got < 0 ? HASUP_ESYS : got;
    }
}

static int flush_until(struct hasup_client *client, hasup_ns until)
{
    for (;;) {
        int error = hasup_channel_flush(&client->channel);
        if (error != HASUP_EAGAIN)
            return error;
        int got = wait_ready(client, POLLOUT, until);
        if (got <= 0)
            return got ? got : HASUP_EAGAIN;
    }
}

int hasup_client_flush(struct hasup_client *client)
{
    return flush_until(client, HASUP_NEVER);
}

/* ---- receiving ---- */

static int take_buffer(struct hasup_client *client, struct hasup_frame *frame, uint32_t id,
                       uint64_t size)
{
    struct memory *memory = calloc(1, sizeof *memory);
    if (!memory)
        return HASUP_ENOMEM;
    *memory = (struct memory){.id = id, .fd = frame->fd, .size = size, .next = client->theirs};
    int error = hasup_shared_map(frame->fd, size, &memory->map);
    if (error) {
        free(memory);
        return error;
    }
    frame->fd = -1;
    client->theirs = memory;
    return 0;
}

static void drop_buffer(struct hasup_client *client, uint32_t id)
{
    for (struct memory **at = &client->theirs; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            struct memory *memory = *at;
            *at = memory->next;
            memory_free(memory);
            return;
        }
}

/* Tells hasupd that the large answer handed out last is read. */
static int release_last(struct hasup_client *client)
{
    if (!client->release)
        return 0;
    uint32_t id = client->release;
    client->release = 0;
    return send_number(client, HASUP_RELEASE, id);
}

static void copy_text(char *to, size_t room, const struct hasup_field *field)
{
    snprintf(to, room, "%.*s", (int)field->len, (const char *)field->value);
}

static int read_fields(const struct hasup_frame *frame, struct hasup_client_answer *answer)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0) {
        int error = 0;
        switch (field.tag) {
        case HASUP_TAG_ATTEMPTS: error = hasup_field_get32(&field, &answer->attempts); break;
        case HASUP_TAG_RETRY_AFTER:
            error = hasup_field_get32(&field, &answer->retry_after_ms);
            break;
        case HASUP_TAG_RECORD: copy_text(answer->record, sizeof answer->record, &field); break;
        case HASUP_TAG_CODE: copy_text(answer->code, sizeof answer->code, &field); break;
        case HASUP_TAG_ERROR: copy_text(answer->error, sizeof answer->error, &field); break;
        case HASUP_TAG_CONTENT_TYPE:
            copy_text(answer->content_type, sizeof answer->content_type, &field);
            break;
        default: error = hasup_meta_unknown(&field);
        }
        if (error)
            return error;
    }
    return got;
}

static int body_of(struct hasup_client *client, const struct hasup_frame *frame,
                   const struct hasup_buffer_place *place, struct hasup_client_answer *answer)
{
    answer->len = frame->body_len;
    answer->body = frame->body;
    if (!(frame->flags & HASUP_FLAG_BUFFER))
        return 0;
    struct memory *memory = client->theirs;
    while (memory && memory->id != place->id)
        memory = memory->next;
    if (!memory || !hasup_buffer_holds(place, memory->size, frame))
        return HASUP_EPROTO;
    answer->body = memory->map + place->offset;
    client->release = memory->id;
    return 0;
}

/* 1: `answer` is one to hand out; 0: the frame was about buffers. */
static int take_frame(struct hasup_client *client, struct hasup_frame *frame,
                      struct hasup_client_answer *answer)
{
    struct hasup_buffer_place place;
    *answer = (struct hasup_client_answer){.id = frame->id, .attempts = 1};
    int error = hasup_buffer_read(frame, &place);
    if (!error)
        error = read_fields(frame, answer);
    if (error)
        return error;
    switch (frame->type) {
    case HASUP_BUFFER: return take_buffer(client, frame, place.id, place.size);
    case HASUP_BUFFER_GONE: drop_buffer(client, place.id); return 0;
    case HASUP_RELEASE:
    case HASUP_PONG: return 0;
    case HASUP_REPLY:
        answer->last = 1;
        answer->status = frame->seq;
        for (struct memory *m = client->ours; m; m = m->next)
            if (m->request == frame->id)
                m->request = 0;
        break;
    case HASUP_CHUNK: break;
    default: return HASUP_EPROTO;
    }
    error = body_of(client, frame, &place, answer);
    return error ? error : 1;
}

static int next_answer(struct hasup_client *client, struct hasup_client_answer *answer)
{
    struct hasup_frame frame;
    int got;
    while ((got = hasup_channel_next(&client->channel, &frame)) > 0) {
        got = take_frame(client, &frame, answer);
        if (frame.fd >= 0)
            close(frame.fd);
        if (got)
            return got;
    }
    return got;
}

int hasup_client_wait(struct hasup_client *client, int64_t timeout_ms,
                      struct hasup_client_answer *answer)
{
    hasup_ns until = timeout_ms < 0 ? HASUP_NEVER : clock_ns() + timeout_ms * HASUP_MS;
    int error = release_last(client);
    if (!error)
        error = flush_until(client, until);
    if (error && error != HASUP_EAGAIN && error != HASUP_ECLOSED)
        return error;
    for (;;) {
        int got = next_answer(client, answer);
        if (got)
            return got;
        if (client->ended)
            return HASUP_ECLOSED;
        int64_t bytes =
            hasup_channel_fill(&client->channel, client->scratch, HASUP_CHANNEL_SCRATCH);
        if (bytes > 0)
            continue;
        if (bytes == HASUP_ECLOSED) {
            client->ended = true;
            continue;
        }
        if (bytes != HASUP_EAGAIN)
            return (int)bytes;
        got = wait_ready(client, POLLIN, until);
        if (got <= 0)
            return got;
    }
}
