/* A probe says once, and in a sentence, what it saw: of servers that refuse, keep silent, talk
 * nonsense or never end, and of commands that fail, hang or are not there.  It leaves no descriptor
 * open and no process behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/address.h"
#include "supervisor/probe.h"

extern char **environ;

static const hasup_ns LONG = 20 * HASUP_S, SHORT = 50 * HASUP_MS, PATIENCE = 30 * HASUP_S;

/* A server on the probe's own loop: says `answer`, then closes, drips it, or keeps silent. */
struct server {
    struct loop *loop;
    struct watch watch, peer_watch;
    struct timer drip;
    int fd, peer;
    char address[160];
    const char *answer;
    size_t len, said;
    hasup_ns every; /* a byte at a time; 0: all at once */
    bool stays;     /* open, when all is said */
    bool asked;     /* waits for the end of a request first */
    char request[2048];
    size_t got;
};

struct world {
    struct loop *loop;
    struct processes *processes;
    struct probe_place place;
    struct probe *probe;
    struct server server;
    struct timer patience, look;
    unsigned before; /* descriptors */
    unsigned told;
    bool ok;
    char why[PROBE_WHY];
    char directory[64];
    pid_t awaited; /* its end stops the loop */
};

static unsigned descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void too_long(void *context)
{
    (void)context;
    fail_msg("the loop was to end by now");
}

static bool is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}

static void look(void *context)
{
    struct world *w = context;
    if (is_gone(w->awaited))
        loop_stop(w->loop);
    else
        assert_int_equal(timer_set(&w->look, w->loop, loop_clock() + HASUP_MS), 0);
}

static void no_exit(void *context, struct process *process, const struct process_exit *exit)
{
    (void)context;
    (void)process;
    (void)exit;
    fail_msg("a probe's process is none of the others'");
}

static void no_end(void *context, struct process *process)
{
    (void)context;
    (void)process;
    fail_msg("a probe's process is none of the others'");
}

static const struct process_ops OPS = {.exited = no_exit, .tree_empty = no_end};

static void begin(struct world *w, const struct process_ops *ops, const char *cgroup)
{
    char error[256];
    *w = (struct world){.loop = loop_new()};
    w->server.fd = w->server.peer = -1;
    w->processes = processes_new(w->loop, ops, w, cgroup, error);
    if (!w->processes)
        fail_msg("%s", error);
    w->patience = (struct timer){.due = too_long};
    w->look = (struct timer){.due = look, .context = w};
    assert_int_equal(timer_set(&w->patience, w->loop, loop_now(w->loop) + PATIENCE), 0);
    snprintf(w->directory, sizeof w->directory, "/tmp/hasup-probe.XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    w->place = (struct probe_place){.loop = w->loop,
                                    .processes = w->processes,
                                    .env = (const char *const *)environ,
                                    .directory = w->directory};
}

static void server_close(struct server *server)
{
    watch_stop(&server->watch);
    watch_stop(&server->peer_watch);
    timer_stop(&server->drip);
    if (server->fd >= 0)
        close(server->fd);
    if (server->peer >= 0)
        close(server->peer);
    server->fd = server->peer = -1;
    if (strncmp(server->address, ADDRESS_LOCAL, strlen(ADDRESS_LOCAL)) == 0)
        unlink(server->address + strlen(ADDRESS_LOCAL));
}

static void end(struct world *w)
{
    server_close(&w->server);
    timer_stop(&w->patience);
    timer_stop(&w->look);
    processes_free(w->processes);
    loop_free(w->loop);
    assert_int_equal(rmdir(w->directory), 0);
}

/* ---- the server ---- */

static void server_say(struct server *server)
{
    size_t len = server->every ? 1 : server->len - server->said;
    ssize_t sent = len ? send(server->peer, server->answer + server->said, len, MSG_NOSIGNAL) : 0;
    server->said += sent > 0 ? (size_t)sent : 0;
    if (server->said < server->len) {
        hasup_ns at = loop_now(server->loop) + server->every;
        if (server->every)
            assert_int_equal(timer_set(&server->drip, server->loop, at), 0);
        else if (sent > 0 || (sent < 0 && errno == EAGAIN))
            assert_int_equal(
                watch_set(&server->peer_watch, server->loop, server->peer, WATCH_WRITE), 0);
        else
            watch_stop(&server->peer_watch);
        return;
    }
    watch_stop(&server->peer_watch);
    if (!server->stays) {
        close(server->peer);
        server->peer = -1;
    }
}

static void drip_due(void *context)
{
    server_say(context);
}

static void peer_ready(void *context, int events)
{
    struct server *server = context;
    if (events & WATCH_READ) {
        ssize_t got = recv(server->peer, server->request + server->got,
                           sizeof server->request - 1 - server->got, 0);
        server->got += got > 0 ? (size_t)got : 0;
        if (got > 0 && !strstr(server->request, "\r\n\r\n"))
            return;
    }
    watch_stop(&server->peer_watch);
    server_say(server);
}

static void server_ready(void *context, int events)
{
    struct server *server = context;
    (void)events;
    server->peer = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(server->peer >= 0);
    if (server->asked)
        assert_int_equal(watch_set(&server->peer_watch, server->loop, server->peer, WATCH_READ), 0);
    else
        server_say(server);
}

/* Listens; "localhost" and "127.0.0.1" are TCP, what begins with a slash a Unix socket. */
static void server_open(struct world *w, const char *host, const char *answer)
{
    struct server *server = &w->server;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    const bool unix_socket = host[0] == '/';
    socklen_t len = sizeof v4;
    *server = (struct server){.loop = w->loop,
                              .watch = {.ready = server_ready, .context = server},
                              .peer_watch = {.ready = peer_ready, .context = server},
                              .drip = {.due = drip_due, .context = server},
                              .peer = -1,
                              .answer = answer ? answer : "",
                              .len = answer ? strlen(answer) : 0,
                              .asked = answer != NULL,
                              .stays = answer == NULL};
    server->fd = socket(unix_socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->fd >= 0);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", host);
    assert_int_equal(bind(server->fd,
                          unix_socket ? (struct sockaddr *)&local : (struct sockaddr *)&v4,
                          unix_socket ? sizeof local : sizeof v4),
                     0);
    assert_int_equal(listen(server->fd, 8), 0);
    if (!unix_socket)
        assert_int_equal(getsockname(server->fd, (struct sockaddr *)&v4, &len), 0);
    if (unix_socket)
        snprintf(server->address, sizeof server->address, ADDRESS_LOCAL "%s", host);
    else
        snprintf(server->address, sizeof server->address, "%s:%u", host, ntohs(v4.sin_port));
    assert_int_equal(watch_set(&server->watch, w->loop, server->fd, WATCH_READ), 0);
}

/* ---- the probe ---- */

static void done(void *context, bool ok, const char *why)
{
    struct world *w = context;
    w->told++;
    w->ok = ok;
    w->probe = NULL;
    snprintf(w->why, sizeof w->why, "%s", why);
    loop_stop(w->loop);
}

static void start(struct world *w, const struct probe_spec *spec)
{
    w->told = 0;
    w->why[0] = '\0';
    w->before = descriptors();
    w->probe = probe_start(&w->place, spec, done, w);
    assert_non_null(w->probe);
    assert_int_equal(w->told, 0);
}

/* Runs it to its end, after which what it opened is closed. */
static void run(struct world *w, const struct probe_spec *spec)
{
    start(w, spec);
    loop_run(w->loop);
    assert_int_equal(w->told, 1);
    assert_int_equal(w->ok, w->why[0] == '\0');
    if (w->server.peer >= 0) {
        close(w->server.peer);
        w->server.peer = -1;
    }
    assert_int_equal(descriptors(), w->before);
}

static void run_tcp(struct world *w, hasup_ns timeout)
{
    run(w,
        &(struct probe_spec){.kind = PROBE_TCP, .address = w->server.address, .timeout = timeout});
}

static struct probe_spec http_spec(struct world *w, hasup_ns timeout)
{
    static char path[] = "/healthz";
    return (struct probe_spec){.kind = PROBE_HTTP,
                               .address = w->server.address,
                               .path = path,
                               .status_min = 200,
                               .status_max = 399,
                               .timeout = timeout};
}

/* What a GET says that is answered so; "" where that is well. */
static const char *get(struct world *w, const char *answer)
{
    begin(w, &OPS, NULL);
    server_open(w, "127.0.0.1", answer);
    struct probe_spec spec = http_spec(w, LONG);
    run(w, &spec);
    end(w);
    return w->why;
}

static void run_exec(struct world *w, hasup_ns timeout, const char *program, const char *script)
{
    char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t) "-c", (char *)(uintptr_t)script,
                    NULL};
    run(w, &(struct probe_spec){.kind = PROBE_EXEC, .exec = argv, .timeout = timeout});
}

/* ---- tcp ---- */

static void a_port_that_listens_is_well_and_one_that_does_not_refuses(void **state)
{
    struct world w;
    char refused[200];
    (void)state;
    begin(&w, &OPS, NULL);
    server_open(&w, "127.0.0.1", NULL);
    run_tcp(&w, LONG);
    assert_true(w.ok);
    server_close(&w.server);
    run_tcp(&w, LONG);
    snprintf(refused, sizeof refused, "connection refused by %s", w.server.address);
    assert_string_equal(w.why, refused);
    end(&w);
}

static void localhost_is_either_of_its_addresses(void **state)
{
    struct world w;
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t len = sizeof v6;
    (void)state;
    begin(&w, &OPS, NULL);
    server_open(&w, "localhost", NULL);
    run_tcp(&w, LONG);
    assert_true(w.ok);
    server_close(&w.server);
    run_tcp(&w, LONG);
    assert_non_null(strstr(w.why, "connection refused by localhost:"));
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&v6, sizeof v6) == 0) { /* else there is no IPv6 */
        assert_int_equal(listen(fd, 8), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&v6, &len), 0);
        snprintf(w.server.address, sizeof w.server.address, "localhost:%u", ntohs(v6.sin6_port));
        run_tcp(&w, LONG);
        assert_true(w.ok);
        snprintf(w.server.address, sizeof w.server.address, "[::1]:%u", ntohs(v6.sin6_port));
        run_tcp(&w, LONG);
        assert_true(w.ok);
    }
    if (fd >= 0)
        close(fd);
    end(&w);
}

static void a_unix_socket_is_there_or_not(void **state)
{
    struct world w;
    char path[96], expected[256];
    (void)state;
    begin(&w, &OPS, NULL);
    snprintf(path, sizeof path, "%s/socket", w.directory);
    server_open(&w, path, NULL);
    run_tcp(&w, LONG);
    assert_true(w.ok);
    watch_stop(&w.server.watch);
    close(w.server.fd); /* the file stays */
    w.server.fd = -1;
    run_tcp(&w, LONG);
    snprintf(expected, sizeof expected, "connection refused by %s", path);
    assert_string_equal(w.why, expected);
    server_close(&w.server);
    run_tcp(&w, LONG);
    snprintf(expected, sizeof expected, "there is no socket %s", path);
    assert_string_equal(w.why, expected);
    end(&w);
}

static void a_backlog_that_is_full_is_said(void **state)
{
    struct world w;
    char path[96];
    int fds[64];
    size_t count = 0;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)state;
    begin(&w, &OPS, NULL);
    snprintf(path, sizeof path, "%s/socket", w.directory);
    server_open(&w, path, NULL);
    watch_stop(&w.server.watch); /* nobody accepts */
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    do {
        fds[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fds[count] >= 0);
    } while (connect(fds[count++], (struct sockaddr *)&at, sizeof at) == 0 &&
             count < HASUP_LEN(fds));
    run_tcp(&w, LONG);
    assert_non_null(strstr(w.why, "its backlog is full"));
    while (count)
        close(fds[--count]);
    end(&w);
}

static void what_is_no_address_at_the_time_is_said(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    snprintf(w.server.address, sizeof w.server.address, "127.0.0.1:65{slot}");
    run_tcp(&w, LONG);
    assert_string_equal(w.why, "127.0.0.1:65{slot}: there is no port of 1 to 65535");
    end(&w);
}

/* ---- http ---- */

#define BODY "Content-Length: 2\r\n\r\nok"

static void only_the_status_of_an_answer_counts(void **state)
{
    struct world w;
    (void)state;
    assert_string_equal(get(&w, "HTTP/1.1 200 OK\r\n" BODY), "");
    assert_non_null(strstr(w.server.request, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
    assert_non_null(strstr(w.server.request, "\r\nConnection: close\r\n"));
    assert_string_equal(get(&w, "HTTP/1.0 204 No Content\r\n\r\n"), "");
    assert_string_equal(get(&w, "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "");
    assert_string_equal(get(&w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut"), "");
    assert_string_equal(get(&w, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" BODY), "");
    assert_string_equal(get(&w, "HTTP/1.1 503 Service Unavailable\r\n" BODY),
                        "GET /healthz: status 503");
    assert_string_equal(get(&w, "HTTP/1.1 404 Not Found\r\n\r\n"), "GET /healthz: status 404");
    assert_string_equal(get(&w, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                                "Upgrade: x\r\n\r\n"),
                        "GET /healthz: status 101");
}

static void an_answer_that_is_none_is_said(void **state)
{
    struct world w;
    char expected[256];
    (void)state;
    get(&w, "SSH-2.0-OpenSSH_9.2p1\r\n");
    snprintf(expected, sizeof expected, "GET /healthz: %s does not answer in HTTP",
             w.server.address);
    assert_string_equal(w.why, expected);
    get(&w, "");
    snprintf(expected, sizeof expected, "GET /healthz: %s closed the connection without an answer",
             w.server.address);
    assert_string_equal(w.why, expected);
    get(&w, "HTTP/1.1 200 OK\r\nX-Half: ");
    assert_non_null(strstr(w.why, " closed the connection without an answer"));
}

static void a_server_that_keeps_silent_is_waited_for_no_longer(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    server_open(&w, "127.0.0.1", NULL);
    struct probe_spec spec = http_spec(&w, SHORT);
    run(&w, &spec);
    assert_string_equal(w.why, "GET /healthz: no answer in 50ms");
    end(&w);
}

static void a_slow_drip_is_no_answer_but_a_status_is(void **state)
{
    struct world w;
    static const char head[] = "HTTP/1.1 200 OK\r\n";
    (void)state;
    for (int whole = 0; whole < 2; whole++) {
        begin(&w, &OPS, NULL);
        server_open(&w, "127.0.0.1", whole ? "HTTP/1.1 200 OK\r\n\r\nbody" : head);
        w.server.stays = whole;
        w.server.every = whole ? 0 : 10 * HASUP_MS; /* 17 bytes take more than the 50 ms */
        struct probe_spec spec = http_spec(&w, whole ? HASUP_S : SHORT);
        run(&w, &spec);
        assert_string_equal(w.why, whole ? "" : "GET /healthz: no answer in 50ms");
        end(&w);
    }
}

static void an_answer_is_read_within_bounds(void **state)
{
    enum { HUGE_ANSWER = 1024 * 1024 };
    static char answer[HUGE_ANSWER + 64];
    struct world w;
    (void)state;
    int len = sprintf(answer, "HTTP/1.1 200 OK\r\n\r\n");
    memset(answer + len, 'x', HUGE_ANSWER);
    assert_string_equal(get(&w, answer), "");
    len = sprintf(answer, "HTTP/1.1 200 OK\r\nX-Long: ");
    memset(answer + len, 'x', HUGE_ANSWER);
    assert_string_equal(get(&w, answer),
                        "GET /healthz: the head of the answer has no end within 64 KiB");
}

static void http_goes_over_a_unix_socket_too(void **state)
{
    struct world w;
    char path[96];
    (void)state;
    begin(&w, &OPS, NULL);
    snprintf(path, sizeof path, "%s/socket", w.directory);
    server_open(&w, path, "HTTP/1.1 500 Broken\r\n" BODY);
    struct probe_spec spec = http_spec(&w, LONG);
    run(&w, &spec);
    assert_string_equal(w.why, "GET /healthz: status 500");
    assert_non_null(strstr(w.server.request, "\r\nHost: localhost\r\n"));
    server_close(&w.server);
    run(&w, &spec);
    assert_non_null(strstr(w.why, "GET /healthz: there is no socket /tmp/"));
    end(&w);
}

/* ---- exec ---- */

static void a_command_is_well_when_it_exits_with_0(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    run_exec(&w, LONG, "sh", "echo fine; exit 0");
    assert_true(w.ok);
    run_exec(&w, LONG, "sh", "echo first; echo 'no disk' >&2; echo; exit 3");
    assert_string_equal(w.why, "exit code 3: no disk");
    run_exec(&w, LONG, "sh", "exit 3");
    assert_string_equal(w.why, "exit code 3");
    run_exec(&w, LONG, "sh", "printf 'cut \\033[0m off'; kill -SEGV $$");
    assert_string_equal(w.why, "killed by SIGSEGV: cut \\x1b[0m off");
    run_exec(&w, LONG, "no-such-program", "");
    assert_string_equal(w.why, "cannot start: no-such-program: not found on PATH");
    run_exec(&w, LONG, "/no/such/program", "");
    assert_non_null(strstr(w.why, "/no/such/program"));
    end(&w);
}

static void a_command_runs_where_and_as_what_the_program_does(void **state)
{
    struct world w;
    static const char *const env[] = {"PATH=/usr/bin:/bin", "WHO=web", NULL};
    struct attributes attributes = {.sets_umask = true, .umask = 027};
    char expected[256];
    (void)state;
    begin(&w, &OPS, NULL);
    w.place.env = env;
    w.place.attributes = &attributes;
    run_exec(&w, LONG, "sh", "echo $WHO $(pwd) $(umask) ${HASUP_FD-none}; exit 1");
    snprintf(expected, sizeof expected, "exit code 1: web %s 0027 none", w.directory);
    assert_string_equal(w.why, expected);
    w.place.directory = "/no/such/directory";
    run_exec(&w, LONG, "sh", "");
    assert_non_null(strstr(w.why, "/no/such/directory"));
    w.place.directory = w.directory;
    end(&w);
}

static void a_long_line_is_cut_and_a_flood_is_read(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    run_exec(&w, LONG, "sh", "head -c 300000 /dev/zero | tr '\\0' x; exit 1");
    assert_true(strncmp(w.why, "exit code 1: xxx", 16) == 0);
    assert_true(strlen(w.why) < 200);
    run_exec(&w, LONG, "sh", "yes no | head -c 300000; echo last; exit 1");
    assert_string_equal(w.why, "exit code 1: last");
    end(&w);
}

/* Until the process whose number stands in the file is gone. */
static void await_end_of(struct world *w, const char *name)
{
    char path[128];
    int pid = 0;
    snprintf(path, sizeof path, "%s/%s", w->directory, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    unlink(path);
    w->awaited = pid;
    if (is_gone(pid))
        return;
    look(w);
    loop_run(w->loop);
}

/* A command with a child that has left its session, and which has written its number when the pipe
 * says so; then it goes on as `then` says. */
#define STRAY(then)                                                                                \
    "rm -f f; mkfifo f; setsid sh -c 'echo $$ >stray; echo >f; exec sleep 1000' & read x <f; "     \
    "rm f; " then

/* One that says why it hangs, until it had the time to say so. */
static void run_hanging(struct world *w)
{
    char expected[128], path[96];
    unsigned ms = 200;
    snprintf(path, sizeof path, "%s/hangs", w->directory);
    for (; access(path, F_OK); ms *= 2)
        run_exec(w, ms * HASUP_MS, "sh",
                 STRAY("echo waiting for the database; echo $$ >own; echo >hangs; sleep 1000"));
    snprintf(expected, sizeof expected, "killed: no end in %ums: waiting for the database", ms / 2);
    assert_string_equal(w->why, expected);
    unlink(path);
    await_end_of(w, "own");
    await_end_of(w, "stray");
}

static void a_command_that_hangs_is_killed_with_all_of_its_tree(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    run_hanging(&w);
    end(&w);
}

static void what_a_command_leaves_behind_is_killed(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    run_exec(&w, LONG, "sh", STRAY("exit 0"));
    assert_true(w.ok);
    await_end_of(&w, "stray");
    end(&w);
}

/* ---- beside a program ---- */

static void program_exited(void *context, struct process *process, const struct process_exit *exit)
{
    struct world *w = context;
    assert_ptr_equal(process_context(process), &w->server);
    assert_int_equal(exit->signal, SIGTERM);
}

static void program_gone(void *context, struct process *process)
{
    (void)process;
    loop_stop(((struct world *)context)->loop);
}

/* Where there are cgroups the probe runs in the program's; its end, even by force, is its own. */
static void a_probe_in_the_programs_cgroup_leaves_the_program_alone(void **state)
{
    static const struct process_ops ops = {.exited = program_exited, .tree_empty = program_gone};
    static const char *const argv[] = {"sleep", "1000", NULL};
    struct process *program;
    struct world w;
    char error[256];
    (void)state;
    begin(&w, &ops, "");
    const struct process_spec spec = {.name = "web/0",
                                      .argv = argv,
                                      .env = (const char *const *)environ,
                                      .channel = -1,
                                      .out = STDERR_FILENO,
                                      .err = STDERR_FILENO,
                                      .context = &w.server};
    assert_int_equal(process_spawn(w.processes, &spec, &program, error), 0);
    w.place.beside = program;
    run_exec(&w, LONG, "sh", "grep ^0:: /proc/self/cgroup; exit 1");
    if (processes_use_cgroups(w.processes))
        assert_non_null(strstr(w.why, "/web-0"));
    run_hanging(&w);
    assert_int_equal(kill(process_pid(program), 0), 0);
    process_signal(program, SIGTERM);
    loop_run(w.loop); /* until program_gone */
    end(&w);
}

/* ---- cancelled ---- */

static void stop_due(void *context)
{
    loop_stop(context);
}

/* Turns of the loop for a while: what was ready is seen. */
static void turns(struct world *w)
{
    struct timer timer = {.due = stop_due, .context = w->loop};
    assert_int_equal(timer_set(&timer, w->loop, loop_clock() + 20 * HASUP_MS), 0);
    loop_run(w->loop);
    timer_stop(&timer);
}

static void cancel(struct world *w)
{
    probe_cancel(w->probe);
    w->probe = NULL;
    if (w->server.peer >= 0)
        close(w->server.peer);
    w->server.peer = -1;
    watch_stop(&w->server.peer_watch);
    assert_int_equal(descriptors(), w->before);
    turns(w);
    assert_int_equal(w->told, 0);
}

static void a_probe_is_cancelled_in_any_state_without_a_word(void **state)
{
    struct world w;
    (void)state;
    begin(&w, &OPS, NULL);
    server_open(&w, "127.0.0.1", NULL);
    struct probe_spec spec = http_spec(&w, LONG);
    start(&w, &spec); /* it connects */
    watch_stop(&w.server.watch);
    cancel(&w);
    server_close(&w.server);
    server_open(&w, "127.0.0.1", NULL);
    start(&w, &spec); /* it reads */
    turns(&w);
    cancel(&w);
    server_close(&w.server);
    spec.kind = PROBE_TCP;
    start(&w, &spec); /* it was refused, which is to be told */
    cancel(&w);
    end(&w);
}

static void a_command_that_is_cancelled_dies_with_its_tree(void **state)
{
    struct world w;
    char *argv[] = {(char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
                    (char *)(uintptr_t)STRAY("echo >f2; sleep 1000"), NULL};
    char path[96];
    (void)state;
    begin(&w, &OPS, NULL);
    const struct probe_spec spec = {.kind = PROBE_EXEC, .exec = argv, .timeout = LONG};
    snprintf(path, sizeof path, "%s/f2", w.directory);
    start(&w, &spec);
    while (access(path, F_OK))
        turns(&w);
    unlink(path);
    cancel(&w);
    await_end_of(&w, "stray");
    argv[2] = (char *)(uintptr_t) "exit 0";
    start(&w, &spec); /* at once */
    cancel(&w);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_that_listens_is_well_and_one_that_does_not_refuses),
        cmocka_unit_test(localhost_is_either_of_its_addresses),
        cmocka_unit_test(a_unix_socket_is_there_or_not),
        cmocka_unit_test(a_backlog_that_is_full_is_said),
        cmocka_unit_test(what_is_no_address_at_the_time_is_said),
        cmocka_unit_test(only_the_status_of_an_answer_counts),
        cmocka_unit_test(an_answer_that_is_none_is_said),
        cmocka_unit_test(a_server_that_keeps_silent_is_waited_for_no_longer),
        cmocka_unit_test(a_slow_drip_is_no_answer_but_a_status_is),
        cmocka_unit_test(an_answer_is_read_within_bounds),
        cmocka_unit_test(http_goes_over_a_unix_socket_too),
        cmocka_unit_test(a_command_is_well_when_it_exits_with_0),
        cmocka_unit_test(a_command_runs_where_and_as_what_the_program_does),
        cmocka_unit_test(a_long_line_is_cut_and_a_flood_is_read),
        cmocka_unit_test(a_command_that_hangs_is_killed_with_all_of_its_tree),
        cmocka_unit_test(what_a_command_leaves_behind_is_killed),
        cmocka_unit_test(a_probe_in_the_programs_cgroup_leaves_the_program_alone),
        cmocka_unit_test(a_probe_is_cancelled_in_any_state_without_a_word),
        cmocka_unit_test(a_command_that_is_cancelled_dies_with_its_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
