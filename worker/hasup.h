/*
 * hasup.h: write a model worker in C.
 *
 *     static int infer(void *model, const struct hasup_request *request, struct hasup_response
 * *response)
 *     {
 *         return hasup_reply(response, request->body, request->len);
 *     }
 *
 *     int main(void)
 *     {
 *         return hasup_serve(&(struct hasup_worker){.infer = infer});
 *     }
 *
 * hasupd starts the program, gives it requests, and starts it again when it dies.  All callbacks
 * run on the thread that called hasup_serve.  What a callback is given is valid until it returns;
 * what it gives is copied.  Link with -lhasup.
 */
#ifndef HASUP_H
#define HASUP_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct hasup_request {
    const void *body; /* opaque bytes; NULL where len is 0 */
    size_t len;
    uint64_t id;          /* hasupd's number of it */
    unsigned attempt;     /* 1 for the first worker that runs it */
    int replay;           /* it was answered before; it runs again to bring the state back */
    uint64_t position;    /* stateful workers: where it stands in the slot's log, from 1 */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    /* Of a resumable worker, where another one died with it; see hasup_resume_at(). */
    int resumed;
    const void *progress; /* the last that was told by hasup_progress(); NULL: none was */
    size_t progress_len;
    uint64_t progress_at; /* so many bytes of the answer stand before it */
    uint64_t sent_len;    /* so many bytes its client has, at least progress_at */
    const void *sent;     /* those bytes; NULL where hasupd did not keep them */
};

/* "infer", "generate", "generate_stream", "invoke", …; "" where none was named. */
const char *hasup_request_route(const struct hasup_request *request);
/* "" where none was named. */
const char *hasup_request_content_type(const struct hasup_request *request);
/* The client's X-Request-Id, or the one that hasupd made; the same on each attempt. */
const char *hasup_request_id(const struct hasup_request *request);
/* The client's X-Session-Id; "" where it named none.  Requests of one session run in one slot. */
const char *hasup_request_session(const struct hasup_request *request);
/* The client's X-Batch-Key; "" where it named none. */
const char *hasup_request_batch_key(const struct hasup_request *request);
/* The value of a forwarded header (its name in lower case), or NULL. */
const char *hasup_request_header(const struct hasup_request *request, const char *name);
/* Whether nobody waits for it any more; a long computation may then stop and return anything. Costs
 * one system call.  Never true for a stateful worker, whose requests run to their end. */
int hasup_request_cancelled(const struct hasup_request *request);

/* Writes a line to standard error that hasupd ties to this request, however many are in hand (with
 * NULL: to none).  A text of several lines becomes as many.  From any thread, as long as the request
 * is valid.  Without hasupd it is written as it is. */
void hasup_log(const struct hasup_request *request, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct hasup_response;

/* All return 0, or a negative code where memory ran out or hasupd is gone. */

/* The answer's body; several calls append. */
int hasup_reply(struct hasup_response *response, const void *bytes, size_t len);
/* Room for `len` more bytes of the body, to be filled in place; NULL: no memory. */
void *hasup_reply_room(struct hasup_response *response, size_t len);
int hasup_reply_type(struct hasup_response *response, const char *content_type);
int hasup_reply_header(struct hasup_response *response, const char *name, const char *value);
/* 200…599, anything else becomes 500; default 200. */
void hasup_reply_status(struct hasup_response *response, unsigned status);
/* An error with a text for a person; gives -1, so that a callback can return it. */
int hasup_error(struct hasup_response *response, unsigned status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Sends the answer now, while its callback goes on: in a batch, one that is done need not wait for
 * the others.  After it nothing more is said of it, and its request's body is not to be read. */
int hasup_reply_now(struct hasup_response *response);
/* A part of a streamed answer, sent at once.  What is replied later is its last part. */
int hasup_chunk(struct hasup_response *response, const void *bytes, size_t len);

/* With this blob (128 KiB at most) any worker of the model can go on right behind the chunks that
 * were sent so far, should this one die.  Does nothing where the worker is not resumable, nor in a batch. */
int hasup_progress(struct hasup_response *response, const void *blob, size_t len);
/* Before the first chunk of a resumed request: what comes now are the bytes of the answer from
 * here: request->progress_at, or request->sent_len.  Without it they are those from the start; then
 * what the client has already is compared and left out. */
void hasup_resume_at(struct hasup_response *response, uint64_t at);

struct hasup_state;
/* Appends to the state being saved.  Nonzero: there is no memory for it, and `save` should give up.
 */
int hasup_state_write(struct hasup_state *state, const void *bytes, size_t len);

struct hasup_signature; /* below */

struct hasup_worker {
    /* Loads the model; *model is handed to the others.  Nonzero: it could not; say why on stderr.
     * NULL: no model. */
    int (*load)(void **model);
    /* Answers one request.  Nonzero: an error (500 unless hasup_error said otherwise). */
    int (*infer)(void *model, const struct hasup_request *request, struct hasup_response *response);
    /* Answers several at once, `count` of them (1 to max_batch, both included): requests[i] by
     * responses[i].  They are as many as wait when the worker is free, all of one X-Batch-Key, all
     * replays or none; the configuration's batch.max_batch may make them fewer.  The arrays and what
     * they point to are valid until it returns.  Each member has an answer of its own, an error
     * (hasup_error) or not; may be streamed, also by turns; may be cancelled, and the others go on.
     * In a stateful worker the state and the answers must be as if they had run one by one, in this
     * order.
     * Nonzero: it failed as a whole.  Then each member runs once more, alone, so that what one did
     * wrong is not its mates' error; but where something was told of one already, or the worker is
     * stateful, all that have no error of their own get 500.
     * With `infer` as well, that answers what comes alone; one of the two may be NULL. */
    int (*infer_batch)(void *model, size_t count, const struct hasup_request *const requests[],
                       struct hasup_response *const responses[]);
    unsigned max_batch; /* goes with infer_batch; hasupd makes no batch longer than 1024 */
    /* Both or none: a stateful worker.  `save` writes the whole state; `restore` brings back
     * exactly what was saved, in a fresh process after `load`.  Nonzero: it could not. */
    int (*save)(void *model, struct hasup_state *state);
    int (*restore)(void *model, const void *state, size_t len);
    /* Called before a clean exit; may be NULL. */
    void (*unload)(void *model);
    /* Of a model with `preload`: called in each worker that was forked after `load`, before anything
     * else; may be NULL.  What a fork does not bear belongs here: threads, a GPU, random seeds.
     * Nonzero: it could not. */
    int (*forked)(void *model);
    unsigned
        concurrency; /* requests that wait in this worker's socket, run one after the other; 0: 1 */
    /* Nonzero: `save` runs in a forked child, which has the model as it was at the fork, while this
     * process goes on serving.  The child has only the calling thread, no use of a GPU, and changes
     * nothing here.  So it is for models whose state lies in plain memory and whose `save` takes no
     * lock that another thread may hold.  0, the default: `save` runs between two requests. */
    int snapshot;
    /* Nonzero: streams can go on in the middle, by hasup_progress() or from their own text.  Not of
     * a stateful worker. */
    int resumable;
    /* For GET /v2/models/M: what the model takes and gives, against which hasup_infer_read()
     * checks; or JSON as it is to be told: {"platform", "versions", "inputs", "outputs"}.  NULL:
     * none. */
    const struct hasup_signature *signature;
    const char *metadata;
};

/* ---- the Open Inference Protocol, v2: route "infer" ----
 *
 *     static const struct hasup_tensor_spec
 *         inputs[] = {{"image", HASUP_FP32, 2, {-1, 64}, 0}, {.name = NULL}},
 *         outputs[] = {{"digit", HASUP_INT64, 1, {-1}, 0}, {.name = NULL}};
 *     static const struct hasup_signature signature = {
 *         .platform = "fann", .inputs = inputs, .outputs = outputs};
 *
 *     struct hasup_infer *infer = hasup_infer_read(request, response);
 *     if (!infer)
 *         return -1;
 *     const struct hasup_tensor *image = hasup_infer_input(infer, "image");
 *     int64_t *digit = hasup_infer_output(infer, "digit", HASUP_INT64, 1, image->shape);
 *     for (int64_t i = 0; digit && i < image->shape[0]; i++)
 *         digit[i] = read_digit((const float *)image->data + 64 * i);
 *     return hasup_infer_end(infer);
 *
 * JSON and binary data, both ways, without a difference here.  What is wrong in the request is
 * answered with 400 and the tensor's name, what was expected and what came. */

/* And what an element is in an array. */
enum hasup_datatype {
    HASUP_BOOL = 1, /* uint8_t: 0, or true */
    HASUP_UINT8,
    HASUP_UINT16,
    HASUP_UINT32,
    HASUP_UINT64,
    HASUP_INT8,
    HASUP_INT16,
    HASUP_INT32,
    HASUP_INT64,
    HASUP_FP16, /* uint16_t: the bits; see hasup_fp16() */
    HASUP_BF16,
    HASUP_FP32, /* float */
    HASUP_FP64, /* double */
    HASUP_BYTES /* struct hasup_string */
};

enum { HASUP_RANK_MAX = 16 };

struct hasup_string {
    const char *at; /* any bytes, without a zero behind them */
    size_t len;
};

struct hasup_tensor_spec {
    const char *name; /* NULL: the end of the list */
    enum hasup_datatype datatype;
    size_t rank;
    int64_t shape[HASUP_RANK_MAX]; /* -1: any */
    int optional;                  /* an input that need not come */
};

/* What a model takes and gives: requests are checked against it, and GET /v2/models/M tells it. */
struct hasup_signature {
    const char *platform;        /* NULL: "" */
    const char *const *versions; /* ends with NULL; NULL: none are told */
    const struct hasup_tensor_spec *inputs, *outputs;
};

struct hasup_tensor {
    const char *name;
    enum hasup_datatype datatype;
    size_t rank;
    int64_t shape[HASUP_RANK_MAX]; /* all at least 0 */
    size_t count;                  /* of elements: the product of the shape, 1 where rank is 0 */
    const void *data; /* row-major, aligned for its type; borrowed, maybe of the body */
};

struct hasup_infer; /* one request and its answer */

/* Reads the body and checks it against the worker's signature, where it has one.  NULL: it was
 * answered (400 and why, 503: no memory); return nonzero. */
struct hasup_infer *hasup_infer_read(const struct hasup_request *request,
                                     struct hasup_response *response);
/* By name, or by place from 0; NULL: it did not come, which a signature allows only if it is
 * optional.  Lives until the end, as all that is read. */
const struct hasup_tensor *hasup_infer_input(const struct hasup_infer *infer, const char *name);
const struct hasup_tensor *hasup_infer_input_at(const struct hasup_infer *infer, size_t place);
/* A parameter of the request, or of that input; `otherwise` where it is not there.  One of another
 * kind makes the answer 400. */
int64_t hasup_infer_integer(struct hasup_infer *infer, const char *input, const char *name,
                            int64_t otherwise);
double hasup_infer_number(struct hasup_infer *infer, const char *input, const char *name,
                          double otherwise);
int hasup_infer_flag(struct hasup_infer *infer, const char *input, const char *name, int otherwise);
const char *hasup_infer_text(struct hasup_infer *infer, const char *input, const char *name,
                             const char *otherwise);
/* Whether the client wants that output: where it names none, it wants all. */
int hasup_infer_wants(const struct hasup_infer *infer, const char *output);
/* Room for an output's elements, zeroed and to be filled in place; bytes that a BYTES element
 * points to must live until the end.  NULL: it is not what the signature says, or no memory;
 * hasup_infer_end() then answers 500 and why.  One that is not wanted may be given all the same.
 * Names and shape are copied. */
void *hasup_infer_output(struct hasup_infer *infer, const char *name, enum hasup_datatype datatype,
                         size_t rank, const int64_t *shape);
/* The answer's "parameters", a JSON object as text. */
void hasup_infer_say(struct hasup_infer *infer, const char *json);
/* Answers, in JSON or binary as each output is wanted, and frees it.  0, or negative: the answer is
 * an error, which was said. */
int hasup_infer_end(struct hasup_infer *infer);
/* Frees it without an answer, after hasup_error(). */
void hasup_infer_free(struct hasup_infer *infer);

/* The bits of a half, rounded to the nearest and even; and what they say. */
uint16_t hasup_fp16(double value);
double hasup_fp16_value(uint16_t fp16);
uint16_t hasup_bf16(double value);
double hasup_bf16_value(uint16_t bf16);

/* ---- OpenAI's clients: routes "chat_completions" and "completions" ----
 *
 *     struct hasup_completion *asked = hasup_completion_read(request, response);
 *     if (!asked)
 *         return -1;
 *     while (… && !hasup_request_cancelled(request))
 *         if (hasup_completion_text(asked, piece, len, 1))
 *             break;
 *     return hasup_completion_end(asked, "stop", prompt_tokens);
 *
 * What is told follows from the request and the text alone, so a stream goes on when its worker
 * dies. Texts of the request are UTF-8, end with a zero, and live until the end or _free. */

struct hasup_message {
    const char *role; /* "system", "user", "assistant", … */
    const char *text; /* its parts of text in one; "" where it has none */
};

struct hasup_completion {
    const char *model; /* as the client named it */
    int chat;          /* /v1/chat/completions: it has messages; else a prompt */
    const struct hasup_message *messages;
    size_t message_count; /* of a chat at least 1 */
    const char *prompt;
    int stream;         /* the client wants the text as it comes; seen to by the helper */
    int64_t max_tokens; /* at least 1; 0: the client named none */
    double temperature; /* negative: it named none; nor top_p */
    double top_p;
    int has_seed;
    int64_t seed;
    const char *const *stop; /* texts at which to stop, which the model sees to */
    size_t stop_count;
};

/* Reads the body.  NULL: it was answered (400 and which field is wrong, where one is); return
 * nonzero.  What changes an answer and is not done here (n, best_of, logprobs, echo, parts other
 * than text) is refused; fields that are not listed above are passed over: see request->body. */
struct hasup_completion *hasup_completion_read(const struct hasup_request *request,
                                               struct hasup_response *response);
/* Before the first text of a resumed request that goes on from request->progress: so many tokens
 * were told before it.  Says hasup_resume_at(), too. */
void hasup_completion_resume(struct hasup_completion *completion, int64_t tokens);
/* The next text, of whole UTF-8 characters (others become U+FFFD), and how many tokens it counts
 * as. hasup_progress() after it is right behind it.  0, or negative: no memory, or hasupd is gone.
 */
int hasup_completion_text(struct hasup_completion *completion, const char *text, size_t len,
                          int64_t tokens);
/* Tells the end ("stop", "length", "content_filter") and the usage, and frees it.  0, or negative.
 */
int hasup_completion_end(struct hasup_completion *completion, const char *finish_reason,
                         int64_t prompt_tokens);
/* Frees it without an end, after hasup_error(). */
void hasup_completion_free(struct hasup_completion *completion);

/* Serves until hasupd says to stop; gives the program's exit code. */
int hasup_serve(const struct hasup_worker *worker);

#ifdef __cplusplus
}
#endif

#endif
