/* A header reads back as it was written; a header that lies is refused before anything is done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ipc/frame.h"

static const struct hasup_frame request = {.type = HASUP_REQUEST,
                                           .flags = HASUP_FLAG_REPLAY,
                                           .meta_len = 0x0102,
                                           .id = 0x1122334455667788u,
                                           .body_len = 0x030405,
                                           .seq = 7};

/* The bytes of docs and vectors: changing them is changing the protocol. */
static const uint8_t request_bytes[HASUP_FRAME_HEADER] = {
    0xA7, 1,    5,    2, 0x02, 0x01, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    0x05, 0x04, 0x03, 0, 0,    0,    0, 0, 7,    0,    0,    0,    0,    0,    0,    0};

static void a_header_has_exactly_these_bytes(void **state)
{
    (void)state;
    uint8_t bytes[HASUP_FRAME_HEADER];
    hasup_frame_encode(&request, bytes);
    assert_memory_equal(bytes, request_bytes, sizeof(bytes));
}

static void a_header_reads_back(void **state)
{
    (void)state;
    struct hasup_frame frame;
    assert_int_equal(hasup_frame_decode(&frame, request_bytes), 0);
    assert_int_equal(frame.type, request.type);
    assert_int_equal(frame.flags, request.flags);
    assert_int_equal(frame.meta_len, request.meta_len);
    assert_true(frame.id == request.id);
    assert_true(frame.body_len == request.body_len);
    assert_int_equal(frame.seq, request.seq);
    assert_int_equal(frame.fd, -1);
}

static int decode_with(size_t offset, uint8_t value)
{
    uint8_t bytes[HASUP_FRAME_HEADER];
    struct hasup_frame frame;
    memcpy(bytes, request_bytes, sizeof(bytes));
    bytes[offset] = value;
    return hasup_frame_decode(&frame, bytes);
}

static void a_malformed_header_is_refused(void **state)
{
    (void)state;
    assert_int_equal(decode_with(0, 0), HASUP_EPROTO);     /* magic */
    assert_int_equal(decode_with(1, 2), HASUP_EPROTO);     /* version */
    assert_int_equal(decode_with(2, 0), HASUP_EPROTO);     /* type */
    assert_int_equal(decode_with(2, 23), HASUP_EPROTO);    /* type */
    assert_int_equal(decode_with(31, 1), HASUP_EPROTO);    /* reserved */
    assert_int_equal(decode_with(7, 0x10), HASUP_ETOOBIG); /* meta length */
    assert_int_equal(decode_with(20, 1), HASUP_ETOOBIG);   /* inline body length */
}

static void only_a_body_in_a_buffer_may_be_large(void **state)
{
    (void)state;
    uint8_t bytes[HASUP_FRAME_HEADER];
    struct hasup_frame frame = request;
    frame.body_len = HASUP_INLINE_MAX + 1u;
    hasup_frame_encode(&frame, bytes);
    assert_int_equal(hasup_frame_decode(&frame, bytes), HASUP_ETOOBIG);
    bytes[3] |= HASUP_FLAG_BUFFER;
    assert_int_equal(hasup_frame_decode(&frame, bytes), 0);
    assert_true(frame.body_len == HASUP_INLINE_MAX + 1u);
}

static void every_type_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(hasup_frame_name(HASUP_HELLO), "HELLO");
    assert_string_equal(hasup_frame_name(HASUP_CONTROL), "CONTROL");
    assert_string_equal(hasup_frame_name(HASUP_UNBEGUN), "UNBEGUN");
    assert_string_equal(hasup_frame_name(0), "unknown");
    assert_string_equal(hasup_frame_name(HASUP_UNBEGUN + 1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_has_exactly_these_bytes),
        cmocka_unit_test(a_header_reads_back),
        cmocka_unit_test(a_malformed_header_is_refused),
        cmocka_unit_test(only_a_body_in_a_buffer_may_be_large),
        cmocka_unit_test(every_type_has_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
