/* A slot's cgroup takes the next worker after the tree of the last one was killed in it, and tells
 * how many the kernel killed in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "supervisor/cgroup.h"
#include "supervisor/memory.h"

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

static void put(const char *directory, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Files that look like a cgroup's, where this machine delegates no memory controller. */
static void memory_and_kills_for_lack_of_it_are_read_where_they_are_counted(void **state)
{
    (void)state;
    char parent[] = "/tmp/hasup-cgroup.XXXXXX", own[256], leaf_path[320];
    uint64_t kills = 77;
    assert_non_null(mkdtemp(parent));
    snprintf(own, sizeof own, "%s/hasup.%d", parent, (int)getpid());
    snprintf(leaf_path, sizeof leaf_path, "%s/digits-0", own);
    assert_int_equal(mkdir(own, 0755), 0);
    assert_int_equal(mkdir(leaf_path, 0755), 0);
    put(leaf_path, "cgroup.events", "populated 0\nfrozen 0\n");
    struct cgroups *cgroups = cgroups_open(parent);
    assert_non_null(cgroups);
    struct leaf *leaf = leaf_get(cgroups, "digits/0");
    assert_non_null(leaf);

    assert_false(leaf_oom_kills(leaf, &kills)); /* no memory controller: nothing is counted */
    put(leaf_path, "memory.events", "low 0\nhigh 0\nmax 4\noom 9\n");
    assert_false(leaf_oom_kills(leaf, &kills)); /* Linux before 4.13 */
    assert_int_equal(kills, 77);
    put(leaf_path, "memory.events", "max 4\noom 9\noom_kill 0\noom_group_kill 8\n");
    assert_true(leaf_oom_kills(leaf, &kills));
    assert_int_equal(kills, 0);
    put(leaf_path, "memory.events", "max 4\noom 9\noom_kill 12\noom_group_kill 8\n");
    assert_true(leaf_oom_kills(leaf, &kills));
    assert_int_equal(kills, 12);

    assert_false(leaf_memory(leaf, &kills));
    put(leaf_path, "memory.current", "9000000\n");
    assert_true(leaf_memory(leaf, &kills));
    assert_int_equal(kills, 9000000);
    put(leaf_path, "memory.stat", "anon 1\nfile 2\ninactive_file 4000000\nactive_file 3000000\n");
    assert_true(leaf_memory(leaf, &kills)); /* without what the kernel takes back when it has to */
    assert_int_equal(kills, 2000000);
    assert_int_equal(memory_of_tree(leaf, getpid()), 2000000);
    put(leaf_path, "memory.current", "1000\n"); /* they are not counted at the same moment */
    assert_true(leaf_memory(leaf, &kills));
    assert_int_equal(kills, 0);

    const char *names[] = {"memory.events", "memory.current", "memory.stat", "cgroup.events"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", leaf_path, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    cgroups_close(cgroups);
    assert_int_equal(rmdir(parent), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_leaf_serves_again),
        cmocka_unit_test(memory_and_kills_for_lack_of_it_are_read_where_they_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
