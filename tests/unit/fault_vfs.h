/*
 * fault_vfs.h: a disk that fails, for tests of any SQLite file.  fault_vfs_install() makes a shim
 * around SQLite's unix VFS the default one; what is opened after it goes through the shim.
 *
 * fault_plan picks the n-th call of the chosen kinds and how it fails, how many calls fail from
 * there on, or that the power is cut there: every later call fails, as for a process that is dead,
 * until fault_power_back() has put the files into a state that a disk could be in: all that was
 * synced, and of what was written since, sector by sector, what the seed chooses.  (The entry of a
 * new file in its directory is taken to be durable, as SQLite syncs it.)
 *
 * All of it is one state under one mutex: the journal's thread comes through here too.
 */
#ifndef HASUP_TESTS_FAULT_VFS_H
#define HASUP_TESTS_FAULT_VFS_H

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "tests/unit/splitmix.h"

enum { /* kinds of calls */
       FAULT_READ = 1 << 0,
       FAULT_WRITE = 1 << 1,
       FAULT_SYNC = 1 << 2,
       FAULT_TRUNCATE = 1 << 3,
       FAULT_LOCK = 1 << 4,
       FAULT_OPEN = 1 << 5,
       FAULT_SHM = 1 << 6, /* locks of the WAL's index, which FAULT_LOCK counts, too */
};

enum fault_how {
    FAULT_EIO,
    FAULT_ENOSPC, /* of a write; other kinds fail with EIO */
    FAULT_SHORT,  /* half of the write is done, then EIO */
    FAULT_POWER,  /* the power is cut before the call */
    FAULT_INDEX,  /* of SHM: a writer is just changing the WAL's index */
};

struct fault_plan {
    unsigned kinds;
    uint64_t at;    /* which call fails, counted from 1; 0: none */
    uint64_t times; /* how many of these calls fail from there on; 0: one */
    enum fault_how how;
    bool keep_some; /* POWER: some unsynced sectors are there afterwards; else none */
    uint64_t seed;
};

enum { FAULT_FILES = 16, FAULT_SECTOR = 512 };

struct fault_write {
    struct fault_write *next;
    int64_t at;
    int len; /* -1: truncated to `at` */
    uint8_t bytes[];
};

/* One path: what is durable, and what was written since. */
struct fault_disk {
    char path[160];
    uint8_t *durable;
    size_t len, room;
    struct fault_write *first, **last;
};

struct fault_state {
    pthread_mutex_t lock;
    sqlite3_vfs vfs, *real;
    sqlite3_io_methods methods;
    struct fault_plan plan;
    bool record; /* keep what power cuts need */
    uint64_t calls, failed;
    bool dead;
    struct fault_disk disks[FAULT_FILES];
};

struct fault_file {
    sqlite3_file base;
    struct fault_disk *disk; /* NULL: not recorded */
    sqlite3_file *real;      /* in the memory behind */
};

static struct fault_state fault_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the disk ---- */

static inline void fault_apply(struct fault_disk *disk, int64_t at, const uint8_t *bytes,
                               size_t len)
{
    size_t end = (size_t)at + len;
    if (end > disk->room) {
        disk->room = end * 2;
        disk->durable = realloc(disk->durable, disk->room);
        if (!disk->durable)
            abort();
    }
    if ((size_t)at > disk->len)
        memset(disk->durable + disk->len, 0, (size_t)at - disk->len);
    memcpy(disk->durable + at, bytes, len);
    disk->len = end > disk->len ? end : disk->len;
}

static inline void fault_cut(struct fault_disk *disk, int64_t len)
{
    if ((size_t)len < disk->len)
        disk->len = (size_t)len;
}

static inline void fault_note(struct fault_file *file, const void *bytes, int len, int64_t at)
{
    struct fault_disk *disk = file->disk;
    if (!disk)
        return;
    struct fault_write *write = malloc(sizeof *write + (len > 0 ? (size_t)len : 0));
    if (!write)
        abort();
    *write = (struct fault_write){.at = at, .len = len};
    if (len > 0)
        memcpy(write->bytes, bytes, (size_t)len);
    if (!disk->first)
        disk->last = &disk->first;
    *disk->last = write;
    disk->last = &write->next;
}

/* All of a write, or the sectors of it that the seed chooses. */
static inline void fault_land(struct fault_disk *disk, const struct fault_write *write,
                              uint64_t *seed)
{
    if (write->len < 0) {
        if (!seed || splitmix(seed) & 1)
            fault_cut(disk, write->at);
        return;
    }
    for (int64_t done = 0, len; done < write->len; done += len) {
        int64_t rest = write->len - done, sector = FAULT_SECTOR - (write->at + done) % FAULT_SECTOR;
        len = rest < sector ? rest : sector;
        if (!seed || splitmix(seed) & 1)
            fault_apply(disk, write->at + done, write->bytes + done, (size_t)len);
    }
}

static inline void fault_drain(struct fault_disk *disk, bool keep, uint64_t *seed)
{
    for (struct fault_write *write = disk->first, *next; write; write = next) {
        next = write->next;
        if (keep)
            fault_land(disk, write, seed);
        free(write);
    }
    disk->first = NULL;
}

static inline struct fault_disk *fault_disk_of(const char *path)
{
    struct fault_disk *unused = NULL;
    if (!path || !fault_state.record)
        return NULL;
    for (size_t i = 0; i < FAULT_FILES; i++) {
        struct fault_disk *disk = &fault_state.disks[i];
        if (!strcmp(disk->path, path))
            return disk;
        unused = unused || *disk->path ? unused : disk;
    }
    if (!unused || strlen(path) >= sizeof unused->path)
        abort();
    strcpy(unused->path, path);
    return unused;
}

/* What is in the file already is durable. */
static inline void fault_load(struct fault_disk *disk)
{
    uint8_t bytes[4096];
    FILE *file = disk->len || disk->first ? NULL : fopen(disk->path, "r");
    for (size_t got; file && (got = fread(bytes, 1, sizeof bytes, file)) > 0;)
        fault_apply(disk, (int64_t)disk->len, bytes, got);
    if (file)
        fclose(file);
}

/* ---- whether a call fails ---- */

static inline bool fault_hits(unsigned kind)
{
    struct fault_state *state = &fault_state;
    if (state->dead)
        return true;
    if (!(state->plan.kinds & kind) || !state->plan.at)
        return false;
    uint64_t call = ++state->calls, times = state->plan.times ? state->plan.times : 1;
    if (call < state->plan.at || call - state->plan.at >= times)
        return false;
    state->failed++;
    state->dead = state->plan.how == FAULT_POWER;
    return true;
}

static inline struct fault_file *fault_of(sqlite3_file *file)
{
    return (struct fault_file *)file;
}

#define FAULT_REAL(file) (fault_of(file)->real->pMethods)
#define FAULT_LOCKED(statements)                                                                   \
    do {                                                                                           \
        pthread_mutex_lock(&fault_state.lock);                                                     \
        statements;                                                                                \
        pthread_mutex_unlock(&fault_state.lock);                                                   \
    } while (0)

/* ---- SQLite's methods ---- */

static int fault_close(sqlite3_file *file)
{
    return FAULT_REAL(file)->xClose(fault_of(file)->real);
}

static int fault_read(sqlite3_file *file, void *to, int len, sqlite3_int64 at)
{
    bool hit;
    FAULT_LOCKED(hit = fault_hits(FAULT_READ));
    return hit ? SQLITE_IOERR_READ : FAULT_REAL(file)->xRead(fault_of(file)->real, to, len, at);
}

static int fault_write(sqlite3_file *file, const void *from, int len, sqlite3_int64 at)
{
    int got = SQLITE_IOERR_WRITE;
    pthread_mutex_lock(&fault_state.lock);
    bool hit = fault_hits(FAULT_WRITE);
    enum fault_how how = fault_state.dead ? FAULT_POWER : fault_state.plan.how;
    int part = !hit ? len : how == FAULT_SHORT ? len / 2 : 0;
    if (part) {
        int wrote = FAULT_REAL(file)->xWrite(fault_of(file)->real, from, part, at);
        if (wrote == SQLITE_OK)
            fault_note(fault_of(file), from, part, at);
        got = hit ? SQLITE_IOERR_WRITE : wrote;
    } else if (hit && how == FAULT_ENOSPC) {
        got = SQLITE_FULL;
    }
    pthread_mutex_unlock(&fault_state.lock);
    return got;
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    int got = SQLITE_IOERR_TRUNCATE;
    pthread_mutex_lock(&fault_state.lock);
    if (!fault_hits(FAULT_TRUNCATE)) {
        got = FAULT_REAL(file)->xTruncate(fault_of(file)->real, len);
        if (got == SQLITE_OK)
            fault_note(fault_of(file), NULL, -1, len);
    }
    pthread_mutex_unlock(&fault_state.lock);
    return got;
}

/* A sync that fails leaves the writes as they are: nobody knows which are on the disk. */
static int fault_sync(sqlite3_file *file, int flags)
{
    int got = SQLITE_IOERR_FSYNC;
    (void)flags; /* the shim is the disk; a real sync would only cost time */
    pthread_mutex_lock(&fault_state.lock);
    if (!fault_hits(FAULT_SYNC)) {
        got = SQLITE_OK;
        if (fault_of(file)->disk)
            fault_drain(fault_of(file)->disk, true, NULL);
    }
    pthread_mutex_unlock(&fault_state.lock);
    return got;
}

static int fault_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return FAULT_REAL(file)->xFileSize(fault_of(file)->real, size);
}

static int fault_lock(sqlite3_file *file, int level)
{
    bool hit;
    FAULT_LOCKED(hit = fault_hits(FAULT_LOCK));
    return hit ? SQLITE_IOERR_LOCK : FAULT_REAL(file)->xLock(fault_of(file)->real, level);
}

static int fault_unlock(sqlite3_file *file, int level)
{
    return FAULT_REAL(file)->xUnlock(fault_of(file)->real, level);
}

static int fault_check_lock(sqlite3_file *file, int *result)
{
    return FAULT_REAL(file)->xCheckReservedLock(fault_of(file)->real, result);
}

static int fault_control(sqlite3_file *file, int op, void *arg)
{
    return FAULT_REAL(file)->xFileControl(fault_of(file)->real, op, arg);
}

static int fault_sector_size(sqlite3_file *file)
{
    return FAULT_REAL(file)->xSectorSize(fault_of(file)->real);
}

static int fault_characteristics(sqlite3_file *file)
{
    return FAULT_REAL(file)->xDeviceCharacteristics(fault_of(file)->real);
}

static int fault_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **at)
{
    return FAULT_REAL(file)->xShmMap(fault_of(file)->real, page, size, extend, at);
}

static int fault_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    bool hit = false;
    if (flags & SQLITE_SHM_LOCK)
        FAULT_LOCKED(hit = fault_hits(FAULT_LOCK | FAULT_SHM));
    if (hit)
        return fault_state.plan.how == FAULT_INDEX ? SQLITE_READONLY_RECOVERY
                                                   : SQLITE_IOERR_SHMLOCK;
    return FAULT_REAL(file)->xShmLock(fault_of(file)->real, offset, n, flags);
}

static void fault_shm_barrier(sqlite3_file *file)
{
    FAULT_REAL(file)->xShmBarrier(fault_of(file)->real);
}

static int fault_shm_unmap(sqlite3_file *file, int remove)
{
    return FAULT_REAL(file)->xShmUnmap(fault_of(file)->real, remove);
}

static int fault_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *out)
{
    struct fault_file *mine = fault_of(file);
    bool hit;
    (void)vfs;
    *mine = (struct fault_file){.real = (sqlite3_file *)(mine + 1)};
    mine->real->pMethods = NULL;
    FAULT_LOCKED(hit = fault_hits(FAULT_OPEN));
    if (hit)
        return SQLITE_CANTOPEN;
    int got = fault_state.real->xOpen(fault_state.real, path, mine->real, flags, out);
    if (!mine->real->pMethods)
        return got;
    mine->base.pMethods = &fault_state.methods;
    FAULT_LOCKED(if ((mine->disk = fault_disk_of(path))) fault_load(mine->disk));
    return got;
}

static int fault_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
    int got = SQLITE_IOERR_DELETE;
    (void)vfs;
    pthread_mutex_lock(&fault_state.lock);
    if (!fault_state.dead) {
        got = fault_state.real->xDelete(fault_state.real, path, sync);
        struct fault_disk *disk = fault_disk_of(path);
        if (disk) {
            fault_drain(disk, false, NULL);
            disk->len = 0;
        }
    }
    pthread_mutex_unlock(&fault_state.lock);
    return got;
}

/* ---- what tests call ---- */

/* `record`: power cuts are wanted, which costs a copy of each file. */
static inline void fault_vfs_install(bool record)
{
    struct fault_state *state = &fault_state;
    state->record = record;
    if (state->real)
        return;
    state->real = sqlite3_vfs_find("unix");
    state->vfs = *state->real;
    state->vfs.zName = "fault";
    state->vfs.pNext = NULL;
    state->vfs.szOsFile = (int)sizeof(struct fault_file) + state->real->szOsFile;
    state->vfs.xOpen = fault_open;
    state->vfs.xDelete = fault_delete;
    state->methods = (sqlite3_io_methods){.iVersion = 2, /* no mmap of the file: all is seen */
                                          .xClose = fault_close,
                                          .xRead = fault_read,
                                          .xWrite = fault_write,
                                          .xTruncate = fault_truncate,
                                          .xSync = fault_sync,
                                          .xFileSize = fault_file_size,
                                          .xLock = fault_lock,
                                          .xUnlock = fault_unlock,
                                          .xCheckReservedLock = fault_check_lock,
                                          .xFileControl = fault_control,
                                          .xSectorSize = fault_sector_size,
                                          .xDeviceCharacteristics = fault_characteristics,
                                          .xShmMap = fault_shm_map,
                                          .xShmLock = fault_shm_lock,
                                          .xShmBarrier = fault_shm_barrier,
                                          .xShmUnmap = fault_shm_unmap};
    sqlite3_vfs_register(&state->vfs, 1);
}

/* From now on; counts anew. */
static inline void fault_begin(struct fault_plan plan)
{
    FAULT_LOCKED({
        fault_state.plan = plan;
        fault_state.calls = fault_state.failed = 0;
    });
}

/* Faults end; how many calls failed. */
static inline uint64_t fault_end(void)
{
    uint64_t failed;
    FAULT_LOCKED({
        failed = fault_state.failed;
        fault_state.plan = (struct fault_plan){0};
    });
    return failed;
}

/* Whether the power is cut. */
static inline bool fault_is_dead(void)
{
    bool dead;
    FAULT_LOCKED(dead = fault_state.dead);
    return dead;
}

/* After everything is closed: the files are as the disk kept them.  Needs no cut before: then it is
 * one at this moment. */
static inline void fault_power_back(const struct fault_plan *plan)
{
    uint64_t seed = plan->seed;
    for (size_t i = 0; i < FAULT_FILES; i++) {
        struct fault_disk *disk = &fault_state.disks[i];
        if (!*disk->path)
            continue;
        char shm[200];
        snprintf(shm, sizeof shm, "%s-shm", disk->path);
        unlink(shm); /* memory, not disk */
        fault_drain(disk, plan->keep_some, &seed);
        int fd = open(disk->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        if (fd >= 0 && (write(fd, disk->durable, disk->len) != (ssize_t)disk->len || close(fd)))
            abort();
    }
    fault_state.dead = false;
    fault_state.plan = (struct fault_plan){0};
}

/* Forgets the files, which the test has removed. */
static inline void fault_forget(void)
{
    for (size_t i = 0; i < FAULT_FILES; i++) {
        fault_drain(&fault_state.disks[i], false, NULL);
        free(fault_state.disks[i].durable);
        fault_state.disks[i] = (struct fault_disk){0};
    }
    fault_state.dead = false;
    fault_state.plan = (struct fault_plan){0};
}

#endif
