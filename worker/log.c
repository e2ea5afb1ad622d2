/*
 * log.c: lines on standard error that say which request they are about: a mark before each
 * (docs/protocol.md, "What it prints").  Owns nothing, and changes nothing of the runtime, so that
 * any thread may call it.  A line leaves in one write of PIPE_BUF bytes at most, so that nobody
 * else's stands in it; a longer one in several, which say that they belong together.
 */
#include "worker/runtime.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SHORT = 512, MARK_ROOM = HASUP_REQUEST_NAME + 80 };

struct marks {
    char line[MARK_ROOM]; /* before a line */
    char part[MARK_ROOM]; /* before one that goes on in the next */
};

static void marks_of(const struct hasup_request *request, struct marks *marks)
{
    const struct hasup_running *running = (const struct hasup_running *)request;
    char name[HASUP_REQUEST_NAME + 1];
    marks->line[0] = marks->part[0] = '\0';
    if (!request || !running->runtime->mark[0])
        return;
    hasup_request_name(running->frame, name);
    const char *word = running->runtime->mark;
    snprintf(marks->line, sizeof marks->line, "\033_%s=%s\033\\", word, name);
    snprintf(marks->part, sizeof marks->part, "\033_%s+%s\033\\", word, name);
}

static void write_out(const char *bytes, size_t len)
{
    while (len) {
        ssize_t got = write(STDERR_FILENO, bytes, len);
        if (got < 0 && errno != EINTR)
            return; /* nobody reads it */
        bytes += got > 0 ? got : 0;
        len -= got > 0 ? (size_t)got : 0;
    }
}

/* So much of a line as one write takes; not cut within a character. */
static size_t piece(const char *text, size_t len, size_t room)
{
    if (len <= room)
        return len;
    size_t cut = room;
    while (cut > room - 4 && ((unsigned char)text[cut] & 0xc0) == 0x80)
        cut--;
    return cut;
}

static void write_line(const struct marks *marks, const char *text, size_t len)
{
    char out[PIPE_BUF];
    do {
        const size_t mark_len = strlen(marks->line);
        size_t now = piece(text, len, sizeof out - mark_len - 1);
        memcpy(out, now < len ? marks->part : marks->line, mark_len);
        memcpy(out + mark_len, text, now);
        out[mark_len + now] = '\n';
        bool ends = now == len || mark_len; /* without a mark nobody could join what is cut */
        write_out(out, mark_len + now + ends);
        text += now;
        len -= now;
    } while (len);
}

/* The last newline is the caller's or ours; it makes no line of its own. */
static void write_lines(const struct marks *marks, const char *text)
{
    const char *newline;
    while ((newline = strchr(text, '\n'))) {
        write_line(marks, text, (size_t)(newline - text));
        text = newline + 1;
        if (!*text)
            return;
    }
    write_line(marks, text, strlen(text));
}

void hasup_log(const struct hasup_request *request, const char *format, ...)
{
    int saved = errno;
    char few[SHORT], *text = few;
    struct marks marks;
    va_list args;
    va_start(args, format);
    int len = vsnprintf(few, sizeof few, format, args);
    va_end(args);
    if (len >= SHORT && (text = malloc((size_t)len + 1))) {
        va_start(args, format);
        vsnprintf(text, (size_t)len + 1, format, args);
        va_end(args);
    }
    marks_of(request, &marks);
    write_lines(&marks, len < 0 ? format : text ? text : few);
    if (text != few)
        free(text);
    errno = saved;
}
