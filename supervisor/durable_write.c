/*
 * durable_write.c: the core's words to the journal, and dead letters, as operations.  What an
 * operation names lives until it is done: with its request, in a kept chunk, or in the operation.
 * Decides nothing.
 */
#include "supervisor/durable_own.h"
#include "supervisor/letters.h"

#include <stdio.h>
#include <stdlib.h>

/* A monotonic time as wall time; 0 stays 0, and what never comes is 0. */
static int64_t wall_of(const struct engine *engine, hasup_ns at)
{
    return at && at != HASUP_NEVER ? loop_wall_now() + (at - loop_now(engine->loop)) : 0;
}

static struct journal_bytes body_of(struct body *body)
{
    const uint8_t *bytes = body->len ? body_bytes(body) : NULL;
    return (struct journal_bytes){bytes, bytes ? body->len : 0};
}

/* ---- what is accepted, and what comes of it ---- */

static void write_accept(struct engine *engine, const struct action *action,
                         struct request *request)
{
    struct durable_op *op = durable_op_new(engine, JOURNAL_ACCEPT, action->record);
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
    durable_op_add(engine, op);
}

static void write_chunk(struct engine *engine, const struct action *action, struct request *request)
{
    const uint8_t *bytes = engine->hand.bytes + action->persist.skip;
    size_t len = engine->hand.len - action->persist.skip;
    const struct hasup_frame *frame = engine->hand.reply.frame;
    bool first = action->persist.number == 1;
    struct journal_bytes meta = {first ? frame->meta : NULL, first ? frame->meta_len : 0};
    size_t progress = first ? 0 : resume_store_room(request, stream_produced(request) - len);
    struct durable_op *op = durable_op_new(engine, JOURNAL_CHUNK, action->record);
    struct kept_chunk *chunk = durable_keep_chunk(request, action->persist.number, meta,
                                                  (struct journal_bytes){bytes, len}, progress);
    if (!chunk)
        abort(); /* as durable_op_new */
    chunk->refs++; /* the operation's */
    op->chunk = chunk;
    op->what = PERSIST_CHUNK;
    op->request = request->id;
    op->op.number = (uint32_t)chunk->number;
    op->op.meta = (struct journal_bytes){chunk->bytes, meta.len};
    op->op.body = (struct journal_bytes){chunk->bytes + meta.len, len};
    if (progress) {
        uint8_t *at = chunk->bytes + meta.len + len;
        op->op.meta = (struct journal_bytes){at, resume_store(request, at, progress)};
    }
    durable_op_add(engine, op);
}

/* How it ended: what RESULT and REFUSAL have in common. */
static struct durable_op *op_end(struct engine *engine, const struct action *action)
{
    struct durable_op *op = durable_op_new(engine, JOURNAL_RESULT, action->record);
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
    durable_op_add(engine, op);
}

static void write_refusal(struct engine *engine, const struct action *action)
{
    struct durable_op *op = op_end(engine, action);
    put_refusal(engine, action, op);
    count_end(engine, action, engine_request(engine, action->request));
    durable_op_add(engine, op);
}

static void write_trim(struct engine *engine, const struct action *action)
{
    struct slot *slot = engine->slots[action->slot];
    struct durable_op *op = durable_op_new(engine, JOURNAL_TRIM, 0);
    snprintf(op->model, sizeof op->model, "%s", slot->model->config->name);
    op->what = PERSIST_TRIM;
    op->op.ordinal = slot->ordinal;
    op->op.position = action->persist.position;
    durable_op_add(engine, op);
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
        op = durable_op_new(
            engine, action->persist.what == PERSIST_DONE ? JOURNAL_DONE : JOURNAL_FORGET,
            action->record);
        op->what = action->persist.what;
        op->request = action->request;
        op->op.lazy = action->persist.lazy;
        durable_op_add(engine, op);
        return;
    case PERSIST_TRIM: write_trim(engine, action); return;
    }
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
    struct durable_op *op = durable_op_new(engine, JOURNAL_LETTER, letter->record);
    uint8_t *at = malloc(letter->reports.len + letter->meta.len + letter->body.len + 1);
    if (!at)
        abort(); /* as durable_op_new */
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
    durable_op_add(engine, op);
}

void durable_lift_letter(struct engine *engine, const uint64_t hash[2])
{
    if (!durable_open(engine, false, NULL))
        return; /* there is no journal, and so no letter */
    struct durable_op *op = durable_op_new(engine, JOURNAL_LIFT, 0);
    memcpy(op->op.hash, hash, sizeof op->op.hash);
    durable_op_add(engine, op);
}
