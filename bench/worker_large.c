/*
 * worker_large.c: has 256 MiB in huge pages, all of it touched, and does what the body says: "pid"
 * answers its number; "break" and "die" note when, and then end the worker, by what is no frame or
 * by SIGKILL; whoever gets them next notes when, and echoes.  BENCH_STATE=inline or forked: it is a
 * state, and who saves it.
 */
#include "bench/worker_note.h"
#include "worker/hasup.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static const size_t LEN = (size_t)256 << 20;
enum { HUGE_PAGE = 2 << 20 };

static uint8_t *bytes;

static int load(void **model)
{
    (void)model;
    bytes = aligned_alloc(HUGE_PAGE, LEN);
    if (!bytes)
        return -1;
    madvise(bytes, LEN, MADV_HUGEPAGE);
    memset(bytes, 1, LEN);
    return 0;
}

static int end(const char *how)
{
    static const char NO_FRAME[] = "this is no frame, and it is long enough to be one";
    worker_note();
    if (strcmp(how, "die") == 0)
        raise(SIGKILL);
    return write(atoi(getenv("HASUP_FD")), NO_FRAME, sizeof NO_FRAME) < 0;
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char how[16];
    (void)model;
    snprintf(how, sizeof how, "%.*s", (int)request->len, (const char *)request->body);
    bytes[request->position * 4096 % LEN]++;
    if (strcmp(how, "pid") == 0) {
        int len = snprintf(how, sizeof how, "%d", (int)getpid());
        return hasup_reply(response, how, (size_t)len);
    }
    if (strcmp(how, "break") != 0 && strcmp(how, "die") != 0)
        return hasup_reply(response, request->body, request->len);
    if (request->attempt == 1)
        return end(how);
    worker_note();
    return hasup_reply(response, request->body, request->len);
}

static int save(void *model, struct hasup_state *state)
{
    (void)model;
    return hasup_state_write(state, bytes, LEN);
}

static int restore(void *model, const void *state, size_t len)
{
    (void)model;
    if (len != LEN)
        return -1;
    memcpy(bytes, state, len);
    return 0;
}

int main(void)
{
    const char *state = getenv("BENCH_STATE");
    struct hasup_worker worker = {.load = load, .infer = infer};
    if (state) {
        worker.save = save;
        worker.restore = restore;
        worker.snapshot = strcmp(state, "forked") == 0;
    }
    return hasup_serve(&worker);
}
