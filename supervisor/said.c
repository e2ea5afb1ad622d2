/*
 * said.c: what workers say: which request it is about, into hasupd's log, into memory,
 * into files; and what hasupd says itself, into a file of its own.
 *
 * A line belongs to the request that the worker says (mark.h), which holds however late it is read;
 * the worker is taken at its word, which no client knows.  A line that it says nothing of belongs
 * to a request where exactly that one was in the worker's hand when it was written.
 * hasupd knows when it reads a line, not when it was written, so nothing may leave the hand before
 * what was written until then is read: a worker that talks has its pipes read at each answer (two
 * system calls), one that is silent is not asked, and what it then says is nobody's where it could
 * have been written before its last answer.  Wrong is worse than unknown.
 */
#include "supervisor/said.h"

#include "supervisor/death.h"
#include "supervisor/logfiles.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jansson.h>

/* So many answers after its last line a worker counts as silent. */
enum { TALKS = 256, LAST_TEXT = 6000, FILE_MORE = 1024, OWN_LINE = 8192 };
/* What the files are given at the end: longer than a slow disk takes for `log.files.queue`. */
static const hasup_ns FILES_END = 10 * HASUP_S;

/* ---- whose a line is ---- */

void said_dispatched(struct worker *worker, uint64_t request)
{
    worker->hand.ids ^= request;
}

void said_answered(struct worker *worker, uint64_t request)
{
    bool drained = worker->hand.talks && worker->capture && capture_drain(worker->capture);
    if (worker->hand.talks)
        worker->hand.talks--;
    if (!drained)
        worker->hand.unsure = loop_turn(worker->slot->engine->loop) + 1;
    worker->hand.ids ^= request;
}

void said_until_now(struct worker *worker)
{
    if (worker->capture)
        (void)!capture_drain(worker->capture);
}

/* The one request in its hand; NULL: none, several, or nobody can tell. */
static const struct request *in_hand(const struct worker *worker)
{
    const struct engine *engine = worker->slot->engine;
    struct slot_view view;
    if (loop_turn(engine->loop) <= worker->hand.unsure || worker->slot->worker != worker ||
        !core_slot_view(engine->core, worker->slot->index, &view) || view.inflight != 1)
        return NULL;
    const struct request *request = engine_request(engine, worker->hand.ids);
    bool its = request && request->slot == worker->slot->index && request->worker == worker->number;
    return its ? request : NULL;
}

/* ---- where it goes ---- */

/* "2026-11-25T19:39:35.677Z m/0 stdout [r-17] text" */
static size_t file_text(const struct printed_line *line, char *out, size_t room)
{
    char date[32];
    struct tm tm;
    time_t seconds = (time_t)(line->wall_ns / HASUP_S);
    gmtime_r(&seconds, &tm);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm);
    const bool known = line->request[0];
    int n = snprintf(out, room, "%s.%03dZ %s %s %s%s%s%s%s\n", date,
                     (int)(line->wall_ns % HASUP_S / HASUP_MS), line->slot,
                     printed_stream(line->said.stream), known ? "[" : "", line->request,
                     known ? "] " : "", line->said.text, line->said.more ? " [...]" : "");
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

static void to_file(struct engine *engine, const struct printed_line *line,
                    const struct log_entry *entry)
{
    const bool text = engine->config->log.files.format == FORMAT_TEXT;
    size_t room = line->said.len * 6 + FILE_MORE, len = 0; /* as JSON a byte may become six */
    char *out = malloc(room);
    if (out && text) {
        len = file_text(line, out, room);
    } else if (out && (len = log_entry_json(entry, out, room - 1))) {
        out[len++] = '\n';
    }
    if (len)
        logfiles_add(engine->printed.files, line->slot, out, len);
    free(out);
}

/* What hasupd itself has to say. */
static void own_to_file(void *context, const struct log_entry *entry)
{
    struct engine *engine = context;
    char line[OWN_LINE];
    if (!logfiles_own_wanted(engine->printed.files))
        return;
    size_t len = engine->config->log.files.format == FORMAT_TEXT
                     ? log_entry_text(entry, line, sizeof line - 1)
                     : log_entry_json(entry, line, sizeof line - 1);
    line[len++] = '\n';
    logfiles_add(engine->printed.files, "", line, len);
}

static void said(struct worker *worker, const struct captured *captured)
{
    struct engine *engine = worker->slot->engine;
    const struct request *request =
        captured->stream == CAPTURE_DROPPED || worker->hook || captured->request ? NULL
                                                                                 : in_hand(worker);
    struct log_field fields[PRINTED_FIELDS];
    struct printed_line line = {.wall_ns = loop_wall_now(),
                                .slot = worker->home->name,
                                .pid = worker->process ? process_pid(worker->process) : 0,
                                .said = *captured};
    if (captured->request)
        snprintf(line.request, sizeof line.request, "%s", captured->request);
    else if (request)
        death_request_name(request, line.request);
    struct log_entry entry = printed_entry(&line, fields);
    log_entry_write(&entry);
    printed_add(engine->printed.lines, &line);
    if (logfiles_wanted(engine->printed.files))
        to_file(engine, &line, &entry);
    if (engine->printed.added)
        engine->printed.added(engine->printed.context);
}

static void on_line(void *context, const struct captured *captured)
{
    struct worker *worker = context;
    worker->hand.talks = TALKS;
    said(worker, captured);
}

static void on_dropped(void *context, struct flow_dropped dropped)
{
    char text[160];
    int len = snprintf(text, sizeof text,
                       "%llu lines (%llu bytes) dropped: it prints more than log.rate allows",
                       (unsigned long long)dropped.lines, (unsigned long long)dropped.bytes);
    said(context, &(struct captured){.stream = CAPTURE_DROPPED, .text = text, .len = (size_t)len});
}

struct capture_options said_options(struct worker *worker)
{
    const struct config *config = worker->slot->engine->config;
    return (struct capture_options){.flow = config->log.flow,
                                    .line_max = (size_t)config->log.line_max,
                                    .mark = worker->mark,
                                    .line = on_line,
                                    .dropped = on_dropped,
                                    .context = worker};
}

struct capture *said_capture(struct worker *worker, int *out, int *err)
{
    const struct capture_options options = said_options(worker);
    if (!worker->hook)
        mark_word(worker->mark);
    return capture_new(worker->slot->engine->loop, &options, out, err);
}

/* ---- its last words ---- */

static json_t *line_json(const struct printed_line *line)
{
    return json_pack("{s:I, s:s, s:s?, s:s}", "wall_ms", (json_int_t)(line->wall_ns / HASUP_MS),
                     "stream", printed_stream(line->said.stream), "request",
                     line->request[0] ? line->request : NULL, "text", line->said.text);
}

/* Those of its run that are still there, as JSON, and as text with a newline between two. */
static json_t *last_lines(const struct worker *worker, char text[LAST_TEXT])
{
    struct printed_reader reader = {.filter = {.pid = process_pid(worker->process)}};
    struct printed_line line;
    size_t used = 0;
    json_t *list = json_array();
    snprintf(reader.filter.targets[0], PRINTED_SLOT, "%s", worker->home->name);
    printed_open(worker->slot->engine->printed.lines, &reader, CAPTURE_TAIL);
    while (printed_next(&reader, &line)) {
        json_array_append_new(list, line_json(&line));
        if (used < LAST_TEXT)
            used += (size_t)snprintf(text + used, LAST_TEXT - used, "%s%.240s", used ? "\n" : "",
                                     line.said.text);
    }
    printed_close(&reader);
    return list;
}

void said_last(const struct worker *worker, bool crashed)
{
    char text[LAST_TEXT] = "";
    struct slot_death *death = &worker->home->death;
    json_t *list = last_lines(worker, text);
    free(death->lines);
    death->lines = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    if (!crashed || !text[0])
        return;
    const struct log_field fields[] = {LOG_TEXT("slot", worker->home->name),
                                       LOG_INT("pid", process_pid(worker->process)),
                                       LOG_TEXT("lines", text)};
    log_note("slot.last_lines", fields, HASUP_LEN(fields));
}

/* ---- files ---- */

void said_files_woken(struct engine *engine)
{
    struct logfiles_report report;
    while (logfiles_report(engine->printed.files, &report))
        switch (report.what) {
        case LOGFILES_FAILED:
            LOG_EVENT(LEVEL_ERROR, "log.files_failing", report.text,
                      LOG_TEXT("effect", "what is said is not in this file; the rest goes on"));
            break;
        case LOGFILES_RECOVERED:
            LOG_EVENT(LEVEL_INFO, "log.files_recovered", report.text,
                      LOG_INT("lost", report.lines));
            break;
        case LOGFILES_SLOW:
            LOG_EVENT(LEVEL_WARNING, "log.files_slow", report.text, LOG_INT("lost", report.lines));
            break;
        case LOGFILES_UNPACKED:
            LOG_EVENT(LEVEL_WARNING, "log.files_not_compressed", report.text,
                      LOG_TEXT("effect", "it stays as it is"));
            break;
        }
    if (engine->printed.reopened)
        engine->printed.reopened(engine->printed.context);
}

static void files_wake(void *context)
{
    loop_wake(context);
}

void said_configure(struct engine *engine)
{
    const struct config *config = engine->config;
    printed_limit(engine->printed.lines, (size_t)config->log.memory);
    logfiles_configure(engine->printed.files,
                       &(struct logfiles_options){.directory = config->log.files.directory,
                                                  .each_slot = config->log.files.each_slot,
                                                  .own = config->log.files.hasupd,
                                                  .file = {.rotation = config->log.files.rotation,
                                                           .pack = config->log.files.compress},
                                                  .queue = (size_t)config->log.files.queue});
}

int said_open(struct engine *engine)
{
    engine->printed.lines = printed_new((size_t)engine->config->log.memory);
    engine->printed.files = logfiles_new(files_wake, engine->loop);
    if (!engine->printed.lines || !engine->printed.files)
        return HASUP_ENOMEM;
    said_configure(engine);
    log_copy(own_to_file, engine);
    return 0;
}

void said_end(struct engine *engine)
{
    log_copy(NULL, NULL);
    if (!logfiles_free(engine->printed.files, FILES_END))
        LOG_EVENT(LEVEL_ERROR, "log.files_failing",
                  "the file system of log.files.directory does not answer",
                  LOG_TEXT("effect", "the last lines may not be in their files"));
    printed_free(engine->printed.lines);
}
