/*
 * poison.c: requests that kill, and what becomes of them.  Three kinds of seeds: rough ones, with
 * every fault and some poison; calm ones, where workers die of poison only; and those with bad
 * deployments, in which for a while every request of a model kills, or every large one, as where
 * memory is short.  In the last two only model 0 is afflicted.
 *
 * Owns the dead letters, which outlive hasupd.  Checks that what is quarantined does not run, that
 * nobody is quarantined without cause, that poison is found in time, and that other models never
 * notice.
 */
#include "supervisor/sim/internal.h"

/* The core forgets a suspect after this long. */
static const hasup_ns SUSPICION = 600 * HASUP_S;

enum { LARGE = 3000, AFFLICTED = 0 };

void poison_shape(struct sim *sim)
{
    static const enum regime REGIMES[] = {REGIME_CALM, REGIME_DEPLOYS};
    uint32_t drawn = random_below(&sim->random, 8);
    sim->regime = drawn < HASUP_LEN(REGIMES) ? REGIMES[drawn] : REGIME_ROUGH;
    if (sim->regime == REGIME_ROUGH)
        return;
    sim->fault_permille = 0;
    sim_schedule(sim, sim_between(sim, 10 * HASUP_S, 600 * HASUP_S), HAPPENS_DEPLOY, 0, 0, 0);
}

bool poison_is_drawn(struct sim *sim, uint32_t model)
{
    switch (sim->regime) {
    case REGIME_ROUGH: return sim_chance(sim, sim->fault_permille / 8);
    case REGIME_CALM: return model == AFFLICTED && sim_chance(sim, 40);
    case REGIME_DEPLOYS: return false;
    }
    return false;
}

/* A bad version comes, or goes. */
void poison_deploy(struct sim *sim)
{
    if (sim->regime != REGIME_DEPLOYS || !sim->faults)
        return;
    bool over = sim->deploy != DEPLOY_GOOD;
    sim->deploy = over                            ? DEPLOY_GOOD
                  : random_below(&sim->random, 2) ? DEPLOY_KILLS_ALL
                                                  : DEPLOY_KILLS_LARGE;
    /* The first may be condemned for want of witnesses; at the end, who is in hand. */
    sim->false_verdicts = over ? sim->false_verdicts + 1 : 1;
    hasup_ns span = over ? sim_between(sim, 60 * HASUP_S, 900 * HASUP_S)
                         : sim_between(sim, HASUP_S, 120 * HASUP_S);
    sim_schedule(sim, sim->now + span, HAPPENS_DEPLOY, 0, 0, 0);
}

bool poison_kills(const struct sim *sim, const struct client *client)
{
    if (!sim->faults)
        return false;
    if (client->poison)
        return true;
    return client->model == AFFLICTED &&
           (sim->deploy == DEPLOY_KILLS_ALL ||
            (sim->deploy == DEPLOY_KILLS_LARGE && client->size >= LARGE));
}

/* ---- what it cost ---- */

static struct sim_letter *letter_of(struct sim *sim, uint32_t model, uint64_t content)
{
    for (unsigned i = 0; i < SIM_LETTERS; i++)
        if (sim->letters[i].content == content && sim->letters[i].model == model)
            return &sim->letters[i];
    return NULL;
}

static struct sim_letter *letter_make(struct sim *sim, uint32_t model, uint64_t content)
{
    struct sim_letter *letter = letter_of(sim, model, content), *oldest = sim->letters;
    for (unsigned i = 0; i < SIM_LETTERS && !letter; i++)
        if (sim->letters[i].last < oldest->last)
            oldest = &sim->letters[i];
    if (letter)
        return letter;
    *oldest = (struct sim_letter){.content = content, .model = model};
    return oldest;
}

/* The most workers that one body may cost: max_attempts, twice that where others died beside it, or
 * more until it stands alone; and each worker may have another request with it in hand then, those
 * that stand in for others too. */
static uint32_t kills_most(const struct sim *sim, uint32_t model)
{
    const struct model_policy *policy = &sim->models[model].policy;
    uint32_t halves = 2;
    const struct model_shape *shape = &sim->models[model];
    for (uint32_t n = 1; n < shape->concurrency * shape->max_batch; n *= 2)
        halves++;
    uint32_t most = 2 * policy->max_attempts;
    return (most > halves ? most : halves) + policy->workers + policy->rollout.max_surge;
}

void poison_killed(struct sim *sim, const struct client *client)
{
    struct sim_letter *letter = letter_make(sim, client->model, client->content);
    if (sim->now - letter->last > SUSPICION)
        letter->kills = 0;
    letter->last = sim->now;
    letter->poison |= client->poison || (sim->deploy == DEPLOY_KILLS_LARGE);
    letter->kills++;
    if (sim->regime == REGIME_CALM && letter->kills > kills_most(sim, client->model))
        sim_fail(sim, "request %llx: its body has killed %u workers and is not quarantined",
                 (unsigned long long)client->id, letter->kills);
}

/* ---- what the core does about it ---- */

void poison_hash(const struct sim *sim, const struct client *client, uint64_t hash[2])
{
    (void)sim;
    hash[0] = client->content;
    hash[1] = client->model + 1;
}

void poison_identify(struct sim *sim, const struct action *action)
{
    const struct client *client = client_find(sim, action->request);
    struct event event = {.type = EVENT_IDENTIFIED,
                          .model = action->model,
                          .request = action->request,
                          .identified = {.how = action->identify}};
    if (!client) {
        sim_fail(sim, "an unknown request is to be identified");
        return;
    }
    if (sim->regime != REGIME_ROUGH && action->model != AFFLICTED && action->identify.died)
        sim_fail(sim, "model %u lost a worker, and only model %u kills", action->model, AFFLICTED);
    poison_hash(sim, client, event.identified.hash);
    session_suspected(sim, client->content);
    sim_post(sim, &event);
}

/* Whether anybody could say that it kills. */
static bool has_cause(const struct sim *sim, const struct sim_letter *letter)
{
    return sim->regime == REGIME_ROUGH || letter->poison;
}

void poison_quarantine(struct sim *sim, const struct action *action)
{
    uint64_t content = action->quarantine.hash[0];
    struct sim_letter *letter = letter_make(sim, action->model, content);
    if (action->quarantine.attempts < sim->models[action->model].policy.max_attempts)
        sim_fail(sim, "a body is quarantined after %u crashes (promise 6)",
                 action->quarantine.attempts);
    if (sim->regime == REGIME_DEPLOYS && !has_cause(sim, letter) && sim->false_verdicts)
        sim->false_verdicts--;
    else if (!has_cause(sim, letter))
        sim_fail(sim, "model %u: an innocent request is quarantined", action->model);
    letter->quarantined = true;
    letter->attempts = action->quarantine.attempts;
    letter->expires = action->quarantine.expires;
    letter->last = sim->now;
    letter->kills = 0;
}

void poison_pardon(struct sim *sim, const struct action *action)
{
    struct sim_letter *letter = letter_of(sim, action->model, action->pardon.hash[0]);
    if (!letter)
        return;
    /* What the row of a bad deployment brought about is undone. */
    sim->false_verdicts += !has_cause(sim, letter);
    *letter = (struct sim_letter){0};
}

bool poison_is_quarantined(struct sim *sim, const struct client *client)
{
    const struct sim_letter *letter = letter_of(sim, client->model, client->content);
    return letter && letter->quarantined && letter->expires > sim->now;
}

/* The model's breaker opens: what was counted against bodies is forgotten. */
void poison_breaker(struct sim *sim, uint32_t model)
{
    if (sim->regime != REGIME_ROUGH && model != AFFLICTED)
        sim_fail(sim, "the breaker of model %u opens, and only model %u kills", model, AFFLICTED);
    for (unsigned i = 0; i < SIM_LETTERS; i++)
        if (sim->letters[i].model == model)
            sim->letters[i].kills = 0;
}

/* Somebody or something made the core forget its rows: it may be wrong once more. */
void poison_unsettled(struct sim *sim)
{
    sim->false_verdicts += sim->deploy != DEPLOY_GOOD;
    for (unsigned i = 0; i < SIM_LETTERS; i++)
        sim->letters[i].kills = 0;
}

/* hasupd dies: it knows its dead letters again, and nothing of suspects. */
void poison_recover(struct sim *sim, uint32_t model)
{
    for (unsigned i = 0; i < SIM_LETTERS; i++) {
        struct sim_letter *letter = &sim->letters[i];
        if (letter->model != model)
            continue;
        letter->kills = 0;
        if (!letter->quarantined)
            continue;
        sim_post(sim, &(struct event){.type = EVENT_RECOVERED,
                                      .model = model,
                                      .recovered = {.what = RECOVERY_QUARANTINED,
                                                    .hash = {letter->content, model + 1},
                                                    .attempts = letter->attempts,
                                                    .expires = letter->expires}});
    }
}
