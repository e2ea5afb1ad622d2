/* signals.h: signals by name, for options, the configuration and messages. */
#ifndef HASUP_SUPERVISOR_SIGNALS_H
#define HASUP_SUPERVISOR_SIGNALS_H

#include <stddef.h>

enum { SIGNALS = 65, SIGNAL_NAME = 16 };

/* As signal_number takes it: "TERM", "RTMIN+3", else its number. */
const char *signal_name(int signo, char text[SIGNAL_NAME]);
/* By name, with SIG or without, or by number below SIGNALS; -1: there is none. */
int signal_number(const char *text, size_t len);

#endif
