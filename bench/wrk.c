/* wrk.c: the load of every HTTP measurement. */
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

bool bench_installed(const char *program, const char *without)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", program);
    if (system(command) == 0)
        return true;
    report_note("%s is not installed: %s; tools/setup bench installs it", program, without);
    return false;
}

double wrk_run(const char *name, int port, const char *path, const char *script,
               unsigned connections)
{
    char command[512], line[256];
    double rate = 0;
    snprintf(command, sizeof command,
             "wrk -t1 -c%u -d1s -s bench/peers/%s http://127.0.0.1:%d%s 2>&1", connections, script,
             port, path);
    FILE *output = popen(command, "re");
    while (output && fgets(line, sizeof line, output)) {
        if (strstr(line, "Non-2xx") || strstr(line, "Socket errors"))
            bench_fail("%s: %s", name, line);
        if (strncmp(line, "Requests/sec:", 13) == 0)
            rate = strtod(line + 13, NULL) / 1e3;
    }
    if (!output || pclose(output) || rate <= 0)
        bench_fail("wrk gave no figure for %s", name);
    return rate;
}
