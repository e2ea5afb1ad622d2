/* listen.h: a listening TCP socket from the text of listen.http. */
#ifndef HASUP_SUPERVISOR_HTTP_LISTEN_H
#define HASUP_SUPERVISOR_HTTP_LISTEN_H

#include "supervisor/http/http.h"

/* The descriptor and the port, or a negative code and `error`. */
int http_listen(const char *text, uint16_t *port, char error[HTTP_ERROR_MAX]) HASUP_NODISCARD;

/* The port of one that listens already; negative: it does not. */
int http_listens(int fd, uint16_t *port) HASUP_NODISCARD;

#endif
