/* echo: answers what it was sent. */
#include "worker/hasup.h"

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    (void)model;
    return hasup_reply(response, request->body, request->len);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .concurrency = 128});
}
