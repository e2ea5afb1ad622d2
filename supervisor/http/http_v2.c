/*
 * http_v2.c: the parameters of an Open Inference Protocol request that are meant for hasupd:
 * `timeout` in microseconds, `priority` (1 first, 0 the default) and `sequence_id`, a number or a
 * text (0 and "": none), which is the session.  They stand in the body, which passes to the worker
 * as it came; headers that say the same count before them.
 * Only a JSON part that is short is looked at, so that tensors written as JSON cost nothing here.
 * What is not JSON is the worker's to refuse.
 */
#include "supervisor/http/connection.h"

#include "ipc/json.h"

enum { READ_MOST = 64 * 1024, LAST_PRIORITY = 9 };

/* A whole number above 0; else 0. */
static uint64_t number(struct hasup_json *json)
{
    struct hasup_json_text text;
    uint64_t value = 0;
    if (!hasup_json_number(json, &text)) {
        hasup_json_skip(json);
        return 0;
    }
    return hasup_json_uint64(&text, &value) ? 0 : value;
}

static void take_timeout(struct connection *c, uint64_t us)
{
    const uint64_t most = (uint64_t)(HASUP_NEVER / 4 / HASUP_US);
    if (us && !c->at_most)
        c->at_most = loop_now(c->http->loop) + (hasup_ns)(us < most ? us : most) * HASUP_US;
}

/* False: it cannot be a session. */
static bool put_session(struct connection *c, const char *id, size_t len)
{
    struct hasup_meta_writer meta;
    if (!head_is_id(id, len))
        return false;
    hasup_meta_start(&meta, c->meta + c->meta_len, HTTP_SESSION_ROOM);
    hasup_meta_put(&meta, HASUP_TAG_SESSION, id, len);
    c->meta_len += (uint32_t)meta.used;
    c->session = true;
    return true;
}

static bool take_sequence(struct connection *c, struct hasup_json *json)
{
    struct hasup_json_text text;
    char id[HTTP_ID_MAX];
    uint64_t value;
    if (hasup_json_number(json, &text)) {
        if (hasup_json_uint64(&text, &value))
            return false;
        return !value || c->session || put_session(c, text.at, text.len);
    }
    if (hasup_json_null(json))
        return true;
    if (!hasup_json_string(json, &text)) {
        hasup_json_skip(json);
        return json->wrong != NULL; /* that is the worker's to refuse */
    }
    int64_t len = hasup_json_decode(&text, id, sizeof id);
    return !len || c->session || (len > 0 && put_session(c, id, (size_t)len));
}

/* False: sequence_id is wrong. */
static bool take_parameters(struct connection *c, struct hasup_json *json)
{
    struct hasup_json_text key;
    bool right = true;
    if (!hasup_json_enter(json, '{')) {
        hasup_json_skip(json);
        return true;
    }
    for (bool first = true; hasup_json_member(json, &first, &key);) {
        if (hasup_json_is(&key, "timeout")) {
            take_timeout(c, number(json));
        } else if (hasup_json_is(&key, "priority")) {
            uint64_t value = number(json);
            if (value && !c->priority)
                c->priority = (uint8_t)(value < LAST_PRIORITY ? value : LAST_PRIORITY);
        } else if (hasup_json_is(&key, "sequence_id")) {
            right = take_sequence(c, json) && right;
        } else {
            hasup_json_skip(json);
        }
    }
    return right;
}

bool v2_parameters(struct connection *c)
{
    const uint8_t *bytes = c->body.view ? c->body.view : c->body.bytes;
    uint64_t len = c->json_len && c->json_len < c->body.len ? c->json_len : c->body.len;
    struct hasup_json json;
    struct hasup_json_text key;
    bool right = true;
    if (!len || len > READ_MOST || bytes[0] != '{')
        return true;
    hasup_json_open(&json, bytes, (size_t)len);
    hasup_json_enter(&json, '{');
    for (bool first = true; hasup_json_member(&json, &first, &key);)
        if (hasup_json_is(&key, "parameters"))
            right = take_parameters(c, &json) && right;
        else
            hasup_json_skip(&json);
    if (!right)
        answer_verdict(c, 400, "bad_request",
                       "parameters.sequence_id is neither a whole number nor 1 to 128 printable "
                       "ASCII characters");
    return right;
}
