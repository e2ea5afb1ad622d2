/*
 * listen.h: listening sockets made: what stands in the way told apart, a stale file of a Unix
 * socket taken away.
 */
#ifndef HASUP_SUPERVISOR_LISTEN_H
#define HASUP_SUPERVISOR_LISTEN_H

#include "ipc/base.h"

#include <sys/types.h>

enum { LISTEN_ERROR = 200 };

/* Close-on-exec.  The descriptor, or a negative code and `error`, which begins with the address. */
int listen_unix(const char *path, mode_t mode, int backlog,
                char error[LISTEN_ERROR]) HASUP_NODISCARD;
/* As address_read_listen() takes it. */
int listen_tcp(const char *text, int backlog, char error[LISTEN_ERROR]) HASUP_NODISCARD;
/* The port of one that listens; negative: it does not. */
int listen_port(int fd, uint16_t *port) HASUP_NODISCARD;

#endif
