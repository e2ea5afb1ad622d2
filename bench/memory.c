/*
 * memory.c: what hasupd itself holds (PSS, its workers excluded) and how often it wakes when
 * nothing happens: the context switches of all its threads.
 */
#include "bench/bench.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static const hasup_ns SETTLE = 500 * HASUP_MS, IDLE = 3 * HASUP_S;

/* The sum of the numbers behind `key` in a file of "key: number" lines. */
static long sum_of(const char *path, const char *key)
{
    char line[256];
    long sum = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        bench_fail("cannot read %s", path);
    while (fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            sum += strtol(line + strlen(key), NULL, 10);
    fclose(file);
    return sum;
}

double bench_pss_kib(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    return (double)sum_of(path, "Pss:");
}

long bench_wakes(pid_t pid)
{
    char path[320];
    long sum = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        bench_fail("cannot read %s", path);
    for (struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, task->d_name);
        sum += sum_of(path, "voluntary_ctxt_switches:");
    }
    closedir(tasks);
    return sum;
}

static void measure(const char *model, unsigned workers, double limit_mib)
{
    struct daemon daemon;
    struct figure pss = {0}, wakes = {0};
    char models[512], what[64];
    snprintf(models, sizeof models, "  %s:\n    command: [%s/examples/echo]\n    workers: %u\n",
             model, bench_build(), workers);
    daemon_start(&daemon, models, model, true);
    bench_pause(SETTLE * (workers > 1 ? 4 : 1));
    for (int i = 0; i < 3; i++) {
        long before = bench_wakes(daemon.pid);
        bench_pause(IDLE);
        figure_add(&wakes, (double)(bench_wakes(daemon.pid) - before) * 1e9 / (double)IDLE);
        figure_add(&pss, bench_pss_kib(daemon.pid) / 1024);
    }
    snprintf(what, sizeof what, "PSS idle, %u slot%s", workers, workers > 1 ? "s" : "");
    report_row(&(struct row){.what = what,
                             .unit = "MiB",
                             .hasup = &pss,
                             .aim = AIM_AT_MOST,
                             .limit = limit_mib,
                             .absolute = true});
    snprintf(what, sizeof what, "wake-ups idle, %u slot%s", workers, workers > 1 ? "s" : "");
    report_row(&(struct row){.what = what,
                             .unit = "/s",
                             .hasup = &wakes,
                             .aim = AIM_AT_MOST,
                             .limit = 0,
                             .absolute = true});
    daemon_stop(&daemon);
}

void part_memory(void)
{
    measure("one", 1, 2);
    measure("many", 100, 3);
}
