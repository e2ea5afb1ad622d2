/* Workers that hang: how it is known, and what becomes of them and their requests. */
#include "tests/unit/core_world.h"

static enum hang hung_of(const struct world *w)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->seen[i].type == ACTION_NOTICE && w->seen[i].notice.what == NOTICE_HUNG)
            return (enum hang)w->seen[i].notice.value;
    fail_msg("it does not hang");
    return HANG_ATTEMPT;
}

static void assert_hangs_after(struct world *w, hasup_ns span, enum hang why)
{
    world_pass(w, span - 2 * HASUP_MS);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 0);
    world_pass(w, 4 * HASUP_MS);
    assert_int_equal(hung_of(w), why);
}

static void ready(struct world *w, uint32_t workers, uint32_t concurrency)
{
    w->policy.workers = workers;
    set_model(w, false);
    for (uint32_t i = 0; i < workers; i++)
        comes_up(w, i, concurrency);
}

static void promise_1_requests_move_when_the_abort_begins(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = 3 * HASUP_S;
    ready(w, 2, 1);
    uint64_t request = submit(w);
    uint32_t first = seen(w, ACTION_DISPATCH)->slot;
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
    assert_int_equal(seen(w, ACTION_ABORT)->slot, first);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1 - first);
    assert_int_equal(state_of(w, first), SLOT_ABORTING);
    replies(w, first, request); /* too late: it is nobody's any more */
    assert_int_equal(w->count, 0);
    replies(w, 1 - first, request);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
    world_pass(w, 2990 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    world_pass(w, 20 * HASUP_MS);
    assert_int_equal(seen(w, ACTION_KILL)->slot, first);
    assert_int_equal(state_of(w, first), SLOT_KILLING);
}

static void one_that_dies_of_its_abort_is_not_killed_and_starts_when_its_tree_is_empty(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = 3 * HASUP_S;
    ready(w, 1, 1);
    submit(w);
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
    says(w, EVENT_BROKE, 0); /* its socket closes: no reason for a hurry */
    assert_int_equal(w->count, 0);
    says(w, EVENT_EXITED, 0);
    assert_int_equal(seen_count(w, ACTION_KILL), 1); /* what it left */
    says(w, EVENT_TREE_EMPTY, 0);
    assert_int_equal(state_of(w, 0), SLOT_STARTING); /* its run was long */
}

static void without_an_abort_it_is_killed_at_once(void **state)
{
    struct world *w = *state;
    ready(w, 1, 1);
    submit(w);
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
    assert_int_equal(seen_count(w, ACTION_ABORT), 0);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void one_that_hangs_in_load_may_say_why(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = 3 * HASUP_S;
    set_model(w, false);
    greets(w, 0, 1, false);
    world_pass(w, 30 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 1);
    assert_int_equal(seen_count(w, ACTION_ABORT), 1);
    assert_int_equal(state_of(w, 0), SLOT_ABORTING);
}

static void a_hastened_shutdown_waits_for_no_abort(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = 3600 * HASUP_S;
    ready(w, 1, 1);
    submit(w);
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
    shut_down(w, HASUP_S);
    world_pass(w, HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void each_attempt_has_its_time_anew(void **state)
{
    struct world *w = *state;
    ready(w, 1, 1);
    uint64_t request = submit(w);
    world_pass(w, 19 * HASUP_S);
    dies(w, 0);
    world_pass(w, 130 * HASUP_MS); /* its backoff */
    comes_up(w, 0, 1);
    assert_non_null(seen_of(w, ACTION_DISPATCH, request));
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
}

static void a_stream_that_stops_hangs_though_others_go_on(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.progress = 5 * HASUP_S;
    ready(w, 1, 2);
    uint64_t stops = submit(w), goes_on = submit(w);
    chunks(w, 0, stops, 10, true);
    for (int i = 0; i < 4; i++) {
        world_pass(w, HASUP_S);
        chunks(w, 0, goes_on, 10, true);
    }
    assert_hangs_after(w, HASUP_S, HANG_PROGRESS);
}

static void a_stream_has_the_time_of_progress_and_not_of_an_attempt(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.progress = 60 * HASUP_S;
    ready(w, 1, 1);
    uint64_t stream = submit(w);
    world_pass(w, 15 * HASUP_S);
    chunks(w, 0, stream, 10, true);
    assert_hangs_after(w, 60 * HASUP_S, HANG_PROGRESS);
}

static void a_new_request_beside_quiet_streams_has_a_whole_attempt(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.progress = 600 * HASUP_S;
    ready(w, 1, 2);
    chunks(w, 0, submit(w), 10, true);
    world_pass(w, 19 * HASUP_S);
    submit(w);
    assert_hangs_after(w, 20 * HASUP_S, HANG_ATTEMPT);
}

static void an_idle_one_is_pinged_every_so_often(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.ping = HASUP_S;
    w->policy.timeouts.ping_after = 3600 * HASUP_S;
    w->policy.timeouts.ping_every = 10 * HASUP_S;
    ready(w, 1, 1);
    for (int i = 0; i < 3; i++) {
        world_pass(w, 9990 * HASUP_MS);
        assert_int_equal(seen_count(w, ACTION_PING), 0);
        world_pass(w, 20 * HASUP_MS);
        assert_int_equal(seen_count(w, ACTION_PING), 1);
        says(w, EVENT_PONG, 0);
    }
    uint64_t request = submit(w);
    world_pass(w, 15 * HASUP_S); /* busy: its request says whether it lives */
    assert_int_equal(seen_count(w, ACTION_PING), 0);
    replies(w, 0, request);
    world_pass(w, 10 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_PING), 1);
    assert_hangs_after(w, HASUP_S, HANG_PING);
}

static void one_that_is_idle_costs_no_timer(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.ping = w->policy.timeouts.ping_after = HASUP_S;
    ready(w, 1, 1);
    replies(w, 0, submit(w));
    world_pass(w, 60 * HASUP_S);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
}

static void a_watchdog_that_is_not_fed_bites(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.watchdog = 10 * HASUP_S;
    ready(w, 1, 1);
    for (int i = 0; i < 5; i++) {
        world_pass(w, 9 * HASUP_S);
        says(w, EVENT_ALIVE, 0);
        assert_int_equal(w->count, 0);
    }
    assert_hangs_after(w, 10 * HASUP_S, HANG_WATCHDOG);
}

static void a_worker_that_says_that_it_hangs_is_believed(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.watchdog = 10 * HASUP_S;
    ready(w, 1, 1);
    struct event event = of_worker(w, EVENT_ALIVE, 0);
    event.hangs = true;
    world_do(w, event);
    assert_int_equal(hung_of(w), HANG_TOLD);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void shorter_times_hold_at_once(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.attempt = 0;
    ready(w, 1, 1);
    submit(w);
    w->policy.timeouts.attempt = 5 * HASUP_S;
    set_model(w, false);
    assert_hangs_after(w, 5 * HASUP_S, HANG_ATTEMPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_1_requests_move_when_the_abort_begins),
        STORY(one_that_dies_of_its_abort_is_not_killed_and_starts_when_its_tree_is_empty),
        STORY(without_an_abort_it_is_killed_at_once),
        STORY(one_that_hangs_in_load_may_say_why),
        STORY(a_hastened_shutdown_waits_for_no_abort),
        STORY(each_attempt_has_its_time_anew),
        STORY(a_stream_that_stops_hangs_though_others_go_on),
        STORY(a_stream_has_the_time_of_progress_and_not_of_an_attempt),
        STORY(a_new_request_beside_quiet_streams_has_a_whole_attempt),
        STORY(an_idle_one_is_pinged_every_so_often),
        STORY(one_that_is_idle_costs_no_timer),
        STORY(a_watchdog_that_is_not_fed_bites),
        STORY(a_worker_that_says_that_it_hangs_is_believed),
        STORY(shorter_times_hold_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
