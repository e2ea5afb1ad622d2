/* Log files: no line lost or torn across rotations, reopened by name, a full disk survived. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    logfiles_free(w->files);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_stand_in_their_slots_files),
        cmocka_unit_test(no_line_is_lost_or_torn_across_rotations),
        cmocka_unit_test(old_files_go_and_the_rest_is_packed),
        cmocka_unit_test(a_file_that_was_moved_is_made_anew),
        cmocka_unit_test(a_full_disk_is_told_once_and_survived),
        cmocka_unit_test(a_queue_that_is_full_drops_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
