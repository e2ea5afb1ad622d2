/*
 * requests.c: the verbs of hasupctl requests.  A list comes in pages that are bounded by the rows
 * that the journal's thread looks at and by the bytes of the answer, so 100,000 requests hold
 * nobody up; the client asks for one page after the other.  The journal knows what a request is,
 * the core how far it is: where they differ the core is right, because a row follows what the core
 * decided.
 */
#include "supervisor/requests.h"

#include "supervisor/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_ROWS = 256, PAGE_BYTES = 16 * 1024 };

/* Rows that are being read. */
struct asked {
    struct requests_call call; /* without `in` */
    char model[STORE_MODEL];   /* of a list; "" : every one */
    char state[16];            /* likewise */
    bool first;                /* page */
    uint64_t record, token;    /* of `show` and `drop`; 0: a list */
};

static const char *const REQUEST_STATES[] = {"waiting", "running", "done", "refused",
                                             "quarantined"};

void requests_refuse(const struct requests_call *call, uint32_t status, const char *code,
                     const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    call->answer(
        call->context, call->ticket, status,
        json_pack("{s:{s:s, s:o}}", "error", "code", code, "message", json_words(message)));
}

const char *requests_text(const struct requests_call *call, const char *key)
{
    const char *text = json_string_value(json_object_get(call->in, key));
    return text ? text : "";
}

/* ---- one request as JSON ---- */

/* NULL: the core has let go of it, and it waits for no model either. */
static const char *state_of(const struct engine *engine, const struct journal_listed *row,
                            struct record_view *view)
{
    core_record_view(engine->core, row->record, view);
    switch (view->state) {
    case RECORD_WAITING:
    case RECORD_QUEUED: return "waiting";
    case RECORD_RUNNING: return "running";
    case RECORD_DONE: return "done";
    case RECORD_REFUSED: return view->why == REFUSED_QUARANTINED ? "quarantined" : "refused";
    case RECORD_UNKNOWN: break;
    }
    /* What no configured model can run stays in the journal until one can. */
    bool stranger = engine_model(engine, row->model, strlen(row->model)) < 0;
    return stranger && !row->status ? "waiting" : NULL;
}

json_t *requests_wall(int64_t wall_ns)
{
    return wall_ns ? json_integer(wall_ns / HASUP_MS) : json_null();
}

static json_t *key_json(const struct journal_listed *row)
{
    if (!(row->flags & JOURNAL_KEYED))
        return json_null();
    json_t *key = json_stringn((const char *)row->key.at, row->key.len);
    return key ? key : json_string("(bytes)");
}

static json_t *row_json(const struct engine *engine, const struct journal_listed *row)
{
    struct record_view view;
    char id[RECORD_ID + 1];
    const char *state = state_of(engine, row, &view);
    if (!state)
        return NULL;
    bool ended = view.state == RECORD_DONE || view.state == RECORD_REFUSED;
    int64_t age = loop_wall_now() - row->created_wall_ns;
    durable_record_id(row->record, row->token, id);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:b, s:b, s:o, s:o, s:I, s:o, s:o, s:o}", "id", id, "model",
        row->model, "state", state, "attempts", (int)view.attempts, "configured",
        engine_model(engine, row->model, strlen(row->model)) >= 0, "async",
        (row->flags & JOURNAL_ASYNC) != 0, "key", key_json(row), "created_wall_ms",
        requests_wall(row->created_wall_ns), "age_ms", (json_int_t)(age > 0 ? age / HASUP_MS : 0),
        "deadline_wall_ms", requests_wall(ended ? 0 : row->deadline_wall_ns), "finished_wall_ms",
        requests_wall(ended ? row->finished_wall_ns : 0), "expires_wall_ms",
        requests_wall(ended ? row->expires_wall_ns : 0));
    json_object_set_new(json, "bytes",
                        ended ? json_null() : json_integer((json_int_t)row->body_len));
    json_object_set_new(json, "status", ended ? json_integer(row->status) : json_null());
    json_object_set_new(json, "streamed",
                        json_boolean(view.state == RECORD_DONE && row->flags & JOURNAL_STREAMED));
    json_object_set_new(json, "answer_bytes",
                        view.state == RECORD_DONE && !(row->flags & JOURNAL_STREAMED)
                            ? json_integer((json_int_t)row->answer_len)
                            : json_null());
    return json;
}

/* ---- pages ---- */

void requests_unreadable(const struct requests_call *call, int error)
{
    requests_refuse(call, 503, "unavailable", "the journal cannot be read: %s",
                    hasup_strerror(error));
}

/* Whether nothing was found because the name is a mistake. */
static bool is_no_model(const struct asked *asked, const json_t *rows, uint64_t next)
{
    const struct engine *engine = asked->call.engine;
    return asked->first && asked->model[0] && !next && !json_array_size(rows) &&
           engine_model(engine, asked->model, strlen(asked->model)) < 0;
}

static void tell_page(const struct asked *asked, json_t *rows, uint64_t next)
{
    char text[ENGINE_REASON];
    if (is_no_model(asked, rows, next)) {
        json_decref(rows);
        engine_no_model(asked->call.engine, asked->model, strlen(asked->model), text);
        requests_refuse(&asked->call, 404, "not_found", "%s", text);
        return;
    }
    asked->call.answer(asked->call.context, asked->call.ticket, 200,
                       json_pack("{s:o, s:o}", "requests", rows, "next",
                                 next ? json_integer((json_int_t)next) : json_null()));
}

static void page_read(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    json_t *rows = json_array();
    uint64_t next = op->listed.next;
    size_t bytes = 0;
    if (op->error) {
        json_decref(rows);
        requests_unreadable(&asked->call, op->error);
        return;
    }
    for (const struct journal_listed *row = op->listed.rows; row; row = row->next) {
        json_t *json = row_json(asked->call.engine, row);
        const char *state = json_string_value(json_object_get(json, "state"));
        if (!json || (asked->state[0] && strcmp(asked->state, state) != 0)) {
            json_decref(json);
            continue;
        }
        bytes += json_dumpb(json, NULL, 0, JSON_COMPACT);
        json_array_append_new(rows, json);
        if (bytes > PAGE_BYTES && row->next) {
            next = row->record;
            break;
        }
    }
    tell_page(asked, rows, next);
}

/* Where there is no journal there is no request. */
bool requests_open(const struct requests_call *call)
{
    struct engine *engine = call->engine;
    if (durable_open(engine, false, NULL))
        return true;
    if (!engine->config->state_dir) {
        requests_refuse(call, 503, "unavailable",
                        "nothing is kept: hasupd's configuration has state_dir: off");
        return false;
    }
    if (engine->durable.failing)
        requests_refuse(call, 503, "unavailable", "the journal cannot be opened: %s",
                        engine->durable.error);
    return false;
}

static void ask(const struct requests_call *call, struct asked *asked, uint64_t before,
                uint32_t most, void (*done)(void *context, struct journal_op *op))
{
    struct journal_op *op = asked ? durable_ask(JOURNAL_LIST, done, asked) : NULL;
    if (!op) {
        free(asked);
        requests_refuse(call, 500, "internal", "out of memory");
        return;
    }
    asked->call = *call;
    asked->call.in = NULL;
    op->record = before;
    op->number = most;
    op->model = asked->model[0] ? asked->model : NULL;
    durable_ask_now(call->engine, op);
}

static bool state_is_known(const char *state)
{
    for (size_t i = 0; i < HASUP_LEN(REQUEST_STATES); i++)
        if (strcmp(REQUEST_STATES[i], state) == 0)
            return true;
    return false;
}

void requests_list(const struct requests_call *call)
{
    const char *model = requests_text(call, "model"), *state = requests_text(call, "state");
    json_int_t before = json_integer_value(json_object_get(call->in, "before"));
    if (*state && !state_is_known(state)) {
        requests_refuse(
            call, 400, "bad_request",
            "there is no state \"%.40s\": waiting, running, done, refused or quarantined", state);
        return;
    }
    struct asked *asked = calloc(1, sizeof *asked);
    if (asked) {
        snprintf(asked->model, sizeof asked->model, "%s", model);
        snprintf(asked->state, sizeof asked->state, "%s", state);
        asked->first = before <= 0;
    }
    if (requests_open(call)) {
        ask(call, asked, before > 0 ? (uint64_t)before : 0, PAGE_ROWS, page_read);
        return;
    }
    if (asked && !call->engine->durable.failing) {
        asked->call = *call;
        tell_page(asked, json_array(), 0);
    }
    free(asked);
}

/* ---- one ---- */

void requests_unknown(const struct requests_call *call)
{
    requests_refuse(call, 404, "not_found",
                    "there is no such request; hasupctl requests lists those that are kept");
}

/* It is accepted this moment: its row, which knows the rest, is on its way. */
static void tell_unwritten(const struct asked *asked)
{
    struct record_info info;
    char id[RECORD_ID + 1];
    durable_record_id(asked->record, asked->token, id);
    if (engine_record(asked->call.engine, id, RECORD_ID, &info)) {
        requests_letter(&asked->call, id, false);
        return;
    }
    asked->call.answer(asked->call.context, asked->call.ticket, 200,
                       json_pack("{s:s, s:s, s:s, s:i, s:b, s:n, s:n, s:n, s:n, s:n, s:n, s:n, "
                                 "s:n, s:n, s:b, s:n}",
                                 "id", id, "model", info.model, "state", "waiting", "attempts",
                                 (int)info.attempts, "configured", 1, "async", "key",
                                 "created_wall_ms", "age_ms", "deadline_wall_ms",
                                 "finished_wall_ms", "expires_wall_ms", "bytes", "status",
                                 "streamed", 0, "answer_bytes"));
}

static bool is_quarantined(const json_t *one)
{
    return strcmp(json_string_value(json_object_get(one, "state")), "quarantined") == 0;
}

static void one_read(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    const struct journal_listed *row = op->listed.rows;
    bool found = row && row->record == asked->record && row->token == asked->token;
    json_t *json = found ? row_json(asked->call.engine, row) : NULL;
    if (op->error)
        requests_unreadable(&asked->call, op->error);
    else if (json && is_quarantined(json))
        requests_with_letter(&asked->call, asked->record, json);
    else if (json)
        asked->call.answer(asked->call.context, asked->call.ticket, 200, json);
    else
        tell_unwritten(asked);
}

/* Reads the row of the request that `in` names. */
static void ask_one(const struct requests_call *call,
                    void (*done)(void *context, struct journal_op *op))
{
    const char *id = requests_text(call, "id");
    uint64_t record, token;
    struct asked *asked = NULL;
    if (!durable_id_read(id, strlen(id), &record, &token)) {
        requests_unknown(call);
    } else if (requests_open(call)) {
        if ((asked = calloc(1, sizeof *asked))) {
            asked->record = record;
            asked->token = token;
        }
        ask(call, asked, record + 1, 1, done);
    } else if (!call->engine->durable.failing) {
        requests_unknown(call);
    }
}

void requests_show(const struct requests_call *call)
{
    ask_one(call, one_read);
}

static void tell_dropped(const struct requests_call *call, const char *id)
{
    call->answer(call->context, call->ticket, 200,
                 json_pack("{s:s, s:s}", "id", id, "state", "dropped"));
}

/* One that the core does not know: it may wait for a model that is not configured. */
static void stranger_read(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    const struct journal_listed *row = op->listed.rows;
    struct record_view view;
    char id[RECORD_ID + 1];
    if (op->error) {
        requests_unreadable(&asked->call, op->error);
    } else if (!row || row->record != asked->record || row->token != asked->token ||
               !state_of(asked->call.engine, row, &view)) {
        durable_record_id(asked->record, asked->token, id);
        requests_letter(&asked->call, id, true);
    } else {
        engine_post(asked->call.engine,
                    &(struct event){.type = EVENT_DROPPED, .record = asked->record});
        durable_record_id(asked->record, asked->token, id);
        tell_dropped(&asked->call, id);
    }
}

void requests_drop(const struct requests_call *call)
{
    const char *id = requests_text(call, "id");
    if (engine_drop(call->engine, id, strlen(id)))
        ask_one(call, stranger_read);
    else
        tell_dropped(call, id);
}
