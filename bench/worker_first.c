/*
 * worker_first.c: the program that is killed and started again.  Linked statically; its first
 * instruction that is ours notes the time and says it through the pipe that BENCH_NOTES names.
 * Under hasupd it then serves; elsewhere it waits to be killed.
 */
#include "worker/hasup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct note {
    int64_t pid, at_ns;
};

static struct note note;

__attribute__((constructor)) static void first(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    note = (struct note){getpid(), (int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    (void)model;
    return hasup_reply(response, request->body, request->len);
}

int main(void)
{
    const char *path = getenv("BENCH_NOTES");
    int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, &note, sizeof note) != sizeof note)
        return 1;
    close(fd);
    if (getenv("HASUP_FD"))
        return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
    for (;;)
        pause();
}
