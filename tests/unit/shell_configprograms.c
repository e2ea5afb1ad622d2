/* `programs` beside `models`: their keys, what these mean together, and what starts after what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "supervisor/config_tree.h"

#define PROGRAM "programs:\n  web:\n    command: [x]\n"
#define TASK    PROGRAM "    oneshot: true\n"

static struct config *parse(const char *text, char error[CONFIG_ERROR_MAX])
{
    return config_parse(text, strlen(text), "f.yaml", "/etc/hasup", error);
}

static struct config *good(const char *text)
{
    char error[CONFIG_ERROR_MAX];
    struct config *config = parse(text, error);
    if (!config)
        fail_msg("refused:\n%s\n%s", text, error);
    assert_string_equal(error, "");
    return config;
}

/* With its message, and that alone. */
static void bad(const char *text, const char *expected)
{
    char error[CONFIG_ERROR_MAX], whole[CONFIG_ERROR_MAX];
    struct config *config = parse(text, error);
    if (config)
        fail_msg("accepted:\n%s", text);
    snprintf(whole, sizeof whole, "f.yaml:%s", expected);
    assert_string_equal(error, whole);
}

static void programs_alone_are_a_complete_configuration(void **state)
{
    (void)state;
    struct config *c = good(PROGRAM);
    assert_int_equal(c->model_count, 1);
    const struct config_model *p = c->models;
    assert_string_equal(p->name, "web");
    assert_true(config_is_program(p));
    assert_string_equal(config_section_of(p), "programs");
    assert_int_equal(p->policy.kind, KIND_PROGRAM);
    assert_int_equal(p->policy.workers, 1);
    assert_int_equal(p->policy.revival, REVIVE_ALWAYS);
    assert_int_equal(p->stop_signal, SIGTERM);
    assert_int_equal(p->ready.how, READY_AT_ONCE);
    assert_int_equal(p->live.spec.kind, PROBE_NONE);
    assert_int_equal(p->policy.probes[PROBE_READY].interval, 0);
    assert_int_equal(p->policy.probes[PROBE_LIVE].interval, 0);
    assert_int_equal(p->policy.timeouts.start, 300 * HASUP_S);
    assert_int_equal(p->policy.rollout.max_surge, 0); /* two would want one port */
    assert_false(p->policy.tells);
    assert_null(p->after);
    assert_null(p->requires);
    config_free(c);
}

static void a_program_is_read_as_it_is_written(void **state)
{
    (void)state;
    struct config *c = good("programs:\n"
                            "  web:\n"
                            "    command: [./serve]\n"
                            "    slots: 3\n"
                            "    ready: {tcp: '{slot+8000}', interval: 250ms}\n"
                            "    live: {exec: [./look], failures: 5}\n"
                            "    stop_signal: SIGINT\n"
                            "    essential: true\n"
                            "    requires: [m]\n"
                            "    after: [task]\n"
                            "    restart: {when: on-failure}\n"
                            "  task: {command: [y], oneshot: true}\n"
                            "  told: {command: [y], ready: notify, stop_signal: RTMIN+3}\n"
                            "  line: {command: [y], ready: fd, stop_signal: 3}\n"
                            "models:\n"
                            "  m: {command: [z], requires: [told], after: [line]}\n");
    const struct config_model *web = config_model_named(c, "web"),
                              *task = config_model_named(c, "task"),
                              *told = config_model_named(c, "told"),
                              *line = config_model_named(c, "line"),
                              *m = config_model_named(c, "m");
    assert_string_equal(web->command[0], "/etc/hasup/serve");
    assert_int_equal(web->policy.workers, 3);
    assert_int_equal(web->ready.how, READY_PROBE);
    assert_int_equal(web->policy.probes[PROBE_READY].interval, 250 * HASUP_MS);
    assert_int_equal(web->policy.probes[PROBE_LIVE].interval, HASUP_S);
    assert_int_equal(web->policy.probes[PROBE_LIVE].failures, 5);
    assert_false(web->policy.tells);
    assert_int_equal(web->stop_signal, SIGINT);
    assert_true(web->policy.essential);
    assert_string_equal(web->requires[0], "m");
    assert_string_equal(web->after[0], "task");
    assert_int_equal(web->policy.revival, REVIVE_ON_FAILURE);
    assert_int_equal(task->policy.kind, KIND_ONESHOT);
    assert_int_equal(task->policy.revival, REVIVE_ON_FAILURE); /* its default */
    assert_int_equal(told->ready.how, READY_NOTIFY);
    assert_true(told->policy.tells);
    assert_int_equal(told->stop_signal, SIGRTMIN + 3);
    assert_int_equal(line->ready.how, READY_FD);
    assert_true(line->policy.tells);
    assert_int_equal(line->stop_signal, SIGQUIT);
    assert_false(config_is_program(m));
    assert_string_equal(m->requires[0], "told");
    assert_string_equal(m->after[0], "line");
    config_free(c);
}

static void restart_when_has_three_values(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int revival;
    } whens[] = {
        {"always", REVIVE_ALWAYS}, {"on-failure", REVIVE_ON_FAILURE}, {"never", REVIVE_NEVER}};
    char text[256];
    for (size_t i = 0; i < HASUP_LEN(whens); i++) {
        snprintf(text, sizeof text, PROGRAM "    restart: {when: %s}\n", whens[i].text);
        struct config *c = good(text);
        assert_int_equal(c->models->policy.revival, whens[i].revival);
        config_free(c);
    }
    bad(PROGRAM "    restart: {when: sometimes}\n",
        "4:21: programs.web.restart.when: expected one of always, on-failure, never; found "
        "\"sometimes\"");
    bad("models:\n  m:\n    command: [x]\n    restart: {when: never}\n",
        "4:15: models.m.restart.when: unknown key; known here: backoff_min, backoff_max, "
        "healthy_after, start_limit, breaker");
}

static void a_oneshot_has_nothing_of_what_stays(void **state)
{
    (void)state;
    static const char ENDS[] = "a oneshot does its task and ends, within timeouts.start";
    static const struct {
        const char *line, *place;
    } wrong[] = {
        {"ready: notify", "5:12: programs.web.ready"},
        {"ready: {tcp: 80}", "5:12: programs.web.ready"},
        {"live: {tcp: 80}", "5:11: programs.web.live"},
        {"timeouts: {watchdog: 1s}", "5:26: programs.web.timeouts.watchdog"},
        {"recycle: {age: 1h}", "5:20: programs.web.recycle.age"},
    };
    char text[256], error[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < HASUP_LEN(wrong); i++) {
        snprintf(text, sizeof text, TASK "    %s\n", wrong[i].line);
        snprintf(error, sizeof error, "%s: %s", wrong[i].place, ENDS);
        bad(text, error);
    }
    bad(TASK "    restart: {when: always}\n",
        "5:21: programs.web.restart.when: a oneshot that is done is not run again: on-failure, or "
        "never");
    config_free(good(TASK "    restart: {when: never}\n"));
}

static void what_means_nothing_is_named_with_its_place(void **state)
{
    (void)state;
    bad("programs:\n  web:\n", "2:3: programs.web.command: required: what to run, such as "
                               "[python3, worker.py]");
    bad("programs: [web]\n", "1:11: programs: expected a map from names to programs; found a list");
    bad("programs:\n  -web: {command: [x]}\n",
        "2:3: programs.-web: a program's name has 1 to 63 letters, digits, '.', '_', '-', and "
        "begins with a letter or digit");
    bad(PROGRAM "    stop_signal: TREM\n",
        "4:18: programs.web.stop_signal: expected a signal such as TERM, INT or QUIT; found "
        "\"TREM\"");
    bad(PROGRAM "    stop_signal: 0\n",
        "4:18: programs.web.stop_signal: expected a signal such as TERM, INT or QUIT; found \"0\"");
    bad(PROGRAM "    ready: tcp\n", "4:12: programs.web.ready: expected notify, fd, or keys such "
                                    "as {tcp: 8080}; found \"tcp\"");
    bad(PROGRAM "    ready: [notify]\n", "4:12: programs.web.ready: expected notify, fd, or keys "
                                         "such as {tcp: 8080}; found a list");
    bad(PROGRAM "    ready: {tcp: 80, failures: 2}\n",
        "4:32: programs.web.ready.failures: what is not ready yet is asked until timeouts.start is "
        "over; live: has failures");
    bad(PROGRAM "    ready: {tcp: 8080}\n",
        "4:12: programs.web.ready: localhost:8080 is where hasupd itself listens (listen.http): it "
        "would answer");
    bad(PROGRAM "    restart: always\n",
        "4:14: programs.web.restart: expected keys; write {when: always}");
    bad(PROGRAM "    depends_on: [a]\n",
        "4:5: programs.web.depends_on: unknown key; here it is called \"requires\"");
    bad(PROGRAM "    stop_signal: STOP\n",
        "4:18: programs.web.stop_signal: STOP ends nothing: a signal such as TERM, INT or QUIT");
    bad(PROGRAM "    live: notify\n",
        "4:11: programs.web.live: expected keys such as tcp: or http:; found text");
    bad(PROGRAM "    stop_signl: INT\n",
        "4:5: programs.web.stop_signl: unknown key; did you mean \"stop_signal\"?");
    bad(PROGRAM "    backoff_min: 1s\n",
        "4:5: programs.web.backoff_min: unknown key; did you mean \"restart.backoff_min\"?");
}

/* What speaks of requests. */
static void a_program_has_no_keys_of_serving(void **state)
{
    (void)state;
    static const char *const lines[] = {"workers: 2",
                                        "spares: 1",
                                        "preload: true",
                                        "adapter: {kind: http}",
                                        "journal: always",
                                        "queue: {requests: 1}",
                                        "batch: {max_batch: 1}",
                                        "checkpoint: {keep: 1}"};
    char text[256], error[CONFIG_ERROR_MAX], expected[64];
    for (size_t i = 0; i < HASUP_LEN(lines); i++) {
        snprintf(text, sizeof text, PROGRAM "    %s\n", lines[i]);
        assert_null(parse(text, error));
        snprintf(expected, sizeof expected, "f.yaml:4:5: programs.web.%.*s: unknown key",
                 (int)strcspn(lines[i], ":"), lines[i]);
        assert_non_null(strstr(error, expected));
    }
}

/* ---- names and order ---- */

static void models_and_programs_share_their_names(void **state)
{
    (void)state;
    bad("models: {a: {command: [x]}}\nprograms:\n  b: {command: [x]}\n  a: {command: [x]}\n",
        "4:3: programs.a: line 1 has this name, too: models and programs share their names");
}

static void who_is_waited_for_is_there(void **state)
{
    (void)state;
    bad(PROGRAM "    requires: [wob]\n",
        "4:15: programs.web.requires: there is no \"wob\"; did you mean \"web\"?");
    bad(PROGRAM "    after: [database]\n", "4:12: programs.web.after: there is no \"database\"");
    bad(PROGRAM "models:\n  digits: {command: [x], requires: [wbe]}\n",
        "5:36: models.digits.requires: there is no \"wbe\"; did you mean \"web\"?");
    bad(PROGRAM "    after: web\n", "4:12: programs.web.after: expected a list of words; found "
                                    "text: write [web]");
}

static void a_circle_names_who_is_in_it(void **state)
{
    (void)state;
    bad(PROGRAM "    requires: [web]\n",
        "4:15: programs.web.requires: goes round in a circle: web after web");
    bad("models:\n  m: {command: [x], requires: [a]}\n"
        "programs:\n  a: {command: [x], after: [b]}\n  b: {command: [x], requires: [m]}\n",
        "5:31: programs.b.requires: goes round in a circle: m after a after b after m");
    bad("programs:\n  out: {command: [x], after: [a]}\n  a: {command: [x], after: [b]}\n"
        "  b: {command: [x], after: [a]}\n",
        "4:28: programs.b.after: goes round in a circle: a after b after a");
    config_free(good("programs:\n  top: {command: [x], after: [l, r]}\n  l: {command: [x], after: "
                     "[low]}\n  r: {command: [x], requires: [low]}\n  low: {command: [x]}\n"));
}

static void at_most_so_many_are_waited_for(void **state)
{
    (void)state;
    char text[4096];
    for (int count = CORE_AFTER; count <= CORE_AFTER + 1; count++) {
        int len = snprintf(text, sizeof text, PROGRAM "    after: [");
        for (int i = 0; i < count; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "%sp%d", i ? ", " : "", i);
        len += snprintf(text + len, sizeof text - (size_t)len, "]\n");
        for (int i = 0; i < count; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "  p%d: {command: [x]}\n", i);
        if (count <= CORE_AFTER)
            config_free(good(text));
        else
            bad(text, "4:12: programs.web.after: 17 names in after and requires, at most 16");
    }
}

/* ---- limits, reloads ---- */

static void limits_count_both(void **state)
{
    (void)state;
    bad("limits: {models: 1}\nmodels: {a: {command: [x]}}\nprograms: {b: {command: [x]}}\n",
        "2:1: models: 2 models and programs, but limits.models is 1");
    bad("limits: {slots: 4}\nmodels: {a: {command: [x], workers: 2, spares: 1}}\n"
        "programs: {b: {command: [x], slots: 2}}\n",
        "2:1: models: 5 slots in all, but limits.slots is 4");
    bad("limits: {slots: 1}\nprograms: {b: {command: [x], slots: 2}}\n",
        "2:1: programs: 2 slots in all, but limits.slots is 1");
    config_free(good("limits: {slots: 4, models: 2}\nmodels: {a: {command: [x], workers: 2}}\n"
                     "programs: {b: {command: [x], slots: 2}}\n"));
}

static uint64_t fingerprint_of(const char *keys)
{
    char text[256];
    snprintf(text, sizeof text, PROGRAM "%s", keys);
    struct config *config = good(text);
    uint64_t fingerprint = config->models[0].fingerprint;
    config_free(config);
    return fingerprint;
}

static void a_program_restarts_for_what_it_was_started_with(void **state)
{
    (void)state;
    const uint64_t plain = fingerprint_of(""), probed = fingerprint_of("    ready: {tcp: 80}\n");
    assert_true(plain == fingerprint_of("    slots: 2\n    stop_signal: INT\n"));
    assert_true(plain == fingerprint_of("    live: {tcp: 80}\n    restart: {when: never}\n"));
    assert_true(plain != fingerprint_of("    environment: {A: b}\n"));
    assert_true(plain != probed);
    assert_true(plain != fingerprint_of("    ready: fd\n"));
    assert_true(probed == fingerprint_of("    ready: {http: 'http://localhost/'}\n"));
}

static void its_json_is_what_holds(void **state)
{
    (void)state;
    struct config *config =
        good("models: {m: {command: [x], requires: [web]}}\n"
             "programs:\n"
             "  web: {command: [x], ready: {http: {port: 80, path: /a}}, slots: 2}\n"
             "  told: {command: [x], ready: notify, stop_signal: INT}\n"
             "  task: {command: [x], oneshot: true, after: [told]}\n");
    char *text = config_json(config);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *live;
    const char *url, *interval, *ready, *signal, *when, *after, *required;
    int slots, oneshot;
    assert_non_null(json);
    assert_int_equal(
        json_unpack(json,
                    "{s:{s:{s:{s:s, s:s}, s:o, s:i}, s:{s:s, s:s}, s:{s:b, s:{s:s}, s:[s]}}, "
                    "s:{s:{s:[s]}}}",
                    "programs", "web", "ready", "http", &url, "interval", &interval, "live", &live,
                    "slots", &slots, "told", "ready", &ready, "stop_signal", &signal, "task",
                    "oneshot", &oneshot, "restart", "when", &when, "after", &after, "models", "m",
                    "requires", &required),
        0);
    assert_string_equal(url, "http://localhost:80/a");
    assert_string_equal(interval, "1s");
    assert_true(json_is_null(live));
    assert_int_equal(slots, 2);
    assert_string_equal(ready, "notify");
    assert_string_equal(signal, "INT");
    assert_true(oneshot);
    assert_string_equal(when, "on-failure");
    assert_string_equal(after, "told");
    assert_string_equal(required, "web");
    json_decref(json);
    free(text);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_alone_are_a_complete_configuration),
        cmocka_unit_test(a_program_is_read_as_it_is_written),
        cmocka_unit_test(restart_when_has_three_values),
        cmocka_unit_test(a_oneshot_has_nothing_of_what_stays),
        cmocka_unit_test(what_means_nothing_is_named_with_its_place),
        cmocka_unit_test(a_program_has_no_keys_of_serving),
        cmocka_unit_test(models_and_programs_share_their_names),
        cmocka_unit_test(who_is_waited_for_is_there),
        cmocka_unit_test(a_circle_names_who_is_in_it),
        cmocka_unit_test(at_most_so_many_are_waited_for),
        cmocka_unit_test(limits_count_both),
        cmocka_unit_test(a_program_restarts_for_what_it_was_started_with),
        cmocka_unit_test(its_json_is_what_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
