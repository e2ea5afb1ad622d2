/* write.h: JSON written into bytes that grow, for the helpers of worker/hasup.h (completion.c,
 * oip*.c). The first lack of memory is remembered, so a run of writes needs one look at the end. */
#ifndef HASUP_WORKER_WRITE_H
#define HASUP_WORKER_WRITE_H

#include "worker/runtime.h"

struct hasup_writer {
    struct hasup_bytes bytes;
    bool failed; /* no memory: what was written since is not there */
};

void hasup_write(struct hasup_writer *w, const void *bytes, size_t len);
void hasup_write_text(struct hasup_writer *w, const char *text);
/* As the inside of a JSON string; what is not UTF-8 becomes U+FFFD. */
void hasup_write_escaped(struct hasup_writer *w, const char *text, size_t len);
/* The length of the UTF-8 character at `at`, of which `len` bytes are there; 0: there is none. */
size_t hasup_utf8_len(const uint8_t *at, size_t len);
void hasup_write_string(struct hasup_writer *w, const char *text);
void hasup_write_int64(struct hasup_writer *w, int64_t number);
void hasup_write_uint64(struct hasup_writer *w, uint64_t number);
/* The shortest number that is read back as the same float, or double. */
void hasup_write_float(struct hasup_writer *w, float number);
void hasup_write_double(struct hasup_writer *w, double number);

#endif
