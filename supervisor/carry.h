/*
 * carry.h: what a hasupd gives to the one that takes its place (docs/upgrade.md): records, by the
 * codec of the core, with descriptors and shared buffers among them.  Each part of the shell has a
 * function that carries what it owns, both ways; upgrade.c calls them in their order.
 *
 * Descriptors are written as their numbers, which exec keeps.  A buffer is written once, and by its
 * place wherever it is used; a first pass finds them all.
 */
#ifndef HASUP_SUPERVISOR_CARRY_H
#define HASUP_SUPERVISOR_CARRY_H

#include "supervisor/buffer.h"
#include "supervisor/core/codec.h"

struct engine;
struct carried_version;

enum { CARRY_WHY = 512 };

struct carry {
    struct codec codec;
    struct engine *engine;
    int *fds; /* that go along, while saving */
    size_t fd_count, fd_room;
    int stand_in; /* what is duplicated for each of them in a rehearsal; 0: not made yet */
    hasup_ns began; /* while saving: when the old one stopped */
    struct buffer **buffers;
    size_t buffer_count, buffer_room;
    struct leaf **leaves; /* cgroup_carry.c's, in their order, while loading */
    size_t leaf_count, leaf_room;
    uint8_t *core; /* its bytes, while saving */
    size_t core_len;
    struct carried_version *versions; /* versions_carry.c's, */
    void (*versions_free)(struct carried_version *list); /* where there are some */
    char why[CARRY_WHY]; /* what codec.failed may point to */
    bool no_memory;
    bool closed_by_exec; /* while loading: all descriptors are made so already */
    bool dry; /* loading only to see whether it could be: others stand for the descriptors */
};

/* Fields of the record that is open. */
void carry_text(struct carry *carry, char *text, size_t room);
/* malloc'ed when it is loaded; NULL and "" are one. */
void carry_string(struct carry *carry, char **text);
/* malloc'ed with `behind` bytes more. */
void carry_block(struct carry *carry, uint8_t **bytes, size_t *len, size_t behind);
void carry_fd(struct carry *carry, int *fd); /* -1: none */
void carry_buffer(struct carry *carry, struct buffer **buffer); /* a reference, which is counted */
/* A body whose bytes, where it is no buffer, are malloc'ed when it is loaded. */
void carry_body(struct carry *carry, struct body *body);

/* The table of buffers, before what uses them. */
void carry_buffers(struct carry *carry);
void carry_free(struct carry *carry);
/* `list` with room for one more, or as it was, with `no_memory`. */
void *carry_grown(struct carry *carry, void *list, size_t count, size_t *room, size_t each);

#define CARRY(carry_) struct codec *codec = &(carry_)->codec

#endif
