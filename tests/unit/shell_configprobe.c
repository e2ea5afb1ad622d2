/* A probe is read as it is written, one kind of it, and what means nothing is said with its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/address.h"
#include "supervisor/config_probe.h"

/* Reads "ready: TEXT" of the program web; the errors are in `error`. */
static struct config_probe read_probe(const char *text, char error[CONFIG_ERROR_MAX])
{
    char whole[2048];
    struct config_errors errors;
    struct config_reader reader = {.errors = &errors, .directory = "/etc/hasup"};
    struct config_probe probe = {.failures = 0};
    int len = snprintf(whole, sizeof whole, "ready: %s\n", text);
    config_errors_init(&errors, "f.yaml", error);
    struct node *root = config_tree_parse(whole, (size_t)len, &errors);
    if (root)
        config_probe_read(&reader, config_tree_find(root, "ready"), "programs.web.ready", &probe);
    config_tree_free(root);
    config_errors_end(&errors);
    return probe;
}

static struct config_probe good(const char *text)
{
    char error[CONFIG_ERROR_MAX];
    struct config_probe probe = read_probe(text, error);
    if (error[0])
        fail_msg("refused: %s", error);
    return probe;
}

static void bad(const char *text, const char *expected)
{
    char error[CONFIG_ERROR_MAX], whole[CONFIG_ERROR_MAX];
    struct config_probe probe = read_probe(text, error);
    snprintf(whole, sizeof whole, "f.yaml:%s", expected);
    assert_string_equal(error, whole);
    config_probe_free(&probe);
}

/* What it reads as: as JSON, and that once more. */
static void shown(const char *text, const char *expected)
{
    struct config_probe probe = good(text);
    for (int again = 0; again < 2; again++) {
        json_t *json = config_probe_json(&probe);
        char *got = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
        config_probe_free(&probe);
        assert_string_equal(got, expected);
        probe = good(got);
        free(got);
        json_decref(json);
    }
    config_probe_free(&probe);
}

static void a_probe_is_a_command_a_port_or_a_url(void **state)
{
    (void)state;
    struct config_probe p = good("{exec: [./check, -c, a b], timeout: 5s}");
    assert_int_equal(p.spec.kind, PROBE_EXEC);
    assert_string_equal(p.spec.exec[0], "/etc/hasup/check");
    assert_string_equal(p.spec.exec[2], "a b");
    assert_null(p.spec.exec[3]);
    assert_int_equal(p.spec.timeout, 5 * HASUP_S);
    assert_int_equal(p.interval, HASUP_S);
    assert_int_equal(p.failures, 3);
    config_probe_free(&p);
    p = good("{tcp: 5432, interval: 10s, failures: 1}");
    assert_int_equal(p.spec.kind, PROBE_TCP);
    assert_string_equal(p.spec.address, "localhost:5432");
    assert_int_equal(p.interval, 10 * HASUP_S);
    assert_int_equal(p.failures, 1);
    config_probe_free(&p);
    p = good("{http: 'http://[::1]:8080/healthz?full=1'}");
    assert_int_equal(p.spec.kind, PROBE_HTTP);
    assert_string_equal(p.spec.address, "[::1]:8080");
    assert_string_equal(p.spec.path, "/healthz?full=1");
    assert_int_equal(p.spec.status_min, 200);
    assert_int_equal(p.spec.status_max, 399);
    assert_int_equal(p.spec.timeout, HASUP_S);
    config_probe_free(&p);
    p = good("");
    assert_int_equal(p.spec.kind, PROBE_NONE);
}

static void a_probe_is_shown_as_it_may_be_written(void **state)
{
    (void)state;
#define REST "\"interval\":\"1s\",\"timeout\":\"1s\",\"failures\":3}"
    shown("", "null");
    shown("{exec: [true]}", "{\"exec\":[\"true\"]," REST);
    shown("{tcp: '127.0.0.1:81{slot}'}", "{\"tcp\":\"127.0.0.1:81{slot}\"," REST);
    shown("{tcp: 'unix:/run/web-{slot}.sock'}", "{\"tcp\":\"unix:/run/web-{slot}.sock\"," REST);
    shown("{http: 'http://127.0.0.1'}",
          "{\"http\":\"http://127.0.0.1:80/\",\"status\":\"200-399\"," REST);
    shown("{http: 'http://[::1]?q', status: 204}",
          "{\"http\":\"http://[::1]:80/?q\",\"status\":\"204-204\"," REST);
    shown("{http: {port: '80{slot}'}, status: 200-204}",
          "{\"http\":\"http://localhost:80{slot}/\",\"status\":\"200-204\"," REST);
    shown("{http: {host: '::1', port: 80, path: /x}}",
          "{\"http\":\"http://[::1]:80/x\",\"status\":\"200-399\"," REST);
    shown("{http: {socket: web.sock, path: /x}}",
          "{\"http\":{\"socket\":\"/etc/hasup/web.sock\",\"path\":\"/x\"},"
          "\"status\":\"200-399\"," REST);
}

static void placeholders_are_filled_in_when_it_is_asked(void **state)
{
    (void)state;
    const struct template_values values = {.model = "web", .slot = 2};
    struct config_probe p = good("{http: {port: '{slot+8000}', path: '/{model}'}}");
    struct probe_spec filled;
    assert_true(config_probe_fill(&p.spec, &values, &filled));
    assert_string_equal(filled.address, "localhost:8002");
    assert_string_equal(filled.path, "/web");
    assert_null(filled.exec);
    assert_string_equal(p.spec.address, "localhost:{slot+8000}");
    config_probe_spec_free(&filled);
    config_probe_free(&p);
    p = good("{exec: [check, '{slot}']}");
    assert_true(config_probe_fill(&p.spec, &values, &filled));
    assert_string_equal(filled.exec[1], "2");
    config_probe_spec_free(&filled);
    config_probe_free(&p);
    bad("{exec: [check, '{slto}']}",
        "1:15: programs.web.ready.exec: there is no {slto}; did you mean {slot}? {{slto}} stands "
        "for {slto} itself");
}

static void a_probe_is_of_one_kind(void **state)
{
    (void)state;
    bad("{interval: 1s}",
        "1:8: programs.web.ready: expected one of exec:, tcp:, http:; found none");
    bad("{tcp: 80, exec: [x]}",
        "1:8: programs.web.ready: expected one of exec:, tcp:, http:; found more than one");
    bad("8080", "1:8: programs.web.ready: expected keys such as tcp: or http:; found text");
    bad("[8080]", "1:8: programs.web.ready: expected keys such as tcp: or http:; found a list");
}

static void a_key_that_is_none_has_a_suggestion(void **state)
{
    (void)state;
    bad("{tcp: 80, timout: 1s}",
        "1:18: programs.web.ready.timout: unknown key; did you mean \"timeout\"?");
    bad("{tcp: 80, port: 1}", "1:18: programs.web.ready.port: unknown key; known here: http, exec, "
                              "tcp, status, interval, timeout, failures");
    bad("{http: {prt: 80, port: 80}}",
        "1:16: programs.web.ready.http.prt: unknown key; did you mean \"port\"?");
    bad("{http: {port: 80}, pth: /}",
        "1:27: programs.web.ready.pth: unknown key; did you mean \"http.path\"?");
}

static void an_address_is_a_literal_one(void **state)
{
    (void)state;
#define NAMES "names are not looked up: write an IPv4 address, [an IPv6 address] or localhost"
    bad("{tcp: 'db.example:5432'}", "1:14: programs.web.ready.tcp: \"db.example:5432\": " NAMES);
    bad("{tcp: '::1:80'}", "1:14: programs.web.ready.tcp: \"::1:80\": " NAMES);
    bad("{tcp: 70000}",
        "1:14: programs.web.ready.tcp: \"localhost:70000\": there is no port of 1 to 65535");
    bad("{tcp: '127.0.0.1:0'}",
        "1:14: programs.web.ready.tcp: \"127.0.0.1:0\": there is no port of 1 to 65535");
    bad("{tcp: 'unix:run/x'}", "1:14: programs.web.ready.tcp: \"unix:run/x\": a socket's path is "
                               "absolute and has at most 107 bytes");
    bad("{http: 'http://web/'}", "1:15: programs.web.ready.http: \"web:80\": " NAMES);
    bad("{http: 'https://127.0.0.1/'}",
        "1:15: programs.web.ready.http: https is not spoken here: ask a port that serves http, or "
        "let exec ask");
    bad("{http: 8080}",
        "1:15: programs.web.ready.http: expected a URL such as http://127.0.0.1:8080/healthz, or "
        "keys such as {port: 8080, path: /healthz}; found \"8080\"");
    bad("{http: {path: /}}",
        "1:15: programs.web.ready.http: expected a port, or a socket: one of them");
    bad("{http: {port: 80, socket: /x}}",
        "1:15: programs.web.ready.http: expected a port, or a socket: one of them");
    bad("{http: {host: 10.0.0.1, socket: /x}}",
        "1:22: programs.web.ready.http.host: a socket has no host");
    bad("{http: {host: web, port: 80}}", "1:33: programs.web.ready.http.port: \"web:80\": " NAMES);
}

static void a_value_that_means_nothing_is_told(void **state)
{
    (void)state;
#define A_PATH "expected a path such as /healthz, of at most 1024 visible ASCII letters without #; "
    bad("{http: {port: 80, path: health}}",
        "1:32: programs.web.ready.http.path: " A_PATH "found \"health\"");
    bad("{http: {port: 80, path: '/a b'}}",
        "1:32: programs.web.ready.http.path: " A_PATH "found \"/a b\"");
    bad("{http: 'http://127.0.0.1/x#y'}",
        "1:15: programs.web.ready.http: " A_PATH "found \"/x#y\"");
    bad("{http: 'http://127.0.0.1/', status: 2xx}",
        "1:44: programs.web.ready.status: expected 200, or a range such as 200-399; found \"2xx\"");
    bad("{http: 'http://127.0.0.1/', status: 399-200}",
        "1:44: programs.web.ready.status: expected 200, or a range such as 200-399; found "
        "\"399-200\"");
    bad("{tcp: 80, status: 200}", "1:26: programs.web.ready.status: only an http probe has one");
    bad("{exec: curl -f x}", "1:15: programs.web.ready.exec: expected a list of words; found "
                             "text: write [curl, '-f', x]");
    bad("{exec: []}", "1:15: programs.web.ready.exec: expected a list of words such as [python3, "
                      "worker.py]; found an empty list");
    bad("{tcp: [80]}", "1:14: programs.web.ready.tcp: expected text; found a list");
    bad("{tcp: 80, failures: 0}",
        "1:28: programs.web.ready.failures: 0 is out of range: 1 to 1048576");
    bad("{tcp: 80, timeout: 0}", "1:27: programs.web.ready.timeout: 0 is out of range: 1ms to 24h");
}

static void addresses_are_what_sockets_connect_to(void **state)
{
    (void)state;
    struct address a;
    assert_int_equal(address_read("localhost:80", &a), ADDRESS_FINE);
    assert_int_equal(a.count, 2);
    assert_int_equal(a.places[0].at.any.sa_family, AF_INET);
    assert_int_equal(a.places[1].at.any.sa_family, AF_INET6);
    assert_int_equal(address_read("unix:/x", &a), ADDRESS_FINE);
    assert_int_equal(a.places[0].at.any.sa_family, AF_UNIX);
    assert_int_equal(address_read("80", &a), ADDRESS_NO_PORT);
    assert_int_equal(address_read("", &a), ADDRESS_NO_PORT);
    assert_int_equal(address_read(":80", &a), ADDRESS_NAME);
    assert_int_equal(address_read("[]:80", &a), ADDRESS_NAME);
    assert_int_equal(address_read("127.0.0.1:", &a), ADDRESS_NO_PORT);
    assert_int_equal(address_read("127.0.0.1:000080", &a), ADDRESS_NO_PORT);
    assert_int_equal(address_read("[127.0.0.1]:80", &a), ADDRESS_NAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_is_a_command_a_port_or_a_url),
        cmocka_unit_test(a_probe_is_shown_as_it_may_be_written),
        cmocka_unit_test(placeholders_are_filled_in_when_it_is_asked),
        cmocka_unit_test(a_probe_is_of_one_kind),
        cmocka_unit_test(a_key_that_is_none_has_a_suggestion),
        cmocka_unit_test(an_address_is_a_literal_one),
        cmocka_unit_test(a_value_that_means_nothing_is_told),
        cmocka_unit_test(addresses_are_what_sockets_connect_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
