/*
 * check.c: looks whether the files that a configuration names are there and usable, as the user who
 * asks.  Only `hasupd --check` does: at a start a command that is missing is one model's trouble,
 * which waits in backoff until it is there, and no reason to refuse the others.  Starts, creates
 * and changes nothing.
 */
#include "supervisor/check.h"

#include "checkpoints/keys.h"
#include "supervisor/config_envfile.h"
#include "supervisor/config_tree.h"
#include "supervisor/logdir.h"
#include "supervisor/spawn.h"
#include "supervisor/users.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_TEXT = 4096 };

/* What is looked at, as which of the model's processes would have it. */
struct look {
    struct config_errors *errors;
    const struct config_model *model;
    const char *key;
    struct template_values values;
};

static struct look look_at(struct config_errors *errors, const struct config_model *model,
                           const char *key)
{
    return (struct look){errors, model, key, {.model = model->name}};
}

/* Which one that is, where it is no worker that always serves. */
static const char *whose(const struct look *look, char text[128])
{
    const struct model_policy *policy = &look->model->policy;
    const uint32_t slot = look->values.slot;
    text[0] = '\0';
    if (slot >= policy->workers + policy->spares)
        snprintf(text, 128,
                 " (slot %u, which stands in while workers are replaced; rollout.max_surge: 0 does "
                 "without)",
                 slot);
    else if (slot >= policy->workers)
        snprintf(text, 128, " (slot %u, a spare)", slot);
    return text;
}

HASUP_PRINTF(2, 3) static bool complain(const struct look *look, const char *format, ...)
{
    char path[CONFIG_PATH_MAX], text[CONFIG_ERROR_MAX], slot[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s.%s.%s", config_section_of(look->model), look->model->name,
             look->key);
    config_error(look->errors, look->model->line, look->model->column, path, "%s%s", text,
                 whose(look, slot));
    return false;
}

/* Each process has a number of its own (docs/processes.md).  The first that lacks something is told
 * of, since each of the others may say the same. */
static void each_slot(struct look look, const void *what,
                      bool (*fine)(const struct look *look, const void *what))
{
    const struct model_policy *policy = &look.model->policy;
    const uint32_t surge =
        policy->rollout.max_surge < policy->workers ? policy->rollout.max_surge : policy->workers;
    const uint32_t count = policy->workers + policy->spares + surge;
    while (look.values.slot < count && fine(&look, what))
        look.values.slot++;
}

/* The PATH that a command is looked for on: "PATH=..."; the last that there is counts. */
static void find_path(const struct look *look, char path[PATH_TEXT])
{
    const struct config_model *model = look->model;
    const char *hasupds = getenv("PATH");
    struct envfiles files;
    char why[ENVFILE_ERROR];
    snprintf(path, PATH_TEXT, "PATH=%s", hasupds ? hasupds : "/usr/local/bin:/usr/bin:/bin");
    if (envfiles_read(model->environment_files, &look->values, &files, why))
        return; /* which is told */
    for (char **s = files.list; s && *s; s++)
        if (strncmp(*s, "PATH=", 5) == 0)
            snprintf(path, PATH_TEXT, "%s", *s);
    for (char **s = model->environment; s && *s; s++)
        if (strncmp(*s, "PATH=", 5) == 0) {
            char *filled = template_fill(*s, &look->values);
            snprintf(path, PATH_TEXT, "%s", filled ? filled : *s);
            free(filled);
        }
    envfiles_free(&files);
}

static bool is_hidden(const struct look *look, const char *path)
{
    return look->model->process.private_tmp && attributes_tmp_hides(path);
}

static bool command_is_there(const struct look *look, const void *what)
{
    char *const *command = what;
    char search[PATH_TEXT], path[PATH_TEXT];
    const char *const env[] = {search, NULL};
    char *name = template_fill(command[0], &look->values);
    struct stat st;
    bool fine = true;
    find_path(look, search);
    if (!name || !spawn_find(name, env, path, sizeof path))
        fine = complain(look, "%.200s: not found on PATH", name ? name : command[0]);
    else if (stat(path, &st))
        fine = complain(look, "%.300s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        fine = complain(look, "%.300s: is not a file", path);
    else if (access(path, X_OK))
        fine = complain(look, "%.300s: is not executable (%s)", path, strerror(errno));
    else if (is_hidden(look, path))
        fine = complain(look, "%.300s: " ATTRIBUTES_TMP_HIDES, path);
    free(name);
    return fine;
}

static void check_commands(struct config_errors *errors, const struct config_model *model)
{
    const struct look look = look_at(errors, model, "command");
    if (model->policy.preload) /* the zygote alone runs it */
        command_is_there(&look, model->command);
    else
        each_slot(look, model->command, command_is_there);
    if (model->pre_start)
        each_slot(look_at(errors, model, "pre_start.command"), model->pre_start, command_is_there);
    if (model->ready.probe.spec.exec)
        each_slot(look_at(errors, model, "ready.exec"), model->ready.probe.spec.exec,
                  command_is_there);
    if (model->live.spec.exec)
        each_slot(look_at(errors, model, "live.exec"), model->live.spec.exec, command_is_there);
}

static bool environment_files_are_there(const struct look *look, const void *what)
{
    struct envfiles files;
    char why[ENVFILE_ERROR];
    if (envfiles_read((char *const *)what, &look->values, &files, why))
        return complain(look, "%s", why);
    envfiles_free(&files);
    return true;
}

/* What an adapter's command is started by. */
static void check_adapter(struct config_errors *errors, const struct config_model *model)
{
    const struct look look = look_at(errors, model, "adapter");
    const char *hasupds = getenv("PATH");
    char own[PATH_TEXT], path[PATH_TEXT];
    const char *const env[] = {own, NULL};
    snprintf(own, sizeof own, "PATH=%s", hasupds ? hasupds : "");
    if (!spawn_find_own(ADAPTER_PROGRAM, path, sizeof path) &&
        !spawn_find(ADAPTER_PROGRAM, env, path, sizeof path))
        complain(&look, "%s, which runs the command, is neither beside hasupd nor on PATH",
                 ADAPTER_PROGRAM);
}

/* NULL, or why that is no directory in which this may be done. */
static const char *directory_lacks(const char *path, int access_mode)
{
    struct stat st;
    if (stat(path, &st))
        return strerror(errno);
    if (!S_ISDIR(st.st_mode))
        return "is not a directory";
    return access(path, access_mode) ? strerror(errno) : NULL;
}

static bool directory_is_there(const struct look *look, const void *what)
{
    char *directory = template_fill(what, &look->values);
    const char *lacks = directory ? directory_lacks(directory, X_OK) : strerror(ENOMEM);
    bool fine = true;
    if (lacks)
        fine = complain(look, "%.300s: %s", directory ? directory : (const char *)what, lacks);
    else if (is_hidden(look, directory))
        fine = complain(look, "%.300s: " ATTRIBUTES_TMP_HIDES, directory);
    free(directory);
    return fine;
}

/* The path of what a path stands in, "/run" of "/run/app.sock". */
static void parent_of(const char *path, char parent[PATH_TEXT])
{
    const char *slash = strrchr(path, '/');
    int len = slash == path ? 1 : slash ? (int)(slash - path) : 0;
    snprintf(parent, PATH_TEXT, "%.*s", len, path);
}

/* Who listens there already is not asked: it may be the hasupd that runs. */
static void check_sockets(struct config_errors *errors, const struct config *config,
                          const struct config_model *model)
{
    for (const struct config_socket *at = model->sockets; at && at->name; at++) {
        char key[CONFIG_PATH_MAX], parent[PATH_TEXT];
        const struct look look = look_at(errors, model, key);
        struct stat st;
        if (!at->path)
            continue;
        snprintf(key, sizeof key, "sockets.%.63s.unix", at->name);
        parent_of(at->path, parent);
        /* These two are made at the start. */
        const bool made = (config->runtime_dir && strcmp(parent, config->runtime_dir) == 0) ||
                          (config->state_dir && strcmp(parent, config->state_dir) == 0);
        const char *lacks = directory_lacks(parent, W_OK | X_OK);
        if (lacks && !(made && access(parent, F_OK)))
            complain(&look, "%.300s: %s", parent, lacks);
        else if (lstat(at->path, &st) == 0 && !S_ISSOCK(st.st_mode))
            complain(&look, "%.300s: is there and is no socket", at->path);
    }
}

static void check_read_only_paths(struct config_errors *errors, const struct config_model *model)
{
    const struct look look = look_at(errors, model, "process.read_only_paths");
    for (char **at = model->process.read_only_paths; at && *at; at++) {
        const bool optional = **at == '-';
        struct stat st;
        if (stat(*at + optional, &st) && !(optional && (errno == ENOENT || errno == ENOTDIR)))
            complain(&look, "%.300s: %s", *at + optional, strerror(errno));
    }
}

static void check_user(struct config_errors *errors, const struct config_model *model)
{
    struct attributes attributes;
    char why[USERS_ERROR];
    const struct look look =
        look_at(errors, model, model->process.user ? "process.user" : "process.group");
    if (users_find(&model->process, &attributes, why))
        complain(&look, "%s", why);
}

/* "0-3,6", as far as there is room. */
static void cpus_text(const cpu_set_t *cpus, char *text, size_t room)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t cpu = 0; cpu < CPU_SETSIZE && used < room; cpu++) {
        size_t last = cpu;
        if (!CPU_ISSET(cpu, cpus))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, cpus))
            last++;
        used += (size_t)snprintf(text + used, room - used, last > cpu ? "%s%zu-%zu" : "%s%zu",
                                 used ? "," : "", cpu, last);
        cpu = last;
    }
}

/* The kernel knows: it takes a set of which it has one that this cgroup may use, whatever this
 * process itself was bound to.  So it is asked, and then told to forget it. */
static void check_cpus(struct config_errors *errors, const struct config_model *model)
{
    const struct attributes *attributes = model->process.attributes;
    const struct look look = look_at(errors, model, "process.cpus");
    cpu_set_t own;
    char may[128];
    if (!attributes || !attributes->sets_cpus || sched_getaffinity(0, sizeof own, &own))
        return;
    if (sched_setaffinity(0, sizeof attributes->cpus, &attributes->cpus)) {
        cpus_text(&own, may, sizeof may);
        complain(&look, "\"%.64s\": none of these CPUs is there for hasupd, which has %s",
                 model->process.cpus, may);
    } else {
        (void)!sched_setaffinity(0, sizeof own, &own);
    }
}

static void check_key_file(struct config_errors *errors, const struct config *config)
{
    struct keys *keys = NULL;
    char why[KEYS_ERROR] = "";
    if (!config->checkpoints.key_file)
        return;
    if (keys_load(config->checkpoints.key_file, &keys, why))
        config_error(errors, 0, 0, "checkpoints.key_file", "%s", why);
    keys_free(keys);
}

/* ---- log files ---- */

static bool log_files_lack(struct config_errors *errors, const char *path, const char *what)
{
    config_error(errors, 0, 0, "log.files.directory", "%.300s: %s", path, what);
    return true;
}

/* One that is not there can be made, if its directory can be written to. */
static bool log_file_lacks(struct config_errors *errors, const char *directory, const char *name)
{
    char path[PATH_TEXT];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s.log", directory, name);
    if (lstat(path, &st))
        return errno != ENOENT && log_files_lack(errors, path, strerror(errno));
    if (S_ISLNK(st.st_mode))
        return log_files_lack(errors, path, "is a symbolic link");
    if (!S_ISREG(st.st_mode))
        return log_files_lack(errors, path, "is not a file");
    return access(path, W_OK) && log_files_lack(errors, path, strerror(errno));
}

/* The directory itself, or a model's below it; `above`: the one that it is made in, which others
 * may share.  Root may ask for a hasupd that is another user's. */
static bool log_directory_lacks(struct config_errors *errors, const char *directory, bool above)
{
    char why[LOGDIR_WHY];
    const char *what = directory_lacks(directory, W_OK | X_OK);
    if (!what && !above && !logdir_is_safe(directory, geteuid() == 0, why))
        what = why;
    return what && log_files_lack(errors, directory, what);
}

/* The files of its slots. */
static bool model_files_lack(struct config_errors *errors, const char *logs,
                             const struct config_model *model)
{
    const struct model_policy *policy = &model->policy;
    char directory[PATH_TEXT], name[64];
    snprintf(directory, sizeof directory, "%s/%s", logs, model->name);
    if (access(directory, F_OK))
        return false; /* it is made */
    bool lacks = log_directory_lacks(errors, directory, false);
    for (uint32_t i = 0; i < policy->workers + policy->rollout.max_surge && !lacks; i++) {
        snprintf(name, sizeof name, "%u", i);
        lacks = log_file_lacks(errors, directory, name);
    }
    for (uint32_t i = 0; i < policy->spares && !lacks; i++) {
        snprintf(name, sizeof name, "spare-%u", i);
        lacks = log_file_lacks(errors, directory, name);
    }
    return lacks || (policy->preload && log_file_lacks(errors, directory, "zygote"));
}

static void check_log_files(struct config_errors *errors, const struct config *config)
{
    char there[PATH_TEXT];
    const char *logs = config->log.files.directory;
    if (!logs)
        return;
    /* What is missing of it is made, in the last that is there. */
    snprintf(there, sizeof there, "%s", logs);
    while (there[1] && access(there, F_OK) && (errno == ENOENT || errno == ENOTDIR)) {
        char below[PATH_TEXT];
        snprintf(below, sizeof below, "%s", there);
        parent_of(below, there);
    }
    if (log_directory_lacks(errors, there, strcmp(there, logs) != 0))
        return;
    if (config->log.files.hasupd)
        log_file_lacks(errors, logs, "hasupd");
    if (!config->log.files.each_slot)
        log_file_lacks(errors, logs, "workers");
    for (size_t i = 0; i < config->model_count && config->log.files.each_slot; i++)
        model_files_lack(errors, logs, &config->models[i]);
}

int check_named(const struct config *config, char error[CONFIG_ERROR_MAX])
{
    struct config_errors errors;
    config_errors_init(&errors, config->file, error);
    check_key_file(&errors, config);
    check_log_files(&errors, config);
    for (size_t i = 0; i < config->model_count; i++) {
        const struct config_model *model = &config->models[i];
        check_commands(&errors, model);
        if (model->adapter.kind != ADAPTER_NONE)
            check_adapter(&errors, model);
        each_slot(look_at(&errors, model, "directory"), model->directory, directory_is_there);
        if (model->environment_files)
            each_slot(look_at(&errors, model, "environment_files"), model->environment_files,
                      environment_files_are_there);
        check_sockets(&errors, config, model);
        check_read_only_paths(&errors, model);
        check_user(&errors, model);
        check_cpus(&errors, model);
    }
    config_errors_end(&errors);
    return errors.count ? HASUP_ECONFIG : 0;
}
