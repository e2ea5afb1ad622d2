/*
 * main.c: hasupd's command line and life: read the configuration, listen, start the models, run
 * until everything is stopped.  Signals: TERM and INT drain and stop (a second one hastens), HUP
 * reloads, PIPE is ignored.  Exit codes: 0 clean stop, 1 something could not be stored or ended
 * otherwise, 2 bad usage or configuration.
 */
#include "supervisor/check.h"
#include "supervisor/control.h"
#include "supervisor/http/http.h"
#include "supervisor/init.h"
#include "supervisor/logfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_USAGE_OR_CONFIG = 2 };

struct options {
    const char *config;
    bool check;
};

struct daemon {
    struct loop *loop;
    struct engine *engine;
    struct service *service;
    struct unix_door *door;
    struct control *control;
    struct http *http;
};

static const char USAGE[] =
    "usage: hasupd -c FILE        run with a configuration, in the foreground\n"
    "       hasupd --check FILE   check it, and that what it names is there\n"
    "       hasupd run [-g] [-r SIG:SIG]... [-w SECONDS] [--] COMMAND [ARG]...\n"
    "                             one command under a minimal init; hasupd run -h tells more\n"
    "       hasupd --version | --help\n"
    "Read supervisor.yaml.example for every key, or start with three lines:\n"
    "    models:\n"
    "      echo:\n"
    "        command: [build/examples/echo]\n";

/* Whoever started hasupd may have closed these; a log must not be written into a database. */
static void standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

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
                                         {NULL, 0, NULL, 0}};
    static char name[] = "hasupd"; /* what getopt calls itself */
    struct options options = {0};
    int option;
    argv[0] = name;
    while ((option = getopt_long(argc, argv, "c:hv", LONG, NULL)) != -1)
        switch (option) {
        case 'c': options.config = optarg; break;
        case 'k':
            options.config = optarg;
            options.check = true;
            break;
        case 'v': printf("hasupd %s\n", HASUP_VERSION); exit(0);
        case 'h': fputs(USAGE, stdout); exit(0);
        default: fputs(USAGE, stderr); exit(EXIT_USAGE_OR_CONFIG);
        }
    if (optind < argc)
        usage_exit("unexpected argument: ", argv[optind]);
    if (!options.config)
        usage_exit("which configuration? give -c FILE", NULL);
    return options;
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
            if (mkdir(part, 0700) && errno != EEXIST && errno != EROFS) {
                snprintf(error, CONFIG_ERROR_MAX, "%s: cannot make %.700s: %s", key, part,
                         strerror(errno));
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

static int open_doors(struct daemon *daemon, const struct config *config,
                      char error[CONFIG_ERROR_MAX])
{
    char path[4096];
    snprintf(path, sizeof path, "%s/hasup.sock", config->runtime_dir);
    daemon->door =
        unix_door_new(daemon->engine, config->listen_unix ? config->listen_unix : path, error);
    if (!daemon->door)
        return HASUP_ESYS;
    if (!config->listen_http)
        return 0;
    const struct http_options options = {.listen = config->listen_http,
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

/* 0, or a negative code and `error`.  Takes `config`. */
static int daemon_open(struct daemon *daemon, struct config *config, const char *file,
                       char error[CONFIG_ERROR_MAX])
{
    int failed = make_directory(config->state_dir, "state_dir", error);
    if (!failed)
        failed = check_owner(config->state_dir, "state_dir", error);
    if (!failed)
        failed = make_directory(config->runtime_dir, "runtime_dir", error);
    if (!failed)
        failed = check_owner(config->runtime_dir, "runtime_dir", error);
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
    log_attach(daemon->loop, (size_t)config->log.buffer);
    daemon->engine = engine_new(daemon->loop, config, "", error);
    if (!daemon->engine)
        return HASUP_ESYS;
    failed = open_doors(daemon, daemon->engine->config, error);
    if (!failed)
        failed = open_signals(daemon, error);
    if (failed)
        return failed;
    daemon->service = service_new(daemon->loop);
    daemon->control = daemon->service ? control_new(daemon->engine, file, daemon->service) : NULL;
    if (!daemon->control)
        return HASUP_ENOMEM;
    unix_door_set_control(daemon->door, daemon->control);
    return 0;
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
    control_free(daemon->control);
    service_free(daemon->service);
    engine_free(daemon->engine);
    log_end();
    if (daemon->loop)
        loop_free(daemon->loop);
}

/* The exit code.  Takes `config`. */
static int check(struct config *config)
{
    char error[CONFIG_ERROR_MAX];
    int failed = check_named(config, error);
    if (failed)
        fprintf(stderr, "hasupd: %s\n", error);
    else
        printf("%s: ok, %zu model%s\n", config->file, config->model_count,
               config->model_count == 1 ? "" : "s");
    config_free(config);
    return failed ? EXIT_USAGE_OR_CONFIG : 0;
}

int main(int argc, char **argv)
{
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* a TERM that comes early waits for its handler */
    if (argc > 1 && strcmp(argv[1], "run") == 0)
        return init_run(argc - 1, argv + 1, &before);
    standard_descriptors();
    struct options options = parse_options(argc, argv);
    char error[CONFIG_ERROR_MAX] = "";
    struct daemon daemon = {0};
    struct config *config = config_load(options.config, error);
    if (!config) {
        fprintf(stderr, "hasupd: %s\n", error);
        return EXIT_USAGE_OR_CONFIG;
    }
    if (options.check)
        return check(config);
    log_init(STDERR_FILENO, config->log.level, config->log.format);
    if (daemon_open(&daemon, config, options.config, error)) {
        fprintf(stderr, "hasupd: %s\n", error);
        daemon_close(&daemon);
        return EXIT_USAGE_OR_CONFIG;
    }
    LOG_EVENT(LEVEL_INFO, "hasupd.started", HASUP_VERSION, LOG_INT("pid", getpid()),
              LOG_TEXT("unix", unix_door_path(daemon.door)),
              LOG_INT(daemon.http ? "http_port" : NULL, daemon.http ? http_port(daemon.http) : 0),
              LOG_TEXT("cgroups", processes_use_cgroups(daemon.engine->processes) ? "yes" : "no"));
    engine_start(daemon.engine);
    service_ready(daemon.service, "serving");
    loop_run(daemon.loop);
    int code = daemon_end(&daemon);
    daemon_close(&daemon);
    return code;
}
