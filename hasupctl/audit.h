/* audit.h: what the parts of `hasupctl audit` share. */
#ifndef HASUP_HASUPCTL_AUDIT_H
#define HASUP_HASUPCTL_AUDIT_H

#include "checkpoints/audit.h"
#include "hasupctl/hasupctl.h"

/* "MODEL" or "MODEL/SLOT" (UINT32_MAX: all slots); false: neither. */
bool ctl_parse_target(const char *target, char model[STORE_MODEL], struct checkpoint_key *key);

/* ---- running.c: what a hasupd notes of itself in its state directory ---- */

struct running {
    json_t *json;   /* NULL: there is no note, or it cannot be read */
    json_t *config; /* as `hasupctl config` shows it; borrowed */
    int64_t pid;    /* 0: that hasupd is gone */
    int64_t began_wall_ns;
};
void running_read(const char *state_dir, struct running *running);
void running_free(struct running *running);
/* The keys of sealed checkpoints: --key-file, else HASUP_KEY_FILE, else what the configuration
 * names; *keys NULL: none are named.  Negative: the file is wrong, and `error` says why. */
int running_keys(const struct ctl *ctl, const json_t *config, struct keys **keys,
                 char error[KEYS_ERROR]) HASUP_NODISCARD;

/* ---- portable.c ---- */

int checkpoint_export(const struct ctl *ctl);
int checkpoint_import(const struct ctl *ctl);
int checkpoint_prune(const struct ctl *ctl);

/* The store of the state directory with its keys, or HASUP_E* and `error`; HASUP_ENOTFOUND: nothing
 * was stored.  The caller frees both. */
struct ctl_store {
    struct store *store;
    struct keys *keys;
    struct running running;
};
int ctl_store_open(const struct ctl *ctl, enum store_mode mode, struct ctl_store *store,
                   char error[STORE_ERROR]) HASUP_NODISCARD;
void ctl_store_close(struct ctl_store *store);

/* ---- audits.c: the history ---- */

json_t *audits_read(const char *state_dir); /* the entries, oldest first */
/* When the newest restore test was that had no failure; 0: never. */
json_int_t audits_restored(json_t *entries);
/* Adds `seen_wall_ms` to each finding: the first of the audits in a row that found it. */
void audits_seen(json_t *entries, json_t *findings, json_int_t now_wall_ms);
/* False: it is not the caller's directory, or cannot be written. */
bool audits_append(const char *state_dir, json_t *entry);

/* ---- restore.c: a worker proves that it can restore a checkpoint ---- */

struct restore_order {
    const char *state_dir;
    const char *target; /* MODEL or MODEL/SLOT; NULL: of each model the slot tested longest ago */
    json_t *config;     /* as `hasupctl config` shows it */
    const char *path;   /* PATH of hasupd; NULL: the caller's */
    int64_t hasupd;     /* its pid: the worker gets its environment; 0: the caller's */
    const struct keys *keys; /* of sealed checkpoints */
    bool network;            /* the worker may have it */
    json_t *entries;         /* the history */
};
/* Each test becomes an element of `results`: {"slot", "id", "position", "bytes", "result": good,
 * differs or failed, "ms"}, and what is wrong a call of `report`.  0; HASUP_E* and `error`: it
 * could not test. */
int restore_test(const struct restore_order *order, json_t *results, audit_report *report,
                 void *context, char error[STORE_ERROR]) HASUP_NODISCARD;

#endif
