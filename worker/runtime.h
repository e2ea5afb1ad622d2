/* runtime.h: the records behind worker/hasup.h, shared by its .c files. */
#ifndef HASUP_WORKER_RUNTIME_H
#define HASUP_WORKER_RUNTIME_H

#include "ipc/channel.h"
#include "ipc/message.h"
#include "worker/hasup.h"

#include <sys/types.h>

/* A memfd that hasupd announced (request bodies), or one of the worker's own (answers, states). */
struct hasup_memory {
    uint32_t id;
    int fd;
    uint8_t *map;
    uint64_t size;
    bool busy; /* own: hasupd has not released it yet */
    /* hasupd's: requests whose bodies stand in it, of a worker that has several at once; withdrawn,
     * it goes with the last of them. */
    unsigned refs;
    bool withdrawn;
    struct hasup_memory *next;
};

/* Bytes that grow; kept for the next use. */
struct hasup_bytes {
    uint8_t *at;
    size_t len, room;
};

/* A frame that was read while a request was still running. */
struct hasup_waiting {
    struct hasup_frame frame;
    struct hasup_waiting *next;
    uint8_t bytes[];
};

/* Of a worker with infer_batch: what has come of the batch that is not whole yet. */
struct hasup_batch {
    struct hasup_member *members; /* `most` of them */
    const struct hasup_request **requests;
    struct hasup_response **responses;
    unsigned count, most;
};

struct hasup_runtime {
    const struct hasup_worker *worker;
    void *model;
    struct hasup_channel channel;
    uint8_t *scratch, *second_scratch;
    struct hasup_waiting *waiting, **waiting_tail;
    uint8_t *held; /* the channel's memory that a running request's body stands in */
    struct hasup_memory *theirs, *ours;
    struct hasup_memory *gone; /* the last one withdrawn: given back in a pause, as it takes long */
    uint32_t next_memory;
    size_t inline_max;
    char mark[65]; /* the word by which hasupd knows whose line it is; "": it gave none */
    hasup_ns pace; /* about the longest of the last requests */
    struct {
        struct hasup_bytes meta; /* of the STATE that was asked for */
        pid_t child;             /* takes it; 0: none does */
        int result, fd;          /* its end is said in the one, the state stands in the other */
    } snapshot;
    bool stateful, ready, leaving, ended;
    bool snapshots; /* granted: a child may take the state */
    bool resumes;   /* granted: streams may go on in the middle */
    bool zygote;    /* granted: it forks workers and does nothing else */
    bool forked;    /* one of those */
    bool batches;   /* granted: requests may come together */
    const char *broken; /* how hasupd broke the protocol */
    struct hasup_batch batch;
};

struct hasup_text {
    struct hasup_text *next;
    char text[];
};

struct hasup_running {
    struct hasup_request request; /* first: what the callbacks see */
    struct hasup_runtime *runtime;
    const struct hasup_frame *frame;
    struct hasup_text *texts; /* copies of meta fields, until the request ends */
    uint32_t buffer;          /* of hasupd's, that its body stands in; 0: none */
    bool cancelled;
};

struct hasup_response {
    struct hasup_runtime *runtime;
    uint64_t id;
    unsigned status;
    uint32_t chunks;
    bool begun;         /* something was said of it */
    bool ended;         /* all was */
    uint64_t resume_at; /* of a resumed one */
    struct hasup_bytes body, meta;
    bool failed;
};

/* memory.c */
uint8_t *hasup_bytes_room(struct hasup_bytes *bytes, size_t len); /* NULL: no memory */
struct hasup_memory *hasup_memory_theirs(struct hasup_runtime *runtime, uint32_t id);
int hasup_memory_frame(struct hasup_runtime *runtime, struct hasup_frame *frame);
/* The body of a frame with HASUP_FLAG_BUFFER; `*memory` is what it stands in. */
int hasup_memory_body(struct hasup_runtime *runtime, const struct hasup_frame *frame,
                      struct hasup_memory **memory, const uint8_t **body) HASUP_NODISCARD;
/* Sends a frame with a body of any size; meta gets the buffer's fields where it needs one. */
int hasup_send(struct hasup_runtime *runtime, struct hasup_frame *frame, struct hasup_bytes *meta,
               const uint8_t *body, size_t len);
/* Sends one as it is; what is unsent is written out where there is no room. */
int hasup_send_frame(struct hasup_runtime *runtime, const struct hasup_frame *frame);
void hasup_memory_unref(struct hasup_memory *memory);
/* Tells hasupd that a body of its that is no request's has been read. */
int hasup_memory_release(struct hasup_runtime *runtime, uint32_t id);
/* In a pause: whether there is more memory than the next answer needs; gives it back. */
bool hasup_memory_is_spare(const struct hasup_runtime *runtime);
int hasup_memory_rest(struct hasup_runtime *runtime);
void hasup_memory_free_all(struct hasup_runtime *runtime);

/* response.c */
void hasup_response_open(struct hasup_response *response, struct hasup_runtime *runtime,
                         uint64_t id);
/* The callback failed. */
void hasup_response_fail(struct hasup_response *response, bool cancelled);
/* Unless it was sent already. */
int hasup_response_send(struct hasup_response *response);

/* state.c */
int hasup_state_take(struct hasup_runtime *runtime, const struct hasup_frame *asked);
/* Sends the state where a child has taken it; `wait`: as soon as one that works has. */
int hasup_snapshot_look(struct hasup_runtime *runtime, bool wait);

/* zygote.c */
/* Forks a worker, which returns here, too: as one that has said hello on a socket of its own. */
int hasup_zygote_spawn(struct hasup_runtime *runtime, struct hasup_frame *frame);

/* serve.c */
int hasup_say_hello(struct hasup_runtime *runtime);
int hasup_flush(struct hasup_runtime *runtime); /* waits until all is written */
/* Says at the worker's end what hasupd did wrong; gives HASUP_EPROTO. */
int hasup_broke(struct hasup_runtime *runtime, const char *how);

/* request.c */
/* What a frame, which must outlive it, says of its request; HASUP_EPROTO. */
int hasup_running_open(struct hasup_runtime *runtime, struct hasup_running *running,
                       const struct hasup_frame *frame);
void hasup_running_close(struct hasup_running *running);
/* Runs one that came alone, with infer. */
int hasup_request_take(struct hasup_runtime *runtime, const struct hasup_frame *frame);
/* Around what takes the model's time: whether answers are gathered follows from it. */
int hasup_run_begin(struct hasup_runtime *runtime, hasup_ns *begun);
void hasup_run_end(struct hasup_runtime *runtime, hasup_ns begun);
/* What ran has ended: so has the memory that was kept for it. */
void hasup_drop_held(struct hasup_runtime *runtime);
/* Until hasupd has said more; a RELEASE counts at once, the rest waits. */
int hasup_await_release(struct hasup_runtime *runtime);

/* batch.c */
int hasup_batch_open(struct hasup_runtime *runtime);
void hasup_batch_close(struct hasup_runtime *runtime);
/* One more of the batch; runs it where it is the last. */
int hasup_batch_take(struct hasup_runtime *runtime, const struct hasup_frame *frame);

#endif
