/* Promise 11: a state directory has one owner, which is known by its pid and gone with its process.
 */
#include "checkpoints/activity.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int make_directory(void **state)
{
    char *directory = strdup("/tmp/hasup-owner.XXXXXX");
    *state = directory;
    return directory && mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    char path[64];
    snprintf(path, sizeof path, "%s/activity", (char *)*state);
    unlink(path);
    rmdir(*state);
    free(*state);
    return 0;
}

/* A process that owns the directory, with a child that outlives it if asked for; both end as `hold`
 * is closed. */
static pid_t start_owner(const char *directory, bool child, int *hold)
{
    int ready[2], held[2];
    char byte;
    assert_int_equal(pipe(ready) | pipe(held), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int64_t owner;
        close(ready[0]);
        close(held[1]);
        bool fine = activity_open(directory, &owner) >= 0;
        if (child && fork() == 0)
            child = false; /* the child itself says that all is there */
        else if (child)
            fine = false;
        if (fine)
            (void)!write(ready[1], "x", 1);
        (void)!read(held[0], &byte, 1);
        _exit(0);
    }
    close(ready[1]);
    close(held[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    *hold = held[1];
    return pid;
}

static void kill_owner(pid_t pid)
{
    siginfo_t info;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static void promise_11_a_second_owner_is_refused_and_told_who_the_first_is(void **state)
{
    int64_t owner = -1;
    int hold;
    pid_t pid = start_owner(*state, false, &hold);
    assert_int_equal(activity_open(*state, &owner), -1);
    assert_int_equal(errno, EBUSY);
    assert_int_equal(owner, pid);
    kill_owner(pid); /* not reaped, as far as anybody knows */
    int fd = activity_open(*state, &owner);
    assert_true(fd >= 0);
    assert_int_equal(owner, 0);
    close(fd);
    close(hold);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_child_that_outlives_the_owner_owns_nothing(void **state)
{
    int64_t owner = -1;
    int hold;
    pid_t pid = start_owner(*state, true, &hold);
    kill_owner(pid);
    int fd = activity_open(*state, &owner);
    assert_true(fd >= 0);
    close(fd);
    close(hold);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void what_an_earlier_owner_noted_stays_until_a_run_begins(void **state)
{
    const struct activity busy = {"m", 1, 7, 3};
    int64_t owner;
    int fd = activity_open(*state, &owner);
    assert_int_equal(activity_write(fd, 0, &busy), 0);
    close(fd);
    fd = activity_open(*state, &owner);
    assert_int_equal(lseek(fd, 0, SEEK_END), ACTIVITY_RECORD);
    assert_int_equal(activity_begin(fd), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    close(fd);
}

static void a_file_that_was_replaced_is_known(void **state)
{
    char path[64];
    int64_t owner;
    int fd = activity_open(*state, &owner);
    assert_false(activity_is_gone(fd, *state));
    snprintf(path, sizeof path, "%s/activity", (char *)*state);
    assert_int_equal(unlink(path), 0);
    assert_true(activity_is_gone(fd, *state));
    int next = activity_open(*state, &owner);
    assert_true(activity_is_gone(fd, *state));
    assert_false(activity_is_gone(next, *state));
    close(next);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            promise_11_a_second_owner_is_refused_and_told_who_the_first_is, make_directory,
            remove_directory),
        cmocka_unit_test_setup_teardown(a_child_that_outlives_the_owner_owns_nothing,
                                        make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(what_an_earlier_owner_noted_stays_until_a_run_begins,
                                        make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_file_that_was_replaced_is_known, make_directory,
                                        remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
