/*
 * cgroup.h: cgroup v2 leaves, one for each slot, under a directory of hasupd's own.  Used by
 * processes.c. Where cgroup v2 is not there or not writable, cgroups_open gives NULL and trees are
 * followed otherwise.
 */
#ifndef HASUP_SUPERVISOR_CGROUP_H
#define HASUP_SUPERVISOR_CGROUP_H

#include "ipc/base.h"

struct cgroups;
struct leaf;

/* `parent`: where to make the directory; "" : hasupd's own cgroup. */
struct cgroups *cgroups_open(const char *parent);
void cgroups_close(struct cgroups *cgroups);          /* removes what is empty */
int cgroups_notify_fd(const struct cgroups *cgroups); /* readable when some leaf's events changed */
void cgroups_notify_read(struct cgroups *cgroups);

struct carry;
/* To and from another hasupd, which has the same pid; loading makes them.  NULL: there are none, or
 * the load has failed. */
struct cgroups *cgroups_carry(struct carry *carry, struct cgroups *cgroups);
/* The leaf of a process, by its place among the others; NULL: none. */
void leaf_carry(struct carry *carry, struct leaf **leaf);

/* The leaf of a name, made at its first use; NULL: it could not be made. */
struct leaf *leaf_get(struct cgroups *cgroups, const char *name);
/* Its slot is gone, and so is its tree. */
void leaf_remove(struct cgroups *cgroups, const char *name);
int leaf_directory(const struct leaf *leaf);
/* Moves a process there; false: it could not be. */
bool leaf_enter(const struct leaf *leaf, int pid);
void leaf_kill(struct leaf *leaf);
bool leaf_is_empty(struct leaf *leaf);
/* How often the kernel killed in it for lack of memory; false: it is not counted there, as the
 * memory controller is seldom delegated so far. */
bool leaf_oom_kills(const struct leaf *leaf, uint64_t *kills);
/* How much memory it holds, page cache of files left out, which the kernel takes back when it has to; false: as above. */
bool leaf_memory(const struct leaf *leaf, uint64_t *bytes);
/* How often for hasupd's own cgroup and what is below it, which a container or a service has: found
 * once, since a restart that looks for it takes twice as long.  -1: nowhere, which reads as false. */
int oom_counter_open(void);
bool oom_counter_read(int counter, uint64_t *kills);

#endif
