/*
 * adapter.h: hasup-http, which is a worker to hasupd and a client to the HTTP server that it
 * starts.  main.c owns the life and the frames, server.c the server's process and place, relay.c
 * requests on their way, head.c heads in both directions.
 */
#ifndef HASUP_ADAPTERS_ADAPTER_H
#define HASUP_ADAPTERS_ADAPTER_H

#include "worker/runtime.h"

#include <curl/curl.h>

enum {
    ADAPTER_REASON = 512,
    UNSENT_MOST = 1024 * 1024,  /* with so much unsent to hasupd, servers are not read from, */
    UNSENT_LEAST = 256 * 1024,  /* until it is no more than this */
    CHUNK_MOST = 256 * 1024,    /* a chunk is sent at this size, or at the turn's end */
    HEAD_MOST = 64 * 1024,      /* of an answer's head, as fields */
    PATH_MOST = 16 * 1024,
    SOCKET_PATH_MOST = 107,
};

struct options {
    uint32_t concurrency, port, interval_ms, timeout_ms;
    uint64_t whole_max;
    const char *ready;  /* path; NULL: it is ready when it accepts connections */
    const char *socket; /* path of a Unix socket; may hold {slot} */
    const char *socket_default; /* where `command` asks for {socket} and none is named */
    char **command; /* NULL-terminated */
};

/* ---- server.c ---- */

struct server {
    pid_t pid; /* 0: not started, or gone */
    int pidfd, lock;
    uint32_t port;                     /* 0: it listens at `path` */
    char path[SOCKET_PATH_MOST + 1];
};

/* Chooses a place for it and starts it; a negative code: `error` says why not. */
int server_start(struct server *server, const struct options *options,
                 char error[ADAPTER_REASON]) HASUP_NODISCARD;
/* Whether it has ended; its status then. */
bool server_ended(struct server *server, int *status);
/* Whether its process is on its way out: what it did not send is lost, not left out. */
bool server_is_ending(const struct server *server);
void server_terminate(const struct server *server);
/* Before the end: nothing of its place is left. */
void server_forget(struct server *server);

/* ---- head.c ---- */

/* Where a request goes, from what its fields say. */
struct request_head {
    char method[16];
    char path[PATH_MOST];
    struct curl_slist *fields;
};
/* What of a REQUEST's meta makes the head of an HTTP request.  Not 0: `error` says why it is none. */
int head_of_request(const struct hasup_frame *frame, struct request_head *head,
                    char error[ADAPTER_REASON]) HASUP_NODISCARD;

struct answer_head {
    unsigned status;
    uint64_t length; /* Content-Length; UINT64_MAX: none */
    bool chunked, json;
    bool ended; /* its blank line came; what comes behind the body is passed over */
    struct hasup_bytes *meta; /* CONTENT_TYPE and HEADER fields */
};
/* One line of an answer's head; false: the head is too long. */
bool head_line(struct answer_head *head, const char *line, size_t len, bool keeps_length);

/* ---- relay.c ---- */

struct exchange;

struct relay {
    struct hasup_runtime *runtime;
    const struct options *options;
    const struct server *server;
    CURLM *multi;
    struct exchange *list;
    bool paused; /* hasupd has too much unread */
    char crash[ADAPTER_REASON]; /* why the server has failed; "": it has not */
};

int relay_open(struct relay *relay) HASUP_NODISCARD;
/* Takes a REQUEST. */
int relay_begin(struct relay *relay, const struct hasup_frame *frame) HASUP_NODISCARD;
int relay_cancel(struct relay *relay, uint64_t id) HASUP_NODISCARD;
/* Moves what can be moved, and sends what came. */
int relay_turn(struct relay *relay) HASUP_NODISCARD;
/* Whether it was paused, and hasupd has read enough since. */
bool relay_may_go_on(const struct relay *relay);
/* A handle that speaks to the server and to nobody else; NULL: no memory. */
CURL *relay_handle(const struct server *server);
void relay_close(struct relay *relay);

#endif
