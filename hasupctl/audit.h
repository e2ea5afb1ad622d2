/* audit.h: what the parts of `hasupctl audit` share. */
#ifndef HASUP_HASUPCTL_AUDIT_H
#define HASUP_HASUPCTL_AUDIT_H

#include "checkpoints/audit.h"
#include "hasupctl/hasupctl.h"

/* ---- running.c: what a hasupd notes of itself in its state directory ---- */

struct running {
    json_t *json;   /* NULL: there is no note, or it cannot be read */
    json_t *config; /* as `hasupctl config` shows it; borrowed */
    int64_t pid;    /* 0: that hasupd is gone */
    int64_t began_wall_ns;
};
void running_read(const char *state_dir, struct running *running);
void running_free(struct running *running);

#endif
