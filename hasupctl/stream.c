/* stream.c: the verbs whose answers come in parts: infer, events. */
#include "hasupctl/hasupctl.h"

#include "ipc/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- infer ---- */

static char *read_all(int fd, size_t *len)
{
    size_t room = 65536;
    char *bytes = malloc(room);
    *len = 0;
    while (bytes) {
        ssize_t got = read(fd, bytes + *len, room - *len);
        if (got == 0)
            return bytes;
        if (got < 0)
            break;
        *len += (size_t)got;
        if (*len == room) {
            char *more = realloc(bytes, room *= 2);
            if (!more)
                break;
            bytes = more;
        }
    }
    free(bytes);
    return NULL;
}

static json_t *base64(const char *bytes, size_t len)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((len + 2) / 3 * 4 + 1), *at = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (i + k < len ? (uint8_t)bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            *at++ = i + k > len ? '=' : DIGITS[group >> (18 - 6 * k) & 63];
    }
    json_t *json = json_stringn(out, (size_t)(at - out));
    free(out);
    return json;
}

/* The answer as JSON: a body that is no text stands in base64. */
static void print_infer_json(const struct hasup_client_answer *answer, const char *body, size_t len)
{
    json_t *json =
        json_pack("{s:i, s:i}", "status", (int)answer->status, "attempts", (int)answer->attempts);
    json_t *text = json_stringn(body, len); /* NULL: not UTF-8 */
    if (answer->code[0])
        json_object_set_new(json, "code", json_string(answer->code));
    if (answer->error[0])
        json_object_set_new(json, "error", json_string(answer->error));
    if (answer->content_type[0])
        json_object_set_new(json, "content_type", json_string(answer->content_type));
    if (answer->record[0])
        json_object_set_new(json, "id", json_string(answer->record));
    if (text)
        json_object_set_new(json, "body", text);
    else
        json_object_set_new(json, "body_base64", base64(body, len));
    ctl_print_json(json);
    json_decref(json);
}

int ctl_print_answer(const struct ctl *ctl, struct hasup_client *client)
{
    struct hasup_client_answer answer;
    char *body = NULL;
    size_t len = 0;
    FILE *to = ctl->json ? open_memstream(&body, &len) : stdout;
    do {
        int got = to ? hasup_client_wait(client, -1, &answer) : HASUP_ENOMEM;
        if (got <= 0) {
            fprintf(stderr, "hasupctl: no answer: %s\n", hasup_strerror(got));
            return CTL_UNREACHABLE;
        }
        if (answer.len && (answer.status < 400 || ctl->json))
            fwrite(answer.body, 1, answer.len, to);
        fflush(to);
    } while (!answer.last);
    if (ctl->json) {
        fclose(to);
        print_infer_json(&answer, body, len);
        free(body);
    } else if (answer.status >= 400) {
        fprintf(stderr, "hasupctl: %u %s%s%s\n", answer.status, answer.code,
                answer.code[0] ? ": " : "", answer.error);
        if (answer.len)
            fwrite(answer.body, 1, answer.len, stderr);
    } else if (answer.record[0]) { /* accepted, or not answered yet */
        puts(answer.record);
    } else if (isatty(STDOUT_FILENO)) {
        putchar('\n');
    }
    return answer.status >= 400 ? CTL_FAILED : CTL_OK;
}

/* What infer was asked to do. */
struct infer {
    struct hasup_client_request request;
    const char *file;
};

/* CTL_USAGE: a word that is none of its own; said so. */
static int infer_words(const struct ctl *ctl, struct infer *infer)
{
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        if (strcmp(word, "--async") == 0)
            infer->request.async = 1;
        else if (strcmp(word, "--key") == 0 && i + 1 < ctl->argc && *ctl->argv[i + 1])
            infer->request.key = ctl->argv[++i];
        else if (word[0] == '-' && word[1])
            return ctl_usage(ctl, strcmp(word, "--key") ? "unknown option %s" : "%s wants a key",
                             word);
        else if (!infer->request.model)
            infer->request.model = word;
        else if (!infer->file)
            infer->file = word;
        else
            return ctl_usage(ctl, "one request at a time");
    }
    return infer->request.model ? CTL_OK : ctl_usage(ctl, "which model?");
}

static char *infer_body(const char *file, size_t *len)
{
    bool named = file && strcmp(file, "-") != 0;
    if (!named && isatty(STDIN_FILENO))
        fputs("hasupctl: the request is read from this terminal; Ctrl-D ends it\n", stderr);
    int fd = named ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
    char *body = fd < 0 ? NULL : read_all(fd, len);
    if (!body)
        fprintf(stderr, "hasupctl: %s: %s\n", named ? file : "standard input", strerror(errno));
    if (named && fd >= 0)
        close(fd);
    return body;
}

int ctl_infer(const struct ctl *ctl)
{
    struct infer infer = {0};
    uint64_t id;
    int code = infer_words(ctl, &infer);
    if (code)
        return code;
    char *body = infer_body(infer.file, &infer.request.len);
    if (!body)
        return CTL_FAILED;
    infer.request.body = body;
    struct hasup_client *client = ctl_open(ctl);
    code = CTL_UNREACHABLE;
    if (client) {
        int error = hasup_client_submit(client, &infer.request, &id);
        if (error)
            fprintf(stderr, "hasupctl: %s\n", hasup_strerror(error));
        else
            code = ctl_print_answer(ctl, client);
    }
    hasup_client_close(client);
    free(body);
    return code;
}

/* ---- events ---- */

static const char *field(json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

/* The fields of an event that have no column: " position=3 bytes=8". */
static void print_fields(json_t *entry)
{
    static const char *const SHOWN[] = {"time", "level", "slot",
                                        "event", "message", "pid", "lines"};
    const char *key;
    json_t *value;
    json_object_foreach(entry, key, value)
    {
        bool shown = false;
        for (size_t i = 0; i < HASUP_LEN(SHOWN); i++)
            shown |= strcmp(key, SHOWN[i]) == 0;
        if (!shown && json_is_string(value))
            printf(" %s=%s", key, json_string_value(value));
        else if (json_is_integer(value) && (!shown || strcmp(key, "lines") == 0))
            printf(" %s=%lld", key, (long long)json_integer_value(value));
    }
}

/* What a worker said last: " | one | two". */
static void print_last_lines(const char *lines)
{
    while (*lines) {
        size_t len = strcspn(lines, "\n");
        printf(" | %.*s", (int)len, lines);
        lines += len + (lines[len] == '\n');
    }
}

/* "05:12:07.123 digits/0  slot.ready ready after 3 ms"; `day`: with the date before it. */
void ctl_print_event(const struct ctl *ctl, const char *line, size_t len, bool day)
{
    json_t *entry = ctl->json ? NULL : json_loadb(line, len, 0, NULL);
    if (!entry) {
        fwrite(line, 1, len, stdout);
        putchar('\n');
        return;
    }
    const char *time = field(entry, "time"), *clock = strchr(time, 'T');
    const char *event = field(entry, "event");
    const char *message = field(entry, "message"), *slot = field(entry, "slot");
    if (day && clock)
        printf("%.*s ", (int)(clock - time), time);
    printf("%.12s %-10s", clock ? clock + 1 : time, slot[0] ? slot : "hasupd");
    printf(" %s", event);
    if (message[0])
        printf(" %s", message);
    print_fields(entry);
    print_last_lines(field(entry, "lines"));
    putchar('\n');
    json_decref(entry);
}

/* NULL: a word that is no option, target or count; said so. */
static json_t *events_command(const struct ctl *ctl)
{
    json_t *command = json_pack("{s:s}", "verb", "events");
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i], *count = i + 1 < ctl->argc ? ctl->argv[i + 1] : "";
        char *end = NULL;
        if (strcmp(word, "-f") == 0 || strcmp(word, "--follow") == 0) {
            json_object_set_new(command, "follow", json_true());
        } else if (strcmp(word, "-n") == 0) {
            long lines = strtol(count, &end, 10);
            if (*end || end == count || lines < 0)
                break;
            json_object_set_new(command, "count", json_integer(lines));
            i++;
        } else if (word[0] != '-' && !json_object_get(command, "target")) {
            json_object_set_new(command, "target", json_string(word));
        } else {
            break;
        }
        if (i + 1 == ctl->argc)
            return command;
    }
    if (!ctl->argc)
        return command;
    json_decref(command);
    (void)!ctl_usage(ctl, "-n wants a number; at most one model or slot is named");
    return NULL;
}

static void print_event(const struct ctl *ctl, const char *line, size_t len)
{
    ctl_print_event(ctl, line, len, false);
}

int ctl_live_events(const struct ctl *ctl)
{
    json_t *command = events_command(ctl);
    return command ? ctl_stream(ctl, command, print_event) : CTL_USAGE;
}
