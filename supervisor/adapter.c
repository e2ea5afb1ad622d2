/*
 * adapter.c: models whose command is an HTTP server that knows nothing of hasup.  Starts it under
 * hasup-http (worker/adapters/), which is the worker; says where in the server a request goes; and
 * reads from the configuration which requests may run twice.  The core decides what follows
 * from that.
 */
#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"
#include "supervisor/engine.h"
#include "supervisor/spawn.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { OPTIONS_MAX = 12, PLACE_ROOM = 512 };

/* ---- the command ---- */

HASUP_PRINTF(3, 4)
static bool add_option(char **argv, size_t *count, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int made = vasprintf(&argv[*count], format, args);
    va_end(args);
    if (made < 0)
        argv[*count] = NULL;
    *count += made >= 0;
    return made >= 0;
}

static size_t words_of(char *const *command)
{
    size_t count = 0;
    while (command[count])
        count++;
    return count;
}

static bool add_options(const struct slot *slot, char **argv, size_t *n)
{
    const struct config_model *m = slot->config;
    bool fine = add_option(argv, n, "--concurrency=%u", m->adapter.concurrency) &&
                add_option(argv, n, "--whole-max=%llu", (unsigned long long)m->adapter.whole_max) &&
                add_option(argv, n, "--ready-interval=%lld",
                           (long long)(m->adapter.ready.interval / HASUP_MS)) &&
                add_option(argv, n, "--ready-timeout=%lld",
                           (long long)(m->adapter.ready.timeout / HASUP_MS));
    const char *runtime_dir = slot->engine->config->runtime_dir;
    if (fine && runtime_dir)
        fine = add_option(argv, n, "--socket-default=%s/{model}-{slot}.http", runtime_dir);
    if (fine && m->adapter.ready.path)
        fine = add_option(argv, n, "--ready=%s", m->adapter.ready.path);
    if (fine && m->adapter.port)
        fine = add_option(argv, n, "--port=%u", m->adapter.port);
    if (fine && m->adapter.socket) {
        const struct template_values values = {m->name, slot->place.ordinal};
        char *socket = template_fill(m->adapter.socket, &values);
        fine = socket && add_option(argv, n, "--socket=%s", socket);
        free(socket);
    }
    return fine && add_option(argv, n, "--");
}

char **adapter_command(const struct slot *slot, char **command)
{
    size_t own = 1, words = words_of(command);
    char program[PATH_MAX];
    char **argv = calloc(OPTIONS_MAX + words + 1, sizeof *argv);
    if (!argv)
        return NULL;
    spawn_find_own(ADAPTER_PROGRAM, program, sizeof program);
    argv[0] = strdup(program);
    bool fine = argv[0] && add_options(slot, argv, &own);
    for (size_t i = 0; i < words && fine; i++)
        fine = add_option(argv, &own, "%s", command[i]);
    if (fine)
        return argv;
    config_strings_free(argv);
    return NULL;
}

/* ---- where a request goes ---- */

struct place {
    struct bytes method, path, route, version;
    bool keyed;
};

static void read_place(const uint8_t *meta, size_t len, struct place *place)
{
    static const char version[] = "model-version";
    const struct hasup_frame frame = {.meta = meta, .meta_len = (uint32_t)len};
    struct hasup_meta_reader reader;
    struct hasup_field field;
    *place = (struct place){0};
    hasup_meta_read(&reader, &frame);
    while (hasup_meta_next(&reader, &field) > 0) {
        struct bytes value = {field.value, field.len};
        if (field.tag == HASUP_TAG_METHOD)
            place->method = value;
        else if (field.tag == HASUP_TAG_PATH)
            place->path = value;
        else if (field.tag == HASUP_TAG_ROUTE)
            place->route = value;
        else if (field.tag == HASUP_TAG_IDEMPOTENCY_KEY)
            place->keyed = field.len;
        else if (field.tag == HASUP_TAG_HEADER && field.len > sizeof version &&
                 !memcmp(field.value, version, sizeof version))
            place->version =
                (struct bytes){field.value + sizeof version, field.len - sizeof version};
    }
}

static bool is_text(struct bytes value, const char *text)
{
    return value.len == strlen(text) && !memcmp(value.at, text, value.len);
}

/* The path of a route that hasupd knows: the same in the server, where both speak that protocol. */
static int path_of_route(const struct config_model *config, const struct place *place, char *path)
{
    static const char *const V2[] = {"infer", "generate", "generate_stream"};
    for (size_t i = 0; i < HASUP_LEN(V2); i++)
        if (is_text(place->route, V2[i]))
            return snprintf(path, PLACE_ROOM, "/v2/models/%s%s%.*s/%s", config->name,
                            place->version.len ? "/versions/" : "", (int)place->version.len,
                            (const char *)place->version.at, V2[i]);
    if (is_text(place->route, "chat_completions"))
        return snprintf(path, PLACE_ROOM, "/v1/chat/completions");
    if (is_text(place->route, "completions"))
        return snprintf(path, PLACE_ROOM, "/v1/completions");
    return snprintf(path, PLACE_ROOM, "%s", config->adapter.invoke);
}

int adapter_place(const struct config_model *config, const struct submission *submission,
                  uint8_t **meta, size_t *len)
{
    static const char method[] = "POST";
    struct place place;
    struct hasup_meta_writer w;
    char path[PLACE_ROOM];
    if (config->adapter.kind == ADAPTER_NONE)
        return 0;
    read_place(submission->meta, submission->meta_len, &place);
    if (place.path.len)
        return 0;
    int path_len = path_of_route(config, &place, path);
    size_t room = submission->meta_len + 2 * HASUP_FIELD_HEADER + sizeof method + sizeof path;
    uint8_t *bytes = path_len < PLACE_ROOM && room <= HASUP_META_MAX / 2 ? malloc(room) : NULL;
    if (!bytes)
        return HASUP_ENOMEM;
    hasup_meta_start(&w, bytes, room);
    if (submission->meta_len)
        memcpy(bytes, submission->meta, submission->meta_len);
    w.used = submission->meta_len;
    if (!place.method.len)
        hasup_meta_put(&w, HASUP_TAG_METHOD, method, sizeof method - 1);
    hasup_meta_put(&w, HASUP_TAG_PATH, path, (size_t)path_len);
    *meta = bytes;
    *len = w.used;
    return 1;
}

/* ---- what may run twice ---- */

/* Whether "[METHOD ]/path", or with a star at its end, speaks of this place. */
static bool speaks_of(const char *pattern, const struct place *place)
{
    const char *blank = strchr(pattern, ' '), *path = blank ? blank + 1 : pattern;
    size_t method = blank ? (size_t)(blank - pattern) : 0, len = strlen(path);
    const uint8_t *query = memchr(place->path.at, '?', place->path.len);
    size_t asked = query ? (size_t)(query - place->path.at) : place->path.len;
    if (method && (method != place->method.len || memcmp(pattern, place->method.at, method) != 0))
        return false;
    if (len && path[len - 1] == '*')
        return asked >= len - 1 && !memcmp(path, place->path.at, len - 1);
    return asked == len && !memcmp(path, place->path.at, len);
}

bool adapter_runs_once(const struct config_model *config, const uint8_t *meta, size_t len)
{
    struct place place;
    if (config->adapter.kind == ADAPTER_NONE)
        return false;
    read_place(meta, len, &place);
    if (place.keyed || is_text(place.method, "GET") || is_text(place.method, "HEAD"))
        return false;
    for (char **pattern = config->adapter.idempotent; place.path.len && *pattern; pattern++)
        if (speaks_of(*pattern, &place))
            return false;
    return true;
}
