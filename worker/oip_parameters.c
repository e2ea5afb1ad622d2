/*
 * oip_parameters.c: the parameters of an inference request and of its tensors, found when they are
 * asked for.
 */
#include "worker/oip.h"

#include <stdio.h>

bool hasup_oip_parameter(const struct slice *parameters, const char *name, struct hasup_json *json)
{
    struct hasup_json_text key;
    hasup_json_open(json, parameters->at, parameters->len);
    if (!hasup_json_enter(json, '{'))
        return false;
    for (bool first = true; hasup_json_member(json, &first, &key);) {
        if (hasup_json_is(&key, name))
            return hasup_json_peek(json) != 'n';
        hasup_json_skip(json);
    }
    return false;
}

static bool find(const struct hasup_infer *infer, const char *input, const char *name,
                 struct hasup_json *json)
{
    const struct slice *parameters = input ? NULL : &infer->parameters;
    for (size_t i = 0; input && i < infer->input_count; i++)
        if (!strcmp(infer->inputs[i].tensor.name, input))
            parameters = &infer->inputs[i].parameters;
    return parameters && hasup_oip_parameter(parameters, name, json);
}

static void wrong_kind(struct hasup_infer *infer, const char *name, const char *what)
{
    hasup_oip_refuse(infer, 400, "parameter \"%.60s\": expected %s", name, what);
}

int64_t hasup_infer_integer(struct hasup_infer *infer, const char *input, const char *name,
                            int64_t otherwise)
{
    struct hasup_json json;
    struct hasup_json_text text;
    int64_t value;
    if (!find(infer, input, name, &json))
        return otherwise;
    if (hasup_json_number(&json, &text) && !hasup_json_int64(&text, &value))
        return value;
    wrong_kind(infer, name, "an integer");
    return otherwise;
}

double hasup_infer_number(struct hasup_infer *infer, const char *input, const char *name,
                          double otherwise)
{
    struct hasup_json json;
    struct hasup_json_text text;
    if (!find(infer, input, name, &json))
        return otherwise;
    if (hasup_json_number(&json, &text))
        return hasup_json_double(&text);
    wrong_kind(infer, name, "a number");
    return otherwise;
}

int hasup_infer_flag(struct hasup_infer *infer, const char *input, const char *name, int otherwise)
{
    struct hasup_json json;
    bool value;
    if (!find(infer, input, name, &json))
        return otherwise;
    if (hasup_json_bool(&json, &value))
        return value;
    wrong_kind(infer, name, "true or false");
    return otherwise;
}

const char *hasup_infer_text(struct hasup_infer *infer, const char *input, const char *name,
                             const char *otherwise)
{
    struct hasup_json json, kept = infer->json;
    const char *value = otherwise;
    char where[80];
    if (!find(infer, input, name, &json))
        return otherwise;
    snprintf(where, sizeof where, "parameter \"%.60s\"", name);
    infer->json = json;
    if (!hasup_oip_read_name(infer, where, &value))
        value = otherwise;
    infer->json = kept;
    return value;
}

bool hasup_oip_read_flag(struct hasup_infer *infer, const struct slice *parameters,
                         const char *name, bool *flag)
{
    struct hasup_json json;
    if (!hasup_oip_parameter(parameters, name, &json) || hasup_json_bool(&json, flag))
        return true;
    wrong_kind(infer, name, "true or false");
    return false;
}
