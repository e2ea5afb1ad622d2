/*
 * toplines.c: hasupctl top without a terminal: the rows of a status, their order, the columns that
 * a width has room for, and the lines of a screen.  Pure: no clock, no terminal, no socket.
 */
#include "hasupctl/top.h"

#include "ipc/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MIN = 8, NAME_MAX_SHOWN = 24, NAME_MAX_NARROW = 12, NARROW = 60, AROUND = 4 };

/* ---- rows ---- */

static long long number_or(json_t *object, const char *key, long long other)
{
    json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? (long long)json_integer_value(value) : other;
}

static const char *text(json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static const char *const KINDS[] = {"slots", "spares", "zygotes"};

static size_t slots_of(json_t *model)
{
    size_t count = 0;
    for (size_t i = 0; i < HASUP_LEN(KINDS); i++)
        count += json_array_size(json_object_get(model, KINDS[i]));
    return count;
}

static struct top_row slot_row(const char *model, json_t *slot)
{
    return (struct top_row){
        .name = text(slot, "slot"),
        .model = model,
        .state = text(slot, "state"),
        .rate = -1,
        .up_ms = number_or(slot, "since_ms", -1),
        .starts = number_or(slot, "starts", 0),
        .crashes = number_or(slot, "crashes", 0),
        .running = number_or(slot, "inflight", 0),
        .queued = number_or(slot, "queued", 0),
        .memory = number_or(slot, "memory_bytes", 0),
        .p50_us = -1,
        .p99_us = -1,
        .checkpoint_ms = number_or(json_object_get(slot, "checkpoint"), "age_ms", -1),
        .next_ms = number_or(slot, "next_start_ms", -1),
    };
}

static struct top_row model_row(json_t *model)
{
    json_t *recent = json_object_get(model, "recent");
    bool broken = json_is_true(json_object_get(model, "broken"));
    double rate = json_number_value(json_object_get(recent, "per_second"));
    return (struct top_row){
        .name = text(model, "name"),
        .model = text(model, "name"),
        .is_model = true,
        .state = broken ? "broken" : "",
        .ready = (unsigned)number_or(model, "ready", 0),
        .workers = (unsigned)number_or(model, "workers", 0),
        .rate = rate,
        .up_ms = -1,
        .running = number_or(model, "inflight", 0),
        .queued = number_or(model, "queued", 0),
        .p50_us = rate > 0 ? number_or(recent, "p50_us", -1) : -1,
        .p99_us = rate > 0 ? number_or(recent, "p99_us", -1) : -1,
        .checkpoint_ms = -1,
        .next_ms = broken ? number_or(model, "mends_ms", -1) : -1,
    };
}

/* It has no requests. */
static struct top_row program_row(json_t *program)
{
    return (struct top_row){
        .name = text(program, "name"),
        .model = text(program, "name"),
        .is_model = true,
        .is_program = true,
        .state = "",
        .ready = (unsigned)(number_or(program, "ready", 0) + number_or(program, "done", 0)),
        .workers = (unsigned)number_or(program, "wanted", 0),
        .rate = -1,
        .up_ms = -1,
        .p50_us = -1,
        .p99_us = -1,
        .checkpoint_ms = -1,
        .next_ms = -1,
    };
}

static double sort_key(const struct top_row *row, enum top_sort sort)
{
    switch (sort) {
    case TOP_MEMORY: return (double)row->memory;
    case TOP_RATE: return row->rate;
    case TOP_CRASHES: return (double)row->crashes;
    case TOP_QUEUE: return (double)row->queued;
    case TOP_NAME: break;
    }
    return 0;
}

/* The largest first; what is as large by name, m/2 before m/10. */
static int compare(const void *a_, const void *b_)
{
    const struct top_row *a = a_, *b = b_;
    int by_model = strverscmp(a->model, b->model);
    if (a->model_key > b->model_key || a->model_key < b->model_key)
        return a->model_key > b->model_key ? -1 : 1;
    if (by_model)
        return by_model;
    if (a->is_model != b->is_model)
        return a->is_model ? -1 : 1;
    if (a->key > b->key || a->key < b->key)
        return a->key > b->key ? -1 : 1;
    return strverscmp(a->name, b->name);
}

/* A model and its slots; the model has the sum of what only slots have. */
static size_t add_model(struct top_row *rows, json_t *model, bool program, enum top_sort sort)
{
    json_t *slot;
    size_t i, count = 1;
    rows[0] = program ? program_row(model) : model_row(model);
    for (size_t kind = 0; kind < HASUP_LEN(KINDS); kind++)
        json_array_foreach(json_object_get(model, KINDS[kind]), i, slot)
        {
            rows[count] = slot_row(rows[0].name, slot);
            rows[count].is_program = program;
            rows[0].memory += rows[count].memory;
            rows[0].crashes += rows[count].crashes;
            rows[0].starts += rows[count].starts;
            count++;
        }
    for (i = 0; i < count; i++) {
        rows[i].key = sort_key(&rows[i], sort);
        rows[i].model_key = rows[0].key;
    }
    return count;
}

struct top_rows top_rows(json_t *status, enum top_sort sort)
{
    json_t *model, *models = json_object_get(status, "models");
    json_t *programs = json_object_get(status, "programs");
    size_t i, room = 0;
    struct top_rows all = {0};
    json_array_foreach(models, i, model) room += 1 + slots_of(model);
    json_array_foreach(programs, i, model) room += 1 + slots_of(model);
    all.rows = room ? calloc(room, sizeof *all.rows) : NULL;
    if (!all.rows)
        return all;
    json_array_foreach(models, i, model)
        all.count += add_model(all.rows + all.count, model, false, sort);
    json_array_foreach(programs, i, model)
        all.count += add_model(all.rows + all.count, model, true, sort);
    qsort(all.rows, all.count, sizeof *all.rows, compare);
    return all;
}

/* ---- numbers in few columns ---- */

static const char *short_duration(long long us, char out[32])
{
    long long s = us / 1000000;
    if (us < 0)
        return "";
    if (us < 1000)
        snprintf(out, 32, "%lldus", us);
    else if (us < 1000000)
        snprintf(out, 32, "%lldms", us / 1000);
    else if (s < 120)
        snprintf(out, 32, "%llds", s);
    else if (s < 120 * 60)
        snprintf(out, 32, "%lldm", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, 32, "%lldh", s / 3600);
    else
        snprintf(out, 32, "%lldd", s / 86400);
    return out;
}

static const char *short_ms(long long ms, char out[32])
{
    return ms < 0 ? "" : short_duration(ms * 1000, out);
}

/* At most four columns: 9999, 12k, 1.2M. */
static const char *scaled(double value, double base, char out[32])
{
    static const char UNITS[] = " kMGT";
    size_t unit = 0;
    bool small = value < 9999.5 && base < 1001;
    for (; !small && value >= base - 0.5 && unit < 4; unit++)
        value /= base;
    snprintf(out, 32, unit && value < 9.95 ? "%.1f" : "%.0f", value);
    if (unit)
        strcat(out, (char[]){UNITS[unit], 0});
    return out;
}

static const char *count_text(long long value, char out[32])
{
    return scaled((double)value, 1000, out);
}

/* ---- columns ---- */

static const char *state_text(const struct top_row *row, char out[32])
{
    if (!row->is_model || *row->state)
        return row->state;
    snprintf(out, 32, "%u/%u", row->ready, row->workers);
    return out;
}

static const char *up_text(const struct top_row *row, char out[32])
{
    return short_ms(row->up_ms, out);
}

static const char *starts_text(const struct top_row *row, char out[32])
{
    return count_text(row->starts, out);
}

static const char *crashes_text(const struct top_row *row, char out[32])
{
    return count_text(row->crashes, out);
}

static const char *running_text(const struct top_row *row, char out[32])
{
    return row->is_program ? "" : count_text(row->running, out);
}

static const char *queued_text(const struct top_row *row, char out[32])
{
    return row->is_program ? "" : count_text(row->queued, out);
}

static const char *memory_text(const struct top_row *row, char out[32])
{
    return row->memory ? scaled((double)row->memory, 1024, out) : "-";
}

static const char *rate_text(const struct top_row *row, char out[32])
{
    if (row->rate < 0)
        return "";
    if (row->rate >= 99.95)
        return scaled(row->rate, 1000, out);
    snprintf(out, 32, "%.1f", row->rate);
    return out;
}

static const char *p50_text(const struct top_row *row, char out[32])
{
    return short_duration(row->p50_us, out);
}

static const char *p99_text(const struct top_row *row, char out[32])
{
    return short_duration(row->p99_us, out);
}

static const char *checkpoint_text(const struct top_row *row, char out[32])
{
    return short_ms(row->checkpoint_ms, out);
}

static const char *next_text(const struct top_row *row, char out[32])
{
    return short_ms(row->next_ms, out);
}

static const struct column {
    const char *title;
    int width;  /* negative: to the left */
    int leaves; /* which goes first where there is no room; 0: stays */
    enum top_sort sort; /* by which it stays, too; TOP_NAME: none */
    const char *(*text)(const struct top_row *row, char out[32]);
} COLUMNS[] = {
    {"STATE", -9, 0, TOP_NAME, state_text},
    {"FOR", 5, 7, TOP_NAME, up_text},
    {"STARTS", 6, 1, TOP_NAME, starts_text},
    {"CRASH", 5, 10, TOP_CRASHES, crashes_text},
    {"RUN", 4, 4, TOP_NAME, running_text},
    {"QUEUE", 5, 9, TOP_QUEUE, queued_text},
    {"MEM", 5, 8, TOP_MEMORY, memory_text},
    {"REQ/S", 5, 11, TOP_RATE, rate_text},
    {"P50", 5, 2, TOP_NAME, p50_text},
    {"P99", 5, 6, TOP_NAME, p99_text},
    {"CKPT", 5, 3, TOP_NAME, checkpoint_text},
    {"NEXT", 5, 5, TOP_NAME, next_text},
};

struct layout {
    int name;    /* width of the first column */
    int leaving; /* columns that left: those with `leaves` up to this */
    enum top_sort sort;
};

static bool is_shown(const struct layout *layout, const struct column *column)
{
    bool sorted = column->sort != TOP_NAME && column->sort == layout->sort;
    return !column->leaves || sorted || column->leaves > layout->leaving;
}

static int layout_width(const struct layout *layout)
{
    int width = layout->name;
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++)
        if (is_shown(layout, &COLUMNS[i]))
            width += 1 + abs(COLUMNS[i].width);
    return width;
}

static struct layout layout_of(const struct top_rows *rows, enum top_sort sort, int width)
{
    struct layout layout = {.name = NAME_MIN, .sort = sort};
    int most = width < NARROW ? NAME_MAX_NARROW : NAME_MAX_SHOWN;
    for (size_t i = 0; i < rows->count; i++) {
        int len = (int)strlen(rows->rows[i].name) + !rows->rows[i].is_model;
        if (len > layout.name)
            layout.name = len < most ? len : most;
    }
    while (layout_width(&layout) > width && layout.leaving < (int)HASUP_LEN(COLUMNS))
        layout.leaving++;
    return layout;
}

/* ---- lines ---- */

HASUP_PRINTF(3, 4)
static void append(struct top_line *line, int width, const char *format, ...)
{
    char part[TOP_LINE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(part, sizeof part, format, args);
    va_end(args);
    int used = (int)strlen(line->text), most = width < TOP_LINE_MAX ? width : TOP_LINE_MAX;
    for (const char *p = part; *p && used < most; p++)
        line->text[used++] = *p >= ' ' && *p <= '~' ? *p : '?';
    line->text[used] = '\0';
}

/* A name that is too long keeps its end, where slots differ. */
static void append_name(struct top_line *line, int width, int room, const struct top_row *row)
{
    int indent = row->is_model ? 0 : 1, len = (int)strlen(row->name), most = room - indent;
    if (len <= most)
        append(line, width, "%*s%-*s", indent, "", most, row->name);
    else
        append(line, width, "%*s~%s", indent, "", row->name + len - (most - 1));
}

static enum top_style state_style(const char *state)
{
    static const char *const BAD[] = {"broken", "backoff", "killing", "aborting"};
    for (size_t i = 0; i < HASUP_LEN(BAD); i++)
        if (strcmp(state, BAD[i]) == 0)
            return TOP_BAD;
    if (strcmp(state, "ready") == 0 || strcmp(state, "done") == 0)
        return TOP_GOOD;
    return strcmp(state, "stopped") == 0 ? TOP_DIM : TOP_BUSY;
}

static enum top_style row_style(const struct top_row *row)
{
    if (row->is_model && !*row->state)
        return row->ready >= row->workers ? TOP_GOOD : row->ready ? TOP_BUSY : TOP_BAD;
    return state_style(row->state);
}

static struct top_line row_line(const struct layout *layout, int width, const struct top_row *row)
{
    char out[32];
    struct top_line line = {.style = row->is_model ? TOP_MODEL : TOP_PLAIN};
    append_name(&line, width, layout->name, row);
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++) {
        if (!is_shown(layout, &COLUMNS[i]))
            continue;
        append(&line, width, " ");
        int at = (int)strlen(line.text);
        append(&line, width, "%*s", COLUMNS[i].width, COLUMNS[i].text(row, out));
        if (COLUMNS[i].text == state_text) {
            line.state_at = at;
            line.state_len = (int)strlen(line.text) - at;
            line.state = row_style(row);
        }
    }
    return line;
}

/* The column that orders the rows has a mark before it. */
static struct top_line title_line(const struct layout *layout, int width)
{
    struct top_line line = {.style = TOP_TITLE};
    append(&line, width, "%-*s", layout->name, layout->sort == TOP_NAME ? "NAME*" : "NAME");
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++) {
        char title[16];
        bool sorted = COLUMNS[i].sort != TOP_NAME && COLUMNS[i].sort == layout->sort;
        snprintf(title, sizeof title, "%s%s", sorted ? "*" : "", COLUMNS[i].title);
        int columns = abs(COLUMNS[i].width) + 1, len = (int)strlen(title);
        if (is_shown(layout, &COLUMNS[i]) && COLUMNS[i].width > 0)
            append(&line, width, "%*s%s", columns > len ? columns - len : 0, "", title);
        else if (is_shown(layout, &COLUMNS[i]))
            append(&line, width, " %-*s", columns - 1, title);
    }
    append(&line, width, "%*s", TOP_LINE_MAX - 1, "");
    return line;
}

static struct top_line head_line(const struct top_view *view)
{
    char up[32];
    struct top_line line = {.style = TOP_PLAIN};
    json_t *status = view->status;
    if (!status) {
        append(&line, view->width, "hasupd");
        return line;
    }
    const char *is = json_is_true(json_object_get(status, "shutting_down")) ? "shutting down"
                     : json_is_true(json_object_get(status, "ready"))       ? "ready"
                                                                            : "not ready";
    append(&line, view->width, "hasupd %s  ", text(status, "version"));
    line.state_at = (int)strlen(line.text);
    append(&line, view->width, "%s", is);
    line.state_len = (int)strlen(line.text) - line.state_at;
    line.state = strcmp(is, "ready") ? TOP_BUSY : TOP_GOOD;
    append(&line, view->width, "  up %s  pid %lld",
           short_ms(number_or(status, "uptime_ms", -1), up), number_or(status, "pid", 0));
    return line;
}

/* What is wrong with all of it; where nothing is, how much there is. */
static struct top_line state_line(const struct top_view *view, const struct top_rows *rows)
{
    struct top_line line = {.style = TOP_BAD};
    json_t *journal = json_object_get(view->status, "journal");
    json_t *checkpoints = json_object_get(view->status, "checkpoints");
    size_t slots = 0, programs = 0;
    unsigned long long ready = 0;
    double rate = 0;
    if (view->trouble) {
        append(&line, view->width, "%s", view->trouble);
    } else if (json_is_true(json_object_get(journal, "failing"))) {
        append(&line, view->width, "the journal FAILS: %s", text(journal, "error"));
    } else if (json_is_true(json_object_get(checkpoints, "failing"))) {
        append(&line, view->width, "checkpoints are NOT stored: %s", text(checkpoints, "error"));
    } else {
        for (size_t i = 0; i < rows->count; i++) {
            slots += !rows->rows[i].is_model;
            ready += rows->rows[i].ready;
            programs += rows->rows[i].is_model && rows->rows[i].is_program;
            rate += rows->rows[i].is_model && !rows->rows[i].is_program ? rows->rows[i].rate : 0;
        }
        line.style = TOP_PLAIN;
        append(&line, view->width, "%zu models, ", rows->count - slots - programs);
        if (programs)
            append(&line, view->width, "%zu programs, ", programs);
        append(&line, view->width, "%zu slots, %llu ready, %.1f req/s", slots, ready, rate);
    }
    return line;
}

static struct top_line plain_line(int width, enum top_style style, const char *words)
{
    struct top_line line = {.style = style};
    append(&line, width, "%s", words);
    return line;
}

/* ---- keys ---- */

static const struct {
    int key;
    enum top_sort sort;
    const char *name;
} SORTS[] = {{'n', TOP_NAME, "name"},
             {'m', TOP_MEMORY, "memory"},
             {'r', TOP_RATE, "rate"},
             {'c', TOP_CRASHES, "crashes"},
             {'u', TOP_QUEUE, "queue"}};

bool top_sort_key(int key, enum top_sort *sort)
{
    for (size_t i = 0; i < HASUP_LEN(SORTS); i++)
        if (SORTS[i].key == key) {
            *sort = SORTS[i].sort;
            return true;
        }
    return false;
}

/* From the one that says most to the one that is shortest. */
static const struct {
    const char *first, *each; /* of each order its key and its name */
} KEYS[] = {{"q quit  h help  sort by:", "  %c %s"}, {"q quit h help", " %c"}, {"q h", " %c"}};

static struct top_line keys_of(size_t form, int width)
{
    struct top_line line = {.style = TOP_DIM};
    append(&line, width, "%s", KEYS[form].first);
    for (size_t i = 0; i < HASUP_LEN(SORTS); i++)
        append(&line, width, KEYS[form].each, SORTS[i].key, SORTS[i].name);
    return line;
}

/* Keys, and where there are more rows than lines, which ones are shown: that is said with fewer
 * words for the keys, or none, before it would be cut. */
static struct top_line keys_line(const struct top_view *view, size_t count, int room)
{
    char range[64] = "";
    const size_t width = (size_t)view->width;
    const int last = view->scroll + room < (int)count ? view->scroll + room : (int)count;
    if ((int)count > room && room > 0)
        snprintf(range, sizeof range, "%d-%d of %zu", view->scroll + 1, last, count);
    if (strlen(range) > width)
        range[0] = '\0';
    const size_t behind = *range ? strlen(range) + 2 : 0;
    for (size_t form = 0; form < HASUP_LEN(KEYS); form++) {
        struct top_line line = keys_of(form, TOP_LINE_MAX);
        if (strlen(line.text) + behind > width)
            continue;
        if (*range)
            append(&line, view->width, "  %s", range);
        return line;
    }
    return *range ? plain_line(view->width, TOP_DIM, range)
                  : keys_of(HASUP_LEN(KEYS) - 1, view->width);
}

static const char *const HELP[] = {
    "q            quit",
    "h ?          this, and back",
    "n            order by name",
    "m            by memory",
    "r            by requests a second",
    "c            by crashes",
    "u            by queue",
    "arrows       scroll; PgUp PgDn Home End",
    "space        ask hasupd now",
    "",
    "STATE        of a model: ready/wanted",
    "FOR          how long in this state",
    "STARTS CRASH its starts, its crashes",
    "RUN QUEUE    requests now, and waiting",
    "REQ/S P50 P99  of the last 10 to 20 s",
    "CKPT         age of the checkpoint",
    "NEXT         until it starts again",
};

/* ---- the screen ---- */

static int clamp(int value, int most)
{
    return value > most ? (most < 0 ? 0 : most) : value < 0 ? 0 : value;
}

void top_draw(struct top_view *view, void (*put)(void *to, int y, const struct top_line *line),
              void *to)
{
    struct top_line line;
    struct top_rows rows = top_rows(view->status, view->sort);
    struct layout layout = layout_of(&rows, view->sort, view->width);
    int room = view->height > AROUND ? view->height - AROUND : 0;
    int count = view->help ? (int)HASUP_LEN(HELP) : (int)rows.count;
    view->scroll = clamp(view->scroll, count - room);
    line = head_line(view);
    put(to, 0, &line);
    line = state_line(view, &rows);
    put(to, 1, &line);
    line = view->help ? plain_line(view->width, TOP_MODEL, "Keys and columns")
                      : title_line(&layout, view->width);
    put(to, 2, &line);
    for (int i = 0; i < room && view->scroll + i < count; i++) {
        int at = view->scroll + i;
        line = view->help ? plain_line(view->width, TOP_PLAIN, HELP[at])
                          : row_line(&layout, view->width, &rows.rows[at]);
        put(to, 3 + i, &line);
    }
    line = keys_line(view, (size_t)count, room);
    put(to, view->height - 1, &line);
    free(rows.rows);
}
