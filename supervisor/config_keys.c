/*
 * config_keys.c: the keys: one table for what is read, defaulted, printed, and tested against
 * supervisor.yaml.example, and the reader that follows it.
 *
 * Must not touch a file or decide what two keys mean together (config.c does).
 * Failure modes: each wrong key or value is one error with its place, and reading goes on, so that
 * one run shows several.
 */
#include "supervisor/config_tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const level_names[] = {"debug", "info", "warning", "error", NULL};
static const char *const format_names[] = {"auto", "text", "json", NULL};
static const char *const policy_names[] = {
    "fastest", "least_loaded", "round_robin", "weighted_round_robin", "random", NULL};

static const char *const on_lost_names[] = {"auto", "wait", "move", NULL};
static const char *const journal_names[] = {"auto", "always", "never", NULL};
static const char *const adapter_names[] = {"none", "http", NULL};

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define DAY    ((uint64_t)(24 * 3600) * HASUP_S)

#define TOP(path_, type_, member_, ...)                                                            \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct config, member_), __VA_ARGS__      \
    }
#define MODEL(path_, type_, member_, ...)                                                          \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct config_model, member_),            \
        __VA_ARGS__                                                                                \
    }

const struct config_key config_top_keys[] = {
    TOP("state_dir", CONFIG_FILE_PATH, state_dir, .fallback = NULL),
    TOP("runtime_dir", CONFIG_FILE_PATH, runtime_dir, .fallback = NULL),
    TOP("listen.http", CONFIG_TEXT, listen_http, .fallback = "127.0.0.1:8080"),
    TOP("listen.unix", CONFIG_FILE_PATH, listen_unix, .fallback = NULL),
    TOP("log.level", CONFIG_CHOICE, log.level, .fallback = "info", .choices = level_names),
    TOP("log.format", CONFIG_CHOICE, log.format, .fallback = "auto", .choices = format_names),
    TOP("log.rate.lines", CONFIG_COUNT, log.flow.lines, .fallback = "1000", .max = 1000000),
    TOP("log.rate.burst", CONFIG_COUNT, log.flow.burst, .fallback = "5000", .min = 1,
        .max = 1000000),
    TOP("log.rate.bytes", CONFIG_SIZE, log.flow.bytes, .fallback = "1MiB", .max = GIB(1)),
    TOP("log.buffer", CONFIG_SIZE, log.buffer, .fallback = "256KiB", .min = KIB(4), .max = MIB(64)),
    TOP("log.line_max", CONFIG_SIZE, log.line_max, .fallback = "4KiB", .min = 256, .max = KIB(64)),
    TOP("log.memory", CONFIG_SIZE, log.memory, .fallback = "1MiB", .min = KIB(64), .max = GIB(1)),
    TOP("log.reader", CONFIG_SIZE, log.reader, .fallback = "256KiB", .min = KIB(16),
        .max = MIB(64)),
    TOP("limits.requests", CONFIG_COUNT, limits.requests, .fallback = "65536", .min = 1,
        .max = 1u << 20),
    TOP("limits.connections", CONFIG_COUNT, limits.connections, .fallback = "1024", .min = 1,
        .max = 1u << 16),
    TOP("limits.slots", CONFIG_COUNT, limits.slots, .fallback = "256", .min = 1, .max = 4096),
    TOP("limits.loading", CONFIG_COUNT, limits.loading, .fallback = "0", .max = 4096),
    TOP("limits.models", CONFIG_COUNT, limits.models, .fallback = "64", .min = 1, .max = 1024),
    TOP("limits.body_bytes", CONFIG_SIZE, limits.body_bytes, .fallback = "1GiB", .min = KIB(64),
        .max = GIB(1024)),
    TOP("limits.stream_bytes", CONFIG_SIZE, limits.stream_bytes, .fallback = "4MiB", .min = KIB(64),
        .max = GIB(1)),
    TOP("limits.quarantine", CONFIG_COUNT, limits.quarantine, .fallback = "1000", .min = 1,
        .max = 1u << 16),
    TOP("journal.body_max", CONFIG_SIZE, journal_body_max, .fallback = "512MiB", .min = KIB(64),
        .max = MIB(900)),
    TOP("journal.results", CONFIG_COUNT, results_max, .fallback = "65536", .max = 1u << 24),
    TOP("journal.result_bytes", CONFIG_SIZE, result_bytes, .fallback = "1GiB", .min = KIB(64),
        .max = GIB(1024)),
    TOP("journal.events", CONFIG_COUNT, events_max, .fallback = "10000", .max = 1u << 20),
    TOP("journal.events_age", CONFIG_DURATION, events_age, .fallback = "720h", .min = HASUP_S,
        .max = 3660 * DAY, .never = true),
    TOP("checkpoints.key_file", CONFIG_FILE_PATH, checkpoints.key_file, .fallback = NULL),
    TOP("checkpoints.encrypt", CONFIG_BOOL, checkpoints.encrypt, .fallback = "false"),
    TOP("checkpoints.sealed_only", CONFIG_BOOL, checkpoints.sealed_only, .fallback = "false"),
    TOP("checkpoints.compress", CONFIG_BOOL, checkpoints.compress, .fallback = "true"),
    TOP("checkpoints.cache", CONFIG_SIZE, checkpoints.cache, .fallback = "64MiB", .min = MIB(1),
        .max = GIB(64)),
    TOP("shutdown.grace", CONFIG_DURATION, shutdown_grace, .fallback = "30s", .min = HASUP_MS,
        .max = DAY),
    TOP("security.insecure", CONFIG_BOOL, insecure, .fallback = "false"),
    TOP("models", CONFIG_MODELS, models, .fallback = NULL),
};
const size_t config_top_key_count = HASUP_LEN(config_top_keys);

const struct config_key config_model_keys[] = {
    MODEL("command", CONFIG_COMMAND, command, .restarts = true),
    MODEL("workers", CONFIG_COUNT, policy.workers, .fallback = "1", .min = 1, .max = 4096),
    MODEL("spares", CONFIG_COUNT, policy.spares, .fallback = "0", .max = 4096),
    MODEL("preload", CONFIG_BOOL, policy.preload, .fallback = "false"),
    MODEL("version", CONFIG_TEXT, version, .fallback = NULL, .restarts = true),
    MODEL("directory", CONFIG_FILE_PATH, directory, .restarts = true),
    MODEL("environment", CONFIG_VARIABLES, environment, .restarts = true),
    MODEL("devices", CONFIG_WORDS, devices, .restarts = true),
    MODEL("devices_per_worker", CONFIG_COUNT, devices_per_worker, .fallback = "1", .min = 1,
          .max = 64, .restarts = true),
    MODEL("pre_start.command", CONFIG_COMMAND, pre_start, .fallback = NULL),
    MODEL("pre_start.timeout", CONFIG_DURATION, policy.pre_start.timeout, .fallback = "30s",
          .min = HASUP_MS, .max = DAY),
    MODEL("pre_start.retries", CONFIG_COUNT, policy.pre_start.retries, .fallback = "30",
          .max = 1u << 20),
    MODEL("pre_start.interval", CONFIG_DURATION, policy.pre_start.interval, .fallback = "1s",
          .min = HASUP_MS, .max = DAY),
    MODEL("policy", CONFIG_CHOICE, policy.policy, .fallback = "fastest", .choices = policy_names),
    MODEL("weights", CONFIG_COUNTS, policy.weights, .fallback = NULL, .min = 1, .max = 1000,
          .room = CORE_WEIGHTS),
    MODEL("concurrency_max", CONFIG_COUNT, policy.concurrency_max, .fallback = "0", .max = 4096),
    MODEL("max_attempts", CONFIG_COUNT, policy.max_attempts, .fallback = "3", .min = 1, .max = 100),
    MODEL("quarantine_ttl", CONFIG_DURATION, policy.quarantine_ttl, .fallback = "1h",
          .min = HASUP_S, .max = 366 * DAY, .never = true),
    MODEL("quarantine_keep_body", CONFIG_SIZE, quarantine_keep_body, .fallback = "0",
          .max = GIB(1)),
    MODEL("journal", CONFIG_CHOICE, policy.journal, .fallback = "auto", .choices = journal_names),
    MODEL("result_ttl", CONFIG_DURATION, policy.result_ttl, .fallback = "1h", .min = HASUP_S,
          .max = 366 * DAY),
    MODEL("body_max", CONFIG_SIZE, body_max, .fallback = "64MiB", .min = 1, .max = GIB(64),
          .restarts = true),
    MODEL("adapter.kind", CONFIG_CHOICE, adapter.kind, .fallback = "none", .choices = adapter_names,
          .restarts = true),
    MODEL("adapter.port", CONFIG_COUNT, adapter.port, .fallback = "0", .max = UINT16_MAX,
          .restarts = true),
    MODEL("adapter.socket", CONFIG_FILE_PATH, adapter.socket, .fallback = NULL, .restarts = true),
    MODEL("adapter.concurrency", CONFIG_COUNT, adapter.concurrency, .fallback = "8", .min = 1,
          .max = 1024, .restarts = true),
    MODEL("adapter.ready.path", CONFIG_TEXT, adapter.ready.path, .fallback = NULL,
          .restarts = true),
    MODEL("adapter.ready.interval", CONFIG_DURATION, adapter.ready.interval, .fallback = "100ms",
          .min = HASUP_MS, .max = DAY, .restarts = true),
    MODEL("adapter.ready.timeout", CONFIG_DURATION, adapter.ready.timeout, .fallback = "1s",
          .min = HASUP_MS, .max = DAY, .restarts = true),
    MODEL("adapter.idempotent", CONFIG_PATTERNS, adapter.idempotent,
          .fallback = "/v2/models/* /v1/chat/completions /v1/completions"),
    MODEL("adapter.invoke", CONFIG_TEXT, adapter.invoke, .fallback = "/"),
    MODEL("adapter.whole_max", CONFIG_SIZE, adapter.whole_max, .fallback = "1MiB", .max = GIB(1),
          .restarts = true),
    MODEL("restart.backoff_min", CONFIG_DURATION, policy.restart.backoff_min, .fallback = "100ms",
          .min = HASUP_MS, .max = DAY),
    MODEL("restart.backoff_max", CONFIG_DURATION, policy.restart.backoff_max, .fallback = "30s",
          .min = HASUP_MS, .max = DAY),
    MODEL("restart.healthy_after", CONFIG_DURATION, policy.restart.healthy_after, .fallback = "10s",
          .min = HASUP_MS, .max = DAY),
    MODEL("restart.start_limit", CONFIG_COUNT, policy.restart.start_limit, .fallback = "5",
          .min = 1, .max = 1000),
    MODEL("restart.breaker", CONFIG_DURATION, policy.restart.breaker, .fallback = "1m",
          .min = HASUP_MS, .max = DAY),
    MODEL("timeouts.request", CONFIG_DURATION, request_timeout, .fallback = "1m", .min = HASUP_MS,
          .max = DAY, .never = true),
    MODEL("timeouts.start", CONFIG_DURATION, policy.timeouts.start, .fallback = "5m",
          .min = HASUP_MS, .max = DAY),
    MODEL("timeouts.attempt", CONFIG_DURATION, policy.timeouts.attempt, .fallback = "1m",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.progress", CONFIG_DURATION, policy.timeouts.progress, .fallback = "never",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.ping", CONFIG_DURATION, policy.timeouts.ping, .fallback = "1s", .min = HASUP_MS,
          .max = DAY),
    MODEL("timeouts.ping_after", CONFIG_DURATION, policy.timeouts.ping_after, .fallback = "1s",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.ping_every", CONFIG_DURATION, policy.timeouts.ping_every, .fallback = "never",
          .min = 100 * HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.watchdog", CONFIG_DURATION, policy.timeouts.watchdog, .fallback = "never",
          .min = 100 * HASUP_MS, .max = DAY, .never = true, .restarts = true),
    MODEL("timeouts.abort", CONFIG_DURATION, policy.timeouts.abort, .fallback = "2s",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.drain", CONFIG_DURATION, policy.timeouts.drain, .fallback = "30s",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("timeouts.stop", CONFIG_DURATION, policy.timeouts.stop, .fallback = "5s", .min = HASUP_MS,
          .max = DAY),
    MODEL("recycle.requests", CONFIG_COUNT, policy.recycle.requests, .fallback = "0",
          .max = 1u << 30),
    MODEL("recycle.age", CONFIG_DURATION, policy.recycle.age, .fallback = "never",
          .min = 100 * HASUP_MS, .max = 366 * DAY, .never = true),
    MODEL("recycle.memory", CONFIG_SIZE, policy.recycle.memory, .fallback = "0", .max = GIB(16384)),
    MODEL("recycle.memory_every", CONFIG_DURATION, policy.recycle.memory_every, .fallback = "10s",
          .min = HASUP_MS, .max = DAY),
    MODEL("queue.requests", CONFIG_COUNT, policy.queue.requests, .fallback = "1000", .min = 1,
          .max = 1u << 20),
    MODEL("queue.bytes", CONFIG_SIZE, policy.queue.bytes, .fallback = "256MiB", .min = KIB(1),
          .max = GIB(1024)),
    MODEL("queue.refuse_late", CONFIG_BOOL, policy.queue.refuse_late, .fallback = "true"),
    MODEL("queue.priority_age", CONFIG_DURATION, policy.queue.priority_age, .fallback = "10s",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("session.on_lost", CONFIG_CHOICE, policy.on_lost, .fallback = "auto",
          .choices = on_lost_names),
    MODEL("rate.per_second", CONFIG_COUNT, policy.rate.per_second, .fallback = "0",
          .max = 1000000),
    MODEL("rate.burst", CONFIG_COUNT, policy.rate.burst, .fallback = "0", .max = 1000000),
    MODEL("rate.client_per_second", CONFIG_COUNT, policy.rate.client_per_second, .fallback = "0",
          .max = 1000000),
    MODEL("rate.client_burst", CONFIG_COUNT, policy.rate.client_burst, .fallback = "0",
          .max = 1000000),
    MODEL("batch.max_batch", CONFIG_COUNT, policy.batch.most, .fallback = "0", .max = CORE_BATCH),
    MODEL("batch.max_delay", CONFIG_DURATION, policy.batch.max_delay, .fallback = "0ms",
          .max = 60 * HASUP_S),
    MODEL("batch.preferred", CONFIG_COUNTS, policy.batch.preferred, .fallback = NULL, .min = 1,
          .max = CORE_BATCH, .room = CORE_PREFERRED),
    MODEL("checkpoint.interval", CONFIG_DURATION, policy.checkpoint.interval, .fallback = "30s",
          .min = 100 * HASUP_MS, .max = DAY, .never = true),
    MODEL("checkpoint.keep", CONFIG_COUNT, checkpoint.keep, .fallback = "3", .min = 1, .max = 1000),
    MODEL("checkpoint.keep_hourly", CONFIG_COUNT, checkpoint.keep_hourly, .fallback = "0",
          .max = 1000),
    MODEL("checkpoint.keep_daily", CONFIG_COUNT, checkpoint.keep_daily, .fallback = "0",
          .max = 1000),
    MODEL("checkpoint.state_max", CONFIG_SIZE, checkpoint.state_max, .fallback = "4GiB",
          .min = KIB(4), .max = GIB(1024)),
    MODEL("checkpoint.log_requests", CONFIG_COUNT, policy.checkpoint.log_requests,
          .fallback = "10000", .min = 1, .max = 1u << 20),
    MODEL("checkpoint.log_bytes", CONFIG_SIZE, policy.checkpoint.log_bytes, .fallback = "64MiB",
          .min = KIB(64), .max = GIB(64)),
    MODEL("rollout.max_surge", CONFIG_COUNT, policy.rollout.max_surge, .fallback = "1", .max = 64),
    MODEL("rollout.max_unavailable", CONFIG_COUNT, policy.rollout.max_unavailable, .fallback = "0",
          .max = 4096),
    MODEL("rollout.progress_deadline", CONFIG_DURATION, policy.rollout.progress_deadline,
          .fallback = "10m", .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("rollout.abort_error_rate", CONFIG_COUNT, policy.rollout.abort_error_rate,
          .fallback = "5", .max = 100),
    MODEL("rollout.abort_min_requests", CONFIG_COUNT, policy.rollout.abort_min_requests,
          .fallback = "50", .min = 1, .max = 1u << 20),
};
const size_t config_model_key_count = HASUP_LEN(config_model_keys);

/* What is being read: one key, at one place. */
struct place {
    struct config_reader *reader;
    const struct config_key *key;
    const struct node *node;
    const char *path;
};

#define COMPLAIN(place_, ...)                                                                      \
    config_error((place_)->reader->errors, (place_)->node->line, (place_)->node->column,           \
                 (place_)->path, __VA_ARGS__)

enum { FOUND_MAX = 64 };

static const char *found(const struct node *node, char out[FOUND_MAX])
{
    if (config_tree_is_nothing(node))
        return "nothing";
    if (node->kind != NODE_SCALAR)
        return node->kind == NODE_LIST ? "a list" : "keys";
    snprintf(out, FOUND_MAX, "\"%.40s\"%s", node->text, strlen(node->text) > 40 ? "..." : "");
    return out;
}

static void expected(const struct place *p, const char *what)
{
    char buffer[FOUND_MAX];
    COMPLAIN(p, "expected %s; found %s", what, found(p->node, buffer));
}

static void write_number(enum config_type type, uint64_t value, char out[CONFIG_VALUE_MAX])
{
    if (type == CONFIG_DURATION)
        config_duration_text((hasup_ns)value, out);
    else if (type == CONFIG_SIZE)
        config_size_text(value, out);
    else
        snprintf(out, CONFIG_VALUE_MAX, "%" PRIu64, value);
}

static bool in_range(const struct place *p, uint64_t value)
{
    const struct config_key *key = p->key;
    char low[CONFIG_VALUE_MAX], high[CONFIG_VALUE_MAX];
    if ((value >= key->min && value <= key->max) || (key->never && value == 0))
        return true;
    write_number(key->type, key->min, low);
    write_number(key->type, key->max, high);
    COMPLAIN(p, "%.40s is out of range: %s to %s%s", p->node->text, low, high,
             key->never ? ", or never" : "");
    return false;
}

static bool is_word(const struct node *node)
{
    return node->kind == NODE_SCALAR && !config_tree_is_nothing(node);
}

static void read_number(const struct place *p, void *target)
{
    uint64_t value = 0;
    uint32_t count;
    hasup_ns span = 0;
    const char *text = is_word(p->node) ? p->node->text : "";
    switch ((int)p->key->type) {
    case CONFIG_DURATION:
        if (!(p->key->never && strcmp(text, "never") == 0) && config_duration(text, &span) != 0)
            expected(p, p->key->never ? "a duration such as 250ms, 30s, 5m, or never"
                                      : "a duration such as 250ms, 30s, 5m");
        else if (in_range(p, (uint64_t)span))
            memcpy(target, &span, sizeof(span));
        return;
    case CONFIG_SIZE:
        if (config_size(text, &value) != 0)
            expected(p, "a size such as 64KiB, 1GiB");
        else if (in_range(p, value))
            memcpy(target, &value, sizeof(value));
        return;
    default:
        if (config_count(text, &value) != 0 || !p->node->plain)
            expected(p, "a whole number");
        else if (in_range(p, value)) {
            count = (uint32_t)value;
            memcpy(target, &count, sizeof(count));
        }
    }
}

static void read_counts(const struct place *p, uint32_t *target)
{
    uint32_t counts[CORE_WEIGHTS > CORE_PREFERRED ? CORE_WEIGHTS : CORE_PREFERRED] = {0};
    size_t count = 0;
    if (p->node->kind != NODE_LIST) {
        expected(p, "a list of whole numbers such as [1, 2]");
        return;
    }
    for (const struct node *node = p->node->first; node; node = node->next) {
        struct place item = {p->reader, p->key, node, p->path};
        struct config_key one = *p->key;
        one.type = CONFIG_COUNT;
        item.key = &one;
        if (count == p->key->room) {
            COMPLAIN(&item, "the list is too long: at most %zu numbers", p->key->room);
            return;
        }
        read_number(&item, &counts[count++]);
    }
    memcpy(target, counts, p->key->room * sizeof *counts);
}

static void read_bool(const struct place *p, bool *target)
{
    bool yes = is_word(p->node) && strcmp(p->node->text, "true") == 0;
    if (!p->node->plain || (!yes && strcmp(p->node->text, "false") != 0))
        expected(p, "true or false");
    else
        *target = yes;
}

/* A word is meant for another where a third of it, or less, has to change. */
static bool is_near(const char *written, const char *meant, unsigned *best)
{
    unsigned distance = config_distance(written, meant);
    if (distance * 3 > strlen(meant) + 1 || distance >= *best)
        return false;
    *best = distance;
    return true;
}

static void read_choice(const struct place *p, void *target)
{
    char list[128] = "", guess[64] = "";
    unsigned best = UINT32_MAX;
    const char *text = is_word(p->node) ? p->node->text : "";
    for (int i = 0; p->key->choices[i]; i++) {
        const char *name = p->key->choices[i];
        if (strcmp(text, name) == 0) {
            memcpy(target, &i, sizeof(i));
            return;
        }
        size_t len = strlen(list);
        snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "one of ", name);
        if (is_near(text, name, &best))
            snprintf(guess, sizeof(guess), "; did you mean \"%s\"?", name);
    }
    char buffer[FOUND_MAX];
    COMPLAIN(p, "expected %s; found %s%s", list, found(p->node, buffer), guess);
}

static void out_of_memory(const struct place *p)
{
    COMPLAIN(p, "out of memory");
}

char *config_absolute(const char *directory, const char *path)
{
    char *out = NULL;
    if (path[0] == '/')
        return strdup(path);
    while (strncmp(path, "./", 2) == 0)
        path += 2;
    if (strcmp(path, ".") == 0 || *path == '\0')
        return strdup(directory);
    return asprintf(&out, "%s%s%s", directory, strcmp(directory, "/") == 0 ? "" : "/", path) < 0
               ? NULL
               : out;
}

static void read_text(const struct place *p, char **target)
{
    bool file = p->key->type == CONFIG_FILE_PATH;
    if (!is_word(p->node) || p->node->text[0] == '\0') {
        expected(p, file ? "a path" : "text");
        return;
    }
    char *value =
        file ? config_absolute(p->reader->directory, p->node->text) : strdup(p->node->text);
    if (!value) {
        out_of_memory(p);
        return;
    }
    free(*target);
    *target = value;
}

bool config_is_strings(enum config_type type)
{
    return type == CONFIG_COMMAND || type == CONFIG_WORDS || type == CONFIG_PATTERNS ||
           type == CONFIG_VARIABLES;
}

void config_strings_free(char **strings)
{
    for (char **s = strings; s && *s; s++)
        free(*s);
    free(strings);
}

/* The list that a command written as one text stands for: [python3, worker.py]. */
static void suggest_list(const char *text, char *out, size_t room)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+";
    size_t len = 0;
    const char *comma = "";
    out[0] = '\0';
    while (*(text += strspn(text, " \t\n")) && len + 1 < room) {
        size_t word = strcspn(text, " \t\n");
        const char *quote = strspn(text, safe) >= word ? "" : "'";
        int more =
            snprintf(out + len, room - len, "%s%s%.*s%s", comma, quote, (int)word, text, quote);
        len += more > 0 ? (size_t)more : 0;
        text += word;
        comma = ", ";
    }
}

/* The words of a list, each as it stands; of a command the first may be a path.  NULL: an error. */
static char **read_list(const struct place *p)
{
    bool command = p->key->type == CONFIG_COMMAND;
    char **words = calloc(p->node->count + 1, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (const struct node *word = p->node->first; word && fine; word = word->next) {
        struct place item = {p->reader, p->key, word, p->path};
        if (!is_word(word) || ((count == 0 || !command) && word->text[0] == '\0')) {
            expected(&item, "a word");
            config_strings_free(words);
            return NULL;
        }
        words[count] = command && count == 0 && strchr(word->text, '/')
                           ? config_absolute(p->reader->directory, word->text)
                           : strdup(word->text);
        fine = words[count++] != NULL;
    }
    if (fine)
        return words;
    out_of_memory(p);
    config_strings_free(words);
    return NULL;
}

static void read_words(const struct place *p, char ***target)
{
    bool command = p->key->type == CONFIG_COMMAND;
    char list[160];
    if (is_word(p->node) && p->node->text[0]) {
        suggest_list(p->node->text, list, sizeof(list));
        COMPLAIN(p, "expected a list of words; found text: write [%s]", list);
        return;
    }
    const char *such =
        command ? "a list of words such as [python3, worker.py]" : "a list of words such as [0, 1]";
    if (p->node->kind == NODE_LIST && p->node->count == 0) {
        COMPLAIN(p, "expected %s; found an empty list", such);
        return;
    }
    if (p->node->kind != NODE_LIST) {
        expected(p, such);
        return;
    }
    char **words = read_list(p);
    if (!words)
        return;
    config_strings_free(*target);
    *target = words;
}

/* A default is one text: its words stand between blanks. */
static char **split_words(const char *text)
{
    char **words = calloc(strlen(text) / 2 + 2, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (; fine && *text; text += *text == ' ') {
        size_t len = strcspn(text, " ");
        fine = (words[count++] = strndup(text, len)) != NULL;
        text += len;
    }
    if (fine)
        return words;
    config_strings_free(words);
    return NULL;
}

static void read_patterns(const struct place *p, char ***target)
{
    bool is_default = is_word(p->node) && !p->node->line;
    if (p->node->kind != NODE_LIST && !is_default) {
        expected(p, "a list such as [/predict, POST /score]");
        return;
    }
    char **words = is_default ? split_words(p->node->text) : read_list(p);
    if (!words)
        return;
    config_strings_free(*target);
    *target = words;
}

static void read_variables(const struct place *p, char ***target)
{
    if (p->node->kind != NODE_MAP) {
        expected(p, "names and values such as {OMP_NUM_THREADS: 1}");
        return;
    }
    char **words = calloc(p->node->count + 1, sizeof(*words));
    size_t count = 0;
    bool fine = words != NULL;
    for (const struct node *item = p->node->first; item && fine; item = item->next) {
        char path[CONFIG_PATH_MAX];
        snprintf(path, sizeof(path), "%.120s.%.120s", p->path, item->key);
        struct place place = {p->reader, p->key, item, path};
        if (!is_word(item))
            expected(&place, "text");
        else if (item->key[0] == '\0' || strchr(item->key, '='))
            COMPLAIN(&place, "a variable's name is not empty and holds no =");
        else if (strncmp(item->key, "HASUP_", 6) == 0)
            COMPLAIN(&place, "names that begin with HASUP_ are set by hasupd");
        else
            fine = asprintf(&words[count++], "%s=%s", item->key, item->text) >= 0;
    }
    if (!fine) {
        if (count > 0)
            words[count - 1] = NULL;
        out_of_memory(p);
        config_strings_free(words);
        return;
    }
    config_strings_free(*target);
    *target = words;
}

static void read_value(const struct place *p, void *object)
{
    void *target = (char *)object + p->key->offset;
    switch (p->key->type) {
    case CONFIG_TEXT:
    case CONFIG_FILE_PATH: read_text(p, target); break;
    case CONFIG_BOOL: read_bool(p, target); break;
    case CONFIG_COUNT:
    case CONFIG_SIZE:
    case CONFIG_DURATION: read_number(p, target); break;
    case CONFIG_COUNTS: read_counts(p, target); break;
    case CONFIG_CHOICE: read_choice(p, target); break;
    case CONFIG_COMMAND:
    case CONFIG_WORDS: read_words(p, target); break;
    case CONFIG_VARIABLES: read_variables(p, target); break;
    case CONFIG_PATTERNS: read_patterns(p, target); break;
    case CONFIG_MODELS: break; /* each model has a table of its own: config.c */
    }
}

/* A group and the table that knows it. */
struct group {
    const struct config_key *keys;
    size_t count;
    const char *prefix; /* of the messages: "models.digits", or "" */
    const char *name;   /* "restart", or "" */
};

/* Where `path` stands in the group: the rest after the group's name, or NULL. */
static const char *within(const struct group *group, const char *path)
{
    size_t len = strlen(group->name);
    if (len == 0)
        return path;
    return strncmp(path, group->name, len) == 0 && path[len] == '.' ? path + len + 1 : NULL;
}

static void unknown_key(struct config_reader *reader, const struct group *group,
                        const struct node *child, const char *path)
{
    char guess[CONFIG_PATH_MAX] = "", known[CONFIG_PATH_MAX] = "", name[64];
    unsigned best = UINT32_MAX;
    for (size_t i = 0; i < group->count; i++) {
        const char *rest = within(group, group->keys[i].path);
        if (!rest)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(rest, "."), rest);
        if (is_near(child->key, name, &best))
            snprintf(guess, sizeof(guess), "%s", name);
        size_t len = strlen(known);
        const char *last = strrchr(known, ' ');
        if (strcmp(last ? last + 1 : known, name) != 0)
            snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "", name);
    }
    /* A key of another group is a key in the wrong place. */
    for (size_t i = 0; i < group->count && best > 0; i++) {
        const char *dot = strrchr(group->keys[i].path, '.');
        if (is_near(child->key, dot ? dot + 1 : group->keys[i].path, &best))
            snprintf(guess, sizeof(guess), "%s", group->keys[i].path);
    }
    if (guess[0])
        config_error(reader->errors, child->key_line, child->key_column, path,
                     "unknown key; did you mean \"%s\"?", guess);
    else
        config_error(reader->errors, child->key_line, child->key_column, path,
                     "unknown key; known here: %s", known);
}

static void read_group(struct config_reader *reader, const struct group *group,
                       const struct node *map, void *object)
{
    for (const struct node *child = map->first; child; child = child->next) {
        char rel[CONFIG_PATH_MAX], path[CONFIG_PATH_MAX];
        snprintf(rel, sizeof(rel), "%.80s%s%.80s", group->name, *group->name ? "." : "",
                 child->key);
        snprintf(path, sizeof(path), "%.80s%s%.170s", group->prefix, *group->prefix ? "." : "",
                 rel);
        struct group inner = {group->keys, group->count, group->prefix, rel};
        const struct config_key *key = NULL, *member = NULL;
        for (size_t i = 0; i < group->count && !key; i++) {
            if (strcmp(group->keys[i].path, rel) == 0)
                key = &group->keys[i];
            else if (!member && within(&inner, group->keys[i].path))
                member = &group->keys[i];
        }
        struct place place = {reader, key, child, path};
        char buffer[FOUND_MAX];
        if (key)
            read_value(&place, object);
        else if (!member)
            unknown_key(reader, group, child, path);
        else if (child->kind == NODE_MAP)
            read_group(reader, &inner, child, object);
        else if (!config_tree_is_nothing(child))
            COMPLAIN(&place, "expected keys such as %s:; found %s", within(&inner, member->path),
                     found(child, buffer));
    }
}

void config_read(struct config_reader *reader, const struct config_key *keys, size_t count,
                 const struct node *node, const char *prefix, void *object)
{
    struct group whole = {keys, count, prefix, ""};
    read_group(reader, &whole, node, object);
}

/* The defaults go through the same reader as the file: a default that it refuses is our bug. */
bool config_defaults(const struct config_key *keys, size_t count, void *object)
{
    char message[CONFIG_ERROR_MAX];
    struct config_errors errors;
    struct config_reader reader = {.errors = &errors, .directory = "/"};
    config_errors_init(&errors, "default", message);
    for (size_t i = 0; i < count; i++) {
        char text[CONFIG_PATH_MAX];
        if (!keys[i].fallback)
            continue;
        snprintf(text, sizeof(text), "%s", keys[i].fallback);
        struct node node = {.kind = NODE_SCALAR, .plain = true, .text = text};
        struct place place = {&reader, &keys[i], &node, keys[i].path};
        read_value(&place, object);
    }
    return errors.count == 0;
}

void config_keys_free(const struct config_key *keys, size_t count, void *object)
{
    for (size_t i = 0; i < count; i++) {
        void *target = (char *)object + keys[i].offset;
        if (keys[i].type == CONFIG_TEXT || keys[i].type == CONFIG_FILE_PATH)
            free(*(char **)target);
        else if (config_is_strings(keys[i].type))
            config_strings_free(*(char ***)target);
    }
}
