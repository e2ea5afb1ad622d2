/*
 * letters.c: what is known of bodies that kill workers.  Owns a list, the newest first, of bodies
 * under suspicion with a report of each death, and of dead letters.  It is bounded:
 * limits.quarantine bodies, of which SUSPECTS_MAX may be mere suspects.
 *
 * A request moves the moment that its worker is known to be dead, which may be before it is reaped
 * and long before its last lines are read.  So a report fills up while its worker goes away, and a
 * dead letter is written at once, because the quarantine must outlive hasupd, and again when its
 * reports are complete.
 */
#include "supervisor/letters.h"

#include "supervisor/carry.h"
#include "supervisor/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xxhash.h>

enum { REPORTS_MAX = 8, SUSPECTS_MAX = 64, LINE_MAX_BYTES = 256, REASON = 160 };

/* One death. */
struct report {
    char slot[ENGINE_NAME], reason[REASON];
    uint32_t worker;
    pid_t pid;
    int64_t wall_ns;
    hasup_ns lived;
    bool reaped, complete;
    int code, signal;
    bool oom;
    struct rusage usage;
    size_t tail_count;
    char *tail[CAPTURE_TAIL];
};

struct letter {
    struct letter *next, **back;
    uint64_t hash[2];
    char model[STORE_MODEL];
    struct report reports[REPORTS_MAX]; /* the last ones, oldest first */
    size_t report_count;
    bool quarantined, kept;
    uint32_t attempts;
    uint64_t record;
    uint8_t priority;
    int64_t created_wall_ns, expires_wall_ns;
    uint8_t *payload; /* meta, then body, until the letter is written for the last time */
    size_t meta_len, body_len;
    char summary[REASON]; /* of the last death that is known */
};

/* ---- names ---- */

static void hash_bytes(const char *model, const uint8_t *body, size_t len, uint64_t hash[2])
{
    uint64_t seed = XXH3_64bits(model, strlen(model));
    XXH128_hash_t got = XXH3_128bits_withSeed(body, len, seed);
    hash[0] = got.low64;
    hash[1] = got.high64;
    if (!hash[0] && !hash[1])
        hash[0] = 1;
}

void letters_hash(const struct engine *engine, struct request *request, uint64_t hash[2])
{
    const char *model = engine->models[request->model].config->name;
    const uint8_t *bytes = request->body.len ? body_bytes(&request->body) : NULL;
    if (!request->hash[0] && !request->hash[1]) {
        hash_bytes(model, bytes, bytes ? request->body.len : 0, request->hash);
        if (request->body.len && !bytes) /* it cannot be read, so it is like no other */
            request->hash[1] = request->id;
    }
    memcpy(hash, request->hash, sizeof request->hash);
}

bool letters_read_id(const char *id, size_t len, uint64_t hash[2])
{
    return durable_id_read(id, len, &hash[0], &hash[1]);
}

void letters_write_id(const uint64_t hash[2], char id[LETTER_ID + 1])
{
    durable_record_id(hash[0], hash[1], id);
}

/* ---- the list ---- */

static struct letter *letter_find(const struct engine *engine, const uint64_t hash[2])
{
    struct letter *letter = engine->letters.list;
    while (letter && (letter->hash[0] != hash[0] || letter->hash[1] != hash[1]))
        letter = letter->next;
    return letter;
}

static void letter_link(struct engine *engine, struct letter *letter)
{
    letter->next = engine->letters.list;
    letter->back = &engine->letters.list;
    if (letter->next)
        letter->next->back = &letter->next;
    engine->letters.list = letter;
    engine->letters.count++;
    engine->letters.suspects += !letter->quarantined;
}

static void letter_unlink(struct engine *engine, struct letter *letter)
{
    *letter->back = letter->next;
    if (letter->next)
        letter->next->back = letter->back;
    engine->letters.count--;
    engine->letters.suspects -= !letter->quarantined;
}

static void report_fini(struct report *report)
{
    for (size_t i = 0; i < report->tail_count; i++)
        free(report->tail[i]);
    report->tail_count = 0;
}

static void letter_free(struct engine *engine, struct letter *letter)
{
    letter_unlink(engine, letter);
    for (size_t i = 0; i < letter->report_count; i++)
        report_fini(&letter->reports[i]);
    free(letter->payload);
    free(letter);
}

/* The oldest suspect, or the oldest of all where `suspect` is false. */
static void make_room(struct engine *engine, bool suspect)
{
    struct letter *oldest = NULL;
    for (struct letter *letter = engine->letters.list; letter; letter = letter->next)
        if (!suspect || !letter->quarantined)
            oldest = letter;
    if (oldest)
        letter_free(engine, oldest);
}

/* NULL: no memory, and only people lose by it. */
static struct letter *letter_touch(struct engine *engine, const char *model, const uint64_t hash[2])
{
    struct letter *letter = letter_find(engine, hash);
    if (letter) {
        letter_unlink(engine, letter);
        letter_link(engine, letter);
        return letter;
    }
    if (engine->letters.suspects >= SUSPECTS_MAX)
        make_room(engine, true);
    if (engine->letters.count >= engine->config->limits.quarantine)
        make_room(engine, false);
    letter = calloc(1, sizeof *letter);
    if (!letter)
        return NULL;
    memcpy(letter->hash, hash, sizeof letter->hash);
    snprintf(letter->model, sizeof letter->model, "%s", model);
    letter_link(engine, letter);
    return letter;
}

void letters_free(struct engine *engine)
{
    while (engine->letters.list)
        letter_free(engine, engine->letters.list);
}

/* ---- reports ---- */

/* What is known of a reaped worker. */
static void report_reaped(struct letter *letter, struct report *report, const struct slot *slot,
                          const struct process_exit *exit)
{
    report->reaped = true;
    report->code = exit->code;
    report->signal = exit->signal;
    report->oom = exit->oom;
    report->usage = exit->usage;
    snprintf(report->reason, sizeof report->reason, "%.*s", REASON - 1, slot->death.reason);
    memcpy(letter->summary, report->reason, sizeof letter->summary);
}

static void report_add(struct letter *letter, const struct worker *worker)
{
    const struct slot *slot = worker->slot;
    if (letter->report_count == REPORTS_MAX) {
        report_fini(&letter->reports[0]);
        memmove(letter->reports, letter->reports + 1, (REPORTS_MAX - 1) * sizeof *letter->reports);
        letter->report_count--;
    }
    struct report *report = &letter->reports[letter->report_count++];
    *report = (struct report){.worker = worker->number,
                              .pid = process_pid(worker->process),
                              .wall_ns = loop_wall_now(),
                              .lived = loop_now(slot->engine->loop) - worker->spawned};
    snprintf(report->slot, sizeof report->slot, "%s", worker->home->name);
    if (worker->exit.reaped) {
        report_reaped(letter, report, slot, &worker->exit.how);
    } else if (worker->cause) {
        snprintf(report->reason, sizeof report->reason, "%.*s", REASON - 1, worker->cause);
        memcpy(letter->summary, report->reason, sizeof letter->summary);
    }
}

static bool is_of(const struct report *report, const struct worker *worker)
{
    return report->pid == process_pid(worker->process) && !report->complete &&
           strcmp(report->slot, worker->home->name) == 0;
}

void letters_worker_exited(const struct worker *worker, const struct process_exit *exit)
{
    for (struct letter *letter = worker->slot->engine->letters.list; letter; letter = letter->next)
        for (size_t i = 0; i < letter->report_count; i++)
            if (is_of(&letter->reports[i], worker))
                report_reaped(letter, &letter->reports[i], worker->slot, exit);
}

static json_t *report_json(const struct report *report)
{
    const struct timeval user = report->usage.ru_utime, system = report->usage.ru_stime;
    json_t *lines = json_array();
    for (size_t i = 0; i < report->tail_count; i++)
        json_array_append_new(lines, json_words(report->tail[i]));
    return json_pack("{s:s, s:I, s:I, s:o, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:o}", "slot",
                     report->slot, "pid", (json_int_t)report->pid, "wall_ms",
                     (json_int_t)(report->wall_ns / HASUP_MS), "reason", json_words(report->reason),
                     "signal", report->signal, "code", report->code, "oom", report->oom, "lived_ms",
                     (json_int_t)(report->lived / HASUP_MS), "user_ms",
                     (json_int_t)(user.tv_sec * 1000 + user.tv_usec / 1000), "system_ms",
                     (json_int_t)(system.tv_sec * 1000 + system.tv_usec / 1000), "max_rss_kib",
                     (json_int_t)report->usage.ru_maxrss, "stderr", lines);
}

/* malloc'ed; NULL: no memory. */
static char *reports_text(const struct letter *letter)
{
    json_t *list = json_array();
    for (size_t i = 0; i < letter->report_count; i++)
        json_array_append_new(list, report_json(&letter->reports[i]));
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

/* ---- dead letters ---- */

static bool is_complete(const struct letter *letter)
{
    for (size_t i = 0; i < letter->report_count; i++)
        if (!letter->reports[i].complete)
            return false;
    return true;
}

static void letter_store(struct engine *engine, struct letter *letter)
{
    char *reports = reports_text(letter);
    const struct journal_letter row = {
        .hash = {letter->hash[0], letter->hash[1]},
        .model = letter->model,
        .record = letter->record,
        .attempts = letter->attempts,
        .flags = letter->kept ? JOURNAL_KEPT : 0,
        .priority = letter->priority,
        .created_wall_ns = letter->created_wall_ns,
        .expires_wall_ns = letter->expires_wall_ns,
        .reports = {(const uint8_t *)reports, reports ? strlen(reports) : 0},
        .meta = {letter->payload, letter->meta_len},
        .body = {letter->payload + letter->meta_len, letter->body_len}};
    durable_write_letter(engine, &row);
    free(reports);
    if (!is_complete(letter))
        return;
    free(letter->payload);
    letter->payload = NULL;
}

void letters_worker_gone(struct engine *engine, const struct worker *worker)
{
    const char *lines[CAPTURE_TAIL];
    size_t count = worker->capture ? capture_tail(worker->capture, lines) : 0;
    for (struct letter *letter = engine->letters.list; letter; letter = letter->next) {
        bool touched = false;
        for (size_t i = 0; i < letter->report_count; i++) {
            struct report *report = &letter->reports[i];
            if (!is_of(report, worker))
                continue;
            report->complete = touched = true;
            for (size_t k = 0; k < count; k++)
                if ((report->tail[report->tail_count] = strndup(lines[k], LINE_MAX_BYTES)))
                    report->tail_count++;
        }
        if (touched && letter->quarantined && is_complete(letter) && !engine->closing)
            letter_store(engine, letter);
    }
}

/* Meta and body as they were submitted, where the configuration wants them kept. */
static void payload_keep(struct letter *letter, const struct config_model *config,
                         struct request *request)
{
    const uint8_t *body = request->body.len ? body_bytes(&request->body) : NULL;
    if (!config->quarantine_keep_body || request->body.len > config->quarantine_keep_body ||
        (request->body.len && !body))
        return;
    uint8_t *payload = malloc(request->meta_len + request->body.len + 1);
    if (!payload)
        return;
    memcpy(payload, request->bytes, request->meta_len);
    if (body)
        memcpy(payload + request->meta_len, body, request->body.len);
    free(letter->payload);
    letter->payload = payload;
    letter->meta_len = request->meta_len;
    letter->body_len = request->body.len;
    letter->kept = true;
}

void letters_quarantine(struct engine *engine, const struct action *action)
{
    const struct config_model *config = engine->models[action->model].config;
    struct request *request = action->request ? engine_request(engine, action->request) : NULL;
    struct letter *letter = letter_touch(engine, config->name, action->quarantine.hash);
    if (!letter)
        return;
    letter_unlink(engine, letter);
    letter->quarantined = true;
    letter_link(engine, letter);
    letter->attempts = action->quarantine.attempts;
    letter->created_wall_ns = loop_wall_now();
    letter->expires_wall_ns =
        letter->created_wall_ns + (action->quarantine.expires - loop_now(engine->loop));
    letter->record = action->record;
    if (request) {
        letter->priority = request->durable.priority;
        payload_keep(letter, config, request);
    }
    letter_store(engine, letter);
}

void letters_pardon(struct engine *engine, const struct action *action)
{
    struct letter *letter = letter_find(engine, action->pardon.hash);
    char id[LETTER_ID + 1];
    letters_write_id(action->pardon.hash, id);
    LOG_EVENT(LEVEL_INFO, "request.pardoned", "its body is quarantined no more",
              LOG_TEXT(letter ? "model" : NULL, letter ? letter->model : ""), LOG_TEXT("body", id));
    if (letter)
        letter_free(engine, letter);
    durable_lift_letter(engine, action->pardon.hash);
}

void letters_identify(struct engine *engine, const struct action *action)
{
    struct request *request = engine_request(engine, action->request);
    const struct slot *slot =
        action->slot < engine->config->limits.slots ? engine->slots[action->slot] : NULL;
    struct event event = {.type = EVENT_IDENTIFIED,
                          .model = action->model,
                          .request = action->request,
                          .identified = {.how = action->identify}};
    if (!request)
        abort(); /* the core names only requests that it has not forgotten */
    letters_hash(engine, request, event.identified.hash);
    if (action->identify.died && slot && slot->worker && slot->worker->number == action->worker) {
        struct letter *letter =
            letter_touch(engine, engine->models[action->model].config->name, event.identified.hash);
        if (letter && !letter->quarantined)
            report_add(letter, slot->worker);
    }
    engine_post(engine, &event);
}

/* ---- words ---- */

static void time_text(int64_t wall_ns, char text[32])
{
    struct tm utc;
    time_t seconds = (time_t)(wall_ns / HASUP_S);
    gmtime_r(&seconds, &utc);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

const char *letters_message(const struct engine *engine, const uint64_t hash[2],
                            char text[ENGINE_REASON])
{
    const struct letter *letter = letter_find(engine, hash);
    char until[32];
    if (!letter || !letter->quarantined)
        return refusal_message(REFUSED_QUARANTINED);
    time_text(letter->expires_wall_ns, until);
    snprintf(text, ENGINE_REASON, "this body killed %u worker%s%s%s; it is refused until %s",
             letter->attempts, letter->attempts == 1 ? "" : "s",
             letter->summary[0] ? ", the last: " : "", letter->summary, until);
    return text;
}

/* ---- earlier runs ---- */

/* The reason of the last report. */
static void read_summary(struct letter *letter, struct journal_bytes reports)
{
    json_t *list = json_loadb((const char *)reports.at, reports.len, 0, NULL);
    const char *reason = json_string_value(
        json_object_get(json_array_get(list, json_array_size(list) - 1), "reason"));
    if (reason)
        snprintf(letter->summary, sizeof letter->summary, "%s", reason);
    json_decref(list);
}

static bool each_letter(void *context, const struct journal_letter *row)
{
    struct engine *engine = context;
    struct letter *letter = letter_touch(engine, row->model, row->hash);
    if (!letter)
        return false;
    letter_unlink(engine, letter);
    letter->quarantined = true;
    letter_link(engine, letter);
    letter->attempts = row->attempts;
    letter->created_wall_ns = row->created_wall_ns;
    letter->expires_wall_ns = row->expires_wall_ns;
    letter->kept = row->flags & JOURNAL_KEPT;
    read_summary(letter, row->reports);
    return true;
}

void letters_recover(struct engine *engine)
{
    char error[JOURNAL_ERROR];
    if (!engine->durable.journal)
        return;
    if (journal_each_letter(engine->durable.journal, 0, each_letter, engine, error))
        LOG_EVENT(LEVEL_ERROR, "journal.recovery_failed", error, LOG_TEXT("step", "letters"));
    for (uint32_t i = 0; i < engine->config->limits.models; i++)
        if (engine->models[i].used)
            letters_model_added(engine, &engine->models[i]);
}

void letters_model_added(struct engine *engine, const struct model *model)
{
    int64_t wall = loop_wall_now();
    hasup_ns now = loop_now(engine->loop);
    for (const struct letter *letter = engine->letters.list; letter; letter = letter->next) {
        if (!letter->quarantined || letter->expires_wall_ns <= wall ||
            strcmp(letter->model, model->config->name) != 0)
            continue;
        engine_post(engine, &(struct event){
                                .type = EVENT_RECOVERED,
                                .model = model->index,
                                .recovered = {.what = RECOVERY_QUARANTINED,
                                              .hash = {letter->hash[0], letter->hash[1]},
                                              .attempts = letter->attempts,
                                              .expires = now + (letter->expires_wall_ns - wall)}});
    }
}

/* ---- to another hasupd ---- */

static void report_carry(struct carry *carry, struct report *report)
{
    CARRY(carry);
    carry_text(carry, report->slot, sizeof report->slot);
    carry_text(carry, report->reason, sizeof report->reason);
    V(report->worker);
    V(report->pid);
    V(report->wall_ns);
    V(report->lived);
    V(report->reaped);
    V(report->complete);
    V(report->code);
    V(report->signal);
    V(report->oom);
    V(report->usage.ru_maxrss);
    V(report->usage.ru_utime.tv_sec);
    V(report->usage.ru_utime.tv_usec);
    V(report->usage.ru_stime.tv_sec);
    V(report->usage.ru_stime.tv_usec);
    E(report->tail_count, CAPTURE_TAIL);
    for (size_t i = 0; i < report->tail_count; i++) {
        carry_string(carry, &report->tail[i]);
        if (codec->loading && !report->tail[i])
            report->tail[i] = calloc(1, 1);
    }
}

static void letter_carry(struct carry *carry, struct letter *letter)
{
    CARRY(carry);
    V(letter->hash[0]);
    V(letter->hash[1]);
    carry_text(carry, letter->model, sizeof letter->model);
    E(letter->report_count, REPORTS_MAX);
    for (size_t i = 0; i < letter->report_count; i++)
        report_carry(carry, &letter->reports[i]);
    V(letter->quarantined);
    V(letter->kept);
    V(letter->attempts);
    V(letter->record);
    V(letter->priority);
    V(letter->created_wall_ns);
    V(letter->expires_wall_ns);
    size_t len = letter->payload ? letter->meta_len + letter->body_len : 0;
    carry_block(carry, &letter->payload, &len, 0);
    V(letter->meta_len);
    V(letter->body_len);
    if (codec->loading && letter->payload && len != letter->meta_len + letter->body_len)
        codec_fail(codec);
    carry_text(carry, letter->summary, sizeof letter->summary);
}

/* The oldest first, since each is linked before those that are there. */
void letters_carry(struct carry *carry, struct engine *engine)
{
    CARRY(carry);
    uint32_t count = engine->letters.count;
    struct letter *letter = engine->letters.list;
    while (letter && letter->next)
        letter = letter->next;
    codec_begin(codec);
    V(count);
    codec_end(codec);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        if (codec->loading && !(letter = calloc(1, sizeof *letter))) {
            codec_fail(codec);
            return;
        }
        codec_begin(codec);
        letter_carry(carry, letter);
        codec_end(codec);
        if (codec->loading)
            letter_link(engine, letter);
        else /* `back` is the `next` of the one before it */
            letter = letter->back == &engine->letters.list
                         ? NULL
                         : (struct letter *)(void *)((char *)letter->back -
                                                     offsetof(struct letter, next));
    }
}
