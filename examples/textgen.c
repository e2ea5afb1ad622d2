/*
 * textgen.c: a small recurrent network writes after Newton's Opticks, a few characters at a time.
 *
 *   textgen [WEIGHTS]     default: examples/data/textgen.bin
 *
 * POST /models/textgen/invoke {"prompt": "The Light", "n": 200, "seed": 1, "temperature": 0.6}
 * POST /v2/models/textgen/generate or generate_stream {"text_input": "The Light", "parameters":
 * {"n": 200}}
 * POST /v1/completions {"model": "textgen", "prompt": "The Light", "max_tokens": 200, "seed": 1}
 * POST /v1/chat/completions {"model": "textgen", "messages": [{"role": "user", "content": "The
 * Light"}]}
 *
 * The same request always gives the same text.  When this worker is killed in the middle, the next
 * one goes on from the last progress, and hasupd where the client stopped reading.
 */
#include "worker/hasup.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN_MAX = 512, KINDS_MAX = 256, PIECE = 8, LENGTH_MAX = 100000, PROGRESS_EVERY = 128 };

/* The weights, as examples/train/train_textgen.py writes them. */
struct net {
    uint32_t hidden, kinds;
    char characters[KINDS_MAX];
    float *weights; /* wx[kinds][3 hidden] wh[hidden][3 hidden] b[3 hidden] wo[hidden][kinds]
                       bo[kinds] */
    const float *wx, *wh, *b, *wo, *bo;
};

/* All that the next character depends on; as a whole, a progress that another worker goes on from.
 */
struct writer {
    size_t done; /* characters */
    float hidden[HIDDEN_MAX];
    uint64_t random;
    float temperature;
};

static int net_read(struct net *net, FILE *in)
{
    char magic[4];
    if (fread(magic, 1, 4, in) != 4 || memcmp(magic, "HSTG", 4) != 0 ||
        fread(&net->hidden, 4, 1, in) != 1 || fread(&net->kinds, 4, 1, in) != 1 ||
        net->hidden == 0 || net->hidden > HIDDEN_MAX || net->kinds == 0 || net->kinds > KINDS_MAX ||
        fread(net->characters, 1, net->kinds, in) != net->kinds)
        return -1;
    size_t h = net->hidden, v = net->kinds;
    size_t count = 3 * h * (v + h + 1) + v * (h + 1);
    net->weights = malloc(count * sizeof(float));
    if (!net->weights || fread(net->weights, sizeof(float), count, in) != count)
        return -1;
    net->wx = net->weights;
    net->wh = net->wx + 3 * h * v;
    net->b = net->wh + 3 * h * h;
    net->wo = net->b + 3 * h;
    net->bo = net->wo + h * v;
    return 0;
}

static float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

/* out[j] += sum of in[i] * weights[i][j] */
static void multiply(const float *in, const float *weights, size_t rows, size_t columns, float *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            out[j] += in[i] * weights[i * columns + j];
}

/* One step of a gated recurrent unit: the network has read one more character. */
static void writer_read(struct writer *w, const struct net *net, size_t kind)
{
    size_t h = net->hidden;
    float u[3 * HIDDEN_MAX] = {0};
    const float *a = net->wx + 3 * h * kind, *b = net->b;
    multiply(w->hidden, net->wh, h, 3 * h, u);
    for (size_t j = 0; j < h; j++) {
        float reset = sigmoid(a[j] + b[j] + u[j]);
        float update = sigmoid(a[h + j] + b[h + j] + u[h + j]);
        float new = tanhf(a[2 * h + j] + b[2 * h + j] + reset * u[2 * h + j]);
        w->hidden[j] = (1 - update) * new + update * w->hidden[j];
    }
}

/* splitmix64: the next number in [0, 1) */
static double chance(struct writer *w)
{
    uint64_t x = w->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (double)((x ^ x >> 31) >> 11) * 0x1p-53;
}

/* Chooses the next character by what the network expects, and reads it. */
static char writer_next(struct writer *w, const struct net *net)
{
    float scores[KINDS_MAX], best = -INFINITY;
    double weights[KINDS_MAX], sum = 0;
    size_t kind = 0;
    memcpy(scores, net->bo, net->kinds * sizeof(float));
    multiply(w->hidden, net->wo, net->hidden, net->kinds, scores);
    for (size_t i = 0; i < net->kinds; i++)
        best = fmaxf(best, scores[i]);
    for (size_t i = 0; i < net->kinds; i++)
        sum += weights[i] = exp((double)((scores[i] - best) / w->temperature));
    for (double left = chance(w) * sum; kind + 1 < net->kinds; kind++)
        if ((left -= weights[kind]) < 0)
            break;
    writer_read(w, net, kind);
    return net->characters[kind];
}

/* Starts a paragraph and reads the prompt; characters that the network never saw are left out. */
static void writer_init(struct writer *w, const struct net *net, const char *prompt, uint64_t seed,
                        double temperature)
{
    *w = (struct writer){.random = seed, .temperature = (float)fmax(temperature, 0.01)};
    writer_read(w, net, 0);
    for (; *prompt; prompt++) {
        const char *found = memchr(net->characters, *prompt, net->kinds);
        if (found)
            writer_read(w, net, (size_t)(found - net->characters));
    }
}

/* A part of the text, as the route wants it: events of a stream are JSON, else it is plain text. */
static int send_piece(struct hasup_response *response, const char *piece, size_t len, int events)
{
    if (!events)
        return hasup_chunk(response, piece, len);
    json_t *event = json_pack("{s:s, s:s%}", "model_name", "textgen", "text_output", piece, len);
    char *text = event ? json_dumps(event, JSON_COMPACT) : NULL;
    int sent = text ? hasup_chunk(response, text, strlen(text)) : -1;
    free(text);
    json_decref(event);
    return sent;
}

static int stream(struct writer *w, const struct net *net, const struct hasup_request *request,
                  struct hasup_response *response, size_t length)
{
    char piece[PIECE];
    int events = strcmp(hasup_request_route(request), "generate_stream") == 0;
    hasup_reply_type(response, "text/plain; charset=utf-8");
    if (request->progress_len == sizeof *w) {
        memcpy(w, request->progress, sizeof *w);
        hasup_resume_at(response, request->progress_at);
    }
    while (w->done < length && !hasup_request_cancelled(request)) {
        size_t len = 0;
        while (len < PIECE && w->done + len < length)
            piece[len++] = writer_next(w, net);
        if (send_piece(response, piece, len, events) != 0)
            return -1;
        w->done += len;
        if (w->done % PROGRESS_EVERY == 0 && hasup_progress(response, w, sizeof *w) != 0)
            return -1;
    }
    return 0;
}

static int reply_whole(struct writer *w, const struct net *net, struct hasup_response *response,
                       size_t length)
{
    char *text = malloc(length + 1);
    for (size_t i = 0; text && i < length; i++)
        text[i] = writer_next(w, net);
    json_t *answer = json_pack("{s:s, s:s%}", "model_name", "textgen", "text_output", text, length);
    char *body = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    int failed = !body || hasup_reply(response, body, strlen(body)) != 0;
    hasup_reply_type(response, "application/json");
    free(body);
    json_decref(answer);
    free(text);
    return failed;
}

/* What a chat has said so far, each message on lines of its own; to be freed; NULL: no memory. */
static char *join_messages(const struct hasup_completion *asked)
{
    size_t len = 0;
    for (size_t i = 0; i < asked->message_count; i++)
        len += strlen(asked->messages[i].text) + 1;
    char *joined = malloc(len + 1), *at = joined;
    for (size_t i = 0; joined && i < asked->message_count; i++)
        at += sprintf(at, i ? "\n%s" : "%s", asked->messages[i].text);
    return joined;
}

/* Tells the text in the words of OpenAI's clients; a character counts as a token. */
static int tell(struct writer *w, const struct net *net, const struct hasup_request *request,
                struct hasup_completion *asked, struct hasup_response *response)
{
    size_t length = asked->max_tokens ? (size_t)asked->max_tokens : 200;
    char piece[PIECE];
    if (request->progress_len == sizeof *w) {
        memcpy(w, request->progress, sizeof *w);
        hasup_completion_resume(asked, (int64_t)w->done);
    }
    while (w->done < length && !hasup_request_cancelled(request)) {
        size_t len = 0;
        while (len < PIECE && w->done + len < length)
            piece[len++] = writer_next(w, net);
        if (hasup_completion_text(asked, piece, len, (int64_t)len) != 0)
            return -1;
        w->done += len;
        if (asked->stream && w->done % PROGRESS_EVERY == 0 &&
            hasup_progress(response, w, sizeof *w) != 0)
            return -1;
    }
    return 0;
}

/* /v1/completions and /v1/chat/completions. */
static int complete(const struct net *net, const struct hasup_request *request,
                    struct hasup_response *response)
{
    struct hasup_completion *asked = hasup_completion_read(request, response);
    struct writer w;
    if (!asked)
        return -1;
    char *joined = asked->chat ? join_messages(asked) : NULL;
    const char *prompt = joined ? joined : asked->prompt;
    int64_t prompt_tokens = (int64_t)strlen(prompt);
    int failed = 1;
    if (asked->stop_count)
        hasup_error(response, 400, "stop: this model stops after max_tokens only");
    else if (asked->max_tokens > LENGTH_MAX)
        hasup_error(response, 400, "max_tokens: expected 1 to %d", LENGTH_MAX);
    else if (asked->chat && !joined)
        hasup_error(response, 503, "out of memory");
    else
        failed = 0;
    if (!failed) {
        writer_init(&w, net, prompt, asked->has_seed ? (uint64_t)asked->seed : 1,
                    asked->temperature < 0 ? 0.6 : asked->temperature);
        failed = tell(&w, net, request, asked, response);
    }
    free(joined);
    if (!failed)
        return hasup_completion_end(asked, "length", prompt_tokens);
    hasup_completion_free(asked);
    return -1;
}

/* The keys of /invoke, or those of generate: "text_input", and the others in "parameters". */
static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    const struct net *net = model;
    const char *route = hasup_request_route(request);
    if (!strcmp(route, "chat_completions") || !strcmp(route, "completions"))
        return complete(net, request, response);
    json_t *body = json_loadb(request->body, request->len, 0, NULL);
    const char *prompt = "", *input = NULL;
    json_int_t length = 200, seed = 1;
    double temperature = 0.6;
    json_t *given = json_object_get(body, "parameters");
    int failed = json_unpack(body, "{s?s, s?s}", "prompt", &prompt, "text_input", &input) ||
                 json_unpack(given ? given : body, "{s?I, s?I, s?F}", "n", &length, "seed", &seed,
                             "temperature", &temperature) ||
                 length < 1 || length > LENGTH_MAX;
    struct writer w;
    if (!failed)
        writer_init(&w, net, input ? input : prompt, (uint64_t)seed, temperature);
    json_decref(body);
    if (failed)
        return hasup_error(response, 400,
                           "expected JSON such as {\"prompt\": \"The Light\", \"n\": 200, "
                           "\"seed\": 1, \"temperature\": 0.6}, with n from 1 to %d",
                           LENGTH_MAX);
    if (strcmp(route, "generate") == 0)
        return reply_whole(&w, net, response, (size_t)length);
    return stream(&w, net, request, response, (size_t)length);
}

static const char *weights = EXAMPLES_DATA "/textgen.bin";

static int load(void **model)
{
    static struct net net;
    FILE *in = fopen(weights, "rb");
    int failed = !in || net_read(&net, in) != 0;
    if (failed)
        fprintf(stderr, "textgen: %s is not there or holds no weights\n", weights);
    if (in)
        fclose(in);
    *model = &net;
    return failed;
}

static void unload(void *model)
{
    free(((struct net *)model)->weights);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        weights = argv[1];
    return hasup_serve(&(struct hasup_worker){
        .load = load,
        .infer = infer,
        .unload = unload,
        .resumable = 1,
        .metadata = "{\"platform\": \"hasup_gru\", "
                    "\"inputs\": [{\"name\": \"text_input\", \"datatype\": \"BYTES\", "
                    "\"shape\": [1]}], "
                    "\"outputs\": [{\"name\": \"text_output\", \"datatype\": \"BYTES\", "
                    "\"shape\": [-1]}]}"});
}
