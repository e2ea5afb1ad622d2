/* Which requests run together, how many, and when a worker waits for more. */
#include "tests/unit/core_world.h"

enum { MOST = 8 };

static void begin(struct world *w, bool stateful)
{
    w->max_batch = MOST;
    set_model(w, false);
    if (stateful)
        comes_back(w, 0, 1, 0);
    else
        comes_up(w, 0, 1);
}

static uint64_t submit_keyed(struct world *w, uint64_t key, hasup_ns deadline)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w,
             (struct event){.type = EVENT_SUBMITTED,
                            .model = WORLD_MODEL,
                            .request = id,
                            .submitted = {.size = 100, .deadline = deadline, .batch_key = key}});
    return id;
}

/* What was handed over is one batch of these. */
static void assert_batch(const struct world *w, const uint64_t *requests, unsigned count)
{
    assert_int_equal(seen_count(w, ACTION_DISPATCH), count);
    for (unsigned i = 0; i < count; i++) {
        const struct action *dispatch = seen_nth(w, ACTION_DISPATCH, i);
        assert_true(dispatch->request == requests[i]);
        assert_int_equal(dispatch->dispatch.more, i + 1 < count);
    }
}

/* The slot's worker answers all that it has, after so long; `seen` is what followed. */
static void answers(struct world *w, const uint64_t *requests, unsigned count, hasup_ns took)
{
    w->now += took;
    for (unsigned i = 0; i < count; i++)
        replies(w, 0, requests[i]);
}

static void what_came_meanwhile_runs_together(void **state)
{
    struct world *w = *state;
    uint64_t r[1 + MOST + 2];
    begin(w, false);
    r[0] = submit(w);
    assert_batch(w, r, 1); /* a worker that is free takes what there is */
    for (unsigned i = 1; i < 1 + MOST + 2; i++) {
        r[i] = submit(w);
        assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    }
    replies(w, 0, r[0]);
    assert_batch(w, r + 1, MOST);
    for (unsigned i = 1; i < MOST; i++) { /* it is one of its worker's, and ends with its last */
        replies(w, 0, r[i]);
        assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
        assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    }
    replies(w, 0, r[MOST]);
    assert_batch(w, r + 1 + MOST, 2);
}

static void the_policy_may_allow_less(void **state)
{
    struct world *w = *state;
    uint64_t r[6];
    w->policy.batch.most = 2;
    begin(w, false);
    for (unsigned i = 0; i < HASUP_LEN(r); i++)
        r[i] = submit(w);
    replies(w, 0, r[0]);
    assert_batch(w, r + 1, 2);
    w->policy.batch.most = 0;
    set_model(w, false); /* takes effect at once */
    answers(w, r + 1, 2, 0);
    assert_batch(w, r + 3, 3);
}

static void only_like_requests_share_a_batch_and_none_loses_its_place(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t first = submit(w), r[6];
    static const uint64_t keys[] = {7, 9, 7, 0, 9, 7};
    for (unsigned i = 0; i < HASUP_LEN(r); i++)
        r[i] = submit_keyed(w, keys[i], 0);
    replies(w, 0, first);
    assert_batch(w, (uint64_t[]){r[0], r[2], r[5]}, 3);
    answers(w, (uint64_t[]){r[0], r[2], r[5]}, 3, 0);
    assert_batch(w, (uint64_t[]){r[1], r[4]}, 2);
    answers(w, (uint64_t[]){r[1], r[4]}, 2, 0);
    assert_batch(w, r + 3, 1);
    core_check(w->core);
}

/* Batches of one and of four that take 10 ms and 5 ms for each. */
static void learns(struct world *w)
{
    uint64_t r[5];
    for (unsigned round = 0; round < 8; round++) {
        for (unsigned i = 0; i < HASUP_LEN(r); i++)
            r[i] = submit(w);
        answers(w, r, 1, 15 * HASUP_MS);
        assert_batch(w, r + 1, 4);
        answers(w, r + 1, 4, 30 * HASUP_MS);
    }
}

static void a_deadline_bounds_the_batch_by_what_the_worker_takes(void **state)
{
    struct world *w = *state;
    uint64_t r[7];
    begin(w, false);
    learns(w);
    r[0] = submit(w);
    hasup_ns soon = w->now + 15 * HASUP_MS + 31 * HASUP_MS; /* when that one is done: four fit */
    for (unsigned i = 1; i < HASUP_LEN(r); i++)
        r[i] = submit_keyed(w, 0, i == 1 ? soon : soon + HASUP_S);
    answers(w, r, 1, 15 * HASUP_MS);
    assert_batch(w, r + 1, 4);
    answers(w, r + 1, 4, 30 * HASUP_MS);
    assert_batch(w, r + 5, 2);
}

static void who_would_be_late_even_alone_binds_nobody(void **state)
{
    struct world *w = *state;
    uint64_t r[4];
    begin(w, false);
    learns(w);
    r[0] = submit(w);
    for (unsigned i = 1; i < HASUP_LEN(r); i++)
        r[i] = submit_keyed(w, 0, w->now + (i == 1 ? 18 * HASUP_MS : HASUP_S));
    answers(w, r, 1, 15 * HASUP_MS);
    assert_batch(w, r + 1, 3);
}

static void a_batch_that_was_too_long_for_a_member_halves_the_next_ones(void **state)
{
    struct world *w = *state;
    uint64_t r[1 + 2 * MOST];
    begin(w, false);
    r[0] = submit(w);
    for (unsigned i = 1; i < HASUP_LEN(r); i++)
        r[i] = submit_keyed(w, 0, i == MOST ? w->now + 50 * HASUP_MS : 0);
    uint64_t batch[MOST]; /* the deadline comes first */
    batch[0] = r[MOST];
    for (unsigned i = 1; i < MOST; i++)
        batch[i] = r[i];
    replies(w, 0, r[0]);
    assert_batch(w, batch, MOST);
    world_pass(w, 60 * HASUP_MS);
    assert_refused(w, r[MOST], REFUSED_DEADLINE);
    answers(w, batch, MOST, 0);
    assert_batch(w, r + MOST + 1, MOST / 2);
    answers(w, r + MOST + 1, MOST / 2, HASUP_MS); /* in time: one more */
    for (unsigned i = 0; i < MOST; i++)
        submit(w);
    answers(w, r + MOST + 1 + MOST / 2, MOST / 2, HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), MOST / 2 + 1);
}

static void preferred_sizes_are_kept_where_as_many_wait(void **state)
{
    struct world *w = *state;
    uint64_t r[1 + 7];
    w->policy.batch.preferred[0] = 2;
    w->policy.batch.preferred[1] = 4;
    begin(w, false);
    for (unsigned i = 0; i < HASUP_LEN(r); i++)
        r[i] = submit(w);
    replies(w, 0, r[0]);
    assert_batch(w, r + 1, 4);
    answers(w, r + 1, 4, 0);
    assert_batch(w, r + 5, 2);
    answers(w, r + 5, 2, 0);
    assert_batch(w, r + 7, 1); /* rather than let a worker idle */
    core_check(w->core);
}

/* One request every millisecond, to a worker that takes 10 ms for any batch: known from batches of
 * both sizes. */
static void learns_that_company_pays(struct world *w)
{
    for (unsigned round = 0; round < 8; round++) {
        uint64_t r[3];
        for (unsigned i = 0; i < HASUP_LEN(r); i++, w->now += HASUP_MS)
            r[i] = submit(w);
        answers(w, r, 1, 7 * HASUP_MS);
        answers(w, r + 1, 2, 10 * HASUP_MS);
    }
    uint64_t first = submit(w);
    for (unsigned i = 0; i < 30; i++, w->now += HASUP_MS)
        cancel(w, submit(w));
    replies(w, 0, first);
    core_check(w->core);
}

static void a_worker_waits_for_company_only_where_it_pays_and_not_for_long(void **state)
{
    struct world *w = *state;
    uint64_t r[3];
    w->policy.batch.max_delay = 4 * HASUP_MS;
    begin(w, false);
    learns_that_company_pays(w);
    r[0] = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    w->now += HASUP_MS;
    r[1] = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    core_check(w->core);
    world_pass(w, 8 * HASUP_MS);
    assert_batch(w, r, 2);
    answers(w, r, 2, 10 * HASUP_MS);
    w->policy.batch.max_delay = 0;
    set_model(w, false);
    r[2] = submit(w);
    assert_batch(w, r + 2, 1);
}

static void promise_6_a_batch_that_kills_is_tried_by_halves(void **state)
{
    struct world *w = *state;
    uint64_t r[5];
    begin(w, false);
    for (unsigned i = 0; i < HASUP_LEN(r); i++)
        r[i] = submit(w);
    answers(w, r, 1, HASUP_MS);
    assert_batch(w, r + 1, 4);
    dies(w, 0);
    comes_up(w, 0, 1);
    assert_batch(w, r + 1, 2);
    answers(w, r + 1, 2, HASUP_MS); /* not they */
    assert_batch(w, r + 3, 2);
    dies(w, 0);
    comes_up(w, 0, 1);
    assert_batch(w, r + 3, 1);
    answers(w, r + 3, 1, HASUP_MS);
    assert_batch(w, r + 4, 1);
    dies(w, 0);
    assert_refused(w, r[4], REFUSED_QUARANTINED);
}

static void promise_4_what_ran_together_runs_again_together(void **state)
{
    struct world *w = *state;
    uint64_t r[6];
    begin(w, true);
    for (unsigned i = 0; i < 4; i++)
        r[i] = submit(w);
    answers(w, r, 1, HASUP_MS);
    assert_batch(w, r + 1, 3);
    for (unsigned i = 1; i < 4; i++)
        assert_int_equal(seen_of(w, ACTION_DISPATCH, r[i])->dispatch.position, i + 1);
    r[4] = submit(w);
    r[5] = submit(w);
    answers(w, r + 1, 3, HASUP_MS);
    assert_batch(w, r + 4, 2);
    replies(w, 0, r[4]);
    dies(w, 0);
    comes_back(w, 0, 1, 0);
    assert_batch(w, r, 1);
    answers(w, r, 1, HASUP_MS);
    assert_batch(w, r + 1, 3);
    assert_true(seen_nth(w, ACTION_DISPATCH, 2)->dispatch.replay);
    answers(w, r + 1, 3, HASUP_MS);
    assert_batch(w, r + 4, 1);
    answers(w, r + 4, 1, HASUP_MS);
    assert_batch(w, r + 5, 1); /* in flight when it died: no replay, and alone */
    assert_false(seen(w, ACTION_DISPATCH)->dispatch.replay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(what_came_meanwhile_runs_together),
        STORY(the_policy_may_allow_less),
        STORY(only_like_requests_share_a_batch_and_none_loses_its_place),
        STORY(a_deadline_bounds_the_batch_by_what_the_worker_takes),
        STORY(who_would_be_late_even_alone_binds_nobody),
        STORY(a_batch_that_was_too_long_for_a_member_halves_the_next_ones),
        STORY(preferred_sizes_are_kept_where_as_many_wait),
        STORY(a_worker_waits_for_company_only_where_it_pays_and_not_for_long),
        STORY(promise_6_a_batch_that_kills_is_tried_by_halves),
        STORY(promise_4_what_ran_together_runs_again_together),
    };
    return cmocka_run_group_tests_name("core_batch", tests, NULL, NULL);
}
