/*
 * vectors.h: reads tests/vectors/frames.txt: one entry at a time, its bytes and what they should
 * mean. A line that it does not understand fails the test that reads it.
 */
#ifndef HASUP_TESTS_VECTORS_H
#define HASUP_TESTS_VECTORS_H

#include <stdio.h>
#include <stdlib.h>

#include "ipc/message.h"

#define VECTORS_FILE "tests/vectors/frames.txt"

enum vector_kind { VECTOR_FRAME, VECTOR_HEADER, VECTOR_MALFORMED };

struct vector {
    enum vector_kind kind;
    char name[64];
    int error;                /* of a malformed one */
    struct hasup_frame frame; /* meta and body as the fields below say; of a header its lengths */
    uint8_t meta[4096], body[4096];
    uint8_t bytes[8192];
    size_t len;
    uint64_t tags; /* bit n: a field with tag n */
};

struct tag_text {
    const char *name;
    uint16_t tag;
    int size; /* 4, 8, or 0: bytes */
};

enum { SIZE_bytes = 0, SIZE_u32 = 4, SIZE_u64 = 8 };

static const struct tag_text tag_texts[] = {
#define TAG_TEXT(number, name, type) {#name, (number), SIZE_##type},
    HASUP_TAGS(TAG_TEXT)
#undef TAG_TEXT
};

static const char *const flag_texts[] = {"BUFFER",    "REPLAY", "MORE", "RESUME",
                                         "RESTORING", "FD",     "ONCE"};

static inline void vector_fail(const struct vector *v, const char *line)
{
    fail_msg("%s: %s: not understood: %s", VECTORS_FILE, v->name, line);
}

static inline size_t vector_hex(const char *text, uint8_t *to, size_t room)
{
    size_t len = 0;
    unsigned byte;
    int used;
    while (len < room && sscanf(text, " %2x%n", &byte, &used) == 1) {
        to[len++] = (uint8_t)byte;
        text += used;
    }
    return len;
}

/* "text", or xHEX. */
static inline size_t vector_value(const struct vector *v, const char *text, uint8_t *to,
                                  size_t room)
{
    const char *end = strrchr(text, '"');
    if (text[0] == 'x')
        return vector_hex(text + 1, to, room);
    if (text[0] != '"' || end == text || (size_t)(end - text) > room)
        vector_fail(v, text);
    memcpy(to, text + 1, (size_t)(end - text - 1));
    return (size_t)(end - text - 1);
}

static inline void vector_field(struct vector *v, const char *text, bool critical)
{
    struct hasup_meta_writer w;
    char name[32];
    const char *value = strchr(text, ' ');
    uint8_t bytes[2048];
    struct tag_text found = {.tag = (uint16_t)atoi(text)};
    snprintf(name, sizeof name, "%.*s", value ? (int)(value - text) : 0, text);
    for (size_t i = 0; i < HASUP_LEN(tag_texts); i++)
        if (strcmp(tag_texts[i].name, name) == 0)
            found = tag_texts[i];
    if (!value || !found.tag)
        vector_fail(v, text);
    enum hasup_tag tag = (enum hasup_tag)(found.tag | (critical ? HASUP_TAG_CRITICAL : 0));
    hasup_meta_start(&w, v->meta + v->frame.meta_len, sizeof v->meta - v->frame.meta_len);
    if (found.size == 4)
        hasup_meta_put32(&w, tag, (uint32_t)strtoul(value, NULL, 10));
    else if (found.size == 8)
        hasup_meta_put64(&w, tag, strtoull(value, NULL, 10));
    else
        hasup_meta_put(&w, tag, bytes, vector_value(v, value + 1, bytes, sizeof bytes));
    assert_true(hasup_meta_end(&w) > 0);
    v->frame.meta_len += (uint32_t)w.used;
    if (found.tag < 64)
        v->tags |= (uint64_t)1 << found.tag;
}

static inline void vector_flags(struct vector *v, char *text)
{
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        size_t i = 0;
        while (i < HASUP_LEN(flag_texts) && strcmp(flag_texts[i], word))
            i++;
        if (i == HASUP_LEN(flag_texts))
            vector_fail(v, word);
        v->frame.flags |= (uint8_t)(1 << i);
    }
}

static inline uint8_t vector_type(const struct vector *v, const char *text)
{
    for (unsigned type = 1; type < 64; type++)
        if (strcmp(hasup_frame_name(type), text) == 0)
            return (uint8_t)type;
    vector_fail(v, text);
    return 0;
}

static inline void vector_line(struct vector *v, const char *key, char *value)
{
    if (strcmp(key, "type") == 0)
        v->frame.type = vector_type(v, value);
    else if (strcmp(key, "flags") == 0)
        vector_flags(v, value);
    else if (strcmp(key, "id") == 0)
        v->frame.id = strtoull(value, NULL, 10);
    else if (strcmp(key, "seq") == 0)
        v->frame.seq = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(key, "field") == 0 || strcmp(key, "critical") == 0)
        vector_field(v, value, key[0] == 'c');
    else if (strcmp(key, "body") == 0)
        v->frame.body_len = vector_value(v, value, v->body, sizeof v->body);
    else if (strcmp(key, "body_len") == 0)
        v->frame.body_len = strtoull(value, NULL, 10);
    else if (strcmp(key, "meta_len") == 0)
        v->frame.meta_len = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(key, "bytes") == 0)
        v->len += vector_hex(value, v->bytes + v->len, sizeof v->bytes - v->len);
    else if (strcmp(key, "error") == 0)
        v->error = strcmp(value, "ETOOBIG") == 0 ? HASUP_ETOOBIG : HASUP_EPROTO;
    else
        vector_fail(v, key);
}

/* The next entry; false: there is none. */
static inline bool vector_next(FILE *file, struct vector *v)
{
    char line[8192];
    bool open = false;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (!line[0] || line[0] == '#')
            continue;
        char *value = strchr(line, ' ');
        if (!open) {
            if (!value)
                vector_fail(v, line);
            *value = '\0';
            *v = (struct vector){.frame.fd = -1};
            v->kind = strcmp(line, "frame") == 0    ? VECTOR_FRAME
                      : strcmp(line, "header") == 0 ? VECTOR_HEADER
                                                    : VECTOR_MALFORMED;
            snprintf(v->name, sizeof v->name, "%s", value + 1);
            open = true;
            continue;
        }
        if (strcmp(line, "end") == 0) {
            v->frame.meta = v->meta;
            v->frame.body = v->frame.flags & HASUP_FLAG_BUFFER ? NULL : v->body;
            return true;
        }
        if (!value)
            vector_fail(v, line);
        *value = '\0';
        vector_line(v, line, value + 1);
    }
    assert_false(open);
    return false;
}

#endif
