/*
 * control_own.h: what the files of hasupctl's verbs share: a command that is being answered
 * (control.c), and those whose answer goes on or comes later (control_followers.c).
 */
#ifndef HASUP_SUPERVISOR_CONTROL_OWN_H
#define HASUP_SUPERVISOR_CONTROL_OWN_H

#include "supervisor/control.h"
#include "supervisor/readers.h"
#include "supervisor/requests.h"
#include "supervisor/status.h"
#include "supervisor/waits.h"

#define ALL_MODELS UINT32_MAX

enum { FOLLOWERS_MAX = 64 };

/* A client that wants to hear more: the end of checkpoints, what the journal says. */
struct follower {
    struct unix_client *client;
    uint64_t id;
    enum { AWAITS_CHECKPOINTS, AWAITS_ROLLOUTS, AWAITS_JOURNAL, AWAITS_UPGRADE } what;
    struct follower *next;
    uint32_t waiting; /* of AWAITS_CHECKPOINTS, _ROLLOUTS: slots, models not heard of yet */
    json_t *results;
    uint64_t ticket; /* of AWAITS_JOURNAL */
};

struct control {
    struct engine *engine;
    char *config_file;
    struct service *service;
    struct events *events;
    struct history *history;
    struct event_readers *event_readers;
    struct readers *readers;
    struct waits *waits;
    hasup_ns started;
    struct follower *followers;
    unsigned follower_count;
    int (*upgrade)(void *context, const char *binary, char why[CONFIG_ERROR_MAX]);
    void *upgrade_context;
    uint64_t tickets;
};

/* One command being answered. */
struct call {
    struct control *control;
    struct unix_client *client;
    uint64_t id;
    json_t *in;
    uint32_t model, slot; /* of verbs that name a target; slot: CORE_ALL_SLOTS for the whole model */
    const struct verb *verb;
};

struct verb {
    const char *name;
    enum { NO_TARGET, MAY_TARGET, NEEDS_TARGET } target;
    bool changes; /* refused while hasupd stops */
    void (*run)(struct call *call);
    int command;                                         /* enum command of run_command */
    void (*requests)(const struct requests_call *asked); /* of run_requests */
};

/* control.c: each is the call's one answer */
void reply_take(struct call *call, uint32_t status, json_t *json);
HASUP_PRINTF(4, 5)
void reply_error(struct call *call, uint32_t status, const char *code, const char *format, ...);
void reply_ok(struct call *call);

/* control_followers.c */
/* NULL: there are too many, and it is answered. */
struct follower *follower_add(struct call *call);
void follower_remove(struct control *control, struct follower **at);
void followers_event(void *context, int64_t wall_ns, const char *json, size_t len);

/* control_awaited.c */
void awaited_init(struct control *control);
/* Answers at once, or where the client asked for it, when what its command began has ended; of one
 * model, or of ALL_MODELS. */
void reply_rollouts(struct call *call, uint32_t model);
void run_checkpoint(struct call *call);
void run_restart(struct call *call);
void run_canary(struct call *call);
void run_decision(struct call *call); /* promote, abort */
void run_requests(struct call *call);
void run_upgrade(struct call *call);

#endif
