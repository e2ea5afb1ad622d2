/*
 * client.c: HTTP/1.1 clients, each with one keep-alive connection and one request at a time. Parses
 * with llhttp.  An answer that is not whole when the connection ends, or does not come in PATIENCE,
 * is lost; bytes that come when nothing was asked are a duplicate.
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
    size_t sent;
    char body[BODY_ROOM];
    size_t body_len;
    bool done;
    unsigned number;
};

struct clients {
    int port;
    struct asks *asks;
    struct tally *tally;
    uint64_t random;
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

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct client *client = parser->data;
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

static void client_connect(struct client *client)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)client->all->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address)) {
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
    fprintf(stderr, "\nlost: %.*s: %s\n", (int)strcspn(client->ask->request, "\r"),
            client->ask->request, why);
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

static void client_send(struct client *client)
{
    const struct ask *ask = client->ask;
    while (client->sent < ask->request_len) {
        ssize_t got = send(client->fd, ask->request + client->sent, ask->request_len - client->sent,
                           MSG_NOSIGNAL);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0) {
            client_lost(client, strerror(errno));
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
    client->sent = client->body_len = 0;
    client->done = false;
    llhttp_init(&client->parser, HTTP_RESPONSE, &all->settings);
    client->parser.data = client;
    all->tally->sent++;
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
        client_lost(client, got ? strerror(errno) : "the connection ended before the answer");
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
    clients->random = seed;
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

void clients_begin(struct clients *clients, struct tally *tally)
{
    clients->tally = tally;
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
        bool unsent = client->ask && client->sent < client->ask->request_len;
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
