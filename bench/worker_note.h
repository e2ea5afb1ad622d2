/* worker_note.h: says who and when through the pipe that BENCH_NOTES names. */
#ifndef HASUP_BENCH_WORKER_NOTE_H
#define HASUP_BENCH_WORKER_NOTE_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct worker_note {
    int64_t pid, at_ns;
};

static inline struct worker_note worker_note_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (struct worker_note){getpid(), (int64_t)now.tv_sec * 1000000000 + now.tv_nsec};
}

static inline void worker_note_say(struct worker_note note)
{
    const char *path = getenv("BENCH_NOTES");
    int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, &note, sizeof note) != sizeof note)
        abort();
    close(fd);
}

static inline void worker_note(void)
{
    worker_note_say(worker_note_now());
}

#endif
