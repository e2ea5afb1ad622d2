/*
 * server.c: the server's process: where it listens, how it is started, whether it lives.  It stands
 * in this program's process group, bears hasupd's token in its environment, and dies with this
 * program; so hasupd's kill of the tree finds it with cgroups and without.
 */
#include "worker/adapters/adapter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Below the numbers that the kernel gives to outgoing connections. */
enum { PORT_FIRST = 16384, PORTS = 16384, PORT_TRIES = 256 };

enum { PF_EXITING_BIT = 0x4 }; /* of the flags in /proc/PID/stat */

/* ---- the place ---- */

/* One name for each port, which ends with its owner: no two adapters choose the same one. */
static int port_lock(uint32_t port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "hasup-http-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&name, size) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Whether nobody listens there. */
static bool port_is_free(uint32_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool free_port = fd >= 0 &&
                     setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
                     bind(fd, (const struct sockaddr *)&at, sizeof at) == 0;
    if (fd >= 0)
        close(fd);
    return free_port;
}

static bool port_take(struct server *server, uint32_t port)
{
    server->lock = port_lock(port);
    if (server->lock < 0)
        return false;
    server->port = port;
    if (port_is_free(port))
        return true;
    close(server->lock);
    server->lock = -1;
    return false;
}

static int choose_port(struct server *server, uint32_t wanted, char error[ADAPTER_REASON])
{
    uint32_t start = 0;
    if (wanted && port_take(server, wanted))
        return 0;
    if (wanted) {
        snprintf(error, ADAPTER_REASON,
                 "port %u is in use by another process; choose another adapter.port, or 0", wanted);
        return HASUP_ESYS;
    }
    if (getrandom(&start, sizeof start, 0) != sizeof start)
        return HASUP_ESYS;
    for (uint32_t i = 0; i < PORT_TRIES; i++)
        if (port_take(server, PORT_FIRST + (start + i) % PORTS))
            return 0;
    snprintf(error, ADAPTER_REASON, "no port from %d to %d is free", PORT_FIRST,
             PORT_FIRST + PORTS - 1);
    return HASUP_ESYS;
}

enum { OF_COMMAND = 2, OF_SOCKET = 4 }; /* how many of the placeholders hold there */

/* What stands for {NAME} at `at`; its length, or 0.  In a command hasupd has replaced its own. */
static size_t placeholder(const struct server *server, const char *at, size_t count,
                          char value[128])
{
    static const char *const NAMES[OF_SOCKET] = {"{port}", "{socket}", "{slot}", "{model}"};
    const char *values[] = {NULL, server->path, getenv("HASUP_SLOT"), getenv("HASUP_MODEL")};
    for (size_t i = 0; i < count; i++) {
        if (strncmp(at, NAMES[i], strlen(NAMES[i])) != 0)
            continue;
        snprintf(value, 128, "%u", server->port);
        if (i)
            snprintf(value, 128, "%s", values[i] ? values[i] : "");
        return strlen(NAMES[i]);
    }
    return 0;
}

/* The text with its placeholders replaced, malloc'ed; NULL: no memory. */
static char *filled(const struct server *server, const char *text, size_t count)
{
    struct hasup_bytes out = {0};
    char value[128];
    while (*text) {
        size_t skip = placeholder(server, text, count, value);
        size_t len = skip ? strlen(value) : 1;
        uint8_t *room = hasup_bytes_room(&out, len);
        if (!room) {
            free(out.at);
            return NULL;
        }
        memcpy(room, skip ? value : text, len);
        text += skip ? skip : 1;
    }
    uint8_t *end = hasup_bytes_room(&out, 1);
    if (end)
        *end = '\0';
    return (char *)out.at;
}

static int choose_socket(struct server *server, const char *wanted, char error[ADAPTER_REASON])
{
    struct stat st;
    char *path = filled(server, wanted, OF_SOCKET);
    if (!path)
        return HASUP_ENOMEM;
    bool fits = strlen(path) <= SOCKET_PATH_MOST;
    if (fits)
        memcpy(server->path, path, strlen(path) + 1);
    else
        snprintf(error, ADAPTER_REASON, "%.300s: longer than the %d bytes of a socket's path", path,
                 SOCKET_PATH_MOST);
    free(path);
    if (!fits)
        return HASUP_EINVAL;
    bool there = lstat(server->path, &st) == 0;
    if (there && !S_ISSOCK(st.st_mode)) {
        snprintf(error, ADAPTER_REASON, "%s: is there, and is no socket", server->path);
        return HASUP_EINVAL;
    }
    if (there)
        unlink(server->path); /* a server that was killed leaves it behind */
    return 0;
}

static bool asks_for_socket(char **command)
{
    for (; *command; command++)
        if (strstr(*command, "{socket}"))
            return true;
    return false;
}

static int choose_place(struct server *server, const struct options *options,
                        char error[ADAPTER_REASON])
{
    const char *socket = options->socket;
    if (!socket && !options->port && asks_for_socket(options->command))
        socket = options->socket_default;
    if (socket)
        return choose_socket(server, socket, error);
    const char *slot = getenv("HASUP_SLOT");
    uint32_t ordinal = slot ? (uint32_t)strtoul(slot, NULL, 10) : 0;
    return choose_port(server, options->port ? options->port + ordinal : 0, error);
}

/* ---- the process ---- */

/* What many servers look at, besides what their command says. */
static void set_environment(const struct server *server)
{
    char port[16];
    unsetenv("HASUP_FD");
    snprintf(port, sizeof port, "%u", server->port);
    if (server->port)
        setenv("PORT", port, 1);
    if (server->port)
        setenv("HASUP_HTTP_PORT", port, 1);
    else
        setenv("HASUP_HTTP_SOCKET", server->path, 1);
}

_Noreturn static void child_run(const struct server *server, char **argv, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    set_environment(server);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "hasup-http: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static void free_words(char **words, size_t count)
{
    for (size_t i = 0; words && i < count; i++)
        free(words[i]);
    free(words);
}

static int spawn(struct server *server, char **command, char error[ADAPTER_REASON])
{
    size_t count = 0;
    pid_t parent = getpid();
    while (command[count])
        count++;
    char **argv = calloc(count + 1, sizeof *argv);
    for (size_t i = 0; argv && i < count; i++)
        if (!(argv[i] = filled(server, command[i], OF_COMMAND))) {
            free_words(argv, i);
            return HASUP_ENOMEM;
        }
    if (!argv)
        return HASUP_ENOMEM;
    server->pid = fork();
    if (server->pid == 0)
        child_run(server, argv, parent);
    free_words(argv, count);
    if (server->pid > 0)
        server->pidfd = (int)syscall(SYS_pidfd_open, server->pid, 0);
    if (server->pid > 0 && server->pidfd >= 0)
        return 0;
    snprintf(error, ADAPTER_REASON, "cannot start the server: %s", strerror(errno));
    return HASUP_ESYS;
}

int server_start(struct server *server, const struct options *options, char error[ADAPTER_REASON])
{
    *server = (struct server){.pidfd = -1, .lock = -1};
    snprintf(error, ADAPTER_REASON, "out of memory");
    int failed = choose_place(server, options, error);
    return failed ? failed : spawn(server, options->command, error);
}

bool server_ended(struct server *server, int *status)
{
    if (!server->pid || waitpid(server->pid, status, WNOHANG) != server->pid)
        return false;
    server->pid = 0;
    return true;
}

bool server_is_ending(const struct server *server)
{
    char path[64], text[512] = "", state = 'Z';
    unsigned flags = PF_EXITING_BIT;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)server->pid);
    FILE *file = server->pid ? fopen(path, "re") : NULL;
    size_t len = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    const char *after = len ? strrchr(text, ')') : NULL; /* a name may hold anything */
    if (after)
        sscanf(after, ") %c %*d %*d %*d %*d %*d %u", &state, &flags);
    return state == 'Z' || state == 'X' || (flags & PF_EXITING_BIT);
}

void server_terminate(const struct server *server)
{
    if (server->pid)
        kill(server->pid, SIGTERM);
}

void server_forget(struct server *server)
{
    if (server->path[0])
        unlink(server->path);
    if (server->lock >= 0)
        close(server->lock);
    if (server->pidfd >= 0)
        close(server->pidfd);
}
