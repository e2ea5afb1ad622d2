/*
 * cgroup.c: finds hasupd's own place in cgroup v2 and makes leaves under it.  Owns the directories
 * and their descriptors.  A leaf stays for its slot's next worker: making one costs more than
 * starting a process in it. Needs no controllers: membership, cgroup.kill and cgroup.events are
 * there without; how many the kernel killed for lack of memory is read where it is counted, v1's
 * memory controller included.  Holds a lock on its directory, by which the next hasupd knows that
 * this one lives.
 */
#include "supervisor/cgroup_own.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static char *line_of(FILE *file, char *line, int room)
{
    if (!fgets(line, room, file))
        return NULL;
    line[strcspn(line, "\n")] = '\0';
    return line;
}

/* Whether a comma separated list has this word. */
static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, len) == 0 && strchr(", \n", at[len]))
            return true;
    return false;
}

/* Where the one hierarchy of cgroup v2, or that of v1 with this controller, is mounted, and which
 * of its directories stands there ("" for all of it); false: nowhere. */
static bool find_mount(const char *controller, char mount[2048], char root[2048])
{
    char line[4096];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    bool found = false;
    while (file && !found && line_of(file, line, sizeof line)) {
        const char *type = strstr(line, " - ");
        const char *options = type ? strrchr(line, ' ') + 1 : "";
        bool it = controller ? type && strncmp(type, " - cgroup ", 10) == 0 &&
                                   has_word(options, controller)
                             : type && strncmp(type, " - cgroup2 ", 11) == 0;
        found = it && sscanf(line, "%*s %*s %*s %2047s %2047s", root, mount) == 2;
    }
    if (file)
        fclose(file);
    if (found && strcmp(root, "/") == 0)
        root[0] = '\0';
    return found;
}

/* hasupd's own directory in cgroup v2, or in v1's hierarchy with this controller. */
static bool find_own(const char *controller, char *path, size_t room)
{
    char line[2048], mount[2048], root[2048], own[2048] = "";
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && line_of(file, line, sizeof line)) {
        char *list = strchr(line, ':'), *at = list ? strchr(list + 1, ':') : NULL;
        if (!at)
            continue;
        *at++ = '\0';
        if (controller ? has_word(list + 1, controller) : strcmp(line, "0:") == 0)
            snprintf(own, sizeof own, "%s", at);
    }
    if (file)
        fclose(file);
    if (!own[0] || !find_mount(controller, mount, root))
        return false;
    size_t above = strncmp(own, root, strlen(root)) == 0 ? strlen(root) : 0;
    return snprintf(path, room, "%s%s", mount, strcmp(own, "/") ? own + above : "") < (int)room;
}

/* Kills what is left in a dead hasupd's directory and removes it.  Dead is whose pid is nobody's
 * here and whose lock is free: the pid may be one of another namespace. */
static void remains_remove(int own, const char *name)
{
    pid_t pid = (pid_t)strtol(name + strlen("hasup."), NULL, 10);
    if (pid <= 0 || (pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH)))
        return;
    int directory = openat(own, name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (directory < 0 || flock(directory, LOCK_EX | LOCK_NB)) {
        if (directory >= 0)
            close(directory);
        return;
    }
    int fd = openat(directory, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    DIR *leaves = fdopendir(directory);
    for (struct dirent *entry; leaves && (entry = readdir(leaves));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            unlinkat(directory, entry->d_name, AT_REMOVEDIR);
    unlinkat(own, name, AT_REMOVEDIR); /* what still dies stays for the next start */
    if (leaves)
        closedir(leaves);
    else
        close(directory);
}

/* What hasupds left here that were killed: their workers died with them, but not the trees. */
static void remains_clean(const char *path)
{
    int own = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    DIR *list = own >= 0 ? fdopendir(own) : NULL;
    for (struct dirent *entry; list && (entry = readdir(list));)
        if (entry->d_type == DT_DIR && strncmp(entry->d_name, "hasup.", 6) == 0)
            remains_remove(own, entry->d_name);
    if (list)
        closedir(list);
    else if (own >= 0)
        close(own);
}

/* Makes hasupd's directory and locks it; another hasupd that starts now may just take it away. */
static void own_make(struct cgroups *cgroups)
{
    struct stat mine, there;
    for (int tries = 0; tries < 3; tries++) {
        if (mkdir(cgroups->path, 0755) == 0 || errno == EEXIST)
            cgroups->directory = open(cgroups->path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
        if (cgroups->directory < 0)
            return;
        if (flock(cgroups->directory, LOCK_EX | LOCK_NB) == 0 &&
            fstat(cgroups->directory, &mine) == 0 && stat(cgroups->path, &there) == 0 &&
            mine.st_ino == there.st_ino)
            return;
        close(cgroups->directory);
        cgroups->directory = -1;
    }
}

struct cgroups *cgroups_open(const char *parent)
{
    char own[PATH_MAX - 32];
    struct cgroups *cgroups = calloc(1, sizeof *cgroups);
    if (!cgroups)
        return NULL;
    cgroups->directory = cgroups->notify = -1;
    if (*parent)
        snprintf(own, sizeof own, "%s", parent);
    else if (!find_own(NULL, own, sizeof own))
        own[0] = '\0';
    if (own[0]) {
        snprintf(cgroups->path, sizeof cgroups->path, "%s/hasup.%d", own, (int)getpid());
        remains_clean(own);
        own_make(cgroups);
        cgroups->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    }
    if (cgroups->directory < 0 || cgroups->notify < 0) {
        cgroups_close(cgroups);
        return NULL;
    }
    return cgroups;
}

static void leaf_shut(struct leaf *leaf)
{
    if (leaf->events >= 0)
        close(leaf->events);
    if (leaf->directory >= 0)
        close(leaf->directory);
    leaf->directory = leaf->events = -1;
}

void cgroups_close(struct cgroups *cgroups)
{
    while (cgroups->leaves) {
        struct leaf *leaf = cgroups->leaves;
        cgroups->leaves = leaf->next;
        leaf_shut(leaf);
        unlinkat(cgroups->directory, leaf->name, AT_REMOVEDIR);
        free(leaf);
    }
    if (cgroups->directory >= 0) {
        close(cgroups->directory);
        rmdir(cgroups->path);
    }
    if (cgroups->notify >= 0)
        close(cgroups->notify);
    free(cgroups);
}

int cgroups_notify_fd(const struct cgroups *cgroups)
{
    return cgroups->notify;
}

void cgroups_notify_read(struct cgroups *cgroups)
{
    uint8_t bytes[4096];
    while (read(cgroups->notify, bytes, sizeof bytes) > 0)
        continue;
}

static bool leaf_open(struct cgroups *cgroups, struct leaf *leaf)
{
    char path[PATH_MAX + 160];
    if (mkdirat(cgroups->directory, leaf->name, 0755) == 0 || errno == EEXIST)
        leaf->directory =
            openat(cgroups->directory, leaf->name, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (leaf->directory >= 0)
        leaf->events = openat(leaf->directory, "cgroup.events", O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof path, "%s/%s/cgroup.events", cgroups->path, leaf->name);
    if (leaf->events >= 0 && inotify_add_watch(cgroups->notify, path, IN_MODIFY) >= 0)
        return true;
    leaf_shut(leaf);
    return false;
}

static struct leaf *leaf_make(struct cgroups *cgroups, const char *name)
{
    struct leaf *leaf = calloc(1, sizeof *leaf);
    if (!leaf)
        return NULL;
    snprintf(leaf->name, sizeof leaf->name, "%s", name);
    leaf->directory = leaf->events = -1;
    if (!leaf_open(cgroups, leaf)) {
        free(leaf);
        return NULL;
    }
    leaf->next = cgroups->leaves;
    cgroups->leaves = leaf;
    return leaf;
}

/* Linux since 6.14 kills whatever CLONE_INTO_CGROUP starts in a cgroup that cgroup.kill was ever
 * written to (it compares the kill count of the parent's cgroup with this one's), so the next
 * worker needs a directory of its own.  The old one is empty, or the slot would not start again. */
static bool leaf_renew(struct cgroups *cgroups, struct leaf *leaf)
{
    leaf_shut(leaf);
    if (unlinkat(cgroups->directory, leaf->name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return false;
    leaf->spent = !leaf_open(cgroups, leaf);
    return !leaf->spent;
}

/* The place of a name's leaf in the list; its end: there is none. */
static struct leaf **leaf_find(struct cgroups *cgroups, const char *name, char flat[128])
{
    snprintf(flat, 128, "%s", name);
    for (char *at = flat; *at; at++)
        if (*at == '/')
            *at = '-';
    struct leaf **at = &cgroups->leaves;
    while (*at && strcmp((*at)->name, flat) != 0)
        at = &(*at)->next;
    return at;
}

struct leaf *leaf_get(struct cgroups *cgroups, const char *name)
{
    char flat[128];
    struct leaf *leaf = *leaf_find(cgroups, name, flat);
    if (leaf)
        return !leaf->spent || leaf_renew(cgroups, leaf) ? leaf : NULL;
    return leaf_make(cgroups, flat);
}

void leaf_remove(struct cgroups *cgroups, const char *name)
{
    char flat[128];
    struct leaf **at = leaf_find(cgroups, name, flat), *leaf = *at;
    if (!leaf)
        return;
    *at = leaf->next;
    leaf_shut(leaf);
    unlinkat(cgroups->directory, leaf->name, AT_REMOVEDIR);
    free(leaf);
}

int leaf_directory(const struct leaf *leaf)
{
    return leaf->directory;
}

bool leaf_enter(const struct leaf *leaf, int pid)
{
    char text[16];
    int len = snprintf(text, sizeof text, "%d", pid);
    int fd = openat(leaf->directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, (size_t)len) == len;
    if (fd >= 0)
        close(fd);
    return done;
}

/* Kernels before 5.14 have no cgroup.kill. */
static void leaf_kill_each(const struct leaf *leaf)
{
    int fd = openat(leaf->directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    int pid;
    while (file && fscanf(file, "%d", &pid) == 1)
        kill(pid, SIGKILL);
    if (file)
        fclose(file);
}

void leaf_kill(struct leaf *leaf)
{
    if (leaf_is_empty(leaf))
        return;
    int fd = openat(leaf->directory, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "1", 1) == 1;
    leaf->spent = leaf->spent || done;
    if (fd >= 0)
        close(fd);
    if (!done)
        leaf_kill_each(leaf);
}

bool leaf_is_empty(struct leaf *leaf)
{
    char text[256];
    ssize_t got = pread(leaf->events, text, sizeof text - 1, 0);
    if (got < 0)
        return errno == ENODEV; /* somebody removed it, which only an empty one allows */
    text[got] = '\0';
    const char *populated = strstr(text, "populated ");
    return populated && populated[10] == '0';
}

/* What a file of one or more "name number" lines says of `name` ("": its only number). */
static bool read_number(int fd, const char *name, uint64_t *number)
{
    char text[8192]; /* /proc/vmstat has half of it */
    ssize_t got = fd >= 0 ? pread(fd, text, sizeof text - 1, 0) : -1;
    size_t len = strlen(name);
    text[got > 0 ? got : 0] = '\0';
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
        if (strncmp(line, name, len) == 0 && (!len || line[len] == ' ')) {
            *number = strtoull(line + len, NULL, 10);
            return true;
        }
    return false;
}

static bool leaf_number(const struct leaf *leaf, const char *file, const char *name,
                        uint64_t *number)
{
    int fd = openat(leaf->directory, file, O_RDONLY | O_CLOEXEC);
    bool counted = read_number(fd, name, number);
    if (fd >= 0)
        close(fd);
    return counted;
}

bool leaf_oom_kills(const struct leaf *leaf, uint64_t *kills)
{
    return leaf_number(leaf, "memory.events", "oom_kill", kills);
}

bool leaf_memory(const struct leaf *leaf, uint64_t *bytes)
{
    uint64_t old = 0, used = 0;
    if (!leaf_number(leaf, "memory.current", "", bytes))
        return false;
    (void)leaf_number(leaf, "memory.stat", "inactive_file", &old);
    (void)leaf_number(leaf, "memory.stat", "active_file", &used);
    *bytes -= old + used < *bytes ? old + used : *bytes;
    return true;
}

/* `file` of hasupd's own directory where it counts; -1: it does not. */
static int open_counter(const char *controller, const char *file)
{
    char own[PATH_MAX - 32], path[PATH_MAX];
    uint64_t kills;
    if (!find_own(controller, own, sizeof own))
        return -1;
    snprintf(path, sizeof path, "%s/%s", own, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read_number(fd, "oom_kill", &kills))
        return fd;
    close(fd);
    return -1;
}

int oom_counter_open(void)
{
    int fd = open_counter(NULL, "memory.events");
    return fd >= 0 ? fd : open_counter("memory", "memory.oom_control");
}

bool oom_counter_read(int counter, uint64_t *kills)
{
    return read_number(counter, "oom_kill", kills);
}
