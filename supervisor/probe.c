/*
 * probe.c: one probe from its start to its word.  Owns its socket or its command's pipes, and its
 * timer; whom it asks, it never waits for.  Decides nothing: it says what it saw.
 *
 * States: connecting (to one place after the other) or running a command; then, of HTTP, asking and
 * reading; at last settled, when a timer that is due at once brings the word to who asked.
 * Failure modes: each is a sentence in `why`.
 */
#include "supervisor/probe.h"

#include "ipc/channel.h"
#include "supervisor/address.h"
#include "supervisor/capture.h"
#include "supervisor/config_tree.h"
#include "supervisor/oom.h"
#include "supervisor/probe_http.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LABEL = 140, LINE = 160 };

struct probe {
    struct loop *loop;
    enum probe_kind kind;
    uint32_t status_min, status_max;
    hasup_ns timeout;
    probe_done *done;
    void *context;
    struct timer timer; /* of the whole; then of the word */
    bool settled, ok;
    char why[PROBE_WHY];

    /* tcp, http */
    struct address address;
    unsigned place; /* which of the address's is tried */
    int error;      /* why the first one did not do */
    bool connected;
    struct watch watch;
    int fd;
    char where[LABEL]; /* the address as it was given */
    char what[LABEL];  /* "GET /healthz: ", or "" */
    char *request;
    size_t sent;
    struct probe_answer *answer;

    /* exec */
    struct process *process;
    struct capture *capture;
    char line[LINE]; /* the last one that it printed */
    bool continued;  /* what comes next belongs to that line */
};

/* ---- the end ---- */

static void probe_close(struct probe *probe)
{
    watch_stop(&probe->watch);
    if (probe->fd >= 0)
        close(probe->fd);
    probe->fd = -1;
    if (probe->process)
        process_abandon(probe->process);
    probe->process = NULL;
    if (probe->capture)
        capture_free(probe->capture);
    probe->capture = NULL;
}

static void probe_free(struct probe *probe)
{
    probe_close(probe);
    timer_stop(&probe->timer);
    probe_answer_free(probe->answer);
    free(probe->request);
    free(probe);
}

static void tell(struct probe *probe)
{
    probe_done *done = probe->done;
    void *context = probe->context;
    char why[PROBE_WHY];
    const bool ok = probe->ok;
    memcpy(why, probe->why, sizeof why);
    probe_free(probe);
    done(context, ok, why);
}

static void settle(struct probe *probe, bool ok)
{
    probe->settled = true;
    probe->ok = ok;
    probe_close(probe);
}

HASUP_PRINTF(2, 3) static void fail(struct probe *probe, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(probe->why, sizeof probe->why, format, args);
    va_end(args);
    settle(probe, false);
}

/* ---- exec ---- */

static void note_line(void *context, const struct captured *captured)
{
    struct probe *probe = context;
    const bool blank = strspn(captured->text, " \t") == captured->len;
    if (!probe->continued && !blank)
        snprintf(probe->line, sizeof probe->line, "%s", captured->text);
    probe->continued = captured->more;
}

static void note_dropped(void *context, struct flow_dropped dropped)
{
    (void)context;
    (void)dropped;
}

/* How it ended, with the last line as the reason, where it printed any. */
static void exec_failed(struct probe *probe, const char *how)
{
    fail(probe, "%s%s%s", how, probe->line[0] ? ": " : "", probe->line);
}

static void exec_exited(void *owner, struct process *process, const struct process_exit *exit)
{
    struct probe *probe = process_context(process);
    char how[64];
    (void)owner;
    capture_finish(probe->capture);
    if (exit->oom)
        snprintf(how, sizeof how, "killed for lack of memory%s",
                 exit->oom == OOM_EVIDENT ? ", as it seems" : "");
    else if (exit->signal && sigabbrev_np(exit->signal))
        snprintf(how, sizeof how, "killed by SIG%s", sigabbrev_np(exit->signal));
    else if (exit->signal)
        snprintf(how, sizeof how, "killed by signal %d", exit->signal);
    else
        snprintf(how, sizeof how, "exit code %d", exit->code);
    if (exit->signal || exit->code)
        exec_failed(probe, how);
    else
        settle(probe, true);
    tell(probe);
}

/* exec_exited has left it by then. */
static void exec_tree_empty(void *owner, struct process *process)
{
    (void)owner;
    (void)process;
}

static const struct process_ops EXEC = {.exited = exec_exited, .tree_empty = exec_tree_empty};

static void exec_start(struct probe *probe, const struct probe_place *place,
                       const struct probe_spec *spec)
{
    const struct capture_options options = {
        .line_max = LINE, .line = note_line, .dropped = note_dropped, .context = probe};
    char error[256];
    int out, err;
    probe->capture = capture_new(probe->loop, &options, &out, &err);
    if (!probe->capture) {
        fail(probe, "cannot start %.100s: %s", spec->exec[0], strerror(errno));
        return;
    }
    const struct process_spec process = {.argv = (const char *const *)spec->exec,
                                         .env = place->env,
                                         .directory = place->directory,
                                         .attributes = place->attributes,
                                         .channel = -1,
                                         .out = out,
                                         .err = out, /* one pipe: the last line is the last */
                                         .context = probe,
                                         .ops = &EXEC,
                                         .beside = place->beside};
    int failed = process_spawn(place->processes, &process, &probe->process, error);
    close(out);
    close(err);
    if (failed) {
        probe->process = NULL;
        fail(probe, "cannot start: %s", error);
    }
}

/* ---- http ---- */

static void answered(struct probe *probe)
{
    unsigned status = probe_answer_status(probe->answer);
    if (status >= probe->status_min && status <= probe->status_max)
        settle(probe, true);
    else
        fail(probe, "%sstatus %u", probe->what, status);
}

static void answer_ended(struct probe *probe, const char *how)
{
    if (probe_answer_status(probe->answer))
        answered(probe);
    else
        fail(probe, "%s%.130s %s", probe->what, probe->where, how);
}

static void answer_read(struct probe *probe)
{
    uint8_t *bytes = loop_scratch(probe->loop);
    ssize_t got = recv(probe->fd, bytes, HASUP_CHANNEL_SCRATCH, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        answer_ended(probe, got < 0 && errno == ECONNRESET
                                ? "reset the connection without an answer"
                                : "closed the connection without an answer");
        return;
    }
    switch (probe_answer_take(probe->answer, bytes, (size_t)got)) {
    case ANSWER_MORE: return;
    case ANSWER_DONE: answered(probe); return;
    case ANSWER_LONG:
        fail(probe, "%sthe head of the answer has no end within %d KiB", probe->what,
             PROBE_HTTP_MOST / 1024);
        return;
    case ANSWER_ALIEN: fail(probe, "%s%.130s does not answer in HTTP", probe->what, probe->where);
    }
}

/* ---- connections ---- */

static void on_ready(void *context, int events);

static void await(struct probe *probe, int events)
{
    if (watch_set(&probe->watch, probe->loop, probe->fd, events))
        fail(probe, "%sout of memory", probe->what);
}

static void request_send(struct probe *probe)
{
    size_t left = strlen(probe->request + probe->sent);
    ssize_t got = send(probe->fd, probe->request + probe->sent, left, MSG_NOSIGNAL);
    if (got > 0)
        probe->sent += (size_t)got;
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        await(probe, WATCH_READ); /* it may have answered before it closed */
    else
        await(probe, probe->request[probe->sent] ? WATCH_READ | WATCH_WRITE : WATCH_READ);
}

/* A connection from a port of one's own choice to a port where nobody listens may be one with
 * itself. */
static bool is_own(int fd)
{
    struct sockaddr_storage own, other;
    socklen_t own_len = sizeof own, other_len = sizeof other;
    memset(&own, 0, sizeof own);
    memset(&other, 0, sizeof other);
    return getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 &&
           getpeername(fd, (struct sockaddr *)&other, &other_len) == 0 &&
           own.ss_family != AF_UNIX && own_len == other_len && memcmp(&own, &other, own_len) == 0;
}

static void connect_failed(struct probe *probe, int error)
{
    if (error == ECONNREFUSED)
        fail(probe, "%sconnection refused by %.130s", probe->what, probe->where);
    else if (error == ENOENT)
        fail(probe, "%sthere is no socket %.130s", probe->what, probe->where);
    else if (error == EAGAIN)
        fail(probe, "%s%.130s accepts no connections: its backlog is full", probe->what,
             probe->where);
    else
        fail(probe, "%scannot connect to %.130s: %s", probe->what, probe->where, strerror(error));
}

/* 0: it is connected; EINPROGRESS: it will be told; else it is not. */
static int connect_place(struct probe *probe)
{
    const struct sockaddr *at = &probe->address.places[probe->place].at.any;
    probe->fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe->fd < 0 || connect(probe->fd, at, probe->address.places[probe->place].len) < 0)
        return errno;
    return 0;
}

static void connected(struct probe *probe)
{
    probe->connected = true;
    if (probe->kind == PROBE_TCP)
        settle(probe, true);
    else
        request_send(probe);
}

/* Goes on from a connection that came about or, with `error`, did not: to the next place, if there
 * is one. */
static void connect_ended(struct probe *probe, int error)
{
    for (;;) {
        if (error == EINPROGRESS) {
            await(probe, WATCH_WRITE);
            return;
        }
        if (error == 0 && is_own(probe->fd))
            error = ECONNREFUSED;
        if (error == 0) {
            connected(probe);
            return;
        }
        if (probe->place == 0)
            probe->error = error;
        if (++probe->place == probe->address.count) {
            connect_failed(probe, probe->error);
            return;
        }
        probe_close(probe);
        error = connect_place(probe);
    }
}

static void on_ready(void *context, int events)
{
    struct probe *probe = context;
    int error = 0;
    socklen_t len = sizeof error;
    if (!probe->connected) {
        if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
            error = errno;
        connect_ended(probe, error);
    } else if (events & WATCH_READ) {
        answer_read(probe);
    } else {
        request_send(probe);
    }
    if (probe->settled)
        tell(probe);
}

static void connect_start(struct probe *probe, const struct probe_spec *spec)
{
    enum address_fault fault = address_read(spec->address, &probe->address);
    const bool local = strncmp(spec->address, ADDRESS_LOCAL, strlen(ADDRESS_LOCAL)) == 0;
    snprintf(probe->where, sizeof probe->where, "%s",
             spec->address + (local ? strlen(ADDRESS_LOCAL) : 0));
    if (probe->kind == PROBE_HTTP)
        snprintf(probe->what, sizeof probe->what, "GET %.100s%s: ", spec->path,
                 strlen(spec->path) > 100 ? "..." : "");
    if (fault)
        fail(probe, "%s%.100s: %s", probe->what, spec->address, address_fault_text(fault));
    else
        connect_ended(probe, connect_place(probe));
}

/* ---- life ---- */

static void timed_out(struct probe *probe)
{
    char span[CONFIG_VALUE_MAX];
    config_duration_text(probe->timeout, span);
    if (probe->kind == PROBE_EXEC) {
        char how[64];
        capture_finish(probe->capture);
        snprintf(how, sizeof how, "killed: no end in %s", span);
        exec_failed(probe, how);
    } else if (!probe->connected) {
        fail(probe, "%sno connection to %.130s in %s", probe->what, probe->where, span);
    } else if (probe_answer_status(probe->answer)) {
        answered(probe);
    } else {
        fail(probe, "%sno answer in %s", probe->what, span);
    }
}

static void on_timer(void *context)
{
    struct probe *probe = context;
    if (!probe->settled)
        timed_out(probe);
    tell(probe);
}

static bool prepare_http(struct probe *probe, const struct probe_spec *spec)
{
    probe->request = probe_http_request(spec->address, spec->path);
    probe->answer = probe_answer_new();
    return probe->request && probe->answer;
}

struct probe *probe_start(const struct probe_place *place, const struct probe_spec *spec,
                          probe_done *done, void *context)
{
    struct probe *probe = calloc(1, sizeof *probe);
    if (!probe)
        return NULL;
    *probe = (struct probe){.loop = place->loop,
                            .kind = spec->kind,
                            .status_min = spec->status_min,
                            .status_max = spec->status_max,
                            .timeout = spec->timeout,
                            .done = done,
                            .context = context,
                            .timer = {.due = on_timer, .context = probe},
                            .watch = {.ready = on_ready, .context = probe},
                            .fd = -1};
    if ((spec->kind == PROBE_HTTP && !prepare_http(probe, spec)) ||
        timer_set(&probe->timer, probe->loop, loop_now(probe->loop) + spec->timeout)) {
        probe_free(probe);
        return NULL;
    }
    switch (spec->kind) {
    case PROBE_NONE: settle(probe, true); break;
    case PROBE_EXEC: exec_start(probe, place, spec); break;
    case PROBE_TCP:
    case PROBE_HTTP: connect_start(probe, spec); break;
    }
    if (probe->settled) /* a timer that is there is set without memory */
        (void)!timer_set(&probe->timer, probe->loop, loop_now(probe->loop));
    return probe;
}

void probe_cancel(struct probe *probe)
{
    probe_free(probe);
}
