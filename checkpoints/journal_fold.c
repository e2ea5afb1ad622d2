/*
 * journal_fold.c: folds the WAL back into the file while commits go on, on a thread and a
 * connection of its own, both made when they are first needed.  SQLite lets one connection do that
 * beside another that writes.  What was written meanwhile stays in the WAL: the writer folds that
 * itself, which is little, and only then can the WAL begin anew.  An error here is only more work
 * for the writer, who will meet it, too, and says it.
 */
#include "checkpoints/journal_db.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { THREAD_STACK = 256 * 1024 };

struct journal_fold {
    const char *path;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    bool asked, ending; /* under lock; `asked` until it is done */
};

static void fold_once(struct journal_db *db, const char *path)
{
    char error[SQL_ERROR];
    if (db->db || journal_db_open(db, path, true, error) == 0)
        sqlite3_wal_checkpoint_v2(db->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

static void *fold_main(void *context)
{
    struct journal_fold *fold = context;
    struct journal_db db = {0};
    pthread_mutex_lock(&fold->lock);
    for (;;) {
        while (!fold->asked && !fold->ending)
            pthread_cond_wait(&fold->more, &fold->lock);
        if (fold->ending)
            break;
        pthread_mutex_unlock(&fold->lock);
        fold_once(&db, fold->path);
        pthread_mutex_lock(&fold->lock);
        fold->asked = false;
        pthread_cond_signal(&fold->done);
    }
    pthread_mutex_unlock(&fold->lock);
    journal_db_close(&db);
    return NULL;
}

static bool start(struct journal_fold *fold)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = !pthread_create(&fold->thread, &attributes, fold_main, fold);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

static void destroy(struct journal_fold *fold)
{
    pthread_cond_destroy(&fold->done);
    pthread_cond_destroy(&fold->more);
    pthread_mutex_destroy(&fold->lock);
    free(fold);
}

struct journal_fold *journal_fold_new(const char *path)
{
    struct journal_fold *fold = calloc(1, sizeof *fold);
    if (!fold)
        return NULL;
    fold->path = path;
    pthread_mutex_init(&fold->lock, NULL);
    pthread_cond_init(&fold->more, NULL);
    pthread_cond_init(&fold->done, NULL);
    if (start(fold))
        return fold;
    destroy(fold);
    return NULL;
}

void journal_fold_begin(struct journal_fold *fold)
{
    pthread_mutex_lock(&fold->lock);
    fold->asked = true;
    pthread_cond_signal(&fold->more);
    pthread_mutex_unlock(&fold->lock);
}

bool journal_fold_runs(struct journal_fold *fold)
{
    pthread_mutex_lock(&fold->lock);
    bool runs = fold->asked;
    pthread_mutex_unlock(&fold->lock);
    return runs;
}

void journal_fold_wait(struct journal_fold *fold)
{
    pthread_mutex_lock(&fold->lock);
    while (fold->asked)
        pthread_cond_wait(&fold->done, &fold->lock);
    pthread_mutex_unlock(&fold->lock);
}

void journal_fold_free(struct journal_fold *fold)
{
    if (!fold)
        return;
    pthread_mutex_lock(&fold->lock);
    fold->ending = true;
    pthread_cond_signal(&fold->more);
    pthread_mutex_unlock(&fold->lock);
    pthread_join(fold->thread, NULL);
    destroy(fold);
}
