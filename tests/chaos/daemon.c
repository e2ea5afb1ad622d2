/*
 * daemon.c: hasupd as a child process, in a directory of its own, with the examples as its models.
 * Its status comes over the client library; so do the pids of those that are killed.
 */
#include "tests/chaos/chaos.h"

#include "client/hasup_client.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_TRIES = 600, READY_PAUSE_MS = 50, CALL_MS = 10 * 1000 };

struct daemon {
    pid_t pid;
    const char *build;
    bool verbose;
    uint64_t restarts; /* of workers, in earlier lives */
    char directory[256], socket[300];
    struct hasup_client *client;
    int port;
};

/* BUILD stands for the directory with the programs; the file's own directory is the daemon's. */
static const char CONFIG[] = "state_dir: state\n"
                             "runtime_dir: .\n"
                             "listen: {http: '127.0.0.1:0'}\n"
                             "shutdown: {grace: 10s}\n"
                             "models:\n"
                             "  digits:\n"
                             "    command: [BUILD/examples/digits]\n"
                             "    workers: 3\n"
                             "    timeouts: {attempt: 2s}\n"
                             "  textgen:\n"
                             "    command: [BUILD/examples/textgen]\n"
                             "    workers: 2\n"
                             "    timeouts: {attempt: 2s}\n"
                             "  counter:\n"
                             "    command: [BUILD/examples/counter]\n"
                             "    journal: always\n"
                             "    checkpoint: {interval: 500ms}\n"
                             "    timeouts: {attempt: 2s}\n";

/* Python takes a second to load; a few of those, killed on the way, must not open the breaker here.
 */
static const char CONFIG_PYTHON[] = "  digits-py:\n"
                                    "    command: [/usr/bin/python3, BUILD/../examples/digits.py]\n"
                                    "    workers: 2\n"
                                    "    timeouts: {attempt: 5s}\n"
                                    "    restart: {start_limit: 1000, backoff_max: 200ms}\n";

static void write_with(FILE *file, const char *text, const char *build)
{
    const char *mark;
    for (; (mark = strstr(text, "BUILD")); text = mark + 5)
        fprintf(file, "%.*s%s", (int)(mark - text), text, build);
    fputs(text, file);
}

static int write_config(const struct daemon *daemon, const char *build, bool with_python)
{
    char path[300], absolute[4096];
    snprintf(path, sizeof path, "%s/supervisor.yaml", daemon->directory);
    FILE *file = fopen(path, "we");
    if (!file || !realpath(build, absolute)) {
        perror(file ? build : path);
        return -1;
    }
    write_with(file, CONFIG, absolute);
    if (with_python)
        write_with(file, CONFIG_PYTHON, absolute);
    return fclose(file);
}

static int launch(struct daemon *daemon)
{
    char program[4096], config[300], log[300];
    snprintf(program, sizeof program, "%s/hasupd", daemon->build);
    snprintf(config, sizeof config, "%s/supervisor.yaml", daemon->directory);
    snprintf(log, sizeof log, "%s/log", daemon->directory);
    daemon->pid = fork();
    if (daemon->pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (!daemon->verbose && fd >= 0)
            dup2(fd, STDERR_FILENO);
        execl(program, program, "-c", config, (char *)NULL);
        perror(program);
        _exit(127);
    }
    return daemon->pid < 0 ? -1 : 0;
}

/* The status; NULL: not to be had.  The caller's reference. */
static json_t *status(struct daemon *daemon)
{
    struct hasup_client_answer answer;
    char error[256];
    uint64_t id;
    if (!daemon->client)
        daemon->client = hasup_client_open(daemon->socket, error);
    if (!daemon->client || hasup_client_control(daemon->client, "{\"verb\":\"status\"}", &id) ||
        hasup_client_wait(daemon->client, CALL_MS, &answer) != 1)
        return NULL;
    return json_loadb((const char *)answer.body, answer.len, 0, NULL);
}

/* Until every model serves, or (`listens`) until it answers at all. */
static int wait_ready(struct daemon *daemon, bool listens)
{
    for (int i = 0; i < READY_TRIES; i++) {
        json_t *now = status(daemon);
        bool ready = json_is_true(json_object_get(now, "ready"));
        daemon->port = (int)json_integer_value(json_object_get(now, "http_port"));
        json_decref(now);
        if (ready || (listens && daemon->port))
            return 0;
        if (waitpid(daemon->pid, NULL, WNOHANG) == daemon->pid)
            return -1;
        poll(NULL, 0, READY_PAUSE_MS);
    }
    return -1;
}

static void show_log(const struct daemon *daemon)
{
    char path[300], line[1024];
    snprintf(path, sizeof path, "%s/log", daemon->directory);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file))
        fputs(line, stderr);
    if (file)
        fclose(file);
}

struct daemon *daemon_start(const char *build, bool with_python, bool verbose)
{
    const char *tmp = getenv("TMPDIR");
    struct daemon *daemon = calloc(1, sizeof *daemon);
    if (!daemon)
        return NULL;
    daemon->build = build;
    daemon->verbose = verbose;
    snprintf(daemon->directory, sizeof daemon->directory, "%s/hasup-chaos.XXXXXX",
             tmp ? tmp : "/tmp");
    if (!mkdtemp(daemon->directory)) {
        perror(daemon->directory);
        free(daemon);
        return NULL;
    }
    snprintf(daemon->socket, sizeof daemon->socket, "%s/hasup.sock", daemon->directory);
    if (write_config(daemon, build, with_python) || launch(daemon) || wait_ready(daemon, false)) {
        fprintf(stderr, "hasupd did not become ready; its log:\n");
        show_log(daemon);
        daemon_stop(daemon);
        return NULL;
    }
    return daemon;
}

int daemon_port(const struct daemon *daemon)
{
    return daemon->port;
}

bool daemon_victim(struct daemon *daemon, uint64_t chance, struct victim *victim)
{
    struct victim list[64];
    size_t count = 0, i, k;
    json_t *now = status(daemon), *model, *slot;
    json_array_foreach(json_object_get(now, "models"), i, model)
        json_array_foreach(json_object_get(model, "slots"), k, slot)
    {
        const char *state = json_string_value(json_object_get(slot, "state"));
        if (!state || strcmp(state, "ready") || count == HASUP_LEN(list))
            continue;
        snprintf(list[count].slot, sizeof list[count].slot, "%s",
                 json_string_value(json_object_get(slot, "slot")));
        list[count++].pid = (pid_t)json_integer_value(json_object_get(slot, "pid"));
    }
    json_decref(now);
    if (count)
        *victim = list[chance % count];
    return count > 0;
}

uint64_t daemon_restarts(struct daemon *daemon)
{
    uint64_t restarts = daemon->restarts;
    size_t i, k;
    json_t *now = status(daemon), *model, *slot;
    json_array_foreach(json_object_get(now, "models"), i, model)
        json_array_foreach(json_object_get(model, "slots"), k, slot) restarts +=
        (uint64_t)json_integer_value(json_object_get(slot, "starts")) - 1;
    json_decref(now);
    return restarts;
}

static void forget_client(struct daemon *daemon)
{
    if (daemon->client)
        hasup_client_close(daemon->client);
    daemon->client = NULL;
}

bool daemon_kill(struct daemon *daemon)
{
    daemon->restarts = daemon_restarts(daemon);
    kill(daemon->pid, SIGKILL);
    waitpid(daemon->pid, NULL, 0);
    forget_client(daemon);
    daemon->port = 0;
    return !launch(daemon) && !wait_ready(daemon, true);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info;
    (void)type;
    (void)at;
    return remove(path);
}

int daemon_stop(struct daemon *daemon)
{
    int code = 0;
    forget_client(daemon);
    if (daemon->pid > 0) {
        kill(daemon->pid, SIGTERM);
        if (waitpid(daemon->pid, &code, 0) == daemon->pid)
            code = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
    }
    nftw(daemon->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(daemon);
    return code;
}
