/*
 * worker_storm.c: makes orphans: "RATE SECONDS" in a request's body gives so many processes a
 * second to hasupd, which is their parent at once (CLONE_PARENT, which costs less than to have them
 * orphaned); each exits at once.  Answers how many.  With the two as arguments it is a command for
 * `hasupd run`: it says how many, and ends with its standard input.
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

/* How many; -1: it cannot. */
static long storm(double rate, double seconds)
{
    static char stack[16384] __attribute__((aligned(64)));
    const struct timespec moment = {.tv_nsec = 500000};
    const double begun = now();
    long made = 0;
    for (double at = begun; at < begun + seconds; at = now()) {
        for (; (double)made < (at - begun) * rate; made++)
            if (clone(leave, stack + sizeof stack, CLONE_PARENT | CLONE_VM | CLONE_VFORK | SIGCHLD,
                      NULL) < 0)
                return -1;
        nanosleep(&moment, NULL);
    }
    return made;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char text[64];
    double rate = 0, seconds = 0;
    (void)model;
    snprintf(text, sizeof text, "%.*s", (int)request->len, (const char *)request->body);
    sscanf(text, "%lf %lf", &rate, &seconds);
    const long made = storm(rate, seconds);
    if (made < 0)
        return hasup_error(response, 500, "clone");
    int len = snprintf(text, sizeof text, "%ld", made);
    return hasup_reply(response, text, (size_t)len);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
    printf("%ld\n", storm(strtod(argv[1], NULL), strtod(argv[2], NULL)));
    fflush(stdout);
    return getchar() != EOF;
}
