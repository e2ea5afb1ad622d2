/* Every vector reads as it says and is written byte for byte; every malformed one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "tests/unit/vectors.h"

static struct vector vector;
static uint8_t scratch[HASUP_CHANNEL_SCRATCH];

static FILE *vectors_open(void)
{
    FILE *file = fopen(VECTORS_FILE, "r");
    if (!file)
        fail_msg("%s cannot be read; run the tests in the top directory", VECTORS_FILE);
    return file;
}

struct pair {
    struct hasup_channel channel;
    int peer;
};

static void pair_open(struct pair *pair)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    hasup_channel_init(&pair->channel, ends[0], 0);
    pair->peer = ends[1];
}

static void pair_close(struct pair *pair)
{
    hasup_channel_fini(&pair->channel);
    if (pair->peer >= 0)
        close(pair->peer);
}

/* Writes bytes as a peer would; with the descriptor where `fd` is one. */
static void peer_write(const struct pair *pair, const uint8_t *bytes, size_t len, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    assert_int_equal(sendmsg(pair->peer, &message, 0), (ssize_t)len);
}

static void assert_same_frame(const struct hasup_frame *got, const struct hasup_frame *want)
{
    assert_int_equal(got->type, want->type);
    assert_int_equal(got->flags, want->flags);
    assert_true(got->id == want->id);
    assert_int_equal(got->seq, want->seq);
    assert_int_equal(got->meta_len, want->meta_len);
    assert_true(got->body_len == want->body_len);
    assert_memory_equal(got->meta, want->meta, want->meta_len);
    assert_int_equal(got->fd >= 0, (want->flags & HASUP_FLAG_FD) != 0);
    if (want->body && want->body_len)
        assert_memory_equal(got->body, want->body, (size_t)want->body_len);
    else
        assert_null(got->body);
}

static void check_read(const struct vector *v)
{
    struct pair pair;
    struct hasup_frame frame;
    pair_open(&pair);
    int passed = v->frame.flags & HASUP_FLAG_FD ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    peer_write(&pair, v->bytes, v->len, passed);
    if (passed >= 0)
        close(passed);
    assert_int_equal(hasup_channel_fill(&pair.channel, scratch, sizeof scratch), v->len);
    assert_int_equal(hasup_channel_next(&pair.channel, &frame), 1);
    assert_same_frame(&frame, &v->frame);
    if (frame.fd >= 0)
        close(frame.fd);
    assert_int_equal(hasup_channel_next(&pair.channel, &frame), 0);
    pair_close(&pair);
}

static void check_written(const struct vector *v)
{
    struct pair pair;
    uint8_t bytes[sizeof v->bytes];
    struct hasup_frame frame = v->frame;
    pair_open(&pair);
    if (frame.flags & HASUP_FLAG_FD)
        frame.fd = pair.peer; /* any descriptor will do */
    assert_int_equal(hasup_channel_send(&pair.channel, &frame), 0);
    assert_int_equal(hasup_channel_flush(&pair.channel), 0);
    assert_int_equal(read(pair.peer, bytes, sizeof bytes), v->len);
    assert_memory_equal(bytes, v->bytes, v->len);
    pair_close(&pair);
}

static void every_frame_reads_and_writes_byte_for_byte(void **state)
{
    (void)state;
    uint32_t types = 0;
    uint64_t tags = 0;
    uint8_t flags = 0;
    FILE *file = vectors_open();
    while (vector_next(file, &vector)) {
        if (vector.kind != VECTOR_FRAME)
            continue;
        check_read(&vector);
        check_written(&vector);
        types |= 1u << vector.frame.type;
        tags |= vector.tags;
        flags |= vector.frame.flags;
    }
    fclose(file);
    /* None was forgotten. */
    assert_int_equal(types, (1u << (HASUP_UNBEGUN + 1)) - 2);
    assert_true(tags == ((uint64_t)1 << (HASUP_LEN(tag_texts) + 1)) - 2);
    assert_int_equal(flags, (1u << HASUP_LEN(flag_texts)) - 1);
}

static void every_sound_header_is_taken(void **state)
{
    (void)state;
    int seen = 0;
    FILE *file = vectors_open();
    while (vector_next(file, &vector)) {
        struct hasup_frame frame;
        if (vector.kind != VECTOR_HEADER)
            continue;
        assert_int_equal(vector.len, HASUP_FRAME_HEADER);
        assert_int_equal(hasup_frame_decode(&frame, vector.bytes), 0);
        assert_int_equal(frame.meta_len, vector.frame.meta_len);
        assert_true(frame.body_len == vector.frame.body_len);
        seen++;
    }
    fclose(file);
    assert_true(seen > 0);
}

/* Fed at once, and byte by byte: the answer is the same, and nothing is handed out. */
static void every_malformed_frame_is_refused(void **state)
{
    (void)state;
    int seen = 0;
    FILE *file = vectors_open();
    while (vector_next(file, &vector)) {
        if (vector.kind != VECTOR_MALFORMED)
            continue;
        for (size_t step = vector.len; step; step = step > 1 ? 1 : 0) {
            struct pair pair;
            struct hasup_frame frame;
            int got = 0;
            pair_open(&pair);
            for (size_t at = 0; at < vector.len && !got; at += step) {
                peer_write(&pair, vector.bytes + at, step, -1);
                assert_true(hasup_channel_fill(&pair.channel, scratch, sizeof scratch) > 0);
                got = hasup_channel_next(&pair.channel, &frame);
            }
            assert_int_equal(got, vector.error);
            assert_int_equal(frame.fd, -1);
            pair_close(&pair);
        }
        seen++;
    }
    fclose(file);
    assert_true(seen > 0);
}

static void every_cut_of_a_frame_waits_for_the_rest(void **state)
{
    (void)state;
    FILE *file = vectors_open();
    while (vector_next(file, &vector)) {
        struct pair pair;
        struct hasup_frame frame;
        if (vector.kind != VECTOR_FRAME || vector.frame.flags & HASUP_FLAG_FD)
            continue;
        pair_open(&pair);
        for (size_t at = 0; at < vector.len; at++) {
            peer_write(&pair, vector.bytes + at, 1, -1);
            assert_true(hasup_channel_fill(&pair.channel, scratch, sizeof scratch) > 0);
            assert_int_equal(hasup_channel_next(&pair.channel, &frame), at + 1 == vector.len);
        }
        assert_same_frame(&frame, &vector.frame);
        assert_int_equal(hasup_channel_next(&pair.channel, &frame), 0);
        pair_close(&pair);
    }
    fclose(file);
}

/* A failed assertion does not say where it stood. */
static int say_last(void **state)
{
    (void)state;
    print_message("             last vector: %s\n", vector.name);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_frame_reads_and_writes_byte_for_byte, say_last),
        cmocka_unit_test_teardown(every_sound_header_is_taken, say_last),
        cmocka_unit_test_teardown(every_malformed_frame_is_refused, say_last),
        cmocka_unit_test_teardown(every_cut_of_a_frame_waits_for_the_rest, say_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
