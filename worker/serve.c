/*
 * serve.c: the life of a worker: hello, load, restore, ready, then requests in the order they come
 * (request.c, batch.c; its state in between: state.c) until hasupd says to stop.  Answers are
 * gathered and leave when nothing more is to be read.  A broken frame or a lost hasupd ends the
 * process: hasupd starts another.
 */
#include "worker/oip.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_BROKEN = 1, EXIT_NO_HASUPD = 2 };
enum { HELLO_ROOM = 64 }; /* of its fields beside the metadata */
enum { PAUSE_MS = 100 };  /* nothing to do for so long: memory is given back */

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
    bool pauses = events == POLLIN && hasup_memory_is_spare(runtime);
    int got = poll(pollers, HASUP_LEN(pollers), pauses ? PAUSE_MS : -1);
    if (got == 0)
        return hasup_memory_rest(runtime);
    return got < 0 && errno != EINTR ? HASUP_ESYS : 0;
}

int hasup_broke(struct hasup_runtime *runtime, const char *how)
{
    runtime->broken = how;
    return HASUP_EPROTO;
}

int hasup_flush(struct hasup_runtime *runtime)
{
    int error;
    while ((error = hasup_channel_flush(&runtime->channel)) == HASUP_EAGAIN)
        if ((error = wait_for(runtime, POLLOUT)))
            return error;
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
    struct hasup_field mark;
    uint32_t most = HASUP_INLINE_MAX;
    uint64_t granted = 0;
    if (hasup_meta_get32(frame, HASUP_TAG_INLINE_MAX, &most) ||
        hasup_meta_get64(frame, HASUP_TAG_GRANTED, &granted))
        return HASUP_EPROTO;
    if (hasup_meta_find(frame, HASUP_TAG_LOG_MARK, &mark) && mark.len < sizeof runtime->mark)
        snprintf(runtime->mark, sizeof runtime->mark, "%.*s", (int)mark.len,
                 (const char *)mark.value);
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
    uint32_t number = 0;
    int error = hasup_meta_get32(frame, HASUP_TAG_FD_NUMBER, &number);
    bool known = !error && (number == STDOUT_FILENO || number == STDERR_FILENO);
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

static int take_request(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    if (!runtime->ready || runtime->zygote)
        return hasup_broke(runtime, "a request came to a worker that is not ready, or a zygote");
    bool batched = runtime->batch.count || frame->flags & HASUP_FLAG_MORE;
    if (!batched && runtime->worker->infer)
        return hasup_request_take(runtime, frame);
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
        return hasup_broke(runtime, "a frame that is no request's stands within a batch");
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
            return error == HASUP_ECLOSED ? 0 : error;
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

static const char *what_is_wrong(const struct hasup_worker *worker)
{
    if (!worker->infer && !worker->infer_batch)
        return "infer or infer_batch";
    if (!worker->infer_batch != !worker->max_batch)
        return "infer_batch and max_batch, how many it takes, together or not at all";
    return !worker->save != !worker->restore ? "save and restore together or not at all" : NULL;
}

int hasup_serve(const struct hasup_worker *worker)
{
    struct hasup_runtime runtime = {.worker = worker,
                                    .stateful = worker->save && worker->restore,
                                    .pace = HASUP_S, /* nothing is known yet */
                                    .inline_max = HASUP_INLINE_MAX};
    int fd = hasupd_descriptor();
    if (fd < 0)
        return EXIT_NO_HASUPD;
    const char *wrong = what_is_wrong(worker);
    if (wrong) {
        fprintf(stderr, "hasup: a worker needs %s\n", wrong);
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
    if (runtime.broken)
        fprintf(stderr, "hasup: hasupd broke the protocol: %s\n", runtime.broken);
    else if (error && error != HASUP_EWORKER)
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
