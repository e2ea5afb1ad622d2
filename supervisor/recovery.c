/*
 * recovery.c: what the journal holds of an earlier run, given back to the core: finished requests
 * by number and key, the logs of slots, and what was accepted and is not finished.  Of the last, as
 * many as the table of requests has room for; the others follow as it empties, and until then their
 * keys are known.  Nothing is thrown away because it is not understood: a request of a model that
 * the configuration does not name stays where it is, and is said.
 */
#include "checkpoints/fault.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"

#include <stdio.h>
#include <stdlib.h>

struct recovering {
    struct engine *engine;
    struct slot *slot; /* of logged ones */
    uint64_t count, strangers;
    uint64_t large, largest; /* those that no room is enough for, and the bytes of one */
    uint64_t last;     /* record */
    uint64_t position; /* of the last logged one */
    bool full;
    int64_t wall;
};

/* Wall time as the loop's; what is past is now. */
static hasup_ns monotonic_of(const struct recovering *recovery, int64_t wall)
{
    hasup_ns now = loop_now(recovery->engine->loop);
    if (!wall)
        return 0;
    return wall > recovery->wall ? now + (wall - recovery->wall) : now + 1;
}

enum refusal refusal_of_status(uint32_t status)
{
    static const enum refusal ALL[] = {REFUSED_DEADLINE, REFUSED_QUARANTINED, REFUSED_DIVERGED,
                                       REFUSED_DROPPED, REFUSED_ANSWER_TOO_LARGE,
                                       REFUSED_INTERRUPTED};
    for (size_t i = 0; i < HASUP_LEN(ALL); i++)
        if (refusal_status(ALL[i]) == status)
            return ALL[i];
    return REFUSED_UNAVAILABLE;
}

static struct event recovered(struct recovering *recovery, const struct journal_row *row,
                              enum recovery what)
{
    struct event event = {.type = EVENT_RECOVERED,
                          .recovered = {.what = what,
                                        .record = row->record,
                                        .token = row->token,
                                        .body = row->body_hash,
                                        .size = row->body.len,
                                        .deadline = monotonic_of(recovery, row->deadline_wall_ns),
                                        .expires = monotonic_of(recovery, row->expires_wall_ns),
                                        .priority = row->priority,
                                        .async = row->flags & JOURNAL_ASYNC,
                                        .refused = row->flags & JOURNAL_REFUSED,
                                        .why = refusal_of_status(row->status),
                                        .attempts = row->attempts,
                                        .batch = row->position - row->batch_place,
                                        .session = engine_session(row->meta.at, row->meta.len),
                                        .batch_key = engine_batch_key(row->meta.at, row->meta.len),
                                        .position = row->position,
                                        .digest = row->digest}};
    if (row->flags & JOURNAL_KEYED)
        durable_key_hash(recovery->engine, row->model, (struct bytes){row->key.at, row->key.len},
                         event.recovered.key);
    return event;
}

/* A request of the table with what the row holds; NULL: no room. */
static struct request *adopt(struct recovering *recovery, const struct journal_row *row,
                             uint32_t model)
{
    struct engine *engine = recovery->engine;
    const struct submission submission = {.model = model,
                                          .priority = row->priority,
                                          .deadline = monotonic_of(recovery, row->deadline_wall_ns),
                                          .meta = row->meta.at,
                                          .meta_len = row->meta.len,
                                          .body = {.bytes = row->body.at, .len = row->body.len}};
    struct request *request = engine_adopt(engine, &submission);
    if (!request)
        return NULL;
    request->durable.async = row->flags & JOURNAL_ASYNC;
    request->durable.record = row->record;
    request->durable.token = row->token;
    return request;
}

static void failed(const char *what, const char *error)
{
    LOG_EVENT(LEVEL_ERROR, "journal.recovery_failed", error, LOG_TEXT("step", what));
}

/* ---- a slot's log ---- */

static bool each_logged(void *context, const struct journal_row *row)
{
    struct recovering *recovery = context;
    recovery->position = row->position;
    if (recovery->full)
        return true; /* only where the log ends matters */
    struct request *request = adopt(recovery, row, recovery->slot->model->index);
    if (!request) {
        recovery->full = true;
        return true;
    }
    request->stateful = true;
    struct event event = recovered(recovery, row, RECOVERY_LOGGED);
    event.request = request->id;
    event.slot = recovery->slot->index;
    engine_post(recovery->engine, &event);
    FAULT(recovery_log);
    return true;
}

void recovery_slot(struct slot *slot)
{
    struct engine *engine = slot->engine;
    const char *model = slot->model->config->name;
    char error[JOURNAL_ERROR];
    uint64_t trimmed = 0;
    if (!engine->durable.journal)
        return;
    int code = journal_trimmed(engine->durable.journal, model, slot->ordinal, &trimmed, error);
    struct recovering recovery = {
        .engine = engine, .slot = slot, .wall = loop_wall_now(), .position = trimmed};
    if (!code && trimmed)
        engine_post(engine,
                    &(struct event){.type = EVENT_RECOVERED,
                                    .slot = slot->index,
                                    .recovered = {.what = RECOVERY_TRIMMED, .position = trimmed}});
    if (!code)
        code = journal_each_logged(engine->durable.journal, model, slot->ordinal, trimmed,
                                   each_logged, &recovery, error);
    if (!code && !recovery.full)
        return;
    failed(slot->name, code ? error : "limits.requests is too small for the slot's log");
    /* Where it could not be read to its end: far above all that may stand there. */
    uint64_t position = recovery.position + (code ? UINT64_C(1) << 32 : 0);
    engine_post(engine, &(struct event){.type = EVENT_RECOVERED,
                                        .slot = slot->index,
                                        .recovered = {.what = RECOVERY_CUT, .position = position}});
}

/* ---- finished ones ---- */

static bool each_finished(void *context, const struct journal_row *row)
{
    struct recovering *recovery = context;
    struct event event = recovered(recovery, row, RECOVERY_FINISHED);
    event.recovered.size = row->stored_bytes;
    recovery->count++;
    if (row->record > recovery->last)
        recovery->last = row->record;
    engine_post(recovery->engine, &event);
    FAULT(recovery_result);
    return true;
}

/* ---- unfinished ones ---- */

struct reading {
    struct engine *engine;
    struct request *request;
};

static bool read_chunk(void *context, uint32_t number, struct journal_bytes meta,
                       struct journal_bytes bytes)
{
    struct reading *reading = context;
    struct request *request = reading->request;
    const struct journal_bytes none = {0};
    if (number > 1)
        resume_recover(reading->engine, request, meta);
    return durable_put_chunk(request, number, number == 1 ? meta : none, bytes) &&
           stream_open(request) == 0 && stream_add(request, bytes.at, bytes.len);
}

/* What of its stream was stored: the bytes that its next run must produce again. */
static void recover_stream(struct engine *engine, struct request *request, struct event *event)
{
    struct reading reading = {engine, request};
    char error[JOURNAL_ERROR];
    int code = journal_each_chunk(engine->durable.journal, event->recovered.record, read_chunk,
                                  &reading, error);
    if (code)
        failed("chunks", error);
    event->recovered.chunks = durable_chunks(request);
    event->recovered.sent = stream_produced(request);
}

/* It would wait for room for ever, and all that come after it.  Its key stays known. */
static void keep_large(struct recovering *recovery, const struct journal_row *row)
{
    struct event event = recovered(recovery, row, RECOVERY_WAITING);
    recovery->large++;
    if (row->body.len > recovery->largest)
        recovery->largest = row->body.len;
    engine_post(recovery->engine, &event);
}

static bool each_unfinished(void *context, const struct journal_row *row)
{
    struct recovering *recovery = context;
    struct engine *engine = recovery->engine;
    if (row->record >= engine->durable.own)
        return false; /* this run accepted it, and it is in the table */
    int model = engine_model(engine, row->model, strlen(row->model));
    recovery->last = row->record;
    if (model < 0) {
        recovery->strangers++;
        return true;
    }
    if (row->body.len > engine->config->limits.body_bytes) {
        keep_large(recovery, row);
        return true;
    }
    struct request *request = adopt(recovery, row, (uint32_t)model);
    if (!request) {
        recovery->full = true;
        recovery->last = row->record - 1;
        return false;
    }
    struct event event = recovered(recovery, row, RECOVERY_REQUEST);
    event.model = (uint32_t)model;
    event.request = request->id;
    event.recovered.once = request->once;
    if (core_wants_hash(engine->core, request->model))
        letters_hash(engine, request, event.recovered.hash);
    recover_stream(engine, request, &event);
    recovery->count++;
    engine_post(engine, &event);
    FAULT(recovery_request);
    return true;
}

/* Its key is known until there is room for it. */
static bool each_waiting(void *context, const struct journal_row *row)
{
    struct recovering *recovery = context;
    struct event event = recovered(recovery, row, RECOVERY_WAITING);
    recovery->count++;
    engine_post(recovery->engine, &event);
    return true;
}

/* A quarter of the table stays free for who comes now. */
static uint64_t room(const struct engine *engine)
{
    uint64_t most = (uint64_t)engine->config->limits.requests * 3 / 4 + 1;
    return most > engine->requests.count ? most - engine->requests.count : 0;
}

static void load_unfinished(struct recovering *recovery)
{
    struct engine *engine = recovery->engine;
    char error[JOURNAL_ERROR];
    uint64_t most = room(engine);
    recovery->last = engine->durable.after;
    int code = most ? journal_each_unfinished(engine->durable.journal, engine->durable.after, most,
                                              each_unfinished, recovery, error)
                    : 0;
    if (code)
        failed("requests", error);
    if (recovery->large)
        LOG_EVENT(LEVEL_ERROR, "journal.too_large",
                  "requests that are larger than limits.body_bytes stay in the journal: restart "
                  "hasupd with a larger one to have them run",
                  LOG_INT("requests", recovery->large), LOG_INT("largest", recovery->largest));
    uint64_t read = recovery->count + recovery->strangers + recovery->large;
    engine->durable.more = !code && (recovery->full || read >= most);
    engine->durable.after = recovery->last;
}

void recovery_go_on(struct engine *engine)
{
    struct recovering recovery = {.engine = engine, .wall = loop_wall_now()};
    if (room(engine) > engine->config->limits.requests / 4)
        load_unfinished(&recovery);
}

/* ---- the start ---- */

void recovery_begin(struct engine *engine)
{
    struct journal_summary summary;
    FAULT(recovery_begin);
    if (!durable_open(engine, false, &summary))
        return;
    FAULT(recovery_marked);
    core_first_record(engine->core, summary.next_record);
    engine->durable.own = summary.next_record;
    if (!summary.created && !summary.clean)
        LOG_EVENT(LEVEL_WARNING, "journal.unclean", "the previous run ended without shutdown",
                  LOG_INT("unfinished", summary.unfinished), LOG_INT("finished", summary.finished),
                  LOG_INT("logged", summary.logged));
}

void recovery_run(struct engine *engine)
{
    struct recovering finished = {.engine = engine, .wall = loop_wall_now()};
    struct recovering requests = finished, waiting = finished;
    char error[JOURNAL_ERROR];
    if (!engine->durable.journal)
        return;
    letters_recover(engine);
    if (journal_each_finished(engine->durable.journal, each_finished, &finished, error))
        failed("results", error);
    load_unfinished(&requests);
    if (engine->durable.more &&
        journal_each_unfinished(engine->durable.journal, engine->durable.after, UINT64_MAX,
                                each_waiting, &waiting, error))
        failed("keys", error);
    if (requests.strangers)
        LOG_EVENT(LEVEL_WARNING, "journal.strangers",
                  "requests of models that the configuration does not name stay in the journal",
                  LOG_INT("requests", requests.strangers));
    if (finished.count + requests.count + waiting.count)
        LOG_EVENT(LEVEL_INFO, "journal.loaded", "what earlier runs accepted goes on",
                  LOG_INT("requests", requests.count + waiting.count),
                  LOG_INT("results", finished.count));
    FAULT(recovery_end);
}
