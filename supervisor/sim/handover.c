/*
 * handover.c: the core is saved at some steps, and a fresh one that was loaded from the bytes goes
 * on, while the old one is shown the same events: each step of both must decide the same, and at
 * the next handover both must save the same bytes.  So a field that is forgotten is found where it
 * first matters.  Draws from a generator of its own: a seed is the same world with and without.
 */
#include "supervisor/sim/internal.h"

#include <stdlib.h>

enum { STEPS_BETWEEN = 600 };

/* The core's bytes, malloc'ed. */
static uint8_t *saved(const struct core *core, size_t *len)
{
    *len = core_save(core, NULL, 0);
    uint8_t *bytes = malloc(*len);
    if (!bytes || core_save(core, bytes, *len) != *len)
        abort();
    return bytes;
}

static size_t differs_at(const struct core *core, const uint8_t *bytes, size_t len)
{
    size_t other_len, at = 0;
    uint8_t *other = saved(core, &other_len);
    while (at < len && at < other_len && bytes[at] == other[at])
        at++;
    bool same = len == other_len && at == len;
    free(other);
    return same ? SIZE_MAX : at;
}

/* Its bytes must be those of the core, at `when`. */
static void expect_same(struct sim *sim, const struct core *core, const uint8_t *bytes, size_t len,
                        const char *when)
{
    size_t at = differs_at(core, bytes, len);
    if (at != SIZE_MAX)
        sim_fail(sim, "%s a loaded core differs from the saved one (byte %zu)", when, at);
}

static void hand_over(struct sim *sim)
{
    const char *why;
    size_t len;
    uint8_t *bytes = saved(sim->core, &len);
    if (sim->handover.shadow)
        expect_same(sim, sim->handover.shadow, bytes, len, "after a while");
    struct core *loaded = core_load(&sim->limits, bytes, len, &why);
    if (!loaded) {
        sim_fail(sim, "a saved core cannot be loaded: %s", why);
    } else {
        expect_same(sim, loaded, bytes, len, "at once");
        core_check(loaded);
        core_check_loaded(sim->core, loaded);
        core_free(sim->handover.shadow);
        sim->handover.shadow = sim->core;
        sim->core = loaded;
        sim->report->handovers++;
    }
    free(bytes);
}

/* What was loaded must decide as what it was saved from. */
static void compare(struct sim *sim)
{
    const struct actions *mine = &sim->actions, *other = &sim->handover.actions;
    if (mine->count != other->count) {
        sim_fail(sim, "a loaded core decides otherwise: %zu actions, not %zu", mine->count,
                 other->count);
        return;
    }
    for (size_t i = 0; i < mine->count; i++)
        if (memcmp(&mine->list[i], &other->list[i], sizeof mine->list[i]) != 0) {
            sim_fail(sim, "a loaded core decides otherwise: %s, not %s",
                     action_name(mine->list[i].type), action_name(other->list[i].type));
            return;
        }
}

void handover_begin(struct sim *sim)
{
    if (!sim->options.handover)
        return;
    random_init(&sim->handover.random, sim->options.seed * 2 + 7);
    if (actions_init(&sim->handover.actions, sim->core))
        abort();
}

void handover_stepped(struct sim *sim, const struct event *event)
{
    if (!sim->options.handover)
        return;
    if (sim->handover.shadow) {
        core_step(sim->handover.shadow, event, &sim->handover.actions);
        compare(sim);
        if (core_deadline(sim->core) != core_deadline(sim->handover.shadow))
            sim_fail(sim, "a loaded core wants to be woken at another time");
    }
}

void handover_due(struct sim *sim)
{
    if (sim->options.handover && !sim->report->failed &&
        !random_below(&sim->handover.random, STEPS_BETWEEN))
        hand_over(sim);
}

void handover_forget(struct sim *sim)
{
    core_free(sim->handover.shadow);
    sim->handover.shadow = NULL;
}

void handover_end(struct sim *sim)
{
    handover_forget(sim);
    actions_fini(&sim->handover.actions);
}
