/* liar.c: a stateful worker whose answers differ in every process: its replays diverge. */
#include "worker/hasup.h"

#include <stdio.h>
#include <unistd.h>

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char text[32];
    (void)model;
    (void)request;
    return hasup_reply(response, text, (size_t)snprintf(text, sizeof text, "%d", (int)getpid()));
}

static int save(void *model, struct hasup_state *state)
{
    (void)model;
    return hasup_state_write(state, "", 0);
}

static int restore(void *model, const void *state, size_t len)
{
    (void)model;
    (void)state;
    (void)len;
    return 0;
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.infer = infer, .save = save, .restore = restore});
}
