/*
 * shell.c: performs the core's actions on the fake world, and checks of each that it was allowed:
 * no dispatch to who is not ready, no more than a worker takes, and so on; starts are in start.c.
 * Also the disk: jobs in order, which sometimes fail.
 */
#include "supervisor/sim/internal.h"

/* ---- slots ---- */

static void slot_added(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    uint32_t number = slot->worker.number;
    if (slot->used)
        sim_fail(sim, "slot %u was added twice", action->slot);
    bool serves = action->role == ROLE_WORKER;
    struct vault *vault = serves ? &sim->vaults[action->model][action->ordinal] : NULL;
    *slot = (struct sim_slot){.used = true,
                              .model = action->model,
                              .ordinal = action->ordinal,
                              .role = action->role,
                              .stateful = sim->models[action->model].stateful &&
                                          action->role != ROLE_ZYGOTE,
                              .vault = vault};
    slot->worker.number = number;
    sim->models[action->model].scaled = sim->now;
    if (slot->stateful && serves)
        journal_recover_slot(sim, action->slot);
}

static bool vault_is_damaged(const struct vault *vault)
{
    for (unsigned i = 0; i < vault->kept_count; i++)
        if (vault->kept[i].bad)
            return true;
    return false;
}

/* What only the memory of hasupd held is gone. */
void vault_forget_memory(struct vault *vault)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < vault->kept_count; i++)
        if (!vault->kept[i].in_memory)
            vault->kept[kept++] = vault->kept[i];
    vault->kept_count = kept;
}

static void slot_removed(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    if (!slot->used || slot->worker.alive || slot->tree_left)
        sim_fail(sim, "slot %u was removed while its worker lives", action->slot);
    slot->used = false;
    sim->models[slot->model].scaled = sim->now;
    if (slot->vault)
        vault_forget_memory(slot->vault);
}

/* It has left nothing behind, and comes back. */
static void model_gone(struct sim *sim, uint32_t model)
{
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (sim->slots[i].used && sim->slots[i].model == model)
            sim_fail(sim, "model %u is gone, its slot %u is not", model, i);
    for (unsigned i = 0; i < SIM_REQUESTS; i++)
        if (sim->clients[i].id && sim->clients[i].model == model)
            sim_fail(sim, "model %u is gone with request %llx", model,
                     (unsigned long long)sim->clients[i].id);
    order_gone(sim, model);
    versions_configured(sim, model);
    poison_recover(sim, model);
}

/* ---- requests to workers ---- */

static void dispatch(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    struct client *client = client_find(sim, action->request);
    struct slot_view view;
    if (!client) {
        sim_fail(sim, "dispatch of an unknown request %llx", (unsigned long long)action->request);
        return;
    }
    bool serves =
        core_slot_view(sim->core, action->slot, &view) && slot->worker.phase == PHASE_SERVE;
    if (!serves || action->worker != slot->worker.number)
        sim_fail(sim, "dispatch to slot %u, whose worker is not ready", action->slot);
    if (client->at_slot != UINT32_MAX)
        sim_fail(sim, "request %llx is dispatched twice", (unsigned long long)action->request);
    if (action->dispatch.resume && (slot->stateful || !sim->models[slot->model].resumable))
        sim_fail(sim, "request %llx is to go on where a worker cannot",
                 (unsigned long long)action->request);
    if (client->durable && !client->row)
        sim_fail(sim, "request %llx runs before it is durable",
                 (unsigned long long)action->request);
    if (!action->dispatch.replay) {
        if (!client->durable && (client->ended || client->gone))
            sim_fail(sim, "request %llx runs though nobody waits",
                     (unsigned long long)action->request);
        if (client->deadline && !client->gone && !client->ended &&
            client->deadline + 3 * HASUP_MS < sim->now)
            sim_fail(sim, "request %llx runs past its deadline",
                     (unsigned long long)action->request);
        if (client->durable && client->latest + 3 * HASUP_MS < sim->now)
            sim_fail(sim, "request %llx runs past the deadline of all who came with its key",
                     (unsigned long long)action->request);
        if (poison_is_quarantined(sim, client))
            sim_fail(sim, "request %llx runs, and its body is quarantined",
                     (unsigned long long)action->request);
    } else {
        sim->report->replays++;
    }
    if (client->once && (client->dispatches || (client->row && client->row->ran)))
        sim_fail(sim, "request %llx runs twice, which it must not",
                 (unsigned long long)action->request);
    if (client->row)
        client->row->ran = client->row->given = true;
    client->dispatches += !action->dispatch.replay;
    client->at_slot = action->slot;
    client->at_worker = action->worker;
    client->replaying = action->dispatch.replay;
    client->produced = 0;
    client->began = false;
    if (!action->dispatch.replay)
        versions_dispatched(sim, slot, client);
    batch_dispatched(sim, slot, client, action);
    session_dispatched(sim, slot, client);
    worker_told(sim, slot,
                &(struct message){.action = ACTION_DISPATCH,
                                  .request = action->request,
                                  .replay = action->dispatch.replay,
                                  .resume = action->dispatch.resume,
                                  .more = action->dispatch.more,
                                  .size = action->dispatch.sent,
                                  .position = action->dispatch.position});
}

static void tell(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    if (action->worker != slot->worker.number)
        sim_fail(sim, "%s to an old worker of slot %u", action_name(action->type), action->slot);
    worker_told(sim, slot,
                &(struct message){.action = action->type,
                                  .request = action->request,
                                  .position = action->position});
}

static void terminate(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    struct slot_view view = {0};
    core_slot_view(sim->core, action->slot, &view);
    if (slot->recycling && slot->running && view.wanted && !slot->wild && !sim->shutting_down)
        sim_fail(sim, "slot %u is replaced with %u requests in hand", action->slot, slot->running);
    slot->ordered = true;
    if (fork_ends(sim, slot))
        return;
    if (slot->worker.alive && !slot->worker.ignores_term && !slot->worker.exiting) {
        slot->worker.exiting = true;
        worker_dies(sim, slot, false);
    }
}

/* One that hangs has its time to say why, and no longer. */
static void check_abort(struct sim *sim, const struct sim_slot *slot)
{
    const hasup_ns most = sim->models[slot->model].policy.timeouts.abort;
    if (slot->worker.aborted_at && sim->now > slot->worker.aborted_at + most + SIM_TICK)
        sim_fail(sim, "slot %u aborts for %lld ms, at most %lld are due",
                 (unsigned)(slot - sim->slots),
                 (long long)((sim->now - slot->worker.aborted_at) / HASUP_MS),
                 (long long)(most / HASUP_MS));
}

static void welcome(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    if (action->restore)
        sim->report->restores++;
    worker_told(sim, slot,
                &(struct message){.action = ACTION_WELCOME,
                                  .state = action->restore ? slot->worker.restoring : 0});
}

/* ---- the disk ---- */

static void disk_add(struct sim *sim, const struct disk_job *job)
{
    if (sim->disk_count == HASUP_LEN(sim->disk)) {
        sim_fail(sim, "the disk's queue grows without bound");
        return;
    }
    sim->disk[(sim->disk_start + sim->disk_count++) % HASUP_LEN(sim->disk)] = *job;
    hasup_ns start = sim->disk_free_at > sim->now ? sim->disk_free_at : sim->now;
    sim->disk_free_at = start + sim_between(sim, HASUP_MS / 10, 50 * HASUP_MS);
    sim_schedule(sim, sim->disk_free_at, HAPPENS_DISK, 0, 0, 0);
}

static void store_checkpoint(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = &sim->slots[action->slot];
    bool in_hand = slot->taken && slot->taken_position == action->position;
    slot->taken = false;
    if (!in_hand)
        sim_fail(sim, "a checkpoint is stored of a state that is not in hand");
    disk_add(sim, &(struct disk_job){.save = true,
                                     .slot = action->slot,
                                     .position = action->position,
                                     .state = slot->taken_state});
}

static void disk_saved(struct sim *sim, struct sim_slot *slot, const struct disk_job *job)
{
    bool fails = sim_chance(sim, sim->fault_permille * 4);
    if (fails && sim_chance(sim, 100)) { /* nor had the shell any memory for it */
        sim_post(sim, &(struct event){.type = EVENT_CHECKPOINT_STORED,
                                      .slot = job->slot,
                                      .checkpoint = {.error = HASUP_EIO}});
        return;
    }
    /* What the disk refuses is kept in memory by the shell, so it counts the same for a worker's
     * crash. */
    struct vault *vault = slot->vault;
    vault_forget_memory(vault); /* a newer one takes its place */
    for (unsigned i = SIM_CHECKPOINTS - 1; i; i--)
        vault->kept[i] = vault->kept[i - 1];
    vault->kept[0] =
        (struct checkpoint){.position = job->position, .state = job->state, .in_memory = fails};
    vault->kept_count += vault->kept_count < SIM_CHECKPOINTS;
    vault->apart = vault->apart && fails;
    if (!fails && job->position >= vault->cut)
        vault->cut = 0;
    sim->report->checkpoints++;
    sim_post(sim, &(struct event){
                      .type = EVENT_CHECKPOINT_STORED,
                      .slot = job->slot,
                      .checkpoint = {.position = job->position, .error = fails ? HASUP_EIO : 0}});
}

static void disk_loaded(struct sim *sim, struct sim_slot *slot, const struct disk_job *job)
{
    const struct checkpoint *found = NULL;
    struct vault *vault = slot->vault;
    bool in_memory = vault->kept_count && vault->kept[0].in_memory;
    int error = vault->kept_count ? HASUP_ECORRUPT : HASUP_ENOTFOUND;
    if (vault->kept_count && !in_memory && sim_chance(sim, sim->fault_permille))
        vault->kept[0].bad = true;
    if (!in_memory && sim_chance(sim, sim->fault_permille * 4))
        error = HASUP_EIO;
    for (unsigned i = 0; i < vault->kept_count && !found && error != HASUP_EIO; i++)
        if (!vault->kept[i].bad)
            found = &vault->kept[i];
    slot->worker.restoring = found ? found->state : 0;
    sim_post(sim, &(struct event){.type = EVENT_CHECKPOINT_LOADED,
                                  .slot = job->slot,
                                  .worker = job->worker,
                                  .checkpoint = {.found = found != NULL,
                                                 .position = found ? found->position : 0,
                                                 .error = found ? 0 : error}});
}

void disk_done(struct sim *sim)
{
    struct disk_job job = sim->disk[sim->disk_start];
    struct sim_slot *slot = &sim->slots[job.slot];
    sim->disk_start = (sim->disk_start + 1) % HASUP_LEN(sim->disk);
    sim->disk_count--;
    if (!slot->used)
        return;
    if (job.save)
        disk_saved(sim, slot, &job);
    else if (job.worker == slot->worker.number && slot->worker.alive)
        disk_loaded(sim, slot, &job);
}

/* ---- notices ---- */

/* What killed again and again runs apart from its mates, and its numbers may differ. */
static void diverged(struct sim *sim, struct sim_slot *slot, const struct action *action)
{
    const struct client *client = client_find(sim, action->request);
    struct slot_view view = {0};
    core_slot_view(sim->core, action->slot, &view);
    bool apart = client && slot->max_batch > 1 &&
                 client->died >= sim->models[slot->model].policy.max_attempts;
    if (apart) {
        slot->vault->lost = view.log_head;
        slot->vault->apart = true;
    } else if (slot->oracle_known && action->notice.value > slot->vault->lost) {
        sim_fail(sim, "slot %u: a replay was answered otherwise", action->slot);
    }
    slot->oracle_known = slot->vault->oracle_known = false;
}

/* It is replaced: nobody else of its model may be away who should be there. */
static void check_recycled(struct sim *sim, struct sim_slot *slot)
{
    struct slot_view view;
    sim->report->recycled++;
    slot->recycling = true;
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (sim->slots[i].used && sim->slots[i].model == slot->model &&
            sim->slots[i].role == ROLE_WORKER && sim->slots[i].state != SLOT_READY &&
            core_slot_view(sim->core, i, &view) && view.wanted)
            sim_fail(sim, "slot %u is replaced while slot %u is %s", (unsigned)(slot - sim->slots),
                     i, slot_state_name(sim->slots[i].state));
    versions_recycled(sim, slot);
}

/* The operator of this world does not mind, and goes on. */
static void check_essential(struct sim *sim, const struct sim_slot *slot)
{
    struct slot_view view;
    const struct model_policy *policy = &sim->models[slot->model].policy;
    bool lives = !policy->essential;
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        lives |= core_slot_view(sim->core, i, &view) && view.model == slot->model &&
                 view.role == ROLE_WORKER && view.wanted && view.state != SLOT_BROKEN &&
                 !(view.state == SLOT_WAITING && order_is_lost(sim, slot->model)) &&
                 !(view.state == SLOT_DONE && policy->kind == KIND_PROGRAM);
    if (lives)
        sim_fail(sim,
                 "hasupd is to stop because of slot %u, whose model is not lost or not essential",
                 (unsigned)(slot - sim->slots));
}

/* A worker that lives feeds its watchdog from when it is ready on. */
static void check_watchdog(struct sim *sim, const struct sim_slot *slot)
{
    if (!slot->worker.hangs)
        sim_fail(sim, "slot %u lives, and its watchdog bites", (unsigned)(slot - sim->slots));
}

static void notice(struct sim *sim, const struct action *action)
{
    if (action->notice.what == NOTICE_MODEL_BROKEN)
        poison_breaker(sim, action->model);
    if (action->slot >= SIM_SLOTS)
        return;
    struct sim_slot *slot = &sim->slots[action->slot];
    if (action->notice.what == NOTICE_SLOT_STATE)
        slot->state = action->notice.to;
    if (action->notice.what == NOTICE_SLOT_STATE && action->notice.to == SLOT_STOPPED)
        order_stops(sim, slot);
    if (action->notice.what == NOTICE_SLOT_STATE && action->notice.to == SLOT_DONE && !slot->last)
        sim_fail(sim, "slot %u is done, and is to run again", action->slot);
    if (action->notice.what == NOTICE_SLOT_STATE && action->notice.to == SLOT_DRAINING) {
        slot->ordered = true;
        versions_drained(sim, slot);
    }
    if (action->notice.what == NOTICE_RECYCLED)
        check_recycled(sim, slot);
    if (action->notice.what == NOTICE_ESSENTIAL)
        check_essential(sim, slot);
    if (action->notice.what == NOTICE_SLOT_STATE)
        sim->models[slot->model].changed = sim->now;
    if (action->notice.what == NOTICE_SLOT_STATE && action->notice.to == SLOT_READY) {
        bool spare = slot->role == ROLE_SPARE && slot->worker.loaded;
        if ((slot->worker.phase != PHASE_SERVE && !spare) || slot->exited)
            sim_fail(sim, "slot %u is called ready while its worker loads or is gone (promise 9)",
                     action->slot);
        slot->ready = true;
        slot->ready_at = sim->now;
    }
    if (action->notice.what == NOTICE_SLOT_STATE && action->notice.to == SLOT_WAITING &&
        !slot->waits) { /* else it was let in, and the version that it is to be must wait yet */
        slot->waits = true;
        slot->waits_since = sim->now;
    }
    if (action->notice.what == NOTICE_HUNG && action->notice.value == HANG_WATCHDOG)
        check_watchdog(sim, slot);
    if (action->notice.what == NOTICE_HUNG)
        slot->ordered = false;
    if (action->notice.what == NOTICE_PRE_START_TIMEOUT)
        slot->hook.timed_out = true;
    if (action->notice.what == NOTICE_STATE_LOST) {
        struct slot_view view = {0};
        core_slot_view(sim->core, action->slot, &view);
        if (!action->request && !slot->vault->cut && !vault_is_damaged(slot->vault))
            sim_fail(sim, "slot %u: its state is lost and no checkpoint is damaged", action->slot);
        slot->oracle_known = slot->vault->oracle_known = false;
        slot->vault->lost = view.log_head;
        if (action->request) /* the journal forgets it, and all before it */
            slot->vault->cut = view.log_head;
    }
    if (action->notice.what == NOTICE_DIVERGED)
        diverged(sim, slot, action);
}

static void core_exits(struct sim *sim)
{
    sim->exited = true;
    if (!sim->shutting_down)
        sim_fail(sim, "EXIT though nobody asked for a shutdown");
    for (unsigned i = 0; i < SIM_SLOTS; i++)
        if (sim->slots[i].used && (sim->slots[i].worker.alive || sim->slots[i].tree_left))
            sim_fail(sim, "EXIT while the worker of slot %u lives", i);
    for (unsigned i = 0; i < SIM_SLOTS && !sim->faults && sim->now < sim->grace; i++) {
        struct slot_view view;
        if (core_slot_view(sim->core, i, &view) && view.stateful &&
            view.log_head != view.checkpoint_position)
            sim_fail(sim, "EXIT, and what slot %u did since its checkpoint is lost", i);
    }
}

void shell_perform(struct sim *sim, const struct action *action)
{
    struct sim_slot *slot = action->slot < SIM_SLOTS ? &sim->slots[action->slot] : NULL;
    switch (action->type) {
    case ACTION_SLOT_ADDED: slot_added(sim, action); return;
    case ACTION_SLOT_REMOVED: slot_removed(sim, action); return;
    case ACTION_MODEL_GONE: model_gone(sim, action->model); return;
    case ACTION_PREPARE: start_prepare(sim, action); return;
    case ACTION_SPAWN: start_spawn(sim, action); return;
    case ACTION_SWAP: spare_swap(sim, action); return;
    case ACTION_LOAD_CHECKPOINT:
        disk_add(sim, &(struct disk_job){.slot = action->slot, .worker = action->worker});
        return;
    case ACTION_WELCOME: welcome(sim, action); return;
    case ACTION_DISPATCH: dispatch(sim, action); return;
    case ACTION_CANCEL:
    case ACTION_PING:
    case ACTION_TAKE_STATE:
    case ACTION_DRAIN: tell(sim, action); return;
    case ACTION_MEASURE:
        sim_post(sim, &(struct event){.type = EVENT_MEASURED,
                                      .slot = action->slot,
                                      .worker = action->worker,
                                      .bytes = slot->worker.memory});
        return;
    case ACTION_PROBE: program_asked(sim, action); return;
    case ACTION_STORE_CHECKPOINT: store_checkpoint(sim, action); return;
    case ACTION_TERMINATE: terminate(sim, action); return;
    case ACTION_ABORT:
        if (slot->role == ROLE_ZYGOTE)
            forks_lost(sim, slot);
        if (!fork_ends(sim, slot))
            worker_aborted(sim, slot);
        return;
    case ACTION_KILL:
        start_ends(slot);
        check_abort(sim, slot);
        if (slot->role == ROLE_ZYGOTE)
            forks_lost(sim, slot);
        if (!fork_ends(sim, slot))
            worker_dies(sim, slot, true);
        return;
    case ACTION_PERSIST: journal_persist(sim, action); return;
    case ACTION_SYNC: journal_sync(sim); return;
    case ACTION_HOLD: journal_hold(sim, action); return;
    case ACTION_ACCEPTED: person_accepted(sim, action); return;
    case ACTION_RETELL: person_retold(sim, action); return;
    case ACTION_ANSWER: client_answered(sim, action); return;
    case ACTION_CHUNK: client_chunk(sim, action); return;
    case ACTION_REFUSE: client_refused(sim, action); return;
    case ACTION_IDENTIFY: poison_identify(sim, action); return;
    case ACTION_QUARANTINE: poison_quarantine(sim, action); return;
    case ACTION_PARDON: poison_pardon(sim, action); return;
    case ACTION_RELEASE: journal_release(sim, action); return;
    case ACTION_FORGET: client_forgotten(sim, action); return;
    case ACTION_ROLLOUT: versions_told(sim, action); return;
    case ACTION_NOTICE: notice(sim, action); return;
    case ACTION_EXIT: core_exits(sim); return;
    }
}
