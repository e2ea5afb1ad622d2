/*
 * init.c: `hasupd run`: starts one command, hands it the terminal and every signal, reaps whatever
 * becomes its child, and leaves nothing of the tree behind.  Owns no memory, opens nothing while
 * the command runs, writes nowhere but to stderr, and never waits for who reads that meanwhile.
 *
 * All signals are blocked from the first line of main() on, and taken one by one, so none is lost
 * however early it comes.  What was ignored before stays so for the command; for this process CHLD
 * alone is not ignored, since the kernel tells nobody of a death who ignores it.
 */
#include "supervisor/init.h"

#include "ipc/base.h"
#include "ipc/standard.h"
#include "supervisor/interpreter.h"
#include "supervisor/memory.h"
#include "supervisor/signals.h"
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    KILL_PATIENCE = 10 /* seconds */,
    SET_BYTES = (SIGNALS - 1) / 8, /* as the kernel has a set of signals */
    SAID_MAX = 512,
    PROCESSES_ASKED = 4096, /* to end, where all get time for it */
    EXIT_FAILED = 1,
    EXIT_USAGE = 2
};

static const char USAGE[] =
    "usage: hasupd run [-g] [-r SIG:SIG]... [-w SECONDS] [-v] [--] COMMAND [ARG]...\n"
    "Runs one command as an init would: hands on signals, reaps orphans, ends with its exit code.\n"
    "  -g           signals go to the command's whole process group\n"
    "  -r SIG:SIG   the second one is handed on instead of the first; 0: none is\n"
    "  -w SECONDS   what is left of the tree gets TERM and so long, before it is killed\n"
    "  -v           tells on stderr what it does, as --verbose; twice: of each orphan, too\n";

struct init {
    const char *name; /* of the command */
    pid_t child;      /* leads a process group of its own */
    bool group;
    int wait; /* seconds */
    int verbose;
    int hand_on[SIGNALS];
    int status;   /* of the child, once it has ended */
    int terminal; /* the standard descriptor of what was ours, and is the child's; -1: none is */
    bool told;    /* to end, by TERM or INT */
};

enum { SAYS = 1, SAYS_ORPHANS = 2 };

/* ---- what it tells ---- */

static bool says(const struct init *init, int level)
{
    return init->verbose >= level;
}

/* One line on stderr; lost where that takes none just now, as an init has better things to do. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[SAID_MAX];
    struct pollfd err = {.fd = STDERR_FILENO, .events = POLLOUT};
    va_list args;
    size_t len = (size_t)snprintf(line, sizeof line, "hasupd run: ");
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - len, format, args);
    va_end(args);
    len += more < 0 ? 0 : (size_t)more;
    if (len > sizeof line - 1)
        len = sizeof line - 1;
    line[len++] = '\n';
    if (poll(&err, 1, 0) == 1 && err.revents & POLLOUT)
        (void)!write(STDERR_FILENO, line, len);
}

static void say_ended(const char *who, pid_t pid, int status)
{
    char text[16];
    if (WIFSIGNALED(status))
        say("%s (pid %d) was ended by %s", who, (int)pid, signal_name(WTERMSIG(status), text));
    else
        say("%s (pid %d) exited with code %d", who, (int)pid, WEXITSTATUS(status));
}

/* ---- options ---- */

_Noreturn static void usage(const char *what, const char *which)
{
    if (what && *what)
        fprintf(stderr, "hasupd run: %s%s\n", what, which ? which : "");
    fputs(USAGE, what ? stderr : stdout);
    exit(what ? EXIT_USAGE : hasup_standard_end("hasupd run", 0));
}

static void rewrite(struct init *init, const char *text)
{
    const char *colon = strchr(text, ':');
    int from = colon ? signal_number(text, (size_t)(colon - text)) : -1;
    int to = colon ? signal_number(colon + 1, strlen(colon + 1)) : -1;
    if (from < 1 || to < 0)
        usage("-r wants SIG:SIG, such as TERM:INT or HUP:0: ", text);
    if (from == SIGKILL || from == SIGSTOP)
        usage("KILL and STOP can be caught by nobody, so nothing else can be handed on: -r ", text);
    init->hand_on[from] = to;
}

static char **read_options(struct init *init, int argc, char **argv)
{
    static const struct option LONG[] = {{"verbose", no_argument, NULL, 'v'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    static char own[] = "hasupd run"; /* what getopt calls itself */
    char *end;
    int option;
    for (int s = 0; s < SIGNALS; s++)
        init->hand_on[s] = s;
    argv[0] = own;
    while ((option = getopt_long(argc, argv, "+gr:w:vh", LONG, NULL)) != -1)
        switch (option) {
        case 'g': init->group = true; break;
        case 'r': rewrite(init, optarg); break;
        case 'w':
            init->wait = (int)strtol(optarg, &end, 10);
            if (end == optarg || *end || init->wait < 0 || init->wait > 86400)
                usage("-w wants whole seconds, at most 86400: ", optarg);
            break;
        case 'v': init->verbose++; break;
        case 'h': usage(NULL, NULL);
        default: usage("", NULL);
        }
    if (!argv[optind])
        usage("which command?", NULL);
    init->name = argv[optind];
    return argv + optind;
}

/* ---- the terminal ---- */

static void give_terminal(int terminal, pid_t group)
{
    while (tcsetpgrp(terminal, group) && errno == EINTR)
        continue;
}

/* Where this process's group and the terminal's are both of an outer namespace, they have no number
 * here to compare.  A terminal refuses to be read from the background by who blocks TTIN. */
static bool in_background(int terminal)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", terminal);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); /* its own way to read */
    bool refused = fd >= 0 && read(fd, path, 0) < 0 && errno == EIO;
    if (fd >= 0)
        close(fd);
    return refused;
}

/* The standard descriptor that is a terminal, and this process group's to give; -1: none is. */
static int own_terminal(void)
{
    const pid_t group = getpgrp();
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (tcgetpgrp(fd) == group && (group || !in_background(fd)))
            return fd;
    return -1;
}

/* ---- the command ---- */

/* sigprocmask() leaves out 32 and 33, which the C library keeps for threads.  This process has
 * none, and they are signals as all others are. */
static void set_mask(const void *mask)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, SET_BYTES);
}

/* The file that execvp() found; false: it is nowhere on PATH. */
static bool find(const char *command, char path[PATH_MAX])
{
    const char *part = getenv("PATH");
    part = part ? part : "/bin:/usr/bin"; /* as execvp() has it */
    snprintf(path, PATH_MAX, "%s", command);
    if (strchr(command, '/'))
        return true;
    for (;; part++) {
        int len = (int)strcspn(part, ":");
        snprintf(path, PATH_MAX, "%.*s/%s", len, len ? part : ".", command);
        if (len < PATH_MAX && access(path, F_OK) == 0)
            return true;
        part += len;
        if (!*part)
            return false;
    }
}

/* On stderr; the exit code. */
static int say_why(const char *command, int why)
{
    char path[PATH_MAX], name[INTERPRETER_NAME];
    const bool there = find(command, path);
    if (why == EACCES && !there)
        why = ENOENT; /* execvp() says so where a directory of PATH may not be searched */
    if (why == ENOENT && there && interpreter_missing(path, name))
        fprintf(stderr, "hasupd run: %s: its interpreter %s: %s\n", command, name, strerror(why));
    else
        fprintf(stderr, "hasupd run: %s: %s\n", command, strerror(why));
    return spawn_exit_code(why);
}

/* 0, or the exit code.  The command has its process group, and the terminal, before its first
 * instruction.  The child runs on this process's memory until it is another program, which is
 * faster than a copy, or than posix_spawn(), which asks for every signal's disposition. */
static int start(struct init *init, char **command, const sigset_t *mask)
{
    volatile int why = 0;
    void (*const was)(int) = signal(SIGCHLD, SIG_DFL);
    init->terminal = own_terminal();
    init->child = vfork();
    if (init->child == 0) {
        setpgid(0, 0);
        if (init->terminal >= 0)
            give_terminal(init->terminal, getpid());
        signal(SIGCHLD, was);
        set_mask(mask);
        execvp(command[0], command);
        why = errno;
        _exit(EXIT_CANNOT);
    }
    int failed = 0;
    if (init->child < 0) {
        fprintf(stderr, "hasupd run: %s: %s\n", command[0], strerror(errno));
        failed = EXIT_FAILED;
    } else if (why) {
        failed = say_why(command[0], why);
    } else if (says(init, SAYS)) {
        say("%s was started as pid %d%s", init->name, (int)init->child,
            init->terminal >= 0 ? ", with the terminal" : "");
    }
    if (failed && init->terminal >= 0)
        give_terminal(init->terminal, getpgrp()); /* the child may have taken it */
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
    init->terminal = own_terminal();
    if (init->terminal >= 0)
        give_terminal(init->terminal, init->child);
    return init->terminal >= 0;
}

/* No shell would let a process go on that stops without one. */
static bool has_shell(const struct init *init)
{
    bool ours = init->terminal >= 0;
    int fd = ours ? -1 : open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return getpid() != 1 && (ours || fd >= 0);
}

/* As a shell's job would: this process stops, too, so that the shell knows, and both go on
 * together.  PID 1 cannot be stopped, and one without a terminal would stay so: these wait for the
 * command to go on. */
static void stop_with_it(struct init *init, int signo)
{
    bool wants_terminal = signo == SIGTTIN || signo == SIGTTOU;
    char text[16];
    if (says(init, SAYS))
        say("%s stopped for %s", init->name, signal_name(signo, text));
    if (!wants_terminal || !take_terminal(init)) {
        if (!has_shell(init))
            return;
        if (init->terminal >= 0)
            give_terminal(init->terminal, getpgrp());
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
        } else if (!WIFSTOPPED(status) && says(init, SAYS_ORPHANS)) {
            say_ended("an orphan", pid, status);
        }
    }
    return ended;
}

static void hand_on(struct init *init, int signo)
{
    char came[16], goes[16];
    int other = init->hand_on[signo];
    init->told = init->told || signo == SIGTERM || signo == SIGINT;
    if (says(init, SAYS))
        say("%s came, %s is handed on to %s", signal_name(signo, came),
            other ? signal_name(other, goes) : "nothing", init->name);
    if (other)
        kill(init->group ? -init->child : init->child, other);
}

/* Nobody sent it but this process, by a line for a reader who is gone. */
static bool is_own(int signo, const siginfo_t *info)
{
    return signo == SIGPIPE && info->si_pid == getpid();
}

static void attend(struct init *init)
{
    sigset_t all;
    siginfo_t info;
    memset(&all, 0xff, sizeof all);
    for (;;) {
        int signo = sigwaitinfo(&all, &info);
        if (signo < 0)
            continue; /* EINTR: stopped, and gone on */
        if (signo == SIGCONT && init->terminal < 0)
            (void)take_terminal(init);
        if (is_own(signo, &info))
            continue;
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

/* Everybody ends, at the latest when the time is over, or at a second TERM or INT. */
static void end_all(struct init *init)
{
    const struct timespec moment = {.tv_nsec = 10 * HASUP_MS};
    hasup_ns until = now() + (hasup_ns)init->wait * HASUP_S;
    bool asked = !init->wait, killed = false;
    sigset_t wakes;
    pid_t pid;
    int status;
    sigemptyset(&wakes);
    sigaddset(&wakes, SIGCHLD);
    sigaddset(&wakes, SIGTERM);
    sigaddset(&wakes, SIGINT);
    for (;;) {
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
            if (says(init, SAYS_ORPHANS))
                say_ended("an orphan", pid, status);
        if (pid < 0)
            return;
        if (now() > until + KILL_PATIENCE * HASUP_S) {
            say("something that %s has left does not die", init->name);
            return;
        }
        if (!asked) {
            if (says(init, SAYS))
                say("what %s has left gets TERM, and %d s", init->name, init->wait);
            ask_all(init);
        }
        asked = true;
        if (now() >= until) {
            if (!killed && says(init, SAYS))
                say("what %s has left is killed", init->name);
            killed = true;
            kill_children(init);
        }
        int signo = sigtimedwait(&wakes, NULL, &moment);
        bool tells = signo == SIGTERM || signo == SIGINT, waits = now() < until;
        char came[16];
        if (tells && waits && says(init, SAYS))
            say("%s came, %s", signal_name(signo, came),
                init->told ? "which ends the waiting" : "once more ends the waiting");
        if (tells && init->told && waits)
            until = now();
        init->told = init->told || tells;
    }
}

int init_run(int argc, char **argv, const sigset_t *mask)
{
    static const unsigned char ALL[SET_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct init init = {0};
    set_mask(ALL);
    char **command = read_options(&init, argc, argv);
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    int failed = start(&init, command, mask);
    if (failed)
        return failed;
    dl_iterate_phdr(give_back, NULL);
    attend(&init);
    if (says(&init, SAYS))
        say_ended(init.name, init.child, init.status);
    end_all(&init);
    if (init.terminal >= 0)
        give_terminal(init.terminal, getpgrp());
    return WIFSIGNALED(init.status) ? 128 + WTERMSIG(init.status) : WEXITSTATUS(init.status);
}
