/*
 * main.c: make demo and make soak: a calm phase that learns the right answers and the latency, then
 * the same questions while workers are killed about every 100 ms, one is stopped, and hasupd itself
 * is killed twice.  Exit code 0 only when no request was lost, duplicated, refused or answered
 * wrongly and the counter counted exactly.
 */
#include "tests/chaos/chaos.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HASUPD_DEATHS = 2 };

struct options {
    const char *build;
    int seconds, calm_seconds;
    uint64_t seed;
    bool python, verbose;
};

struct chaos {
    struct options options;
    struct asks asks;
    struct daemon *daemon;
    struct clients *clients;
    struct tally calm, fire;
    uint64_t random, kills, stops, deaths, restarts, count_errors;
    int exit_code;
};

static hasup_ns now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (hasup_ns)now.tv_sec * HASUP_S + now.tv_nsec;
}

static uint64_t chance(struct chaos *chaos)
{
    uint64_t x = chaos->random += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* ---- phases ---- */

static void progress(const struct chaos *chaos, const char *phase, const struct tally *tally,
                     hasup_ns left)
{
    static hasup_ns last;
    hasup_ns now = now_ns();
    if (now - last < HASUP_S / 2)
        return;
    last = now;
    printf(isatty(STDOUT_FILENO) ? "\r\033[K" : "");
    printf("%s, %2lld s: %7llu sent %7llu answered %3llu kills, lost %llu wrong %llu", phase,
           (long long)(left / HASUP_S), (unsigned long long)tally->sent,
           (unsigned long long)tally->answered, (unsigned long long)chaos->kills,
           (unsigned long long)tally->lost, (unsigned long long)(tally->wrong + tally->duplicated));
    if (!isatty(STDOUT_FILENO))
        putchar('\n');
    fflush(stdout);
}

/* Every kill strikes at a random moment, 50 to 150 ms after the last. */
static void strike(struct chaos *chaos, hasup_ns *next, bool *stopped, hasup_ns stop_at)
{
    struct victim victim;
    hasup_ns now = now_ns();
    if (now < *next)
        return;
    *next = now + 50 * HASUP_MS + (hasup_ns)(chance(chaos) % (uint64_t)(100 * HASUP_MS));
    if (!daemon_victim(chaos->daemon, chance(chaos), &victim) || victim.pid <= 1)
        return;
    if (!*stopped && now >= stop_at) {
        *stopped = kill(victim.pid, SIGSTOP) == 0;
        chaos->stops += *stopped;
        return;
    }
    chaos->kills += kill(victim.pid, SIGKILL) == 0;
}

/* At one third and at two thirds. */
static void strike_hasupd(struct chaos *chaos, hasup_ns start, int seconds)
{
    hasup_ns third = seconds * HASUP_S / 3;
    if (chaos->deaths == HASUPD_DEATHS || now_ns() < start + (hasup_ns)(chaos->deaths + 1) * third)
        return;
    chaos->deaths++;
    if (!daemon_kill(chaos->daemon)) {
        fputs("\nhasupd did not come back\n", stderr);
        exit(1);
    }
    clients_moved(chaos->clients, daemon_port(chaos->daemon));
}

static void phase(struct chaos *chaos, const char *name, int seconds, struct tally *tally,
                  bool fire)
{
    hasup_ns start = now_ns(), end = start + seconds * HASUP_S, next = start;
    bool stopped = false;
    clients_begin(chaos->clients, tally, fire);
    while (now_ns() < end) {
        clients_turn(chaos->clients, 5, true);
        if (fire) {
            strike(chaos, &next, &stopped, start + seconds * HASUP_S / 2);
            strike_hasupd(chaos, start, seconds);
        }
        progress(chaos, name, tally, end - now_ns());
    }
    while (clients_turn(chaos->clients, 5, false))
        continue;
    if (isatty(STDOUT_FILENO))
        printf("\r\033[K");
}

/* ---- the table ---- */

static int by_size(const void *a, const void *b)
{
    hasup_ns x = *(const hasup_ns *)a, y = *(const hasup_ns *)b;
    return x < y ? -1 : x > y;
}

static double percentile(const struct tally *tally, double p)
{
    if (!tally->latency_count)
        return 0;
    return (double)tally->latencies[(size_t)(p * (double)(tally->latency_count - 1))] / 1e6;
}

static bool is_clean(const struct tally *t)
{
    return !t->lost && !t->duplicated && !t->wrong && !t->refused && t->sent == t->answered;
}

static void print_row(const char *name, uint64_t calm, uint64_t fire)
{
    printf("  %-28s %12llu %12llu\n", name, (unsigned long long)calm, (unsigned long long)fire);
}

static void print_table(struct chaos *chaos)
{
    struct tally *calm = &chaos->calm, *fire = &chaos->fire;
    qsort(calm->latencies, calm->latency_count, sizeof *calm->latencies, by_size);
    qsort(fire->latencies, fire->latency_count, sizeof *fire->latencies, by_size);
    printf("\n  %-28s %12s %12s\n", "", "undisturbed", "with kills");
    print_row("requests sent", calm->sent, fire->sent);
    print_row("answered", calm->answered, fire->answered);
    print_row("lost", calm->lost, fire->lost);
    print_row("refused", calm->refused, fire->refused);
    print_row("duplicated", calm->duplicated, fire->duplicated);
    print_row("wrong", calm->wrong, fire->wrong);
    print_row("workers killed (SIGKILL)", 0, chaos->kills);
    print_row("workers stopped (SIGSTOP)", 0, chaos->stops);
    print_row("restarts", 0, chaos->restarts);
    print_row("hasupd killed (SIGKILL)", 0, chaos->deaths);
    print_row("asked again, same key", calm->came_back, fire->came_back);
    print_row("  gone on, Last-Event-ID", calm->went_on, fire->went_on);
    printf("  %-28s %9.2f ms %9.2f ms\n", "latency, median", percentile(calm, 0.5),
           percentile(fire, 0.5));
    printf("  %-28s %9.2f ms %9.2f ms\n", "latency, 99 %", percentile(calm, 0.99),
           percentile(fire, 0.99));
    printf("  %-28s %25s\n", "digits read rightly", "");
    printf("    %-26s %23.1f %%\n", "C, libfann", asks_accuracy(&chaos->asks, KIND_DIGITS));
    if (chaos->options.python)
        printf("    %-26s %23.1f %%\n", "Python, scikit-learn",
               asks_accuracy(&chaos->asks, KIND_PYTHON));
    uint64_t counted = calm->per_kind[KIND_COUNTER] + fire->per_kind[KIND_COUNTER];
    printf("  %-28s %25s\n", "counter", chaos->count_errors ? "WRONG" : "exact, none left out");
    printf("    counted to %llu in %llu answers\n", (unsigned long long)chaos->asks.counted_max,
           (unsigned long long)counted);
}

static bool run(struct chaos *chaos)
{
    phase(chaos, "undisturbed", chaos->options.calm_seconds, &chaos->calm, false);
    phase(chaos, "killing", chaos->options.seconds, &chaos->fire, true);
    chaos->restarts = daemon_restarts(chaos->daemon);
    chaos->count_errors = asks_count_errors(&chaos->asks, chaos->calm.per_kind[KIND_COUNTER] +
                                                              chaos->fire.per_kind[KIND_COUNTER]);
    print_table(chaos);
    return is_clean(&chaos->calm) && is_clean(&chaos->fire) && !chaos->count_errors &&
           chaos->kills > 0 && chaos->stops > 0 && chaos->deaths == HASUPD_DEATHS;
}

static void usage(void)
{
    fputs("usage: hasup-chaos [--build DIR] [--seconds N] [--calm N] [--seed N] [--python]"
          " [--verbose]\n",
          stderr);
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    static const struct option LONG[] = {{"build", required_argument, NULL, 'b'},
                                         {"seconds", required_argument, NULL, 't'},
                                         {"calm", required_argument, NULL, 'c'},
                                         {"seed", required_argument, NULL, 's'},
                                         {"python", no_argument, NULL, 'p'},
                                         {"verbose", no_argument, NULL, 'v'},
                                         {NULL, 0, NULL, 0}};
    struct options options = {
        .build = "build", .seconds = 20, .calm_seconds = 6, .seed = (uint64_t)time(NULL)};
    int option;
    while ((option = getopt_long(argc, argv, "", LONG, NULL)) != -1)
        switch (option) {
        case 'b': options.build = optarg; break;
        case 't': options.seconds = atoi(optarg); break;
        case 'c': options.calm_seconds = atoi(optarg); break;
        case 's': options.seed = strtoull(optarg, NULL, 10); break;
        case 'p': options.python = true; break;
        case 'v': options.verbose = true; break;
        default: usage();
        }
    return options;
}

int main(int argc, char **argv)
{
    static struct chaos chaos;
    chaos.options = parse(argc, argv);
    chaos.random = chaos.options.seed;
    signal(SIGPIPE, SIG_IGN);
    printf("seed %llu; clients: %d over HTTP, one thread\n", (unsigned long long)chaos.options.seed,
           CLIENTS);
    if (asks_load(&chaos.asks, chaos.options.python))
        return 1;
    chaos.daemon = daemon_start(chaos.options.build, chaos.options.python, chaos.options.verbose);
    if (!chaos.daemon)
        return 1;
    chaos.clients = clients_new(daemon_port(chaos.daemon), &chaos.asks, chaos.options.seed);
    bool good = chaos.clients && run(&chaos);
    if (chaos.clients)
        clients_free(chaos.clients);
    int code = daemon_stop(chaos.daemon);
    asks_free(&chaos.asks);
    free(chaos.calm.latencies);
    free(chaos.fire.latencies);
    printf("\nhasupd ended with code %d.  %s\n", code,
           good && !code ? "Nobody noticed a thing." : "FAILED");
    return good && !code ? 0 : 1;
}
