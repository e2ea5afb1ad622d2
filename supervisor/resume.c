/*
 * resume.c: what lets a stream go on in the middle: the last progress that a worker told, and the
 * REQUEST that offers it, and what was sent, to the next one.  Whether a request goes on is the
 * core's decision; where, the worker's, checked here.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <stdlib.h>

struct progress {
    uint64_t at; /* bytes of the answer that stand before it */
    bool stored; /* the journal has it, with the chunk behind it */
    size_t len;
    uint8_t blob[];
};

/* Room for the fields of a resumed REQUEST beside blob and bytes. */
enum { FIELDS_ROOM = 96, DELIVERED_MAX = 64 * 1024 };

void resume_free(struct engine *engine, struct request *request)
{
    if (request->progress)
        engine->requests.body_bytes -= request->progress->len;
    free(request->progress);
    request->progress = NULL;
}

void resume_keep(struct engine *engine, struct request *request, const uint8_t *blob, size_t len)
{
    uint64_t at = stream_produced(request);
    if (request->progress && at < request->progress->at)
        return; /* a run from the start has not caught up with it yet */
    /* Without room the one before it stays: a run goes on a little earlier. */
    if (engine->requests.body_bytes + len > engine->config->limits.body_bytes)
        return;
    struct progress *progress = malloc(sizeof *progress + len);
    if (!progress || !stream_mark(request)) {
        free(progress);
        return;
    }
    *progress = (struct progress){.at = at, .len = len};
    if (len)
        memcpy(progress->blob, blob, len);
    resume_free(engine, request);
    request->progress = progress;
    engine->requests.body_bytes += len;
}

static void put_progress(struct hasup_meta_writer *w, const struct progress *progress)
{
    hasup_meta_put(w, HASUP_TAG_PROGRESS_BLOB, progress->blob, progress->len);
    hasup_meta_put64(w, HASUP_TAG_STREAM_OFFSET, progress->at);
}

uint8_t *resume_meta(const struct request *request, const uint8_t *meta, size_t meta_len,
                     size_t *len)
{
    const struct progress *progress = request->progress;
    size_t room = HASUP_META_MAX - PEER_META_ROOM, blob = progress ? progress->len : 0;
    size_t delivered = durable_sent(request, NULL);
    if (delivered > DELIVERED_MAX || meta_len + FIELDS_ROOM + blob + delivered > room)
        delivered = 0;
    if (meta_len + FIELDS_ROOM + blob > room)
        return NULL;
    room = FIELDS_ROOM + blob + delivered;
    uint8_t *all = malloc(meta_len + room + PEER_META_ROOM);
    if (!all)
        return NULL;
    struct hasup_meta_writer w;
    uint64_t digest = 0, reached = stream_reached(request, &digest);
    memcpy(all, meta, meta_len);
    hasup_meta_start(&w, all + meta_len, room);
    if (progress)
        put_progress(&w, progress);
    hasup_meta_put64(&w, HASUP_TAG_DELIVERED_LEN, reached);
    hasup_meta_put64(&w, HASUP_TAG_DELIVERED_DIGEST, digest);
    if (delivered) {
        uint8_t *at = w.bytes + w.used + HASUP_FIELD_HEADER; /* where the field's value will be */
        durable_sent(request, at);
        hasup_meta_put(&w, HASUP_TAG_DELIVERED, at, delivered);
    }
    *len = meta_len + w.used;
    return all;
}

int resume_begin(struct request *request, const struct hasup_frame *frame, uint64_t *from)
{
    *from = 0;
    request->resumes = false;
    if (hasup_meta_get64(frame, HASUP_TAG_STREAM_OFFSET, from))
        return HASUP_EPROTO;
    return stream_go_on(request, *from) ? 0 : HASUP_EPROTO;
}

/* ---- the journal's copy: it stands in the meta of the chunk behind it ---- */

size_t resume_store_room(const struct request *request, uint64_t at)
{
    const struct progress *progress = request->progress;
    return progress && !progress->stored && progress->at == at ? progress->len + FIELDS_ROOM : 0;
}

size_t resume_store(struct request *request, uint8_t *meta, size_t room)
{
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, room);
    put_progress(&w, request->progress);
    request->progress->stored = true;
    return w.used;
}

void resume_recover(struct engine *engine, struct request *request, struct journal_bytes meta)
{
    const struct hasup_frame frame = {.meta = meta.at, .meta_len = (uint32_t)meta.len};
    struct hasup_field blob;
    uint64_t at = 0;
    if (hasup_meta_get64(&frame, HASUP_TAG_STREAM_OFFSET, &at) ||
        !hasup_meta_find(&frame, HASUP_TAG_PROGRESS_BLOB, &blob) || at != stream_produced(request))
        return; /* it stood before the chunk's first byte */
    resume_keep(engine, request, blob.value, blob.len);
    if (request->progress)
        request->progress->stored = true;
}

/* ---- to another hasupd ---- */

void resume_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    struct progress *progress = request->progress;
    bool there = progress;
    const uint8_t *blob = progress ? progress->blob : NULL;
    size_t len = progress ? progress->len : 0;
    V(there);
    codec_bytes(codec, &blob, &len);
    if (!there)
        return;
    if (codec->loading) {
        progress = request->progress = calloc(1, sizeof *progress + len);
        if (!progress) {
            codec_fail(codec);
            return;
        }
        progress->len = len;
        carry->engine->requests.body_bytes += len;
        if (len)
            memcpy(progress->blob, blob, len);
    }
    V(progress->at);
    V(progress->stored);
}
