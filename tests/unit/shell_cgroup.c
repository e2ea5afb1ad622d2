/* A slot's cgroup takes the next worker after the tree of the last one was killed in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/cgroup.h"

/* The wait status of a child that starts in the leaf, waits for a line where it is told to, exits.
 */
static int child_in(struct leaf *leaf, bool kill_it)
{
    int ends[2], status = 0;
    char byte;
    assert_int_equal(pipe(ends), 0);
    struct clone_args args = {.flags = CLONE_INTO_CGROUP,
                              .exit_signal = SIGCHLD,
                              .cgroup = (unsigned)leaf_directory(leaf)};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        close(ends[1]);
        _exit(kill_it && read(ends[0], &byte, 1) != 0 ? 1 : 7);
    }
    close(ends[0]);
    if (pid > 0 && kill_it)
        leaf_kill(leaf);
    if (pid > 0)
        waitpid((pid_t)pid, &status, 0);
    close(ends[1]);
    return pid > 0 ? status : -1;
}

static void a_killed_leaf_serves_again(void **state)
{
    (void)state;
    struct cgroups *cgroups = cgroups_open("");
    if (!cgroups)
        skip(); /* cgroup v2 is not there, or not ours */
    struct leaf *leaf = leaf_get(cgroups, "digits/0");
    if (!leaf) {
        cgroups_close(cgroups);
        skip();
    }
    for (int round = 0; round < 3; round++) {
        int status = child_in(leaf, false);
        if (status < 0) { /* a container's filter refuses clone3 */
            cgroups_close(cgroups);
            skip();
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        status = child_in(leaf, true);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_true(leaf_is_empty(leaf));
        leaf = leaf_get(cgroups, "digits/0");
        assert_non_null(leaf);
    }
    cgroups_close(cgroups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_leaf_serves_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
