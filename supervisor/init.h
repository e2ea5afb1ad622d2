/*
 * init.h: `hasupd run`: one command under a minimal init, with nothing of the rest of hasupd.
 * Source: POSIX.1-2017 XBD 11 (terminals), XSH 2.4 (signals); Linux pid_namespaces(7), prctl(2).
 */
#ifndef HASUP_SUPERVISOR_INIT_H
#define HASUP_SUPERVISOR_INIT_H

#include <signal.h>

/* argv[0] is "run".  `mask`: the signals that were blocked before every one was, which the command gets back.  Returns
 * the exit code: the command's, 128 + n where signal n ended it, 127 not found, 126 not executable, 2 bad usage,
 * 1 it could not be started for another reason. */
int init_run(int argc, char **argv, const sigset_t *mask);

#endif
