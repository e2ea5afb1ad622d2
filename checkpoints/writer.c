/*
 * writer.c: the checkpoint thread.  Owns the store, which only the thread touches, and two queues
 * under one mutex: what is to do, and what is done.  Between jobs it clears away in small steps
 * what saves left behind, and blocks on a condition while there is nothing to do.  A store that
 * failed is opened again for the next job.  A store whose file was taken away is still read from,
 * and what it holds moves to the new file as soon as one can be made.
 */
#include "checkpoints/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { THREAD_STACK = 256 * 1024, NICE_SAVING = 10 };

struct queue {
    struct checkpoint_job *head, **tail;
    unsigned count;
};

struct writer {
    char *path;
    void (*wake)(void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue todo, done; /* under lock */
    bool ending;             /* under lock */
    bool started;            /* the loop's thread only */
    pthread_t thread;
    struct store *store; /* the thread's */
    struct store_options options;
    struct keys *keys;
};

static void queue_put(struct queue *queue, struct checkpoint_job *job)
{
    if (!queue->head)
        queue->tail = &queue->head;
    job->next = NULL;
    *queue->tail = job;
    queue->tail = &job->next;
    queue->count++;
}

static struct checkpoint_job *queue_get(struct queue *queue)
{
    struct checkpoint_job *job = queue->head;
    if (job) {
        queue->head = job->next;
        queue->count--;
    }
    return job;
}

/* ---- the thread ---- */

static void note_bad(void *context, const struct checkpoint_info *info, const char *reason)
{
    struct checkpoint_job *job = context;
    (void)info;
    if (!job->skipped++ && !job->unwritable) /* the newest one's reason is the one to tell */
        snprintf(job->message, sizeof job->message, "%s", reason);
}

static int no_memory(struct checkpoint_job *job, const char *what)
{
    snprintf(job->message, sizeof job->message, "cannot %s the state's %llu bytes: %s", what,
             (unsigned long long)job->len, strerror(errno));
    return HASUP_ENOMEM;
}

/* Saves what stands in a memfd: mapped here, and closed once it is stored. */
static int save_mapped(struct store *store, struct checkpoint_job *job)
{
    size_t size = (size_t)(job->offset + job->len);
    uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, job->fd, 0);
    if (map == MAP_FAILED)
        return no_memory(job, "map");
    int code = store_save(store, &job->key, job->position, job->created_wall_ns, map + job->offset,
                          job->len, &job->keep, job->message);
    munmap(map, size);
    if (!code) {
        close(job->fd);
        job->fd = -1;
    }
    return code;
}

static int run_save(struct store *store, struct checkpoint_job *job)
{
    if (!job->bytes)
        return save_mapped(store, job);
    return store_save(store, &job->key, job->position, job->created_wall_ns, job->bytes, job->len,
                      &job->keep, job->message);
}

/* ---- load: from the database's rows to where the worker will read it, in one copy ---- */

static void load_drop(struct checkpoint_job *job)
{
    free(job->bytes);
    job->bytes = NULL;
    if (job->fd >= 0)
        close(job->fd);
    job->fd = -1;
}

static int load_begin(void *context, uint64_t len)
{
    struct checkpoint_job *job = context;
    load_drop(job);
    job->len = len;
    if (!job->memfd_above || len <= job->memfd_above)
        return (job->bytes = malloc((size_t)len + 1)) ? 0 : HASUP_ENOMEM;
    job->fd = memfd_create("hasup-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return job->fd >= 0 && ftruncate(job->fd, (off_t)len) == 0 ? 0 : HASUP_ENOMEM;
}

/* Written, not mapped: that takes half the time where every page is new. */
static int load_put(void *context, uint64_t at, const uint8_t *bytes, size_t len)
{
    const struct checkpoint_job *job = context;
    if (job->bytes) {
        memcpy(job->bytes + at, bytes, len);
        return 0;
    }
    while (len) {
        ssize_t put = pwrite(job->fd, bytes, len, (off_t)at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return HASUP_ENOMEM;
        bytes += put;
        at += (uint64_t)put;
        len -= (size_t)put;
    }
    return 0;
}

static void run_load(struct store *store, struct checkpoint_job *job)
{
    struct checkpoint_info info;
    char error[STORE_ERROR] = "";
    const struct store_sink sink = {load_begin, load_put, job};
    job->bytes = NULL;
    job->fd = -1;
    job->error = store_load_into(store, &job->key, &info, &sink, note_bad, job, error);
    if (!job->error && job->fd >= 0 && fcntl(job->fd, F_ADD_SEALS, WRITER_SEALS)) {
        job->error = HASUP_ENOMEM;
        snprintf(error, sizeof error, "cannot seal a state's memfd: %s", strerror(errno));
    }
    if (!job->error) {
        job->position = info.position;
        job->created_wall_ns = info.created_wall_ns;
        return;
    }
    load_drop(job);
    if (!job->skipped && !job->unwritable)
        snprintf(job->message, sizeof job->message, "%s", error);
}

/* Saves a slot's newest good checkpoint of the old store to the new one; the list is by slot. */
struct rescue {
    struct store *from, *to;
    char model[STORE_MODEL];
    uint32_t ordinal;
    char *error;
    int code;
};

static bool rescue_slot(void *context, const struct checkpoint_info *listed)
{
    struct rescue *rescue = context;
    struct checkpoint_key key = {listed->model, listed->ordinal};
    struct checkpoint_info info;
    uint8_t *bytes;
    if (listed->ordinal == rescue->ordinal && strcmp(listed->model, rescue->model) == 0)
        return true;
    memcpy(rescue->model, listed->model, sizeof rescue->model);
    rescue->ordinal = listed->ordinal;
    int code = store_load(rescue->from, &key, &info, &bytes, NULL, NULL, rescue->error);
    if (code) /* nothing of this slot is good there */
        return true;
    rescue->code = store_save(rescue->to, &key, info.position, info.created_wall_ns, bytes,
                              info.len, &(struct store_keep){.last = UINT32_MAX}, rescue->error);
    free(bytes);
    return rescue->code == 0;
}

static int open_store(struct writer *writer, enum store_mode mode, struct store **store,
                      char error[STORE_ERROR])
{
    int code = store_open(writer->path, mode, store, error);
    if (!code)
        store_set(*store, &writer->options);
    return code;
}

/* The file was removed or replaced, perhaps with its directory: begins a new one with what the old
 * one, still open, has.  Until that works the old one stays, to load from. */
static int move_store(struct writer *writer, char error[STORE_ERROR])
{
    struct rescue rescue = {.from = writer->store, .ordinal = UINT32_MAX, .error = error};
    int code = open_store(writer, STORE_WRITE, &rescue.to, error);
    if (!code)
        code = store_list(rescue.from, NULL, rescue_slot, &rescue, error);
    code = code ? code : rescue.code;
    if (code) {
        store_close(rescue.to);
        return code;
    }
    store_close(writer->store);
    writer->store = rescue.to;
    return 0;
}

static int open_for(struct writer *writer, struct checkpoint_job *job)
{
    int code = 0;
    if (!writer->store)
        code = open_store(writer, STORE_WRITE, &writer->store, job->message);
    else if (job->kind == CHECKPOINT_SAVE && store_is_gone(writer->store))
        code = move_store(writer, job->message);
    if (!code || job->kind != CHECKPOINT_LOAD)
        return code;
    /* A disk that takes nothing may still give. */
    char error[STORE_ERROR];
    int read = open_store(writer, STORE_READ, &writer->store, error);
    job->unwritable = !read || read == HASUP_ENOTFOUND;
    return job->unwritable ? read : code;
}

static void run_job(struct writer *writer, struct checkpoint_job *job)
{
    job->error = open_for(writer, job);
    if (!job->error && job->kind == CHECKPOINT_LOAD)
        run_load(writer->store, job);
    else if (!job->error)
        job->error = run_save(writer->store, job);
    bool broken = job->error && job->error != HASUP_ENOTFOUND;
    if (writer->store && (broken || store_is_read_only(writer->store)) &&
        !store_is_gone(writer->store)) {
        store_close(writer->store);
        writer->store = NULL;
    }
}

/* Saving gives way to everybody else on the processor, so that an accepted request never waits for
 * it; restoring does not, where the system allows to take that back. */
static void set_pace(enum checkpoint_job_kind kind)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), kind == CHECKPOINT_SAVE ? NICE_SAVING : 0);
}

static void *writer_main(void *context)
{
    struct writer *writer = context;
    bool untidy = false;
    pthread_mutex_lock(&writer->lock);
    for (;;) {
        struct checkpoint_job *job;
        while (!(job = queue_get(&writer->todo)) && !writer->ending && !untidy)
            pthread_cond_wait(&writer->more, &writer->lock);
        if (!job && writer->ending)
            break;
        if (!job) { /* nobody waits: one step of what is left behind */
            pthread_mutex_unlock(&writer->lock);
            set_pace(CHECKPOINT_SAVE);
            untidy = writer->store && store_tidy(writer->store);
            pthread_mutex_lock(&writer->lock);
            continue;
        }
        pthread_mutex_unlock(&writer->lock);
        set_pace(job->kind);
        run_job(writer, job);
        untidy |= job->kind == CHECKPOINT_SAVE;
        pthread_mutex_lock(&writer->lock);
        queue_put(&writer->done, job);
        pthread_mutex_unlock(&writer->lock);
        writer->wake(writer->context);
        pthread_mutex_lock(&writer->lock);
    }
    pthread_mutex_unlock(&writer->lock);
    store_close(writer->store);
    return NULL;
}

/* ---- the loop's side ---- */

struct writer *writer_new(const char *path, void (*wake)(void *context), void *context)
{
    struct writer *writer = calloc(1, sizeof *writer);
    if (!writer || !(writer->path = strdup(path))) {
        free(writer);
        return NULL;
    }
    writer->wake = wake;
    writer->context = context;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->more, NULL);
    writer->options.cache = STORE_CACHE;
    return writer;
}

void writer_set(struct writer *writer, const struct store_options *options, struct keys *keys)
{
    keys_free(writer->keys);
    writer->options = *options;
    writer->options.keys = writer->keys = keys;
}

static int writer_start(struct writer *writer)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&writer->thread, &attributes, writer_main, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    writer->started = !failed;
    return failed ? HASUP_ENOMEM : 0;
}

int writer_submit(struct writer *writer, struct checkpoint_job *job)
{
    if (!writer->started && (writer->ending || writer_start(writer)))
        return HASUP_ENOMEM;
    pthread_mutex_lock(&writer->lock);
    bool full = writer->todo.count >= WRITER_QUEUE_MAX;
    if (!full) {
        queue_put(&writer->todo, job);
        pthread_cond_signal(&writer->more);
    }
    pthread_mutex_unlock(&writer->lock);
    return full ? HASUP_EFULL : 0;
}

struct checkpoint_job *writer_take(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    struct checkpoint_job *done = writer->done.head;
    writer->done = (struct queue){0};
    pthread_mutex_unlock(&writer->lock);
    return done;
}

void writer_finish(struct writer *writer)
{
    if (!writer->started)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->ending = true;
    pthread_cond_signal(&writer->more);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    writer->started = false;
}

void writer_free(struct writer *writer)
{
    writer_finish(writer);
    pthread_cond_destroy(&writer->more);
    pthread_mutex_destroy(&writer->lock);
    keys_free(writer->keys);
    free(writer->path);
    free(writer);
}
