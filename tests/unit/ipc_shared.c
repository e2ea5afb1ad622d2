/* What one end writes into a shared memory the other reads, and neither can make it shorter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ipc/frame.h"
#include "ipc/shared.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

static void a_size_is_a_power_of_two_that_fits(void **state)
{
    (void)state;
    assert_int_equal(hasup_shared_size(0), HASUP_INLINE_MAX);
    assert_int_equal(hasup_shared_size(HASUP_INLINE_MAX), HASUP_INLINE_MAX);
    assert_int_equal(hasup_shared_size(HASUP_INLINE_MAX + 1), 2 * HASUP_INLINE_MAX);
    assert_int_equal(hasup_shared_size(1 << 20), 1 << 20);
}

static void what_one_end_writes_the_other_reads(void **state)
{
    (void)state;
    uint8_t *ours, *theirs;
    int fd = hasup_shared_make("test", 1 << 20, &ours);
    assert_true(fd >= 0);
    assert_int_equal(hasup_shared_map(fd, 1 << 20, &theirs), 0);
    ours[(1 << 20) - 1] = 7;
    assert_int_equal(theirs[(1 << 20) - 1], 7);
    assert_int_equal(ftruncate(fd, 4096), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(fd, 2 << 20), -1);
    munmap(ours, 1 << 20);
    munmap(theirs, 1 << 20);
    close(fd);
}

static void what_is_not_as_long_as_was_said_is_refused(void **state)
{
    (void)state;
    uint8_t *ours, *theirs = NULL;
    int fd = hasup_shared_make("test", 4096, &ours);
    assert_true(fd >= 0);
    assert_int_equal(hasup_shared_map(fd, 4097, &theirs), HASUP_EPROTO);
    assert_int_equal(hasup_shared_map(fd, 0, &theirs), HASUP_EPROTO);
    assert_int_equal(hasup_shared_map(-1, 4096, &theirs), HASUP_EPROTO);
    assert_null(theirs);
    assert_int_equal(hasup_shared_make("test", UINT64_MAX, &ours), HASUP_ESYS);
    munmap(ours, 4096);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_size_is_a_power_of_two_that_fits),
        cmocka_unit_test(what_one_end_writes_the_other_reads),
        cmocka_unit_test(what_is_not_as_long_as_was_said_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
