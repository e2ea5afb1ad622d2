/* The HTTP door: its routes, the headers it takes and gives, its errors, and bad input (promises 8,
 * 12). */
#include "tests/unit/http_world.h"

#include <jansson.h>

static void expect_error(int status, const char *code)
{
    json_error_t where;
    json_t *body = json_loadb(got.body, got.len, 0, &where);
    assert_int_equal(got.status, status);
    assert_non_null(body);
    json_t *error = json_object_get(body, "error");
    if (!code) {
        assert_true(json_is_string(error));
    } else {
        assert_string_equal(json_string_value(json_object_get(error, "code")), code);
        assert_true(json_is_string(json_object_get(error, "message")));
        assert_string_equal(json_string_value(json_object_get(error, "request_id")),
                            got_header("X-Request-Id"));
    }
    json_decref(body);
}

static void invoke_carries_bytes_in_and_out(void **state)
{
    (void)state;
    world_open(NULL);
    ask("POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "hello");
    assert_string_equal(got_header("Content-Type"), "application/octet-stream");
    assert_string_equal(got_header("X-Hasup-Attempts"), "1");
    assert_int_equal(strlen(got_header("X-Request-Id")), 32);
    assert_non_null(got_header("Date"));
    assert_null(got_header("Connection"));
    assert_string_equal(meta_text(HASUP_TAG_ROUTE, NULL), "invoke");
    ask("POST /models/odd%20name/invoke?x=1 HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    assert_int_equal(got.status, 200);
    assert_int_equal(engine.model, 2);
    ask("POST http://t/models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    world_close();
}

static void every_route_of_oip_v2_answers(void **state)
{
    (void)state;
    world_open(&(struct http_options){.name = "n", .version = "7"});
    ask("GET /v2 HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(got.body, "{\"name\":\"n\",\"version\":\"7\",\"extensions\":[]}");
    ask("GET /v2/ HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    ask("GET /v2/health/live HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(got.body, "{\"live\":true}");
    ask("GET /v2/health/ready HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 200);
    ask("GET /v2/models/m HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(
        got.body, "{\"name\":\"m\",\"versions\":[\"1\"],\"platform\":\"fann\",\"inputs\":[{"
                  "\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1]}],\"outputs\":[],\"x\":1}");
    ask("GET /v2/models/large/versions/2 HTTP/1.1\r\n" HOST "\r\n");
    assert_non_null(strstr(got.body, "\"name\":\"large\",\"platform\":\"\""));
    ask("GET /v2/models/m/versions/2/ready HTTP/1.1\r\n" HOST "\r\n");
    assert_string_equal(got.body, "{\"name\":\"m\",\"ready\":true}");
    engine.unready = true;
    ask("GET /v2/models/m/ready HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 503);
    assert_string_equal(got.body, "{\"name\":\"m\",\"ready\":false}");
    ask("GET /v2/health/ready HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(got.status, 503);
    world_close();
}

static void inference_routes_name_themselves_to_the_worker(void **state)
{
    static const char *const routes[] = {"infer", "generate", "generate_stream"};
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(routes); i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "POST /v2/models/m/%s HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", routes[i]);
        ask(text);
        assert_int_equal(got.status, 200);
        assert_string_equal(meta_text(HASUP_TAG_ROUTE, NULL), routes[i]);
        assert_string_equal(got_header("Content-Type"),
                            i == 2 ? "text/event-stream" : "application/json");
        assert_null(meta_text(HASUP_TAG_HEADER, "model-version"));
        snprintf(text, sizeof text,
                 "POST /v2/models/m/versions/v3/%s HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}",
                 routes[i]);
        ask(text);
        assert_int_equal(got.status, 200);
        assert_string_equal(meta_text(HASUP_TAG_HEADER, "model-version"), "v3");
    }
    world_close();
}

static void head_options_and_wrong_methods(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, "HEAD /v2/health/live HTTP/1.1\r\n" HOST "\r\n");
    client_head(&client);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_header("Content-Length"), "13");
    assert_int_equal(client.len, 0);
    client_say(&client, "OPTIONS /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 204);
    assert_string_equal(got_header("Allow"), "POST, OPTIONS");
    client_say(&client, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 204);
    client_say(&client, "GET /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&client);
    expect_error(405, "bad_request");
    assert_string_equal(got_header("Allow"), "POST, OPTIONS");
    client_say(&client, "DELETE /v2 HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&client);
    expect_error(405, NULL);
    assert_string_equal(got_header("Allow"), "GET, HEAD, OPTIONS");
    client_close(&client);
    world_close();
}

static void what_is_not_there_is_404_in_json(void **state)
{
    static const char *const paths[] = {"/",
                                        "/v3",
                                        "/models",
                                        "/models/x/invoke/y/z/a/b/c",
                                        "/models/x/invoke",
                                        "/models//invoke",
                                        "/models/%zz/invoke",
                                        "/models/m%00/invoke"};
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(paths); i++) {
        char text[256];
        snprintf(text, sizeof text, "POST %s HTTP/1.1\r\n" HOST "X-Request-Id: q\r\n\r\n",
                 paths[i]);
        ask(text);
        expect_error(404, "not_found");
        assert_string_equal(got_header("X-Request-Id"), "q");
    }
    ask("POST /v2/models/x/infer HTTP/1.1\r\n" HOST "\r\n");
    expect_error(404, NULL);
    ask("GET /v2/models/m/versions/%41%4/ready HTTP/1.1\r\n" HOST "\r\n");
    expect_error(404, NULL);
    assert_int_equal(engine.submitted, 0);
    world_close();
}

static void headers_reach_the_worker(void **state)
{
    (void)state;
    world_open(NULL);
    ask("POST /v2/models/m/infer HTTP/1.1\r\n" HOST
        "Content-Type: application/json\r\nAccept: a/b\r\nX-Request-Id: my id\r\n"
        "X-Request-Timeout: 2.5\r\nX-Priority: 3\r\nX-Session-Id: s1\r\nX-Mine: v1 \r\n"
        "Authorization: secret\r\nX-Hasup-Attempts: 9\r\n"
        "Inference-Header-Content-Length: 4\r\n"
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
        "Content-Length: 0\r\n\r\n");
    assert_int_equal(got.status, 200);
    assert_string_equal(got_header("X-Request-Id"), "my id");
    assert_string_equal(meta_text(HASUP_TAG_REQUEST_ID, NULL), "my id");
    assert_string_equal(meta_text(HASUP_TAG_CONTENT_TYPE, NULL), "application/json");
    assert_string_equal(meta_text(HASUP_TAG_SESSION, NULL), "s1");
    assert_string_equal(meta_text(HASUP_TAG_HEADER, "accept"), "a/b");
    assert_string_equal(meta_text(HASUP_TAG_HEADER, "x-mine"), "v1");
    assert_string_equal(meta_text(HASUP_TAG_HEADER, "inference-header-content-length"), "4");
    assert_non_null(meta_text(HASUP_TAG_TRACEPARENT, NULL));
    assert_null(meta_text(HASUP_TAG_HEADER, "authorization"));
    assert_null(meta_text(HASUP_TAG_HEADER, "x-hasup-attempts"));
    assert_null(meta_text(HASUP_TAG_HEADER, "x-priority"));
    assert_int_equal(engine.priority, 3);
    hasup_ns left = engine.deadline - loop_now(world.loop);
    assert_true(left > HASUP_S && left <= 2500 * HASUP_MS);
    world_close();
}

/* Infers with this body, whose JSON is the first `json_len` bytes of it (0: all). */
static void infer(const char *headers, const char *body, size_t json_len)
{
    char text[512], more[64] = "";
    if (json_len)
        snprintf(more, sizeof more, "Inference-Header-Content-Length: %zu\r\n", json_len);
    snprintf(text, sizeof text,
             "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "%s%sContent-Length: %zu\r\n\r\n%s",
             headers, more, strlen(body), body);
    ask(text);
    assert_int_equal(got.status, 200);
    assert_string_equal(engine.body, body); /* passed as it came */
}

static void assert_due(hasup_ns most)
{
    hasup_ns left = engine.deadline ? engine.deadline - loop_now(world.loop) : 0;
    assert_true(left <= most && left >= most - most / 2);
}

static void an_infer_request_may_say_its_time_and_priority_in_its_body(void **state)
{
    static const char BODY[] = "{\"inputs\": [1, {\"timeout\": 9}], \"parameters\": {\"x\": {}, "
                               "\"timeout\": 4000000, \"priority\": 2}}";
    (void)state;
    world_open(NULL);
    infer("", BODY, 0);
    assert_int_equal(engine.priority, 2);
    assert_due(4 * HASUP_S);
    infer("X-Priority: 7\r\nX-Request-Timeout: 30\r\n", BODY, 0); /* headers come first */
    assert_int_equal(engine.priority, 7);
    assert_due(30 * HASUP_S);
    infer("", "{\"parameters\": {\"priority\": 3}}{\"parameters\": {\"priority\": 4}}", 31);
    assert_int_equal(engine.priority, 3); /* tensors follow, whatever they look like */
    assert_due(0);
    infer("", "{\"parameters\": {\"timeout\": \"soon\", \"priority\": 4000}}", 0);
    assert_int_equal(engine.priority, 9);
    assert_due(0);
    infer("", "{\"parameters\": {\"priority\": 1", 0); /* the worker says what is wrong */
    infer("", "[]", 0);
    assert_int_equal(engine.priority, 0);
    world_close();
}

static void assert_session(const char *parameters, const char *headers, const char *session)
{
    char body[256];
    snprintf(body, sizeof body, "{\"inputs\": [], \"parameters\": {%s}}", parameters);
    infer(headers, body, 0);
    if (session)
        assert_string_equal(meta_text(HASUP_TAG_SESSION, NULL), session);
    else
        assert_null(meta_text(HASUP_TAG_SESSION, NULL));
}

static void a_sequence_is_a_session(void **state)
{
    static const char *const WRONG[] = {"-1", "1.5", "{}", "true", "\"\\u0007\"", "\"\\ud800\""};
    (void)state;
    world_open(NULL);
    assert_session("\"sequence_id\": 42, \"sequence_start\": true", "", "42");
    assert_session("\"sequence_id\": \"a \\u0062\"", "", "a b");
    assert_session("\"sequence_id\": 42", "X-Session-Id: mine\r\n", "mine");
    assert_session("\"sequence_id\": 42, \"sequence_id\": 43", "", "42");
    assert_session("\"sequence_id\": 0", "", NULL);
    assert_session("\"sequence_id\": null", "", NULL);
    assert_session("\"sequence_id\": \"\"", "", NULL);
    assert_session("\"x\": {\"sequence_id\": 42}", "", NULL);
    for (size_t i = 0; i < HASUP_LEN(WRONG); i++) {
        char text[512], body[128];
        snprintf(body, sizeof body, "{\"parameters\": {\"sequence_id\": %s}}", WRONG[i]);
        snprintf(text, sizeof text,
                 "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
        ask(text);
        assert_int_equal(got.status, 400);
    }
    assert_session("\"sequence_id\": 7", "", "7"); /* on the same connection */
    world_close();
}

static void a_sequence_is_found_in_a_body_that_comes_in_pieces(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, "POST /v2/models/m/infer HTTP/1.1\r\n" HOST
                        "Content-Length: 36\r\n\r\n{\"parameters\": {\"sequence_");
    settle();
    client_say(&client, "id\": \"s\"}}");
    client_answer(&client);
    assert_int_equal(got.status, 200);
    assert_string_equal(meta_text(HASUP_TAG_SESSION, NULL), "s");
    client_close(&client);
    world_close();
}

static void a_long_header_reaches_the_worker_whole(void **state)
{
    char text[16384], value[9001];
    (void)state;
    world_open(NULL);
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    snprintf(text, sizeof text, "POST /models/m/invoke HTTP/1.1\r\n" HOST "X-Long: %s\r\n\r\n",
             value);
    ask(text);
    assert_int_equal(got.status, 200);
    assert_string_equal(meta_text(HASUP_TAG_HEADER, "x-long"), value);
    assert_non_null(meta_text(HASUP_TAG_REQUEST_ID, NULL));
    world_close();
}

static void a_bad_header_is_400_and_the_connection_stays(void **state)
{
    static const char *const bad[] = {"X-Request-Timeout: 0",
                                      "X-Request-Timeout: -1",
                                      "X-Request-Timeout: 1s",
                                      "X-Request-Timeout: .",
                                      "X-Request-Timeout: 99999999999999999999",
                                      "X-Priority: 0",
                                      "X-Priority: 10",
                                      "X-Priority: a",
                                      "X-Request-Id: ",
                                      "X-Session-Id: \xc3\xa4"};
    struct client client;
    (void)state;
    world_open(NULL);
    client_open(&client);
    for (size_t i = 0; i < HASUP_LEN(bad); i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "POST /models/m/invoke HTTP/1.1\r\n" HOST "%s\r\nContent-Length: 3\r\n\r\nabc",
                 bad[i]);
        client_say(&client, text);
        client_answer(&client);
        expect_error(400, "bad_request");
    }
    assert_int_equal(engine.submitted, 0);
    client_close(&client);
    world_close();
}

static void malformed_http_is_400_and_the_connection_closes(void **state)
{
    static const char *const bad[] = {
        "\x16\x03\x01\x02\x00",
        "hello\r\n\r\n",
        "GET /v2 HTTP/1.1\r\n\r\n",
        "GET /v2 HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET /v2 HTTP/3.1\r\n" HOST "\r\n",
        "GET v2 HTTP/1.1\r\n" HOST "\r\n",
        "GET /v2 HTTP/1.1\r\n" HOST "Bad Name: 1\r\n\r\n",
        "GET /v2 HTTP/1.1\r\n" HOST "X-Folded: 1\r\n 2\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n",
        "POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 1x\r\n\r\n",
        "POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n",
        "POST /models/m/invoke HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    };
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(bad); i++) {
        struct client client;
        client_open(&client);
        client_say(&client, bad[i]);
        client_answer(&client);
        if (got.status != 400)
            fail_msg("%zu: %s gives %d", i, bad[i], got.status);
        assert_true(got.whole);
        assert_string_equal(got_header("Connection"), "close");
        assert_true(closes(&client));
        client_close(&client);
    }
    assert_int_equal(engine.submitted, 0);
    world_close();
}

static void ambiguous_lengths_are_refused(void **state)
{
    static const char *const smuggled[] = {
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    };
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(smuggled); i++) {
        struct client client;
        char text[512];
        client_open(&client);
        snprintf(text, sizeof text,
                 "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "%sGET /v2 HTTP/1.1\r\n\r\n",
                 smuggled[i]);
        client_say(&client, text);
        client_answer(&client);
        if (got.status != 400)
            fail_msg("%s gives %d", smuggled[i], got.status);
        assert_true(closes(&client));
        client_close(&client);
    }
    ask("POST /v2/models/m/infer HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_int_equal(got.status, 400);
    assert_int_equal(engine.submitted, 0);
    world_close();
}

static void a_body_over_the_limit_is_413_before_it_is_read(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    ask("POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 1001\r\n\r\n");
    expect_error(413, "too_large");
    assert_string_equal(got_header("Connection"), "close");
    ask("POST /v2/models/m/infer HTTP/1.1\r\n" HOST
        "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n");
    expect_error(413, NULL);
    ask("POST /models/none/invoke HTTP/1.1\r\n" HOST
        "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n");
    expect_error(404, "not_found");
    client_open(&client);
    client_say(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST
                        "Transfer-Encoding: chunked\r\n\r\n400\r\n");
    char bytes[1024];
    memset(bytes, 'b', sizeof bytes);
    client_send(&client, bytes, sizeof bytes);
    client_answer(&client);
    expect_error(413, "too_large");
    assert_true(closes(&client));
    client_close(&client);
    assert_int_equal(engine.submitted, 0);
    world_close();
}

static void bodies_that_arrive_together_have_a_limit(void **state)
{
    struct client first;
    (void)state;
    world_open(&(struct http_options){.body_bytes = 1500});
    client_open(&first);
    client_say(&first, "POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n");
    char bytes[1000] = {0};
    client_send(&first, bytes, 999);
    settle();
    engine.mode = HOLD;
    ask("POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 900\r\n\r\n");
    expect_error(429, "overloaded");
    assert_string_equal(got_header("Retry-After"), "1");
    engine.mode = ECHO;
    client_send(&first, bytes, 1);
    client_answer(&first);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.len, 1000);
    client_close(&first);
    world_close();
}

static void large_heads_are_431(void **state)
{
    static char text[70000];
    (void)state;
    world_open(NULL);
    int len = snprintf(text, sizeof text, "GET /v2 HTTP/1.1\r\n" HOST "X-A: ");
    memset(text + len, 'a', 20000);
    ask(text);
    expect_error(431, NULL);
    len = snprintf(text, sizeof text, "GET /v2 HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 101; i++)
        len += snprintf(text + len, sizeof text - (size_t)len, "X-%d: 1\r\n", i);
    snprintf(text + len, sizeof text - (size_t)len, "\r\n");
    ask(text);
    expect_error(431, NULL);
    memset(text, '/', 20000);
    memcpy(text, "GET /", 5);
    text[20000] = '\0';
    ask(text);
    expect_error(431, "bad_request");
    world_close();
}

static void too_many_requests_are_429_with_retry_after(void **state)
{
    (void)state;
    world_open(NULL);
    engine.mode = FULL;
    ask("POST /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    expect_error(429, "overloaded");
    assert_string_equal(got_header("Retry-After"), "1");
    world_close();
}

static bool submitted(void)
{
    return engine.submitted > 0;
}

/* A request of its own, left pending. */
static void pend(struct client *client, const char *text)
{
    engine.mode = HOLD;
    engine.submitted = 0;
    client_open(client);
    client_say(client, text);
    run_until(submitted, -1);
}

static void refusals_have_the_shape_of_their_path(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    fake_refuse(engine.last, REFUSED_OVERLOADED, 1200 * HASUP_MS);
    client_answer(&client);
    expect_error(429, "overloaded");
    assert_string_equal(got_header("Retry-After"), "2");
    assert_string_equal(got_header("X-Hasup-Attempts"), "3");
    client_close(&client);
    pend(&client, "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "\r\n");
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    expect_error(504, NULL);
    assert_null(got_header("Retry-After"));
    client_close(&client);
    world_close();
}

static struct hasup_frame worker_frame(struct hasup_meta_writer *w)
{
    return (struct hasup_frame){.meta = w->bytes, .meta_len = (uint32_t)w->used, .fd = -1};
}

#define PUT_TEXT(w, tag, text) hasup_meta_put(w, tag, text, sizeof(text) - 1)

static void a_workers_error_is_told(void **state)
{
    struct client client;
    struct hasup_meta_writer w;
    uint8_t meta[512];
    (void)state;
    world_open(NULL);
    hasup_meta_start(&w, meta, sizeof meta);
    PUT_TEXT(&w, HASUP_TAG_ERROR, "bad \"shape\" \xff");
    struct hasup_frame frame = worker_frame(&w);
    pend(&client, "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "\r\n");
    fake_reply(engine.last, 200, &frame, (struct body){0});
    client_answer(&client);
    expect_error(500, NULL);
    assert_non_null(strstr(got.body, "bad \\\"shape\\\" ?"));
    client_close(&client);
    pend(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    fake_reply(engine.last, 418, &frame, (struct body){0});
    client_answer(&client);
    expect_error(418, "worker_error");
    client_close(&client);
    pend(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    fake_text(engine.last, 422, "own words");
    client_answer(&client);
    assert_int_equal(got.status, 422);
    assert_string_equal(got.body, "own words");
    client_close(&client);
    world_close();
}

static void a_workers_headers_cannot_break_the_framing(void **state)
{
    struct client client;
    struct hasup_meta_writer w;
    uint8_t meta[1024];
    (void)state;
    world_open(NULL);
    hasup_meta_start(&w, meta, sizeof meta);
    PUT_TEXT(&w, HASUP_TAG_CONTENT_TYPE, "text/plain");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "x-good\0yes");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "x-evil\0a\r\nx-injected: 1");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "x-e\r\nx-injected\0a");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "x-nul\0a\0b");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "no-zero");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "\0empty name");
    PUT_TEXT(&w, HASUP_TAG_HEADER,
             "Content-Length\0"
             "999");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "transfer-encoding\0chunked");
    PUT_TEXT(&w, HASUP_TAG_HEADER, "Connection\0close");
    struct hasup_frame frame = worker_frame(&w);
    pend(&client, "POST /models/m/invoke HTTP/1.1\r\n" HOST "\r\n");
    fake_reply(engine.last, 201, &frame, (struct body){.bytes = (const uint8_t *)"body", .len = 4});
    client_answer(&client);
    assert_int_equal(got.status, 201);
    assert_string_equal(got_header("Content-Type"), "text/plain");
    assert_string_equal(got_header("Content-Length"), "4");
    assert_string_equal(got_header("x-good"), "yes");
    assert_null(got_header("x-evil"));
    assert_null(got_header("x-injected"));
    assert_null(got_header("x-nul"));
    assert_null(got_header("no-zero"));
    assert_null(got_header("Transfer-Encoding"));
    assert_null(got_header("Connection"));
    client_close(&client);
    world_close();
}

static void a_bad_listen_address_says_so(void **state)
{
    static const char *const bad[] = {
        "",       "8080",    "127.0.0.1:", "127.0.0.1:70000", "host.name:80", "127.0.0.1:8x",
        "::1:80", "[::1:80", "[]:1"};
    char error[HTTP_ERROR_MAX];
    (void)state;
    struct loop *loop = loop_new();
    for (size_t i = 0; i < HASUP_LEN(bad); i++) {
        assert_null(http_new(loop, NULL, &(struct http_options){.listen = bad[i]}, error));
        assert_non_null(strstr(error, "listen.http"));
    }
    struct http *http = http_new(loop, NULL, &(struct http_options){.listen = "[::1]:0"}, error);
    if (http) {
        char text[64];
        snprintf(text, sizeof text, "[::1]:%u", http_port(http));
        assert_null(http_new(loop, NULL, &(struct http_options){.listen = text}, error));
        assert_non_null(strstr(error, "in use"));
        http_free(http);
    }
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invoke_carries_bytes_in_and_out),
        cmocka_unit_test(every_route_of_oip_v2_answers),
        cmocka_unit_test(inference_routes_name_themselves_to_the_worker),
        cmocka_unit_test(head_options_and_wrong_methods),
        cmocka_unit_test(what_is_not_there_is_404_in_json),
        cmocka_unit_test(headers_reach_the_worker),
        cmocka_unit_test(a_long_header_reaches_the_worker_whole),
        cmocka_unit_test(a_bad_header_is_400_and_the_connection_stays),
        cmocka_unit_test(malformed_http_is_400_and_the_connection_closes),
        cmocka_unit_test(ambiguous_lengths_are_refused),
        cmocka_unit_test(a_body_over_the_limit_is_413_before_it_is_read),
        cmocka_unit_test(bodies_that_arrive_together_have_a_limit),
        cmocka_unit_test(large_heads_are_431),
        cmocka_unit_test(too_many_requests_are_429_with_retry_after),
        cmocka_unit_test(refusals_have_the_shape_of_their_path),
        cmocka_unit_test(an_infer_request_may_say_its_time_and_priority_in_its_body),
        cmocka_unit_test(a_sequence_is_a_session),
        cmocka_unit_test(a_sequence_is_found_in_a_body_that_comes_in_pieces),
        cmocka_unit_test(a_workers_error_is_told),
        cmocka_unit_test(a_workers_headers_cannot_break_the_framing),
        cmocka_unit_test(a_bad_listen_address_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
