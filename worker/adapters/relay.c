/*
 * relay.c: requests on their way: each is a transfer of curl's multi interface, whose answer
 * becomes CHUNKs and a REPLY.  An answer of known length up to whole_max, and JSON, is passed on
 * when it is whole, so that a crash in its middle leaves nothing to compare; others go part by part
 * as they come.  While hasupd has much unread, servers are not read from; while it has all buffers
 * that there may be, an answer that needs one waits for the next that it gives back.
 *
 * A server that dies, refuses or breaks off is a crash of this worker: `crash` says it, and main.c
 * ends.  What is no HTTP at all is the server's answer, an error 502.
 *
 * A connection that is used again can end in the moment in which a request is sent, and curl then
 * sends it anew; so what must not run twice gets a connection of its own.
 */
#include "worker/adapters/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { CONNECT_MS = 10 * 1000, BUFFER_SIZE = 128 * 1024, CANCELLED = 499, BAD_GATEWAY = 502 };

struct exchange {
    struct exchange *next;
    struct relay *relay;
    uint64_t id;
    CURL *easy;
    struct curl_slist *fields;
    uint8_t *copy; /* of the body; NULL: it stands in `memory`, or there is none */
    struct hasup_memory *memory;
    bool asks_head; /* HEAD: its answer has no body, whatever its length says */
    struct answer_head head;
    struct hasup_bytes meta, body; /* of the answer, until it is sent */
    bool streams;
    bool paused;
    bool answered; /* all of it is here, and waits for a buffer */
    uint32_t chunks;
    char wrong[128]; /* why its answer is none; "": it is one */
};

CURL *relay_handle(const struct server *server)
{
    char url[64];
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    if (server->port)
        snprintf(url, sizeof url, "http://127.0.0.1:%u/", server->port);
    else
        snprintf(url, sizeof url, "http://localhost/");
    bool fine = curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
                (server->port ||
                 curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, server->path) == CURLE_OK) &&
                curl_easy_setopt(easy, CURLOPT_NOPROXY, "*") == CURLE_OK;
    if (!fine) {
        curl_easy_cleanup(easy);
        return NULL;
    }
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BUFFER_SIZE);
    return easy;
}

/* ---- frames to hasupd ---- */

static bool put_number(struct hasup_bytes *meta, enum hasup_tag tag, uint32_t value)
{
    struct hasup_meta_writer w;
    uint8_t *room = hasup_bytes_room(meta, HASUP_FIELD_HEADER + sizeof value);
    if (!room)
        return false;
    hasup_meta_start(&w, room, HASUP_FIELD_HEADER + sizeof value);
    hasup_meta_put32(&w, tag, value);
    return true;
}

static int send_chunk(struct exchange *x)
{
    struct hasup_frame frame = {.type = HASUP_CHUNK, .id = x->id, .seq = x->chunks};
    if (!x->body.len)
        return 0;
    if (!x->chunks && x->head.status != 200 &&
        !put_number(&x->meta, HASUP_TAG_STATUS, x->head.status))
        return HASUP_ENOMEM;
    x->chunks++;
    int error = hasup_send(x->relay->runtime, &frame, &x->meta, x->body.at, x->body.len);
    x->meta.len = x->body.len = 0;
    return error;
}

static int send_reply(struct exchange *x)
{
    struct hasup_frame frame = {.type = HASUP_REPLY, .id = x->id, .seq = x->head.status};
    return hasup_send(x->relay->runtime, &frame, &x->meta, x->body.at, x->body.len);
}

/* Of a request that has, or will have, no answer of the server's. */
static int send_error(struct hasup_runtime *runtime, uint64_t id, unsigned status, const char *text)
{
    struct hasup_frame frame = {.type = HASUP_REPLY, .id = id, .seq = status};
    uint8_t bytes[ADAPTER_REASON + 2 * HASUP_FIELD_HEADER];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put(&w, HASUP_TAG_ERROR, text, strlen(text));
    struct hasup_bytes meta = {.at = bytes, .len = w.used, .room = sizeof bytes};
    return hasup_send(runtime, &frame, &meta, NULL, 0);
}

/* ---- what the server says ---- */

static size_t on_head(char *line, size_t size, size_t count, void *context)
{
    struct exchange *x = context;
    size_t len = size * count;
    if (!head_line(&x->head, line, len, x->asks_head)) {
        snprintf(x->wrong, sizeof x->wrong, "the head of its answer is longer than %d bytes",
                 HEAD_MOST);
        return 0;
    }
    if (x->head.ended && !x->streams)
        x->streams = !x->asks_head &&
                     (x->head.length == UINT64_MAX ? !x->head.json
                                                   : x->head.length > x->relay->options->whole_max);
    return len;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *context)
{
    struct exchange *x = context;
    size_t len = size * count;
    if (x->streams && x->relay->paused) {
        x->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    uint8_t *room = hasup_bytes_room(&x->body, len);
    if (!room) {
        snprintf(x->wrong, sizeof x->wrong, "out of memory");
        return 0;
    }
    memcpy(room, bytes, len);
    x->streams = x->streams || x->body.len > x->relay->options->whole_max;
    if (x->streams && x->body.len >= CHUNK_MOST && send_chunk(x)) {
        snprintf(x->wrong, sizeof x->wrong, "out of memory");
        return 0;
    }
    x->relay->paused = hasup_channel_unsent(&x->relay->runtime->channel) > UNSENT_MOST;
    return len;
}

/* ---- the life of an exchange ---- */

static void exchange_free(struct exchange *x)
{
    struct exchange **at = &x->relay->list;
    while (*at && *at != x)
        at = &(*at)->next;
    if (*at)
        *at = x->next;
    if (x->easy) {
        curl_multi_remove_handle(x->relay->multi, x->easy);
        curl_easy_cleanup(x->easy);
    }
    curl_slist_free_all(x->fields);
    if (x->memory)
        hasup_memory_unref(x->memory);
    free(x->copy);
    free(x->meta.at);
    free(x->body.at);
    free(x);
}

/* Where the body of a REQUEST stands until its REPLY. */
static int take_body(struct exchange *x, const struct hasup_frame *frame, const uint8_t **body)
{
    struct hasup_memory *memory;
    *body = (const uint8_t *)"";
    if (!frame->body_len)
        return 0;
    if (!(frame->flags & HASUP_FLAG_BUFFER)) {
        x->copy = malloc((size_t)frame->body_len);
        if (x->copy)
            memcpy(x->copy, frame->body, (size_t)frame->body_len);
        *body = x->copy;
        return x->copy ? 0 : HASUP_ENOMEM;
    }
    int error = hasup_memory_body(x->relay->runtime, frame, &memory, body);
    if (error)
        return error;
    memory->refs++;
    x->memory = memory;
    return 0;
}

static void set_method(struct exchange *x, const char *method, const uint8_t *body, uint64_t len)
{
    bool bodiless = !strcmp(method, "GET") || !strcmp(method, "DELETE") ||
                    !strcmp(method, "OPTIONS") || !strcmp(method, "HEAD");
    x->asks_head = !strcmp(method, "HEAD");
    if (len || !bodiless) {
        curl_easy_setopt(x->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
        curl_easy_setopt(x->easy, CURLOPT_POSTFIELDS, body);
    }
    if (x->asks_head && !len)
        curl_easy_setopt(x->easy, CURLOPT_NOBODY, 1L);
    else if (strcmp(method, len || !bodiless ? "POST" : "GET") != 0)
        curl_easy_setopt(x->easy, CURLOPT_CUSTOMREQUEST, method);
}

static int exchange_start(struct exchange *x, const struct hasup_frame *frame,
                          struct request_head *head)
{
    const uint8_t *body;
    int error = take_body(x, frame, &body);
    if (error)
        return error;
    x->easy = relay_handle(x->relay->server);
    if (!x->easy)
        return HASUP_ENOMEM;
    x->fields = head->fields;
    head->fields = NULL;
    set_method(x, head->method, body, frame->body_len);
    if (curl_easy_setopt(x->easy, CURLOPT_REQUEST_TARGET, head->path) != CURLE_OK)
        return HASUP_ENOMEM;
    curl_easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->fields);
    curl_easy_setopt(x->easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(x->easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(x->easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(x->easy, CURLOPT_FRESH_CONNECT, frame->flags & HASUP_FLAG_ONCE ? 1L : 0L);
    return curl_multi_add_handle(x->relay->multi, x->easy) == CURLM_OK ? 0 : HASUP_ENOMEM;
}

int relay_begin(struct relay *relay, const struct hasup_frame *frame)
{
    static struct request_head head; /* too large for a stack; one request at a time begins */
    char wrong[ADAPTER_REASON];
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return HASUP_ENOMEM;
    x->relay = relay;
    x->id = frame->id;
    x->head = (struct answer_head){.length = UINT64_MAX, .meta = &x->meta};
    x->next = relay->list;
    relay->list = x;
    int error = head_of_request(frame, &head, wrong);
    bool refused = error == HASUP_EINVAL;
    if (!error)
        error = exchange_start(x, frame, &head);
    curl_slist_free_all(head.fields);
    head.fields = NULL;
    if (error)
        exchange_free(x);
    return refused ? send_error(relay->runtime, frame->id, 400, wrong) : error;
}

int relay_cancel(struct relay *relay, uint64_t id)
{
    struct exchange *x = relay->list;
    while (x && x->id != id)
        x = x->next;
    if (!x)
        return 0;     /* it crossed the answer */
    exchange_free(x); /* and with it the connection, which tells the server */
    return send_error(relay->runtime, id, CANCELLED, "nobody waits for it any more");
}

/* ---- ends ---- */

/* What is no fault of a server's life: it lives and talks nonsense. */
static bool is_nonsense(CURLcode result)
{
    return result == CURLE_WEIRD_SERVER_REPLY || result == CURLE_UNSUPPORTED_PROTOCOL ||
           result == CURLE_HTTP2 || result == CURLE_OUT_OF_MEMORY || result == CURLE_WRITE_ERROR ||
           result == CURLE_BAD_CONTENT_ENCODING;
}

/* Its end is known by nothing but the end of its connection, which may be the server's death. */
static bool ends_in_doubt(const struct exchange *x)
{
    bool bodiless = x->asks_head || x->head.status == 204 || x->head.status == 304;
    return x->head.length == UINT64_MAX && !x->head.chunked && !bodiless &&
           server_is_ending(x->relay->server);
}

/* Not a byte of it reached the server: whatever becomes of that, the request may run elsewhere. */
static void say_unbegun(struct exchange *x)
{
    struct hasup_frame frame = {.type = HASUP_UNBEGUN, .id = x->id};
    (void)!hasup_send(x->relay->runtime, &frame, NULL, NULL, 0);
}

static void crashed(struct exchange *x, CURLcode result)
{
    const char *when = x->head.ended ? "in the middle of its answer" : "before it answered";
    if (!x->relay->crash[0])
        snprintf(x->relay->crash, sizeof x->relay->crash, "the server failed %s: %s", when,
                 result == CURLE_OK ? "it ended" : curl_easy_strerror(result));
}

static int exchange_answer(struct exchange *x)
{
    int error = send_reply(x);
    x->answered = error == HASUP_EFULL;
    if (x->answered)
        return 0;
    exchange_free(x);
    return error;
}

static int exchange_done(struct exchange *x, CURLcode result)
{
    int error = 0;
    if (result == CURLE_OK && !x->wrong[0] && !ends_in_doubt(x)) {
        return exchange_answer(x);
    } else if (x->wrong[0] || is_nonsense(result)) {
        char text[ADAPTER_REASON];
        snprintf(text, sizeof text, "the server's answer cannot be passed on: %s",
                 x->wrong[0] ? x->wrong : curl_easy_strerror(result));
        error = send_error(x->relay->runtime, x->id, BAD_GATEWAY, text);
    } else {
        if (result == CURLE_COULDNT_CONNECT)
            say_unbegun(x);
        crashed(x, result); /* the request stays without an answer */
        return 0;
    }
    exchange_free(x);
    return error;
}

static int take_ends(struct relay *relay)
{
    CURLMsg *message;
    int left, error = 0;
    while (!error && (message = curl_multi_info_read(relay->multi, &left))) {
        struct exchange *x = NULL;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&x);
        if (message->msg == CURLMSG_DONE && x)
            error = exchange_done(x, result);
    }
    return error;
}

static int send_what_waits(struct relay *relay)
{
    int error = 0;
    for (struct exchange *x = relay->list, *next; x && !error; x = next) {
        next = x->next;
        if (x->answered)
            error = exchange_answer(x);
        else if (x->streams)
            error = send_chunk(x);
    }
    return error;
}

bool relay_may_go_on(const struct relay *relay)
{
    return relay->paused && hasup_channel_unsent(&relay->runtime->channel) <= UNSENT_LEAST;
}

static void go_on(struct relay *relay)
{
    if (!relay_may_go_on(relay))
        return;
    relay->paused = false;
    for (struct exchange *x = relay->list; x; x = x->next)
        if (x->paused) {
            x->paused = false;
            curl_easy_pause(x->easy, CURLPAUSE_CONT);
        }
}

int relay_turn(struct relay *relay)
{
    int running, error;
    go_on(relay);
    if (curl_multi_perform(relay->multi, &running) != CURLM_OK)
        return HASUP_ENOMEM;
    error = take_ends(relay);
    return error ? error : send_what_waits(relay);
}

int relay_open(struct relay *relay)
{
    relay->multi = curl_multi_init();
    if (!relay->multi)
        return HASUP_ENOMEM;
    curl_multi_setopt(relay->multi, CURLMOPT_MAXCONNECTS, (long)relay->options->concurrency);
    return 0;
}

void relay_close(struct relay *relay)
{
    while (relay->list)
        exchange_free(relay->list);
    if (relay->multi)
        curl_multi_cleanup(relay->multi);
    relay->multi = NULL;
}
