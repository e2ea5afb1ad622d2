/*
 * crypto.c: loads libsodium when it is first needed, and calls it.  Owns the handle for the life of
 * the program.
 */
#include "checkpoints/crypto.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <sodium.h>

_Static_assert(sizeof(struct crypto_hash) >= sizeof(crypto_generichash_state), "room for a state");

#define SODIUM(X)                                                                                  \
    X(sodium_init)                                                                                 \
    X(crypto_generichash_init)                                                                     \
    X(crypto_generichash_update)                                                                   \
    X(crypto_generichash_final)

static struct {
#define CRYPTO_POINTER(name) __typeof__(name) *name;
    SODIUM(CRYPTO_POINTER)
#undef CRYPTO_POINTER
} sodium;

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
