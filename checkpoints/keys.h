/*
 * keys.h: the keys that seal checkpoints, from a file of the user's.
 *
 * The file holds one key a line, 64 hexadecimal digits; empty lines and those with # are passed
 * over.  The first key seals what is written; all of them open what is there, so that a key is
 * changed by a new first line.  A key's id follows from the key and says nothing of it.
 */
#ifndef HASUP_CHECKPOINTS_KEYS_H
#define HASUP_CHECKPOINTS_KEYS_H

#include "ipc/base.h"

enum { KEYS_ERROR = 256, KEYS_MAX = 16, KEY_ID = 8, KEY_ID_TEXT = 2 * KEY_ID + 1 };

struct key {
    uint8_t id[KEY_ID];
    uint8_t mac[32], cipher[32]; /* made from the key, each for its one use */
};

struct keys {
    char path[256];
    unsigned count;
    struct key keys[KEYS_MAX];
};

/* HASUP_EDENIED: others can read it; HASUP_EINVAL: no keys, or no such file; HASUP_EIO: libsodium
 * is not there.  `error` says what and what to do. */
int keys_load(const char *path, struct keys **keys, char error[KEYS_ERROR]) HASUP_NODISCARD;
void keys_free(struct keys *keys); /* and wipes them */
const struct key *keys_find(const struct keys *keys, const uint8_t id[KEY_ID]);
char *key_id_text(const uint8_t id[KEY_ID], char out[KEY_ID_TEXT]);

#endif
