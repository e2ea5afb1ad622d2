/*
 * audit_files.c: the state directory itself: who may read and write it, whose its files are, the
 * size of the WALs, and how much room is left.
 */
#include "checkpoints/audit_internal.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { FREE_PERCENT_MIN = 5, FREE_BYTES_MIN = 64 << 20 };

static const char *const NAMES[] = {
    "checkpoints.db", "checkpoints.db-journal", "journal.db", "journal.db-wal", "journal.db-shm",
    "history.db",     "history.db-wal",         "history.db-shm", "running.json", "activity",
    "audits.jsonl",   "audits.jsonl.1",
};

static void check_mode(struct audit *audit, const char *path, const struct stat *st,
                       mode_t forbidden)
{
    char advice[256];
    if (!(st->st_mode & forbidden))
        return;
    snprintf(advice, sizeof advice, "chmod %04o %.200s",
             (unsigned)(st->st_mode & 07777 & ~forbidden), path);
    audit_found(audit, AUDIT_CODE_PERMISSIONS, path, 0, advice, "mode %04o lets others in",
                (unsigned)(st->st_mode & 07777));
}

static void check_owner(struct audit *audit, const char *path, const struct stat *st, uid_t owner)
{
    char advice[256];
    if (st->st_uid == owner)
        return;
    snprintf(advice, sizeof advice, "find out who made it, then chown %u %.180s", (unsigned)owner,
             path);
    audit_found(audit, AUDIT_CODE_PERMISSIONS, path, 0, advice,
                "it belongs to user %u, its directory to user %u", (unsigned)st->st_uid,
                (unsigned)owner);
}

void audit_files(struct audit *audit)
{
    const char *directory = audit->options->state_dir;
    struct stat own, st;
    char path[4096 + 32];
    if (stat(directory, &own))
        return;
    check_mode(audit, directory, &own, 022);
    for (size_t i = 0; i < HASUP_LEN(NAMES); i++) {
        snprintf(path, sizeof path, "%s/%s", directory, NAMES[i]);
        if (stat(path, &st))
            continue;
        check_mode(audit, path, &st, 077);
        check_owner(audit, path, &st, own.st_uid);
    }
}

/* The journal folds its WAL at 4 MiB and cuts it to 8. */
static void check_wal(struct audit *audit, const char *name, uint64_t most)
{
    char path[4096 + 32];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", audit->options->state_dir, name);
    if (stat(path, &st) == 0 && (uint64_t)st.st_size > most)
        audit_found(audit, AUDIT_CODE_WAL, path, 0,
                    "look for a program that reads the database and does not end (fuser shows it); "
                    "hasupd folds it back by itself then",
                    "%llu MiB are not folded back into the database, more than %llu",
                    (unsigned long long)st.st_size >> 20, (unsigned long long)most >> 20);
}

static void check_space(struct audit *audit)
{
    static const char ROOM[] = "make room; hasupd goes on by itself";
    const char *directory = audit->options->state_dir;
    struct statvfs fs;
    if (statvfs(directory, &fs) || !fs.f_blocks)
        return;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint32_t percent = (uint32_t)((uint64_t)fs.f_bavail * 100 / fs.f_blocks);
    audit->summary->free_bytes = left;
    audit->summary->free_percent = percent;
    if (fs.f_flag & ST_RDONLY)
        audit_found(audit, AUDIT_CODE_SPACE, directory, 0,
                    "mount it writable; hasupd goes on by itself",
                    "the file system is read-only: nothing can be stored");
    else if (left < FREE_BYTES_MIN && percent < FREE_PERCENT_MIN)
        audit_found(audit, AUDIT_CODE_SPACE, directory, 0, ROOM, "%llu MiB (%u %%) are free",
                    (unsigned long long)(left >> 20), percent);
    else if (left < audit->largest)
        audit_found(audit, AUDIT_CODE_SPACE, directory, 0, ROOM,
                    "%llu MiB (%u %%) are free, less than the largest state has (%llu MiB)",
                    (unsigned long long)(left >> 20), percent,
                    (unsigned long long)(audit->largest >> 20));
    else if (fs.f_files && !fs.f_favail)
        audit_found(audit, AUDIT_CODE_SPACE, directory, 0, "remove files; hasupd goes on by itself",
                    "no file can be made: no inode is free");
}

void audit_sizes(struct audit *audit)
{
    check_wal(audit, "journal.db-wal", UINT64_C(64) << 20);
    check_space(audit);
}
