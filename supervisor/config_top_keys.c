/*
 * config_top_keys.c: the table of the top level's keys: what is read, defaulted, printed, and
 * tested against supervisor.yaml.example.  config_keys.c follows it.
 */
#include "supervisor/config_tree.h"

static const char *const level_names[] = {"debug", "info", "warning", "error", NULL};
static const char *const format_names[] = {"auto", "text", "json", NULL};

#define TOP(path_, type_, member_, ...)                                                            \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct config, member_), __VA_ARGS__      \
    }

const struct config_key config_top_keys[] = {
    TOP("state_dir", CONFIG_FILE_PATH, state_dir, .fallback = NULL, .off = true),
    TOP("runtime_dir", CONFIG_FILE_PATH, runtime_dir, .fallback = NULL, .off = true),
    TOP("listen.http", CONFIG_TEXT, listen_http, .fallback = "127.0.0.1:8080", .off = true),
    TOP("listen.unix", CONFIG_FILE_PATH, listen_unix, .fallback = NULL, .off = true),
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
    TOP("log.files.directory", CONFIG_FILE_PATH, log.files.directory, .fallback = NULL),
    TOP("log.files.each_slot", CONFIG_BOOL, log.files.each_slot, .fallback = "true"),
    TOP("log.files.hasupd", CONFIG_BOOL, log.files.hasupd, .fallback = "false"),
    TOP("log.files.format", CONFIG_CHOICE, log.files.format, .fallback = "text",
        .choices = format_names),
    TOP("log.files.size", CONFIG_SIZE, log.files.rotation.bytes, .fallback = "64MiB",
        .min = KIB(64), .max = GIB(64)),
    TOP("log.files.age", CONFIG_DURATION, log.files.rotation.age, .fallback = "24h",
        .min = HASUP_S, .max = 366 * DAY, .never = true),
    TOP("log.files.keep", CONFIG_COUNT, log.files.rotation.keep, .fallback = "7", .max = 10000),
    TOP("log.files.compress", CONFIG_BOOL, log.files.compress, .fallback = "true"),
    TOP("log.files.queue", CONFIG_SIZE, log.files.queue, .fallback = "1MiB", .min = KIB(128),
        .max = GIB(1)),
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
    TOP("programs", CONFIG_PROGRAMS, models, .fallback = NULL),
};
const size_t config_top_key_count = HASUP_LEN(config_top_keys);
