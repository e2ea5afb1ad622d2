/*
 * stream.c: whether a second run of a stream says the same as the first.  Keeps hashes, never the
 * bytes: one of all that this attempt produced, and the digest and length that the longest attempt
 * before it had reached.  Where the new one comes past that length, the digests are compared.
 */
#include "supervisor/engine.h"

#include <stdlib.h>
#include <xxhash.h>

struct stream {
    XXH3_state_t *run;
    uint32_t chunks;   /* of this attempt */
    uint64_t produced; /* bytes of it */
    uint64_t reached;  /* by an earlier attempt, and digest of those bytes */
    uint64_t digest;
    bool differs;
};

int stream_open(struct request *request)
{
    if (request->stream)
        return 0;
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return HASUP_ENOMEM;
    stream->run = XXH3_createState();
    if (!stream->run) {
        free(stream);
        return HASUP_ENOMEM;
    }
    XXH3_64bits_reset(stream->run);
    request->stream = stream;
    return 0;
}

void stream_restart(struct request *request)
{
    struct stream *stream = request->stream;
    if (!stream)
        return;
    if (stream->produced > stream->reached) {
        stream->reached = stream->produced;
        stream->digest = XXH3_64bits_digest(stream->run);
    }
    stream->produced = 0;
    stream->chunks = 0;
    stream->differs = false;
    XXH3_64bits_reset(stream->run);
}

bool stream_count(struct request *request, uint32_t seq)
{
    return request->stream->chunks++ == seq;
}

bool stream_add(struct request *request, const uint8_t *bytes, size_t len)
{
    struct stream *stream = request->stream;
    if (stream->produced < stream->reached && stream->produced + len >= stream->reached) {
        size_t old = (size_t)(stream->reached - stream->produced);
        XXH3_64bits_update(stream->run, bytes, old);
        stream->produced += old;
        bytes += old;
        len -= old;
        stream->differs = XXH3_64bits_digest(stream->run) != stream->digest;
    }
    XXH3_64bits_update(stream->run, bytes, len);
    stream->produced += len;
    return !stream->differs;
}

uint64_t stream_produced(const struct request *request)
{
    return request->stream ? request->stream->produced : 0;
}

void stream_free(struct stream *stream)
{
    if (!stream)
        return;
    XXH3_freeState(stream->run);
    free(stream);
}

uint64_t reply_digest(const struct request *request, uint32_t status, struct body *body)
{
    const uint8_t *bytes = body->len ? body_bytes(body) : NULL;
    uint64_t seed = status;
    if (request->stream)
        seed ^= XXH3_64bits_digest(request->stream->run);
    return XXH3_64bits_withSeed(bytes, bytes ? body->len : 0, seed);
}
