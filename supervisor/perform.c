/*
 * perform.c: the core's actions, one function each.  Also the words of a refusal and the log line
 * of a notice.  Performs in the order given and decides nothing: what cannot be done comes back as
 * an event.
 */
#include "supervisor/death.h"
#include "supervisor/engine.h"
#include "supervisor/letters.h"

#include <stdio.h>
#include <stdlib.h>

uint32_t refusal_status(enum refusal why)
{
    switch (why) {
    case REFUSED_NOT_FOUND: return 404;
    case REFUSED_OVERLOADED: return 429;
    case REFUSED_UNAVAILABLE: return 503;
    case REFUSED_DEADLINE: return 504;
    case REFUSED_QUARANTINED: return 422;
    case REFUSED_DIVERGED: return 500;
    case REFUSED_NOT_DURABLE: return 503;
    case REFUSED_KEY_REUSED: return 422;
    case REFUSED_IN_PROGRESS: return 409;
    case REFUSED_DROPPED: return 410;
    case REFUSED_GONE: return 410;
    case REFUSED_TOO_LARGE: return 413;
    case REFUSED_LATE:
    case REFUSED_RATE: return 429;
    case REFUSED_ANSWER_TOO_LARGE: return 507;
    case REFUSED_INTERRUPTED: return 502;
    }
    return 500;
}

const char *refusal_code(enum refusal why)
{
    switch (why) {
    case REFUSED_NOT_FOUND: return "not_found";
    case REFUSED_OVERLOADED: return "overloaded";
    case REFUSED_UNAVAILABLE: return "unavailable";
    case REFUSED_DEADLINE: return "deadline";
    case REFUSED_QUARANTINED: return "quarantined";
    case REFUSED_DIVERGED: return "diverged";
    case REFUSED_NOT_DURABLE: return "unavailable";
    case REFUSED_KEY_REUSED: return "key_reused";
    case REFUSED_IN_PROGRESS: return "in_progress";
    case REFUSED_DROPPED: return "dropped";
    case REFUSED_GONE: return "gone";
    case REFUSED_TOO_LARGE: return "too_large";
    case REFUSED_LATE:
    case REFUSED_RATE: return "overloaded";
    case REFUSED_ANSWER_TOO_LARGE: return "answer_too_large";
    case REFUSED_INTERRUPTED: return "interrupted";
    }
    return "worker_error";
}

const char *refusal_message(enum refusal why)
{
    switch (why) {
    case REFUSED_NOT_FOUND: return "there is no such model";
    case REFUSED_OVERLOADED:
        return "the model's queue is full; try again after Retry-After seconds";
    case REFUSED_UNAVAILABLE:
        return "the model serves nothing now (hasupd stops, or it is stopped, draining or its "
               "workers cannot start); "
               "hasupctl status says why";
    case REFUSED_DEADLINE: return "the request's deadline passed before its answer was there";
    case REFUSED_QUARANTINED:
        return "the workers that ran this request died; its body is not tried again";
    case REFUSED_DIVERGED:
        return "the worker died in the middle of the stream and its second run differs from what "
               "was already sent";
    case REFUSED_NOT_DURABLE:
        return "the journal cannot be written now, so the request was not accepted; hasupctl "
               "status "
               "says why";
    case REFUSED_KEY_REUSED: return "the idempotency key was used for a request with another body";
    case REFUSED_IN_PROGRESS:
        return "the request with this idempotency key still runs; ask again, or without wait=0";
    case REFUSED_DROPPED: return "the request was dropped";
    case REFUSED_GONE:
        return "the stream that Last-Event-ID belongs to is not kept any more: it was refused or "
               "dropped, or its time is over; begin it anew, without Last-Event-ID";
    case REFUSED_LATE:
        return "too much waits: the answer would come after the deadline; try again after "
               "Retry-After seconds, or with more time (X-Request-Timeout)";
    case REFUSED_RATE:
        return "requests come faster than the model's limit of rate allows; try again after "
               "Retry-After seconds";
    case REFUSED_TOO_LARGE:
        return "the body is longer than a durable request's may be (journal.body_max); without an "
               "idempotency key and respond-async it need not be durable";
    case REFUSED_ANSWER_TOO_LARGE:
        return "the request ran, and its answer is longer than the journal may keep "
               "(journal.body_max)";
    case REFUSED_INTERRUPTED:
        return "its worker died with it in hand, and it may have taken effect; it was not run "
               "again because it is neither a GET, nor bears an Idempotency-Key, nor is listed in "
               "the model's adapter.idempotent";
    }
    return "refused";
}

/* ---- answers ---- */

static void perform_answer(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    if (!request || !request->door)
        return;
    if (action->answer.of) {
        durable_answer(engine, request, action);
        return;
    }
    const struct door *door = request->door;
    engine->hand.reply.attempts = action->answer.attempts;
    request->door = NULL;
    stats_answered(engine, request, engine->hand.reply.status);
    request_keep_body(engine, request);
    door->reply(request->context, &engine->hand.reply);
}

static void perform_chunk(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    if (!request || !request->door)
        return;
    if (action->chunk.of) {
        durable_chunk(engine, request, action);
        return;
    }
    const size_t skip = (size_t)action->chunk.skip;
    if (skip <= engine->hand.len)
        request->door->chunk(request->context, &engine->hand.reply, engine->hand.bytes + skip,
                             engine->hand.len - skip);
}

static void perform_refuse(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    if (!request || !request->door)
        return;
    const struct door *door = request->door;
    enum refusal why = action->refuse.why;
    char quarantined[ENGINE_REASON];
    struct refusal_text text = {.why = why,
                                .status = refusal_status(why),
                                .code = refusal_code(why),
                                .message = refusal_message(why),
                                .retry_after = action->refuse.retry_after,
                                .attempts = action->refuse.attempts};
    if (why == REFUSED_QUARANTINED)
        text.message = letters_message(engine, request->hash, quarantined);
    if (why == REFUSED_NOT_DURABLE && !engine->config->state_dir) {
        text.message = "nothing is durable here: hasupd's configuration has state_dir: off; the "
                       "request was not accepted, and is without Idempotency-Key and "
                       "Prefer: respond-async";
        text.retry_after = 0; /* it will be so then, too */
    }
    request->door = NULL;
    stats_ended(engine, request, STATS_REFUSED, why);
    request_keep_body(engine, request); /* a stateful worker may still run it, and a replay too */
    door->refuse(request->context, &text);
}

/* ---- slots ---- */

static void slot_name(struct slot *slot)
{
    const char *model = slot->model->config->name;
    switch (slot->role) {
    case ROLE_WORKER:
        snprintf(slot->name, sizeof slot->name, "%s/%u", model, slot->ordinal);
        return;
    case ROLE_SPARE:
        snprintf(slot->name, sizeof slot->name, "%s/spare-%u", model, slot->ordinal);
        return;
    case ROLE_ZYGOTE: snprintf(slot->name, sizeof slot->name, "%s/zygote", model); return;
    }
}

static bool place_is_taken(const struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && strcmp(engine->slots[i]->place.name, name) == 0)
            return true;
    return false;
}

/* A zygote's is nobody's: it serves nothing. */
static bool ordinal_is_taken(const struct slot *slot)
{
    const struct engine *engine = slot->engine;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        const struct slot *other = engine->slots[i];
        if (other && other->model == slot->model && other->role != ROLE_ZYGOTE &&
            other->place.ordinal == slot->place.ordinal)
            return true;
    }
    return false;
}

/* Its own number and name; where a slot that was there before left its place to a spare, or that
 * came before there were so many workers, others: two that run never have the same ports. */
static void slot_place(struct slot *slot)
{
    uint32_t next = slot->model->workers;
    slot->place.ordinal = slot->role == ROLE_WORKER ? slot->ordinal : 0;
    if (slot->role == ROLE_SPARE)
        slot->place.ordinal = slot->model->workers + slot->ordinal;
    while (slot->role != ROLE_ZYGOTE && ordinal_is_taken(slot))
        slot->place.ordinal = next++;
    snprintf(slot->place.name, sizeof slot->place.name, "%s", slot->name);
    for (unsigned i = 2; place_is_taken(slot->engine, slot->place.name); i++)
        snprintf(slot->place.name, sizeof slot->place.name, "%.80s.%u", slot->name, i);
}

static void perform_slot_added(struct engine *engine, const struct action *action)
{
    struct slot *slot = calloc(1, sizeof *slot);
    if (!slot)
        abort(); /* at start or on a command; the core already counts on it */
    slot->engine = engine;
    slot->index = action->slot;
    slot->role = action->role;
    slot->ordinal = action->ordinal;
    slot->model = &engine->models[action->model];
    slot->version = "";
    slot_name(slot);
    slot_place(slot);
    engine->slots[action->slot] = slot;
    if (slot->role == ROLE_WORKER && !config_is_program(slot->model->config))
        recovery_slot(slot);
}

/* Of its version: which need not be the model's. */
static void perform_start(struct slot *slot, const struct action *action)
{
    const struct model_version *version = model_version(slot->model, action->version);
    slot->config = version ? version->config : slot->model->config;
    slot->version = version ? version->label : "";
    slot->version_number = action->version;
    if (action->type == ACTION_PREPARE)
        worker_prepare(slot, action->worker);
    else if (action->other == CORE_ALL_SLOTS)
        worker_spawn(slot, action->worker);
    else
        worker_fork(slot, action->worker, slot->engine->slots[action->other]);
    slot->config = NULL;
}

void slot_free(struct slot *slot)
{
    death_free(&slot->death);
    state_bytes_free(&slot->restoring);
    state_bytes_free(&slot->kept);
    state_drop(slot->taken);
    free(slot);
}

static void perform_slot_removed(struct engine *engine, const struct action *action)
{
    struct slot *slot = engine->slots[action->slot];
    engine->slots[action->slot] = NULL;
    if (!slot)
        return;
    state_recovered(engine, slot);
    slot->removed = true;
    if (slot->role == ROLE_WORKER)
        noted_removed(slot);
    processes_forget(engine->processes, slot->place.name);
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct worker *worker = engine->slots[i] ? engine->slots[i]->worker : NULL;
        if (worker && worker->home == slot) /* it dies in a spare's slot */
            worker->home = worker->slot;
    }
    if (!slot->jobs)
        slot_free(slot);
}

/* Where it waits for what broke, the slot that did. */
static const struct slot *culprit_of(const struct slot *slot)
{
    const struct engine *engine = slot->engine;
    struct slot_view view;
    for (uint32_t steps = 0; steps < engine->config->limits.models; steps++) {
        if (!core_slot_view(engine->core, slot->index, &view) || view.state != SLOT_WAITING ||
            view.waits_for == UINT32_MAX)
            return slot;
        const struct slot *next = slot;
        for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
            const struct slot *other = engine->slots[i];
            const bool its = other && other->model->index == view.waits_for &&
                             other->role == ROLE_WORKER;
            struct slot_view at;
            if (its && core_slot_view(engine->core, i, &at) &&
                (at.state == SLOT_BROKEN || (next == slot && at.state == SLOT_WAITING)))
                next = other;
        }
        if (next == slot)
            return slot;
        slot = next;
    }
    return slot;
}

static bool is_done(const struct slot *slot)
{
    struct slot_view view;
    return core_slot_view(slot->engine->core, slot->index, &view) && view.state == SLOT_DONE;
}

/* What hasupd ends with, where this slot's worker was the last one of an essential model: a program
 * may end well. */
static int essential_code(const struct slot *slot)
{
    return slot->death.code || is_done(slot) ? slot->death.code : ENGINE_FAILED;
}

/* ---- notices ---- */

static const char *notice_event(enum notice what)
{
    switch (what) {
    case NOTICE_SLOT_STATE: return "slot.state";
    case NOTICE_HUNG: return "slot.hung";
    case NOTICE_START_TIMEOUT: return "slot.start_timeout";
    case NOTICE_DIVERGED: return "request.diverged";
    case NOTICE_QUARANTINED: return "request.quarantined";
    case NOTICE_BREAKER_OPEN: return "slot.broken";
    case NOTICE_CHECKPOINT_FAILED: return "checkpoint.failed";
    case NOTICE_STATE_LOST: return "slot.state_lost";
    case NOTICE_STATE_LEFT: return "slot.state_left";
    case NOTICE_NOT_STORED: return "request.not_stored";
    case NOTICE_LOAD_FAILED: return "checkpoint.unreadable";
    case NOTICE_MODEL_BROKEN: return "model.broken";
    case NOTICE_MODEL_MENDED: return "model.mended";
    case NOTICE_RECYCLED: return "slot.recycled";
    case NOTICE_UNFORKABLE: return "model.unforkable";
    case NOTICE_ESSENTIAL: return "model.failed";
    case NOTICE_PRE_START_TIMEOUT: return "slot.pre_start_timeout";
    case NOTICE_PRE_START_FAILED: return "slot.pre_start_failed";
    }
    return "notice";
}

static void notice_state(struct slot *slot, const struct action *action)
{
    enum slot_state to = action->notice.to;
    char event[32], text[128];
    snprintf(event, sizeof event, "slot.%s", slot_state_name(to));
    text[0] = '\0';
    if (to == SLOT_READY && slot->worker)
        snprintf(text, sizeof text, "ready after %lld ms",
                 (long long)((loop_now(slot->engine->loop) - slot->worker->spawned) / HASUP_MS));
    else if (to == SLOT_BACKOFF)
        snprintf(text, sizeof text, "starts again in %lld ms",
                 (long long)(action->notice.delay / HASUP_MS));
    bool told =
        to == SLOT_READY || to == SLOT_BACKOFF || to == SLOT_STOPPED || to == SLOT_DONE;
    enum log_level level = told ? LEVEL_INFO : LEVEL_DEBUG;
    LOG_EVENT(level, event, text[0] ? text : NULL, LOG_TEXT("slot", slot->name),
              LOG_INT("pid", slot->worker ? process_pid(slot->worker->process) : 0));
}

/* It tells why hasupd ends a process. */
static bool is_blame(enum notice what)
{
    return what == NOTICE_HUNG || what == NOTICE_START_TIMEOUT || what == NOTICE_PRE_START_TIMEOUT;
}

static void probe_cause(const struct slot *slot, char cause[ENGINE_REASON])
{
    const char *why = program_why(slot->worker);
    snprintf(cause, ENGINE_REASON,
             "hung: its probe failed %u times in a row (live.failures): %.240s",
             slot->model->config->live.failures, why ? why : "");
}

static void hang_cause(const struct slot *slot, enum hang why, char cause[ENGINE_REASON])
{
    const struct model_policy *policy = &slot->model->config->policy;
    const struct {
        const char *what, *key;
        hasup_ns limit;
    } hangs[] = {
        [HANG_ATTEMPT] = {"no answer", "timeouts.attempt", policy->timeouts.attempt},
        [HANG_PROGRESS] = {"its stream stopped", "timeouts.progress", policy->timeouts.progress},
        [HANG_PING] = {"a ping was not answered", "timeouts.ping", policy->timeouts.ping},
        [HANG_STATE] = {"its state did not come", "timeouts.attempt", policy->timeouts.attempt},
        [HANG_FORK] = {"it did not fork a worker", "timeouts.attempt", policy->timeouts.attempt},
        [HANG_WATCHDOG] = {"its watchdog was not fed", "timeouts.watchdog",
                           policy->timeouts.watchdog},
    };
    if (why == HANG_PROBE)
        probe_cause(slot, cause);
    else if (why == HANG_TOLD)
        snprintf(cause, ENGINE_REASON, "hung: its watchdog says so (WATCHDOG=trigger)");
    else
        snprintf(cause, ENGINE_REASON, "hung: %s within its limit (%s %lld ms)", hangs[why].what,
                 hangs[why].key, (long long)(hangs[why].limit / HASUP_MS));
}

static void start_cause(const struct slot *slot, char cause[ENGINE_REASON])
{
    const struct model_policy *policy = &slot->model->config->policy;
    const char *why = program_why(slot->worker);
    snprintf(cause, ENGINE_REASON, "not %s within timeouts.start (%lld ms)%s%.240s",
             policy->kind == KIND_ONESHOT ? "done" : "ready",
             (long long)(policy->timeouts.start / HASUP_MS), why ? "; its last probe: " : "",
             why ? why : "");
}

/* Why hasupd ends a worker, for the slot's history. */
static void notice_blame(struct slot *slot, const struct action *action)
{
    const struct model_policy *policy = &slot->model->config->policy;
    char cause[ENGINE_REASON];
    if (slot->worker)
        slot->worker->end =
            action->notice.what == NOTICE_HUNG ? STATS_END_HANG : STATS_END_START_TIMEOUT;
    if (action->notice.what == NOTICE_HUNG)
        hang_cause(slot, (enum hang)action->notice.value, cause);
    else if (action->notice.what == NOTICE_PRE_START_TIMEOUT)
        snprintf(cause, sizeof cause, "not done within pre_start.timeout (%lld ms)",
                 (long long)(policy->pre_start.timeout / HASUP_MS));
    else
        start_cause(slot, cause);
    worker_blame(slot, cause);
}

static const char *recycled_text(const struct slot *slot, const struct action *action,
                                 char text[ENGINE_REASON])
{
    const struct model_policy *policy = &slot->model->config->policy;
    switch ((enum recycle)action->notice.value) {
    case RECYCLE_NO: return "";
    case RECYCLE_REQUESTS:
        snprintf(text, ENGINE_REASON, "it answered %u requests (recycle.requests)",
                 policy->recycle.requests);
        break;
    case RECYCLE_AGE:
        snprintf(text, ENGINE_REASON, "its age is about %lld s (recycle.age)",
                 (long long)(policy->recycle.age / HASUP_S));
        break;
    case RECYCLE_MEMORY:
        snprintf(text, ENGINE_REASON, "it has %lld KiB, more than %lld KiB (recycle.memory)",
                 slot->worker ? (long long)(slot->worker->memory >> 10) : 0,
                 (long long)(policy->recycle.memory >> 10));
        break;
    }
    return text;
}

static const char *pre_start_text(const struct slot *slot, const struct action *action,
                                  char text[ENGINE_REASON])
{
    const struct slot_death *death = slot ? &slot->death : NULL;
    const char *last = death && death->tail_count ? death->tail[death->tail_count - 1] : "";
    int used = snprintf(text, ENGINE_REASON, "%.150s (try %llu); ", death ? death->reason : "",
                        (unsigned long long)action->notice.value);
    if (action->notice.delay)
        used += snprintf(text + used, ENGINE_REASON - (size_t)used, "tried again in %lld ms",
                         (long long)(action->notice.delay / HASUP_MS));
    else
        used += snprintf(text + used, ENGINE_REASON - (size_t)used, "no try is left");
    if (*last)
        snprintf(text + used, ENGINE_REASON - (size_t)used, "; it said: %.80s", last);
    return text;
}

static const char *broken_text(const struct slot *slot, const struct action *action,
                               char text[ENGINE_REASON])
{
    const char *last = slot ? slot->death.reason : "";
    if (action->notice.delay)
        snprintf(text, ENGINE_REASON,
                 "too many failed starts; one more try in %lld s; last: %.200s",
                 (long long)(action->notice.delay / HASUP_S), last);
    else
        snprintf(text, ENGINE_REASON, "it failed, and is not to run again (restart.when): %.200s",
                 last);
    return text;
}

static const char *cause_of(const struct worker *worker)
{
    return worker->cause ? worker->cause : "";
}

static const char *essential_text(const struct slot *slot, char text[ENGINE_REASON])
{
    const struct slot *culprit = slot ? culprit_of(slot) : NULL;
    if (slot && is_done(slot)) {
        snprintf(text, ENGINE_REASON,
                 "it ended, and it is essential: hasupd stops, with exit code %d",
                 essential_code(slot));
        return text;
    }
    snprintf(text, ENGINE_REASON,
             "%s%.90s%s, and it is essential: hasupd stops, with exit code %d; last: %.130s",
             culprit == slot ? "none of its workers can be kept" : "it requires what broke (",
             culprit == slot ? "" : culprit->name, culprit == slot ? "" : ")",
             culprit ? essential_code(culprit) : ENGINE_FAILED,
             culprit ? culprit->death.reason : "");
    return text;
}

static const char *notice_text(const struct engine *engine, const struct slot *slot,
                               const struct action *action, char text[ENGINE_REASON])
{
    switch (action->notice.what) {
    case NOTICE_HUNG:
    case NOTICE_PRE_START_TIMEOUT:
    case NOTICE_START_TIMEOUT: return slot && slot->worker ? cause_of(slot->worker) : "";
    case NOTICE_DIVERGED: return "a replayed request was answered otherwise than before";
    case NOTICE_QUARANTINED:
        snprintf(text, ENGINE_REASON,
                 "%llu workers died of this body, which is refused from now on",
                 (unsigned long long)action->notice.value);
        return text;
    case NOTICE_MODEL_BROKEN:
        snprintf(text, ENGINE_REASON,
                 "%llu workers died one after the other, of different requests and with none "
                 "answered between: it is the model, or the machine; nothing is dispatched, one "
                 "request is tried in %lld ms",
                 (unsigned long long)action->notice.value,
                 (long long)(action->notice.delay / HASUP_MS));
        return text;
    case NOTICE_UNFORKABLE:
        snprintf(text, ENGINE_REASON,
                 "preload is of no use: %.170s; its workers are started one by one, and each "
                 "loads by itself",
                 slot && slot->worker && slot->worker->cause
                     ? slot->worker->cause
                     : "the worker offers no zygote (docs/protocol.md)");
        return text;
    case NOTICE_MODEL_MENDED: return "a request was answered; all go on";
    case NOTICE_RECYCLED: return slot ? recycled_text(slot, action, text) : "";
    case NOTICE_PRE_START_FAILED: return pre_start_text(slot, action, text);
    case NOTICE_BREAKER_OPEN: return broken_text(slot, action, text);
    case NOTICE_CHECKPOINT_FAILED: return engine->checkpoint_error;
    case NOTICE_STATE_LOST:
        return "the newest good checkpoint, if any is left, is older than what was answered; the "
               "requests since then cannot be run again";
    case NOTICE_STATE_LEFT:
        snprintf(text, ENGINE_REASON,
                 "fewer workers are wanted: its state (position %llu) %s; its sessions begin anew "
                 "in other slots",
                 (unsigned long long)action->notice.value,
                 engine->config->state_dir ? "is kept for when the slot comes back"
                                           : "goes with the slot, with state_dir: off");
        return text;
    case NOTICE_NOT_STORED:
        return "an answer waits for the journal, which cannot be written; it is tried again every "
               "second";
    case NOTICE_LOAD_FAILED:
        snprintf(text, ENGINE_REASON, "%.220s; the slot waits, read again in %lld ms",
                 engine->checkpoint_error, (long long)(action->notice.delay / HASUP_MS));
        return text;
    case NOTICE_ESSENTIAL: return essential_text(slot, text);
    case NOTICE_SLOT_STATE: break;
    }
    return NULL;
}

static void essential_failed(struct engine *engine, const struct slot *slot)
{
    if (engine->shutting_down)
        return;
    engine->failed_code = slot ? essential_code(culprit_of(slot)) : ENGINE_FAILED;
    engine_shutdown(engine);
}

static void perform_notice(struct engine *engine, const struct action *action)
{
    struct slot *slot =
        action->slot < engine->config->limits.slots ? engine->slots[action->slot] : NULL;
    enum notice what = action->notice.what;
    if (what == NOTICE_SLOT_STATE) {
        if (slot)
            notice_state(slot, action);
        return;
    }
    if (slot && is_blame(what))
        notice_blame(slot, action);
    if (what == NOTICE_RECYCLED && slot && slot->worker)
        slot->worker->end = STATS_END_RECYCLE;
    if (what == NOTICE_ESSENTIAL)
        essential_failed(engine, slot);
    char text[ENGINE_REASON], id[20];
    snprintf(id, sizeof id, "%llx", (unsigned long long)action->request);
    enum log_level level =
        is_blame(what) || what == NOTICE_PRE_START_FAILED || what == NOTICE_UNFORKABLE
            ? LEVEL_WARNING
            : LEVEL_ERROR;
    if (what == NOTICE_CHECKPOINT_FAILED && slot && slot->checkpoints_failing)
        level = LEVEL_DEBUG; /* "checkpoints.failing" said it, and says when it is over */
    if (what == NOTICE_NOT_STORED && engine->durable.failing)
        level = LEVEL_DEBUG; /* likewise "journal.failing"; each answer that waits would say it */
    if (what == NOTICE_MODEL_MENDED || what == NOTICE_RECYCLED || what == NOTICE_STATE_LEFT ||
        (what == NOTICE_ESSENTIAL && slot && is_done(slot) && !essential_code(slot)))
        level = LEVEL_INFO;
    const char *model =
        !slot && action->model < engine->config->limits.models && engine->models[action->model].used
            ? engine->models[action->model].config->name
            : NULL;
    LOG_EVENT(level, notice_event(what), notice_text(engine, slot, action, text),
              LOG_TEXT(slot ? "slot" : NULL, slot ? slot->name : ""),
              LOG_TEXT(model ? "model" : NULL, model ? model : ""),
              LOG_TEXT(action->request ? "request" : NULL, id));
}

/* ---- all of them ---- */

void engine_perform(struct engine *engine, const struct action *action)
{
    struct slot *slot =
        action->slot < engine->config->limits.slots ? engine->slots[action->slot] : NULL;
    switch (action->type) {
    case ACTION_SLOT_ADDED: perform_slot_added(engine, action); break;
    case ACTION_SLOT_REMOVED: perform_slot_removed(engine, action); break;
    case ACTION_MODEL_GONE: model_gone(engine, action->model); break;
    case ACTION_PREPARE:
    case ACTION_SPAWN: perform_start(slot, action); break;
    case ACTION_SWAP: worker_swap(slot, engine->slots[action->other], action->worker); break;
    case ACTION_LOAD_CHECKPOINT: state_load(slot, action->worker); break;
    case ACTION_WELCOME: worker_welcome(slot, action); break;
    case ACTION_DISPATCH: worker_dispatch(slot, action); break;
    case ACTION_CANCEL: worker_say(slot, action->worker, HASUP_CANCEL, action->request); break;
    case ACTION_PING: worker_say(slot, action->worker, HASUP_PING, 0); break;
    case ACTION_MEASURE: worker_measure(slot, action->worker); break;
    case ACTION_PROBE: program_ask(slot, action->worker, action->probe); break;
    case ACTION_TAKE_STATE: worker_take_state(slot, action); break;
    case ACTION_STORE_CHECKPOINT: state_store(slot, action->position); break;
    case ACTION_DRAIN: worker_drain(slot, action->worker); break;
    case ACTION_TERMINATE: worker_terminate(slot, action->worker); break;
    case ACTION_ABORT: worker_abort(slot, action->worker); break;
    case ACTION_KILL: worker_kill(slot, action->worker); break;
    case ACTION_PERSIST: durable_persist(engine, action); break;
    case ACTION_SYNC: durable_sync_now(engine); break;
    case ACTION_HOLD:
        request_keep_body(engine, engine_request(engine, action->request));
        durable_hold(engine, action->request);
        break;
    case ACTION_ACCEPTED: durable_accepted(engine, action); break;
    case ACTION_RETELL: durable_retell(engine, action); break;
    case ACTION_ANSWER: perform_answer(engine, action); break;
    case ACTION_CHUNK: perform_chunk(engine, action); break;
    case ACTION_REFUSE: perform_refuse(engine, action); break;
    case ACTION_RELEASE: durable_release(engine_request(engine, action->request)); break;
    case ACTION_FORGET: engine_forget(engine, action->request); break;
    case ACTION_IDENTIFY: letters_identify(engine, action); break;
    case ACTION_QUARANTINE: letters_quarantine(engine, action); break;
    case ACTION_PARDON: letters_pardon(engine, action); break;
    case ACTION_ROLLOUT: rollout_perform(engine, action); break;
    case ACTION_NOTICE: perform_notice(engine, action); break;
    case ACTION_EXIT:
        engine->durable.clean = true;
        engine->exit_code = engine->failed_code ? engine->failed_code : ENGINE_STOPPED;
        loop_stop(engine->loop);
        break;
    }
}
