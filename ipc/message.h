/*
 * message.h: the meta of a frame, written and read field by field.
 *
 * A writer appends to memory of the caller and remembers the first failure, so that a run of puts
 * needs one check at the end.  A reader walks the fields in the order they stand; it proves that no
 * field runs past the end and that no critical field was passed over unread.
 */
#ifndef HASUP_IPC_MESSAGE_H
#define HASUP_IPC_MESSAGE_H

#include "ipc/frame.h"

enum { HASUP_FIELD_HEADER = 8, HASUP_REQUEST_NAME = 128 /* printable ASCII, at most */ };

struct hasup_meta_writer {
    uint8_t *bytes;
    size_t used, room;
    bool full; /* a field did not fit; everything after it was dropped */
};

/* `bytes` is borrowed until the frame has been sent. */
void hasup_meta_start(struct hasup_meta_writer *w, uint8_t *bytes, size_t room);
void hasup_meta_put32(struct hasup_meta_writer *w, enum hasup_tag tag, uint32_t value);
void hasup_meta_put64(struct hasup_meta_writer *w, enum hasup_tag tag, uint64_t value);
void hasup_meta_put(struct hasup_meta_writer *w, enum hasup_tag tag, const void *value, size_t len);
/* The bytes written, or HASUP_ETOOBIG where a field did not fit. */
int64_t hasup_meta_end(const struct hasup_meta_writer *w) HASUP_NODISCARD;

struct hasup_field {
    uint16_t tag; /* with HASUP_TAG_CRITICAL removed */
    bool critical;
    uint32_t len;
    const uint8_t *value; /* inside the frame's meta */
};

struct hasup_meta_reader {
    const uint8_t *at, *end;
};

void hasup_meta_read(struct hasup_meta_reader *r, const struct hasup_frame *frame);
/* 1 and the next field, 0 at the end, HASUP_EPROTO where a field is malformed. */
int hasup_meta_next(struct hasup_meta_reader *r, struct hasup_field *field) HASUP_NODISCARD;
/* Whether the meta of a frame is sound: every field whole, of its type's length, and no critical
 * one with an unknown tag.  0 or HASUP_EPROTO. */
int hasup_meta_check(const struct hasup_frame *frame) HASUP_NODISCARD;
/* What a reader answers for a field that it does not know: 0 to skip it, HASUP_EPROTO if critical.
 */
int hasup_meta_unknown(const struct hasup_field *field) HASUP_NODISCARD;
/* What a request is called in logs: the id that its client gave it, where that can be shown, else its
 * number. */
void hasup_request_name(const struct hasup_frame *frame, char name[HASUP_REQUEST_NAME + 1]);
/* The value of a number field; HASUP_EPROTO where its length is not 4 (or 8). */
int hasup_field_get32(const struct hasup_field *field, uint32_t *value) HASUP_NODISCARD;
int hasup_field_get64(const struct hasup_field *field, uint64_t *value) HASUP_NODISCARD;

/* Of the first field with this tag.  false: there is none; of a number, `*value` stays then, and
 * HASUP_EPROTO is one of another length. */
bool hasup_meta_find(const struct hasup_frame *frame, enum hasup_tag tag,
                     struct hasup_field *field);
int hasup_meta_get32(const struct hasup_frame *frame, enum hasup_tag tag,
                     uint32_t *value) HASUP_NODISCARD;
int hasup_meta_get64(const struct hasup_frame *frame, enum hasup_tag tag,
                     uint64_t *value) HASUP_NODISCARD;

/* Which buffer a frame is about, or its body stands in. */
struct hasup_buffer_place {
    uint32_t id;
    uint64_t size, offset;
    bool named; /* it has an id */
};
int hasup_buffer_read(const struct hasup_frame *frame,
                      struct hasup_buffer_place *place) HASUP_NODISCARD;
/* The BUFFER that tells the other end of one, with its descriptor; `meta` is borrowed. */
enum { HASUP_BUFFER_META = 32 };
struct hasup_frame hasup_buffer_frame(uint8_t meta[HASUP_BUFFER_META], uint32_t id, int fd,
                                      uint64_t size);
/* Whether the frame's body stands inside of a buffer of `size` bytes. */
bool hasup_buffer_holds(const struct hasup_buffer_place *place, uint64_t size,
                        const struct hasup_frame *frame);

#endif
