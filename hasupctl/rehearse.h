/*
 * rehearse.h: the conversation of a restore test with a worker, as hasupd would have it: hello,
 * welcome, restore, ready, then a checkpoint at once.
 */
#ifndef HASUP_HASUPCTL_REHEARSE_H
#define HASUP_HASUPCTL_REHEARSE_H

#include "hasupctl/isolate.h"

enum { REHEARSE_ERROR = 256 };

struct rehearsal {
    const char *model;
    uint32_t ordinal;
    uint64_t position;
    const uint8_t *state;
    uint64_t len;
    hasup_ns start_limit, save_limit; /* to ready; from there to its state */
};

enum rehearsed { REHEARSED_GOOD, REHEARSED_DIFFERS, REHEARSED_FAILED };

/* `text` says what failed, or where the saved state differs. */
enum rehearsed rehearse(const struct rehearsal *rehearsal, struct isolated *worker,
                        char text[REHEARSE_ERROR]);

#endif
