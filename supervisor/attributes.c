/*
 * attributes.c: a process becomes what `process:` says, between fork and exec.  It runs on its
 * parent's memory, so it calls the kernel itself where the C library would speak for all threads of
 * a process (setresuid), and writes nothing but its own stack.
 *
 * The order matters: what needs privileges comes before they go.
 */
#include "supervisor/attributes.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

enum { CAPABILITIES = 64 };

static int set_oom_score(int score)
{
    char text[8];
    size_t at = sizeof text;
    unsigned rest = (unsigned)(score < 0 ? -score : score);
    do
        text[--at] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (score < 0)
        text[--at] = '-';
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t wrote = write(fd, text + at, sizeof text - at);
    int failed = errno;
    close(fd);
    errno = failed;
    return wrote < 0 ? -1 : 0;
}

/* What no exec may give back. */
static int bound_capabilities(uint64_t kept)
{
    for (int i = 0; i < CAPABILITIES; i++)
        if (!(kept >> i & 1) && prctl(PR_CAPBSET_READ, i) == 1 && prctl(PR_CAPBSET_DROP, i) < 0)
            return -1;
    return 0;
}

static int take_capabilities(uint64_t kept)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = data[i].inheritable = (uint32_t)(kept >> 32 * i);
    if (syscall(SYS_capset, &header, data) < 0)
        return -1;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -1;
    for (int i = 0; i < CAPABILITIES; i++) /* else an exec by another user than root takes them */
        if (kept >> i & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
            return -1;
    return 0;
}

static int become_user(const struct attributes *a)
{
    if (geteuid() == a->uid && getegid() == a->gid && geteuid() != 0)
        return 0; /* who is that already need not be allowed to change */
    return syscall(SYS_setgroups, a->group_count, a->groups) < 0 ||
                   syscall(SYS_setresgid, a->gid, a->gid, a->gid) < 0 ||
                   syscall(SYS_setresuid, a->uid, a->uid, a->uid) < 0
               ? -1
               : 0;
}

/* "/" is a mount already, and what is bound onto it would be seen by nobody. */
static int make_read_only(const char *path)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    const bool optional = *path == '-';
    path += optional;
    if (path[1] && mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
        return optional && (errno == ENOENT || errno == ENOTDIR) ? 0 : -1;
    /* Not a remount, which would forget nosuid and others of their kind. */
    return (int)syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof attr);
}

static const char *const TMP_PLACES[] = {"/tmp", "/var/tmp"};
enum { TMP_COUNT = sizeof TMP_PLACES / sizeof *TMP_PLACES };

/* They are gone with the last process that sees them. */
static int make_tmp(const char *options)
{
    for (size_t i = 0; i < TMP_COUNT; i++)
        if (mount("tmpfs", TMP_PLACES[i], "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 &&
            errno != ENOENT)
            return -1;
    return 0;
}

static bool is_in_tmp(const char *path)
{
    for (size_t i = 0; i < TMP_COUNT; i++) {
        size_t len = strlen(TMP_PLACES[i]);
        if (strncmp(path, TMP_PLACES[i], len) == 0 && (path[len] == '/' || !path[len]))
            return true;
    }
    return false;
}

bool attributes_tmp_hides(const char *path)
{
    char real[PATH_MAX];
    return is_in_tmp(path) || (realpath(path, real) && is_in_tmp(real));
}

const char *attributes_surround(const struct attributes *a)
{
    if (a->sets_oom_score && set_oom_score(a->oom_score))
        return "process.oom_score"; /* /proc may be read-only then */
    if (!a->read_only && !a->tmp[0])
        return NULL;
    /* What is mounted outside comes in, and nothing goes out. */
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return a->read_only ? "process.read_only_paths" : "process.private_tmp";
    for (char *const *at = a->read_only; at && *at; at++)
        if (make_read_only(*at + sizeof ATTRIBUTES_READ_ONLY - 1) < 0)
            return *at;
    return a->tmp[0] && make_tmp(a->tmp) < 0 ? "process.private_tmp" : NULL;
}

const char *attributes_apply(const struct attributes *a)
{
    if (a->sets_nice && setpriority(PRIO_PROCESS, 0, a->nice) < 0)
        return "process.nice";
    if (a->sets_cpus && sched_setaffinity(0, sizeof a->cpus, &a->cpus) < 0)
        return "process.cpus";
    for (unsigned i = 0; i < a->rlimit_count; i++)
        if (setrlimit((__rlimit_resource_t)a->rlimits[i].resource, &a->rlimits[i].limit) < 0)
            return "process.rlimits";
    if (a->sets_umask)
        umask(a->umask);
    if (a->sets_capabilities &&
        (bound_capabilities(a->capabilities) || prctl(PR_SET_KEEPCAPS, 1) < 0))
        return "process.capabilities";
    if (a->sets_user && become_user(a))
        return "process.user";
    if (a->sets_capabilities && take_capabilities(a->capabilities))
        return "process.capabilities";
    if (a->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return "process.no_new_privs";
    return NULL;
}
