/*
 * start.c: a slot's process made: its pipes, its socket, its environment, for a worker, a program
 * (which has no socket), and the pre_start command that comes before one (which has none, either).
 * It says why one could not be started, and decides nothing: when one starts is the core's.
 */
#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"
#include "supervisor/engine.h"
#include "supervisor/said.h"
#include "supervisor/sockets.h"
#include "supervisor/spawn.h"
#include "supervisor/users.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the configuration says of a process, for this slot. */
struct made {
    char **env, **argv, *directory;
};

static void made_free(struct made *made)
{
    config_strings_free(made->env);
    config_strings_free(made->argv);
    free(made->directory);
}

/* argv, malloc'ed; NULL: no memory. */
static char **command_make(const struct worker *worker, const struct template_values *values)
{
    const struct config_model *config = worker->slot->config;
    char **own = template_fill_all(worker->hook ? config->pre_start : config->command, values);
    if (!own || worker->hook || config->adapter.kind == ADAPTER_NONE)
        return own;
    char **argv = adapter_command(worker->slot, own);
    config_strings_free(own);
    return argv;
}

/* 0, or the errno of what failed; `made` is freed by the caller, then, too. */
static int make(const struct worker *worker, struct made *made, char error[ENGINE_REASON])
{
    const struct slot *slot = worker->slot;
    const struct template_values values = {slot->config->name, slot->place.ordinal};
    *made = (struct made){.argv = command_make(worker, &values),
                          .directory = template_fill(slot->config->directory, &values)};
    snprintf(error, ENGINE_REASON, "out of memory");
    int failed = environment_make(worker, true, &made->env, error);
    return failed || (made->argv && made->directory) ? failed : ENOMEM;
}

_Static_assert((int)CONFIG_SOCKETS_MAX <= (int)SPAWN_SOCKETS, "a child has room for each of them");

static int worker_process(struct worker *worker, const struct attributes *attributes, int channel,
                          int out, int err, char error[ENGINE_REASON])
{
    const struct slot *slot = worker->slot;
    struct made made;
    int sockets[CONFIG_SOCKETS_MAX];
    int failed = worker->hook ? 0 : sockets_open(slot->engine, slot->config, error);
    size_t count = worker->hook ? 0 : sockets_of(slot->engine, slot->config, sockets);
    if (failed)
        return failed;
    failed = make(worker, &made, error);
    const struct process_spec spec = {.name = slot->place.name,
                                      .argv = (const char *const *)made.argv,
                                      .env = (const char *const *)made.env,
                                      .directory = made.directory,
                                      .attributes = attributes,
                                      .channel = channel,
                                      .channel_name = worker->program ? "HASUP_READY_FD" : NULL,
                                      .sockets = sockets,
                                      .socket_count = (unsigned)count,
                                      .out = out,
                                      .err = err,
                                      .context = worker};
    if (!failed && process_spawn(slot->engine->processes, &spec, &worker->process, error))
        failed = errno;
    made_free(&made);
    return failed;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* By sd_notify. */
static bool is_heard(const struct worker *worker)
{
    const struct config_model *config = worker->slot->config;
    return !worker->hook &&
           (config->policy.timeouts.watchdog || config->ready.how == READY_NOTIFY);
}

/* 0, or the errno of what failed, with its text in `error`. */
int worker_start(struct worker *worker, char error[ENGINE_REASON])
{
    int pair[2] = {-1, -1}, pipes[2] = {-1, -1};
    struct attributes attributes;
    int failed = users_find(&worker->slot->config->process, &attributes, error);
    if (failed)
        return failed;
    const bool program = worker_is_program(worker), speaks = !worker->hook && !program;
    if (speaks && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        failed = errno;
    if (program)
        failed = program_open(worker, &pair[1]);
    if (!failed && is_heard(worker) && !(worker->notify = notify_new(worker, attributes.uid)))
        failed = errno ? errno : ENOMEM;
    worker->capture =
        failed ? NULL : said_capture(worker, &pipes[0], &pipes[1]);
    if (!failed && !worker->capture)
        failed = errno ? errno : ENOMEM;
    if (failed)
        snprintf(error, ENGINE_REASON, "cannot make its sockets: %s", strerror(failed));
    else
        failed = worker_process(worker, &attributes, pair[1], pipes[0], pipes[1], error);
    if (!failed && speaks &&
        peer_open(&worker->peer, worker->slot->engine->peers, pair[0], &worker_ops, worker)) {
        process_kill_tree(worker->process);
        pair[0] = -1;
    }
    const int fds[] = {failed ? pair[0] : -1, pair[1], pipes[0], pipes[1]};
    close_all(fds, HASUP_LEN(fds));
    return failed;
}
