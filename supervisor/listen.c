/*
 * listen.c: listening sockets.  "HOST:PORT" has a numeric address ([...] around IPv6), "localhost",
 * or "*": no resolver, because what is listened on must not depend on a name server.  A Unix
 * socket's file that nobody listens at is taken away, and no other file ever is.
 */
#include "supervisor/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int parse_port(const char *text, uint16_t *port)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || value > UINT16_MAX)
        return HASUP_EINVAL;
    *port = (uint16_t)value;
    return 0;
}

static int parse_host(const char *text, size_t len, union address *address)
{
    char host[64];
    if (len >= sizeof host)
        return HASUP_EINVAL;
    memcpy(host, text, len);
    host[len] = '\0';
    memset(address, 0, sizeof *address);
    address->v4.sin_family = AF_INET;
    if (!strcmp(host, "localhost") || !strcmp(host, "*")) {
        address->v4.sin_addr.s_addr = htonl(host[0] == '*' ? INADDR_ANY : INADDR_LOOPBACK);
        return 0;
    }
    if (inet_pton(AF_INET, host, &address->v4.sin_addr) == 1)
        return 0;
    memset(address, 0, sizeof *address);
    address->v6.sin6_family = AF_INET6;
    if (len < 2 || host[0] != '[' || host[len - 1] != ']')
        return HASUP_EINVAL;
    host[len - 1] = '\0';
    return inet_pton(AF_INET6, host + 1, &address->v6.sin6_addr) == 1 ? 0 : HASUP_EINVAL;
}

static int parse_tcp(const char *text, union address *address)
{
    const char *colon = strrchr(text, ':');
    uint16_t port;
    if (!colon || parse_port(colon + 1, &port) || parse_host(text, (size_t)(colon - text), address))
        return HASUP_EINVAL;
    if (address->any.sa_family == AF_INET)
        address->v4.sin_port = htons(port);
    else
        address->v6.sin6_port = htons(port);
    return 0;
}

int listen_tcp(const char *text, int backlog, char error[LISTEN_ERROR])
{
    union address address;
    int on = 1;
    if (!text || parse_tcp(text, &address)) {
        snprintf(error, LISTEN_ERROR,
                 "%.100s is not an address like 127.0.0.1:8080 or [::1]:8080",
                 text ? text : "(nothing)");
        return HASUP_ECONFIG;
    }
    bool v4 = address.any.sa_family == AF_INET;
    socklen_t len = v4 ? sizeof address.v4 : sizeof address.v6;
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) &&
        !bind(fd, &address.any, len) && !listen(fd, backlog))
        return fd;
    snprintf(error, LISTEN_ERROR, "%.100s: %s", text, strerror(errno));
    if (fd >= 0)
        close(fd);
    return HASUP_ESYS;
}

int listen_port(int fd, uint16_t *port)
{
    union address address;
    socklen_t len = sizeof address;
    if (getsockname(fd, &address.any, &len))
        return HASUP_ESYS;
    *port = ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
    return 0;
}

/* 0: nobody has the address; EADDRINUSE: somebody does, though his backlog may be full, or his
 * socket of another kind; else why nobody can tell. */
static int who_has(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int why = connect(fd, (const struct sockaddr *)address, sizeof *address) ? errno : EADDRINUSE;
    close(fd);
    if (why == ECONNREFUSED || why == ENOENT)
        return 0;
    return why == EAGAIN || why == EPROTOTYPE ? EADDRINUSE : why;
}

int listen_unix(const char *path, mode_t mode, int backlog, char error[LISTEN_ERROR])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat there;
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(error, LISTEN_ERROR, "%.120s is longer than the %zu bytes of a socket", path,
                 sizeof address.sun_path - 1);
        return HASUP_ECONFIG;
    }
    memcpy(address.sun_path, path, strlen(path));
    if (lstat(path, &there) == 0 && !S_ISSOCK(there.st_mode)) {
        snprintf(error, LISTEN_ERROR, "%.120s is there and is no socket", path);
        return HASUP_ECONFIG;
    }
    int has = who_has(&address);
    if (has == EADDRINUSE) {
        snprintf(error, LISTEN_ERROR, "another process listens on %.120s", path);
        return HASUP_ECONFIG;
    }
    if (has) {
        snprintf(error, LISTEN_ERROR, "%.120s: %s", path, strerror(has));
        return HASUP_ESYS;
    }
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Before bind, so that nobody gets in meanwhile; the umask may have taken some of it away. */
    if (fd >= 0 && !fchmod(fd, mode) &&
        !bind(fd, (const struct sockaddr *)&address, sizeof address) && !chmod(path, mode) &&
        !listen(fd, backlog))
        return fd;
    snprintf(error, LISTEN_ERROR, "%.120s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return HASUP_ESYS;
}
