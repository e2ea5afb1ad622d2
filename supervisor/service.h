/*
 * service.h: what the service manager that started hasupd hears of it (sd_notify(3)): systemd with
 * Type=notify, or any other that set NOTIFY_SOCKET.  Without one all of it does nothing, and
 * without WATCHDOG_USEC no timer runs.  Loop thread.
 */
#ifndef HASUP_SUPERVISOR_SERVICE_H
#define HASUP_SUPERVISOR_SERVICE_H

#include "supervisor/loop.h"

struct service;

/* Reads the environment, which is left as it is: environment.c keeps it from the workers.
 * NULL: out of memory. */
struct service *service_new(struct loop *loop);
/* It serves: after the start, and after each reload. */
void service_ready(struct service *service, const char *status);
void service_reloading(struct service *service);
/* It stops, which may take `grace` (0: as long as it takes) and what workers need to end. */
void service_stopping(struct service *service, hasup_ns grace);
void service_free(struct service *service); /* NULL is fine */

#endif
