/*
 * writer.h: the thread that writes and reads checkpoints.db, so that the loop never waits for a
 * disk.
 *
 * The loop's thread submits jobs and takes them back when they are done; a job and the bytes that
 * it names belong to the thread in between.  The thread and the database are opened at the first
 * job; where opening fails, that job fails and the next tries again.
 */
#ifndef HASUP_CHECKPOINTS_WRITER_H
#define HASUP_CHECKPOINTS_WRITER_H

#include "checkpoints/store.h"

enum checkpoint_job_kind { CHECKPOINT_SAVE, CHECKPOINT_LOAD };

struct checkpoint_job {
    enum checkpoint_job_kind kind;
    struct checkpoint_key key; /* key.model is borrowed until the job is taken back */
    uint64_t position;         /* SAVE: given; LOAD: found */
    int64_t created_wall_ns;   /* the same */
    uint8_t *bytes;            /* SAVE: borrowed; LOAD: malloc'ed, the taker's */
    uint64_t len;
    struct store_keep keep; /* SAVE: which of the slot's stay */
    int error;              /* 0, HASUP_ENOTFOUND (LOAD), HASUP_EIO, HASUP_ECORRUPT, … */
    uint32_t skipped;       /* LOAD: damaged ones passed over for an older one */
    bool unwritable;        /* LOAD: the store can be read at most, `message` says why */
    char message[256];      /* of the error, or of the newest damaged one */
    struct checkpoint_job *next;
};

struct writer;

enum { WRITER_QUEUE_MAX = 1024 };

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
