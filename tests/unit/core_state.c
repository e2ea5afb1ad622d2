/* A stateful worker that dies comes back as it would have been: checkpoint, then its log in order.
 */
#include "tests/unit/core_world.h"

static void assert_dispatched(const struct world *w, unsigned n, uint64_t request,
                              uint64_t position, bool replay)
{
    const struct action *action = seen_nth(w, ACTION_DISPATCH, n);
    assert_non_null(action);
    assert_true(action->request == request && action->dispatch.position == position);
    assert_int_equal(action->dispatch.replay, replay);
}

static uint64_t answer_one(struct world *w)
{
    uint64_t request = submit(w);
    replies_with(w, 0, request, request + 7);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
    return request;
}

static void begin(struct world *w, uint32_t concurrency)
{
    set_model(w, false);
    comes_back(w, 0, concurrency, 0);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

/* One checkpoint of what was done so far. */
static void checkpoint_all(struct world *w, uint64_t position)
{
    command(w, 0, COMMAND_CHECKPOINT);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == position);
    state_taken(w, 0, position, 0);
    assert_true(seen(w, ACTION_STORE_CHECKPOINT)->position == position);
    stored(w, 0, position, 0);
}

static void promise_4_replay_is_the_answered_in_order_then_the_unanswered(void **state)
{
    struct world *w = *state;
    begin(w, 2);
    uint64_t first = answer_one(w), second = answer_one(w);
    uint64_t third = submit(w), fourth = submit(w), fresh = submit(w);
    dies(w, 0);
    comes_back(w, 0, 2, 0);
    assert_int_equal(state_of(w, 0), SLOT_REPLAYING);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 2);
    assert_dispatched(w, 0, first, 1, true);
    assert_dispatched(w, 1, second, 2, true);
    replies_with(w, 0, first, first + 7);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0); /* its client has it already */
    replies_with(w, 0, second, second + 7);
    assert_dispatched(w, 0, third, 3, false); /* what was in hand at the crash runs alone */
    assert_int_equal(seen(w, ACTION_DISPATCH)->dispatch.attempt, 2);
    replies(w, 0, third);
    assert_non_null(seen_of(w, ACTION_ANSWER, third));
    assert_dispatched(w, 0, fourth, 4, false);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
    replies(w, 0, fourth);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    assert_dispatched(w, 0, fresh, 5, false);
    struct slot_view view;
    assert_true(core_slot_view(w->core, 0, &view));
    assert_true(view.replayed == 2 && view.diverged == 0 && view.log_head == 5);
}

static void promise_4_replay_begins_after_the_checkpoint(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t covered = answer_one(w);
    checkpoint_all(w, 1);
    assert_non_null(seen_of(w, ACTION_FORGET, covered));
    uint64_t after = answer_one(w);
    dies(w, 0);
    comes_back(w, 0, 1, 1);
    assert_dispatched(w, 0, after, 2, true);
    assert_int_equal(seen_notices(w, NOTICE_STATE_LOST), 0);
}

static void promise_4_a_replay_that_differs_is_counted_and_said(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t request = answer_one(w);
    dies(w, 0);
    comes_back(w, 0, 1, 0);
    replies_with(w, 0, request, 1);
    assert_int_equal(seen_notices(w, NOTICE_DIVERGED), 1);
    struct slot_view view;
    assert_true(core_slot_view(w->core, 0, &view));
    assert_int_equal(view.diverged, 1);
    assert_int_equal(view.state, SLOT_READY);
}

static void promise_4_an_older_checkpoint_than_the_log_is_said_and_served(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    answer_one(w);
    answer_one(w);
    checkpoint_all(w, 2);
    uint64_t kept = answer_one(w);
    dies(w, 0);
    comes_back(w, 0, 1, 1); /* the newest one was damaged */
    assert_int_equal(seen_notices(w, NOTICE_STATE_LOST), 1);
    assert_dispatched(w, 0, kept, 3, true);
    replies_with(w, 0, kept, kept + 7);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void positions_go_on_from_a_checkpoint_of_an_earlier_supervisor(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_back(w, 0, 1, 41);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    uint64_t request = submit(w);
    assert_dispatched(w, 0, request, 42, false);
}

static void a_crash_during_replay_replays_again(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t first = answer_one(w), second = answer_one(w);
    dies(w, 0);
    comes_back(w, 0, 1, 0);
    replies_with(w, 0, first, first + 7);
    dies(w, 0);
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_back(w, 0, 1, 0);
    assert_dispatched(w, 0, first, 1, true);
    replies_with(w, 0, first, first + 7);
    assert_dispatched(w, 0, second, 2, true);
}

static void a_request_stays_with_its_slot(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_back(w, 0, 1, 0);
    uint64_t request = submit(w);
    comes_back(w, 1, 1, 0);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_back(w, 0, 1, 0);
    assert_dispatched(w, 0, request, 1, false);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 0);
}

static void a_checkpoint_is_taken_each_interval_in_which_something_changed(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    world_pass(w, 300 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 0);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
    answer_one(w);
    world_pass(w, 2 * HASUP_MS);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 1);
    answer_one(w); /* goes on meanwhile; this one is of the next */
    state_taken(w, 0, 1, 0);
    stored(w, 0, 1, 0);
    world_pass(w, 31 * HASUP_S);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 2);
    state_taken(w, 0, 2, 0);
    stored(w, 0, 2, 0);
    world_pass(w, 300 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 0);
}

static void a_checkpoint_names_what_is_dispatched_and_waits_for_it(void **state)
{
    struct world *w = *state;
    begin(w, 2);
    uint64_t first = submit(w), second = submit(w);
    command(w, 0, COMMAND_CHECKPOINT);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 2);
    replies(w, 0, first);
    replies(w, 0, second);
    state_taken(w, 0, 2, 0);
    assert_true(seen(w, ACTION_STORE_CHECKPOINT)->position == 2);
}

static void promise_11_a_state_that_claims_what_was_not_answered_is_not_stored(void **state)
{
    struct world *w = *state;
    begin(w, 2);
    submit(w);
    command(w, 0, COMMAND_CHECKPOINT);
    state_taken(w, 0, 1, 0);
    assert_int_equal(seen_count(w, ACTION_STORE_CHECKPOINT), 0);
    assert_int_equal(seen_notices(w, NOTICE_CHECKPOINT_FAILED), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void promise_11_a_checkpoint_kept_in_memory_only_is_said_and_counts(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t request = answer_one(w);
    command(w, 0, COMMAND_CHECKPOINT);
    state_taken(w, 0, 1, 0);
    stored(w, 0, 1, HASUP_EIO);
    assert_int_equal(seen_notices(w, NOTICE_CHECKPOINT_FAILED), 1);
    assert_non_null(seen_of(w, ACTION_FORGET, request));
}

static void promise_11_what_is_in_memory_only_is_stored_when_the_disk_is_good_again(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    answer_one(w);
    command(w, 0, COMMAND_CHECKPOINT);
    state_taken(w, 0, 1, 0);
    stored(w, 0, 1, HASUP_EIO);
    struct slot_view view;
    assert_true(core_slot_view(w->core, 0, &view));
    assert_true(view.checkpoint_position == 0);
    world_pass(w, 31 * HASUP_S); /* and nothing else was asked of it */
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 1);
    state_taken(w, 0, 1, 0);
    stored(w, 0, 1, HASUP_EIO);
    dies(w, 0);
    greets(w, 0, 1, true);
    struct event loaded = of_worker(w, EVENT_CHECKPOINT_LOADED, 0);
    loaded.checkpoint.found = true;
    loaded.checkpoint.position = 1;
    loaded.checkpoint.error = HASUP_EIO;
    world_do(w, loaded);
    says(w, EVENT_WORKER_READY, 0);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    command(w, 0, COMMAND_DRAIN);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 1);
    state_taken(w, 0, 1, 0);
    stored(w, 0, 1, 0);
    assert_true(core_slot_view(w->core, 0, &view));
    assert_true(view.checkpoint_position == 1);
}

static void promise_8_a_long_log_asks_for_a_checkpoint_then_for_patience(void **state)
{
    struct world *w = *state;
    w->policy.checkpoint.interval = 0;
    w->policy.checkpoint.log_requests = 5;
    begin(w, 1);
    for (int i = 0; i < 5; i++)
        answer_one(w);
    world_pass(w, 2 * HASUP_MS);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 5);
    for (int i = 0; i < 5; i++)
        answer_one(w);
    uint64_t waits = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    state_taken(w, 0, 5, 0);
    stored(w, 0, 5, 0);
    assert_dispatched(w, 0, waits, 11, false);
    assert_int_equal(seen_count(w, ACTION_FORGET), 5);
}

static void promise_8_so_does_one_of_many_bytes(void **state)
{
    struct world *w = *state;
    w->policy.checkpoint.interval = 0;
    w->policy.checkpoint.log_bytes = 250; /* a request has 100 */
    begin(w, 1);
    answer_one(w);
    answer_one(w);
    world_pass(w, 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 0);
    answer_one(w);
    world_pass(w, 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 1);
}

static void fill_log(struct world *w)
{
    w->policy.checkpoint.interval = 0;
    w->policy.checkpoint.log_requests = 5;
    begin(w, 1);
    for (int i = 0; i < 10; i++)
        answer_one(w);
    world_pass(w, 0);
}

static void a_full_log_after_a_failed_checkpoint_tries_again(void **state)
{
    struct world *w = *state;
    fill_log(w);
    world_pass(w, 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 1);
    state_taken(w, 0, 10, HASUP_EWORKER);
    assert_int_equal(seen_notices(w, NOTICE_CHECKPOINT_FAILED), 1);
    world_pass(w, 100 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 0); /* not at once */
    world_pass(w, 5 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 1);
    state_taken(w, 0, 10, 0);
    stored(w, 0, 0, HASUP_EIO); /* neither on the disk nor in memory */
    world_pass(w, 5 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 1);
}

static void a_full_log_after_a_crash_asks_for_a_checkpoint(void **state)
{
    struct world *w = *state;
    fill_log(w);
    dies(w, 0);
    comes_back(w, 0, 1, 0);
    for (uint64_t i = 0; i < 10; i++) {
        uint64_t request = (uint64_t)1 << 32 | i;
        assert_dispatched(w, 0, request, i + 1, true);
        replies_with(w, 0, request, request + 7);
    }
    assert_int_equal(state_of(w, 0), SLOT_READY);
    world_pass(w, 2 * HASUP_MS);
    assert_true(seen(w, ACTION_TAKE_STATE)->position == 10);
}

static void promise_8_logs_leave_room_in_the_table_of_requests(void **state)
{
    struct world *w = *state;
    w->policy.checkpoint.interval = 0;
    w->policy.checkpoint.log_requests = 0;
    w->policy.checkpoint.log_bytes = 0;
    begin(w, 1);
    unsigned answered = 0, taken = 0;
    for (; answered < WORLD_REQUESTS && !taken; answered++) {
        answer_one(w);
        world_pass(w, 2 * HASUP_MS);
        taken = seen_count(w, ACTION_TAKE_STATE);
    }
    assert_int_equal(taken, 1);
    assert_true(answered <= WORLD_REQUESTS * 7 / 8);
}

static void a_drain_takes_a_last_checkpoint_before_the_worker_goes(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    answer_one(w);
    command(w, 0, COMMAND_STOP);
    assert_true(seen(w, ACTION_TAKE_STATE) < seen(w, ACTION_DRAIN));
    state_taken(w, 0, 1, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
    stored(w, 0, 1, 0);
    struct slot_view view;
    assert_true(core_slot_view(w->core, 0, &view));
    assert_true(view.checkpoint_position == 1);
}

static void a_worker_killed_during_a_shutdown_comes_back_to_save_its_state(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t request = answer_one(w);
    shut_down(w, 30 * HASUP_S);
    dies(w, 0); /* before its last state came */
    assert_int_equal(state_of(w, 0), SLOT_STARTING);
    comes_back(w, 0, 1, 0);
    replies_with(w, 0, request, request + 7); /* the replay */
    assert_int_equal(state_of(w, 0), SLOT_DRAINING);
    state_taken(w, 0, 1, 0);
    dies(w, 0);
    stored(w, 0, 1, 0);
    seen(w, ACTION_EXIT);
}

static void a_shutdown_waits_no_longer_than_its_grace_for_a_state(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    answer_one(w);
    shut_down(w, 2 * HASUP_S);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STARTING);
    world_pass(w, 3 * HASUP_S);
    seen(w, ACTION_TERMINATE);
    dies(w, 0);
    seen(w, ACTION_EXIT);
}

static void promise_4_a_cancelled_request_runs_on_where_it_changes_state(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t request = submit(w);
    cancel(w, request);
    assert_int_equal(seen_count(w, ACTION_FORGET), 0); /* the log needs it */
    replies_with(w, 0, request, 5);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    dies(w, 0);
    comes_back(w, 0, 1, 0);
    assert_dispatched(w, 0, request, 1, true);
}

static void promise_4_an_expired_request_of_a_dead_worker_leaves_the_log(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t expired = submit_as(w, w->now + HASUP_S, 0, 1);
    world_pass(w, HASUP_S + 2 * HASUP_MS);
    assert_refused(w, expired, REFUSED_DEADLINE);
    dies(w, 0);
    assert_non_null(seen_of(w, ACTION_FORGET, expired));
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_back(w, 0, 1, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void what_waits_for_a_slot_that_stops_is_refused(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    answer_one(w);
    uint64_t request = submit(w);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    command(w, CORE_ALL_SLOTS, COMMAND_STOP);
    dies(w, 0);
    assert_refused(w, request, REFUSED_UNAVAILABLE);
    assert_non_null(seen_of(w, ACTION_FORGET, request));
}

static void a_slot_that_is_wanted_again_while_its_last_checkpoint_is_stored_starts(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_back(w, 1, 1, 0);
    uint64_t request = submit(w);
    replies(w, 1, request);
    w->policy.workers = 1;
    set_model(w, false);
    state_taken(w, 1, 1, 0);
    dies(w, 1);
    assert_int_equal(state_of(w, 1), SLOT_STOPPED);
    w->policy.workers = 2;
    set_model(w, false);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 1);
    stored(w, 1, 1, 0);
    assert_int_equal(seen_count(w, ACTION_SLOT_REMOVED), 0);
    comes_back(w, 1, 1, 1);
    assert_int_equal(state_of(w, 1), SLOT_READY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_4_replay_is_the_answered_in_order_then_the_unanswered),
        STORY(promise_4_replay_begins_after_the_checkpoint),
        STORY(promise_4_a_replay_that_differs_is_counted_and_said),
        STORY(promise_4_an_older_checkpoint_than_the_log_is_said_and_served),
        STORY(positions_go_on_from_a_checkpoint_of_an_earlier_supervisor),
        STORY(a_crash_during_replay_replays_again),
        STORY(a_request_stays_with_its_slot),
        STORY(a_checkpoint_is_taken_each_interval_in_which_something_changed),
        STORY(a_checkpoint_names_what_is_dispatched_and_waits_for_it),
        STORY(promise_11_a_state_that_claims_what_was_not_answered_is_not_stored),
        STORY(promise_11_a_checkpoint_kept_in_memory_only_is_said_and_counts),
        STORY(promise_11_what_is_in_memory_only_is_stored_when_the_disk_is_good_again),
        STORY(promise_8_a_long_log_asks_for_a_checkpoint_then_for_patience),
        STORY(promise_8_so_does_one_of_many_bytes),
        STORY(a_full_log_after_a_failed_checkpoint_tries_again),
        STORY(a_full_log_after_a_crash_asks_for_a_checkpoint),
        STORY(promise_8_logs_leave_room_in_the_table_of_requests),
        STORY(a_drain_takes_a_last_checkpoint_before_the_worker_goes),
        STORY(a_worker_killed_during_a_shutdown_comes_back_to_save_its_state),
        STORY(a_shutdown_waits_no_longer_than_its_grace_for_a_state),
        STORY(promise_4_a_cancelled_request_runs_on_where_it_changes_state),
        STORY(promise_4_an_expired_request_of_a_dead_worker_leaves_the_log),
        STORY(what_waits_for_a_slot_that_stops_is_refused),
        STORY(a_slot_that_is_wanted_again_while_its_last_checkpoint_is_stored_starts),
    };
    return cmocka_run_group_tests_name("core_state", tests, NULL, NULL);
}
