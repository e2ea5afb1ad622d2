/*
 * chaos.h: the main job under fire: hasupd with real models, clients that ask over HTTP, and a hand
 * that kills workers, and hasupd itself.  Every request has a key, with which its client comes back
 * when its connection is lost, and a known right answer, learnt first without kills.
 *
 *   main.c     phases, progress, the table
 *   client.c   HTTP/1.1 clients on one thread
 *   sse.c      server-sent events, put together again
 *   asks.c     what is asked, and whether the answers are right
 *   daemon.c   hasupd as a child, its configuration, its status, its victims
 */
#ifndef HASUP_TESTS_CHAOS_H
#define HASUP_TESTS_CHAOS_H

#include "ipc/base.h"

#include <sys/types.h>

enum { CLIENTS = 16, ASKS_MAX = 1024, LATENCIES_MAX = 1 << 20 };

enum kind { KIND_DIGITS, KIND_PYTHON, KIND_TEXT, KIND_COUNTER, KINDS };

/* One thing to ask, with its right answer once that is known. */
struct ask {
    enum kind kind;
    const char *path;
    char *body;
    size_t len;
    int label;    /* of KIND_DIGITS and KIND_PYTHON: the digit in the picture */
    char *answer; /* learnt in the calm phase; NULL before */
    size_t answer_len;
    bool right; /* the answer names the label */
};

struct tally {
    uint64_t sent, answered, lost, refused, duplicated, wrong;
    uint64_t came_back, went_on; /* with the same key; with Last-Event-ID, too */
    uint64_t per_kind[KINDS];
    hasup_ns *latencies;
    size_t latency_count;
};

/* ---- asks.c ---- */

struct asks {
    struct ask list[ASKS_MAX];
    size_t count, of_kind[KINDS], first[KINDS];
    uint8_t *counted; /* how often each total was answered by the counter */
    uint64_t counted_max;
};

int asks_load(struct asks *asks, bool with_python);
void asks_free(struct asks *asks);
/* Judges an answer; learns it in the calm phase. */
void asks_judge(struct asks *asks, struct ask *ask, const char *body, size_t len,
                struct tally *tally);
/* Totals that were left out or came twice, after `answered` answers of the counter. */
uint64_t asks_count_errors(const struct asks *asks, uint64_t answered);
double asks_accuracy(const struct asks *asks, enum kind kind);

/* ---- sse.c ---- */

enum { SSE_LINE = 1024 };

/* One stream, across the connections that it takes. */
struct sse {
    char line[SSE_LINE], data[SSE_LINE]; /* of the event that is being read */
    size_t line_len, data_len;
    char event[16];
    char id[40], last_id[40]; /* last: of the last whole event */
    unsigned number, last;
    bool any_data, ended, failed;
};

/* A new stream, or a new connection of one: what was half read is read again. */
void sse_open(struct sse *sse, bool again);
/* Reads bytes and appends the data of whole events to `body`; false: they are no such stream, there
 * is no room, or an event comes that was there already. */
bool sse_read(struct sse *sse, const char *at, size_t len, char *body, size_t *body_len,
              size_t room);

/* ---- client.c ---- */

struct clients;

struct clients *clients_new(int port, struct asks *asks, uint64_t seed);
void clients_free(struct clients *clients);
/* `patient`: who loses the connection comes back. */
void clients_begin(struct clients *clients, struct tally *tally, bool patient);
/* hasupd listens there now. */
void clients_moved(struct clients *clients, int port);
/* Serves the sockets for up to `ms`; new requests only while `asking`.  How many are unanswered. */
unsigned clients_turn(struct clients *clients, int ms, bool asking);

/* ---- daemon.c ---- */

struct daemon;

struct victim {
    char slot[96];
    pid_t pid;
};

struct daemon *daemon_start(const char *build, bool with_python, bool verbose);
int daemon_port(const struct daemon *daemon);
/* A ready worker chosen by chance; false: there is none now. */
bool daemon_victim(struct daemon *daemon, uint64_t chance, struct victim *victim);
uint64_t daemon_restarts(struct daemon *daemon);
/* SIGKILL to hasupd, and its next start, until it listens; false: it does not. */
bool daemon_kill(struct daemon *daemon);
/* TERM, and its exit code. */
int daemon_stop(struct daemon *daemon);

#endif
