/* message.c: the fields of a frame's meta.  Layout: u16 tag, u16 zero, u32 length, value. */
#include "ipc/message.h"

#include <stdio.h>

void hasup_meta_start(struct hasup_meta_writer *w, uint8_t *bytes, size_t room)
{
    *w = (struct hasup_meta_writer){.bytes = bytes, .room = room};
}

/* Room for a value of `len` bytes, its header written; NULL when it does not fit. */
static uint8_t *field_open(struct hasup_meta_writer *w, enum hasup_tag tag, size_t len)
{
    if (w->full || len > HASUP_META_MAX || w->room - w->used < HASUP_FIELD_HEADER + len) {
        w->full = true;
        return NULL;
    }
    uint8_t *p = w->bytes + w->used;
    hasup_put16(p, (uint16_t)tag);
    hasup_put16(p + 2, 0);
    hasup_put32(p + 4, (uint32_t)len);
    w->used += HASUP_FIELD_HEADER + len;
    return p + HASUP_FIELD_HEADER;
}

void hasup_meta_put32(struct hasup_meta_writer *w, enum hasup_tag tag, uint32_t value)
{
    uint8_t *p = field_open(w, tag, 4);
    if (p)
        hasup_put32(p, value);
}

void hasup_meta_put64(struct hasup_meta_writer *w, enum hasup_tag tag, uint64_t value)
{
    uint8_t *p = field_open(w, tag, 8);
    if (p)
        hasup_put64(p, value);
}

void hasup_meta_put(struct hasup_meta_writer *w, enum hasup_tag tag, const void *value, size_t len)
{
    uint8_t *p = field_open(w, tag, len);
    if (p && len > 0)
        memcpy(p, value, len);
}

int64_t hasup_meta_end(const struct hasup_meta_writer *w)
{
    if (w->full)
        return HASUP_ETOOBIG;
    return (int64_t)w->used;
}

void hasup_meta_read(struct hasup_meta_reader *r, const struct hasup_frame *frame)
{
    r->at = frame->meta;
    r->end = frame->meta_len > 0 ? frame->meta + frame->meta_len : frame->meta;
}

int hasup_meta_next(struct hasup_meta_reader *r, struct hasup_field *field)
{
    if (r->at == r->end)
        return 0;
    size_t left = (size_t)(r->end - r->at);
    if (left < HASUP_FIELD_HEADER || hasup_get16(r->at + 2) != 0)
        return HASUP_EPROTO;
    uint16_t tag = hasup_get16(r->at);
    field->tag = tag & (uint16_t)~HASUP_TAG_CRITICAL;
    field->critical = (tag & HASUP_TAG_CRITICAL) != 0;
    field->len = hasup_get32(r->at + 4);
    if (field->len > left - HASUP_FIELD_HEADER)
        return HASUP_EPROTO;
    field->value = r->at + HASUP_FIELD_HEADER;
    r->at = field->value + field->len;
    return 1;
}

enum { LENGTH_bytes = 0, LENGTH_u32 = 4, LENGTH_u64 = 8 };

static const uint8_t tag_length[] = {
#define HASUP_TAG_LENGTH(number, name, type) [number] = LENGTH_##type,
    HASUP_TAGS(HASUP_TAG_LENGTH)
#undef HASUP_TAG_LENGTH
};

int hasup_meta_check(const struct hasup_frame *frame)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0) {
        bool known = field.tag > 0 && field.tag < HASUP_LEN(tag_length);
        if (!known && field.critical)
            return HASUP_EPROTO;
        if (known && tag_length[field.tag] && field.len != tag_length[field.tag])
            return HASUP_EPROTO;
    }
    return got;
}

int hasup_meta_unknown(const struct hasup_field *field)
{
    return field->critical ? HASUP_EPROTO : 0;
}

int hasup_field_get32(const struct hasup_field *field, uint32_t *value)
{
    if (field->len != 4)
        return HASUP_EPROTO;
    *value = hasup_get32(field->value);
    return 0;
}

int hasup_field_get64(const struct hasup_field *field, uint64_t *value)
{
    if (field->len != 8)
        return HASUP_EPROTO;
    *value = hasup_get64(field->value);
    return 0;
}

bool hasup_meta_find(const struct hasup_frame *frame, enum hasup_tag tag, struct hasup_field *field)
{
    struct hasup_meta_reader reader;
    hasup_meta_read(&reader, frame);
    while (hasup_meta_next(&reader, field) > 0)
        if (field->tag == tag)
            return true;
    return false;
}

int hasup_meta_get32(const struct hasup_frame *frame, enum hasup_tag tag, uint32_t *value)
{
    struct hasup_field field;
    return hasup_meta_find(frame, tag, &field) ? hasup_field_get32(&field, value) : 0;
}

int hasup_meta_get64(const struct hasup_frame *frame, enum hasup_tag tag, uint64_t *value)
{
    struct hasup_field field;
    return hasup_meta_find(frame, tag, &field) ? hasup_field_get64(&field, value) : 0;
}

int hasup_buffer_read(const struct hasup_frame *frame, struct hasup_buffer_place *place)
{
    struct hasup_meta_reader reader;
    struct hasup_field field;
    int got;
    *place = (struct hasup_buffer_place){0};
    hasup_meta_read(&reader, frame);
    while ((got = hasup_meta_next(&reader, &field)) > 0) {
        int error = 0;
        if (field.tag == HASUP_TAG_BUFFER_ID) {
            error = hasup_field_get32(&field, &place->id);
            place->named = true;
        } else if (field.tag == HASUP_TAG_BUFFER_SIZE) {
            error = hasup_field_get64(&field, &place->size);
        } else if (field.tag == HASUP_TAG_BUFFER_OFFSET) {
            error = hasup_field_get64(&field, &place->offset);
        }
        if (error)
            return error;
    }
    return got;
}

struct hasup_frame hasup_buffer_frame(uint8_t meta[HASUP_BUFFER_META], uint32_t id, int fd,
                                      uint64_t size)
{
    struct hasup_meta_writer w;
    hasup_meta_start(&w, meta, HASUP_BUFFER_META);
    hasup_meta_put32(&w, HASUP_TAG_BUFFER_ID, id);
    hasup_meta_put64(&w, HASUP_TAG_BUFFER_SIZE, size);
    return (struct hasup_frame){.type = HASUP_BUFFER,
                                .flags = HASUP_FLAG_FD,
                                .meta = meta,
                                .meta_len = (uint32_t)w.used,
                                .fd = fd};
}

bool hasup_buffer_holds(const struct hasup_buffer_place *place, uint64_t size,
                        const struct hasup_frame *frame)
{
    return place->offset <= size && frame->body_len <= size - place->offset;
}

static bool is_printable(const struct hasup_field *field)
{
    for (uint32_t i = 0; i < field->len; i++)
        if (field->value[i] <= ' ' || field->value[i] > '~')
            return false;
    return field->len > 0;
}

void hasup_request_name(const struct hasup_frame *frame, char name[HASUP_REQUEST_NAME + 1])
{
    struct hasup_field id;
    if (hasup_meta_find(frame, HASUP_TAG_REQUEST_ID, &id) && id.len <= HASUP_REQUEST_NAME &&
        is_printable(&id))
        snprintf(name, HASUP_REQUEST_NAME + 1, "%.*s", (int)id.len, (const char *)id.value);
    else
        snprintf(name, HASUP_REQUEST_NAME + 1, "%llu", (unsigned long long)frame->id);
}
