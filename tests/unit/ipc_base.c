/* The error codes have texts; little-endian access is what it says on any host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ipc/base.h"

static void every_error_has_its_own_text(void **state)
{
    (void)state;
    assert_string_equal(hasup_strerror(0), "success");
    assert_string_equal(hasup_strerror(HASUP_EPROTO), "the peer broke the protocol");
    assert_string_equal(hasup_strerror(-9999), "unknown error");
}

static void numbers_are_little_endian(void **state)
{
    (void)state;
    uint8_t bytes[8];
    hasup_put64(bytes, 0x0807060504030201u);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(bytes[i], i + 1);
    assert_true(hasup_get64(bytes) == 0x0807060504030201u);
    assert_int_equal(hasup_get32(bytes), 0x04030201);
    assert_int_equal(hasup_get16(bytes), 0x0201);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_own_text),
        cmocka_unit_test(numbers_are_little_endian),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
