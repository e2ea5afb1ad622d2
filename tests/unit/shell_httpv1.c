/* The HTTP door's OpenAI routes: the model that stands in the body, errors in that API's shape,
 * streams that end by the worker's own word, and events that the worker wrote itself. */
#include "tests/unit/http_world.h"

#include <jansson.h>

#define CHAT "POST /v1/chat/completions HTTP/1.1\r\n" HOST

static bool submitted(void)
{
    return engine.submitted > 0;
}

static void ask_chat(const char *body)
{
    char text[4096];
    snprintf(text, sizeof text, CHAT "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    engine.submitted = 0;
    ask(text);
}

static void expect_error(int status, const char *type, const char *param, const char *code)
{
    json_t *body = json_loadb(got.body, got.len, 0, NULL);
    json_t *error = json_object_get(body, "error");
    assert_int_equal(got.status, status);
    assert_int_equal(json_object_size(error), 4);
    assert_true(json_string_length(json_object_get(error, "message")) > 5);
    assert_string_equal(json_string_value(json_object_get(error, "type")), type);
    assert_string_equal(json_string_value(json_object_get(error, "code")), code);
    if (param)
        assert_string_equal(json_string_value(json_object_get(error, "param")), param);
    else
        assert_true(json_is_null(json_object_get(error, "param")));
    json_decref(body);
}

static void the_body_names_the_model(void **state)
{
    static const struct {
        const char *body;
        uint32_t model;
    } cases[] = {
        {"{\"model\":\"m\",\"messages\":[]}", 0},
        {" {\"messages\" : [{\"model\":\"m\"}], \"x\":{\"model\":2}, \"model\" : \"large\"}", 1},
        {"{\"mod\\u0065l\":\"odd\\u0020name\"}", 2},
    };
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(cases); i++) {
        ask_chat(cases[i].body);
        assert_int_equal(got.status, 200);
        assert_string_equal(got_header("Content-Type"), "application/json");
        assert_int_equal(engine.model, cases[i].model);
        assert_string_equal(got.body, cases[i].body); /* unread and unchanged */
        assert_string_equal(meta_text(HASUP_TAG_ROUTE, NULL), "chat_completions");
        assert_true(strtoll(meta_text(HASUP_TAG_HEADER, "received"), NULL, 10) > 1600000000);
    }
    ask("POST /v1/completions HTTP/1.1\r\n" HOST "Content-Length: 13\r\n\r\n{\"model\":\"m\"}");
    assert_int_equal(got.status, 200);
    assert_string_equal(meta_text(HASUP_TAG_ROUTE, NULL), "completions");
    ask("POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    assert_null(meta_text(HASUP_TAG_HEADER, "received"));
    world_close();
}

/* However the body arrives: in the buffer of a read, in pieces, chunked, or in shared memory. */
static void the_model_is_found_wherever_the_body_stands(void **state)
{
    enum { LONG = 2 << 20 };
    struct client client;
    char head[256], *body = malloc(LONG + 1);
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, CHAT "Content-Length: 15\r\n\r\n{\"mod");
    settle();
    client_say(&client, "el\" : \"m\"}");
    client_answer(&client);
    assert_int_equal(got.status, 200);
    client_say(&client, CHAT
               "Transfer-Encoding: chunked\r\n\r\n6\r\n{\"mode\r\n7\r\nl\":\"m\"}\r\n0\r\n\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 200);
    memset(body, ' ', LONG);
    memcpy(body, "{\"x\":\"", 6);
    memset(body + 6, 'A', LONG - 100);
    memcpy(body + LONG - 90, "\",\"model\":\"large\"}", 18);
    engine.mode = HOLD;
    engine.submitted = 0;
    snprintf(head, sizeof head, CHAT "Content-Length: %d\r\n\r\n", LONG);
    client_say(&client, head);
    client_send(&client, body, LONG);
    run_until(submitted, -1);
    assert_int_equal(engine.model, 1);
    assert_true(engine.in_buffer);
    fake_text(engine.last, 200, "{}");
    client_answer(&client);
    assert_int_equal(got.status, 200);
    client_close(&client);
    free(body);
    world_close();
}

static void bodies_that_name_no_model_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "{",
                                      "{}",
                                      "\"m\"",
                                      "{\"model\":1}",
                                      "{\"model\":\"m\"",
                                      "{\"model\":\"m\",}",
                                      "{\"model\":\"m\"} x",
                                      "{\"model\":\"m\",\"model\":\"large\"}",
                                      "{\"a\":[1 2],\"model\":\"m\"}"};
    char nested[2000];
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(bad); i++) {
        ask_chat(bad[i]);
        expect_error(400, "invalid_request_error", NULL, "bad_request");
        assert_int_equal(engine.submitted, 0);
    }
    ask_chat("{\"model\":\"m\",}");
    assert_non_null(strstr(got.body, "not JSON: at byte 13 a comma stands before the end"));
    snprintf(nested, sizeof nested, "{\"a\":%0*d", 700, 0);
    memset(strchr(nested, '0'), '[', 700);
    ask_chat(nested);
    assert_non_null(strstr(got.body, "nested too deep"));
    for (int i = 0; i < 3; i++) {
        ask_chat(i == 0   ? "{\"model\":\"nobody\"}"
                 : i == 1 ? "{\"model\":\"\"}"
                          : "{\"model\":\"\\ud800\"}");
        expect_error(404, "invalid_request_error", "model", "model_not_found");
    }
    world_close();
}

static void errors_have_openai_s_shape(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    ask("GET /v1/chat/completions HTTP/1.1\r\n" HOST "\r\n");
    expect_error(405, "invalid_request_error", NULL, "bad_request");
    ask("GET /v1/nothing HTTP/1.1\r\n" HOST "\r\n");
    expect_error(404, "invalid_request_error", NULL, "not_found");
    ask("GET /v1/models HTTP/1.1\r\nbad field\r\n\r\n");
    expect_error(400, "invalid_request_error", NULL, "bad_request");
    ask("POST /v1/completions HTTP/1.1\r\n" HOST "Content-Length: 99999999\r\n\r\n");
    expect_error(413, "invalid_request_error", NULL, "too_large");
    char large[BODY_MAX + 200], head[200];
    memset(large, ' ', sizeof large);
    memcpy(large, "{\"model\":\"m\"}", 13);
    snprintf(head, sizeof head, CHAT "Content-Length: %zu\r\n\r\n", sizeof large);
    client_open(&client);
    client_say(&client, head);
    client_send(&client, large, sizeof large);
    client_answer(&client);
    expect_error(413, "invalid_request_error", NULL, "too_large"); /* of this model */
    client_close(&client);
    engine.mode = FULL;
    ask_chat("{\"model\":\"m\"}");
    expect_error(429, "rate_limit_error", NULL, "overloaded");
    assert_non_null(got_header("Retry-After"));
    engine.mode = HOLD;
    engine.submitted = 0;
    client_open(&client);
    client_say(&client, CHAT "Content-Length: 13\r\n\r\n{\"model\":\"m\"}");
    run_until(submitted, -1);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    expect_error(504, "server_error", NULL, "deadline");
    client_close(&client);
    world_close();
}

static void models_are_listed(void **state)
{
    (void)state;
    world_open(NULL);
    ask("GET /v1/models HTTP/1.1\r\n" HOST "\r\n");
    json_t *body = json_loadb(got.body, got.len, 0, NULL), *data = json_object_get(body, "data");
    assert_string_equal(json_string_value(json_object_get(body, "object")), "list");
    assert_int_equal(json_array_size(data), 3);
    json_t *last = json_array_get(data, 2);
    assert_string_equal(json_string_value(json_object_get(last, "id")), "odd name");
    assert_string_equal(json_string_value(json_object_get(last, "object")), "model");
    assert_true(json_integer_value(json_object_get(last, "created")) > 1600000000);
    assert_string_equal(json_string_value(json_object_get(last, "owned_by")), "hasup");
    json_decref(body);
    ask("GET /v1/models/odd%20name HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    assert_non_null(strstr(got.body, "{\"id\":\"odd name\",\"object\":\"model\",\"created\":"));
    ask("GET /v1/models/nobody HTTP/1.1\r\n" HOST "\r\n");
    expect_error(404, "invalid_request_error", "model", "model_not_found");
    world_close();
}

/* ---- streams ---- */

#define KEYED CHAT "Idempotency-Key: k\r\n"

static void pend(struct client *client, const char *head)
{
    engine.mode = HOLD;
    engine.submitted = 0;
    client_open(client);
    client_say(client, head);
    client_say(client, "Content-Length: 13\r\n\r\n{\"model\":\"m\"}");
    run_until(submitted, -1);
}

static void expect_events(const char *want)
{
    assert_int_equal(got.status, 200);
    assert_true(got.whole);
    assert_string_equal(got_header("Content-Type"), "text/event-stream");
    assert_string_equal(got.body, want);
}

static void a_stream_ends_by_the_worker_s_own_word(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, CHAT "Accept: application/json\r\n");
    fake_chunk(engine.last, "{\"a\":1}", 7);
    fake_chunk(engine.last, "[DONE]", 6);
    fake_text(engine.last, 200, "");
    client_answer(&client);
    expect_events("id: 1\ndata: {\"a\":1}\n\nid: 2\ndata: [DONE]\n\n");
    client_close(&client);
    world_close();
}

static void promise_5_a_failed_stream_says_so_as_data(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, CHAT);
    fake_chunk(engine.last, "{\"a\":1}", 7);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    expect_events(
        "id: 1\ndata: {\"a\":1}\n\nid: 2\ndata: {\"error\":{\"message\":\"not now\",\"type\":"
        "\"server_error\",\"param\":null,\"code\":\"deadline\"}}\n\n");
    client_close(&client);
    world_close();
}

static void promise_5_who_comes_back_hears_events(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    engine.run = 0x2f;
    pend(&client, KEYED "Last-Event-ID: 2f-1\r\n");
    assert_int_equal(engine.heard, 1);
    assert_int_equal(engine.heard_of, 0x2f);
    fake_chunk(engine.last, "[DONE]", 6);
    fake_text(engine.last, 200, "");
    client_answer(&client);
    expect_events("id: 2f-2\ndata: [DONE]\n\n");
    client_close(&client);
    pend(&client, KEYED "Last-Event-ID: 2f-2\r\n"); /* it has all of it */
    fake_text(engine.last, 200, "");
    client_answer(&client);
    expect_events("");
    client_close(&client);
    world_close();
}

/* ---- events that the worker wrote itself ---- */

static uint8_t meta_bytes[64];

static struct hasup_frame typed_frame(const char *type)
{
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta_bytes, sizeof meta_bytes);
    hasup_meta_put(&w, HASUP_TAG_CONTENT_TYPE, type, strlen(type));
    return (struct hasup_frame){.fd = -1, .meta = meta_bytes, .meta_len = (uint32_t)w.used};
}

static void pass_chunk(const char *text)
{
    struct hasup_frame frame = typed_frame("text/event-stream; charset=utf-8");
    struct reply head = {.status = 200, .frame = &frame, .attempts = 1};
    engine.last->door->chunk(engine.last->context, &head, (const uint8_t *)text, strlen(text));
}

static void events_of_the_worker_s_own_pass(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, CHAT);
    pass_chunk("data: 1\n\n");
    pass_chunk("data: 2\r\n\r\n");
    pass_chunk("data: 3\n\ndata: 4\n\n"); /* two: which would the number be of? */
    pass_chunk("data: 5");
    pass_chunk("\n\n");
    pass_chunk(": ping\n\n");
    pass_chunk("data: [DONE]\n\n");
    fake_text(engine.last, 200, "");
    client_answer(&client);
    expect_events("id: 1\ndata: 1\n\nid: 2\ndata: 2\r\n\r\ndata: 3\n\ndata: 4\n\ndata: 5\n\n"
                  "id: 6\n: ping\n\nid: 7\ndata: [DONE]\n\n");
    client_close(&client);
    world_close();
}

static void promise_5_half_an_event_is_never_made_whole(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    for (int half = 0; half < 2; half++) {
        pend(&client, CHAT);
        pass_chunk("data: 1\n\n");
        if (half)
            pass_chunk("data: 2");
        fake_refuse(engine.last, REFUSED_DEADLINE, 0);
        client_answer(&client);
        assert_int_equal(got.whole, !half); /* the connection is cut */
        assert_int_equal(strstr(got.body, "\"code\":\"deadline\"") != NULL, !half);
        client_close(&client);
    }
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_names_the_model),
        cmocka_unit_test(the_model_is_found_wherever_the_body_stands),
        cmocka_unit_test(bodies_that_name_no_model_are_refused),
        cmocka_unit_test(errors_have_openai_s_shape),
        cmocka_unit_test(models_are_listed),
        cmocka_unit_test(a_stream_ends_by_the_worker_s_own_word),
        cmocka_unit_test(promise_5_a_failed_stream_says_so_as_data),
        cmocka_unit_test(promise_5_who_comes_back_hears_events),
        cmocka_unit_test(events_of_the_worker_s_own_pass),
        cmocka_unit_test(promise_5_half_an_event_is_never_made_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
