/* sockets.h: listening sockets of models, which their processes inherit (LISTEN_FDS). */
#ifndef HASUP_SUPERVISOR_SOCKETS_H
#define HASUP_SUPERVISOR_SOCKETS_H

#include "supervisor/engine.h"

#include <jansson.h>

struct carry;

/* Those of `model` that are not open yet.  0; or an errno (EADDRNOTAVAIL where one could not be opened,
 * whatever the reason), and `error` says which and why. */
int sockets_open(struct engine *engine, const struct config_model *model,
                 char error[ENGINE_REASON]) HASUP_NODISCARD;
/* The same when a model is configured: what cannot be had is told, and tried again at each start. */
void sockets_prepare(struct engine *engine, const struct config_model *model);
/* In the order of the configuration; how many. */
size_t sockets_of(const struct engine *engine, const struct config_model *model,
                  int fds[CONFIG_SOCKETS_MAX]);
/* [{"name", "address", "backlog", "open"}]: where it listens, or would. */
json_t *sockets_json(const struct engine *engine, const struct config_model *model);
/* Closes those that no configuration names that a model runs. */
void sockets_sweep(struct engine *engine);
void sockets_close(struct engine *engine);
/* Within a record. */
void sockets_carry(struct carry *carry, struct engine *engine);

#endif
