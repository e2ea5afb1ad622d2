/* Models come, change and go, and the whole stops, without dropping what was accepted. */
#include "tests/unit/core_world.h"

static void come_up_all(struct world *w, uint32_t concurrency)
{
    set_model(w, false);
    for (uint32_t slot = 0; slot < w->policy.workers; slot++)
        comes_up(w, slot, concurrency);
}

static void a_drain_finishes_queue_and_flight_then_stops(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    uint64_t flight = submit(w), queued = submit(w);
    command(w, CORE_ALL_SLOTS, COMMAND_DRAIN);
    assert_false(model_seen(w).accepting);
    uint64_t late = submit(w);
    assert_refused(w, late, REFUSED_UNAVAILABLE);
    replies(w, 0, flight);
    assert_true(seen(w, ACTION_DISPATCH)->request == queued);
    replies(w, 0, queued);
    assert_non_null(seen_of(w, ACTION_ANSWER, queued));
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
}

static void start_reopens_a_drained_model(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_DRAIN);
    dies(w, 0);
    command(w, CORE_ALL_SLOTS, COMMAND_START);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 0);
    assert_true(model_seen(w).accepting);
    submit(w);
    comes_up(w, 0, 1);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
}

static void start_of_one_slot_reopens_a_stopped_model(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    come_up_all(w, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_STOP);
    dies(w, 0);
    dies(w, 1);
    command(w, 1, COMMAND_START);
    comes_up(w, 1, 1);
    submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
}

static void a_stop_lets_the_worker_finish_then_terms_then_kills(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    uint64_t flight = submit(w), queued = submit(w);
    command(w, CORE_ALL_SLOTS, COMMAND_STOP);
    assert_refused(w, queued, REFUSED_UNAVAILABLE);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 0);
    world_pass(w, 5 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
    assert_int_equal(state_of(w, 0), SLOT_STOPPING);
    world_pass(w, 2 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    assert_refused(w, flight, REFUSED_UNAVAILABLE);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
}

static void a_stop_of_one_slot_leaves_the_others_serving(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    come_up_all(w, 1);
    command(w, 0, COMMAND_STOP);
    dies(w, 0);
    submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
    command(w, 1, COMMAND_STOP);
    dies(w, 1);
    submit(w);
    assert_int_equal(seen(w, ACTION_REFUSE)->refuse.why, REFUSED_UNAVAILABLE);
}

static void scaling_up_adds_and_scaling_down_drains_the_highest(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    w->policy.workers = 3;
    set_model(w, false);
    assert_int_equal(seen_count(w, ACTION_SLOT_ADDED), 2);
    assert_int_equal(seen_nth(w, ACTION_SLOT_ADDED, 1)->ordinal, 2);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 2);
    comes_up(w, 1, 1);
    comes_up(w, 2, 1);
    uint64_t requests[3];
    for (int i = 0; i < 3; i++)
        requests[i] = submit(w);
    w->policy.workers = 1;
    set_model(w, false);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 2);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    for (int i = 0; i < 3; i++)
        for (uint32_t slot = 0; slot < 3; slot++) {
            replies(w, slot, requests[i]); /* of the two that have it not: dropped */
            assert_true(seen_count(w, ACTION_ANSWER) <= 1);
        }
    assert_true(model_seen(w).answered == 3);
    dies(w, 2);
    assert_int_equal(seen(w, ACTION_SLOT_REMOVED)->slot, 2);
    dies(w, 1);
    assert_int_equal(seen(w, ACTION_SLOT_REMOVED)->slot, 1);
    assert_int_equal(model_seen(w).slots, 1);
}

static void a_changed_model_restarts_one_slot_at_a_time(void **state)
{
    struct world *w = *state;
    w->policy.workers = 3;
    come_up_all(w, 1);
    set_model(w, true);
    for (uint32_t slot = 0; slot < 3; slot++) {
        assert_int_equal(seen(w, ACTION_DRAIN)->slot, slot);
        assert_int_equal(model_seen(w).ready, 2);
        dies(w, slot);
        assert_int_equal(seen(w, ACTION_SPAWN)->slot, slot); /* at once: it was asked for */
        assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
        comes_up(w, slot, 1);
    }
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    assert_int_equal(model_seen(w).ready, 3);
}

static void a_removed_model_drains_and_is_gone(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    uint64_t request = submit(w);
    world_do(w, (struct event){.type = EVENT_MODEL_REMOVED, .model = WORLD_MODEL});
    replies(w, 0, request);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
    dies(w, 0);
    assert_true(seen(w, ACTION_MODEL_GONE) > seen(w, ACTION_SLOT_REMOVED));
    uint64_t late = submit(w);
    assert_refused(w, late, REFUSED_NOT_FOUND);
    set_model(w, false); /* its index is free for another */
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
}

/* limits.slots is 32: a model that comes as another goes waits for the slots that still drain. */
static void a_new_model_gets_the_slots_that_an_old_one_leaves(void **state)
{
    struct world *w = *state;
    w->policy.workers = 20;
    come_up_all(w, 1);
    world_do(w, (struct event){.type = EVENT_MODEL_REMOVED, .model = WORLD_MODEL});
    struct model_view view;
    world_do(w, (struct event){
                    .type = EVENT_MODEL_SET, .model = 1, .model_set = {.policy = &w->policy}});
    for (uint32_t slot = 0; slot < 20; slot++)
        dies(w, slot);
    assert_true(core_model_view(w->core, 1, &view));
    assert_int_equal(view.slots, 20);
    for (uint32_t slot = 0; slot < 32; slot++) {
        struct slot_view v;
        if (core_slot_view(w->core, slot, &v))
            assert_int_equal(v.state, SLOT_STARTING);
    }
}

static void shutdown_finishes_what_was_accepted_and_exits(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    come_up_all(w, 1);
    uint64_t requests[3];
    for (int i = 0; i < 3; i++)
        requests[i] = submit(w);
    shut_down(w, 60 * HASUP_S);
    uint64_t late = submit(w);
    assert_refused(w, late, REFUSED_UNAVAILABLE);
    for (int i = 0; i < 3; i++)
        for (uint32_t slot = 0; slot < 2; slot++)
            replies(w, slot, requests[i]);
    assert_true(model_seen(w).answered == 3);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 0);
    dies(w, 1);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
}

static void shutdown_survives_a_crash_while_it_finishes(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    replies(w, 0, submit(w));
    uint64_t request = submit(w);
    shut_down(w, 60 * HASUP_S);
    dies(w, 0);
    comes_up(w, 0, 1);
    replies(w, 0, request);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void at_its_deadline_shutdown_refuses_terms_and_kills(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    uint64_t flight = submit(w), queued = submit(w);
    shut_down(w, 10 * HASUP_S);
    world_pass(w, 10 * HASUP_S + 2 * HASUP_MS);
    assert_refused(w, flight, REFUSED_UNAVAILABLE);
    assert_refused(w, queued, REFUSED_UNAVAILABLE);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
    world_pass(w, 2 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void a_second_shutdown_hastens(void **state)
{
    struct world *w = *state;
    come_up_all(w, 1);
    uint64_t flight = submit(w);
    shut_down(w, 3600 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 0);
    shut_down(w, 3600 * HASUP_S);
    assert_refused(w, flight, REFUSED_UNAVAILABLE);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void shutdown_exits_at_once_where_nothing_runs(void **state)
{
    struct world *w = *state;
    shut_down(w, 60 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void shutdown_waits_for_the_last_checkpoint_to_be_stored(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_back(w, 0, 1, 0);
    uint64_t request = submit(w);
    replies(w, 0, request);
    shut_down(w, 60 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TAKE_STATE), 1);
    state_taken(w, 0, 1, 0);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 0);
    stored(w, 0, 1, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void events_about_what_is_not_there_are_dropped(void **state)
{
    struct world *w = *state;
    static const enum event_type TYPES[] = {EVENT_SPAWNED,
                                            EVENT_HELLO,
                                            EVENT_CHECKPOINT_LOADED,
                                            EVENT_WORKER_READY,
                                            EVENT_PONG,
                                            EVENT_BROKE,
                                            EVENT_EXITED,
                                            EVENT_TREE_EMPTY,
                                            EVENT_REPLIED,
                                            EVENT_CHUNKED,
                                            EVENT_COMMAND,
                                            EVENT_STATE_TAKEN,
                                            EVENT_CHECKPOINT_STORED,
                                            EVENT_CANCELLED,
                                            EVENT_MODEL_REMOVED};
    come_up_all(w, 1);
    uint64_t request = submit(w);
    for (size_t i = 0; i < HASUP_LEN(TYPES); i++) {
        world_do(w, (struct event){.type = TYPES[i],
                                   .model = UINT32_MAX,
                                   .slot = UINT32_MAX,
                                   .worker = UINT32_MAX,
                                   .request = UINT64_MAX});
        assert_int_equal(w->count, 0);
        if (TYPES[i] == EVENT_MODEL_REMOVED || TYPES[i] == EVENT_CHECKPOINT_STORED)
            continue;
        world_do(w, (struct event){.type = TYPES[i], .model = 1, .worker = 99, .request = 99});
        assert_int_equal(w->count, 0);
    }
    replies(w, 0, request);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_drain_finishes_queue_and_flight_then_stops),
        STORY(start_reopens_a_drained_model),
        STORY(start_of_one_slot_reopens_a_stopped_model),
        STORY(a_stop_lets_the_worker_finish_then_terms_then_kills),
        STORY(a_stop_of_one_slot_leaves_the_others_serving),
        STORY(scaling_up_adds_and_scaling_down_drains_the_highest),
        STORY(a_changed_model_restarts_one_slot_at_a_time),
        STORY(a_removed_model_drains_and_is_gone),
        STORY(a_new_model_gets_the_slots_that_an_old_one_leaves),
        STORY(shutdown_finishes_what_was_accepted_and_exits),
        STORY(shutdown_survives_a_crash_while_it_finishes),
        STORY(at_its_deadline_shutdown_refuses_terms_and_kills),
        STORY(a_second_shutdown_hastens),
        STORY(shutdown_exits_at_once_where_nothing_runs),
        STORY(shutdown_waits_for_the_last_checkpoint_to_be_stored),
        STORY(events_about_what_is_not_there_are_dropped),
    };
    return cmocka_run_group_tests_name("core_life", tests, NULL, NULL);
}
