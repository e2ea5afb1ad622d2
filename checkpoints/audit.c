/*
 * audit.c: looks at a state directory as cron would; here: the findings, checkpoints.db (SQLite's
 * own check, every slot's order, the hashes) and the whole of it.  Opens everything read-only and
 * changes nothing.
 */
#include "checkpoints/audit_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Clocks are corrected by this much without a word. */
#define CLOCK_SLACK (60 * HASUP_S)

enum { QUICK_CHECK_BYTES = 256 << 20 };

/* ---- findings ---- */

static const struct {
    const char *name;
    enum audit_severity severity;
} CODES[] = {
#define AUDIT_CODE_ROW(name, text, severity) {text, severity},
    AUDIT_CODES(AUDIT_CODE_ROW)
#undef AUDIT_CODE_ROW
};

const char *audit_code_name(enum audit_code code)
{
    return CODES[code].name;
}

enum audit_severity audit_code_severity(enum audit_code code)
{
    return CODES[code].severity;
}

const char *audit_severity_name(enum audit_severity severity)
{
    static const char *const NAMES[] = {"error", "warning", "note"};
    return NAMES[severity];
}

void *audit_grown(struct audit *audit, void *list, size_t count, size_t *room, size_t size)
{
    void *more = hasup_grow(list, count, room, size);
    audit->no_memory |= !more;
    return more;
}

void audit_found(struct audit *audit, enum audit_code code, const char *where, int64_t since,
                 const char *advice, const char *format, ...)
{
    struct audit_finding *held =
        audit_grown(audit, audit->held, audit->held_count, &audit->held_room, sizeof *held);
    if (!held)
        return;
    audit->held = held;
    struct audit_finding *one = &held[audit->held_count++];
    va_list args;
    *one = (struct audit_finding){.code = code, .since_wall_ns = since};
    snprintf(one->where, sizeof one->where, "%s", where);
    snprintf(one->advice, sizeof one->advice, "%s", advice);
    va_start(args, format);
    vsnprintf(one->text, sizeof one->text, format, args);
    va_end(args);
}

bool audit_is_settled(const struct stat *st)
{
    enum { SLACK_S = 10 };
    return time(NULL) - st->st_mtim.tv_sec > SLACK_S;
}

void audit_pause(int attempt)
{
    if (attempt)
        poll(NULL, 0, AUDIT_PAUSE_MS);
}

const char *audit_span(hasup_ns ns, char out[32])
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

struct audit_slot *audit_slot(struct audit *audit, const char *model, uint32_t ordinal)
{
    for (size_t i = 0; i < audit->slot_count; i++)
        if (audit->slots[i].ordinal == ordinal && strcmp(audit->slots[i].model, model) == 0)
            return &audit->slots[i];
    struct audit_slot *slots =
        audit_grown(audit, audit->slots, audit->slot_count, &audit->slot_room, sizeof *slots);
    if (!slots)
        return NULL;
    audit->slots = slots;
    struct audit_slot *slot = &slots[audit->slot_count++];
    *slot = (struct audit_slot){.ordinal = ordinal};
    snprintf(slot->model, sizeof slot->model, "%s", model);
    return slot;
}

/* ---- the checkpoints ---- */

static bool collect(void *context, const struct checkpoint_info *info)
{
    struct audit *audit = context;
    struct checkpoint_info *list =
        audit_grown(audit, audit->list, audit->count, &audit->room, sizeof *list);
    if (!list)
        return false;
    audit->list = list;
    list[audit->count++] = *info;
    if (info->len > audit->largest)
        audit->largest = info->len;
    return true;
}

static void check_slot_newest(struct audit *audit, const struct checkpoint_info *info,
                              const char *where)
{
    char age[32];
    hasup_ns old = audit->options->now_wall_ns - info->created_wall_ns;
    audit->summary->slots++;
    if (old < -CLOCK_SLACK)
        audit_found(audit, AUDIT_CODE_ORDER, where, 0, "set the clock, or wait",
                    "its newest checkpoint is of %s in the future: the clock went back",
                    audit_span(-old, age));
}

static void check_order(struct audit *audit, const struct checkpoint_info *older,
                        const struct checkpoint_info *newer, const char *where)
{
    if (older->position > newer->position)
        audit_found(
            audit, AUDIT_CODE_ORDER, where, 0,
            "the slot began again without the further one; hasupctl checkpoint show tells whether "
            "that is good",
            "checkpoint %lld (position %llu) is further on than the newer %lld (position %llu)",
            (long long)older->id, (unsigned long long)older->position, (long long)newer->id,
            (unsigned long long)newer->position);
    else if (older->created_wall_ns > newer->created_wall_ns + CLOCK_SLACK)
        audit_found(
            audit, AUDIT_CODE_ORDER, where, 0, "none is needed, if the clock is right now",
            "checkpoint %lld was saved after %lld but bears an earlier time: the clock went back",
            (long long)newer->id, (long long)older->id);
}

/* Reads one back, or its manifest alone.  Whether it is good. */
static bool verify(struct audit *audit, struct store *store, size_t index, bool whole,
                   char error[STORE_ERROR], enum audit_code *code)
{
    struct checkpoint_info again;
    int64_t id = audit->list[index].id;
    audit->summary->verified += whole;
    int got = whole ? store_read(store, id, &again, NULL, error)
                    : store_read_manifest(store, id, &again, error);
    *code = got == HASUP_EDENIED               ? AUDIT_CODE_MISSING /* its key */
            : strstr(error, "part is missing") ? AUDIT_CODE_INCOMPLETE
                                               : AUDIT_CODE_DAMAGED;
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
    enum audit_code code;
    const struct checkpoint_info *list = audit->list;
    struct audit_slot *slot = audit_slot(audit, list[first].model, list[first].ordinal);
    bool good = false;
    if (!slot)
        return;
    slot->seen = true;
    snprintf(where, sizeof where, "%s/%u", list[first].model, list[first].ordinal);
    check_slot_newest(audit, &list[first], where);
    for (size_t i = first; i < end; i++) {
        if (i > first)
            check_order(audit, &list[i], &list[i - 1], where);
        audit->summary->bytes += list[i].len;
        if (verify(audit, store, i, !good || audit->options->deep, error, &code)) {
            if (!good)
                slot->good = list[i].position;
            good = slot->restorable = true;
            continue;
        }
        size_t next = i + 1;
        char ignored[STORE_ERROR];
        struct checkpoint_info info;
        while (next < end && store_read(store, list[next].id, &info, NULL, ignored))
            next++;
        if (!good && next < end) {
            slot->restorable = true;
            slot->good = list[next].position;
        }
        if (code == AUDIT_CODE_MISSING)
            snprintf(advice, sizeof advice,
                     "name the file that holds the key: --key-file, or HASUP_KEY_FILE");
        else if (good)
            snprintf(advice, sizeof advice, "newer ones are good: it goes with the next saves");
        else if (next < end)
            snprintf(
                advice, sizeof advice,
                "checkpoint %lld (position %llu) is good and would be restored; check the disk",
                (long long)list[next].id, (unsigned long long)list[next].position);
        else
            snprintf(advice, sizeof advice,
                     "no older one is good: while hasupd runs, hasupctl checkpoint now %s", where);
        audit_found(audit, code, where, 0, advice, "%s", error);
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
        audit_found(audit, AUDIT_CODE_INCOMPLETE, path, 0,
                    "check the disk; they take room but do no harm",
                    "%llu parts belong to no checkpoint", (unsigned long long)gaps.orphans);
    if (!gaps.newest_listed)
        audit_found(audit, AUDIT_CODE_MISSING, path, 0,
                    "while hasupd runs: hasupctl checkpoint now MODEL",
                    "checkpoint %lld was saved last and is not there", (long long)gaps.newest_id);
    if (store_wal_unread(store))
        audit_found(audit, AUDIT_CODE_INCOMPLETE, path, 0, "start hasupd, which merges it",
                    "%s-wal holds saves that are not merged and cannot be checked", path);
}

static const char MOVE_AWAY[] =
    "move it away (hasupd begins a new one by itself), then hasupctl checkpoint now MODEL";

/* The store that is open; HASUP_E* and `error` where it cannot be read. */
static int check_opened(struct audit *audit, struct store *store, const char *path,
                        char error[STORE_ERROR])
{
    struct stat st;
    bool deep = audit->options->deep;
    /* It holds a lock that saves wait for: of a large file that is for the night. */
    int code = deep || stat(path, &st) || st.st_size <= QUICK_CHECK_BYTES
                   ? store_check(store, deep, error)
                   : 0;
    if (code == HASUP_ECORRUPT)
        audit_found(audit, AUDIT_CODE_DAMAGED, path, 0, MOVE_AWAY, "%s", error);
    if (!code || code == HASUP_ECORRUPT)
        code = store_list(store, NULL, collect, audit, error);
    if (code == HASUP_ECORRUPT) {
        if (!audit->held_count || audit->held[audit->held_count - 1].code != AUDIT_CODE_DAMAGED)
            audit_found(audit, AUDIT_CODE_DAMAGED, path, 0, MOVE_AWAY, "%s", error);
        code = 0;
    }
    audit->summary->checkpoints = (uint32_t)audit->count;
    if (code)
        return code;
    check_checkpoints(audit, store);
    check_gaps(audit, store, path);
    return 0;
}

/* There is no database: fine, where nothing was ever stored. */
static void check_absent(struct audit *audit, const char *path)
{
    char beside[4096 + 16];
    struct stat st;
    snprintf(beside, sizeof beside, "%s-journal", path);
    if (stat(beside, &st) == 0)
        audit_found(audit, AUDIT_CODE_MISSING, path, 0,
                    "while hasupd runs: hasupctl checkpoint now MODEL",
                    "it was removed: only its -journal is there");
}

/* As the journal is: what a second look finds is what counts. */
static void start_over(struct audit *audit, size_t held, const struct audit_summary *summary)
{
    audit->held_count = held;
    audit->count = 0;
    *audit->summary = *summary;
    for (size_t i = 0; i < audit->slot_count; i++)
        audit->slots[i].seen = audit->slots[i].restorable = false;
}

static enum audit_result check_store(struct audit *audit, const char *path, char error[STORE_ERROR])
{
    struct store *store;
    struct stat st;
    size_t before = audit->held_count;
    const struct audit_summary summary = *audit->summary;
    for (int attempt = 0;; attempt++) {
        bool last = attempt + 1 == AUDIT_ATTEMPTS;
        audit_pause(attempt);
        start_over(audit, before, &summary);
        int code = store_open(path, STORE_READ, &store, error);
        if (code == HASUP_ENOTFOUND) {
            check_absent(audit, path);
            return AUDIT_SOUND;
        }
        if (code == HASUP_ECORRUPT) {
            audit_found(audit, AUDIT_CODE_DAMAGED, path, 0, MOVE_AWAY, "%s", error);
            return AUDIT_SOUND;
        }
        if (code == HASUP_EIO && !last)
            continue; /* a reader meets a writer at an unlucky moment now and then */
        if (code)
            return AUDIT_COULD_NOT;
        if (stat(path, &st) == 0 && st.st_size == 0 && audit_is_settled(&st))
            audit_found(audit, AUDIT_CODE_MISSING, path, 0,
                        "while hasupd runs: hasupctl checkpoint now MODEL", "the file is empty");
        store_set(store, &(struct store_options){.keys = audit->options->keys});
        code = check_opened(audit, store, path, error);
        /* hasupd started meanwhile: what was found may be its half-written work. */
        bool disturbed = store_is_disturbed(store) && audit->held_count > before;
        store_close(store);
        if (!last && (disturbed || code == HASUP_EIO))
            continue;
        return code ? AUDIT_COULD_NOT : AUDIT_SOUND;
    }
}

static void count_findings(struct audit *audit)
{
    for (size_t i = 0; i < audit->held_count; i++)
        if (audit_code_severity(audit->held[i].code) == AUDIT_NOTE)
            audit->summary->notes++;
        else
            audit->summary->findings++;
}

static void audit_free(struct audit *audit)
{
    for (size_t i = 0; i < audit->slot_count; i++)
        free(audit->slots[i].log);
    free(audit->slots);
    free(audit->list);
    free(audit->held);
}

/* The journal first: a checkpoint that it was trimmed for is stored by then, or a newer one. */
enum audit_result audit_run(const struct audit_options *options, audit_report *report,
                            void *context, struct audit_summary *summary, char error[STORE_ERROR])
{
    struct audit audit = {.options = options, .summary = summary};
    struct stat st;
    char path[4096];
    *summary = (struct audit_summary){0};
    int why = stat(options->state_dir, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
    if (why) {
        snprintf(error, STORE_ERROR, "%.200s: %s", options->state_dir, strerror(why));
        return AUDIT_COULD_NOT;
    }
    snprintf(path, sizeof path, "%s/checkpoints.db", options->state_dir);
    audit_files(&audit); /* first: SQLite gives an empty WAL its database's mode */
    audit_activity(&audit);
    enum audit_result result = audit_journal(&audit, error);
    if (result != AUDIT_COULD_NOT)
        result = check_store(&audit, path, error);
    if (result != AUDIT_COULD_NOT) {
        audit_slots(&audit);
        audit_sizes(&audit);
    }
    if (audit.no_memory) {
        snprintf(error, STORE_ERROR, "out of memory");
        result = AUDIT_COULD_NOT;
    }
    if (result != AUDIT_COULD_NOT) {
        count_findings(&audit);
        for (size_t i = 0; i < audit.held_count; i++)
            report(context, &audit.held[i]);
        result = summary->findings ? AUDIT_FINDINGS : AUDIT_SOUND;
    }
    audit_free(&audit);
    return result;
}
