/*
 * events.c: hasupctl events: which are wanted, live ones as they come, and how one looks.  Those of
 * earlier runs: past.c.
 */
#include "hasupctl/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char CTL_EVENTS_OPTIONS[] =
    "  -f, --follow        go on with what comes\n"
    "  -n, --tail N        the last N (100; with --since and --all all), or all\n"
    "  -S, --since T       not older, of earlier runs too: 5m, 19:39, 2026-11-25T19:39:35 (UTC)\n"
    "  --all               all that the journal keeps\n"
    "  --event EVENT       slot.exited, or all of a kind: slot; several: with commas, or again\n"
    "  --level LEVEL       debug, info, warning, error: as grave as this, or graver\n";

/* ---- one event ---- */

static const char *field(json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

/* The fields of an event that have no column: " position=3 bytes=8". */
static void print_fields(json_t *entry)
{
    static const char *const SHOWN[] = {"time",    "level", "slot", "event",
                                        "message", "pid",   "lines"};
    const char *key;
    json_t *value;
    json_object_foreach(entry, key, value)
    {
        bool shown = false;
        for (size_t i = 0; i < HASUP_LEN(SHOWN); i++)
            shown |= strcmp(key, SHOWN[i]) == 0;
        if (!shown && json_is_string(value))
            printf(" %s=%s", key, json_string_value(value));
        else if (json_is_integer(value) && (!shown || strcmp(key, "lines") == 0))
            printf(" %s=%lld", key, (long long)json_integer_value(value));
    }
}

/* What a worker said last: " | one | two". */
static void print_last_lines(const char *lines)
{
    while (*lines) {
        size_t len = strcspn(lines, "\n");
        printf(" | %.*s", (int)len, lines);
        lines += len + (lines[len] == '\n');
    }
}

bool events_lost(const json_t *entry)
{
    const char *event = json_string_value(json_object_get(entry, "event"));
    if (!event || strcmp(event, "events.lost") != 0)
        return false;
    fprintf(stderr, "hasupctl: %lld events were lost: this reader was too slow\n",
            (long long)json_integer_value(json_object_get(entry, "lines")));
    return true;
}

static const char *level_colour(const struct ctl *ctl, const char *level)
{
    return !ctl->colour                    ? ""
           : strcmp(level, "error") == 0   ? "\033[31m"
           : strcmp(level, "warning") == 0 ? "\033[33m"
                                           : "";
}

/* "05:12:07.123 digits/0  slot.ready ready after 3 ms"; `day`: with the date before it. */
void events_print(const struct ctl *ctl, const char *line, size_t len, bool day)
{
    json_t *entry = ctl->json ? NULL : json_loadb(line, len, 0, NULL);
    if (!entry) {
        fwrite(line, 1, len, stdout);
        putchar('\n');
        return;
    }
    if (events_lost(entry)) {
        json_decref(entry);
        return;
    }
    const char *time = field(entry, "time"), *clock = strchr(time, 'T');
    const char *event = field(entry, "event");
    const char *message = field(entry, "message"), *slot = field(entry, "slot");
    if (day && clock)
        printf("%.*s ", (int)(clock - time), time);
    printf("%.12s %-10s", clock ? clock + 1 : time, slot[0] ? slot : "hasupd");
    const char *colour = level_colour(ctl, field(entry, "level"));
    printf(" %s%s%s", colour, event, *colour ? "\033[0m" : "");
    if (message[0])
        printf(" %s", message);
    print_fields(entry);
    print_last_lines(field(entry, "lines"));
    putchar('\n');
    json_decref(entry);
}

static void print_today(const struct ctl *ctl, const char *line, size_t len)
{
    events_print(ctl, line, len, false);
}

void events_print_dated(const struct ctl *ctl, const char *line, size_t len)
{
    events_print(ctl, line, len, true);
}

/* ---- what is asked for ---- */

json_t *events_command(const struct events_wanted *wanted, bool follow, long count)
{
    const struct event_filter *filter = &wanted->filter;
    json_t *command = json_pack("{s:s}", "verb", "events"), *names = json_array();
    for (uint32_t i = 0; i < filter->name_count; i++)
        json_array_append_new(names, json_string(filter->names[i]));
    if (filter->name_count)
        json_object_set(command, "events", names);
    json_decref(names);
    if (filter->level)
        json_object_set_new(command, "level", json_string(EVENT_LEVEL_NAMES[filter->level]));
    if (filter->target[0])
        json_object_set_new(command, "target", json_string(filter->target));
    if (follow)
        json_object_set_new(command, "follow", json_true());
    if (count >= 0)
        json_object_set_new(command, "count", json_integer(count));
    return command;
}

static int read_target(const struct ctl *ctl, struct event_filter *filter, const char *word)
{
    if (word[0] == '-')
        return ctl_usage(ctl, "unknown option %s; --help has those that choose events", word);
    if (filter->target[0])
        return ctl_usage(ctl, "at most one model or slot is named, not %s too", word);
    if (!*word || strlen(word) >= sizeof filter->target)
        return ctl_usage(ctl, "\"%s\" is no model or slot", word);
    memcpy(filter->target, word, strlen(word) + 1);
    return CTL_OK;
}

/* An option with a value; -1: it is none of these. */
static int read_option(const struct ctl *ctl, struct events_wanted *wanted, const char *word,
                       const char *value)
{
    char *end = NULL;
    if (strcmp(word, "--event") == 0)
        return events_named(ctl, &wanted->filter, value);
    if (strcmp(word, "--level") == 0) {
        int level = event_filter_level(value);
        if (level < 0)
            return ctl_usage(ctl, "--level wants debug, info, warning or error, not \"%s\"", value);
        wanted->filter.level = (uint32_t)level;
        return CTL_OK;
    }
    if (strcmp(word, "-S") == 0 || strcmp(word, "--since") == 0) {
        const char *wrong = ctl_when(value, &wanted->since_wall_ns);
        if (wrong)
            return ctl_usage(ctl, "%s %s", word, wrong);
        wanted->past = true;
        return CTL_OK;
    }
    if (strcmp(word, "-n") == 0 || strcmp(word, "--tail") == 0) {
        bool all = strcmp(value, "all") == 0;
        wanted->most = all ? INT32_MAX : strtol(value, &end, 10);
        if (!all && (*end || end == value || wanted->most < 0))
            return ctl_usage(ctl, "%s wants a number, or all", word);
        return CTL_OK;
    }
    return -1;
}

static int read_words(const struct ctl *ctl, struct events_wanted *wanted)
{
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "-f") == 0 || strcmp(word, "--follow") == 0) {
            wanted->follow = true;
            continue;
        }
        if (strcmp(word, "--all") == 0) {
            wanted->past = true;
            continue;
        }
        int code = read_option(ctl, wanted, word, i + 1 < ctl->argc ? ctl->argv[i + 1] : "");
        if (code < 0)
            code = read_target(ctl, &wanted->filter, word);
        else
            i++;
        if (code != CTL_OK)
            return code;
    }
    if (wanted->past && wanted->follow && ctl->state_dir)
        return ctl_usage(ctl, "-f asks hasupd, --state-dir reads the file alone");
    return CTL_OK;
}

int ctl_events(const struct ctl *ctl)
{
    struct events_wanted wanted = {.most = -1};
    int wrong = read_words(ctl, &wanted);
    if (wrong)
        return wrong;
    if (wanted.past)
        return events_past(ctl, &wanted);
    return ctl_stream(ctl, events_command(&wanted, wanted.follow, wanted.most), print_today);
}
