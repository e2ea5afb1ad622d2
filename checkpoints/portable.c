/*
 * portable.c: writes and reads portable checkpoints: a head, blocks of the state, a hash over all.
 * Nothing of a file is handed out before all of it has been verified.
 */
#include "checkpoints/portable.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoints/crypto.h"

enum {
    HEAD = 128,
    HEAD_ORDINAL = 12,
    HEAD_POSITION = 16,
    HEAD_CREATED = 24,
    HEAD_LEN = 32,
    HEAD_KEY = 40,
    HEAD_MODEL = 48, /* to the end, filled up with zeros */
    BLOCK = 1 << 20,
    BLOCK_HEAD = 8, /* length as stored, flags */
    PACKED = 1,
    ENCRYPTED = 1,
};
_Static_assert(HEAD - HEAD_MODEL >= STORE_MODEL, "a model's name has room");

static const char MAGIC[] = "HASUPCP1";

/* A file under way: everything that is written or read goes into the hash. */
struct stream {
    int fd;
    struct crypto_hash hash;
    uint8_t head[HEAD];
    const struct key *key;
    uint8_t *stored, *packed; /* room for a block */
    char *error;
};

static int stream_begin(struct stream *stream, int fd, char error[STORE_ERROR])
{
    *stream = (struct stream){.fd = fd, .error = error};
    int code = crypto_load(error);
    stream->stored = malloc(BLOCK + CRYPTO_NONCE + CRYPTO_TAG);
    stream->packed = malloc(BLOCK);
    if (!code && stream->stored && stream->packed)
        return 0;
    if (!code)
        snprintf(error, STORE_ERROR, "out of memory");
    return code ? code : HASUP_ENOMEM;
}

static void stream_end(struct stream *stream)
{
    free(stream->stored);
    free(stream->packed);
}

/* What a block is bound to: its file and its place in it. */
static void about_block(uint8_t about[HEAD + 16], const struct stream *stream, uint64_t number,
                        uint32_t flags)
{
    memcpy(about, stream->head, HEAD);
    hasup_put64(about + HEAD, number);
    hasup_put64(about + HEAD + 8, flags);
}

/* ---- writing ---- */

static int put(struct stream *stream, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t wrote = write(stream->fd, bytes, len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            snprintf(stream->error, STORE_ERROR, "cannot write it: %s", strerror(errno));
            return HASUP_EIO;
        }
        bytes += wrote;
        len -= (size_t)wrote;
    }
    return 0;
}

static int put_hashed(struct stream *stream, const uint8_t *bytes, size_t len)
{
    crypto_hash_add(&stream->hash, bytes, len);
    return put(stream, bytes, len);
}

static int put_block(struct stream *stream, const uint8_t *bytes, size_t len, uint64_t number)
{
    uint8_t head[BLOCK_HEAD], about[HEAD + 16];
    size_t packed = crypto_pack(stream->packed, len * 5 / 6, bytes, len);
    uint32_t flags = packed ? PACKED : 0;
    struct crypto_bytes out = {packed ? stream->packed : bytes, packed ? packed : len};
    if (stream->key) {
        about_block(about, stream, number, flags);
        crypto_encrypt(stream->stored + CRYPTO_NONCE, stream->stored, out,
                       (struct crypto_bytes){about, sizeof about}, stream->key->cipher);
        out = (struct crypto_bytes){stream->stored, out.len + CRYPTO_NONCE + CRYPTO_TAG};
    }
    hasup_put32(head, (uint32_t)out.len);
    hasup_put32(head + 4, flags);
    int code = put_hashed(stream, head, sizeof head);
    return code ? code : put_hashed(stream, out.at, out.len);
}

static int write_all(struct stream *stream, const struct checkpoint_info *info,
                     const uint8_t *bytes)
{
    uint8_t *head = stream->head, hash[CRYPTO_HASH];
    memcpy(head, MAGIC, 8);
    hasup_put32(head + 8, stream->key ? ENCRYPTED : 0);
    hasup_put32(head + HEAD_ORDINAL, info->ordinal);
    hasup_put64(head + HEAD_POSITION, info->position);
    hasup_put64(head + HEAD_CREATED, (uint64_t)info->created_wall_ns);
    hasup_put64(head + HEAD_LEN, info->len);
    if (stream->key)
        memcpy(head + HEAD_KEY, stream->key->id, KEY_ID);
    memcpy(head + HEAD_MODEL, info->model, strnlen(info->model, STORE_MODEL - 1));
    crypto_hash_begin(&stream->hash, stream->key ? stream->key->mac : NULL);
    int code = put_hashed(stream, head, HEAD);
    for (uint64_t at = 0; at < info->len && !code; at += BLOCK) {
        size_t len = info->len - at < BLOCK ? (size_t)(info->len - at) : BLOCK;
        code = put_block(stream, bytes + at, len, at / BLOCK);
    }
    crypto_hash_end(&stream->hash, hash);
    return code ? code : put(stream, hash, sizeof hash);
}

int portable_write(int fd, const struct checkpoint_info *info, const uint8_t *bytes,
                   const struct keys *keys, char error[STORE_ERROR])
{
    struct stream stream;
    int code = stream_begin(&stream, fd, error);
    stream.key = keys ? &keys->keys[0] : NULL;
    if (!code)
        code = write_all(&stream, info, bytes);
    stream_end(&stream);
    return code;
}

/* ---- reading ---- */

static int wrong(const struct stream *stream, const char *what)
{
    snprintf(stream->error, STORE_ERROR, "%s", what);
    return HASUP_ECORRUPT;
}

static int get(struct stream *stream, uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t got = read(stream->fd, bytes, len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            snprintf(stream->error, STORE_ERROR, "cannot read it: %s", strerror(errno));
            return HASUP_EIO;
        }
        if (!got)
            return wrong(stream, "it is cut short");
        bytes += got;
        len -= (size_t)got;
    }
    return 0;
}

static int get_hashed(struct stream *stream, uint8_t *bytes, size_t len)
{
    int code = get(stream, bytes, len);
    if (!code)
        crypto_hash_add(&stream->hash, bytes, len);
    return code;
}

static int get_block(struct stream *stream, uint8_t *out, size_t len, uint64_t number)
{
    uint8_t head[BLOCK_HEAD], about[HEAD + 16];
    size_t more = stream->key ? CRYPTO_NONCE + CRYPTO_TAG : 0;
    int code = get_hashed(stream, head, sizeof head);
    size_t stored = hasup_get32(head);
    uint32_t flags = hasup_get32(head + 4);
    if (!code && (stored > len + more || stored < more || flags & ~(uint32_t)PACKED ||
                  (!flags && stored != len + more)))
        return wrong(stream, "it is damaged: a block's length is not possible");
    if (!code)
        code = get_hashed(stream, stream->stored, stored);
    if (code)
        return code;
    struct crypto_bytes bytes = {stream->stored, stored - more};
    if (stream->key) {
        about_block(about, stream, number, flags);
        if (!crypto_decrypt(
                stream->packed, stream->stored,
                (struct crypto_bytes){stream->stored + CRYPTO_NONCE, stored - CRYPTO_NONCE},
                (struct crypto_bytes){about, sizeof about}, stream->key->cipher))
            return wrong(stream, "it is damaged: a block's seal is broken");
        bytes.at = stream->packed;
    }
    if (!flags)
        memcpy(out, bytes.at, len);
    else if (crypto_unpack(out, len, bytes.at, bytes.len) != len)
        return wrong(stream, "it is damaged: a block cannot be unpacked (libzstd1)");
    return 0;
}

static int get_head(struct stream *stream, const struct keys *keys, struct checkpoint_info *info)
{
    const uint8_t *head = stream->head;
    char id[KEY_ID_TEXT];
    int code = get(stream, stream->head, HEAD);
    if (code)
        return code;
    if (memcmp(head, MAGIC, 8) != 0 || head[HEAD - 1] || hasup_get32(head + 8) & ~1u)
        return wrong(stream, "it is no checkpoint that hasupctl exported, or of a newer one");
    *info = (struct checkpoint_info){.ordinal = hasup_get32(head + HEAD_ORDINAL),
                                     .position = hasup_get64(head + HEAD_POSITION),
                                     .created_wall_ns = (int64_t)hasup_get64(head + HEAD_CREATED),
                                     .len = hasup_get64(head + HEAD_LEN)};
    memcpy(info->model, head + HEAD_MODEL, STORE_MODEL - 1);
    if (hasup_get32(head + 8) & ENCRYPTED) {
        stream->key = keys_find(keys, head + HEAD_KEY);
        if (!stream->key) {
            snprintf(stream->error, STORE_ERROR, "it is encrypted with key %s, which %.120s%s",
                     key_id_text(head + HEAD_KEY, id), keys ? keys->path : "no key file",
                     keys ? " does not hold" : " was named for");
            return HASUP_EDENIED;
        }
    }
    crypto_hash_begin(&stream->hash, stream->key ? stream->key->mac : NULL);
    crypto_hash_add(&stream->hash, head, HEAD);
    return 0;
}

/* The room grows with what arrives: the head may claim anything. */
static int get_blocks(struct stream *stream, uint64_t len, uint8_t **bytes)
{
    size_t room = 0;
    int code = 0;
    *bytes = malloc(1);
    for (uint64_t at = 0; at < len && !code; at += BLOCK) {
        size_t part = len - at < BLOCK ? (size_t)(len - at) : BLOCK;
        if (at + part > room) {
            room = room * 2 > at + part ? room * 2 : (size_t)at + part;
            uint8_t *more = realloc(*bytes, room);
            if (!more) {
                snprintf(stream->error, STORE_ERROR, "no memory for %llu bytes",
                         (unsigned long long)len);
                return HASUP_ENOMEM;
            }
            *bytes = more;
        }
        code = get_block(stream, *bytes + at, part, at / BLOCK);
    }
    return code;
}

int portable_read(int fd, const struct keys *keys, struct checkpoint_info *info, uint8_t **out,
                  char error[STORE_ERROR])
{
    struct stream stream;
    uint8_t hash[CRYPTO_HASH], stored[CRYPTO_HASH], *bytes = NULL;
    int code = stream_begin(&stream, fd, error);
    if (!code)
        code = get_head(&stream, keys, info);
    if (!code)
        code = get_blocks(&stream, info->len, &bytes);
    if (!code)
        code = get(&stream, stored, sizeof stored);
    if (!code) {
        crypto_hash_end(&stream.hash, hash);
        if (!crypto_same(hash, stored, sizeof hash))
            code = wrong(&stream, "it is damaged: its hash does not fit");
    }
    stream_end(&stream);
    if (code)
        free(bytes);
    else
        *out = bytes;
    return code;
}
