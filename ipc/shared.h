/*
 * shared.h: memory for bodies above HASUP_INLINE_MAX: a memfd that one end makes and writes, and the
 * other maps.  Its size is sealed, so that who maps it gets no SIGBUS because it became shorter.
 */
#ifndef HASUP_IPC_SHARED_H
#define HASUP_IPC_SHARED_H

#include "ipc/base.h"

/* The size of one for `len` bytes: a power of two, so that a free one fits many bodies. */
uint64_t hasup_shared_size(uint64_t len);
/* Makes and maps one; `name` is shown in /proc.  Its descriptor, which is the caller's as the mapping
 * is, or HASUP_ESYS: errno. */
int hasup_shared_make(const char *name, uint64_t size, uint8_t **map) HASUP_NODISCARD;
/* Maps what the other end made, to be read.  HASUP_EPROTO: it is not as long as was said, or cannot
 * be mapped. */
int hasup_shared_map(int fd, uint64_t size, uint8_t **map) HASUP_NODISCARD;

#endif
