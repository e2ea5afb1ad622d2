/*
 * http_routes.c: the routes, and what each does with a whole request.  A route is either answered
 * here from what the engine tells of its models, or its body goes unread to a worker under the
 * route's name.
 */
#include "supervisor/http/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { SEGMENTS = 6, NAME_MAX_BYTES = 255 };

static void get_server(struct connection *c);
static void get_live(struct connection *c);
static void get_ready(struct connection *c);
static void get_model(struct connection *c);
static void get_model_ready(struct connection *c);
static void get_metrics(struct connection *c);
static void run_record(struct connection *c);

#define V1         "v1"
#define V2_MODEL   "v2", "models", "*"
#define V2_VERSION V2_MODEL, "versions", "?"

static const struct route ROUTES[] = {
    {{V2_MODEL, "infer"}, METHOD_POST, "infer", NULL},
    {{"models", "*", "invoke"}, METHOD_POST, "invoke", NULL},
    {{"models", "*", "proxy", "+"}, METHOD_ANY, "proxy", NULL},
    {{V2_VERSION, "infer"}, METHOD_POST, "infer", NULL},
    {{V2_MODEL, "generate"}, METHOD_POST, "generate", NULL},
    {{V2_MODEL, "generate_stream"}, METHOD_POST, "generate_stream", NULL},
    {{V2_VERSION, "generate"}, METHOD_POST, "generate", NULL},
    {{V2_VERSION, "generate_stream"}, METHOD_POST, "generate_stream", NULL},
    {{"v2"}, METHOD_GET, NULL, get_server},
    {{"v2", "health", "live"}, METHOD_GET, NULL, get_live},
    {{"v2", "health", "ready"}, METHOD_GET, NULL, get_ready},
    {{V2_MODEL}, METHOD_GET, NULL, get_model},
    {{V2_VERSION}, METHOD_GET, NULL, get_model},
    {{V2_MODEL, "ready"}, METHOD_GET, NULL, get_model_ready},
    {{V2_VERSION, "ready"}, METHOD_GET, NULL, get_model_ready},
    {{V1, "chat", "completions"}, METHOD_POST, "chat_completions", NULL},
    {{V1, "completions"}, METHOD_POST, "completions", NULL},
    {{V1, "models"}, METHOD_GET, NULL, v1_models},
    {{V1, "models", "*"}, METHOD_GET, NULL, v1_model},
    {{"metrics"}, METHOD_GET, NULL, get_metrics},
    {{"requests", "#"}, METHOD_GET | METHOD_DELETE, NULL, run_record},
};

/* ---- finding ---- */

struct segment {
    const char *at;
    size_t len;
};

/* The path of a request's target: "/a?b", or "http://host/a?b". */
static struct segment path_of(const char *target, size_t len)
{
    if (len > 7 && !strncasecmp(target, "http://", 7)) {
        const char *path = memchr(target + 7, '/', len - 7);
        len = path ? len - (size_t)(path - target) : 0;
        target = path;
    }
    const char *query = len ? memchr(target, '?', len) : NULL;
    return (struct segment){target, query ? (size_t)(query - target) : len};
}

/* The number of segments; SEGMENTS + 1: too many.  One slash at the end is passed over. */
static size_t split(struct segment path, struct segment *segments)
{
    size_t count = 0;
    const char *at = path.at, *end = path.at + path.len;
    while (at < end) {
        const char *start = at + 1;
        const char *slash = start < end ? memchr(start, '/', (size_t)(end - start)) : NULL;
        at = slash ? slash : end;
        if (start == end)
            break;
        if (count == SEGMENTS)
            return SEGMENTS + 1;
        segments[count++] = (struct segment){start, (size_t)(at - start)};
    }
    return count;
}

static bool segment_is(struct segment segment, const char *word)
{
    return segment.len == strlen(word) && !memcmp(segment.at, word, segment.len);
}

static bool matches(const struct route *route, const struct segment *segments, size_t count)
{
    for (size_t i = 0; i < SEGMENTS; i++) {
        const char *want = route->segments[i];
        if (want && *want == '+')
            return true;
        if (!want || i == count)
            return !want && i == count;
        if (*want == '*' || *want == '?' || *want == '#')
            continue;
        if (!segment_is(segments[i], want))
            return false;
    }
    return count == SEGMENTS;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes a segment; its length, or a negative code. */
static int decode(struct segment segment, char *out, size_t room)
{
    size_t len = 0;
    for (size_t i = 0; i < segment.len; i++) {
        char byte = segment.at[i];
        if (byte == '%') {
            int high = i + 2 < segment.len ? hex(segment.at[i + 1]) : -1;
            int low = high < 0 ? -1 : hex(segment.at[i + 2]);
            if (low < 0)
                return HASUP_EINVAL;
            byte = (char)(high << 4 | low);
            i += 2;
        }
        if (len + 1 >= room || (unsigned char)byte < 0x20 || byte == 0x7f)
            return HASUP_EINVAL;
        out[len++] = byte;
    }
    out[len] = '\0';
    return (int)len;
}

static void not_found(struct connection *c, const char *what)
{
    c->verdict = (struct verdict){404, "not_found", what};
}

static void no_such_model(struct connection *c)
{
    not_found(c, refusal_message(REFUSED_NOT_FOUND));
    if (c->shape == SHAPE_V1)
        c->verdict.code = "model_not_found";
}

/* The model stands in the body, which is not there yet. */
static bool is_named_by_body(const struct route *route)
{
    return route->worker && !strcmp(route->segments[0], V1);
}

static void find_model(struct connection *c, const struct segment *segments, char *version,
                       size_t room)
{
    static const char field[] = "model-version";
    char name[NAME_MAX_BYTES + 1];
    struct model_info info;
    if (is_named_by_body(c->route))
        c->body.max = v1_body_max(c->http);
    for (size_t i = 0; i < SEGMENTS && c->route->segments[i]; i++) {
        char kind = c->route->segments[i][0];
        int len = kind == '*' ? decode(segments[i], name, sizeof name) : 0;
        int model = kind == '*' && len > 0 ? engine_model(c->http->engine, name, (size_t)len) : -1;
        if (kind == '#' && segments[i].len != RECORD_ID) {
            not_found(c, "there is no such request");
            return;
        }
        if (kind == '#') {
            memcpy(c->record, segments[i].at, RECORD_ID);
            c->record[RECORD_ID] = '\0';
        } else if (kind == '?') {
            memcpy(version, field, sizeof field);
            if (decode(segments[i], version + sizeof field, room - sizeof field) <= 0)
                not_found(c, "there is no such version");
        } else if (kind == '*' &&
                   (model < 0 || !engine_model_info(c->http->engine, (uint32_t)model, &info))) {
            no_such_model(c);
            return;
        } else if (kind == '*' && c->proxied && !info.adapted) {
            not_found(c, "the model has no adapter, so it has no paths of its own");
            return;
        } else if (kind == '*') {
            c->model = (uint32_t)model;
            c->body.max = info.body_max;
        }
    }
}

static uint8_t method_of(const struct connection *c)
{
    if (c->parser.method == HTTP_GET || c->parser.method == HTTP_HEAD)
        return METHOD_GET;
    if (c->parser.method == HTTP_DELETE)
        return METHOD_DELETE;
    if (c->parser.method == HTTP_PUT || c->parser.method == HTTP_PATCH ||
        (c->parser.method == HTTP_OPTIONS && c->proxied))
        return METHOD_OTHER;
    return c->parser.method == HTTP_POST ? METHOD_POST : 0;
}

const char *route_rest(const char *target, size_t len, size_t *rest_len)
{
    enum { BEFORE = 3 };
    struct segment segments[SEGMENTS], path = path_of(target, len);
    split(path, segments);
    const char *rest = segments[BEFORE - 1].at + segments[BEFORE - 1].len;
    *rest_len = (size_t)(target + len - rest);
    return *rest_len ? rest : "/";
}

void route_find(struct connection *c, const char *target, size_t len, char *version, size_t room)
{
    struct segment segments[SEGMENTS], path = path_of(target, len);
    bool asterisk = len == 1 && *target == '*' && c->parser.method == HTTP_OPTIONS;
    size_t count = path.len && !asterisk ? split(path, segments) : 0;
    c->route = NULL;
    c->proxied = false;
    c->shape = !count                          ? SHAPE_OWN
               : segment_is(segments[0], V1)   ? SHAPE_V1
               : segment_is(segments[0], "v2") ? SHAPE_V2
                                               : SHAPE_OWN;
    if (asterisk)
        return;
    if (!path.len || path.at[0] != '/') {
        c->verdict = (struct verdict){400, "bad_request", "the request's target is not a path"};
        c->keep_alive = false;
        return;
    }
    for (size_t i = 0; i < HASUP_LEN(ROUTES) && !c->route; i++)
        if (matches(&ROUTES[i], segments, count))
            c->route = &ROUTES[i];
    c->proxied = c->route && c->route->methods == METHOD_ANY;
    if (!c->route)
        not_found(c, "there is no such route");
    else if (c->parser.method == HTTP_OPTIONS && !c->proxied)
        return;
    else if (!(c->route->methods & method_of(c)))
        c->verdict = (struct verdict){405, "bad_request", "the route has no such method"};
    else
        find_model(c, segments, version, room);
}

const char *route_allow(const struct connection *c)
{
    if (!c->route)
        return "GET, HEAD, POST, DELETE, OPTIONS";
    if (c->proxied)
        return "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    if (c->route->methods & METHOD_DELETE)
        return "GET, HEAD, DELETE, OPTIONS";
    return c->route->methods & METHOD_GET ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

/* ---- answered here ---- */

static void get_server(struct connection *c)
{
    const struct http_options *o = &c->http->options;
    answer_object(
        c, 200,
        json_pack("{s:s, s:s, s:[]}", "name", o->name, "version", o->version, "extensions"));
}

static void get_live(struct connection *c)
{
    answer_json(c, 200, "{\"live\":true}");
}

static void get_ready(struct connection *c)
{
    bool ready = engine_ready(c->http->engine);
    answer_json(c, ready ? 200 : 503, ready ? "{\"ready\":true}" : "{\"ready\":false}");
}

static void get_metrics(struct connection *c)
{
    size_t len;
    char *text = engine_metrics(c->http->engine, &len);
    if (text)
        answer_plain(c, "text/plain; version=0.0.4; charset=utf-8", text, len);
    else
        answer_verdict(c, 503, "unavailable", "out of memory");
    free(text);
}

/* A part of the worker's words, where it is what OIP v2 says; else what stands for nothing. */
static void put_part(json_t *object, const char *name, json_t *said, json_type type,
                     json_t *nothing)
{
    json_t *part = json_object_get(said, name);
    bool sound = part && json_typeof(part) == type;
    if (sound)
        json_object_set(object, name, part);
    else if (nothing)
        json_object_set(object, name, nothing);
    json_decref(nothing);
    json_object_del(said, name);
}

/* The worker's own words about the model, in the order and completed to what OIP v2 asks for. */
static void get_model(struct connection *c)
{
    struct model_info info;
    if (!engine_model_info(c->http->engine, c->model, &info)) {
        answer_verdict(c, 404, "not_found", refusal_message(REFUSED_NOT_FOUND));
        return;
    }
    json_t *said = info.metadata ? json_loadb(info.metadata, info.metadata_len, 0, NULL) : NULL;
    json_t *object = json_pack("{s:s}", "name", info.name);
    json_object_del(said, "name");
    put_part(object, "versions", said, JSON_ARRAY, NULL);
    put_part(object, "platform", said, JSON_STRING, json_string(""));
    put_part(object, "inputs", said, JSON_ARRAY, json_array());
    put_part(object, "outputs", said, JSON_ARRAY, json_array());
    if (json_is_object(said))
        json_object_update(object, said); /* whatever else it says */
    json_decref(said);
    answer_object(c, 200, object);
}

static void get_model_ready(struct connection *c)
{
    struct model_info info;
    if (!engine_model_info(c->http->engine, c->model, &info)) {
        answer_verdict(c, 404, "not_found", refusal_message(REFUSED_NOT_FOUND));
        return;
    }
    answer_object(c, info.ready ? 200 : 503,
                  json_pack("{s:s, s:b}", "name", info.name, "ready", (int)info.ready));
}

/* ---- handed to the engine ---- */

/* The engine would not take it. */
static void not_taken(struct connection *c, int error)
{
    bool full = error == HASUP_EFULL;
    struct refusal_text text = {.status = full ? 429 : 503,
                                .code = full ? "overloaded" : "unavailable",
                                .message =
                                    full ? refusal_message(REFUSED_OVERLOADED) : "out of memory",
                                .retry_after = HASUP_S};
    if (error == HASUP_ENOTFOUND)
        answer_verdict(c, 404, "not_found", "there is no such request");
    else
        answer_error(c, &text);
}

static void submit(struct connection *c)
{
    if (c->shape == SHAPE_V2 && !strcmp(c->route->worker, "infer") && !v2_parameters(c))
        return;
    if (!c->key_len)
        c->heard = 0; /* what nobody can come back for begins anew, and so do its numbers */
    struct submission s = {.door = &HTTP_DOOR,
                           .context = c,
                           .model = c->model,
                           .priority = c->priority,
                           .deadline = c->at_most,
                           .meta = c->meta,
                           .meta_len = c->meta_len,
                           .body = {.len = c->body.len},
                           .key = {c->meta + c->key_at, c->key_len},
                           .client = c->client,
                           .async = c->async,
                           .no_wait = c->waits && !c->wait,
                           .heard = c->heard,
                           .heard_of = c->heard_of};
    if (c->body.buffer)
        s.body.buffer = c->body.buffer;
    else
        s.body.bytes = c->body.view ? c->body.view : c->body.bytes;
    /* Who has events of it already hears events, even where only the last one is missing. */
    c->sse = !strcmp(c->route->worker, "generate_stream") ||
             (c->heard && (c->accepts_sse || c->shape == SHAPE_V1));
    c->state = CONNECTION_PENDING;
    c->http->acted = true;
    int error = engine_submit(c->http->engine, &s, &c->request);
    if (error)
        not_taken(c, error);
    else if (c->state == CONNECTION_PENDING)
        connection_drop_request(c);
}

/* ---- a durable request, by its number ---- */

void answer_record(struct connection *c)
{
    static const char *const STATES[] = {
        [RECORD_UNKNOWN] = "unknown", [RECORD_WAITING] = "waiting", [RECORD_QUEUED] = "queued",
        [RECORD_RUNNING] = "running", [RECORD_DONE] = "done",       [RECORD_REFUSED] = "refused"};
    struct record_info info;
    if (engine_record(c->http->engine, c->record, RECORD_ID, &info)) {
        answer_verdict(c, 404, "not_found", "there is no such request");
        return;
    }
    json_t *object = json_pack("{s:s, s:s, s:i}", "id", c->record, "state", STATES[info.state],
                               "attempts", (int)info.attempts);
    if (info.model[0])
        json_object_set_new(object, "model", json_string(info.model));
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text)
        answer_text_of_record(c, text);
    else
        answer_verdict(c, 503, "unavailable", "out of memory");
    free(text);
}

bool record_goes_on(const struct connection *c)
{
    struct record_info info;
    return engine_record(c->http->engine, c->record, RECORD_ID, &info) == 0 &&
           info.state != RECORD_REFUSED;
}

static void drop_record(struct connection *c)
{
    if (engine_drop(c->http->engine, c->record, RECORD_ID))
        answer_verdict(c, 404, "not_found", "there is no such request");
    else
        answer_object(c, 200, json_pack("{s:s, s:s}", "id", c->record, "state", "dropped"));
}

/* Whether its end can be told at once, or is to be waited for. */
static bool is_wanted_now(const struct connection *c)
{
    struct record_info info;
    return engine_record(c->http->engine, c->record, RECORD_ID, &info) == 0 &&
           (info.state == RECORD_DONE || info.state == RECORD_REFUSED || c->wait || c->accepts_sse);
}

/* GET: the answer, as its own client would have heard it; before there is one, its state. */
static void run_record(struct connection *c)
{
    struct submission s = {.door = &HTTP_DOOR,
                           .context = c,
                           .deadline = c->wait ? loop_now(c->http->loop) + c->wait : 0,
                           .heard = c->heard,
                           .heard_of = c->heard_of};
    if (method_of(c) == METHOD_DELETE) {
        drop_record(c);
        return;
    }
    if (!is_wanted_now(c)) {
        answer_record(c);
        return;
    }
    c->sse = c->accepts_sse;
    c->state = CONNECTION_PENDING;
    c->http->acted = true;
    int error = engine_ask(c->http->engine, c->record, RECORD_ID, &s, &c->request);
    if (error)
        not_taken(c, error);
    else if (c->state == CONNECTION_PENDING)
        connection_drop_request(c);
}

void route_run(struct connection *c)
{
    if (c->verdict.status)
        answer_verdict(c, c->verdict.status, c->verdict.code, c->verdict.message);
    else if (c->parser.method == HTTP_OPTIONS && !c->proxied)
        answer_options(c);
    else if (c->route->worker && (!is_named_by_body(c->route) || v1_find_model(c)))
        submit(c);
    else if (!c->route->worker)
        c->route->answer(c);
}
