/*
 * noted.c: what hasupd notes in its state directory for those who look at it from outside: since
 * when each slot has changes that no stored checkpoint has (`activity`), and who it is and how it
 * is configured (`running.json`, 0600: it may hold what only its user should read).  Nothing of it
 * is needed to serve: where it cannot be written, that is said once.  `activity` also keeps a
 * second hasupd out of the directory: who has it open owns it (checkpoints/owner.h).  Where the
 * disk takes nothing there is nothing to own, nor is the file system kept busy; once something is
 * stored again, the directory is owned again.  With state_dir: off nothing is noted.  Decides
 * nothing.
 */
#include "supervisor/engine.h"
#include "supervisor/status.h"

#include "checkpoints/activity.h"
#include "checkpoints/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void note_failed(struct engine *engine, const char *file)
{
    if (!engine->noted.failing)
        LOG_EVENT(LEVEL_WARNING, "notes.failing", strerror(errno), LOG_TEXT("file", file),
                  LOG_TEXT("effect", engine->noted.activity > 0
                                         ? "the audit knows less; serving goes on"
                                         : "the audit knows less, and a second hasupd would not be "
                                           "kept out of state_dir; serving goes on"));
    engine->noted.failing = true;
}

/* ---- activity ---- */

static void write_activity(struct slot *slot)
{
    struct engine *engine = slot->engine;
    struct activity activity = {.ordinal = slot->ordinal,
                                .position = slot->changed.position,
                                .changed_wall_ns = slot->changed.wall_ns};
    if (!slot->removed)
        snprintf(activity.model, sizeof activity.model, "%s", slot->model->config->name);
    if (engine->noted.activity > 0 &&
        activity_write(engine->noted.activity, slot->index, &activity))
        note_failed(engine, "activity");
}

void noted_dispatched(struct slot *slot, uint64_t position)
{
    if (position > slot->changed.newest)
        slot->changed.newest = position;
    if (slot->changed.wall_ns || position <= slot->stored_position)
        return;
    slot->changed.wall_ns = loop_wall_now();
    slot->changed.position = position;
    write_activity(slot);
}

void noted_stored(struct slot *slot)
{
    bool more = slot->changed.newest > slot->stored_position;
    slot->changed.wall_ns = more ? slot->stored_wall_ns : 0; /* what is more came after that */
    slot->changed.position = slot->stored_position + 1;
    noted_recovered(slot->engine);
    write_activity(slot);
}

void noted_loaded(struct slot *slot)
{
    if (slot->changed.wall_ns)
        return; /* what its worker's death left in the log waits still */
    slot->changed.position = slot->stored_position + 1;
    write_activity(slot);
}

void noted_removed(struct slot *slot)
{
    write_activity(slot);
}

/* ---- whole files ---- */

/* Whole or not at all: written beside, then renamed. */
static int write_whole(const char *path, const char *text)
{
    char beside[4096 + 8];
    size_t len = strlen(text);
    snprintf(beside, sizeof beside, "%s.new", path);
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -1;
    ssize_t put = write(fd, text, len);
    if (put >= 0 && put < (ssize_t)len)
        errno = ENOSPC;
    int failed = put != (ssize_t)len || fchmod(fd, 0600) || rename(beside, path);
    int why = errno;
    close(fd);
    if (failed)
        unlink(beside);
    errno = why;
    return failed ? -1 : 0;
}

void noted_write(struct engine *engine, const char *file, const char *text)
{
    char path[4096];
    if (!engine->config->state_dir)
        return;
    snprintf(path, sizeof path, "%s/%s", engine->config->state_dir, file);
    if (text ? write_whole(path, text) : unlink(path) && errno != ENOENT)
        note_failed(engine, file);
}

/* ---- running.json ---- */

static json_t *running_json(const struct engine *engine)
{
    char *text = status_config(engine);
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    const char *path = getenv("PATH");
    char boot_id[64];
    free(text);
    last_run_boot_id(boot_id);
    json_t *json = config ? json_pack("{s:s, s:I, s:I, s:I, s:s, s:s, s:o}", "version",
                                      HASUP_VERSION, "pid", (json_int_t)getpid(), "start_ticks",
                                      (json_int_t)owner_start_ticks(getpid()), "began_wall_ms",
                                      (json_int_t)(engine->noted.began / HASUP_MS), "boot_id",
                                      boot_id, "path", path ? path : "", "config", config)
                          : NULL;
    if (json && engine->ended)
        json_object_set_new(json, "ended",
                            json_pack("{s:I, s:i}", "wall_ms",
                                      (json_int_t)(loop_wall_now() / HASUP_MS),
                                      "exit_code", engine->exit_code));
    return json;
}

void noted_configuration(struct engine *engine)
{
    if (!engine->config->state_dir)
        return;
    json_t *json = running_json(engine);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    errno = ENOMEM;
    if (text)
        noted_write(engine, "running.json", text);
    else
        note_failed(engine, "running.json");
    free(text);
    json_decref(json);
    malloc_trim(0); /* with a thousand models it took as much as all that hasupd holds */
}

/* ---- whose directory it is ---- */

/* 0 where nobody can own it, too. */
int noted_open(struct engine *engine, char error[CONFIG_ERROR_MAX])
{
    const char *state_dir = engine->config->state_dir;
    char who[64] = "in another container, or on another machine";
    int64_t owner = 0;
    if (!state_dir)
        return 0;
    int fd = activity_open(state_dir, &owner);
    if (fd >= 0) {
        noted_end(engine);
        engine->noted.activity = fd;
        return 0;
    }
    if (errno != EBUSY) {
        note_failed(engine, "activity");
        return 0;
    }
    if (owner)
        snprintf(who, sizeof who, "pid %lld", (long long)owner);
    snprintf(error, CONFIG_ERROR_MAX,
             "state_dir: another hasupd (%s) keeps its states in %.700s; stop that one, or name "
             "another state_dir",
             who, state_dir);
    return HASUP_ECONFIG;
}

void noted_begin(struct engine *engine)
{
    engine->noted.began = loop_wall_now();
    if (engine->noted.activity > 0 && activity_begin(engine->noted.activity))
        note_failed(engine, "activity");
    if (engine->config->state_dir)
        last_run_tell(engine);
    noted_configuration(engine);
}

void noted_recovered(struct engine *engine)
{
    char error[CONFIG_ERROR_MAX];
    if (engine->noted.activity > 0 &&
        !activity_is_gone(engine->noted.activity, engine->config->state_dir))
        return;
    if (noted_open(engine, error)) {
        if (!engine->noted.shared)
            LOG_EVENT(LEVEL_ERROR, "state_dir.shared", error,
                      LOG_TEXT("effect", "both go on, and store their states over each other's"));
        engine->noted.shared = true;
        return;
    }
    if (engine->noted.activity <= 0)
        return;
    engine->noted.failing = engine->noted.shared = false;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->role == ROLE_WORKER)
            write_activity(engine->slots[i]);
    noted_configuration(engine);
}

void noted_end(struct engine *engine)
{
    if (engine->started && engine->ended)
        noted_configuration(engine); /* that it stopped, which one that is killed cannot say */
    if (engine->noted.activity > 0)
        close(engine->noted.activity);
    engine->noted.activity = 0;
}
