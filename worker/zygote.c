/*
 * zygote.c: a process that has loaded once and forks workers, which share its memory copy-on-write.
 * The worker becomes a child of hasupd: a process in the middle forks it and is gone at once.  That
 * one borrows the zygote's memory, so that a large model's page tables are copied once and not
 * twice.
 *
 * Must not touch the model's pages.  What cannot be forked (threads, a GPU in use) is refused with
 * a reason, never tried: the worker would hang or crash later, far from the cause.
 */
#include "worker/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { WHY = 200 };

/* hasupd looks for this word: no later SPAWN will do better. */
static const char UNFORKABLE[] = "unforkable";

/* ---- what cannot be forked ---- */

/* Another thread than this one, or "". */
static void find_thread(char *why)
{
    char path[300], name[32] = "";
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        if (task->d_name[0] == '.' || ++count == 1)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *file = fopen(path, "re");
        if (file && !fgets(name, sizeof name, file))
            name[0] = '\0';
        if (file)
            fclose(file);
    }
    if (tasks)
        closedir(tasks);
    name[strcspn(name, "\n")] = '\0';
    if (count > 1)
        snprintf(why, WHY,
                 "%u other thread%s (\"%s\") would not be there after a fork: start threads in "
                 "`forked`, or leave preload off",
                 count - 1, count > 2 ? "s" : "", name);
}

/* An open device of a GPU, or "". */
static void find_device(char *why)
{
    char path[300], device[128];
    DIR *fds = opendir("/proc/self/fd");
    for (struct dirent *entry; fds && !*why && (entry = readdir(fds));) {
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t len = readlink(path, device, sizeof device - 1);
        device[len > 0 ? len : 0] = '\0';
        if (strncmp(device, "/dev/nvidia", 11) == 0 || strcmp(device, "/dev/kfd") == 0)
            snprintf(why, WHY,
                     "%.60s is open, and a GPU in use does not survive a fork: use it in "
                     "`forked`, or leave preload off",
                     device);
    }
    if (fds)
        closedir(fds);
}

static void find_cuda(char *why)
{
    char line[512];
    FILE *file = fopen("/proc/self/maps", "re");
    while (file && !*why && fgets(line, sizeof line, file))
        if (strstr(line, "/libcuda.so"))
            snprintf(why, WHY,
                     "libcuda is loaded, and a CUDA context does not survive a fork: use the GPU "
                     "in `forked`, or leave preload off");
    if (file)
        fclose(file);
}

/* ---- the fork ---- */

/* Borrows this process's memory and stack until it exits; a sanitizer does not bear that. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FORK_MIDDLE() fork()
#else
#define FORK_MIDDLE() vfork()
#endif

struct birth {
    int told[2]; /* the middle says the worker's pid there, or a negative errno */
    int held[2]; /* the worker waits there until it is known */
};

/* In the worker 0; in the zygote 1: what came of it is told. */
static int fork_worker(const struct birth *birth)
{
    pid_t middle = FORK_MIDDLE();
    if (middle == 0) {
        pid_t pid = fork();
        if (pid == 0)
            return 0;
        int told = pid < 0 ? -errno : pid;
        (void)!write(birth->told[1], &told, sizeof told);
        _exit(0);
    }
    int failed = middle < 0 ? -errno : 0;
    if (failed)
        (void)!write(birth->told[1], &failed, sizeof failed);
    while (middle > 0 && waitpid(middle, NULL, 0) < 0 && errno == EINTR)
        continue;
    return 1;
}

static void close_pair(int *pair)
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

/* ---- in the worker ---- */

/* Until who is in the middle is gone; then whether hasupd is the parent, and will be outlived by
 * none of its workers. */
static bool belong_to(pid_t hasupd)
{
    pid_t parent = getppid();
    if (parent != hasupd) {
        int middle = (int)syscall(SYS_pidfd_open, parent, 0);
        struct pollfd poller = {.fd = middle, .events = POLLIN};
        while (middle >= 0 && getppid() == parent)
            poll(&poller, 1, -1);
        if (middle >= 0)
            close(middle);
    }
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == hasupd;
}

/* Where the new value has the old one's length it takes its place, so that /proc shows it: by it
 * hasupd knows whose a process is that left its group. */
static void set_variable(const char *variable)
{
    size_t name = strcspn(variable, "=");
    for (char **at = environ; at && *at; at++)
        if (strncmp(*at, variable, name + 1) == 0 && strlen(*at) == strlen(variable)) {
            memcpy(*at, variable, strlen(variable));
            return;
        }
    char *copy = strndup(variable, name);
    if (copy && variable[name])
        setenv(copy, variable + name + 1, 1);
    free(copy);
}

static void set_environment(const struct hasup_frame *frame)
{
    const char *at = (const char *)frame->body;
    const char *end = at ? at + frame->body_len : at;
    const char *zero;
    for (; at < end && (zero = memchr(at, '\0', (size_t)(end - at))); at = zero + 1)
        set_variable(at);
    if (getenv("LISTEN_PID")) { /* the sockets are this process's, too */
        char pid[16];
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        setenv("LISTEN_PID", pid, 1);
    }
    unsetenv("HASUP_FD"); /* the zygote's */
    unsetenv("HASUP_ZYGOTE");
}

static int become_worker(struct hasup_runtime *runtime, struct hasup_frame *frame, pid_t hasupd,
                         const struct birth *birth)
{
    char byte;
    close(birth->held[1]);
    close_pair((int[]){birth->told[0], birth->told[1]});
    hasup_channel_fini(&runtime->channel);
    if (setpgid(0, 0) || read(birth->held[0], &byte, 1) != 1 || !belong_to(hasupd))
        _exit(1); /* nobody knows of it */
    close(birth->held[0]);
    set_environment(frame);
    hasup_memory_free_all(runtime);
    runtime->theirs = runtime->ours = NULL;
    runtime->inline_max = HASUP_INLINE_MAX;
    runtime->zygote = runtime->ready = false;
    runtime->forked = true;
    hasup_channel_init(&runtime->channel, frame->fd, 0);
    frame->fd = -1;
    return hasup_say_hello(runtime);
}

/* ---- in the zygote ---- */

static int answer(struct hasup_runtime *runtime, uint64_t id, pid_t pid, int pidfd)
{
    uint8_t meta[16];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put32(&w, HASUP_TAG_PID, (uint32_t)pid);
    int error = hasup_send_frame(runtime, &(struct hasup_frame){.type = HASUP_SPAWNED,
                                                                .flags = HASUP_FLAG_FD,
                                                                .id = id,
                                                                .meta = meta,
                                                                .meta_len = (uint32_t)w.used,
                                                                .fd = pidfd});
    return error ? error : hasup_flush(runtime);
}

static int refuse(struct hasup_runtime *runtime, uint64_t id, const char *why, bool for_good)
{
    uint8_t meta[WHY + sizeof UNFORKABLE + 2 * HASUP_FIELD_HEADER];
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, sizeof meta);
    hasup_meta_put(&w, HASUP_TAG_ERROR, why, strlen(why));
    if (for_good)
        hasup_meta_put(&w, HASUP_TAG_CODE, UNFORKABLE, sizeof UNFORKABLE - 1);
    int error = hasup_send_frame(
        runtime,
        &(struct hasup_frame){
            .type = HASUP_SPAWNED, .id = id, .meta = meta, .meta_len = (uint32_t)w.used, .fd = -1});
    return error ? error : hasup_flush(runtime);
}

static int refuse_errno(struct hasup_runtime *runtime, uint64_t id, const char *step, int number)
{
    char why[WHY];
    snprintf(why, sizeof why, "%s: %s", step, strerror(number));
    return refuse(runtime, id, why, false);
}

/* What became of the fork.  The worker goes on only once it is known for sure which one it is. */
static int tell(struct hasup_runtime *runtime, uint64_t id, const struct birth *birth)
{
    int told = 0;
    if (read(birth->told[0], &told, sizeof told) != sizeof told)
        return refuse(runtime, id, "fork: the process in the middle died", false);
    if (told < 0)
        return refuse_errno(runtime, id, "fork", -told);
    int pidfd = (int)syscall(SYS_pidfd_open, told, 0);
    if (pidfd < 0)
        return refuse_errno(runtime, id, "pidfd_open", errno);
    int error = answer(runtime, id, told, pidfd);
    close(pidfd);
    if (!error)
        (void)!write(birth->held[1], "", 1);
    return error;
}

int hasup_zygote_spawn(struct hasup_runtime *runtime, struct hasup_frame *frame)
{
    struct birth birth = {{-1, -1}, {-1, -1}};
    char why[WHY] = "";
    const pid_t hasupd = getppid();
    if (!runtime->zygote || frame->fd < 0)
        return HASUP_EPROTO;
    find_thread(why);
    if (!*why)
        find_device(why);
    if (!*why)
        find_cuda(why);
    if (*why)
        return refuse(runtime, frame->id, why, true);
    if (pipe2(birth.told, O_CLOEXEC) || pipe2(birth.held, O_CLOEXEC)) {
        int error = refuse_errno(runtime, frame->id, "pipe", errno);
        close_pair(birth.told);
        return error;
    }
    int error = hasup_flush(runtime); /* else both would write it */
    fflush(NULL);
    if (!error && fork_worker(&birth) == 0)
        return become_worker(runtime, frame, hasupd, &birth);
    close(birth.told[1]);
    birth.told[1] = -1;
    if (!error)
        error = tell(runtime, frame->id, &birth);
    close_pair(birth.told);
    close_pair(birth.held);
    return error;
}
