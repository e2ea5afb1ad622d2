/* journal.db survives kill -9 at any moment: what the dead process was told is there. */
#include "journal_world.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

enum { ROUNDS = 60, RECORDS = 1 << 22 }; /* a kill leaves a gap of 65,536 records */

/* Tells the parent through the pipe, as an answer to a client would. */
struct told {
    uint32_t kind;
    uint32_t record;
};

static void tell(int pipe, const struct journal_op *op)
{
    const struct told told = {op->kind, (uint32_t)op->record};
    if (op->error || write(pipe, &told, sizeof told) != sizeof told)
        _exit(3);
}

/* Adds for ever: accepts, results of two turns before, forgets of some; small turns and large ones.
 */
static void child(struct journal_world *world, int pipe, uint64_t seed)
{
    static struct journal_op ops[200];
    uint64_t accepted = world->summary.next_record - 1, first = accepted + 1, results = accepted;
    for (uint64_t turn = 0;; turn++) {
        size_t count = 0, most = mix(seed + turn) % 3 ? 1 + mix(turn) % 6 : 1 + mix(turn) % 90;
        for (uint64_t known = accepted; results < known && count < most; count++)
            ops[count] = result_of(++results, 0);
        for (size_t i = 0; i < most && accepted + 2 < RECORDS; i++)
            ops[count++] = accept_of(++accepted);
        if (results > first && turn % 4 == 0)
            ops[count++] = forget_of(first++);
        for (size_t i = 0; i < count; i++)
            journal_add(world->journal, &ops[i]);
        if (count == 0)
            _exit(4);
        for (struct journal_op *op = world_done(world, count); op; op = op->next)
            tell(pipe, op);
    }
}

static void learn(uint8_t *known, const struct told *told)
{
    known[told->record] = told->kind == JOURNAL_ACCEPT   ? SEEN_UNFINISHED
                          : told->kind == JOURNAL_RESULT ? SEEN_FINISHED
                                                         : SEEN_NOT;
}

/* Reads what the child was told; kills it after `count` of them; the newest that it was told. */
static void watch(pid_t pid, int pipe, uint64_t count, uint8_t *known, uint64_t *newest)
{
    struct told told;
    uint64_t got = 0;
    int status;
    while (read(pipe, &told, sizeof told) == (ssize_t)sizeof told) {
        learn(known, &told);
        *newest = told.record > *newest ? told.record : *newest;
        if (++got == count)
            assert_int_equal(kill(pid, SIGKILL), 0); /* what is in the pipe still counts */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(got >= count);
}

/* What may be more than was told: what the child did after its last word. */
static void compare(struct journal_world *world, uint8_t *known, uint64_t newest)
{
    static uint8_t seen[RECORDS];
    assert_int_equal(world_see(world, seen, RECORDS), 0);
    assert_int_equal(world->bad, 0);
    for (uint64_t record = 1; record < RECORDS; record++) {
        if (seen[record] == known[record])
            continue;
        bool later =
            (known[record] == SEEN_NOT && seen[record] == SEEN_UNFINISHED && record > newest) ||
            (known[record] == SEEN_UNFINISHED && seen[record] == SEEN_FINISHED) ||
            (known[record] == SEEN_FINISHED && seen[record] == SEEN_NOT);
        if (!later)
            fail_msg("record %llu: told %d, found %d", (unsigned long long)record, known[record],
                     seen[record]);
        known[record] = seen[record];
    }
}

static void what_was_told_before_a_kill_is_there_after_it(void **state)
{
    (void)state;
    struct journal_world world;
    static uint8_t known[RECORDS];
    uint64_t newest = 0, told = 0;
    world_init(&world);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        int ends[2];
        uint64_t count = 1 + mix(round) % 400;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            close(ends[0]);
            world_open(&world);
            child(&world, ends[1], round);
        }
        close(ends[1]);
        watch(pid, ends[0], count, known, &newest);
        close(ends[0]);
        told += count;
        world_open(&world);
        assert_false(world.summary.clean);
        assert_true(world.summary.next_record > newest);
        compare(&world, known, newest);
        world_close(&world, round % 2);
    }
    print_message("%d kills, %llu answers told\n", ROUNDS, (unsigned long long)told);
    world_fini(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_told_before_a_kill_is_there_after_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
