/* Programs, which know nothing of requests, and what starts and stops after what. */
#include "tests/unit/core_world.h"

enum { AFTER = 1 /* a model that comes after the program */ };

static void set_program(struct world *w, enum model_kind kind, enum revival revival)
{
    w->policy.kind = kind;
    w->policy.revival = revival;
    set_model(w, false);
}

static void set_after(struct world *w, bool required)
{
    struct model_policy policy = w->policy;
    policy.kind = KIND_WORKERS;
    policy.after.count = 1;
    policy.after.list[0].model = WORLD_MODEL;
    policy.after.list[0].required = required;
    world_do(w, (struct event){
                    .type = EVENT_MODEL_SET, .model = AFTER, .model_set = {.policy = &policy}});
}

/* To the model that comes after. */
static uint64_t submit_after(struct world *w)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = AFTER,
                               .request = id,
                               .submitted = {.size = 9}});
    return id;
}

static void probed(struct world *w, enum question probe, bool well)
{
    struct event event = of_worker(w, EVENT_PROBED, 0);
    event.probed.probe = probe;
    event.probed.well = well;
    world_do(w, event);
}

static void a_program_is_ready_as_soon_as_it_runs(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    assert_int_equal(state_of(w, 0), SLOT_STARTING);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    assert_refused(w, submit(w), REFUSED_NOT_FOUND);
}

static void one_that_tells_is_ready_when_it_says_so(void **state)
{
    struct world *w = *state;
    w->policy.tells = true;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 0), SLOT_LOADING);
    says(w, EVENT_WORKER_READY, 0);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void one_that_never_says_so_has_failed_to_start(void **state)
{
    struct world *w = *state;
    w->policy.tells = true;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    world_pass(w, 30 * HASUP_S + 10 * HASUP_MS);
    assert_int_equal(seen_notices(w, NOTICE_START_TIMEOUT), 1);
    assert_int_equal(seen_count(w, ACTION_KILL), 1);
}

static void one_that_is_probed_is_ready_when_its_probe_succeeds(void **state)
{
    struct world *w = *state;
    w->policy.probes[PROBE_READY].interval = HASUP_S;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(seen(w, ACTION_PROBE)->probe, PROBE_READY);
    probed(w, PROBE_READY, false);
    assert_int_equal(state_of(w, 0), SLOT_LOADING);
    world_pass(w, 990 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_PROBE), 0);
    world_pass(w, 20 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_PROBE), 1);
    probed(w, PROBE_READY, true);
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void one_that_fails_its_probes_in_a_row_hangs(void **state)
{
    struct world *w = *state;
    static const bool WELL[] = {false, true, false, false}; /* what is well ends the row */
    w->policy.probes[PROBE_LIVE].interval = HASUP_S;
    w->policy.probes[PROBE_LIVE].failures = 2;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    for (size_t i = 0; i < HASUP_LEN(WELL); i++) {
        assert_int_equal(state_of(w, 0), SLOT_READY);
        world_pass(w, 1010 * HASUP_MS);
        assert_int_equal(seen(w, ACTION_PROBE)->probe, PROBE_LIVE);
        probed(w, PROBE_LIVE, WELL[i]);
    }
    assert_int_equal(seen_notices(w, NOTICE_HUNG), 1);
    assert_int_equal(state_of(w, 0), SLOT_KILLING);
    probed(w, PROBE_LIVE, true); /* late */
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
}

static void whether_one_that_ended_runs_again_is_its_policys(void **state)
{
    struct world *w = *state;
    static const enum slot_state NEXT[3][2] = {
        [REVIVE_ALWAYS] = {SLOT_BACKOFF, SLOT_BACKOFF}, /* ended with 0; died */
        [REVIVE_ON_FAILURE] = {SLOT_DONE, SLOT_BACKOFF},
        [REVIVE_NEVER] = {SLOT_DONE, SLOT_BROKEN},
    };
    for (int revival = REVIVE_ALWAYS; revival <= REVIVE_NEVER; revival++) {
        set_program(w, KIND_PROGRAM, (enum revival)revival);
        for (int died = 0; died < 2; died++) {
            command(w, CORE_ALL_SLOTS, COMMAND_START);
            says(w, EVENT_SPAWNED, 0);
            if (died)
                dies(w, 0);
            else
                leaves(w, 0);
            assert_int_equal(state_of(w, 0), NEXT[revival][died]);
            world_pass(w, died || revival == REVIVE_ALWAYS ? 50 * HASUP_MS : 3600 * HASUP_S);
            assert_int_equal(seen_count(w, ACTION_SPAWN), 0);
        }
    }
}

static void promise_7_one_that_was_healthy_comes_back_at_once(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    world_pass(w, 11 * HASUP_S);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_SPAWN), 1);
}

static void stopping_one_terminates_it_and_it_stays_stopped(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    command(w, 0, COMMAND_STOP);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 1);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    leaves(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_STOPPED);
}

static void an_essential_program_that_is_done_ends_hasupd_but_no_oneshot(void **state)
{
    struct world *w = *state;
    w->policy.essential = true;
    set_program(w, KIND_ONESHOT, REVIVE_NEVER);
    says(w, EVENT_SPAWNED, 0);
    leaves(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_DONE);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
    set_program(w, KIND_PROGRAM, REVIVE_NEVER);
    command(w, 0, COMMAND_START);
    says(w, EVENT_SPAWNED, 0);
    leaves(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 1);
}

static void who_requires_a_oneshot_starts_when_it_has_succeeded(void **state)
{
    struct world *w = *state;
    struct slot_view view;
    set_program(w, KIND_ONESHOT, REVIVE_ON_FAILURE);
    set_after(w, true);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    assert_true(core_slot_view(w->core, 1, &view));
    assert_int_equal(view.waits_for, WORLD_MODEL);
    says(w, EVENT_SPAWNED, 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    world_pass(w, 130 * HASUP_MS);
    says(w, EVENT_SPAWNED, 0);
    leaves(w, 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 1);
}

static void who_only_comes_after_starts_also_when_it_has_failed(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_ONESHOT, REVIVE_NEVER);
    set_after(w, false);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    dies(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BROKEN);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
}

static void who_hangs_has_failed_however_it_ends(void **state)
{
    struct world *w = *state;
    w->policy.timeouts.abort = HASUP_S;
    set_program(w, KIND_ONESHOT, REVIVE_NEVER);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    world_pass(w, 30 * HASUP_S + 10 * HASUP_MS);
    assert_int_equal(state_of(w, 0), SLOT_ABORTING);
    leaves(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_BROKEN);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
}

static void who_prepares_is_on_its_way(void **state)
{
    struct world *w = *state;
    w->policy.pre_start.on = true;
    w->policy.pre_start.timeout = w->policy.pre_start.interval = 10 * HASUP_S;
    w->policy.pre_start.retries = 1;
    w->policy.tells = true;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    w->policy.pre_start.on = w->policy.tells = false;
    set_after(w, false);
    says(w, EVENT_SPAWNED, 0);
    dies(w, 0); /* tried again after a while */
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    world_pass(w, 10 * HASUP_S + 10 * HASUP_MS);
    says(w, EVENT_SPAWNED, 0);
    says(w, EVENT_EXITED, 0);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    says(w, EVENT_TREE_EMPTY, 0);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 0), SLOT_LOADING);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    says(w, EVENT_WORKER_READY, 0);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
}

static void who_is_restarted_is_on_its_way(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    says(w, EVENT_SPAWNED, 0);
    world_do(w, (struct event){.type = EVENT_COMMAND,
                               .model = WORLD_MODEL,
                               .slot = CORE_ALL_SLOTS,
                               .command = COMMAND_RESTART});
    assert_int_equal(state_of(w, 0), SLOT_STOPPING);
    set_after(w, false);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    leaves(w, 0);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
}

static void what_is_removed_together_goes_in_order(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    comes_up(w, 1, 1);
    world_do(w, (struct event){.type = EVENT_MODEL_REMOVED, .model = AFTER});
    world_do(w, (struct event){.type = EVENT_MODEL_REMOVED, .model = WORLD_MODEL});
    assert_int_equal(state_of(w, 0), SLOT_READY);
    leaves(w, 1);
    assert_int_equal(state_of(w, 0), SLOT_STOPPING);
}

static void what_is_essential_and_waits_for_what_broke_is_lost(void **state)
{
    struct world *w = *state;
    w->policy.essential = false;
    set_program(w, KIND_ONESHOT, REVIVE_NEVER);
    w->policy.essential = true;
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 0);
    dies(w, 0);
    assert_int_equal(seen_notices(w, NOTICE_ESSENTIAL), 1);
}

static void one_that_is_done_holds_no_restart_of_the_others(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    set_program(w, KIND_PROGRAM, REVIVE_ON_FAILURE);
    says(w, EVENT_SPAWNED, 0);
    says(w, EVENT_SPAWNED, 1);
    leaves(w, 0);
    assert_int_equal(state_of(w, 0), SLOT_DONE);
    set_model(w, true);
    for (int i = 0; i < 4; i++)
        for (uint32_t slot = 0; slot < 2; slot++) {
            if (state_of(w, slot) == SLOT_STOPPING)
                leaves(w, slot);
            if (state_of(w, slot) == SLOT_STARTING)
                says(w, EVENT_SPAWNED, slot);
        }
    assert_int_equal(state_of(w, 0), SLOT_READY);
    assert_int_equal(state_of(w, 1), SLOT_READY);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_NONE);
}

static void requests_do_not_wait_for_what_has_failed(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_ONESHOT, REVIVE_NEVER);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    uint64_t queued = submit_after(w);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    dies(w, 0);
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    assert_refused(w, queued, REFUSED_UNAVAILABLE);
    assert_refused(w, submit_after(w), REFUSED_UNAVAILABLE);
    world_do(w, (struct event){.type = EVENT_COMMAND,
                               .model = WORLD_MODEL,
                               .slot = CORE_ALL_SLOTS,
                               .command = COMMAND_START}); /* somebody mended it */
    queued = submit_after(w);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
}

static void who_waits_for_one_that_is_removed_starts(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_ONESHOT, REVIVE_ON_FAILURE);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    world_do(w, (struct event){.type = EVENT_MODEL_REMOVED, .model = WORLD_MODEL});
    assert_int_equal(state_of(w, 1), SLOT_WAITING);
    leaves(w, 0);
    assert_int_equal(seen_count(w, ACTION_MODEL_GONE), 1);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
}

static void what_runs_goes_on_while_what_it_requires_is_down(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    comes_up(w, 1, 1);
    dies(w, 0);
    assert_int_equal(state_of(w, 1), SLOT_READY);
    says(w, EVENT_BROKE, 1); /* its own next start waits */
    says(w, EVENT_EXITED, 1);
    says(w, EVENT_TREE_EMPTY, 1);
    world_pass(w, 60 * HASUP_MS);
    assert_int_equal(state_of(w, 0), SLOT_BACKOFF);
    world_pass(w, 200 * HASUP_MS);
    says(w, EVENT_SPAWNED, 0);
    assert_int_equal(state_of(w, 1), SLOT_STARTING);
}

static void what_came_first_stops_last(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    set_after(w, false);
    says(w, EVENT_SPAWNED, 0);
    comes_up(w, 1, 1);
    shut_down(w, 60 * HASUP_S);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 1);
    assert_int_equal(state_of(w, 0), SLOT_READY);
    leaves(w, 1);
    assert_int_equal(seen(w, ACTION_TERMINATE)->slot, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 0);
    leaves(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void who_is_in_a_hurry_stops_all_at_once(void **state)
{
    struct world *w = *state;
    set_program(w, KIND_PROGRAM, REVIVE_ALWAYS);
    set_after(w, true);
    says(w, EVENT_SPAWNED, 0);
    comes_up(w, 1, 1);
    shut_down(w, 60 * HASUP_S);
    shut_down(w, 60 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_TERMINATE), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_program_is_ready_as_soon_as_it_runs),
        STORY(one_that_tells_is_ready_when_it_says_so),
        STORY(one_that_never_says_so_has_failed_to_start),
        STORY(one_that_is_probed_is_ready_when_its_probe_succeeds),
        STORY(one_that_fails_its_probes_in_a_row_hangs),
        STORY(whether_one_that_ended_runs_again_is_its_policys),
        STORY(promise_7_one_that_was_healthy_comes_back_at_once),
        STORY(stopping_one_terminates_it_and_it_stays_stopped),
        STORY(an_essential_program_that_is_done_ends_hasupd_but_no_oneshot),
        STORY(who_requires_a_oneshot_starts_when_it_has_succeeded),
        STORY(who_only_comes_after_starts_also_when_it_has_failed),
        STORY(who_hangs_has_failed_however_it_ends),
        STORY(who_prepares_is_on_its_way),
        STORY(who_is_restarted_is_on_its_way),
        STORY(what_is_removed_together_goes_in_order),
        STORY(what_is_essential_and_waits_for_what_broke_is_lost),
        STORY(one_that_is_done_holds_no_restart_of_the_others),
        STORY(requests_do_not_wait_for_what_has_failed),
        STORY(who_waits_for_one_that_is_removed_starts),
        STORY(what_runs_goes_on_while_what_it_requires_is_down),
        STORY(what_came_first_stops_last),
        STORY(who_is_in_a_hurry_stops_all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
