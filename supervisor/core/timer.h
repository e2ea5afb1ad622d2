/*
 * timer.h: a hierarchical timing wheel: set, move and stop a timer in constant time, however many
 * there are.  The resolution is 2^20 ns; a timer is due at the first tick at or after its time.
 */
#ifndef HASUP_CORE_TIMER_H
#define HASUP_CORE_TIMER_H

#include "ipc/base.h"

enum { WHEEL_BITS = 6, WHEEL_SLOTS = 1 << WHEEL_BITS, WHEEL_LEVELS = 8, WHEEL_TICK_SHIFT = 20 };

/* Lives inside what it is about. */
struct timer_node {
    struct timer_node *next, **back; /* back NULL: not set */
    uint64_t tick;
    uint8_t level, slot;
    uint8_t kind; /* the owner's */
};

struct wheel {
    uint64_t tick; /* everything up to it has been due */
    uint64_t pending[WHEEL_LEVELS];
    struct timer_node *lists[WHEEL_LEVELS][WHEEL_SLOTS];
    struct timer_node *due;
};

/* Sets or moves it; HASUP_NEVER stops it. */
void timer_set_at(struct wheel *wheel, struct timer_node *timer, hasup_ns at);
void timer_clear(struct wheel *wheel, struct timer_node *timer);
static inline bool timer_is_set(const struct timer_node *timer)
{
    return timer->back != NULL;
}
/* The time at which it is due at the latest. */
static inline hasup_ns timer_at(const struct timer_node *timer)
{
    return timer->back ? (hasup_ns)(timer->tick << WHEEL_TICK_SHIFT) : HASUP_NEVER;
}

/* The next timer that is due at `now`, taken out; NULL: no more. */
struct timer_node *wheel_next(struct wheel *wheel, hasup_ns now);
/* When wheel_next should be asked again at the latest; HASUP_NEVER: no timer is set. */
hasup_ns wheel_deadline(const struct wheel *wheel);

#endif
