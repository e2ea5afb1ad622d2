/*
 * owner.c: a process's beginning, from /proc; and the lock that makes one process a file's owner.
 * It is a POSIX lock: no child inherits it, the kernel drops it as the process dies, before anybody
 * hears of that, and it names its holder.
 */
#include "checkpoints/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum { NAME_FIELD = 2, START_FIELD = 22, TAKE_TRIES = 4 };

uint64_t owner_start_ticks(int64_t pid)
{
    char path[64], text[1024] = "";
    unsigned long long ticks = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *at = strrchr(text, ')'); /* its name may hold anything */
    for (int field = NAME_FIELD; at && field < START_FIELD; field++)
        at = strchr(at + 1, ' ');
    return at && sscanf(at, "%llu", &ticks) == 1 ? ticks : 0;
}

bool owner_find(int fd, int64_t *owner)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *owner = 0;
    if (fcntl(fd, F_GETLK, &lock) || lock.l_type == F_UNLCK)
        return false;
    *owner = lock.l_pid > 0 ? lock.l_pid : 0;
    return true;
}

int owner_take(int fd, int64_t *owner)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *owner = 0;
    for (int i = 0; i < TAKE_TRIES; i++) {
        if (fcntl(fd, F_SETLK, &lock) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES)
            return HASUP_ESYS;
        if (owner_find(fd, owner)) /* else it ended between the two */
            break;
    }
    return HASUP_EDENIED;
}
