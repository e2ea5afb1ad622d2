/*
 * upgrade.h: hasupd replaced by another binary in the same process: workers, clients and requests
 * stay (docs/upgrade.md).
 */
#ifndef HASUP_SUPERVISOR_UPGRADE_H
#define HASUP_SUPERVISOR_UPGRADE_H

#include "supervisor/carry.h"
#include "supervisor/config.h"
#include "supervisor/loop.h"

#include <stdio.h>

enum { UPGRADE_TEXT = CONFIG_ERROR_MAX };

struct upgrade;

/* What is to be carried: main.c's. */
struct upgrade_ops {
    /* What cannot go along now; NULL: all can. */
    const char *(*holds)(void *context);
    /* All of it, in its order. */
    void (*carry)(void *context, struct carry *carry);
    /* Now, or another moment: what would not survive the next hasupd's coming ends. */
    void (*leaving)(void *context);
    /* It did not happen, and the old one goes on. */
    void (*failed)(void *context, const char *why);
};

/* `config_file`: of both.  NULL: out of memory. */
struct upgrade *upgrade_new(struct loop *loop, const struct upgrade_ops *ops, void *context,
                            const char *config_file);
void upgrade_free(struct upgrade *upgrade);
/* `binary`: NULL: the one that runs, as its file is now.  HASUP_EINVAL, HASUP_EFULL: `why` says what
 * is wrong.  Its end is told by `failed`, or by the next hasupd. */
int upgrade_ask(struct upgrade *upgrade, const char *binary, char why[UPGRADE_TEXT]) HASUP_NODISCARD;

/* What an older one left in a memfd. */
struct takeover {
    struct carry carry;
    uint8_t *bytes; /* mapped */
    size_t len;
    char version[64]; /* of the one before, */
    hasup_ns began;   /* which stopped then */
    int http, unix_door; /* what listens; http 0: nothing */
    uint32_t off; /* config_off() of its configuration */
};
/* Reads its first part.  HASUP_*: `why`. */
int takeover_begin(struct takeover *takeover, int fd, char why[UPGRADE_TEXT]) HASUP_NODISCARD;
/* Everything was loaded: HASUP_EPROTO where it was not. */
int takeover_end(struct takeover *takeover, char why[UPGRADE_TEXT]) HASUP_NODISCARD;
void takeover_free(struct takeover *takeover);
/* What is looked at first, because a person can do something about it; HASUP_*: `why`. */
int upgrade_check(int fd, const char *config_file, char why[UPGRADE_TEXT]) HASUP_NODISCARD;

/* The first part: written by `carry` before all others. */
void upgrade_head_carry(struct carry *carry, struct takeover *head);

#endif
