/*
 * writer.h: the thread that writes and reads checkpoints.db, so that the loop never waits for a
 * disk.
 *
 * The loop's thread submits jobs and takes them back when they are done; a job and the bytes that
 * it names belong to the thread in between.  The thread and the database are opened at the first
 * job; where opening fails, that job fails and the next tries again.
 *
 * A large state stands in a memfd that nobody can change any more (WRITER_SEALS), so that it comes
 * from a worker and goes to the next one without a copy, and is mapped in the thread only.
 */
#ifndef HASUP_CHECKPOINTS_WRITER_H
#define HASUP_CHECKPOINTS_WRITER_H

#include "checkpoints/store.h"

#include <fcntl.h>

enum checkpoint_job_kind { CHECKPOINT_SAVE, CHECKPOINT_LOAD };

struct checkpoint_job {
    enum checkpoint_job_kind kind;
    struct checkpoint_key key; /* key.model is borrowed until the job is taken back */
    uint64_t position;         /* SAVE: given; LOAD: found */
    int64_t created_wall_ns;   /* the same */
    uint8_t *bytes;            /* SAVE: borrowed; LOAD: malloc'ed, the taker's.  NULL: in `fd` */
    uint64_t len;
    /* Where `bytes` is NULL: a memfd with WRITER_SEALS.  SAVE: the bytes begin at `offset`; closed
     * by the thread, and then -1, once they are stored.  LOAD: the taker's. */
    int fd;
    uint64_t offset;
    /* LOAD: more bytes than this are given in `fd`; 0: never. */
    uint64_t memfd_above;
    struct store_keep keep; /* SAVE: which of the slot's stay */
    int error;              /* 0, HASUP_ENOTFOUND (LOAD), HASUP_EIO, HASUP_ECORRUPT, … */
    uint32_t skipped;       /* LOAD: damaged ones passed over for an older one */
    bool unwritable;        /* LOAD: the store can be read at most, `message` says why */
    char message[256];      /* of the error, or of the newest damaged one */
    struct checkpoint_job *next;
};

struct writer;

enum { WRITER_QUEUE_MAX = 1024 };

/* Without these somebody could take the memory away from under a reader (SIGBUS), or store what no
 * hash fits. */
enum { WRITER_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* `wake(context)` is called from the thread when a job can be taken back.  NULL: no memory. */
struct writer *writer_new(const char *path, void (*wake)(void *context), void *context);
/* How the store is to be used; before the first job.  The keys are the writer's from now on. */
void writer_set(struct writer *writer, const struct store_options *options, struct keys *keys);
/* Finishes what is queued, then ends the thread; what is done can still be taken. */
void writer_finish(struct writer *writer);
/* The same, and frees the writer.  Jobs not taken are left to their owners. */
void writer_free(struct writer *writer);
/* HASUP_EFULL: WRITER_QUEUE_MAX jobs wait; HASUP_ENOMEM: no thread could be made. */
int writer_submit(struct writer *writer, struct checkpoint_job *job) HASUP_NODISCARD;
/* The jobs that are done, oldest first, linked by `next`; NULL: none. */
struct checkpoint_job *writer_take(struct writer *writer);

#endif
