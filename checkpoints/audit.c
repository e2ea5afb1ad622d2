/*
 * audit.c: looks at a state directory as cron would: permissions, space, SQLite's own check, every
 * slot's order and freshness, and the hashes.  Opens everything read-only and changes nothing.
 */
#include "checkpoints/audit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { FREE_PERCENT_MIN = 5, FREE_BYTES_MIN = 64 << 20 };

struct audit {
    const struct audit_options *options;
    audit_finding *finding;
    void *context;
    struct audit_summary *summary;
    struct checkpoint_info *list;
    size_t count, room;
    bool no_memory;
};

HASUP_PRINTF(4, 5)
static void found(struct audit *audit, const char *code, const char *where, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    audit->summary->findings++;
    audit->finding(audit->context, code, where, text);
}

static void check_mode(struct audit *audit, const char *path, mode_t forbidden)
{
    struct stat st;
    if (stat(path, &st) == 0 && st.st_mode & forbidden)
        found(audit, "permissions", path, "mode %04o lets others in; chmod it to %04o",
              (unsigned)(st.st_mode & 07777), (unsigned)(st.st_mode & 07777 & ~forbidden));
}

static void check_space(struct audit *audit, const char *directory)
{
    struct statvfs fs;
    if (statvfs(directory, &fs) || !fs.f_blocks)
        return;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t percent = (uint64_t)fs.f_bavail * 100 / fs.f_blocks;
    if (fs.f_flag & ST_RDONLY)
        found(audit, "space", directory,
              "the file system is read-only: no checkpoint can be stored");
    else if (left < FREE_BYTES_MIN && percent < FREE_PERCENT_MIN)
        found(audit, "space", directory, "%llu MiB (%llu %%) are free",
              (unsigned long long)(left >> 20), (unsigned long long)percent);
}

static bool collect(void *context, const struct checkpoint_info *info)
{
    struct audit *audit = context;
    if (audit->count == audit->room) {
        size_t room = audit->room ? audit->room * 2 : 64;
        struct checkpoint_info *list = realloc(audit->list, room * sizeof *list);
        if (!list) {
            audit->no_memory = true;
            return false;
        }
        audit->list = list;
        audit->room = room;
    }
    audit->list[audit->count++] = *info;
    return true;
}

static void check_slot_newest(struct audit *audit, const struct checkpoint_info *info,
                              const char *where)
{
    hasup_ns age = audit->options->now_wall_ns - info->created_wall_ns;
    if (audit->options->max_age && age > audit->options->max_age)
        found(audit, "stale", where, "its newest checkpoint is %lld s old, more than %lld s",
              (long long)(age / HASUP_S), (long long)(audit->options->max_age / HASUP_S));
    audit->summary->slots++;
}

/* The list is by slot, newest first. */
static void check_checkpoints(struct audit *audit, struct store *store)
{
    const struct checkpoint_info *newer = NULL;
    for (size_t i = 0; i < audit->count; i++) {
        struct checkpoint_info *info = &audit->list[i], again;
        char where[STORE_MODEL + 16], error[STORE_ERROR];
        bool newest =
            !newer || strcmp(newer->model, info->model) || newer->ordinal != info->ordinal;
        snprintf(where, sizeof where, "%s/%u", info->model, info->ordinal);
        if (newest)
            check_slot_newest(audit, info, where);
        else if (info->position > newer->position || info->created_wall_ns > newer->created_wall_ns)
            found(audit, "order", where,
                  "checkpoint %lld (position %llu) comes before %lld (position %llu) but is not "
                  "older",
                  (long long)info->id, (unsigned long long)info->position, (long long)newer->id,
                  (unsigned long long)newer->position);
        newer = info;
        audit->summary->bytes += info->len;
        if (!newest && !audit->options->deep)
            continue;
        audit->summary->verified++;
        int code = store_read(store, info->id, &again, NULL, error);
        /* A running hasupd may have let an old one go meanwhile. */
        if (code && code != HASUP_ENOTFOUND)
            found(audit, "damaged", where, "%s", error);
    }
}

static enum audit_result check_store(struct audit *audit, const char *path, char error[STORE_ERROR])
{
    struct store *store;
    int code = store_open(path, STORE_READ, &store, error);
    if (code == HASUP_ENOTFOUND)
        return AUDIT_SOUND; /* nothing was ever stored */
    if (code == HASUP_ECORRUPT) {
        found(audit, "damaged", path, "%s", error);
        return AUDIT_FINDINGS;
    }
    if (code)
        return AUDIT_COULD_NOT;
    code = store_check(store, audit->options->deep, error);
    if (code == HASUP_ECORRUPT)
        found(audit, "damaged", path, "%s", error);
    if (!code || code == HASUP_ECORRUPT)
        code = store_list(store, NULL, collect, audit, error);
    if (code == HASUP_ECORRUPT) {
        found(audit, "damaged", path, "%s", error);
        code = 0;
    }
    audit->summary->checkpoints = (uint32_t)audit->count;
    if (!code)
        check_checkpoints(audit, store);
    store_close(store);
    if (audit->no_memory)
        snprintf(error, STORE_ERROR, "out of memory");
    return code || audit->no_memory ? AUDIT_COULD_NOT : AUDIT_SOUND;
}

enum audit_result audit_run(const struct audit_options *options, audit_finding *finding,
                            void *context, struct audit_summary *summary, char error[STORE_ERROR])
{
    struct audit audit = {
        .options = options, .finding = finding, .context = context, .summary = summary};
    struct stat st;
    char path[4096];
    *summary = (struct audit_summary){0};
    if (stat(options->state_dir, &st) || !S_ISDIR(st.st_mode)) {
        snprintf(error, STORE_ERROR, "%.200s: %s", options->state_dir,
                 errno ? strerror(errno) : "not a directory");
        return AUDIT_COULD_NOT;
    }
    snprintf(path, sizeof path, "%s/checkpoints.db", options->state_dir);
    check_mode(&audit, options->state_dir, 022);
    check_mode(&audit, path, 077);
    check_space(&audit, options->state_dir);
    enum audit_result result = check_store(&audit, path, error);
    free(audit.list);
    if (result == AUDIT_COULD_NOT)
        return result;
    return summary->findings ? AUDIT_FINDINGS : AUDIT_SOUND;
}
