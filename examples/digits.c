/*
 * digits.c: reads handwritten digits, 8 by 8 pixels of 0 to 16, with a network trained by libfann.
 *
 *   digits [WEIGHTS]     default: examples/data/digits.net
 *
 * POST /v2/models/digits/infer   one input "image", FP32, shape [n, 64] (Open Inference Protocol)
 * POST /models/digits/invoke     64 numbers as text, or 64 bytes
 */
#include "worker/hasup.h"

#include <fann.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIXELS = 64, DIGITS = 10, IMAGES_MAX = 4096 };

/* The scores of one image; the digit is the best of them. */
static int read_digit(struct fann *net, const float *pixels, json_t *scores)
{
    fann_type input[PIXELS];
    int best = 0;
    for (int i = 0; i < PIXELS; i++)
        input[i] = pixels[i] / 16;
    const fann_type *output = fann_run(net, input);
    for (int d = 0; d < DIGITS; d++) {
        json_array_append_new(scores, json_real((double)output[d]));
        if (output[d] > output[best])
            best = d;
    }
    return best;
}

/* Tensor data is flat or nested; returns how many numbers there are, or -1. */
static int flatten(const json_t *data, float *out, int used, int room)
{
    size_t i;
    json_t *item;
    if (!json_is_array(data))
        return -1;
    json_array_foreach(data, i, item)
    {
        if (json_is_number(item) && used < room)
            out[used++] = (float)json_number_value(item);
        else if ((used = flatten(item, out, used, room)) < 0)
            return -1;
    }
    return used;
}

static json_t *tensor(const char *name, const char *type, json_t *shape, json_t *data)
{
    return json_pack("{s:s, s:s, s:o, s:o}", "name", name, "datatype", type, "shape", shape, "data",
                     data);
}

/* Reads `count` images and answers in the shape of the Open Inference Protocol. */
static json_t *answer(struct fann *net, const float *pixels, int count, const json_t *id)
{
    json_t *digits = json_array(), *scores = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(digits, json_integer(read_digit(net, pixels + i * PIXELS, scores)));
    json_t *outputs =
        json_pack("[o, o]", tensor("digit", "INT64", json_pack("[i]", count), digits),
                  tensor("scores", "FP32", json_pack("[i, i]", count, DIGITS), scores));
    json_t *whole = json_pack("{s:s, s:o}", "model_name", "digits", "outputs", outputs);
    if (id)
        json_object_set(whole, "id", (json_t *)id);
    return whole;
}

/* The images of an OIP v2 request; returns their count, or -1 with the reason. */
static int read_request(const json_t *request, float *pixels, const char **why)
{
    const json_t *input = json_array_get(json_object_get(request, "inputs"), 0);
    const char *name = json_string_value(json_object_get(input, "name"));
    const char *type = json_string_value(json_object_get(input, "datatype"));
    int used = flatten(json_object_get(input, "data"), pixels, 0, IMAGES_MAX * PIXELS);
    if (!name || strcmp(name, "image") != 0 || !type || strcmp(type, "FP32") != 0)
        *why = "expected one input, \"image\", of datatype FP32";
    else if (used <= 0 || used % PIXELS != 0)
        *why = "expected data of shape [n, 64], with n from 1 to 4096";
    else
        return used / PIXELS;
    return -1;
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

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    static float pixels[IMAGES_MAX * PIXELS];
    const char *why = "expected 64 numbers of 0 to 16, or 64 bytes", *body = request->body;
    int count = -1;
    json_t *json = request->len && body[0] == '{' ? json_loadb(body, request->len, 0, NULL) : NULL;
    if (json)
        count = read_request(json, pixels, &why);
    else if (request->len && read_plain(body, request->len, pixels) == 0)
        count = 1;
    json_t *whole = count > 0 ? answer(model, pixels, count, json_object_get(json, "id")) : NULL;
    char *text = whole ? json_dumps(whole, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    json_decref(whole);
    if (!text)
        return hasup_error(response, 400, "%s", why);
    hasup_reply_type(response, "application/json");
    int failed = hasup_reply(response, text, strlen(text));
    free(text);
    return failed;
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
        .load = load,
        .infer = infer,
        .unload = unload,
        .metadata = "{\"platform\": \"fann\", "
                    "\"inputs\": [{\"name\": \"image\", \"datatype\": \"FP32\", "
                    "\"shape\": [-1, 64]}], "
                    "\"outputs\": [{\"name\": \"digit\", \"datatype\": \"INT64\", "
                    "\"shape\": [-1]}, {\"name\": \"scores\", \"datatype\": \"FP32\", "
                    "\"shape\": [-1, 10]}]}"});
}
