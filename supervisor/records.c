/*
 * records.c: durable requests by what clients know of them: the hash that stands for a key, and the
 * public number, by which a request is asked for, looked at and dropped.
 */
#include "supervisor/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

void durable_key_hash(const struct engine *engine, const char *model, struct bytes key,
                      uint64_t hash[2])
{
    XXH3_state_t *state = XXH3_createState();
    if (!state)
        abort();
    XXH3_128bits_reset_withSeed(state, engine->durable.seed);
    XXH3_128bits_update(state, model, strlen(model) + 1);
    XXH3_128bits_update(state, key.at, key.len);
    XXH128_hash_t got = XXH3_128bits_digest(state);
    XXH3_freeState(state);
    hash[0] = got.low64 | 1; /* 0, 0 is no key */
    hash[1] = got.high64;
}

void durable_record_id(uint64_t record, uint64_t token, char id[RECORD_ID + 1])
{
    snprintf(id, RECORD_ID + 1, "%016llx%016llx", (unsigned long long)record,
             (unsigned long long)token);
}

bool durable_id_read(const char *id, size_t len, uint64_t *record, uint64_t *token)
{
    char text[RECORD_ID + 1];
    unsigned long long first, second;
    if (len != RECORD_ID)
        return false;
    memcpy(text, id, RECORD_ID);
    text[RECORD_ID] = '\0';
    if (strspn(text, "0123456789abcdef") != RECORD_ID ||
        sscanf(text, "%16llx%16llx", &first, &second) != 2)
        return false;
    *record = first;
    *token = second;
    return true;
}

/* The record of a public number that is known; 0: there is none. */
static uint64_t record_of(const struct engine *engine, const char *id, size_t len,
                          struct record_view *view)
{
    uint64_t record, token;
    if (!durable_id_read(id, len, &record, &token))
        return 0;
    core_record_view(engine->core, record, view);
    return view->state != RECORD_UNKNOWN && view->token == token ? record : 0;
}

int engine_ask(struct engine *engine, const char *id, size_t len, const struct submission *s,
               struct request **out)
{
    struct record_view view;
    uint64_t record = record_of(engine, id, len, &view);
    if (!record)
        return HASUP_ENOTFOUND;
    struct request *request = engine_adopt(engine, s);
    if (!request)
        return HASUP_EFULL;
    request->door = s->door;
    request->context = s->context;
    request->counted = true; /* it asks for another one's end */
    *out = request;
    engine_post(engine, &(struct event){.type = EVENT_SUBMITTED,
                                        .request = request->id,
                                        .submitted = {.record = record,
                                                      .deadline = s->deadline,
                                                      .heard = s->heard,
                                                      .heard_of = s->heard_of}});
    return 0;
}

int engine_record(const struct engine *engine, const char *id, size_t len, struct record_info *info)
{
    struct record_view view;
    if (!record_of(engine, id, len, &view))
        return HASUP_ENOTFOUND;
    bool live = view.state == RECORD_QUEUED || view.state == RECORD_RUNNING;
    *info = (struct record_info){.state = view.state,
                                 .model = live ? engine->models[view.model].config->name : "",
                                 .attempts = view.attempts,
                                 .why = view.why};
    return 0;
}

int engine_drop(struct engine *engine, const char *id, size_t len)
{
    struct record_view view;
    uint64_t record = record_of(engine, id, len, &view);
    if (!record)
        return HASUP_ENOTFOUND;
    engine_post(engine, &(struct event){.type = EVENT_DROPPED, .record = record});
    return 0;
}
