/*
 * frame.c: turns frame headers into bytes and back.  It trusts nothing that it reads: every field
 * is checked against the limits before anybody allocates or waits for what the header promises.
 */
#include "ipc/frame.h"

void hasup_frame_encode(const struct hasup_frame *frame, uint8_t header[HASUP_FRAME_HEADER])
{
    header[0] = HASUP_FRAME_MAGIC;
    header[1] = HASUP_FRAME_VERSION;
    header[2] = frame->type;
    header[3] = frame->flags;
    hasup_put32(header + 4, frame->meta_len);
    hasup_put64(header + 8, frame->id);
    hasup_put64(header + 16, frame->body_len);
    hasup_put32(header + 24, frame->seq);
    hasup_put32(header + 28, 0);
}

static bool type_known(unsigned type)
{
    return type >= HASUP_HELLO && type <= HASUP_UNBEGUN;
}

int hasup_frame_decode(struct hasup_frame *frame, const uint8_t header[HASUP_FRAME_HEADER])
{
    if (header[0] != HASUP_FRAME_MAGIC || header[1] != HASUP_FRAME_VERSION)
        return HASUP_EPROTO;
    if (!type_known(header[2]) || hasup_get32(header + 28) != 0)
        return HASUP_EPROTO;
    *frame = (struct hasup_frame){
        .type = header[2],
        .flags = header[3],
        .meta_len = hasup_get32(header + 4),
        .id = hasup_get64(header + 8),
        .body_len = hasup_get64(header + 16),
        .seq = hasup_get32(header + 24),
        .fd = -1,
    };
    if (frame->meta_len > HASUP_META_MAX)
        return HASUP_ETOOBIG;
    if (!(frame->flags & HASUP_FLAG_BUFFER) && frame->body_len > HASUP_INLINE_MAX)
        return HASUP_ETOOBIG;
    return 0;
}

const char *hasup_frame_name(unsigned type)
{
    static const char *const names[] = {
#define HASUP_FRAME_TEXT(number, name) [number] = #name,
        HASUP_FRAME_TYPES(HASUP_FRAME_TEXT)
#undef HASUP_FRAME_TEXT
    };
    return type < HASUP_LEN(names) && names[type] ? names[type] : "unknown";
}
