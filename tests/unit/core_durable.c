/* When a durable request's client hears its answer, and what the journal is told about it. */
#include "tests/unit/core_world.h"

enum { CORE_LIMIT = 64 };

/* A core that remembers durable requests, with a model that journals all of them. */
static void begin_within(struct world *w, bool stateful, struct core_limits bounds)
{
    bounds.models = 2;
    bounds.slots = 32;
    bounds.requests = WORLD_REQUESTS;
    bounds.entries = CORE_LIMIT;
    actions_fini(&w->out);
    core_free(w->core);
    w->core = core_new(&bounds, 1);
    assert_non_null(w->core);
    assert_int_equal(actions_init(&w->out, w->core), 0);
    w->policy.journal = JOURNALS_ALWAYS;
    set_model(w, false);
    if (stateful)
        comes_back(w, 0, 4, 0);
    else
        comes_up(w, 0, 4);
}

static void begin(struct world *w, bool stateful)
{
    begin_within(w, stateful, (struct core_limits){0});
}

static void persisted(struct world *w, uint64_t request, enum persist what, int error)
{
    world_do(w, (struct event){.type = EVENT_PERSISTED,
                               .request = request,
                               .persisted = {.what = what, .error = error}});
}

/* Submitted with this key (0: none), and accepted by the journal. */
static uint64_t accepted(struct world *w, uint64_t key, bool async)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = id,
                               .submitted = {.size = 100, .key = {key, key}, .async = async}});
    const struct action *persist = seen(w, ACTION_PERSIST);
    assert_int_equal(persist->persist.what, PERSIST_ACCEPT);
    assert_false(persist->persist.lazy);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
    persisted(w, id, PERSIST_ACCEPT, 0);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 1);
    return id;
}

static void promise_3_an_answer_with_a_key_is_stored_before_it_is_told(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 7, false);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_RESULT);
    assert_false(seen(w, ACTION_PERSIST)->persist.lazy);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    persisted(w, request, PERSIST_RESULT, 0);
    assert_true(seen(w, ACTION_ANSWER)->answer.of == request);
}

static void promise_3_so_is_one_that_its_client_fetches_later(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, true);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_RESULT);
    persisted(w, request, PERSIST_RESULT, 0);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0); /* it was told that it is accepted */
}

static void promise_4_so_is_one_that_changed_a_state(void **state)
{
    struct world *w = *state;
    begin(w, true);
    uint64_t request = accepted(w, 0, false);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_RESULT);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    persisted(w, request, PERSIST_RESULT, 0);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 1);
}

static void promise_5_so_is_the_end_of_a_stream(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false);
    chunks(w, 0, request, 10, true);
    persisted(w, request, PERSIST_CHUNK, 0);
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_RESULT);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
}

static void promise_3_so_is_one_that_somebody_joined(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false), other = (uint64_t)1 << 32 | w->made++;
    world_do(w,
             (struct event){.type = EVENT_SUBMITTED, .request = other, .submitted = {.record = 1}});
    replies(w, 0, request);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_RESULT);
    persisted(w, request, PERSIST_RESULT, 0);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 2);
}

/* Somebody who comes with the key, or asks for record `record`, with so much time. */
static uint64_t comes(struct world *w, uint64_t key, uint64_t record, hasup_ns span)
{
    uint64_t id = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = id,
                               .submitted = {.size = 100,
                                             .key = {key, key},
                                             .record = record,
                                             .deadline = span ? w->now + span : 0}});
    return id;
}

/* A request with key 7 that waits in the queue for one second, as the only worker is gone. */
static uint64_t waits_a_second(struct world *w)
{
    begin(w, false);
    dies(w, 0);
    uint64_t request = comes(w, 7, 0, HASUP_S);
    persisted(w, request, PERSIST_ACCEPT, 0);
    return request;
}

static void who_left_and_has_the_key_can_come_again_while_it_had_time(void **state)
{
    struct world *w = *state;
    uint64_t first = waits_a_second(w), second = comes(w, 7, 0, 10 * HASUP_S);
    cancel(w, second);
    world_pass(w, 2 * HASUP_S); /* its worker does not come up meanwhile */
    assert_refused(w, first, REFUSED_DEADLINE);
    uint64_t third = comes(w, 7, 0, 10 * HASUP_S);
    assert_int_equal(w->count, 0); /* it waits with the request, which goes on */
    comes_up(w, 0, 4);
    assert_int_equal(seen(w, ACTION_DISPATCH)->request, first);
    replies(w, 0, first);
    persisted(w, first, PERSIST_RESULT, 0);
    assert_int_equal(seen(w, ACTION_ANSWER)->request, third);
}

static void its_time_ends_with_that_of_the_last_one_who_had_the_key(void **state)
{
    struct world *w = *state;
    uint64_t first = waits_a_second(w), second = comes(w, 7, 0, 2 * HASUP_S);
    cancel(w, second);
    world_pass(w, 3 * HASUP_S);
    assert_refused(w, first, REFUSED_DEADLINE);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_FORGET);
    comes_up(w, 0, 4);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
}

static void who_only_asks_for_it_by_its_number_gives_it_no_time(void **state)
{
    struct world *w = *state;
    uint64_t first = waits_a_second(w);
    uint64_t second = comes(w, 0, 1, 10 * HASUP_S), third = comes(w, 0, 1, 0);
    cancel(w, third);
    world_pass(w, 2 * HASUP_S);
    assert_refused(w, first, REFUSED_DEADLINE);
    assert_refused(w, second, REFUSED_DEADLINE); /* it hears how it ended */
    comes_up(w, 0, 4);
    assert_int_equal(seen_count(w, ACTION_DISPATCH), 0);
}

static void an_answer_that_nobody_can_come_back_for_is_told_at_once(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false);
    replies(w, 0, request);
    assert_true(seen(w, ACTION_ANSWER)->answer.of == 0);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_DONE);
    assert_true(seen(w, ACTION_PERSIST)->persist.lazy);
    assert_int_equal(seen_count(w, ACTION_FORGET), 0);
    persisted(w, request, PERSIST_DONE, 0);
    assert_int_equal(seen_count(w, ACTION_PERSIST), 0);
    assert_int_equal(seen_count(w, ACTION_FORGET), 1);
}

static void what_is_lazy_waits_for_company_and_not_for_ever(void **state)
{
    struct world *w = *state;
    begin(w, false);
    replies(w, 0, accepted(w, 0, false));
    world_pass(w, 5 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_SYNC), 0);
    world_pass(w, 10 * HASUP_MS);
    assert_int_equal(seen_count(w, ACTION_SYNC), 1);
    replies(w, 0, accepted(w, 0, false));
    accepted(w, 0, false); /* whose commit takes it along */
    world_pass(w, HASUP_S);
    assert_int_equal(seen_count(w, ACTION_SYNC), 0);
}

static void a_row_that_could_not_go_is_tried_again(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false);
    replies(w, 0, request);
    persisted(w, request, PERSIST_DONE, HASUP_EIO);
    assert_int_equal(seen_notices(w, NOTICE_NOT_STORED), 1);
    world_pass(w, 1100 * HASUP_MS);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_DONE);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    persisted(w, request, PERSIST_DONE, 0);
    assert_int_equal(seen_count(w, ACTION_FORGET), 1);
}

static void a_client_that_left_hears_nothing_and_its_row_goes(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false);
    cancel(w, request);
    replies(w, 0, request);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_DONE);
    persisted(w, request, PERSIST_DONE, 0);
    assert_int_equal(seen_count(w, ACTION_FORGET), 1);
}

static void a_shutdown_waits_until_the_rows_are_gone(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 0, false);
    replies(w, 0, request);
    shut_down(w, 60 * HASUP_S);
    assert_int_equal(seen_count(w, ACTION_SYNC), 1);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 0);
    persisted(w, request, PERSIST_DONE, 0);
    assert_int_equal(seen_count(w, ACTION_DRAIN), 1);
    dies(w, 0);
    assert_int_equal(seen_count(w, ACTION_EXIT), 1);
}

static void promise_5_who_heard_another_stream_does_not_go_on_with_this_one(void **state)
{
    struct world *w = *state;
    begin(w, false);
    uint64_t request = accepted(w, 7, false);
    chunks(w, 0, request, 10, true);
    uint64_t record = seen(w, ACTION_PERSIST)->record;
    persisted(w, request, PERSIST_CHUNK, 0);
    struct event again = {
        .type = EVENT_SUBMITTED,
        .model = WORLD_MODEL,
        .request = (uint64_t)1 << 32 | w->made++,
        .submitted = {.size = 100, .key = {7, 7}, .heard = 2, .heard_of = record}};
    world_do(w, again);
    assert_refused(w, again.request, REFUSED_GONE);
    again.request = (uint64_t)1 << 32 | w->made++;
    again.submitted.heard = 1;
    again.submitted.heard_of++; /* another record's stream, of which it has as much */
    world_do(w, again);
    assert_refused(w, again.request, REFUSED_GONE);
    again.request = (uint64_t)1 << 32 | w->made++;
    again.submitted.heard_of--;
    world_do(w, again);
    assert_int_equal(w->count, 0); /* waits for the second */
    chunks(w, 0, request, 10, true);
    persisted(w, request, PERSIST_CHUNK, 0);
    assert_int_equal(seen_of(w, ACTION_CHUNK, again.request)->chunk.number, 2);
}

/* The slot's next worker, when its backoff is over. */
static void comes_again(struct world *w)
{
    while (state_of(w, 0) != SLOT_STARTING)
        world_pass(w, 100 * HASUP_MS);
    comes_up(w, 0, 1);
}

static void promise_6_a_key_that_was_quarantined_is_free_again_with_its_body(void **state)
{
    struct world *w = *state;
    begin(w, false);
    w->policy.restart.start_limit = 0;
    set_model(w, false);
    uint64_t poison = accepted(w, 7, false);
    for (unsigned kills = 0; kills < 3; kills++) {
        dies(w, 0);
        if (kills < 2)
            comes_again(w);
    }
    assert_refused(w, poison, REFUSED_QUARANTINED);
    const struct action *letter = seen(w, ACTION_QUARANTINE);
    assert_int_equal(letter->record, 1);
    const struct event again = {.type = EVENT_SUBMITTED,
                                .model = WORLD_MODEL,
                                .request = (uint64_t)1 << 32 | w->made++,
                                .submitted = {.size = 100, .key = {7, 7}}};
    uint64_t hash[2] = {letter->quarantine.hash[0], letter->quarantine.hash[1]};
    world_do(w, again);
    assert_refused(w, again.request, REFUSED_QUARANTINED); /* one key, one answer */
    struct event lifted = {.type = EVENT_LIFTED};
    memcpy(lifted.lifted.hash, hash, sizeof hash);
    world_do(w, lifted);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_FORGET);
    world_do(w, again);
    assert_int_equal(seen_count(w, ACTION_REFUSE), 0);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_ACCEPT);
}

static void the_oldest_answers_go_where_their_bytes_are_too_many(void **state)
{
    struct world *w = *state;
    struct durable_view view;
    begin_within(w, false, (struct core_limits){.result_bytes = 1000});
    for (uint64_t i = 1; i <= 7; i++) {
        uint64_t request = accepted(w, i, false);
        replies(w, 0, request);
        world_do(
            w, (struct event){.type = EVENT_PERSISTED,
                              .request = request,
                              .persisted = {.what = PERSIST_RESULT, .size = i == 7 ? 5000 : 300}});
        unsigned gone = i < 4 ? 0 : i == 7 ? 3 : 1; /* the one that comes stays in any case */
        assert_int_equal(seen_count(w, ACTION_PERSIST), gone);
        core_durable_view(w->core, &view);
        assert_int_equal(view.finished, i < 4 ? i : i == 7 ? 1 : 3);
    }
    assert_int_equal(view.bytes, 5000);
    core_check(w->core);
}

/* ---- streams whose end is not stored ---- */

static void streams(struct world *w, uint64_t request, uint64_t size)
{
    chunks(w, 0, request, size, true);
    assert_int_equal(seen(w, ACTION_PERSIST)->persist.what, PERSIST_CHUNK);
    persisted(w, request, PERSIST_CHUNK, 0);
}

static void promise_8_streams_without_an_end_are_bounded_by_their_bytes(void **state)
{
    struct world *w = *state;
    begin_within(w, false, (struct core_limits){.stream_bytes = 1000});
    uint64_t first = accepted(w, 1, false), second = accepted(w, 2, false);
    streams(w, first, 600);
    streams(w, second, 400);
    chunks(w, 0, second, 1, true);
    assert_refused(w, second, REFUSED_OVERLOADED);
    assert_int_equal(seen_count(w, ACTION_CANCEL), 1);
    assert_int_equal(seen_count(w, ACTION_CHUNK), 0);
    replies(w, 0, second); /* what it kept goes with it */
    streams(w, first, 400);
    replies(w, 0, first);
    persisted(w, first, PERSIST_RESULT, 0);
    assert_non_null(seen_of(w, ACTION_ANSWER, first));
    uint64_t third = accepted(w, 3, false);
    streams(w, third, 1000);
    core_check(w->core);
}

static void what_a_log_keeps_of_an_answered_stream_is_the_request_alone(void **state)
{
    struct world *w = *state;
    begin_within(w, true, (struct core_limits){.stream_bytes = 1000});
    for (uint64_t i = 1; i <= 3; i++) {
        uint64_t request = accepted(w, i, false);
        streams(w, request, 1000);
        replies(w, 0, request);
        assert_int_equal(seen_count(w, ACTION_RELEASE), 0);
        persisted(w, request, PERSIST_RESULT, 0);
        assert_non_null(seen_of(w, ACTION_ANSWER, request));
        assert_non_null(seen_of(w, ACTION_RELEASE, request));
        assert_int_equal(seen_count(w, ACTION_FORGET), 0);
    }
    core_check(w->core);
}

/* ---- what is larger than the journal takes ---- */

static void replies_at_length(struct world *w, uint64_t request, uint64_t size)
{
    struct event event = of_worker(w, EVENT_REPLIED, 0);
    event.request = request;
    event.replied.size = size;
    world_do(w, event);
}

static void a_body_that_the_journal_does_not_take_is_refused_at_once(void **state)
{
    struct world *w = *state;
    begin_within(w, false, (struct core_limits){.durable_bytes = 99});
    uint64_t request = (uint64_t)1 << 32 | w->made++;
    world_do(w, (struct event){.type = EVENT_SUBMITTED,
                               .model = WORLD_MODEL,
                               .request = request,
                               .submitted = {.size = 100}});
    assert_refused(w, request, REFUSED_TOO_LARGE);
    assert_int_equal(seen_count(w, ACTION_PERSIST), 0);
}

static void an_answer_that_the_journal_does_not_take_is_refused_and_its_place_kept(void **state)
{
    struct world *w = *state;
    begin_within(w, true, (struct core_limits){.durable_bytes = 100});
    uint64_t request = accepted(w, 7, false);
    replies_at_length(w, request, 101);
    assert_refused(w, request, REFUSED_ANSWER_TOO_LARGE);
    const struct action *persist = seen(w, ACTION_PERSIST);
    assert_int_equal(persist->persist.what, PERSIST_RESULT);
    assert_true(persist->persist.refused);
    assert_int_equal(persist->persist.position, 1); /* the state changed */
    persisted(w, request, PERSIST_RESULT, 0);
    assert_int_equal(seen_count(w, ACTION_ANSWER), 0);
    replies_at_length(w, accepted(w, 7, false), 100); /* its key is free again */
    assert_false(seen(w, ACTION_PERSIST)->persist.refused);
    core_check(w->core);
}

static void an_answer_that_nobody_keeps_may_be_as_long_as_it_likes(void **state)
{
    struct world *w = *state;
    begin_within(w, false, (struct core_limits){.durable_bytes = 100});
    uint64_t request = accepted(w, 0, false);
    replies_at_length(w, request, 1000);
    assert_non_null(seen_of(w, ACTION_ANSWER, request));
}

static void a_chunk_that_the_journal_does_not_take_ends_its_stream(void **state)
{
    struct world *w = *state;
    begin_within(w, false, (struct core_limits){.durable_bytes = 100});
    uint64_t request = accepted(w, 7, false);
    chunks(w, 0, request, 101, true);
    assert_refused(w, request, REFUSED_ANSWER_TOO_LARGE);
    assert_int_equal(seen_count(w, ACTION_CANCEL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(promise_3_an_answer_with_a_key_is_stored_before_it_is_told),
        STORY(promise_3_so_is_one_that_its_client_fetches_later),
        STORY(promise_4_so_is_one_that_changed_a_state),
        STORY(promise_5_so_is_the_end_of_a_stream),
        STORY(promise_3_so_is_one_that_somebody_joined),
        STORY(who_left_and_has_the_key_can_come_again_while_it_had_time),
        STORY(its_time_ends_with_that_of_the_last_one_who_had_the_key),
        STORY(who_only_asks_for_it_by_its_number_gives_it_no_time),
        STORY(an_answer_that_nobody_can_come_back_for_is_told_at_once),
        STORY(what_is_lazy_waits_for_company_and_not_for_ever),
        STORY(a_row_that_could_not_go_is_tried_again),
        STORY(a_client_that_left_hears_nothing_and_its_row_goes),
        STORY(a_shutdown_waits_until_the_rows_are_gone),
        STORY(promise_5_who_heard_another_stream_does_not_go_on_with_this_one),
        STORY(promise_6_a_key_that_was_quarantined_is_free_again_with_its_body),
        STORY(the_oldest_answers_go_where_their_bytes_are_too_many),
        STORY(promise_8_streams_without_an_end_are_bounded_by_their_bytes),
        STORY(what_a_log_keeps_of_an_answered_stream_is_the_request_alone),
        STORY(a_body_that_the_journal_does_not_take_is_refused_at_once),
        STORY(an_answer_that_the_journal_does_not_take_is_refused_and_its_place_kept),
        STORY(an_answer_that_nobody_keeps_may_be_as_long_as_it_likes),
        STORY(a_chunk_that_the_journal_does_not_take_ends_its_stream),
    };
    return cmocka_run_group_tests_name("core_durable", tests, NULL, NULL);
}
