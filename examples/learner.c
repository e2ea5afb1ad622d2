/*
 * learner.c: a network that learns while it serves.  It starts knowing nothing; each labelled image
 * teaches it, and its weights, 170 KB with what its training remembers, are the state that hasupd
 * checkpoints and brings back bit for bit.
 *
 * POST /models/learner/invoke {"image": [64 numbers of 0 to 16], "label": 7}
 *   -> {"digit": 7, "learned": 120}        without "label" it only answers
 */
#include "worker/hasup.h"

#include <fann.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIXELS = 64,
    HIDDEN = 280,
    DIGITS = 10,
    WEIGHTS = (PIXELS + 1) * HIDDEN + (HIDDEN + 1) * DIGITS
};

/* Saved are the lessons, the weights, and the last step of each weight, which the next one
 * continues. */
struct learner {
    struct fann *net;
    uint64_t learned;
};

/* The same first weights in every process, so that a replay from the beginning ends the same. */
static int learner_init(struct learner *learner)
{
    struct fann *net = fann_create_standard(3, PIXELS, HIDDEN, DIGITS);
    if (!net || net->total_connections != WEIGHTS)
        return -1;
    fann_set_activation_function_hidden(net, FANN_SIGMOID_SYMMETRIC);
    fann_set_activation_function_output(net, FANN_SIGMOID);
    fann_set_training_algorithm(net, FANN_TRAIN_INCREMENTAL);
    fann_set_learning_rate(net, 0.2f);
    fann_set_learning_momentum(net, 0.5f);
    srand(1); /* after fann_create_standard(), which seeds from the system */
    fann_randomize_weights(net, -0.1f, 0.1f);
    net->prev_weights_deltas = calloc(WEIGHTS, sizeof(fann_type)); /* fann_destroy() frees it */
    learner->net = net;
    return net->prev_weights_deltas ? 0 : -1;
}

static void learner_teach(struct learner *learner, fann_type *image, int label)
{
    fann_type wanted[DIGITS] = {0};
    wanted[label] = 1;
    fann_train(learner->net, image, wanted);
    learner->learned++;
}

static int learner_read(struct learner *learner, fann_type *image)
{
    int best = 0;
    const fann_type *scores = fann_run(learner->net, image);
    for (int d = 1; d < DIGITS; d++)
        if (scores[d] > scores[best])
            best = d;
    return best;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    struct learner *learner = model;
    fann_type image[PIXELS];
    json_t *body = json_loadb(request->body, request->len, 0, NULL);
    json_t *pixels = json_object_get(body, "image"), *label = json_object_get(body, "label");
    int fine = json_array_size(pixels) == PIXELS;
    for (size_t i = 0; fine && i < PIXELS; i++)
        image[i] = (fann_type)json_number_value(json_array_get(pixels, i)) / 16;
    int taught = label ? (int)json_integer_value(label) : -1;
    fine = fine && (!label || (json_is_integer(label) && taught >= 0 && taught < DIGITS));
    json_decref(body);
    if (!fine)
        return hasup_error(response, 400,
                           "expected {\"image\": [64 numbers of 0 to 16], \"label\": 0 to 9}");
    int digit = learner_read(learner, image);
    if (label)
        learner_teach(learner, image, taught);
    char text[96];
    int len = snprintf(text, sizeof text, "{\"digit\":%d,\"learned\":%llu}", digit,
                       (unsigned long long)learner->learned);
    hasup_reply_type(response, "application/json");
    return hasup_reply(response, text, (size_t)len);
}

static int save(void *model, struct hasup_state *state)
{
    const struct learner *learner = model;
    return hasup_state_write(state, &learner->learned, sizeof learner->learned) ||
           hasup_state_write(state, learner->net->weights, sizeof(fann_type[WEIGHTS])) ||
           hasup_state_write(state, learner->net->prev_weights_deltas, sizeof(fann_type[WEIGHTS]));
}

static int restore(void *model, const void *state, size_t len)
{
    struct learner *learner = model;
    const size_t floats = sizeof(fann_type[WEIGHTS]);
    const char *at = state;
    if (len != sizeof learner->learned + 2 * floats)
        return -1;
    memcpy(&learner->learned, at, sizeof learner->learned);
    memcpy(learner->net->weights, at + sizeof learner->learned, floats);
    memcpy(learner->net->prev_weights_deltas, at + sizeof learner->learned + floats, floats);
    return 0;
}

static int load(void **model)
{
    static struct learner learner;
    *model = &learner;
    return learner_init(&learner);
}

static void unload(void *model)
{
    fann_destroy(((struct learner *)model)->net);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){
        .load = load, .infer = infer, .save = save, .restore = restore, .unload = unload});
}
