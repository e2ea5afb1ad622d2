/*
 * hasup_client.h: requests and control over hasupd's Unix socket, for C programs on the same
 * machine.
 *
 * A client is one connection.  Requests may overlap: submit several, then wait for answers in
 * whatever order they come.  Not thread-safe: one thread uses a client.  All waits take a limit in
 * milliseconds; -1 waits without one.
 */
#ifndef HASUP_CLIENT_H
#define HASUP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

struct hasup_client;

struct hasup_client_request {
    const char *model;
    const char *route;        /* "infer", "invoke" (NULL), … */
    const char *content_type; /* NULL: none */
    const char *request_id;   /* NULL: none */
    const void *body;
    size_t len;
    int64_t timeout_ms; /* 0: the model's default */
    unsigned priority;  /* 1…9; 0: the default */
    const char *key;    /* idempotency key: one key of a model has one answer; NULL: none */
    int async;          /* answered by 202 and a record once it is durable; ask for it later */
    int no_wait;        /* 409 where the request of its key still runs, instead of waiting for it */
};

/* What came for a request: a part of a stream (`last` 0), or its end. */
struct hasup_client_answer {
    uint64_t id; /* of hasup_client_submit */
    int last;
    unsigned status;   /* of the end: 200…599 */
    unsigned attempts; /* workers that it took; 1 where none died */
    unsigned retry_after_ms;
    const uint8_t *body; /* valid until the next call */
    size_t len;
    char content_type[128];
    char record[33]; /* of status 202: what hasup_client_ask takes; else "" */
    char code[32];   /* of a refusal: "overloaded"; "" : the worker's own answer */
    char error[512]; /* for a person; "" : none */
};

/* NULL: `error` says why (with the path and what to do). */
struct hasup_client *hasup_client_open(const char *path, char error[256]);
void hasup_client_close(struct hasup_client *client);
/* The socket's descriptor, to wait for several clients at once: readable when an answer may be
 * there. */
int hasup_client_fd(const struct hasup_client *client);

/* Queues a request and gives its id.  It leaves with the next hasup_client_flush or wait.
 * 0 or a negative HASUP_E* code. */
int hasup_client_submit(struct hasup_client *client, const struct hasup_client_request *request,
                        uint64_t *id);
/* Queues a question for the answer of a durable request, by the record that its 202 brought (or
 * hasupctl requests lists): it comes as if the request were one's own.  `wait_ms`: while it has no
 * answer, wait so long for it (then 504; -1: for ever); 0: 202 at once. */
int hasup_client_ask(struct hasup_client *client, const char *record, int64_t wait_ms,
                     uint64_t *id);
/* Queues a control command: a JSON object with a "verb" (docs/hasupctl.md). */
int hasup_client_control(struct hasup_client *client, const char *json, uint64_t *id);
/* Nobody waits for this one any more.  An answer that was on its way may still come. */
int hasup_client_cancel(struct hasup_client *client, uint64_t id);
int hasup_client_flush(struct hasup_client *client);

/* 1 and the next answer; 0: the limit passed; HASUP_ECLOSED: hasupd is gone; or another code. */
int hasup_client_wait(struct hasup_client *client, int64_t timeout_ms,
                      struct hasup_client_answer *answer);

/* The socket that is used without -s: $HASUP_SOCKET, else the default runtime directory's. */
const char *hasup_client_default_path(char path[108]);

#endif
