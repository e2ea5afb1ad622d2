/* The HTTP door: streams, clients that leave, drip or do not read, keep-alive, pipelining, drain.
 */
#include "tests/unit/http_world.h"

#define INVOKE "POST /models/m/invoke HTTP/1.1\r\n" HOST
#define STREAM "POST /v2/models/m/generate_stream HTTP/1.1\r\n" HOST

static bool submitted(void)
{
    return engine.submitted > 0;
}

static bool cancelled(void)
{
    return engine.cancelled > 0;
}

static bool nobody(void)
{
    return http_connections(world.http) == 0;
}

static void pend(struct client *client, const char *text)
{
    engine.mode = HOLD;
    engine.submitted = engine.cancelled = 0;
    client_open(client);
    client_say(client, text);
    run_until(submitted, -1);
}

/* ---- streams ---- */

static void a_stream_of_events(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, STREAM "Content-Length: 2\r\n\r\n{}");
    fake_chunk(engine.last, "one", 3);
    fake_chunk(engine.last, "two\nlines\r\nand\rmore\n", 20);
    fake_chunk(engine.last, "nul\0nul", 7);
    fake_text(engine.last, 200, "");
    client_answer(&client);
    static const char want[] = "id: 1\ndata: one\n\n"
                               "id: 2\ndata: two\ndata: lines\ndata: and\ndata: more\ndata: \n\n"
                               "id: 3\ndata: nul\0nul\n\n"
                               "id: 4\nevent: end\ndata: {\"status\":200,\"attempts\":1}\n\n";
    assert_int_equal(got.status, 200);
    assert_true(got.whole);
    assert_string_equal(got_header("Content-Type"), "text/event-stream");
    assert_string_equal(got_header("Cache-Control"), "no-store");
    assert_int_equal(got.len, sizeof want - 1);
    assert_memory_equal(got.body, want, sizeof want - 1);
    engine.mode = ECHO; /* the connection goes on */
    client_say(&client, INVOKE "Content-Length: 1\r\n\r\nx");
    client_answer(&client);
    assert_string_equal(got.body, "x");
    client_close(&client);
    world_close();
}

static void accept_asks_for_events_and_raw_is_the_default(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, INVOKE "Accept: text/event-stream\r\n\r\n");
    fake_chunk(engine.last, "a", 1);
    fake_text(engine.last, 200, "last");
    client_answer(&client);
    assert_non_null(strstr(got.body, "id: 2\ndata: last\n\nid: 3\nevent: end\n"));
    client_close(&client);
    pend(&client, INVOKE "\r\n");
    fake_chunk(engine.last, "a\0b", 3);
    fake_chunk(engine.last, "", 0);
    fake_chunk(engine.last, "c", 1);
    client_head(&client);
    assert_string_equal(got_header("Transfer-Encoding"), "chunked");
    assert_null(got_header("Content-Length"));
    fake_text(engine.last, 200, "d");
    client_chunks(&client);
    assert_true(got.whole);
    assert_memory_equal(got.body, "a\0bcd", 5);
    client_close(&client);
    world_close();
}

static void a_plain_answer_to_generate_stream_is_one_event(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, STREAM "\r\n");
    fake_text(engine.last, 200, "{}");
    client_answer(&client);
    assert_non_null(strstr(got.body, "id: 1\ndata: {}\n\nid: 2\nevent: end\n"));
    client_close(&client);
    pend(&client, STREAM "\r\n");
    fake_text(engine.last, 400, "{\"error\": \"mine\"}");
    client_answer(&client);
    assert_int_equal(got.status, 400);
    assert_string_equal(got.body, "{\"error\": \"mine\"}");
    client_close(&client);
    world_close();
}

static void a_stream_that_fails_says_so(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, STREAM "\r\n");
    fake_chunk(engine.last, "a", 1);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    assert_true(got.whole);
    assert_non_null(strstr(got.body, "id: 2\nevent: error\ndata: {\"error\":\"not now\"}\n\n"));
    client_close(&client);
    pend(&client, INVOKE "Accept: text/event-stream\r\n\r\n");
    fake_chunk(engine.last, "a", 1);
    fake_text(engine.last, 500, "");
    client_answer(&client);
    assert_non_null(strstr(got.body, "event: error\ndata: {\"error\":{\"code\":\"worker_error\""));
    client_close(&client);
    pend(&client, INVOKE "\r\n");
    fake_chunk(engine.last, "a", 1);
    fake_refuse(engine.last, REFUSED_DEADLINE, 0);
    client_answer(&client);
    assert_int_equal(got.len, 1);
    assert_false(got.whole); /* never a silent end */
    assert_true(client.eof);
    client_close(&client);
    world_close();
}

static void http_1_0_gets_no_chunks(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, "POST /models/m/invoke HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    fake_chunk(engine.last, "a", 1);
    fake_text(engine.last, 200, "b");
    client_answer(&client);
    assert_null(got_header("Transfer-Encoding"));
    assert_string_equal(got_header("Connection"), "close");
    assert_string_equal(got.body, "ab");
    client_close(&client);
    world_close();
}

static void a_slow_stream_client_is_cut_off(void **state)
{
    struct client client;
    static char block[32768];
    (void)state;
    world_open(&(struct http_options){.stream_bytes = 256 * 1024});
    pend(&client, INVOKE "\r\n");
    for (int i = 0; i < 2000 && !engine.cancelled; i++) {
        fake_chunk(engine.last, block, sizeof block);
        if (i % 8 == 7)
            settle();
    }
    assert_int_equal(engine.cancelled, 1);
    run_until(nobody, -1);
    client_close(&client);
    world_close();
}

/* ---- clients that leave ---- */

static void a_client_that_leaves_has_its_request_cancelled(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    pend(&client, INVOKE "\r\n");
    client_close(&client);
    run_until(cancelled, -1);
    run_until(nobody, -1);
    pend(&client, INVOKE "\r\n");
    struct linger hard = {.l_onoff = 1};
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    client_close(&client);
    run_until(cancelled, -1);
    pend(&client, STREAM "\r\n");
    fake_chunk(engine.last, "a", 1);
    client_head(&client);
    client_close(&client);
    run_until(cancelled, -1);
    run_until(nobody, -1);
    world_close();
}

static void one_that_leaves_before_its_body_is_whole_is_forgotten(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, INVOKE "Content-Length: 100\r\n\r\npart");
    settle();
    client_close(&client);
    run_until(nobody, -1);
    assert_int_equal(engine.submitted, 0);
    world_close();
}

/* ---- deadlines ---- */

static void a_head_that_drips_is_408(void **state)
{
    struct client client;
    (void)state;
    world_open(&(struct http_options){.head_timeout = 40 * HASUP_MS});
    client_open(&client);
    client_say(&client, "GET /v2 HTTP/1.1\r\n");
    for (int i = 0; i < 100000 && http_connections(world.http) <= 1; i++) {
        struct pollfd p = {.fd = client.fd, .events = POLLIN};
        client_say(&client, "X");
        settle();
        if (poll(&p, 1, 0) == 1)
            break;
    }
    client_answer(&client);
    assert_int_equal(got.status, 408);
    assert_true(closes(&client));
    client_close(&client);
    world_close();
}

/* Each read ends within a head, longer than one head may take: none of them was slow. */
static void the_head_deadline_is_each_requests_own(void **state)
{
    struct client client;
    (void)state;
    world_open(&(struct http_options){.head_timeout = 500 * HASUP_MS});
    client_open(&client);
    client_say(&client, "GET ");
    hasup_ns start = loop_now(world.loop);
    while (loop_now(world.loop) - start < 1100 * HASUP_MS) {
        client_say(&client, "/v2 HTTP/1.1\r\n" HOST "\r\nGET ");
        client_answer(&client);
        assert_int_equal(got.status, 200);
        settle();
    }
    client_close(&client);
    world_close();
}

static void a_body_that_drips_is_408(void **state)
{
    struct client client;
    (void)state;
    world_open(&(struct http_options){.body_timeout = 40 * HASUP_MS});
    client_open(&client);
    client_say(&client,
               "POST /models/large/invoke HTTP/1.1\r\n" HOST "Content-Length: 8000000\r\n\r\n");
    for (int i = 0; i < 100000; i++) {
        struct pollfd p = {.fd = client.fd, .events = POLLIN};
        client_say(&client, "b");
        settle();
        if (poll(&p, 1, 0) == 1)
            break;
    }
    client_answer(&client);
    assert_int_equal(got.status, 408);
    assert_string_equal(got_header("Connection"), "close");
    client_close(&client);
    assert_int_equal(engine.submitted, 0);
    world_close();
}

static void an_idle_connection_is_closed(void **state)
{
    struct client client;
    (void)state;
    world_open(&(struct http_options){.idle_timeout = 30 * HASUP_MS});
    client_open(&client);
    client_say(&client, INVOKE "\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 200);
    assert_true(closes(&client));
    client_close(&client);
    world_close();
}

static void an_answer_that_nobody_reads_is_dropped(void **state)
{
    struct client client;
    static uint8_t large[LARGE_MAX];
    (void)state;
    world_open(&(struct http_options){.idle_timeout = 60 * HASUP_MS});
    pend(&client, INVOKE "\r\n");
    fake_reply(engine.last, 200, NULL, (struct body){.bytes = large, .len = sizeof large});
    run_until(nobody, -1);
    assert_int_equal(engine.cancelled, 0);
    client_close(&client);
    world_close();
}

/* ---- one request after the other ---- */

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct client client;
    char text[8192], want[16];
    size_t len = 0;
    (void)state;
    world_open(NULL);
    for (int i = 0; i < 50; i++)
        len += (size_t)snprintf(text + len, sizeof text - len,
                                INVOKE "Content-Length: 2\r\n\r\n%02d", i);
    client_open(&client);
    client_send(&client, text, len);
    for (int i = 0; i < 50; i++) {
        client_answer(&client);
        snprintf(want, sizeof want, "%02d", i);
        assert_string_equal(got.body, want);
    }
    engine.mode = HOLD;
    engine.submitted = 0;
    client_send(&client, text, len);
    for (int i = 0; i < 50; i++) {
        run_until(submitted, -1);
        assert_int_equal(engine.submitted, 1); /* the next one waits for this answer */
        engine.submitted = 0;
        fake_reply(engine.last, 200, NULL,
                   (struct body){.bytes = engine.body, .len = engine.body_len});
        client_answer(&client);
        snprintf(want, sizeof want, "%02d", i);
        assert_string_equal(got.body, want);
    }
    client_close(&client);
    world_close();
}

static void what_is_sent_ahead_is_bounded(void **state)
{
    static char ahead[1 << 20];
    struct client client;
    (void)state;
    world_open(NULL);
    memset(ahead, '\n', sizeof ahead);
    pend(&client, INVOKE "\r\n");
    ssize_t sent = 1, all = 0;
    for (int i = 0; i < 100 && sent > 0; i++) {
        sent = send(client.fd, ahead, sizeof ahead, MSG_DONTWAIT | MSG_NOSIGNAL);
        all += sent > 0 ? sent : 0;
        settle();
    }
    assert_true(sent < 0); /* the door stopped to read */
    fake_text(engine.last, 200, "done");
    client_answer(&client);
    assert_string_equal(got.body, "done");
    client_close(&client);
    run_until(nobody, -1);
    world_close();
}

static void keep_alive_and_close_are_exact(void **state)
{
    static const struct {
        const char *head;
        const char *connection;
    } cases[] = {
        {"GET /v2 HTTP/1.1\r\n" HOST "\r\n", NULL},
        {"GET /v2 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", "close"},
        {"GET /v2 HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n", "close"},
        {"GET /v2 HTTP/1.0\r\n\r\n", "close"},
        {"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "keep-alive"},
        {"GET /v2 HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", NULL},
    };
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < HASUP_LEN(cases); i++) {
        struct client client;
        client_open(&client);
        client_say(&client, cases[i].head);
        client_answer(&client);
        assert_int_equal(got.status, 200);
        const char *connection = got_header("Connection");
        if (!cases[i].connection)
            assert_null(connection);
        else
            assert_string_equal(connection, cases[i].connection);
        if (connection && !strcmp(connection, "close")) {
            assert_true(closes(&client));
        } else {
            client_say(&client, "GET /v2 HTTP/1.1\r\n" HOST "\r\n");
            client_answer(&client);
            assert_int_equal(got.status, 200);
        }
        client_close(&client);
    }
    world_close();
}

static void expect_100_continue_is_answered(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, INVOKE "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 100);
    client_say(&client, "abc");
    client_answer(&client);
    assert_string_equal(got.body, "abc");
    client_say(&client, INVOKE "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    client_answer(&client);
    assert_int_equal(got.status, 100);
    client_say(&client, "3\r\nabc\r\n0\r\n\r\n");
    client_answer(&client);
    assert_string_equal(got.body, "abc");
    client_say(&client, INVOKE "Expect: 100-continue\r\nContent-Length: 1\r\n\r\nz");
    client_answer(&client); /* the body was there: nothing to ask for */
    assert_string_equal(got.body, "z");
    client_say(&client, INVOKE "Expect: miracles\r\nContent-Length: 1\r\n\r\nz");
    client_answer(&client);
    assert_int_equal(got.status, 417);
    client_close(&client);
    world_close();
}

/* ---- bodies ---- */

static void chunked_bodies_are_collected(void **state)
{
    struct client client;
    char text[1024];
    (void)state;
    world_open(NULL);
    client_open(&client);
    int len = snprintf(text, sizeof text,
                       INVOKE "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
                              "4;x=\"y\"\r\ndefg\r\n0\r\nX-Trailer: t\r\n\r\n");
    client_say(&client, text);
    client_answer(&client);
    assert_string_equal(got.body, "abcdefg");
    for (int i = 0; i < len; i++) { /* a byte at a time */
        client_send(&client, text + i, 1);
        settle();
    }
    client_answer(&client);
    assert_string_equal(got.body, "abcdefg");
    assert_null(meta_text(HASUP_TAG_HEADER, "x-trailer"));
    client_close(&client);
    world_close();
}

static void framing_without_a_body_is_refused(void **state)
{
    struct client client;
    static char extension[4096];
    (void)state;
    world_open(NULL);
    client_open(&client);
    client_say(&client, INVOKE "Transfer-Encoding: chunked\r\n\r\n1;");
    memset(extension, 'e', sizeof extension);
    for (int i = 0; i < 200; i++) {
        struct pollfd p = {.fd = client.fd, .events = POLLIN};
        client_send(&client, extension, sizeof extension);
        settle();
        if (poll(&p, 1, 0) == 1)
            break;
    }
    client_answer(&client);
    assert_int_equal(got.status, 400);
    client_close(&client);
    world_close();
}

static void large_bodies_arrive_in_a_buffer(void **state)
{
    static const size_t sizes[] = {9000, 70000, 1 << 20, (1 << 20) + 1, 5000000};
    static uint8_t large[LARGE_MAX];
    struct client client;
    char head[256];
    (void)state;
    world_open(NULL);
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7 + i / 251);
    client_open(&client);
    for (size_t i = 0; i < HASUP_LEN(sizes); i++) {
        engine.mode = HOLD;
        engine.submitted = 0;
        snprintf(head, sizeof head,
                 "POST /models/large/invoke HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n",
                 sizes[i]);
        client_say(&client, head);
        client_send(&client, large, sizes[i]);
        run_until(submitted, -1);
        assert_int_equal(engine.body_len, sizes[i]);
        assert_memory_equal(engine.body, large, sizes[i]);
        assert_int_equal(engine.in_buffer, sizes[i] > HASUP_INLINE_MAX);
        fake_text(engine.last, 200, "ok");
        client_answer(&client);
        assert_string_equal(got.body, "ok");
    }
    client_close(&client);
    world_close();
}

static void an_answer_in_a_buffer_is_sent_from_there(void **state)
{
    struct client client;
    uint32_t sum = 0;
    (void)state;
    world_open(NULL);
    struct buffer *buffer = buffer_pool_take(&world.pool, 3000000);
    for (size_t i = 0; i < 3000000; i++)
        buffer->map[i] = (uint8_t)(i % 253);
    pend(&client, INVOKE "\r\n");
    fake_reply(engine.last, 200, NULL,
               (struct body){.len = 2999000, .buffer = buffer, .offset = 9});
    assert_int_equal(buffer->refs, 2); /* held until it is sent */
    client_head(&client);
    assert_string_equal(got_header("Content-Length"), "2999000");
    while (client.len < 2999000)
        client_read(&client);
    for (size_t i = 0; i < 2999000; i++)
        sum += (uint8_t)client.in[i] != (i + 9) % 253;
    assert_int_equal(sum, 0);
    settle();
    assert_int_equal(buffer->refs, 1);
    client_drop(&client, client.len);
    engine.mode = ECHO;
    client_say(&client, INVOKE "Content-Length: 1\r\n\r\nx");
    client_answer(&client);
    assert_string_equal(got.body, "x");
    buffer_unref(buffer);
    client_close(&client);
    world_close();
}

/* ---- limits and ends ---- */

static struct body in_buffer;

static void reply_in_buffer(void *context)
{
    (void)context;
    fake_reply(engine.last, 200, NULL, in_buffer);
}

/* The next request arrives in the very turn in which the answer before it is queued. */
static void an_answer_in_a_buffer_is_whole_before_the_next_begins(void **state)
{
    struct client client;
    (void)state;
    world_open(NULL);
    struct buffer *buffer = buffer_pool_take(&world.pool, 20000);
    memset(buffer->map, 'x', 20000);
    in_buffer = (struct body){.len = 20000, .buffer = buffer};
    pend(&client, INVOKE "\r\n");
    struct timer timer = {.due = reply_in_buffer};
    assert_int_equal(timer_set(&timer, world.loop, loop_now(world.loop)), 0);
    client_say(&client, "GET /v2/health/live HTTP/1.1\r\n" HOST "\r\n");
    client_answer(&client);
    assert_int_equal(got.len, 20000);
    assert_int_equal(strspn(got.body, "x"), 20000);
    client_answer(&client);
    assert_string_equal(got.body, "{\"live\":true}");
    timer_stop(&timer);
    client_close(&client);
    run_until(nobody, -1);
    buffer_unref(buffer);
    world_close();
}

static void too_many_connections(void **state)
{
    struct client clients[3];
    (void)state;
    world_open(&(struct http_options){.connections = 2});
    pend(&clients[0], INVOKE "\r\n");
    client_open(&clients[1]);
    settle();
    pend(&clients[2], INVOKE "\r\n"); /* the idle one made place */
    assert_true(closes(&clients[1]));
    client_close(&clients[1]);
    client_open(&clients[1]);
    client_answer(&clients[1]);
    assert_int_equal(got.status, 503);
    assert_string_equal(got_header("Retry-After"), "1");
    client_close(&clients[0]);
    run_until(cancelled, -1);
    engine.mode = ECHO;
    client_close(&clients[1]);
    client_open(&clients[1]);
    client_say(&clients[1], INVOKE "\r\n");
    client_answer(&clients[1]);
    assert_int_equal(got.status, 200);
    client_close(&clients[1]);
    client_close(&clients[2]);
    world_close();
}

static void drain_answers_what_is_there_and_closes(void **state)
{
    struct client pending, idle, late;
    (void)state;
    world_open(NULL);
    client_open(&idle);
    client_open(&late);
    settle();
    pend(&pending, INVOKE "\r\n");
    client_say(&late, "GET /v2 HTTP/1.1\r\n" HOST "\r\n"); /* in the socket when drain comes */
    http_drain(world.http);
    assert_true(closes(&idle));
    client_answer(&late);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_header("Connection"), "close");
    fake_text(engine.last, 200, "done");
    client_answer(&pending);
    assert_string_equal(got.body, "done");
    assert_string_equal(got_header("Connection"), "close");
    assert_true(closes(&pending));
    client_close(&idle);
    client_close(&late);
    client_close(&pending);
    run_until(nobody, -1);
    world_close();
}

static void stopping_with_pending_requests_cancels_them(void **state)
{
    struct client clients[3];
    (void)state;
    world_open(NULL);
    for (int i = 0; i < 3; i++)
        pend(&clients[i], i < 2 ? INVOKE "\r\n" : STREAM "\r\n");
    fake_chunk(engine.last, "a", 1);
    world_close();
    assert_int_equal(engine.cancelled, 3);
    for (int i = 0; i < 3; i++)
        client_close(&clients[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_events),
        cmocka_unit_test(accept_asks_for_events_and_raw_is_the_default),
        cmocka_unit_test(a_plain_answer_to_generate_stream_is_one_event),
        cmocka_unit_test(a_stream_that_fails_says_so),
        cmocka_unit_test(http_1_0_gets_no_chunks),
        cmocka_unit_test(a_slow_stream_client_is_cut_off),
        cmocka_unit_test(a_client_that_leaves_has_its_request_cancelled),
        cmocka_unit_test(one_that_leaves_before_its_body_is_whole_is_forgotten),
        cmocka_unit_test(a_head_that_drips_is_408),
        cmocka_unit_test(the_head_deadline_is_each_requests_own),
        cmocka_unit_test(a_body_that_drips_is_408),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(an_answer_that_nobody_reads_is_dropped),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(what_is_sent_ahead_is_bounded),
        cmocka_unit_test(keep_alive_and_close_are_exact),
        cmocka_unit_test(expect_100_continue_is_answered),
        cmocka_unit_test(chunked_bodies_are_collected),
        cmocka_unit_test(framing_without_a_body_is_refused),
        cmocka_unit_test(large_bodies_arrive_in_a_buffer),
        cmocka_unit_test(an_answer_in_a_buffer_is_sent_from_there),
        cmocka_unit_test(an_answer_in_a_buffer_is_whole_before_the_next_begins),
        cmocka_unit_test(too_many_connections),
        cmocka_unit_test(drain_answers_what_is_there_and_closes),
        cmocka_unit_test(stopping_with_pending_requests_cancels_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
