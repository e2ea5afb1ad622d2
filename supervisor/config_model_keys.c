/*
 * config_model_keys.c: the tables of a model's keys and of a program's, as config_top_keys.c is of
 * the top level's.  Both have what starts, watches and replaces processes.
 */
#include "supervisor/config_tree.h"

static const char *const policy_names[] = {
    "fastest", "least_loaded", "round_robin", "weighted_round_robin", "random", NULL};

static const char *const on_lost_names[] = {"auto", "wait", "move", NULL};
static const char *const journal_names[] = {"auto", "always", "never", NULL};
static const char *const revival_names[] = {"always", "on-failure", "never", NULL};
static const char *const adapter_names[] = {"none", "http", NULL};

#define MODEL(path_, type_, member_, ...)                                                          \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct config_model, member_),            \
        __VA_ARGS__                                                                                \
    }

/* Of both, in two parts: fingerprints are made in the order of a table, and with another one an
 * upgrade would restart all that runs. */
#define START_KEYS                                                                                 \
    MODEL("command", CONFIG_COMMAND, command, .restarts = true),                                   \
    MODEL("essential", CONFIG_BOOL, policy.essential, .fallback = "false"),                        \
    MODEL("after", CONFIG_WORDS, after, .fallback = NULL),                                         \
    MODEL("requires", CONFIG_WORDS, requires, .fallback = NULL),                                   \
    MODEL("version", CONFIG_TEXT, version, .fallback = NULL, .restarts = true),                    \
    MODEL("directory", CONFIG_FILE_PATH, directory, .restarts = true),                             \
    MODEL("environment", CONFIG_VARIABLES, environment, .restarts = true),                         \
    MODEL("environment_files", CONFIG_FILE_PATHS, environment_files, .restarts = true),            \
    MODEL("sockets", CONFIG_SOCKETS, sockets, .restarts = true),                                   \
    MODEL("process.user", CONFIG_TEXT, process.user, .restarts = true),                            \
    MODEL("process.group", CONFIG_TEXT, process.group, .restarts = true),                          \
    MODEL("process.umask", CONFIG_TEXT, process.umask, .restarts = true),                          \
    MODEL("process.nice", CONFIG_TEXT, process.nice, .restarts = true),                            \
    MODEL("process.cpus", CONFIG_TEXT, process.cpus, .restarts = true),                            \
    MODEL("process.oom_score", CONFIG_TEXT, process.oom_score, .restarts = true),                  \
    MODEL("process.rlimits", CONFIG_VARIABLES, process.rlimits, .restarts = true),                 \
    MODEL("process.capabilities", CONFIG_WORDS, process.capabilities, .restarts = true),           \
    MODEL("process.read_only_paths", CONFIG_FILE_PATHS, process.read_only_paths,                   \
          .restarts = true),                                                                       \
    MODEL("process.private_tmp", CONFIG_SIZE, process.private_tmp, .fallback = "0",                \
          .max = GIB(16384), .restarts = true),                                                    \
    MODEL("process.no_new_privs", CONFIG_BOOL, process.no_new_privs, .fallback = "false",          \
          .restarts = true),                                                                       \
    MODEL("devices", CONFIG_WORDS, devices, .restarts = true),                                     \
    MODEL("devices_per_worker", CONFIG_COUNT, devices_per_worker, .fallback = "1", .min = 1,       \
          .max = 64, .restarts = true),                                                            \
    MODEL("pre_start.command", CONFIG_COMMAND, pre_start, .fallback = NULL),                       \
    MODEL("pre_start.timeout", CONFIG_DURATION, policy.pre_start.timeout, .fallback = "30s",       \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("pre_start.retries", CONFIG_COUNT, policy.pre_start.retries, .fallback = "30",           \
          .max = 1u << 20),                                                                        \
    MODEL("pre_start.interval", CONFIG_DURATION, policy.pre_start.interval, .fallback = "1s",      \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("restart.backoff_min", CONFIG_DURATION, policy.restart.backoff_min, .fallback = "100ms", \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("restart.backoff_max", CONFIG_DURATION, policy.restart.backoff_max, .fallback = "30s",   \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("restart.healthy_after", CONFIG_DURATION, policy.restart.healthy_after,                  \
          .fallback = "10s",                                                                       \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("restart.start_limit", CONFIG_COUNT, policy.restart.start_limit, .fallback = "5",        \
          .min = 1, .max = 1000),                                                                  \
    MODEL("restart.breaker", CONFIG_DURATION, policy.restart.breaker, .fallback = "1m",            \
          .min = HASUP_MS, .max = DAY)

#define TIME_KEYS                                                                                  \
    MODEL("timeouts.start", CONFIG_DURATION, policy.timeouts.start, .fallback = "5m",              \
          .min = HASUP_MS, .max = DAY),                                                            \
    MODEL("timeouts.watchdog", CONFIG_DURATION, policy.timeouts.watchdog, .fallback = "never",     \
          .min = 100 * HASUP_MS, .max = DAY, .never = true, .restarts = true),                     \
    MODEL("timeouts.abort", CONFIG_DURATION, policy.timeouts.abort, .fallback = "2s",              \
          .min = HASUP_MS, .max = DAY, .never = true),                                             \
    MODEL("timeouts.stop", CONFIG_DURATION, policy.timeouts.stop, .fallback = "5s",                \
          .min = HASUP_MS,                                                                         \
          .max = DAY),                                                                             \
    MODEL("recycle.age", CONFIG_DURATION, policy.recycle.age, .fallback = "never",                 \
          .min = 100 * HASUP_MS, .max = 366 * DAY, .never = true),                                 \
    MODEL("rollout.max_unavailable", CONFIG_COUNT, policy.rollout.max_unavailable,                 \
          .fallback = "0",                                                                         \
          .max = 4096),                                                                            \
    MODEL("rollout.progress_deadline", CONFIG_DURATION, policy.rollout.progress_deadline,          \
          .fallback = "10m", .min = HASUP_MS, .max = DAY, .never = true)

const struct config_key config_model_keys[] = {
    START_KEYS,
    MODEL("workers", CONFIG_COUNT, policy.workers, .fallback = "1", .min = 1, .max = 4096),
    MODEL("spares", CONFIG_COUNT, policy.spares, .fallback = "0", .max = 4096),
    MODEL("preload", CONFIG_BOOL, policy.preload, .fallback = "false"),
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
    TIME_KEYS,
    MODEL("timeouts.request", CONFIG_DURATION, request_timeout, .fallback = "1m", .min = HASUP_MS,
          .max = DAY, .never = true),
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
    MODEL("timeouts.drain", CONFIG_DURATION, policy.timeouts.drain, .fallback = "30s",
          .min = HASUP_MS, .max = DAY, .never = true),
    MODEL("recycle.requests", CONFIG_COUNT, policy.recycle.requests, .fallback = "0",
          .max = 1u << 30),
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
    MODEL("rollout.abort_error_rate", CONFIG_COUNT, policy.rollout.abort_error_rate,
          .fallback = "5", .max = 100),
    MODEL("rollout.abort_min_requests", CONFIG_COUNT, policy.rollout.abort_min_requests,
          .fallback = "50", .min = 1, .max = 1u << 20),
};
const size_t config_model_key_count = HASUP_LEN(config_model_keys);

const struct config_key config_program_keys[] = {
    START_KEYS,
    TIME_KEYS,
    MODEL("slots", CONFIG_COUNT, policy.workers, .fallback = "1", .min = 1, .max = 4096),
    MODEL("oneshot", CONFIG_BOOL, oneshot, .fallback = "false"),
    MODEL("stop_signal", CONFIG_TEXT, stop_name, .fallback = "TERM"),
    MODEL("ready", CONFIG_READY, ready, .fallback = NULL, .restarts = true),
    MODEL("live", CONFIG_PROBE, live, .fallback = NULL),
    MODEL("restart.when", CONFIG_CHOICE, policy.revival, .fallback = "always",
          .choices = revival_names),
};
const size_t config_program_key_count = HASUP_LEN(config_program_keys);

bool config_is_program(const struct config_model *model)
{
    return model->policy.kind != KIND_WORKERS;
}

const char *config_section_of(const struct config_model *model)
{
    return config_is_program(model) ? "programs" : "models";
}

struct config_table config_table_of(const struct config_model *model)
{
    if (config_is_program(model))
        return (struct config_table){config_program_keys, config_program_key_count};
    return (struct config_table){config_model_keys, config_model_key_count};
}
