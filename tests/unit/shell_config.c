/* The configuration is strict, says where and what is wrong, and its defaults are the example's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "supervisor/config_tree.h"
#include "supervisor/engine.h"

static struct config *parse(const char *text, char error[CONFIG_ERROR_MAX])
{
    return config_parse(text, strlen(text), "f.yaml", "/etc/hasup", error);
}

static struct config *good(const char *text)
{
    char error[CONFIG_ERROR_MAX];
    struct config *config = parse(text, error);
    if (!config)
        fail_msg("refused: %s", error);
    assert_string_equal(error, "");
    return config;
}

static void three_lines_are_a_complete_configuration(void **state)
{
    (void)state;
    struct config *c = good("models:\n"
                            "  digits:\n"
                            "    command: [build/examples/digits]\n"
                            "    workers: 2\n");
    assert_int_equal(c->model_count, 1);
    const struct config_model *m = c->models;
    assert_string_equal(m->name, "digits");
    assert_string_equal(m->command[0], "/etc/hasup/build/examples/digits");
    assert_null(m->command[1]);
    assert_string_equal(m->directory, "/etc/hasup");
    assert_null(m->environment);
    assert_int_equal(m->line, 2);
    assert_int_equal(m->policy.workers, 2);
    assert_int_equal(m->policy.policy, POLICY_FASTEST);
    assert_int_equal(m->policy.concurrency_max, 0);
    assert_int_equal(m->policy.max_attempts, 3);
    assert_int_equal(m->policy.restart.backoff_min, 100 * HASUP_MS);
    assert_int_equal(m->policy.restart.backoff_max, 30 * HASUP_S);
    assert_int_equal(m->policy.restart.breaker, 60 * HASUP_S);
    assert_int_equal(m->policy.timeouts.start, 300 * HASUP_S);
    assert_int_equal(m->request_timeout, 60 * HASUP_S);
    assert_int_equal(m->body_max, 64 << 20);
    assert_int_equal(m->policy.queue.requests, 1000);
    assert_int_equal(m->checkpoint.keep, 3);
    assert_string_equal(c->file, "f.yaml");
    assert_string_equal(c->listen_http, "127.0.0.1:8080");
    assert_string_equal(c->listen_unix + strlen(c->runtime_dir), "/hasup.sock");
    assert_int_equal(config_off(c), 0);
    assert_false(c->insecure);
    assert_int_equal(c->log.level, LEVEL_INFO);
    assert_int_equal(c->limits.requests, 65536);
    assert_int_equal(c->shutdown_grace, 30 * HASUP_S);
    config_free(c);
}

static void values_are_read_as_written(void **state)
{
    (void)state;
    struct config *c = good("state_dir: state\n"
                            "runtime_dir: ./run\n"
                            "listen: {http: off, unix: /tmp/x.sock}\n"
                            "log: {level: debug, format: json}\n"
                            "limits:\n"
                            "models:\n"
                            "  a:\n"
                            "    command: [python3, -u, worker.py, 5, yes, '']\n"
                            "    directory: sub\n"
                            "    environment: {A: no, B: 'x=y', C: ''}\n"
                            "    policy: random\n"
                            "    body_max: 100\n"
                            "    timeouts: {request: never, attempt: 0, ping: 1500us, drain: 2h}\n"
                            "    queue: {bytes: 2KiB}\n");
    const struct config_model *m = c->models;
    static const char *const command[] = {"python3", "-u", "worker.py", "5", "yes", ""};
    for (size_t i = 0; i < HASUP_LEN(command); i++)
        assert_string_equal(m->command[i], command[i]);
    assert_null(m->command[6]);
    assert_string_equal(m->environment[0], "A=no");
    assert_string_equal(m->environment[1], "B=x=y");
    assert_string_equal(m->environment[2], "C=");
    assert_null(m->environment[3]);
    assert_string_equal(m->directory, "/etc/hasup/sub");
    assert_string_equal(c->state_dir, "/etc/hasup/state");
    assert_string_equal(c->runtime_dir, "/etc/hasup/run");
    assert_null(c->listen_http);
    assert_string_equal(c->listen_unix, "/tmp/x.sock");
    assert_int_equal(c->log.level, LEVEL_DEBUG);
    assert_int_equal(c->log.format, FORMAT_JSON);
    assert_int_equal(m->policy.policy, POLICY_RANDOM);
    assert_int_equal(m->body_max, 100);
    assert_int_equal(m->request_timeout, 0);
    assert_int_equal(m->policy.timeouts.attempt, 0);
    assert_int_equal(m->policy.timeouts.ping, 1500 * HASUP_US);
    assert_int_equal(m->policy.timeouts.drain, 7200 * HASUP_S);
    assert_int_equal(m->policy.queue.bytes, 2048);
    config_free(c);
}

static void directories_follow_the_user(void **state)
{
    (void)state;
    struct config *c = good("models: {a: {command: [x]}}\n");
    if (geteuid() == 0) {
        assert_string_equal(c->state_dir, "/var/lib/hasup");
        assert_string_equal(c->runtime_dir, "/run/hasup");
    } else {
        assert_non_null(strstr(c->state_dir, "/hasup"));
        assert_non_null(strstr(c->runtime_dir, "/hasup"));
    }
    config_free(c);
}

#define MODEL "models:\n  digits:\n    command: [x]\n"
#define OFF   "state_dir: off\nruntime_dir: off\nlisten: {unix: off}\n"
#define NONE                                                                                       \
    "models: required: at least one model, such as digits: {command: [./digits]}; or one of "      \
    "programs"

/* Where nothing may be written. */
static void what_is_off_has_no_path(void **state)
{
    (void)state;
    struct config *c = good(OFF MODEL "    timeouts: {watchdog: 5s}\n    adapter: {kind: http}\n"
                                      "programs: {p: {command: [y], ready: notify}}\n");
    assert_null(c->state_dir);
    assert_null(c->runtime_dir);
    assert_null(c->listen_unix);
    assert_string_equal(c->listen_http, "127.0.0.1:8080");
    assert_null(config_off_differs(config_off(c), config_off(c)));
    assert_string_equal(config_off_differs(config_off(c), 0), "state_dir");
    char *text = config_json(c);
    for (const char *const *at =
             (const char *const[]){"\"state_dir\":\"off\"", "\"runtime_dir\":\"off\"",
                                   "\"unix\":\"off\"", NULL};
         *at; at++)
        assert_non_null(strstr(text, *at));
    free(text);
    config_free(c);
    c = good("state_dir: ./off\nruntime_dir: off\nlisten: {http: off, unix: s}\n" MODEL);
    assert_string_equal(c->state_dir, "/etc/hasup/off");
    assert_string_equal(c->listen_unix, "/etc/hasup/s");
    assert_string_equal(config_off_differs(config_off(c), 0), "runtime_dir");
    config_free(c);
    config_free(good(OFF "programs: {p: {command: [y]}}\n"));
    c = good("listen: {http: off, unix: off}\nprograms: {p: {command: [y]}}\n");
    assert_string_equal(config_off_differs(config_off(c), 0), "listen.unix");
    config_free(c);
}

/* Every kind of mistake, and what its author reads. */
static const struct {
    const char *text, *error;
} mistakes[] = {
    {MODEL "    restart:\n      backoff_mni: 1s\n",
     "f.yaml:5:7: models.digits.restart.backoff_mni: unknown key; did you mean \"backoff_min\"?"},
    {MODEL "    backoff_min: 1s\n",
     "f.yaml:4:5: models.digits.backoff_min: unknown key; did you mean \"restart.backoff_min\"?"},
    {MODEL "    queue: {zzz: 1}\n",
     "f.yaml:4:13: models.digits.queue.zzz: unknown key; known here: requests, bytes, refuse_late, "
     "priority_age"},
    {MODEL "modles: 1\n", "f.yaml:4:1: modles: unknown key; did you mean \"models\"?"},
    {MODEL "jounal: {}\n", "f.yaml:4:1: jounal: unknown key; did you mean \"journal\"?"},
    {MODEL "journal: {result: 1}\n",
     "f.yaml:4:11: journal.result: unknown key; did you mean \"results\"?"},
    {MODEL "zzzzzz: {}\n",
     "f.yaml:4:1: zzzzzz: unknown key; known here: state_dir, runtime_dir, listen, log, limits, "
     "journal, checkpoints, shutdown, security, models, programs"},
    {MODEL "    devices: 0\n",
     "f.yaml:4:14: models.digits.devices: expected a list of words; found text: write [0]"},
    {MODEL "    devices: []\n",
     "f.yaml:4:14: models.digits.devices: expected a list of words such as [0, 1]; found an empty "
     "list"},
    {MODEL "    devices: [0, '']\n",
     "f.yaml:4:18: models.digits.devices: expected a word; found \"\""},
    {MODEL "    devices: ['0,1']\n",
     "f.yaml:4:14: models.digits.devices: \"0,1\" is no device: one word of at most 64 letters "
     "each, such as 0 or GPU-8f3b; several for a worker: devices_per_worker"},
    {MODEL "    devices: [0, 1, 2]\n    devices_per_worker: 2\n",
     "f.yaml:4:14: models.digits.devices: 3 devices cannot be dealt out 2 at a time "
     "(devices_per_worker)"},
    {MODEL "    devices: [0]\n    environment: {CUDA_VISIBLE_DEVICES: 1}\n",
     "f.yaml:4:14: models.digits.devices: environment sets CUDA_VISIBLE_DEVICES, too: leave one of "
     "them out"},
    {MODEL "    pre_start: {command: nvidia-smi}\n",
     "f.yaml:4:26: models.digits.pre_start.command: expected a list of words; found text: write "
     "['nvidia-smi']"},
    {MODEL "    process: {nice: 20}\n",
     "f.yaml:4:21: models.digits.process.nice: expected -20 to 19; found \"20\""},
    {MODEL "    process: {umask: '0788'}\n",
     "f.yaml:4:22: models.digits.process.umask: expected octal digits such as \"027\"; found "
     "\"0788\""},
    {MODEL "    process: {oom_score: much}\n",
     "f.yaml:4:26: models.digits.process.oom_score: expected -1000 to 1000; found \"much\""},
    {MODEL "    process: {cpus: 3-1}\n",
     "f.yaml:4:21: models.digits.process.cpus: expected CPUs such as 0-3,6, below 1024; found "
     "\"3-1\""},
    {MODEL "    process: {rlimits: {core: none}}\n",
     "f.yaml:4:24: models.digits.process.rlimits: core: expected a number, a size such as 64MiB, "
     "or unlimited; found \"none\""},
    {MODEL "    process: {rlimits: {files: 1}}\n",
     "f.yaml:4:24: models.digits.process.rlimits: there is no limit \"files\"; known: as, core, "
     "cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, "
     "sigpending, stack"},
    {MODEL "    process: {capabilities: [net_bind_servic]}\n",
     "f.yaml:4:29: models.digits.process.capabilities: there is no capability "
     "\"net_bind_servic\"; did you mean \"net_bind_service\"?"},
    {MODEL "    journal: sometimes\n",
     "f.yaml:4:14: models.digits.journal: expected one of auto, always, never; "
     "found \"sometimes\""},
    {MODEL "    workers: 1\n    workers: 2\n",
     "f.yaml:5:5: \"workers\" stands here twice; first in line 4"},
    {MODEL "    timeouts: {start: abc}\n",
     "f.yaml:4:23: models.digits.timeouts.start: expected a duration such as 250ms, 30s, 5m; "
     "found \"abc\""},
    {MODEL "    timeouts: {start: 30}\n",
     "f.yaml:4:23: models.digits.timeouts.start: expected a duration such as 250ms, 30s, 5m; "
     "found \"30\""},
    {MODEL "    timeouts: {request: [1s]}\n",
     "f.yaml:4:25: models.digits.timeouts.request: expected a duration such as 250ms, 30s, 5m, "
     "or never; found a list"},
    {MODEL "    timeouts: {start: never}\n",
     "f.yaml:4:23: models.digits.timeouts.start: expected a duration such as 250ms, 30s, 5m; "
     "found \"never\""},
    {MODEL "    timeouts: {request: 1us}\n",
     "f.yaml:4:25: models.digits.timeouts.request: 1us is out of range: 1ms to 24h, or never"},
    {MODEL "    timeouts: 5s\n",
     "f.yaml:4:15: models.digits.timeouts: expected keys such as start:; found \"5s\""},
    {MODEL "    body_max: 64MB\n",
     "f.yaml:4:15: models.digits.body_max: expected a size such as 64KiB, 1GiB; found \"64MB\""},
    {MODEL "    body_max: 0\n",
     "f.yaml:4:15: models.digits.body_max: 0 is out of range: 1 to 64GiB"},
    {MODEL "    body_max: 99999999999999999999GiB\n",
     "f.yaml:4:15: models.digits.body_max: expected a size such as 64KiB, 1GiB; "
     "found \"99999999999999999999GiB\""},
    {MODEL "    body_max: 2GiB\n",
     "f.yaml:4:15: models.digits.body_max: 2GiB is more than limits.body_bytes, 1GiB"},
    {MODEL "    workers: 0\n", "f.yaml:4:14: models.digits.workers: 0 is out of range: 1 to 4096"},
    {MODEL "    workers: -1\n",
     "f.yaml:4:14: models.digits.workers: expected a whole number; found \"-1\""},
    {MODEL "    workers: \"2\"\n",
     "f.yaml:4:14: models.digits.workers: expected a whole number; found \"2\""},
    {MODEL "    workers:\n",
     "f.yaml:4:13: models.digits.workers: expected a whole number; found nothing"},
    {MODEL "    workers: {a: 1}\n",
     "f.yaml:4:14: models.digits.workers: expected a whole number; found keys"},
    {MODEL "    workers: 300\n", "f.yaml:1:1: models: 300 slots in all, but limits.slots is 256"},
    {MODEL "    policy: fastes\n",
     "f.yaml:4:13: models.digits.policy: expected one of fastest, least_loaded, round_robin, "
     "weighted_round_robin, random; found \"fastes\"; did you mean \"fastest\"?"},
    {MODEL "    environment: [A=1]\n",
     "f.yaml:4:18: models.digits.environment: expected names and values such as "
     "{OMP_NUM_THREADS: 1}; found a list"},
    {MODEL "    environment: {A: }\n",
     "f.yaml:4:22: models.digits.environment.A: expected text; found nothing"},
    {MODEL "    environment: {'A=B': 1}\n",
     "f.yaml:4:26: models.digits.environment.A=B: a variable's name is not empty and holds no ="},
    {MODEL "    environment: {HASUP_FD: 3}\n",
     "f.yaml:4:29: models.digits.environment.HASUP_FD: names that begin with HASUP_ are set by "
     "hasupd"},
    {MODEL "    restart: {backoff_min: 1m, backoff_max: 1s}\n",
     "f.yaml:4:28: models.digits.restart.backoff_min: 1m is more than backoff_max, 1s"},
    {"models:\n  digits:\n    command: python3 'my worker.py'\n",
     "f.yaml:3:14: models.digits.command: expected a list of words; found text: write "
     "[python3, ''my', 'worker.py'']"},
    {"models:\n  digits:\n    command: []\n",
     "f.yaml:3:14: models.digits.command: expected a list of words such as [python3, worker.py]; "
     "found an empty list"},
    {"models:\n  digits:\n    command: [x, [y]]\n",
     "f.yaml:3:18: models.digits.command: expected a word; found a list"},
    {"models:\n  digits:\n    workers: 2\n",
     "f.yaml:2:3: models.digits.command: required: what to run, such as [python3, worker.py]"},
    {"models:\n  digits:\n",
     "f.yaml:2:3: models.digits.command: required: what to run, such as [python3, worker.py]"},
    {"models:\n  digits: x\n",
     "f.yaml:2:11: models.digits: expected keys such as command:; found text"},
    {"models:\n  -digits: {command: [x]}\n",
     "f.yaml:2:3: models.-digits: a model's name has 1 to 63 letters, digits, '.', '_', '-', and "
     "begins with a letter or digit"},
    {"models: [a]\n", "f.yaml:1:9: models: expected a map from names to models; found a list"},
    {"models: {}\n", "f.yaml:1:1: " NONE},
    {"", "f.yaml:1:1: " NONE},
    {"# nothing\n", "f.yaml:1:1: " NONE},
    {"just text\n", "f.yaml:1:1: expected keys such as models:; found text"},
    {"- a\n", "f.yaml:1:1: expected keys such as models:; found a list"},
    {"limits: {models: 1}\nmodels: {a: {command: [x]}, b: {command: [x]}}\n",
     "f.yaml:2:1: models: 2 models and programs, but limits.models is 1"},
    {"checkpoints: {encrypt: true}\n" MODEL,
     "f.yaml:1:24: checkpoints.encrypt: needs a key: name its file in checkpoints.key_file"},
    {"security: {insecure: yes}\n" MODEL,
     "f.yaml:1:22: security.insecure: expected true or false; found \"yes\""},
    {"state_dir: off\ncheckpoints: {key_file: k, encrypt: true}\n" MODEL,
     "f.yaml:2:37: checkpoints.encrypt: no checkpoint is stored with state_dir: off: leave one of "
     "them out\n"
     "f.yaml:2:25: checkpoints.key_file: no checkpoint is stored with state_dir: off: leave one of "
     "them out"},
    {"state_dir: off\n" MODEL "    journal: always\n    quarantine_keep_body: 1KiB\n",
     "f.yaml:5:14: models.digits.journal: there is no journal with state_dir: off: auto or never, "
     "or name a state_dir\n"
     "f.yaml:6:27: models.digits.quarantine_keep_body: dead letters are kept in the journal, and "
     "there is none with state_dir: off"},
    {"runtime_dir: off\n" MODEL,
     "f.yaml:1:14: runtime_dir: off, but the local door's socket would be there: say listen.unix: "
     "off, too (hasupctl then cannot reach hasupd), or name its path"},
    {"listen: {http: off, unix: off}\n" MODEL,
     "f.yaml:4:5: models.digits: nobody could ask it: listen.http and listen.unix are both off"},
    {"runtime_dir: off\nlisten: {unix: off}\nmodels:\n  digits:\n"
     "    command: [gunicorn, --bind, 'unix:{socket}']\n    adapter: {kind: http}\n",
     "f.yaml:6:14: models.digits.adapter.socket: {socket} would be in runtime_dir, which is off: "
     "name a place, or let it listen at {port}"},
    {"state_dir: []\n" MODEL, "f.yaml:1:12: state_dir: expected a path; found a list"},
    {"state_dir: ''\n" MODEL, "f.yaml:1:12: state_dir: expected a path; found \"\""},
    {"listen: {http: 8080}\n" MODEL,
     "f.yaml:1:16: listen.http: expected ADDRESS:PORT such as 127.0.0.1:8080, or off; "
     "found \"8080\": there is no port of 1 to 65535, or 0 for any that is free"},
    {"listen: {http: '127.0.0.1:65536'}\n" MODEL,
     "f.yaml:1:16: listen.http: expected ADDRESS:PORT such as 127.0.0.1:8080, or off; "
     "found \"127.0.0.1:65536\": there is no port of 1 to 65535, or 0 for any that is free"},
    {"listen: {http: 'example.org:80'}\n" MODEL,
     "f.yaml:1:16: listen.http: expected ADDRESS:PORT such as 127.0.0.1:8080, or off; "
     "found \"example.org:80\": names are not looked up: write an IPv4 address, [an IPv6 address] "
     "or localhost"},
    {MODEL "    adapter: {kind: https}\n",
     "f.yaml:4:21: models.digits.adapter.kind: expected one of none, http; found \"https\"; did "
     "you mean \"http\"?"},
    {MODEL "    adapter: {port: 8000}\n",
     "f.yaml:4:14: models.digits.adapter.kind: required beside other keys of adapter: http"},
    {MODEL "    adapter: {kind: http, port: 8000, socket: a}\n",
     "f.yaml:4:33: models.digits.adapter.port: it listens at a port or at a socket, not at both"},
    {MODEL "    workers: 2\n    adapter: {kind: http, port: 65535}\n",
     "f.yaml:5:33: models.digits.adapter.port: the last slot's port would be above 65535"},
    {MODEL "    workers: 2\n    adapter: {kind: http, socket: a}\n",
     "f.yaml:5:35: models.digits.adapter.socket: each of several workers needs its own: put {slot} "
     "into the path"},
    {MODEL "    adapter: {kind: http, ready: {path: health}}\n",
     "f.yaml:4:41: models.digits.adapter.ready.path: expected a path such as /health"},
    {MODEL "    adapter: {kind: http, invoke: predict}\n",
     "f.yaml:4:35: models.digits.adapter.invoke: expected a path such as /predict"},
    {MODEL "    adapter: {kind: http, idempotent: [/a*b]}\n",
     "f.yaml:4:39: models.digits.adapter.idempotent: expected paths such as /predict, POST /score, "
     "/v1/*"},
    {MODEL "    adapter: {kind: http, idempotent: /predict}\n",
     "f.yaml:4:39: models.digits.adapter.idempotent: expected a list such as [/predict, POST "
     "/score]; found \"/predict\""},
    {"a: &x 1\n", "f.yaml:1:4: anchors and aliases are not taken: write the value out"},
    {"a: *x\n", "f.yaml:1:4: anchors and aliases are not taken: write the value out"},
    {"a: !!str 1\n", "f.yaml:1:4: tags are not taken: write the value alone"},
    {"a: \"x\\0y\"\n", "f.yaml:1:4: a text must not hold a NUL byte"},
    {"? [a]\n: 1\n", "f.yaml:1:3: a key must be a word"},
    {MODEL "---\n" MODEL, "f.yaml:4:1: one document a file: this is the second"},
    {"a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", "f.yaml:1:19: nested too deep"},
    {"a: [\n", "f.yaml:2:1: did not find expected node content"},
    {"a: 1\n\tb: 2\n", "f.yaml:2:1: found a tab character that violates indentation"},
    {"a: \xff\n", "f.yaml:1:4: invalid leading UTF-8 octet"},
    {"a: 1\nb: \x01\n", "f.yaml:2:4: control characters are not allowed"},
};

static void every_mistake_is_named_with_its_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(mistakes); i++) {
        char error[CONFIG_ERROR_MAX];
        struct config *config = parse(mistakes[i].text, error);
        if (config)
            fail_msg("accepted:\n%s", mistakes[i].text);
        assert_string_equal(error, mistakes[i].error);
    }
}

static void several_mistakes_are_shown_at_once(void **state)
{
    (void)state;
    char error[CONFIG_ERROR_MAX];
    assert_null(parse("a: 1\nb: 1\n" MODEL "    workers: x\n    policy: y\n    max_attempts: 0\n"
                      "    body_max: z\n    queue: 1\n",
                      error));
    size_t lines = 1;
    for (const char *s = error; *s; s++)
        lines += *s == '\n';
    assert_int_equal(lines, CONFIG_ERRORS_SHOWN + 1);
    assert_non_null(strstr(error, "f.yaml:1:1: a: unknown key"));
    assert_non_null(strstr(error, "\nf.yaml:2:1: b: unknown key"));
    assert_non_null(strstr(error, "\nf.yaml:6:14: models.digits.workers: expected a whole"));
    assert_non_null(strstr(error, "\nf.yaml: and 2 more"));
}

/* Promise 12: nobody gets in who should not. */
static void promise_12_http_beyond_loopback_must_be_said_twice(void **state)
{
    (void)state;
    static const char *const outside[] = {"0.0.0.0:80", "[::]:80", "192.168.1.2:80",
                                          "[2001:db8::1]:80", "128.0.0.1:80"};
    static const char *const inside[] = {"127.0.0.1:0", "127.1.2.3:80", "[::1]:80", "localhost:80"};
    char text[256], error[CONFIG_ERROR_MAX];
    for (size_t i = 0; i < HASUP_LEN(outside); i++) {
        snprintf(text, sizeof(text), "listen:\n  http: '%s'\n" MODEL, outside[i]);
        assert_null(parse(text, error));
        assert_non_null(strstr(error, "f.yaml:2:9: listen.http: "));
        assert_non_null(strstr(error, "is not loopback"));
        assert_non_null(strstr(error, "security.insecure: true"));
        snprintf(text, sizeof(text), "security: {insecure: true}\nlisten: {http: '%s'}\n" MODEL,
                 outside[i]);
        config_free(good(text));
    }
    for (size_t i = 0; i < HASUP_LEN(inside); i++) {
        snprintf(text, sizeof(text), "listen: {http: '%s'}\n" MODEL, inside[i]);
        config_free(good(text));
    }
}

static void socket_paths_fit_their_address(void **state)
{
    (void)state;
    char text[512], error[CONFIG_ERROR_MAX], path[121];
    memset(path, 'p', sizeof(path) - 1);
    path[0] = '/';
    path[120] = '\0';
    snprintf(text, sizeof(text), "listen: {unix: %s}\n" MODEL, path);
    assert_null(parse(text, error));
    assert_string_equal(
        error, "f.yaml:1:16: listen.unix: longer than the 107 bytes that a socket's path may have");
    snprintf(text, sizeof(text), "runtime_dir: %s\n" MODEL, path);
    assert_null(parse(text, error));
    assert_non_null(strstr(error, "f.yaml:1:14: runtime_dir: longer than"));
}

static uint64_t fingerprint_of(const char *keys)
{
    char text[256];
    snprintf(text, sizeof(text), MODEL "%s", keys);
    struct config *config = good(text);
    uint64_t fingerprint = config->models[0].fingerprint;
    config_free(config);
    return fingerprint;
}

static void the_fingerprint_changes_with_what_a_worker_was_started_with(void **state)
{
    (void)state;
    uint64_t plain = fingerprint_of("");
    assert_true(plain == fingerprint_of("    workers: 5\n    timeouts: {start: 1s}\n"));
    assert_true(plain != fingerprint_of("    environment: {A: b}\n"));
    assert_true(plain != fingerprint_of("    directory: /\n"));
    assert_true(plain != fingerprint_of("    body_max: 1KiB\n"));
    struct config *config = good("models: {digits: {command: [x, '']}}\n");
    assert_true(plain != config->models[0].fingerprint);
    config_free(config);
}

static char *read_example(size_t *len)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen("supervisor.yaml.example", "re");
    assert_non_null(text);
    assert_non_null(file);
    *len = fread(text, 1, 65535, file);
    fclose(file);
    return text;
}

/* What hasupd keeps and hands over of a model, read again, is what a worker was started with. */
static void same_again(const struct config_model *model)
{
    char error[CONFIG_ERROR_MAX] = "";
    uint64_t own = 0;
    char *keys = config_model_json(model), *again;
    assert_non_null(keys);
    struct config *config =
        version_config(config_section_of(model), model->name, keys, strlen(keys), model->version,
                       model->fingerprint, &own, error);
    assert_string_equal(error, config ? error : "");
    assert_non_null(config);
    assert_true(own == model->fingerprint);
    assert_string_equal(config->models[0].version, model->version);
    again = config_model_json(&config->models[0]);
    assert_string_equal(again, keys);
    free(again);
    free(keys);
    config_free(config);
}

static void a_configuration_that_is_kept_is_the_same_when_it_is_read_again(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "",
        "    version: seven\n",
        "    version: '12'\n",
        "    environment: {A: '', B: 'a=b'}\n",
        "    process: {rlimits: {nofile: 64}, umask: '077', capabilities: [none]}\n",
        "    sockets: {http: {tcp: '127.0.0.1:0'}, own: {unix: /tmp/x.sock, mode: '0660'}}\n",
        "    devices: ['0', '1']\n    pre_start: {command: [x, -y], retries: 0}\n",
        "    adapter: {kind: http, idempotent: [POST /score], ready: {path: /ready}}\n",
        "    policy: weighted_round_robin\n    weights: [1, 2]\n    batch: {preferred: [2, 4]}\n",
        "    timeouts: {progress: 5s, ping_every: never}\n    rollout: {max_surge: 0}\n",
    };
    static const char *const programs[] = {
        "",
        "    oneshot: true\n",
        "    slots: 2\n    ready: {tcp: '{slot+80}', interval: 2s}\n    restart: {when: never}\n",
        "    ready: {http: {socket: /a, path: /b}, status: 200-299}\n    stop_signal: RTMIN+2\n",
        "    ready: notify\n    live: {exec: [x, '{slot}'], failures: 7, timeout: 2s}\n",
        "    ready: fd\n    live: {http: 'http://127.0.0.1:80/'}\n    essential: true\n",
        "    after: [digits]\n    requires: [other]\n",
    };
    char text_of[512];
    for (size_t i = 0; i < HASUP_LEN(keys); i++) {
        snprintf(text_of, sizeof(text_of), MODEL "%s", keys[i]);
        struct config *config = good(text_of);
        same_again(&config->models[0]);
        config_free(config);
    }
    for (size_t i = 0; i < HASUP_LEN(programs); i++) {
        snprintf(text_of, sizeof(text_of),
                 MODEL "    requires: [other]\nprograms:\n  other: {command: [x]}\n"
                       "  web:\n    command: [x]\n%s",
                 programs[i]);
        struct config *config = good(text_of);
        for (size_t k = 0; k < config->model_count; k++)
            same_again(&config->models[k]);
        config_free(config);
    }
    size_t len;
    char error[CONFIG_ERROR_MAX], *text = read_example(&len);
    struct config *example = config_parse(text, len, "f.yaml", "/etc/hasup", error);
    for (size_t i = 0; i < example->model_count; i++)
        same_again(&example->models[i]);
    config_free(example);
    free(text);
}

static const struct node *descend(const struct node *node, const char *path)
{
    char key[64];
    while (node && *path) {
        size_t len = strcspn(path, ".");
        snprintf(key, sizeof(key), "%.*s", (int)len, path);
        node = config_tree_find(node, key);
        path += len + (path[len] == '.');
    }
    return node;
}

/* Each key of a table stands in this part of the example: with its default, or in a comment where
 * it has none. */
static void names_all(const struct config_key *keys, size_t count, const struct node *node,
                      const char *text)
{
    for (size_t i = 0; i < count; i++) {
        const struct node *found = descend(node, keys[i].path);
        const char *dot = strrchr(keys[i].path, '.');
        char comment[64];
        snprintf(comment, sizeof(comment), "# %s:", dot ? dot + 1 : keys[i].path);
        if (strcmp(keys[i].path, "command") == 0 || keys[i].type == CONFIG_MODELS ||
            keys[i].type == CONFIG_PROGRAMS || keys[i].type == CONFIG_PATTERNS)
            assert_non_null(found);
        else if (!keys[i].fallback && !strstr(text, comment))
            fail_msg("the example lacks %s", comment);
        else if (keys[i].fallback && !found)
            fail_msg("the example lacks %s", keys[i].path);
        else if (keys[i].fallback)
            assert_string_equal(found->text, keys[i].fallback);
    }
}

static void the_example_names_every_key_with_its_default(void **state)
{
    (void)state;
    size_t len;
    char error[CONFIG_ERROR_MAX];
    struct config_errors errors;
    char *text = read_example(&len);
    config_errors_init(&errors, "example", error);
    struct node *root = config_tree_parse(text, len, &errors);
    assert_non_null(root);
    char *programs = strstr(text, "\nprograms:");
    assert_non_null(programs);
    names_all(config_program_keys, config_program_key_count, descend(root, "programs.web"),
              programs);
    *programs = '\0';
    names_all(config_top_keys, config_top_key_count, root, text);
    names_all(config_model_keys, config_model_key_count, descend(root, "models.digits"), text);
    config_tree_free(root);
    free(text);
}

static void the_example_says_exactly_the_defaults(void **state)
{
    (void)state;
    size_t len;
    char error[CONFIG_ERROR_MAX];
    char *text = read_example(&len);
    struct config *example = config_parse(text, len, "f.yaml", "/etc/hasup", error);
    assert_string_equal(error, "");
    struct config *shortest =
        good("models: {digits: {command: [build/examples/digits]}}\n"
             "programs: {web: {command: [python3, -m, http.server, --bind, 127.0.0.1, 8090]}}\n");
    char *a = config_json(example), *b = config_json(shortest);
    assert_string_equal(a, b);
    free(a);
    free(b);
    config_free(example);
    config_free(shortest);
    free(text);
}

static void a_file_cut_anywhere_is_refused_or_read_and_never_worse(void **state)
{
    (void)state;
    size_t len;
    char error[CONFIG_ERROR_MAX];
    char *text = read_example(&len);
    for (size_t cut = 0; cut <= len; cut++) {
        char *copy = malloc(cut ? cut : 1); /* exactly this long: reading beyond it is caught */
        assert_non_null(copy);
        memcpy(copy, text, cut);
        struct config *config = config_parse(copy, cut, "f.yaml", "/etc/hasup", error);
        assert_int_equal(config == NULL, error[0] != '\0');
        config_free(config);
        free(copy);
    }
    free(text);
}

static void the_json_is_what_holds(void **state)
{
    (void)state;
    struct config *config = good("listen: {http: off}\nmodels: {a: {command: [x, y], environment: "
                                 "{A: b=c}, timeouts: {request: never, ping: 1500ms}}}\n");
    char *text = config_json(config);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    const char *request, *ping, *variable, *policy, *size;
    const char *http;
    int workers;
    assert_int_equal(json_unpack(json,
                                 "{s:{s:s}, s:{s:s}, s:{s:{s:{s:s, s:s}, s:{s:s}, s:s, s:i}}}",
                                 "listen", "http", &http, "limits", "body_bytes", &size, "models",
                                 "a", "timeouts", "request", &request, "ping", &ping, "environment",
                                 "A", &variable, "policy", &policy, "workers", &workers),
                     0);
    assert_string_equal(http, "off");
    assert_string_equal(size, "1GiB");
    assert_string_equal(request, "never");
    assert_string_equal(ping, "1500ms");
    assert_string_equal(variable, "b=c");
    assert_string_equal(policy, "fastest");
    assert_int_equal(workers, 1);
    json_decref(json);
    free(text);
    config_free(config);
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
    (void)state;
    char error[CONFIG_ERROR_MAX];
    assert_null(config_load("/nonexistent/f.yaml", error));
    assert_string_equal(error, "/nonexistent/f.yaml: cannot be read: No such file or directory");
    assert_null(config_load("/", error));
    assert_string_equal(error, "/: cannot be read: Is a directory");
    char *large = calloc(1, CONFIG_FILE_MAX + 1);
    assert_non_null(large);
    assert_null(config_parse(large, CONFIG_FILE_MAX + 1, "f.yaml", "/", error));
    assert_string_equal(error, "f.yaml: larger than 1MiB");
    free(large);
    struct config *config = config_load("supervisor.yaml.example", error);
    assert_string_equal(error, "");
    char *here = realpath(".", NULL);
    assert_string_equal(config->models[0].directory, here);
    free(here);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_lines_are_a_complete_configuration),
        cmocka_unit_test(values_are_read_as_written),
        cmocka_unit_test(directories_follow_the_user),
        cmocka_unit_test(every_mistake_is_named_with_its_place),
        cmocka_unit_test(several_mistakes_are_shown_at_once),
        cmocka_unit_test(promise_12_http_beyond_loopback_must_be_said_twice),
        cmocka_unit_test(socket_paths_fit_their_address),
        cmocka_unit_test(a_configuration_that_is_kept_is_the_same_when_it_is_read_again),
        cmocka_unit_test(the_fingerprint_changes_with_what_a_worker_was_started_with),
        cmocka_unit_test(the_example_names_every_key_with_its_default),
        cmocka_unit_test(the_example_says_exactly_the_defaults),
        cmocka_unit_test(a_file_cut_anywhere_is_refused_or_read_and_never_worse),
        cmocka_unit_test(what_is_off_has_no_path),
        cmocka_unit_test(the_json_is_what_holds),
        cmocka_unit_test(a_file_that_cannot_be_read_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
