/*
 * metrics.c: GET /metrics, in Prometheus' text format 0.0.4.  docs/metrics.md names every family;
 * a test holds the two together.
 *
 * Labels are the model, the slot, and words from lists of hasupd's own, so that their number is
 * bounded by limits.models and limits.slots.  All of it is written in one go: 1,000 slots take some
 * milliseconds.  What costs more, the memory of the slots' processes, is measured for as long as
 * MEASURE lasts and goes on at the next call where it stopped.  Failure mode: no memory, NULL.
 */
#include "supervisor/engine.h"
#include "supervisor/metrics_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const hasup_ns MEASURE = 2 * HASUP_MS;

/* ---- models ---- */

struct model_row {
    const struct model *model;
    const struct model_stats *stats;
    struct model_view view;
    char labels[METRIC_LABELS];
};

struct slot_row {
    const struct slot *slot;
    struct slot_view view;
    int64_t wall_ns;
    char labels[METRIC_LABELS];
};

struct rows {
    struct model_row *models; /* and behind them the programs */
    struct slot_row *slots;
    size_t model_count, all_count, slot_count; /* model_count: without the programs */
};

#define MODEL_FAMILIES(X)                                                                          \
    X(hasup_model_ready, GAUGE, "Whether the model takes requests and a worker of it is ready.",   \
      m->view.accepting && m->view.ready && !m->view.broken)                                       \
    X(hasup_model_workers, GAUGE, "Workers that are wanted.", m->model->workers)                   \
    X(hasup_model_workers_ready, GAUGE, "Workers that serve.", m->view.ready)                      \
    X(hasup_model_spares_ready, GAUGE, "Loaded spares.", m->view.spares)                           \
    X(hasup_model_breaker_open, GAUGE,                                                             \
      "Whether nothing is dispatched because workers died one after the other.", m->view.broken)   \
    X(hasup_model_rolling, GAUGE, "Whether its workers are being replaced, or a canary is tried.", \
      m->view.rollout.state != ROLLOUT_NONE && !m->model->rollout.recycles)                        \
    X(hasup_queue_requests, GAUGE, "Requests that wait for a worker.", m->view.queued)             \
    X(hasup_queue_bytes, GAUGE, "Bytes of their bodies.", m->view.queued_bytes)                    \
    X(hasup_queue_limit_requests, GAUGE, "As many may wait (queue.requests).",                     \
      m->model->config->policy.queue.requests)                                                     \
    X(hasup_running_requests, GAUGE, "Requests that workers have.", m->view.inflight)              \
    X(hasup_suspect_requests, GAUGE,                                                               \
      "Requests that were in hand when a worker died, and wait to be tried apart from others.",    \
      m->view.suspects)                                                                            \
    X(hasup_attempts_total, COUNTER, "Requests handed to a worker, tries after a death included.", \
      m->view.attempts)                                                                            \
    X(hasup_replays_total, COUNTER,                                                                \
      "Requests run again to bring a slot's state back; nobody hears their answers.",              \
      m->view.replays)                                                                             \
    X(hasup_session_requests_total, COUNTER, "Ended requests that belong to a session.",           \
      m->stats->sessions)

static void put_models(struct out *out, const struct rows *rows)
{
#define MODEL_FAMILY(name_, kind_, help_, value_)                                                  \
    put_family(out, &(struct family){#name_, kind_, help_});                                       \
    for (size_t i = 0; i < rows->model_count; i++) {                                               \
        const struct model_row *m = &rows->models[i];                                              \
        put_line(out, #name_, "", m->labels, (int64_t)(value_), WHOLE);                            \
    }
    MODEL_FAMILIES(MODEL_FAMILY)
#undef MODEL_FAMILY
}

#define PROGRAM_FAMILIES(X)                                                                        \
    X(hasup_program_up, GAUGE, "Whether each slot of the program is ready, or done.",              \
      program_is_up(engine, m->model->index))                                                      \
    X(hasup_program_slots, GAUGE, "Slots that are wanted.", m->model->workers)                     \
    X(hasup_program_slots_ready, GAUGE, "Slots that are ready.", m->view.ready)                    \
    X(hasup_program_slots_done, GAUGE, "Slots that ended, and are not to run again.", m->view.done)

static void put_programs(struct out *out, const struct engine *engine, const struct rows *rows)
{
#define PROGRAM_FAMILY(name_, kind_, help_, value_)                                                \
    put_family(out, &(struct family){#name_, kind_, help_});                                       \
    for (size_t i = rows->model_count; i < rows->all_count; i++) {                                 \
        const struct model_row *m = &rows->models[i];                                              \
        put_line(out, #name_, "", m->labels, (int64_t)(value_), WHOLE);                            \
    }
    PROGRAM_FAMILIES(PROGRAM_FAMILY)
#undef PROGRAM_FAMILY
}

static void put_model_info(struct out *out, const struct rows *rows)
{
    static const struct family info = {"hasup_model_info", GAUGE,
                                       "Which version of the model is its own; always 1."};
    put_family(out, &info);
    for (size_t i = 0; i < rows->model_count; i++) {
        const struct model_row *m = &rows->models[i];
        const struct model_version *version = model_version(m->model, m->view.rollout.version);
        put_labelled(out, info.name, m->labels, "version", version ? version->label : "", 1);
    }
}

static void put_outcomes(struct out *out, const struct rows *rows)
{
    static const struct family outcomes = {"hasup_requests_total", COUNTER,
                                           "Requests that ended, by how."},
                               refused = {"hasup_requests_refused_total", COUNTER,
                                          "Requests that hasupd refused, by why."};
    put_family(out, &outcomes);
    for (size_t i = 0; i < rows->model_count; i++)
        for (unsigned k = 0; k < STATS_OUTCOME_COUNT; k++)
            put_labelled(out, outcomes.name, rows->models[i].labels, "outcome",
                         stats_outcome_name(k), (int64_t)rows->models[i].stats->outcomes[k]);
    put_family(out, &refused);
    for (size_t i = 0; i < rows->model_count; i++) {
        const struct model_row *m = &rows->models[i];
        for (unsigned k = 0; k < STATS_REFUSALS; k++)
            if (k != REFUSED_NOT_FOUND) /* which is of no model */
                put_labelled(out, refused.name, m->labels, "reason", stats_refusal_name(k),
                             (int64_t)m->stats->refused[k]);
        put_labelled(out, refused.name, m->labels, "reason", "limits", (int64_t)m->stats->full);
    }
}

static void put_ends(struct out *out, const struct rows *rows)
{
    static const struct family ends = {"hasup_worker_ends_total", COUNTER,
                                       "Workers and programs that ended, by why."},
                               checkpoints = {"hasup_checkpoints_total", COUNTER,
                                              "Checkpoints that were to be stored."};
    put_family(out, &ends);
    for (size_t i = 0; i < rows->all_count; i++)
        for (unsigned k = 0; k < STATS_END_COUNT; k++)
            put_labelled(out, ends.name, rows->models[i].labels, "cause", stats_end_name(k),
                         (int64_t)rows->models[i].stats->ends[k]);
    put_family(out, &checkpoints);
    for (size_t i = 0; i < rows->model_count; i++) {
        const struct model_row *m = &rows->models[i];
        put_labelled(out, checkpoints.name, m->labels, "outcome", "stored",
                     (int64_t)m->stats->stored);
        put_labelled(out, checkpoints.name, m->labels, "outcome", "failed",
                     (int64_t)m->stats->not_stored);
    }
}

static void put_times(struct out *out, const struct rows *rows)
{
    static const struct {
        struct family family;
        size_t at;
    } times[] = {
        {{"hasup_request_queue_seconds", HISTOGRAM,
          "From a request's coming until a worker has it, its first journal commit included."},
         offsetof(struct model_stats, queue)},
        {{"hasup_request_run_seconds", HISTOGRAM,
          "From then until the worker's answer is whole; of each attempt that gave one."},
         offsetof(struct model_stats, run)},
        {{"hasup_request_seconds", HISTOGRAM,
          "From a request's coming to its end, however it ended."},
         offsetof(struct model_stats, total)},
        {{"hasup_checkpoint_seconds", HISTOGRAM,
          "From a worker's state in hand until it is stored."},
         offsetof(struct model_stats, checkpoint)},
    };
    static const struct family batches = {"hasup_batch_requests", HISTOGRAM,
                                          "Requests that ran together, of models that batch."};
    for (size_t k = 0; k < HASUP_LEN(times); k++) {
        put_family(out, &times[k].family);
        for (size_t i = 0; i < rows->model_count; i++)
            put_histogram(out, times[k].family.name, rows->models[i].labels,
                          (const void *)((const char *)rows->models[i].stats + times[k].at));
    }
    put_family(out, &batches);
    for (size_t i = 0; i < rows->model_count; i++)
        put_sizes(out, batches.name, rows->models[i].labels, rows->models[i].stats);
}

/* ---- slots ---- */

#define SERVING(value)                                                                             \
    (config_is_program(s->slot->model->config) ? METRIC_ABSENT : (int64_t)(value))
#define STATEFUL(value) (s->view.stateful ? (int64_t)(value) : METRIC_ABSENT)
#define STORED(value)   (s->slot->stored_wall_ns ? (int64_t)(value) : METRIC_ABSENT)

#define SLOT_FAMILIES(X)                                                                           \
    X(hasup_slot_ready, GAUGE, WHOLE, "Whether the slot's process is ready.",                      \
      s->view.state == SLOT_READY)                                                                 \
    X(hasup_slot_starts_total, COUNTER, WHOLE, "Processes that were started in the slot.",         \
      s->view.starts)                                                                              \
    X(hasup_slot_crashes_total, COUNTER, WHOLE, "Workers of the slot that died.", s->view.crashes) \
    X(hasup_slot_recycled_total, COUNTER, WHOLE, "Workers of the slot that recycle replaced.",     \
      s->view.recycled)                                                                            \
    X(hasup_slot_answered_total, COUNTER, WHOLE, "Requests that the slot answered.",               \
      SERVING(s->view.answered))                                                                   \
    X(hasup_slot_replayed_total, COUNTER, WHOLE,                                                   \
      "Requests that the slot ran again for its state.", SERVING(s->view.replayed))                \
    X(hasup_slot_diverged_total, COUNTER, WHOLE,                                                   \
      "Those that were answered otherwise than before.", SERVING(s->view.diverged))                \
    X(hasup_slot_running_requests, GAUGE, WHOLE, "Requests that the slot's worker has.",           \
      SERVING(s->view.inflight))                                                                   \
    X(hasup_slot_queue_requests, GAUGE, WHOLE, "Requests that wait for this slot alone.",          \
      SERVING(s->view.queued))                                                                     \
    X(hasup_slot_memory_bytes, GAUGE, WHOLE,                                                       \
      "Memory of the worker and its children, when it was measured last.",                         \
      s->slot->worker && s->slot->worker->memory ? (int64_t)s->slot->worker->memory                \
                                                 : METRIC_ABSENT)                                  \
    X(hasup_slot_log_requests, GAUGE, WHOLE,                                                       \
      "Requests since the last checkpoint, which a restart would run again.",                      \
      STATEFUL(s->view.log_head - s->view.checkpoint_position))                                    \
    X(hasup_slot_unsaved_seconds, GAUGE, SECONDS,                                                  \
      "How long the oldest change has waited for a checkpoint; 0: all is stored.",                 \
      STATEFUL(s->slot->changed.wall_ns ? s->wall_ns - s->slot->changed.wall_ns : 0))              \
    X(hasup_slot_checkpoint_timestamp_seconds, GAUGE, SECONDS,                                     \
      "When the newest stored checkpoint was taken, in Unix time.",                                \
      STORED(s->slot->stored_wall_ns))                                                             \
    X(hasup_slot_checkpoint_bytes, GAUGE, WHOLE, "Bytes of its state.",                            \
      STORED(s->slot->stored_bytes))

static void put_slots(struct out *out, const struct rows *rows)
{
    static const struct family state = {"hasup_slot_state", GAUGE,
                                        "1 under the name of the state that the slot is in."};
    put_family(out, &state);
    for (size_t i = 0; i < rows->slot_count; i++)
        put_labelled(out, state.name, rows->slots[i].labels, "state",
                     slot_state_name(rows->slots[i].view.state), 1);
#define SLOT_FAMILY(name_, kind_, unit_, help_, value_)                                            \
    put_family(out, &(struct family){#name_, kind_, help_});                                       \
    for (size_t i = 0; i < rows->slot_count; i++) {                                                \
        const struct slot_row *s = &rows->slots[i];                                                \
        put_line(out, #name_, "", s->labels, (int64_t)(value_), unit_);                            \
    }
    SLOT_FAMILIES(SLOT_FAMILY)
#undef SLOT_FAMILY
}

/* ---- hasupd itself ---- */

static int64_t file_size(const struct engine *engine, const char *name)
{
    char path[4096];
    struct stat info;
    if (!engine->config->state_dir)
        return 0;
    snprintf(path, sizeof path, "%s/%s", engine->config->state_dir, name);
    return stat(path, &info) ? 0 : (int64_t)info.st_size;
}

static void put_process(struct out *out)
{
    static int64_t started; /* of the process: never another one */
    struct rusage usage;
    struct timespec wall, up;
    unsigned long long ticks = 0, resident = 0;
    FILE *file;
    if (!started && (file = fopen("/proc/self/stat", "re"))) {
        /* The 22nd field; the second is in brackets and may hold anything. */
        if (fscanf(file,
                   "%*d (%*[^)]) %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
                   "%*s %*s %*s %*s %llu",
                   &ticks) == 1) {
            clock_gettime(CLOCK_REALTIME, &wall);
            clock_gettime(CLOCK_BOOTTIME, &up);
            started = (wall.tv_sec - up.tv_sec) * HASUP_S + wall.tv_nsec - up.tv_nsec +
                      (int64_t)ticks * (HASUP_S / sysconf(_SC_CLK_TCK));
        }
        fclose(file);
    }
    if ((file = fopen("/proc/self/statm", "re"))) {
        if (fscanf(file, "%*u %llu", &resident) != 1)
            resident = 0;
        fclose(file);
    }
    getrusage(RUSAGE_SELF, &usage);
    int64_t cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * HASUP_S +
                  (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * HASUP_US;
    put_one(out, "process_start_time_seconds", GAUGE, SECONDS, started ? started : METRIC_ABSENT,
            "When hasupd started, in Unix time.");
    put_one(out, "process_cpu_seconds_total", COUNTER, SECONDS, cpu,
            "Processor time of hasupd, without its workers.");
    put_one(out, "process_resident_memory_bytes", GAUGE, WHOLE,
            (int64_t)resident * sysconf(_SC_PAGESIZE), "Resident memory of hasupd.");
}

static void put_doors(struct out *out, struct engine *engine)
{
    static const char *const names[DOOR_KINDS] = {[DOOR_HTTP] = "http", [DOOR_UNIX] = "unix"};
    static const char *const classes[] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
    static const struct family open = {"hasup_connections", GAUGE, "Connections that are open."},
                               refused = {"hasup_connections_refused_total", COUNTER,
                                          "Connections that were not taken."},
                               answers = {"hasup_http_responses_total", COUNTER,
                                          "Answers of the HTTP door, by the status's class."};
    put_family(out, &open);
    for (unsigned i = 0; i < DOOR_KINDS; i++)
        put_labelled(out, open.name, "", "door", names[i], engine->doors[i].open);
    put_one(out, "hasup_connections_limit", GAUGE, WHOLE, engine->config->limits.connections,
            "As many may be open at each door (limits.connections).");
    put_family(out, &refused);
    for (unsigned i = 0; i < DOOR_KINDS; i++)
        put_labelled(out, refused.name, "", "door", names[i], (int64_t)engine->doors[i].refused);
    put_family(out, &answers);
    for (unsigned i = 0; i < HASUP_LEN(classes); i++)
        put_labelled(out, answers.name, "", "code", classes[i],
                     (int64_t)engine->doors[DOOR_HTTP].answers[i + 1]);
}

static void put_journal(struct out *out, const struct engine *engine)
{
    static const struct family bytes = {"hasup_journal_bytes", GAUGE,
                                        "Bytes of the journal's files."},
                               durable = {"hasup_durable_requests", GAUGE,
                                          "Durable requests that are remembered."},
                               commits = {"hasup_journal_commit_seconds", HISTOGRAM,
                                          "How long a commit of the journal took."};
    struct durable_view view;
    struct journal_stats stats = {0};
    core_durable_view(engine->core, &view);
    if (engine->durable.journal)
        stats = journal_stats(engine->durable.journal);
    put_one(out, "hasup_journal_failing", GAUGE, WHOLE, engine->durable.failing,
            "Whether the journal cannot be written, and durable requests are refused.");
    put_family(out, &bytes);
    put_labelled(out, bytes.name, "", "file", "db", file_size(engine, "journal.db"));
    put_labelled(out, bytes.name, "", "file", "wal", file_size(engine, "journal.db-wal"));
    put_family(out, &commits);
    put_histogram(out, commits.name, "", &engine->durable.commits);
    put_family(out, &durable);
    put_labelled(out, durable.name, "", "state", "unfinished", view.unfinished);
    put_labelled(out, durable.name, "", "state", "finished", view.finished);
    put_one(out, "hasup_dead_letters", GAUGE, WHOLE, (int64_t)stats.letters,
            "Dead letters that are kept.");
}

static void put_hasupd(struct out *out, struct engine *engine, const struct rows *rows)
{
    static const struct family build = {"hasup_build_info", GAUGE, "hasupd's version; always 1."};
    put_family(out, &build);
    put_labelled(out, build.name, "", "version", HASUP_VERSION, 1);
    put_one(out, "hasup_ready", GAUGE, WHOLE, engine_ready(engine),
            "Whether every model and essential program is ready and hasupd is not stopping.");
    put_one(out, "hasup_stopping", GAUGE, WHOLE, engine->shutting_down, "Whether hasupd stops.");
    put_one(out, "hasup_held_requests", GAUGE, WHOLE, engine->requests.count,
            "Requests that hasupd holds, of all models.");
    put_one(out, "hasup_held_limit_requests", GAUGE, WHOLE, engine->config->limits.requests,
            "As many it may hold (limits.requests).");
    put_one(out, "hasup_held_bytes", GAUGE, WHOLE, (int64_t)engine->requests.body_bytes,
            "Bytes of their bodies.");
    put_one(out, "hasup_held_limit_bytes", GAUGE, WHOLE, (int64_t)engine->config->limits.body_bytes,
            "As many it may hold (limits.body_bytes).");
    put_one(out, "hasup_slots", GAUGE, WHOLE, (int64_t)rows->slot_count,
            "Slots that there are: of workers, spares, zygotes and programs.");
    put_one(out, "hasup_slots_limit", GAUGE, WHOLE, engine->config->limits.slots,
            "As many there may be (limits.slots).");
    put_one(out, "hasup_checkpoints_failing", GAUGE, WHOLE, engine->checkpoints_failing,
            "Whether a slot's newest state is in memory only.");
    put_one(out, "hasup_log_dropped_lines_total", COUNTER, WHOLE, (int64_t)log_dropped(),
            "Lines of hasupd's log that its reader was too slow for.");
}

/* ---- all of it ---- */

static void rows_models(struct engine *engine, struct rows *rows, bool programs)
{
    static const struct model_stats nothing;
    for (uint32_t i = 0; i < engine->config->limits.models; i++) {
        struct model_row *row = &rows->models[rows->all_count];
        const struct model *model = &engine->models[i];
        if (!model->used || config_is_program(model->config) != programs ||
            !core_model_view(engine->core, i, &row->view))
            continue;
        row->model = model;
        row->stats = model->stats ? model->stats : &nothing;
        row->labels[0] = '\0';
        label(row->labels, "model", model->config->name);
        rows->all_count++;
        rows->model_count += !programs;
    }
}

static void rows_slots(struct engine *engine, struct rows *rows)
{
    int64_t now = loop_wall_now();
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct slot_row *row = &rows->slots[rows->slot_count];
        const struct slot *slot = engine->slots[i];
        if (!slot || !core_slot_view(engine->core, i, &row->view))
            continue;
        row->slot = slot;
        row->wall_ns = now;
        row->labels[0] = '\0';
        label(row->labels, "model", slot->model->config->name);
        label(row->labels, "slot", slot->name + strlen(slot->model->config->name) + 1);
        rows->slot_count++;
    }
}

void engine_measure(struct engine *engine)
{
    struct timespec from, now;
    uint32_t slots = engine->config->limits.slots;
    clock_gettime(CLOCK_MONOTONIC, &from);
    now = from;
    for (uint32_t i = 0;
         i < slots && (now.tv_sec - from.tv_sec) * HASUP_S + now.tv_nsec - from.tv_nsec < MEASURE;
         i++) {
        engine->measured = (engine->measured + 1) % slots;
        struct slot *slot = engine->slots[engine->measured];
        if (!slot || !slot->worker || slot->worker->hook || slot->worker->exit.reaped)
            continue;
        slot->worker->memory = process_memory(slot->worker->process);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
}

char *engine_metrics(struct engine *engine, size_t *len)
{
    struct out out = {0};
    struct rows rows = {.models = calloc(engine->config->limits.models + 1, sizeof *rows.models),
                        .slots = calloc(engine->config->limits.slots + 1, sizeof *rows.slots)};
    if (rows.models && rows.slots) {
        engine_measure(engine);
        rows_models(engine, &rows, false);
        rows_models(engine, &rows, true);
        rows_slots(engine, &rows);
        put_hasupd(&out, engine, &rows);
        put_process(&out);
        put_doors(&out, engine);
        put_journal(&out, engine);
        put_model_info(&out, &rows);
        put_models(&out, &rows);
        put_programs(&out, engine, &rows);
        put_outcomes(&out, &rows);
        put_ends(&out, &rows);
        put_times(&out, &rows);
        put_slots(&out, &rows);
    }
    free(rows.models);
    free(rows.slots);
    if (out.failed) {
        free(out.text);
        out.text = NULL;
    }
    *len = out.len;
    return out.text;
}
