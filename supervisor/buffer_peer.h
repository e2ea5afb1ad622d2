/* buffer_peer.h: what buffer.c and peer_buffers.c say to each other, and nobody else. */
#ifndef HASUP_SUPERVISOR_BUFFER_PEER_H
#define HASUP_SUPERVISOR_BUFFER_PEER_H

#include "supervisor/buffer.h"

/* Tells the peer that the buffer is gone, and forgets the announcement. */
void peer_gone(struct announcement *announcement);
/* Tells the owner that its buffer may be used again. */
void peer_release(struct buffer *buffer);

#endif
