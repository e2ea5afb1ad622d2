/* A state that is taken while its worker goes on serving, and a checkpoint that the disk does not
 * give.
 */
#include "tests/unit/core_world.h"

static uint64_t answer_one(struct world *w)
{
    uint64_t request = submit(w);
    replies_with(w, 0, request, request + 7);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
    return request;
}

static void begin(struct world *w)
{
    set_model(w, false);
    comes_back(w, 0, 1, 0);
}

static void load_ends(struct world *w, bool found, uint64_t position, int error)
{
    struct event loaded = of_worker(w, EVENT_CHECKPOINT_LOADED, 0);
    loaded.checkpoint.found = found;
    loaded.checkpoint.position = position;
    loaded.checkpoint.error = error;
    world_do(w, loaded);
}

static void promise_4_requests_go_on_while_a_state_is_taken(void **state)
{
    struct world *w = *state;
    begin(w);
    uint64_t before = answer_one(w);
    command(w, 0, COMMAND_CHECKPOINT);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 1);
    uint64_t second = answer_one(w), third = answer_one(w);
    state_taken(w, 0, 1, 0);
    assert_true(seen(w, ACTION_STORE_CHECKPOINT)->position == 1);
    stored(w, 0, 1, 0);
    assert_non_null(seen_of(w, ACTION_FORGET, before));
    assert_int_equal(seen_count(w, ACTION_FORGET), 1); /* the barrier was before the others */
    dies(w, 0);
    comes_back(w, 0, 2, 1);
    assert_true(seen_nth(w, ACTION_DISPATCH, 0)->request == second);
    assert_true(seen_nth(w, ACTION_DISPATCH, 1)->request == third);
}

static void promise_4_a_state_in_flight_dies_with_its_worker(void **state)
{
    struct world *w = *state;
    begin(w);
    answer_one(w);
    command(w, 0, COMMAND_CHECKPOINT);
    answer_one(w);
    dies(w, 0);
    comes_back(w, 0, 2, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 2);
    assert_int_equal(seen_count(w, ACTION_STORE_CHECKPOINT), 0);
}

static void promise_1_a_state_that_never_comes_is_a_hang_though_its_worker_serves(void **state)
{
    struct world *w = *state;
    begin(w);
    answer_one(w);
    command(w, 0, COMMAND_CHECKPOINT);
    for (int second = 0; second < 19; second++) {
        answer_one(w);
        world_pass(w, HASUP_S);
        assert_int_equal(seen_notices(w, NOTICE_HUNG), 0);
    }
    answer_one(w);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

/* What stands before the barrier has its own time; the state's begins behind it. */
static void a_state_has_its_time_from_the_last_answer_before_it(void **state)
{
    struct world *w = *state;
    begin(w);
    uint64_t before = submit(w);
    command(w, 0, COMMAND_CHECKPOINT);
    for (int i = 0; i < 4; i++) { /* a stream of 40 s */
        world_pass(w, 10 * HASUP_S);
        chunks(w, 0, before, 10, true);
    }
    replies(w, 0, before);
    world_pass(w, 19 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 0);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
}

static void promise_11_nobody_serves_from_less_while_the_disk_does_not_say(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, true);
    uint64_t waits = submit(w);
    load_ends(w, false, 0, HASUP_EIO);
    assert_int_equal(seen_count(w, ACTION_WELCOME), 0);
    assert_int_equal(seen_notices(w, NOTICE_LOAD_FAILED), 1);
    world_pass(w, 900 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_LOAD_CHECKPOINT), 0);
    world_pass(w, 200 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_LOAD_CHECKPOINT), 1);
    /* Longer than timeouts.start: the worker is not to blame, and is not killed. */
    for (int i = 0; i < 10; i++) {
        load_ends(w, false, 0, HASUP_ENOMEM);
        world_pass(w, 13 * HASUP_S);
        assert_int_equal(seen_count(w, ACTION_LOAD_CHECKPOINT), 1);
        assert_int_equal(seen_count(w, ACTION_KILL), 0);
    }
    load_ends(w, true, 5, 0);
    assert_true(seen(w, ACTION_WELCOME)->restore);
    says(w, EVENT_WORKER_READY, 0);
    assert_true(seen(w, ACTION_DISPATCH)->request == waits);
    assert_true(seen(w, ACTION_DISPATCH)->dispatch.position == 6);
    assert_int_equal(seen_notices(w, NOTICE_STATE_LOST), 0);
}

static void a_worker_that_hangs_after_its_late_checkpoint_is_found(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, true);
    load_ends(w, false, 0, HASUP_EIO);
    world_pass(w, 60 * HASUP_S);
    load_ends(w, true, 5, 0);
    world_pass(w, 29 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_KILL), 0);
    world_pass(w, 2 * HASUP_S);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void a_worker_that_dies_while_the_disk_does_not_say_is_followed_by_another(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, true);
    load_ends(w, false, 0, HASUP_EIO);
    dies(w, 0);
    world_pass(w, 5 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_LOAD_CHECKPOINT), 0);
    comes_back(w, 0, 1, 5);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void promise_11_a_state_of_which_all_is_damaged_is_called_lost(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, true);
    load_ends(w, false, 0, HASUP_ECORRUPT);
    assert_false(seen(w, ACTION_WELCOME)->restore);
    says(w, EVENT_WORKER_READY, 0);
    assert_int_equal(seen_notices(w, NOTICE_STATE_LOST), 1);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_4_requests_go_on_while_a_state_is_taken),
        STORY(promise_4_a_state_in_flight_dies_with_its_worker),
        STORY(promise_1_a_state_that_never_comes_is_a_hang_though_its_worker_serves),
        STORY(a_state_has_its_time_from_the_last_answer_before_it),
        STORY(promise_11_nobody_serves_from_less_while_the_disk_does_not_say),
        STORY(a_worker_that_hangs_after_its_late_checkpoint_is_found),
        STORY(a_worker_that_dies_while_the_disk_does_not_say_is_followed_by_another),
        STORY(promise_11_a_state_of_which_all_is_damaged_is_called_lost),
    };
    return cmocka_run_group_tests_name("core_snapshot", tests, NULL, NULL);
}
