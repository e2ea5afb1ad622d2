/* gate.h: how a worker of the end-to-end tests waits until its test says that it may go on. */
#ifndef HASUP_TESTS_GATE_H
#define HASUP_TESTS_GATE_H

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Blocks until somebody writes to the FIFO.  An end of file is the end of who wrote to the one
 * before. */
static inline void gate_wait(const char *path)
{
    char byte;
    ssize_t got;
    do {
        int fd = open(path, O_RDONLY);
        got = fd < 0 ? -1 : read(fd, &byte, 1);
        if (got < 0)
            perror(path);
        if (fd >= 0)
            close(fd);
    } while (got == 0);
}

#endif
