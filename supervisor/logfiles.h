/*
 * logfiles.h: what workers print, and hasupd itself, in files.  A thread writes them: the loop hands lines over and
 * never waits; what is printed faster than the disk takes it is dropped and counted.
 */
#ifndef HASUP_SUPERVISOR_LOGFILES_H
#define HASUP_SUPERVISOR_LOGFILES_H

#include "supervisor/logfile.h"

struct logfiles;

struct logfiles_options {
    const char *directory; /* NULL: no files */
    bool each_slot;        /* DIRECTORY/MODEL/ORDINAL.log, else all in DIRECTORY/workers.log */
    bool own;              /* what hasupd has to say, in DIRECTORY/hasupd.log */
    struct logfile_options file;
    size_t queue; /* bytes that wait for the thread */
};

/* What the thread has to say; told on the loop by logfiles_woken. */
struct logfiles_report {
    enum { LOGFILES_FAILED, LOGFILES_RECOVERED, LOGFILES_SLOW, LOGFILES_UNPACKED } what;
    uint64_t lines; /* lost */
    char text[LOGFILE_ERROR];
};

/* `wake` may be called on any thread; then logfiles_woken is due.  NULL: no memory. */
struct logfiles *logfiles_new(void (*wake)(void *context), void *context);
/* Writes what waits, and ends the thread.  False: it did not end within `limit`, because the file system does not answer;
 * it is left alone with what it has, and does not wake any more. */
bool logfiles_free(struct logfiles *files, hasup_ns limit);
void logfiles_configure(struct logfiles *files, const struct logfiles_options *options);
bool logfiles_wanted(const struct logfiles *files);
bool logfiles_own_wanted(const struct logfiles *files);

/* One whole line of a slot ("m/0"; "": of hasupd itself), with its newline. */
void logfiles_add(struct logfiles *files, const char *slot, const char *line, size_t len);
/* All files are closed once what waits now is written, and opened by their names; the number of
 * this order. */
uint64_t logfiles_reopen(struct logfiles *files);
/* The last order that is done. */
uint64_t logfiles_reopened(struct logfiles *files);
/* Whether something is not written yet. */
bool logfiles_busy(struct logfiles *files);
/* The next report, as far as there is one. */
bool logfiles_report(struct logfiles *files, struct logfiles_report *report);

#endif
