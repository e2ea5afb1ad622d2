/* Spares: a loaded worker takes over the place of one that served and died. */
#include "tests/unit/core_world.h"

enum { SLOT, SPARE };

static void with_spare(struct world *w)
{
    w->policy.spares = 1;
    set_model(w, false);
    comes_up(w, SLOT, 1);
    comes_up(w, SPARE, 1);
    assert_int_equal(model_seen(w).spares, 1);
    assert_int_equal(model_seen(w).slots, 1);
}

static uint64_t crashes_of(const struct world *w, uint32_t slot)
{
    struct slot_view view;
    assert_true(core_slot_view(w->core, slot, &view));
    return view.crashes;
}

/* The dying worker, now in the spare's slot, is reaped. */
static void is_reaped(struct world *w)
{
    dies(w, SPARE);
}

static void a_spare_is_given_nothing_to_do(void **state)
{
    struct world *w = *state;
    with_spare(w);
    for (int i = 0; i < 5; i++) {
        uint64_t id = submit(w);
        assert_int_equal(seen(w, ACTION_DISPATCH)->slot, SLOT);
        submit(w);
        assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
        replies(w, SLOT, id);
        replies(w, SLOT, seen(w, ACTION_DISPATCH)->request);
    }
}

static void promise_1_it_takes_over_in_the_step_that_tells_of_the_death(void **state)
{
    struct world *w = *state;
    with_spare(w);
    uint64_t id = submit(w);
    uint64_t next = submit(w);
    struct event broke = of_worker(w, EVENT_BROKE, SLOT);
    world_do(w, broke);
    assert_int_equal(seen(w, ACTION_KILL)->slot, SLOT);
    const struct action *swap = seen(w, ACTION_SWAP);
    assert_int_equal(swap->slot, SLOT);
    assert_int_equal(swap->other, SPARE);
    assert_true(swap->worker > broke.worker);
    assert_true(seen(w, ACTION_KILL) < swap);
    assert_int_equal(state_of(w, SLOT), SLOT_READY);
    assert_int_equal(state_of(w, SPARE), SLOT_KILLING);
    /* The suspect first: it has a worker of its own. */
    assert_int_equal(seen(w, ACTION_DISPATCH)->request, id);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, SLOT);
    replies(w, SLOT, id);
    assert_int_equal(seen(w, ACTION_DISPATCH)->request, next);
    assert_int_equal(crashes_of(w, SLOT), 1);
    is_reaped(w);
    assert_int_equal(crashes_of(w, SPARE), 0);
    assert_int_equal(crashes_of(w, SLOT), 1);
}

static void what_the_dead_one_says_late_counts_for_nobody(void **state)
{
    struct world *w = *state;
    with_spare(w);
    uint64_t id = submit(w);
    struct event late = of_worker(w, EVENT_REPLIED, SLOT);
    late.request = id;
    struct event later = of_worker(w, EVENT_REPLIED, SPARE);
    later.request = id;
    says(w, EVENT_BROKE, SLOT);
    world_do(w, late);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    world_do(w, later);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    replies(w, SLOT, id);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void the_next_spare_starts_once_the_dead_tree_is_empty(void **state)
{
    struct world *w = *state;
    with_spare(w);
    replies(w, SLOT, submit(w)); /* a healthy run */
    says(w, EVENT_BROKE, SLOT);
    says(w, EVENT_EXITED, SPARE);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    says(w, EVENT_TREE_EMPTY, SPARE);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, SPARE);
    comes_up(w, SPARE, 1);
    assert_int_equal(model_seen(w).spares, 1);
}

static void with_no_spare_loaded_a_slot_starts_as_ever(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    set_model(w, false);
    comes_up(w, SLOT, 1);
    greets(w, SPARE, 1, false); /* it loads */
    replies(w, SLOT, submit(w));
    dies(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_SWAP), 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, SLOT);
}

/* Such as one that waits for its device, where no signal reaches it. */
static void one_that_loads_late_relieves_who_takes_long_to_die(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    set_model(w, false);
    comes_up(w, SLOT, 1);
    greets(w, SPARE, 1, false);
    uint64_t id = submit(w), next = submit(w);
    says(w, EVENT_BROKE, SLOT);
    assert_int_equal(state_of(w, SLOT), SLOT_KILLING);
    world_pass(w, HASUP_S);
    says(w, EVENT_WORKER_READY, SPARE);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, id)->slot, SPARE); /* the suspect first */
    replies(w, SPARE, id);
    assert_int_equal(seen(w, ACTION_SWAP)->slot, SLOT);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, next)->slot, SLOT);
    assert_int_equal(state_of(w, SPARE), SLOT_KILLING);
    replies(w, SLOT, next);
    is_reaped(w);
    assert_int_equal(crashes_of(w, SLOT), 1);
}

static void promise_7_runs_that_fail_in_a_row_open_the_breaker_all_the_same(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 3;
    with_spare(w);
    for (int i = 0; i < 2; i++) {
        dies(w, SLOT); /* exits, and nothing is left of it */
        assert_int_equal(seen(w, ACTION_SWAP)->slot, SLOT);
        assert_int_equal(state_of(w, SPARE), SLOT_BACKOFF); /* each costs a start */
        world_pass(w, HASUP_S);
        comes_up(w, SPARE, 1);
    }
    dies(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_SWAP), 0);
    assert_int_equal(seen_notices(w, NOTICE_BREAKER_OPEN), 1);
    assert_int_equal(state_of(w, SLOT), SLOT_BROKEN);
}

static void an_ordered_end_costs_no_spare(void **state)
{
    struct world *w = *state;
    with_spare(w);
    command(w, SLOT, COMMAND_RESTART);
    leaves(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_SWAP), 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, SLOT);
    comes_up(w, SLOT, 1);
    command(w, SLOT, COMMAND_STOP);
    leaves(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_SWAP), 0);
    assert_int_equal(state_of(w, SLOT), SLOT_STOPPED);
}

static void a_hung_worker_is_replaced_while_it_says_why(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = 2 * HASUP_S;
    with_spare(w);
    uint64_t id = submit(w);
    world_pass(w, 21 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(seen(w, ACTION_ABORT)->slot, SLOT);
    assert_int_equal(seen(w, ACTION_SWAP)->other, SPARE);
    assert_int_equal(seen(w, ACTION_DISPATCH)->request, id);
    assert_int_equal(state_of(w, SPARE), SLOT_ABORTING);
    world_pass(w, 3 * HASUP_S);
    assert_int_equal(seen(w, ACTION_KILL)->slot, SPARE);
    replies(w, SLOT, id);
}

static void promise_4_a_stateful_spare_gets_the_slots_state(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    set_model(w, false);
    comes_back(w, SLOT, 1, 0);
    greets(w, SPARE, 1, true);
    assert_int_equal(seen(w, ACTION_PING)->slot, SPARE);
    assert_int_equal(seen_count(w, ACTION_WELCOME), 0);
    assert_int_equal(model_seen(w).spares, 0);
    says(w, EVENT_PONG, SPARE);
    assert_int_equal(model_seen(w).spares, 1);
    uint64_t answered = submit(w);
    replies_with(w, SLOT, answered, 7);
    uint64_t running = submit(w);
    dies(w, SLOT);
    assert_int_equal(seen(w, ACTION_SWAP)->slot, SLOT);
    assert_int_equal(state_of(w, SLOT), SLOT_LOADING);
    assert_int_equal(seen(w, ACTION_LOAD_CHECKPOINT)->worker, w->worker[SLOT]);
    says(w, EVENT_CHECKPOINT_LOADED, SLOT);
    assert_false(seen(w, ACTION_WELCOME)->restore);
    says(w, EVENT_WORKER_READY, SLOT);
    assert_true(seen(w, ACTION_DISPATCH)->dispatch.replay);
    replies_with(w, SLOT, answered, 7);
    assert_int_equal(seen(w, ACTION_DISPATCH)->request, running);
    replies_with(w, SLOT, running, 8);
    assert_int_equal(state_of(w, SLOT), SLOT_READY);
}

/* Its slot started long ago, and the time for that is over. */
static void promise_4_a_stateful_spare_has_its_own_time_for_the_slots_state(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    set_model(w, false);
    comes_back(w, SLOT, 1, 0);
    greets(w, SPARE, 1, true);
    says(w, EVENT_PONG, SPARE);
    world_pass(w, 1000 * HASUP_S);
    dies(w, SLOT);
    assert_int_equal(state_of(w, SLOT), SLOT_LOADING);
    world_pass(w, HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 0);
    assert_int_equal(state_of(w, SLOT), SLOT_LOADING);
    world_pass(w, 31 * HASUP_S);
    assert_true(seen_notices(w, NOTICE_START_TIMEOUT) >= 1); /* the next spare's, too */
}

static void a_stateful_spare_that_never_answers_is_killed(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    set_model(w, false);
    comes_back(w, SLOT, 1, 0);
    greets(w, SPARE, 1, true);
    world_pass(w, 31 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 1);
    assert_int_equal(seen(w, ACTION_KILL)->slot, SPARE);
}

/* It says that it is ready once it has a slot's state, and feeds its watchdog from then on. */
static void a_stateful_spare_feeds_no_watchdog_before_it_is_welcomed(void **state)
{
    struct world *w = *state;
    w->policy.spares = 1;
    w->policy.timeouts.watchdog = 10 * HASUP_S;
    set_model(w, false);
    comes_back(w, SLOT, 1, 0);
    greets(w, SPARE, 1, true);
    says(w, EVENT_PONG, SPARE);
    for (int i = 0; i < 5; i++) {
        says(w, EVENT_ALIVE, SLOT);
        world_pass(w, 9 * HASUP_S);
        assert_int_equal(seen_notices(w, NOTICE_HUNG), 0);
    }
    dies(w, SLOT);
    assert_int_equal(seen(w, ACTION_SWAP)->slot, SLOT);
    says(w, EVENT_CHECKPOINT_LOADED, SLOT);
    world_pass(w, 9 * HASUP_S); /* restores its state */
    says(w, EVENT_WORKER_READY, SLOT);
    world_pass(w, 9 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 0);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
}

static void promise_6_a_suspect_runs_on_a_spare_and_kills_no_slots_worker(void **state)
{
    struct world *w = *state;
    w->policy.spares = 2;
    w->policy.max_attempts = 2;
    set_model(w, false);
    for (uint32_t i = 0; i < 3; i++)
        comes_up(w, i, 1);
    uint64_t id = submit(w);
    dies(w, SLOT);
    assert_int_equal(seen(w, ACTION_SWAP)->other, SPARE);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, SPARE + 1);
    uint64_t other = submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, SLOT); /* nobody waits for it */
    dies(w, SPARE + 1);
    assert_refused(w, id, REFUSED_QUARANTINED);
    assert_int_equal(crashes_of(w, SLOT), 1);
    replies(w, SLOT, other);
}

static void a_busy_spare_takes_nothing_over(void **state)
{
    struct world *w = *state;
    w->policy.spares = 2;
    set_model(w, false);
    for (uint32_t i = 0; i < 3; i++)
        comes_up(w, i, 1);
    submit(w);
    dies(w, SLOT); /* the suspect runs on the second spare */
    replies(w, SLOT, submit(w));
    dies(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_SWAP), 0);
}

static void the_policy_adds_and_removes_spares(void **state)
{
    struct world *w = *state;
    with_spare(w);
    dies(w, SLOT); /* the spare serves now, and the dead one's place is the spare's */
    w->policy.spares = 0;
    set_model(w, false);
    assert_int_equal(seen(w, ACTION_SLOT_REMOVED)->slot, SPARE);
    assert_int_equal(state_of(w, SLOT), SLOT_READY);
    w->policy.spares = 1;
    set_model(w, false);
    assert_int_equal(seen(w, ACTION_SLOT_ADDED)->role, ROLE_SPARE);
    comes_up(w, SPARE, 1);
}

static void a_restart_replaces_spares_first(void **state)
{
    struct world *w = *state;
    with_spare(w);
    set_model(w, true);
    assert_int_equal(state_of(w, SPARE), SLOT_DRAINING);
    leaves(w, SPARE);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, SPARE);
}

static void a_shutdown_ends_spares_too(void **state)
{
    struct world *w = *state;
    with_spare(w);
    shut_down(w, 10 * HASUP_S);
    leaves(w, SLOT);
    assert_int_equal(seen_count(w, ACTION_EXIT), 0);
    leaves(w, SPARE);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_spare_is_given_nothing_to_do),
        STORY(promise_1_it_takes_over_in_the_step_that_tells_of_the_death),
        STORY(what_the_dead_one_says_late_counts_for_nobody),
        STORY(the_next_spare_starts_once_the_dead_tree_is_empty),
        STORY(with_no_spare_loaded_a_slot_starts_as_ever),
        STORY(one_that_loads_late_relieves_who_takes_long_to_die),
        STORY(promise_7_runs_that_fail_in_a_row_open_the_breaker_all_the_same),
        STORY(an_ordered_end_costs_no_spare),
        STORY(a_hung_worker_is_replaced_while_it_says_why),
        STORY(promise_4_a_stateful_spare_gets_the_slots_state),
        STORY(promise_4_a_stateful_spare_has_its_own_time_for_the_slots_state),
        STORY(a_stateful_spare_that_never_answers_is_killed),
        STORY(a_stateful_spare_feeds_no_watchdog_before_it_is_welcomed),
        STORY(promise_6_a_suspect_runs_on_a_spare_and_kills_no_slots_worker),
        STORY(a_busy_spare_takes_nothing_over),
        STORY(the_policy_adds_and_removes_spares),
        STORY(a_restart_replaces_spares_first),
        STORY(a_shutdown_ends_spares_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
