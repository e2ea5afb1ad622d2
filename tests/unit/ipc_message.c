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

static void the_first_field_with_a_tag_is_found(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put(&w, HASUP_TAG_ERROR, "one", 3);
    hasup_meta_put32(&w, HASUP_TAG_FD_NUMBER, 2);
    hasup_meta_put(&w, HASUP_TAG_ERROR, "two", 3);
    hasup_meta_put64(&w, HASUP_TAG_POSITION, 9);
    hasup_meta_put(&w, HASUP_TAG_ATTEMPTS, "xx", 2);
    struct hasup_frame frame = frame_of(bytes, w.used);
    struct hasup_field field;
    uint32_t number = 7;
    uint64_t position = 7;
    assert_true(hasup_meta_find(&frame, HASUP_TAG_ERROR, &field));
    assert_memory_equal(field.value, "one", field.len);
    assert_false(hasup_meta_find(&frame, HASUP_TAG_CODE, &field));
    assert_int_equal(hasup_meta_get32(&frame, HASUP_TAG_PRIORITY, &number), 0);
    assert_int_equal(number, 7);
    assert_int_equal(hasup_meta_get32(&frame, HASUP_TAG_FD_NUMBER, &number), 0);
    assert_int_equal(number, 2);
    assert_int_equal(hasup_meta_get64(&frame, HASUP_TAG_POSITION, &position), 0);
    assert_int_equal(position, 9);
    assert_int_equal(hasup_meta_get32(&frame, HASUP_TAG_ATTEMPTS, &number), HASUP_EPROTO);
    assert_int_equal(hasup_meta_get64(&frame, HASUP_TAG_FD_NUMBER, &position), HASUP_EPROTO);
    frame.meta_len = HASUP_FIELD_HEADER + 2; /* cut off: nothing is there */
    assert_false(hasup_meta_find(&frame, HASUP_TAG_ERROR, &field));
}

static void a_body_stands_inside_of_its_buffer_or_nowhere(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct hasup_meta_writer w;
    struct hasup_buffer_place place;
    struct hasup_frame frame = frame_of(NULL, 0);
    assert_int_equal(hasup_buffer_read(&frame, &place), 0);
    assert_false(place.named);
    assert_true(hasup_buffer_holds(&place, 0, &frame));
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, 5);
    hasup_meta_put64(&w, HASUP_TAG_BUFFER_SIZE, 4096);
    hasup_meta_put64(&w, HASUP_TAG_BUFFER_OFFSET, 100);
    frame = frame_of(bytes, w.used);
    assert_int_equal(hasup_buffer_read(&frame, &place), 0);
    assert_true(place.named);
    assert_int_equal(place.id, 5);
    assert_int_equal(place.size, 4096);
    assert_int_equal(place.offset, 100);
    frame.body_len = 28;
    assert_true(hasup_buffer_holds(&place, 128, &frame));
    assert_false(hasup_buffer_holds(&place, 127, &frame));
    assert_false(hasup_buffer_holds(&place, 99, &frame));
    frame.body_len = UINT64_MAX - 50; /* the sum of both is small again */
    assert_false(hasup_buffer_holds(&place, 4096, &frame));
    place.offset = UINT64_MAX;
    assert_false(hasup_buffer_holds(&place, 4096, &frame));
    bytes[4] = 3; /* an id of another length */
    assert_true(hasup_buffer_read(&frame, &place) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_read_back_in_order),
        cmocka_unit_test(an_empty_meta_has_no_fields),
        cmocka_unit_test(what_does_not_fit_is_said_at_the_end),
        cmocka_unit_test(every_cut_of_a_field_is_refused),
        cmocka_unit_test(a_critical_stranger_is_refused_another_is_skipped),
        cmocka_unit_test(the_first_field_with_a_tag_is_found),
        cmocka_unit_test(a_body_stands_inside_of_its_buffer_or_nowhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
