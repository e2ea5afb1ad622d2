/*
 * logfiles.c: the thread that writes log files, its queue, and what it reports.  Owns the files.
 *
 * The loop appends lines to one buffer, the thread takes it whole and leaves an empty one: one
 * copy, two buffers, a bounded number of bytes.  Between two buffers the thread packs a piece of an
 * old file.  It starts with the first line, and sleeps while there is nothing to do.
 * Failure modes: a disk that is slow or full: lines are dropped, counted, told of once.  One that
 * never answers: the thread hangs, and is left behind at the end.
 */
#include "supervisor/logfiles.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REPORTS = 16, HEAD = 8 /* u32 name's length, u32 line's length */, NAME_MAX_BYTES = 128 };
enum { BATCH = 64 * 1024 };

struct buffer_of_lines {
    char *bytes;
    size_t used, room;
};

struct logfiles {
    pthread_mutex_t waking;
    void (*wake)(void *context); /* NULL: left behind */
    void *context;
    bool started;
    pthread_t thread;
    struct logfiles_options options; /* directory is ours */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work;
    struct buffer_of_lines waiting;
    bool busy;          /* the thread has something in hand */
    bool stop, changed; /* changed: options, which the thread takes */
    bool ended;         /* the thread, or nearly */
    pthread_cond_t end;
    uint64_t dropped; /* since the thread took the last buffer */
    uint64_t reopen, reopened;
    struct logfiles_report reports[REPORTS];
    unsigned report_count;

    /* the thread's own */
    struct logfiles_options now;
    struct logfile **files;
    size_t count, room;
    struct buffer_of_lines taken;
    struct { /* the disk is slower than what is printed */
        bool told;
        uint64_t lines; /* dropped, not told of yet */
    } slow;
};

/* ---- reports ---- */

/* Where nobody takes them, the newest of a kind counts for those that come after it; NULL: there is
 * no room, and none of its kind. */
static struct logfiles_report *report_of(struct logfiles *files, int what)
{
    if (files->report_count < REPORTS) {
        struct logfiles_report *r = &files->reports[files->report_count++];
        *r = (struct logfiles_report){.what = what};
        return r;
    }
    for (unsigned i = REPORTS; i > 0; i--)
        if ((int)files->reports[i - 1].what == what)
            return &files->reports[i - 1];
    return NULL;
}

static void wake_loop(struct logfiles *files)
{
    pthread_mutex_lock(&files->waking);
    if (files->wake)
        files->wake(files->context);
    pthread_mutex_unlock(&files->waking);
}

static void report(struct logfiles *files, int what, uint64_t lines, const char *text)
{
    pthread_mutex_lock(&files->lock);
    struct logfiles_report *r = report_of(files, what);
    if (r) {
        r->lines += lines;
        snprintf(r->text, sizeof r->text, "%s", text);
    }
    pthread_mutex_unlock(&files->lock);
    wake_loop(files);
}

bool logfiles_report(struct logfiles *files, struct logfiles_report *out)
{
    pthread_mutex_lock(&files->lock);
    bool there = files->report_count > 0;
    if (there) {
        *out = files->reports[0];
        files->report_count--;
        memmove(files->reports, files->reports + 1, files->report_count * sizeof *out);
    }
    pthread_mutex_unlock(&files->lock);
    return there;
}

/* ---- the thread: writing ---- */

static struct logfile *file_of(struct logfiles *files, const char *name)
{
    char path[4096];
    const char *base = !*name ? "hasupd" : files->now.each_slot ? name : "workers";
    snprintf(path, sizeof path, "%s/%s.log", files->now.directory, base);
    for (size_t i = 0; i < files->count; i++)
        if (strcmp(logfile_path(files->files[i]), path) == 0)
            return files->files[i];
    struct logfile **list = hasup_grow(files->files, files->count, &files->room, sizeof *list);
    struct logfile *file = list ? logfile_new(files->now.directory, base) : NULL;
    if (list)
        files->files = list;
    if (file)
        files->files[files->count++] = file;
    return file;
}

static void write_lines(struct logfiles *files, struct logfile *file, const char *bytes, size_t len,
                        uint64_t lines)
{
    char error[LOGFILE_ERROR], text[160];
    uint64_t lost = 0;
    switch (logfile_write(file, &files->now.file, bytes, len, lines, &lost, error)) {
    case LOGFILE_NOTHING: break;
    case LOGFILE_FAILED: report(files, LOGFILES_FAILED, lines, error); break;
    case LOGFILE_RECOVERED:
        report(files, LOGFILES_RECOVERED, lost, logfile_path(file));
        int n = snprintf(text, sizeof text, "(hasupd: %llu lines before these are lost)\n",
                         (unsigned long long)lost);
        (void)logfile_write(file, &files->now.file, text, (size_t)n, 0, &lost, error);
        break;
    }
}

/* The lines of `taken`, those that stand together for one file in one write. */
static void write_taken(struct logfiles *files, char *batch)
{
    const char *at = files->taken.bytes, *end = at + files->taken.used;
    struct logfile *file = NULL;
    char name[NAME_MAX_BYTES], last[NAME_MAX_BYTES] = "/"; /* nobody's name */
    size_t used = 0;
    uint64_t lines = 0;
    while (at < end) {
        uint32_t name_len = hasup_get32((const uint8_t *)at);
        uint32_t len = hasup_get32((const uint8_t *)at + 4);
        snprintf(name, sizeof name, "%.*s", (int)name_len, at + HEAD);
        if (used && (strcmp(name, last) != 0 || used + len > BATCH)) {
            write_lines(files, file, batch, used, lines);
            used = lines = 0;
        }
        if (strcmp(name, last) != 0)
            file = file_of(files, name);
        memcpy(last, name, sizeof last);
        const char *line = at + HEAD + name_len;
        if (file && len > BATCH) {
            write_lines(files, file, line, len, 1);
        } else if (file) {
            memcpy(batch + used, line, len);
            used += len;
            lines++;
        }
        at = line + len;
    }
    if (used)
        write_lines(files, file, batch, used, lines);
}

static void close_all(struct logfiles *files, bool forget)
{
    for (size_t i = 0; i < files->count; i++)
        if (forget)
            logfile_free(files->files[i]);
        else
            logfile_close(files->files[i]);
    files->count = forget ? 0 : files->count;
}

/* One step of packing; false: there is nothing to pack. */
static bool pack_some(struct logfiles *files)
{
    char error[LOGFILE_ERROR];
    bool failed = false, worked = false;
    for (size_t i = 0; files->now.file.pack && i < files->count && !worked; i++)
        worked = logfile_pack(files->files[i], &failed, error);
    if (failed)
        report(files, LOGFILES_UNPACKED, 0, error);
    return worked;
}

/* ---- the thread: its turns ---- */

static bool has_work(const struct logfiles *files)
{
    return files->waiting.used || files->stop || files->changed || files->reopen > files->reopened;
}

/* Under the lock: what waits becomes what is taken. */
static uint64_t take(struct logfiles *files, uint64_t *dropped)
{
    struct buffer_of_lines empty = files->taken;
    files->taken = files->waiting;
    files->waiting = empty;
    *dropped = files->dropped;
    files->dropped = 0;
    return files->reopen;
}

/* Under the lock, after what came before the change is written. */
static void take_options(struct logfiles *files)
{
    free((char *)(uintptr_t)files->now.directory);
    files->now = files->options;
    files->now.directory = files->options.directory ? strdup(files->options.directory) : NULL;
    files->changed = false;
}

/* What a flood needed is not kept. */
static void give_back(struct buffer_of_lines *buffer)
{
    buffer->used = 0;
    if (buffer->room <= BATCH)
        return;
    free(buffer->bytes);
    *buffer = (struct buffer_of_lines){0};
}

/* Told when it begins, and the sum when it is over. */
static void tell_slow(struct logfiles *files, uint64_t dropped)
{
    files->slow.lines += dropped;
    if (files->slow.lines && files->slow.told != (dropped > 0)) {
        report(files, LOGFILES_SLOW, files->slow.lines, "the disk is slower than what is printed");
        files->slow.lines = 0;
    }
    files->slow.told = dropped > 0;
}

static void reopen_all(struct logfiles *files, uint64_t number)
{
    close_all(files, false);
    pthread_mutex_lock(&files->lock);
    files->reopened = number;
    pthread_mutex_unlock(&files->lock);
    wake_loop(files);
}

static void *run(void *context)
{
    struct logfiles *files = context;
    char *batch = malloc(BATCH);
    bool stop = false, packs = false;
    while (!stop && batch) {
        uint64_t dropped, reopen;
        pthread_mutex_lock(&files->lock);
        files->busy = false;
        while (!packs && !files->slow.lines && !has_work(files))
            pthread_cond_wait(&files->work, &files->lock);
        files->busy = true;
        bool changed = files->changed;
        stop = files->stop;
        if (changed && !files->waiting.used)
            take_options(files);
        else
            changed = false; /* first what was said before */
        reopen = take(files, &dropped);
        stop = stop && !files->taken.used;
        pthread_mutex_unlock(&files->lock);
        if (changed)
            close_all(files, true);
        if (files->now.directory)
            write_taken(files, batch);
        give_back(&files->taken);
        tell_slow(files, dropped);
        if (reopen > files->reopened)
            reopen_all(files, reopen);
        packs = files->now.directory && !stop && pack_some(files);
    }
    free(batch);
    pthread_mutex_lock(&files->lock);
    files->ended = true;
    pthread_cond_signal(&files->end);
    pthread_mutex_unlock(&files->lock);
    return NULL;
}

/* ---- the loop's side ---- */

bool logfiles_busy(struct logfiles *files)
{
    pthread_mutex_lock(&files->lock);
    bool busy = files->busy || files->waiting.used || files->reopen != files->reopened;
    pthread_mutex_unlock(&files->lock);
    return busy;
}

/* Signals are the loop's. */
static bool start(struct logfiles *files)
{
    sigset_t all, before;
    if (files->started)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    files->started = pthread_create(&files->thread, NULL, run, files) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return files->started;
}

static bool queue_add(struct logfiles *files, const char *slot, const char *line, size_t len)
{
    struct buffer_of_lines *to = &files->waiting;
    size_t name_len = strlen(slot), need = HEAD + name_len + len;
    if (!queue_takes(to->used, files->options.queue, need))
        return false;
    if (to->used + need > to->room) {
        size_t room = to->room ? to->room * 2 : 4096;
        while (room < to->used + need)
            room *= 2;
        char *bytes = realloc(to->bytes, room);
        if (!bytes)
            return false;
        to->bytes = bytes;
        to->room = room;
    }
    char *at = to->bytes + to->used;
    hasup_put32((uint8_t *)at, (uint32_t)name_len);
    hasup_put32((uint8_t *)at + 4, (uint32_t)len);
    memcpy(at + HEAD, slot, name_len);
    memcpy(at + HEAD + name_len, line, len);
    to->used += need;
    return true;
}

void logfiles_add(struct logfiles *files, const char *slot, const char *line, size_t len)
{
    if (!files->options.directory || !start(files))
        return;
    pthread_mutex_lock(&files->lock);
    bool first = !files->waiting.used;
    if (!queue_add(files, slot, line, len))
        files->dropped++;
    pthread_mutex_unlock(&files->lock);
    if (first)
        pthread_cond_signal(&files->work);
}

uint64_t logfiles_reopen(struct logfiles *files)
{
    pthread_mutex_lock(&files->lock);
    uint64_t number = ++files->reopen;
    if (!files->started)
        files->reopened = number; /* nothing is open */
    pthread_mutex_unlock(&files->lock);
    pthread_cond_signal(&files->work);
    return number;
}

uint64_t logfiles_reopened(struct logfiles *files)
{
    pthread_mutex_lock(&files->lock);
    uint64_t number = files->reopened;
    pthread_mutex_unlock(&files->lock);
    return number;
}

void logfiles_configure(struct logfiles *files, const struct logfiles_options *options)
{
    char *directory = options->directory ? strdup(options->directory) : NULL;
    pthread_mutex_lock(&files->lock);
    free((char *)(uintptr_t)files->options.directory);
    files->options = *options;
    files->options.directory = directory;
    files->changed = true;
    if (!files->started)
        take_options(files);
    pthread_mutex_unlock(&files->lock);
    pthread_cond_signal(&files->work);
}

bool logfiles_wanted(const struct logfiles *files)
{
    return files->options.directory != NULL;
}

bool logfiles_own_wanted(const struct logfiles *files)
{
    return files->options.directory && files->options.own;
}

struct logfiles *logfiles_new(void (*wake)(void *context), void *context)
{
    struct logfiles *files = calloc(1, sizeof *files);
    if (!files)
        return NULL;
    files->wake = wake;
    files->context = context;
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_mutex_init(&files->waking, NULL);
    pthread_mutex_init(&files->lock, NULL);
    pthread_cond_init(&files->work, NULL);
    pthread_cond_init(&files->end, &steady);
    pthread_condattr_destroy(&steady);
    return files;
}

/* Whether the thread has ended. */
static bool stop(struct logfiles *files, hasup_ns limit)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)((until.tv_nsec + limit) / HASUP_S);
    until.tv_nsec = (until.tv_nsec + limit) % HASUP_S;
    pthread_mutex_lock(&files->lock);
    files->stop = true;
    pthread_cond_signal(&files->work);
    while (files->started && !files->ended &&
           pthread_cond_timedwait(&files->end, &files->lock, &until) != ETIMEDOUT)
        ;
    bool ended = !files->started || files->ended;
    pthread_mutex_unlock(&files->lock);
    return ended;
}

bool logfiles_free(struct logfiles *files, hasup_ns limit)
{
    if (!files)
        return true;
    if (!stop(files, limit)) {
        pthread_mutex_lock(&files->waking);
        files->wake = NULL;
        pthread_mutex_unlock(&files->waking);
        pthread_detach(files->thread);
        return false;
    }
    if (files->started)
        pthread_join(files->thread, NULL);
    close_all(files, true);
    free(files->files);
    free(files->waiting.bytes);
    free(files->taken.bytes);
    free((char *)(uintptr_t)files->options.directory);
    free((char *)(uintptr_t)files->now.directory);
    pthread_mutex_destroy(&files->waking);
    pthread_mutex_destroy(&files->lock);
    pthread_cond_destroy(&files->work);
    pthread_cond_destroy(&files->end);
    free(files);
    return true;
}
