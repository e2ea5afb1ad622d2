/*
 * control_followers.c: clients whose command goes on after its first answer.  Owns the list of
 * those who wait for an end (control_awaited.c); what of it holds an upgrade, what goes along.
 * Readers of events and of what workers print have files of their own, and are reached from here.
 */
#include "supervisor/control_own.h"

#include "supervisor/carry.h"
#include "supervisor/event_readers.h"
#include "supervisor/history.h"

#include <stdlib.h>

struct follower *follower_add(struct call *call)
{
    struct control *control = call->control;
    struct follower *follower = NULL;
    if (control->follower_count < FOLLOWERS_MAX)
        follower = calloc(1, sizeof *follower);
    if (!follower) {
        reply_error(call, 429, "overloaded", "%d commands already follow or wait", FOLLOWERS_MAX);
        return NULL;
    }
    follower->client = call->client;
    follower->id = call->id;
    follower->next = control->followers;
    control->followers = follower;
    control->follower_count++;
    return follower;
}

void follower_remove(struct control *control, struct follower **at)
{
    struct follower *follower = *at;
    *at = follower->next;
    control->follower_count--;
    json_decref(follower->results);
    free(follower);
}

void control_cancel(struct control *control, struct unix_client *client, uint64_t id,
                    bool everything)
{
    if (!control)
        return;
    event_readers_cancel(control->event_readers, client, id, everything);
    readers_cancel(control->readers, client, id, everything);
    waits_cancel(control->waits, client, id, everything);
    for (struct follower **at = &control->followers; *at;) {
        bool his = (*at)->client == client && (everything || (*at)->id == id);
        if (his)
            follower_remove(control, at);
        else
            at = &(*at)->next;
    }
}

void control_drained(struct control *control, const struct unix_client *client)
{
    if (control)
        event_readers_drained(control->event_readers, client);
}

void followers_event(void *context, int64_t wall_ns, const char *json, size_t len)
{
    struct control *control = context;
    history_event(control->history, wall_ns, json, len);
    event_readers_tell(control->event_readers, json, len);
}

/* ---- upgrades ---- */

const char *control_holds(const struct control *control)
{
    for (const struct follower *f = control->followers; f; f = f->next)
        if (f->what == AWAITS_JOURNAL)
            return "a command of hasupctl waits for the journal";
    return readers_wait(control->readers) ? "log files are being opened anew" : NULL;
}

static struct follower *follower_loaded(struct control *control, struct unix_client *client,
                                        uint64_t id)
{
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower)
        return NULL;
    follower->client = client;
    follower->id = id;
    follower->next = control->followers;
    control->followers = follower;
    control->follower_count++;
    return follower;
}

static struct follower *follower_of(struct control *control, const struct unix_client *client,
                                    uint64_t id)
{
    struct follower *follower = control->followers;
    while (follower && (follower->client != client || follower->id != id))
        follower = follower->next;
    return follower;
}

/* Of those who wait for several ends: what they have heard of. */
static void results_carry(struct carry *carry, struct control *control, struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    struct follower *follower = control->followers;
    for (struct follower *f = follower; f && !codec->loading; f = f->next)
        count += f->client == client && f->results;
    E(count, FOLLOWERS_MAX);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        while (!codec->loading && (follower->client != client || !follower->results))
            follower = follower->next;
        uint64_t id = codec->loading ? 0 : follower->id;
        char *text = codec->loading ? NULL : json_dumps(follower->results, JSON_COMPACT);
        V(id);
        carry_string(carry, &text);
        if (codec->loading) {
            follower = follower_of(control, client, id);
            if (follower && text)
                follower->results = json_loads(text, 0, NULL);
            if (!follower || !follower->results) {
                codec_fail(codec);
                follower = NULL;
            }
        }
        free(text);
        if (!follower)
            return;
        V(follower->waiting);
        follower = follower->next;
    }
}

/* `follower`: NULL while it is loaded.  An older hasupd kept who reads events here, too. */
static void follower_carry(struct carry *carry, struct control *control, struct unix_client *client,
                           struct follower *follower)
{
    enum { READS_EVENTS, WAITS };
    CARRY(carry);
    uint64_t id = follower ? follower->id : 0, lost = 0;
    uint32_t what = follower ? WAITS + (uint32_t)follower->what : READS_EVENTS;
    char target[EVENT_TARGET] = "";
    V(id);
    E(what, WAITS + AWAITS_UPGRADE);
    carry_text(carry, target, sizeof target);
    V(lost);
    if (!codec->loading || codec->failed)
        return;
    if (what == READS_EVENTS ? event_readers_resume(control->event_readers, client, id, target)
                             : !(follower = follower_loaded(control, client, id)))
        codec_fail(codec);
    else if (what != READS_EVENTS)
        follower->what = what - WAITS;
}

void control_carry(struct carry *carry, struct control *control, struct unix_client *client)
{
    CARRY(carry);
    uint32_t count = 0;
    struct follower *follower = control->followers;
    for (struct follower *f = follower; f && !codec->loading; f = f->next)
        count += f->client == client;
    E(count, FOLLOWERS_MAX);
    for (uint32_t i = 0; i < count && !codec->failed; i++) {
        while (!codec->loading && follower->client != client)
            follower = follower->next;
        follower_carry(carry, control, client, follower);
        follower = codec->loading ? NULL : follower->next;
    }
    readers_carry(carry, control->readers, client);
    event_readers_carry(carry, control->event_readers, client);
    results_carry(carry, control, client);
    waits_carry(carry, control->waits, client);
}
