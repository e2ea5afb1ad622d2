/*
 * standard.h: standard input, output and error of a program: that they are there, and that what was
 * printed has arrived.
 */
#ifndef HASUP_IPC_STANDARD_H
#define HASUP_IPC_STANDARD_H

#include <stdbool.h>

/* First thing in main: whoever started the program may have closed some of them, and what it opens
 * would take their places, a socket that of standard output.  Reading from one that was closed, and
 * printing to it, fail as they would. */
void hasup_standard_open(void);
/* Writes what was printed.  False: that failed, now or before. */
bool hasup_standard_flush(void);
/* Last thing: `code`, or 1 where that was 0 and what was printed could not be written, which it says
 * unless the reader has gone. */
int hasup_standard_end(const char *program, int code);

#endif
