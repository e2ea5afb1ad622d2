/*
 * isolate.c: starts and ends one worker for a restore test.  The caller becomes the subreaper, so
 * that nothing that the worker started can leave its tree, and ends all of it, within a limit.
 */
#include "hasupctl/isolate.h"

#include "supervisor/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    CHANNEL_FD = 3,
    STATUS_FD = 4,
    END_MS = 10 * 1000,
    END_STEP_MS = 2,
    EXIT_MS = 1000,
    LISTEN_MAX = 1000
};

/* What failed in the child, on its way to the caller. */
struct failure {
    int why;
    char step[24];
};

/* ---- the child ---- */

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, text, strlen(text));
    if (fd >= 0)
        close(fd);
}

/* A network of its own, which reaches nothing.  An ordinary user needs a user namespace for it, in
 * which it stays itself; where that is not allowed, the worker has the network. */
static void leave_network(void)
{
    char map[64];
    uid_t user = geteuid();
    gid_t group = getegid();
    if (user == 0) {
        (void)!unshare(CLONE_NEWNET);
        return;
    }
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
        return;
    write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", (unsigned)user, (unsigned)user);
    write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", (unsigned)group, (unsigned)group);
    write_text("/proc/self/gid_map", map);
}

static int become(uid_t user)
{
    if (geteuid() != 0 || user == 0)
        return 0;
    struct passwd *entry = getpwuid(user);
    gid_t group = entry ? entry->pw_gid : (gid_t)user;
    if (entry ? initgroups(entry->pw_name, group) : setgroups(0, NULL))
        return -1;
    return setgid(group) || setuid(user);
}

static int descriptors(int channel, int output, int status)
{
    int null = open("/dev/null", O_RDONLY);
    /* Above what they become, so that none is overwritten before it is moved. */
    int from[] = {null, output, output, channel, status};
    for (int i = 0; i <= STATUS_FD; i++)
        if ((from[i] = fcntl(from[i], F_DUPFD, 16)) < 0)
            return -1;
    for (int i = 0; i <= STATUS_FD; i++)
        if (dup2(from[i], i) < 0)
            return -1;
    syscall(SYS_close_range, STATUS_FD + 1, ~0U, 0);
    return fcntl(STATUS_FD, F_SETFD, FD_CLOEXEC);
}

/* Which step failed; NULL never comes: it execs. */
static const char *child_steps(const struct isolate_order *order, char **environment, pid_t parent)
{
    sigset_t none;
    const struct rlimit no_core = {0, 0};
    if (setpgid(0, 0))
        return "setpgid";
    if (!order->network)
        leave_network();
    if (become(order->user))
        return "change its user";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        return "follow its parent";
    setrlimit(RLIMIT_CORE, &no_core);
    for (int signo = 1; signo < NSIG; signo++)
        signal(signo, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (order->directory && chdir(order->directory))
        return "chdir";
    execvpe(order->command[0], order->command, environment);
    return "exec";
}

static _Noreturn void child(const struct isolate_order *order, char **environment, int leaf,
                            pid_t parent, const int fds[3])
{
    struct failure failure = {0};
    const char *step = "descriptors";
    int in = leaf >= 0 ? openat(leaf, "cgroup.procs", O_WRONLY | O_CLOEXEC) : -1;
    if (in >= 0)
        (void)!write(in, "0", 1);
    if (descriptors(fds[0], fds[1], fds[2]) == 0) {
        for (char **at = environment; *at; at++)
            if (strncmp(*at, "PATH=", 5) == 0)
                putenv(*at); /* where execvpe looks */
        step = child_steps(order, environment, parent);
    }
    failure.why = errno;
    snprintf(failure.step, sizeof failure.step, "%s", step);
    (void)!write(STATUS_FD, &failure, sizeof failure);
    _exit(127);
}

/* ---- signals ---- */

/* An audit that is told to end takes its worker along, with all that it started. */
static const int ENDING[] = {SIGTERM, SIGINT, SIGHUP};
static volatile sig_atomic_t interrupted;
static sigset_t before;

static void on_signal(int signo)
{
    interrupted = signo;
}

static void hold_signals(void)
{
    const struct sigaction note = {.sa_handler = on_signal};
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < HASUP_LEN(ENDING); i++) {
        sigaddset(&held, ENDING[i]);
        sigaction(ENDING[i], &note, NULL);
    }
    sigprocmask(SIG_BLOCK, &held, &before);
}

static void release_signals(void)
{
    for (size_t i = 0; i < HASUP_LEN(ENDING); i++)
        signal(ENDING[i], SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (interrupted)
        raise(interrupted);
}

int isolate_poll(struct pollfd *polls, nfds_t count, int timeout_ms)
{
    const struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    if (interrupted) {
        errno = EINTR;
        return -1;
    }
    return ppoll(polls, count, &limit, &before);
}

/* ---- the start ---- */

static char **environment_of(const struct isolate_order *order, const char *temporary,
                             char own[3][80])
{
    static char channel[] = "HASUP_FD=3";
    static const char *const NAMES[] = {"TMPDIR=", "TMP=", "TEMP=", "HASUP_FD="};
    size_t count = 0, used = 0;
    while (order->environment[count])
        count++;
    char **env = calloc(count + 5, sizeof *env);
    if (!env)
        return NULL;
    for (size_t i = 0; i < 3; i++) {
        snprintf(own[i], 80, "%s%s", NAMES[i], temporary);
        env[used++] = own[i];
    }
    env[used++] = channel;
    for (size_t i = 0; i < count; i++) {
        bool replaced = false;
        for (size_t k = 0; k < HASUP_LEN(NAMES); k++)
            replaced |= strncmp(order->environment[i], NAMES[k], strlen(NAMES[k])) == 0;
        if (!replaced)
            env[used++] = order->environment[i];
    }
    return env;
}

static int make_temporary(const struct isolate_order *order, struct isolated *worker)
{
    strcpy(worker->temporary, "/tmp/hasup-restore.XXXXXX");
    if (!mkdtemp(worker->temporary)) {
        worker->temporary[0] = '\0';
        return -1;
    }
    return geteuid() == 0 && order->user ? chown(worker->temporary, order->user, (gid_t)-1) : 0;
}

/* Waits until the child has exec'ed; 0, or why it has not. */
static int started(int status, const char *command, char error[ISOLATE_ERROR])
{
    struct failure failure;
    ssize_t got;
    do
        got = read(status, &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof failure)
        return 0;
    snprintf(error, ISOLATE_ERROR, "could not start: %.24s: %.120s: %s", failure.step, command,
             strerror(failure.why));
    return HASUP_ESYS;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int isolate_start(const struct isolate_order *order, struct isolated *worker,
                  char error[ISOLATE_ERROR])
{
    int pair[2] = {-1, -1}, out[2] = {-1, -1}, status[2] = {-1, -1};
    char own[3][80];
    char **environment = NULL;
    pid_t parent = getpid();
    *worker = (struct isolated){.pid = -1, .channel = -1, .output = -1};
    hold_signals();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    worker->cgroups = cgroups_open("");
    worker->leaf = worker->cgroups ? leaf_get(worker->cgroups, "restore-test") : NULL;
    if (make_temporary(order, worker) == 0 &&
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 &&
        pipe2(out, O_CLOEXEC) == 0 && pipe2(status, O_CLOEXEC) == 0 &&
        (environment = environment_of(order, worker->temporary, own))) {
        int leaf = worker->leaf ? leaf_directory(worker->leaf) : -1;
        worker->pid = fork();
        if (worker->pid == 0)
            child(order, environment, leaf, parent, (const int[]){pair[1], out[1], status[1]});
    }
    int why = errno, code = worker->pid < 0 ? HASUP_ESYS : 0;
    const int theirs[] = {pair[1], out[1], status[1]};
    close_all(theirs, HASUP_LEN(theirs));
    free(environment);
    worker->channel = pair[0];
    worker->output = out[0];
    if (code)
        snprintf(error, ISOLATE_ERROR, "could not start: %s", strerror(why));
    else
        code = started(status[0], order->command[0], error);
    close_all(&status[0], 1);
    if (code)
        (void)isolate_end(worker, &why);
    else
        fcntl(worker->output, F_SETFL, O_NONBLOCK);
    return code;
}

/* ---- what it prints ---- */

bool isolate_listen(struct isolated *worker)
{
    char more[ISOLATE_TAIL];
    ssize_t got = worker->output >= 0 ? read(worker->output, more, sizeof more) : 0;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    size_t keep = sizeof more - (size_t)got;
    if (worker->tail_len > keep) {
        memmove(worker->tail, worker->tail + worker->tail_len - keep, keep);
        worker->tail_len = keep;
    }
    memcpy(worker->tail + worker->tail_len, more, (size_t)got);
    worker->tail_len += (size_t)got;
    return true;
}

/* ---- the end ---- */

/* Kills every child of the caller, and so those of its dead children, which come to it. */
static void kill_children(void)
{
    char path[64];
    long pid;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *list = fopen(path, "re");
    while (list && fscanf(list, "%ld", &pid) == 1)
        kill((pid_t)pid, SIGKILL);
    if (list)
        fclose(list);
}

static bool kill_tree(struct isolated *worker)
{
    for (int waited = 0; waited < END_MS; waited += END_STEP_MS) {
        pid_t pid;
        if (worker->leaf)
            leaf_kill(worker->leaf);
        kill(-worker->pid, SIGKILL);
        kill_children();
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0 && errno == ECHILD)
            return true;
        poll(NULL, 0, END_STEP_MS);
    }
    return false;
}

/* Who closed its channel ends, most often, and how says why. */
static void wait_exit(const struct isolated *worker)
{
    int fd = (int)syscall(SYS_pidfd_open, worker->pid, 0);
    struct pollfd exits = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        return;
    poll(&exits, 1, EXIT_MS);
    close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    (void)!remove(path);
    return 0;
}

bool isolate_end(struct isolated *worker, int *how)
{
    int status;
    bool gone = true;
    *how = -1;
    if (worker->pid > 0) {
        struct pollfd more = {.fd = worker->output, .events = POLLIN};
        if (worker->left)
            wait_exit(worker);
        /* By itself, where it has ended already. */
        if (waitpid(worker->pid, &status, WNOHANG) == worker->pid)
            *how = status;
        for (int i = 0; i < LISTEN_MAX && poll(&more, 1, 0) > 0 && isolate_listen(worker); i++)
            continue;
        gone = kill_tree(worker);
    }
    close_all(&worker->channel, 1);
    close_all(&worker->output, 1);
    if (worker->leaf)
        leaf_remove(worker->cgroups, "restore-test");
    if (worker->cgroups)
        cgroups_close(worker->cgroups);
    if (worker->temporary[0])
        nftw(worker->temporary, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    release_signals();
    return gone;
}
