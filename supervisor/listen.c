/*
 * listen.c: listening sockets.  A Unix socket's file that nobody listens at is taken away, and no
 * other file ever is.
 */
#include "supervisor/listen.h"

#include "supervisor/address.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int listen_tcp(const char *text, int backlog, char error[LISTEN_ERROR])
{
    struct address address;
    int on = 1;
    if (!text || address_read_listen(text, &address)) {
        snprintf(error, LISTEN_ERROR,
                 "%.100s is not an address like 127.0.0.1:8080 or [::1]:8080",
                 text ? text : "(nothing)");
        return HASUP_ECONFIG;
    }
    const struct sockaddr *at = &address.places[0].at.any;
    int fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) &&
        !bind(fd, at, address.places[0].len) && !listen(fd, backlog))
        return fd;
    snprintf(error, LISTEN_ERROR, "%.100s: %s", text, strerror(errno));
    if (fd >= 0)
        close(fd);
    return HASUP_ESYS;
}

int listen_port(int fd, uint16_t *port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
    socklen_t len = sizeof at;
    if (getsockname(fd, &at.any, &len))
        return HASUP_ESYS;
    *port = ntohs(at.any.sa_family == AF_INET ? at.v4.sin_port : at.v6.sin6_port);
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
