/* The audit finds each kind of damage, says what to do, and touches nothing. */
#include "tests/unit/store_world.h"

#include <signal.h>
#include <sqlite3.h>

#include "checkpoints/activity.h"
#include "checkpoints/audit.h"

enum { SIZE = 150000, TEXT = 8192 };

struct report {
    enum audit_result result;
    struct audit_summary summary;
    unsigned count;
    char text[TEXT]; /* "code where: text > advice" lines */
    char error[STORE_ERROR];
};

static void note(void *context, const struct audit_finding *finding)
{
    struct report *report = context;
    size_t used = strlen(report->text);
    report->count++;
    assert_true(finding->text[0] && finding->advice[0] && finding->where[0]);
    snprintf(report->text + used, sizeof report->text - used, "%s %s: %s > %s\n",
             audit_code_name(finding->code), finding->where, finding->text, finding->advice);
}

static struct report audit_with(const char *directory, bool deep, hasup_ns max_age, hasup_ns now)
{
    struct report report = {0};
    const struct audit_options options = {
        .state_dir = directory, .max_age = max_age, .deep = deep, .now_wall_ns = now};
    report.result = audit_run(&options, note, &report, &report.summary, report.error);
    assert_int_equal(report.summary.findings + report.summary.notes, report.count);
    return report;
}

static struct report audit(const struct place *place)
{
    return audit_with(place->directory, true, 0, 10 * HASUP_S);
}

static void assert_found(const struct report *report, const char *what)
{
    if (report->result != AUDIT_FINDINGS || !strstr(report->text, what))
        fail_msg("result %d, no \"%s\" in:\n%s%s", report->result, what, report->text,
                 report->error);
}

static void assert_sound(const struct report *report)
{
    if (report->result != AUDIT_SOUND || report->count)
        fail_msg("not sound (%d): %s%s", report->result, report->text, report->error);
}

/* Three checkpoints each of m/0 and m/1, at the seconds 1 to 3. */
static void fill(const struct place *place)
{
    const struct checkpoint_key other = {"m", 1};
    struct store *store = opened(place->db, STORE_WRITE);
    for (uint64_t position = 1; position <= 3; position++) {
        save(store, &SLOT, position, SIZE, 3);
        save(store, &other, position, SIZE, 3);
    }
    store_close(store);
}

/* Flips a bit in the stored bytes of the first slot's checkpoint at this position. */
static void damage(const struct place *place, uint64_t position)
{
    size_t len;
    unsigned found = 0;
    uint8_t *wanted = state_at(position, SIZE), *bytes = file_read(place->db, &len);
    for (size_t at = 0; at + 512 < len; at++)
        if (memcmp(bytes + at, wanted, 512) == 0) {
            bytes[at + 3] ^= 4; /* of both slots, which hold the same */
            found++;
        }
    assert_true(found >= 1);
    file_write(place->db, bytes, len);
    free(bytes);
    free(wanted);
}

static void a_sound_directory_is_sound_and_counted(void **state)
{
    const struct place *place = *state;
    struct report report = audit(place);
    assert_sound(&report); /* nothing was ever stored */
    fill(place);
    report = audit(place);
    assert_sound(&report);
    assert_int_equal(report.summary.slots, 2);
    assert_int_equal(report.summary.checkpoints, 6);
    assert_int_equal(report.summary.verified, 6);
    assert_true(report.summary.bytes == 6 * SIZE);
    report = audit_with(place->directory, false, 0, 10 * HASUP_S);
    assert_sound(&report);
    assert_int_equal(report.summary.verified, 2);
}

static void promise_11_damage_is_found_with_what_would_be_restored(void **state)
{
    const struct place *place = *state;
    fill(place);
    damage(place, 3);
    struct report report = audit_with(place->directory, false, 0, 10 * HASUP_S);
    assert_found(&report, "damaged m/0: checkpoint 5 of m/0 at position 3");
    assert_found(&report, "(position 2) is good and would be restored");
    damage(place, 2);
    damage(place, 1);
    report = audit(place);
    assert_found(&report, "no older one is good");
}

static void promise_11_an_old_one_that_is_damaged_is_found_by_the_deep_audit(void **state)
{
    const struct place *place = *state;
    fill(place);
    damage(place, 1);
    struct report report = audit_with(place->directory, false, 0, 10 * HASUP_S);
    assert_sound(&report);
    report = audit(place);
    assert_found(&report, "damaged m/0: checkpoint 1 of m/0 at position 1");
}

static void promise_11_every_manifest_is_checked_by_the_quick_audit(void **state)
{
    const struct place *place = *state;
    fill(place);
    file_sql(place->db, "UPDATE manifest SET created = created + 1 WHERE id = 1");
    struct report report = audit_with(place->directory, false, 0, 10 * HASUP_S);
    assert_found(&report, "damaged m/0: checkpoint 1 of m/0 at position 1");
    assert_int_equal(report.summary.verified, 2);
}

static void promise_11_a_bit_flipped_anywhere_is_found_or_harmless(void **state)
{
    const struct place *place = *state;
    const char *text = getenv("HASUP_SEED");
    uint64_t random = text ? strtoull(text, NULL, 10) : 1;
    size_t len, found = 0;
    fill(place);
    uint8_t *bytes = file_read(place->db, &len);
    for (unsigned i = 0; i < 200; i++) {
        size_t at = (size_t)(next_random(&random) % len);
        uint8_t bit = (uint8_t)(1 << next_random(&random) % 8);
        bytes[at] ^= bit;
        file_write(place->db, bytes, len);
        struct report report = audit(place);
        struct loaded got = load_from(place->db, STORE_READ);
        if (report.result == AUDIT_SOUND && (got.code || got.position != 3 || got.skipped))
            fail_msg("bit %u of byte %zu: the audit is content, the load is not", bit, at);
        found += report.result != AUDIT_SOUND;
        bytes[at] ^= bit;
    }
    free(bytes);
    assert_true(found > 50);
}

static void promise_11_an_incomplete_one_is_found(void **state)
{
    const struct place *place = *state;
    fill(place);
    file_sql(place->db,
             "DELETE FROM pack WHERE id = (SELECT first FROM span WHERE generation = 5)");
    struct report report = audit(place);
    assert_found(&report, "incomplete m/0: checkpoint 5");
    file_sql(place->db, "DELETE FROM span WHERE generation = 5");
    report = audit(place);
    assert_found(&report, "parts belong to no checkpoint");
}

static void promise_11_what_was_there_and_is_gone_is_found(void **state)
{
    const struct place *place = *state;
    char journal[112];
    fill(place);
    file_sql(place->db, "DELETE FROM manifest WHERE id = 6");
    struct report report = audit(place);
    assert_found(&report, "checkpoint 6 was saved last and is not there");
    file_write(place->db, "", 0);
    report = audit(place);
    assert_sound(&report); /* hasupd makes one this moment, for all that is known */
    const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, place->db, old, 0), 0);
    report = audit(place);
    assert_found(&report, "missing");
    assert_found(&report, "the file is empty");
    assert_int_equal(unlink(place->db), 0);
    report = audit(place);
    assert_sound(&report);
    snprintf(journal, sizeof journal, "%s-journal", place->db);
    file_write(journal, "x", 1);
    report = audit(place);
    assert_found(&report, "only its -journal is there");
}

static void what_is_out_of_order_is_found(void **state)
{
    const struct place *place = *state;
    fill(place);
    struct store *store = opened(place->db, STORE_WRITE);
    save(store, &SLOT, 2, SIZE, 3); /* it began again behind position 3 */
    store_close(store);
    struct report report = audit(place);
    assert_found(&report, "order m/0: checkpoint 5 (position 3) is further on than the newer 7");
    report = audit_with(place->directory, true, 0, HASUP_S - 600 * HASUP_S);
    assert_found(&report, "in the future: the clock went back");
}

/* As hasupd notes it: m/1 has had changes since `wall_ns`, from `position` on. */
static void changed(const struct place *place, uint64_t position, int64_t wall_ns)
{
    struct activity idle = {"m", 0, 4, 0}, busy = {"m", 1, position, wall_ns};
    int64_t owner;
    int fd = activity_open(place->directory, &owner);
    assert_true(fd >= 0);
    assert_int_equal(activity_begin(fd), 0);
    assert_int_equal(activity_write(fd, 0, &idle) | activity_write(fd, 5, &busy), 0);
    close(fd);
}

static void promise_11_changes_that_wait_too_long_are_found(void **state)
{
    const struct place *place = *state;
    fill(place);
    changed(place, 4, 100 * HASUP_S);
    struct report report = audit_with(place->directory, false, 60 * HASUP_S, 150 * HASUP_S);
    assert_sound(&report);
    report = audit_with(place->directory, false, 60 * HASUP_S, 7300 * HASUP_S);
    assert_found(&report, "stale m/1: it has changes since 2 h that no checkpoint has, more than "
                          "60 s");
    assert_null(strstr(report.text, "m/0"));
    report = audit_with(place->directory, false, 0, 7300 * HASUP_S);
    assert_sound(&report); /* nobody asked */
}

/* However old its checkpoints are. */
static void an_idle_slot_is_never_stale(void **state)
{
    const struct place *place = *state;
    fill(place);
    changed(place, 4, 0);
    struct report report = audit_with(place->directory, false, HASUP_S, 1000000 * HASUP_S);
    assert_sound(&report);
    changed(place, 3, 100 * HASUP_S); /* its checkpoint was stored just after the note was read */
    report = audit_with(place->directory, false, HASUP_S, 1000000 * HASUP_S);
    assert_sound(&report);
}

static void where_nothing_is_noted_that_is_said(void **state)
{
    const struct place *place = *state;
    fill(place);
    struct report report = audit_with(place->directory, false, HASUP_S, 7200 * HASUP_S);
    assert_int_equal(report.result, AUDIT_SOUND);
    assert_int_equal(report.summary.notes, 1);
    assert_non_null(strstr(report.text, "unknown "));
}

static void promise_11_a_slot_that_was_never_stored_is_stale(void **state)
{
    const struct place *place = *state;
    changed(place, 1, 100 * HASUP_S);
    struct report report = audit_with(place->directory, false, 60 * HASUP_S, 200 * HASUP_S);
    assert_found(&report, "stale m/1: it has changes since 100 s");
}

static void a_note_that_is_damaged_is_none(void **state)
{
    const struct place *place = *state;
    char path[112];
    size_t len;
    fill(place);
    changed(place, 4, 100 * HASUP_S);
    snprintf(path, sizeof path, "%s/activity", place->directory);
    uint8_t *bytes = file_read(path, &len);
    bytes[5 * ACTIVITY_RECORD + STORE_MODEL + 9] ^= 1;
    file_write(path, bytes, len - 1);
    free(bytes);
    struct report report = audit_with(place->directory, false, 60 * HASUP_S, 7300 * HASUP_S);
    assert_sound(&report);
}

static void promise_12_files_that_let_others_in_are_found(void **state)
{
    const struct place *place = *state;
    fill(place);
    assert_int_equal(chmod(place->db, 0644), 0);
    struct report report = audit(place);
    assert_found(&report, "permissions");
    assert_found(&report, "mode 0644 lets others in > chmod 0600 ");
    assert_int_equal(chmod(place->db, 0600) | chmod(place->directory, 0777), 0);
    report = audit(place);
    assert_found(&report, "> chmod 0755 ");
}

static void what_cannot_be_checked_is_neither_sound_nor_a_finding(void **state)
{
    const struct place *place = *state;
    struct report report = audit_with("/nonexistent", true, 0, 0);
    assert_int_equal(report.result, AUDIT_COULD_NOT);
    assert_non_null(strstr(report.error, "/nonexistent: No such file or directory"));
    report = audit_with("/dev/null", true, 0, 0);
    assert_int_equal(report.result, AUDIT_COULD_NOT);
    assert_non_null(strstr(report.error, "/dev/null: Not a directory"));
    fill(place);
    file_sql(place->db, "PRAGMA user_version = 7");
    report = audit(place);
    assert_int_equal(report.result, AUDIT_COULD_NOT);
    assert_non_null(strstr(report.error, "schema version 7"));
    memset(report.text, 'x', sizeof report.text);
    file_write(place->db, report.text, sizeof report.text);
    report = audit(place);
    assert_found(&report, "damaged");
}

/* ---- it touches nothing ---- */

static const char *const FILES[] = {"", "-journal"};

struct snapshot {
    uint8_t *bytes[HASUP_LEN(FILES)];
    size_t len[HASUP_LEN(FILES)];
    unsigned entries;
};

static struct snapshot snapshot(const struct place *place)
{
    struct snapshot shot = {0};
    DIR *list = opendir(place->directory);
    assert_non_null(list);
    while (readdir(list))
        shot.entries++;
    closedir(list);
    for (size_t i = 0; i < HASUP_LEN(FILES); i++) {
        char path[112];
        snprintf(path, sizeof path, "%s%s", place->db, FILES[i]);
        if (access(path, F_OK) == 0)
            shot.bytes[i] = file_read(path, &shot.len[i]);
    }
    return shot;
}

static void assert_untouched(const struct place *place, struct snapshot *before)
{
    struct snapshot now = snapshot(place);
    assert_int_equal(before->entries, now.entries);
    for (size_t i = 0; i < HASUP_LEN(FILES); i++) {
        assert_int_equal(before->bytes[i] != NULL, now.bytes[i] != NULL);
        assert_int_equal(before->len[i], now.len[i]);
        if (now.len[i])
            assert_memory_equal(before->bytes[i], now.bytes[i], now.len[i]);
        free(before->bytes[i]);
        free(now.bytes[i]);
    }
}

static void a_directory_of_a_stopped_hasupd_stays_as_it_is(void **state)
{
    const struct place *place = *state;
    fill(place);
    struct snapshot before = snapshot(place);
    assert_int_equal(before.entries, 4); /* ".", "..", the database, its -journal */
    struct report report = audit(place);
    assert_sound(&report);
    assert_untouched(place, &before);
}

static void a_directory_of_a_running_hasupd_stays_as_it_is(void **state)
{
    const struct place *place = *state;
    fill(place);
    struct store *writer = opened(place->db, STORE_WRITE);
    save(writer, &SLOT, 4, SIZE, 3);
    struct snapshot before = snapshot(place);
    assert_int_equal(before.entries, 4);
    struct report report = audit(place);
    assert_sound(&report);
    assert_untouched(place, &before);
    store_close(writer);
}

/* Killed amid a save: what was there before is read; the half of a save stays for hasupd to undo.
 */
static void a_directory_of_a_killed_hasupd_stays_as_it_is(void **state)
{
    const struct place *place = *state;
    int status;
    fill(place);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sqlite3 *db;
        if (sqlite3_open(place->db, &db) ||
            sqlite3_exec(db,
                         "PRAGMA cache_size = 4; BEGIN;"
                         "DELETE FROM manifest WHERE id > 2; DELETE FROM pack WHERE id > 3;"
                         "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50)"
                         "INSERT INTO pack SELECT NULL, i, 0, NULL, randomblob(60000) FROM n",
                         NULL, NULL, NULL))
            _exit(1);
        raise(SIGKILL);
    }
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    struct snapshot before = snapshot(place);
    assert_true(before.len[1] > 65536); /* the rollback journal */
    assert_true(load_from(place->db, STORE_READ).position == 3);
    struct report report = audit(place);
    assert_sound(&report);
    assert_untouched(place, &before);
    assert_true(load_from(place->db, STORE_WRITE).position == 3);
}

static void beside_a_writer_it_finds_nothing_that_is_not_there(void **state)
{
    const struct place *place = *state;
    int ends[2], status;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* Opens and closes, so that the audit meets it coming and going. */
        for (uint64_t position = 1;; position++) {
            char error[STORE_ERROR];
            struct store *store;
            if (store_open(place->db, STORE_WRITE, &store, error) ||
                try_save(store, &SLOT, position, SIZE, 3, error) ||
                write(ends[1], &position, sizeof position) < 0)
                _exit(1);
            store_close(store);
        }
    }
    close(ends[1]);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t told;
        assert_true(read(ends[0], &told, sizeof told) == sizeof told);
        struct report report = audit_with(place->directory, i % 2, 0, INT64_C(1000000) * HASUP_S);
        assert_sound(&report);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_true(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    close(ends[0]);
}

/* ---- disks ---- */

static int on_read_only(const struct place *place)
{
    fill(place);
    CHECK(mount("none", place->directory, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    struct report report = audit(place);
    CHECK(report.result == AUDIT_FINDINGS && report.count == 1);
    CHECK(strstr(report.text, "space") && strstr(report.text, "read-only"));
    CHECK(report.summary.verified == 6);
    return 0;
}

static int on_full(const struct place *place)
{
    char filler[112];
    static const char zeros[4096];
    fill(place);
    snprintf(filler, sizeof filler, "%s/filler", place->directory);
    int fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    close(fd);
    struct report report = audit(place);
    CHECK(report.result == AUDIT_FINDINGS && report.count == 1);
    CHECK(strstr(report.text, "space") && strstr(report.text, "0 MiB (0 %) are free"));
    CHECK(report.summary.verified == 6);
    return 0;
}

static void promise_11_a_read_only_disk_is_a_finding(void **state)
{
    if (!on_small_disk(*state, "size=4m,mode=0700", on_read_only))
        skip();
}

static void promise_11_a_full_disk_is_a_finding(void **state)
{
    if (!on_small_disk(*state, "size=4m,mode=0700", on_full))
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_sound_directory_is_sound_and_counted),
        STORY(promise_11_damage_is_found_with_what_would_be_restored),
        STORY(promise_11_an_old_one_that_is_damaged_is_found_by_the_deep_audit),
        STORY(promise_11_every_manifest_is_checked_by_the_quick_audit),
        STORY(promise_11_a_bit_flipped_anywhere_is_found_or_harmless),
        STORY(promise_11_an_incomplete_one_is_found),
        STORY(promise_11_what_was_there_and_is_gone_is_found),
        STORY(what_is_out_of_order_is_found),
        STORY(promise_11_changes_that_wait_too_long_are_found),
        STORY(an_idle_slot_is_never_stale),
        STORY(where_nothing_is_noted_that_is_said),
        STORY(promise_11_a_slot_that_was_never_stored_is_stale),
        STORY(a_note_that_is_damaged_is_none),
        STORY(promise_12_files_that_let_others_in_are_found),
        STORY(what_cannot_be_checked_is_neither_sound_nor_a_finding),
        STORY(a_directory_of_a_stopped_hasupd_stays_as_it_is),
        STORY(a_directory_of_a_running_hasupd_stays_as_it_is),
        STORY(a_directory_of_a_killed_hasupd_stays_as_it_is),
        STORY(beside_a_writer_it_finds_nothing_that_is_not_there),
        STORY(promise_11_a_read_only_disk_is_a_finding),
        STORY(promise_11_a_full_disk_is_a_finding),
    };
    return cmocka_run_group_tests_name("checkpoints_audit", tests, NULL, NULL);
}
