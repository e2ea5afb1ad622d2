/*
 * batched.c: a worker that takes batches.  A request's body:
 *
 *   count         answers how many came together with it
 *   wait PATH     the whole batch waits until PATH (a FIFO) is written to; answers as count
 *   fail          answers an error of its own
 *   log TEXT      says TEXT about this request, and answers as count
 *   key           answers its batch key, and how many came together
 *   order         answers which of those that came together it is, from 1
 *   stream N      N parts; those that came together by turns, and what is no stream before them
 *   until-cancelled   runs until nobody waits for it, answers "cancelled"
 *   big N         answers N bytes
 *   all           the batch fails as a whole
 *   crash         the worker dies by SIGABRT, and with it all that came together
 *   sum BYTES     answers the sum of the bytes of what it was sent
 *
 * --stateful: answers "N of M" instead, N the requests that it has run since its state began.
 * --most N: takes so many at once; 8.
 */
#include "tests/e2e/gate.h"
#include "worker/hasup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long long ran;
static int stateful;

static int is(const struct hasup_request *request, const char *word)
{
    size_t len = strlen(word);
    return request->len >= len && memcmp(request->body, word, len) == 0;
}

/* Of "big N" and "stream N". */
static long number_of(const struct hasup_request *request)
{
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)request->len, (const char *)request->body);
    const char *space = strchr(text, ' ');
    return space ? atol(space) : 0;
}

static void big(struct hasup_response *response, size_t len)
{
    unsigned char *room = hasup_reply_room(response, len);
    for (size_t i = 0; room && i < len; i++)
        room[i] = (unsigned char)(i * 31);
}

static void answer(const struct hasup_request *request, struct hasup_response *response,
                   size_t place, size_t count)
{
    char text[64];
    unsigned long long sum = 0;
    ran++;
    if (is(request, "log "))
        hasup_log(request, "%.*s\n", (int)request->len - 4, (const char *)request->body + 4);
    if (is(request, "fail")) {
        hasup_error(response, 418, "this one fails");
        return;
    }
    if (is(request, "big ")) {
        big(response, (size_t)number_of(request));
        return;
    }
    while (is(request, "until-cancelled") && !hasup_request_cancelled(request))
        continue;
    for (size_t i = 0; i < request->len; i++)
        sum += ((const unsigned char *)request->body)[i];
    int len = is(request, "sum ") ? snprintf(text, sizeof text, "%llu", sum)
              : is(request, "key")
                  ? snprintf(text, sizeof text, "%s %zu", hasup_request_batch_key(request), count)
              : is(request, "order")           ? snprintf(text, sizeof text, "%zu", place)
              : is(request, "until-cancelled") ? snprintf(text, sizeof text, "cancelled")
              : stateful ? snprintf(text, sizeof text, "%llu of %zu", ran, count)
                         : snprintf(text, sizeof text, "%zu", count);
    hasup_reply(response, text, (size_t)len);
}

/* The next part, or the end. */
static void tell(const struct hasup_request *request, struct hasup_response *response, long part)
{
    char text[64];
    long parts = number_of(request);
    int len = snprintf(text, sizeof text, "part %ld of %ld\n", part, parts);
    if (part <= parts)
        hasup_chunk(response, text, (size_t)len);
    else if (part == parts + 1)
        hasup_reply_now(response);
}

static void answer_all(size_t count, const struct hasup_request *const requests[],
                       struct hasup_response *const responses[])
{
    long parts = 0;
    for (size_t i = 0; i < count; i++)
        if (is(requests[i], "stream "))
            parts = number_of(requests[i]) > parts ? number_of(requests[i]) : parts;
        else
            answer(requests[i], responses[i], i + 1, count);
    for (size_t i = 0; parts && i < count; i++)
        if (!is(requests[i], "stream "))
            hasup_reply_now(responses[i]);
    for (long part = 1; part <= parts + 1; part++)
        for (size_t i = 0; i < count; i++)
            if (is(requests[i], "stream "))
                tell(requests[i], responses[i], part);
}

static int infer_batch(void *model, size_t count, const struct hasup_request *const requests[],
                       struct hasup_response *const responses[])
{
    char path[256];
    (void)model;
    for (size_t i = 0; i < count; i++) {
        if (is(requests[i], "crash"))
            raise(SIGABRT);
        if (is(requests[i], "wait ") && !requests[i]->replay) {
            snprintf(path, sizeof path, "%.*s", (int)requests[i]->len - 5,
                     (const char *)requests[i]->body + 5);
            gate_wait(path);
        }
    }
    for (size_t i = 0; i < count; i++)
        if (is(requests[i], "all"))
            return -1;
    answer_all(count, requests, responses);
    return 0;
}

static int save(void *model, struct hasup_state *state)
{
    (void)model;
    return hasup_state_write(state, &ran, sizeof ran);
}

static int restore(void *model, const void *state, size_t len)
{
    (void)model;
    if (len != sizeof ran)
        return -1;
    memcpy(&ran, state, len);
    return 0;
}

int main(int argc, char **argv)
{
    struct hasup_worker worker = {.infer_batch = infer_batch, .max_batch = 8};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--stateful") == 0)
            stateful = 1;
        else if (strcmp(argv[i], "--most") == 0 && i + 1 < argc)
            worker.max_batch = (unsigned)atoi(argv[++i]);
    }
    if (stateful) {
        worker.save = save;
        worker.restore = restore;
    }
    return hasup_serve(&worker);
}
