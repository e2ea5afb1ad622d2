/*
 * completion.c: the bodies of /v1/chat/completions and /v1/completions read, and a model's text
 * told in their words: as a whole, or event by event.  Everything that is told follows from the
 * request and the text alone (id and created, too), so that a second worker tells the same bytes
 * and a stream can go on in the middle.
 */
#include "ipc/json.h"
#include "worker/write.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ITEMS_MAX = 65536 /* messages, or words to stop at */ };

struct completion {
    struct hasup_completion seen; /* first: what the worker has */
    const struct hasup_request *request;
    struct hasup_response *response;
    struct hasup_text *texts; /* what `seen` points to */
    struct hasup_message *messages;
    const char **stop;
    struct hasup_writer out;     /* the whole text, escaped; or the event being made */
    struct hasup_writer opening; /* what every object that is told begins with */
    struct hasup_json json;
    int64_t tokens;
    bool begun;    /* the stream's first event was told */
    bool usage;    /* stream_options.include_usage */
    char why[256]; /* it was refused */
};

static struct completion *completion_of(struct hasup_completion *seen)
{
    return (struct completion *)seen;
}

/* ---- reading ---- */

static bool refuse(struct completion *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool refuse(struct completion *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!c->why[0])
        vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return false;
}

/* Room for `len` bytes and a zero, which lives as long as the completion. */
static char *text_room(struct completion *c, size_t len)
{
    struct hasup_text *text = malloc(sizeof *text + len + 1);
    if (!text) {
        refuse(c, "out of memory");
        return NULL;
    }
    text->next = c->texts;
    c->texts = text;
    return text->text;
}

/* Decodes behind the `used` bytes of `out`; false: refused. */
static bool decode(struct completion *c, const char *name, const struct hasup_json_text *text,
                   char *out, size_t *used)
{
    int64_t len = hasup_json_decode(text, out + *used, text->len);
    if (len < 0)
        return refuse(c, "%s has half of a surrogate pair", name);
    if (memchr(out + *used, '\0', (size_t)len))
        return refuse(c, "%s has a zero character", name);
    *used += (size_t)len;
    out[*used] = '\0';
    return true;
}

static bool read_string(struct completion *c, const char *name, const char **to)
{
    struct hasup_json_text text;
    size_t used = 0;
    if (!hasup_json_string(&c->json, &text))
        return c->json.wrong ? false : refuse(c, "%s: expected a string", name);
    char *out = text_room(c, text.len);
    *to = out;
    return out && decode(c, name, &text, out, &used);
}

static bool read_number(struct completion *c, const char *name, double *to)
{
    struct hasup_json_text text;
    if (hasup_json_null(&c->json))
        return true;
    if (!hasup_json_number(&c->json, &text))
        return c->json.wrong ? false : refuse(c, "%s: expected a number", name);
    *to = hasup_json_double(&text);
    return true;
}

static bool read_integer(struct completion *c, const char *name, int64_t *to, int64_t least)
{
    struct hasup_json_text text;
    if (hasup_json_null(&c->json))
        return true;
    if (!hasup_json_number(&c->json, &text))
        return c->json.wrong ? false : refuse(c, "%s: expected an integer", name);
    if (hasup_json_int64(&text, to) || *to < least)
        return refuse(c, "%s: expected an integer of at least %lld, got %.*s", name,
                      (long long)least, text.len > 40 ? 40 : (int)text.len, text.at);
    return true;
}

static bool read_bool(struct completion *c, const char *name, bool *to)
{
    if (hasup_json_null(&c->json) || hasup_json_bool(&c->json, to))
        return true;
    return c->json.wrong ? false : refuse(c, "%s: expected true or false", name);
}

/* One part of a message: {"type": "text", "text": "…"}. */
static bool read_part(struct completion *c, const char *name, char *out, size_t *used)
{
    struct hasup_json_text key, type = {0}, text = {0};
    if (!hasup_json_enter(&c->json, '{'))
        return refuse(c, "%s: expected a string or a list of parts of text", name);
    for (bool first = true; hasup_json_member(&c->json, &first, &key);)
        if (!(hasup_json_is(&key, "type") && hasup_json_string(&c->json, &type)) &&
            !(hasup_json_is(&key, "text") && hasup_json_string(&c->json, &text)))
            hasup_json_skip(&c->json);
    if (c->json.wrong)
        return false;
    if (!type.at || !hasup_json_is(&type, "text") || !text.at)
        return refuse(c, "%s: this model reads parts of type \"text\" only", name);
    return decode(c, name, &text, out, used);
}

static bool read_content(struct completion *c, const char *name, const char **to)
{
    char kind = hasup_json_peek(&c->json);
    *to = "";
    if (kind == 'n')
        return hasup_json_null(&c->json);
    if (kind == '"')
        return read_string(c, name, to);
    if (kind && kind != '[')
        return refuse(c, "%s: expected a string or a list of parts of text", name);
    struct hasup_json ahead = c->json;
    hasup_json_skip(&ahead); /* what is decoded is never longer than it stood there */
    char *out = ahead.wrong ? NULL : text_room(c, (size_t)(ahead.at - c->json.at));
    size_t used = 0;
    if (ahead.wrong)
        hasup_json_skip(&c->json);
    if (!out)
        return false;
    *out = '\0';
    *to = out;
    hasup_json_enter(&c->json, '[');
    for (bool first = true; hasup_json_item(&c->json, &first);)
        if (!read_part(c, name, out, &used))
            return false;
    return !c->json.wrong;
}

static bool read_message(struct completion *c, size_t index, struct hasup_message *message)
{
    struct hasup_json_text key;
    char name[64];
    *message = (struct hasup_message){.text = ""};
    if (!hasup_json_enter(&c->json, '{'))
        return refuse(c, "messages[%zu]: expected an object", index);
    for (bool first = true; hasup_json_member(&c->json, &first, &key);) {
        bool read = true;
        if (hasup_json_is(&key, "role")) {
            snprintf(name, sizeof name, "messages[%zu].role", index);
            read = read_string(c, name, &message->role);
        } else if (hasup_json_is(&key, "content")) {
            snprintf(name, sizeof name, "messages[%zu].content", index);
            read = read_content(c, name, &message->text);
        } else {
            hasup_json_skip(&c->json);
        }
        if (!read)
            return false;
    }
    return message->role ? !c->json.wrong : refuse(c, "messages[%zu]: there is no role", index);
}

/* Room for one more of `count` things; false: refused. */
static bool grow(struct completion *c, void **list, size_t count, size_t size)
{
    if (count & (count - 1)) /* it grows at powers of two */
        return true;
    void *more = count < ITEMS_MAX ? realloc(*list, (count ? 2 * count : 1) * size) : NULL;
    if (!more)
        return refuse(c, count < ITEMS_MAX ? "out of memory" : "a list is too long");
    *list = more;
    return true;
}

static bool read_messages(struct completion *c)
{
    size_t count = 0;
    if (!hasup_json_enter(&c->json, '['))
        return refuse(c, "messages: expected a list");
    for (bool first = true; hasup_json_item(&c->json, &first); count++)
        if (!grow(c, (void **)&c->messages, count, sizeof *c->messages) ||
            !read_message(c, count, &c->messages[count]))
            return false;
    c->seen.messages = c->messages;
    c->seen.message_count = count;
    return !c->json.wrong;
}

static bool read_stop(struct completion *c)
{
    size_t count = 0;
    if (hasup_json_null(&c->json))
        return true;
    if (hasup_json_peek(&c->json) != '[') {
        if (!grow(c, (void **)&c->stop, 0, sizeof *c->stop) || !read_string(c, "stop", &c->stop[0]))
            return false;
        count = 1;
    } else {
        hasup_json_enter(&c->json, '[');
        for (bool first = true; hasup_json_item(&c->json, &first); count++)
            if (!grow(c, (void **)&c->stop, count, sizeof *c->stop) ||
                !read_string(c, "stop", &c->stop[count]))
                return false;
    }
    c->seen.stop = c->stop;
    c->seen.stop_count = count;
    return !c->json.wrong;
}

/* A string, or a list of one. */
static bool read_prompt(struct completion *c)
{
    bool first = true;
    if (hasup_json_null(&c->json))
        return true;
    if (!hasup_json_enter(&c->json, '['))
        return read_string(c, "prompt", &c->seen.prompt);
    if (!hasup_json_item(&c->json, &first) || hasup_json_peek(&c->json) != '"' ||
        !read_string(c, "prompt", &c->seen.prompt) || hasup_json_item(&c->json, &first))
        return refuse(c, "prompt: expected a string, or a list of one string");
    return !c->json.wrong;
}

static bool read_stream_options(struct completion *c)
{
    struct hasup_json_text key;
    if (hasup_json_null(&c->json))
        return true;
    if (!hasup_json_enter(&c->json, '{'))
        return refuse(c, "stream_options: expected an object");
    for (bool first = true; hasup_json_member(&c->json, &first, &key);)
        if (!hasup_json_is(&key, "include_usage"))
            hasup_json_skip(&c->json);
        else if (!read_bool(c, "stream_options.include_usage", &c->usage))
            return false;
    return !c->json.wrong;
}

/* n and best_of: one answer is what there is. */
static bool read_one(struct completion *c, const char *name)
{
    int64_t number = 1;
    if (!read_integer(c, name, &number, 1))
        return false;
    return number == 1 || refuse(c, "%s: a request has one answer here", name);
}

/* What changes the answer and is not done here: its absence would not be seen. */
static bool read_unwanted(struct completion *c, const char *name)
{
    struct hasup_json_text number;
    bool value = false;
    if (hasup_json_null(&c->json) || (hasup_json_bool(&c->json, &value) && !value))
        return true;
    if (!value && hasup_json_number(&c->json, &number) && hasup_json_double(&number) == 0)
        return true;
    return c->json.wrong ? false : refuse(c, "%s: not supported here", name);
}

static bool read_member(struct completion *c, const struct hasup_json_text *key)
{
    struct hasup_completion *seen = &c->seen;
    bool stream = seen->stream, read;
    if (hasup_json_is(key, "model"))
        return read_string(c, "model", &seen->model);
    if (hasup_json_is(key, "messages") && seen->chat)
        return read_messages(c);
    if (hasup_json_is(key, "prompt") && !seen->chat)
        return read_prompt(c);
    if (hasup_json_is(key, "max_tokens") && !(seen->chat && seen->max_tokens))
        return read_integer(c, "max_tokens", &seen->max_tokens, 1);
    if (hasup_json_is(key, "max_completion_tokens") && seen->chat)
        return read_integer(c, "max_completion_tokens", &seen->max_tokens, 1);
    if (hasup_json_is(key, "temperature"))
        return read_number(c, "temperature", &seen->temperature);
    if (hasup_json_is(key, "top_p"))
        return read_number(c, "top_p", &seen->top_p);
    if (hasup_json_is(key, "seed")) {
        seen->has_seed = hasup_json_peek(&c->json) != 'n';
        return read_integer(c, "seed", &seen->seed, INT64_MIN);
    }
    if (hasup_json_is(key, "stop"))
        return read_stop(c);
    if (hasup_json_is(key, "stream_options"))
        return read_stream_options(c);
    if (hasup_json_is(key, "n") || hasup_json_is(key, "best_of"))
        return read_one(c, hasup_json_is(key, "n") ? "n" : "best_of");
    if (hasup_json_is(key, "logprobs") || hasup_json_is(key, "echo"))
        return read_unwanted(c, hasup_json_is(key, "echo") ? "echo" : "logprobs");
    if (hasup_json_is(key, "stream")) {
        read = read_bool(c, "stream", &stream);
        seen->stream = stream;
        return read;
    }
    hasup_json_skip(&c->json);
    return !c->json.wrong;
}

static bool read_body(struct completion *c)
{
    struct hasup_json_text key;
    hasup_json_open(&c->json, c->request->body, c->request->len);
    if (!hasup_json_enter(&c->json, '{'))
        return refuse(c, "the body is not a JSON object");
    for (bool first = true; hasup_json_member(&c->json, &first, &key);)
        if (!read_member(c, &key))
            break;
    if (!c->why[0] && !hasup_json_ended(&c->json))
        return refuse(c, "the body is not JSON: at byte %zu %s", c->json.wrong_at, c->json.wrong);
    if (!c->why[0] && c->seen.chat && !c->seen.message_count)
        return refuse(c, "messages: there are none");
    if (!c->seen.model)
        c->seen.model = "";
    return !c->why[0];
}

/* {"id": …, "object": …, "created": …, "model": …, "choices": [ */
static bool make_opening(struct completion *c)
{
    struct hasup_writer *w = &c->opening;
    const char *received = hasup_request_header(c->request, "received");
    const char *object = !c->seen.chat    ? "text_completion"
                         : c->seen.stream ? "chat.completion.chunk"
                                          : "chat.completion";
    hasup_write_text(w, c->seen.chat ? "{\"id\":\"chatcmpl-" : "{\"id\":\"cmpl-");
    const char *id = hasup_request_id(c->request);
    hasup_write_escaped(w, id, strlen(id));
    hasup_write_text(w, "\",\"object\":\"");
    hasup_write_text(w, object);
    hasup_write_text(w, "\",\"created\":");
    hasup_write_int64(w, received ? strtoll(received, NULL, 10) : 0);
    hasup_write_text(w, ",\"model\":");
    hasup_write_string(w, c->seen.model);
    hasup_write_text(w, ",\"choices\":[");
    return w->failed ? refuse(c, "out of memory") : true;
}

struct hasup_completion *hasup_completion_read(const struct hasup_request *request,
                                               struct hasup_response *response)
{
    const char *route = hasup_request_route(request);
    struct completion *c = calloc(1, sizeof *c);
    if (!c) {
        hasup_error(response, 503, "out of memory");
        return NULL;
    }
    c->request = request;
    c->response = response;
    c->seen = (struct hasup_completion){
        .chat = !strcmp(route, "chat_completions"), .prompt = "", .temperature = -1, .top_p = -1};
    if (!c->seen.chat && strcmp(route, "completions") != 0)
        refuse(c, "this is no request of /v1/chat/completions or /v1/completions");
    else if (read_body(c) && make_opening(c))
        return &c->seen;
    hasup_error(response, 400, "%s", c->why);
    hasup_completion_free(&c->seen);
    return NULL;
}

void hasup_completion_free(struct hasup_completion *completion)
{
    struct completion *c = completion_of(completion);
    if (!c)
        return;
    while (c->texts) {
        struct hasup_text *next = c->texts->next;
        free(c->texts);
        c->texts = next;
    }
    free(c->messages);
    free(c->stop);
    free(c->out.bytes.at);
    free(c->opening.bytes.at);
    free(c);
}

/* ---- telling ---- */

static void write_opening(struct hasup_writer *w, const struct completion *c)
{
    hasup_write(w, c->opening.bytes.at, c->opening.bytes.len);
}

static void write_usage(struct hasup_writer *w, const struct completion *c, int64_t prompt_tokens)
{
    hasup_write_text(w, ",\"usage\":{\"prompt_tokens\":");
    hasup_write_int64(w, prompt_tokens);
    hasup_write_text(w, ",\"completion_tokens\":");
    hasup_write_int64(w, c->tokens);
    hasup_write_text(w, ",\"total_tokens\":");
    hasup_write_int64(w, prompt_tokens + c->tokens);
    hasup_write_text(w, "}}");
}

/* "logprobs": null, "finish_reason": …} */
static void write_choice_end(struct hasup_writer *w, const char *finish_reason)
{
    hasup_write_text(w, ",\"logprobs\":null,\"finish_reason\":");
    if (finish_reason)
        hasup_write_string(w, finish_reason);
    else
        hasup_write_text(w, "null");
    hasup_write_text(w, "}");
}

static int send_event(struct completion *c)
{
    struct hasup_writer *w = &c->out;
    int error = w->failed ? HASUP_ENOMEM : hasup_chunk(c->response, w->bytes.at, w->bytes.len);
    w->bytes.len = 0;
    return error;
}

/* One event of a stream; `role`: its first. */
static int tell_event(struct completion *c, const char *role, const char *text, size_t len,
                      const char *finish_reason)
{
    struct hasup_writer *w = &c->out;
    write_opening(w, c);
    hasup_write_text(w, "{\"index\":0,");
    hasup_write_text(w, c->seen.chat ? "\"delta\":{" : "\"text\":\"");
    if (role) {
        hasup_write_text(w, "\"role\":");
        hasup_write_string(w, role);
        hasup_write_text(w, ",");
    }
    if (c->seen.chat && text)
        hasup_write_text(w, "\"content\":\"");
    hasup_write_escaped(w, text, len);
    if (c->seen.chat ? text != NULL : true)
        hasup_write_text(w, "\"");
    if (c->seen.chat)
        hasup_write_text(w, "}");
    write_choice_end(w, finish_reason);
    hasup_write_text(w, c->usage ? "],\"usage\":null}" : "]}");
    return send_event(c);
}

/* A chat's first event says who speaks. */
static int begin(struct completion *c)
{
    bool says = c->seen.chat && !c->begun;
    c->begun = true;
    return says ? tell_event(c, "assistant", "", 0, NULL) : 0;
}

void hasup_completion_resume(struct hasup_completion *completion, int64_t tokens)
{
    struct completion *c = completion_of(completion);
    c->begun = true;
    c->tokens = tokens;
    hasup_resume_at(c->response, c->request->progress_at);
}

int hasup_completion_text(struct hasup_completion *completion, const char *text, size_t len,
                          int64_t tokens)
{
    struct completion *c = completion_of(completion);
    c->tokens += tokens;
    if (!c->seen.stream) {
        hasup_write_escaped(&c->out, text, len);
        return c->out.failed ? HASUP_ENOMEM : 0;
    }
    int error = begin(c);
    return error ? error : tell_event(c, NULL, text, len, NULL);
}

static int end_stream(struct completion *c, const char *finish_reason, int64_t prompt_tokens)
{
    static const char done[] = "[DONE]";
    int error = begin(c);
    if (!error)
        error = tell_event(c, NULL, NULL, 0, finish_reason);
    if (!error && c->usage) {
        write_opening(&c->out, c);
        hasup_write_text(&c->out, "]");
        write_usage(&c->out, c, prompt_tokens);
        error = send_event(c);
    }
    return error ? error : hasup_chunk(c->response, done, sizeof done - 1);
}

static int end_whole(struct completion *c, const char *finish_reason, int64_t prompt_tokens)
{
    struct hasup_writer w = {.failed = c->out.failed};
    write_opening(&w, c);
    hasup_write_text(&w, c->seen.chat
                             ? "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\""
                             : "{\"index\":0,\"text\":\"");
    hasup_write(&w, c->out.bytes.at, c->out.bytes.len);
    hasup_write_text(&w, c->seen.chat ? "\"}" : "\"");
    write_choice_end(&w, finish_reason);
    hasup_write_text(&w, "]");
    write_usage(&w, c, prompt_tokens);
    int error = w.failed ? HASUP_ENOMEM : hasup_reply(c->response, w.bytes.at, w.bytes.len);
    free(w.bytes.at);
    return error ? error : hasup_reply_type(c->response, "application/json");
}

int hasup_completion_end(struct hasup_completion *completion, const char *finish_reason,
                         int64_t prompt_tokens)
{
    struct completion *c = completion_of(completion);
    int error = c->seen.stream ? end_stream(c, finish_reason, prompt_tokens)
                               : end_whole(c, finish_reason, prompt_tokens);
    hasup_completion_free(completion);
    return error;
}
