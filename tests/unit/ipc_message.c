/* Fields read back as written; one that runs past the end, or a critical stranger, is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ipc/message.h"

static struct hasup_frame frame_of(const uint8_t *meta, size_t len)
{
    return (struct hasup_frame){.type = HASUP_WELCOME, .meta = meta, .meta_len = (uint32_t)len};
}

static void fields_read_back_in_order(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof(bytes));
    hasup_meta_put(&w, HASUP_TAG_MODEL, "digits", 6);
    hasup_meta_put32(&w, HASUP_TAG_SLOT, 3);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, 1ull << 40);
    int64_t len = hasup_meta_end(&w);
    assert_int_equal(len, 3 * HASUP_FIELD_HEADER + 6 + 4 + 8);

    struct hasup_frame frame = frame_of(bytes, (size_t)len);
    struct hasup_meta_reader r;
    struct hasup_field field;
    uint32_t slot = 0;
    uint64_t position = 0;
    hasup_meta_read(&r, &frame);
    assert_int_equal(hasup_meta_next(&r, &field), 1);
    assert_int_equal(field.tag, HASUP_TAG_MODEL);
    assert_int_equal(field.len, 6);
    assert_memory_equal(field.value, "digits", 6);
    assert_int_equal(hasup_meta_next(&r, &field), 1);
    assert_int_equal(hasup_field_get32(&field, &slot), 0);
    assert_int_equal(slot, 3);
    assert_int_equal(hasup_field_get64(&field, &position), HASUP_EPROTO);
    assert_int_equal(hasup_meta_next(&r, &field), 1);
    assert_int_equal(hasup_field_get64(&field, &position), 0);
    assert_true(position == 1ull << 40);
    assert_int_equal(hasup_meta_next(&r, &field), 0);
}

static void an_empty_meta_has_no_fields(void **state)
{
    (void)state;
    struct hasup_frame frame = frame_of(NULL, 0);
    struct hasup_meta_reader r;
    struct hasup_field field;
    hasup_meta_read(&r, &frame);
    assert_int_equal(hasup_meta_next(&r, &field), 0);
}

static void what_does_not_fit_is_said_at_the_end(void **state)
{
    (void)state;
    uint8_t bytes[20];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof(bytes));
    hasup_meta_put32(&w, HASUP_TAG_SLOT, 1);
    hasup_meta_put32(&w, HASUP_TAG_SLOT, 2);
    assert_int_equal(hasup_meta_end(&w), HASUP_ETOOBIG);
    assert_int_equal(w.used, HASUP_FIELD_HEADER + 4);
}

static void every_cut_of_a_field_is_refused(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof(bytes));
    hasup_meta_put(&w, HASUP_TAG_MODEL, "digits", 6);
    for (size_t cut = 1; cut < w.used; cut++) {
        struct hasup_frame frame = frame_of(bytes, cut);
        struct hasup_meta_reader r;
        struct hasup_field field;
        hasup_meta_read(&r, &frame);
        assert_int_equal(hasup_meta_next(&r, &field), HASUP_EPROTO);
    }
}

static void a_critical_stranger_is_refused_another_is_skipped(void **state)
{
    (void)state;
    struct hasup_field stranger = {.tag = 999};
    assert_int_equal(hasup_meta_unknown(&stranger), 0);
    uint8_t bytes[] = {0xE7, 0x83, 0, 0, 0, 0, 0, 0}; /* tag 999, critical */
    struct hasup_frame frame = frame_of(bytes, sizeof(bytes));
    struct hasup_meta_reader r;
    hasup_meta_read(&r, &frame);
    assert_int_equal(hasup_meta_next(&r, &stranger), 1);
    assert_int_equal(stranger.tag, 999);
    assert_int_equal(hasup_meta_unknown(&stranger), HASUP_EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_read_back_in_order),
        cmocka_unit_test(an_empty_meta_has_no_fields),
        cmocka_unit_test(what_does_not_fit_is_said_at_the_end),
        cmocka_unit_test(every_cut_of_a_field_is_refused),
        cmocka_unit_test(a_critical_stranger_is_refused_another_is_skipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
