/* stream.c: the verbs whose answers come in parts: infer, events, logs. */
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

/* Prints the parts of an answer as they come. */
static int print_answer(const struct ctl *ctl, struct hasup_client *client)
{
    struct hasup_client_answer answer;
    int got;
    do {
        got = hasup_client_wait(client, -1, &answer);
        if (got <= 0) {
            fprintf(stderr, "hasupctl: no answer: %s\n", hasup_strerror(got));
            return CTL_UNREACHABLE;
        }
        if (answer.status < 400)
            fwrite(answer.body, 1, answer.len, stdout);
        fflush(stdout);
    } while (!answer.last);
    if (answer.status >= 400) {
        fprintf(stderr, "hasupctl: %u %s%s%s\n", answer.status, answer.code,
                answer.code[0] ? ": " : "", answer.error);
        if (answer.len)
            fwrite(answer.body, 1, answer.len, stderr);
        return CTL_FAILED;
    }
    if (isatty(STDOUT_FILENO))
        putchar('\n');
    if (ctl->json)
        fprintf(stderr, "{\"status\": %u, \"attempts\": %u}\n", answer.status, answer.attempts);
    return CTL_OK;
}

int ctl_infer(const struct ctl *ctl)
{
    if (ctl->argc < 1 || ctl->argc > 2)
        return ctl_usage("infer MODEL [FILE]");
    bool stdin_named = ctl->argc == 1 || strcmp(ctl->argv[1], "-") == 0;
    int fd = stdin_named ? STDIN_FILENO : open(ctl->argv[1], O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    char *body = fd < 0 ? NULL : read_all(fd, &len);
    if (!body) {
        fprintf(stderr, "hasupctl: %s: %s\n", stdin_named ? "standard input" : ctl->argv[1],
                strerror(errno));
        return CTL_FAILED;
    }
    int code = CTL_UNREACHABLE;
    uint64_t id;
    struct hasup_client *client = ctl_open(ctl);
    const struct hasup_client_request request = {.model = ctl->argv[0], .body = body, .len = len};
    if (client) {
        int error = hasup_client_submit(client, &request, &id);
        if (error)
            fprintf(stderr, "hasupctl: %s\n", hasup_strerror(error));
        else
            code = print_answer(ctl, client);
    }
    hasup_client_close(client);
    free(body);
    return code;
}

/* ---- events and logs ---- */

static const char *field(json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

/* "05:12:07.123 slot.ready digits/0 ready after 3 ms" */
static void print_line(const struct ctl *ctl, const struct hasup_client_answer *answer)
{
    json_t *entry = ctl->json ? NULL : json_loadb((const char *)answer->body, answer->len, 0, NULL);
    if (!entry) {
        fwrite(answer->body, 1, answer->len, stdout);
        putchar('\n');
        return;
    }
    const char *time = field(entry, "time"), *clock = strchr(time, 'T');
    const char *event = field(entry, "event");
    bool line = strncmp(event, "worker.", 7) == 0;
    printf("%.12s %-9s %s%s%s\n", clock ? clock + 1 : time, field(entry, "slot"), line ? "" : event,
           line ? "" : " ", field(entry, "message"));
    json_decref(entry);
}

static json_t *lines_command(const struct ctl *ctl, const char *verb)
{
    json_t *command = json_pack("{s:s}", "verb", verb);
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i];
        char *end = NULL;
        if (strcmp(word, "-f") == 0 || strcmp(word, "--follow") == 0) {
            json_object_set_new(command, "follow", json_true());
        } else if (strcmp(word, "-n") == 0 && i + 1 < ctl->argc) {
            long count = strtol(ctl->argv[++i], &end, 10);
            if (*end || count < 0)
                break;
            json_object_set_new(command, "count", json_integer(count));
        } else if (word[0] != '-' && strcmp(verb, "logs") == 0) {
            json_object_set_new(command, "slot", json_string(word));
        } else {
            end = ctl->argv[i];
            json_decref(command);
            return NULL;
        }
    }
    return command;
}

int ctl_lines(const struct ctl *ctl, const char *verb)
{
    struct hasup_client_answer answer;
    uint64_t id;
    json_t *command = lines_command(ctl, verb);
    if (!command)
        return ctl_usage("%s [-f] [-n COUNT]%s", verb,
                         strcmp(verb, "logs") ? "" : " [MODEL[/SLOT]]");
    char *text = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    struct hasup_client *client = ctl_open(ctl);
    int got = client && text ? hasup_client_control(client, text, &id) : HASUP_ECLOSED;
    int code = client ? CTL_OK : CTL_UNREACHABLE;
    while (!got && client) {
        if (hasup_client_wait(client, -1, &answer) <= 0) {
            fprintf(stderr, "hasupctl: hasupd is gone\n");
            code = CTL_UNREACHABLE;
            break;
        }
        if (answer.last)
            break;
        print_line(ctl, &answer);
        fflush(stdout);
    }
    hasup_client_close(client);
    free(text);
    return code;
}
