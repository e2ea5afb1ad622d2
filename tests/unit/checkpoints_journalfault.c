/*
 * journal.db on a disk that fails: what was reported done is there afterwards, whatever failed and
 * whenever the power went; what was reported failed is not seen; and once the disk is well again,
 * the journal is too.  Each run is a seed; a failure says which.
 */
#include "journal_world.h"
#include "fault_vfs.h"

enum { RECORDS = 400 };

/* What the test knows of a record.  Each step is either promised, or it failed. */
enum known { NOTHING, ACCEPT_FAILED, ACCEPTED, RESULT_FAILED, FINISHED, FORGET_FAILED, FORGOTTEN };

struct run {
    struct journal_world world;
    uint64_t seed;
    uint8_t known[RECORDS + 1];
    uint64_t next;                /* record to accept */
    struct journal_op ops[64];    /* of one turn */
    uint64_t failures, oks_after; /* operations; successes after the last failure */
    bool last_failed;             /* the last commit: its outcome may be unknown */
    uint8_t before[RECORDS + 1];  /* what was known before the last turn */
};

static void must(struct run *run, bool good, const char *what, uint64_t record)
{
    if (!good)
        fail_msg("seed %llu: %s, record %llu (known %d)", (unsigned long long)run->seed, what,
                 (unsigned long long)record, record <= RECORDS ? run->known[record] : -1);
}

/* The next step of some record's life. */
static struct journal_op choose(struct run *run, uint64_t *dice)
{
    if (run->next <= RECORDS && splitmix(dice) % 2)
        return accept_of(run->next++);
    for (int tries = 0; tries < 8; tries++) {
        uint64_t record = 1 + splitmix(dice) % (run->next > 1 ? run->next - 1 : 1);
        if (run->known[record] == ACCEPTED)
            return result_of(record, 0);
        if (run->known[record] == FINISHED)
            return forget_of(record);
    }
    return (struct journal_op){.kind = JOURNAL_EVENT, .body = {(const uint8_t *)"{}", 2}};
}

static void learn(struct run *run, const struct journal_op *op)
{
    static const enum known failed[] = {[JOURNAL_ACCEPT] = ACCEPT_FAILED,
                                        [JOURNAL_RESULT] = RESULT_FAILED,
                                        [JOURNAL_FORGET] = FORGET_FAILED};
    static const enum known done[] = {
        [JOURNAL_ACCEPT] = ACCEPTED, [JOURNAL_RESULT] = FINISHED, [JOURNAL_FORGET] = FORGOTTEN};
    run->failures += op->error != 0;
    run->oks_after = op->error ? 0 : run->oks_after + 1;
    run->last_failed = op->error != 0;
    if (op->error)
        must(run, *journal_last_error(run->world.journal) || run->oks_after, "no reason", 0);
    if (op->record)
        run->known[op->record] = (uint8_t)(op->error ? failed[op->kind] : done[op->kind]);
}

/* One turn: small ones are committed inline, large ones by the thread. */
static void turn(struct run *run, uint64_t *dice)
{
    size_t count = 1 + splitmix(dice) % (splitmix(dice) % 4 ? 6 : 40);
    bool used[RECORDS + 1] = {false};
    size_t added = 0;
    memcpy(run->before, run->known, sizeof run->before);
    for (size_t i = 0; i < count; i++) {
        struct journal_op op = choose(run, dice);
        if (op.record && used[op.record])
            continue; /* what follows from it is only known at the end of the turn */
        used[op.record] = true;
        run->ops[added] = op;
        journal_add(run->world.journal, &run->ops[added++]);
    }
    size_t at = 0;
    for (struct journal_op *op = added ? world_done(&run->world, added) : NULL; op; op = op->next) {
        must(run, op == &run->ops[at++], "out of order", op->record);
        learn(run, op);
    }
}

/* What is stored against what was said.  `settled`: nothing's outcome is unknown. */
static void compare(struct run *run, bool settled)
{
    uint8_t seen[RECORDS + 2];
    if (world_see(&run->world, seen, RECORDS + 2))
        fail_msg("seed %llu: %s", (unsigned long long)run->seed, run->world.error);
    must(run, run->world.bad == 0, "a bad row", 0);
    for (uint64_t record = 1; record <= RECORDS; record++) {
        /* A last transaction in doubt may be there, whole. */
        bool doubt = !settled && run->known[record] != run->before[record];
        switch ((enum known)run->known[record]) {
        case NOTHING: must(run, seen[record] == SEEN_NOT, "from nowhere", record); break;
        case ACCEPT_FAILED:
            must(run, seen[record] == SEEN_NOT || (doubt && seen[record] == SEEN_UNFINISHED),
                 "failed, but accepted", record);
            break;
        case ACCEPTED:
            must(run, seen[record] == SEEN_UNFINISHED, "accepted and lost", record);
            break;
        case RESULT_FAILED:
            must(run, seen[record] == SEEN_UNFINISHED || (doubt && seen[record] == SEEN_FINISHED),
                 "failed, but finished", record);
            break;
        case FINISHED: must(run, seen[record] == SEEN_FINISHED, "answered and lost", record); break;
        case FORGET_FAILED:
            must(run, seen[record] == SEEN_FINISHED || (doubt && seen[record] == SEEN_NOT),
                 "failed, but forgotten", record);
            break;
        case FORGOTTEN: must(run, seen[record] == SEEN_NOT, "forgotten, but there", record); break;
        }
    }
}

static void begin(struct run *run, uint64_t seed)
{
    memset(run, 0, sizeof *run);
    run->seed = seed;
    run->next = 1;
    world_init(&run->world);
    world_open(&run->world);
}

static void end(struct run *run)
{
    world_fini(&run->world);
    fault_forget();
}

/* Some calls fail, once or for a while; then the disk is well. */
static uint64_t one_fault(uint64_t seed, unsigned kinds, enum fault_how how)
{
    static struct run run;
    uint64_t dice = seed;
    begin(&run, seed);
    fault_begin((struct fault_plan){.kinds = kinds,
                                    .how = how,
                                    .at = 1 + splitmix(&dice) % 120,
                                    .times = splitmix(&dice) % 3 ? 1 : splitmix(&dice) % 40});
    for (int turns = 0; turns < 20; turns++)
        turn(&run, &dice);
    uint64_t failed = fault_end();
    compare(&run, true); /* in this run, a failure is final */
    for (int turns = 0; turns < 6; turns++)
        turn(&run, &dice);
    must(&run, run.oks_after >= 6, "the disk is well, but the journal is not", 0);
    must(&run, !*journal_last_error(run.world.journal), "an error that stays", 0);
    compare(&run, true);
    world_close(&run.world, seed % 2);
    world_open(&run.world);
    must(&run, run.world.summary.clean == seed % 2, "the way it ended", 0);
    compare(&run, true);
    end(&run);
    return failed;
}

/* The files as a kill -9 at this moment would leave them: a copy, which is opened. */
static void compare_after_kill(struct run *run)
{
    static const char *const suffixes[] = {"", "-wal"};
    struct journal_world mine = run->world;
    struct journal_world *copy = &run->world;
    snprintf(copy->path, sizeof copy->path, "%s/copy.db", mine.dir);
    for (size_t i = 0; i < HASUP_LEN(suffixes); i++) {
        char from[128], to[128], bytes[4096];
        snprintf(from, sizeof from, "%s%s", mine.path, suffixes[i]);
        snprintf(to, sizeof to, "%s%s", copy->path, suffixes[i]);
        FILE *in = fopen(from, "r"), *out = fopen(to, "w");
        assert_true(in && out);
        for (size_t got; (got = fread(bytes, 1, sizeof bytes, in)) > 0;)
            assert_int_equal(fwrite(bytes, 1, got, out), got);
        fclose(in);
        fclose(out);
    }
    world_open(copy);
    compare(run, true);
    world_close(copy, true);
    unlink(copy->path);
    run->world = mine;
}

/* Of the seeds from 1 on more than half must meet the fault that they are for. */
static void each_seed(bool (*meets)(uint64_t seed), uint64_t seeds, bool power)
{
    uint64_t met = 0;
    fault_vfs_install(power);
    for (uint64_t seed = 1; seed <= seeds; seed++)
        met += meets(seed);
    print_message("%llu of %llu runs met their fault\n", (unsigned long long)met,
                  (unsigned long long)seeds);
    assert_true(met > seeds / 2);
}

static bool one_failed_commit(uint64_t seed)
{
    static struct run run;
    uint64_t dice = seed;
    begin(&run, seed);
    fault_begin((struct fault_plan){.kinds = seed % 2 ? FAULT_SYNC : FAULT_SYNC | FAULT_WRITE,
                                    .how = seed % 3 ? FAULT_EIO : FAULT_SHORT,
                                    .at = 1 + splitmix(&dice) % 30});
    for (int turns = 0; turns < 30 && !run.failures; turns++)
        turn(&run, &dice);
    bool failed = run.failures && fault_end();
    if (failed)
        compare_after_kill(&run);
    end(&run);
    return failed;
}

/* An error of the last sync may leave the whole transaction in the file. */
static void what_failed_is_not_found_by_the_next_run(void **state)
{
    (void)state;
    each_seed(one_failed_commit, 200, false);
}

static void failing_calls_lose_nothing(void **state)
{
    (void)state;
    static const struct {
        unsigned kinds;
        enum fault_how how;
    } faults[] = {
        {FAULT_WRITE, FAULT_EIO},    {FAULT_WRITE, FAULT_ENOSPC},
        {FAULT_WRITE, FAULT_SHORT},  {FAULT_SYNC, FAULT_EIO},
        {FAULT_READ, FAULT_EIO},     {FAULT_LOCK, FAULT_EIO},
        {FAULT_TRUNCATE, FAULT_EIO}, {FAULT_WRITE | FAULT_SYNC | FAULT_READ, FAULT_EIO},
    };
    enum { SEEDS = 60 };
    uint64_t hit = 0;
    fault_vfs_install(false);
    for (size_t i = 0; i < HASUP_LEN(faults); i++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            hit += one_fault(seed + 1000 * i, faults[i].kinds, faults[i].how) > 0;
    print_message("%llu of %llu runs met their fault\n", (unsigned long long)hit,
                  (unsigned long long)(HASUP_LEN(faults) * SEEDS));
    assert_true(hit > HASUP_LEN(faults) * SEEDS / 3);
}

/* The power goes at some call. */
static bool one_cut(uint64_t seed)
{
    static struct run run;
    uint64_t dice = seed;
    begin(&run, seed);
    struct fault_plan plan = {.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE,
                              .how = FAULT_POWER,
                              .at = 1 + splitmix(&dice) % 600,
                              .keep_some = seed % 3,
                              .seed = seed};
    fault_begin(plan);
    for (int turns = 0; turns < 40 && !fault_is_dead(); turns++)
        turn(&run, &dice);
    bool cut = fault_is_dead();
    world_close(&run.world, false);
    fault_power_back(&plan);
    world_open(&run.world);
    compare(&run, false);
    for (uint64_t record = 1; record <= RECORDS; record++)
        must(&run,
             run.known[record] == NOTHING || run.world.summary.next_record > record ||
                 run.known[record] == ACCEPT_FAILED,
             "a record would be given twice", record);
    end(&run);
    return cut;
}

static void a_power_cut_loses_nothing_that_was_promised(void **state)
{
    (void)state;
    each_seed(one_cut, 400, true);
}

enum { LARGE = 4000, TURNS = 12, EACH = JOURNAL_GROUP };

static bool see_promised(void *context, const struct journal_row *row)
{
    uint64_t *next = context; /* all up to the last that was promised, without a gap */
    assert_int_equal(row->body.len, LARGE);
    assert_int_equal(row->record, *next);
    ++*next;
    return true;
}

/* The power goes while the WAL is folded back beside the commits: a few MB were written by then. */
static bool one_cut_in_a_fold(uint64_t seed)
{
    static struct run run;
    static struct journal_op ops[EACH];
    static const uint8_t body[LARGE] = {1};
    uint64_t dice = seed, promised = 0, next = 1;
    begin(&run, seed);
    struct fault_plan plan = {.kinds = FAULT_WRITE | FAULT_SYNC | FAULT_TRUNCATE,
                              .how = FAULT_POWER,
                              .at = 1500 + splitmix(&dice) % 6000,
                              .keep_some = seed % 3,
                              .seed = seed};
    fault_begin(plan);
    for (int turns = 0; turns < TURNS && !fault_is_dead(); turns++) {
        for (uint64_t i = 0; i < EACH; i++) {
            ops[i] = accept_of(next++);
            ops[i].body = (struct journal_bytes){body, LARGE};
            journal_add(run.world.journal, &ops[i]);
        }
        for (struct journal_op *op = world_done(&run.world, EACH); op; op = op->next)
            promised = op->error ? promised : op->record;
    }
    bool cut = fault_is_dead();
    world_close(&run.world, false);
    fault_power_back(&plan);
    world_open(&run.world);
    next = 1;
    assert_int_equal(journal_each_unfinished(run.world.journal, 0, UINT64_MAX, see_promised, &next,
                                             run.world.error),
                     0);
    must(&run, run.world.bad == 0, "a bad row", 0);
    must(&run, next > promised, "accepted and lost", next);
    end(&run);
    return cut;
}

static void nor_does_one_while_the_wal_is_folded_back(void **state)
{
    (void)state;
    each_seed(one_cut_in_a_fold, 16, true);
}

/* From call `at` on nothing works, so that nothing can be written over what failed. */
static void no_call_works_from(uint64_t at, unsigned kinds)
{
    static struct run run;
    begin(&run, at);
    fault_begin((struct fault_plan){.kinds = kinds, .at = at, .times = UINT64_MAX});
    for (uint64_t record = 1; record <= 6; record++) {
        struct journal_op op = accept_of(record);
        run.known[record] = world_run(&run.world, &op) ? ACCEPT_FAILED : ACCEPTED;
    }
    must(&run, run.known[6] == ACCEPT_FAILED, "it works", 6);
    fault_end();
    world_must(&run.world, accept_of(7));
    run.known[7] = ACCEPTED;
    compare(&run, true);
    world_must(&run.world, forget_of(7));
    run.known[7] = FORGOTTEN;
    world_close(&run.world, false);
    world_open(&run.world);
    compare(&run, true);
    assert_true(run.world.summary.next_record > 7); /* the mark that failed was written later */
    end(&run);
}

/* A commit that failed may be whole in the file; as long as the process lives, it is not believed.
 */
static void what_failed_stays_failed_while_nothing_works(void **state)
{
    (void)state;
    fault_vfs_install(false);
    for (uint64_t at = 1; at <= 3; at++)
        no_call_works_from(at, FAULT_SYNC);
    for (uint64_t at = 1; at <= 20; at++)
        no_call_works_from(at, FAULT_WRITE | FAULT_SYNC);
}

static void a_full_disk_is_said_and_reading_goes_on(void **state)
{
    (void)state;
    static struct run run;
    struct journal_op accept = accept_of(3), fetch = {.kind = JOURNAL_FETCH, .record = 1};
    fault_vfs_install(false);
    begin(&run, 1);
    world_must(&run.world, accept_of(1));
    world_must(&run.world, result_of(1, 0));
    fault_begin((struct fault_plan){
        .kinds = FAULT_WRITE, .how = FAULT_ENOSPC, .at = 1, .times = UINT64_MAX});
    for (int i = 0; i < 8; i++) { /* the file is opened anew in between */
        journal_add(run.world.journal, &accept);
        journal_add(run.world.journal, &fetch);
        world_done(&run.world, 2);
        assert_int_equal(accept.error, HASUP_EIO);
        if (!fetch.error) {
            assert_int_equal(fetch.fetched.status, 201);
            free(fetch.fetched.meta);
            free(fetch.fetched.body);
        }
        assert_non_null(strstr(journal_last_error(run.world.journal), "full"));
    }
    fault_end();
    assert_int_equal(world_run(&run.world, &accept), 0);
    assert_string_equal(journal_last_error(run.world.journal), "");
    end(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_calls_lose_nothing),
        cmocka_unit_test(what_failed_is_not_found_by_the_next_run),
        cmocka_unit_test(a_power_cut_loses_nothing_that_was_promised),
        cmocka_unit_test(nor_does_one_while_the_wal_is_folded_back),
        cmocka_unit_test(what_failed_stays_failed_while_nothing_works),
        cmocka_unit_test(a_full_disk_is_said_and_reading_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
