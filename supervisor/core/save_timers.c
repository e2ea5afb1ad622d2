/*
 * save_timers.c: the timers as bytes and back: of which kind, of whose, and when, list by list of
 * the wheel, in the order of the lists, which is that in which they are due.
 */
#include "supervisor/core/save_own.h"

static struct timer_node *timer_of_slot(struct slot *slot, enum timer_kind kind)
{
    return kind == TIMER_SLOT         ? &slot->timer
           : kind == TIMER_WORK       ? &slot->work_timer
           : kind == TIMER_CHECKPOINT ? &slot->checkpoint_timer
                                      : &slot->probe_timer;
}

static struct timer_node *timer_of_model(struct model *model, enum timer_kind kind)
{
    return kind == TIMER_BREAKER ? &model->breaker.timer
           : kind == TIMER_BATCH ? &model->batch.timer
                                 : &model->rollout.timer;
}

/* The timer of this kind of the owner at `place` of its table; NULL: there is no such. */
static struct timer_node *timer_find(struct core *core, enum timer_kind kind, uint64_t place)
{
    switch (kind) {
    case TIMER_REQUEST: return place < core->items_high ? &core->items[place].timer : NULL;
    case TIMER_SLOT:
    case TIMER_WORK:
    case TIMER_CHECKPOINT:
    case TIMER_PROBE:
        return place < core->slots_high ? timer_of_slot(&core->slots[place], kind) : NULL;
    case TIMER_ENTRY: return place < core->entries.high ? &core->entries.list[place].timer : NULL;
    case TIMER_BODY: return place < core->bodies.high ? &core->bodies.list[place].timer : NULL;
    case TIMER_BREAKER:
    case TIMER_BATCH:
    case TIMER_ROLLOUT:
        return place < core->limits.models ? timer_of_model(&core->models[place], kind) : NULL;
    case TIMER_SHUTDOWN: return &core->shutdown_timer;
    case TIMER_STORING: return &core->storing_timer;
    case TIMER_SYNC: return &core->sync_timer;
    }
    return NULL;
}

/* The place of a timer's owner in its table. */
static uint64_t timer_place(const struct core *core, const struct timer_node *timer)
{
    const char *at = (const char *)timer;
    switch ((enum timer_kind)timer->kind) {
    case TIMER_REQUEST: return (size_t)(at - (const char *)core->items) / sizeof *core->items;
    case TIMER_SLOT:
    case TIMER_WORK:
    case TIMER_CHECKPOINT:
    case TIMER_PROBE: return (size_t)(at - (const char *)core->slots) / sizeof *core->slots;
    case TIMER_ENTRY:
        return (size_t)(at - (const char *)core->entries.list) / sizeof *core->entries.list;
    case TIMER_BODY:
        return (size_t)(at - (const char *)core->bodies.list) / sizeof *core->bodies.list;
    case TIMER_BREAKER:
    case TIMER_BATCH:
    case TIMER_ROLLOUT: return (size_t)(at - (const char *)core->models) / sizeof *core->models;
    case TIMER_SHUTDOWN:
    case TIMER_STORING:
    case TIMER_SYNC: break;
    }
    return 0;
}

static void timers_save(const struct core *core, struct codec *codec, const struct timer_node *list)
{
    for (const struct timer_node *timer = list; timer; timer = timer->next) {
        if (PLANT(PLANT_FORGET_TIMER) && timer->kind == TIMER_BREAKER)
            continue;
        codec_put(codec, timer->kind + 1u);
        codec_put(codec, timer_place(core, timer));
        codec_put(codec, timer->tick);
    }
    codec_put(codec, 0);
}

static void timers_load(struct core *core, struct codec *codec, struct timer_node **list,
                        unsigned level, unsigned slot)
{
    uint64_t kind;
    while ((kind = codec_get(codec))) {
        uint64_t place = codec_get(codec), tick = codec_get(codec);
        struct timer_node *timer =
            kind <= TIMER_PROBE + 1 ? timer_find(core, (enum timer_kind)(kind - 1), place) : NULL;
        if (!timer || timer_is_set(timer) || timer->kind != kind - 1) {
            codec_fail(codec);
            return;
        }
        timer->tick = tick;
        timer->level = (uint8_t)level;
        timer->slot = (uint8_t)slot;
        timer->next = NULL;
        timer->back = list;
        *list = timer;
        list = &timer->next;
    }
}

void timers_code(struct core *core, struct codec *codec)
{
    struct wheel *wheel = &core->wheel;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++)
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            struct timer_node **list = &wheel->lists[level][slot];
            if (codec->loading)
                timers_load(core, codec, list, level, slot);
            else
                timers_save(core, codec, *list);
            if (codec->loading && *list)
                wheel->pending[level] |= (uint64_t)1 << slot;
        }
    if (codec->loading)
        timers_load(core, codec, &wheel->due, WHEEL_LEVELS, 0);
    else
        timers_save(core, codec, wheel->due);
}
