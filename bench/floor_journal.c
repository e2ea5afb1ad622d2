/*
 * floor_journal.c: the least journal that keeps what was accepted: one table in SQLite, WAL,
 * synchronous=FULL, one transaction for all that waits, on the caller's thread where that is little
 * and on a thread of its own where it is much.  No checksums, no keys, no limits, no recovery; an
 * error ends the program.
 */
#include "bench/floor.h"

#include <pthread.h>
#include <stdio.h>
#include <sqlite3.h>

enum { INLINE_OPS = 16, GROUP = 256 };

struct queue {
    struct floor_op *head, *last;
};

static struct journal {
    sqlite3 *db;
    sqlite3_stmt *begin, *commit, *writes[FLOOR_DELETE + 1];
    void (*wake)(void *context);
    void *context;
    struct queue added;
    unsigned added_ops;
    bool urgent; /* somebody waits for what was added */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue todo, done;
    bool busy;
} journal;

static void put(struct queue *queue, struct floor_op *first, struct floor_op *last)
{
    last->next = NULL;
    if (queue->head)
        queue->last->next = first;
    else
        queue->head = first;
    queue->last = last;
}

static struct floor_op *take_group(struct queue *queue, struct floor_op **last)
{
    struct floor_op *first = queue->head, *op = first;
    for (unsigned i = 1; op && op->next && i < GROUP; i++)
        op = op->next;
    if (first) {
        queue->head = op->next;
        op->next = NULL;
        *last = op;
    }
    return first;
}

static void step(sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE)
        bench_fail("the floor's journal: %s", sqlite3_errmsg(journal.db));
    sqlite3_reset(statement);
}

static void commit(const struct floor_op *op)
{
    step(journal.begin);
    for (; op; op = op->next) {
        sqlite3_stmt *write = journal.writes[op->write];
        sqlite3_bind_int64(write, 1, (int64_t)op->record);
        if (op->write != FLOOR_DELETE)
            sqlite3_bind_blob(write, 2, op->bytes, (int)op->len, SQLITE_STATIC);
        step(write);
    }
    step(journal.commit);
}

static void *thread_main(void *context)
{
    pthread_mutex_lock(&journal.lock);
    for (;;) {
        struct floor_op *group, *last;
        while (!(group = take_group(&journal.todo, &last)))
            pthread_cond_wait(&journal.more, &journal.lock);
        journal.busy = true;
        pthread_mutex_unlock(&journal.lock);
        commit(group);
        pthread_mutex_lock(&journal.lock);
        journal.busy = false;
        put(&journal.done, group, last);
        journal.wake(journal.context);
    }
    return context;
}

static void prepare(const char *sql, sqlite3_stmt **statement)
{
    if (sqlite3_prepare_v2(journal.db, sql, -1, statement, NULL) != SQLITE_OK)
        bench_fail("the floor's journal: %s", sqlite3_errmsg(journal.db));
}

void floor_journal_open(const char *path, void (*wake)(void *context), void *context)
{
    pthread_t thread;
    journal.wake = wake;
    journal.context = context;
    pthread_mutex_init(&journal.lock, NULL);
    pthread_cond_init(&journal.more, NULL);
    if (sqlite3_open(path, &journal.db) != SQLITE_OK ||
        sqlite3_exec(journal.db,
                     "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;"
                     "PRAGMA synchronous = FULL;"
                     "CREATE TABLE request (record INTEGER PRIMARY KEY, bytes BLOB)",
                     NULL, NULL, NULL) != SQLITE_OK)
        bench_fail("%s: %s", path, sqlite3_errmsg(journal.db));
    prepare("BEGIN IMMEDIATE", &journal.begin);
    prepare("COMMIT", &journal.commit);
    prepare("INSERT INTO request VALUES (?1, ?2)", &journal.writes[FLOOR_ACCEPT]);
    prepare("UPDATE request SET bytes = ?2 WHERE record = ?1", &journal.writes[FLOOR_ANSWER]);
    prepare("DELETE FROM request WHERE record = ?1", &journal.writes[FLOOR_DELETE]);
    if (pthread_create(&thread, NULL, thread_main, NULL))
        bench_fail("no thread for the floor's journal");
}

void floor_journal_add(struct floor_op *op)
{
    put(&journal.added, op, op);
    journal.added_ops++;
    journal.urgent |= op->write != FLOOR_DELETE;
}

void floor_journal_flush(void)
{
    if (!journal.urgent && journal.added_ops < GROUP)
        return;
    pthread_mutex_lock(&journal.lock);
    bool here = !journal.busy && !journal.todo.head && journal.added_ops <= INLINE_OPS;
    if (!here) {
        put(&journal.todo, journal.added.head, journal.added.last);
        pthread_cond_signal(&journal.more);
    }
    pthread_mutex_unlock(&journal.lock);
    if (here) {
        commit(journal.added.head);
        pthread_mutex_lock(&journal.lock);
        put(&journal.done, journal.added.head, journal.added.last);
        pthread_mutex_unlock(&journal.lock);
    }
    journal.added = (struct queue){0};
    journal.added_ops = 0;
    journal.urgent = false;
}

struct floor_op *floor_journal_take(void)
{
    pthread_mutex_lock(&journal.lock);
    struct floor_op *done = journal.done.head;
    journal.done = (struct queue){0};
    pthread_mutex_unlock(&journal.lock);
    return done;
}
