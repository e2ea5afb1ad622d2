/*
 * bench.h: what the parts of the bench share: rounds and their medians, the table, processes that
 * are started and stopped, and the load client.
 *
 * A part runs hasup and what it is compared with in turn, ROUNDS times, so that whatever else the
 * machine does meets both; what is judged is the median of the rounds' ratios, never a figure of
 * another run.
 */
#ifndef HASUP_BENCH_BENCH_H
#define HASUP_BENCH_BENCH_H

#include "ipc/base.h"
#include "ipc/frame.h"

#include <sys/types.h>

enum { ROUNDS = 7, ROUNDS_MAX = 128, BENCH_PATH = 108 };

/* ---- figure.c ---- */

struct figure {
    double rounds[ROUNDS_MAX];
    unsigned count;
};

void figure_add(struct figure *figure, double value);
double figure_at(const struct figure *figure, double quantile); /* 0: least, 0.5: median, 1: most */
/* Round by round. */
struct figure figure_ratio(const struct figure *a, const struct figure *b);

/* ---- report.c: the one table ---- */

enum aim { AIM_NONE, AIM_AT_LEAST, AIM_AT_MOST };

struct row {
    const char *what, *unit;
    const struct figure *hasup;
    const char *beside; /* what it is compared with; NULL: nothing */
    const struct figure *other;
    enum aim aim;
    double limit;
    bool absolute; /* the aim is hasup's own figure, not the ratio */
};

void report_head(void);
void report_row(const struct row *row);
void report_note(const char *format, ...) HASUP_PRINTF(1, 2);
unsigned report_missed(void); /* rows whose aim was not reached */

/* ---- child.c ---- */

hasup_ns bench_now(void);
void bench_pause(hasup_ns span);
/* Ends the program: a bench that cannot measure says so. */
void bench_fail(const char *format, ...) HASUP_PRINTF(1, 2) __attribute__((noreturn));

/* A process group of its own that dies with the bench.  Its output goes to LOG in the directory. */
pid_t child_start(const char *const *argv);
/* The same with a function for a program; it gets `context` and never returns. */
pid_t child_fork(void (*run)(void *context), void *context);
void child_stop(pid_t pid); /* TERM, then KILL to the whole group */
void child_kill(pid_t pid); /* KILL at once */

/* ---- daemon.c ---- */

struct daemon {
    pid_t pid;
    char socket[BENCH_PATH];
    int http_port; /* 0: off */
};

/* Makes the temporary directory, which goes when the program ends. */
void bench_open(const char *build, const char *tools);
void bench_remove(const char *path); /* a directory and what is in it */
const char *bench_build(void);       /* where hasupd and the examples are */
const char *bench_tools(void);       /* where the bench's own workers are */
const char *bench_directory(void);   /* short, and gone at the end */
int bench_free_port(void);
/* hasupd with this `models:` text; returns once `model` answers (NULL: once it listens). */
void daemon_start(struct daemon *daemon, const char *models, const char *model, bool http);
void daemon_stop(struct daemon *daemon); /* and forgets its state */
void daemon_forget(void);                /* removes the state directory of a daemon that is gone */
/* Waits until somebody accepts on the Unix socket. */
int unix_connect(const char *path);
int unix_listen(const char *path);
int tcp_connect(int port); /* on this machine; -1: nobody listens */
int tcp_listen(int port);
void socket_send(int fd, const void *bytes, size_t len); /* all of it */

/* ---- memory.c ---- */

double bench_pss_kib(pid_t pid); /* 0: it is gone */
long bench_wakes(pid_t pid);     /* how often all its threads have waited and gone on */

/* ---- notes.c ---- */

struct note {
    int64_t pid, at_ns;
};

/* A named pipe that workers write their note into. */
struct notes {
    char path[BENCH_PATH];
    int fd;
};

void notes_open(struct notes *notes, const char *name);
struct note notes_read(const struct notes *notes);

/* ---- load.c ---- */

/* A closed loop: `depth` messages are always under way on each connection. */
struct load {
    const char *path;
    unsigned connections, depth;
    hasup_ns span;
    const uint8_t *message;
    size_t message_len, id_at; /* a 64-bit number stands there */
    size_t key_at;             /* the same number stands there, too; 0: nowhere */
    size_t reply_len;
    bool (*good)(const uint8_t *reply); /* NULL: every reply is */
    struct latency *latency;            /* depth 1: how long each took; NULL: nobody asks */
};

double load_run(const struct load *load); /* answered messages a second */

/* A REQUEST frame for `model` with `body_len` bytes of body; its length.  `number_at`: it gets a field
 * `number` (an idempotency key, a session), whose value load.key_at finds there; NULL: none. */
size_t load_frame(uint8_t *message, const char *model, size_t body_len, enum hasup_tag number,
                  size_t *number_at);
bool load_frame_good(const uint8_t *reply);
/* Of the answer to one message, which is sent for it. */
size_t load_reply_len(const struct load *load);

/* ---- latency.c ---- */

struct latency {
    uint32_t *ns; /* NULL until something is added */
    size_t count;
};

void latency_start(struct latency *latency); /* forgets what there was */
void latency_add(struct latency *latency, hasup_ns took);
double latency_at_us(struct latency *latency, double quantile);
void latency_free(struct latency *latency);

/* ---- wrk.c ---- */

/* False: the package is missing, which is said with what comes of it. */
bool bench_installed(const char *program, const char *without);
/* Thousands of requests a second that `name` answers; anything but success ends the bench. */
double wrk_run(const char *name, int port, const char *path, const char *script,
               unsigned connections);

/* ---- queues.c: servers of durable jobs, and the whole life of a job on them ---- */

struct queue_server {
    const char *name;
    pid_t pid;
    char path[BENCH_PATH]; /* Unix socket; "": a port */
    int port;
    const struct queue_script *script;
};

/* False: the package is missing, which is said. */
bool queue_start_beanstalkd(struct queue_server *server);
bool queue_start_redis(struct queue_server *server);
void queue_stop(struct queue_server *server);
/* Jobs a second from put to deleted, one at a time on each connection. */
double queue_run(const struct queue_server *server, unsigned connections, hasup_ns span,
                 struct latency *latency);

/* ---- floors: never return ---- */

struct floor {
    char path[BENCH_PATH]; /* Unix socket; its journal is beside it */
    unsigned commits;      /* floor_minimal: 0: no journal; 1: of the request; 2: and the answer */
    int http_port;         /* floor_minimal: HTTP there instead; 0: frames */
};
void floor_relay(void *context);   /* messages through: client, relay, echo, and back */
void floor_minimal(void *context); /* a table of requests, one echo worker */
void floor_echo(int fd);           /* the worker of both */

/* Their message: u32 length of the body, u32 zero, u64 number, body. */
enum { FLOOR_HEADER = 16 };
/* Hands out the whole messages in `in`; the bytes that they are. */
size_t floor_frames(const uint8_t *in, size_t len, void (*take)(void *, const uint8_t *, size_t),
                    void *context);

/* ---- the parts ---- */

void part_core(void);
void part_init(void);
void part_orphans(void);
void part_restart(void);
void part_spares(void);
void part_memory(void);
void part_slots(void);
void part_upgrade(void);
void part_relay(void);
void part_requests(void);
void part_http(void);
void part_bodies(void);
void part_checkpoint(void);
void part_state(void);
void part_durable(void);
void part_recovery(void);
void part_serving(void);

#endif
