/*
 * client.c: HTTP/1.1 clients, each with one keep-alive connection and one request at a time. Parses
 * with llhttp.  Who loses the connection before the answer is whole comes back with the same key,
 * and of a stream with the number of its last event; where nobody should lose it, the answer is
 * lost.  So is one that does not come in PATIENCE.  Bytes that come when nothing was asked are a
 * duplicate.
 */
#include "tests/chaos/chaos.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <llhttp/llhttp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BODY_ROOM = 64 * 1024, PATIENCE_S = 60 };

struct client {
    struct clients *all;
    int fd;
    llhttp_t parser;
    struct ask *ask; /* NULL: nothing is asked */
    hasup_ns asked;
    char head[512];
    size_t head_len, sent; /* sent: of head and body */
    uint64_t asked_count;
    struct sse sse; /* of KIND_TEXT */
    char body[BODY_ROOM];
    size_t body_len;
    bool done;
    unsigned number;
};

struct clients {
    int port;
    struct asks *asks;
    struct tally *tally;
    uint64_t seed;
    bool patient;
    size_t next[KINDS];
    llhttp_settings_t settings;
    struct client list[CLIENTS];
};

static hasup_ns now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

/* A refusal is not. */
static bool is_stream(const struct client *client)
{
    return client->ask->kind == KIND_TEXT && client->parser.status_code == 200;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct client *client = parser->data;
    if (is_stream(client))
        return sse_read(&client->sse, at, len, client->body, &client->body_len, BODY_ROOM) ? 0 : -1;
    if (client->body_len + len > sizeof client->body)
        return -1;
    memcpy(client->body + client->body_len, at, len);
    client->body_len += len;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct client *client = parser->data;
    client->done = true;
    return HPE_PAUSED;
}

/* Where hasupd is away, the connection comes later. */
static void client_connect(struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)client->all->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || (connect(client->fd, (struct sockaddr *)&address, sizeof address) &&
                           !client->all->patient)) {
        perror("connect to hasupd");
        exit(1);
    }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
}

static void client_reconnect(struct client *client)
{
    close(client->fd);
    client_connect(client);
}

static void client_lost(struct client *client, const char *why)
{
    fprintf(stderr, "\nlost: %s of client %u: %s\n", client->ask->path, client->number, why);
    client->all->tally->lost++;
    client->ask = NULL;
    client_reconnect(client);
}

/* What each client asks: most read digits, some write text, two count. */
static enum kind kind_of(const struct clients *clients, unsigned number)
{
    bool python = clients->asks->of_kind[KIND_PYTHON] > 0;
    if (number >= 14)
        return KIND_COUNTER;
    if (number >= 11)
        return KIND_TEXT;
    return python && number >= 9 ? KIND_PYTHON : KIND_DIGITS;
}

/* Asks, or asks again: the same request, with the same key. */
static void client_begin(struct client *client, bool again)
{
    const struct ask *ask = client->ask;
    struct clients *all = client->all;
    char more[96] = "";
    if (ask->kind == KIND_TEXT) {
        sse_open(&client->sse, again);
        if (client->sse.last)
            snprintf(more, sizeof more, "Last-Event-ID: %s\r\n", client->sse.last_id);
        strncat(more, "Accept: text/event-stream\r\n", sizeof more - strlen(more) - 1);
        all->tally->went_on += again && client->sse.last;
    }
    if (ask->kind != KIND_TEXT || !again)
        client->body_len = 0;
    client->head_len =
        (size_t)snprintf(client->head, sizeof client->head,
                         "POST %s HTTP/1.1\r\nHost: hasup\r\nContent-Type: application/json\r\n"
                         "Idempotency-Key: %llx-%u-%llu\r\n%sContent-Length: %zu\r\n\r\n",
                         ask->path, (unsigned long long)all->seed, client->number,
                         (unsigned long long)client->asked_count, more, ask->len);
    client->sent = 0;
    client->done = false;
    llhttp_init(&client->parser, HTTP_RESPONSE, &all->settings);
    client->parser.data = client;
    all->tally->came_back += again;
}

static void client_broken(struct client *client, const char *why)
{
    if (!client->all->patient) {
        client_lost(client, why);
        return;
    }
    client_reconnect(client);
    client_begin(client, true); /* sent once it is connected */
}

static void client_send(struct client *client)
{
    const struct ask *ask = client->ask;
    while (client->sent < client->head_len + ask->len) {
        bool head = client->sent < client->head_len;
        size_t at = head ? client->sent : client->sent - client->head_len;
        ssize_t got = send(client->fd, (head ? client->head : ask->body) + at,
                           (head ? client->head_len : ask->len) - at, MSG_NOSIGNAL);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0) {
            client_broken(client, strerror(errno));
            return;
        }
        client->sent += (size_t)got;
    }
}

static void client_ask(struct client *client)
{
    struct clients *all = client->all;
    enum kind kind = kind_of(all, client->number);
    size_t at = all->next[kind]++ % all->asks->of_kind[kind];
    client->ask = &all->asks->list[all->asks->first[kind] + at];
    client->asked = now_ns();
    client->asked_count++;
    all->tally->sent++;
    client_begin(client, false);
    client_send(client);
}

static void client_answered(struct client *client)
{
    struct clients *all = client->all;
    struct tally *tally = all->tally;
    struct ask *ask = client->ask;
    client->ask = NULL;
    if (tally->latency_count < LATENCIES_MAX)
        tally->latencies[tally->latency_count++] = now_ns() - client->asked;
    if (client->parser.status_code != 200) {
        tally->refused++;
        fprintf(stderr, "\nrefused: %d %.*s\n", client->parser.status_code, (int)client->body_len,
                client->body);
    } else if (ask->kind == KIND_TEXT && (!client->sse.ended || client->sse.failed)) {
        tally->wrong++;
        fprintf(stderr, "\na stream of client %u ended without its end\n", client->number);
    } else {
        tally->answered++;
        tally->per_kind[ask->kind]++;
        asks_judge(all->asks, ask, client->body, client->body_len, tally);
    }
    if (!llhttp_should_keep_alive(&client->parser))
        client_reconnect(client);
}

static void client_receive(struct client *client)
{
    char bytes[16 * 1024];
    ssize_t got = recv(client->fd, bytes, sizeof bytes, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (!client->ask) {
        if (got > 0)
            client->all->tally->duplicated++;
        client_reconnect(client);
        return;
    }
    if (got <= 0) {
        client_broken(client, got ? strerror(errno) : "the connection ended before the answer");
        return;
    }
    enum llhttp_errno error = llhttp_execute(&client->parser, bytes, (size_t)got);
    if (client->done) {
        if (error != HPE_PAUSED || llhttp_get_error_pos(&client->parser) != bytes + got)
            client->all->tally->duplicated++;
        client_answered(client);
    } else if (error != HPE_OK) {
        client_lost(client, llhttp_errno_name(error));
    }
}

struct clients *clients_new(int port, struct asks *asks, uint64_t seed)
{
    struct clients *clients = calloc(1, sizeof *clients);
    if (!clients)
        return NULL;
    clients->port = port;
    clients->asks = asks;
    clients->seed = seed;
    llhttp_settings_init(&clients->settings);
    clients->settings.on_body = on_body;
    clients->settings.on_message_complete = on_complete;
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients->list[i].all = clients;
        clients->list[i].number = i;
        client_connect(&clients->list[i]);
    }
    return clients;
}

void clients_free(struct clients *clients)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        close(clients->list[i].fd);
    free(clients);
}

void clients_moved(struct clients *clients, int port)
{
    clients->port = port;
}

void clients_begin(struct clients *clients, struct tally *tally, bool patient)
{
    clients->tally = tally;
    clients->patient = patient;
    *tally = (struct tally){.latencies = malloc(LATENCIES_MAX * sizeof *tally->latencies)};
    if (!tally->latencies)
        abort();
}

unsigned clients_turn(struct clients *clients, int ms, bool asking)
{
    struct pollfd pollers[CLIENTS];
    unsigned waiting = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &clients->list[i];
        if (!client->ask && asking)
            client_ask(client);
        bool unsent = client->ask && client->sent < client->head_len + client->ask->len;
        pollers[i] =
            (struct pollfd){.fd = client->fd, .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
    }
    if (poll(pollers, CLIENTS, ms) < 0 && errno != EINTR)
        perror("poll");
    hasup_ns now = now_ns();
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &clients->list[i];
        if (pollers[i].revents & POLLOUT && client->ask)
            client_send(client);
        if (pollers[i].revents & (POLLIN | POLLHUP | POLLERR))
            client_receive(client);
        if (client->ask && now - client->asked > PATIENCE_S * HASUP_S)
            client_lost(client, "no answer within a minute");
        waiting += client->ask != NULL;
    }
    return waiting;
}
