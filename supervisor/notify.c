/*
 * notify.c: what a process says by sd_notify, as with systemd: a datagram socket whose name is in
 * its environment, and lines in what arrives there: its watchdog, and that a program is ready.
 * Each has one of its own, so that whatever arrives is its own or its children's; it is there where
 * timeouts.watchdog is set, or ready: notify.
 *
 * Its file is in runtime_dir, which nobody but hasupd's user enters.  A process that cannot reach
 * that, because it runs as another user or has a /tmp of its own, has a socket without a file,
 * whose name begins with "@"; there the kernel says who sends, and only the process's user and
 * hasupd's are heard.
 * Owns the socket and its file.  Failure mode: a datagram that says nothing known is passed over,
 * as sd_notify(3) wants it.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATAGRAM = 4096, READS = 16 /* at once, for the sake of others */, READS_ALL = 256 };

struct notify {
    struct worker *worker;
    struct watch watch;
    int fd;
    char name[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* its file's path, or "@..." */
    uid_t uid;     /* of the process, where the name is "@..." */
    bool strangers; /* somebody else has sent, which is said once */
};

static bool is_abstract(const struct notify *notify)
{
    return notify->name[0] == '@';
}

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

/* Who sends, where the kernel says it.  Descriptors that come along are not kept: who sends
 * BARRIER=1 waits until his is closed. */
static struct ucred sender(struct msghdr *message)
{
    struct ucred from = {.pid = 0, .uid = (uid_t)-1};
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    for (; header; header = CMSG_NXTHDR(message, header)) {
        const size_t len = header->cmsg_len - CMSG_LEN(0);
        if (header->cmsg_level != SOL_SOCKET)
            continue;
        if (header->cmsg_type == SCM_CREDENTIALS && len >= sizeof from)
            memcpy(&from, CMSG_DATA(header), sizeof from);
        for (size_t i = 0; header->cmsg_type == SCM_RIGHTS && i < len / sizeof(int); i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            close(fd);
        }
    }
    return from;
}

/* Anybody may send to a socket without a file. */
static bool is_heard(struct notify *notify, struct msghdr *message)
{
    const struct ucred from = sender(message);
    if (!is_abstract(notify))
        return true;
    if (from.uid == notify->uid || from.uid == geteuid())
        return true;
    if (!notify->strangers) /* as often as a stranger likes it would be told otherwise */
        LOG_EVENT(LEVEL_WARNING, "notify.refused",
                  "another user's process speaks for it; this is said once",
                  LOG_TEXT("slot", notify->worker->home->name), LOG_INT("pid", from.pid));
    notify->strangers = true;
    return false;
}

static void notify_ready(void *context, int events)
{
    struct notify *notify = context;
    char text[DATAGRAM];
    union {
        struct cmsghdr aligned;
        char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
    } control;
    (void)events;
    for (int heard = 0, all = 0; heard < READS && all < READS_ALL && notify->fd >= 0; all++) {
        struct iovec into = {.iov_base = text, .iov_len = sizeof text - 1};
        struct msghdr message = {.msg_iov = &into,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        ssize_t got = recvmsg(notify->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0)
            return;
        text[got] = '\0';
        if (!is_heard(notify, &message))
            continue;
        heard++;
        notify_lines(notify, text);
    }
}

void notify_close(struct notify *notify)
{
    if (!notify || notify->fd < 0)
        return;
    watch_stop(&notify->watch);
    close(notify->fd);
    if (!is_abstract(notify))
        unlink(notify->name);
    notify->fd = -1;
}

void notify_free(struct notify *notify)
{
    notify_close(notify);
    free(notify);
}

const char *notify_path(const struct notify *notify)
{
    return notify->name;
}

static void make_name(struct notify *notify)
{
    const struct worker *worker = notify->worker;
    const struct config_process *process = &worker->slot->config->process;
    const char *directory = worker->slot->engine->config->runtime_dir;
    uint64_t random = 0;
    if (process->user || process->private_tmp || !directory) {
        (void)!getrandom(&random, sizeof random, 0); /* two hasupds have no name in common */
        snprintf(notify->name, sizeof notify->name, "@hasup/%d/wd.%u.%u.%016llx", (int)getpid(),
                 worker->slot->index, worker->number, (unsigned long long)random);
    } else {
        snprintf(notify->name, sizeof notify->name, "%s/wd.%u.%u", directory, worker->slot->index,
                 worker->number);
        unlink(notify->name);
    }
}

static int notify_bind(const struct notify *notify)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const size_t len = strlen(notify->name);
    const int on = 1;
    memcpy(address.sun_path, notify->name, len);
    if (!is_abstract(notify))
        return bind(notify->fd, (const struct sockaddr *)&address, sizeof address);
    address.sun_path[0] = '\0';
    return setsockopt(notify->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) ||
           bind(notify->fd, (const struct sockaddr *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

struct notify *notify_new(struct worker *worker, uid_t uid)
{
    struct engine *engine = worker->slot->engine;
    struct notify *notify = calloc(1, sizeof *notify);
    if (!notify)
        return NULL;
    notify->worker = worker;
    notify->uid = uid;
    notify->watch.ready = notify_ready;
    notify->watch.context = notify;
    make_name(notify);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (notify->fd < 0 || fchmod(notify->fd, 0600) || notify_bind(notify) ||
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
                                  .fd = -1};
    }
    carry_fd(carry, &notify->fd);
    carry_text(carry, notify->name, sizeof notify->name);
    if (codec->loading && notify->fd >= 0 &&
        watch_set(&notify->watch, worker->slot->engine->loop, notify->fd, WATCH_READ))
        codec_fail(codec);
}

void notify_carry_more(struct carry *carry, struct notify *notify)
{
    CARRY(carry);
    V(notify->uid);
}
