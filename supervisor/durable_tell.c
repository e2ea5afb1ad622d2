/*
 * durable_tell.c: what clients of durable requests hear: answers and chunks that are stored, the
 * number of one that is accepted, and stored answers that are fetched for who asks again.
 */
#include "supervisor/durable_own.h"

#include "checkpoints/fault.h"

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

/* ---- stored answers ---- */

/* The stored answer is fetched; the request is out of the table meanwhile, and its door waits. */
void durable_retell(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    struct durable_op *op = durable_op_new(engine, JOURNAL_FETCH, action->record);
    op->op.number = action->chunk.number < UINT32_MAX ? (uint32_t)action->chunk.number : UINT32_MAX;
    op->retold = request;
    engine->requests.retold++;
    request->durable.retold = true;
    durable_op_add(engine, op);
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

void durable_fetched(const struct durable_op *op)
{
    if (!op->retold->door)
        return;
    if (op->op.error)
        refuse_retold(op);
    else
        tell_fetched(op);
}
