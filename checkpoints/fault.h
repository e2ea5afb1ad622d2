/*
 * fault.h: the named points of the durability path where a test may kill hasupd.  Compiled in only
 * under HASUP_FAULTS, which no program that ships defines; otherwise FAULT(point) is nothing.  What
 * they do: tests/faults/fault.c.
 */
#ifndef HASUP_CHECKPOINTS_FAULT_H
#define HASUP_CHECKPOINTS_FAULT_H

/* Each kind of journal_op stands here under its own name, see fault_commit. */
#define FAULTS(X)                                                                                  \
    X(accept_before_commit)                                                                        \
    X(accept_after_commit)                                                                         \
    X(chunk_before_commit)                                                                         \
    X(chunk_after_commit)                                                                          \
    X(result_before_commit)                                                                        \
    X(result_after_commit)                                                                         \
    X(done_before_commit)                                                                          \
    X(done_after_commit)                                                                           \
    X(forget_before_commit)                                                                        \
    X(forget_after_commit)                                                                         \
    X(trim_before_commit)                                                                          \
    X(trim_after_commit)                                                                           \
    X(event_before_commit)                                                                         \
    X(event_after_commit)                                                                          \
    X(letter_before_commit)                                                                        \
    X(letter_after_commit)                                                                         \
    X(lift_before_commit)                                                                          \
    X(lift_after_commit)                                                                           \
    X(chore_before)         /* of the journal: bodies trimmed, chunks swept, WAL folded back */    \
    X(chore_after)                                                                                 \
    X(accepted_before_told) /* 202 */                                                              \
    X(accepted_after_told)                                                                         \
    X(dispatch_before)                                                                             \
    X(dispatch_after)                                                                              \
    X(written_before)       /* what a turn has for one worker or local client */                   \
    X(written_after)                                                                               \
    X(chunk_before_told)                                                                           \
    X(chunk_after_told)                                                                            \
    X(answer_before_told)   /* handed to the front door, see sent_* */           \
    X(answer_after_told)                                                                           \
    X(sent_before)          /* what a turn has for one HTTP connection */                          \
    X(sent_after)                                                                                  \
    X(retell_before)        /* a stored answer is fetched */                                       \
    X(retell_after)                                                                                \
    X(checkpoint_asked)                                                                            \
    X(checkpoint_taken)                                                                            \
    X(checkpoint_begin)                                                                            \
    X(checkpoint_before_commit)                                                                    \
    X(checkpoint_after_commit)                                                                     \
    X(checkpoint_stored)    /* the loop heard of it; what comes next trims the journal */          \
    X(recovery_begin)                                                                              \
    X(recovery_marked)      /* the journal is open, and says that a run began */                   \
    X(recovery_log)         /* a row of a slot's log is given to the core */                       \
    X(recovery_result)                                                                             \
    X(recovery_request)                                                                            \
    X(recovery_end)                                                                                \
    X(checkpoint_loaded)                                                                           \
    X(restore_sent)                                                                                \
    X(replay_dispatched)

enum fault {
#define FAULT_ENUM(name) FAULT_##name,
    FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
    FAULT_COUNT
};

#ifdef HASUP_FAULTS
struct journal_op;
void fault_reached(enum fault point);
/* The commit of these operations begins or has ended. */
void fault_commit(const struct journal_op *ops, int after);
#define FAULT(point) fault_reached(FAULT_##point)
#define FAULT_COMMIT(ops, after) fault_commit(ops, after)
#else
#define FAULT(point) ((void)0)
#define FAULT_COMMIT(ops, after) ((void)0)
#endif

#endif
