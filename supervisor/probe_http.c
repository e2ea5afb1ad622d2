/*
 * probe_http.c: a GET, and its answer read by llhttp until it ends or is long enough.  Only the
 * status counts; the rest is read so that no server complains about a client that left.
 * Failure modes: a head without end is as long as PROBE_HTTP_MOST, and what is no HTTP is said so.
 */
#include "supervisor/probe_http.h"

#include "supervisor/address.h"

#include <stdio.h>
#include <stdlib.h>

#include <llhttp/llhttp.h>

/* Below FINAL a status is not the answer, which comes after; but for SWITCHED, which is the last.
 */
enum { SWITCHED = 101, FINAL = 200 };

struct probe_answer {
    llhttp_t parser;
    unsigned status;
    size_t len;
};

static int on_headers_complete(llhttp_t *parser)
{
    struct probe_answer *answer = parser->data;
    if (parser->status_code >= FINAL || parser->status_code == SWITCHED)
        answer->status = parser->status_code;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    const struct probe_answer *answer = parser->data;
    return answer->status ? HPE_PAUSED : 0;
}

static const llhttp_settings_t ANSWER = {.on_headers_complete = on_headers_complete,
                                         .on_message_complete = on_message_complete};

char *probe_http_request(const char *address, const char *path)
{
    char *request;
    const bool local = strncmp(address, ADDRESS_LOCAL, strlen(ADDRESS_LOCAL)) == 0;
    int len = asprintf(&request,
                       "GET %s HTTP/1.1\r\n"
                       "Host: %s\r\n"
                       "User-Agent: hasupd/" HASUP_VERSION "\r\n"
                       "Accept: */*\r\n"
                       "Connection: close\r\n"
                       "\r\n",
                       path, local ? "localhost" : address);
    return len < 0 ? NULL : request;
}

struct probe_answer *probe_answer_new(void)
{
    struct probe_answer *answer = calloc(1, sizeof *answer);
    if (!answer)
        return NULL;
    llhttp_init(&answer->parser, HTTP_RESPONSE, &ANSWER);
    answer->parser.data = answer;
    return answer;
}

void probe_answer_free(struct probe_answer *answer)
{
    free(answer);
}

enum probe_answered probe_answer_take(struct probe_answer *answer, const void *bytes, size_t len)
{
    enum llhttp_errno error = llhttp_execute(&answer->parser, bytes, len);
    answer->len += len;
    if (answer->status && (error != HPE_OK || answer->len >= PROBE_HTTP_MOST))
        return ANSWER_DONE;
    if (error != HPE_OK)
        return ANSWER_ALIEN;
    return answer->len >= PROBE_HTTP_MOST ? ANSWER_LONG : ANSWER_MORE;
}

unsigned probe_answer_status(const struct probe_answer *answer)
{
    return answer->status;
}
