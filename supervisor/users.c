/*
 * users.c: looks up whom `process.user` and `process.group` name.  A number need not have a name.
 * Called before each start, so that a user made meanwhile is found; reads what nsswitch.conf says.
 */
#include "supervisor/users.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_number(const char *text, unsigned *number)
{
    uint64_t value;
    if (!*text || text[strspn(text, "0123456789")])
        return false;
    value = strtoull(text, NULL, 10);
    if (value >= UINT32_MAX)
        return false;
    *number = (unsigned)value;
    return true;
}

static int missing(const char *what, const char *name, char error[USERS_ERROR])
{
    snprintf(error, USERS_ERROR, "there is no %s \"%.64s\" (process.%s)", what, name, what);
    return ENOENT;
}

static int find_user(const char *name, struct attributes *a, char error[USERS_ERROR])
{
    struct passwd *user = is_number(name, &a->uid) ? getpwuid(a->uid) : getpwnam(name);
    a->group_count = 0;
    if (!user && !is_number(name, &a->uid))
        return missing("user", name, error);
    if (!user) {
        a->gid = a->uid;
        return 0;
    }
    a->uid = user->pw_uid;
    a->gid = user->pw_gid;
    int room = ATTRIBUTES_GROUPS;
    if (getgrouplist(user->pw_name, user->pw_gid, a->groups, &room) < 0) {
        snprintf(error, USERS_ERROR, "process.user: %.64s is in more than %d groups", name,
                 ATTRIBUTES_GROUPS);
        return E2BIG;
    }
    a->group_count = room;
    return 0;
}

static int find_group(const char *name, struct attributes *a, char error[USERS_ERROR])
{
    struct group *group = is_number(name, &a->gid) ? NULL : getgrnam(name);
    if (!group && !is_number(name, &a->gid))
        return missing("group", name, error);
    if (group)
        a->gid = group->gr_gid;
    return 0;
}

int users_find(const struct config_process *process, struct attributes *a, char error[USERS_ERROR])
{
    int failed = 0;
    *a = process->attributes ? *process->attributes : (struct attributes){0};
    a->uid = geteuid();
    a->gid = getegid();
    if (process->user)
        failed = find_user(process->user, a, error);
    if (!failed && process->group)
        failed = find_group(process->group, a, error);
    return failed;
}
