/*
 * requests_letters.c: dead letters for hasupctl requests: one after the other from the journal,
 * shown with the reports of the workers that died, dropped, tried again.  A letter's id is the hash
 * of model and body; a quarantined request that is durable is known by its own id, too.
 */
#include "supervisor/letters.h"
#include "supervisor/requests.h"

#include <stdlib.h>

/* A letter that is being read. */
struct asked {
    struct requests_call call; /* without `in` */
    bool lift;
    json_t *request; /* whose letter it is; NULL: it is asked for itself */
    uint64_t record; /* of a retry: where no letter has the hash, the one of this request */
};

static json_t *letter_json(const struct engine *engine, const struct journal_letter *letter,
                           bool all)
{
    char id[LETTER_ID + 1];
    json_t *deaths = json_loadb((const char *)letter->reports.at, letter->reports.len, 0, NULL);
    json_t *last = json_array_get(deaths, json_array_size(deaths) - 1);
    json_t *reason = json_object_get(last, "reason");
    letters_write_id(letter->hash, id);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:b, s:o, s:o, s:b, s:I, s:O}", "id", id, "model", letter->model,
        "state", "quarantined", "attempts", (int)letter->attempts, "configured",
        engine_model(engine, letter->model, strlen(letter->model)) >= 0, "created_wall_ms",
        requests_wall(letter->created_wall_ns), "expires_wall_ms",
        requests_wall(letter->expires_wall_ns), "kept", (letter->flags & JOURNAL_KEPT) != 0,
        "bytes", (json_int_t)letter->body_len, "reason", reason ? reason : json_null());
    if (all)
        json_object_set(json, "deaths", deaths ? deaths : json_null());
    json_decref(deaths);
    return json;
}

/* Takes `request`. */
static void ask(const struct requests_call *call, struct asked asked, struct journal_op what,
                void (*done)(void *context, struct journal_op *op))
{
    struct asked *context = malloc(sizeof *context);
    struct journal_op *op = context ? durable_ask(JOURNAL_FETCH_LETTER, done, context) : NULL;
    if (!op) {
        free(context);
        json_decref(asked.request);
        requests_refuse(call, 500, "internal", "out of memory");
        return;
    }
    *context = asked;
    context->call = *call;
    context->call.in = NULL;
    op->hash[0] = what.hash[0];
    op->hash[1] = what.hash[1];
    op->record = what.record;
    op->position = what.position;
    durable_ask_now(call->engine, op);
}

static void answer(const struct requests_call *call, json_t *json)
{
    call->answer(call->context, call->ticket, 200, json);
}

/* ---- list ---- */

static void listed(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    if (op->error && op->error != HASUP_ENOTFOUND && op->error != HASUP_ECORRUPT) {
        requests_unreadable(&asked->call, op->error);
        return;
    }
    json_t *letter = op->letter ? letter_json(asked->call.engine, op->letter, false) : json_null();
    answer(&asked->call,
           json_pack("{s:o, s:o}", "letter", letter, "next",
                     op->letter ? json_integer((json_int_t)op->letter->number) : json_null()));
}

void requests_letters(const struct requests_call *call)
{
    json_int_t before = json_integer_value(json_object_get(call->in, "before"));
    if (requests_open(call))
        ask(call, (struct asked){0},
            (struct journal_op){.position = before > 0 ? (uint64_t)before : 0}, listed);
    else if (!call->engine->durable.failing)
        answer(call, json_pack("{s:n, s:n}", "letter", "next"));
}

/* ---- show and drop ---- */

static void read_one(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    json_t *letter = op->letter ? letter_json(asked->call.engine, op->letter, true) : NULL;
    if (asked->request) {
        json_object_set_new(asked->request, "letter", letter ? letter : json_null());
        answer(&asked->call, asked->request);
        return;
    }
    if (op->error == HASUP_ENOTFOUND) {
        requests_unknown(&asked->call);
    } else if (op->error) {
        requests_unreadable(&asked->call, op->error);
    } else if (asked->lift) {
        letters_lift(asked->call.engine, op->letter->hash);
        answer(&asked->call,
               json_pack("{s:O, s:s}", "id", json_object_get(letter, "id"), "state", "dropped"));
    } else {
        answer(&asked->call, json_incref(letter));
    }
    json_decref(letter);
}

void requests_letter(const struct requests_call *call, const char *id, bool lift)
{
    struct journal_op what = {0};
    if (letters_read_id(id, strlen(id), what.hash) && (what.hash[0] || what.hash[1]))
        ask(call, (struct asked){.lift = lift}, what, read_one);
    else
        requests_unknown(call);
}

void requests_with_letter(const struct requests_call *call, uint64_t record, json_t *request)
{
    ask(call, (struct asked){.request = request}, (struct journal_op){.record = record}, read_one);
}

/* ---- retry ---- */

static void retried(void *context, const char *id, const struct refusal_text *refusal)
{
    struct requests_call *call = context;
    if (refusal)
        requests_refuse(call, refusal->status, refusal->code, "%s", refusal->message);
    else
        answer(call, json_pack("{s:s?, s:s}", "id", *id ? id : NULL, "state", "accepted"));
    free(call);
}

static void retry(const struct requests_call *asked, const struct journal_letter *letter)
{
    struct requests_call *call = malloc(sizeof *call);
    int error = HASUP_ENOMEM;
    if (call) {
        *call = *asked;
        error = letters_retry(asked->engine, letter, retried, call);
    }
    if (!error)
        return;
    free(call);
    if (error == HASUP_ENOTFOUND)
        requests_refuse(asked, 404, "not_found", "its model \"%s\" is not configured",
                        letter->model);
    else if (error == HASUP_EINVAL)
        requests_refuse(asked, 409, "not_kept",
                        "its body was not kept, so it cannot be run again: models.%s."
                        "quarantine_keep_body says up to which size bodies are; hasupctl requests "
                        "drop lets the body in again",
                        letter->model);
    else
        requests_refuse(asked, 429, "overloaded", "%s; its quarantine is lifted",
                        hasup_strerror(error));
}

static void read_to_retry(void *context, struct journal_op *op)
{
    const struct asked *asked = context;
    if (op->error == HASUP_ENOTFOUND && asked->record) {
        ask(&asked->call, (struct asked){0}, (struct journal_op){.record = asked->record},
            read_to_retry);
        return;
    }
    if (op->error == HASUP_ENOTFOUND) {
        requests_refuse(&asked->call, 404, "not_found",
                        "there is no dead letter of it; hasupctl requests letters lists them");
        return;
    }
    if (op->error) {
        requests_unreadable(&asked->call, op->error);
        return;
    }
    retry(&asked->call, op->letter);
}

void requests_retry(const struct requests_call *call)
{
    const char *id = requests_text(call, "id");
    struct journal_op what = {0};
    struct record_view view;
    uint64_t record = 0, token = 0;
    if (!letters_read_id(id, strlen(id), what.hash) || (!what.hash[0] && !what.hash[1]) ||
        !durable_id_read(id, strlen(id), &record, &token)) {
        requests_unknown(call);
        return;
    }
    core_record_view(call->engine->core, record, &view);
    bool known = view.state != RECORD_UNKNOWN && view.token == token;
    if (requests_open(call))
        ask(call, (struct asked){.record = known ? record : 0}, what, read_to_retry);
    else if (!call->engine->durable.failing)
        requests_unknown(call);
}
