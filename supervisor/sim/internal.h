/*
 * internal.h: the simulated world.
 *
 *   world.c    virtual time, the heap of what will happen, the run and its two phases
 *   shell.c    performs the core's actions as the shell would, and checks each
 *   start.c    starts, and when they may be
 *   program.c  programs, and what starts and stops after what
 *   spare.c    spares, zygotes, how many load
 *   handover.c the core saved and loaded, and the two compared
 *   worker.c   fake workers and their faults
 *   versions.c versions of models, good and bad, and how they are replaced
 *   client.c   fake clients, the operator, and what they must hear
 *   poison.c   requests that kill, bad deployments, quarantine
 *   journal.c  the fake journal
 *   person.c   those who come back with their keys
 *   death.c    the death of hasupd, and what the next one recovers
 */
#ifndef HASUP_SIM_INTERNAL_H
#define HASUP_SIM_INTERNAL_H

#include "supervisor/core/random.h"
#include "supervisor/sim/sim.h"

enum {
    SIM_MODELS = 4,
    SIM_PROGRAMS = 3, /* numbered behind the models */
    SIM_ALL = SIM_MODELS + SIM_PROGRAMS,
    SIM_SLOTS = 48,
    SIM_REQUESTS = 192,
    SIM_ENTRIES = 4096,
    SIM_BODIES = 256,
    SIM_LETTERS = 256,
    SIM_ROWS = 4096,    /* of the journal */
    SIM_STREAMED = 1500, /* bytes of streams without an end */
    SIM_DURABLE = 4085,  /* bytes of a body or an answer that the journal takes */
    SIM_SESSIONS = 8, /* of a model */
    SIM_PEOPLE = 48,    /* who come back with their keys */
    SIM_QUEUE = 512,    /* what one worker has in hand, and what it has said but is not heard yet */
    SIM_VERSIONS = 16, /* of a model that are remembered */
    SIM_CHECKPOINTS = 3 /* kept for each slot */
};

/* How late the core's timers may be. */
static const hasup_ns SIM_TICK = 3 * HASUP_MS;

/* What will happen in the world. */
enum happening {
    HAPPENS_ARRIVAL,  /* a burst of requests */
    HAPPENS_WORKER,   /* a worker's next move; slot, worker */
    HAPPENS_SAID,     /* what a worker said arrives; slot, worker */
    HAPPENS_EXIT,     /* a worker's end is noticed; slot, worker */
    HAPPENS_FORK,     /* a zygote answers; slot, worker: of the forked one */
    HAPPENS_TREE,     /* its tree is empty; slot, worker */
    HAPPENS_BEAT,     /* a worker tells its watchdog that it lives; slot, worker */
    HAPPENS_PROBE,    /* a program's probe ends; slot, worker, request: which */
    HAPPENS_SNAPSHOT, /* a worker's child has written its state; slot, worker */
    HAPPENS_DISK,     /* the oldest disk job is done */
    HAPPENS_FAULT,    /* a crash, a hang, … somewhere */
    HAPPENS_OPERATOR, /* a command */
    HAPPENS_LEAVE,    /* a client goes away; request */
    HAPPENS_COMMIT,   /* the journal has written a group */
    HAPPENS_DEATH,    /* hasupd is killed */
    HAPPENS_DEPLOY,   /* a bad version of a model comes or goes */
    HAPPENS_ADMIT,    /* there is room for those that an earlier run had accepted */
};

struct thing {
    hasup_ns at;
    uint64_t seq;
    enum happening what;
    uint32_t slot, worker;
    uint64_t request;
    uint32_t life; /* of hasupd: what belonged to an earlier one does not happen any more */
};

/* What stands in a worker's socket, or what it said. */
struct message {
    enum event_type type; /* of what it said; DISPATCH and so on use `action` */
    enum action_type action;
    uint64_t request, digest, position, state;
    uint64_t value; /* of an answer: what its client remembers */
    uint64_t size;
    uint64_t mixed; /* what a reply mixed into the state */
    bool replay, same, resume, more;
    hasup_ns at; /* said: not heard before */
};

struct ring {
    struct message list[SIM_QUEUE];
    unsigned start, count;
};

struct checkpoint {
    uint64_t position, state;
    bool bad, in_memory; /* in_memory: the disk refused it */
};

/* What is kept of a slot beyond the life of hasupd. */
struct vault {
    struct checkpoint kept[SIM_CHECKPOINTS];
    unsigned kept_count;
    uint64_t lost;    /* what stands in the log up to there was answered by a state that is lost */
    uint64_t trimmed; /* the journal let go of its log up to there */
    uint64_t cut;     /* the journal lost of its log up to there; 0 once a checkpoint covers it */
    uint64_t oracle, oracle_position; /* the state after the last answer that is durable */
    bool oracle_known, used;
    bool apart; /* what it answers since its last checkpoint follows a replay that was another */
};

struct worker {
    bool alive, hangs, ignores_term, exiting;
    bool prepares; /* it is the pre_start command */
    bool forked;
    bool loaded; /* though it still waits for its WELCOME */
    bool ignores_abort;
    hasup_ns hung_at; /* where it hangs */
    uint64_t memory;  /* grows with each request */
    hasup_ns aborted_at; /* 0: it was not */
    uint32_t number;
    enum { PHASE_START, PHASE_LOAD, PHASE_SERVE } phase;
    struct ring inbox, said;
    uint64_t state;     /* the model's: a running hash */
    uint64_t restoring; /* state to start from */
    uint32_t chunks_left;
    uint32_t batch_left;  /* members that it has not run yet */
    uint64_t batch_first; /* position */
    bool moves; /* a HAPPENS_WORKER is on its way */
    struct {
        bool on, hangs;
        uint64_t position, state;
    } snapshot; /* taken while it goes on serving */
    hasup_ns said_until;
};

/* A worker that a zygote was asked for. */
struct sim_fork {
    bool pending;
    uint32_t zygote, number; /* its slot; the process */
};

/* The pre_start command of a slot. */
struct sim_hook {
    bool on, passed, timed_out; /* on: the last process of the slot was one */
    bool known;                 /* `failed` is what the core counts */
    uint32_t failed;            /* tries in a row */
};

struct sim_slot {
    bool used, stateful,
        wild; /* wild: an operator's hand or lost state: expectations are suspended */
    uint32_t model, ordinal, concurrency;
    struct worker worker;
    bool tree_left, exited, ended_known;
    uint32_t max_batch;
    uint32_t running; /* batches, dispatched to this worker and not heard of */
    bool ready;
    hasup_ns ready_at, gone_at;
    uint32_t run_answered, unhealthy, failed_most; /* failed_most: see check_backoff() */
    bool ordered, spawned_before;
    bool last; /* of a program: it ended, and is not to run again */
    struct sim_hook hook;
    enum slot_state state; /* as the core said last */
    bool recycling;        /* it drains to be replaced */
    uint32_t version; /* of its last process */
    struct sim_fork fork;
    enum slot_role role;
    bool waits; /* for its zygote, or for others that load: */
    hasup_ns waits_since;
    /* The oracle: the state after all that was answered, in order. */
    uint64_t oracle, oracle_position;
    bool oracle_known;
    struct vault *vault;
    uint64_t taken_state, taken_position;
    bool taken;
};

struct client {
    uint64_t id; /* 0: free */
    uint32_t model;
    bool ended, gone; /* heard its end; went away */
    bool durable;     /* goes through the journal; not one that joined */
    bool poison;
    bool once;       /* must not run twice */
    bool overloaded; /* refused so */
    uint32_t generation, dispatches, died; /* died: workers, with it in hand */
    uint64_t content, size;
    uint64_t name;     /* who asks; 0: he does not say */
    uint32_t chunks;   /* of a stream; 0: a plain request */
    uint64_t received; /* bytes of the stream */
    uint64_t kept;     /* of a durable one, until its end is stored */
    uint64_t variant;  /* of the run whose bytes it has */
    uint64_t digest;   /* of a stateful answer */
    bool answered_logged;
    hasup_ns deadline;
    hasup_ns latest; /* deadline of all who came with its key */
    bool asks;       /* by a record's number */
    uint32_t at_slot, at_worker; /* in flight there; at_slot UINT32_MAX: nowhere */
    hasup_ns submitted;
    uint64_t arrival;
    uint8_t priority;            /* as it said; of one that nobody can come back for */
    uint64_t batch;              /* in flight together with others of that number */
    bool replaying, began; /* began: this run's bytes */
    uint64_t produced, run_variant;
    uint64_t progress; /* from where another could go on, as one of its workers said */
    struct row *row;       /* of a durable one, once it is accepted; not of one that joined */
    struct person *person; /* who asks; NULL: nobody who could come back, or nobody any more */
    bool async, held;      /* held: `value` is a reply's */
    uint64_t value;
    uint64_t heard, heard_variant, heard_of; /* chunks of a durable stream; of which run, record */
};

/* A request in the journal.  What is `pending` is lost when hasupd dies. */
struct row {
    bool used, finished, refused, forgotten;
    uint64_t record, key[2], content, body, value, size, digest, position;
    uint64_t batch, batch_key, session;
    uint32_t model, ordinal, chunks_asked; /* chunks_asked: of its stream */
    uint64_t chunks, bytes, variant;       /* that are stored */
    hasup_ns deadline, expires;
    enum refusal why;
    uint32_t attempts;
    uint8_t priority;
    bool async, poison;
    bool once, ran; /* must not run twice; was run by a worker, in whichever life of hasupd */
    bool given;     /* to a worker, which may have left it; a later life cannot know */
    bool outlived; /* a later one has its key, since a death: nobody comes for this one */
    bool waits; /* for room in the table of requests, after a death */
};

struct journal_write {
    enum persist what;
    bool lazy; /* does not begin a commit */
    uint64_t request, record;
    struct row row; /* ACCEPT: all; RESULT: what a result adds */
    uint64_t size;  /* CHUNK */
    uint32_t model, ordinal;
    uint64_t position;
};

/* Somebody with a key, who remembers what was said. */
struct person {
    uint64_t key[2], content;
    uint32_t model, chunks;
    bool poison;
    bool answered;
    uint64_t value;
    hasup_ns expires; /* until then the same must be said again */
    uint32_t asking;  /* requests of his that have not ended */
    uint64_t heard, variant, heard_of; /* of his stream, by his last connection */
    bool lost;               /* its answer was let go of before its time: there may be another */
};

/* What kills in this seed; see poison.c. */
enum regime { REGIME_ROUGH, REGIME_CALM, REGIME_DEPLOYS };
enum deploy { DEPLOY_GOOD, DEPLOY_KILLS_ALL, DEPLOY_KILLS_LARGE };

/* A body that killed, and whether it is quarantined. */
struct sim_letter {
    uint64_t content; /* 0: free */
    uint32_t model, kills, attempts;
    bool quarantined, poison;
    hasup_ns expires, last;
};

struct disk_job {
    bool save;
    uint32_t slot, worker;
    uint64_t position, state;
};

struct sim_version {
    bool dead;  /* it never gets ready */
    bool fails; /* most of its answers are errors */
};

struct model_shape {
    struct model_policy policy;
    struct sim_version versions[SIM_VERSIONS]; /* by their number */
    uint32_t newest, filed; /* the last number; the one that the configuration has */
    struct {
        uint32_t given, of;
    } share; /* requests of a canary */
    bool stateful, streams, snapshots, resumable, keyed, used; /* keyed: see batch_key() */
    bool sessions;
    hasup_ns scaled, changed; /* when its slots became others; when one became ready, or was no more */
    uint32_t concurrency, max_batch;
    hasup_ns service, load;
};

struct sim {
    struct sim_options options;
    struct sim_report *report;
    struct core *core;
    struct actions actions;
    struct {
        struct core *shadow; /* the one that the core was loaded from; NULL: none yet */
        struct actions actions;
        struct random random;
    } handover;
    struct random random;
    hasup_ns now;
    bool faults, exited, shutting_down;
    hasup_ns grace;          /* the shutdown's deadline */
    unsigned fault_permille; /* how rough this seed is */
    struct core_limits limits; /* the same in every life of hasupd */
    enum regime regime;
    enum deploy deploy;
    uint32_t false_verdicts; /* that a bad deployment may still bring about */
    struct sim_letter letters[SIM_LETTERS];
    struct thing *heap;
    size_t heap_count, heap_room;
    uint64_t seq;
    struct model_shape models[SIM_ALL];
    unsigned model_count;
    struct sim_slot slots[SIM_SLOTS];
    struct client clients[SIM_REQUESTS];
    uint32_t outstanding;
    uint32_t life;
    struct vault vaults[SIM_ALL][SIM_SLOTS];
    struct row rows[SIM_ROWS];
    struct journal_write writes[2048];
    unsigned write_start, write_count, write_group; /* group: being written */
    bool writing;
    struct person people[SIM_PEOPLE];
    uint64_t records;                /* the greatest */
    bool waiting;                    /* rows that found no room at the start */
    const struct client *submitting; /* in the step that takes it, or turns it away: then a copy */
    struct client turned_away;
    struct {
        uint32_t ordinal;
        hasup_ns submitted; /* the request that ran there last; 0: none did */
    } seats[SIM_MODELS][SIM_SESSIONS]; /* where each session is */
    uint64_t suspected[1 << 16]; /* contents, each at its remainder */
    struct {
        uint64_t number, key;
        uint32_t slot, count;
        bool open, replay; /* open: its next member comes next */
    } batch; /* the last that was dispatched */
    struct disk_job disk[1024];
    unsigned disk_start, disk_count;
    hasup_ns disk_free_at;
    struct event pending[4096]; /* events that arise while actions are performed */
    unsigned pending_start, pending_count;
    const struct event *current;
    uint64_t steps_at_now;
};

HASUP_PRINTF(2, 3) void sim_fail(struct sim *sim, const char *format, ...);
void sim_schedule(struct sim *sim, hasup_ns at, enum happening what, uint32_t slot, uint32_t worker,
                  uint64_t request);
/* Steps the core now, or right after the step that is running. */
void sim_post(struct sim *sim, const struct event *event);
/* True in `permille` of a thousand cases, while faults are on. */
bool sim_chance(struct sim *sim, unsigned permille);
hasup_ns sim_between(struct sim *sim, hasup_ns least, hasup_ns most);
uint64_t sim_hash(uint64_t a, uint64_t b);

void shell_perform(struct sim *sim, const struct action *action);
void disk_done(struct sim *sim);
void vault_forget_memory(struct vault *vault);

/* versions.c */
void versions_shape(struct sim *sim, struct model_policy *policy);
/* A model is added, as the configuration has it. */
void versions_configured(struct sim *sim, uint32_t model);
/* Of the slot's worker. */
bool versions_is_dead(const struct sim *sim, const struct sim_slot *slot);
bool versions_fails(struct sim *sim, const struct sim_slot *slot);
void versions_acts(struct sim *sim, uint32_t model);
void versions_stop_recycling(struct sim *sim, uint32_t model);
/* Where only a good version helps, there is one; true: it was so. */
bool versions_mends(struct sim *sim, uint32_t model);
void versions_spawned(struct sim_slot *slot, const struct action *action, bool *changed);
void versions_recycled(struct sim *sim, const struct sim_slot *slot);
void versions_drained(struct sim *sim, const struct sim_slot *slot);
void versions_dispatched(struct sim *sim, const struct sim_slot *slot, const struct client *client);
void versions_replied(struct sim *sim, const struct sim_slot *slot);
void versions_told(struct sim *sim, const struct action *action);
/* spare.c */
void spare_swap(struct sim *sim, const struct action *action);
void fork_begins(struct sim *sim, const struct action *action);
void fork_answered(struct sim *sim, struct sim_slot *slot, uint32_t number);
void forks_lost(struct sim *sim, const struct sim_slot *zygote);
bool fork_ends(struct sim *sim, struct sim_slot *slot);
void check_loading(struct sim *sim);
bool outlives_hasupd(enum happening what);
static inline bool worker_is_loaded(const struct worker *worker)
{
    return worker->phase == PHASE_SERVE || worker->loaded;
}

/* program.c */
void program_shape(struct sim *sim, struct model_shape *shape);
void order_shape(struct sim *sim, uint32_t model);
/* It was removed, and nobody waits for it any more. */
void order_gone(struct sim *sim, uint32_t model);
bool slot_is_program(const struct sim *sim, const struct sim_slot *slot);
void program_begins(struct sim *sim, struct sim_slot *slot);
hasup_ns program_moves(struct sim *sim, struct sim_slot *slot);
void program_exits(const struct sim *sim, struct sim_slot *slot);
void program_asked(struct sim *sim, const struct action *action);
void program_answers(struct sim *sim, struct sim_slot *slot, uint32_t number, enum question probe);
/* A process of the slot starts; another version than before. */
/* Whether something that it requires broke, or itself requires what did. */
bool order_is_lost(const struct sim *sim, uint32_t model);
void order_starts(struct sim *sim, struct sim_slot *slot, bool changed);
/* The slot is STOPPED. */
void order_stops(struct sim *sim, const struct sim_slot *slot);

/* start.c */
void start_prepare(struct sim *sim, const struct action *action);
void start_spawn(struct sim *sim, const struct action *action);
void start_ends(struct sim_slot *slot);

void worker_prepares(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_spawned(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_told(struct sim *sim, struct sim_slot *slot, const struct message *message);
void worker_moves(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_heard(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_dies(struct sim *sim, struct sim_slot *slot, bool by_core);
void worker_hangs(struct sim *sim, struct sim_slot *slot);
void worker_beats(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_aborted(struct sim *sim, struct sim_slot *slot);
void worker_exit_noticed(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_tree_gone(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_snapshot_done(struct sim *sim, struct sim_slot *slot, uint32_t number);
void worker_fault(struct sim *sim);

void journal_sync(struct sim *sim); /* begins a commit of all that waits */
/* Nobody can come back for its answer, and no state depends on it. */
bool journal_is_nobodys(const struct sim *sim, const struct client *client);

void poison_shape(struct sim *sim);
bool poison_is_drawn(struct sim *sim, uint32_t model);
void poison_deploy(struct sim *sim);
bool poison_kills(const struct sim *sim, const struct client *client);
void poison_killed(struct sim *sim, const struct client *client);
void poison_hash(const struct sim *sim, const struct client *client, uint64_t hash[2]);
void poison_identify(struct sim *sim, const struct action *action);
void poison_quarantine(struct sim *sim, const struct action *action);
void poison_pardon(struct sim *sim, const struct action *action);
bool poison_is_quarantined(struct sim *sim, const struct client *client);
void poison_breaker(struct sim *sim, uint32_t model);
void poison_unsettled(struct sim *sim);
void poison_recover(struct sim *sim, uint32_t model);

void handover_begin(struct sim *sim);
/* The core has done this step: so does the one before it, and both must have decided the same. */
void handover_stepped(struct sim *sim, const struct event *event);
/* The step's actions are performed: it may be time for another core. */
void handover_due(struct sim *sim);
/* The core goes with hasupd. */
void handover_forget(struct sim *sim);
void handover_end(struct sim *sim);

/* Of a request with this content; 0: of none. */
uint64_t session_of(const struct sim *sim, uint32_t model, uint64_t content);
/* It is under suspicion: it may run in any slot from now on. */
void session_suspected(struct sim *sim, uint64_t content);
void session_dispatched(struct sim *sim, const struct sim_slot *slot, const struct client *client);
uint64_t batch_key(const struct sim *sim, uint32_t model, uint64_t content);
void batch_check_whole(struct sim *sim, const struct action *action);
void batch_dispatched(struct sim *sim, struct sim_slot *slot, struct client *client,
                      const struct action *action);
/* It is at no slot any more: nor is its batch, where it was the last. */
void batch_replied(struct sim *sim, struct sim_slot *slot, const struct client *client);
/* The worker begins what stands first in its inbox; the member that kills it, or NULL. */
struct client *batch_taken(struct sim *sim, struct worker *worker);

void journal_persist(struct sim *sim, const struct action *action);
/* Gives the core what the journal holds of a slot that was just added. */
void journal_recover_slot(struct sim *sim, uint32_t index);
uint64_t journal_answer_size(uint64_t content);
void journal_hold(struct sim *sim, const struct action *action);
void journal_release(struct sim *sim, const struct action *action);
void journal_committed(struct sim *sim);
/* The row of a record that is durable; NULL: there is none. */
struct row *journal_row(struct sim *sim, uint64_t record);
bool row_has_key(const struct row *row);
/* The write that is next is taken off the queue; it becomes durable. */
struct journal_write write_take(struct sim *sim);
void commit_one(struct sim *sim, const struct journal_write *write);
/* Somebody wants its answer until then; 0: without end. */
void wants_until(struct client *client, hasup_ns deadline);

/* A request of somebody with a key, or with respond-async. */
void person_asks(struct sim *sim, uint32_t index);
/* Somebody asks for a record by its number; false: there is none. */
bool person_looks(struct sim *sim, uint32_t index);
void person_accepted(struct sim *sim, const struct action *action);
void person_retold(struct sim *sim, const struct action *action);
void person_hears(struct sim *sim, struct client *client, const struct row *row);
/* Everybody who was not answered comes back; true: nobody has to. */
bool people_are_content(const struct sim *sim);
void people_return(struct sim *sim);
/* An operator drops a record: its key may be answered anew. */
void person_drops(struct sim *sim, uint64_t record);
void people_complain(struct sim *sim);

void hasupd_dies(struct sim *sim);
void hasupd_starts(struct sim *sim);
/* Those that found no room at the start come when there is some. */
void journal_admit(struct sim *sim);

void client_open(struct sim *sim, uint32_t index, uint32_t model);
struct client *client_find(struct sim *sim, uint64_t id);
void client_arrivals(struct sim *sim);
void client_leaves(struct sim *sim, uint64_t id);
void client_answered(struct sim *sim, const struct action *action);
void client_chunk(struct sim *sim, const struct action *action);
void client_refused(struct sim *sim, const struct action *action);
void client_forgotten(struct sim *sim, const struct action *action);
void operator_acts(struct sim *sim);
/* What backoff promises is not expected of a model that an operator has just commanded. */
void operator_suspends(struct sim *sim, uint32_t model);

#endif
