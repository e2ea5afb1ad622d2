/*
 * notify.c: what a process says by sd_notify, as with systemd: a datagram socket whose name is in
 * its environment, and lines in what arrives there: its watchdog, and that a program is ready.
 * Each has one of its own, so that whatever arrives is its own or its children's; it is there where
 * timeouts.watchdog is set, or ready: notify.
 * Owns the socket and its file.  Failure mode: a datagram that says nothing known is passed over,
 * as sd_notify(3) wants it.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATAGRAM = 4096, READS = 16 /* at once, for the sake of others */ };

struct notify {
    struct worker *worker;
    struct watch watch;
    int fd;
    struct sockaddr_un address;
};

static void notify_alive(struct notify *notify, bool hangs)
{
    struct worker *worker = notify->worker;
    engine_post(worker->slot->engine, &(struct event){.type = EVENT_ALIVE,
                                                      .slot = worker->slot->index,
                                                      .worker = worker->number,
                                                      .hangs = hangs});
}

static void notify_status(const struct notify *notify, const char *text)
{
    if (notify->worker->capture)
        capture_say(notify->worker->capture, CAPTURE_STATUS, text);
}

/* The lines of one datagram.  They may be the last that `notify` hears. */
static void notify_lines(struct notify *notify, char *text)
{
    struct worker *worker = notify->worker;
    bool alive = false, hangs = false, ready = false;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        alive = alive || strcmp(line, "WATCHDOG=1") == 0 || strcmp(line, "READY=1") == 0;
        hangs = hangs || strcmp(line, "WATCHDOG=trigger") == 0;
        ready = ready || strcmp(line, "READY=1") == 0;
        if (strncmp(line, "STATUS=", 7) == 0)
            notify_status(notify, line + 7);
    }
    if (ready && worker->program && program_is_told(worker))
        program_came_up(worker);
    if (alive || hangs)
        notify_alive(notify, hangs);
}

static void notify_ready(void *context, int events)
{
    struct notify *notify = context;
    char text[DATAGRAM];
    (void)events;
    for (int i = 0; i < READS && notify->fd >= 0; i++) {
        ssize_t got = recv(notify->fd, text, sizeof text - 1, MSG_DONTWAIT);
        if (got < 0)
            return;
        text[got] = '\0';
        notify_lines(notify, text);
    }
}

void notify_close(struct notify *notify)
{
    if (!notify || notify->fd < 0)
        return;
    watch_stop(&notify->watch);
    close(notify->fd);
    unlink(notify->address.sun_path);
    notify->fd = -1;
}

void notify_free(struct notify *notify)
{
    notify_close(notify);
    free(notify);
}

const char *notify_path(const struct notify *notify)
{
    return notify->address.sun_path;
}

struct notify *notify_new(struct worker *worker)
{
    struct engine *engine = worker->slot->engine;
    struct notify *notify = calloc(1, sizeof *notify);
    if (!notify)
        return NULL;
    notify->worker = worker;
    notify->watch.ready = notify_ready;
    notify->watch.context = notify;
    notify->address.sun_family = AF_UNIX;
    snprintf(notify->address.sun_path, sizeof notify->address.sun_path, "%s/wd.%u.%u",
             engine->config->runtime_dir, worker->slot->index, worker->number);
    unlink(notify->address.sun_path);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0 || fchmod(notify->fd, 0600) ||
        bind(notify->fd, (const struct sockaddr *)&notify->address, sizeof notify->address) ||
        watch_set(&notify->watch, engine->loop, notify->fd, WATCH_READ)) {
        int failed = errno;
        notify_free(notify);
        errno = failed;
        return NULL;
    }
    return notify;
}

/* ---- to another hasupd ---- */

void notify_carry(struct carry *carry, struct worker *worker)
{
    CARRY(carry);
    struct notify *notify = worker->notify;
    bool there = notify;
    V(there);
    if (!there)
        return;
    if (codec->loading) {
        notify = worker->notify = calloc(1, sizeof *notify);
        if (!notify) {
            codec_fail(codec);
            return;
        }
        *notify = (struct notify){.worker = worker,
                                  .watch = {.ready = notify_ready, .context = notify},
                                  .fd = -1,
                                  .address = {.sun_family = AF_UNIX}};
    }
    carry_fd(carry, &notify->fd);
    carry_text(carry, notify->address.sun_path, sizeof notify->address.sun_path);
    if (codec->loading && notify->fd >= 0 &&
        watch_set(&notify->watch, worker->slot->engine->loop, notify->fd, WATCH_READ))
        codec_fail(codec);
}
