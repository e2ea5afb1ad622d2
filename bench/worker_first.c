/*
 * worker_first.c: the program that is killed and started again.  Linked statically; its first
 * instruction that is ours notes the time and says it through the pipe that BENCH_NOTES names.
 * Under hasupd it then serves; elsewhere it waits to be killed.
 */
#include "bench/worker_note.h"
#include "worker/hasup.h"

static struct worker_note note;

__attribute__((constructor)) static void first(void)
{
    note = worker_note_now();
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    (void)model;
    return hasup_reply(response, request->body, request->len);
}

int main(void)
{
    worker_note_say(note);
    if (getenv("HASUP_FD"))
        return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
    for (;;)
        pause();
}
