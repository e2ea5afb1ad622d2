/*
 * state.c: how a worker's state is taken.  `save` writes into a memfd, either here, between two
 * requests, or in a forked child, which has the state as it was at the fork while this process
 * goes on serving.  The child says through a pipe what came of it; if it dies, the state has
 * failed and nothing else has.  It never touches hasupd's socket, and dies with this process.  A
 * large state goes to hasupd as that memfd, sealed so that it can be read without a doubt; a small
 * one in its frame.
 */
#include "worker/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FRONT = 64 * 1024, WHY = 160 };

struct hasup_state {
    int fd;
    uint8_t *front; /* FRONT bytes: what is written in small pieces */
    size_t used;
    uint64_t len;
};

/* What came of a save; as it is, it passes through the pipe. */
struct outcome {
    uint64_t len;
    bool saved;
};

/* ---- writing ---- */

static int write_all(struct hasup_state *state, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t put = write(state->fd, bytes, len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return HASUP_ENOMEM;
        bytes += put;
        len -= (size_t)put;
        state->len += (uint64_t)put;
    }
    return 0;
}

static int write_front(struct hasup_state *state)
{
    int error = write_all(state, state->front, state->used);
    state->used = 0;
    return error;
}

int hasup_state_write(struct hasup_state *state, const void *bytes, size_t len)
{
    if (len > FRONT - state->used) {
        int error = write_front(state);
        if (error)
            return error;
    }
    if (len > FRONT)
        return write_all(state, bytes, len);
    if (len)
        memcpy(state->front + state->used, bytes, len);
    state->used += len;
    return 0;
}

static struct outcome run_save(const struct hasup_runtime *runtime, int fd)
{
    struct hasup_state state = {.fd = fd, .front = malloc(FRONT)};
    bool saved = state.front && runtime->worker->save(runtime->model, &state) == 0 &&
                 write_front(&state) == 0;
    free(state.front);
    return (struct outcome){.len = state.len, .saved = saved};
}

/* ---- sending ---- */

static int send_failed(struct hasup_runtime *runtime, const char *why)
{
    struct hasup_bytes *meta = &runtime->snapshot.meta;
    struct hasup_frame frame = {.type = HASUP_STATE};
    struct hasup_meta_writer w;
    size_t len = strlen(why), need = HASUP_FIELD_HEADER + len;
    uint8_t *room = hasup_bytes_room(meta, need);
    if (!room)
        return HASUP_ENOMEM;
    hasup_meta_start(&w, room, need);
    hasup_meta_put(&w, HASUP_TAG_ERROR, why, len);
    return hasup_send(runtime, &frame, meta, NULL, 0);
}

static int send_inline(struct hasup_runtime *runtime, int fd, size_t len)
{
    struct hasup_frame frame = {.type = HASUP_STATE};
    uint8_t *bytes = malloc(len + 1);
    int error = bytes ? 0 : HASUP_ENOMEM;
    if (!error && pread(fd, bytes, len, 0) != (ssize_t)len)
        error = send_failed(runtime, "the state's memory cannot be read back");
    else if (!error)
        error = hasup_send(runtime, &frame, &runtime->snapshot.meta, bytes, len);
    free(bytes);
    return error;
}

static int send_buffer_frame(struct hasup_runtime *runtime, enum hasup_frame_type type, uint32_t id,
                             uint64_t size, int fd)
{
    uint8_t meta[64];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    if (size)
        hasup_meta_put64(&w, HASUP_TAG_BUFFER_SIZE, size);
    return hasup_send_frame(runtime, &(struct hasup_frame){.type = (uint8_t)type,
                                                           .flags = size ? HASUP_FLAG_FD : 0,
                                                           .meta = meta,
                                                           .meta_len = (uint32_t)w.used,
                                                           .fd = fd});
}

/* In a buffer of its own, which is hasupd's alone from here on. */
static int send_memfd(struct hasup_runtime *runtime, int fd, uint64_t len)
{
    struct hasup_bytes *meta = &runtime->snapshot.meta;
    struct hasup_meta_writer w;
    uint32_t id = ++runtime->next_memory;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
        return send_failed(runtime, "the state's memory cannot be sealed: is it still mapped?");
    uint8_t *room = hasup_bytes_room(meta, 12);
    if (!room)
        return HASUP_ENOMEM;
    hasup_meta_start(&w, room, 12);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    int error = send_buffer_frame(runtime, HASUP_BUFFER, id, len, fd);
    if (!error)
        error = hasup_send_frame(runtime, &(struct hasup_frame){.type = HASUP_STATE,
                                                                .flags = HASUP_FLAG_BUFFER,
                                                                .meta = meta->at,
                                                                .meta_len = (uint32_t)meta->len,
                                                                .body_len = len,
                                                                .fd = -1});
    return error ? error : send_buffer_frame(runtime, HASUP_BUFFER_GONE, id, 0, -1);
}

static int send_outcome(struct hasup_runtime *runtime, int fd, struct outcome outcome)
{
    if (!outcome.saved)
        return send_failed(runtime, "the worker's save failed");
    if (outcome.len <= runtime->inline_max)
        return send_inline(runtime, fd, (size_t)outcome.len);
    return send_memfd(runtime, fd, outcome.len);
}

/* ---- in a child ---- */

static _Noreturn void snapshot_child(const struct hasup_runtime *runtime, int fd, int pipe,
                                     pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    signal(SIGTERM, SIG_IGN); /* the parent's to hear; it waits for this */
    close(runtime->channel.fd);
    struct outcome outcome = run_save(runtime, fd);
    fflush(stdout);
    _exit(write(pipe, &outcome, sizeof outcome) != sizeof outcome);
}

/* False: no child could be made, and the state is taken here. */
static bool snapshot_begin(struct hasup_runtime *runtime, int fd)
{
    int ends[2];
    pid_t parent = getpid();
    if (pipe2(ends, O_CLOEXEC))
        return false;
    fflush(stdout); /* or both would print it */
    pid_t child = fork();
    if (child == 0)
        snapshot_child(runtime, fd, ends[1], parent);
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return false;
    }
    runtime->snapshot.child = child;
    runtime->snapshot.result = ends[0];
    runtime->snapshot.fd = fd;
    return true;
}

static void child_end(pid_t child, char why[WHY])
{
    int status = 0;
    pid_t got;
    while ((got = waitpid(child, &status, 0)) < 0 && errno == EINTR)
        continue;
    if (got == child && WIFSIGNALED(status))
        snprintf(why, WHY, "the process that took the state was killed by signal %d (%s)",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(why, WHY, "the process that took the state exited before it was done");
}

static bool is_readable(int fd, bool wait)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    int got;
    while ((got = poll(&poller, 1, wait ? -1 : 0)) < 0 && errno == EINTR && wait)
        continue;
    return got > 0;
}

int hasup_snapshot_look(struct hasup_runtime *runtime, bool wait)
{
    struct outcome outcome;
    char why[WHY];
    int result = runtime->snapshot.result, fd = runtime->snapshot.fd;
    if (!runtime->snapshot.child || !is_readable(result, wait))
        return 0;
    bool whole = read(result, &outcome, sizeof outcome) == sizeof outcome;
    child_end(runtime->snapshot.child, why);
    runtime->snapshot.child = 0;
    int error = whole ? send_outcome(runtime, fd, outcome) : send_failed(runtime, why);
    close(result);
    close(fd);
    return error;
}

/* ---- CHECKPOINT ---- */

int hasup_state_take(struct hasup_runtime *runtime, const struct hasup_frame *asked)
{
    if (!runtime->stateful || runtime->snapshot.child)
        return HASUP_EPROTO;
    struct hasup_bytes *meta = &runtime->snapshot.meta;
    meta->len = 0;
    uint8_t *room = hasup_bytes_room(meta, asked->meta_len);
    if (!room)
        return HASUP_ENOMEM;
    memcpy(room, asked->meta, asked->meta_len); /* POSITION, echoed */
    int error = hasup_flush(runtime);           /* no answer waits for a save, or a fork */
    if (error)
        return error;
    int fd = memfd_create("hasup-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return send_failed(runtime, "no memory for the state");
    if (runtime->snapshots && snapshot_begin(runtime, fd))
        return 0;
    error = send_outcome(runtime, fd, run_save(runtime, fd));
    close(fd);
    return error;
}
