/* check.h: whether what a configuration names is there, for `hasupd --check`. */
#ifndef HASUP_SUPERVISOR_CHECK_H
#define HASUP_SUPERVISOR_CHECK_H

#include "supervisor/config.h"

/* The key file, log files, and what each model's processes are started with, spares and those that
 * stand in for others, too.  0; HASUP_ECONFIG: `error` holds a line for each that is missing or
 * wrong. */
int check_named(const struct config *config, char error[CONFIG_ERROR_MAX]) HASUP_NODISCARD;

#endif
