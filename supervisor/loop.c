/*
 * loop.c: libev behind supervisor/loop.h; the only file that knows it.  Owns the loop's memory and
 * the registered hooks.  Never wakes up by itself: without a timer and without events it blocks.
 */
#include "supervisor/loop.h"

#include "ipc/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <ev.h>

enum { SIGNALS_MAX = 8, HOOKS_MAX = 8 };

struct loop_signal {
    struct ev_signal watcher;
    void (*caught)(void *context, int signo);
    void *context;
};

struct loop {
    struct ev_loop *ev;
    struct ev_prepare before; /* the turn's end */
    struct ev_check after;    /* the turn's start */
    struct ev_async async;
    struct ev_timer core_timer;
    struct ev_idle again;
    void (*core_due)(void *context);
    void *core_context;
    void (*woken)(void *context);
    void *woken_context;
    hasup_ns now;
    uint64_t turn;
    bool stopped;
    struct {
        void (*end)(void *context);
        void *context;
    } hooks[HOOKS_MAX];
    unsigned hook_count;
    struct loop_signal signals[SIGNALS_MAX];
    unsigned signal_count;
    uint8_t *scratch;
};

hasup_ns loop_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

int64_t loop_wall_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}

static void run_hooks(struct loop *loop)
{
    for (unsigned i = 0; i < loop->hook_count; i++)
        loop->hooks[i].end(loop->hooks[i].context);
}

static void turn_end(struct ev_loop *ev, struct ev_prepare *watcher, int events)
{
    struct loop *loop = watcher->data;
    (void)events;
    ev_idle_stop(ev, &loop->again);
    run_hooks(loop);
}

static void turn_start(struct ev_loop *ev, struct ev_check *watcher, int events)
{
    struct loop *loop = watcher->data;
    (void)ev;
    (void)events;
    loop->now = loop_clock();
    loop->turn++;
}

static void on_async(struct ev_loop *ev, struct ev_async *watcher, int events)
{
    struct loop *loop = watcher->data;
    (void)ev;
    (void)events;
    if (loop->woken)
        loop->woken(loop->woken_context);
}

static void on_core_timer(struct ev_loop *ev, struct ev_timer *watcher, int events)
{
    struct loop *loop = watcher->data;
    (void)ev;
    (void)events;
    loop->core_due(loop->core_context);
}

static void on_again(struct ev_loop *ev, struct ev_idle *watcher, int events)
{
    (void)ev;
    (void)watcher;
    (void)events;
}

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;
    loop->ev = ev_loop_new(EVFLAG_AUTO);
    if (!loop->ev) {
        free(loop);
        return NULL;
    }
    loop->now = loop_clock();
    ev_prepare_init(&loop->before, turn_end);
    ev_check_init(&loop->after, turn_start);
    ev_async_init(&loop->async, on_async);
    ev_timer_init(&loop->core_timer, on_core_timer, 0, 0);
    ev_idle_init(&loop->again, on_again);
    loop->before.data = loop->after.data = loop->async.data = loop->core_timer.data = loop;
    /* The clock is read before anything else of the turn runs. */
    ev_set_priority(&loop->after, EV_MAXPRI);
    ev_prepare_start(loop->ev, &loop->before);
    ev_check_start(loop->ev, &loop->after);
    ev_async_start(loop->ev, &loop->async);
    return loop;
}

void loop_free(struct loop *loop)
{
    for (unsigned i = 0; i < loop->signal_count; i++)
        ev_signal_stop(loop->ev, &loop->signals[i].watcher);
    ev_loop_destroy(loop->ev);
    free(loop->scratch);
    free(loop);
}

void loop_run(struct loop *loop)
{
    if (!loop->stopped) /* ev_run knows nothing of an ev_break before it */
        ev_run(loop->ev, 0);
    run_hooks(loop); /* what the last turn had to say still leaves */
    loop->stopped = false;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
    ev_break(loop->ev, EVBREAK_ALL);
}

hasup_ns loop_now(const struct loop *loop)
{
    return loop->now;
}

uint64_t loop_turn(const struct loop *loop)
{
    return loop->turn;
}

/* ---- descriptors ---- */

static void on_ready(struct ev_loop *ev, struct ev_io *watcher, int events)
{
    struct watch *watch = watcher->data;
    (void)ev;
    watch->ready(watch->context,
                 (events & EV_READ ? WATCH_READ : 0) | (events & EV_WRITE ? WATCH_WRITE : 0));
}

int watch_set(struct watch *watch, struct loop *loop, int fd, int events)
{
    int wanted = (events & WATCH_READ ? EV_READ : 0) | (events & WATCH_WRITE ? EV_WRITE : 0);
    struct ev_io *io = watch->impl;
    if (!events) {
        watch_stop(watch);
        return 0;
    }
    if (!io && !(io = malloc(sizeof *io)))
        return HASUP_ENOMEM;
    if (watch->impl)
        ev_io_stop(loop->ev, io);
    ev_io_init(io, on_ready, fd, wanted);
    io->data = watch;
    ev_set_priority(io, events & WATCH_FIRST ? 1 : 0);
    watch->impl = io;
    watch->loop = loop;
    watch->fd = fd;
    watch->events = events;
    ev_io_start(loop->ev, io);
    return 0;
}

void watch_stop(struct watch *watch)
{
    if (!watch->impl)
        return;
    ev_io_stop(watch->loop->ev, watch->impl);
    free(watch->impl);
    watch->impl = NULL;
}

/* ---- timers ---- */

/* libev takes relative seconds from its own idea of now, which is that of the turn's start. */
static double seconds_until(const struct loop *loop, hasup_ns at)
{
    hasup_ns left = at - loop->now;
    return left <= 0 ? 0 : (double)left * 1e-9;
}

void loop_timer(struct loop *loop, hasup_ns at, void (*due)(void *context), void *context)
{
    ev_timer_stop(loop->ev, &loop->core_timer);
    if (at == HASUP_NEVER)
        return;
    loop->core_due = due;
    loop->core_context = context;
    ev_timer_set(&loop->core_timer, seconds_until(loop, at), 0);
    ev_timer_start(loop->ev, &loop->core_timer);
}

static void on_timer(struct ev_loop *ev, struct ev_timer *watcher, int events)
{
    struct timer *timer = watcher->data;
    (void)ev;
    (void)events;
    timer->due(timer->context);
}

int timer_set(struct timer *timer, struct loop *loop, hasup_ns at)
{
    struct ev_timer *ev = timer->impl;
    if (!ev && !(ev = malloc(sizeof *ev)))
        return HASUP_ENOMEM;
    if (timer->impl)
        ev_timer_stop(loop->ev, ev);
    ev_timer_init(ev, on_timer, seconds_until(loop, at), 0);
    ev->data = timer;
    timer->impl = ev;
    timer->loop = loop;
    ev_timer_start(loop->ev, ev);
    return 0;
}

void timer_stop(struct timer *timer)
{
    if (!timer->impl)
        return;
    ev_timer_stop(timer->loop->ev, timer->impl);
    free(timer->impl);
    timer->impl = NULL;
}

/* ---- the rest ---- */

static void on_signal(struct ev_loop *ev, struct ev_signal *watcher, int events)
{
    struct loop_signal *s = watcher->data;
    (void)ev;
    (void)events;
    s->caught(s->context, watcher->signum);
}

int loop_signal(struct loop *loop, int signo, void (*caught)(void *context, int signo),
                void *context)
{
    if (loop->signal_count == SIGNALS_MAX)
        return HASUP_EFULL;
    struct loop_signal *s = &loop->signals[loop->signal_count++];
    s->caught = caught;
    s->context = context;
    ev_signal_init(&s->watcher, on_signal, signo);
    s->watcher.data = s;
    ev_signal_start(loop->ev, &s->watcher);
    return 0;
}

int loop_at_turn_end(struct loop *loop, void (*end)(void *context), void *context)
{
    if (loop->hook_count == HOOKS_MAX)
        return HASUP_EFULL;
    loop->hooks[loop->hook_count].end = end;
    loop->hooks[loop->hook_count++].context = context;
    return 0;
}

void loop_again(struct loop *loop)
{
    ev_idle_start(loop->ev, &loop->again);
}

void loop_on_wake(struct loop *loop, void (*woken)(void *context), void *context)
{
    loop->woken = woken;
    loop->woken_context = context;
}

void loop_wake(struct loop *loop)
{
    ev_async_send(loop->ev, &loop->async);
}

uint8_t *loop_scratch(struct loop *loop)
{
    if (!loop->scratch)
        loop->scratch = malloc(HASUP_CHANNEL_SCRATCH);
    if (!loop->scratch)
        abort();
    return loop->scratch;
}
