/* config_probe.h: a probe as the configuration writes it, under a key such as `ready:`. */
#ifndef HASUP_SUPERVISOR_CONFIG_PROBE_H
#define HASUP_SUPERVISOR_CONFIG_PROBE_H

#include "supervisor/config_template.h"
#include "supervisor/config_tree.h"

/* Reads the node of the key at `path` ("programs.web.ready"); NULL: the key is not there.  Zeroed
 * before; what is wrong is in the reader's errors, and then it may be half read. */
void config_probe_read(struct config_reader *reader, const struct node *node, const char *path,
                       struct config_probe *probe);
void config_probe_free(struct config_probe *probe);
/* Of `ready:`: notify, fd, or a probe. */
void config_ready_read(struct config_reader *reader, const struct node *node, const char *path,
                       struct config_ready *ready);
struct json_t *config_ready_json(const struct config_ready *ready);
/* `spec` with its placeholders replaced, for probe_start; for config_probe_spec_free.  False: no
 * memory. */
bool config_probe_fill(const struct probe_spec *spec, const struct template_values *values,
                       struct probe_spec *filled) HASUP_NODISCARD;
void config_probe_spec_free(struct probe_spec *spec);
/* As it is written, of PROBE_NONE null; a new reference. */
struct json_t *config_probe_json(const struct config_probe *probe);

#endif
