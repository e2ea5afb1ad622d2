/*
 * config_probe.c: {exec | tcp | http, interval, timeout, failures} as a struct config_probe.  Looks
 * up no host and tries no port.  A text may hold what config_template.h fills in: it is checked
 * as the first slot's.
 * Failure mode: a value that means nothing is an error with its place.
 */
#include "supervisor/config_probe.h"

#include "supervisor/address.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATUS_MIN = 100, STATUS_MAX = 599, PATH_MOST = 1024 };

static const char URL[] = "http://";

/* As it is written, before one knows what it means together. */
struct written {
    char **exec;
    char *tcp, *url;
    char *host, *port, *socket, *path; /* of http */
    char *status;
    hasup_ns interval, timeout;
    uint32_t failures;
};

#define WRITTEN(path_, type_, member_, ...)                                                        \
    {                                                                                              \
        .path = path_, .type = type_, .offset = offsetof(struct written, member_), __VA_ARGS__     \
    }

/* `http` is a text or a map.  With the text it is all but the last, with the map all but the first:
 * a table knows a key in one way. */
static const struct config_key keys[] = {
    WRITTEN("http", CONFIG_TEXT, url, .fallback = NULL),
    WRITTEN("exec", CONFIG_COMMAND, exec, .fallback = NULL),
    WRITTEN("tcp", CONFIG_TEXT, tcp, .fallback = NULL),
    WRITTEN("status", CONFIG_TEXT, status, .fallback = NULL),
    WRITTEN("interval", CONFIG_DURATION, interval, .fallback = "1s", .min = HASUP_MS, .max = DAY),
    WRITTEN("timeout", CONFIG_DURATION, timeout, .fallback = "1s", .min = HASUP_MS, .max = DAY),
    WRITTEN("failures", CONFIG_COUNT, failures, .fallback = "3", .min = 1, .max = 1u << 20),
    WRITTEN("http.host", CONFIG_TEXT, host, .fallback = NULL),
    WRITTEN("http.port", CONFIG_TEXT, port, .fallback = NULL),
    WRITTEN("http.socket", CONFIG_FILE_PATH, socket, .fallback = NULL),
    WRITTEN("http.path", CONFIG_TEXT, path, .fallback = NULL),
};
enum { HTTP_KEYS = 4 };

/* Malloc'ed; NULL, and said so: no memory. */
HASUP_PRINTF(2, 3)
static char *text_of(const struct config_section *section, const char *format, ...)
{
    char *text;
    va_list args;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    if (len >= 0)
        return text;
    config_complain(section, "", "out of memory");
    return NULL;
}

/* ---- addresses ---- */

/* Takes `address`, which is NULL where there was no memory. */
static void take_address(const struct config_section *section, const char *key,
                         struct probe_spec *spec, char *address)
{
    const struct template_values values = {.model = "model"};
    char *filled = address ? template_fill(address, &values) : NULL;
    struct address ignored;
    enum address_fault fault = filled ? address_read(filled, &ignored) : ADDRESS_FINE;
    free(filled);
    spec->address = address;
    if (fault)
        config_complain(section, key, "\"%.80s\": %s", address, address_fault_text(fault));
}

static void take_tcp(const struct config_section *section, struct probe_spec *spec, const char *tcp)
{
    spec->kind = PROBE_TCP;
    take_address(section, "tcp", spec,
                 text_of(section, "%s%s", strchr(tcp, ':') ? "" : "localhost:", tcp));
}

/* Takes `path`.  It goes into the head of a request as it is. */
static void take_path(const struct config_section *section, const char *key,
                      struct probe_spec *spec, char *path)
{
    bool fine = path && path[0] == '/' && strlen(path) <= PATH_MOST;
    for (const char *at = path; fine && *at; at++)
        fine = *at > ' ' && *at < 0x7f && *at != '#';
    spec->path = path;
    if (path && !fine)
        config_complain(
            section, key,
            "expected a path such as /healthz, of at most %d visible ASCII letters without "
            "#; found \"%.80s\"",
            PATH_MOST, path);
}

static void take_url(const struct config_section *section, struct probe_spec *spec, const char *url)
{
    spec->kind = PROBE_HTTP;
    if (strncmp(url, "https:", 6) == 0) {
        config_complain(section, "http",
                        "https is not spoken here: ask a port that serves http, or let exec ask");
        return;
    }
    if (strncmp(url, URL, strlen(URL)) != 0) {
        config_complain(
            section, "http",
            "expected a URL such as http://127.0.0.1:8080/healthz, or keys such as {port: "
            "8080, path: /healthz}; found \"%.80s\"",
            url);
        return;
    }
    const char *host = url + strlen(URL);
    size_t len = strcspn(host, "/?#");
    const char *after = memchr(host, ']', len) ? strchr(host, ']') : host;
    bool port = memchr(after, ':', (size_t)(host + len - after)) != NULL;
    take_address(section, "http", spec,
                 text_of(section, "%.*s%s", (int)(len < 256 ? len : 256), host, port ? "" : ":80"));
    take_path(section, "http", spec,
              text_of(section, "%s%s", host[len] == '/' ? "" : "/", host + len));
}

static void take_http(const struct config_section *section, struct probe_spec *spec,
                      const struct written *w)
{
    spec->kind = PROBE_HTTP;
    if (!w->socket == !w->port)
        config_complain(section, "http", "expected a port, or a socket: one of them");
    else if (w->socket && w->host)
        config_complain(section, "http.host", "a socket has no host");
    else if (w->socket)
        take_address(section, "http.socket", spec, text_of(section, ADDRESS_LOCAL "%s", w->socket));
    else
        take_address(
            section, "http.port", spec,
            text_of(section,
                    w->host && strchr(w->host, ':') && w->host[0] != '[' ? "[%s]:%s" : "%s:%s",
                    w->host ? w->host : "localhost", w->port));
    take_path(section, "http.path", spec, text_of(section, "%s", w->path ? w->path : "/"));
}

/* ---- the whole ---- */

/* "200-399", or one alone. */
static void read_status(const struct config_section *section, struct probe_spec *spec,
                        const char *status)
{
    unsigned low, high;
    char rest;
    int got = sscanf(status, "%3u-%3u%c", &low, &high, &rest);
    bool one = strlen(status) == 3 && got == 1;
    if (one)
        high = low;
    if ((!one && (got != 2 || strlen(status) != 7)) || low < STATUS_MIN || high > STATUS_MAX ||
        low > high) {
        config_complain(section, "status",
                        "expected 200, or a range such as 200-399; found \"%.40s\"", status);
        return;
    }
    spec->status_min = low;
    spec->status_max = high;
}

static void check_text(const struct config_section *section, const char *key, const char *text)
{
    char error[TEMPLATE_ERROR];
    if (text && !template_check(text, error))
        config_complain(section, key, "%s", error);
}

static void check_texts(const struct config_section *section, const struct probe_spec *spec)
{
    const char *key = spec->kind == PROBE_TCP ? "tcp" : "http";
    for (char **word = spec->exec; word && *word; word++)
        check_text(section, "exec", *word);
    check_text(section, key, spec->address);
    check_text(section, key, spec->path);
}

static void take(const struct config_section *section, struct probe_spec *spec, struct written *w)
{
    const struct node *http = config_tree_find(section->node, "http");
    const bool exec = config_tree_find(section->node, "exec"),
               tcp = config_tree_find(section->node, "tcp");
    if (exec + tcp + (http != NULL) != 1) {
        config_complain(section, "", "expected one of exec:, tcp:, http:; found %s",
                        exec || tcp || http ? "more than one" : "none");
        return;
    }
    if (w->exec) {
        spec->kind = PROBE_EXEC;
        spec->exec = w->exec;
        w->exec = NULL;
    } else if (w->tcp) {
        take_tcp(section, spec, w->tcp);
    } else if (w->url) {
        take_url(section, spec, w->url);
    } else if (http && http->kind == NODE_MAP) {
        take_http(section, spec, w);
    } /* else its value was wrong, and it is said */
    if (w->status && !http)
        config_complain(section, "status", "only an http probe has one");
    else if (w->status)
        read_status(section, spec, w->status);
}

void config_probe_read(struct config_reader *reader, const struct node *node, const char *path,
                       struct config_probe *probe)
{
    const struct config_section *section = &(struct config_section){reader->errors, node, path};
    struct written w = {.exec = NULL};
    if (!node || config_tree_is_nothing(node))
        return;
    if (node->kind != NODE_MAP) {
        config_complain(section, "", "expected keys such as tcp: or http:; found %s",
                        node->kind == NODE_LIST ? "a list" : "text");
        return;
    }
    const struct node *http = config_tree_find(node, "http");
    const bool map = http && http->kind == NODE_MAP;
    if (!config_defaults(keys, HASUP_LEN(keys), &w)) {
        config_complain(section, "", "out of memory");
        return;
    }
    config_read(reader, keys + map, HASUP_LEN(keys) - (map ? 1 : HTTP_KEYS), node, path, &w);
    probe->spec.status_min = 200;
    probe->spec.status_max = 399;
    probe->spec.timeout = w.timeout;
    probe->interval = w.interval;
    probe->failures = w.failures;
    take(section, &probe->spec, &w);
    check_texts(section, &probe->spec);
    config_keys_free(keys, HASUP_LEN(keys), &w);
}

/* One that is not ready yet is asked until timeouts.start ends it: no number of failures. */
static void read_ready_probe(struct config_reader *reader, const struct node *node,
                             const char *path, struct config_ready *ready)
{
    const struct config_section section = {reader->errors, node, path};
    config_probe_read(reader, node, path, &ready->probe);
    if (ready->probe.spec.kind != PROBE_NONE)
        ready->how = READY_PROBE;
    if (config_tree_find(node, "failures"))
        config_complain(&section, "failures",
                        "what is not ready yet is asked until timeouts.start is over; live: has "
                        "failures");
}

void config_ready_read(struct config_reader *reader, const struct node *node, const char *path,
                       struct config_ready *ready)
{
    const struct config_section section = {reader->errors, node, path};
    if (config_tree_is_nothing(node))
        return;
    if (node->kind == NODE_MAP)
        read_ready_probe(reader, node, path, ready);
    else if (node->kind == NODE_SCALAR && strcmp(node->text, "notify") == 0)
        ready->how = READY_NOTIFY;
    else if (node->kind == NODE_SCALAR && strcmp(node->text, "fd") == 0)
        ready->how = READY_FD;
    else
        config_complain(&section, "",
                        "expected notify, fd, or keys such as {tcp: 8080}; found %s%.40s%s",
                        node->kind == NODE_LIST ? "a list" : "\"",
                        node->kind == NODE_LIST ? "" : node->text,
                        node->kind == NODE_LIST ? "" : "\"");
}

bool config_probe_fill(const struct probe_spec *spec, const struct template_values *values,
                       struct probe_spec *filled)
{
    *filled = *spec;
    filled->exec = spec->exec ? template_fill_all(spec->exec, values) : NULL;
    filled->address = spec->address ? template_fill(spec->address, values) : NULL;
    filled->path = spec->path ? template_fill(spec->path, values) : NULL;
    if (!filled->exec == !spec->exec && !filled->address == !spec->address &&
        !filled->path == !spec->path)
        return true;
    config_probe_spec_free(filled);
    return false;
}

void config_probe_spec_free(struct probe_spec *spec)
{
    config_strings_free(spec->exec);
    free(spec->address);
    free(spec->path);
    *spec = (struct probe_spec){.kind = PROBE_NONE};
}

void config_probe_free(struct config_probe *probe)
{
    config_probe_spec_free(&probe->spec);
}

/* ---- shown ---- */

static json_t *http_json(const struct probe_spec *spec)
{
    const size_t local = strlen(ADDRESS_LOCAL);
    if (strncmp(spec->address, ADDRESS_LOCAL, local) == 0)
        return json_pack("{s:s, s:s}", "socket", spec->address + local, "path", spec->path);
    return json_sprintf("%s%s%s", URL, spec->address, spec->path);
}

static json_t *exec_json(char *const *words)
{
    json_t *list = json_array();
    for (; *words; words++)
        json_array_append_new(list, json_string(*words));
    return list;
}

json_t *config_probe_json(const struct config_probe *probe)
{
    const struct probe_spec *spec = &probe->spec;
    json_t *json = spec->kind == PROBE_NONE ? json_null() : json_object();
    char interval[CONFIG_VALUE_MAX], timeout[CONFIG_VALUE_MAX];
    switch (spec->kind) {
    case PROBE_NONE: return json;
    case PROBE_EXEC: json_object_set_new(json, "exec", exec_json(spec->exec)); break;
    case PROBE_TCP: json_object_set_new(json, "tcp", json_string(spec->address)); break;
    case PROBE_HTTP:
        json_object_set_new(json, "http", http_json(spec));
        json_object_set_new(json, "status",
                            json_sprintf("%u-%u", spec->status_min, spec->status_max));
    }
    config_duration_text(probe->interval, interval);
    config_duration_text(spec->timeout, timeout);
    json_object_set_new(json, "interval", json_string(interval));
    json_object_set_new(json, "timeout", json_string(timeout));
    json_object_set_new(json, "failures", json_integer(probe->failures));
    return json;
}

json_t *config_ready_json(const struct config_ready *ready)
{
    switch (ready->how) {
    case READY_AT_ONCE: return json_null();
    case READY_NOTIFY: return json_string("notify");
    case READY_FD: return json_string("fd");
    case READY_PROBE: break;
    }
    json_t *json = config_probe_json(&ready->probe);
    json_object_del(json, "failures"); /* which it has not */
    return json;
}
