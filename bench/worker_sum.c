/* worker_sum.c: reads one word of each page of a body and answers their sum: the bytes are there.
 */
#include "bench/pages.h"
#include "worker/hasup.h"

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    uint64_t sum = pages_sum(request->body, request->len);
    (void)model;
    return hasup_reply(response, &sum, sizeof sum);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 1});
}
