/*
 * The SDK's helpers live through any body: each is read and answered, or refused with a reason,
 * under the sanitizers without a read beyond it.  Bodies are damaged by a seeded generator;
 * HASUP_FUZZ_SEED and HASUP_FUZZ_ROUNDS choose others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/splitmix.h"
#include "worker/runtime.h"

enum { ROUNDS = 40000, BODY_MAX = 4096, TELLS = 20 };

static uint64_t seed;

static size_t below(size_t n)
{
    return (size_t)(splitmix(&seed) % n);
}

/* ---- a runtime without a hasupd ---- */

static const struct hasup_tensor_spec inputs[] = {
    {"x", HASUP_FP32, 2, {-1, 2}, 1}, {"s", HASUP_BYTES, 1, {-1}, 1}, {.name = NULL}};
static const struct hasup_signature signature = {.inputs = inputs};

static struct hasup_worker worker;
static struct hasup_runtime runtime;
static struct hasup_response response;
static int other_end;

static int open_runtime(void **state)
{
    int ends[2];
    (void)state;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
        return -1;
    other_end = ends[1];
    runtime =
        (struct hasup_runtime){.worker = &worker, .inline_max = HASUP_INLINE_MAX, .resumes = true};
    hasup_channel_init(&runtime.channel, ends[0], 0);
    return 0;
}

static int close_runtime(void **state)
{
    (void)state;
    hasup_channel_fini(&runtime.channel);
    close(other_end);
    free(response.body.at);
    free(response.meta.at);
    return 0;
}

static void drain(void)
{
    static char bytes[65536];
    while (recv(other_end, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
}

/* ---- bodies ---- */

static const char *const infers[] = {
    "{\"id\":\"a\\n\",\"parameters\":{\"binary_data_output\":false,\"j\":[1,{}],\"k\":7},"
    "\"inputs\":[{"
    "\"name\":\"x\","
    "\"shape\":[2,2],\"datatype\":\"FP32\",\"data\":[[1.5,-2e3],[0,4]]},{\"name\":\"s\",\"shape\":["
    "2],\"datatype\":"
    "\"BYTES\",\"data\":[\"a\\u00e9\",\"\"]}],\"outputs\":[{\"name\":\"s\",\"parameters\":{"
    "\"binary_data\":true}}]}",
    "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"parameters\":{\"binary_"
    "data_size\":8}},"
    "{\"name\":\"s\",\"shape\":[2],\"datatype\":\"BYTES\",\"parameters\":{\"binary_data_size\":9}}]"
    "}"
    "01234567\1\0\0\0x\0\0\0\0",
    "{\"inputs\":[{\"name\":\"u\",\"shape\":[3],\"datatype\":\"UINT64\",\"data\":[0,1,"
    "18446744073709551615]},{\"name\":"
    "\"h\",\"shape\":[],\"datatype\":\"FP16\",\"data\":1},{\"name\":\"b\",\"shape\":[1,0],"
    "\"datatype\":\"BOOL\",\"data\":[]}]}",
};
static const size_t infer_tails[] = {0, 17, 0};

static const char *const chats[] = {
    "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"system\",\"content\":"
    "\"a\\ud83d\\ude00\"},{\"role\":\"user\","
    "\"content\":[{\"type\":\"text\",\"text\":\"b\\\"c\"},{\"type\":\"text\",\"text\":\"\"}]}],"
    "\"stop\":[\"x\",\"y\"],"
    "\"stream_options\":{\"include_usage\":true},\"max_tokens\":5,\"temperature\":0.5,\"seed\":-1,"
    "\"n\":1}",
    "{\"model\":\"m\",\"prompt\":[\"one "
    "two\"],\"echo\":false,\"logprobs\":null,\"stop\":\"\\n\",\"top_p\":1}",
};

static size_t damage(char *body, size_t len)
{
    static const char marks[] = "{}[]\",:\\u0e.-+tfn19";
    for (size_t i = below(4); i && len > 1; i--) {
        size_t at = below(len), rest = len - at;
        switch (below(6)) {
        case 0: body[at] = marks[below(sizeof marks - 1)]; break;
        case 1: body[at] = (char)splitmix(&seed); break;
        case 2: memmove(body + at, body + at + 1, rest - 1), len--; break;
        case 3: len = at + 1; break;
        case 4: /* a part twice */
            if (len + rest < BODY_MAX)
                memmove(body + at + rest, body + at, rest), len += rest;
            break;
        case 5: /* a number that grows */
            while (at < len && (body[at] < '0' || body[at] > '9'))
                at++;
            if (at < len && len < BODY_MAX)
                memmove(body + at + 1, body + at, len - at), len++;
            break;
        }
    }
    return len;
}

/* ---- what a worker does with them ---- */

static int echo(const struct hasup_request *request)
{
    struct hasup_infer *infer = hasup_infer_read(request, &response);
    const struct hasup_tensor *t;
    uint64_t sum = 0;
    if (!infer)
        return -1;
    for (size_t i = 0; (t = hasup_infer_input_at(infer, i)); i++) {
        void *out = hasup_infer_output(infer, t->name, t->datatype, t->rank, t->shape);
        const struct hasup_string *strings = t->data;
        if (out && t->datatype == HASUP_BYTES)
            for (size_t k = 0; k < t->count; k++) {
                ((struct hasup_string *)out)[k] = strings[k];
                for (size_t at = 0; at < strings[k].len; at++)
                    sum += (uint8_t)strings[k].at[at];
            }
        if (out && t->datatype == HASUP_FP32)
            memcpy(out, t->data, t->count * sizeof(float));
    }
    hasup_infer_integer(infer, NULL, "k", (int64_t)sum);
    return hasup_infer_end(infer);
}

static int tell(const struct hasup_request *request)
{
    struct hasup_completion *asked = hasup_completion_read(request, &response);
    if (!asked)
        return -1;
    const char *text = asked->prompt;
    for (size_t i = 0; i < asked->message_count; i++)
        text = asked->messages[i].text;
    for (int i = 0; i < TELLS && *text; i++) {
        size_t len = strnlen(text, 3); /* and half characters, too */
        assert_int_equal(hasup_completion_text(asked, text, len, 1), 0);
        text += len;
    }
    return hasup_completion_end(asked, asked->stop_count ? asked->stop[0] : "stop", 1);
}

static size_t put_header(uint8_t *meta, size_t room, const char *route, size_t tail, size_t len)
{
    struct hasup_meta_writer w;
    char header[64] = "inference-header-content-length";
    size_t name = strlen(header) + 1;
    hasup_meta_start(&w, meta, room);
    hasup_meta_put(&w, HASUP_TAG_ROUTE, route, strlen(route));
    if (tail && tail <= len) {
        snprintf(header + name, sizeof header - name, "%zu", len - tail);
        hasup_meta_put(&w, HASUP_TAG_HEADER, header, name + strlen(header + name));
    }
    return w.used;
}

/* Whether it was answered; refused otherwise, with a reason. */
static bool run(const char *body, size_t len, const char *route, size_t tail)
{
    uint8_t meta[256];
    char *copy = malloc(len ? len : 1); /* of exactly that length */
    struct hasup_frame frame = {.meta = meta};
    struct hasup_running running = {.runtime = &runtime, .frame = &frame};
    memcpy(copy, body, len);
    frame.meta_len = (uint32_t)put_header(meta, sizeof meta, route, tail, len);
    running.request.body = copy;
    running.request.len = len;
    hasup_response_open(&response, &runtime, 1);
    int failed = strcmp(route, "infer") ? tell(&running.request) : echo(&running.request);
    assert_int_equal(failed != 0, response.failed);
    assert_true(!failed || (response.status >= 400 && response.meta.len > 8));
    drain();
    while (running.texts) {
        struct hasup_text *next = running.texts->next;
        free(running.texts);
        running.texts = next;
    }
    free(copy);
    return !failed;
}

static long rounds(uint64_t *first)
{
    const char *text = getenv("HASUP_FUZZ_SEED"), *count = getenv("HASUP_FUZZ_ROUNDS");
    *first = text ? strtoull(text, NULL, 0) : 1;
    return count ? atol(count) : ROUNDS;
}

static size_t body_len(size_t which)
{
    return which == 1 ? (size_t)(strchr(infers[1], '\1') - infers[1]) + 9 : strlen(infers[which]);
}

static void inference_bodies(void **state)
{
    uint64_t first;
    long count = rounds(&first), answered = 0;
    char body[BODY_MAX];
    (void)state;
    for (size_t i = 0; i < HASUP_LEN(infers); i++) {
        worker.signature = i == 2 ? NULL : &signature;
        assert_true(run(infers[i], body_len(i), "infer", infer_tails[i]));
    }
    for (long i = 0; i < count; i++) {
        seed = first + (uint64_t)i;
        size_t which = below(HASUP_LEN(infers)), len = body_len(which);
        memcpy(body, infers[which], len);
        len = damage(body, len);
        worker.signature = below(2) ? &signature : NULL;
        answered += run(body, len, "infer", infer_tails[which]);
    }
    assert_true(answered > count / 20);
}

static void completion_bodies(void **state)
{
    uint64_t first;
    long count = rounds(&first), answered = 0;
    char body[BODY_MAX];
    (void)state;
    for (long i = 0; i < count; i++) {
        seed = first + (uint64_t)i;
        size_t which = below(HASUP_LEN(chats)), len = strlen(chats[which]);
        memcpy(body, chats[which], len);
        len = damage(body, len);
        answered += run(body, len, which ? "completions" : "chat_completions", 0);
    }
    assert_true(answered > count / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inference_bodies),
        cmocka_unit_test(completion_bodies),
    };
    return cmocka_run_group_tests(tests, open_runtime, close_runtime);
}
