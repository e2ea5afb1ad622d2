/*
 * last_run.c: how the hasupd before this one ended, by the `running.json` that it left: one that
 * stopped says so in it, one that was killed cannot.  The kernel's boot id tells a death of the
 * process from one of the machine.
 */
#include "supervisor/engine.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BOOT_ID = 64 };

void last_run_boot_id(char id[BOOT_ID])
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file || fscanf(file, "%63s", id) != 1)
        id[0] = '\0';
    if (file)
        fclose(file);
}

static void when(int64_t wall_ms, char text[32])
{
    time_t at = (time_t)(wall_ms / 1000);
    struct tm parts;
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &parts));
}

void last_run_tell(struct engine *engine)
{
    char path[4096], began[32], ended[32], id[BOOT_ID];
    const char *boot = "", *version = "?";
    json_int_t pid = 0, began_ms = 0, ended_ms = 0;
    int code = 0;
    snprintf(path, sizeof path, "%s/running.json", engine->config->state_dir);
    json_t *json = json_load_file(path, 0, NULL);
    if (json_unpack(json, "{s:I, s:I, s:s, s?s, s?{s:I, s:i}}", "pid", &pid, "began_wall_ms",
                    &began_ms, "version", &version, "boot_id", &boot, "ended", "wall_ms", &ended_ms,
                    "exit_code", &code)) {
        json_decref(json);
        return; /* there was none, or one that is not understood; the audit tells of that */
    }
    char *text = engine->noted.last_run;
    const size_t room = sizeof engine->noted.last_run;
    last_run_boot_id(id);
    when(began_ms, began);
    when(ended_ms, ended);
    int used = snprintf(text, room, "hasupd %.20s, pid %lld, begun at %s, ", version,
                        (long long)pid, began);
    bool stopped = ended_ms, rebooted = *boot && *id && strcmp(boot, id) != 0;
    if (stopped)
        snprintf(text + used, room - (size_t)used, "stopped at %s with exit code %d", ended, code);
    else if (rebooted)
        snprintf(text + used, room - (size_t)used,
                 "ended with its machine, which was started anew: a power loss or a reboot that "
                 "did not wait for it");
    else
        snprintf(text + used, room - (size_t)used,
                 "did not stop: it was killed (kill -9, or for lack of memory) or crashed; what "
                 "was durable goes on");
    LOG_EVENT(stopped && !code ? LEVEL_INFO : LEVEL_WARNING, "hasupd.last_run", text,
              LOG_TEXT("how", stopped    ? "stopped"
                              : rebooted ? "machine"
                                         : "killed"));
    json_decref(json);
}
