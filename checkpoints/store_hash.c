/*
 * store_hash.c: the hash that tells chunks apart, XXH3-128, at the speed of the machine: Debian's
 * library is built for every x86-64, and half as fast as one that may use AVX2.  Both give the
 * same.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2")
#define WITH_AVX2 1
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "checkpoints/store_db.h"

static void put(uint8_t out[16], XXH128_hash_t hash)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, 16);
}

void store_hash_fast(uint8_t out[16], const uint8_t *bytes, size_t len)
{
    put(out, XXH3_128bits(bytes, len));
}

bool store_hash_can_fast(void)
{
#ifdef WITH_AVX2
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}
