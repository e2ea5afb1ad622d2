/*
 * logfile.h: one log file: appended to, put aside when it is large or old, the old ones packed and
 * let go.  For one thread, which may wait for the disk; logfiles.c has it.
 */
#ifndef HASUP_SUPERVISOR_LOGFILE_H
#define HASUP_SUPERVISOR_LOGFILE_H

#include "supervisor/core/flow.h"

struct logfile;
struct logpack; /* an old file that is being packed */

enum { LOGFILE_ERROR = 384 };

struct logfile_options {
    struct rotation_policy rotation;
    bool pack;
};

/* DIRECTORY/NAME.log; what is missing of its directories is made when it is first written to. */
struct logfile *logfile_new(const char *directory, const char *name);
void logfile_free(struct logfile *file);
const char *logfile_path(const struct logfile *file);

/* What a write came to. */
enum logfile_news {
    LOGFILE_NOTHING,
    LOGFILE_FAILED,   /* it cannot be written: told once; `error` says why */
    LOGFILE_RECOVERED /* it can again; *lost lines are lost */
};

/* Whole lines; all of them get there, or none. */
enum logfile_news logfile_write(struct logfile *file, const struct logfile_options *options,
                                const char *bytes, size_t len, uint64_t lines, uint64_t *lost,
                                char error[LOGFILE_ERROR]);
/* The next write opens it anew by its name. */
void logfile_close(struct logfile *file);

/* A part of the packing of its old files, some milliseconds; false: there is nothing to do.
 * `failed`: one could not be packed and stays as it is, `error` says why. */
bool logfile_pack(struct logfile *file, bool *failed, char error[LOGFILE_ERROR]);

#endif
