/*
 * signals.c: signals by name and by number.  Owns nothing.
 */
#include "supervisor/signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *signal_name(int signo, char text[SIGNAL_NAME])
{
    if (signo >= SIGRTMIN && signo <= SIGRTMAX)
        snprintf(text, SIGNAL_NAME, "RTMIN+%d", signo - SIGRTMIN);
    else if (signo < SIGRTMIN && sigabbrev_np(signo))
        snprintf(text, SIGNAL_NAME, "%s", sigabbrev_np(signo));
    else
        snprintf(text, SIGNAL_NAME, "%d", signo);
    return text;
}

int signal_number(const char *text, size_t len)
{
    char name[SIGNAL_NAME], *end;
    if (len >= sizeof name)
        return -1;
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
    for (int s = 1; s < SIGRTMIN; s++)
        if (sigabbrev_np(s) && strcmp(bare, sigabbrev_np(s)) == 0)
            return s;
    int base = strncmp(bare, "RTMIN", 5) == 0   ? SIGRTMIN
               : strncmp(bare, "RTMAX", 5) == 0 ? SIGRTMAX
                                                : 0;
    const char *digits = base ? bare + 5 : name;
    if (base && !*digits)
        return base;
    long number = strtol(digits, &end, 10);
    bool fine = *digits && !*end && number > -SIGNALS && number < SIGNALS;
    number += base;
    return fine && number >= 0 && number < SIGNALS ? (int)number : -1;
}
