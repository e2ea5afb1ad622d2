/* When a slot may start: its zygote, and how many workers load at the same time. */
#include "tests/unit/core_world.h"

enum { ZYGOTE, FIRST, SECOND }; /* slots of a model that preloads */

static void with_zygote(struct world *w, uint32_t workers)
{
    w->policy.preload = true;
    w->policy.workers = workers;
    set_model(w, false);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, ZYGOTE);
    assert_int_equal(seen_nth(w, ACTION_SLOT_ADDED, 0)->role, ROLE_ZYGOTE);
    for (uint32_t i = FIRST; i < FIRST + workers; i++)
        assert_int_equal(state_of(w, i), SLOT_WAITING);
}

static void zygote_comes_up(struct world *w)
{
    w->zygote = true;
    comes_up(w, ZYGOTE, 1);
    w->zygote = false;
}

static void spawned_with(struct world *w, uint32_t slot, int error)
{
    struct event event = of_worker(w, EVENT_SPAWNED, slot);
    event.error = error;
    world_do(w, event);
}

static void assert_forks(const struct world *w, uint32_t slot)
{
    const struct action *spawn = seen(w, ACTION_SPAWN);
    assert_int_equal(spawn->slot, slot);
    assert_int_equal(spawn->other, ZYGOTE);
}

static void assert_starts_by_itself(const struct world *w, uint32_t slot)
{
    const struct action *spawn = seen(w, ACTION_SPAWN);
    assert_int_equal(spawn->slot, slot);
    assert_int_equal(spawn->other, CORE_ALL_SLOTS);
}

static void workers_wait_for_the_zygote_and_are_forked(void **state)
{
    struct world *w = *state;
    with_zygote(w, 2);
    zygote_comes_up(w);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 2);
    assert_int_equal(seen_nth(w, ACTION_SPAWN, 0)->other, ZYGOTE);
    assert_int_equal(seen_nth(w, ACTION_SPAWN, 1)->other, ZYGOTE);
    comes_up(w, FIRST, 1);
    comes_up(w, SECOND, 1);
    assert_int_equal(model_seen(w).slots, 2);
    submit(w);
    assert_int_not_equal(seen(w, ACTION_DISPATCH)->slot, ZYGOTE);
}

static void a_dead_worker_is_forked_again_at_once(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    zygote_comes_up(w);
    comes_up(w, FIRST, 1);
    replies(w, FIRST, submit(w));
    dies(w, FIRST);
    assert_forks(w, FIRST);
}

static void a_dead_zygote_is_rebuilt_and_touches_nobody(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    zygote_comes_up(w);
    comes_up(w, FIRST, 1);
    dies(w, ZYGOTE); /* it has forked: a healthy run */
    assert_starts_by_itself(w, ZYGOTE);
    assert_int_equal(state_of(w, FIRST), SLOT_READY);
    replies(w, FIRST, submit(w));
    dies(w, FIRST);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(state_of(w, FIRST), SLOT_WAITING);
    zygote_comes_up(w);
    assert_forks(w, FIRST);
}

static void a_fork_that_its_zygote_did_not_live_to_do_is_no_crash(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    zygote_comes_up(w);
    dies(w, ZYGOTE);
    assert_int_equal(state_of(w, ZYGOTE), SLOT_BACKOFF); /* it never did anything */
    spawned_with(w, FIRST, HASUP_ECLOSED);
    assert_int_equal(state_of(w, FIRST), SLOT_WAITING);
    struct slot_view view;
    assert_true(core_slot_view(w->core, FIRST, &view));
    assert_int_equal(view.crashes, 0);
}

static void promise_7_without_its_zygote_a_model_goes_on(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 2;
    with_zygote(w, 1);
    dies(w, ZYGOTE);
    world_pass(w, HASUP_S);
    assert_int_equal(state_of(w, FIRST), SLOT_WAITING);
    dies(w, ZYGOTE);
    assert_int_equal(state_of(w, ZYGOTE), SLOT_BROKEN);
    assert_starts_by_itself(w, FIRST);
}

static void one_that_can_never_fork_is_given_up_and_that_is_said(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    zygote_comes_up(w);
    spawned_with(w, FIRST, HASUP_EWORKER);
    assert_int_equal(seen_notices(w, NOTICE_UNFORKABLE), 1);
    assert_int_equal(state_of(w, ZYGOTE), SLOT_DRAINING);
    assert_starts_by_itself(w, FIRST);
    leaves(w, ZYGOTE);
    assert_int_equal(state_of(w, ZYGOTE), SLOT_STOPPED);
    comes_up(w, FIRST, 1);
    set_model(w, true); /* what it is now may be another program */
    assert_int_equal(seen_nth(w, ACTION_SPAWN, 0)->slot, ZYGOTE);
    assert_int_equal(state_of(w, FIRST), SLOT_READY);
}

static void one_whose_worker_offers_no_zygote_is_given_up(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    greets(w, ZYGOTE, 1, false);
    assert_int_equal(seen_notices(w, NOTICE_UNFORKABLE), 1);
    assert_starts_by_itself(w, FIRST);
}

static void one_that_does_not_answer_hangs(void **state)
{
    struct world *w = *state;
    with_zygote(w, 1);
    zygote_comes_up(w);
    world_pass(w, 21 * HASUP_S); /* timeouts.attempt */
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(seen(w, ACTION_KILL)->slot, ZYGOTE);
    spawned_with(w, FIRST, HASUP_ECLOSED);
    assert_int_equal(state_of(w, FIRST), SLOT_WAITING);
}

static void a_restart_loads_once_and_forks_all_anew(void **state)
{
    struct world *w = *state;
    with_zygote(w, 2);
    zygote_comes_up(w);
    comes_up(w, FIRST, 1);
    comes_up(w, SECOND, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_RESTART);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, ZYGOTE);
    leaves(w, ZYGOTE);
    assert_starts_by_itself(w, ZYGOTE);
    assert_int_equal(model_seen(w).ready, 2);
    zygote_comes_up(w);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, FIRST);
    leaves(w, FIRST);
    assert_forks(w, FIRST);
    comes_up(w, FIRST, 1);
    leaves(w, SECOND);
    assert_forks(w, SECOND);
}

static void pre_start_comes_before_each_fork(void **state)
{
    struct world *w = *state;
    w->policy.pre_start.on = true;
    w->policy.pre_start.timeout = HASUP_S;
    w->policy.preload = true;
    set_model(w, false);
    assert_int_equal(seen(w, ACTION_PREPARE)->slot, ZYGOTE);
    leaves(w, ZYGOTE);
    zygote_comes_up(w);
    assert_int_equal(seen(w, ACTION_PREPARE)->slot, FIRST);
    leaves(w, FIRST);
    assert_forks(w, FIRST);
}

/* ---- limits.loading ---- */

static void with_loading(struct world *w, uint32_t loading)
{
    const struct core_limits limits = {
        .models = 2, .slots = 32, .requests = WORLD_REQUESTS, .bodies = 8, .loading = loading};
    core_free(w->core);
    w->core = core_new(&limits, 1);
    assert_non_null(w->core);
}

static void only_so_many_load_at_the_same_time(void **state)
{
    struct world *w = *state;
    with_loading(w, 2);
    w->policy.workers = 4;
    set_model(w, false);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 2);
    assert_int_equal(state_of(w, 2), SLOT_WAITING);
    comes_up(w, 1, 1);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 2);
    dies(w, 0); /* backoff is no loading */
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 3);
    world_pass(w, HASUP_S);
    assert_int_equal(state_of(w, 0), SLOT_WAITING);
}

static void the_only_worker_of_a_model_goes_first(void **state)
{
    struct world *w = *state;
    with_loading(w, 1);
    w->policy.workers = 3;
    set_model(w, false);
    comes_up(w, 0, 1);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
    struct model_policy other = w->policy;
    other.workers = 1;
    other.spares = 1;
    world_do(w,
             (struct event){.type = EVENT_MODEL_SET, .model = 1, .model_set = {.policy = &other}});
    comes_up(w, 1, 1);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 3);
    comes_up(w, 3, 1);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 2); /* a worker before a spare */
    comes_up(w, 2, 1);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 4);
}

static void forks_do_not_count_and_a_zygote_does(void **state)
{
    struct world *w = *state;
    with_loading(w, 1);
    with_zygote(w, 3);
    zygote_comes_up(w);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 3);
}

static void who_waits_can_be_stopped(void **state)
{
    struct world *w = *state;
    with_loading(w, 1);
    w->policy.workers = 2;
    set_model(w, false);
    command(w, 1, COMMAND_STOP);
    assert_int_equal(state_of(w, 1), SLOT_STOPPED);
    comes_up(w, 0, 1);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    command(w, 1, COMMAND_START);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(workers_wait_for_the_zygote_and_are_forked),
        STORY(a_dead_worker_is_forked_again_at_once),
        STORY(a_dead_zygote_is_rebuilt_and_touches_nobody),
        STORY(a_fork_that_its_zygote_did_not_live_to_do_is_no_crash),
        STORY(promise_7_without_its_zygote_a_model_goes_on),
        STORY(one_that_can_never_fork_is_given_up_and_that_is_said),
        STORY(one_whose_worker_offers_no_zygote_is_given_up),
        STORY(one_that_does_not_answer_hangs),
        STORY(a_restart_loads_once_and_forks_all_anew),
        STORY(pre_start_comes_before_each_fork),
        STORY(only_so_many_load_at_the_same_time),
        STORY(the_only_worker_of_a_model_goes_first),
        STORY(forks_do_not_count_and_a_zygote_does),
        STORY(who_waits_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
