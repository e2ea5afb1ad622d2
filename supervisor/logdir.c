/*
 * logdir.c: see logdir.h.  A directory is safe when it belongs to hasupd's user or to root, and
 * nobody else may put anything there: then what stands in it was put there by them, links to other
 * directories too.  Where anybody may put something there and only what is his own may be taken
 * away (sticky, as /tmp), each file has to be hasupd's user's.
 */
#include "supervisor/logdir.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void logdir_make(const char *path)
{
    char part[PATH_MAX];
    struct stat st;
    snprintf(part, sizeof part, "%s", path);
    if (stat(dirname(part), &st) == 0)
        return;
    snprintf(part, sizeof part, "%s", path);
    for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(part, 0700);
        *at = '/';
    }
}

static bool is_own(const struct stat *st, char why[LOGDIR_WHY])
{
    if (st->st_uid == geteuid() || st->st_uid == 0)
        return true;
    snprintf(why, LOGDIR_WHY, "is not safe: it belongs to user %u, neither hasupd's nor root",
             (unsigned)st->st_uid);
    return false;
}

bool logdir_is_safe(const char *directory, bool anybodys, char why[LOGDIR_WHY])
{
    char path[PATH_MAX];
    struct stat link, st;
    size_t len = strlen(directory);
    while (len > 1 && directory[len - 1] == '/')
        len--; /* else lstat would follow a link */
    snprintf(path, sizeof path, "%.*s", (int)len, directory);
    if (lstat(path, &link) || stat(path, &st))
        return true;
    if (!anybodys && !(is_own(&link, why) && is_own(&st, why)))
        return false;
    if (!(st.st_mode & S_IWOTH) || st.st_mode & S_ISVTX)
        return true;
    snprintf(why, LOGDIR_WHY, "is not safe: anybody may write to it");
    return false;
}

/* Whether others may have put a file there, and it is theirs. */
static bool may_be_planted(const char *path, const struct stat *st, char why[LOGDIR_WHY])
{
    char parent[PATH_MAX];
    struct stat above;
    snprintf(parent, sizeof parent, "%s", path);
    return stat(dirname(parent), &above) == 0 && above.st_mode & S_IWOTH && !is_own(st, why);
}

int logdir_open(const char *path, int flags, char why[LOGDIR_WHY])
{
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY, 0600);
    bool is_file = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    if (is_file && !may_be_planted(path, &st, why))
        return fd;
    if (fd < 0 && errno != ENXIO) /* which a pipe says that nobody reads */
        snprintf(why, LOGDIR_WHY, "%s", errno == ELOOP ? "is a symbolic link" : strerror(errno));
    else if (!is_file)
        snprintf(why, LOGDIR_WHY, "is not a file");
    if (fd >= 0)
        close(fd);
    return -1;
}
