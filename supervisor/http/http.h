/*
 * http.h: the HTTP/1.1 front door.  One listener, its connections, nothing of the engine but
 * supervisor/request.h.  Routes, headers, errors and stream formats: docs/http.md.  Loop thread.
 */
#ifndef HASUP_SUPERVISOR_HTTP_HTTP_H
#define HASUP_SUPERVISOR_HTTP_HTTP_H

#include "supervisor/loop.h"
#include "supervisor/request.h"

struct http;

enum { HTTP_ERROR_MAX = 256 };

/* A field that is 0 has the default that stands behind it. */
struct http_options {
    const char *listen;       /* "127.0.0.1:8080", "[::1]:8080", "localhost:0" */
    uint32_t connections;     /* at once; 1024 */
    uint32_t head_max;        /* bytes of a request's head; 16 KiB */
    uint32_t fields_max;      /* header fields of a request; 100, at most HTTP_FIELDS */
    hasup_ns head_timeout;    /* from a head's first byte to its last; 10 s */
    hasup_ns body_timeout;    /* from the head's end to the body's; 60 s */
    hasup_ns idle_timeout;    /* between requests; also how long a client may read nothing; 75 s */
    uint64_t stream_bytes;    /* unsent bytes of a stream before its client is cut off; 4 MiB */
    uint64_t body_bytes;      /* of all bodies that are arriving together; 1 GiB */
    struct buffer_pool *pool; /* for large bodies; outlives the engine's requests.  NULL: the heap */
    int listener;             /* descriptor of one that listens already; 0: there is none */
    const char *name;         /* of the server, for GET /v2; "hasup" */
    const char *version;      /* HASUP_VERSION */
};

/* Listens at once.  NULL: `error` says why. */
struct http *http_new(struct loop *loop, struct engine *engine, const struct http_options *options,
                      char error[HTTP_ERROR_MAX]);
/* The port that it listens on: the one asked for, or the one that the kernel chose for 0. */
uint16_t http_port(const struct http *http);
int http_listener(const struct http *http);
struct carry;
/* What cannot go along to another hasupd now; NULL: all can.  Its connections, after the requests. */
const char *http_holds(struct http *http);
void http_carry(struct carry *carry, struct http *http);
/* Accepts nothing more, closes idle connections, and every other after its answer. */
void http_drain(struct http *http);
uint32_t http_connections(const struct http *http);
/* Cancels what is not answered, sends what the sockets take at once, closes everything. */
void http_free(struct http *http);

#endif
