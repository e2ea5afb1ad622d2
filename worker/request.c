/*
 * request.c: one request: what it says, whether it is cancelled (which reads ahead of it, and keeps
 * what comes for later), and how it is run.  Owns the copies that a request's texts are, until it
 * has run.
 */
#include "worker/runtime.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

enum { FLUSH_AT = 128 * 1024 };

#define SLOW (100 * HASUP_US) /* a request that takes longer does not hold back other answers */

/* ---- what a request says ---- */

/* The first field with this tag (and, of HEADER, this name), as text; NULL: there is none. */
static const char *field_text(struct hasup_running *running, enum hasup_tag tag, const char *name)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    size_t skip = name ? strlen(name) + 1 : 0;
    hasup_meta_read(&reader, running->frame);
    while (hasup_meta_next(&reader, &field) > 0) {
        if (field.tag != tag || field.len < skip || (name && memcmp(field.value, name, skip)))
            continue;
        struct hasup_text *text = malloc(sizeof *text + field.len - skip + 1);
        if (!text)
            return NULL;
        text->next = running->texts;
        running->texts = text;
        memcpy(text->text, field.value + skip, field.len - skip);
        text->text[field.len - skip] = '\0';
        return text->text;
    }
    return NULL;
}

void hasup_running_close(struct hasup_running *running)
{
    while (running->texts) {
        struct hasup_text *next = running->texts->next;
        free(running->texts);
        running->texts = next;
    }
}

static struct hasup_running *running_of(const struct hasup_request *request)
{
    return (struct hasup_running *)(uintptr_t)request;
}

const char *hasup_request_route(const struct hasup_request *request)
{
    const char *text = field_text(running_of(request), HASUP_TAG_ROUTE, NULL);
    return text ? text : "";
}

const char *hasup_request_content_type(const struct hasup_request *request)
{
    const char *text = field_text(running_of(request), HASUP_TAG_CONTENT_TYPE, NULL);
    return text ? text : "";
}

const char *hasup_request_id(const struct hasup_request *request)
{
    const char *text = field_text(running_of(request), HASUP_TAG_REQUEST_ID, NULL);
    return text ? text : "";
}

const char *hasup_request_session(const struct hasup_request *request)
{
    const char *text = field_text(running_of(request), HASUP_TAG_SESSION, NULL);
    return text ? text : "";
}

const char *hasup_request_batch_key(const struct hasup_request *request)
{
    const char *text = field_text(running_of(request), HASUP_TAG_BATCH_KEY, NULL);
    return text ? text : "";
}

const char *hasup_request_header(const struct hasup_request *request, const char *name)
{
    return field_text(running_of(request), HASUP_TAG_HEADER, name);
}

/* ---- looking ahead: frames that come while a request runs ---- */

static void keep_waiting(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    size_t body = frame->body ? (size_t)frame->body_len : 0;
    struct hasup_waiting *waiting = malloc(sizeof *waiting + frame->meta_len + body);
    if (!waiting) {
        runtime->ended =
            true; /* a request would be lost: better to die and have it run elsewhere */
        return;
    }
    waiting->frame = *frame;
    waiting->next = NULL;
    if (frame->meta_len)
        memcpy(waiting->bytes, frame->meta, frame->meta_len);
    if (body)
        memcpy(waiting->bytes + frame->meta_len, frame->body, body);
    waiting->frame.meta = waiting->bytes;
    waiting->frame.body = body ? waiting->bytes + frame->meta_len : NULL;
    *runtime->waiting_tail = waiting;
    runtime->waiting_tail = &waiting->next;
}

/* What the channel has read of a frame that is not whole yet moves, because a request that runs may
 * have its body in that memory. */
static int hold(struct hasup_runtime *runtime)
{
    size_t len = runtime->channel.in.kept_len;
    if (runtime->held)
        return 0;
    runtime->held = runtime->channel.in.kept;
    runtime->channel.in.kept = NULL;
    runtime->channel.in.kept_room = 0;
    if (!len)
        return 0;
    runtime->channel.in.kept = malloc(len);
    if (!runtime->channel.in.kept)
        return HASUP_ENOMEM;
    memcpy(runtime->channel.in.kept, runtime->held, len);
    runtime->channel.in.kept_room = len;
    return 0;
}

void hasup_drop_held(struct hasup_runtime *runtime)
{
    free(runtime->held);
    runtime->held = NULL;
}

/* What frees the worker's own buffers counts at once; the cancel of `running` (where one asks) is
 * noted; everything else waits. */
static void sort_out(struct hasup_runtime *runtime, struct hasup_running *running)
{
    struct hasup_frame frame;
    while (hasup_channel_next(&runtime->channel, &frame) > 0) {
        if (running && frame.type == HASUP_CANCEL && frame.id == running->request.id)
            running->cancelled = true;
        else if (frame.type != HASUP_RELEASE || hasup_memory_frame(runtime, &frame))
            keep_waiting(runtime, &frame);
    }
}

/* One read; <= 0: nothing was there, or there is no going on. */
static int64_t read_ahead(struct hasup_runtime *runtime, struct hasup_running *running)
{
    if (!runtime->second_scratch && !(runtime->second_scratch = malloc(HASUP_CHANNEL_SCRATCH)))
        return HASUP_ENOMEM;
    sort_out(runtime, running);
    if (hold(runtime)) {
        runtime->ended = true;
        return HASUP_ENOMEM;
    }
    int64_t got =
        hasup_channel_fill(&runtime->channel, runtime->second_scratch, HASUP_CHANNEL_SCRATCH);
    if (got > 0)
        sort_out(runtime, running);
    return got;
}

static void look_ahead(struct hasup_running *running)
{
    /* An earlier request may have read past the cancel of this one. */
    for (const struct hasup_waiting *w = running->runtime->waiting; w; w = w->next)
        if (w->frame.type == HASUP_CANCEL && w->frame.id == running->request.id)
            running->cancelled = true;
    if (!running->cancelled)
        (void)read_ahead(running->runtime, running);
}

int hasup_request_cancelled(const struct hasup_request *request)
{
    struct hasup_running *running = running_of(request);
    if (!running->cancelled && !running->runtime->stateful)
        look_ahead(running);
    return running->cancelled;
}

int hasup_await_release(struct hasup_runtime *runtime)
{
    struct pollfd poller = {.fd = runtime->channel.fd, .events = POLLIN};
    int64_t got;
    int error = hasup_flush(runtime);
    while (!error && (got = read_ahead(runtime, NULL)) <= 0) {
        if (got != HASUP_EAGAIN)
            return (int)got;
        if (poll(&poller, 1, -1) < 0 && errno != EINTR)
            return HASUP_ESYS;
    }
    return error ? error : runtime->ended ? HASUP_ENOMEM : 0;
}

/* ---- requests ---- */

/* One field of a REQUEST. */
static int read_field(const struct hasup_field *field, struct hasup_request *request)
{
    switch (field->tag) {
    case HASUP_TAG_DEADLINE: return hasup_field_get64(field, &request->deadline_ns);
    case HASUP_TAG_POSITION: return hasup_field_get64(field, &request->position);
    case HASUP_TAG_STREAM_OFFSET: return hasup_field_get64(field, &request->progress_at);
    case HASUP_TAG_DELIVERED_LEN: return hasup_field_get64(field, &request->sent_len);
    case HASUP_TAG_DELIVERED: request->sent = field->value; return 0;
    case HASUP_TAG_PROGRESS_BLOB:
        request->progress = field->value;
        request->progress_len = field->len;
        return 0;
    }
    return 0;
}

int hasup_running_open(struct hasup_runtime *runtime, struct hasup_running *running,
                       const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    struct hasup_memory *memory;
    const uint8_t *body;
    int got;
    *running = (struct hasup_running){.runtime = runtime, .frame = frame};
    struct hasup_request *request = &running->request;
    request->id = frame->id;
    request->attempt = frame->seq;
    request->replay = !!(frame->flags & HASUP_FLAG_REPLAY);
    request->resumed = !!(frame->flags & HASUP_FLAG_RESUME);
    request->body = frame->body;
    request->len = (size_t)frame->body_len;
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0)
        if ((got = read_field(&field, request)) < 0)
            return got;
    if (got < 0 || !(frame->flags & HASUP_FLAG_BUFFER))
        return got;
    got = hasup_memory_body(runtime, frame, &memory, &body);
    if (got)
        return got;
    request->body = body;
    running->buffer = memory->id;
    return 0;
}

static hasup_ns clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

/* Answers are gathered where requests take microseconds.  Where one took longer lately, the answers
 * before it must not wait for it, nor die with it. */
int hasup_run_begin(struct hasup_runtime *runtime, hasup_ns *begun)
{
    bool gather = runtime->pace < SLOW && hasup_channel_unsent(&runtime->channel) < FLUSH_AT;
    int error = gather ? 0 : hasup_flush(runtime);
    *begun = clock_ns();
    return error;
}

void hasup_run_end(struct hasup_runtime *runtime, hasup_ns begun)
{
    hasup_ns faded = runtime->pace - runtime->pace / 8, took = clock_ns() - begun;
    runtime->pace = took > faded ? took : faded;
}

int hasup_request_take(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    static struct hasup_response response; /* its memory is used again */
    struct hasup_running running;
    hasup_ns begun;
    int error = hasup_running_open(runtime, &running, frame);
    if (!error)
        error = hasup_run_begin(runtime, &begun);
    if (error)
        return error;
    hasup_response_open(&response, runtime, frame->id);
    if (runtime->worker->infer(runtime->model, &running.request, &response))
        hasup_response_fail(&response, running.cancelled);
    hasup_running_close(&running);
    error = hasup_response_send(&response);
    hasup_drop_held(runtime);
    hasup_run_end(runtime, begun);
    return error;
}
