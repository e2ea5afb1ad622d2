/*
 * config_envfile.h: files of variables (environment_files), read at each start of a process.
 * docs/processes.md says what such a file holds.
 */
#ifndef HASUP_SUPERVISOR_CONFIG_ENVFILE_H
#define HASUP_SUPERVISOR_CONFIG_ENVFILE_H

#include "supervisor/config_template.h"

enum {
    ENVFILE_MAX = 64 * 1024, /* bytes of a file */
    ENVFILES_MAX = 16,       /* of a model */
    ENVFILE_VARIABLES = 1024, /* of all of them */
    ENVFILE_ERROR = 256
};

struct envfiles {
    char **list; /* "NAME=value", NULL-terminated; of one name the last counts; NULL: none */
    size_t count;
};

/* A file's text, which is changed; `name` is for messages.  0, HASUP_ECONFIG: `error` says where
 * and what, or HASUP_ENOMEM. */
int envfile_parse(char *text, size_t len, const char *name, struct envfiles *files,
                  char error[ENVFILE_ERROR]) HASUP_NODISCARD;
/* All of `paths` (those with a "-" in front may be missing), their placeholders replaced; NULL:
 * none.  0, or an errno, and `error` says which file and why. */
int envfiles_read(char *const *paths, const struct template_values *values, struct envfiles *files,
                  char error[ENVFILE_ERROR]) HASUP_NODISCARD;
void envfiles_free(struct envfiles *files);

#endif
