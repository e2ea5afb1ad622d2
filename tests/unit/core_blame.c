/* Who is to blame for a crash: a body, which is quarantined, or the model, whose breaker opens. */
#include "tests/unit/core_world.h"

enum { POISON = 7 };

/* A model whose slots may start as often as they like. */
static void begin(struct world *w, uint32_t workers)
{
    w->policy.workers = workers;
    w->policy.restart.start_limit = 0;
    set_model(w, false);
}

/* Slot 0's next worker of one, when its backoff is over; what it is given then is `seen`. */
static void comes_again(struct world *w)
{
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, 0, 1);
}

static uint64_t given(const struct world *w)
{
    const struct action *action = seen_nth(w, ACTION_DISPATCH, 0);
    return action ? action->request : 0;
}

/* The next request that a worker is given, however long that takes. */
static uint64_t next_given(struct world *w)
{
    if (!model_seen(w).ready)
        comes_again(w);
    while (!given(w))
        world_pass(w, 100 * HASUP_MS);
    return given(w);
}

/* Kills the worker until its body is in quarantine; how many it took. */
static unsigned kill_until_quarantined(struct world *w, uint64_t request)
{
    unsigned kills = 0;
    while (!seen_of(w, ACTION_QUARANTINE, request)) {
        assert_true(++kills < 20);
        if (given(w) != request)
            comes_again(w);
        assert_true(given(w) == request);
        dies(w, 0);
    }
    return kills;
}

static void promise_6_the_same_body_is_refused_and_kills_nobody(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t poison = submit_body(w, POISON);
    assert_int_equal(kill_until_quarantined(w, poison), 3);
    assert_refused(w, poison, REFUSED_QUARANTINED);
    const struct action *letter = seen(w, ACTION_QUARANTINE);
    assert_int_equal(letter->quarantine.attempts, 3);
    assert_true(letter->quarantine.expires == w->now + 3600 * HASUP_S);
    assert_true(letter->quarantine.hash[0] == POISON);
    comes_again(w);
    uint64_t again = submit_body(w, POISON);
    assert_refused(w, again, REFUSED_QUARANTINED);
    assert_int_equal(seen(w, ACTION_REFUSE)->refuse.attempts, 3);
    assert_non_null(seen_of(w, ACTION_FORGET, again));
    replies(w, 0, submit(w)); /* others are served */
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_6_a_quarantine_ends_with_its_time(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    kill_until_quarantined(w, submit_body(w, POISON));
    comes_again(w);
    world_pass(w, 3600 * HASUP_S + 2 * HASUP_MS);
    uint64_t again = submit_body(w, POISON);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    assert_true(given(w) == again);
}

static void promise_6_who_sends_poison_again_and_leaves_is_found_too(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    for (unsigned kills = 0; kills < 3; kills++) {
        comes_again(w);
        uint64_t poison = submit_body(w, POISON);
        assert_true(given(w) == poison);
        cancel(w, poison);
        dies(w, 0);
    }
    assert_true(seen(w, ACTION_QUARANTINE)->request == 0); /* nobody is there to be told */
    assert_refused(w, submit_body(w, POISON), REFUSED_QUARANTINED);
}

static void promise_6_who_waits_with_the_same_body_is_refused_at_the_verdict(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t poison = submit_body(w, POISON), same = submit_body(w, POISON), other = submit(w);
    comes_again(w);
    dies(w, 0);
    comes_again(w);
    assert_true(given(w) == poison);
    dies(w, 0);
    comes_again(w); /* a witness is wanted; nobody knows yet that it is the same */
    assert_true(given(w) == same);
    dies(w, 0);
    assert_refused(w, same, REFUSED_QUARANTINED);
    assert_refused(w, poison, REFUSED_QUARANTINED);
    comes_again(w);
    assert_true(given(w) == other);
}

static void a_body_that_is_answered_is_no_suspect_any_more(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    for (unsigned i = 0; i < 5; i++) { /* killed from outside, twice each time */
        uint64_t request = submit_body(w, POISON);
        for (unsigned kills = 0; kills < 2; kills++) {
            if (given(w) != request)
                comes_again(w);
            dies(w, 0);
        }
        comes_again(w);
        assert_true(given(w) == request);
        replies(w, 0, request);
        assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
    }
    assert_false(core_wants_hash(w->core, WORLD_MODEL));
}

static void promise_6_a_witness_is_heard_before_the_last_try(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t poison = submit_body(w, POISON), other = submit(w), last = submit(w);
    for (unsigned kills = 0; kills < 2; kills++) {
        comes_again(w);
        assert_true(given(w) == poison);
        dies(w, 0);
    }
    comes_again(w);
    assert_true(given(w) == other);
    replies(w, 0, other);
    assert_true(given(w) == poison); /* the model is well: once more, before the others */
    dies(w, 0);
    assert_refused(w, poison, REFUSED_QUARANTINED);
    comes_again(w);
    assert_true(given(w) == last);
}

/* Lets requests die, each on a worker of its own, until the breaker opens; how many it took. */
static unsigned die_until_broken(struct world *w)
{
    for (unsigned kills = 1;; kills++) {
        assert_true(kills < 20);
        while (!model_seen(w).ready)
            comes_again(w);
        if (!model_seen(w).inflight)
            submit(w);
        dies(w, 0);
        assert_int_equal(seen_count(w, ACTION_QUARANTINE), 0);
        if (seen_notices(w, NOTICE_MODEL_BROKEN))
            return kills;
    }
}

static void promise_7_a_bad_deployment_opens_the_breaker_and_quarantines_nobody(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t first = submit(w);
    for (unsigned i = 0; i < 5; i++)
        submit(w);
    assert_int_equal(die_until_broken(w), 3);
    assert_true(model_seen(w).broken);
    uint64_t tried = next_given(w); /* half open: one, a new one before the suspects */
    assert_true(tried != first && !model_seen(w).broken);
    assert_int_equal(model_seen(w).inflight, 1);
    dies(w, 0);
    assert_true(model_seen(w).broken);
    next_given(w);
    replies(w, 0, given(w)); /* the good version is there */
    assert_int_equal(seen_notices(w, NOTICE_MODEL_MENDED), 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_non_null(seen_nth(w, ACTION_ANSWER, 0));
        replies(w, 0, given(w));
    }
    assert_int_equal(model_seen(w).answered, 6);
    assert_int_equal(model_seen(w).refused, 0);
}

static void promise_7_the_breakers_pauses_double_up_to_the_limit(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    for (unsigned i = 0; i < 40; i++)
        submit(w);
    die_until_broken(w);
    hasup_ns before = 0, pause = 0;
    for (unsigned i = 0; i < 12; i++) {
        const struct action *notice = NULL;
        for (size_t k = 0; k < w->count; k++)
            if (w->seen[k].type == ACTION_NOTICE && w->seen[k].notice.what == NOTICE_MODEL_BROKEN)
                notice = &w->seen[k];
        before = pause;
        pause = notice->notice.delay;
        assert_true(pause <= 75 * HASUP_S);
        assert_true(!before || pause > before || pause >= 45 * HASUP_S);
        next_given(w);
        dies(w, 0);
    }
    assert_true(pause >= 45 * HASUP_S);
    assert_int_equal(model_seen(w).refused, 0);
}

static void promise_7_who_was_quarantined_without_a_witness_is_pardoned(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t innocent = submit_body(w, POISON);
    kill_until_quarantined(w, innocent); /* nobody else was there to be tried */
    comes_again(w);
    submit(w);
    dies(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_MODEL_BROKEN), 1);
    assert_true(seen(w, ACTION_PARDON)->pardon.hash[0] == POISON);
    submit_body(w, POISON);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
}

static void promise_6_a_proven_verdict_stays_when_the_breaker_opens(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t poison = submit_body(w, POISON), other = submit(w);
    for (unsigned kills = 0; kills < 2; kills++) {
        comes_again(w);
        dies(w, 0);
    }
    comes_again(w);
    replies(w, 0, other);
    dies(w, 0);
    assert_refused(w, poison, REFUSED_QUARANTINED);
    for (unsigned i = 0; i < 3; i++)
        submit(w);
    die_until_broken(w);
    assert_int_equal(seen_count(w, ACTION_PARDON), 0);
    assert_refused(w, submit_body(w, POISON), REFUSED_QUARANTINED);
}

static void promise_7_while_the_breaker_is_open_requests_wait_or_are_told_when_to_come(void **state)
{
    struct world *w = *state;
    w->policy.queue.requests = 4;
    begin(w, 1);
    for (unsigned i = 0; i < 3; i++)
        submit(w);
    die_until_broken(w);
    hasup_ns mends = model_seen(w).mends;
    uint64_t hurried = submit_as(w, mends, 0, 1);
    assert_refused(w, hurried, REFUSED_UNAVAILABLE);
    assert_true(seen(w, ACTION_REFUSE)->refuse.retry_after >= HASUP_S);
    uint64_t patient = submit_as(w, mends + HASUP_S, 0, 1);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    while (model_seen(w).queued < 4)
        submit(w);
    uint64_t late = submit(w);
    assert_refused(w, late, REFUSED_UNAVAILABLE); /* not "overloaded": the model is ill */
    world_pass(w, mends - w->now + HASUP_S + 2 * HASUP_MS);
    assert_refused(w, patient, REFUSED_DEADLINE);
}

static void promise_7_workers_that_are_killed_at_once_do_not_open_the_breaker(void **state)
{
    struct world *w = *state;
    begin(w, 6);
    for (uint32_t slot = 0; slot < 6; slot++)
        comes_up(w, slot, 1);
    for (unsigned storm = 0; storm < 4; storm++) {
        for (unsigned i = 0; i < 6; i++)
            submit(w);
        for (uint32_t slot = 0; slot < 6; slot++) {
            dies(w, slot);
            assert_int_equal(seen_notices(w, NOTICE_MODEL_BROKEN), 0);
        }
        for (uint32_t slot = 0; slot < 6; slot++) {
            while (state_of(w, slot) != SLOT_STARTING)
                world_pass(w, 100 * HASUP_MS);
            comes_up(w, slot, 1);
        }
        for (unsigned left = 64; left && model_seen(w).inflight; left--)
            for (uint64_t i = 0; i < w->made; i++)
                for (uint32_t slot = 0; slot < 6; slot++)
                    replies(w, slot, (uint64_t)1 << 32 | i);
    }
    assert_int_equal(model_seen(w).answered, 24);
    assert_int_equal(model_seen(w).refused, 0);
}

static void promise_6_what_died_together_is_tried_by_halves(void **state)
{
    struct world *w = *state;
    begin(w, 2);
    comes_up(w, 0, 4);
    comes_up(w, 1, 4);
    for (unsigned i = 0; i < 8; i++)
        submit(w);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0); /* nobody is idle */
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, 0, 4);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 2); /* a half, and nothing beside it */
    assert_int_equal(seen_nth(w, ACTION_DISPATCH, 0)->slot, 0);
    uint64_t half[] = {given(w), seen_nth(w, ACTION_DISPATCH, 1)->request};
    submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    replies(w, 0, half[0]);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    replies(w, 0, half[1]);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 2); /* the other half */
}

static void a_worker_that_was_held_is_let_go_when_another_is_idle_first(void **state)
{
    struct world *w = *state;
    begin(w, 2);
    comes_up(w, 0, 2);
    comes_up(w, 1, 2);
    for (unsigned i = 0; i < 3; i++)
        submit(w);
    struct slot_view first;
    assert_true(core_slot_view(w->core, 0, &first));
    uint32_t dead = first.inflight == 1 ? 0 : 1;
    dies(w, dead); /* the other one has two in hand, and is held */
    uint64_t fresh = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    while (state_of(w, dead) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, dead, 2);
    assert_int_equal(seen_nth(w, ACTION_DISPATCH, 0)->slot, dead); /* the suspect, alone */
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
    struct event reply = of_worker(w, EVENT_REPLIED, !dead);
    for (uint64_t i = 0; i < 3 && !seen_of(w, ACTION_DISPATCH, fresh); i++) {
        reply.request = (uint64_t)1 << 32 | i;
        world_do(w, reply);
    }
    assert_int_equal(seen_of(w, ACTION_DISPATCH, fresh)->slot, !dead);
}

static void a_suspect_that_waits_expires(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    comes_again(w);
    uint64_t suspect = submit_as(w, w->now + 5 * HASUP_S, 0, 1);
    dies(w, 0);
    world_pass(w, 5 * HASUP_S + 2 * HASUP_MS);
    assert_refused(w, suspect, REFUSED_DEADLINE);
    assert_non_null(seen_of(w, ACTION_FORGET, suspect));
    comes_again(w);
    assert_int_equal(given(w), 0);
}

static void nor_does_it_run_in_the_instant_before_its_timer(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    comes_again(w);
    uint64_t suspect = submit_as(w, w->now + 5 * HASUP_S, 0, 1);
    hasup_ns deadline = w->now + 5 * HASUP_S;
    dies(w, 0);
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    greets(w, 0, 1, false);
    w->now = deadline;
    says(w, EVENT_WORKER_READY, 0);
    assert_refused(w, suspect, REFUSED_DEADLINE);
    assert_int_equal(given(w), 0);
}

static void a_quarantine_of_an_earlier_run_holds_and_can_be_lifted(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    world_do(w, (struct event){.type = EVENT_RECOVERED,
                               .model = WORLD_MODEL,
                               .recovered = {.what = RECOVERY_QUARANTINED,
                                             .hash = {POISON, 1},
                                             .attempts = 3,
                                             .expires = w->now + 60 * HASUP_S}});
    assert_true(core_wants_hash(w->core, WORLD_MODEL));
    assert_refused(w, submit_body(w, POISON), REFUSED_QUARANTINED);
    world_do(w, (struct event){.type = EVENT_LIFTED, .lifted = {.hash = {POISON, 1}}});
    assert_true(seen(w, ACTION_PARDON)->pardon.hash[0] == POISON);
    submit_body(w, POISON);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
}

static void what_an_operator_begins_anew_proves_nothing(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    uint64_t request = submit_body(w, POISON);
    for (unsigned kills = 0; kills < 2; kills++) {
        comes_again(w);
        assert_true(given(w) == request);
        dies(w, 0);
    }
    command(w, CORE_ALL_SLOTS, COMMAND_START);
    comes_up(w, 0, 1);
    assert_true(given(w) == request);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_QUARANTINE), 0);
    assert_int_equal(kill_until_quarantined(w, request), 2); /* three since */
}

static void a_body_that_was_lifted_and_kills_again_is_nobody_else(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    kill_until_quarantined(w, submit_body(w, POISON));
    world_do(w, (struct event){.type = EVENT_LIFTED, .lifted = {.hash = {POISON, 1}}});
    comes_again(w);
    uint64_t again = submit_body(w, POISON);
    assert_int_equal(kill_until_quarantined(w, again), 3);
    assert_int_equal(seen_notices(w, NOTICE_MODEL_BROKEN), 0);
}

static void promise_8_bodies_are_bounded_and_suspects_go_first(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    kill_until_quarantined(w, submit_body(w, POISON));
    for (unsigned i = 0; i < 30; i++) {              /* the table holds 8 */
        command(w, CORE_ALL_SLOTS, COMMAND_RESTART); /* the breaker is not what this is about */
        comes_again(w);
        uint64_t request = submit(w);
        assert_true(given(w) == request);
        cancel(w, request);
        dies(w, 0);
    }
    assert_int_equal(model_seen(w).bodies, 8);
    assert_refused(w, submit_body(w, POISON), REFUSED_QUARANTINED);
}

static void promise_4_a_bad_deployment_drops_nothing_from_a_log(void **state)
{
    struct world *w = *state;
    begin(w, 1);
    comes_back(w, 0, 1, 0);
    replies_with(w, 0, submit(w), 5);
    for (unsigned kills = 0; kills < 12; kills++) {
        dies(w, 0);
        assert_int_equal(seen_notices(w, NOTICE_STATE_LOST) + seen_count(w, ACTION_QUARANTINE), 0);
        while (state_of(w, 0) != SLOT_STARTING)
            world_pass(w, 100 * HASUP_MS);
        comes_back(w, 0, 1, 0);
        assert_true(seen(w, ACTION_DISPATCH)->dispatch.replay);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_6_the_same_body_is_refused_and_kills_nobody),
        STORY(promise_6_a_quarantine_ends_with_its_time),
        STORY(promise_6_who_sends_poison_again_and_leaves_is_found_too),
        STORY(promise_6_who_waits_with_the_same_body_is_refused_at_the_verdict),
        STORY(a_body_that_is_answered_is_no_suspect_any_more),
        STORY(promise_6_a_witness_is_heard_before_the_last_try),
        STORY(promise_7_a_bad_deployment_opens_the_breaker_and_quarantines_nobody),
        STORY(promise_7_the_breakers_pauses_double_up_to_the_limit),
        STORY(promise_7_who_was_quarantined_without_a_witness_is_pardoned),
        STORY(promise_6_a_proven_verdict_stays_when_the_breaker_opens),
        STORY(promise_7_while_the_breaker_is_open_requests_wait_or_are_told_when_to_come),
        STORY(promise_7_workers_that_are_killed_at_once_do_not_open_the_breaker),
        STORY(promise_6_what_died_together_is_tried_by_halves),
        STORY(a_worker_that_was_held_is_let_go_when_another_is_idle_first),
        STORY(a_suspect_that_waits_expires),
        STORY(nor_does_it_run_in_the_instant_before_its_timer),
        STORY(a_quarantine_of_an_earlier_run_holds_and_can_be_lifted),
        STORY(what_an_operator_begins_anew_proves_nothing),
        STORY(a_body_that_was_lifted_and_kills_again_is_nobody_else),
        STORY(promise_8_bodies_are_bounded_and_suspects_go_first),
        STORY(promise_4_a_bad_deployment_drops_nothing_from_a_log),
    };
    return cmocka_run_group_tests_name("core_blame", tests, NULL, NULL);
}
