/*
 * probe.h: one look at whether a program is ready or alive: a command that must succeed, a port
 * that must accept a connection, a GET that must be answered well.  Each runs once, on the loop,
 * and waits for nothing that the loop does not tell.  When and how often is the core's to say.
 */
#ifndef HASUP_SUPERVISOR_PROBE_H
#define HASUP_SUPERVISOR_PROBE_H

#include "supervisor/process.h"

enum probe_kind { PROBE_NONE, PROBE_EXEC, PROBE_TCP, PROBE_HTTP };

/* What config_probe.c reads.  There its texts stand as they are written; who starts a probe has
 * replaced the placeholders (config_probe_fill). */
struct probe_spec {
    enum probe_kind kind;
    char **exec;                     /* argv, NULL-terminated */
    char *address;                   /* of tcp and http, for address_read */
    char *path;                      /* of http: "/healthz?full=1" */
    uint32_t status_min, status_max; /* of http: what is well */
    hasup_ns timeout;                /* of the whole */
};

/* Where a probe runs.  What exec does not need may be NULL for the others. */
struct probe_place {
    struct loop *loop;
    struct processes *processes;
    const struct process *beside; /* the program, whose cgroup exec runs in; or NULL */
    const char *const *env;       /* as process_spec's, and so the next ones */
    const char *directory;
    const struct attributes *attributes;
};

enum { PROBE_WHY = 320 };

/* It is over, and freed after this call.  `why` is "" where it went well, else a sentence for who
 * is on call: "connection refused by 127.0.0.1:8080", "GET /healthz: status 503", "exit code 1:
 * LAST LINE". */
typedef void probe_done(void *context, bool ok, const char *why);

struct probe;

/* Starts one.  All that is pointed to is needed for this call alone, but for loop, processes and
 * `beside`.  `done` comes once, never before this returns, also where it could not be started.
 * NULL: no memory. */
struct probe *probe_start(const struct probe_place *place, const struct probe_spec *spec,
                          probe_done *done, void *context) HASUP_NODISCARD;
/* Ends it, without a word: closes its socket, kills all processes of its command.  Before the
 * program's tree is killed, hasupd is upgraded, or processes_free. */
void probe_cancel(struct probe *probe);

#endif
