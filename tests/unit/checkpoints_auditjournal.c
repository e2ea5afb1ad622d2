/* The audit of journal.db: each finding provoked, none where all is sound, nothing touched. */
#include "tests/unit/fault_vfs.h"
#include "tests/unit/journal_world.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "checkpoints/audit.h"

/* The moment of the audit; what happens before it is minutes ago. */
#define NOW          (INT64_C(1000000) * HASUP_S)
#define MINUTE       (60 * HASUP_S)
#define AGO(minutes) (NOW - (minutes)*MINUTE)

enum { TEXT = 8192 };

struct report {
    enum audit_result result;
    struct audit_summary summary;
    unsigned count;
    char text[TEXT], error[STORE_ERROR];
    int64_t since;
};

static void note(void *context, const struct audit_finding *finding)
{
    struct report *report = context;
    size_t used = strlen(report->text);
    report->count++;
    report->since = finding->since_wall_ns;
    assert_true(finding->text[0] && finding->advice[0] && finding->where[0]);
    snprintf(report->text + used, sizeof report->text - used, "%s %s: %s > %s\n",
             audit_code_name(finding->code), finding->where, finding->text, finding->advice);
}

static struct report audit_as(const struct journal_world *world, struct audit_options options)
{
    struct report report = {0};
    options.state_dir = world->dir;
    options.now_wall_ns = NOW;
    report.result = audit_run(&options, note, &report, &report.summary, report.error);
    return report;
}

static struct report audit(const struct journal_world *world)
{
    return audit_as(world, (struct audit_options){
                               .deep = true, .stuck = 10 * MINUTE, .running_wall_ns = AGO(1000)});
}

static void assert_found(const struct report *report, const char *what)
{
    if (!strstr(report->text, what))
        fail_msg("result %d, no \"%s\" in:\n%s%s", report->result, what, report->text,
                 report->error);
}

/* One finding, and what it says. */
static void assert_one(const struct report *report, const char *what)
{
    assert_found(report, what);
    if (report->count != 1 || report->result != AUDIT_FINDINGS)
        fail_msg("result %d of %u findings:\n%s", report->result, report->count, report->text);
}

static void assert_sound(const struct report *report)
{
    if (report->result != AUDIT_SOUND || report->count)
        fail_msg("not sound (%d): %s%s", report->result, report->text, report->error);
}

static int world_setup(void **state)
{
    struct journal_world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world_init(world);
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    static const char *const others[] = {"checkpoints.db", "checkpoints.db-journal", "activity"};
    struct journal_world *world = *state;
    char path[128];
    for (size_t i = 0; i < HASUP_LEN(others); i++) {
        snprintf(path, sizeof path, "%s/%s", world->dir, others[i]);
        unlink(path);
    }
    world_fini(world);
    free(world);
    return 0;
}

/* ---- what stands in it ---- */

static struct journal_op accepted(uint64_t record, int64_t created)
{
    struct journal_op op = accept_of(record);
    op.model = "m";
    op.created_wall_ns = created;
    op.deadline_wall_ns = 0;
    op.body = (struct journal_bytes){(const uint8_t *)"body", 4};
    return op;
}

static struct journal_op finished(uint64_t record, uint64_t position, int64_t at)
{
    struct journal_op op = result_of(record, position);
    op.ordinal = 0;
    op.flags = 0;
    op.status = 200;
    op.finished_wall_ns = at;
    op.expires_wall_ns = NOW + 60 * MINUTE;
    return op;
}

/* Two that wait, two finished, and a log of three: positions 3, 4 and 6. */
static void fill(struct journal_world *world)
{
    world_open(world);
    for (uint64_t record = 1; record <= 7; record++)
        world_must(world, accepted(record, AGO(5)));
    world_must(world, finished(3, 0, AGO(4)));
    world_must(world, chunk_of(2, 1));
    world_must(world, chunk_of(2, 2));
    world_must(world, finished(4, 0, AGO(4)));
    world_must(world, finished(5, 3, AGO(4)));
    world_must(world, finished(6, 4, AGO(3)));
    world_must(world, finished(7, 6, AGO(2))); /* 5 was refused: no gap */
}

static void trim(struct journal_world *world, uint64_t position)
{
    world_must(world, (struct journal_op){
                          .kind = JOURNAL_TRIM, .model = "m", .ordinal = 0, .position = position});
}

static void checkpoint(const struct journal_world *world, uint64_t position)
{
    char path[128], error[STORE_ERROR] = "";
    struct store *store;
    snprintf(path, sizeof path, "%s/checkpoints.db", world->dir);
    const struct checkpoint_key key = {"m", 0};
    if (store_open(path, STORE_WRITE, &store, error) ||
        store_save(store, &key, position, AGO(1), (const uint8_t *)"state", 5,
                   &(struct store_keep){.last = 3}, error))
        fail_msg("%s", error);
    store_close(store);
}

/* ---- sound ones ---- */

static void a_sound_journal_is_sound_and_counted(void **state)
{
    struct journal_world *world = *state;
    struct report report = audit(world);
    assert_sound(&report); /* there is none: nothing durable was ever accepted */
    fill(world);
    report = audit(world); /* beside its writer */
    assert_sound(&report);
    assert_int_equal(report.summary.requests, 2);
    assert_int_equal(report.summary.results, 5);
    assert_int_equal(report.summary.logged, 3);
    world_close(world, true);
    report = audit(world); /* after a clean end */
    assert_sound(&report);
    assert_int_equal(report.summary.requests, 2);
    checkpoint(world, 4);
    world_open(world);
    trim(world, 4);
    world_close(world, false);
    report = audit(world); /* after a kill */
    assert_sound(&report);
    assert_int_equal(report.summary.logged, 1);
}

static void a_journal_is_missing_though_there_are_checkpoints(void **state)
{
    struct journal_world *world = *state;
    checkpoint(world, 4);
    struct report report = audit(world);
    assert_sound(&report); /* fine: no model is durable */
}

/* ---- damage ---- */

static void promise_11_a_damaged_row_is_found(void **state)
{
    static const struct {
        const char *sql, *found;
    } CASES[] = {
        {"UPDATE request SET priority = priority + 1 WHERE record = 1",
         ": 1 row is damaged; record 1: the request does not fit its checksum"},
        {"UPDATE request SET body = x'00' WHERE record = 1",
         "record 1: the request's body does not fit its checksum"},
        {"UPDATE request SET body = x'00' WHERE record = 7",
         "record 7: the request's body does not fit its checksum"},
        {"UPDATE result SET status = 201 WHERE record = 3",
         "record 3: the result does not fit its checksum"},
        {"UPDATE result SET body = x'00' WHERE record = 3",
         "record 3: the result's body does not fit its checksum"},
        {"UPDATE chunk SET body = x'00' WHERE number = 2",
         "record 2: a part of its stream does not fit its checksum"},
        {"UPDATE run SET reserved = 1", "the run marker does not fit its checksum"},
        {"UPDATE trim SET position = 1", "the trim mark of m/0 does not fit its checksum"},
        {"UPDATE event SET created = 1", "event 1 does not fit its checksum"},
        {"UPDATE request SET token = token + 1", "7 rows are damaged; record 1"},
    };
    for (size_t i = 0; i < HASUP_LEN(CASES); i++) {
        struct journal_world *world;
        world_setup((void **)&world);
        fill(world);
        checkpoint(world, 2);
        trim(world, 2);
        world_must(world, (struct journal_op){.kind = JOURNAL_EVENT,
                                              .created_wall_ns = AGO(1),
                                              .body = {(const uint8_t *)"{}", 2}});
        world_close(world, true);
        struct report report = audit(world);
        assert_sound(&report);
        file_sql(world->path, CASES[i].sql);
        report = audit(world);
        assert_one(&report, CASES[i].found);
        world_teardown((void **)&world);
    }
    (void)state;
}

static void promise_11_what_lacks_a_part_is_found(void **state)
{
    static const struct {
        const char *sql, *found;
    } CASES[] = {
        {"DELETE FROM chunk WHERE number = 1", "record 2: a part of its stream is missing"},
        {"UPDATE request SET payload_sum = NULL, meta = NULL, body = NULL WHERE record = 1",
         "record 1: a request without its body"},
        {"DELETE FROM request WHERE record = 3", "record 3: a result without its request"},
    };
    for (size_t i = 0; i < HASUP_LEN(CASES); i++) {
        struct journal_world *world;
        world_setup((void **)&world);
        fill(world);
        world_close(world, true);
        file_sql(world->path, CASES[i].sql);
        struct report report = audit(world);
        assert_one(&report, CASES[i].found);
        assert_found(&report, "incomplete ");
        world_teardown((void **)&world);
    }
    (void)state;
}

static void promise_11_what_is_no_journal_any_more_is_found(void **state)
{
    struct journal_world *world = *state;
    char wal[112], junk[8192];
    const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    fill(world);
    world_close(world, true);
    file_write(world->path, "", 0);
    struct report report = audit(world);
    assert_sound(&report); /* hasupd makes one this moment, for all that is known */
    assert_int_equal(utimensat(AT_FDCWD, world->path, old, 0), 0);
    report = audit(world);
    assert_one(&report, "the file is empty");
    memset(junk, 'x', sizeof junk);
    file_write(world->path, junk, sizeof junk);
    report = audit(world);
    assert_one(&report, "damaged ");
    assert_int_equal(unlink(world->path), 0);
    snprintf(wal, sizeof wal, "%s-wal", world->path);
    file_write(wal, "x", 1);
    report = audit(world);
    assert_one(&report, "only its -wal is there");
}

static void promise_11_a_bit_flipped_anywhere_is_found_or_harmless(void **state)
{
    struct journal_world *world = *state;
    struct stat st;
    uint64_t random = 7, found = 0;
    fill(world);
    world_close(world, true);
    int fd = open(world->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    for (unsigned i = 0; i < 300; i++) {
        uint8_t byte, flipped;
        random = mix(random + 1);
        off_t at = (off_t)(random % (uint64_t)st.st_size);
        assert_true(pread(fd, &byte, 1, at) == 1);
        flipped = (uint8_t)(byte ^ 1 << random / 64 % 8);
        assert_true(pwrite(fd, &flipped, 1, at) == 1);
        struct report report = audit(world);
        found += report.result != AUDIT_SOUND;
        /* What it calls sound has all its rows. */
        if (report.result == AUDIT_SOUND &&
            (report.summary.requests != 2 || report.summary.results != 5))
            fail_msg("bit flip at %lld: sound, but rows are gone", (long long)at);
        assert_true(pwrite(fd, &byte, 1, at) == 1);
    }
    close(fd);
    assert_true(found > 20);
    struct report report = audit(world);
    assert_sound(&report);
}

/* ---- a slot's log and its checkpoints ---- */

static void promise_4_a_log_that_begins_behind_the_newest_checkpoint_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    checkpoint(world, 3);
    trim(world, 4);
    struct report report = audit(world);
    assert_one(&report,
               "gap m/0: its newest good checkpoint is at position 3, its log begins after 4");
    checkpoint(world, 4);
    report = audit(world);
    assert_sound(&report);
    checkpoint(world, 9); /* stored, and not yet trimmed for */
    report = audit(world);
    assert_sound(&report);
}

static void promise_4_a_log_whose_checkpoints_are_gone_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    trim(world, 4);
    struct report report = audit(world);
    assert_one(&report, "gap m/0: it has no good checkpoint, and its log begins after position 4");
}

static void promise_4_a_logged_request_without_its_body_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_close(world, true);
    file_sql(world->path,
             "UPDATE request SET payload_sum = NULL, meta = NULL, body = NULL WHERE record = 6");
    struct report report = audit(world);
    assert_one(&report, "gap m/0: the request at position 4 of its log has no body");
    assert_true(report.since == AGO(3));
    checkpoint(world, 4);
    report = audit(world);
    assert_sound(&report);
}

static void a_position_that_stands_twice_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_must(world, accepted(8, AGO(2)));
    world_must(world, finished(8, 6, AGO(1)));
    struct report report = audit(world);
    assert_one(&report, "order m/0: position 6 stands twice in its log");
}

static void promise_11_changes_of_the_log_that_wait_too_long_are_found(void **state)
{
    struct journal_world *world = *state;
    struct audit_options options = {.max_age = 3 * MINUTE};
    fill(world);
    checkpoint(world, 2);
    struct report report = audit_as(world, options);
    assert_found(&report, "stale m/0: it has changes since 4 min that no checkpoint has");
    checkpoint(world, 4);
    report = audit_as(world, options); /* what is at 6 may wait for another minute */
    assert_null(strstr(report.text, "stale"));
}

/* ---- requests ---- */

static void a_request_that_waits_too_long_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_must(world, accepted(20, AGO(12)));
    world_must(world, accepted(21, AGO(11)));
    struct journal_op long_one = accepted(22, AGO(60));
    long_one.deadline_wall_ns = NOW + MINUTE; /* it may take that long */
    world_must(world, long_one);
    struct report report = audit(world);
    assert_one(&report, "stuck m: 2 accepted requests without a result for more than 10 min, the "
                        "oldest (record 20) for 12 min");
    assert_true(report.since == AGO(12));
    report = audit_as(world, (struct audit_options){.stuck = 60 * MINUTE});
    assert_sound(&report);
    long_one.record = 23;
    long_one.deadline_wall_ns = AGO(30);
    world_must(world, long_one);
    report = audit(world);
    assert_found(&report, "3 accepted requests");
}

/* Besides all else: record 20, whose time was over 100 minutes ago. */
static void fill_outlived(struct journal_world *world, uint64_t position)
{
    fill(world);
    world_must(world, accepted(20, AGO(300)));
    struct journal_op old = finished(20, position, AGO(290));
    old.expires_wall_ns = AGO(100);
    world_must(world, old);
}

static void answers_past_their_time_are_found(void **state)
{
    struct journal_world *world = *state;
    fill_outlived(world, 0);
    struct report report = audit(world);
    assert_one(&report, "expired ");
    assert_found(&report, "1 answer is kept past the end of its time, the first is record 20");
    assert_true(report.since == AGO(100));
    /* No hasupd runs, or it just began: nobody could remove it. */
    report = audit_as(world, (struct audit_options){.running_wall_ns = 0});
    assert_sound(&report);
    report = audit_as(world, (struct audit_options){.running_wall_ns = AGO(5)});
    assert_sound(&report);
}

/* Forgotten, and kept only because the slot's log needs it. */
static void an_answer_that_the_log_needs_is_not_past_its_time(void **state)
{
    struct journal_world *world = *state;
    fill_outlived(world, 7);
    world_must(world, forget_of(20));
    struct report report = audit(world);
    assert_sound(&report);
}

static void quarantined_requests_are_noted(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_must(world, (struct journal_op){.kind = JOURNAL_LETTER,
                                          .hash = {0xabc, 0xdef},
                                          .model = "m",
                                          .attempts = 3,
                                          .flags = JOURNAL_KEPT,
                                          .created_wall_ns = AGO(1),
                                          .body = {(const uint8_t *)"poison", 6}});
    struct report report = audit(world);
    assert_int_equal(report.result, AUDIT_SOUND);
    assert_int_equal(report.summary.notes, 1);
    assert_int_equal(report.summary.quarantined, 1);
    assert_found(&report, "quarantined ");
    assert_found(&report, "the first is 0000000000000abc0000000000000def of m");
    file_sql(world->path, "UPDATE letter SET body = x'00'");
    report = audit(world);
    assert_int_equal(report.result, AUDIT_FINDINGS);
    assert_found(&report, "the body of dead letter 1");
    file_sql(world->path, "UPDATE letter SET attempts = 4");
    report = audit(world);
    assert_found(&report, "dead letter 1 does not fit");
}

/* ---- files ---- */

static void a_wal_that_is_not_folded_back_is_found(void **state)
{
    struct journal_world *world = *state;
    char wal[112];
    fill(world);
    world_close(world, true);
    snprintf(wal, sizeof wal, "%s-wal", world->path);
    file_write(wal, "", 0);
    assert_int_equal(truncate(wal, 65 << 20), 0);
    struct report report = audit(world);
    assert_found(&report, "wal ");
    assert_found(&report, "65 MiB are not folded back into the database, more than 64");
}

static void promise_12_a_journal_that_lets_others_in_is_found(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_close(world, true);
    assert_int_equal(chmod(world->path, 0640), 0);
    struct report report = audit(world);
    assert_one(&report, "mode 0640 lets others in > chmod 0600 ");
    assert_int_equal(chmod(world->path, 0600), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(world->path, 12345, (gid_t)-1), 0);
        report = audit(world);
        assert_one(&report, "it belongs to user 12345, its directory to user 0");
    }
}

static void a_newer_schema_cannot_be_checked(void **state)
{
    struct journal_world *world = *state;
    fill(world);
    world_close(world, true);
    file_sql(world->path, "PRAGMA user_version = 77");
    struct report report = audit(world);
    assert_int_equal(report.result, AUDIT_COULD_NOT);
    assert_non_null(strstr(report.error, "schema version 77"));
}

/* ---- beside a writer ---- */

/* Opens and closes, accepts, finishes, forgets, trims for checkpoints that it stored. */
static _Noreturn void write_for_ever(struct journal_world *world, int told)
{
    for (uint64_t record = 1, position = 1;; record++) {
        if (record % 20 == 1)
            world_open(world);
        world_must(world, accepted(record, NOW));
        world_must(world, chunk_of(record, 1));
        world_must(world, finished(record, record % 2 ? position++ : 0, NOW));
        if (record > 5)
            world_must(world, forget_of(record - 5));
        if (record % 10 == 0) {
            checkpoint(world, position - 1);
            trim(world, position - 1);
        }
        if (record % 20 == 0)
            world_close(world, record % 40 != 0);
        if (write(told, &record, sizeof record) < 0)
            _exit(1);
    }
}

static void beside_a_writer_it_finds_nothing_that_is_not_there(void **state)
{
    struct journal_world *world = *state;
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        write_for_ever(world, ends[1]);
    close(ends[1]);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t record;
        assert_true(read(ends[0], &record, sizeof record) == sizeof record);
        struct report report = audit_as(
            world, (struct audit_options){
                       .deep = i % 2, .stuck = MINUTE, .max_age = MINUTE, .running_wall_ns = 1});
        if (report.result != AUDIT_SOUND)
            fail_msg("audit %u (%d): %s%s", i, report.result, report.text, report.error);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    close(ends[0]);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

/* At each lock that it takes, once.  The last test: its disk stays. */
static void promise_11_a_writer_in_the_middle_of_the_index_is_no_finding(void **state)
{
    struct journal_world *world = *state;
    fault_vfs_install(false);
    fill(world);
    for (uint64_t at = 1;; at++) {
        fault_begin((struct fault_plan){.kinds = FAULT_SHM, .at = at, .how = FAULT_INDEX});
        struct report report = audit(world);
        bool met = fault_end() > 0;
        assert_sound(&report);
        assert_int_equal(report.summary.requests, 2);
        if (!met)
            break;
        assert_true(at < 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_sound_journal_is_sound_and_counted),
        STORY(a_journal_is_missing_though_there_are_checkpoints),
        cmocka_unit_test(promise_11_a_damaged_row_is_found),
        cmocka_unit_test(promise_11_what_lacks_a_part_is_found),
        STORY(promise_11_what_is_no_journal_any_more_is_found),
        STORY(promise_11_a_bit_flipped_anywhere_is_found_or_harmless),
        STORY(promise_4_a_log_that_begins_behind_the_newest_checkpoint_is_found),
        STORY(promise_4_a_log_whose_checkpoints_are_gone_is_found),
        STORY(promise_4_a_logged_request_without_its_body_is_found),
        STORY(a_position_that_stands_twice_is_found),
        STORY(promise_11_changes_of_the_log_that_wait_too_long_are_found),
        STORY(a_request_that_waits_too_long_is_found),
        STORY(answers_past_their_time_are_found),
        STORY(an_answer_that_the_log_needs_is_not_past_its_time),
        STORY(quarantined_requests_are_noted),
        STORY(a_wal_that_is_not_folded_back_is_found),
        STORY(promise_12_a_journal_that_lets_others_in_is_found),
        STORY(a_newer_schema_cannot_be_checked),
        STORY(beside_a_writer_it_finds_nothing_that_is_not_there),
        STORY(promise_11_a_writer_in_the_middle_of_the_index_is_no_finding),
    };
    return cmocka_run_group_tests_name("checkpoints_auditjournal", tests, NULL, NULL);
}
