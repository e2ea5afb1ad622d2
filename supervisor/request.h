/*
 * request.h: what a front door and the engine say to each other.  A door is a source of requests
 * and a sink for answers, nothing more: it knows clients and bytes, never slots or workers.
 *
 * The engine keeps what a request needs to run again (its meta and body) until the core forgets it.
 * A door hears exactly one of `reply` and `refuse` for each request, and nothing after it; `chunk`
 * any number of times before.  After engine_cancel it hears nothing more.  Callbacks may come from
 * inside engine_submit.  A door that never sends `async` needs no `accepted`.
 */
#ifndef HASUP_SUPERVISOR_REQUEST_H
#define HASUP_SUPERVISOR_REQUEST_H

#include "ipc/message.h"
#include "supervisor/buffer.h"
#include "supervisor/core/core.h"

struct engine;
struct request; /* the engine's record of one */

/* A worker's answer.  Borrowed for the length of the callback, except that a door may take a
 * reference to body.buffer. */
struct reply {
    uint32_t status;                 /* 200…599 */
    const struct hasup_frame *frame; /* its meta: CONTENT_TYPE, HEADER…, ERROR */
    struct body body;
    uint32_t attempts;
    const char *version; /* of the worker, a label; NULL: nobody knows */
    uint64_t record; /* the journal's number of it, which names the run; 0: nobody can come back */
};

struct refusal_text {
    enum refusal why;
    uint32_t status;      /* HTTP status, DESIGN §9 */
    const char *code;     /* "overloaded" */
    const char *message;  /* for a person: what happened, what to do */
    hasup_ns retry_after; /* 0: none */
    uint32_t attempts;
};

/* What a door does with answers.  `context` is the door's own record of the request. */
struct door {
    const char *name; /* "http", "unix" */
    void (*reply)(void *context, const struct reply *reply);
    /* The next bytes of a streamed answer. */
    void (*chunk)(void *context, const struct reply *head, const uint8_t *bytes, size_t len);
    void (*refuse)(void *context, const struct refusal_text *refusal);
    /* The request is durable and its client asked for no more than that: the end of it, for the
     * door.  `id` is what the client asks by later. */
    void (*accepted)(void *context, const char *id);
};

enum { RECORD_ID = 32 /* hex digits of a durable request's public number */ };

struct bytes {
    const uint8_t *at;
    size_t len;
};

struct submission {
    const struct door *door;
    void *context;
    uint32_t model;    /* from engine_model */
    uint8_t priority;  /* 1…9; 0: the default */
    hasup_ns deadline; /* monotonic; 0: the model's default */
    const uint8_t
        *meta; /* encoded fields for the worker: ROUTE, CONTENT_TYPE, HEADER, REQUEST_ID, …; */
    size_t meta_len;  /* without DEADLINE and POSITION, which the engine adds.  Copied. */
    struct body body; /* bytes are copied; a buffer is referenced */
    struct bytes key; /* idempotency key; len 0: none.  Copied. */
    bool async;       /* answered by `accepted`; its client comes back for the answer */
    bool no_wait;     /* refused with 409 where its key's request still runs */
    uint64_t client;  /* engine_client() of who asks; 0: he does not say */
    uint64_t heard;   /* of a stream: its client has the chunks up to this number, */
    uint64_t heard_of; /* and they came with this `record` of a reply */
};

/* A hash of what names a client, for its limit of rate; another one in each run of hasupd. */
uint64_t engine_client(const struct engine *engine, const void *name, size_t len);

/* Hands a request in.  *request is set before anything else happens, for engine_cancel; it is dead
 * after reply, refuse or engine_cancel.  0; HASUP_EFULL (limits.requests reached: `refuse` was NOT
 * called, answer 429 yourself), HASUP_ENOMEM. */
int engine_submit(struct engine *engine, const struct submission *submission,
                  struct request **request) HASUP_NODISCARD;

/* Asks for the answer of a durable request by its public number, as if it were its own: waits for
 * it to `deadline` (0: for ever), of a stream from chunk `heard` on.  As engine_submit otherwise;
 * HASUP_ENOTFOUND: there is no such request. */
int engine_ask(struct engine *engine, const char *id, size_t len, const struct submission *submission,
               struct request **request) HASUP_NODISCARD;

struct record_info {
    enum record_state state;
    const char *model; /* "" where it is not known any more */
    uint32_t attempts;
    enum refusal why;  /* of RECORD_REFUSED */
};
/* HASUP_ENOTFOUND */
int engine_record(const struct engine *engine, const char *id, size_t len,
                  struct record_info *info) HASUP_NODISCARD;
/* Nobody wants it any more: HASUP_ENOTFOUND. */
int engine_drop(struct engine *engine, const char *id, size_t len) HASUP_NODISCARD;

/* For a door that another hasupd's clients come to: the number that names a request there and here;
 * what bears it is this door's now.  NULL: nothing does any more. */
uint64_t engine_request_id(const struct request *request);
struct request *engine_rejoin(struct engine *engine, uint64_t id, const struct door *door,
                              void *context);

/* Its client is gone: the door hears nothing more of it. */
void engine_cancel(struct engine *engine, struct request *request);

/* The index of a model by name, or HASUP_ENOTFOUND. */
int engine_model(const struct engine *engine, const char *name, size_t len) HASUP_NODISCARD;

struct model_info {
    const char *name;
    uint64_t body_max;    /* bytes; above: 413 */
    bool adapted;         /* a server of its own, which any path may be for */
    bool ready;           /* at least one ready worker and accepting */
    const char *metadata; /* JSON object from the worker's hello, or NULL before the first */
    size_t metadata_len;
};
bool engine_model_info(const struct engine *engine, uint32_t model, struct model_info *info);
/* Only the limit, for every request: the rest of the info asks the core.  false: no such model. */
bool engine_model_body_max(const struct engine *engine, uint32_t model, uint64_t *body_max);
uint32_t engine_models(const struct engine *engine); /* indexes below this may hold a model */
bool engine_ready(const struct engine *engine);      /* all models ready, not shutting down */

/* What a door counts of its own connections; of the loop's thread. */
enum door_kind { DOOR_HTTP, DOOR_UNIX, DOOR_KINDS };
struct door_counts {
    uint32_t open;
    uint64_t refused;
    uint64_t answers[6]; /* by the status's hundreds */
};
/* Where it counts them: as long as the engine lives. */
struct door_counts *engine_door_counts(struct engine *engine, enum door_kind kind);
/* What GET /metrics answers, malloc'ed; NULL: no memory. */
char *engine_metrics(struct engine *engine, size_t *len) HASUP_NODISCARD;
/* Measures the memory of slots, for 2 ms and at least one; the next call goes on from there. */
void engine_measure(struct engine *engine);

/* An X-Request-Id for a request that came without one: 32 hex digits and a NUL. */
void engine_make_id(struct engine *engine, char id[33]);

/* Status, code and a default message of a refusal (DESIGN §9). */
uint32_t refusal_status(enum refusal why);
const char *refusal_code(enum refusal why);
const char *refusal_message(enum refusal why);

#endif
