/*
 * store.h: checkpoints.db: the states of slots, each whole and checked, in SQLite.
 *
 * A checkpoint is one manifest row and rows of at most STORE_ROW bytes; it appears in the one
 * transaction that holds all of it, so a torn write leaves the one before.  XXH3-128 hashes find
 * damage: one for each row, one for the whole, which covers the manifest's own fields too.  One
 * thread uses a store. Only checkpoints/ knows SQLite.
 */
#ifndef HASUP_CHECKPOINTS_STORE_H
#define HASUP_CHECKPOINTS_STORE_H

#include "ipc/base.h"

enum {
    STORE_ROW = 60 * 1024,
    STORE_ERROR = 256,
    STORE_MODEL = 64,
    STORE_SCHEMA = 1, /* user_version; a newer one is refused */
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
    uint32_t rows;
    uint8_t hash[16];
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

/* The WAL holds something that this reader could not see: the newest may be missing. */
bool store_wal_unread(const struct store *store);
/* Its file was removed or replaced: what is open can still be read, but is nobody's any more. */
bool store_is_gone(const struct store *store);
/* A writer came while this reader read without locks: what it found may be wrong, open it again. */
bool store_is_disturbed(const struct store *store);

/* Saves one; then deletes all but the `keep` newest of the slot, in the same transaction.  Those at
 * a later position than the new one stay besides, `keep` at most: good ones, perhaps, that could
 * not be read when the slot started. */
int store_save(struct store *store, const struct checkpoint_key *key, uint64_t position,
               int64_t created_wall_ns, const uint8_t *bytes, uint64_t len, uint32_t keep,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* Called for each damaged checkpoint that is passed over; info->id 0: the list itself is damaged.
 */
typedef void store_bad(void *context, const struct checkpoint_info *info, const char *reason);

/* The newest good one of a slot.  *bytes is malloc'ed (never NULL on success), the caller's.
 * HASUP_ENOTFOUND: there is no good one. */
int store_load(struct store *store, const struct checkpoint_key *key, struct checkpoint_info *info,
               uint8_t **bytes, store_bad *bad, void *context,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* Reads and checks one by its id; *bytes may be NULL where the caller wants the check only.
 * HASUP_ENOTFOUND, HASUP_ECORRUPT with the reason. */
int store_read(struct store *store, int64_t id, struct checkpoint_info *info, uint8_t **bytes,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* All manifests by model, ordinal, newest first; `each` answers false to stop.
 * `key` NULL: of all slots; key->ordinal UINT32_MAX: all slots of the model. */
int store_list(struct store *store, const struct checkpoint_key *key,
               bool (*each)(void *context, const struct checkpoint_info *info), void *context,
               char error[STORE_ERROR]) HASUP_NODISCARD;

/* SQLite's own check of the file (`deep`: integrity_check, else quick_check).  0 sound;
 * HASUP_ECORRUPT: `error` says what. */
int store_check(struct store *store, bool deep, char error[STORE_ERROR]) HASUP_NODISCARD;
/* What the file itself knows of things that are not there. */
struct store_gaps {
    uint64_t orphans;   /* parts that no checkpoint names */
    int64_t newest_id;  /* ever given to a checkpoint; 0: none was */
    bool newest_listed; /* it is there: a save never lets go of itself */
};
int store_gaps(struct store *store, struct store_gaps *gaps,
               char error[STORE_ERROR]) HASUP_NODISCARD;

#endif
