/*
 * program.c: processes that know nothing of requests: what they tell of their readiness, by a
 * descriptor as with s6 or by sd_notify (notify.c), and the probes that ask them.  Owns the
 * descriptor and the probe that is under way.  Decides nothing: what an answer means, and when the
 * next question comes, is the core's.
 * Failure modes: a probe that cannot be made is one that failed, and says why; a descriptor that is
 * closed without a word leaves the program unready, which is said.
 */
#include "supervisor/carry.h"
#include "supervisor/config_tree.h"
#include "supervisor/engine.h"
#include "supervisor/probe.h"
#include "supervisor/users.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const hasup_ns SILENCE = 200 * HASUP_MS; /* from its closed descriptor to its end, at most */

struct program {
    struct worker *worker;
    struct watch watch;
    int fd;              /* what its readiness is read from; -1: nothing, or it was */
    struct timer silent; /* it closed that without a word, and may only be about to end */
    struct probe *probe; /* under way; NULL: none */
    bool asked;          /* the core waits for an answer to */
    enum question question;
    uint32_t failures; /* of the last question, in a row */
    char *why;         /* the last failure, malloc'ed; NULL: none */
};

/* Of the version that it runs. */
static const struct config_model *config_of(const struct worker *worker)
{
    const struct slot *slot = worker->slot;
    const struct model_version *version = model_version(slot->model, slot->version_number);
    return version ? version->config : slot->model->config;
}

bool worker_is_program(const struct worker *worker)
{
    return !worker->hook && config_is_program(worker->slot->model->config);
}

bool program_is_up(const struct engine *engine, uint32_t model)
{
    struct model_view view;
    return core_model_view(engine->core, model, &view) && view.accepting && view.up;
}

int program_stop_signal(const struct worker *worker)
{
    return config_of(worker)->stop_signal;
}

/* ---- it tells ---- */

bool program_is_told(const struct worker *worker)
{
    return config_of(worker)->ready.how == READY_NOTIFY;
}

void program_came_up(struct worker *worker)
{
    worker_post(worker, &(struct event){.type = EVENT_WORKER_READY});
}

static void fd_close(struct program *program)
{
    if (program->fd < 0)
        return;
    watch_stop(&program->watch);
    close(program->fd);
    program->fd = -1;
}

static void fd_ready(void *context, int events)
{
    struct program *program = context;
    char bytes[256];
    (void)events;
    ssize_t got = read(program->fd, bytes, sizeof bytes);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0 && !memchr(bytes, '\n', (size_t)got))
        return;
    fd_close(program);
    if (got > 0)
        program_came_up(program->worker);
    else
        (void)!timer_set(&program->silent, program->worker->slot->engine->loop,
                         loop_now(program->worker->slot->engine->loop) + SILENCE);
}

static void is_silent(void *context)
{
    const struct program *program = context;
    LOG_EVENT(LEVEL_WARNING, "program.silent",
              "it closed its readiness descriptor without a line: it is not ready, and ends at "
              "timeouts.start (docs/programs.md)",
              LOG_TEXT("slot", program->worker->home->name));
}

static struct program *program_new(struct worker *worker)
{
    struct program *program = worker->program = calloc(1, sizeof *program);
    if (program)
        *program = (struct program){.worker = worker,
                                    .watch = {.ready = fd_ready, .context = program},
                                    .silent = {.due = is_silent, .context = program},
                                    .fd = -1};
    return program;
}

int program_open(struct worker *worker, int *end)
{
    struct program *program = program_new(worker);
    int ends[2];
    if (!program)
        return ENOMEM;
    if (worker->slot->config->ready.how != READY_FD)
        return 0;
    if (pipe2(ends, O_CLOEXEC))
        return errno;
    program->fd = ends[0];
    *end = ends[1];
    return fcntl(ends[0], F_SETFL, O_NONBLOCK) ||
                   watch_set(&program->watch, worker->slot->engine->loop, ends[0], WATCH_READ)
               ? ENOMEM
               : 0;
}

/* ---- it is asked ---- */

static const char *question_name(enum question question)
{
    return question == PROBE_READY ? "ready" : "live";
}

/* That it is not ready yet is nothing to tell. */
static void note_answer(struct program *program, bool well, const char *why)
{
    const bool live = program->question == PROBE_LIVE;
    if (well && live && program->failures)
        LOG_EVENT(LEVEL_INFO, "program.well", "its probe succeeds again",
                  LOG_TEXT("slot", program->worker->home->name),
                  LOG_INT("failures", program->failures));
    const bool news = !program->why || strcmp(program->why, why) != 0;
    free(program->why);
    program->why = well ? NULL : strdup(why);
    program->failures = well ? 0 : program->failures + 1;
    if (!well && news) /* the same again and again would push all others out of hasupctl events */
        LOG_EVENT(live && program->failures == 1 ? LEVEL_WARNING : LEVEL_DEBUG, "program.unwell",
                  why, LOG_TEXT("slot", program->worker->home->name),
                  LOG_TEXT("probe", question_name(program->question)),
                  LOG_INT("failures", program->failures));
}

static void answered(void *context, bool well, const char *why)
{
    struct program *program = context;
    program->probe = NULL;
    program->asked = false;
    note_answer(program, well, why);
    worker_post(program->worker,
                &(struct event){.type = EVENT_PROBED,
                                .probed = {.probe = program->question, .well = well}});
}

/* What exec runs in: as the pre_start command it has neither sockets nor a watchdog. */
static int surroundings(struct worker *worker, const struct config_model *config,
                        struct attributes *attributes, char ***env, char error[ENGINE_REASON])
{
    struct worker bare = *worker;
    bare.hook = true;
    bare.notify = NULL;
    int failed = users_find(&config->process, attributes, error);
    worker->slot->config = config;
    if (!failed)
        failed = environment_make(&bare, true, env, error);
    worker->slot->config = NULL;
    return failed;
}

/* NULL: `error` says why. */
static struct probe *probe_make(struct program *program, char error[ENGINE_REASON])
{
    struct worker *worker = program->worker;
    struct engine *engine = worker->slot->engine;
    const struct config_model *config = config_of(worker);
    const struct config_probe *probe =
        program->question == PROBE_READY ? &config->ready.probe : &config->live;
    const struct template_values values = {config->name, worker->slot->place.ordinal};
    struct probe_spec filled;
    struct attributes attributes;
    struct probe *started = NULL;
    char **env = NULL, *directory = NULL;
    snprintf(error, ENGINE_REASON, "out of memory");
    if (!config_probe_fill(&probe->spec, &values, &filled))
        return NULL;
    struct probe_place place = {.loop = engine->loop, .processes = engine->processes};
    bool fine = true;
    if (filled.kind == PROBE_EXEC) {
        directory = template_fill(config->directory, &values);
        fine = directory && !surroundings(worker, config, &attributes, &env, error);
        place.beside = worker->process;
        place.env = (const char *const *)env;
        place.directory = directory;
        place.attributes = &attributes;
    }
    if (fine)
        started = probe_start(&place, &filled, answered, program);
    config_probe_spec_free(&filled);
    config_strings_free(env);
    free(directory);
    return started;
}

static void probe_begin(struct program *program)
{
    char error[ENGINE_REASON];
    program->probe = probe_make(program, error);
    if (!program->probe)
        answered(program, false, error);
}

void program_ask(struct slot *slot, uint32_t number, enum question question)
{
    struct worker *worker = slot ? slot->worker : NULL;
    if (!worker || worker->number != number || !worker->program)
        return;
    struct program *program = worker->program;
    if (program->question != question)
        program->failures = 0;
    program->question = question;
    program->asked = true;
    probe_begin(program);
}

const char *program_why(const struct worker *worker)
{
    return worker && worker->program && worker->program->why ? worker->program->why : NULL;
}

/* ---- its end ---- */

static void probe_stop(struct program *program)
{
    if (program->probe)
        probe_cancel(program->probe);
    program->probe = NULL;
}

void program_close(struct worker *worker)
{
    if (!worker->program)
        return;
    probe_stop(worker->program);
    timer_stop(&worker->program->silent);
    worker->program->asked = false;
    fd_close(worker->program);
}

void program_free(struct worker *worker)
{
    program_close(worker);
    if (worker->program)
        free(worker->program->why);
    free(worker->program);
    worker->program = NULL;
}

/* ---- to another hasupd ---- */

void programs_pause(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->worker && engine->slots[i]->worker->program)
            probe_stop(engine->slots[i]->worker->program);
}

void programs_go_on(struct engine *engine)
{
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        struct worker *worker = engine->slots[i] ? engine->slots[i]->worker : NULL;
        if (worker && worker->program && worker->program->asked && !worker->program->probe)
            probe_begin(worker->program);
    }
}

void program_carry(struct carry *carry, struct worker *worker)
{
    CARRY(carry);
    struct program *program = worker->program;
    bool there = program;
    V(there);
    if (!there)
        return;
    if (codec->loading) {
        program = program_new(worker);
        if (!program) {
            codec_fail(codec);
            return;
        }
    }
    bool open = program->fd >= 0;
    V(open);
    if (open)
        carry_fd(carry, &program->fd);
    V(program->asked);
    E(program->question, PROBE_LIVE);
    V(program->failures);
    carry_string(carry, &program->why);
    if (codec->loading && program->fd >= 0 &&
        watch_set(&program->watch, worker->slot->engine->loop, program->fd, WATCH_READ))
        codec_fail(codec);
}
