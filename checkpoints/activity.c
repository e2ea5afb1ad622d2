/*
 * activity.c: records of fixed size in a small file, each written by one call and checked by its
 * checksum.  A reader meets a record half written now and then; it looks again.
 */
#include "checkpoints/activity.h"

#include "checkpoints/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { SUM_AT = ACTIVITY_RECORD - 8, LOOKS = 3 };

static int open_file(const char *state_dir, int flags)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/activity", state_dir) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* Where nothing can be written nobody can be made the owner, but there may be one. */
static int refuse(const char *state_dir, int why, int64_t *owner)
{
    int fd = open_file(state_dir, O_RDONLY | O_NONBLOCK);
    if (fd >= 0) {
        if (owner_find(fd, owner))
            why = EBUSY;
        close(fd);
    }
    errno = why;
    return -1;
}

int activity_open(const char *state_dir, int64_t *owner)
{
    int fd = open_file(state_dir, O_RDWR | O_CREAT | O_NONBLOCK);
    if (fd < 0)
        return refuse(state_dir, errno, owner);
    int code = owner_take(fd, owner);
    if (!code && fchmod(fd, 0600) == 0)
        return fd;
    int why = code == HASUP_EDENIED ? EBUSY : errno;
    close(fd);
    errno = why;
    return -1;
}

int activity_begin(int fd)
{
    return ftruncate(fd, 0) ? HASUP_ESYS : 0;
}

bool activity_is_gone(int fd, const char *state_dir)
{
    char path[4096];
    struct stat own, named;
    snprintf(path, sizeof path, "%s/activity", state_dir);
    if (fstat(fd, &own))
        return true;
    if (lstat(path, &named)) /* who may not look, or cannot now, does not know that it is gone */
        return errno == ENOENT || errno == ENOTDIR;
    return own.st_ino != named.st_ino || own.st_dev != named.st_dev;
}

int activity_write(int fd, uint32_t index, const struct activity *activity)
{
    uint8_t bytes[ACTIVITY_RECORD] = {0};
    snprintf((char *)bytes, STORE_MODEL, "%s", activity->model);
    hasup_put32(bytes + STORE_MODEL, activity->ordinal);
    hasup_put64(bytes + STORE_MODEL + 8, activity->position);
    hasup_put64(bytes + STORE_MODEL + 16, (uint64_t)activity->changed_wall_ns);
    hasup_put64(bytes + SUM_AT, XXH3_64bits(bytes, SUM_AT));
    ssize_t put = pwrite(fd, bytes, sizeof bytes, (off_t)index * ACTIVITY_RECORD);
    if (put >= 0 && put < (ssize_t)sizeof bytes)
        errno = ENOSPC;
    return put == (ssize_t)sizeof bytes ? 0 : HASUP_ESYS;
}

/* False: it is free, or damaged. */
static bool read_record(int fd, off_t at, struct activity *activity)
{
    uint8_t bytes[ACTIVITY_RECORD];
    for (unsigned look = 0; look < LOOKS; look++) {
        if (pread(fd, bytes, sizeof bytes, at) != (ssize_t)sizeof bytes)
            return false;
        if (hasup_get64(bytes + SUM_AT) != XXH3_64bits(bytes, SUM_AT))
            continue;
        memcpy(activity->model, bytes, STORE_MODEL);
        activity->model[STORE_MODEL - 1] = '\0';
        activity->ordinal = hasup_get32(bytes + STORE_MODEL);
        activity->position = hasup_get64(bytes + STORE_MODEL + 8);
        activity->changed_wall_ns = (int64_t)hasup_get64(bytes + STORE_MODEL + 16);
        return activity->model[0] != '\0';
    }
    return false;
}

int activity_each(const char *state_dir,
                  bool (*each)(void *context, const struct activity *activity), void *context)
{
    struct activity activity;
    struct stat st;
    int fd = open_file(state_dir, O_RDONLY | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOENT ? HASUP_ENOTFOUND : HASUP_ESYS;
    off_t end = fstat(fd, &st) ? 0 : st.st_size;
    if (end > ACTIVITY_BYTES_MAX)
        end = ACTIVITY_BYTES_MAX;
    for (off_t at = 0; at < end; at += ACTIVITY_RECORD)
        if (read_record(fd, at, &activity) && !each(context, &activity))
            break;
    close(fd);
    return 0;
}
