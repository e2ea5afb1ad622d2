/*
 * bodies.c: a body of 256 MiB from the client's buffer to a worker that reads a word of each page,
 * against a socket, and against a mapped memfd that is used again and again (the copy into it is
 * the only one, in hasup too).
 */
#include "bench/bench.h"
#include "bench/pages.h"

#include "client/hasup_client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MS = 20000 };
static const size_t LEN = (size_t)256 << 20;

/* A receiver that is told over `fd` and answers the sum. */
struct receiver {
    int fd, other;
    uint8_t *map;
};

static void socket_receiver(void *context)
{
    struct receiver *r = context;
    uint8_t *bytes = malloc(LEN);
    close(r->other);
    for (;;) {
        for (size_t done = 0; done < LEN;) {
            ssize_t got = recv(r->fd, bytes + done, LEN - done, 0);
            if (got <= 0)
                _exit(0);
            done += (size_t)got;
        }
        uint64_t sum = pages_sum(bytes, LEN);
        (void)!write(r->fd, &sum, sizeof sum);
    }
}

static void memory_receiver(void *context)
{
    struct receiver *r = context;
    char told;
    close(r->other);
    while (read(r->fd, &told, 1) == 1) {
        uint64_t sum = pages_sum(r->map, LEN);
        (void)!write(r->fd, &sum, sizeof sum);
    }
}

static pid_t receiver_start(struct receiver *r, void (*run)(void *))
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        bench_fail("socketpair: %s", strerror(errno));
    r->fd = pair[1];
    r->other = pair[0];
    pid_t pid = child_fork(run, r);
    close(pair[1]);
    r->fd = pair[0];
    return pid;
}

static double speed(hasup_ns from)
{
    return (double)LEN / (double)(bench_now() - from); /* bytes a nanosecond: GB/s */
}

static double floor_send(const struct receiver *r, const uint8_t *body, uint64_t expected)
{
    uint64_t sum = 0;
    hasup_ns from = bench_now();
    if (r->map) {
        memcpy(r->map, body, LEN);
        (void)!write(r->fd, "x", 1);
    } else {
        for (size_t done = 0; done < LEN;) {
            ssize_t sent = send(r->fd, body + done, LEN - done, MSG_NOSIGNAL);
            if (sent < 0)
                bench_fail("the receiver is gone");
            done += (size_t)sent;
        }
    }
    if (read(r->fd, &sum, sizeof sum) != sizeof sum || sum != expected)
        bench_fail("a body arrived damaged");
    return speed(from);
}

static double hasup_send(struct hasup_client *client, const uint8_t *body, uint64_t expected)
{
    const struct hasup_client_request request = {.model = "sum", .body = body, .len = LEN};
    struct hasup_client_answer answer;
    uint64_t id;
    hasup_ns from = bench_now();
    if (hasup_client_submit(client, &request, &id) ||
        hasup_client_wait(client, ANSWER_MS, &answer) != 1 || answer.len != sizeof expected ||
        memcmp(answer.body, &expected, sizeof expected) != 0)
        bench_fail("a body arrived damaged: %s", answer.error);
    return speed(from);
}

static void run_rounds(struct hasup_client *client, const struct receiver *through_socket,
                       const struct receiver *through_memory)
{
    struct figure own = {0}, sockets = {0}, memory = {0};
    uint8_t *body = malloc(LEN);
    for (size_t i = 0; i < LEN / 8; i++)
        hasup_put64(body + i * 8, i * 0x9E3779B97F4A7C15u);
    uint64_t sum = pages_sum(body, LEN);
    /* The first of each makes its memory; models live longer than one request. */
    hasup_send(client, body, sum);
    floor_send(through_socket, body, sum);
    floor_send(through_memory, body, sum);
    for (int i = 0; i < ROUNDS; i++) {
        figure_add(&own, hasup_send(client, body, sum));
        figure_add(&sockets, floor_send(through_socket, body, sum));
        figure_add(&memory, floor_send(through_memory, body, sum));
    }
    free(body);
    struct row row = {.what = "256 MiB body to the worker",
                      .unit = "GB/s",
                      .hasup = &own,
                      .beside = "memfd pool",
                      .other = &memory,
                      .aim = AIM_AT_LEAST,
                      .limit = 8,
                      .absolute = true};
    report_row(&row);
    row.beside = "socket";
    row.other = &sockets;
    row.aim = AIM_NONE;
    report_row(&row);
}

void part_bodies(void)
{
    struct daemon daemon;
    struct receiver through_socket = {0}, through_memory = {0};
    char models[512], error[256];
    int fd = memfd_create("bench-body", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)LEN))
        bench_fail("memfd: %s", strerror(errno));
    through_memory.map = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (through_memory.map == MAP_FAILED)
        bench_fail("mmap: %s", strerror(errno));
    pid_t a = receiver_start(&through_socket, socket_receiver);
    pid_t b = receiver_start(&through_memory, memory_receiver);
    snprintf(models, sizeof models, "  sum:\n    command: [%s/sum]\n    body_max: 512MiB\n",
             bench_tools());
    daemon_start(&daemon, models, "sum", false);
    struct hasup_client *client = hasup_client_open(daemon.socket, error);
    if (!client)
        bench_fail("%s", error);
    run_rounds(client, &through_socket, &through_memory);
    hasup_client_close(client);
    daemon_stop(&daemon);
    child_stop(a);
    child_stop(b);
    munmap(through_memory.map, LEN);
    close(fd);
}
