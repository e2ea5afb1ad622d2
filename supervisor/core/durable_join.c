/*
 * durable_join.c: who comes with the key or the number of a request that is known: joins it where
 * it runs, hears its stored answer where it is done, or why neither can be.
 */
#include "supervisor/core/internal.h"

/* Ends one that joined; what it had to hear was said. */
void joined_forget(struct core *core, struct item *item)
{
    list_remove(&item->leader->joined, item);
    item->leader = NULL;
    item->settled = true;
    core->joined--;
    request_forget(core, item);
}

void joined_answer(struct core *core, struct item *leader)
{
    while (leader->joined.head) {
        tell_answer(core, leader->joined.head, leader);
        joined_forget(core, leader->joined.head);
    }
}

void durable_left(struct core *core, struct item *item)
{
    joined_forget(core, item);
}

/* Who comes with the key can come again: its time stays with the request when it leaves, as that
 * of the first one does.  Who asks for it by its number hears its end, whenever that is. */
static void wait_longer(struct item *leader, const struct event *event)
{
    hasup_ns deadline = event->submitted.deadline ? event->submitted.deadline : HASUP_NEVER;
    bool asks = event->submitted.record && !PLANT(PLANT_ASKING_LENGTHENS);
    if (!asks && deadline > leader->later)
        leader->later = deadline;
}

bool durable_outlasts(struct core *core, struct item *item)
{
    if (item->later <= core->now)
        return false;
    if (item->client)
        refuse_action(core, item->id, REFUSED_DEADLINE, 0, item->attempts);
    item->client = false;
    bool queued = item->place == PLACE_QUEUE;
    if (queued)
        queue_remove(core, item);
    item->deadline = item->later;
    timer_set_at(&core->wheel, &item->timer, item->deadline);
    if (queued)
        queue_push(core, item);
    return true;
}

static void refuse_now(struct core *core, struct model *model, uint64_t request, enum refusal why,
                       uint32_t attempts)
{
    bool later = why == REFUSED_UNAVAILABLE || why == REFUSED_OVERLOADED || why == REFUSED_LATE ||
                 why == REFUSED_RATE || why == REFUSED_IN_PROGRESS;
    refuse_action(core, request, why, later ? HASUP_S : 0, attempts);
    if (model)
        model->refused++;
    action_add(core, ACTION_FORGET)->request = request;
}

static void join(struct core *core, const struct event *event, struct item *leader)
{
    struct item *item = request_open(core, event);
    item->model = leader->model;
    item->place = PLACE_JOINED;
    item->leader = leader;
    item->heard = event->submitted.heard;
    wait_longer(leader, event);
    list_append(&leader->joined, item);
    core->joined++;
    for (uint64_t number = 1; number <= leader->chunks_stored && !item->async; number++)
        tell_chunk(core, item, leader, number);
}

/* Its request runs: waits with it, or not. */
static void join_running(struct core *core, struct model *model, const struct event *event,
                         struct entry *entry)
{
    struct item *leader = item_find(core, entry->request);
    assert(leader && leader->entry == entry);
    if (event->submitted.no_wait && !event->submitted.async) {
        refuse_now(core, model, event->request, REFUSED_IN_PROGRESS, 0);
    } else if (event->submitted.heard > leader->chunks_stored) {
        /* More than there is: a number that nobody gave it. */
        refuse_now(core, model, event->request, REFUSED_GONE, 0);
    } else if (leader->settled) {
        /* Refused, but a worker still has it: it cannot begin anew before that ends. */
        refuse_now(core, model, event->request, REFUSED_UNAVAILABLE, 0);
    } else if (event->submitted.async && leader->storing != STORING_ACCEPT) {
        struct action *action = action_add(core, ACTION_ACCEPTED);
        action->request = event->request;
        action->record = entry->record;
        leader->async = true; /* somebody comes back for it by its number */
        wait_longer(leader, event);
        action_add(core, ACTION_FORGET)->request = event->request;
    } else {
        join(core, event, leader);
    }
}

static void retell(struct core *core, const struct event *event, const struct entry *entry)
{
    struct action *action =
        action_add(core, event->submitted.async ? ACTION_ACCEPTED : ACTION_RETELL);
    action->request = event->request;
    action->record = entry->record;
    if (!event->submitted.async)
        action->chunk.number = event->submitted.heard;
    action_add(core, ACTION_FORGET)->request = event->request;
}

/* What who comes for it hears.  Who has a part of another record's stream, which was refused and
 * left the key free, has not a part of this one's. */
static void tell_entry(struct core *core, struct model *model, const struct event *event,
                       struct entry *entry)
{
    bool told = entry->state == ENTRY_RUNNING || entry->state == ENTRY_DONE;
    if (told && event->submitted.heard && event->submitted.heard_of != entry->record &&
        !PLANT(PLANT_JOIN_IN_THE_MIDDLE)) {
        refuse_now(core, model, event->request, REFUSED_GONE, 0);
        return;
    }
    switch (entry->state) {
    case ENTRY_RUNNING: join_running(core, model, event, entry); break;
    case ENTRY_DONE: retell(core, event, entry); break;
    case ENTRY_REFUSED: refuse_now(core, model, event->request, entry->why, entry->attempts); break;
    case ENTRY_WAITING:
    case ENTRY_FREE: refuse_now(core, model, event->request, REFUSED_UNAVAILABLE, 0); break;
    }
}

void durable_asked(struct core *core, const struct event *event)
{
    struct entry *entry = entry_by_record(&core->entries, event->submitted.record);
    if (entry)
        tell_entry(core, NULL, event, entry);
    else
        refuse_at_once(core, event, NULL, REFUSED_NOT_FOUND);
}

bool durable_joined(struct core *core, struct model *model, const struct event *event)
{
    struct entry *entry = entry_by_key(&core->entries, event->submitted.key);
    if (!entry)
        return false;
    if (entry->body != event->submitted.body) {
        refuse_now(core, model, event->request, REFUSED_KEY_REUSED, 0);
        return true;
    }
    tell_entry(core, model, event, entry);
    return true;
}
