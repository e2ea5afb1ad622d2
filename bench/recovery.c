/*
 * recovery.c: from the exec of hasupd to the first request in a worker's hands, with a journal that
 * an earlier run left full of accepted requests.
 */
#include "bench/bench.h"

#include "checkpoints/journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { REQUESTS = 100000, BODY = 256, TURN = 4096, RECOVERY_ROUNDS = 5, DRAIN_MS = 60000 };

static void nobody(void *context)
{
    (void)context;
}

/* Accepted with keys, as clients that come back for their answers would have done. */
static void accept_some(struct journal *journal, uint64_t from, const uint8_t *body)
{
    static struct journal_op ops[TURN];
    static uint8_t keys[TURN][8];
    unsigned count = 0;
    for (; count < TURN && from + count <= REQUESTS; count++) {
        hasup_put64(keys[count], from + count);
        ops[count] = (struct journal_op){.kind = JOURNAL_ACCEPT,
                                         .record = from + count,
                                         .token = from + count,
                                         .model = "noted",
                                         .flags = JOURNAL_KEYED,
                                         .created_wall_ns = 1,
                                         .key = {keys[count], sizeof keys[count]},
                                         .body = {body, BODY}};
        journal_add(journal, &ops[count]);
    }
    journal_flush(journal);
    while (count) {
        struct journal_op *done = journal_take(journal);
        for (; done; done = done->next, count--)
            if (done->error)
                bench_fail("the journal: %s", journal_last_error(journal));
        if (count)
            bench_pause(HASUP_MS);
    }
}

static void fill(const char *path)
{
    struct journal *journal;
    struct journal_summary summary;
    uint8_t body[BODY];
    char error[JOURNAL_ERROR];
    const struct journal_options options = {.path = path, .wake = nobody};
    if (journal_open(&options, &journal, &summary, error))
        bench_fail("%s", error);
    memset(body, 'b', sizeof body);
    for (uint64_t from = 1; from <= REQUESTS; from += TURN)
        accept_some(journal, from, body);
    journal_close(journal, false);
}

void part_recovery(void)
{
    char models[512], path[BENCH_PATH];
    struct figure took = {0};
    struct daemon daemon;
    struct notes notes;
    notes_open(&notes, "recovery.notes");
    setenv("BENCH_NOTES", notes.path, 1);
    snprintf(models, sizeof models, "  noted:\n    command: [%s/noted]\n", bench_tools());
    for (unsigned i = 0; i < RECOVERY_ROUNDS; i++) {
        daemon_forget();
        snprintf(path, sizeof path, "%s/state", bench_directory());
        if (mkdir(path, 0700))
            bench_fail("%s cannot be made", path);
        snprintf(path, sizeof path, "%s/state/journal.db", bench_directory());
        fill(path);
        hasup_ns began = bench_now();
        daemon_start(&daemon, models, NULL, false);
        figure_add(&took, (double)(notes_read(&notes).at_ns - began) / 1e9);
        child_kill(daemon.pid);
    }
    daemon_forget();
    report_row(&(struct row){.what = "100,000 journaled, to first dispatch",
                             .unit = "s",
                             .hasup = &took,
                             .aim = AIM_AT_MOST,
                             .limit = 2,
                             .absolute = true});
}
