/*
 * past.c: hasupctl events --since and --all: what the journal keeps of this and earlier runs, read
 * from the file alone, and behind it what a running hasupd has in memory and may not have written
 * yet.  A line that is in both is told once, where it is in memory.
 *
 * With -f hasupd is asked twice over one connection: to follow, and then for what is in memory.  So
 * what happens before the second answer's end is in that answer, and what comes after it is new.
 */
#include "hasupctl/events.h"

#include "checkpoints/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct line {
    char *text; /* without a NUL */
    size_t len;
};

struct lines {
    struct line *list;
    size_t count, room;
    bool full; /* no memory for more */
};

struct past {
    const struct ctl *ctl;
    const struct events_wanted *wanted;
    struct hasup_client *client; /* NULL: no hasupd is asked */
    uint64_t following;          /* the command's id */
    struct lines stored, live;   /* live: sorted, and in their order */
    struct line *sorted;
};

static void lines_add(struct lines *lines, const void *text, size_t len)
{
    struct line *list = hasup_grow(lines->list, lines->count, &lines->room, sizeof *list);
    char *copy = list ? malloc(len + 1) : NULL;
    if (list)
        lines->list = list;
    lines->full |= !copy;
    if (!copy)
        return;
    memcpy(copy, text, len);
    lines->list[lines->count++] = (struct line){copy, len};
}

static void lines_free(struct lines *lines)
{
    for (size_t i = 0; i < lines->count; i++)
        free(lines->list[i].text);
    free(lines->list);
}

static int compare(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->text, y->text, len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* ---- what is wanted ---- */

/* "2026-11-25T12:49:59.123Z" */
static int64_t time_of(const json_t *event)
{
    struct tm tm = {0};
    const char *text = json_string_value(json_object_get(event, "time"));
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    int64_t ms = rest && *rest == '.' ? strtol(rest + 1, NULL, 10) : 0;
    return rest ? (int64_t)timegm(&tm) * HASUP_S + ms * HASUP_MS : INT64_MAX;
}

static bool is_wanted(const struct past *past, const char *text, size_t len)
{
    const struct events_wanted *wanted = past->wanted;
    if (!event_filter_passes(&wanted->filter, text, len))
        return false;
    json_t *event = wanted->since_wall_ns ? json_loadb(text, len, 0, NULL) : NULL;
    bool recent = !event || time_of(event) >= wanted->since_wall_ns;
    json_decref(event);
    return recent;
}

/* ---- where it comes from ---- */

/* A command to hasupd; 0 and its id. */
static int ask(struct past *past, json_t *command, uint64_t *id)
{
    char *text = json_dumps(command, JSON_COMPACT);
    int error = text ? hasup_client_control(past->client, text, id) : HASUP_ENOMEM;
    json_decref(command);
    free(text);
    return error;
}

/* The answers up to the end of what is in memory. */
static int take_live(struct past *past, uint64_t listing)
{
    struct hasup_client_answer answer;
    while (hasup_client_wait(past->client, 5000, &answer) == 1) {
        if (answer.id == past->following && answer.last)
            return ctl_refused(&answer);
        if (answer.id == listing && answer.last)
            return CTL_OK;
        json_t *entry = answer.id == listing
                            ? json_loadb((const char *)answer.body, answer.len, 0, NULL)
                            : NULL;
        if (answer.id == listing && !events_lost(entry))
            lines_add(&past->live, answer.body, answer.len);
        json_decref(entry);
    }
    return CTL_OK;
}

/* What a running hasupd has in memory; nothing where none runs. */
static int read_live(struct past *past)
{
    static const struct events_wanted ALL;
    char path[108], error[256];
    uint64_t listing;
    int code = CTL_OK;
    const char *socket = past->ctl->socket ? past->ctl->socket : hasup_client_default_path(path);
    bool follow = past->wanted->follow;
    past->client = follow ? ctl_open(past->ctl) : hasup_client_open(socket, error);
    if (!past->client)
        return follow ? CTL_UNREACHABLE : CTL_OK;
    if ((!follow || !ask(past, events_command(past->wanted, true, 0), &past->following)) &&
        !ask(past, events_command(&ALL, false, 1000000), &listing))
        code = take_live(past, listing);
    past->sorted = malloc((past->live.count + 1) * sizeof *past->sorted);
    if (!past->sorted)
        return code;
    if (past->live.count)
        memcpy(past->sorted, past->live.list, past->live.count * sizeof *past->sorted);
    qsort(past->sorted, past->live.count, sizeof *past->sorted, compare);
    return code;
}

static bool take_stored(void *context, int64_t created_wall_ns, struct journal_bytes body)
{
    struct past *past = context;
    const struct line line = {(char *)(uintptr_t)body.at, body.len};
    (void)created_wall_ns;
    bool live = past->sorted &&
                bsearch(&line, past->sorted, past->live.count, sizeof line, compare) != NULL;
    if (!live && is_wanted(past, line.text, line.len))
        lines_add(&past->stored, body.at, body.len);
    return !past->stored.full;
}

static int read_stored(struct past *past)
{
    char path[4096], error[JOURNAL_ERROR] = "";
    bool incomplete;
    char *directory = ctl_state_dir(past->ctl);
    if (!directory) {
        fprintf(stderr, "hasupctl: no events of earlier runs: %s\n", CTL_KEEPS_NOTHING);
        return CTL_OK;
    }
    snprintf(path, sizeof path, "%s/journal.db", directory);
    free(directory);
    int code = journal_past_events(path, past->wanted->since_wall_ns, take_stored, past,
                                   &incomplete, error);
    if (code == HASUP_ENOTFOUND && !past->live.count)
        fprintf(stderr, "hasupctl: %s: there is none, so no events of earlier runs are kept\n",
                path);
    else if (code && code != HASUP_ENOTFOUND)
        fprintf(stderr, "hasupctl: %s\n", error);
    if (incomplete)
        fprintf(stderr, "hasupctl: %s-wal cannot be read: the newest events may be missing\n",
                path);
    return code && (code != HASUP_ENOTFOUND || !past->live.count) ? CTL_FAILED : CTL_OK;
}

/* ---- the whole ---- */

static void print_lines(const struct past *past)
{
    size_t skip = 0, live = 0;
    for (size_t i = 0; i < past->live.count; i++)
        live += is_wanted(past, past->live.list[i].text, past->live.list[i].len);
    const long most = past->wanted->most;
    size_t all = past->stored.count + live;
    if (most >= 0 && all > (size_t)most)
        skip = all - (size_t)most;
    for (size_t i = 0; i < past->stored.count + past->live.count; i++) {
        bool stored = i < past->stored.count;
        const struct line *line =
            stored ? &past->stored.list[i] : &past->live.list[i - past->stored.count];
        if (!stored && !is_wanted(past, line->text, line->len))
            continue;
        if (skip)
            skip--;
        else
            events_print(past->ctl, line->text, line->len, true);
    }
}

int events_past(const struct ctl *ctl, const struct events_wanted *wanted)
{
    struct past past = {.ctl = ctl, .wanted = wanted};
    int code = ctl->state_dir ? CTL_OK : read_live(&past);
    if (!code)
        code = read_stored(&past);
    if (past.stored.full || past.live.full) {
        fputs("hasupctl: out of memory; --since or -n asks for less\n", stderr);
        code = CTL_FAILED;
    }
    if (!code)
        print_lines(&past);
    if (!code && wanted->follow)
        code = ctl_stream_on(ctl, past.client, past.following, events_print_dated);
    hasup_client_close(past.client);
    free(past.sorted);
    lines_free(&past.stored);
    lines_free(&past.live);
    return code;
}
