/*
 * core_world.h: a core at virtual time, for stories. Every step is followed by core_check. What the
 * last call made the core do stands in `seen`, in order, over all the steps that the call took.
 */
#ifndef CORE_WORLD_H
#define CORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "supervisor/core/core.h"

enum { WORLD_SEEN = 4096, WORLD_REQUESTS = 512, WORLD_MODEL = 0 };

struct world {
    uint32_t max_batch; /* of workers that come up */
    struct core *core;
    struct actions out;
    hasup_ns now;
    struct model_policy policy;
    struct action seen[WORLD_SEEN];
    size_t count;
    uint32_t worker[32];           /* the present process of each slot, by its SPAWN or PREPARE */
    bool zygote;                   /* who says hello can fork workers */
    uint64_t made;                 /* requests so far: the next one's index */
    uint64_t body[WORLD_REQUESTS]; /* of a request, by its index: who have the same; 0: its own */
};

static inline void world_hash(const struct world *w, uint64_t request, uint64_t hash[2])
{
    uint32_t index = (uint32_t)request;
    hash[0] = w->body[index] ? w->body[index] : index + 1000;
    hash[1] = 1;
}

static inline void world_step(struct world *w, struct event event)
{
    event.now = w->now;
    size_t first = w->count;
    core_step(w->core, &event, &w->out);
    core_check(w->core);
    for (size_t i = 0; i < w->out.count; i++) {
        const struct action *action = &w->out.list[i];
        assert_true(w->count < WORLD_SEEN);
        w->seen[w->count++] = *action;
        if (action->type == ACTION_SPAWN || action->type == ACTION_PREPARE)
            w->worker[action->slot] = action->worker;
        if (action->type == ACTION_SWAP)
            w->worker[action->slot] = w->worker[action->other] = action->worker;
    }
    for (size_t i = first, last = w->count; i < last; i++) {
        struct event identified = {.type = EVENT_IDENTIFIED,
                                   .model = w->seen[i].model,
                                   .request = w->seen[i].request,
                                   .identified = {.how = w->seen[i].identify}};
        if (w->seen[i].type != ACTION_IDENTIFY)
            continue;
        world_hash(w, identified.request, identified.identified.hash);
        world_step(w, identified);
    }
}

static inline void world_do(struct world *w, struct event event)
{
    w->count = 0;
    world_step(w, event);
}

/* Lets time pass, with every TIMEOUT that the core asks for. */
static inline void world_pass(struct world *w, hasup_ns span)
{
    hasup_ns until = w->now + span, due;
    w->count = 0;
    while ((due = core_deadline(w->core)) <= until) {
        w->now = due > w->now ? due : w->now;
        world_step(w, (struct event){.type = EVENT_TIMEOUT});
    }
    w->now = until;
}

/* ---- what was seen ---- */

static inline unsigned seen_count(const struct world *w, enum action_type type)
{
    unsigned count = 0;
    for (size_t i = 0; i < w->count; i++)
        count += w->seen[i].type == type;
    return count;
}

/* The nth of this type, counted from 0; NULL: there is none. */
static inline const struct action *seen_nth(const struct world *w, enum action_type type,
                                            unsigned n)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->seen[i].type == type && n-- == 0)
            return &w->seen[i];
    return NULL;
}

/* The only one of this type. */
static inline const struct action *seen(const struct world *w, enum action_type type)
{
    assert_int_equal(seen_count(w, type), 1);
    return seen_nth(w, type, 0);
}

static inline unsigned seen_notices(const struct world *w, enum notice what)
{
    unsigned count = 0;
    for (size_t i = 0; i < w->count; i++)
        count += w->seen[i].type == ACTION_NOTICE && w->seen[i].notice.what == what;
    return count;
}

static inline const struct action *seen_of(const struct world *w, enum action_type type,
                                           uint64_t request)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->seen[i].type == type && w->seen[i].request == request)
            return &w->seen[i];
    return NULL;
}

static inline void assert_refused(const struct world *w, uint64_t request, enum refusal why)
{
    const struct action *refuse = seen_of(w, ACTION_REFUSE, request);
    assert_non_null(refuse);
    assert_int_equal(refuse->refuse.why, why);
}

static inline enum slot_state state_of(const struct world *w, uint32_t slot)
{
    struct slot_view view;
    assert_true(core_slot_view(w->core, slot, &view));
    return view.state;
}

static inline struct model_view model_seen(const struct world *w)
{
    struct model_view view = {0};
    assert_true(core_model_view(w->core, WORLD_MODEL, &view));
    return view;
}

/* ---- clients ---- */

static inline uint64_t submit_as(struct world *w, hasup_ns deadline, uint8_t priority,
                                 uint64_t size)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    assert_true(w->made <= WORLD_REQUESTS);
    struct event event = {.type = EVENT_SUBMITTED,
                          .model = WORLD_MODEL,
                          .request = id,
                          .submitted = {size, deadline, priority}};
    if (core_wants_hash(w->core, WORLD_MODEL))
        world_hash(w, id, event.submitted.hash);
    world_do(w, event);
    return id;
}

/* With a body that others have, too. */
static inline uint64_t submit_body(struct world *w, uint64_t body)
{
    w->body[w->made] = body;
    return submit_as(w, 0, 0, 100);
}

static inline uint64_t submit(struct world *w)
{
    return submit_as(w, 0, 0, 100);
}

static inline void cancel(struct world *w, uint64_t request)
{
    world_do(w, (struct event){.type = EVENT_CANCELLED, .request = request});
}

/* ---- workers ---- */

static inline struct event of_worker(const struct world *w, enum event_type type, uint32_t slot)
{
    return (struct event){.type = type, .slot = slot, .worker = w->worker[slot]};
}

static inline void says(struct world *w, enum event_type type, uint32_t slot)
{
    world_do(w, of_worker(w, type, slot));
}

static inline void replies_with(struct world *w, uint32_t slot, uint64_t request, uint64_t digest)
{
    struct event event = of_worker(w, EVENT_REPLIED, slot);
    event.request = request;
    event.replied.digest = digest;
    world_do(w, event);
}

static inline void replies(struct world *w, uint32_t slot, uint64_t request)
{
    replies_with(w, slot, request, 0);
}

static inline void chunks(struct world *w, uint32_t slot, uint64_t request, uint64_t size,
                          bool same)
{
    struct event event = of_worker(w, EVENT_CHUNKED, slot);
    event.request = request;
    event.chunked.size = size;
    event.chunked.same = same;
    world_do(w, event);
}

static inline void greets(struct world *w, uint32_t slot, uint32_t concurrency, bool stateful)
{
    struct event hello = of_worker(w, EVENT_HELLO, slot);
    says(w, EVENT_SPAWNED, slot);
    hello.hello.concurrency = concurrency;
    hello.hello.max_batch = w->max_batch;
    hello.hello.stateful = stateful;
    hello.hello.zygote = w->zygote;
    world_do(w, hello);
}

/* A stateless worker, from SPAWN to ready. */
static inline void comes_up(struct world *w, uint32_t slot, uint32_t concurrency)
{
    greets(w, slot, concurrency, false);
    says(w, EVENT_WORKER_READY, slot);
    assert_int_equal(state_of(w, slot), SLOT_READY);
}

/* A stateful one, whose checkpoint is at `position`; 0: there is none. `seen` is what followed. */
static inline void comes_back(struct world *w, uint32_t slot, uint32_t concurrency,
                              uint64_t position)
{
    struct event loaded = of_worker(w, EVENT_CHECKPOINT_LOADED, slot);
    greets(w, slot, concurrency, true);
    assert_int_equal(seen(w, ACTION_LOAD_CHECKPOINT)->slot, slot);
    loaded.checkpoint.found = position > 0;
    loaded.checkpoint.position = position;
    world_do(w, loaded);
    assert_int_equal(seen(w, ACTION_WELCOME)->restore, position > 0);
    says(w, EVENT_WORKER_READY, slot);
}

static inline void dies(struct world *w, uint32_t slot)
{
    struct event event = of_worker(w, EVENT_EXITED, slot);
    event.exited.signal = 9;
    event.exited.tree_empty = true;
    world_do(w, event);
}

/* Exits as it was told to. */
static inline void leaves(struct world *w, uint32_t slot)
{
    struct event event = of_worker(w, EVENT_EXITED, slot);
    event.exited.tree_empty = true;
    world_do(w, event);
}

static inline void state_taken(struct world *w, uint32_t slot, uint64_t position, int error)
{
    struct event event = of_worker(w, EVENT_STATE_TAKEN, slot);
    event.checkpoint.position = position;
    event.checkpoint.error = error;
    world_do(w, event);
}

static inline void stored(struct world *w, uint32_t slot, uint64_t position, int error)
{
    world_do(w, (struct event){.type = EVENT_CHECKPOINT_STORED,
                               .slot = slot,
                               .checkpoint = {.position = position, .error = error}});
}

/* ---- the operator ---- */

static inline void set_model(struct world *w, bool restart)
{
    world_do(w, (struct event){.type = EVENT_MODEL_SET,
                               .model = WORLD_MODEL,
                               .model_set = {.policy = &w->policy, .restart = restart}});
}

static inline void command(struct world *w, uint32_t slot, enum command what)
{
    world_do(w, (struct event){
                    .type = EVENT_COMMAND, .model = WORLD_MODEL, .slot = slot, .command = what});
}

static inline void shut_down(struct world *w, hasup_ns grace)
{
    world_do(w, (struct event){.type = EVENT_SHUTDOWN, .shutdown = {.deadline = w->now + grace}});
}

/* ---- the world ---- */

static const struct core_limits WORLD_LIMITS = {
    .models = 2, .slots = 32, .requests = WORLD_REQUESTS, .bodies = 8};

/* A core and a policy with round numbers; the model is set by the story. */
static inline int world_setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    if (!w || !(w->core = core_new(&WORLD_LIMITS, 1)) || actions_init(&w->out, w->core))
        abort();
    w->now = 1000 * HASUP_S;
    w->policy = (struct model_policy){
        .workers = 1,
        .policy = POLICY_FASTEST,
        .max_attempts = 3,
        .quarantine_ttl = 3600 * HASUP_S,
        .restart = {.backoff_min = 100 * HASUP_MS,
                    .backoff_max = 10 * HASUP_S,
                    .healthy_after = 10 * HASUP_S,
                    .start_limit = 5,
                    .breaker = 60 * HASUP_S},
        .timeouts = {.start = 30 * HASUP_S,
                     .attempt = 20 * HASUP_S,
                     .drain = 5 * HASUP_S,
                     .stop = 2 * HASUP_S},
        .queue = {.requests = 400, .bytes = 1 << 20},
        .checkpoint = {.interval = 30 * HASUP_S, .log_requests = 100, .log_bytes = 1 << 20}};
    *state = w;
    return 0;
}

static inline int world_teardown(void **state)
{
    struct world *w = *state;
    actions_fini(&w->out);
    core_free(w->core);
    free(w);
    return 0;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

#endif
