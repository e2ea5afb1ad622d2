/*
 * rehearse.c: hasupd's side of a restore, without hasupd.  Owns the channel's buffers.  A worker
 * that breaks the protocol, leaves, or takes longer than it may has failed the test.
 */
#include "hasupctl/rehearse.h"

#include "ipc/channel.h"
#include "ipc/message.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OUR_BUFFER = 1, READ_STEP = 1024 * 1024 };

/* What hasupd makes use of, too. */
enum { GRANTS = HASUP_CAN_STATE | HASUP_CAN_SNAPSHOT | HASUP_CAN_CANCEL };

struct buffer {
    uint32_t id;
    int fd;
    uint64_t size;
};

struct talk {
    const struct rehearsal *of;
    struct isolated *worker;
    struct hasup_channel channel;
    uint8_t *scratch;
    struct buffer buffers[HASUP_BUFFERS_MAX];
    size_t buffer_count;
    char *text; /* what failed */
    bool failed;
};

static hasup_ns clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

HASUP_PRINTF(2, 3)
static void fail(struct talk *talk, const char *format, ...)
{
    va_list args;
    if (talk->failed)
        return;
    talk->failed = true;
    va_start(args, format);
    vsnprintf(talk->text, REHEARSE_ERROR, format, args);
    va_end(args);
}

/* ---- frames ---- */

static struct buffer *buffer_of(struct talk *talk, uint32_t id)
{
    for (size_t i = 0; i < talk->buffer_count; i++)
        if (talk->buffers[i].id == id)
            return &talk->buffers[i];
    return NULL;
}

/* BUFFER, BUFFER_GONE, RELEASE; false: it is another. */
static bool take_buffer(struct talk *talk, struct hasup_frame *frame)
{
    struct hasup_buffer_place place;
    const bool wrong = hasup_buffer_read(frame, &place);
    struct buffer *buffer = buffer_of(talk, place.id);
    struct stat st;
    if (frame->type == HASUP_RELEASE || frame->type == HASUP_PONG)
        return true;
    if (frame->type == HASUP_BUFFER_GONE && buffer) {
        close(buffer->fd);
        *buffer = talk->buffers[--talk->buffer_count];
        return true;
    }
    if (frame->type != HASUP_BUFFER)
        return false;
    if (buffer || talk->buffer_count == HASUP_BUFFERS_MAX || frame->fd < 0 || wrong ||
        fstat(frame->fd, &st) || (uint64_t)st.st_size < place.size) {
        fail(talk, "broke the protocol: a buffer that cannot be used");
        return true;
    }
    talk->buffers[talk->buffer_count++] = (struct buffer){place.id, frame->fd, place.size};
    frame->fd = -1;
    return true;
}

/* Waits for bytes of the worker until `until`; false: it has failed. */
static bool wait_bytes(struct talk *talk, hasup_ns until, const char *what)
{
    struct pollfd polls[2] = {{.fd = talk->channel.fd, .events = POLLIN},
                              {.fd = talk->worker->output, .events = POLLIN}};
    bool listening = talk->worker->output >= 0;
    for (;;) {
        hasup_ns left = until - clock_now();
        int error = hasup_channel_flush(&talk->channel);
        polls[0].events = (short)(POLLIN | (error == HASUP_EAGAIN ? POLLOUT : 0));
        if (left <= 0) {
            fail(talk, "%s did not come within its time limit", what);
            return false;
        }
        int got = isolate_poll(polls, listening ? 2 : 1,
                               (int)(left / HASUP_MS > 60000 ? 60000 : left / HASUP_MS + 1));
        if (got < 0) {
            fail(talk, "was not waited for: %s", strerror(errno));
            return false;
        }
        if (got > 0 && listening && polls[1].revents && !isolate_listen(talk->worker))
            listening = false;
        if (got > 0 && polls[0].revents & (POLLIN | POLLHUP | POLLERR))
            return true;
    }
}

/* The next frame that says something; false: the worker has failed. */
static bool next_frame(struct talk *talk, struct hasup_frame *frame, hasup_ns until,
                       const char *what)
{
    while (!talk->failed) {
        int got = hasup_channel_next(&talk->channel, frame);
        if (got > 0 && !take_buffer(talk, frame))
            return true;
        if (got > 0) {
            if (frame->fd >= 0)
                close(frame->fd);
            continue;
        }
        if (got < 0) {
            fail(talk, "broke the protocol: %s", hasup_strerror(got));
        } else if (wait_bytes(talk, until, what)) {
            int64_t more = hasup_channel_fill(&talk->channel, talk->scratch, HASUP_CHANNEL_SCRATCH);
            if (more < 0 && more != HASUP_EAGAIN) {
                talk->worker->left = true;
                fail(talk, "left before %s", what);
            }
        }
    }
    return false;
}

static bool expect(struct talk *talk, enum hasup_frame_type type, struct hasup_frame *frame,
                   hasup_ns until, const char *what)
{
    if (!next_frame(talk, frame, until, what))
        return false;
    if (frame->fd >= 0)
        close(frame->fd); /* none comes with these */
    if (frame->type != type)
        fail(talk, "broke the protocol: %s came where %s was due", hasup_frame_name(frame->type),
             hasup_frame_name(type));
    return !talk->failed;
}

static void put_frame(struct talk *talk, const struct hasup_frame *frame)
{
    int error = hasup_channel_send(&talk->channel, frame);
    if (error)
        fail(talk, "cannot send: %s", hasup_strerror(error));
}

static void send_frame(struct talk *talk, struct hasup_frame *frame,
                       const struct hasup_meta_writer *meta)
{
    frame->meta = meta->bytes;
    frame->meta_len = (uint32_t)meta->used;
    put_frame(talk, frame);
}

/* ---- the steps ---- */

static void send_welcome(struct talk *talk, uint64_t abilities)
{
    uint8_t bytes[256];
    struct hasup_meta_writer w;
    struct hasup_frame frame = {.type = HASUP_WELCOME, .flags = HASUP_FLAG_RESTORING, .fd = -1};
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put(&w, HASUP_TAG_MODEL, talk->of->model, strlen(talk->of->model));
    hasup_meta_put32(&w, HASUP_TAG_SLOT, talk->of->ordinal);
    hasup_meta_put64(&w, HASUP_TAG_GRANTED, abilities & GRANTS);
    hasup_meta_put32(&w, HASUP_TAG_INLINE_MAX, HASUP_INLINE_MAX);
    send_frame(talk, &frame, &w);
}

/* A sealed memfd with the state, announced to the worker. */
static void send_state_buffer(struct talk *talk)
{
    uint8_t meta[HASUP_BUFFER_META];
    uint64_t put = 0;
    int fd = memfd_create("hasup-restore", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    while (fd >= 0 && put < talk->of->len) {
        ssize_t got = write(fd, talk->of->state + put, talk->of->len - put);
        if (got <= 0)
            break;
        put += (uint64_t)got;
    }
    if (put < talk->of->len || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
        fail(talk, "no memory for the state: %s", strerror(errno));
    struct hasup_frame frame = hasup_buffer_frame(meta, OUR_BUFFER, fd, talk->of->len);
    if (!talk->failed)
        put_frame(talk, &frame);
    if (fd >= 0)
        close(fd); /* the channel has its own */
}

static void send_restore(struct talk *talk)
{
    uint8_t bytes[64];
    struct hasup_meta_writer w;
    struct hasup_frame frame = {
        .type = HASUP_RESTORE, .body = talk->of->state, .body_len = talk->of->len, .fd = -1};
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, talk->of->position);
    if (talk->of->len > HASUP_INLINE_MAX) {
        send_state_buffer(talk);
        frame.flags = HASUP_FLAG_BUFFER;
        frame.body = NULL;
        hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, OUR_BUFFER);
    }
    send_frame(talk, &frame, &w);
}

/* Its own words, where it could not. */
static void hear_error(struct talk *talk, const struct hasup_frame *frame, const char *what)
{
    struct hasup_field error;
    if (hasup_meta_find(frame, HASUP_TAG_ERROR, &error))
        fail(talk, "could not %s: %.*s", what, (int)error.len, (const char *)error.value);
}

static void restore(struct talk *talk)
{
    struct hasup_frame frame;
    uint64_t abilities = 0;
    hasup_ns until = clock_now() + talk->of->start_limit;
    if (!expect(talk, HASUP_HELLO, &frame, until, "its hello"))
        return;
    if (hasup_meta_get64(&frame, HASUP_TAG_ABILITIES, &abilities))
        fail(talk, "broke the protocol: a hello that cannot be read");
    else if (!(abilities & HASUP_CAN_STATE))
        fail(talk, "says that it keeps no state");
    if (talk->failed)
        return;
    send_welcome(talk, abilities);
    send_restore(talk);
    if (expect(talk, HASUP_READY, &frame, until, "its ready"))
        hear_error(talk, &frame, "restore it");
}

/* Where two states differ, or -1; a part at a time, for the worker's memory may shrink. */
static int64_t compare(struct talk *talk, const struct hasup_frame *frame)
{
    const uint8_t *state = talk->of->state;
    struct hasup_buffer_place place;
    const bool wrong = hasup_buffer_read(frame, &place);
    struct buffer *buffer = buffer_of(talk, place.id);
    uint8_t *part = malloc(READ_STEP);
    uint64_t at = 0;
    if (!(frame->flags & HASUP_FLAG_BUFFER)) {
        while (at < frame->body_len && frame->body[at] == state[at])
            at++;
    } else if (wrong || !buffer || !part || !hasup_buffer_holds(&place, buffer->size, frame)) {
        fail(talk, "broke the protocol: a state outside of its buffer");
    } else {
        while (at < frame->body_len) {
            size_t len =
                frame->body_len - at < READ_STEP ? (size_t)(frame->body_len - at) : READ_STEP;
            if (pread(buffer->fd, part, len, (off_t)(place.offset + at)) != (ssize_t)len) {
                fail(talk, "its state cannot be read: %s", strerror(errno));
                break;
            }
            if (memcmp(part, state + at, len) == 0) {
                at += len;
                continue;
            }
            for (size_t i = 0; part[i] == state[at]; i++)
                at++;
            break;
        }
    }
    free(part);
    return at < frame->body_len ? (int64_t)at : -1;
}

static enum rehearsed save(struct talk *talk)
{
    uint8_t bytes[32];
    struct hasup_meta_writer w;
    struct hasup_frame frame = {.type = HASUP_CHECKPOINT, .fd = -1};
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, talk->of->position);
    send_frame(talk, &frame, &w);
    if (!expect(talk, HASUP_STATE, &frame, clock_now() + talk->of->save_limit, "its state"))
        return REHEARSED_FAILED;
    uint64_t position = talk->of->position;
    hear_error(talk, &frame, "save its state");
    if (talk->failed)
        return REHEARSED_FAILED;
    if (hasup_meta_get64(&frame, HASUP_TAG_POSITION, &position) || position != talk->of->position)
        fail(talk, "broke the protocol: a state at another position");
    else if (frame.body_len != talk->of->len)
        snprintf(talk->text, REHEARSE_ERROR, "it has %llu bytes, not %llu",
                 (unsigned long long)frame.body_len, (unsigned long long)talk->of->len);
    if (talk->failed || frame.body_len != talk->of->len)
        return talk->failed ? REHEARSED_FAILED : REHEARSED_DIFFERS;
    int64_t at = compare(talk, &frame);
    if (talk->failed || at < 0)
        return talk->failed ? REHEARSED_FAILED : REHEARSED_GOOD;
    snprintf(talk->text, REHEARSE_ERROR, "its %llu bytes are other ones from byte %lld on",
             (unsigned long long)talk->of->len, (long long)at);
    return REHEARSED_DIFFERS;
}

enum rehearsed rehearse(const struct rehearsal *rehearsal, struct isolated *worker,
                        char text[REHEARSE_ERROR])
{
    struct talk *talk = calloc(1, sizeof *talk);
    enum rehearsed result = REHEARSED_FAILED;
    if (!talk || !(talk->scratch = malloc(HASUP_CHANNEL_SCRATCH))) {
        snprintf(text, REHEARSE_ERROR, "out of memory");
        free(talk);
        return result;
    }
    talk->of = rehearsal;
    talk->worker = worker;
    talk->text = text;
    text[0] = '\0';
    hasup_channel_init(&talk->channel, worker->channel, 0);
    worker->channel = -1;
    restore(talk);
    if (!talk->failed)
        result = save(talk);
    hasup_channel_fini(&talk->channel);
    while (talk->buffer_count)
        close(talk->buffers[--talk->buffer_count].fd);
    free(talk->scratch);
    free(talk);
    return result;
}
