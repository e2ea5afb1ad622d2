/*
 * main.c: hasup-sim: runs seeds and prints one line for each that fails, which is also how to run
 * it again. Exit code 1 when one failed.
 */
#include "supervisor/core/plant.h"
#include "supervisor/sim/serving.h"
#include "supervisor/sim/sim.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FAILURES_SHOWN = 10 };

struct totals {
    uint64_t seeds, failed, steps, requests, answered, refused, crashes, recycled, deaths, restores,
        replays, rollbacks, swaps, forks, handovers;
    double hours;
};

static void add(struct totals *t, const struct sim_report *r)
{
    t->seeds++;
    t->failed += r->failed;
    t->steps += r->steps;
    t->requests += r->requests;
    t->answered += r->answered;
    t->refused += r->refused;
    t->crashes += r->crashes;
    t->recycled += r->recycled;
    t->deaths += r->deaths;
    t->restores += r->restores;
    t->replays += r->replays;
    t->rollbacks += r->rollbacks;
    t->swaps += r->swaps;
    t->forks += r->forks;
    t->handovers += r->handovers;
    t->hours += (double)r->virtual_time / 3.6e12;
}

static volatile uint64_t running; /* the seed */

/* An assertion of the core's failed: what it said is on the screen already. */
static void aborted(int signal)
{
    fprintf(stderr, "hasup-sim --seed %llu: aborted\n", (unsigned long long)running);
    (void)signal;
}

static void usage(void)
{
    fputs("usage: hasup-sim [--seeds COUNT] [--from SEED] [--hours H] [--every N] [--plant NAME]\n"
          "                 [--handover]  with the core saved now and then, and loaded again\n"
          "       hasup-sim --seed SEED [--trace] [--handover]\n"
          "       hasup-sim --serving   how well it batches, and what overload does\n"
          "       hasup-sim --plants\n",
          stderr);
    exit(2);
}

#ifdef HASUP_PLANT
static const char *const PLANTS[] = {
#define CORE_PLANT_TEXT(name) #name,
    CORE_PLANTS(CORE_PLANT_TEXT)
#undef CORE_PLANT_TEXT
};

static void list_plants(void)
{
    for (size_t i = 0; i < HASUP_LEN(PLANTS); i++)
        puts(PLANTS[i]);
    exit(0);
}

static void set_plant(const char *name)
{
    for (size_t i = 0; i < HASUP_LEN(PLANTS); i++)
        if (strcmp(PLANTS[i], name) == 0) {
            core_plant = (enum plant)(i + 1);
            return;
        }
    fprintf(stderr, "hasup-sim: there is no planted bug %s; --plants lists them\n", name);
    exit(2);
}
#else
static void list_plants(void)
{
    fputs("hasup-sim: planted bugs are in hasup-sim-plant only\n", stderr);
    exit(2);
}

static void set_plant(const char *name)
{
    (void)name;
    list_plants();
}
#endif

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"seeds", required_argument, NULL, 'n'},
                                         {"from", required_argument, NULL, 'f'},
                                         {"seed", required_argument, NULL, 's'},
                                         {"hours", required_argument, NULL, 'h'},
                                         {"serving", no_argument, NULL, 'v'},
                                         {"plants", no_argument, NULL, 'l'},
                                         {"handover", no_argument, NULL, 'o'},
                                         {"plant", required_argument, NULL, 'p'},
                                         {"every", required_argument, NULL, 'e'},
                                         {"trace", no_argument, NULL, 't'},
                                         {NULL, 0, NULL, 0}};
    struct sim_options options = {.duration = 3600 * HASUP_S, .check_every = 8};
    struct totals totals = {0};
    uint64_t from = 1, count = 2000;
    const char *plant = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "", LONG, NULL)) != -1)
        switch (option) {
        case 'n': count = strtoull(optarg, NULL, 10); break;
        case 'f': from = strtoull(optarg, NULL, 10); break;
        case 's':
            from = strtoull(optarg, NULL, 10);
            count = 1;
            options.check_every = 1;
            break;
        case 'h': options.duration = (hasup_ns)(strtod(optarg, NULL) * 3.6e12); break;
        case 'v': return serving_report() ? 0 : 1;
        case 'l': list_plants(); break;
        case 'o': options.handover = true; break;
        case 'p': set_plant(plant = optarg); break;
        case 'e': options.check_every = (unsigned)atoi(optarg); break;
        case 't':
            options.trace = true;
            setvbuf(stdout, NULL, _IOLBF, 0); /* an abort cuts nothing off */
            break;
        default: usage();
        }
    signal(SIGABRT, aborted); /* and ends as it would without */
    clock_t start = clock();
    for (uint64_t i = 0; i < count; i++) {
        struct sim_report report;
        running = options.seed = from + i;
        sim_run(&options, &report);
        add(&totals, &report);
        if (report.failed)
            printf("hasup-sim --seed %llu%s%s: %s\n", (unsigned long long)options.seed,
                   options.handover ? " --handover" : "", plant ? " (planted)" : "", report.reason);
        if (totals.failed == FAILURES_SHOWN)
            break;
    }
    printf("%llu seeds, %.0f virtual hours in %.1f s: %llu steps, %llu requests, %llu answered, "
           "%llu refused, %llu crashes, %llu recycled, %llu deaths of hasupd, %llu restores, %llu "
           "replays, %llu rollbacks, %llu spares that took over, %llu forks, %llu handovers, %llu "
           "failed\n",
           (unsigned long long)totals.seeds, totals.hours,
           (double)(clock() - start) / CLOCKS_PER_SEC, (unsigned long long)totals.steps,
           (unsigned long long)totals.requests, (unsigned long long)totals.answered,
           (unsigned long long)totals.refused, (unsigned long long)totals.crashes,
           (unsigned long long)totals.recycled,
           (unsigned long long)totals.deaths, (unsigned long long)totals.restores,
           (unsigned long long)totals.replays, (unsigned long long)totals.rollbacks,
           (unsigned long long)totals.swaps, (unsigned long long)totals.forks,
           (unsigned long long)totals.handovers, (unsigned long long)totals.failed);
    return totals.failed ? 1 : 0;
}
