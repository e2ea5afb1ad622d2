/*
 * crypto.h: what the checkpoint store takes from libsodium and libzstd.  Inside checkpoints/ only.
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

#endif
