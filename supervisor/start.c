/*
 * start.c: a slot's process made: its pipes, its socket, its environment, for a worker and for the
 * pre_start command that comes before one (which gets no socket).  It says why one could not be
 * started, and decides nothing: when one starts is the core's.
 */
#include "supervisor/engine.h"
#include "supervisor/users.h"
#include "supervisor/said.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int worker_process(struct worker *worker, const struct attributes *attributes, int channel,
                          int out, int err, char error[ENGINE_REASON])
{
    const struct slot *slot = worker->slot;
    const struct config_model *config = slot->config;
    char **env = environment_make(worker), **argv = adapter_command(slot, worker->hook);
    if (!env || !argv) {
        environment_free(env);
        adapter_command_free(slot, argv);
        return ENOMEM;
    }
    const struct process_spec spec = {.name = slot->place.name,
                                      .argv = (const char *const *)argv,
                                      .env = (const char *const *)env,
                                      .directory = config->directory,
                                      .attributes = attributes,
                                      .channel = channel,
                                      .out = out,
                                      .err = err,
                                      .context = worker};
    int failed = process_spawn(slot->engine->processes, &spec, &worker->process, error);
    int code = failed ? errno : 0;
    environment_free(env);
    adapter_command_free(slot, argv);
    return code;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* 0, or the errno of what failed, with its text in `error`. */
int worker_start(struct worker *worker, char error[ENGINE_REASON])
{
    int pair[2] = {-1, -1}, pipes[2] = {-1, -1};
    struct attributes attributes;
    int failed = users_find(&worker->slot->config->process, &attributes, error);
    if (failed)
        return failed;
    bool watched = !worker->hook && worker->slot->model->config->policy.timeouts.watchdog;
    if (!worker->hook && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        failed = errno;
    if (!failed && watched && !(worker->notify = notify_new(worker)))
        failed = errno ? errno : ENOMEM;
    worker->capture =
        failed ? NULL : said_capture(worker, &pipes[0], &pipes[1]);
    if (!failed && !worker->capture)
        failed = errno ? errno : ENOMEM;
    if (failed)
        snprintf(error, ENGINE_REASON, "cannot make its sockets: %s", strerror(failed));
    else
        failed = worker_process(worker, &attributes, pair[1], pipes[0], pipes[1], error);
    if (!failed && !worker->hook &&
        peer_open(&worker->peer, worker->slot->engine->peers, pair[0], &worker_ops, worker)) {
        process_kill_tree(worker->process);
        pair[0] = -1;
    }
    const int fds[] = {failed ? pair[0] : -1, pair[1], pipes[0], pipes[1]};
    close_all(fds, HASUP_LEN(fds));
    return failed;
}
