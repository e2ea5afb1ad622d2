/*
 * environment.c: what a slot's processes find in their environment: hasupd's own, the model's and
 * its files', which model and slot they are, which devices are theirs, and where their watchdog
 * listens.  HASUP_FD and HASUP_WORKER are process.c's.
 */
#include "supervisor/config_envfile.h"
#include "supervisor/config_tree.h"
#include "supervisor/engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern char **environ;

enum { DEVICES_TEXT = 1024, NAMES = 13 /* variables of hasupd's making, at most */ };

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
           strncmp(variable, "WATCHDOG_PID=", 13) == 0 || strncmp(variable, "LISTEN_", 7) == 0;
}

static bool put_watchdog(struct list *list, const struct worker *worker)
{
    const hasup_ns watchdog = worker->slot->config->policy.timeouts.watchdog;
    return !worker->notify ||
           (put_text(list, "NOTIFY_SOCKET=%s", notify_path(worker->notify)) &&
            (!watchdog || put_text(list, "WATCHDOG_USEC=%lld", (long long)(watchdog / HASUP_US))));
}

/* sd_listen_fds(3); LISTEN_PID is process.c's. */
static bool put_sockets(struct list *list, const struct config_model *config)
{
    char names[CONFIG_SOCKETS_MAX * 64] = "";
    size_t count = 0, used = 0;
    for (const struct config_socket *at = config->sockets; at && at->name; at++, count++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", count ? ":" : "",
                                 at->name);
    return !count || (put_text(list, "LISTEN_FDS=%zu", count) &&
                      put_text(list, "LISTEN_FDNAMES=%s", names));
}

static bool put_hasups(struct list *list, const struct worker *worker)
{
    const struct slot *slot = worker->slot;
    return put_text(list, "HASUP_MODEL=%s", slot->config->name) &&
           put_text(list, "HASUP_SLOT=%u", slot->place.ordinal) && put_devices(list, slot) &&
           put_watchdog(list, worker) &&
           (worker->hook || put_sockets(list, slot->config)) &&
           (slot->role != ROLE_ZYGOTE || worker->hook || put(list, "HASUP_ZYGOTE=1"));
}

/* The model's own, then its files', of which the last counts, then hasupd's. */
static bool put_others(struct list *list, const struct config_model *config,
                       const struct template_values *values, const struct envfiles *files)
{
    bool fine = true;
    for (char **at = config->environment; fine && at && *at; at++) {
        char *filled = template_fill(*at, values);
        fine = filled && put(list, filled);
        free(filled);
    }
    for (size_t i = files->count; fine && i-- > 0;)
        fine = put(list, files->list[i]);
    for (char **at = environ; fine && *at; at++)
        fine = is_hasupds(*at) || put(list, *at);
    return fine && (!config->devices || put(list, "CUDA_DEVICE_ORDER=PCI_BUS_ID"));
}

static size_t length(char *const *list)
{
    size_t count = 0;
    while (list && list[count])
        count++;
    return count;
}

int environment_make(const struct worker *worker, bool with_files, char ***environment,
                     char error[ENGINE_REASON])
{
    const struct config_model *config = worker->slot->config;
    const struct template_values values = {config->name, worker->slot->place.ordinal};
    struct envfiles files;
    char why[ENVFILE_ERROR];
    int failed = envfiles_read(with_files ? config->environment_files : NULL, &values, &files, why);
    if (failed) {
        snprintf(error, ENGINE_REASON, "environment_files: %s", why);
        return failed;
    }
    size_t room = length(environ) + length(config->environment) + files.count + NAMES;
    struct list list = {.vars = calloc(room, sizeof *list.vars)};
    bool fine =
        list.vars && put_hasups(&list, worker) && put_others(&list, config, &values, &files);
    envfiles_free(&files);
    if (fine) {
        *environment = list.vars;
        return 0;
    }
    config_strings_free(list.vars);
    return ENOMEM;
}
