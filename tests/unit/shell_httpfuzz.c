/* The HTTP door lives through damaged requests: each connection is answered or closed, nothing
 * stays behind, and an undamaged request beside them is served.  HTTP_FUZZ_SEED and HTTP_FUZZ_RUNS
 * repeat or lengthen it. */
#include "tests/unit/http_world.h"

#include <inttypes.h>

static const char *const seeds[] = {
    "POST /models/m/invoke HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
    "POST /v2/models/m/infer HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nX-Request-Timeout: "
    "1.5\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
    "GET /v2/models/odd%20name/versions/1/ready?q HTTP/1.1\r\n" HOST "X-Request-Id: r\r\n\r\n",
    "POST /v2/models/m/generate_stream HTTP/1.1\r\n" HOST
    "Expect: 100-continue\r\nAccept: text/event-stream\r\nContent-Length: 2\r\n\r\n{}",
    "OPTIONS * HTTP/1.1\r\n" HOST "\r\nGET /v2 HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\n" HOST
    "Content-Length: 52\r\n\r\n{\"messages\": [{\"a\": \"\\u0062\"}], \"model\": \"m\", \"n\":1}",
    "GET http://t/v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\nHEAD /v2 "
    "HTTP/1.0\r\n\r\n",
};

static uint64_t state_of_chance;

static uint32_t chance(uint32_t below)
{
    state_of_chance ^= state_of_chance << 13;
    state_of_chance ^= state_of_chance >> 7;
    state_of_chance ^= state_of_chance << 17;
    return (uint32_t)(state_of_chance >> 33) % below;
}

/* Flips, cuts, doubles or splices a part. */
static size_t damage(char *text, size_t len, size_t room)
{
    for (uint32_t times = chance(4); times && len > 1; times--) {
        size_t at = chance((uint32_t)len), part = 1 + chance((uint32_t)(len - at));
        const char *other = seeds[chance(HASUP_LEN(seeds))];
        switch (chance(5)) {
        case 0: text[at] = (char)(text[at] ^ (1 << chance(8))); break;
        case 1: text[at] = (char)chance(256); break;
        case 2: len = at + 1; break;
        case 3:
            memmove(text + at, text + at + part, len - at - part);
            len -= part;
            break;
        case 4:
            part = strlen(other) - chance((uint32_t)strlen(other));
            if (len + part > room)
                break;
            memmove(text + at + part, text + at, len - at);
            memcpy(text + at, other, part);
            len += part;
            break;
        }
    }
    return len;
}

static bool nobody(void)
{
    return http_connections(world.http) == 0;
}

/* Sends it in up to three pieces and leaves, politely or not. */
static void send_damaged(void)
{
    struct client client;
    char text[4096];
    const char *seed = seeds[chance(HASUP_LEN(seeds))];
    size_t len = strlen(seed);
    memcpy(text, seed, len);
    len = damage(text, len, sizeof text);
    client_open(&client);
    for (size_t at = 0, piece; at < len; at += piece) {
        piece = chance(2) ? len - at : 1 + chance((uint32_t)(len - at));
        client_send(&client, text + at, piece);
        if (chance(2))
            settle();
    }
    if (chance(2))
        shutdown(client.fd, SHUT_WR);
    settle();
    client_close(&client);
}

static void damaged_requests_do_no_harm(void **unused)
{
    const char *seed = getenv("HTTP_FUZZ_SEED"), *runs = getenv("HTTP_FUZZ_RUNS");
    uint64_t first = seed ? strtoull(seed, NULL, 0) : 0x68747470;
    long count = runs ? atol(runs) : 1500;
    (void)unused;
    world_open(NULL);
    for (long i = 0; i < count; i++) {
        state_of_chance = (first + (uint64_t)i) * 0x9E3779B97F4A7C15 | 1;
        engine.mode = chance(4) ? ECHO : HOLD;
        send_damaged();
        if (i % 50)
            continue;
        run_until(nobody, -1);
        engine.mode = ECHO;
        ask(seeds[0]);
        if (got.status != 200 || strcmp(got.body, "hello") != 0)
            fail_msg("HTTP_FUZZ_SEED=%" PRIu64 ": served %d", first + (uint64_t)i, got.status);
    }
    run_until(nobody, -1);
    assert_true(engine.submitted > count / 10); /* many are still requests */
    world_close();
}

/* Every byte of a request, cut there and left: no half request is ever run. */
static void a_cut_request_is_never_run(void **unused)
{
    (void)unused;
    world_open(NULL);
    for (size_t i = 0; i < 2; i++)
        for (size_t len = 1; len < strlen(seeds[i]); len++) {
            struct client client;
            client_open(&client);
            client_send(&client, seeds[i], len);
            shutdown(client.fd, SHUT_WR);
            assert_true(closes(&client));
            client_close(&client);
        }
    assert_int_equal(engine.submitted, 0);
    run_until(nobody, -1);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_requests_do_no_harm),
        cmocka_unit_test(a_cut_request_is_never_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
