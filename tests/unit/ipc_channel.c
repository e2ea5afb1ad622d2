/* A channel brings frames and descriptors across whole, however the bytes are cut, and holds no
 * more than its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "ipc/message.h"

static uint8_t scratch[HASUP_CHANNEL_SCRATCH];
static uint8_t big[HASUP_INLINE_MAX];

struct pair {
    struct hasup_channel a, b;
};

static void pair_open(struct pair *pair, size_t out_max)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    hasup_channel_init(&pair->a, ends[0], out_max);
    hasup_channel_init(&pair->b, ends[1], 0);
}

static void pair_close(struct pair *pair)
{
    hasup_channel_fini(&pair->a);
    hasup_channel_fini(&pair->b);
}

static int open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static int send_body(struct hasup_channel *ch, uint64_t id, const void *body, size_t len)
{
    const struct hasup_frame frame = {
        .type = HASUP_REQUEST, .id = id, .body = body, .body_len = len, .fd = -1};
    return hasup_channel_send(ch, &frame);
}

/* A BUFFER frame with its number, passing `fd`. */
static int send_descriptor(struct hasup_channel *ch, uint32_t number, int fd)
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, number);
    const struct hasup_frame frame = {.type = HASUP_BUFFER,
                                      .flags = HASUP_FLAG_FD,
                                      .meta = meta,
                                      .meta_len = (uint32_t)w.used,
                                      .fd = fd};
    return hasup_channel_send(ch, &frame);
}

static uint32_t number_of(const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    uint32_t number = 0;
    hasup_meta_read(&reader, frame);
    assert_int_equal(hasup_meta_next(&reader, &field), 1);
    assert_int_equal(hasup_field_get32(&field, &number), 0);
    return number;
}

/* The next frame, reading `room` bytes at a time. */
static void receive(struct hasup_channel *ch, struct hasup_frame *frame, size_t room)
{
    int got;
    while ((got = hasup_channel_next(ch, frame)) == 0)
        assert_true(hasup_channel_fill(ch, scratch, room) > 0);
    assert_int_equal(got, 1);
}

static void frames_arrive_whole_however_little_is_read_at_a_time(void **state)
{
    (void)state;
    static const size_t rooms[] = {1, 2, 31, 32, 33, 100, sizeof scratch};
    for (size_t r = 0; r < HASUP_LEN(rooms); r++) {
        struct pair pair;
        struct hasup_frame frame;
        pair_open(&pair, 0);
        for (uint64_t id = 1; id <= 20; id++)
            assert_int_equal(
                send_body(&pair.a, id, "0123456789012345678901234567890123456789", (size_t)id * 2),
                0);
        assert_int_equal(hasup_channel_flush(&pair.a), 0);
        for (uint64_t id = 1; id <= 20; id++) {
            receive(&pair.b, &frame, rooms[r]);
            assert_true(frame.id == id && frame.body_len == id * 2);
            assert_memory_equal(frame.body, "0123456789012345678901234567890123456789", id * 2);
        }
        assert_int_equal(hasup_channel_next(&pair.b, &frame), 0);
        assert_int_equal(hasup_channel_fill(&pair.b, scratch, rooms[r]), HASUP_EAGAIN);
        pair_close(&pair);
    }
}

static void the_longest_frame_crosses_a_socket_that_holds_less(void **state)
{
    (void)state;
    struct pair pair;
    struct hasup_frame frame;
    int got, waits = 0;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7);
    pair_open(&pair, 0);
    assert_int_equal(send_body(&pair.a, 1, big, sizeof big), 0);
    assert_int_equal(send_body(&pair.a, 2, "x", 1), 0);
    while ((got = hasup_channel_next(&pair.b, &frame)) == 0) {
        int flushed = hasup_channel_flush(&pair.a);
        assert_true(flushed == 0 || flushed == HASUP_EAGAIN);
        waits += flushed == HASUP_EAGAIN;
        assert_true(hasup_channel_fill(&pair.b, scratch, sizeof scratch) > 0);
    }
    assert_int_equal(got, 1);
    assert_true(waits > 0);
    assert_int_equal(frame.body_len, sizeof big);
    assert_memory_equal(frame.body, big, sizeof big);
    assert_int_equal(hasup_channel_flush(&pair.a), 0);
    receive(&pair.b, &frame, sizeof scratch);
    assert_true(frame.id == 2);
    pair_close(&pair);
}

/* Which file a descriptor is: each test file has another inode. */
static ino_t inode(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void every_descriptor_comes_with_its_own_frame(void **state)
{
    (void)state;
    static const size_t rooms[] = {1, 7, 44, 50, sizeof scratch};
    int before = open_descriptors();
    for (size_t r = 0; r < HASUP_LEN(rooms); r++) {
        struct pair pair;
        struct hasup_frame frame;
        ino_t want[5];
        pair_open(&pair, 0);
        for (uint32_t i = 0; i < HASUP_LEN(want); i++) {
            int fd = memfd_create("test", MFD_CLOEXEC);
            want[i] = inode(fd);
            assert_int_equal(send_body(&pair.a, i, "between", i), 0);
            assert_int_equal(send_descriptor(&pair.a, i, fd), 0);
            close(fd); /* the channel has its own */
        }
        assert_int_equal(hasup_channel_flush(&pair.a), 0);
        for (uint32_t i = 0; i < HASUP_LEN(want); i++) {
            receive(&pair.b, &frame, rooms[r]);
            assert_int_equal(frame.fd, -1);
            receive(&pair.b, &frame, rooms[r]);
            assert_int_equal(number_of(&frame), i);
            assert_true(frame.fd >= 0);
            assert_true(inode(frame.fd) == want[i]);
            assert_true(fcntl(frame.fd, F_GETFD) & FD_CLOEXEC);
            close(frame.fd);
        }
        pair_close(&pair);
    }
    assert_int_equal(open_descriptors(), before);
}

/* The kernel takes a part of the bytes; the descriptor must go with the first of its frame, once.
 */
static void a_descriptor_behind_a_full_socket_is_passed_once(void **state)
{
    (void)state;
    struct pair pair;
    struct hasup_frame frame;
    int fd = memfd_create("test", MFD_CLOEXEC);
    ino_t want = inode(fd);
    pair_open(&pair, 0);
    for (uint64_t id = 1; id <= 4; id++)
        assert_int_equal(send_body(&pair.a, id, big, sizeof big / 2), 0);
    assert_int_equal(hasup_channel_flush(&pair.a), HASUP_EAGAIN);
    assert_int_equal(send_descriptor(&pair.a, 7, fd), 0);
    close(fd);
    int frames = 0, passed = 0;
    while (frames < 5) {
        int flushed = hasup_channel_flush(&pair.a);
        assert_true(flushed == 0 || flushed == HASUP_EAGAIN);
        assert_true(hasup_channel_fill(&pair.b, scratch, sizeof scratch) > 0);
        while (hasup_channel_next(&pair.b, &frame) > 0) {
            frames++;
            assert_int_equal(frame.fd >= 0, frames == 5);
            if (frame.fd >= 0) {
                passed++;
                assert_true(inode(frame.fd) == want);
                close(frame.fd);
            }
        }
    }
    assert_int_equal(passed, 1);
    pair_close(&pair);
}

static void what_waits_unsent_has_a_limit(void **state)
{
    (void)state;
    struct pair pair;
    struct hasup_frame frame;
    int error, sent = 0;
    pair_open(&pair, 100000);
    while ((error = send_body(&pair.a, (uint64_t)sent + 1, big, 10000)) == 0)
        sent++;
    assert_int_equal(error, HASUP_EFULL);
    size_t unsent = hasup_channel_unsent(&pair.a);
    assert_true(unsent <= 100000);
    /* Nothing of the refused one was appended; once something left there is room again. */
    assert_int_equal(unsent, (size_t)sent * (HASUP_FRAME_HEADER + 10000));
    assert_int_equal(hasup_channel_flush(&pair.a), 0);
    assert_int_equal(send_body(&pair.a, (uint64_t)sent + 1, "x", 1), 0);
    assert_int_equal(hasup_channel_flush(&pair.a), 0);
    for (int i = 1; i <= sent + 1; i++) {
        receive(&pair.b, &frame, sizeof scratch);
        assert_true(frame.id == (uint64_t)i);
    }
    pair_close(&pair);
}

static void descriptors_that_wait_unsent_have_a_limit(void **state)
{
    (void)state;
    struct pair pair;
    int before = open_descriptors();
    pair_open(&pair, 0);
    for (uint32_t i = 0; i < HASUP_CHANNEL_FDS; i++)
        assert_int_equal(send_descriptor(&pair.a, i, 0), 0);
    assert_int_equal(send_descriptor(&pair.a, HASUP_CHANNEL_FDS, 0), HASUP_EFULL);
    pair_close(&pair);
    assert_int_equal(open_descriptors(), before);
}

/* What is sent after that begins anew: no descriptor of before goes with it. */
static void what_is_dropped_goes_with_its_descriptors(void **state)
{
    (void)state;
    struct pair pair;
    struct hasup_frame frame;
    int before = open_descriptors();
    pair_open(&pair, 0);
    assert_int_equal(send_body(&pair.a, 1, big, 5000), 0);
    assert_int_equal(send_descriptor(&pair.a, 7, 0), 0);
    hasup_channel_drop(&pair.a);
    assert_int_equal(hasup_channel_unsent(&pair.a), 0);
    assert_int_equal(open_descriptors(), before + 2);
    assert_int_equal(send_body(&pair.a, 2, big, 10), 0);
    assert_int_equal(hasup_channel_flush(&pair.a), 0);
    assert_true(hasup_channel_fill(&pair.b, scratch, sizeof scratch) > 0);
    assert_int_equal(hasup_channel_next(&pair.b, &frame), 1);
    assert_true(frame.id == 2 && frame.fd == -1);
    assert_int_equal(hasup_channel_next(&pair.b, &frame), 0);
    pair_close(&pair);
    assert_int_equal(open_descriptors(), before);
}

static void an_oversize_frame_is_not_sent(void **state)
{
    (void)state;
    struct pair pair;
    static uint8_t meta[HASUP_META_MAX + 1];
    pair_open(&pair, 0);
    struct hasup_frame frame = {
        .type = HASUP_REQUEST, .body = big, .body_len = HASUP_INLINE_MAX + 1u, .fd = -1};
    assert_int_equal(hasup_channel_send(&pair.a, &frame), HASUP_ETOOBIG);
    frame = (struct hasup_frame){
        .type = HASUP_REQUEST, .meta = meta, .meta_len = sizeof meta, .fd = -1};
    assert_int_equal(hasup_channel_send(&pair.a, &frame), HASUP_ETOOBIG);
    assert_int_equal(hasup_channel_unsent(&pair.a), 0);
    pair_close(&pair);
}

/* What a peer writes that is no channel. */
static void raw_write(int fd, const void *bytes, size_t len, const int *fds, size_t count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 64)];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)(uintptr_t)bytes, len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
    }
    assert_int_equal(sendmsg(fd, &message, 0), (ssize_t)len);
}

static void a_flood_of_descriptors_is_refused_and_leaks_none(void **state)
{
    (void)state;
    int fds[64] = {0};
    int before = open_descriptors();
    struct pair pair;
    /* All at once. */
    pair_open(&pair, 0);
    raw_write(pair.a.fd, "x", 1, fds, HASUP_LEN(fds));
    assert_int_equal(hasup_channel_fill(&pair.b, scratch, sizeof scratch), HASUP_EPROTO);
    pair_close(&pair);
    /* One by one, with bytes of a frame that never ends. */
    uint8_t header[HASUP_FRAME_HEADER];
    const struct hasup_frame frame = {.type = HASUP_REQUEST, .body_len = 1000};
    hasup_frame_encode(&frame, header);
    pair_open(&pair, 0);
    raw_write(pair.a.fd, header, sizeof header, NULL, 0);
    int64_t got = 0;
    int passed = 0;
    while (passed <= HASUP_CHANNEL_FDS && got >= 0) {
        raw_write(pair.a.fd, "x", 1, fds, 1);
        passed++;
        do {
            struct hasup_frame none;
            got = hasup_channel_fill(&pair.b, scratch, sizeof scratch);
            assert_true(got <= 0 || hasup_channel_next(&pair.b, &none) == 0);
        } while (got > 0);
        if (got == HASUP_EAGAIN)
            got = 0;
    }
    assert_int_equal(got, HASUP_EPROTO);
    assert_int_equal(passed, HASUP_CHANNEL_FDS + 1);
    pair_close(&pair);
    assert_int_equal(open_descriptors(), before);
}

static void a_close_in_the_middle_of_a_frame_is_the_end_and_no_frame(void **state)
{
    (void)state;
    for (size_t cut = 0; cut < 42; cut += 3) {
        struct pair pair;
        struct hasup_frame frame;
        uint8_t bytes[42];
        const struct hasup_frame whole = {.type = HASUP_REQUEST, .body_len = 10};
        hasup_frame_encode(&whole, bytes);
        memset(bytes + HASUP_FRAME_HEADER, 'x', 10);
        pair_open(&pair, 0);
        if (cut)
            raw_write(pair.a.fd, bytes, cut, NULL, 0);
        close(pair.a.fd);
        pair.a.fd = -1;
        if (cut) {
            assert_int_equal(hasup_channel_fill(&pair.b, scratch, sizeof scratch), cut);
            assert_int_equal(hasup_channel_next(&pair.b, &frame), 0);
        }
        assert_int_equal(hasup_channel_fill(&pair.b, scratch, sizeof scratch), HASUP_ECLOSED);
        assert_int_equal(hasup_channel_next(&pair.b, &frame), 0);
        pair_close(&pair);
    }
}

static void writing_to_a_peer_that_left_is_closed_not_a_signal(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, 0);
    close(pair.b.fd);
    pair.b.fd = -1;
    assert_int_equal(send_body(&pair.a, 1, "x", 1), 0);
    assert_int_equal(hasup_channel_flush(&pair.a), HASUP_ECLOSED);
    pair_close(&pair);
}

static void an_idle_channel_keeps_no_memory_of_a_long_frame(void **state)
{
    (void)state;
    struct pair pair;
    struct hasup_frame frame;
    int got;
    pair_open(&pair, 0);
    assert_int_equal(send_body(&pair.a, 1, big, sizeof big), 0);
    while ((got = hasup_channel_next(&pair.b, &frame)) == 0) {
        (void)!hasup_channel_flush(&pair.a);
        assert_true(hasup_channel_fill(&pair.b, scratch, sizeof scratch) > 0);
    }
    assert_int_equal(got, 1);
    assert_int_equal(hasup_channel_next(&pair.b, &frame), 0);
    assert_null(pair.b.in.kept);
    assert_null(pair.a.out.bytes);
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_arrive_whole_however_little_is_read_at_a_time),
        cmocka_unit_test(the_longest_frame_crosses_a_socket_that_holds_less),
        cmocka_unit_test(every_descriptor_comes_with_its_own_frame),
        cmocka_unit_test(a_descriptor_behind_a_full_socket_is_passed_once),
        cmocka_unit_test(what_waits_unsent_has_a_limit),
        cmocka_unit_test(descriptors_that_wait_unsent_have_a_limit),
        cmocka_unit_test(what_is_dropped_goes_with_its_descriptors),
        cmocka_unit_test(an_oversize_frame_is_not_sent),
        cmocka_unit_test(a_flood_of_descriptors_is_refused_and_leaks_none),
        cmocka_unit_test(a_close_in_the_middle_of_a_frame_is_the_end_and_no_frame),
        cmocka_unit_test(writing_to_a_peer_that_left_is_closed_not_a_signal),
        cmocka_unit_test(an_idle_channel_keeps_no_memory_of_a_long_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
