/* daemon.c: hasupd under test: its temporary directory, its configuration, its sockets. */
#include "bench/bench.h"

#include "client/hasup_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CONNECT_TRIES = 5000, ANSWER_MS = 10000 };

static char directory[64];
static pid_t owner; /* a forked child that fails must not remove it */
static const char *build_path, *tools_path;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void bench_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void close_directory(void)
{
    if (getpid() == owner)
        bench_remove(directory);
}

void bench_open(const char *build, const char *tools)
{
    build_path = build;
    tools_path = tools;
    snprintf(directory, sizeof directory, "/tmp/hasup-bench-XXXXXX");
    if (!mkdtemp(directory))
        bench_fail("%s: %s", directory, strerror(errno));
    owner = getpid();
    atexit(close_directory);
}

const char *bench_build(void)
{
    return build_path;
}

const char *bench_tools(void)
{
    return tools_path;
}

const char *bench_directory(void)
{
    return directory;
}

/* ---- sockets ---- */

static struct sockaddr_in tcp_address(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

int bench_free_port(void)
{
    struct sockaddr_in address = tcp_address(0);
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, len) ||
        getsockname(fd, (struct sockaddr *)&address, &len))
        bench_fail("no free port: %s", strerror(errno));
    close(fd);
    return ntohs(address.sin_port);
}

int tcp_connect(int port)
{
    struct sockaddr_in address = tcp_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

int tcp_listen(int port)
{
    struct sockaddr_in address = tcp_address(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) || listen(fd, 128))
        bench_fail("port %d: %s", port, strerror(errno));
    return fd;
}

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

int unix_connect(const char *path)
{
    struct sockaddr_un address = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < CONNECT_TRIES; i++) {
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        bench_pause(HASUP_MS);
    }
    bench_fail("nobody listens on %s", path);
}

int unix_listen(const char *path)
{
    struct sockaddr_un address = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) || listen(fd, 128))
        bench_fail("%s: %s", path, strerror(errno));
    return fd;
}

void socket_send(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    for (size_t done = 0; done < len;) {
        ssize_t sent = send(fd, at + done, len - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR)
            bench_fail("the server is gone: %s", strerror(errno));
        done += sent > 0 ? (size_t)sent : 0;
    }
}

/* ---- hasupd ---- */

static void write_config(const struct daemon *daemon, const char *path, const char *models)
{
    FILE *file = fopen(path, "we");
    if (!file)
        bench_fail("%s: %s", path, strerror(errno));
    fprintf(file, "state_dir: %s/state\nruntime_dir: %s\nlog: {level: warning}\n", directory,
            directory);
    if (daemon->http_port)
        fprintf(file, "listen: {http: \"127.0.0.1:%d\"}\n", daemon->http_port);
    else
        fprintf(file, "listen: {http: off}\n");
    fprintf(file, "models:\n%s", models);
    fclose(file);
}

/* A request that comes before the worker is ready waits for it. */
static void wait_for_model(const struct daemon *daemon, const char *model)
{
    char error[256];
    uint64_t id;
    struct hasup_client_answer answer;
    struct hasup_client *client = hasup_client_open(daemon->socket, error);
    if (!client)
        bench_fail("%s", error);
    if (hasup_client_submit(
            client, &(struct hasup_client_request){.model = model, .body = "x", .len = 1}, &id) ||
        hasup_client_wait(client, ANSWER_MS, &answer) != 1 || answer.status != 200)
        bench_fail("model %s does not answer", model);
    hasup_client_close(client);
}

void daemon_start(struct daemon *daemon, const char *models, const char *model, bool http)
{
    char config[BENCH_PATH], program[BENCH_PATH * 2];
    *daemon = (struct daemon){.http_port = http ? bench_free_port() : 0};
    snprintf(daemon->socket, sizeof daemon->socket, "%s/hasup.sock", directory);
    snprintf(config, sizeof config, "%s/hasup.yaml", directory);
    snprintf(program, sizeof program, "%s/hasupd", build_path);
    write_config(daemon, config, models);
    const char *argv[] = {program, "-c", config, NULL};
    daemon->pid = child_start(argv);
    close(unix_connect(daemon->socket));
    if (model)
        wait_for_model(daemon, model);
}

void daemon_stop(struct daemon *daemon)
{
    child_stop(daemon->pid);
    daemon_forget();
}

void daemon_forget(void)
{
    char path[BENCH_PATH];
    snprintf(path, sizeof path, "%s/state", directory);
    bench_remove(path);
}
