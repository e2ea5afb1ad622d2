/*
 * worker.c: the end-to-end tests' worker: does what the request's body says.
 *
 *   echo TEXT       answers TEXT           fail TEXT      answers an error
 *   crash           dies by SIGABRT        exit N         exits with N
 *   segv TEXT       says TEXT on stderr and dies by SIGSEGV
 *   hang            never answers          garbage        writes what is no frame
 *   pid             answers its pid        big N          answers N bytes
 *   session         answers the request's session
 *   take N          takes N ms
 *   nonce TEXT      answers what no other run of it would
 *   wait PATH       blocks until PATH (a FIFO) is written to, then answers "done"
 *   stream N PATH   N parts; before the last it waits as above, where PATH is given
 *   amble N PATH HOW  streams as above and tells its progress after each part; with --resumable it
 *                   goes on (HOW) at its progress, behind what was sent, or where it may not (lie)
 *   noise N PATH    streams as above, parts that differ in every process
 *   child           leaves a grandchild in a session of its own, answers its pid
 *   flee N          leaves a child that goes on as its own child, in a session of its own, N times
 *   until-cancelled runs until nobody waits for it, answers "cancelled"
 *   eat N           fills N MiB of memory, answers "ate"
 *   utter HEX       writes these bytes to stdout, and answers; mutter HEX to stderr
 *   log PATH TEXT  says TEXT about this request, waits as above ("-": it does not), says it again
 *   flood N         writes N MiB of numbered lines to stdout, answers how many
 *   sum             answers the length and the sum of the bytes of what it was sent
 *
 * Arguments: --load PATH waits in load; --fail-load; --concurrency N (4); --resumable; --die exits
 * 3 at once with a line on stderr; --kills-while PATH: every request kills while there is such a
 * file.
 */
#include "tests/e2e/gate.h"
#include "worker/hasup.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *load_path, *kills_while;
static int fail_load;
static int resumable;
static unsigned concurrency = 4;

static int load(void **model)
{
    (void)model;
    if (load_path)
        gate_wait(load_path);
    if (fail_load)
        fprintf(stderr, "the weights are not there\n");
    return fail_load;
}

static int leave_grandchild(struct hasup_response *response)
{
    int ends[2];
    char text[32];
    if (pipe(ends))
        return hasup_error(response, 500, "pipe");
    pid_t child = fork();
    if (child == 0) {
        setsid();
        pid_t grandchild = fork();
        if (grandchild == 0) {
            setsid();
            close(ends[0]);
            dprintf(ends[1], "%d", (int)getpid());
            close(ends[1]);
            for (;;)
                pause();
        }
        _exit(0);
    }
    close(ends[1]);
    waitpid(child, NULL, 0);
    ssize_t got = read(ends[0], text, sizeof text);
    close(ends[0]);
    return hasup_reply(response, text, got > 0 ? (size_t)got : 0);
}

/* Writes all of it, however often that takes. */
static int put_all(int fd, const char *bytes, size_t len)
{
    while (len) {
        ssize_t got = write(fd, bytes, len);
        if (got < 0)
            return -1;
        bytes += got;
        len -= (size_t)got;
    }
    return 0;
}

static int utter(struct hasup_response *response, int fd, const char *hex)
{
    char bytes[65536];
    size_t len = 0;
    unsigned byte;
    for (; len < sizeof bytes && sscanf(hex + 2 * len, "%2x", &byte) == 1; len++)
        bytes[len] = (char)byte;
    return put_all(fd, bytes, len) ? -1 : hasup_reply(response, "", 0);
}

static int log_twice(const struct hasup_request *request, struct hasup_response *response,
                     const char *words)
{
    char path[256] = "";
    int text = 0;
    sscanf(words, "%255s %n", path, &text);
    hasup_log(request, "%s", words + text);
    if (path[0] != '-')
        gate_wait(path);
    hasup_log(request, "%s", words + text);
    return hasup_reply(response, "", 0);
}

static int flood(struct hasup_response *response, size_t bytes)
{
    char block[65536], text[32];
    size_t number = 0, used;
    for (size_t done = 0; done < bytes; done += used) {
        for (used = 0; used + 32 < sizeof block;)
            used += (size_t)snprintf(block + used, 32, "flood line %012zu\n", number++);
        if (put_all(STDOUT_FILENO, block, used))
            return -1;
    }
    int len = snprintf(text, sizeof text, "%zu", number);
    return hasup_reply(response, text, (size_t)len);
}

/* Each generation makes the next one and is gone; the last one stays. */
static int flee(struct hasup_response *response, int generations)
{
    if (fork() == 0) {
        while (generations--) {
            setsid();
            if (fork() != 0)
                _exit(0);
        }
        for (;;)
            pause();
    }
    return hasup_reply(response, "", 0);
}

static int stream(struct hasup_response *response, const char *body, int noise)
{
    char path[256] = "", part[64];
    int count = 0;
    sscanf(body, "%*s %d %255s", &count, path);
    for (int i = 0; i < count; i++) {
        if (path[0] && i == count - 1)
            gate_wait(path);
        int len = snprintf(part, sizeof part, "part %d of %d%s", i + 1, count, "\n");
        if (noise)
            len = snprintf(part, sizeof part, "part %d by %d\n", i + 1, (int)getpid());
        if (hasup_chunk(response, part, (size_t)len))
            return -1;
    }
    return 0;
}

/* Where a resumed run goes on; *at: in bytes.  Gives the number of the part. */
static int go_on(const struct hasup_request *request, const char *how, uint64_t *at)
{
    int done = 0;
    if (strcmp(how, "progress") == 0 && request->progress_len == sizeof done) {
        memcpy(&done, request->progress, sizeof done);
        *at = request->progress_at;
    } else if (strcmp(how, "sent") == 0 && request->sent) {
        for (uint64_t i = 0; i < request->sent_len; i++)
            done += ((const char *)request->sent)[i] == '\n';
        *at = request->sent_len;
    } else if (strcmp(how, "lie") == 0 && request->resumed && request->attempt == 2) {
        *at = 7;
    }
    return done;
}

static int amble(const struct hasup_request *request, struct hasup_response *response,
                 const char *body)
{
    char path[256] = "", how[16] = "", part[64];
    int count = 0;
    uint64_t at = 0;
    sscanf(body, "%*s %d %255s %15s", &count, path, how);
    int done = go_on(request, how, &at);
    fprintf(stderr, "attempt %u begins at byte %llu\n", request->attempt, (unsigned long long)at);
    hasup_resume_at(response, at);
    while (done < count) {
        if (path[0] != '-' && done == count - 1)
            gate_wait(path);
        int len = snprintf(part, sizeof part, "part %d of %d\n", ++done, count);
        if (hasup_chunk(response, part, (size_t)len) ||
            hasup_progress(response, &done, sizeof done))
            return -1;
    }
    return 0;
}

static int reply_text(struct hasup_response *response, const char *text)
{
    return hasup_reply(response, text, strlen(text));
}

static int eat(struct hasup_response *response, size_t len)
{
    char *food = malloc(len);
    if (!food)
        return hasup_error(response, 500, "no memory");
    explicit_bzero(food, len); /* which the compiler may not leave out */
    free(food);
    return reply_text(response, "ate");
}

static int sum(const struct hasup_request *request, struct hasup_response *response)
{
    unsigned long long total = 0;
    char text[64];
    for (size_t i = 0; i < request->len; i++)
        total += ((const unsigned char *)request->body)[i];
    int len = snprintf(text, sizeof text, "%zu %llu", request->len, total);
    return hasup_reply(response, text, (size_t)len);
}

static int big(struct hasup_response *response, size_t len)
{
    unsigned char *room = hasup_reply_room(response, len);
    if (!room)
        return -1;
    for (size_t i = 0; i < len; i++)
        room[i] = (unsigned char)(i * 31);
    return 0;
}

/* So long, and no shorter: what a model's run takes. */
static int take(struct hasup_response *response, long ms)
{
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &span, &span) == EINTR)
        continue;
    return reply_text(response, "took it");
}

static int nonce(struct hasup_response *response)
{
    char text[64];
    struct timespec now;
    static unsigned count;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int len = snprintf(text, sizeof text, "%d %u %lld.%09ld", (int)getpid(), ++count,
                       (long long)now.tv_sec, now.tv_nsec);
    return hasup_reply(response, text, (size_t)len);
}

static int infer(void *model, const struct hasup_request *request, struct hasup_response *response)
{
    char body[512], text[32];
    (void)model;
    snprintf(body, sizeof body, "%.*s", request->len < 500 ? (int)request->len : 500,
             request->len ? (const char *)request->body : "");
    if (kills_while && access(kills_while, F_OK) == 0)
        raise(SIGABRT);
    if (strncmp(body, "echo ", 5) == 0)
        return hasup_reply(response, (const char *)request->body + 5, request->len - 5);
    if (strncmp(body, "fail ", 5) == 0)
        return hasup_error(response, 503, "%s", body + 5);
    if (strcmp(body, "crash") == 0)
        raise(SIGABRT);
    if (strncmp(body, "segv ", 5) == 0) {
        fprintf(stderr, "%s\n", body + 5);
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit instead */
        raise(SIGSEGV);
    }
    if (strncmp(body, "exit ", 5) == 0)
        _exit(atoi(body + 5));
    if (strcmp(body, "hang") == 0)
        for (;;)
            pause();
    if (strcmp(body, "garbage") == 0)
        return write(atoi(getenv("HASUP_FD")), "this is no frame, and it is long enough for one",
                     47) < 0;
    if (strncmp(body, "wait ", 5) == 0) {
        gate_wait(body + 5);
        return reply_text(response, "done");
    }
    if (strcmp(body, "session") == 0)
        return reply_text(response, hasup_request_session(request));
    if (strcmp(body, "pid") == 0) {
        snprintf(text, sizeof text, "%d", (int)getpid());
        return reply_text(response, text);
    }
    if (strncmp(body, "nonce ", 6) == 0)
        return nonce(response);
    if (strncmp(body, "take ", 5) == 0)
        return take(response, atol(body + 5));
    if (strncmp(body, "big ", 4) == 0)
        return big(response, (size_t)atol(body + 4));
    if (strncmp(body, "stream ", 7) == 0 || strncmp(body, "noise ", 6) == 0)
        return stream(response, body, body[0] == 'n');
    if (strncmp(body, "amble ", 6) == 0)
        return amble(request, response, body);
    if (strncmp(body, "eat ", 4) == 0)
        return eat(response, (size_t)atol(body + 4) << 20);
    if (strcmp(body, "until-cancelled") == 0) {
        while (!hasup_request_cancelled(request))
            continue;
        return reply_text(response, "cancelled");
    }
    if (strncmp(body, "utter ", 6) == 0)
        return utter(response, STDOUT_FILENO, body + 6);
    if (strncmp(body, "mutter ", 7) == 0)
        return utter(response, STDERR_FILENO, body + 7);
    if (strncmp(body, "log ", 4) == 0)
        return log_twice(request, response, body + 4);
    if (strncmp(body, "flood ", 6) == 0)
        return flood(response, (size_t)atol(body + 6) << 20);
    if (strncmp(body, "flee ", 5) == 0)
        return flee(response, atoi(body + 5));
    if (strcmp(body, "child") == 0)
        return leave_grandchild(response);
    return sum(request, response);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--load") == 0 && i + 1 < argc)
            load_path = argv[++i];
        else if (strcmp(argv[i], "--kills-while") == 0 && i + 1 < argc)
            kills_while = argv[++i];
        else if (strcmp(argv[i], "--fail-load") == 0)
            fail_load = 1;
        else if (strcmp(argv[i], "--concurrency") == 0 && i + 1 < argc)
            concurrency = (unsigned)atoi(argv[++i]);
        else if (strcmp(argv[i], "--resumable") == 0)
            resumable = 1;
        else if (strcmp(argv[i], "--die") == 0) {
            fprintf(stderr, "cannot find the GPU\n");
            return 3;
        }
    }
    printf("hello from %s\n", getenv("HASUP_MODEL") ? getenv("HASUP_MODEL") : "nowhere");
    fflush(stdout);
    return hasup_serve(&(struct hasup_worker){
        .load = load, .infer = infer, .concurrency = concurrency, .resumable = resumable});
}
