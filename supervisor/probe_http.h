/* probe_http.h: what a probe asks by HTTP, and the answer as far as it counts.  Used by probe.c. */
#ifndef HASUP_SUPERVISOR_PROBE_HTTP_H
#define HASUP_SUPERVISOR_PROBE_HTTP_H

#include "ipc/base.h"

enum { PROBE_HTTP_MOST = 64 * 1024 /* bytes of an answer that are read */ };

struct probe_answer;

enum probe_answered {
    ANSWER_MORE, /* it goes on */
    ANSWER_DONE, /* whole, or as much of it as is read: its status is known */
    ANSWER_LONG, /* its head does not end */
    ANSWER_ALIEN /* no HTTP */
};

/* The bytes of one GET to `address` (supervisor/address.h), after which the server may close;
 * malloc'ed.  NULL: no memory. */
char *probe_http_request(const char *address, const char *path);

struct probe_answer *probe_answer_new(void); /* NULL: no memory */
void probe_answer_free(struct probe_answer *answer);
enum probe_answered probe_answer_take(struct probe_answer *answer, const void *bytes, size_t len);
/* The final status, not one of 100 to 199; 0: there is none yet. */
unsigned probe_answer_status(const struct probe_answer *answer);

#endif
