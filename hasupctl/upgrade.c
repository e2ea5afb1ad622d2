/* upgrade.c: hasupctl upgrade: another binary takes hasupd's place, and everything goes on. */
#include "hasupctl/hasupctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ctl_upgrade(const struct ctl *ctl)
{
    json_t *command = json_pack("{s:s}", "verb", "upgrade"), *answer = NULL;
    const char *binary = NULL;
    bool sound = true;
    for (int i = 0; i < ctl->argc && sound; i++) {
        sound = strcmp(ctl->argv[i], "--binary") == 0 && i + 1 < ctl->argc && !binary;
        binary = sound ? ctl->argv[++i] : binary;
    }
    if (!sound) {
        json_decref(command);
        return ctl_usage(ctl, "only --binary PATH is known");
    }
    char *path = binary ? realpath(binary, NULL) : NULL;
    if (binary)
        json_object_set_new(command, "binary", json_string(path ? path : binary));
    free(path);
    int code = ctl_await(ctl, command, &answer);
    if (code == CTL_OK && ctl->json)
        ctl_print_json(answer);
    else if (code == CTL_OK)
        printf("%s -> %s, paused for %.1f ms\n", json_string_value(json_object_get(answer, "from")),
               json_string_value(json_object_get(answer, "to")),
               json_number_value(json_object_get(answer, "pause_ms")));
    json_decref(answer);
    return code;
}
