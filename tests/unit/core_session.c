/* Requests of one session run in one slot, as long as it is there. */
#include "tests/unit/core_world.h"

enum { SLOTS = 4, SESSIONS = 100 };

static uint64_t submit_in(struct world *w, uint64_t session)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = id,
                               .submitted = {.size = 100, .session = session}});
    return id;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_session_has_one_slot_and_slots_have_their_share),
        STORY(it_waits_for_its_slot_while_others_are_idle),
        STORY(scaling_moves_only_the_sessions_of_what_comes_or_goes),
        STORY(one_without_a_state_moves_while_its_slot_is_down_and_comes_back),
        STORY(one_that_waits_is_there_when_its_slot_is_and_refused_where_that_is_stopped),
    };
    return cmocka_run_group_tests_name("core_session", tests, NULL, NULL);
}
