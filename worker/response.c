/*
 * response.c: what a callback answers: body, status, fields, chunks, errors.  The bytes belong to
 * the response and are used again for the next one.
 */
#include "worker/runtime.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void hasup_response_open(struct hasup_response *response, struct hasup_runtime *runtime,
                         uint64_t id)
{
    response->runtime = runtime;
    response->id = id;
    response->status = 200;
    response->chunks = 0;
    response->begun = response->ended = false;
    response->resume_at = 0;
    response->failed = false;
    response->body.len = response->meta.len = 0;
}

static int put_field(struct hasup_bytes *meta, enum hasup_tag tag, const void *value, size_t len)
{
    struct hasup_meta_writer w;
    size_t need = HASUP_FIELD_HEADER + len;
    if (meta->len + need > HASUP_META_MAX)
        return HASUP_ETOOBIG;
    uint8_t *room = hasup_bytes_room(meta, need);
    if (!room)
        return HASUP_ENOMEM;
    hasup_meta_start(&w, room, need);
    hasup_meta_put(&w, tag, value, len);
    return 0;
}

int hasup_reply(struct hasup_response *response, const void *bytes, size_t len)
{
    uint8_t *room = len ? hasup_bytes_room(&response->body, len) : NULL;
    if (!room)
        return len ? HASUP_ENOMEM : 0;
    memcpy(room, bytes, len);
    return 0;
}

void *hasup_reply_room(struct hasup_response *response, size_t len)
{
    return hasup_bytes_room(&response->body, len);
}

int hasup_reply_type(struct hasup_response *response, const char *content_type)
{
    return put_field(&response->meta, HASUP_TAG_CONTENT_TYPE, content_type, strlen(content_type));
}

int hasup_reply_header(struct hasup_response *response, const char *name, const char *value)
{
    char both[1024];
    size_t name_len = strlen(name) + 1, len = name_len + strlen(value);
    if (len > sizeof both)
        return HASUP_ETOOBIG;
    memcpy(both, name, name_len);
    memcpy(both + name_len, value, len - name_len);
    return put_field(&response->meta, HASUP_TAG_HEADER, both, len);
}

/* Outside of what a REPLY may bear, which would end the worker: the model's fault, an error. */
static unsigned status_of(unsigned status)
{
    return status >= 200 && status <= 599 ? status : 500;
}

void hasup_reply_status(struct hasup_response *response, unsigned status)
{
    response->status = status_of(status);
}

int hasup_error(struct hasup_response *response, unsigned status, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    response->status = status_of(status);
    response->failed = true;
    put_field(&response->meta, HASUP_TAG_ERROR, text, strlen(text));
    return -1;
}

/* The first frame of a resumed answer says where it begins. */
static int begin(struct hasup_response *response)
{
    uint8_t at[8];
    bool says = response->resume_at && !response->begun;
    response->begun = true;
    hasup_put64(at, response->resume_at);
    return says ? put_field(&response->meta, HASUP_TAG_STREAM_OFFSET, at, sizeof at) : 0;
}

void hasup_resume_at(struct hasup_response *response, uint64_t at)
{
    response->resume_at = at;
}

int hasup_progress(struct hasup_response *response, const void *blob, size_t len)
{
    struct hasup_frame frame = {.type = HASUP_PROGRESS, .id = response->id};
    struct hasup_bytes kept = response->meta; /* the answer's fields wait for its first chunk */
    if (!response->runtime->resumes || response->runtime->batch.count > 1)
        return 0; /* nobody goes on within a batch */
    if (response->ended)
        return HASUP_EINVAL;
    if (len > HASUP_PROGRESS_MAX)
        return HASUP_ETOOBIG;
    response->meta = (struct hasup_bytes){0};
    int error = begin(response);
    if (!error)
        error = put_field(&response->meta, HASUP_TAG_PROGRESS_BLOB, blob, len);
    if (!error)
        error = hasup_send(response->runtime, &frame, &response->meta, NULL, 0);
    free(response->meta.at);
    response->meta = kept;
    return error ? error : hasup_flush(response->runtime);
}

int hasup_chunk(struct hasup_response *response, const void *bytes, size_t len)
{
    struct hasup_frame frame = {.type = HASUP_CHUNK, .id = response->id, .seq = response->chunks++};
    if (response->ended)
        return HASUP_EINVAL;
    /* The fields go with the first part; the rest of the stream has none. */
    int error = begin(response);
    if (!error)
        error = hasup_send(response->runtime, &frame, &response->meta, bytes, len);
    response->meta.len = 0;
    return error ? error : hasup_flush(response->runtime);
}

void hasup_response_fail(struct hasup_response *response, bool cancelled)
{
    if (cancelled)
        response->status = 499;
    else if (!response->failed)
        hasup_error(response, 500, "the worker's infer failed and gave no reason");
}

int hasup_response_send(struct hasup_response *response)
{
    struct hasup_frame frame = {.type = HASUP_REPLY, .id = response->id, .seq = response->status};
    if (response->ended)
        return 0;
    int error = begin(response);
    response->ended = true;
    return error ? error
                 : hasup_send(response->runtime, &frame, &response->meta, response->body.at,
                              response->body.len);
}

int hasup_reply_now(struct hasup_response *response)
{
    int error = hasup_response_send(response);
    return error ? error : hasup_flush(response->runtime);
}
