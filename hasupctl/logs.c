/*
 * logs.c: hasupctl logs: what workers printed, as hasupd has it in memory, and as it comes.
 * Prints nothing that could speak to a terminal: hasupd has made the text harmless.
 */
#include "hasupctl/hasupctl.h"

#include "ipc/standard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char CTL_LOGS_OPTIONS[] =
    "  -f, --follow        go on with what comes\n"
    "  -n, --tail N        the last N lines (100; with --since or --until all), or all\n"
    "  -S, --since T       not older: 5m, 7d, 19:39 (the last time that it was), 2026-11-25,\n"
    "                      2026-11-25T19:39:35 (UTC, or +01:00 behind it)\n"
    "  -U, --until T       not newer\n"
    "  --stdout            of standard output only; with --stderr of both\n"
    "  --stderr            of standard error only\n"
    "  --stream S          stdout, stderr, or status (sd_notify's)\n"
    "  -g, --grep TEXT     lines that have this text in them\n"
    "  -r, --request ID    lines that are about this request\n"
    "  -t, --timestamps    with the day, UTC\n"
    "  --no-prefix         the text alone\n"
    "  --reopen            log files are opened anew by their names; done when it returns\n";

/* How lines are shown. */
static struct {
    bool dated, bare;
} look;

/* ---- options ---- */

static bool is_option(const char *word, const char *shorter, const char *longer)
{
    return strcmp(word, longer) == 0 || (shorter && strcmp(word, shorter) == 0);
}

static void append(json_t *command, const char *key, const char *text)
{
    json_t *list = json_object_get(command, key);
    if (!list) {
        list = json_array();
        json_object_set_new(command, key, list);
    }
    json_array_append_new(list, json_string(text));
}

static const char *read_count(json_t *command, const char *value)
{
    char *end = NULL;
    bool all = strcmp(value, "all") == 0;
    long lines = all ? INT32_MAX : strtol(value, &end, 10);
    if (!all && (*end || end == value || lines < 0))
        return "wants a number, or all";
    json_object_set_new(command, "count", json_integer(lines));
    return "";
}

static const char *read_when(json_t *command, const char *key, const char *value)
{
    int64_t when = 0;
    const char *wrong = ctl_when(value, &when);
    if (!wrong)
        json_object_set_new(command, key, json_integer(when / HASUP_MS));
    return wrong ? wrong : "";
}

static const char *read_stream(json_t *command, const char *value)
{
    if (strcmp(value, "stdout") && strcmp(value, "stderr") && strcmp(value, "status"))
        return "wants stdout, stderr or status";
    append(command, "streams", value);
    return "";
}

static const char *read_text(json_t *command, const char *key, const char *value)
{
    if (!*value)
        return "wants a text";
    json_object_set_new(command, key, json_string(value));
    return "";
}

/* One that has a value.  NULL where it is none; else what is wrong with it, or "". */
static const char *option(json_t *command, const char *word, const char *value)
{
    if (is_option(word, "-n", "--tail"))
        return read_count(command, value);
    if (is_option(word, "-S", "--since"))
        return read_when(command, "since_wall_ms", value);
    if (is_option(word, "-U", "--until"))
        return read_when(command, "until_wall_ms", value);
    if (is_option(word, NULL, "--stream"))
        return read_stream(command, value);
    if (is_option(word, "-g", "--grep"))
        return read_text(command, "grep", value);
    if (is_option(word, "-r", "--request"))
        return read_text(command, "request", value);
    return NULL;
}

/* One that has none; false where there is no such. */
static bool flag(json_t *command, const char *word)
{
    if (is_option(word, "-f", "--follow"))
        json_object_set_new(command, "follow", json_true());
    else if (is_option(word, NULL, "--reopen"))
        json_object_set_new(command, "reopen", json_true());
    else if (is_option(word, NULL, "--stdout") || is_option(word, NULL, "--stderr"))
        append(command, "streams", word + 2);
    else if (is_option(word, "-t", "--timestamps"))
        look.dated = true;
    else if (is_option(word, NULL, "--no-prefix"))
        look.bare = true;
    else
        return false;
    return true;
}

/* What follows from several options together; CTL_USAGE: they do not go together. */
static int join_options(const struct ctl *ctl, json_t *command)
{
    const bool from = json_object_get(command, "since_wall_ms"),
               to = json_object_get(command, "until_wall_ms");
    if (json_object_get(command, "reopen") && ctl->argc > 1)
        return ctl_usage(ctl, "--reopen opens log files anew and shows nothing: it stands alone");
    if (to && json_object_get(command, "follow"))
        return ctl_usage(ctl, "--follow goes on, and --until does not: one of them");
    if ((from || to) && !json_object_get(command, "count"))
        json_object_set_new(command, "count", json_integer(INT32_MAX)); /* all of that time */
    if (json_object_get(command, "streams"))
        append(command, "streams", "dropped");
    return 0;
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
        else if (word[0] != '-')
            append(command, "target", word);
        else if (!flag(command, word))
            wrong = ctl_usage(ctl, "unknown option %s", word);
    }
    if (!wrong)
        wrong = join_options(ctl, command);
    if (!wrong)
        return command;
    json_decref(command);
    return NULL;
}

/* ---- lines ---- */

static const char *text_of(const json_t *entry, const char *key)
{
    const char *value = json_string_value(json_object_get(entry, key));
    return value ? value : "";
}

/* The same for a slot each time; slots of one model that stand side by side have different ones.
 * Red is none of them, it speaks of errors. */
static unsigned colour_of(const char *slot)
{
    static const unsigned COLOURS[] = {36, 33, 32, 35, 34, 96, 93, 92, 95, 94};
    const char *ordinal = strchr(slot, '/');
    unsigned hash = ordinal ? (unsigned)atoi(ordinal + 1) : 0;
    for (const char *c = slot; *c && c != ordinal; c++)
        hash += (unsigned char)*c * (unsigned)(c - slot + 1);
    return COLOURS[hash % HASUP_LEN(COLOURS)];
}

/* "05:12:07.123 digits/0   [request] " */
static void print_prefix(const struct ctl *ctl, const json_t *entry)
{
    const char *time = text_of(entry, "time"), *clock = strchr(time, 'T');
    const char *slot = text_of(entry, "slot"), *request = text_of(entry, "request");
    if (look.dated)
        printf("%s ", time);
    else
        printf("%.12s ", clock ? clock + 1 : time);
    if (ctl->colour)
        printf("\033[%s%um", strcmp(text_of(entry, "event"), "worker.stderr") == 0 ? "1;" : "",
               colour_of(slot));
    printf("%-10s%s ", slot, ctl->colour ? "\033[0m" : "");
    if (request[0])
        printf("[%s] ", request);
}

static void print_entry(const struct ctl *ctl, const json_t *entry)
{
    bool ours = strcmp(text_of(entry, "event"), "worker.dropped") == 0;
    if (!look.bare)
        print_prefix(ctl, entry);
    printf("%s%s%s%s\n", ours ? "(" : "", text_of(entry, "message"), ours ? ")" : "",
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

int ctl_stream_on(const struct ctl *ctl, struct hasup_client *client, uint64_t id,
                  void (*print)(const struct ctl *ctl, const char *line, size_t len))
{
    struct hasup_client_answer answer;
    for (;;) {
        if (!hasup_standard_flush()) /* whoever read it has gone; or else main says why */
            return CTL_OK;
        if (hasup_client_wait(client, -1, &answer) <= 0) {
            fprintf(stderr, "hasupctl: hasupd is gone\n");
            return CTL_UNREACHABLE;
        }
        if (answer.id != id)
            continue;
        if (answer.last)
            return answer.status == 200 ? CTL_OK : ctl_refused(&answer);
        print(ctl, (const char *)answer.body, answer.len);
    }
}

int ctl_stream(const struct ctl *ctl, json_t *command,
               void (*print)(const struct ctl *ctl, const char *line, size_t len))
{
    uint64_t id;
    int code = CTL_UNREACHABLE;
    char *text = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    struct hasup_client *client = ctl_open(ctl);
    if (client && text && !hasup_client_control(client, text, &id))
        code = ctl_stream_on(ctl, client, id, print);
    hasup_client_close(client);
    free(text);
    return code;
}

int ctl_logs(const struct ctl *ctl)
{
    json_t *command = read_words(ctl);
    const bool reopens = json_object_get(command, "reopen");
    int code = command ? ctl_stream(ctl, command, print_line) : CTL_USAGE;
    if (code == CTL_OK && reopens && ctl->json)
        puts("{\"ok\": true}");
    return code;
}
