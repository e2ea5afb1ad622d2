/*
 * blame.c: who is to blame when a worker dies with requests in hand: one of them, or the model.
 *
 * Every request that was in hand is suspect, and is tried again (suspect.c).  A body that took part
 * in `max_attempts` crashes and was alone at the last is quarantined: refused for quarantine_ttl.
 *
 * That would put the whole world into quarantine when a new version of a model, or a machine
 * without memory, kills with every request.  What tells the two apart is whether others are
 * answered.  So crashes are counted in rows: a row goes on until the model answers a request that
 * it was given after the row's last crash.  A crash counts if all that died in it began after the
 * last one that counted, so that workers that die at once, killed from outside, are one crash and
 * not many.  Requests that died apart in a row, and have none in common, accuse the model:
 *
 * Two such groups, and as many crashes as one body may cost (at most 3): the model's breaker opens.
 * Nothing is dispatched, what was counted against bodies in this row is forgotten, and who was
 * quarantined in it without proof is pardoned.  Later one request at a time is tried; the pauses
 * double up to restart.breaker; an answer closes it.
 *
 * One group: its body is quarantined, with proof where an answer ended a row since its last crash;
 * without, where nobody else died in the row: there was nobody to try.  That is the one false
 * verdict which a bad deployment can bring about, and it is pardoned when another request dies.
 *
 * So that there is an answer to tell by, suspects wait for all others once a row has two crashes.
 * What is in a slot's log and was answered once is dropped from it only with proof: without, the
 * slot tries again and again with backoff, because the state would be lost.
 *
 * What cannot be told apart: a kill from outside that strikes the same body, alone, max_attempts
 * times, while others are answered.
 */
#include "supervisor/core/internal.h"

/* A body without quarantine_ttl, or a suspect, is remembered this long after its last crash. */
#define SUSPICION (600 * HASUP_S)
/* The first pause where the policy names none. */
#define PAUSE_MIN (100 * HASUP_MS)

enum {
    ROW_GROUPS = 2,
    ROW_CRASHES_MAX = 3,
    ROW_CRASHES_MIN = 2,
    ROW_WITNESS = 2
};

bool blame_is_quarantined(const struct core *core, const uint64_t hash[2], uint32_t *crashes)
{
    const struct body *body = body_find(&core->bodies, hash);
    if (!body || !body->quarantined || (PLANT(PLANT_RUN_QUARANTINED) && core->uses % 4 == 0))
        return false;
    *crashes = body->crashes;
    return true;
}

/* ---- the model's breaker ---- */

static struct action *notice_model(struct core *core, enum notice what, const struct model *model)
{
    struct action *action = action_add(core, ACTION_NOTICE);
    action->model = model->index;
    action->notice.what = what;
    return action;
}

/* The body may run again, also for those who come with a key that was refused because of it. */
static void pardon_hash(struct core *core, uint32_t model, const uint64_t hash[2])
{
    struct action *action = action_add(core, ACTION_PARDON);
    action->model = model;
    memcpy(action->pardon.hash, hash, sizeof action->pardon.hash);
    durable_pardoned(core, hash);
}

/* Free to run again, and still known: should it kill, it is nobody else. */
static void body_release(struct core *core, struct body *body)
{
    body->quarantined = body->proven = false;
    body->crashes = 0;
    timer_set_at(&core->wheel, &body->timer, core->now + SUSPICION);
}

static void pardon(struct core *core, struct body *body)
{
    pardon_hash(core, body->model, body->hash);
    body_release(core, body);
}

/* What this row counted against bodies was the model's doing. */
static void row_pardon(struct core *core, const struct model *model)
{
    for (struct body *body = core->bodies.oldest, *next; body; body = next) {
        next = body->newer;
        if (body->model != model->index || body->row != model->row.first)
            continue;
        if (!body->quarantined)
            body->crashes = 0;
        else if (!body->proven)
            pardon(core, body);
    }
}

static hasup_ns breaker_pause(struct core *core, const struct model *model)
{
    const struct model_policy *policy = &model->policy;
    hasup_ns most = policy->restart.breaker ? policy->restart.breaker : policy->restart.backoff_max;
    hasup_ns least = policy->restart.backoff_min ? policy->restart.backoff_min : PAUSE_MIN;
    return random_backoff(&core->random, least, most, model->breaker.opened);
}

static void breaker_open(struct core *core, struct model *model)
{
    hasup_ns pause = breaker_pause(core, model);
    model->breaker.state = BREAKER_OPEN;
    model->breaker.opened++;
    model->breaker.until = core->now + pause;
    timer_set_at(&core->wheel, &model->breaker.timer, model->breaker.until);
    row_pardon(core, model);
    struct action *notice = notice_model(core, NOTICE_MODEL_BROKEN, model);
    notice->notice.delay = pause;
    notice->notice.value = model->row.crashes;
    /* A model that only finishes what it has would never come to an end. */
    if (!model->accepting && !core->shutting_down)
        requests_refuse_queued(core, model, REFUSED_UNAVAILABLE);
}

static void breaker_close(struct core *core, struct model *model)
{
    if (model->breaker.state == BREAKER_CLOSED)
        return;
    timer_clear(&core->wheel, &model->breaker.timer);
    model->breaker.state = BREAKER_CLOSED;
    model->breaker.opened = 0;
    model->breaker.resumes = true;
    notice_model(core, NOTICE_MODEL_MENDED, model);
}

void breaker_timed_out(struct core *core, struct model *model)
{
    model->breaker.state = BREAKER_HALF_OPEN;
    dispatch_model(core, model);
    model_settle(core, model);
}

static void breaker_consider(struct core *core, struct model *model)
{
    uint32_t crashes = model->policy.max_attempts;
    if (!crashes || crashes > ROW_CRASHES_MAX)
        crashes = ROW_CRASHES_MAX;
    if (crashes < ROW_CRASHES_MIN)
        crashes = ROW_CRASHES_MIN;
    if (model->row.groups >= ROW_GROUPS && model->row.crashes >= crashes &&
        model->breaker.state != BREAKER_OPEN && !PLANT(PLANT_NO_BREAKER)) {
        breaker_open(core, model);
        rollout_model_broke(core, model);
    }
}

/* ---- rows ---- */

bool blame_wants_witness(const struct model *model)
{
    uint32_t most = model->policy.max_attempts;
    return model->row.crashes >= (most == ROW_WITNESS ? most - 1 : ROW_WITNESS);
}

static void row_end(struct core *core, struct model *model)
{
    model->row.crashes = model->row.groups = 0;
    model->row.beside = false;
    model->row.first = ++core->accusations;
}

void breaker_reset(struct core *core, struct model *model)
{
    for (struct body *body = core->bodies.oldest; body; body = body->newer)
        if (body->model == model->index && !body->quarantined)
            body->crashes = 0;
    row_end(core, model);
    breaker_close(core, model);
}

/* Its accusation in this row; 0: none. */
static uint64_t accused(const struct core *core, const struct model *model, const struct item *item)
{
    const struct body *body = body_find(&core->bodies, item->hash);
    uint64_t last = item->accused;
    if (body && body->accused > last)
        last = body->accused;
    return last > model->row.first ? last : 0;
}

/* The crash of a larger group is explained by this part of it: the others are free of it. */
static void acquit(struct core *core, uint64_t accusation)
{
    for (struct body *body = core->bodies.oldest; body; body = body->newer)
        if (body->accused == accusation)
            body->accused = 0;
    for (uint32_t i = 0; i < core->items_high; i++)
        if (core->items[i].accused == accusation)
            core->items[i].accused = 0;
}

static void row_go_on(struct core *core, struct slot *slot)
{
    struct model *model = model_of(core, slot);
    uint64_t before = 0;
    if (core->now - model->row.last > SUSPICION)
        row_end(core, model); /* so long after the last one it is a new story */
    model->row.last = core->now;
    for (const struct item *item = slot->flight.head; item; item = item->next)
        if (accused(core, model, item) > before)
            before = accused(core, model, item);
    slot->crash.mark = ++core->accusations;
    slot->crash.first = !before;
    model->row.seen++;
    model->row.crashes++;
    model->row.groups += !before;
    if (before)
        acquit(core, before);
    for (struct item *item = slot->flight.head; item; item = item->next)
        item->accused = slot->crash.mark;
}

void blame_crash(struct core *core, struct slot *slot)
{
    const struct model *model = model_of(core, slot);
    bool counts = slot->flight.head != NULL;
    for (const struct item *item = slot->flight.head; item; item = item->next)
        counts = counts && item->seen == model->row.seen;
    slot->crash = (struct identity){.died = true, .alone = slot->inflight == 1};
    if (counts)
        row_go_on(core, slot);
}

void blame_item(struct core *core, struct slot *slot, struct item *item)
{
    struct model *model = model_of(core, slot);
    struct action *action = action_slot(core, ACTION_IDENTIFY, slot);
    item->crashes++;
    action->request = item->id;
    action->identify = slot->crash;
    model->identifying++;
}

void blame_answered(struct core *core, struct model *model, struct item *item)
{
    struct body *body = body_find(&core->bodies, item->hash);
    item->crashes = 0;
    if (body && body->quarantined)
        pardon_hash(core, body->model, body->hash);
    if (body)
        body_free(core, body);
    if (item->seen != model->row.seen)
        return; /* it began before the last crash, which it says nothing of */
    row_end(core, model);
    model->row.answers++;
    breaker_close(core, model);
}

/* ---- verdicts ---- */

/* Ends what waits with a body that is quarantined. */
static void item_condemn(struct core *core, struct item *item)
{
    struct slot *slot;
    switch (item->place) {
    case PLACE_QUEUE:
    case PLACE_SUSPECTS: waiting_refuse(core, item, REFUSED_QUARANTINED, 0); return;
    case PLACE_LOG:
        slot = &core->slots[item->slot];
        if (!item->settled && item->storing == STORING_NOTHING)
            request_refuse(core, item, REFUSED_QUARANTINED, 0);
        if (item->answered) { /* its effect on the state is missing from now on */
            notice_slot(core, NOTICE_STATE_LOST, slot)->request = item->id;
            log_forsake(core, slot, item->position);
        }
        log_let_go(core, slot, item);
        return;
    case PLACE_FLIGHT: /* its end will tell */
    case PLACE_STORE:  /* when it is accepted */
    case PLACE_JOINED:
    case PLACE_NONE: return;
    }
}

/* Others with the same body wait: those whose body is not known yet have to be asked for it. */
static void condemn_others(struct core *core, struct model *model, const struct body *body)
{
    for (uint32_t i = 0; i < core->items_high; i++) {
        struct item *item = &core->items[i];
        bool waits = item->place == PLACE_QUEUE || item->place == PLACE_SUSPECTS ||
                     (item->place == PLACE_LOG && !item->answered) ||
                     (item->place == PLACE_STORE && item->storing == STORING_ACCEPT);
        if (!waits || item->model != model->index)
            continue;
        if (!item->hash[0] && !item->hash[1]) {
            struct action *action = action_add(core, ACTION_IDENTIFY);
            action->model = model->index;
            action->request = item->id;
            model->identifying++;
        } else if (item->hash[0] == body->hash[0] && item->hash[1] == body->hash[1]) {
            item_condemn(core, item);
        }
    }
}

static void quarantine(struct core *core, struct model *model, struct body *body, struct item *item)
{
    hasup_ns ttl = model->policy.quarantine_ttl;
    struct action *notice = notice_model(core, NOTICE_QUARANTINED, model);
    notice->request = item ? item->id : 0;
    notice->notice.value = body->crashes;
    struct action *action = action_add(core, ACTION_QUARANTINE);
    action->model = model->index;
    action->request = item ? item->id : 0;
    action->record = item && item->entry ? item->entry->record : 0;
    action->quarantine.hash[0] = body->hash[0];
    action->quarantine.hash[1] = body->hash[1];
    action->quarantine.attempts = body->crashes;
    action->quarantine.expires = core->now + ttl;
    body->quarantined = true;
    timer_set_at(&core->wheel, &body->timer, core->now + ttl);
    if (item)
        item_condemn(core, item);
    if (ttl)
        condemn_others(core, model, body);
    else
        body_free(core, body);
}

static bool body_is_guilty(const struct model *model, const struct body *body,
                           const struct item *item, const struct identity *how)
{
    const uint32_t most = model->policy.max_attempts;
    bool alone = how->alone || PLANT(PLANT_BLAME_MATES);
    /* It was answered once, and kills when it runs again: without it the slot's state is lost. */
    bool answered = item && item->answered;
    if (!how->mark) /* it died beside another one: whatever struck that may have struck it, too */
        return false;
    if (!alone || !most || body->crashes < most + (answered ? item->attempts : 0))
        return false;
    bool only =
        !model->row.groups || (model->row.groups < ROW_GROUPS && body->accused > model->row.first);
    /* Others died beside it, which did not count: they get their turn first. */
    only = only && body->crashes >= (model->row.beside ? 2 * most : most);
    return body->proven || (!answered && only) || PLANT(PLANT_NO_BREAKER);
}

static void judge(struct core *core, struct model *model, const struct event *event,
                  struct item *item)
{
    const struct identity *how = &event->identified.how;
    struct body *body = body_touch(core, model->index, event->identified.hash);
    hasup_ns ttl = model->policy.quarantine_ttl;
    if (body->quarantined)
        return;
    timer_set_at(&core->wheel, &body->timer, core->now + (ttl > SUSPICION ? ttl : SUSPICION));
    body->proven = body->crashes && body->answers != model->row.answers;
    body->answers = model->row.answers;
    body->row = model->row.first;
    body->crashes++;
    /* Another request with this body had died in this row: they are one group. */
    if (how->alone && how->first && body->accused > model->row.first &&
        body->accused != how->mark && model->row.groups)
        model->row.groups--;
    if (how->mark)
        body->accused = how->mark;
    else if (body->accused <= model->row.first)
        model->row.beside = true;
    if (body_is_guilty(model, body, item, how))
        quarantine(core, model, body, item);
    breaker_consider(core, model);
}

void body_timed_out(struct core *core, struct body *body)
{
    if (body->quarantined)
        body_release(core, body);
    else
        body_free(core, body);
}

/* ---- events ---- */

void blame_identified(struct core *core, const struct event *event)
{
    if (event->model >= core->limits.models || !core->models[event->model].used)
        return;
    struct model *model = &core->models[event->model];
    struct item *item = item_find(core, event->request);
    uint32_t crashes;
    if (item)
        memcpy(item->hash, event->identified.hash, sizeof item->hash);
    model->identifying -= model->identifying > 0;
    if (event->identified.how.died) {
        judge(core, model, event, item);
        item = item_find(core, event->request);
    }
    if (item && blame_is_quarantined(core, item->hash, &crashes))
        item_condemn(core, item);
    dispatch_model(core, model);
    model_settle(core, model);
}

void blame_lifted(struct core *core, const struct event *event)
{
    struct body *body = body_find(&core->bodies, event->lifted.hash);
    pardon_hash(core, body ? body->model : UINT32_MAX, event->lifted.hash);
    if (body)
        body_release(core, body);
}

void blame_recovered(struct core *core, const struct event *event)
{
    assert(event->model < core->limits.models && core->models[event->model].used);
    if (event->recovered.expires <= core->now)
        return;
    struct body *body = body_touch(core, event->model, event->recovered.hash);
    body->quarantined = body->proven = true;
    body->crashes = event->recovered.attempts;
    timer_set_at(&core->wheel, &body->timer, event->recovered.expires);
}
