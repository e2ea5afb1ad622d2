/* The client library keeps its word towards whatever stands at the other end of its socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/hasup_client.h"
#include "ipc/channel.h"
#include "ipc/message.h"

enum { LARGE = 3 * 1024 * 1024 };

/* hasupd's end, driven by the test in the client's own thread. */
struct world {
    char folder[32], path[64];
    struct hasup_client *client;
    struct hasup_channel peer;
    uint8_t scratch[HASUP_CHANNEL_SCRATCH];
    int descriptors;
};

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

static int world_open(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char error[256] = "";
    assert_non_null(w);
    w->descriptors = open_descriptors();
    strcpy(w->folder, "/tmp/hasup-client.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->path, sizeof w->path, "%s/s", w->folder);
    memcpy(address.sun_path, w->path, strlen(w->path));
    int door = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(door, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(door, 1), 0);
    w->client = hasup_client_open(w->path, error);
    if (!w->client)
        fail_msg("%s", error);
    hasup_channel_init(&w->peer, accept(door, NULL, NULL), 0);
    close(door);
    *state = w;
    return 0;
}

static int world_close(void **state)
{
    struct world *w = *state;
    hasup_client_close(w->client);
    hasup_channel_fini(&w->peer);
    unlink(w->path);
    rmdir(w->folder);
    int leaked = open_descriptors() - w->descriptors;
    free(w);
    assert_int_equal(leaked, 0);
    return 0;
}

/* ---- hasupd's end ---- */

static void peer_send(struct world *w, const struct hasup_frame *frame)
{
    assert_int_equal(hasup_channel_send(&w->peer, frame), 0);
    assert_int_equal(hasup_channel_flush(&w->peer), 0);
}

static void peer_answer(struct world *w, enum hasup_frame_type type, uint64_t id, uint32_t seq,
                        const char *text)
{
    peer_send(w, &(struct hasup_frame){.type = (uint8_t)type,
                                       .id = id,
                                       .seq = seq,
                                       .body = (const uint8_t *)text,
                                       .body_len = strlen(text),
                                       .fd = -1});
}

/* The client's next frame, which it has flushed. */
static void peer_receive(struct world *w, struct hasup_frame *frame, enum hasup_frame_type type)
{
    int got;
    while ((got = hasup_channel_next(&w->peer, frame)) == 0)
        assert_true(hasup_channel_fill(&w->peer, w->scratch, sizeof w->scratch) > 0);
    assert_int_equal(got, 1);
    assert_string_equal(hasup_frame_name(frame->type), hasup_frame_name(type));
}

/* The field with this tag; its length, or -1. */
static int64_t field_of(const struct hasup_frame *frame, enum hasup_tag tag, const uint8_t **value)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, &field) > 0)
        if (field.tag == tag) {
            *value = field.value;
            return field.len;
        }
    return -1;
}

static uint64_t number_of(const struct hasup_frame *frame, enum hasup_tag tag)
{
    const uint8_t *value = NULL;
    int64_t len = field_of(frame, tag, &value);
    assert_true(len == 4 || len == 8);
    return len == 4 ? hasup_get32(value) : hasup_get64(value);
}

static void assert_text(const struct hasup_frame *frame, enum hasup_tag tag, const char *text)
{
    const uint8_t *value = NULL;
    assert_int_equal(field_of(frame, tag, &value), strlen(text));
    assert_memory_equal(value, text, strlen(text));
}

static uint64_t submit(struct world *w, const void *body, size_t len)
{
    uint64_t id = 0;
    const struct hasup_client_request request = {.model = "m", .body = body, .len = len};
    assert_int_equal(hasup_client_submit(w->client, &request, &id), 0);
    assert_int_equal(hasup_client_flush(w->client), 0);
    return id;
}

static void assert_answer(const struct hasup_client_answer *answer, uint64_t id, unsigned status,
                          const char *body)
{
    assert_true(answer->id == id);
    assert_int_equal(answer->last, status != 0);
    assert_int_equal(answer->status, status);
    assert_int_equal(answer->len, strlen(body));
    assert_memory_equal(answer->body, body, strlen(body));
}

/* ---- promises ---- */

static void a_request_says_all_that_it_was_given(void **state)
{
    struct world *w = *state;
    struct hasup_frame frame;
    uint64_t id = 0;
    const struct hasup_client_request request = {.model = "m",
                                                 .route = "infer",
                                                 .content_type = "text/plain",
                                                 .request_id = "r-1",
                                                 .body = "hello",
                                                 .len = 5,
                                                 .timeout_ms = 2500,
                                                 .priority = 2};
    assert_int_equal(hasup_client_submit(w->client, &request, &id), 0);
    assert_int_equal(hasup_client_flush(w->client), 0);
    peer_receive(w, &frame, HASUP_REQUEST);
    assert_true(frame.id == id);
    assert_int_equal(frame.body_len, 5);
    assert_memory_equal(frame.body, "hello", 5);
    assert_text(&frame, HASUP_TAG_MODEL, "m");
    assert_text(&frame, HASUP_TAG_ROUTE, "infer");
    assert_text(&frame, HASUP_TAG_CONTENT_TYPE, "text/plain");
    assert_text(&frame, HASUP_TAG_REQUEST_ID, "r-1");
    assert_int_equal(number_of(&frame, HASUP_TAG_DEADLINE), 2500 * HASUP_MS);
    assert_int_equal(number_of(&frame, HASUP_TAG_PRIORITY), 2);
}

static void answers_come_in_whatever_order_and_by_their_ids(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint64_t first = submit(w, "a", 1), second = submit(w, "b", 1);
    assert_true(first != second);
    peer_answer(w, HASUP_REPLY, second, 200, "two");
    peer_answer(w, HASUP_REPLY, first, 201, "one");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_answer(&answer, second, 200, "two");
    assert_int_equal(answer.attempts, 1);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_answer(&answer, first, 201, "one");
}

static void a_stream_comes_part_by_part(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint64_t id = submit(w, "a", 1);
    peer_answer(w, HASUP_CHUNK, id, 0, "one");
    peer_answer(w, HASUP_CHUNK, id, 1, "two");
    peer_answer(w, HASUP_REPLY, id, 200, "");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_answer(&answer, id, 0, "one");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_answer(&answer, id, 0, "two");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_true(answer.last && answer.status == 200 && answer.len == 0);
}

static void a_refusal_says_its_code_reason_and_when_to_come_again(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    struct hasup_meta_writer meta;
    uint8_t bytes[512], longer[600];
    uint64_t id = submit(w, "a", 1);
    memset(longer, 'x', sizeof longer);
    hasup_meta_start(&meta, bytes, sizeof bytes);
    hasup_meta_put(&meta, HASUP_TAG_CODE, "overloaded", 10);
    hasup_meta_put(&meta, HASUP_TAG_ERROR, "the queue is full", 17);
    hasup_meta_put32(&meta, HASUP_TAG_RETRY_AFTER, 1500);
    hasup_meta_put32(&meta, HASUP_TAG_ATTEMPTS, 3);
    hasup_meta_put(&meta, (enum hasup_tag)999, "?", 1); /* of a later version */
    struct hasup_frame frame = {.type = HASUP_REPLY,
                                .id = id,
                                .seq = 429,
                                .meta = bytes,
                                .meta_len = (uint32_t)meta.used,
                                .fd = -1};
    peer_send(w, &frame);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_int_equal(answer.status, 429);
    assert_string_equal(answer.code, "overloaded");
    assert_string_equal(answer.error, "the queue is full");
    assert_int_equal(answer.retry_after_ms, 1500);
    assert_int_equal(answer.attempts, 3);
    /* A text longer than its place is cut, not spilt. */
    uint8_t room[700];
    hasup_meta_start(&meta, room, sizeof room);
    hasup_meta_put(&meta, HASUP_TAG_CONTENT_TYPE, longer, sizeof longer);
    frame.meta = room;
    frame.meta_len = (uint32_t)meta.used;
    peer_send(w, &frame);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_int_equal(strlen(answer.content_type), sizeof answer.content_type - 1);
}

/* Takes the BUFFER and the REQUEST of a large body and checks every byte; the buffer's number. */
static uint64_t receive_large(struct world *w, const uint8_t *want, bool announced)
{
    struct hasup_frame frame;
    static uint8_t *map;
    if (announced) {
        peer_receive(w, &frame, HASUP_BUFFER);
        assert_true(frame.fd >= 0);
        assert_int_equal(fcntl(frame.fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
                         F_SEAL_SHRINK | F_SEAL_GROW);
        assert_true(number_of(&frame, HASUP_TAG_BUFFER_SIZE) >= LARGE);
        map = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, frame.fd, 0);
        assert_true(map != MAP_FAILED);
        close(frame.fd);
    }
    peer_receive(w, &frame, HASUP_REQUEST);
    assert_true(frame.flags & HASUP_FLAG_BUFFER);
    assert_int_equal(frame.body_len, LARGE);
    assert_memory_equal(map, want, LARGE);
    if (!announced)
        munmap(map, LARGE);
    return number_of(&frame, HASUP_TAG_BUFFER_ID);
}

static uint8_t *large_body(uint8_t step)
{
    uint8_t *body = malloc(LARGE);
    assert_non_null(body);
    for (size_t i = 0; i < LARGE; i++)
        body[i] = (uint8_t)(i * step);
    return body;
}

static void a_large_request_travels_in_memory_that_is_used_again_once_answered(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint8_t *first = large_body(3), *second = large_body(7);
    uint64_t id = submit(w, first, LARGE);
    uint64_t buffer = receive_large(w, first, true);
    peer_answer(w, HASUP_REPLY, id, 200, "ok");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    submit(w, second, LARGE);
    assert_true(receive_large(w, second, false) == buffer);
    free(first);
    free(second);
}

static void a_cancelled_large_request_gives_its_memory_up(void **state)
{
    struct world *w = *state;
    struct hasup_frame frame;
    uint8_t *body = large_body(3);
    uint64_t id = submit(w, body, LARGE);
    uint64_t buffer = receive_large(w, body, true);
    assert_int_equal(hasup_client_cancel(w->client, id), 0);
    submit(w, body, LARGE);
    peer_receive(w, &frame, HASUP_CANCEL);
    assert_true(frame.id == id);
    peer_receive(w, &frame, HASUP_BUFFER_GONE);
    assert_true(number_of(&frame, HASUP_TAG_BUFFER_ID) == buffer);
    assert_true(receive_large(w, body, true) != buffer);
    free(body);
}

static void announce(struct world *w, uint32_t number, uint64_t size, int fd)
{
    struct hasup_meta_writer meta;
    uint8_t bytes[64];
    hasup_meta_start(&meta, bytes, sizeof bytes);
    hasup_meta_put32(&meta, HASUP_TAG_BUFFER_ID, number);
    hasup_meta_put64(&meta, HASUP_TAG_BUFFER_SIZE, size);
    peer_send(w, &(struct hasup_frame){.type = HASUP_BUFFER,
                                       .flags = fd >= 0 ? HASUP_FLAG_FD : 0,
                                       .meta = bytes,
                                       .meta_len = (uint32_t)meta.used,
                                       .fd = fd});
}

static void answer_in_buffer(struct world *w, uint64_t id, uint32_t number, uint64_t offset,
                             uint64_t len)
{
    struct hasup_meta_writer meta;
    uint8_t bytes[64];
    hasup_meta_start(&meta, bytes, sizeof bytes);
    hasup_meta_put32(&meta, HASUP_TAG_BUFFER_ID, number);
    hasup_meta_put64(&meta, HASUP_TAG_BUFFER_OFFSET, offset);
    peer_send(w, &(struct hasup_frame){.type = HASUP_REPLY,
                                       .flags = HASUP_FLAG_BUFFER,
                                       .id = id,
                                       .seq = 200,
                                       .meta = bytes,
                                       .meta_len = (uint32_t)meta.used,
                                       .body_len = len,
                                       .fd = -1});
}

static void a_large_answer_is_read_in_place_and_then_released(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    struct hasup_frame frame;
    uint8_t *want = large_body(11);
    uint64_t id = submit(w, "a", 1);
    peer_receive(w, &frame, HASUP_REQUEST);
    int memory = memfd_create("answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(write(memory, want, LARGE), LARGE);
    announce(w, 5, LARGE, memory);
    close(memory);
    answer_in_buffer(w, id, 5, 100, LARGE - 100);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_int_equal(answer.len, LARGE - 100);
    assert_memory_equal(answer.body, want + 100, LARGE - 100);
    assert_int_equal(hasup_client_wait(w->client, 0, &answer), 0);
    peer_receive(w, &frame, HASUP_RELEASE);
    assert_int_equal(number_of(&frame, HASUP_TAG_BUFFER_ID), 5);
    free(want);
}

static void an_answer_outside_its_buffer_is_refused(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint64_t id = submit(w, "a", 1);
    int memory = memfd_create("answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(memory, 4096), 0);
    announce(w, 5, 4096, memory);
    close(memory);
    answer_in_buffer(w, id, 5, 4000, 97);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_EPROTO);
}

static void an_answer_in_an_unknown_buffer_is_refused(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    answer_in_buffer(w, submit(w, "a", 1), 5, 0, 10);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_EPROTO);
}

static void a_buffer_smaller_than_it_says_is_refused(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    int memory = memfd_create("answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(memory, 4096), 0);
    announce(w, 5, 8192, memory);
    close(memory);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_EPROTO);
}

static void a_wait_ends_at_its_limit_and_the_answer_can_come_later(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint64_t id = submit(w, "a", 1);
    assert_int_equal(hasup_client_wait(w->client, 0, &answer), 0);
    assert_int_equal(hasup_client_wait(w->client, 20, &answer), 0);
    peer_answer(w, HASUP_REPLY, id, 200, "late");
    assert_int_equal(hasup_client_wait(w->client, 20000, &answer), 1);
    assert_answer(&answer, id, 200, "late");
}

static void what_came_before_the_end_is_handed_out_first(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint64_t id = submit(w, "a", 1);
    peer_answer(w, HASUP_REPLY, id, 200, "last words");
    hasup_channel_fini(&w->peer);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), 1);
    assert_answer(&answer, id, 200, "last words");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_ECLOSED);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_ECLOSED);
}

static void a_server_that_goes_in_the_middle_of_a_frame_is_gone(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    uint8_t header[HASUP_FRAME_HEADER];
    hasup_frame_encode(&(struct hasup_frame){.type = HASUP_REPLY, .id = 1, .body_len = 100},
                       header);
    assert_int_equal(write(w->peer.fd, header, sizeof header), sizeof header);
    hasup_channel_fini(&w->peer);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_ECLOSED);
}

static void garbage_is_refused(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    static const char text[] = "this is no frame, and it is long enough to be one";
    assert_int_equal(write(w->peer.fd, text, sizeof text), sizeof text);
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_EPROTO);
}

static void a_frame_that_is_not_for_a_client_is_refused(void **state)
{
    struct world *w = *state;
    struct hasup_client_answer answer;
    peer_answer(w, HASUP_WELCOME, 0, 0, "");
    assert_int_equal(hasup_client_wait(w->client, -1, &answer), HASUP_EPROTO);
}

static void a_socket_that_is_not_there_says_which_and_what_to_do(void **state)
{
    char error[256] = "";
    (void)state;
    assert_null(hasup_client_open("/nonexistent/hasup.sock", error));
    assert_non_null(strstr(error, "/nonexistent/hasup.sock"));
    assert_non_null(strstr(error, "HASUP_SOCKET"));
    char path[200];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_null(hasup_client_open(path, error));
    assert_non_null(strstr(error, "too long"));
}

#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_open, world_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(a_request_says_all_that_it_was_given),
        IN_WORLD(answers_come_in_whatever_order_and_by_their_ids),
        IN_WORLD(a_stream_comes_part_by_part),
        IN_WORLD(a_refusal_says_its_code_reason_and_when_to_come_again),
        IN_WORLD(a_large_request_travels_in_memory_that_is_used_again_once_answered),
        IN_WORLD(a_cancelled_large_request_gives_its_memory_up),
        IN_WORLD(a_large_answer_is_read_in_place_and_then_released),
        IN_WORLD(an_answer_outside_its_buffer_is_refused),
        IN_WORLD(an_answer_in_an_unknown_buffer_is_refused),
        IN_WORLD(a_buffer_smaller_than_it_says_is_refused),
        IN_WORLD(a_wait_ends_at_its_limit_and_the_answer_can_come_later),
        IN_WORLD(what_came_before_the_end_is_handed_out_first),
        IN_WORLD(a_server_that_goes_in_the_middle_of_a_frame_is_gone),
        IN_WORLD(garbage_is_refused),
        IN_WORLD(a_frame_that_is_not_for_a_client_is_refused),
        cmocka_unit_test(a_socket_that_is_not_there_says_which_and_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
