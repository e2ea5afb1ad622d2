/*
 * unix_own.h: what the files of the local door share: its clients (unix_door.c), and their requests
 * (unix_requests.c).
 */
#ifndef HASUP_SUPERVISOR_UNIX_OWN_H
#define HASUP_SUPERVISOR_UNIX_OWN_H

#include "supervisor/unix_door.h"

struct unix_request {
    struct unix_client *client;
    uint64_t id; /* the client's number */
    uint32_t chunks;
    struct request *request;
    struct unix_request *next, **back;
};

struct unix_client {
    struct unix_door *door;
    struct peer peer;
    struct unix_request *requests;
    struct unix_client *next, **back;
    struct unix_client *next_dead;
};

struct unix_door {
    struct engine *engine;
    struct control *control;
    struct watch watch;
    struct timer accept_again;
    bool accept_failing;
    int fd;
    char path[108];
    uint32_t count;
    struct unix_client *clients;
    struct unix_client *dead;  /* freed at the turn's end: they may still be on the stack */
    struct unix_request *free; /* a few records for the next requests */
    uint32_t free_count;
};

/* unix_door.c: sends, or cuts off who does not read. */
int unix_client_send(struct unix_client *client, struct hasup_frame *frame, struct body *body);

/* unix_requests.c */
int unix_client_request(struct unix_client *client, const struct hasup_frame *frame,
                        struct body *body) HASUP_NODISCARD;
/* Takes back a request; false: it is none. */
bool unix_client_cancel(struct unix_client *client, uint64_t id);
void unix_record_free(struct unix_request *record);
void unix_requests_carry(struct carry *carry, struct unix_client *client);

#endif
