/* The command that must succeed before each start of a slot. */
#include "tests/unit/core_world.h"

static void with_pre_start(struct world *w, uint32_t retries)
{
    w->policy.pre_start.on = true;
    w->policy.pre_start.timeout = 10 * HASUP_S;
    w->policy.pre_start.retries = retries;
    w->policy.pre_start.interval = HASUP_S;
    set_model(w, false);
}

/* The command ends, and its tree is empty. */
static void command_ends(struct world *w, int code)
{
    struct event event = of_worker(w, EVENT_EXITED, 0);
    event.exited.code = code;
    event.exited.tree_empty = true;
    world_do(w, event);
}

static void assert_prepares(struct world *w)
{
    assert_int_equal(seen(w, ACTION_PREPARE)->slot, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(state_of(w, 0), SLOT_PREPARING);
    says(w, EVENT_SPAWNED, 0);
}

static void each_start_comes_after_its_command_succeeded(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 0);
    assert_prepares(w);
    uint32_t command = w->worker[0];
    command_ends(w, 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 0);
    assert_int_not_equal(w->worker[0], command);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    dies(w, 0); /* a healthy run: it is prepared at once, and started at once */
    assert_prepares(w);
    command_ends(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
}

static void nothing_starts_before_the_commands_tree_is_empty(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 0);
    assert_prepares(w);
    says(w, EVENT_EXITED, 0);
    assert_int_equal(seen_count(w, ACTION_KILL), 1); /* what it left */
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    says(w, EVENT_TREE_EMPTY, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
}

static void a_try_that_fails_is_followed_by_another_after_the_interval(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 2);
    for (unsigned i = 1; i <= 2; i++) {
        assert_prepares(w);
        command_ends(w, 1);
        assert_int_equal(seen_notices(w, NOTICE_PRE_START_FAILED), 1);
        assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
        world_pass(w, 990 * HASUP_MS);
        assert_int_equal(w->count, 0);
        world_pass(w, 20 * HASUP_MS);
    }
    assert_prepares(w);
    command_ends(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    struct slot_view view;
    assert_true(core_slot_view(w->core, 0, &view));
    assert_int_equal(view.starts, 1);
    assert_int_equal(view.crashes, 0);
}

static void promise_7_a_start_whose_tries_all_fail_backs_off_and_breaks(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 1);
    for (unsigned start = 1; start <= 5; start++) {
        says(w, EVENT_SPAWNED, 0);
        command_ends(w, 1);
        world_pass(w, 1010 * HASUP_MS);
        assert_prepares(w);
        command_ends(w, 1);
        if (start < 5) {
            assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
            world_pass(w, (125 * HASUP_MS << (start - 1)) + 2 * HASUP_MS);
            assert_int_equal(seen_count(w, ACTION_PREPARE), 1);
        }
    }
    assert_int_equal(state_of(w, 0), SLOT_BROKEN);
    assert_int_equal(seen_notices(w, NOTICE_BREAKER_OPEN), 1);
    assert_refused(w, submit(w), REFUSED_UNAVAILABLE);
}

static void a_command_that_takes_too_long_is_killed_and_has_failed(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 1);
    assert_prepares(w);
    world_pass(w, 10 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_notices(w, NOTICE_PRE_START_TIMEOUT), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    dies(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_PRE_START_FAILED), 1);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

static void a_command_that_cannot_be_run_has_failed(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 1);
    struct event event = of_worker(w, EVENT_SPAWNED, 0);
    event.error = 2;
    world_do(w, event);
    assert_int_equal(seen_notices(w, NOTICE_PRE_START_FAILED), 1);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

static void stopping_a_slot_kills_its_command(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 5);
    assert_prepares(w);
    command(w, 0, COMMAND_STOP);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
    command(w, 0, COMMAND_START);
    assert_prepares(w);
}

static void a_restart_begins_with_a_new_command(void **state)
{
    struct world *w = *state;
    with_pre_start(w, 5);
    assert_prepares(w);
    command(w, 0, COMMAND_RESTART);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    dies(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_PRE_START_FAILED), 0);
    assert_prepares(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(each_start_comes_after_its_command_succeeded),
        STORY(nothing_starts_before_the_commands_tree_is_empty),
        STORY(a_try_that_fails_is_followed_by_another_after_the_interval),
        STORY(promise_7_a_start_whose_tries_all_fail_backs_off_and_breaks),
        STORY(a_command_that_takes_too_long_is_killed_and_has_failed),
        STORY(a_command_that_cannot_be_run_has_failed),
        STORY(stopping_a_slot_kills_its_command),
        STORY(a_restart_begins_with_a_new_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
