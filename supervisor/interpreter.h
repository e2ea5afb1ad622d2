/* interpreter.h: what a program file is run by, where that is another file. */
#ifndef HASUP_SUPERVISOR_INTERPRETER_H
#define HASUP_SUPERVISOR_INTERPRETER_H

#include <stdbool.h>

enum { INTERPRETER_NAME = 256 };

/* After an exec of `path` that said ENOENT though it is there: the interpreter that is missing, of a
 * script (its first line) or an ELF file (its loader), fit to be printed: a CR at the end of the
 * line is shown as \r.  False: that is not why, and `name` is empty. */
bool interpreter_missing(const char *path, char name[INTERPRETER_NAME]);

#endif
