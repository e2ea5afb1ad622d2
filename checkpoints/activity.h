/*
 * activity.h: the file `activity` of a state directory: since when each slot has changes that no
 * stored checkpoint has.  hasupd notes it as it happens; the audit reads it, beside a running
 * hasupd or after its death, and so knows an idle slot from one whose checkpoints fail.
 *
 * One record of ACTIVITY_RECORD bytes a slot, at the core's index of it, with a checksum.  It is
 * not synced: after a power cut the changes that it told of are gone as well.
 */
#ifndef HASUP_CHECKPOINTS_ACTIVITY_H
#define HASUP_CHECKPOINTS_ACTIVITY_H

#include "checkpoints/store.h"

enum { ACTIVITY_RECORD = 128, ACTIVITY_BYTES_MAX = 16 * 1024 * 1024 };

struct activity {
    char model[STORE_MODEL]; /* "" : the record is free */
    uint32_t ordinal;
    uint64_t position;       /* the first that no stored checkpoint contains */
    int64_t changed_wall_ns; /* since when there is such a change; 0: everything is stored */
};

/* Makes the file (0600), or opens the one of an earlier run, and makes this process the directory's
 * owner (owner.h) until it is closed.  The descriptor; -1: errno, where EBUSY is another process's,
 * whose pid is then in `owner` (0: it is in another container or on another machine). */
int activity_open(const char *state_dir, int64_t *owner);
/* A run begins: the changes of an earlier one are stored or lost by now.  0 or HASUP_ESYS. */
int activity_begin(int fd) HASUP_NODISCARD;
/* The directory's file is another one by now, or there is none. */
bool activity_is_gone(int fd, const char *state_dir);
/* 0 or HASUP_ESYS. */
int activity_write(int fd, uint32_t index, const struct activity *activity) HASUP_NODISCARD;
/* All whole records.  HASUP_ENOTFOUND: there is no file. */
int activity_each(const char *state_dir,
                  bool (*each)(void *context, const struct activity *activity),
                  void *context) HASUP_NODISCARD;

#endif
