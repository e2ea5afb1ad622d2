/*
 * oip_read.c: an inference request of the Open Inference Protocol, from JSON and the binary
 * extension to arrays.  The body is read in place, its tensors' data last and straight into the
 * arrays, so an array is made only when its size is known to be in proportion to the bytes that are
 * there.  What binary data can stay where it is stays there.  Everything that does not fit is
 * refused with the tensor's name, what was expected and what came.
 */
#include "worker/oip.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ITEMS_MAX = 4096 /* inputs, or outputs */, SHOWN_MAX = 40 };

bool hasup_oip_refuse(struct hasup_infer *infer, unsigned status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!infer->why[0]) {
        vsnprintf(infer->why, sizeof infer->why, format, args);
        infer->status = status;
    }
    va_end(args);
    return false;
}

bool hasup_oip_grow(struct hasup_infer *infer, void **list, size_t count, size_t size)
{
    if (count & (count - 1)) /* it grows at powers of two */
        return true;
    void *more = count < ITEMS_MAX ? realloc(*list, (count ? 2 * count : 1) * size) : NULL;
    if (!more)
        return hasup_oip_refuse(infer, count < ITEMS_MAX ? 503 : 400, "%s",
                                count < ITEMS_MAX ? "out of memory" : "there are too many tensors");
    *list = more;
    return true;
}

bool hasup_oip_count(const int64_t *shape, size_t rank, size_t *count)
{
    size_t product = 1;
    bool empty = false;
    for (size_t i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return false;
        empty = empty || !shape[i];
    }
    for (size_t i = 0; i < rank && !empty; i++) {
        if ((uint64_t)shape[i] > (SIZE_MAX / 16) / product)
            return false;
        product *= (size_t)shape[i];
    }
    *count = empty ? 0 : product;
    return true;
}

const char *hasup_oip_shape_text(const int64_t *shape, size_t rank, char text[256])
{
    size_t used = 1;
    text[0] = '[';
    for (size_t i = 0; i < rank && used < 220; i++)
        used +=
            (size_t)snprintf(text + used, 256 - used, i ? ", %lld" : "%lld", (long long)shape[i]);
    snprintf(text + used, 256 - used, "]");
    return text;
}

const struct hasup_tensor_spec *hasup_oip_spec(const struct hasup_tensor_spec *specs,
                                               const char *name)
{
    for (; specs && specs->name; specs++)
        if (!strcmp(specs->name, name))
            return specs;
    return NULL;
}

bool hasup_oip_fits(const struct hasup_tensor_spec *spec, const int64_t *shape, size_t rank)
{
    bool fits = rank == spec->rank;
    for (size_t i = 0; i < rank && fits; i++)
        fits = spec->shape[i] < 0 || spec->shape[i] == shape[i];
    return fits;
}

/* ---- words ---- */

bool hasup_oip_malformed(struct hasup_infer *infer)
{
    return hasup_oip_refuse(infer, 400, "the body is not JSON: at byte %zu %s",
                            infer->json.wrong_at, infer->json.wrong);
}

/* The JSON is broken, or has another kind of value than it should. */
static bool expected(struct hasup_infer *infer, const char *where, const char *what)
{
    if (!hasup_json_peek(&infer->json))
        hasup_json_skip(&infer->json); /* which says what is wrong */
    return infer->json.wrong ? hasup_oip_malformed(infer)
                             : hasup_oip_refuse(infer, 400, "%.100s: expected %s", where, what);
}

char *hasup_oip_room(struct hasup_infer *infer, size_t len)
{
    struct hasup_text *text = malloc(sizeof *text + len + 1);
    if (!text) {
        hasup_oip_refuse(infer, 503, "out of memory");
        return NULL;
    }
    text->next = infer->texts;
    infer->texts = text;
    return text->text;
}

/* A name: text with a zero at its end. */
bool hasup_oip_read_name(struct hasup_infer *infer, const char *where, const char **to)
{
    struct hasup_json_text text;
    if (!hasup_json_string(&infer->json, &text))
        return expected(infer, where, "a string");
    char *out = hasup_oip_room(infer, text.len);
    int64_t len = out ? hasup_json_decode(&text, out, text.len) : 0;
    if (len < 0 || (out && memchr(out, '\0', (size_t)len)))
        return hasup_oip_refuse(infer, 400, "%.100s: it is not a name", where);
    if (out)
        out[len] = '\0';
    *to = out;
    return out;
}

/* Passes over a value and remembers where it stands. */
static bool read_slice(struct hasup_infer *infer, struct slice *slice)
{
    hasup_json_peek(&infer->json); /* past the space */
    const char *at = infer->json.at;
    hasup_json_skip(&infer->json);
    if (infer->json.wrong)
        return hasup_oip_malformed(infer);
    *slice = (struct slice){at, (size_t)(infer->json.at - at)};
    return true;
}

static bool read_parameters(struct hasup_infer *infer, const char *where, struct slice *slice)
{
    if (hasup_json_null(&infer->json))
        return true;
    if (hasup_json_peek(&infer->json) != '{')
        return expected(infer, where, "an object of parameters");
    return read_slice(infer, slice);
}

/* ---- the inputs ---- */

static bool read_shape(struct hasup_infer *infer, const char *where, struct oip_input *in)
{
    static const char sizes[] = "shape: a list of integers of at least 0";
    struct hasup_tensor *t = &in->tensor;
    struct hasup_json_text text;
    if (!hasup_json_enter(&infer->json, '['))
        return expected(infer, where, sizes);
    t->rank = 0;
    for (bool first = true; hasup_json_item(&infer->json, &first); t->rank++) {
        if (t->rank == HASUP_RANK_MAX)
            return hasup_oip_refuse(infer, 400, "%.100s: its shape has more than %d dimensions",
                                    where, HASUP_RANK_MAX);
        if (!hasup_json_number(&infer->json, &text))
            return expected(infer, where, sizes);
        if (hasup_json_int64(&text, &t->shape[t->rank]) || t->shape[t->rank] < 0)
            return hasup_oip_refuse(infer, 400, "%.100s: expected %s", where, sizes);
    }
    in->shaped = true;
    return infer->json.wrong ? hasup_oip_malformed(infer) : true;
}

static bool read_datatype(struct hasup_infer *infer, const char *where, struct oip_input *in)
{
    struct hasup_json_text text;
    if (!hasup_json_string(&infer->json, &text))
        return expected(infer, where, "datatype: a string");
    in->tensor.datatype = hasup_datatype_named(&text);
    return in->tensor.datatype
               ? true
               : hasup_oip_refuse(infer, 400, "%.100s: there is no datatype %.*s", where,
                                  text.len > SHOWN_MAX ? SHOWN_MAX : (int)text.len, text.at);
}

static bool read_input(struct hasup_infer *infer, struct oip_input *in)
{
    struct hasup_json_text key;
    char where[128];
    snprintf(where, sizeof where, "inputs[%zu]", infer->input_count);
    *in = (struct oip_input){.tensor = {.count = 0}};
    infer->input_count++;
    if (!hasup_json_enter(&infer->json, '{'))
        return expected(infer, where, "an object");
    for (bool first = true; hasup_json_member(&infer->json, &first, &key);) {
        bool read;
        if (in->tensor.name)
            snprintf(where, sizeof where, "input \"%.100s\"", in->tensor.name);
        if (hasup_json_is(&key, "name"))
            read = hasup_oip_read_name(infer, where, &in->tensor.name);
        else if (hasup_json_is(&key, "shape"))
            read = read_shape(infer, where, in);
        else if (hasup_json_is(&key, "datatype"))
            read = read_datatype(infer, where, in);
        else if (hasup_json_is(&key, "parameters"))
            read = read_parameters(infer, where, &in->parameters);
        else if (hasup_json_is(&key, "data"))
            read = read_slice(infer, &in->data);
        else
            read = (hasup_json_skip(&infer->json), !infer->json.wrong);
        if (!read)
            return infer->why[0] ? false : hasup_oip_malformed(infer);
    }
    if (infer->json.wrong)
        return hasup_oip_malformed(infer);
    if (in->tensor.name)
        snprintf(where, sizeof where, "input \"%.100s\"", in->tensor.name);
    if (!in->tensor.name || !in->tensor.datatype || !in->shaped)
        return hasup_oip_refuse(infer, 400, "%.100s: there is no %s", where,
                                !in->tensor.name ? "name"
                                : !in->shaped    ? "shape"
                                                 : "datatype");
    return true;
}

static bool read_inputs(struct hasup_infer *infer)
{
    if (!hasup_json_enter(&infer->json, '['))
        return expected(infer, "inputs", "a list");
    for (bool first = true; hasup_json_item(&infer->json, &first);)
        if (!hasup_oip_grow(infer, (void **)&infer->inputs, infer->input_count,
                            sizeof *infer->inputs) ||
            !read_input(infer, &infer->inputs[infer->input_count]))
            return false;
    return infer->json.wrong ? hasup_oip_malformed(infer) : true;
}

/* Whether it is what the signature says. */
static bool check_input(struct hasup_infer *infer, const struct hasup_tensor *t)
{
    const struct hasup_tensor_spec *specs = infer->signature ? infer->signature->inputs : NULL;
    const struct hasup_tensor_spec *spec = hasup_oip_spec(specs, t->name);
    char want[256], got[256];
    if (!specs)
        return true;
    if (!spec)
        return hasup_oip_refuse(infer, 400,
                                "the model has no input \"%.100s\"; its first is \"%.100s\"",
                                t->name, specs->name ? specs->name : "");
    if (spec->datatype != t->datatype)
        return hasup_oip_refuse(infer, 400, "input \"%.100s\": expected datatype %s, got %s",
                                t->name, hasup_datatype_of(spec->datatype)->name,
                                hasup_datatype_of(t->datatype)->name);
    if (!hasup_oip_fits(spec, t->shape, t->rank))
        return hasup_oip_refuse(infer, 400, "input \"%.100s\": expected shape %s, got %s", t->name,
                                hasup_oip_shape_text(spec->shape, spec->rank, want),
                                hasup_oip_shape_text(t->shape, t->rank, got));
    return true;
}

static bool find_binary(struct hasup_infer *infer, struct oip_input *in)
{
    struct hasup_json json;
    struct hasup_json_text text;
    if (!hasup_oip_parameter(&in->parameters, "binary_data_size", &json))
        return true;
    in->binary = true;
    if (hasup_json_number(&json, &text) && !hasup_json_uint64(&text, &in->binary_size))
        return true;
    return hasup_oip_refuse(
        infer, 400, "input \"%.100s\": binary_data_size is not a number of bytes", in->tensor.name);
}

static bool fill_input(struct hasup_infer *infer, struct oip_input *in)
{
    struct hasup_tensor *t = &in->tensor;
    char shape[256];
    for (const struct oip_input *other = infer->inputs; other < in; other++)
        if (!strcmp(other->tensor.name, t->name))
            return hasup_oip_refuse(infer, 400, "input \"%.100s\" stands there twice", t->name);
    if (!check_input(infer, t) || !find_binary(infer, in))
        return false;
    if (!hasup_oip_count(t->shape, t->rank, &t->count))
        return hasup_oip_refuse(infer, 400, "input \"%.100s\": shape %s is too large", t->name,
                                hasup_oip_shape_text(t->shape, t->rank, shape));
    if (in->binary == (in->data.at != NULL))
        return hasup_oip_refuse(infer, 400, "input \"%.100s\": there is %s", t->name,
                                in->binary ? "data and binary_data_size, and only one can be"
                                           : "no data, and no binary_data_size");
    return in->binary ? hasup_oip_read_binary_data(infer, in) : hasup_oip_read_json_data(infer, in);
}

static bool fill_inputs(struct hasup_infer *infer)
{
    const struct hasup_tensor_spec *specs = infer->signature ? infer->signature->inputs : NULL;
    for (size_t i = 0; i < infer->input_count; i++)
        if (!fill_input(infer, &infer->inputs[i]))
            return false;
    for (; specs && specs->name; specs++)
        if (!specs->optional && !hasup_infer_input(infer, specs->name))
            return hasup_oip_refuse(infer, 400, "there is no input \"%.100s\"", specs->name);
    if (infer->tail_len)
        return hasup_oip_refuse(infer, 400, "%zu bytes of the body are left behind the last tensor",
                                infer->tail_len);
    return true;
}

const struct hasup_tensor *hasup_infer_input(const struct hasup_infer *infer, const char *name)
{
    for (size_t i = 0; i < infer->input_count; i++)
        if (!strcmp(infer->inputs[i].tensor.name, name))
            return &infer->inputs[i].tensor;
    return NULL;
}

const struct hasup_tensor *hasup_infer_input_at(const struct hasup_infer *infer, size_t place)
{
    return place < infer->input_count ? &infer->inputs[place].tensor : NULL;
}

/* ---- the outputs that are wanted ---- */

static bool read_output(struct hasup_infer *infer, struct oip_wanted *wanted)
{
    const struct hasup_tensor_spec *specs = infer->signature ? infer->signature->outputs : NULL;
    struct hasup_json_text key;
    struct slice parameters = {0};
    char where[64];
    bool read = true;
    snprintf(where, sizeof where, "outputs[%zu]", infer->wanted_count);
    *wanted = (struct oip_wanted){.binary = infer->binary_output};
    if (!hasup_json_enter(&infer->json, '{'))
        return expected(infer, where, "an object");
    for (bool first = true; read && hasup_json_member(&infer->json, &first, &key);)
        if (hasup_json_is(&key, "name"))
            read = hasup_oip_read_name(infer, where, &wanted->name);
        else if (hasup_json_is(&key, "parameters"))
            read = read_parameters(infer, where, &parameters);
        else
            hasup_json_skip(&infer->json);
    if (!read || infer->json.wrong)
        return expected(infer, where, "an object");
    if (!wanted->name)
        return hasup_oip_refuse(infer, 400, "%s: there is no name", where);
    if (specs && !hasup_oip_spec(specs, wanted->name))
        return hasup_oip_refuse(infer, 400, "the model has no output \"%.100s\"", wanted->name);
    for (size_t i = 0; i < infer->wanted_count; i++)
        if (!strcmp(infer->wanted[i].name, wanted->name))
            return hasup_oip_refuse(infer, 400, "output \"%.100s\" stands there twice",
                                    wanted->name);
    infer->wanted_count++;
    return hasup_oip_read_flag(infer, &parameters, "binary_data", &wanted->binary);
}

static bool read_outputs(struct hasup_infer *infer, const struct slice *outputs)
{
    if (!outputs->at)
        return true;
    hasup_json_open(&infer->json, outputs->at, outputs->len);
    if (hasup_json_null(&infer->json))
        return true;
    if (!hasup_json_enter(&infer->json, '['))
        return expected(infer, "outputs", "a list");
    for (bool first = true; hasup_json_item(&infer->json, &first);)
        if (!hasup_oip_grow(infer, (void **)&infer->wanted, infer->wanted_count,
                            sizeof *infer->wanted) ||
            !read_output(infer, &infer->wanted[infer->wanted_count]))
            return false;
    return true;
}

int hasup_infer_wants(const struct hasup_infer *infer, const char *output)
{
    for (size_t i = 0; i < infer->wanted_count; i++)
        if (!strcmp(infer->wanted[i].name, output))
            return 1;
    return !infer->wanted_count;
}

/* ---- the whole ---- */

/* How much of the body is JSON. */
static bool read_header_length(struct hasup_infer *infer, size_t *len)
{
    const char *text = hasup_request_header(infer->request, "inference-header-content-length");
    char *end;
    *len = infer->request->len;
    if (!text)
        return true;
    unsigned long long number = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || number > infer->request->len)
        return hasup_oip_refuse(infer, 400,
                                "Inference-Header-Content-Length: %.40s, of a body of %zu "
                                "bytes",
                                text, infer->request->len);
    *len = (size_t)number;
    infer->tail = (const uint8_t *)infer->request->body + number;
    infer->tail_len = infer->request->len - *len;
    return true;
}

static bool read_body(struct hasup_infer *infer)
{
    struct hasup_json_text key;
    struct slice outputs = {0};
    size_t len;
    bool read = true;
    if (!read_header_length(infer, &len))
        return false;
    hasup_json_open(&infer->json, infer->request->body, len);
    if (!hasup_json_enter(&infer->json, '{'))
        return hasup_oip_refuse(infer, 400, "the body is not a JSON object");
    for (bool first = true; read && hasup_json_member(&infer->json, &first, &key);)
        if (hasup_json_is(&key, "id") && hasup_json_peek(&infer->json) == '"')
            read = read_slice(infer, &infer->id);
        else if (hasup_json_is(&key, "parameters"))
            read = read_parameters(infer, "parameters", &infer->parameters);
        else if (hasup_json_is(&key, "inputs"))
            read = infer->input_count ? hasup_oip_refuse(infer, 400, "inputs stand there twice")
                                      : read_inputs(infer);
        else if (hasup_json_is(&key, "outputs"))
            read = read_slice(infer, &outputs);
        else if (hasup_json_is(&key, "id") && !hasup_json_null(&infer->json))
            read = expected(infer, "id", "a string");
        else if (!hasup_json_is(&key, "id"))
            hasup_json_skip(&infer->json);
    if (!read)
        return infer->why[0] ? false : hasup_oip_malformed(infer);
    if (!hasup_json_ended(&infer->json))
        return hasup_oip_malformed(infer);
    return hasup_oip_read_flag(infer, &infer->parameters, "binary_data_output",
                               &infer->binary_output) &&
           read_outputs(infer, &outputs) && fill_inputs(infer);
}

struct hasup_infer *hasup_infer_read(const struct hasup_request *request,
                                     struct hasup_response *response)
{
    struct hasup_infer *infer = calloc(1, sizeof *infer);
    if (!infer) {
        hasup_error(response, 503, "out of memory");
        return NULL;
    }
    infer->request = request;
    infer->response = response;
    infer->signature = response->runtime->worker->signature;
    if (read_body(infer))
        return infer;
    hasup_error(response, infer->status, "%s", infer->why);
    hasup_infer_free(infer);
    return NULL;
}

void hasup_infer_free(struct hasup_infer *infer)
{
    if (!infer)
        return;
    while (infer->texts) {
        struct hasup_text *next = infer->texts->next;
        free(infer->texts);
        infer->texts = next;
    }
    for (size_t i = 0; i < infer->input_count; i++)
        free(infer->inputs[i].owned);
    for (size_t i = 0; i < infer->output_count; i++)
        free(infer->outputs[i].data);
    free(infer->inputs);
    free(infer->wanted);
    free(infer->outputs);
    free(infer);
}
