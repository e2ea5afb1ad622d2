/*
 * upgrade.c: hasupd replaced by another binary in the same process.  First the new one is run as a
 * child that loads a copy of the core and the configuration and says whether it can take over,
 * while the old one serves on; then, at the end of a turn in which nothing is half done, everything
 * is written to a sealed memfd and the new one is executed.  Until exec has succeeded nothing is
 * given up: where it fails the old one goes on as if nothing had been asked.
 *
 * Owns the memfds, the child and the time limits.  Knows nothing of what is carried.
 */
#include "supervisor/upgrade.h"

#include "supervisor/config.h"
#include "supervisor/core/core.h"
#include "supervisor/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xxhash.h>

enum { FORMAT = 1, MAGIC = 0x55507368, SUM = 8, VERDICT = 512, PATH_ROOM = 4096, CHECK_FD = 3 };

/* How long the child may take, how long a turn is waited for in which all can be carried. */
static const hasup_ns CHECK_LIMIT = 10 * HASUP_S, HOLD_LIMIT = 10 * HASUP_S, RETRY = HASUP_MS;

enum step { STEP_IDLE, STEP_PREVIEW, STEP_CHECKING, STEP_GO };

/* A file, as it was when it was checked. */
struct seen {
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct upgrade {
    struct loop *loop;
    const struct upgrade_ops *ops;
    void *context;
    char *config_file;
    char own[PATH_ROOM], binary[PATH_ROOM];
    struct seen checked[2]; /* the binary, the configuration */
    enum step step;
    hasup_ns until; /* of the step */
    struct timer timer;
    struct watch verdict;
    int pipe, pidfd;
    char said[VERDICT];
    size_t said_len;
};

/* ---- the bytes ---- */

void upgrade_head_carry(struct carry *carry, struct takeover *head)
{
    CARRY(carry);
    uint32_t magic = MAGIC, format = FORMAT, library = XXH_VERSION_NUMBER;
    codec->what = "its format";
    codec_begin(codec);
    V(magic);
    V(format);
    V(library);
    if (magic != MAGIC || format != FORMAT || library != XXH_VERSION_NUMBER)
        codec_fail(codec);
    carry_text(carry, head->version, sizeof head->version);
    V(head->began);
    carry_fd(carry, &head->http);
    carry_fd(carry, &head->unix_door);
    V(head->off);
    codec_end(codec);
    codec->what = "its parts";
}

/* One pass over everything. */
static size_t pass(struct upgrade *upgrade, struct carry *carry, uint8_t *bytes, size_t room)
{
    carry->fd_count = 0;
    codec_save(&carry->codec, bytes, room);
    upgrade->ops->carry(upgrade->context, carry);
    return carry->codec.used;
}

/* A sealed memfd with all that is carried and the sum of it; -1. */
static int save(struct upgrade *upgrade, struct carry *carry)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL };
    size_t len = pass(upgrade, carry, NULL, 0); /* finds the buffers */
    if (carry->buffer_count)
        len = pass(upgrade, carry, NULL, 0);
    int fd = carry->no_memory ? -1 : memfd_create("hasup-upgrade", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    uint8_t *bytes =
        fallocate(fd, 0, 0, (off_t)(len + SUM)) /* no memory is told here, not later */
            ? MAP_FAILED
            : mmap(NULL, len + SUM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    bool saved = false;
    if (bytes != MAP_FAILED) {
        saved = pass(upgrade, carry, bytes, len) == len;
        uint64_t sum = XXH3_64bits(bytes, len);
        memcpy(bytes + len, &sum, SUM);
        munmap(bytes, len + SUM);
    }
    if (saved && !fcntl(fd, F_ADD_SEALS, SEALS))
        return fd;
    close(fd);
    return -1;
}

int takeover_begin(struct takeover *takeover, int fd, char why[UPGRADE_TEXT])
{
    enum { SEALED = F_SEAL_SHRINK | F_SEAL_WRITE };
    struct stat st;
    uint64_t sum;
    *takeover = (struct takeover){.http = -1, .unix_door = -1};
    /* One call for thousands of descriptors; a kernel before 5.11 takes them one by one. */
    bool closed_by_exec = !syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    snprintf(why, UPGRADE_TEXT, "what is handed over cannot be read");
    int seals = fcntl(fd, F_GET_SEALS);
    if (fstat(fd, &st) || st.st_size < SUM || seals < 0 || (seals & SEALED) != SEALED)
        return HASUP_EPROTO;
    size_t len = (size_t)st.st_size - SUM;
    uint8_t *bytes = mmap(NULL, len + SUM, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (bytes == MAP_FAILED)
        return HASUP_EIO;
    takeover->bytes = bytes;
    takeover->len = len + SUM;
    memcpy(&sum, takeover->bytes + len, SUM);
    /* The first hasupds summed like the core, which is slow where there are bodies. */
    if (sum != XXH3_64bits(takeover->bytes, len) && sum != codec_sum(takeover->bytes, len))
        return HASUP_ECORRUPT;
    codec_load(&takeover->carry.codec, takeover->bytes, len);
    takeover->carry.closed_by_exec = closed_by_exec;
    return 0;
}

int takeover_end(struct takeover *takeover, char why[UPGRADE_TEXT])
{
    const struct codec *codec = &takeover->carry.codec;
    if (!codec->failed && !takeover->carry.no_memory && codec->at == codec->len)
        return 0;
    snprintf(why, UPGRADE_TEXT, "what is handed over cannot be taken: %s",
             codec->failed               ? codec->failed
             : takeover->carry.no_memory ? "out of memory"
                                         : "it has parts that this version does not know");
    return HASUP_EPROTO;
}

void takeover_free(struct takeover *takeover)
{
    carry_free(&takeover->carry);
    if (takeover->bytes)
        munmap(takeover->bytes, takeover->len);
}

/* ---- the end ---- */

static void child_forget(struct upgrade *upgrade)
{
    watch_stop(&upgrade->verdict);
    if (upgrade->pipe >= 0)
        close(upgrade->pipe);
    if (upgrade->pidfd >= 0)
        close(upgrade->pidfd);
    upgrade->pipe = upgrade->pidfd = -1;
}

static void fail(struct upgrade *upgrade, const char *why)
{
    child_forget(upgrade);
    timer_stop(&upgrade->timer);
    upgrade->step = STEP_IDLE;
    LOG_EVENT(LEVEL_ERROR, "upgrade.failed", why, LOG_TEXT("binary", upgrade->binary),
              LOG_TEXT("effect", "hasupd " HASUP_VERSION " goes on"));
    upgrade->ops->failed(upgrade->context, why);
    loop_again(upgrade->loop); /* at the end of a turn nothing else sends what that said */
}

static void step_to(struct upgrade *upgrade, enum step step, hasup_ns limit)
{
    upgrade->step = step;
    upgrade->until = loop_clock() + limit;
    (void)!timer_set(&upgrade->timer, upgrade->loop, 0);
}

/* ---- the check ---- */

static void verdict_said(struct upgrade *upgrade)
{
    char why[UPGRADE_TEXT];
    char *said = upgrade->said;
    said[upgrade->said_len] = '\0';
    said[strcspn(said, "\n")] = '\0';
    child_forget(upgrade);
    if (strncmp(said, "ok ", 3) == 0) {
        step_to(upgrade, STEP_GO, HOLD_LIMIT);
        return;
    }
    snprintf(why, sizeof why, "%.200s cannot take over: %.250s", upgrade->binary,
             *said ? said : "it says nothing to --upgrade-check (is it a hasupd?)");
    fail(upgrade, why);
}

static void verdict_ready(void *context, int events)
{
    struct upgrade *upgrade = context;
    (void)events;
    size_t room = sizeof upgrade->said - 1 - upgrade->said_len;
    ssize_t got = read(upgrade->pipe, upgrade->said + upgrade->said_len, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0)
        upgrade->said_len += (size_t)got;
    if (got <= 0 || upgrade->said_len == sizeof upgrade->said - 1)
        verdict_said(upgrade);
}

static void see(const struct upgrade *upgrade, struct seen seen[2])
{
    const char *const files[2] = {upgrade->binary, upgrade->config_file};
    for (int i = 0; i < 2; i++) {
        struct stat st = {0};
        if (stat(files[i], &st))
            st = (struct stat){0};
        seen[i] = (struct seen){.inode = st.st_ino, .size = st.st_size, .changed = st.st_mtim};
    }
}

/* Whether what would be executed is what was checked. */
static bool is_as_checked(const struct upgrade *upgrade)
{
    struct seen now[2];
    bool same = true;
    see(upgrade, now);
    for (int i = 0; i < 2; i++) {
        const struct seen *a = &now[i], *b = &upgrade->checked[i];
        same = same && a->inode == b->inode && a->size == b->size &&
               a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
    }
    return same;
}

/* 0, or errno. */
static int check_spawn(struct upgrade *upgrade, int state, int out)
{
    char *argv[] = {upgrade->binary, "--upgrade-check", "3", "-c", upgrade->config_file, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    pid_t pid;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, state, CHECK_FD);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int failed = posix_spawn(&pid, upgrade->binary, &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (!failed) /* it is reaped with all other children */
        upgrade->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return failed;
}

static void check_begin(struct upgrade *upgrade)
{
    struct carry carry = {.began = loop_clock()};
    char why[UPGRADE_TEXT];
    int ends[2] = {-1, -1}, state = save(upgrade, &carry);
    carry_free(&carry);
    see(upgrade, upgrade->checked);
    int failed = state < 0 || pipe2(ends, O_CLOEXEC) ? errno : 0;
    if (!failed)
        failed = check_spawn(upgrade, state, ends[1]);
    if (state >= 0)
        close(state);
    if (ends[1] >= 0)
        close(ends[1]);
    upgrade->pipe = ends[0];
    upgrade->said_len = 0;
    if (!failed && (fcntl(ends[0], F_SETFL, O_NONBLOCK) ||
                    watch_set(&upgrade->verdict, upgrade->loop, ends[0], WATCH_READ)))
        failed = ENOMEM;
    if (!failed) {
        step_to(upgrade, STEP_CHECKING, CHECK_LIMIT);
        return;
    }
    snprintf(why, sizeof why, "cannot run %.300s: %s", upgrade->binary, strerror(failed));
    fail(upgrade, why);
}

/* ---- the point of no return ---- */

/* False: one that goes along is not open (errno), which the next hasupd would not notice. */
static bool fds_keep(const struct carry *carry, bool keep)
{
    bool open = true;
    for (size_t i = 0; i < carry->fd_count && (open || !keep); i++)
        open = fcntl(carry->fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC) >= 0 && open;
    return open;
}

static void go(struct upgrade *upgrade)
{
    struct carry carry = {.began = loop_clock()};
    upgrade->ops->leaving(upgrade->context);
    if (!is_as_checked(upgrade)) {
        fail(upgrade, "the binary or the configuration changed while it was checked");
        return;
    }
    char number[16], why[UPGRADE_TEXT];
    sigset_t all, before;
    int state = save(upgrade, &carry);
    if (state < 0) {
        snprintf(why, sizeof why, "its state cannot be written: %s", strerror(errno));
        carry_free(&carry);
        fail(upgrade, why);
        return;
    }
    snprintf(number, sizeof number, "%d", state);
    char *argv[] = {upgrade->binary, "-c", upgrade->config_file, "--upgrade", number, NULL};
    /* A signal that comes before the next hasupd listens waits for it. */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    fcntl(state, F_SETFD, 0);
    bool kept = fds_keep(&carry, true);
    if (kept)
        execve(upgrade->binary, argv, environ);
    int failed = errno;
    (void)fds_keep(&carry, false);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(state);
    carry_free(&carry);
    snprintf(why, sizeof why, "cannot %s %.300s: %s", kept ? "execute" : "hand a descriptor to",
             upgrade->binary, strerror(failed));
    fail(upgrade, why);
}

/* ---- steps ---- */

static void overdue(struct upgrade *upgrade, const char *holds)
{
    char why[UPGRADE_TEXT];
    if (upgrade->step == STEP_CHECKING) {
        if (upgrade->pidfd >= 0)
            (void)!syscall(SYS_pidfd_send_signal, upgrade->pidfd, SIGKILL, NULL, 0);
        snprintf(why, sizeof why, "%.300s does not say whether it can take over (10 s)",
                 upgrade->binary);
    } else {
        snprintf(why, sizeof why, "not now: %.400s", holds);
    }
    fail(upgrade, why);
}

/* At the end of each turn, after all others. */
static void turn_end(void *context)
{
    struct upgrade *upgrade = context;
    if (upgrade->step == STEP_IDLE)
        return;
    bool waits = upgrade->step == STEP_CHECKING;
    const char *holds = waits ? NULL : upgrade->ops->holds(upgrade->context);
    if (!waits && !holds) {
        if (upgrade->step == STEP_PREVIEW)
            check_begin(upgrade);
        else
            go(upgrade);
    } else if (loop_clock() > upgrade->until) {
        overdue(upgrade, holds);
    } else {
        hasup_ns span = waits ? CHECK_LIMIT : RETRY;
        (void)!timer_set(&upgrade->timer, upgrade->loop, loop_now(upgrade->loop) + span);
    }
}

/* Only that there is a turn. */
static void due(void *context)
{
    (void)context;
}

int upgrade_ask(struct upgrade *upgrade, const char *binary, char why[UPGRADE_TEXT])
{
    if (!binary)
        binary = upgrade->own;
    if (upgrade->step != STEP_IDLE) {
        snprintf(why, UPGRADE_TEXT, "an upgrade to %.300s is under way", upgrade->binary);
        return HASUP_EFULL;
    }
    if (*binary != '/' || strlen(binary) >= sizeof upgrade->binary || access(binary, X_OK)) {
        snprintf(why, UPGRADE_TEXT, "%.300s: %s", binary,
                 *binary != '/' ? "the path of a binary begins with /" : strerror(errno));
        return HASUP_EINVAL;
    }
    snprintf(upgrade->binary, sizeof upgrade->binary, "%s", binary);
    LOG_EVENT(LEVEL_INFO, "upgrade.asked", NULL, LOG_TEXT("binary", upgrade->binary));
    step_to(upgrade, STEP_PREVIEW, HOLD_LIMIT);
    return 0;
}

struct upgrade *upgrade_new(struct loop *loop, const struct upgrade_ops *ops, void *context,
                            const char *config_file)
{
    struct upgrade *upgrade = calloc(1, sizeof *upgrade);
    if (!upgrade)
        return NULL;
    *upgrade = (struct upgrade){.loop = loop,
                                .ops = ops,
                                .context = context,
                                .config_file = strdup(config_file),
                                .timer = {.due = due, .context = upgrade},
                                .verdict = {.ready = verdict_ready, .context = upgrade},
                                .pipe = -1,
                                .pidfd = -1};
    ssize_t len = readlink("/proc/self/exe", upgrade->own, sizeof upgrade->own - 1);
    upgrade->own[len > 0 ? len : 0] = '\0';
    if (upgrade->config_file && !loop_at_turn_end(loop, turn_end, upgrade))
        return upgrade;
    upgrade_free(upgrade);
    return NULL;
}

void upgrade_free(struct upgrade *upgrade)
{
    if (!upgrade)
        return;
    child_forget(upgrade);
    timer_stop(&upgrade->timer);
    free(upgrade->config_file);
    free(upgrade);
}
