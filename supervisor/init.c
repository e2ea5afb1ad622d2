/*
 * init.c: `hasupd run`: starts one command, hands it the terminal and every signal, reaps whatever
 * becomes its child, and leaves nothing of the tree behind.  Owns no memory, opens nothing while
 * the command runs, writes nowhere but to stderr.
 *
 * All signals are blocked from the first line of main() on, and taken one by one, so none is lost
 * however early it comes.  What was ignored before stays so for the command; for this process CHLD
 * alone is not ignored, since the kernel tells nobody of a death who ignores it.
 */
#include "supervisor/init.h"

#include "ipc/base.h"
#include "supervisor/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    KILL_PATIENCE = 10 /* seconds */,
    SIGNALS = 65,
    PROCESSES_ASKED = 4096, /* to end, where all get time for it */
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_CANNOT = 126,
    EXIT_NOT_FOUND = 127
};

static const char USAGE[] =
    "usage: hasupd run [-g] [-r SIG:SIG]... [-w SECONDS] [--] COMMAND [ARG]...\n"
    "Runs one command as an init would: hands on signals, reaps orphans, ends with its exit code.\n"
    "  -g           signals go to the command's whole process group\n"
    "  -r SIG:SIG   the second one is handed on instead of the first; 0: none is\n"
    "  -w SECONDS   what is left of the tree gets TERM and so long, before it is killed\n";

struct init {
    const char *name; /* of the command */
    pid_t child;      /* leads a process group of its own */
    bool group;
    int wait; /* seconds */
    int hand_on[SIGNALS];
    int status;    /* of the child, once it has ended */
    bool terminal; /* it was ours, and is the child's */
};

/* ---- options ---- */

/* By name, with SIG or without, or by number; -1: there is none. */
static int signal_number(const char *text, size_t len)
{
    char name[16], *end;
    if (len >= sizeof name)
        return -1;
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
    for (int s = 1; s < SIGRTMIN; s++)
        if (sigabbrev_np(s) && strcmp(bare, sigabbrev_np(s)) == 0)
            return s;
    int base = strncmp(bare, "RTMIN", 5) == 0   ? SIGRTMIN
               : strncmp(bare, "RTMAX", 5) == 0 ? SIGRTMAX
                                                : 0;
    const char *digits = base ? bare + 5 : name;
    if (base && !*digits)
        return base;
    long number = strtol(digits, &end, 10);
    bool fine = *digits && !*end && number > -SIGNALS && number < SIGNALS;
    number += base;
    return fine && number >= 0 && number < SIGNALS ? (int)number : -1;
}

_Noreturn static void usage(const char *what, const char *which)
{
    if (what)
        fprintf(stderr, "hasupd run: %s%s\n", what, which ? which : "");
    fputs(USAGE, what ? stderr : stdout);
    exit(what ? EXIT_USAGE : 0);
}

static void rewrite(struct init *init, const char *text)
{
    const char *colon = strchr(text, ':');
    int from = colon ? signal_number(text, (size_t)(colon - text)) : -1;
    int to = colon ? signal_number(colon + 1, strlen(colon + 1)) : -1;
    if (from < 1 || to < 0)
        usage("-r wants SIG:SIG, such as TERM:INT or HUP:0: ", text);
    init->hand_on[from] = to;
}

static char **read_options(struct init *init, int argc, char **argv)
{
    static char own[] = "hasupd run"; /* what getopt calls itself */
    char *end;
    int option;
    for (int s = 0; s < SIGNALS; s++)
        init->hand_on[s] = s;
    argv[0] = own;
    while ((option = getopt(argc, argv, "+gr:w:h")) != -1)
        switch (option) {
        case 'g': init->group = true; break;
        case 'r': rewrite(init, optarg); break;
        case 'w':
            init->wait = (int)strtol(optarg, &end, 10);
            if (end == optarg || *end || init->wait < 0 || init->wait > 86400)
                usage("-w wants whole seconds, at most 86400: ", optarg);
            break;
        case 'h': usage(NULL, NULL);
        default: usage("", NULL);
        }
    if (!argv[optind])
        usage("which command?", NULL);
    init->name = argv[optind];
    return argv + optind;
}

/* ---- the terminal ---- */

static void give_terminal(pid_t group)
{
    while (tcsetpgrp(STDIN_FILENO, group) && errno == EINTR)
        continue;
}

/* Whether it is this process group's to give. */
static bool has_terminal(void)
{
    return tcgetpgrp(STDIN_FILENO) == getpgrp();
}

/* ---- the command ---- */

/* 0, or the exit code.  The command has its process group, and the terminal, before its first
 * instruction.  The child runs on this process's memory until it is another program, which is
 * faster than a copy, or than posix_spawn(), which asks for every signal's disposition. */
static int start(struct init *init, char **command, const sigset_t *mask)
{
    volatile int why = 0;
    void (*const was)(int) = signal(SIGCHLD, SIG_DFL);
    init->terminal = has_terminal();
    init->child = vfork();
    if (init->child == 0) {
        setpgid(0, 0);
        if (init->terminal)
            give_terminal(getpid());
        signal(SIGCHLD, was);
        sigprocmask(SIG_SETMASK, mask, NULL);
        execvp(command[0], command);
        why = errno;
        _exit(EXIT_CANNOT);
    }
    int failed = init->child < 0                   ? EXIT_FAILED
                 : why == ENOENT || why == ENOTDIR ? EXIT_NOT_FOUND
                 : why                             ? EXIT_CANNOT
                                                   : 0;
    if (failed)
        fprintf(stderr, "hasupd run: %s: %s\n", command[0], strerror(why ? why : errno));
    if (failed && init->terminal)
        give_terminal(getpgrp()); /* the child may have taken it */
    return failed;
}

/* What the dynamic linker has read once, of a program of which this is a small part, is given back;
 * what is needed comes again. */
static int give_back(struct dl_phdr_info *object, size_t size, void *context)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    (void)size;
    (void)context;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t from = (object->dlpi_addr + part->p_vaddr) & ~(page - 1);
        if (part->p_type == PT_LOAD && !(part->p_flags & PF_W))
            madvise((void *)from, part->p_memsz, MADV_DONTNEED); /* else it stays */
    }
    return 0;
}

/* ---- while it runs ---- */

/* A shell gave it to this process, by fg. */
static bool take_terminal(struct init *init)
{
    init->terminal = has_terminal();
    if (init->terminal)
        give_terminal(init->child);
    return init->terminal;
}

/* No shell would let a process go on that stops without one. */
static bool has_shell(const struct init *init)
{
    int fd = init->terminal ? -1 : open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return getpid() != 1 && (init->terminal || fd >= 0);
}

/* As a shell's job would: this process stops, too, so that the shell knows, and both go on
 * together.  PID 1 cannot be stopped, and one without a terminal would stay so: these wait for the
 * command to go on. */
static void stop_with_it(struct init *init, int signo)
{
    bool wants_terminal = signo == SIGTTIN || signo == SIGTTOU;
    if (!wants_terminal || !take_terminal(init)) {
        if (!has_shell(init))
            return;
        if (init->terminal)
            give_terminal(getpgrp());
        raise(SIGSTOP);
        (void)take_terminal(init);
    }
    kill(-init->child, SIGCONT);
}

/* Everybody who has ended; true: the command is among them. */
static bool reap(struct init *init)
{
    int status;
    pid_t pid;
    bool ended = false;
    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
        if (pid == init->child && WIFSTOPPED(status)) {
            stop_with_it(init, WSTOPSIG(status));
        } else if (pid == init->child) {
            init->status = status;
            ended = true;
        }
    }
    return ended;
}

static void hand_on(const struct init *init, int signo)
{
    int other = init->hand_on[signo];
    if (other)
        kill(init->group ? -init->child : init->child, other);
}

static void attend(struct init *init)
{
    sigset_t all;
    siginfo_t info;
    sigfillset(&all);
    for (;;) {
        int signo = sigwaitinfo(&all, &info);
        if (signo < 0)
            continue; /* EINTR: stopped, and gone on */
        if (signo == SIGCONT && !init->terminal)
            (void)take_terminal(init);
        if (signo != SIGCHLD || info.si_code == SI_USER)
            hand_on(init, signo);
        if (signo == SIGCHLD && reap(init))
            return;
    }
}

/* ---- what is left ---- */

/* To everybody who is there now, once: some take a second TERM for impatience.  Who is stopped goes
 * on, or it would never know.  Whoever is missed is killed when the time is over. */
static void ask_all(const struct init *init)
{
    static pid_t pids[PROCESSES_ASKED];
    if (getpid() == 1) { /* all of the namespace but this one */
        kill(-1, SIGTERM);
        kill(-1, SIGCONT);
        return;
    }
    size_t count = tree_pids(getpid(), pids, PROCESSES_ASKED);
    if (count <= 1) { /* no /proc tells of them */
        kill(-init->child, SIGTERM);
        kill(-init->child, SIGCONT);
    }
    for (size_t i = 1; i < count; i++) {
        kill(pids[i], SIGTERM);
        kill(pids[i], SIGCONT);
    }
}

/* Every child, which is all that is left of the tree, sooner or later: an orphan becomes one. */
static void kill_children(const struct init *init)
{
    char path[64];
    int pid;
    if (getpid() == 1)
        kill(-1, SIGKILL);
    kill(-init->child, SIGKILL);
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    FILE *file = fopen(path, "re");
    while (file && fscanf(file, "%d", &pid) == 1)
        kill(pid, SIGKILL);
    if (file)
        fclose(file);
}

static hasup_ns now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (hasup_ns)t.tv_sec * HASUP_S + (hasup_ns)t.tv_nsec;
}

/* Everybody ends, at the latest when the time is over. */
static void end_all(const struct init *init)
{
    const struct timespec moment = {.tv_nsec = 10 * HASUP_MS};
    const hasup_ns until = now() + (hasup_ns)init->wait * HASUP_S;
    bool asked = !init->wait;
    sigset_t chld;
    pid_t pid;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    for (;;) {
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            continue;
        if (pid < 0)
            return;
        if (now() > until + KILL_PATIENCE * HASUP_S) {
            fprintf(stderr, "hasupd run: something that %s has left does not die\n", init->name);
            return;
        }
        if (!asked)
            ask_all(init);
        asked = true;
        if (now() >= until)
            kill_children(init);
        sigtimedwait(&chld, NULL, &moment);
    }
}

int init_run(int argc, char **argv, const sigset_t *mask)
{
    struct init init = {0};
    char **command = read_options(&init, argc, argv);
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    int failed = start(&init, command, mask);
    if (failed)
        return failed;
    dl_iterate_phdr(give_back, NULL);
    attend(&init);
    end_all(&init);
    if (init.terminal)
        give_terminal(getpgrp());
    return WIFSIGNALED(init.status) ? 128 + WTERMSIG(init.status) : WEXITSTATUS(init.status);
}
