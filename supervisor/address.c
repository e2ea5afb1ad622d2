/*
 * address.c: texts as addresses.  Pure; must not ask anybody what a name means.
 * Failure modes: a text that is none says what it lacks.
 */
#include "supervisor/address.h"

#include <arpa/inet.h>
#include <stdio.h>

enum { HOST_MAX = 64 };

static bool read_port(const char *text, unsigned least, in_port_t *port)
{
    unsigned value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits])
        return false;
    for (; *text; text++)
        value = value * 10 + (unsigned)(*text - '0');
    *port = htons((uint16_t)value);
    return value >= least && value <= UINT16_MAX;
}

static bool add_v4(struct address *address, const char *host, in_port_t port)
{
    struct sockaddr_in *at = &address->places[address->count].at.v4;
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port};
    address->places[address->count].len = sizeof *at;
    if (inet_pton(AF_INET, host, &at->sin_addr) != 1)
        return false;
    address->count++;
    return true;
}

static bool add_v6(struct address *address, const char *host, in_port_t port)
{
    struct sockaddr_in6 *at = &address->places[address->count].at.v6;
    *at = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = port};
    address->places[address->count].len = sizeof *at;
    if (inet_pton(AF_INET6, host, &at->sin6_addr) != 1)
        return false;
    address->count++;
    return true;
}

static enum address_fault add_local(struct address *address, const char *path)
{
    struct sockaddr_un *at = &address->places[0].at.local;
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (path[0] != '/' || len >= sizeof at->sun_path)
        return ADDRESS_PATH;
    memcpy(at->sun_path, path, len);
    address->places[0].len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    address->count = 1;
    return ADDRESS_FINE;
}

static enum address_fault read_tcp(const char *text, unsigned least, struct address *address)
{
    char host[HOST_MAX];
    in_port_t port;
    const char *colon = strrchr(text, ':');
    address->count = 0;
    if (!colon || !read_port(colon + 1, least, &port))
        return ADDRESS_NO_PORT;
    size_t len = (size_t)(colon - text);
    bool bracket = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (len >= sizeof host)
        return ADDRESS_NAME;
    snprintf(host, sizeof host, "%.*s", (int)(bracket ? len - 2 : len), text + bracket);
    bool fine = strcmp(host, "localhost") == 0
                    ? add_v4(address, "127.0.0.1", port) && add_v6(address, "::1", port)
                    : (bracket ? add_v6 : add_v4)(address, host, port);
    return fine ? ADDRESS_FINE : ADDRESS_NAME;
}

enum address_fault address_read(const char *text, struct address *address)
{
    if (strncmp(text, ADDRESS_LOCAL, strlen(ADDRESS_LOCAL)) == 0)
        return add_local(address, text + strlen(ADDRESS_LOCAL));
    return read_tcp(text, 1, address);
}

enum address_fault address_read_listen(const char *text, struct address *address)
{
    return read_tcp(text, 0, address);
}

bool address_is_loopback(const struct address *address)
{
    if (address->places[0].at.any.sa_family == AF_INET)
        return ntohl(address->places[0].at.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&address->places[0].at.v6.sin6_addr);
}

const char *address_fault_text(enum address_fault fault)
{
    switch (fault) {
    case ADDRESS_FINE: return "";
    case ADDRESS_NO_PORT: return "there is no port of 1 to 65535";
    case ADDRESS_NAME:
        return "names are not looked up: write an IPv4 address, [an IPv6 address] or localhost";
    case ADDRESS_PATH: return "a socket's path is absolute and has at most 107 bytes";
    }
    return "";
}

const char *address_listen_fault_text(enum address_fault fault)
{
    return fault == ADDRESS_NO_PORT ? "there is no port of 1 to 65535, or 0 for any that is free"
                                    : address_fault_text(fault);
}
