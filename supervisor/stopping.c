/*
 * stopping.c: says what a stop still waits for, every few seconds as long as it does: a person who
 * watches a pod that does not end wants to know whom to blame.  Decides nothing.
 */
#include "supervisor/engine.h"

#include <stdio.h>

enum { TOLD_MOST = 8 };

static const hasup_ns EVERY = 5 * HASUP_S;

void stopping_text(const struct engine *engine, char *text, size_t room)
{
    unsigned count = 0;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        const struct slot *slot = engine->slots[i];
        struct slot_view view;
        if (!slot || slot->removed || !core_slot_view(engine->core, i, &view) ||
            view.state == SLOT_STOPPED || count++ >= TOLD_MOST || used >= room)
            continue;
        used += (size_t)snprintf(text + used, room - used, "%s%s (pid %d, %s", used ? "; " : "",
                                 slot->name,
                                 (int)(slot->worker ? process_pid(slot->worker->process) : 0),
                                 slot_state_name(view.state));
        if (view.inflight && used < room)
            used += (size_t)snprintf(text + used, room - used, ", %u request%s", view.inflight,
                                     view.inflight == 1 ? "" : "s");
        if (used < room)
            used += (size_t)snprintf(text + used, room - used, ")");
    }
    if (count > TOLD_MOST && used < room)
        snprintf(text + used, room - used, "; and %u more", count - TOLD_MOST);
    if (!count)
        snprintf(text, room, "what is to be stored");
}

static void tell(void *context)
{
    struct engine *engine = context;
    char text[1024];
    stopping_text(engine, text, sizeof text);
    LOG_EVENT(LEVEL_INFO, "shutdown.waiting", text, LOG_INT("requests", engine->requests.count));
    (void)!timer_set(&engine->stopping, engine->loop, loop_now(engine->loop) + EVERY);
}

void stopping_begin(struct engine *engine)
{
    engine->stopping.due = tell;
    engine->stopping.context = engine;
    (void)!timer_set(&engine->stopping, engine->loop, loop_now(engine->loop) + EVERY);
}
