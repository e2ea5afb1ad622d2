/* Workers replaced without a gap, rolled back where the new ones do not come up; canaries. */
#include "tests/unit/core_world.h"

enum { OLD = 1, NEW = 2, NEWER = 3 };

static void set_version(struct world *w, uint32_t version, bool restart, uint32_t canary)
{
    world_do(w, (struct event){.type = EVENT_MODEL_SET,
                               .model = WORLD_MODEL,
                               .model_set = {.policy = &w->policy,
                                             .restart = restart,
                                             .version = version,
                                             .canary = canary}});
}

/* `workers` of the old version that serve, and a policy that lets one stand in. */
static void old_serves(struct world *w, uint32_t workers)
{
    w->policy.workers = workers;
    w->policy.rollout.max_surge = 1;
    w->policy.rollout.progress_deadline = 60 * HASUP_S;
    w->policy.rollout.abort_error_rate = 5;
    w->policy.rollout.abort_min_requests = 10;
    set_version(w, OLD, false, 0);
    for (uint32_t i = 0; i < workers; i++)
        comes_up(w, i, 1);
}

static struct slot_view slot_seen(const struct world *w, uint32_t slot)
{
    struct slot_view view = {0};
    assert_true(core_slot_view(w->core, slot, &view));
    return view;
}

/* The nth that was told of a rollout. */
static void assert_told(const struct world *w, unsigned nth, enum rollout_state from,
                        enum rollout_state to, enum rollout_why why, uint32_t version,
                        uint32_t other)
{
    const struct action *action = seen_nth(w, ACTION_ROLLOUT, nth);
    assert_non_null(action);
    assert_int_equal(action->rollout.from, from);
    assert_int_equal(action->rollout.to, to);
    assert_int_equal(action->rollout.why, why);
    assert_int_equal(action->rollout.version, version);
    assert_int_equal(action->rollout.other, other);
}

/* The only thing that was told. */
static void assert_rollout(const struct world *w, enum rollout_state from, enum rollout_state to,
                           enum rollout_why why, uint32_t version, uint32_t other)
{
    assert_int_equal(seen_count(w, ACTION_ROLLOUT), 1);
    assert_told(w, 0, from, to, why, version, other);
    assert_int_equal(model_seen(w).rollout.state, to);
}

/* The old worker of the slot finishes, and a new one comes up in its place. */
static void takes_its_turn(struct world *w, uint32_t slot, uint32_t version)
{
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, slot);
    leaves(w, slot);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, version);
    comes_up(w, slot, 1);
}

static void a_new_worker_is_ready_before_an_old_one_drains(void **state)
{
    struct world *w = *state;
    old_serves(w, 2);
    set_version(w, NEW, true, 0);
    assert_rollout(w, ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_FINE, NEW, OLD);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    assert_int_equal(seen(w, ACTION_SLOT_ADDED)->ordinal, 2);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, NEW);
    assert_true(slot_seen(w, 2).extra);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, NEW);
    assert_int_equal(model_seen(w).ready, 2); /* and slot 1 has its turn already */
    takes_its_turn(w, 1, NEW);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_FINE, NEW, 0);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 2);
    leaves(w, 2);
    assert_int_equal(seen(w, ACTION_SLOT_REMOVED)->slot, 2);
    assert_int_equal(model_seen(w).ready, 2);
}

static void promise_1_requests_in_hand_are_answered_before_an_old_worker_goes(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    uint64_t first = submit(w);
    set_version(w, NEW, true, 0);
    comes_up(w, 1, 1);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 0);
    uint64_t second = submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
    replies(w, 0, first);
    assert_non_null(seen_of(w, ACTION_ANSWER, first));
    replies(w, 1, second);
    assert_non_null(seen_of(w, ACTION_ANSWER, second));
}

static void max_surge_and_max_unavailable_bound_what_goes_on_at_once(void **state)
{
    struct world *w = *state;
    w->policy.rollout.max_unavailable = 1;
    old_serves(w, 4);
    w->policy.rollout.max_surge = 2;
    set_version(w, NEW, true, 0);
    assert_int_equal(seen_count(w, ACTION_SLOT_ADDED), 2);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
    comes_up(w, 4, 1);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
    comes_up(w, 5, 1);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1); /* three at once, the first among them */
    assert_int_equal(model_seen(w).ready, 3);
}

static void a_stateful_slot_is_replaced_in_place(void **state)
{
    struct world *w = *state;
    w->policy.workers = 2;
    w->policy.rollout.max_surge = 1;
    set_version(w, OLD, false, 0);
    comes_back(w, 0, 1, 0);
    comes_back(w, 1, 1, 0);
    set_version(w, NEW, true, 0);
    assert_int_equal(seen_count(w, ACTION_SLOT_ADDED), 0);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 0);
    leaves(w, 0);
    comes_back(w, 0, 1, 0);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 1);
    leaves(w, 1);
    comes_back(w, 1, 1, 0);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_FINE, NEW, 0);
}

static void a_version_that_begins_to_keep_state_has_no_extra_slot(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, true, 0);
    greets(w, 1, 1, true);
    assert_int_equal(seen_count(w, ACTION_LOAD_CHECKPOINT), 0);
    assert_int_equal(seen(w, ACTION_TERMINATE)->slot, 1);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 0);
    leaves(w, 1);
    leaves(w, 0);
    comes_back(w, 0, 1, 0);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_NONE);
}

static void what_is_not_ready_in_time_is_rolled_back(void **state)
{
    struct world *w = *state;
    old_serves(w, 2);
    w->policy.timeouts.start = 0;
    set_version(w, NEW, true, 0);
    says(w, EVENT_SPAWNED, 2);
    world_pass(w, 59 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_ROLLOUT), 0);
    world_pass(w, 2 * HASUP_S);
    assert_told(w, 0, ROLLOUT_ROLLING, ROLLOUT_REVERTING, ROLLOUT_LATE, OLD, 0);
    assert_told(w, 1, ROLLOUT_REVERTING, ROLLOUT_NONE, ROLLOUT_LATE, OLD, 0);
    assert_int_equal(seen_nth(w, ACTION_ROLLOUT, 0)->slot, 2);
    assert_int_equal(seen(w, ACTION_TERMINATE)->slot, 2);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    assert_int_equal(model_seen(w).ready, 2);
}

/* The present worker dies, and the next ones, until the breaker opens. */
static void breaks(struct world *w, uint32_t slot)
{
    for (int run = 0; run < 5; run++) {
        dies(w, slot);
        if (run < 4)
            world_pass(w, 15 * HASUP_S);
    }
}

static void what_breaks_is_rolled_back_and_so_is_what_was_replaced_already(void **state)
{
    struct world *w = *state;
    old_serves(w, 2);
    set_version(w, NEW, true, 0);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, NEW);
    leaves(w, 1);
    breaks(w, 1);
    assert_told(w, 0, ROLLOUT_ROLLING, ROLLOUT_REVERTING, ROLLOUT_BROKEN, OLD, 0);
    const struct action *spawn = seen(w, ACTION_SPAWN);
    assert_true(spawn->slot == 1 && spawn->version == OLD); /* it serves nothing, so at once */
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 2);       /* the extra one is the new version's */
    leaves(w, 2);
    comes_up(w, 1, 1);
    spawn = seen(w, ACTION_SPAWN); /* one more stands in while slot 0 goes back */
    assert_true(spawn->slot == 2 && spawn->version == OLD);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, OLD);
    assert_told(w, 0, ROLLOUT_REVERTING, ROLLOUT_NONE, ROLLOUT_BROKEN, OLD, 0);
    for (uint32_t slot = 0; slot < 2; slot++)
        assert_int_equal(slot_seen(w, slot).version, OLD);
}

/* What serves goes on, new as it is, until somebody says more. */
static void a_rollback_that_breaks_for_good_leaves_who_serves_alone(void **state)
{
    struct world *w = *state;
    w->policy.restart.breaker = 0;
    old_serves(w, 2);
    set_version(w, NEW, true, 0);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, NEW);
    leaves(w, 1);
    breaks(w, 1); /* rolled back, */
    leaves(w, 2);
    breaks(w, 1); /* and again */
    assert_int_equal(slot_seen(w, 1).state, SLOT_BROKEN);
    world_pass(w, 24 * 3600 * HASUP_S);
    assert_int_equal(w->count, 0);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_REVERTING);
    replies(w, 0, submit(w));
    command(w, 1, COMMAND_START);
    comes_up(w, 1, 1);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, OLD);
    assert_told(w, 0, ROLLOUT_REVERTING, ROLLOUT_NONE, ROLLOUT_BROKEN, OLD, 0);
}

static void the_old_policy_comes_back_and_the_number_of_workers_stays(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    w->policy.workers = 2;
    w->policy.queue.requests = 1;
    set_version(w, NEW, true, 0);
    submit(w); /* in flight; then one waits, and the next is refused */
    submit(w);
    uint64_t refused = submit(w);
    assert_refused(w, refused, REFUSED_OVERLOADED);
    world_pass(w, 61 * HASUP_S);
    assert_int_equal(model_seen(w).rollout.version, OLD);
    assert_int_equal(model_seen(w).slots, 3); /* the extra one is told to go */
    submit(w);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
}

static void without_a_version_that_ever_worked_there_is_nothing_to_go_back_to(void **state)
{
    struct world *w = *state;
    w->policy.rollout.max_surge = 1;
    w->policy.rollout.progress_deadline = 20 * HASUP_S;
    set_version(w, OLD, false, 0);
    says(w, EVENT_SPAWNED, 0);
    set_version(w, NEW, true, 0);
    assert_rollout(w, ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_FINE, NEW, 0);
    assert_int_equal(seen(w, ACTION_TERMINATE)->slot, 0);
    leaves(w, 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, NEW);
    says(w, EVENT_SPAWNED, 0);
    world_pass(w, 21 * HASUP_S);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_LATE, NEW, 0);
    comes_up(w, 0, 1);
    set_version(w, NEWER, true, 0);
    assert_rollout(w, ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_FINE, NEWER, NEW);
}

static void one_that_crashes_before_its_turn_comes_back_as_what_it_was(void **state)
{
    struct world *w = *state;
    old_serves(w, 3);
    world_pass(w, 20 * HASUP_S);
    set_version(w, NEW, true, 0);
    says(w, EVENT_SPAWNED, 3);
    dies(w, 2);
    const struct action *spawn = seen(w, ACTION_SPAWN);
    assert_true(spawn->slot == 2 && spawn->version == OLD);
}

static void what_is_newer_still_takes_the_place_of_what_is_new(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, true, 0);
    says(w, EVENT_SPAWNED, 1);
    set_version(w, NEWER, true, 0);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_ROLLING, ROLLOUT_FINE, NEWER, OLD);
    assert_int_equal(seen(w, ACTION_TERMINATE)->slot, 1);
    leaves(w, 1);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, NEWER);
    says(w, EVENT_SPAWNED, 1);
    world_pass(w, 61 * HASUP_S);
    assert_int_equal(model_seen(w).rollout.version, OLD);
}

static void a_restart_has_somebody_stand_in_too(void **state)
{
    struct world *w = *state;
    old_serves(w, 2);
    command(w, CORE_ALL_SLOTS, COMMAND_RESTART);
    assert_rollout(w, ROLLOUT_NONE, ROLLOUT_ROLLING, ROLLOUT_FINE, OLD, 0);
    assert_int_equal(seen(w, ACTION_SPAWN)->slot, 2);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, OLD);
    takes_its_turn(w, 1, OLD);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_FINE, OLD, 0);
}

static void a_restart_that_does_not_come_up_leaves_the_others_alone(void **state)
{
    struct world *w = *state;
    old_serves(w, 2);
    command(w, CORE_ALL_SLOTS, COMMAND_RESTART);
    says(w, EVENT_SPAWNED, 2);
    world_pass(w, 61 * HASUP_S);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_LATE, OLD, 0);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    assert_int_equal(model_seen(w).ready, 2);
}

static void scaling_up_takes_the_extra_slot_and_another_one_stands_in(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, true, 0);
    w->policy.workers = 2;
    set_version(w, NEW, false, 0);
    assert_false(slot_seen(w, 1).extra);
    comes_up(w, 1, 1);
    assert_true(slot_seen(w, 2).extra);
    comes_up(w, 2, 1);
    takes_its_turn(w, 0, NEW);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 2);
    leaves(w, 2);
    assert_int_equal(model_seen(w).slots, 2);
}

static void a_full_table_lets_one_at_a_time_be_down(void **state)
{
    struct world *w = *state;
    old_serves(w, 32);
    set_version(w, NEW, true, 0);
    takes_its_turn(w, 0, NEW);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 1);
    assert_int_equal(model_seen(w).ready, 31);
}

static void stopping_the_model_ends_its_rollout(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, true, 0);
    command(w, CORE_ALL_SLOTS, COMMAND_STOP);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_STOPPED, NEW, 0);
    leaves(w, 0);
    leaves(w, 1);
    assert_int_equal(model_seen(w).slots, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_START);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, NEW);
}

/* ---- canaries ---- */

static void canary_serves(struct world *w, uint32_t workers, uint32_t weight)
{
    old_serves(w, workers);
    set_version(w, NEW, false, weight);
    assert_rollout(w, ROLLOUT_NONE, ROLLOUT_CANARY, ROLLOUT_FINE, OLD, NEW);
    assert_int_equal(seen(w, ACTION_SPAWN)->version, NEW);
    comes_up(w, workers, 1);
}

/* One after the other; how many the canary was given. */
static unsigned canary_share(struct world *w, unsigned requests, bool fails)
{
    unsigned given = 0;
    for (unsigned i = 0; i < requests; i++) {
        uint64_t request = submit(w);
        uint32_t slot = seen(w, ACTION_DISPATCH)->slot;
        bool canary = slot_seen(w, slot).version != model_seen(w).rollout.version;
        struct event event = of_worker(w, EVENT_REPLIED, slot);
        event.request = request;
        event.replied.failed = fails && canary;
        world_do(w, event);
        given += canary;
        if (model_seen(w).rollout.state != ROLLOUT_CANARY)
            break;
    }
    return given;
}

static void a_canary_gets_its_share_and_no_more(void **state)
{
    struct world *w = *state;
    canary_serves(w, 2, 10);
    assert_int_equal(canary_share(w, 100, false), 10);
    set_version(w, NEW, false, 50);
    assert_int_equal(canary_share(w, 100, false), 50);
    assert_int_equal(model_seen(w).ready, 3);
}

static void a_request_waits_for_the_stable_version_where_the_canary_is_not_due(void **state)
{
    struct world *w = *state;
    canary_serves(w, 1, 10);
    uint64_t first = submit(w), second = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    replies(w, 0, first);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, second)->slot, 0);
    dies(w, 0); /* nobody else is there: the share is no reason to wait */
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
}

/* It is a model whose policy is set, no more. */
static void a_weight_of_zero_is_no_canary(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, false, 0);
    assert_int_equal(seen_count(w, ACTION_ROLLOUT) + seen_count(w, ACTION_SPAWN), 0);
    assert_int_equal(model_seen(w).rollout.version, OLD);
    set_version(w, NEW, false, 50);
    comes_up(w, 1, 1);
    set_version(w, NEWER, false, 0);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_CANARY);
    assert_int_equal(canary_share(w, 100, false), 50);
}

static void a_greater_share_holds_for_what_waits_already(void **state)
{
    struct world *w = *state;
    canary_serves(w, 1, 10);
    submit(w);
    uint64_t waits = submit(w);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    set_version(w, NEW, false, 90);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, waits)->slot, 1);
}

static void a_canary_that_fails_more_often_is_aborted(void **state)
{
    struct world *w = *state;
    canary_serves(w, 2, 50);
    assert_int_equal(canary_share(w, 100, true), 10); /* abort_min_requests */
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_NONE);
    assert_told(w, 0, ROLLOUT_CANARY, ROLLOUT_NONE, ROLLOUT_ERRORS, OLD, 0);
    assert_int_equal(seen_nth(w, ACTION_ROLLOUT, 0)->slot, 2);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 2);
    leaves(w, 2);
    assert_int_equal(model_seen(w).ready, 2);
}

/* Every request fails in either version: the canary is not to blame. */
static void a_canary_is_compared_with_the_stable_version(void **state)
{
    struct world *w = *state;
    canary_serves(w, 1, 50);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t request = submit(w);
        struct event event = of_worker(w, EVENT_REPLIED, seen(w, ACTION_DISPATCH)->slot);
        event.request = request;
        event.replied.failed = true;
        world_do(w, event);
    }
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_CANARY);
}

/* However little of the requests the stable version has. */
static void what_the_stable_version_failed_is_not_forgotten(void **state)
{
    struct world *w = *state;
    w->policy.rollout.abort_min_requests = 1;
    w->policy.workers = 1;
    w->policy.rollout.max_surge = 1;
    set_version(w, OLD, false, 0);
    comes_up(w, 0, 1);
    set_version(w, NEW, false, 97);
    comes_up(w, 1, 1);
    bool failed = false;
    for (int i = 0; i < 100; i++) {
        uint64_t request = submit(w);
        struct event event = of_worker(w, EVENT_REPLIED, seen(w, ACTION_DISPATCH)->slot);
        failed |= event.slot == 0;
        event.request = request;
        event.replied.failed = failed;
        world_do(w, event);
    }
    assert_true(failed);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_CANARY);
}

static void promise_1_crashes_of_a_canary_count_and_its_requests_are_answered(void **state)
{
    struct world *w = *state;
    w->policy.restart.start_limit = 0;
    old_serves(w, 1);
    w->policy.rollout.abort_min_requests = 1;
    set_version(w, NEW, false, 100);
    comes_up(w, 1, 1);
    uint64_t request = submit(w);
    assert_int_equal(seen(w, ACTION_DISPATCH)->slot, 1);
    dies(w, 1);
    assert_told(w, 0, ROLLOUT_CANARY, ROLLOUT_NONE, ROLLOUT_ERRORS, OLD, 0);
    assert_int_equal(seen_of(w, ACTION_DISPATCH, request)->slot, 0);
    replies(w, 0, request);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
}

static void a_canary_is_promoted_or_aborted_by_command(void **state)
{
    struct world *w = *state;
    canary_serves(w, 1, 10);
    command(w, CORE_ALL_SLOTS, COMMAND_ABORT);
    assert_rollout(w, ROLLOUT_CANARY, ROLLOUT_NONE, ROLLOUT_ORDERED, OLD, 0);
    leaves(w, 1);
    set_version(w, NEWER, false, 10);
    comes_up(w, 1, 1);
    command(w, CORE_ALL_SLOTS, COMMAND_PROMOTE);
    assert_rollout(w, ROLLOUT_CANARY, ROLLOUT_ROLLING, ROLLOUT_FINE, NEWER, OLD);
    takes_its_turn(w, 0, NEWER);
    assert_rollout(w, ROLLOUT_ROLLING, ROLLOUT_NONE, ROLLOUT_FINE, NEWER, 0);
    assert_int_equal(seen(w, ACTION_DRAIN)->slot, 1);
}

static void a_canary_that_does_not_come_up_goes(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, false, 10);
    breaks(w, 1);
    assert_rollout(w, ROLLOUT_CANARY, ROLLOUT_NONE, ROLLOUT_BROKEN, OLD, 0);
    assert_int_equal(seen(w, ACTION_SLOT_REMOVED)->slot, 1);
    set_version(w, NEWER, false, 10);
    says(w, EVENT_SPAWNED, 1);
    w->policy.timeouts.start = 0;
    world_pass(w, 61 * HASUP_S);
    assert_int_equal(model_seen(w).rollout.state, ROLLOUT_NONE);
}

static void an_ordered_abort_rolls_a_rollout_back(void **state)
{
    struct world *w = *state;
    old_serves(w, 1);
    set_version(w, NEW, true, 0);
    command(w, CORE_ALL_SLOTS, COMMAND_ABORT);
    assert_told(w, 0, ROLLOUT_ROLLING, ROLLOUT_REVERTING, ROLLOUT_ORDERED, OLD, 0);
    assert_int_equal(model_seen(w).ready, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_new_worker_is_ready_before_an_old_one_drains),
        STORY(promise_1_requests_in_hand_are_answered_before_an_old_worker_goes),
        STORY(max_surge_and_max_unavailable_bound_what_goes_on_at_once),
        STORY(a_stateful_slot_is_replaced_in_place),
        STORY(a_version_that_begins_to_keep_state_has_no_extra_slot),
        STORY(what_is_not_ready_in_time_is_rolled_back),
        STORY(what_breaks_is_rolled_back_and_so_is_what_was_replaced_already),
        STORY(a_rollback_that_breaks_for_good_leaves_who_serves_alone),
        STORY(the_old_policy_comes_back_and_the_number_of_workers_stays),
        STORY(without_a_version_that_ever_worked_there_is_nothing_to_go_back_to),
        STORY(one_that_crashes_before_its_turn_comes_back_as_what_it_was),
        STORY(what_is_newer_still_takes_the_place_of_what_is_new),
        STORY(a_restart_has_somebody_stand_in_too),
        STORY(a_restart_that_does_not_come_up_leaves_the_others_alone),
        STORY(scaling_up_takes_the_extra_slot_and_another_one_stands_in),
        STORY(a_full_table_lets_one_at_a_time_be_down),
        STORY(stopping_the_model_ends_its_rollout),
        STORY(a_canary_gets_its_share_and_no_more),
        STORY(a_request_waits_for_the_stable_version_where_the_canary_is_not_due),
        STORY(a_weight_of_zero_is_no_canary),
        STORY(a_greater_share_holds_for_what_waits_already),
        STORY(a_canary_that_fails_more_often_is_aborted),
        STORY(what_the_stable_version_failed_is_not_forgotten),
        STORY(a_canary_is_compared_with_the_stable_version),
        STORY(promise_1_crashes_of_a_canary_count_and_its_requests_are_answered),
        STORY(a_canary_is_promoted_or_aborted_by_command),
        STORY(a_canary_that_does_not_come_up_goes),
        STORY(an_ordered_abort_rolls_a_rollout_back),
    };
    return cmocka_run_group_tests_name("core rollout", tests, NULL, NULL);
}
