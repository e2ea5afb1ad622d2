/*
 * batch.c: REQUESTs that come as one batch are gathered until the last is there, run by infer_batch
 * and answered each for itself.  Owns copies of the frames of a batch that is not whole yet, since
 * the channel's memory is used again, and keeps the buffers that their bodies stand in.
 */
#include "worker/runtime.h"

#include <stdlib.h>
#include <string.h>

struct hasup_member {
    struct hasup_running running; /* first: what the callback sees */
    struct hasup_response response;
    struct hasup_memory *memory; /* of hasupd's, that its body stands in; NULL: inline */
    struct hasup_frame frame;
    uint8_t *bytes; /* the frame's meta and body */
};

static void member_close(struct hasup_member *member)
{
    hasup_running_close(&member->running);
    if (member->memory)
        hasup_memory_unref(member->memory);
    free(member->bytes);
    member->memory = NULL;
    member->bytes = NULL;
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
        return error;
    }
    hasup_response_open(&member->response, runtime, frame->id);
    return 0;
}

/* What the callback left without an answer, because it failed as a whole. */
static void fail_all(struct hasup_batch *batch)
{
    for (unsigned i = 0; i < batch->count; i++) {
        struct hasup_response *response = &batch->members[i].response;
        if (!response->failed && !batch->members[i].running.cancelled)
            hasup_error(response, 500, "the worker's infer_batch failed and gave no reason");
    }
}

static int run(struct hasup_runtime *runtime)
{
    struct hasup_batch *batch = &runtime->batch;
    int error = 0;
    for (unsigned i = 0; i < batch->count; i++) {
        batch->requests[i] = &batch->members[i].running.request;
        batch->responses[i] = &batch->members[i].response;
    }
    if (runtime->worker->infer_batch(runtime->model, batch->count, batch->requests,
                                     batch->responses))
        fail_all(batch);
    for (unsigned i = 0; i < batch->count; i++) {
        struct hasup_member *member = &batch->members[i];
        if (member->running.cancelled)
            member->response.status = 499;
        if (!error)
            error = hasup_response_send(&member->response);
        member_close(member);
    }
    free(runtime->held);
    runtime->held = NULL;
    batch->count = 0;
    return error;
}

int hasup_batch_open(struct hasup_runtime *runtime)
{
    struct hasup_batch *batch = &runtime->batch;
    batch->most = runtime->worker->infer_batch ? runtime->worker->max_batch : 0;
    if (!runtime->worker->infer_batch)
        return 0;
    batch->most = batch->most ? batch->most : 1;
    batch->members = calloc(batch->most, sizeof *batch->members);
    batch->requests = calloc(batch->most, sizeof(*batch->requests));
    batch->responses = calloc(batch->most, sizeof(*batch->responses));
    return batch->members && batch->requests && batch->responses ? 0 : HASUP_ENOMEM;
}

void hasup_batch_close(struct hasup_runtime *runtime)
{
    struct hasup_batch *batch = &runtime->batch;
    for (unsigned i = 0; i < batch->count; i++)
        member_close(&batch->members[i]);
    for (unsigned i = 0; batch->members && i < batch->most; i++) {
        free(batch->members[i].response.body.at);
        free(batch->members[i].response.meta.at);
    }
    free(batch->members);
    free(batch->requests);
    free(batch->responses);
}

int hasup_batch_take(struct hasup_runtime *runtime, const struct hasup_frame *frame)
{
    struct hasup_batch *batch = &runtime->batch;
    bool more = frame->flags & HASUP_FLAG_MORE;
    if (batch->count == batch->most || (more && !runtime->batches))
        return HASUP_EPROTO;
    int error = member_open(runtime, &batch->members[batch->count], frame);
    if (error)
        return error;
    batch->count++;
    return more ? 0 : hasup_timed(runtime, run);
}
