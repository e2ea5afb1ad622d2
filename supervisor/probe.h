/*
 * probe.h: one look at whether a program is ready or alive: a command that must succeed, a port
 * that must accept a connection, a GET that must be answered well.  Each runs once, on the loop,
 * and waits for nothing that the loop does not tell.  When and how often is the core's to say.
 */
#ifndef HASUP_SUPERVISOR_PROBE_H
#define HASUP_SUPERVISOR_PROBE_H

#include "supervisor/config_probe.h"
#include "supervisor/process.h"

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

/* Starts one.  All that is pointed to is needed for this call alone, but for loop and processes.
 * `done` comes once, never before this returns, also where it could not be started.
 * NULL: no memory. */
struct probe *probe_start(const struct probe_place *place, const struct probe_spec *spec,
                          probe_done *done, void *context) HASUP_NODISCARD;
/* Ends it, without a word: closes its socket, kills all processes of its command.  Before the
 * program's tree is killed, hasupd is upgraded, or processes_free. */
void probe_cancel(struct probe *probe);

#endif
