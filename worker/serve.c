/*
 * serve.c: the life of a worker: hello, load, restore, ready, then requests in the order they come
 * (and its state in between: state.c) until hasupd says to stop.  Answers are gathered and leave
 * when nothing more is to be read.  A broken frame or a lost hasupd ends the process: hasupd starts
 * another.
 */
#include "worker/oip.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_BROKEN = 1, EXIT_NO_HASUPD = 2, FLUSH_AT = 128 * 1024 };
enum { HELLO_ROOM = 64 }; /* of its fields beside the metadata */
enum { PAUSE_MS = 100 };  /* nothing to do for so long: memory is given back */

#define SLOW (100 * HASUP_US) /* a request that takes longer does not hold back other answers */

static volatile sig_atomic_t terminated;

static void on_term(int signo)
{
    (void)signo;
    terminated = 1;
}

/* ---- the socket ---- */

/* Until the socket is ready; where it waits to be told something, a snapshot's end counts, too. */
static int wait_for(struct hasup_runtime *runtime, short events)
{
    bool snapshot = events == POLLIN && runtime->snapshot.child;
    struct pollfd pollers[] = {{.fd = runtime->channel.fd, .events = events},
                               {.fd = snapshot ? runtime->snapshot.result : -1, .events = POLLIN}};
    int got = poll(pollers, HASUP_LEN(pollers), events == POLLIN && runtime->gone ? PAUSE_MS : -1);
    if (got == 0)
        hasup_memory_free_gone(runtime);
    return got < 0 && errno != EINTR ? HASUP_ESYS : 0;
}

int hasup_flush(struct hasup_runtime *runtime)
{
    int error;
    while ((error = hasup_channel_flush(&runtime->channel)) == HASUP_EAGAIN)
        if ((error = wait_for(runtime, POLLOUT)))
            return error;
    return error;
}

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

const char *hasup_request_header(const struct hasup_request *request, const char *name)
{
    return field_text(running_of(request), HASUP_TAG_HEADER, name);
}

int hasup_request_cancelled(const struct hasup_request *request)
{
    struct hasup_running *running = running_of(request);
    if (!running->cancelled && !running->runtime->stateful)
        hasup_look_ahead(running);
    return running->cancelled;
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

void hasup_look_ahead(struct hasup_running *running)
{
    struct hasup_runtime *runtime = running->runtime;
    struct hasup_frame frame;
    /* An earlier request may have read past the cancel of this one. */
    for (const struct hasup_waiting *w = runtime->waiting; w; w = w->next)
        if (w->frame.type == HASUP_CANCEL && w->frame.id == running->request.id)
            running->cancelled = true;
    if (running->cancelled)
        return;
    if (!runtime->second_scratch && !(runtime->second_scratch = malloc(HASUP_CHANNEL_SCRATCH)))
        return;
    for (int fills = 0; fills < 2; fills++) {
        while (hasup_channel_next(&runtime->channel, &frame) > 0) {
            if (frame.type == HASUP_CANCEL && frame.id == running->request.id)
                running->cancelled = true;
            else
                keep_waiting(runtime, &frame);
        }
        if (!runtime->held) {
            /* The request's body may stand there. */
            runtime->held = runtime->channel.in.kept;
            runtime->channel.in.kept = NULL;
            size_t len = runtime->channel.in.kept_len;
            runtime->channel.in.kept_room = 0;
            if (len && (runtime->channel.in.kept = malloc(len))) {
                memcpy(runtime->channel.in.kept, runtime->held, len);
                runtime->channel.in.kept_room = len;
            } else if (len) {
                runtime->ended = true;
                return;
            }
        }
        if (fills || hasup_channel_fill(&runtime->channel, runtime->second_scratch,
                                        HASUP_CHANNEL_SCRATCH) <= 0)
            return;
    }
}

/* ---- requests ---- */

/* One field of a REQUEST. */
static int read_field(const struct hasup_field *field, struct hasup_request *request,
                      uint32_t *buffer, uint64_t *offset)
{
    switch (field->tag) {
    case HASUP_TAG_DEADLINE: return hasup_field_get64(field, &request->deadline_ns);
    case HASUP_TAG_POSITION: return hasup_field_get64(field, &request->position);
    case HASUP_TAG_BUFFER_ID: return hasup_field_get32(field, buffer);
    case HASUP_TAG_BUFFER_OFFSET: return hasup_field_get64(field, offset);
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
    uint32_t buffer = 0;
    uint64_t offset = 0;
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
        if ((got = read_field(&field, request, &buffer, &offset)) < 0)
            return got;
    if (got < 0 || !(frame->flags & HASUP_FLAG_BUFFER))
        return got;
    const struct hasup_memory *memory = hasup_memory_theirs(runtime, buffer);
    if (!memory || offset > memory->size || frame->body_len > memory->size - offset)
        return HASUP_EPROTO;
    request->body = memory->map + offset;
    running->buffer = buffer;
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
static int before_run(struct hasup_runtime *runtime)
{
    bool gather = runtime->pace < SLOW && hasup_channel_unsent(&runtime->channel) < FLUSH_AT;
    return gather ? 0 : hasup_flush(runtime);
}

static void after_run(struct hasup_runtime *runtime, hasup_ns took)
{
    hasup_ns faded = runtime->pace - runtime->pace / 8;
    runtime->pace = took > faded ? took : faded;
}

int hasup_timed(struct hasup_runtime *runtime, int (*run)(struct hasup_runtime *runtime))
{
    int error = before_run(runtime);
    hasup_ns begun = clock_ns();
    if (!error)
        error = run(runtime);
    after_run(runtime, clock_ns() - begun);
    return error;
}

static int run_request(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    static struct hasup_response response; /* its memory is used again */
    struct hasup_running running;
    int error = hasup_running_open(runtime, &running, frame);
    if (!error)
        error = before_run(runtime);
    if (error)
        return error;
    hasup_ns begun = clock_ns();
    hasup_response_open(&response, runtime, frame->id);
    if (runtime->worker->infer(runtime->model, &running.request, &response)) {
        if (running.cancelled)
            response.status = 499;
        else if (!response.failed)
            hasup_error(&response, 500, "the worker's infer failed and gave no reason");
    }
    hasup_running_close(&running);
    free(runtime->held);
    runtime->held = NULL;
    error = hasup_response_send(&response);
    after_run(runtime, clock_ns() - begun);
    return error;
}

/* ---- ready ---- */

static int send_ready(struct hasup_runtime *runtime, const char *failure)
{
    struct hasup_frame frame = {.type = HASUP_READY};
    struct hasup_bytes meta = {0};
    struct hasup_meta_writer w;
    size_t len = failure ? strlen(failure) : 0;
    if (failure) {
        uint8_t *room = hasup_bytes_room(&meta, HASUP_FIELD_HEADER + len);
        if (!room)
            return HASUP_ENOMEM;
        hasup_meta_start(&w, room, HASUP_FIELD_HEADER + len);
        hasup_meta_put(&w, HASUP_TAG_ERROR, failure, len);
    }
    int error = hasup_send(runtime, &frame, &meta, NULL, 0);
    free(meta.at);
    runtime->ready = !failure;
    if (!error)
        error = hasup_flush(runtime);
    return error ? error : failure ? HASUP_EWORKER : 0;
}

static int restore(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    struct hasup_running view; /* a RESTORE carries its body as a REQUEST does */
    int error = hasup_running_open(runtime, &view, frame);
    if (error)
        return error;
    if (!runtime->worker->restore ||
        runtime->worker->restore(runtime->model, view.request.body, view.request.len))
        return send_ready(runtime, "the worker's restore failed");
    if (view.buffer && (error = hasup_memory_release(runtime, view.buffer)))
        return error;
    return send_ready(runtime, NULL);
}

/* ---- frames ---- */

static int welcome(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    uint32_t most = HASUP_INLINE_MAX;
    uint64_t granted = 0;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, &field) > 0)
        if ((field.tag == HASUP_TAG_INLINE_MAX && hasup_field_get32(&field, &most)) ||
            (field.tag == HASUP_TAG_GRANTED && hasup_field_get64(&field, &granted)))
            return HASUP_EPROTO;
    if (most < HASUP_INLINE_MAX)
        runtime->inline_max = most;
    runtime->snapshots = granted & HASUP_CAN_SNAPSHOT;
    runtime->resumes = granted & HASUP_CAN_RESUME;
    runtime->batches = granted & HASUP_CAN_BATCH;
    runtime->zygote = granted & HASUP_CAN_ZYGOTE;
    if (runtime->forked && runtime->worker->forked && runtime->worker->forked(runtime->model))
        return send_ready(runtime, "the worker's forked failed; its stderr may say why");
    return frame->flags & HASUP_FLAG_RESTORING ? 0 : send_ready(runtime, NULL);
}

/* Of a forked worker, whose output is its zygote's until then. */
static int take_descriptor(const struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    uint32_t number = 0;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, &field) > 0)
        if (field.tag == HASUP_TAG_FD_NUMBER && hasup_field_get32(&field, &number))
            return HASUP_EPROTO;
    bool known = number == STDOUT_FILENO || number == STDERR_FILENO;
    if (!runtime->forked || !known || frame->fd < 0)
        return HASUP_EPROTO;
    return dup2(frame->fd, (int)number) < 0 ? HASUP_ESYS : 0;
}

/* At once: hasupd waits for it, and the next request may take long. */
static int pong(struct hasup_runtime *runtime, const struct hasup_frame *ping)
{
    struct hasup_frame frame = {.type = HASUP_PONG, .id = ping->id};
    int error = hasup_send(runtime, &frame, NULL, NULL, 0);
    return error ? error : hasup_flush(runtime);
}

/* A batch where the worker takes some, or one that is on its way. */
static int take_request(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    if (!runtime->ready || runtime->zygote)
        return HASUP_EPROTO;
    bool alone = !(frame->flags & HASUP_FLAG_MORE) && !runtime->batch.count;
    if (alone && runtime->worker->infer)
        return run_request(runtime, frame);
    return hasup_batch_take(runtime, frame);
}

static bool may_stand_in_a_batch(const struct hasup_frame *frame)
{
    return frame->type == HASUP_REQUEST || frame->type == HASUP_BUFFER ||
           frame->type == HASUP_BUFFER_GONE || frame->type == HASUP_RELEASE;
}

static int on_frame(struct hasup_runtime *runtime, struct hasup_frame *frame)
{
    if (runtime->batch.count && !may_stand_in_a_batch(frame))
        return HASUP_EPROTO;
    switch (frame->type) {
    case HASUP_WELCOME: return welcome(runtime, frame);
    case HASUP_RESTORE: return restore(runtime, frame);
    case HASUP_REQUEST: return take_request(runtime, frame);
    case HASUP_CANCEL: return 0; /* it is answered already, or runs to its end */
    case HASUP_CHECKPOINT: return hasup_state_take(runtime, frame);
    case HASUP_PING: return pong(runtime, frame);
    case HASUP_DRAIN: runtime->leaving = true; return 0;
    case HASUP_SPAWN: return hasup_zygote_spawn(runtime, frame);
    case HASUP_DESCRIPTOR: return take_descriptor(runtime, frame);
    case HASUP_BUFFER:
    case HASUP_BUFFER_GONE:
    case HASUP_RELEASE: return hasup_memory_frame(runtime, frame);
    }
    return HASUP_EPROTO;
}

static int take_frame(struct hasup_runtime *runtime, struct hasup_frame *frame)
{
    int error = on_frame(runtime, frame);
    if (frame->fd >= 0)
        close(frame->fd);
    return error;
}

/* Everything that has been read, in order: first what was read ahead. */
static int take_all(struct hasup_runtime *runtime)
{
    for (;;) {
        struct hasup_waiting *waiting = runtime->waiting;
        int got;
        if (waiting) {
            runtime->waiting = waiting->next;
            if (!runtime->waiting)
                runtime->waiting_tail = &runtime->waiting;
            got = take_frame(runtime, &waiting->frame);
            free(waiting);
        } else {
            struct hasup_frame frame;
            got = hasup_channel_next(&runtime->channel, &frame);
            if (got <= 0)
                return got;
            got = take_frame(runtime, &frame);
        }
        if (got)
            return got;
        if (runtime->ended)
            return HASUP_ENOMEM;
        if (runtime->leaving)
            return 0;
    }
}

static int serve(struct hasup_runtime *runtime)
{
    for (;;) {
        int64_t got =
            hasup_channel_fill(&runtime->channel, runtime->scratch, HASUP_CHANNEL_SCRATCH);
        int error = 0;
        if (got == HASUP_ECLOSED)
            return 0; /* hasupd is gone, and with it whoever waits */
        if (got < 0 && got != HASUP_EAGAIN)
            return (int)got;
        if (got > 0)
            error = take_all(runtime);
        /* A read that left room took all there was: no second one has to say so. */
        bool ends = runtime->leaving || terminated;
        bool more = got == HASUP_CHANNEL_SCRATCH && !ends;
        if (!error)
            error = hasup_snapshot_look(runtime, ends);
        if (!error && !more)
            error = hasup_flush(runtime);
        if (error)
            return error == HASUP_ECLOSED ? 0 : error;
        if (ends)
            return 0;
        if (!more && !terminated && (error = wait_for(runtime, POLLIN)))
            return error;
    }
}

/* ---- start ---- */

/* What is told of the model: the worker's own words, or what its signature says. */
static void metadata_of(const struct hasup_worker *worker, struct hasup_writer *metadata)
{
    if (worker->metadata)
        hasup_write_text(metadata, worker->metadata);
    else if (worker->signature)
        hasup_oip_write_metadata(metadata, worker->signature);
    if (metadata->bytes.len > HASUP_META_MAX - HELLO_ROOM) {
        fputs("hasup: the model's metadata is too long to be told\n", stderr);
        metadata->bytes.len = 0;
    }
}

int hasup_say_hello(struct hasup_runtime *runtime)
{
    const struct hasup_worker *worker = runtime->worker;
    struct hasup_writer metadata = {.failed = false};
    struct hasup_frame frame = {.type = HASUP_HELLO};
    struct hasup_bytes meta = {0};
    struct hasup_meta_writer w;
    metadata_of(worker, &metadata);
    size_t len = metadata.bytes.len;
    uint8_t *room = metadata.failed ? NULL : hasup_bytes_room(&meta, HELLO_ROOM + len);
    if (!room) {
        free(metadata.bytes.at);
        return HASUP_ENOMEM;
    }
    hasup_meta_start(&w, room, HELLO_ROOM + len);
    hasup_meta_put32(&w, HASUP_TAG_PROTOCOL, HASUP_FRAME_VERSION);
    hasup_meta_put32(&w, HASUP_TAG_CONCURRENCY, worker->concurrency ? worker->concurrency : 1);
    uint64_t abilities = HASUP_CAN_CANCEL;
    if (runtime->stateful)
        abilities |= HASUP_CAN_STATE | (worker->snapshot ? HASUP_CAN_SNAPSHOT : 0);
    else if (worker->resumable)
        abilities |= HASUP_CAN_RESUME;
    const char *zygote = getenv("HASUP_ZYGOTE"); /* what it is to be */
    if (zygote && strcmp(zygote, "1") == 0)
        abilities |= HASUP_CAN_ZYGOTE;
    if (runtime->batch.most > 1) {
        abilities |= HASUP_CAN_BATCH;
        hasup_meta_put32(&w, HASUP_TAG_MAX_BATCH, runtime->batch.most);
    }
    hasup_meta_put64(&w, HASUP_TAG_ABILITIES, abilities);
    if (len)
        hasup_meta_put(&w, HASUP_TAG_METADATA, metadata.bytes.at, len);
    free(metadata.bytes.at);
    meta.len = w.used;
    int error = hasup_send(runtime, &frame, &meta, NULL, 0);
    free(meta.at);
    return error ? error : hasup_flush(runtime);
}

static int hasupd_descriptor(void)
{
    const char *text = getenv("HASUP_FD");
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    if (text && *text && !*end && fd >= 0 && fd < 1 << 20)
        return (int)fd;
    fputs("this is a hasup worker: it serves when hasupd starts it.\n"
          "Name it as a model's command in a configuration and run: hasupd -c FILE\n",
          stderr);
    return -1;
}

static int run(struct hasup_runtime *runtime)
{
    const struct hasup_worker *worker = runtime->worker;
    int error = hasup_say_hello(runtime);
    if (!error && worker->load && worker->load(&runtime->model))
        error = send_ready(runtime, "the worker's load failed; its stderr may say why");
    return error ? error : serve(runtime);
}

int hasup_serve(const struct hasup_worker *worker)
{
    struct hasup_runtime runtime = {.worker = worker,
                                    .stateful = worker->save && worker->restore,
                                    .pace = SLOW,
                                    .inline_max = HASUP_INLINE_MAX};
    int fd = hasupd_descriptor();
    if (fd < 0)
        return EXIT_NO_HASUPD;
    if ((!worker->infer && !worker->infer_batch) || !worker->save != !worker->restore) {
        fputs("hasup: a worker needs infer or infer_batch, and save and restore together or not "
              "at all\n",
              stderr);
        return EXIT_NO_HASUPD;
    }
    struct sigaction term = {.sa_handler = on_term};
    sigaction(SIGTERM, &term, NULL);
    runtime.waiting_tail = &runtime.waiting;
    runtime.scratch = malloc(HASUP_CHANNEL_SCRATCH);
    hasup_channel_init(&runtime.channel, fd, 0);
    int error = runtime.scratch ? hasup_batch_open(&runtime) : HASUP_ENOMEM;
    if (!error)
        error = run(&runtime);
    if (error && error != HASUP_EWORKER)
        fprintf(stderr, "hasup: the connection to hasupd failed: %s\n", hasup_strerror(error));
    if (!error && worker->unload)
        worker->unload(runtime.model);
    hasup_batch_close(&runtime);
    free(runtime.snapshot.meta.at);
    hasup_channel_fini(&runtime.channel);
    hasup_memory_free_all(&runtime);
    free(runtime.scratch);
    free(runtime.second_scratch);
    return error ? EXIT_BROKEN : 0;
}
