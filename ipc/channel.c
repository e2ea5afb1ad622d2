/*
 * channel.c: frames in and out of a non-blocking socket.  Owns the socket, the bytes of a frame
 * that is not whole yet, the bytes that wait to leave, and received descriptors until a frame takes
 * them.
 *
 * A descriptor arrives with the read that holds the byte it was sent with, and the kernel never
 * merges bytes of two sends that both carry descriptors into one read; so the n-th frame with
 * HASUP_FLAG_FD takes the n-th descriptor.
 */
#include "ipc/channel.h"

#include "ipc/message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OUT_MAX_DEFAULT = 64 << 20, OUT_ROOM_MIN = 4096, OUT_ROOM_KEPT = 64 * 1024 };

void hasup_channel_init(struct hasup_channel *ch, int fd, size_t out_max)
{
    int flags = fcntl(fd, F_GETFL);
    *ch = (struct hasup_channel){.fd = fd};
    ch->out.max = out_max ? out_max : OUT_MAX_DEFAULT;
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void hasup_channel_drop(struct hasup_channel *ch)
{
    for (unsigned i = 0; i < ch->out.fd_count; i++)
        close(ch->out.fds[i].fd);
    ch->out.fd_count = 0;
    ch->out.start = ch->out.end = 0;
}

void hasup_channel_fini(struct hasup_channel *ch)
{
    for (unsigned i = 0; i < ch->in.fd_count; i++)
        close(ch->in.fds[i]);
    hasup_channel_drop(ch);
    free(ch->in.kept);
    free(ch->out.bytes);
    if (ch->fd >= 0)
        close(ch->fd);
    *ch = (struct hasup_channel){.fd = -1};
}

/* ---- in ---- */

/* Keeps the descriptors of one read; HASUP_EPROTO where they are more than frames can take. */
static int take_descriptors(struct hasup_channel *ch, struct msghdr *message)
{
    int error = message->msg_flags & MSG_CTRUNC ? HASUP_EPROTO : 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (ch->in.fd_count < HASUP_CHANNEL_FDS) {
                ch->in.fds[ch->in.fd_count++] = fd;
            } else {
                close(fd);
                error = HASUP_EPROTO;
            }
        }
    }
    return error;
}

static int64_t channel_read(struct hasup_channel *ch, uint8_t *bytes, size_t room)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * HASUP_CHANNEL_FDS)];
        struct cmsghdr align;
    } control;
    struct iovec part = {bytes, room};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(ch->fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && errno == EAGAIN)
        return HASUP_EAGAIN;
    if (got < 0)
        return errno == ECONNRESET || errno == EPIPE ? HASUP_ECLOSED : HASUP_ESYS;
    if (message.msg_controllen) {
        int error = take_descriptors(ch, &message);
        if (error)
            return error;
    }
    return got ? got : HASUP_ECLOSED;
}

/* How many bytes the unfinished frame has in all, as far as its beginning says; at least its
 * header. */
static size_t frame_size(const struct hasup_channel *ch)
{
    struct hasup_frame frame;
    if (ch->in.kept_len < HASUP_FRAME_HEADER || hasup_frame_decode(&frame, ch->in.kept))
        return HASUP_FRAME_HEADER;
    uint64_t inline_len = frame.flags & HASUP_FLAG_BUFFER ? 0 : frame.body_len;
    return HASUP_FRAME_HEADER + frame.meta_len + (size_t)inline_len;
}

static int kept_reserve(struct hasup_channel *ch, size_t room)
{
    if (room <= ch->in.kept_room)
        return 0;
    uint8_t *bytes = realloc(ch->in.kept, room);
    if (!bytes)
        return HASUP_ENOMEM;
    ch->in.kept = bytes;
    ch->in.kept_room = room;
    return 0;
}

int64_t hasup_channel_fill(struct hasup_channel *ch, uint8_t *scratch, size_t room)
{
    if (!ch->in.kept_len) {
        int64_t got = channel_read(ch, scratch, room);
        ch->in.at = scratch;
        ch->in.end = got > 0 ? scratch + got : scratch;
        return got;
    }
    /* A frame has begun: it is completed where it stands, and no byte more is read into it. */
    size_t want = frame_size(ch) - ch->in.kept_len;
    if (want > room)
        want = room;
    if (kept_reserve(ch, ch->in.kept_len + want))
        return HASUP_ENOMEM;
    int64_t got = channel_read(ch, ch->in.kept + ch->in.kept_len, want);
    if (got > 0)
        ch->in.kept_len += (size_t)got;
    ch->in.at = ch->in.kept;
    ch->in.end = ch->in.kept + ch->in.kept_len;
    return got;
}

/* The rest of the lent memory goes into memory of the channel's own. */
static int keep_rest(struct hasup_channel *ch)
{
    size_t rest = (size_t)(ch->in.end - ch->in.at);
    if (ch->in.at == ch->in.kept && rest)
        return 0; /* it stands there already */
    if (!rest) {
        if (ch->in.kept_room > OUT_ROOM_KEPT) {
            free(ch->in.kept);
            ch->in.kept = NULL;
            ch->in.kept_room = 0;
        }
        ch->in.kept_len = 0;
    } else {
        if (kept_reserve(ch, rest < HASUP_FRAME_HEADER ? HASUP_FRAME_HEADER : rest))
            return HASUP_ENOMEM;
        memcpy(ch->in.kept, ch->in.at, rest);
        ch->in.kept_len = rest;
    }
    ch->in.at = ch->in.end = NULL;
    return 0;
}

int hasup_channel_next(struct hasup_channel *ch, struct hasup_frame *frame)
{
    size_t have = (size_t)(ch->in.end - ch->in.at);
    frame->fd = -1;
    if (have < HASUP_FRAME_HEADER)
        return keep_rest(ch);
    int error = hasup_frame_decode(frame, ch->in.at);
    if (error)
        return error;
    frame->fd = -1;
    size_t body = frame->flags & HASUP_FLAG_BUFFER ? 0 : (size_t)frame->body_len;
    size_t whole = HASUP_FRAME_HEADER + frame->meta_len + body;
    if (have < whole)
        return keep_rest(ch);
    frame->meta = ch->in.at + HASUP_FRAME_HEADER;
    frame->body = body ? frame->meta + frame->meta_len : NULL;
    if ((error = hasup_meta_check(frame)))
        return error;
    ch->in.at += whole;
    if (frame->flags & HASUP_FLAG_FD) {
        if (!ch->in.fd_count)
            return HASUP_EPROTO;
        frame->fd = ch->in.fds[0];
        memmove(ch->in.fds, ch->in.fds + 1, --ch->in.fd_count * sizeof ch->in.fds[0]);
    }
    return 1;
}

/* ---- out ---- */

static int out_reserve(struct hasup_channel *ch, size_t len)
{
    size_t unsent = ch->out.end - ch->out.start;
    if (unsent + len > ch->out.max)
        return HASUP_EFULL;
    if (ch->out.room - ch->out.end >= len)
        return 0;
    size_t room = ch->out.room ? ch->out.room : OUT_ROOM_MIN;
    while (room < unsent + len)
        room *= 2;
    if (room > ch->out.room) {
        uint8_t *bytes = malloc(room);
        if (!bytes)
            return HASUP_ENOMEM;
        if (unsent)
            memcpy(bytes, ch->out.bytes + ch->out.start, unsent);
        free(ch->out.bytes);
        ch->out.bytes = bytes;
        ch->out.room = room;
    } else {
        memmove(ch->out.bytes, ch->out.bytes + ch->out.start, unsent);
    }
    for (unsigned i = 0; i < ch->out.fd_count; i++)
        ch->out.fds[i].at -= ch->out.start;
    ch->out.start = 0;
    ch->out.end = unsent;
    return 0;
}

int hasup_channel_send(struct hasup_channel *ch, const struct hasup_frame *frame)
{
    size_t body = frame->flags & HASUP_FLAG_BUFFER ? 0 : (size_t)frame->body_len;
    bool passes = frame->flags & HASUP_FLAG_FD;
    if (body > HASUP_INLINE_MAX || frame->meta_len > HASUP_META_MAX)
        return HASUP_ETOOBIG;
    if (passes && ch->out.fd_count == HASUP_CHANNEL_FDS)
        return HASUP_EFULL;
    int error = out_reserve(ch, HASUP_FRAME_HEADER + frame->meta_len + body);
    if (error)
        return error;
    if (passes) {
        int fd = fcntl(frame->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
            return HASUP_ESYS;
        ch->out.fds[ch->out.fd_count].fd = fd;
        ch->out.fds[ch->out.fd_count++].at = ch->out.end;
    }
    uint8_t *at = ch->out.bytes + ch->out.end;
    hasup_frame_encode(frame, at);
    if (frame->meta_len)
        memcpy(at + HASUP_FRAME_HEADER, frame->meta, frame->meta_len);
    if (body)
        memcpy(at + HASUP_FRAME_HEADER + frame->meta_len, frame->body, body);
    ch->out.end += HASUP_FRAME_HEADER + frame->meta_len + body;
    return 0;
}

/* One write: up to the next descriptor's byte, or from that byte with its descriptor. */
static ssize_t channel_write(struct hasup_channel *ch)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    size_t end = ch->out.end;
    bool passes = ch->out.fd_count && ch->out.fds[0].at == ch->out.start;
    unsigned next = passes ? 1 : 0;
    if (ch->out.fd_count > next)
        end = ch->out.fds[next].at;
    if (!passes) /* nearly always; cheaper for the kernel than a message */
        return send(ch->fd, ch->out.bytes + ch->out.start, end - ch->out.start, MSG_NOSIGNAL);
    struct iovec part = {ch->out.bytes + ch->out.start, end - ch->out.start};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &ch->out.fds[0].fd, sizeof(int));
    ssize_t sent = sendmsg(ch->fd, &message, MSG_NOSIGNAL);
    if (sent > 0) {
        close(ch->out.fds[0].fd);
        memmove(ch->out.fds, ch->out.fds + 1, --ch->out.fd_count * sizeof ch->out.fds[0]);
    }
    return sent;
}

int hasup_channel_flush(struct hasup_channel *ch)
{
    while (ch->out.start < ch->out.end) {
        ssize_t sent = channel_write(ch);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return HASUP_EAGAIN;
        if (sent < 0)
            return errno == EPIPE || errno == ECONNRESET ? HASUP_ECLOSED : HASUP_ESYS;
        ch->out.start += (size_t)sent;
    }
    ch->out.start = ch->out.end = 0;
    if (ch->out.room > OUT_ROOM_KEPT) {
        free(ch->out.bytes);
        ch->out.bytes = NULL;
        ch->out.room = 0;
    }
    return 0;
}
