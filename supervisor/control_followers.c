/*
 * control_followers.c: clients whose command goes on after its first answer.  Owns the list of
 * them: who follows events, who waits for an end (control_awaited.c); what of it holds an upgrade,
 * what goes along.  Who is too slow loses events, and is told how many.
 */
#include "supervisor/control_own.h"

#include "supervisor/carry.h"
#include "supervisor/events.h"
#include "supervisor/history.h"

#include <stdio.h>
#include <stdlib.h>

enum { LAST_LINES = 100 };

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

/* ---- events ---- */

/* Whether a line is about what `wanted` names: a model or a slot. */
static bool line_matches(const char *json, size_t len, const char *wanted)
{
    char key[ENGINE_NAME + 16];
    bool slot = strchr(wanted, '/') != NULL;
    if (!wanted[0])
        return true;
    int n = snprintf(key, sizeof key, "\"slot\":\"%s%s", wanted, slot ? "\"" : "/");
    if (n > 0 && memmem(json, len, key, (size_t)n))
        return true;
    n = snprintf(key, sizeof key, "\"model\":\"%s\"", wanted);
    return !slot && n > 0 && memmem(json, len, key, (size_t)n);
}

static void follower_tell(struct follower *f, const char *json, size_t len)
{
    char lost[96];
    int n = snprintf(lost, sizeof lost, "{\"event\":\"events.lost\",\"lines\":%llu}",
                     (unsigned long long)f->lost);
    if (f->lost && unix_client_chunk(f->client, f->id, lost, (size_t)n))
        f->lost = 0;
    if (f->lost || !unix_client_chunk(f->client, f->id, json, len))
        f->lost++;
}

void followers_event(void *context, int64_t wall_ns, const char *json, size_t len)
{
    struct control *control = context;
    history_event(control->history, wall_ns, json, len);
    for (struct follower *f = control->followers; f; f = f->next)
        if (f->what == FOLLOWS_EVENTS && line_matches(json, len, f->slot))
            follower_tell(f, json, len);
}

struct listing {
    struct call *call;
    const char *slot;
};

static void list_line(void *context, int64_t wall_ns, const char *json, size_t len)
{
    const struct listing *listing = context;
    (void)wall_ns;
    if (line_matches(json, len, listing->slot))
        unix_client_chunk(listing->call->client, listing->call->id, json, len);
}

void run_events(struct call *call)
{
    json_t *count = json_object_get(call->in, "count");
    json_t *slot = json_object_get(call->in, "target");
    struct listing listing = {call, json_is_string(slot) ? json_string_value(slot) : ""};
    events_each(call->control->events,
                json_is_integer(count) ? (size_t)json_integer_value(count) : LAST_LINES, list_line,
                &listing);
    if (!json_is_true(json_object_get(call->in, "follow"))) {
        reply_ok(call);
        return;
    }
    struct follower *follower = follower_add(call);
    if (!follower)
        return;
    follower->what = FOLLOWS_EVENTS;
    snprintf(follower->slot, sizeof follower->slot, "%s", listing.slot);
}

/* ---- upgrades ---- */

const char *control_holds(const struct control *control)
{
    for (const struct follower *f = control->followers; f; f = f->next)
        if (f->what != FOLLOWS_EVENTS && f->what != AWAITS_UPGRADE)
            return "a command of hasupctl waits for its end";
    if (waits_any(control->waits))
        return "a hasupctl wait waits";
    return readers_wait(control->readers) ? "log files are being opened anew" : NULL;
}

static struct follower *follower_loaded(struct control *control, struct unix_client *client)
{
    struct follower *follower = calloc(1, sizeof *follower);
    if (!follower)
        return NULL;
    follower->client = client;
    follower->next = control->followers;
    control->followers = follower;
    control->follower_count++;
    return follower;
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
        if (codec->loading && !(follower = follower_loaded(control, client))) {
            codec_fail(codec);
            return;
        }
        V(follower->id);
        E(follower->what, AWAITS_UPGRADE);
        carry_text(carry, follower->slot, sizeof follower->slot);
        V(follower->lost);
        follower = follower->next;
    }
    readers_carry(carry, control->readers, client);
}
