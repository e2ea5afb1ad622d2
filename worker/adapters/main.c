/*
 * main.c: the life of hasup-http: hello, the server started and looked at until it is ready,
 * requests relayed, drain.  Owns the loop: one wait for hasupd's socket, signals, the server's end
 * and all transfers, so that a ping is answered however busy the server is.
 *
 * The server's end is this program's: it dies as the server died (the same signal, the same code),
 * so that hasupd sees what it would have seen of the server itself.
 */
#include "worker/adapters/adapter.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_BROKEN = 1, EXIT_USAGE = 2 };
enum { DEATH_WAIT_MS = 250, SAY_WAIT_MS = 1000, FOREVER_MS = 1 << 30 };

struct adapter {
    struct options options;
    struct hasup_runtime runtime;
    struct server server;
    struct relay relay;
    int signals;
    struct {
        CURL *easy; /* NULL: none looks now */
        hasup_ns next;
    } probe;
    bool looking; /* whether the server is ready */
    bool welcomed, ready;
    bool leaving; /* what is in hand is finished, then the server ends */
    bool deaf;    /* SIGTERM: nothing more is read */
    bool stopping, broken;
};

static hasup_ns clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

/* ---- ends ---- */

/* Waits until what was said is read by hasupd, or it is clear that it will not be. */
static void say_all(struct adapter *a)
{
    hasup_ns until = clock_ns() + SAY_WAIT_MS * HASUP_MS;
    while (hasup_channel_flush(&a->runtime.channel) == HASUP_EAGAIN && clock_ns() < until) {
        struct pollfd writable = {.fd = a->runtime.channel.fd, .events = POLLOUT};
        poll(&writable, 1, 10);
    }
}

_Noreturn static void die_as(int status)
{
    if (WIFSIGNALED(status)) {
        const struct rlimit none = {0};
        sigset_t one;
        setrlimit(RLIMIT_CORE, &none); /* the server has left its own */
        signal(WTERMSIG(status), SIG_DFL);
        sigemptyset(&one);
        sigaddset(&one, WTERMSIG(status));
        kill(getpid(), WTERMSIG(status));
        sigprocmask(SIG_UNBLOCK, &one, NULL);
    }
    _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_BROKEN);
}

_Noreturn static void server_died(struct adapter *a, int status)
{
    if (WIFSIGNALED(status))
        fprintf(stderr, "hasup-http: the server was killed by signal %d (%s)\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    else
        fprintf(stderr, "hasup-http: the server exited with code %d\n", WEXITSTATUS(status));
    say_all(a);
    server_forget(&a->server);
    die_as(status);
}

/* It broke a connection: most often because it is dying, which says more than the connection. */
_Noreturn static void server_failed(struct adapter *a)
{
    struct pollfd end = {.fd = a->server.pidfd, .events = POLLIN};
    int status;
    fprintf(stderr, "hasup-http: %s\n", a->relay.crash);
    say_all(a);
    poll(&end, 1, DEATH_WAIT_MS);
    if (server_ended(&a->server, &status))
        server_died(a, status);
    server_forget(&a->server);
    _exit(EXIT_BROKEN);
}

/* ---- frames to hasupd ---- */

static int send_plain(struct adapter *a, enum hasup_frame_type type, uint64_t id,
                      struct hasup_meta_writer *w)
{
    struct hasup_frame frame = {.type = (uint8_t)type, .id = id};
    struct hasup_bytes meta = {0};
    if (w)
        meta = (struct hasup_bytes){.at = w->bytes, .len = w->used, .room = w->room};
    return hasup_send(&a->runtime, &frame, w ? &meta : NULL, NULL, 0);
}

static int say_hello(struct adapter *a)
{
    uint8_t bytes[64];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put32(&w, HASUP_TAG_PROTOCOL, HASUP_FRAME_VERSION);
    hasup_meta_put32(&w, HASUP_TAG_CONCURRENCY, a->options.concurrency);
    hasup_meta_put64(&w, HASUP_TAG_ABILITIES, HASUP_CAN_CANCEL);
    return send_plain(a, HASUP_HELLO, 0, &w);
}

static int say_not_ready(struct adapter *a, const char *why)
{
    uint8_t bytes[ADAPTER_REASON + HASUP_FIELD_HEADER];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, bytes, sizeof bytes);
    hasup_meta_put(&w, HASUP_TAG_ERROR, why, strlen(why));
    fprintf(stderr, "hasup-http: %s\n", why);
    return send_plain(a, HASUP_READY, 0, &w);
}

/* ---- frames from hasupd ---- */

static int take_frame(struct adapter *a, struct hasup_frame *frame)
{
    switch (frame->type) {
    case HASUP_WELCOME: a->welcomed = true; return 0;
    case HASUP_REQUEST: return a->ready ? relay_begin(&a->relay, frame) : HASUP_EPROTO;
    case HASUP_CANCEL: return relay_cancel(&a->relay, frame->id);
    case HASUP_PING: return send_plain(a, HASUP_PONG, frame->id, NULL);
    case HASUP_DRAIN: a->leaving = true; return 0;
    case HASUP_BUFFER:
    case HASUP_BUFFER_GONE:
    case HASUP_RELEASE: return hasup_memory_frame(&a->runtime, frame);
    }
    return HASUP_EPROTO;
}

static int listen_to_hasupd(struct adapter *a)
{
    struct hasup_frame frame;
    int64_t got =
        hasup_channel_fill(&a->runtime.channel, a->runtime.scratch, HASUP_CHANNEL_SCRATCH);
    if (got < 0)
        return got == HASUP_EAGAIN ? 0 : (int)got;
    int next, error = 0;
    while (!error && (next = hasup_channel_next(&a->runtime.channel, &frame)) > 0) {
        error = take_frame(a, &frame);
        if (frame.fd >= 0)
            close(frame.fd);
    }
    return error ? error : next;
}

/* ---- readiness ---- */

static size_t pass_over(char *bytes, size_t size, size_t count, void *context)
{
    (void)bytes;
    (void)context;
    return size * count;
}

static int probe_begin(struct adapter *a)
{
    CURL *easy = relay_handle(&a->server);
    a->probe.next = clock_ns() + a->options.interval_ms * HASUP_MS;
    if (!easy)
        return HASUP_ENOMEM;
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)a->options.timeout_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, pass_over);
    if (a->options.ready)
        curl_easy_setopt(easy, CURLOPT_REQUEST_TARGET, a->options.ready);
    else
        curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    a->probe.easy = easy;
    return curl_multi_add_handle(a->relay.multi, easy) == CURLM_OK ? 0 : HASUP_ENOMEM;
}

/* Whether the probe is over; *ready: with success. */
static bool probe_over(struct adapter *a, bool *ready)
{
    int left;
    long status = 0;
    CURLMsg *message = curl_multi_info_read(a->relay.multi, &left);
    if (!message || message->msg != CURLMSG_DONE)
        return false;
    curl_easy_getinfo(a->probe.easy, CURLINFO_RESPONSE_CODE, &status);
    *ready = message->data.result == CURLE_OK &&
             (!a->options.ready || (status >= 200 && status < 400));
    curl_multi_remove_handle(a->relay.multi, a->probe.easy);
    curl_easy_cleanup(a->probe.easy);
    a->probe.easy = NULL;
    return true;
}

static int look_whether_ready(struct adapter *a)
{
    int running, error = 0;
    bool ready = false;
    if (a->looking && !a->probe.easy && clock_ns() >= a->probe.next)
        error = probe_begin(a);
    if (error || curl_multi_perform(a->relay.multi, &running) != CURLM_OK)
        return HASUP_ENOMEM;
    if (a->probe.easy && probe_over(a, &ready) && ready)
        a->looking = false; /* no more looks */
    if (a->looking || a->probe.easy || !a->welcomed)
        return 0;
    a->ready = true;
    return send_plain(a, HASUP_READY, 0, NULL);
}

/* ---- the loop ---- */

static void on_signal(struct adapter *a)
{
    struct signalfd_siginfo info;
    while (read(a->signals, &info, sizeof info) == sizeof info)
        a->leaving = a->deaf = true;
}

/* Everything is answered: the server may go, and then this program. */
static void stop(struct adapter *a)
{
    a->stopping = true;
    relay_close(&a->relay); /* idle connections would keep some servers from leaving */
    server_terminate(&a->server);
}

static void look_at_server(struct adapter *a)
{
    int status;
    if (!server_ended(&a->server, &status))
        return;
    if (!a->stopping)
        server_died(a, status);
    server_forget(&a->server);
    say_all(a);
    exit(0);
}

static int wait_ms(const struct adapter *a)
{
    hasup_ns left;
    if (a->ready || a->probe.easy || !a->looking)
        return FOREVER_MS; /* curl knows its own times */
    left = a->probe.next - clock_ns();
    return left > 0 ? (int)(left / HASUP_MS) + 1 : 0;
}

static int wait_for_all(struct adapter *a)
{
    struct hasup_channel *channel = &a->runtime.channel;
    short wanted = hasup_channel_unsent(channel) ? CURL_WAIT_POLLOUT : 0;
    struct curl_waitfd fds[] = {{.fd = a->signals, .events = CURL_WAIT_POLLIN},
                                {.fd = a->server.pidfd, .events = CURL_WAIT_POLLIN},
                                {.fd = channel->fd, .events = wanted}};
    if (!a->deaf)
        fds[2].events |= CURL_WAIT_POLLIN;
    if (a->stopping) {
        struct pollfd last[] = {{.fd = a->signals, .events = POLLIN},
                                {.fd = a->server.pidfd, .events = POLLIN}};
        poll(last, HASUP_LEN(last), -1);
        on_signal(a);
        look_at_server(a);
        return 0;
    }
    CURLMcode got = curl_multi_poll(a->relay.multi, fds, HASUP_LEN(fds), wait_ms(a), NULL);
    if (got != CURLM_OK && got != CURLM_UNRECOVERABLE_POLL)
        return HASUP_ENOMEM;
    if (fds[0].revents)
        on_signal(a);
    if (fds[1].revents)
        look_at_server(a);
    return fds[2].revents && !a->deaf ? listen_to_hasupd(a) : 0;
}

static int serve(struct adapter *a)
{
    for (;;) {
        int error = a->ready ? relay_turn(&a->relay) : look_whether_ready(a);
        if (a->relay.crash[0])
            server_failed(a);
        if (!error)
            error = hasup_channel_flush(&a->runtime.channel);
        if (error && error != HASUP_EAGAIN)
            return error;
        if (relay_may_go_on(&a->relay))
            continue;
        if (a->leaving && !a->relay.list && !hasup_channel_unsent(&a->runtime.channel))
            stop(a);
        while (a->stopping)
            (void)!wait_for_all(a);
        if ((error = wait_for_all(a)))
            return error;
    }
}

/* ---- start ---- */

static const char USAGE[] =
    "usage: hasup-http [OPTION]... -- COMMAND [ARG]...\n"
    "Runs an HTTP server as a worker of hasupd, which starts it for a model with\n"
    "`adapter: {kind: http}` (docs/adapters.md).\n"
    "In COMMAND {port} and {socket} are replaced; hasupd has replaced {slot} and {model}.\n"
    "  --concurrency=N        requests that the server gets at once\n"
    "  --port=N               slot 0 listens there, on 127.0.0.1; 0: a free port\n"
    "  --socket=PATH          it listens at a Unix socket\n"
    "  --socket-default=PATH  the same, where COMMAND holds {socket}\n"
    "  --ready=PATH           answers 200 to 399 when it is ready; else when it takes connections\n"
    "  --ready-interval=MS    between two looks\n"
    "  --ready-timeout=MS     for one\n"
    "  --whole-max=BYTES      an answer up to this size is passed on when it is whole\n";

static const struct option LONG[] = {{"concurrency", required_argument, NULL, 'c'},
                                     {"port", required_argument, NULL, 'p'},
                                     {"socket", required_argument, NULL, 's'},
                                     {"socket-default", required_argument, NULL, 'd'},
                                     {"ready", required_argument, NULL, 'r'},
                                     {"ready-interval", required_argument, NULL, 'i'},
                                     {"ready-timeout", required_argument, NULL, 't'},
                                     {"whole-max", required_argument, NULL, 'w'},
                                     {"help", no_argument, NULL, 'h'},
                                     {0}};

static uint64_t number(const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end) {
        fprintf(stderr, "hasup-http: %s is not a number\n%s", text, USAGE);
        exit(EXIT_USAGE);
    }
    return value;
}

static void read_options(struct options *o, int argc, char **argv)
{
    int got;
    *o = (struct options){.concurrency = 1,
                          .interval_ms = 100,
                          .timeout_ms = 1000,
                          .whole_max = HASUP_INLINE_MAX,
                          .socket_default = "hasup-{model}-{slot}.http"};
    while ((got = getopt_long(argc, argv, "+", LONG, NULL)) != -1)
        switch (got) {
        case 'c': o->concurrency = (uint32_t)number(optarg); break;
        case 'p': o->port = (uint32_t)number(optarg); break;
        case 's': o->socket = optarg; break;
        case 'd': o->socket_default = optarg; break;
        case 'r': o->ready = optarg; break;
        case 'i': o->interval_ms = (uint32_t)number(optarg); break;
        case 't': o->timeout_ms = (uint32_t)number(optarg); break;
        case 'w': o->whole_max = number(optarg); break;
        case 'h': fputs(USAGE, stdout); exit(0);
        default: fputs(USAGE, stderr); exit(EXIT_USAGE);
        }
    o->command = argv + optind;
    if (!*o->command || !o->concurrency) {
        fputs(USAGE, stderr);
        exit(EXIT_USAGE);
    }
}

static int hasupds_descriptor(void)
{
    const char *text = getenv("HASUP_FD");
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    if (text && *text && !*end && fd >= 0 && fd < 1 << 20)
        return (int)fd;
    fprintf(stderr, "hasup-http: hasupd starts this program.\n%s", USAGE);
    exit(EXIT_USAGE);
}

static int open_signals(void)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int run(struct adapter *a)
{
    char error[ADAPTER_REASON];
    int failed = say_hello(a);
    if (!failed)
        failed = relay_open(&a->relay);
    if (failed)
        return failed;
    if (server_start(&a->server, &a->options, error)) {
        failed = say_not_ready(a, error);
        say_all(a);
        return failed ? failed : HASUP_EWORKER;
    }
    a->looking = true;
    return serve(a);
}

int main(int argc, char **argv)
{
    static struct adapter a;
    read_options(&a.options, argc, argv);
    hasup_channel_init(&a.runtime.channel, hasupds_descriptor(), 0);
    a.runtime.inline_max = HASUP_INLINE_MAX;
    a.runtime.scratch = malloc(HASUP_CHANNEL_SCRATCH);
    a.signals = open_signals();
    a.relay = (struct relay){.runtime = &a.runtime, .options = &a.options, .server = &a.server};
    bool fine = a.runtime.scratch && a.signals >= 0 && !curl_global_init(CURL_GLOBAL_NOTHING);
    int error = fine ? run(&a) : HASUP_ENOMEM;
    if (error && error != HASUP_EWORKER && error != HASUP_ECLOSED)
        fprintf(stderr, "hasup-http: the connection to hasupd failed: %s\n", hasup_strerror(error));
    server_forget(&a.server);
    return EXIT_BROKEN;
}
