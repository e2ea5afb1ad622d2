/*
 * attributes.h: what a slot's process is to the kernel: whose it is, what it may, what it may use.
 * Read from the keys under `process:`, put into effect between fork and exec.
 */
#ifndef HASUP_SUPERVISOR_ATTRIBUTES_H
#define HASUP_SUPERVISOR_ATTRIBUTES_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum { ATTRIBUTES_RLIMITS = RLIM_NLIMITS, ATTRIBUTES_GROUPS = 64 };

struct attributes {
    bool sets_user, sets_umask, sets_nice, sets_cpus, sets_oom_score, sets_capabilities;
    bool no_new_privs;
    uid_t uid; /* user, group: all three, by attributes_find_user() */
    gid_t gid, groups[ATTRIBUTES_GROUPS];
    int group_count;
    mode_t umask;
    int nice, oom_score;
    cpu_set_t cpus;
    uint64_t capabilities; /* those it may have at most, a bit each */
    struct {
        int resource;
        struct rlimit limit;
    } rlimits[ATTRIBUTES_RLIMITS];
    unsigned rlimit_count;
    char *const *read_only; /* ATTRIBUTES_READ_ONLY and a path, which may have a "-" in front each */
    char tmp[48];           /* of a /tmp of its own, for mount(2); "": none */
};

#define ATTRIBUTES_READ_ONLY "process.read_only_paths: "

/* In the parent: whether a /tmp of a process's own hides what is there.  The text says so. */
bool attributes_tmp_hides(const char *path);
#define ATTRIBUTES_TMP_HIDES "process.private_tmp hides what is below /tmp and /var/tmp"

/* As attributes_apply, and before it: what is around the process.  The working directory is entered
 * afterwards: one from before would lead around the mounts. */
const char *attributes_surround(const struct attributes *attributes);

/* Between fork and exec, in a child that shares its parent's memory: kernel calls only.  NULL; else
 * the key that could not be had, with its errno. */
const char *attributes_apply(const struct attributes *attributes);

#endif
