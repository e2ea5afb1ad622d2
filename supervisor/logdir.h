/* logdir.h: the directories that log files stand in: made where they are missing, refused where somebody else could
 * have put there what hasupd then writes to. */
#ifndef HASUP_SUPERVISOR_LOGDIR_H
#define HASUP_SUPERVISOR_LOGDIR_H

#include <stdbool.h>
#include <stddef.h>

enum { LOGDIR_WHY = 128 };

/* Makes what is missing above the file `path`, 0700; what fails fails again when the file is opened. */
void logdir_make(const char *path);
/* A directory, or a link to one.  `why`: what is not safe.  What is not there is safe.  `anybodys`: whom it belongs to
 * does not matter. */
bool logdir_is_safe(const char *directory, bool anybodys, char why[LOGDIR_WHY]);
/* Opens a log file, or one that was; never waits, for a pipe's other end neither, and follows no link.  -1: `why`. */
int logdir_open(const char *path, int flags, char why[LOGDIR_WHY]);

#endif
