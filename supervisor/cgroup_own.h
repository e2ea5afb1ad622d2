/* cgroup_own.h: the records of cgroup.c, which cgroup_carry.c gives to another hasupd. */
#ifndef HASUP_SUPERVISOR_CGROUP_OWN_H
#define HASUP_SUPERVISOR_CGROUP_OWN_H

#include "supervisor/cgroup.h"

#include <limits.h>

struct leaf {
    char name[128];
    int directory, events;
    bool spent; /* cgroup.kill was written: see leaf_renew() */
    uint32_t place; /* in what is carried to another hasupd, from 1 on */
    struct leaf *next;
};

struct cgroups {
    char path[PATH_MAX];
    int directory, notify;
    struct leaf *leaves;
};

#endif
