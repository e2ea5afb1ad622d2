/* Workers replaced after requests, at an age, above a memory: one at a time, with empty hands. */
#include "tests/unit/core_world.h"

static void ready(struct world *w, uint32_t workers, uint32_t concurrency)
{
    w->policy.workers = workers;
    set_model(w, false);
    for (uint32_t i = 0; i < workers; i++)
        comes_up(w, i, concurrency);
}

static enum recycle recycled_for(const struct world *w, uint32_t *slot)
{
    for (size_t i = 0; i < w->count; i++)
        if (w->seen[i].type == ACTION_NOTICE && w->seen[i].notice.what == NOTICE_RECYCLED) {
            *slot = w->seen[i].slot;
            return (enum recycle)w->seen[i].notice.value;
        }
    return RECYCLE_NO;
}

static void one_that_answered_enough_is_replaced_and_that_is_no_crash(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    struct slot_view view;
    w->policy.recycle.requests = 3;
    ready(w, 1, 1);
    for (int i = 0; i < 2; i++)
        replies(w, 0, submit(w));
    assert_int_equal(state_of(w, 0), SLOT_READY);
    replies(w, 0, submit(w));
    assert_int_equal(recycled_for(w, &slot), RECYCLE_REQUESTS);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
    uint64_t waits = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    leaves(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1); /* at once */
    comes_up(w, 0, 1);
    assert_non_null(seen_of(w, ACTION_DISPATCH, waits));
    assert_true(core_slot_view(w->core, 0, &view));
    assert_int_equal(view.crashes, 0);
    assert_int_equal(view.recycled, 1);
    replies(w, 0, waits); /* it counts anew */
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void it_finishes_what_it_has_however_long_that_takes(void **state)
{
    struct world *w = *state;
    w->policy.recycle.requests = 1;
    ready(w, 1, 2);
    uint64_t first = submit(w), stream = submit(w);
    replies(w, 0, first);
    assert_int_equal(state_of(w, 0), SLOT_DRAINING);
    for (int i = 0; i < 10; i++) { /* twice timeouts.drain */
        chunks(w, 0, stream, 10, true);
        world_pass(w, HASUP_S);
        assert_int_equal(w->count, 0);
    }
    replies(w, 0, stream);
    assert_non_null(seen_of(w, ACTION_ANSWER, stream));
    world_pass(w, 4990 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 0);
    world_pass(w, 20 * HASUP_MS); /* it does not leave: that it has empty hands is no excuse */
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
}

static void one_that_hangs_while_it_drains_is_found(void **state)
{
    struct world *w = *state;
    w->policy.recycle.requests = 1;
    ready(w, 1, 2);
    uint64_t first = submit(w);
    submit(w);
    replies(w, 0, first);
    world_pass(w, 20 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
}

static void an_operators_stop_gives_it_no_longer_than_others(void **state)
{
    struct world *w = *state;
    w->policy.recycle.requests = 1;
    ready(w, 1, 2);
    uint64_t first = submit(w);
    submit(w);
    replies(w, 0, first);
    command(w, 0, COMMAND_STOP);
    world_pass(w, 5 * HASUP_S + 2 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
}

static void promise_9_only_one_is_away_at_a_time(void **state)
{
    struct world *w = *state;
    uint32_t first, second;
    w->policy.policy = POLICY_ROUND_ROBIN;
    w->policy.recycle.requests = 2;
    ready(w, 2, 1);
    for (int i = 0; i < 2; i++) {
        replies(w, 0, submit(w));
        if (i == 0)
            replies(w, 1, submit(w));
    }
    assert_int_equal(recycled_for(w, &first), RECYCLE_REQUESTS);
    assert_int_equal(first, 0);
    replies(w, 1, submit(w)); /* its turn would be, too */
    replies(w, 1, submit(w));
    assert_int_equal(recycled_for(w, &second), RECYCLE_NO);
    leaves(w, 0);
    assert_int_equal(recycled_for(w, &second), RECYCLE_NO);
    comes_up(w, 0, 1);
    assert_int_equal(recycled_for(w, &second), RECYCLE_REQUESTS);
    assert_int_equal(second, 1);
}

static void nobody_goes_while_another_is_down_by_itself(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    w->policy.recycle.requests = 1;
    ready(w, 2, 1);
    dies(w, 1);
    replies(w, 0, submit(w));
    assert_int_equal(recycled_for(w, &slot), RECYCLE_NO);
    command(w, 1, COMMAND_STOP); /* it is not wanted any more: the other may go */
    assert_int_equal(recycled_for(w, &slot), RECYCLE_REQUESTS);
    assert_int_equal(slot, 0);
}

static void an_age_has_jitter_and_needs_no_request(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    w->policy.recycle.age = 1000 * HASUP_S;
    ready(w, 1, 1);
    world_pass(w, 749 * HASUP_S);
    assert_int_equal(w->count, 0);
    world_pass(w, 502 * HASUP_S);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_AGE);
}

static void measured(struct world *w, uint64_t bytes)
{
    struct event event = of_worker(w, EVENT_MEASURED, 0);
    event.bytes = bytes;
    world_do(w, event);
}

static void memory_is_measured_after_answers_and_not_while_idle(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    w->policy.recycle.memory = 1000;
    w->policy.recycle.memory_every = 10 * HASUP_S;
    ready(w, 1, 1);
    world_pass(w, 100 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_MEASURE), 0);
    replies(w, 0, submit(w));
    assert_int_equal(seen_count(w, ACTION_MEASURE), 1);
    measured(w, 1000);
    assert_int_equal(w->count, 0);
    for (int i = 0; i < 5; i++) {
        replies(w, 0, submit(w));
        assert_int_equal(seen_count(w, ACTION_MEASURE), 0);
    }
    world_pass(w, 10 * HASUP_S + 2 * HASUP_MS); /* once more after the last answer */
    assert_int_equal(seen_count(w, ACTION_MEASURE), 1);
    world_pass(w, 60 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_MEASURE), 0);
    assert_true(core_deadline(w->core) == HASUP_NEVER);
    measured(w, 1001);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_MEMORY);
}

static void a_new_policy_holds_at_once(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    ready(w, 1, 1);
    w->policy.recycle.age = 100 * HASUP_S;
    set_model(w, false);
    world_pass(w, 126 * HASUP_S);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_AGE);
}

static void promise_4_a_stateful_one_saves_its_state_before_it_goes(void **state)
{
    struct world *w = *state;
    w->policy.recycle.requests = 1;
    set_model(w, false);
    comes_back(w, 0, 1, 0);
    replies(w, 0, submit(w));
    assert_int_equal(seen_notices(w, NOTICE_RECYCLED), 1);
    assert_int_equal(seen(w, ACTION_TAKE_STATE)->position, 1);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
}

static void surges(struct world *w, uint32_t workers)
{
    w->policy.rollout.max_surge = 1;
    w->policy.rollout.progress_deadline = 60 * HASUP_S;
    w->policy.recycle.requests = 1;
    ready(w, workers, 2);
}

static void promise_9_another_stands_in_first(void **state)
{
    struct world *w = *state;
    uint32_t slot = 77;
    surges(w, 1);
    uint64_t first = submit(w), second = submit(w);
    replies(w, 0, first);
    assert_int_equal(seen_count(w, ACTION_SLOT_ADDED), 1);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_NO);
    uint64_t third = submit(w); /* it serves as ever */
    assert_non_null(seen_of(w, ACTION_DISPATCH, third));
    comes_up(w, 1, 2);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_REQUESTS);
    assert_int_equal(slot, 0);
    assert_int_equal(state_of(w, 0), SLOT_DRAINING);
    world_pass(w, 15 * HASUP_S); /* and takes its time, beyond timeouts.drain */
    assert_int_equal(state_of(w, 0), SLOT_DRAINING);
    replies(w, 0, second);
    replies(w, 0, third);
    leaves(w, 0);
    comes_up(w, 0, 2);
    assert_int_equal(state_of(w, 1), SLOT_DRAINING); /* it stood in long enough */
    assert_int_equal(seen(w, ACTION_ROLLOUT)->rollout.why, ROLLOUT_RECYCLES);
    assert_int_equal(seen(w, ACTION_ROLLOUT)->rollout.to, ROLLOUT_NONE);
    leaves(w, 1);
    assert_int_equal(seen_count(w, ACTION_SLOT_REMOVED), 1);
}

static void who_cannot_be_replaced_stays(void **state)
{
    struct world *w = *state;
    uint32_t slot;
    surges(w, 1);
    replies(w, 0, submit(w));
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    world_pass(w, 60 * HASUP_S + 2 * HASUP_MS); /* its start takes longer than that */
    assert_int_equal(seen(w, ACTION_ROLLOUT)->rollout.why, ROLLOUT_LATE);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    replies(w, 0, submit(w)); /* no new try so soon */
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(recycled_for(w, &slot), RECYCLE_NO);
}

static void a_canary_does_not_wait_for_a_recycling(void **state)
{
    struct world *w = *state;
    surges(w, 1);
    replies(w, 0, submit(w));
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1); /* who stands in */
    world_do(w, (struct event){.type = EVENT_MODEL_SET,
                               .model = WORLD_MODEL,
                               .model_set = {.policy = &w->policy, .version = 2, .canary = 50}});
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_CANARY);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void a_worker_that_came_anew_is_not_recycled_for_the_old_one(void **state)
{
    struct world *w = *state;
    surges(w, 2);
    replies(w, 0, submit(w));
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
    dies(w, 0); /* before its turn */
    comes_up(w, 0, 2);
    greets(w, 2, 2, false);
    says(w, EVENT_WORKER_READY, 2);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    assert_true(state_of(w, 2) != SLOT_READY); /* nobody is left to stand in for */
}

static void one_that_fails_after_a_recycling_backs_off_as_ever(void **state)
{
    struct world *w = *state;
    w->policy.recycle.requests = 1;
    ready(w, 1, 1);
    replies(w, 0, submit(w));
    leaves(w, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

/* Until its breaker opens, which never closes by itself. */
static void breaks_for_good(struct world *w, uint32_t slot)
{
    for (int run = 0; run < 5; run++) {
        dies(w, slot);
        if (run < 4)
            world_pass(w, 15 * HASUP_S);
    }
    assert_int_equal(state_of(w, slot), SLOT_BROKEN);
}

/* The recycling is over, and who stood in has gone. */
static void assert_over(struct world *w, uint32_t stand_in)
{
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_NONE);
    leaves(w, stand_in);
    assert_int_equal(seen_count(w, ACTION_SLOT_REMOVED), 1);
}

static void who_stands_in_stays_for_one_that_never_comes_back(void **state)
{
    struct world *w = *state;
    w->policy.restart.breaker = 0;
    surges(w, 1);
    replies(w, 0, submit(w));
    comes_up(w, 1, 2);
    leaves(w, 0);
    breaks_for_good(w, 0);
    world_pass(w, 24 * 3600 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    replies(w, 1, submit(w)); /* nor is it recycled with nobody in its place */
    assert_int_equal(state_of(w, 1), SLOT_READY);
    command(w, 0, COMMAND_START);
    comes_up(w, 0, 2);
    assert_over(w, 1);
}

static void who_stands_in_stays_for_another_one_that_broke_meanwhile(void **state)
{
    struct world *w = *state;
    w->policy.restart.breaker = 0;
    surges(w, 2);
    replies(w, 0, submit(w));
    comes_up(w, 2, 2);
    breaks_for_good(w, 1);
    leaves(w, 0);
    comes_up(w, 0, 2);
    world_pass(w, 24 * 3600 * HASUP_S);
    assert_int_equal(model_seen(w).ready, 2);
    command(w, 1, COMMAND_START);
    comes_up(w, 1, 2);
    assert_over(w, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(one_that_answered_enough_is_replaced_and_that_is_no_crash),
        STORY(it_finishes_what_it_has_however_long_that_takes),
        STORY(one_that_hangs_while_it_drains_is_found),
        STORY(an_operators_stop_gives_it_no_longer_than_others),
        STORY(promise_9_only_one_is_away_at_a_time),
        STORY(nobody_goes_while_another_is_down_by_itself),
        STORY(an_age_has_jitter_and_needs_no_request),
        STORY(memory_is_measured_after_answers_and_not_while_idle),
        STORY(a_new_policy_holds_at_once),
        STORY(promise_4_a_stateful_one_saves_its_state_before_it_goes),
        STORY(promise_9_another_stands_in_first),
        STORY(who_cannot_be_replaced_stays),
        STORY(a_canary_does_not_wait_for_a_recycling),
        STORY(a_worker_that_came_anew_is_not_recycled_for_the_old_one),
        STORY(one_that_fails_after_a_recycling_backs_off_as_ever),
        STORY(who_stands_in_stays_for_one_that_never_comes_back),
        STORY(who_stands_in_stays_for_another_one_that_broke_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
