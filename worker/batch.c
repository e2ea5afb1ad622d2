/*
 * batch.c: requests that run together: gathered until the last one is there, run by infer_batch,
 * answered each by its own.
 *
 * A batch may come in several reads, so its members' frames are copies until it has run, and the
 * buffers that their bodies stand in are kept.  Where infer_batch fails as a whole its members run
 * once more, each alone, so that what one did wrong is not the error of its mates; unless something
 * was told of them already, or the worker has a state, which may be half changed.
 */
#include "worker/runtime.h"

#include <stdlib.h>
#include <string.h>

enum { BODY_KEPT = 4096 }; /* of a member's answer, for the next one; times max_batch */

struct hasup_member {
    struct hasup_running running; /* first: what the callback sees */
    struct hasup_response response;
    struct hasup_memory *memory; /* of hasupd's, that its body stands in; NULL: inline */
    struct hasup_frame frame;
    uint8_t *bytes; /* the frame's meta and body */
};

static void member_close(struct hasup_member *member)
{
    struct hasup_bytes *body = &member->response.body;
    hasup_running_close(&member->running);
    if (member->memory)
        hasup_memory_unref(member->memory);
    free(member->bytes);
    member->memory = NULL;
    member->bytes = NULL;
    if (body->room > BODY_KEPT) {
        free(body->at);
        *body = (struct hasup_bytes){0};
    }
}

static int member_open(struct hasup_runtime *runtime, struct hasup_member *member,
                       const struct hasup_frame *frame)
{
    size_t body = frame->body ? (size_t)frame->body_len : 0;
    member->bytes = malloc(frame->meta_len + body + 1);
    if (!member->bytes)
        return HASUP_ENOMEM;
    member->frame = *frame;
    if (frame->meta_len)
        memcpy(member->bytes, frame->meta, frame->meta_len);
    if (body)
        memcpy(member->bytes + frame->meta_len, frame->body, body);
    member->frame.meta = member->bytes;
    member->frame.body = body ? member->bytes + frame->meta_len : NULL;
    int error = hasup_running_open(runtime, &member->running, &member->frame);
    if (!error && member->running.buffer) {
        member->memory = hasup_memory_theirs(runtime, member->running.buffer);
        member->memory->refs++;
    }
    if (error) {
        free(member->bytes);
        member->bytes = NULL;
    }
    return error;
}

/* ---- running ---- */

static bool may_run_alone(const struct hasup_runtime *runtime, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count; i++)
        if (runtime->batch.members[i].response.begun)
            return false;
    return count > 1 && !runtime->stateful;
}

static int call(struct hasup_runtime *runtime, unsigned first, unsigned count)
{
    const struct hasup_worker *worker = runtime->worker;
    struct hasup_batch *batch = &runtime->batch;
    for (unsigned i = first; i < first + count; i++) {
        hasup_response_open(&batch->members[i].response, runtime, batch->members[i].frame.id);
        batch->requests[i] = &batch->members[i].running.request;
        batch->responses[i] = &batch->members[i].response;
    }
    if (count == 1 && worker->infer)
        return worker->infer(runtime->model, batch->requests[first], batch->responses[first]);
    return worker->infer_batch(runtime->model, count, batch->requests + first,
                               batch->responses + first);
}

static int run_members(struct hasup_runtime *runtime, unsigned first, unsigned count)
{
    hasup_ns begun;
    int error = hasup_run_begin(runtime, &begun);
    if (error)
        return error;
    bool failed = call(runtime, first, count);
    bool alone = failed && may_run_alone(runtime, first, count);
    for (unsigned i = first; !alone && !error && i < first + count; i++) {
        struct hasup_member *member = &runtime->batch.members[i];
        if (failed)
            hasup_response_fail(&member->response, member->running.cancelled);
        error = hasup_response_send(&member->response);
    }
    hasup_run_end(runtime, begun);
    for (unsigned i = first; alone && !error && i < first + count; i++)
        error = run_members(runtime, i, 1);
    return error;
}

static void close_members(struct hasup_batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++)
        member_close(&batch->members[i]);
    batch->count = 0;
}

/* ---- gathering ---- */

static bool is_like(const struct hasup_frame *a, const struct hasup_frame *b)
{
    struct hasup_field key, other;
    bool has = hasup_meta_find(a, HASUP_TAG_BATCH_KEY, &key);
    bool others = hasup_meta_find(b, HASUP_TAG_BATCH_KEY, &other);
    return has == others && (!has || (key.len == other.len &&
                                      (!key.len || memcmp(key.value, other.value, key.len) == 0)));
}

static const char *breach(const struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    const struct hasup_batch *batch = &runtime->batch;
    bool more = frame->flags & HASUP_FLAG_MORE;
    if (more && !runtime->batches)
        return "a batch came, and batches were not granted";
    if (batch->count == batch->most)
        return "a batch has more members than this worker's max_batch";
    if ((more || batch->count) && frame->flags & HASUP_FLAG_RESUME)
        return "a resumed request stands in a batch";
    if (!batch->count)
        return NULL;
    const struct hasup_frame *first = &batch->members[0].frame;
    if ((first->flags ^ frame->flags) & HASUP_FLAG_REPLAY)
        return "a batch holds replayed requests and others";
    return is_like(first, frame) ? NULL : "a batch holds requests of several batch keys";
}

int hasup_batch_take(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    struct hasup_batch *batch = &runtime->batch;
    const char *why = breach(runtime, frame);
    if (why)
        return hasup_broke(runtime, why);
    int error = member_open(runtime, &batch->members[batch->count], frame);
    if (error)
        return error;
    batch->count++;
    if (frame->flags & HASUP_FLAG_MORE)
        return 0;
    error = run_members(runtime, 0, batch->count);
    close_members(batch);
    hasup_drop_held(runtime);
    return error;
}

/* ---- memory ---- */

int hasup_batch_open(struct hasup_runtime *runtime)
{
    struct hasup_batch *batch = &runtime->batch;
    if (!runtime->worker->infer_batch)
        return 0;
    batch->most = runtime->worker->max_batch;
    batch->members = calloc(batch->most, sizeof *batch->members);
    batch->requests = calloc(batch->most, sizeof(*batch->requests));
    batch->responses = calloc(batch->most, sizeof(*batch->responses));
    return batch->members && batch->requests && batch->responses ? 0 : HASUP_ENOMEM;
}

void hasup_batch_close(struct hasup_runtime *runtime)
{
    struct hasup_batch *batch = &runtime->batch;
    close_members(batch);
    for (unsigned i = 0; batch->members && i < batch->most; i++) {
        free(batch->members[i].response.body.at);
        free(batch->members[i].response.meta.at);
    }
    free(batch->members);
    free(batch->requests);
    free(batch->responses);
}
