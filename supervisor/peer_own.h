/* peer_own.h: what peer.c and peer_buffers.c say to each other, and nobody else. */
#ifndef HASUP_SUPERVISOR_PEER_OWN_H
#define HASUP_SUPERVISOR_PEER_OWN_H

#include "supervisor/peer.h"

/* peer.c: into the channel, as it is; it leaves at the turn's end. */
int peer_put(struct peer *peer, const struct hasup_frame *frame) HASUP_NODISCARD;

/* ---- peer_buffers.c ---- */

/* A BUFFER, BUFFER_GONE or RELEASE. */
int peer_take_buffer(struct peer *peer, struct hasup_frame *frame) HASUP_NODISCARD;
/* Where the body of a frame stands: behind it, or in a buffer that the other end announced. */
int peer_body(struct peer *peer, const struct hasup_frame *frame, struct body *body) HASUP_NODISCARD;
/* Sends a frame whose body stands in a buffer, which is announced where it is not yet. */
int peer_send_in_buffer(struct peer *peer, struct hasup_frame *frame,
                        struct body *body) HASUP_NODISCARD;
/* The peer is closed: its buffers are withdrawn, and it holds none of hasupd's. */
void peer_buffers_drop(struct peer *peer);
void peer_buffers_carry(struct carry *carry, struct peer *peer);

#endif
