/*
 * capture.c: two pipes, cut into lines.  Owns the reading ends.  Reads at most one buffer for each
 * readiness, so that a flood from one worker does not starve the loop; control characters are
 * replaced, so that no line can forge another or speak to a terminal.
 */
#include "supervisor/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { READ_BYTES = 16 * 1024, LAST_READS = 64 };

struct pipe_end {
    struct capture *capture;
    enum capture_stream stream;
    struct watch watch;
    int fd;
    size_t used;
    char *line; /* CAPTURE_LINE; NULL while nothing is unfinished */
};

struct capture {
    capture_line *line;
    void *context;
    struct pipe_end ends[2];
    char *tail[CAPTURE_TAIL]; /* a ring */
    size_t tail_next;
};

static void tail_add(struct capture *capture, const char *line)
{
    size_t at = capture->tail_next++ % CAPTURE_TAIL;
    free(capture->tail[at]);
    capture->tail[at] = strdup(line);
}

static void line_end(struct pipe_end *end)
{
    struct capture *capture = end->capture;
    if (!end->line)
        return;
    end->line[end->used] = '\0';
    if (end->stream == CAPTURE_STDERR)
        tail_add(capture, end->line);
    capture->line(capture->context, end->stream, end->line, end->used);
    end->used = 0;
}

static void take_byte(struct pipe_end *end, char byte)
{
    if (byte == '\n') {
        line_end(end);
        return;
    }
    if (end->used == CAPTURE_LINE - 1)
        line_end(end);
    bool control = ((unsigned char)byte < ' ' && byte != '\t') || byte == 127;
    end->line[end->used++] = control ? '?' : byte;
}

static void end_close(struct pipe_end *end)
{
    if (end->fd < 0)
        return;
    watch_stop(&end->watch);
    close(end->fd);
    end->fd = -1;
    if (end->used)
        line_end(end);
    free(end->line);
    end->line = NULL;
}

/* > 0 when there may be more. */
static ssize_t end_read(struct pipe_end *end)
{
    char bytes[READ_BYTES];
    ssize_t got = read(end->fd, bytes, sizeof bytes);
    if (got < 0)
        return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -1;
    if (got == 0)
        return -1;
    if (!end->line && !(end->line = malloc(CAPTURE_LINE)))
        return got;
    for (ssize_t i = 0; i < got; i++)
        take_byte(end, bytes[i]);
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

struct capture *capture_new(struct loop *loop, capture_line *line, void *context, int *out,
                            int *err)
{
    struct capture *capture = calloc(1, sizeof *capture);
    int pipes[2][2] = {{-1, -1}, {-1, -1}};
    if (!capture)
        return NULL;
    capture->line = line;
    capture->context = context;
    bool made = pipe2(pipes[0], O_CLOEXEC) == 0 && pipe2(pipes[1], O_CLOEXEC) == 0;
    for (int i = 0; i < 2; i++) {
        struct pipe_end *end = &capture->ends[i];
        end->capture = capture;
        end->stream = i ? CAPTURE_STDERR : CAPTURE_STDOUT;
        end->fd = pipes[i][0];
        end->watch.ready = end_ready;
        end->watch.context = end;
        made = made && fcntl(end->fd, F_SETFL, O_NONBLOCK) == 0 &&
               watch_set(&end->watch, loop, end->fd, WATCH_READ) == 0;
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
