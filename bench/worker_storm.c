/*
 * worker_storm.c: makes orphans: "RATE SECONDS" in a request's body gives so many processes a
 * second to hasupd, which is their parent at once (CLONE_PARENT, which costs less than to have them
 * orphaned); each exits at once.  Answers how many.
 */
#include "worker/hasup.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int leave(void *context)
{
    (void)context;
    _exit(0);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    static char stack[16384] __attribute__((aligned(64)));
    const struct timespec moment = {.tv_nsec = 500000};
    char text[64];
    double rate = 0, seconds = 0, begun = now();
    long made = 0;
    (void)model;
    snprintf(text, sizeof text, "%.*s", (int)request->len, (const char *)request->body);
    sscanf(text, "%lf %lf", &rate, &seconds);
    for (double at = begun; at < begun + seconds; at = now()) {
        for (; (double)made < (at - begun) * rate; made++)
            if (clone(leave, stack + sizeof stack, CLONE_PARENT | CLONE_VM | CLONE_VFORK | SIGCHLD,
                      NULL) < 0)
                return hasup_error(response, 500, "clone");
        nanosleep(&moment, NULL);
    }
    int len = snprintf(text, sizeof text, "%ld", made);
    return hasup_reply(response, text, (size_t)len);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
}
