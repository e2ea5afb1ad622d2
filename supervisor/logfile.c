/*
 * logfile.c: see logfile.h.  Owns the descriptor and the names of the old files: NAME.log is put
 * aside as NAME.log.20261125-204726, others of that second as ..._001 and so on, and packed to
 * NAME.log.20261125-204726.zst; others' names are left alone.  A write that was cut short by a full
 * disk is taken back, so that no line is torn.  What is no file, or could be somebody else's, is
 * neither written nor packed (logdir.c).
 */
#include "supervisor/logfile.h"

#include "checkpoints/crypto.h"
#include "supervisor/logdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 4096, STAMP = 15 /* "20261125-204726" */, BLOCK = 256 * 1024 };
enum { ASIDE = STAMP + 16, COUNTED_MIN = 3, COUNTED_MAX = 9 }; /* digits behind the stamp */

struct logfile {
    char *path;
    size_t base; /* length of the directory that is configured, at the beginning of `path` */
    int fd;
    uint64_t size;
    int64_t began; /* wall time */
    struct trouble trouble;
    bool look; /* there may be old files to pack */
    struct logpack *pack;
};

struct logpack {
    int from, to;
    char why[LOGDIR_WHY]; /* one of them could not be opened */
    char path[PATH], packed[PATH], part[PATH];
    uint8_t in[BLOCK], out[BLOCK + BLOCK / 128 + 64];
};

static int64_t clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * HASUP_S + now.tv_nsec;
}

static int failed_by(char error[LOGFILE_ERROR], const char *what, const char *path, const char *why)
{
    snprintf(error, LOGFILE_ERROR, "%s %.200s: %s", what, path, why);
    return HASUP_ESYS;
}

static int failed(char error[LOGFILE_ERROR], const char *what, const char *path)
{
    return failed_by(error, what, path, strerror(errno));
}

/* ---- the old ones ---- */

struct old {
    char *name;
    char stamp[STAMP + 1];
    unsigned counted; /* within that second */
    bool packed;
};

/* Whether a name is one of its old files; all but the name of `old`. */
static bool is_old(const char *name, const char *base, struct old *old)
{
    size_t len = strlen(base);
    if (strncmp(name, base, len) != 0 || name[len] != '.')
        return false;
    const char *stamp = name + len + 1, *end = stamp + STAMP;
    if (strspn(stamp, "0123456789") != 8 || stamp[8] != '-' || strspn(stamp + 9, "0123456789") != 6)
        return false;
    *old = (struct old){0};
    memcpy(old->stamp, stamp, STAMP);
    if (*end == '_') {
        size_t digits = strspn(++end, "0123456789");
        if (digits < COUNTED_MIN || digits > COUNTED_MAX)
            return false;
        old->counted = (unsigned)strtoul(end, NULL, 10);
        end += digits;
    }
    old->packed = strcmp(end, ".zst") == 0;
    return old->packed || !*end;
}

static int by_age(const void *a, const void *b)
{
    const struct old *one = a, *two = b;
    int order = strcmp(one->stamp, two->stamp);
    if (!order)
        order = (one->counted > two->counted) - (one->counted < two->counted);
    return order ? order : strcmp(one->name, two->name);
}

/* The oldest first; the caller frees them and the list. */
static size_t list_old(const struct logfile *file, struct old **list, char directory[PATH])
{
    char path[PATH], base[PATH];
    struct old old;
    size_t count = 0, room = 0;
    snprintf(path, sizeof path, "%s", file->path);
    snprintf(directory, PATH, "%s", dirname(path));
    snprintf(path, sizeof path, "%s", file->path);
    snprintf(base, sizeof base, "%s", basename(path));
    *list = NULL;
    DIR *dir = opendir(directory);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!is_old(entry->d_name, base, &old))
            continue;
        struct old *grown = hasup_grow(*list, count, &room, sizeof **list);
        char *name = grown ? strdup(entry->d_name) : NULL;
        if (grown)
            *list = grown;
        old.name = name;
        if (name)
            (*list)[count++] = old;
    }
    if (dir)
        closedir(dir);
    if (count)
        qsort(*list, count, sizeof **list, by_age);
    return count;
}

static void free_old(struct old *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(list[i].name);
    free(list);
}

static void remove_excess(const struct logfile *file, const struct rotation_policy *policy)
{
    char directory[PATH], path[PATH + 256];
    struct old *list;
    size_t count = list_old(file, &list, directory);
    uint32_t excess = rotation_excess(policy, (uint32_t)count);
    for (uint32_t i = 0; i < excess; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, list[i].name);
        unlink(path);
    }
    free_old(list, count);
}

/* ---- the file ---- */

/* 0 if none of the directories from the configured one on is anybody else's. */
static int check_directories(const struct logfile *file, char error[LOGFILE_ERROR])
{
    char part[PATH], why[LOGDIR_WHY];
    snprintf(part, sizeof part, "%s", file->path);
    for (char *at = part + file->base; at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (!logdir_is_safe(part, false, why))
            return failed_by(error, "cannot write to", part, why);
        *at = '/';
    }
    return 0;
}

static int open_file(struct logfile *file, char error[LOGFILE_ERROR])
{
    char why[LOGDIR_WHY];
    struct statx status;
    logdir_make(file->path);
    int code = check_directories(file, error);
    if (code)
        return code;
    file->fd = logdir_open(file->path, O_WRONLY | O_APPEND | O_CREAT, why);
    if (file->fd < 0)
        return failed_by(error, "cannot open", file->path, why);
    file->size = 0;
    file->began = clock_of(CLOCK_REALTIME);
    if (statx(file->fd, "", AT_EMPTY_PATH, STATX_SIZE | STATX_BTIME | STATX_MTIME, &status) == 0) {
        bool birth = status.stx_mask & STATX_BTIME;
        file->size = status.stx_size;
        if (file->size)
            file->began = (birth ? status.stx_btime.tv_sec : status.stx_mtime.tv_sec) * HASUP_S;
    }
    return 0;
}

void logfile_close(struct logfile *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* What it is put aside as: now, but behind every old file, so that they stay in their order. */
static void name_aside(const struct logfile *file, char name[ASIDE])
{
    char directory[PATH], now[STAMP + 1];
    struct old *list;
    struct tm tm;
    time_t second = (time_t)(clock_of(CLOCK_REALTIME) / HASUP_S);
    strftime(now, sizeof now, "%Y%m%d-%H%M%S", gmtime_r(&second, &tm));
    size_t count = list_old(file, &list, directory);
    const struct old *last = count ? &list[count - 1] : NULL;
    if (last && strcmp(last->stamp, now) >= 0)
        snprintf(name, ASIDE, "%s_%0*u", last->stamp, COUNTED_MIN, last->counted + 1);
    else
        snprintf(name, ASIDE, "%s", now);
    free_old(list, count);
}

static int put_aside(struct logfile *file, char error[LOGFILE_ERROR])
{
    char name[ASIDE], aside[PATH + ASIDE];
    name_aside(file, name);
    snprintf(aside, sizeof aside, "%s.%s", file->path, name);
    if (renameat2(AT_FDCWD, file->path, AT_FDCWD, aside, RENAME_NOREPLACE) && errno != ENOENT)
        return failed(error, "cannot put aside", file->path);
    logfile_close(file); /* ENOENT: somebody else has put it aside */
    file->look = true;
    return open_file(file, error);
}

/* All of it, or nothing. */
static int append(struct logfile *file, const char *bytes, size_t len, char error[LOGFILE_ERROR])
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = write(file->fd, bytes + done, len - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int code = failed(error, "cannot write", file->path);
            if (done && ftruncate(file->fd, (off_t)file->size))
                (void)!write(file->fd, "\n", 1);
            return code;
        }
        done += (size_t)got;
    }
    file->size += len;
    return 0;
}

enum logfile_news logfile_write(struct logfile *file, const struct logfile_options *options,
                                const char *bytes, size_t len, uint64_t lines, uint64_t *lost,
                                char error[LOGFILE_ERROR])
{
    hasup_ns now = clock_of(CLOCK_MONOTONIC);
    int code = 0;
    if (!trouble_may_try(&file->trouble, now)) {
        file->trouble.lost += lines;
        return LOGFILE_NOTHING;
    }
    bool opened = file->fd < 0;
    if (opened)
        code = open_file(file, error);
    file->look |= opened && !code;
    if (!code && rotation_is_due(&options->rotation, file->size, file->began,
                                 clock_of(CLOCK_REALTIME), len)) {
        code = put_aside(file, error);
        remove_excess(file, &options->rotation);
    }
    if (!code)
        code = append(file, bytes, len, error);
    if (code)
        return trouble_begin(&file->trouble, now, lines) ? LOGFILE_FAILED : LOGFILE_NOTHING;
    return trouble_end(&file->trouble, lost) ? LOGFILE_RECOVERED : LOGFILE_NOTHING;
}

/* ---- packing ---- */

static void pack_end(struct logfile *file, bool good)
{
    struct logpack *pack = file->pack;
    if (pack->from >= 0)
        close(pack->from);
    if (pack->to >= 0)
        close(pack->to);
    if (good && rename(pack->part, pack->packed) == 0)
        unlink(pack->path);
    else
        unlink(pack->part);
    free(pack);
    file->pack = NULL;
}

/* Begins with the oldest that is not packed. */
static bool pack_begin(struct logfile *file)
{
    char directory[PATH];
    struct old *list;
    size_t count = list_old(file, &list, directory), i = 0;
    while (i < count && list[i].packed)
        i++;
    file->look = i < count;
    struct logpack *pack = file->look ? malloc(sizeof *pack) : NULL;
    if (pack) {
        snprintf(pack->path, PATH, "%.3800s/%.255s", directory, list[i].name);
        snprintf(pack->packed, PATH, "%.4085s.zst", pack->path);
        snprintf(pack->part, PATH, "%.4085s.part", pack->path);
        unlink(pack->part); /* of a packing that did not come to its end */
        pack->from = logdir_open(pack->path, O_RDONLY, pack->why);
        pack->to =
            pack->from < 0 ? -1 : logdir_open(pack->part, O_WRONLY | O_CREAT | O_EXCL, pack->why);
        file->pack = pack;
    }
    free_old(list, count);
    return pack != NULL;
}

/* A block becomes a frame of its own: one behind the other they are a zstd file.  1: there is more,
 * 0: it is done, or a negative code. */
static int pack_block(struct logpack *pack, char error[LOGFILE_ERROR])
{
    if (pack->from < 0 || pack->to < 0)
        return failed_by(error, "cannot pack", pack->path, pack->why);
    ssize_t got = read(pack->from, pack->in, BLOCK);
    if (got <= 0)
        return got ? failed(error, "cannot read", pack->path) : 0;
    size_t len = crypto_pack(pack->out, sizeof pack->out, pack->in, (size_t)got);
    errno = ENOSYS; /* without libzstd */
    if (!len || write(pack->to, pack->out, len) != (ssize_t)len)
        return failed(error, "cannot write", pack->part);
    return 1;
}

bool logfile_pack(struct logfile *file, bool *failing, char error[LOGFILE_ERROR])
{
    if (!file->pack && (!file->look || !pack_begin(file)))
        return false;
    int got = pack_block(file->pack, error);
    *failing = got < 0;
    if (got <= 0)
        pack_end(file, got == 0);
    if (got < 0)
        file->look = false; /* when the file is next put aside */
    return true;
}

/* ---- life ---- */

struct logfile *logfile_new(const char *directory, const char *name)
{
    struct logfile *file = calloc(1, sizeof *file);
    if (!file || asprintf(&file->path, "%s/%s.log", directory, name) < 0) {
        free(file);
        return NULL;
    }
    file->base = strlen(directory);
    file->fd = -1;
    return file;
}

void logfile_free(struct logfile *file)
{
    if (file->pack)
        pack_end(file, false);
    logfile_close(file);
    free(file->path);
    free(file);
}

const char *logfile_path(const struct logfile *file)
{
    return file->path;
}
