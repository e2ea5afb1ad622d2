/*
 * store_db.h: what the files of the checkpoint store share.  Inside checkpoints/ only.
 *
 *   store.c       opens and closes the file; its schema
 *   store_map.c   the chunks of one checkpoint: hashes, places, what they look like in a row
 *   store_hash.c  the chunks' hash where the processor has AVX2
 *   store_row.c   one row to the disk and back: packed, sealed
 *   store_save.c  writes a checkpoint
 *   store_read.c  lists, reads and verifies
 *   store_old.c   reads what schema 1 wrote
 *   store_keep.c  what stays, and what is cleared away
 *   store_check.c what an audit asks of the file
 */
#ifndef HASUP_CHECKPOINTS_STORE_DB_H
#define HASUP_CHECKPOINTS_STORE_DB_H

#include "checkpoints/crypto.h"
#include "checkpoints/keys.h"
#include "checkpoints/reader.h"
#include "checkpoints/store.h"

_Static_assert((int)SQL_ERROR == (int)STORE_ERROR, "one size of messages");

enum { STORE_SLOTS = STORE_ROW / STORE_CHUNK };

/* ---- store_map.c ---- */

/* A chunk's place: its row's id times 16, and its number in the row; 0: in none yet. */
#define PLACE(row, number)  ((uint64_t)(row) << 4 | (uint64_t)(number))
#define PLACE_ROW(place)    ((int64_t)((place) >> 4))
#define PLACE_NUMBER(place) ((uint32_t)((place)&15))

struct store_map {
    struct store_map *next; /* of the cache, newest use first */
    char model[STORE_MODEL];
    uint32_t ordinal;
    struct checkpoint_info info; /* of the checkpoint that it is the map of */
    uint64_t len;
    uint32_t chunks;
    uint8_t (*hashes)[16];
    uint64_t *places;
    uint8_t *moved; /* a bit a chunk: its place is not that of the base */
    uint32_t base_chunks;
    uint8_t base_digest[STORE_HASH];
    uint64_t deltas; /* bytes of deltas written on this base */
};

/* Bytes of chunk i: all are whole but the last. */
size_t map_chunk_len(const struct store_map *map, uint32_t i);
/* An empty map for `len` bytes; NULL: no memory. */
struct store_map *map_new(uint64_t len);
void map_free(struct store_map *map);
size_t map_memory(const struct store_map *map);
void map_hash(uint8_t out[16], const uint8_t *bytes, size_t len);

/* The map of a state, with the places of what it has in common with `old` (NULL: nothing); *fresh:
 * the bytes that it has not. */
struct store_map *map_of(const struct store_map *old, const uint8_t *bytes, uint64_t len,
                         uint64_t *fresh);
/* What stands in rows: all chunks, or those that differ from the base.  malloc'ed; NULL: no memory.
 */
uint8_t *map_encode(const struct store_map *map, bool whole, size_t *len);
size_t map_encoded_len(const struct store_map *map, bool whole);
/* The other way round; false: the bytes are no map of `map->len` bytes of state. */
bool map_decode_base(struct store_map *map, const uint8_t *bytes, size_t len);
bool map_decode_delta(struct store_map *map, const uint8_t *bytes, size_t len);
void map_digest(uint8_t out[STORE_HASH], const uint8_t *bytes, size_t len);
/* The hash that stands in the manifest, over its fields and both parts of its map; `key` NULL:
 * without one. */
void manifest_hash(uint8_t out[STORE_HASH], const struct checkpoint_info *info,
                   const uint8_t base_digest[STORE_HASH], const uint8_t *delta, size_t delta_len,
                   const struct key *key);

/* ---- store_hash.c ---- */

bool store_hash_can_fast(void);
void store_hash_fast(uint8_t out[16], const uint8_t *bytes, size_t len);

/* ---- the store ---- */

struct store {
    sqlite3 *db;
    enum store_mode mode;
    int schema;           /* 0: the file is empty */
    bool old_parts;       /* rows of schema 1 may be there */
    struct reader reader; /* mode READ: it owns `db` */
    struct stat file;     /* as it was opened */
    struct store_map *maps;
    size_t maps_bytes;
    struct store_options options;
    int64_t data_version; /* of when the maps were true */
    char path[512];
};

/* A prepared statement; NULL: `error` says why. */
sqlite3_stmt *store_prepare(struct store *store, const char *sql, char error[STORE_ERROR]);
int store_failed(struct store *store, const char *step, char error[STORE_ERROR]);
/* Whether a lock that another has is waited for, a few seconds at most. */
void store_wait(struct store *store, bool wait);
/* Steps to the end and finalizes. */
int store_finish(struct store *store, sqlite3_stmt *statement, const char *step,
                 char error[STORE_ERROR]) HASUP_NODISCARD;

/* ---- store_row.c ---- */

/* What seals what is written now; NULL: nothing does. */
const struct key *store_key(const struct store *store);

struct row_writer {
    struct store *store;
    sqlite3_stmt *insert;
    int64_t id; /* of the last row written */
    uint32_t rows;
    uint64_t written;
    int skip; /* so many rows more are not tried to pack */
    unsigned skipped;
    uint8_t *packed, *sealed;
    size_t sealed_room, seal_len;
    uint8_t seal[KEY_ID + CRYPTO_HASH];
};
int row_writer_begin(struct row_writer *writer, struct store *store, int64_t last,
                     char error[STORE_ERROR]) HASUP_NODISCARD;
int row_write(struct row_writer *writer, int64_t generation, const uint8_t *at, size_t len,
              bool chunks, char error[STORE_ERROR]) HASUP_NODISCARD;
void row_writer_end(struct row_writer *writer);

struct row_reader {
    struct store *store;
    sqlite3_stmt *select;
    uint8_t *opened, *unpacked;
};
int row_reader_begin(struct row_reader *reader, struct store *store,
                     char error[STORE_ERROR]) HASUP_NODISCARD;
/* The bytes of a row of a checkpoint, which stay until the next call. */
int row_read(struct row_reader *reader, const struct checkpoint_info *info, int64_t id,
             struct sql_bytes *bytes, char error[STORE_ERROR]) HASUP_NODISCARD;
void row_reader_end(struct row_reader *reader);

/* ---- the cache of maps (store_save.c) ---- */

/* Takes the map over; the slot's older one is freed. */
void store_cache(struct store *store, struct store_map *map);
void store_forget(struct store *store, const struct checkpoint_key *key);
void store_forget_all(struct store *store);
/* In a transaction: forgets all where another connection has written meanwhile. */
void store_cache_refresh(struct store *store);

/* ---- reading (store_read.c, store_old.c) ---- */

int store_damaged(const struct checkpoint_info *info, char error[STORE_ERROR],
                  const char *what) HASUP_NODISCARD;
/* Reads and verifies one of schema 1. */
int store_read_old(struct store *store, const struct checkpoint_info *info,
                   const struct store_sink *sink, char error[STORE_ERROR]) HASUP_NODISCARD;

/* ---- what stays (store_keep.c) ---- */

int store_retain(struct store *store, const struct checkpoint_key *key,
                 const struct store_keep *keep, char error[STORE_ERROR]) HASUP_NODISCARD;

#endif
