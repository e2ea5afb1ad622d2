/*
 * portable.h: one checkpoint as one file, to carry it to another machine (docs/portable.md is the
 * format).  With keys the file is encrypted with the first of them.
 */
#ifndef HASUP_CHECKPOINTS_PORTABLE_H
#define HASUP_CHECKPOINTS_PORTABLE_H

#include "checkpoints/store.h"

/* Of the info: model, ordinal, position, created_wall_ns, len. `keys` NULL: not encrypted. */
int portable_write(int fd, const struct checkpoint_info *info, const uint8_t *bytes,
                   const struct keys *keys, char error[STORE_ERROR]) HASUP_NODISCARD;
/* Reads and verifies all of it.  HASUP_ECORRUPT: damaged, cut short or no such file; HASUP_EDENIED:
 * its key is not there.  *bytes is malloc'ed, the caller's. */
int portable_read(int fd, const struct keys *keys, struct checkpoint_info *info, uint8_t **bytes,
                  char error[STORE_ERROR]) HASUP_NODISCARD;

#endif
