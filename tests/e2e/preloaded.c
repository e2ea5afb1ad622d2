/*
 * preloaded.c: the worker that test_spares.py has forked: does what the request's body says.
 *
 *   echo TEXT     answers TEXT             pid      answers its pid
 *   slot          answers its HASUP_SLOT   print TEXT  says TEXT on stdout
 *   segv TEXT     says TEXT on stderr and dies by SIGSEGV
 *   child         leaves a grandchild in a session of its own, answers its pid
 *
 * Arguments: --hold MIB gives load() so much memory, touched in pages of 4 KiB; --thread: it starts
 * a thread; --map PATH: it maps that file.
 */
#include "worker/hasup.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static size_t held;
static const char *mapped;
static int threads;

static void *wait_for_ever(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

static int load(void **model)
{
    pthread_t thread;
    unsigned char *bytes = held ? aligned_alloc(2 * MIB, held) : NULL;
    *model = bytes;
    if (bytes) {
        madvise(bytes, held, MADV_NOHUGEPAGE);
        memset(bytes, 1, held);
    }
    int fd = mapped ? open(mapped, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
        return -1;
    return threads ? pthread_create(&thread, NULL, wait_for_ever, NULL) : 0;
}

static int leave_child(struct hasup_response *response)
{
    char text[32];
    pid_t child = fork();
    if (child == 0) {
        setsid();
        for (;;)
            pause();
    }
    int len = snprintf(text, sizeof text, "%d", (int)child);
    return hasup_reply(response, text, (size_t)len);
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char body[512];
    (void)model;
    snprintf(body, sizeof body, "%.*s", request->len < 500 ? (int)request->len : 500,
             request->len ? (const char *)request->body : "");
    if (strncmp(body, "echo ", 5) == 0)
        return hasup_reply(response, body + 5, strlen(body + 5));
    if (strncmp(body, "print ", 6) == 0)
        return puts(body + 6) < 0 || fflush(stdout);
    if (strncmp(body, "segv ", 5) == 0) {
        fprintf(stderr, "%s\n", body + 5);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit instead */
        raise(SIGSEGV);
    }
    if (strcmp(body, "child") == 0)
        return leave_child(response);
    if (strncmp(body, "env ", 4) == 0)
        return hasup_reply(response, getenv(body + 4), strlen(getenv(body + 4)));
    if (strcmp(body, "slot") == 0)
        return hasup_reply(response, getenv("HASUP_SLOT"), strlen(getenv("HASUP_SLOT")));
    int len = snprintf(body, sizeof body, "%d", (int)getpid());
    return hasup_reply(response, body, (size_t)len);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--thread") == 0)
            threads = 1;
        else if (strcmp(argv[i], "--hold") == 0 && i + 1 < argc)
            held = (size_t)strtoul(argv[++i], NULL, 10) * MIB;
        else if (strcmp(argv[i], "--map") == 0 && i + 1 < argc)
            mapped = argv[++i];
    }
    return hasup_serve(&(struct hasup_worker){.load = load, .infer = infer});
}
