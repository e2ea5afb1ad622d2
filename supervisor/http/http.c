/*
 * http.c: the listener of the HTTP door: it accepts, refuses where there is no room, drains.  What
 * becomes of a connection is connection.c's.
 *
 * Failure modes: no connection free → the oldest idle one is closed, else 503 at once; no
 * descriptor or memory → the backlog waits for a moment.
 */
#include "supervisor/http/connection.h"
#include "supervisor/listen.h"
#include "supervisor/log.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ACCEPTS_A_TURN = 64, BACKLOG = 1024 };

static const hasup_ns LINGER = 2 * HASUP_S, ACCEPT_PAUSE = 100 * HASUP_MS;

/* ---- accept ---- */

void http_refuse(struct http *http, int fd)
{
    static const char text[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n"
        "{\"error\": {\"code\": \"unavailable\", \"message\": \"limits.connections is "
        "reached\"}}\n";
    if (!http->full)
        LOG_EVENT(LEVEL_WARNING, "client.refused", "limits.connections is reached",
                  LOG_TEXT("door", "http"));
    http->full = true;
    http->counts->refused++;
    (void)!send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(fd, SHUT_WR);
    close(fd);
}

/* Closes the connection that was idle for longest. */
static void make_place(struct http *http)
{
    struct connection *c = http->deadlines[DEADLINE_IDLE].first;
    for (struct connection *next; c && http->count >= http->options.connections; c = next) {
        next = c->next;
        if (!c->dirty)
            connection_close_idle(c);
    }
}

static void http_take(struct http *http, int fd)
{
    int on = 1;
    if (http->count >= http->options.connections)
        make_place(http);
    if (http->count >= http->options.connections) {
        http_refuse(http, fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)connection_new(http, fd);
}

static void accept_again(void *context)
{
    struct http *http = context;
    if (http->fd >= 0 && watch_set(&http->watch, http->loop, http->fd, WATCH_READ))
        (void)!timer_set(&http->accept_again, http->loop, loop_now(http->loop) + ACCEPT_PAUSE);
}

/* The backlog would wake the loop again at once and for ever: it waits. */
static void accept_failed(struct http *http)
{
    if (!http->accept_failing)
        LOG_EVENT(LEVEL_ERROR, "door.accept_failed", strerror(errno), LOG_TEXT("door", "http"));
    http->accept_failing = true;
    if (!timer_set(&http->accept_again, http->loop, loop_now(http->loop) + ACCEPT_PAUSE))
        watch_stop(&http->watch);
}

static void http_accept(void *context, int events)
{
    struct http *http = context;
    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN && http->fd >= 0; i++) {
        int fd = accept4(http->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                accept_failed(http);
            return;
        }
        http->accept_failing = false;
        http_take(http, fd);
    }
}

/* ---- the door ---- */

static void options_default(struct http_options *o)
{
    o->connections = o->connections ? o->connections : 1024;
    o->head_max = o->head_max ? o->head_max : 16 * 1024;
    if (o->head_max > HTTP_READ)
        o->head_max = HTTP_READ;
    o->fields_max = o->fields_max && o->fields_max < HTTP_FIELDS ? o->fields_max : 100;
    o->head_timeout = o->head_timeout ? o->head_timeout : 10 * HASUP_S;
    o->body_timeout = o->body_timeout ? o->body_timeout : 60 * HASUP_S;
    o->idle_timeout = o->idle_timeout ? o->idle_timeout : 75 * HASUP_S;
    o->stream_bytes = o->stream_bytes ? o->stream_bytes : 4 << 20;
    o->body_bytes = o->body_bytes ? o->body_bytes : 1 << 30;
    o->name = o->name ? o->name : "hasup";
    o->version = o->version ? o->version : HASUP_VERSION;
}

static void http_init(struct http *http, struct loop *loop, struct engine *engine,
                      const struct http_options *options)
{
    http->loop = loop;
    http->engine = engine;
    http->counts = engine_door_counts(engine, DOOR_HTTP);
    http->options = *options;
    options_default(&http->options);
    http->begun_s = time(NULL);
    http->armed = HASUP_NEVER;
    http->timer.due = deadlines_due;
    http->timer.context = http;
    http->accept_again = (struct timer){.due = accept_again, .context = http};
    http->watch = (struct watch){.ready = http_accept, .context = http, .fd = -1};
    for (int i = 0; i < DEADLINES; i++)
        http->deadlines[i].last = &http->deadlines[i].first;
    http->deadlines[DEADLINE_IDLE].length = http->options.idle_timeout;
    http->deadlines[DEADLINE_HEAD].length = http->options.head_timeout;
    http->deadlines[DEADLINE_BODY].length = http->options.body_timeout;
    http->deadlines[DEADLINE_STALL].length = http->options.idle_timeout;
    http->deadlines[DEADLINE_LINGER].length = LINGER;
}

/* What listens, or a negative code and `error`. */
static int open_listener(const struct http_options *options, uint16_t *port,
                         char error[HTTP_ERROR_MAX])
{
    char why[LISTEN_ERROR];
    int fd = options->listener > 0 ? options->listener : listen_tcp(options->listen, BACKLOG, why);
    if (fd < 0)
        snprintf(error, HTTP_ERROR_MAX, "listen.http: %s", why);
    if (fd < 0 || (!listen_port(fd, port) && !fcntl(fd, F_SETFL, O_NONBLOCK)))
        return fd;
    close(fd);
    return HASUP_ESYS;
}

struct http *http_new(struct loop *loop, struct engine *engine, const struct http_options *options,
                      char error[HTTP_ERROR_MAX])
{
    struct http *http = calloc(1, sizeof *http);
    snprintf(error, HTTP_ERROR_MAX, "listen.http: out of memory");
    if (!http)
        return NULL;
    http_init(http, loop, engine, options);
    /* Each field of the meta repeats a part of the head, behind a header of its own. */
    http->meta_room = http->options.head_max + HTTP_FIELDS * 16 + 1024;
    http->meta = malloc(http->meta_room + HTTP_SESSION_ROOM);
    http->fd = -1;
    if (http->meta)
        http->fd = open_listener(options, &http->port, error);
    if (http->fd < 0 || loop_at_turn_end(loop, connections_turn_end, http) ||
        watch_set(&http->watch, loop, http->fd, WATCH_READ)) {
        http_free(http);
        return NULL;
    }
    return http;
}

uint16_t http_port(const struct http *http)
{
    return http->port;
}

int http_listener(const struct http *http)
{
    return http->fd;
}

uint32_t http_connections(const struct http *http)
{
    return http->count;
}

static void listener_close(struct http *http)
{
    watch_stop(&http->watch);
    timer_stop(&http->accept_again);
    if (http->fd >= 0)
        close(http->fd);
    http->fd = -1;
}

void http_drain(struct http *http)
{
    if (http->fd < 0)
        return;
    listener_close(http);
    for (struct connection *c = http->deadlines[DEADLINE_IDLE].first, *next; c; c = next) {
        next = c->next;
        connection_close_idle(c);
    }
    loop_again(http->loop);
}

void http_free(struct http *http)
{
    listener_close(http);
    connections_free(http);
    timer_stop(&http->timer);
    free(http->meta);
    free(http);
}
