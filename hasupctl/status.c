/* status.c: hasupctl status: a table for eyes, narrow enough for 80 columns; with --json as it
 * came. */
#include "hasupctl/hasupctl.h"

#include <stdio.h>
#include <string.h>

const char *ctl_duration(long long ms, char out[32])
{
    if (ms < 1000)
        snprintf(out, 32, "%lld ms", ms);
    else if (ms < 120 * 1000)
        snprintf(out, 32, "%lld s", ms / 1000);
    else if (ms < 120LL * 60 * 1000)
        snprintf(out, 32, "%lld min", ms / 60000);
    else if (ms < 48LL * 3600 * 1000)
        snprintf(out, 32, "%lld h", ms / 3600000);
    else
        snprintf(out, 32, "%lld d", ms / 86400000);
    return out;
}

const char *ctl_bytes(unsigned long long bytes, char out[32])
{
    static const char *const UNITS[] = {"B", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit < 3; unit++)
        value /= 1024;
    snprintf(out, 32, unit && value < 10 ? "%.1f %s" : "%.0f %s", value, UNITS[unit]);
    return out;
}

static long long number(json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
}

static const char *state_colour(const struct ctl *ctl, const char *state)
{
    if (!ctl->colour)
        return "";
    if (strcmp(state, "ready") == 0)
        return "\033[32m";
    if (strcmp(state, "broken") == 0 || strcmp(state, "backoff") == 0)
        return "\033[31m";
    return "\033[33m";
}

static void print_death(json_t *slot)
{
    json_t *death = json_object_get(slot, "last_death"), *line;
    size_t i;
    const char *state = text(slot, "state");
    bool serves = strcmp(state, "ready") == 0;
    if (!json_is_object(death) || (serves && !number(slot, "crashes")))
        return;
    printf("    last worker: %s\n", text(death, "reason"));
    if (!serves)
        json_array_foreach(json_object_get(death, "stderr"), i, line)
            printf("      | %s\n", json_string_value(line));
}

static void print_checkpoint(json_t *slot)
{
    char age[32], bytes[32];
    json_t *checkpoint = json_object_get(slot, "checkpoint");
    if (!json_is_object(checkpoint))
        return;
    json_t *age_ms = json_object_get(checkpoint, "age_ms");
    if (json_is_null(age_ms))
        printf("    checkpoint: none yet, log at %lld\n", number(checkpoint, "log_head"));
    else
        printf("    checkpoint: %s ago, %s, position %lld of %lld\n",
               ctl_duration(json_integer_value(age_ms), age),
               ctl_bytes((unsigned long long)number(checkpoint, "bytes"), bytes),
               number(checkpoint, "position"), number(checkpoint, "log_head"));
    if (json_is_true(json_object_get(checkpoint, "in_memory_only")))
        puts("    the newest state is in memory only: the disk does not take it");
}

static void print_slot(const struct ctl *ctl, json_t *slot)
{
    char since[32], next[32];
    const char *state = text(slot, "state");
    json_t *next_ms = json_object_get(slot, "next_start_ms");
    printf("  %-20s %s%-9s%s %7s  pid %-7lld %6lld answered  %lld starts\n", text(slot, "slot"),
           state_colour(ctl, state), state, ctl->colour ? "\033[0m" : "",
           ctl_duration(number(slot, "since_ms"), since), number(slot, "pid"),
           number(slot, "answered"), number(slot, "starts"));
    if (json_is_integer(next_ms))
        printf("    starts again in %s\n", ctl_duration(json_integer_value(next_ms), next));
    if (number(slot, "diverged"))
        printf("    %lld replayed requests were answered otherwise than before\n",
               number(slot, "diverged"));
    print_checkpoint(slot);
    print_death(slot);
}

static void print_model(const struct ctl *ctl, json_t *model)
{
    json_t *slot;
    size_t i;
    printf("%s: %lld of %lld ready%s, %lld queued, %lld running, %lld answered, %lld refused\n",
           text(model, "name"), number(model, "ready"), number(model, "workers"),
           json_is_true(json_object_get(model, "accepting")) ? "" : " (accepts nothing)",
           number(model, "queued"), number(model, "inflight"), number(model, "answered"),
           number(model, "refused"));
    json_array_foreach(json_object_get(model, "slots"), i, slot) print_slot(ctl, slot);
}

static void print_status(const struct ctl *ctl, json_t *status)
{
    char uptime[32];
    json_t *model, *checkpoints = json_object_get(status, "checkpoints");
    size_t i;
    printf("hasupd %s, pid %lld, up %s, %s\n", text(status, "version"), number(status, "pid"),
           ctl_duration(number(status, "uptime_ms"), uptime),
           json_is_true(json_object_get(status, "shutting_down")) ? "shutting down"
           : json_is_true(json_object_get(status, "ready"))       ? "ready"
                                                                  : "not ready");
    if (json_is_true(json_object_get(checkpoints, "failing")))
        printf("checkpoints are NOT stored: %s\n", text(checkpoints, "error"));
    json_array_foreach(json_object_get(status, "models"), i,
                       model) if (!ctl->argc || strcmp(ctl->argv[0], text(model, "name")) == 0)
        print_model(ctl, model);
}

int ctl_status(const struct ctl *ctl)
{
    json_t *status;
    if (ctl->argc > 1)
        return ctl_usage("status [MODEL]");
    int code = ctl_call(ctl, json_pack("{s:s}", "verb", "status"), &status);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(status);
    else if (code == CTL_OK)
        print_status(ctl, status);
    json_decref(status);
    return code;
}
