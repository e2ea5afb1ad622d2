/* standard.c: see standard.h.  Owns descriptors 0 to 2 as far as they were closed. */
#include "ipc/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int why; /* errno of the write that failed; 0: not known */

void hasup_standard_open(void)
{
    static const int WRONG_WAY[] = {O_WRONLY, O_RDONLY, O_RDWR /* nobody is left to tell */};
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)!open("/dev/null", WRONG_WAY[fd]); /* takes the lowest number that is free */
}

bool hasup_standard_flush(void)
{
    if (fflush(stdout))
        why = errno;
    return !ferror(stdout);
}

/* What failed while its buffer was full has left no errno. */
static bool reader_is_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return why == EPIPE || (!why && poll(&out, 1, 0) == 1 && out.revents & POLLERR);
}

int hasup_standard_end(const char *program, int code)
{
    if (hasup_standard_flush() || reader_is_gone())
        return code;
    fprintf(stderr, "%s: cannot write: %s\n", program,
            why ? strerror(why) : "a part of what was to be printed is lost");
    return code ? code : 1;
}
