/*
 * body.c: the bodies that are under suspicion or in quarantine, by the hash of model and body.  A
 * body outlives its requests: who sends the same again, because nobody answered, goes on where the
 * last request stood.  Owns the table, which never grows; judges nothing.
 */
#include "supervisor/core/internal.h"

#include <stdlib.h>

int bodies_init(struct bodies *bodies, uint32_t limit)
{
    size_t chains = 1;
    if (!limit)
        limit = 1;
    while (chains < limit)
        chains *= 2;
    *bodies = (struct bodies){.limit = limit, .mask = (uint32_t)chains - 1};
    bodies->list = calloc(limit, sizeof *bodies->list);
    bodies->chains = calloc(chains, sizeof *bodies->chains);
    return bodies->list && bodies->chains ? 0 : HASUP_ENOMEM;
}

void bodies_fini(struct bodies *bodies)
{
    free(bodies->list);
    free(bodies->chains);
}

struct body *body_find(const struct bodies *bodies, const uint64_t hash[2])
{
    if (!hash[0] && !hash[1])
        return NULL;
    struct body *body = bodies->chains[hash[0] & bodies->mask];
    while (body && (body->hash[0] != hash[0] || body->hash[1] != hash[1]))
        body = body->next;
    return body;
}

/* ---- by age ---- */

static void age_remove(struct bodies *bodies, struct body *body)
{
    *(body->older ? &body->older->newer : &bodies->oldest) = body->newer;
    *(body->newer ? &body->newer->older : &bodies->newest) = body->older;
}

static void age_append(struct bodies *bodies, struct body *body)
{
    body->older = bodies->newest;
    body->newer = NULL;
    *(bodies->newest ? &bodies->newest->newer : &bodies->oldest) = body;
    bodies->newest = body;
}

/* ---- life ---- */

void body_free(struct core *core, struct body *body)
{
    struct bodies *bodies = &core->bodies;
    struct body **at = &bodies->chains[body->hash[0] & bodies->mask];
    timer_clear(&core->wheel, &body->timer);
    while (*at != body)
        at = &(*at)->next;
    *at = body->next;
    age_remove(bodies, body);
    core->models[body->model].bodies--;
    *body = (struct body){.next = bodies->free};
    bodies->free = body;
}

/* Who is only suspected can be suspected again; so the oldest of those makes room. */
static void make_room(struct core *core)
{
    struct body *victim = core->bodies.oldest;
    while (victim && victim->quarantined)
        victim = victim->newer;
    body_free(core, victim ? victim : core->bodies.oldest);
}

struct body *body_touch(struct core *core, uint32_t model, const uint64_t hash[2])
{
    struct bodies *bodies = &core->bodies;
    struct body *body = body_find(bodies, hash);
    assert(hash[0] || hash[1]);
    if (body) {
        age_remove(bodies, body);
        age_append(bodies, body);
        return body;
    }
    if (!bodies->free && bodies->high == bodies->limit)
        make_room(core);
    body = bodies->free ? bodies->free : &bodies->list[bodies->high++];
    if (body == bodies->free)
        bodies->free = body->next;
    struct body **chain = &bodies->chains[hash[0] & bodies->mask];
    *body = (struct body){
        .timer = {.kind = TIMER_BODY}, .hash = {hash[0], hash[1]}, .model = model, .next = *chain};
    *chain = body;
    age_append(bodies, body);
    core->models[model].bodies++;
    return body;
}

void bodies_forget(struct core *core, uint32_t model)
{
    for (struct body *body = core->bodies.oldest, *next; body; body = next) {
        next = body->newer;
        if (body->model == model)
            body_free(core, body);
    }
}

/* ---- invariants ---- */

void bodies_check(const struct core *core)
{
    const struct bodies *bodies = &core->bodies;
    uint32_t used = 0, unused = 0, counted = 0;
    for (const struct body *body = bodies->oldest; body; body = body->newer) {
        assert(body_find(bodies, body->hash) == body && core->models[body->model].used);
        assert(body->newer ? body->newer->older == body : bodies->newest == body);
        assert(timer_is_set(&body->timer));
        used++;
    }
    for (const struct body *body = bodies->free; body; body = body->next)
        unused++;
    for (uint32_t i = 0; i < core->limits.models; i++)
        counted += core->models[i].bodies;
    assert(used + unused == bodies->high && counted == used);
}
