/*
 * service.c: hasupd's own life, told to the service manager.  Owns one datagram socket and, where a
 * watchdog is asked for, one timer at half its time.  The loop feeds the watchdog, so a loop that
 * stands still is noticed and nothing else is.  It must not block or end hasupd: a manager that
 * cannot be told is logged once, and the rest goes on.
 */
#include "supervisor/service.h"
#include "supervisor/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGE = 512 };

/* What workers may take beyond the grace: drain and stop time-outs, the last checkpoints. */
static const hasup_ns STOP_ROOM = 60 * HASUP_S;

struct service {
    struct loop *loop;
    int fd; /* -1: nobody is to be told */
    struct sockaddr_un address;
    socklen_t address_len;
    struct timer timer;
    hasup_ns interval; /* of the watchdog; 0: none */
    bool failing;
};

HASUP_PRINTF(2, 3) static void tell(struct service *service, const char *format, ...)
{
    char text[MESSAGE];
    va_list args;
    if (service->fd < 0)
        return;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t size = len < MESSAGE ? (size_t)len : MESSAGE - 1;
    ssize_t sent = sendto(service->fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                          (const struct sockaddr *)&service->address, service->address_len);
    bool failed = sent < 0;
    if (failed && !service->failing)
        LOG_EVENT(LEVEL_WARNING, "service.untold",
                  "the service manager cannot be told of hasupd's state: look at NOTIFY_SOCKET",
                  LOG_TEXT("error", strerror(errno)));
    service->failing = failed;
}

static void feed(void *context)
{
    struct service *service = context;
    tell(service, "WATCHDOG=1");
    if (timer_set(&service->timer, service->loop, loop_now(service->loop) + service->interval))
        LOG_EVENT(LEVEL_ERROR, "service.untold", "the watchdog is fed no more",
                  LOG_TEXT("error", "out of memory"));
}

/* Half of what the manager waits for, as sd_watchdog_enabled(3) advises; 0: none is asked for, or
 * of another process. */
static hasup_ns watchdog_interval(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    char *end;
    if (!usec || (pid && strtoll(pid, NULL, 10) != getpid()))
        return 0;
    errno = 0;
    long long value = strtoll(usec, &end, 10);
    bool sound = !errno && end != usec && !*end && value > 0 && value < HASUP_NEVER / HASUP_US;
    return sound ? value * HASUP_US / 2 : 0;
}

/* "/path", or "@name" in the abstract namespace. */
static bool read_address(struct service *service, const char *name)
{
    size_t len = strlen(name);
    if ((*name != '/' && *name != '@') || len >= sizeof service->address.sun_path)
        return false;
    service->address.sun_family = AF_UNIX;
    memcpy(service->address.sun_path, name, len + 1);
    if (*name == '@')
        service->address.sun_path[0] = '\0';
    service->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    return true;
}

struct service *service_new(struct loop *loop)
{
    struct service *service = calloc(1, sizeof *service);
    const char *name = getenv("NOTIFY_SOCKET");
    if (!service)
        return NULL;
    service->loop = loop;
    service->fd = -1;
    service->timer = (struct timer){.due = feed, .context = service};
    if (!name || !*name)
        return service;
    if (read_address(service, name))
        service->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (service->fd < 0)
        LOG_EVENT(LEVEL_WARNING, "service.untold",
                  "NOTIFY_SOCKET is neither a path nor an abstract name, or no socket is left",
                  LOG_TEXT("socket", name));
    else
        service->interval = watchdog_interval();
    return service;
}

void service_ready(struct service *service, const char *status)
{
    tell(service, "READY=1\nSTATUS=%s", status);
    if (service->interval && !service->timer.impl)
        feed(service);
}

void service_reloading(struct service *service)
{
    tell(service, "RELOADING=1\nMONOTONIC_USEC=%lld",
         (long long)(loop_now(service->loop) / HASUP_US));
}

void service_stopping(struct service *service, hasup_ns grace)
{
    const hasup_ns most = grace + STOP_ROOM;
    tell(service, "STOPPING=1\nSTATUS=finishing what was accepted\nEXTEND_TIMEOUT_USEC=%lld",
         (long long)(most / HASUP_US));
}

void service_free(struct service *service)
{
    if (!service)
        return;
    timer_stop(&service->timer);
    if (service->fd >= 0)
        close(service->fd);
    free(service);
}
