/*
 * load.c: the client of every socket measurement, the same for hasup and the floors.  A closed
 * loop: each connection has `depth` messages under way; what one read brings in answers is sent
 * again in one write.  Copies a template and counts bytes, no more, so that it is not what is
 * measured.
 */
#include "bench/bench.h"

#include "ipc/message.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_ROOM = 256 * 1024, CONNECTIONS_MAX = 64 };

static const hasup_ns WARM_UP = 30 * HASUP_MS;

static uint64_t keys; /* the last one; no run uses a key of another */

struct link {
    int fd;
    hasup_ns sent;
    size_t part; /* bytes of an answer that is not whole yet, at the start of `in` */
    uint8_t *in;
};

struct run {
    const struct load *load;
    struct link links[CONNECTIONS_MAX];
    uint8_t *out;
    uint64_t next_id, answered; /* next_id: also how many were sent */
    bool draining;
    int epoll;
};

static void link_send(struct run *run, struct link *link, size_t count)
{
    const struct load *load = run->load;
    for (size_t i = 0; i < count; i++) {
        uint8_t *message = run->out + i * load->message_len;
        hasup_put64(message + load->id_at, ++run->next_id);
        if (load->key_at)
            hasup_put64(message + load->key_at, ++keys);
    }
    if (load->latency)
        link->sent = bench_now();
    socket_send(link->fd, run->out, count * load->message_len);
}

static void link_read(struct run *run, struct link *link)
{
    const struct load *load = run->load;
    ssize_t got = recv(link->fd, link->in + link->part, READ_ROOM - link->part, 0);
    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0)
        bench_fail("the server closed a connection");
    size_t have = link->part + (size_t)got, count = have / load->reply_len;
    for (size_t i = 0; load->good && i < count; i++)
        if (!load->good(link->in + i * load->reply_len))
            bench_fail("an answer is not what was asked for");
    link->part = have - count * load->reply_len;
    memmove(link->in, link->in + count * load->reply_len, link->part);
    run->answered += count;
    if (count && load->latency)
        latency_add(load->latency, bench_now() - link->sent);
    if (count && !run->draining)
        link_send(run, link, count);
}

static void run_open(struct run *run)
{
    const struct load *load = run->load;
    run->out = malloc(load->depth * load->message_len);
    run->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < load->depth; i++)
        memcpy(run->out + i * load->message_len, load->message, load->message_len);
    for (unsigned i = 0; i < load->connections; i++) {
        struct link *link = &run->links[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
        link->fd = unix_connect(load->path);
        link->in = malloc(READ_ROOM);
        epoll_ctl(run->epoll, EPOLL_CTL_ADD, link->fd, &event);
    }
    for (unsigned i = 0; i < load->connections; i++)
        link_send(run, &run->links[i], load->depth);
}

static void run_turn(struct run *run)
{
    struct epoll_event events[CONNECTIONS_MAX];
    if (run->load->connections == 1) { /* its read waits */
        link_read(run, &run->links[0]);
        return;
    }
    int count = epoll_wait(run->epoll, events, CONNECTIONS_MAX, -1);
    for (int i = 0; i < count; i++)
        link_read(run, events[i].data.ptr);
}

/* What is under way is answered first: no run leaves anything to the next. */
static void run_close(struct run *run)
{
    run->draining = true;
    while (run->answered < run->next_id)
        run_turn(run);
    for (unsigned i = 0; i < run->load->connections; i++) {
        close(run->links[i].fd);
        free(run->links[i].in);
    }
    close(run->epoll);
    free(run->out);
}

static void run_for(struct run *run, hasup_ns span)
{
    hasup_ns until = bench_now() + span;
    while (bench_now() < until)
        run_turn(run);
}

double load_run(const struct load *load)
{
    struct run run = {.load = load};
    keys = keys ? keys : (uint64_t)bench_now();
    run_open(&run);
    run_for(&run, WARM_UP);
    uint64_t before = run.answered;
    if (load->latency)
        latency_start(load->latency);
    hasup_ns from = bench_now();
    run_for(&run, load->span);
    double per_s = (double)(run.answered - before) * 1e9 / (double)(bench_now() - from);
    run_close(&run);
    return per_s;
}

size_t load_frame(uint8_t *message, const char *model, size_t body_len, enum hasup_tag number,
                  size_t *number_at)
{
    static const uint8_t zero[sizeof(uint64_t)];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, message + HASUP_FRAME_HEADER, 64);
    hasup_meta_put(&w, HASUP_TAG_MODEL, model, strlen(model));
    if (number_at) {
        hasup_meta_put(&w, number, zero, sizeof zero);
        *number_at = HASUP_FRAME_HEADER + w.used - sizeof zero;
    }
    const struct hasup_frame frame = {
        .type = HASUP_REQUEST, .meta_len = (uint32_t)w.used, .body_len = body_len};
    hasup_frame_encode(&frame, message);
    memset(message + HASUP_FRAME_HEADER + w.used, 'b', body_len);
    return HASUP_FRAME_HEADER + w.used + body_len;
}

size_t load_reply_len(const struct load *load)
{
    uint8_t head[HASUP_FRAME_HEADER];
    struct hasup_frame frame;
    int fd = unix_connect(load->path);
    socket_send(fd, load->message, load->message_len);
    if (recv(fd, head, sizeof head, MSG_WAITALL) != (ssize_t)sizeof head ||
        hasup_frame_decode(&frame, head) || !load_frame_good(head))
        bench_fail("the first answer is not what was asked for");
    close(fd);
    return HASUP_FRAME_HEADER + frame.meta_len + (size_t)frame.body_len;
}

bool load_frame_good(const uint8_t *reply)
{
    struct hasup_frame frame;
    return hasup_frame_decode(&frame, reply) == 0 && frame.type == HASUP_REPLY && frame.seq == 200;
}
