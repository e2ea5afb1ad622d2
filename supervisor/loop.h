/*
 * loop.h: the one loop of hasupd: descriptors, one timer, signals, wakes from other threads, and a
 * hook at the end of each turn.  The only file behind it that knows libev is loop.c.  All callbacks
 * run on the loop's thread.
 */
#ifndef HASUP_SUPERVISOR_LOOP_H
#define HASUP_SUPERVISOR_LOOP_H

#include "ipc/base.h"

struct loop;

enum {
    WATCH_READ = 1,
    WATCH_WRITE = 2,
    WATCH_URGENT = 4, /* POLLPRI: cgroup.events */
    WATCH_FIRST = 8   /* with others: of all that is ready in a turn it is called first */
};

/* A watched descriptor.  Owned by the caller, who stops it before it closes the descriptor. */
struct watch {
    void (*ready)(void *context, int events);
    void *context;
    struct loop *loop;
    void *impl; /* loop.c's own; NULL while stopped */
    int fd, events;
};

struct loop *loop_new(void); /* NULL: out of memory or descriptors */
void loop_free(struct loop *loop);

/* Runs turns until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Monotonic time. */
hasup_ns loop_clock(void);
/* Wall time, since 1970. */
int64_t loop_wall_now(void);
/* Monotonic time at the start of this turn. */
hasup_ns loop_now(const struct loop *loop);

/* Which turn this is.  What was ready before a turn began to wait is seen in that turn. */
uint64_t loop_turn(const struct loop *loop);

/* Starts watching, or changes what is watched for; `events` 0 stops.  HASUP_ENOMEM. */
int watch_set(struct watch *watch, struct loop *loop, int fd, int events) HASUP_NODISCARD;
void watch_stop(struct watch *watch);

/* The loop's one timer of the core: calls `due` at or soon after `at`; HASUP_NEVER: no timer. */
void loop_timer(struct loop *loop, hasup_ns at, void (*due)(void *context), void *context);

/* A further timer of one's own (connection deadlines).  Zeroed before its first use. */
struct timer {
    void (*due)(void *context);
    void *context;
    struct loop *loop;
    void *impl;
};
int timer_set(struct timer *timer, struct loop *loop, hasup_ns at) HASUP_NODISCARD;
void timer_stop(struct timer *timer);

/* Calls `caught(context, signo)` on the loop for each signal; several may be merged. */
int loop_signal(struct loop *loop, int signo, void (*caught)(void *context, int signo),
                void *context) HASUP_NODISCARD;

/* Called before the loop blocks, once a turn, in the order of registration: flush, rearm timers.
 * A hook that made new work for this turn calls loop_again. */
int loop_at_turn_end(struct loop *loop, void (*end)(void *context), void *context) HASUP_NODISCARD;
void loop_again(struct loop *loop); /* the next turn does not block */

/* `woken` runs on the loop after loop_wake, which any thread may call; several calls may be merged.
 */
void loop_on_wake(struct loop *loop, void (*woken)(void *context), void *context);
void loop_wake(struct loop *loop);

/* Input memory lent to channels for the length of one callback (HASUP_CHANNEL_SCRATCH bytes). */
uint8_t *loop_scratch(struct loop *loop);

#endif
