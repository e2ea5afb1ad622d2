/*
 * audits.c: the history of audits: audits.jsonl in the state directory, one JSON object a line, and
 * audits.jsonl.1, which it becomes when it is full.  An entry is appended by one write under a
 * lock, so that audits side by side spoil nothing, and belongs to the directory's owner, whoever
 * runs the audit. A line that a power cut tore is passed over.
 */
#include "hasupctl/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 256 * 1024, LINE_MAX_BYTES = 32 * 1024, TURNS = 3 };

/* ---- reading ---- */

static void read_lines(int directory, const char *name, json_t *entries)
{
    struct stat st;
    char *text = NULL;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        text = malloc(FILE_MAX + LINE_MAX_BYTES + 1);
    ssize_t len = text ? read(fd, text, FILE_MAX + LINE_MAX_BYTES) : 0;
    if (fd >= 0)
        close(fd);
    if (text)
        text[len > 0 ? len : 0] = '\0';
    for (char *line = text, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        json_t *entry = json_loadb(line, (size_t)(end - line), 0, NULL);
        if (json_is_integer(json_object_get(entry, "wall_ms")))
            json_array_append(entries, entry);
        json_decref(entry);
    }
    free(text);
}

json_t *audits_read(const char *state_dir)
{
    json_t *entries = json_array();
    int directory = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return entries;
    read_lines(directory, "audits.jsonl.1", entries);
    read_lines(directory, "audits.jsonl", entries);
    close(directory);
    return entries;
}

json_int_t audits_restored(json_t *entries)
{
    for (size_t i = json_array_size(entries); i-- > 0;) {
        json_t *entry = json_array_get(entries, i), *one;
        json_t *tests = json_object_get(entry, "restored");
        bool good = json_array_size(tests) > 0;
        size_t k;
        json_array_foreach(tests, k, one) good &=
            strcmp(json_string_value(json_object_get(one, "result")), "failed") != 0;
        if (good)
            return json_integer_value(json_object_get(entry, "wall_ms"));
    }
    return 0;
}

static bool names(json_t *entry, json_t *finding)
{
    json_t *one;
    size_t i;
    json_array_foreach(
        json_object_get(entry, "findings"), i,
        one) if (json_equal(json_object_get(one, "code"), json_object_get(finding, "code")) &&
                 json_equal(json_object_get(one, "where"),
                            json_object_get(finding, "where"))) return true;
    return false;
}

void audits_seen(json_t *entries, json_t *findings, json_int_t now_wall_ms)
{
    json_t *finding;
    size_t i;
    json_array_foreach(findings, i, finding)
    {
        json_int_t seen = now_wall_ms;
        for (size_t k = json_array_size(entries); k-- > 0;) {
            json_t *entry = json_array_get(entries, k);
            if (!json_object_get(entry, "findings"))
                continue; /* it could not check */
            if (!names(entry, finding))
                break;
            seen = json_integer_value(json_object_get(entry, "wall_ms"));
        }
        json_object_set_new(finding, "seen_wall_ms", json_integer(seen));
    }
}

/* ---- writing ---- */

/* The file with room for `len` more, locked; -1: it cannot be had.  Whoever makes it room while
 * another waits for the lock has moved the other's file away: that one looks again. */
static int open_locked(int directory, uid_t owner, size_t len)
{
    for (unsigned turn = 0; turn < TURNS; turn++) {
        struct stat st, now;
        int fd = openat(directory, "audits.jsonl",
                        O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (fd < 0)
            return -1;
        bool mine = flock(fd, LOCK_EX) == 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
                    st.st_nlink == 1 && (st.st_uid == owner || st.st_uid == geteuid()) &&
                    fchown(fd, owner, (gid_t)-1) == 0 && fchmod(fd, 0600) == 0;
        bool same = mine && fstatat(directory, "audits.jsonl", &now, AT_SYMLINK_NOFOLLOW) == 0 &&
                    now.st_ino == st.st_ino;
        if (same && (size_t)st.st_size + len <= FILE_MAX)
            return fd;
        int failed = same && renameat(directory, "audits.jsonl", directory, "audits.jsonl.1");
        close(fd);
        if (!mine || failed)
            return -1;
    }
    return -1;
}

/* One write, behind whatever a torn one left. */
static bool append(int fd, const char *line, size_t len)
{
    char last = '\n';
    off_t end = lseek(fd, 0, SEEK_END);
    if (end > 0 && pread(fd, &last, 1, end - 1) != 1)
        return false;
    size_t skip = last == '\n'; /* `line` begins with a newline */
    return write(fd, line + skip, len - skip) == (ssize_t)(len - skip);
}

bool audits_append(const char *state_dir, json_t *entry)
{
    struct stat st;
    char *text = json_dumps(entry, JSON_COMPACT), *line = NULL;
    int directory = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
    int len = text && strlen(text) < LINE_MAX_BYTES ? asprintf(&line, "\n%s\n", text) : -1;
    bool own =
        directory >= 0 && fstat(directory, &st) == 0 && (st.st_uid == geteuid() || geteuid() == 0);
    if (len > 0 && own)
        fd = open_locked(directory, st.st_uid, (size_t)len);
    bool done = fd >= 0 && append(fd, line, (size_t)len);
    if (fd >= 0)
        close(fd);
    if (directory >= 0)
        close(directory);
    if (len > 0)
        free(line);
    free(text);
    return done;
}
