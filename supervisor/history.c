/*
 * history.c: lifecycle events into the journal, so that the next run, or a person without one, can
 * say what happened.  Owns the operations' texts and one timer.
 *
 * An event is a lazy write: it rides in the commit of whatever comes next, and where nothing comes,
 * the timer has it written with all others of that second.  So events never wait for a disk, delay
 * a durable request by no more than their rows, and wake an idle hasupd once after the last of
 * them.  They never open the journal: until a request is durable they are in memory, and when the
 * journal opens the ring of events is written first.
 */
#include "supervisor/history.h"

#include "supervisor/carry.h"

#include <stdlib.h>

static const hasup_ns COMPANY_WAIT = HASUP_S;

struct history {
    struct engine *engine;
    const struct events *events;
    struct timer timer;
    bool armed;
    bool begun; /* the ring is written; each event is now written as it comes */
};

/* Not the steps in between, nor what clients could fill the journal with. */
static bool is_kept(const char *json, size_t len)
{
    static const char detail[] = "\"level\":\"debug\"", client[] = "\"event\":\"client.";
    return !memmem(json, len, detail, sizeof detail - 1) &&
           !memmem(json, len, client, sizeof client - 1);
}

static void written(void *context, struct journal_op *op)
{
    (void)context;
    (void)op; /* where it failed the journal says so, and the log has the event */
}

static void write_event(struct history *history, int64_t wall_ns, const char *json, size_t len)
{
    char *text = malloc(len);
    struct journal_op *op = text ? durable_ask(JOURNAL_EVENT, written, text) : NULL;
    if (!op) {
        free(text);
        return; /* it is in the log */
    }
    memcpy(text, json, len);
    op->lazy = true;
    op->created_wall_ns = wall_ns;
    op->body = (struct journal_bytes){(const uint8_t *)text, len};
    durable_ask_now(history->engine, op);
}

static void write_line(void *context, int64_t wall_ns, const char *json, size_t len)
{
    if (is_kept(json, len))
        write_event(context, wall_ns, json, len);
}

static void begin(struct history *history)
{
    history->begun = true;
    events_each(history->events, SIZE_MAX, NULL, write_line, history);
}

static void due(void *context)
{
    struct history *history = context;
    history->armed = false;
    if (!history->engine->durable.journal)
        return;
    if (!history->begun)
        begin(history);
    durable_sync_now(history->engine);
}

/* The journal is open now: what happened before is due. */
static void opened(void *context)
{
    struct history *history = context;
    struct loop *loop = history->engine->loop;
    history->armed = timer_set(&history->timer, loop, loop_now(loop) + COMPANY_WAIT) == 0;
}

void history_event(struct history *history, int64_t wall_ns, const char *json, size_t len)
{
    if (!history->engine->durable.journal || !is_kept(json, len))
        return;
    if (history->begun)
        write_event(history, wall_ns, json, len);
    if (!history->armed)
        opened(history);
}

struct history *history_new(struct engine *engine, const struct events *events)
{
    struct history *history = calloc(1, sizeof *history);
    if (!history)
        return NULL;
    history->engine = engine;
    history->events = events;
    history->timer = (struct timer){.due = due, .context = history};
    engine->durable.opened = opened;
    engine->durable.opened_context = history;
    return history;
}

void history_end(struct history *history)
{
    if (history->engine->durable.journal && !history->begun)
        begin(history);
}

void history_free(struct history *history)
{
    if (!history)
        return;
    history->engine->durable.opened = NULL;
    timer_stop(&history->timer);
    free(history);
}

void history_carry(struct carry *carry, struct history *history)
{
    CARRY(carry);
    V(history->begun);
}
