/*
 * logs.c: hasupctl logs: what workers printed, as hasupd has it in memory, and as it comes.
 * Prints nothing that could speak to a terminal: hasupd has made the text harmless.
 */
#include "hasupctl/hasupctl.h"

#include "supervisor/config_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char CTL_LOGS_OPTIONS[] =
    "  -f, --follow        go on with what comes\n"
    "  -n, --tail N        the last N lines (100; with --since all)\n"
    "  --since 5m          not older\n"
    "  --stream S          stdout, stderr, or status (sd_notify's)\n"
    "  --grep TEXT         lines that have this text in them\n"
    "  --request ID        lines that are about this request\n"
    "  --reopen            log files are opened anew by their names; done when it returns\n";

/* NULL where it is not one of its options; what it asks for is put into `command`. */
static const char *option(json_t *command, const char *word, const char *value)
{
    static const char NUMBER[] = "wants a number";
    char *end = NULL;
    hasup_ns span;
    if (strcmp(word, "-n") == 0 || strcmp(word, "--tail") == 0) {
        long lines = strtol(value, &end, 10);
        if (*end || end == value || lines < 0)
            return NUMBER;
        json_object_set_new(command, "count", json_integer(lines));
        return "";
    }
    if (strcmp(word, "--since") == 0) {
        if (config_duration(value, &span) || span <= 0)
            return "wants a duration such as 90s, 30m or 24h";
        json_object_set_new(command, "since_wall_ms",
                            json_integer((ctl_wall_now() - span) / HASUP_MS));
        return "";
    }
    if (strcmp(word, "--stream") == 0) {
        if (strcmp(value, "stdout") && strcmp(value, "stderr") && strcmp(value, "status"))
            return "wants stdout, stderr or status";
        json_object_set_new(command, "streams", json_pack("[s, s]", value, "dropped"));
        return "";
    }
    if (strcmp(word, "--grep") == 0 || strcmp(word, "--request") == 0) {
        if (!*value)
            return "wants a text";
        json_object_set_new(command, word + 2, json_string(value));
        return "";
    }
    return NULL;
}

/* NULL: a word that is no option, value or target; said so. */
static json_t *read_words(const struct ctl *ctl)
{
    json_t *command = json_pack("{s:s}", "verb", "logs");
    int wrong = 0;
    for (int i = 0; i < ctl->argc && !wrong; i++) {
        const char *word = ctl->argv[i], *value = i + 1 < ctl->argc ? ctl->argv[i + 1] : "";
        const char *complaint = option(command, word, value);
        if (complaint && *complaint)
            wrong = ctl_usage(ctl, "%s %s", word, complaint);
        else if (complaint)
            i++;
        else if (strcmp(word, "-f") == 0 || strcmp(word, "--follow") == 0)
            json_object_set_new(command, "follow", json_true());
        else if (strcmp(word, "--reopen") == 0)
            json_object_set_new(command, "reopen", json_true());
        else if (word[0] == '-')
            wrong = ctl_usage(ctl, "unknown option %s", word);
        else if (json_object_get(command, "target"))
            wrong = ctl_usage(ctl, "at most one model or slot is named, not %s too", word);
        else
            json_object_set_new(command, "target", json_string(word));
    }
    if (!wrong && json_object_get(command, "since_wall_ms") && !json_object_get(command, "count"))
        json_object_set_new(command, "count", json_integer(INT32_MAX)); /* all since then */
    if (!wrong)
        return command;
    json_decref(command);
    return NULL;
}

static const char *text_of(const json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

/* "05:12:07.123 digits/0   [request] text" */
static void print_entry(const struct ctl *ctl, const json_t *entry)
{
    const char *time = text_of(entry, "time"), *clock = strchr(time, 'T');
    const char *event = text_of(entry, "event"), *request = text_of(entry, "request");
    bool err = ctl->colour && strcmp(event, "worker.stderr") == 0;
    bool ours = strcmp(event, "worker.dropped") == 0;
    printf("%.12s %s%-10s%s", clock ? clock + 1 : time, err ? "\033[31m" : "",
           text_of(entry, "slot"), err ? "\033[0m" : "");
    if (request[0])
        printf(" [%s]", request);
    printf(" %s%s%s%s\n", ours ? "(" : "", text_of(entry, "message"), ours ? ")" : "",
           json_object_get(entry, "more") ? " [...]" : "");
}

static void print_line(const struct ctl *ctl, const char *line, size_t len)
{
    json_t *entry = json_loadb(line, len, 0, NULL);
    const char *event = text_of(entry, "event");
    if (ctl->json || !entry) {
        fwrite(line, 1, len, stdout);
        putchar('\n');
    } else if (strcmp(event, "logs.lost") == 0) {
        fprintf(stderr, "hasupctl: %lld lines were lost: this reader was too slow\n",
                (long long)json_integer_value(json_object_get(entry, "lines")));
    } else {
        print_entry(ctl, entry);
    }
    json_decref(entry);
}

int ctl_stream(const struct ctl *ctl, json_t *command,
               void (*print)(const struct ctl *ctl, const char *line, size_t len))
{
    struct hasup_client_answer answer;
    uint64_t id;
    char *text = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    struct hasup_client *client = ctl_open(ctl);
    int got = client && text ? hasup_client_control(client, text, &id) : HASUP_ECLOSED;
    int code = client ? CTL_OK : CTL_UNREACHABLE;
    while (!got && client) {
        fflush(stdout);
        if (ferror(stdout)) /* whoever read it has gone */
            break;
        if (hasup_client_wait(client, -1, &answer) <= 0) {
            fprintf(stderr, "hasupctl: hasupd is gone\n");
            code = CTL_UNREACHABLE;
            break;
        }
        if (answer.last) {
            code = answer.status == 200 ? CTL_OK : ctl_refused(&answer);
            break;
        }
        print(ctl, (const char *)answer.body, answer.len);
    }
    hasup_client_close(client);
    free(text);
    return code;
}

int ctl_logs(const struct ctl *ctl)
{
    json_t *command = read_words(ctl);
    return command ? ctl_stream(ctl, command, print_line) : CTL_USAGE;
}
