/*
 * store.h: checkpoints.db: the states of slots, each checked to the bit, in SQLite.
 *
 * A state is cut into chunks of STORE_CHUNK bytes.  A checkpoint writes those that changed since
 * the one before, packed into rows of STORE_ROW bytes, and a manifest that names every chunk's
 * place and hash.  All of it appears in one transaction, so a torn write leaves the one before.
 *
 * Checkpoints that share chunks are one generation.  A new one begins, with a whole copy of the
 * state, when the generation has written as much again as the state is long; the newest checkpoint
 * of the generation before stays until then, so that damage to one shared row never takes all.
 *
 * XXH3-128 finds what changed and what is damaged; BLAKE2b covers the manifest with all chunks'
 * hashes.  With a key the manifest's hash and every row are sealed with it, or encrypted.  One
 * thread uses a store.  Only checkpoints/ knows SQLite.
 */
#ifndef HASUP_CHECKPOINTS_STORE_H
#define HASUP_CHECKPOINTS_STORE_H

#include "checkpoints/keys.h"

enum {
    STORE_CHUNK = 4096,
    STORE_ROW = 15 * STORE_CHUNK, /* fits one page of 64 KiB */
    STORE_ERROR = 256,
    STORE_MODEL = 64,
    STORE_HASH = 32,
    STORE_SCHEMA = 2, /* user_version; a newer one is refused, 1 is read and brought up to it */
};

struct store;

enum store_mode { STORE_WRITE, STORE_READ };

struct checkpoint_key {
    const char *model;
    uint32_t ordinal;
};

struct checkpoint_info {
    int64_t id;
    char model[STORE_MODEL];
    uint32_t ordinal;
    uint64_t position;       /* of the slot's log: contains exactly the requests up to it */
    int64_t created_wall_ns; /* since 1970 */
    uint64_t len;
    uint64_t fresh;      /* bytes of the state that it wrote; the others it shares */
    uint64_t written;    /* bytes of rows that this took */
    uint32_t rows;       /* the number of these rows */
    int64_t generation;  /* the first checkpoint's id of those that share; 0: whole, of schema 1 */
    uint64_t since;      /* bytes that its generation has written after its first checkpoint */
    int64_t base, delta; /* the rows of its chunks' places and hashes */
    uint8_t hash[STORE_HASH];
    uint32_t hash_len; /* 16 in schema 1 */
    bool sealed;       /* with this key: */
    uint8_t key[KEY_ID];
};

/* Which checkpoints of a slot stay: the `last` newest, and the newest of each of the last `hourly`
 * hours and `daily` days that have one.  From 2 on one always stays that shares nothing with the
 * newest. */
struct store_keep {
    uint32_t last, hourly, daily;
};

/* STORE_WRITE creates what is missing (0600), and changes no file that is not hasup's.  STORE_READ
 * makes and changes no file, works beside a writer, and on a read-only disk.  HASUP_ENOTFOUND
 * (READ: no file), HASUP_ECORRUPT (not a database), HASUP_EIO (disk, permissions), HASUP_EINVAL
 * (newer schema); `error` says which file and why. */
int store_open(const char *path, enum store_mode mode, struct store **store,
               char error[STORE_ERROR]) HASUP_NODISCARD;
void store_close(struct store *store);
/* Opened with STORE_READ; false for NULL. */
bool store_is_read_only(const struct store *store);

struct store_options {
    const struct keys *keys; /* borrowed; NULL: nothing is sealed, and what is cannot be read */
    bool encrypt;            /* else sealed against changes only; needs keys */
    bool sealed_only;        /* a checkpoint without a seal is not taken for good; needs keys */
    bool compress;           /* rows that get smaller by it */
    size_t cache; /* at most this much memory holds the newest manifests of slots; 1/170 of the
                   * states' size is enough, and with less a save may write all of a state */
};
enum { STORE_CACHE = 64 << 20 };
/* At first: no keys, no compression, STORE_CACHE. */
void store_set(struct store *store, const struct store_options *options);

/* A WAL of schema 1 holds something that this reader could not see: the newest may be missing. */
bool store_wal_unread(const struct store *store);
/* Its file was removed or replaced: what is open can still be read, but is nobody's any more. */
bool store_is_gone(const struct store *store);
/* A writer came while this reader read without locks: what it found may be wrong, open it again. */
bool store_is_disturbed(const struct store *store);

/* Saves one; then lets go of those that `keep` does not keep, in the same transaction.  Those at
 * a later position than the new one stay besides, keep->last at most: good ones, perhaps, that
 * could not be read when the slot started. */
int store_save(struct store *store, const struct checkpoint_key *key, uint64_t position,
               int64_t created_wall_ns, const uint8_t *bytes, uint64_t len,
               const struct store_keep *keep, char error[STORE_ERROR]) HASUP_NODISCARD;

/* Lets go of what `keep` does not keep, of a slot or (key->ordinal UINT32_MAX) of all slots of a
 * model, as a save does; `keep` NULL: of all, those too that are sealed with keys that are not
 * there. *gone: how many. */
int store_prune(struct store *store, const struct checkpoint_key *key,
                const struct store_keep *keep, uint32_t *gone,
                char error[STORE_ERROR]) HASUP_NODISCARD;

/* One small step of what saves leave behind: rows that no checkpoint needs go, then free pages are
 * given back to the file system where they are most of the file.  True: there is more to do. */
bool store_tidy(struct store *store);

/* Called for each damaged checkpoint that is passed over; info->id 0: the list itself is damaged.
 */
typedef void store_bad(void *context, const struct checkpoint_info *info, const char *reason);

/* The newest good one of a slot.  *bytes is malloc'ed (never NULL on success), the caller's.
 * HASUP_ENOTFOUND: there is no good one; HASUP_EDENIED: there are only such that are sealed with
 * keys that are not there. */
int store_load(struct store *store, const struct checkpoint_key *key, struct checkpoint_info *info,
               uint8_t **bytes, store_bad *bad, void *context,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* Where a state goes that is read: its pieces come in any order, each byte once.  `begin` comes
 * again, and forgets what came, where one that was begun proves to be damaged.  Nonzero: no room.
 */
struct store_sink {
    int (*begin)(void *context, uint64_t len);
    int (*put)(void *context, uint64_t at, const uint8_t *bytes, size_t len);
    void *context;
};
/* The same, into a sink; what a sink got is good where this is 0, and only then. */
int store_load_into(struct store *store, const struct checkpoint_key *key,
                    struct checkpoint_info *info, const struct store_sink *sink, store_bad *bad,
                    void *context, char error[STORE_ERROR]) HASUP_NODISCARD;

/* Reads and checks one by its id; *bytes may be NULL where the caller wants the check only.
 * HASUP_ENOTFOUND, HASUP_EDENIED (its key is not there), HASUP_ECORRUPT, each with the reason. */
int store_read(struct store *store, int64_t id, struct checkpoint_info *info, uint8_t **bytes,
               char error[STORE_ERROR]) HASUP_NODISCARD;
/* Checks one's manifest alone: its fields, and its list of places and hashes, which is much quicker
 * than reading the chunks. */
int store_read_manifest(struct store *store, int64_t id, struct checkpoint_info *info,
                        char error[STORE_ERROR]) HASUP_NODISCARD;

/* All manifests by model, ordinal, newest first; `each` answers false to stop.
 * `key` NULL: of all slots; key->ordinal UINT32_MAX: all slots of the model. */
int store_list(struct store *store, const struct checkpoint_key *key,
               bool (*each)(void *context, const struct checkpoint_info *info), void *context,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* Whether the newest checkpoint of each slot can be read with the keys that there are: 0, or
 * HASUP_EDENIED and the first that cannot. */
int store_check_keys(struct store *store, char error[STORE_ERROR]) HASUP_NODISCARD;

/* SQLite's own check of the file (`deep`: integrity_check, else quick_check).  0 sound;
 * HASUP_ECORRUPT: `error` says what. */
int store_check(struct store *store, bool deep, char error[STORE_ERROR]) HASUP_NODISCARD;
/* What the file itself knows of things that are not there. */
struct store_gaps {
    uint64_t orphans;   /* rows that no checkpoint's generation accounts for */
    uint64_t waiting;   /* rows that are let go and not yet cleared away: no damage */
    int64_t newest_id;  /* ever given to a checkpoint; 0: none was */
    bool newest_listed; /* it is there: a save never lets go of itself */
};
int store_gaps(struct store *store, struct store_gaps *gaps,
               char error[STORE_ERROR]) HASUP_NODISCARD;

#endif
