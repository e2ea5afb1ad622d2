/*
 * http.c: POST echo with keep-alive, two workers each: hasupd, node's cluster, uwsgi and gunicorn,
 * loaded by wrk one after the other in every round.  A server that is not installed is passed over,
 * and the table says so.
 */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HTTP_ROUNDS = 5, SERVERS_MAX = 4, START_TRIES = 200, ARGS_MAX = 24 };

static const hasup_ns START_PAUSE = 50 * HASUP_MS;

struct server {
    const char *name, *path; /* what wrk asks for */
    int port;
    pid_t pid;
    struct figure rate;
};

static bool server_start(struct server *server, const char *name, const char *const *argv)
{
    server->name = name;
    server->path = "/";
    if (!bench_installed(argv[0], "passed over"))
        return false;
    server->pid = child_start(argv);
    for (int i = 0; i < START_TRIES; i++) {
        int fd = tcp_connect(server->port);
        if (fd >= 0)
            return close(fd) == 0;
        bench_pause(START_PAUSE);
    }
    child_stop(server->pid);
    report_note("%s did not start listening: passed over", name);
    return false;
}

static unsigned peers_start(struct server *servers)
{
    unsigned count = 0;
    char port[16], bind[32];
    struct server *server = &servers[count];
    server->port = bench_free_port();
    snprintf(port, sizeof port, "%d", server->port);
    const char *node[] = {"node", "bench/peers/cluster.js", port, NULL};
    count += server_start(server, "node cluster", node);

    server = &servers[count];
    server->port = bench_free_port();
    snprintf(bind, sizeof bind, "127.0.0.1:%d", server->port);
    const char *uwsgi[] = {"uwsgi",
                           "--plugins",
                           "http,python3",
                           "--http",
                           bind,
                           "--http-keepalive",
                           "--master",
                           "--no-orphans",
                           "--processes",
                           "2",
                           "--die-on-term",
                           "--disable-logging",
                           "--chdir",
                           "bench/peers",
                           "--wsgi-file",
                           "echo_wsgi.py",
                           "--need-app",
                           NULL};
    count += server_start(server, "uwsgi", uwsgi);

    server = &servers[count];
    server->port = bench_free_port();
    snprintf(bind, sizeof bind, "127.0.0.1:%d", server->port);
    const char *gunicorn[] = {"gunicorn",    "--workers", "2",  "--worker-class",
                              "gthread",     "--threads", "32", "--keep-alive",
                              "30",          "--bind",    bind, "--chdir",
                              "bench/peers", "echo_wsgi", NULL};
    count += server_start(server, "gunicorn", gunicorn);
    return count;
}

static void run_connections(struct server *servers, unsigned count, unsigned connections)
{
    char what[64];
    for (unsigned s = 0; s < count; s++)
        servers[s].rate.count = 0;
    for (int i = 0; i < HTTP_ROUNDS; i++)
        for (unsigned s = 0; s < count; s++)
            figure_add(&servers[s].rate, wrk_run(servers[s].name, servers[s].port, servers[s].path,
                                                 "post.lua", connections));
    snprintf(what, sizeof what, "HTTP echo, %u connections", connections);
    for (unsigned s = 1; s < count; s++)
        report_row(&(struct row){.what = what,
                                 .unit = "k/s",
                                 .hasup = &servers[0].rate,
                                 .beside = servers[s].name,
                                 .other = &servers[s].rate,
                                 .aim = AIM_AT_LEAST,
                                 .limit = 1});
}

void part_http(void)
{
    struct server servers[SERVERS_MAX] = {0};
    struct daemon daemon;
    char models[512];
    if (!bench_installed("wrk", "no HTTP figures"))
        return;
    snprintf(models, sizeof models, "  echo:\n    command: [%s/examples/echo]\n    workers: 2\n",
             bench_build());
    daemon_start(&daemon, models, "echo", true);
    servers[0] =
        (struct server){.name = "hasup", .path = "/models/echo/invoke", .port = daemon.http_port};
    unsigned count = 1 + peers_start(servers + 1);
    run_connections(servers, count, 16);
    run_connections(servers, count, 64);
    for (unsigned s = 1; s < count; s++)
        child_stop(servers[s].pid);
    daemon_stop(&daemon);
}
