/*
 * journal.h: journal.db: what hasupd accepted and must not forget, in SQLite (WAL,
 * synchronous=FULL).
 *
 * The loop's thread adds operations during a turn and flushes at its end.  What waits is committed
 * in one transaction, in the order in which it was added: at once on the calling thread where
 * little waits, because that costs less than waking a thread, else on the journal's own thread.
 * Completions come back in the same order; an operation and the bytes that it names belong to the
 * journal in between.  Nothing is durable before its completion says so.
 *
 * What an error means.  A transaction is stored whole or not at all; where it could not be
 * committed, each of its operations gets the error and a running hasupd never sees any of it: the
 * journal at once writes over what may have reached the disk.  Only where that fails too (the disk
 * takes nothing more) and the process or the machine then dies before a later commit succeeded, the
 * next run may find that last transaction stored after all, whole, because the disk took what it
 * said that it did not.  So HASUP_EIO says: not promised; it may be run once, if the client comes
 * back or not.  What was reported done is there in every case.
 *
 * A failed commit takes with it all that was added before the failure was taken back: nothing is
 * ever stored without what came before it.
 *
 * One request is one row of `request`, known by its `record`, a number that grows and is never used
 * twice.  It lives from ACCEPT to FORGET: accepted, then finished (RESULT), and finally forgotten
 * when its result has expired and no slot's log needs it.
 *
 * A dead letter is a request that was quarantined: one row of `letter` for each model and body,
 * known by their 128-bit hash, with the reports of the workers that died of it, and its meta and
 * body where they are to be kept.  As long as its `expires` has not come, the body is refused; who
 * LIFTs it takes both away, the letter and the refusal.  It belongs to no row of `request` and
 * outlives it.
 *
 * The journal decides nothing: who expires when is the core's to say.  Only checkpoints/ knows
 * SQLite.
 */
#ifndef HASUP_CHECKPOINTS_JOURNAL_H
#define HASUP_CHECKPOINTS_JOURNAL_H

#include "ipc/base.h"

enum {
    JOURNAL_ERROR = 256,
    JOURNAL_SCHEMA = 2,      /* user_version; a newer one is refused, 1 is brought up to it */
    JOURNAL_INLINE_OPS = 16, /* at most this many are committed on the calling thread */
    JOURNAL_INLINE_BYTES = 64 * 1024,
    JOURNAL_GROUP = 256,               /* most operations of one transaction */
    JOURNAL_GROUP_BYTES = 1024 * 1024, /* a larger one is alone */
    JOURNAL_STEP = 256,                /* most rows that one transaction clears away */
};

#define JOURNAL_OPS(X)                                                                             \
    X(ACCEPT) /* record, token, model, key, body_hash, flags, priority, created, deadline, meta,   \
               * body */                                                                           \
    X(CHUNK)  /* record, number (from 1), meta (of the first), body */                             \
    X(RESULT) /* record, status, attempts, flags, number (of its chunks), finished, expires, meta, \
               * body; and the slot's log: ordinal, position, digest (0: none).  Without it the    \
               * request's own meta and body go.  HASUP_ENOTFOUND: never accepted, or forgotten */ \
    X(DONE)   /* record: accepted, and ended without a result, chunks or a place in a log: its row \
               * goes.  HASUP_ENOTFOUND: never accepted, or forgotten */                           \
    X(FORGET) /* record: all that is stored of it goes, chunks too (many of them later, in steps); \
               * of one in a slot's log when TRIM covers it.  No error where there is nothing */   \
    X(TRIM)   /* model, ordinal, position: a durable checkpoint covers the log up to there: the    \
               * bodies of finished requests up to it, and all of the forgotten ones, are needed   \
               * no more, and go in steps */                                                       \
    X(EVENT)  /* created, body: one lifecycle event as a JSON object; the oldest go above          \
               * journal_options.events_max */                                                     \
    X(LETTER) /* hash, model, record (0: it was volatile), attempts, priority, flags, created,     \
               * expires, reports (a JSON array), meta, body: a dead letter.  One of the same hash \
               * is replaced; the oldest go above journal_options.letters_max */                   \
    X(LIFT)   /* hash: the dead letter goes.  No error where there is none */                      \
    X(FETCH_LETTER) /* reads a dead letter into `letter`; always on the thread: by hash; where     \
                     * that is 0, the newest of `record`; where that is 0, too, the newest with a                             \
                     * number below `position` (0: any), without meta and body.  HASUP_ENOTFOUND,                               \
                     * HASUP_ECORRUPT */                                                           \
    X(LIST)  /* record, number, model: reads the heads of requests with a smaller record (0: all), \
              * newest first, into `listed`; looks at `number` rows at most, and passes over those \
              * of another model than the one that is named (NULL: none is); always on the thread  \
              */                                                                                   \
    X(FETCH) /* record, number: reads a finished request's status, attempts, meta, body and its    \
              * chunks after `number` (0: all); always on the thread.  HASUP_ENOTFOUND: not        \
              * finished or not there; HASUP_ECORRUPT: a part of it is damaged or gone, so there   \
              * is none */

enum journal_op_kind {
#define JOURNAL_OP_ENUM(name) JOURNAL_##name,
    JOURNAL_OPS(JOURNAL_OP_ENUM)
#undef JOURNAL_OP_ENUM
};

enum {
    JOURNAL_ASYNC = 1 << 0,    /* ACCEPT: its client asked for respond-async */
    JOURNAL_KEYED = 1 << 1,    /* ACCEPT: it has an idempotency key (which may be empty bytes) */
    JOURNAL_REFUSED = 1 << 2,  /* RESULT: a refusal: status, and its code and text in `meta` */
    JOURNAL_STREAMED = 1 << 3, /* RESULT: its chunks are part of the answer */
    JOURNAL_KEPT = 1 << 4,     /* LETTER: meta and body are there (a body may be empty bytes) */
};

enum { JOURNAL_LISTED_KEY = 256 };
enum { JOURNAL_REPORTS_MAX = 64 * 1024 /* bytes of a dead letter's reports: HASUP_ETOOBIG */ };

struct journal_bytes {
    const uint8_t *at; /* NULL where len is 0 */
    size_t len;
};

struct journal_chunk { /* FETCH: malloc'ed, the taker's, with everything it names */
    struct journal_chunk *next;
    uint32_t number;
    size_t meta_len, len;
    uint8_t bytes[]; /* meta, then the chunk's */
};

struct journal_listed { /* LIST: one request; malloc'ed with all that it names, the taker's */
    struct journal_listed *next;
    uint64_t record, token;
    const char *model;
    uint32_t flags;    /* JOURNAL_ASYNC, KEYED, and of its end REFUSED, STREAMED */
    uint32_t status;   /* of its end; 0: it has none yet */
    uint32_t attempts; /* likewise */
    uint8_t priority;
    int64_t created_wall_ns, deadline_wall_ns, finished_wall_ns, expires_wall_ns; /* 0: none */
    struct journal_bytes key; /* at most JOURNAL_LISTED_KEY bytes of it */
    uint64_t body_len;        /* of the request; 0 where it is gone */
    uint64_t answer_len;      /* of the answer, without the chunks of a stream */
};

struct journal_letter {
    uint64_t number;  /* grows: the newest has the greatest */
    uint64_t hash[2]; /* of model and body */
    const char *model;
    uint64_t record; /* of the durable request; 0: it was volatile */
    uint32_t attempts, flags;
    uint8_t priority;
    int64_t created_wall_ns, expires_wall_ns; /* quarantined, and until when its body is refused */
    struct journal_bytes reports;    /* JSON: an array, one object for each worker that died */
    struct journal_bytes meta, body; /* as they were submitted; only where JOURNAL_KEPT */
    uint64_t body_len;               /* also where `body` was not read */
};

struct journal_op {
    enum journal_op_kind kind;
    bool lazy; /* nobody waits: it rides in the commit of what comes after it, or at journal_sync */
    uint32_t flags, ordinal, number, status, attempts;
    uint32_t batch_place; /* RESULT with a position: how many stood before it in its batch */
    uint8_t priority;
    uint64_t record, token, body_hash, position, digest;
    int64_t created_wall_ns, deadline_wall_ns, finished_wall_ns, expires_wall_ns; /* 0: none */
    uint64_t hash[2];                     /* LETTER, LIFT, FETCH_LETTER */
    int64_t commit_ns;                    /* how long the commit took that it was the first of; else 0 */
    const char *model;                    /* borrowed until the operation is taken back */
    struct journal_bytes key, meta, body; /* borrowed likewise; FETCH: see `fetched` */
    struct journal_bytes reports;         /* LETTER: borrowed likewise */
    struct {
        uint8_t *meta, *body; /* malloc'ed, the taker's; NULL where empty */
        size_t meta_len, body_len;
        struct journal_chunk *chunks;
        uint32_t status, attempts, flags;
    } fetched;
    struct {
        struct journal_listed *rows;
        uint64_t next; /* the record to go on from; 0: there are no more */
    } listed;
    struct journal_letter *letter; /* FETCH_LETTER: one allocation with all that it names, the
                                    * taker's; NULL on an error */
    int error; /* once it is done: 0, HASUP_EIO, HASUP_ENOTFOUND, HASUP_ECORRUPT, HASUP_ENOMEM,
                * HASUP_EINVAL (a record or chunk that is there already), HASUP_ETOOBIG */
    struct journal_op *next;
};

/* A row that is damaged and was passed over; record 0: it is not known which.  Called inside
 * journal_open and journal_each_*, on their thread. */
typedef void journal_bad(void *context, uint64_t record, const char *reason);

struct journal_options {
    const char *path;
    uint32_t events_max;         /* rows of lifecycle events kept; 0: none */
    hasup_ns events_age;         /* older ones go as new ones come; 0: however old they are */
    uint32_t letters_max;        /* dead letters kept; 0: none */
    bool goes_on;                /* this process had it open, before an exec: see journal_open */
    void (*wake)(void *context); /* from the journal's thread: something is done */
    journal_bad *bad;            /* NULL: nobody wants to know */
    void *context;
};

struct journal_summary {
    bool created;                          /* there was no file */
    bool unwritable;                       /* it can be read only, for now; `error` says why */
    bool clean;                            /* the last run ended by journal_close */
    int64_t last_wall_ns;                  /* when the last run was last known to live; 0: never */
    uint64_t next_record;                  /* greater than any that was ever given */
    uint64_t unfinished, finished, logged; /* rows of each kind */
};

struct journal;

/* Opens or creates (0600) the file, repairs nothing silently, marks the run as begun.  Starts no
 * thread.  One that goes on is not marked, checked or counted again, which takes the longer the more
 * there is: of the summary, unfinished, finished and logged stay 0.  While it is open, nothing else in this process may open and close the file by its path
 * (POSIX locks); other processes may read it with SQLite.
 * HASUP_ECORRUPT (not a database, or SQLite finds it damaged), HASUP_EIO (disk, permissions; where
 * only writing fails, it is open all the same, and each commit tries again: summary.unwritable),
 * HASUP_EINVAL (newer schema, or another hasupd has it open); `error` says which file and why. */
int journal_open(const struct journal_options *options, struct journal **journal,
                 struct journal_summary *summary, char error[JOURNAL_ERROR]) HASUP_NODISCARD;

/* Commits what waits, marks the run as ended cleanly where `clean`, ends the thread.  Operations
 * that were not taken back are left to their owners.  0, or HASUP_EIO where the last of what waited
 * could not be stored. */
int journal_close(struct journal *journal, bool clean);

/* Adds an operation to this turn's.  Never fails and never blocks: what waits is bounded by the
 * caller, who has at most one operation a request and chunk. */
void journal_add(struct journal *journal, struct journal_op *op);

/* At the end of the turn: commits or hands over what was added, unless all of it is lazy and
 * little. True: some are done already. */
bool journal_flush(struct journal *journal);

/* The next flush writes what is lazy, too. */
void journal_sync(struct journal *journal);

/* Operations that are done, in the order in which they were added, linked by `next`; NULL: none. */
struct journal_op *journal_take(struct journal *journal);

/* What stands in it, besides what the core counts; cheap. */
struct journal_stats {
    uint64_t letters, events; /* rows */
};
struct journal_stats journal_stats(struct journal *journal);

/* Why the last commit failed; "" where it did not. */
const char *journal_last_error(struct journal *journal);
/* Which file it writes, while none of its operations is on its way: another one may stand at its path
 * by now.  0, 0: none. */
void journal_file(const struct journal *journal, uint64_t *device, uint64_t *inode);

/* ---- recovery: on the calling thread, on a connection of its own, which the next journal_flush
 * closes.  Sees what is committed.  Every row is checked against its checksums; a damaged one goes
 * to options.bad and is passed over. ---- */

struct journal_row {
    uint64_t record, token, body_hash, position, digest;
    const char *model;
    uint32_t flags, ordinal, status, attempts, batch_place;
    uint8_t priority;
    int64_t created_wall_ns, deadline_wall_ns, finished_wall_ns, expires_wall_ns;
    struct journal_bytes key, meta, body; /* of the request; valid inside the callback */
    uint64_t stored_bytes;                /* each_finished: of the result and its chunks */
};

/* `each` answers false to stop.  0, or a negative code and `error`. */
typedef bool journal_each(void *context, const struct journal_row *row);

/* Requests that are accepted and not finished, with record > `after`, oldest first, with meta and
 * body.  May be called again later with the last record, for those that found no room. */
int journal_each_unfinished(struct journal *journal, uint64_t after, uint64_t most,
                            journal_each *each, void *context,
                            char error[JOURNAL_ERROR]) HASUP_NODISCARD;
/* Finished ones whose result is kept (without bodies), oldest first. */
int journal_each_finished(struct journal *journal, journal_each *each, void *context,
                          char error[JOURNAL_ERROR]) HASUP_NODISCARD;
/* Up to where a slot's log was trimmed; 0: never. */
int journal_trimmed(struct journal *journal, const char *model, uint32_t ordinal,
                    uint64_t *position, char error[JOURNAL_ERROR]) HASUP_NODISCARD;
/* Finished ones of one slot's log above `position`, in the log's order, with meta and body; each at
 * a place of its own.  HASUP_ECORRUPT at the first that is damaged: half a log is none. */
int journal_each_logged(struct journal *journal, const char *model, uint32_t ordinal,
                        uint64_t position, journal_each *each, void *context,
                        char error[JOURNAL_ERROR]) HASUP_NODISCARD;
/* The chunks of an unfinished request, in order.  Stops before a damaged one: HASUP_ECORRUPT. */
int journal_each_chunk(struct journal *journal, uint64_t record,
                       bool (*each)(void *context, uint32_t number, struct journal_bytes meta,
                                    struct journal_bytes bytes),
                       void *context, char error[JOURNAL_ERROR]) HASUP_NODISCARD;
/* The dead letters with a number > `after`, oldest first; with reports, without meta and body
 * (FETCH_LETTER reads those). */
int journal_each_letter(struct journal *journal, uint64_t after,
                        bool (*each)(void *context, const struct journal_letter *letter),
                        void *context, char error[JOURNAL_ERROR]) HASUP_NODISCARD;

/* ---- for who is not hasupd ---- */

/* One event of this or an earlier run; false: no more. */
typedef bool journal_past_event(void *context, int64_t created_wall_ns, struct journal_bytes body);

/* The lifecycle events since a time, oldest first, from the file alone, which is not changed.
 * `*incomplete`: the newest may be missing, because the WAL could not be read.  HASUP_ENOTFOUND:
 * there is no journal; else as journal_open. */
int journal_past_events(const char *path, int64_t since_wall_ns, journal_past_event *each,
                        void *context, bool *incomplete, char error[JOURNAL_ERROR]) HASUP_NODISCARD;

/* The last position of a slot's log, 0: it has none; likewise from the file alone.  HASUP_EIO where
 * a part of it cannot be read. */
int journal_past_log_end(const char *path, const char *model, uint32_t ordinal, uint64_t *position,
                         char error[JOURNAL_ERROR]) HASUP_NODISCARD;

#endif
