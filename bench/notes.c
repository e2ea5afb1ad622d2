/* notes.c: a named pipe through which workers of the bench say who they are and when. */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTE_MS = 10000 };

void notes_open(struct notes *notes, const char *name)
{
    snprintf(notes->path, sizeof notes->path, "%s/%s", bench_directory(), name);
    unlink(notes->path);
    if (mkfifo(notes->path, 0600) || (notes->fd = open(notes->path, O_RDWR | O_CLOEXEC)) < 0)
        bench_fail("%s: %s", notes->path, strerror(errno));
}

struct note notes_read(const struct notes *notes)
{
    struct note note;
    struct pollfd poller = {.fd = notes->fd, .events = POLLIN};
    if (poll(&poller, 1, NOTE_MS) != 1 || read(notes->fd, &note, sizeof note) != sizeof note)
        bench_fail("no replacement came");
    return note;
}
