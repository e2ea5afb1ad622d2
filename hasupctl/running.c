/*
 * running.c: reads running.json, which hasupd writes into its state directory: who it is and its
 * configuration, for what works on the files alone.
 */
#include "hasupctl/audit.h"

#include <stdio.h>

/* When a process began, in ticks since the boot; 0: there is none. */
static uint64_t start_ticks(int64_t pid)
{
    char path[64], text[1024] = "";
    unsigned long long ticks = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    const char *at = strrchr(text, ')'); /* its name may hold anything */
    /* The 22nd field; the third follows the name. */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at && sscanf(at, "%llu", &ticks) == 1 ? ticks : 0;
}

void running_read(const char *state_dir, struct running *running)
{
    char path[4096];
    *running = (struct running){0};
    snprintf(path, sizeof path, "%s/running.json", state_dir);
    running->json = json_load_file(path, 0, NULL);
    running->config = json_object_get(running->json, "config");
    running->pid = json_integer_value(json_object_get(running->json, "pid"));
    running->began_wall_ns =
        json_integer_value(json_object_get(running->json, "began_wall_ms")) * HASUP_MS;
    uint64_t ticks = (uint64_t)json_integer_value(json_object_get(running->json, "start_ticks"));
    if (running->pid <= 0 || !ticks || start_ticks(running->pid) != ticks)
        running->pid = 0;
}

void running_free(struct running *running)
{
    json_decref(running->json);
}
