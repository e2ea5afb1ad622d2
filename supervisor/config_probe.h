/* config_probe.h: a probe as the configuration writes it, under a key such as `ready:`. */
#ifndef HASUP_SUPERVISOR_CONFIG_PROBE_H
#define HASUP_SUPERVISOR_CONFIG_PROBE_H

#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"

enum probe_kind { PROBE_NONE, PROBE_EXEC, PROBE_TCP, PROBE_HTTP };

/* Its texts stand here as they are written; who starts a probe has replaced the placeholders
 * (config_probe_fill). */
struct probe_spec {
    enum probe_kind kind;
    char **exec;                     /* argv, NULL-terminated */
    char *address;                   /* of tcp and http, for address_read */
    char *path;                      /* of http: "/healthz?full=1" */
    uint32_t status_min, status_max; /* of http: what is well */
    hasup_ns timeout;                /* of the whole */
};

struct config_probe {
    struct probe_spec spec; /* PROBE_NONE: nothing is asked */
    hasup_ns interval;      /* from the end of one to the start of the next */
    uint32_t failures;      /* so many in a row mean something */
};

/* Reads the node of the key at `path` ("programs.web.ready"); NULL: the key is not there.  Zeroed
 * before; what is wrong is in the reader's errors, and then it may be half read. */
void config_probe_read(struct config_reader *reader, const struct node *node, const char *path,
                       struct config_probe *probe);
void config_probe_free(struct config_probe *probe);
/* `spec` with its placeholders replaced, for probe_start; for config_probe_spec_free.  False: no
 * memory. */
bool config_probe_fill(const struct probe_spec *spec, const struct template_values *values,
                       struct probe_spec *filled) HASUP_NODISCARD;
void config_probe_spec_free(struct probe_spec *spec);
/* As it is written, of PROBE_NONE null; a new reference. */
struct json_t *config_probe_json(const struct config_probe *probe);

#endif
