/* users.h: the user and the groups that `process:` names, looked up. */
#ifndef HASUP_SUPERVISOR_USERS_H
#define HASUP_SUPERVISOR_USERS_H

#include "supervisor/config.h"

enum { USERS_ERROR = 256 };

/* The attributes of `process`, with user and groups where it names them.  0; else errno, and `error`
 * says who is not there. */
int users_find(const struct config_process *process, struct attributes *attributes,
               char error[USERS_ERROR]) HASUP_NODISCARD;

#endif
