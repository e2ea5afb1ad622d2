/* leave.c: shutdown explained: which slots, which requests, how long at most.  Reads, decides and
 * changes nothing. */
#include "supervisor/leave.h"

#include "supervisor/death.h"

static json_t *request_json(const struct engine *engine, const struct request *request)
{
    char name[DEATH_ID];
    const struct model *model = &engine->models[request->model];
    bool runs = request->slot != NO_SLOT && engine->slots[request->slot];
    hasup_ns now = loop_now(engine->loop);
    death_request_name(request, name);
    return json_pack("{s:s, s:s, s:s?, s:I, s:o}", "id", name, "model", model->config->name, "slot",
                     runs ? engine->slots[request->slot]->name : NULL, "age_ms",
                     (json_int_t)((now - request->came) / HASUP_MS), "deadline_ms",
                     request->deadline ? json_integer((request->deadline - now) / HASUP_MS)
                                       : json_null());
}

static json_t *requests_json(const struct engine *engine, uint32_t *count)
{
    json_t *list = json_array();
    *count = 0;
    for (uint32_t i = 0; i < engine->requests.high; i++) {
        const struct request *request = engine->requests.list[i];
        bool waits = request && request->door && engine->models[request->model].used;
        if (waits && (*count)++ < LEAVE_REQUESTS)
            json_array_append_new(list, request_json(engine, request));
    }
    return list;
}

/* Slots whose process runs. */
static json_t *slots_json(const struct engine *engine, hasup_ns *stop)
{
    json_t *list = json_array();
    struct slot_view view;
    *stop = 0;
    for (uint32_t i = 0; i < engine->config->limits.slots; i++) {
        const struct slot *slot = engine->slots[i];
        if (!slot || !slot->worker || !core_slot_view(engine->core, i, &view))
            continue;
        hasup_ns own = slot->model->config->policy.timeouts.stop;
        *stop = own > *stop ? own : *stop;
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:b, s:I}", "slot", slot->name, "state",
                            slot_state_name(view.state), "inflight", (int)view.inflight, "unsaved",
                            view.stateful && view.log_head != view.checkpoint_position, "stop_ms",
                            (json_int_t)(own / HASUP_MS)));
    }
    return list;
}

/* How long requests may take: of a stop that is under way, what is left of it. */
static hasup_ns grace_left(const struct engine *engine)
{
    const hasup_ns now = loop_now(engine->loop);
    if (!engine->shutting_down)
        return engine->config->shutdown_grace;
    if (core_hastened(engine->core) || engine->stops_until < now)
        return 0;
    return engine->stops_until - now;
}

json_t *leave_json(const struct engine *engine)
{
    hasup_ns stop;
    uint32_t count;
    json_t *requests = requests_json(engine, &count), *slots = slots_json(engine, &stop);
    return json_pack("{s:b, s:o, s:o, s:i, s:I, s:I}", "shutting_down", engine->shutting_down,
                     "slots", slots, "requests", requests, "request_count", (int)count, "grace_ms",
                     (json_int_t)(engine->config->shutdown_grace / HASUP_MS), "at_most_ms",
                     (json_int_t)((grace_left(engine) + stop) / HASUP_MS));
}
