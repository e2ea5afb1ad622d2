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

enum { FREE_PERCENT_MIN = 5, FREE_BYTES_MIN = 64 << 20, ATTEMPTS = 3 };

/* Clocks are corrected by this much without a word. */
#define CLOCK_SLACK (60 * HASUP_S)

/* A finding, held back until it is sure that no writer came between. */
struct held {
    const char *code; /* static */
    char where[512], text[512], advice[256];
};

struct audit {
    const struct audit_options *options;
    struct audit_summary *summary;
    struct held *held;
    size_t held_count, held_room;
    struct checkpoint_info *list;
    size_t count, room;
    bool no_memory;
};

/* ---- findings ---- */

/* The format makes the text; then comes the advice. */
HASUP_PRINTF(5, 6)
static void found(struct audit *audit, const char *code, const char *where, const char *advice,
                  const char *format, ...)
{
    if (audit->held_count == audit->held_room) {
        size_t room = audit->held_room ? audit->held_room * 2 : 16;
        struct held *held = realloc(audit->held, room * sizeof *held);
        if (!held) {
            audit->no_memory = true;
            return;
        }
        audit->held = held;
        audit->held_room = room;
    }
    struct held *one = &audit->held[audit->held_count++];
    va_list args;
    one->code = code;
    snprintf(one->where, sizeof one->where, "%s", where);
    snprintf(one->advice, sizeof one->advice, "%s", advice);
    va_start(args, format);
    vsnprintf(one->text, sizeof one->text, format, args);
    va_end(args);
}

/* "90 s", "12 min", "3 h", "5 d" */
static const char *span(hasup_ns ns, char out[32])
{
    long long s = ns / HASUP_S;
    if (s < 120)
        snprintf(out, 32, "%lld s", s);
    else if (s < 120 * 60)
        snprintf(out, 32, "%lld min", s / 60);
    else if (s < 48 * 3600)
        snprintf(out, 32, "%lld h", s / 3600);
    else
        snprintf(out, 32, "%lld d", s / 86400);
    return out;
}

/* ---- the directory ---- */

static void check_mode(struct audit *audit, const char *path, mode_t forbidden)
{
    struct stat st;
    char advice[256];
    if (stat(path, &st) || !(st.st_mode & forbidden))
        return;
    snprintf(advice, sizeof advice, "chmod %04o %.200s",
             (unsigned)(st.st_mode & 07777 & ~forbidden), path);
    found(audit, "permissions", path, advice, "mode %04o lets others in",
          (unsigned)(st.st_mode & 07777));
}

static void check_space(struct audit *audit, const char *directory)
{
    struct statvfs fs;
    if (statvfs(directory, &fs) || !fs.f_blocks)
        return;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    uint64_t percent = (uint64_t)fs.f_bavail * 100 / fs.f_blocks;
    if (fs.f_flag & ST_RDONLY)
        found(audit, "space", directory, "mount it writable; hasupd goes on by itself",
              "the file system is read-only: no checkpoint can be stored");
    else if (left < FREE_BYTES_MIN && percent < FREE_PERCENT_MIN)
        found(audit, "space", directory, "make room; hasupd goes on by itself",
              "%llu MiB (%llu %%) are free", (unsigned long long)(left >> 20),
              (unsigned long long)percent);
}

/* ---- the checkpoints ---- */

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
    char age[32], most[32];
    hasup_ns old = audit->options->now_wall_ns - info->created_wall_ns;
    audit->summary->slots++;
    if (audit->options->max_age && old > audit->options->max_age)
        found(audit, "stale", where,
              "hasupctl status says whether it runs and whether its checkpoints fail",
              "its newest checkpoint is %s old, more than %s", span(old, age),
              span(audit->options->max_age, most));
    if (old < -CLOCK_SLACK)
        found(audit, "order", where, "set the clock, or wait",
              "its newest checkpoint is of %s in the future: the clock went back", span(-old, age));
}

static void check_order(struct audit *audit, const struct checkpoint_info *older,
                        const struct checkpoint_info *newer, const char *where)
{
    if (older->position > newer->position)
        found(
            audit, "order", where,
            "the slot began again without the further one; hasupctl checkpoint show tells whether "
            "that is good",
            "checkpoint %lld (position %llu) is further on than the newer %lld (position %llu)",
            (long long)older->id, (unsigned long long)older->position, (long long)newer->id,
            (unsigned long long)newer->position);
    else if (older->created_wall_ns > newer->created_wall_ns + CLOCK_SLACK)
        found(audit, "order", where, "none is needed, if the clock is right now",
              "checkpoint %lld was saved after %lld but bears an earlier time: the clock went back",
              (long long)newer->id, (long long)older->id);
}

/* Reads one back.  Whether it is good. */
static bool verify(struct audit *audit, struct store *store, size_t index, char error[STORE_ERROR],
                   const char **code)
{
    struct checkpoint_info again;
    audit->summary->verified++;
    int got = store_read(store, audit->list[index].id, &again, NULL, error);
    *code = strstr(error, "part is missing") ? "incomplete" : "damaged";
    /* A running hasupd may have let an old one go meanwhile. */
    return got == 0 || got == HASUP_ENOTFOUND;
}

static bool same_slot(const struct checkpoint_info *a, const struct checkpoint_info *b)
{
    return a->ordinal == b->ordinal && strcmp(a->model, b->model) == 0;
}

/* One slot's, newest first, from `first` up to `end`. */
static void check_slot(struct audit *audit, struct store *store, size_t first, size_t end)
{
    char where[STORE_MODEL + 16], error[STORE_ERROR] = "", advice[256];
    const char *code;
    const struct checkpoint_info *list = audit->list;
    bool good = false;
    snprintf(where, sizeof where, "%s/%u", list[first].model, list[first].ordinal);
    check_slot_newest(audit, &list[first], where);
    for (size_t i = first; i < end; i++) {
        if (i > first)
            check_order(audit, &list[i], &list[i - 1], where);
        audit->summary->bytes += list[i].len;
        if (good && !audit->options->deep)
            continue;
        if (verify(audit, store, i, error, &code)) {
            good = true;
            continue;
        }
        size_t next = i + 1;
        char ignored[STORE_ERROR];
        struct checkpoint_info info;
        while (next < end && store_read(store, list[next].id, &info, NULL, ignored))
            next++;
        if (good)
            snprintf(advice, sizeof advice, "newer ones are good: it goes with the next saves");
        else if (next < end)
            snprintf(
                advice, sizeof advice,
                "checkpoint %lld (position %llu) is good and would be restored; check the disk",
                (long long)list[next].id, (unsigned long long)list[next].position);
        else
            snprintf(advice, sizeof advice,
                     "no older one is good: while hasupd runs, hasupctl checkpoint now %s", where);
        found(audit, code, where, advice, "%s", error);
    }
}

static void check_checkpoints(struct audit *audit, struct store *store)
{
    size_t end;
    for (size_t first = 0; first < audit->count; first = end) {
        for (end = first + 1;
             end < audit->count && same_slot(&audit->list[first], &audit->list[end]); end++)
            continue;
        check_slot(audit, store, first, end);
    }
}

static void check_gaps(struct audit *audit, struct store *store, const char *path)
{
    struct store_gaps gaps;
    char error[STORE_ERROR];
    if (store_gaps(store, &gaps, error))
        return; /* the damage that hinders it is a finding already */
    if (gaps.orphans)
        found(audit, "incomplete", path, "check the disk; they take room but do no harm",
              "%llu parts belong to no checkpoint", (unsigned long long)gaps.orphans);
    if (!gaps.newest_listed)
        found(audit, "missing", path, "while hasupd runs: hasupctl checkpoint now MODEL",
              "checkpoint %lld was saved last and is not there", (long long)gaps.newest_id);
    if (store_wal_unread(store))
        found(audit, "incomplete", path, "start hasupd, which merges it",
              "%s-wal holds saves that are not merged and cannot be checked", path);
}

static const char MOVE_AWAY[] =
    "move it away (hasupd begins a new one by itself), then hasupctl checkpoint now MODEL";

/* The store that is open; HASUP_E* and `error` where it cannot be read. */
static int check_opened(struct audit *audit, struct store *store, const char *path,
                        char error[STORE_ERROR])
{
    int code = store_check(store, audit->options->deep, error);
    if (code == HASUP_ECORRUPT)
        found(audit, "damaged", path, MOVE_AWAY, "%s", error);
    if (!code || code == HASUP_ECORRUPT)
        code = store_list(store, NULL, collect, audit, error);
    if (code == HASUP_ECORRUPT) {
        if (!audit->held_count || strcmp(audit->held[audit->held_count - 1].code, "damaged"))
            found(audit, "damaged", path, MOVE_AWAY, "%s", error);
        code = 0;
    }
    audit->summary->checkpoints = (uint32_t)audit->count;
    if (code)
        return code;
    check_checkpoints(audit, store);
    check_gaps(audit, store, path);
    if (!audit->count && !audit->held_count && audit->options->max_age)
        found(audit, "missing", path, "hasupctl status says whether a model keeps state",
              "there is no checkpoint at all");
    return 0;
}

/* There is no database: fine, where nothing was ever stored. */
static void check_absent(struct audit *audit, const char *path)
{
    char wal[4096 + 8];
    struct stat st;
    snprintf(wal, sizeof wal, "%s-wal", path);
    if (stat(wal, &st) == 0)
        found(audit, "missing", path, "while hasupd runs: hasupctl checkpoint now MODEL",
              "it was removed: only its -wal is there");
    else if (audit->options->max_age)
        found(audit, "missing", path, "hasupctl status says whether a model keeps state",
              "nothing was ever stored here");
}

static enum audit_result check_store(struct audit *audit, const char *path, char error[STORE_ERROR])
{
    struct store *store;
    struct stat st;
    size_t before = audit->held_count;
    for (int attempt = 0;; attempt++) {
        int code = store_open(path, STORE_READ, &store, error);
        if (code == HASUP_ENOTFOUND) {
            check_absent(audit, path);
            return AUDIT_SOUND;
        }
        if (code == HASUP_ECORRUPT) {
            found(audit, "damaged", path, MOVE_AWAY, "%s", error);
            return AUDIT_FINDINGS;
        }
        if (code)
            return AUDIT_COULD_NOT;
        if (stat(path, &st) == 0 && st.st_size == 0)
            found(audit, "missing", path, "while hasupd runs: hasupctl checkpoint now MODEL",
                  "the file is empty");
        code = check_opened(audit, store, path, error);
        bool again = store_is_disturbed(store) && attempt < ATTEMPTS;
        store_close(store);
        if (audit->no_memory)
            snprintf(error, STORE_ERROR, "out of memory");
        if (code || audit->no_memory)
            return AUDIT_COULD_NOT;
        if (!again)
            return AUDIT_SOUND;
        /* hasupd started meanwhile: what was found may be its half-written work. */
        audit->held_count = before;
        audit->count = 0;
        *audit->summary = (struct audit_summary){0};
    }
}

enum audit_result audit_run(const struct audit_options *options, audit_finding *finding,
                            void *context, struct audit_summary *summary, char error[STORE_ERROR])
{
    static const char *const FILES[] = {"", "-wal", "-shm"};
    struct audit audit = {.options = options, .summary = summary};
    struct stat st;
    char path[4096], one[4096 + 8];
    *summary = (struct audit_summary){0};
    int why = stat(options->state_dir, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    if (why) {
        snprintf(error, STORE_ERROR, "%.200s: %s", options->state_dir, strerror(why));
        return AUDIT_COULD_NOT;
    }
    snprintf(path, sizeof path, "%s/checkpoints.db", options->state_dir);
    check_mode(&audit, options->state_dir, 022);
    for (size_t i = 0; i < HASUP_LEN(FILES); i++) {
        snprintf(one, sizeof one, "%s%s", path, FILES[i]);
        check_mode(&audit, one, 077);
    }
    check_space(&audit, options->state_dir);
    enum audit_result result = check_store(&audit, path, error);
    if (result != AUDIT_COULD_NOT)
        for (size_t i = 0; i < audit.held_count; i++)
            finding(context, audit.held[i].code, audit.held[i].where, audit.held[i].text,
                    audit.held[i].advice);
    summary->findings = (uint32_t)audit.held_count;
    result = result == AUDIT_COULD_NOT ? result : audit.held_count ? AUDIT_FINDINGS : AUDIT_SOUND;
    free(audit.list);
    free(audit.held);
    return result;
}
