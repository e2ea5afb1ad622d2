/*
 * fork.c: workers that a zygote forks: asked for by SPAWN, adopted when it answers, given up where
 * it does not.  Until it is adopted a worker has no process and nobody listens to it: its end of
 * the socket waits here.  What comes late, for a slot that went on without it, is killed.
 *
 * Trusts no zygote: a pidfd of anything but a child of hasupd's is refused, and never signalled.
 */
#include "supervisor/config_tree.h"
#include "supervisor/engine.h"
#include "supervisor/said.h"
#include "supervisor/users.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENVIRONMENT_MAX = 256 * 1024 };

/* The id of a SPAWN. */
static uint64_t fork_id(const struct worker *worker)
{
    return (uint64_t)worker->slot->index << 32 | worker->number;
}

static void ends_close(struct worker *worker)
{
    int *ends[] = {&worker->fork.socket, &worker->fork.out, &worker->fork.err};
    for (size_t i = 0; i < HASUP_LEN(ends); i++) {
        if (*ends[i] >= 0)
            close(*ends[i]);
        *ends[i] = -1;
    }
}

static bool has(char *const *environment, const char *variable)
{
    for (; *environment; environment++)
        if (strcmp(*environment, variable) == 0)
            return true;
    return false;
}

static bool add(struct body *body, const char *variable)
{
    size_t len = strlen(variable) + 1;
    if (body->len + len > ENVIRONMENT_MAX)
        return false;
    memcpy((uint8_t *)(uintptr_t)body->bytes + body->len, variable, len);
    body->len += len;
    return true;
}

/* What its environment has that the zygote's does not, malloc'ed.  0, or an errno and `error`. */
static int differences(const struct worker *worker, const struct worker *zygote, const char *token,
                       struct body *body, char error[ENGINE_REASON])
{
    char **own = NULL, **theirs = NULL;
    zygote->slot->config = worker->slot->config; /* they are of one version */
    /* What the files said when the zygote began is not known: all that they say goes along. */
    int failed = environment_make(worker, true, &own, error);
    if (!failed)
        failed = environment_make(zygote, false, &theirs, error);
    *body = (struct body){.bytes = failed ? NULL : malloc(ENVIRONMENT_MAX)};
    if (!failed && !body->bytes)
        failed = ENOMEM;
    bool fits = !failed && add(body, token);
    for (char **at = own; fits && *at; at++)
        fits = has(theirs, *at) || add(body, *at);
    if (!failed && !fits) {
        snprintf(error, ENGINE_REASON, "its environment is larger than 256KiB");
        failed = E2BIG;
    }
    config_strings_free(own);
    config_strings_free(theirs);
    zygote->slot->config = NULL;
    return failed;
}

/* 0, or the errno of what failed, and `why`. */
static int spawn_send(struct worker *worker, struct worker *zygote, const char *token, int end,
                      char why[ENGINE_REASON])
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    struct body body;
    int failed = differences(worker, zygote, token, &body, why);
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_SLOT, worker->slot->place.ordinal);
    if (!failed) {
        struct hasup_frame frame = {.type = HASUP_SPAWN,
                                    .id = fork_id(worker),
                                    .meta = meta,
                                    .meta_len = (uint32_t)w.used,
                                    .body = body.bytes,
                                    .body_len = body.len};
        failed = peer_pass(&zygote->peer, &frame, end) ? EPIPE : 0;
        if (failed)
            snprintf(why, ENGINE_REASON, "%s", strerror(failed));
    }
    free((void *)(uintptr_t)body.bytes);
    return failed;
}

/* 0, or the errno of what failed, and `why`. */
static int ask(struct worker *worker, struct worker *zygote, char why[ENGINE_REASON])
{
    struct engine *engine = worker->slot->engine;
    const bool watched = worker->slot->config->policy.timeouts.watchdog != 0;
    struct attributes attributes;
    const char *token;
    int pair[2];
    snprintf(why, ENGINE_REASON, "out of memory");
    worker->process = process_await(engine->processes, worker->slot->place.name, worker, &token);
    if (!worker->process)
        return ENOMEM;
    if (users_find(&worker->slot->config->process, &attributes, why))
        return ENOENT;
    bool made = !watched || (worker->notify = notify_new(worker, attributes.uid));
    if (made)
        worker->capture = said_capture(worker, &worker->fork.out, &worker->fork.err);
    if (!made || !worker->capture || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        int failed = errno ? errno : ENOMEM;
        snprintf(why, ENGINE_REASON, "cannot make its sockets: %s", strerror(failed));
        return failed;
    }
    worker->fork.socket = pair[0];
    int failed = spawn_send(worker, zygote, token, pair[1], why);
    close(pair[1]);
    return failed;
}

static void fork_free(struct worker *worker)
{
    ends_close(worker);
    if (worker->process)
        process_forsake(worker->process);
    worker->slot->worker = NULL;
    worker_free(worker);
}

/* Tells the core that there will be no worker, and why. */
static void fork_failed(struct worker *worker, int error, const char *why)
{
    struct slot *slot = worker->slot;
    struct event event = {
        .type = EVENT_SPAWNED, .slot = slot->index, .worker = worker->number, .error = error};
    char reason[ENGINE_REASON];
    snprintf(reason, sizeof reason, "could not be forked: %.280s", why);
    if (error != HASUP_ECLOSED) { /* else the zygote's end is told already */
        worker_note_death(slot, reason);
        LOG_EVENT(LEVEL_WARNING, "slot.start_failed", reason, LOG_TEXT("slot", slot->name));
    }
    fork_free(worker);
    engine_post(slot->engine, &event);
}

void worker_fork(struct slot *slot, uint32_t number, struct slot *parent)
{
    struct worker *zygote = parent ? parent->worker : NULL;
    struct worker *worker = zygote ? calloc(1, sizeof *worker) : NULL;
    if (!worker) {
        engine_post(slot->engine, &(struct event){.type = EVENT_SPAWNED,
                                                  .slot = slot->index,
                                                  .worker = number,
                                                  .error = zygote ? ENOMEM : ESRCH});
        return;
    }
    *worker = (struct worker){.slot = slot,
                              .home = slot,
                              .number = number,
                              .version = slot->version,
                              .spawned = loop_now(slot->engine->loop),
                              .fork = {.zygote = zygote, .socket = -1, .out = -1, .err = -1}};
    slot->worker = worker;
    char why[ENGINE_REASON];
    int failed = ask(worker, zygote, why);
    if (failed)
        fork_failed(worker, failed, why);
}

bool fork_give_up(struct worker *worker)
{
    struct slot *slot = worker->slot;
    uint32_t number = worker->number;
    if (!worker->fork.zygote)
        return false;
    fork_free(worker);
    engine_post(slot->engine, &(struct event){.type = EVENT_EXITED,
                                              .slot = slot->index,
                                              .worker = number,
                                              .exited = {.tree_empty = true}});
    return true;
}

void forks_lost(struct worker *zygote)
{
    struct engine *engine = zygote->slot->engine;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct worker *worker = engine->slots[i] ? engine->slots[i]->worker : NULL;
        if (worker && worker->fork.zygote == zygote)
            fork_failed(worker, HASUP_ECLOSED, "its zygote is gone");
    }
}

/* ---- the answer ---- */

struct answer {
    char error[ENGINE_REASON - 64];
    bool failed, for_good;
};

static int read_answer(const struct hasup_frame *frame, struct answer *answer)
{
    static const char UNFORKABLE[] = "unforkable";
    struct hasup_field error, code;
    *answer = (struct answer){.failed = hasup_meta_find(frame, HASUP_TAG_ERROR, &error)};
    if (answer->failed)
        snprintf(answer->error, sizeof answer->error, "%.*s", (int)error.len,
                 (const char *)error.value);
    answer->for_good = hasup_meta_find(frame, HASUP_TAG_CODE, &code) &&
                       code.len == sizeof UNFORKABLE - 1 &&
                       memcmp(code.value, UNFORKABLE, code.len) == 0;
    return !answer->failed == (frame->fd < 0) ? HASUP_EPROTO : 0;
}

static bool pass(struct worker *worker, uint32_t number, int fd)
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_FD_NUMBER, number);
    struct hasup_frame frame = {
        .type = HASUP_DESCRIPTOR, .meta = meta, .meta_len = (uint32_t)w.used};
    return peer_pass(&worker->peer, &frame, fd) == 0;
}

static void adopt(struct worker *worker, int pidfd)
{
    char error[256];
    if (process_adopt(worker->process, pidfd, error)) {
        fork_failed(worker, ESRCH, error);
        return;
    }
    worker->fork.zygote = NULL;
    int socket = worker->fork.socket;
    worker->fork.socket = -1;
    if (peer_open(&worker->peer, worker->slot->engine->peers, socket, &worker_ops, worker) ||
        !pass(worker, STDOUT_FILENO, worker->fork.out) ||
        !pass(worker, STDERR_FILENO, worker->fork.err))
        process_kill_tree(worker->process);
    ends_close(worker);
    engine_post(worker->slot->engine, &(struct event){.type = EVENT_SPAWNED,
                                                      .slot = worker->slot->index,
                                                      .worker = worker->number});
}

int fork_answered(struct worker *zygote, const struct hasup_frame *frame)
{
    struct engine *engine = zygote->slot->engine;
    const uint64_t index = frame->id >> 32;
    const struct slot *slot = index < engine->config->limits.slots ? engine->slots[index] : NULL;
    struct worker *worker = slot ? slot->worker : NULL;
    struct answer answer;
    if (read_answer(frame, &answer))
        return HASUP_EPROTO;
    if (!worker || worker->fork.zygote != zygote || worker->number != (uint32_t)frame->id) {
        if (frame->fd >= 0) /* too late */
            process_kill_stray(engine->processes, frame->fd);
        return 0;
    }
    if (answer.failed) {
        if (answer.for_good)
            worker_note_cause(zygote, "%s", answer.error);
        fork_failed(worker, answer.for_good ? HASUP_EWORKER : EAGAIN, answer.error);
    } else {
        adopt(worker, frame->fd);
    }
    return 0;
}
