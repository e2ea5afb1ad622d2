/*
 * status.c: hasupctl status: a table for eyes, as narrow as the terminal; with --json as it came.
 * Where it does not fit, whole columns go, in a fixed order; a long name gets a line of its own.
 */
#include "hasupctl/audit.h"

#include "ipc/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MIN = 8, NAME_MAX_SHOWN = 22, LINES_SHOWN = 4 };

const char *ctl_duration(long long ms, char out[32])
{
    if (ms < 1000)
        snprintf(out, 32, "%lld ms", ms);
    else if (ms < 120 * 1000)
        snprintf(out, 32, "%lld s", ms / 1000);
    else if (ms < 120LL * 60 * 1000)
        snprintf(out, 32, "%lld min", ms / 60000);
    else if (ms < 48LL * 3600 * 1000)
        snprintf(out, 32, "%lld h", ms / 3600000);
    else
        snprintf(out, 32, "%lld d", ms / 86400000);
    return out;
}

const char *ctl_bytes(unsigned long long bytes, char out[32])
{
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit < 3; unit++)
        value /= 1024;
    snprintf(out, 32, unit && value < 10 ? "%.1f %s" : "%.0f %s", value, UNITS[unit]);
    return out;
}

static long long number(json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

/* ---- the columns of a slot ---- */

struct column {
    const char *title;
    int width;  /* negative: to the left */
    int leaves; /* which goes first where there is no room; 0: stays */
    const char *(*text)(json_t *slot, char out[32]);
};

static const char *state_text(json_t *slot, char out[32])
{
    snprintf(out, 32, "%s", text(slot, "state"));
    return out;
}

static const char *since_text(json_t *slot, char out[32])
{
    return ctl_duration(number(slot, "since_ms"), out);
}

static const char *number_text(long long value, char out[32])
{
    snprintf(out, 32, "%lld", value);
    return out;
}

static const char *pid_text(json_t *slot, char out[32])
{
    return number(slot, "pid") ? number_text(number(slot, "pid"), out) : "-";
}

static const char *restarts_text(json_t *slot, char out[32])
{
    long long starts = number(slot, "starts");
    return number_text(starts ? starts - 1 : 0, out);
}

/* A program knows nothing of requests. */
static bool serves(const json_t *slot)
{
    return !json_is_true(json_object_get(slot, "program"));
}

static const char *running_text(json_t *slot, char out[32])
{
    return serves(slot) ? number_text(number(slot, "inflight"), out) : "-";
}

static const char *answered_text(json_t *slot, char out[32])
{
    return serves(slot) ? number_text(number(slot, "answered"), out) : "-";
}

static const char *checkpoint_text(json_t *slot, char out[32])
{
    json_t *checkpoint = json_object_get(slot, "checkpoint");
    json_t *age = json_object_get(checkpoint, "age_ms");
    if (!json_is_object(checkpoint))
        return "-";
    return json_is_integer(age) ? ctl_duration(json_integer_value(age), out) : "none";
}

static const struct column COLUMNS[] = {
    {"STATE", -9, 0, state_text},
    {"FOR", 7, 0, since_text},
    {"PID", 7, 1, pid_text},
    {"RESTARTS", 8, 0, restarts_text},
    {"RUNNING", 7, 3, running_text},
    {"ANSWERED", 9, 2, answered_text},
    {"CHECKPOINT", 10, 4, checkpoint_text},
};

struct layout {
    int name;    /* width of the first column */
    int leaving; /* columns that left: those with `leaves` up to this */
};

static bool is_shown(const struct layout *layout, const struct column *column)
{
    return !column->leaves || column->leaves > layout->leaving;
}

static int column_width(const struct column *column)
{
    return column->width < 0 ? -column->width : column->width;
}

static int layout_width(const struct layout *layout)
{
    int width = 2 + layout->name;
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++)
        if (is_shown(layout, &COLUMNS[i]))
            width += 1 + column_width(&COLUMNS[i]);
    return width;
}

/* A model's slots, or a program's, in the order in which they are shown. */
static const char *const KINDS[] = {"slots", "spares", "zygotes"};

static void layout_fit(struct layout *layout, json_t *slots)
{
    json_t *slot;
    size_t i;
    json_array_foreach(slots, i, slot)
    {
        int len = (int)strlen(text(slot, "slot"));
        if (len > layout->name && len <= NAME_MAX_SHOWN)
            layout->name = len;
    }
}

static void layout_fit_all(struct layout *layout, json_t *models)
{
    json_t *model;
    size_t i;
    json_array_foreach(models, i, model) for (size_t kind = 0; kind < HASUP_LEN(KINDS); kind++)
        layout_fit(layout, json_object_get(model, KINDS[kind]));
}

static struct layout layout_of(const struct ctl *ctl, json_t *status)
{
    struct layout layout = {.name = NAME_MIN};
    layout_fit_all(&layout, json_object_get(status, "models"));
    layout_fit_all(&layout, json_object_get(status, "programs"));
    while (layout_width(&layout) > ctl->width && layout.leaving < (int)HASUP_LEN(COLUMNS))
        layout.leaving++;
    return layout;
}

static void print_titles(const struct layout *layout)
{
    printf("  %-*s", layout->name, "SLOT");
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++)
        if (is_shown(layout, &COLUMNS[i]))
            printf(" %*s", COLUMNS[i].width, COLUMNS[i].title);
    putchar('\n');
}

static const char *state_colour(const struct ctl *ctl, const char *state)
{
    if (!ctl->colour)
        return "";
    if (strcmp(state, "ready") == 0 || strcmp(state, "done") == 0)
        return "\033[32m";
    if (strcmp(state, "broken") == 0 || strcmp(state, "backoff") == 0)
        return "\033[31m";
    return "\033[33m";
}

static void print_row(const struct ctl *ctl, const struct layout *layout, json_t *slot)
{
    const char *name = text(slot, "slot");
    char out[32];
    if ((int)strlen(name) > layout->name) {
        printf("  %s\n", name);
        name = "";
    }
    printf("  %-*s", layout->name, name);
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++) {
        bool coloured = ctl->colour && COLUMNS[i].text == state_text;
        if (is_shown(layout, &COLUMNS[i]))
            printf(" %s%*s%s", coloured ? state_colour(ctl, text(slot, "state")) : "",
                   COLUMNS[i].width, COLUMNS[i].text(slot, out), coloured ? "\033[0m" : "");
    }
    putchar('\n');
}

/* ---- what is wrong with a slot ---- */

/* The last of them: the whole of a traceback is why's. */
static void print_last_lines(json_t *slot, json_t *lines)
{
    const size_t count = json_array_size(lines);
    const size_t first = count > LINES_SHOWN ? count - LINES_SHOWN : 0;
    if (first)
        printf("      | ... %zu more: hasupctl why %s\n", first, text(slot, "slot"));
    for (size_t i = first; i < count; i++)
        printf("      | %s\n", json_string_value(json_array_get(lines, i)));
}

static void print_death(json_t *slot)
{
    json_t *death = json_object_get(slot, "last_death");
    char age[32];
    bool fine = strcmp(text(slot, "state"), "ready") == 0 ||
                strcmp(text(slot, "state"), "done") == 0;
    if (!json_is_object(death) || (fine && !number(slot, "crashes")))
        return;
    long long ago = ctl_wall_now() / HASUP_MS - number(death, "wall_ms");
    printf("    last %s: %s, %s ago\n", serves(slot) ? "worker" : "run", text(death, "reason"),
           ctl_duration(ago < 0 ? 0 : ago, age));
    if (!fine)
        print_last_lines(slot, json_object_get(death, "stderr"));
}

static void print_troubles(json_t *slot)
{
    char next[32];
    json_t *next_ms = json_object_get(slot, "next_start_ms");
    json_t *checkpoint = json_object_get(slot, "checkpoint");
    bool broken = strcmp(text(slot, "state"), "broken") == 0;
    if (json_is_integer(next_ms))
        printf("    %sstarts again in %s\n", broken ? "it failed too often; " : "",
               ctl_duration(json_integer_value(next_ms), next));
    if (*text(slot, "waits_for"))
        printf("    waits for %s, which comes before it\n", text(slot, "waits_for"));
    if (*text(slot, "probe_failed"))
        printf("    its probe failed: %s\n", text(slot, "probe_failed"));
    if (broken)
        printf("    to try now: hasupctl start %s\n", text(slot, "slot"));
    if (number(slot, "diverged"))
        printf("    %lld replayed requests were answered otherwise than before\n",
               number(slot, "diverged"));
    if (json_is_true(json_object_get(checkpoint, "in_memory_only")))
        puts("    the newest state is in memory only: the disk does not take it");
    print_death(slot);
}

/* ---- the last audit ---- */

/* Added to hasupd's own words: it knows nothing of audits. */
static void add_audit(json_t *status)
{
    json_t *entries = audits_read(text(status, "state_dir"));
    json_t *last = json_array_get(entries, json_array_size(entries) - 1);
    json_int_t restored = audits_restored(entries);
    json_t *shown = json_null();
    if (last)
        shown =
            json_pack("{s:I, s:s, s:I, s:I, s:o}", "wall_ms", (json_int_t)number(last, "wall_ms"),
                      "verdict", text(last, "verdict"), "findings",
                      (json_int_t)number(last, "count"), "notes", (json_int_t)number(last, "notes"),
                      "last_restored_wall_ms", restored ? json_integer(restored) : json_null());
    json_object_set_new(status, "audit", shown);
    json_decref(entries);
}

static void print_audit(json_t *status)
{
    char age[32];
    json_t *last = json_object_get(status, "audit");
    const char *verdict = text(last, "verdict");
    long long now = (long long)(ctl_wall_now() / HASUP_MS), findings = number(last, "findings");
    if (!json_is_object(last))
        return;
    printf("last audit %s ago: ", ctl_duration(now - number(last, "wall_ms"), age));
    if (strcmp(verdict, "findings") == 0)
        printf("%lld FINDING%s (hasupctl audit shows them)", findings, findings == 1 ? "" : "S");
    else
        fputs(strcmp(verdict, "sound") ? "it could NOT check" : "sound", stdout);
    if (number(last, "last_restored_wall_ms"))
        printf("; restore tested %s ago",
               ctl_duration(now - number(last, "last_restored_wall_ms"), age));
    putchar('\n');
}

/* ---- the journal ---- */

/* Parts of a line that breaks between them where the screen ends. */
struct parts {
    int width, used;
};

HASUP_PRINTF(2, 3)
static void print_part(struct parts *parts, const char *format, ...)
{
    char part[128];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(part, sizeof part, format, args);
    va_end(args);
    bool breaks = parts->used && parts->used + 2 + len + 1 > parts->width;
    if (parts->used)
        fputs(breaks ? ",\n  " : ", ", stdout);
    parts->used = breaks ? 2 + len : parts->used + (parts->used ? 2 : 0) + len;
    fputs(part, stdout);
}

/* Nothing where no request was ever durable. */
static void print_journal(const struct ctl *ctl, json_t *status)
{
    char bytes[32], wal[32], since[32];
    struct parts parts = {.width = ctl->width};
    json_t *journal = json_object_get(status, "journal");
    long long letters = number(journal, "letters");
    long long failing = (long long)(ctl_wall_now() / HASUP_MS);
    failing -= number(journal, "failing_since_wall_ms");
    if (json_is_true(json_object_get(journal, "failing")))
        printf("the journal FAILS for %s, durable requests are refused:\n  %s\n",
               ctl_duration(failing < 0 ? 0 : failing, since), text(journal, "error"));
    if (!json_is_true(json_object_get(journal, "open")))
        return;
    print_part(&parts, "journal: %lld unfinished", number(journal, "unfinished"));
    print_part(&parts, "%lld answers kept", number(journal, "results"));
    if (letters)
        print_part(&parts, "%lld dead letter%s", letters, letters == 1 ? "" : "s");
    print_part(&parts, "%s", ctl_bytes((unsigned long long)number(journal, "bytes"), bytes));
    print_part(&parts, "WAL %s", ctl_bytes((unsigned long long)number(journal, "wal_bytes"), wal));
    putchar('\n');
}

/* ---- everything ---- */

/* A version that goes or comes, and why the last one did not stay. */
static void print_rollout(json_t *model)
{
    json_t *rollout = json_object_get(model, "rollout"), *last = json_object_get(rollout, "last");
    json_t *stable = json_object_get(rollout, "stable");
    json_t *canary = json_object_get(rollout, "canary");
    const char *state = text(rollout, "state"), *other = text(rollout, "other");
    if (strcmp(state, "rolling") == 0)
        printf("    rolling out version %s%s%s: %lld to replace\n", text(model, "version"),
               *other ? ", from " : "", other, number(rollout, "waiting"));
    else if (strcmp(state, "rolling_back") == 0)
        printf("    rolling back to version %s: %s\n", text(model, "version"),
               text(rollout, "why"));
    else if (strcmp(state, "canary") == 0)
        printf("    canary: version %s has %lld %% of the requests; of %lld there %lld failed, of "
               "%lld of version %s %lld\n",
               other, number(rollout, "weight"), number(canary, "ended"), number(canary, "failed"),
               number(stable, "ended"), text(model, "version"), number(stable, "failed"));
    if (json_is_object(last) && !json_is_true(json_object_get(last, "ok")))
        printf("    last rollout: %s\n", text(last, "text"));
}

/* How many a second of late, and how long the middle one and the slowest of a hundred took. */
static void print_recent(json_t *recent)
{
    double rate = json_real_value(json_object_get(recent, "per_second"));
    if (rate <= 0)
        return;
    printf("    %.*f/s, p50 %.1f ms, p99 %.1f ms\n", rate < 10 ? 1 : 0, rate,
           (double)number(recent, "p50_us") / 1e3, (double)number(recent, "p99_us") / 1e3);
}

/* All of them where the model was asked for, else those that are not as they should be. */
static void print_sockets(const struct ctl *ctl, json_t *sockets)
{
    json_t *one;
    size_t i;
    json_array_foreach(sockets, i, one)
    {
        const bool open = json_is_true(json_object_get(one, "open"));
        if (ctl->argc || !open)
            printf("    socket %s: %s, %s%lld\n", text(one, "name"), text(one, "address"),
                   open ? "backlog " : "NOT open; backlog ", number(one, "backlog"));
    }
}

static void print_model(const struct ctl *ctl, const struct layout *layout, json_t *model)
{
    json_t *slot;
    size_t i;
    printf("%s: %lld of %lld ready, %lld queued, %lld running", text(model, "name"),
           number(model, "ready"), number(model, "workers"), number(model, "queued"),
           number(model, "inflight"));
    if (number(model, "refused"))
        printf(", %lld refused", number(model, "refused"));
    if (number(model, "unstored"))
        printf(", %lld unstored", number(model, "unstored"));
    puts(json_is_true(json_object_get(model, "accepting")) ? "" : "; takes no requests");
    char mends[32];
    if (json_is_true(json_object_get(model, "broken")))
        printf("    different requests killed its workers: nothing is dispatched, one is tried in "
               "%s\n",
               ctl_duration(number(model, "mends_ms"), mends));
    print_recent(json_object_get(model, "recent"));
    print_rollout(model);
    print_sockets(ctl, json_object_get(model, "sockets"));
    for (size_t kind = 0; kind < HASUP_LEN(KINDS); kind++)
        json_array_foreach(json_object_get(model, KINDS[kind]), i, slot)
        {
            print_row(ctl, layout, slot);
            print_troubles(slot);
        }
}

static void print_program(const struct ctl *ctl, const struct layout *layout, json_t *program)
{
    json_t *slot;
    size_t i;
    const bool oneshot = strcmp(text(program, "kind"), "oneshot") == 0;
    printf("%s: %s, %lld of %lld ", text(program, "name"), text(program, "kind"),
           number(program, oneshot ? "done" : "ready"), number(program, "wanted"));
    fputs(oneshot ? "done" : "ready", stdout);
    if (!oneshot && number(program, "done"))
        printf(", %lld done", number(program, "done"));
    puts(json_is_true(json_object_get(program, "accepting")) ? "" : "; stopped");
    print_rollout(program);
    print_sockets(ctl, json_object_get(program, "sockets"));
    json_array_foreach(json_object_get(program, "slots"), i, slot)
    {
        json_object_set_new(slot, "program", json_true());
        print_row(ctl, layout, slot);
        print_troubles(slot);
    }
}

static void print_head(json_t *status)
{
    char uptime[32];
    json_t *checkpoints = json_object_get(status, "checkpoints");
    printf("hasupd %s, pid %lld, ", text(status, "version"), number(status, "pid"));
    if (number(status, "http_port"))
        printf("http port %lld, ", number(status, "http_port"));
    printf("up %s: %s\n", ctl_duration(number(status, "uptime_ms"), uptime),
           json_is_true(json_object_get(status, "shutting_down")) ? "shutting down"
           : json_is_true(json_object_get(status, "ready"))       ? "ready"
                                                                  : "not ready");
    if (json_is_true(json_object_get(checkpoints, "failing")))
        printf("checkpoints are NOT stored: %s\n", text(checkpoints, "error"));
    if (json_is_null(json_object_get(status, "state_dir")))
        puts("nothing is kept: state_dir is off; states go with hasupd, durable requests are "
             "refused");
}

static void print_status(const struct ctl *ctl, json_t *status)
{
    json_t *model, *models = json_object_get(status, "models");
    json_t *program, *programs = json_object_get(status, "programs");
    struct layout layout = layout_of(ctl, status);
    size_t i;
    print_head(status);
    print_journal(ctl, status);
    print_audit(status);
    json_array_foreach(models, i, model)
    {
        putchar('\n');
        if (i == 0)
            print_titles(&layout);
        print_model(ctl, &layout, model);
    }
    json_array_foreach(programs, i, program)
    {
        putchar('\n');
        if (i == 0 && !json_array_size(models))
            print_titles(&layout);
        print_program(ctl, &layout, program);
    }
}

int ctl_status(const struct ctl *ctl)
{
    json_t *status;
    if (ctl->argc > 1)
        return ctl_usage(ctl, "one model at most");
    json_t *command = json_pack("{s:s}", "verb", "status");
    if (ctl->argc)
        json_object_set_new(command, "target", json_string(ctl->argv[0]));
    int code = ctl_call(ctl, command, &status);
    if (code == CTL_OK)
        add_audit(status);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(status);
    else if (code == CTL_OK)
        print_status(ctl, status);
    json_decref(status);
    return code;
}
