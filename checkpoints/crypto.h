/*
 * crypto.h: what the checkpoint store takes from libsodium and libzstd.  Inside checkpoints/, and
 * zstd for log files.
 *
 * Both are loaded when they are first needed, not when the program starts: a hasupd that keeps no
 * state, or has not stored any yet, pays no memory for them.  Any thread may call; crypto_load
 * comes first.
 */
#ifndef HASUP_CHECKPOINTS_CRYPTO_H
#define HASUP_CHECKPOINTS_CRYPTO_H

#include "ipc/base.h"

enum { CRYPTO_HASH = 32, CRYPTO_KEY = 32, CRYPTO_ERROR = 256 };

/* libsodium; HASUP_EIO and `error` where it is not there. */
int crypto_load(char error[CRYPTO_ERROR]) HASUP_NODISCARD;

/* BLAKE2b; `key` of CRYPTO_KEY bytes, or NULL: without one. */
struct crypto_hash {
    _Alignas(64) uint8_t state[384];
};
void crypto_hash_begin(struct crypto_hash *hash, const uint8_t *key);
void crypto_hash_add(struct crypto_hash *hash, const void *bytes, size_t len);
void crypto_hash_end(struct crypto_hash *hash, uint8_t out[CRYPTO_HASH]);

/* XChaCha20-Poly1305: `out` has room for CRYPTO_TAG bytes more than `len`; a fresh nonce is made.
 * `about` is not hidden, but bound to it. */
enum { CRYPTO_NONCE = 24, CRYPTO_TAG = 16 };
struct crypto_bytes {
    const uint8_t *at;
    size_t len;
};
void crypto_encrypt(uint8_t *out, uint8_t nonce[CRYPTO_NONCE], struct crypto_bytes bytes,
                    struct crypto_bytes about, const uint8_t key[CRYPTO_KEY]);
/* False: it was changed, or the key is another.  `out` has room for bytes.len. */
bool crypto_decrypt(uint8_t *out, const uint8_t nonce[CRYPTO_NONCE], struct crypto_bytes bytes,
                    struct crypto_bytes about, const uint8_t key[CRYPTO_KEY]) HASUP_NODISCARD;
/* In a time that does not tell where they differ. */
bool crypto_same(const uint8_t *a, const uint8_t *b, size_t len);

/* zstd.  The packed length, or 0: not packed (it would be longer than `room`, or there is no
 * library). */
size_t crypto_pack(uint8_t *out, size_t room, const uint8_t *bytes, size_t len);
/* The length, or 0: not what was packed, or longer than `room`, or there is no library. */
size_t crypto_unpack(uint8_t *out, size_t room, const uint8_t *bytes, size_t len);

#endif
