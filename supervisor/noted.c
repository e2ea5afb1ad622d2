/*
 * noted.c: what hasupd notes in its state directory for those who look at it from outside: since
 * when each slot has changes that no stored checkpoint has (`activity`), and who it is and how it
 * is configured (`running.json`, 0600: it may hold what only its user should read).  Nothing of it
 * is needed to serve: where it cannot be written, that is said once.  Decides nothing.
 */
#include "supervisor/engine.h"

#include "checkpoints/activity.h"
#include "checkpoints/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int64_t wall_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}

static void note_failed(struct engine *engine, const char *file)
{
    if (!engine->noted.failing)
        LOG_EVENT(LEVEL_WARNING, "notes.failing", strerror(errno), LOG_TEXT("file", file),
                  LOG_TEXT("effect", "the audit knows less; serving goes on"));
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
    slot->changed.wall_ns = wall_now();
    slot->changed.position = position;
    write_activity(slot);
}

void noted_stored(struct slot *slot)
{
    bool more = slot->changed.newest > slot->stored_position;
    slot->changed.wall_ns = more ? slot->stored_wall_ns : 0; /* what is more came after that */
    slot->changed.position = slot->stored_position + 1;
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

/* ---- running.json ---- */

static json_t *running_json(const struct engine *engine)
{
    char *text = config_json(engine->config);
    json_t *config = text ? json_loads(text, 0, NULL) : NULL;
    const char *path = getenv("PATH");
    free(text);
    return config ? json_pack("{s:s, s:I, s:I, s:I, s:s, s:o}", "version", HASUP_VERSION, "pid",
                              (json_int_t)getpid(), "start_ticks",
                              (json_int_t)owner_start_ticks(getpid()), "began_wall_ms",
                              (json_int_t)(engine->noted.began / HASUP_MS), "path",
                              path ? path : "", "config", config)
                  : NULL;
}

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

void noted_configuration(struct engine *engine)
{
    char path[4096];
    json_t *json = running_json(engine);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    errno = ENOMEM;
    snprintf(path, sizeof path, "%s/running.json", engine->config->state_dir);
    if (!text || write_whole(path, text))
        note_failed(engine, "running.json");
    free(text);
    json_decref(json);
}

void noted_begin(struct engine *engine)
{
    engine->noted.began = wall_now();
    engine->noted.activity = activity_open(engine->config->state_dir);
    if (engine->noted.activity < 0)
        note_failed(engine, "activity");
    noted_configuration(engine);
}

void noted_end(struct engine *engine)
{
    if (engine->noted.activity > 0)
        close(engine->noted.activity);
}
