/*
 * Whatever bytes come, the channel hands out sound frames or refuses; under the sanitizers it is
 * also proven to read nothing beyond them.  Conversations of the vectors are mutated by a seeded
 * generator and fed in pieces; HASUP_FUZZ_SEED and HASUP_FUZZ_ROUNDS choose others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "tests/unit/splitmix.h"
#include "tests/unit/vectors.h"

enum { ROUNDS = 100000, PIECES = 128, STREAM_MAX = 16 * 1024 };

static struct vector vector;
static uint8_t scratch[4096];
static struct piece {
    uint8_t bytes[2048];
    size_t len;
} pieces[PIECES];
static size_t piece_count;
static uint64_t seed;

static size_t below(size_t n)
{
    return (size_t)(splitmix(&seed) % n);
}

static int load_vectors(void **state)
{
    (void)state;
    FILE *file = fopen(VECTORS_FILE, "r");
    if (!file)
        fail_msg("%s cannot be read; run the tests in the top directory", VECTORS_FILE);
    while (piece_count < PIECES && vector_next(file, &vector)) {
        assert_true(vector.len <= sizeof pieces[0].bytes);
        memcpy(pieces[piece_count].bytes, vector.bytes, vector.len);
        pieces[piece_count++].len = vector.len;
    }
    fclose(file);
    return 0;
}

/* A few frames in a row, then a few changes. */
static size_t make_stream(uint8_t *bytes)
{
    size_t len = 0;
    for (size_t i = 1 + below(6); i; i--) {
        const struct piece *piece = &pieces[below(piece_count)];
        memcpy(bytes + len, piece->bytes, piece->len);
        len += piece->len;
    }
    for (size_t i = below(4); i; i--) {
        size_t at = below(len), rest = len - at;
        switch (below(5)) {
        case 0: bytes[at] = (uint8_t)splitmix(&seed); break;
        case 1: bytes[at] ^= (uint8_t)(1u << below(8)); break;
        case 2: /* the beginning of a frame, where the lengths stand */
            bytes[below(len < HASUP_FRAME_HEADER ? len : HASUP_FRAME_HEADER)] =
                (uint8_t)splitmix(&seed);
            break;
        case 3: /* a gap */
            if (rest > 8)
                memmove(bytes + at, bytes + at + 4, rest - 4), len -= 4;
            break;
        case 4: /* cut off */ len = at + 1; break;
        }
    }
    return len;
}

/* Sends some bytes, now and then with descriptors. */
static void feed(int fd, const uint8_t *bytes, size_t len)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 3)];
        struct cmsghdr align;
    } control = {0};
    int fds[3] = {0};
    size_t count = below(4) ? 0 : 1 + below(3);
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

/* A frame that was handed out is one: its lengths within the limits, its fields whole. */
static void check_frame(const struct hasup_frame *frame)
{
    static volatile uint8_t sink;
    bool in_buffer = frame->flags & HASUP_FLAG_BUFFER;
    assert_string_not_equal(hasup_frame_name(frame->type), "unknown");
    assert_true(frame->meta_len <= HASUP_META_MAX);
    assert_true(in_buffer || frame->body_len <= HASUP_INLINE_MAX);
    assert_int_equal(hasup_meta_check(frame), 0);
    assert_int_equal(frame->fd >= 0, (frame->flags & HASUP_FLAG_FD) != 0);
    for (uint32_t i = 0; i < frame->meta_len; i++)
        sink ^= frame->meta[i];
    assert_int_equal(frame->body != NULL, !in_buffer && frame->body_len > 0);
    for (uint64_t i = 0; frame->body && i < frame->body_len; i++)
        sink ^= frame->body[i];
}

/* The number of frames; -1: the channel refused. */
static int drain(struct hasup_channel *ch)
{
    int frames = 0;
    for (;;) {
        struct hasup_frame frame;
        int64_t got = hasup_channel_fill(ch, scratch, 1 + below(sizeof scratch));
        if (got == HASUP_EAGAIN || got == HASUP_ECLOSED)
            return frames;
        if (got < 0)
            return -1;
        int next;
        while ((next = hasup_channel_next(ch, &frame)) > 0) {
            frames++;
            check_frame(&frame);
            if (frame.fd >= 0)
                close(frame.fd);
        }
        if (next < 0) {
            assert_true(next == HASUP_EPROTO || next == HASUP_ETOOBIG);
            return -1;
        }
    }
}

static void whatever_comes_is_a_sound_frame_or_refused(void **state)
{
    (void)state;
    const char *rounds_text = getenv("HASUP_FUZZ_ROUNDS"), *seed_text = getenv("HASUP_FUZZ_SEED");
    long rounds = rounds_text ? atol(rounds_text) : ROUNDS;
    uint64_t first = seed_text ? strtoull(seed_text, NULL, 10) : 1;
    long frames = 0, refused = 0;
    for (long round = 0; round < rounds; round++) {
        static uint8_t bytes[STREAM_MAX];
        struct hasup_channel channel;
        int ends[2], got = 0;
        seed = first + (uint64_t)round;
        size_t len = make_stream(bytes);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        hasup_channel_init(&channel, ends[0], 0);
        for (size_t at = 0; at < len && got >= 0;) {
            size_t part = 1 + below(len - at);
            feed(ends[1], bytes + at, part);
            at += part;
            got = drain(&channel);
            frames += got > 0 ? got : 0;
        }
        refused += got < 0;
        close(ends[1]);
        if (got >= 0)
            drain(&channel);
        hasup_channel_fini(&channel);
    }
    print_message("%ld rounds from seed %llu: %ld frames, %ld refused\n", rounds,
                  (unsigned long long)first, frames, refused);
    /* Both ends of it were reached. */
    assert_true(rounds < 1000 || (frames > rounds / 4 && refused > rounds / 20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whatever_comes_is_a_sound_frame_or_refused, load_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
