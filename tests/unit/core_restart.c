/* How a slot comes back: at once after a healthy run, with backoff and a breaker after others. */
#include "tests/unit/core_world.h"

static void promise_7_first_restart_after_a_healthy_run_is_immediate(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    replies(w, 0, request);
    dies(w, 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 0);
    assert_int_equal(state_of(w, 0), SLOT_STARTING);
}

static void promise_7_a_run_that_lived_long_enough_was_healthy(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    world_pass(w, 10 * HASUP_S);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    comes_up(w, 0, 1);
    world_pass(w, 9 * HASUP_S);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

/* How long the slot waits after a death; the worker must be down. */
static hasup_ns waits(struct world *w)
{
    hasup_ns from = w->now;
    for (;;) {
        hasup_ns due = core_deadline(w->core);
        assert_true(due < HASUP_NEVER);
        world_pass(w, due > w->now ? due - w->now : 0);
        if (seen_count(w, ACTION_SPAWN))
            return w->now - from;
    }
}

static void promise_7_a_crash_loop_backs_off_doubling_with_jitter(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 0;
    set_model(w, false);
    hasup_ns expected = 100 * HASUP_MS;
    for (int run = 0; run < 12; run++) {
        dies(w, 0);
        assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
        hasup_ns waited = waits(w);
        assert_true(waited >= expected * 3 / 4);
        assert_true(waited <= expected * 5 / 4 + 2 * HASUP_MS);
        expected = expected * 2 > 10 * HASUP_S ? 10 * HASUP_S : expected * 2;
    }
}

static void promise_7_a_healthy_run_resets_the_backoff(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    for (int run = 0; run < 3; run++) {
        dies(w, 0);
        waits(w);
    }
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    dies(w, 0);
    assert_true(waits(w) <= 125 * HASUP_MS + 2 * HASUP_MS);
}

/* Its runs fail until the breaker opens. */
static void fails(struct world *w, uint32_t slot)
{
    for (int run = 0; run < 5; run++) {
        dies(w, slot);
        if (run < 4)
            waits(w);
    }
}

static void break_slot(struct world *w, uint32_t slot)
{
    fails(w, slot);
    assert_int_equal(state_of(w, slot), SLOT_BROKEN);
}

static void promise_7_the_breaker_opens_and_lets_one_try_through_doubling(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    break_slot(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_BREAKER_OPEN), 1);
    static const int MINUTES[] = {1, 2, 4, 8, 8};
    for (size_t i = 0; i < HASUP_LEN(MINUTES); i++) {
        hasup_ns waited = waits(w);
        assert_true(waited >= MINUTES[i] * 60 * HASUP_S);
        assert_true(waited <= MINUTES[i] * 60 * HASUP_S + 2 * HASUP_MS);
        dies(w, 0);
        assert_int_equal(state_of(w, 0), SLOT_BROKEN);
    }
}

static void promise_8_broken_models_refuse_with_a_time_to_try_again(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    uint64_t waiting = submit(w);
    for (int run = 0; run < 5; run++) {
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0); /* a slot that restarts is waited for */
        dies(w, 0);
        if (run < 4)
            waits(w);
    }
    assert_refused(w, waiting, REFUSED_UNAVAILABLE);
    assert_non_null(seen_of(w, ACTION_FORGET, waiting));
    world_pass(w, 20 * HASUP_S);
    uint64_t late = submit(w);
    assert_refused(w, late, REFUSED_UNAVAILABLE);
    assert_true(seen(w, ACTION_REFUSE)->refuse.retry_after == 40 * HASUP_S);
}

static void promise_8_one_slot_left_is_hope(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_up(w, 1, 1);
    uint64_t request = submit(w);
    break_slot(w, 0);
    replies(w, 1, request);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
    submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
}

static void start_closes_the_breaker(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    break_slot(w, 0);
    command(w, CORE_ALL_SLOTS, COMMAND_START);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
    assert_true(waits(w) <= 125 * HASUP_MS + 2 * HASUP_MS);
}

static void a_failed_spawn_is_a_failed_run(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    struct event spawned = of_worker(w, EVENT_SPAWNED, 0);
    spawned.error = 2;
    world_do(w, spawned);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
    assert_true(waits(w) >= 75 * HASUP_MS);
}

static void a_worker_that_never_gets_ready_is_killed(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, false);
    world_pass(w, 29 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    world_pass(w, 1 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 1);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

static void a_worker_that_says_it_cannot_load_is_killed(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, false);
    struct event ready = of_worker(w, EVENT_WORKER_READY, 0);
    ready.error = HASUP_EWORKER;
    world_do(w, ready);
    assert_int_equal(seen(w, ACTION_KILL)->slot, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

static void a_slot_starts_only_after_its_old_tree_is_empty(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    struct event exited = of_worker(w, EVENT_EXITED, 0);
    world_do(w, exited);
    assert_int_equal(seen_count(w, ACTION_KILL), 1); /* what is left of the tree */
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    world_pass(w, 3600 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    says(w, EVENT_TREE_EMPTY, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
}

static void promise_1_a_killed_workers_request_moves_without_waiting_for_its_end(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    comes_up(w, 1, 1);
    says(w, EVENT_BROKE, 0);
    assert_int_equal(seen(w, ACTION_KILL)->slot, 0);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
    assert_true(seen(w, ACTION_DISPATCH)->request == request);
    assert_int_equal(seen(w, ACTION_DISPATCH)->dispatch.attempt, 2);
}

static void promise_1_a_hung_worker_is_killed_and_its_request_moves(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    comes_up(w, 1, 1);
    world_pass(w, 19 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(seen(w, ACTION_KILL)->slot, 0);
    assert_true(seen(w, ACTION_DISPATCH)->request == request);
}

static void promise_1_one_hung_request_is_found_though_its_neighbours_go_on(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 2);
    uint64_t hung = submit(w);
    unsigned seconds = 0;
    for (; seconds < 100 && !seen_notices(w, NOTICE_HUNG); seconds += 5) {
        uint64_t other = submit(w);
        world_pass(w, 5 * HASUP_S);
        if (!seen_notices(w, NOTICE_HUNG))
            replies(w, 0, other);
    }
    /* A worker of two may take them one after the other: twice the limit, no more. */
    assert_in_range(seconds, 40, 50);
    dies(w, 0);
    comes_up(w, 0, 2);
    assert_non_null(seen_of(w, ACTION_DISPATCH, hung));
}

static void a_stream_that_goes_on_is_not_hung(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 2);
    uint64_t stream = submit(w);
    for (int i = 0; i < 20; i++) {
        world_pass(w, 15 * HASUP_S);
        assert_int_equal(seen_count(w, ACTION_KILL), 0);
        chunks(w, 0, stream, 10, true);
    }
    replies(w, 0, stream);
    assert_non_null(seen_of(w, ACTION_ANSWER, stream));
}

static void a_worker_idle_for_long_is_pinged_ahead_of_its_request(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.ping = HASUP_S;
    w->policy.timeouts.ping_after = 10 * HASUP_S;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t first = submit(w);
    assert_int_equal(seen_count(w, ACTION_PING), 0);
    replies(w, 0, first);
    world_pass(w, 60 * HASUP_S);
    uint64_t second = submit(w);
    assert_true(seen(w, ACTION_PING) < seen(w, ACTION_DISPATCH));
    says(w, EVENT_PONG, 0);
    world_pass(w, 10 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    replies(w, 0, second);
    world_pass(w, 60 * HASUP_S);
    submit(w);
    world_pass(w, HASUP_S + 2 * HASUP_MS); /* no pong */
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void nothing_wakes_an_idle_supervisor(void **state)
{
    struct world *w = *state;
    w->policy.workers = 3;
    w->policy.timeouts.ping = HASUP_S;
    w->policy.timeouts.ping_after = HASUP_S;
    set_model(w, false);
    for (uint32_t slot = 0; slot < 3; slot++)
        comes_up(w, slot, 4);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
    replies(w, 0, submit(w));
    world_pass(w, 60 * HASUP_S);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
}

/* ---- essential models ---- */

/* Said once, because of this slot. */
static void assert_essential(const struct world *w, uint32_t slot)
{
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 1);
    for (size_t i = 0; i < w->count; i++)
        if (w->seen[i].type == ACTION_NOTICE && w->seen[i].notice.what == NOTICE_ESSENTIAL)
            assert_int_equal(w->seen[i].slot, slot);
}

static void essential(struct world *w, uint32_t workers)
{
    w->policy.essential = true;
    w->policy.workers = workers;
    set_model(w, false);
    for (uint32_t i = 1; i < workers; i++)
        comes_up(w, i, 1);
}

static void an_essential_model_ends_hasupd_once_its_last_worker_breaks(void **state)
{
    struct world *w = *state;
    essential(w, 2);
    break_slot(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
    break_slot(w, 1);
    assert_essential(w, 1);
}

/* What is left of it cannot serve, though nothing broke just now. */
static void scaling_an_essential_model_down_to_its_broken_slots_ends_hasupd(void **state)
{
    struct world *w = *state;
    essential(w, 2);
    break_slot(w, 0);
    w->policy.workers = 1;
    set_model(w, false);
    assert_essential(w, 0);
}

/* It goes slot by slot, and nobody is missed meanwhile. */
static void stopping_an_essential_model_is_no_failure(void **state)
{
    struct world *w = *state;
    essential(w, 3);
    break_slot(w, 2);
    dies(w, 0);
    dies(w, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_STOP);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(state_of(w, i), SLOT_STOPPED);
    command(w, CORE_ALL_SLOTS, COMMAND_START);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
}

static void an_essential_model_ends_hasupd_once_its_stand_in_breaks(void **state)
{
    struct world *w = *state;
    w->policy.rollout.max_surge = 1;
    w->policy.recycle.requests = 1;
    w->policy.essential = true;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w)); /* slot 1 stands in while it is recycled */
    comes_up(w, 1, 1);
    assert_int_equal(state_of(w, 0), SLOT_DRAINING);
    leaves(w, 0);
    break_slot(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
    fails(w, 1);
    assert_essential(w, 0); /* the stand-in is gone */
}

/* The old version comes back, which is known to work: nobody has to stop for the new one. */
static void a_rollout_of_an_essential_model_that_breaks_is_rolled_back(void **state)
{
    struct world *w = *state;
    w->policy.rollout.max_surge = 1;
    w->policy.essential = true;
    struct event set = {.type = EVENT_MODEL_SET,
                        .model = WORLD_MODEL,
                        .model_set = {.policy = &w->policy, .version = 1}};
    world_do(w, set);
    comes_up(w, 0, 1);
    set.model_set.version = 2;
    set.model_set.restart = true;
    world_do(w, set);
    comes_up(w, 1, 1); /* the extra slot */
    leaves(w, 0);
    for (int run = 0; run < 4; run++) {
        dies(w, 0);
        waits(w);
    }
    dies(w, 1); /* and backs off while the last start of slot 0 fails */
    dies(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_BREAKER_OPEN), 1);
    assert_int_equal(state_of(w, 0), SLOT_STARTING);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_7_first_restart_after_a_healthy_run_is_immediate),
        STORY(promise_7_a_run_that_lived_long_enough_was_healthy),
        STORY(promise_7_a_crash_loop_backs_off_doubling_with_jitter),
        STORY(promise_7_a_healthy_run_resets_the_backoff),
        STORY(promise_7_the_breaker_opens_and_lets_one_try_through_doubling),
        STORY(promise_8_broken_models_refuse_with_a_time_to_try_again),
        STORY(promise_8_one_slot_left_is_hope),
        STORY(start_closes_the_breaker),
        STORY(a_failed_spawn_is_a_failed_run),
        STORY(a_worker_that_never_gets_ready_is_killed),
        STORY(a_worker_that_says_it_cannot_load_is_killed),
        STORY(a_slot_starts_only_after_its_old_tree_is_empty),
        STORY(promise_1_a_killed_workers_request_moves_without_waiting_for_its_end),
        STORY(promise_1_a_hung_worker_is_killed_and_its_request_moves),
        STORY(promise_1_one_hung_request_is_found_though_its_neighbours_go_on),
        STORY(a_stream_that_goes_on_is_not_hung),
        STORY(a_worker_idle_for_long_is_pinged_ahead_of_its_request),
        STORY(nothing_wakes_an_idle_supervisor),
        STORY(an_essential_model_ends_hasupd_once_its_last_worker_breaks),
        STORY(scaling_an_essential_model_down_to_its_broken_slots_ends_hasupd),
        STORY(stopping_an_essential_model_is_no_failure),
        STORY(an_essential_model_ends_hasupd_once_its_stand_in_breaks),
        STORY(a_rollout_of_an_essential_model_that_breaks_is_rolled_back),
    };
    return cmocka_run_group_tests_name("core_restart", tests, NULL, NULL);
}
