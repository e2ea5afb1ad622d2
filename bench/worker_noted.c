/*
 * worker_noted.c: notes when its first request arrives, through the pipe that BENCH_NOTES names,
 * and echoes.
 */
#include "bench/worker_note.h"
#include "worker/hasup.h"

#include <stdbool.h>

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    static bool noted;
    (void)model;
    if (!noted)
        worker_note();
    noted = true;
    return hasup_reply(response, request->body, request->len);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
}
