/*
 * capture.c: two pipes, cut into lines.  Owns the reading ends and the timer of a flood.  Reads at
 * most one buffer for each readiness, so that a flood from one worker does not starve the loop.
 * What is dropped is core/flow.c's to say; while the flow is shut lines are only counted, but for
 * the last ones of a buffer: should the worker die now, they say why.
 */
#include "supervisor/capture.h"

#include "supervisor/carry.h"
#include "supervisor/escape.h"
#include "supervisor/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024 /* what a pipe holds */, DRAIN_READS = 4, LAST_READS = 16 };

struct pipe_end {
    struct capture *capture;
    enum capture_stream stream;
    struct watch watch;
    int fd;
    size_t used;
    char *line; /* line_max and a NUL; NULL while nothing is unfinished */
    char *request; /* of a line whose first part is delivered; NULL: it was not said */
    bool goes_on;  /* and the line after it is its next part */
};

struct capture {
    struct capture_options options;
    struct loop *loop;
    struct flow flow;
    struct timer due;
    struct pipe_end ends[2];
    char *tail[CAPTURE_TAIL]; /* a ring */
    size_t tail_next;
};

/* ---- lines ---- */

static void tail_add(struct capture *capture, const char *line)
{
    size_t at = capture->tail_next++ % CAPTURE_TAIL;
    free(capture->tail[at]);
    capture->tail[at] = strdup(line);
}

static void flow_ended(struct capture *capture)
{
    struct flow_dropped dropped = flow_open(&capture->flow);
    timer_stop(&capture->due);
    if (dropped.lines)
        capture->options.dropped(capture->options.context, dropped);
}

static void flow_is_due(void *context)
{
    flow_ended(context);
}

static void deliver(struct capture *capture, struct captured *captured)
{
    hasup_ns due;
    char *escaped = NULL;
    bool taken = flow_takes(&capture->flow, &capture->options.flow, loop_now(capture->loop),
                            captured->len);
    if (!taken && captured->stream != CAPTURE_STDERR)
        goto shut;
    if (!escape_is_clean(captured->text, captured->len)) {
        escaped = escape_bytes(captured->text, captured->len, &captured->len);
        captured->text = escaped ? escaped : "";
    }
    if (captured->stream == CAPTURE_STDERR)
        tail_add(capture, captured->text);
    if (taken)
        capture->options.line(capture->options.context, captured);
    free(escaped);
shut:
    due = flow_due(&capture->flow);
    if (due != HASUP_NEVER && !capture->due.impl &&
        timer_set(&capture->due, capture->loop, due))
        flow_ended(capture); /* no memory for a timer: it is told at once */
}

/* Which request the next lines are about, until the line ends. */
static void request_keep(struct pipe_end *end, const char *request)
{
    char *kept = request ? strdup(request) : NULL;
    free(end->request);
    end->request = kept;
    end->goes_on = end->goes_on && kept;
}

/* A line, and what stood before a mark as one of its own: the worker never ended that. */
static void deliver_marked(struct pipe_end *end, size_t len, bool more, bool partial)
{
    struct captured captured = {.stream = end->stream, .text = end->line, .request = end->request};
    char *at = end->line, *stop = at + len;
    struct mark mark;
    while (mark_find(end->capture->options.mark, at, (size_t)(stop - at), &mark)) {
        struct captured before = captured;
        before.len = mark.at;
        before.partial = true;
        at[mark.at] = '\0';
        if (mark.at)
            deliver(end->capture, &before);
        captured.request = at + mark.name;
        at[mark.name + mark.name_len] = '\0';
        captured.text = at += mark.at + mark.len;
        end->goes_on = mark.more;
    }
    captured.len = (size_t)(stop - at);
    captured.more = more || end->goes_on;
    captured.partial = partial;
    if (captured.len || !more)
        deliver(end->capture, &captured);
    request_keep(end, more ? captured.request : NULL);
}

/* The unfinished line as far as `len`; what stands behind stays. */
static void line_end(struct pipe_end *end, size_t len, bool more, bool partial)
{
    char kept = end->line[len];
    bool returned = !more && len && end->line[len - 1] == '\r';
    end->line[len - returned] = '\0';
    deliver_marked(end, len - returned, more, partial);
    end->line[len] = kept;
    end->used -= len;
    memmove(end->line, end->line + len, end->used);
}

/* The line is longer than line_max: cut where no character and no mark is. */
static void line_cut(struct pipe_end *end)
{
    size_t len = mark_whole(end->capture->options.mark, end->line, end->used);
    line_end(end, escape_whole(end->line, len ? len : end->used), true, false);
}

static void take_bytes(struct pipe_end *end, const char *bytes, size_t len)
{
    const size_t most = end->capture->options.line_max;
    while (len) {
        const char *newline = memchr(bytes, '\n', len);
        size_t piece = newline ? (size_t)(newline - bytes) : len, room = most - end->used;
        bool full = piece > room;
        if (full)
            piece = room;
        memcpy(end->line + end->used, bytes, piece);
        end->used += piece;
        bytes += piece;
        len -= piece;
        if (full) {
            line_cut(end);
        } else if (newline) {
            line_end(end, end->used, false, false);
            bytes++;
            len--;
        }
    }
}

/* What is not looked at of a buffer that comes while the flow is shut: all but the last lines. */
static size_t skipped(const struct pipe_end *end, const char *bytes, size_t len)
{
    size_t from = len;
    for (int lines = 0; lines <= CAPTURE_TAIL; lines++) {
        const char *newline = memrchr(bytes, '\n', from);
        if (!newline) {
            size_t most = end->capture->options.line_max;
            return from == len && len > most ? len - most : 0;
        }
        from = (size_t)(newline - bytes);
    }
    return from + 1;
}

static void drop_bytes(struct pipe_end *end, const char *bytes, size_t len)
{
    uint64_t lines = 0;
    for (size_t i = 0; i < len; i++)
        lines += bytes[i] == '\n';
    flow_drop(&end->capture->flow, lines, len + end->used);
    end->used = 0;
    request_keep(end, NULL);
}

/* ---- pipes ---- */

static void end_close(struct pipe_end *end)
{
    if (end->fd < 0)
        return;
    watch_stop(&end->watch);
    close(end->fd);
    end->fd = -1;
    if (end->used)
        line_end(end, end->used, false, true);
    request_keep(end, NULL);
    free(end->line);
    end->line = NULL;
}

/* > 0 when there may be more. */
static ssize_t end_read(struct pipe_end *end)
{
    static char bytes[READ_BYTES]; /* the loop's thread only */
    struct capture *capture = end->capture;
    size_t skip = 0;
    ssize_t got = read(end->fd, bytes, sizeof bytes);
    if (got < 0)
        return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -1;
    if (got == 0)
        return -1;
    if (!end->line && !(end->line = malloc(capture->options.line_max + 1)))
        return got;
    if (flow_is_shut(&capture->flow, loop_now(capture->loop)))
        skip = skipped(end, bytes, (size_t)got);
    if (skip)
        drop_bytes(end, bytes, skip);
    take_bytes(end, bytes + skip, (size_t)got - skip);
    if (!end->used) {
        free(end->line);
        end->line = NULL;
    }
    return got;
}

static void end_ready(void *context, int events)
{
    struct pipe_end *end = context;
    (void)events;
    if (end_read(end) < 0)
        end_close(end);
}

bool capture_drain(struct capture *capture)
{
    bool empty = true;
    for (int i = 0; i < 2; i++) {
        struct pipe_end *end = &capture->ends[i];
        ssize_t got = end->fd < 0 ? 0 : 1;
        for (int reads = 0; got > 0 && reads < DRAIN_READS; reads++)
            got = end_read(end);
        if (got < 0)
            end_close(end);
        empty = empty && got <= 0;
    }
    return empty;
}

void capture_say(struct capture *capture, enum capture_stream stream, const char *text)
{
    struct captured captured = {.stream = stream, .text = text, .len = strlen(text)};
    deliver(capture, &captured);
}

/* ---- life ---- */

static struct capture *capture_make(struct loop *loop, const struct capture_options *options)
{
    struct capture *capture = calloc(1, sizeof *capture);
    for (int i = 0; i < 2 && capture; i++)
        capture->ends[i] = (struct pipe_end){
            .capture = capture,
            .stream = i ? CAPTURE_STDERR : CAPTURE_STDOUT,
            .watch = {.ready = end_ready, .context = &capture->ends[i]},
            .fd = -1};
    if (!capture)
        return NULL;
    capture->options = *options;
    if (!capture->options.mark)
        capture->options.mark = "";
    capture->loop = loop;
    capture->due = (struct timer){.due = flow_is_due, .context = capture};
    return capture;
}

struct capture *capture_new(struct loop *loop, const struct capture_options *options, int *out,
                            int *err)
{
    struct capture *capture = capture_make(loop, options);
    int pipes[2][2] = {{-1, -1}, {-1, -1}};
    if (!capture)
        return NULL;
    bool made = pipe2(pipes[0], O_CLOEXEC) == 0 && pipe2(pipes[1], O_CLOEXEC) == 0;
    for (int i = 0; i < 2; i++) {
        struct pipe_end *end = &capture->ends[i];
        end->fd = pipes[i][0];
        made = made && fcntl(end->fd, F_SETFL, O_NONBLOCK) == 0 &&
               watch_set(&end->watch, loop, end->fd, WATCH_READ | WATCH_FIRST) == 0;
    }
    if (!made) {
        for (int i = 0; i < 2; i++)
            if (pipes[i][1] >= 0)
                close(pipes[i][1]);
        capture_free(capture);
        return NULL;
    }
    *out = pipes[0][1];
    *err = pipes[1][1];
    return capture;
}

void capture_finish(struct capture *capture)
{
    for (int i = 0; i < 2; i++) {
        struct pipe_end *end = &capture->ends[i];
        for (int reads = 0; end->fd >= 0 && reads < LAST_READS && end_read(end) > 0; reads++)
            continue;
        end_close(end);
    }
    flow_ended(capture);
}

void capture_free(struct capture *capture)
{
    capture_finish(capture);
    for (int i = 0; i < CAPTURE_TAIL; i++)
        free(capture->tail[i]);
    free(capture);
}

size_t capture_tail(const struct capture *capture, const char *lines[CAPTURE_TAIL])
{
    size_t count = capture->tail_next < CAPTURE_TAIL ? capture->tail_next : CAPTURE_TAIL, used = 0;
    for (size_t i = capture->tail_next - count; i < capture->tail_next; i++)
        if (capture->tail[i % CAPTURE_TAIL])
            lines[used++] = capture->tail[i % CAPTURE_TAIL];
    return used;
}

/* ---- to another hasupd ---- */

static void end_carry(struct carry *carry, struct pipe_end *end)
{
    uint8_t *line = (uint8_t *)end->line;
    size_t used = end->used;
    carry_fd(carry, &end->fd);
    carry_block(carry, &line, &used, end->capture->options.line_max + 1);
    if (!carry->codec.loading)
        return;
    end->line = (char *)line;
    end->used = used;
    if (used > end->capture->options.line_max)
        codec_fail(&carry->codec);
}

struct capture *capture_carry(struct carry *carry, struct capture *capture, struct loop *loop,
                              const struct capture_options *options)
{
    CARRY(carry);
    if (codec->loading && !(capture = capture_make(loop, options))) {
        carry->no_memory = true;
        codec_fail(codec);
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        struct pipe_end *end = &capture->ends[i];
        end_carry(carry, end);
        if (codec->loading && end->fd >= 0 &&
            watch_set(&end->watch, loop, end->fd, WATCH_READ | WATCH_FIRST))
            codec_fail(codec);
    }
    E(capture->tail_next, UINT32_MAX);
    V(capture->flow.lines_at);
    V(capture->flow.bytes_at);
    V(capture->flow.open_at);
    V(capture->flow.dropped.lines);
    V(capture->flow.dropped.bytes);
    hasup_ns due = flow_due(&capture->flow);
    if (codec->loading && due != HASUP_NEVER && timer_set(&capture->due, loop, due))
        codec_fail(codec);
    for (int i = 0; i < CAPTURE_TAIL; i++)
        carry_string(carry, &capture->tail[i]);
    return capture;
}

void capture_carry_parts(struct carry *carry, struct capture *capture)
{
    CARRY(carry);
    for (int i = 0; i < 2; i++) {
        carry_string(carry, &capture->ends[i].request);
        V(capture->ends[i].goes_on);
    }
}
