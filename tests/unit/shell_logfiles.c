/* Log files: no line lost or torn across rotations, reopened by name, a full disk survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/crypto.h"
#include "supervisor/logfiles.h"

struct world {
    char directory[64];
    struct logfiles *files;
    pthread_mutex_t lock;
    pthread_cond_t woken;
};

static void wake(void *context)
{
    struct world *w = context;
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->woken);
    pthread_mutex_unlock(&w->lock);
}

static void begin(struct world *w, uint64_t bytes, uint32_t keep, bool pack, size_t queue)
{
    *w = (struct world){.directory = "/tmp/hasup-logfiles.XXXXXX"};
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->woken, NULL);
    assert_non_null(mkdtemp(w->directory));
    w->files = logfiles_new(wake, w);
    logfiles_configure(w->files, &(struct logfiles_options){
                                     .directory = w->directory,
                                     .each_slot = true,
                                     .file = {.rotation = {.bytes = bytes, .keep = keep},
                                              .pack = pack},
                                     .queue = queue});
}

static void end(struct world *w)
{
    char command[128];
    assert_true(logfiles_free(w->files, 60 * HASUP_S));
    snprintf(command, sizeof command, "rm -r %s", w->directory);
    assert_int_equal(system(command), 0);
}

static void add(struct world *w, const char *slot, const char *text)
{
    char line[128];
    int len = snprintf(line, sizeof line, "%s\n", text);
    logfiles_add(w->files, slot, line, (size_t)len);
}

/* All is written that was said before. */
static void settle(struct world *w)
{
    uint64_t order = logfiles_reopen(w->files);
    pthread_mutex_lock(&w->lock);
    while (logfiles_reopened(w->files) < order)
        pthread_cond_wait(&w->woken, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Names of m/'s files, the old ones first, then 0.log; how many. */
static size_t list(const struct world *w, char names[][64])
{
    char path[128];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/m", w->directory);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (strncmp(entry->d_name, "0.log.", 6) == 0)
            snprintf(names[count++], 64, "%.63s", entry->d_name);
    if (dir)
        closedir(dir);
    qsort(names, count, 64, by_name);
    snprintf(names[count], 64, "0.log");
    return count + 1;
}

static size_t read_file(const struct world *w, const char *name, char *out, size_t room)
{
    char path[192];
    snprintf(path, sizeof path, "%s/m/%s", w->directory, name);
    FILE *file = fopen(path, "re");
    size_t len = file ? fread(out, 1, room - 1, file) : 0;
    if (file)
        fclose(file);
    out[len] = '\0';
    return len;
}

static void lines_stand_in_their_slots_files(void **state)
{
    (void)state;
    struct world w;
    char got[256];
    begin(&w, 1 << 20, 3, false, 1 << 20);
    add(&w, "m/0", "one");
    add(&w, "m/1", "two");
    add(&w, "m/0", "three");
    settle(&w);
    read_file(&w, "0.log", got, sizeof got);
    assert_string_equal(got, "one\nthree\n");
    read_file(&w, "1.log", got, sizeof got);
    assert_string_equal(got, "two\n");
    end(&w);
}

static void no_line_is_lost_or_torn_across_rotations(void **state)
{
    (void)state;
    struct world w;
    static char got[1 << 20];
    char names[200][64], text[32];
    unsigned next = 0;
    begin(&w, 1000, 150, false, 1 << 20);
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "line %u", i);
        add(&w, "m/0", text);
        if (i % 50 == 49)
            settle(&w);
    }
    size_t count = list(&w, names);
    assert_true(count > 20);
    for (size_t i = 0; i < count; i++) {
        size_t len = read_file(&w, names[i], got, sizeof got);
        assert_true(len <= 1000 && (!len || got[len - 1] == '\n'));
        for (char *at = got; *at; at = strchr(at, '\n') + 1)
            assert_int_equal(strtoul(at + 5, NULL, 10), next++);
    }
    assert_int_equal(next, 5000);
    end(&w);
}

static void old_files_go_and_the_rest_is_packed(void **state)
{
    (void)state;
    struct world w;
    static char bytes[1 << 16], text[1 << 16];
    char names[200][64], line[64];
    unsigned next = 0;
    size_t count = 0, packed = 0;
    begin(&w, 1000, 4, true, 1 << 20);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(line, sizeof line, "line %u", i);
        add(&w, "m/0", line);
        if (i % 50 == 49)
            settle(&w);
    }
    for (int turns = 0; turns < 100000 && packed < 4; turns++) { /* each packs a piece */
        settle(&w);
        count = list(&w, names);
        packed = 0;
        for (size_t i = 0; i + 1 < count; i++)
            packed += strstr(names[i], ".zst") && !strstr(names[i], ".part");
    }
    assert_int_equal(packed, 4);
    assert_int_equal(count, 5);
    for (size_t i = 0; i < count; i++) {
        size_t len = read_file(&w, names[i], bytes, sizeof bytes);
        if (i + 1 < count)
            len = crypto_unpack((uint8_t *)text, sizeof text - 1, (uint8_t *)bytes, len);
        else
            memcpy(text, bytes, len);
        text[len] = '\0';
        if (!i)
            next = (unsigned)strtoul(text + 5, NULL, 10);
        for (char *at = text; *at; at = strchr(at, '\n') + 1)
            assert_int_equal(strtoul(at + 5, NULL, 10), next++);
    }
    assert_int_equal(next, 1000);
    end(&w);
}

static void a_file_that_was_moved_is_made_anew(void **state)
{
    (void)state;
    struct world w;
    char from[128], to[128], got[256];
    begin(&w, 1 << 20, 3, false, 1 << 20);
    snprintf(from, sizeof from, "%s/m/0.log", w.directory);
    snprintf(to, sizeof to, "%s/m/0.log.1", w.directory);
    add(&w, "m/0", "before");
    settle(&w);
    assert_int_equal(rename(from, to), 0);
    add(&w, "m/0", "still before");
    settle(&w);
    add(&w, "m/0", "after");
    settle(&w);
    read_file(&w, "0.log", got, sizeof got);
    assert_true(strcmp(got, "still before\nafter\n") == 0); /* settle() had closed it */
    end(&w);
}

/* A limit of this process' files stands for a disk that is full. */
static void a_full_disk_is_told_once_and_survived(void **state)
{
    (void)state;
    struct world w;
    struct rlimit before, little;
    struct logfiles_report report;
    static char got[1 << 16];
    unsigned failed = 0, recovered = 0;
    begin(&w, 1 << 20, 3, false, 1 << 20);
    signal(SIGXFSZ, SIG_IGN);
    add(&w, "m/0", "good");
    settle(&w);
    getrlimit(RLIMIT_FSIZE, &before);
    little = before;
    little.rlim_cur = 8; /* "good\n" and three bytes */
    setrlimit(RLIMIT_FSIZE, &little);
    for (int i = 0; i < 20; i++) {
        add(&w, "m/0", "does not fit");
        settle(&w);
    }
    setrlimit(RLIMIT_FSIZE, &before);
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t lost = 0;
    do { /* it is tried again after a second */
        add(&w, "m/0", "later");
        settle(&w);
        while (logfiles_report(w.files, &report)) {
            failed += report.what == LOGFILES_FAILED;
            recovered += report.what == LOGFILES_RECOVERED;
            lost = report.what == LOGFILES_RECOVERED ? report.lines : lost;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!recovered && now.tv_sec < start.tv_sec + 20);
    assert_int_equal(failed, 1);
    assert_int_equal(recovered, 1);
    assert_true(lost >= 20);
    read_file(&w, "0.log", got, sizeof got);
    assert_memory_equal(got, "good\nlater\n(hasupd: ", 20); /* nothing of what did not fit */
    end(&w);
}

static void a_queue_that_is_full_drops_and_says_so(void **state)
{
    (void)state;
    struct world w;
    struct logfiles_report report;
    static char got[1 << 20];
    uint64_t lost = 0, lines = 0;
    begin(&w, 1 << 30, 3, false, 2000);
    for (int i = 0; i < 20000; i++)
        add(&w, "m/0", "a line of some length, so that the queue is full soon");
    settle(&w);
    add(&w, "m/0", "the end");
    settle(&w);
    settle(&w);
    while (logfiles_report(w.files, &report))
        lost += report.lines;
    size_t len = read_file(&w, "0.log", got, sizeof got);
    for (size_t i = 0; i < len; i++)
        lines += got[i] == '\n';
    if (len < sizeof got - 1)
        assert_int_equal(lines + lost, 20001);
    end(&w);
}

/* The first report that tells of a failure, as far as there is one; else "". */
static const char *failure(struct world *w)
{
    static struct logfiles_report report;
    settle(w);
    while (logfiles_report(w->files, &report))
        if (report.what == LOGFILES_FAILED || report.what == LOGFILES_UNPACKED)
            return report.text;
    return "";
}

/* PATH in the world's directory; the next call's overwrites it after four. */
static const char *in(const struct world *w, const char *path)
{
    static char paths[4][192];
    static unsigned next;
    char *out = paths[next++ % 4];
    snprintf(out, sizeof paths[0], "%s/%s", w->directory, path);
    return out;
}

static void make_model(const struct world *w)
{
    assert_int_equal(mkdir(in(w, "m"), 0700), 0);
}

static void a_pipe_in_place_of_a_file_is_refused_and_the_rest_goes_on(void **state)
{
    (void)state;
    for (int reader = 0; reader < 2; reader++) {
        struct world w;
        char got[64];
        begin(&w, 1 << 20, 3, false, 1 << 20);
        make_model(&w);
        assert_int_equal(mkfifo(in(&w, "m/0.log"), 0600), 0);
        int fd = reader ? open(in(&w, "m/0.log"), O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
        add(&w, "m/0", "lost");
        add(&w, "m/1", "kept");
        assert_non_null(strstr(failure(&w), "m/0.log: is not a file"));
        read_file(&w, "1.log", got, sizeof got);
        assert_string_equal(got, "kept\n");
        if (fd >= 0)
            close(fd);
        end(&w);
    }
}

static void what_is_packed_is_a_file_and_no_pipe_or_link(void **state)
{
    (void)state;
    static const char OLD[] = "m/0.log.20200101-000000";
    struct world w;
    struct stat st;
    for (int link = 0; link < 2; link++) {
        begin(&w, 1 << 20, 3, true, 1 << 20);
        make_model(&w);
        assert_int_equal(link ? symlink("/etc/passwd", in(&w, OLD)) : mkfifo(in(&w, OLD), 0600), 0);
        add(&w, "m/0", "one");
        settle(&w);
        assert_non_null(strstr(failure(&w), link ? "symbolic link" : "is not a file"));
        assert_int_equal(lstat(in(&w, OLD), &st), 0);
        end(&w);
    }
    /* What stands where the packed one is made goes. */
    begin(&w, 1 << 20, 3, true, 1 << 20);
    make_model(&w);
    close(open(in(&w, OLD), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(mkfifo(in(&w, "m/0.log.20200101-000000.part"), 0600), 0);
    add(&w, "m/0", "one");
    for (int turns = 0; turns < 100000 && lstat(in(&w, OLD), &st) == 0; turns++)
        settle(&w);
    assert_int_equal(lstat(in(&w, "m/0.log.20200101-000000.zst"), &st), 0);
    assert_true(S_ISREG(st.st_mode));
    end(&w);
}

static void a_link_in_place_of_a_file_is_not_followed(void **state)
{
    (void)state;
    struct world w;
    struct stat st;
    begin(&w, 1 << 20, 3, false, 1 << 20);
    make_model(&w);
    assert_int_equal(symlink(in(&w, "victim"), in(&w, "m/0.log")), 0);
    add(&w, "m/0", "not there");
    assert_non_null(strstr(failure(&w), "m/0.log: is a symbolic link"));
    assert_int_not_equal(lstat(in(&w, "victim"), &st), 0);
    end(&w);
}

/* What a write to m/0 fails with where the directories are of these modes. */
static void check_modes(mode_t above, mode_t model, const char *fails)
{
    struct world w;
    begin(&w, 1 << 20, 3, false, 1 << 20);
    make_model(&w);
    assert_int_equal(chmod(in(&w, "m"), model), 0);
    assert_int_equal(chmod(w.directory, above), 0);
    add(&w, "m/0", "one");
    const char *got = failure(&w);
    if (fails)
        assert_non_null(strstr(got, fails));
    else
        assert_string_equal(got, "");
    end(&w);
}

static void directories_that_others_may_write_to_are_refused(void **state)
{
    (void)state;
    check_modes(0700, 0700, NULL);
    check_modes(0755, 02775, NULL);
    check_modes(01777, 0755, NULL);
    check_modes(0777, 0700, "is not safe: anybody may write to it");
    check_modes(0755, 0777, "/m: is not safe: anybody may write to it");
}

static void directories_and_files_of_others_are_refused(void **state)
{
    (void)state;
    struct world w;
    if (geteuid())
        return; /* only root can make them */
    static const char *const WHOSE[] = {"", "m", "m/0.log"};
    for (size_t i = 0; i < HASUP_LEN(WHOSE); i++) {
        begin(&w, 1 << 20, 3, false, 1 << 20);
        make_model(&w);
        assert_int_equal(chmod(in(&w, "m"), 01777), 0); /* else the file's owner does not matter */
        close(open(in(&w, "m/0.log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        assert_int_equal(lchown(in(&w, WHOSE[i]), 65534, 65534), 0);
        add(&w, "m/0", "one");
        assert_non_null(strstr(failure(&w), "is not safe: it belongs to user 65534"));
        end(&w);
    }
    begin(&w, 1 << 20, 3, false, 1 << 20); /* as logrotate's `create` may leave it */
    make_model(&w);
    close(open(in(&w, "m/0.log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
    assert_int_equal(lchown(in(&w, "m/0.log"), 65534, 65534), 0);
    add(&w, "m/0", "one");
    assert_string_equal(failure(&w), "");
    end(&w);
}

static void directories_that_links_lead_to_are_fine(void **state)
{
    (void)state;
    struct world w;
    struct stat st;
    begin(&w, 1 << 20, 3, false, 1 << 20);
    assert_int_equal(mkdir(in(&w, "elsewhere"), 0700), 0);
    assert_int_equal(symlink(in(&w, "elsewhere"), in(&w, "m")), 0);
    add(&w, "m/0", "one");
    assert_string_equal(failure(&w), "");
    assert_int_equal(lstat(in(&w, "elsewhere/0.log"), &st), 0);
    if (geteuid() == 0) {
        assert_int_equal(lchown(in(&w, "m"), 65534, 65534), 0);
        add(&w, "m/0", "two");
        assert_non_null(strstr(failure(&w), "/m: is not safe: it belongs to user 65534"));
    }
    end(&w);
}

/* The name says when it was put aside; those of one second are counted. */
static void no_old_file_is_named_after_a_time_to_come(void **state)
{
    (void)state;
    struct world w;
    char names[200][64], latest[32];
    begin(&w, 100, 150, false, 1 << 20);
    for (unsigned i = 0; i < 60; i++) {
        add(&w, "m/0", "a line of sixty or so characters, so that two fill a file up");
        settle(&w);
    }
    time_t now = time(NULL);
    struct tm tm;
    strftime(latest, sizeof latest, "0.log.%Y%m%d-%H%M%S", gmtime_r(&now, &tm));
    size_t count = list(&w, names);
    assert_int_equal(count, 60);
    size_t counted = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        assert_true(strncmp(names[i], latest, strlen(latest)) <= 0);
        counted += strstr(names[i], "_0") != NULL;
    }
    assert_true(counted > 0);
    end(&w);
}

static void close_old(const struct world *w, const char *name)
{
    int fd = open(in(w, name), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* A clock that was set back, or files of a hasupd that counted seconds on. */
static void what_is_put_aside_comes_behind_all_that_there_is(void **state)
{
    (void)state;
    struct world w;
    char names[200][64];
    begin(&w, 100, 4, false, 1 << 20);
    make_model(&w);
    close_old(&w, "m/0.log.20991231-235959_1000");
    close_old(&w, "m/0.log.20991231-235959_999.zst");
    close_old(&w, "m/0.log.20991231-235959.zst");
    for (unsigned i = 0; i < 3; i++) {
        add(&w, "m/0", "a line of sixty or so characters, so that two fill a file up");
        settle(&w);
    }
    assert_int_equal(list(&w, names), 5);
    static const char *const LEFT[] = {"1000", "1001", "1002", "999.zst"}; /* as text sorts them */
    for (size_t i = 0; i < HASUP_LEN(LEFT); i++)
        assert_string_equal(names[i] + strlen("0.log.20991231-235959_"), LEFT[i]);
    end(&w);
}

/* What stands for a disk that never answers: the library's write, which waits until it may. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs, reached;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

ssize_t write(int fd, const void *bytes, size_t len)
{
    pthread_mutex_lock(&disk.lock);
    while (disk.hangs) {
        disk.reached = true;
        pthread_cond_broadcast(&disk.changed);
        pthread_cond_wait(&disk.changed, &disk.lock);
    }
    pthread_mutex_unlock(&disk.lock);
    return syscall(SYS_write, fd, bytes, len);
}

static void the_end_does_not_wait_for_a_disk_for_ever(void **state)
{
    (void)state;
    static struct world w; /* the thread has it until this process ends */
    char command[128];
    begin(&w, 1 << 20, 3, false, 1 << 20);
    disk.hangs = true;
    add(&w, "m/0", "waits");
    pthread_mutex_lock(&disk.lock);
    while (!disk.reached)
        pthread_cond_wait(&disk.changed, &disk.lock);
    pthread_mutex_unlock(&disk.lock);
    const bool ended = logfiles_free(w.files, 50 * HASUP_MS);
    pthread_mutex_lock(&disk.lock);
    disk.hangs = false;
    pthread_cond_broadcast(&disk.changed);
    pthread_mutex_unlock(&disk.lock);
    assert_false(ended);
    snprintf(command, sizeof command, "rm -r %s", w.directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_stand_in_their_slots_files),
        cmocka_unit_test(no_line_is_lost_or_torn_across_rotations),
        cmocka_unit_test(old_files_go_and_the_rest_is_packed),
        cmocka_unit_test(a_file_that_was_moved_is_made_anew),
        cmocka_unit_test(a_full_disk_is_told_once_and_survived),
        cmocka_unit_test(a_queue_that_is_full_drops_and_says_so),
        cmocka_unit_test(a_pipe_in_place_of_a_file_is_refused_and_the_rest_goes_on),
        cmocka_unit_test(what_is_packed_is_a_file_and_no_pipe_or_link),
        cmocka_unit_test(a_link_in_place_of_a_file_is_not_followed),
        cmocka_unit_test(directories_that_others_may_write_to_are_refused),
        cmocka_unit_test(directories_and_files_of_others_are_refused),
        cmocka_unit_test(directories_that_links_lead_to_are_fine),
        cmocka_unit_test(no_old_file_is_named_after_a_time_to_come),
        cmocka_unit_test(what_is_put_aside_comes_behind_all_that_there_is),
        cmocka_unit_test(the_end_does_not_wait_for_a_disk_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
