/* The counter with a state of 256 KiB, all of which changes with each request, and which no packing
 * makes smaller: it needs room. */
#include "worker/hasup.h"

#include <stdio.h>
#include <string.h>

static long total[32768];

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char text[32];
    (void)model;
    (void)request;
    total[0]++;
    for (size_t i = 1; i < sizeof total / sizeof *total; i++)
        total[i] = (long)((unsigned long)(total[0] + (long)i) * 0x9e3779b97f4a7c15u >> 7);
    int len = snprintf(text, sizeof text, "%ld\n", total[0]);
    return hasup_reply(response, text, (size_t)len);
}

static int save(void *model, struct hasup_state *state)
{
    (void)model;
    return hasup_state_write(state, total, sizeof total);
}

static int restore(void *model, const void *state, size_t len)
{
    (void)model;
    if (len != sizeof total)
        return -1;
    memcpy(total, state, len);
    return 0;
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){
        .infer = infer, .save = save, .restore = restore, .concurrency = 16});
}
