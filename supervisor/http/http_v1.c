/*
 * http_v1.c: what is particular about the routes that OpenAI's clients use: the model is named
 * inside of the body, which is read in place and never copied; models are told as a list; errors
 * have a shape of their own.  What a request or an answer says is between client and worker.
 */
#include "supervisor/http/connection.h"

#include "ipc/json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { NAME_ROOM = 255, REASON_ROOM = 160 };

/* ---- the model that a body names ---- */

/* The whole body is read, because which of two fields would count differs from reader to reader.
 * The name's length, or -1 and the reason. */
static int64_t model_named(const uint8_t *bytes, size_t len, char name[NAME_ROOM],
                           char reason[REASON_ROOM])
{
    struct hasup_json json;
    struct hasup_json_text key, model = {0};
    bool named = false;
    hasup_json_open(&json, bytes, len);
    if (!hasup_json_enter(&json, '{')) {
        snprintf(reason, REASON_ROOM, "the body is not a JSON object");
        return -1;
    }
    for (bool first = true; hasup_json_member(&json, &first, &key);) {
        if (!hasup_json_is(&key, "model")) {
            hasup_json_skip(&json);
        } else if (named || !hasup_json_string(&json, &model)) {
            snprintf(reason, REASON_ROOM, "the body's field \"model\" %s",
                     named ? "stands there twice" : "is not a string");
            return -1;
        } else {
            named = true;
        }
    }
    if (!hasup_json_ended(&json)) {
        snprintf(reason, REASON_ROOM, "the body is not JSON: at byte %zu %s", json.wrong_at,
                 json.wrong);
        return -1;
    }
    snprintf(reason, REASON_ROOM, "the body has no field \"model\"");
    int64_t got = named ? hasup_json_decode(&model, name, NAME_ROOM) : -1;
    return got < 0 && named ? 0 : got; /* 0: no model has such a name */
}

bool v1_find_model(struct connection *c)
{
    const uint8_t *bytes = c->body.view ? c->body.view : c->body.bytes;
    char name[NAME_ROOM], reason[REASON_ROOM];
    struct model_info info;
    int64_t len = model_named(bytes, (size_t)c->body.len, name, reason);
    int model = len > 0 ? engine_model(c->http->engine, name, (size_t)len) : -1;
    if (len < 0)
        answer_verdict(c, 400, "bad_request", reason);
    else if (model < 0 || !engine_model_info(c->http->engine, (uint32_t)model, &info))
        answer_verdict(c, 404, "model_not_found", refusal_message(REFUSED_NOT_FOUND));
    else if (c->body.len > info.body_max)
        answer_verdict(c, 413, "too_large", "the body is over the model's body_max");
    else {
        c->model = (uint32_t)model;
        return true;
    }
    return false;
}

uint64_t v1_body_max(const struct http *http)
{
    uint64_t most = 0, one;
    for (uint32_t i = 0; i < engine_models(http->engine); i++)
        if (engine_model_body_max(http->engine, i, &one) && one > most)
            most = one;
    return most;
}

size_t v1_received(char *field, size_t room)
{
    static const char name[] = "received";
    memcpy(field, name, sizeof name);
    return sizeof name + (size_t)snprintf(field + sizeof name, room - sizeof name, "%lld",
                                          (long long)time(NULL));
}

/* ---- the models ---- */

static json_t *model_object(const struct http *http, const struct model_info *info)
{
    return json_pack("{s:s, s:s, s:I, s:s}", "id", info->name, "object", "model", "created",
                     (json_int_t)http->begun_s, "owned_by", "hasup");
}

void v1_models(struct connection *c)
{
    json_t *list = json_array();
    struct model_info info;
    for (uint32_t i = 0; i < engine_models(c->http->engine); i++)
        if (engine_model_info(c->http->engine, i, &info))
            json_array_append_new(list, model_object(c->http, &info));
    answer_object(c, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void v1_model(struct connection *c)
{
    struct model_info info;
    if (engine_model_info(c->http->engine, c->model, &info))
        answer_object(c, 200, model_object(c->http, &info));
    else
        answer_verdict(c, 404, "model_not_found", refusal_message(REFUSED_NOT_FOUND));
}

/* ---- errors ---- */

static const char *error_type(uint32_t status)
{
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 429 ? "rate_limit_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

json_t *v1_error(uint32_t status, const char *code, json_t *message)
{
    bool model = !strcmp(code, "model_not_found");
    return json_pack("{s:{s:o, s:s, s:s?, s:s}}", "error", "message", message, "type",
                     error_type(status), "param", model ? "model" : NULL, "code", code);
}
