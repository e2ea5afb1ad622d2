/*
 * cgroup_carry.c: hasupd's cgroup and its leaves, to another hasupd.  The directories stay open,
 * and with them the lock that says that they are in use; so does the inotify descriptor with its
 * watches.
 */
#include "supervisor/carry.h"
#include "supervisor/cgroup_own.h"

#include <stdlib.h>

static struct leaf *made_leaf(struct carry *carry)
{
    struct leaf *leaf = calloc(1, sizeof *leaf);
    if (!leaf)
        carry->no_memory = true;
    else
        leaf->directory = leaf->events = -1;
    return leaf;
}

/* So that those who are in it find it. */
static void leaf_add(struct carry *carry, struct leaf *leaf)
{
    carry->leaves = carry_grown(carry, carry->leaves, carry->leaf_count, &carry->leaf_room,
                                sizeof *carry->leaves);
    if (carry->leaf_count < carry->leaf_room)
        carry->leaves[carry->leaf_count++] = leaf;
    else
        codec_fail(&carry->codec);
}

static void leaves_carry(struct carry *carry, struct cgroups *cgroups)
{
    CARRY(carry);
    uint64_t count = 0;
    struct leaf *at = cgroups->leaves, **last = &cgroups->leaves;
    for (struct leaf *leaf = at; leaf && !codec->loading; leaf = leaf->next)
        leaf->place = (uint32_t)++count;
    V(count);
    for (uint64_t i = 0; i < count && !codec->failed; i++) {
        struct leaf *leaf = codec->loading ? made_leaf(carry) : at;
        if (!leaf)
            return;
        carry_text(carry, leaf->name, sizeof leaf->name);
        carry_fd(carry, &leaf->directory);
        carry_fd(carry, &leaf->events);
        V(leaf->spent);
        at = leaf->next;
        if (codec->loading) {
            *last = leaf;
            last = &leaf->next;
            leaf_add(carry, leaf);
        }
    }
}

struct cgroups *cgroups_carry(struct carry *carry, struct cgroups *cgroups)
{
    CARRY(carry);
    bool there = cgroups;
    V(there);
    if (!there)
        return NULL;
    if (codec->loading && !(cgroups = calloc(1, sizeof *cgroups))) {
        carry->no_memory = true;
        codec_fail(codec);
        return NULL;
    }
    carry_text(carry, cgroups->path, sizeof cgroups->path);
    carry_fd(carry, &cgroups->directory);
    carry_fd(carry, &cgroups->notify);
    leaves_carry(carry, cgroups);
    return cgroups;
}

void leaf_carry(struct carry *carry, struct leaf **leaf)
{
    CARRY(carry);
    uint32_t place = *leaf && !codec->loading ? (*leaf)->place : 0;
    V(place);
    if (!codec->loading)
        return;
    *leaf = NULL;
    if (place > carry->leaf_count)
        codec_fail(codec);
    else if (place)
        *leaf = carry->leaves[place - 1];
}
