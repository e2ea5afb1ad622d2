/*
 * stream.c: whether a second run of a stream says the same as the first.  Keeps hashes, never the
 * bytes: one of all that this attempt produced, and the digest and length that the longest attempt
 * before it had reached.  Where the new one comes past that length, the digests are compared.  One
 * that goes on in the middle takes over the hash of what stands before.
 */
#include "supervisor/carry.h"
#include "supervisor/engine.h"

#include <stdlib.h>
#define XXH_STATIC_LINKING_ONLY /* the size of a state */
#include <xxhash.h>

struct stream {
    XXH3_state_t *run;
    uint32_t chunks;   /* of this attempt */
    uint64_t produced; /* bytes of it */
    uint64_t reached;  /* by an earlier attempt, and digest of those bytes */
    uint64_t digest;
    XXH3_state_t *reached_run; /* the hash of those; NULL: none was reached, or no memory */
    uint64_t marked;
    XXH3_state_t *marked_run; /* NULL: nothing is marked */
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

/* Whether there is memory for it. */
static bool copy_run(XXH3_state_t **to, const XXH3_state_t *from)
{
    if (!*to)
        *to = XXH3_createState();
    if (*to)
        XXH3_copyState(*to, from);
    return *to;
}

void stream_restart(struct request *request)
{
    struct stream *stream = request->stream;
    if (!stream)
        return;
    if (stream->produced > stream->reached) {
        stream->reached = stream->produced;
        stream->digest = XXH3_64bits_digest(stream->run);
        copy_run(&stream->reached_run, stream->run); /* without it, no run goes on from there */
    }
    stream->produced = 0;
    stream->chunks = 0;
    stream->differs = false;
    XXH3_64bits_reset(stream->run);
}

bool stream_mark(struct request *request)
{
    struct stream *stream = request->stream;
    if (!stream)
        return true; /* before the first byte, there is nothing to remember */
    stream->marked = stream->produced;
    return copy_run(&stream->marked_run, stream->run);
}

uint64_t stream_reached(const struct request *request, uint64_t *digest)
{
    *digest = request->stream ? request->stream->digest : 0;
    return request->stream ? request->stream->reached : 0;
}

bool stream_go_on(struct request *request, uint64_t from)
{
    struct stream *stream = request->stream;
    if (!from)
        return true;
    if (!stream)
        return false;
    if (from == stream->reached && stream->reached_run)
        XXH3_copyState(stream->run, stream->reached_run);
    else if (from == stream->marked && stream->marked_run)
        XXH3_copyState(stream->run, stream->marked_run);
    else
        return false;
    stream->produced = from;
    return true;
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
    XXH3_freeState(stream->reached_run);
    XXH3_freeState(stream->marked_run);
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

/* ---- to another hasupd ---- */

/* The library's memory as it is, which the same version of it reads (upgrade.c sees to that). */
static void run_carry(struct carry *carry, XXH3_state_t **run)
{
    const uint8_t *bytes = (const uint8_t *)*run;
    size_t len = *run && !carry->codec.loading ? sizeof **run : 0;
    codec_bytes(&carry->codec, &bytes, &len);
    if (!carry->codec.loading)
        return;
    *run = len == sizeof **run ? XXH3_createState() : NULL;
    if (!*run) {
        if (len)
            codec_fail(&carry->codec);
        return;
    }
    XXH3_64bits_reset(*run);
    const unsigned char *secret = (*run)->extSecret; /* the library's own, where it is here */
    memcpy(*run, bytes, len);
    (*run)->extSecret = secret;
}

void stream_carry(struct carry *carry, struct request *request)
{
    CARRY(carry);
    bool there = request->stream;
    V(there);
    if (!there || (codec->loading && stream_open(request)))
        return;
    struct stream *stream = request->stream;
    if (codec->loading)
        XXH3_freeState(stream->run);
    run_carry(carry, &stream->run);
    if (!stream->run)
        codec_fail(codec);
    V(stream->chunks);
    V(stream->produced);
    V(stream->reached);
    V(stream->digest);
    run_carry(carry, &stream->reached_run);
    V(stream->marked);
    run_carry(carry, &stream->marked_run);
    V(stream->differs);
}
