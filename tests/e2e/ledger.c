/*
 * ledger.c: a worker whose state is as large as a test wants, and all of it matters: each request
 * adds one to the count and changes words all over the state; the answer is the count, and what it
 * read there.  With 8 bytes of state it is examples/counter.c.
 *
 * Arguments: --size N bytes of state (8); --snapshot: a child takes it.  In `save`, by environment:
 * SAVE_GATE=PATH waits until somebody writes to the FIFO, SAVE_FAILS fails, SAVE_DIES dies.
 */
#include "tests/e2e/gate.h"
#include "worker/hasup.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { TOUCHES = 32, HUGE_PAGE = 2 << 20 };

static size_t size = 8;
static uint64_t *words; /* the first is the count */

/* Large pages are what makes a fork of much memory quick. */
static int load(void **model)
{
    (void)model;
    if (size < HUGE_PAGE) {
        words = calloc(1, size);
        return !words;
    }
    words = aligned_alloc(HUGE_PAGE, (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    if (!words)
        return -1;
    madvise(words, size, MADV_HUGEPAGE);
    memset(words, 0, size);
    return 0;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * 0x9E3779B97F4A7C15u;
    return a ^ a >> 29;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    uint64_t seen = ++words[0], at = words[0];
    char text[64];
    (void)model;
    for (size_t i = 0; i < request->len; i++)
        at = mix(at, ((const uint8_t *)request->body)[i]);
    for (int i = 0; i < TOUCHES && size > 8; i++) {
        uint64_t *word = &words[1 + (at = mix(at, (uint64_t)i)) % (size / 8 - 1)];
        seen = mix(seen, *word);
        *word = mix(*word, at);
    }
    int len = size > 8 ? snprintf(text, sizeof text, "%llu %016llx\n", (unsigned long long)words[0],
                                  (unsigned long long)seen)
                       : snprintf(text, sizeof text, "%llu\n", (unsigned long long)words[0]);
    return hasup_reply(response, text, (size_t)len);
}

static int save(void *model, struct hasup_state *state)
{
    (void)model;
    if (getenv("SAVE_GATE"))
        gate_wait(getenv("SAVE_GATE"));
    if (getenv("SAVE_DIES"))
        raise(SIGKILL);
    return getenv("SAVE_FAILS") ? -1 : hasup_state_write(state, words, size);
}

static int restore(void *model, const void *state, size_t len)
{
    (void)model;
    if (len != size)
        return -1;
    memcpy(words, state, len);
    return 0;
}

int main(int argc, char **argv)
{
    int snapshot = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--snapshot") == 0)
            snapshot = 1;
        else if (strcmp(argv[i], "--size") == 0 && i + 1 < argc)
            size = (size_t)atoll(argv[++i]) / 8 * 8;
    }
    return hasup_serve(&(struct hasup_worker){.load = load,
                                              .infer = infer,
                                              .save = save,
                                              .restore = restore,
                                              .concurrency = 16,
                                              .snapshot = snapshot});
}
