/*
 * batched.c: a worker that takes batches.  A request's body:
 *
 *   count         answers how many came together with it
 *   wait PATH     the whole batch waits until PATH (a FIFO) is written to; answers as count
 *   fail          answers an error of its own
 *   all           the batch fails as a whole
 *   crash         the worker dies by SIGABRT, and with it all that came together
 *   sum BYTES     answers the sum of the bytes of what it was sent
 *
 * --stateful: answers "N of M" instead, N the requests that it has run since its state began.
 */
#include "tests/e2e/gate.h"
#include "worker/hasup.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 8 };

static unsigned long long ran;
static int stateful;

static int is(const struct hasup_request *request, const char *word)
{
    size_t len = strlen(word);
    return request->len >= len && memcmp(request->body, word, len) == 0;
}

static void answer(const struct hasup_request *request, struct hasup_response *response,
                   size_t count)
{
    char text[64];
    unsigned long long sum = 0;
    ran++;
    if (is(request, "fail")) {
        hasup_error(response, 418, "this one fails");
        return;
    }
    for (size_t i = 0; i < request->len; i++)
        sum += ((const unsigned char *)request->body)[i];
    int len = is(request, "sum ") ? snprintf(text, sizeof text, "%llu", sum)
              : stateful          ? snprintf(text, sizeof text, "%llu of %zu", ran, count)
                                  : snprintf(text, sizeof text, "%zu", count);
    hasup_reply(response, text, (size_t)len);
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
    for (size_t i = 0; i < count; i++)
        answer(requests[i], responses[i], count);
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
    struct hasup_worker worker = {.infer_batch = infer_batch, .max_batch = MAX_BATCH};
    stateful = argc > 1 && strcmp(argv[1], "--stateful") == 0;
    if (stateful) {
        worker.save = save;
        worker.restore = restore;
    }
    return hasup_serve(&worker);
}
