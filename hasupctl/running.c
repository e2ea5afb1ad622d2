/*
 * running.c: reads running.json, which hasupd writes into its state directory: who it is and its
 * configuration, for what works on the files alone.
 */
#include "hasupctl/audit.h"

#include "checkpoints/owner.h"

#include <stdio.h>
#include <stdlib.h>

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

int running_keys(const struct ctl *ctl, const json_t *config, struct keys **keys,
                 char error[KEYS_ERROR])
{
    const char *path = ctl->key_file ? ctl->key_file : getenv("HASUP_KEY_FILE");
    const json_t *checkpoints = json_object_get(config, "checkpoints");
    if (!path || !*path)
        path = json_string_value(json_object_get(checkpoints, "key_file"));
    *keys = NULL;
    return path ? keys_load(path, keys, error) : 0;
}
