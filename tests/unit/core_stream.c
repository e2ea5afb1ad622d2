/* A stream goes on after its worker dies: no byte lost, none twice, or an honest end. */
#include "tests/unit/core_world.h"

static uint64_t begin(struct world *w)
{
    set_model(w, false);
    comes_up(w, 0, 1);
    replies(w, 0, submit(w));
    return submit(w);
}

static void run_again(struct world *w, uint64_t request)
{
    dies(w, 0);
    comes_up(w, 0, 1);
    assert_true(seen(w, ACTION_DISPATCH)->request == request);
}

static void promise_5_chunks_are_delivered_as_they_come(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    assert_true(seen(w, ACTION_CHUNK)->request == stream);
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 0);
    chunks(w, 0, stream, 0, true);
    assert_int_equal(seen_count(w, ACTION_CHUNK), 0); /* nothing in it */
    replies(w, 0, stream);
    assert_non_null(seen_of(w, ACTION_ANSWER, stream));
}

static void promise_5_a_rerun_skips_what_the_client_has(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    chunks(w, 0, stream, 5, true);
    run_again(w, stream);
    chunks(w, 0, stream, 12, true); /* chunks may be cut otherwise */
    assert_int_equal(seen_count(w, ACTION_CHUNK), 0);
    chunks(w, 0, stream, 8, true);
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 3);
    chunks(w, 0, stream, 4, true);
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 0);
    replies(w, 0, stream);
    assert_int_equal(seen(w, ACTION_ANSWER)->answer.attempts, 2);
}

static void promise_5_a_run_that_goes_on_in_the_middle_is_counted_from_there(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    dies(w, 0);
    struct event hello = of_worker(w, EVENT_HELLO, 0);
    hello.hello.concurrency = 1;
    hello.hello.resumable = true;
    says(w, EVENT_SPAWNED, 0);
    world_do(w, hello);
    says(w, EVENT_WORKER_READY, 0);
    assert_true(seen(w, ACTION_DISPATCH)->dispatch.resume);
    assert_int_equal(seen(w, ACTION_DISPATCH)->dispatch.sent, 10);
    struct event resumed = of_worker(w, EVENT_RESUMED, 0);
    resumed.request = stream;
    resumed.resumed.from = 6;
    world_do(w, resumed);
    chunks(w, 0, stream, 7, true);
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 4);
    replies(w, 0, stream);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_5_who_cannot_go_on_begins_at_the_start(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    run_again(w, stream);
    assert_false(seen(w, ACTION_DISPATCH)->dispatch.resume);
}

static void progress_shows_that_a_worker_lives(void **state)
{
    struct world *w = *state;
    uint64_t request = begin(w);
    struct event progress = of_worker(w, EVENT_PROGRESSED, 0);
    progress.request = request;
    for (int i = 0; i < 5; i++) {
        world_pass(w, w->policy.timeouts.attempt * 3 / 4);
        world_do(w, progress);
        assert_int_equal(seen_count(w, ACTION_KILL), 0);
    }
    assert_int_equal(state_of(w, 0), SLOT_READY);
}

static void promise_5_a_chunk_that_ends_where_the_client_stands_adds_nothing(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    run_again(w, stream);
    chunks(w, 0, stream, 10, true);
    assert_int_equal(seen_count(w, ACTION_CHUNK), 0);
    replies(w, 0, stream);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_5_a_second_death_skips_again_from_the_start(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    run_again(w, stream);
    chunks(w, 0, stream, 4, true);
    dies(w, 0);
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, 0, 1);
    assert_int_equal(seen(w, ACTION_DISPATCH)->dispatch.attempt, 3);
    chunks(w, 0, stream, 30, true);
    assert_int_equal(seen(w, ACTION_CHUNK)->chunk.skip, 10);
}

static void promise_5_a_rerun_that_differs_ends_honestly(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    run_again(w, stream);
    chunks(w, 0, stream, 6, false);
    assert_int_equal(seen_count(w, ACTION_CHUNK), 0);
    assert_refused(w, stream, REFUSED_DIVERGED);
    assert_true(seen(w, ACTION_CANCEL)->request == stream);
    chunks(w, 0, stream, 60, true);
    assert_int_equal(w->count, 0);
    replies(w, 0, stream);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    assert_non_null(seen_of(w, ACTION_FORGET, stream));
}

static void promise_5_a_rerun_that_is_shorter_ends_honestly(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    run_again(w, stream);
    chunks(w, 0, stream, 9, true);
    replies(w, 0, stream);
    assert_refused(w, stream, REFUSED_DIVERGED);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    assert_non_null(seen_of(w, ACTION_FORGET, stream));
}

static void nothing_is_delivered_after_the_client_left(void **state)
{
    struct world *w = *state;
    uint64_t stream = begin(w);
    chunks(w, 0, stream, 10, true);
    cancel(w, stream);
    assert_int_equal(seen_count(w, ACTION_CANCEL), 1);
    chunks(w, 0, stream, 10, true);
    assert_int_equal(w->count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_5_chunks_are_delivered_as_they_come),
        STORY(promise_5_a_rerun_skips_what_the_client_has),
        STORY(promise_5_a_run_that_goes_on_in_the_middle_is_counted_from_there),
        STORY(promise_5_who_cannot_go_on_begins_at_the_start),
        STORY(progress_shows_that_a_worker_lives),
        STORY(promise_5_a_chunk_that_ends_where_the_client_stands_adds_nothing),
        STORY(promise_5_a_second_death_skips_again_from_the_start),
        STORY(promise_5_a_rerun_that_differs_ends_honestly),
        STORY(promise_5_a_rerun_that_is_shorter_ends_honestly),
        STORY(nothing_is_delivered_after_the_client_left),
    };
    return cmocka_run_group_tests_name("core_stream", tests, NULL, NULL);
}
