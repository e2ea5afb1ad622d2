/*
 * durable.c: requests and the journal.  Turns the core's words to the journal into operations,
 * keeps the replies and chunks that wait for them, and turns completions into events.  Opens the
 * journal when it is first needed; where that fails, durable requests are refused and the others go
 * on. Decides nothing.
 */
#include "checkpoints/fault.h"
#include "supervisor/carry.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
#include <xxhash.h>

#define OPEN_RETRY HASUP_S

struct durable_op;
static void op_done(struct engine *engine, struct durable_op *op);

struct held {
    uint32_t status;
    uint32_t meta_len;
    struct body body; /* its bytes stand behind the meta, or in a buffer */
    uint8_t bytes[];
};

struct kept_chunk {
    struct kept_chunk *next; /* of the request */
    uint32_t refs;           /* the request's list and the operation */
    uint64_t number;
    size_t meta_len, len;
    uint8_t bytes[]; /* meta, then the chunk */
};

/* An operation on its way; on the engine's list, so that none is lost at the end. */
struct durable_op {
    struct journal_op op; /* first: the journal's list is of these */
    struct durable_op *next, **back;
    enum persist what;
    uint64_t request;
    char model[STORE_MODEL];
    struct kept_chunk *chunk;
    uint64_t size;                                      /* RESULT: of all that is stored of it */
    void (*done)(void *context, struct journal_op *op); /* of one that is not the core's */
    void *context;                                      /* malloc'ed, or NULL */
    struct request *retold; /* FETCH: who waits for it; its door may be gone meanwhile */
    uint8_t meta[1024];     /* REFUSAL: its words */
    void *owned;            /* LETTER: what it names */
};

/* A monotonic time as wall time; 0 stays 0, and what never comes is 0. */
static int64_t wall_of(const struct engine *engine, hasup_ns at)
{
    return at && at != HASUP_NEVER ? loop_wall_now() + (at - loop_now(engine->loop)) : 0;
}

/* ---- the journal itself ---- */

static void on_wake(void *context)
{
    struct engine *engine = context;
    loop_wake(engine->loop);
}

static void on_bad(void *context, uint64_t record, const char *reason)
{
    (void)context;
    LOG_EVENT(LEVEL_ERROR, "journal.damaged", reason, LOG_INT("record", record));
}

static void journal_failed(struct engine *engine, const char *why)
{
    if (!engine->durable.failing)
        LOG_EVENT(LEVEL_ERROR, "journal.failing", why,
                  LOG_TEXT("effect", "durable requests are refused; the others go on"));
    if (!engine->durable.failing)
        engine->durable.failing_wall_ns = loop_wall_now();
    engine->durable.failing = true;
    snprintf(engine->durable.error, sizeof engine->durable.error, "%s", why);
}

static void journal_works(struct engine *engine)
{
    if (!engine->durable.failing)
        return;
    engine->durable.failing = false;
    noted_recovered(engine);
    LOG_EVENT(LEVEL_INFO, "journal.recovered", "the journal takes requests again",
              LOG_TEXT("file", "journal.db"));
}

/* Opened later than at the start, it may hold what nobody was given back: its numbers and keys
 * would be given twice. */
static bool holds_unknown(const struct journal_summary *summary)
{
    return !summary->created && summary->next_record > 1;
}

bool durable_open(struct engine *engine, bool must, struct journal_summary *summary)
{
    char path[4096], error[JOURNAL_ERROR];
    struct journal_summary late;
    if (engine->durable.journal)
        return true;
    snprintf(path, sizeof path, "%s/journal.db", engine->config->state_dir);
    if (loop_now(engine->loop) < engine->durable.retry || (!must && access(path, F_OK) != 0))
        return false;
    const struct journal_options options = {.path = path,
                                            .events_max = engine->config->events_max,
                                            .events_age = engine->config->events_age,
                                            .letters_max = engine->config->limits.quarantine,
                                            .wake = on_wake,
                                            .bad = on_bad,
                                            .context = engine};
    engine->durable.retry = loop_now(engine->loop) + OPEN_RETRY;
    if (journal_open(&options, &engine->durable.journal, summary ? summary : &late, error)) {
        journal_failed(engine, error);
        return false;
    }
    if (!summary && holds_unknown(&late)) {
        journal_close(engine->durable.journal, late.clean);
        engine->durable.journal = NULL;
        engine->durable.retry = HASUP_NEVER;
        journal_failed(engine, "journal.db could not be read when hasupd started, and now it can: "
                               "restart hasupd to take in what it holds");
        return false;
    }
    if ((summary ? summary : &late)->unwritable)
        journal_failed(engine, error);
    if (engine->durable.opened)
        engine->durable.opened(engine->durable.opened_context);
    return true;
}

/* ---- operations ---- */

static void op_link(struct engine *engine, struct durable_op *op)
{
    op->next = engine->durable.ops;
    op->back = &engine->durable.ops;
    if (op->next)
        op->next->back = &op->next;
    engine->durable.ops = op;
}

static struct durable_op *op_new(struct engine *engine, enum journal_op_kind kind, uint64_t record)
{
    struct durable_op *op = calloc(1, sizeof *op);
    if (!op)
        abort(); /* what the core counts on would never end */
    op->op.kind = kind;
    op->op.record = record;
    op->op.model = op->model;
    op_link(engine, op);
    return op;
}

static void chunk_unref(struct kept_chunk *chunk)
{
    if (chunk && --chunk->refs == 0)
        free(chunk);
}

static void fetched_free(struct journal_op *op)
{
    for (struct journal_chunk *chunk = op->fetched.chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    for (struct journal_listed *row = op->listed.rows, *next; row; row = next) {
        next = row->next;
        free(row);
    }
    free(op->fetched.meta);
    free(op->fetched.body);
    free(op->letter);
}

static void op_free(struct engine *engine, struct durable_op *op)
{
    *op->back = op->next;
    if (op->next)
        op->next->back = op->back;
    chunk_unref(op->chunk);
    fetched_free(&op->op);
    free(op->owned);
    free(op->context);
    if (op->retold) {
        engine->requests.retold--;
        durable_free_request(op->retold);
        free(op->retold);
    }
    free(op);
}

void durable_close(struct engine *engine)
{
    if (journal_close(engine->durable.journal, engine->durable.clean)) {
        LOG_EVENT(LEVEL_ERROR, "journal.failing", "the last of what waited could not be stored",
                  LOG_TEXT("effect", "what was answered is; what was lazy may run again"));
        engine->exit_code = ENGINE_FAILED;
    }
    engine->durable.journal = NULL;
    while (engine->durable.ops)
        op_free(engine, engine->durable.ops);
}

/* Adds it, or fails it where there is no journal. */
static void op_add(struct engine *engine, struct durable_op *op)
{
    if (durable_open(engine, true, NULL)) {
        journal_add(engine->durable.journal, &op->op);
        return;
    }
    op->op.error = HASUP_EIO;
    op_done(engine, op);
}

struct journal_op *durable_ask(enum journal_op_kind kind,
                               void (*done)(void *context, struct journal_op *op), void *context)
{
    struct durable_op *op = calloc(1, sizeof *op);
    if (!op)
        return NULL;
    op->op.kind = kind;
    op->done = done;
    op->context = context;
    return &op->op;
}

void durable_ask_now(struct engine *engine, struct journal_op *op)
{
    op_link(engine, (struct durable_op *)op);
    op_add(engine, (struct durable_op *)op);
}

/* ---- what is written ---- */

static struct journal_bytes body_of(struct body *body)
{
    const uint8_t *bytes = body->len ? body_bytes(body) : NULL;
    return (struct journal_bytes){bytes, bytes ? body->len : 0};
}

static void write_accept(struct engine *engine, const struct action *action,
                         struct request *request)
{
    struct durable_op *op = op_new(engine, JOURNAL_ACCEPT, action->record);
    snprintf(op->model, sizeof op->model, "%s", engine->models[request->model].config->name);
    request->durable.record = action->record;
    op->what = PERSIST_ACCEPT;
    op->request = request->id;
    op->op.token = request->durable.token;
    op->op.body_hash = request->durable.body_hash;
    op->op.flags = (request->durable.async ? JOURNAL_ASYNC : 0) |
                   (request->durable.key.len ? JOURNAL_KEYED : 0);
    op->op.priority = request->durable.priority;
    op->op.created_wall_ns = loop_wall_now();
    op->op.deadline_wall_ns = wall_of(engine, request->deadline);
    op->op.key = (struct journal_bytes){request->durable.key.at, request->durable.key.len};
    op->op.meta = (struct journal_bytes){request->bytes, request->meta_len};
    op->op.body = body_of(&request->body);
    op_add(engine, op);
}

static void write_chunk(struct engine *engine, const struct action *action, struct request *request)
{
    const uint8_t *bytes = engine->hand.bytes + action->persist.skip;
    size_t len = engine->hand.len - action->persist.skip;
    const struct hasup_frame *frame = engine->hand.reply.frame;
    size_t meta_len = action->persist.number == 1 ? frame->meta_len : 0;
    size_t progress = action->persist.number == 1
                          ? 0
                          : resume_store_room(request, stream_produced(request) - len);
    struct durable_op *op = op_new(engine, JOURNAL_CHUNK, action->record);
    struct kept_chunk *chunk = malloc(sizeof *chunk + meta_len + len + progress);
    if (!chunk)
        abort();
    *chunk = (struct kept_chunk){
        .refs = 2, .number = action->persist.number, .meta_len = meta_len, .len = len};
    if (meta_len)
        memcpy(chunk->bytes, frame->meta, meta_len);
    memcpy(chunk->bytes + meta_len, bytes, len);
    if (request->durable.last)
        request->durable.last->next = chunk;
    else
        request->durable.first = chunk;
    request->durable.last = chunk;
    op->chunk = chunk;
    op->what = PERSIST_CHUNK;
    op->request = request->id;
    op->op.number = (uint32_t)chunk->number;
    op->op.meta = (struct journal_bytes){chunk->bytes, meta_len};
    op->op.body = (struct journal_bytes){chunk->bytes + meta_len, len};
    if (progress) {
        uint8_t *at = chunk->bytes + meta_len + len;
        op->op.meta = (struct journal_bytes){at, resume_store(request, at, progress)};
    }
    op_add(engine, op);
}

/* How it ended: what RESULT and REFUSAL have in common. */
static struct durable_op *op_end(struct engine *engine, const struct action *action)
{
    struct durable_op *op = op_new(engine, JOURNAL_RESULT, action->record);
    op->what = action->persist.what;
    op->op.attempts = action->persist.attempts;
    op->op.finished_wall_ns = loop_wall_now();
    op->op.expires_wall_ns = wall_of(engine, action->persist.expires);
    return op;
}

/* What its client was told instead of an answer. */
static void put_refusal(struct engine *engine, const struct action *action, struct durable_op *op)
{
    const struct request *request = engine_request(engine, action->request);
    const char *code = refusal_code(action->persist.why);
    char quarantined[ENGINE_REASON];
    const char *text = action->persist.why == REFUSED_QUARANTINED && request
                           ? letters_message(engine, request->hash, quarantined)
                           : refusal_message(action->persist.why);
    struct hasup_meta_writer w;
    hasup_meta_start(&w, op->meta, sizeof op->meta);
    hasup_meta_put(&w, HASUP_TAG_CODE, code, strlen(code));
    hasup_meta_put(&w, HASUP_TAG_ERROR, text, strlen(text));
    op->op.status = refusal_status(action->persist.why);
    op->op.flags = JOURNAL_REFUSED;
    op->op.meta = (struct journal_bytes){op->meta, w.used};
}

static void put_answer(const struct request *request, struct durable_op *op)
{
    struct held *held = request->durable.held;
    op->op.status = held->status;
    op->op.flags = request->durable.first ? JOURNAL_STREAMED : 0;
    op->op.number = (uint32_t)durable_chunks(request);
    op->op.meta = (struct journal_bytes){held->bytes, held->meta_len};
    op->op.body = body_of(&held->body);
    op->size = op->op.meta.len + op->op.body.len;
    for (const struct kept_chunk *chunk = request->durable.first; chunk; chunk = chunk->next)
        op->size += chunk->meta_len + chunk->len;
}

/* Whose client comes back for it. */
static void count_end(struct engine *engine, const struct action *action, struct request *request)
{
    bool refused = action->persist.refused || action->persist.what == PERSIST_REFUSAL;
    if (!request || request->door)
        return;
    if (refused)
        stats_ended(engine, request, STATS_REFUSED, action->persist.why);
    else
        stats_answered(engine, request, request->durable.held->status);
}

static void write_result(struct engine *engine, const struct action *action,
                         struct request *request)
{
    struct durable_op *op = op_end(engine, action);
    snprintf(op->model, sizeof op->model, "%s", engine->models[request->model].config->name);
    op->request = request->id;
    if (action->persist.refused)
        put_refusal(engine, action, op);
    else
        put_answer(request, op);
    count_end(engine, action, request);
    if (action->persist.position)
        op->op.ordinal = engine->slots[action->slot]->ordinal;
    op->op.position = action->persist.position;
    op->op.batch_place = (uint32_t)(action->persist.position - action->persist.batch);
    op->op.digest = action->persist.digest;
    op_add(engine, op);
}

static void write_refusal(struct engine *engine, const struct action *action)
{
    struct durable_op *op = op_end(engine, action);
    put_refusal(engine, action, op);
    count_end(engine, action, engine_request(engine, action->request));
    op_add(engine, op);
}

static void write_trim(struct engine *engine, const struct action *action)
{
    struct slot *slot = engine->slots[action->slot];
    struct durable_op *op = op_new(engine, JOURNAL_TRIM, 0);
    snprintf(op->model, sizeof op->model, "%s", slot->model->config->name);
    op->what = PERSIST_TRIM;
    op->op.ordinal = slot->ordinal;
    op->op.position = action->persist.position;
    op_add(engine, op);
}

void durable_persist(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    struct durable_op *op;
    switch (action->persist.what) {
    case PERSIST_ACCEPT: write_accept(engine, action, request); return;
    case PERSIST_CHUNK: write_chunk(engine, action, request); return;
    case PERSIST_RESULT: write_result(engine, action, request); return;
    case PERSIST_REFUSAL: write_refusal(engine, action); return;
    case PERSIST_DONE:
        if (request && !request->door) /* its client left, or hasupd died meanwhile */
            stats_answered(engine, request, engine->hand.reply.status);
        /* fall through */
    case PERSIST_FORGET:
        op = op_new(engine, action->persist.what == PERSIST_DONE ? JOURNAL_DONE : JOURNAL_FORGET,
                    action->record);
        op->what = action->persist.what;
        op->request = action->request;
        op->op.lazy = action->persist.lazy;
        op_add(engine, op);
        return;
    case PERSIST_TRIM: write_trim(engine, action); return;
    }
}

void durable_sync_now(struct engine *engine)
{
    if (engine->durable.journal)
        journal_sync(engine->durable.journal);
}

/* ---- dead letters ---- */

static struct journal_bytes put(uint8_t **at, struct journal_bytes from)
{
    struct journal_bytes put = {*at, from.len};
    if (from.len)
        memcpy(*at, from.at, from.len);
    *at += from.len;
    return put;
}

void durable_write_letter(struct engine *engine, const struct journal_letter *letter)
{
    struct durable_op *op = op_new(engine, JOURNAL_LETTER, letter->record);
    uint8_t *at = malloc(letter->reports.len + letter->meta.len + letter->body.len + 1);
    if (!at)
        abort(); /* as op_new */
    op->owned = at;
    snprintf(op->model, sizeof op->model, "%s", letter->model);
    memcpy(op->op.hash, letter->hash, sizeof op->op.hash);
    op->op.attempts = letter->attempts;
    op->op.flags = letter->flags;
    op->op.priority = letter->priority;
    op->op.created_wall_ns = letter->created_wall_ns;
    op->op.expires_wall_ns = letter->expires_wall_ns;
    op->op.reports = put(&at, letter->reports);
    op->op.meta = put(&at, letter->meta);
    op->op.body = put(&at, letter->body);
    op_add(engine, op);
}

void durable_lift_letter(struct engine *engine, const uint64_t hash[2])
{
    if (!durable_open(engine, false, NULL))
        return; /* there is no journal, and so no letter */
    struct durable_op *op = op_new(engine, JOURNAL_LIFT, 0);
    memcpy(op->op.hash, hash, sizeof op->op.hash);
    op_add(engine, op);
}

/* ---- what is kept until it is written ---- */

static void held_free(struct held *held)
{
    if (held && held->body.buffer)
        buffer_unref(held->body.buffer);
    free(held);
}

void durable_hold(struct engine *engine, uint64_t id)
{
    struct request *request = engine_request(engine, id);
    const struct reply *reply = &engine->hand.reply;
    size_t copied = reply->body.buffer ? 0 : (size_t)reply->body.len;
    struct held *held = malloc(sizeof *held + reply->frame->meta_len + copied);
    if (!held)
        abort(); /* an answer would be lost */
    *held = (struct held){
        .status = reply->status, .meta_len = reply->frame->meta_len, .body = reply->body};
    if (held->meta_len)
        memcpy(held->bytes, reply->frame->meta, held->meta_len);
    if (held->body.buffer)
        buffer_ref(held->body.buffer);
    else if (copied)
        memcpy(held->bytes + held->meta_len, reply->body.bytes, copied);
    if (!held->body.buffer)
        held->body.bytes = held->bytes + held->meta_len;
    held_free(request->durable.held);
    request->durable.held = held;
}

bool durable_put_chunk(struct request *request, uint64_t number, struct journal_bytes meta,
                       struct journal_bytes bytes)
{
    struct kept_chunk *chunk = malloc(sizeof *chunk + meta.len + bytes.len);
    if (!chunk)
        return false;
    *chunk =
        (struct kept_chunk){.refs = 1, .number = number, .meta_len = meta.len, .len = bytes.len};
    if (meta.len)
        memcpy(chunk->bytes, meta.at, meta.len);
    if (bytes.len)
        memcpy(chunk->bytes + meta.len, bytes.at, bytes.len);
    *(request->durable.last ? &request->durable.last->next : &request->durable.first) = chunk;
    request->durable.last = chunk;
    return true;
}

size_t durable_sent(const struct request *request, uint8_t *bytes)
{
    size_t len = 0;
    for (const struct kept_chunk *chunk = request->durable.first; chunk; chunk = chunk->next) {
        if (bytes && chunk->len)
            memcpy(bytes + len, chunk->bytes + chunk->meta_len, chunk->len);
        len += chunk->len;
    }
    return len;
}

uint64_t durable_chunks(const struct request *request)
{
    return request->durable.last ? request->durable.last->number : 0;
}

void durable_release(struct request *request)
{
    while (request->durable.first) {
        struct kept_chunk *chunk = request->durable.first;
        request->durable.first = chunk->next;
        chunk_unref(chunk);
    }
    held_free(request->durable.held);
    request->durable.last = NULL;
    request->durable.held = NULL;
}

void durable_free_request(struct request *request)
{
    durable_release(request);
    free((void *)(uintptr_t)request->durable.key.at);
    request->durable.key = (struct bytes){0};
}

/* ---- what clients hear ---- */

void durable_answer(struct engine *engine, struct request *request, const struct action *action)
{
    const struct request *of = engine_request(engine, action->answer.of);
    struct held *held = of->durable.held;
    const struct door *door = request->door;
    struct hasup_frame frame = {
        .type = HASUP_REPLY, .meta = held->bytes, .meta_len = held->meta_len, .fd = -1};
    const struct reply reply = {.status = held->status,
                                .frame = &frame,
                                .body = held->body,
                                .attempts = action->answer.attempts,
                                .version = of->version,
                                .record = of->durable.record};
    request->door = NULL;
    stats_answered(engine, request, held->status);
    FAULT(answer_before_told);
    door->reply(request->context, &reply);
    FAULT(answer_after_told);
}

static void tell_chunk(const struct request *to, const struct reply *of, uint64_t number,
                       struct journal_bytes meta, struct journal_bytes bytes)
{
    struct hasup_frame frame = {.type = HASUP_CHUNK,
                                .seq = (uint32_t)(number - 1),
                                .meta = meta.at,
                                .meta_len = (uint32_t)meta.len,
                                .fd = -1};
    struct reply head = *of;
    head.status = 200;
    head.frame = &frame;
    FAULT(chunk_before_told);
    to->door->chunk(to->context, &head, bytes.at, bytes.len);
    FAULT(chunk_after_told);
}

void durable_chunk(struct engine *engine, struct request *request, const struct action *action)
{
    const struct request *of = engine_request(engine, action->chunk.of);
    const struct kept_chunk *first = of->durable.first, *chunk = of->durable.last;
    if (!chunk || chunk->number != action->chunk.number)
        for (chunk = first; chunk && chunk->number != action->chunk.number; chunk = chunk->next)
            continue;
    if (!chunk)
        return;
    /* The meta of the first speaks of the whole: a client that comes later hears it, too. */
    tell_chunk(request, &(struct reply){.record = of->durable.record, .version = of->version},
               chunk->number,
               (struct journal_bytes){first->bytes, first->meta_len},
               (struct journal_bytes){chunk->bytes + chunk->meta_len, chunk->len});
}

void durable_record_id(uint64_t record, uint64_t token, char id[RECORD_ID + 1])
{
    snprintf(id, RECORD_ID + 1, "%016llx%016llx", (unsigned long long)record,
             (unsigned long long)token);
}

void durable_accepted(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    struct record_view view;
    char id[RECORD_ID + 1];
    if (!request || !request->door || !request->durable.async)
        return;
    core_record_view(engine->core, action->record, &view);
    durable_record_id(action->record, view.token, id);
    const struct door *door = request->door;
    request->door = NULL;
    FAULT(accepted_before_told);
    door->accepted(request->context, id);
    FAULT(accepted_after_told);
}

/* The stored answer is fetched; the request is out of the table meanwhile, and its door waits. */
void durable_retell(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    struct durable_op *op = op_new(engine, JOURNAL_FETCH, action->record);
    op->op.number = action->chunk.number < UINT32_MAX ? (uint32_t)action->chunk.number : UINT32_MAX;
    op->retold = request;
    engine->requests.retold++;
    request->durable.retold = true;
    op_add(engine, op);
}

static void refuse_retold(const struct durable_op *op)
{
    bool io = op->op.error != HASUP_ENOTFOUND && op->op.error != HASUP_ECORRUPT;
    enum refusal why = io ? REFUSED_NOT_DURABLE : REFUSED_NOT_FOUND;
    struct refusal_text text = {.why = why,
                                .status = refusal_status(why),
                                .code = refusal_code(why),
                                .message = io ? "the journal cannot be read now, which has the "
                                                "answer; hasupctl status says why"
                                              : "the stored answer is damaged or gone; under "
                                                "another idempotency key the request runs anew",
                                .retry_after = io ? HASUP_S : 0};
    struct request *request = op->retold;
    if (!io)
        LOG_EVENT(LEVEL_ERROR, "journal.result_lost",
                  "a stored answer is damaged or missing; its client was told 404",
                  LOG_INT("record", op->op.record));
    request->door->refuse(request->context, &text);
}

static void tell_fetched(const struct durable_op *op)
{
    struct request *request = op->retold;
    const struct journal_op *got = &op->op;
    const struct door *door = request->door;
    struct journal_bytes meta = {0};
    for (struct journal_chunk *chunk = got->fetched.chunks; chunk && request->door;
         chunk = chunk->next) {
        if (chunk->number == 1) /* that of a later one is for the next run only */
            meta = (struct journal_bytes){chunk->bytes, chunk->meta_len};
        tell_chunk(request,
                   &(struct reply){.record = got->record, .attempts = got->fetched.attempts},
                   chunk->number, meta,
                   (struct journal_bytes){chunk->bytes + chunk->meta_len, chunk->len});
    }
    if (!request->door)
        return; /* it left inside a callback */
    struct hasup_frame frame = {.type = HASUP_REPLY,
                                .meta = got->fetched.meta,
                                .meta_len = (uint32_t)got->fetched.meta_len,
                                .fd = -1};
    const struct reply reply = {.status = got->fetched.status,
                                .frame = &frame,
                                .body = {.bytes = got->fetched.body, .len = got->fetched.body_len},
                                .attempts = got->fetched.attempts,
                                .record = got->record};
    request->door = NULL;
    FAULT(retell_before);
    door->reply(request->context, &reply);
    FAULT(retell_after);
}

/* ---- completions ---- */

static void op_done(struct engine *engine, struct durable_op *op)
{
    int error = op->op.error;
    if (op->op.commit_ns)
        histogram_add(&engine->durable.commits, op->op.commit_ns);
    if (op->op.kind == JOURNAL_EVENT && error && engine->durable.journal)
        journal_failed(engine, journal_last_error(engine->durable.journal));
    else if (op->op.kind == JOURNAL_EVENT && !error)
        journal_works(engine);
    if (op->done) {
        op->done(op->context, &op->op);
        op_free(engine, op);
        return;
    }
    if (op->op.kind == JOURNAL_FETCH) {
        if (op->retold->door && error)
            refuse_retold(op);
        else if (op->retold->door)
            tell_fetched(op);
    } else if (error == HASUP_ENOTFOUND) {
        LOG_EVENT(LEVEL_ERROR, "journal.row_missing",
                  "a request's row is gone; its answer is given but not stored",
                  LOG_INT("record", op->op.record));
        error = 0;
    }
    if (op->op.kind != JOURNAL_FETCH && error && engine->durable.journal)
        journal_failed(engine, journal_last_error(engine->durable.journal));
    else if (op->op.kind != JOURNAL_FETCH && !error)
        journal_works(engine);
    bool waited = op->op.kind == JOURNAL_ACCEPT || op->op.kind == JOURNAL_CHUNK ||
                  op->op.kind == JOURNAL_DONE || op->what == PERSIST_RESULT;
    struct event event = {.type = EVENT_PERSISTED,
                          .request = op->request,
                          .persisted = {.what = op->what, .error = error, .size = op->size}};
    op_free(engine, op);
    if (waited)
        engine_post(engine, &event);
}

void durable_completed(struct engine *engine)
{
    struct journal_op *next;
    if (!engine->durable.journal)
        return;
    for (struct journal_op *op = journal_take(engine->durable.journal); op; op = next) {
        next = op->next;
        op_done(engine, (struct durable_op *)op);
    }
}

bool durable_flush(struct engine *engine)
{
    return engine->durable.journal && journal_flush(engine->durable.journal);
}

/* ---- keys and numbers ---- */

void durable_key_hash(const struct engine *engine, const char *model, struct bytes key,
                      uint64_t hash[2])
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        abort();
    XXH3_128bits_reset_withSeed(state, engine->durable.seed);
    XXH3_128bits_update(state, model, strlen(model) + 1);
    XXH3_128bits_update(state, key.at, key.len);
    XXH128_hash_t got = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    hash[0] = got.low64 | 1; /* 0, 0 is no key */
    hash[1] = got.high64;
}

bool durable_id_read(const char *id, size_t len, uint64_t *record, uint64_t *token)
{
    char text[RECORD_ID + 1];
    unsigned long long first, second;
    if (len != RECORD_ID)
        return false;
    memcpy(text, id, RECORD_ID);
    text[RECORD_ID] = '\0';
    if (strspn(text, "0123456789abcdef") != RECORD_ID ||
        sscanf(text, "%16llx%16llx", &first, &second) != 2)
        return false;
    *record = first;
    *token = second;
    return true;
}

/* The record of a public number that is known; 0: there is none. */
static uint64_t record_of(const struct engine *engine, const char *id, size_t len,
                          struct record_view *view)
{
    uint64_t record, token;
    if (!durable_id_read(id, len, &record, &token))
        return 0;
    core_record_view(engine->core, record, view);
    return view->state != RECORD_UNKNOWN && view->token == token ? record : 0;
}

int engine_ask(struct engine *engine, const char *id, size_t len, const struct submission *s,
               struct request **out)
{
    struct record_view view;
    uint64_t record = record_of(engine, id, len, &view);
    if (!record)
        return HASUP_ENOTFOUND;
    struct request *request = engine_adopt(engine, s);
    if (!request)
        return HASUP_EFULL;
    request->door = s->door;
    request->context = s->context;
    request->counted = true; /* it asks for another one's end */
    *out = request;
    engine_post(engine, &(struct event){.type = EVENT_SUBMITTED,
                                        .request = request->id,
                                        .submitted = {.record = record,
                                                      .deadline = s->deadline,
                                                      .heard = s->heard,
                                                      .heard_of = s->heard_of}});
    return 0;
}

int engine_record(const struct engine *engine, const char *id, size_t len, struct record_info *info)
{
    struct record_view view;
    if (!record_of(engine, id, len, &view))
        return HASUP_ENOTFOUND;
    bool live = view.state == RECORD_QUEUED || view.state == RECORD_RUNNING;
    *info = (struct record_info){.state = view.state,
                                 .model = live ? engine->models[view.model].config->name : "",
                                 .attempts = view.attempts,
                                 .why = view.why};
    return 0;
}

int engine_drop(struct engine *engine, const char *id, size_t len)
{
    struct record_view view;
    uint64_t record = record_of(engine, id, len, &view);
    if (!record)
        return HASUP_ENOTFOUND;
    engine_post(engine, &(struct event){.type = EVENT_DROPPED, .record = record});
    return 0;
}

/* ---- to another hasupd ---- */

const char *durable_holds(struct engine *engine)
{
    if (engine->durable.more)
        return "what an earlier run left in the journal is being taken in";
    if (!engine->durable.ops)
        return NULL;
    durable_sync_now(engine); /* lazy ones wait for company, which is this */
    loop_again(engine->loop);
    return "the journal is being written";
}

static void held_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    struct held *held = request->durable.held;
    bool there = held;
    V(there);
    if (!there)
        return;
    const uint8_t *meta = codec->loading ? NULL : held->bytes;
    size_t meta_len = codec->loading ? 0 : held->meta_len;
    struct body body = codec->loading ? (struct body){0} : held->body;
    codec_bytes(codec, &meta, &meta_len);
    size_t len = body.buffer ? 0 : (size_t)body.len;
    const uint8_t *bytes = body.bytes;
    codec_bytes(codec, &bytes, &len);
    carry_buffer(carry, &body.buffer);
    V(body.offset);
    V(body.len);
    if (codec->loading && !(held = malloc(sizeof *held + meta_len + len)))
        codec_fail(codec);
    if (!codec->loading || !held)
        return;
    *held = (struct held){.meta_len = (uint32_t)meta_len, .body = body};
    if (meta_len)
        memcpy(held->bytes, meta, meta_len);
    if (len)
        memcpy(held->bytes + meta_len, bytes, len);
    if (body.buffer)
        buffer_ref(body.buffer);
    else
        held->body = (struct body){.bytes = held->bytes + meta_len, .len = len};
    request->durable.held = held;
}

static void chunks_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    uint64_t count = 0;
    struct kept_chunk *chunk = request->durable.first;
    for (struct kept_chunk *at = chunk; at && !codec->loading; at = at->next)
        count++;
    V(count);
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        struct journal_bytes meta = {0}, bytes = {0};
        uint64_t number = 0;
        if (!codec->loading) {
            number = chunk->number;
            meta = (struct journal_bytes){chunk->bytes, chunk->meta_len};
            bytes = (struct journal_bytes){chunk->bytes + chunk->meta_len, chunk->len};
            chunk = chunk->next;
        }
        V(number);
        codec_bytes(codec, &meta.at, &meta.len);
        codec_bytes(codec, &bytes.at, &bytes.len);
        if (codec->loading && !durable_put_chunk(request, number, meta, bytes))
            codec_fail(codec);
    }
}

void durable_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    uint8_t *key = (uint8_t *)(uintptr_t)request->durable.key.at;
    size_t key_len = request->durable.key.len;
    V(request->durable.async);
    V(request->durable.record);
    V(request->durable.token);
    V(request->durable.body_hash);
    V(request->durable.priority);
    carry_block(carry, &key, &key_len, 0);
    if (codec->loading)
        request->durable.key = (struct bytes){key, key_len};
    uint32_t status = request->durable.held ? request->durable.held->status : 0;
    V(status);
    held_carry(carry, request);
    if (codec->loading && request->durable.held)
        request->durable.held->status = status;
    chunks_carry(carry, request);
}
