/*
 * init.c: `hasupd run` beside tini: from its start to the first instruction of the command, and
 * what it holds while that runs.
 */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { STARTS = 100 };

struct side {
    const char *argv[5];
    struct figure ms, kib;
};

static void start(struct side *side, const struct notes *notes)
{
    hasup_ns begun = bench_now();
    pid_t pid = child_start(side->argv);
    struct note note = notes_read(notes);
    figure_add(&side->ms, (double)(note.at_ns - begun) / 1e6);
    bench_pause(5 * HASUP_MS);
    figure_add(&side->kib, bench_pss_kib(pid));
    child_stop(pid);
}

static void row(const char *what, const char *unit, struct figure *own, struct figure *other,
                double limit, bool absolute)
{
    report_row(&(struct row){.what = what,
                             .unit = unit,
                             .hasup = own,
                             .beside = "tini",
                             .other = other,
                             .aim = AIM_AT_MOST,
                             .limit = limit,
                             .absolute = absolute});
}

void part_init(void)
{
    static struct side own, tini;
    char hasupd[BENCH_PATH * 2], first[BENCH_PATH * 2];
    struct notes notes;
    if (!bench_installed("tini", "nothing beside hasupd run"))
        return;
    notes_open(&notes, "init");
    setenv("BENCH_NOTES", notes.path, 1);
    snprintf(hasupd, sizeof hasupd, "%s/hasupd", bench_build());
    snprintf(first, sizeof first, "%s/first", bench_tools());
    own = (struct side){.argv = {hasupd, "run", first}};
    tini = (struct side){.argv = {"tini", "-s", "--", first}};
    for (int i = 0; i < STARTS; i++) {
        start(&own, &notes);
        start(&tini, &notes);
    }
    unsetenv("BENCH_NOTES");
    row("hasupd run, first instruction", "ms", &own.ms, &tini.ms, 1.2, false);
    row("hasupd run, PSS", "KiB", &own.kib, &tini.kib, 600, true);
}
