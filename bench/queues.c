/*
 * queues.c: beanstalkd -f0 and Redis Streams with appendfsync always, and the whole life of a job
 * on them: put, reserved by the one who put it, deleted.  One job at a time on each connection, so
 * a job is three exchanges; what keeps it (two of them for beanstalkd, three for Redis) is on the
 * disk before the server answers.
 */
#include "bench/bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 3, ROOM = 4096, BODY = 256, CONNECTIONS_MAX = 64, ID_MAX = 40, TRIES = 2000 };

static const hasup_ns WARM_UP = 50 * HASUP_MS;

struct job {
    int fd;
    unsigned step;
    hasup_ns began;
    char id[ID_MAX];
    char in[ROOM + 1];
    size_t have;
};

/* An exchange: what is sent; the lines that the answer has, what it begins with, and whether it
 * tells the job's id. */
struct queue_script {
    struct {
        size_t (*ask)(const struct job *job, char *out);
        unsigned lines;
        const char *answer;
        void (*take)(struct job *job); /* NULL: no */
    } steps[STEPS];
};

/* Lines of an answer that end in CRLF. */
static unsigned lines(const struct job *job)
{
    unsigned count = 0;
    for (const char *at = job->in; (at = strstr(at, "\r\n")); at += 2)
        count++;
    return count;
}

static void take_id(struct job *job, const char *from)
{
    snprintf(job->id, sizeof job->id, "%.*s", (int)strcspn(from, " \r"), from);
}

static const char *body(void)
{
    static char bytes[BODY + 1];
    memset(bytes, 'b', BODY);
    return bytes;
}

/* ---- beanstalkd ---- */

static size_t beanstalk_put(const struct job *job, char *out)
{
    (void)job;
    return (size_t)sprintf(out, "put 0 0 60 %d\r\n%s\r\n", BODY, body());
}

static size_t beanstalk_reserve(const struct job *job, char *out)
{
    (void)job;
    return (size_t)sprintf(out, "reserve\r\n");
}

static void beanstalk_reserved(struct job *job)
{
    take_id(job, job->in + strlen("RESERVED "));
}

static size_t beanstalk_delete(const struct job *job, char *out)
{
    return (size_t)sprintf(out, "delete %s\r\n", job->id);
}

static const struct queue_script BEANSTALK = {
    {{beanstalk_put, 1, "INSERTED ", NULL},
     {beanstalk_reserve, 2, "RESERVED ", beanstalk_reserved},
     {beanstalk_delete, 1, "DELETED", NULL}}};

/* ---- Redis ---- */

static size_t redis_add(const struct job *job, char *out)
{
    (void)job;
    return (size_t)sprintf(
        out, "*5\r\n$4\r\nXADD\r\n$1\r\nq\r\n$1\r\n*\r\n$1\r\nb\r\n$%d\r\n%s\r\n", BODY, body());
}

static size_t redis_read(const struct job *job, char *out)
{
    (void)job;
    return (size_t)sprintf(out,
                           "*9\r\n$10\r\nXREADGROUP\r\n$5\r\nGROUP\r\n$1\r\ng\r\n$1\r\nc\r\n"
                           "$5\r\nCOUNT\r\n$1\r\n1\r\n$7\r\nSTREAMS\r\n$1\r\nq\r\n$1\r\n>\r\n");
}

/* One stream, its name, one entry of id and one field: eleven lines before the body ends. */
static void redis_got(struct job *job)
{
    enum { ID_LINE = 7 };
    const char *at = job->in;
    for (unsigned i = 0; i < ID_LINE; i++)
        at = strstr(at, "\r\n") + 2;
    take_id(job, at);
}

static size_t redis_done(const struct job *job, char *out)
{
    size_t len = strlen(job->id);
    return (size_t)sprintf(out,
                           "*4\r\n$4\r\nXACK\r\n$1\r\nq\r\n$1\r\ng\r\n$%zu\r\n%s\r\n"
                           "*3\r\n$4\r\nXDEL\r\n$1\r\nq\r\n$%zu\r\n%s\r\n",
                           len, job->id, len, job->id);
}

static const struct queue_script REDIS = {{{redis_add, 2, "$", NULL},
                                           {redis_read, 12, "*1", redis_got},
                                           {redis_done, 2, ":1\r\n:1", NULL}}};

/* ---- the servers ---- */

static int queue_connect(const struct queue_server *server)
{
    if (*server->path)
        return unix_connect(server->path);
    for (int i = 0; i < TRIES; i++) {
        int fd = tcp_connect(server->port);
        if (fd >= 0)
            return fd;
        bench_pause(HASUP_MS);
    }
    bench_fail("%s does not listen", server->name);
}

static void make_directory(char *path, size_t room, const char *name)
{
    snprintf(path, room, "%s/%s", bench_directory(), name);
    if (mkdir(path, 0700) && errno != EEXIST)
        bench_fail("%s: %s", path, strerror(errno));
}

bool queue_start_beanstalkd(struct queue_server *server)
{
    char port[16], directory[BENCH_PATH];
    *server = (struct queue_server){
        .name = "beanstalkd -f0", .script = &BEANSTALK, .port = bench_free_port()};
    if (!bench_installed("beanstalkd", "passed over"))
        return false;
    make_directory(directory, sizeof directory, "beanstalkd");
    snprintf(port, sizeof port, "%d", server->port);
    const char *argv[] = {"beanstalkd", "-l", "127.0.0.1", "-p", port,
                          "-f0",        "-b", directory,   NULL};
    server->pid = child_start(argv);
    close(queue_connect(server));
    return true;
}

bool queue_start_redis(struct queue_server *server)
{
    char directory[BENCH_PATH], answer[64];
    const char group[] = "XGROUP CREATE q g $ MKSTREAM\r\n";
    *server = (struct queue_server){.name = "Redis Streams", .script = &REDIS};
    if (!bench_installed("redis-server", "passed over"))
        return false;
    make_directory(directory, sizeof directory, "redis");
    snprintf(server->path, sizeof server->path, "%.80s/redis.sock", bench_directory());
    const char *argv[] = {"redis-server", "--port",       "0",   "--unixsocket",
                          server->path,   "--appendonly", "yes", "--appendfsync",
                          "always",       "--save",       "",    "--dir",
                          directory,      "--daemonize",  "no",  NULL};
    server->pid = child_start(argv);
    int fd = queue_connect(server);
    if (send(fd, group, sizeof group - 1, MSG_NOSIGNAL) < 0 || recv(fd, answer, 3, 0) != 3 ||
        memcmp(answer, "+OK", 3) != 0)
        bench_fail("Redis does not make the stream");
    close(fd);
    return true;
}

void queue_stop(struct queue_server *server)
{
    child_stop(server->pid);
}

/* ---- the load ---- */

static void job_ask(const struct queue_server *server, struct job *job)
{
    char out[ROOM];
    size_t len = server->script->steps[job->step].ask(job, out);
    if (job->step == 0)
        job->began = bench_now();
    job->have = 0;
    socket_send(job->fd, out, len);
}

static void step_end(const struct queue_server *server, struct job *job)
{
    const char *due = server->script->steps[job->step].answer;
    if (strncmp(job->in, due, strlen(due)) != 0)
        bench_fail("%s answers %.60s where %s was due", server->name, job->in, due);
    if (server->script->steps[job->step].take)
        server->script->steps[job->step].take(job);
}

/* Whether a job's life has just ended. */
static bool job_read(const struct queue_server *server, struct job *job)
{
    ssize_t got = recv(job->fd, job->in + job->have, ROOM - job->have, 0);
    if (got <= 0)
        bench_fail("%s closed a connection", server->name);
    job->have += (size_t)got;
    job->in[job->have] = '\0';
    if (lines(job) < server->script->steps[job->step].lines)
        return false;
    step_end(server, job);
    job->step = (job->step + 1) % STEPS;
    return job->step == 0;
}

/* How many jobs it ended; a connection whose job ended begins another, unless `draining`. */
static unsigned turn(const struct queue_server *server, int epoll, bool draining,
                     struct latency *latency)
{
    struct epoll_event events[CONNECTIONS_MAX];
    int count = epoll_wait(epoll, events, CONNECTIONS_MAX, -1);
    unsigned ended = 0;
    for (int i = 0; i < count; i++) {
        struct job *job = events[i].data.ptr;
        unsigned step = job->step;
        bool over = job_read(server, job);
        if (over)
            latency_add(latency, bench_now() - job->began);
        ended += over;
        if (over ? !draining : job->step != step)
            job_ask(server, job);
    }
    return ended;
}

static uint64_t run_for(const struct queue_server *server, int epoll, hasup_ns span,
                        struct latency *latency)
{
    uint64_t ended = 0;
    for (hasup_ns until = bench_now() + span; bench_now() < until;)
        ended += turn(server, epoll, false, latency);
    return ended;
}

double queue_run(const struct queue_server *server, unsigned connections, hasup_ns span,
                 struct latency *latency)
{
    static struct job jobs[CONNECTIONS_MAX];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &jobs[i]};
        jobs[i].step = 0;
        jobs[i].fd = queue_connect(server);
        epoll_ctl(epoll, EPOLL_CTL_ADD, jobs[i].fd, &event);
        job_ask(server, &jobs[i]);
    }
    run_for(server, epoll, WARM_UP, latency);
    latency_start(latency);
    hasup_ns from = bench_now();
    uint64_t ended = run_for(server, epoll, span, latency);
    double per_s = (double)ended * 1e9 / (double)(bench_now() - from);
    for (unsigned left = connections; left;) /* what is under way leaves nothing to the next run */
        left -= turn(server, epoll, true, latency);
    for (unsigned i = 0; i < connections; i++)
        close(jobs[i].fd);
    close(epoll);
    return per_s;
}
