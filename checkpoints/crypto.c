/*
 * crypto.c: loads libsodium and libzstd when they are first needed, and calls them.  Owns the
 * handles for the life of the program.  Without libzstd nothing is packed, and that is all.
 */
#include "checkpoints/crypto.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <sodium.h>
#include <zstd.h>

_Static_assert(sizeof(struct crypto_hash) >= sizeof(crypto_generichash_state), "room for a state");

#define SODIUM(X)                                                                                  \
    X(sodium_init)                                                                                 \
    X(crypto_generichash_init)                                                                     \
    X(crypto_generichash_update)                                                                   \
    X(crypto_generichash_final)                                                                    \
    X(crypto_aead_xchacha20poly1305_ietf_encrypt)                                                  \
    X(crypto_aead_xchacha20poly1305_ietf_decrypt)                                                  \
    X(randombytes_buf)                                                                             \
    X(sodium_memcmp)

#define ZSTD(X)                                                                                    \
    X(ZSTD_compress)                                                                               \
    X(ZSTD_decompress)                                                                             \
    X(ZSTD_isError)

static struct {
#define CRYPTO_POINTER(name) __typeof__(name) *name;
    SODIUM(CRYPTO_POINTER)
#undef CRYPTO_POINTER
} sodium;

static struct {
#define CRYPTO_POINTER(name) __typeof__(name) *name;
    ZSTD(CRYPTO_POINTER)
#undef CRYPTO_POINTER
} zstd;

static char load_error[CRYPTO_ERROR];

static void *symbol(void *library, const char *name)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (library && !found)
        snprintf(load_error, sizeof load_error, "%s is missing: %s", name, dlerror());
    return found;
}

static void load_sodium(void)
{
    void *library = dlopen("libsodium.so.23", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        snprintf(load_error, sizeof load_error, "%.150s: install the package libsodium23",
                 dlerror());
#define CRYPTO_LOAD(name) *(void **)&sodium.name = symbol(library, #name);
    SODIUM(CRYPTO_LOAD)
#undef CRYPTO_LOAD
    if (!*load_error && sodium.sodium_init() < 0)
        snprintf(load_error, sizeof load_error, "libsodium does not start");
}

int crypto_load(char error[CRYPTO_ERROR])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_sodium);
    if (!*load_error)
        return 0;
    snprintf(error, CRYPTO_ERROR, "%s", load_error);
    return HASUP_EIO;
}

static crypto_generichash_state *state_of(struct crypto_hash *hash)
{
    return (crypto_generichash_state *)(void *)hash->state;
}

/* With valid lengths none of these can fail. */

void crypto_hash_begin(struct crypto_hash *hash, const uint8_t *key)
{
    if (sodium.crypto_generichash_init(state_of(hash), key, key ? CRYPTO_KEY : 0, CRYPTO_HASH))
        abort();
}

void crypto_hash_add(struct crypto_hash *hash, const void *bytes, size_t len)
{
    if (sodium.crypto_generichash_update(state_of(hash), bytes, len))
        abort();
}

void crypto_hash_end(struct crypto_hash *hash, uint8_t out[CRYPTO_HASH])
{
    if (sodium.crypto_generichash_final(state_of(hash), out, CRYPTO_HASH))
        abort();
}

void crypto_encrypt(uint8_t *out, uint8_t nonce[CRYPTO_NONCE], struct crypto_bytes bytes,
                    struct crypto_bytes about, const uint8_t key[CRYPTO_KEY])
{
    sodium.randombytes_buf(nonce, CRYPTO_NONCE);
    if (sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, NULL, bytes.at, bytes.len, about.at,
                                                          about.len, NULL, nonce, key))
        abort();
}

bool crypto_decrypt(uint8_t *out, const uint8_t nonce[CRYPTO_NONCE], struct crypto_bytes bytes,
                    struct crypto_bytes about, const uint8_t key[CRYPTO_KEY])
{
    return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(out, NULL, NULL, bytes.at, bytes.len,
                                                             about.at, about.len, nonce, key) == 0;
}

bool crypto_same(const uint8_t *a, const uint8_t *b, size_t len)
{
    return sodium.sodium_memcmp(a, b, len) == 0;
}

/* ---- zstd ---- */

static bool zstd_there;

static void load_zstd(void)
{
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
#define CRYPTO_LOAD(name) *(void **)&zstd.name = library ? dlsym(library, #name) : NULL;
    ZSTD(CRYPTO_LOAD)
#undef CRYPTO_LOAD
    zstd_there = zstd.ZSTD_compress && zstd.ZSTD_decompress && zstd.ZSTD_isError;
}

static bool has_zstd(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_zstd);
    return zstd_there;
}

size_t crypto_pack(uint8_t *out, size_t room, const uint8_t *bytes, size_t len)
{
    size_t got = has_zstd() ? zstd.ZSTD_compress(out, room, bytes, len, 1) : 0;
    return got && !zstd.ZSTD_isError(got) ? got : 0;
}

size_t crypto_unpack(uint8_t *out, size_t room, const uint8_t *bytes, size_t len)
{
    size_t got = has_zstd() ? zstd.ZSTD_decompress(out, room, bytes, len) : 0;
    return got && !zstd.ZSTD_isError(got) ? got : 0;
}
