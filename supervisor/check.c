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
#include "supervisor/spawn.h"
#include "supervisor/users.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_TEXT = 4096 };

HASUP_PRINTF(4, 5)
static void complain(struct config_errors *errors, const struct config_model *model,
                     const char *key, const char *format, ...)
{
    char path[CONFIG_PATH_MAX], text[CONFIG_ERROR_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "models.%s.%s", model->name, key);
    config_error(errors, model->line, model->column, path, "%s", text);
}

/* What is replaced in what is looked at: the first slot's. */
static struct template_values first_of(const struct config_model *model)
{
    return (struct template_values){.model = model->name};
}

/* The PATH that a command is looked for on: "PATH=..."; the last that there is counts. */
static void find_path(const struct config_model *model, char path[PATH_TEXT])
{
    const struct template_values values = first_of(model);
    const char *hasupds = getenv("PATH");
    struct envfiles files;
    char why[ENVFILE_ERROR];
    snprintf(path, PATH_TEXT, "PATH=%s", hasupds ? hasupds : "/usr/local/bin:/usr/bin:/bin");
    if (envfiles_read(model->environment_files, &values, &files, why))
        return; /* which is told */
    for (char **s = files.list; s && *s; s++)
        if (strncmp(*s, "PATH=", 5) == 0)
            snprintf(path, PATH_TEXT, "%s", *s);
    for (char **s = model->environment; s && *s; s++)
        if (strncmp(*s, "PATH=", 5) == 0) {
            char *filled = template_fill(*s, &values);
            snprintf(path, PATH_TEXT, "%s", filled ? filled : *s);
            free(filled);
        }
    envfiles_free(&files);
}

static void check_command(struct config_errors *errors, const struct config_model *model,
                          const char *key, char **command)
{
    const struct template_values values = first_of(model);
    char search[PATH_TEXT], path[PATH_TEXT];
    const char *const env[] = {search, NULL};
    char *name = template_fill(command[0], &values);
    struct stat st;
    find_path(model, search);
    if (!name || !spawn_find(name, env, path, sizeof path))
        complain(errors, model, key, "%.200s: not found on PATH", name ? name : command[0]);
    else if (stat(path, &st))
        complain(errors, model, key, "%.300s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        complain(errors, model, key, "%.300s: is not a file", path);
    else if (access(path, X_OK))
        complain(errors, model, key, "%.300s: is not executable (%s)", path, strerror(errno));
    free(name);
}

static void check_environment_files(struct config_errors *errors, const struct config_model *model)
{
    struct template_values values = first_of(model);
    for (; values.slot < model->policy.workers; values.slot++) {
        struct envfiles files;
        char why[ENVFILE_ERROR];
        if (envfiles_read(model->environment_files, &values, &files, why)) {
            complain(errors, model, "environment_files", "%s", why);
            return; /* each of the others may say the same */
        }
        envfiles_free(&files);
    }
}

/* What an adapter's command is started by. */
static void check_adapter(struct config_errors *errors, const struct config_model *model)
{
    const char *hasupds = getenv("PATH");
    char own[PATH_TEXT], path[PATH_TEXT];
    const char *const env[] = {own, NULL};
    snprintf(own, sizeof own, "PATH=%s", hasupds ? hasupds : "");
    if (!spawn_find_own(ADAPTER_PROGRAM, path, sizeof path) &&
        !spawn_find(ADAPTER_PROGRAM, env, path, sizeof path))
        complain(errors, model, "adapter",
                 "%s, which runs the command, is neither beside hasupd nor on PATH",
                 ADAPTER_PROGRAM);
}

static void check_directory(struct config_errors *errors, const struct config_model *model)
{
    const struct template_values values = first_of(model);
    char *directory = template_fill(model->directory, &values);
    struct stat st;
    if (!directory || stat(directory, &st))
        complain(errors, model, "directory", "%.300s: %s", directory ? directory : model->directory,
                 strerror(errno));
    else if (!S_ISDIR(st.st_mode))
        complain(errors, model, "directory", "%.300s: is not a directory", directory);
    else if (access(directory, X_OK))
        complain(errors, model, "directory", "%.300s: %s", directory, strerror(errno));
    free(directory);
}

static void check_user(struct config_errors *errors, const struct config_model *model)
{
    struct attributes attributes;
    char why[USERS_ERROR];
    if (users_find(&model->process, &attributes, why))
        complain(errors, model, model->process.user ? "process.user" : "process.group", "%s", why);
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

int check_named(const struct config *config, char error[CONFIG_ERROR_MAX])
{
    struct config_errors errors;
    config_errors_init(&errors, config->file, error);
    check_key_file(&errors, config);
    for (size_t i = 0; i < config->model_count; i++) {
        const struct config_model *model = &config->models[i];
        check_command(&errors, model, "command", model->command);
        if (model->adapter.kind != ADAPTER_NONE)
            check_adapter(&errors, model);
        if (model->pre_start)
            check_command(&errors, model, "pre_start.command", model->pre_start);
        check_directory(&errors, model);
        check_environment_files(&errors, model);
        check_user(&errors, model);
    }
    config_errors_end(&errors);
    return errors.count ? HASUP_ECONFIG : 0;
}
