/*
 * main.c: hasupd's command line and life: read the configuration, listen, start the models, run
 * until everything is stopped.  Signals: TERM and INT drain and stop (a second one hastens, a third
 * kills), HUP reloads, PIPE is ignored.  Exit codes: 0 clean stop, 1 something could not be stored
 * or ended otherwise, 2 bad usage or configuration.
 */
#include "ipc/standard.h"
#include "supervisor/check.h"
#include "supervisor/control.h"
#include "supervisor/http/http.h"
#include "supervisor/init.h"
#include "supervisor/logfiles.h"
#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_USAGE_OR_CONFIG = 2 };

struct options {
    const char *config;
    bool check;
    int upgrade; /* memfd of what an older one hands over; -1: none */
    int upgrade_check; /* of what it would; -1 */
};

struct daemon {
    struct loop *loop;
    struct engine *engine;
    struct service *service;
    struct upgrade *upgrade;
    struct unix_door *door;
    struct control *control;
    struct http *http;
    bool rehearses; /* --upgrade-check: takes over, up to where it would begin to act */
};

static const char USAGE[] =
    "usage: hasupd -c FILE        run with a configuration, in the foreground\n"
    "       hasupd --check FILE   check it, and that what it names is there\n"
    "       hasupd run [-g] [-r SIG:SIG]... [-w SECONDS] [-v] [--] COMMAND [ARG]...\n"
    "                             one command under a minimal init; hasupd run -h tells more\n"
    "       hasupd --version | --help\n"
    "Read supervisor.yaml.example for every key, or start with three lines:\n"
    "    models:\n"
    "      echo:\n"
    "        command: [build/examples/echo]\n";

static void usage_exit(const char *what, const char *which)
{
    fprintf(stderr, "hasupd: %s%s\n%s", what, which ? which : "", USAGE);
    exit(EXIT_USAGE_OR_CONFIG);
}

static struct options parse_options(int argc, char **argv)
{
    static const struct option LONG[] = {{"config", required_argument, NULL, 'c'},
                                         {"check", required_argument, NULL, 'k'},
                                         {"version", no_argument, NULL, 'v'},
                                         {"help", no_argument, NULL, 'h'},
                                         {"upgrade", required_argument, NULL, 'U'},
                                         {"upgrade-check", required_argument, NULL, 'K'},
                                         {NULL, 0, NULL, 0}};
    static char name[] = "hasupd"; /* what getopt calls itself */
    struct options options = {.upgrade = -1, .upgrade_check = -1};
    int option;
    argv[0] = name;
    while ((option = getopt_long(argc, argv, "c:hv", LONG, NULL)) != -1)
        switch (option) {
        case 'c': options.config = optarg; break;
        case 'k':
            options.config = optarg;
            options.check = true;
            break;
        case 'U': options.upgrade = atoi(optarg); break;
        case 'K': options.upgrade_check = atoi(optarg); break;
        case 'v': printf("hasupd %s\n", HASUP_VERSION); exit(hasup_standard_end("hasupd", 0));
        case 'h': fputs(USAGE, stdout); exit(hasup_standard_end("hasupd", 0));
        default: fputs(USAGE, stderr); exit(EXIT_USAGE_OR_CONFIG);
        }
    if (optind < argc)
        usage_exit("unexpected argument: ", argv[optind]);
    if (!options.config)
        usage_exit("which configuration? give -c FILE", NULL);
    return options;
}

/* What serves where nothing may be written. */
static const char *without(const char *key)
{
    return strcmp(key, "state_dir") == 0
               ? "; where nothing may be written: state_dir: off, which keeps nothing"
               : "; where nothing may be written: runtime_dir: off and listen.unix: off, which "
                 "leave HTTP and signals";
}

/* Makes a directory and those above it, 0700. */
static int make_directory(const char *path, const char *key, char error[CONFIG_ERROR_MAX])
{
    char part[4096];
    size_t len = strlen(path);
    struct stat st;
    if (len >= sizeof part) {
        snprintf(error, CONFIG_ERROR_MAX, "%s: the path is too long", key);
        return HASUP_ECONFIG;
    }
    for (size_t i = 1; i <= len; i++)
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(part, path, i);
            part[i] = '\0';
            int why = mkdir(part, 0700) ? errno : EEXIST;
            if (why != EEXIST && (why != EROFS || stat(part, &st))) {
                snprintf(error, CONFIG_ERROR_MAX, "%s: cannot make %.700s: %s%s", key, part,
                         strerror(why), without(key));
                return HASUP_ESYS;
            }
        }
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        snprintf(error, CONFIG_ERROR_MAX, "%s: %.700s is not a directory", key, path);
        return HASUP_ESYS;
    }
    return 0;
}

/* Below a directory that anybody may write to, such as /tmp, anybody can have made it before us. */
static int check_owner(const char *path, const char *key, char error[CONFIG_ERROR_MAX])
{
    char parent[4096];
    struct stat above, st;
    snprintf(parent, sizeof parent, "%s", path);
    if (stat(dirname(parent), &above) || !(above.st_mode & S_IWOTH))
        return 0;
    if (lstat(path, &st)) {
        snprintf(error, CONFIG_ERROR_MAX, "%s: %.700s: %s", key, path, strerror(errno));
        return HASUP_ESYS;
    }
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077))
        return 0;
    snprintf(error, CONFIG_ERROR_MAX,
             "%s: %.700s is not safe: anybody may write beside it, and it is not a directory of "
             "this user's own with mode 0700; remove it, or name another %s",
             key, path, key);
    return HASUP_ECONFIG;
}

static void on_stop_signal(void *context, int signo)
{
    struct daemon *daemon = context;
    LOG_EVENT(LEVEL_INFO, "signal", strsignal(signo), LOG_INT("signal", signo));
    if (daemon->http)
        http_drain(daemon->http);
    control_shutdown(daemon->control);
}

static void on_reload_signal(void *context, int signo)
{
    struct daemon *daemon = context;
    char error[CONFIG_ERROR_MAX];
    (void)signo;
    (void)!control_reload(daemon->control, error); /* it logs what is wrong */
    logfiles_reopen(daemon->engine->printed.files);
}

/* `takeover`: an older hasupd left what listens; NULL: none did. */
static int open_doors(struct daemon *daemon, const struct config *config,
                      const struct takeover *takeover, char error[CONFIG_ERROR_MAX])
{
    if (config->listen_unix)
        daemon->door = unix_door_new(daemon->engine, config->listen_unix,
                                     takeover ? takeover->unix_door : 0, error);
    if (config->listen_unix && !daemon->door) {
        char place[4096];
        size_t len = strlen(error);
        snprintf(place, sizeof place, "%s", config->listen_unix);
        if (access(dirname(place), W_OK))
            snprintf(error + len, CONFIG_ERROR_MAX - len, "%s", without("listen.unix"));
        return HASUP_ESYS;
    }
    if (!config->listen_http)
        return 0;
    const struct http_options options = {.listen = config->listen_http,
                                         .listener = takeover ? takeover->http : 0,
                                         .connections = config->limits.connections,
                                         .stream_bytes = config->limits.stream_bytes,
                                         .body_bytes = config->limits.body_bytes,
                                         .pool = peers_pool(daemon->engine->peers)};
    daemon->http = http_new(daemon->loop, daemon->engine, &options, error);
    if (!daemon->http)
        return HASUP_ESYS;
    daemon->engine->http_port = http_port(daemon->http);
    return 0;
}

static int open_signals(struct daemon *daemon, char error[CONFIG_ERROR_MAX])
{
    sigset_t none;
    signal(SIGPIPE, SIG_IGN);
    if (loop_signal(daemon->loop, SIGTERM, on_stop_signal, daemon) ||
        loop_signal(daemon->loop, SIGINT, on_stop_signal, daemon) ||
        loop_signal(daemon->loop, SIGHUP, on_reload_signal, daemon)) {
        snprintf(error, CONFIG_ERROR_MAX, "cannot catch signals: %s", strerror(errno));
        return HASUP_ESYS;
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* ---- upgrades ---- */

static const char *daemon_holds(void *context)
{
    struct daemon *daemon = context;
    const char *holds = engine_holds(daemon->engine);
    if (!holds)
        holds = control_holds(daemon->control);
    if (!holds && daemon->door)
        holds = unix_door_holds(daemon->door);
    return holds || !daemon->http ? holds : http_holds(daemon->http);
}

/* All that stands behind the core's part. */
static void daemon_parts_carry(struct daemon *daemon, struct carry *carry)
{
    carry->codec.what = "its shared memory";
    carry_buffers(carry);
    codec_begin(&carry->codec);
    peers_carry(carry, daemon->engine->peers);
    codec_end(&carry->codec);
    engine_carry(carry, daemon->engine);
    carry->codec.what = "its events and lines";
    control_base_carry(carry, daemon->control);
    carry->codec.what = "its local clients";
    if (daemon->door)
        unix_door_carry(carry, daemon->door);
    carry->codec.what = "its HTTP clients";
    if (daemon->http)
        http_carry(carry, daemon->http);
}

static void daemon_carry(void *context, struct carry *carry)
{
    struct daemon *daemon = context;
    struct takeover head = {.version = HASUP_VERSION,
                            .began = carry->began,
                            .http = daemon->http ? http_listener(daemon->http) : -1,
                            .unix_door = daemon->door ? unix_door_listener(daemon->door) : -1,
                            .off = config_off(daemon->engine->config)};
    carry->engine = daemon->engine;
    upgrade_head_carry(carry, &head);
    engine_names_carry(carry, daemon->engine->config, daemon->engine);
    engine_core_carry(carry, daemon->engine);
    engine_base_carry(carry, daemon->engine);
    daemon_parts_carry(daemon, carry);
}

static void daemon_leaving(void *context)
{
    struct daemon *daemon = context;
    programs_pause(daemon->engine);
}

static void daemon_upgrade_failed(void *context, const char *why)
{
    struct daemon *daemon = context;
    programs_go_on(daemon->engine);
    control_upgrade_failed(daemon->control, why);
}

static const struct upgrade_ops UPGRADE_OPS = {
    .holds = daemon_holds,
    .carry = daemon_carry,
    .leaving = daemon_leaving,
    .failed = daemon_upgrade_failed};

static int daemon_upgrade(void *context, const char *binary, char why[CONFIG_ERROR_MAX])
{
    struct daemon *daemon = context;
    return upgrade_ask(daemon->upgrade, binary, why);
}

/* ---- life ---- */

static int make_directories(const struct config *config, char error[CONFIG_ERROR_MAX])
{
    const struct {
        const char *key, *path;
    } each[] = {{"state_dir", config->state_dir}, {"runtime_dir", config->runtime_dir}};
    int failed = 0;
    for (size_t i = 0; i < HASUP_LEN(each) && !failed; i++) {
        if (!each[i].path)
            continue;
        failed = make_directory(each[i].path, each[i].key, error);
        if (!failed)
            failed = check_owner(each[i].path, each[i].key, error);
    }
    return failed;
}

/* What follows the doors. */
static int daemon_open_rest(struct daemon *daemon, const char *file)
{
    daemon->service = service_new(daemon->loop);
    daemon->control = daemon->service ? control_new(daemon->engine, file, daemon->service) : NULL;
    daemon->upgrade = upgrade_new(daemon->loop, &UPGRADE_OPS, daemon, file);
    if (!daemon->control || !daemon->upgrade)
        return HASUP_ENOMEM;
    control_set_upgrade(daemon->control, daemon_upgrade, daemon);
    if (daemon->door)
        unix_door_set_control(daemon->door, daemon->control);
    return 0;
}

/* 0, or a negative code and `error`.  Takes `config`.  `takeover`: what an older hasupd left. */
static int daemon_open(struct daemon *daemon, struct config *config, const char *file,
                       struct takeover *takeover, char error[CONFIG_ERROR_MAX])
{
    int failed = daemon->rehearses ? 0 : make_directories(config, error);
    if (failed) {
        config_free(config);
        return failed;
    }
    snprintf(error, CONFIG_ERROR_MAX, "out of memory");
    daemon->loop = loop_new();
    if (!daemon->loop) {
        config_free(config);
        return HASUP_ENOMEM;
    }
    if (!daemon->rehearses)
        log_attach(daemon->loop, (size_t)config->log.buffer);
    daemon->engine = takeover
                         ? engine_resume(daemon->loop, config, &takeover->carry, error)
                         : engine_new(daemon->loop, config, "", error);
    if (!daemon->engine)
        return HASUP_ESYS;
    failed = open_doors(daemon, daemon->engine->config, takeover, error);
    if (!failed)
        failed = open_signals(daemon, error);
    return failed ? failed : daemon_open_rest(daemon, file);
}

/* Takes the place of an older hasupd; 0, or a negative code and `error`. */
static int daemon_take_over(struct daemon *daemon, struct config *config,
                            const struct options *options, char error[CONFIG_ERROR_MAX])
{
    struct takeover takeover;
    int failed = takeover_begin(&takeover, options->upgrade, error);
    if (failed) {
        config_free(config);
        return failed;
    }
    takeover.carry.dry = daemon->rehearses;
    upgrade_head_carry(&takeover.carry, &takeover);
    engine_names_carry(&takeover.carry, config, NULL);
    failed = daemon_open(daemon, config, options->config, &takeover, error);
    if (!failed) {
        takeover.carry.engine = daemon->engine;
        daemon_parts_carry(daemon, &takeover.carry);
        failed = takeover_end(&takeover, error);
    } else if (takeover.carry.codec.failed) {
        failed = takeover_end(&takeover, error); /* says which part it was */
    }
    if (!failed && !daemon->rehearses) {
        engine_resumed(daemon->engine);
        control_upgraded(daemon->control, takeover.version, loop_clock() - takeover.began);
    }
    takeover_free(&takeover);
    malloc_trim(0); /* what was only needed for that */
    return failed;
}

/* hasupd --upgrade-check: whether this version could take over all of it.  It does that with what
 * stands for the descriptors, beside the one that serves, and is gone before anything acts: nothing
 * is given back in order, because that would end the workers. */
static void rehearse(const struct options *options)
{
    char why[CONFIG_ERROR_MAX] = "";
    struct daemon daemon = {.rehearses = true};
    struct options again = *options;
    again.upgrade = fcntl(options->upgrade_check, F_DUPFD_CLOEXEC, 0);
    log_mute();
    int failed = upgrade_check(options->upgrade_check, options->config, why);
    struct config *config = failed ? NULL : config_load(options->config, why);
    if (config)
        failed = daemon_take_over(&daemon, config, &again, why);
    printf("%s\n", failed || !config ? why : "ok " HASUP_VERSION);
    fflush(stdout);
    _exit(failed || !config);
}

static void close_doors(struct daemon *daemon)
{
    if (daemon->http)
        http_free(daemon->http);
    unix_door_free(daemon->door);
    daemon->http = NULL;
    daemon->door = NULL;
}

/* After the loop; the exit code. */
static int daemon_end(struct daemon *daemon)
{
    close_doors(daemon);
    control_end(daemon->control);
    return engine_end(daemon->engine);
}

static void daemon_close(struct daemon *daemon)
{
    close_doors(daemon);
    upgrade_free(daemon->upgrade);
    control_free(daemon->control);
    service_free(daemon->service);
    engine_free(daemon->engine);
    log_end();
    if (daemon->loop)
        loop_free(daemon->loop);
}

static void print_fine(const struct config *config)
{
    size_t programs = 0;
    for (size_t i = 0; i < config->model_count; i++)
        programs += config_is_program(&config->models[i]);
    const size_t models = config->model_count - programs;
    printf("%s: ok, %zu model%s", config->file, models, models == 1 ? "" : "s");
    if (programs)
        printf(", %zu program%s", programs, programs == 1 ? "" : "s");
    putchar('\n');
}

/* The exit code.  Takes `config`. */
static int check(struct config *config)
{
    char error[CONFIG_ERROR_MAX];
    int failed = check_named(config, error);
    if (failed)
        fprintf(stderr, "hasupd: %s\n", error);
    else
        print_fine(config);
    config_free(config);
    return failed ? EXIT_USAGE_OR_CONFIG : 0;
}

static void daemon_begin(struct daemon *daemon)
{
    LOG_EVENT(
        LEVEL_INFO, "hasupd.started", HASUP_VERSION, LOG_INT("pid", getpid()),
        LOG_TEXT(daemon->door ? "unix" : NULL, daemon->door ? unix_door_path(daemon->door) : ""),
        LOG_INT(daemon->http ? "http_port" : NULL, daemon->http ? http_port(daemon->http) : 0),
        LOG_TEXT("cgroups", processes_use_cgroups(daemon->engine->processes) ? "yes" : "no"));
    engine_start(daemon->engine);
}

int main(int argc, char **argv)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* a TERM that comes early waits for its handler */
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return init_run(argc - 1, argv + 1, &before);
    hasup_standard_open(); /* a log must not be written into a database */
    struct options options = parse_options(argc, argv);
    char error[CONFIG_ERROR_MAX] = "";
    struct daemon daemon = {0};
    if (options.upgrade_check >= 0)
        rehearse(&options);
    struct config *config = config_load(options.config, error);
    if (!config) {
        fprintf(stderr, "hasupd: %s\n", error);
        return EXIT_USAGE_OR_CONFIG;
    }
    if (options.check)
        return hasup_standard_end("hasupd", check(config));
    log_init(STDERR_FILENO, config->log.level, config->log.format);
    bool resumes = options.upgrade >= 0;
    if (resumes ? daemon_take_over(&daemon, config, &options, error)
                : daemon_open(&daemon, config, options.config, NULL, error)) {
        fprintf(stderr, "hasupd: %s\n", error);
        daemon_close(&daemon);
        return EXIT_USAGE_OR_CONFIG;
    }
    if (!resumes)
        daemon_begin(&daemon);
    service_ready(daemon.service, "serving");
    loop_run(daemon.loop);
    int code = daemon_end(&daemon);
    daemon_close(&daemon);
    return code;
}
