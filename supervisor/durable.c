/*
 * durable.c: the journal, and the operations that are on their way to it.  Opens it when it is
 * first needed; where that fails, durable requests are refused and the others go on.  Turns
 * completions into events.  What is written stands in durable_write.c, what is kept until it is in
 * durable_kept.c, what clients hear in durable_tell.c.  Decides nothing.
 */
#include "supervisor/durable_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_RETRY HASUP_S

static void op_done(struct engine *engine, struct durable_op *op);

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
    if (!engine->config->state_dir)
        return false; /* nothing is kept, as the configuration says */
    snprintf(path, sizeof path, "%s/journal.db", engine->config->state_dir);
    if (loop_now(engine->loop) < engine->durable.retry || (!must && access(path, F_OK) != 0))
        return false;
    const struct journal_options options = {.path = path,
                                            .events_max = engine->config->events_max,
                                            .events_age = engine->config->events_age,
                                            .letters_max = engine->config->limits.quarantine,
                                            .goes_on = summary && engine->durable.was_open,
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

void durable_go_on(struct engine *engine)
{
    char path[4096];
    struct stat now;
    struct journal_summary summary; /* what is there is in the core already */
    snprintf(path, sizeof path, "%s/journal.db", engine->config->state_dir);
    const bool gone = stat(path, &now) != 0;
    const bool same = !gone && now.st_dev == engine->durable.device &&
                      now.st_ino == engine->durable.inode;
    if (same || !engine->durable.inode) {
        (void)durable_open(engine, false, &summary);
    } else if (gone) {
        journal_failed(engine, "journal.db was removed while hasupd ran: what it held is lost");
    } else {
        engine->durable.retry = HASUP_NEVER;
        journal_failed(engine, "journal.db was replaced while hasupd ran: restart hasupd to take "
                               "in what it holds");
    }
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

struct durable_op *durable_op_new(struct engine *engine, enum journal_op_kind kind, uint64_t record)
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
    durable_chunk_unref(op->chunk);
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

void durable_op_add(struct engine *engine, struct durable_op *op)
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
    durable_op_add(engine, (struct durable_op *)op);
}

/* ---- completions ---- */

static void journal_answered(struct engine *engine, int error)
{
    if (!error)
        journal_works(engine);
    else if (engine->durable.journal)
        journal_failed(engine, journal_last_error(engine->durable.journal));
}

/* One that the core asked for. */
static void persist_done(struct engine *engine, struct durable_op *op)
{
    int error = op->op.error;
    if (error == HASUP_ENOTFOUND) {
        LOG_EVENT(LEVEL_ERROR, "journal.row_missing",
                  "a request's row is gone; its answer is given but not stored",
                  LOG_INT("record", op->op.record));
        error = 0;
    }
    journal_answered(engine, error);
    bool waited = op->op.kind == JOURNAL_ACCEPT || op->op.kind == JOURNAL_CHUNK ||
                  op->op.kind == JOURNAL_DONE || op->what == PERSIST_RESULT;
    struct event event = {.type = EVENT_PERSISTED,
                          .request = op->request,
                          .persisted = {.what = op->what, .error = error, .size = op->size}};
    op_free(engine, op);
    if (waited)
        engine_post(engine, &event);
}

static void op_done(struct engine *engine, struct durable_op *op)
{
    if (op->op.commit_ns)
        histogram_add(&engine->durable.commits, op->op.commit_ns);
    if (op->op.kind == JOURNAL_EVENT)
        journal_answered(engine, op->op.error);
    if (!op->done && op->op.kind != JOURNAL_FETCH) {
        persist_done(engine, op);
        return;
    }
    if (op->done)
        op->done(op->context, &op->op);
    else
        durable_fetched(op);
    op_free(engine, op);
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

void durable_sync_now(struct engine *engine)
{
    if (engine->durable.journal)
        journal_sync(engine->durable.journal);
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
