/* Who is refused at once: above a rate, or late by all that is known; and who does not starve. */
#include "tests/unit/core_world.h"

#define RUN (10 * HASUP_MS)

/* One worker that takes RUN for each request, which is known. */
static void begin(struct world *w)
{
    w->policy.queue.refuse_late = true;
    set_model(w, false);
    comes_up(w, 0, 1);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t request = submit(w);
        w->now += RUN;
        replies(w, 0, request);
    }
}

static uint64_t submit_by(struct world *w, hasup_ns within)
{
    return submit_as(w, w->now + within, 0, 100);
}

static void what_would_be_late_is_refused_with_the_time_to_come_again(void **state)
{
    struct world *w = *state;
    begin(w);
    unsigned taken = 0;
    while (submit_by(w, HASUP_S), !seen_count(w, ACTION_REFUSE))
        taken++;
    const struct action *refuse = seen(w, ACTION_REFUSE);
    assert_int_equal(refuse->refuse.why, REFUSED_LATE);
    assert_true(refuse->refuse.retry_after >= HASUP_S);
    assert_in_range(taken, 70, 100); /* a hundred would just fit */
    submit_by(w, 10 * HASUP_S); /* who has more time is taken, */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    submit_as(w, 0, 0, 100); /* and who has no deadline */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    core_check(w->core);
}

static void all_that_was_taken_is_in_time(void **state)
{
    struct world *w = *state;
    begin(w);
    uint64_t first = w->made;
    hasup_ns deadline = w->now + HASUP_S;
    while (submit_as(w, deadline, 0, 100), !seen_count(w, ACTION_REFUSE))
        continue;
    for (uint64_t i = first; i + 1 < w->made; i++) {
        w->now += RUN;
        replies(w, 0, (uint64_t)1 << 32 | i);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
    assert_true(w->now <= deadline);
}

static void only_those_before_it_count(void **state)
{
    struct world *w = *state;
    begin(w);
    for (unsigned i = 0; i < 90; i++)
        submit_as(w, w->now + 60 * HASUP_S, 5, 100);
    submit_by(w, 500 * HASUP_MS); /* goes before them by its deadline */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    submit_as(w, w->now + 500 * HASUP_MS, 4, 100); /* by its priority */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    uint64_t last = submit_as(w, w->now + 500 * HASUP_MS, 6, 100);
    assert_refused(w, last, REFUSED_LATE);
}

static void where_nothing_is_known_nobody_is_called_late(void **state)
{
    struct world *w = *state;
    w->policy.queue.refuse_late = true;
    w->policy.workers = 2;
    set_model(w, false);
    comes_up(w, 0, 1);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t request = submit(w);
        w->now += RUN;
        replies(w, 0, request);
    }
    comes_up(w, 1, 4); /* of whom nothing is known yet */
    for (unsigned i = 0; i < 100; i++) {
        submit_by(w, 2 * RUN);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
}

static void a_worker_with_room_to_spare_does_not_show_what_it_can_do(void **state)
{
    struct world *w = *state;
    w->policy.queue.refuse_late = true;
    set_model(w, false);
    comes_up(w, 0, 8);
    for (unsigned i = 0; i < 20; i++) { /* one at a time: slow, and it takes eight */
        uint64_t request = submit(w);
        w->now += 100 * HASUP_MS;
        replies(w, 0, request);
    }
    for (unsigned i = 0; i < 40; i++) {
        submit_by(w, HASUP_S);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
}

static void it_can_be_switched_off(void **state)
{
    struct world *w = *state;
    begin(w);
    w->policy.queue.refuse_late = false;
    set_model(w, false);
    for (unsigned i = 0; i < 200; i++) {
        submit_by(w, HASUP_S);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
}

static void a_full_queue_says_when_it_will_have_drained(void **state)
{
    struct world *w = *state;
    w->policy.queue.requests = 300;
    begin(w);
    for (unsigned i = 0; i < 301; i++)
        submit(w);
    uint64_t last = submit(w);
    assert_refused(w, last, REFUSED_OVERLOADED);
    hasup_ns after = seen(w, ACTION_REFUSE)->refuse.retry_after;
    assert_in_range(after, 290 * RUN, 330 * RUN);
}

/* ---- what was taken and comes too late ---- */

/* Batches of one and of four, of which one more costs 5 ms and each batch 10 ms. */
static void begin_in_batches(struct world *w)
{
    w->policy.queue.refuse_late = true;
    w->max_batch = 4;
    set_model(w, false);
    comes_up(w, 0, 1);
    for (unsigned round = 0; round < 10; round++) {
        uint64_t r[5];
        for (unsigned i = 0; i < HASUP_LEN(r); i++)
            r[i] = submit(w);
        w->now += 15 * HASUP_MS;
        replies(w, 0, r[0]);
        w->now += 30 * HASUP_MS;
        for (unsigned i = 1; i < HASUP_LEN(r); i++)
            replies(w, 0, r[i]);
    }
}

/* As if it had been taken when there was less before it. */
static uint64_t submit_unasked(struct world *w, hasup_ns within)
{
    w->policy.queue.refuse_late = false;
    set_model(w, false);
    uint64_t request = submit_by(w, within);
    w->policy.queue.refuse_late = true;
    set_model(w, false);
    return request;
}

static void what_has_no_time_to_run_is_refused_before_it_does(void **state)
{
    struct world *w = *state;
    begin(w);
    uint64_t runs = submit(w), hopeless = submit_unasked(w, RUN * 19 / 10), next = submit(w);
    w->now += RUN;
    replies(w, 0, runs); /* nine milliseconds are left, and it takes ten */
    assert_refused(w, hopeless, REFUSED_LATE);
    assert_true(seen(w, ACTION_DISPATCH)->request == next);
    uint64_t last = submit_unasked(w, RUN * 19 / 10);
    w->now += RUN;
    replies(w, 0, next); /* nobody else waits for its place: it may try */
    assert_true(seen(w, ACTION_DISPATCH)->request == last);
}

static void who_is_urgent_shortens_a_batch_unless_others_come_too_late(void **state)
{
    struct world *w = *state;
    begin_in_batches(w);
    uint64_t runs = submit(w), bulk[10];
    for (unsigned i = 0; i < HASUP_LEN(bulk); i++)
        bulk[i] = submit(w);
    uint64_t urgent = submit_unasked(w, 15 * HASUP_MS + 26 * HASUP_MS);
    w->now += 15 * HASUP_MS;
    replies(w, 0, runs);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 3); /* what 26 ms allow */
    assert_non_null(seen_of(w, ACTION_DISPATCH, urgent));
    uint64_t hopeless = submit_unasked(w, 25 * HASUP_MS + 10 * HASUP_MS);
    uint64_t second = submit_unasked(w, 25 * HASUP_MS + 25 * HASUP_MS);
    w->now += 25 * HASUP_MS;
    replies(w, 0, urgent);
    replies(w, 0, bulk[0]);
    replies(w, 0, bulk[1]);
    assert_refused(w, hopeless, REFUSED_LATE);
    assert_refused(w, second, REFUSED_LATE); /* it would have cost the others more */
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 4);
    core_check(w->core);
}

/* ---- rates ---- */

static uint64_t submit_of(struct world *w, uint64_t client)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = id,
                               .submitted = {.size = 100, .client = client}});
    return id;
}

static void a_rate_allows_its_burst_and_then_its_rate(void **state)
{
    struct world *w = *state;
    w->policy.rate.per_second = 10;
    w->policy.rate.burst = 5;
    set_model(w, false);
    comes_up(w, 0, 1);
    for (unsigned i = 0; i < 5; i++) {
        submit(w);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
    assert_refused(w, submit(w), REFUSED_RATE);
    w->now += 99 * HASUP_MS;
    assert_refused(w, submit(w), REFUSED_RATE); /* it was not counted before */
    w->now += HASUP_MS;
    submit(w);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    assert_refused(w, submit(w), REFUSED_RATE);
    w->now += 10 * HASUP_S; /* no more than a burst is saved up */
    for (unsigned i = 0; i < 5; i++) {
        submit(w);
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    }
    assert_refused(w, submit(w), REFUSED_RATE);
}

static void a_client_above_its_rate_takes_nothing_from_the_others(void **state)
{
    struct world *w = *state;
    w->policy.rate.client_per_second = 1;
    w->policy.rate.client_burst = 2;
    w->policy.rate.per_second = 4;
    set_model(w, false);
    comes_up(w, 0, 1);
    for (unsigned i = 0; i < 10; i++) {
        uint64_t request = submit_of(w, 77);
        if (i >= 2)
            assert_refused(w, request, REFUSED_RATE);
    }
    submit_of(w, 78);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    submit_of(w, 0); /* who does not say who he is has the model's rate only */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    assert_refused(w, submit_of(w, 79), REFUSED_RATE); /* the model's, now */
    w->now += 250 * HASUP_MS;
    submit_of(w, 79); /* and that took nothing of its own */
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
}

static void rates_of_very_many_clients_are_bounded(void **state)
{
    struct world *w = *state;
    w->policy.rate.client_per_second = 1;
    w->policy.rate.client_burst = 1;
    set_model(w, false);
    for (uint64_t i = 1; i <= 100000; i++) { /* the model has no worker yet: they are cancelled */
        submit_of(w, i * UINT64_C(0x9e3779b97f4a7c15));
        assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
        cancel(w, (uint64_t)1 << 32 | --w->made);
    }
    core_check(w->core);
}

/* ---- priorities ---- */

static void who_waited_long_enough_goes_before_those_that_come_first(void **state)
{
    struct world *w = *state;
    w->policy.queue.priority_age = HASUP_S;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t runs = submit(w);
    uint64_t last = submit_as(w, 0, 9, 100);
    for (unsigned i = 0; i < 6; i++) { /* one first-class request after the other */
        uint64_t first = submit_as(w, 0, 1, 100);
        w->now += HASUP_S;
        replies(w, 0, runs);
        assert_non_null(seen_of(w, ACTION_DISPATCH, first));
        runs = first;
    }
    submit_as(w, 0, 1, 100);
    w->now += 3 * HASUP_S; /* nine seconds against three */
    submit_as(w, 0, 1, 100);
    replies(w, 0, runs);
    if (!seen_of(w, ACTION_DISPATCH, last)) { /* then it is the next */
        runs = seen(w, ACTION_DISPATCH)->request;
        replies(w, 0, runs);
    }
    assert_non_null(seen_of(w, ACTION_DISPATCH, last));
    core_check(w->core);
}

static void without_an_age_priorities_are_strict(void **state)
{
    struct world *w = *state;
    set_model(w, false);
    comes_up(w, 0, 1);
    uint64_t runs = submit(w), last = submit_as(w, 0, 9, 100);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t first = submit_as(w, 0, 8, 100);
        w->now += 5 * HASUP_S;
        replies(w, 0, runs);
        assert_non_null(seen_of(w, ACTION_DISPATCH, first));
        runs = first;
    }
    replies(w, 0, runs);
    assert_non_null(seen_of(w, ACTION_DISPATCH, last));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_would_be_late_is_refused_with_the_time_to_come_again),
        STORY(all_that_was_taken_is_in_time),
        STORY(only_those_before_it_count),
        STORY(where_nothing_is_known_nobody_is_called_late),
        STORY(a_worker_with_room_to_spare_does_not_show_what_it_can_do),
        STORY(it_can_be_switched_off),
        STORY(a_full_queue_says_when_it_will_have_drained),
        STORY(what_has_no_time_to_run_is_refused_before_it_does),
        STORY(who_is_urgent_shortens_a_batch_unless_others_come_too_late),
        STORY(a_rate_allows_its_burst_and_then_its_rate),
        STORY(a_client_above_its_rate_takes_nothing_from_the_others),
        STORY(rates_of_very_many_clients_are_bounded),
        STORY(who_waited_long_enough_goes_before_those_that_come_first),
        STORY(without_an_age_priorities_are_strict),
    };
    return cmocka_run_group_tests_name("core_admission", tests, NULL, NULL);
}
