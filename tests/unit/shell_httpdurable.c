/* shell_httpdurable.c: the headers and routes of requests that their clients can come back for. */
#include "tests/unit/http_world.h"

#define HOST   "Host: t\r\n"
#define NUMBER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void invoke_with(const char *fields)
{
    char text[1024];
    snprintf(text, sizeof text,
             "POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 2\r\n%s\r\nhi", fields);
    ask(text);
}

static void an_idempotency_key_is_taken_with_and_without_quotes(void **state)
{
    (void)state;
    world_open(NULL);
    invoke_with("Idempotency-Key: \"8e03978e-40d5\"\r\n");
    assert_int_equal(got.status, 200);
    assert_string_equal(engine.key, "8e03978e-40d5");
    assert_string_equal(meta_text(HASUP_TAG_IDEMPOTENCY_KEY, NULL), "8e03978e-40d5");
    invoke_with("idempotency-key: plain\r\n");
    assert_string_equal(engine.key, "plain");
    invoke_with("");
    assert_string_equal(engine.key, "");
    assert_null(meta_text(HASUP_TAG_IDEMPOTENCY_KEY, NULL));
    world_close();
}

static void a_wrong_key_is_400(void **state)
{
    char text[512] = "Idempotency-Key: ";
    (void)state;
    world_open(NULL);
    invoke_with("Idempotency-Key: \"\"\r\n");
    assert_int_equal(got.status, 400);
    invoke_with("Idempotency-Key: a\r\nIdempotency-Key: b\r\n");
    assert_int_equal(got.status, 400);
    memset(text + 17, 'k', 256);
    strcpy(text + 17 + 256, "\r\n");
    invoke_with(text);
    assert_int_equal(got.status, 400);
    strcpy(text + 17 + 255, "\r\n");
    invoke_with(text);
    assert_int_equal(got.status, 200);
    assert_int_equal(engine.submitted, 1);
    world_close();
}

static void prefer_is_read_and_the_unknown_passed_over(void **state)
{
    (void)state;
    world_open(NULL);
    invoke_with("Prefer: foo=bar, wait=0\r\n");
    assert_true(engine.no_wait && !engine.async);
    invoke_with("Prefer: wait=10\r\n");
    assert_false(engine.no_wait);
    invoke_with("Last-Event-ID: 2f-41\r\nIdempotency-Key: k\r\n");
    assert_int_equal(engine.heard, 41);
    assert_int_equal(engine.heard_of, 0x2f);
    invoke_with("Last-Event-ID: 41\r\nIdempotency-Key: k\r\n"); /* of no run that is kept */
    assert_int_equal(engine.heard, 41);
    assert_int_equal(engine.heard_of, 0);
    invoke_with("Last-Event-ID: 41\r\n"); /* nobody can come back to it */
    assert_int_equal(engine.heard, 0);
    static const char *const WRONG[] = {"x",
                                        "-",
                                        "2f-",
                                        "-3",
                                        "2F-3",
                                        "2f-3x",
                                        "2f-2f-3",
                                        "12345678901234567",
                                        "12345678901234567-1"};
    for (size_t i = 0; i < HASUP_LEN(WRONG); i++) {
        char header[64];
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", WRONG[i]);
        invoke_with(header);
        assert_int_equal(got.status, 400);
    }
    world_close();
}

static bool submitted(void)
{
    return engine.submitted > 0;
}

static void respond_async_is_answered_202_with_its_place(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.mode = HOLD;
    engine.record = RECORD_QUEUED;
    client_open(&client);
    client_say(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST
                        "Prefer: respond-async\r\nContent-Length: 0\r\n\r\n");
    run_until(submitted, -1);
    assert_true(engine.async);
    fake_accept(engine.last);
    client_answer(&client);
    assert_int_equal(got.status, 202);
    assert_string_equal(got_header("Location"), "/requests/" NUMBER);
    assert_string_equal(got_header("Preference-Applied"), "respond-async");
    assert_string_equal(got.body, "{\"id\":\"" NUMBER "\",\"state\":\"queued\",\"attempts\":2,"
                                  "\"model\":\"m\"}");
    client_close(&client);
    world_close();
}

static void a_requests_state_and_answer_are_got_by_its_number(void **state)
{
    (void)state;
    world_open(NULL);
    engine.record = RECORD_RUNNING;
    ask("GET /requests/" NUMBER " HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 202);
    assert_int_equal(engine.asked, 0);
    engine.record = RECORD_DONE;
    ask("GET /requests/" NUMBER " HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    assert_int_equal(engine.asked, 1);
    ask("GET /requests/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 404);
    ask("GET /requests/short HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 404);
    ask("DELETE /requests/" NUMBER " HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    assert_int_equal(engine.dropped, 1);
    ask("POST /requests/" NUMBER " HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    assert_int_equal(got.status, 405);
    assert_string_equal(got_header("Allow"), "GET, HEAD, DELETE, OPTIONS");
    world_close();
}

static bool asked(void)
{
    return engine.asked > 0;
}

static void a_long_poll_ends_with_the_state_where_there_is_no_answer_yet(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.mode = HOLD;
    engine.record = RECORD_RUNNING;
    client_open(&client);
    client_say(&client, "GET /requests/" NUMBER " HTTP/1.1\r\n" HOST "Prefer: wait=5\r\n\r\n");
    run_until(asked, -1);
    assert_int_equal(engine.deadline, loop_now(world.loop) + 5 * HASUP_S);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    assert_int_equal(got.status, 202);
    client_close(&client);
    world_close();
}

static void a_long_poll_hears_that_the_time_of_its_request_is_over(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.mode = HOLD;
    engine.record = RECORD_REFUSED;
    client_open(&client);
    client_say(&client, "GET /requests/" NUMBER " HTTP/1.1\r\n" HOST "Prefer: wait=5\r\n\r\n");
    run_until(asked, -1);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    assert_int_equal(got.status, 504);
    client_close(&client);
    world_close();
}

static void a_stream_goes_on_behind_the_last_event_that_its_client_has(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.mode = HOLD;
    client_open(&client);
    client_say(&client, "POST /v2/models/m/generate_stream HTTP/1.1\r\n" HOST
                        "Idempotency-Key: k\r\nLast-Event-ID: 2f-3\r\nContent-Length: 0\r\n\r\n");
    run_until(submitted, -1);
    engine.run = 0x2f;
    assert_int_equal(engine.heard, 3);
    fake_chunk(engine.last, "four", 4);
    fake_text(engine.last, 200, "");
    client_head(&client);
    client_chunks(&client);
    assert_non_null(strstr(got.body, "id: 2f-4\ndata: four\n\n"));
    client_close(&client);
    world_close();
}

static void who_missed_only_the_end_of_a_stream_hears_it(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.mode = HOLD;
    client_open(&client);
    client_say(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST "Accept: text/event-stream\r\n"
                        "Idempotency-Key: k\r\nLast-Event-ID: 2f-3\r\nContent-Length: 0\r\n\r\n");
    run_until(submitted, -1);
    engine.run = 0x2f;
    fake_text(engine.last, 200, "");
    client_head(&client);
    client_chunks(&client);
    assert_non_null(strstr(got.body, "id: 2f-4\nevent: end\n"));
    client_close(&client);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idempotency_key_is_taken_with_and_without_quotes),
        cmocka_unit_test(a_wrong_key_is_400),
        cmocka_unit_test(prefer_is_read_and_the_unknown_passed_over),
        cmocka_unit_test(respond_async_is_answered_202_with_its_place),
        cmocka_unit_test(a_requests_state_and_answer_are_got_by_its_number),
        cmocka_unit_test(a_long_poll_ends_with_the_state_where_there_is_no_answer_yet),
        cmocka_unit_test(a_long_poll_hears_that_the_time_of_its_request_is_over),
        cmocka_unit_test(a_stream_goes_on_behind_the_last_event_that_its_client_has),
        cmocka_unit_test(who_missed_only_the_end_of_a_stream_hears_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
