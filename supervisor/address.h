/*
 * address.h: a text such as 127.0.0.1:8080 as what a socket listens at or connects to.  Names are not
 * looked up: that could take long, hasupd waits for nobody, and what is listened on must not depend on
 * a name server.
 */
#ifndef HASUP_SUPERVISOR_ADDRESS_H
#define HASUP_SUPERVISOR_ADDRESS_H

#include "ipc/base.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { ADDRESS_PLACES = 2 /* of localhost: 127.0.0.1, and ::1 */ };

struct address {
    unsigned count; /* of places, to be tried in this order */
    struct {
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
            struct sockaddr_un local;
        } at;
        socklen_t len;
    } places[ADDRESS_PLACES];
};

enum address_fault {
    ADDRESS_FINE,
    ADDRESS_NO_PORT, /* there is none, or it is no number of 1 to 65535 */
    ADDRESS_NAME,    /* a host's name, or no address at all */
    ADDRESS_PATH     /* a socket's path that is not absolute, or too long */
};

#define ADDRESS_LOCAL "unix:" /* then the absolute path of a Unix socket */

/* HOST:PORT or unix:PATH, where HOST is an IPv4 address, an IPv6 address in brackets, or localhost.
 */
enum address_fault address_read(const char *text, struct address *address) HASUP_NODISCARD;
/* What is listened at: the first place, where port 0 is any that is free.  No unix:PATH. */
enum address_fault address_read_listen(const char *text, struct address *address) HASUP_NODISCARD;
/* Whether nobody beyond this machine reaches the first place. */
bool address_is_loopback(const struct address *address);
/* What is wrong with it, as the end of a sentence; of what is to be listened at. */
const char *address_fault_text(enum address_fault fault);
const char *address_listen_fault_text(enum address_fault fault);

#endif
