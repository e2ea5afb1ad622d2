/*
 * journal.db whose bytes changed on the disk: whatever is changed, nothing damaged is delivered,
 * and nothing is missing without a word.
 */
#include "journal_world.h"
#include "fault_vfs.h"


enum { RECORDS = 60, FLIPS = 400 };

static void fill(struct journal_world *world)
{
    world_open(world);
    for (uint64_t record = 1; record <= RECORDS; record++)
        world_must(world, accept_of(record));
    for (uint64_t record = 3; record <= RECORDS; record += 3) {
        struct journal_op result = result_of(record, record % 2 ? record : 0);
        result.number = record == 3 ? 100 : 0;
        world_must(world, result);
    }
    for (uint32_t number = 1; number <= 100; number++)
        world_must(world, chunk_of(3, number));
    world_close(world, true);
}

struct chunks {
    uint32_t next;
};

static bool see_chunk(void *context, uint32_t number, struct journal_bytes meta,
                      struct journal_bytes bytes)
{
    struct chunks *chunks = context;
    const struct journal_op op = chunk_of(3, number);
    assert_true(same_bytes(meta, op.meta) && same_bytes(bytes, op.body));
    assert_int_equal(number, chunks->next);
    chunks->next++;
    return true;
}

/* A fetch gives all of the right answer, or none. */
static bool fetch(struct journal_world *world, uint64_t record)
{
    const struct journal_op was = result_of(record, record % 2 ? record : 0);
    struct journal_op op = {.kind = JOURNAL_FETCH, .record = record};
    uint32_t next = 1;
    if (world_run(world, &op)) {
        assert_true(!op.fetched.body && !op.fetched.meta && !op.fetched.chunks);
        return false;
    }
    assert_int_equal(op.fetched.status, was.status);
    assert_true(same_bytes((struct journal_bytes){op.fetched.body, op.fetched.body_len}, was.body));
    assert_true(same_bytes((struct journal_bytes){op.fetched.meta, op.fetched.meta_len}, was.meta));
    for (struct journal_chunk *at = op.fetched.chunks, *after; at; at = after) {
        after = at->next;
        assert_int_equal(at->number, next++);
        free(at);
    }
    assert_int_equal(next, record == 3 ? 101 : 1);
    free(op.fetched.meta);
    free(op.fetched.body);
    return true;
}

/* Whether the damage was noticed; fails where it did harm. */
static bool look(struct journal_world *world, uint64_t seed)
{
    uint8_t seen[1 << 12];
    struct chunks chunks = {1};
    if (world_try_open(world)) {
        assert_true(*world->error);
        return true;
    }
    unsigned bad = world->bad;
    int code = world_see(world, seen, sizeof seen);
    int of_chunks = journal_each_chunk(world->journal, 3, see_chunk, &chunks, world->error);
    for (uint64_t record = 1; record <= RECORDS && !code; record++) {
        int wanted = record % 3 ? SEEN_UNFINISHED : SEEN_FINISHED;
        if (seen[record] != wanted && world->bad == bad)
            fail_msg("flip %llu: record %llu is missing without a word", (unsigned long long)seed,
                     (unsigned long long)record);
    }
    bool all = true, few = !of_chunks && chunks.next != 101;
    for (uint64_t record = 3; record <= RECORDS && !code; record += 3)
        all = fetch(world, record) && all;
    /* The last ones of a stream are missed only by the result, which knows how many there were. */
    if (few && all)
        fail_msg("flip %llu: chunks are missing without a word", (unsigned long long)seed);
    bool noticed = world->bad || code || of_chunks || !all;
    world_close(world, true);
    return noticed;
}

static void a_flipped_bit_is_never_delivered_and_loses_nothing_unseen(void **state)
{
    (void)state;
    struct journal_world world;
    size_t len;
    unsigned noticed = 0;
    world_init(&world);
    fill(&world);
    uint8_t *bytes = file_read(world.path, &len);
    for (uint64_t seed = 1; seed <= FLIPS; seed++) {
        size_t bit = mix(seed) % (len * 8);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        file_write(world.path, bytes, len);
        noticed += look(&world, seed);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    print_message("%u of %d flips were noticed; the others hit free space\n", noticed, FLIPS);
    assert_true(noticed > FLIPS / 3);
    file_write(world.path, bytes, len);
    assert_false(look(&world, 0));
    free(bytes);
    world_fini(&world);
}

/* Where the file holds the payload of this operation: its meta, then its body. */
static uint8_t *find_payload(uint8_t *bytes, size_t len, const struct journal_op *op)
{
    uint8_t both[2048];
    memcpy(both, op->meta.at, op->meta.len);
    memcpy(both + op->meta.len, op->body.at, op->body.len);
    uint8_t *at = memmem(bytes, len, both, op->meta.len + op->body.len);
    return at ? at + op->meta.len : NULL;
}

/* Bytes of one row: the others are delivered. */
static void a_damaged_row_is_reported_and_the_others_are_delivered(void **state)
{
    (void)state;
    struct journal_world world;
    uint8_t seen[RECORDS + 1];
    size_t len, hit = 0;
    world_init(&world);
    fill(&world);
    uint8_t *bytes = file_read(world.path, &len);
    for (uint64_t record = 1; record <= RECORDS; record++) {
        const struct journal_op op = accept_of(record);
        uint8_t *at = record % 3 && op.body.len > 100 && op.body.len < 1000 && op.meta.len > 20
                          ? find_payload(bytes, len, &op)
                          : NULL;
        if (!at)
            continue;
        at[50] ^= 1;
        file_write(world.path, bytes, len);
        world_open(&world);
        assert_int_equal(world_see(&world, seen, RECORDS + 1), 0);
        assert_int_equal(world.bad, 1);
        assert_int_equal(world.bad_records[0], record);
        for (uint64_t other = 1; other <= RECORDS; other++)
            assert_int_equal(seen[other], other == record ? SEEN_NOT
                                          : other % 3     ? SEEN_UNFINISHED
                                                          : SEEN_FINISHED);
        world_close(&world, true);
        at[50] ^= 1;
        hit++;
    }
    assert_true(hit > 15);
    free(bytes);
    world_fini(&world);
}

int main(void)
{
    fault_vfs_install(false); /* no faults: a disk whose syncs cost nothing */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_is_never_delivered_and_loses_nothing_unseen),
        cmocka_unit_test(a_damaged_row_is_reported_and_the_others_are_delivered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
