/*
 * sse.c: server-sent events, read as they come and put together again.  An event counts once it is
 * whole; of one that a lost connection cut off, nothing does.
 */
#include "tests/chaos/chaos.h"

#include <stdio.h>
#include <stdlib.h>

void sse_open(struct sse *sse, bool again)
{
    struct sse was = *sse;
    *sse = (struct sse){0};
    if (!again)
        return;
    sse->last = was.last;
    memcpy(sse->last_id, was.last_id, sizeof sse->last_id);
}

static bool append(char *to, size_t *len, size_t room, const char *from, size_t more)
{
    if (*len + more > room)
        return false;
    memcpy(to + *len, from, more);
    *len += more;
    return true;
}

static bool add_data(struct sse *sse, const char *value, size_t len)
{
    if (sse->any_data && !append(sse->data, &sse->data_len, SSE_LINE, "\n", 1))
        return false;
    sse->any_data = true;
    return append(sse->data, &sse->data_len, SSE_LINE, value, len);
}

static bool event_ends(struct sse *sse, char *body, size_t *body_len, size_t room)
{
    bool good = sse->number == sse->last + 1;
    sse->ended = strcmp(sse->event, "end") == 0;
    sse->failed = strcmp(sse->event, "error") == 0;
    if (good && !sse->ended && !sse->failed)
        good = append(body, body_len, room, sse->data, sse->data_len);
    sse->last = sse->number;
    memcpy(sse->last_id, sse->id, sizeof sse->last_id);
    sse->data_len = 0;
    sse->any_data = false;
    sse->event[0] = '\0';
    return good;
}

/* RUN-NUMBER: the run's numbers follow each other. */
static void take_id(struct sse *sse, const char *text)
{
    const char *dash = strrchr(text, '-');
    snprintf(sse->id, sizeof sse->id, "%s", text);
    sse->number = (unsigned)strtoul(dash ? dash + 1 : text, NULL, 10);
}

static bool line_ends(struct sse *sse, char *body, size_t *body_len, size_t room)
{
    char *line = sse->line;
    size_t len = sse->line_len;
    sse->line_len = 0;
    line[len] = '\0';
    if (!len)
        return event_ends(sse, body, body_len, room);
    if (strncmp(line, "id: ", 4) == 0)
        take_id(sse, line + 4);
    else if (strncmp(line, "event: ", 7) == 0)
        snprintf(sse->event, sizeof sse->event, "%s", line + 7);
    else if (strncmp(line, "data: ", 6) == 0)
        return add_data(sse, line + 6, len - 6);
    return true;
}

bool sse_read(struct sse *sse, const char *at, size_t len, char *body, size_t *body_len,
              size_t room)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] == '\n') {
            if (!line_ends(sse, body, body_len, room))
                return false;
        } else if (sse->line_len + 1 < SSE_LINE) {
            sse->line[sse->line_len++] = at[i];
        } else {
            return false;
        }
    }
    return true;
}
