/* Requests of one session run in one slot, as long as it is there. */
#include "tests/unit/core_world.h"

enum { SLOTS = 4, SESSIONS = 100 };

static uint64_t submit_for(struct world *w, uint64_t session, hasup_ns within, uint8_t priority)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = id,
                               .submitted = {.size = 100,
                                             .session = session,
                                             .deadline = within ? w->now + within : 0,
                                             .priority = priority}});
    return id;
}

static uint64_t submit_in(struct world *w, uint64_t session)
{
    return submit_for(w, session, 0, 0);
}

/* Where a session's request runs; it is answered at once. */
static uint32_t seat(struct world *w, uint64_t session)
{
    uint64_t request = submit_in(w, session);
    uint32_t slot = seen(w, ACTION_DISPATCH)->slot;
    replies(w, slot, request);
    w->made--; /* the shell's again */
    return slot;
}

static void begin(struct world *w, uint32_t slots)
{
    w->policy.workers = slots;
    set_model(w, false);
    for (uint32_t i = 0; i < slots; i++)
        comes_up(w, i, 1);
}

static void a_session_has_one_slot_and_slots_have_their_share(void **state)
{
    struct world *w = *state;
    unsigned share[SLOTS] = {0};
    begin(w, SLOTS);
    for (uint64_t session = 1; session <= SESSIONS; session++) {
        uint32_t slot = seat(w, session);
        share[slot]++;
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(seat(w, session), slot);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        assert_in_range(share[i], SESSIONS / SLOTS / 2, SESSIONS / SLOTS * 2);
}

static void it_waits_for_its_slot_while_others_are_idle(void **state)
{
    struct world *w = *state;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7);
    uint64_t first = submit_in(w, 7), second = submit_in(w, 7);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    submit(w);
    assert_true(seen(w, ACTION_DISPATCH)->slot != slot);
    replies(w, slot, first);
    assert_true(seen(w, ACTION_DISPATCH)->request == second);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, slot);
    core_check(w->core);
}

static void scaling_moves_only_the_sessions_of_what_comes_or_goes(void **state)
{
    struct world *w = *state;
    uint32_t before[SESSIONS + 1], moved = 0;
    begin(w, SLOTS);
    for (uint64_t session = 1; session <= SESSIONS; session++)
        before[session] = seat(w, session);
    w->policy.workers = SLOTS + 1;
    set_model(w, false);
    comes_up(w, SLOTS, 1);
    for (uint64_t session = 1; session <= SESSIONS; session++) {
        uint32_t slot = seat(w, session);
        assert_true(slot == before[session] || slot == SLOTS);
        moved += slot == SLOTS;
    }
    assert_in_range(moved, 1, SESSIONS / (SLOTS + 1) * 2);
    w->policy.workers = SLOTS;
    set_model(w, false);
    for (uint64_t session = 1; session <= SESSIONS; session++)
        assert_int_equal(seat(w, session), before[session]);
}

static void one_without_a_state_moves_while_its_slot_is_down_and_comes_back(void **state)
{
    struct world *w = *state;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7);
    submit_in(w, 7);
    uint64_t waits = submit_in(w, 7);
    dies(w, slot);
    uint32_t other = seen_of(w, ACTION_DISPATCH, waits)->slot;
    assert_true(other != slot);
    replies(w, other, waits);
    w->max_batch = 0;
    comes_up(w, slot, 1);
    assert_int_equal(seat(w, 7), slot);
    core_check(w->core);
}

static void one_that_waits_is_there_when_its_slot_is_and_refused_where_that_is_stopped(void **state)
{
    struct world *w = *state;
    w->policy.on_lost = ON_LOST_WAIT;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7);
    dies(w, slot);
    uint64_t waits = submit_in(w, 7);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    core_check(w->core);
    comes_up(w, slot, 1);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, waits)->slot, slot);
    uint64_t queued = submit_in(w, 7);
    replies(w, slot, waits);
    replies(w, slot, queued);
    command(w, slot, COMMAND_STOP);
    uint64_t late = submit_in(w, 7); /* it drains yet */
    leaves(w, slot);
    assert_refused(w, late, REFUSED_UNAVAILABLE);
    assert_refused(w, submit_in(w, 7), REFUSED_UNAVAILABLE);
    core_check(w->core);
}

static void one_whose_slot_is_broken_hears_when_that_is_tried(void **state)
{
    struct world *w = *state;
    w->policy.on_lost = ON_LOST_WAIT;
    w->policy.restart.start_limit = 1;
    w->policy.restart.breaker = 300 * HASUP_S;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7), other = 0;
    world_pass(w, 100 * HASUP_S);
    dies(w, slot); /* after a healthy run */
    uint64_t waits = submit_in(w, 7);
    dies(w, slot);
    assert_int_equal(state_of(w, slot), SLOT_BROKEN);
    assert_refused(w, waits, REFUSED_UNAVAILABLE);
    assert_true(seen_of(w, ACTION_REFUSE, waits)->refuse.retry_after == 300 * HASUP_S);
    world_pass(w, 100 * HASUP_S);
    uint64_t late = submit_in(w, 7);
    assert_refused(w, late, REFUSED_UNAVAILABLE);
    assert_true(seen_of(w, ACTION_REFUSE, late)->refuse.retry_after == 200 * HASUP_S);
    for (uint64_t session = 8; other == 0; session++) { /* the others have theirs */
        uint64_t request = submit_in(w, session);
        const struct action *given = seen_of(w, ACTION_DISPATCH, request);
        other = given != NULL;
    }
}

/* The next `count` sessions from `*from` on whose seat is that slot. */
static void sessions_of(struct world *w, uint32_t slot, uint64_t from, uint64_t *found,
                        unsigned count)
{
    for (unsigned n = 0; n < count; from++)
        if (seat(w, from) == slot)
            found[n++] = from;
}

static void its_requests_run_in_the_order_of_the_queue(void **state)
{
    struct world *w = *state;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7);
    uint64_t runs = submit_in(w, 7), order[5];
    order[2] = submit_for(w, 7, HASUP_S, 5);
    order[3] = submit_for(w, 7, 2 * HASUP_S, 5);
    order[1] = submit_for(w, 7, HASUP_S / 2, 5);
    order[4] = submit_for(w, 7, 2 * HASUP_S, 5); /* as order[3], and later */
    order[0] = submit_for(w, 7, 0, 1);
    for (unsigned i = 0; i < HASUP_LEN(order); i++) {
        replies(w, slot, runs);
        assert_true(seen(w, ACTION_DISPATCH)->request == order[i]);
        assert_int_equal(seen(w, ACTION_DISPATCH)->slot, slot);
        runs = order[i];
    }
}

static void a_batch_holds_several_sessions_of_its_slot_and_no_other(void **state)
{
    struct world *w = *state;
    uint64_t own[3], other, waits[HASUP_LEN(own)];
    w->max_batch = 8;
    begin(w, 2);
    sessions_of(w, 0, 1, own, HASUP_LEN(own));
    sessions_of(w, 1, 1, &other, 1);
    uint64_t runs = submit_in(w, own[0]), beside = submit_in(w, other);
    for (unsigned i = 0; i < HASUP_LEN(own); i++)
        waits[i] = submit_in(w, own[i]);
    uint64_t stays = submit_in(w, other), any = submit(w);
    replies(w, 0, runs);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), HASUP_LEN(own) + 1); /* and one of none */
    for (unsigned i = 0; i < HASUP_LEN(own); i++)
        assert_true(seen_nth(w, ACTION_DISPATCH, i)->request == waits[i]);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, any)->slot, 0);
    replies(w, 1, beside);
    assert_true(seen(w, ACTION_DISPATCH)->request == stays);
}

static void waiting_has_the_bounds_of_deadline_and_queue(void **state)
{
    struct world *w = *state;
    w->policy.on_lost = ON_LOST_WAIT;
    w->policy.queue.requests = 2;
    begin(w, SLOTS);
    dies(w, seat(w, 7));
    uint64_t hurries = submit_for(w, 7, HASUP_S / 20, 5);
    submit_in(w, 7);
    assert_refused(w, submit_in(w, 7), REFUSED_OVERLOADED);
    world_pass(w, HASUP_S / 10);
    assert_refused(w, hurries, REFUSED_DEADLINE);
    core_check(w->core);
}

static void one_with_a_state_runs_again_there_before_what_waited(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_back(w, 0, 1, 0);
    comes_back(w, 1, 1, 0);
    uint64_t first = submit_in(w, 7);
    uint32_t slot = seen(w, ACTION_DISPATCH)->slot;
    uint64_t second = submit_in(w, 7);
    dies(w, slot);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0); /* the other one is idle, and not theirs */
    while (state_of(w, slot) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_back(w, slot, 1, 0);
    assert_true(seen(w, ACTION_DISPATCH)->request == first);
    replies(w, slot, first);
    assert_true(seen(w, ACTION_DISPATCH)->request == second);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, slot);
}

static void a_state_that_is_left_by_scaling_is_told(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_model(w, false);
    comes_back(w, 0, 1, 0);
    comes_back(w, 1, 1, 0);
    uint64_t session = 1, runs;
    while (runs = submit_in(w, session), seen(w, ACTION_DISPATCH)->slot != 1)
        replies(w, 0, runs), session++;
    uint64_t waits = submit_in(w, session);
    w->policy.workers = 1;
    set_model(w, false);
    assert_int_equal(seen_notices(w, NOTICE_STATE_LEFT), 1);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, waits)->slot, 0); /* it begins anew there */
    replies(w, 1, runs);
    core_check(w->core);
}

static void it_stays_where_a_spare_takes_over(void **state)
{
    struct world *w = *state;
    enum { SLOT = 1, SPARE };
    uint64_t session;
    w->policy.spares = 1;
    begin(w, 2);
    comes_up(w, SPARE, 1);
    sessions_of(w, SLOT, 1, &session, 1);
    uint64_t suspect = submit_in(w, session), waits = submit_in(w, session);
    dies(w, SLOT);
    assert_int_equal(seen(w, ACTION_SWAP)->slot, SLOT);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, suspect)->slot, 0); /* apart from the others */
    assert_int_equal(seen_of(w, ACTION_DISPATCH, waits)->slot, SLOT);
    core_check(w->core);
}

static void one_that_is_recovered_keeps_its_session(void **state)
{
    const struct core_limits limits = {.models = 2, .slots = 32, .requests = 64, .entries = 64};
    struct world *w = *state;
    begin(w, SLOTS);
    uint32_t slot = seat(w, 7);
    actions_fini(&w->out);
    core_free(w->core);
    w->core = core_new(&limits, 1);
    assert_non_null(w->core);
    assert_int_equal(actions_init(&w->out, w->core), 0);
    w->policy.journal = JOURNALS_ALWAYS;
    w->policy.on_lost = ON_LOST_WAIT;
    set_model(w, false);
    world_do(w, (struct event){.type = EVENT_RECOVERED,
                               .model = WORLD_MODEL,
                               .request = (uint64_t)2 << 32,
                               .recovered = {.what = RECOVERY_REQUEST,
                                             .record = 1,
                                             .size = 100,
                                             .session = 7}});
    for (uint32_t i = 0; i < SLOTS; i++) {
        comes_up(w, i, 1);
        assert_int_equal(seen_count(w, ACTION_DISPATCH), i == slot);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_session_has_one_slot_and_slots_have_their_share),
        STORY(it_waits_for_its_slot_while_others_are_idle),
        STORY(scaling_moves_only_the_sessions_of_what_comes_or_goes),
        STORY(one_without_a_state_moves_while_its_slot_is_down_and_comes_back),
        STORY(one_that_waits_is_there_when_its_slot_is_and_refused_where_that_is_stopped),
        STORY(one_whose_slot_is_broken_hears_when_that_is_tried),
        STORY(its_requests_run_in_the_order_of_the_queue),
        STORY(a_batch_holds_several_sessions_of_its_slot_and_no_other),
        STORY(waiting_has_the_bounds_of_deadline_and_queue),
        STORY(one_with_a_state_runs_again_there_before_what_waited),
        STORY(a_state_that_is_left_by_scaling_is_told),
        STORY(it_stays_where_a_spare_takes_over),
        STORY(one_that_is_recovered_keeps_its_session),
    };
    return cmocka_run_group_tests_name("core_session", tests, NULL, NULL);
}
