/*
 * worker_held.c: has BENCH_MIB of memory, all of it touched in pages of 4 KiB by load(), which is
 * the dearest to fork; answers its pid.
 */
#include "worker/hasup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

static int load(void **model)
{
    const char *mib = getenv("BENCH_MIB");
    size_t len = (size_t)(mib ? atol(mib) : 0) << 20;
    if (!len)
        return 0;
    unsigned char *bytes = aligned_alloc(HUGE_PAGE, len);
    *model = bytes;
    if (!bytes)
        return -1;
    madvise(bytes, len, MADV_NOHUGEPAGE);
    memset(bytes, 1, len);
    return 0;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char text[16];
    (void)model;
    (void)request;
    int len = snprintf(text, sizeof text, "%d", (int)getpid());
    return hasup_reply(response, text, (size_t)len);
}

int main(void)
{
    return hasup_serve(&(struct hasup_worker){.load = load, .infer = infer});
}
