/* Which worker gets the next request, for every policy; and that none gets more than it takes. */
#include "tests/unit/core_world.h"

static void come_up_all(struct world *w, uint32_t concurrency)
{
    for (uint32_t slot = 0; slot < w->policy.workers; slot++)
        comes_up(w, slot, concurrency);
}

static uint32_t given_to(struct world *w, uint64_t *request)
{
    *request = submit(w);
    return seen(w, ACTION_DISPATCH)->slot;
}

static void late_binding_gives_a_request_only_to_who_can_start_it(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    w->policy.concurrency_max = 3;
    set_model(w, false);
    comes_up(w, 0, 8); /* the cap holds */
    comes_up(w, 1, 2); /* and so does what the worker says */
    for (int i = 0; i < 20; i++)
        submit(w);
    struct slot_view a, b;
    assert_true(core_slot_view(w->core, 0, &a) && core_slot_view(w->core, 1, &b));
    assert_int_equal(a.inflight, 3);
    assert_int_equal(b.inflight, 2);
    assert_int_equal(model_seen(w).queued, 15);
}

static void promise_9_nothing_goes_to_a_worker_that_is_not_ready(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    greets(w, 0, 1, false);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    assert_int_equal(model_seen(w).ready, 0);
    says(w, EVENT_WORKER_READY, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
    assert_int_equal(model_seen(w).ready, 1);
}

static void fastest_tries_everyone_then_prefers_the_quick(void **state)
{
    struct world *w = *state;
    uint64_t request;
    w->policy.workers = 3;
    set_model(w, false);
    come_up_all(w, 2);
    bool tried[3] = {false};
    for (int i = 0; i < 3; i++) {
        uint32_t slot = given_to(w, &request);
        assert_false(tried[slot]);
        tried[slot] = true;
        world_pass(w, slot == 1 ? 10 * HASUP_MS : HASUP_S);
        replies(w, slot, request);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(given_to(w, &request), 1);
        world_pass(w, 10 * HASUP_MS);
        replies(w, 1, request);
    }
    assert_int_equal(given_to(w, &request), 1);
    assert_int_equal(given_to(w, &request), 1); /* two there end sooner than one elsewhere */
    assert_int_not_equal(given_to(w, &request), 1);
}

static void least_loaded_fills_evenly(void **state)
{
    struct world *w = *state;
    uint64_t request, first = 0;
    w->policy.workers = 4;
    w->policy.policy = POLICY_LEAST_LOADED;
    set_model(w, false);
    come_up_all(w, 8);
    unsigned given[4] = {0};
    uint32_t at = 0;
    for (int i = 0; i < 12; i++) {
        uint32_t slot = given_to(w, &request);
        given[slot]++;
        if (!i) {
            first = request;
            at = slot;
        }
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(given[i], 3);
    replies(w, at, first);
    assert_int_equal(given_to(w, &request), at);
}

static void round_robin_goes_round(void **state)
{
    struct world *w = *state;
    uint64_t request;
    uint32_t order[3];
    w->policy.workers = 3;
    w->policy.policy = POLICY_ROUND_ROBIN;
    set_model(w, false);
    come_up_all(w, 4);
    for (int i = 0; i < 12; i++) {
        uint32_t slot = given_to(w, &request);
        if (i < 3)
            order[i] = slot;
        assert_int_equal(slot, order[i % 3]);
        replies(w, slot, request); /* how quick it was does not matter */
    }
    assert_true(order[0] != order[1] && order[1] != order[2] && order[0] != order[2]);
}

static void weights_share_out_smoothly(void **state)
{
    struct world *w = *state;
    uint64_t request;
    w->policy.workers = 3;
    w->policy.policy = POLICY_WEIGHTED_ROUND_ROBIN;
    w->policy.weights[0] = 5;
    w->policy.weights[2] = 2; /* that of slot 1 is not given: 1 */
    set_model(w, false);
    come_up_all(w, 4);
    unsigned given[3] = {0}, in_a_row = 0;
    uint32_t last = UINT32_MAX;
    for (int i = 0; i < 80; i++) {
        uint32_t slot = given_to(w, &request);
        replies(w, slot, request);
        given[slot]++;
        in_a_row = slot == last ? in_a_row + 1 : 1;
        last = slot;
        assert_true(in_a_row <= 4);
    }
    assert_in_range(given[0], 49, 51);
    assert_in_range(given[1], 9, 11);
    assert_in_range(given[2], 19, 21);
}

static void a_weighted_slot_that_comes_back_does_not_catch_up(void **state)
{
    struct world *w = *state;
    uint64_t request;
    w->policy.workers = 2;
    w->policy.policy = POLICY_WEIGHTED_ROUND_ROBIN;
    set_model(w, false);
    comes_up(w, 0, 4);
    for (int i = 0; i < 100; i++)
        replies(w, given_to(w, &request), request);
    comes_up(w, 1, 4);
    unsigned given[2] = {0};
    for (int i = 0; i < 10; i++) {
        uint32_t slot = given_to(w, &request);
        replies(w, slot, request);
        given[slot]++;
    }
    assert_in_range(given[1], 4, 6);
}

static void random_reaches_everyone_about_equally(void **state)
{
    struct world *w = *state;
    uint64_t request;
    w->policy.workers = 4;
    w->policy.policy = POLICY_RANDOM;
    set_model(w, false);
    come_up_all(w, 2);
    unsigned given[4] = {0};
    for (int i = 0; i < 400; i++) {
        uint32_t slot = given_to(w, &request);
        replies(w, slot, request);
        given[slot]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(given[i], 60, 140);
}

static void a_change_of_policy_applies_to_workers_that_run(void **state)
{
    struct world *w = *state;
    uint64_t request;
    w->policy.workers = 2;
    w->policy.policy = POLICY_LEAST_LOADED;
    set_model(w, false);
    come_up_all(w, 8);
    for (int i = 0; i < 5; i++)
        given_to(w, &request);
    w->policy.policy = POLICY_ROUND_ROBIN;
    set_model(w, false);
    uint32_t last = given_to(w, &request);
    for (int i = 0; i < 6; i++) {
        uint32_t slot = given_to(w, &request);
        assert_int_not_equal(slot, last);
        last = slot;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(late_binding_gives_a_request_only_to_who_can_start_it),
        STORY(promise_9_nothing_goes_to_a_worker_that_is_not_ready),
        STORY(fastest_tries_everyone_then_prefers_the_quick),
        STORY(least_loaded_fills_evenly),
        STORY(round_robin_goes_round),
        STORY(weights_share_out_smoothly),
        STORY(a_weighted_slot_that_comes_back_does_not_catch_up),
        STORY(random_reaches_everyone_about_equally),
        STORY(a_change_of_policy_applies_to_workers_that_run),
    };
    return cmocka_run_group_tests_name("core_dispatch", tests, NULL, NULL);
}
