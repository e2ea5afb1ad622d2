/*
 * state.c: checkpoints on their way between workers and the checkpoint thread.  Owns the bytes
 * while they travel: a small state in the heap, a large one in the memfd that the worker wrote, or
 * the thread read from the disk, which is passed on and never copied or mapped here.  Where the
 * disk does not take a checkpoint, the newest state stays in memory (slot->kept), so that a
 * worker's crash still loses nothing; that hasupd's own death would is said loudly, once.  With
 * state_dir: off that is the way of all states, which is said once, too, and nothing is amiss.
 */
#include "checkpoints/fault.h"
#include "supervisor/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct state_job {
    struct checkpoint_job job; /* first: the thread's list is of these */
    struct slot *slot;
    char model[STORE_MODEL]; /* job.key's: the configuration may be replaced meanwhile */
    uint32_t worker;         /* LOAD: who waits for it */
    hasup_ns began;          /* SAVE: when its state came */
    uint8_t *copy;           /* SAVE: of a state that came in its frame */
};

/* A store that cannot be read for another reason is the writer's to speak of. */
static int check_keys(const char *path, const struct store_options *options,
                      char error[CONFIG_ERROR_MAX])
{
    struct store *store;
    char why[STORE_ERROR] = "";
    if (access(path, F_OK) || store_open(path, STORE_READ, &store, why))
        return 0;
    store_set(store, options);
    int code = store_check_keys(store, why);
    store_close(store);
    if (code != HASUP_EDENIED)
        return 0;
    snprintf(error, CONFIG_ERROR_MAX,
             "%s: %s.  Nothing was changed.  Bring the key back into checkpoints.key_file, or, to "
             "begin without these states, move the file away",
             path, why);
    return code;
}

int state_open(struct engine *engine, const char *path, char error[CONFIG_ERROR_MAX])
{
    const struct config *config = engine->config;
    struct keys *keys = NULL;
    char why[KEYS_ERROR];
    int code = 0;
    if (config->checkpoints.key_file)
        code = keys_load(config->checkpoints.key_file, &keys, why);
    if (code) {
        snprintf(error, CONFIG_ERROR_MAX, "checkpoints.key_file: %s", why);
        return code;
    }
    const struct store_options options = {.keys = keys,
                                          .encrypt = config->checkpoints.encrypt,
                                          .sealed_only = config->checkpoints.sealed_only,
                                          .compress = config->checkpoints.compress,
                                          .cache = (size_t)config->checkpoints.cache};
    code = check_keys(path, &options, error);
    writer_set(engine->writer, &options, keys);
    return code;
}

void state_bytes_free(struct slot_state_bytes *state)
{
    free(state->bytes);
    if (state->buffer)
        buffer_unref(state->buffer);
    *state = (struct slot_state_bytes){0};
}

/* Takes the bytes, or the memfd, of a job that is done; false: no memory. */
static bool state_bytes_take(struct slot_state_bytes *state, struct checkpoint_job *job,
                             uint8_t *bytes)
{
    struct buffer *buffer = NULL;
    if (job->fd >= 0) {
        int error = buffer_open(job->fd, job->offset + job->len, &buffer);
        job->fd = -1;
        if (error)
            return false;
        buffer_ref(buffer);
    }
    state_bytes_free(state);
    *state = (struct slot_state_bytes){.there = true,
                                       .bytes = bytes,
                                       .buffer = buffer,
                                       .offset = job->offset,
                                       .len = job->len,
                                       .position = job->position};
    return true;
}

static struct state_job *job_new(struct slot *slot, enum checkpoint_job_kind kind)
{
    struct state_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->slot = slot;
    job->began = loop_now(slot->engine->loop);
    snprintf(job->model, sizeof job->model, "%s", slot->model->config->name);
    job->job.kind = kind;
    job->job.fd = -1;
    job->job.memfd_above = HASUP_INLINE_MAX;
    job->job.key = (struct checkpoint_key){job->model, slot->ordinal};
    return job;
}

/* A worker that could still write there might change the state under the thread that stores it. */
static int take_memfd(struct state_job *job, const struct body *body, char error[ENGINE_REASON])
{
    int seals = fcntl(body->buffer->fd, F_GET_SEALS);
    if (seals < 0 || (seals & WRITER_SEALS) != WRITER_SEALS) {
        snprintf(error, ENGINE_REASON,
                 "its state stands in a memfd that is not sealed against shrinking, growing and "
                 "writing (F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE)");
        return HASUP_EPROTO;
    }
    job->job.fd = fcntl(body->buffer->fd, F_DUPFD_CLOEXEC, 0);
    job->job.offset = body->offset;
    if (job->job.fd < 0) {
        snprintf(error, ENGINE_REASON, "no descriptor for its state: %s", strerror(errno));
        return HASUP_ENOMEM;
    }
    return 0;
}

static int take_bytes(struct state_job *job, const struct body *body, char error[ENGINE_REASON])
{
    job->copy = malloc(body->len + 1);
    if (!job->copy) {
        snprintf(error, ENGINE_REASON, "no memory for its state");
        return HASUP_ENOMEM;
    }
    if (body->len)
        memcpy(job->copy, body->bytes, body->len);
    job->job.bytes = job->copy;
    return 0;
}

/* One that is stored already is restored whatever the limit is by then. */
static int take_size(const struct config_model *config, const struct body *body,
                     char error[ENGINE_REASON])
{
    if (body->len <= config->checkpoint.state_max)
        return 0;
    snprintf(error, ENGINE_REASON,
             "its state has %" PRIu64 " bytes, models.%s.checkpoint.state_max is %" PRIu64
             "; the checkpoint before stays",
             body->len, config->name, config->checkpoint.state_max);
    return HASUP_ETOOBIG;
}

int state_take(struct slot *slot, const struct body *body, uint64_t position,
               char error[ENGINE_REASON])
{
    const struct config_model *config = slot->model->config;
    int code = take_size(config, body, error);
    if (code)
        return code;
    struct state_job *job = job_new(slot, CHECKPOINT_SAVE);
    if (!job) {
        snprintf(error, ENGINE_REASON, "no memory for its state");
        return HASUP_ENOMEM;
    }
    job->job.position = position;
    job->job.created_wall_ns = loop_wall_now();
    job->job.len = body->len;
    job->job.keep = (struct store_keep){config->checkpoint.keep, config->checkpoint.keep_hourly,
                                        config->checkpoint.keep_daily};
    bool in_memfd = body->buffer && body->len;
    code = in_memfd ? take_memfd(job, body, error) : take_bytes(job, body, error);
    if (code) {
        state_drop(job);
        return code;
    }
    state_drop(slot->taken);
    slot->taken = job;
    return 0;
}

void state_drop(struct state_job *job)
{
    if (!job)
        return;
    if (job->job.fd >= 0)
        close(job->job.fd);
    free(job->copy);
    free(job);
}

static void state_fails(struct engine *engine, struct slot *slot, const char *message)
{
    engine->checkpoints_failing = slot->checkpoints_failing = true;
    snprintf(engine->checkpoint_error, sizeof engine->checkpoint_error, "%s", message);
}

/* Said once, for the first slot; status shows the others. */
static void state_not_stored(struct engine *engine, struct slot *slot, const char *message)
{
    if (!engine->checkpoints_failing)
        LOG_EVENT(LEVEL_ERROR, "checkpoints.failing", message, LOG_TEXT("slot", slot->name),
                  LOG_TEXT("effect", "serving goes on; the newest state is kept in memory only"));
    state_fails(engine, slot, message);
}

/* The slot's state is on the disk again, or could be read, or the slot is gone; said when it was
 * the last one. */
void state_recovered(struct engine *engine, struct slot *slot)
{
    if (!slot->checkpoints_failing)
        return;
    slot->checkpoints_failing = false;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->checkpoints_failing)
            return;
    engine->checkpoints_failing = false;
    LOG_EVENT(LEVEL_INFO, "checkpoints.recovered", "checkpoints can be written and read again",
              LOG_TEXT("slot", slot->name));
}

/* The disk did not take it: it stays in memory in the place of the one kept before. */
static void state_keep(struct slot *slot, struct state_job *job)
{
    if (state_bytes_take(&slot->kept, &job->job, job->copy))
        job->copy = NULL;
}

/* With state_dir: off it is as good as stored, until hasupd ends; false: no memory. */
static bool state_keeps(struct slot *slot, struct state_job *job)
{
    state_keep(slot, job);
    bool kept = slot->kept.there && slot->kept.position == job->job.position;
    if (!kept)
        snprintf(slot->engine->checkpoint_error, sizeof slot->engine->checkpoint_error,
                 "no memory to keep the state of %s", slot->name);
    return kept;
}

static void state_not_to_disk(struct engine *engine, struct slot *slot, struct state_job *job)
{
    const uint64_t position = job->job.position;
    const bool kept = state_keeps(slot, job);
    engine_post(engine, &(struct event){.type = EVENT_CHECKPOINT_STORED,
                                        .slot = slot->index,
                                        .checkpoint = {.position = kept ? position : 0,
                                                       .error = kept ? 0 : HASUP_ENOMEM}});
    state_done(slot, position,
               kept ? "state_dir is off: it is kept in memory, until hasupd ends"
                    : engine->checkpoint_error);
    state_drop(job);
}

static void state_saved(struct engine *engine, struct state_job *job)
{
    struct slot *slot = job->slot;
    uint64_t position = job->job.position;
    int error = job->job.error;
    FAULT(checkpoint_stored);
    stats_checkpoint(slot->model, loop_now(engine->loop) - job->began, !error);
    if (error) {
        state_not_stored(engine, slot, job->job.message);
        state_keep(slot, job);
        if (!slot->kept.there || slot->kept.position != position)
            position = 0; /* neither on disk nor in memory: nothing may leave the log */
    } else {
        state_recovered(engine, slot);
        state_bytes_free(&slot->kept);
        slot->stored_position = position;
        slot->stored_wall_ns = job->job.created_wall_ns;
        slot->stored_bytes = job->job.len;
        noted_stored(slot);
        LOG_EVENT(LEVEL_DEBUG, "checkpoint.stored", NULL, LOG_TEXT("slot", slot->name),
                  LOG_INT("position", position), LOG_INT("bytes", job->job.len));
    }
    engine_post(engine, &(struct event){.type = EVENT_CHECKPOINT_STORED,
                                        .slot = slot->index,
                                        .checkpoint = {.position = position, .error = error}});
    state_done(slot, job->job.position, error ? job->job.message : NULL);
}

void state_done(struct slot *slot, uint64_t position, const char *error)
{
    struct engine *engine = slot->engine;
    if (engine->checkpoint_done)
        engine->checkpoint_done(engine->checkpoint_context, slot, position, error);
}

void state_store(struct slot *slot, uint64_t position)
{
    struct engine *engine = slot->engine;
    struct state_job *job = slot->taken;
    slot->taken = NULL;
    if (!job || job->job.position != position)
        abort(); /* the core asked for a state that was never in hand */
    if (!engine->config->state_dir) {
        state_not_to_disk(engine, slot, job);
        return;
    }
    int error = writer_submit(engine->writer, &job->job);
    if (!error) {
        slot->jobs++;
        return;
    }
    job->job.error = error;
    snprintf(job->job.message, sizeof job->job.message, "checkpoint thread: %s",
             hasup_strerror(error));
    state_saved(engine, job);
    state_drop(job);
}

/* `error`: what was found, if anything, is in memory only. */
static void state_loaded(struct engine *engine, struct slot *slot, uint32_t worker, int error)
{
    FAULT(checkpoint_loaded);
    noted_loaded(slot);
    engine_post(engine, &(struct event){.type = EVENT_CHECKPOINT_LOADED,
                                        .slot = slot->index,
                                        .worker = worker,
                                        .checkpoint = {.found = slot->restoring.there,
                                                       .position = slot->restoring.position,
                                                       .error = error}});
}

/* Once, for the first slot that has a state. */
static void tell_off(struct slot *slot)
{
    struct engine *engine = slot->engine;
    if (!engine->checkpoints_off_told)
        LOG_EVENT(LEVEL_WARNING, "checkpoints.off",
                  "state_dir is off: a state lives in memory, over its worker's death, and goes "
                  "with hasupd",
                  LOG_TEXT("slot", slot->name),
                  LOG_TEXT("to_do", "name a state_dir where the states shall outlive hasupd"));
    engine->checkpoints_off_told = true;
}

/* Restores what is kept in memory, which is newer than anything on the disk. */
static void state_load_kept(struct slot *slot, uint32_t worker)
{
    struct slot_state_bytes copy = slot->kept;
    if (copy.buffer)
        buffer_ref(copy.buffer);
    else if ((copy.bytes = malloc(copy.len + 1)))
        memcpy(copy.bytes, slot->kept.bytes, copy.len);
    copy.there = copy.buffer || copy.bytes;
    state_bytes_free(&slot->restoring);
    slot->restoring = copy;
    const int fine = slot->engine->config->state_dir ? HASUP_EIO : 0;
    state_loaded(slot->engine, slot, worker, copy.there ? fine : HASUP_ENOMEM);
}

/* `no_store`: not some checkpoints are, but the file is no database. */
static void state_damaged(const struct slot *slot, const struct checkpoint_job *done, bool no_store)
{
    const char *to_do = "hasupctl audit --deep shows what else is damaged";
    char file[4096];
    if (no_store)
        to_do = "move the file and what stands beside it (checkpoints.db*) away: the next "
                "checkpoint begins a new one; or stop hasupd, put a copy from a backup there, and "
                "start";
    snprintf(file, sizeof file, "%s/checkpoints.db", slot->engine->config->state_dir);
    LOG_EVENT(LEVEL_ERROR, "checkpoint.damaged", done->message, LOG_TEXT("slot", slot->name),
              LOG_INT("skipped", done->skipped),
              LOG_INT("restored_position", done->error ? 0 : done->position),
              LOG_TEXT("file", file), LOG_TEXT("to_do", to_do));
}

static void state_load_done(struct engine *engine, struct state_job *job)
{
    struct slot *slot = job->slot;
    struct checkpoint_job *done = &job->job;
    bool no_store = done->error == HASUP_ECORRUPT && !done->skipped;
    if (done->skipped || no_store)
        state_damaged(slot, done, no_store);
    if (done->unwritable || no_store)
        state_not_stored(engine, slot, done->message);
    else if (done->error && done->error != HASUP_ENOTFOUND)
        state_fails(engine, slot, done->message); /* the core decides what is to be said */
    else if (!slot->kept.there)
        state_recovered(engine, slot);
    if (slot->kept.there) {
        /* A save that was queued before this load has failed meanwhile. */
        if (!done->error)
            free(done->bytes);
        state_load_kept(slot, job->worker);
        return;
    }
    state_bytes_free(&slot->restoring);
    if (!done->error && !state_bytes_take(&slot->restoring, done, done->bytes))
        done->error = HASUP_ENOMEM;
    if (!done->error) {
        slot->stored_position = done->position;
        slot->stored_wall_ns = done->created_wall_ns;
        slot->stored_bytes = done->len;
    }
    bool all_bad = done->error == HASUP_ENOTFOUND && done->skipped;
    state_loaded(engine, slot, job->worker, all_bad ? HASUP_ECORRUPT : done->error);
}

void state_load(struct slot *slot, uint32_t worker)
{
    struct engine *engine = slot->engine;
    if (slot->kept.there) {
        state_load_kept(slot, worker);
        return;
    }
    state_bytes_free(&slot->restoring); /* of a worker that died before its welcome */
    if (!engine->config->state_dir) {
        tell_off(slot);
        state_loaded(engine, slot, worker, 0);
        return;
    }
    struct state_job *job = job_new(slot, CHECKPOINT_LOAD);
    if (job)
        job->worker = worker;
    if (job && writer_submit(engine->writer, &job->job) == 0) {
        slot->jobs++;
        return;
    }
    free(job);
    state_loaded(engine, slot, worker, HASUP_ENOMEM);
}

void state_completed(struct engine *engine)
{
    struct checkpoint_job *next;
    for (struct checkpoint_job *done = writer_take(engine->writer); done; done = next) {
        next = done->next;
        struct state_job *job = (struct state_job *)done;
        struct slot *slot = job->slot;
        if (slot->removed) {
            if (done->kind == CHECKPOINT_LOAD && !done->error)
                free(done->bytes);
        } else if (done->kind == CHECKPOINT_SAVE) {
            state_saved(engine, job);
        } else {
            state_load_done(engine, job);
        }
        state_drop(job);
        slot->jobs--; /* not before: what it led to may have removed the slot */
        if (slot->removed && !slot->jobs)
            slot_free(slot);
    }
}

/* A state that no disk has and that goes with hasupd. */
static void state_goes(struct slot *slot, uint64_t position, const char *why)
{
    LOG_EVENT(LEVEL_ERROR, "checkpoint.lost",
              "hasupd ends and the slot's newest state could not be stored",
              LOG_TEXT("slot", slot->name), LOG_INT("position", position),
              LOG_INT("stored_position", slot->stored_position), LOG_TEXT("error", why));
    slot->engine->exit_code = ENGINE_FAILED;
}

/* hasupd ends: what the thread still had is done now, and nobody waits for it. */
void state_end(struct engine *engine)
{
    struct checkpoint_job *next;
    for (uint32_t i = 0; i < engine->config->limits.slots && engine->config->state_dir; i++) {
        struct slot *slot = engine->slots[i];
        if (slot && slot->untaken_position)
            state_goes(slot, slot->untaken_position, "it was not taken (checkpoint.failed)");
        else if (slot && slot->kept.there)
            state_goes(slot, slot->kept.position, engine->checkpoint_error);
    }
    writer_finish(engine->writer);
    for (struct checkpoint_job *done = writer_take(engine->writer); done; done = next) {
        struct state_job *job = (struct state_job *)done;
        struct slot *slot = job->slot;
        next = done->next;
        if (done->kind == CHECKPOINT_LOAD && !done->error)
            free(done->bytes);
        if (done->kind == CHECKPOINT_SAVE && done->error)
            state_goes(slot, done->position, done->message);
        state_drop(job);
        if (--slot->jobs == 0 && slot->removed)
            slot_free(slot);
    }
    writer_free(engine->writer);
}

void request_keep_body(struct engine *engine, struct request *request)
{
    struct buffer *buffer = request->body.buffer;
    if (!buffer || buffer->pool || !request->stateful)
        return;
    const uint8_t *bytes = body_bytes(&request->body);
    struct buffer *own =
        bytes ? buffer_pool_take(peers_pool(engine->peers), request->body.len) : NULL;
    if (!own) {
        LOG_EVENT(LEVEL_ERROR, "request.body_not_kept",
                  "no memory to keep a large body for the slot's log; a replay may diverge",
                  LOG_INT("bytes", request->body.len));
        return;
    }
    memcpy(own->map, bytes, request->body.len);
    buffer_unref(buffer);
    request->body = (struct body){.len = request->body.len, .buffer = own};
}
