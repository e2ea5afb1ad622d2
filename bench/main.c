/*
 * main.c: runs all parts of the bench, or those that are named, and prints one table.
 * Exit code: 0 all measured (missed aims are in the table), 1 something could not be measured.
 */
#include "bench/bench.h"

#include <stdio.h>

static const struct part {
    const char *name;
    void (*run)(void);
} PARTS[] = {{"restart", part_restart},   {"spares", part_spares},
             {"memory", part_memory},     {"slots", part_slots},
             {"upgrade", part_upgrade},   {"relay", part_relay},
             {"requests", part_requests}, {"durable", part_durable},
             {"recovery", part_recovery}, {"bodies", part_bodies},
             {"http", part_http},         {"checkpoint", part_checkpoint},
             {"state", part_state},       {"serving", part_serving},
             {"init", part_init},         {"orphans", part_orphans},
             {"core", part_core}};

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 3; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc <= 3;
}

static bool known(const char *name)
{
    for (size_t i = 0; i < HASUP_LEN(PARTS); i++)
        if (strcmp(PARTS[i].name, name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fputs("usage: bench BUILD TOOLS [PART…]\n"
              "BUILD: where hasupd is; TOOLS: where the bench's workers are\n",
              stderr);
        return 2;
    }
    for (int i = 3; i < argc; i++)
        if (!known(argv[i]))
            bench_fail("no part is called %s", argv[i]);
    bench_open(argv[1], argv[2]);
    report_head();
    for (size_t i = 0; i < HASUP_LEN(PARTS); i++)
        if (wanted(PARTS[i].name, argc, argv))
            PARTS[i].run();
    printf("%u aims missed\n", report_missed());
    return 0;
}
