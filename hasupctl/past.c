/*
 * past.c: hasupctl events --since and --all: what the journal keeps of this and earlier runs, read
 * from the file alone, and behind it what a running hasupd has in memory and may not have written
 * yet.  A line that is in both is told once, where it is in memory.
 */
#include "hasupctl/hasupctl.h"

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
    const char *target; /* model or slot; NULL: everything */
    int64_t since_wall_ns;
    long most;                 /* -1: all */
    struct lines stored, live; /* live: sorted, and in their order */
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

static bool is_of(const json_t *event, const char *target)
{
    const char *slot = json_string_value(json_object_get(event, "slot"));
    const char *model = json_string_value(json_object_get(event, "model"));
    size_t len = strlen(target);
    if (slot && strncmp(slot, target, len) == 0 && (!slot[len] || slot[len] == '/'))
        return true;
    return model && strcmp(model, target) == 0;
}

static bool is_wanted(const struct past *past, const void *text, size_t len)
{
    json_t *event = past->target || past->since_wall_ns ? json_loadb(text, len, 0, NULL) : NULL;
    bool wanted = (!past->target || is_of(event, past->target)) &&
                  (!past->since_wall_ns || time_of(event) >= past->since_wall_ns);
    json_decref(event);
    return wanted;
}

/* ---- where it comes from ---- */

/* What a running hasupd has in memory; nothing where none runs. */
static void read_live(struct past *past)
{
    char path[108], error[256];
    struct hasup_client_answer answer;
    uint64_t id;
    const char *socket = past->ctl->socket ? past->ctl->socket : hasup_client_default_path(path);
    struct hasup_client *client = hasup_client_open(socket, error);
    if (client && !hasup_client_control(client, "{\"verb\":\"events\",\"count\":1000000}", &id))
        while (hasup_client_wait(client, 5000, &answer) == 1 && !answer.last)
            lines_add(&past->live, answer.body, answer.len);
    hasup_client_close(client);
    past->sorted = malloc((past->live.count + 1) * sizeof *past->sorted);
    if (!past->sorted)
        return;
    if (past->live.count)
        memcpy(past->sorted, past->live.list, past->live.count * sizeof *past->sorted);
    qsort(past->sorted, past->live.count, sizeof *past->sorted, compare);
}

static bool take_stored(void *context, int64_t created_wall_ns, struct journal_bytes body)
{
    struct past *past = context;
    const struct line line = {(char *)(uintptr_t)body.at, body.len};
    (void)created_wall_ns;
    bool live = past->sorted &&
                bsearch(&line, past->sorted, past->live.count, sizeof line, compare) != NULL;
    if (!live && is_wanted(past, body.at, body.len))
        lines_add(&past->stored, body.at, body.len);
    return !past->stored.full;
}

static int read_stored(struct past *past)
{
    char path[4096], error[JOURNAL_ERROR] = "";
    bool incomplete;
    char *directory = ctl_state_dir(past->ctl);
    snprintf(path, sizeof path, "%s/journal.db", directory ? directory : ".");
    free(directory);
    int code =
        journal_past_events(path, past->since_wall_ns, take_stored, past, &incomplete, error);
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
    size_t all = past->stored.count + live;
    if (past->most >= 0 && all > (size_t)past->most)
        skip = all - (size_t)past->most;
    for (size_t i = 0; i < past->stored.count + past->live.count; i++) {
        bool stored = i < past->stored.count;
        const struct line *line =
            stored ? &past->stored.list[i] : &past->live.list[i - past->stored.count];
        if (!stored && !is_wanted(past, line->text, line->len))
            continue;
        if (skip)
            skip--;
        else
            ctl_print_event(past->ctl, line->text, line->len, true);
    }
}

static int run(struct past *past)
{
    if (!past->ctl->state_dir)
        read_live(past);
    int code = read_stored(past);
    if (past->stored.full || past->live.full) {
        fputs("hasupctl: out of memory; --since or -n asks for less\n", stderr);
        code = CTL_FAILED;
    }
    if (!code)
        print_lines(past);
    free(past->sorted);
    lines_free(&past->stored);
    lines_free(&past->live);
    return code;
}

/* CTL_USAGE: said so. */
static int read_words(struct past *past)
{
    const struct ctl *ctl = past->ctl;
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i], *value = i + 1 < ctl->argc ? ctl->argv[i + 1] : "";
        char *end = NULL;
        if (strcmp(word, "--all") == 0)
            continue;
        if (strcmp(word, "--since") == 0) {
            const char *wrong = ctl_when(value, &past->since_wall_ns);
            if (wrong)
                return ctl_usage(ctl, "--since %s", wrong);
            i++;
        } else if (strcmp(word, "-n") == 0) {
            past->most = strtol(value, &end, 10);
            if (*end || end == value || past->most < 0)
                return ctl_usage(ctl, "-n wants a number");
            i++;
        } else if (word[0] != '-' && !past->target) {
            past->target = word;
        } else {
            return ctl_usage(ctl,
                             word[0] == '-' ? "%s does not go with --since and --all"
                                            : "at most one model or slot is named, not %s too",
                             word);
        }
    }
    return CTL_OK;
}

int ctl_events(const struct ctl *ctl)
{
    struct past past = {.ctl = ctl, .most = -1};
    for (int i = 0; i < ctl->argc; i++)
        if (strcmp(ctl->argv[i], "--since") == 0 || strcmp(ctl->argv[i], "--all") == 0) {
            int wrong = read_words(&past);
            return wrong ? wrong : run(&past);
        }
    return ctl_live_events(ctl);
}
