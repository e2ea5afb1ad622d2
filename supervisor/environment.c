/*
 * environment.c: what a slot's processes find in their environment: hasupd's own, the model's,
 * which model and slot they are, which devices are theirs, and where their
 * watchdog listens.  HASUP_FD and HASUP_WORKER are
 * process.c's.
 */
#include "supervisor/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

enum { DEVICES_TEXT = 1024, NAMES = 11 /* variables of hasupd's making, at most */ };

/* A list of variables: those that come first win. */
struct list {
    char **vars;
    size_t count;
};

static bool is_there(const struct list *list, const char *variable)
{
    size_t name = strcspn(variable, "=") + 1;
    for (size_t i = 0; i < list->count; i++)
        if (strncmp(list->vars[i], variable, name) == 0)
            return true;
    return false;
}

static bool put(struct list *list, const char *variable)
{
    if (is_there(list, variable))
        return true;
    char *copy = strdup(variable);
    if (copy)
        list->vars[list->count++] = copy;
    return copy != NULL;
}

HASUP_PRINTF(2, 3) static bool put_text(struct list *list, const char *format, ...)
{
    char text[DEVICES_TEXT + 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return put(list, text);
}

/* The slot's devices: the next `devices_per_worker` of the list, by its ordinal, from the start
 * again where the list ends. */
static bool put_devices(struct list *list, const struct slot *slot)
{
    const struct config_model *config = slot->config;
    char devices[DEVICES_TEXT] = "", local[DEVICES_TEXT] = "";
    size_t count = 0, used = 0, local_used = 0;
    while (config->devices && config->devices[count])
        count++;
    for (size_t i = 0; count && i < config->devices_per_worker; i++) {
        size_t at = ((size_t)slot->place.ordinal * config->devices_per_worker + i) % count;
        const char *comma = i ? "," : "";
        used += (size_t)snprintf(devices + used, sizeof devices - used, "%s%s", comma,
                                 config->devices[at]);
        local_used +=
            (size_t)snprintf(local + local_used, sizeof local - local_used, "%s%zu", comma, i);
        if (used >= sizeof devices || local_used >= sizeof local)
            return false;
    }
    /* ROCm applies ROCR's list first, and HIP's counts what that one left.  nvidia-smi counts in
     * the order of the bus, and so shall CUDA. */
    return !count || (put_text(list, "CUDA_VISIBLE_DEVICES=%s", devices) &&
                      put_text(list, "ROCR_VISIBLE_DEVICES=%s", devices) &&
                      put_text(list, "HIP_VISIBLE_DEVICES=%s", local));
}

/* What systemd tells hasupd is not for its workers, who would answer in its name. */
static bool is_hasupds(const char *variable)
{
    return strncmp(variable, "NOTIFY_SOCKET=", 14) == 0 ||
           strncmp(variable, "WATCHDOG_USEC=", 14) == 0 ||
           strncmp(variable, "WATCHDOG_PID=", 13) == 0;
}

static bool put_watchdog(struct list *list, const struct worker *worker)
{
    const hasup_ns watchdog = worker->slot->config->policy.timeouts.watchdog;
    return !worker->notify ||
           (put_text(list, "NOTIFY_SOCKET=%s", notify_path(worker->notify)) &&
            put_text(list, "WATCHDOG_USEC=%lld", (long long)(watchdog / HASUP_US)));
}

void environment_free(char **environment)
{
    for (char **at = environment; at && *at; at++)
        free(*at);
    free(environment);
}

char **environment_make(const struct worker *worker)
{
    const struct slot *slot = worker->slot;
    const struct config_model *config = slot->config;
    size_t count = 0;
    while (environ[count])
        count++;
    for (char **at = config->environment; at && *at; at++)
        count++;
    struct list list = {.vars = calloc(count + NAMES, sizeof *list.vars)};
    bool fine = list.vars && put_text(&list, "HASUP_MODEL=%s", config->name) &&
                put_text(&list, "HASUP_SLOT=%u", slot->place.ordinal) && put_devices(&list, slot) &&
                put_watchdog(&list, worker) &&
                (slot->role != ROLE_ZYGOTE || worker->hook || put(&list, "HASUP_ZYGOTE=1"));
    for (char **at = config->environment; fine && at && *at; at++)
        fine = put(&list, *at);
    for (char **at = environ; fine && *at; at++)
        fine = is_hasupds(*at) || put(&list, *at);
    if (fine && config->devices)
        fine = put(&list, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
    if (fine)
        return list.vars;
    environment_free(list.vars);
    return NULL;
}
