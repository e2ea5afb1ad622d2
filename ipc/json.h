/*
 * json.h: JSON text read in place, value by value, without memory of its own: for bodies of which
 * only a part matters (the model's name) or that go straight into arrays (tensors).  RFC 8259,
 * except that strings are not checked to be UTF-8.  Depends on libc only; safe in any thread.
 *
 *     for (bool first = true; hasup_json_member(&json, &first, &key);)
 *         if (hasup_json_is(&key, "model") && hasup_json_string(&json, &model)) …
 *         else hasup_json_skip(&json);
 *
 * Each value must be taken or skipped.  The first thing that is wrong stands in `wrong`; after it
 * nothing more is read and every function says no.
 */
#ifndef HASUP_IPC_JSON_H
#define HASUP_IPC_JSON_H

#include "ipc/base.h"

enum { HASUP_JSON_DEPTH = 512 /* deepest nesting that is skipped */ };

struct hasup_json {
    const char *start, *at, *end;
    const char *wrong; /* a fixed text; NULL: nothing so far */
    size_t wrong_at;   /* and the byte at which it was seen */
};

/* A part of the text: a string between its quotes as it stands there, or a number. */
struct hasup_json_text {
    const char *at;
    size_t len;
    bool escaped; /* a string with backslashes */
};

/* `bytes` is borrowed for as long as anything read from it is used. */
void hasup_json_open(struct hasup_json *json, const void *bytes, size_t len);

/* What the next value is: { [ " t f n, 0 for a number's first character; '\0': no value. */
char hasup_json_peek(struct hasup_json *json);
/* Goes into an object ('{') or an array ('['); false: the next value is none. */
bool hasup_json_enter(struct hasup_json *json, char open);
/* The next member's key, or item; false: there is none and its end was passed, or something is
 * wrong.  *first is true before the first. */
bool hasup_json_member(struct hasup_json *json, bool *first, struct hasup_json_text *key);
bool hasup_json_item(struct hasup_json *json, bool *first);

/* The next value, where it is of that kind; false and nothing taken, where it is of another. */
bool hasup_json_string(struct hasup_json *json, struct hasup_json_text *text);
bool hasup_json_number(struct hasup_json *json, struct hasup_json_text *text);
bool hasup_json_bool(struct hasup_json *json, bool *value);
bool hasup_json_null(struct hasup_json *json);
/* Any value, checked to its end. */
void hasup_json_skip(struct hasup_json *json);
/* Whether nothing but space is left, and nothing was wrong. */
bool hasup_json_ended(struct hasup_json *json);

/* Whether a string says `name`, however it is written. */
bool hasup_json_is(const struct hasup_json_text *text, const char *name);
/* Writes what a string says, in UTF-8 and without a zero at its end: its length, at most text->len.
 * HASUP_ETOOBIG; HASUP_EINVAL: half of a surrogate pair. */
int64_t hasup_json_decode(const struct hasup_json_text *text, char *out,
                          size_t room) HASUP_NODISCARD;

/* A number's value; it must be followed by a byte that is none of it, as within an object or array.
 * Infinite where it is too large. */
double hasup_json_double(const struct hasup_json_text *text);
/* HASUP_EINVAL: not an integer (as written); HASUP_ETOOBIG: outside of the type. */
int hasup_json_int64(const struct hasup_json_text *text, int64_t *value) HASUP_NODISCARD;
int hasup_json_uint64(const struct hasup_json_text *text, uint64_t *value) HASUP_NODISCARD;

#endif
