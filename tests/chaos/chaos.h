/*
 * chaos.h: the main job under fire: hasupd with real models, clients that ask over HTTP, and a hand
 * that kills workers.  Every request has a known right answer, learnt first without kills.
 *
 *   main.c     phases, progress, the table
 *   client.c   HTTP/1.1 clients on one thread
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
    char *request; /* the HTTP request's bytes */
    size_t request_len;
    int label;    /* of KIND_DIGITS and KIND_PYTHON: the digit in the picture */
    char *answer; /* learnt in the calm phase; NULL before */
    size_t answer_len;
    bool right; /* the answer names the label */
};

struct tally {
    uint64_t sent, answered, lost, refused, duplicated, wrong, retried;
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

/* ---- client.c ---- */

struct clients;

struct clients *clients_new(int port, struct asks *asks, uint64_t seed);
void clients_free(struct clients *clients);
void clients_begin(struct clients *clients, struct tally *tally);
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
/* TERM, and its exit code. */
int daemon_stop(struct daemon *daemon);

#endif
