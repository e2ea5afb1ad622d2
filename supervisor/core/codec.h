/*
 * codec.h: records as bytes, both ways by one function: the code that names a record's fields writes
 * them when the codec saves and reads them when it loads, so that the two cannot differ.
 *
 * A record is a list of (number, value) pairs that ends with 0; a field's number is its place in
 * the code that names it, and what is 0 is not written.  So a field is added by naming it behind all
 * others of its record, and is 0 where an older version saved; a field that is gone leaves
 * codec_gap() in its place.  A value that this version does not know makes the load fail: nothing
 * is ever passed over in silence.
 *
 * Calls nothing, allocates nothing: saves into the caller's memory and counts what did not fit.
 */
#ifndef HASUP_CORE_CODEC_H
#define HASUP_CORE_CODEC_H

#include "ipc/base.h"

struct codec {
    bool loading;
    const char *failed; /* what was being loaded when it failed; NULL: nothing has */
    const char *what;   /* is coded now */
    uint8_t *out;       /* saving */
    size_t room, used;  /* used: may be more than room */
    const uint8_t *in;  /* loading */
    size_t len, at;
    uint64_t number, next; /* of the field before; loading: of the one that comes, 0: none does */
};

void codec_save(struct codec *codec, uint8_t *out, size_t room);
void codec_load(struct codec *codec, const uint8_t *in, size_t len);
void codec_fail(struct codec *codec);

/* A number by itself, outside of any record. */
void codec_put(struct codec *codec, uint64_t value);
uint64_t codec_get(struct codec *codec);

void codec_begin(struct codec *codec);
void codec_end(struct codec *codec);
/* A field of `size` bytes, 1, 2, 4 or 8, that is at most `most`. */
void codec_value(struct codec *codec, void *field, size_t size, uint64_t most);
void codec_gap(struct codec *codec);
/* A field of bytes; loading, `*at` is set to where they stand in the input, NULL where there are none. */
void codec_bytes(struct codec *codec, const uint8_t **at, size_t *len);
/* A record inside of one. */
struct codec_outer {
    uint64_t number, next;
};
struct codec_outer codec_enter(struct codec *codec);
void codec_leave(struct codec *codec, struct codec_outer outer);

/* A part with its tag and length; codec_close() proves that the length was right. */
size_t codec_open(struct codec *codec, uint32_t tag, const char *what);
void codec_close(struct codec *codec, size_t opened);

/* FNV-1a over all that was written, or stands in `in`. */
uint64_t codec_sum(const uint8_t *bytes, size_t len);

/* The limit follows from the type. */
#define CODEC_MOST(field) _Generic((field), bool: 1, default: UINT64_MAX)
#define V(field) codec_value(codec, &(field), sizeof(field), CODEC_MOST(field))
/* An enumeration whose last value is `last`; an index that must be below `limit`. */
#define E(field, last) codec_value(codec, &(field), sizeof(field), (uint64_t)(last))

#endif
