/*
 * digits.c: reads handwritten digits, 8 by 8 pixels of 0 to 16, with a network trained by libfann.
 *
 *   digits [WEIGHTS]     default: examples/data/digits.net
 *
 * POST /v2/models/digits/infer   one input "image", FP32, shape [n, 64] (Open Inference Protocol)
 * POST /models/digits/invoke     64 numbers as text, or 64 bytes; gives {"digit": 7}
 */
#include "worker/hasup.h"

#include <fann.h>
#include <stdio.h>
#include <string.h>

enum { PIXELS = 64, DIGITS = 10 };

/* Reads one image; the digit is the best of the scores. */
static int read_digit(struct fann *net, const float *pixels, float scores[DIGITS])
{
    fann_type input[PIXELS];
    int best = 0;
    for (int i = 0; i < PIXELS; i++)
        input[i] = pixels[i] / 16;
    const fann_type *output = fann_run(net, input);
    for (int d = 0; d < DIGITS; d++) {
        scores[d] = output[d];
        if (output[d] > output[best])
            best = d;
    }
    return best;
}

static const struct hasup_tensor_spec inputs[] = {{"image", HASUP_FP32, 2, {-1, PIXELS}, 0},
                                                  {.name = NULL}};
static const struct hasup_tensor_spec outputs[] = {
    {"digit", HASUP_INT64, 1, {-1}, 0}, {"scores", HASUP_FP32, 2, {-1, DIGITS}, 0}, {.name = NULL}};
static const struct hasup_signature signature = {
    .platform = "fann", .inputs = inputs, .outputs = outputs};

static int infer_images(struct fann *net, const struct hasup_request *request,
                        struct hasup_response *response)
{
    struct hasup_infer *infer = hasup_infer_read(request, response);
    if (!infer)
        return -1;
    const struct hasup_tensor *image = hasup_infer_input(infer, "image");
    const float *pixels = image->data;
    int64_t count = image->shape[0], shape[] = {count, DIGITS};
    int64_t *digits = hasup_infer_output(infer, "digit", HASUP_INT64, 1, shape);
    float *scores = hasup_infer_output(infer, "scores", HASUP_FP32, 2, shape);
    for (int64_t i = 0; digits && scores && i < count; i++)
        digits[i] = read_digit(net, pixels + i * PIXELS, scores + i * DIGITS);
    return hasup_infer_end(infer);
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

static int infer_plain(struct fann *net, const struct hasup_request *request,
                       struct hasup_response *response)
{
    float pixels[PIXELS], scores[DIGITS];
    char text[32];
    if (!request->len || read_plain(request->body, request->len, pixels) != 0)
        return hasup_error(response, 400, "expected 64 numbers of 0 to 16, or 64 bytes");
    int len = snprintf(text, sizeof text, "{\"digit\":%d}", read_digit(net, pixels, scores));
    hasup_reply_type(response, "application/json");
    return hasup_reply(response, text, (size_t)len);
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    return strcmp(hasup_request_route(request), "infer") == 0
               ? infer_images(model, request, response)
               : infer_plain(model, request, response);
}

static const char *weights = EXAMPLES_DATA "/digits.net";

static int load(void **model)
{
    struct fann *net = fann_create_from_file(weights); /* says on stderr what is wrong */
    if (net && (fann_get_num_input(net) != PIXELS || fann_get_num_output(net) != DIGITS)) {
        fprintf(stderr, "digits: %s is a network of another shape\n", weights);
        fann_destroy(net);
        net = NULL;
    }
    *model = net;
    return net == NULL;
}

static void unload(void *model)
{
    fann_destroy(model);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        weights = argv[1];
    return hasup_serve(&(struct hasup_worker){
        .load = load, .infer = infer, .unload = unload, .signature = &signature});
}
