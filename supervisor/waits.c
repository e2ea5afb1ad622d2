/*
 * waits.c: who waits for what, looked at once at the end of each turn, and only while somebody
 * waits.  Owns its list; a client that leaves is taken off by the door.
 */
#include "supervisor/waits.h"

#include "supervisor/carry.h"

#include <stdlib.h>

struct wait {
    struct unix_client *client;
    uint64_t id;
    uint32_t model, slot;
    enum wait_for what;
    struct wait *next;
};

struct waits {
    struct engine *engine;
    struct wait *list;
    unsigned count;
};

static bool slot_is(const struct slot_view *view, enum wait_for what)
{
    switch (what) {
    case WAIT_READY: return view->state == SLOT_READY || view->state == SLOT_DONE;
    case WAIT_STOPPED: return view->state == SLOT_STOPPED;
    case WAIT_IDLE: return !view->inflight && !view->queued;
    }
    return false;
}

/* Ready: a program as program_is_up has it, a model where as many serve as are wanted; stopped and
 * idle, where all its slots are. */
static bool model_is(const struct engine *engine, const struct wait *wait)
{
    struct model_view model;
    struct slot_view slot;
    if (!core_model_view(engine->core, wait->model, &model))
        return wait->what != WAIT_READY;
    if (wait->what == WAIT_READY && model.kind != KIND_WORKERS)
        return program_is_up(engine, wait->model);
    if (wait->what == WAIT_READY)
        return model.accepting && !model.broken && model.ready > 0 &&
               model.ready >= engine->models[wait->model].workers;
    if (wait->what == WAIT_IDLE)
        return !model.queued && !model.inflight && !model.unstored;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++)
        if (engine->slots[i] && engine->slots[i]->model->index == wait->model &&
            core_slot_view(engine->core, i, &slot) && !slot_is(&slot, wait->what))
            return false;
    return true;
}

static bool holds(const struct engine *engine, const struct wait *wait)
{
    struct slot_view view;
    if (wait->slot == CORE_ALL_SLOTS)
        return model_is(engine, wait);
    if (!engine->slots[wait->slot] || !core_slot_view(engine->core, wait->slot, &view) ||
        view.model != wait->model)
        return wait->what != WAIT_READY; /* it was scaled away */
    return slot_is(&view, wait->what);
}

static void wait_remove(struct waits *waits, struct wait **at)
{
    struct wait *wait = *at;
    *at = wait->next;
    waits->count--;
    free(wait);
    if (!waits->count)
        waits->engine->turned = NULL;
}

static void waits_look(void *context)
{
    struct waits *waits = context;
    for (struct wait **at = &waits->list; *at;) {
        struct unix_client *client = (*at)->client;
        uint64_t id = (*at)->id;
        if (!holds(waits->engine, *at)) {
            at = &(*at)->next;
            continue;
        }
        wait_remove(waits, at);
        unix_client_reply(client, id, 200, "{\"ok\":true}");
        at = &waits->list; /* a client that was cut off took its others along */
    }
}

struct waits *waits_new(struct engine *engine)
{
    struct waits *waits = calloc(1, sizeof *waits);
    if (waits)
        waits->engine = engine;
    return waits;
}

void waits_free(struct waits *waits)
{
    while (waits && waits->list)
        wait_remove(waits, &waits->list);
    free(waits);
}

int waits_add(struct waits *waits, struct unix_client *client, uint64_t id, uint32_t model,
              uint32_t slot, enum wait_for what)
{
    if (waits->count == WAITS_MAX)
        return HASUP_EFULL;
    struct wait *wait = malloc(sizeof *wait);
    if (!wait)
        return HASUP_ENOMEM;
    *wait = (struct wait){client, id, model, slot, what, waits->list};
    waits->list = wait;
    waits->count++;
    waits->engine->turned = waits_look;
    waits->engine->turned_context = waits;
    return 0;
}

void waits_cancel(struct waits *waits, const struct unix_client *client, uint64_t id,
                  bool everything)
{
    for (struct wait **at = &waits->list; *at;) {
        if ((*at)->client == client && (everything || (*at)->id == id))
            wait_remove(waits, at);
        else
            at = &(*at)->next;
    }
}

static void wait_carry(struct carry *carry, const struct engine *engine, struct wait *wait)
{
    CARRY(carry);
    V(wait->id);
    E(wait->model, engine->config->limits.models - 1);
    uint32_t slot = wait->slot == CORE_ALL_SLOTS ? 0 : wait->slot + 1;
    E(slot, engine->config->limits.slots);
    wait->slot = slot ? slot - 1 : CORE_ALL_SLOTS;
    E(wait->what, WAIT_IDLE);
}

void waits_carry(struct carry *carry, struct waits *waits, struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    for (struct wait *at = waits->list; at && !codec->loading; at = at->next)
        count += at->client == client;
    E(count, WAITS_MAX);
    for (struct wait *at = waits->list; at && !codec->loading; at = at->next)
        if (at->client == client)
            wait_carry(carry, waits->engine, at);
    for (uint32_t i = 0; codec->loading && i < count && !codec->failed; i++) {
        struct wait wait = {0};
        wait_carry(carry, waits->engine, &wait);
        if (!codec->failed && waits_add(waits, client, wait.id, wait.model, wait.slot, wait.what))
            codec_fail(codec);
    }
}
