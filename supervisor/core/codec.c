/*
 * codec.c: records as bytes; see codec.h for what they look like.  Owns nothing.  Every read is
 * checked against the end; after the first failure everything reads as 0.
 */
#include "supervisor/core/codec.h"

enum { LENGTH_BYTES = 8, SEVEN = 7 };

void codec_save(struct codec *codec, uint8_t *out, size_t room)
{
    *codec = (struct codec){.out = out, .room = room};
}

void codec_load(struct codec *codec, const uint8_t *in, size_t len)
{
    *codec = (struct codec){.loading = true, .in = in, .len = len};
}

void codec_fail(struct codec *codec)
{
    if (!codec->failed)
        codec->failed = codec->what ? codec->what : "its beginning";
    codec->at = codec->len;
    codec->next = 0;
}

/* ---- numbers ---- */

static void put_byte(struct codec *codec, uint8_t byte)
{
    if (codec->used < codec->room)
        codec->out[codec->used] = byte;
    codec->used++;
}

void codec_put(struct codec *codec, uint64_t value)
{
    for (; value >> SEVEN; value >>= SEVEN)
        put_byte(codec, (uint8_t)(value | 0x80));
    put_byte(codec, (uint8_t)value);
}

uint64_t codec_get(struct codec *codec)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && codec->at < codec->len; shift += SEVEN) {
        uint8_t byte = codec->in[codec->at++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    codec_fail(codec);
    return 0;
}

/* ---- records ---- */

void codec_begin(struct codec *codec)
{
    codec->number = 0;
    codec->next = codec->loading ? codec_get(codec) : 0;
}

void codec_end(struct codec *codec)
{
    if (!codec->loading)
        codec_put(codec, 0);
    else if (codec->next)
        codec_fail(codec); /* a field that a newer version knows, or a lie */
}

/* The number of the field that follows; it must be a greater one. */
static void next_number(struct codec *codec)
{
    codec->next = codec_get(codec);
    if (codec->next && codec->next <= codec->number)
        codec_fail(codec);
}

static uint64_t field_of(const void *field, size_t size)
{
    uint8_t one;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (size) {
    case 1: memcpy(&one, field, size); return one;
    case 2: memcpy(&two, field, size); return two;
    case 4: memcpy(&four, field, size); return four;
    default: memcpy(&eight, field, sizeof eight); return eight;
    }
}

static void field_set(void *field, size_t size, uint64_t value)
{
    uint8_t one = (uint8_t)value;
    uint16_t two = (uint16_t)value;
    uint32_t four = (uint32_t)value;
    switch (size) {
    case 1: memcpy(field, &one, size); return;
    case 2: memcpy(field, &two, size); return;
    case 4: memcpy(field, &four, size); return;
    default: memcpy(field, &value, sizeof value); return;
    }
}

void codec_value(struct codec *codec, void *field, size_t size, uint64_t most)
{
    codec->number++;
    if (!codec->loading) {
        uint64_t value = field_of(field, size);
        if (!value)
            return;
        codec_put(codec, codec->number);
        codec_put(codec, value);
        return;
    }
    uint64_t value = 0, widest = size < 8 ? ((uint64_t)1 << (size * 8)) - 1 : UINT64_MAX;
    if (codec->next == codec->number) {
        value = codec_get(codec);
        if (value > most || value > widest) {
            codec_fail(codec);
            value = 0;
        }
        next_number(codec);
    }
    if (field_of(field, size) != value) /* tables that are empty stay untouched memory */
        field_set(field, size, value);
}

void codec_gap(struct codec *codec)
{
    codec->number++;
    if (codec->loading && codec->next == codec->number)
        codec_fail(codec);
}

void codec_bytes(struct codec *codec, const uint8_t **at, size_t *len)
{
    codec->number++;
    if (!codec->loading) {
        if (!*len)
            return;
        codec_put(codec, codec->number);
        codec_put(codec, *len);
        if (*len <= codec->room && codec->used <= codec->room - *len)
            memcpy(codec->out + codec->used, *at, *len);
        codec->used += *len;
        return;
    }
    *at = NULL;
    *len = 0;
    if (codec->next != codec->number)
        return;
    uint64_t size = codec_get(codec);
    if (!size || size > codec->len - codec->at) {
        codec_fail(codec);
        return;
    }
    *at = codec->in + codec->at;
    *len = (size_t)size;
    codec->at += (size_t)size;
    next_number(codec);
}

struct codec_outer codec_enter(struct codec *codec)
{
    struct codec_outer outer = {++codec->number, codec->next};
    if (!codec->loading)
        codec_put(codec, codec->number);
    codec->number = 0;
    if (codec->loading)
        codec->next = outer.next == outer.number ? codec_get(codec) : 0;
    return outer;
}

void codec_leave(struct codec *codec, struct codec_outer outer)
{
    bool there = outer.next == outer.number;
    if (!codec->loading || there)
        codec_end(codec);
    codec->number = outer.number;
    codec->next = outer.next;
    if (codec->loading && there)
        next_number(codec);
}

/* ---- parts ---- */

static void put_length(struct codec *codec, size_t at, uint64_t value)
{
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        if (at + i < codec->room)
            codec->out[at + i] = (uint8_t)(value >> (8 * i));
}

size_t codec_open(struct codec *codec, uint32_t tag, const char *what)
{
    codec->what = what;
    if (!codec->loading) {
        codec_put(codec, tag);
        codec->used += LENGTH_BYTES;
        return codec->used;
    }
    uint64_t len = 0;
    if (codec_get(codec) != tag || codec->len - codec->at < LENGTH_BYTES) {
        codec_fail(codec);
        return 0;
    }
    for (unsigned i = 0; i < LENGTH_BYTES; i++)
        len |= (uint64_t)codec->in[codec->at++] << (8 * i);
    if (len > codec->len - codec->at)
        codec_fail(codec);
    return codec->at + (size_t)len;
}

void codec_close(struct codec *codec, size_t opened)
{
    if (!codec->loading)
        put_length(codec, opened - LENGTH_BYTES, codec->used - opened);
    else if (codec->at != opened)
        codec_fail(codec);
}

uint64_t codec_sum(const uint8_t *bytes, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3u;
    return sum;
}
