/*
 * main.c: hasupctl's command line: a table of verbs.  Talks to hasupd over its Unix socket;
 * checkpoint list, show and audit read the files alone and work without it.  Exit codes: 0 done, 1
 * refused or failed (audit: findings), 2 bad usage (audit: could not check), 3 hasupd cannot be
 * reached.
 */
#include "hasupctl/hasupctl.h"

#include "ipc/base.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CALL_TIMEOUT_MS = 60 * 1000 };

/* ---- calling hasupd ---- */

int ctl_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("hasupctl: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return CTL_USAGE;
}

struct hasup_client *ctl_open(const struct ctl *ctl)
{
    char path[108], error[256];
    const char *socket = ctl->socket ? ctl->socket : hasup_client_default_path(path);
    struct hasup_client *client = hasup_client_open(socket, error);
    if (!client)
        fprintf(stderr, "hasupctl: %s\n", error);
    return client;
}

static int report_failure(const struct hasup_client_answer *answer)
{
    json_error_t at;
    json_t *json = json_loadb((const char *)answer->body, answer->len, 0, &at);
    const char *message =
        json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    fprintf(stderr, "hasupctl: %s\n", message ? message : answer->error);
    json_decref(json);
    return CTL_FAILED;
}

int ctl_call(const struct ctl *ctl, json_t *command, json_t **answer)
{
    struct hasup_client_answer got;
    uint64_t id;
    int code = CTL_UNREACHABLE;
    char *text = json_dumps(command, JSON_COMPACT);
    json_decref(command);
    struct hasup_client *client = ctl_open(ctl);
    *answer = NULL;
    if (client && text) {
        int error = hasup_client_control(client, text, &id);
        if (!error)
            error = hasup_client_wait(client, CALL_TIMEOUT_MS, &got);
        if (error <= 0) {
            fprintf(stderr, "hasupctl: no answer from hasupd: %s\n",
                    error ? hasup_strerror(error) : "the time limit passed");
        } else if (got.status != 200) {
            code = report_failure(&got);
        } else {
            *answer = json_loadb((const char *)got.body, got.len, 0, NULL);
            code = *answer ? CTL_OK : CTL_FAILED;
        }
    }
    hasup_client_close(client);
    free(text);
    return code;
}

void ctl_print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* A command that is answered by ok. */
static int call_simple(const struct ctl *ctl, json_t *command, const char *done)
{
    json_t *answer;
    int code = ctl_call(ctl, command, &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    else if (code == CTL_OK)
        puts(done);
    json_decref(answer);
    return code;
}

/* ---- the small verbs ---- */

static int target_verb(const struct ctl *ctl, const char *verb, const char *done)
{
    if (ctl->argc != 1)
        return ctl_usage("%s MODEL[/SLOT]", verb);
    return call_simple(ctl, json_pack("{s:s, s:s}", "verb", verb, "target", ctl->argv[0]), done);
}

static int verb_start(const struct ctl *ctl)
{
    return target_verb(ctl, "start", "started");
}

static int verb_stop(const struct ctl *ctl)
{
    return target_verb(ctl, "stop", "stopping");
}

static int verb_restart(const struct ctl *ctl)
{
    return target_verb(ctl, "restart", "restarting, one worker at a time");
}

static int verb_drain(const struct ctl *ctl)
{
    return target_verb(ctl, "drain", "draining");
}

static int verb_scale(const struct ctl *ctl)
{
    char *end = NULL;
    long workers = ctl->argc == 2 ? strtol(ctl->argv[1], &end, 10) : 0;
    if (ctl->argc != 2 || *end || end == ctl->argv[1] || workers < 0)
        return ctl_usage("scale MODEL WORKERS");
    return call_simple(ctl,
                       json_pack("{s:s, s:s, s:i}", "verb", "scale", "target", ctl->argv[0],
                                 "workers", (int)workers),
                       "scaling");
}

static int verb_reload(const struct ctl *ctl)
{
    if (ctl->argc)
        return ctl_usage("reload takes no argument");
    return call_simple(ctl, json_pack("{s:s}", "verb", "reload"), "reloaded");
}

static int verb_shutdown(const struct ctl *ctl)
{
    if (ctl->argc)
        return ctl_usage("shutdown takes no argument");
    return call_simple(ctl, json_pack("{s:s}", "verb", "shutdown"), "shutting down");
}

static int verb_config(const struct ctl *ctl)
{
    json_t *answer;
    if (ctl->argc)
        return ctl_usage("config takes no argument");
    int code = ctl_call(ctl, json_pack("{s:s}", "verb", "config"), &answer);
    if (code == CTL_OK)
        ctl_print_json(answer);
    json_decref(answer);
    return code;
}

static int verb_version(const struct ctl *ctl)
{
    json_t *answer;
    int code = ctl_call(ctl, json_pack("{s:s}", "verb", "version"), &answer);
    const char *daemon = json_string_value(json_object_get(answer, "version"));
    if (ctl->json) {
        json_t *both = json_pack("{s:s, s:s?}", "hasupctl", HASUP_VERSION, "hasupd", daemon);
        ctl_print_json(both);
        json_decref(both);
    } else {
        printf("hasupctl %s\nhasupd   %s\n", HASUP_VERSION, daemon ? daemon : "not reached");
    }
    json_decref(answer);
    return code;
}

static int verb_events(const struct ctl *ctl)
{
    return ctl_lines(ctl, "events");
}

static int verb_logs(const struct ctl *ctl)
{
    return ctl_lines(ctl, "logs");
}

/* ---- the table ---- */

static const struct verb {
    const char *name;
    int (*run)(const struct ctl *ctl);
    const char *usage, *help;
} VERBS[] = {
    {"status", ctl_status, "status [MODEL]", "models, slots, what failed and why"},
    {"start", verb_start, "start MODEL[/SLOT]", "start what was stopped; closes the breaker"},
    {"stop", verb_stop, "stop MODEL[/SLOT]", "finish what runs, refuse what waits, stop"},
    {"restart", verb_restart, "restart MODEL[/SLOT]", "one worker at a time, nothing dropped"},
    {"drain", verb_drain, "drain MODEL[/SLOT]", "finish what runs and waits, then stop"},
    {"scale", verb_scale, "scale MODEL WORKERS", "change the number of workers"},
    {"reload", verb_reload, "reload", "read the configuration again"},
    {"infer", ctl_infer, "infer MODEL [FILE]", "send a request: FILE or standard input"},
    {"events", verb_events, "events [-f] [-n N]", "what happened"},
    {"logs", verb_logs, "logs [-f] [-n N] [MODEL[/SLOT]]", "what workers printed"},
    {"checkpoint", ctl_checkpoint, "checkpoint now MODEL[/SLOT] | list [MODEL[/SLOT]] | show ID",
     "states of stateful slots"},
    {"audit", ctl_audit, "audit [--deep] [--max-age 5m] [--quiet]",
     "check the checkpoints' files; for cron"},
    {"config", verb_config, "config", "the configuration in force, with defaults"},
    {"shutdown", verb_shutdown, "shutdown", "stop hasupd"},
    {"version", verb_version, "version", "of hasupctl and hasupd"},
};

static void help(FILE *to)
{
    fputs("usage: hasupctl [-s SOCKET] [--state-dir DIR] [--json] VERB …\n\n", to);
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        fprintf(to, "  %-32s %s%s\n", VERBS[i].usage,
                strlen(VERBS[i].usage) > 32 ? "\n                                   " : "",
                VERBS[i].help);
    fputs("\nThe socket comes from -s, else HASUP_SOCKET, else the default runtime directory.\n",
          to);
}

/* Letters that differ, roughly: how far a mistyped verb is from a known one. */
static size_t distance(const char *a, const char *b)
{
    size_t row[32], m = strlen(b);
    if (m >= HASUP_LEN(row))
        return m;
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

static int unknown_verb(const char *name)
{
    size_t best = 3;
    const char *near = NULL;
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++) {
        size_t d = distance(name, VERBS[i].name);
        if (d < best) {
            best = d;
            near = VERBS[i].name;
        }
    }
    if (near)
        return ctl_usage("there is no verb \"%s\"; did you mean \"%s\"?", name, near);
    return ctl_usage("there is no verb \"%s\"; hasupctl --help lists them", name);
}

int main(int argc, char **argv)
{
    static const struct option LONG[] = {
        {"socket", required_argument, NULL, 's'}, {"state-dir", required_argument, NULL, 'd'},
        {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},      {NULL, 0, NULL, 0}};
    struct ctl ctl = {.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR")};
    int option;
    while ((option = getopt_long(argc, argv, "+s:hv", LONG, NULL)) != -1)
        switch (option) {
        case 's': ctl.socket = optarg; break;
        case 'd': ctl.state_dir = optarg; break;
        case 'j': ctl.json = true; break;
        case 'h': help(stdout); return CTL_OK;
        case 'v': printf("hasupctl %s\n", HASUP_VERSION); return CTL_OK;
        default: help(stderr); return CTL_USAGE;
        }
    if (optind == argc) {
        help(stderr);
        return CTL_USAGE;
    }
    const char *name = argv[optind++];
    /* --json may stand behind the verb too. */
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            ctl.json = true;
        else
            argv[optind + ctl.argc++] = argv[i];
    }
    ctl.argv = argv + optind;
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        if (strcmp(VERBS[i].name, name) == 0)
            return VERBS[i].run(&ctl);
    return unknown_verb(name);
}
