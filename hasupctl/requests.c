/*
 * requests.c: hasupctl requests: durable requests, listed page by page, shown, dropped.  A list
 * fits the terminal: columns leave where there is no room, a model whose name is too long gets a
 * line of its own.
 */
#include "hasupctl/hasupctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHOWN = 100, ID_WIDTH = 32 };

struct list {
    const char *model, *state;
    long most; /* rows; 0: all */
    long count;
    json_t *rows; /* with --json: all of them */
    bool titled;
    int leaving; /* columns that have no room */
};

static long long number(const json_t *one, const char *key)
{
    return (long long)json_integer_value(json_object_get(one, key));
}

static const char *text(const json_t *one, const char *key)
{
    const char *value = json_string_value(json_object_get(one, key));
    return value ? value : "";
}

/* ---- list ---- */

static const char *state_text(const json_t *one, char out[32])
{
    snprintf(out, 32, "%s", text(one, "state"));
    return out;
}

static const char *age_text(const json_t *one, char out[32])
{
    return ctl_duration(number(one, "age_ms"), out);
}

static const char *tries_text(const json_t *one, char out[32])
{
    snprintf(out, 32, "%lld", number(one, "attempts"));
    return out;
}

static const char *answer_text(const json_t *one, char out[32])
{
    json_t *bytes = json_object_get(one, "answer_bytes");
    if (json_is_true(json_object_get(one, "streamed")))
        return "stream";
    return json_is_integer(bytes) ? ctl_bytes((unsigned long long)json_integer_value(bytes), out)
                                  : "-";
}

/* Behind the ID; the model stands last. */
static const struct column {
    const char *title;
    int width;  /* negative: to the left */
    int leaves; /* which goes first; 0: stays */
    const char *(*text)(const json_t *one, char out[32]);
} COLUMNS[] = {
    {"STATE", -11, 0, state_text},
    {"AGE", 7, 3, age_text},
    {"TRIES", 5, 1, tries_text},
    {"ANSWER", 8, 2, answer_text},
};

static bool is_shown(const struct list *list, const struct column *column)
{
    return !column->leaves || column->leaves > list->leaving;
}

static int width_of(const struct list *list)
{
    int width = ID_WIDTH;
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++)
        if (is_shown(list, &COLUMNS[i]))
            width += 1 + abs(COLUMNS[i].width);
    return width;
}

static void print_titles(const struct ctl *ctl, struct list *list)
{
    enum { MODEL_ROOM = 1 + 5 }; /* its title's */
    while (width_of(list) + MODEL_ROOM > ctl->width && list->leaving < (int)HASUP_LEN(COLUMNS))
        list->leaving++;
    printf("%-*s", ID_WIDTH, "ID");
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++)
        if (is_shown(list, &COLUMNS[i]))
            printf(" %*s", COLUMNS[i].width, COLUMNS[i].title);
    puts(" MODEL");
    list->titled = true;
}

static const char *colour_of(const struct ctl *ctl, const char *state)
{
    if (!ctl->colour)
        return "";
    if (strcmp(state, "done") == 0)
        return "\033[32m";
    return strcmp(state, "waiting") && strcmp(state, "running") ? "\033[31m" : "\033[33m";
}

static void print_row(const struct ctl *ctl, const struct list *list, const json_t *one)
{
    char out[32];
    const char *model = text(one, "model");
    int room = ctl->width - width_of(list) - 1;
    printf("%-*s", ID_WIDTH, text(one, "id"));
    for (size_t i = 0; i < HASUP_LEN(COLUMNS); i++) {
        bool coloured = ctl->colour && COLUMNS[i].text == state_text;
        if (is_shown(list, &COLUMNS[i]))
            printf(" %s%*s%s", coloured ? colour_of(ctl, text(one, "state")) : "", COLUMNS[i].width,
                   COLUMNS[i].text(one, out), coloured ? "\033[0m" : "");
    }
    printf("%s%s\n", (int)strlen(model) > room ? "\n  " : " ", model);
}

/* One page; *next: where the next one begins, NULL: there is none. */
static int list_page(const struct ctl *ctl, struct list *list, json_t **next)
{
    json_t *answer, *one, *from = *next;
    size_t i;
    json_t *command = json_pack("{s:s, s:s*, s:s*, s:o*}", "verb", "requests", "model", list->model,
                                "state", list->state, "before", from);
    *next = NULL;
    int code = ctl_call(ctl, command, &answer);
    if (code)
        return code;
    json_t *rows = json_object_get(answer, "requests");
    json_array_foreach(rows, i, one)
    {
        if (list->most && list->count == list->most)
            break;
        list->count++;
        if (ctl->json) {
            json_array_append(list->rows, one);
            continue;
        }
        if (!list->titled)
            print_titles(ctl, list);
        print_row(ctl, list, one);
    }
    json_t *more = json_object_get(answer, "next");
    if (i < json_array_size(rows) || json_is_integer(more))
        *next = json_incref(json_is_integer(more) ? more : json_null());
    json_decref(answer);
    return CTL_OK;
}

static int list_all(const struct ctl *ctl, struct list *list)
{
    json_t *next = NULL;
    int code;
    list->rows = json_array();
    do
        code = list_page(ctl, list, &next);
    while (!code && next && (!list->most || list->count < list->most));
    if (!code && ctl->json)
        ctl_print_json(list->rows);
    else if (!code && !list->count)
        puts("no requests");
    if (!code && next)
        fprintf(stderr, "hasupctl: the newest %ld; -n N shows more, --all shows all\n", list->most);
    json_decref(next);
    json_decref(list->rows);
    return code;
}

static int verb_list(const struct ctl *ctl)
{
    struct list list = {.most = SHOWN};
    for (int i = 0; i < ctl->argc; i++) {
        const char *word = ctl->argv[i], *value = i + 1 < ctl->argc ? ctl->argv[i + 1] : NULL;
        char *end = NULL;
        if (strcmp(word, "--all") == 0) {
            list.most = 0;
            continue;
        }
        if (strcmp(word, "--model") && strcmp(word, "--state") && strcmp(word, "-n"))
            return ctl_usage(ctl, "%s: not an option of requests list", word);
        if (!value)
            return ctl_usage(ctl, "%s wants a value", word);
        if (strcmp(word, "--model") == 0)
            list.model = value;
        else if (strcmp(word, "--state") == 0)
            list.state = value;
        else if ((list.most = strtol(value, &end, 10)) <= 0 || *end)
            return ctl_usage(ctl, "-n wants a number above 0");
        i++;
    }
    return list_all(ctl, &list);
}

/* ---- dead letters ---- */

/* NULL: there are no more, or it failed (*code). */
static json_t *letter_below(const struct ctl *ctl, json_int_t *before, int *code)
{
    json_t *answer, *letter = NULL;
    *code = ctl_call(ctl, json_pack("{s:s, s:I}", "verb", "requests letters", "before", *before),
                     &answer);
    if (*code == CTL_OK && json_is_object(json_object_get(answer, "letter"))) {
        letter = json_incref(json_object_get(answer, "letter"));
        *before = json_integer_value(json_object_get(answer, "next"));
    }
    json_decref(answer);
    return letter;
}

/* ID, AGE, BODY and MODEL; why it is there stands below, because it is long. */
static void print_letter(const json_t *letter)
{
    char age[32], bytes[32];
    long long ms = (long long)(ctl_wall_now() / HASUP_MS) - number(letter, "created_wall_ms");
    printf("%-*s %7s %8s %s\n", ID_WIDTH, text(letter, "id"), ctl_duration(ms < 0 ? 0 : ms, age),
           json_is_true(json_object_get(letter, "kept"))
               ? ctl_bytes((unsigned long long)number(letter, "bytes"), bytes)
               : "-",
           text(letter, "model"));
    printf("  killed %lld, the last: %s\n", number(letter, "attempts"), text(letter, "reason"));
}

static int verb_letters(const struct ctl *ctl)
{
    json_t *letter, *all = json_array();
    json_int_t before = 0;
    int code;
    if (ctl->argc)
        return ctl_usage(ctl, "unexpected argument: %s", ctl->argv[0]);
    while ((letter = letter_below(ctl, &before, &code))) {
        if (!ctl->json && !json_array_size(all))
            printf("%-*s %7s %8s %s\n", ID_WIDTH, "ID", "AGE", "BODY", "MODEL");
        if (!ctl->json)
            print_letter(letter);
        json_array_append_new(all, letter);
    }
    if (!code && ctl->json)
        ctl_print_json(all);
    else if (!code && !json_array_size(all))
        puts("no dead letters");
    json_decref(all);
    return code;
}

/* ---- show ---- */

static void print_time(const json_t *one, const char *key, const char *what)
{
    char when[64] = "?", far[32];
    long long ms = number(one, key);
    time_t seconds = (time_t)(ms / 1000);
    struct tm local;
    if (!ms)
        return;
    if (localtime_r(&seconds, &local))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S %z", &local);
    long long away = ms - (long long)(ctl_wall_now() / HASUP_MS);
    printf("  %-9s %s (%s%s%s)\n", what, when, away > 0 ? "in " : "",
           ctl_duration(away > 0 ? away : -away, far), away > 0 ? "" : " ago");
}

/* How its workers died. */
static void print_deaths(const json_t *letter)
{
    char lived[32], rss[32];
    json_t *death, *line;
    size_t i, k;
    printf("  letter    the body is %s\n", json_is_true(json_object_get(letter, "kept"))
                                               ? "kept: hasupctl requests retry runs it again"
                                               : "not kept (quarantine_keep_body)");
    print_time(letter, "expires_wall_ms", "refused");
    json_array_foreach(json_object_get(letter, "deaths"), i, death)
    {
        printf("  death     %s, pid %lld, lived %s, %s: %s\n", text(death, "slot"),
               number(death, "pid"), ctl_duration(number(death, "lived_ms"), lived),
               ctl_bytes((unsigned long long)number(death, "max_rss_kib") * 1024, rss),
               text(death, "reason"));
        json_array_foreach(json_object_get(death, "stderr"), k, line)
            printf("    | %s\n", json_string_value(line));
    }
}

/* A dead letter by its own id: of a request that may have been volatile. */
static void print_letter_alone(const json_t *letter)
{
    printf("dead letter %s of %s\n", text(letter, "id"), text(letter, "model"));
    printf("  state     quarantined: it killed %lld workers\n", number(letter, "attempts"));
    print_time(letter, "created_wall_ms", "since");
    print_deaths(letter);
}

static void print_one(const json_t *one)
{
    char bytes[32];
    if (json_object_get(one, "deaths")) {
        print_letter_alone(one);
        return;
    }
    json_t *size = json_object_get(one, "bytes");
    printf("request %s of %s\n", text(one, "id"), text(one, "model"));
    printf("  state     %s", text(one, "state"));
    if (number(one, "status"))
        printf(", status %lld", number(one, "status"));
    puts(json_is_false(json_object_get(one, "configured"))
             ? "; no model of this name is configured: it waits in the journal until one is"
             : "");
    printf("  attempts  %lld\n", number(one, "attempts"));
    if (json_is_string(json_object_get(one, "key")))
        printf("  key       %s\n", text(one, "key"));
    if (json_is_true(json_object_get(one, "async")))
        puts("  prefer    respond-async");
    if (json_is_integer(size))
        printf("  body      %s\n", ctl_bytes((unsigned long long)json_integer_value(size), bytes));
    if (strcmp(text(one, "state"), "done") == 0)
        printf("  answer    %s\n", answer_text(one, bytes));
    print_time(one, "created_wall_ms", "accepted");
    print_time(one, "deadline_wall_ms", "deadline");
    print_time(one, "finished_wall_ms", "finished");
    print_time(one, "expires_wall_ms", "kept");
    if (json_is_object(json_object_get(one, "letter")))
        print_deaths(json_object_get(one, "letter"));
}

/* The stored answer, as who sent the request would have got it. */
static int show_body(const struct ctl *ctl, const char *id)
{
    uint64_t number;
    struct hasup_client *client = ctl_open(ctl);
    int code = CTL_UNREACHABLE;
    if (client && hasup_client_ask(client, id, 0, &number) == 0)
        code = ctl_print_answer(ctl, client);
    hasup_client_close(client);
    return code;
}

static int verb_show(const struct ctl *ctl)
{
    json_t *one;
    const char *id = NULL;
    bool body = false;
    for (int i = 0; i < ctl->argc; i++) {
        if (strcmp(ctl->argv[i], "--body") == 0)
            body = true;
        else if (ctl->argv[i][0] == '-' || id)
            return ctl_usage(ctl, "one request at a time, and --body");
        else
            id = ctl->argv[i];
    }
    if (!id)
        return ctl_usage(ctl, "which request? hasupctl requests names their ids");
    int code = ctl_call(ctl, json_pack("{s:s, s:s}", "verb", "requests show", "id", id), &one);
    bool ended = json_is_integer(json_object_get(one, "status"));
    if (!code && body && json_object_get(one, "deaths")) {
        fprintf(stderr, "hasupctl: %s is a dead letter and has no answer\n", id);
        code = CTL_FAILED;
    } else if (!code && body && !ended) {
        fprintf(stderr, "hasupctl: %s is %s: there is no answer yet\n", id, text(one, "state"));
        code = CTL_FAILED;
    } else if (!code && body) {
        code = show_body(ctl, id);
    } else if (!code && ctl->json) {
        ctl_print_json(one);
    } else if (!code) {
        print_one(one);
    }
    json_decref(one);
    return code;
}

/* ---- retry and drop ---- */

/* For the one whose id is the argument; what hasupd said of it, to be released. */
static int call_for(const struct ctl *ctl, const char *verb, const char *usage, json_t **answer)
{
    *answer = NULL;
    if (ctl->argc != 1 || ctl->argv[0][0] == '-')
        return ctl_usage(ctl, "%s", usage);
    int code = ctl_call(ctl, json_pack("{s:s, s:s}", "verb", verb, "id", ctl->argv[0]), answer);
    if (!code && ctl->json)
        ctl_print_json(*answer);
    return code;
}

static int verb_retry(const struct ctl *ctl)
{
    json_t *answer;
    int code = call_for(ctl, "requests retry",
                        "one dead letter at a time; hasupctl requests letters names them", &answer);
    if (!code && !ctl->json)
        puts(*text(answer, "id") ? text(answer, "id") : "it runs again; its model keeps no answer");
    json_decref(answer);
    return code;
}

static int verb_drop(const struct ctl *ctl)
{
    json_t *answer;
    int code = call_for(ctl, "requests drop",
                        "one request at a time; hasupctl requests names their ids", &answer);
    if (!code && !ctl->json)
        printf("%s: dropped\n", ctl->argv[0]);
    json_decref(answer);
    return code;
}

#define LIST "[list] [--model MODEL] [--state STATE] [-n N | --all]"
#define SHOW "show ID [--body]"
#define DROP "drop ID"
#define RETRY "retry ID"
#define LETTERS "letters"

const char CTL_REQUESTS_VERBS[] =
    "  " LIST "\n"
    "                        durable requests, newest first\n"
    "  " SHOW "      one of them, or its stored answer\n"
    "  " DROP "               nobody wants it any more\n"
    "  " RETRY "              run a dead letter again\n"
    "  " LETTERS "               dead letters\n";

int ctl_requests(const struct ctl *ctl)
{
    static const struct {
        const char *name, *usage;
        int (*run)(const struct ctl *ctl);
    } VERBS[] = {
        {"list", "requests " LIST, verb_list},
        {"show", "requests " SHOW, verb_show},
        {"drop", "requests " DROP, verb_drop},
        {"retry", "requests " RETRY, verb_retry},
        {"letters", "requests " LETTERS, verb_letters},
    };
    struct ctl rest = *ctl;
    rest.usage = VERBS[0].usage;
    if (!ctl->argc || ctl->argv[0][0] == '-')
        return verb_list(&rest);
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        if (strcmp(VERBS[i].name, ctl->argv[0]) == 0) {
            rest.usage = VERBS[i].usage;
            rest.argc--;
            rest.argv++;
            return VERBS[i].run(&rest);
        }
    return ctl_usage(ctl, "requests %s: list, show, drop, retry or letters", ctl->argv[0]);
}
