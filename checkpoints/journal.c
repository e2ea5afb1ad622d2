/*
 * journal.c: journal.db as the loop sees it.  Owns the file's lock, the connection, the queues and
 * the thread.  The connection belongs to the thread while it is `busy` or something is in `todo` or
 * to be cleared away, else to the loop's thread, which then commits inline; the mutex hands it
 * over. So nothing is ever committed inline while older operations wait.
 *
 * A failed commit is its operations' error; later ones are tried again.  Files, their tables and
 * transactions: journal_db.c, journal_commit.c.
 */
#include "checkpoints/journal.h"
#include "checkpoints/journal_db.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREAD_STACK = 256 * 1024, QUICK_CHECK_BYTES = 64 * 1024 * 1024 };

struct queue {
    struct journal_op *head, *last;
};

struct journal {
    char *path;
    int lock_fd; /* holds the flock; closed after SQLite's own descriptors; the owner's, as db */
    struct stat locked;
    void (*wake)(void *context);
    void *context;
    struct journal_db db; /* whose: see above; `fold` and `folding` likewise */
    struct journal_fold *fold;
    bool folding; /* a fold was begun there; the rest of it is due when that is done */
    struct journal_reader reader;
    struct queue added; /* of this turn; the loop's thread only */
    size_t added_ops, added_bytes;
    bool added_fetch, urgent; /* urgent: not all of it is lazy */
    bool started;             /* the loop's thread only */
    bool goes_on;             /* with the run that the file is marked with */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct queue todo, done; /* these under lock */
    bool busy, chores, ending;
    int failed; /* why the last commit failed, until that is taken back; 0 */
    char error[SQL_ERROR];
    struct journal_stats stats;
    char shown[SQL_ERROR]; /* what journal_last_error gave; the loop's */
};

/* ---- queues ---- */

static void queue_put(struct queue *queue, struct journal_op *first, struct journal_op *last)
{
    last->next = NULL;
    if (queue->head)
        queue->last->next = first;
    else
        queue->head = first;
    queue->last = last;
}

static size_t op_bytes(const struct journal_op *op)
{
    return journal_op_reads(op) ? 0 : op->key.len + op->meta.len + op->body.len + op->reports.len;
}

/* Takes the next group off: bounded by number and bytes, so a large operation is alone. */
static struct journal_op *queue_group(struct queue *queue, struct journal_op **last)
{
    struct journal_op *first = queue->head, *op = first;
    if (!first)
        return NULL;
    size_t count = 1, bytes = op_bytes(op);
    while (op->next && count < JOURNAL_GROUP && bytes + op_bytes(op->next) <= JOURNAL_GROUP_BYTES) {
        op = op->next;
        bytes += op_bytes(op);
        count++;
    }
    queue->head = op->next;
    op->next = NULL;
    *last = op;
    return first;
}

/* ---- opening ---- */

static int system_error(const char *path, const char *step, int why, char error[JOURNAL_ERROR])
{
    snprintf(error, JOURNAL_ERROR, "%.150s: %s: %s", path, step, strerror(why));
    return HASUP_EIO;
}

static int sync_directory(const char *path, char error[JOURNAL_ERROR])
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return failed ? system_error(path, "sync its directory", failed, error) : 0;
}

/* Makes the file where it is missing, and locks it against a second hasupd.  SQLite's locks are of
 * another kind (POSIX), which readers share; this one nobody else takes. */
static int lock_file(struct journal *journal, bool *created, char error[JOURNAL_ERROR])
{
    journal->lock_fd = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (journal->lock_fd < 0) /* a lock needs no more */
        journal->lock_fd = open(journal->path, O_RDONLY | O_CLOEXEC);
    if (journal->lock_fd < 0)
        return system_error(journal->path, "open", errno, error);
    if (flock(journal->lock_fd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return system_error(journal->path, "lock", errno, error);
        snprintf(error, JOURNAL_ERROR, "%.180s: another hasupd has it open", journal->path);
        return HASUP_EINVAL;
    }
    if (fstat(journal->lock_fd, &journal->locked))
        return system_error(journal->path, "stat", errno, error);
    *created = journal->locked.st_size == 0;
    return *created ? sync_directory(journal->path, error) : 0;
}

/* A small file is checked at each start, a large one by the audit. */
static int check_file(struct journal *journal, char error[JOURNAL_ERROR])
{
    sqlite3 *sqlite = journal->db.db;
    sqlite3_stmt *check;
    int64_t pages = sql_number(sqlite, "PRAGMA page_count");
    if (pages * 4096 > QUICK_CHECK_BYTES)
        return 0;
    if (sqlite3_prepare_v2(sqlite, "PRAGMA quick_check(1)", -1, &check, NULL) != SQLITE_OK)
        return sql_failed(sqlite, journal->path, "check", error);
    const char *text =
        sqlite3_step(check) == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    int code = 0;
    if (!text) {
        code = sql_failed(sqlite, journal->path, "check", error);
    } else if (strcmp(text, "ok")) {
        snprintf(error, JOURNAL_ERROR, "%.100s: SQLite finds it damaged: %.120s", journal->path,
                 text);
        code = HASUP_ECORRUPT;
    }
    sqlite3_finalize(check);
    return code;
}

/* The last run's marker; zeros and `bad` where it is damaged. */
static int read_run(struct journal *journal, struct row_run *run, char error[JOURNAL_ERROR])
{
    sqlite3_stmt *select;
    struct journal_db *db = &journal->db;
    if (sqlite3_prepare_v2(db->db, "SELECT began, last, clean, reserved, sum FROM run", -1, &select,
                           NULL) != SQLITE_OK)
        return sql_failed(db->db, db->path, "read", error);
    int got = sqlite3_step(select);
    if (got == SQLITE_ROW) {
        run->began_wall_ns = sqlite3_column_int64(select, 0);
        run->last_wall_ns = sqlite3_column_int64(select, 1);
        run->clean = sqlite3_column_int(select, 2);
        run->reserved = (uint64_t)sqlite3_column_int64(select, 3);
        if ((uint64_t)sqlite3_column_int64(select, 4) != row_run_sum(run)) {
            *run = (struct row_run){.reserved = UINT64_C(1) << 40};
            journal->reader.bad(journal->context, 0, "the run marker does not fit its checksum");
        }
    }
    int code =
        got == SQLITE_ROW || got == SQLITE_DONE ? 0 : sql_failed(db->db, db->path, "read", error);
    sqlite3_finalize(select);
    return code;
}

static uint64_t count(struct journal *journal, const char *sql, bool *failed)
{
    int64_t found = sql_number(journal->db.db, sql);
    *failed = *failed || found < 0;
    return found > 0 ? (uint64_t)found : 0;
}

static void count_rows(struct journal *journal, struct journal_summary *summary, bool *failed)
{
    summary->finished = count(journal, "SELECT count(*) FROM result", failed);
    summary->unfinished =
        count(journal, "SELECT count(*) FROM request", failed) - summary->finished;
    summary->logged = count(journal,
                            "SELECT count(*) FROM result s WHERE s.position > 0 AND s.position >"
                            " coalesce((SELECT t.position FROM trim t WHERE t.model = s.model"
                            " AND t.ordinal = s.ordinal), 0)",
                            failed);
}

static int summarize(struct journal *journal, struct journal_summary *summary,
                     char error[JOURNAL_ERROR])
{
    bool failed = false;
    uint64_t newest = count(journal, "SELECT max(record) FROM request", &failed);
    struct journal_db *db = &journal->db;
    if (!journal->goes_on)
        count_rows(journal, summary, &failed);
    summary->next_record = db->run.reserved > newest ? db->run.reserved : newest + 1;
    db->run.reserved = summary->next_record;
    db->highest = summary->next_record - 1;
    db->last_event = count(journal, "SELECT max(id) FROM event", &failed);
    db->stats.events = count(journal, "SELECT count(*) FROM event", &failed);
    db->stats.letters = count(journal, "SELECT count(*) FROM letter", &failed);
    db->stats_stored = db->stats;
    if (count(journal, "SELECT EXISTS (SELECT 1 FROM chunk)", &failed))
        db->chores |= CHORE_SWEEP;
    if (count(journal, "SELECT EXISTS (SELECT 1 FROM trim WHERE done <> position)", &failed))
        db->chores |= CHORE_TRIM;
    return failed ? sql_failed(db->db, db->path, "count", error) : 0;
}

/* Reads what the last run left.  The new one's marker is the connection's from here on. */
static int look_back(struct journal *journal, struct journal_summary *summary,
                     char error[JOURNAL_ERROR])
{
    struct row_run last = {.clean = summary->created, .reserved = 1};
    struct journal_db *db = &journal->db;
    int code = read_run(journal, &last, error);
    if (code)
        return code;
    summary->clean = last.clean;
    summary->last_wall_ns = last.last_wall_ns;
    /* A marker that does not say that the run is under way is written anew. */
    journal->goes_on = journal->goes_on && last.began_wall_ns && !last.clean;
    db->run.reserved = last.reserved;
    code = summarize(journal, summary, error);
    db->run.began_wall_ns = journal->goes_on ? last.began_wall_ns : journal_wall_ns();
    if (journal->goes_on)
        db->run.last_wall_ns = last.last_wall_ns;
    db->run_stored = db->run;
    return code;
}

static int begin_run(struct journal *journal, struct journal_summary *summary,
                     char error[JOURNAL_ERROR])
{
    struct journal_db *db = &journal->db;
    int code = journal_db_open(db, journal->path, true, error);
    if (!code && !summary->created && !journal->goes_on)
        code = check_file(journal, error);
    if (!code)
        code = look_back(journal, summary, error);
    if (code)
        return code;
    if (!journal->goes_on) {
        db->run.last_wall_ns = db->run.began_wall_ns;
        db->run_stored = db->run;
        if (journal_db_mark(db) != SQLITE_OK)
            return sql_failed(db->db, db->path, "begin the run", error);
    }
    journal->chores = db->chores != 0;
    journal->stats = db->stats;
    return 0;
}

/* The disk cannot be written, but what stands there must not be forgotten: it is read, and the
 * first commit that succeeds begins the run. */
static int begin_unwritable(struct journal *journal, struct journal_summary *summary,
                            char error[JOURNAL_ERROR])
{
    struct journal_db *db = &journal->db;
    char why[JOURNAL_ERROR];
    journal_db_close(db);
    *db = (struct journal_db){.path = db->path,
                              .events_max = db->events_max,
                              .events_age = db->events_age,
                              .letters_max = db->letters_max};
    int code = journal_db_open(db, journal->path, false, why);
    if (!code)
        code = look_back(journal, summary, why);
    journal_db_close(db);
    if (code)
        return code;
    summary->unwritable = true;
    memcpy(journal->error, error, sizeof journal->error);
    return 0;
}

static void nobody(void *context, uint64_t record, const char *reason)
{
    (void)context;
    (void)record;
    (void)reason;
}

static struct journal *journal_new(const struct journal_options *options)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (!journal || !(journal->path = strdup(options->path))) {
        free(journal);
        return NULL;
    }
    journal->lock_fd = -1;
    journal->wake = options->wake;
    journal->context = options->context;
    journal->goes_on = options->goes_on;
    journal->db.path = journal->reader.db.path = journal->path;
    journal->db.events_max = options->events_max;
    journal->db.events_age = options->events_age;
    journal->db.letters_max = options->letters_max;
    journal->reader.bad = options->bad ? options->bad : nobody;
    journal->reader.context = options->context;
    pthread_mutex_init(&journal->lock, NULL);
    pthread_cond_init(&journal->more, NULL);
    return journal;
}

static void journal_free(struct journal *journal)
{
    journal_fold_free(journal->fold);
    journal_db_close(&journal->reader.db);
    journal_db_close(&journal->db);
    if (journal->lock_fd >= 0)
        close(journal->lock_fd);
    pthread_cond_destroy(&journal->more);
    pthread_mutex_destroy(&journal->lock);
    free(journal->path);
    free(journal);
}

int journal_open(const struct journal_options *options, struct journal **out,
                 struct journal_summary *summary, char error[JOURNAL_ERROR])
{
    *out = NULL;
    *summary = (struct journal_summary){0};
    struct journal *journal = journal_new(options);
    if (!journal) {
        snprintf(error, JOURNAL_ERROR, "%.200s: out of memory", options->path);
        return HASUP_ENOMEM;
    }
    int code = lock_file(journal, &summary->created, error);
    if (!code) {
        code = begin_run(journal, summary, error);
        if (code == HASUP_EIO && !summary->created)
            code = begin_unwritable(journal, summary, error);
    }
    if (code) {
        journal_free(journal);
        return code;
    }
    *out = journal;
    return 0;
}

struct journal_reader *journal_reader(struct journal *journal)
{
    return &journal->reader;
}

/* ---- committing ---- */

/* The fold of the WAL waits while its long part is under way and there is room for more. */
static unsigned chores_due(const struct journal *journal)
{
    bool waits = journal->folding && journal->db.wal_pages < WAL_PAGES_MOST &&
                 journal_fold_runs(journal->fold);
    return waits ? journal->db.chores & ~(unsigned)CHORE_CHECKPOINT : journal->db.chores;
}

/* One step, by who has the connection. */
static void do_chore(struct journal *journal)
{
    unsigned chores = chores_due(journal);
    if ((chores & CHORE_CHECKPOINT) && !journal->folding) {
        if (!journal->fold)
            journal->fold = journal_fold_new(journal->path);
        if (journal->fold) {
            journal_fold_begin(journal->fold);
            journal->folding = true;
            return;
        }
    }
    if (journal->folding && (chores & CHORE_CHECKPOINT)) {
        journal_fold_wait(journal->fold);
        journal->folding = false;
    }
    journal_db_chore(&journal->db, chores);
}

/* What the connection's owner found, for all to see; under lock. */
static void publish(struct journal *journal)
{
    journal->chores = chores_due(journal) != 0;
    journal->stats = journal->db.stats;
    memcpy(journal->error, journal->db.error, sizeof journal->error);
}

/* Fails all of a queue: what came before it is not stored.  Under lock. */
static void fail_all(struct journal *journal, struct queue *queue)
{
    for (struct journal_op *op = queue->head; op; op = op->next)
        op->error = journal->failed;
    if (queue->head)
        queue_put(&journal->done, queue->head, queue->last);
    *queue = (struct queue){0};
}

static bool is_taken_away(const struct journal *journal)
{
    struct stat now;
    return journal->lock_fd < 0 || stat(journal->path, &now) ||
           now.st_ino != journal->locked.st_ino || now.st_dev != journal->locked.st_dev;
}

void journal_file(const struct journal *journal, uint64_t *device, uint64_t *inode)
{
    const bool there = journal->lock_fd >= 0;
    *device = there ? journal->locked.st_dev : 0;
    *inode = there ? journal->locked.st_ino : 0;
}

static void unlock_file(struct journal *journal)
{
    journal_db_close(&journal->db);
    if (journal->lock_fd >= 0)
        close(journal->lock_fd);
    journal->lock_fd = -1;
}

/* Begins an empty file where there was one; never goes on with one that somebody put there, whose
 * records nobody was given back. */
static int begin_anew(struct journal *journal)
{
    struct journal_db *db = &journal->db;
    bool created = false;
    int code = lock_file(journal, &created, db->error);
    if (!code && !created) {
        snprintf(db->error, SQL_ERROR, "%.150s: was replaced while hasupd ran: restart hasupd",
                 journal->path);
        code = HASUP_EIO;
    }
    if (code)
        unlock_file(journal);
    db->run.last_wall_ns = 0; /* the first commit writes the marker */
    db->run_stored = db->run;
    db->stats = db->stats_stored = (struct journal_stats){0};
    return code;
}

/* By the connection's owner.  What is written to a file that was removed is kept by nobody. */
static int commit(struct journal *journal, struct journal_op *group, bool may_wait)
{
    struct journal_db *db = &journal->db;
    int code = 0;
    if (is_taken_away(journal) && journal->lock_fd >= 0) {
        unlock_file(journal);
        db->chores = 0;
        snprintf(db->error, SQL_ERROR, "%.150s: was removed or replaced; what it held is lost",
                 journal->path);
        code = HASUP_EIO;
    } else if (is_taken_away(journal)) {
        code = begin_anew(journal);
    }
    return code ? journal_db_refuse(db, group, code) : journal_db_commit(db, group, may_wait);
}

static void *journal_main(void *context)
{
    struct journal *journal = context;
    bool chore = false;
    pthread_mutex_lock(&journal->lock);
    for (;;) {
        struct journal_op *last = NULL, *group;
        while (!journal->todo.head && !journal->chores && !journal->ending)
            pthread_cond_wait(&journal->more, &journal->lock);
        /* A step of a chore and a group take turns. */
        chore = journal->chores && !(journal->todo.head && chore) && !journal->ending;
        group = chore ? NULL : queue_group(&journal->todo, &last);
        if (!group && !chore)
            break;
        journal->busy = true;
        pthread_mutex_unlock(&journal->lock);
        int code = 0;
        if (group)
            code = commit(journal, group, true);
        else
            do_chore(journal);
        pthread_mutex_lock(&journal->lock);
        journal->busy = false;
        publish(journal);
        bool first = group && !journal->done.head; /* else a wake is under way */
        if (group)
            queue_put(&journal->done, group, last);
        if (code) {
            journal->failed = code;
            fail_all(journal, &journal->todo);
        }
        if (first)
            journal->wake(journal->context);
    }
    pthread_mutex_unlock(&journal->lock);
    return NULL;
}

static bool start(struct journal *journal)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (journal->started)
        return true;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK);
    /* Signals are the loop's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    journal->started = !pthread_create(&journal->thread, &attributes, journal_main, journal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return journal->started;
}

/* Commits all that was added on this thread, which has the connection.  False: another process
 * holds the file, and waiting is not for the loop. */
static bool commit_here(struct journal *journal, bool may_wait)
{
    while (journal->added.head) {
        struct journal_op *last, *group = queue_group(&journal->added, &last);
        int code = commit(journal, group, may_wait);
        if (code == HASUP_EAGAIN) {
            last->next = journal->added.head;
            if (!journal->added.head)
                journal->added.last = last;
            journal->added.head = group;
            return false;
        }
        pthread_mutex_lock(&journal->lock);
        queue_put(&journal->done, group, last);
        publish(journal);
        if (code) {
            journal->failed = code;
            fail_all(journal, &journal->added);
        }
        pthread_mutex_unlock(&journal->lock);
    }
    return true;
}

/* ---- the loop's side ---- */

void journal_add(struct journal *journal, struct journal_op *op)
{
    queue_put(&journal->added, op, op);
    journal->added_ops++;
    journal->added_bytes += op_bytes(op);
    journal->added_fetch |= journal_op_reads(op);
    journal->urgent |= !op->lazy || journal->added_ops >= JOURNAL_GROUP;
}

void journal_sync(struct journal *journal)
{
    journal->urgent = true;
}

/* Whether what was added is to be committed by the thread; also lends it the connection for chores.
 */
static bool for_thread(struct journal *journal)
{
    bool much = journal->added_ops > JOURNAL_INLINE_OPS ||
                journal->added_bytes > JOURNAL_INLINE_BYTES || journal->added_fetch;
    pthread_mutex_lock(&journal->lock);
    bool taken = journal->busy || journal->todo.head || journal->chores || *journal->error;
    pthread_mutex_unlock(&journal->lock);
    return (much || taken) && start(journal);
}

static void hand_over(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    if (journal->added.head)
        queue_put(&journal->todo, journal->added.head, journal->added.last);
    pthread_cond_signal(&journal->more);
    pthread_mutex_unlock(&journal->lock);
    journal->added = (struct queue){0};
}

bool journal_flush(struct journal *journal)
{
    if (!journal->reader.in_use)
        journal_db_close(&journal->reader.db);
    pthread_mutex_lock(&journal->lock);
    if (journal->failed)
        fail_all(journal, &journal->added);
    pthread_mutex_unlock(&journal->lock);
    if (journal->added.head && journal->urgent) {
        if (for_thread(journal) || !(commit_here(journal, false) || !start(journal)))
            hand_over(journal);
        else
            commit_here(journal, true); /* what is left where there can be no thread */
    }
    if (!journal->added.head) {
        journal->added_ops = journal->added_bytes = 0;
        journal->added_fetch = journal->urgent = false;
    }
    pthread_mutex_lock(&journal->lock);
    bool done = journal->done.head != NULL, chores = journal->chores;
    if (chores && journal->started)
        pthread_cond_signal(&journal->more);
    pthread_mutex_unlock(&journal->lock);
    if (chores && !start(journal)) {
        do_chore(journal);
        publish(journal);
    }
    return done;
}

struct journal_op *journal_take(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_op *done = journal->done.head;
    journal->done = (struct queue){0};
    journal->failed = 0;
    pthread_mutex_unlock(&journal->lock);
    return done;
}

struct journal_stats journal_stats(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_stats stats = journal->stats;
    pthread_mutex_unlock(&journal->lock);
    return stats;
}

const char *journal_last_error(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    memcpy(journal->shown, journal->error, sizeof journal->shown);
    pthread_mutex_unlock(&journal->lock);
    return journal->shown;
}

/* Where it fails the next start says that this run did not end cleanly, which is true. */
static int end_run(struct journal *journal)
{
    struct journal_db *db = &journal->db;
    if (!db->db)
        return HASUP_EIO;
    db->run.last_wall_ns = journal_wall_ns();
    db->run.clean = true;
    db->run.reserved = db->highest + 1;
    return journal_db_mark(db) == SQLITE_OK ? 0 : HASUP_EIO;
}

int journal_close(struct journal *journal, bool clean)
{
    if (!journal)
        return 0;
    journal_sync(journal);
    journal_flush(journal);
    if (journal->started) {
        pthread_mutex_lock(&journal->lock);
        journal->ending = true;
        pthread_cond_signal(&journal->more);
        pthread_mutex_unlock(&journal->lock);
        pthread_join(journal->thread, NULL);
    }
    int code = *journal->db.error ? HASUP_EIO : 0;
    if (clean && end_run(journal))
        code = HASUP_EIO;
    journal_free(journal);
    return code;
}
