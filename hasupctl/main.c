/*
 * main.c: hasupctl's command line: a table of verbs.  Talks to hasupd over its Unix socket;
 * checkpoint (all but now) and audit work on the files alone and without it.  Exit codes: 0 done, 1
 * refused or failed (audit: findings), 2 bad usage (audit: could not check), 3 hasupd cannot be
 * reached.  A 0 becomes 1 where what was printed could not be written.
 */
#include "hasupctl/hasupctl.h"

#include "ipc/base.h"
#include "ipc/standard.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { CALL_TIMEOUT_MS = 60 * 1000, HELP_USAGE = 22, WIDTH_DEFAULT = 80 };

/* ---- calling hasupd ---- */

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("hasupctl: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nusage: hasupctl %s\n", ctl->usage);
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

int ctl_refused(const struct hasup_client_answer *answer)
{
    json_error_t at;
    json_t *json = json_loadb((const char *)answer->body, answer->len, 0, &at);
    const char *message =
        json_string_value(json_object_get(json_object_get(json, "error"), "message"));
    fprintf(stderr, "hasupctl: %s\n", message ? message : answer->error);
    json_decref(json);
    return CTL_FAILED;
}

int ctl_call_within(const struct ctl *ctl, json_t *command, int64_t limit_ms, json_t **answer)
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
            error = hasup_client_wait(client, limit_ms, &got);
        if (!error && limit_ms >= 0 && limit_ms != CALL_TIMEOUT_MS) {
            code = CTL_TIMEOUT;
        } else if (error <= 0) {
            fprintf(stderr, "hasupctl: no answer from hasupd: %s\n",
                    error ? hasup_strerror(error) : "the time limit passed");
        } else if (got.status != 200) {
            code = ctl_refused(&got);
        } else {
            *answer = json_loadb((const char *)got.body, got.len, 0, NULL);
            code = *answer ? CTL_OK : CTL_FAILED;
        }
    }
    hasup_client_close(client);
    free(text);
    return code;
}

int ctl_call(const struct ctl *ctl, json_t *command, json_t **answer)
{
    return ctl_call_within(ctl, command, CALL_TIMEOUT_MS, answer);
}

int ctl_await(const struct ctl *ctl, json_t *command, json_t **answer)
{
    return ctl_call_within(ctl, command, -1, answer);
}

void ctl_print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* A command that is answered by ok. */
HASUP_PRINTF(3, 4)
static int call_simple(const struct ctl *ctl, json_t *command, const char *done, ...)
{
    va_list args;
    json_t *answer;
    int code = ctl_call(ctl, command, &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    if (code == CTL_OK && !ctl->json) {
        va_start(args, done);
        vprintf(done, args);
        va_end(args);
        putchar('\n');
    }
    json_decref(answer);
    return code;
}

/* ---- the small verbs ---- */

static int no_arguments(const struct ctl *ctl)
{
    return ctl->argc ? ctl_usage(ctl, "unexpected argument: %s", ctl->argv[0]) : CTL_OK;
}

static int target_verb(const struct ctl *ctl, const char *verb, const char *done)
{
    if (ctl->argc != 1)
        return ctl_usage(ctl, ctl->argc ? "one model or slot at a time" : "which model or slot?");
    return call_simple(ctl, json_pack("{s:s, s:s}", "verb", verb, "target", ctl->argv[0]), "%s: %s",
                       ctl->argv[0], done);
}

static int verb_start(const struct ctl *ctl)
{
    return target_verb(ctl, "start", "starting");
}

static int verb_stop(const struct ctl *ctl)
{
    return target_verb(ctl, "stop", "stopping");
}

static int verb_drain(const struct ctl *ctl)
{
    return target_verb(ctl, "drain", "draining");
}

static int verb_scale(const struct ctl *ctl)
{
    char *end = NULL;
    if (ctl->argc != 2)
        return ctl_usage(ctl, "a model and how many workers");
    long workers = strtol(ctl->argv[1], &end, 10);
    if (*end || end == ctl->argv[1] || workers < 0 || workers > INT32_MAX)
        return ctl_usage(ctl, "\"%s\" is not a number of workers", ctl->argv[1]);
    return call_simple(ctl,
                       json_pack("{s:s, s:s, s:i}", "verb", "scale", "target", ctl->argv[0],
                                 "workers", (int)workers),
                       "%s: scaling to %ld", ctl->argv[0], workers);
}

static int verb_config(const struct ctl *ctl)
{
    json_t *answer;
    int wrong = no_arguments(ctl);
    if (wrong)
        return wrong;
    int code = ctl_call(ctl, json_pack("{s:s}", "verb", "config"), &answer);
    if (code == CTL_OK)
        ctl_print_json(answer);
    json_decref(answer);
    return code;
}

static int verb_version(const struct ctl *ctl)
{
    json_t *answer;
    int wrong = no_arguments(ctl);
    if (wrong)
        return wrong;
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

/* ---- the table ---- */

#define USAGE "[-s SOCKET] [--state-dir DIR] [--json]"

static const struct ctl_verb VERBS[] = {
    {"status", ctl_status, false, "status [MODEL]", "models and slots; what failed and why"},
    {"top", ctl_top, true, "top [-d SECONDS]", "models and slots, live; h: its keys"},
    {"start", verb_start, false, "start MODEL[/SLOT]", "start what is stopped or broken"},
    {"stop", verb_stop, false, "stop MODEL[/SLOT]", "finish what runs, refuse what waits"},
    {"restart", ctl_restart, true, "restart MODEL[/SLOT] [--wait]",
     "one at a time, nothing dropped"},
    {"drain", verb_drain, false, "drain MODEL[/SLOT]", "finish what runs and waits, stop"},
    {"scale", verb_scale, true, "scale MODEL WORKERS", "change the number of workers, or slots"},
    {"reload", ctl_reload, true, "reload [--wait]", "read the configuration again"},
    {"upgrade", ctl_upgrade, true, "upgrade [--binary PATH]",
     "replace hasupd, drop nothing"},
    {"canary", ctl_canary, true, "canary MODEL --weight N", "try what the file says beside it"},
    {"promote", ctl_promote, true, "promote MODEL [--wait]", "the canary takes over"},
    {"abort", ctl_abort, true, "abort MODEL", "end a canary, roll a rollout back"},
    {"infer", ctl_infer, true, "infer [--key KEY] [--async] MODEL [FILE]",
     "send FILE or standard input"},
    {"requests", ctl_requests, true, "requests [list|show|drop|retry|letters] …",
     "durable requests, dead letters"},
    {"events", ctl_events, true, "events [-f] [OPTIONS] [MODEL[/SLOT]]", "what happened"},
    {"logs", ctl_logs, true,
     "logs [-f] [OPTIONS] [MODEL[/SLOT] …]", "what workers and programs printed"},
    {"checkpoint", ctl_checkpoint, true, "checkpoint now|list|show|export|import|prune …",
     "saved states of slots"},
    {"audit", ctl_audit, true, "audit [OPTIONS]", "check the files, for cron"},
    {"config", verb_config, false, "config", "what is in force, as JSON"},
    {"why", ctl_why, false, "why MODEL[/SLOT]", "how it died, and what comes next"},
    {"wait", ctl_wait, true, "wait MODEL[/SLOT] --ready|--stopped|--idle [--timeout 30s]",
     "until it is so, for scripts"},
    {"shutdown", ctl_shutdown, true, "shutdown [--explain|--now]", "stop hasupd"},
    {"version", verb_version, false, "version", "of hasupctl and hasupd"},
};

/* "  status [MODEL]           models …"; a long usage has its help on the next line. */
static void help_line(FILE *to, const struct ctl_verb *verb)
{
    if (strlen(verb->usage) <= HELP_USAGE)
        fprintf(to, "  %-*s %s\n", HELP_USAGE, verb->usage, verb->help);
    else
        fprintf(to, "  %s\n  %-*s %s\n", verb->usage, HELP_USAGE, "", verb->help);
}

static void help(FILE *to)
{
    fputs("usage: hasupctl " USAGE " VERB …\n\n", to);
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        help_line(to, &VERBS[i]);
    fputs("\nMODEL is the name of a model or of a program (docs/programs.md).\n"
          "--json: every verb answers in JSON.  A socket comes from -s,\n"
          "else HASUP_SOCKET, else the default runtime directory.\n"
          "--key-file FILE: the keys of sealed checkpoints.\n"
          "hasupctl VERB --help: one verb.  More: docs/hasupctl.md\n",
          to);
}

static int unknown_verb(const char *name)
{
    struct ctl_near near = {0};
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        ctl_near(&near, name, VERBS[i].name);
    if (near.name)
        fprintf(stderr, "hasupctl: there is no verb \"%s\"; did you mean \"%s\"?\n", name,
                near.name);
    else
        fprintf(stderr, "hasupctl: there is no verb \"%s\"; hasupctl --help lists them\n", name);
    return CTL_USAGE;
}

const char *ctl_verb_more(const struct ctl_verb *verb)
{
    return verb->run == ctl_audit        ? CTL_AUDIT_OPTIONS
           : verb->run == ctl_events     ? CTL_EVENTS_OPTIONS
           : verb->run == ctl_logs       ? CTL_LOGS_OPTIONS
           : verb->run == ctl_checkpoint ? CTL_CHECKPOINT_VERBS
           : verb->run == ctl_requests   ? CTL_REQUESTS_VERBS
                                         : "";
}

/* Sorts out what every verb takes: --json anywhere, --help, no option that it does not know. */
static int run_verb(struct ctl *ctl, const struct ctl_verb *verb, int argc, char **argv)
{
    ctl->usage = verb->usage;
    ctl->argv = argv;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            printf("usage: hasupctl %s\n%s\n%s", verb->usage, verb->help, ctl_verb_more(verb));
            return CTL_OK;
        }
        if (strcmp(argv[i], "--json") == 0)
            ctl->json = true;
        else if (!verb->options && argv[i][0] == '-' && argv[i][1])
            return ctl_usage(ctl, "unknown option %s", argv[i]);
        else
            argv[ctl->argc++] = argv[i];
    }
    return verb->run(ctl);
}

/* COLUMNS, else the terminal's, else 80. */
static int screen_width(void)
{
    const char *columns = getenv("COLUMNS");
    int named = columns ? atoi(columns) : 0;
    struct winsize size;
    if (named > 0)
        return named;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return WIDTH_DEFAULT;
}

static bool wants_colour(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static int unknown_option(void)
{
    fputs("hasupctl --help lists options and verbs\n", stderr);
    return CTL_USAGE;
}

static int run(int argc, char **argv)
{
    static char name[] = "hasupctl"; /* what getopt calls itself */
    static const struct option LONG[] = {{"socket", required_argument, NULL, 's'},
                                         {"state-dir", required_argument, NULL, 'd'},
                                         {"key-file", required_argument, NULL, 'k'},
                                         {"json", no_argument, NULL, 'j'},
                                         {"help", no_argument, NULL, 'h'},
                                         {"version", no_argument, NULL, 'v'},
                                         {"complete", no_argument, NULL, 'C'},
                                         {NULL, 0, NULL, 0}};
    struct ctl ctl = {.colour = wants_colour(), .width = screen_width()};
    int option;
    argv[0] = name;
    while ((option = getopt_long(argc, argv, "+s:hv", LONG, NULL)) != -1)
        switch (option) {
        case 's': ctl.socket = optarg; break;
        case 'd': ctl.state_dir = optarg; break;
        case 'k': ctl.key_file = optarg; break;
        case 'j': ctl.json = true; break;
        case 'h': help(stdout); return CTL_OK;
        case 'v': printf("hasupctl %s\n", HASUP_VERSION); return CTL_OK;
        case 'C': /* for completion/ */
            ctl.argc = argc - optind;
            ctl.argv = argv + optind;
            return ctl_complete(
                &ctl, USAGE " [--key-file FILE] [--socket SOCKET] [--help] [--version]", VERBS,
                HASUP_LEN(VERBS));
        default: return unknown_option();
        }
    if (optind == argc) {
        help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[optind], "help") == 0) { /* as others have it */
        static char wanted[] = "--help";
        if (optind + 1 == argc) {
            help(stdout);
            return CTL_OK;
        }
        argv[optind] = argv[optind + 1];
        argv[optind + 1] = wanted;
    }
    for (size_t i = 0; i < HASUP_LEN(VERBS); i++)
        if (strcmp(VERBS[i].name, argv[optind]) == 0)
            return run_verb(&ctl, &VERBS[i], argc - optind - 1, argv + optind + 1);
    return unknown_verb(argv[optind]);
}

int main(int argc, char **argv)
{
    hasup_standard_open();
    return hasup_standard_end("hasupctl", run(argc, argv));
}
