/*
 * oip_write.c: the answer of an inference request: outputs gathered, told as JSON or as binary data
 * behind it, and the metadata that the signature makes.  What JSON cannot say (a number that is
 * none, bytes that are not text) is an error and never something else in its place.
 */
#include "worker/oip.h"

#include <stdio.h>
#include <stdlib.h>

static void write_shape(struct hasup_writer *w, const int64_t *shape, size_t rank)
{
    hasup_write_text(w, "[");
    for (size_t i = 0; i < rank; i++) {
        if (i)
            hasup_write_text(w, ",");
        hasup_write_int64(w, shape[i]);
    }
    hasup_write_text(w, "]");
}

/* {"name": …, "datatype": …, "shape": … */
static void write_description(struct hasup_writer *w, const char *name, const char *datatype,
                              const int64_t *shape, size_t rank)
{
    hasup_write_text(w, "{\"name\":");
    hasup_write_string(w, name);
    hasup_write_text(w, ",\"datatype\":");
    hasup_write_string(w, datatype);
    hasup_write_text(w, ",\"shape\":");
    write_shape(w, shape, rank);
}

/* ---- outputs ---- */

static bool check_output(struct hasup_infer *infer, const char *name, enum hasup_datatype datatype,
                         size_t rank, const int64_t *shape, size_t *count)
{
    const struct hasup_tensor_spec *specs = infer->signature ? infer->signature->outputs : NULL;
    const struct hasup_tensor_spec *spec = hasup_oip_spec(specs, name);
    const struct datatype *type = hasup_datatype_of(datatype);
    char want[256], got[256];
    if (!type || rank > HASUP_RANK_MAX || !hasup_oip_count(shape, rank, count))
        return hasup_oip_refuse(infer, 500, "the worker gave output \"%.100s\" without a sound %s",
                                name, type ? "shape" : "datatype");
    for (size_t i = 0; i < infer->output_count; i++)
        if (!strcmp(infer->outputs[i].name, name))
            return hasup_oip_refuse(infer, 500, "the worker gave output \"%.100s\" twice", name);
    if (specs && !spec)
        return hasup_oip_refuse(infer, 500,
                                "the worker gave output \"%.100s\", which it never declared", name);
    if (specs && spec->datatype != datatype)
        return hasup_oip_refuse(infer, 500,
                                "the worker declared output \"%.100s\" as %s and gave %s", name,
                                hasup_datatype_of(spec->datatype)->name, type->name);
    if (specs && !hasup_oip_fits(spec, shape, rank))
        return hasup_oip_refuse(infer, 500,
                                "the worker declared output \"%.100s\" as of shape %s and gave %s",
                                name, hasup_oip_shape_text(spec->shape, spec->rank, want),
                                hasup_oip_shape_text(shape, rank, got));
    return true;
}

void *hasup_infer_output(struct hasup_infer *infer, const char *name, enum hasup_datatype datatype,
                         size_t rank, const int64_t *shape)
{
    size_t count, name_len = strlen(name);
    if (!check_output(infer, name, datatype, rank, shape, &count) ||
        !hasup_oip_grow(infer, (void **)&infer->outputs, infer->output_count,
                        sizeof *infer->outputs))
        return NULL;
    const struct datatype *type = hasup_datatype_of(datatype);
    struct hasup_text *copy = malloc(sizeof *copy + name_len + 1);
    void *data = copy ? calloc(count ? count : 1, type->size) : NULL;
    if (!data) {
        free(copy);
        hasup_oip_refuse(infer, 503, "out of memory");
        return NULL;
    }
    memcpy(copy->text, name, name_len + 1);
    copy->next = infer->texts;
    infer->texts = copy;
    struct oip_output *out = &infer->outputs[infer->output_count++];
    *out = (struct oip_output){.name = copy->text,
                               .type = type,
                               .datatype = datatype,
                               .rank = rank,
                               .count = count,
                               .data = data};
    if (rank)
        memcpy(out->shape, shape, rank * sizeof *shape);
    return data;
}

void hasup_infer_say(struct hasup_infer *infer, const char *json)
{
    size_t len = strlen(json);
    struct hasup_text *copy = malloc(sizeof *copy + len + 1);
    if (!copy) {
        hasup_oip_refuse(infer, 503, "out of memory");
        return;
    }
    memcpy(copy->text, json, len + 1);
    copy->next = infer->texts;
    infer->texts = copy;
    infer->said = copy->text;
}

static const struct oip_output *find_output(const struct hasup_infer *infer, const char *name)
{
    for (size_t i = 0; i < infer->output_count; i++)
        if (!strcmp(infer->outputs[i].name, name))
            return &infer->outputs[i];
    return NULL;
}

/* ---- data ---- */

static bool write_element(struct hasup_writer *w, const struct oip_output *out, size_t index)
{
    const struct hasup_string *string = (const struct hasup_string *)out->data + index;
    if (out->type->write)
        return out->type->write(w, (const char *)out->data + index * out->type->size);
    for (size_t at = 0, step; at < string->len; at += step)
        if (!(step = hasup_utf8_len((const uint8_t *)string->at + at, string->len - at)))
            return false;
    hasup_write_text(w, "\"");
    hasup_write_escaped(w, string->at, string->len);
    hasup_write_text(w, "\"");
    return true;
}

static bool write_json_data(struct hasup_infer *infer, struct hasup_writer *w,
                            const struct oip_output *out)
{
    hasup_write_text(w, ",\"data\":[");
    for (size_t i = 0; i < out->count; i++) {
        if (i)
            hasup_write(w, ",", 1);
        if (!write_element(w, out, i))
            return hasup_oip_refuse(
                infer, 500,
                "output \"%.100s\": element %zu is %s, which JSON cannot say; ask "
                "for it with binary_data",
                out->name, i, out->type->write ? "not a finite number" : "not UTF-8");
    }
    hasup_write_text(w, "]}");
    return true;
}

static size_t binary_size(const struct oip_output *out)
{
    const struct hasup_string *strings = out->data;
    size_t size = out->count * out->type->size;
    if (out->type->write)
        return size;
    size = 4 * out->count;
    for (size_t i = 0; i < out->count; i++)
        size += strings[i].len;
    return size;
}

static bool write_binary_data(struct hasup_infer *infer, struct hasup_writer *w,
                              const struct oip_output *out)
{
    const struct hasup_string *strings = out->data;
    uint8_t len[4];
    if (out->type->write) {
        hasup_write(w, out->data, out->count * out->type->size);
        return true;
    }
    for (size_t i = 0; i < out->count; i++) {
        if (strings[i].len > UINT32_MAX)
            return hasup_oip_refuse(
                infer, 500, "output \"%.100s\": element %zu is longer than 4 GiB", out->name, i);
        hasup_put32(len, (uint32_t)strings[i].len);
        hasup_write(w, len, sizeof len);
        hasup_write(w, strings[i].at, strings[i].len);
    }
    return true;
}

/* ---- the answer ---- */

/* One that is told: the i-th that was wanted, or given where none was named. */
static const struct oip_output *told(struct hasup_infer *infer, size_t i, bool *binary)
{
    *binary = infer->wanted_count ? infer->wanted[i].binary : infer->binary_output;
    if (!infer->wanted_count)
        return &infer->outputs[i];
    const struct oip_output *out = find_output(infer, infer->wanted[i].name);
    if (!out)
        hasup_oip_refuse(infer, infer->signature ? 500 : 400,
                         "the worker gave no output \"%.100s\"", infer->wanted[i].name);
    return out;
}

static void write_opening(struct hasup_infer *infer, struct hasup_writer *w)
{
    const char *model = getenv("HASUP_MODEL");
    const char *version = hasup_request_header(infer->request, "model-version");
    hasup_write_text(w, "{\"model_name\":");
    hasup_write_string(w, model ? model : "");
    if (version) {
        hasup_write_text(w, ",\"model_version\":");
        hasup_write_string(w, version);
    }
    if (infer->id.at) {
        hasup_write_text(w, ",\"id\":");
        hasup_write(w, infer->id.at, infer->id.len); /* as it was written */
    }
    if (infer->said) {
        hasup_write_text(w, ",\"parameters\":");
        hasup_write_text(w, infer->said);
    }
    hasup_write_text(w, ",\"outputs\":[");
}

/* The JSON; whether binary data follows it. */
static bool write_json(struct hasup_infer *infer, struct hasup_writer *w, size_t count)
{
    bool binary, any = false;
    write_opening(infer, w);
    for (size_t i = 0; i < count; i++) {
        const struct oip_output *out = told(infer, i, &binary);
        if (!out)
            return false;
        if (i)
            hasup_write_text(w, ",");
        write_description(w, out->name, out->type->name, out->shape, out->rank);
        any = any || binary;
        if (binary) {
            hasup_write_text(w, ",\"parameters\":{\"binary_data_size\":");
            hasup_write_uint64(w, binary_size(out));
            hasup_write_text(w, "}}");
        } else if (!write_json_data(infer, w, out)) {
            return false;
        }
    }
    hasup_write_text(w, "]}");
    return any;
}

static void write_answer(struct hasup_infer *infer, struct hasup_writer *w)
{
    size_t count = infer->wanted_count ? infer->wanted_count : infer->output_count;
    char length[24];
    bool binary, any = write_json(infer, w, count);
    if (infer->why[0])
        return;
    hasup_reply_type(infer->response, any ? "application/octet-stream" : "application/json");
    if (!any)
        return;
    snprintf(length, sizeof length, "%zu", w->bytes.len);
    hasup_reply_header(infer->response, "inference-header-content-length", length);
    for (size_t i = 0; i < count; i++) {
        const struct oip_output *out = told(infer, i, &binary);
        if (binary && !write_binary_data(infer, w, out))
            return;
    }
}

int hasup_infer_end(struct hasup_infer *infer)
{
    struct hasup_response *response = infer->response;
    struct hasup_writer w = {.bytes = response->body};
    int error = 0;
    if (!infer->why[0]) {
        write_answer(infer, &w);
        if (w.failed)
            hasup_oip_refuse(infer, 503, "out of memory");
    }
    response->body = w.bytes; /* its memory is used again */
    if (infer->why[0]) {
        response->body.len = response->meta.len = 0;
        error = hasup_error(response, infer->status, "%s", infer->why);
    }
    hasup_infer_free(infer);
    return error;
}

/* ---- metadata ---- */

static void write_specs(struct hasup_writer *w, const struct hasup_tensor_spec *specs)
{
    hasup_write_text(w, "[");
    for (const struct hasup_tensor_spec *spec = specs; spec && spec->name; spec++) {
        const struct datatype *type = hasup_datatype_of(spec->datatype);
        if (spec != specs)
            hasup_write_text(w, ",");
        write_description(w, spec->name, type ? type->name : "", spec->shape, spec->rank);
        if (spec->optional)
            hasup_write_text(w, ",\"optional\":true");
        hasup_write_text(w, "}");
    }
    hasup_write_text(w, "]");
}

void hasup_oip_write_metadata(struct hasup_writer *w, const struct hasup_signature *signature)
{
    hasup_write_text(w, "{");
    for (const char *const *v = signature->versions; v && *v; v++) {
        hasup_write_text(w, v == signature->versions ? "\"versions\":[" : ",");
        hasup_write_string(w, *v);
        if (!v[1])
            hasup_write_text(w, "],");
    }
    hasup_write_text(w, "\"platform\":");
    hasup_write_string(w, signature->platform ? signature->platform : "");
    hasup_write_text(w, ",\"inputs\":");
    write_specs(w, signature->inputs);
    hasup_write_text(w, ",\"outputs\":");
    write_specs(w, signature->outputs);
    hasup_write_text(w, "}");
}
