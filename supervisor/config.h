/*
 * config.h: the configuration, read strictly: an unknown key, a wrong type or an impossible value
 * is an error with file:line:column, the key's path, and the nearest known key.
 * supervisor.yaml.example names every key with its default and unit.
 */
#ifndef HASUP_SUPERVISOR_CONFIG_H
#define HASUP_SUPERVISOR_CONFIG_H

#include "supervisor/attributes.h"
#include "supervisor/core/core.h"
#include "supervisor/core/flow.h"
#include "supervisor/log.h"

#define ADAPTER_PROGRAM "hasup-http" /* runs the command of a model with an adapter */

/* The keys under `process:`: what a slot's processes are to the kernel.  NULL: as hasupd is. */
struct config_process {
    char *user, *group; /* a name or a number */
    char *umask, *nice, *cpus, *oom_score;
    char **rlimits;      /* "nofile=4096" */
    char **capabilities; /* those it may have at most; "none" is none */
    char **read_only_paths; /* absolute; those with a "-" in front may be missing */
    uint64_t private_tmp;   /* bytes; 0: none */
    bool no_new_privs;
    struct attributes *attributes; /* what these say, without user and group; NULL: nothing */
    char **read_only; /* the attributes' */
};

enum { CONFIG_SOCKETS_MAX = 16 };

/* One look at a program (probe.h). */
enum probe_kind { PROBE_NONE, PROBE_EXEC, PROBE_TCP, PROBE_HTTP };

/* Its texts stand here as they are written; who starts a probe has replaced the placeholders
 * (config_probe_fill). */
struct probe_spec {
    enum probe_kind kind;
    char **exec;                     /* argv, NULL-terminated */
    char *address;                   /* of tcp and http, for address_read */
    char *path;                      /* of http: "/healthz?full=1" */
    uint32_t status_min, status_max; /* of http: what is well */
    hasup_ns timeout;                /* of the whole */
};

struct config_probe {
    struct probe_spec spec; /* PROBE_NONE: nothing is asked */
    hasup_ns interval;      /* from the end of one to the start of the next */
    uint32_t failures;      /* so many in a row mean something */
};

/* How a program becomes ready. */
struct config_ready {
    enum { READY_AT_ONCE, READY_NOTIFY, READY_FD, READY_PROBE } how;
    struct config_probe probe;
};

/* What a model's processes inherit, to listen at. */
struct config_socket {
    char *name;       /* [A-Za-z0-9._-]{1,63} */
    char *tcp, *path; /* ADDRESS:PORT, or a Unix socket's path; the other is NULL */
    char *mode_text;
    uint32_t mode, backlog;
};

/* A model; or a program, of which no more counts than what config_program_keys has. */
struct config_model {
    char *name;         /* [A-Za-z0-9][A-Za-z0-9._-]{0,62} */
    char **command;     /* argv, NULL-terminated; argv[0] absolute where it was a path to a file */
    char **environment; /* "KEY=value", NULL-terminated; added to hasupd's own */
    char **environment_files; /* paths of files of such; those with a "-" in front may be missing */
    struct config_socket *sockets; /* the last has no name; NULL: none */
    char **after, **requires; /* names of those that its slots start after; see core.h */
    struct config_ready ready; /* of a program, as the next ones */
    struct config_probe live;
    bool oneshot;
    char *stop_name; /* "TERM" */
    int stop_signal; /* what ends it; of a model: SIGTERM */
    char **pre_start;   /* argv of what must succeed before each start; NULL: nothing */
    char **devices;     /* spread over the slots; NULL: none */
    uint32_t devices_per_worker;
    char *version;      /* what it is called; by default a part of the fingerprint */
    char *directory;    /* working directory, absolute; the configuration file's by default */
    struct config_process process;
    struct model_policy policy;
    hasup_ns request_timeout; /* a request's deadline where it names none; 0: none */
    uint64_t body_max;        /* bytes */
    uint64_t quarantine_keep_body; /* a dead letter keeps a body up to this many bytes; 0: none */
    struct {
        uint32_t keep, keep_hourly, keep_daily; /* of each slot */
        uint64_t state_max; /* bytes: a worker's state above is not taken */
    } checkpoint;
    struct { /* `command` is a server of another protocol, which worker/adapters/ speaks with */
        enum { ADAPTER_NONE, ADAPTER_HTTP } kind;
        uint32_t port; /* of slot 0, the next is slot 1's; 0: any that is free */
        char *socket;  /* or a Unix socket's path; NULL: none */
        uint32_t concurrency;
        struct {
            char *path; /* NULL: it is ready when it accepts connections */
            hasup_ns interval, timeout;
        } ready;
        char **idempotent;  /* "[METHOD ]/path" or with "*" at the end: what may run twice */
        char *invoke;       /* the path that POST /models/M/invoke is sent to */
        uint64_t whole_max; /* an answer of up to so many bytes is passed on when it is whole */
    } adapter;
    uint64_t fingerprint; /* of all that makes a running worker stale when it changes */
    unsigned line, column; /* where it stands, for messages */
};

struct config {
    char *file; /* as given; messages use it */
    char *state_dir, *runtime_dir; /* NULL: off: nothing is kept; no place for sockets */
    char *listen_http; /* "127.0.0.1:8080"; NULL: none; port 0: any */
    char *listen_unix; /* the local door's socket; NULL: none */
    bool insecure;     /* security.insecure: listen beyond loopback without a token */
    struct {
        enum log_level level;
        enum log_format format;
        struct flow_policy flow; /* of each worker */
        uint64_t buffer;         /* bytes that wait for the reader of hasupd's own output */
        uint64_t line_max;       /* bytes of a line; a longer one is split */
        uint64_t memory;         /* lines kept for hasupctl logs, bytes, all slots */
        uint64_t reader;         /* bytes that a follower may leave unread */
        struct {
            char *directory; /* NULL: no files */
            bool each_slot;
            bool hasupd; /* its own log, too */
            enum log_format format; /* text or json */
            struct rotation_policy rotation;
            bool compress;
            uint64_t queue; /* bytes that wait for the thread */
        } files;
    } log;
    struct {
        uint32_t requests;    /* in hasupd at once, all models */
        uint32_t connections; /* clients at once, each door */
        uint32_t slots, models;
        uint32_t loading; /* workers that load at the same time; 0: no limit */
        uint64_t body_bytes;   /* of all requests together */
        uint32_t quarantine;   /* bodies under suspicion or quarantined, and dead letters */
        uint64_t stream_bytes; /* unsent bytes of one client before it is cut off */
    } limits;
    struct {
        char *key_file; /* NULL: nothing is sealed */
        bool encrypt, sealed_only, compress;
        uint64_t cache; /* bytes: of the newest manifests */
    } checkpoints;
    uint64_t journal_body_max; /* journal.body_max: of what is durable, each */
    uint32_t results_max; /* journal.results: stored answers kept at most, all models */
    uint64_t result_bytes; /* journal.result_bytes: of those together */
    uint32_t events_max;  /* journal.events: lifecycle events kept at most; 0: none */
    hasup_ns events_age;  /* journal.events_age; 0: however old they are */
    hasup_ns shutdown_grace;
    struct config_model *models; /* those of `models`, then those of `programs` */
    size_t model_count;
    struct config *next; /* the engine's list of replaced ones */
};

enum { CONFIG_ERROR_MAX = 1024, CONFIG_VERSION_MAX = 64 };

/* What runs in its slots knows nothing of requests. */
bool config_is_program(const struct config_model *model);
/* "models" or "programs": where it stands. */
const char *config_section_of(const struct config_model *model);

/* NULL: there is none. */
const struct config_model *config_model_named(const struct config *config, const char *name);

/* Reads a file.  NULL: `error` is one message of one or more lines, each file:line:column: path:
 * what. */
struct config *config_load(const char *path, char error[CONFIG_ERROR_MAX]);
/* The same from memory; relative paths are taken from `directory`. */
struct config *config_parse(const char *text, size_t len, const char *name, const char *directory,
                            char error[CONFIG_ERROR_MAX]);
/* A part of one: whom it names in `after` and `requires` may stand in another part. */
struct config *config_parse_part(const char *text, size_t len, const char *name,
                                 const char *directory, char error[CONFIG_ERROR_MAX]);
void config_free(struct config *config);
/* Which of state_dir, runtime_dir and listen.unix are off: a bit each. */
uint32_t config_off(const struct config *config);
/* The first of them that is off in one and not in the other; NULL: none. */
const char *config_off_differs(uint32_t one, uint32_t other);
/* What a version is called that has no name. */
void config_version_default(uint64_t fingerprint, char text[CONFIG_VERSION_MAX]);

/* How many letters to change, add, drop or swap to make `a` into `b`. */
unsigned config_distance(const char *a, const char *b);

/* The whole configuration as JSON (hasupctl config): malloc'ed, the caller frees it. */
char *config_json(const struct config *config);
/* The same of one model's keys. */
char *config_model_json(const struct config_model *model);

#endif
