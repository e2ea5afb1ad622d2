/* A worker made with the SDK's helpers, for tests; tests/unit/helped.py does the same in Python.
 * /v1: tells the words of the prompt (or of the last message) one by one, each followed by a
 * progress; the word "fail!" is an error. infer: gives each input back as an output of its name;
 * with --signed, y = x * scale + n and, where it is wanted, a word for each row, with a signature.
 * Parameters make it go wrong as an output can. */
#include "worker/hasup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t count_words(const char *text)
{
    int64_t count = 0;
    for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
        text += strcspn(text, " ");
        count++;
    }
    return count;
}

static int complete(const struct hasup_request *request, struct hasup_response *response)
{
    struct hasup_completion *asked = hasup_completion_read(request, response);
    if (!asked)
        return -1;
    const char *prompt =
        asked->chat ? asked->messages[asked->message_count - 1].text : asked->prompt;
    int64_t words = count_words(prompt), done = 0, from = 0;
    if (request->progress_len == sizeof from) {
        memcpy(&from, request->progress, sizeof from);
        hasup_completion_resume(asked, from);
    }
    const char *finish = "stop", *at = prompt;
    while (at += strspn(at, " "), *at) {
        size_t len = strcspn(at, " ");
        if (asked->max_tokens && done == asked->max_tokens) {
            finish = "length";
            break;
        }
        if (!strncmp(at, "fail!", 5)) {
            hasup_completion_free(asked);
            return hasup_error(response, 500, "it failed");
        }
        if (done++ >= from && (hasup_completion_text(asked, at, len, 1) ||
                               (asked->stream && hasup_progress(response, &done, sizeof done))))
            break;
        at += len;
    }
    return hasup_completion_end(asked, finish, words);
}

static size_t size_of(enum hasup_datatype datatype)
{
    static const size_t sizes[] = {
        0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, sizeof(struct hasup_string)};
    return sizes[datatype];
}

static int echo(struct hasup_infer *infer)
{
    const struct hasup_tensor *t;
    for (size_t i = 0; (t = hasup_infer_input_at(infer, i)); i++) {
        void *out = hasup_infer_output(infer, t->name, t->datatype, t->rank, t->shape);
        if (out && t->count)
            memcpy(out, t->data, t->count * size_of(t->datatype));
        if (out && t->count && hasup_infer_flag(infer, t->name, "spoil", 0)) {
            if (t->datatype == HASUP_BYTES)
                *(struct hasup_string *)out = (struct hasup_string){"\xff", 1};
            else
                *(float *)out = (float)INFINITY;
        }
    }
    return hasup_infer_end(infer);
}

static const struct hasup_tensor_spec inputs[] = {
    {"x", HASUP_FP32, 2, {-1, 2}, 0}, {"n", HASUP_INT64, 1, {1}, 1}, {.name = NULL}};
static const struct hasup_tensor_spec outputs[] = {
    {"y", HASUP_FP32, 2, {-1, 2}, 0}, {"word", HASUP_BYTES, 1, {-1}, 0}, {.name = NULL}};
static const char *const versions[] = {"1", "2 \"b\"", NULL};
static const struct hasup_signature signature = {
    .platform = "test", .versions = versions, .inputs = inputs, .outputs = outputs};
static int is_signed;

static int compute(struct hasup_infer *infer)
{
    const struct hasup_tensor *x = hasup_infer_input(infer, "x"),
                              *n = hasup_infer_input(infer, "n");
    const char *wrong = hasup_infer_text(infer, NULL, "wrong", "");
    float scale = (float)hasup_infer_number(infer, NULL, "scale", 1);
    float more =
        n ? (float)*(const int64_t *)n->data : (float)hasup_infer_integer(infer, "x", "n", 0);
    int64_t shape[] = {x->shape[0], strcmp(wrong, "shape") ? 2 : 3};
    float *y = hasup_infer_output(infer, strcmp(wrong, "name") ? "y" : "z",
                                  strcmp(wrong, "datatype") ? HASUP_FP32 : HASUP_FP64, 2, shape);
    for (size_t i = 0; y && i < x->count; i++)
        y[i] = ((const float *)x->data)[i] * scale + more;
    struct hasup_string *words = hasup_infer_wants(infer, "word") && strcmp(wrong, "missing")
                                     ? hasup_infer_output(infer, "word", HASUP_BYTES, 1, shape)
                                     : NULL;
    for (int64_t i = 0; words && i < x->shape[0]; i++)
        words[i] = i % 2 ? (struct hasup_string){"odd", 3} : (struct hasup_string){"\xc3\xa9", 2};
    hasup_infer_say(infer, "{\"done\":true}");
    return hasup_infer_end(infer);
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    (void)model;
    if (strcmp(hasup_request_route(request), "infer") != 0)
        return complete(request, response);
    struct hasup_infer *infer = hasup_infer_read(request, response);
    if (!infer)
        return -1;
    return is_signed ? compute(infer) : echo(infer);
}

int main(int argc, char **argv)
{
    is_signed = argc > 1 && !strcmp(argv[1], "--signed");
    return hasup_serve(&(struct hasup_worker){
        .infer = infer, .resumable = 1, .signature = is_signed ? &signature : NULL});
}
