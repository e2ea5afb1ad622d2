/*
 * engine.h: the shell's middle: it turns the world into events for the core and performs the
 * actions that come back.  It decides nothing.  engine.c steps, request.c has the requests, perform.c performs, start.c,
 * environment.c and fork.c make a worker's process, notify.c hears its watchdog, worker.c speaks to it and worker_frames.c hears it, state.c moves checkpoints, durable*.c speak with the journal, recovery.c brings
 * back what it holds, letters.c keeps what is known of bodies that kill, said.c what workers print, models.c applies the
 * configuration, rollouts.c knows the versions of a model; this header is theirs and control.c's. Doors see supervisor/request.h only.
 */
#ifndef HASUP_SUPERVISOR_ENGINE_H
#define HASUP_SUPERVISOR_ENGINE_H

#include "checkpoints/journal.h"
#include "checkpoints/writer.h"
#include "supervisor/capture.h"
#include "supervisor/config.h"
#include "supervisor/mark.h"
#include "supervisor/peer.h"
#include "supervisor/process.h"
#include "supervisor/request.h"
#include "supervisor/stats.h"

/* Exit codes of hasupd, docs/hasupd.md.  FAILED: something that was to be kept could not be. */
enum { ENGINE_STOPPED = 0, ENGINE_FAILED = 1 };

enum { ENGINE_NAME = 96 /* "model/ordinal" */, ENGINE_REASON = 320, ROLLOUT_TEXT = 1280 };

/* A small request's memory is used again, which is cheaper than malloc; this much is kept. */
enum { ENGINE_SPARES = 256, ENGINE_SPARE_BYTES = 512, ENGINE_TOKENS = 32 };

#define NO_SLOT UINT32_MAX

struct notify;     /* notify.c */
struct program;    /* program.c */
struct label;      /* rollouts.c */
struct stream;     /* stream.c */
struct held;       /* durable_kept.c: a reply that waits to be stored */
struct letter;     /* letters.c */
struct kept_chunk; /* likewise: a part of a durable stream */
struct progress;   /* resume.c */
struct printed;    /* printed.h */
struct logfiles;   /* logfiles.h */

/* One request, from engine_submit to FORGET.  The allocation holds the meta (and room behind it for
 * the fields that a dispatch adds) and the body's bytes. */
struct request {
    uint64_t id;
    const struct door *door; /* NULL: answered, refused or cancelled */
    void *context;
    uint32_t model;
    uint32_t slot, worker; /* where it is in flight; NO_SLOT: nowhere */
    const char *version;   /* of the worker that had it last; NULL: none yet */
    uint32_t meta_len;
    uint64_t hash[2]; /* of model and body; 0, 0: nobody asked for it yet (letters.c) */
    bool once;        /* not run again when its worker dies */
    bool stateful;    /* dispatched to a stateful slot, whose log keeps it */
    bool counted;     /* its end is (stats.c), or is not to be */
    bool session;     /* it belongs to one */
    hasup_ns came, dispatched; /* dispatched: last; 0: never */
    hasup_ns deadline;
    struct body body;
    struct stream *stream;     /* NULL before the first chunk */
    struct progress *progress; /* the last that a worker told; NULL: none */
    bool mated;                /* in a batch of several */
    bool resumes;              /* its worker has yet to say where it goes on */
    struct {                   /* of a durable one */
        bool async, retold;    /* retold: the core has done with it, an answer is being fetched */
        uint64_t record, token, body_hash; /* record: once it is on its way to the journal */
        struct bytes key; /* malloc'ed */
        uint8_t priority;
        struct held *held;
        struct kept_chunk *first, *last; /* of its stream, oldest first */
    } durable;
    bool spare; /* of ENGINE_SPARE_BYTES: kept for the next when it is forgotten */
    uint8_t bytes[];
};

enum { DEATH_ID = MARK_NAME + 1, DEATH_IDS = 16 };

/* What a worker had in hand at its end (death.c). */
struct death_hand {
    uint32_t total; /* of which the first are named */
    char ids[DEATH_IDS][DEATH_ID];
};

/* What happened to the last worker of a slot, for status, why and logs. */
struct slot_death {
    char reason[ENGINE_REASON]; /* "killed by signal 9 (Killed)"; "" : none died yet */
    int code; /* its exit code, or 128 + the signal; 127 where it could not be started; 0: none died yet */
    int64_t wall_ns;
    size_t tail_count;
    char *tail[CAPTURE_TAIL]; /* its last lines on stderr */
    char *lines;              /* its last ones of all streams, JSON; NULL: not known */
    const char *cause;       /* stats_end_name; NULL: no process ended */
    struct death_hand *hand; /* malloc'ed; NULL: it never had anything */
    bool exited;             /* there was a process, of which is known: */
    pid_t pid;
    hasup_ns lived;
    struct process_exit exit;
};

/* A slot's state on its way: from a checkpoint to a worker, or kept where the disk failed.  In the
 * heap, or from `offset` in a sealed memfd. */
struct slot_state_bytes {
    bool there;
    uint8_t *bytes; /* malloc'ed; NULL: in `buffer` */
    struct buffer *buffer;
    uint64_t offset, len;
    uint64_t position;
};

struct slot {
    struct engine *engine;
    uint32_t index, ordinal; /* ordinal: among those of its role */
    enum slot_role role;
    struct model *model;
    char name[ENGINE_NAME];
    struct {
        char name[ENGINE_NAME]; /* its processes' cgroup has it */
        uint32_t ordinal;       /* what they have of the model's devices goes by it */
    } place; /* where it starts its processes: a spare that takes over brings its own */
    struct worker *worker; /* the current process, until its tree is empty; NULL: none */
    const struct config_model *config; /* of the process that is being made; else NULL */
    const char *version; /* label of its last worker's; "": none yet */
    uint32_t version_number;
    struct slot_death death;
    struct slot_state_bytes restoring; /* loaded, until WELCOME */
    struct slot_state_bytes kept;      /* newest state that the disk did not take */
    struct state_job *taken;           /* the state in hand, until STORE_CHECKPOINT */
    uint64_t asked_position;           /* of the CHECKPOINT frame that waits for its STATE */
    bool asked;
    uint64_t stored_position;
    int64_t stored_wall_ns; /* 0: never */
    uint64_t stored_bytes;
    uint64_t untaken_position; /* where its last state would stand that could not be taken; 0: none */
    struct {                       /* what no stored checkpoint has, for the audit */
        uint64_t position, newest; /* the first such position; the last that was dispatched */
        int64_t wall_ns;           /* since when there is one; 0: everything is stored */
    } changed;
    uint32_t jobs; /* with the checkpoint thread */
    bool removed;  /* freed when the last of them is back */
    bool checkpoints_failing;
};

struct worker {
    struct slot *slot;
    uint32_t home_index; /* while it is loaded */
    struct slot *home; /* whose worker it is, or was when it died: what is told of it is told there */
    uint32_t number;
    struct process *process;
    struct capture *capture;
    struct peer peer;
    struct notify *notify; /* what it says by sd_notify; NULL: nothing */
    struct program *program; /* of one that knows nothing of requests; else NULL */
    char *cause; /* why hasupd ended it, malloc'ed; NULL: it ended by itself */
    hasup_ns spawned;
    uint64_t memory; /* bytes, when it was measured last; 0: never */
    const char *version; /* label */
    bool hook; /* it is the pre_start command: no socket, no requests */
    bool greeted, welcomed, stateful;
    uint64_t granted; /* HASUP_CAN_* bits */
    char mark[MARK_WORD + 1]; /* of its lines (mark.h); "": it has none */
    struct {
        bool reaped;
        struct process_exit how;
    } exit;
    struct {           /* said.c: what is in its hand while it talks */
        uint64_t ids;    /* all of them, by exclusive or: of one, it */
        uint64_t unsure; /* a line of this turn or before may be of what was answered */
        uint32_t talks;  /* answers until it counts as silent; 0: it does */
    } hand;
    struct death_hand *held; /* at its end; NULL: not yet */
    bool leaving; /* told to drain or stop: its end is no crash */
    bool more;    /* the batch that it is being given goes on, */
    uint32_t batch; /* and has so many by now */
    enum stats_end end; /* why hasupd ended it, for the counters; EXIT: it did not */
    struct {      /* of one that is to be forked */
        struct worker *zygote; /* has yet to say that it is there; NULL: it is */
        int socket, out, err;  /* hasupd's end, and what becomes its output */
    } fork;
};

/* What a number of the core's stands for. */
struct model_version {
    uint32_t number; /* 0: free */
    const struct config_model *config;
    const char *label; /* the engine's */
    char *metadata;    /* malloc'ed, of its workers' last hello; NULL: none yet */
    size_t metadata_len;
};

enum { MODEL_VERSIONS = 3 };

struct model {
    uint32_t index;
    bool used, removing;
    bool changed; /* the file says otherwise than when hasupd was replaced: until model_resumed */
    const struct config_model *config; /* its version's, inside engine->config or a retired one */
    uint32_t version, other, newest;   /* numbers: its own, the core's other one, the last given */
    uint32_t coming;                   /* the core is being told of it */
    struct model_version versions[MODEL_VERSIONS]; /* the model's, the other, one that comes */
    struct {
        char *because; /* why the last one failed; malloc'ed, as the next one; NULL: it did not */
        char *last;    /* how the last one ended; NULL: there was none, or no memory to say it */
        bool failed;
        uint64_t tried; /* fingerprint: the file has it and the model has not (versions.c); 0: none */
        bool recycles;              /* it is none: a worker is recycled while another stands in */
        int64_t wall_ns;
    } rollout;
    uint32_t workers;                  /* wanted: the configuration's, or what scale said */
    struct model_stats *stats;         /* stats.c; NULL: nothing happened yet */
};

struct engine {
    struct loop *loop;
    struct core *core;
    struct actions actions;
    struct config *config;
    struct config *retired; /* replaced, but a model's version is in it */
    struct label *labels;   /* rollouts.c */
    char holds[ENGINE_NAME + 64]; /* engine_holds */
    struct listener *listeners; /* sockets.c */
    struct processes *processes;
    struct peers *peers;
    struct writer *writer;
    struct model *models; /* limits.models */
    struct slot **slots;  /* limits.slots */
    struct {
        struct request **list; /* limits.requests, by index */
        uint32_t *generation;
        uint32_t *free; /* stack of indices that were used and are free */
        uint32_t free_count, high, count;
        uint32_t retold; /* out of the table, while their stored answers are fetched */
        uint64_t body_bytes;
        struct request *spares[ENGINE_SPARES]; /* stack: memory of small ones that ended */
        uint32_t spare_count;
    } requests;
    struct {
        struct event *list;
        size_t start, count, room; /* a ring */
        bool stepping;
    } events;
    struct { /* what the event being performed brought: for ANSWER, CHUNK and STORE_CHECKPOINT */
        struct reply reply;
        const uint8_t *bytes;
        size_t len;
    } hand;
    struct {
        struct durable_op *ops;  /* on their way */
        struct journal *journal; /* NULL: not opened, or it cannot be */
        bool failing, clean;
        bool was_open; /* with the hasupd before this one, which took in what it holds, */
        uint64_t device, inode; /* in this file; inode 0: it did not say */
        int64_t failing_wall_ns; /* since when */
        hasup_ns retry; /* it is not opened again before then */
        uint64_t seed;  /* of the hashes of keys */
        uint64_t tokens[ENGINE_TOKENS]; /* random, not yet given to a request */
        unsigned tokens_left;
        uint64_t own;   /* this run's requests have this record, or a greater one */
        uint64_t after; /* recovery: requests up to this record are loaded, */
        bool more;      /* and there are more in the journal */
        char error[JOURNAL_ERROR];
        struct histogram commits; /* how long each took */
        void (*opened)(void *context); /* who hears that it is open (history.c); NULL: nobody */
        void *opened_context;
    } durable;
    struct {
        struct letter *list; /* letters.c: the newest first */
        uint32_t count, suspects;
    } letters;
    struct {
        int activity; /* the file; not above 0: it is not open */
        bool failing, shared; /* said already */
        bool versions;        /* versions.json is there */
        char last_run[256];   /* how the hasupd before this one ended; "": there was none */
        int64_t began;        /* wall time */
    } noted;
    struct timer stopping;    /* stopping.c */
    hasup_ns stops_until;     /* the end of the grace of a stop that is under way */
    int failed_code;          /* of an essential model that failed for good; 0: none did */
    hasup_ns armed;           /* the deadline that the loop's timer is set to */
    uint64_t id_high, id_low; /* of engine_make_id */
    struct door_counts doors[DOOR_KINDS];
    uint32_t measured;        /* the slot whose memory /metrics looked at last */
    struct {
        struct printed *lines;
        struct logfiles *files;
        void (*added)(void *context);    /* who hears of a new line, and (readers.c) */
        void (*reopened)(void *context); /* that the thread of the files has done something */
        void *context;
    } printed;
    bool shutting_down, started, closing, ended;
    bool checkpoints_failing; /* of a slot at least */
    bool checkpoints_off_told; /* that states live in memory only, with state_dir: off */
    char checkpoint_error[ENGINE_REASON];
    int exit_code;
    int http_port; /* where the HTTP door listens; 0: nowhere */
    /* Who hears of each checkpoint's end (control_awaited.c); error NULL: it is stored. */
    void (*checkpoint_done)(void *context, const struct slot *slot, uint64_t position,
                            const char *error);
    void *checkpoint_context;
    /* Who hears of the end of each rollout (control_awaited.c). */
    void (*rollout_done)(void *context, const struct model *model);
    void *rollout_context;
    /* Who looks at what each turn changed (waits.c); NULL: nobody. */
    void (*turned)(void *context);
    void *turned_context;
};

/* Takes `config`.  NULL: `error` says why. */
struct engine *engine_new(struct loop *loop, struct config *config, const char *cgroup,
                          char error[CONFIG_ERROR_MAX]);
/* After the loop: ends what is left and stores what waits; hasupd's exit code. */
int engine_end(struct engine *engine);
void engine_free(struct engine *engine); /* ends it where that was not done */

/* Starts what the configuration names. */
void engine_start(struct engine *engine);
/* Whether what runs can become this: there is room for the models that it adds, and none is a
 * program now; `error` says why not. */
bool engine_can_take(struct engine *engine, const struct config *config,
                     char error[CONFIG_ERROR_MAX]);
/* The index of a model or program; HASUP_ENOTFOUND. */
int engine_named(const struct engine *engine, const char *name, size_t len) HASUP_NODISCARD;
/* Takes `config`, which engine_can_take, and makes it so: models added, changed (restarted one worker at a time), removed.
 */
void engine_reconfigure(struct engine *engine, struct config *config);
/* Tries what the file says of the model beside what runs; or goes on with another weight.
 * HASUP_ECONFIG, HASUP_EINVAL, HASUP_EFULL: `error` says why not. */
int engine_canary(struct engine *engine, uint32_t model, const char *file, uint32_t weight,
                  char error[CONFIG_ERROR_MAX]) HASUP_NODISCARD;
void engine_scale(struct engine *engine, uint32_t model, uint32_t workers);
/* `slot`: the core's index, or CORE_ALL_SLOTS. */
void engine_command(struct engine *engine, uint32_t model, uint32_t slot, enum command command);
/* Drains and stops; the loop is stopped once all is.  A second call hastens. */
void engine_shutdown(struct engine *engine);
/* The slot `ordinal` of a model; NULL: none. */
struct slot *engine_slot(const struct engine *engine, uint32_t model, uint32_t ordinal);
/* 'there is no model "conter"; did you mean "counter"?' */
void engine_no_model(const struct engine *engine, const char *name, size_t len,
                     char text[ENGINE_REASON]);
/* The same of a slot of a model that there is. */
void engine_no_slot(const struct engine *engine, uint32_t model, const char *name,
                    char text[ENGINE_REASON]);

/* ---- between the engine's own files ---- */

/* Steps the core and performs its actions, unless this happens inside a step: then right after it.
 */
void engine_post(struct engine *engine, struct event *event);
void engine_perform(struct engine *engine, const struct action *action);
/* request.c; NULL: nothing bears this number any more. */
struct request *engine_request(const struct engine *engine, uint64_t id);
/* A request of the table that no door waits for; NULL: no room, no memory. */
struct request *engine_adopt(struct engine *engine, const struct submission *submission);
void engine_forget(struct engine *engine, uint64_t id);
/* Of a request's meta: only requests of one batch key share a batch; 0: it names none. */
uint64_t engine_batch_key(const uint8_t *meta, size_t len);
/* Likewise: those of one session run in one slot.  The same in each run of hasupd, so that a session
 * finds its slot again. */
uint64_t engine_session(const uint8_t *meta, size_t len);

/* ---- adapter.c: models whose command is a server of another protocol ---- */
/* What a slot runs that speaks for this command: argv, malloc'ed, for config_strings_free(); NULL:
 * no memory. */
char **adapter_command(const struct slot *slot, char **command);
/* Where the server is asked: 1 and a meta with METHOD and PATH, malloc'ed; 0: it has them, or its
 * model needs none; HASUP_ENOMEM. */
int adapter_place(const struct config_model *config, const struct submission *submission,
                  uint8_t **meta, size_t *len) HASUP_NODISCARD;
/* Whether a request with this meta must not run twice. */
bool adapter_runs_once(const struct config_model *config, const uint8_t *meta, size_t len);

void worker_spawn(struct slot *slot, uint32_t number);
void worker_swap(struct slot *slot, struct slot *spare, uint32_t number);
void worker_free(struct worker *worker);
/* Tells the core of this worker. */
void worker_post(struct worker *worker, struct event *event);
/* Gives it up for what it did. */
void worker_broke(struct worker *worker, const char *why);
void worker_note_death(struct slot *slot, const char *reason);
void worker_prepare(struct slot *slot, uint32_t number); /* runs the pre_start command */
void worker_dispatch(struct slot *slot, const struct action *action);
void worker_say(struct slot *slot, uint32_t number, enum hasup_frame_type type, uint64_t id);
void worker_welcome(struct slot *slot, const struct action *action);
void worker_measure(struct slot *slot, uint32_t number);
void worker_take_state(struct slot *slot, const struct action *action);
void worker_drain(struct slot *slot, uint32_t number);
void worker_terminate(struct slot *slot, uint32_t number);
void worker_abort(struct slot *slot, uint32_t number);
void worker_kill(struct slot *slot, uint32_t number);
void worker_blame(struct slot *slot, const char *cause);
/* Why it is ended; the first time counts. */
HASUP_PRINTF(2, 3) void worker_note_cause(struct worker *worker, const char *format, ...);
void worker_exited(void *context, struct process *process, const struct process_exit *exit);
void worker_tree_empty(void *context, struct process *process);

extern const struct peer_ops worker_ops;

/* start.c: makes its process; 0, or the errno of what failed, with its text in `error`. */
int worker_start(struct worker *worker, char error[ENGINE_REASON]) HASUP_NODISCARD;

/* fork.c */
/* Asks the zygote in `parent` for it; SPAWNED answers. */
void worker_fork(struct slot *slot, uint32_t number, struct slot *parent);
int fork_answered(struct worker *zygote, const struct hasup_frame *frame) HASUP_NODISCARD;
/* It is to end: true where it is not there yet, and nobody will wait for it. */
bool fork_give_up(struct worker *worker);
/* A zygote is gone, or will answer no more. */
void forks_lost(struct worker *zygote);

/* environment.c: of the slot's processes, for config_strings_free().  0, or an errno, and `error`
 * says what failed unless that is ENOMEM. */
int environment_make(const struct worker *worker, bool with_files, char ***environment,
                     char error[ENGINE_REASON]) HASUP_NODISCARD;

/* notify.c */
struct notify *notify_new(struct worker *worker, uid_t uid); /* uid: its process's; NULL: errno */
const char *notify_path(const struct notify *notify);
void notify_close(struct notify *notify); /* hears no more; NULL: there is none */
void notify_free(struct notify *notify);

/* program.c */
/* Whether it knows nothing of requests, nor is the pre_start command of something. */
bool worker_is_program(const struct worker *worker);
/* Before it is started.  `end`: its end of the readiness descriptor, the caller's, where it has one.
 * 0, or an errno. */
int program_open(struct worker *worker, int *end) HASUP_NODISCARD;
void program_close(struct worker *worker); /* nobody hears or asks it any more */
void program_free(struct worker *worker);
bool program_is_told(const struct worker *worker); /* its READY=1 counts */
void program_came_up(struct worker *worker);
void program_ask(struct slot *slot, uint32_t number, enum question question);
/* Why its last probe failed; NULL: it did not. */
const char *program_why(const struct worker *worker);
/* Each of its slots is ready, or done. */
bool program_is_up(const struct engine *engine, uint32_t model);
int program_stop_signal(const struct worker *worker);
/* No probe is under way while another hasupd takes over; those that were are asked again. */
void programs_pause(struct engine *engine);
void programs_go_on(struct engine *engine);

/* stream.c: what a streamed answer's runs produced, compared by hash. */
int stream_open(struct request *request) HASUP_NODISCARD; /* at its first chunk; HASUP_ENOMEM */
void stream_restart(struct request *request);             /* a new attempt begins */
/* Whether the attempt's next chunk bears this number: a stream has no gaps. */
bool stream_count(struct request *request, uint32_t seq);
/* Adds bytes of this attempt; false: they differ from what an earlier attempt had produced. */
bool stream_add(struct request *request, const uint8_t *bytes, size_t len);
uint64_t stream_produced(const struct request *request); /* bytes of this attempt */
void stream_free(struct stream *stream);
/* Remembers this place of the attempt; false: no memory. */
bool stream_mark(struct request *request);
/* How many bytes earlier attempts reached, and their digest. */
uint64_t stream_reached(const struct request *request, uint64_t *digest);
/* A new attempt goes on at this byte: 0, the mark, or what was reached; false: none of them. */
bool stream_go_on(struct request *request, uint64_t from);
/* The digest of a whole answer, streamed or not. */
uint64_t reply_digest(const struct request *request, uint32_t status, struct body *body);

/* resume.c */
void resume_free(struct engine *engine, struct request *request);
/* A worker's progress: another can go on from where the attempt stands now. */
void resume_keep(struct engine *engine, struct request *request, const uint8_t *blob, size_t len);
/* The meta of a REQUEST that may go on, malloc'ed with PEER_META_ROOM behind it; NULL: it is too
 * long, or there is no memory, and the request begins at its start. */
uint8_t *resume_meta(const struct request *request, const uint8_t *meta, size_t meta_len,
                     size_t *len);
/* The first that its worker says: where it goes on.  HASUP_EPROTO: nowhere that it may. */
int resume_begin(struct request *request, const struct hasup_frame *frame,
                 uint64_t *from) HASUP_NODISCARD;
/* What a chunk that begins at byte `at` stores of the progress; 0: nothing. */
size_t resume_store_room(const struct request *request, uint64_t at);
size_t resume_store(struct request *request, uint8_t *meta, size_t room);
/* A stored chunk's meta, before its bytes are added to the stream. */
void resume_recover(struct engine *engine, struct request *request, struct journal_bytes meta);

/* A client may reuse its buffer after its answer; a stateful slot's log needs the body longer. */
void request_keep_body(struct engine *engine, struct request *request);
void slot_free(struct slot *slot);

/* state.c */
/* Takes a worker's state into slot->taken; a negative code: `error` says why not. */
int state_take(struct slot *slot, const struct body *body, uint64_t position,
               char error[ENGINE_REASON]) HASUP_NODISCARD;
void state_bytes_free(struct slot_state_bytes *state);
void state_drop(struct state_job *job);
void state_store(struct slot *slot, uint64_t position);
void state_load(struct slot *slot, uint32_t worker);
void state_completed(struct engine *engine);
void state_recovered(struct engine *engine, struct slot *slot);
void state_end(struct engine *engine);

/* ---- noted.c: for those who look at the state directory from outside ---- */
/* Makes this process the state directory's owner; HASUP_ECONFIG: another one is, `error` says who. */
int noted_open(struct engine *engine, char error[CONFIG_ERROR_MAX]) HASUP_NODISCARD;
void noted_begin(struct engine *engine);
/* The disk takes something: where the directory has not been owned so far, it is now. */
void noted_recovered(struct engine *engine);
void noted_end(struct engine *engine);
void noted_configuration(struct engine *engine); /* there is a new one */
/* A file of that name in the state directory, 0600, whole or not at all; NULL: it goes. */
void noted_write(struct engine *engine, const char *file, const char *text);
void noted_dispatched(struct slot *slot, uint64_t position);
void noted_stored(struct slot *slot);
void noted_loaded(struct slot *slot);
void noted_removed(struct slot *slot);
/* The checkpoints' keys and options.  Refuses to start where a slot's newest checkpoint is sealed
 * with a key that is not there: the slot would begin from nothing. */
int state_open(struct engine *engine, const char *path,
               char error[CONFIG_ERROR_MAX]) HASUP_NODISCARD;
/* Tells who waits for a checkpoint of the slot that it ended; `error` NULL: stored. */
void state_done(struct slot *slot, uint64_t position, const char *error);

/* durable.c */
/* Opens the journal where it is not open; `must`: also where there is none yet. */
/* With the run that another hasupd began, in its file; what else stands there now is not taken. */
void durable_go_on(struct engine *engine);
bool durable_open(struct engine *engine, bool must, struct journal_summary *summary);
void durable_close(struct engine *engine);
/* At the turn's end: commits what was added; true: something came of it. */
bool durable_flush(struct engine *engine);
/* Takes back what the journal has done. */
void durable_completed(struct engine *engine);
void durable_sync_now(struct engine *engine); /* at this turn's end, lazy ones too */
/* An operation that is not the core's, to be filled in and added: `done` hears its end, and what it
 * names belongs to the taker of the answer; with `context` it is freed, by free(), after that or at
 * the engine's end.  NULL: out of memory. */
struct journal_op *durable_ask(enum journal_op_kind kind,
                               void (*done)(void *context, struct journal_op *op), void *context);
void durable_ask_now(struct engine *engine, struct journal_op *op);

/* durable_write.c */
void durable_persist(struct engine *engine, const struct action *action);
/* A dead letter: written, or taken back.  What `letter` names is copied. */
void durable_write_letter(struct engine *engine, const struct journal_letter *letter);
void durable_lift_letter(struct engine *engine, const uint64_t hash[2]);

/* durable_kept.c */
void durable_hold(struct engine *engine, uint64_t request);
/* A chunk that an earlier run had stored. */
bool durable_put_chunk(struct request *request, uint64_t number, struct journal_bytes meta,
                       struct journal_bytes bytes);
/* The bytes of its stream that are kept, copied where `bytes` is not NULL; how many. */
size_t durable_sent(const struct request *request, uint8_t *bytes);
uint64_t durable_chunks(const struct request *request);
/* What durable_hold and its chunks kept of it is needed no more. */
void durable_release(struct request *request);
void durable_free_request(struct request *request);

/* durable_tell.c */
void durable_accepted(struct engine *engine, const struct action *action);
void durable_answer(struct engine *engine, struct request *request, const struct action *action);
void durable_chunk(struct engine *engine, struct request *request, const struct action *action);
void durable_retell(struct engine *engine, const struct action *action);

/* records.c */
void durable_key_hash(const struct engine *engine, const char *model, struct bytes key,
                      uint64_t hash[2]);
void durable_record_id(uint64_t record, uint64_t token, char id[RECORD_ID + 1]);
/* Of a public number, known to the core or not. */
bool durable_id_read(const char *id, size_t len, uint64_t *record, uint64_t *token);

/* recovery.c */
void recovery_begin(struct engine *engine);
/* After the models are there. */
void recovery_run(struct engine *engine);
void recovery_slot(struct slot *slot);
/* There may be room for more of what an earlier run had accepted. */
void recovery_go_on(struct engine *engine);
enum refusal refusal_of_status(uint32_t status);

/* rollouts.c */
/* NULL: nobody needs it any more. */
const struct model_version *model_version(const struct model *model, uint32_t number);
/* What a worker of that version says of its model.  Copied. */
void model_version_describe(struct model *model, uint32_t number, const uint8_t *metadata,
                            size_t len);
/* The version that speaks for the model: its own, before the first hello of that the other one. */
const struct model_version *model_speaker(const struct model *model);
void model_versions_free(struct model *model); /* and what is told of its rollouts */
void rollout_note(char **noted, const char *text);
/* "none", "rolling", "canary", "rolling_back" */
const char *rollout_state_name(enum rollout_state state);
void rollout_perform(struct engine *engine, const struct action *action);
/* What the core is to be told of a model that has this configuration. */
void model_policy_meant(const struct engine *engine, const struct model *model,
                        const struct config_model *config, struct model_policy *policy);
/* Posts a MODEL_SET of this configuration; `event` says its number, and how. */
void model_tell(struct engine *engine, struct model *model, const struct config_model *config,
                struct event *event);
void labels_free(struct engine *engine);

/* versions.c: what serves instead of what the file says, kept for the next hasupd */
struct versions;
void versions_note(struct engine *engine); /* it may be another one now */
struct versions *versions_read(struct engine *engine);
/* The configuration that a model of the file starts with. */
const struct config_model *versions_instead(struct engine *engine, const struct versions *versions,
                                            const struct config_model *file);
/* One configuration of a model or program, which the file has in `section`, of what
 * config_model_json said of it, under the label and fingerprint that it had; `own`: its fingerprint
 * as this hasupd reckons.  NULL: it does not understand it, and `error` says why. */
struct config *version_config(const char *section, const char *name, const char *keys, size_t len,
                              const char *label, uint64_t fingerprint, uint64_t *own,
                              char error[CONFIG_ERROR_MAX]);
/* Once they are started: canaries go on. */
void versions_resume(struct engine *engine, struct versions *versions);

/* stopping.c */
void stopping_begin(struct engine *engine);
/* What a stop waits for, in one sentence. */
void stopping_text(const struct engine *engine, char *text, size_t room);

/* last_run.c */
void last_run_boot_id(char id[64]); /* of the kernel; "": not known */
/* Says how the hasupd before this one ended, before its running.json is written over. */
void last_run_tell(struct engine *engine);
/* ---- engine_carry.c: to another hasupd ---- */
struct carry;
/* What cannot be carried now; NULL: all of it can. */
const char *engine_holds(struct engine *engine);
/* To it: all but what was asked of the engine's loop.  From it: into an engine that engine_resume made. */
void engine_carry(struct carry *carry, struct engine *engine);
/* An engine like engine_new's with what the carry's first parts say.  Takes `config`. */
struct engine *engine_resume(struct loop *loop, struct config *config, struct carry *carry,
                             char error[CONFIG_ERROR_MAX]);
/* After everything is loaded: the journal and the letters, and what happened meanwhile. */
void engine_resumed(struct engine *engine);
/* versions_carry.c */
/* Whether the configuration names what runs, and what stands behind versions that it does not. */
void engine_names_carry(struct carry *carry, const struct config *config, struct engine *engine);
/* The configuration that a version ran; NULL: it was not said. */
const struct config_model *versions_carried(const struct carry *carry, const struct config *config,
                                            const char *name, uint64_t fingerprint);
/* They become the engine's, which drops what is not needed. */
void versions_carried_take(struct carry *carry, struct engine *engine);
/* The core of an engine, as an engine_resume reads it. */
void engine_core_carry(struct carry *carry, struct engine *engine);
struct core_limits engine_limits(const struct config *config);
void engine_base_carry(struct carry *carry, struct engine *engine);
void slots_carry(struct carry *carry, struct engine *engine); /* slots_carry.c */
/* A label of a version, which lives as long as the engine. */
void label_carry(struct carry *carry, const char **label);
void stream_carry(struct carry *carry, struct request *request);
void resume_carry(struct carry *carry, struct request *request);
void durable_carry(struct carry *carry, struct request *request);
const char *durable_holds(struct engine *engine);
void notify_carry(struct carry *carry, struct worker *worker);
void notify_carry_more(struct carry *carry, struct notify *notify);
void program_carry(struct carry *carry, struct worker *worker);
const char *engine_label(struct engine *engine, const char *text); /* rollouts.c */
void stats_carry(struct carry *carry, struct model *model);
void counts_carry(struct carry *carry, void *counts, size_t bytes);
/* Memory of a request with room for meta and body; NULL: none. */
struct request *request_make(struct engine *engine, size_t meta_len, size_t body_len);

/* models.c */
/* The file names models that were not there when hasupd was replaced. */
void models_add_missing(struct engine *engine);
/* Of a model that another hasupd ran: what the file says otherwise holds from now on. */
void model_resumed(struct engine *engine, struct model *model);
/* Of those that were replaced, frees what no model's version is in, and closes its sockets. */
void engine_drop_configs(struct engine *engine);
bool config_holds(const struct config *config, const struct config_model *model);
void model_gone(struct engine *engine, uint32_t index);
void models_free(struct engine *engine);

#endif
