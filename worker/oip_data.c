/*
 * oip_data.c: the elements of one tensor, from JSON or binary data into an array.  An array is made
 * only when its size is known to be in proportion to the bytes that are there; binary data that is
 * aligned for its type stays where it is, as strings without escapes do.
 */
#include "worker/oip.h"

#include <stdio.h>
#include <stdlib.h>

enum { SHOWN_MAX = 40 };

/* A string's bytes, which stay in the body where it has no escapes. */
static bool take_bytes(struct hasup_infer *infer, const char *where,
                       const struct hasup_json_text *text, struct hasup_string *to)
{
    if (!text->escaped) {
        *to = (struct hasup_string){text->at, text->len};
        return true;
    }
    char *out = hasup_oip_room(infer, text->len);
    int64_t len = out ? hasup_json_decode(text, out, text->len) : 0;
    if (len < 0)
        return hasup_oip_refuse(infer, 400, "%.100s: a string has half of a surrogate pair", where);
    *to = (struct hasup_string){out, (size_t)len};
    return out;
}

static bool element_wrong(struct hasup_infer *infer, const struct oip_input *in, size_t index,
                          const char *at)
{
    size_t len = 0, left = (size_t)(infer->json.end - at);
    if (infer->json.wrong)
        return hasup_oip_malformed(infer);
    while (len < left && len < SHOWN_MAX && !strchr(",]} \n\r\t", at[len]))
        len++;
    return hasup_oip_refuse(infer, 400, "input \"%.100s\": element %zu is not of datatype %s: %.*s",
                            in->tensor.name, index, hasup_datatype_of(in->tensor.datatype)->name,
                            (int)len, at);
}

static bool read_element(struct hasup_infer *infer, struct oip_input *in, size_t index)
{
    const struct datatype *type = hasup_datatype_of(in->tensor.datatype);
    struct hasup_json_text text;
    hasup_json_peek(&infer->json);
    const char *at = infer->json.at;
    if (type->read) {
        if (type->read(&infer->json, (char *)in->owned + index * type->size))
            return true;
        return element_wrong(infer, in, index, at);
    }
    if (!hasup_json_string(&infer->json, &text))
        return element_wrong(infer, in, index, at);
    return take_bytes(infer, in->tensor.name, &text, (struct hasup_string *)in->owned + index);
}

static bool wrong_count(struct hasup_infer *infer, const struct oip_input *in, const char *got)
{
    char shape[256];
    return hasup_oip_refuse(
        infer, 400, "input \"%.100s\": shape %s has %zu elements, data has %s", in->tensor.name,
        hasup_oip_shape_text(in->tensor.shape, in->tensor.rank, shape), in->tensor.count, got);
}

static bool read_flat(struct hasup_infer *infer, struct oip_input *in)
{
    char got[24];
    size_t index = 0;
    for (bool first = true; hasup_json_item(&infer->json, &first); index++)
        if (index == in->tensor.count)
            return wrong_count(infer, in, "more");
        else if (!read_element(infer, in, index))
            return false;
    snprintf(got, sizeof got, "%zu", index);
    return index == in->tensor.count ? true : wrong_count(infer, in, got);
}

/* Lists in lists, which must be as long as the shape says.  At most HASUP_RANK_MAX deep. */
static bool read_nested(struct hasup_infer *infer, struct oip_input *in, size_t depth,
                        size_t *index)
{
    const struct hasup_tensor *t = &in->tensor;
    int64_t items = 0;
    if (depth == t->rank)
        return read_element(infer, in, (*index)++);
    if (!hasup_json_enter(&infer->json, '['))
        return hasup_oip_refuse(infer, 400,
                                "input \"%.100s\": data is nested %zu deep, its shape %zu", t->name,
                                depth, t->rank);
    bool fits = true;
    for (bool first = true; fits && hasup_json_item(&infer->json, &first);) {
        fits = items++ < t->shape[depth];
        if (fits && !read_nested(infer, in, depth + 1, index))
            return false;
    }
    if (items == t->shape[depth])
        return true;
    return hasup_oip_refuse(
        infer, 400,
        "input \"%.100s\": a list of data at depth %zu has not %lld items, as its "
        "shape says",
        t->name, depth, (long long)t->shape[depth]);
}

/* Whether the data, after its first '[', begins with another list. */
static bool is_nested(const struct slice *data)
{
    struct hasup_json json;
    bool first = true;
    hasup_json_open(&json, data->at, data->len);
    return hasup_json_enter(&json, '[') && hasup_json_item(&json, &first) &&
           hasup_json_peek(&json) == '[';
}

bool hasup_oip_read_json_data(struct hasup_infer *infer, struct oip_input *in)
{
    struct hasup_tensor *t = &in->tensor;
    size_t size = hasup_datatype_of(t->datatype)->size, index = 0;
    if (t->count > in->data.len / 2 + 1)
        return wrong_count(infer, in, "fewer"); /* each takes two bytes */
    in->owned = malloc(t->count ? t->count * size : 1);
    if (!in->owned)
        return hasup_oip_refuse(infer, 503, "out of memory");
    t->data = in->owned;
    hasup_json_open(&infer->json, in->data.at, in->data.len);
    if (t->rank > 1 && is_nested(&in->data))
        return read_nested(infer, in, 0, &index);
    if (t->rank == 0 && hasup_json_peek(&infer->json) != '[')
        return read_element(infer, in, 0);
    if (!hasup_json_enter(&infer->json, '['))
        return hasup_oip_refuse(infer, 400, "input \"%.100s\": data: expected a list", t->name);
    return read_flat(infer, in);
}

static bool read_binary_strings(struct hasup_infer *infer, struct oip_input *in, const uint8_t *at)
{
    struct hasup_tensor *t = &in->tensor;
    size_t left = (size_t)in->binary_size, index = 0;
    if (t->count > left / 4)
        return hasup_oip_refuse(infer, 400,
                                "input \"%.100s\": %zu bytes of binary data cannot hold %zu "
                                "elements",
                                t->name, left, t->count);
    struct hasup_string *strings = in->owned = malloc(t->count ? t->count * sizeof *strings : 1);
    if (!strings)
        return hasup_oip_refuse(infer, 503, "out of memory");
    t->data = strings;
    for (; index < t->count; index++) {
        uint32_t len = left >= 4 ? hasup_get32(at) : 0;
        if (left < 4 || len > left - 4)
            return hasup_oip_refuse(infer, 400,
                                    "input \"%.100s\": element %zu runs past the end of its "
                                    "binary data",
                                    t->name, index);
        strings[index] = (struct hasup_string){(const char *)at + 4, len};
        at += 4 + (size_t)len;
        left -= 4 + (size_t)len;
    }
    return !left ? true
                 : hasup_oip_refuse(infer, 400,
                                    "input \"%.100s\": %zu bytes of its binary data are left "
                                    "behind the last element",
                                    t->name, left);
}

bool hasup_oip_read_binary_data(struct hasup_infer *infer, struct oip_input *in)
{
    struct hasup_tensor *t = &in->tensor;
    const uint8_t *at = infer->tail;
    size_t size = hasup_datatype_of(t->datatype)->size, len = (size_t)in->binary_size;
    char shape[256];
    if (in->binary_size > infer->tail_len)
        return hasup_oip_refuse(infer, 400,
                                "input \"%.100s\": binary_data_size is %llu, and %zu bytes "
                                "are left of the body",
                                t->name, (unsigned long long)in->binary_size, infer->tail_len);
    infer->tail += len;
    infer->tail_len -= len;
    if (t->datatype == HASUP_BYTES)
        return read_binary_strings(infer, in, at);
    if (len != t->count * size)
        return hasup_oip_refuse(infer, 400,
                                "input \"%.100s\": shape %s of datatype %s has %zu bytes, "
                                "binary_data_size is %zu",
                                t->name, hasup_oip_shape_text(t->shape, t->rank, shape),
                                hasup_datatype_of(t->datatype)->name, t->count * size, len);
    t->data = at;
    if ((uintptr_t)at % size == 0)
        return true;
    in->owned = malloc(len ? len : 1);
    if (!in->owned)
        return hasup_oip_refuse(infer, 503, "out of memory");
    if (len)
        memcpy(in->owned, at, len);
    t->data = in->owned;
    return true;
}
