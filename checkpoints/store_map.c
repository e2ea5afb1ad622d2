/*
 * store_map.c: the map of a checkpoint: for each chunk of the state its hash and its place.  Knows
 * how a map is told from the one before, and what it looks like in a row; touches no database.
 *
 * A map stands in two rows.  The base names all chunks of an earlier checkpoint of the generation;
 * the delta those that are others now, all of them, so two rows are always enough.  A new base is
 * written when the deltas on the old one have cost as much as it did: so a checkpoint that changes
 * little writes little, however large the state.
 */
#include "checkpoints/store_db.h"

#include <stdlib.h>

#include <xxhash.h>

enum { BASE_ENTRY = 16 + 8, DELTA_ENTRY = 4 + BASE_ENTRY };

static uint32_t map_chunks(uint64_t len)
{
    return (uint32_t)((len + STORE_CHUNK - 1) / STORE_CHUNK);
}

size_t map_chunk_len(const struct store_map *map, uint32_t i)
{
    uint64_t rest = map->len - (uint64_t)i * STORE_CHUNK;
    return rest < STORE_CHUNK ? (size_t)rest : STORE_CHUNK;
}

struct store_map *map_new(uint64_t len)
{
    uint32_t chunks = map_chunks(len);
    struct store_map *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    map->len = len;
    map->chunks = chunks;
    map->hashes = malloc((size_t)chunks * sizeof *map->hashes + 1);
    map->places = calloc((size_t)chunks + 1, sizeof *map->places);
    map->moved = calloc((size_t)chunks / 8 + 1, 1);
    if (map->hashes && map->places && map->moved)
        return map;
    map_free(map);
    return NULL;
}

void map_free(struct store_map *map)
{
    if (!map)
        return;
    free(map->hashes);
    free(map->places);
    free(map->moved);
    free(map);
}

size_t map_memory(const struct store_map *map)
{
    return sizeof *map + (size_t)map->chunks * (sizeof *map->hashes + sizeof *map->places) +
           map->chunks / 8;
}

void map_hash(uint8_t out[16], const uint8_t *bytes, size_t len)
{
    XXH128_canonical_t canonical;
    if (store_hash_can_fast()) {
        store_hash_fast(out, bytes, len);
        return;
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, len));
    memcpy(out, canonical.digest, 16);
}

static bool is_moved(const struct store_map *map, uint32_t i)
{
    return i >= map->base_chunks || (map->moved[i / 8] >> i % 8 & 1);
}

static void set_moved(struct store_map *map, uint32_t i)
{
    map->moved[i / 8] = (uint8_t)(map->moved[i / 8] | 1u << i % 8);
}

struct store_map *map_of(const struct store_map *old, const uint8_t *bytes, uint64_t len,
                         uint64_t *fresh)
{
    struct store_map *map = map_new(len);
    *fresh = 0;
    if (!map)
        return NULL;
    if (old) {
        map->base_chunks = old->base_chunks;
        memcpy(map->base_digest, old->base_digest, sizeof map->base_digest);
        map->deltas = old->deltas;
    }
    for (uint32_t i = 0; i < map->chunks; i++) {
        size_t part = map_chunk_len(map, i);
        map_hash(map->hashes[i], bytes + (size_t)i * STORE_CHUNK, part);
        if (old && i < old->chunks && part == map_chunk_len(old, i) &&
            memcmp(map->hashes[i], old->hashes[i], 16) == 0) {
            map->places[i] = old->places[i];
            if (is_moved(old, i))
                set_moved(map, i);
        } else {
            *fresh += part;
            set_moved(map, i);
        }
    }
    return map;
}

/* ---- in rows ---- */

static uint32_t map_moved(const struct store_map *map)
{
    uint32_t moved = 0;
    for (uint32_t i = 0; i < map->chunks; i++)
        moved += is_moved(map, i);
    return moved;
}

size_t map_encoded_len(const struct store_map *map, bool whole)
{
    return whole ? (size_t)map->chunks * BASE_ENTRY : (size_t)map_moved(map) * DELTA_ENTRY;
}

static uint8_t *put_entry(uint8_t *at, const struct store_map *map, uint32_t i)
{
    memcpy(at, map->hashes[i], 16);
    hasup_put64(at + 16, map->places[i]);
    return at + BASE_ENTRY;
}

uint8_t *map_encode(const struct store_map *map, bool whole, size_t *len)
{
    *len = map_encoded_len(map, whole);
    uint8_t *bytes = malloc(*len + 1), *at = bytes;
    for (uint32_t i = 0; bytes && i < map->chunks; i++) {
        if (!whole && !is_moved(map, i))
            continue;
        if (!whole) {
            hasup_put32(at, i);
            at += 4;
        }
        at = put_entry(at, map, i);
    }
    return bytes;
}

static void get_entry(struct store_map *map, uint32_t i, const uint8_t *at)
{
    memcpy(map->hashes[i], at, 16);
    map->places[i] = hasup_get64(at + 16);
}

bool map_decode_base(struct store_map *map, const uint8_t *bytes, size_t len)
{
    if (len % BASE_ENTRY || len / BASE_ENTRY > UINT32_MAX)
        return false;
    map->base_chunks = (uint32_t)(len / BASE_ENTRY);
    for (uint32_t i = 0; i < map->chunks && i < map->base_chunks; i++)
        get_entry(map, i, bytes + (size_t)i * BASE_ENTRY);
    return true;
}

bool map_decode_delta(struct store_map *map, const uint8_t *bytes, size_t len)
{
    uint64_t next = 0;
    if (len % DELTA_ENTRY)
        return false;
    for (size_t at = 0; at < len; at += DELTA_ENTRY) {
        uint32_t i = hasup_get32(bytes + at);
        if (i < next || i >= map->chunks)
            return false;
        get_entry(map, i, bytes + at + 4);
        set_moved(map, i);
        next = (uint64_t)i + 1;
    }
    for (uint32_t i = 0; i < map->chunks; i++)
        if (!PLACE_ROW(map->places[i]) || PLACE_NUMBER(map->places[i]) >= STORE_SLOTS)
            return false;
    return true;
}

void map_digest(uint8_t out[STORE_HASH], const uint8_t *bytes, size_t len)
{
    struct crypto_hash hash;
    crypto_hash_begin(&hash, NULL);
    crypto_hash_add(&hash, bytes, len);
    crypto_hash_end(&hash, out);
}

void manifest_hash(uint8_t out[STORE_HASH], const struct checkpoint_info *info,
                   const uint8_t base_digest[STORE_HASH], const uint8_t *delta, size_t delta_len,
                   const struct key *key)
{
    const uint64_t numbers[] = {(uint64_t)info->id,
                                info->ordinal,
                                info->position,
                                (uint64_t)info->created_wall_ns,
                                info->len,
                                info->fresh,
                                info->written,
                                info->rows,
                                (uint64_t)info->generation,
                                info->since,
                                (uint64_t)info->base,
                                (uint64_t)info->delta};
    uint8_t fields[sizeof numbers + STORE_MODEL] = {0};
    struct crypto_hash hash;
    for (size_t i = 0; i < HASUP_LEN(numbers); i++)
        hasup_put64(fields + i * 8, numbers[i]);
    memcpy(fields + sizeof numbers, info->model, strnlen(info->model, STORE_MODEL - 1));
    crypto_hash_begin(&hash, key ? key->mac : NULL);
    crypto_hash_add(&hash, fields, sizeof fields);
    crypto_hash_add(&hash, base_digest, STORE_HASH);
    crypto_hash_add(&hash, delta, delta_len);
    crypto_hash_end(&hash, out);
}
