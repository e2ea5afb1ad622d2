/*
 * timer.c: the timing wheel.  A timer stands at the level of the highest group of 6 bits in which
 * its tick differs from the wheel's; when the wheel reaches its list, it moves to a lower level or
 * is due.  So each timer is moved at most once a level.
 */
#include "supervisor/core/timer.h"

static void list_add(struct timer_node **list, struct timer_node *timer)
{
    timer->next = *list;
    if (timer->next)
        timer->next->back = &timer->next;
    timer->back = list;
    *list = timer;
}

static void wheel_place(struct wheel *wheel, struct timer_node *timer)
{
    uint64_t differs = timer->tick ^ wheel->tick;
    if (timer->tick <= wheel->tick) {
        timer->level = WHEEL_LEVELS; /* of no level: due */
        timer->slot = 0;
        list_add(&wheel->due, timer);
        return;
    }
    unsigned level = (63u - (unsigned)__builtin_clzll(differs)) / WHEEL_BITS;
    if (level >= WHEEL_LEVELS) { /* further away than anyone lives */
        level = WHEEL_LEVELS - 1;
        timer->tick = wheel->tick | (((uint64_t)1 << (WHEEL_BITS * WHEEL_LEVELS)) - 1);
    }
    timer->level = (uint8_t)level;
    timer->slot = (uint8_t)((timer->tick >> (level * WHEEL_BITS)) & (WHEEL_SLOTS - 1));
    list_add(&wheel->lists[level][timer->slot], timer);
    wheel->pending[level] |= (uint64_t)1 << timer->slot;
}

void timer_clear(struct wheel *wheel, struct timer_node *timer)
{
    if (!timer->back)
        return;
    *timer->back = timer->next;
    if (timer->next)
        timer->next->back = timer->back;
    if (timer->level < WHEEL_LEVELS && !wheel->lists[timer->level][timer->slot])
        wheel->pending[timer->level] &= ~((uint64_t)1 << timer->slot);
    *timer = (struct timer_node){.kind = timer->kind};
}

void timer_set_at(struct wheel *wheel, struct timer_node *timer, hasup_ns at)
{
    timer_clear(wheel, timer);
    if (at == HASUP_NEVER)
        return;
    uint64_t ns = at < 0 ? 0 : (uint64_t)at;
    timer->tick = (ns + ((uint64_t)1 << WHEEL_TICK_SHIFT) - 1) >> WHEEL_TICK_SHIFT;
    wheel_place(wheel, timer);
}

/* The next tick at which a list has to be looked at; UINT64_MAX: there is none. */
static uint64_t wheel_event(const struct wheel *wheel, unsigned *level, unsigned *slot)
{
    for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
        if (!wheel->pending[l])
            continue;
        /* Lists at or before the wheel's own place at this level are empty. */
        *level = l;
        *slot = (unsigned)__builtin_ctzll(wheel->pending[l]);
        uint64_t above = (wheel->tick >> ((l + 1) * WHEEL_BITS)) << ((l + 1) * WHEEL_BITS);
        return above | (uint64_t)*slot << (l * WHEEL_BITS);
    }
    return UINT64_MAX;
}

/* Moves on to `tick`, the place of the list (level, slot), and hands its timers down. */
static void wheel_reach(struct wheel *wheel, uint64_t tick, unsigned level, unsigned slot)
{
    struct timer_node *timer = wheel->lists[level][slot], *next;
    wheel->tick = tick;
    wheel->lists[level][slot] = NULL;
    wheel->pending[level] &= ~((uint64_t)1 << slot);
    for (; timer; timer = next) {
        next = timer->next;
        wheel_place(wheel, timer);
    }
}

struct timer_node *wheel_next(struct wheel *wheel, hasup_ns now)
{
    uint64_t until = (uint64_t)(now < 0 ? 0 : now) >> WHEEL_TICK_SHIFT;
    unsigned level, slot;
    if (!wheel->due && until <= wheel->tick)
        return NULL; /* nearly always: what stands in the lists is due after the wheel's tick */
    while (!wheel->due) {
        uint64_t tick = wheel_event(wheel, &level, &slot);
        if (tick > until) {
            if (until > wheel->tick)
                wheel->tick = until;
            return NULL;
        }
        wheel_reach(wheel, tick, level, slot);
    }
    struct timer_node *timer = wheel->due;
    timer_clear(wheel, timer);
    return timer;
}

hasup_ns wheel_deadline(const struct wheel *wheel)
{
    unsigned level, slot;
    if (wheel->due)
        return 0;
    uint64_t tick = wheel_event(wheel, &level, &slot);
    return tick == UINT64_MAX ? HASUP_NEVER : (hasup_ns)(tick << WHEEL_TICK_SHIFT);
}
