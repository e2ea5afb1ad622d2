/*
 * spawn.c: a child by clone3 with CLONE_VM and CLONE_VFORK: it borrows the parent's memory until it
 * has exec'ed, so that the parent's size costs nothing, and it starts inside its cgroup, because
 * moving a running process there takes milliseconds.  The child runs on a stack of its own, calls
 * only the kernel, and leaves what went wrong in the parent's memory.
 *
 * With CLONE_FILES and CLOSE_RANGE_UNSHARE it takes a copy of the low descriptors only: hasupd has
 * some thousands with a thousand slots, and copying and closing them all for each child would take
 * longer than the rest of a start.
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/close_range.h>
#include <linux/sched.h>

enum { CHILD_STACK = 64 * 1024 };
enum { PAD_NULL, PAD_OUT, PAD_ERR, PAD_CHANNEL };

struct plan {
    const struct spawn *spawn;
    int given[SPAWN_PADS]; /* what becomes 0, 1, 2 and the channel; -1: nothing */
    bool shared;           /* the parent's descriptors are not copied yet */
    pid_t parent;
    bool enter;   /* the child goes into its cgroup by itself */
    bool outside; /* it could not */
    int error;
    const char *step;
};

/* To die with hasupd; false: it is dead already. */
static bool child_bound(const struct plan *plan)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == plan->parent;
}

static int child_failed(struct plan *plan, const char *step)
{
    plan->error = errno;
    plan->step = step;
    return 127;
}

static void child_signals(void)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int signo = 1; signo < NSIG; signo++)
        sigaction(signo, &by_default, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* They become 3 and those behind it.  One that has such a number is moved out of the way first. */
static int child_place(int *fds, unsigned count)
{
    const int end = SPAWN_FD + (int)count;
    for (unsigned i = 0; i < count; i++)
        if (fds[i] < end && (fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, end)) < 0)
            return -1;
    for (unsigned i = 0; i < count; i++)
        if (dup2(fds[i], SPAWN_FD + (int)i) < 0)
            return -1;
    return 0;
}

static int child_descriptors(const struct plan *plan)
{
    const struct spawn *spawn = plan->spawn;
    const int *given = plan->given;
    int fds[SPAWN_SOCKETS + 1];
    unsigned count = 0;
    if (dup2(given[PAD_OUT], STDOUT_FILENO) < 0 || dup2(given[PAD_ERR], STDERR_FILENO) < 0 ||
        dup2(given[PAD_NULL], STDIN_FILENO) < 0)
        return -1;
    for (; count < spawn->socket_count; count++)
        fds[count] = spawn->sockets[count];
    if (given[PAD_CHANNEL] >= 0)
        fds[count++] = given[PAD_CHANNEL];
    if (child_place(fds, count))
        return -1;
    /* Everything else is close-on-exec already; this catches what a library forgot. */
    syscall(SYS_close_range, SPAWN_FD + count, ~0U, 0);
    return 0;
}

/* LISTEN_PID, which nobody knows before. */
static void child_write_pid(char *out)
{
    char digits[SPAWN_PID_ROOM];
    size_t len = 0;
    for (unsigned pid = (unsigned)getpid(); pid; pid /= 10)
        digits[len++] = (char)('0' + pid % 10);
    while (len)
        *out++ = digits[--len];
    *out = '\0';
}

/* A table of its own, of the pads and sockets and what is below them. */
static int child_unshare(const struct plan *plan)
{
    int last = 0;
    for (int i = 0; i < SPAWN_PADS; i++)
        last = plan->given[i] > last ? plan->given[i] : last;
    for (unsigned i = 0; i < plan->spawn->socket_count; i++)
        last = plan->spawn->sockets[i] > last ? plan->spawn->sockets[i] : last;
    return (int)syscall(SYS_close_range, (unsigned)last + 1, ~0U, CLOSE_RANGE_UNSHARE);
}

/* The slow way into the cgroup, where clone3 is refused; its children will be there, too. */
static void child_enter(struct plan *plan)
{
    int fd = openat(plan->spawn->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    plan->outside = fd < 0 || write(fd, "0", 1) != 1;
    if (fd >= 0)
        close(fd);
}

/* Runs in the child, on the parent's memory. */
static int child_main(void *context)
{
    struct plan *plan = context;
    const struct spawn *spawn = plan->spawn;
    if (setpgid(0, 0) < 0)
        return child_failed(plan, "setpgid");
    if (!child_bound(plan))
        return 127;
    if (plan->enter)
        child_enter(plan);
    if ((plan->shared && child_unshare(plan)) || child_descriptors(plan))
        return child_failed(plan, "descriptors");
    if (spawn->listen_pid)
        child_write_pid(spawn->listen_pid);
    const char *key = spawn->attributes ? attributes_surround(spawn->attributes) : NULL;
    if (key)
        return child_failed(plan, key);
    if (spawn->directory && chdir(spawn->directory) < 0)
        return child_failed(plan, "chdir");
    child_signals();
    setrlimit(RLIMIT_NOFILE, spawn->descriptors);
    if (spawn->attributes) {
        if ((key = attributes_apply(spawn->attributes)))
            return child_failed(plan, key);
        if (!child_bound(plan)) /* another user does not die with his parent: it is said anew */
            return 127;
    }
    execve(spawn->path, (char *const *)(uintptr_t)spawn->argv,
           (char *const *)(uintptr_t)spawn->env);
    return child_failed(plan, "exec");
}

/* The raw call: the child goes on in `run(context)` on the stack in `args`, and exits with its
 * result. */
static long clone3_run(struct clone_args *args, int (*run)(void *), void *context)
{
#if defined(__x86_64__)
    register int (*r8)(void *) __asm__("r8") = run;
    register void *r9 __asm__("r9") = context;
    long result;
    __asm__ volatile("syscall\n\t"
                     "testq %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xorl %%ebp, %%ebp\n\t"
                     "movq %%r9, %%rdi\n\t"
                     "callq *%%r8\n\t"
                     "movl %%eax, %%edi\n\t"
                     "movl %[exit], %%eax\n\t"
                     "syscall\n\t"
                     "hlt\n"
                     "1:\n"
                     : "=a"(result)
                     : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(r8),
                       "r"(r9), [exit] "i"(SYS_exit)
                     : "rcx", "r11", "memory", "cc");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register long x0 __asm__("x0") = (long)args;
    register long x1 __asm__("x1") = sizeof *args;
    register int (*x10)(void *) __asm__("x10") = run;
    register void *x11 __asm__("x11") = context;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, #0\n\t"
                     "mov x0, x11\n\t"
                     "blr x10\n\t"
                     "mov x8, %[exit]\n\t"
                     "svc #0\n"
                     "1:\n"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x10), "r"(x11), [exit] "i"(SYS_exit)
                     : "memory", "cc", "x30");
    return x0;
#else
    (void)args;
    (void)run;
    (void)context;
    return -ENOSYS;
#endif
}

static long child_start(struct plan *plan, uint8_t *stack, int cgroup)
{
    const unsigned flags = CLONE_VM | CLONE_VFORK;
    struct clone_args args = {.flags = flags | (plan->shared ? CLONE_FILES : 0),
                              .exit_signal = SIGCHLD,
                              .stack = (uint64_t)(uintptr_t)stack,
                              .stack_size = CHILD_STACK};
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)cgroup;
    }
    long pid = clone3_run(&args, child_main, plan);
    bool full = pid == -EAGAIN || pid == -ENOMEM;
    if (pid == -ENOSYS || (pid < 0 && cgroup >= 0 && !full)) {
        /* An older kernel, a container's filter, valgrind, a cgroup that takes nobody this way. */
        plan->enter = cgroup >= 0;
        plan->shared = false;
        int got = clone(child_main, stack + CHILD_STACK, (int)flags | SIGCHLD, plan);
        return got < 0 ? -errno : got;
    }
    return pid;
}

/* ---- descriptors for a child ---- */

void spawn_pads_open(struct spawn_pads *pads)
{
    /* An empty range is refused by a kernel that knows the call, before it does anything. */
    pads->shares = syscall(SYS_close_range, 1, 0, CLOSE_RANGE_UNSHARE) < 0 && errno == EINVAL;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < SPAWN_PADS; i++)
        pads->fds[i] = null < 0 ? -1 : fcntl(null, F_DUPFD_CLOEXEC, SPAWN_FD + 1);
    if (null >= 0)
        close(null);
}

void spawn_pads_close(struct spawn_pads *pads)
{
    for (int i = 0; i < SPAWN_PADS; i++)
        if (pads->fds[i] >= 0)
            close(pads->fds[i]);
}

/* Nothing of a child stays open in hasupd: who reads its pipes waits for their end. */
static void pads_clear(const struct spawn_pads *pads)
{
    for (int i = 0; i < SPAWN_PADS; i++)
        if (i != PAD_NULL)
            dup3(pads->fds[PAD_NULL], pads->fds[i], O_CLOEXEC);
}

static void pads_set(struct plan *plan)
{
    const struct spawn_pads *pads = plan->spawn->pads;
    plan->shared = pads->shares;
    for (int i = 0; i < SPAWN_PADS && plan->shared; i++)
        plan->shared = i == PAD_NULL || plan->given[i] < 0 ||
                       dup3(plan->given[i], pads->fds[i], O_CLOEXEC) >= 0;
    for (int i = 0; i < SPAWN_PADS && plan->shared; i++)
        if (plan->given[i] >= 0)
            plan->given[i] = pads->fds[i];
}

int spawn_child(const struct spawn *spawn, pid_t *pid, const char **step, bool *outside)
{
    static uint8_t stack[CHILD_STACK] __attribute__((aligned(64)));
    struct plan plan = {
        .spawn = spawn,
        .parent = getpid(),
        .given = {spawn->pads->fds[PAD_NULL], spawn->out, spawn->err, spawn->channel}};
    sigset_t all, before;
    int dumpable = prctl(PR_GET_DUMPABLE);
    pads_set(&plan);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    long got = child_start(&plan, stack, spawn->cgroup);
    sigprocmask(SIG_SETMASK, &before, NULL);
    pads_clear(spawn->pads);
    if (spawn->attributes && spawn->attributes->sets_user)
        prctl(PR_SET_DUMPABLE, dumpable); /* the child that changed user shared the memory */
    if (got < 0) {
        *step = "fork";
        return (int)-got;
    }
    *pid = (pid_t)got;
    *step = plan.step;
    *outside = plan.outside;
    return plan.error;
}

int spawn_find(const char *name, const char *const *env, char *path, size_t room)
{
    const char *search = "/usr/local/bin:/usr/bin:/bin";
    if (strchr(name, '/'))
        return snprintf(path, room, "%s", name) < (int)room;
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            search = *env + 5;
    while (*search) {
        size_t len = strcspn(search, ":");
        int got = snprintf(path, room, "%.*s/%s", (int)len, search, name);
        if (len && got > 0 && (size_t)got < room && access(path, X_OK) == 0)
            return 1;
        search += len + (search[len] == ':');
    }
    return 0;
}

int spawn_exit_code(int error)
{
    return error == ENOENT || error == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT;
}

int spawn_find_own(const char *name, char *path, size_t room)
{
    ssize_t len = readlink("/proc/self/exe", path, room - 1);
    char *slash = len > 0 ? memrchr(path, '/', (size_t)len) : NULL;
    size_t left = slash ? room - (size_t)(slash + 1 - path) : 0;
    if (left > strlen(name)) {
        strcpy(slash + 1, name);
        if (access(path, X_OK) == 0)
            return 1;
    }
    snprintf(path, room, "%s", name);
    return 0;
}
