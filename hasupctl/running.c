/*
 * running.c: reads running.json, which hasupd writes into its state directory: who it is and its
 * configuration, for what works on the files alone.
 */
#include "hasupctl/audit.h"

#include "checkpoints/owner.h"

#include <stdio.h>

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
    if (running->pid <= 0 || !ticks || owner_start_ticks(running->pid) != ticks)
        running->pid = 0;
}

void running_free(struct running *running)
{
    json_decref(running->json);
}
