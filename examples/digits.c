/*
 * digits.c: reads handwritten digits, 8 by 8 pixels of 0 to 16, with a network trained by libfann.
 *
 *   digits [WEIGHTS]     default: examples/data/digits.net
 *
 * POST /v2/models/digits/infer   one input "image", FP32, shape [n, 64] (Open Inference Protocol)
 * POST /models/digits/invoke     64 numbers as text, or 64 bytes; gives {"digit": 7}
 *
 * Requests that come together run together: their images are the rows of one matrix, which each
 * layer multiplies by its weights.  What a row gives does not depend on the others.
 */
#include "worker/hasup.h"

#include <fann.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, DIGITS = 10, LAYERS_MAX = 8, BATCH_MAX = 64 };

/* ---- the network ---- */

struct layer {
    unsigned inputs, outputs;
    int symmetric;  /* tanh; else the sigmoid */
    float *weights; /* a row of `outputs` for each input, and one for the bias */
};

struct net {
    unsigned count; /* of layers */
    struct layer layers[LAYERS_MAX];
};

static void layer_run(const struct layer *layer, const float *in, size_t rows, float *out)
{
    const unsigned width = layer->outputs;
    for (; rows; rows--, in += layer->inputs, out += width) {
        const float *weights = layer->weights;
        memcpy(out, weights + (size_t)layer->inputs * width, width * sizeof *out);
        for (unsigned i = 0; i < layer->inputs; i++, weights += width)
            for (unsigned o = 0; o < width; o++)
                out[o] += in[i] * weights[o];
        for (unsigned o = 0; o < width; o++)
            out[o] = layer->symmetric ? tanhf(out[o]) : 1 / (1 + expf(-2 * out[o]));
    }
}

/* Scores of DIGITS for each row of PIXELS, to be freed; NULL: no memory. */
static float *net_run(const struct net *net, const float *pixels, size_t rows)
{
    float *last = NULL;
    const float *in = pixels;
    for (unsigned i = 0; i < net->count; i++) {
        float *out = malloc((rows * net->layers[i].outputs + 1) * sizeof *out);
        if (out)
            layer_run(&net->layers[i], in, rows, out);
        free(last);
        if (!out)
            return NULL;
        in = last = out;
    }
    return last;
}

static int best_of(const float *scores)
{
    int best = 0;
    for (int d = 1; d < DIGITS; d++)
        if (scores[d] > scores[best])
            best = d;
    return best;
}

/* ---- requests ---- */

static const struct hasup_tensor_spec inputs[] = {{"image", HASUP_FP32, 2, {-1, PIXELS}, 0},
                                                  {.name = NULL}};
static const struct hasup_tensor_spec outputs[] = {
    {"digit", HASUP_INT64, 1, {-1}, 0}, {"scores", HASUP_FP32, 2, {-1, DIGITS}, 0}, {.name = NULL}};
static const struct hasup_signature signature = {
    .platform = "fann", .inputs = inputs, .outputs = outputs};

/* The images of all requests that came together. */
struct images {
    float *pixels;
    size_t count, room;
};

struct asked {
    struct hasup_infer *infer; /* NULL: it is a plain one, or answered */
    size_t first, count;       /* its images */
};

/* Room for so many more; NULL: no memory. */
static float *images_add(struct images *images, size_t count)
{
    if (images->room - images->count < count || !images->pixels) {
        size_t room = 2 * images->room + count + 1;
        float *more = realloc(images->pixels, room * PIXELS * sizeof *more);
        if (!more)
            return NULL;
        images->pixels = more;
        images->room = room;
    }
    images->count += count;
    return images->pixels + (images->count - count) * PIXELS;
}

/* 64 bytes, or 64 numbers with anything between them. */
static int read_plain(const char *body, size_t len, float *pixels)
{
    int count = 0;
    if (len == PIXELS && memchr(body, ',', len) == NULL && memchr(body, ' ', len) == NULL) {
        for (; count < PIXELS; count++)
            pixels[count] = (float)(unsigned char)body[count];
        return 0;
    }
    for (size_t i = 0; i < len && count <= PIXELS; i++) {
        if (body[i] < '0' || body[i] > '9')
            continue;
        float value = 0;
        for (; i < len && body[i] >= '0' && body[i] <= '9'; i++)
            value = value * 10 + (float)(body[i] - '0');
        if (count < PIXELS)
            pixels[count] = value;
        count++;
    }
    return count == PIXELS ? 0 : -1;
}

static void read_request(const struct hasup_request *request, struct hasup_response *response,
                         struct images *images, struct asked *asked)
{
    const struct hasup_tensor *image = NULL;
    *asked = (struct asked){.first = images->count};
    if (strcmp(hasup_request_route(request), "infer") == 0) {
        asked->infer = hasup_infer_read(request, response);
        if (!asked->infer)
            return;
        image = hasup_infer_input(asked->infer, "image");
    }
    size_t count = image ? (size_t)image->shape[0] : 1;
    float *pixels = images_add(images, count);
    if (!pixels) {
        hasup_infer_free(asked->infer);
        asked->infer = NULL;
        hasup_error(response, 503, "no memory for %zu images", count);
        return;
    }
    if (image)
        memcpy(pixels, image->data, count * PIXELS * sizeof *pixels);
    else if (!request->len || read_plain(request->body, request->len, pixels) != 0) {
        hasup_error(response, 400, "expected 64 numbers of 0 to 16, or 64 bytes");
        images->count -= count;
        return;
    }
    asked->count = count;
    for (size_t i = 0; i < count * PIXELS; i++)
        pixels[i] /= 16;
}

static void answer(struct hasup_response *response, const struct asked *asked, const float *scores)
{
    if (asked->infer) {
        const int64_t shape[] = {(int64_t)asked->count, DIGITS};
        int64_t *digits = hasup_infer_output(asked->infer, "digit", HASUP_INT64, 1, shape);
        float *told = hasup_infer_output(asked->infer, "scores", HASUP_FP32, 2, shape);
        for (size_t i = 0; digits && told && i < asked->count; i++)
            digits[i] = best_of(scores + i * DIGITS);
        if (digits && told && asked->count)
            memcpy(told, scores, asked->count * DIGITS * sizeof *told);
        hasup_infer_end(asked->infer);
    } else if (asked->count) {
        char text[32];
        int len = snprintf(text, sizeof text, "{\"digit\":%d}", best_of(scores));
        hasup_reply_type(response, "application/json");
        hasup_reply(response, text, (size_t)len);
    }
}

static int infer_batch(void *model, size_t count, const struct hasup_request *const requests[],
                       struct hasup_response *const responses[])
{
    struct asked asked[BATCH_MAX];
    struct images images = {0};
    for (size_t i = 0; i < count; i++)
        read_request(requests[i], responses[i], &images, &asked[i]);
    float *scores = net_run(model, images.pixels, images.count);
    for (size_t i = 0; i < count; i++)
        if (scores)
            answer(responses[i], &asked[i], scores + asked[i].first * DIGITS);
        else
            hasup_infer_free(asked[i].infer);
    free(images.pixels);
    free(scores);
    return scores ? 0 : -1;
}

/* ---- loading ---- */

static const char *weights = EXAMPLES_DATA "/digits.net";

static void unload(void *model)
{
    struct net *net = model;
    for (unsigned i = 0; i < net->count; i++)
        free(net->layers[i].weights);
    free(net);
}

/* The weights of one layer; neurons are counted through the layers, the bias last in each. */
static int layer_load(struct layer *layer, struct fann *fann, unsigned number, unsigned first,
                      const struct fann_connection *connections, unsigned count)
{
    unsigned to = first + layer->inputs + 1;
    float steepness = fann_get_activation_steepness(fann, (int)number, 0);
    enum fann_activationfunc_enum kind = fann_get_activation_function(fann, (int)number, 0);
    layer->symmetric = kind == FANN_SIGMOID_SYMMETRIC;
    layer->weights = calloc(((size_t)layer->inputs + 1) * layer->outputs, sizeof(float));
    if (!layer->weights || (kind != FANN_SIGMOID && !layer->symmetric))
        return -1;
    for (unsigned i = 0; i < count; i++) {
        const struct fann_connection *c = &connections[i];
        if (c->from_neuron >= first && c->from_neuron < to && c->to_neuron >= to)
            layer->weights[(size_t)(c->from_neuron - first) * layer->outputs + c->to_neuron - to] =
                c->weight * steepness;
    }
    return 0;
}

static int net_load(struct net *net, struct fann *fann)
{
    unsigned sizes[LAYERS_MAX + 1], layers = fann_get_num_layers(fann), first = 0;
    unsigned count = fann_get_total_connections(fann);
    struct fann_connection *connections = calloc(count + 1, sizeof *connections);
    int failed = !connections || layers < 2 || layers > LAYERS_MAX + 1;
    if (!failed) {
        fann_get_layer_array(fann, sizes);
        fann_get_connection_array(fann, connections);
        failed = sizes[0] != PIXELS || sizes[layers - 1] != DIGITS;
    }
    for (unsigned i = 0; !failed && i + 1 < layers; i++) {
        struct layer *layer = &net->layers[net->count++];
        *layer = (struct layer){.inputs = sizes[i], .outputs = sizes[i + 1]};
        failed = layer_load(layer, fann, i + 1, first, connections, count);
        first += sizes[i] + 1;
    }
    free(connections);
    return failed;
}

static int load(void **model)
{
    struct fann *fann = fann_create_from_file(weights); /* says on stderr what is wrong */
    struct net *net = calloc(1, sizeof *net);
    int failed = !fann || !net || net_load(net, fann);
    if (fann && failed)
        fprintf(stderr, "digits: %s is a network of another kind\n", weights);
    if (fann)
        fann_destroy(fann);
    if (net && failed)
        unload(net);
    *model = failed ? NULL : net;
    return failed;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        weights = argv[1];
    return hasup_serve(&(struct hasup_worker){.load = load,
                                              .infer_batch = infer_batch,
                                              .max_batch = BATCH_MAX,
                                              .unload = unload,
                                              .signature = &signature});
}
