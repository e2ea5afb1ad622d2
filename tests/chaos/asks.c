/*
 * asks.c: the questions and what is right: held-out digits, prompts with seeds, and the counter. An
 * answer is right when it equals, byte for byte, what an undisturbed worker said to the same
 * question.
 */
#include "tests/chaos/chaos.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 64, DIGIT_ASKS = 359, TEXT_ASKS = 24, TEXT_LENGTH = 600, COUNTED_ROOM = 1 << 22 };

static int ask_add(struct asks *asks, enum kind kind, const char *path, const char *body, int label)
{
    if (asks->count == ASKS_MAX)
        return -1;
    struct ask *ask = &asks->list[asks->count];
    *ask = (struct ask){
        .kind = kind, .label = label, .path = path, .body = strdup(body), .len = strlen(body)};
    if (!ask->body)
        return -1;
    if (!asks->of_kind[kind]++)
        asks->first[kind] = asks->count;
    asks->count++;
    return 0;
}

/* One row of the held-out digits as an Open Inference Protocol request. */
static int add_digit(struct asks *asks, enum kind kind, const char *path, char *row)
{
    char body[1024];
    char *last = strrchr(row, ',');
    if (!last)
        return -1;
    int label = atoi(last + 1);
    snprintf(body, sizeof body,
             "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,%d],\"datatype\":\"FP32\","
             "\"data\":[%.*s]}]}",
             PIXELS, (int)(last - row), row);
    return ask_add(asks, kind, path, body, label);
}

static int add_digits(struct asks *asks, enum kind kind, const char *path, int most)
{
    char row[1024];
    int failed = 0;
    FILE *file = fopen("examples/data/digits_held_out.csv", "re");
    if (!file) {
        perror("examples/data/digits_held_out.csv");
        return -1;
    }
    for (int i = 0; i < most && !failed && fgets(row, sizeof row, file); i++)
        failed = add_digit(asks, kind, path, row);
    fclose(file);
    return failed;
}

int asks_load(struct asks *asks, bool with_python)
{
    static const char *const PROMPTS[] = {"The Light", "Colours", "In the Prism", "Rays of"};
    char body[256];
    *asks = (struct asks){.counted = calloc(COUNTED_ROOM, 1)};
    if (!asks->counted || add_digits(asks, KIND_DIGITS, "/v2/models/digits/infer", DIGIT_ASKS) ||
        (with_python && add_digits(asks, KIND_PYTHON, "/v2/models/digits-py/infer", DIGIT_ASKS)))
        return -1;
    for (int i = 0; i < TEXT_ASKS; i++) {
        snprintf(body, sizeof body, "{\"prompt\":\"%s\",\"n\":%d,\"seed\":%d}",
                 PROMPTS[i % (int)HASUP_LEN(PROMPTS)], TEXT_LENGTH, i + 1);
        if (ask_add(asks, KIND_TEXT, "/models/textgen/invoke", body, 0))
            return -1;
    }
    return ask_add(asks, KIND_COUNTER, "/models/counter/invoke", "", 0);
}

void asks_free(struct asks *asks)
{
    for (size_t i = 0; i < asks->count; i++) {
        free(asks->list[i].body);
        free(asks->list[i].answer);
    }
    free(asks->counted);
}

/* The digit that an answer names: the first number of the first output's data. */
static bool names_label(const char *body, size_t len, int label)
{
    const char *data = memmem(body, len, "\"data\":[", 8);
    return data && data + 8 < body + len && data[8] - '0' == label;
}

static void judge_count(struct asks *asks, const char *body, size_t len, struct tally *tally)
{
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)len, body);
    unsigned long long total = strtoull(text, NULL, 10);
    if (!total || total >= COUNTED_ROOM) {
        tally->wrong++;
        return;
    }
    if (asks->counted[total]++)
        tally->duplicated++;
    if (total > asks->counted_max)
        asks->counted_max = total;
}

void asks_judge(struct asks *asks, struct ask *ask, const char *body, size_t len,
                struct tally *tally)
{
    if (ask->kind == KIND_COUNTER) {
        judge_count(asks, body, len, tally);
        return;
    }
    if (!ask->answer) {
        ask->answer = malloc(len + 1);
        if (!ask->answer)
            abort();
        memcpy(ask->answer, body, len);
        ask->answer_len = len;
        ask->right = names_label(body, len, ask->label);
        return;
    }
    if (len != ask->answer_len || memcmp(body, ask->answer, len))
        tally->wrong++;
}

uint64_t asks_count_errors(const struct asks *asks, uint64_t answered)
{
    uint64_t errors =
        asks->counted_max > answered ? asks->counted_max - answered : answered - asks->counted_max;
    for (uint64_t i = 1; i <= asks->counted_max; i++)
        errors += asks->counted[i] != 1;
    return errors;
}

double asks_accuracy(const struct asks *asks, enum kind kind)
{
    size_t right = 0, learnt = 0;
    for (size_t i = 0; i < asks->count; i++)
        if (asks->list[i].kind == kind && asks->list[i].answer) {
            learnt++;
            right += asks->list[i].right;
        }
    return learnt ? 100.0 * (double)right / (double)learnt : 0;
}
