/*
 * connection.h: one client's connection, shared by the files of supervisor/http/ alone.
 *
 * An idle connection owns no buffer.  A head that comes in one read is parsed where the loop's
 * scratch memory holds it; only what is unfinished is copied into `in`.  Answers gather in `out` and
 * leave in one write at the end of the turn.
 *
 * One request at a time: the next is parsed when the one before it is answered and sent.
 */
#ifndef HASUP_SUPERVISOR_HTTP_CONNECTION_H
#define HASUP_SUPERVISOR_HTTP_CONNECTION_H

#include "supervisor/http/http.h"

#include <jansson.h>
#include <llhttp/llhttp.h>

enum {
    HTTP_FIELDS = 128,             /* room for header fields in a struct head */
    HTTP_ID_MAX = 128,             /* longest X-Request-Id */
    HTTP_SESSION_ROOM = HTTP_ID_MAX + HASUP_FIELD_HEADER, /* behind the meta: the body may name one */
    HTTP_KEY_MAX = 255,            /* longest Idempotency-Key */
    HTTP_READ = 64 * 1024,         /* bytes of one read; also the most of `in` */
    HTTP_DISCARD_MAX = 64 * 1024,  /* a longer body of a refused request ends the connection */
    HTTP_BLOCK = 4 * 1024,         /* of `out`; free ones are kept for the next answer */
    HTTP_BLOCKS_FREE = 64,
    HTTP_DIRECT = 16 * 1024,       /* with this much unsent, do not wait for the turn's end */
};

/* Where a connection stands. */
enum connection_state {
    CONNECTION_HEAD,    /* waits for a request or reads its head */
    CONNECTION_BODY,    /* reads its body */
    CONNECTION_PENDING, /* the engine has it */
    CONNECTION_CLOSING, /* answered for the last time; what is unsent is sent */
    CONNECTION_LINGER,  /* all is sent; what the client still sends is thrown away */
    CONNECTION_DEAD,    /* closed; freed at the turn's end */
};

/* What a connection waits for, in order of arrival: each list has one length of time, so its first
 * is due first. */
enum deadline {
    DEADLINE_NONE, /* the engine watches the time */
    DEADLINE_IDLE,
    DEADLINE_HEAD,
    DEADLINE_BODY,
    DEADLINE_STALL, /* output that the client does not read */
    DEADLINE_LINGER,
    DEADLINES
};

/* A part of the head, from its first byte. */
struct span {
    uint32_t at, len;
};

struct head_field {
    struct span name, value;
    bool named; /* the name is whole */
};

struct head {
    struct span target;
    uint32_t count;
    struct head_field fields[HTTP_FIELDS];
};

/* Whose shape errors have: by the path's first segment. */
enum shape { SHAPE_OWN, SHAPE_V1, SHAPE_V2 };

enum route_method {
    METHOD_GET = 1,
    METHOD_POST = 2,
    METHOD_DELETE = 4,
    METHOD_OTHER = 8,
    METHOD_ANY = METHOD_GET | METHOD_POST | METHOD_DELETE | METHOD_OTHER /* of a proxied route */
};

struct connection;

struct route {
    /* Of the path; "*": the model, "?": the version, "#": a request, "+": whatever follows. */
    const char *segments[6];
    uint8_t methods;
    const char *worker; /* ROUTE of the request for the worker; NULL: answered here */
    void (*answer)(struct connection *c);
};

/* An answer of the door's own, found before the request was whole. */
struct verdict {
    uint16_t status; /* 0: none */
    const char *code, *message;
};

struct connection {
    struct http *http;
    struct connection *next, **back; /* of its deadline's list */
    struct connection *next_dirty, *next_dead;
    hasup_ns due;
    struct watch watch;
    llhttp_t parser;
    uint8_t state, deadline; /* enum connection_state, enum deadline */
    bool begun;              /* the first byte of a head was seen */
    bool dirty;              /* on the list of the turn's end */
    bool doomed;             /* closed at the turn's end */
    bool eof;                /* the client sends nothing more */
    bool anew;               /* another request since then: its deadlines are its own */
    bool moved;              /* bytes left since the last turn's end: a stall begins anew */

    /* Input. */
    uint8_t *in;
    uint32_t in_len, in_room;
    uint32_t in_parsed; /* the parser has seen these */
    struct head *head;  /* of a head that came in pieces; else http->head */

    /* The request. */
    struct request *request; /* PENDING */
    const struct route *route;
    struct verdict verdict;
    uint32_t model;
    hasup_ns at_most; /* its deadline; 0: the model's */
    uint8_t priority;
    bool keep_alive, old /* HTTP/1.0 */, accepts_sse, expects;
    uint8_t shape;   /* enum shape */
    bool proxied;    /* its path, fields and answer are between the client and a server */
    bool head_only;  /* HEAD: no body in the answer */
    char id[HTTP_ID_MAX + 1];
    uint8_t *meta; /* for the worker; else http->meta */
    uint32_t meta_len;
    bool session;              /* the meta names one */
    uint64_t json_len;         /* Inference-Header-Content-Length; 0: the whole body */
    uint64_t client;           /* who asks, by its Authorization; 0: it has none */
    uint32_t key_at, key_len;  /* the idempotency key, in the meta; len 0: none */
    bool async, waits;         /* Prefer: respond-async; waits: Prefer named a wait, */
    hasup_ns wait;             /* of this length */
    uint64_t heard, heard_of;  /* Last-Event-ID: a number, and the run that it is of */
    char record[RECORD_ID + 1]; /* of a route about a durable request; "": none */
    uint64_t raw; /* bytes of a chunked body with its framing */
    uint8_t *head_bytes; /* while a body of known length comes: what stood before it */
    uint32_t head_len;
    struct {
        uint8_t *bytes;        /* heap, or the buffer's; NULL: `view` */
        const uint8_t *view;   /* the whole body, inside the input */
        struct buffer *buffer; /* NULL: heap */
        uint64_t len, room, whole /* Content-Length; UINT64_MAX: chunked */, max;
    } body;

    /* The answer. */
    uint8_t *out;
    size_t out_at, out_len, out_room;
    struct buffer *tail; /* held until the bytes behind `out` are sent */
    const uint8_t *tail_bytes;
    uint64_t tail_len;
    uint64_t events; /* of a stream so far */
    uint64_t run;    /* whose they are: reply.record */
    uint16_t status; /* that its client was told */
    bool streaming, sse;
    bool passes;     /* the worker wrote its events itself: they pass as they are, */
    bool between;    /* and no event is half sent */
};

struct http {
    struct loop *loop;
    struct engine *engine;
    struct http_options options;
    struct watch watch;
    struct timer timer;
    struct timer accept_again;
    bool accept_failing;
    hasup_ns armed; /* when the timer is set to; HASUP_NEVER */
    int fd;         /* -1: draining */
    uint16_t port;
    uint32_t count;
    struct door_counts *counts;
    bool full; /* said in the log that no connection is free */
    bool acted; /* the engine was told something in this turn's end: its own end has passed */
    struct {
        struct connection *first, **last;
        hasup_ns length;
    } deadlines[DEADLINES];
    struct connection *dirty, *dead;
    uint8_t *blocks; /* free ones, linked through their first bytes */
    uint32_t block_count;
    uint64_t arriving; /* bytes of bodies that are not whole */
    struct head head;
    const char *base; /* the first byte of the head that is parsed */
    const char *end;  /* behind the last byte in hand */
    uint8_t *meta;
    size_t meta_room;
    int64_t date_s;
    char date[32];
    int64_t begun_s; /* Unix time of the door's start */
    char holds[192]; /* http_holds */
    bool resuming;   /* what is parsed was parsed by another hasupd, up to here */
};

/* ---- http.c ---- */

/* 503, and `fd` is closed: there is no room for one more. */
void http_refuse(struct http *http, int fd);

/* ---- connection.c ---- */

/* One that waits for its first request; NULL: no memory, and `fd` is closed. */
struct connection *connection_new(struct http *http, int fd);
/* Something was queued, or the state changed: look at it at the turn's end. */
void connection_mark(struct connection *c);
/* To be closed at the turn's end, its request cancelled. */
void connection_doom(struct connection *c);
/* The same to a client that does not read, which is said in the log. */
void connection_cut_off(struct connection *c, const char *why);
/* The answer is all queued: next request, or the end. */
void connection_answered(struct connection *c);
/* Of one without a request. */
void connection_close_idle(struct connection *c);
/* Of all: what a turn queued is sent, who ended is freed; context: the http. */
void connections_turn_end(void *context);
void deadlines_due(void *context); /* of http->timer */
void connections_free(struct http *http);
/* Forgets the body and meta of the request. */
void connection_drop_request(struct connection *c);

/* Room for `len` more bytes of output; NULL: no memory, and the connection is doomed. */
uint8_t *out_reserve(struct connection *c, size_t len);
static inline void out_commit(struct connection *c, size_t len)
{
    c->out_len += len;
}
/* Queues a copy, or writes at once where there is much. */
void out_write(struct connection *c, const void *bytes, size_t len);
static inline uint64_t out_unsent(const struct connection *c)
{
    return c->out_len - c->out_at + c->tail_len;
}

/* ---- http_request.c ---- */

extern const llhttp_settings_t HTTP_PARSER;

/* Parses bytes[parsed…len); bytes[0] is the first of a head or of a body's part.  Keeps in `in` what
 * cannot be used yet. */
void connection_feed(struct connection *c, const uint8_t *bytes, size_t len, size_t parsed);
/* Where the next bytes of a body belong that is read straight into place; NULL: through the
 * scratch memory. */
uint8_t *body_place(struct connection *c, size_t *room);

/* ---- http_head.c ---- */

/* Whether it may name a request or a session. */
bool head_is_id(const char *at, size_t len);
/* The head is whole: finds the route, reads the fields, writes the meta.  What is wrong stands in
 * c->verdict. */
void head_take(struct connection *c, const struct head *head);

/* ---- http_routes.c ---- */

/* What stands behind the model's part of a proxied route, with its query. */
const char *route_rest(const char *target, size_t len, size_t *rest_len);
/* Sets route, model and body.max, or the verdict. */
void route_find(struct connection *c, const char *target, size_t len, char *version, size_t room);
/* The methods of a 405's or an OPTIONS' Allow. */
const char *route_allow(const struct connection *c);
/* The request is whole: answers it or hands it to the engine. */
void route_run(struct connection *c);
/* 202 and the state of the durable request that the route names. */
void answer_record(struct connection *c);
bool record_goes_on(const struct connection *c);

/* ---- http_reply.c ---- */

extern const struct door HTTP_DOOR;

void answer_json(struct connection *c, uint32_t status, const char *text);
void answer_plain(struct connection *c, const char *type, const char *text, size_t len);
void answer_object(struct connection *c, uint32_t status, json_t *object_take);
void answer_options(struct connection *c);
/* 202, and where the answer will be. */
void answer_text_of_record(struct connection *c, const char *text);
/* An error in the shape of the request's path. */
void answer_error(struct connection *c, const struct refusal_text *text);
void answer_verdict(struct connection *c, uint32_t status, const char *code, const char *message);

/* How the end of an answer's body is known. */
enum framing { FRAMING_LENGTH, FRAMING_CHUNKED, FRAMING_CLOSE };

struct answer {
    uint32_t status;
    enum framing framing;
    uint64_t length;
    const char *type; /* Content-Type; NULL: none */
    size_t type_len;
    hasup_ns retry_after;
    uint32_t attempts; /* 0: not said */
    const char *version; /* that answered; NULL: not said */
    bool allow, no_store;
    bool applied;         /* Preference-Applied: respond-async */
    const char *location; /* of a durable request, by its number; NULL: none */
    const struct hasup_frame *frame; /* the worker's HEADER fields; NULL: none */
};
bool answer_head(struct connection *c, const struct answer *answer);
bool field_name_valid(const uint8_t *name, size_t len);
/* The error as JSON in the shape of the request's path; to be freed; NULL: no memory. */
char *error_json(const struct connection *c, uint32_t status, const char *code,
                 const char *message);
/* CONTENT_TYPE and ERROR of a worker's frame; absent ones are empty. */
struct worker_words {
    const char *type, *error;
    size_t type_len, error_len;
    uint32_t status;     /* of a CHUNK: the answer's; 200 where it is not said */
    uint64_t head_length; /* to a HEAD: the length that its GET would have */
};
void worker_words(const struct hasup_frame *frame, struct worker_words *words);

/* ---- http_stream.c ---- */

void stream_chunk(struct connection *c, const struct reply *head, const uint8_t *bytes, size_t len);
/* The worker's last word about a stream that began. */
void stream_end(struct connection *c, const struct reply *reply);
/* A whole answer as a stream of one event. */
void stream_whole(struct connection *c, const struct reply *reply, const uint8_t *bytes);
void stream_refused(struct connection *c, uint32_t status, const char *code, const char *message);

/* ---- http_v2.c ---- */

/* Takes what the body of an infer request says of its deadline, priority and session; false: that
 * was wrong, and was answered. */
bool v2_parameters(struct connection *c);

/* ---- http_v1.c ---- */

/* Finds the model that a whole body names; false: none, and that was answered. */
bool v1_find_model(struct connection *c);
/* The most that any model takes: a body's own model is known when it is whole. */
uint64_t v1_body_max(const struct http *http);
/* Writes a HEADER field's value: when the request came; its length. */
size_t v1_received(char *field, size_t room);
void v1_models(struct connection *c);
void v1_model(struct connection *c);
json_t *v1_error(uint32_t status, const char *code, json_t *message_take);

#endif
