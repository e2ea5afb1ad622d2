/* floor_http.c: the least HTTP/1.1 that answers a POST: llhttp, the body, a fixed head. */
#include "bench/floor.h"

#include <stdio.h>
#include <stdlib.h>

#include <llhttp/llhttp.h>

enum { BODY_MAX = 1024 };

struct floor_http {
    llhttp_t parser;
    void (*request)(void *client, const uint8_t *body, size_t len);
    void *client;
    uint8_t body[BODY_MAX];
    size_t len;
};

static int on_begin(llhttp_t *parser)
{
    struct floor_http *http = parser->data;
    http->len = 0;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct floor_http *http = parser->data;
    if (len > BODY_MAX - http->len)
        return -1;
    memcpy(http->body + http->len, at, len);
    http->len += len;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct floor_http *http = parser->data;
    http->request(http->client, http->body, http->len);
    return 0;
}

struct floor_http *floor_http_new(void (*request)(void *client, const uint8_t *body, size_t len),
                                  void *client)
{
    static llhttp_settings_t settings;
    struct floor_http *http = malloc(sizeof *http);
    llhttp_settings_init(&settings);
    settings.on_message_begin = on_begin;
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    llhttp_init(&http->parser, HTTP_REQUEST, &settings);
    http->parser.data = http;
    http->request = request;
    http->client = client;
    return http;
}

void floor_http_free(struct floor_http *http)
{
    free(http);
}

void floor_http_read(struct floor_http *http, const uint8_t *bytes, size_t len)
{
    if (llhttp_execute(&http->parser, (const char *)bytes, len) != HPE_OK)
        bench_fail("the floor got a request that it does not know");
}

size_t floor_http_response(uint8_t *out, const uint8_t *body, size_t len)
{
    int head = sprintf((char *)out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);
    memcpy(out + head, body, len);
    return (size_t)head + len;
}
