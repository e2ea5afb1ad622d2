/* What a client may rely on: one end to every request, its order, its deadline, and why not. */
#include "tests/unit/core_world.h"

static void promise_1_a_request_is_answered_once_and_forgotten_last(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    assert_true(seen(w, ACTION_DISPATCH)->request == request);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_ANSWER)->answer.attempts, 1);
    assert_true(seen(w, ACTION_FORGET) > seen(w, ACTION_ANSWER));
    replies(w, 0, request);
    assert_int_equal(w->count, 0);
}

static void promise_1_a_request_survives_its_workers_crash(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    uint64_t request = submit(w);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    comes_up(w, 0, 1);
    assert_int_equal(seen(w, ACTION_DISPATCH)->dispatch.attempt, 2);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_ANSWER)->answer.attempts, 2);
}

static uint64_t submit_once(struct world *w)
{
    struct event event = {.type = EVENT_SUBMITTED,
                          .model = WORLD_MODEL,
                          .request = (uint64_t)1 << 32 | w->made++,
                          .submitted = {.size = 100, .once = true}};
    if (core_wants_hash(w->core, WORLD_MODEL))
        world_hash(w, event.request, event.submitted.hash);
    world_do(w, event);
    return event.request;
}

static void promise_1_what_its_worker_never_began_may_run_elsewhere(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    uint64_t once = submit_once(w);
    struct event unbegun = of_worker(w, EVENT_UNBEGUN, 0);
    unbegun.request = once;
    world_do(w, unbegun);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    comes_up(w, 0, 1);
    assert_true(seen(w, ACTION_DISPATCH)->request == once);
    dies(w, 0); /* this time nobody knows */
    assert_refused(w, once, REFUSED_INTERRUPTED);
}

static void promise_1_what_must_not_run_twice_is_refused_when_its_worker_dies(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    uint64_t once = submit_once(w), waits = submit_once(w);
    dies(w, 0);
    assert_refused(w, once, REFUSED_INTERRUPTED);
    assert_int_equal(seen_of(w, ACTION_REFUSE, once)->refuse.attempts, 1);
    assert_non_null(seen_of(w, ACTION_FORGET, once));
    assert_null(seen_of(w, ACTION_REFUSE, waits)); /* nobody had begun it */
    comes_up(w, 0, 1);
    assert_true(seen(w, ACTION_DISPATCH)->request == waits);
    replies(w, 0, waits);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_1_what_a_dead_worker_said_late_does_not_count(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    uint64_t request = submit(w);
    struct event late = of_worker(w, EVENT_REPLIED, 0);
    late.request = request;
    says(w, EVENT_BROKE, 0);
    world_do(w, late); /* while it is being killed */
    assert_int_equal(w->count, 0);
    dies(w, 0);
    comes_up(w, 0, 1);
    world_do(w, late); /* and while its successor runs the same request */
    assert_int_equal(w->count, 0);
    replies(w, 0, request);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_1_a_moved_request_goes_before_those_that_wait(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    uint64_t first = submit(w);
    submit(w);
    dies(w, 0);
    comes_up(w, 0, 1);
    assert_true(seen(w, ACTION_DISPATCH)->request == first);
}

/* Crashes until the request is settled; how often it was dispatched meanwhile. */
static unsigned crash_until_settled(struct world *w, uint64_t request)
{
    for (unsigned dispatched = 0;;) {
        world_pass(w, 0);
        while (state_of(w, 0) != SLOT_STARTING)
            world_pass(w, 100 * HASUP_MS);
        greets(w, 0, 1, false);
        says(w, EVENT_WORKER_READY, 0);
        dispatched += seen_of(w, ACTION_DISPATCH, request) != NULL;
        dies(w, 0);
        if (seen_of(w, ACTION_REFUSE, request))
            return dispatched;
    }
}

static void promise_6_a_request_that_kills_is_quarantined(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 0;
    set_model(w, false);
    uint64_t poison = submit(w);
    assert_int_equal(crash_until_settled(w, poison), 3);
    assert_refused(w, poison, REFUSED_QUARANTINED);
    assert_int_equal(seen(w, ACTION_REFUSE)->refuse.attempts, 3);
    assert_int_equal(seen_notices(w, NOTICE_QUARANTINED), 1);
    assert_non_null(seen_of(w, ACTION_FORGET, poison));
}

/* The slot's next worker, when its backoff is over. */
static void comes_again(struct world *w, uint32_t concurrency)
{
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, 0, concurrency);
}

static void promise_6_a_suspect_runs_alone_and_its_mates_are_answered(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 0;
    set_model(w, false);
    uint64_t poison = submit(w), mate = submit(w);
    comes_again(w, 4);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 2);
    dies(w, 0);
    comes_again(w, 4);
    assert_true(seen(w, ACTION_DISPATCH)->request == poison);
    uint64_t bystander = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0); /* nothing joins a suspect */
    dies(w, 0);
    comes_again(w, 4); /* two crashes: others are tried before it dies again */
    assert_true(seen(w, ACTION_DISPATCH)->request == bystander);
    replies(w, 0, bystander);
    assert_true(seen(w, ACTION_DISPATCH)->request == mate);
    replies(w, 0, mate);
    assert_non_null(seen_of(w, ACTION_ANSWER, mate));
    assert_true(seen(w, ACTION_DISPATCH)->request == poison);
    dies(w, 0);
    assert_refused(w, poison, REFUSED_QUARANTINED);
}

static void promise_6_deaths_that_were_ordered_are_no_suspicion(void **state)
{
    struct world *w = *state;
    w->policy.max_attempts = 2;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    for (int restart = 0; restart < 4; restart++) {
        command(w, CORE_ALL_SLOTS, COMMAND_RESTART);
        leaves(w, 0);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
        comes_up(w, 0, 1);
        assert_true(seen(w, ACTION_DISPATCH)->request == request);
    }
    replies(w, 0, request);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void a_request_that_expires_in_the_queue_is_never_run(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    uint64_t request = submit_as(w, w->now + HASUP_S, 0, 1);
    world_pass(w, HASUP_S - 1);
    assert_int_equal(w->count, 0);
    world_pass(w, 2 * HASUP_MS);
    assert_refused(w, request, REFUSED_DEADLINE);
    assert_non_null(seen_of(w, ACTION_FORGET, request));
    comes_up(w, 0, 1);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
}

static void nor_is_it_run_in_the_instant_before_its_timer(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    greets(w, 0, 1, false);
    uint64_t request = submit_as(w, w->now + HASUP_S, 0, 1), next = submit(w);
    w->now += HASUP_S;
    says(w, EVENT_WORKER_READY, 0);
    assert_refused(w, request, REFUSED_DEADLINE);
    assert_true(seen(w, ACTION_DISPATCH)->request == next);
}

static void a_deadline_that_has_passed_is_refused_at_once(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit_as(w, w->now, 0, 1);
    assert_refused(w, request, REFUSED_DEADLINE);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
}

static void a_deadline_in_flight_refuses_cancels_and_waits_for_the_worker(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit_as(w, w->now + HASUP_S, 0, 1), next = submit(w);
    world_pass(w, HASUP_S + 2 * HASUP_MS);
    assert_refused(w, request, REFUSED_DEADLINE);
    assert_true(seen(w, ACTION_CANCEL)->request == request);
    assert_int_equal(seen_count(w, ACTION_FORGET), 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    replies(w, 0, request);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    assert_non_null(seen_of(w, ACTION_FORGET, request));
    assert_true(seen(w, ACTION_DISPATCH)->request == next); /* its room is free */
}

static void a_cancelled_request_in_the_queue_is_forgotten(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    uint64_t request = submit(w);
    cancel(w, request);
    assert_int_equal(w->count, 1);
    assert_true(seen(w, ACTION_FORGET)->request == request);
    cancel(w, request);
    assert_int_equal(w->count, 0);
}

static void a_cancelled_request_in_flight_is_cancelled_and_not_run_again(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 2);
    uint64_t replied = submit(w), died = submit(w);
    cancel(w, replied);
    assert_true(seen(w, ACTION_CANCEL)->request == replied);
    cancel(w, died);
    replies(w, 0, replied);
    assert_int_equal(w->count, 1);
    assert_true(seen(w, ACTION_FORGET)->request == replied);
    dies(w, 0);
    assert_non_null(seen_of(w, ACTION_FORGET, died));
    comes_up(w, 0, 2);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
}

static void promise_8_a_full_queue_refuses_by_count_and_by_bytes(void **state)
{
    struct world *w = *state;
    w->policy.queue.requests = 2;
    w->policy.queue.bytes = 1000;
    set_model(w, false);
    submit_as(w, 0, 0, 600);
    uint64_t bytes = submit_as(w, 0, 0, 401);
    assert_refused(w, bytes, REFUSED_OVERLOADED);
    assert_non_null(seen_of(w, ACTION_FORGET, bytes));
    submit_as(w, 0, 0, 400);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    uint64_t count = submit_as(w, 0, 0, 0);
    assert_refused(w, count, REFUSED_OVERLOADED);
    assert_true(seen(w, ACTION_REFUSE)->refuse.retry_after >= HASUP_S);
    assert_int_equal(model_seen(w).queued, 2);
    assert_true(model_seen(w).queued_bytes == 1000);
}

static void promise_8_retry_after_grows_with_what_waits(void **state)
{
    struct world *w = *state;
    w->policy.queue.requests = 10;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t request = submit(w);
    world_pass(w, 2 * HASUP_S);
    replies(w, 0, request);
    for (int i = 0; i < 11; i++)
        submit(w);
    uint64_t refused = submit(w);
    assert_refused(w, refused, REFUSED_OVERLOADED);
    assert_in_range(seen(w, ACTION_REFUSE)->refuse.retry_after / HASUP_S, 20, 24);
}

static void an_unknown_model_is_not_found(void **state)
{
    struct world *w = *state;
    uint64_t unset = submit(w);
    assert_refused(w, unset, REFUSED_NOT_FOUND);
    world_do(w, (struct event){.type = EVENT_SUBMITTED, .model = UINT32_MAX, .request = 7});
    assert_refused(w, 7, REFUSED_NOT_FOUND);
    assert_non_null(seen_of(w, ACTION_FORGET, 7));
}

/* The order in which a single worker is given what waits. */
static void take_in_order(struct world *w, const uint64_t *expected, size_t count)
{
    comes_up(w, 0, 1);
    for (size_t i = 0; i < count; i++) {
        assert_true(seen(w, ACTION_DISPATCH)->request == expected[i]);
        replies(w, 0, expected[i]);
    }
}

static void the_most_urgent_priority_is_first_and_none_means_five(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    uint64_t nine = submit_as(w, 0, 9, 1), five = submit_as(w, 0, 5, 1);
    uint64_t none = submit_as(w, 0, 0, 1), one = submit_as(w, 0, 1, 1);
    uint64_t six = submit_as(w, 0, 6, 1), four = submit_as(w, 0, 4, 1);
    take_in_order(w, (uint64_t[]){one, four, five, none, six, nine}, 6);
}

static void within_a_priority_the_earliest_deadline_is_first_then_arrival(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    hasup_ns t = w->now + 100 * HASUP_S;
    uint64_t none = submit(w), late = submit_as(w, t + 9, 0, 1), early = submit_as(w, t + 1, 0, 1);
    uint64_t again = submit_as(w, t + 9, 0, 1), middle = submit_as(w, t + 5, 0, 1);
    uint64_t last = submit(w);
    take_in_order(w, (uint64_t[]){early, middle, late, again, none, last}, 6);
}

static void any_order_of_deadlines_comes_out_sorted(void **state)
{
    struct world *w = *state;
    hasup_ns deadline[WORLD_REQUESTS], last = 0;
    bool cancelled[WORLD_REQUESTS] = {false};
    uint64_t seed = 1;
    set_model(w, false);
    for (unsigned i = 0; i < 400; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        deadline[i] = w->now + 1000 * HASUP_S + (hasup_ns)(seed >> 40);
        submit_as(w, deadline[i], 0, 1);
    }
    for (unsigned i = 0; i < 400; i += 3) {
        cancel(w, (uint64_t)1 << 32 | i);
        cancelled[i] = true;
    }
    comes_up(w, 0, 1);
    unsigned taken = 0;
    for (const struct action *given; (given = seen_nth(w, ACTION_DISPATCH, 0)); taken++) {
        uint32_t index = (uint32_t)given->request;
        assert_false(cancelled[index]);
        assert_true(deadline[index] >= last);
        last = deadline[index];
        replies(w, 0, given->request);
    }
    assert_int_equal(taken, 400 - 134);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_1_a_request_is_answered_once_and_forgotten_last),
        STORY(promise_1_a_request_survives_its_workers_crash),
        STORY(promise_1_what_its_worker_never_began_may_run_elsewhere),
        STORY(promise_1_what_must_not_run_twice_is_refused_when_its_worker_dies),
        STORY(promise_1_what_a_dead_worker_said_late_does_not_count),
        STORY(promise_1_a_moved_request_goes_before_those_that_wait),
        STORY(promise_6_a_request_that_kills_is_quarantined),
        STORY(promise_6_a_suspect_runs_alone_and_its_mates_are_answered),
        STORY(promise_6_deaths_that_were_ordered_are_no_suspicion),
        STORY(a_request_that_expires_in_the_queue_is_never_run),
        STORY(nor_is_it_run_in_the_instant_before_its_timer),
        STORY(a_deadline_that_has_passed_is_refused_at_once),
        STORY(a_deadline_in_flight_refuses_cancels_and_waits_for_the_worker),
        STORY(a_cancelled_request_in_the_queue_is_forgotten),
        STORY(a_cancelled_request_in_flight_is_cancelled_and_not_run_again),
        STORY(promise_8_a_full_queue_refuses_by_count_and_by_bytes),
        STORY(promise_8_retry_after_grows_with_what_waits),
        STORY(an_unknown_model_is_not_found),
        STORY(the_most_urgent_priority_is_first_and_none_means_five),
        STORY(within_a_priority_the_earliest_deadline_is_first_then_arrival),
        STORY(any_order_of_deadlines_comes_out_sorted),
    };
    return cmocka_run_group_tests_name("core_request", tests, NULL, NULL);
}
